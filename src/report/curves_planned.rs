//! A curve of densities in `crosstalk check`: one block for all of its arrangements.

use crate::experiment::{Length, PlaceLength};
use crate::plan::{Curve, Density, Plan};
use crate::provenance::Provenance;
use crate::scenario::{FALSE_PASS, Slo};
use crate::units::Nanos;
use crate::verdict::Foretold;

use super::format::{count, percent, time};
use super::text::{Line, Page, Tint};

/// Every curve of the plan.
pub(super) fn planned(page: &mut Page, plan: &Plan, places: &[PlaceLength]) {
    for (index, curve) in plan.curves.iter().enumerate() {
        page.heading(&format!("Curve {}: {}", curve.name, curve.sharing));
        for line in lines(plan, index, curve, places) {
            page.paragraph(line, 2, 4);
        }
    }
}

fn lines(plan: &Plan, index: usize, curve: &Curve, places: &[PlaceLength]) -> Vec<Line> {
    let mut lines = vec![Line::of(Tint::Plain, &tenants(plan, curve))];
    lines.extend(cannot_be(plan, curve));
    let runs = curve.levels.iter().filter(|level| plan.arrangements[level.arrangement].skipped.is_none()).count();
    if let (Some(foretold), true) = (Foretold::of(plan, curve), runs > 0) {
        lines.push(requests(plan, &foretold));
        lines.push(Line::of(Tint::Plain, &search(plan, index, curve, runs, &foretold, places)));
    }
    lines.push(Line::of(
        Tint::Plain,
        &match curve.at_least {
            Some(least) => format!("requires that {} at least meet every objective", count(least.into(), "tenant")),
            None => "requires nothing: it decides no exit code".to_owned(),
        },
    ));
    lines
}

/// "1, 2, 4 and 8 equal tenants of inference, and numbers between where the crossing lies there; each holds 20GiB of memory".
fn tenants(plan: &Plan, curve: &Curve) -> String {
    let listed: Vec<String> =
        curve.levels.iter().filter(|level| level.listed).map(|level| level.tenants.to_string()).collect();
    let who = match listed.as_slice() {
        [one] if one == "1" => "a lone tenant".to_owned(),
        numbers => format!("{} equal tenants", in_a_row(numbers)),
    };
    let mut text = format!("{who} of {}", plan.panel[curve.probe].name);
    if curve.levels.iter().any(|level| !level.listed) {
        text.push_str(", and numbers between where the crossing lies there");
    }
    let budget = density(plan, curve).and_then(|density| density.budget);
    if let Some(budget) = budget {
        text.push_str(&format!("; each holds {budget} of memory"));
    }
    text
}

fn density(plan: &Plan, curve: &Curve) -> Option<Density> {
    plan.arrangements[curve.levels.first()?.arrangement].density
}

fn in_a_row(words: &[String]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        words => words.concat(),
    }
}

/// Neighbouring densities that cannot be, with the reason of the first: of more tenants it is no other.
fn cannot_be(plan: &Plan, curve: &Curve) -> Vec<Line> {
    let skipped: Vec<Option<&str>> =
        curve.levels.iter().map(|level| plan.arrangements[level.arrangement].skipped.as_deref()).collect();
    let mut lines = Vec::new();
    let mut at = 0;
    for group in skipped.chunk_by(|a, b| a.is_some() == b.is_some()) {
        let tenants = |index: usize| curve.levels[index].tenants;
        let (first, last) = (tenants(at), tenants(at + group.len() - 1));
        at += group.len();
        let Some(Some(reason)) = group.first() else { continue };
        let which = if first == last { first.to_string() } else { format!("{first} to {last}") };
        let alike = group.iter().all(|other| *other == Some(*reason));
        let of = if alike { String::new() } else { format!("of {first}, ") };
        let line = Line::of(Tint::Warn, "SKIPPED").with(Tint::Plain, &format!(" {which}: {of}{reason}"));
        lines.push(line);
    }
    lines
}

/// What a tenant issues, and whether its objectives can be met with that at all.
fn requests(plan: &Plan, foretold: &Foretold) -> Line {
    let text = format!(
        "windows of {}, of all tenants at once, in {}: {} of a tenant in each, {} in all",
        time(foretold.window.0 as f64),
        count(plan.design.blocks.into(), "arm"),
        count(foretold.arm, "request"),
        foretold.all,
    );
    let objective = |(slo, least): &(Slo, u64)| {
        format!("; {} ≤ {} takes {least} at least to be met", slo.quantile, time(slo.bound.0 as f64))
    };
    let least: String = foretold.least.iter().map(objective).collect();
    let too_few: Vec<String> = foretold.too_few().map(|(slo, _)| slo.quantile.to_string()).collect();
    let line = Line::of(Tint::Plain, &(text + &least));
    if too_few.is_empty() {
        return line;
    }
    line.with(Tint::Warn, " TOO FEW").with(Tint::Plain, &format!(" for {}", too_few.join(", ")))
}

/// "measures 5 of 16 densities at most, which takes 40 min at most on a GPU; each is decided at an error rate of 0.2 %, 1 % ÷ 5".
fn search(
    plan: &Plan,
    index: usize,
    curve: &Curve,
    runs: usize,
    foretold: &Foretold,
    places: &[PlaceLength],
) -> String {
    let of_it = |place: &&PlaceLength| {
        plan.arrangements.get(place.arrangement).and_then(|a| a.density).is_some_and(|density| density.curve == index)
    };
    let length: Length = places.iter().filter(of_it).map(|place| place.length).sum();
    let takes = match length.total() {
        Nanos::ZERO => String::new(),
        some => {
            let clock = if plan.inventory.provenance == Provenance::Simulated { " on a GPU" } else { "" };
            format!(", which takes {} at most{clock}", some.for_people())
        }
    };
    let most = u64::from(curve.most).min(runs as u64);
    let measured = match (curve.every, runs) {
        (true, _) => format!("measures every listed one, and {most} at most with those between"),
        (false, 1) => "measures the one density that can be".to_owned(),
        (false, runs) => format!("measures {most} of {runs} densities at most"),
    };
    let rate = match curve.most {
        1 => percent(foretold.alpha),
        most => format!("{}, {} ÷ {most}", percent(foretold.alpha), percent(FALSE_PASS)),
    };
    format!("{measured}{takes}; each is decided at an error rate of {rate}")
}

#[cfg(test)]
mod tests {
    use super::super::{Options, Style, plan_text};
    use super::*;
    use crate::experiment::lengths;
    use crate::gpu::{find_model, simulated};
    use crate::workload::CATALOGUE;

    const CURVES: &str = r#"
        schema = 1
        name = "capacity"
        [design]
        blocks = 20
        [victim]
        panel = [{ probe = "inference", arrivals = { poisson = "20/s" }, slo = { p99 = "50ms" } }]
        [[arrangement]]
        name = "alone"
        sharing = "exclusive"
        tenants = { count = 1, all = "inference" }
        [[arrangement]]
        name = "ts"
        sharing = "time-slicing"
        tenants = { count = [1, 2, 4, 8], all = "inference", memory = "18GiB", at_least = 4 }
        [[arrangement]]
        name = "mig"
        sharing = "mig"
        tenants = { count = [1, 2, 4, 7, 8], all = "inference", every = true }
    "#;

    fn check(text: &str, width: usize) -> String {
        let model = find_model("h100-sxm").unwrap();
        let scenario = crate::scenario::read("t", text, CATALOGUE).unwrap_or_else(|m| panic!("{}", m.render(false)));
        let plan = Plan::resolve(&scenario, &simulated(model, None), 0, Some(model)).unwrap();
        plan_text(&plan, &lengths(&plan), &[], &[], &Options { width, style: Style::Plain })
    }

    #[test]
    fn a_curve_is_one_block() {
        insta::assert_snapshot!(check(CURVES, 110));
    }

    #[test]
    fn it_fits_narrow_terminals() {
        for line in check(CURVES, 60).lines() {
            assert!(Line::of(Tint::Plain, line).width() <= 60, "{line:?}");
        }
    }

    #[test]
    fn too_few_requests_are_marked() {
        let text = check(&CURVES.replace("blocks = 20", "blocks = 20\nwindow = \"1s\""), 200);
        assert!(text.contains("20 requests of a tenant in each, 400 in all"), "{text}");
        assert!(text.contains("TOO FEW for p99"), "{text}");
        assert!(!check(CURVES, 200).contains("TOO FEW"));
    }

    #[test]
    fn curves_stand_beside_cells() {
        let beside = format!(
            "{CURVES}\n[[arrangement]]\nname = \"pair\"\nsharing = \"time-slicing\"\n[[neighbour]]\nnoise = \"idle\"\n"
        );
        let text = check(&beside, 110);
        assert!(text.contains("1 arrangement × 1 neighbour × 1 probe · 1 cell · 3 curves"), "{text}");
        assert!(text.contains("Arrangement pair: time-slicing") && !text.contains("Arrangement ts"), "{text}");
    }
}
