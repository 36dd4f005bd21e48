//! Address translation: many pages, few lines.

use super::chase::{CHASE, loads, walk};
use super::params::{Site, count, launch, size};
use super::shape::{LIGHT_BLOCKS_PER_SM, LINE, PAGE, SECTOR, WARP, pages};
use super::{Arg, Buffer, Kernel, ParamType, Role, Workload, WorkloadError};
use crate::channel::Channel;
use crate::machine::{Chain, Demand, LaunchDemand, Traffic};
use crate::units::Bytes;

/// Every lane of one warp a block: `touches` dependent loads, each from another page. Buffer, bytes spanned, touches.
/// The chain stands for the first lane of each warp, which sets the pace; the traffic for the other 31. Both go over the
/// same lines and pages, which are counted once, with the chain.
pub(super) static TOUCH_PAGES: Kernel = Kernel {
    symbol: "touch_pages",
    params: &[ParamType::Pointer, ParamType::U64, ParamType::U32],
    demand: |l| {
        let (span, touches) = (l.number(1), l.number(2));
        let pages = pages(span);
        let others = l.warps() * u64::from(WARP - 1) * touches;
        Demand::Launch(LaunchDemand {
            blocks: l.grid,
            blocks_per_sm: LIGHT_BLOCKS_PER_SM,
            chain: Chain { loads: touches, warps: l.grid, footprint: pages * LINE, pages, ..Chain::default() },
            traffic: Traffic { read: others * SECTOR, page_touches: others, ..Traffic::default() },
            ..LaunchDemand::default()
        })
    },
    reference: |_| 0,
};

/// Bytes of whole pages: `wanted`, and at most a quarter of the tenant's memory unless the user said so.
fn span(at: &Site<'_>, wanted: u64) -> Result<u64, WorkloadError> {
    let derived = at.known("TLB reach", wanted)?.min(at.view.memory.0 / 4);
    let span = at.size("footprint", Some(derived))? / PAGE * PAGE;
    if span < 16 * PAGE {
        return Err(at.refuse(format!(
            "a footprint of {} has too few pages of 2 MiB to walk over: at least {} is needed",
            Bytes(span).for_people(),
            Bytes(16 * PAGE).for_people()
        )));
    }
    Ok(span)
}

/// `tlb-chase`.
pub(super) static TLB_CHASE: Workload = Workload {
    id: "tlb-chase",
    role: Role::Probe,
    channels: &[Channel::Tlb],
    params: &[
        size(
            "footprint",
            Bytes::mib(32),
            None,
            "Memory whose pages it touches, one line on each. Default: half of what the last-level TLB covers, at most a quarter of the tenant's memory.",
        ),
        loads("1024"),
    ],
    marks: &[],
    doc: "Dependent loads from one line on each of many pages, so few lines that L2 holds them all: what is left is translation.",
    program: |params, view| {
        let at = Site::new("tlb-chase", params, view)?;
        let span = span(&at, view.tlb_reach.0 / 2)?;
        walk(&at, &CHASE, span, PAGE)
    },
};

/// `tlb-thrash`.
pub(super) static TLB_THRASH: Workload = Workload {
    id: "tlb-thrash",
    role: Role::Noise,
    channels: &[Channel::Tlb],
    params: &[
        size(
            "footprint",
            Bytes::mib(32),
            None,
            "Memory whose pages it touches. Default: twice what the last-level TLB covers, at most a quarter of the tenant's memory.",
        ),
        count("touches", (16, 65_536), "512", "Pages that each thread touches in one launch; 32 threads an SM."),
    ],
    marks: &[],
    doc: "One load from each of more pages than the last-level TLB covers, from every SM, and next to no bandwidth.",
    program: |params, view| {
        let at = Site::new("tlb-thrash", params, view)?;
        let span = span(&at, view.tlb_reach.0.saturating_mul(2))?;
        let args = vec![Arg::Buffer(0), Arg::U64(span), Arg::U32(at.count("touches")?)];
        at.program(vec![Buffer::cycle(span, PAGE)], vec![launch(&TOUCH_PAGES, view.sms, WARP, args)])
    },
};
