//! Compute instances: tenants with SMs of their own inside one GPU instance, whose memory, bandwidth, L2 and copy
//! engines they share.
//!
//! An entry names a compute instance ("2c.3g.40gb"; consecutive entries of one GPU instance fill it before the next
//! one begins), or a GPU instance that its `tenants` divide equally ("3g.40gb" with three tenants is three times 1c).

use super::flat::{Keys, PLAIN, check_keys};
use super::instances::{self, profile};
use super::seated::{self, Apart};
use super::tree::Tree;
use super::{Found, Mode, Request, Resolved, Seating, SharingError};
use crate::gpu::{Gpu, GpuModel, Instance, MigProfile, compute_part, twins};
use crate::machine::{Policy, SmShare, Topology};
use crate::scenario::LayoutEntry;

/// Sizes of compute instances, in compute slices, that drivers offer.
const SIZES: &[u32] = &[1, 2, 3, 4, 7];

pub(super) const MODE: Mode = Mode {
    resolve,
    topology,
    one_process: false,
    live: Some(|site| seated::arrange(site, Apart::ComputeInstances)),
    own_share: |_, _| false,
};

/// One GPU instance and the compute slices of its compute instances, in the order of the seats.
struct Group<'m> {
    profile: &'m MigProfile,
    slices: Vec<u32>,
}

fn resolve(request: &Request<'_>) -> Result<Resolved, SharingError> {
    let layout = match request.layout {
        None => as_found(request)?,
        Some(layout) => {
            check_keys(request.mode, layout, Keys { profile: true, ..Keys::default() })?;
            layout.to_vec()
        }
    };
    match request.model {
        Some(model) => {
            let groups = groups(&layout, model)?;
            let parents: Vec<&str> = groups.iter().map(|g| g.profile.name.as_str()).collect();
            instances::check_profiles(request, &parents)?;
            if groups.iter().all(|g| g.slices.len() < 2) {
                return Err(SharingError::new(
                    "no GPU instance of this layout holds two compute instances; write for example { profile = \"3g.40gb\", \
                     tenants = 2 }, or use sharing = \"mig\"",
                ));
            }
        }
        None if request.layout.is_some() => {
            return Err(SharingError::new(format!(
                "{} is no model that crosstalk knows, so compute instances can only be tested as found",
                request.gpu.name
            )));
        }
        None => {}
    }
    let seats = instances::seats(&layout, |e| e.profile.clone().unwrap_or_default());
    let share = |entry: &LayoutEntry| match request.model {
        Some(model) => share(entry, model),
        None => entry.profile.clone().unwrap_or_default(),
    };
    let seats = seats.into_iter().map(|mut seat| {
        seat.share = share(&layout[seat.entry]);
        seat
    });
    let seats = seats.collect();
    Ok((layout, seats))
}

/// The compute instances of the GPU that have another one beside them, those of one GPU instance side by side. One that is
/// alone in its GPU instance is plain MIG.
fn as_found(request: &Request<'_>) -> Result<Vec<LayoutEntry>, SharingError> {
    let found = instances::instances_found(request.gpu, request.model)?;
    let beside = beside_another(found);
    if beside.is_empty() {
        return Err(SharingError::new(
            "no GPU instance here holds two compute instances; use sharing = \"mig\", or write a layout such as \
             [{ profile = \"3g.40gb\", tenants = 2 }]",
        ));
    }
    Ok(beside.into_iter().map(|i| LayoutEntry { profile: Some(found[i].profile.clone()), ..PLAIN }).collect())
}

/// Indices of the instances in the order of their GPU instances, so that those of one stand together.
fn side_by_side(found: &[Instance]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_by_key(|i| (found[*i].start, found[*i].gpu_instance, found[*i].compute_instance));
    order
}

/// Those of them that have another one in their GPU instance.
fn beside_another(found: &[Instance]) -> Vec<usize> {
    let mut order = side_by_side(found);
    order.retain(|i| found.iter().filter(|other| other.shares_gpu_instance(&found[*i])).count() > 1);
    order
}

/// The compute instance of each seat, as an index: each GPU instance of the layout takes one that is divided as it says.
pub(super) fn assign(found: &Found<'_>, gpu: &Gpu, model: Option<&GpuModel>) -> Result<Vec<usize>, SharingError> {
    let there = instances::instances_found(gpu, model)?;
    let order = side_by_side(there);
    let beside = beside_another(there);
    let one_by_one = beside.iter().map(|i| there[*i].profile.as_str());
    if found.as_found && one_by_one.eq(found.seats.iter().map(|seat| seat.share.as_str())) {
        return Ok(beside);
    }
    let not_there = || instances::not_there(found, there);
    let mut gpu_instances: Vec<Vec<usize>> = Vec::new();
    for at in order {
        match gpu_instances.last_mut() {
            Some(last) if there[last[0]].shares_gpu_instance(&there[at]) => last.push(at),
            _ => gpu_instances.push(vec![at]),
        }
    }
    let mut assigned = Vec::with_capacity(found.seats.len());
    for group in groups(found.layout, model.ok_or_else(not_there)?)? {
        let mut wanted = group.names();
        let names = |inside: &Vec<usize>| inside.iter().map(|i| there[*i].profile.clone()).collect::<Vec<_>>();
        let mut sorted = wanted.clone();
        sorted.sort();
        let fits = |inside: &Vec<usize>| {
            let mut names = names(inside);
            names.sort();
            names == sorted
        };
        let mut inside = gpu_instances.remove(gpu_instances.iter().position(fits).ok_or_else(not_there)?);
        for name in wanted.drain(..) {
            let at = inside.iter().position(|i| there[*i].profile == name).ok_or_else(not_there)?;
            assigned.push(inside.remove(at));
        }
    }
    if !gpu_instances.is_empty() || assigned.len() != found.seats.len() {
        return Err(not_there());
    }
    Ok(assigned)
}

/// The GPU instances of a layout, each with the slices of its compute instances.
pub(super) fn gpu_instances(layout: &[LayoutEntry], model: &GpuModel) -> Result<Vec<(String, Vec<u32>)>, SharingError> {
    Ok(groups(layout, model)?.into_iter().map(|group| (group.profile.name.clone(), group.slices)).collect())
}

impl Group<'_> {
    /// Its compute instances as drivers name them: one that fills its GPU instance has that one's name.
    fn names(&self) -> Vec<String> {
        let name = |slices: &u32| match *slices == self.profile.slices {
            true => self.profile.name.clone(),
            false => format!("{slices}c.{}", self.profile.name),
        };
        self.slices.iter().map(name).collect()
    }
}

/// The largest GPU instance of a machine, divided between two tenants: what the simulator, which gives every arrangement
/// the layout that it asks for, makes of "as found" where each GPU instance holds one compute instance. `None` where two are
/// there, or none can be divided.
pub(super) fn divided(gpu: &Gpu, model: &GpuModel) -> Option<Vec<LayoutEntry>> {
    if twins(&gpu.instances).is_some() {
        return None;
    }
    let slices = |instance: &Instance| profile(model, &instance.profile).map_or(0, |p| p.slices);
    let largest = gpu.instances.iter().max_by_key(|instance| slices(instance)).filter(|i| slices(i) > 1)?;
    Some(vec![LayoutEntry { profile: Some(largest.profile.clone()), tenants: 2, ..PLAIN }])
}

/// "1c.3g.40gb": also for an entry that divides a GPU instance.
fn share(entry: &LayoutEntry, model: &GpuModel) -> String {
    let name = entry.profile.as_deref().unwrap_or_default();
    match (compute_part(name), profile(model, name)) {
        (None, Ok(parent)) if entry.tenants > 1 => format!("{}c.{name}", even(parent, entry.tenants)),
        _ => name.to_owned(),
    }
}

/// Compute slices of each of `tenants` equal compute instances: the largest size that fits.
fn even(parent: &MigProfile, tenants: u32) -> u32 {
    SIZES.iter().copied().filter(|s| s * tenants <= parent.slices).max().unwrap_or(0)
}

/// The GPU instances of a layout with their compute instances.
fn groups<'m>(layout: &[LayoutEntry], model: &'m GpuModel) -> Result<Vec<Group<'m>>, SharingError> {
    instances::has_mig(model)?;
    let mut groups: Vec<Group<'m>> = Vec::new();
    // Whether the last group may take further compute instances: not if one entry divides it.
    let mut open = false;
    for (index, entry) in layout.iter().enumerate() {
        let name = entry.profile.as_deref().unwrap_or_default();
        let Some((slices, parent)) = compute_part(name) else {
            let parent = profile_or_nearest(model, name)?;
            let each = if entry.tenants == 1 { parent.slices } else { even(parent, entry.tenants) };
            if each == 0 {
                return Err(SharingError::new(format!(
                    "layout[{index}]: {name} has {} compute slice(s), too few for {} compute instances; at most that many \
                     tenants",
                    parent.slices, entry.tenants
                )));
            }
            groups.push(Group { profile: parent, slices: vec![each; entry.tenants as usize] });
            open = false;
            continue;
        };
        let parent = profile_or_nearest(model, parent)?;
        if slices > parent.slices || !SIZES.contains(&slices) {
            let legal: Vec<String> = SIZES.iter().filter(|s| **s <= parent.slices).map(|s| format!("{s}c")).collect();
            return Err(SharingError::new(format!(
                "layout[{index}]: {} has no compute instance {name:?}; it can hold {}",
                parent.name,
                legal.join(", ")
            )));
        }
        for _ in 0..entry.tenants {
            match groups.last_mut() {
                Some(last)
                    if open
                        && last.profile.name == parent.name
                        && last.slices.iter().sum::<u32>() + slices <= parent.slices =>
                {
                    last.slices.push(slices);
                }
                _ => groups.push(Group { profile: parent, slices: vec![slices] }),
            }
            open = true;
        }
    }
    Ok(groups)
}

/// The profile, or the layout checker's words about it.
fn profile_or_nearest<'m>(model: &'m GpuModel, name: &str) -> Result<&'m MigProfile, SharingError> {
    crate::gpu::place_layout(model, &[name])?;
    profile(model, name)
}

fn topology(seating: &Seating<'_>) -> Result<Topology, SharingError> {
    let mut tree = Tree::new(seating.model);
    let gpu = tree.gpu(true);
    let mut process = 0;
    for group in groups(seating.layout, seating.model)? {
        let domain = tree.instance(gpu, group.profile)?;
        for slices in group.slices {
            let compute = tree.compute(domain, sms(seating.model, group.profile, slices), Policy::TimeSliced);
            tree.context(compute, SmShare::All, process, None);
            process += 1;
        }
    }
    Ok(tree.done())
}

/// SMs of a compute instance: all of its GPU instance's, or as many as the one-slice profile has per compute slice
/// (an A100's 1c.3g.20gb has 14 of 42). What remains of a larger instance (an H100's 3g has 60, not 48) is idle.
fn sms(model: &GpuModel, parent: &MigProfile, slices: u32) -> Option<u32> {
    let whole = parent.sms?;
    if slices == parent.slices {
        return Some(whole);
    }
    let smallest = model.mig.iter().flat_map(|m| &m.profiles).filter(|p| p.slices == 1).min_by_key(|p| p.size)?;
    Some((slices * smallest.sms?).min(whole))
}
