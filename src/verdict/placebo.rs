//! The host placebo: a neighbour that runs its host loop without GPU calls. It has cells of its own, and what moves there
//! moves nothing through the GPU.

use super::cell;
use super::estimate::times;
use super::looks::Extent;
use super::types::{CellVerdict, Control, ControlOutcome, ControlVerdict, Reason, SeriesVerdict, Verdict};
use crate::backend::{ArmKey, Purpose};
use crate::plan::{Grid, Plan};
use crate::run_dir::RecordedRun;
use crate::scenario::SharingMode;
use crate::workload::PLACEBO;

/// Whether a neighbour is the placebo.
pub(super) fn is(plan: &Plan, neighbour: usize) -> bool {
    plan.neighbours[neighbour].workload == PLACEBO
}

/// Whether a victim's place was to have a placebo, and lacks arms of it, or quiet ones to compare them with: of what is left
/// nobody knows whether it is what survived.
pub(super) fn is_short(run: &RecordedRun, arrangement: usize, victim: usize) -> bool {
    let plan = &run.manifest.plan;
    let grids = plan.arrangements[arrangement].grids.iter().enumerate().filter(|(_, grid)| grid.victim == victim);
    let mut of = grids.flat_map(|(i, grid)| grid.neighbours.iter().filter(|n| is(plan, **n)).map(move |n| (i, *n)));
    of.any(|(grid, neighbour)| {
        let (recorded, planned) = blocks(run, arrangement, grid, neighbour);
        recorded < planned
    })
}

/// Blocks of a grid that have both arms beside a neighbour, and how many it was to have, up to the look at which it stopped.
fn blocks(run: &RecordedRun, arrangement: usize, grid: usize, neighbour: usize) -> (u32, u32) {
    let first = run.manifest.plan.arrangements[arrangement].grids[grid].first_block;
    let planned = Extent::of(run, arrangement, grid, neighbour).blocks;
    let has = |block: u32, neighbour| {
        run.arms.contains_key(&ArmKey { arrangement, grid, block, neighbour, purpose: Purpose::Block })
    };
    let both = |block: &u32| has(*block, None) && has(*block, Some(neighbour));
    ((first..first + planned).filter(both).count() as u32, planned)
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
        let arrangement = &plan.arrangements[cell.arrangement];
        let seat =
            |grid: &Grid| arrangement.seats.get(grid.victim).map_or_else(|| grid.victim.to_string(), |s| s.id.clone());
        let grids = arrangement.grids.iter().enumerate();
        let grids = grids.filter(|(_, g)| g.neighbours.contains(&cell.neighbour) && seat(g) == cell.seat);
        let (recorded, planned) = grids
            .map(|(index, _)| blocks(run, cell.arrangement, index, cell.neighbour))
            .fold((0, 0), |(a, b), (recorded, planned)| (a + recorded, b + planned));
        let (outcome, text) = if !moved.is_empty() {
            (ControlOutcome::Failed, format!("the neighbour's host loop alone moves the victim: {}", moved.join(", ")))
        } else if recorded < planned {
            let text = match recorded {
                0 => "planned, and no block of it was recorded".to_owned(),
                _ => format!("{recorded} of {planned} blocks of it were recorded"),
            };
            (ControlOutcome::NotMeasured, text)
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
