//! Densities: whether every one of N equal tenants meets its objective, and where along a curve they no longer do.

use serde::{Deserialize, Serialize};

use super::types::{Interval, RequirementState, Saturated, SloState};
use crate::backend::Purpose;
use crate::run_dir::RecordedRun;
use crate::scenario::{Quantile, Slo};

/// One curve: equal tenants in growing numbers under one way of sharing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CurveVerdict {
    /// Index into the plan's curves.
    pub curve: usize,
    /// What every tenant must meet.
    pub objectives: Vec<Slo>,
    /// Every density of the plan, rising.
    pub levels: Vec<LevelVerdict>,
    /// The largest density that is shown to meet every objective below all that miss one; `None`: none is.
    pub met: Option<u32>,
    /// The smallest density that is shown to miss one; `None`: none is.
    pub missed: Option<u32>,
    /// Rate of errors about the crossing, all densities that were measured together.
    pub alpha: f64,
    /// Nothing more is to be measured.
    pub complete: bool,
    /// What the ratios of `factors` are taken against: the name of an arrangement, and its tenants; `None`: nothing there gives
    /// a latency.
    pub reference: Option<(String, u32)>,
    /// Where the tail leaves multiples of the reference's, by the densities that were measured.
    pub factors: Vec<Factor>,
    /// The lone tenant under this way of sharing against the exclusive one; `None`: one of the two was not measured.
    pub lone: Option<LoneTenant>,
    /// Whether as many tenants as are required meet their objectives.
    pub requirement: RequirementState,
}

/// What became of one density.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "state", deny_unknown_fields)]
pub enum LevelState {
    /// Every tenant meets every objective.
    Met {},
    /// Some tenant misses an objective.
    Missed {},
    /// Neither is shown.
    Undecided {
        /// Why.
        reason: String,
    },
    /// It cannot be here: no such layout, or no room in memory.
    Skipped {
        /// Why.
        reason: String,
    },
    /// The search did not need it, or has not come to it.
    NotRun {},
}

/// One density.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LevelVerdict {
    /// Tenants.
    pub tenants: u32,
    /// Index of its arrangement.
    pub arrangement: usize,
    /// What became of it.
    pub state: LevelState,
    /// Arms that were measured.
    pub arms: u32,
    /// Each tenant, in the order of the seats. Empty where nothing was measured.
    pub each: Vec<TenantVerdict>,
    /// Some tenant's backlog grows: no latency of this density means anything, and none is given.
    pub saturated: bool,
    /// Requests per second that all tenants together were served.
    pub served: Option<f64>,
    /// Requests per second that all tenants together were served within every objective's bound.
    pub good: Option<f64>,
    /// How evenly.
    pub fairness: Option<Fairness>,
    /// Device memory in use on the GPU, as the driver says, bytes.
    pub memory: Option<u64>,
    /// The worst tenant's highest objective quantile ÷ the reference's, with its interval.
    pub ratio: Option<Interval>,
    /// What must be known of how it was measured, in words ("too few cores").
    pub notes: Vec<String>,
}

/// One of equal tenants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantVerdict {
    /// Id of its seat.
    pub seat: String,
    /// Per objective, in their order: whether it is met, and the share of requests over its bound.
    pub objectives: Vec<(SloState, Option<Interval>)>,
    /// Latencies at p50, p99 and p99.9, nanoseconds, as far as there are ten requests beyond. None where the density is
    /// saturated.
    pub latencies: Vec<(Quantile, f64)>,
    /// Requests per second that arrived.
    pub planned: f64,
    /// Requests per second that it was served.
    pub served: f64,
    /// Requests per second that it was served within every objective's bound.
    pub good: f64,
    /// Device memory that its programs hold, bytes, as it says; `None`: it does not.
    pub memory: Option<u64>,
    /// Its backlog grows.
    pub saturated: Option<Saturated>,
}

/// Jain's index of the tenants' goodput, each as a part of its own load: 1 where all fare alike, 1/n where one has everything
/// (R. Jain, D. Chiu, W. Hawe, *A Quantitative Measure of Fairness and Discrimination*, DEC-TR-301, 1984).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fairness {
    /// The mean over the arms, with bounds over them.
    pub index: Interval,
}

/// Where the tail of the worst tenant leaves a multiple of the reference's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Factor {
    /// The multiple: 1.5, 2, 5.
    pub times: f64,
    /// The largest measured density whose interval lies within it, below all that leave it.
    pub within: Option<u32>,
    /// The smallest measured density whose interval lies beyond it, or that is saturated.
    pub beyond: Option<u32>,
}

/// A lone tenant against the exclusive one: what the way of sharing costs before anybody shares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoneTenant {
    /// Name of the curve of the exclusive tenant.
    pub against: String,
    /// Ratio of latencies at each quantile that both have, with its interval.
    pub ratios: Vec<(Quantile, Interval)>,
}

/// Judges every curve of the plan.
pub(super) fn judge(run: &RecordedRun) -> Vec<CurveVerdict> {
    let _ = run;
    Vec::new()
}

/// The arrangement of the density that is to be measured next; `None`: the curve is complete.
pub fn next_density(run: &RecordedRun, curve: usize) -> Option<usize> {
    let plan = &run.manifest.plan;
    let lacks = |index: &usize| {
        !run.skipped.contains_key(index)
            && !run.given_up.contains_key(index)
            && (0..plan.design.blocks).any(|block| {
                let planned = run.planned(*index, 0, block, Purpose::Block);
                planned.iter().any(|key| !run.arms.contains_key(key) && !run.lost.contains_key(key))
            })
    };
    plan.curves.get(curve)?.levels.iter().filter(|level| level.listed).map(|level| level.arrangement).find(lacks)
}
