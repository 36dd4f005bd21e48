//! Separate GPUs: a GPU of the same model for each tenant, the reference. Only the host is shared.

use super::flat::{self, PLAIN};
use super::tree::Tree;
use super::{Mode, Request, Resolved, Seating, SharingError};
use crate::machine::{Policy, SmShare, Topology};

pub(super) const MODE: Mode = Mode { resolve, topology, one_process: false, live: None, own_share: |_, _| true };

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
