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

/// One call of the driver, or the same one `times` over.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Launch { function: CUfunction, grid: u32, block: u32, stream: CUstream, params: usize, times: u32 },
    ToDevice { to: u64, from: *const c_void, bytes: usize, stream: CUstream, times: u32 },
    ToHost { to: *mut c_void, from: u64, bytes: usize, stream: CUstream, times: u32 },
    Graph { graph: CUgraphExec, stream: CUstream },
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

/// Driver calls with all their arguments in place.
pub(super) struct Calls {
    steps: Vec<Step>,
    /// The sequence word, a null, the addresses of stamps, and the values that never change. Atomic because the driver
    /// reads them through `params` while this struct is borrowed; one thread stores.
    cells: Box<[AtomicU64]>,
    /// For each launch, the addresses of its arguments' cells.
    params: Box<[*mut c_void]>,
    stamps: usize,
}

const SEQUENCE: usize = 0;
const NULL: usize = 1;
const STAMPS: usize = 2;

impl Calls {
    /// `params`: the arguments of all launches, each beginning where its step says; `stamps`: how many there are.
    pub(super) fn new(steps: Vec<Step>, values: &[u64], params: &[Cell], stamps: usize) -> Self {
        // A value lies in the lowest bytes of its cell: the driver reads as many as the kernel declares.
        let variable = std::iter::repeat_n(0, STAMPS + stamps);
        let cells: Box<[AtomicU64]> = variable.chain(values.iter().map(|v| v.to_le())).map(AtomicU64::new).collect();
        let index = |cell: &Cell| match cell {
            Cell::Sequence => SEQUENCE,
            Cell::Null => NULL,
            Cell::Stamp(point) => STAMPS + point,
            Cell::Value(value) => STAMPS + stamps + value,
        };
        let params = params.iter().map(|cell| cells[index(cell)].as_ptr().cast::<c_void>()).collect();
        Self { steps, cells, params, stamps }
    }

    /// Sets what changes: the sequence word, and where stamps go from `first` on.
    #[inline]
    pub(super) fn set(&self, sequence: u32, first: u64) {
        self.cells[SEQUENCE].store(u64::from(sequence).to_le(), Ordering::Relaxed);
        for (stamp, cell) in self.cells[STAMPS..STAMPS + self.stamps].iter().enumerate() {
            cell.store((first + (stamp * size_of::<Stamp>()) as u64).to_le(), Ordering::Relaxed);
        }
    }

    /// Makes the calls. Returns the first code that is not success; what was posted before it stays posted.
    #[inline]
    pub(super) fn make(&self, driver: &Driver) -> u32 {
        for step in &self.steps {
            // SAFETY: functions, streams, graphs and buffers outlive the calls (who holds them drops programs first); the
            // parameters of a launch are as many as its kernel takes, each the address of a live cell wide enough for
            // its type; host memory of copies is pinned and lives with the request.
            let code = unsafe {
                match *step {
                    Step::Launch { function, grid, block, stream, params, times } => {
                        let params = self.params[params..].as_ptr().cast_mut();
                        let extra = std::ptr::null_mut();
                        repeat(times, || {
                            driver.cuLaunchKernel(function, grid, 1, 1, block, 1, 1, 0, stream, params, extra)
                        })
                    }
                    Step::ToDevice { to, from, bytes, stream, times } => {
                        repeat(times, || driver.cuMemcpyHtoDAsync_v2(to, from, bytes, stream))
                    }
                    Step::ToHost { to, from, bytes, stream, times } => {
                        repeat(times, || driver.cuMemcpyDtoHAsync_v2(to, from, bytes, stream))
                    }
                    Step::Graph { graph, stream } => driver.cuGraphLaunch(graph, stream),
                }
            };
            if code != SUCCESS {
                return code;
            }
        }
        SUCCESS
    }
}

#[inline]
fn repeat(times: u32, call: impl Fn() -> u32) -> u32 {
    for _ in 0..times {
        let code = call();
        if code != SUCCESS {
            return code;
        }
    }
    SUCCESS
}

/// A compiled request. One thread posts; another may read its stamps meanwhile.
pub(super) struct Request {
    pub(super) calls: Calls,
    /// A stamp alone, that puts the checksums right after a request of which only a part was posted.
    pub(super) flush: Calls,
    pub(super) points: Vec<Point>,
    /// Requests that may be in flight.
    pub(super) slots: usize,
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
        self.calls.set(sequence(n), self.ring.device() + self.offset(n, 0) as u64);
        self.calls.make(driver)
    }

    /// After a request of which only a part was posted: the next one starts from clean checksums.
    pub(super) fn flush(&self, driver: &Driver) -> u32 {
        let unread = self.slots * self.points.len() * size_of::<Stamp>();
        self.flush.set(0, self.ring.device() + unread as u64);
        self.flush.make(driver)
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
    fn offset(&self, n: u64, point: usize) -> usize {
        ((n % self.slots as u64) as usize * self.points.len() + point) * size_of::<Stamp>()
    }
}

/// The sequence word of request `n`: never 0, and another one in each of the last four billion.
#[inline]
pub(super) fn sequence(n: u64) -> u32 {
    (n % u64::from(u32::MAX)) as u32 + 1
}
