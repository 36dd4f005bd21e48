//! Densities: how many equal tenants meet their objectives. Their part of the model, and what the formats share.
//!
//! A density of which any tenant is saturated has no latency: none enters the model, whatever the verdict carries.

mod build;
mod markdown;
#[cfg(test)]
pub(super) mod sample;
#[cfg(test)]
mod tests;
mod text;
mod words;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::format::{NONE, count, rate, time};
use super::model::{Ratio, RunReport};
use crate::scenario::{Quantile, SharingMode};
use crate::units::{Bytes, Nanos};
use crate::verdict::RequirementState;

pub(super) use build::{of, requirement};
pub(super) use markdown::section as markdown;
pub(super) use text::section;

/// Quantiles that stand in tables.
pub(super) const TOLD: [Quantile; 3] = [Quantile::P50, Quantile::P99, Quantile::P999];

/// One curve: equal tenants in growing numbers under one way of sharing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CurveHere {
    /// Name of the arrangement in the scenario.
    pub name: String,
    /// Sharing mode.
    pub sharing: SharingMode,
    /// What every tenant runs.
    pub probe: String,
    /// What every tenant must meet.
    pub objectives: Vec<Bound>,
    /// Load of each tenant, requests per second; `null`: not known.
    pub rate: Option<f64>,
    /// How many tenants meet their objectives, in one sentence.
    pub crossing: String,
    /// The largest density that is shown to meet every objective below all that miss one; `null`: none is.
    pub met: Option<u32>,
    /// The smallest density that is shown to miss one; `null`: none is.
    pub missed: Option<u32>,
    /// Probability with which the crossing is right, all densities that were measured together.
    pub confidence: Option<f64>,
    /// Nothing more is to be measured.
    pub complete: bool,
    /// Tenants that must meet their objectives; `null`: nothing is required.
    pub at_least: Option<u32>,
    /// Whether that holds.
    pub requirement: RequirementState,
    /// Where the tail leaves multiples of the reference's, in one sentence; `null`: there is nothing to compare with.
    pub knee: Option<String>,
    /// The same in numbers.
    pub factors: Vec<Multiple>,
    /// What a lone tenant pays for this way of sharing; `null`: not measured.
    pub lone: Option<Lone>,
    /// What the crossing rests on, and which densities were not run.
    pub notes: Vec<String>,
    /// The quantile that charts show.
    #[schemars(with = "String")]
    pub shown: Quantile,
    /// Every density of the plan, rising.
    pub densities: Vec<DensityHere>,
}

/// An objective.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// Quantile.
    #[schemars(with = "String")]
    pub quantile: Quantile,
    /// Its bound.
    #[serde(rename = "bound_ns")]
    pub bound: Nanos,
    /// "p99 ≤ 50 ms".
    pub text: String,
}

/// Where the worst tenant's tail leaves a multiple of the reference's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Multiple {
    /// The multiple; `null`: not finite.
    pub times: Option<f64>,
    /// The largest measured density that lies within it; `null`: none is shown to.
    pub within: Option<u32>,
    /// The smallest measured density that lies beyond it; `null`: none is shown to.
    pub beyond: Option<u32>,
}

/// A lone tenant against the exclusive one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lone {
    /// Name of the curve of the exclusive tenant.
    pub against: String,
    /// Ratio of latencies, per quantile.
    pub ratios: Vec<LoneRatio>,
    /// In one line.
    pub text: String,
}

/// Ratio of latencies of a lone tenant at one quantile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoneRatio {
    /// Quantile.
    #[schemars(with = "String")]
    pub quantile: Quantile,
    /// Alone under this way of sharing ÷ exclusive.
    pub ratio: Ratio,
}

/// What became of a density.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DensityState {
    /// Every tenant meets every objective.
    Met,
    /// Some tenant misses an objective.
    Missed,
    /// Neither is shown.
    Undecided,
    /// It cannot be here.
    Skipped,
    /// Not measured.
    NotRun,
}

/// One density.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DensityHere {
    /// Tenants.
    pub tenants: u32,
    /// Name of its arrangement.
    pub arrangement: String,
    /// The scenario lists it; else it lies between two that are.
    pub listed: bool,
    /// What became of it.
    pub state: DensityState,
    /// Why it is undecided or skipped.
    pub reason: Option<String>,
    /// Arms that were measured.
    pub arms: u32,
    /// Length of a window.
    #[serde(rename = "window_ns")]
    pub window: Option<Nanos>,
    /// A backlog grows, of the tenant whose grows fastest, or of all together where there is no growth: no latency of this
    /// density means anything, and none is given; `null`: none does.
    pub saturated: Option<Overload>,
    /// The worst tenant's latencies, at the quantiles that are known of every tenant.
    pub worst: Vec<Latency>,
    /// Requests per second within every objective's bound, of the tenant with the fewest.
    pub least_good: Option<f64>,
    /// Requests per second that were served, of the tenant with the fewest.
    pub least_served: Option<f64>,
    /// Requests per second that all tenants together were served.
    pub served: Option<f64>,
    /// Requests per second that all tenants together were served within every objective's bound.
    pub good: Option<f64>,
    /// Jain's index of the tenants' goodput with its interval.
    pub fairness: Option<Ratio>,
    /// Device memory in use on the GPU, bytes.
    pub memory: Option<u64>,
    /// Per objective of the curve: share of all tenants' requests over its bound; `null`: not known, or not to be told.
    pub over: Vec<Option<Ratio>>,
    /// The worst tenant's highest objective quantile ÷ the reference's.
    pub ratio: Option<Ratio>,
    /// What must be known of how it was measured.
    pub notes: Vec<String>,
    /// Each tenant, in the order of the seats.
    pub each: Vec<TenantHere>,
}

/// A tenant whose backlog grows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Overload {
    /// Growth of its open requests, per second; `null`: not known.
    pub growth: Option<f64>,
    /// Requests per second that it was served; `null`: not known.
    pub served: Option<f64>,
    /// Requests per second that arrived; `null`: not known.
    pub planned: Option<f64>,
}

/// A latency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Quantile.
    #[schemars(with = "String")]
    pub quantile: Quantile,
    /// Nanoseconds.
    pub ns: f64,
}

/// One of equal tenants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantHere {
    /// Id of its seat.
    pub seat: String,
    /// Per objective of the curve.
    pub objectives: Vec<TenantObjective>,
    /// Latencies, at the quantiles for which there are enough requests.
    pub latencies: Vec<Latency>,
    /// Requests per second that arrived.
    pub planned: Option<f64>,
    /// Requests per second that it was served.
    pub served: Option<f64>,
    /// Requests per second that it was served within every objective's bound.
    pub good: Option<f64>,
    /// Device memory that its programs hold, bytes; `null`: it does not say.
    pub memory: Option<u64>,
    /// Its backlog grows.
    pub saturated: Option<Overload>,
}

/// One objective of one tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantObjective {
    /// "p99 ≤ 50 ms".
    pub objective: String,
    /// "met", "missed" or "undecided".
    pub verdict: String,
    /// Why it is undecided.
    pub reason: Option<String>,
    /// Share of the requests that are over the bound; `null`: not known, or not to be told.
    pub over: Option<Ratio>,
}

/// Curves that one chart shows: one probe, one load, the same objectives.
pub(super) struct Together<'a> {
    pub(super) curves: Vec<&'a CurveHere>,
}

impl DensityState {
    /// As in the JSON report.
    pub(super) const fn id(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Undecided => "undecided",
            Self::Skipped => "skipped",
            Self::NotRun => "not-run",
        }
    }

    /// Every state.
    pub(super) const ALL: [Self; 5] = [Self::Met, Self::Missed, Self::Undecided, Self::Skipped, Self::NotRun];
}

/// The curves of a run, those that one chart shows together.
pub(super) fn together(run: &RunReport) -> Vec<Together<'_>> {
    let mut out: Vec<Together<'_>> = Vec::new();
    for curve in &run.curves {
        let alike = |other: &CurveHere| {
            (&other.probe, &other.objectives, other.rate) == (&curve.probe, &curve.objectives, curve.rate)
        };
        match out.iter_mut().find(|group| group.curves.first().is_some_and(|first| alike(first))) {
            Some(group) => group.curves.push(curve),
            None => out.push(Together { curves: vec![curve] }),
        }
    }
    out
}

impl Together<'_> {
    /// "How many tenants meet p99 ≤ 50 ms at 20 req/s each (inference)".
    pub(super) fn heading(&self) -> String {
        self.curves.first().map_or_else(String::new, |curve| {
            format!("How many tenants meet {} each ({})", words::asked(curve), curve.probe)
        })
    }

    /// The quantile that their chart shows.
    pub(super) fn shown(&self) -> Quantile {
        self.curves.first().map_or(Quantile::P99, |curve| curve.shown)
    }

    /// Bounds at that quantile, nanoseconds.
    pub(super) fn bounds(&self) -> Vec<f64> {
        let bounds = self.curves.first().map_or(&[][..], |curve| &curve.objectives);
        bounds.iter().filter(|b| b.quantile == self.shown()).map(|b| b.bound.0 as f64).collect()
    }

    /// There is something to draw.
    pub(super) fn drawn(&self) -> bool {
        let any = |d: &DensityHere| d.saturated.is_some() || d.worst_at(self.shown()).is_some();
        self.curves.iter().any(|curve| curve.densities.iter().any(any))
    }
}

/// What tells the curves of a chart apart, whatever their names: A, B, … and numbers where letters end.
pub(super) fn mark(curve: usize) -> String {
    u8::try_from(curve).ok().filter(|at| *at < 26).map_or_else(|| curve.to_string(), |at| char::from(b'A' + at).into())
}

/// "3 curves of 1 to 16 equal tenants", where there are any.
pub(super) fn how_many(run: &RunReport) -> Option<String> {
    let tenants = || run.curves.iter().flat_map(|c| &c.densities).map(|d| d.tenants);
    let (least, most) = (tenants().min()?, tenants().max()?);
    let range = if least == most { least.to_string() } else { format!("{least} to {most}") };
    let tenants = if most == 1 { "tenant" } else { "equal tenants" };
    Some(format!("{} of {range} {tenants}", count(run.curves.len() as u64, "curve")))
}

/// Heads of the columns of [`DensityHere::row`].
pub(super) const HEAD: [&str; 10] =
    ["tenants", "verdict", "p50", "p99", "p99.9", "good/s", "served/s", "all/s", "Jain [low high]", "memory"];

/// What those columns are.
pub(super) const LEGEND: &str = "p50, p99, p99.9, good/s (within every objective) and served/s are those of the worst tenant \
                                 in each; all/s is what all together were served; Jain's index is of goodput (1: all fare \
                                 alike); memory is in use on the GPU.";

/// Heads of the columns of [`TenantHere::row`].
pub(super) const TENANT_HEAD: [&str; 11] = [
    "tenants",
    "seat",
    "verdict",
    "p50",
    "p99",
    "p99.9",
    "over the bound",
    "arrived/s",
    "served/s",
    "good/s",
    "memory",
];

/// What stands in place of latencies.
pub(super) const SATURATED: &str = "saturated";

fn per_second(x: Option<f64>) -> String {
    x.map_or_else(|| NONE.to_owned(), |x| rate(x).trim_end_matches("/s").to_owned())
}

fn bytes(x: Option<u64>) -> String {
    x.map_or_else(|| NONE.to_owned(), |b| Bytes(b).for_people())
}

/// The quantiles of tables; of what is saturated a word in their place.
fn latencies(all: &[Latency], saturated: bool) -> [String; 3] {
    if saturated {
        return [SATURATED.to_owned(), NONE.to_owned(), NONE.to_owned()];
    }
    TOLD.map(|q| all.iter().find(|l| l.quantile == q).map_or_else(|| NONE.to_owned(), |l| time(l.ns)))
}

impl DensityHere {
    /// It was measured, or it cannot be: what was not needed is said in a sentence.
    pub(super) fn told(&self) -> bool {
        self.state != DensityState::NotRun
    }

    /// The worst tenant's latency at a quantile, nanoseconds.
    pub(super) fn worst_at(&self, quantile: Quantile) -> Option<f64> {
        self.worst.iter().find(|l| l.quantile == quantile).map(|l| l.ns)
    }

    /// Its row in a table.
    pub(super) fn row(&self) -> [String; 10] {
        let [p50, p99, p999] = latencies(&self.worst, self.saturated.is_some());
        [
            self.tenants.to_string(),
            self.word().to_owned(),
            p50,
            p99,
            p999,
            per_second(self.least_good),
            per_second(self.least_served),
            per_second(self.served),
            self.fairness.as_ref().map_or_else(|| NONE.to_owned(), words::index),
            bytes(self.memory),
        ]
    }

    /// Its word; the one that nobody may overlook in capitals.
    pub(super) const fn word(&self) -> &'static str {
        match self.state {
            DensityState::Missed => "MISSED",
            DensityState::NotRun => "not run",
            state => state.id(),
        }
    }

    /// What must be known beside the numbers: why it is open, what is saturated, how it was measured.
    pub(super) fn remark(&self, curve: &CurveHere) -> Option<String> {
        let mut parts: Vec<String> = Vec::new();
        parts.extend(words::saturated(self));
        parts.extend(self.reason.as_ref().map(|reason| format!("{}: {reason}", self.word())));
        if matches!(self.state, DensityState::Missed | DensityState::Undecided) {
            let over = curve.objectives.iter().zip(&self.over);
            parts.extend(over.filter_map(|(bound, over)| Some(words::over(bound, over.as_ref()?))));
        }
        parts.extend(self.notes.iter().cloned());
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// Rows of its tenants.
    pub(super) fn tenants(&self) -> impl Iterator<Item = [String; 11]> {
        self.each.iter().map(|tenant| tenant.row(self))
    }
}

impl TenantHere {
    /// The worst of what it came to.
    pub(super) fn word(&self) -> &str {
        ["missed", "undecided", "met"]
            .into_iter()
            .find(|word| self.objectives.iter().any(|o| o.verdict == *word))
            .unwrap_or(NONE)
    }

    fn row(&self, density: &DensityHere) -> [String; 11] {
        let [p50, p99, p999] = latencies(&self.latencies, density.saturated.is_some());
        let over: Vec<String> =
            self.objectives.iter().filter_map(|o| o.over.as_ref()).map(super::controls::share).collect();
        [
            density.tenants.to_string(),
            self.seat.clone(),
            self.word().to_owned(),
            p50,
            p99,
            p999,
            if over.is_empty() { NONE.to_owned() } else { over.join(", ") },
            per_second(self.planned),
            per_second(self.served),
            per_second(self.good),
            bytes(self.memory),
        ]
    }
}
