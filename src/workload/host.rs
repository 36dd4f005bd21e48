//! The host alone.

use super::params::{Site, duration};
use super::{HostOp, Op, PLACEBO, Role, Workload};
use crate::channel::Channel;
use crate::units::Nanos;

/// `idle`.
pub(super) static IDLE: Workload = Workload {
    id: PLACEBO,
    role: Role::Noise,
    channels: &[Channel::Host],
    params: &[duration("length", (Nanos::micros(1), Nanos::millis(100)), "100us", "Length of one turn of the loop.")],
    marks: &[],
    doc: "The placebo: the neighbour's host loop without any call to the driver.",
    program: |params, view| {
        let at = Site::new(PLACEBO, params, view)?;
        at.program(vec![], vec![Op::Host(HostOp::Idle { length: at.duration("length")? })])
    },
};
