//! A bare client of libcuda, called by name: what it returns is what the library returned.

use std::ffi::{CString, c_void};

use crosstalk::workload::Stamp;

/// libcuda as the loader finds it.
pub(crate) struct Driver(libloading::Library);

macro_rules! call {
    ($driver:expr, $name:literal $(, $arg:expr => $type:ty)*) => {{
        // SAFETY: the types are those of cuda.h.
        unsafe {
            let f: libloading::Symbol<'_, unsafe extern "C" fn($($type),*) -> u32> =
                $driver.library().get(concat!($name, "\0").as_bytes()).expect($name);
            f($($arg),*)
        }
    }};
}
pub(crate) use call;

impl Driver {
    /// Loads it.
    pub(crate) fn load() -> Self {
        // SAFETY: loading the stand-in runs no code of it.
        Self(unsafe { libloading::Library::new("libcuda.so.1") }.expect("libcuda.so.1"))
    }

    pub(crate) fn library(&self) -> &libloading::Library {
        &self.0
    }

    /// Loads it, initialises it and makes a context on its first device.
    pub(crate) fn start() -> Self {
        let driver = Self::load();
        assert_eq!(call!(driver, "cuInit", 0 => u32), 0);
        let mut context = 0u64;
        assert_eq!(call!(driver, "cuCtxCreate_v2", &raw mut context => *mut u64, 0 => u32, 0 => i32), 0);
        driver
    }

    pub(crate) fn alloc(&self, bytes: usize) -> Result<u64, u32> {
        let mut pointer = 0u64;
        match call!(self, "cuMemAlloc_v2", &raw mut pointer => *mut u64, bytes => usize) {
            0 => Ok(pointer),
            code => Err(code),
        }
    }

    pub(crate) fn free(&self, pointer: u64) {
        assert_eq!(call!(self, "cuMemFree_v2", pointer => u64), 0);
    }

    /// Free and total memory.
    pub(crate) fn memory(&self) -> (usize, usize) {
        let (mut free, mut total) = (0usize, 0usize);
        assert_eq!(call!(self, "cuMemGetInfo_v2", &raw mut free => *mut usize, &raw mut total => *mut usize), 0);
        (free, total)
    }

    pub(crate) fn pinned(&self, bytes: usize) -> *mut Stamp {
        let mut pointer: *mut Stamp = std::ptr::null_mut();
        let code = call!(self, "cuMemHostAlloc", &raw mut pointer => *mut *mut Stamp, bytes => usize, 2 => u32);
        assert_eq!(code, 0);
        pointer
    }

    pub(crate) fn stream(&self) -> u64 {
        let mut stream = 0u64;
        assert_eq!(call!(self, "cuStreamCreate", &raw mut stream => *mut u64, 1 => u32), 0);
        stream
    }

    pub(crate) fn synchronize(&self, stream: u64) -> u32 {
        call!(self, "cuStreamSynchronize", stream => u64)
    }

    /// Loads PTX.
    pub(crate) fn module(&self, ptx: &str) -> Result<u64, u32> {
        let text = CString::new(ptx).expect("no zero byte");
        let mut module = 0u64;
        match call!(self, "cuModuleLoadData", &raw mut module => *mut u64, text.as_ptr().cast() => *const c_void) {
            0 => Ok(module),
            code => Err(code),
        }
    }

    pub(crate) fn function(&self, module: u64, name: &str) -> Result<u64, u32> {
        let name = CString::new(name).expect("no zero byte");
        let mut function = 0u64;
        let code = call!(
            self, "cuModuleGetFunction",
            &raw mut function => *mut u64, module => u64, name.as_ptr() => *const std::ffi::c_char
        );
        if code == 0 { Ok(function) } else { Err(code) }
    }

    /// Launches with these arguments, each given by its address.
    pub(crate) fn launch(&self, function: u64, (grid, block): (u32, u32), stream: u64, args: &[*const c_void]) -> u32 {
        call!(
            self, "cuLaunchKernel",
            function => u64, grid => u32, 1 => u32, 1 => u32, block => u32, 1 => u32, 1 => u32, 0 => u32,
            stream => u64, args.as_ptr() => *const *const c_void, std::ptr::null() => *const *const c_void
        )
    }
}

/// PTX that has these entry points and nothing in them.
pub(crate) fn ptx(version: &str, target: &str, entries: &[&str]) -> String {
    let entry = |name: &&str| format!(".visible .entry {name}()\n{{\n ret;\n}}\n");
    let bodies: String = entries.iter().map(entry).collect();
    format!(".version {version}\n.target {target}\n.address_size 64\n{bodies}")
}
