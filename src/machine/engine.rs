//! The machine: queues of work, and the event loop that moves it.
//!
//! State changes at events only: a head becomes visible to the device, work ends, a turn ends, and a tick at most 1 ms
//! after the last while something runs. Between events everything is constant, so that advancing in one step or in many
//! gives the same. Every event brings what it touched up to date in one order: ends, arrivals, turns, places, rates.

use super::build::{COMPUTES, CONTEXTS, Constants, DOMAINS, GPUS, MachineError, POOLS};
use super::caches::Occupancy;
use super::demand::Demand;
use super::memory::{AllocId, Memory, OutOfMemory};
use super::power::{Clock, TICK};
use super::rates::Resource;
use super::state::{ComputeState, ContextState, DomainState, GpuState, Head, Pool, State};
use super::work::{Kind, Work};
use crate::units::{Bytes, Nanos};

/// Queues of a machine at most: the bits of a mask.
pub(super) const QUEUES: usize = 64;
/// Items of a queue at most, the running one included.
const DEPTH: usize = 64;
/// Different demands at most.
const WORKS: usize = 512;

/// Names a queue: a FIFO stream of one context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueId(pub(super) u16);

impl QueueId {
    /// Which of the 64 places of a machine it holds.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Names an interned demand of one context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkId(u16);

/// Names one submission. Rises with every submission to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u32);

/// Work that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Which submission.
    pub ticket: Ticket,
    /// Where it was queued.
    pub queue: QueueId,
    /// First instruction, first byte, or lock taken, of the first repetition.
    pub started: Nanos,
    /// End of the last repetition on the device.
    pub ended: Nanos,
}

/// Work in a queue.
#[derive(Clone, Copy, Debug)]
struct Item {
    at: u64,
    ticket: u32,
    times: u32,
    work: u16,
}

/// The items of a queue in a circle, the head included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ring {
    pub first: u8,
    pub len: u8,
    items: [Item; DEPTH],
}

impl Ring {
    /// Becomes a copy of `from`; what is not in use stays as it was.
    pub(super) fn copy_from(&mut self, from: &Self) {
        (self.first, self.len) = (from.first, from.len);
        for i in 0..usize::from(from.len) {
            let at = (usize::from(from.first) + i) % DEPTH;
            self.items[at] = from.items[at];
        }
    }
}

/// What an event touched, as masks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dirty {
    pub computes: u32,
    pub pools: u64,
    pub domains: u32,
    /// Domains whose copies, and GPUs whose callers, may begin.
    pub copies: u32,
    pub locks: u32,
    /// GPUs to solve whatever their domains; GPUs whose link to solve.
    pub gpus: u32,
    pub links: u32,
}

/// A shared GPU, or several, with everything queued and running on them. Fixed capacity: a copy is a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub(super) k: Constants,
    /// GPUs and contexts there are.
    pub(super) counts: (usize, usize),
    pub(super) gpus: [GpuState; GPUS],
    pub(super) domains: [DomainState; DOMAINS],
    pub(super) computes: [ComputeState; COMPUTES],
    /// Compute domains with turns.
    pub(super) sliced: u32,
    pub(super) pools: [Pool; POOLS],
    pub(super) contexts: [ContextState; CONTEXTS],
    pub(super) dirty: Dirty,
    /// When each queue next does something by itself.
    pub(super) wakes: [u64; QUEUES],
    pub(super) heads: [Head; QUEUES],
    /// Queues that hold something.
    pub(super) occupied: u64,
    pub(super) queues: usize,
    /// Of those, the ones that were closed.
    pub(super) free_queues: u64,
    /// Device memory that an open context takes, bytes.
    pub(super) overhead: u64,
    pub(super) now: u64,
    pub(super) next: u64,
    pub(super) tickets: u32,
    pub(super) arrivals: u64,
    pub(super) rings: [Ring; QUEUES],
    /// Of a closed context: `u8::MAX` in the place of the context.
    pub(super) works: [Work; WORKS],
    pub(super) defined: usize,
    pub(super) memory: Memory,
}

/// The bits of a mask, rising.
pub(super) fn bits(mask: u64) -> impl Iterator<Item = usize> + Clone {
    let mut rest = mask;
    std::iter::from_fn(move || {
        if rest == 0 {
            return None;
        }
        let bit = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        Some(bit)
    })
}

impl Machine {
    /// No parts yet.
    pub(super) fn empty(k: Constants) -> Self {
        let item = Item { at: 0, ticket: 0, times: 0, work: 0 };
        Self {
            k,
            counts: (0, 0),
            gpus: [GpuState::new(Clock::new(&k), Occupancy::new(1.0)); GPUS],
            domains: [DomainState::new(0, 1); DOMAINS],
            computes: [ComputeState::EMPTY; COMPUTES],
            sliced: 0,
            pools: [Pool::EMPTY; POOLS],
            contexts: [ContextState::EMPTY; CONTEXTS],
            dirty: Dirty::default(),
            wakes: [u64::MAX; QUEUES],
            heads: [Head::EMPTY; QUEUES],
            occupied: 0,
            queues: 0,
            free_queues: 0,
            overhead: 0,
            now: 0,
            next: u64::MAX,
            tickets: 0,
            arrivals: 0,
            rings: [Ring { first: 0, len: 0, items: [item; DEPTH] }; QUEUES],
            works: [Work::EMPTY; WORKS],
            defined: 0,
            memory: Memory::EMPTY,
        }
    }

    /// A new queue of `context`.
    ///
    /// # Errors
    /// Where there is no such context, or no queue left (64 per machine).
    pub fn queue(&mut self, context: usize) -> Result<QueueId, MachineError> {
        self.known(context)?;
        if self.free_queues != 0 {
            let q = self.free_queues.trailing_zeros() as usize;
            self.free_queues &= self.free_queues - 1;
            self.heads[q] = Head { context: context as u8, ..Head::EMPTY };
            return Ok(QueueId(q as u16));
        }
        if self.queues == QUEUES {
            return Err(MachineError::TooMany { what: "queues", most: QUEUES });
        }
        self.heads[self.queues].context = context as u8;
        self.queues += 1;
        Ok(QueueId((self.queues - 1) as u16))
    }

    /// Interns `demand` for `context`: the same demand has the same id.
    ///
    /// # Errors
    /// Where there is no such context, or the table is full (512 demands).
    pub fn define(&mut self, context: usize, demand: &Demand) -> Result<WorkId, MachineError> {
        self.known(context)?;
        let same = |w: &Work| usize::from(w.context) == context && w.demand == *demand;
        if let Some(found) = self.works[..self.defined].iter().position(same) {
            return Ok(WorkId(found as u16));
        }
        let free = self.works[..self.defined].iter().position(|w| w.context == u8::MAX).unwrap_or(self.defined);
        if free == WORKS {
            return Err(MachineError::TooMany { what: "different demands", most: WORKS });
        }
        self.works[free] = Work::new(context as u8, demand, self.k.max_blocks, self.k.sm_pages);
        self.defined = self.defined.max(free + 1);
        Ok(WorkId(free as u16))
    }

    pub(super) fn known(&self, context: usize) -> Result<(), MachineError> {
        if context >= self.counts.1 { Err(MachineError::Missing { what: "context", index: context }) } else { Ok(()) }
    }

    /// Queues `times` repetitions of `work`, back to back, visible to the device at `now`: one flow, one [`Done`] at the
    /// end. `None`: the queue is full (64 items).
    pub fn submit(&mut self, queue: QueueId, work: WorkId, times: u32, now: Nanos) -> Option<Ticket> {
        let q = usize::from(queue.0);
        debug_assert!(self.works[usize::from(work.0)].context == self.heads[q].context, "work of another context");
        let ring = &mut self.rings[q];
        if usize::from(ring.len) == DEPTH {
            return None;
        }
        let ticket = self.tickets;
        self.tickets = self.tickets.wrapping_add(1);
        let at = now.0.max(self.now);
        ring.items[(usize::from(ring.first) + usize::from(ring.len)) % DEPTH] =
            Item { at, ticket, times: times.max(1), work: work.0 };
        ring.len += 1;
        if ring.len == 1 {
            self.occupied |= 1 << q;
            self.load(q, None);
            self.next = self.next.min(self.wakes[q]);
        }
        Some(Ticket(ticket))
    }

    /// Items of `queue` that are not done.
    pub fn busy(&self, queue: QueueId) -> u32 {
        u32::from(self.rings[usize::from(queue.0)].len)
    }

    /// Time of the next internal event; `None` if nothing can happen. Not every event ends work.
    pub fn next(&self) -> Option<Nanos> {
        (self.next != u64::MAX).then_some(Nanos(self.next))
    }

    /// Moves to time `to` (inclusive) and reports what ended, in order of time, then of submission.
    pub fn advance(&mut self, to: Nanos, done: &mut impl FnMut(Done)) {
        while self.next <= to.0 && self.next != u64::MAX {
            let t = self.next;
            self.now = t;
            self.event(t, done);
        }
        self.now = self.now.max(to.0);
    }

    /// Takes device memory.
    ///
    /// # Errors
    /// Where it does not fit: see [`OutOfMemory`]. Also where the table of allocations is full (4096).
    pub fn alloc(&mut self, context: usize, bytes: Bytes) -> Result<AllocId, OutOfMemory> {
        let share = self.k.leaks[Resource::HbmRoom as usize];
        let leaked = if share > 0.0 { (share * f64::from(self.memory.used_elsewhere(context))) as u32 } else { 0 };
        self.memory.alloc(context, bytes.0, leaked)
    }

    /// Gives device memory back. False if `context` has no such allocation.
    pub fn free(&mut self, context: usize, id: AllocId) -> bool {
        self.memory.free(context, id)
    }

    /// Bytes of an allocation that held what another tenant left there when it was made: zero where memory is scrubbed,
    /// as it is without a leak of the residual-memory channel. `None` where `context` has no such allocation, or the
    /// table of leftovers ran over.
    pub fn leftovers(&self, context: usize, id: AllocId) -> Option<Bytes> {
        self.memory.found(context, id)
    }

    /// Where an allocation of `context` begins in the memory of its domain, and what it takes of it, bytes.
    pub fn placed(&self, context: usize, id: AllocId) -> Option<(u64, u64)> {
        self.memory.placed(context, id)
    }

    /// SM clock of `gpu` now, MHz.
    pub fn sm_mhz(&self, gpu: usize) -> f64 {
        self.clock(gpu).ghz * 1e3
    }

    /// Draw of `gpu` now, watts.
    pub fn power_w(&self, gpu: usize) -> f64 {
        self.clock(gpu).watts(&self.k)
    }

    /// Time so far in which the power cap held the clock of `gpu` down.
    pub fn throttled(&self, gpu: usize) -> Nanos {
        Nanos(self.clock(gpu).throttled(self.now))
    }

    /// SM cycles of `gpu` so far: the difference over an interval gives its mean clock.
    pub fn clock_cycles(&self, gpu: usize) -> f64 {
        self.clock(gpu).cycles(self.now)
    }

    /// Time so far.
    #[cfg(test)]
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    fn clock(&self, gpu: usize) -> Clock {
        self.gpus[gpu].clock.at(self.now, &self.k)
    }

    /// Makes the first item of queue `q` its head, pending until the device sees it. `after`: the end of its predecessor.
    fn load(&mut self, q: usize, after: Option<u64>) {
        let ring = &self.rings[q];
        let item = ring.items[usize::from(ring.first)];
        let w = &self.works[usize::from(item.work)];
        let context = self.heads[q].context;
        let launch = w.kind == Kind::Launch;
        let (latency, gap) = if launch { (self.k.latency, self.k.gap) } else { (0, 0) };
        let seen = (item.at + latency).max(after.map_or(0, |end| end + gap));
        let x = usize::from(context);
        let limit = self.contexts[x].sms * f64::from(w.per_sm);
        self.heads[q] = Head {
            state: State::Pending,
            context,
            // It was there when its predecessor ended, so that only the gap lies between them.
            follows: launch && after.is_some_and(|end| item.at <= end),
            work: item.work,
            ticket: item.ticket,
            times: item.times,
            want: w.blocks.min(limit as u32),
            gap: self.k.gap as f64 * f64::from(item.times - 1) / f64::from(item.times) * f64::from(u8::from(launch)),
            ..Head::EMPTY
        };
        self.wakes[q] = seen;
        if self.heads[q].follows {
            self.contexts[x].between += 1;
            self.computes[usize::from(self.contexts[x].compute)].between |= 1 << x;
        }
    }

    /// Everything that happens at time `t`.
    fn event(&mut self, t: u64, done: &mut impl FnMut(Done)) {
        if let Some(ended) = self.due(t, |state| state != State::Pending) {
            self.in_order(ended, |machine, q| machine.end(q, t, done));
        }
        if let Some(seen) = self.due(t, |state| state == State::Pending) {
            self.in_order(seen, |machine, q| machine.arrive(q, t));
        }
        for g in 0..self.counts.0 {
            if self.gpus[g].tick <= t {
                self.tick(g, t);
            }
        }
        for c in bits(u64::from(self.sliced)) {
            if self.dirty.computes & 1 << c != 0 || self.computes[c].turns.is_some_and(|turns| turns.wake <= t) {
                self.take_turns(c, t);
            }
        }
        if self.k.leaky {
            self.touch_all();
        }
        for p in bits(self.dirty.pools) {
            self.place(p, t);
        }
        for d in bits(u64::from(self.dirty.copies)) {
            self.start_copies(d, t);
        }
        for g in bits(u64::from(self.dirty.locks)) {
            self.take_lock(g, t);
        }
        self.solve(t);
        self.dirty = Dirty::default();
        self.schedule();
    }

    /// What of GPU `g` needs to be looked at again by `t`: caches that moved, and everything where the clock moved.
    fn tick(&mut self, g: usize, t: u64) {
        let domains = self.gpus[g].domains;
        if t - self.gpus[g].clock.since >= TICK && self.gpus[g].clock.tick(t, &self.k) {
            self.dirty.domains |= domains as u32;
        }
        if self.gpus[g].tlb_tick <= t {
            self.dirty.domains |= self.users(domains, |w| w.pages > 0.0) as u32;
        }
        for d in bits(domains) {
            if self.domains[d].tick <= t {
                self.dirty.domains |= 1 << d;
            }
        }
        self.dirty.gpus |= 1 << g;
    }

    /// Queues with something due at `t` in a state that `wanted` takes.
    fn due(&self, t: u64, wanted: impl Fn(State) -> bool) -> Option<u64> {
        let mut mask = 0;
        for q in bits(self.occupied) {
            if self.wakes[q] <= t && wanted(self.heads[q].state) {
                mask |= 1 << q;
            }
        }
        (mask != 0).then_some(mask)
    }

    /// Does something for each queue of `mask`, in order of submission.
    fn in_order(&mut self, mask: u64, mut each: impl FnMut(&mut Self, usize)) {
        let mut rest = mask;
        while rest != 0 {
            let q = if rest & (rest - 1) == 0 {
                rest.trailing_zeros() as usize
            } else {
                bits(rest).min_by_key(|q| self.heads[*q].ticket).unwrap_or(0)
            };
            rest &= !(1 << q);
            each(self, q);
        }
    }

    /// The flow at the head of queue `q` has come to an end, or to the next stage.
    fn end(&mut self, q: usize, t: u64, done: &mut impl FnMut(Done)) {
        let head = self.heads[q];
        let w = &self.works[usize::from(head.work)];
        let (kind, outside, barriers) = (w.kind, w.outside, w.barriers > 0.0);
        let x = usize::from(head.context);
        let c = usize::from(self.contexts[x].compute);
        let d = usize::from(self.computes[c].domain);
        let g = usize::from(self.domains[d].gpu);
        match kind {
            Kind::Launch => {
                self.domains[d].running &= !(1 << q);
                self.pools[usize::from(self.contexts[x].pool)].members &= !(1 << q);
                self.contexts[x].ready -= 1;
                if self.contexts[x].ready == 0 {
                    self.computes[c].ready &= !(1 << x);
                }
                self.dirty.pools |= 1 << self.contexts[x].pool;
                self.dirty.computes |= 1 << c;
                self.dirty.domains |= 1 << d;
            }
            Kind::ToDevice | Kind::ToHost => {
                self.domains[d].copies_running &= !(1 << q);
                self.gpus[g].copies &= !(1 << q);
                self.dirty.copies |= 1 << d;
                self.dirty.links |= 1 << g;
            }
            Kind::Host if head.state == State::Running => {
                self.gpus[g].lock = None;
                self.dirty.locks |= 1 << g;
                if barriers {
                    self.dirty.gpus |= 1 << g;
                }
                if outside > 0 {
                    self.gpus[g].barriers &= !(1 << q);
                    self.heads[q].state = State::Outside;
                    self.wakes[q] = t + outside;
                    return;
                }
            }
            Kind::Host => {}
        }
        self.gpus[g].barriers &= !(1 << q);
        if self.k.idle_after != u64::MAX && kind != Kind::Host && self.is_idle(g) {
            self.gpus[g].idle_since = t;
        }
        if kind == Kind::Host && head.times > 1 {
            // Each repetition takes the lock anew, behind who waits.
            self.heads[q].times -= 1;
            self.call(q, g);
            return;
        }
        done(Done {
            ticket: Ticket(head.ticket),
            queue: QueueId(q as u16),
            started: Nanos(head.started),
            ended: Nanos(t),
        });
        let ring = &mut self.rings[q];
        ring.first = (ring.first + 1) % DEPTH as u8;
        ring.len -= 1;
        if ring.len > 0 {
            self.load(q, Some(t));
        } else {
            self.heads[q].state = State::Empty;
            self.wakes[q] = u64::MAX;
            self.occupied &= !(1 << q);
        }
    }

    /// The device sees the head of queue `q`.
    fn arrive(&mut self, q: usize, t: u64) {
        self.wake(q, t);
        let head = &mut self.heads[q];
        let x = usize::from(head.context);
        let kind = self.works[usize::from(head.work)].kind;
        let c = usize::from(self.contexts[x].compute);
        let d = usize::from(self.computes[c].domain);
        head.state = State::Waiting;
        head.arrival = self.arrivals;
        self.arrivals += 1;
        self.wakes[q] = u64::MAX;
        match kind {
            Kind::Launch => {
                let context = &mut self.contexts[x];
                if head.follows {
                    context.between -= 1;
                    if context.between == 0 {
                        self.computes[c].between &= !(1 << x);
                    }
                }
                context.ready += 1;
                self.computes[c].ready |= 1 << x;
                self.pools[usize::from(context.pool)].members |= 1 << q;
                self.dirty.pools |= 1 << context.pool;
                self.dirty.computes |= 1 << c;
            }
            Kind::ToDevice | Kind::ToHost => {
                self.domains[d].copies_waiting |= 1 << q;
                self.dirty.copies |= 1 << d;
            }
            Kind::Host => self.call(q, usize::from(self.domains[d].gpu)),
        }
    }

    /// Work of queue `q` reaches its GPU, whose clock may have fallen for want of any.
    fn wake(&mut self, q: usize, t: u64) {
        let after = self.k.idle_after;
        if after == u64::MAX || self.works[usize::from(self.heads[q].work)].kind == Kind::Host {
            return;
        }
        let c = usize::from(self.contexts[usize::from(self.heads[q].context)].compute);
        let g = usize::from(self.domains[usize::from(self.computes[c].domain)].gpu);
        let idle = t - self.gpus[g].idle_since;
        if idle > after && self.is_idle(g) {
            self.gpus[g].clock.wake(t, idle - after, &self.k);
            // It may wait for its turn before it runs; the clock rises from now on.
            self.gpus[g].idle_since = t;
        }
    }

    /// Whether nothing runs on GPU `g`.
    pub(super) fn is_idle(&self, g: usize) -> bool {
        self.gpus[g].copies == 0 && bits(self.gpus[g].domains).all(|d| self.domains[d].running == 0)
    }

    /// The host call at the head of queue `q` asks for the driver's lock.
    fn call(&mut self, q: usize, g: usize) {
        self.heads[q].state = State::Waiting;
        self.heads[q].arrival = self.arrivals;
        self.arrivals += 1;
        self.wakes[q] = u64::MAX;
        self.gpus[g].callers |= 1 << q;
        self.dirty.locks |= 1 << g;
    }

    /// A leak couples everything to everything.
    fn touch_all(&mut self) {
        for g in 0..self.counts.0 {
            for d in bits(self.gpus[g].domains) {
                self.dirty.domains |= 1 << d;
                self.dirty.copies |= 1 << d;
            }
        }
        for (p, pool) in self.pools.iter().enumerate() {
            self.dirty.pools |= u64::from(pool.members != 0) << p;
        }
    }

    /// Finds the next event.
    fn schedule(&mut self) {
        let mut next = u64::MAX;
        for q in bits(self.occupied) {
            next = next.min(self.wakes[q]);
        }
        for c in bits(u64::from(self.sliced)) {
            if let Some(turns) = &self.computes[c].turns {
                next = next.min(turns.wake);
            }
        }
        for gpu in &self.gpus[..self.counts.0] {
            next = next.min(gpu.tick);
        }
        self.next = next;
    }
}
