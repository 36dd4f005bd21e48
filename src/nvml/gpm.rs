//! What a GPU and each of its instances did between two moments, by the driver's own counters (GPM: GPU performance
//! monitoring, on Hopper and later).
//!
//! A sample is a snapshot of counters in the library's memory; figures come from two of them. They are taken at the two ends
//! of an arm's windows, and never between.

use std::sync::Arc;

use nvml_wrapper::error::nvml_try;
use nvml_wrapper_sys::bindings::{
    NVML_GPM_METRICS_GET_VERSION, NVML_GPM_SUPPORT_VERSION, nvmlDevice_t, nvmlGpmMetric_t, nvmlGpmMetricsGet_t,
    nvmlGpmSample_t, nvmlGpmSupport_t,
};

use super::error::reading;
use super::{Nvml, NvmlError};
use crate::backend::GpuActivity;

/// The metrics asked for, with the place of each figure: NVML_GPM_METRIC_* of nvml.h. Shares are percentages there.
const METRICS: [(u32, Place); 7] = [
    (1, |to, value| to.active = Some(value / 100.0)),
    (2, |to, value| to.sm = Some(value / 100.0)),
    (3, |to, value| to.occupancy = Some(value / 100.0)),
    (5, |to, value| to.tensor = Some(value / 100.0)),
    (10, |to, value| to.dram = Some(value / 100.0)),
    (20, |to, value| to.pcie_from_gpu_mib_s = Some(value)),
    (21, |to, value| to.pcie_to_gpu_mib_s = Some(value)),
];
type Place = fn(&mut GpuActivity, f64);

/// Metrics beyond the 210 of this header for which there is room: later headers have longer arrays under the same version
/// (CUDA 13's has 477), and nobody promises that a library writes no further than it was asked.
const SPARE: usize = 814;

/// NVML's request, and room behind it.
#[repr(C)]
struct Request {
    head: nvmlGpmMetricsGet_t,
    spare: [nvmlGpmMetric_t; SPARE],
}

/// The counters of a GPU or of its instances at one moment.
pub struct GpmSamples {
    nvml: Arc<Nvml>,
    /// By GPU instance; `None`: the whole GPU.
    taken: Vec<(Option<u32>, nvmlGpmSample_t)>,
}

// SAFETY: the handles name memory of the library's, which may be called from any thread (NVML API reference, "Thread
// safety"); whoever has the value is the only one who uses them.
unsafe impl Send for GpmSamples {}

impl Drop for GpmSamples {
    fn drop(&mut self) {
        let Ok(free) = &self.nvml.inner.lib().nvmlGpmSampleFree else { return };
        for (_, sample) in self.taken.drain(..) {
            // SAFETY: the symbol is there; the handle was allocated by this library, and is forgotten with this call.
            let _ = unsafe { free(sample) };
        }
    }
}

impl Nvml {
    /// Whether the whole GPU `uuid` has these counters.
    pub fn has_gpm(&self, uuid: &str) -> bool {
        let Ok(device) = self.device(uuid) else { return false };
        let lib = self.inner.lib();
        // What allocates must be able to free.
        let (Ok(query), Ok(_)) = (&lib.nvmlGpmQueryDeviceSupport, &lib.nvmlGpmSampleFree) else { return false };
        let mut support = nvmlGpmSupport_t { version: NVML_GPM_SUPPORT_VERSION, isSupportedDevice: 0 };
        // SAFETY: the symbol is there; the handle comes from this library; the call fills a struct of its type.
        let code = unsafe { query(device.handle(), &mut support) };
        nvml_try(code).is_ok() && support.isSupportedDevice != 0
    }

    /// Whose counters tell of the whole GPU `uuid`: its GPU instances that have a device, or with MIG off itself (`None`).
    /// Not in arms.
    ///
    /// # Errors
    /// Where the GPU is lost or not there.
    pub fn counted(&self, uuid: &str) -> Result<Vec<Option<u32>>, NvmlError> {
        let device = self.device(uuid)?;
        if reading("nvmlDeviceGetMigMode", device.mig_mode())?.is_none_or(|mode| mode.current != 1) {
            return Ok(vec![None]);
        }
        let Ok(instance_of) = &self.inner.lib().nvmlDeviceGetGpuInstanceId else { return Ok(Vec::new()) };
        let most = reading("nvmlDeviceGetMaxMigDeviceCount", device.mig_device_count())?.unwrap_or(0);
        let mut found = Vec::new();
        // Indices have gaps.
        for mig in (0..most).filter_map(|index| device.mig_device_by_index(index).ok()) {
            let mut id = 0;
            // SAFETY: the symbol is there; the handle comes from this library; the call writes one integer.
            let code = unsafe { instance_of(mig.handle(), &mut id) };
            if nvml_try(code).is_ok() && !found.contains(&Some(id)) {
                found.push(Some(id));
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

impl GpmSamples {
    /// Takes the counters of `counted` (see [`Nvml::counted`]) of the GPU `uuid` now. Those that cannot be read are left out.
    pub fn take(nvml: &Arc<Nvml>, uuid: &str, counted: &[Option<u32>]) -> Self {
        let mut samples = Self { nvml: Arc::clone(nvml), taken: Vec::new() };
        let lib = nvml.inner.lib();
        let (Ok(device), Ok(alloc)) = (nvml.device(uuid), &lib.nvmlGpmSampleAlloc) else { return samples };
        // SAFETY: a handle of this library, used for calls of this library while it is loaded.
        let device: nvmlDevice_t = unsafe { device.handle() };
        for instance in counted {
            let mut sample: nvmlGpmSample_t = std::ptr::null_mut();
            // SAFETY: the symbol is there; the call writes one handle.
            if nvml_try(unsafe { alloc(&mut sample) }).is_err() || sample.is_null() {
                continue;
            }
            // From here on it is freed with the others, filled or not.
            samples.taken.push((*instance, sample));
            let code = match (instance, &lib.nvmlGpmSampleGet, &lib.nvmlGpmMigSampleGet) {
                // SAFETY: the symbol is there; both handles come from this library.
                (None, Ok(get), _) => Some(unsafe { get(device, sample) }),
                // SAFETY: as above.
                (Some(id), _, Ok(get)) => Some(unsafe { get(device, *id, sample) }),
                _ => None,
            };
            if code.is_none_or(|code| nvml_try(code).is_err())
                && let (Some((_, unfilled)), Ok(free)) = (samples.taken.pop(), &lib.nvmlGpmSampleFree)
            {
                // SAFETY: the symbol is there; the handle was just allocated, and is forgotten with this call.
                let _ = unsafe { free(unfilled) };
            }
        }
        samples
    }

    /// What each did since `before`. What the driver does not tell is absent; who tells nothing is left out.
    pub fn since(&self, before: &Self) -> Vec<GpuActivity> {
        let Ok(get) = &self.nvml.inner.lib().nvmlGpmMetricsGet else { return Vec::new() };
        let mut found = Vec::new();
        for (instance, second) in &self.taken {
            let Some((_, first)) = before.taken.iter().find(|(other, _)| other == instance) else { continue };
            // SAFETY: integers, floats and raw pointers: all bits zero is a value.
            let mut request: Box<Request> = Box::new(unsafe { std::mem::zeroed() });
            request.head.version = NVML_GPM_METRICS_GET_VERSION;
            request.head.numMetrics = METRICS.len() as u32;
            (request.head.sample1, request.head.sample2) = (*first, *second);
            for (metric, (id, _)) in request.head.metrics.iter_mut().zip(METRICS) {
                metric.metricId = id;
            }
            // A pointer to the whole: the room behind the head may be written, too.
            let whole: *mut Request = &mut *request;
            // SAFETY: the symbol is there; the struct is of the call's type, with room behind it; both samples are filled.
            if nvml_try(unsafe { get(whole.cast()) }).is_err() {
                continue;
            }
            let nothing = GpuActivity { gpu_instance: *instance, ..GpuActivity::default() };
            let mut activity = nothing.clone();
            for (metric, (_, place)) in request.head.metrics.iter().zip(METRICS) {
                // Each has a result of its own; some parts and instances have some of them only.
                if nvml_try(metric.nvmlReturn).is_ok() && metric.value.is_finite() && metric.value >= 0.0 {
                    place(&mut activity, metric.value);
                }
            }
            if activity != nothing {
                found.push(activity);
            }
        }
        found
    }
}
