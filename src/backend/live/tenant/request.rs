//! A program's request as driver calls laid out in advance: posting one is the calls themselves and a few stores.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use cudarc::driver::sys::{CUfunction, CUgraphExec, CUstream};

use crate::cuda::{Driver, Graph, PinnedBuffer, SUCCESS};
use crate::workload::Stamp;

/// A stamp that a request makes, in the order in which they are to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// The sum of references of the launches since the stamp before it, on its stream.
    pub(super) expected: u32,
    /// It stamps the request's first operation.
    pub(super) starts: bool,
    /// A launch of the program stamps it, and not one put behind a copy or a graph.
    pub(super) own: bool,
    /// Marks that are reached with it: numbers within the request.
    pub(super) marks: std::ops::Range<u16>,
}

/// A launch with everything but where its arguments are in this slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Launch {
    pub(super) function: CUfunction,
    pub(super) grid: u32,
    pub(super) block: u32,
    pub(super) stream: CUstream,
    /// Where its arguments begin within the request's, bytes.
    pub(super) params: usize,
}

/// A copy between pinned host memory and the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) device: u64,
    pub(super) host: *mut c_void,
    pub(super) bytes: usize,
    pub(super) stream: CUstream,
}

/// One call of the driver, or the same launch `times` over, once at least.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Launch { launch: Launch, times: u32 },
    ToDevice(Transfer),
    ToHost(Transfer),
    Graph { graph: CUgraphExec, stream: CUstream },
}

/// The forms that requests have: each is posted without asking, step by step, what comes next.
enum Shape {
    /// One launch: most probes.
    One(Launch),
    /// Launches alone, of which the first and the last stamp.
    Launches(Box<(Launch, (Launch, u32), Launch)>),
    /// A copy in, launches, a copy out, and the stamp behind it: a model that is served.
    Served(Box<(Transfer, (Launch, u32), Transfer, Launch)>),
    /// Anything else.
    Mixed(Box<[Step]>),
}

impl Shape {
    fn of(steps: Vec<Step>) -> Self {
        match steps.as_slice() {
            [Step::Launch { launch: launch @ Launch { params: 0, .. }, times: 1 }] => Self::One(*launch),
            [
                Step::Launch { launch: first @ Launch { params: 0, .. }, times: 1 },
                Step::Launch { launch, times },
                Step::Launch { launch: last, times: 1 },
            ] => Self::Launches(Box::new((*first, (*launch, *times), *last))),
            [
                Step::ToDevice(input),
                Step::Launch { launch, times },
                Step::ToHost(output),
                Step::Launch { launch: end, times: 1 },
            ] => Self::Served(Box::new((*input, (*launch, *times), *output, *end))),
            _ => Self::Mixed(steps.into()),
        }
    }
}

/// Where a launch finds an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// The sequence word.
    Sequence,
    /// A null address.
    Null,
    /// The address of this stamp.
    Stamp(usize),
    /// This of the values that never change.
    Value(usize),
}

/// Driver calls with all their arguments in place, for each slot of the ring its own: posting stores one word, and then
/// makes the calls (benches/harness.rs counts what that costs).
pub(super) struct Calls {
    shape: Shape,
    /// Atomic, as the cells are, because the driver reads it through `params` while this struct is borrowed; one thread
    /// stores.
    sequence: Box<AtomicU64>,
    /// A null, the values, and the addresses of stamps: never changed, and held because `params` points to them.
    _cells: Box<[AtomicU64]>,
    /// For each slot and each launch, the addresses of its arguments.
    params: Box<[*mut c_void]>,
    /// Bytes of the addresses of one slot.
    stride: usize,
    slots: usize,
}

/// A launch `times` over, once at least; returns from the function that it stands in with a code that is not success. A
/// function that returns the code costs three instructions a launch more.
macro_rules! repeat {
    ($launch:expr, $times:expr, $driver:expr, $params:expr) => {{
        let params = $params.wrapping_byte_add($launch.params);
        let mut left: u32 = $times;
        loop {
            let code = $launch.make($driver, params);
            if code != SUCCESS {
                return code;
            }
            left = left.wrapping_sub(1);
            if left == 0 {
                break;
            }
        }
    }};
}

impl Calls {
    /// `params`: the arguments of all launches, each beginning where its step says; `stamps`: addresses of the stamps of
    /// each slot.
    pub(super) fn new(steps: Vec<Step>, values: &[u64], params: &[Cell], stamps: &[Vec<u64>]) -> Self {
        let sequence = Box::new(AtomicU64::new(0));
        // A value lies in the lowest bytes of its cell: the driver reads as many as the kernel declares.
        let null = std::iter::once(0);
        let all = null.chain(values.iter().copied()).chain(stamps.iter().flatten().copied());
        let cells: Box<[AtomicU64]> = all.map(|value| AtomicU64::new(value.to_le())).collect();
        let mut before = 1 + values.len();
        let mut addresses = Vec::with_capacity(params.len() * stamps.len());
        for slot in stamps {
            addresses.extend(params.iter().map(|cell| match cell {
                Cell::Sequence => sequence.as_ptr().cast::<c_void>(),
                Cell::Null => cells[0].as_ptr().cast(),
                Cell::Value(value) => cells[1 + value].as_ptr().cast(),
                Cell::Stamp(point) => cells[before + point].as_ptr().cast(),
            }));
            before += slot.len();
        }
        Self {
            shape: Shape::of(steps),
            sequence,
            _cells: cells,
            params: addresses.into(),
            stride: params.len() * size_of::<*mut c_void>(),
            slots: stamps.len(),
        }
    }

    /// Makes the calls for a slot. Returns the first code that is not success; what was posted before it stays posted.
    #[inline]
    pub(super) fn make(&self, driver: &Driver, sequence: u32, slot: usize) -> u32 {
        debug_assert!(slot < self.slots);
        self.sequence.store(u64::from(sequence).to_le(), Ordering::Relaxed);
        let params = self.params.as_ptr().wrapping_byte_add(slot * self.stride).cast_mut();
        if let Shape::One(launch) = &self.shape {
            return launch.make(driver, params);
        }
        self.make_many(driver, params)
    }

    #[inline]
    fn make_many(&self, driver: &Driver, params: *mut *mut c_void) -> u32 {
        match &self.shape {
            Shape::One(launch) => launch.make(driver, params),
            Shape::Launches(all) => {
                let (first, (launch, times), last) = all.as_ref();
                let code = first.make(driver, params);
                if code != SUCCESS {
                    return code;
                }
                repeat!(launch, *times, driver, params);
                last.make(driver, params.wrapping_byte_add(last.params))
            }
            Shape::Served(all) => {
                let (input, (launch, times), output, end) = all.as_ref();
                let code = input.post_to_device(driver);
                if code != SUCCESS {
                    return code;
                }
                repeat!(launch, *times, driver, params);
                let code = output.post_to_host(driver);
                if code != SUCCESS {
                    return code;
                }
                end.make(driver, params.wrapping_byte_add(end.params))
            }
            Shape::Mixed(steps) => mixed(steps, driver, params),
        }
    }
}

/// Requests of any other form.
#[inline(never)]
fn mixed(steps: &[Step], driver: &Driver, params: *mut *mut c_void) -> u32 {
    for step in steps {
        let code = match step {
            Step::Launch { launch, times } => {
                repeat!(launch, *times, driver, params);
                SUCCESS
            }
            Step::ToDevice(copy) => copy.post_to_device(driver),
            Step::ToHost(copy) => copy.post_to_host(driver),
            // SAFETY: the graph lives with the request, the stream outlives it.
            Step::Graph { graph, stream } => unsafe { driver.cuGraphLaunch(*graph, *stream) },
        };
        if code != SUCCESS {
            return code;
        }
    }
    SUCCESS
}

impl Transfer {
    #[inline]
    fn post_to_device(&self, driver: &Driver) -> u32 {
        // SAFETY: buffer and stream outlive the call (who holds them drops programs first); host memory of copies is
        // pinned and lives with the request.
        unsafe { driver.cuMemcpyHtoDAsync_v2(self.device, self.host, self.bytes, self.stream) }
    }

    #[inline]
    fn post_to_host(&self, driver: &Driver) -> u32 {
        // SAFETY: as above.
        unsafe { driver.cuMemcpyDtoHAsync_v2(self.host, self.device, self.bytes, self.stream) }
    }
}

impl Launch {
    /// `params`: the arguments of this launch in this slot.
    #[inline]
    fn make(&self, driver: &Driver, params: *mut *mut c_void) -> u32 {
        let Self { function, grid, block, stream, .. } = *self;
        let extra = std::ptr::null_mut();
        // SAFETY: function, stream and buffers outlive the call (who holds them drops programs first); the parameters
        // are as many as the kernel takes, each the address of a live cell wide enough for its type.
        unsafe { driver.cuLaunchKernel(function, grid, 1, 1, block, 1, 1, 0, stream, params, extra) }
    }
}

/// A compiled request. One thread posts; another may read its stamps meanwhile.
pub(super) struct Request {
    pub(super) calls: Calls,
    /// A stamp alone, that puts the checksums right after a request of which only a part was posted.
    pub(super) flush: Calls,
    pub(super) points: Vec<Point>,
    /// Requests that may be in flight: a power of two.
    pub(super) slots: usize,
    /// `slots` less one: a division would be a tenth of what posting costs.
    pub(super) mask: usize,
    /// Stamps: `slots` times one for each point, and one that nobody reads.
    pub(super) ring: PinnedBuffer,
    /// Marks of a request.
    pub(super) marks: u16,
    /// What the calls use: held, so that it lives as long.
    pub(super) _graphs: Vec<Graph>,
    pub(super) _copies: Vec<PinnedBuffer>,
}

// SAFETY: the raw pointers are the driver's handles, which any thread may use with the context current, and addresses of
// memory that this struct owns and never moves (boxes and pinned buffers).
unsafe impl Send for Request {}
// SAFETY: shared use is reading stamps, which `read` does by volatile and atomic loads, and posting, which goes through
// atomic cells.
unsafe impl Sync for Request {}

impl Request {
    /// Bytes of a ring for so many requests.
    pub(super) fn ring_bytes(slots: usize, points: usize) -> usize {
        (slots * points + 1) * size_of::<Stamp>()
    }

    /// Posts one request: number `n` of all that were ever posted. Returns the driver's first code that is not success;
    /// what was posted before it stays posted.
    #[inline]
    pub(super) fn post(&self, driver: &Driver, n: u64) -> u32 {
        self.calls.make(driver, sequence(n), self.slot(n))
    }

    /// After a request of which only a part was posted: the next one starts from clean checksums.
    pub(super) fn flush(&self, driver: &Driver) -> u32 {
        self.flush.make(driver, 0, 0)
    }

    /// Rows that a request takes in the region: its own, and one for each mark.
    pub(super) fn rows(&self) -> usize {
        1 + usize::from(self.marks)
    }

    /// Stamp number `point` of request `n`, if it is there.
    #[inline]
    pub(super) fn read(&self, n: u64, point: usize) -> Option<Stamp> {
        // SAFETY: within the ring, which holds `slots` × `points` stamps, and aligned: pinned memory begins on a page.
        let stamp = unsafe { self.ring.host().add(self.offset(n, point)).cast::<Stamp>() };
        // SAFETY: a valid address, aligned; the other side writes it whole, and before it everything else of the stamp.
        let seen = unsafe { AtomicU32::from_ptr(&raw mut (*stamp).sequence) }.load(Ordering::Acquire);
        // SAFETY: a valid address; the writer is done with it and comes back only for another request of this slot,
        // which is not posted before this one was seen.
        (seen == sequence(n)).then(|| unsafe { stamp.read_volatile() })
    }

    #[inline]
    fn slot(&self, n: u64) -> usize {
        n as usize & self.mask
    }

    #[inline]
    fn offset(&self, n: u64, point: usize) -> usize {
        (self.slot(n) * self.points.len() + point) * size_of::<Stamp>()
    }
}

/// The sequence word of request `n`: another one in each of the last four billion, and not 0 in the first lap of a ring,
/// which begins as zeros.
#[inline]
pub(super) fn sequence(n: u64) -> u32 {
    (n as u32).wrapping_add(1)
}
