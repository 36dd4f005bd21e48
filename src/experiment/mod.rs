//! The experiment: calibration, generations, blocks, arms. It knows no backend.

pub(crate) mod blocks;
pub(crate) mod calibration;
pub(crate) mod density;
mod hazards;
mod length;
mod looks;
mod observe;
mod sessions;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::backend::{ArmKey, ArmPlan, Backend, BackendError, Company, Purpose, Reach, Session, Window};
use crate::plan::Plan;
use crate::run_dir::{Calibration, Note, RecordedRun, RunDir, RunDirError};

use observe::turns;
use sessions::{Context, GivenUp, Happened, Sessions};

pub(crate) use blocks::order;
pub(crate) use hazards::due as hazards_due;
pub use length::{Length, PlaceLength, TooLong, lengths, one_place_each, too_long};
pub use looks::planned_arms;
pub(crate) use observe::{observing, untold};

/// The generation in which a session calibrates: its allocations are those of no block.
const CALIBRATION: u32 = u32::MAX;

/// Arms lost in a row, after each of which the tenants were brought up anew, before an arrangement is given up.
const LOST_IN_A_ROW: u32 = 3;

/// What a run tells while it goes on.
#[derive(Clone, Debug)]
pub enum Progress {
    /// An arrangement is being calibrated.
    Calibrating {
        /// Its index.
        index: usize,
    },
    /// An arrangement begins, or neighbours have stopped early in it: so many arms are to be run.
    Arrangement {
        /// Its index.
        index: usize,
        /// Arms that are still to be run.
        arms: u64,
    },
    /// One arm is committed.
    Committed {
        /// Index of its arrangement.
        index: usize,
    },
    /// One arm, or a calibration, could not be measured to its end.
    Lost {
        /// Index of its arrangement.
        index: usize,
        /// Why.
        reason: String,
    },
    /// A hazard is being tried, after all arms.
    Hazard {
        /// Index of its arrangement.
        index: usize,
        /// Its name.
        name: String,
    },
    /// An arrangement cannot run here, or not to its end.
    Skipped {
        /// Its index.
        index: usize,
        /// Why.
        reason: String,
    },
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every arm of the plan is committed.
    Complete,
    /// It was asked to stop; what was measured is committed.
    Interrupted,
}

/// What ended a run early. What was measured is committed.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The run directory could not be written.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
}

/// Runs the plan of `run` on `backend` and commits every arm to `dir` and to `run`, in plan order. Arms that `run` has
/// already are kept. In virtual time a generation that lacks some is run again from its restart, and only what is missing
/// is committed; elsewhere what is missing are whole blocks, and those alone are run.
///
/// An arm that is lost (a tenant died, hung or spoke garbage) leaves its block as it is: the tenants are brought up anew
/// for the next one. Several in a row end the arrangement, never the run.
///
/// # Errors
/// Where the backend or the run directory fails.
pub fn run(
    backend: &dyn Backend,
    dir: &mut RunDir,
    run: &mut RecordedRun,
    stop: &AtomicBool,
    on: &mut dyn FnMut(Progress),
) -> Result<Ended, ExperimentError> {
    let ended = run_arrangements(backend, dir, run, stop, on)?;
    match ended {
        Ended::Complete => run.finished = true,
        Ended::Interrupted => dir.note(&Note::Interrupted {})?,
    }
    Ok(ended)
}

fn run_arrangements(
    backend: &dyn Backend,
    dir: &mut RunDir,
    run: &mut RecordedRun,
    stop: &AtomicBool,
    on: &mut dyn FnMut(Progress),
) -> Result<Ended, ExperimentError> {
    let manifest = run.manifest.clone();
    let plan = &manifest.plan;
    for (index, arrangement) in plan.arrangements.iter().enumerate() {
        // Which densities are measured, and when, is their curve's to say.
        if arrangement.density.is_some() {
            continue;
        }
        if let Some(reason) = run.skipped.get(&index) {
            on(Progress::Skipped { index, reason: reason.clone() });
            continue;
        }
        on(Progress::Calibrating { index });
        let calibrated = match &arrangement.skipped {
            Some(reason) => Calibrated::Cannot(reason.clone()),
            None => calibrate(backend, plan, index, dir, run, stop, on)?,
        };
        match calibrated {
            Calibrated::All => {
                if !observe::rest(backend, plan, index, dir, run, stop, on)? {
                    return Ok(Ended::Interrupted);
                }
            }
            Calibrated::Interrupted => return Ok(Ended::Interrupted),
            Calibrated::Cannot(reason) => {
                dir.skipped(index, &reason)?;
                run.skipped.insert(index, reason.clone());
                on(Progress::Skipped { index, reason });
                continue;
            }
        }
        on(Progress::Arrangement { index, arms: looks::left(run, index) });
        let calibrations: Vec<Calibration> =
            (0..arrangement.grids.len()).filter_map(|grid| run.calibrations.get(&(index, grid)).cloned()).collect();
        let context = Context { backend, manifest: &manifest, arrangement: index, calibrations: &calibrations, stop };
        if let GivenUp(Some(reason)) = run_grids(&context, dir, run, on)? {
            give_up(index, reason, dir, run, on)?;
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(Ended::Interrupted);
        }
    }
    if !density::run(backend, dir, run, stop, on)? {
        return Ok(Ended::Interrupted);
    }
    Ok(if hazards::run(backend, dir, run, stop, on)? { Ended::Complete } else { Ended::Interrupted })
}

/// Runs the grids of an arrangement stage by stage; where a stage ends with a look, those of which everything is decided stop.
fn run_grids(
    context: &Context<'_>,
    dir: &mut RunDir,
    run: &mut RecordedRun,
    on: &mut dyn FnMut(Progress),
) -> Result<GivenUp, ExperimentError> {
    let (plan, index) = (&context.manifest.plan, context.arrangement);
    let mut sessions = Sessions::default();
    let mut work = Vec::new();
    for grid in 0..plan.arrangements[index].grids.len() {
        for stage in 0..looks::stages(plan) {
            work.extend(looks::remaining(run, index, grid, stage));
            if stage + 1 == looks::stages(plan) {
                continue;
            }
            let given_up =
                context.run_all(&mut sessions, &work, &mut |happened| record(dir, run, index, happened, on))?;
            work.clear();
            if given_up.0.is_some() || context.stopped() {
                sessions.close()?;
                return Ok(given_up);
            }
            let decided = looks::take(run, index, grid, stage);
            for neighbour in &decided {
                dir.stopped(index, grid, *neighbour, stage)?;
                run.stopped.insert((index, grid, *neighbour), stage);
            }
            if !decided.is_empty() {
                on(Progress::Arrangement { index, arms: looks::left(run, index) });
            }
        }
    }
    let given_up = context.run_all(&mut sessions, &work, &mut |happened| record(dir, run, index, happened, on))?;
    sessions.close()?;
    Ok(given_up)
}

/// Writes down that nothing more of an arrangement is measured.
fn give_up(
    index: usize,
    reason: String,
    dir: &mut RunDir,
    run: &mut RecordedRun,
    on: &mut dyn FnMut(Progress),
) -> Result<(), ExperimentError> {
    dir.given_up(index, &reason)?;
    run.given_up.insert(index, reason.clone());
    on(Progress::Skipped { index, reason });
    Ok(())
}

/// Writes down what happened in arrangement `index`, in order.
fn record(
    dir: &mut RunDir,
    run: &mut RecordedRun,
    index: usize,
    happened: Vec<Happened>,
    on: &mut dyn FnMut(Progress),
) -> Result<(), ExperimentError> {
    let mut arms = Vec::with_capacity(happened.len());
    for happened in happened {
        match happened {
            Happened::Arm(arm) => arms.push(*arm),
            Happened::Arranged { grid, generation, company, evidence } => {
                dir.arranged(index, grid, Some(generation), company, evidence.clone())?;
                run.proof.arranged(index, grid, company, evidence);
            }
            Happened::NoControl { grid, purpose, missing, reason } => {
                let of_it = |arm: &&ArmKey| (arm.arrangement, arm.grid, arm.purpose) == (index, grid, purpose);
                if run.arms.keys().any(|arm| of_it(&arm)) {
                    // It could be run before: arms of it are lost, and it was not impossible.
                    for arm in missing.into_iter().filter(|arm| !run.arms.contains_key(arm)) {
                        dir.lost(&arm, &reason)?;
                        run.lost.insert(arm, reason.clone());
                    }
                } else {
                    dir.no_control(index, grid, purpose, &reason)?;
                    run.no_control.insert((index, grid, purpose), reason);
                }
            }
            Happened::Lost { arm, reason } => {
                dir.lost(&arm, &reason)?;
                run.lost.insert(arm, reason.clone());
                on(Progress::Lost { index, reason });
            }
        }
    }
    for (key, data) in dir.commit_encoded(arms)? {
        run.arms.insert(key, data);
        on(Progress::Committed { index });
    }
    Ok(())
}

/// Opens a session of a grid for arms of no block, brings its tenants up, and closes it again, whatever happens.
fn in_session<T>(
    backend: &dyn Backend,
    plan: &Plan,
    (arrangement, grid): (usize, usize),
    work: impl FnOnce(&mut dyn Session) -> Result<T, BackendError>,
) -> Result<T, BackendError> {
    open(backend, plan, (arrangement, grid), |session| {
        session.restart(CALIBRATION, Company::Beside)?;
        work(session)
    })
}

/// Opens a session of a grid, and closes it again, whatever happens.
fn open<T>(
    backend: &dyn Backend,
    plan: &Plan,
    (arrangement, grid): (usize, usize),
    work: impl FnOnce(&mut dyn Session) -> Result<T, BackendError>,
) -> Result<T, BackendError> {
    let mut session = backend.open(plan, arrangement, grid)?;
    let worked = work(session.as_mut());
    match (worked, session.close()) {
        (worked, Ok(())) => worked,
        (Ok(_), Err(left)) => Err(left),
        // What was changed is not put back: nothing more is measured on such a machine.
        (Err(error), Err(left)) => Err(BackendError::device(format!("{}; and {}", error.what, left.what))),
    }
}

/// An arm that belongs to no block: of calibration, or of an observation.
fn arm_of_no_block(
    plan: &Plan,
    (arrangement, grid): (usize, usize),
    noise: Option<usize>,
    windows: Vec<Window>,
) -> ArmPlan {
    ArmPlan {
        key: ArmKey { arrangement, grid, block: u32::MAX, neighbour: noise, purpose: Purpose::Block },
        noise,
        windows,
        washout: plan.design.washout,
        drain: plan.design.drain,
        sampled: true,
    }
}

enum Calibrated {
    All,
    Cannot(String),
    Interrupted,
}

/// Calibrates every grid of an arrangement; what an earlier session calibrated is kept. A calibration that is lost with a
/// tenant begins anew, as an arm would.
fn calibrate(
    backend: &dyn Backend,
    plan: &Plan,
    arrangement: usize,
    dir: &mut RunDir,
    run: &mut RecordedRun,
    stop: &AtomicBool,
    on: &mut dyn FnMut(Progress),
) -> Result<Calibrated, ExperimentError> {
    let mut grid = 0;
    let mut lost = 0;
    while grid < plan.arrangements[arrangement].grids.len() {
        // A place where hazards alone are tried has no arms.
        let bare = plan.arrangements[arrangement].grids[grid].neighbours.is_empty();
        if bare || run.calibrations.contains_key(&(arrangement, grid)) {
            (grid, lost) = (grid + 1, 0);
            continue;
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(Calibrated::Interrupted);
        }
        let due = observe::due(plan, arrangement, run);
        let calibration = in_session(backend, plan, (arrangement, grid), |session| {
            let evidence = session.evidence();
            let calibration = calibration::calibrate(plan, arrangement, grid, session, stop)?;
            let Some(calibration) = calibration else { return Ok(None) };
            let made = observe::here(plan, (arrangement, grid), &due, calibration.turns, session, stop)?;
            Ok(Some((calibration, evidence, made)))
        });
        match calibration {
            Ok(None) => return Ok(Calibrated::Interrupted),
            Ok(Some((calibration, evidence, made))) => {
                if !evidence.seats.is_empty() {
                    dir.arranged(arrangement, grid, None, Company::Beside, evidence.clone())?;
                    run.proof.arranged(arrangement, grid, Company::Beside, evidence);
                }
                dir.calibrated(&calibration)?;
                run.calibrations.insert((arrangement, grid), calibration);
                observe::record(arrangement, made, dir, run, on)?;
            }
            Err(error) if error.reach == Reach::Device => return Err(error.into()),
            Err(error) if error.reach == Reach::Arm && lost + 1 < LOST_IN_A_ROW => {
                lost += 1;
                let reason = error.what;
                dir.note(&Note::CalibrationLost { arrangement, grid, reason: reason.clone() })?;
                on(Progress::Lost { index: arrangement, reason });
            }
            // No arm of the arrangement has run: it cannot be tested here, and the others can.
            Err(error) => return Ok(Calibrated::Cannot(error.to_string())),
        }
    }
    Ok(Calibrated::All)
}
