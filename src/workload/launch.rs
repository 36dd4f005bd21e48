//! Kernel launch itself: an empty kernel.

use super::params::{Site, count, launch, launches};
use super::shape::{LIGHT_BLOCKS_PER_SM, WARP};
use super::{Kernel, Role, Workload};
use crate::channel::Channel;
use crate::machine::{Demand, LaunchDemand};

/// Returns at once. What is left is the launch.
pub(super) static EMPTY: Kernel = Kernel {
    symbol: "empty",
    params: &[],
    demand: |l| {
        Demand::Launch(LaunchDemand { blocks: l.grid, blocks_per_sm: LIGHT_BLOCKS_PER_SM, ..LaunchDemand::default() })
    },
    reference: |_| 0,
};

/// `launch`.
pub(super) static LAUNCH: Workload = Workload {
    id: "launch",
    role: Role::Probe,
    channels: &[Channel::Launch, Channel::BlockSlots],
    params: &[],
    marks: &[],
    doc: "One empty kernel of one warp: what it costs to start anything at all.",
    program: |params, view| {
        let at = Site::new("launch", params, view)?;
        at.program(vec![], vec![launch(&EMPTY, 1, WARP, vec![])])
    },
};

/// `launch-storm`.
pub(super) static LAUNCH_STORM: Workload = Workload {
    id: "launch-storm",
    role: Role::Noise,
    channels: &[Channel::Launch],
    params: &[count("launches", (1, 1_000), "128", "Launches in one request.")],
    marks: &[],
    doc: "Empty kernels back to back: the front end is never without a launch.",
    program: |params, view| {
        let at = Site::new("launch-storm", params, view)?;
        let n = at.count("launches")?;
        at.program(vec![], vec![launches(&EMPTY, 1, WARP, vec![], n)])
    },
};
