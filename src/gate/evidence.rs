//! Whether a run is evidence at all: its provenance, age, tier and reach.

use jiff::civil::Date;
use wildmatch::WildMatchPattern;

use super::policy::Evidence;
use super::{Finding, Judged};
use crate::provenance::Provenance;
use crate::report::percent;
use crate::scenario::Quantile;
use crate::verdict::RequirementState;

/// A glob over names of any case.
type Glob = WildMatchPattern<'*', '?'>;

/// What the policy asks of a run whatever its cells say. `of` opens every subject.
pub(super) fn of(asked: &Evidence, judged: &Judged, of: &str, today: Date) -> Vec<Finding> {
    let run = &judged.run;
    let manifest = &run.manifest;
    let plan = &manifest.plan;
    let mut findings = Vec::new();
    let mut put = |subject: &str, holds: bool, text: String| {
        let state = if holds { RequirementState::Met } else { RequirementState::Undecided };
        findings.push(Finding {
            rule: "evidence".to_owned(),
            subject: format!("{of}{subject}"),
            state,
            text,
            retry: None,
        });
    };

    let allowed: Vec<&str> = asked.provenance.iter().map(|p| word(*p)).collect();
    let measured = asked.provenance.contains(&manifest.provenance);
    let found = word(manifest.provenance);
    put(
        "provenance",
        measured,
        if measured { found.to_owned() } else { format!("{found}; accepted: {}", list(&allowed)) },
    );
    if !measured {
        return findings;
    }

    let unfinished = "the run was not finished: go on with `crosstalk run --resume`";
    put("whole", run.finished, if run.finished { "finished" } else { unfinished }.to_owned());

    let (tier, least) = (plan.design.tier, asked.tier);
    put("tier", tier >= least, if tier >= least { tier.to_string() } else { format!("{tier}, {least} asked") });

    let age = days(judged.date, today);
    let old = match (age, asked.max_age) {
        (age, _) if age < 0 => Some(format!("the run is dated {}, after today, {today}", judged.date)),
        (age, Some(most)) if age > i64::from(most) => {
            Some(format!("the run of {} is {age} days old, {most} at most: measure again", judged.date))
        }
        _ => None,
    };
    put("age", old.is_none(), old.unwrap_or_else(|| format!("{age} days")));

    if let Some(glob) = &asked.gpu {
        let name = plan.gpu().name.as_str();
        let bare = name.strip_prefix("NVIDIA ").unwrap_or(name);
        let holds = Glob::new_case_insensitive(glob).matches(bare);
        put("gpu", holds, if holds { bare.to_owned() } else { format!("{bare}, which {glob:?} does not cover") });
    }
    if let Some(glob) = &asked.scenario {
        let name = plan.scenario.as_str();
        let holds = Glob::new(glob).matches(name);
        put("scenario", holds, if holds { name.to_owned() } else { format!("{name}, which {glob:?} does not cover") });
    }

    let missing: Vec<String> = least
        .defaults()
        .judged
        .into_iter()
        .filter(|q| !plan.design.judged.contains(q))
        .map(|q| q.to_string())
        .collect();
    let judged_are = || plan.design.judged.iter().map(Quantile::to_string).collect::<Vec<_>>().join(", ");
    put(
        "quantiles",
        missing.is_empty(),
        match missing.as_slice() {
            [] => format!("{} judged", judged_are()),
            missing => format!("{} not judged: {least} judges it", list(missing)),
        },
    );

    let wide: Vec<String> = plan
        .design
        .judged
        .iter()
        .map(|q| (*q, plan.design.margins.of(*q).0, asked.margins.of(*q).0))
        // Written as shares in millionths, both.
        .filter(|(_, found, most)| found - most > 5e-7)
        .map(|(q, found, most)| format!("{q} within {}, {} at most", percent(found), percent(most)))
        .collect();
    let within = || "as asked, or narrower".to_owned();
    put("margins", wide.is_empty(), if wide.is_empty() { within() } else { format!("isolated means {}", list(&wide)) });

    if !asked.tested.is_empty() {
        let missing = asked.tested.iter().map(|channel| channel.id());
        let missing: Vec<&str> = missing.filter(|id| judged.verdict.not_tested.iter().any(|n| n == id)).collect();
        put(
            "tested",
            missing.is_empty(),
            match missing.as_slice() {
                [] => "every channel that is asked".to_owned(),
                missing => {
                    format!("{} not tested: no neighbour loaded it beside a judged probe that feels it", list(missing))
                }
            },
        );
    }
    if asked.exclusive_use {
        let assumed = crate::nvml::assumed_use(&manifest.device);
        put(
            "exclusive use",
            assumed.is_none(),
            assumed.map_or_else(|| "proved".to_owned(), |why| format!("assumed: {why}")),
        );
    }
    findings
}

/// The word of a provenance.
pub(super) const fn word(provenance: Provenance) -> &'static str {
    match provenance {
        Provenance::Measured => "measured",
        Provenance::StandIn => "stand-in",
        Provenance::Simulated => "simulated",
    }
}

/// Whole days from `from` to `to`; negative where it is later.
pub(super) fn days(from: Date, to: Date) -> i64 {
    to.duration_since(from).as_hours() / 24
}

fn list(names: &[impl AsRef<str>]) -> String {
    names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
}
