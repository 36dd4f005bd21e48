//! Dividing a GPU that is in MIG mode otherwise than it was found, setting another level of the time slice, and putting
//! back what was there.
//!
//! What was there is written down before the first change ([`Saved`]), so that whoever comes after a crash can put it
//! back. A layout is made by what differs: instances that are as wanted stay, so that a second attempt goes on where the
//! first one ended. The MIG mode is never changed.

mod announced;
mod compute;
mod level;
mod saved;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use announced::announced;
pub use compute::Compute;
pub use level::LevelSet;
pub use saved::{Former, Saved, SavedError, folders};

use crate::gpu::{Gpu, GpuModel, Instance, compute_part, place_layout};
use crate::nvml::{Divide, DriverProfile, GpuInstance, NvmlError, NvmlErrorKind};

/// How often an instance that is in use is tried to be destroyed, and how long apart.
const ATTEMPTS: usize = 30;
const BETWEEN: Duration = Duration::from_millis(100);

/// One GPU instance of a layout. Its ids and UUIDs are no part of it: the driver gives new ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Name of its profile ("3g.40gb").
    pub profile: String,
    /// First memory slice.
    pub start: u32,
    /// Memory slices.
    pub size: u32,
    /// Its compute instances.
    pub compute: Vec<Compute>,
}

impl Part {
    /// Whether both are one and the same GPU instance: profile and place.
    fn same_place(&self, other: &Self) -> bool {
        (&self.profile, self.start, self.size) == (&other.profile, other.start, other.size)
    }

    /// Whether `there` is this part, as far as this one says what it is to be.
    fn is(&self, there: &Self) -> bool {
        self.same_place(there) && compute::same(&self.compute, &there.compute)
    }

    /// The same but for profiles and places of compute instances.
    fn resembles(&self, there: &Self) -> bool {
        self.same_place(there) && compute::sizes(&self.compute) == compute::sizes(&there.compute)
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at slice {}", self.profile, self.start)?;
        match self.compute.as_slice() {
            [] => f.write_str(" without a compute instance"),
            // "3g.40gb" whose compute instance has 3 slices is filled by it.
            [one] if self.profile.split_once("g.").is_some_and(|(n, _)| n == one.slices.to_string()) => Ok(()),
            all => {
                let all: Vec<String> = all.iter().map(ToString::to_string).collect();
                write!(f, " in {}", all.join(" + "))
            }
        }
    }
}

/// "3g.40gb at slice 4 + …", or that there is none.
pub fn words(parts: &[Part]) -> String {
    if parts.is_empty() {
        "none".to_owned()
    } else {
        parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ")
    }
}

/// A layout that could not be made, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ReconfigureError {
    /// In words.
    pub what: String,
}

impl ReconfigureError {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }

    /// `doing` failed.
    fn of(doing: &str, error: &NvmlError) -> Self {
        let cure = match error.kind {
            NvmlErrorKind::Permission => {
                "; dividing a GPU needs root, or access to /proc/driver/nvidia/capabilities/mig/config: run as root, or \
                 have the operator create the layout"
            }
            NvmlErrorKind::InUse => {
                "; something still uses it, perhaps a monitor that the driver does not list (`fuser -v /dev/nvidia*`): stop \
                 it first"
            }
            NvmlErrorKind::NoRoom => {
                "; an instance that lies elsewhere than its data say is in the way: this is about places and their order, \
                 not about capacity"
            }
            _ => "",
        };
        Self::new(format!("{doing}: {}{cure}", error.what))
    }
}

/// Where each GPU instance of a layout would lie on this model: given are the profile of each, and the compute slices of
/// its compute instances, or none for one that fills it.
///
/// # Errors
/// Where no order of creation makes the layout.
pub fn placed(model: &GpuModel, wanted: &[(String, Vec<u32>)]) -> Result<Vec<Part>, ReconfigureError> {
    let names: Vec<&str> = wanted.iter().map(|(profile, _)| profile.as_str()).collect();
    let placements = place_layout(model, &names).map_err(|e| ReconfigureError::new(e.to_string()))?;
    let part = |(place, (profile, compute)): (crate::gpu::Placement, &(String, Vec<u32>))| {
        let whole = || model.profile(profile).map(|p| p.slices);
        let slices: Vec<u32> = if compute.is_empty() { whole().into_iter().collect() } else { compute.clone() };
        let compute = slices.into_iter().map(Compute::of).collect();
        Part { profile: profile.clone(), start: place.start, size: place.size, compute }
    };
    Ok(placements.into_iter().zip(wanted).map(part).collect())
}

/// The layout of a GPU as the inventory has it; `None` where the driver keeps the places from this user.
pub fn found(gpu: &Gpu, model: &GpuModel) -> Option<Vec<Part>> {
    let mut parts: Vec<(Instance, Part)> = Vec::new();
    for instance in &gpu.instances {
        let whole = || (model.profile(&instance.profile).map(|p| p.slices), instance.profile.as_str());
        let (slices, profile) =
            compute_part(&instance.profile).map_or_else(whole, |(slices, profile)| (Some(slices), profile));
        let place = |slices| instance.compute_start.map(|start| (start, slices));
        let compute = |slices| Compute { slices, profile: None, place: place(slices) };
        let compute = if instance.uuid.is_empty() { Vec::new() } else { vec![compute(slices?)] };
        match parts.iter_mut().find(|(other, _)| other.shares_gpu_instance(instance)) {
            Some((_, part)) => part.compute.extend(compute),
            None => {
                let part = Part { profile: profile.to_owned(), start: instance.start?, size: instance.size?, compute };
                parts.push((instance.clone(), part));
            }
        }
    }
    Some(parts.into_iter().map(|(_, part)| part).collect())
}

/// The driver lets go of an instance a moment after its last process has ended.
fn once_free(destroy: impl Fn() -> Result<(), NvmlError>) -> Result<(), NvmlError> {
    let mut answer = destroy();
    for _ in 1..ATTEMPTS {
        if !answer.as_ref().is_err_and(|error| error.kind == NvmlErrorKind::InUse) {
            break;
        }
        std::thread::sleep(BETWEEN);
        answer = destroy();
    }
    answer
}

/// What of `there` is not in `target`, and what of `target` is not `there`.
pub fn difference(there: &[Part], target: &[Part]) -> (Vec<Part>, Vec<Part>) {
    let mut missing = target.to_vec();
    let mut surplus = Vec::new();
    for part in there {
        match missing.iter().position(|wanted| wanted.is(part)) {
            Some(at) => drop(missing.remove(at)),
            None => surplus.push(part.clone()),
        }
    }
    (surplus, missing)
}

/// The profiles of a device by name: the driver's, or where it tells none those of the model's data whose id and slices
/// agree. An id alone names nothing: it means other profiles on other models.
fn by_name(driver: &dyn Divide, model: Option<&GpuModel>) -> Result<BTreeMap<String, DriverProfile>, NvmlError> {
    let known = |profile: &DriverProfile| {
        let all = model.iter().filter_map(|m| m.mig.as_ref()).flat_map(|mig| &mig.profiles);
        all.into_iter().find(|p| p.id == profile.id && p.slices == profile.slices).map(|p| p.name.clone())
    };
    let named = |profile: DriverProfile| {
        let name = profile.name.clone().or_else(|| known(&profile));
        (name.unwrap_or_else(|| format!("profile {}", profile.id)), profile)
    };
    Ok(driver.profiles()?.into_iter().map(named).collect())
}

fn part_of(instance: &GpuInstance, names: &BTreeMap<String, DriverProfile>) -> Part {
    let name = names.iter().find(|(_, profile)| profile.id == instance.profile).map(|(name, _)| name.clone());
    Part {
        profile: name.unwrap_or_else(|| format!("profile {}", instance.profile)),
        start: instance.start,
        size: instance.size,
        compute: instance.compute.iter().map(Compute::from).collect(),
    }
}

/// The layout that is there.
///
/// # Errors
/// Where the driver keeps it from this user.
pub fn read(driver: &dyn Divide, model: Option<&GpuModel>) -> Result<Vec<Part>, ReconfigureError> {
    let read = || {
        let names = by_name(driver, model)?;
        Ok(driver.there()?.iter().map(|instance| part_of(instance, &names)).collect())
    };
    read().map_err(|error: NvmlError| ReconfigureError::of("reading the MIG layout", &error))
}

/// Makes the layout `target` by what differs from it, largest first, and compares what is there then: what the driver made
/// otherwise of compute instances than it was asked, a line each. Only instances at a place of `ours` are destroyed.
///
/// # Errors
/// Where an instance is in the way that is none of `ours`, the driver refuses a step, or the outcome is another layout.
/// What was done until then stays.
pub fn make(
    driver: &dyn Divide,
    model: Option<&GpuModel>,
    target: &[Part],
    ours: &[&[Part]],
) -> Result<Vec<String>, ReconfigureError> {
    let nvml = |doing: String| move |error: NvmlError| ReconfigureError::of(&doing, &error);
    let names = by_name(driver, model).map_err(nvml("reading the MIG profiles".to_owned()))?;
    let instances = driver.there().map_err(nvml("reading the MIG layout".to_owned()))?;
    let mut missing = target.to_vec();
    let mut surplus = Vec::new();
    for instance in instances {
        let part = part_of(&instance, &names);
        match missing.iter().position(|wanted| wanted.is(&part)) {
            Some(at) => drop(missing.remove(at)),
            None => surplus.push((instance, part)),
        }
    }
    let is_ours = |part: &Part| ours.iter().flat_map(|parts| parts.iter()).any(|own| own.same_place(part));
    if let Some((instance, part)) = surplus.iter().find(|(_, part)| !is_ours(part)) {
        return Err(ReconfigureError::new(format!(
            "GPU instance {} ({part}) was neither there before nor made by crosstalk, and is left alone: whoever made it must \
             remove it (`nvidia-smi mig -dci -gi {}; nvidia-smi mig -dgi -gi {}`)",
            instance.id, instance.id, instance.id
        )));
    }
    // Profiles and places are looked up before anything is destroyed.
    missing.sort_by_key(|part| (std::cmp::Reverse(part.size), part.start));
    let mut creations = Vec::new();
    for part in &missing {
        let profile = names.get(&part.profile).ok_or_else(|| {
            let there: Vec<&str> = names.keys().map(String::as_str).collect();
            ReconfigureError::new(format!("this GPU has no profile {:?}; it has {}", part.profile, there.join(", ")))
        })?;
        let place = (part.start, part.size);
        let places = driver.placements(profile.id).map_err(nvml(format!("reading the places of {}", part.profile)))?;
        if !places.contains(&place) {
            return Err(ReconfigureError::new(format!(
                "{part} is no place that the driver has for it ({})",
                places.iter().map(|(start, size)| format!("{start}:{size}")).collect::<Vec<_>>().join(", ")
            )));
        }
        creations.push((part, profile.id, place));
    }
    for (instance, part) in &surplus {
        for compute in instance.compute.iter().rev() {
            once_free(|| driver.destroy_compute(instance.id, compute.id)).map_err(nvml(format!(
                "destroying compute instance {} of GPU instance {} ({part})",
                compute.id, instance.id
            )))?;
        }
        once_free(|| driver.destroy(instance.id))
            .map_err(nvml(format!("destroying GPU instance {} ({part})", instance.id)))?;
    }
    for (part, profile, place) in creations {
        let id = driver.create(profile, place).map_err(nvml(format!("creating {part}")))?;
        for one in compute::in_order(&part.compute) {
            driver
                .create_compute(id, one.slices, one.profile, one.place)
                .map_err(nvml(format!("creating a compute instance of {} slice(s) in {part}", one.slices)))?;
        }
    }
    let now = read(driver, model)?;
    let (mut surplus, missing) = difference(&now, target);
    let mut otherwise = Vec::new();
    for wanted in &missing {
        if let Some(at) = surplus.iter().position(|part| wanted.resembles(part)) {
            otherwise.push(format!(
                "{wanted} is now {}: the driver placed its compute instances itself",
                surplus.remove(at)
            ));
        }
    }
    match surplus.is_empty() && otherwise.len() == missing.len() {
        true => Ok(otherwise),
        false => Err(ReconfigureError::new(format!(
            "the driver took every step, and the layout is {}, where {} was wanted",
            words(&now),
            words(target)
        ))),
    }
}

/// What became of the MIG devices that were there before: those with another UUID or id now, a line each.
pub fn renamed(before: &Gpu, now: &Gpu) -> Vec<String> {
    let place = |i: &Instance| (i.profile.clone(), i.start, i.size);
    let same_start = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
    let same = |a: &Instance, b: &Instance| place(a) == place(b) && same_start(a.compute_start, b.compute_start);
    let mut left: Vec<&Instance> = now.instances.iter().collect();
    // Those that kept their names first: of two alike, the other one is new.
    let kept = |i: &Instance, left: &[&Instance]| left.iter().position(|n| n.uuid == i.uuid && same(n, i));
    let mut lines = Vec::new();
    let mut changed = Vec::new();
    for instance in &before.instances {
        match kept(instance, &left) {
            Some(at) => drop(left.remove(at)),
            None => changed.push(instance),
        }
    }
    for instance in changed {
        let id = |i: &Instance| i.gpu_instance.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
        let was =
            format!("{} {}: {}, GPU instance {}", instance.profile, instance.place(), instance.uuid, id(instance));
        let there = left.iter().position(|n| same(n, instance));
        match there.or_else(|| left.iter().position(|n| place(n) == place(instance))) {
            Some(at) => {
                let now = left.remove(at);
                let mut line = format!("{was} is now {}, GPU instance {}", now.uuid, id(now));
                if let (Some(was), Some(is)) = (instance.compute_start, now.compute_start)
                    && was != is
                {
                    line.push_str(&format!(", at compute slice {is} of it where it was at {was}"));
                }
                lines.push(line);
            }
            None => lines.push(format!("{was} is gone")),
        }
    }
    lines
}

#[cfg(test)]
mod tests;
