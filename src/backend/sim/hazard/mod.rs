//! Hazards in virtual time: what follows from the machine model's memory and from where the two tenants hang in its tree of
//! domains. What no source tells is untold.

mod capacity;
mod fault;
mod integrity;
mod leftovers;

use crate::gpu::GpuModel;
use crate::hazard::{CAPACITY, Came, FAULT, Hazard, INTEGRITY, LEFTOVERS};
use crate::machine::{Leak, Topology};
use crate::plan::{Grid, PlannedArrangement, PlannedHazard};
use crate::scenario::SharingMode;
use crate::sharing::one_process;
use crate::workload::{Params, resolve_fields};

/// An arrangement in which a hazard is tried.
pub(super) struct Scene<'a> {
    pub(super) planned: &'a PlannedArrangement,
    pub(super) grid: &'a Grid,
    pub(super) topology: &'a Topology,
    pub(super) model: &'a GpuModel,
    /// Isolation that is broken on purpose.
    pub(super) leaks: &'a [Leak],
    pub(super) seed: u64,
}

/// The context of the first neighbour, where it is another process on this GPU.
fn neighbour(scene: &Scene<'_>) -> Result<usize, String> {
    let mode = scene.planned.sharing;
    if one_process(mode) {
        return Err("victim and neighbour live in one process: to the driver they are one".to_owned());
    }
    let first = scene.grid.neighbour_seats.first().filter(|_| mode != SharingMode::Exclusive);
    first.copied().ok_or_else(|| "no neighbour is on a GPU here".to_owned())
}

/// How each is tried.
type How = fn(&Scene<'_>, &Params) -> Came;
const HOW: [(&Hazard, How); 4] = [
    (&CAPACITY, capacity::attempt),
    (&LEFTOVERS, leftovers::attempt),
    (&INTEGRITY, integrity::attempt),
    (&FAULT, fault::attempt),
];

/// Tries `hazard` there.
pub(super) fn attempt(scene: &Scene<'_>, hazard: &PlannedHazard) -> Came {
    let Some((known, how)) = HOW.iter().find(|(known, _)| known.id == hazard.hazard) else {
        return Came::Untold { why: format!("this build does not know the hazard {:?}", hazard.hazard) };
    };
    match resolve_fields(known.id, known.params, &hazard.params) {
        Ok(params) => how(scene, &params),
        Err(why) => Came::Untold { why },
    }
}
