//! Time-slicing: processes take turns on the whole GPU. Memory is shared, with no limit per tenant.

use super::Mode;
use super::flat;
use super::live::{Arranged, Place, Site, one_device};
use crate::backend::{BackendError, SeatEvidence};
use crate::machine::{Policy, SmShare};

pub(super) const MODE: Mode = Mode {
    resolve: |r| flat::alike(r, "whole GPU in turns"),
    topology: |s| Ok(flat::whole_gpu(s, Policy::TimeSliced, false, |_, _| SmShare::All)),
    one_process: false,
    live: Some(|site| Ok(Box::new(InTurns { device: site.gpu().uuid.clone() }))),
    own_share: |_, _| false,
};

/// Processes of their own on one device.
struct InTurns {
    device: String,
}

impl Arranged for InTurns {
    fn place(&self, seat: usize) -> Place {
        Place::own(seat, &*self.device)
    }

    fn prove(&self, _site: &Site<'_>, seats: &[SeatEvidence]) -> Result<Vec<String>, BackendError> {
        Ok(vec![one_device(seats)?])
    }
}
