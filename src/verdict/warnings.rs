//! What a reader must know of a run beside its verdicts: what is risky about its plan, and what its data lack.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::looks::Extent;
use super::types::{CellVerdict, Reason, Verdict, Warning};
use super::{PLACEBO, askable, cell, density, hazards, observed, requirements, scope_percent};
use crate::backend::{GpuHealth, HealthChange, Purpose};
use crate::plan::Plan;
use crate::provenance::Provenance;
use crate::run_dir::RecordedRun;
use crate::scenario::{Arrivals, SharingMode};
use crate::stats::{blocks_for_share, episode_share, least_blocks, objective_arms};

/// What is risky about a plan, and known before anything is measured: what `check` and `run` say first. `date` is the
/// day by which accepted risks expire.
pub fn foreseen(plan: &Plan, date: Date) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |what: String, advice: &str| warnings.push(Warning { what, advice: advice.to_owned() });
    let requires = requirements::requires(plan) || observed::requires(plan) || hazards::requires(plan);
    if !requires && !density::requires(plan) {
        let advice = if plan.curves.is_empty() {
            "add `require = \"isolated\"` to an arrangement, or keep the run as an observation"
        } else {
            "add `at_least` to the tenants of a density, or keep the run as an observation"
        };
        warn("nothing is required: this run cannot fail".to_owned(), advice);
    }
    let whole = Extent::at(&plan.design, usize::MAX);
    let level = whole.passes;
    let needed = blocks_for_share(plan.design.tier.scope(), level);
    if plan.design.blocks < needed && !plan.panel.is_empty() {
        warn(
            format!(
                "{} blocks see episodes in at least {} % of the arms; the tier promises {} %",
                plan.design.blocks,
                scope_percent(episode_share(plan.design.blocks, level)),
                scope_percent(plan.design.tier.scope()),
            ),
            &format!("set `blocks` to {needed} or more"),
        );
    }
    let family = plan.design.judged.len() * plan.panel.iter().map(|probe| probe.series.len()).sum::<usize>();
    let levels = whole.levels(family);
    let least = least_blocks(levels.lower).min(least_blocks(levels.upper));
    if family > 0 && plan.design.blocks < least {
        warn(
            format!("{} blocks decide nothing: every bound takes {least} at least", plan.design.blocks),
            "set `blocks` to what the tier's scope takes",
        );
    }
    for probe in plan.panel.iter().filter(|probe| matches!(probe.arrivals, Arrivals::Fixed(_))) {
        warn(
            format!("{} arrives at a fixed rate, which can lock in phase with time slices", probe.name),
            "use Poisson arrivals unless the application is periodic",
        );
    }
    let generations = plan.design.blocks.div_ceil(plan.design.blocks_per_generation.max(1));
    let arms = density::arms(plan).unwrap_or(0).max(objective_arms(whole.alpha));
    let too_few = (plan.design.blocks as usize) < arms || generations < 2;
    for probe in plan.panel.iter().filter(|probe| !probe.slos.is_empty() && too_few) {
        let slos: Vec<String> = probe.slos.iter().map(|slo| format!("{} ≤ {}", slo.quantile, slo.bound)).collect();
        warn(
            format!("the objective of {} ({}) will not be decided", probe.name, slos.join(", ")),
            &format!("take {arms} blocks or more, with a restart of the tenants between some of them"),
        );
    }
    let beside = plan.arrangements.iter().filter(|a| a.skipped.is_none() && a.density.is_none());
    for arrangement in beside {
        let placebo = |n: &usize| plan.neighbours[*n].workload == PLACEBO;
        if arrangement.sharing == SharingMode::Exclusive {
            warn(
                format!(
                    "no noise runs beside an exclusive victim: the cells of {} are a reference, not a test",
                    arrangement.name
                ),
                "require isolation of an arrangement that shares",
            );
        } else if arrangement.grids.iter().any(|grid| !grid.neighbours.is_empty())
            && !arrangement.grids.iter().flat_map(|grid| &grid.neighbours).any(placebo)
        {
            warn(
                format!(
                    "no placebo in {}: whether the neighbour's host loop alone moves the victim is not known",
                    arrangement.name
                ),
                "add a neighbour with `noise = \"idle\"`",
            );
        }
    }
    for accept in plan.accepted.iter().filter(|accept| accept.until < date) {
        warn(
            format!("the accepted risk for {} expired on {}", accept.cell, accept.until),
            "review it: renew `until`, or remove the entry",
        );
    }
    warnings.extend(askable::of(plan));
    warnings
}

/// All warnings of a run: those of its plan, then those of its data.
pub(super) fn of(run: &RecordedRun, cells: &[CellVerdict]) -> Vec<Warning> {
    let mut warnings = foreseen(&run.manifest.plan, run.manifest.date);
    if !run.finished {
        warnings.push(Warning {
            what: "the run was not finished: cells with missing arms are not called isolated".to_owned(),
            advice: "go on with `crosstalk run --resume DIR`".to_owned(),
        });
    }
    warnings.extend(lost(run));
    warnings.extend(health(run));
    warnings.extend(undecided_placebos(run, cells));
    // Nobody reads anything in the arms of the sampler control.
    let read = run.arms.iter().filter(|(key, _)| key.purpose != Purpose::Unsampled).map(|(_, arm)| arm);
    let unread = read.filter(|arm| arm.summary.sm_mhz.is_none() || arm.summary.throttled.is_none()).count();
    if unread > 0 {
        warnings.push(Warning {
            what: format!(
                "clock or throttling not readable: in {unread} of {} arms nobody knows whether the GPU was awake and at \
                 full clock",
                run.arms.len()
            ),
            advice: "give the tenants access to NVML's clocks and throttle reasons".to_owned(),
        });
    }
    // Virtual time has no health.
    let ill = run.arms.values().filter(|arm| arm.summary.health.is_none()).count();
    if ill > 0 && run.manifest.provenance != Provenance::Simulated {
        warnings.push(Warning {
            what: format!(
                "health not readable: in {ill} of {} arms nobody knows whether the GPU was well",
                run.arms.len()
            ),
            advice: "give crosstalk access to NVML's memory errors and PCIe link".to_owned(),
        });
    }
    warnings
}

/// Arms that were lost, by reason, and arrangements that were given up.
fn lost(run: &RecordedRun) -> Vec<Warning> {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in run.lost.values() {
        *reasons.entry(reason).or_default() += 1;
    }
    let advice = "find out why before the run counts as complete: cells that lack arms are not called isolated";
    let arms = reasons.into_iter().map(|(reason, count)| match count {
        1 => format!("an arm was lost: {reason}"),
        _ => format!("{count} arms were lost: {reason}"),
    });
    let given_up = run.given_up.iter().map(|(index, reason)| {
        format!("{} was given up before its end: {reason}", run.manifest.plan.arrangements[*index].name)
    });
    arms.chain(given_up).map(|what| Warning { what, advice: advice.to_owned() }).collect()
}

/// What became worse with the GPU while the run measured, in one line. What was grave has ended its arm besides.
fn health(run: &RecordedRun) -> Option<Warning> {
    let readings = run.arms.values().filter_map(|arm| {
        let after = arm.summary.health.as_ref()?;
        Some((arm.summary.health_before.as_ref().unwrap_or(after), after))
    });
    // What the whole run has seen: counters rise, so their least and their greatest values are its two ends.
    let (mut first, mut last): (Option<GpuHealth>, Option<GpuHealth>) = (None, None);
    let (mut arms, mut slower) = (0, None);
    for (before, after) in readings {
        let changes = after.worse_since(before);
        arms += usize::from(!changes.is_empty());
        // An idle link falls by itself: only one that fell in an arm is told of.
        slower = slower.or(changes.into_iter().find(|change| matches!(change, HealthChange::Slower { .. })));
        for reading in [before, after] {
            first = Some(first.map_or_else(|| reading.clone(), |best| best.better_of(reading)));
            last = Some(last.map_or_else(|| reading.clone(), |worst| worst.worse_of(reading)));
        }
    }
    let (first, last) = first.zip(last)?;
    let fell = |change: &HealthChange| !matches!(change, HealthChange::Slower { .. });
    let changes: Vec<String> =
        last.worse_since(&first).into_iter().filter(fell).chain(slower).map(HealthChange::words).collect();
    let advice = "see `health` of the arms in events.jsonl, and `crosstalk doctor`: reseat a card whose link replays, reset or \
                  replace one whose memory fails";
    (!changes.is_empty()).then(|| Warning {
        what: format!("the GPU's health became worse, in {arms} arm(s) that count: {}", changes.join("; ")),
        advice: advice.to_owned(),
    })
}

/// Per arrangement, a placebo that neither holds nor moves: the control says nothing about the other cells.
fn undecided_placebos(run: &RecordedRun, cells: &[CellVerdict]) -> Vec<Warning> {
    let plan = &run.manifest.plan;
    let mut warnings = Vec::new();
    for (index, arrangement) in plan.arrangements.iter().enumerate() {
        if arrangement.sharing == SharingMode::Exclusive || cell::skipped(run, index).is_some() {
            continue;
        }
        let undecided = |cell: &CellVerdict| match &cell.verdict {
            Verdict::Inconclusive { reason: Reason::QuietArmNotAwake } => None,
            Verdict::Inconclusive { reason } => Some(reason.words()),
            _ => None,
        };
        let mut placebos = cells
            .iter()
            .filter(|cell| cell.arrangement == index && plan.neighbours[cell.neighbour].workload == PLACEBO);
        if let Some(words) = placebos.find_map(undecided) {
            warnings.push(Warning {
                what: format!("the placebo of {} is inconclusive: {words}", arrangement.name),
                advice: "read its other cells with care until the placebo is isolated".to_owned(),
            });
        }
    }
    warnings
}
