//! Separate GPUs: a GPU of the same model for each tenant, the reference. Only the host is shared.

use super::flat::{self, PLAIN};
use super::tree::Tree;
use super::{Found, Mode, Request, Resolved, Seating, SharingError};
use crate::gpu::Gpu;
use crate::machine::{Policy, SmShare, Topology};

pub(super) const MODE: Mode = Mode { resolve, topology, one_process: false, live: false, own_share: |_, _| true };

fn resolve(request: &Request<'_>) -> Result<Resolved, SharingError> {
    let mut layout = flat::two_or(request, flat::Keys::default(), &PLAIN)?;
    if layout.iter().map(|e| e.tenants).sum::<u32>() == 1 {
        layout.push(PLAIN);
    }
    let seats = flat::seats(&layout, |_| "a GPU of its own".to_owned());
    Ok((layout, seats))
}

fn topology(seating: &Seating<'_>) -> Result<Topology, SharingError> {
    let mut tree = Tree::new(seating.model);
    for process in 0..seating.seats.len() {
        let gpu = tree.gpu(false);
        let domain = tree.whole(gpu);
        let compute = tree.compute(domain, None, Policy::TimeSliced);
        tree.context(compute, SmShare::All, process, None);
    }
    Ok(tree.done())
}

/// A GPU for each seat: the one under test, then others of its model that are whole.
pub(super) fn assign(found: &Found<'_>) -> Result<Vec<String>, SharingError> {
    let gpus = &found.inventory.gpus;
    let own = &gpus[found.gpu];
    let alike = |gpu: &&Gpu| gpu.uuid != own.uuid && gpu.name == own.name;
    let (divided, whole): (Vec<&Gpu>, Vec<&Gpu>) = gpus.iter().filter(alike).partition(|g| g.mig == Some(true));
    let wanted = found.seats.len();
    if 1 + whole.len() < wanted {
        let beside = match divided.as_slice() {
            [] => String::new(),
            divided => {
                let uuids: Vec<&str> = divided.iter().map(|g| g.uuid.as_str()).collect();
                format!(
                    "; {} would be another, and MIG is on there: a process on it sees one instance, never the GPU",
                    uuids.join(", ")
                )
            }
        };
        return Err(SharingError::new(format!(
            "{wanted} whole GPUs of one model are needed, and {} {} here{beside}",
            1 + whole.len(),
            if whole.is_empty() { "is" } else { "are" }
        )));
    }
    Ok(std::iter::once(own).chain(whole).take(wanted).map(|g| g.uuid.clone()).collect())
}
