//! The verdict: from a recorded run to a judgement per series × quantile, per cell and per requirement. Pure.
//!
//! Proving isolation is a non-inferiority claim: the null hypothesis is that the neighbour slows the victim by at least
//! the margin. Everything here serves that sentence, and whatever is absent is Inconclusive, never a pass.

mod askable;
mod assumed;
mod cause;
mod cell;
mod controls;
mod decide;
mod density;
mod estimate;
mod hazards;
mod host;
#[cfg(test)]
mod known_truth;
mod looks;
mod observed;
mod order;
mod placebo;
mod requirements;
mod slo;
#[cfg(test)]
pub(crate) mod synthetic;
#[cfg(test)]
mod tests;
mod types;
#[cfg(test)]
mod validation;
mod validity;
mod warnings;

pub use density::{CurveVerdict, Factor, Fairness, LevelState, LevelVerdict, LoneTenant, TenantVerdict, next_density};
pub(crate) use hazards::asked as hazard_asked;
pub use hazards::{HazardVerdict, LEAST_ATTEMPTS, LEVEL as HAZARD_LEVEL, after_fault};
pub use looks::{decided, idle_looks};
pub use observed::ObservedVerdict;
pub(crate) use requirements::{
    asked as cell_asked, names as accept_names, objective as objective_asked, of as accepts,
};
pub use types::{
    Cause, CellVerdict, Control, ControlOutcome, ControlVerdict, Interval, Reason, RequirementState, RunVerdict,
    Saturated, SeriesVerdict, SloState, SloVerdict, Unwatched, Verdict, Warning,
};
pub use warnings::foreseen;

use cell::Controls;
use looks::Extent;

use crate::channel::Channel;
use crate::plan::Plan;
use crate::run_dir::RecordedRun;
use crate::scenario::{Quantile, SharingMode};
use crate::stats::episode_share;
use crate::workload::PLACEBO;

/// Lowest quantile that sees an episode which a part of the arms alone has.
const TAIL: Quantile = Quantile(95_000);

/// Judges a recorded run, whole or interrupted.
pub fn judge(run: &RecordedRun) -> RunVerdict {
    let plan = &run.manifest.plan;
    let grids: Vec<(usize, usize)> = plan
        .arrangements
        .iter()
        .enumerate()
        .filter(|(index, arrangement)| cell::skipped(run, *index).is_none() && arrangement.density.is_none())
        .flat_map(|(index, arrangement)| (0..arrangement.grids.len()).map(move |grid| (index, grid)))
        .collect();
    let judged = cell::on_all_cores(&grids, |(index, grid), tables| controls::of_grid(run, *index, *grid, tables));
    let controls: Controls = grids.into_iter().zip(judged).collect();
    let (mut cells, mut slos) = cell::judge_cells(run, &controls);
    let mut rows: Vec<ControlVerdict> = controls.into_values().flat_map(|grid| grid.rows).collect();
    rows.extend(placebo::apply(run, &mut cells));
    rows.sort_by_key(|row| row.arrangement);
    for cell in &mut cells {
        cell.verdict = decide::overall(cell.verdict.clone(), &cell.series);
        cell.worst = decide::worst(cell);
        requirements::apply(&run.manifest, cell);
    }
    let open = requirements::apply_to_slos(run, &mut slos);
    let observed = observed::judge(run);
    let hazards = hazards::judge(run);
    let states = cells.iter().map(|cell| cell.requirement).chain(slos.iter().map(|slo| slo.requirement));
    let curves = density::judge(run);
    let states = states.chain(curves.iter().map(|curve| curve.requirement));
    let states = states.chain(observed.iter().map(|o| o.requirement)).chain(hazards.iter().map(|h| h.requirement));
    let requirement =
        states.chain([open, requirements::without_cells(plan, &cells)]).max().unwrap_or(RequirementState::NotRequired);
    RunVerdict {
        requires: requirement != RequirementState::NotRequired,
        requirement,
        scope_share: scope(plan, &cells),
        warnings: warnings::of(run, &cells),
        assumed: assumed::of(run, &rows, &cells).into_iter().chain(density::assumed(&curves)).collect(),
        not_tested: not_tested(plan, &cells, &hazards),
        controls: rows,
        slos,
        cells,
        observed,
        hazards,
        curves,
    }
}

/// Judges a run as one of `runs`, each of which may decide what the others leave open: it spends its part of every error
/// rate, so that all of them together err no more often than one alone would (Bonferroni). What a scope takes in blocks
/// follows. The run comes back with the looks of its plan so.
pub fn judge_one_of(mut run: RecordedRun, runs: u32) -> (RecordedRun, RunVerdict) {
    run.manifest.plan.design.share_errors(runs);
    let verdict = judge(&run);
    (run, verdict)
}

/// π* of what was run: of the Isolated with the fewest blocks, or of the design where nothing is Isolated. Episodes lie
/// in the tail: medians see none, whatever the number of blocks. A run of densities alone sees what hits the arms of each.
fn scope(plan: &Plan, cells: &[CellVerdict]) -> Option<f64> {
    let densities =
        !plan.curves.is_empty() && plan.arrangements.iter().all(|arrangement| arrangement.density.is_some());
    if densities && cells.is_empty() {
        return density::scope(plan);
    }
    let isolated = || cells.iter().flat_map(|cell| &cell.series).filter(|s| s.verdict == Verdict::Isolated);
    if isolated().next().is_some() {
        isolated().filter(|s| s.quantile >= TAIL).map(|s| episode_share(s.blocks, s.level)).reduce(f64::max)
    } else {
        let whole = Extent::at(&plan.design, usize::MAX);
        let tail = plan.design.judged.iter().any(|q| *q >= TAIL);
        tail.then(|| episode_share(whole.blocks, whole.passes))
    }
}

/// A share of arms in whole per cent, rounded up: the promise is made for the greater share.
pub(crate) fn scope_percent(share: f64) -> u32 {
    // The millionth takes up what 100 × 0.1 leaves.
    (share * 100.0 - 1e-6).ceil() as u32
}

/// Channels that the run did not test, and those that crosstalk cannot load yet.
fn not_tested(plan: &Plan, cells: &[CellVerdict], hazards: &[HazardVerdict]) -> Vec<String> {
    let mut tested: Vec<Channel> = cells.iter().flat_map(|cell| tested(plan, cell)).collect();
    tested.extend(hazards.iter().filter(|h| h.of > 0).map(|h| plan.hazards[h.hazard].channel));
    let missing = Channel::ALL.iter().filter(|channel| !tested.contains(channel)).map(|channel| channel.id());
    missing.chain(Channel::NOT_BUILT.iter().copied()).map(str::to_owned).collect()
}

/// Channels that a cell tests: its neighbour loads them and ran, and a probe that feels them was judged. Beside an
/// exclusive victim, and as a placebo, the neighbour runs its host loop alone, and nothing is tested.
fn tested(plan: &Plan, cell: &CellVerdict) -> Vec<Channel> {
    let neighbour = &plan.neighbours[cell.neighbour];
    let exclusive = plan.arrangements[cell.arrangement].sharing == SharingMode::Exclusive;
    if exclusive || neighbour.workload == PLACEBO || !cell.neighbour_rate.is_some_and(|rate| rate > 0.0) {
        return Vec::new();
    }
    let judged: Vec<&str> = cell.series.iter().filter(|s| was_judged(&s.verdict)).map(|s| s.series.as_str()).collect();
    let probes = plan.panel.iter().filter(|p| p.series.iter().any(|series| judged.contains(&series.as_str())));
    let felt: Vec<Channel> = probes.flat_map(|probe| probe.channels.iter().copied()).collect();
    neighbour.channels.iter().copied().filter(|channel| felt.contains(channel)).collect()
}

/// Whether the data were fit to be judged, though they may not suffice to decide.
fn was_judged(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Isolated | Verdict::Degraded | Verdict::Violated => true,
        Verdict::Inconclusive { reason } => {
            matches!(reason, Reason::Underpowered { .. } | Reason::ControlUndecided { .. })
        }
        Verdict::Skipped { .. } => false,
    }
}
