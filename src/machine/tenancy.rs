//! Contexts and queues that come and go while the machine runs, as processes on a real driver do; and a copy of a
//! machine that costs no more than what is in use.

use super::build::{COMPUTES, MachineError};
use super::engine::{Machine, QueueId, bits};
use super::memory::OutOfMemory;
use super::state::{Head, Pool, State};
use super::topology::SmShare;
use super::work::Kind;
use crate::units::Bytes;

/// On what terms a context opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Its share of the SMs of its compute domain.
    pub sms: SmShare,
    /// Most bytes it may allocate, its overhead not counted.
    pub memory_limit: Option<u64>,
    /// Bytes that it takes at once; `None`: what the model says.
    pub overhead: Option<u64>,
}

impl Machine {
    /// Opens a context: it takes its overhead of device memory from now on.
    ///
    /// # Errors
    /// Where the overhead does not fit.
    pub fn open(&mut self, context: usize) -> Result<(), OutOfMemory> {
        let share = self.contexts[context].given;
        self.enter(context, share, None, self.overhead)
    }

    /// Opens a context on other terms than its topology's, until it closes: it takes `terms.overhead` bytes, has
    /// `terms.sms` of its compute domain, and may allocate no more than `terms.memory_limit`. Where sets of SMs become
    /// somebody's own, all others share the rest.
    ///
    /// # Errors
    /// Where there is no such context, its overhead does not fit, or its compute domain has not so many SMs left.
    pub fn open_on(&mut self, context: usize, terms: &Terms) -> Result<(), MachineError> {
        self.known(context)?;
        let c = usize::from(self.contexts[context].compute);
        let own = |share| if let SmShare::Own(n) = share { n } else { 0 };
        let others = bits(u64::from(self.computes[c].contexts)).filter(|x| *x != context && self.contexts[*x].open);
        let asked = others.map(|x| own(self.contexts[x].share)).sum::<u32>() + own(terms.sms);
        let has = self.computes[c].sms;
        if asked > has {
            return Err(MachineError::TooManySms { what: "compute domain", index: c, asked, has });
        }
        let overhead = terms.overhead.unwrap_or(self.overhead);
        let entered = self.enter(context, terms.sms, terms.memory_limit, overhead);
        entered.map_err(|_| MachineError::NoMemory { context, overhead })
    }

    fn enter(&mut self, context: usize, share: SmShare, limit: Option<u64>, overhead: u64) -> Result<(), OutOfMemory> {
        self.memory.reserve(context, overhead)?;
        if limit.is_some() {
            self.memory.limit(context, limit);
        }
        let state = &mut self.contexts[context];
        (state.open, state.share) = (true, share);
        self.reseat(usize::from(self.contexts[context].compute));
        Ok(())
    }

    /// Gives every context of compute domain `c` its set of SMs. What runs goes on with what it holds.
    pub(super) fn reseat(&mut self, c: usize) {
        let all = self.computes[c].sms;
        let contexts = u64::from(self.computes[c].contexts);
        let open = || bits(contexts).map(|x| &self.contexts[x]).filter(|x| x.open);
        let own: u32 = open().map(|x| if let SmShare::Own(n) = x.share { n } else { 0 }).sum();
        let left = all.saturating_sub(own);
        let caps: Option<u32> = open()
            .filter_map(|x| match x.share {
                SmShare::All => Some(None),
                SmShare::Cap(n) => Some(Some(n.min(all))),
                SmShare::Own(_) => None,
            })
            .sum();
        // Caps that fit side by side lie on disjoint SMs; beyond that they overlap and compete.
        let disjoint = caps.is_some_and(|sum| sum <= left);
        self.pools[c] = Pool { compute: c as u8, sms: f64::from(left), ..self.pools[c] };
        for x in bits(contexts) {
            let alone = COMPUTES + x;
            let (pool, sms) = match self.contexts[x].share {
                SmShare::Own(n) => (alone, n),
                SmShare::Cap(n) if disjoint => (alone, n.min(all)),
                SmShare::Cap(n) => (c, n.min(left)),
                SmShare::All => (c, left),
            };
            if pool != c {
                self.pools[pool] = Pool { compute: c as u8, sms: f64::from(sms), ..self.pools[pool] };
            }
            let old = usize::from(self.contexts[x].pool);
            (self.contexts[x].pool, self.contexts[x].sms) = (pool as u8, f64::from(sms));
            if old == pool {
                continue;
            }
            for q in bits(self.pools[old].members) {
                if usize::from(self.heads[q].context) == x {
                    self.pools[old].members &= !(1 << q);
                    self.pools[pool].members |= 1 << q;
                }
            }
            self.dirty.pools |= 1 << old | 1 << pool;
        }
        self.dirty.pools |= 1 << c;
        if self.occupied != 0 {
            self.next = self.next.min(self.now);
        }
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
        let state = &mut self.contexts[context];
        (state.open, state.share) = (false, state.given);
        self.reseat(usize::from(self.contexts[context].compute));
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

    /// Most device memory that `context` may allocate, where that is limited.
    pub fn memory_limit(&self, context: usize) -> Option<Bytes> {
        self.memory.limit_of(context)
    }

    /// SMs that `context` may use at most.
    pub fn sms_of(&self, context: usize) -> u32 {
        self.contexts[context].sms as u32
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
