//! One cell: everything that is known of it.

use crate::report::ReportError;
use crate::report::controls;
use crate::report::detail::{CellDetail, Detail};
use crate::report::format::{NONE, count, percent, ratio_interval, time};
use crate::report::memory::people;
use crate::report::model::{Cell, Expected, RunReport, Series, Why};
use crate::run_dir::{JudgedBy, RecordedRun};
use crate::verdict::RequirementState;

use super::figures::{self, SeriesView};
use super::rows::{Badge, control_badge};

/// One cell.
pub(super) struct CellView {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) badge: Badge,
    pub(super) summary: String,
    /// Name and value.
    pub(super) facts: Vec<(&'static str, String)>,
    /// What is not decided, or must be known: of what, the reason, what to do.
    pub(super) whys: Vec<[String; 3]>,
    pub(super) rows: Vec<SeriesRow>,
    /// Cause of what moved: of what, in a clause.
    pub(super) causes: Vec<(String, String)>,
    /// What the matrix shows, with its course over the run.
    pub(super) main: Option<SeriesView>,
    pub(super) others: Vec<SeriesView>,
    /// Why there is no chart.
    pub(super) no_chart: &'static str,
    pub(super) oom: Vec<String>,
    pub(super) controls: Vec<(Badge, String, String)>,
}

/// One series × quantile.
pub(super) struct SeriesRow {
    pub(super) name: String,
    pub(super) channel: String,
    pub(super) badge: Badge,
    pub(super) ratio: String,
    pub(super) quiet: String,
    pub(super) noisy: String,
    pub(super) change: String,
    pub(super) judged: String,
    pub(super) requests: String,
}

/// The cells of a run; `below`: what lies below their verdicts.
pub(super) fn of(
    prefix: &str,
    run: &RunReport,
    below: Option<(&Detail, &RecordedRun)>,
) -> Result<Vec<CellView>, ReportError> {
    let one = |(at, cell): (usize, &Cell)| {
        let detail = below.and_then(|(detail, _)| detail.cells.get(at));
        view(prefix, run, at, cell, detail)
    };
    run.cells.iter().enumerate().map(one).collect()
}

fn view(
    prefix: &str,
    run: &RunReport,
    at: usize,
    cell: &Cell,
    detail: Option<&CellDetail>,
) -> Result<CellView, ReportError> {
    let worst = cell.worst.and_then(|i| cell.series.get(i)).map(|s| s.series.as_str());
    let (mut main, mut others) = (None, Vec::new());
    let measured = detail.filter(|d| d.series.iter().any(|s| s.quiet.requests + s.noisy.requests > 0));
    if let Some(detail) = measured {
        for s in &detail.series {
            if main.is_none() && worst.is_none_or(|worst| worst == s.name) {
                let mut view = figures::series(cell, s, false)?;
                view.figures.push(figures::over_time(detail, s)?);
                main = Some(view);
            } else {
                others.push(figures::series(cell, s, true)?);
            }
        }
    }
    Ok(CellView {
        id: format!("{prefix}cell-{}", at + 1),
        name: cell.name.clone(),
        badge: Badge::of_verdict(cell.verdict),
        summary: cell.summary.clone(),
        facts: facts(run, cell),
        whys: cell.why.iter().chain(&cell.notes).map(why).collect(),
        rows: cell.series.iter().map(row).collect(),
        causes: causes(cell),
        main,
        others,
        no_chart: match detail {
            None => "This report was made from verdicts alone: it has no charts.",
            Some(_) => "No arm of this cell was recorded, so there is nothing to draw.",
        },
        oom: detail.map_or(Vec::new(), oom),
        controls: controls_here(run, cell),
    })
}

fn facts(run: &RunReport, cell: &Cell) -> Vec<(&'static str, String)> {
    let expected = match cell.expected {
        Expected::Yes => "as expected",
        Expected::No => "NOT as expected",
        Expected::Undecided => "undecided",
        Expected::Unstated => "nothing was expected",
    };
    let required = match cell.requirement {
        RequirementState::NotRequired => "nothing",
        RequirementState::Met => "met",
        RequirementState::Accepted => "not met, and accepted",
        RequirementState::Undecided => "undecided",
        RequirementState::NotMet => "NOT MET",
    };
    let blocks = cell.series.iter().map(|s| s.blocks).max().unwrap_or(0);
    let blocks = match cell.decided_after {
        Some(n) => format!("{blocks}; decided after {n} of {}", run.header.blocks),
        None => format!("{blocks} of {}", run.header.blocks),
    };
    let rate = cell.neighbour_rate.map_or_else(
        || format!("{NONE} (not known)"),
        |share| format!("{} of its solo rate in this place", percent(share)),
    );
    vec![
        ("Required", required.to_owned()),
        ("Expected", expected.to_owned()),
        ("Neighbour", rate),
        ("Blocks with both arms", blocks),
    ]
}

fn why(w: &Why) -> [String; 3] {
    [w.of.join(", "), w.text.clone(), w.advice.clone().unwrap_or_default()]
}

fn row(s: &Series) -> SeriesRow {
    let quantile = |ns: Option<f64>, requests: u64| match (ns, requests) {
        (Some(ns), _) => time(ns),
        (None, 0) => format!("{NONE} (no requests)"),
        (None, _) => "at or above the deadline".to_owned(),
    };
    let judged = match s.judged {
        JudgedBy::Blocks => "block by block",
        JudgedBy::Pooled => "pooled",
        JudgedBy::TooFew => "too few requests",
    };
    SeriesRow {
        name: s.name(),
        channel: s.channel.to_string(),
        badge: Badge::of_verdict(s.verdict),
        ratio: s.ratio.as_ref().map_or_else(|| NONE.to_owned(), ratio_interval),
        quiet: quantile(s.quiet_ns, s.quiet_requests),
        noisy: quantile(s.noisy_ns, s.noisy_requests),
        change: s.change_ns.map_or_else(|| NONE.to_owned(), change),
        judged: judged.to_owned(),
        requests: format!("{} / {}", s.quiet_requests, s.noisy_requests),
    }
}

/// "+27 µs", "−4 ns", "0 ns".
fn change(ns: f64) -> String {
    let sign = if ns < 0.0 { "−" } else { "+" };
    if ns == 0.0 { time(0.0) } else { format!("{sign}{}", time(ns.abs())) }
}

/// Causes, the series of each together.
fn causes(cell: &Cell) -> Vec<(String, String)> {
    let mut causes: Vec<(String, String)> = Vec::new();
    for s in &cell.series {
        let saturated = s.saturated.as_ref().map(controls::saturation);
        let cause = s.cause.as_ref().map(|cause| {
            let channel = cause.channel.map_or_else(String::new, |channel| format!(", through {channel}"));
            format!("{}: {}{channel}", cause.word, cause.text)
        });
        for text in cause.into_iter().chain(saturated) {
            match causes.iter_mut().find(|(_, other)| *other == text) {
                Some((of, _)) => of.push_str(&format!(", {}", s.name())),
                None => causes.push((s.name(), text)),
            }
        }
    }
    causes
}

fn oom(d: &CellDetail) -> Vec<String> {
    let one = |o: &crate::report::detail::OomShown| {
        let e = &o.event;
        format!(
            "block {}, {} arm, {} after its beginning: seat {} asked for {}, and saw {} of {} free",
            o.block,
            if o.noisy { "noisy" } else { "quiet" },
            time(e.at.0 as f64),
            e.seat,
            people(e.asked),
            people(e.free),
            people(e.total),
        )
    };
    const SHOWN: usize = 50;
    let mut lines: Vec<String> = d.oom.iter().take(SHOWN).map(one).collect();
    if let Some(more) = d.oom.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        lines.push(format!("and {}, in the run directory", count(more as u64, "other")));
    }
    lines
}

/// The controls of the cell's place; of those by neighbour, this neighbour's.
fn controls_here(run: &RunReport, cell: &Cell) -> Vec<(Badge, String, String)> {
    let place = run
        .columns
        .iter()
        .find(|column| cell.name.strip_prefix(column.name.as_str()).is_some_and(|rest| rest.starts_with('/')));
    let neighbour = place.and_then(|place| cell.name.get(place.name.len() + 1..));
    let mut lines = Vec::new();
    for control in run.controls.iter().filter(|c| place.is_some_and(|place| c.place == place.name)) {
        for item in &control.items {
            if item.neighbour.as_deref().is_none_or(|n| Some(n) == neighbour) {
                let name = control.control.words().to_owned();
                lines.push((control_badge(item.outcome), name, item.text.clone()));
            }
        }
    }
    lines
}
