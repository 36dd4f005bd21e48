//! One simulated tenant: it runs compiled programs on its own streams and knows what it has in flight.

use std::collections::VecDeque;

use super::code::{Code, Step, failed};
use crate::backend::{BackendError, Outcome};
use crate::machine::{AllocId, Done, Machine, QueueId};
use crate::units::{Bytes, Nanos};
use crate::workload::HostOp;

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Report {
    /// A mark was reached.
    Mark { id: u32, mark: u16, started: Nanos, ended: Nanos },
    /// The request is done, as the device saw it.
    Done { id: u32, started: Option<Nanos>, ended: Nanos, outcome: Outcome },
}

/// An allocation that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutOfMemory {
    pub(super) at: Nanos,
    pub(super) asked: u64,
    pub(super) free: u64,
    pub(super) total: u64,
}

struct InFlight {
    id: u32,
    remaining: u32,
    started: Option<Nanos>,
}

/// Where a program with host calls stands.
#[derive(Clone, Copy)]
struct Running {
    id: u32,
    step: usize,
    started: Option<Nanos>,
    waiting: Waiting,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Call,
    Streams,
    Timer(Nanos),
}

/// One simulated tenant.
pub(super) struct Agent {
    context: usize,
    streams: [QueueId; 2],
    host: QueueId,
    /// Requests to be seen by the device at a time, rising.
    coming: VecDeque<(Nanos, u32)>,
    /// Enqueued, and not yet taken by the engine's bounded queue.
    backlog: [VecDeque<(u32, u16)>; 2],
    /// In the engine's queue, in order.
    queued: [VecDeque<(u32, u16)>; 2],
    in_flight: VecDeque<InFlight>,
    running: Option<Running>,
    allocations: VecDeque<AllocId>,
    pub(super) out_of_memory: Vec<OutOfMemory>,
}

impl Agent {
    pub(super) fn new(machine: &mut Machine, context: usize) -> Result<Self, BackendError> {
        let mut queue = || machine.queue(context).map_err(failed);
        Ok(Self {
            context,
            streams: [queue()?, queue()?],
            host: queue()?,
            coming: VecDeque::new(),
            backlog: [VecDeque::new(), VecDeque::new()],
            queued: [VecDeque::new(), VecDeque::new()],
            in_flight: VecDeque::new(),
            running: None,
            allocations: VecDeque::new(),
            out_of_memory: Vec::new(),
        })
    }

    /// Whether this queue of the machine is one of this tenant's.
    pub(super) fn owns(&self, queue: QueueId) -> bool {
        self.streams.contains(&queue) || self.host == queue
    }

    /// Its context in the machine.
    pub(super) fn context(&self) -> usize {
        self.context
    }

    /// Requests that it has, or that are on their way to the device.
    pub(super) fn committed(&self) -> usize {
        self.coming.len() + self.depth()
    }

    /// Nothing is in flight, coming or running.
    pub(super) fn is_empty(&self) -> bool {
        self.coming.is_empty() && self.in_flight.is_empty() && self.running.is_none()
    }

    /// Requests that the device has and has not finished.
    pub(super) fn depth(&self) -> usize {
        self.in_flight.len() + usize::from(self.running.is_some())
    }

    /// Request `id` reaches the device at `at`. Requests keep their order.
    pub(super) fn send(&mut self, id: u32, at: Nanos) {
        let at = self.coming.back().map_or(at, |(last, _)| at.max(*last));
        self.coming.push_back((at, id));
    }

    /// Drops requests that have not reached the device yet.
    pub(super) fn cancel_coming(&mut self) {
        self.coming.clear();
    }

    /// Time of its next own event.
    pub(super) fn next(&self) -> Option<Nanos> {
        let timer = match self.running {
            Some(Running { waiting: Waiting::Timer(at), .. }) => Some(at),
            _ => None,
        };
        // A program with host calls has one request in progress: the next waits for it.
        let coming = if self.running.is_none() { self.coming.front().map(|(at, _)| *at) } else { None };
        match (coming, timer) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Lets everything happen that is due at `now`.
    pub(super) fn act(&mut self, machine: &mut Machine, code: &Code, now: Nanos, reports: &mut Vec<Report>) {
        if let Some(running) = &mut self.running
            && let Waiting::Timer(at) = running.waiting
            && at <= now
        {
            running.step += 1;
            self.run(machine, code, now, reports);
        }
        while let Some(&(at, id)) = self.coming.front()
            && at <= now
            && self.running.is_none()
        {
            self.coming.pop_front();
            if code.enqueued {
                self.enqueue(machine, code, id, now);
            } else {
                self.running = Some(Running { id, step: 0, started: None, waiting: Waiting::Call });
                self.run(machine, code, now, reports);
            }
        }
    }

    fn enqueue(&mut self, machine: &mut Machine, code: &Code, id: u32, now: Nanos) {
        self.in_flight.push_back(InFlight { id, remaining: code.steps.len() as u32, started: None });
        for (index, step) in code.steps.iter().enumerate() {
            if let Step::Submit { stream, .. } = step {
                self.backlog[*stream].push_back((id, index as u16));
            }
        }
        self.pump(machine, code, now);
    }

    /// Hands the engine what its bounded queues take.
    fn pump(&mut self, machine: &mut Machine, code: &Code, now: Nanos) {
        for stream in 0..self.streams.len() {
            while let Some(&(id, index)) = self.backlog[stream].front() {
                let Step::Submit { work, times, .. } = code.steps[usize::from(index)] else { break };
                if machine.submit(self.streams[stream], work, times, now).is_none() {
                    break;
                }
                self.backlog[stream].pop_front();
                self.queued[stream].push_back((id, index));
            }
        }
    }

    /// The engine finished something of this tenant.
    pub(super) fn finished(&mut self, machine: &mut Machine, code: &Code, done: Done, reports: &mut Vec<Report>) {
        if done.queue == self.host {
            self.called(machine, code, done, reports);
            return;
        }
        let stream = usize::from(done.queue == self.streams[1]);
        let Some((id, index)) = self.queued[stream].pop_front() else { return };
        if let Step::Submit { mark: Some(mark), .. } = code.steps[usize::from(index)] {
            reports.push(Report::Mark { id, mark, started: done.started, ended: done.ended });
        }
        if !self.backlog[stream].is_empty() {
            self.pump(machine, code, done.ended);
        }
        if code.enqueued {
            self.one_less(id, done, reports);
        } else if let Some(running) = &mut self.running {
            running.started.get_or_insert(done.started);
            if running.waiting == Waiting::Streams && self.streams_empty() {
                if let Some(running) = &mut self.running {
                    running.step += 1;
                }
                self.run(machine, code, done.ended, reports);
            }
        }
    }

    fn one_less(&mut self, id: u32, done: Done, reports: &mut Vec<Report>) {
        let Some(place) = self.in_flight.iter().position(|f| f.id == id) else { return };
        let flight = &mut self.in_flight[place];
        flight.started = Some(flight.started.map_or(done.started, |s| s.min(done.started)));
        flight.remaining -= 1;
        if flight.remaining == 0 {
            reports.push(Report::Done { id, started: flight.started, ended: done.ended, outcome: Outcome::Ok });
            self.in_flight.remove(place);
        }
    }

    fn streams_empty(&self) -> bool {
        self.queued.iter().all(VecDeque::is_empty) && self.backlog.iter().all(VecDeque::is_empty)
    }

    /// A host call returned: its effect happens now.
    fn called(&mut self, machine: &mut Machine, code: &Code, done: Done, reports: &mut Vec<Report>) {
        let Some(running) = &mut self.running else { return };
        running.started.get_or_insert(done.started);
        let (id, started) = (running.id, running.started);
        let outcome = match code.steps.get(running.step) {
            Some(Step::Call { op: HostOp::Alloc { bytes }, .. }) => match machine.alloc(self.context, Bytes(*bytes)) {
                Ok(allocation) => {
                    self.allocations.push_back(allocation);
                    Outcome::Ok
                }
                Err(oom) => {
                    self.out_of_memory.push(OutOfMemory {
                        at: done.ended,
                        asked: oom.asked.0,
                        free: oom.free.0,
                        total: oom.total.0,
                    });
                    Outcome::Oom
                }
            },
            Some(Step::Call { op: HostOp::Free, .. }) => {
                if let Some(allocation) = self.allocations.pop_front() {
                    machine.free(self.context, allocation);
                }
                Outcome::Ok
            }
            _ => Outcome::Ok,
        };
        if outcome == Outcome::Ok {
            running.step += 1;
            self.run(machine, code, done.ended, reports);
        } else {
            // The request failed: it gives back what it took, so that the next one starts as this one did.
            self.running = None;
            self.release(machine);
            reports.push(Report::Done { id, started, ended: done.ended, outcome });
        }
    }

    /// Runs a program with host calls until it must wait.
    fn run(&mut self, machine: &mut Machine, code: &Code, now: Nanos, reports: &mut Vec<Report>) {
        while let Some(mut running) = self.running {
            let Some(step) = code.steps.get(running.step) else {
                self.running = None;
                reports.push(Report::Done {
                    id: running.id,
                    started: running.started,
                    ended: now,
                    outcome: Outcome::Ok,
                });
                return;
            };
            match step {
                Step::Submit { stream, .. } => {
                    self.backlog[*stream].push_back((running.id, running.step as u16));
                    self.pump(machine, code, now);
                    running.step += 1;
                    self.running = Some(running);
                    continue;
                }
                Step::Synchronize if self.streams_empty() => {
                    running.step += 1;
                    self.running = Some(running);
                    continue;
                }
                Step::Synchronize => running.waiting = Waiting::Streams,
                Step::Idle(length) => running.waiting = Waiting::Timer(now + *length),
                Step::Call { work, .. } => {
                    running.waiting = Waiting::Call;
                    // The host queue of a tenant holds one call at a time: it cannot be full.
                    let _ticket = machine.submit(self.host, *work, 1, now);
                }
            }
            self.running = Some(running);
            return;
        }
    }

    /// Frees what its programs allocated.
    pub(super) fn release(&mut self, machine: &mut Machine) {
        for allocation in self.allocations.drain(..) {
            machine.free(self.context, allocation);
        }
    }
}
