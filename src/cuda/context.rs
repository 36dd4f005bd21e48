//! Contexts, and what lives in one: modules, functions, streams, graphs. What lives in one belongs to the thread that made
//! it, with the context current there, and is to be dropped before the context.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use cudarc::driver::sys::{CUcontext, CUfunction, CUgraphExec, CUmodule, CUstream};

use super::{CudaError, Device, Driver};

/// CU_CTX_SCHED_SPIN, CU_CTX_SCHED_BLOCKING_SYNC, CU_CTX_MAP_HOST.
const SPIN: u32 = 0x01;
const BLOCK: u32 = 0x04;
const MAP_HOST: u32 = 0x08;
/// CU_STREAM_NON_BLOCKING: no hidden order with the default stream.
pub(super) const NON_BLOCKING: u32 = 0x01;
/// CU_STREAM_CAPTURE_MODE_THREAD_LOCAL.
const CAPTURE_THREAD_LOCAL: u32 = 1;
/// CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES.
const JIT_ERROR_LOG: u32 = 5;
const JIT_ERROR_LOG_BYTES: u32 = 6;
/// CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT.
const CARVEOUT: i32 = 9;

/// A context of this process on one device, current on the thread that made it.
#[derive(Debug)]
pub(crate) struct Context {
    driver: &'static Driver,
    handle: CUcontext,
}

// SAFETY: a context is a handle of the driver's, which any thread may make current, also several at a time (CUDA driver
// API, context management); it is destroyed once, by whoever drops it last.
unsafe impl Send for Context {}
// SAFETY: as above; a shared reference gives out the handle only.
unsafe impl Sync for Context {}

/// Flags of a context. `spin`: the driver's own waits spin instead of sleeping.
pub(super) fn flags(spin: bool) -> u32 {
    MAP_HOST | if spin { SPIN } else { BLOCK }
}

/// Makes a context the calling thread's. It must be alive, and stay so until another one is.
///
/// # Errors
/// The driver's own.
pub(crate) fn make_current(driver: &Driver, context: CUcontext) -> Result<(), CudaError> {
    // SAFETY: alive, by the caller's promise.
    driver.check("cuCtxSetCurrent", unsafe { driver.cuCtxSetCurrent(context) })
}

impl Context {
    /// Creates one and makes it current. `spin`: the driver's own waits spin instead of sleeping.
    ///
    /// # Errors
    /// The driver's own.
    pub(crate) fn new(device: &Device, driver: &'static Driver, spin: bool) -> Result<Self, CudaError> {
        let mut handle = ptr::null_mut();
        // SAFETY: the pointer is valid for the call.
        let code = unsafe { driver.cuCtxCreate_v2(&raw mut handle, flags(spin), device.handle()) };
        driver.check("cuCtxCreate_v2", code)?;
        Ok(Self { driver, handle })
    }

    /// The driver's handle.
    pub(crate) fn handle(&self) -> CUcontext {
        self.handle
    }

    /// Destroys it, with whatever lives in it.
    ///
    /// # Errors
    /// The driver's own.
    pub(crate) fn destroy(self) -> Result<(), CudaError> {
        let context = std::mem::ManuallyDrop::new(self);
        // SAFETY: created by `new`, and destroyed here alone: it is not dropped.
        let code = unsafe { context.driver.cuCtxDestroy_v2(context.handle) };
        context.driver.check("cuCtxDestroy_v2", code)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed once.
        let _ = unsafe { self.driver.cuCtxDestroy_v2(self.handle) };
    }
}

/// A loaded module.
#[derive(Debug)]
pub(crate) struct Module {
    driver: &'static Driver,
    handle: CUmodule,
}

impl Module {
    /// Compiles PTX for the current context's device.
    ///
    /// # Errors
    /// The driver's own, with what its compiler says.
    pub(crate) fn load(driver: &'static Driver, ptx: &CStr) -> Result<Self, CudaError> {
        let mut handle = ptr::null_mut();
        let mut log = vec![0u8; 8 << 10];
        let mut options = [JIT_ERROR_LOG, JIT_ERROR_LOG_BYTES];
        // A size travels in the place of a pointer: so the driver's interface wants it.
        let mut values = [log.as_mut_ptr().cast::<c_void>(), ptr::without_provenance_mut(log.len() - 1)];
        // SAFETY: the image ends in a zero; options and values are two each and valid for the call; the log is one byte
        // longer than the driver is told.
        let code = unsafe {
            driver.cuModuleLoadDataEx(
                &raw mut handle,
                ptx.as_ptr().cast::<c_void>(),
                2,
                options.as_mut_ptr(),
                values.as_mut_ptr(),
            )
        };
        driver.check("cuModuleLoadDataEx", code).map_err(|mut error| {
            let said = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy();
            if !said.trim().is_empty() {
                error.what.push_str(&format!(" (its compiler says: {})", said.trim()));
            }
            error
        })?;
        Ok(Self { driver, handle })
    }

    /// The entry point of this name. `all_l1`: it wants as little shared memory and as much L1 as its SM can give; others
    /// leave the split to the driver, which gives each block of theirs room for the shared memory that it declares.
    ///
    /// # Errors
    /// The driver's own.
    pub(crate) fn function(&self, name: &str, all_l1: bool) -> Result<Function, CudaError> {
        let mut terminated: Vec<c_char> = name.bytes().map(|byte| byte as c_char).collect();
        terminated.push(0);
        let mut handle = ptr::null_mut();
        // SAFETY: the name ends in a zero; pointers are valid for the call.
        let code = unsafe { self.driver.cuModuleGetFunction(&raw mut handle, self.handle, terminated.as_ptr()) };
        self.driver.check("cuModuleGetFunction", code).map_err(|mut error| {
            error.what.push_str(&format!(" (looking for the kernel {name})"));
            error
        })?;
        if all_l1 {
            // A preference, which parts without a configurable split refuse: nothing depends on it.
            // SAFETY: the function is alive.
            let _ = unsafe { self.driver.cuFuncSetAttribute(handle, CARVEOUT, 0) };
        }
        Ok(Function { handle })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded by `load`, unloaded once.
        let _ = unsafe { self.driver.cuModuleUnload(self.handle) };
    }
}

/// A kernel of a loaded module: valid as long as the module is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function {
    handle: CUfunction,
}

impl Function {
    /// The driver's handle.
    pub(crate) fn handle(&self) -> CUfunction {
        self.handle
    }
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Stream {
    driver: &'static Driver,
    handle: CUstream,
}

impl Stream {
    /// Creates one in the current context.
    ///
    /// # Errors
    /// The driver's own.
    pub(crate) fn new(driver: &'static Driver) -> Result<Self, CudaError> {
        let mut handle = ptr::null_mut();
        // SAFETY: the pointer is valid for the call.
        driver.check("cuStreamCreate", unsafe { driver.cuStreamCreate(&raw mut handle, NON_BLOCKING) })?;
        Ok(Self { driver, handle })
    }

    /// One that was just made by another call.
    pub(super) fn owned(driver: &'static Driver, handle: CUstream) -> Self {
        Self { driver, handle }
    }

    /// The driver's handle.
    pub(crate) fn handle(&self) -> CUstream {
        self.handle
    }

    /// Waits until all its work is done.
    ///
    /// # Errors
    /// The driver's own: also that of a kernel that failed.
    pub(crate) fn synchronize(&self) -> Result<(), CudaError> {
        // SAFETY: the stream is alive.
        self.driver.check("cuStreamSynchronize", unsafe { self.driver.cuStreamSynchronize(self.handle) })
    }

    /// Whether all its work is done.
    ///
    /// # Errors
    /// The driver's own: also that of a kernel that failed.
    pub(crate) fn is_idle(&self) -> Result<bool, CudaError> {
        // SAFETY: the stream is alive.
        match unsafe { self.driver.cuStreamQuery(self.handle) } {
            super::NOT_READY => Ok(false),
            code => self.driver.check("cuStreamQuery", code).map(|()| true),
        }
    }

    /// Makes a graph of what `enqueue` puts on this stream; nothing of it runs.
    ///
    /// # Errors
    /// The driver's own, or that of `enqueue`.
    pub(crate) fn capture(&self, enqueue: impl FnOnce() -> Result<(), CudaError>) -> Result<Graph, CudaError> {
        let driver = self.driver;
        // SAFETY: the stream is alive.
        let code = unsafe { driver.cuStreamBeginCapture_v2(self.handle, CAPTURE_THREAD_LOCAL) };
        driver.check("cuStreamBeginCapture_v2", code)?;
        let enqueued = enqueue();
        let mut graph = ptr::null_mut();
        // A capture that was begun must be ended, whatever happened within.
        // SAFETY: the pointer is valid for the call.
        let ended =
            driver.check("cuStreamEndCapture", unsafe { driver.cuStreamEndCapture(self.handle, &raw mut graph) });
        let made = enqueued.and(ended).and_then(|()| {
            let mut executable = ptr::null_mut();
            // SAFETY: the graph is alive; the pointer is valid for the call.
            let code = unsafe { driver.cuGraphInstantiateWithFlags(&raw mut executable, graph, 0) };
            driver.check("cuGraphInstantiateWithFlags", code).map(|()| Graph { driver, handle: executable })
        });
        if !graph.is_null() {
            // SAFETY: made by the capture, destroyed once; the executable is a copy.
            let _ = unsafe { driver.cuGraphDestroy(graph) };
        }
        made
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed once.
        let _ = unsafe { self.driver.cuStreamDestroy_v2(self.handle) };
    }
}

/// A graph ready to launch.
#[derive(Debug)]
pub(crate) struct Graph {
    driver: &'static Driver,
    handle: CUgraphExec,
}

impl Graph {
    /// The driver's handle.
    pub(crate) fn handle(&self) -> CUgraphExec {
        self.handle
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: instantiated by `capture`, destroyed once.
        let _ = unsafe { self.driver.cuGraphExecDestroy(self.handle) };
    }
}
