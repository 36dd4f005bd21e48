//! GPM: what a GPU or an instance did between two samples. On Hopper and later, as on real parts.
//!
//! Of the machine comes how much of the time there was work; whatever else a test wants to see is configured.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};
use std::mem::offset_of;
use std::sync::{Mutex, PoisonError};

use nvml_wrapper_sys::bindings::{
    nvmlGpmMetric_t, nvmlGpmMetric_t__bindgen_ty_1, nvmlGpmMetricsGet_t, nvmlGpmSupport_t,
};

use crate::entry::{Code, Out, entry_points};
use crate::library::{Handle, Place, library, place};
use crate::parts::Part;
use crate::results;

/// NVML_GPM_METRIC_GRAPHICS_UTIL and _SM_UTIL.
const ACTIVE: [u32; 2] = [1, 2];

/// What one sample holds.
#[derive(Clone)]
struct Taken {
    gpu: usize,
    instance: Option<u32>,
    /// Model time, nanoseconds.
    at: u64,
    /// Time of each context with work, nanoseconds.
    busy: Vec<u64>,
    configured: BTreeMap<u32, f64>,
}

/// Samples by their handles; `None`: allocated, and nothing in it yet.
static SAMPLES: Mutex<BTreeMap<u64, Option<Taken>>> = Mutex::new(BTreeMap::new());

fn has_gpm(part: &Part) -> bool {
    part.config.gpm.unwrap_or(part.capability() >= (9, 0))
}

/// Fills a sample of the contexts that `counts` picks by their compute domain.
fn fill(device: Handle, instance: Option<u32>, sample: u64) -> Result<(), Code> {
    let place: Place = place(device)?.card()?;
    let part = place.part();
    if !has_gpm(part) {
        return Err(results::NOT_SUPPORTED);
    }
    let computes: Vec<usize> = match instance {
        None => (0..part.topology.computes.len()).collect(),
        Some(id) => part.mig_devices().filter(|d| d.gpu_instance == id).map(|d| d.compute).collect(),
    };
    if computes.is_empty() {
        return Err(results::INVALID_ARGUMENT);
    }
    let mine = |context: &usize| computes.contains(&(context / part.share.max(1)));
    let (at, busy) = place.gpu.with(|shared, now| {
        let busy = shared.busy.iter().enumerate().filter(|(context, _)| mine(context)).map(|(_, busy)| *busy);
        (now.0, busy.collect())
    });
    let configured = part.config.gpm_metrics.iter().filter(|m| m.gpu_instance.is_none() || m.gpu_instance == instance);
    let configured = configured.map(|m| (m.metric, m.value)).collect();
    let mut samples = SAMPLES.lock().unwrap_or_else(PoisonError::into_inner);
    let free = samples.get_mut(&sample).ok_or(results::INVALID_ARGUMENT)?;
    *free = Some(Taken { gpu: part.index, instance, at, busy, configured });
    Ok(())
}

/// The value of a metric between two samples, percent.
fn value(first: &Taken, second: &Taken, metric: u32) -> Option<f64> {
    let configured = second.configured.get(&metric).copied();
    configured.or_else(|| {
        let length = second.at.checked_sub(first.at).filter(|length| *length > 0)?;
        // The busiest context: several at once are no more than all of the time.
        let busy = second.busy.iter().zip(&first.busy).map(|(after, before)| after.saturating_sub(*before)).max()?;
        ACTIVE.contains(&metric).then(|| (busy as f64 / length as f64 * 100.0).min(100.0))
    })
}

entry_points! {
    fn nvmlGpmQueryDeviceSupport(device: Handle, support: Out<nvmlGpmSupport_t>) {
        let supported = u32::from(has_gpm(place(device)?.part()));
        let asked = support.get()?;
        if asked.version != 1 {
            return Err(results::ARGUMENT_VERSION_MISMATCH);
        }
        support.put(nvmlGpmSupport_t { isSupportedDevice: supported, ..asked })
    }

    fn nvmlGpmSampleAlloc(sample: Out<u64>) {
        library()?;
        let mut samples = SAMPLES.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = samples.last_key_value().map_or(1 << 49, |(last, _)| *last + 1);
        samples.insert(handle, None);
        sample.put(handle)
    }

    fn nvmlGpmSampleFree(sample: u64) {
        library()?;
        let mut samples = SAMPLES.lock().unwrap_or_else(PoisonError::into_inner);
        samples.remove(&sample).map(drop).ok_or(results::INVALID_ARGUMENT)
    }

    fn nvmlGpmSampleGet(device: Handle, sample: u64) {
        fill(device, None, sample)
    }

    fn nvmlGpmMigSampleGet(device: Handle, gpu_instance: u32, sample: u64) {
        fill(device, Some(gpu_instance), sample)
    }

    fn nvmlGpmMetricsGet(request: Out<nvmlGpmMetricsGet_t>) {
        library()?;
        // Field by field: the arrays of other headers are shorter or longer.
        if request.field::<u32>(offset_of!(nvmlGpmMetricsGet_t, version)).get()? != 1 {
            return Err(results::ARGUMENT_VERSION_MISMATCH);
        }
        let taken = |offset: usize| {
            let handle = request.field::<u64>(offset).get()?;
            let samples = SAMPLES.lock().unwrap_or_else(PoisonError::into_inner);
            samples.get(&handle).cloned().flatten().ok_or(results::INVALID_ARGUMENT)
        };
        let first = taken(offset_of!(nvmlGpmMetricsGet_t, sample1))?;
        let second = taken(offset_of!(nvmlGpmMetricsGet_t, sample2))?;
        if (first.gpu, first.instance) != (second.gpu, second.instance) {
            return Err(results::INVALID_ARGUMENT);
        }
        let count = request.field::<u32>(offset_of!(nvmlGpmMetricsGet_t, numMetrics)).get()?;
        let metrics = request.field::<nvmlGpmMetric_t>(offset_of!(nvmlGpmMetricsGet_t, metrics));
        let name = |text: &'static CStr| text.as_ptr() as *mut c_char;
        metrics.each(count as usize, |metric| {
            let found = value(&first, &second, metric.metricId);
            metric.nvmlReturn = if found.is_some() { 0 } else { results::NOT_SUPPORTED.0 };
            metric.value = found.unwrap_or(0.0);
            metric.metricInfo = nvmlGpmMetric_t__bindgen_ty_1 {
                shortName: name(c"stand-in"),
                longName: name(c"a metric of the stand-in"),
                unit: name(c"%"),
            };
        })
    }

    fn nvmlGpmQueryIfStreamingEnabled(device: Handle, state: Out<u32>) {
        if !has_gpm(place(device)?.part()) {
            return Err(results::NOT_SUPPORTED);
        }
        state.put(0)
    }
}
