//! Noise on the caches: it takes their lines away.

use super::params::{Site, duration, launch, size};
use super::shape::{THREADS, filling};
use super::stream::stream;
use super::{Arg, Kernel, ParamType, Role, Workload};
use crate::channel::Channel;
use crate::units::{Bytes, Nanos};

/// Reads 512 bytes at a time at scattered places of the footprint, so that what hits is the share that the cache holds
/// (in order, a footprint just beyond a cache would hit nothing). Buffer, footprint in bytes, bytes to read.
static SCATTER_READ: Kernel = Kernel {
    symbol: "scatter_read",
    params: &[ParamType::Pointer, ParamType::U64, ParamType::U64],
    demand: |l| stream(l, l.number(2), 0),
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
        duration(
            "kernel",
            (Nanos::micros(20), Nanos::millis(20)),
            "300us",
            "Length of one launch alone, if L2 served all of it: it reads as many bytes as the L2 bandwidth of this place in that time.",
        ),
    ],
    marks: &[],
    doc: "Scattered reads over a little more than L2 from every SM: it takes L2's lines and its bandwidth.",
    program: |params, view| {
        let at = Site::new("l2-thrash", params, view)?;
        let footprint = at.size("footprint", Some(view.l2.0 / 4 * 5))?;
        let bandwidth = at.known("L2 bandwidth", view.l2_bandwidth)?;
        let bytes = at.moved(bandwidth, at.duration("kernel")?);
        let args = vec![Arg::Buffer(0), Arg::U64(footprint), Arg::U64(bytes)];
        at.program(vec![Bytes(footprint)], vec![launch(&SCATTER_READ, filling(view), THREADS, args)])
    },
};
