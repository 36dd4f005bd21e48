//! Densities: equal tenants in growing numbers, each density an arrangement of its own; which one is measured next follows
//! from those that were.

use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};

use super::sessions::{Context, GivenUp, Sessions};
use super::{ExperimentError, Progress, give_up, looks, record};
use crate::backend::Backend;
use crate::plan::{Density, Plan};
use crate::run_dir::{Calibration, ProbeCalibration, RecordedRun, RunDir};
use crate::scenario::Arrivals;
use crate::units::Rate;
use crate::verdict;

/// Measures what every curve of the plan needs; whether it was let.
pub(super) fn run(
    backend: &dyn Backend,
    dir: &mut RunDir,
    run: &mut RecordedRun,
    stop: &AtomicBool,
    on: &mut dyn FnMut(Progress),
) -> Result<bool, ExperimentError> {
    for curve in 0..run.manifest.plan.curves.len() {
        skip(curve, dir, run, on)?;
        let mut before = None;
        while let Some(index) = verdict::next_density(run, curve) {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            // What was run and lacks arms all the same would be run for ever.
            match before.replace(index) {
                Some(same) if same == index => {
                    give_up(index, "its arms were neither measured nor lost".to_owned(), dir, run, on)?
                }
                _ => measure(backend, index, dir, run, stop, on)?,
            }
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes down which densities cannot be here.
fn skip(
    curve: usize,
    dir: &mut RunDir,
    run: &mut RecordedRun,
    on: &mut dyn FnMut(Progress),
) -> Result<(), ExperimentError> {
    let plan = &run.manifest.plan;
    let levels = plan.curves[curve].levels.iter().map(|level| level.arrangement);
    let cannot = levels.filter_map(|index| Some((index, plan.arrangements[index].skipped.clone()?)));
    for (index, reason) in cannot.collect::<Vec<_>>() {
        if let Entry::Vacant(entry) = run.skipped.entry(index) {
            dir.skipped(index, &reason)?;
            entry.insert(reason.clone());
        }
        on(Progress::Skipped { index, reason });
    }
    Ok(())
}

/// Runs what is missing of one density.
fn measure(
    backend: &dyn Backend,
    index: usize,
    dir: &mut RunDir,
    run: &mut RecordedRun,
    stop: &AtomicBool,
    on: &mut dyn FnMut(Progress),
) -> Result<(), ExperimentError> {
    let manifest = run.manifest.clone();
    let Some(calibration) = calibration(&manifest.plan, index) else { return Ok(()) };
    if let Entry::Vacant(entry) = run.calibrations.entry((index, 0)) {
        dir.calibrated(&calibration)?;
        entry.insert(calibration.clone());
    }
    on(Progress::Arrangement { index, arms: looks::left(run, index) });
    let calibrations = [calibration];
    let context = Context { backend, manifest: &manifest, arrangement: index, calibrations: &calibrations, stop };
    let stages = 0..looks::stages(&manifest.plan);
    let work: Vec<_> = stages.flat_map(|stage| looks::remaining(run, index, 0, stage)).collect();
    let mut sessions = Sessions::default();
    let given_up = context.run_all(&mut sessions, &work, &mut |happened| record(dir, run, index, happened, on))?;
    sessions.close()?;
    match given_up {
        GivenUp(Some(reason)) => give_up(index, reason, dir, run, on),
        GivenUp(None) => Ok(()),
    }
}

/// What the arms of a density need to know: nothing of it is found out, for load and windows are the plan's.
pub(crate) fn calibration(plan: &Plan, arrangement: usize) -> Option<Calibration> {
    let planned = &plan.arrangements[arrangement];
    let Density { window, .. } = planned.density?;
    let probes = planned.grids.first()?.probes.iter().map(|probe| ProbeCalibration {
        probe: *probe,
        closed_rate: None,
        rate: rate(plan, *probe),
        window,
        judged: Vec::new(),
        delay: None,
    });
    Some(Calibration { arrangement, grid: 0, probes: probes.collect(), neighbours: Vec::new(), turns: None })
}

/// The user's own load: a probe without one is in no density.
fn rate(plan: &Plan, probe: usize) -> Rate {
    match plan.panel[probe].arrivals {
        Arrivals::Poisson(rate) | Arrivals::Fixed(rate) => rate,
        Arrivals::Auto => Rate::default(),
    }
}
