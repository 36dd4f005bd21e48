//! Which controls a grid has: a matter of the plan alone.

use super::{Plan, PlannedNeighbour, PlannedProbe};
use crate::channel::Channel;
use crate::sharing;

/// Channels that noise inside the victim's own place exercises: resources of the SMs and of the memory system, which are
/// that place's whoever uses them. What hangs on the whole card or on the host (PCIe, power, launch, the driver's locks) is not
/// reached differently from inside: it says nothing of the way from another place.
const EXERCISED: &[Channel] = &[
    Channel::BlockSlots,
    Channel::Issue,
    Channel::Tensor,
    Channel::L1,
    Channel::L2,
    Channel::HbmBandwidth,
    Channel::Tlb,
    Channel::Membar,
    Channel::Atomics,
];

/// Channels that the probe feels, the neighbour loads, and noise inside the victim's own place exercises.
pub fn exercised_channels(probe: &PlannedProbe, neighbour: &PlannedNeighbour) -> Vec<Channel> {
    let both = |channel: &Channel| neighbour.channels.contains(channel) && EXERCISED.contains(channel);
    probe.channels.iter().copied().filter(both).collect()
}

impl Plan {
    /// Generations of a grid that end with an arm without any neighbour's process: its first ones. None where tenants have no
    /// processes of their own, or where nobody shares the GPU.
    pub fn presence(&self, arrangement: usize, grid: usize) -> u32 {
        let planned = &self.arrangements[arrangement];
        let company = planned.grids.get(grid).is_some_and(|grid| !grid.neighbour_seats.is_empty());
        let applies = company && sharing::has_presence(planned.sharing);
        if applies { self.design.controls.presence.min(self.design.generations()) } else { 0 }
    }

    /// Pairs of arms within the victim's own place, no more than the grid has blocks: none where there is nobody to exercise.
    pub fn sensitivity(&self, arrangement: usize, grid: usize) -> u32 {
        let pairs = self.design.controls.sensitivity.min(self.design.blocks);
        if self.exercised(arrangement, grid).is_empty() { 0 } else { pairs }
    }

    /// Neighbours of a grid whose noise is also run inside the victim's own place: those that load a channel which one of the
    /// grid's probes feels, under modes that promise the victim a share of its own.
    pub fn exercised(&self, arrangement: usize, grid: usize) -> Vec<usize> {
        let planned = &self.arrangements[arrangement];
        let Some(grid) = planned.grids.get(grid) else { return Vec::new() };
        if self.design.controls.sensitivity == 0 || !sharing::has_sensitivity(planned.sharing) {
            return Vec::new();
        }
        let felt = |neighbour: &usize| {
            let probes = grid.probes.iter().map(|probe| &self.panel[*probe]);
            probes.into_iter().any(|probe| !exercised_channels(probe, &self.neighbours[*neighbour]).is_empty())
        };
        grid.neighbours.iter().copied().filter(felt).collect()
    }
}
