//! The experiment: calibration, generations, blocks, arms. It knows no backend.

mod blocks;
pub(crate) mod calibration;
mod length;
mod observe;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, mpsc};
use std::time::Duration;

use crate::backend::{ArmKey, Backend, BackendError, Company, Evidence, Purpose, Reach, Session};
use crate::plan::Plan;
use crate::provenance::Provenance;
use crate::run_dir::{Calibration, Encoded, Manifest, Note, RecordedRun, RunDir, RunDirError, encode};

use blocks::generations;
use observe::turns;

pub(crate) use observe::observing;

pub use length::{Length, PlaceLength, lengths, one_place_each};

/// Generations per session that may be run before their turn to be committed.
const AHEAD: usize = 2;

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
    /// One arm, or a calibration, could not be measured to its end.
    Lost {
        /// Index of its arrangement.
        index: usize,
        /// Why.
        reason: String,
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
        let work = remaining(plan, index, run);
        let arms = work.iter().map(|g| g.missing.len() as u64).sum();
        on(Progress::Arrangement { index, arms });
        let calibrations: Vec<Calibration> =
            (0..arrangement.grids.len()).filter_map(|grid| run.calibrations.get(&(index, grid)).cloned()).collect();
        let context = Context { backend, manifest: &manifest, arrangement: index, calibrations: &calibrations, stop };
        let given_up = context.run_all(&work, &mut |happened| record(dir, run, index, happened, on))?;
        if let GivenUp(Some(reason)) = given_up {
            dir.given_up(index, &reason)?;
            run.given_up.insert(index, reason.clone());
            on(Progress::Skipped { index, reason });
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(Ended::Interrupted);
        }
    }
    Ok(Ended::Complete)
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
            Happened::Arranged { grid, generation, evidence } => {
                dir.arranged(index, grid, Some(generation), evidence)?;
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
        if run.calibrations.contains_key(&(arrangement, grid)) {
            (grid, lost) = (grid + 1, 0);
            continue;
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(Calibrated::Interrupted);
        }
        let due = observe::due(plan, arrangement, run);
        let calibration = backend.open(plan, arrangement, grid).and_then(|mut session| {
            let calibrated = session.restart(CALIBRATION, Company::Beside).and_then(|()| {
                let evidence = session.evidence();
                let calibration = calibration::calibrate(plan, arrangement, grid, session.as_mut(), stop)?;
                let Some(calibration) = calibration else { return Ok(None) };
                let made = observe::here(plan, (arrangement, grid), &due, calibration.turns, session.as_mut(), stop)?;
                Ok(Some((calibration, evidence, made)))
            });
            match (calibrated, session.close()) {
                (calibrated, Ok(())) => calibrated,
                (Ok(_), Err(left)) => Err(left),
                // What was changed is not put back: nothing more is measured on such a machine.
                (Err(error), Err(left)) => Err(BackendError::device(format!("{}; and {}", error.what, left.what))),
            }
        });
        match calibration {
            Ok(None) => return Ok(Calibrated::Interrupted),
            Ok(Some((calibration, evidence, made))) => {
                if !evidence.seats.is_empty() {
                    dir.arranged(arrangement, grid, None, evidence)?;
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
            let keys = blocks.clone().flat_map(|block| {
                states().map(move |neighbour| ArmKey { arrangement, grid, block, neighbour, purpose: Purpose::Block })
            });
            let missing: Vec<ArmKey> = keys.filter(|key| !run.arms.contains_key(key)).collect();
            if !missing.is_empty() {
                work.push(Generation { grid, number, blocks, missing });
            }
        }
    }
    work
}

/// What happens while an arrangement runs.
enum Happened {
    /// An arm was measured.
    Arm(Box<Encoded>),
    /// The tenants of a generation are up.
    Arranged { grid: usize, generation: u32, evidence: Evidence },
    /// An arm was lost.
    Lost { arm: ArmKey, reason: String },
}

/// Why an arrangement was not run to its end, where it was not.
struct GivenUp(Option<String>);

/// Writes down what happened, in order.
type Record<'a> = dyn FnMut(Vec<Happened>) -> Result<(), ExperimentError> + 'a;

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
    /// Runs `work` on as many sessions as the backend has, and has it written down in order.
    fn run_all(&self, work: &[Generation], record: &mut Record<'_>) -> Result<GivenUp, ExperimentError> {
        let sessions = self.backend.sessions().min(work.len());
        if sessions <= 1 {
            // One at a time: each arm is committed before the next begins.
            let mut open = None;
            let mut lost = 0;
            for generation in work {
                let given_up = match self
                    .run_generation(generation, &mut open, &mut lost, &mut |happened| record(vec![happened]))
                {
                    Ok(given_up) => given_up,
                    Err(error) => {
                        return Err(match close(open) {
                            Ok(()) => error,
                            Err(left) => after(&error, &left),
                        });
                    }
                };
                if given_up.0.is_some() {
                    close(open)?;
                    return Ok(given_up);
                }
            }
            close(open)?;
            return Ok(GivenUp(None));
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
                    let mut lost = 0;
                    let mut outcome = Ok(GivenUp(None));
                    let ended = || self.stopped() || failed.load(Ordering::Relaxed);
                    while !ended() && outcome.is_ok() {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(generation) = work.get(index) else { break };
                        committed.wait_until_near(index, AHEAD * sessions, &ended);
                        outcome = self.run_generation(generation, &mut open, &mut lost, &mut |happened| {
                            // The receiver is gone only when the commit failed, and its error is what counts.
                            let _ = send.send((index, Message::Happened(happened)));
                            Ok(())
                        });
                        let _ = send.send((index, Message::End));
                    }
                    if let Err(error) = outcome.and_then(|_| close(open)) {
                        failed.store(true, Ordering::Relaxed);
                        if let Ok(mut first) = failure.lock() {
                            first.get_or_insert(error);
                        }
                    }
                });
            }
            drop(send);
            let outcome = record_in_order(receive, record, &committed);
            if outcome.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            outcome
        })?;
        match failure.into_inner() {
            Ok(Some(error)) => Err(error),
            // Sessions side by side are those of the simulator, whose tenants do not die.
            _ => Ok(GivenUp(None)),
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Runs one generation from its restart; hands on the arms that are missing. `lost` counts the arms lost in a row.
    fn run_generation(
        &self,
        generation: &Generation,
        open: &mut Open<'a>,
        lost: &mut u32,
        sink: &mut dyn FnMut(Happened) -> Result<(), ExperimentError>,
    ) -> Result<GivenUp, ExperimentError> {
        let plan = &self.manifest.plan;
        if open.as_ref().is_none_or(|(grid, _)| *grid != generation.grid) {
            close(open.take())?;
            let session = match self.backend.open(plan, self.arrangement, generation.grid) {
                Ok(session) => session,
                Err(error) if error.reach == Reach::Device => return Err(error.into()),
                Err(error) => return Ok(GivenUp(Some(error.what))),
            };
            *open = Some((generation.grid, session));
        }
        let Some((_, session)) = open else { return Ok(GivenUp(None)) };
        let repeats = self.backend.provenance() == Provenance::Simulated;
        let calibration = &self.calibrations[generation.grid];
        let mut up = false;
        for block in generation.blocks.clone() {
            let missing = |key: &ArmKey| generation.missing.contains(key);
            let arms = blocks::arms(plan, self.arrangement, generation.grid, block, calibration);
            // Virtual time repeats what was committed, to come to the same state.
            if !repeats && !arms.iter().any(|arm| missing(&arm.key)) {
                continue;
            }
            for arm in arms {
                if self.stopped() {
                    return Ok(GivenUp(None));
                }
                let outcome = self.bring_up(session.as_mut(), generation, &mut up, sink)?;
                match outcome.and_then(|()| session.run_arm(&arm)) {
                    Ok(record) => {
                        *lost = 0;
                        if missing(&arm.key) {
                            sink(Happened::Arm(Box::new(encode(self.manifest, &arm.key, &record)?)))?;
                        }
                    }
                    Err(error) if error.reach == Reach::Arm => {
                        *lost += 1;
                        sink(Happened::Lost { arm: arm.key, reason: error.what.clone() })?;
                        if *lost >= LOST_IN_A_ROW {
                            return Ok(GivenUp(Some(format!("{lost} arms in a row were lost: {error}"))));
                        }
                        // The rest of the block would run on other tenants than its quiet arm.
                        up = false;
                        break;
                    }
                    Err(error) if error.reach == Reach::Arrangement => return Ok(GivenUp(Some(error.what))),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(GivenUp(None))
    }

    /// Brings the tenants up where they are not. The inner error is theirs; the outer one is that of the record.
    fn bring_up(
        &self,
        session: &mut dyn Session,
        generation: &Generation,
        up: &mut bool,
        sink: &mut dyn FnMut(Happened) -> Result<(), ExperimentError>,
    ) -> Result<Result<(), BackendError>, ExperimentError> {
        if *up {
            return Ok(Ok(()));
        }
        if let Err(error) = session.restart(generation.number, Company::Beside) {
            return Ok(Err(error));
        }
        *up = true;
        let evidence = session.evidence();
        if !evidence.seats.is_empty() {
            sink(Happened::Arranged { grid: generation.grid, generation: generation.number, evidence })?;
        }
        Ok(Ok(()))
    }
}

/// What ended a run, after which something could not be put back.
fn after(error: &ExperimentError, left: &ExperimentError) -> ExperimentError {
    BackendError::device(format!("{error}; and {left}")).into()
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
    Happened(Happened),
    End,
}

/// Has what happened written down generation by generation, whatever the order in which it arrives.
fn record_in_order(
    receive: mpsc::Receiver<(usize, Message)>,
    record: &mut Record<'_>,
    committed: &Committed,
) -> Result<(), ExperimentError> {
    let mut waiting: BTreeMap<usize, Vec<Message>> = BTreeMap::new();
    let mut current = 0;
    for (index, message) in receive {
        waiting.entry(index).or_default().push(message);
        while let Some(messages) = waiting.get_mut(&current) {
            let mut ended = false;
            let mut happened = Vec::with_capacity(messages.len());
            for message in messages.drain(..) {
                match message {
                    Message::Happened(one) => happened.push(one),
                    Message::End => ended = true,
                }
            }
            if !happened.is_empty() {
                record(happened)?;
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
