//! A neighbour takes a fault beside a victim that serves requests; a newcomer comes after. Every trial has processes of its
//! own, and ends with nobody of ours left on the GPU: what does not end by itself is ended step by step, each with a
//! deadline.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;

use super::super::ask::beside::{Beside, Spot, Visible};
use super::super::ask::{Pair, Stop, untold};
use super::super::seat::Fault;
use super::super::session::{LOST, LiveSession};
use crate::hazard::{Act, Came, FaultKind, FaultTrial, Faults, Newcomer, Service, XidSeen};
use crate::host::clock::now;
use crate::nvml::XidEvent;
use crate::scenario::SharingMode;
use crate::tenant::fault::{Committed, FaultAnswer, FaultQuestion};
use crate::tenant::question::{Answer, Question};
use crate::units::Nanos;
use crate::workload::Params;

const VICTIM: usize = 0;
const NEIGHBOUR: usize = 1;
/// A fault shows within this, or does not.
const SHOWS: Nanos = Nanos::secs(10);
/// A request that is in flight for so long when the account is asked for is lost.
const LOST_AFTER: Nanos = Nanos::secs(5);
/// Beyond what a process itself waits for: then it hangs.
const BEYOND: Nanos = Nanos::secs(10);
/// A process that was told to end, or left, may take so long.
const ENDS: Nanos = Nanos::secs(5);
/// Between two steps of the ladder.
const STEP: Nanos = Nanos::secs(2);
/// The server of MPS lets go of a client within this.
const LETS_GO: Nanos = Nanos::millis(500);
/// A kernel runs for so long before its process is ended.
const RUNS: Nanos = Nanos::millis(100);
/// Tries of a newcomer: the first pause, the longest, and all of them.
const BACK_OFF: (Nanos, Nanos) = (Nanos::millis(50), Nanos::secs(2));
const COMES: Nanos = Nanos::secs(20);
/// The driver forgets a process a moment after the kernel does.
const FORGETS: Nanos = Nanos::secs(10);
/// Requests of a neighbour that takes no fault.
const WORK: u32 = 100;

pub(super) fn attempt(session: &LiveSession<'_>, pair: &Pair, params: &Params) -> Result<Came, Stop> {
    pair.devices()?;
    let kinds = FaultKind::of_word(params.text("fault").unwrap_or("all"));
    let times = usize::try_from(params.count("times").unwrap_or(1)).unwrap_or(usize::MAX);
    let settle = params.duration("settle").unwrap_or(Nanos::secs(1));
    let trier = Trier { session, pair, settle, base: now() };
    let mut faults = Faults::default();
    let mut taken = 0;
    // What happened before the first trial is nobody's here.
    drop(session.live.watch().xids());
    for fault in order(&kinds, times) {
        let mut early = Vec::new();
        let tried = trier.trial(fault, &mut early);
        // Events are delivered late: those that come before a fault are the earlier one's.
        if let Some(last) = faults.trials.last_mut() {
            last.xids.append(&mut early);
        }
        let (mut trial, lost) = match tried {
            Ok(tried) => tried,
            Err(Stop::Untold(why)) if taken > 0 => {
                faults.lost = Some(format!(
                    "after {taken} faults the next trial cannot be made: {why}; drain the node, look for NVRM and Xid in \
                     `dmesg`, and reset the GPU before it is used again"
                ));
                break;
            }
            Err(Stop::Lost(error)) if !faults.trials.is_empty() => {
                faults.lost = Some(error.what);
                break;
            }
            Err(stop) => return Err(stop),
        };
        if fault.is_some() {
            taken += 1;
            session.live.faults.fetch_add(1, Ordering::Relaxed);
        }
        trial.xids.splice(0..0, early);
        faults.trials.push(trial);
        if lost.is_some() {
            faults.lost = lost;
            break;
        }
    }
    if let Some(last) = faults.trials.last_mut() {
        last.xids.extend(trier.xids());
    }
    if faults.trials.is_empty() { untold("no trial was made") } else { Ok(Came::Faults(faults)) }
}

/// Trials in order: each fault so often, in their own order, and as many without a fault spread evenly among them, one of
/// them first.
fn order(kinds: &[FaultKind], times: usize) -> Vec<Option<FaultKind>> {
    let every = kinds.len().max(1);
    let acts = kinds.iter().flat_map(|kind| std::iter::repeat_n(*kind, times));
    let mut order = Vec::new();
    for (index, fault) in acts.enumerate() {
        if index % every == 0 {
            order.push(None);
        }
        order.push(Some(fault));
    }
    order
}

/// What trials have in common.
struct Trier<'t, 's> {
    session: &'t LiveSession<'s>,
    pair: &'t Pair,
    settle: Nanos,
    /// When the try began.
    base: Nanos,
}

impl Trier<'_, '_> {
    /// One trial, and why the device is lost over it where it is. `early`: events from before its fault.
    fn trial(&self, fault: Option<FaultKind>, early: &mut Vec<XidSeen>) -> Result<(FaultTrial, Option<String>), Stop> {
        let mut beside = Beside::start(self.session, vec![self.spot(VICTIM), self.spot(NEIGHBOUR)])?;
        // Coming is no fault: everything is loaded before the victim serves.
        self.ready(&mut beside, NEIGHBOUR, FaultQuestion::Prepare { fault })?;
        // At most some ten thousand requests, however long they are watched.
        let pause = Nanos(self.settle.0 / 5_000).clamp(Nanos::micros(200), Nanos::millis(20));
        self.ready(&mut beside, VICTIM, FaultQuestion::Serve { pause })?;
        rest(self.settle);
        *early = self.xids();
        let served = beside.progress(VICTIM).0;
        let told = now();
        let mut recovery = Vec::new();
        let mut lost = None;
        let (mut act, since) = self.act(&mut beside, fault, told, &mut recovery, &mut lost);
        rest(self.settle);
        let victim = self.account(&mut beside, since, served);
        if victim.errors.iter().any(|(_, at)| *at < act.at) || served == 0 {
            act.happened = false;
            recovery.push("the victim did not serve before: the trial shows nothing".to_owned());
        }
        let mut newcomer = Newcomer::default();
        if lost.is_none() {
            newcomer = self.newcomer(&mut beside, &mut recovery, &mut lost);
        }
        // Whoever is still there ends now, whatever has become of it.
        for index in 0..beside.len() {
            self.see_off(&mut beside, index, &mut recovery, &mut lost);
        }
        if lost.is_none() {
            lost = self.drained(&mut beside);
        }
        let around = self.xids();
        let codes = act.code.iter().chain(victim.errors.iter().map(|(code, _)| code));
        if let (None, Some(code)) = (&lost, codes.into_iter().find(|code| LOST.contains(code))) {
            lost = Some(format!("the driver returned {code} after a fault: {DO}"));
        }
        let lost = self.session.live.watch().lost().map(|why| format!("{why}; after {}", words(fault))).or(lost);
        recovery.extend(lost.iter().cloned());
        Ok((FaultTrial { fault, act, victim, newcomer, xids: around, recovery }, lost))
    }

    fn spot(&self, side: usize) -> Spot {
        Spot::of(self.pair.seats[side], &self.pair.places[side])
    }

    /// Asks one that is not to fail yet.
    fn ready(&self, beside: &mut Beside<'_, '_>, index: usize, question: FaultQuestion) -> Result<(), Stop> {
        match beside.ask_one(index, Question::Fault(question))? {
            Answer::Fault(FaultAnswer::Worked {} | FaultAnswer::Serving {}) => Ok(()),
            Answer::Refused(refusal) => untold(format!("a process beside the tenants: {}", refusal.words())),
            other => untold(format!("a process beside the tenants answered {other:?}")),
        }
    }

    /// The neighbour takes its fault, or works and leaves; when the fault was, on the clock.
    fn act(
        &self,
        beside: &mut Beside<'_, '_>,
        fault: Option<FaultKind>,
        told: Nanos,
        recovery: &mut Vec<String>,
        lost: &mut Option<String>,
    ) -> (Act, Nanos) {
        let at = |committed: &Committed| Nanos(committed.at.0.max(told.0));
        let Some(fault) = fault else {
            let worked = ask(beside, NEIGHBOUR, FaultQuestion::Work { times: WORK }, SHOWS + BEYOND);
            let ended = self.see_off(beside, NEIGHBOUR, recovery, lost);
            let happened = matches!(worked, Ok(Answer::Fault(FaultAnswer::Worked {}))) && recovery.is_empty();
            let ended = match worked {
                Ok(Answer::Fault(_)) => ended,
                Ok(other) => format!("answered {other:?}, and {ended}"),
                Err(fault) => fault.to_string(),
            };
            return (Act { at: told - self.base, code: None, ended, happened }, told);
        };
        let committed = match ask(beside, NEIGHBOUR, FaultQuestion::Commit { patience: SHOWS }, SHOWS + BEYOND) {
            Ok(Answer::Fault(FaultAnswer::Committed(committed))) => committed,
            other => {
                let what = match other {
                    Ok(Answer::Refused(refusal)) => refusal.words(),
                    Ok(other) => format!("answered {other:?}"),
                    Err(fault) => fault.to_string(),
                };
                let ended = self.see_off(beside, NEIGHBOUR, recovery, lost);
                let act = Act { at: told - self.base, code: None, ended: format!("{what}; {ended}"), happened: false };
                return (act, told);
            }
        };
        let mut since = at(&committed);
        let mut happened = committed.happened;
        let how = match fault {
            FaultKind::Terminated => Some(Signal::TERM),
            FaultKind::Interrupted => Some(Signal::INT),
            FaultKind::Killed => Some(Signal::KILL),
            _ => None,
        };
        let ended = match fault {
            _ if !happened => self.see_off(beside, NEIGHBOUR, recovery, lost),
            FaultKind::Terminated | FaultKind::Interrupted | FaultKind::Killed => {
                rest(RUNS);
                since = now();
                beside.signal(NEIGHBOUR, how.unwrap_or(Signal::KILL));
                self.is_to_end(beside, &mut happened, recovery, lost)
            }
            FaultKind::ExitDirty => {
                rest(RUNS);
                since = now();
                // It answers by ending.
                let _ = ask(beside, NEIGHBOUR, FaultQuestion::Leave {}, ENDS);
                self.is_to_end(beside, &mut happened, recovery, lost)
            }
            FaultKind::Endless => {
                rest(self.settle);
                self.ladder(beside, NEIGHBOUR, recovery, lost)
            }
            _ => self.see_off(beside, NEIGHBOUR, recovery, lost),
        };
        let ended = format!("{}; {ended}", committed.what);
        (Act { at: since - self.base, code: committed.code, ended, happened }, since)
    }

    /// The neighbour was made to end, or ends: how, and whether it did.
    fn is_to_end(
        &self,
        beside: &mut Beside<'_, '_>,
        happened: &mut bool,
        recovery: &mut Vec<String>,
        lost: &mut Option<String>,
    ) -> String {
        if let Some(how) = beside.ended_by(NEIGHBOUR, now() + ENDS) {
            return how;
        }
        *happened = false;
        recovery.push(format!("pid {} did not end within {ENDS}", beside.pid(NEIGHBOUR)));
        self.ladder(beside, NEIGHBOUR, recovery, lost)
    }

    /// Lets a process end as it should, and ends it where it does not: how it ended.
    fn see_off(
        &self,
        beside: &mut Beside<'_, '_>,
        index: usize,
        recovery: &mut Vec<String>,
        lost: &mut Option<String>,
    ) -> String {
        if let Some(how) = beside.ended_by(index, Nanos::ZERO).or_else(|| beside.dismiss(index, ENDS)) {
            return how;
        }
        recovery.push(format!("pid {} was told to end, and did not within {ENDS}", beside.pid(index)));
        self.ladder(beside, index, recovery, lost)
    }

    /// Ends a process step by step: under MPS its server lets go of it first, so that the other clients are spared.
    fn ladder(
        &self,
        beside: &mut Beside<'_, '_>,
        index: usize,
        recovery: &mut Vec<String>,
        lost: &mut Option<String>,
    ) -> String {
        let pid = beside.pid(index);
        if matches!(self.session.planned().sharing, SharingMode::Mps | SharingMode::MigMps) {
            self.session.before_kill(pid);
            recovery.push(format!("MPS was told to terminate client {pid}"));
            // So that its kernels are gone before it is.
            if let Some(how) = beside.ended_by(index, now() + LETS_GO) {
                return how;
            }
        }
        beside.signal(index, Signal::TERM);
        recovery.push(format!("SIGTERM to pid {pid}"));
        if let Some(how) = beside.ended_by(index, now() + STEP) {
            return how;
        }
        recovery.push(format!("SIGKILL to pid {pid}"));
        match beside.kill_one(index) {
            Ok(how) => how,
            Err(stuck) => {
                lost.get_or_insert(format!("{stuck}: {DO}"));
                stuck
            }
        }
    }

    /// What the victim saw.
    fn account(&self, beside: &mut Beside<'_, '_>, since: Nanos, served: u64) -> Service {
        let question = FaultQuestion::Account { since, patience: LOST_AFTER };
        match ask(beside, VICTIM, question, LOST_AFTER + BEYOND) {
            Ok(Answer::Fault(FaultAnswer::Account(mut service))) => {
                for (_, at) in &mut service.errors {
                    *at = at.saturating_sub(self.base);
                }
                service
            }
            other => {
                let (done, last) = beside.progress(VICTIM);
                let died = match other {
                    Err(fault) => fault.to_string(),
                    Ok(other) => format!("answered {other:?}"),
                };
                // What it counted outlives it; what its requests ended with does not.
                let gap = now().saturating_sub(Nanos(last.0.max(since.0)));
                Service {
                    done: [served, done.saturating_sub(served)],
                    lost: 1,
                    gaps_ns: [Nanos::ZERO, gap],
                    died: Some(died),
                    ..Service::default()
                }
            }
        }
    }

    /// Somebody new comes in the neighbour's place: beside the victim at first, and where that is refused, once the victim
    /// has gone.
    fn newcomer(&self, beside: &mut Beside<'_, '_>, recovery: &mut Vec<String>, lost: &mut Option<String>) -> Newcomer {
        let begun = now();
        let mut newcomer = Newcomer::default();
        let beside_victim = begun + (self.settle * 3).clamp(Nanos::millis(300), Nanos::secs(5));
        let mut pause = BACK_OFF.0;
        let mut victim_there = true;
        loop {
            match self.comes(beside, recovery, lost) {
                Ok(()) => {
                    newcomer.started = Some(now() - begun);
                    return newcomer;
                }
                Err(why) => {
                    newcomer.refused += 1;
                    newcomer.why = Some(why);
                }
            }
            if lost.is_some() || now() >= begun + COMES {
                return newcomer;
            }
            if victim_there && now() >= beside_victim {
                let how = self.see_off(beside, VICTIM, recovery, lost);
                recovery.push(format!("nobody new could start beside the victim, whose process was ended: it {how}"));
                (victim_there, pause) = (false, BACK_OFF.0);
            } else {
                rest(pause);
                pause = (pause * 2).min(BACK_OFF.1);
            }
        }
    }

    /// One try of a newcomer: a process of its own, for what a process was refused once it may be refused for ever.
    fn comes(
        &self,
        beside: &mut Beside<'_, '_>,
        recovery: &mut Vec<String>,
        lost: &mut Option<String>,
    ) -> Result<(), String> {
        let index = match beside.join(self.spot(NEIGHBOUR)) {
            Ok(index) => index,
            Err(Stop::Untold(why)) => return Err(why),
            Err(Stop::Lost(error)) => {
                lost.get_or_insert(error.what.clone());
                return Err(error.what);
            }
        };
        let answer = ask(beside, index, FaultQuestion::Prepare { fault: None }, COMES);
        self.see_off(beside, index, recovery, lost);
        match answer {
            Ok(Answer::Fault(FaultAnswer::Worked {})) => Ok(()),
            Ok(Answer::Refused(refusal)) => Err(refusal.words()),
            Ok(other) => Err(format!("answered {other:?}")),
            Err(fault) => Err(fault.to_string()),
        }
    }

    /// Nobody of ours is left on the GPU, as far as NVML tells; otherwise why the device is lost. A process without a GPU
    /// asks: where NVML does not return after a fault, that one hangs and is killed.
    fn drained(&self, beside: &mut Beside<'_, '_>) -> Option<String> {
        let pids: Vec<u32> = (0..beside.len()).map(|index| beside.pid(index)).collect();
        let asks = match beside.join(self.spot(NEIGHBOUR).seeing(Visible::Set(String::new()))) {
            Ok(asks) => asks,
            Err(Stop::Untold(why)) => return Some(format!("no process comes up after a fault: {why}; {DO}")),
            Err(Stop::Lost(error)) => return Some(error.what),
        };
        let gpu = &self.session.site().gpu().uuid;
        let until = now() + FORGETS;
        let left = loop {
            match ask(beside, asks, FaultQuestion::Listed { gpu: gpu.clone() }, BEYOND) {
                // Where it is not told who is there, nobody else could be seen before the next trial either.
                Ok(Answer::Fault(FaultAnswer::Listed { pids: None })) => break None,
                Ok(Answer::Fault(FaultAnswer::Listed { pids: Some(there) })) => {
                    match there.iter().find(|pid| pids.contains(pid)) {
                        None => break None,
                        Some(left) if now() >= until => {
                            break Some(format!(
                                "pid {left} has ended, and the driver lists it on {gpu} after {FORGETS}: {DO}"
                            ));
                        }
                        Some(_) => rest(Nanos::millis(50)),
                    }
                }
                Ok(other) => break Some(format!("asked who is on {gpu}, a process answered {other:?}: {DO}")),
                Err(fault) => break Some(format!("NVML does not say who is on {gpu}: {fault}; {DO}")),
            }
        };
        let mut lost = left;
        let mut steps = Vec::new();
        self.see_off(beside, asks, &mut steps, &mut lost);
        lost
    }

    /// The Xid events since the last call.
    fn xids(&self) -> Vec<XidSeen> {
        let seen = |event: &XidEvent| XidSeen {
            code: event.xid.and_then(|xid| u32::try_from(xid).ok()),
            at: event.at.saturating_sub(self.base),
        };
        self.session.live.watch().xids().iter().map(seen).collect()
    }
}

/// What an operator does about a device that does not come back.
const DO: &str = "drain the node, look for NVRM and Xid in `dmesg`, and reset the GPU (`nvidia-smi --gpu-reset`) or reboot \
                  before it is used again";

fn words(fault: Option<FaultKind>) -> &'static str {
    fault.map_or("a trial without a fault", FaultKind::id)
}

/// Asks one whatever becomes of it.
fn ask(beside: &mut Beside<'_, '_>, index: usize, question: FaultQuestion, limit: Nanos) -> Result<Answer, Fault> {
    beside.ask_of(index, Question::Fault(question), limit)
}

fn rest(length: Nanos) {
    std::thread::sleep(Duration::from_nanos(length.0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_trials_without_a_fault_are_spread_among_those_with_one() {
        let kinds = [FaultKind::Killed, FaultKind::Trap];
        let (k, t) = (Some(FaultKind::Killed), Some(FaultKind::Trap));
        assert_eq!(order(&kinds, 1), [None, k, t]);
        assert_eq!(order(&kinds, 3), [None, k, k, None, k, t, None, t, t]);
        let all = order(&FaultKind::ALL, 3);
        assert_eq!(all.iter().filter(|fault| fault.is_none()).count(), 3);
        assert_eq!(all.len(), 3 + 33);
        assert_eq!(order(&[], 3), []);
    }
}
