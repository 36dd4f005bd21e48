//! Streaming loads and stores: as many in flight as the hardware allows, so that bandwidth bounds them.
//!
//! A launch moves a given number of bytes through a footprint and goes on where the last launch stopped, so that the
//! whole footprint comes by before a byte returns: the footprint, not one launch, decides which level serves it.

use super::kernel::vectors;
use super::params::{Site, duration, launch, size};
use super::shape::{THREADS, filling, pages, resident};
use super::{Arg, Buffer, GpuView, Kernel, LaunchArgs, ParamType, Params, Program, Role, Workload, WorkloadError};
use crate::channel::Channel;
use crate::field::Field;
use crate::machine::{Demand, LaunchDemand, Traffic};
use crate::units::{Bytes, Nanos};

/// Buffer, footprint in bytes, bytes to move.
const STREAM_PARAMS: &[ParamType] = &[ParamType::Pointer, ParamType::U64, ParamType::U64];

/// Bytes that one SM moves per issue cycle: a warp instruction moves 512 bytes (16 a lane), one more keeps the loop
/// going, and an SM issues four a cycle.
const BYTES_PER_ISSUE_CYCLE: u64 = 1_024;

/// 16-byte loads in order.
pub(super) static STREAM_READ: Kernel = Kernel {
    symbol: "stream_read",
    params: STREAM_PARAMS,
    demand: |l| stream(l, l.number(2), 0),
    reference: |l| vectors(l.number(2)),
};

/// 16-byte stores in order.
pub(super) static STREAM_WRITE: Kernel = Kernel {
    symbol: "stream_write",
    params: STREAM_PARAMS,
    demand: |l| stream(l, 0, l.number(2)),
    reference: |l| vectors(l.number(2)),
};

/// 16-byte loads from the first half of the footprint, each stored to the second. Bytes to move count both ways.
pub(super) static STREAM_COPY: Kernel = Kernel {
    symbol: "stream_copy",
    params: STREAM_PARAMS,
    demand: |l| stream(l, l.number(2) / 2, l.number(2) / 2),
    reference: |l| vectors(l.number(2) / 2),
};

/// What a streaming launch asks: it spreads evenly over its blocks.
pub(super) fn stream(l: &LaunchArgs<'_>, read: u64, written: u64) -> Demand {
    let footprint = l.number(1);
    Demand::Launch(LaunchDemand {
        blocks: l.grid,
        blocks_per_sm: resident(l.block),
        issue_cycles: (read + written) / (u64::from(l.grid).max(1) * BYTES_PER_ISSUE_CYCLE),
        traffic: Traffic { read, written, footprint, pages: pages(footprint), ..Traffic::default() },
        ..LaunchDemand::default()
    })
}

/// A launch that fills every SM and moves `bytes` through `footprint`.
fn fill(at: &Site<'_>, kernel: &'static Kernel, footprint: u64, bytes: u64) -> Result<Program, WorkloadError> {
    let args = vec![Arg::Buffer(0), Arg::U64(footprint), Arg::U64(bytes)];
    at.program(vec![Buffer::vectors(footprint)], vec![launch(kernel, filling(at.view), THREADS, args)])
}

/// A hog of device-memory bandwidth.
fn hbm_hog(
    id: &'static str,
    kernel: &'static Kernel,
    params: &Params,
    view: &GpuView,
) -> Result<Program, WorkloadError> {
    let at = Site::new(id, params, view)?;
    let footprint = at.size("footprint", None)?;
    beyond_l2(&at, footprint)?;
    let bandwidth = at.known("memory bandwidth", view.hbm_bandwidth)?;
    fill(&at, kernel, footprint, at.moved(bandwidth, at.duration("kernel")?))
}

/// # Errors
/// Where L2 would serve a good part of what is meant for device memory.
pub(super) fn beyond_l2(at: &Site<'_>, footprint: u64) -> Result<(), WorkloadError> {
    if footprint >= 2 * at.view.l2.0 {
        return Ok(());
    }
    Err(at.refuse(format!(
        "a footprint of {} partly stays in L2: at least twice the L2 of this place is needed ({})",
        Bytes(footprint).for_people(),
        Bytes(2 * at.view.l2.0).for_people()
    )))
}

/// The parameter `kernel` of bandwidth hogs.
pub(super) const fn kernel_length(default: &'static str) -> Field {
    duration(
        "kernel",
        (Nanos::micros(20), Nanos::millis(20)),
        default,
        "Length of one launch alone: it moves as many bytes as the bandwidth of this place does in that time.",
    )
}

const HBM_PARAMS: &[Field] = &[
    size("footprint", Bytes::mib(1), Some("25%"), "Device memory that it streams through; at least twice the L2."),
    kernel_length("500us"),
];

/// `hbm-read`.
pub(super) static HBM_READ: Workload = Workload {
    id: "hbm-read",
    role: Role::Noise,
    channels: &[Channel::HbmBandwidth, Channel::L2],
    params: HBM_PARAMS,
    marks: &[],
    doc: "Reads device memory at full bandwidth from every SM, through L2.",
    program: |params, view| hbm_hog("hbm-read", &STREAM_READ, params, view),
};

/// `hbm-write`.
pub(super) static HBM_WRITE: Workload = Workload {
    id: "hbm-write",
    role: Role::Noise,
    channels: &[Channel::HbmBandwidth, Channel::L2],
    params: HBM_PARAMS,
    marks: &[],
    doc: "Writes device memory at full bandwidth from every SM, through L2.",
    program: |params, view| hbm_hog("hbm-write", &STREAM_WRITE, params, view),
};

/// `hbm-copy`.
pub(super) static HBM_COPY: Workload = Workload {
    id: "hbm-copy",
    role: Role::Noise,
    channels: &[Channel::HbmBandwidth, Channel::L2],
    params: HBM_PARAMS,
    marks: &[],
    doc: "Copies device memory to device memory at full bandwidth from every SM: reads and writes in equal parts.",
    program: |params, view| hbm_hog("hbm-copy", &STREAM_COPY, params, view),
};

/// `hbm-burst`.
pub(super) static HBM_BURST: Workload = Workload {
    id: "hbm-burst",
    role: Role::Probe,
    channels: &[Channel::HbmBandwidth, Channel::BlockSlots],
    params: &[
        size(
            "footprint",
            Bytes::mib(1),
            None,
            "Device memory that it streams through; at least twice the L2. Default: four times the L2 that the tenant sees.",
        ),
        kernel_length("75us"),
    ],
    marks: &[],
    doc: "A short stream of reads from every SM: the bandwidth that a request gets, not the latency of a load.",
    program: |params, view| {
        let at = Site::new("hbm-burst", params, view)?;
        let bandwidth = at.known("memory bandwidth", view.hbm_bandwidth)?;
        let footprint = at.size("footprint", Some(4 * view.l2.0))?;
        beyond_l2(&at, footprint)?;
        fill(&at, &STREAM_READ, footprint, at.moved(bandwidth, at.duration("kernel")?))
    },
};
