//! Issue slots and block slots: arithmetic on registers, no memory.

use super::params::{Site, duration, launch};
use super::shape::{THREADS, WARPS, filling, resident};
use super::{Arg, Kernel, ParamType, Role, Workload, WorkloadError};
use crate::channel::Channel;
use crate::machine::{Demand, LaunchDemand};
use crate::units::Nanos;

/// Schedulers of an SM, each issuing one warp instruction per cycle (Volta to Blackwell).
const SCHEDULERS: u64 = 4;
/// Warp instructions of one pair.
const PAIR: u64 = 2;

/// `pairs` times one fused multiply-add and one integer operation, independent of each other, in every thread.
///
/// Why pairs: an FP32 instruction takes its pipe for two cycles on Volta, Turing and A100 (64 lanes an SM) and for one
/// on later parts (128), so that multiply-adds alone leave half of the issue slots empty on the former. The integer
/// pipe has at least 64 lanes everywhere. A pair therefore fills two issue slots of a scheduler on every part, and
/// issue cycles follow from the arguments alone: warps × pairs × 2 ÷ 4 schedulers.
pub(super) static FMA: Kernel = Kernel {
    symbol: "fma_pairs",
    params: &[ParamType::U32],
    demand: |l| {
        Demand::Launch(LaunchDemand {
            blocks: l.grid,
            blocks_per_sm: resident(l.block),
            issue_cycles: l.warps_per_block() * l.number(0) * PAIR / SCHEDULERS,
            ..LaunchDemand::default()
        })
    },
    reference: |_| 0,
};

/// Pairs per thread that keep one SM issuing for `time`, with `blocks` blocks on it.
fn pairs(at: &Site<'_>, time: Nanos, blocks: u32) -> Result<u32, WorkloadError> {
    at.argument("pairs", at.cycles(time) * SCHEDULERS / (PAIR * u64::from(WARPS) * u64::from(blocks)))
}

/// `compute`.
pub(super) static COMPUTE: Workload = Workload {
    id: "compute",
    role: Role::Probe,
    channels: &[Channel::Issue, Channel::BlockSlots, Channel::Power],
    params: &[duration(
        "kernel",
        (Nanos::micros(10), Nanos::millis(10)),
        "100us",
        "Length of the kernel alone at the highest clock.",
    )],
    marks: &[],
    doc: "Multiply-adds that fill the issue slots of every SM that the tenant sees, one block on each.",
    program: |params, view| {
        let at = Site::new("compute", params, view)?;
        let pairs = pairs(&at, at.duration("kernel")?, 1)?;
        at.program(vec![], vec![launch(&FMA, view.sms, THREADS, vec![Arg::U32(pairs)])])
    },
};

/// `compute-burst`.
pub(super) static COMPUTE_BURST: Workload = Workload {
    id: "compute-burst",
    role: Role::Noise,
    channels: &[Channel::BlockSlots, Channel::Issue, Channel::Power],
    params: &[duration(
        "kernel",
        (Nanos::millis(1), Nanos::millis(100)),
        "10ms",
        "Length of one kernel alone at the highest clock: how long nothing else finds room on its SMs.",
    )],
    marks: &[],
    doc: "Long kernels that fill every SM with blocks which all end together.",
    program: |params, view| {
        let at = Site::new("compute-burst", params, view)?;
        let pairs = pairs(&at, at.duration("kernel")?, resident(THREADS))?;
        at.program(vec![], vec![launch(&FMA, filling(view), THREADS, vec![Arg::U32(pairs)])])
    },
};

/// `issue-hog`.
pub(super) static ISSUE_HOG: Workload = Workload {
    id: "issue-hog",
    role: Role::Noise,
    channels: &[Channel::Issue, Channel::Power],
    params: &[duration(
        "kernel",
        (Nanos::micros(50), Nanos::millis(5)),
        "500us",
        "Length of one kernel alone at the highest clock.",
    )],
    marks: &[],
    doc: "One block on every SM that issues in each cycle: room for other blocks, no issue slots for them.",
    program: |params, view| {
        let at = Site::new("issue-hog", params, view)?;
        let pairs = pairs(&at, at.duration("kernel")?, 1)?;
        at.program(vec![], vec![launch(&FMA, view.sms, THREADS, vec![Arg::U32(pairs)])])
    },
};
