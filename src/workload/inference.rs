//! A small model served request by request: copy in, a chain of kernels, copy out.

use super::params::{Site, count, launches, size};
use super::shape::{THREADS, pages, resident};
use super::{Arg, Buffer, Enqueue, GpuView, Kernel, Op, ParamType, Params, Program, Role, Workload, WorkloadError};
use crate::channel::Channel;
use crate::machine::{Demand, LaunchDemand, Traffic};
use crate::units::Bytes;

/// Blocks of a layer: a fixed size, as a model has. On a large GPU they all run at once, on a small share in waves.
const LAYER_BLOCKS: u32 = 256;

/// A layer: reads `bytes` of weights from where the last layer stopped, and does `pairs` multiply-adds and integer
/// operations in every thread. Weights, activations, bytes of all weights, bytes of this layer, pairs.
pub(super) static LAYER: Kernel = Kernel {
    symbol: "layer",
    params: &[ParamType::Pointer, ParamType::Pointer, ParamType::U64, ParamType::U64, ParamType::U32],
    demand: |l| {
        let (footprint, bytes, pairs) = (l.number(2), l.number(3), l.number(4));
        Demand::Launch(LaunchDemand {
            blocks: l.grid,
            blocks_per_sm: resident(l.block),
            issue_cycles: l.warps_per_block() * pairs / 2,
            traffic: Traffic { read: bytes, footprint, pages: pages(footprint), ..Traffic::default() },
            ..LaunchDemand::default()
        })
    },
    reference: |_| 0,
};

/// `inference`.
pub(super) static INFERENCE: Workload = Workload {
    id: "inference",
    role: Role::Probe,
    channels: &[Channel::BlockSlots, Channel::Issue, Channel::HbmBandwidth, Channel::Pcie, Channel::Launch],
    params: &[
        count("layers", (1, 1_000), "12", "Kernels in the chain."),
        size("weights", Bytes::mib(1), Some("96MiB"), "Bytes of all layers' weights, read once in a request."),
        count("pairs", (1, 1_000_000), "1024", "Multiply-adds of each thread of a layer; 65536 threads."),
        size("input", Bytes::kib(1), Some("256KiB"), "Bytes copied to the device in a request."),
        size("output", Bytes::kib(1), Some("64KiB"), "Bytes copied back."),
    ],
    marks: &[],
    doc: "A request of a small model: input copied in, a chain of kernels over its weights, output copied out.",
    program: inference,
};

fn inference(params: &Params, view: &GpuView) -> Result<Program, WorkloadError> {
    let at = Site::new("inference", params, view)?;
    let (layers, pairs) = (at.count("layers")?, at.count("pairs")?);
    let (weights, input, output) = (at.size("weights", None)?, at.size("input", None)?, at.size("output", None)?);
    let layer = weights / u64::from(layers.max(1));
    if layer < 1 << 10 {
        return Err(at.refuse(format!(
            "{} of weights over {layers} layers leave less than 1 KiB for each: ask for fewer layers",
            Bytes(weights).for_people()
        )));
    }
    let args = vec![Arg::Buffer(0), Arg::Buffer(1), Arg::U64(weights), Arg::U64(layer), Arg::U32(pairs)];
    let request = vec![
        Op::Enqueue(Enqueue::ToDevice { buffer: 1, bytes: input, stream: 0 }, 1),
        launches(&LAYER, LAYER_BLOCKS, THREADS, args, layers),
        Op::Enqueue(Enqueue::ToHost { buffer: 1, bytes: output, stream: 0 }, 1),
    ];
    at.program(vec![Buffer::vectors(weights), Buffer::zero(input.max(output))], request)
}
