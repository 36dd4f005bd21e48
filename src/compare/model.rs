//! What a comparison says: rounded numbers and words, from which every format is written.

use schemars::JsonSchema;
use serde::Serialize;

use super::alike::Difference;
use super::summary::Summary;
use crate::provenance::Provenance;
use crate::report::{Ratio, VerdictWord};
use crate::scenario::Quantile;

/// A new run against a base: one run, or those of a baseline.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Comparison {
    /// What must be said first of numbers that were not measured on hardware.
    pub banner: Option<String>,
    /// "crosstalk-comparison".
    pub format: String,
    /// Version of the format.
    pub version: u32,
    /// Where the numbers come from, on both sides.
    pub provenance: Provenance,
    /// The card of the new run: its name and UUID.
    pub card: String,
    /// What it comes to.
    pub outcome: Outcome,
    /// The same in a sentence.
    pub summary: String,
    /// The runs of the base, by date.
    pub base: Vec<RunShown>,
    /// The new run.
    pub new: RunShown,
    /// What differs and may: driver, CUDA, crosstalk.
    pub changed: Vec<Changed>,
    /// What differs and was allowed to.
    pub different: Vec<Difference>,
    /// The cells: those of the base in its order, then those of the new run alone.
    pub cells: Vec<CellChange>,
    /// The quiet levels, in the order of the new run.
    pub quiet: Vec<QuietChange>,
    /// The hazards.
    pub hazards: Vec<HazardChange>,
    /// How it was judged.
    pub method: Method,
}

/// What a comparison comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// No change for the worse.
    Unchanged,
    /// A cell or a hazard that was decided in the base is not any more, or is not there.
    Undecided,
    /// A verdict got worse, interference grew, or a quiet level rose.
    Worse,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RunShown {
    /// The root hash of its directory.
    pub root_sha256: String,
    /// The day on which it began (UTC).
    pub date: String,
    /// What took it.
    pub created_by: String,
    /// Which device was taken.
    pub device: String,
    /// Driver version; `null`: not readable, or there is none.
    pub driver: Option<String>,
    /// The newest CUDA version that the driver supports.
    pub cuda: Option<String>,
    /// Name of its scenario.
    pub scenario: String,
    /// Seed.
    pub seed: u64,
}

/// Something that is compared, and differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Changed {
    /// "driver", "CUDA" or "crosstalk".
    pub what: String,
    /// In the base: each value once.
    pub base: String,
    /// In the new run.
    pub new: String,
}

/// What became of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// The same on both sides.
    Same,
    /// Decided on both sides, and less interference now.
    Better,
    /// Decided on both sides, and more interference now.
    Worse,
    /// Decided now, and not before.
    Decided,
    /// Decided before, and not now.
    Undecided,
    /// Decided on neither side.
    Open,
    /// In the base, and not in the new run.
    Absent,
    /// In the new run, and not in the base.
    Added,
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CellChange {
    /// `arrangement[@seat]/neighbour`.
    pub name: String,
    /// The verdicts of the base, each with the number of its runs; empty: it has no such cell.
    pub base: Vec<(VerdictWord, u32)>,
    /// The verdict of the new run; `null`: it has no such cell.
    pub new: Option<VerdictWord>,
    /// What became of it. Of several decided verdicts of the base the worst counts.
    pub change: Change,
    /// Why the new verdict is not decided, in a few words.
    pub why: Option<String>,
    /// Per series × quantile.
    pub series: Vec<SeriesChange>,
}

/// One series at one quantile.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SeriesChange {
    /// Series.
    pub series: String,
    /// Quantile.
    #[schemars(with = "String")]
    pub quantile: Quantile,
    /// The verdict of the base, of several decided ones the worst; `null`: it has none.
    pub base: Option<VerdictWord>,
    /// The verdict of the new run.
    pub new: Option<VerdictWord>,
    /// What became of it.
    pub change: Change,
    /// Noisy ÷ quiet in the base: the last of its runs.
    pub base_ratio: Option<Ratio>,
    /// Noisy ÷ quiet in the new run.
    pub new_ratio: Option<Ratio>,
    /// Whether the interference has another size.
    pub size: Size,
    /// Why that was not tested.
    pub why: Option<String>,
    /// By how much it has changed; where it was tested.
    pub shift: Option<Shift>,
    /// How far the runs of the base lie apart; of two or more.
    pub spread: Option<Spread>,
}

/// Whether interference has another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    /// It is greater by more than the margin of an isolated cell.
    Grew,
    /// It is smaller by more than that.
    Shrank,
    /// No change of that size is shown.
    Unchanged,
    /// It could not be tested.
    NotTested,
}

/// A change of size: the new run's noisy ÷ quiet, over the base's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Shift {
    /// Estimate (Hodges and Lehmann) with its simultaneous interval (Moses).
    pub ratio: Ratio,
    /// How likely so great a change is, if it is within the margin.
    pub p: f64,
    /// Changes up to this one count for nothing: a ratio over one.
    pub margin: f64,
    /// Blocks of the base and of the new run.
    pub blocks: (u32, u32),
}

/// How far runs lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Spread {
    /// Runs.
    pub runs: u32,
    /// The smallest of their estimates, noisy ÷ quiet.
    pub low: Option<f64>,
    /// The greatest.
    pub high: Option<f64>,
}

/// One quantile of one series in quiet arms.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct QuietChange {
    /// `arrangement[@seat]`.
    pub place: String,
    /// Series.
    pub series: String,
    /// Quantile.
    #[schemars(with = "String")]
    pub quantile: Quantile,
    /// Geometric mean of the base's runs, nanoseconds.
    pub base_ns: Option<f64>,
    /// In the new run, nanoseconds.
    pub new_ns: Option<f64>,
    /// New ÷ base.
    pub ratio: Option<f64>,
    /// Runs of the base that have it, on this card and in this layout.
    pub runs: u32,
    /// Where the new run lies with the stated certainty if nothing has changed, nanoseconds; of enough runs.
    pub low_ns: Option<f64>,
    /// Its other end.
    pub high_ns: Option<f64>,
    /// Whether it has changed.
    pub state: QuietState,
    /// Why that was not judged, or what else must be known.
    pub why: Option<String>,
}

/// Whether a quiet level has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QuietState {
    /// Above the interval.
    Slower,
    /// Below it.
    Faster,
    /// Within.
    Within,
    /// Shown, and not judged.
    NotJudged,
}

/// One hazard in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HazardChange {
    /// `arrangement[@seat]/hazard`.
    pub name: String,
    /// In the base: how often it came true ("0 of 35 attempts", of the last run) and the verdict.
    pub base: Option<String>,
    /// In the new run.
    pub new: Option<String>,
    /// What became of the verdict.
    pub change: Change,
}

/// How a comparison was judged.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Method {
    /// Probability of any change of size being told where all are within their margins.
    pub alpha_size: f64,
    /// Sizes tested.
    pub sizes: u32,
    /// Probability of any change of a quiet level being told where there is none.
    pub alpha_quiet: f64,
    /// Quiet levels judged.
    pub quiets: u32,
    /// What that means, and what it cannot say.
    pub notes: Vec<String>,
}

impl From<&Summary> for RunShown {
    fn from(run: &Summary) -> Self {
        Self {
            root_sha256: run.root_sha256.clone(),
            date: run.date.to_string(),
            created_by: run.created_by.clone(),
            device: run.device.clone(),
            driver: run.driver.clone(),
            cuda: run.cuda.clone(),
            scenario: run.scenario.clone(),
            seed: run.seed,
        }
    }
}
