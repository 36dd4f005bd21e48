//! A neighbour takes a fault beside a victim that serves requests; a newcomer comes after. Every trial has processes of its
//! own, and ends with nobody of ours left on the GPU: what does not end by itself is ended step by step, each with a
//! deadline.

mod supervisor;

use std::sync::atomic::Ordering;

use rustix::process::Signal;

use super::super::DO;
use super::super::ask::beside::{Beside, Spot};
use super::super::ask::load::sleep;
use super::super::ask::{Pair, Stop, untold};
use super::super::seat::Fault;
use super::super::session::{LOST, LiveSession};
use crate::hazard::{Act, Came, FaultKind, FaultTrial, Faults, Newcomer, Service, XidSeen};
use crate::host::clock::now;
use crate::nvml::XidEvent;
use crate::tenant::fault::{Committed, FaultAnswer, FaultQuestion};
use crate::tenant::question::{Answer, Question};
use crate::units::Nanos;
use crate::workload::Params;
use supervisor::Rescue;

const VICTIM: usize = 0;
const NEIGHBOUR: usize = 1;
/// A fault shows within this, or does not.
pub(super) const SHOWS: Nanos = Nanos::secs(10);
/// A request that is in flight for so long when the account is asked for is lost.
const LOST_AFTER: Nanos = Nanos::secs(5);
/// Beyond what a process itself waits for: then it hangs.
const BEYOND: Nanos = Nanos::secs(10);
/// A kernel runs for so long before its process is ended.
const RUNS: Nanos = Nanos::millis(100);
/// Tries of a newcomer: the first pause, the longest, and all of them.
const BACK_OFF: (Nanos, Nanos) = (Nanos::millis(50), Nanos::secs(2));
const COMES: Nanos = Nanos::secs(20);
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
        sleep(self.settle);
        *early = self.xids();
        let served = beside.progress(VICTIM).0;
        let told = now();
        let mut rescue = Rescue::default();
        let (mut act, since) = self.act(&mut beside, fault, told, &mut rescue);
        sleep(self.settle);
        let victim = self.account(&mut beside, since, served);
        if victim.errors.iter().any(|(_, at)| *at < act.at) || served == 0 {
            act.happened = false;
            rescue.steps.push("the victim did not serve before: the trial shows nothing".to_owned());
        }
        let mut newcomer = Newcomer::default();
        if rescue.lost.is_none() {
            newcomer = self.newcomer(&mut beside, &mut rescue);
        }
        // Whoever is still there ends now, whatever has become of it.
        for index in 0..beside.len() {
            self.see_off(&mut beside, index, &mut rescue);
        }
        if rescue.lost.is_none() {
            rescue.lost = self.drained(&mut beside);
        }
        let around = self.xids();
        let codes = act.code.iter().chain(victim.errors.iter().map(|(code, _)| code));
        if let (None, Some(code)) = (&rescue.lost, codes.into_iter().find(|code| LOST.contains(code))) {
            rescue.lost = Some(format!("the driver returned {code} after a fault: {DO}"));
        }
        let lost = self.session.live.watch().lost().map(|why| format!("{why}; after {}", words(fault))).or(rescue.lost);
        let recovery = rescue.steps.into_iter().chain(lost.clone()).collect();
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
        rescue: &mut Rescue,
    ) -> (Act, Nanos) {
        let at = |committed: &Committed| Nanos(committed.at.0.max(told.0));
        let Some(fault) = fault else {
            let worked = ask(beside, NEIGHBOUR, FaultQuestion::Work { times: WORK }, self.at_most(SHOWS + BEYOND));
            let ended = self.see_off(beside, NEIGHBOUR, rescue);
            let happened = matches!(worked, Ok(Answer::Fault(FaultAnswer::Worked {}))) && rescue.steps.is_empty();
            let ended = match worked {
                Ok(Answer::Fault(_)) => ended,
                Ok(other) => format!("answered {other:?}, and {ended}"),
                Err(fault) => fault.to_string(),
            };
            return (Act { at: told - self.base, code: None, ended, happened }, told);
        };
        let shows = self.at_most(SHOWS);
        let committed =
            match ask(beside, NEIGHBOUR, FaultQuestion::Commit { patience: shows }, shows + self.at_most(BEYOND)) {
                Ok(Answer::Fault(FaultAnswer::Committed(committed))) => committed,
                other => {
                    let what = match other {
                        Ok(Answer::Refused(refusal)) => refusal.words(),
                        Ok(other) => format!("answered {other:?}"),
                        Err(fault) => fault.to_string(),
                    };
                    let ended = self.see_off(beside, NEIGHBOUR, rescue);
                    let act =
                        Act { at: told - self.base, code: None, ended: format!("{what}; {ended}"), happened: false };
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
            _ if !happened => self.see_off(beside, NEIGHBOUR, rescue),
            FaultKind::Terminated | FaultKind::Interrupted | FaultKind::Killed => {
                sleep(RUNS);
                since = now();
                beside.signal(NEIGHBOUR, how.unwrap_or(Signal::KILL));
                self.is_to_end(beside, &mut happened, rescue)
            }
            FaultKind::ExitDirty => {
                sleep(RUNS);
                since = now();
                // It answers by ending.
                let _ = ask(beside, NEIGHBOUR, FaultQuestion::Leave {}, self.ends());
                self.is_to_end(beside, &mut happened, rescue)
            }
            FaultKind::Endless => {
                sleep(self.settle);
                self.ladder(beside, NEIGHBOUR, rescue)
            }
            _ => self.see_off(beside, NEIGHBOUR, rescue),
        };
        let ended = format!("{}; {ended}", committed.what);
        (Act { at: since - self.base, code: committed.code, ended, happened }, since)
    }

    /// The neighbour was made to end, or ends: how, and whether it did.
    fn is_to_end(&self, beside: &mut Beside<'_, '_>, happened: &mut bool, rescue: &mut Rescue) -> String {
        if let Some(how) = beside.ended_by(NEIGHBOUR, now() + self.ends()) {
            return how;
        }
        *happened = false;
        rescue.steps.push(format!("pid {} did not end within {}", beside.pid(NEIGHBOUR), self.ends()));
        self.ladder(beside, NEIGHBOUR, rescue)
    }

    /// What the victim saw.
    fn account(&self, beside: &mut Beside<'_, '_>, since: Nanos, served: u64) -> Service {
        let patience = self.at_most(LOST_AFTER);
        let question = FaultQuestion::Account { since, patience };
        match ask(beside, VICTIM, question, patience + self.at_most(BEYOND)) {
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
    fn newcomer(&self, beside: &mut Beside<'_, '_>, rescue: &mut Rescue) -> Newcomer {
        let begun = now();
        let mut newcomer = Newcomer::default();
        let beside_victim = begun + (self.settle * 3).clamp(Nanos::millis(300), Nanos::secs(5));
        let mut pause = BACK_OFF.0;
        let mut victim_there = true;
        loop {
            match self.comes(beside, rescue) {
                Ok(()) => {
                    newcomer.started = Some(now() - begun);
                    return newcomer;
                }
                Err(why) => {
                    newcomer.refused += 1;
                    newcomer.why = Some(why);
                }
            }
            if rescue.lost.is_some() || now() >= begun + self.at_most(COMES) {
                return newcomer;
            }
            if victim_there && now() >= beside_victim {
                let how = self.see_off(beside, VICTIM, rescue);
                rescue
                    .steps
                    .push(format!("nobody new could start beside the victim, whose process was ended: it {how}"));
                (victim_there, pause) = (false, BACK_OFF.0);
            } else {
                sleep(pause);
                pause = (pause * 2).min(BACK_OFF.1);
            }
        }
    }

    /// One try of a newcomer: a process of its own, for what a process was refused once it may be refused for ever.
    fn comes(&self, beside: &mut Beside<'_, '_>, rescue: &mut Rescue) -> Result<(), String> {
        let index = match beside.join(self.spot(NEIGHBOUR)) {
            Ok(index) => index,
            Err(Stop::Untold(why)) => return Err(why),
            Err(Stop::Lost(error)) => {
                rescue.lost.get_or_insert(error.what.clone());
                return Err(error.what);
            }
        };
        let answer = ask(beside, index, FaultQuestion::Prepare { fault: None }, self.at_most(COMES));
        self.see_off(beside, index, rescue);
        match answer {
            Ok(Answer::Fault(FaultAnswer::Worked {})) => Ok(()),
            Ok(Answer::Refused(refusal)) => Err(refusal.words()),
            Ok(other) => Err(format!("answered {other:?}")),
            Err(fault) => Err(fault.to_string()),
        }
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

fn words(fault: Option<FaultKind>) -> &'static str {
    fault.map_or("a trial without a fault", FaultKind::id)
}

/// Asks one whatever becomes of it.
fn ask(beside: &mut Beside<'_, '_>, index: usize, question: FaultQuestion, limit: Nanos) -> Result<Answer, Fault> {
    beside.ask_of(index, Question::Fault(question), limit)
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
