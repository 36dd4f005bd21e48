//! A stand-in for libnccl.so: communicators of processes on the stand-in for libcuda.so, and their sums. What ranks tell one
//! another lies in files beside the shared state; the sums are real.

#[path = "shared/config.rs"]
#[expect(dead_code, reason = "the other libraries use the rest")]
mod config;
#[path = "shared/entry.rs"]
#[expect(dead_code, reason = "the other libraries use the rest")]
mod entry;

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::entry::{Code, Out, entry_points};

/// ncclInvalidArgument: what a null argument yields.
const INVALID: Code = Code(4);
/// ncclInternalError: what a defect of the stand-in yields.
const UNKNOWN: Code = Code(3);
/// ncclUnhandledCudaError, ncclSystemError, ncclInvalidUsage.
const CUDA: Code = Code(1);
const SYSTEM: Code = Code(2);
const USAGE: Code = Code(5);
/// ncclFloat32, ncclSum.
const FLOAT32: i32 = 7;
const SUM: i32 = 0;
/// How long a rank waits for the others, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(2);

/// ncclUniqueId: a text.
#[repr(C)]
#[derive(Clone, Copy)]
struct Identity([u8; 128]);

/// A communicator of this process, by its handle.
struct Communicator {
    handle: u64,
    /// Its files begin so.
    stem: PathBuf,
    rank: i32,
    ranks: i32,
    sums: u64,
}

static COMMUNICATORS: Mutex<Vec<Communicator>> = Mutex::new(Vec::new());
static LAST: Mutex<Option<CString>> = Mutex::new(None);

/// Its presence says that this is no library of NVIDIA's.
#[unsafe(no_mangle)]
extern "C" fn crosstalk_stand_in() -> u32 {
    1
}

/// Remembers why, for ncclGetLastError.
fn because(why: String, code: Code) -> Code {
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = CString::new(why).ok();
    code
}

/// The driver that this process has loaded already.
fn driver() -> Result<libloading::Library, Code> {
    // SAFETY: the stand-in for libcuda runs no code when it is loaded.
    unsafe { libloading::Library::new("libcuda.so.1") }.map_err(|e| because(e.to_string(), CUDA))
}

/// Calls the driver.
macro_rules! call {
    ($driver:expr, $name:literal, $($arg:expr => $type:ty),*) => {{
        // SAFETY: the types are those of cuda.h.
        let code = unsafe {
            let f: libloading::Symbol<'_, unsafe extern "C" fn($($type),*) -> u32> =
                $driver.get($name).map_err(|e| because(e.to_string(), CUDA))?;
            f($($arg),*)
        };
        if code == 0 { Ok(()) } else { Err(because(format!("{} gave {code}", String::from_utf8_lossy($name)), CUDA)) }
    }};
}

/// Leaves `bytes` for the other ranks.
fn leave(path: &Path, bytes: &[u8]) -> Result<(), Code> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let left = std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
    left.map_err(|e| because(format!("{}: {e}", path.display()), SYSTEM))
}

/// What another rank has left, once it has.
fn found(path: &Path) -> Result<Vec<u8>, Code> {
    let until = Instant::now() + PATIENCE;
    loop {
        match std::fs::read(path) {
            Ok(bytes) => return Ok(bytes),
            Err(_) if Instant::now() < until => std::thread::sleep(LOOK),
            Err(e) => return Err(because(format!("{}: {e}", path.display()), SYSTEM)),
        }
    }
}

fn beside(stem: &Path, what: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(what);
    PathBuf::from(name)
}

/// The device of the current context, as the PCI bus names it.
fn bus_id() -> Result<String, Code> {
    let driver = driver()?;
    let mut device = 0i32;
    call!(driver, b"cuCtxGetDevice", &raw mut device => *mut i32)?;
    let mut text = [0u8; 32];
    call!(driver, b"cuDeviceGetPCIBusId", text.as_mut_ptr() => *mut u8, 31 => i32, device => i32)?;
    Ok(CStr::from_bytes_until_nul(&text).unwrap_or_default().to_string_lossy().into_owned())
}

fn sum(from: u64, to: u64, count: usize, handle: u64, stream: u64) -> Result<(), Code> {
    let (stem, rank, ranks, turn) = {
        let mut all = COMMUNICATORS.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = all.iter_mut().find(|one| one.handle == handle).ok_or(INVALID)?;
        mine.sums += 1;
        (mine.stem.clone(), mine.rank, mine.ranks, mine.sums)
    };
    let driver = driver()?;
    call!(driver, b"cuStreamSynchronize", stream => u64)?;
    let mut bytes = vec![0u8; count * size_of::<f32>()];
    call!(driver, b"cuMemcpyDtoH_v2", bytes.as_mut_ptr().cast() => *mut c_void, from => u64, bytes.len() => usize)?;
    let at = |rank: i32| beside(&stem, &format!(".{turn}.{rank}"));
    leave(&at(rank), &bytes)?;
    let mut total = vec![0f32; count];
    for rank in 0..ranks {
        let theirs = found(&at(rank))?;
        for (sum, value) in total.iter_mut().zip(theirs.chunks_exact(size_of::<f32>())) {
            *sum += f32::from_le_bytes(value.try_into().unwrap_or_default());
        }
    }
    let bytes: Vec<u8> = total.iter().flat_map(|value| value.to_le_bytes()).collect();
    call!(driver, b"cuMemcpyHtoD_v2", to => u64, bytes.as_ptr().cast() => *const c_void, bytes.len() => usize)
}

entry_points! {
    fn ncclGetVersion(version: Out<i32>) {
        version.put(config::loaded().ok_or(SYSTEM)?.config.nccl.version)
    }

    fn ncclGetUniqueId(identity: Out<Identity>) {
        let mut made = Identity([0; 128]);
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_err(|_| SYSTEM)?;
        let text = format!("nccl.{}.{}", std::process::id(), since.as_nanos());
        made.0[..text.len()].copy_from_slice(text.as_bytes());
        identity.put(made)
    }

    fn ncclCommInitRank(communicator: Out<u64>, ranks: i32, identity: Identity, rank: i32) {
        let loaded = config::loaded().ok_or(SYSTEM)?;
        let name: String = identity.0.iter().take_while(|b| **b != 0).map(|b| char::from(*b)).collect();
        if !name.starts_with("nccl.") || name.contains('/') || rank < 0 || rank >= ranks {
            return Err(INVALID);
        }
        let stem = loaded.folder.join(&name);
        let mine = bus_id()?;
        leave(&beside(&stem, &format!(".bus.{rank}")), mine.as_bytes())?;
        for other in (0..ranks).filter(|other| *other != rank) {
            let theirs = found(&beside(&stem, &format!(".bus.{other}")))?;
            if theirs == mine.as_bytes() && !loaded.config.nccl.shares_gpu {
                let why = format!("Duplicate GPU detected : rank {rank} and rank {other} both on CUDA device {mine}");
                return Err(because(why, USAGE));
            }
        }
        let mut all = COMMUNICATORS.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = all.last().map_or(1 << 52, |last| last.handle + 1);
        all.push(Communicator { handle, stem, rank, ranks, sums: 0 });
        communicator.put(handle)
    }

    fn ncclCommDestroy(communicator: u64) {
        let mut all = COMMUNICATORS.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(|one| one.handle == communicator).ok_or(INVALID)?;
        all.remove(at);
        Ok(())
    }

    fn ncclAllReduce(from: u64, to: u64, count: usize, kind: i32, operation: i32, communicator: u64, stream: u64) {
        if kind != FLOAT32 || operation != SUM {
            return Err(INVALID);
        }
        sum(from, to, count, communicator, stream)
    }
}

#[unsafe(no_mangle)]
extern "C" fn ncclGetErrorString(code: u32) -> *const c_char {
    match code {
        0 => c"no error",
        1 => c"unhandled cuda error",
        2 => c"unhandled system error",
        3 => c"internal error",
        4 => c"invalid argument",
        5 => c"invalid usage",
        _ => c"unknown result code",
    }
    .as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn ncclGetLastError(_communicator: u64) -> *const c_char {
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    // Leaked where another error follows: the caller may still read it.
    last.as_ref().map_or(c"".as_ptr(), |text| Box::leak(text.clone().into_boxed_c_str()).as_ptr())
}
