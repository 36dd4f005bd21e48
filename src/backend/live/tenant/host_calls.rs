//! Requests of host calls: one in flight, done when the last call returns.

use std::collections::VecDeque;

use cudarc::driver::sys::CUcontext;

use super::gpu::{Gpu, failed};
use super::wait::Patience;
use crate::backend::Outcome;
use crate::cuda::{CudaError, Driver, OUT_OF_MEMORY, SUCCESS, memory_info};
use crate::host::clock::{now, sleep_until};
use crate::tenant::protocol::{Failed, OutOfMemory};
use crate::units::Nanos;
use crate::workload::{HostOp, Op, Program};

/// Failed allocations that are told one by one; beyond, only their requests tell.
const OOM_KEPT: usize = 4_096;

/// A request of host calls, and what its calls hold.
pub(super) struct HostCalls {
    ops: Vec<HostOp>,
    /// Whether a call goes to the driver: else it is the host's loop alone.
    pub(super) driver: bool,
    allocations: VecDeque<u64>,
    contexts: Vec<CUcontext>,
    pub(super) oom: Vec<OutOfMemory>,
    spin: bool,
}

// SAFETY: the contexts are the driver's handles, which any thread may use.
unsafe impl Send for HostCalls {}

impl HostCalls {
    /// # Errors
    /// Where the program mixes host calls with enqueued work.
    pub(super) fn new(program: &Program, patience: Patience) -> Result<Self, Failed> {
        let op = |op: &Op| match op {
            Op::Host(call) => Ok(*call),
            other => Err(failed(format!("a request of host calls cannot hold {other:?} beside them"))),
        };
        let ops = program.request.iter().map(op).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            driver: ops.iter().any(|op| !matches!(op, HostOp::Idle { .. })),
            // What is held at once is at most what one request makes.
            allocations: VecDeque::with_capacity(ops.len()),
            contexts: Vec::with_capacity(ops.len()),
            oom: Vec::with_capacity(OOM_KEPT),
            spin: patience.spin,
            ops,
        })
    }

    /// One request. A request that fails gives back what it holds.
    pub(super) fn run(&mut self, gpu: Option<&Gpu>) -> Outcome {
        for index in 0..self.ops.len() {
            let op = self.ops[index];
            let code = match (op, gpu) {
                (HostOp::Idle { length }, _) => {
                    idle(length, self.spin);
                    SUCCESS
                }
                (_, Some(gpu)) => self.call(op, gpu),
                // Refused at load.
                (_, None) => SUCCESS,
            };
            if code == SUCCESS {
                continue;
            }
            if code == OUT_OF_MEMORY && self.oom.len() < OOM_KEPT {
                let asked = if let HostOp::Alloc { bytes } = op { bytes } else { 0 };
                let (free, total) = gpu.and_then(|gpu| memory_info(gpu.driver).ok()).unwrap_or((0, 0));
                self.oom.push(OutOfMemory { at: now(), asked, free, total });
            }
            if let Some(gpu) = gpu {
                self.give_back(gpu);
            }
            return if code == OUT_OF_MEMORY { Outcome::Oom } else { Outcome::Error(code) };
        }
        Outcome::Ok
    }

    fn call(&mut self, op: HostOp, gpu: &Gpu) -> u32 {
        let driver = gpu.driver;
        match op {
            HostOp::Alloc { bytes } => {
                let mut address = 0;
                // SAFETY: the pointer is valid for the call.
                let code =
                    unsafe { driver.cuMemAlloc_v2(&raw mut address, usize::try_from(bytes).unwrap_or(usize::MAX)) };
                if code == SUCCESS {
                    self.allocations.push_back(address);
                }
                code
            }
            HostOp::Free => match self.allocations.pop_front() {
                // SAFETY: allocated above and freed once.
                Some(address) => unsafe { driver.cuMemFree_v2(address) },
                None => SUCCESS,
            },
            HostOp::ContextCreate => {
                let mut context = std::ptr::null_mut();
                // SAFETY: the pointer is valid for the call.
                let code = unsafe { driver.cuCtxCreate_v2(&raw mut context, 0, gpu.device.handle()) };
                if code == SUCCESS {
                    self.contexts.push(context);
                }
                code
            }
            HostOp::ContextDestroy => self.contexts.pop().map_or(SUCCESS, |context| destroy(driver, context, gpu)),
            HostOp::Synchronize => gpu
                .streams
                .iter()
                .find_map(|s| s.synchronize().err())
                .and_then(|e: CudaError| e.code)
                .unwrap_or(SUCCESS),
            HostOp::Idle { .. } => SUCCESS,
        }
    }

    /// Gives back everything that requests hold.
    pub(super) fn give_back(&mut self, gpu: &Gpu) {
        while let Some(context) = self.contexts.pop() {
            let _ = destroy(gpu.driver, context, gpu);
        }
        while let Some(address) = self.allocations.pop_front() {
            // SAFETY: allocated by `call` and freed once. Where even that fails the context is lost, and all with it.
            let _ = unsafe { gpu.driver.cuMemFree_v2(address) };
        }
    }
}

/// Destroys a context, and makes the tenant's own the current one again.
fn destroy(driver: &Driver, context: CUcontext, gpu: &Gpu) -> u32 {
    // SAFETY: created by `call` and destroyed once; being current it leaves the thread's stack of contexts as well.
    let code = unsafe { driver.cuCtxDestroy_v2(context) };
    // SAFETY: the tenant's context is alive.
    let back = unsafe { driver.cuCtxSetCurrent(gpu.home.handle()) };
    if code == SUCCESS { back } else { code }
}

/// The host's loop alone.
pub(super) fn idle(length: Nanos, spin: bool) {
    let until = now() + length;
    if spin {
        while now() < until {
            std::hint::spin_loop();
        }
    } else {
        sleep_until(until);
    }
}
