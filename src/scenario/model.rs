//! The validated scenario: typed, every default made visible, nothing of the machine in it.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

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

/// Tier of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Gross violations, within 10 minutes.
    Smoke,
    /// The sign-off, within an hour.
    Acceptance,
    /// Once per model, driver and layout.
    Certify,
}

/// The design of the experiment, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Design {
    /// Tier.
    pub tier: Tier,
    /// Blocks per arrangement, place and panel.
    pub blocks: u32,
    /// Blocks between two restarts of the tenants.
    pub blocks_per_generation: u32,
    /// Length of a window.
    #[serde(rename = "window_ns")]
    pub window: Nanos,
    /// Most that a window may be lengthened to for a slow probe.
    #[serde(rename = "max_window_ns")]
    pub max_window: Nanos,
    /// Shortest washout between arms.
    #[serde(rename = "washout_ns")]
    pub washout: Nanos,
    /// After a window: what is open then is censored.
    #[serde(rename = "drain_ns")]
    pub drain: Nanos,
    /// Judged quantiles, rising.
    pub judged: Vec<Quantile>,
    /// Margins of the verdict.
    pub margins: Margins,
}

/// A quantile in units of 1/100 000: 50 000 is the median, 99 900 is p99.9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(into = "String", try_from = "String")]
pub struct Quantile(pub u32);

/// Margins as ratios over one, per quantile: (isolated, violated).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Margins {
    /// p50 and every quantile below p95.
    pub p50: (Share, Share),
    /// p95 up to below p99.9.
    pub p99: (Share, Share),
    /// p99.9 and above.
    pub p999: (Share, Share),
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
    /// The seats, or `None` for "as found".
    pub layout: Option<Vec<LayoutEntry>>,
    /// Index into `panel` of the probes that run here; all of them unless given.
    pub panel: Vec<usize>,
    /// Index into `neighbours` of those that run here; all of them unless given.
    pub neighbours: Vec<usize>,
    /// Seats that take the victim's place; default: each distinct share once.
    pub victim_at: Option<Vec<String>>,
    /// Seats where the neighbours sit; default: all others.
    pub neighbour_at: Option<Vec<String>>,
    /// What decides the exit code.
    pub require: Expectation,
    /// Known physics: a surprise is a warning.
    pub expect: Expectation,
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

/// Words per key of `require` or `expect`, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Expectation(pub Vec<Rule>);

/// One entry of `require` or `expect`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// "default", a channel, a neighbour, or "neighbour/series".
    pub key: String,
    /// What the verdict must be.
    pub word: Word,
}

/// What a verdict must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// Isolated.
    Isolated,
    /// In `require`: no worse than Degraded. In `expect`: Degraded.
    Degraded,
    /// Violated.
    Violated,
    /// Degraded or Violated.
    NotIsolated,
    /// No requirement: met by everything.
    Any,
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

    /// Whether the mode needs MIG on.
    pub const fn needs_mig(self) -> bool {
        matches!(self, Self::Mig | Self::MigComputeInstances | Self::MigTimeSlicing | Self::MigMps)
    }
}

impl std::fmt::Display for SharingMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.id())
    }
}

impl Word {
    /// The word as written.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Isolated => "isolated",
            Self::Degraded => "degraded",
            Self::Violated => "violated",
            Self::NotIsolated => "not-isolated",
            Self::Any => "any",
        }
    }
}

impl Quantile {
    /// The median.
    pub const P50: Self = Self(50_000);
    /// The 99th percentile.
    pub const P99: Self = Self(99_000);
    /// The 99.9th percentile.
    pub const P999: Self = Self(99_900);

    /// As a fraction of one.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1e5
    }
}

impl std::fmt::Display for Quantile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("p{}.{:03}", self.0 / 1_000, self.0 % 1_000);
        f.pad(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl From<Quantile> for String {
    fn from(q: Quantile) -> Self {
        q.to_string()
    }
}

impl std::str::FromStr for Quantile {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} is no quantile; write for example \"p99\" or \"p99.9\"");
        let digits = text.strip_prefix('p').ok_or_else(error)?;
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let numeric = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || whole.len() > 2 || fraction.len() > 3 || !numeric(whole) || !numeric(fraction) {
            return Err(error());
        }
        let value: u32 = format!("{whole}{fraction:0<3}").parse().map_err(|_| error())?;
        if value == 0 { Err(error()) } else { Ok(Self(value)) }
    }
}

impl TryFrom<String> for Quantile {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Margins {
    /// The margins of `q` as ratios over one: (isolated, violated).
    pub fn of(&self, q: Quantile) -> (f64, f64) {
        let (isolated, violated) = match q.0 {
            ..95_000 => self.p50,
            95_000..99_900 => self.p99,
            _ => self.p999,
        };
        (isolated.as_f64(), violated.as_f64())
    }
}

impl Default for Margins {
    /// p50 5 %/25 %, p99 10 %/50 %, p99.9 25 %/100 %.
    fn default() -> Self {
        Self {
            p50: (Share::percent(5), Share::percent(25)),
            p99: (Share::percent(10), Share::percent(50)),
            p999: (Share::percent(25), Share::percent(100)),
        }
    }
}
