//! What posting a request costs beside the driver's calls, in instructions: `harness MODE SHAPE N` posts N requests.
//!
//! MODE is `post`, the timed path of a tenant, or `bare`, a loop that makes the same calls with the same arguments and
//! looks at each code. SHAPE is `launch`, `launches` (12 in a request) or `model` (a copy in, 12 launches, a copy out).
//! The driver returns at once. scripts/harness_cost.sh counts both under callgrind, for two N each: what is left of
//! their difference is the loop alone.

use std::ffi::{c_uint, c_void};
use std::hint::black_box;
use std::process::ExitCode;
use std::ptr::{null_mut, without_provenance_mut};

use crosstalk::backend::live::tenant::cost::Posted;
use crosstalk::units::Bytes;
use crosstalk::workload::{GpuView, Stamp};

/// Stamps of the bare loop's ring: as many requests as the timed path has slots for.
const SLOTS: u64 = 64;

unsafe extern "C" fn at_once() -> c_uint {
    0
}

/// `cuMemHostAlloc`: the requests' rings and the host's side of copies are real memory.
unsafe extern "C" fn allocate(address: *mut *mut c_void, bytes: usize, _flags: c_uint) -> c_uint {
    let memory = vec![Stamp::default(); bytes.div_ceil(size_of::<Stamp>())].leak();
    // SAFETY: the caller gives a valid pointer.
    unsafe { address.write(memory.as_mut_ptr().cast::<c_void>()) };
    0
}

/// `cuMemHostGetDevicePointer_v2`.
unsafe extern "C" fn device_address(device: *mut u64, host: *mut c_void, _flags: c_uint) -> c_uint {
    // SAFETY: the caller gives a valid pointer.
    unsafe { device.write(host.expose_provenance() as u64) };
    0
}

fn symbol(name: &str) -> Option<*const c_void> {
    match name {
        "cuMemHostAlloc" => Some(allocate as *const c_void),
        "cuMemHostGetDevicePointer_v2" => Some(device_address as *const c_void),
        "crosstalk_stand_in" => None,
        _ => Some(at_once as *const c_void),
    }
}

const VIEW: GpuView = GpuView {
    sms: 132,
    memory: Bytes::gib(64),
    l2: Bytes::mib(50),
    l1: Bytes::kib(256),
    tlb_reach: Bytes::gib(8),
    sm_mhz: 1_980,
    fma_per_cycle: 128,
    tensor_flop_per_cycle: 4_096,
    hbm_bandwidth: 3 << 40,
    l2_bandwidth: 10 << 40,
    pcie_bandwidth: 55 << 30,
};

/// A request of the timed path.
fn posted(shape: &str) -> Result<Posted, String> {
    let (workload, params): (_, &[_]) = match shape {
        "launch" => ("launch", &[]),
        "launches" => ("launch-storm", &[("launches", "12")]),
        "model" => ("inference", &[("layers", "12")]),
        other => return Err(format!("{other:?} is none of launch, launches, model")),
    };
    // SAFETY: each function may be called with the arguments of its name: on the ABIs that crosstalk is built for, one
    // that takes none may be given some.
    unsafe { Posted::new(&symbol, workload, params, &VIEW) }
}

type Launch = unsafe extern "C" fn(
    *mut c_void,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    *mut c_void,
    *mut *mut c_void,
    *mut *mut c_void,
) -> c_uint;
type ToDevice = unsafe extern "C" fn(u64, *const c_void, usize, *mut c_void) -> c_uint;
type ToHost = unsafe extern "C" fn(*mut c_void, u64, usize, *mut c_void) -> c_uint;

/// What a bare program holds: the entry points, its handles, and the words that launches point to.
struct Bare {
    launch: Launch,
    to_device: ToDevice,
    to_host: ToHost,
    function: *mut c_void,
    stream: *mut c_void,
    grid: c_uint,
    block: c_uint,
    device: u64,
    host: *mut c_void,
    ring: u64,
    words: *mut Words,
    /// Arguments of a launch that stamps the start, of one that does not stamp, and of one that stamps the end.
    first: [*mut c_void; 8],
    plain: [*mut c_void; 8],
    last: [*mut c_void; 8],
}

/// What the parameters point to.
#[repr(C)]
#[derive(Default)]
struct Words {
    sequence: u64,
    start: u64,
    end: u64,
    null: u64,
    state: u64,
    values: [u64; 5],
}

impl Bare {
    /// `arguments`: of the kernel, before state, stamp and sequence word.
    fn new(arguments: usize, grid: c_uint, block: c_uint) -> Self {
        let words: *mut Words = Box::leak(Box::new(Words { state: 1 << 40, values: [1 << 40; 5], ..Words::default() }));
        // SAFETY: allocated just now and never freed; addresses only.
        let (state, sequence, values) =
            unsafe { (&raw mut (*words).state, &raw mut (*words).sequence, &raw mut (*words).values) };
        let params = |stamp: *mut u64| {
            let mut params = [null_mut::<c_void>(); 8];
            for (index, param) in params.iter_mut().take(arguments).enumerate() {
                *param = values.cast::<u64>().wrapping_add(index).cast::<c_void>();
            }
            params[arguments] = state.cast::<c_void>();
            params[arguments + 1] = stamp.cast::<c_void>();
            params[arguments + 2] = sequence.cast::<c_void>();
            params
        };
        // SAFETY: as above.
        let (start, null, end) = unsafe { (&raw mut (*words).start, &raw mut (*words).null, &raw mut (*words).end) };
        // SAFETY: on the ABIs that crosstalk is built for, a function that takes no arguments may be given some.
        unsafe {
            Self {
                launch: std::mem::transmute::<*const c_void, Launch>(at_once as *const c_void),
                to_device: std::mem::transmute::<*const c_void, ToDevice>(at_once as *const c_void),
                to_host: std::mem::transmute::<*const c_void, ToHost>(at_once as *const c_void),
                function: without_provenance_mut(1),
                stream: without_provenance_mut(9),
                grid,
                block,
                device: 1 << 40,
                host: without_provenance_mut(1 << 20),
                ring: 1 << 30,
                words,
                first: params(start),
                plain: params(null),
                last: params(end),
            }
        }
    }

    /// Sets what changes from one request to the next: the sequence word, and where its stamps go.
    #[inline]
    fn set(&self, n: u64, stamps: u64) {
        let slot = self.ring + (n % SLOTS) * stamps * size_of::<Stamp>() as u64;
        // SAFETY: never freed, and only this thread writes. Volatile: the driver reads them through `params`.
        unsafe {
            (&raw mut (*self.words).sequence).write_volatile(n + 1);
            if stamps > 1 {
                (&raw mut (*self.words).start).write_volatile(slot);
            }
            (&raw mut (*self.words).end).write_volatile(slot + (stamps - 1) * size_of::<Stamp>() as u64);
        }
    }

    #[inline]
    fn launch(&self, params: &[*mut c_void; 8]) -> c_uint {
        let params = params.as_ptr().cast_mut();
        // SAFETY: the function takes whatever it is given.
        unsafe { (self.launch)(self.function, self.grid, 1, 1, self.block, 1, 1, 0, self.stream, params, null_mut()) }
    }

    #[inline]
    fn one(&self, n: u64) -> c_uint {
        self.set(n, 1);
        self.launch(&self.last)
    }

    #[inline]
    fn twelve(&self, n: u64) -> c_uint {
        self.set(n, 2);
        let code = self.launch(&self.first);
        if code != 0 {
            return code;
        }
        for _ in 0..10 {
            let code = self.launch(&self.plain);
            if code != 0 {
                return code;
            }
        }
        self.launch(&self.last)
    }

    #[inline]
    fn model(&self, n: u64) -> c_uint {
        self.set(n, 1);
        // SAFETY: the function takes whatever it is given.
        let code = unsafe { (self.to_device)(self.device, self.host, 256 << 10, self.stream) };
        if code != 0 {
            return code;
        }
        for _ in 0..12 {
            let code = self.launch(&self.plain);
            if code != 0 {
                return code;
            }
        }
        // SAFETY: as above.
        let code = unsafe { (self.to_host)(self.host, self.device, 64 << 10, self.stream) };
        if code != 0 {
            return code;
        }
        self.launch(&self.last)
    }
}

/// Makes `count` requests; the codes are looked at, as any program must.
fn repeat(count: u64, request: impl Fn(u64) -> c_uint) -> Result<(), String> {
    for n in 0..count {
        let code = request(n);
        if code != 0 {
            return Err(format!("request {n} returned {code}"));
        }
    }
    Ok(())
}

fn run() -> Result<(), String> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [mode, shape, count] = args.as_slice() else {
        return Err("usage: harness post|bare launch|launches|model N".to_owned());
    };
    let count: u64 = count.parse().map_err(|_| format!("{count:?} is no number"))?;
    match (mode.as_str(), shape.as_str()) {
        ("post", shape) => {
            let posted = posted(shape)?;
            repeat(count, |n| black_box(&posted).post(n))
        }
        ("bare", "launch") => {
            let bare = Bare::new(0, 1, 32);
            repeat(count, |n| black_box(&bare).one(n))
        }
        ("bare", "launches") => {
            let bare = Bare::new(0, 1, 32);
            repeat(count, |n| black_box(&bare).twelve(n))
        }
        ("bare", "model") => {
            let bare = Bare::new(5, 256, 256);
            repeat(count, |n| black_box(&bare).model(n))
        }
        _ => Err(format!("{mode:?} {shape:?}: neither post nor bare, or no such shape")),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("harness: {why}");
            ExitCode::from(2)
        }
    }
}
