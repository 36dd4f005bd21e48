//! The validated scenario: typed, every default made visible, nothing of the machine in it.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::design::{Design, Quantile};
use super::expectation::Expectation;
use crate::channel::Channel;
use crate::hazard::Hazard;
use crate::observation::Asked;
use crate::units::{Bytes, Nanos, Rate, Share};
use crate::workload::{Params, Workload};

/// A validated scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Name.
    pub name: String,
    /// What it asks, in one sentence.
    pub description: Option<String>,
    /// Device that it pins ("sim:h100-sxm").
    pub device: Option<String>,
    /// Glob over product names, or a model's id.
    pub gpu: Option<String>,
    /// Seed.
    pub seed: u64,
    /// The design of the experiment.
    pub design: Design,
    /// The victim's probes, in order.
    pub panel: Vec<Probe>,
    /// The neighbours, in order.
    pub neighbours: Vec<Neighbour>,
    /// What neighbours may do beside slowing the victim, in order.
    pub hazards: Vec<Trial>,
    /// The arrangements, in order.
    pub arrangements: Vec<Arrangement>,
    /// Accepted risks.
    pub accepted: Vec<Accept>,
    /// Faults are allowed on hardware.
    pub allow_faults: bool,
    /// Allocation until out of memory is allowed on hardware.
    pub allow_oom: bool,
    /// Power viruses are allowed on hardware.
    pub allow_power: bool,
}

/// When requests arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// A Poisson process of 10 % of the closed-loop rate, calibrated in place.
    Auto,
    /// A Poisson process of this rate.
    Poisson(Rate),
    /// Evenly spaced. Can phase-lock with time slices: warned about.
    Fixed(Rate),
}

/// A bound on a quantile of a probe's latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slo {
    /// Quantile.
    pub quantile: Quantile,
    /// Its bound.
    #[serde(rename = "bound_ns")]
    pub bound: Nanos,
}

/// One probe of the victim.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Name: the key of its series; the workload's id unless given.
    pub name: String,
    /// Its workload.
    pub workload: &'static Workload,
    /// Its parameters.
    pub params: Params,
    /// When requests arrive.
    pub arrivals: Arrivals,
    /// Requests in flight at most.
    pub outstanding: u32,
    /// Its service-level objectives.
    pub slos: Vec<Slo>,
}

/// One neighbour.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// Name.
    pub name: String,
    /// Its workload.
    pub workload: &'static Workload,
    /// Its parameters.
    pub params: Params,
    /// Part of the time in which it is noisy.
    pub duty: Share,
    /// Length of one burst and pause together, where duty < 100 %.
    pub burst: Nanos,
    /// Requests that it keeps queued (2 to 8).
    pub queued: u32,
}

/// A hazard that is to be tried.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Name: the hazard's id unless given.
    pub name: String,
    /// The hazard.
    pub hazard: &'static Hazard,
    /// Its parameters.
    pub params: Params,
}

/// How the tenants share the hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SharingMode {
    /// The victim has the GPU for itself; neighbours run their host loop only.
    Exclusive,
    /// Streams of one process.
    Streams,
    /// Green contexts of one process.
    GreenContexts,
    /// Processes in turns.
    TimeSlicing,
    /// Processes side by side through MPS.
    Mps,
    /// GPU instances.
    Mig,
    /// Compute instances of one GPU instance.
    MigComputeInstances,
    /// Time-slicing inside GPU instances.
    #[serde(rename = "mig+time-slicing")]
    MigTimeSlicing,
    /// MPS inside GPU instances.
    #[serde(rename = "mig+mps")]
    MigMps,
    /// A GPU for each.
    SeparateGpus,
}

/// One arrangement: a sharing mode with its settings and who sits where.
#[derive(Clone, Debug)]
pub struct Arrangement {
    /// Name.
    pub name: String,
    /// Sharing mode.
    pub sharing: SharingMode,
    /// Whose control daemon MPS runs under.
    pub mps_daemon: MpsDaemon,
    /// Level of the time slice that is to be set; `None`: whatever it is.
    pub time_slice: Option<TimeSlice>,
    /// The seats, or `None` for "as found".
    pub layout: Option<Vec<LayoutEntry>>,
    /// Index into `panel` of the probes that run here; all of them unless given.
    pub panel: Vec<usize>,
    /// Index into `neighbours` of those that run here; all of them unless given.
    pub neighbours: Vec<usize>,
    /// Indices of the hazards that are tried here.
    pub hazards: Vec<usize>,
    /// Seats that take the victim's place; default: each distinct share once.
    pub victim_at: Option<Vec<String>>,
    /// Seats where the neighbours sit; default: all others.
    pub neighbour_at: Option<Vec<String>>,
    /// What decides the exit code.
    pub require: Expectation,
    /// Known physics: a surprise is a warning.
    pub expect: Expectation,
    /// What is observed of it beside its cells, in the order of the catalogue.
    pub observe: Vec<Asked>,
    /// Name of the arrangement that observations compare it with; the scenario's exclusive one unless given.
    pub against: Option<String>,
    /// Equal tenants in growing numbers, in place of a victim and its neighbours.
    pub density: Option<Density>,
}

/// Equal tenants, each a victim and a neighbour of the others, in growing numbers: how many meet their objective?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Density {
    /// The numbers of tenants that are asked for, rising.
    pub counts: Vec<u32>,
    /// Index into `panel` of what every tenant runs: a probe with arrivals of the user's and an objective.
    pub probe: usize,
    /// Every number of `counts` is measured, not only those that the search needs.
    pub every: bool,
    /// Tenants that must be shown to meet every objective.
    pub at_least: Option<u32>,
    /// Device memory that each tenant holds; what the probe allocates, unless given.
    pub memory: Option<Bytes>,
    /// GPU instances among which the tenants are divided, under MIG + time-slicing.
    pub instances: Option<u32>,
    /// Length of a window, where the design gives one; else it follows from load and objectives.
    pub window: Option<Nanos>,
}

impl Density {
    /// The numbers that are asked for and all between them, rising, each with whether it is asked for; under MIG +
    /// time-slicing those alone that divide evenly among the instances.
    pub fn levels(&self) -> impl Iterator<Item = (u32, bool)> {
        let ends = self.counts.first().zip(self.counts.last());
        let all = ends.map_or(1..=0, |(first, last)| *first..=*last);
        all.step_by(self.instances.unwrap_or(1).max(1) as usize).map(|n| (n, self.counts.contains(&n)))
    }
}

/// Whose control daemon tenants are clients of, under the modes with MPS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MpsDaemon {
    /// The run's own, with private pipes, for as long as the arrangement runs.
    #[default]
    Own,
    /// The one that is running where CUDA programs of this user look for it.
    Running,
}

impl MpsDaemon {
    /// As scenarios write it.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Running => "running",
        }
    }

    /// Whether it is the run's own.
    pub fn is_own(&self) -> bool {
        *self == Self::Own
    }
}

/// How long a process has the GPU before it is another one's turn. NVIDIA publishes no milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TimeSlice {
    /// As the driver likes.
    Default,
    /// Short.
    Short,
    /// Medium.
    Medium,
    /// Long.
    Long,
}

impl TimeSlice {
    /// All levels, by the driver's numbers: 0, 1, 2, 3.
    pub const ALL: [Self; 4] = [Self::Default, Self::Short, Self::Medium, Self::Long];

    /// As scenarios write it.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Short => "short",
            Self::Medium => "medium",
            Self::Long => "long",
        }
    }
}

impl std::fmt::Display for TimeSlice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id())
    }
}

/// One share of the layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayoutEntry {
    /// MIG profile, under the MIG modes ("3g.40gb"; "2c.3g.40gb" for a compute instance).
    pub profile: Option<String>,
    /// Part of the SMs, under MPS (a cap) and green contexts (a set of its own).
    pub sms: Option<Share>,
    /// The share of SMs is reserved (static MPS partition).
    pub reserved: bool,
    /// Device memory it may use at most, under MPS.
    pub memory: Option<Bytes>,
    /// Tenants in it: more than one nests a second mode inside, or repeats the share under flat modes.
    pub tenants: u32,
}

/// A requirement not met, whose risk somebody took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// Cell: `arrangement[@seat]/neighbour`.
    pub cell: String,
    /// Only for series of this channel.
    pub channel: Option<String>,
    /// Why.
    pub reason: String,
    /// Who took the risk.
    pub by: String,
    /// Until when, inclusive.
    #[schemars(with = "String")]
    pub until: Date,
}

impl Probe {
    /// Every series that it yields: its name, then `name/mark`.
    pub fn series(&self) -> Vec<String> {
        self.workload.series(&self.name)
    }
}

impl Neighbour {
    /// The channel that reports name for it: the first that its workload loads.
    pub fn channel(&self) -> Channel {
        channel_of(self.workload)
    }
}

/// The channel that a noise is named by; one that loads nothing but the host's loop is the host's.
pub(super) fn channel_of(workload: &Workload) -> Channel {
    workload.channels.first().copied().unwrap_or(Channel::Host)
}

impl LayoutEntry {
    /// The share of one tenant, with nothing said about it.
    pub const PLAIN: Self = Self { profile: None, sms: None, reserved: false, memory: None, tenants: 1 };
}

impl Arrangement {
    /// Its seats as (id, index into the layout), in layout order; `None` where only the machine as found can say.
    ///
    /// Tenants of one share are seats of their own (`0`, `1`); those of one MIG instance `0.0`, `0.1`.
    pub fn seats(&self) -> Option<Vec<(String, usize)>> {
        self.layout.as_deref().map(|layout| seats_of(self.sharing, layout))
    }
}

/// See [`Arrangement::seats`].
pub(super) fn seats_of(sharing: SharingMode, layout: &[LayoutEntry]) -> Vec<(String, usize)> {
    let mut seats = Vec::new();
    for (entry, share) in layout.iter().enumerate() {
        for tenant in 0..share.tenants {
            let id = match (sharing.needs_mig(), share.tenants) {
                (true, 1) => entry.to_string(),
                (true, _) => format!("{entry}.{tenant}"),
                (false, _) => seats.len().to_string(),
            };
            seats.push((id, entry));
        }
    }
    seats
}

impl SharingMode {
    /// Every mode, in the order of reports.
    pub const ALL: &[Self] = &[
        Self::Exclusive,
        Self::Streams,
        Self::GreenContexts,
        Self::TimeSlicing,
        Self::Mps,
        Self::Mig,
        Self::MigComputeInstances,
        Self::MigTimeSlicing,
        Self::MigMps,
        Self::SeparateGpus,
    ];

    /// The name used in scenarios and reports.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Streams => "streams",
            Self::GreenContexts => "green-contexts",
            Self::TimeSlicing => "time-slicing",
            Self::Mps => "mps",
            Self::Mig => "mig",
            Self::MigComputeInstances => "mig-compute-instances",
            Self::MigTimeSlicing => "mig+time-slicing",
            Self::MigMps => "mig+mps",
            Self::SeparateGpus => "separate-gpus",
        }
    }

    /// Whether it is a second mode inside GPU instances.
    pub(super) const fn nests(self) -> bool {
        matches!(self, Self::MigTimeSlicing | Self::MigMps)
    }

    /// Those under which equal tenants in growing numbers mean something; exclusive as the reference, with one.
    pub(super) const WITH_DENSITIES: &[Self] =
        &[Self::Exclusive, Self::TimeSlicing, Self::Mps, Self::Mig, Self::MigTimeSlicing];

    /// Whether the mode needs MIG on.
    pub const fn needs_mig(self) -> bool {
        matches!(self, Self::Mig | Self::MigComputeInstances | Self::MigTimeSlicing | Self::MigMps)
    }
}

impl std::str::FromStr for SharingMode {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|m| m.id() == text).ok_or(())
    }
}

impl std::fmt::Display for SharingMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.id())
    }
}
