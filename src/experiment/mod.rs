//! The experiment: calibration, generations, blocks, arms. It knows no backend.

mod blocks;
pub(crate) mod calibration;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, mpsc};
use std::time::Duration;

use crate::backend::{ArmKey, Backend, BackendError, Session};
use crate::plan::Plan;
use crate::run_dir::{Calibration, Encoded, Manifest, Note, RecordedRun, RunDir, RunDirError, encode};
use crate::units::Nanos;

use blocks::generations;

/// Generations per session that may be run before their turn to be committed.
const AHEAD: usize = 2;

/// The generation in which a session calibrates: its allocations are those of no block.
const CALIBRATION: u32 = u32::MAX;

/// Bringing the tenants up again, on hardware: a context, modules and buffers each (assumed).
const RESTART: Nanos = Nanos::secs(3);

/// How long `plan` takes on a clock: calibration, restarts, washouts and windows. A window that calibration lengthens
/// for a slow probe comes on top, at most to the design's `max_window`.
pub fn estimate(plan: &Plan) -> Nanos {
    let runs = plan.arrangements.iter().filter(|a| a.skipped.is_none());
    runs.flat_map(|a| &a.grids)
        .map(|grid| {
            let windows: Nanos = grid.probes.iter().map(|p| calibration::planned_window(plan, *p)).sum();
            let arms = u64::from(plan.design.blocks) * (grid.neighbours.len() as u64 + 1);
            let restarts = generations(plan, grid).len() as u64 + 1;
            calibration::length(plan, grid) + RESTART * restarts + (plan.design.washout + windows) * arms
        })
        .sum()
}

/// What a run tells while it goes on.
#[derive(Clone, Debug)]
pub enum Progress {
    /// An arrangement is being calibrated.
    Calibrating {
        /// Its index.
        index: usize,
    },
    /// An arrangement begins, with this many arms to run.
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
    /// An arrangement cannot run here.
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
/// already are kept: a generation that lacks some is run again from its restart, and only what is missing is committed.
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
        if let Some(reason) = run.skipped.get(&index) {
            on(Progress::Skipped { index, reason: reason.clone() });
            continue;
        }
        on(Progress::Calibrating { index });
        let calibrated = match &arrangement.skipped {
            Some(reason) => Calibrated::Cannot(reason.clone()),
            None => calibrate(backend, plan, index, dir, run, stop)?,
        };
        match calibrated {
            Calibrated::All => {}
            Calibrated::Interrupted => return Ok(Ended::Interrupted),
            Calibrated::Cannot(reason) => {
                dir.skipped(index, &reason)?;
                run.skipped.insert(index, reason.clone());
                on(Progress::Skipped { index, reason });
                continue;
            }
        }
        let work = remaining(plan, index, run);
        let arms = work.iter().map(|g| g.missing.len() as u64).sum();
        on(Progress::Arrangement { index, arms });
        let calibrations: Vec<Calibration> =
            (0..arrangement.grids.len()).filter_map(|grid| run.calibrations.get(&(index, grid)).cloned()).collect();
        let context = Context { backend, manifest: &manifest, arrangement: index, calibrations: &calibrations, stop };
        context.run_all(&work, &mut |arms| {
            for (key, data) in dir.commit_encoded(arms)? {
                run.arms.insert(key, data);
                on(Progress::Committed { index });
            }
            Ok(())
        })?;
        if stop.load(Ordering::Relaxed) {
            return Ok(Ended::Interrupted);
        }
    }
    Ok(Ended::Complete)
}

enum Calibrated {
    All,
    Cannot(String),
    Interrupted,
}

/// Calibrates every grid of an arrangement; what an earlier session calibrated is kept.
fn calibrate(
    backend: &dyn Backend,
    plan: &Plan,
    arrangement: usize,
    dir: &mut RunDir,
    run: &mut RecordedRun,
    stop: &AtomicBool,
) -> Result<Calibrated, ExperimentError> {
    for grid in 0..plan.arrangements[arrangement].grids.len() {
        if run.calibrations.contains_key(&(arrangement, grid)) {
            continue;
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(Calibrated::Interrupted);
        }
        let calibration = backend.open(plan, arrangement, grid).and_then(|mut session| {
            session.restart(CALIBRATION)?;
            let calibration = calibration::calibrate(plan, arrangement, grid, session.as_mut(), stop)?;
            session.close()?;
            Ok(calibration)
        });
        match calibration {
            Ok(None) => return Ok(Calibrated::Interrupted),
            Ok(Some(calibration)) => {
                dir.calibrated(&calibration)?;
                run.calibrations.insert((arrangement, grid), calibration);
            }
            // No arm of the arrangement has run: it cannot be tested here, and the others can.
            Err(error) => return Ok(Calibrated::Cannot(error.to_string())),
        }
    }
    Ok(Calibrated::All)
}

/// One generation with arms still to be committed.
struct Generation {
    grid: usize,
    number: u32,
    blocks: std::ops::Range<u32>,
    missing: Vec<ArmKey>,
}

fn remaining(plan: &Plan, arrangement: usize, run: &RecordedRun) -> Vec<Generation> {
    let mut work = Vec::new();
    for (grid, planned) in plan.arrangements[arrangement].grids.iter().enumerate() {
        for (number, blocks) in generations(plan, planned) {
            let states = || std::iter::once(None).chain(planned.neighbours.iter().copied().map(Some));
            let keys = blocks
                .clone()
                .flat_map(|block| states().map(move |neighbour| ArmKey { arrangement, grid, block, neighbour }));
            let missing: Vec<ArmKey> = keys.filter(|key| !run.arms.contains_key(key)).collect();
            if !missing.is_empty() {
                work.push(Generation { grid, number, blocks, missing });
            }
        }
    }
    work
}

/// Commits arms, in order.
type Commit<'a> = dyn FnMut(Vec<Encoded>) -> Result<(), ExperimentError> + 'a;

/// A session, with the grid that it was opened for.
type Open<'a> = Option<(usize, Box<dyn Session + 'a>)>;

struct Context<'a> {
    backend: &'a dyn Backend,
    manifest: &'a Manifest,
    arrangement: usize,
    calibrations: &'a [Calibration],
    stop: &'a AtomicBool,
}

impl<'a> Context<'a> {
    /// Runs `work` on as many sessions as the backend has, and commits in order.
    fn run_all(&self, work: &[Generation], commit: &mut Commit<'_>) -> Result<(), ExperimentError> {
        let sessions = self.backend.sessions().min(work.len());
        if sessions <= 1 {
            // One at a time: each arm is committed before the next begins.
            let mut open = None;
            for generation in work {
                self.run_generation(generation, &mut open, &mut |arm| commit(vec![arm]))?;
            }
            return close(open);
        }

        let next = AtomicUsize::new(0);
        let committed = Committed::default();
        let failure: Mutex<Option<ExperimentError>> = Mutex::new(None);
        let failed = AtomicBool::new(false);
        let (send, receive) = mpsc::channel::<(usize, Message)>();
        std::thread::scope(|scope| {
            for _ in 0..sessions {
                let send = send.clone();
                let (next, committed, failure, failed) = (&next, &committed, &failure, &failed);
                scope.spawn(move || {
                    let mut open = None;
                    let mut outcome = Ok(());
                    let ended = || self.stopped() || failed.load(Ordering::Relaxed);
                    while !ended() && outcome.is_ok() {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(generation) = work.get(index) else { break };
                        committed.wait_until_near(index, AHEAD * sessions, &ended);
                        outcome = self.run_generation(generation, &mut open, &mut |encoded| {
                            // The receiver is gone only when the commit failed, and its error is what counts.
                            let _ = send.send((index, Message::Arm(Box::new(encoded))));
                            Ok(())
                        });
                        let _ = send.send((index, Message::End));
                    }
                    if let Err(error) = outcome.and_then(|()| close(open)) {
                        failed.store(true, Ordering::Relaxed);
                        if let Ok(mut first) = failure.lock() {
                            first.get_or_insert(error);
                        }
                    }
                });
            }
            drop(send);
            let outcome = commit_in_order(receive, commit, &committed);
            if outcome.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            outcome
        })?;
        match failure.into_inner() {
            Ok(Some(error)) => Err(error),
            _ => Ok(()),
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Runs one generation from its restart; hands on the arms that are missing.
    fn run_generation(
        &self,
        generation: &Generation,
        open: &mut Open<'a>,
        sink: &mut dyn FnMut(Encoded) -> Result<(), ExperimentError>,
    ) -> Result<(), ExperimentError> {
        let plan = &self.manifest.plan;
        if open.as_ref().is_none_or(|(grid, _)| *grid != generation.grid) {
            close(open.take())?;
            *open = Some((generation.grid, self.backend.open(plan, self.arrangement, generation.grid)?));
        }
        let Some((_, session)) = open else { return Ok(()) };
        session.restart(generation.number)?;
        let calibration = &self.calibrations[generation.grid];
        for block in generation.blocks.clone() {
            for arm in blocks::arms(plan, self.arrangement, generation.grid, block, calibration) {
                if self.stopped() {
                    return Ok(());
                }
                let record = session.run_arm(&arm)?;
                if generation.missing.contains(&arm.key) {
                    sink(encode(self.manifest, &arm.key, &record)?)?;
                }
            }
        }
        Ok(())
    }
}

fn close(open: Open<'_>) -> Result<(), ExperimentError> {
    if let Some((_, session)) = open {
        session.close()?;
    }
    Ok(())
}

/// Generations that are committed, all before this one. Nobody runs far ahead of it: what waits for its turn is lost in
/// a crash.
#[derive(Default)]
struct Committed {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Committed {
    fn up_to(&self, count: usize) {
        if let Ok(mut current) = self.count.lock() {
            *current = count;
        }
        self.changed.notify_all();
    }

    /// Waits until generation `index` is at most `ahead` from the first that is not committed, or the run has ended.
    fn wait_until_near(&self, index: usize, ahead: usize, ended: &dyn Fn() -> bool) {
        let Ok(mut count) = self.count.lock() else { return };
        while index >= *count + ahead && !ended() {
            // The end of a run notifies nobody: look again by the clock.
            match self.changed.wait_timeout(count, Duration::from_millis(20)) {
                Ok((current, _)) => count = current,
                Err(_) => return,
            }
        }
    }
}

enum Message {
    Arm(Box<Encoded>),
    End,
}

/// Commits arms generation by generation, whatever the order in which they arrive.
fn commit_in_order(
    receive: mpsc::Receiver<(usize, Message)>,
    commit: &mut Commit<'_>,
    committed: &Committed,
) -> Result<(), ExperimentError> {
    let mut waiting: BTreeMap<usize, Vec<Message>> = BTreeMap::new();
    let mut current = 0;
    for (index, message) in receive {
        waiting.entry(index).or_default().push(message);
        while let Some(messages) = waiting.get_mut(&current) {
            let mut ended = false;
            let mut arms = Vec::with_capacity(messages.len());
            for message in messages.drain(..) {
                match message {
                    Message::Arm(arm) => arms.push(*arm),
                    Message::End => ended = true,
                }
            }
            if !arms.is_empty() {
                commit(arms)?;
            }
            if !ended {
                break;
            }
            waiting.remove(&current);
            current += 1;
            committed.up_to(current);
        }
    }
    Ok(())
}
