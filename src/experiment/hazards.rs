//! Hazards: tried after every arm of every arrangement, each in a session of its own, so that no arm comes after one of them.
//! Faults come last, for they may leave the GPU in a state that nobody knows.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{ExperimentError, LOST_IN_A_ROW, Progress, open};
use crate::backend::{Backend, BackendError, Reach};
use crate::hazard::{Came, FAULT, Tried};
use crate::plan::Plan;
use crate::run_dir::{Note, RecordedRun, RunDir};

/// One hazard in one place of the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) arrangement: usize,
    /// Index of the first grid with that place.
    pub(super) grid: usize,
    pub(super) victim: usize,
    pub(crate) hazard: usize,
}

/// What the plan asks for and `run` has not, in order.
pub(crate) fn due(run: &RecordedRun) -> Vec<Due> {
    let plan = &run.manifest.plan;
    let mut all: Vec<Due> = (0..plan.arrangements.len()).flat_map(|index| of(plan, index)).collect();
    let made = |due: &Due| {
        let same = |t: &Tried| (t.arrangement, t.victim, t.hazard) == (due.arrangement, due.victim, due.hazard);
        run.tried.iter().any(same)
    };
    all.retain(|due| !made(due) && !run.skipped.contains_key(&due.arrangement));
    all.sort_by_key(|due| plan.hazards[due.hazard].hazard == FAULT.id);
    all
}

/// Every hazard of an arrangement that can be arranged, in every place of the victim.
pub(super) fn of(plan: &Plan, arrangement: usize) -> Vec<Due> {
    let planned = &plan.arrangements[arrangement];
    if planned.skipped.is_some() {
        return Vec::new();
    }
    let mut due: Vec<Due> = Vec::new();
    for &hazard in &planned.hazards {
        for (grid, of) in planned.grids.iter().enumerate() {
            let victim = of.victim;
            if !due.iter().any(|due| (due.victim, due.hazard) == (victim, hazard)) {
                due.push(Due { arrangement, grid, victim, hazard });
            }
        }
    }
    due
}

/// Tries what is due; `false` where it is asked to stop. What is lost with a process is tried anew, a few times.
///
/// # Errors
/// Where the device is lost, or the run directory cannot be written.
pub(super) fn run(
    backend: &dyn Backend,
    dir: &mut RunDir,
    run: &mut RecordedRun,
    stop: &AtomicBool,
    on: &mut dyn FnMut(Progress),
) -> Result<bool, ExperimentError> {
    let manifest = run.manifest.clone();
    let plan = &manifest.plan;
    for due in due(run) {
        let Due { arrangement, victim, hazard, .. } = due;
        on(Progress::Hazard { index: arrangement, name: plan.hazards[hazard].name.clone() });
        let mut lost = 0;
        let came = loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            match attempt(backend, plan, due) {
                Ok(came) => break came,
                Err(error) if error.reach == Reach::Device => return Err(error.into()),
                Err(error) if error.reach == Reach::Arm && lost + 1 < LOST_IN_A_ROW => {
                    lost += 1;
                    let (name, reason) = (plan.hazards[hazard].name.clone(), error.what);
                    dir.note(&Note::HazardLost { arrangement, name, reason: reason.clone() })?;
                    on(Progress::Lost { index: arrangement, reason });
                }
                Err(error) => break Came::Untold { why: error.what },
            }
        };
        let lost = if let Came::Faults(faults) = &came { faults.lost.clone() } else { None };
        let tried = Tried { arrangement, victim, hazard, came };
        dir.tried(&tried)?;
        run.tried.push(tried);
        // What was tried until then is kept; nothing more can be, on such a device.
        if let Some(lost) = lost {
            return Err(BackendError::device(lost).into());
        }
    }
    Ok(true)
}

fn attempt(backend: &dyn Backend, plan: &Plan, due: Due) -> Result<Came, BackendError> {
    open(backend, plan, (due.arrangement, due.grid), |session| session.try_hazard(due.hazard))
}
