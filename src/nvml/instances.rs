//! Creating and destroying MIG instances, by raw calls.
//!
//! NVML has two numbers for a profile of GPU instances. Its constants (NVML_GPU_INSTANCE_PROFILE_*, here *numbers*) mean a
//! shape, the same on every part: 0 is one slice. The driver's *ids* are what creates and lists instances, and mean
//! another shape on each part: 14 is two slices on an A100 and one on an A30. A number is good for one question only, what
//! the profile's id is on this device; everything else goes by that id.

use std::os::raw::c_uint;

use nvml_wrapper::error::nvml_try;
use nvml_wrapper_sys::bindings::{
    nvmlComputeInstance_t, nvmlComputeInstanceInfo_t, nvmlComputeInstancePlacement_t, nvmlComputeInstanceProfileInfo_t,
    nvmlDevice_t, nvmlGpuInstance_t, nvmlGpuInstanceInfo_t, nvmlGpuInstancePlacement_t, nvmlGpuInstanceProfileInfo_t,
    nvmlGpuInstanceProfileInfo_v2_t, nvmlReturn_t,
};
use serde::{Deserialize, Serialize};

use super::inventory::{PROFILE_NUMBERS, Zeroed};
use super::{Nvml, NvmlError, NvmlErrorKind};

/// NVML's numbers of compute instance profiles.
const COMPUTE_NUMBERS: std::ops::Range<c_uint> = 0..16;
/// NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED, the only one there is.
const SHARED: c_uint = 0;

/// How a driver refuses a place for a compute instance where it has no such call, or no such place.
const CHOOSES: [NvmlErrorKind; 3] = [NvmlErrorKind::NoSymbol, NvmlErrorKind::NotSupported, NvmlErrorKind::Invalid];

/// A profile of GPU instances, as one device has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriverProfile {
    /// The driver's id, on this device.
    pub id: u32,
    /// Its name ("3g.40gb"); `None` where the driver has no call that tells.
    pub name: Option<String>,
    /// Compute slices.
    pub slices: u32,
    /// Instances at most.
    pub most: u32,
}

/// A GPU instance that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuInstance {
    /// Its id.
    pub id: u32,
    /// The driver's id of its profile.
    pub profile: u32,
    /// First memory slice.
    pub start: u32,
    /// Memory slices.
    pub size: u32,
    /// Its compute instances, in the order of their places.
    pub compute: Vec<ComputeInstance>,
}

/// A compute instance that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComputeInstance {
    /// Its id within its GPU instance.
    pub id: u32,
    /// Compute slices.
    pub slices: u32,
    /// The driver's id of its profile, in this GPU instance.
    pub profile: u32,
    /// First compute slice within its GPU instance.
    pub start: u32,
    /// Compute slices that it takes there.
    pub size: u32,
}

/// Dividing one GPU that is in MIG mode. Nothing here changes the mode.
pub trait Divide {
    /// The profiles of the device.
    ///
    /// # Errors
    /// The driver's own.
    fn profiles(&self) -> Result<Vec<DriverProfile>, NvmlError>;
    /// Where instances of the profile with this id of the driver's can lie, used or not: (start, size).
    ///
    /// # Errors
    /// The driver's own.
    fn placements(&self, profile: u32) -> Result<Vec<(u32, u32)>, NvmlError>;
    /// The GPU instances that are there.
    ///
    /// # Errors
    /// The driver's own.
    fn there(&self) -> Result<Vec<GpuInstance>, NvmlError>;
    /// Creates a GPU instance at (start, size): its id.
    ///
    /// # Errors
    /// The driver's own.
    fn create(&self, profile: u32, place: (u32, u32)) -> Result<u32, NvmlError>;
    /// Creates a compute instance of so many slices, of this profile and at this place (start, size) where the driver can
    /// be told; it may then lie elsewhere: its id.
    ///
    /// # Errors
    /// The driver's own.
    fn create_compute(
        &self,
        gpu_instance: u32,
        slices: u32,
        profile: Option<u32>,
        place: Option<(u32, u32)>,
    ) -> Result<u32, NvmlError>;
    /// Destroys a GPU instance without compute instances.
    ///
    /// # Errors
    /// The driver's own.
    fn destroy(&self, gpu_instance: u32) -> Result<(), NvmlError>;
    /// Destroys a compute instance.
    ///
    /// # Errors
    /// The driver's own.
    fn destroy_compute(&self, gpu_instance: u32, compute_instance: u32) -> Result<(), NvmlError>;
}

/// One GPU of a library.
#[derive(Clone, Copy)]
pub struct Divided<'n> {
    nvml: &'n Nvml,
    uuid: &'n str,
}

impl Nvml {
    /// To divide the GPU `uuid`.
    pub fn divided<'n>(&'n self, uuid: &'n str) -> Divided<'n> {
        Divided { nvml: self, uuid }
    }
}

/// Calls a function of the library that may be missing.
macro_rules! call {
    ($of:expr, $name:ident($($arg:expr),*)) => {{
        const NAME: &str = stringify!($name);
        match &$of.nvml.inner.lib().$name {
            // SAFETY: the symbol is there, the types are those of its header, every handle was just given by this library,
            // and every pointer is to a local that outlives the call and is as large as the call writes.
            Ok(call) => done(NAME, unsafe { call($($arg),*) }),
            Err(_) => Err(missing(NAME)),
        }
    }};
}

impl Zeroed for nvmlGpuInstanceProfileInfo_v2_t {
    fn zeroed() -> Self {
        // SAFETY: integers only: all bits zero is a value.
        unsafe { std::mem::zeroed() }
    }
}

impl Zeroed for nvmlComputeInstanceProfileInfo_t {
    fn zeroed() -> Self {
        // SAFETY: integers only: all bits zero is a value.
        unsafe { std::mem::zeroed() }
    }
}

impl Zeroed for nvmlComputeInstanceInfo_t {
    fn zeroed() -> Self {
        // SAFETY: integers and raw pointers: all bits zero is a value.
        unsafe { std::mem::zeroed() }
    }
}

fn done(call: &str, code: nvmlReturn_t) -> Result<(), NvmlError> {
    nvml_try(code).map_err(|error| NvmlError::of(call, error))
}

fn missing(call: &str) -> NvmlError {
    NvmlError { what: format!("libnvidia-ml has no {call}: this driver is too old"), kind: NvmlErrorKind::NoSymbol }
}

/// The value, or `None` where this device has no such thing.
fn exists<T>(result: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind == NvmlErrorKind::NotSupported || error.kind == NvmlErrorKind::NotThere => Ok(None),
        Err(error) => Err(error),
    }
}

impl Divided<'_> {
    fn device(&self) -> Result<nvmlDevice_t, NvmlError> {
        // SAFETY: a handle of this library, used for calls of this library while it is loaded.
        Ok(unsafe { self.nvml.device(self.uuid)?.handle() })
    }

    fn gpu_instance(&self, id: u32) -> Result<nvmlGpuInstance_t, NvmlError> {
        let device = self.device()?;
        let mut handle = std::ptr::null_mut();
        call!(self, nvmlDeviceGetGpuInstanceById(device, id, &mut handle))?;
        Ok(handle)
    }

    /// The profile that this number of NVML's means here.
    fn profile(&self, device: nvmlDevice_t, number: c_uint) -> Result<Option<DriverProfile>, NvmlError> {
        let mut named: nvmlGpuInstanceProfileInfo_v2_t = Zeroed::zeroed();
        named.version = size_of::<nvmlGpuInstanceProfileInfo_v2_t>() as c_uint | 2 << 24;
        match call!(self, nvmlDeviceGetGpuInstanceProfileInfoV(device, number, &mut named)) {
            Ok(()) => {
                let name: Vec<u8> = named.name.iter().map(|c| *c as u8).take_while(|c| *c != 0).collect();
                let name = String::from_utf8_lossy(&name);
                let name = name.trim().trim_start_matches("MIG ").to_owned();
                let name = Some(name).filter(|name| !name.is_empty());
                let (id, slices, most) = (named.id, named.sliceCount, named.instanceCount);
                return Ok(Some(DriverProfile { id, name, slices, most }));
            }
            // Before R470: the first form, without names.
            Err(error) if error.kind == NvmlErrorKind::NoSymbol => {}
            Err(error) => return exists(Err(error)),
        }
        let mut info: nvmlGpuInstanceProfileInfo_t = Zeroed::zeroed();
        let found = exists(call!(self, nvmlDeviceGetGpuInstanceProfileInfo(device, number, &mut info)))?;
        let profile = || DriverProfile { id: info.id, name: None, slices: info.sliceCount, most: info.instanceCount };
        Ok(found.map(|()| profile()))
    }

    /// (id, slices) of the compute instance profiles of a GPU instance, and how many fit at most.
    fn compute_profiles(&self, handle: nvmlGpuInstance_t) -> Result<Vec<(u32, u32, u32)>, NvmlError> {
        let mut found = Vec::new();
        for number in COMPUTE_NUMBERS {
            let mut info: nvmlComputeInstanceProfileInfo_t = Zeroed::zeroed();
            let known =
                exists(call!(self, nvmlGpuInstanceGetComputeInstanceProfileInfo(handle, number, SHARED, &mut info)));
            // A number beyond those that the driver knows is an invalid argument.
            match known {
                Ok(Some(())) => found.push((info.id, info.sliceCount, info.instanceCount)),
                Ok(None) => {}
                Err(error) if error.kind == NvmlErrorKind::Invalid => break,
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn compute_instances(&self, handle: nvmlGpuInstance_t) -> Result<Vec<ComputeInstance>, NvmlError> {
        let mut found: Vec<ComputeInstance> = Vec::new();
        for (profile, slices, most) in self.compute_profiles(handle)? {
            let mut handles: Vec<nvmlComputeInstance_t> = vec![std::ptr::null_mut(); most as usize];
            let mut count: c_uint = most;
            let listed =
                call!(self, nvmlGpuInstanceGetComputeInstances(handle, profile, handles.as_mut_ptr(), &mut count));
            if exists(listed)?.is_none() {
                continue;
            }
            for compute in handles.into_iter().take(count as usize) {
                let mut info: nvmlComputeInstanceInfo_t = Zeroed::zeroed();
                call!(self, nvmlComputeInstanceGetInfo_v2(compute, &mut info))?;
                let (start, size) = (info.placement.start, info.placement.size);
                // Two profiles of one size may list the same instance.
                if !found.iter().any(|other| other.id == info.id) {
                    found.push(ComputeInstance { id: info.id, slices, profile: info.profileId, start, size });
                }
            }
        }
        found.sort_by_key(|instance| (instance.start, instance.id));
        Ok(found)
    }
}

impl Divide for Divided<'_> {
    fn profiles(&self) -> Result<Vec<DriverProfile>, NvmlError> {
        let device = self.device()?;
        let mut found = Vec::new();
        for number in PROFILE_NUMBERS {
            match self.profile(device, number) {
                Ok(profile) => found.extend(profile),
                Err(error) if error.kind == NvmlErrorKind::Invalid => break,
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn placements(&self, profile: u32) -> Result<Vec<(u32, u32)>, NvmlError> {
        let device = self.device()?;
        let mut count: c_uint = 0;
        // Asked twice: how many, then which. (nvml-wrapper's own method asks for none and returns none.)
        call!(self, nvmlDeviceGetGpuInstancePossiblePlacements_v2(device, profile, std::ptr::null_mut(), &mut count))?;
        let mut places = vec![nvmlGpuInstancePlacement_t { start: 0, size: 0 }; count as usize];
        if places.is_empty() {
            return Ok(Vec::new());
        }
        call!(self, nvmlDeviceGetGpuInstancePossiblePlacements_v2(device, profile, places.as_mut_ptr(), &mut count))?;
        places.truncate(count as usize);
        Ok(places.into_iter().map(|place| (place.start, place.size)).collect())
    }

    fn there(&self) -> Result<Vec<GpuInstance>, NvmlError> {
        let device = self.device()?;
        let mut found: Vec<GpuInstance> = Vec::new();
        for profile in self.profiles()? {
            let mut handles: Vec<nvmlGpuInstance_t> = vec![std::ptr::null_mut(); profile.most as usize];
            let mut count: c_uint = profile.most;
            call!(self, nvmlDeviceGetGpuInstances(device, profile.id, handles.as_mut_ptr(), &mut count))?;
            for handle in handles.into_iter().take(count as usize) {
                let mut info: nvmlGpuInstanceInfo_t = Zeroed::zeroed();
                call!(self, nvmlGpuInstanceGetInfo(handle, &mut info))?;
                let (start, size) = (info.placement.start, info.placement.size);
                let compute = self.compute_instances(handle)?;
                found.push(GpuInstance { id: info.id, profile: info.profileId, start, size, compute });
            }
        }
        found.sort_by_key(|instance| (instance.start, instance.id));
        Ok(found)
    }

    fn create(&self, profile: u32, (start, size): (u32, u32)) -> Result<u32, NvmlError> {
        let device = self.device()?;
        let place = nvmlGpuInstancePlacement_t { start, size };
        let mut handle: nvmlGpuInstance_t = std::ptr::null_mut();
        call!(self, nvmlDeviceCreateGpuInstanceWithPlacement(device, profile, &place, &mut handle))?;
        let mut info: nvmlGpuInstanceInfo_t = Zeroed::zeroed();
        call!(self, nvmlGpuInstanceGetInfo(handle, &mut info))?;
        Ok(info.id)
    }

    fn create_compute(
        &self,
        gpu_instance: u32,
        slices: u32,
        profile: Option<u32>,
        place: Option<(u32, u32)>,
    ) -> Result<u32, NvmlError> {
        let handle = self.gpu_instance(gpu_instance)?;
        let mut profiles = self.compute_profiles(handle)?;
        profiles.retain(|(_, s, _)| *s == slices);
        let exact = profiles.iter().find(|(id, ..)| Some(*id) == profile);
        let (profile, ..) = *exact.or(profiles.first()).ok_or_else(|| NvmlError {
            what: format!("GPU instance {gpu_instance} has no profile of compute instances with {slices} slice(s)"),
            kind: NvmlErrorKind::NotSupported,
        })?;
        let mut compute: nvmlComputeInstance_t = std::ptr::null_mut();
        let placed = place.map(|(start, size)| {
            let place = nvmlComputeInstancePlacement_t { start, size };
            call!(self, nvmlGpuInstanceCreateComputeInstanceWithPlacement(handle, profile, &place, &mut compute))
        });
        match placed {
            Some(Ok(())) => {}
            // A driver that cannot be told, or does not know the place, chooses one.
            Some(Err(error)) if !CHOOSES.contains(&error.kind) => return Err(error),
            _ => call!(self, nvmlGpuInstanceCreateComputeInstance(handle, profile, &mut compute))?,
        }
        let mut info: nvmlComputeInstanceInfo_t = Zeroed::zeroed();
        call!(self, nvmlComputeInstanceGetInfo_v2(compute, &mut info))?;
        Ok(info.id)
    }

    fn destroy(&self, gpu_instance: u32) -> Result<(), NvmlError> {
        let handle = self.gpu_instance(gpu_instance)?;
        call!(self, nvmlGpuInstanceDestroy(handle))
    }

    fn destroy_compute(&self, gpu_instance: u32, compute_instance: u32) -> Result<(), NvmlError> {
        let handle = self.gpu_instance(gpu_instance)?;
        let mut compute: nvmlComputeInstance_t = std::ptr::null_mut();
        call!(self, nvmlGpuInstanceGetComputeInstanceById(handle, compute_instance, &mut compute))?;
        call!(self, nvmlComputeInstanceDestroy(compute))
    }
}
