//! Device memory as the driver gives it: plain allocations, never from a pool, so that what is freed is free for others.

use super::gpu::zero;
use crate::backend::Outcome;
use crate::cuda::{Context, CudaError, Device, Driver, OUT_OF_MEMORY, SUCCESS, memory_info};
use crate::host::clock::{now, sleep_until};
use crate::tenant::memory::Store;
use crate::units::Nanos;

/// Memory of one device, in a context of its own. What it gives out is freed with the context.
pub(super) struct CudaStore {
    driver: &'static Driver,
    device: Device,
    context: Option<Context>,
}

impl CudaStore {
    pub(super) fn new(driver: &'static Driver, device: Device) -> Self {
        Self { driver, device, context: None }
    }
}

/// An error without a code is of this program's making, and told as the driver's "unknown error" (999).
fn outcome(error: &CudaError) -> Outcome {
    of_code(error.code.unwrap_or(999))
}

fn of_code(code: u32) -> Outcome {
    match code {
        SUCCESS => Outcome::Ok,
        OUT_OF_MEMORY => Outcome::Oom,
        code => Outcome::Error(code),
    }
}

impl Store for CudaStore {
    type Piece = u64;

    fn now(&self) -> Nanos {
        now()
    }

    fn wait(&mut self, until: Nanos) {
        sleep_until(until);
    }

    fn open(&mut self) -> Outcome {
        match Context::new(&self.device, self.driver, false) {
            Ok(context) => {
                self.context = Some(context);
                Outcome::Ok
            }
            Err(error) => outcome(&error),
        }
    }

    fn close(&mut self) {
        self.context = None;
    }

    fn alloc(&mut self, bytes: u64) -> Result<u64, Outcome> {
        let mut address = 0;
        // SAFETY: the pointer is valid for the call.
        let code = unsafe { self.driver.cuMemAlloc_v2(&raw mut address, usize::try_from(bytes).unwrap_or(usize::MAX)) };
        match of_code(code) {
            Outcome::Ok => Ok(address),
            refused => Err(refused),
        }
    }

    fn touch(&mut self, piece: u64, bytes: u64) -> Outcome {
        zero(self.driver, piece, bytes).map_or_else(|error| outcome(&error), |()| Outcome::Ok)
    }

    fn free(&mut self, piece: u64) -> Outcome {
        // SAFETY: `alloc` gave it out, and its holder frees it once. Where the context is gone the driver says so.
        of_code(unsafe { self.driver.cuMemFree_v2(piece) })
    }

    fn seen(&self) -> Option<(u64, u64)> {
        memory_info(self.driver).ok()
    }
}
