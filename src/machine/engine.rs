//! The machine: queues of work, and the event loop that moves it.
//!
//! State changes at events only: a head becomes visible to the device, work ends, a turn ends, and a tick at most 1 ms
//! after the last while something runs. Between events everything is constant, so that advancing in one step or in many
//! gives the same. Every event brings what it touched up to date in one order: ends, arrivals, turns, places, rates.

use super::build::{COMPUTES, CONTEXTS, Constants, DOMAINS, GPUS, MachineError, POOLS};
use super::caches::Occupancy;
use super::demand::Demand;
use super::memory::{AllocId, Memory, OutOfMemory};
use super::power::Clock;
use super::rates::Resource;
use super::slicing::Turns;
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

/// What the head of a queue is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// There is none.
    Empty,
    /// Not visible to the device yet: launch latency, or the gap behind its predecessor.
    Pending,
    /// Waits for its turn, room, an engine or the lock.
    Waiting,
    /// A flow.
    Running,
    /// Preempted in mid-kernel.
    Paused,
    /// A host call after it gave the lock back.
    Outside,
}

/// The head of a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub state: State,
    pub context: u8,
    /// Pending behind a launch of the same queue: its context keeps its turn.
    pub follows: bool,
    pub work: u16,
    pub ticket: u32,
    pub times: u32,
    /// Blocks it holds room for, and would at most.
    pub held: u32,
    pub want: u32,
    /// Order of arrival at the device.
    pub arrival: u64,
    pub started: u64,
    /// Repetitions left at `since`, nanoseconds that one takes.
    pub rest: f64,
    pub period: f64,
    pub since: u64,
    /// Idle time between two repetitions, averaged over all of them.
    pub gap: f64,
    /// Room it holds, in SMs; SMs it lies on; waves of blocks; cycles per repetition on those SMs.
    pub room: f64,
    pub span: f64,
    pub waves: f64,
    pub cycles: f64,
    /// Of the last solve: nanoseconds of what overlaps; bytes from L2 and from device memory; the chain's time at L2, at
    /// device memory and elsewhere, unloaded; its loads from L2 and from device memory.
    pub parallel: f64,
    pub l2: f64,
    pub hbm: f64,
    pub at_l2: f64,
    pub at_hbm: f64,
    pub elsewhere: f64,
    pub chain_l2: f64,
    pub chain_hbm: f64,
    /// Scratch of a solve.
    pub asks: f64,
}

impl Head {
    const EMPTY: Self = Self {
        state: State::Empty,
        context: 0,
        follows: false,
        work: 0,
        ticket: 0,
        times: 1,
        held: 0,
        want: 0,
        arrival: 0,
        started: u64::MAX,
        rest: 0.0,
        period: f64::INFINITY,
        since: 0,
        gap: 0.0,
        room: 0.0,
        span: 1.0,
        waves: 1.0,
        cycles: 0.0,
        parallel: 0.0,
        l2: 0.0,
        hbm: 0.0,
        at_l2: 0.0,
        at_hbm: 0.0,
        elsewhere: 0.0,
        chain_l2: 0.0,
        chain_hbm: 0.0,
        asks: 0.0,
    };

    /// Unloaded nanoseconds of the chain.
    pub fn serial(&self) -> f64 {
        self.at_l2 + self.at_hbm + self.elsewhere
    }
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
struct Ring {
    first: u8,
    len: u8,
    items: [Item; DEPTH],
}

/// What hangs on a GPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct GpuState {
    pub clock: Clock,
    /// Last-level TLB, in pages.
    pub tlb: Occupancy,
    pub domains: u64,
    /// Running copies.
    pub copies: u64,
    /// Running work with barriers, and how much of the barrier path it uses.
    pub barriers: u64,
    pub crowded: f64,
    /// Who holds the driver's lock, and who waits for it.
    pub lock: Option<u8>,
    pub callers: u64,
    /// The next tick.
    pub tick: u64,
}

impl GpuState {
    pub fn new(clock: Clock, tlb: Occupancy) -> Self {
        let none = u64::MAX;
        Self { clock, tlb, domains: 0, copies: 0, barriers: 0, crowded: 0.0, lock: None, callers: 0, tick: none }
    }
}

/// What hangs on a memory domain.
#[derive(Clone, Copy, Debug)]
pub(super) struct DomainState {
    pub gpu: u8,
    pub engines: u32,
    pub contexts: u32,
    /// Running launches, and copies that wait and run.
    pub running: u64,
    pub copies_waiting: u64,
    pub copies_running: u64,
    pub l2: Occupancy,
    /// Bytes per SM cycle, atomics per SM cycle, bytes per nanosecond.
    pub l2_per_cycle: f64,
    pub atomics_per_cycle: f64,
    pub hbm_rate: f64,
    /// Of the last solve: the most that one flow gets; watts; what it uses; when its caches will have moved.
    pub hbm_level: f64,
    pub l2_level: f64,
    pub scaled_w: f64,
    pub fixed_w: f64,
    pub uses: [f64; Resource::COUNT],
    pub settling: f64,
}

impl DomainState {
    pub fn new(gpu: usize, l2_bytes: u64) -> Self {
        Self {
            gpu: gpu as u8,
            engines: 1,
            contexts: 0,
            running: 0,
            copies_waiting: 0,
            copies_running: 0,
            l2: Occupancy::new((l2_bytes as f64).max(1.0)),
            l2_per_cycle: 1.0,
            atomics_per_cycle: 1.0,
            hbm_rate: 1.0,
            hbm_level: 1.0,
            l2_level: 1.0,
            scaled_w: 0.0,
            fixed_w: 0.0,
            uses: [0.0; Resource::COUNT],
            settling: f64::INFINITY,
        }
    }
}

/// What hangs on a compute domain.
#[derive(Clone, Copy, Debug)]
pub(super) struct ComputeState {
    pub domain: u8,
    /// Under time-slicing.
    pub turns: Option<Turns>,
    pub contexts: u32,
    /// Contexts with a launch that waits, runs or is paused; with one in the gap behind another.
    pub ready: u32,
    pub between: u32,
}

impl ComputeState {
    pub const EMPTY: Self = Self { domain: 0, turns: None, contexts: 0, ready: 0, between: 0 };
}

/// A set of SMs on which launches meet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool {
    pub compute: u8,
    pub sms: f64,
    /// Queues whose head is a launch that waits, runs or is paused.
    pub members: u64,
}

impl Pool {
    pub const EMPTY: Self = Self { compute: 0, sms: 0.0, members: 0 };
}

/// What hangs on a context.
#[derive(Clone, Copy, Debug)]
pub(super) struct ContextState {
    pub compute: u8,
    pub pool: u8,
    /// SMs it may use at most.
    pub sms: f64,
    /// Its queues whose head is a ready launch; one in a gap.
    pub ready: u8,
    pub between: u8,
}

impl ContextState {
    pub const EMPTY: Self = Self { compute: 0, pool: 0, sms: 0.0, ready: 0, between: 0 };
}

/// What an event touched, as masks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dirty {
    pub computes: u32,
    pub pools: u64,
    pub domains: u32,
    /// Domains whose copies, and GPUs whose callers, may begin.
    copies: u32,
    locks: u32,
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
    occupied: u64,
    queues: usize,
    now: u64,
    next: u64,
    tickets: u32,
    arrivals: u64,
    rings: [Ring; QUEUES],
    pub(super) works: [Work; WORKS],
    defined: usize,
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
        if self.defined == WORKS {
            return Err(MachineError::TooMany { what: "different demands", most: WORKS });
        }
        self.works[self.defined] = Work::new(context as u8, demand, self.k.max_blocks);
        self.defined += 1;
        Ok(WorkId((self.defined - 1) as u16))
    }

    fn known(&self, context: usize) -> Result<(), MachineError> {
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
        Nanos(self.clock(gpu).throttled(self.now, &self.k))
    }

    /// SM cycles of `gpu` so far: the difference over an interval gives its mean clock.
    pub fn clock_cycles(&self, gpu: usize) -> f64 {
        self.clock(gpu).cycles(self.now)
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
            self.in_order(seen, |machine, q| machine.arrive(q));
        }
        for g in 0..self.counts.0 {
            if self.gpus[g].tick <= t {
                if t - self.gpus[g].clock.since >= super::power::TICK {
                    let k = self.k;
                    self.gpus[g].clock.tick(t, &k);
                }
                self.dirty.domains |= self.gpus[g].domains as u32;
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
    fn arrive(&mut self, q: usize) {
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
