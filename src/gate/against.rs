//! A run against its baseline: quiet levels, verdicts, and the size of interference.

use jiff::civil::Date;

use super::Judged;
use super::demands::{Found, Kind, absent};
use super::evidence::days;
use super::policy::Baseline;
use crate::compare::{CellChange, Change, QuietChange, QuietState, SeriesChange, Size};
use crate::report::{percent, ratio_interval, time};
use crate::units::Share;
use crate::verdict::RequirementState;

/// What the baseline says of a run, or why it says nothing.
pub(super) fn of(asked: &Baseline, judged: &Judged, today: Date) -> Vec<Found> {
    let open =
        |text: String| vec![Found { kind: Kind::Compared, ..absent("baseline", RequirementState::Undecided, text) }];
    let comparison = match &judged.against {
        None => return open("absent: no baseline is given (--baseline FILE)".to_owned()),
        Some(Err(why)) => return open(why.clone()),
        Some(Ok(comparison)) => comparison,
    };
    let mut found = Vec::new();
    let mut put = |subject: String, state, text: String| {
        found.push(Found { subject, state, text, kind: Kind::Compared, retry: None });
    };
    if let Some((most, last)) =
        asked.max_age.zip(comparison.base.iter().filter_map(|run| run.date.parse::<Date>().ok()).max())
    {
        let age = days(last, today);
        let (state, text) = match age > i64::from(most) {
            true => (
                RequirementState::Undecided,
                format!("its latest run, of {last}, is {age} days old, {most} at most: add runs of today"),
            ),
            false => (RequirementState::Met, format!("{age} days")),
        };
        put("baseline: age".to_owned(), state, text);
    }
    if asked.quiet {
        // Others are kept and shown, and nobody asks for them.
        let quantiles = &judged.run.manifest.plan.design.judged;
        for change in comparison.quiet.iter().filter(|change| quantiles.contains(&change.quantile)) {
            let (state, text) = quiet(change, asked.tolerance);
            put(format!("{}/quiet {} {}", change.place, change.series, change.quantile), state, text);
        }
    }
    for cell in &comparison.cells {
        if asked.verdicts {
            let (state, text) = verdict(cell);
            put(format!("{} against the baseline", cell.name), state, text);
        }
        if asked.interference {
            let (state, text) = interference(cell);
            put(format!("{} size of interference", cell.name), state, text);
        }
    }
    if found.is_empty() { open("absent: nothing of the run is in the baseline".to_owned()) } else { found }
}

/// A quiet level: above the interval in which it lies if nothing has changed, and above what is tolerated besides.
fn quiet(change: &QuietChange, tolerance: Share) -> (RequirementState, String) {
    let ns = |ns: Option<f64>| ns.map_or_else(|| "–".to_owned(), time);
    let levels = format!("{} → {}", ns(change.base_ns), ns(change.new_ns));
    let high = ns(change.high_ns);
    match change.state {
        QuietState::Slower if change.ratio.is_some_and(|ratio| ratio - 1.0 <= tolerance.as_f64()) => (
            RequirementState::Met,
            format!("{levels}, beyond {high}, and within the {} that are tolerated", percent(tolerance.as_f64())),
        ),
        QuietState::Slower => {
            (RequirementState::NotMet, format!("{levels} without any neighbour, {high} at most if nothing had changed"))
        }
        QuietState::Within | QuietState::Faster => (RequirementState::Met, levels),
        QuietState::NotJudged => {
            let why = change.why.as_deref().unwrap_or("the baseline does not have it");
            (RequirementState::Undecided, format!("not judged: {why}"))
        }
    }
}

fn verdict(cell: &CellChange) -> (RequirementState, String) {
    let before = cell.base.iter().map(|(word, _)| word.id()).collect::<Vec<_>>().join(", ");
    let now = cell.new.map_or("absent", |word| word.id());
    let text = format!("{now}, in the baseline {}", if before.is_empty() { "absent" } else { before.as_str() });
    let state = match cell.change {
        Change::Worse => RequirementState::NotMet,
        Change::Absent | Change::Undecided | Change::Open | Change::Added => RequirementState::Undecided,
        Change::Same | Change::Better | Change::Decided => RequirementState::Met,
    };
    (state, text)
}

/// The size of a cell's interference: one series that has grown is enough, and one must have been tested.
fn interference(cell: &CellChange) -> (RequirementState, String) {
    let grown = |series: &&SeriesChange| series.size == Size::Grew;
    if let Some(series) = cell.series.iter().find(grown) {
        let by = series.shift.as_ref().map_or_else(String::new, |shift| format!(" {}", ratio_interval(&shift.ratio)));
        let more = match cell.series.iter().filter(grown).count() {
            1 => String::new(),
            n => format!("; and of {} more", n - 1),
        };
        let text = format!(
            "grown{by} against the baseline at {} {}, by more than the margin{more}",
            series.series, series.quantile
        );
        return (RequirementState::NotMet, text);
    }
    if cell.series.iter().any(|series| matches!(series.size, Size::Shrank | Size::Unchanged)) {
        return (RequirementState::Met, "not grown".to_owned());
    }
    let why = cell.series.iter().find_map(|series| series.why.as_deref()).unwrap_or("it has no series on both sides");
    (RequirementState::Undecided, format!("not tested: {why}"))
}
