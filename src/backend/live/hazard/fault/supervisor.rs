//! The supervisor: whoever does not end by itself is ended step by step, each with a deadline, and recorded; and nobody of
//! ours is left on the GPU before the next trial. What no step helps against is the loss of the device.

use rustix::process::Signal;

use super::super::super::DO;
use super::super::super::ask::Stop;
use super::super::super::ask::beside::{Beside, Visible};
use super::super::super::ask::load::sleep;
use super::{BEYOND, NEIGHBOUR, Trier, ask};
use crate::host::clock::now;
use crate::scenario::SharingMode;
use crate::tenant::fault::{FaultAnswer, FaultQuestion};
use crate::tenant::question::Answer;
use crate::units::Nanos;

/// Between two steps of the ladder.
const STEP: Nanos = Nanos::secs(2);
/// The server of MPS lets go of a client within this.
const LETS_GO: Nanos = Nanos::millis(500);
/// The driver forgets a process a moment after the kernel does.
const FORGETS: Nanos = Nanos::secs(10);

/// What it took to get the GPU back, and whether that helped.
#[derive(Default)]
pub(super) struct Rescue {
    /// Steps, in order, in words.
    pub(super) steps: Vec<String>,
    /// Why the device is lost, where it is.
    pub(super) lost: Option<String>,
}

impl Trier<'_, '_> {
    /// A process that was told to end, or left, may take so long.
    pub(super) fn ends(&self) -> Nanos {
        self.session.live.settings.deadlines.end
    }

    /// `limit`, or less where the user has less patience.
    pub(super) fn at_most(&self, limit: Nanos) -> Nanos {
        limit.min(self.session.live.settings.deadlines.load)
    }

    /// Lets a process end as it should, and ends it where it does not: how it ended.
    pub(super) fn see_off(&self, beside: &mut Beside<'_, '_>, index: usize, rescue: &mut Rescue) -> String {
        if let Some(how) = beside.ended_by(index, Nanos::ZERO).or_else(|| beside.dismiss(index, self.ends())) {
            return how;
        }
        rescue.steps.push(format!("pid {} was told to end, and did not within {}", beside.pid(index), self.ends()));
        self.ladder(beside, index, rescue)
    }

    /// Ends a process step by step: under MPS its server lets go of it first, so that the other clients are spared.
    pub(super) fn ladder(&self, beside: &mut Beside<'_, '_>, index: usize, rescue: &mut Rescue) -> String {
        let pid = beside.pid(index);
        if matches!(self.session.planned().sharing, SharingMode::Mps | SharingMode::MigMps) {
            self.session.before_kill(pid);
            rescue.steps.push(format!("MPS was told to terminate client {pid}"));
            // So that its kernels are gone before it is.
            if let Some(how) = beside.ended_by(index, now() + LETS_GO) {
                return how;
            }
        }
        beside.signal(index, Signal::TERM);
        rescue.steps.push(format!("SIGTERM to pid {pid}"));
        if let Some(how) = beside.ended_by(index, now() + self.at_most(STEP)) {
            return how;
        }
        rescue.steps.push(format!("SIGKILL to pid {pid}"));
        match beside.kill_one(index) {
            Ok(how) => how,
            Err(stuck) => {
                rescue.lost.get_or_insert(format!("{stuck}: {DO}"));
                stuck
            }
        }
    }

    /// Nobody of ours is left on the GPU, as far as NVML tells; otherwise why the device is lost. A process without a GPU
    /// asks: where NVML does not return after a fault, that one hangs and is killed.
    pub(super) fn drained(&self, beside: &mut Beside<'_, '_>) -> Option<String> {
        let pids: Vec<u32> = (0..beside.len()).map(|index| beside.pid(index)).collect();
        let asks = match beside.join(self.spot(NEIGHBOUR).seeing(Visible::Set(String::new()))) {
            Ok(asks) => asks,
            Err(Stop::Untold(why)) => return Some(format!("no process comes up after a fault: {why}; {DO}")),
            Err(Stop::Lost(error)) => return Some(error.what),
        };
        let gpu = &self.session.site().gpu().uuid;
        let until = now() + FORGETS;
        let left = loop {
            match ask(beside, asks, FaultQuestion::Listed { gpu: gpu.clone() }, self.at_most(BEYOND)) {
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
                        Some(_) => sleep(Nanos::millis(50)),
                    }
                }
                Ok(other) => break Some(format!("asked who is on {gpu}, a process answered {other:?}: {DO}")),
                Err(fault) => break Some(format!("NVML does not say who is on {gpu}: {fault}; {DO}")),
            }
        };
        // Whoever asked is no part of the trial: what it takes to end it is not told.
        let mut rescue = Rescue { lost: left, steps: Vec::new() };
        self.see_off(beside, asks, &mut rescue);
        rescue.lost
    }
}
