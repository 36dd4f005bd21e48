//! Contexts and queues that come and go while the machine runs, as processes on a real driver do; and a copy of a
//! machine that costs no more than what is in use.

use super::build::MachineError;
use super::engine::{Machine, QueueId, bits};
use super::memory::OutOfMemory;
use super::state::{Head, State};
use super::work::Kind;
use crate::units::Bytes;

impl Machine {
    /// Opens a context: it takes its overhead of device memory from now on.
    ///
    /// # Errors
    /// Where the overhead does not fit.
    pub fn open(&mut self, context: usize) -> Result<(), OutOfMemory> {
        self.memory.reserve(context, self.overhead)
    }

    /// Closes a context, or one whose process has died: what it had queued is dropped, running work too, and its memory
    /// comes free. Nothing of it is reported as done.
    ///
    /// # Errors
    /// Where there is no such context.
    pub fn close(&mut self, context: usize) -> Result<(), MachineError> {
        self.known(context)?;
        for q in 0..self.queues {
            if self.free_queues & 1 << q == 0 && usize::from(self.heads[q].context) == context {
                self.drop_queue(q);
            }
        }
        for work in &mut self.works[..self.defined] {
            if usize::from(work.context) == context {
                work.context = u8::MAX;
            }
        }
        self.memory.evict(context);
        Ok(())
    }

    /// Closes one queue: what it held is dropped, and [`Machine::queue`] may give its place to another.
    pub fn close_queue(&mut self, queue: QueueId) {
        let q = usize::from(queue.0);
        if q < self.queues && self.free_queues & 1 << q == 0 {
            self.drop_queue(q);
        }
    }

    fn drop_queue(&mut self, q: usize) {
        if self.rings[q].len > 0 {
            self.abandon(q);
        }
        self.heads[q] = Head::EMPTY;
        self.wakes[q] = u64::MAX;
        self.occupied &= !(1 << q);
        self.rings[q].len = 0;
        self.free_queues |= 1 << q;
        // Who waited for what this queue held looks again at once.
        self.next = self.next.min(self.now);
    }

    /// Takes the head of queue `q` out of wherever it waits or runs.
    fn abandon(&mut self, q: usize) {
        let head = self.heads[q];
        let kind = self.works[usize::from(head.work)].kind;
        let x = usize::from(head.context);
        let c = usize::from(self.contexts[x].compute);
        let d = usize::from(self.computes[c].domain);
        let g = usize::from(self.domains[d].gpu);
        let me = 1u64 << q;
        if head.state == State::Pending {
            if head.follows {
                self.contexts[x].between -= 1;
                if self.contexts[x].between == 0 {
                    self.computes[c].between &= !(1 << x);
                }
            }
        } else if kind == Kind::Launch {
            self.pools[usize::from(self.contexts[x].pool)].members &= !me;
            self.contexts[x].ready -= 1;
            if self.contexts[x].ready == 0 {
                self.computes[c].ready &= !(1 << x);
            }
        }
        if self.gpus[g].lock.is_some_and(|holder| usize::from(holder) == q) {
            self.gpus[g].lock = None;
        }
        self.domains[d].running &= !me;
        self.domains[d].copies_waiting &= !me;
        self.domains[d].copies_running &= !me;
        self.gpus[g].copies &= !me;
        self.gpus[g].barriers &= !me;
        self.gpus[g].callers &= !me;
        self.touch(c, usize::from(self.contexts[x].pool), d, g);
        if kind != Kind::Host && self.is_idle(g) {
            self.gpus[g].idle_since = self.now;
        }
    }

    /// Device memory of the domain of `context`, and how much of it is in use, overheads of contexts included.
    pub fn memory_of(&self, context: usize) -> (Bytes, Bytes) {
        self.memory.usage(context)
    }

    /// Device memory that `context` holds, its overhead included.
    pub fn held(&self, context: usize) -> Bytes {
        self.memory.held(context)
    }

    /// Becomes a copy of `from`, an earlier or later state of the same machine, at a cost that grows with what is in use
    /// rather than with the size of the tables.
    pub fn copy_from(&mut self, from: &Self) {
        let Self {
            k,
            counts,
            gpus,
            domains,
            computes,
            sliced,
            pools,
            contexts,
            dirty,
            wakes,
            heads,
            occupied,
            queues,
            free_queues,
            overhead,
            now,
            next,
            tickets,
            arrivals,
            rings,
            works,
            defined,
            memory,
        } = self;
        (*k, *counts, *sliced, *dirty, *overhead) = (from.k, from.counts, from.sliced, from.dirty, from.overhead);
        (*occupied, *queues, *free_queues) = (from.occupied, from.queues, from.free_queues);
        (*now, *next, *tickets, *arrivals) = (from.now, from.next, from.tickets, from.arrivals);
        gpus.clone_from(&from.gpus);
        domains.clone_from(&from.domains);
        computes.clone_from(&from.computes);
        pools.clone_from(&from.pools);
        contexts.clone_from(&from.contexts);
        wakes.clone_from(&from.wakes);
        heads[..from.queues].copy_from_slice(&from.heads[..from.queues]);
        for (q, (mine, theirs)) in rings.iter_mut().zip(&from.rings).enumerate().take(from.queues) {
            if from.occupied & 1 << q != 0 {
                mine.copy_from(theirs);
            } else {
                (mine.first, mine.len) = (theirs.first, theirs.len);
            }
        }
        // The first works in use may have changed hands; none beyond them is read.
        works[..from.defined].copy_from_slice(&from.works[..from.defined]);
        *defined = from.defined;
        memory.copy_from(&from.memory);
    }

    /// Everything that hangs on these parts is looked at again at the next event.
    fn touch(&mut self, compute: usize, pool: usize, domain: usize, gpu: usize) {
        self.dirty.computes |= 1 << compute;
        self.dirty.pools |= 1 << pool;
        self.dirty.domains |= 1 << domain;
        self.dirty.copies |= 1 << domain;
        self.dirty.locks |= 1 << gpu;
        self.dirty.gpus |= 1 << gpu;
        if bits(self.gpus[gpu].copies).next().is_some() {
            self.dirty.links |= 1 << gpu;
        }
    }
}
