//! MIG: creating and destroying GPU instances and compute instances.

use std::fs::File;

use nvml_wrapper_sys::bindings::{
    nvmlComputeInstancePlacement_t, nvmlComputeInstanceProfileInfo_t, nvmlGpuInstancePlacement_t,
    nvmlGpuInstanceProfileInfo_v2_t,
};

use crosstalk::gpu::{MigProfile, named_uuid, place_layout};

use crate::entry::{Code, Out, entry_points};
use crate::instances::{instance, instance_handle, numbered, profile};
use crate::layout::{self, Compute, Instance, Made};
use crate::library::{Handle, Place, library, place};
use crate::parts::Part;
use crate::results;

/// Compute slices of the compute instance profile with this number: NVML_COMPUTE_INSTANCE_PROFILE_*.
const COMPUTE_SLICES: [u32; 8] = [1, 2, 3, 4, 7, 8, 6, 1];

/// The layout of a card as it is.
fn current(part: &Part, changes: u64) -> Made {
    let mut instances: Vec<Instance> = Vec::new();
    for device in part.devices.iter().flatten() {
        if instances.last().is_none_or(|last| last.id != device.gpu_instance) {
            let (id, profile, start) = (device.gpu_instance, device.parent.clone(), device.start);
            instances.push(Instance { id, profile, start, compute: Vec::new() });
        }
        let compute = Compute {
            id: device.compute_instance,
            slices: device.compute_slices,
            profile: device.compute_profile,
            start: device.compute_start,
            uuid: device.uuid.clone(),
        };
        if let (Some(last), false) = (instances.last_mut(), device.bare) {
            last.compute.push(compute);
        }
    }
    Made { changes, instances }
}

/// Whether a process holds a context in one of these compute domains.
fn in_use(card: Place, computes: &[usize]) -> bool {
    let part = card.part();
    let foreign = part.config.processes.iter().filter(|p| p.device.is_some());
    let device = |p: usize| part.devices.iter().flatten().nth(p).map(|d| d.compute);
    foreign.filter_map(|p| device(p.device?)).any(|c| computes.contains(&c))
        || card.gpu.with(|shared, _| {
            shared.reap(part.share);
            let mut held = shared.slots.iter().enumerate().filter(|(_, slot)| slot.pid != 0);
            held.any(|(context, _)| computes.contains(&(context / part.share.max(1))))
        })
}

/// Changes the layout of a card in MIG mode.
fn change<T>(card: Place, change: impl FnOnce(&Part, &mut Made) -> Result<T, Code>) -> Result<T, Code> {
    let part = card.part();
    if part.devices.is_none() {
        return Err(results::NOT_SUPPORTED);
    }
    if part.config.mig_locked {
        return Err(results::NO_PERMISSION);
    }
    let folder = &library()?.loaded.folder;
    let failed = |why: String| {
        eprintln!("crosstalk stand-in driver: {why}");
        results::UNKNOWN
    };
    let lock = File::create(folder.join("layout.lock")).map_err(|e| failed(e.to_string()))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).map_err(|e| failed(e.to_string()))?;
    let before = layout::read(folder, part.index).map_err(failed)?;
    let mut made = before.unwrap_or_else(|| current(part, 0));
    made.changes += 1;
    let result = change(part, &mut made)?;
    layout::write(folder, part.index, &made).map_err(failed)?;
    Ok(result)
}

/// Creates a GPU instance, at `wanted` or, as drivers choose, at the last place that is free.
fn create(card: Place, id: u32, wanted: Option<u32>) -> Result<u64, Code> {
    let all: Vec<usize> = (0..card.part().topology.computes.len()).collect();
    if in_use(card, &all) {
        // A driver divides what is free beside running work. The stand-in's state is that of one division.
        eprintln!("crosstalk stand-in driver: a GPU that is in use is not divided further here");
        return Err(results::IN_USE);
    }
    change(card, |part, made| {
        let data = profile(part, |p| p.id == id)?;
        let size = |name: &str| profile(part, |p| p.name == name).map_or(0, |p| p.size);
        let taken = |start: u32| {
            made.instances.iter().any(|i| i.start < start + data.size && start < i.start + size(&i.profile))
        };
        let mut free = data.starts.iter().copied().filter(|s| !taken(*s) && wanted.is_none_or(|w| w == *s));
        let start = match wanted {
            Some(wanted) if !data.starts.contains(&wanted) => return Err(results::INVALID_ARGUMENT),
            _ => free.next_back().ok_or(results::INSUFFICIENT_RESOURCES)?,
        };
        let names: Vec<&str> = made.instances.iter().map(|i| i.profile.as_str()).chain([data.name.as_str()]).collect();
        place_layout(&part.model, &names).map_err(|_| results::INSUFFICIENT_RESOURCES)?;
        // Ids are sparse, and those of another time are not to be relied on.
        let least = match data.slices {
            7.. => 0,
            3..=6 => 1,
            2 => 3,
            _ => 7,
        } + (made.changes % 5) as u32;
        let id = (least..).find(|id| made.instances.iter().all(|i| i.id != *id)).ok_or(results::UNKNOWN)?;
        made.instances.push(Instance { id, profile: data.name.clone(), start, compute: Vec::new() });
        Ok(instance_handle(part.index, id))
    })
}

/// A GPU instance of a layout.
fn made_instance(made: &mut Made, id: u32) -> Result<&mut Instance, Code> {
    made.instances.iter_mut().find(|i| i.id == id).ok_or(results::NOT_FOUND)
}

/// Creates a compute instance at `wanted`, or at the first place that is free.
fn create_compute(handle: u64, number: u32, wanted: Option<u32>) -> Result<u64, Code> {
    let (card, inside, id) = instance(handle)?;
    let most = inside.first().map_or(0, |d| d.gpu_slices);
    let slices = *COMPUTE_SLICES.get(number as usize).filter(|s| **s <= most).ok_or(results::NOT_SUPPORTED)?;
    let all: Vec<usize> = (0..card.part().topology.computes.len()).collect();
    if in_use(card, &all) {
        return Err(results::IN_USE);
    }
    change(card, |part, made| {
        let changes = made.changes;
        let instance = made_instance(made, id)?;
        let free = |start: u32| {
            start + slices <= most
                && instance.compute.iter().all(|c| start >= c.start + c.slices || c.start >= start + slices)
        };
        let wanted = wanted.filter(|_| !part.config.compute_places_ignored);
        let start = wanted.or_else(|| (0..most).find(|s| free(*s))).filter(|s| free(*s));
        let start = start.ok_or(results::INSUFFICIENT_RESOURCES)?;
        let id = (0..).find(|id| instance.compute.iter().all(|c| c.id != *id)).ok_or(results::UNKNOWN)?;
        let parts = [&part.index.to_string(), &part.model.id, &instance.profile, &changes.to_string()];
        let uuid = format!("MIG-{}", named_uuid("crosstalk stand-in gpu 1", &parts.map(String::as_str)));
        instance.compute.push(Compute { id, slices, profile: number, start, uuid });
        Ok(handle | 1 << 39 | u64::from(id) << 32)
    })
}

fn text<const N: usize>(text: &str) -> [std::ffi::c_char; N] {
    let mut chars = [0; N];
    for (place, byte) in chars.iter_mut().take(N - 1).zip(text.bytes()) {
        *place = byte as std::ffi::c_char;
    }
    chars
}

fn named(p: &MigProfile) -> nvmlGpuInstanceProfileInfo_v2_t {
    nvmlGpuInstanceProfileInfo_v2_t {
        version: size_of::<nvmlGpuInstanceProfileInfo_v2_t>() as u32 | 2 << 24,
        id: p.id,
        isP2pSupported: 0,
        sliceCount: p.slices,
        instanceCount: p.max,
        multiprocessorCount: p.sms.unwrap_or(0),
        copyEngineCount: p.copy_engines.unwrap_or(p.slices),
        decoderCount: p.decoders.unwrap_or(0),
        encoderCount: 0,
        jpegCount: p.jpeg.unwrap_or(0),
        ofaCount: p.ofa.unwrap_or(0),
        memorySizeMB: p.memory_mib.unwrap_or(0),
        name: text(&format!("MIG {}", p.name)),
    }
}

entry_points! {
    fn nvmlDeviceGetGpuInstanceProfileInfoV(device: Handle, number: u32, info: Out<nvmlGpuInstanceProfileInfo_v2_t>) {
        let found = named(numbered(place(device)?.card()?.part(), number)?);
        if info.get()?.version != found.version {
            return Err(results::ARGUMENT_VERSION_MISMATCH);
        }
        info.put(found)
    }

    fn nvmlDeviceCreateGpuInstance(device: Handle, id: u32, out: Out<u64>) {
        out.put(create(place(device)?.card()?, id, None)?)
    }

    fn nvmlDeviceCreateGpuInstanceWithPlacement(
        device: Handle,
        id: u32,
        at: Out<nvmlGpuInstancePlacement_t>,
        out: Out<u64>,
    ) {
        let at = at.get()?;
        let card = place(device)?.card()?;
        if profile(card.part(), |p| p.id == id)?.size != at.size {
            return Err(results::INVALID_ARGUMENT);
        }
        out.put(create(card, id, Some(at.start))?)
    }

    fn nvmlGpuInstanceDestroy(handle: u64) {
        let (card, inside, id) = instance(handle)?;
        if inside.iter().any(|d| !d.bare) {
            return Err(results::IN_USE);
        }
        change(card, |_, made| {
            made.instances.retain(|i| i.id != id);
            Ok(())
        })
    }

    fn nvmlGpuInstanceGetComputeInstanceProfileInfo(
        handle: u64,
        number: u32,
        _engine: u32,
        info: Out<nvmlComputeInstanceProfileInfo_t>,
    ) {
        let (_, inside, _) = instance(handle)?;
        let most = inside.first().map_or(0, |d| d.gpu_slices);
        let slices = *COMPUTE_SLICES.get(number as usize).ok_or(results::INVALID_ARGUMENT)?;
        if slices > most {
            return Err(results::NOT_SUPPORTED);
        }
        info.put(nvmlComputeInstanceProfileInfo_t {
            id: number,
            sliceCount: slices,
            instanceCount: most / slices,
            multiprocessorCount: 0,
            sharedCopyEngineCount: 0,
            sharedDecoderCount: 0,
            sharedEncoderCount: 0,
            sharedJpegCount: 0,
            sharedOfaCount: 0,
        })
    }

    fn nvmlGpuInstanceCreateComputeInstance(handle: u64, number: u32, out: Out<u64>) {
        out.put(create_compute(handle, number, None)?)
    }

    fn nvmlGpuInstanceCreateComputeInstanceWithPlacement(
        handle: u64,
        number: u32,
        at: Out<nvmlComputeInstancePlacement_t>,
        out: Out<u64>,
    ) {
        let at = at.get()?;
        if COMPUTE_SLICES.get(number as usize) != Some(&at.size) {
            return Err(results::INVALID_ARGUMENT);
        }
        out.put(create_compute(handle, number, Some(at.start))?)
    }

    fn nvmlComputeInstanceDestroy(handle: u64) {
        let (card, inside, id) = instance(handle & !(0xff << 32))?;
        let compute = (handle >> 32 & 0x7f) as u32;
        let found = inside.iter().find(|d| !d.bare && d.compute_instance == compute).ok_or(results::NOT_FOUND)?;
        if in_use(card, &[found.compute]) {
            return Err(results::IN_USE);
        }
        change(card, |_, made| {
            made_instance(made, id)?.compute.retain(|c| c.id != compute);
            Ok(())
        })
    }
}
