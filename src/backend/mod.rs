//! What an experiment asks of a backend: open an arrangement, restart its tenants, run an arm. Two backends: the
//! simulator in virtual time, and host processes on real GPUs.

mod capacity;
pub mod live;
mod readings;
pub mod sim;

use serde::{Deserialize, Serialize};

use crate::gpu::Inventory;
use crate::hazard::Came;
use crate::host::probe::HostPauses;
use crate::observation::{Observation, Observed};
use crate::plan::Plan;
use crate::provenance::Provenance;
use crate::tenant::protocol::{DeviceSeen, ProgramInfo};
use crate::units::{Nanos, Rate};

pub use readings::{DcgmReading, DcgmValue, EccErrors, GpuActivity, GpuHealth, HealthChange, PcieLink, RemappedRows};

/// A way to run arms: virtual or real time.
pub trait Backend: Sync {
    /// Where its numbers come from.
    fn provenance(&self) -> Provenance;
    /// The machine as found.
    ///
    /// # Errors
    /// Where the machine cannot be read.
    fn inventory(&self) -> Result<Inventory, BackendError>;
    /// Sessions that may be open at a time: 1 on hardware, one per core in virtual time.
    fn sessions(&self) -> usize;
    /// Arranges the layout, brings the tenants up and proves that each is in its seat.
    ///
    /// # Errors
    /// Where the arrangement cannot be made, or the proof fails.
    fn open<'a>(
        &'a self,
        plan: &'a Plan,
        arrangement: usize,
        grid: usize,
    ) -> Result<Box<dyn Session + 'a>, BackendError>;
}

/// One arranged layout with its tenants up.
pub trait Session {
    /// Restarts the tenants with fresh allocations, in this company; what follows depends on the generation and the company,
    /// not on what ran before.
    ///
    /// # Errors
    /// Where a tenant does not come up, or where the mode has no such company.
    fn restart(&mut self, generation: u32, company: Company) -> Result<(), BackendError>;
    /// What proves where each tenant is, since the last restart. Nothing in virtual time.
    fn evidence(&self) -> Evidence;
    /// Runs one arm.
    ///
    /// # Errors
    /// Where the arm could not be run to its end.
    fn run_arm(&mut self, arm: &ArmPlan) -> Result<ArmRecord, BackendError>;
    /// Asks what only the backend can tell of the arrangement: one of [`crate::observation::CATALOGUE`] that no arm shows.
    ///
    /// # Errors
    /// Where a tenant or the device is lost over it. What cannot be told is an [`Observed`] without a finding.
    fn ask(&mut self, observation: &Observation) -> Result<Observed, BackendError>;
    /// Tries a hazard of the plan, by its index, with processes of its own: the tenants of the arms are down meanwhile and
    /// afterwards, until the next restart.
    ///
    /// # Errors
    /// Where the arrangement cannot be made, or the device is lost. What cannot be tried is [`Came::Untold`].
    fn try_hazard(&mut self, hazard: usize) -> Result<Came, BackendError>;
    /// Takes the tenants down and puts back what was changed.
    ///
    /// # Errors
    /// Where something could not be put back.
    fn close(self: Box<Self>) -> Result<(), BackendError>;
}

/// Who is there beside the victim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Company {
    /// Every neighbour in its seat, as blocks have it.
    #[default]
    Beside,
    /// Nobody: the other seats are empty, without processes, contexts or allocations.
    Alone,
    /// The noise inside the victim's own place: a stream of its process beside that of the probes; the other seats empty.
    Within,
}

impl Company {
    /// Whether it is that of blocks.
    pub fn is_beside(&self) -> bool {
        *self == Self::Beside
    }

    /// Who is there, in words.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Beside => "beside the neighbours",
            Self::Alone => "alone",
            Self::Within => "with the noise in its own place",
        }
    }
}

/// What a backend could not do, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{what}")]
#[serde(deny_unknown_fields)]
pub struct BackendError {
    /// What failed, and the cure.
    pub what: String,
    /// How far it reaches.
    pub reach: Reach,
}

/// How far a failure reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// One arm is lost: a tenant died, hung or spoke garbage. After a restart the run goes on.
    Arm,
    /// The arrangement cannot be made here; others may.
    Arrangement,
    /// The device or its driver is lost: nothing more can be measured.
    Device,
}

impl BackendError {
    /// An arrangement that cannot be made here.
    pub fn arrangement(what: impl Into<String>) -> Self {
        Self { what: what.into(), reach: Reach::Arrangement }
    }

    /// An arm that was lost.
    pub fn arm(what: impl Into<String>) -> Self {
        Self { what: what.into(), reach: Reach::Arm }
    }

    /// A device that was lost.
    pub fn device(what: impl Into<String>) -> Self {
        Self { what: what.into(), reach: Reach::Device }
    }
}

/// What proves where each tenant is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Per seat, in their order.
    pub seats: Vec<SeatEvidence>,
    /// What proves the mode itself, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proofs: Vec<String>,
}

/// Where one tenant is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeatEvidence {
    /// Index of the seat.
    pub seat: usize,
    /// Its host process.
    pub pid: u32,
    /// The device as its own CUDA context sees it; `None`: it touches no GPU.
    pub device: Option<DeviceSeen>,
    /// Cores of its threads; empty where it has none of its own.
    pub cores: Vec<u32>,
    /// Its programs as it resolved them.
    pub programs: Vec<ProgramInfo>,
}

/// One arm: a stretch with one neighbour state.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmPlan {
    /// Which arm.
    pub key: ArmKey,
    /// Index into the plan's neighbours of the noise; `None`: quiet.
    pub noise: Option<usize>,
    /// The victim's windows, in the order of this block.
    pub windows: Vec<Window>,
    /// Shortest time between the neighbour's last completion and the first window.
    pub washout: Nanos,
    /// What is open this long after a window's end is censored.
    pub drain: Nanos,
    /// Whether clocks and power are sampled meanwhile, as in all arms but those of the sampler control. Nobody samples a
    /// simulated GPU.
    pub sampled: bool,
}

impl ArmPlan {
    /// Indices of its windows by when they run: one after another, or, of the tenants of a density, all at once.
    pub(crate) fn at_once(&self) -> Vec<Vec<usize>> {
        let each = 0..self.windows.len();
        match self.windows.iter().any(|window| window.seat.is_some()) {
            true => vec![each.collect()],
            false => each.map(|index| vec![index]).collect(),
        }
    }
}

/// One window: one probe issues.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Index into the plan's panel.
    pub probe: usize,
    /// The load.
    pub load: Load,
    /// Length.
    pub length: Nanos,
    /// Every request of an open loop is held back by this after its planned time: the delay control. It is latency, not
    /// lateness.
    pub delay: Nanos,
    /// Index of the seat whose tenant issues it; `None`: the victim. Windows of tenants in seats are those of a density, and
    /// all run at once.
    pub seat: Option<usize>,
}

/// How requests are issued.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// At planned times, whatever completes.
    Open {
        /// Mean rate.
        rate: Rate,
        /// Poisson, or evenly spaced.
        poisson: bool,
    },
    /// As soon as one completes, `depth` in flight: calibration, solo rates, throughput.
    Closed {
        /// Requests in flight.
        depth: u32,
    },
}

/// Names one arm of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArmKey {
    /// Index of the arrangement.
    pub arrangement: usize,
    /// Index of the grid in it.
    pub grid: usize,
    /// Number of the block in the arrangement.
    pub block: u32,
    /// Index into the plan's neighbours; `None`: quiet.
    pub neighbour: Option<usize>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Purpose::is_block")]
    pub purpose: Purpose,
}

impl ArmKey {
    /// Whether it is one of the arms of `block` that belong together, as [`Purpose::of_block`] says.
    pub(crate) fn belongs(&self, arrangement: usize, grid: usize, block: u32, purpose: Purpose) -> bool {
        (self.arrangement, self.grid, self.block, self.purpose.of_block()) == (arrangement, grid, block, purpose)
    }
}

/// What an arm is for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A cell: the quiet or the noisy arm of a block.
    #[default]
    Block,
    /// The A/A control: the second quiet arm of a block.
    Again,
    /// The presence control: quiet, without any neighbour's process. Its block is one of those that it is compared with.
    Alone,
    /// The sensitivity control: quiet or noisy, with the noise inside the victim's own place. Its pairs are numbered as the
    /// blocks of their grid.
    Within,
    /// The sampler control: a quiet arm of a block without the thread that samples clocks and power.
    Unsampled,
    /// The delay control: a quiet arm of a block in which every request is held back by a known time.
    Delayed,
}

impl Purpose {
    /// Whether it is an arm of a cell.
    pub fn is_block(&self) -> bool {
        *self == Self::Block
    }

    /// The purpose that stands for all arms which are measured together: a block's further quiet arms are of the block.
    pub(crate) fn of_block(self) -> Self {
        match self {
            Self::Again | Self::Unsampled | Self::Delayed => Self::Block,
            Self::Block | Self::Alone | Self::Within => self,
        }
    }

    /// The company in which its arms are run.
    pub(crate) fn company(self) -> Company {
        match self {
            Self::Block | Self::Again | Self::Unsampled | Self::Delayed => Company::Beside,
            Self::Alone => Company::Alone,
            Self::Within => Company::Within,
        }
    }

    /// Its word on the wire, which also keys random streams.
    pub(crate) const fn id(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Again => "again",
            Self::Alone => "alone",
            Self::Within => "within",
            Self::Unsampled => "unsampled",
            Self::Delayed => "delayed",
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Done, and right.
    Ok,
    /// Out of memory.
    Oom,
    /// A driver error, with its code.
    Error(u32),
    /// Done, and its checksum was wrong.
    WrongResult,
    /// Not done at the deadline: censored, not lost.
    Timeout,
}

/// One request, or one mark within one. Times are on the arm's axis; absent where nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Index into [`ArmRecord::series`].
    pub series: u16,
    /// Index into the arm's windows.
    pub window: u16,
    /// When it was to be sent; of a mark, the mark before it.
    pub planned: Nanos,
    /// When it was sent; `None`: never (censored at the deadline while waiting).
    pub sent: Option<Nanos>,
    /// When the device began with it.
    pub gpu_start: Option<Nanos>,
    /// When the device was done with it.
    pub gpu_end: Option<Nanos>,
    /// When the tenant saw it done; `None`: not by the deadline.
    pub completed: Option<Nanos>,
    /// How it ended.
    pub outcome: Outcome,
}

/// Everything measured in one arm.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmRecord {
    /// Names of the series that occur in `samples`.
    pub series: Vec<String>,
    /// Samples in order of planned time within each window.
    pub samples: Vec<Sample>,
    /// What else is known of the arm.
    pub summary: ArmSummary,
}

/// What is known of an arm beside its samples. Part of the event that commits the arm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArmSummary {
    /// The windows, in order.
    pub windows: Vec<WindowSummary>,
    /// The neighbours, in order of their seats; empty in exclusive mode.
    pub neighbours: Vec<NeighbourSummary>,
    /// Mean SM clock over the windows, MHz.
    pub sm_mhz: Option<f64>,
    /// Power draw at the end of the last window, watts.
    pub power_w: Option<f64>,
    /// Part of the time in which the clock was held down by the power cap.
    pub throttled: Option<f64>,
    /// What the GPU said of itself meanwhile, at most twice a second, on the axis of the samples. Nothing in virtual time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readings: Vec<GpuReading>,
    /// The victim had fewer than two cores of its own and ran on one thread that sleeps: its latencies hold wake-ups.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub too_few_cores: bool,
    /// Largest pause of the sender's own thread.
    #[serde(rename = "host_pause_ns")]
    pub host_pause: Option<Nanos>,
    /// What a thread that does nothing but read the clock saw meanwhile, on a core of its own; absent: no core was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_probe: Option<HostPauses>,
    /// Health of the GPU before the arm, its neighbours quiet; absent: as after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_before: Option<GpuHealth>,
    /// Health of the GPU after the arm, its neighbours quiet again. Nothing in virtual time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<GpuHealth>,
    /// Device memory in use on the GPU at the end of the windows of a density, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used: Option<u64>,
    /// What the GPU, or each of its instances, did from the beginning of the first window to the end of the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub activity: Vec<GpuActivity>,
    /// What a DCGM exporter said after the arm, where one answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dcgm: Vec<DcgmReading>,
    /// Out-of-memory events.
    pub oom: Vec<OomEvent>,
}

/// What a GPU said of itself at one time. Unknown is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GpuReading {
    /// When: on CLOCK_MONOTONIC as it is read, on the arm's axis in an arm's summary.
    #[serde(rename = "at_ns")]
    pub at: Nanos,
    /// SM clock, MHz.
    pub sm_mhz: Option<u32>,
    /// Memory clock, MHz.
    pub mem_mhz: Option<u32>,
    /// Power draw of the board, milliwatts.
    pub power_mw: Option<u32>,
    /// Temperature of the die, °C.
    pub temperature_c: Option<u32>,
    /// NVML's bits of what holds the clock down.
    pub throttle: Option<u64>,
}

/// What is known of one window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowSummary {
    /// Index into the plan's panel.
    pub probe: usize,
    /// Index of the seat whose tenant issued it, in a density; absent: the victim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seat: Option<usize>,
    /// Start, on the arm's axis.
    #[serde(rename = "start_ns")]
    pub start: Nanos,
    /// Length.
    #[serde(rename = "length_ns")]
    pub length: Nanos,
    /// Requests planned.
    pub planned: u64,
    /// Requests completed by the deadline.
    pub completed: u64,
    /// Requests sent > 50 µs after plan, the sender being free.
    pub late: u64,
    /// Open requests (waiting or in flight) at half of the window.
    pub open_at_half: u64,
    /// Open requests at the end of the window.
    pub open_at_end: u64,
}

/// What is known of one neighbour seat over the windows of an arm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NeighbourSummary {
    /// Index of the seat.
    pub seat: usize,
    /// Requests that it completed during the windows.
    pub completed: u64,
    /// Requests per second over the windows.
    pub rate: f64,
    /// Part of the windows' time with work pending behind the running one (0 … 1); of host calls: with one in progress.
    pub pending: f64,
    /// Longest stretch without progress.
    #[serde(rename = "longest_gap_ns")]
    pub longest_gap: Nanos,
}

/// An allocation that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OomEvent {
    /// Index of the seat.
    pub seat: usize,
    /// When, on the arm's axis.
    #[serde(rename = "at_ns")]
    pub at: Nanos,
    /// Bytes asked for.
    pub asked: u64,
    /// Bytes free as seen from there.
    pub free: u64,
    /// Bytes in all as seen from there.
    pub total: u64,
}
