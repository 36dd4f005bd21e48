//! What a report says, whatever its format: complete sentences, rounded numbers, nothing of time or path.

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::density::CurveHere;
use super::hazards::HazardHere;
use super::observed::ObservedHere;
use crate::channel::Channel;
use crate::provenance::Provenance;
use crate::run_dir::JudgedBy;
use crate::scenario::{Quantile, Tier, Word};
use crate::units::Nanos;
use crate::verdict::{Cause, Control, ControlOutcome, RequirementState, Saturated, Verdict, Warning};

/// A report over one or more runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// What must be known before anything else, where any of the runs was not measured on hardware.
    pub banner: Option<String>,
    /// "crosstalk-report".
    pub format: String,
    /// Version of the format.
    pub version: u32,
    /// The runs.
    pub runs: Vec<RunReport>,
}

/// The report of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunReport {
    /// What was run, and where.
    pub header: Header,
    /// What was required, and whether it holds.
    pub requirements: Requirements,
    /// Accepted risks: they open every report.
    pub accepted: Vec<AcceptedRisk>,
    /// Columns of the matrix: arrangements, one for each of the victim's places.
    pub columns: Vec<Column>,
    /// Rows of the matrix: neighbours, by channel.
    pub rows: Vec<Row>,
    /// The cells, in the order of the plan.
    pub cells: Vec<Cell>,
    /// What shows that the cells mean something, per control and place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controls: Vec<ControlShown>,
    /// How many equal tenants meet their objectives, per curve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<CurveHere>,
    /// Service-level objectives, per place, quiet and beside each neighbour.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objectives: Vec<Objective>,
    /// Verdicts that are not what was expected.
    pub surprises: Vec<Surprise>,
    /// What a reader must know, with what to do about it.
    pub warnings: Vec<Warning>,
    /// What "isolated" means here.
    pub scope: Scope,
    /// Load and window of every probe, as fixed before the first block.
    pub calibration: Vec<Calibrated>,
    /// The turns that tenants take, per arrangement in which they take turns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<TurnsSeen>,
    /// What was observed beside the cells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<ObservedHere>,
    /// What neighbours may do beside slowing the victim.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hazards: Vec<HazardHere>,
}

/// What was run, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// What took the run ("crosstalk 0.1.0").
    pub created_by: String,
    /// Where the numbers come from.
    pub provenance: Provenance,
    /// The sentence that opens the report of a run that was not measured on hardware.
    pub banner: Option<String>,
    /// Which device was taken, and why.
    pub device: String,
    /// Product name of the GPU.
    pub gpu: String,
    /// UUID of the GPU.
    pub uuid: String,
    /// Driver version; `null`: nobody said.
    pub driver: Option<String>,
    /// The scenario's name.
    pub scenario: String,
    /// What it asks.
    pub description: Option<String>,
    /// Tier of evidence.
    pub tier: Tier,
    /// Arrangements, without those that are densities of a curve.
    pub arrangements: u64,
    /// Neighbours.
    pub neighbours: u64,
    /// Probes.
    pub probes: u64,
    /// Hazards.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hazards: u64,
    /// Curves of equal tenants.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub curves: u64,
    /// Blocks per arrangement, victim's place and panel.
    pub blocks: u32,
    /// Seed.
    pub seed: u64,
    /// How far the run came.
    pub progress: Progress,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// How far a run came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// It was finished, not interrupted.
    pub finished: bool,
    /// Arms recorded, without those of densities.
    pub arms: u64,
    /// Arms planned, without the arrangements that could not run and without densities.
    pub planned: u64,
    /// Arms of densities that were recorded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub density_arms: u64,
    /// Arms that the search along the curves takes at most.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub density_most: u64,
}

/// What was required, and whether it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requirements {
    /// Worst state over all cells.
    pub state: RequirementState,
    /// The whole in one sentence.
    pub summary: String,
    /// Per cell of which something is required.
    pub items: Vec<Requirement>,
}

/// What is required of one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// The cell; of an objective in quiet arms, its place; of an observation, its arrangement and id; of a curve, its name.
    pub cell: String,
    /// What it is required of.
    #[serde(default, skip_serializing_if = "RequiredOf::is_cell")]
    pub of: RequiredOf,
    /// Whether it holds.
    pub state: RequirementState,
    /// Goes on after the cell's name.
    pub text: String,
}

/// What something can be required of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RequiredOf {
    /// The verdict of a cell.
    #[default]
    Cell,
    /// A service-level objective.
    Objective,
    /// An observation.
    Observation,
    /// A hazard.
    Hazard,
    /// A curve: how many tenants meet their objectives.
    Curve,
}

impl RequiredOf {
    fn is_cell(&self) -> bool {
        *self == Self::Cell
    }
}

/// A requirement whose failure somebody accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptedRisk {
    /// The cell.
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
    /// Whether it counts.
    pub state: AcceptState,
}

/// Whether an accepted risk counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AcceptState {
    /// Its day has not come.
    InForce,
    /// In force, and nothing of its cell needs it.
    NotNeeded,
    /// It had run out on the day of the run.
    Expired,
    /// The run has no such cell.
    NoSuchCell,
}

/// One column of the matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// `arrangement[@seat]`.
    pub name: String,
    /// The arrangement's name.
    pub arrangement: String,
    /// Id of the victim's seat.
    pub seat: String,
    /// Sharing mode and shares in words ("mig 4g.40gb + 3g.40gb").
    pub layout: String,
}

/// One row of the matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The neighbour.
    pub neighbour: String,
    /// Channel that it loads first; `null`: none.
    pub channel: Option<Channel>,
    /// It makes no GPU calls: the placebo.
    pub placebo: bool,
    /// Per column, an index into the cells; `null`: the scenario has no such cell.
    pub cells: Vec<Option<usize>>,
}

/// One cell: arrangement × victim's seat × neighbour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// `arrangement[@seat]/neighbour`.
    pub name: String,
    /// Overall.
    pub verdict: VerdictWord,
    /// One line: what moved, by how much and why, and what did not; or what keeps it from being decided.
    pub summary: String,
    /// Why it is inconclusive or skipped.
    pub why: Vec<Why>,
    /// What else must be known of it.
    pub notes: Vec<Why>,
    /// Whether this was expected.
    pub expected: Expected,
    /// Whether what was required holds.
    pub requirement: RequirementState,
    /// Neighbour's rate in noisy arms ÷ its solo rate in the same place; `null`: not known.
    pub neighbour_rate: Option<f64>,
    /// Blocks after which it was decided; `null`: after all of them.
    pub decided_after: Option<u32>,
    /// Index into `series` of what the matrix shows.
    pub worst: Option<usize>,
    /// Per series × quantile, in the order of the panel.
    pub series: Vec<Series>,
}

/// A verdict without its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictWord {
    /// Within the margins, as a proof with a stated error rate.
    Isolated,
    /// Outside the isolated margin.
    Degraded,
    /// Outside the violated margin.
    Violated,
    /// Not decided.
    Inconclusive,
    /// Not run.
    Skipped,
}

/// Whether a verdict was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// As the scenario expects.
    Yes,
    /// Not as the scenario expects.
    No,
    /// The verdict is open: inconclusive or skipped.
    Undecided,
    /// The scenario expects nothing here.
    Unstated,
}

/// One reason why something is not decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Why {
    /// The reason's id ("underpowered"); "skipped".
    pub reason: String,
    /// With its numbers, in words.
    pub text: String,
    /// Which series and quantiles ("launch p99"); empty: all.
    pub of: Vec<String>,
    /// What would decide, or what to do.
    pub advice: Option<String>,
}

/// One series at one quantile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Series {
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
    pub verdict: VerdictWord,
    /// Why it is inconclusive or skipped.
    pub why: Option<Why>,
    /// Noisy ÷ quiet: what decides.
    pub ratio: Option<Ratio>,
    /// Noisy ÷ quiet from per-block differences.
    pub paired: Option<Ratio>,
    /// Noisy ÷ quiet of pooled quantiles.
    pub pooled: Option<Ratio>,
    /// Quantile of the quiet arms, nanoseconds; `null`: at or above the deadline, or no requests.
    pub quiet_ns: Option<f64>,
    /// Quantile of the noisy arms, nanoseconds; `null`: at or above the deadline, or no requests.
    pub noisy_ns: Option<f64>,
    /// Noisy − quiet, nanoseconds.
    pub change_ns: Option<f64>,
    /// Requests in quiet arms.
    pub quiet_requests: u64,
    /// Requests in noisy arms.
    pub noisy_requests: u64,
    /// Blocks with both arms.
    pub blocks: u32,
    /// Why it moved.
    pub cause: Option<Cause>,
    /// The load was more than could be served beside the neighbour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saturated: Option<Saturated>,
    /// What was required of it.
    pub required: Option<Word>,
    /// What was expected of it.
    pub expected: Option<Word>,
}

/// A ratio noisy ÷ quiet with its interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ratio {
    /// Estimate; `null`: not finite.
    pub estimate: Option<f64>,
    /// Lower bound; `null`: unbounded.
    pub low: Option<f64>,
    /// Upper bound; `null`: unbounded.
    pub high: Option<f64>,
}

/// One control in one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ControlShown {
    /// Which.
    pub control: Control,
    /// `arrangement[@seat]`.
    pub place: String,
    /// The worst that came of it.
    pub outcome: ControlOutcome,
    /// In one line, with its numbers.
    pub summary: String,
    /// Everything that it consists of.
    pub items: Vec<ControlItem>,
}

/// One part of a control: of a grid, or of a neighbour and a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ControlItem {
    /// The neighbour; `null`: no one's.
    pub neighbour: Option<String>,
    /// The probe; `null`: all of them.
    pub probe: Option<String>,
    /// What came of it.
    pub outcome: ControlOutcome,
    /// With its numbers.
    pub text: String,
}

/// One objective in one place, quiet or beside one neighbour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// `arrangement[@seat]`.
    pub place: String,
    /// The neighbour; `null`: quiet.
    pub neighbour: Option<String>,
    /// The probe.
    pub probe: String,
    /// "p99 ≤ 50 ms".
    pub objective: String,
    /// "met", "missed" or "undecided".
    pub verdict: String,
    /// With its numbers, in words; why, where it is not decided.
    pub text: String,
    /// Share of the requests that may be over it.
    pub allowed: f64,
    /// Share of the requests that are; `null`: not known, or not to be told.
    pub over: Option<Ratio>,
    /// Arms with requests.
    pub arms: u32,
    /// The load was more than could be served.
    pub saturated: Option<Saturated>,
    /// Whether it is required, and holds.
    pub requirement: RequirementState,
}

/// A verdict that is not what was expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Surprise {
    /// The cell.
    pub cell: String,
    /// What surprises.
    pub text: String,
}

/// What "isolated" means in this run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// In one sentence.
    pub text: String,
    /// Share of arms that an episode must hit to be seen (π*).
    pub share: Option<f64>,
    /// What it rests on without proof: controls that were not run, exclusive use that was assumed.
    pub assumed: Vec<String>,
    /// Channels and matters that the run says nothing about.
    pub not_tested: Vec<String>,
}

/// Load and window of one probe in one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calibrated {
    /// `arrangement[@seat]`.
    pub place: String,
    /// The probe.
    pub probe: String,
    /// Lowest closed-loop rate over the neighbours, requests per second; `null`: the rate is the user's.
    pub closed_rate: Option<f64>,
    /// Requests per second.
    pub rate: f64,
    /// Length of a window.
    #[serde(rename = "window_ns")]
    pub window: Nanos,
    /// Blocks.
    pub blocks: u32,
    /// How each quantile is judged, rising.
    pub judged: Vec<JudgedQuantile>,
}

/// The turns that tenants take in one place, as the device's own stamps show them: means of the middle half.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TurnsSeen {
    /// `arrangement[@seat]`.
    pub place: String,
    /// What was seen; `null`: the scenario has no probe of short kernels or no noise of long ones there, or somebody gave
    /// turns away.
    pub seen: Option<Turns>,
}

/// What was seen of turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Turns {
    /// Tenants with which the victim took turns.
    pub others: u32,
    /// Whole turns.
    pub count: u32,
    /// A turn.
    #[serde(rename = "quantum_ns")]
    pub quantum: Nanos,
    /// From the end of a turn to the beginning of the next.
    #[serde(rename = "gap_ns")]
    pub gap: Nanos,
    /// One switch; `null`: the others' turns are shorter than the victim's, so that nothing can be said.
    #[serde(rename = "switch_ns")]
    pub switch: Option<Nanos>,
}

/// How a quantile is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JudgedQuantile {
    /// Quantile.
    #[schemars(with = "String")]
    pub quantile: Quantile,
    /// How.
    pub by: JudgedBy,
}

impl Report {
    /// Name of the format.
    pub const FORMAT: &str = "crosstalk-report";
    /// Version of the format.
    pub const VERSION: u32 = 1;
}

impl RunReport {
    /// Cells that are Degraded or Violated.
    pub fn not_isolated(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|c| c.verdict.moved())
    }

    /// Row and column of a cell in the matrix.
    pub(super) fn place_of(&self, cell: usize) -> Option<(&Row, &Column)> {
        self.rows.iter().find_map(|row| {
            let column = row.cells.iter().position(|at| *at == Some(cell))?;
            Some((row, self.columns.get(column)?))
        })
    }

    /// Cells that are Inconclusive or Skipped.
    pub fn undecided(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|c| c.verdict.open())
    }
}

impl VerdictWord {
    /// Not isolated: Degraded or Violated.
    pub const fn moved(self) -> bool {
        matches!(self, Self::Degraded | Self::Violated)
    }

    /// Not decided: Inconclusive or Skipped.
    pub const fn open(self) -> bool {
        matches!(self, Self::Inconclusive | Self::Skipped)
    }

    /// The word in a sentence.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Isolated => "isolated",
            Self::Degraded => "degraded",
            Self::Violated => "violated",
            Self::Inconclusive => "inconclusive",
            Self::Skipped => "skipped",
        }
    }
}

impl From<&Verdict> for VerdictWord {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Isolated => Self::Isolated,
            Verdict::Degraded => Self::Degraded,
            Verdict::Violated => Self::Violated,
            Verdict::Inconclusive { .. } => Self::Inconclusive,
            Verdict::Skipped { .. } => Self::Skipped,
        }
    }
}

impl Series {
    /// "launch p99".
    pub fn name(&self) -> String {
        format!("{} {}", self.series, self.quantile)
    }
}
