//! What a tenant holds: its device, and its programs with their memory, compiled, filled and called once.

use super::commons::Commons;
use super::compile::STREAMS;
use super::fill::fill;
use super::gpu::{Gpu, failed, zero, zeroed};
use super::host_calls::HostCalls;
use super::request::Request;
use super::wait::Patience;
use crate::backend::Outcome;
use crate::cuda::{CudaError, DeviceBuffer, Driver};
use crate::host::clock::now;
use crate::random::Key;
use crate::tenant::protocol::{Failed, Load, Loaded, ProgramInfo, ProgramOrder};
use crate::units::{Bytes, Nanos};
use crate::workload::{self, Enqueue, GpuView, HostOp, Op, Program, State};

/// Buffers begin at multiples of this: the unit in which the driver maps large allocations.
const ALIGNMENT: u64 = 2 << 20;

/// How a program's requests are made.
pub(super) enum Code {
    /// All enqueued: many in flight.
    Enqueued {
        /// As a probe: with marks, call by call.
        timed: Box<Request>,
        /// As noise, where that differs.
        queued: Option<Box<Request>>,
        /// Requests posted so far, of either form: numbers are never used twice.
        posted: u64,
    },
    /// Host calls: one in flight.
    Host(HostCalls),
}

/// One program.
pub(super) struct Held {
    pub(super) code: Code,
    pub(super) info: ProgramInfo,
    program: Program,
    addresses: Vec<u64>,
    states: Option<DeviceBuffer>,
    _buffers: Vec<DeviceBuffer>,
}

/// What a tenant holds. Programs are dropped before the device that they live on.
pub(super) struct Holdings {
    pub(super) programs: Vec<Held>,
    arena: Option<DeviceBuffer>,
    /// What its budget has beyond its programs.
    _rest: Option<DeviceBuffer>,
    /// The program whose data the arena holds.
    filled: Option<usize>,
    pub(super) gpu: Option<Gpu>,
    pub(super) load: Load,
    pub(super) patience: Patience,
}

impl Holdings {
    /// Takes the device, builds the programs, allocates, fills and calls everything once.
    ///
    /// # Errors
    /// Says what failed, and the cure.
    pub(super) fn load(
        load: Load,
        driver: fn() -> Result<&'static Driver, CudaError>,
        commons: &Commons,
        threads: u32,
    ) -> Result<(Self, Loaded), Failed> {
        let patience = Patience::new(load.spin && !load.cores.is_empty());
        let gpu = match &load.device {
            Some(uuid) => Some(Gpu::take(driver()?, uuid, &load, commons, patience)?),
            None => None,
        };
        let mut held = Self { programs: Vec::new(), arena: None, _rest: None, filled: None, gpu, load, patience };
        let view = held.gpu.as_ref().map_or(NOTHING, |gpu| gpu.view);
        let programs = held.load.programs.iter().map(|p| build(p, &view)).collect::<Result<Vec<_>, _>>()?;
        if held.load.arena && held.gpu.is_some() {
            let bytes =
                programs.iter().map(|p| p.buffers.iter().map(|b| room(b.bytes)).sum::<u64>()).max().unwrap_or(0);
            held.arena = match &held.gpu {
                Some(gpu) if bytes > 0 => Some(DeviceBuffer::new(gpu.driver, bytes)?),
                _ => None,
            };
        }
        let footprint: u64 = programs.iter().map(|p| p.footprint.0).sum();
        for (index, program) in programs.into_iter().enumerate() {
            let program = held.hold(index, program)?;
            held.programs.push(program);
            held.call_once(index)?;
        }
        if let (Some(budget), Some(gpu)) = (held.load.budget.filter(|budget| *budget > footprint), &held.gpu) {
            held._rest = Some(DeviceBuffer::new(gpu.driver, budget - footprint)?);
        }
        let loaded = Loaded {
            device: held.gpu.as_ref().map(|gpu| gpu.seen.clone()),
            programs: held.programs.iter().map(|p| p.info.clone()).collect(),
            tick: held.gpu.as_ref().map(|gpu| gpu.tick),
            threads,
        };
        Ok((held, loaded))
    }

    fn hold(&mut self, index: usize, program: Program) -> Result<Held, Failed> {
        let order = &self.load.programs[index];
        let mut buffers = Vec::new();
        let mut addresses = Vec::new();
        let mut next = self.arena.as_ref().map(DeviceBuffer::address);
        let mut states = None;
        let (mut rows, slots) = (1, self.load.outstanding.max(1) as usize);
        let code = if program.has_host_ops() {
            let calls = HostCalls::new(&program, self.patience)?;
            if calls.driver && self.gpu.is_none() {
                return Err(without_device(&order.workload));
            }
            Code::Host(calls)
        } else {
            let Some(gpu) = &mut self.gpu else { return Err(without_device(&order.workload)) };
            for buffer in &program.buffers {
                addresses.push(match &mut next {
                    Some(next) => {
                        let at = *next;
                        *next += room(buffer.bytes);
                        at
                    }
                    None => {
                        buffers.push(DeviceBuffer::new(gpu.driver, buffer.bytes.0)?);
                        buffers.last().map_or(0, DeviceBuffer::address)
                    }
                });
            }
            let state = zeroed(gpu.driver, (STREAMS * size_of::<State>()) as u64)?;
            let at = |stream: usize| state.address() + (stream * size_of::<State>()) as u64;
            let at = [at(0), at(1)];
            let timed = Box::new(gpu.compile(&program, &addresses, at, slots, false)?);
            let queued = match self.load.arena {
                true => Some(Box::new(gpu.compile(&program, &addresses, at, slots, true)?)),
                false => None,
            };
            states = Some(state);
            rows = timed.rows() as u32;
            Code::Enqueued { timed, queued, posted: 0 }
        };
        let info = ProgramInfo {
            name: order.name.clone(),
            footprint: program.footprint.0,
            resolved: in_words(&program),
            once: Nanos(0),
            rows,
        };
        Ok(Held { code, info, program, addresses, states, _buffers: buffers })
    }

    /// Fills what a program holds, where something else lies there.
    ///
    /// # Errors
    /// Where the device fails.
    pub(super) fn prepare(&mut self, index: usize) -> Result<(), Failed> {
        let (Some(gpu), Some(held)) = (&mut self.gpu, self.programs.get(index)) else { return Ok(()) };
        if self.arena.is_none() || self.filled == Some(index) || held.program.buffers.is_empty() {
            return Ok(());
        }
        self.filled = None;
        held.fill(gpu, self.load.seed)?;
        self.filled = Some(index);
        Ok(())
    }

    fn call_once(&mut self, index: usize) -> Result<(), Failed> {
        let arena = self.arena.is_some();
        if arena {
            self.prepare(index)?;
        }
        let Self { gpu, programs, load, .. } = self;
        let Some(held) = programs.get_mut(index) else { return Ok(()) };
        if let (Some(gpu), false) = (&mut *gpu, arena) {
            held.fill(gpu, load.seed)?;
        }
        let name =
            |failed: Failed, held: &Held| Failed { what: format!("{}: {}", held.info.name, failed.what), ..failed };
        let begin = now();
        match (&mut held.code, &*gpu) {
            (Code::Host(calls), gpu) => match calls.run(gpu.as_ref()) {
                Outcome::Ok => {}
                Outcome::Error(code) => {
                    let error = gpu.as_ref().map(|gpu| gpu.driver.error("its host calls", code).into());
                    return Err(name(error.unwrap_or_else(|| without_device("a host call")), held));
                }
                // A request that finds no memory may be just what is asked for.
                _ => calls.oom.clear(),
            },
            (Code::Enqueued { timed, queued, posted }, Some(gpu)) => {
                let first = std::iter::once(&*timed).chain(queued.as_ref()).try_for_each(|request| {
                    *posted += 1;
                    gpu.run(request, *posted - 1).map(drop)
                });
                if let Err(failed) = first {
                    return Err(name(failed, held));
                }
                // The first call of anything pays for what is done once: the second one tells.
                let begin = now();
                *posted += 1;
                if let Err(failed) = gpu.run(timed, *posted - 1) {
                    return Err(name(failed, held));
                }
                held.info.once = now() - begin;
                return Ok(());
            }
            (Code::Enqueued { .. }, None) => {}
        }
        held.info.once = now() - begin;
        Ok(())
    }
}

impl Held {
    /// What its requests are.
    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    fn fill(&self, gpu: &mut Gpu, seed: u64) -> Result<(), Failed> {
        for (index, (buffer, address)) in self.program.buffers.iter().zip(&self.addresses).enumerate() {
            let key = [Key::Name(&self.info.name), Key::Name("buffer"), Key::Number(index as u64)];
            fill(gpu, buffer, *address, seed, &key)?;
        }
        if let Some(states) = &self.states {
            zero(gpu.driver, states.address(), states.bytes())?;
        }
        Ok(())
    }
}

/// What a tenant without a device sees: enough for the host's loop alone.
const NOTHING: GpuView = GpuView {
    sms: 1,
    memory: Bytes(1),
    l2: Bytes(0),
    l1: Bytes(0),
    tlb_reach: Bytes(0),
    sm_mhz: 1,
    fma_per_cycle: 0,
    tensor_flop_per_cycle: 0,
    hbm_bandwidth: 0,
    l2_bandwidth: 0,
    pcie_bandwidth: 0,
};

fn without_device(workload: &str) -> Failed {
    failed(format!("{workload} needs a GPU, and this tenant was given none"))
}

fn room(bytes: Bytes) -> u64 {
    bytes.0.next_multiple_of(ALIGNMENT)
}

fn build(order: &ProgramOrder, view: &GpuView) -> Result<Program, Failed> {
    let workload = workload::find(&order.workload)
        .ok_or_else(|| failed(format!("{}: this version knows no workload {:?}", order.name, order.workload)))?;
    let params = workload::resolve(workload, &order.params).map_err(|why| failed(format!("{}: {why}", order.name)))?;
    (workload.program)(&params, view).map_err(|why| failed(format!("{}: {why}", order.name)))
}

/// What a request is: its operations in order, equal ones counted.
fn in_words(program: &Program) -> String {
    let mut words: Vec<(String, u64)> = Vec::new();
    for op in &program.request {
        let (word, times) = match op {
            Op::Enqueue(Enqueue::Launch { kernel, grid, block, args }, times) => {
                let args: Vec<String> = args
                    .iter()
                    .map(|arg| match arg {
                        workload::Arg::U32(n) => n.to_string(),
                        workload::Arg::U64(n) => n.to_string(),
                        workload::Arg::Buffer(index) => format!("buffer {index}"),
                    })
                    .collect();
                (format!("{}<{grid}, {block}>({})", kernel.symbol, args.join(", ")), *times)
            }
            Op::Enqueue(Enqueue::ToDevice { bytes, .. }, times) => {
                (format!("copy {} to the device", Bytes(*bytes).for_people()), *times)
            }
            Op::Enqueue(Enqueue::ToHost { bytes, .. }, times) => {
                (format!("copy {} to the host", Bytes(*bytes).for_people()), *times)
            }
            Op::Host(HostOp::Alloc { bytes }) => (format!("allocate {}", Bytes(*bytes).for_people()), 1),
            Op::Host(HostOp::Idle { length }) => (format!("wait {length}"), 1),
            Op::Host(HostOp::Free) => ("free".to_owned(), 1),
            Op::Host(HostOp::ContextCreate) => ("create a context".to_owned(), 1),
            Op::Host(HostOp::ContextDestroy) => ("destroy it".to_owned(), 1),
            Op::Host(HostOp::Synchronize) => ("synchronise".to_owned(), 1),
            Op::Mark(name) => (format!("mark {name}"), 1),
        };
        match words.last_mut() {
            Some((last, count)) if *last == word => *count += u64::from(times),
            _ => words.push((word, u64::from(times))),
        }
    }
    // A request of many rounds tells the first few.
    const TOLD: usize = 16;
    let more = words.len().saturating_sub(TOLD);
    let mut told: Vec<String> = words
        .into_iter()
        .take(TOLD)
        .map(|(word, times)| if times > 1 { format!("{times} × {word}") } else { word })
        .collect();
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    told.join("; ")
}
