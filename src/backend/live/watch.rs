//! NVML's part of a live run: the right to make noise, the GPU's health over an arm, and the driver's trouble.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::backend::BackendError;
use crate::nvml::{ExclusiveUse, HealthSample, Nvml, NvmlError, Sampler, XidWatch, lock, mean_sm_mhz, throttled_share};

use super::{Health, Watch};

/// How often clocks, power and throttle reasons are read, the same in all arms (verdict.md, "Fair arms", 10).
const EVERY: Duration = Duration::from_millis(500);

/// One GPU, watched through NVML from the beginning of a run to its end.
pub struct NvmlWatch {
    nvml: Arc<Nvml>,
    uuid: String,
    /// GPUs that are the user's alone, as he says.
    gpu_is_mine: Vec<String>,
    sampler: Sampler,
    /// `None`: this driver tells of no Xid.
    xids: Option<XidWatch>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last reading.
    latest: Option<HealthSample>,
    /// Why the device is lost.
    lost: Option<String>,
    /// What the driver reported and nobody has asked for yet.
    trouble: Vec<String>,
}

impl NvmlWatch {
    /// Begins to watch the whole GPU `uuid`.
    ///
    /// # Errors
    /// Where it cannot be sampled.
    pub fn start(nvml: Nvml, uuid: &str, gpu_is_mine: &[String]) -> Result<Self, NvmlError> {
        let nvml = Arc::new(nvml);
        let sampler = Sampler::start(Arc::clone(&nvml), uuid, EVERY)?;
        // Not every part tells of Xid errors; a driver that does not is no reason not to measure.
        let xids = XidWatch::start(Arc::clone(&nvml), uuid).ok();
        let gpu_is_mine = gpu_is_mine.to_vec();
        Ok(Self { nvml, uuid: uuid.to_owned(), gpu_is_mine, sampler, xids, state: Mutex::default() })
    }

    /// By what right a run makes noise here.
    ///
    /// # Errors
    /// Where anybody else is there, or may be.
    pub fn right(&self) -> Result<ExclusiveUse, BackendError> {
        let right = self.nvml.exclusive_use(&self.uuid, &[], &self.gpu_is_mine);
        right.map_err(|occupied| BackendError::device(occupied.to_string()))
    }

    /// The readings since the last call.
    fn readings(&self) -> Vec<HealthSample> {
        let taken = self.sampler.take();
        let mut state = lock(&self.state);
        match taken {
            Ok(samples) => {
                state.latest = samples.last().copied().or(state.latest);
                samples
            }
            Err(error) => {
                state.lost.get_or_insert(error.to_string());
                Vec::new()
            }
        }
    }
}

impl NvmlWatch {
    /// Takes note of the Xid errors since the last call.
    fn listen(&self) {
        let Some(xids) = &self.xids else { return };
        let taken = xids.take();
        let mut state = lock(&self.state);
        match taken {
            Ok(events) => {
                for event in events {
                    if event.ends_the_run() {
                        state.lost.get_or_insert(event.words());
                    }
                    state.trouble.push(event.words());
                }
            }
            Err(error) => {
                state.lost.get_or_insert(error.to_string());
            }
        }
    }
}

impl Watch for NvmlWatch {
    fn check_exclusive(&self, ours: &[u32]) -> Result<(), BackendError> {
        let right = self.nvml.exclusive_use(&self.uuid, ours, &self.gpu_is_mine);
        right.map(drop).map_err(|occupied| BackendError::device(occupied.to_string()))
    }

    fn start_arm(&self) {
        drop(self.readings());
    }

    fn end_arm(&self) -> Health {
        let samples = self.readings();
        // An arm shorter than the sampler's step has the reading before it.
        let samples = if samples.is_empty() { lock(&self.state).latest.into_iter().collect() } else { samples };
        Health {
            sm_mhz: mean_sm_mhz(&samples),
            power_w: samples.iter().rev().find_map(|s| s.power_mw).map(|mw| f64::from(mw) / 1e3),
            throttled: throttled_share(&samples),
        }
    }

    fn sm_mhz_now(&self) -> Option<f64> {
        drop(self.readings());
        lock(&self.state).latest?.sm_mhz.map(f64::from)
    }

    fn trouble(&self) -> Vec<String> {
        self.listen();
        std::mem::take(&mut lock(&self.state).trouble)
    }

    fn lost(&self) -> Option<String> {
        drop(self.readings());
        self.listen();
        lock(&self.state).lost.clone()
    }
}
