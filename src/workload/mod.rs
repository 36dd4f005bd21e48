//! The catalogue of workloads: short programs over kernels that carry their own demand.
//!
//! A workload is a static in the file of its family and a line in [`CATALOGUE`]; everything else (the command line, the
//! schema, the documentation, every executor) reads it from there. docs/adding-a-workload.md shows how to add one.

mod cache;
mod chase;
mod compute;
mod copy;
mod estimate;
pub mod fault;
mod host;
mod inference;
mod kernel;
mod launch;
mod llm;
mod memory;
mod order;
mod params;
pub mod pattern;
pub mod ptx;
mod render;
mod shape;
mod stream;
mod tensor;
#[cfg(test)]
mod tests;
mod translation;

use std::collections::BTreeMap;

pub use kernel::{Arg, Kernel, LaunchArgs, ParamType, SETUP, STAMP, Stamp, State};
pub use params::resolve;
pub(crate) use params::resolve_fields;
pub use render::{markdown, table, to_json};

use crate::channel::Channel;
use crate::field::{Field, Value};
use crate::machine::{CopyDemand, Demand, Direction};
use crate::units::{Bytes, Nanos, Share};

/// Id of the placebo: the neighbour's host loop without GPU calls. A cell beside it must not move.
pub const PLACEBO: &str = "idle";

/// Every workload, in the order of `crosstalk list workloads` and of the documentation: probes, what can be both, noise.
pub static CATALOGUE: &[&Workload] = &[
    &launch::LAUNCH,
    &compute::COMPUTE,
    &tensor::TENSOR,
    &chase::L1_CHASE,
    &chase::L2_CHASE,
    &chase::HBM_CHASE,
    &translation::TLB_CHASE,
    &order::STRONG_CHASE,
    &order::WEAK_CHASE,
    &stream::HBM_BURST,
    &memory::ALLOC,
    &inference::INFERENCE,
    &llm::LLM_PREFILL,
    &llm::LLM_DECODE,
    &copy::H2D,
    &copy::D2H,
    &host::IDLE,
    &compute::COMPUTE_BURST,
    &compute::ISSUE_HOG,
    &tensor::TENSOR_BURST,
    &launch::LAUNCH_STORM,
    &cache::L1_THRASH,
    &cache::L2_THRASH,
    &stream::HBM_READ,
    &stream::HBM_WRITE,
    &stream::HBM_COPY,
    &translation::TLB_THRASH,
    &order::MEMBAR_STORM,
    &order::ATOMICS,
    &copy::BIDIRECTIONAL,
    &memory::ALLOC_CHURN,
    &memory::CONTEXT_CHURN,
    &memory::CAPACITY_RAMP,
];

/// Every kernel: those of the workloads, then [`SETUP`].
pub fn kernels() -> impl Iterator<Item = &'static Kernel> {
    KERNELS.iter().chain(SETUP).copied()
}

/// The kernels of the workloads, in the order of their files; a test holds every program against it.
static KERNELS: &[&Kernel] = &[
    &launch::EMPTY,
    &compute::FMA,
    &tensor::TENSOR_KERNEL,
    &chase::CHASE_L1,
    &chase::CHASE,
    &chase::CHASE_STRONG,
    &cache::SCATTER_READ,
    &cache::L1_READ,
    &stream::STREAM_READ,
    &stream::STREAM_WRITE,
    &stream::STREAM_COPY,
    &translation::TOUCH_PAGES,
    &order::FENCES,
    &order::ATOMIC_ADD,
    &inference::LAYER,
];

/// The workload with this id.
pub fn find(id: &str) -> Option<&'static Workload> {
    CATALOGUE.iter().copied().find(|w| w.id == id)
}

/// The workload whose id is most like `id`, where one is like it at all: for "did you mean".
pub fn nearest(id: &str) -> Option<&'static Workload> {
    CATALOGUE
        .iter()
        .map(|w| (strsim::damerau_levenshtein(w.id, id), *w))
        .filter(|(edits, w)| *edits <= w.id.len().min(id.len()) / 2)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, w)| w)
}

/// What a tenant runs: one entry of the catalogue, a const.
pub struct Workload {
    /// The name in scenarios.
    pub id: &'static str,
    /// What it may be used as.
    pub role: Role,
    /// Channels that it loads (noise) or feels (probe); the first is the one that reports name.
    pub channels: &'static [Channel],
    /// Its parameters.
    pub params: &'static [Field],
    /// Names that follow a `/` in further series: what its marks record ("token").
    pub marks: &'static [&'static str],
    /// What a request does, in one sentence.
    pub doc: &'static str,
    /// Builds the program for what the tenant sees.
    pub program: fn(&Params, &GpuView) -> Result<Program, WorkloadError>,
}

impl std::fmt::Debug for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id)
    }
}

/// What a workload may be used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its latency is recorded.
    Probe,
    /// It loads a channel.
    Noise,
    /// Either.
    Both,
}

/// Resolved parameters: every one of the workload's fields, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(pub BTreeMap<&'static str, Value>);

/// What a tenant sees of the GPU: its own share, never the parent's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GpuView {
    /// SMs it may use.
    pub sms: u32,
    /// Device memory it may use.
    pub memory: Bytes,
    /// L2 of its domain.
    pub l2: Bytes,
    /// L1 of one SM.
    pub l1: Bytes,
    /// Memory that the last-level TLB covers.
    pub tlb_reach: Bytes,
    /// SM clock, MHz.
    pub sm_mhz: u32,
    /// Fused multiply-adds per SM and cycle.
    pub fma_per_cycle: u32,
    /// Floating-point operations per SM and cycle on tensor cores.
    pub tensor_flop_per_cycle: u32,
    /// Device-memory bandwidth of its domain, bytes per second.
    pub hbm_bandwidth: u64,
    /// L2 bandwidth of its domain, bytes per second.
    pub l2_bandwidth: u64,
    /// PCIe bandwidth host to device, bytes per second.
    pub pcie_bandwidth: u64,
}

/// Why a workload cannot run in this place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{workload}: {reason}")]
pub struct WorkloadError {
    /// The workload.
    pub workload: &'static str,
    /// What is wrong and what would be right.
    pub reason: String,
}

/// A short program of operations: what it holds, and what one request does.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Device buffers it holds.
    pub buffers: Vec<Buffer>,
    /// Operations of one request, in order.
    pub request: Vec<Op>,
    /// Device memory that it holds: its buffers, and the most that its own allocations hold at once.
    pub footprint: Bytes,
}

/// A device buffer of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Size.
    pub bytes: Bytes,
    /// What it holds when the tenant is up.
    pub fill: Fill,
}

impl Buffer {
    /// Of [`Fill::Vectors`].
    pub(crate) fn vectors(bytes: u64) -> Self {
        Self { bytes: Bytes(bytes), fill: Fill::Vectors }
    }

    /// Of [`Fill::Cycle`].
    pub(crate) fn cycle(bytes: u64, distance: u64) -> Self {
        Self { bytes: Bytes(bytes), fill: Fill::Cycle { distance } }
    }

    /// Of zeros.
    pub(crate) fn zero(bytes: u64) -> Self {
        Self { bytes: Bytes(bytes), fill: Fill::Zero }
    }
}

/// What a buffer holds before the first request. A launch can tell from each word whether it is the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Words of 16 bytes `{a, !a, b, !b}`, a and b pseudo-random: each sums to −2 (mod 2³²) wherever it stands.
    Vectors,
    /// One random cycle (Sattolo) through lines `distance` bytes apart, a node at the head of each.
    Cycle {
        /// Bytes between two lines.
        distance: u64,
    },
    /// Zeros.
    Zero,
}

/// One operation of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Enqueue work on the tenant's stream, this many times.
    Enqueue(Enqueue, u32),
    /// A host call: blocks, may fail as a result.
    Host(HostOp),
    /// Stamps the completion of what precedes as one sample of a further series.
    Mark(&'static str),
}

/// Work that is enqueued and completes later.
#[derive(Clone, Debug, PartialEq)]
pub enum Enqueue {
    /// A kernel launch.
    Launch {
        /// The kernel.
        kernel: &'static Kernel,
        /// Blocks of the grid.
        grid: u32,
        /// Threads of a block.
        block: u32,
        /// Arguments.
        args: Vec<Arg>,
    },
    /// A copy from pinned host memory to a buffer.
    ToDevice {
        /// Index of the buffer.
        buffer: usize,
        /// Bytes.
        bytes: u64,
        /// Which of the tenant's streams: 0, or 1 for a second direction beside it.
        stream: u8,
    },
    /// A copy from a buffer to pinned host memory.
    ToHost {
        /// Index of the buffer.
        buffer: usize,
        /// Bytes.
        bytes: u64,
        /// See [`Enqueue::ToDevice`].
        stream: u8,
    },
}

/// A host call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostOp {
    /// Allocate device memory.
    Alloc {
        /// Bytes.
        bytes: u64,
    },
    /// Free the oldest allocation that this program made.
    Free,
    /// Create a context.
    ContextCreate,
    /// Destroy it.
    ContextDestroy,
    /// Wait for the stream.
    Synchronize,
    /// The host's loop alone, without any call to the driver.
    Idle {
        /// Its length.
        length: Nanos,
    },
}

impl Workload {
    /// Whether its requests allocate memory or create contexts: such workloads form blocks of their own (design.md,
    /// seats). They are those that load or feel the driver; `idle` makes host calls of no kind and is not one of them.
    pub fn host_bound(&self) -> bool {
        self.channels.contains(&Channel::Driver)
    }
}

impl Program {
    /// Whether a request holds host operations: one in flight then, stamped on return (design.md, property 7).
    pub fn has_host_ops(&self) -> bool {
        self.request.iter().any(|op| matches!(op, Op::Host(_)))
    }
}

impl Enqueue {
    /// What it asks of the hardware.
    pub fn demand(&self) -> Demand {
        match self {
            Self::Launch { kernel, grid, block, args } => {
                (kernel.demand)(&LaunchArgs { grid: *grid, block: *block, args })
            }
            Self::ToDevice { bytes, .. } => Demand::Copy(CopyDemand { bytes: *bytes, direction: Direction::ToDevice }),
            Self::ToHost { bytes, .. } => Demand::Copy(CopyDemand { bytes: *bytes, direction: Direction::ToHost }),
        }
    }
}

impl GpuView {
    /// Bytes for a size given as an amount or as a share of this tenant's memory.
    pub fn size(&self, value: &Value) -> Option<Bytes> {
        match value {
            Value::Bytes(bytes) => Some(*bytes),
            Value::Share(share) => Some(Bytes(Share::of(*share, self.memory.0))),
            _ => None,
        }
    }
}
