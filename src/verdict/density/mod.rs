//! Densities: whether every one of N equal tenants meets its objective, and where along a curve they no longer do.
//!
//! Every density that is measured is judged at the part α of the error rate that falls to it: the rate ÷ the densities that are
//! measured at most. It is *met* where every tenant meets every objective, each shown at α (an intersection–union test: no
//! correction is needed), and *missed* where one of three shows it, whose levels add up to α: the mean of all tenants is over
//! (0.4 α), some tenant is (0.5 α ÷ tenants), or their backlog grows (0.1 α). Each density is truly one of the two, its arms are new,
//! and no more are measured than the rate is divided among: so all of them together err no more often than the rate says, however
//! the search chooses (Bonferroni). What was not measured follows from those that were if more tenants never fare better, which
//! is assumed.

#[cfg(test)]
mod fixture;
mod level;
mod search;
mod tails;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trials;

use serde::{Deserialize, Serialize};

use super::cell::on_all_cores;
use super::types::{Interval, RequirementState, Saturated, SloState};
use crate::plan::{Curve, Plan};
use crate::run_dir::RecordedRun;
use crate::scenario::{Quantile, SharingMode, Slo};
use crate::stats::{episode_share, objective_arms};
use level::{Level, rate, share_of_rate};
use search::State;

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
    /// The largest density that is shown to meet every objective, below all that are shown to miss one; `None`: none is. A larger
    /// one that is met above one that misses counts for nothing, and says so in its notes.
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
    /// Per objective, in their order: the share of all tenants' requests over its bound, the mean of the arms with one-sided bounds.
    /// `None` where the density is saturated, or has too few arms.
    pub together: Vec<Option<Interval>>,
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
    /// Per objective, in their order: whether it is met, and the share of requests over its bound (none where the density is
    /// saturated).
    pub objectives: Vec<(SloState, Option<Interval>)>,
    /// Latencies at p50, p99 and p99.9, nanoseconds, as far as there are ten requests beyond. None where the density is
    /// saturated.
    pub latencies: Vec<(Quantile, f64)>,
    /// Requests per second that arrived.
    pub planned: f64,
    /// Requests per second that it was served.
    pub served: f64,
    /// Requests per second that it was served within every objective's bound. Where the density is saturated, that of arms as
    /// long as these: of longer ones it would be less.
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
    let plan = &run.manifest.plan;
    let all: Vec<Level<'_>> = plan
        .curves
        .iter()
        .flat_map(|curve| (0..curve.levels.len()).map(move |index| Level::new(run, curve, index)))
        .collect();
    let verdicts = on_all_cores(&all, |level, _| level.judge());
    let (mut levels, mut verdicts, mut curves) = (all.into_iter(), verdicts.into_iter(), Vec::new());
    let exclusive = exclusive(run);
    for (index, curve) in plan.curves.iter().enumerate() {
        let count = curve.levels.len();
        let levels: Vec<Level<'_>> = levels.by_ref().take(count).collect();
        let verdicts: Vec<LevelVerdict> = verdicts.by_ref().take(count).collect();
        curves.push(of_curve(run, index, &exclusive, &levels, verdicts));
    }
    curves
}

/// Index of the arrangement of the density that is to be measured next along a curve; `None`: it is complete. Pure: what the run
/// has says it, before its first arm, between two densities and after an interruption alike. Densities of which arms are missing
/// come first.
pub fn next_density(run: &RecordedRun, curve: usize) -> Option<usize> {
    let curve = run.manifest.plan.curves.get(curve)?;
    let indices: Vec<usize> = (0..curve.levels.len()).collect();
    let states = on_all_cores(&indices, |index, _| Level::new(run, curve, *index).state());
    search::next(curve, &states).map(|index| curve.levels[index].arrangement)
}

/// The lone exclusive tenant of each curve that has one, with the curve.
fn exclusive(run: &RecordedRun) -> Vec<(&Curve, Level<'_>)> {
    let curves = run.manifest.plan.curves.iter().filter(|curve| curve.sharing == SharingMode::Exclusive);
    fn alone<'a>(run: &'a RecordedRun, curve: &'a Curve) -> Option<(&'a Curve, Level<'a>)> {
        let index = curve.levels.iter().position(|level| level.tenants == 1)?;
        Some((curve, Level::new(run, curve, index)))
    }
    curves.filter_map(|curve| alone(run, curve)).filter(|(_, level)| level.is_measured()).collect()
}

fn of_curve(
    run: &RecordedRun,
    index: usize,
    exclusive: &[(&Curve, Level<'_>)],
    levels: &[Level<'_>],
    mut verdicts: Vec<LevelVerdict>,
) -> CurveVerdict {
    let plan = &run.manifest.plan;
    let curve = &plan.curves[index];
    let objectives = plan.panel[curve.probe].slos.clone();
    let exclusive = exclusive.iter().find(|(other, _)| other.probe == curve.probe);
    let smallest = || levels.iter().find(|level| level.is_measured());
    let highest = objectives.iter().map(|slo| slo.quantile).max();
    // The one that cannot tell its latency is no reference, and nobody else takes its place.
    let reference = exclusive.map(|(_, level)| level).or_else(smallest);
    let reference = reference.filter(|level| highest.is_some_and(|q| level.tails(q).is_some()));
    if let (Some(reference), Some(q)) = (reference, highest) {
        let ratios = on_all_cores(levels, |level, _| tails::ratio(plan, reference, level, q));
        verdicts.iter_mut().zip(ratios).for_each(|(verdict, ratio)| verdict.ratio = ratio);
    }
    let states: Vec<State> = levels.iter().zip(&verdicts).map(|(level, verdict)| level.found(&verdict.state)).collect();
    let (met, missed) = search::crossing(&states);
    let tenants = |index: Option<usize>| index.map(|index| verdicts[index].tenants);
    let (met, missed) = (tenants(met), tenants(missed));
    for verdict in &mut verdicts {
        if let Some(missed) = missed.filter(|missed| verdict.state == LevelState::Met {} && *missed < verdict.tenants) {
            verdict.notes.push(format!(
                "{missed} tenants miss what these meet: that more tenants never fare better, as is assumed, does not hold here"
            ));
        }
    }
    let alone = levels.iter().find(|level| level.tenants == 1 && level.is_measured());
    let other = exclusive.filter(|(other, _)| other.sharing != curve.sharing);
    let lone = other.zip(alone).and_then(|((other, level), alone)| tails::lone(plan, level, &other.name, alone));
    CurveVerdict {
        curve: index,
        objectives,
        met,
        missed,
        alpha: rate(plan),
        complete: search::next(curve, &states).is_none(),
        reference: reference.map(|level| (plan.arrangements[level.arrangement].name.clone(), level.tenants)),
        factors: if reference.is_some() { tails::factors(&verdicts) } else { Vec::new() },
        lone,
        requirement: requirement(curve, met, missed),
        levels: verdicts,
    }
}

/// Whether as many tenants as are required are shown to meet their objectives; if more do, so do they.
fn requirement(curve: &Curve, met: Option<u32>, missed: Option<u32>) -> RequirementState {
    match curve.at_least {
        None => RequirementState::NotRequired,
        Some(least) if met.is_some_and(|met| met >= least) => RequirementState::Met,
        Some(least) if missed.is_some_and(|missed| missed <= least) => RequirementState::NotMet,
        Some(_) => RequirementState::Undecided,
    }
}

/// Whether anything is required of a curve.
pub(super) fn requires(plan: &Plan) -> bool {
    plan.curves.iter().any(|curve| curve.at_least.is_some())
}

/// What a crossing rests on without proof.
pub(super) fn assumed(curves: &[CurveVerdict]) -> Option<String> {
    let left_out = |curve: &CurveVerdict| {
        let between = |level: &LevelVerdict| level.state == LevelState::NotRun {};
        (curve.met.is_some() || curve.missed.is_some()) && curve.levels.iter().any(between)
    };
    curves
        .iter()
        .any(left_out)
        .then(|| "more tenants never fare better: densities were left out that it decides".to_owned())
}

/// π* of a run of densities alone: an episode that hits a smaller share of the arms may be absent from all arms of a density that is
/// called met. Of the curve of which least is seen.
pub(super) fn scope(plan: &Plan) -> Option<f64> {
    plan.curves.iter().map(|curve| episode_share(plan.design.blocks, share_of_rate(plan, curve))).reduce(f64::max)
}

/// Arms that a claim about a density takes at least, of the curve that takes most.
pub(super) fn arms(plan: &Plan) -> Option<usize> {
    plan.curves.iter().map(|curve| objective_arms(share_of_rate(plan, curve))).max()
}
