//! What libnvidia-ml says of the use of a GPU: by process, and of each device.
//!
//! Utilisation is of the driver's own last period (1/6 s to 1 s by the NVML API reference), not of an arm.

use nvml_wrapper::error::NvmlError as Raw;
use serde::{Deserialize, Serialize};

use super::{Nvml, NvmlError, NvmlErrorKind};

/// One process in one of the driver's periods.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessUse {
    /// Process id.
    pub pid: u32,
    /// When, on the driver's clock, microseconds.
    pub at: u64,
    /// Part of the period in which its kernels ran (0 … 1).
    pub active: f64,
}

/// One device: a GPU, or a MIG device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// Part of the time in which kernels ran (0 … 1), or why it is unknown.
    pub active: Result<f64, String>,
    /// Memory in use, bytes, or why it is unknown.
    pub memory_used: Result<u64, String>,
    /// Memory in all, bytes.
    pub memory_total: Option<u64>,
}

impl Telemetry {
    /// Nothing is known, and why.
    pub fn unknown(why: &str) -> Self {
        Self { active: Err(why.to_owned()), memory_used: Err(why.to_owned()), memory_total: None }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::unknown("nobody was asked")
    }
}

impl Nvml {
    /// What each process of the whole GPU `uuid` did since `since`, a time of the driver's (0: as far back as it knows).
    /// Processes that did nothing in a period are not named. Not in arms.
    ///
    /// # Errors
    /// The driver's own; under MIG it has no such account.
    pub fn used_by_process(&self, uuid: &str, since: u64) -> Result<Vec<ProcessUse>, NvmlError> {
        let one = |sample: nvml_wrapper::struct_wrappers::device::ProcessUtilizationSample| ProcessUse {
            pid: sample.pid,
            at: sample.timestamp,
            active: f64::from(sample.sm_util) / 100.0,
        };
        match self.device(uuid)?.process_utilization_stats(since) {
            Ok(samples) => Ok(samples.into_iter().map(one).filter(|used| used.at > since).collect()),
            // Nothing since then.
            Err(Raw::NotFound) => Ok(Vec::new()),
            Err(error) => Err(NvmlError::of("nvmlDeviceGetProcessUtilization", error)),
        }
    }

    /// What is said of the device `uuid`, a GPU or a MIG device. Not in arms.
    pub fn telemetry(&self, uuid: &str) -> Telemetry {
        let device = match self.device(uuid) {
            Ok(device) => device,
            Err(error) => return Telemetry::unknown(&error.what),
        };
        let words = |call: &str, error| NvmlError::of(call, error).what;
        let memory = device.memory_info();
        Telemetry {
            active: device
                .utilization_rates()
                .map(|rates| f64::from(rates.gpu) / 100.0)
                .map_err(|e| words("nvmlDeviceGetUtilizationRates", e)),
            memory_total: memory.as_ref().ok().map(|m| m.total),
            memory_used: memory.map(|m| m.used).map_err(|e| words("nvmlDeviceGetMemoryInfo_v2", e)),
        }
    }
}

impl NvmlError {
    /// Whether the device is no more.
    pub(crate) fn is_loss(&self) -> bool {
        self.kind == NvmlErrorKind::Lost
    }
}
