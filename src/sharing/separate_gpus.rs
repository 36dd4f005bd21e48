//! Separate GPUs: a GPU of the same model for each tenant, the reference. Only the host is shared.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::flat::{self, PLAIN};
use super::live::{Arranged, Place, Site};
use super::tree::Tree;
use super::{Found, Mode, Request, Resolved, Seating, SharingError};
use crate::backend::{BackendError, SeatEvidence};
use crate::gpu::Gpu;
use crate::host::lock::GpuLock;
use crate::host::pci;
use crate::machine::{Policy, SmShare, Topology};

pub(super) const MODE: Mode =
    Mode { resolve, topology, one_process: false, live: Some(arrange), own_share: |_, _| true };

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

/// A tenant on a GPU of its own.
struct Separate {
    /// Of each seat, its GPU.
    gpus: Vec<Gpu>,
    /// Those beside the one under test.
    elsewhere: Vec<String>,
    /// The GPUs beside the one under test, which is locked already.
    _locks: Vec<GpuLock>,
}

/// Takes the GPUs: another run has none of them, and nobody is at work there.
fn arrange(site: &Site<'_>) -> Result<Box<dyn Arranged>, BackendError> {
    let planned = site.planned;
    let (layout, seats) = (&planned.layout, &planned.seats);
    let found = Found {
        mode: planned.sharing,
        layout,
        seats,
        as_found: planned.as_found,
        inventory: site.inventory,
        gpu: site.gpu,
    };
    let uuids = assign(&found).map_err(|error| BackendError::arrangement(error.what))?;
    let mut locks = Vec::new();
    let elsewhere: Vec<String> = uuids.iter().filter(|uuid| **uuid != site.gpu().uuid).cloned().collect();
    for uuid in &elsewhere {
        let lock = GpuLock::acquire(uuid, site.inventory.provenance, None, &AtomicBool::new(false));
        locks.push(lock.map_err(|error| BackendError::arrangement(error.to_string()))?);
        site.watch.check_exclusive_on(uuid, &[])?;
    }
    let gpus = uuids.iter().filter_map(|uuid| site.inventory.gpus.iter().find(|g| g.uuid == *uuid).cloned()).collect();
    Ok(Box::new(Separate { gpus, elsewhere, _locks: locks }))
}

impl Arranged for Separate {
    fn place(&self, seat: usize) -> Place {
        Place::own(seat, self.gpus[seat].uuid.clone())
    }

    fn elsewhere(&self) -> Vec<String> {
        self.elsewhere.clone()
    }

    fn prove(&self, site: &Site<'_>, seats: &[SeatEvidence]) -> Result<Vec<String>, BackendError> {
        let pids: Vec<u32> = seats.iter().map(|seat| seat.pid).collect();
        let seen = |seat: &SeatEvidence| seat.device.as_ref().map(|device| device.uuid.to_ascii_lowercase());
        let mut proofs = Vec::new();
        for (n, a) in seats.iter().enumerate() {
            let own = &self.gpus[a.seat].uuid;
            if own != &site.gpu().uuid {
                site.watch.check_exclusive_on(own, &pids)?;
            }
            for b in &seats[n + 1..] {
                if seen(a) == seen(b) {
                    return Err(BackendError::arrangement(format!(
                        "seats {} and {} are on one GPU, {own}: separate GPUs were asked for",
                        a.seat, b.seat
                    )));
                }
                let way = match (&self.gpus[a.seat].pci, &self.gpus[b.seat].pci) {
                    (Some(a), Some(b)) => pci::common(Path::new("/sys"), a, b),
                    _ => None,
                };
                proofs.push(format!(
                    "seat {} is on {own} and seat {} on {}: {}",
                    a.seat,
                    b.seat,
                    self.gpus[b.seat].uuid,
                    way.map_or_else(
                        || "the machine does not tell how they are connected".to_owned(),
                        |w| w.to_string()
                    )
                ));
            }
        }
        Ok(proofs)
    }
}
