//! libnvidia-ml: what the machine is, how it fares, and who else is there.
//!
//! The library is loaded at run time by its plain name, so that LD_LIBRARY_PATH alone decides between a driver and the
//! stand-in. A library, a symbol or a reading that is not there is an [`NvmlError`] in words, never a panic: raw calls
//! go through the symbol's `Result`, since the generated methods panic where it is absent.
//!
//! A call may hang in the kernel, where no signal ends it: whoever must go on loads it in a process of its own
//! ([`crate::doctor::probe`], [`crate::backend::live::Watcher`]), never in the controller of a run.
//!
//! In an arm only [`Sampler`] and [`XidWatch`] may run (process lists took 4.5 ms a call and hold the driver's lock);
//! [`GpmSamples`] are taken at the two ends of its windows.

mod error;
mod gpm;
mod health;
mod instances;
mod inventory;
mod occupancy;
mod policy;
mod processes;
mod sampler;
mod telemetry;
mod xid;

use std::ffi::OsStr;

use nvml_wrapper::Device;

pub use error::{NvmlError, NvmlErrorKind};
pub use gpm::GpmSamples;
pub use instances::{ComputeInstance, Divide, Divided, DriverProfile, GpuInstance};
pub use inventory::Survey;
pub(crate) use inventory::cuda_version;
pub use occupancy::{ExclusiveUse, Occupied, exclusive_use};
pub(crate) use occupancy::{IN_USE, assumed_use, assuming};
pub use policy::{set_time_slice, set_time_slice_words, time_slice};
pub(crate) use processes::{FIRST_PID_NAMESPACE, broken_lists, is_daemon, is_monitor, is_mps, name_from};
pub use processes::{GpuProcess, ProcessKind, Processes, Unknown, Who, classify};
pub(crate) use sampler::lock;
pub use sampler::{Sampler, mean_sm_mhz, throttled_share};
pub use telemetry::{ProcessUse, Telemetry};
pub use xid::{XidEvent, XidWatch};

use crate::provenance::Provenance;

/// The name by which the loader finds the library.
pub(crate) const LIBRARY: &str = "libnvidia-ml.so.1";
/// What only the stand-in exports.
const STAND_IN: &[u8] = b"crosstalk_stand_in\0";

/// A loaded and initialised libnvidia-ml.
#[derive(Debug)]
pub struct Nvml {
    inner: nvml_wrapper::Nvml,
    stand_in: bool,
}

impl Nvml {
    /// Loads the library and initialises it.
    ///
    /// # Errors
    /// Where it is missing, is no match for the kernel's driver, or may not be used by this user.
    pub fn load() -> Result<Self, NvmlError> {
        let inner = nvml_wrapper::Nvml::builder()
            .lib_path(OsStr::new(LIBRARY))
            .init()
            .map_err(|e| NvmlError::of("nvmlInit_v2", e))?;
        Ok(Self { inner, stand_in: is_stand_in(LIBRARY) })
    }

    /// Measured, or StandIn where the library says that it is the stand-in.
    pub fn provenance(&self) -> Provenance {
        if self.stand_in { Provenance::StandIn } else { Provenance::Measured }
    }

    /// The whole GPU with this UUID.
    fn device(&self, uuid: &str) -> Result<Device<'_>, NvmlError> {
        self.inner.device_by_uuid(uuid).map_err(|e| NvmlError::of(&format!("nvmlDeviceGetHandleByUUID({uuid})"), e))
    }
}

/// Whether the library of this name is the stand-in. A library that does not load is none.
pub(crate) fn is_stand_in(name: &str) -> bool {
    // SAFETY: loading runs the library's initialisers; it is the driver's library (or the stand-in), which this process
    // has loaded before or would load anyway. The symbol is looked up, never called.
    unsafe {
        libloading::Library::new(name)
            .is_ok_and(|library| library.get::<unsafe extern "C" fn() -> u32>(STAND_IN).is_ok())
    }
}
