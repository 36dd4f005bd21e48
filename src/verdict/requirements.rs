//! What was required and what was expected: by cell, by channel, by series; and the exit code that follows.

use super::decide::overall;
use super::types::{CellVerdict, Reason, RequirementState, RunVerdict, SeriesVerdict, Verdict};
use crate::channel::Channel;
use crate::plan::Plan;
use crate::run_dir::Manifest;
use crate::scenario::{Accept, Expectation, Word};

/// 0: every requirement met, or its risk accepted; 1: one is not met; 4: the data cannot say.
pub fn exit_code(run: &RunVerdict) -> u8 {
    match run.requirement {
        RequirementState::NotMet => 1,
        RequirementState::Undecided => 4,
        RequirementState::NotRequired | RequirementState::Met | RequirementState::Accepted => 0,
    }
}

/// Fills in what was required and expected of `cell`, whether it holds, and what surprises.
pub(super) fn apply(manifest: &Manifest, cell: &mut CellVerdict) {
    let plan = &manifest.plan;
    let arrangement = &plan.arrangements[cell.arrangement];
    let neighbour = &plan.neighbours[cell.neighbour];
    let channel = neighbour.channels.first().copied().unwrap_or(Channel::Host);
    let word = |rules: &Expectation, series: &str| {
        rules.word_for(&neighbour.name, channel, series).filter(|word| *word != Word::Any)
    };
    for series in &mut cell.series {
        series.required = word(&arrangement.require, &series.series);
        series.expected = word(&arrangement.expect, &series.series);
    }
    let valid = |a: &&Accept| a.until >= manifest.date && names(a, cell, &arrangement.name, &neighbour.name);
    let accepts: Vec<&Accept> = plan.accepted.iter().filter(valid).collect();
    let groups = |rules: &Expectation| {
        let own = |series: &str| rules.0.iter().any(|rule| rule.key == format!("{}/{series}", neighbour.name));
        groups(plan, cell, |series| word(rules, series), own)
    };
    let requirement = groups(&arrangement.require)
        .iter()
        .map(|group| state(plan, group, &accepts))
        .max()
        .unwrap_or(RequirementState::NotRequired);
    let surprises = groups(&arrangement.expect).iter().flat_map(|group| surprises(&cell.name, group)).collect();
    cell.requirement = requirement;
    cell.surprises = surprises;
}

/// The series of a cell under one rule: judged together, as the cell is.
struct Group<'a> {
    word: Word,
    /// The series that has the rule for itself; `None`: all that have none.
    own: Option<&'a str>,
    series: Vec<&'a SeriesVerdict>,
}

/// The series of a cell by the rule that applies to them. One with its own key is left out of the wider one. A cell
/// without series (Skipped) has the rules of the whole panel.
fn groups<'a>(
    plan: &'a Plan,
    cell: &'a CellVerdict,
    word: impl Fn(&str) -> Option<Word>,
    own: impl Fn(&str) -> bool,
) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut put = |name: &'a str, series: Option<&'a SeriesVerdict>| {
        let Some(word) = word(name) else { return };
        let own = own(name).then_some(name);
        match groups.iter_mut().find(|group| group.own == own) {
            Some(group) => group.series.extend(series),
            None => groups.push(Group { word, own, series: series.into_iter().collect() }),
        }
    };
    if cell.series.is_empty() {
        plan.panel.iter().flat_map(|probe| &probe.series).for_each(|name| put(name, None));
    }
    for series in &cell.series {
        put(&series.series, Some(series));
    }
    groups
}

/// Whether the word of a group holds, accepted risks considered.
fn state(plan: &Plan, group: &Group<'_>, accepts: &[&Accept]) -> RequirementState {
    let bare = required(plan, group.word, &group.series);
    if bare == RequirementState::Met || accepts.is_empty() {
        return bare;
    }
    if accepts.iter().any(|accept| accept.channel.is_none()) {
        return RequirementState::Accepted;
    }
    let covered = |s: &SeriesVerdict| accepts.iter().any(|a| a.channel.as_deref() == Some(s.channel.id()));
    let rest: Vec<&SeriesVerdict> = group.series.iter().copied().filter(|s| !covered(s)).collect();
    match rest.len() {
        n if n == group.series.len() => bare,
        0 => RequirementState::Accepted,
        _ => required(plan, group.word, &rest).max(RequirementState::Accepted),
    }
}

/// Whether the verdicts under one rule are what `require` asks. Without any (Skipped) nobody knows.
fn required(plan: &Plan, word: Word, series: &[&SeriesVerdict]) -> RequirementState {
    if word == Word::Degraded {
        return series.iter().map(|s| no_worse_than_degraded(plan, s)).max().unwrap_or(RequirementState::Undecided);
    }
    match overall(Verdict::Skipped { reason: String::new() }, series.iter().copied()) {
        Verdict::Inconclusive { .. } | Verdict::Skipped { .. } => RequirementState::Undecided,
        verdict if is(word, &verdict) => RequirementState::Met,
        _ => RequirementState::NotMet,
    }
}

/// Asked of every series on its own: one that cannot be told from Degraded may still be Violated, and is not covered by
/// another that is Degraded. An interval that lies below the violated margin is no worse, whichever side of the isolated
/// one it is on.
fn no_worse_than_degraded(plan: &Plan, series: &SeriesVerdict) -> RequirementState {
    let violated = 1.0 + plan.design.margins.of(series.quantile).1;
    match &series.verdict {
        Verdict::Isolated | Verdict::Degraded => RequirementState::Met,
        Verdict::Violated => RequirementState::NotMet,
        Verdict::Inconclusive { reason: Reason::Underpowered { .. } }
            if series.ratio.and_then(|ratio| ratio.high).is_some_and(|high| high < violated) =>
        {
            RequirementState::Met
        }
        Verdict::Inconclusive { .. } | Verdict::Skipped { .. } => RequirementState::Undecided,
    }
}

/// Whether a decided verdict is what the word says.
fn is(word: Word, verdict: &Verdict) -> bool {
    match word {
        Word::Any => true,
        Word::Isolated => *verdict == Verdict::Isolated,
        Word::Degraded => *verdict == Verdict::Degraded,
        Word::Violated => *verdict == Verdict::Violated,
        Word::NotIsolated => *verdict != Verdict::Isolated,
    }
}

/// What contradicts `expect`. What could not be decided contradicts nothing.
fn surprises(cell: &str, group: &Group<'_>) -> Vec<String> {
    let found = overall(Verdict::Skipped { reason: String::new() }, group.series.iter().copied());
    let decided = matches!(found, Verdict::Isolated | Verdict::Degraded | Verdict::Violated);
    if !decided || is(group.word, &found) {
        return Vec::new();
    }
    let expected = group.word.id();
    if found == Verdict::Isolated {
        let whose = group.own.map(|series| format!("{series} ")).unwrap_or_default();
        return vec![format!("{cell}: {whose}isolated, expected {expected}")];
    }
    let same = group.series.iter().filter(|s| s.verdict == found);
    same.map(|s| format!("{cell}: {} {} {}, expected {expected}", s.series, s.quantile, s.verdict.word())).collect()
}

/// Whether an accepted risk names this cell: with its seat, or without one for all places of its arrangement.
fn names(accept: &Accept, cell: &CellVerdict, arrangement: &str, neighbour: &str) -> bool {
    accept.cell == format!("{arrangement}/{neighbour}")
        || accept.cell == format!("{arrangement}@{}/{neighbour}", cell.seat)
}
