//! A driver made of a few functions in this process: launches stamp what is right, at once or after a while, unless a
//! test asks for something else. One test at a time holds it.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::CUfunction;

use crate::cuda::{CudaError, Driver};
use crate::host::clock::now;
use crate::units::{Bytes, Nanos};
use crate::workload::{Arg, CATALOGUE, Enqueue, GpuView, Kernel, LaunchArgs, Op, ParamType, SETUP, Stamp, resolve};

/// What the fake shows, holds and was told to do wrong.
#[derive(Default)]
pub(super) struct State {
    /// How long a launch or copy takes.
    pub(super) service: Nanos,
    /// From this launch on, a launch takes so long instead.
    pub(super) slow_from: Option<(u64, Nanos)>,
    /// The call, how many more times it works, and the code that it returns from then on, once.
    pub(super) fails: Option<(&'static str, u64, c_uint)>,
    /// Stamps that are still right.
    pub(super) right: Option<u64>,
    /// Device memory that may still be allocated; `None`: all that is asked for.
    pub(super) budget: Option<u64>,
    /// Calls by name.
    pub(super) calls: BTreeMap<&'static str, u64>,
    /// Most stamps on their way at a time.
    pub(super) deepest: usize,
    /// The last launch.
    pub(super) last: Option<Launched>,
    /// Launches and copies while the default stream still had work: streams of the tenant do not wait for that.
    pub(super) raced: u64,
    /// Kernels that were given a preferred split of L1 and shared memory.
    pub(super) split: std::collections::BTreeSet<&'static str>,
    /// A fill or a copy that may still be under way on the default stream.
    unsettled: bool,
    allocations: BTreeMap<u64, u64>,
    next: u64,
    pending: VecDeque<(Nanos, usize, Stamp)>,
    busy_until: Nanos,
    checksums: BTreeMap<u64, u32>,
    capturing: bool,
    /// Launches of the graph being captured, or of the one captured last: function, grid, block, arguments.
    captured: Vec<(usize, u32, u32, Vec<Arg>, u64)>,
}

/// A launch as the driver is given it.
#[derive(Clone)]
pub(super) struct Launched {
    pub(super) shape: (u32, u32),
    /// The arguments of the kernel's own.
    pub(super) words: Vec<u64>,
    /// Where its program's state lies.
    pub(super) program: u64,
    pub(super) sequence: u32,
}

impl State {
    fn enter(&mut self, call: &'static str) -> c_uint {
        self.settle();
        *self.calls.entry(call).or_default() += 1;
        match &mut self.fails {
            Some((name, 0, code)) if *name == call => {
                let code = *code;
                self.fails = None;
                code
            }
            Some((name, left, _)) if *name == call => {
                *left -= 1;
                0
            }
            _ => 0,
        }
    }

    /// Lets everything happen that is due.
    fn settle(&mut self) {
        while let Some(&(due, address, stamp)) = self.pending.front() {
            if due > now() {
                break;
            }
            self.pending.pop_front();
            let to = std::ptr::with_exposed_provenance_mut::<Stamp>(address);
            // SAFETY: a stamp in the ring of pinned memory that the fake gave out; the sequence word goes last.
            unsafe {
                to.write_volatile(Stamp { sequence: 0, ..stamp });
                std::sync::atomic::AtomicU32::from_ptr(&raw mut (*to).sequence)
                    .store(stamp.sequence, std::sync::atomic::Ordering::Release);
            }
        }
    }

    /// Work on a stream of the tenant's begins.
    fn begin(&mut self) {
        self.raced += u64::from(self.unsettled);
    }

    fn launch(&mut self, function: usize, shape: (u32, u32), args: &[Arg], state: u64, stamp: (usize, u32)) {
        self.begin();
        let kernel = KERNELS[function - 1];
        let checksum = self.checksums.entry(state).or_default();
        let launch = LaunchArgs { grid: shape.0, block: shape.1, args };
        *checksum = checksum.wrapping_add((kernel.reference)(&launch));
        let begin = self.busy_until.max(now());
        let launches = self.calls.get("cuLaunchKernel").copied().unwrap_or(0);
        let slow = self.slow_from.filter(|(from, _)| launches >= *from).map(|(_, service)| service);
        self.busy_until = begin + slow.unwrap_or(self.service);
        if stamp.0 == 0 {
            return;
        }
        let wrong = match &mut self.right {
            Some(0) => 1,
            Some(left) => {
                *left -= 1;
                0
            }
            None => 0,
        };
        let done = Stamp {
            start_ns: begin.0,
            end_ns: self.busy_until.0,
            block_ns: 1_000_000,
            block_cycles: 1_700_000,
            checksum: std::mem::take(checksum) + wrong,
            sequence: stamp.1,
            ..Stamp::default()
        };
        self.pending.push_back((self.busy_until, stamp.0, done));
        self.deepest = self.deepest.max(self.pending.len());
        self.settle();
    }

    /// Device memory that is allocated.
    pub(super) fn allocated(&self) -> u64 {
        self.allocations.values().sum()
    }
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(Mutex::default);
static ONE_TEST: Mutex<()> = Mutex::new(());
static KERNELS: LazyLock<Vec<&'static Kernel>> = LazyLock::new(kernels);
/// Its UUID.
pub(super) const UUID: &str = "GPU-01010101-0101-0101-0101-010101010101";

/// The fake's, for one test: it begins anew.
pub(super) fn take() -> MutexGuard<'static, ()> {
    let guard = ONE_TEST.lock().unwrap_or_else(PoisonError::into_inner);
    // Addresses go on: a tenant of the test before, which ends in its own time, must not free what is this one's.
    let next = state().next.max(1 << 40);
    *state() = State { next, ..State::default() };
    // What is due happens by itself, as on a device.
    static DEVICE: LazyLock<std::thread::JoinHandle<()>> = LazyLock::new(|| {
        std::thread::spawn(|| {
            loop {
                state().settle();
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
        })
    });
    LazyLock::force(&DEVICE);
    guard
}

/// What it holds.
pub(super) fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every kernel that a workload launches or that sets one up.
fn kernels() -> Vec<&'static Kernel> {
    let view = GpuView {
        sms: 8,
        memory: Bytes::gib(16),
        l2: Bytes::mib(50),
        l1: Bytes::kib(256),
        tlb_reach: Bytes::gib(2),
        sm_mhz: 1_700,
        fma_per_cycle: 128,
        tensor_flop_per_cycle: 4_096,
        hbm_bandwidth: 1 << 41,
        l2_bandwidth: 1 << 42,
        pcie_bandwidth: 1 << 35,
    };
    let mut kernels: Vec<_> = SETUP.to_vec();
    for workload in CATALOGUE {
        let program = (workload.program)(&resolve(workload, &BTreeMap::new()).unwrap(), &view).unwrap();
        for op in program.request {
            if let Op::Enqueue(Enqueue::Launch { kernel, .. }, _) = op {
                kernels.push(kernel);
            }
        }
    }
    kernels
}

/// Its handle of the kernel of this name.
pub(super) fn function(symbol: &str) -> Result<CUfunction, CudaError> {
    let index = KERNELS.iter().position(|kernel| kernel.symbol == symbol);
    let number = index.ok_or_else(|| CudaError::other("cuModuleGetFunction", "no such kernel"))? + 1;
    Ok(std::ptr::without_provenance_mut(number))
}

/// The fake as a table.
pub(super) fn driver() -> Result<&'static Driver, CudaError> {
    static DRIVER: LazyLock<Driver> = LazyLock::new(|| {
        // SAFETY: `symbol` gives each name a function of its signature.
        unsafe { Driver::resolve(&symbol) }.unwrap()
    });
    Ok(&DRIVER)
}

macro_rules! calls {
    ($($name:ident($($arg:ident: $type:ty),*) $body:block)*) => {
        $(
            #[expect(non_snake_case, reason = "the driver's own names")]
            unsafe extern "C" fn $name($($arg: $type),*) -> c_uint {
                let code = state().enter(stringify!($name));
                if code == 0 { $body } else { code }
            }
        )*
        fn symbol(name: &str) -> Option<*const c_void> {
            match name {
                $(stringify!($name) => Some($name as *const c_void),)*
                "crosstalk_stand_in" => None,
                // It has no peers and no memory for other processes: what asks for them is no work of a tenant's.
                "cuDevicePrimaryCtxRetain" | "cuDevicePrimaryCtxRelease_v2" | "cuDeviceCanAccessPeer"
                | "cuCtxEnablePeerAccess" | "cuMemcpyPeerAsync" | "cuIpcGetMemHandle" | "cuIpcOpenMemHandle_v2"
                | "cuIpcCloseMemHandle" => None,
                _ => panic!("the fake driver has no {name}"),
            }
        }
    };
}

/// Writes through a pointer that a caller of the driver gave.
macro_rules! set {
    ($to:expr, $value:expr) => {{
        // SAFETY: callers of the driver give valid pointers.
        unsafe { $to.write($value) };
        0
    }};
}

calls! {
    cuInit(_flags: c_uint) { 0 }
    cuDriverGetVersion(version: *mut c_int) { set!(version, 12_080) }
    cuGetErrorName(_code: c_uint, _name: *mut *const c_char) { 1 }
    cuDeviceGet(device: *mut c_int, _ordinal: c_int) { set!(device, 0) }
    cuDeviceGetCount(count: *mut c_int) { set!(count, 1) }
    cuDeviceGetName(name: *mut c_char, _length: c_int, _device: c_int) {
        // SAFETY: longer than this name.
        unsafe { name.copy_from(c"Fake GPU".as_ptr(), 9) };
        0
    }
    cuDeviceGetUuid_v2(uuid: *mut [u8; 16], _device: c_int) { set!(uuid, [1; 16]) }
    cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _device: c_int) {
        let known = match attribute {
            13 => 1_700_000,
            16 => 8,
            38 => 50 << 20,
            75 => 9,
            _ => 0,
        };
        set!(value, known)
    }
    cuDeviceTotalMem_v2(bytes: *mut usize, _device: c_int) { set!(bytes, 16 << 30) }
    cuCtxCreate_v2(context: *mut usize, _flags: c_uint, _device: c_int) { set!(context, 7) }
    cuCtxDestroy_v2(_context: usize) { 0 }
    cuCtxSetCurrent(_context: usize) { 0 }
    cuModuleLoadDataEx(module: *mut usize, _image: *const c_void, _count: c_uint, _options: *mut c_uint,
        _values: *mut *mut c_void) { set!(module, 8) }
    cuModuleUnload(_module: usize) { 0 }
    cuModuleGetFunction(function: *mut usize, _module: usize, name: *const c_char) {
        // SAFETY: callers give terminated names.
        let name = unsafe { CStr::from_ptr(name) }.to_str().unwrap();
        match KERNELS.iter().position(|kernel| kernel.symbol == name) {
            Some(index) => set!(function, index + 1),
            None => 500,
        }
    }
    cuFuncGetAttribute(value: *mut c_int, attribute: c_int, _function: usize) { set!(value, if attribute == 4 { 40 } else { 0 }) }
    cuFuncSetAttribute(function: usize, attribute: c_int, _value: c_int) {
        if attribute == 9 {
            state().split.insert(KERNELS[function - 1].symbol);
        }
        0
    }
    cuLaunchKernel(function: usize, x: c_uint, _y: c_uint, _z: c_uint, block: c_uint, _by: c_uint, _bz: c_uint,
        _shared: c_uint, _stream: usize, params: *mut *mut c_void, _extra: *mut *mut c_void) {
        let kernel = KERNELS[function - 1];
        // SAFETY: as many parameters as the kernel takes and three more, each of its type's width.
        let word = |index: usize| unsafe { params.add(index).read().cast::<u64>().read_unaligned() };
        // SAFETY: as above.
        let half = |index: usize| unsafe { params.add(index).read().cast::<u32>().read() };
        let args: Vec<Arg> = kernel.params.iter().enumerate().map(|(index, kind)| match kind {
            ParamType::U32 => Arg::U32(half(index)),
            ParamType::U64 => Arg::U64(word(index)),
            ParamType::Pointer => {
                assert!(word(index) >= 1 << 40, "{} is given no address of the device", kernel.symbol);
                Arg::Buffer(0)
            }
        }).collect();
        let last = kernel.params.len();
        let (program, stamp, sequence) = (word(last), word(last + 1) as usize, half(last + 2));
        let words = kernel.params.iter().enumerate().map(|(index, kind)| match kind {
            ParamType::U32 => u64::from(half(index)),
            _ => word(index),
        });
        let mut state = state();
        state.last = Some(Launched { shape: (x, block), words: words.collect(), program, sequence });
        if state.capturing {
            assert_eq!(stamp, 0, "a graph's launches cannot stamp");
            state.captured.push((function, x, block, args, program));
        } else {
            state.launch(function, (x, block), &args, program, (stamp, sequence));
        }
        0
    }
    cuMemAlloc_v2(address: *mut u64, bytes: usize) {
        let mut state = state();
        let bytes = bytes as u64;
        if let Some(budget) = &mut state.budget {
            if *budget < bytes {
                return 2;
            }
            *budget -= bytes;
        }
        let at = state.next;
        state.next += bytes.next_multiple_of(1 << 21);
        state.allocations.insert(at, bytes);
        set!(address, at)
    }
    cuMemFree_v2(address: u64) {
        let mut state = state();
        let Some(bytes) = state.allocations.remove(&address) else { return 1 };
        state.checksums.remove(&address);
        if let Some(budget) = &mut state.budget {
            *budget += bytes;
        }
        0
    }
    cuMemGetInfo_v2(free: *mut usize, total: *mut usize) { set!(free, 15 << 30); set!(total, 16 << 30) }
    cuMemHostAlloc(address: *mut *mut c_void, bytes: usize, _flags: c_uint) {
        // Never freed: a late stamp of a test that failed must find it.
        let memory = vec![0u8; bytes + 64].leak();
        let at = memory.as_mut_ptr();
        set!(address, at.wrapping_add(at.align_offset(64)).cast::<c_void>())
    }
    cuMemFreeHost(_address: *mut c_void) { 0 }
    cuMemHostGetDevicePointer_v2(device: *mut u64, host: *mut c_void, _flags: c_uint) {
        set!(device, host.expose_provenance() as u64)
    }
    cuMemcpyHtoD_v2(_to: u64, _from: *const c_void, _bytes: usize) {
        state().unsettled = true;
        0
    }
    cuMemcpyHtoDAsync_v2(_to: u64, _from: *const c_void, _bytes: usize, _stream: usize) {
        let mut state = state();
        state.begin();
        state.busy_until = state.busy_until.max(now()) + state.service;
        0
    }
    cuMemcpyDtoHAsync_v2(_to: *mut c_void, _from: u64, _bytes: usize, _stream: usize) {
        let mut state = state();
        state.begin();
        state.busy_until = state.busy_until.max(now()) + state.service;
        0
    }
    cuMemcpyDtoDAsync_v2(_to: u64, _from: u64, _bytes: usize, _stream: usize) {
        let mut state = state();
        state.begin();
        state.busy_until = state.busy_until.max(now()) + state.service;
        0
    }
    cuMemsetD8_v2(address: u64, _value: u8, _bytes: usize) {
        let mut state = state();
        state.checksums.remove(&address);
        state.unsettled = true;
        0
    }
    cuStreamCreate(stream: *mut usize, _flags: c_uint) { set!(stream, 9) }
    cuStreamDestroy_v2(_stream: usize) { 0 }
    cuStreamSynchronize(stream: usize) {
        if stream == 0 {
            state().unsettled = false;
        }
        0
    }
    cuStreamQuery(_stream: usize) { if state().pending.is_empty() { 0 } else { 600 } }
    cuStreamBeginCapture_v2(_stream: usize, _mode: c_uint) {
        let mut state = state();
        (state.capturing, state.captured) = (true, Vec::new());
        0
    }
    cuStreamEndCapture(_stream: usize, graph: *mut usize) {
        state().capturing = false;
        set!(graph, 10)
    }
    cuGraphInstantiateWithFlags(executable: *mut usize, _graph: usize, _flags: u64) { set!(executable, 11) }
    cuGraphLaunch(_executable: usize, _stream: usize) {
        let mut state = state();
        for (function, grid, block, args, program) in state.captured.clone() {
            state.launch(function, (grid, block), &args, program, (0, 0));
        }
        0
    }
    cuDeviceGetDevResource(_device: c_int, resource: *mut u32, kind: c_uint) {
        // Where the driver's struct holds the number of SMs.
        // SAFETY: callers of the driver give a valid pointer to a resource of 144 bytes.
        unsafe { resource.add(24).write(if kind == 1 { 8 } else { 0 }) };
        0
    }
    cuDevSmResourceSplitByCount(groups: *mut [u32; 36], count: *mut c_uint, _input: *const u32, _remaining: *mut u32,
        _flags: c_uint, least: c_uint) {
        // SAFETY: callers of the driver give valid pointers, and room for as many groups as they say.
        unsafe {
            count.write(count.read().min(8 / least));
            (0..count.read() as usize).for_each(|n| (*groups.add(n))[24] = least);
        }
        0
    }
    cuDevResourceGenerateDesc(description: *mut usize, _resources: *mut u32, count: c_uint) {
        set!(description, count as usize)
    }
    cuGreenCtxCreate(green: *mut usize, _description: usize, _device: c_int, _flags: c_uint) { set!(green, 12) }
    cuGreenCtxDestroy(_green: usize) { 0 }
    cuGreenCtxGetDevResource(_green: usize, resource: *mut u32, _kind: c_uint) {
        // SAFETY: as above.
        unsafe { resource.add(24).write(8) };
        0
    }
    cuGreenCtxStreamCreate(stream: *mut usize, _green: usize, _flags: c_uint, _priority: c_int) { set!(stream, 9) }
    cuCtxFromGreenCtx(context: *mut usize, _green: usize) { set!(context, 7) }
    cuDevicePrimaryCtxSetFlags_v2(_device: c_int, _flags: c_uint) { 0 }
    cuGraphExecDestroy(_executable: usize) { 0 }
    cuGraphDestroy(_graph: usize) { 0 }
}
