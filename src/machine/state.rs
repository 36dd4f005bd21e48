//! The parts of a machine: heads of queues, and what hangs on a GPU, a memory domain, a compute domain, a context.

use super::caches::Occupancy;
use super::power::Clock;
use super::rates::Resource;
use super::slicing::Turns;
use super::topology::SmShare;

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
    pub const EMPTY: Self = Self {
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
    /// Since when it has had nothing to run, where it has nothing.
    pub idle_since: u64,
    /// Who holds the driver's lock, and who waits for it.
    pub lock: Option<u8>,
    pub callers: u64,
    /// When its TLB needs to be looked at again; when anything of it does.
    pub tlb_tick: u64,
    pub tick: u64,
}

impl GpuState {
    pub fn new(clock: Clock, tlb: Occupancy) -> Self {
        Self {
            clock,
            tlb,
            domains: 0,
            copies: 0,
            barriers: 0,
            crowded: 0.0,
            idle_since: 0,
            lock: None,
            callers: 0,
            tlb_tick: u64::MAX,
            tick: u64::MAX,
        }
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
    /// Of the last solve: the most that one flow gets; watts; what it uses.
    pub hbm_level: f64,
    pub l2_level: f64,
    pub scaled_w: f64,
    pub fixed_w: f64,
    pub uses: [f64; Resource::COUNT],
    /// When its caches need to be looked at again.
    pub tick: u64,
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
            tick: u64::MAX,
        }
    }
}

/// What hangs on a compute domain.
#[derive(Clone, Copy, Debug)]
pub(super) struct ComputeState {
    pub domain: u8,
    /// SMs, those of sets of single contexts included.
    pub sms: u32,
    /// Under time-slicing.
    pub turns: Option<Turns>,
    pub contexts: u32,
    /// Contexts with a launch that waits, runs or is paused; with one in the gap behind another.
    pub ready: u32,
    pub between: u32,
}

impl ComputeState {
    pub const EMPTY: Self = Self { domain: 0, sms: 0, turns: None, contexts: 0, ready: 0, between: 0 };
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
    /// It is there.
    pub open: bool,
    /// Its share of the SMs while it is open, and the one that the topology gives it.
    pub share: SmShare,
    pub given: SmShare,
    /// SMs it may use at most.
    pub sms: f64,
    /// Its queues whose head is a ready launch; one in a gap.
    pub ready: u8,
    pub between: u8,
}

impl ContextState {
    pub const EMPTY: Self = Self {
        compute: 0,
        pool: 0,
        open: false,
        share: SmShare::All,
        given: SmShare::All,
        sms: 0.0,
        ready: 0,
        between: 0,
    };
}
