//! NCCL, where it is installed: loaded at run time, its results integers, as with the driver (docs/adr/0006).

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use cudarc::driver::sys::CUstream;

/// Names under which it is looked for, in this order.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];
/// Bytes of an identity (NCCL_UNIQUE_ID_BYTES).
const IDENTITY: usize = 128;
/// ncclFloat32 of ncclDataType_t, ncclSum of ncclRedOp_t.
const FLOAT32: c_int = 7;
const SUM: c_int = 0;

/// A communicator's handle.
type Handle = *mut c_void;

/// ncclUniqueId: passed by value.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Identity {
    internal: [c_char; IDENTITY],
}

impl Identity {
    /// In hexadecimal digits.
    pub(crate) fn to_hex(self) -> String {
        hex::encode(self.internal.map(|byte| byte as u8))
    }

    /// From hexadecimal digits.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0u8; IDENTITY];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self { internal: bytes.map(|byte| byte as c_char) })
    }
}

/// A call that NCCL refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {what}")]
pub(crate) struct NcclError {
    /// The call.
    pub(crate) call: &'static str,
    /// NCCL's words.
    pub(crate) what: String,
    /// Its result (ncclResult_t).
    pub(crate) code: u32,
}

/// The entry points.
#[expect(non_snake_case, reason = "the library's own names")]
pub(crate) struct Nccl {
    ncclGetVersion: unsafe extern "C" fn(*mut c_int) -> u32,
    ncclGetErrorString: unsafe extern "C" fn(u32) -> *const c_char,
    /// From NCCL 2.13 on.
    ncclGetLastError: Option<unsafe extern "C" fn(Handle) -> *const c_char>,
    ncclGetUniqueId: unsafe extern "C" fn(*mut Identity) -> u32,
    ncclCommInitRank: unsafe extern "C" fn(*mut Handle, c_int, Identity, c_int) -> u32,
    ncclCommDestroy: unsafe extern "C" fn(Handle) -> u32,
    ncclAllReduce: unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, Handle, CUstream) -> u32,
}

impl Nccl {
    /// The library of this machine, loaded once in the life of a process.
    ///
    /// # Errors
    /// Where there is none, or one that lacks an entry point: the loader's words.
    pub(crate) fn load() -> Result<&'static Self, String> {
        static LOADED: OnceLock<Result<Nccl, String>> = OnceLock::new();
        LOADED.get_or_init(|| Self::load_from(&NAMES)).as_ref().map_err(Clone::clone)
    }

    fn load_from(names: &[&str]) -> Result<Self, String> {
        let mut why = Vec::new();
        for name in names {
            // SAFETY: loading runs the library's initialisers, as any program that uses it has it; this process does nothing
            // else that they could change.
            match unsafe { libloading::Library::new(*name) } {
                // Never unloaded: it has threads of its own.
                Ok(library) => return Self::resolve(Box::leak(Box::new(library))),
                Err(error) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    why.push(source.unwrap_or_else(|| format!("{name}: {error}")));
                }
            }
        }
        Err(why.join("; "))
    }

    fn resolve(library: &'static libloading::Library) -> Result<Self, String> {
        /// A symbol of this type, or that it is missing.
        macro_rules! find {
            ($name:literal) => {
                // SAFETY: the signatures are those of nccl.h since 2.0; the library is never unloaded.
                *unsafe { library.get($name) }
                    .map_err(|_| format!("libnccl has no {}", String::from_utf8_lossy($name)))?
            };
        }
        Ok(Self {
            ncclGetVersion: find!(b"ncclGetVersion"),
            ncclGetErrorString: find!(b"ncclGetErrorString"),
            // SAFETY: as above.
            ncclGetLastError: unsafe { library.get(b"ncclGetLastError") }.ok().map(|found| *found),
            ncclGetUniqueId: find!(b"ncclGetUniqueId"),
            ncclCommInitRank: find!(b"ncclCommInitRank"),
            ncclCommDestroy: find!(b"ncclCommDestroy"),
            ncclAllReduce: find!(b"ncclAllReduce"),
        })
    }

    fn check(&self, call: &'static str, code: u32) -> Result<(), NcclError> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: takes any number, and gives the address of a text of the library's own.
        let name = unsafe { text((self.ncclGetErrorString)(code)) };
        // SAFETY: a null communicator is allowed: the last error of this thread's calls.
        let last = self.ncclGetLastError.map(|call| unsafe { text(call(std::ptr::null_mut())) }).unwrap_or_default();
        let what = match (name.is_empty(), last.trim()) {
            (true, "") => format!("result {code}"),
            (false, "") => format!("{name} (result {code})"),
            (_, last) => format!("{name} (result {code}; {last})"),
        };
        Err(NcclError { call, what, code })
    }

    /// Its version, as it encodes it.
    ///
    /// # Errors
    /// The library's own.
    pub(crate) fn version(&self) -> Result<u32, NcclError> {
        let mut version = 0;
        // SAFETY: the pointer is valid for the call.
        self.check("ncclGetVersion", unsafe { (self.ncclGetVersion)(&raw mut version) })?;
        Ok(u32::try_from(version).unwrap_or(0))
    }

    /// An identity for a communicator.
    ///
    /// # Errors
    /// The library's own.
    pub(crate) fn identity(&self) -> Result<Identity, NcclError> {
        let mut identity = Identity { internal: [0; IDENTITY] };
        // SAFETY: the pointer is valid for the call.
        self.check("ncclGetUniqueId", unsafe { (self.ncclGetUniqueId)(&raw mut identity) })?;
        Ok(identity)
    }

    /// Joins a communicator on the current context's device. Returns when all ranks have, or one has failed; it may hang.
    ///
    /// # Errors
    /// The library's own.
    pub(crate) fn join(&'static self, identity: Identity, rank: u32, ranks: u32) -> Result<Communicator, NcclError> {
        let mut handle = std::ptr::null_mut();
        let count = |n: u32| c_int::try_from(n).unwrap_or(c_int::MAX);
        // SAFETY: the pointer is valid for the call.
        let code = unsafe { (self.ncclCommInitRank)(&raw mut handle, count(ranks), identity, count(rank)) };
        self.check("ncclCommInitRank", code)?;
        Ok(Communicator { nccl: self, handle })
    }
}

/// A text of the library's.
///
/// # Safety
/// `text` is null or ends in a zero and stays.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by the caller's word.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// This process's part of a communicator.
pub(crate) struct Communicator {
    nccl: &'static Nccl,
    handle: Handle,
}

impl Communicator {
    /// Enqueues the sum over all ranks of `count` floats at `from`, to `to`.
    ///
    /// # Errors
    /// The library's own.
    ///
    /// # Safety
    /// `from` and `to` are device memory of `count` floats each, alive until `stream` is done.
    pub(crate) unsafe fn all_reduce(
        &self,
        from: u64,
        to: u64,
        count: usize,
        stream: CUstream,
    ) -> Result<(), NcclError> {
        let address = |at: u64| std::ptr::without_provenance_mut::<c_void>(at as usize);
        // SAFETY: by the caller's word; the communicator is alive.
        let code =
            unsafe { (self.nccl.ncclAllReduce)(address(from), address(to), count, FLOAT32, SUM, self.handle, stream) };
        self.nccl.check("ncclAllReduce", code)
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        // SAFETY: made by `join`, destroyed once.
        let _ = unsafe { (self.nccl.ncclCommDestroy)(self.handle) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_there_is_told_in_the_loaders_words() {
        let why = Nccl::load_from(&["libcrosstalk-nccl-not-there.so"]).err().unwrap();
        assert!(why.contains("libcrosstalk-nccl-not-there"), "{why}");
        assert!(Identity::from_hex("00").is_none());
        let text = "7f".repeat(IDENTITY);
        assert_eq!(Identity::from_hex(&text).unwrap().to_hex(), text);
    }
}
