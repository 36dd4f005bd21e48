//! Initialisation, versions, and what a handle means.

use std::ffi::c_char;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::config::{self, Loaded, cuda_version};
use crate::entry::{Code, Out, entry_points};
use crate::layout;
use crate::lost::lost;
use crate::parts::{self, MigDevice, Part};
use crate::results;
use crate::state::Device;

/// The library in this process.
pub(crate) struct Nvml {
    pub(crate) loaded: &'static Loaded,
    pub(crate) gpus: Vec<Device>,
}

/// What is open, and the stamp of the layouts that it was opened with. One that is no longer current is leaked: handles of
/// it may be in use.
type Opened = (Vec<Option<(u64, i64)>>, Result<&'static Nvml, Code>);
static NVML: Mutex<Option<Opened>> = Mutex::new(None);
/// Initialisations that no shutdown has answered.
static USERS: AtomicU32 = AtomicU32::new(0);

fn init() -> Result<(), Code> {
    let loaded = config::loaded().ok_or(results::DRIVER_NOT_LOADED)?;
    if let Some(code) = loaded.config.fault.nvml_init {
        return Err(Code(code));
    }
    open(loaded)?;
    USERS.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Opens the GPUs, anew where they were divided otherwise meanwhile.
fn open(loaded: &'static Loaded) -> Result<&'static Nvml, Code> {
    let mut opened = NVML.lock().unwrap_or_else(PoisonError::into_inner);
    let stamp = layout::stamp(&loaded.folder, loaded.config.gpu.len());
    if let Some((of, nvml)) = &*opened
        && *of == stamp
    {
        return *nvml;
    }
    let open = || {
        let open = |part| Device::open(&loaded.folder, part, loaded.config.time_scale);
        Ok(Nvml { loaded, gpus: parts::parts(loaded)?.into_iter().map(open).collect::<Result<_, String>>()? })
    };
    let nvml = open().map(|nvml| &*Box::leak(Box::new(nvml))).map_err(|why: String| {
        eprintln!("crosstalk stand-in driver: {why}");
        results::UNKNOWN
    });
    *opened = Some((stamp, nvml));
    nvml
}

/// The library, once initialised, whether its GPUs are there or not.
pub(crate) fn library() -> Result<&'static Nvml, Code> {
    if USERS.load(Ordering::Relaxed) == 0 {
        return Err(results::UNINITIALIZED);
    }
    open(config::loaded().ok_or(results::DRIVER_NOT_LOADED)?)
}

/// The library while its GPUs are there.
pub(crate) fn nvml() -> Result<&'static Nvml, Code> {
    let nvml = library()?;
    if lost(nvml.loaded, &nvml.gpus) { Err(results::GPU_IS_LOST) } else { Ok(nvml) }
}

/// A handle of the caller's: no address that could be followed.
pub(crate) type Handle = u64;

/// The handle of a GPU, or of one of its MIG devices.
pub(crate) fn handle(gpu: usize, device: Option<usize>) -> Handle {
    (gpu as u64 + 1) << 12 | device.map_or(0, |d| d as u64 + 1) << 4
}

/// What a handle names.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) gpu: &'static Device,
    /// Index among the MIG devices that exist, and the device.
    pub(crate) mig: Option<(usize, &'static MigDevice)>,
}

impl Place {
    pub(crate) fn part(&self) -> &'static Part {
        &self.gpu.part
    }

    /// Refuses MIG devices: what is asked belongs to the whole card.
    pub(crate) fn card(self) -> Result<Self, Code> {
        if self.mig.is_some() { Err(results::NOT_SUPPORTED) } else { Ok(self) }
    }
}

/// The place of a handle.
pub(crate) fn place(handle: Handle) -> Result<Place, Code> {
    let nvml = nvml()?;
    let index = (handle >> 12).checked_sub(1).ok_or(results::INVALID_ARGUMENT)?;
    let gpu = nvml.gpus.get(index as usize).ok_or(results::INVALID_ARGUMENT)?;
    let mig = match (handle >> 4 & 0xff).checked_sub(1) {
        None => None,
        Some(device) => {
            let found = gpu.part.mig_devices().nth(device as usize).ok_or(results::INVALID_ARGUMENT)?;
            Some((device as usize, found))
        }
    };
    Ok(Place { gpu, mig })
}

entry_points! {
    fn nvmlInit_v2() {
        init()
    }

    fn nvmlInit() {
        init()
    }

    fn nvmlInitWithFlags(_flags: u32) {
        init()
    }

    fn nvmlShutdown() {
        let down = |n: u32| n.checked_sub(1);
        USERS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, down).map(drop).map_err(|_| results::UNINITIALIZED)
    }

    fn nvmlSystemGetDriverVersion(version: Out<u8>, room: u32) {
        version.put_text(&library()?.loaded.config.driver, room as usize)
    }

    fn nvmlSystemGetNVMLVersion(version: Out<u8>, room: u32) {
        let loaded = library()?.loaded;
        let major = cuda_version(&loaded.config) / 1000;
        version.put_text(&format!("{major}.{}", loaded.config.driver), room as usize)
    }

    fn nvmlSystemGetCudaDriverVersion_v2(version: Out<i32>) {
        version.put(cuda_version(&library()?.loaded.config) as i32)
    }

    fn nvmlSystemGetCudaDriverVersion(version: Out<i32>) {
        version.put(cuda_version(&library()?.loaded.config) as i32)
    }

    fn nvmlSystemGetProcessName(pid: u32, name: Out<u8>, room: u32) {
        let nvml = library()?;
        let foreign = nvml.loaded.config.gpu.iter().flat_map(|g| &g.processes).find(|p| p.pid == pid);
        let running = || {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let first = line.split(|b| *b == 0).next().filter(|w| !w.is_empty())?;
            Some(String::from_utf8_lossy(first).into_owned())
        };
        let found = foreign.map(|p| p.name.clone()).or_else(running).ok_or(results::NOT_FOUND)?;
        name.put_text(&found, room as usize)
    }

    fn nvmlDeviceGetCount_v2(count: Out<u32>) {
        count.put(nvml()?.gpus.len() as u32)
    }

    fn nvmlDeviceGetCount(count: Out<u32>) {
        count.put(nvml()?.gpus.len() as u32)
    }

    fn nvmlDeviceGetHandleByIndex_v2(index: u32, device: Out<Handle>) {
        if (index as usize) < nvml()?.gpus.len() { device.put(handle(index as usize, None)) } else { Err(results::INVALID_ARGUMENT) }
    }

    fn nvmlDeviceGetHandleByIndex(index: u32, device: Out<Handle>) {
        if (index as usize) < nvml()?.gpus.len() { device.put(handle(index as usize, None)) } else { Err(results::INVALID_ARGUMENT) }
    }

    fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: Out<Handle>) {
        let (nvml, uuid) = (nvml()?, crate::entry::text(uuid)?);
        for (g, gpu) in nvml.gpus.iter().enumerate() {
            if gpu.part.uuid.eq_ignore_ascii_case(&uuid) {
                return device.put(handle(g, None));
            }
            let found = gpu.part.mig_device(&uuid);
            if let Some(at) = found.and_then(|d| gpu.part.mig_devices().position(|other| other.uuid == d.uuid)) {
                return device.put(handle(g, Some(at)));
            }
        }
        Err(results::NOT_FOUND)
    }

    fn nvmlDeviceGetHandleByPciBusId_v2(id: *const c_char, device: Out<Handle>) {
        let (nvml, id) = (nvml()?, crate::entry::text(id)?.to_ascii_uppercase());
        let same = |g: &Device| g.part.bus_id() == id || g.part.bus_id().get(4..) == Some(&id);
        let found = nvml.gpus.iter().position(same).ok_or(results::NOT_FOUND)?;
        device.put(handle(found, None))
    }

    fn nvmlDeviceGetHandleBySerial(serial: *const c_char, device: Out<Handle>) {
        let (nvml, serial) = (nvml()?, crate::entry::text(serial)?);
        let found = nvml.gpus.iter().position(|g| g.part.serial() == serial).ok_or(results::NOT_FOUND)?;
        device.put(handle(found, None))
    }
}
