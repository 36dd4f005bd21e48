//! Exclusive: the victim has the GPU for itself. Its neighbour runs its host loop only and submits nothing.

use super::flat::{self, Keys, PLAIN, check_keys};
use super::{Mode, Request, Resolved, SharingError};
use crate::machine::{Policy, SmShare};
use crate::plan::Seat;

/// The share of the neighbour.
pub(super) const HOST_LOOP: &str = "host loop only";

pub(super) const MODE: Mode = Mode {
    resolve,
    topology: |s| Ok(flat::whole_gpu(s, Policy::TimeSliced, false, |_, _| SmShare::All)),
    one_process: false,
    live: true,
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
