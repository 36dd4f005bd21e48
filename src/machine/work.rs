//! Interned demands: what the event loop needs of a demand, worked out once.

use super::demand::{CopyDemand, Demand, Direction, HostDemand, LaunchDemand};

/// Bytes of a cache line: what a load of a chain brings into L2.
pub(super) const LINE: f64 = 128.0;
/// Bytes of a sector: what a load of a chain moves.
pub(super) const SECTOR: f64 = 32.0;

/// What kind of engine work needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Launch,
    ToDevice,
    ToHost,
    Host,
}

/// One interned demand of one context. Amounts are per repetition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub context: u8,
    pub kind: Kind,
    /// As it was given: two equal demands of a context are one work.
    pub demand: Demand,
    pub blocks: u32,
    /// Blocks that fit on one SM.
    pub per_sm: u32,
    /// SM cycles of issue slots, all blocks together.
    pub issue: f64,
    /// SM cycles of tensor pipes, all blocks together.
    pub tensor: f64,
    /// Cycles per wave that pass whatever the load.
    pub wait: f64,
    /// Bytes streamed; of a copy, bytes copied.
    pub bytes: f64,
    /// Of those, through L1.
    pub l1_bytes: f64,
    /// Distinct bytes per SM that L1 would have to hold; 0: does not use L1.
    pub l1_footprint: f64,
    /// Distinct bytes that L2 would have to hold, but for those that `l1_footprint` counts per SM.
    pub l2_footprint: f64,
    /// Footprint per SM of a stream through L1.
    pub l2_footprint_per_sm: f64,
    /// Length of the chain of dependent loads.
    pub loads: f64,
    /// Loads of all chains side by side.
    pub chained: f64,
    /// The chain may hit L1.
    pub chain_l1: bool,
    pub strong: bool,
    /// Share of the chain's loads whose page is not in the SM's own TLB, of a random walk.
    pub past_sm: f64,
    /// Look-ups of the last-level TLB.
    pub lookups: f64,
    /// Distinct pages of those.
    pub pages: f64,
    pub barriers: f64,
    pub atomics: f64,
    /// Of a host call: nanoseconds under the lock.
    pub lock: f64,
    /// Of a host call: nanoseconds outside it.
    pub outside: u64,
}

impl Work {
    /// Nothing at all: fills tables.
    pub const EMPTY: Self = Self {
        context: u8::MAX,
        kind: Kind::Host,
        demand: Demand::Host(HostDemand {
            lock: crate::units::Nanos::ZERO,
            outside: crate::units::Nanos::ZERO,
            barriers: 0,
        }),
        blocks: 1,
        per_sm: 1,
        issue: 0.0,
        tensor: 0.0,
        wait: 0.0,
        bytes: 0.0,
        l1_bytes: 0.0,
        l1_footprint: 0.0,
        l2_footprint: 0.0,
        l2_footprint_per_sm: 0.0,
        loads: 0.0,
        chained: 0.0,
        chain_l1: false,
        strong: false,
        past_sm: 0.0,
        lookups: 0.0,
        pages: 0.0,
        barriers: 0.0,
        atomics: 0.0,
        lock: 0.0,
        outside: 0,
    };

    /// Works out `demand` of `context` on SMs that hold `max_blocks` blocks at most, and whose own TLB covers `sm_pages`.
    pub fn new(context: u8, demand: &Demand, max_blocks: u32, sm_pages: f64) -> Self {
        let base = Self { context, demand: *demand, ..Self::EMPTY };
        match demand {
            Demand::Launch(launch) => base.launch(launch, max_blocks, sm_pages),
            Demand::Copy(CopyDemand { bytes, direction }) => Self {
                kind: match direction {
                    Direction::ToDevice => Kind::ToDevice,
                    Direction::ToHost => Kind::ToHost,
                },
                bytes: *bytes as f64,
                ..base
            },
            Demand::Host(HostDemand { lock, outside, barriers }) => {
                Self { kind: Kind::Host, lock: lock.0 as f64, outside: outside.0, barriers: *barriers as f64, ..base }
            }
        }
    }

    fn launch(self, launch: &LaunchDemand, max_blocks: u32, sm_pages: f64) -> Self {
        let LaunchDemand { traffic, chain, .. } = launch;
        let blocks = launch.blocks.max(1);
        let bytes = (traffic.read + traffic.written) as f64;
        let chained = chain.loads as f64 * f64::from(chain.warps.max(1));
        // Strong loads bypass L1 (the architecture's memory model: they must see other SMs' stores).
        let chain_l1 = chain.through_l1 && !chain.strong && chain.loads > 0;
        let stream_footprint = if bytes > 0.0 { traffic.footprint as f64 } else { 0.0 };
        let past_sm =
            if chain.loads > 0 && chain.pages > 0 { 1.0 - (sm_pages / chain.pages as f64).min(1.0) } else { 0.0 };
        let chain_footprint = if chain.loads > 0 { chain.footprint as f64 } else { 0.0 };
        Self {
            kind: Kind::Launch,
            blocks,
            per_sm: launch.blocks_per_sm.clamp(1, max_blocks.max(1)),
            issue: f64::from(blocks) * launch.issue_cycles as f64,
            tensor: f64::from(blocks) * launch.tensor_cycles as f64,
            wait: launch.wait_cycles as f64,
            bytes,
            l1_bytes: if traffic.through_l1 { bytes } else { 0.0 },
            l1_footprint: (if traffic.through_l1 { stream_footprint } else { 0.0 })
                + if chain_l1 { chain_footprint } else { 0.0 },
            l2_footprint: chain_footprint + if traffic.through_l1 { 0.0 } else { stream_footprint },
            l2_footprint_per_sm: if traffic.through_l1 { stream_footprint } else { 0.0 },
            loads: chain.loads as f64,
            chained,
            chain_l1,
            strong: chain.strong,
            past_sm,
            lookups: traffic.page_touches as f64 + chained * past_sm,
            pages: (if traffic.page_touches > 0 { traffic.pages } else { 0 }
                + if past_sm > 0.0 || traffic.page_touches > 0 { chain.pages } else { 0 }) as f64,
            barriers: launch.barriers as f64,
            atomics: launch.atomics as f64,
            ..self
        }
    }
}
