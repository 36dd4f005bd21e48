//! The host placebo: a neighbour that runs its host loop without GPU calls. It has cells of its own, and what moves there
//! moves nothing through the GPU.

use super::cell;
use super::estimate::times;
use super::types::{CellVerdict, Control, ControlOutcome, ControlVerdict, Reason, SeriesVerdict, Verdict};
use crate::backend::Purpose;
use crate::plan::Plan;
use crate::run_dir::RecordedRun;
use crate::scenario::SharingMode;
use crate::workload::PLACEBO;

/// Whether a neighbour is the placebo.
pub(super) fn is(plan: &Plan, neighbour: usize) -> bool {
    plan.neighbours[neighbour].workload == PLACEBO
}

/// Whether a victim's place was to have a placebo, and not one arm of it was recorded, though others were.
pub(super) fn is_missing(run: &RecordedRun, arrangement: usize, victim: usize) -> bool {
    let plan = &run.manifest.plan;
    let grids = plan.arrangements[arrangement].grids.iter().enumerate().filter(|(_, grid)| grid.victim == victim);
    let of: Vec<(usize, usize)> =
        grids.flat_map(|(i, grid)| grid.neighbours.iter().filter(|n| is(plan, **n)).map(move |n| (i, *n))).collect();
    let recorded = |(grid, neighbour): &(usize, usize)| {
        let of =
            |k: &&crate::backend::ArmKey| (k.arrangement, k.grid, k.purpose) == (arrangement, *grid, Purpose::Block);
        run.arms.keys().filter(of).any(|k| k.neighbour == Some(*neighbour))
    };
    !of.is_empty() && !of.iter().any(recorded)
}

/// A placebo that moves, either way, makes every other cell of its arrangement and place Inconclusive, whatever it shows.
/// Returns what came of every placebo.
pub(super) fn apply(run: &RecordedRun, cells: &mut [CellVerdict]) -> Vec<ControlVerdict> {
    let plan = &run.manifest.plan;
    let moves = |s: &&SeriesVerdict| match &s.verdict {
        Verdict::Degraded | Verdict::Violated => true,
        Verdict::Inconclusive { reason } => *reason == Reason::QuietArmNotAwake,
        Verdict::Isolated | Verdict::Skipped { .. } => false,
    };
    let mut rows = Vec::new();
    for cell in cells.iter().filter(|cell| is(plan, cell.neighbour)) {
        let exclusive = plan.arrangements[cell.arrangement].sharing == SharingMode::Exclusive;
        if exclusive || cell::skipped(run, cell.arrangement).is_some() {
            continue;
        }
        let moved: Vec<String> =
            cell.series.iter().filter(moves).map(|s| format!("{} {}{}", s.series, s.quantile, ratio(s))).collect();
        let open: Vec<&SeriesVerdict> =
            cell.series.iter().filter(|s| matches!(s.verdict, Verdict::Inconclusive { .. })).collect();
        let (outcome, text) = if !moved.is_empty() {
            (ControlOutcome::Failed, format!("the neighbour's host loop alone moves the victim: {}", moved.join(", ")))
        } else if cell.series.iter().all(|s| s.blocks == 0) {
            (ControlOutcome::NotMeasured, "planned, and no block of it was recorded".to_owned())
        } else if let Some(first) = open.first() {
            let why = match &first.verdict {
                Verdict::Inconclusive { reason } => reason.words(),
                _ => "",
            };
            let names: Vec<String> = open.iter().map(|s| format!("{} {}", s.series, s.quantile)).collect();
            (ControlOutcome::Undecided, format!("{} ({why})", names.join(", ")))
        } else {
            (ControlOutcome::Passed, "the neighbour's host loop alone does not move the victim".to_owned())
        };
        rows.push(ControlVerdict {
            control: Control::Placebo,
            arrangement: cell.arrangement,
            seat: cell.seat.clone(),
            grid: None,
            neighbour: Some(cell.neighbour),
            probe: None,
            outcome,
            text,
        });
    }
    for cell in cells.iter_mut().filter(|cell| !is(plan, cell.neighbour)) {
        let same = |row: &&ControlVerdict| row.arrangement == cell.arrangement && row.seat == cell.seat;
        if rows.iter().filter(same).any(|row| row.outcome == ControlOutcome::Failed) {
            for series in &mut cell.series {
                series.verdict = Verdict::Inconclusive { reason: Reason::ControlFailed { control: Control::Placebo } };
                series.cause = None;
            }
        }
    }
    rows
}

fn ratio(s: &SeriesVerdict) -> String {
    s.ratio.map_or_else(String::new, |r| format!(" {}×", times(r.estimate)))
}
