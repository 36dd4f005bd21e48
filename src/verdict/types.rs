//! What a verdict says.

use serde::{Deserialize, Serialize};

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
    /// A control failed.
    ControlFailed {
        /// Which ("placebo").
        control: String,
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
    /// Arms are missing: the run was interrupted, or they were lost.
    Incomplete,
}

/// Why a cell is not isolated, with its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cause {
    /// One word: turns, queue, service, clock, saturated or host; timeouts or failures where the quantile lies among
    /// requests that were never served.
    pub word: String,
    /// One clause with its numbers.
    pub text: String,
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
    /// Why, where it is not isolated.
    pub cause: Option<Cause>,
    /// What was required of it, where something was.
    pub required: Option<Word>,
    /// What was expected of it, where something was.
    pub expected: Option<Word>,
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
    /// Something was required at all.
    pub requires: bool,
    /// Worst state over all cells.
    pub requirement: RequirementState,
    /// Share of arms that an episode must hit to be seen (π*); `None`: medians alone see no episodes.
    pub scope_share: Option<f64>,
    /// Warnings.
    pub warnings: Vec<Warning>,
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
    pub(super) const fn words(&self) -> &'static str {
        match self {
            Self::ControlFailed { .. } => "a control failed",
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
        }
    }
}
