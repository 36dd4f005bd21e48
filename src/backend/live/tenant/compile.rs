//! From a program to driver calls: arguments laid out, stamps placed, checksums known.

use std::ffi::c_void;

use cudarc::driver::sys::CUfunction;

use super::request::{Calls, Cell, Launch, Point, Request, Step, Transfer};
use crate::cuda::{CudaError, Driver, Graph, PinnedBuffer, Stream};
use crate::workload::{Arg, Enqueue, Kernel, LaunchArgs, Op, ParamType, Program, STAMP, Stamp};

/// Threads of a launch that only stamps: kernels sum over whole warps.
const WARP: u32 = 32;
/// Streams of a tenant.
pub(super) const STREAMS: usize = 2;
/// A program is posted as one graph up to this many operations; beyond it call by call.
const LARGEST_GRAPH: u64 = 10_000;

/// What a program is compiled against.
pub(super) struct Site<'a> {
    pub(super) driver: &'static Driver,
    /// The function of a kernel, loaded.
    pub(super) function: &'a mut dyn FnMut(&Kernel) -> Result<CUfunction, CudaError>,
    pub(super) streams: &'a [Stream; STREAMS],
    /// Addresses of the program's buffers.
    pub(super) buffers: &'a [u64],
    /// Addresses of its state, one for each stream: launches of one state never overlap.
    pub(super) states: [u64; STREAMS],
    /// Requests in flight at most.
    pub(super) slots: usize,
    /// Whether it is noise: no marks, and several operations go as one graph.
    pub(super) noise: bool,
}

/// Lays the calls of one request out.
///
/// # Errors
/// Where a kernel cannot be loaded, memory for stamps or copies cannot be had, or the program is no sequence of enqueued
/// operations with marks behind them.
pub(super) fn compile(program: &Program, mut site: Site<'_>) -> Result<Request, CudaError> {
    let site = &mut site;
    let mut draft = Draft::default();
    if site.noise && goes_as_graph(program) {
        draft.enqueue_graph(program, site)?;
    } else {
        draft.enqueue_all(program, site)?;
    }
    if draft.points.is_empty() {
        return Err(refused("a request without operations"));
    }
    let mut flush = Draft::default();
    flush.stamp(0, 0..0, site)?;
    let (slots, points) = (site.slots.max(1).next_power_of_two(), draft.points.len());
    let ring = PinnedBuffer::new(site.driver, Request::ring_bytes(slots, points))?;
    let at = |stamp: usize| ring.device() + (stamp * size_of::<Stamp>()) as u64;
    let stamps: Vec<Vec<u64>> = (0..slots).map(|slot| (0..points).map(|p| at(slot * points + p)).collect()).collect();
    Ok(Request {
        calls: Calls::new(draft.steps, &draft.values, &draft.params, &stamps),
        flush: Calls::new(flush.steps, &flush.values, &flush.params, &[vec![at(slots * points)]]),
        points: draft.points,
        slots,
        mask: slots - 1,
        ring,
        marks: draft.marks,
        _graphs: draft.graphs,
        _copies: draft.copies,
    })
}

fn refused(what: impl Into<String>) -> CudaError {
    CudaError { call: "program", code: None, name: None, what: format!("cannot be run: {}", what.into()) }
}

fn stream_of(enqueue: &Enqueue) -> usize {
    match enqueue {
        Enqueue::Launch { .. } => 0,
        Enqueue::ToDevice { stream, .. } | Enqueue::ToHost { stream, .. } => usize::from(*stream).min(STREAMS - 1),
    }
}

/// Several operations of one stream: call by call (2 µs) the host would be slower than empty kernels follow one another
/// (1 µs), and a storm of them would leave gaps.
fn goes_as_graph(program: &Program) -> bool {
    let mut operations = 0u64;
    for op in &program.request {
        match op {
            Op::Enqueue(enqueue, times) if stream_of(enqueue) == 0 => operations += u64::from(*times),
            Op::Enqueue(..) | Op::Host(_) => return false,
            Op::Mark(_) => {}
        }
    }
    (2..=LARGEST_GRAPH).contains(&operations)
}

/// A request being laid out.
#[derive(Default)]
struct Draft {
    steps: Vec<Step>,
    values: Vec<u64>,
    params: Vec<Cell>,
    points: Vec<Point>,
    /// Sum of references since the last stamp, by stream.
    open: [u32; STREAMS],
    copies: Vec<PinnedBuffer>,
    graphs: Vec<Graph>,
    marks: u16,
}

impl Draft {
    fn enqueue_all(&mut self, program: &Program, site: &mut Site<'_>) -> Result<(), CudaError> {
        let request = &program.request;
        let last = |stream: usize| {
            request.iter().rposition(|op| matches!(op, Op::Enqueue(enqueue, _) if stream_of(enqueue) == stream))
        };
        let ends: Vec<usize> = (0..STREAMS).filter_map(last).collect();
        let mut index = 0;
        while let Some(op) = request.get(index) {
            let Op::Enqueue(enqueue, times @ 1..) = op else {
                return Err(refused(format!("{op:?} is no enqueued operation, and follows none")));
            };
            let marks = request[index + 1..].iter().take_while(|op| matches!(op, Op::Mark(_))).count();
            // Nobody listens to noise: it has no marks.
            let kept = if site.noise { 0 } else { u16::try_from(marks).unwrap_or(u16::MAX) };
            let first = self.marks;
            self.marks =
                first.checked_add(kept).ok_or_else(|| refused("a request has more marks than can be numbered"))?;
            let stamp = (kept > 0 || ends.contains(&index)).then_some(first..self.marks);
            self.enqueue(enqueue, *times, index == 0, stamp, site)?;
            index += 1 + marks;
        }
        Ok(())
    }

    /// One operation, `times` over. `first`: the request begins with it. `stamp`: the last of them stamps, and reaches
    /// these marks.
    fn enqueue(
        &mut self,
        enqueue: &Enqueue,
        times: u32,
        first: bool,
        stamp: Option<std::ops::Range<u16>>,
        site: &mut Site<'_>,
    ) -> Result<(), CudaError> {
        let stream = stream_of(enqueue);
        let Enqueue::Launch { kernel, grid, block, args } = enqueue else {
            self.copy(enqueue, times, site)?;
            return stamp.map_or(Ok(()), |marks| self.stamp(stream, marks, site));
        };
        let shape = LaunchArgs { grid: *grid, block: *block, args };
        let reference = (kernel.reference)(&shape);
        let starts = first && (times > 1 || stamp.is_none());
        if starts {
            let point = self.point(stream, reference, 0..0);
            self.points[point].starts = true;
            self.launch(kernel, &shape, stream, 1, Some(point), site)?;
        }
        let plain = times - u32::from(starts) - u32::from(stamp.is_some());
        if plain > 0 {
            self.open[stream] = self.open[stream].wrapping_add(reference.wrapping_mul(plain));
            self.launch(kernel, &shape, stream, plain, None, site)?;
        }
        if let Some(marks) = stamp {
            let point = self.point(stream, reference, marks);
            self.points[point].starts = first && !starts;
            self.launch(kernel, &shape, stream, 1, Some(point), site)?;
        }
        Ok(())
    }

    /// A launch that only stamps: behind a copy or a graph.
    fn stamp(&mut self, stream: usize, marks: std::ops::Range<u16>, site: &mut Site<'_>) -> Result<(), CudaError> {
        let point = self.point(stream, 0, marks);
        self.points[point].own = false;
        self.launch(&STAMP, &LaunchArgs { grid: 1, block: WARP, args: &[] }, stream, 1, Some(point), site)
    }

    /// A stamp by a launch that adds `reference` to what is open on its stream.
    fn point(&mut self, stream: usize, reference: u32, marks: std::ops::Range<u16>) -> usize {
        let expected = std::mem::take(&mut self.open[stream]).wrapping_add(reference);
        self.points.push(Point { expected, starts: false, own: true, marks });
        self.points.len() - 1
    }

    fn launch(
        &mut self,
        kernel: &Kernel,
        shape: &LaunchArgs<'_>,
        stream: usize,
        times: u32,
        point: Option<usize>,
        site: &mut Site<'_>,
    ) -> Result<(), CudaError> {
        let (wanted, given) = (kernel.params.len(), shape.args.len());
        if wanted != given {
            return Err(refused(format!("{} takes {wanted} arguments and is given {given}", kernel.symbol)));
        }
        let function = (site.function)(kernel)?;
        let params = self.params.len() * size_of::<*mut c_void>();
        for (kind, arg) in kernel.params.iter().zip(shape.args) {
            let value = match (kind, arg) {
                (ParamType::U32, Arg::U32(n)) => u64::from(*n),
                (ParamType::U64, Arg::U64(n)) => *n,
                (ParamType::Pointer, Arg::Buffer(index)) => site.buffer(*index)?,
                _ => return Err(refused(format!("{} takes {kind:?} and is given {arg:?}", kernel.symbol))),
            };
            self.argument(value);
        }
        self.argument(site.states[stream]);
        self.params.push(point.map_or(Cell::Null, Cell::Stamp));
        self.params.push(Cell::Sequence);
        let (grid, block, stream) = (shape.grid, shape.block, site.streams[stream].handle());
        let launch = Launch { function, grid, block, stream, params };
        self.steps.push(Step::Launch { launch, times });
        Ok(())
    }

    fn argument(&mut self, value: u64) {
        self.params.push(Cell::Value(self.values.len()));
        self.values.push(value);
    }

    fn copy(&mut self, enqueue: &Enqueue, times: u32, site: &Site<'_>) -> Result<(), CudaError> {
        let (Enqueue::ToDevice { buffer, bytes, .. } | Enqueue::ToHost { buffer, bytes, .. }) = enqueue else {
            return Err(refused("a launch is no copy"));
        };
        let stream = site.streams[stream_of(enqueue)].handle();
        let (device, bytes) = (site.buffer(*buffer)?, usize::try_from(*bytes).unwrap_or(usize::MAX));
        // Each copy has host memory of its own: two directions run beside one another.
        let pinned = PinnedBuffer::new(site.driver, bytes)?;
        let host = pinned.host().cast::<c_void>();
        self.copies.push(pinned);
        let transfer = Transfer { device, host, bytes, stream };
        let step = match enqueue {
            Enqueue::ToHost { .. } => Step::ToHost(transfer),
            _ => Step::ToDevice(transfer),
        };
        self.steps.extend(std::iter::repeat_n(step, times as usize));
        Ok(())
    }

    /// All operations as one graph, and a stamp behind it: what a launch within stamps cannot change with the request.
    fn enqueue_graph(&mut self, program: &Program, site: &mut Site<'_>) -> Result<(), CudaError> {
        let mut within = Self::default();
        for op in &program.request {
            if let Op::Enqueue(enqueue, times) = op {
                within.enqueue(enqueue, *times, false, None, site)?;
            }
        }
        let calls = Calls::new(within.steps, &within.values, &within.params, &[Vec::new()]);
        let stream = &site.streams[0];
        let graph = stream.capture(|| site.driver.check("capture of a request", calls.make(site.driver, 0, 0)))?;
        self.steps.push(Step::Graph { graph: graph.handle(), stream: stream.handle() });
        self.graphs.push(graph);
        self.copies.append(&mut within.copies);
        self.open = within.open;
        self.stamp(0, 0..0, site)
    }
}

impl Site<'_> {
    fn buffer(&self, index: usize) -> Result<u64, CudaError> {
        self.buffers.get(index).copied().ok_or_else(|| refused(format!("there is no buffer {index}")))
    }
}
