//! Clocks, power, temperature and throttling over time: the only readings taken in arms.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};

use super::error::reading;
use super::{Nvml, NvmlError};
use crate::backend::GpuReading;
use crate::host::clock::now;
use crate::units::Nanos;

/// The most that fair arms allow is two samples per second.
const SHORTEST: Duration = Duration::from_millis(500);
/// A driver that has not answered for this long hangs.
const HANGS: Nanos = Nanos::secs(10);
/// How long a sample that is being taken is waited for, where it is to be the last.
const LAST: Duration = Duration::from_secs(1);
/// The clock is held down: by the power cap 0x4, HW slowdown 0x8, SW thermal 0x20, HW thermal 0x40, power brake 0x80.
/// Neither idle (0x1) nor application clocks (0x2) throttle.
const THROTTLES: u64 = 0x4 | 0x8 | 0x20 | 0x40 | 0x80;

impl GpuReading {
    /// Whether the clock is held down by power, heat or the board; `None`: unknown.
    pub fn throttled(&self) -> Option<bool> {
        self.throttle.map(|bits| bits & THROTTLES != 0)
    }
}

/// Mean SM clock, MHz; `None` without a reading.
pub fn mean_sm_mhz(samples: &[GpuReading]) -> Option<f64> {
    mean(samples.iter().filter_map(|s| s.sm_mhz).map(f64::from))
}

/// Share of the samples (0 … 1) in which the clock was held down; `None` without a reading.
pub fn throttled_share(samples: &[GpuReading]) -> Option<f64> {
    mean(samples.iter().filter_map(GpuReading::throttled).map(|t| f64::from(u8::from(t))))
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0u32), |(sum, n), v| (sum + v, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

/// What thread and owner share.
#[derive(Default)]
struct Shared {
    samples: Vec<GpuReading>,
    /// Since when a sample is being taken.
    calling: Option<Nanos>,
    failed: Option<NvmlError>,
    /// No sample is to be taken.
    off: bool,
    stop: bool,
}

/// A thread that samples one GPU from start to drop, the same in every arm but those that show what it does itself.
pub struct Sampler {
    shared: Arc<(Mutex<Shared>, Condvar)>,
}

impl Sampler {
    /// Samples the whole GPU `uuid` every `every` (500 ms at least), the first time at once.
    ///
    /// # Errors
    /// Where the GPU is not there, or no thread can be had.
    pub fn start(nvml: Arc<Nvml>, uuid: &str, every: Duration) -> Result<Self, NvmlError> {
        nvml.device(uuid)?;
        let shared = Arc::new((Mutex::new(Shared::default()), Condvar::new()));
        let (ours, uuid) = (Arc::clone(&shared), uuid.to_owned());
        std::thread::Builder::new()
            .name("nvml-sampler".to_owned())
            .spawn(move || work(&nvml, &uuid, every.max(SHORTEST), &ours))
            .map_err(|e| NvmlError::other(format!("cannot start the NVML sampler: {e}")))?;
        Ok(Self { shared })
    }

    /// The samples since the last call.
    ///
    /// # Errors
    /// Where the GPU was lost, or the driver has not answered for 10 s: what was sampled before is lost with it.
    pub fn take(&self) -> Result<Vec<GpuReading>, NvmlError> {
        let mut shared = lock(&self.shared.0);
        if let Some(error) = &shared.failed {
            return Err(error.clone());
        }
        if shared.calling.is_some_and(|since| now().saturating_sub(since) > HANGS) {
            return Err(NvmlError::other(
                "NVML has not answered for 10 s: the driver hangs; look for Xid in `dmesg`, and reboot the node"
                    .to_owned(),
            ));
        }
        Ok(std::mem::take(&mut shared.samples))
    }
}

impl Sampler {
    /// Whether samples are taken from here on. Returns when none is being taken, where there are to be none; a driver that
    /// hangs is not waited for.
    pub fn sample(&self, on: bool) {
        let (mutex, changed) = &*self.shared;
        let mut shared = lock(mutex);
        shared.off = !on;
        changed.notify_all();
        if !on {
            drop(changed.wait_timeout_while(shared, LAST, |s| s.calling.is_some()));
        }
    }

    /// Whether samples are taken.
    pub fn is_on(&self) -> bool {
        !lock(&self.shared.0).off
    }
}

impl Drop for Sampler {
    /// Tells the thread to end. It is not waited for: a hanging driver must not hang its user.
    fn drop(&mut self) {
        lock(&self.shared.0).stop = true;
        self.shared.1.notify_all();
    }
}

/// A panic elsewhere leaves plain values behind, which are as good as before.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(nvml: &Nvml, uuid: &str, every: Duration, (mutex, changed): &(Mutex<Shared>, Condvar)) {
    loop {
        let on = changed.wait_while(lock(mutex), |s| s.off && !s.stop);
        let mut shared = on.unwrap_or_else(PoisonError::into_inner);
        if shared.stop {
            return;
        }
        shared.calling = Some(now());
        drop(shared);
        let sample = nvml.sample(uuid);
        let mut shared = lock(mutex);
        shared.calling = None;
        changed.notify_all();
        match sample {
            Ok(sample) => shared.samples.push(sample),
            Err(error) => {
                shared.failed = Some(error);
                return;
            }
        }
        let waited = changed.wait_timeout_while(shared, every, |s| !s.stop).unwrap_or_else(PoisonError::into_inner);
        if waited.0.stop {
            return;
        }
    }
}

impl Nvml {
    /// One sample of the whole GPU `uuid`.
    ///
    /// # Errors
    /// Where the GPU is lost or not there.
    pub fn sample(&self, uuid: &str) -> Result<GpuReading, NvmlError> {
        let device = self.device(uuid)?;
        let begun = now();
        let sm_mhz = reading("nvmlDeviceGetClockInfo", device.clock_info(Clock::SM))?;
        let mem_mhz = reading("nvmlDeviceGetClockInfo", device.clock_info(Clock::Memory))?;
        let power_mw = reading("nvmlDeviceGetPowerUsage", device.power_usage())?;
        let temperature_c = reading("nvmlDeviceGetTemperature", device.temperature(TemperatureSensor::Gpu))?;
        let throttle = reading("nvmlDeviceGetCurrentClocksThrottleReasons", device.current_throttle_reasons())?;
        let at = Nanos(u64::midpoint(begun.0, now().0));
        Ok(GpuReading { at, sm_mhz, mem_mhz, power_mw, temperature_c, throttle: throttle.map(|t| t.bits()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(sm_mhz: Option<u32>, throttle: Option<u64>) -> GpuReading {
        GpuReading { at: Nanos(0), sm_mhz, mem_mhz: None, power_mw: None, temperature_c: None, throttle }
    }

    #[test]
    fn only_what_holds_the_clock_down_throttles() {
        for (bits, throttled) in [
            (0, false),
            (0x1, false),
            (0x2, false),
            (0x3, false),
            (0x4, true),
            (0x8, true),
            (0x10, false),
            (0x20, true),
            (0x40, true),
            (0x81, true),
        ] {
            assert_eq!(sample(None, Some(bits)).throttled(), Some(throttled), "{bits:#x}");
        }
        assert_eq!(sample(None, None).throttled(), None);
    }

    #[test]
    fn unknown_readings_are_left_out_and_never_zero() {
        assert_eq!(mean_sm_mhz(&[]), None);
        assert_eq!(mean_sm_mhz(&[sample(None, None)]), None);
        assert_eq!(
            mean_sm_mhz(&[sample(Some(1000), None), sample(None, None), sample(Some(2000), None)]),
            Some(1500.0)
        );
        assert_eq!(throttled_share(&[sample(None, None)]), None);
        assert_eq!(throttled_share(&[sample(None, Some(0x4)), sample(None, None), sample(None, Some(0x1))]), Some(0.5));
    }
}
