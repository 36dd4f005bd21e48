//! The two halves of a language model's request: a prompt that tensor cores bound, and tokens that memory bounds.
//!
//! Weights are sized by the place, so that neither half changes its nature with the share: beyond its L2 everywhere.

use super::params::{Site, count, launches, mul_div, size};
use super::shape::{THREADS, WARPS, filling};
use super::stream::{STREAM_READ, beyond_l2};
use super::tensor::{PRODUCT_FLOP, TENSOR_KERNEL, rate};
use super::{Arg, Buffer, GpuView, Op, Params, Program, Role, Workload, WorkloadError};
use crate::channel::Channel;
use crate::field::Field;
use crate::units::Bytes;

const WEIGHTS: Field = size(
    "weights",
    Bytes::mib(1),
    None,
    "Bytes of weights, two a parameter; at least twice the L2. Default: four times the L2 that the tenant sees.",
);
const LAYERS: Field = count("layers", (1, 1_000), "4", "Kernels in one pass over the weights.");

/// `llm-prefill`.
pub(super) static LLM_PREFILL: Workload = Workload {
    id: "llm-prefill",
    role: Role::Probe,
    channels: &[Channel::Tensor, Channel::BlockSlots, Channel::HbmBandwidth],
    params: &[WEIGHTS, LAYERS, count("tokens", (1, 1_000_000), "512", "Tokens of the prompt.")],
    marks: &[],
    doc: "The prompt of a language model in one pass: two operations per parameter and token on tensor cores.",
    program: prefill,
};

/// `llm-decode`.
pub(super) static LLM_DECODE: Workload = Workload {
    id: "llm-decode",
    role: Role::Probe,
    channels: &[Channel::HbmBandwidth, Channel::Launch, Channel::BlockSlots],
    params: &[WEIGHTS, LAYERS, count("tokens", (1, 10_000), "8", "Tokens generated in one request.")],
    marks: &["token"],
    doc: "Tokens of a language model one after another, each a pass over all weights: memory bandwidth bounds them.",
    program: decode,
};

/// Weights in all and per layer.
fn weights(at: &Site<'_>, layers: u32) -> Result<(u64, u64), WorkloadError> {
    let all = at.size("weights", Some(4 * at.view.l2.0))?;
    beyond_l2(at, all)?;
    Ok((all, all / u64::from(layers.max(1))))
}

fn prefill(params: &Params, view: &GpuView) -> Result<Program, WorkloadError> {
    let at = Site::new("llm-prefill", params, view)?;
    let (layers, tokens) = (at.count("layers")?, at.count("tokens")?);
    let (all, layer) = weights(&at, layers)?;
    // 2 FLOP × (bytes ÷ 2) parameters × tokens = bytes × tokens FLOP, spread over every warp of the grid.
    let warps = u64::from(filling(view)) * u64::from(WARPS);
    let products = at.argument("products", mul_div(layer, u64::from(tokens), PRODUCT_FLOP * warps))?;
    let args = vec![Arg::Buffer(0), Arg::U64(all), Arg::U64(layer), Arg::U32(products), Arg::U32(rate(&at)?)];
    at.program(vec![Buffer::vectors(all)], vec![launches(&TENSOR_KERNEL, filling(view), THREADS, args, layers)])
}

fn decode(params: &Params, view: &GpuView) -> Result<Program, WorkloadError> {
    let at = Site::new("llm-decode", params, view)?;
    let (layers, tokens) = (at.count("layers")?, at.count("tokens")?);
    let (all, layer) = weights(&at, layers)?;
    let args = vec![Arg::Buffer(0), Arg::U64(all), Arg::U64(layer)];
    let pass = launches(&STREAM_READ, filling(view), THREADS, args, layers);
    let request: Vec<Op> = (0..tokens).flat_map(|_| [pass.clone(), Op::Mark("token")]).collect();
    at.program(vec![Buffer::vectors(all)], request)
}
