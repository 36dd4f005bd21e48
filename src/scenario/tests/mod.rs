//! Tests of the module as a whole, over a small catalogue of their own.

mod bad;
mod good;
mod made;
mod ready_made;

use crate::channel::Channel;
use crate::field::{Field, Kind};
use crate::units::{Bytes, Nanos};
use crate::workload::{GpuView, Params, Program, Role, Workload, WorkloadError};

fn nothing(_: &Params, _: &GpuView) -> Result<Program, WorkloadError> {
    Ok(Program { buffers: Vec::new(), request: Vec::new(), footprint: Bytes(0) })
}

const fn workload(
    id: &'static str,
    role: Role,
    channels: &'static [Channel],
    params: &'static [Field],
    marks: &'static [&'static str],
) -> Workload {
    Workload { id, role, channels, params, marks, doc: "For tests.", program: nothing }
}

const FOOTPRINT: &[Field] = &[Field::with_default(
    "footprint",
    Kind::Size { min: Bytes::mib(1), max: Bytes(u64::MAX) },
    "50%",
    "Memory that it walks.",
)];
const LENGTH: &[Field] = &[Field::with_default(
    "length",
    Kind::Duration { min: Nanos::millis(1), max: Nanos::millis(100) },
    "10ms",
    "Length of one kernel.",
)];

pub(super) static CATALOGUE: &[&Workload] = &[
    &workload("launch", Role::Probe, &[Channel::Launch, Channel::BlockSlots], &[], &[]),
    &workload("hbm-chase", Role::Probe, &[Channel::HbmBandwidth], FOOTPRINT, &[]),
    &workload("llm-decode", Role::Probe, &[Channel::HbmBandwidth], &[], &["token"]),
    &workload("h2d", Role::Both, &[Channel::Pcie], &[], &[]),
    &workload("d2h", Role::Noise, &[Channel::Pcie], &[], &[]),
    &workload("hbm-read", Role::Noise, &[Channel::HbmBandwidth], FOOTPRINT, &[]),
    &workload("compute-burst", Role::Noise, &[Channel::BlockSlots], LENGTH, &[]),
    &workload("idle", Role::Noise, &[Channel::Host], &[], &[]),
];

/// A scenario that reads without mistakes; tests spoil it.
pub(super) const GOOD: &str = r#"schema = 1
name = "good"

[victim]
panel = [ { probe = "launch" }, { probe = "hbm-chase", params = { footprint = "1GiB" } }, { probe = "llm-decode" } ]

[[neighbour]]
noise = "idle"

[[neighbour]]
name = "hog"
noise = "hbm-read"
params = { footprint = "25%" }

[[arrangement]]
name = "sliced"
sharing = "time-slicing"
tenants = 2
require = { idle = "isolated", "hog/llm-decode/token" = "any" }
expect = { hbm-bandwidth = "violated" }

[[accept]]
cell = "sliced@0/hog"
channel = "hbm-bandwidth"
reason = "known"
by = "platform team"
until = 2027-06-30
"#;

/// One of equal tenants alone that reads without mistakes; tests spoil it.
pub(super) const DENSE: &str = r#"schema = 1
name = "dense"

[victim]
panel = [
    { probe = "launch", arrivals = { poisson = "20/s" }, slo = { p99 = "50ms" } },
    { probe = "hbm-chase", arrivals = { poisson = "20/s" } },
    { probe = "llm-decode" },
]

[[arrangement]]
name = "sliced"
sharing = "time-slicing"
tenants = { count = [1, 2, 4], all = "launch", at_least = 3 }
"#;
