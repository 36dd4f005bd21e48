//! Device memory as a good that the driver hands out: allocations and contexts, through its locks.

use super::params::{Site, count, size};
use super::{HostOp, Op, Role, Workload};
use crate::channel::Channel;
use crate::units::Bytes;

/// `count` allocations of `bytes` each, then as many frees.
fn rise_and_fall(count: u32, bytes: u64) -> Vec<Op> {
    let op = |op: HostOp| (0..count).map(move |_| Op::Host(op));
    op(HostOp::Alloc { bytes }).chain(op(HostOp::Free)).collect()
}

/// `alloc`.
pub(super) static ALLOC: Workload = Workload {
    id: "alloc",
    role: Role::Probe,
    channels: &[Channel::Driver, Channel::HbmCapacity, Channel::Membar],
    params: &[size("size", Bytes(1), Some("16MiB"), "Bytes of the allocation.")],
    marks: &[],
    doc: "Allocates device memory and frees it: waits for the driver's locks, fails where no memory is left.",
    program: |params, view| {
        let at = Site::new("alloc", params, view)?;
        at.program(vec![], rise_and_fall(1, at.size("size", None)?))
    },
};

/// `alloc-churn`.
pub(super) static ALLOC_CHURN: Workload = Workload {
    id: "alloc-churn",
    role: Role::Noise,
    channels: &[Channel::Driver, Channel::Membar],
    params: &[
        size("size", Bytes(1), Some("2MiB"), "Bytes of one allocation."),
        count("count", (1, 1_000), "4", "Allocations in one request, each freed after the last."),
    ],
    marks: &[],
    doc: "Allocates and frees small pieces without a pause: it keeps the driver's locks taken.",
    program: |params, view| {
        let at = Site::new("alloc-churn", params, view)?;
        at.program(vec![], rise_and_fall(at.count("count")?, at.size("size", None)?))
    },
};

/// `context-churn`.
pub(super) static CONTEXT_CHURN: Workload = Workload {
    id: "context-churn",
    role: Role::Noise,
    channels: &[Channel::Driver, Channel::Membar],
    params: &[],
    marks: &[],
    doc: "Creates and destroys a context without a pause, as processes that come and go do.",
    program: |params, view| {
        let at = Site::new("context-churn", params, view)?;
        at.program(vec![], vec![Op::Host(HostOp::ContextCreate), Op::Host(HostOp::ContextDestroy)])
    },
};

/// `capacity-ramp`.
pub(super) static CAPACITY_RAMP: Workload = Workload {
    id: "capacity-ramp",
    role: Role::Noise,
    channels: &[Channel::HbmCapacity, Channel::Driver, Channel::Membar],
    params: &[
        size("peak", Bytes::mib(1), Some("60%"), "Memory that it holds at the end of the ramp."),
        count("steps", (1, 1_000), "8", "Allocations on the way."),
    ],
    marks: &[],
    doc: "Allocates memory step by step up to a peak, then frees all of it: a leak or a cold start in small.",
    program: |params, view| {
        let at = Site::new("capacity-ramp", params, view)?;
        let (peak, steps) = (at.size("peak", None)?, at.count("steps")?);
        let step = peak / u64::from(steps.max(1));
        if step == 0 {
            return Err(at.refuse(format!("a peak of {peak} bytes has no {steps} steps: ask for fewer")));
        }
        at.program(vec![], rise_and_fall(steps, step))
    },
};
