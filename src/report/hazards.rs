//! Hazards: their part of the model, of the terminal's text, and of `check`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hazard::{Came, FAULT, FaultKind, FaultTrial, Faults, find};
use crate::plan::{Plan, PlannedArrangement};
use crate::run_dir::RecordedRun;
use crate::units::Nanos;
use crate::verdict::{HazardVerdict, RequirementState, RunVerdict, Verdict, after_fault};

use super::format::{count, nine_digits};
use super::memory::MemoryHere;
use super::model::{RequiredOf, Requirement, RunReport, VerdictWord, Why};
use super::terminal::verdict_word;
use super::text::{Line, Page, Tint};
use super::words;

/// One hazard in one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HazardHere {
    /// `arrangement[@seat]/hazard`.
    pub name: String,
    /// The arrangement's name.
    pub arrangement: String,
    /// Id of the hazard.
    pub hazard: String,
    /// Channel that it uses.
    pub channel: String,
    /// The judgement.
    pub verdict: VerdictWord,
    /// Why it is inconclusive or skipped.
    pub why: Option<Why>,
    /// How often it came true.
    pub hits: u64,
    /// Of how many attempts that count.
    pub of: u64,
    /// What was counted.
    pub unit: String,
    /// Least that its probability can be, at 99 %; `null`: nothing counts.
    pub at_least: Option<f64>,
    /// Most that it can be, at 99 %; `null`: nothing counts.
    pub at_most: Option<f64>,
    /// The evidence in one line.
    pub text: String,
    /// What was required; `null`: nothing.
    pub required: Option<String>,
    /// Whether that holds.
    pub requirement: RequirementState,
    /// Of `capacity`: who could take how much, and who ran out of it when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryHere>,
    /// Of faults: what each did to others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blast: Vec<Blast>,
}

/// What one fault did to others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Blast {
    /// The fault; `null`: the trials without one.
    pub fault: Option<FaultKind>,
    /// Trials in which it came about.
    pub trials: u64,
    /// Trials in which it reached others.
    pub reached: u64,
    /// The driver's codes that the faulty neighbour got.
    pub own_codes: Vec<u32>,
    /// The driver's codes that the victim got.
    pub victim_codes: Vec<u32>,
    /// Requests of the victim that ended with an error, a wrong result, or not at all.
    pub requests_lost: u64,
    /// Longest stretch of the victim without a completion from the fault on, nanoseconds.
    pub longest_gap_ns: u64,
    /// Longest time from the fault to the victim's next completion, nanoseconds; `null`: in a trial none came.
    pub recovered_ns: Option<u64>,
    /// Longest time until a new tenant worked, nanoseconds; `null`: in a trial none could start.
    pub newcomer_ns: Option<u64>,
    /// Xids that the GPU told.
    pub xids: Vec<u32>,
    /// Most that the probability of reaching others can be, at 99 %; `null`: no trial.
    pub at_most: Option<f64>,
}

/// The part of the model.
pub(super) fn of(run: &RecordedRun, verdict: &RunVerdict) -> Vec<HazardHere> {
    let plan = &run.manifest.plan;
    verdict.hazards.iter().map(|judged| one(plan, run, judged)).collect()
}

fn one(plan: &Plan, run: &RecordedRun, v: &HazardVerdict) -> HazardHere {
    let planned = &plan.hazards[v.hazard];
    let why = match &v.verdict {
        Verdict::Inconclusive { reason } => Some(words::reason(reason)),
        Verdict::Skipped { reason } => Some(super::build::skipped(reason)),
        _ => None,
    };
    let came = v.tried.and_then(|at| run.tried.get(at)).map(|tried| &tried.came);
    HazardHere {
        name: v.name.clone(),
        arrangement: plan.arrangements[v.arrangement].name.clone(),
        hazard: planned.hazard.clone(),
        channel: planned.channel.id().to_owned(),
        verdict: VerdictWord::from(&v.verdict),
        why,
        hits: v.hits,
        of: v.of,
        unit: v.unit.clone(),
        at_least: v.bounds.and_then(|(low, _)| nine_digits(low)),
        at_most: v.bounds.and_then(|(_, high)| nine_digits(high)),
        text: v.text.clone(),
        required: v.required.map(|word| word.id().to_owned()),
        requirement: v.requirement,
        memory: match came {
            Some(Came::Capacity(capacity)) => Some(super::memory::of(capacity)),
            _ => None,
        },
        blast: match came {
            Some(Came::Faults(faults)) => blast(faults),
            _ => Vec::new(),
        },
    }
}

/// Rows of the table of faults, those without a fault first.
fn blast(faults: &Faults) -> Vec<Blast> {
    let kinds = std::iter::once(None).chain(FaultKind::ALL.into_iter().map(Some));
    let of = |kind: Option<FaultKind>| -> Vec<&FaultTrial> {
        faults.trials.iter().filter(|trial| trial.fault == kind && trial.act.happened).collect()
    };
    kinds
        .map(|kind| (kind, of(kind)))
        .filter(|(_, trials)| !trials.is_empty())
        .map(|(kind, trials)| row(kind, &trials))
        .collect()
}

fn row(fault: Option<FaultKind>, trials: &[&FaultTrial]) -> Blast {
    let codes = |of: &dyn Fn(&FaultTrial) -> Vec<u32>| {
        let mut all: Vec<u32> = trials.iter().flat_map(|trial| of(trial)).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let longest = |of: &dyn Fn(&FaultTrial) -> Option<Nanos>| {
        let all: Option<Vec<u64>> = trials.iter().map(|trial| of(trial).map(|time| time.0)).collect();
        all.and_then(|all| all.into_iter().max())
    };
    let (of, reached) =
        (trials.len() as u64, trials.iter().filter(|trial| after_fault(trial).is_some()).count() as u64);
    Blast {
        fault,
        trials: of,
        reached,
        own_codes: codes(&|trial| trial.act.code.into_iter().collect()),
        victim_codes: codes(&|trial| trial.victim.errors.iter().map(|(code, _)| *code).collect()),
        requests_lost: trials.iter().map(|t| t.victim.lost + t.victim.wrong + t.victim.errors.len() as u64).sum(),
        longest_gap_ns: trials.iter().map(|trial| trial.victim.gaps_ns[1].0).max().unwrap_or(0),
        recovered_ns: longest(&|trial| trial.victim.recovered),
        newcomer_ns: longest(&|trial| trial.newcomer.started),
        xids: codes(&|trial| trial.xids.iter().filter_map(|xid| xid.code).collect()),
        at_most: nine_digits(crate::stats::proportion_upper(reached, of, crate::verdict::HAZARD_LEVEL)),
    }
}

/// What is required of a hazard, and how that stands.
pub(super) fn requirement(h: &HazardHere) -> Option<Requirement> {
    let required = h.required.as_ref()?;
    let text = format!("must be {required}, and is {}: {}", h.verdict.id(), h.text);
    Some(Requirement { cell: h.name.clone(), of: RequiredOf::Hazard, state: h.requirement, text })
}

/// The section of the terminal's text.
pub(super) fn section(page: &mut Page, run: &RunReport) {
    if run.hazards.is_empty() {
        return;
    }
    page.heading("Memory and faults");
    for h in &run.hazards {
        let mut line = Line::of(Tint::Strong, &h.name).with(Tint::Plain, ": ");
        line.append(verdict_word(h.verdict));
        line.push(Tint::Plain, &format!(": {}", h.text));
        if let Some(required) = &h.required {
            let (tint, word) = match h.requirement {
                RequirementState::Met => (Tint::Good, "met"),
                RequirementState::NotMet => (Tint::Bad, "NOT MET"),
                RequirementState::Accepted => (Tint::Warn, "not met, and accepted"),
                _ => (Tint::Open, "undecided"),
            };
            line.push(Tint::Plain, &format!("; required {required}: "));
            line.push(tint, word);
        }
        page.paragraph(line, 2, 4);
    }
    for h in &run.hazards {
        if let Some(memory) = &h.memory {
            super::memory::section(page, &h.name, memory);
        }
    }
    let faults: Vec<&HazardHere> = run.hazards.iter().filter(|h| !h.blast.is_empty()).collect();
    for h in faults {
        page.heading(&format!("Blast radius of faults, {}", h.name));
        let mut rows = vec![
            [
                "fault",
                "reached others",
                "its own code",
                "victim's code",
                "longest gap",
                "recovered",
                "newcomer",
                "Xids",
            ]
            .map(|head| Line::of(Tint::Faint, head))
            .into(),
        ];
        rows.extend(h.blast.iter().map(blast_line));
        page.table(2, 1, &rows);
    }
}

/// What stands where nobody came back.
pub(super) const NEVER: &str = "never";

impl Blast {
    /// Its row in a table: fault, trials in which it reached somebody, codes that the neighbour and the victim saw, longest gap,
    /// recovery, a newcomer's start, Xids.
    pub(super) fn row(&self) -> [String; 8] {
        let list = |codes: &[u32]| match codes {
            [] => "none".to_owned(),
            codes => codes.iter().map(u32::to_string).collect::<Vec<_>>().join(", "),
        };
        let after = |ns: Option<u64>| ns.map_or_else(|| NEVER.to_owned(), |ns| super::format::time(ns as f64));
        [
            self.fault.map_or("none (control)", FaultKind::id).to_owned(),
            format!("{} of {}", self.reached, self.trials),
            list(&self.own_codes),
            list(&self.victim_codes),
            after(Some(self.longest_gap_ns)),
            after(self.recovered_ns),
            after(self.newcomer_ns),
            list(&self.xids),
        ]
    }
}

fn blast_line(b: &Blast) -> Vec<Line> {
    let tint = |(column, text): (usize, &String)| match column {
        0 => Tint::Strong,
        1 if b.reached > 0 => Tint::Bad,
        1 => Tint::Good,
        _ if text == NEVER => Tint::Bad,
        _ => Tint::Plain,
    };
    b.row().iter().enumerate().map(|(column, text)| Line::of(tint((column, text)), text)).collect()
}

/// What `check` says before the first fault: what the driver may report, and what Kubernetes does with it.
pub(super) fn foretold(page: &mut Page, plan: &Plan) {
    let faults: Vec<&str> = plan
        .hazards
        .iter()
        .filter(|hazard| hazard.hazard == FAULT.id)
        .map(|hazard| hazard.params.get("fault").map_or("all", String::as_str))
        .collect();
    let kinds: Vec<FaultKind> = FaultKind::ALL
        .into_iter()
        .filter(|kind| faults.iter().any(|word| FaultKind::of_word(word).contains(kind)))
        .collect();
    let lines = crate::hazard::foretold(&kinds);
    if lines.is_empty() {
        return;
    }
    page.heading("Before the first fault");
    for line in lines {
        page.paragraph(Line::of(Tint::Plain, &line), 2, 4);
    }
}

/// What `check` says of the hazards of an arrangement.
pub(super) fn planned(page: &mut Page, plan: &Plan, a: &PlannedArrangement) {
    for hazard in a.hazards.iter().filter_map(|index| plan.hazards.get(*index)) {
        let mut text = if hazard.name == hazard.hazard { String::new() } else { format!(" = {}", hazard.hazard) };
        hazard.params.iter().for_each(|(key, value)| text.push_str(&format!(" {key}={value}")));
        let doc = find(&hazard.hazard).map_or("", |known| known.doc);
        text.push_str(&format!(" · {}: {doc}", hazard.channel.id()));
        page.paragraph(
            Line::of(Tint::Plain, "hazard ").with(Tint::Strong, &hazard.name).with(Tint::Plain, &text),
            2,
            4,
        );
    }
}

/// "3 arrangements × 2 hazards", where there are any.
pub(super) fn how_many(arrangements: usize, hazards: usize) -> Option<String> {
    let (arrangements, hazards) = (arrangements as u64, hazards as u64);
    (hazards > 0).then(|| format!("{} × {}", count(arrangements, "arrangement"), count(hazards, "hazard")))
}
