//! Tenants in MIG instances that are there: each a process that sees one MIG device, proved from both sides where both can be read. CUDA says
//! from inside which device the process has; NVML says from outside what that device is, and in which instance the
//! process is.

mod changed;

use self::changed::Changed;
use super::live::{Arranged, Place, Site};
use super::{Found, SharingError, devices};
use crate::backend::{BackendError, SeatEvidence};
use crate::gpu::{Gpu, Instance, Inventory, MigUuid, parse_mig_uuid};
use crate::nvml::Processes;
use crate::scenario::SharingMode;

/// What a mode promises of the instances of two seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Apart {
    /// Each seat has a GPU instance of its own.
    GpuInstances,
    /// Each seat has a compute instance of its own; some share their GPU instance.
    ComputeInstances,
    /// Seats of one layout entry share a device, and those of different ones a GPU instance never.
    Entries,
}

/// The instances as they are, and who is in which.
pub(super) struct Seated {
    apart: Apart,
    /// The instances of the GPU.
    there: Vec<Instance>,
    /// Of each seat, its instance.
    of_seat: Vec<Instance>,
    /// What is to be put back.
    changed: Option<Changed>,
}

/// Takes the instances that are there, where they are what the arrangement asks for. Where they are not, and the user lets
/// them be changed, those that it asks for are created.
///
/// # Errors
/// Where they are not there, and cannot or may not be created.
pub(super) fn arrange(site: &Site<'_>, apart: Apart) -> Result<Box<dyn Arranged>, BackendError> {
    let refused = |error: SharingError| BackendError::arrangement(error.what);
    let machine = site.watch.machine()?;
    let error = match take(site, &machine, apart)? {
        Ok(seated) => return Ok(Box::new(seated)),
        Err(error) => error,
    };
    // What was there when the run began is not created again: somebody else has taken it away.
    let was_there = devices(&found(site, site.inventory, site.gpu)).is_ok();
    if !site.allow_reconfigure || was_there {
        return Err(refused(error));
    }
    let changed = Changed::make(site, &machine.gpus[index_of(&machine.gpus, &site.gpu().uuid)?])?;
    let made = site.watch.machine().and_then(|machine| take(site, &machine, apart)?.map_err(refused));
    match made {
        Ok(seated) => Ok(Box::new(Seated { changed: Some(changed), ..seated })),
        Err(error) => Err(changed.undo(site, error)),
    }
}

fn found<'a>(site: &Site<'a>, inventory: &'a Inventory, gpu: usize) -> Found<'a> {
    let planned = site.planned;
    let (layout, seats) = (&planned.layout, &planned.seats);
    Found { mode: planned.sharing, layout, seats, as_found: planned.as_found, inventory, gpu }
}

/// The instances of `machine`, where they are what the arrangement asks for.
fn take(site: &Site<'_>, machine: &Inventory, apart: Apart) -> Result<Result<Seated, SharingError>, BackendError> {
    let gpu = index_of(&machine.gpus, &site.gpu().uuid)?;
    let there = machine.gpus[gpu].instances.clone();
    let seated = |uuids: Vec<String>| {
        let of_seat = uuids.iter().filter_map(|uuid| there.iter().find(|i| i.uuid == *uuid).cloned()).collect();
        Seated { apart, there: there.clone(), of_seat, changed: None }
    };
    Ok(devices(&found(site, machine, gpu)).map(seated))
}

fn index_of(gpus: &[Gpu], uuid: &str) -> Result<usize, BackendError> {
    gpus.iter()
        .position(|gpu| gpu.uuid == uuid)
        .ok_or_else(|| BackendError::device(format!("the driver lists GPU {uuid} no more")))
}

impl Arranged for Seated {
    fn place(&self, seat: usize) -> Place {
        Place::own(seat, self.of_seat[seat].uuid.clone())
    }

    fn prove(&self, site: &Site<'_>, seats: &[SeatEvidence]) -> Result<Vec<String>, BackendError> {
        let machine = site.watch.machine()?;
        let gpu = &machine.gpus[index_of(&machine.gpus, &site.gpu().uuid)?];
        same_layout(&self.there, &gpu.instances)?;
        let mut proofs = vec![format!("the layout of {} is {}", gpu.uuid, layout_words(&gpu.instances))];
        let processes = site.watch.processes_on(&gpu.uuid)?;
        for seat in seats {
            // A cap on SMs, as MPS has it, shows in what the tenant sees of its device.
            let entry = site.planned.seats.get(seat.seat).and_then(|s| site.planned.layout.get(s.entry));
            let capped = entry.is_some_and(|entry| entry.sms.is_some());
            proofs.push(in_place(seat, &self.of_seat[seat.seat], capped, &processes)?);
        }
        proofs.push(self.pairs(site, seats)?);
        Ok(proofs)
    }

    fn restore(&mut self, site: &Site<'_>) -> Result<(), BackendError> {
        let Some(changed) = &self.changed else { return Ok(()) };
        changed.put_back(site)?;
        self.changed = None;
        Ok(())
    }
}

impl Seated {
    /// That seats are as far apart as the mode promises, and as near.
    fn pairs(&self, site: &Site<'_>, seats: &[SeatEvidence]) -> Result<String, BackendError> {
        let entry = |seat: &SeatEvidence| site.planned.seats[seat.seat].entry;
        let mut together = 0;
        for (n, a) in seats.iter().enumerate() {
            for b in &seats[n + 1..] {
                let (one, other) = (&self.of_seat[a.seat], &self.of_seat[b.seat]);
                let device = one.uuid == other.uuid;
                let instance = one.shares_gpu_instance(other) || device;
                let wrong = match self.apart {
                    Apart::GpuInstances => instance,
                    Apart::ComputeInstances => device,
                    Apart::Entries => device != (entry(a) == entry(b)) || instance && !device,
                };
                if wrong {
                    return Err(BackendError::arrangement(format!(
                        "seats {} and {} are on {} and {}, which {} one GPU instance: {} asks otherwise",
                        site.planned.seats[a.seat].id,
                        site.planned.seats[b.seat].id,
                        one.uuid,
                        other.uuid,
                        if instance { "are in" } else { "are not in" },
                        site.planned.sharing,
                    )));
                }
                together += usize::from(instance);
            }
        }
        if seats.len() < 2 {
            return Ok("no other tenant is in any instance".to_owned());
        }
        if self.apart == Apart::ComputeInstances && together == 0 {
            return Err(BackendError::arrangement(
                "no two of these tenants share a GPU instance: nothing that compute instances share is tested",
            ));
        }
        Ok(match self.apart {
            Apart::GpuInstances => "no two tenants are in one GPU instance".to_owned(),
            Apart::ComputeInstances => {
                format!("each tenant has a compute instance of its own, and {together} pair(s) share a GPU instance")
            }
            Apart::Entries if site.planned.sharing == SharingMode::MigMps => {
                format!("{together} pair(s) of tenants share a MIG device, through MPS")
            }
            Apart::Entries => format!("{together} pair(s) of tenants share a MIG device, in turns"),
        })
    }
}

/// That the instances are still those that were there.
fn same_layout(before: &[Instance], now: &[Instance]) -> Result<(), BackendError> {
    let of = |all: &[Instance]| {
        let mut keys: Vec<_> = all
            .iter()
            .map(|i| (i.gpu_instance, i.compute_instance, i.uuid.clone(), i.profile.clone(), i.start, i.size))
            .collect();
        keys.sort();
        keys
    };
    if of(before) == of(now) {
        return Ok(());
    }
    Err(BackendError::arrangement(format!(
        "the MIG layout has changed since it was arranged: it was {}, and is {}; somebody else divides this GPU",
        layout_words(before),
        layout_words(now)
    )))
}

/// "3g.40gb at slice 4 (MIG-…) + …", or that there is none.
fn layout_words(instances: &[Instance]) -> String {
    let one = |i: &Instance| match i.uuid.as_str() {
        "" => format!("{} {} without a compute instance", i.profile, i.place()),
        uuid => format!("{} {} ({uuid})", i.profile, i.place()),
    };
    if instances.is_empty() { "empty".to_owned() } else { instances.iter().map(one).collect::<Vec<_>>().join(" + ") }
}

/// That the tenant of `seat` is in `instance`, by CUDA and by NVML. `capped`: it sees fewer SMs than are there.
fn in_place(
    seat: &SeatEvidence,
    instance: &Instance,
    capped: bool,
    processes: &Processes,
) -> Result<String, BackendError> {
    let wrong = |what: String| Err(BackendError::arrangement(format!("seat {}: {what}", seat.seat)));
    let Some(seen) = &seat.device else { return wrong(format!("it sees no device, and was given {}", instance.uuid)) };
    let old_form = matches!(parse_mig_uuid(&instance.uuid), Ok(MigUuid::Instance { .. }));
    if !old_form && !seen.uuid.eq_ignore_ascii_case(&instance.uuid) {
        return wrong(format!("it was given {} and is on {}", instance.uuid, seen.uuid));
    }
    if instance.sms.is_some_and(|sms| if capped { seen.sms > sms } else { seen.sms != sms }) {
        return wrong(format!(
            "it sees {} SMs, and {} has {}: it is on another device",
            seen.sms,
            instance.uuid,
            instance.sms.unwrap_or_default()
        ));
    }
    let listed = match (processes, instance.gpu_instance) {
        (Ok(all), Some(id)) => match all.iter().find(|p| p.pid == seat.pid) {
            Some(process) if process.gpu_instance.is_some_and(|other| other != id) => {
                return wrong(format!(
                    "the driver lists its process {} in GPU instance {}, and {} is GPU instance {id}",
                    seat.pid,
                    process.gpu_instance.unwrap_or_default(),
                    instance.uuid
                ));
            }
            Some(process) => process.gpu_instance.map(|_| id),
            None => None,
        },
        _ => None,
    };
    // A UUID of the old form is no UUID that CUDA tells from inside: NVML's list is the only proof.
    if old_form && listed.is_none() {
        return wrong(format!(
            "this driver names the instance {}, which a process cannot see from inside, and it does not list process {} in it: \
             nothing proves where the tenant is",
            instance.uuid, seat.pid
        ));
    }
    let id = |id: Option<u32>| id.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
    Ok(format!(
        "seat {} (pid {}) is on {}: {} {}, GPU instance {}, compute instance {}, {} SMs; by {}",
        seat.seat,
        seat.pid,
        instance.uuid,
        instance.profile,
        instance.place(),
        id(instance.gpu_instance),
        id(instance.compute_instance),
        seen.sms,
        match (listed.is_some(), processes) {
            (true, _) => "its CUDA context and the driver's list of processes".to_owned(),
            (false, Ok(_)) =>
                "its CUDA context alone: the driver does not say in which instance the process is".to_owned(),
            (false, Err(unknown)) => format!("its CUDA context alone: {unknown}"),
        }
    ))
}

#[cfg(test)]
mod tests;
