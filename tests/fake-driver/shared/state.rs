//! The state of one GPU that all processes share: a mapped file, two copies of the state and a generation that says
//! which of them counts.
//!
//! A transaction takes the file's lock (the kernel frees it when its holder dies), copies what is in use of the valid
//! copy into the other one, brings the machine to the present, changes it, and raises the generation. Whoever is killed
//! in between has changed nothing.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crosstalk::machine::{Machine, Policy, QueueId};
use crosstalk::units::Nanos;
use memmap2::MmapRaw;
use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};

use crate::blast;
use crate::config::Among;
use crate::parts::{CONTEXTS, Part};
use crate::traces::Traces;

/// Queues of a machine.
const QUEUES: usize = 64;
/// Completions that wait for the owner of a queue: as many as it may have in flight.
pub(crate) const IN_FLIGHT: usize = 64;
/// Model time between two looks at whose work runs, nanoseconds, and looks at a time.
const LOOK: u64 = 250_000;
const MOST_LOOKS: u64 = 200;
/// Xid events that are kept.
const XIDS: usize = 64;
/// Bytes before the first copy.
const HEADER: usize = 4096;

/// Who holds a context.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    /// 0: nobody.
    pub(crate) pid: u32,
    pub(crate) role: Role,
    pub(crate) started: u64,
}

/// How a process is on a GPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// By a context of its own.
    #[default]
    Plain,
    /// As the server of MPS.
    Server,
    /// Through the server with this process id.
    Client(u32),
    /// By a green context of the process with this id.
    Green(u32),
}

/// Work that is done, until its owner takes note.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Completion {
    pub(crate) ticket: u32,
    pub(crate) started: u64,
    pub(crate) ended: u64,
}

/// An Xid event.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Xid {
    /// CLOCK_MONOTONIC.
    pub(crate) at: u64,
    pub(crate) code: u32,
}

/// The completions of one queue. Its owner has at most [`IN_FLIGHT`] submissions of which it has taken no note, so that
/// they always fit.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Completions {
    len: u32,
    items: [Completion; IN_FLIGHT],
}

/// What is shared.
#[repr(C)]
pub(crate) struct Shared {
    pub(crate) machine: Machine,
    pub(crate) slots: [Slot; CONTEXTS],
    completions: [Completions; QUEUES],
    /// The context of each queue.
    owners: [usize; QUEUES],
    /// Model time in which each context had work on the device, nanoseconds, and up to when that is counted.
    pub(crate) busy: [u64; CONTEXTS],
    counted: [u64; CONTEXTS],
    /// Model time in which launches of each context were on the SMs, nanoseconds, looked at in steps; and up to when.
    pub(crate) ran: [u64; CONTEXTS],
    looked: u64,
    /// What kernels have left in memory.
    pub(crate) traces: Traces,
    /// Xid events that happened, the newest last.
    pub(crate) lost: u32,
    /// Domain of the memory of each place.
    domains: [u32; CONTEXTS],
    /// What reached each context of another's fault: a word as [`blast`] has it.
    struck: [u32; CONTEXTS],
    /// An endless kernel runs there.
    pub(crate) spinning: [u32; CONTEXTS],
    /// Xid events of faults, a ring, and how many there ever were.
    xids: [Xid; XIDS],
    xids_told: u64,
    /// Completions that found no room: a defect, and said so.
    overflow: u32,
}

impl Shared {
    fn copy_from(&mut self, from: &Self) {
        self.machine.copy_from(&from.machine);
        self.traces.copy_from(&from.traces);
        self.slots = from.slots;
        for (mine, theirs) in self.completions.iter_mut().zip(&from.completions) {
            mine.len = theirs.len;
            let len = (theirs.len as usize).min(IN_FLIGHT);
            mine.items[..len].copy_from_slice(&theirs.items[..len]);
        }
        (self.owners, self.busy, self.counted) = (from.owners, from.busy, from.counted);
        (self.ran, self.looked) = (from.ran, from.looked);
        (self.domains, self.struck, self.spinning) = (from.domains, from.struck, from.spinning);
        (self.xids, self.xids_told) = (from.xids, from.xids_told);
        self.overflow = from.overflow;
    }

    /// Brings the machine to `now`; what ended waits for its owner.
    fn advance(&mut self, now: Nanos) {
        // Whose turn it is shows only when it is looked at; a machine at rest has nothing to show.
        let length = now.0.saturating_sub(self.looked);
        let steps = if self.machine.next().is_none() { 1 } else { (length / LOOK).clamp(1, MOST_LOOKS) };
        let from = self.looked;
        for step in 1..=steps {
            let to = from + length * step / steps;
            self.advance_to(Nanos(to.min(now.0)));
            for context in (0..CONTEXTS).filter(|c| self.slots[*c].pid != 0) {
                if self.machine.is_running(context) {
                    self.ran[context] += to - self.looked;
                }
            }
            self.looked = to;
        }
        self.advance_to(now);
    }

    fn advance_to(&mut self, now: Nanos) {
        let Self { machine, completions, owners, busy, counted, overflow, .. } = self;
        machine.advance(now, &mut |done| {
            let owner = owners.get(index(done.queue)).copied().unwrap_or(0);
            if let (Some(busy), Some(counted)) = (busy.get_mut(owner), counted.get_mut(owner)) {
                // In order of their ends: what two of them have in common counts once.
                *busy += done.ended.0.saturating_sub(done.started.0.max(*counted));
                *counted = (*counted).max(done.ended.0);
            }
            let Some(queue) = completions.get_mut(index(done.queue)) else { return };
            match queue.items.get_mut(queue.len as usize) {
                Some(free) => {
                    *free = Completion { ticket: done.ticket.0, started: done.started.0, ended: done.ended.0 };
                    queue.len += 1;
                }
                None => *overflow += 1,
            }
        });
    }

    /// Takes the completions of a queue.
    pub(crate) fn take(&mut self, queue: QueueId, each: &mut Vec<Completion>) {
        if let Some(queue) = self.completions.get_mut(index(queue)) {
            each.extend_from_slice(&queue.items[..queue.len as usize]);
            queue.len = 0;
        }
    }

    /// Whether a queue has completions of which its owner has taken no note.
    pub(crate) fn ended(&self, queue: QueueId) -> bool {
        self.completions.get(index(queue)).is_some_and(|queue| queue.len > 0)
    }

    /// Opens a queue of `context`.
    pub(crate) fn queue(&mut self, context: usize) -> Option<QueueId> {
        let queue = self.machine.queue(context).ok()?;
        if let Some(completions) = self.completions.get_mut(index(queue)) {
            completions.len = 0;
        }
        if let Some(owner) = self.owners.get_mut(index(queue)) {
            *owner = context;
        }
        Some(queue)
    }

    /// Closes the contexts of processes that are gone.
    pub(crate) fn reap(&mut self, share: usize) {
        for context in 0..CONTEXTS {
            let slot = self.slots[context];
            if slot.pid != 0 && !alive(slot) {
                if self.spinning[context] != 0 {
                    self.strike(context, "died", share);
                }
                self.close(context, share);
            }
        }
    }

    /// A context has been opened for this process; a compute domain has `share` places.
    pub(crate) fn occupy(&mut self, context: usize, slot: Slot, share: usize) {
        self.slots[context] = slot;
        (self.ran[context], self.struck[context], self.spinning[context]) = (0, 0, 0);
        self.settle(context / share.max(1), share);
    }

    /// Closes a context.
    pub(crate) fn close(&mut self, context: usize, share: usize) {
        let _ = self.machine.close(context);
        self.slots[context] = Slot::default();
        (self.struck[context], self.spinning[context]) = (0, 0);
        self.settle(context / share.max(1), share);
    }

    /// `context` takes a fault: what reaches others, and what the device reports.
    pub(crate) fn strike(&mut self, context: usize, fault: &str, share: usize) {
        let (slot, own, share) = (self.slots[context], blast::own(fault), share.max(1));
        for other in 0..CONTEXTS {
            let found = self.slots[other];
            if found.pid == 0 || found.role == Role::Server || (found.pid == slot.pid && other != context) {
                continue;
            }
            let among = match (slot.role, found.role) {
                _ if self.domains[other] != self.domains[context] => Among::Mig,
                _ if other / share != context / share => Among::ComputeInstances,
                (Role::Client(mine), Role::Client(theirs)) if mine == theirs => Among::Mps,
                _ => Among::TimeSlicing,
            };
            let word = blast::reach(fault, among);
            // The one that takes it gets its own code, and is one of those that are to end first.
            let word = if other == context { word & blast::REFUSES } else { word };
            if word != 0 {
                self.struck[other] = word | blast::REACHED;
            }
        }
        if own.xid != 0 {
            let at = monotonic() + own.xid_after_ms * 1_000_000;
            self.xids[(self.xids_told % XIDS as u64) as usize] = Xid { at, code: own.xid };
            self.xids_told += 1;
        }
    }

    /// The word of a context that another's fault has reached; 0: none has.
    pub(crate) fn struck(&self, context: usize) -> u32 {
        self.struck.get(context).copied().unwrap_or(0)
    }

    /// The Xid event with this number, counted from 0.
    pub(crate) fn xid(&self, number: u64) -> Option<Xid> {
        (number < self.xids_told).then(|| self.xids[(number % XIDS as u64) as usize])
    }

    /// Clients of one server, and green contexts of one process, run side by side while nobody else is there. As soon as somebody is, all take turns.
    fn settle(&mut self, compute: usize, share: usize) {
        let there = self.slots.iter().skip(compute * share).take(share);
        let mut workers = there.filter(|s| s.pid != 0 && s.role != Role::Server).map(|s| s.role);
        let together = match workers.next() {
            Some(first @ (Role::Client(_) | Role::Green(_))) => workers.all(|role| role == first),
            _ => false,
        };
        self.machine.set_policy(compute, if together { Policy::Concurrent } else { Policy::TimeSliced });
    }
}

/// The index of a queue. The machine keeps it to itself, and prints it.
fn index(queue: QueueId) -> usize {
    queue.index()
}

/// This process as a slot names it.
pub(crate) fn me(role: Role) -> Slot {
    let pid = std::process::id();
    Slot { pid, role, started: start_time(pid).unwrap_or(0) }
}

/// Whether the process of a slot still runs. A zombie does not.
fn alive(slot: Slot) -> bool {
    slot.pid == std::process::id() || start_time(slot.pid) == Some(slot.started)
}

/// When a process started, in clock ticks since boot; `None` where it is gone or a zombie.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything: fields are counted from its end.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") { None } else { fields.nth(18)?.parse().ok() }
}

/// CLOCK_MONOTONIC, nanoseconds.
pub(crate) fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The start of the file.
#[repr(C)]
struct Header {
    magic: u64,
    /// Of the layout of the state and the boot: a file of another is no use.
    layout: [u8; 32],
    /// Of what the configuration says of the GPU and of time.
    config: [u8; 32],
    /// CLOCK_MONOTONIC at model time 0.
    epoch: u64,
    /// Its lowest bit says which copy counts.
    generation: AtomicU64,
    /// The words of the valid copy's `struck`, to be read without a lock.
    struck: [AtomicU32; CONTEXTS],
    /// The same of its `xids_told`.
    xids_told: AtomicU64,
}

const _: () = assert!(size_of::<Header>() <= HEADER);

const MAGIC: u64 = u64::from_le_bytes(*b"xtalk-si");

/// The shared state of one GPU.
pub(crate) struct Device {
    pub(crate) part: Part,
    file: File,
    map: MmapRaw,
    /// Threads of this process, which share the file's lock.
    threads: Mutex<()>,
    epoch: u64,
    scale: f64,
}

impl Device {
    /// Opens the state of a GPU in `folder`, or creates it.
    pub(crate) fn open(folder: &Path, part: Part, scale: f64) -> Result<Self, String> {
        let path = folder.join(format!("state.{}", part.index));
        let at = |e: std::io::Error| format!("{}: {e}", path.display());
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).clone();
        let file = options.open(&path).map_err(at)?;
        lock(&file).map_err(at)?;
        let size = HEADER + 2 * size_of::<Shared>();
        if file.metadata().map_err(at)?.len() != size as u64 {
            // The old contents are no use, and a file that shrinks and grows again reads as zeros.
            file.set_len(0).map_err(at)?;
            file.set_len(size as u64).map_err(at)?;
        }
        let map = MmapRaw::map_raw(&file).map_err(at)?;
        let mut device = Self { part, file, map, threads: Mutex::new(()), epoch: 0, scale };
        let digests = digests(&device.part, scale);
        let header = device.header();
        // SAFETY: the header lies in the map, and its plain part is written under the lock that we hold.
        let (magic, found) = unsafe { ((*header).magic, ((*header).layout, (*header).config)) };
        if magic != MAGIC || found != digests {
            if magic == MAGIC && found.0 == digests.0 && device.in_use() {
                return Err(format!(
                    "{}: live processes use this state, with another GPU or time scale in stand-in.toml; end them first",
                    path.display()
                ));
            }
            device.create(digests)?;
        }
        // SAFETY: as above.
        device.epoch = unsafe { (*header).epoch };
        unlock(&device.file).map_err(at)?;
        Ok(device)
    }

    fn header(&self) -> *mut Header {
        self.map.as_mut_ptr().cast()
    }

    fn copy(&self, generation: u64) -> *mut Shared {
        let at = HEADER + (generation & 1) as usize * size_of::<Shared>();
        // SAFETY: the map holds the header and two copies; the second begins where the first ends.
        unsafe { self.map.as_mut_ptr().add(at).cast() }
    }

    fn generation(&self) -> &AtomicU64 {
        // SAFETY: the header lies in the map, which lives as long as `self`; the field is only accessed atomically.
        unsafe { &(*self.header()).generation }
    }

    fn struck_words(&self) -> &[AtomicU32; CONTEXTS] {
        // SAFETY: the header lies in the map, which lives as long as `self`; the words are only accessed atomically.
        unsafe { &(*self.header()).struck }
    }

    fn told(&self) -> &AtomicU64 {
        // SAFETY: as above.
        unsafe { &(*self.header()).xids_told }
    }

    /// Xid events of faults so far, without the lock.
    pub(crate) fn xids_told(&self) -> u64 {
        self.told().load(Ordering::Acquire)
    }

    /// [`Shared::struck`] as it was a moment ago, without the lock.
    pub(crate) fn struck(&self, context: usize) -> u32 {
        self.struck_words().get(context).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Whether a live process holds a context. Only under the lock, and in a file of our own layout.
    fn in_use(&self) -> bool {
        let generation = self.generation().load(Ordering::Acquire);
        // SAFETY: under the lock, nobody writes; a file of our layout holds a state in its valid copy.
        let slots = unsafe { (&raw const (*self.copy(generation)).slots).read() };
        slots.iter().any(|slot| slot.pid != 0 && alive(*slot))
    }

    /// Writes the state of a machine at rest.
    fn create(&self, (layout, config): ([u8; 32], [u8; 32])) -> Result<(), String> {
        // SAFETY: under the lock; nobody reads the copies while the magic word is not there.
        unsafe { (*self.header()).magic = 0 };
        let machine = Machine::vacant(&self.part.model, &self.part.topology, &[]).map_err(|e| e.to_string())?;
        let shared = self.copy(0);
        for generation in 0..2 {
            let shared = self.copy(generation);
            // SAFETY: the place lies in the map, is aligned (the header is a page), and holds plain data: every field is
            // written before anything reads it.
            unsafe {
                std::ptr::copy_nonoverlapping(&raw const *machine, &raw mut (*shared).machine, 1);
                (&raw mut (*shared).slots).write([Slot::default(); CONTEXTS]);
                (&raw mut (*shared).owners).write([0; QUEUES]);
                (&raw mut (*shared).busy).write([0; CONTEXTS]);
                (&raw mut (*shared).counted).write([0; CONTEXTS]);
                (&raw mut (*shared).ran).write([0; CONTEXTS]);
                (&raw mut (*shared).looked).write(0);
                (&raw mut (*shared).traces).write_bytes(0, 1);
                (&raw mut (*shared).lost).write(0);
                let mut domains = [0; CONTEXTS];
                for (place, domain) in domains.iter_mut().enumerate() {
                    let compute = self.part.topology.computes.get(place / self.part.share.max(1));
                    *domain = compute.map_or(u32::MAX, |compute| compute.domain as u32);
                }
                (&raw mut (*shared).domains).write(domains);
                (&raw mut (*shared).struck).write([0; CONTEXTS]);
                (&raw mut (*shared).spinning).write([0; CONTEXTS]);
                (&raw mut (*shared).xids).write([Xid::default(); XIDS]);
                (&raw mut (*shared).xids_told).write(0);
                (&raw mut (*shared).overflow).write(0);
                for queue in 0..QUEUES {
                    (&raw mut (*shared).completions[queue].len).write(0);
                }
            }
        }
        debug_assert!(shared.is_aligned());
        let header = self.header();
        // SAFETY: as above; the magic word comes last.
        unsafe {
            ((*header).layout, (*header).config) = (layout, config);
            (*header).epoch = monotonic();
            for word in &(*header).struck {
                word.store(0, Ordering::Relaxed);
            }
            (*header).xids_told.store(0, Ordering::Relaxed);
            (*header).generation.store(0, Ordering::Release);
            (*header).magic = MAGIC;
        }
        Ok(())
    }

    /// Model time now.
    pub(crate) fn now(&self) -> Nanos {
        self.model(monotonic())
    }

    /// Model time at a moment of CLOCK_MONOTONIC.
    pub(crate) fn model(&self, monotonic: u64) -> Nanos {
        Nanos((monotonic.saturating_sub(self.epoch) as f64 / self.scale) as u64)
    }

    /// The moment of CLOCK_MONOTONIC at model time `t`.
    pub(crate) fn real(&self, t: Nanos) -> u64 {
        let after = (t.0 as f64 * self.scale).ceil();
        self.epoch.saturating_add(after as u64)
    }

    /// CLOCK_MONOTONIC when the first process came up.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Changes the state at the present, or not at all.
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut Shared, Nanos) -> R) -> R {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let held = Held::new(&self.file);
        let generation = self.generation().load(Ordering::Acquire);
        // SAFETY: under both locks nobody else reads or writes either copy; the valid one holds a state that `create`
        // or an earlier transaction wrote in full. The other one held such a state, too, and is overwritten.
        let (from, to) = unsafe { (&*self.copy(generation), &mut *self.copy(generation + 1)) };
        to.copy_from(from);
        let now = self.now();
        to.advance(now);
        let result = change(to, now);
        if to.overflow > from.overflow {
            eprintln!("crosstalk stand-in driver: completions were lost: a defect of the stand-in");
        }
        if to.struck != from.struck {
            for (word, value) in self.struck_words().iter().zip(to.struck) {
                word.store(value, Ordering::Release);
            }
        }
        self.told().store(to.xids_told, Ordering::Release);
        self.generation().store(generation + 1, Ordering::Release);
        drop(held);
        drop(threads);
        result
    }
}

/// The lock of a file, until dropped.
struct Held<'f>(&'f File);

impl<'f> Held<'f> {
    fn new(file: &'f File) -> Self {
        if let Err(e) = lock(file) {
            eprintln!("crosstalk stand-in driver: the lock of the state: {e}");
        }
        Self(file)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let _ = unlock(self.0);
    }
}

fn lock(file: &File) -> std::io::Result<()> {
    Ok(rustix::io::retry_on_intr(|| rustix::fs::flock(file, FlockOperation::LockExclusive))?)
}

fn unlock(file: &File) -> std::io::Result<()> {
    Ok(rustix::fs::flock(file, FlockOperation::Unlock)?)
}

/// What must be equal for two processes to share a state: the layout and the boot, and what the configuration says.
fn digests(part: &Part, scale: f64) -> ([u8; 32], [u8; 32]) {
    let mut layout = Sha256::new();
    layout.update(size_of::<Shared>().to_le_bytes());
    layout.update(std::mem::offset_of!(Shared, slots).to_le_bytes());
    layout.update(size_of::<Header>().to_le_bytes());
    layout.update(env!("CARGO_PKG_VERSION"));
    layout.update(std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default());
    let mut config = Sha256::new();
    config.update(format!("{:?} {scale} {:?}", part.config, part.topology));
    (layout.finalize().into(), config.finalize().into())
}
