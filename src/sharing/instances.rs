//! What the MIG modes have in common: layouts of GPU instances, and the messages where there are none.

use super::flat::{Keys, PLAIN, check_keys};
use super::tree::Tree;
use super::{Found, Request, Seating, SharingError};
use crate::gpu::{Gpu, GpuModel, Instance, MigProfile, compute_part, models, place_layout, twins};
use crate::machine::{Policy, SmShare, Topology};
use crate::plan::Seat;
use crate::scenario::{LayoutEntry, SharingMode};

/// The layout as written and legal, or the instances as found with `tenants` in each.
pub(super) fn layout(request: &Request<'_>, takes: Keys, tenants: u32) -> Result<Vec<LayoutEntry>, SharingError> {
    let Some(layout) = request.layout else {
        let found = as_found(request)?;
        return Ok(found.iter().map(|i| LayoutEntry { profile: Some(i.profile.clone()), tenants, ..PLAIN }).collect());
    };
    check_keys(request.mode, layout, Keys { profile: true, ..takes })?;
    let profiles: Vec<&str> = layout.iter().filter_map(|e| e.profile.as_deref()).collect();
    check_profiles(request, &profiles)?;
    Ok(layout.to_vec())
}

/// Whether these GPU instances can exist: by the model's data, or, on an unknown model, because they do.
pub(super) fn check_profiles(request: &Request<'_>, profiles: &[&str]) -> Result<(), SharingError> {
    if let Some(name) = profiles.iter().find(|p| compute_part(p).is_some()) {
        return Err(SharingError::new(format!(
            "{name:?} is a compute instance; under {} name the GPU instance, or use mig-compute-instances",
            request.mode
        )));
    }
    if let Some(model) = request.model {
        has_mig(model)?;
        place_layout(model, profiles)?;
        return Ok(());
    }
    let mut there: Vec<&str> = request.gpu.instances.iter().map(|i| i.profile.as_str()).collect();
    for profile in profiles {
        let Some(at) = there.iter().position(|p| p == profile) else {
            return Err(SharingError::new(format!(
                "{} is no model that crosstalk knows, so only the instances that are there can be used ({}), and {profile} is \
                 not among them",
                request.gpu.name,
                list(&request.gpu.instances)
            )));
        };
        there.remove(at);
    }
    Ok(())
}

/// Refuses a model without MIG.
pub(super) fn has_mig(model: &GpuModel) -> Result<(), SharingError> {
    if model.mig.is_some() {
        return Ok(());
    }
    let with: Vec<&str> = models().iter().filter(|m| m.mig.is_some()).map(|m| m.id.as_str()).collect();
    Err(SharingError::new(format!(
        "{} has no MIG; time-slicing and mps work there. Models with MIG: {}",
        model.name,
        with.join(", ")
    )))
}

/// The instances of the GPU, where they are GPU instances with one compute instance each.
fn as_found<'a>(request: &Request<'a>) -> Result<&'a [Instance], SharingError> {
    whole_instances(request.gpu, request.model)
}

/// The instances of a GPU, none of them unusable, and no two in one GPU instance.
fn whole_instances<'a>(gpu: &'a Gpu, model: Option<&GpuModel>) -> Result<&'a [Instance], SharingError> {
    let found = instances_found(gpu, model)?;
    if let Some((a, b)) = twins(found) {
        return Err(SharingError::new(format!(
            "{} and {} are two compute instances of one GPU instance: they share its memory, bandwidth, L2 and copy \
             engines. Use sharing = \"mig-compute-instances\" for them",
            a.uuid, b.uuid
        )));
    }
    Ok(found)
}

/// The instance of each seat, as an index: entries take the instances of their profile in the driver's order, and the
/// tenants of one entry share its instance. The layout is all that is there, and all of it is there.
pub(super) fn assign(found: &Found<'_>, gpu: &Gpu, model: Option<&GpuModel>) -> Result<Vec<usize>, SharingError> {
    let there = whole_instances(gpu, model)?;
    let mut free: Vec<usize> = (0..there.len()).collect();
    let mut of_entry = Vec::with_capacity(found.layout.len());
    for entry in found.layout {
        let profile = entry.profile.as_deref().unwrap_or_default();
        let Some(at) = free.iter().position(|i| there[*i].profile == profile) else {
            return Err(not_there(found, there));
        };
        of_entry.push(free.remove(at));
    }
    if !free.is_empty() {
        return Err(not_there(found, there));
    }
    found.seats.iter().map(|seat| of_entry.get(seat.entry).copied().ok_or_else(|| not_there(found, there))).collect()
}

/// A layout that is not the one that is there.
pub(super) fn not_there(found: &Found<'_>, there: &[Instance]) -> SharingError {
    let asked = found.layout.iter().map(|e| match (e.profile.as_deref().unwrap_or_default(), e.tenants) {
        (profile, tenants) if tenants > 1 && found.mode == SharingMode::MigComputeInstances => {
            format!("{profile} in {tenants}")
        }
        (profile, _) => profile.to_owned(),
    });
    let there = there.iter().map(|i| i.profile.clone());
    let joined = |names: &mut dyn Iterator<Item = String>| names.collect::<Vec<_>>().join(" + ");
    SharingError::new(format!(
        "the layout is {}, the scenario asks for {}",
        joined(&mut there.into_iter()),
        joined(&mut asked.into_iter())
    ))
}

/// The MIG devices of the GPU, none of them unusable.
pub(super) fn instances_found<'a>(gpu: &'a Gpu, model: Option<&GpuModel>) -> Result<&'a [Instance], SharingError> {
    if let Some(model) = model {
        has_mig(model)?;
    }
    if let Some(bare) = gpu.instances.iter().find(|i| i.uuid.is_empty()) {
        return Err(SharingError::new(format!(
            "the GPU instance {} {} has no compute instance, so no process can use it; create one with \
             `nvidia-smi mig -cci`",
            bare.profile,
            bare.place()
        )));
    }
    match (gpu.mig, gpu.instances.is_empty()) {
        (Some(true), false) => Ok(&gpu.instances),
        (Some(true), true) => Err(SharingError::new(format!(
            "MIG is on and {} has no GPU instance (`nvidia-smi mig -lgi`: none found; a layout that was applied with the \
             profile names of another model yields none); create some (`nvidia-smi mig -lgip` lists the profiles)",
            gpu.name
        ))),
        (Some(false), _) => Err(SharingError::new(format!(
            "MIG is off on {} ({}), so there are no instances to test as found; write a layout (the simulator turns MIG on \
             by itself), or have the operator turn it on",
            gpu.name, gpu.uuid
        ))),
        (None, _) => Err(SharingError::new(format!(
            "{} has no MIG, or its driver does not say; time-slicing and mps work without it",
            gpu.name
        ))),
    }
}

fn list(instances: &[Instance]) -> String {
    if instances.is_empty() {
        return "none".to_owned();
    }
    instances.iter().map(|i| i.profile.as_str()).collect::<Vec<_>>().join(", ")
}

/// The data of a profile.
pub(super) fn profile<'m>(model: &'m GpuModel, name: &str) -> Result<&'m MigProfile, SharingError> {
    has_mig(model)?;
    model.profile(name).ok_or_else(|| SharingError::new(format!("{} has no profile {name:?}", model.id)))
}

/// Seats "0", "1", and "0.0", "0.1" where an entry holds several tenants.
pub(super) fn seats(layout: &[LayoutEntry], share: impl Fn(&LayoutEntry) -> String) -> Vec<Seat> {
    let one = |(entry, e): (usize, &LayoutEntry)| {
        let share = share(e);
        (0..e.tenants)
            .map(move |n| Seat {
                id: if e.tenants > 1 { format!("{entry}.{n}") } else { entry.to_string() },
                share: share.clone(),
                entry,
            })
            .collect::<Vec<_>>()
    };
    layout.iter().enumerate().flat_map(one).collect()
}

/// A domain per layout entry, its tenants' contexts in it.
pub(super) fn topology(
    seating: &Seating<'_>,
    policy: Policy,
    // Process of a context from the indices of its seat and its layout entry.
    process: fn(usize, usize) -> usize,
    sms: fn(&LayoutEntry, u32) -> SmShare,
) -> Result<Topology, SharingError> {
    let mut tree = Tree::new(seating.model);
    let gpu = tree.gpu(true);
    let mut computes = Vec::new();
    for entry in seating.layout {
        let domain = tree.instance(gpu, profile(seating.model, entry.profile.as_deref().unwrap_or_default())?)?;
        computes.push(tree.compute(domain, None, policy));
    }
    for (index, seat) in seating.seats.iter().enumerate() {
        let entry = &seating.layout[seat.entry];
        let compute = computes[seat.entry];
        let share = sms(entry, tree.sms(compute));
        tree.context(compute, share, process(index, seat.entry), entry.memory.map(|m| m.0));
    }
    Ok(tree.done())
}
