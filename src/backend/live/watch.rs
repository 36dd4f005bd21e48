//! NVML's part of a live run: the right to make noise, the GPU's health over an arm, and the driver's trouble. It lives in a
//! process of its own ([`super::Watcher`]), since any of its calls may hang.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::backend::{BackendError, DcgmReading, GpuHealth, GpuReading};
use crate::dcgm::DcgmExporter;
use crate::gpu::Inventory;
use crate::host::clock::now;
use crate::nvml::{
    Divide, ExclusiveUse, GpmSamples, GpuProcess, Nvml, NvmlError, ProcessUse, Processes, Sampler, Telemetry, Who,
    XidEvent, XidWatch, classify, exclusive_use, lock, mean_sm_mhz, throttled_share,
};
use crate::provenance::Provenance;
use crate::units::Nanos;

use super::{OverArm, Watch};

/// How often clocks, power and throttle reasons are read, the same in all arms (verdict.md, "Fair arms", 10).
const EVERY: Duration = Duration::from_millis(500);

/// How long the driver may still list processes that have ended, and how often it is asked meanwhile.
const FORGETS: (Nanos, Duration) = (Nanos::secs(5), Duration::from_millis(100));

/// One GPU, watched through NVML from the beginning of a run to its end.
pub struct NvmlWatch {
    nvml: Arc<Nvml>,
    uuid: String,
    /// GPUs that are the user's alone, as he says.
    gpu_is_mine: Vec<String>,
    sampler: Sampler,
    /// `None`: this driver tells of no Xid.
    xids: Option<XidWatch>,
    /// The part counts what it does (GPM).
    counts: bool,
    /// A monitor of the user's.
    dcgm: Option<DcgmExporter>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last reading.
    latest: Option<GpuReading>,
    /// Why the device is lost.
    lost: Option<String>,
    /// What the driver reported and nobody has asked for yet.
    trouble: Vec<XidEvent>,
    /// Our tenants, as they were last told.
    crew: Vec<u32>,
    /// Whose counters are read: GPU instances, or `None` for the whole GPU.
    counted: Vec<Option<u32>>,
    /// The counters at the beginning of the arm's windows.
    begun: Option<GpmSamples>,
}

impl NvmlWatch {
    /// Begins to watch the whole GPU `uuid` from this process, and the DCGM exporter that its environment names.
    ///
    /// # Errors
    /// Where NVML is not there, or the GPU cannot be sampled.
    pub fn start(uuid: &str, gpu_is_mine: &[String]) -> Result<Self, BackendError> {
        let nvml = Arc::new(Nvml::load().map_err(device)?);
        let sampler = Sampler::start(Arc::clone(&nvml), uuid, EVERY).map_err(device)?;
        // Not every part tells of Xid errors; a driver that does not is no reason not to measure.
        let xids = XidWatch::start(Arc::clone(&nvml), uuid).ok();
        let gpu_is_mine = gpu_is_mine.to_vec();
        let counts = nvml.has_gpm(uuid);
        let dcgm = DcgmExporter::from_environment(&|name| std::env::var(name).ok()).map_err(BackendError::device)?;
        let (uuid, state) = (uuid.to_owned(), Mutex::default());
        Ok(Self { nvml, uuid, gpu_is_mine, sampler, xids, counts, dcgm, state })
    }

    fn use_of(&self, uuid: &str, processes: &Processes, ours: &[u32]) -> Result<ExclusiveUse, BackendError> {
        let right = exclusive_use(processes, uuid, ours, &self.gpu_is_mine);
        right.map_err(|occupied| BackendError::device(occupied.to_string()))
    }

    /// The readings since the last call.
    fn readings(&self) -> Vec<GpuReading> {
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
    /// The counters now, where the part has any.
    fn counters(&self) -> Option<GpmSamples> {
        let counted = lock(&self.state).counted.clone();
        (!counted.is_empty()).then(|| GpmSamples::take(&self.nvml, &self.uuid, &counted))
    }

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
                    state.trouble.push(event);
                }
            }
            Err(error) => {
                state.lost.get_or_insert(error.to_string());
            }
        }
    }
}

impl NvmlWatch {
    /// By what right a run makes noise on `uuid` beside processes that are `ours`, once the driver has forgotten those that
    /// ended.
    fn nobody_else(&self, uuid: &str, ours: &[u32]) -> Result<ExclusiveUse, BackendError> {
        let crew = match ours {
            [] => lock(&self.state).crew.clone(),
            ours => {
                lock(&self.state).crew = ours.to_vec();
                Vec::new()
            }
        };
        // What the stand-in makes up is not in /proc, and has not ended for that.
        let in_proc = self.nvml.provenance() == Provenance::Measured;
        let ended = |pid: u32| crew.contains(&pid) || (in_proc && !Path::new(&format!("/proc/{pid}")).exists());
        let until = now() + FORGETS.0;
        loop {
            let processes = self.processes_on(uuid)?;
            match self.use_of(uuid, &processes, ours) {
                Err(_) if only_the_ended(&processes, ours, ended) && now() < until => std::thread::sleep(FORGETS.1),
                right => return right,
            }
        }
    }
}

impl Watch for NvmlWatch {
    fn check_exclusive(&self, ours: &[u32]) -> Result<ExclusiveUse, BackendError> {
        self.nobody_else(&self.uuid, ours)
    }

    fn health(&self) -> Result<GpuHealth, BackendError> {
        if self.counts {
            // Instances may have been made since the last arm.
            lock(&self.state).counted = self.nvml.counted(&self.uuid).map_err(device)?;
        }
        self.nvml.health(&self.uuid).map_err(device)
    }

    fn monitor(&self) -> Vec<DcgmReading> {
        self.dcgm.as_ref().map(|exporter| exporter.read(&self.uuid)).unwrap_or_default()
    }

    fn sample(&self, on: bool) {
        self.sampler.sample(on);
    }

    fn start_arm(&self) {
        drop(self.readings());
        let begun = self.counters();
        lock(&self.state).begun = begun;
    }

    fn end_arm(&self) -> OverArm {
        let begun = lock(&self.state).begun.take();
        let activity = begun.and_then(|begun| Some(self.counters()?.since(&begun)));
        let samples = self.readings();
        // An arm shorter than the sampler's step has the reading before it.
        let held_over = samples.is_empty() && self.sampler.is_on();
        let samples = if held_over { lock(&self.state).latest.into_iter().collect() } else { samples };
        OverArm {
            sm_mhz: mean_sm_mhz(&samples),
            power_w: samples.iter().rev().find_map(|s| s.power_mw).map(|mw| f64::from(mw) / 1e3),
            throttled: throttled_share(&samples),
            readings: samples,
            activity: activity.unwrap_or_default(),
        }
    }

    fn sm_mhz_now(&self) -> Option<f64> {
        drop(self.readings());
        lock(&self.state).latest?.sm_mhz.map(f64::from)
    }

    fn xids(&self) -> Vec<XidEvent> {
        self.listen();
        std::mem::take(&mut lock(&self.state).trouble)
    }

    fn lost(&self) -> Option<String> {
        drop(self.readings());
        self.listen();
        lock(&self.state).lost.clone()
    }

    fn machine(&self) -> Result<Inventory, BackendError> {
        self.nvml.inventory().map_err(device)
    }

    fn processes_on(&self, uuid: &str) -> Result<Processes, BackendError> {
        Ok(self.nvml.processes(uuid).map(|there| others(there, std::process::id())))
    }

    fn used_by_process(&self, since: u64) -> Result<Vec<ProcessUse>, NvmlError> {
        self.nvml.used_by_process(&self.uuid, since)
    }

    fn telemetry(&self, uuid: &str) -> Telemetry {
        self.nvml.telemetry(uuid)
    }

    fn divided(&self) -> Box<dyn Divide + '_> {
        Box::new(self.nvml.divided(&self.uuid))
    }

    /// Another GPU in use takes one arrangement along, not the run.
    fn check_exclusive_on(&self, uuid: &str, ours: &[u32]) -> Result<(), BackendError> {
        self.nobody_else(uuid, ours).map(drop).map_err(|e| BackendError::arrangement(e.what))
    }
}

/// Whether everybody else on the GPU has ended: the driver forgets a process a moment after the kernel does.
fn only_the_ended(processes: &Processes, ours: &[u32], ended: impl Fn(u32) -> bool) -> bool {
    let Ok(processes) = processes else { return false };
    let others: Vec<&GpuProcess> = processes.iter().filter(|p| classify(p, ours) == Who::Foreign).collect();
    let mps = processes.iter().any(|p| classify(p, ours) == Who::Mps);
    !mps && !others.is_empty() && others.iter().all(|p| ended(p.pid))
}

/// All but the process `asks`, which looks on: some drivers list whoever has the device open.
fn others(mut there: Vec<GpuProcess>, asks: u32) -> Vec<GpuProcess> {
    there.retain(|process| process.pid != asks);
    there
}

fn device(error: NvmlError) -> BackendError {
    BackendError::device(error.what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvml::{ProcessKind, Unknown};

    fn process(pid: u32, name: &str) -> GpuProcess {
        GpuProcess { pid, name: Some(name.to_owned()), kind: ProcessKind::Compute, gpu_instance: None, memory: None }
    }

    #[test]
    fn whoever_asks_is_not_seen_on_the_gpu() {
        let there = vec![process(7, "crosstalk"), process(8, "crosstalk")];
        assert_eq!(others(there, 7), [process(8, "crosstalk")]);
    }

    #[test]
    fn only_processes_that_have_ended_are_waited_for() {
        let ended = |pid| pid == 7;
        let only = |all: &[(u32, &str)]| {
            only_the_ended(&Ok(all.iter().map(|(pid, name)| process(*pid, name)).collect()), &[9], ended)
        };
        assert!(only(&[(7, "crosstalk")]) && only(&[(7, "crosstalk"), (8, "dcgm-exporter"), (9, "crosstalk")]));
        assert!(!only(&[(7, "crosstalk"), (8, "python3")]), "somebody else is there for good");
        assert!(!only(&[(7, "crosstalk"), (8, "nvidia-cuda-mps-server")]));
        assert!(!only(&[]));
        assert!(!only_the_ended(&Err(Unknown { why: "no".to_owned() }), &[], |_| true), "unknown is not ended");
    }
}
