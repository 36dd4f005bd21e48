//! Memory order: strong loads against barriers, and atomic operations.

use super::chase::{CHASE, CHASE_STRONG, L2_FOOTPRINT, loads, walk_in_l2};
use super::params::{Site, count, launch, size};
use super::shape::{LINE, SECTOR, THREADS, WARPS, pages, resident};
use super::{Arg, Buffer, Kernel, ParamType, Role, Workload};
use crate::channel::Channel;
use crate::machine::{Demand, LaunchDemand, Traffic};
use crate::units::Bytes;

/// Each warp: `fences` times a store of 4 bytes to its own line, then `__threadfence()`, which waits for the store.
/// Buffer, fences per warp.
pub(super) static FENCES: Kernel = Kernel {
    symbol: "fences",
    params: &[ParamType::Pointer, ParamType::U32],
    demand: |l| {
        let barriers = l.warps() * l.number(1);
        Demand::Launch(LaunchDemand {
            blocks: l.grid,
            blocks_per_sm: resident(l.block),
            barriers,
            traffic: Traffic {
                written: barriers * SECTOR,
                footprint: l.warps() * LINE,
                pages: pages(l.warps() * LINE),
                ..Traffic::default()
            },
            ..LaunchDemand::default()
        })
    },
    reference: |_| 0,
};

/// Each thread: `operations` additions to words spread over `footprint`. The lanes of a warp take neighbouring words, so
/// that no two meet on one and L2 writes 4 bytes for each. Buffer, footprint in bytes, operations per thread.
pub(super) static ATOMIC_ADD: Kernel = Kernel {
    symbol: "atomic_add",
    params: &[ParamType::Pointer, ParamType::U64, ParamType::U32],
    demand: |l| {
        let footprint = l.number(1);
        let atomics = u64::from(l.grid) * u64::from(l.block) * l.number(2);
        Demand::Launch(LaunchDemand {
            blocks: l.grid,
            blocks_per_sm: resident(l.block),
            atomics,
            traffic: Traffic { written: atomics * 4, footprint, pages: pages(footprint), ..Traffic::default() },
            ..LaunchDemand::default()
        })
    },
    reference: |_| 0,
};

/// `strong-chase`.
pub(super) static STRONG_CHASE: Workload = Workload {
    id: "strong-chase",
    role: Role::Probe,
    channels: &[Channel::Membar],
    params: &[L2_FOOTPRINT, loads("1024")],
    marks: &[],
    doc: "Dependent strong loads (ld.relaxed.gpu) that stay in L2: they wait for memory barriers, anybody's.",
    program: |params, view| walk_in_l2(&Site::new("strong-chase", params, view)?, &CHASE_STRONG),
};

/// `weak-chase`.
pub(super) static WEAK_CHASE: Workload = Workload {
    id: "weak-chase",
    role: Role::Probe,
    channels: &[Channel::L2],
    params: &[L2_FOOTPRINT, loads("1024")],
    marks: &[],
    doc: "The twin of strong-chase with weak loads: the same walk through L2, blind to memory barriers.",
    program: |params, view| walk_in_l2(&Site::new("weak-chase", params, view)?, &CHASE),
};

/// `membar-storm`.
pub(super) static MEMBAR_STORM: Workload = Workload {
    id: "membar-storm",
    role: Role::Noise,
    channels: &[Channel::Membar],
    params: &[count("fences", (1, 65_536), "64", "Memory barriers of each warp in one launch; eight warps an SM.")],
    marks: &[],
    doc: "Every SM issues memory barriers (__threadfence) as fast as they complete, and next to nothing else.",
    program: |params, view| {
        let at = Site::new("membar-storm", params, view)?;
        let fences = at.count("fences")?;
        let lines = u64::from(view.sms) * u64::from(WARPS) * LINE;
        at.program(
            vec![Buffer::zero(lines)],
            vec![launch(&FENCES, view.sms, THREADS, vec![Arg::Buffer(0), Arg::U32(fences)])],
        )
    },
};

/// `atomics`.
pub(super) static ATOMICS: Workload = Workload {
    id: "atomics",
    role: Role::Noise,
    channels: &[Channel::Atomics, Channel::L2],
    params: &[
        size("footprint", Bytes::kib(4), Some("256KiB"), "Bytes that the operations are spread over."),
        count("operations", (1, 1 << 20), "2048", "Operations of each thread in one launch; 256 threads an SM."),
    ],
    marks: &[],
    doc: "Atomic additions from every SM, performed at L2.",
    program: |params, view| {
        let at = Site::new("atomics", params, view)?;
        let footprint = at.size("footprint", None)?;
        let args = vec![Arg::Buffer(0), Arg::U64(footprint), Arg::U32(at.count("operations")?)];
        at.program(vec![Buffer::zero(footprint)], vec![launch(&ATOMIC_ADD, view.sms, THREADS, args)])
    },
};
