//! The driver's entry points, each resolved once, each returning its code as an integer.
//!
//! A code that this program has never heard of must stay a number: turned into an enum at the boundary it would be
//! undefined behaviour before anybody could look at it. And a symbol that the driver lacks must be an error, not a panic
//! at first use.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use cudarc::driver::sys::{
    CUcontext, CUdevResourceDesc, CUdevice, CUdeviceptr, CUfunction, CUgraph, CUgraphExec, CUgreenCtx, CUmodule,
    CUstream, CUuuid,
};

use super::error::{CudaError, SUCCESS};
use super::green::DevResource;
use super::peer::IpcHandle;

/// Names under which the driver is looked for, in this order.
const NAMES: [&str; 2] = ["libcuda.so.1", "libcuda.so"];
/// Exported by the stand-in driver, and by no other.
const STAND_IN: &str = "crosstalk_stand_in";

macro_rules! table {
    ({ $($name:ident($($arg:ident: $type:ty),*);)* } { $($new:ident($($given:ident: $kind:ty),*);)* }) => {
        /// The entry points of one loaded driver.
        #[expect(non_snake_case, reason = "the driver's own names")]
        pub struct Driver {
            $($name: unsafe extern "C" fn($($type),*) -> c_uint,)*
            $($new: Option<unsafe extern "C" fn($($kind),*) -> c_uint>,)*
            stand_in: bool,
        }

        #[expect(non_snake_case, reason = "the driver's own names")]
        #[expect(clippy::too_many_arguments, reason = "the driver's own signatures")]
        impl Driver {
            /// Builds the table from whatever `symbol` finds.
            ///
            /// # Errors
            /// Names the first entry point that is missing.
            ///
            /// # Safety
            /// What `symbol` returns for a name must be a function of that name's signature in cuda.h, valid for ever.
            pub(crate) unsafe fn resolve(symbol: &dyn Fn(&str) -> Option<*const c_void>) -> Result<Self, CudaError> {
                Ok(Self {
                    $($name: match symbol(stringify!($name)).filter(|found| !found.is_null()) {
                        // SAFETY: by the contract of this function, a function of this signature.
                        Some(found) => unsafe {
                            std::mem::transmute::<*const c_void, unsafe extern "C" fn($($type),*) -> c_uint>(found)
                        },
                        None => return Err(missing(stringify!($name))),
                    },)*
                    $($new: symbol(stringify!($new)).filter(|found| !found.is_null()).map(|found| {
                        // SAFETY: as above.
                        unsafe {
                            std::mem::transmute::<*const c_void, unsafe extern "C" fn($($kind),*) -> c_uint>(found)
                        }
                    }),)*
                    stand_in: symbol(STAND_IN).is_some(),
                })
            }

            $(
                /// See the CUDA driver API. Returns its code.
                ///
                /// # Safety
                /// As the driver's documentation asks: pointers valid for what the call does, handles alive.
                #[inline]
                pub(crate) unsafe fn $name(&self, $($arg: $type),*) -> c_uint {
                    // SAFETY: the entry point is the driver's own; the rest is the caller's promise.
                    unsafe { (self.$name)($($arg),*) }
                }
            )*

            $(
                /// See the CUDA driver API. Returns its code; `None` where the driver is older than the call.
                ///
                /// # Safety
                /// As the driver's documentation asks: pointers valid for what the call does, handles alive.
                pub(crate) unsafe fn $new(&self, $($given: $kind),*) -> Option<c_uint> {
                    // SAFETY: the entry point is the driver's own; the rest is the caller's promise.
                    self.$new.map(|call| unsafe { call($($given),*) })
                }
            )*

            /// Every entry point that it needs, by name.
            #[cfg(test)]
            pub(crate) const SYMBOLS: &'static [&'static str] = &[$(stringify!($name)),*];
        }
    };
}

// Those that every driver has to have, and those that newer ones have.
table! {{
    cuInit(flags: c_uint);
    cuDriverGetVersion(version: *mut c_int);
    cuGetErrorName(code: c_uint, name: *mut *const c_char);
    cuDeviceGet(device: *mut CUdevice, ordinal: c_int);
    cuDeviceGetCount(count: *mut c_int);
    cuDeviceGetName(name: *mut c_char, length: c_int, device: CUdevice);
    cuDeviceGetUuid_v2(uuid: *mut CUuuid, device: CUdevice);
    cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: CUdevice);
    cuDeviceTotalMem_v2(bytes: *mut usize, device: CUdevice);
    cuCtxCreate_v2(context: *mut CUcontext, flags: c_uint, device: CUdevice);
    cuCtxDestroy_v2(context: CUcontext);
    cuCtxSetCurrent(context: CUcontext);
    cuModuleLoadDataEx(module: *mut CUmodule, image: *const c_void, count: c_uint, options: *mut c_uint,
        values: *mut *mut c_void);
    cuModuleUnload(module: CUmodule);
    cuModuleGetFunction(function: *mut CUfunction, module: CUmodule, name: *const c_char);
    cuFuncGetAttribute(value: *mut c_int, attribute: c_int, function: CUfunction);
    cuFuncSetAttribute(function: CUfunction, attribute: c_int, value: c_int);
    cuLaunchKernel(function: CUfunction, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint,
        block_y: c_uint, block_z: c_uint, shared: c_uint, stream: CUstream, params: *mut *mut c_void,
        extra: *mut *mut c_void);
    cuMemAlloc_v2(address: *mut CUdeviceptr, bytes: usize);
    cuMemFree_v2(address: CUdeviceptr);
    cuMemGetInfo_v2(free: *mut usize, total: *mut usize);
    cuMemHostAlloc(address: *mut *mut c_void, bytes: usize, flags: c_uint);
    cuMemFreeHost(address: *mut c_void);
    cuMemHostGetDevicePointer_v2(device: *mut CUdeviceptr, host: *mut c_void, flags: c_uint);
    cuMemcpyHtoD_v2(to: CUdeviceptr, from: *const c_void, bytes: usize);
    cuMemcpyHtoDAsync_v2(to: CUdeviceptr, from: *const c_void, bytes: usize, stream: CUstream);
    cuMemcpyDtoHAsync_v2(to: *mut c_void, from: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemcpyDtoDAsync_v2(to: CUdeviceptr, from: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemsetD8_v2(address: CUdeviceptr, value: u8, bytes: usize);
    cuStreamCreate(stream: *mut CUstream, flags: c_uint);
    cuStreamDestroy_v2(stream: CUstream);
    cuStreamSynchronize(stream: CUstream);
    cuStreamQuery(stream: CUstream);
    cuStreamBeginCapture_v2(stream: CUstream, mode: c_uint);
    cuStreamEndCapture(stream: CUstream, graph: *mut CUgraph);
    cuGraphInstantiateWithFlags(executable: *mut CUgraphExec, graph: CUgraph, flags: u64);
    cuGraphLaunch(executable: CUgraphExec, stream: CUstream);
    cuGraphExecDestroy(executable: CUgraphExec);
    cuGraphDestroy(graph: CUgraph);
} {
    cuDeviceGetDevResource(device: CUdevice, resource: *mut DevResource, kind: c_uint);
    cuDevSmResourceSplitByCount(groups: *mut DevResource, count: *mut c_uint, input: *const DevResource,
        remaining: *mut DevResource, flags: c_uint, least: c_uint);
    cuDevResourceGenerateDesc(description: *mut CUdevResourceDesc, resources: *mut DevResource, count: c_uint);
    cuGreenCtxCreate(green: *mut CUgreenCtx, description: CUdevResourceDesc, device: CUdevice, flags: c_uint);
    cuGreenCtxDestroy(green: CUgreenCtx);
    cuGreenCtxGetDevResource(green: CUgreenCtx, resource: *mut DevResource, kind: c_uint);
    cuGreenCtxStreamCreate(stream: *mut CUstream, green: CUgreenCtx, flags: c_uint, priority: c_int);
    cuCtxFromGreenCtx(context: *mut CUcontext, green: CUgreenCtx);
    cuDevicePrimaryCtxSetFlags_v2(device: CUdevice, flags: c_uint);
    cuDevicePrimaryCtxRetain(context: *mut CUcontext, device: CUdevice);
    cuDevicePrimaryCtxRelease_v2(device: CUdevice);
    cuDeviceCanAccessPeer(can: *mut c_int, device: CUdevice, peer: CUdevice);
    cuCtxEnablePeerAccess(peer: CUcontext, flags: c_uint);
    cuMemcpyPeerAsync(to: CUdeviceptr, to_context: CUcontext, from: CUdeviceptr, from_context: CUcontext, bytes: usize,
        stream: CUstream);
    cuIpcGetMemHandle(handle: *mut IpcHandle, address: CUdeviceptr);
    cuIpcOpenMemHandle_v2(address: *mut CUdeviceptr, handle: IpcHandle, flags: c_uint);
    cuIpcCloseMemHandle(address: CUdeviceptr);
}}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("stand_in", &self.stand_in).finish_non_exhaustive()
    }
}

fn missing(symbol: &str) -> CudaError {
    CudaError::other(
        "libcuda",
        format!("this driver has no {symbol}: crosstalk needs driver R520 or later; upgrade the NVIDIA driver"),
    )
}

impl Driver {
    /// The driver of this machine, loaded once in the life of a process. It is not initialised yet: see
    /// [`Driver::init`].
    ///
    /// # Errors
    /// Where there is no driver library, or it lacks an entry point.
    pub fn load() -> Result<&'static Self, CudaError> {
        static LOADED: OnceLock<Result<Driver, CudaError>> = OnceLock::new();
        LOADED.get_or_init(|| Self::load_from(&NAMES)).as_ref().map_err(Clone::clone)
    }

    /// The first of these libraries that loads.
    fn load_from(names: &[&str]) -> Result<Self, CudaError> {
        let mut why = Vec::new();
        for name in names {
            // SAFETY: loading the driver runs its initialisers; any program that uses a GPU does so, and nothing here
            // depends on state that they could change.
            match unsafe { libloading::Library::new(*name) } {
                Ok(library) => {
                    // Never unloaded: its functions stay valid, and a driver with threads of its own cannot be unloaded.
                    let library: &'static libloading::Library = Box::leak(Box::new(library));
                    let symbol = |name: &str| {
                        // SAFETY: read as an address only.
                        let found = unsafe { library.get::<unsafe extern "C" fn()>(name) }.ok()?;
                        Some(*found as *const c_void)
                    };
                    // SAFETY: the library carries the driver's names, whose signatures are fixed by cuda.h (a changed
                    // signature gets a new name with another version suffix).
                    return unsafe { Self::resolve(&symbol) };
                }
                Err(error) => {
                    // The loader's own words: which library is missing, or of another kind.
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    why.push(source.unwrap_or_else(|| format!("{name}: {error}")));
                }
            }
        }
        Err(CudaError::other(
            "libcuda",
            format!(
                "no NVIDIA driver library can be loaded ({}): install the driver, or make it visible in this container",
                why.join("; ")
            ),
        ))
    }

    /// Whether this is the stand-in driver of crosstalk's tests and rehearsals.
    pub fn is_stand_in(&self) -> bool {
        self.stand_in
    }

    /// Initialises the driver in this process.
    ///
    /// # Errors
    /// The driver's own, with the cure.
    pub fn init(&self) -> Result<(), CudaError> {
        // SAFETY: takes no pointer.
        self.check("cuInit", unsafe { self.cuInit(0) })
    }

    /// CUDA version that the driver supports, as 1000 × major + 10 × minor.
    ///
    /// # Errors
    /// The driver's own.
    pub fn version(&self) -> Result<u32, CudaError> {
        let mut version = 0;
        // SAFETY: the pointer is valid for the call.
        self.check("cuDriverGetVersion", unsafe { self.cuDriverGetVersion(&raw mut version) })?;
        Ok(u32::try_from(version).unwrap_or(0))
    }

    /// Makes an error of a code that is not success.
    ///
    /// # Errors
    /// Where the code is one.
    pub(crate) fn check(&self, call: &'static str, code: u32) -> Result<(), CudaError> {
        if code == SUCCESS { Ok(()) } else { Err(self.error(call, code)) }
    }

    /// The error for a code.
    pub(crate) fn error(&self, call: &'static str, code: u32) -> CudaError {
        CudaError::returned(call, code, self.name(code))
    }

    /// What the driver calls this code.
    fn name(&self, code: u32) -> Option<String> {
        let mut name = std::ptr::null();
        // SAFETY: the pointer is valid for the call.
        if unsafe { self.cuGetErrorName(code, &raw mut name) } != SUCCESS || name.is_null() {
            return None;
        }
        // SAFETY: the driver gave the address of a string of its own that lives for ever.
        Some(unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn names(code: c_uint, name: *mut *const c_char) -> c_uint {
        if code != 803 {
            return 1;
        }
        // SAFETY: a valid pointer, by the caller.
        unsafe { *name = c"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH".as_ptr() };
        0
    }
    unsafe extern "C" fn answers() -> c_uint {
        9_999
    }

    fn without(absent: &str) -> Result<Driver, CudaError> {
        let symbol = |name: &str| match name {
            n if n == absent || n == STAND_IN => None,
            "cuGetErrorName" => Some(names as *const c_void),
            _ => Some(answers as *const c_void),
        };
        // SAFETY: on the ABIs that crosstalk is built for a function without arguments may be called with some.
        unsafe { Driver::resolve(&symbol) }
    }

    #[test]
    fn each_missing_entry_point_is_named() {
        for symbol in Driver::SYMBOLS {
            let error = without(symbol).err().map(|e| e.to_string());
            assert!(error.is_some_and(|e| e.contains(symbol) && e.contains("R520")), "{symbol}");
        }
    }

    #[test]
    fn a_call_that_an_older_driver_lacks_is_missed_where_it_is_made_and_not_before() {
        let old = without("cuGreenCtxDestroy").unwrap();
        // SAFETY: the entry points are functions of this test, which follow no pointer.
        let (lacks, has) = unsafe {
            (
                old.cuGreenCtxDestroy(std::ptr::null_mut()),
                old.cuCtxFromGreenCtx(std::ptr::null_mut(), std::ptr::null_mut()),
            )
        };
        assert_eq!((lacks, has), (None, Some(9_999)));
    }

    #[test]
    fn a_library_that_is_not_there_is_an_error_with_a_cure() {
        let error = Driver::load_from(&["libcrosstalk-not-there.so"]).err().map(|e| e.to_string()).unwrap();
        assert!(error.contains("libcrosstalk-not-there") && error.contains("install the driver"), "{error}");
    }

    #[test]
    fn codes_stay_numbers_and_known_ones_have_cures() {
        let driver = without("").unwrap();
        assert!(!driver.is_stand_in());
        let unknown = driver.init().unwrap_err();
        assert_eq!((unknown.code, unknown.name.clone()), (Some(9_999), None));
        assert!(unknown.to_string().contains("cuInit: CUDA error 9999"), "{unknown}");
        let compiler = driver.error("cuModuleLoadDataEx", 221).to_string();
        assert!(compiler.contains("NVIDIA_DRIVER_CAPABILITIES=compute,utility"), "{compiler}");
        let known = driver.error("cuInit", 803).to_string();
        assert!(known.contains("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH") && known.contains("reload the module"), "{known}");
    }
}
