//! What one piece of work asks of the hardware.

use crate::units::Nanos;

/// What one piece of work asks of the hardware: pure data, independent of who asks and of what else runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Demand {
    /// A kernel launch.
    Launch(LaunchDemand),
    /// A copy over PCIe.
    Copy(CopyDemand),
    /// A call of the host into the driver.
    Host(HostDemand),
}

/// What a kernel launch asks. Work is per *launch* unless a field says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LaunchDemand {
    /// Thread blocks of the grid.
    pub blocks: u32,
    /// Blocks that fit on one SM at a time.
    pub blocks_per_sm: u32,
    /// SM cycles per block with the issue slots of the SM fully used.
    pub issue_cycles: u64,
    /// SM cycles per block with the tensor pipes fully used.
    pub tensor_cycles: u64,
    /// Cycles per block that pass whatever the SM's load: a spin on the clock, or dependent arithmetic.
    pub wait_cycles: u64,
    /// Streaming loads and stores.
    pub traffic: Traffic,
    /// Dependent loads.
    pub chain: Chain,
    /// Memory barriers (`__threadfence`, and what the driver adds).
    pub barriers: u64,
    /// Atomic operations at L2.
    pub atomics: u64,
}

/// Streaming loads and stores: as many in flight as the hardware allows, so that bandwidth bounds them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Bytes loaded.
    pub read: u64,
    /// Bytes stored.
    pub written: u64,
    /// Distinct bytes touched: decides which level serves them.
    pub footprint: u64,
    /// Look-ups that go past the SM's own TLB.
    pub page_touches: u64,
    /// Distinct pages of 2 MiB touched.
    pub pages: u64,
    /// Served by each SM's own L1 where the footprint *per SM* (`footprint`) fits there.
    pub through_l1: bool,
}

/// Loads of which each needs the one before: latency bounds them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Chain {
    /// Length of the chain (per warp; warps walk side by side).
    pub loads: u64,
    /// Warps that walk side by side, each at the full latency.
    pub warps: u32,
    /// Distinct bytes of cache lines touched: decides which level serves them.
    pub footprint: u64,
    /// Distinct pages of 2 MiB touched: decides the share of TLB misses.
    pub pages: u64,
    /// Strong loads (`ld.relaxed.gpu`): they bypass L1 and order against barriers.
    pub strong: bool,
    /// May hit the SM's own L1.
    pub through_l1: bool,
}

/// Direction of a copy over PCIe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Host to device.
    ToDevice,
    /// Device to host.
    ToHost,
}

/// A copy between pinned host memory and the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CopyDemand {
    /// Bytes copied.
    pub bytes: u64,
    /// Which way.
    pub direction: Direction,
}

/// A call that holds a lock of the driver's resource manager.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostDemand {
    /// Time under the lock.
    pub lock: Nanos,
    /// Time of the call outside the lock.
    pub outside: Nanos,
    /// Memory barriers that the driver sends through the device.
    pub barriers: u64,
}
