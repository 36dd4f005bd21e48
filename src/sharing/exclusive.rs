//! Exclusive: the victim has the GPU for itself. Its neighbour runs its host loop only and submits nothing.

use super::flat::{self, Keys, PLAIN, check_keys};
use super::live::{Arranged, Place, Site};
use super::{Mode, Request, Resolved, SharingError};
use crate::backend::{BackendError, SeatEvidence};
use crate::machine::{Policy, SmShare};
use crate::plan::Seat;

/// The share of the neighbour.
pub(super) const HOST_LOOP: &str = "host loop only";

pub(super) const MODE: Mode = Mode {
    resolve,
    topology: |s| Ok(flat::whole_gpu(s, Policy::TimeSliced, false, |_, _| SmShare::All)),
    one_process: false,
    live: Some(|site| Ok(Box::new(Alone::of(site)))),
    own_share: |_, _| false,
};

fn resolve(request: &Request<'_>) -> Result<Resolved, SharingError> {
    if let Some(layout) = request.layout {
        check_keys(request.mode, layout, Keys::default())?;
        if layout.iter().map(|e| e.tenants).sum::<u32>() > 2 {
            return Err(SharingError::new(
                "exclusive has one tenant on the GPU and one neighbour without GPU work; leave the layout out, or use \
                 time-slicing for more tenants",
            ));
        }
    }
    let seat = |entry: usize, share: &str| Seat { id: entry.to_string(), share: share.to_owned(), entry };
    Ok((vec![PLAIN, PLAIN], vec![seat(0, "whole GPU"), seat(1, HOST_LOOP)]))
}

/// The GPU is one tenant's.
struct Alone {
    device: String,
    /// Seats that run their host loop only.
    off_gpu: Vec<bool>,
}

impl Alone {
    fn of(site: &Site<'_>) -> Self {
        let off_gpu = site.planned.seats.iter().map(|seat| seat.share == HOST_LOOP).collect();
        Self { device: site.gpu().uuid.clone(), off_gpu }
    }
}

impl Arranged for Alone {
    fn place(&self, seat: usize) -> Place {
        if self.off_gpu.get(seat) == Some(&true) { Place::off_gpu(seat) } else { Place::own(seat, &*self.device) }
    }

    fn prove(&self, _site: &Site<'_>, seats: &[SeatEvidence]) -> Result<Vec<String>, BackendError> {
        let on_gpu: Vec<&SeatEvidence> = seats.iter().filter(|seat| seat.device.is_some()).collect();
        match on_gpu.as_slice() {
            [one] => Ok(vec![format!("seat {} alone on {}", one.seat, self.device)]),
            others => Err(BackendError::arrangement(format!(
                "{} tenants are on the GPU, where one was to have it alone",
                others.len()
            ))),
        }
    }
}
