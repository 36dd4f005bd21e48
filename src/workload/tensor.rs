//! Tensor cores, with or without a stream of operands beside them.

use super::kernel::vectors;
use super::params::{Site, duration, launch, mul_div};
use super::shape::{PAGE, THREADS, WARPS, filling, pages, resident};
use super::{Arg, Buffer, Kernel, ParamType, Role, Workload, WorkloadError};
use crate::channel::Channel;
use crate::machine::{Demand, LaunchDemand, Traffic};
use crate::units::Nanos;

/// Floating-point operations of one product: m16n8k16, a multiply and an add each.
pub(super) const PRODUCT_FLOP: u64 = 16 * 8 * 16 * 2;
/// Schedulers of an SM: each issues one warp instruction per cycle.
const SCHEDULERS: u64 = 4;

/// Every warp: `products` matrix products of 4096 FLOP on random operands; the grid streams `bytes` through
/// `footprint` meanwhile. Buffer, footprint, bytes, products per warp, FLOP per SM and cycle of this part: the last is
/// what turns products into cycles, and the kernel itself has no use for it. A warp whose sums are exactly right at the
/// end counts its products, whichever instruction made them; it makes whole steps of it (4 or 8 products at a time).
pub(super) static TENSOR_KERNEL: Kernel = Kernel {
    symbol: "tensor",
    params: &[ParamType::Pointer, ParamType::U64, ParamType::U64, ParamType::U32, ParamType::U32],
    demand: |l| {
        let (footprint, bytes, products, rate) = (l.number(1), l.number(2), l.number(3), l.number(4));
        let per_block = l.warps_per_block() * products;
        Demand::Launch(LaunchDemand {
            blocks: l.grid,
            blocks_per_sm: resident(l.block),
            issue_cycles: per_block / SCHEDULERS,
            tensor_cycles: mul_div(per_block, PRODUCT_FLOP, rate),
            traffic: Traffic { read: bytes, footprint, pages: pages(footprint), ..Traffic::default() },
            ..LaunchDemand::default()
        })
    },
    reference: |l| vectors(l.number(2)).wrapping_add((l.warps() * l.number(3)) as u32),
};

/// FLOP per SM and cycle as an argument.
pub(super) fn rate(at: &Site<'_>) -> Result<u32, WorkloadError> {
    Ok(at.known("tensor rate", u64::from(at.view.tensor_flop_per_cycle))? as u32)
}

/// Products per warp that keep one SM's tensor cores busy for `time`, with `blocks` blocks on it.
fn products(at: &Site<'_>, time: Nanos, blocks: u32) -> Result<u32, WorkloadError> {
    let warps = u64::from(WARPS) * u64::from(blocks);
    at.argument("products", mul_div(at.cycles(time), u64::from(rate(at)?), PRODUCT_FLOP * warps))
}

/// `tensor`.
pub(super) static TENSOR: Workload = Workload {
    id: "tensor",
    role: Role::Probe,
    channels: &[Channel::Tensor, Channel::BlockSlots, Channel::Power],
    params: &[duration(
        "kernel",
        (Nanos::micros(10), Nanos::millis(10)),
        "100us",
        "Length of the kernel alone at the highest clock.",
    )],
    marks: &[],
    doc: "Matrix products that fill the tensor cores of every SM that the tenant sees, one block on each.",
    program: |params, view| {
        let at = Site::new("tensor", params, view)?;
        let products = products(&at, at.duration("kernel")?, 1)?;
        let operands = 64 << 10;
        let args =
            vec![Arg::Buffer(0), Arg::U64(operands), Arg::U64(operands), Arg::U32(products), Arg::U32(rate(&at)?)];
        at.program(vec![Buffer::vectors(operands)], vec![launch(&TENSOR_KERNEL, view.sms, THREADS, args)])
    },
};

/// `tensor-burst`.
pub(super) static TENSOR_BURST: Workload = Workload {
    id: "tensor-burst",
    role: Role::Noise,
    channels: &[Channel::Power, Channel::Tensor, Channel::HbmBandwidth, Channel::BlockSlots],
    params: &[duration(
        "kernel",
        (Nanos::millis(1), Nanos::millis(100)),
        "10ms",
        "Length of one kernel alone at the highest clock.",
    )],
    marks: &[],
    doc: "A power virus: matrix products on every SM with device memory streaming at four fifths of its bandwidth.",
    program: |params, view| {
        let at = Site::new("tensor-burst", params, view)?;
        let length = at.duration("kernel")?;
        let products = products(&at, length, resident(THREADS))?;
        // Beyond L2, and four fifths of the bandwidth: the products, not the stream, then bound the length.
        let footprint = (4 * view.l2.0).max(64 * PAGE);
        let bytes = at.moved(at.known("memory bandwidth", view.hbm_bandwidth)?, length) / 5 * 4;
        let args = vec![Arg::Buffer(0), Arg::U64(footprint), Arg::U64(bytes), Arg::U32(products), Arg::U32(rate(&at)?)];
        at.program(vec![Buffer::vectors(footprint)], vec![launch(&TENSOR_KERNEL, filling(view), THREADS, args)])
    },
};
