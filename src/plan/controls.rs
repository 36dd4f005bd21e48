//! Which controls a grid has: a matter of the plan alone.

use super::{Plan, PlannedNeighbour, PlannedProbe};
use crate::backend::Purpose;
use crate::channel::Channel;
use crate::provenance::Provenance;
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

/// Channels that the probe feels and the neighbour loads, and that noise inside the victim's own place does not exercise: an
/// injected delay stands in for it.
pub fn delayed_channels(probe: &PlannedProbe, neighbour: &PlannedNeighbour) -> Vec<Channel> {
    let both = |channel: &Channel| neighbour.channels.contains(channel) && !EXERCISED.contains(channel);
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

    /// Blocks of a grid, its first ones, that have an arm in which every request is held back by a known time. They are over
    /// before the first look.
    pub fn delays(&self, arrangement: usize, grid: usize) -> u32 {
        let arms = self.design.controls.delay.min(self.design.blocks_by(0));
        if self.delayed(arrangement, grid).is_empty() { 0 } else { arms }
    }

    /// Probes of a grid whose requests are held back in those arms: they feel a channel that one of its neighbours loads and no
    /// noise inside the victim's own place exercises, under modes that promise the victim a share of its own.
    pub fn delayed(&self, arrangement: usize, grid: usize) -> Vec<usize> {
        let planned = &self.arrangements[arrangement];
        let Some(grid) = planned.grids.get(grid) else { return Vec::new() };
        if self.design.controls.delay == 0 || !sharing::has_sensitivity(planned.sharing) {
            return Vec::new();
        }
        let reached = |probe: &usize| {
            let channels = |n: &usize| delayed_channels(&self.panel[*probe], &self.neighbours[*n]);
            grid.neighbours.iter().any(|neighbour| !channels(neighbour).is_empty())
        };
        grid.probes.iter().copied().filter(reached).collect()
    }

    /// Blocks of a grid, its first ones, that have a quiet arm without the thread that samples clocks and power: in the first
    /// grid of an arrangement alone, and not on a simulated GPU, which nobody samples. They are over before the first look.
    pub fn unsampled(&self, arrangement: usize, grid: usize) -> u32 {
        let sampled = self.inventory.provenance != Provenance::Simulated;
        let first = self.sampler_grid(arrangement) == Some(grid);
        if sampled && first { self.design.controls.sampler.min(self.design.blocks_by(0)) } else { 0 }
    }

    /// What the further quiet arms of a block are for, beside the one with which the others are compared.
    pub(crate) fn further_quiet(&self, arrangement: usize, grid: usize, block: u32) -> Vec<Purpose> {
        let planned = &self.arrangements[arrangement];
        let Some(first) = planned.grids.get(grid).map(|grid| grid.first_block) else { return Vec::new() };
        // Nobody is quiet among equal tenants.
        if planned.density.is_some() {
            return Vec::new();
        }
        let number = block.saturating_sub(first);
        [
            (Purpose::Again, self.design.controls.again),
            (Purpose::Unsampled, number < self.design.controls.sampler && number < self.unsampled(arrangement, grid)),
            (Purpose::Delayed, number < self.design.controls.delay && number < self.delays(arrangement, grid)),
        ]
        .into_iter()
        .filter_map(|(purpose, has)| has.then_some(purpose))
        .collect()
    }

    /// The grid of an arrangement that shows what the sampler does: the first one that has arms.
    pub fn sampler_grid(&self, arrangement: usize) -> Option<usize> {
        self.arrangements[arrangement].grids.iter().position(|grid| !grid.neighbours.is_empty())
    }
}
