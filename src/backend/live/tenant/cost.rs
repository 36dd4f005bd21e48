//! A compiled request without a device behind it, for benches/harness.rs: what posting costs beside the driver's calls.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr::without_provenance_mut;

use super::compile::{STREAMS, Site, compile};
use super::request::Request;
use crate::cuda::{CudaError, Driver, Stream};
use crate::workload::{self, GpuView};

/// Requests in flight at most, as runs have them.
const SLOTS: usize = 64;
/// Where buffers and states would lie.
const ADDRESS: u64 = 1 << 40;

/// A request of a workload, ready to be posted.
pub struct Posted {
    request: Request,
    driver: &'static Driver,
}

impl Posted {
    /// Compiles the request of a workload against these entry points, as a tenant does.
    ///
    /// # Errors
    /// Where there is no such workload, it does not fit the view, or an entry point is missing.
    ///
    /// # Safety
    /// What `symbol` returns for a name must be a function of that name's signature in cuda.h, valid for ever.
    pub unsafe fn new(
        symbol: &dyn Fn(&str) -> Option<*const c_void>,
        workload: &str,
        params: &[(&str, &str)],
        view: &GpuView,
    ) -> Result<Self, String> {
        let found = workload::find(workload).ok_or_else(|| format!("there is no workload {workload:?}"))?;
        let params: BTreeMap<String, String> = params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let program = (found.program)(&workload::resolve(found, &params)?, view).map_err(|e| e.to_string())?;
        let failed = |error: CudaError| error.to_string();
        // SAFETY: by the contract of this function.
        let driver: &'static Driver = Box::leak(Box::new(unsafe { Driver::resolve(symbol) }.map_err(failed)?));
        let streams: [Stream; STREAMS] = [Stream::new(driver).map_err(failed)?, Stream::new(driver).map_err(failed)?];
        let buffers: Vec<u64> = program.buffers.iter().map(|_| ADDRESS).collect();
        let mut functions = 0;
        let site = Site {
            driver,
            function: &mut |_| {
                functions += 1;
                Ok(without_provenance_mut(functions))
            },
            streams: &streams,
            buffers: &buffers,
            states: [ADDRESS; STREAMS],
            slots: SLOTS,
            noise: false,
        };
        Ok(Self { request: compile(&program, site).map_err(failed)?, driver })
    }

    /// Posts request `n`: what the timed path of a window does.
    #[inline]
    pub fn post(&self, n: u64) -> u32 {
        self.request.post(self.driver, n)
    }
}
