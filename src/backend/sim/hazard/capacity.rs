//! The hazard `capacity` in virtual time: the steps of [`crate::backend::capacity`] on the machine's allocator.
//!
//! An allocation takes first the hole that fits, over pages of 2 MiB of its memory domain, less what contexts take
//! (gpu-model: capacity); it is refused where none does. How long calls take is the model's data (`driver` in a GPU's file);
//! calls of one GPU wait for one another under the driver's lock, as in arms. Contents are written at the rate of the device
//! memory. A GPU's memory is neither compacted nor shared with the host here.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use crate::backend::Outcome;
use crate::backend::capacity::{self, Ended, Fallen, Outside, Tenants, Terms};
use crate::gpu::GpuModel;
use crate::hazard::Came;
use crate::machine::{AllocId, Machine, Topology};
use crate::scenario::SharingMode;
use crate::sharing::one_process;
use crate::tenant::memory::{Holder, MemoryAnswer, MemoryQuestion, Store};
use crate::units::{Bytes, Nanos};
use crate::workload::Params;

use super::Scene;

/// Part of a driver call under the lock: as in arms.
const LOCKED: f64 = 0.9;

/// Tries it.
pub(super) fn attempt(scene: &Scene<'_>, params: &Params) -> Came {
    let untold = |why: String| Came::Untold { why };
    let mode = scene.planned.sharing;
    let Some(&neighbour) = scene.grid.neighbour_seats.first().filter(|_| mode != SharingMode::Exclusive) else {
        return untold("no neighbour is on a GPU here".to_owned());
    };
    if one_process(mode) {
        return untold("victim and neighbour live in one process: to the driver they are one".to_owned());
    }
    let seats = [scene.grid.victim, neighbour];
    let terms = match Terms::of(params, seats, seats.map(|seat| promise(scene.topology, seat)), scene.seed) {
        Ok(terms) => terms,
        Err(why) => return untold(why),
    };
    let machine = match Machine::vacant(scene.model, scene.topology, scene.leaks) {
        Ok(machine) => machine,
        Err(error) => return untold(error.to_string()),
    };
    let locks = vec![Nanos::ZERO; scene.topology.gpus.len()];
    let world = Rc::new(RefCell::new(World { machine, locks }));
    let holder = |context: usize| Holder::new(Simulated::new(scene, context, Rc::clone(&world)));
    let mut both = Both { holders: seats.map(holder) };
    match capacity::attempt(&terms, &mut both, Nanos::ZERO) {
        Ok(record) => Came::Capacity(record),
        Err(Ended::Untold(why)) => untold(why),
        Err(Ended::Stop(never)) => match never {},
    }
}

/// What the place of `seat` promises: its memory limit, or a domain's memory that it has for itself.
fn promise(topology: &Topology, seat: usize) -> Option<u64> {
    let domain = |context: usize| topology.computes[topology.contexts[context].compute].domain;
    let own = domain(seat);
    if let Some(limit) = topology.contexts[seat].memory_limit {
        return Some(limit);
    }
    let shared = (0..topology.contexts.len()).any(|other| other != seat && domain(other) == own);
    (!shared).then(|| topology.domains[own].memory)
}

/// What the two share.
struct World {
    machine: Box<Machine>,
    /// Until when somebody is under the driver's lock, by GPU.
    locks: Vec<Nanos>,
}

/// Two tenants, each with a clock of its own; whoever is behind does the next thing, and the victim where both are equal.
struct Both {
    holders: [Holder<Simulated>; 2],
}

impl Tenants for Both {
    type Stop = Infallible;

    fn ask(&mut self, questions: [Option<MemoryQuestion>; 2]) -> Result<[Option<MemoryAnswer>; 2], Fallen<Infallible>> {
        let asked = questions.each_ref().map(Option::is_some);
        let mut at_work = asked;
        for (holder, question) in self.holders.iter_mut().zip(questions) {
            if let Some(question) = question {
                holder.begin(question);
            }
        }
        while at_work != [false; 2] {
            let [victim, neighbour] = self.holders.each_ref().map(|holder| holder.store.now);
            let who = match at_work {
                [true, true] => usize::from(neighbour < victim),
                [victim, _] => usize::from(!victim),
            };
            at_work[who] = self.holders[who].step();
        }
        let mut answers = [None, None];
        for ((holder, answer), asked) in self.holders.iter_mut().zip(&mut answers).zip(asked) {
            *answer = asked.then(|| holder.end());
        }
        // The next question is asked once both have answered.
        let now = self.holders.iter().map(|holder| holder.store.now).max().unwrap_or_default();
        for holder in &mut self.holders {
            holder.store.now = now;
        }
        Ok(answers)
    }

    /// There is no NVML in virtual time.
    fn outside(&mut self, _who: usize) -> Outside {
        Outside::default()
    }

    fn check(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// One tenant's memory in virtual time.
struct Simulated {
    world: Rc<RefCell<World>>,
    now: Nanos,
    context: usize,
    gpu: usize,
    times: Times,
    /// What it has allocated, its context not counted.
    held: u64,
}

/// How long calls take, and how fast memory is written.
#[derive(Clone, Copy)]
struct Times {
    alloc: Nanos,
    free: Nanos,
    create: Nanos,
    destroy: Nanos,
    bytes_per_second: u64,
}

impl Times {
    fn of(model: &GpuModel, bytes_per_second: u64) -> Self {
        let driver = &model.driver;
        let nanos = |value: f64| Nanos(value as u64);
        Self {
            alloc: nanos(driver.alloc_us * 1e3),
            free: nanos(driver.free_us * 1e3),
            create: nanos(driver.context_create_ms * 1e6),
            destroy: nanos(driver.context_destroy_ms * 1e6),
            bytes_per_second: bytes_per_second.max(1),
        }
    }
}

impl Simulated {
    fn new(scene: &Scene<'_>, context: usize, world: Rc<RefCell<World>>) -> Self {
        let topology = scene.topology;
        let domain = &topology.domains[topology.computes[topology.contexts[context].compute].domain];
        let times = Times::of(scene.model, domain.hbm_bandwidth);
        Self { world, now: Nanos::ZERO, context, gpu: domain.gpu, times, held: 0 }
    }

    /// A call of this length, once the driver's lock is free.
    fn call(&mut self, length: Nanos) {
        let lock = &mut self.world.borrow_mut().locks[self.gpu];
        let from = self.now.max(*lock);
        *lock = from + Nanos((length.0 as f64 * LOCKED) as u64);
        self.now = from + length;
    }
}

impl Store for Simulated {
    type Piece = (AllocId, u64);

    fn now(&self) -> Nanos {
        self.now
    }

    fn wait(&mut self, until: Nanos) {
        self.now = self.now.max(until);
    }

    fn open(&mut self) -> Outcome {
        self.call(self.times.create);
        match self.world.borrow_mut().machine.open(self.context) {
            Ok(()) => Outcome::Ok,
            Err(_) => Outcome::Oom,
        }
    }

    fn close(&mut self) {
        self.call(self.times.destroy);
        // It is one of the machine's.
        let _ = self.world.borrow_mut().machine.close(self.context);
        self.held = 0;
    }

    fn alloc(&mut self, bytes: u64) -> Result<Self::Piece, Outcome> {
        self.call(self.times.alloc);
        let made = self.world.borrow_mut().machine.alloc(self.context, Bytes(bytes));
        made.map(|id| (id, bytes)).map_err(|_| Outcome::Oom).inspect(|_| self.held += bytes)
    }

    fn touch(&mut self, _piece: Self::Piece, bytes: u64) -> Outcome {
        let length = u128::from(bytes) * 1_000_000_000 / u128::from(self.times.bytes_per_second);
        self.now += Nanos(u64::try_from(length).unwrap_or(u64::MAX));
        Outcome::Ok
    }

    fn free(&mut self, (id, bytes): Self::Piece) -> Outcome {
        self.call(self.times.free);
        // CUDA_ERROR_INVALID_VALUE: it has no such allocation.
        if !self.world.borrow_mut().machine.free(self.context, id) {
            return Outcome::Error(1);
        }
        self.held -= bytes;
        Outcome::Ok
    }

    fn seen(&self) -> Option<(u64, u64)> {
        let world = self.world.borrow();
        let (has, used) = world.machine.memory_of(self.context);
        let (mut free, mut all) = (has.0 - used.0, has.0);
        if let Some(limit) = world.machine.memory_limit(self.context) {
            free = free.min(limit.0.saturating_sub(self.held));
            all = all.min(limit.0);
        }
        Some((free, all))
    }
}

#[cfg(test)]
mod tests;
