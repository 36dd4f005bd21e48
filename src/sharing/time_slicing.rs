//! Time-slicing: processes take turns on the whole GPU. Memory is shared, with no limit per tenant.

use super::Mode;
use super::flat;
use super::live::{Arranged, Place, Site, one_device};
use crate::backend::{BackendError, SeatEvidence};
use crate::machine::{Policy, SmShare};
use crate::nvml::{set_time_slice_words, time_slice};
use crate::reconfigure::LevelSet;
use crate::scenario::TimeSlice;

pub(super) const MODE: Mode = Mode {
    resolve: |r| flat::alike(r, "whole GPU in turns"),
    topology: |s| Ok(flat::whole_gpu(s, Policy::TimeSliced, false, |_, _| SmShare::All)),
    one_process: false,
    live: Some(arrange),
    own_share: |_, _| false,
};

/// Processes of their own on one device.
struct InTurns {
    device: String,
    /// The level of the time slice as it was found, or why it is not known.
    found: Result<TimeSlice, String>,
    /// The level that the arrangement asks for.
    asked: Option<TimeSlice>,
    /// What is to be put back.
    changed: Option<LevelSet>,
}

fn arrange(site: &Site<'_>) -> Result<Box<dyn Arranged>, BackendError> {
    let device = site.gpu().uuid.clone();
    let (found, asked) = (time_slice(&device), site.planned.time_slice);
    let changed = asked.map_or(Ok(None), |asked| set(site, &found, asked))?;
    Ok(Box::new(InTurns { device, found, asked, changed }))
}

/// Sets the level `asked`, where it is not there and may be set: what is to be put back then.
fn set(site: &Site<'_>, found: &Result<TimeSlice, String>, asked: TimeSlice) -> Result<Option<LevelSet>, BackendError> {
    let (refused, uuid) = (|what: String| BackendError::arrangement(what), &site.gpu().uuid);
    if site.gpu().mig == Some(true) {
        return Err(refused(format!("GPU {uuid} is in MIG mode, where the driver has no time-slice level")));
    }
    let found = match found {
        Ok(found) if *found == asked => return Ok(None),
        Ok(found) => *found,
        Err(why) => {
            return Err(refused(format!(
                "the time-slice level of GPU {uuid} is not known, so that none is set that could not be put back: {why}"
            )));
        }
    };
    if !site.allow_reconfigure {
        return Err(refused(format!(
            "the time-slice level of GPU {uuid} is {found}, and this arrangement asks for {asked}: set it (`{}`, as root), or \
             let --allow-reconfigure set it for the run",
            set_time_slice_words(uuid, asked)
        )));
    }
    let changed =
        LevelSet::written(uuid, found, asked, site.inventory.provenance).map_err(|error| refused(error.what))?;
    match changed.set() {
        Ok(()) => Ok(Some(changed)),
        Err(error) => Err(match put_back(&changed, uuid) {
            Ok(()) => refused(error.what),
            Err(stuck) => BackendError::device(format!("{}; and {}", error.what, stuck.what)),
        }),
    }
}

fn put_back(changed: &LevelSet, uuid: &str) -> Result<(), BackendError> {
    changed.put_back().map_err(|error| {
        BackendError::device(format!(
            "the time-slice level of GPU {uuid} is not put back: {error}; `crosstalk restore` tries again"
        ))
    })
}

impl InTurns {
    /// The level now, where the arrangement asks for one; else as it was found.
    fn level(&self) -> Result<String, BackendError> {
        let device = &self.device;
        let Some(asked) = self.asked else {
            return Ok(match &self.found {
                Ok(level) => format!("the time-slice level of {device} is {level}, by nvidia-smi compute-policy"),
                Err(why) => format!("the time-slice level of {device} is not known: {why}"),
            });
        };
        let now = time_slice(device).map_err(|why| {
            BackendError::arrangement(format!("the time-slice level of {device}, {asked}, cannot be read back: {why}"))
        })?;
        if now != asked {
            return Err(BackendError::arrangement(format!(
                "the time-slice level of {device} is {now} where {asked} was set: somebody else has set it since"
            )));
        }
        let was = match (&self.changed, &self.found) {
            (Some(_), Ok(found)) => format!("; it was {found}, and was set for this arrangement"),
            _ => "; it was so before".to_owned(),
        };
        Ok(format!("the time-slice level of {device} is {now}, by nvidia-smi compute-policy{was}"))
    }
}

impl Arranged for InTurns {
    fn place(&self, seat: usize) -> Place {
        Place::own(seat, &*self.device)
    }

    fn prove(&self, _site: &Site<'_>, seats: &[SeatEvidence]) -> Result<Vec<String>, BackendError> {
        Ok(vec![one_device(seats)?, self.level()?])
    }

    fn restore(&mut self, _site: &Site<'_>) -> Result<(), BackendError> {
        let Some(changed) = &self.changed else { return Ok(()) };
        put_back(changed, &self.device)?;
        self.changed = None;
        Ok(())
    }
}
