//! Generations on the sessions of a backend: one after another, or side by side in virtual time; written down in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, mpsc};
use std::time::Duration;

use crate::backend::{ArmKey, Backend, BackendError, Company, Evidence, Purpose, Reach, Session};
use crate::provenance::Provenance;
use crate::run_dir::{Calibration, Encoded, Manifest, encode};

use super::looks::Generation;
use super::{ExperimentError, LOST_IN_A_ROW, blocks};

/// Generations per session that may be run before their turn to be committed.
const AHEAD: usize = 2;

/// What happens while an arrangement runs.
pub(super) enum Happened {
    /// An arm was measured.
    Arm(Box<Encoded>),
    /// The tenants of a generation are up.
    Arranged { grid: usize, generation: u32, company: Company, evidence: Evidence },
    /// A control cannot be run here; `missing` are the arms of the generation in which that was found.
    NoControl { grid: usize, purpose: Purpose, missing: Vec<ArmKey>, reason: String },
    /// An arm was lost.
    Lost { arm: ArmKey, reason: String },
}

/// Why an arrangement was not run to its end, where it was not.
pub(super) struct GivenUp(pub(super) Option<String>);

/// Writes down what happened, in order.
type Record<'a> = dyn FnMut(Vec<Happened>) -> Result<(), ExperimentError> + 'a;

/// Takes what happened, one by one.
type Sink<'a> = dyn FnMut(Happened) -> Result<(), ExperimentError> + 'a;

/// A session, with the grid that it was opened for, and what became of it.
#[derive(Default)]
pub(super) struct Sessions<'a> {
    open: Option<(usize, Box<dyn Session + 'a>)>,
    /// Arms of blocks lost in a row.
    lost: u32,
    /// Controls that cannot be run, by grid.
    refused: BTreeSet<(usize, Purpose)>,
}

impl Sessions<'_> {
    /// Takes the tenants down.
    pub(super) fn close(&mut self) -> Result<(), ExperimentError> {
        if let Some((_, session)) = self.open.take() {
            session.close()?;
        }
        Ok(())
    }

    /// The end of a session after `error`.
    fn end(&mut self, error: ExperimentError) -> ExperimentError {
        match self.close() {
            Ok(()) => error,
            Err(left) => BackendError::device(format!("{error}; and {left}")).into(),
        }
    }
}

/// What the generations of an arrangement have in common.
pub(super) struct Context<'a> {
    pub(super) backend: &'a dyn Backend,
    pub(super) manifest: &'a Manifest,
    pub(super) arrangement: usize,
    pub(super) calibrations: &'a [Calibration],
    pub(super) stop: &'a AtomicBool,
}

impl<'a> Context<'a> {
    /// Runs `work` on as many sessions as the backend has, and has it written down in order. Where it has one, that stays open
    /// in `sessions`, but is closed on an error.
    pub(super) fn run_all(
        &self,
        sessions: &mut Sessions<'a>,
        work: &[Generation],
        record: &mut Record<'_>,
    ) -> Result<GivenUp, ExperimentError> {
        let many = self.backend.sessions();
        if many <= 1 {
            // One at a time: each arm is committed before the next begins.
            for generation in work {
                let ran = self.run_generation(generation, sessions, &mut |happened| record(vec![happened]));
                let given_up = ran.map_err(|error| sessions.end(error))?;
                if given_up.0.is_some() || self.stopped() {
                    return Ok(given_up);
                }
            }
            return Ok(GivenUp(None));
        }

        let many = many.min(work.len());
        let next = AtomicUsize::new(0);
        let committed = Committed::default();
        let failure: Mutex<Option<ExperimentError>> = Mutex::new(None);
        let given_up: Mutex<Option<String>> = Mutex::new(None);
        let failed = AtomicBool::new(false);
        let (send, receive) = mpsc::channel::<(usize, Message)>();
        std::thread::scope(|scope| {
            for _ in 0..many {
                let send = send.clone();
                let (next, committed, failed) = (&next, &committed, &failed);
                let (failure, given_up) = (&failure, &given_up);
                scope.spawn(move || {
                    let mut sessions = Sessions::default();
                    let mut outcome = Ok(GivenUp(None));
                    let ended = || self.stopped() || failed.load(Ordering::Relaxed);
                    while !ended() && outcome.is_ok() {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(generation) = work.get(index) else { break };
                        committed.wait_until_near(index, AHEAD * many, &ended);
                        outcome = self.run_generation(generation, &mut sessions, &mut |happened| {
                            // The receiver is gone only when the commit failed, and its error is what counts.
                            let _ = send.send((index, Message::Happened(happened)));
                            Ok(())
                        });
                        let _ = send.send((index, Message::End));
                        if let Ok(GivenUp(Some(reason))) = &outcome {
                            failed.store(true, Ordering::Relaxed);
                            if let Ok(mut first) = given_up.lock() {
                                first.get_or_insert_with(|| reason.clone());
                            }
                        }
                    }
                    if let Err(error) = outcome.and_then(|_| sessions.close()) {
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
            _ => Ok(GivenUp(given_up.into_inner().unwrap_or_default())),
        }
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Runs one generation from its restart; hands on the arms that are missing.
    fn run_generation(
        &self,
        generation: &Generation,
        sessions: &mut Sessions<'a>,
        sink: &mut Sink<'_>,
    ) -> Result<GivenUp, ExperimentError> {
        let (plan, grid) = (&self.manifest.plan, generation.grid);
        if sessions.refused.contains(&(grid, generation.purpose)) {
            return Ok(GivenUp(None));
        }
        if sessions.open.as_ref().is_none_or(|(open, _)| *open != grid) {
            sessions.close()?;
            let session = match self.backend.open(plan, self.arrangement, grid) {
                Ok(session) => session,
                Err(error) if error.reach == Reach::Device => return Err(error.into()),
                Err(error) => return Ok(GivenUp(Some(error.what))),
            };
            sessions.open = Some((grid, session));
        }
        let Sessions { open, lost, refused } = sessions;
        let Some((_, session)) = open else { return Ok(GivenUp(None)) };
        // What a control loses says nothing of the arrangement: blocks alone can end it.
        let mut lost_here = 0;
        let lost = if generation.purpose.is_block() { lost } else { &mut lost_here };
        let GivenUp(Some(reason)) = self.run_arms(generation, session.as_mut(), lost, sink)? else {
            return Ok(GivenUp(None));
        };
        if generation.purpose.is_block() {
            return Ok(GivenUp(Some(reason)));
        }
        // Tenants that died are no proof that it cannot be: their arms are lost, and the control was not measured.
        if *lost >= LOST_IN_A_ROW {
            return Ok(GivenUp(None));
        }
        refused.insert((grid, generation.purpose));
        let missing = generation.missing.clone();
        sink(Happened::NoControl { grid, purpose: generation.purpose, missing, reason })?;
        Ok(GivenUp(None))
    }

    /// The arms of a generation, on tenants that are brought up before the first of them. `lost` counts those lost in a row.
    fn run_arms(
        &self,
        generation: &Generation,
        session: &mut dyn Session,
        lost: &mut u32,
        sink: &mut Sink<'_>,
    ) -> Result<GivenUp, ExperimentError> {
        let repeats = self.backend.provenance() == Provenance::Simulated;
        let calibration = &self.calibrations[generation.grid];
        let missing = |key: &ArmKey| generation.missing.contains(key);
        let mut up = false;
        for planned in &generation.blocks {
            // Virtual time repeats what was committed, to come to the same state.
            if !repeats && !planned.iter().any(missing) {
                continue;
            }
            for arm in blocks::arms(&self.manifest.plan, calibration, planned) {
                if self.stopped() {
                    return Ok(GivenUp(None));
                }
                let outcome = bring_up(session, generation, &mut up, sink)?;
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
}

/// Brings the tenants up where they are not. The inner error is theirs; the outer one is that of the record.
fn bring_up(
    session: &mut dyn Session,
    generation: &Generation,
    up: &mut bool,
    sink: &mut Sink<'_>,
) -> Result<Result<(), BackendError>, ExperimentError> {
    if *up {
        return Ok(Ok(()));
    }
    let company = generation.purpose.company();
    if let Err(error) = session.restart(generation.number, company) {
        return Ok(Err(error));
    }
    *up = true;
    let evidence = session.evidence();
    if !evidence.seats.is_empty() {
        let (grid, generation) = (generation.grid, generation.number);
        sink(Happened::Arranged { grid, generation, company, evidence })?;
    }
    Ok(Ok(()))
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
