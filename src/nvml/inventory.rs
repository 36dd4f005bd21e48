//! The machine as libnvidia-ml sees it.

use std::collections::BTreeMap;
use std::os::raw::c_uint;

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::GpuVirtualizationMode;
use nvml_wrapper::error::{NvmlError as Raw, nvml_try};
use nvml_wrapper_sys::bindings::{
    nvmlComputeInstanceInfo_t, nvmlDevice_t, nvmlGpuInstance_t, nvmlGpuInstanceInfo_t, nvmlGpuInstanceProfileInfo_t,
    nvmlReturn_t,
};
use serde::{Deserialize, Serialize};

use super::error::reading;
use super::{Nvml, NvmlError, NvmlErrorKind, Processes};
use crate::backend::{GpuHealth, GpuReading};
use crate::gpu::{Gpu, GpuModel, Instance, Inventory, Virtualization, compute_part, models, parse_mig_uuid};
use crate::units::Bytes;

/// NVML's numbers of GPU instance profiles: a number space of its own, dense from 0. Newer drivers may know more.
pub(super) const PROFILE_NUMBERS: std::ops::Range<c_uint> = 0..32;

/// Everything that libnvidia-ml says of a machine outside arms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Survey {
    /// The GPUs that answer.
    pub inventory: Inventory,
    /// Of each GPU of the inventory, its health.
    pub health: Vec<GpuHealth>,
    /// Of each GPU of the inventory, clocks and throttling now.
    pub now: Vec<GpuReading>,
    /// Of each GPU of the inventory, who is on it.
    pub processes: Vec<Processes>,
    /// GPUs that do not answer, each with the driver's words.
    pub unreadable: Vec<String>,
}

impl Nvml {
    /// The GPUs of the machine and their MIG devices. Not in arms.
    ///
    /// # Errors
    /// Where the driver does not list its GPUs, or one of them does not answer.
    pub fn inventory(&self) -> Result<Inventory, NvmlError> {
        let (driver, cuda) = self.versions()?;
        let mut gpus = Vec::new();
        for (_, device) in given(self.count()?, |index| self.by_index(index)) {
            gpus.push(self.gpu(&device?)?);
        }
        Ok(Inventory { provenance: self.provenance(), driver, cuda, gpus })
    }

    /// The GPUs with all that is known of each. One that does not answer does not hide the others.
    ///
    /// # Errors
    /// Where the driver does not list its GPUs.
    pub fn survey(&self) -> Result<Survey, NvmlError> {
        let (driver, cuda) = self.versions()?;
        let inventory = Inventory { provenance: self.provenance(), driver, cuda, gpus: Vec::new() };
        let mut survey =
            Survey { inventory, health: Vec::new(), now: Vec::new(), processes: Vec::new(), unreadable: Vec::new() };
        for (index, device) in given(self.count()?, |index| self.by_index(index)) {
            let read = device.and_then(|device| {
                let gpu = self.gpu(&device)?;
                let (health, now) = (self.health_of(&device)?, self.sample(&gpu.uuid)?);
                Ok((self.processes(&gpu.uuid), gpu, health, now))
            });
            match read {
                Ok((processes, gpu, health, now)) => {
                    survey.inventory.gpus.push(gpu);
                    survey.health.push(health);
                    survey.now.push(now);
                    survey.processes.push(processes);
                }
                Err(error) => survey.unreadable.push(format!("GPU {index} of the driver: {error}")),
            }
        }
        Ok(survey)
    }

    fn count(&self) -> Result<u32, NvmlError> {
        self.inner.device_count().map_err(|e| NvmlError::of("nvmlDeviceGetCount_v2", e))
    }

    fn by_index(&self, index: u32) -> Result<Device<'_>, NvmlError> {
        self.inner.device_by_index(index).map_err(|e| NvmlError::of("nvmlDeviceGetHandleByIndex_v2", e))
    }

    /// Driver version, and the newest CUDA version that it supports.
    fn versions(&self) -> Result<(Option<String>, Option<String>), NvmlError> {
        let driver = reading("nvmlSystemGetDriverVersion", self.inner.sys_driver_version())?;
        let cuda = reading("nvmlSystemGetCudaDriverVersion_v2", self.inner.sys_cuda_driver_version())?;
        Ok((driver, cuda.map(cuda_version)))
    }

    fn gpu(&self, device: &Device<'_>) -> Result<Gpu, NvmlError> {
        let uuid = device.uuid().map_err(|e| NvmlError::of("nvmlDeviceGetUUID", e))?;
        let name = device.name().map_err(|e| NvmlError::of("nvmlDeviceGetName", e))?;
        let pci = reading("nvmlDeviceGetPciInfo_v3", device.pci_info())?;
        let model = find_model(&name, pci.as_ref().map(|p| p.pci_device_id));
        let mode = reading("nvmlDeviceGetMigMode", device.mig_mode())?;
        let mig = mode.as_ref().map(|m| m.current == 1);
        let capability = reading("nvmlDeviceGetCudaComputeCapability", device.cuda_compute_capability())?;
        let cores = reading("nvmlDeviceGetNumGpuCores", device.num_cores())?;
        let sms = cores.zip(capability).and_then(|(n, cc)| Some(n / cores_per_sm(cc.major, cc.minor)?));
        let hypervisor =
            reading("nvmlDeviceGetVirtualizationMode", device.virtualization_mode())?.map(|mode| match mode {
                GpuVirtualizationMode::Bare => Virtualization::Bare,
                GpuVirtualizationMode::PassThrough => Virtualization::Passthrough,
                GpuVirtualizationMode::Vgpu => Virtualization::Vgpu,
                GpuVirtualizationMode::HostVgpu => Virtualization::HostVgpu,
                GpuVirtualizationMode::HostVsga => Virtualization::HostVsga,
            });
        Ok(Gpu {
            virtualization: Virtualization::of(hypervisor, &name),
            uuid,
            name,
            memory: reading("nvmlDeviceGetMemoryInfo_v2", device.memory_info())?.map(|m| Bytes(m.total)),
            // Some drivers count no cores with MIG on; the part as sold has as many SMs as its data says.
            sms: sms.or(model.map(|m| m.sm.count)),
            mig_pending: mode.filter(|m| m.pending != m.current).map(|m| m.pending == 1),
            pci: pci.map(|p| format!("{:04x}:{:02x}:{:02x}.0", p.domain, p.bus, p.device)),
            instances: if mig == Some(true) { self.instances(device, model)? } else { Vec::new() },
            mig,
            model: model.map(|m| m.id.clone()),
        })
    }

    /// The MIG devices in the driver's order, then the GPU instances that have none.
    fn instances(&self, parent: &Device<'_>, model: Option<&GpuModel>) -> Result<Vec<Instance>, NvmlError> {
        let mut places = self.gpu_instances(parent, model)?;
        let most = reading("nvmlDeviceGetMaxMigDeviceCount", parent.mig_device_count())?.unwrap_or(0);
        let mut found = Vec::new();
        let mut with_device = Vec::new();
        for index in 0..most {
            // Indices have gaps: they are those of the compute instances that were ever created.
            let device = match parent.mig_device_by_index(index) {
                Ok(device) => device,
                Err(Raw::NotFound | Raw::InvalidArg) => continue,
                Err(error) => return Err(NvmlError::of("nvmlDeviceGetMigDeviceHandleByIndex", error)),
            };
            let gpu_instance = self.id(&device, Id::GpuInstance)?;
            let place = gpu_instance.and_then(|id| places.get(&id));
            with_device.extend(gpu_instance);
            let mut instance = self.instance(&device, gpu_instance, place, model)?;
            if let (Some(gpu_instance), Some(id)) = (gpu_instance, instance.compute_instance) {
                instance.compute_start = self.compute_start(parent, gpu_instance, id)?;
            }
            found.push(instance);
        }
        places.retain(|id, _| !with_device.contains(id));
        found.extend(places.into_values());
        Ok(found)
    }

    fn instance(
        &self,
        device: &Device<'_>,
        gpu_instance: Option<u32>,
        place: Option<&Instance>,
        model: Option<&GpuModel>,
    ) -> Result<Instance, NvmlError> {
        let uuid = device.uuid().map_err(|e| NvmlError::of("nvmlDeviceGetUUID", e))?;
        let attributes = reading("nvmlDeviceGetAttributes_v2", device.attributes())?;
        let slices = attributes
            .as_ref()
            .map(|a| (a.compute_instance_slice_count, a.gpu_instance_slice_count))
            .filter(|s| s.1 > 0);
        let name = reading("nvmlDeviceGetName", device.name())?;
        let profile = profile_in(name.as_deref().unwrap_or_default())
            .map(str::to_owned)
            .or_else(|| place.map(|p| compute_name(&p.profile, slices)))
            .or_else(|| slices.map(|(compute, gpu)| compute_name(&format!("{gpu}g"), Some((compute, gpu)))))
            .unwrap_or_else(|| "unknown".to_owned());
        let size = place.and_then(|p| p.size).or_else(|| size_of(&profile, model));
        Ok(Instance {
            // The canonical form; what no form fits stays as the driver wrote it.
            uuid: parse_mig_uuid(&uuid).map_or(uuid, |u| u.to_string()),
            start: place.and_then(|p| p.start),
            size,
            // From the handle of the instance: the parent's would be the whole card's.
            memory: reading("nvmlDeviceGetMemoryInfo_v2", device.memory_info())?.map(|m| Bytes(m.total)),
            sms: attributes.map(|a| a.multiprocessor_count),
            gpu_instance,
            compute_instance: self.id(device, Id::ComputeInstance)?,
            compute_start: None,
            profile,
        })
    }

    /// First compute slice of a compute instance within its GPU instance, where the driver tells this user.
    fn compute_start(&self, parent: &Device<'_>, gpu_instance: u32, id: u32) -> Result<Option<u32>, NvmlError> {
        let lib = self.inner.lib();
        let (Ok(of_device), Ok(of_instance), Ok(info)) = (
            &lib.nvmlDeviceGetGpuInstanceById,
            &lib.nvmlGpuInstanceGetComputeInstanceById,
            &lib.nvmlComputeInstanceGetInfo_v2,
        ) else {
            return Ok(None);
        };
        let (mut outer, mut inner) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the symbol is there, the handle is this library's, and the call writes one handle that outlives it.
        let code = unsafe { of_device(parent.handle(), gpu_instance, &mut outer) };
        if reading("nvmlDeviceGetGpuInstanceById", nvml_try(code))?.is_none() {
            return Ok(None);
        }
        // SAFETY: as above; the handle was just given.
        let code = unsafe { of_instance(outer, id, &mut inner) };
        if reading("nvmlGpuInstanceGetComputeInstanceById", nvml_try(code))?.is_none() {
            return Ok(None);
        }
        let found = ask(|out: &mut nvmlComputeInstanceInfo_t| {
            // SAFETY: the symbol is there, the handle was just given, `out` is a whole struct of the call's type.
            unsafe { info(inner, out) }
        });
        Ok(reading("nvmlComputeInstanceGetInfo_v2", found)?.map(|found| found.placement.start))
    }

    fn id(&self, device: &Device<'_>, which: Id) -> Result<Option<u32>, NvmlError> {
        let lib = self.inner.lib();
        let (name, call) = match which {
            Id::GpuInstance => ("nvmlDeviceGetGpuInstanceId", &lib.nvmlDeviceGetGpuInstanceId),
            Id::ComputeInstance => ("nvmlDeviceGetComputeInstanceId", &lib.nvmlDeviceGetComputeInstanceId),
        };
        let Ok(call) = call else { return Ok(None) };
        let mut id = 0;
        // SAFETY: the symbol is there; the handle comes from this library; the call writes one integer that outlives it.
        let code = unsafe { call(device.handle(), &mut id) };
        reading(name, nvml_try(code).map(|()| id))
    }

    /// The GPU instances by id, each without its compute instances; empty where this user may not see them.
    fn gpu_instances(
        &self,
        parent: &Device<'_>,
        model: Option<&GpuModel>,
    ) -> Result<BTreeMap<u32, Instance>, NvmlError> {
        let mut all = BTreeMap::new();
        let lib = self.inner.lib();
        let (Ok(profile_info), Ok(list), Ok(info)) =
            (&lib.nvmlDeviceGetGpuInstanceProfileInfo, &lib.nvmlDeviceGetGpuInstances, &lib.nvmlGpuInstanceGetInfo)
        else {
            return Ok(all);
        };
        // SAFETY: a handle of this library, used for calls of this library while it is loaded.
        let device: nvmlDevice_t = unsafe { parent.handle() };
        for number in PROFILE_NUMBERS {
            let profile = ask(|out: &mut nvmlGpuInstanceProfileInfo_t| {
                // SAFETY: the symbol is there, the handle is this library's, `out` is a whole struct of the call's type.
                unsafe { profile_info(device, number, out) }
            });
            let Some(profile) = reading("nvmlDeviceGetGpuInstanceProfileInfo", profile)? else { continue };
            let mut handles: Vec<nvmlGpuInstance_t> = vec![std::ptr::null_mut(); profile.instanceCount as usize];
            let mut count: c_uint = profile.instanceCount;
            // SAFETY: the symbol is there; the driver writes at most `instanceCount` handles, for which there is room.
            let code = unsafe { list(device, profile.id, handles.as_mut_ptr(), &mut count) };
            if reading("nvmlDeviceGetGpuInstances", nvml_try(code))?.is_none() {
                continue;
            }
            for handle in handles.into_iter().take(count as usize) {
                let found = ask(|out: &mut nvmlGpuInstanceInfo_t| {
                    // SAFETY: the symbol is there, the handle was just listed, `out` is a whole struct of the call's type.
                    unsafe { info(handle, out) }
                });
                let Some(found) = reading("nvmlGpuInstanceGetInfo", found)? else { continue };
                let (start, size) = (Some(found.placement.start), Some(found.placement.size));
                let profile = profile_name(&profile, found.placement.size, model);
                let instance = Instance { profile, start, size, gpu_instance: Some(found.id), ..Instance::default() };
                all.insert(found.id, instance);
            }
        }
        Ok(all)
    }
}

/// Without those that a control group keeps from this job: the driver counts them, and gives no handle. Where it gives
/// none at all, that is what is wrong.
fn given<T>(count: u32, handle: impl Fn(u32) -> Result<T, NvmlError>) -> Vec<(u32, Result<T, NvmlError>)> {
    let all: Vec<_> = (0..count).map(|index| (index, handle(index))).collect();
    let withheld =
        |(_, one): &(u32, Result<T, NvmlError>)| one.as_ref().is_err_and(|e| e.kind == NvmlErrorKind::Permission);
    if all.iter().all(withheld) {
        return all;
    }
    all.into_iter().filter(|one| !withheld(one)).collect()
}

#[derive(Clone, Copy)]
enum Id {
    GpuInstance,
    ComputeInstance,
}

/// Calls with a zeroed struct and returns what the call wrote.
fn ask<T: Zeroed>(call: impl FnOnce(&mut T) -> nvmlReturn_t) -> Result<T, Raw> {
    let mut out = T::zeroed();
    nvml_try(call(&mut out)).map(|()| out)
}

/// C structs that NVML fills.
pub(super) trait Zeroed {
    fn zeroed() -> Self;
}

impl Zeroed for nvmlGpuInstanceProfileInfo_t {
    fn zeroed() -> Self {
        // SAFETY: integers only: all bits zero is a value.
        unsafe { std::mem::zeroed() }
    }
}

impl Zeroed for nvmlGpuInstanceInfo_t {
    fn zeroed() -> Self {
        // SAFETY: integers and a raw pointer: all bits zero is a value.
        unsafe { std::mem::zeroed() }
    }
}

/// 12080 → "12.8".
pub(crate) fn cuda_version(n: i32) -> String {
    format!("{}.{}", n / 1000, n % 1000 / 10)
}

/// FP32 units per SM, by compute capability (CUDA C++ Programming Guide, arithmetic throughput); `None`: not known here.
fn cores_per_sm(major: i32, minor: i32) -> Option<u32> {
    match (major, minor) {
        (7, _) | (8, 0) => Some(64),
        (8..=12, _) => Some(128),
        _ => None,
    }
}

/// The model of this product name, or else of this PCI device and vendor.
fn find_model(name: &str, pci_id: Option<u32>) -> Option<&'static GpuModel> {
    let named = |m: &&GpuModel| m.name == name || m.other_names.iter().any(|n| n == name);
    let id = pci_id.map(|id| format!("0x{id:08X}"));
    let with_id = |m: &&GpuModel| id.as_ref().is_some_and(|id| m.pci_ids.iter().any(|p| p.eq_ignore_ascii_case(id)));
    models().iter().find(named).or_else(|| models().iter().find(with_id))
}

/// "NVIDIA H200 MIG 1g.18gb" → "1g.18gb"; `None` where the driver names the card only.
fn profile_in(name: &str) -> Option<&str> {
    let (_, profile) = name.rsplit_once("MIG ")?;
    Some(profile.trim()).filter(|p| p.contains("g."))
}

/// "3g.20gb" with one of three compute slices → "1c.3g.20gb".
fn compute_name(profile: &str, slices: Option<(u32, u32)>) -> String {
    match slices {
        Some((compute, gpu)) if compute > 0 && compute < gpu => format!("{compute}c.{profile}"),
        _ => profile.to_owned(),
    }
}

/// Memory slices of a profile by the model's data.
fn size_of(profile: &str, model: Option<&GpuModel>) -> Option<u32> {
    let gpu_instance = compute_part(profile).map_or(profile, |(_, rest)| rest);
    Some(model?.profile(gpu_instance)?.size)
}

/// The name of a profile whose instance has no device to carry it: by the driver's id and the model's data. Ids mean
/// different things on different models, so slices and size must agree. Otherwise what is known of it.
fn profile_name(profile: &nvmlGpuInstanceProfileInfo_t, size: u32, model: Option<&GpuModel>) -> String {
    let known = model.and_then(|m| m.mig.as_ref()).and_then(|mig| {
        mig.profiles.iter().find(|p| p.id == profile.id && p.slices == profile.sliceCount && p.size == size)
    });
    known.map_or_else(|| format!("{}g (profile {})", profile.sliceCount, profile.id), |p| p.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_found_by_its_names_and_by_its_pci_id() {
        let id = |name: &str, pci| find_model(name, pci).map(|m| m.id.as_str());
        assert_eq!(id("NVIDIA A100-PCIE-40GB", None), Some("a100-40gb"));
        assert_eq!(id("an engineering sample", Some(0x2335_10DE)), Some("h200"));
        assert_eq!(id("NVIDIA H200 NVL", Some(0x233B_10DE)), None, "unknown is not guessed");
    }

    #[test]
    fn profiles_are_named_as_the_driver_names_them() {
        assert_eq!(profile_in("NVIDIA H200 MIG 1g.18gb"), Some("1g.18gb"));
        assert_eq!(profile_in("MIG 1c.3g.20gb"), Some("1c.3g.20gb"));
        assert_eq!(profile_in("NVIDIA A100-SXM4-40GB MIG 1g.5gb+me"), Some("1g.5gb+me"));
        assert_eq!(profile_in("NVIDIA A100-SXM4-40GB"), None);
        assert_eq!(compute_name("3g.20gb", Some((1, 3))), "1c.3g.20gb");
        assert_eq!(compute_name("3g.20gb", Some((3, 3))), "3g.20gb");
        assert_eq!(compute_name("3g.20gb", None), "3g.20gb");
    }

    #[test]
    fn gpus_withheld_from_a_job_are_left_out_unless_all_are() {
        let refused = || Err(NvmlError { what: "no".to_owned(), kind: NvmlErrorKind::Permission });
        let lost = || Err(NvmlError { what: "gone".to_owned(), kind: NvmlErrorKind::Lost });
        let of = |all: Vec<Result<char, NvmlError>>| given(all.len() as u32, |index| all[index as usize].clone());
        // Each under the driver's number.
        assert_eq!(of(vec![refused(), Ok('a'), refused(), lost()]), [(1, Ok('a')), (3, lost())]);
        assert_eq!(of(vec![refused(), refused()]), [(0, refused()), (1, refused())]);
        assert_eq!(of(Vec::new()), []);
    }

    #[test]
    fn an_id_alone_names_no_profile() {
        // SAFETY: integers only.
        let mut profile: nvmlGpuInstanceProfileInfo_t = unsafe { std::mem::zeroed() };
        (profile.id, profile.sliceCount) = (14, 2);
        let of = |model| profile_name(&profile, 2, crate::gpu::find_model(model));
        assert_eq!(of("a100-40gb"), "2g.10gb");
        // 14 is 1g on an A30.
        assert_eq!(of("a30"), "2g (profile 14)");
        assert_eq!(profile_name(&profile, 2, None), "2g (profile 14)");
        assert_eq!(size_of("1c.3g.20gb", crate::gpu::find_model("a100-40gb")), Some(4));
    }

    #[test]
    fn sms_follow_from_cores_where_their_number_per_sm_is_known() {
        assert_eq!(cores_per_sm(9, 0).map(|n| 16896 / n), Some(132));
        assert_eq!(cores_per_sm(8, 0).map(|n| 6912 / n), Some(108));
        assert_eq!(cores_per_sm(13, 0), None);
        assert_eq!(cuda_version(12_080), "12.8");
    }
}
