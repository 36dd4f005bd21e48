//! The hazard `fault` in virtual time: the machine model has no faults, and what drivers do with one is not derived from it.
//! What is told is which tenants stand in one fault domain, where that is documented.

use crate::hazard::Came;
use crate::machine::Topology;
use crate::scenario::SharingMode;
use crate::workload::Params;

use super::Scene;

/// Says what is documented of the faults of a neighbour there.
pub(super) fn attempt(scene: &Scene<'_>, _params: &Params) -> Came {
    let Some(neighbour) = scene.grid.neighbour_seats.first() else {
        return Came::Untold { why: "no neighbour is there to take a fault".to_owned() };
    };
    let documented = documented(scene.planned.sharing, scene.topology, [scene.grid.victim, *neighbour]);
    let why = format!("the simulator has no faults, and nothing is made up; {documented}: run it on hardware");
    Came::Untold { why }
}

/// What the vendor documents of the fault of one of two tenants for the other.
fn documented(mode: SharingMode, topology: &Topology, seats: [usize; 2]) -> &'static str {
    let [Some(victim), Some(neighbour)] = seats.map(|seat| topology.contexts.get(seat)) else {
        return "a seat is on no GPU here";
    };
    let [a, b] = [victim, neighbour].map(|context| topology.computes[context.compute]);
    let clients = matches!(mode, SharingMode::Mps | SharingMode::MigMps);
    if topology.domains[a.domain].gpu != topology.domains[b.domain].gpu {
        "the two are on GPUs of their own"
    } else if clients && victim.process == neighbour.process {
        // CUDA MPS documentation, on the containment of faults and on the termination of clients.
        "documented: a fault of one client of an MPS server reaches every client of it, new clients are refused (807) until \
         those have ended, and what the death of a client with work in flight does to the others is undefined"
    } else if victim.process == neighbour.process {
        "the two are one process, which a fault ends as a whole"
    } else if a.domain != b.domain {
        // MIG user guide.
        "documented: GPU instances contain each other's faults"
    } else if victim.compute != neighbour.compute {
        "compute instances of one GPU instance share its memory; what a fault of one does to the other is not documented"
    } else {
        "sources contradict each other about faults under time-slicing"
    }
}
