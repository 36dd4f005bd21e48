//! What a self-check asks beside windows: what one request of each program does, what the compiled kernels take, and what
//! the device and the driver can do at most, measured with nothing of the harness in between.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};

use super::gpu::{Gpu, failed, zeroed};
use super::holdings::Holdings;
use super::wait::Patience;
use crate::cuda::{DeviceBuffer, PinnedBuffer, SUCCESS};
use crate::host::clock::now;
use crate::machine::{Demand, Direction};
use crate::tenant::protocol::{Amounts, Ceilings, Examined, Failed};
use crate::units::{Bytes, Nanos};
use crate::workload::{self, Enqueue, Op, Program, Stamp, State};

/// Copies are repeated until they have taken this long: what it costs to post them no longer counts then.
const LONG_ENOUGH: Nanos = Nanos::millis(100);
/// Bytes of one copy within the device, and of one over PCIe; less where memory is scarce.
const DEVICE_COPY: Bytes = Bytes::mib(512);
const PCIE_COPY: Bytes = Bytes::mib(64);
/// Round trips of the bare loop, after as many that nobody counts.
const ROUNDS: usize = 1_000;

/// Answers for everything that is held.
///
/// # Errors
/// Where the driver fails.
pub(super) fn run(holdings: &mut Holdings, ceilings: bool) -> Result<Examined, Failed> {
    let view = holdings.gpu.as_ref().map(|gpu| gpu.view);
    let flop = view.map_or(0, |view| u64::from(view.tensor_flop_per_cycle));
    let programs = holdings.programs.iter().map(|held| amounts(held.program(), flop)).collect();
    let mut registers = BTreeMap::new();
    let mut measured = None;
    if let Some(gpu) = &mut holdings.gpu {
        for held in &holdings.programs {
            for op in &held.program().request {
                if let Op::Enqueue(Enqueue::Launch { kernel, .. }, _) = op
                    && !registers.contains_key(kernel.symbol)
                {
                    registers.insert(kernel.symbol.to_owned(), gpu.registers(kernel)?);
                }
            }
        }
        if ceilings {
            measured = Some(measure(gpu)?);
        }
    }
    Ok(Examined { programs, registers, ceilings: measured })
}

/// What one request asks of the hardware. `flop`: of tensor cores, by SM and cycle.
fn amounts(program: &Program, flop: u64) -> Amounts {
    let mut sum = Amounts::default();
    for op in &program.request {
        let (enqueue, times) = match op {
            Op::Enqueue(enqueue, times) => (enqueue, u64::from(*times)),
            Op::Host(_) => {
                sum.host_calls += 1;
                continue;
            }
            Op::Mark(_) => continue,
        };
        match enqueue.demand() {
            Demand::Launch(launch) => {
                let blocks = u64::from(launch.blocks);
                sum.launches += times;
                sum.read += times * launch.traffic.read;
                sum.written += times * launch.traffic.written;
                sum.chain_loads += times * launch.chain.loads;
                sum.issue_cycles += times * blocks * launch.issue_cycles;
                sum.tensor_flop += times * blocks * launch.tensor_cycles * flop;
                sum.barriers += times * launch.barriers;
                sum.atomics += times * launch.atomics;
            }
            Demand::Copy(copy) => match copy.direction {
                Direction::ToDevice => sum.to_device += times * copy.bytes,
                Direction::ToHost => sum.to_host += times * copy.bytes,
            },
            Demand::Host(_) => {}
        }
    }
    sum
}

fn measure(gpu: &mut Gpu) -> Result<Ceilings, Failed> {
    let round_trip = bare_loop(gpu)?;
    // A stand-in moves device memory at once: a rate of that would say nothing.
    let device_copy = if gpu.driver.is_stand_in() { None } else { Some(device_copy(gpu)?) };
    let (to_device, to_host) = pcie(gpu)?;
    Ok(Ceilings { device_copy, to_device: Some(to_device), to_host: Some(to_host), round_trip })
}

/// Bytes per second that `post` moves, `bytes` with each call.
fn rate(gpu: &Gpu, bytes: u64, post: impl Fn() -> u32) -> Result<f64, Failed> {
    let mut times = 1u64;
    loop {
        let begin = now();
        for _ in 0..times {
            gpu.driver.check("a copy", post())?;
        }
        gpu.drain()?;
        let took = now() - begin;
        if took >= LONG_ENOUGH {
            return Ok((bytes * times) as f64 / took.as_secs_f64());
        }
        times *= 2;
        // A link on which so many copies take no time is none that can be measured.
        if times > 1 << 20 {
            return Err(failed("copies take no time: this driver does not copy"));
        }
    }
}

/// Copies within the device: bytes read and written, per second.
fn device_copy(gpu: &Gpu) -> Result<f64, Failed> {
    let (free, _) = crate::cuda::memory_info(gpu.driver)?;
    let bytes = DEVICE_COPY.0.min(free / 4);
    let (from, to) = (DeviceBuffer::new(gpu.driver, bytes)?, DeviceBuffer::new(gpu.driver, bytes)?);
    let (stream, length) = (gpu.streams[0].handle(), usize::try_from(bytes).unwrap_or(usize::MAX));
    let copied = rate(gpu, bytes, || {
        // SAFETY: both buffers hold that many bytes, and live until `rate` has seen the stream idle.
        unsafe { gpu.driver.cuMemcpyDtoDAsync_v2(to.address(), from.address(), length, stream) }
    })?;
    Ok(2.0 * copied)
}

/// Copies from and to pinned host memory, bytes per second.
fn pcie(gpu: &Gpu) -> Result<(f64, f64), Failed> {
    let length = PCIE_COPY.0 as usize;
    let (device, host) = (DeviceBuffer::new(gpu.driver, PCIE_COPY.0)?, PinnedBuffer::new(gpu.driver, length)?);
    let (stream, memory) = (gpu.streams[0].handle(), host.host().cast::<c_void>());
    let to_device = rate(gpu, PCIE_COPY.0, || {
        // SAFETY: both hold that many bytes, and live until `rate` has seen the stream idle.
        unsafe { gpu.driver.cuMemcpyHtoDAsync_v2(device.address(), memory, length, stream) }
    })?;
    let to_host = rate(gpu, PCIE_COPY.0, || {
        // SAFETY: as above.
        unsafe { gpu.driver.cuMemcpyDtoHAsync_v2(memory, device.address(), length, stream) }
    })?;
    Ok((to_device, to_host))
}

/// Median time from before the launch of an empty kernel until its sequence word is seen, by the least that a program can
/// do: the same launch as a request of `launch`, and a look at one word.
fn bare_loop(gpu: &mut Gpu) -> Result<Nanos, Failed> {
    let empty = workload::kernels().find(|kernel| kernel.symbol == "empty");
    let empty = empty.ok_or_else(|| failed("there is no empty kernel in this build"))?;
    let function = gpu.function(empty)?;
    let state = zeroed(gpu.driver, size_of::<State>() as u64)?;
    let ring = PinnedBuffer::new(gpu.driver, size_of::<Stamp>())?;
    let stamp = ring.host().cast::<Stamp>();
    // SAFETY: pinned memory begins on a page and holds a stamp.
    let seen = unsafe { AtomicU32::from_ptr(&raw mut (*stamp).sequence) };
    let (mut state, mut to, mut word) = (state.address(), ring.device(), 0u32);
    let mut params: [*mut c_void; 3] = [(&raw mut state).cast(), (&raw mut to).cast(), (&raw mut word).cast()];
    let stream = gpu.streams[0].handle();
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..2 * ROUNDS {
        let sequence = round as u32 + 1;
        // SAFETY: a live word of this stack frame, which the driver reads through `params` in the call below.
        unsafe { (&raw mut word).write_volatile(sequence) };
        let begin = now();
        // SAFETY: the function takes a state, a stamp and a word; all addresses are alive until the word was seen.
        let code = unsafe {
            let (params, extra) = (params.as_mut_ptr(), std::ptr::null_mut());
            gpu.driver.cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, stream, params, extra)
        };
        if code != SUCCESS {
            return Err(gpu.driver.error("cuLaunchKernel", code).into());
        }
        let limit = begin + Patience::new(true).limit;
        while seen.load(Ordering::Acquire) != sequence {
            std::hint::spin_loop();
            if now() >= limit {
                return Err(gpu.hang());
            }
        }
        if round >= ROUNDS {
            times.push(now() - begin);
        }
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}
