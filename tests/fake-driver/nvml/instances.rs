//! MIG: its mode, devices, GPU instances, compute instances, profiles and placements.

use nvml_wrapper_sys::bindings::{
    nvmlComputeInstanceInfo_t, nvmlComputeInstancePlacement_t, nvmlDevice_t, nvmlDeviceAttributes_t, nvmlGpuInstance_t,
    nvmlGpuInstanceInfo_t, nvmlGpuInstancePlacement_t, nvmlGpuInstanceProfileInfo_t,
};

use crosstalk::gpu::MigProfile;

use crate::entry::{Code, Out, entry_points};
use crate::library::{Handle, Place, handle, place};
use crate::parts::{MigDevice, Part};
use crate::results;
use crate::state::Device;

/// The data of a profile of the part.
pub(crate) fn profile(part: &Part, wanted: impl Fn(&MigProfile) -> bool) -> Result<&MigProfile, Code> {
    part.model.mig.iter().flat_map(|m| &m.profiles).find(|p| wanted(p)).ok_or(results::NOT_SUPPORTED)
}

/// The profile that NVML_GPU_INSTANCE_PROFILE_* means.
pub(crate) fn numbered(part: &Part, number: u32) -> Result<&MigProfile, Code> {
    let (slices, special) = match number {
        0 => (1, ""),
        1 => (2, ""),
        2 => (3, ""),
        3 => (4, ""),
        4 => (7, ""),
        5 => (8, ""),
        6 => (6, ""),
        7 => (1, "+me"),
        8 => (2, "+me"),
        9 => (1, "double"),
        10 => (1, "+gfx"),
        11 => (2, "+gfx"),
        12 => (4, "+gfx"),
        13 => (1, "-me"),
        14 => (2, "-me"),
        15 => (1, "+me.all"),
        16 => (2, "+me.all"),
        _ => return Err(results::NOT_SUPPORTED),
    };
    let least = part.model.mig.iter().flat_map(|m| &m.profiles).filter(|p| p.slices == slices).map(|p| p.size).min();
    profile(part, |p| {
        let kind = if let Some(at) = p.name.find(['+', '-']) {
            &p.name[at..]
        } else if slices == 1 && Some(p.size) > least {
            "double"
        } else {
            ""
        };
        p.slices == slices && kind == special
    })
}

/// The handle of a GPU instance: that of its card, and its id.
pub(crate) fn instance_handle(gpu: usize, id: u32) -> u64 {
    1 << 40 | (gpu as u64) << 16 | u64::from(id)
}

/// The card of a GPU instance's handle, and the devices of the instance.
pub(crate) fn instance(handle: u64) -> Result<(Place, Vec<&'static MigDevice>, u32), Code> {
    if handle >> 40 != 1 {
        return Err(results::INVALID_ARGUMENT);
    }
    let card = place(crate::library::handle((handle >> 16 & 0xffff) as usize, None))?;
    let id = (handle & 0xffff) as u32;
    let inside: Vec<_> = card.part().devices.iter().flatten().filter(|d| d.gpu_instance == id).collect();
    if inside.is_empty() { Err(results::NOT_FOUND) } else { Ok((card, inside, id)) }
}

fn mig(device: Handle) -> Result<&'static MigDevice, Code> {
    place(device)?.mig.map(|(_, mig)| mig).ok_or(results::INVALID_ARGUMENT)
}

/// The handle of the card as bindgen types it.
fn pointer(gpu: &Device) -> nvmlDevice_t {
    handle(gpu.part.index, None) as usize as nvmlDevice_t
}

/// A list of handles, the way that the instance calls write one: there is room for all that can exist.
fn handles(found: &[u64], out: Out<u64>, count: Out<u32>) -> Result<(), Code> {
    if !found.is_empty() {
        out.put_all(found.iter().copied())?;
    }
    count.put(found.len() as u32)
}

entry_points! {
    fn nvmlDeviceGetMigMode(device: Handle, now: Out<u32>, pending: Out<u32>) {
        let part = place(device)?.card()?.part();
        part.model.mig.as_ref().ok_or(results::NOT_SUPPORTED)?;
        let on = u32::from(part.devices.is_some());
        now.put(on)?;
        pending.put(if part.config.mig_pending_off { 0 } else { on })
    }

    fn nvmlDeviceGetMaxMigDeviceCount(device: Handle, count: Out<u32>) {
        let part = place(device)?.card()?.part();
        count.put(part.model.mig.as_ref().map_or(0, |m| m.compute_slices))
    }

    fn nvmlDeviceGetMigDeviceHandleByIndex(device: Handle, index: u32, out: Out<Handle>) {
        let part = place(device)?.card()?.part();
        part.mig_devices().nth(index as usize).ok_or(results::NOT_FOUND)?;
        out.put(handle(part.index, Some(index as usize)))
    }

    fn nvmlDeviceIsMigDeviceHandle(device: Handle, is: Out<u32>) {
        is.put(u32::from(place(device)?.mig.is_some()))
    }

    fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device: Handle, parent: Out<Handle>) {
        mig(device)?;
        parent.put(handle(place(device)?.part().index, None))
    }

    fn nvmlDeviceGetGpuInstanceId(device: Handle, id: Out<u32>) {
        id.put(mig(device)?.gpu_instance)
    }

    fn nvmlDeviceGetComputeInstanceId(device: Handle, id: Out<u32>) {
        id.put(mig(device)?.compute_instance)
    }

    fn nvmlDeviceGetAttributes_v2(device: Handle, attributes: Out<nvmlDeviceAttributes_t>) {
        let mig = mig(device)?;
        let part = place(device)?.part();
        let data = profile(part, |p| p.name == mig.parent)?;
        let sms = part.topology.computes.get(mig.compute).map_or(0, |c| c.sms);
        attributes.put(nvmlDeviceAttributes_t {
            multiprocessorCount: sms,
            sharedCopyEngineCount: data.copy_engines.unwrap_or(data.slices),
            sharedDecoderCount: data.decoders.unwrap_or(0),
            sharedEncoderCount: 0,
            sharedJpegCount: data.jpeg.unwrap_or(0),
            sharedOfaCount: data.ofa.unwrap_or(0),
            gpuInstanceSliceCount: mig.gpu_slices,
            computeInstanceSliceCount: mig.compute_slices,
            memorySizeMB: part.memory(mig.compute) >> 20,
        })
    }

    fn nvmlDeviceGetGpuInstanceProfileInfo(device: Handle, number: u32, info: Out<nvmlGpuInstanceProfileInfo_t>) {
        let part = place(device)?.card()?.part();
        let p = numbered(part, number)?;
        info.put(nvmlGpuInstanceProfileInfo_t {
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
        })
    }

    fn nvmlDeviceGetGpuInstancePossiblePlacements_v2(
        device: Handle,
        id: u32,
        placements: Out<nvmlGpuInstancePlacement_t>,
        count: Out<u32>,
    ) {
        let part = place(device)?.card()?.part();
        let p = profile(part, |p| p.id == id)?;
        if !placements.is_null() {
            placements.put_all(p.starts.iter().map(|s| nvmlGpuInstancePlacement_t { start: *s, size: p.size }))?;
        }
        count.put(p.starts.len() as u32)
    }

    fn nvmlDeviceGetGpuInstanceRemainingCapacity(device: Handle, id: u32, count: Out<u32>) {
        let part = place(device)?.card()?.part();
        let p = profile(part, |p| p.id == id)?;
        let taken = |start: u32| {
            part.devices.iter().flatten().any(|d| d.start < start + p.size && start < d.start + d.size)
        };
        let mut free = 0;
        let mut from = 0;
        for start in &p.starts {
            if *start >= from && !taken(*start) {
                free += 1;
                from = start + p.size;
            }
        }
        count.put(free)
    }

    fn nvmlDeviceGetGpuInstances(device: Handle, id: u32, instances: Out<u64>, count: Out<u32>) {
        let part = place(device)?.card()?.part();
        let devices = part.devices.as_ref().ok_or(results::NOT_SUPPORTED)?;
        let mut ids: Vec<u32> = devices.iter().filter(|d| d.profile_id == id).map(|d| d.gpu_instance).collect();
        ids.dedup();
        let found: Vec<u64> = ids.into_iter().map(|id| instance_handle(part.index, id)).collect();
        handles(&found, instances, count)
    }

    fn nvmlDeviceGetGpuInstanceById(device: Handle, id: u32, out: Out<u64>) {
        let part = place(device)?.card()?.part();
        let found = instance_handle(part.index, id);
        instance(found)?;
        out.put(found)
    }

    fn nvmlGpuInstanceGetInfo(handle: u64, info: Out<nvmlGpuInstanceInfo_t>) {
        let (card, inside, id) = instance(handle)?;
        let first = inside.first().ok_or(results::NOT_FOUND)?;
        info.put(nvmlGpuInstanceInfo_t {
            device: pointer(card.gpu),
            id,
            profileId: first.profile_id,
            placement: nvmlGpuInstancePlacement_t { start: first.start, size: first.size },
        })
    }

    fn nvmlGpuInstanceGetComputeInstances(handle: u64, profile: u32, instances: Out<u64>, count: Out<u32>) {
        let (_, inside, _) = instance(handle)?;
        let of = |d: &&&MigDevice| !d.bare && d.compute_profile == profile;
        let found: Vec<u64> = inside.iter().filter(of).map(|d| handle | 1 << 39 | u64::from(d.compute_instance) << 32).collect();
        handles(&found, instances, count)
    }

    fn nvmlGpuInstanceGetComputeInstanceById(handle: u64, id: u32, out: Out<u64>) {
        let (_, inside, _) = instance(handle)?;
        inside.iter().find(|d| !d.bare && d.compute_instance == id).ok_or(results::NOT_FOUND)?;
        out.put(handle | 1 << 39 | u64::from(id) << 32)
    }

    fn nvmlComputeInstanceGetInfo_v2(handle: u64, info: Out<nvmlComputeInstanceInfo_t>) {
        let parent = handle & !(0xff << 32);
        let (card, inside, _) = instance(parent)?;
        let id = (handle >> 32 & 0x7f) as u32;
        let found = inside.iter().find(|d| d.compute_instance == id).ok_or(results::NOT_FOUND)?;
        info.put(nvmlComputeInstanceInfo_t {
            device: pointer(card.gpu),
            gpuInstance: parent as usize as nvmlGpuInstance_t,
            id,
            profileId: found.compute_profile,
            placement: nvmlComputeInstancePlacement_t { start: found.compute_start, size: found.compute_slices },
        })
    }
}
