//! From the verdict to what a report says of controls and objectives.

use crate::plan::Plan;
use crate::scenario::Word;
use crate::units::Nanos;
use crate::verdict::{
    Control, ControlOutcome, ControlVerdict, RequirementState, RunVerdict, Saturated, SloState, SloVerdict, Verdict,
};

use super::build::ratio;
use super::format::{count, nine_digits, percent, rate, time};
use super::model::{ControlItem, ControlShown, Objective, Ratio, RequiredOf, Requirement};

/// Controls per place, in the order of the plan.
pub(super) fn shown(plan: &Plan, verdict: &RunVerdict) -> Vec<ControlShown> {
    let mut groups: Vec<(Control, String, Vec<&ControlVerdict>)> = Vec::new();
    for row in &verdict.controls {
        let place = place(plan, row.arrangement, &row.seat);
        match groups.iter_mut().find(|(control, other, _)| *control == row.control && *other == place) {
            Some((_, _, rows)) => rows.push(row),
            None => groups.push((row.control, place, vec![row])),
        }
    }
    groups.into_iter().map(|(control, place, rows)| group(plan, control, place, &rows)).collect()
}

fn group(plan: &Plan, control: Control, place: String, rows: &[&ControlVerdict]) -> ControlShown {
    let name = |n: usize| plan.neighbours.get(n).map_or_else(String::new, |n| n.name.clone());
    let items: Vec<ControlItem> = rows
        .iter()
        .map(|row| ControlItem {
            neighbour: row.neighbour.map(name),
            probe: row.probe.clone(),
            outcome: row.outcome,
            text: row.text.clone(),
        })
        .collect();
    let outcome = items.iter().map(|item| item.outcome).max().unwrap_or(ControlOutcome::NotMeasured);
    ControlShown { control, place, outcome, summary: summary(control, &items), items }
}

/// The parts that are not as they must be, each once; where all are, how many.
fn summary(control: Control, items: &[ControlItem]) -> String {
    let passed: Vec<&ControlItem> = items.iter().filter(|item| item.outcome == ControlOutcome::Passed).collect();
    let mut parts: Vec<String> = Vec::new();
    if control == Control::Sensitivity {
        let pairs = count(items.len() as u64, "pair");
        parts.push(format!("{} of {pairs} of noise and probe move in the victim's own place", passed.len()));
        // The weakest would take numbers that only words hold: the first stands for what was seen.
        parts.extend(passed.first().filter(|_| passed.len() == items.len()).map(|item| with_names(item)));
    }
    for item in items {
        let told = control == Control::Sensitivity && item.outcome == ControlOutcome::Passed;
        let text = with_names(item);
        if !told && !parts.contains(&text) {
            parts.push(text);
        }
    }
    parts.join("; ")
}

fn with_names(item: &ControlItem) -> String {
    match (&item.neighbour, &item.probe) {
        (Some(neighbour), Some(_)) => format!("{neighbour}: {}", item.text),
        _ => item.text.clone(),
    }
}

/// Objectives, in the order of the plan.
pub(super) fn objectives(plan: &Plan, verdict: &RunVerdict) -> Vec<Objective> {
    verdict.slos.iter().map(|slo| objective(plan, slo)).collect()
}

fn objective(plan: &Plan, slo: &SloVerdict) -> Objective {
    let allowed = nine_digits(1.0 - slo.quantile.as_f64()).unwrap_or(0.0);
    let over = slo.over.map(ratio);
    let saturated = slo.saturated.map(saturated);
    let mut text = match (&saturated, &over) {
        (Some(s), _) => saturation(s),
        (None, Some(over)) => format!("{} of the requests over it, {} allowed", share(over), percent(allowed)),
        (None, None) => String::new(),
    };
    if let SloState::Undecided { reason } = &slo.state {
        text = if text.is_empty() { reason.clone() } else { format!("{reason}; {text}") };
    }
    Objective {
        place: place(plan, slo.arrangement, &slo.seat),
        neighbour: slo.neighbour.and_then(|n| plan.neighbours.get(n)).map(|n| n.name.clone()),
        probe: slo.probe.clone(),
        objective: format!("{} ≤ {}", slo.quantile, time(Nanos(slo.bound_ns).0 as f64)),
        verdict: slo.state.word().to_owned(),
        text,
        allowed,
        over,
        arms: slo.arms,
        saturated,
        requirement: slo.requirement,
    }
}

/// "3.1 % [2.5 3.8]".
pub(super) fn share(over: &Ratio) -> String {
    let one = |x: Option<f64>| x.map_or_else(|| super::format::NONE.to_owned(), percent);
    let bare = |x: Option<f64>| one(x).trim_end_matches(" %").to_owned();
    format!("{} [{} {}]", one(over.estimate), bare(over.low), bare(over.high))
}

/// What a probe that is saturated still tells.
pub(super) fn saturation(s: &Saturated) -> String {
    let service = s.service_ns.map_or_else(String::new, |ns| format!(", {} each on the device (p50)", time(ns)));
    format!(
        "saturated: {} of {} served, the backlog grows by {}{service}",
        rate(s.served),
        rate(s.planned),
        rate(s.growth)
    )
}

/// The same with nine digits.
pub(super) fn saturated(s: Saturated) -> Saturated {
    let nine = |x: f64| nine_digits(x).unwrap_or(0.0);
    Saturated {
        growth: nine(s.growth),
        served: nine(s.served),
        planned: nine(s.planned),
        service_ns: s.service_ns.and_then(nine_digits),
    }
}

/// What is required of an objective, and how that stands.
pub(super) fn requirement(o: &Objective) -> Option<Requirement> {
    let cell = o.neighbour.as_ref().map_or_else(|| format!("{}, quiet", o.place), |n| format!("{}/{n}", o.place));
    let text = match o.state_words() {
        None => return None,
        Some(how) => format!("must meet {} of {}, {how}: {}", o.objective, o.probe, o.text),
    };
    Some(Requirement { cell, of: RequiredOf::Objective, state: o.requirement, text })
}

/// What is required of arrangements that have no cell, or no objective, of which it could hold.
pub(super) fn open(plan: &Plan, verdict: &RunVerdict) -> Vec<Requirement> {
    let mut items = Vec::new();
    for (index, arrangement) in plan.arrangements.iter().enumerate() {
        let skipped = verdict.cells.iter().find_map(|cell| match &cell.verdict {
            Verdict::Skipped { reason } if cell.arrangement == index => Some(format!("skipped: {reason}")),
            _ => None,
        });
        let why = skipped.unwrap_or_else(|| "nothing of it was measured".to_owned());
        let mut undecided = |of, what: &str| {
            let text = format!("{what}, and nobody can say: {why}");
            items.push(Requirement { cell: arrangement.name.clone(), of, state: RequirementState::Undecided, text });
        };
        let asks_verdict = arrangement.require.0.iter().any(|rule| !matches!(rule.word, Word::Any | Word::Met));
        if asks_verdict && arrangement.hazards.is_empty() && !verdict.cells.iter().any(|cell| cell.arrangement == index)
        {
            undecided(RequiredOf::Cell, "has verdicts required of it and no cell");
        }
        let asks_objectives = arrangement.require.asks_objectives();
        if asks_objectives && !verdict.slos.iter().any(|slo| slo.arrangement == index) {
            undecided(RequiredOf::Objective, "must meet its objectives");
        }
    }
    items
}

impl Objective {
    fn state_words(&self) -> Option<&'static str> {
        match self.requirement {
            RequirementState::NotRequired => None,
            RequirementState::Met => Some("and does"),
            RequirementState::Accepted => Some("and does not, which is accepted"),
            RequirementState::Undecided => Some("and nobody can say"),
            RequirementState::NotMet => Some("and misses it"),
        }
    }
}

/// `arrangement[@seat]`: the seat is named where the victim sits in several.
fn place(plan: &Plan, arrangement: usize, seat: &str) -> String {
    let Some(planned) = plan.arrangements.get(arrangement) else { return String::new() };
    let several = planned.grids.iter().any(|grid| Some(grid.victim) != planned.grids.first().map(|g| g.victim));
    if several { format!("{}@{seat}", planned.name) } else { planned.name.clone() }
}
