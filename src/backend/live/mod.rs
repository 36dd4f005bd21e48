//! The live backend: each seat a process of its own on a real GPU, in real time.
//!
//! Tenants are this same program under a hidden verb. They are told what to do in lines ([`crate::tenant::protocol`]),
//! and leave samples in memory that both sides map ([`crate::tenant::Region`]). NVML, whose calls may hang for good, is
//! asked by one more process ([`Watcher`]).

mod arm;
mod ask;
mod evidence;
mod hazard;
mod last_words;
mod replay;
mod seat;
mod self_check;
mod session;
pub mod tenant;
#[cfg(test)]
mod tests;
mod watch;
pub(crate) mod watcher;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use crate::backend::{Backend, BackendError, DcgmReading, GpuActivity, GpuHealth, GpuReading, Session};
use crate::gpu::{Gpu, Inventory};
use crate::host::cores::{Cores, allowed};
use crate::nvml::{Divide, ExclusiveUse, NvmlError, NvmlErrorKind, ProcessUse, Processes, Telemetry, XidEvent};
use crate::plan::Plan;
use crate::provenance::Provenance;
use crate::scenario::SharingMode;
use crate::sharing;
use crate::units::Nanos;

pub use self::self_check::{CheckVerdict, Checked, Figure, SelfCheck};
use self::session::LiveSession;
pub use self::watch::NvmlWatch;
pub use self::watcher::Watcher;

/// What an operator does about a device that does not come back.
const DO: &str = "drain the node, look for NVRM and Xid in `dmesg`, and reset the GPU (`nvidia-smi --gpu-reset`) or reboot \
                  before it is used again";

/// What the live backend needs to know of the GPU while it measures: NVML's part.
pub trait Watch: Sync {
    /// Do no harm (design.md, property 6): asked before any tenant starts and between arms, with the processes of our
    /// tenants. No noise starts unless it agrees, and says by what right.
    ///
    /// # Errors
    /// Where somebody else may be at work on the physical GPU, or nobody can tell: who, and the cure.
    fn check_exclusive(&self, ours: &[u32]) -> Result<ExclusiveUse, BackendError>;
    /// Memory errors, replaced rows, the PCIe link: asked between arms only.
    ///
    /// # Errors
    /// Where the device is lost, or the driver does not answer.
    fn health(&self) -> Result<GpuHealth, BackendError>;
    /// What a monitor of the user's says of the GPU and its instances: asked between arms only.
    fn monitor(&self) -> Vec<DcgmReading>;
    /// Whether clocks and power are sampled from here on: they are, but in arms of the sampler control. Returns when no sample
    /// is being taken, where it is to be none.
    fn sample(&self, on: bool);
    /// The windows of an arm begin: from here on clocks, power and throttle reasons are read, and nothing else.
    fn start_arm(&self);
    /// The windows of an arm are over.
    fn end_arm(&self) -> OverArm;
    /// The SM clock, MHz; `None` where it cannot be read. Asked at most twice a second.
    fn sm_mhz_now(&self) -> Option<f64>;
    /// What the driver reported since it was last asked, in words: Xid events with their numbers.
    fn trouble(&self) -> Vec<String> {
        self.xids().iter().map(XidEvent::words).collect()
    }
    /// The Xid events since it was last asked: taken out of the trouble that arms are told of. For what provokes them.
    fn xids(&self) -> Vec<XidEvent> {
        Vec::new()
    }
    /// Why the device is lost, where it is.
    fn lost(&self) -> Option<String>;
    /// The machine as it is now. Not in arms.
    ///
    /// # Errors
    /// Where the driver does not answer.
    fn machine(&self) -> Result<Inventory, BackendError>;
    /// Who is on the whole GPU `uuid` now, or why nobody can tell. Not in arms.
    ///
    /// # Errors
    /// Where the driver does not answer.
    fn processes_on(&self, uuid: &str) -> Result<Processes, BackendError>;
    /// As [`Watch::check_exclusive`], for another GPU of this machine.
    ///
    /// # Errors
    /// Where somebody else may be at work there: who, and the cure.
    fn check_exclusive_on(&self, uuid: &str, ours: &[u32]) -> Result<(), BackendError>;
    /// What the driver says each process of the GPU under test did of late: the part of the time in which its kernels ran,
    /// newer than `since`, a time of the driver's. Not in arms.
    ///
    /// # Errors
    /// Where the driver has no such account, or does not answer: its words.
    fn used_by_process(&self, since: u64) -> Result<Vec<ProcessUse>, NvmlError> {
        let _ = since;
        Err(NvmlError {
            what: "nobody keeps an account of processes here".to_owned(),
            kind: NvmlErrorKind::NotSupported,
        })
    }
    /// What the driver says of the device with this UUID, a GPU or an instance: of its last second. Not in arms.
    fn telemetry(&self, uuid: &str) -> Telemetry {
        let _ = uuid;
        Telemetry::default()
    }
    /// To divide the GPU under test, which is in MIG mode.
    fn divided(&self) -> Box<dyn Divide + '_>;
    /// Whoever looks does so on `cores` from here on, where there are any: not on those of tenants.
    fn keep_on(&self, cores: &[u32]) {
        let _ = cores;
    }
}

/// The GPU over the windows of an arm. Unknown is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverArm {
    /// Mean SM clock, MHz.
    pub sm_mhz: Option<f64>,
    /// Power at the end, watts.
    pub power_w: Option<f64>,
    /// Part of the time in which the clock was held down by the power cap.
    pub throttled: Option<f64>,
    /// The single readings, on CLOCK_MONOTONIC.
    pub readings: Vec<GpuReading>,
    /// What it did from their beginning to their end, itself or each of its instances.
    pub activity: Vec<GpuActivity>,
}

/// What a [`Live`] backend is made of.
pub struct Settings {
    /// The machine as found.
    pub inventory: Inventory,
    /// Index of the GPU under test.
    pub gpu: usize,
    /// Its PCI bus id, as NVML or sysfs writes it, where it is known: for the NUMA node.
    pub bus_id: Option<String>,
    /// Whether the driver is a real one.
    pub provenance: Provenance,
    /// The program that tenants run: `crosstalk` itself.
    pub exe: PathBuf,
    /// What a tenant's environment holds beside ours.
    pub environment: Vec<(OsString, OsString)>,
    /// NVML's part.
    pub watch: Box<dyn Watch>,
    /// The user lets this run change what the driver keeps.
    pub allow_reconfigure: bool,
    /// How long tenants may take to answer.
    pub deadlines: Deadlines,
}

/// How long a tenant may take to answer each kind of order. One that takes longer hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// To say who it is.
    pub hello: Nanos,
    /// To create contexts, load modules, and fill and touch all memory: seconds each, and all tenants at once.
    pub load: Nanos,
    /// To post the first request of its noise.
    pub noise: Nanos,
    /// To drain: two requests of the longest.
    pub quiet: Nanos,
    /// Beyond a window and its drain, until the device is rid of what was left open.
    pub window: Nanos,
    /// To end; then it is killed.
    pub end: Nanos,
}

impl Deadlines {
    /// The same, none longer than `longest`.
    #[must_use]
    pub fn at_most(self, longest: Nanos) -> Self {
        let Self { hello, load, noise, quiet, window, end } = self;
        let [hello, load, noise, quiet, window, end] =
            [hello, load, noise, quiet, window, end].map(|one| one.min(longest));
        Self { hello, load, noise, quiet, window, end }
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            hello: Nanos::secs(20),
            load: Nanos::secs(180),
            noise: Nanos::secs(30),
            quiet: Nanos::secs(60),
            window: Nanos::secs(60),
            end: Nanos::secs(5),
        }
    }
}

/// The live backend. Sessions must be opened and used on one thread that lives as long as the run: tenants die with the
/// thread that started them, and an experiment whose backend has one session uses its caller's.
pub struct Live {
    settings: Settings,
    cores: Cores,
    /// Faults that neighbours have taken here in this run: whatever is measured later comes after them.
    faults: AtomicU32,
}

impl Live {
    /// The backend of one GPU.
    ///
    /// # Errors
    /// Where the inventory lacks the GPU, or the kernel does not say which processors may be used.
    pub fn new(settings: Settings) -> Result<Self, BackendError> {
        if settings.inventory.gpus.get(settings.gpu).is_none() {
            return Err(BackendError::device(format!("no GPU {} on this machine", settings.gpu)));
        }
        let allowed = allowed().map_err(|e| BackendError::device(format!("the processors allowed to us: {e}")))?;
        let cores = Cores::read(Path::new("/sys"), &allowed, settings.bus_id.as_deref());
        Ok(Self { settings, cores, faults: AtomicU32::new(0) })
    }

    /// The same with other cores: for tests.
    #[cfg(test)]
    fn with_cores(mut self, cores: Cores) -> Self {
        self.cores = cores;
        self
    }

    fn gpu(&self) -> &Gpu {
        &self.settings.inventory.gpus[self.settings.gpu]
    }

    fn watch(&self) -> &dyn Watch {
        self.settings.watch.as_ref()
    }

    /// That faults were taken here before, where they were.
    fn taint(&self) -> Option<String> {
        match self.faults.load(Ordering::Relaxed) {
            0 => None,
            n => Some(format!("neighbours have taken {n} faults on this GPU earlier in this run")),
        }
    }
}

/// Why an arrangement of this mode cannot be made live on `gpu`, where it cannot.
pub fn unsupported(mode: SharingMode, gpu: &Gpu) -> Option<String> {
    match mode {
        other if !sharing::on_hardware(other) => Some(sharing::not_on_hardware(other)),
        _ if !mode.needs_mig() && gpu.mig == Some(true) => Some(format!(
            "{mode} needs the whole GPU, and MIG is on: a process sees one instance of it; turn MIG off (`nvidia-smi -i \
             {} -mig 0`) or arrange mig",
            gpu.uuid
        )),
        _ => None,
    }
}

impl Backend for Live {
    fn provenance(&self) -> Provenance {
        self.settings.provenance
    }

    fn inventory(&self) -> Result<Inventory, BackendError> {
        Ok(self.settings.inventory.clone())
    }

    fn sessions(&self) -> usize {
        1
    }

    /// Starts nobody yet: the experiment restarts a session before its first arm, and bringing tenants up takes seconds.
    fn open<'a>(
        &'a self,
        plan: &'a Plan,
        arrangement: usize,
        grid: usize,
    ) -> Result<Box<dyn Session + 'a>, BackendError> {
        let planned = &plan.arrangements[arrangement];
        if let Some(reason) = unsupported(planned.sharing, self.gpu()) {
            return Err(BackendError::arrangement(format!("{}: {reason}", planned.name)));
        }
        Ok(Box::new(LiveSession::new(self, plan, arrangement, grid)))
    }
}
