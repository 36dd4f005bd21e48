//! The verdict: from a recorded run to a judgement per series × quantile, per cell and per requirement. Pure.
//!
//! Proving isolation is a non-inferiority claim: the null hypothesis is that the neighbour slows the victim by at least
//! the margin. Everything here serves that sentence, and whatever is absent is Inconclusive, never a pass.

mod cause;
mod cell;
mod decide;
#[cfg(test)]
mod known_truth;
mod requirements;
#[cfg(test)]
mod synthetic;
#[cfg(test)]
mod tests;
mod types;
mod validity;

pub use requirements::exit_code;
pub(crate) use requirements::names as accept_names;
pub use types::{Cause, CellVerdict, Interval, Reason, RequirementState, RunVerdict, SeriesVerdict, Verdict, Warning};

use jiff::civil::Date;

use crate::channel::Channel;
use crate::plan::Plan;
use crate::run_dir::RecordedRun;
use crate::scenario::{Arrivals, Tier};
use crate::stats::{blocks_for_share, episode_share};
use crate::workload::PLACEBO;

/// Level of every one-sided bound that an Isolated rests on.
const ALPHA: f64 = 0.01;

/// Judges a recorded run, whole or interrupted.
pub fn judge(run: &RecordedRun) -> RunVerdict {
    let plan = &run.manifest.plan;
    let mut cells = cell::judge_cells(run);
    apply_placebo(plan, &mut cells);
    for cell in &mut cells {
        cell.verdict = decide::overall(cell.verdict.clone(), &cell.series);
        cell.worst = decide::worst(cell);
        requirements::apply(&run.manifest, cell);
    }
    let requirement = cells.iter().map(|cell| cell.requirement).max().unwrap_or(RequirementState::NotRequired);
    RunVerdict {
        requires: requirement != RequirementState::NotRequired,
        requirement,
        scope_share: scope(plan, &cells),
        warnings: warnings(run),
        not_tested: not_tested(run),
        cells,
    }
}

/// A placebo that is not isolated makes every other cell of its arrangement and place Inconclusive, whatever it shows.
fn apply_placebo(plan: &Plan, cells: &mut [CellVerdict]) {
    let is_placebo = |cell: &CellVerdict| plan.neighbours[cell.neighbour].workload == PLACEBO;
    let failed: Vec<(usize, String)> = cells
        .iter()
        .filter(|cell| is_placebo(cell))
        .filter(|cell| cell.series.iter().any(|s| matches!(s.verdict, Verdict::Degraded | Verdict::Violated)))
        .map(|cell| (cell.arrangement, cell.seat.clone()))
        .collect();
    for cell in cells.iter_mut().filter(|cell| !is_placebo(cell)) {
        if failed.iter().any(|(arrangement, seat)| *arrangement == cell.arrangement && *seat == cell.seat) {
            for series in &mut cell.series {
                series.verdict =
                    Verdict::Inconclusive { reason: Reason::ControlFailed { control: "placebo".to_owned() } };
                series.cause = None;
            }
        }
    }
}

/// π* of what was run: of the Isolated with the fewest blocks, or of the design where nothing is Isolated.
fn scope(plan: &Plan, cells: &[CellVerdict]) -> f64 {
    let isolated = cells.iter().flat_map(|cell| &cell.series).filter(|s| s.verdict == Verdict::Isolated);
    episode_share(isolated.map(|s| s.blocks).min().unwrap_or(plan.design.blocks), ALPHA)
}

/// π* that a tier declares (verdict.md, "The design").
fn declared_scope(tier: Tier) -> f64 {
    match tier {
        Tier::Smoke => 0.25,
        Tier::Acceptance => 0.10,
        Tier::Certify => 0.05,
    }
}

/// A share of arms in whole per cent, rounded up: the promise is made for the greater share.
pub(crate) fn scope_percent(share: f64) -> u32 {
    // The millionth takes up what 100 × 0.1 leaves.
    (share * 100.0 - 1e-6).ceil() as u32
}

/// What is risky about a plan, and known before anything is measured: what `check` and `run` say first. `date` is the
/// day by which accepted risks expire.
pub fn foreseen(plan: &Plan, date: Date) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |what: String, advice: &str| warnings.push(Warning { what, advice: advice.to_owned() });
    if !requirements::requires(plan) {
        warn(
            "nothing is required: this run cannot fail".to_owned(),
            "add `require = \"isolated\"` to an arrangement, or keep the run as an observation",
        );
    }
    let needed = blocks_for_share(declared_scope(plan.design.tier), ALPHA);
    if plan.design.blocks < needed {
        warn(
            format!(
                "{} blocks see episodes in at least {} % of the arms; the tier promises {} %",
                plan.design.blocks,
                scope_percent(episode_share(plan.design.blocks, ALPHA)),
                scope_percent(declared_scope(plan.design.tier)),
            ),
            &format!("set `blocks` to {needed} or more"),
        );
    }
    for probe in plan.panel.iter().filter(|probe| matches!(probe.arrivals, Arrivals::Fixed(_))) {
        warn(
            format!("{} arrives at a fixed rate, which can lock in phase with time slices", probe.name),
            "use Poisson arrivals unless the application is periodic",
        );
    }
    for accept in plan.accepted.iter().filter(|accept| accept.until < date) {
        warn(
            format!("the accepted risk for {} expired on {}", accept.cell, accept.until),
            "review it: renew `until`, or remove the entry",
        );
    }
    warnings
}

fn warnings(run: &RecordedRun) -> Vec<Warning> {
    let mut warnings = foreseen(&run.manifest.plan, run.manifest.date);
    if !run.finished {
        warnings.push(Warning {
            what: "the run was not finished: cells with missing arms are not called isolated".to_owned(),
            advice: "go on with `crosstalk run --resume DIR`".to_owned(),
        });
    }
    warnings
}

/// Channels that no neighbour of an arrangement that ran loads, and those that crosstalk cannot load yet.
fn not_tested(run: &RecordedRun) -> Vec<String> {
    let plan = &run.manifest.plan;
    let ran = plan.arrangements.iter().enumerate().filter(|(index, _)| cell::skipped(run, *index).is_none());
    let loaded: Vec<Channel> = ran
        .flat_map(|(_, arrangement)| &arrangement.grids)
        .flat_map(|grid| &grid.neighbours)
        .map(|neighbour| &plan.neighbours[*neighbour])
        .filter(|neighbour| neighbour.workload != PLACEBO)
        .flat_map(|neighbour| neighbour.channels.iter().copied())
        .collect();
    let missing = Channel::ALL.iter().filter(|channel| !loaded.contains(channel)).map(|channel| channel.id());
    missing.chain(Channel::NOT_BUILT.iter().copied()).map(str::to_owned).collect()
}
