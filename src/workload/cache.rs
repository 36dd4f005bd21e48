//! Noise on the caches: it takes their lines away.

use super::kernel::vectors;
use super::params::{Site, launch, size};
use super::shape::{THREADS, filling};
use super::stream::{kernel_length, stream};
use super::{Arg, Buffer, Kernel, ParamType, Role, Workload};
use crate::channel::Channel;
use crate::machine::Demand;
use crate::units::Bytes;

/// Reads 512 bytes at a time at scattered places of the footprint, so that what hits is the share that the cache holds
/// (in order, a footprint just beyond a cache would hit nothing). Buffer, footprint in bytes, bytes to read.
pub(super) static SCATTER_READ: Kernel = Kernel {
    symbol: "scatter_read",
    params: &[ParamType::Pointer, ParamType::U64, ParamType::U64],
    demand: |l| stream(l, l.number(2), 0),
    reference: |l| vectors(l.number(2)),
};

/// Bytes that an SM's L1 delivers per cycle on every part since Volta but Turing, which delivers half.
const L1_BYTES_PER_CYCLE: u64 = 128;

/// Every block reads `bytes` ÷ blocks, 16 bytes a lane, through a footprint that all blocks share: each SM's L1 holds a
/// copy of its own. Buffer, footprint in bytes, bytes to read.
pub(super) static L1_READ: Kernel = Kernel {
    symbol: "l1_read",
    params: &[ParamType::Pointer, ParamType::U64, ParamType::U64],
    demand: |l| match stream(l, l.number(2), 0) {
        Demand::Launch(mut launch) => {
            launch.traffic.through_l1 = true;
            Demand::Launch(launch)
        }
        other => other,
    },
    reference: |l| vectors(l.number(2)),
};

/// `l1-thrash`.
pub(super) static L1_THRASH: Workload = Workload {
    id: "l1-thrash",
    role: Role::Noise,
    channels: &[Channel::L1],
    params: &[
        size("footprint", Bytes::kib(4), None, "Bytes that each SM reads over. Default: all of the L1 of an SM."),
        kernel_length("500us"),
    ],
    marks: &[],
    doc: "Reads over all of each SM's L1 at its full bandwidth, one block on every SM: it takes the lines of whoever sits beside it.",
    program: |params, view| {
        let at = Site::new("l1-thrash", params, view)?;
        let footprint = at.size("footprint", Some(view.l1.0))?;
        if footprint > 2 * view.l1.0 {
            return Err(at.refuse(format!(
                "a footprint of {} loads L2 rather than L1: at most twice the L1 of an SM ({})",
                Bytes(footprint).for_people(),
                Bytes(2 * view.l1.0).for_people()
            )));
        }
        let bytes = at.cycles(at.duration("kernel")?) * L1_BYTES_PER_CYCLE * u64::from(view.sms);
        let args = vec![Arg::Buffer(0), Arg::U64(footprint), Arg::U64(bytes)];
        at.program(vec![Buffer::vectors(footprint)], vec![launch(&L1_READ, view.sms, THREADS, args)])
    },
};

/// `l2-thrash`.
pub(super) static L2_THRASH: Workload = Workload {
    id: "l2-thrash",
    role: Role::Noise,
    channels: &[Channel::L2],
    params: &[
        size(
            "footprint",
            Bytes::kib(256),
            None,
            "Bytes that it reads at random. Default: one and a quarter of the L2 that the tenant sees, so that it misses often enough to take every line.",
        ),
        kernel_length("300us"),
    ],
    marks: &[],
    doc: "Scattered reads over a little more than L2 from every SM: it takes L2's lines and its bandwidth.",
    program: |params, view| {
        let at = Site::new("l2-thrash", params, view)?;
        let footprint = at.size("footprint", Some(view.l2.0 / 4 * 5))?;
        let bandwidth = at.known("L2 bandwidth", view.l2_bandwidth)?;
        let bytes = at.moved(bandwidth, at.duration("kernel")?);
        let args = vec![Arg::Buffer(0), Arg::U64(footprint), Arg::U64(bytes)];
        at.program(vec![Buffer::vectors(footprint)], vec![launch(&SCATTER_READ, filling(view), THREADS, args)])
    },
};
