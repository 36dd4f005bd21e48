//! Dependent loads: each needs the one before, so that latency bounds them.
//!
//! One warp walks on each of eight SMs, one thread of it loading. The walk is one random cycle through all lines
//! (Sattolo), and each walker goes on where its last launch stopped: a line comes back only after all others, so that
//! a footprint beyond a level's capacity finds nothing there.

use super::params::{Site, count, launch, size};
use super::shape::{LIGHT_BLOCKS_PER_SM, LINE, WARP, pages};
use super::{Arg, Buffer, Kernel, LaunchArgs, Op, ParamType, Params, Program, Role, Workload, WorkloadError};
use crate::channel::Channel;
use crate::field::Field;
use crate::machine::{Chain, Demand, LaunchDemand};
use crate::units::Bytes;

/// SMs that a chase walks on: latency varies by SM and L2 partition (verdict.md, the panel).
pub(super) const WALKERS: u32 = 8;

/// Buffer, bytes spanned, distance of two lines, loads per walker.
const CHASE_PARAMS: &[ParamType] = &[ParamType::Pointer, ParamType::U64, ParamType::U64, ParamType::U32];

/// Plain loads that may stay in L1. A launch finds L1 empty: all 32 lanes of the walker's warp touch every line once,
/// side by side, before the walk begins, so that the walk itself hits.
pub(super) static CHASE_L1: Kernel = Kernel {
    symbol: "chase_l1",
    params: CHASE_PARAMS,
    demand: |l| chain(l, Path { strong: false, through_l1: true }),
    reference: walked,
};

/// Loads that leave nothing in L1 and are yet weak: `ld.global.nc.L1::no_allocate`. Not `ld.global.cg`, which is a
/// strong load on sm_90 and would feel barriers.
pub(super) static CHASE: Kernel = Kernel {
    symbol: "chase",
    params: CHASE_PARAMS,
    demand: |l| chain(l, Path { strong: false, through_l1: false }),
    reference: walked,
};

/// `ld.relaxed.gpu`: past L1, and ordered against barriers.
pub(super) static CHASE_STRONG: Kernel = Kernel {
    symbol: "chase_strong",
    params: CHASE_PARAMS,
    demand: |l| chain(l, Path { strong: true, through_l1: false }),
    reference: walked,
};

/// How the loads of a chase go.
struct Path {
    strong: bool,
    through_l1: bool,
}

/// A line of 128 bytes every `distance` bytes of `span`; one walker a block.
fn chain(l: &LaunchArgs<'_>, path: Path) -> Demand {
    let (span, distance, loads) = (l.number(1), l.number(2).max(LINE), l.number(3));
    let lines = span / distance;
    Demand::Launch(LaunchDemand {
        blocks: l.grid,
        blocks_per_sm: LIGHT_BLOCKS_PER_SM,
        chain: Chain {
            loads,
            warps: l.grid,
            footprint: lines * LINE,
            pages: pages(span).min(lines),
            strong: path.strong,
            through_l1: path.through_l1,
        },
        ..LaunchDemand::default()
    })
}

/// A load whose node is the right one counts 1.
fn walked(l: &LaunchArgs<'_>) -> u32 {
    l.grid.wrapping_mul(l.number(3) as u32)
}

/// A chase over `span` bytes with a line every `distance`.
pub(super) fn walk(at: &Site<'_>, kernel: &'static Kernel, span: u64, distance: u64) -> Result<Program, WorkloadError> {
    let loads = at.count("loads")?;
    let args = vec![Arg::Buffer(0), Arg::U64(span), Arg::U64(distance), Arg::U32(loads)];
    let request: Vec<Op> = vec![launch(kernel, WALKERS.min(at.view.sms), WARP, args)];
    at.program(vec![Buffer::cycle(span, distance)], request)
}

/// The parameter `loads`.
pub(super) const fn loads(default: &'static str) -> Field {
    count("loads", (16, 65_536), default, "Dependent loads of each walker in one request.")
}

/// A program that walks in L2: past L1, well inside L2.
pub(super) fn walk_in_l2(at: &Site<'_>, kernel: &'static Kernel) -> Result<Program, WorkloadError> {
    let (l1, l2) = (at.view.l1.0, at.view.l2.0);
    let span = at.size("footprint", Some((l2 / 16).max(4 * l1)))?;
    if span <= 2 * l1 || span > l2 / 2 {
        return Err(at.refuse(format!(
            "a footprint of {} is not between twice the L1 of an SM ({}) and half of the L2 of this place ({})",
            Bytes(span).for_people(),
            Bytes(2 * l1).for_people(),
            Bytes(l2 / 2).for_people()
        )));
    }
    walk(at, kernel, span, LINE)
}

/// The parameter `footprint` of chases in L2.
pub(super) const L2_FOOTPRINT: Field = size(
    "footprint",
    Bytes::kib(64),
    None,
    "Bytes walked over. Default: a sixteenth of the L2 that the tenant sees, at least four times an SM's L1.",
);

fn l1_chase(params: &Params, view: &super::GpuView) -> Result<Program, WorkloadError> {
    let at = Site::new("l1-chase", params, view)?;
    // More than half: a neighbour on the same SM that takes its fair half must be felt.
    let span = at.size("footprint", Some(view.l1.0 / 8 * 5))?;
    let most = view.l1.0 / 4 * 3;
    if span > most {
        return Err(at.refuse(format!(
            "a footprint of {} does not stay in L1: at most three quarters of an SM's L1 ({})",
            Bytes(span).for_people(),
            Bytes(most).for_people()
        )));
    }
    walk(&at, &CHASE_L1, span, LINE)
}

fn hbm_chase(params: &Params, view: &super::GpuView) -> Result<Program, WorkloadError> {
    let at = Site::new("hbm-chase", params, view)?;
    // Far more than the least: what L2 happens to hold of it must not move the median from arm to arm.
    let span = at.size("footprint", Some((32 * view.l2.0).min(view.memory.0 / 4).max(4 * view.l2.0)))?;
    if span < 4 * view.l2.0 {
        return Err(at.refuse(format!(
            "a footprint of {} partly stays in L2: at least four times the L2 of this place is needed ({})",
            Bytes(span).for_people(),
            Bytes(4 * view.l2.0).for_people()
        )));
    }
    walk(&at, &CHASE, span, LINE)
}

/// `l1-chase`.
pub(super) static L1_CHASE: Workload = Workload {
    id: "l1-chase",
    role: Role::Probe,
    channels: &[Channel::L1],
    params: &[
        size("footprint", Bytes::kib(4), None, "Bytes walked over. Default: five eighths of the L1 of an SM."),
        loads("8192"),
    ],
    marks: &[],
    doc: "Dependent loads that stay in the L1 of their SM, one warp on each of eight SMs.",
    program: l1_chase,
};

/// `l2-chase`.
pub(super) static L2_CHASE: Workload = Workload {
    id: "l2-chase",
    role: Role::Probe,
    channels: &[Channel::L2],
    params: &[L2_FOOTPRINT, loads("1024")],
    marks: &[],
    doc: "Dependent loads that miss L1 and stay in L2, one warp on each of eight SMs.",
    program: |params, view| walk_in_l2(&Site::new("l2-chase", params, view)?, &CHASE),
};

/// `hbm-chase`.
pub(super) static HBM_CHASE: Workload = Workload {
    id: "hbm-chase",
    role: Role::Probe,
    channels: &[Channel::HbmBandwidth],
    params: &[
        size(
            "footprint",
            Bytes::mib(1),
            None,
            "Bytes walked over, at least four times the L2 that the tenant sees. Default: 32 times, at most a quarter of its memory.",
        ),
        loads("512"),
    ],
    marks: &[],
    doc: "Dependent loads that miss every cache, one warp on each of eight SMs.",
    program: hbm_chase,
};
