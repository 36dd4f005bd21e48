//! Time-slicing: processes take turns on the whole GPU. Memory is shared, with no limit per tenant.

use super::Mode;
use super::flat;
use super::live::{Arranged, Place, Site, one_device};
use crate::backend::{BackendError, SeatEvidence};
use crate::machine::{Policy, SmShare};
use crate::nvml::{TimeSlice, time_slice};

pub(super) const MODE: Mode = Mode {
    resolve: |r| flat::alike(r, "whole GPU in turns"),
    topology: |s| Ok(flat::whole_gpu(s, Policy::TimeSliced, false, |_, _| SmShare::All)),
    one_process: false,
    live: Some(|site| {
        let device = site.gpu().uuid.clone();
        Ok(Box::new(InTurns { level: time_slice(&device), device }))
    }),
    own_share: |_, _| false,
};

/// Processes of their own on one device.
struct InTurns {
    device: String,
    /// The level of the time slice, or why it is not known.
    level: Result<TimeSlice, String>,
}

impl Arranged for InTurns {
    fn place(&self, seat: usize) -> Place {
        Place::own(seat, &*self.device)
    }

    fn prove(&self, _site: &Site<'_>, seats: &[SeatEvidence]) -> Result<Vec<String>, BackendError> {
        let level = match &self.level {
            Ok(level) => format!("the time-slice level of {} is {level}, by nvidia-smi compute-policy", self.device),
            Err(why) => format!("the time-slice level of {} is not known: {why}", self.device),
        };
        Ok(vec![one_device(seats)?, level])
    }
}
