//! Programs compiled for the machine: operations become work that the engine knows by number.

use crate::backend::BackendError;
use crate::gpu::GpuModel;
use crate::machine::{CopyDemand, Demand, Direction, HostDemand, Machine, WorkId};
use crate::units::Nanos;
use crate::workload::{Enqueue, HostOp, LaunchArgs, Op, Program};

/// One operation of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Enqueue work on a stream; its completion may be a mark.
    Submit { stream: usize, work: WorkId, times: u32, mark: Option<u16> },
    /// A host call; the work is its time in the driver.
    Call { op: HostOp, work: WorkId },
    /// Wait for the streams.
    Synchronize,
    /// The host's loop alone.
    Idle(Nanos),
}

/// A program compiled for one context.
#[derive(Clone, Debug)]
pub(super) struct Code {
    pub(super) steps: Vec<Step>,
    /// Every operation is enqueued: many requests in flight. Otherwise one.
    pub(super) enqueued: bool,
    /// Enqueue calls of one request.
    pub(super) calls: u32,
}

impl Code {
    /// The marks of one request, in order.
    pub(super) fn marks(&self) -> Vec<u16> {
        let mark = |step: &Step| if let Step::Submit { mark, .. } = step { *mark } else { None };
        self.steps.iter().filter_map(mark).collect()
    }

    pub(super) fn compile(
        machine: &mut Machine,
        context: usize,
        model: &GpuModel,
        program: &Program,
        marks: &[&str],
    ) -> Result<Self, BackendError> {
        let mut steps: Vec<Step> = Vec::with_capacity(program.request.len());
        for op in &program.request {
            match op {
                Op::Enqueue(enqueue, times) => {
                    let (stream, demand) = demand(enqueue);
                    let work = machine.define(context, &demand).map_err(failed)?;
                    steps.push(Step::Submit { stream, work, times: *times, mark: None });
                }
                Op::Host(HostOp::Synchronize) => steps.push(Step::Synchronize),
                Op::Host(HostOp::Idle { length }) => steps.push(Step::Idle(*length)),
                Op::Host(op) => {
                    let work = machine.define(context, &Demand::Host(call(*op, model))).map_err(failed)?;
                    steps.push(Step::Call { op: *op, work });
                }
                Op::Mark(name) => {
                    let index = marks.iter().position(|m| m == name).and_then(|i| u16::try_from(i).ok());
                    match (steps.last_mut(), index) {
                        (Some(Step::Submit { mark, .. }), Some(index)) => *mark = Some(index),
                        _ => {
                            return Err(BackendError::arrangement(format!(
                                "mark {name:?} follows no enqueued operation, or is not declared"
                            )));
                        }
                    }
                }
            }
        }
        let enqueued = !steps.is_empty() && steps.iter().all(|s| matches!(s, Step::Submit { .. }));
        let calls = steps.iter().map(|s| if let Step::Submit { times, .. } = s { *times } else { 0 }).sum();
        Ok(Self { steps, enqueued, calls })
    }

    /// Driver calls with which noise posts a request: a launch that repeats goes as one graph. Call by call (2 µs) the host
    /// would be slower than empty kernels follow one another (1 µs), and a storm of them would leave gaps.
    pub(super) fn posts(&self) -> u32 {
        self.steps.iter().filter(|s| matches!(s, Step::Submit { .. })).count() as u32
    }
}

pub(super) fn failed(error: impl std::fmt::Display) -> BackendError {
    BackendError::arrangement(format!("the machine model cannot hold this arrangement: {error}"))
}

fn demand(enqueue: &Enqueue) -> (usize, Demand) {
    match enqueue {
        Enqueue::Launch { kernel, grid, block, args } => {
            (0, (kernel.demand)(&LaunchArgs { grid: *grid, block: *block, args }))
        }
        Enqueue::ToDevice { bytes, stream, .. } => {
            (usize::from(*stream), Demand::Copy(CopyDemand { bytes: *bytes, direction: Direction::ToDevice }))
        }
        Enqueue::ToHost { bytes, stream, .. } => {
            (usize::from(*stream), Demand::Copy(CopyDemand { bytes: *bytes, direction: Direction::ToHost }))
        }
    }
}

/// Time of a host call in the driver, from the GPU's data file: nine tenths of it under the resource manager's lock
/// (assumed), and the barriers that allocation, free and context calls send through the device ("Behind Bars").
fn call(op: HostOp, model: &GpuModel) -> HostDemand {
    let driver = &model.driver;
    let (total, barriers) = match op {
        HostOp::Alloc { .. } => (driver.alloc_us * 1e3, 2),
        HostOp::Free => (driver.free_us * 1e3, 2),
        HostOp::ContextCreate => (driver.context_create_ms * 1e6, 64),
        HostOp::ContextDestroy => (driver.context_destroy_ms * 1e6, 64),
        HostOp::Synchronize | HostOp::Idle { .. } => (0.0, 0),
    };
    HostDemand { lock: Nanos((total * 0.9) as u64), outside: Nanos((total * 0.1) as u64), barriers }
}
