//! How long a request takes alone, from its demands: good enough to plan windows and panels by.
//!
//! Within a factor of about two of what the machine model says, which knows each part's latencies; here they are the
//! H100's (docs of the GPU models name the sources). Nothing is ever judged by this figure.

use super::{Enqueue, GpuView, HostOp, Op, Program};
use crate::machine::{Demand, LaunchDemand};
use crate::units::Nanos;

/// Launch to first instruction, and completion seen by the host.
const FIRST_LAUNCH_NS: f64 = 5_000.0;
/// Between two operations of one stream.
const GAP_NS: f64 = 1_000.0;
/// Fixed cost of a copy.
const COPY_NS: f64 = 1_500.0;
/// Load latencies, SM cycles.
const L1_CYCLES: f64 = 38.0;
const L2_CYCLES: f64 = 219.0;
const HBM_CYCLES: f64 = 834.0;
/// A miss in the last-level TLB.
const TLB_MISS_NS: f64 = 400.0;
/// Bytes that an L1 delivers per cycle.
const L1_BYTES_PER_CYCLE: f64 = 128.0;
/// Barriers and atomics of the whole GPU.
const BARRIERS_PER_NS: f64 = 0.1;
const ATOMICS_PER_NS: f64 = 150.0;
/// Driver calls.
const ALLOC_NS: f64 = 100_000.0;
const CONTEXT_CREATE_NS: f64 = 150_000_000.0;
const CONTEXT_DESTROY_NS: f64 = 50_000_000.0;

impl Program {
    /// An estimate of how long one request takes on an otherwise idle machine.
    pub fn duration_alone(&self, view: &GpuView) -> Nanos {
        let mut ns = 0.0;
        // Streams run side by side: a copy on the second one hides behind the first.
        let mut beside = 0.0;
        for op in &self.request {
            match op {
                Op::Enqueue(enqueue, times) => {
                    let one = enqueue_ns(enqueue, view) + GAP_NS;
                    match enqueue {
                        Enqueue::ToHost { stream: 1.., .. } | Enqueue::ToDevice { stream: 1.., .. } => {
                            beside += one * f64::from(*times);
                        }
                        _ => ns += one * f64::from(*times),
                    }
                }
                Op::Host(HostOp::Alloc { .. } | HostOp::Free) => ns += ALLOC_NS,
                Op::Host(HostOp::ContextCreate) => ns += CONTEXT_CREATE_NS,
                Op::Host(HostOp::ContextDestroy) => ns += CONTEXT_DESTROY_NS,
                Op::Host(HostOp::Synchronize) => ns += GAP_NS,
                Op::Host(HostOp::Idle { length }) => ns += length.0 as f64,
                Op::Mark(_) => {}
            }
        }
        let first = if self.has_host_ops() { 0.0 } else { FIRST_LAUNCH_NS };
        Nanos((first + f64::max(ns, beside)).round() as u64)
    }
}

fn enqueue_ns(enqueue: &Enqueue, view: &GpuView) -> f64 {
    match enqueue.demand() {
        Demand::Launch(launch) => launch_ns(&launch, view),
        Demand::Copy(copy) => COPY_NS + copy.bytes as f64 / view.pcie_bandwidth.max(1) as f64 * 1e9,
        Demand::Host(host) => (host.lock.0 + host.outside.0) as f64,
    }
}

/// The slowest of what runs side by side, then the chain at its level's latency.
fn launch_ns(d: &LaunchDemand, view: &GpuView) -> f64 {
    let ghz = f64::from(view.sm_mhz.max(1)) / 1e3;
    let sms = view.sms.max(1);
    let per_sm = f64::from(d.blocks.div_ceil(sms));
    let waves = f64::from(d.blocks.div_ceil(sms.saturating_mul(d.blocks_per_sm.max(1))));
    let parallel = [
        d.issue_cycles as f64 * per_sm / ghz,
        d.tensor_cycles as f64 * per_sm / ghz,
        d.wait_cycles as f64 * waves / ghz,
        traffic_ns(d, view, ghz),
        d.barriers as f64 / BARRIERS_PER_NS,
        d.atomics as f64 / ATOMICS_PER_NS,
    ];
    let slowest = parallel.into_iter().fold(0.0, f64::max);
    slowest + d.chain.loads as f64 * load_ns(d, view, ghz)
}

fn traffic_ns(d: &LaunchDemand, view: &GpuView, ghz: f64) -> f64 {
    let t = &d.traffic;
    let bytes = (t.read + t.written) as f64;
    if t.through_l1 && t.footprint <= view.l1.0 {
        return bytes / (L1_BYTES_PER_CYCLE * f64::from(view.sms.max(1)) * ghz);
    }
    let missed = 1.0 - held(view.l2.0, t.footprint);
    f64::max(bytes / view.l2_bandwidth.max(1) as f64 * 1e9, bytes * missed / view.hbm_bandwidth.max(1) as f64 * 1e9)
}

/// Latency of one load of the chain.
fn load_ns(d: &LaunchDemand, view: &GpuView, ghz: f64) -> f64 {
    let c = &d.chain;
    let missed_tlb = 1.0 - held(view.tlb_reach.0, c.pages.saturating_mul(super::shape::PAGE));
    if c.through_l1 && c.footprint <= view.l1.0 {
        return L1_CYCLES / ghz;
    }
    let missed = 1.0 - held(view.l2.0, c.footprint);
    (L2_CYCLES + missed * (HBM_CYCLES - L2_CYCLES)) / ghz + missed_tlb * TLB_MISS_NS
}

/// Share of `footprint` that `capacity` holds.
fn held(capacity: u64, footprint: u64) -> f64 {
    if footprint <= capacity { 1.0 } else { capacity as f64 / footprint as f64 }
}
