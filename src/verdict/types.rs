//! What a verdict says.

use super::density::CurveVerdict;
use serde::{Deserialize, Serialize};

use super::hazards::HazardVerdict;
use super::observed::ObservedVerdict;
use crate::channel::Channel;
use crate::run_dir::JudgedBy;
use crate::scenario::{Quantile, Word};

/// The judgement of a series × quantile, or of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "verdict", deny_unknown_fields)]
pub enum Verdict {
    /// Within the margins, as a proof with a stated error rate.
    Isolated,
    /// Outside the isolated margin.
    Degraded,
    /// Outside the violated margin.
    Violated,
    /// The data, or the way they were taken, cannot decide.
    Inconclusive {
        /// Why.
        reason: Reason,
    },
    /// Nothing was run.
    Skipped {
        /// Why.
        reason: String,
    },
}

/// Why a verdict is Inconclusive, or what else must be known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "reason", deny_unknown_fields)]
pub enum Reason {
    /// A control moved, where nothing should.
    ControlFailed {
        /// Which.
        control: Control,
    },
    /// A control that was planned has no arm, or fewer than were planned.
    ControlNotMeasured {
        /// Which.
        control: Control,
    },
    /// A control is off without which nothing that must hold can be shown to.
    ControlOff {
        /// Which.
        control: Control,
    },
    /// Quiet against quiet could not be told apart from a difference of the margin: nothing finer can be said of a
    /// neighbour.
    ControlUndecided {
        /// Which.
        control: Control,
        /// Smallest effect that it would have found, as a ratio over one.
        detectable: Option<f64>,
        /// Blocks that would decide at the variance seen.
        blocks_needed: Option<u32>,
    },
    /// The same noise inside the victim's own place does not move the probe: it would not show what comes from outside.
    ChannelNotExercised {
        /// The channel.
        channel: Channel,
    },
    /// Requests that were held back by a known time were not seen to take so much longer: a change of the size that an Isolated
    /// excludes goes unseen here.
    DelayNotSeen {
        /// What they were held back by, nanoseconds.
        injected_ns: u64,
        /// How much longer they took at the median, nanoseconds.
        seen_ns: f64,
    },
    /// The host itself was slower in the arms of one side, by more than a quarter of the margin at this quantile. In the
    /// quiet ones that hides interference.
    HostMediated {
        /// By how much in the noisy arms, nanoseconds; negative: in the quiet ones.
        change_ns: f64,
        /// A quarter of the margin, nanoseconds.
        tolerated_ns: f64,
    },
    /// The GPU's health became worse while it measured, so that its data prove nothing.
    DriverTrouble {
        /// What, in words.
        what: String,
    },
    /// Somebody else was on the GPU: what is in both arms hides what is in one.
    ForeignWork {
        /// Who, in words.
        what: String,
    },
    /// Quiet arms after a noisy one differ from those after a quiet one.
    CarryOver {
        /// After noisy ÷ after quiet.
        ratio: f64,
    },
    /// The quiet arms drift from block to block.
    Drift {
        /// Ratio of one block to the one before, over one; negative where it falls.
        per_block: f64,
    },
    /// Requests were sent too late, the sender being free.
    LateRequests {
        /// Share of late requests.
        share: f64,
    },
    /// The neighbour did less than its intensity asks.
    NeighbourBelowIntensity {
        /// Achieved ÷ required.
        achieved: f64,
    },
    /// The neighbour made no progress for a stretch.
    NeighbourNotOverlapping {
        /// Longest stretch, nanoseconds.
        gap_ns: u64,
    },
    /// Requests were open at the deadline.
    Timeouts {
        /// Share of censored requests.
        share: f64,
    },
    /// Requests failed.
    Failures {
        /// Share of failed requests.
        share: f64,
    },
    /// The backlog grew through the arms.
    Backlog,
    /// The clock was held down by the power cap.
    Throttled {
        /// Share of the time.
        share: f64,
    },
    /// The quiet arms were slower than the noisy ones.
    QuietArmNotAwake,
    /// The victim had fewer than two cores of its own: its latencies hold the host's wake-ups.
    TooFewCores,
    /// Too few requests for this quantile.
    TooFewRequests,
    /// Too few blocks, or too wide an interval.
    Underpowered {
        /// Smallest effect that this run would have found, as a ratio over one.
        detectable: Option<f64>,
        /// Blocks that would decide at the variance seen.
        blocks_needed: Option<u32>,
    },
    /// Arms were lost: a tenant died or hung, or the driver reported trouble.
    ArmsLost {
        /// How many.
        arms: u32,
        /// Why, of the first.
        what: String,
    },
    /// Arms are missing: the run was interrupted.
    Incomplete,
    /// Too few trials for the bound that is asked.
    TooFewTrials {
        /// Trials without an effect.
        trials: u64,
        /// Trials that it takes.
        needed: u64,
    },
    /// What happened, or did not, proves nothing about the neighbour.
    Unproven {
        /// Why, in words.
        what: String,
    },
}

/// What shows that a cell means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// A/A: quiet against quiet.
    Again,
    /// The neighbour's host loop without GPU calls.
    Placebo,
    /// No neighbour's process against an idle one.
    Presence,
    /// The same noise inside the victim's own place.
    Sensitivity,
    /// An injected delay of known size, where no noise inside the victim's own place reaches the channel.
    Delay,
    /// The thread that samples clocks and power against none.
    Sampler,
}

/// What came of a control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ControlOutcome {
    /// As it must be.
    Passed,
    /// Its data cannot say.
    Undecided,
    /// It could not be run here.
    Impossible,
    /// It was planned, and has no arm, or too few.
    NotMeasured,
    /// Not as it must be.
    Failed,
}

/// The judgement of one control in one grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ControlVerdict {
    /// Which.
    pub control: Control,
    /// Index of the arrangement.
    pub arrangement: usize,
    /// Id of the victim's seat.
    pub seat: String,
    /// Index of the grid in the arrangement; `None`: over all of its grids.
    pub grid: Option<usize>,
    /// Index of the neighbour, where it is one of a neighbour's.
    pub neighbour: Option<usize>,
    /// Name of the probe, where it is one of a probe's.
    pub probe: Option<String>,
    /// What came of it.
    pub outcome: ControlOutcome,
    /// With its numbers, in words.
    pub text: String,
}

/// Whether a service-level objective holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "verdict", deny_unknown_fields)]
pub enum SloState {
    /// It holds, as a proof with a stated error rate.
    Met,
    /// It does not.
    Missed,
    /// The data cannot say.
    Undecided {
        /// Why, in words.
        reason: String,
    },
}

/// The judgement of one objective of one probe, in quiet arms or beside one neighbour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SloVerdict {
    /// Index of the arrangement.
    pub arrangement: usize,
    /// Id of the victim's seat.
    pub seat: String,
    /// Index of the neighbour; `None`: the quiet arms.
    pub neighbour: Option<usize>,
    /// Name of the probe.
    pub probe: String,
    /// Quantile that is bounded.
    #[schemars(with = "String")]
    pub quantile: Quantile,
    /// Its bound, nanoseconds.
    pub bound_ns: u64,
    /// Whether it holds.
    pub state: SloState,
    /// Share of requests over the bound: mean of the arms, with one-sided bounds.
    pub over: Option<Interval>,
    /// Arms with requests.
    pub arms: u32,
    /// The load was more than could be served.
    pub saturated: Option<Saturated>,
    /// Whether it is required, and holds.
    pub requirement: RequirementState,
}

/// What is known of a probe whose backlog grows: its latency would measure the arm's length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Saturated {
    /// Growth of the open requests, per second.
    pub growth: f64,
    /// Requests served per second.
    pub served: f64,
    /// Requests planned per second.
    pub planned: f64,
    /// Median time of a request on the device, nanoseconds, where the device tells.
    pub service_ns: Option<f64>,
}

/// Why a cell is not isolated, with its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cause {
    /// One word: turns, queue, service, clock, saturated or host; timeouts or failures where the quantile lies among
    /// requests that were never served; unknown where nobody knows its time on the device.
    pub word: String,
    /// One clause with its numbers.
    pub text: String,
    /// The channel that the neighbour loads and the probe feels, where the cause agrees with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Channel>,
}

/// An estimate with its interval, as a ratio noisy ÷ quiet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Estimate. A quantile among requests that were never served is taken at the deadline: the least that it can be.
    pub estimate: f64,
    /// Lower bound; `None`: unbounded.
    pub low: Option<f64>,
    /// Upper bound; `None`: unbounded.
    pub high: Option<f64>,
}

/// The judgement of one series at one quantile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeriesVerdict {
    /// Series.
    pub series: String,
    /// Channel that its probe feels first.
    pub channel: Channel,
    /// Quantile.
    #[schemars(with = "String")]
    pub quantile: Quantile,
    /// How it was judged.
    pub judged: JudgedBy,
    /// The judgement.
    pub verdict: Verdict,
    /// Per-block differences: Hodges–Lehmann with the signed-rank interval, where judged by blocks.
    pub paired: Option<Interval>,
    /// Pooled quantiles: ratio with the bootstrap interval over blocks.
    pub pooled: Option<Interval>,
    /// What decides: the wider upper and the higher lower bound of the two, ε included. Estimate: paired if there, else pooled.
    pub ratio: Option<Interval>,
    /// Pooled quantile of the quiet arms, nanoseconds.
    pub quiet_ns: Option<f64>,
    /// Pooled quantile of the noisy arms, nanoseconds; `None` with requests: among those not served by the deadline or
    /// failed.
    pub noisy_ns: Option<f64>,
    /// Requests in quiet and noisy arms.
    pub requests: (u64, u64),
    /// Blocks with both arms.
    pub blocks: u32,
    /// One-sided level of its upper bound, with what its look may spend.
    pub level: f64,
    /// Why, where it is not isolated.
    pub cause: Option<Cause>,
    /// What keeps it from being called Isolated, whatever its interval says. Nothing is proved to be no worse than a margin
    /// then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Reason>,
    /// What could not be looked for: that there is none of it is assumed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unwatched: Vec<Unwatched>,
    /// The load was more than could be served in noisy arms. Of a probe with objectives no latency is reported then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saturated: Option<Saturated>,
    /// What was required of it, where something was.
    pub required: Option<Word>,
    /// What was expected of it, where something was.
    pub expected: Option<Word>,
}

/// What speaks against an Isolated where it is seen, and could not be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unwatched {
    /// What a noisy arm leaves in the quiet one after it.
    CarryOver,
    /// A drift of the quiet arms.
    Drift,
    /// Either of them beyond the median: no arm has the quantile for itself.
    Tail,
    /// Pauses of the host, by a thread that does nothing else.
    Host,
}

/// Whether what was required holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RequirementState {
    /// Nothing was required.
    NotRequired,
    /// It holds.
    Met,
    /// It does not, and somebody took the risk.
    Accepted,
    /// The data cannot say: exit 4.
    Undecided,
    /// It does not hold: exit 1.
    NotMet,
}

/// The judgement of one cell: arrangement × victim seat × neighbour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CellVerdict {
    /// `arrangement[@seat]/neighbour`.
    pub name: String,
    /// Index of the arrangement.
    pub arrangement: usize,
    /// Id of the victim's seat.
    pub seat: String,
    /// Index of the neighbour.
    pub neighbour: usize,
    /// Overall.
    pub verdict: Verdict,
    /// Per series × quantile, in the order of the panel.
    pub series: Vec<SeriesVerdict>,
    /// Index into `series` of what the matrix shows: the worst at the highest judged tail quantile.
    pub worst: Option<usize>,
    /// What else must be known: validity reasons that do not decide.
    pub notes: Vec<Reason>,
    /// Neighbour's rate in noisy arms ÷ its solo rate in the same place.
    pub neighbour_rate: Option<f64>,
    /// Blocks after which everything was decided, where that was before the last look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_after: Option<u32>,
    /// Whether what was required holds, over all its series.
    pub requirement: RequirementState,
    /// Series × quantiles whose verdict is not what was expected, as sentences.
    pub surprises: Vec<String>,
}

/// Something a reader must know, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Warning {
    /// What.
    pub what: String,
    /// What to do.
    pub advice: String,
}

/// The judgement of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunVerdict {
    /// Cells in plan order: arrangement, seat, neighbour.
    pub cells: Vec<CellVerdict>,
    /// Observations that the plan asks for, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<ObservedVerdict>,
    /// Hazards that the plan asks for, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hazards: Vec<HazardVerdict>,
    /// Controls in plan order: arrangement, grid, control.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controls: Vec<ControlVerdict>,
    /// Objectives in plan order: arrangement, seat, quiet arms, neighbours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slos: Vec<SloVerdict>,
    /// Curves in plan order: how many equal tenants meet their objective.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<CurveVerdict>,
    /// Something was required at all.
    pub requires: bool,
    /// Worst state over all cells, objectives, curves, observations and hazards.
    pub requirement: RequirementState,
    /// Share of arms that an episode must hit to be seen (π*); `None`: medians alone see no episodes.
    pub scope_share: Option<f64>,
    /// Warnings.
    pub warnings: Vec<Warning>,
    /// What an Isolated rests on without proof: controls that were not run, exclusive use that was assumed; and what a crossing of
    /// densities does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assumed: Vec<String>,
    /// Channels that no neighbour of the run loaded beside a judged probe that feels them.
    pub not_tested: Vec<String>,
}

impl Verdict {
    /// The word of the verdict.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Isolated => "isolated",
            Self::Degraded => "degraded",
            Self::Violated => "violated",
            Self::Inconclusive { .. } => "inconclusive",
            Self::Skipped { .. } => "skipped",
        }
    }
}

impl Reason {
    /// The reason in a few words, without its number.
    pub(crate) const fn words(&self) -> &'static str {
        match self {
            Self::ControlFailed { .. } => "a control failed",
            Self::ControlNotMeasured { .. } => "a control was not measured",
            Self::ControlOff { .. } => "a control is off",
            Self::ControlUndecided { .. } => "a control is not decided",
            Self::ChannelNotExercised { .. } => "its channel was not exercised",
            Self::DelayNotSeen { .. } => "an injected delay was not seen",
            Self::HostMediated { .. } => "the host differed too",
            Self::DriverTrouble { .. } => "driver trouble",
            Self::ForeignWork { .. } => "foreign work on the GPU",
            Self::CarryOver { .. } => "carry-over",
            Self::Drift { .. } => "drift",
            Self::ArmsLost { .. } => "arms were lost",
            Self::LateRequests { .. } => "late requests",
            Self::NeighbourBelowIntensity { .. } => "its neighbour did too little",
            Self::NeighbourNotOverlapping { .. } => "its neighbour made no progress for a stretch",
            Self::Timeouts { .. } => "timeouts",
            Self::Failures { .. } => "failed requests",
            Self::Backlog => "the backlog grew",
            Self::Throttled { .. } => "throttled while quiet",
            Self::QuietArmNotAwake => "the quiet arms were slower",
            Self::TooFewCores => "too few cores",
            Self::TooFewRequests => "too few requests",
            Self::Underpowered { .. } => "too few blocks, or too wide an interval",
            Self::Incomplete => "arms are missing",
            Self::TooFewTrials { .. } => "too few trials",
            Self::Unproven { .. } => "not proven",
        }
    }
}

impl Unwatched {
    /// That it was not looked for, in words.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::CarryOver => "carry-over not looked for",
            Self::Drift => "drift of the quiet arms not looked for",
            Self::Tail => "carry-over and drift looked for at the median alone",
            Self::Host => "host not watched by a thread of its own",
        }
    }
}

impl Control {
    /// Its name in a sentence.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Again => "A/A",
            Self::Placebo => "placebo",
            Self::Presence => "presence",
            Self::Sensitivity => "sensitivity",
            Self::Delay => "delay",
            Self::Sampler => "sampler",
        }
    }
}

impl SloState {
    /// The word of the state.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Undecided { .. } => "undecided",
        }
    }
}
