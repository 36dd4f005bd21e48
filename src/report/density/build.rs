//! From the verdict on curves to what a report says of them.

use crate::plan::Plan;
use crate::report::build::ratio;
use crate::report::format::{nine_digits, time};
use crate::report::model::{RequiredOf, Requirement};
use crate::scenario::{Arrivals, Quantile, Slo};
use crate::verdict::{
    CurveVerdict, Factor, LevelState, LevelVerdict, LoneTenant, RequirementState, RunVerdict, SloState, TenantVerdict,
};

use super::words;
use super::{
    Bound, CurveHere, DensityHere, DensityState, Latency, Lone, LoneRatio, Multiple, Overload, TOLD, TenantHere,
    TenantObjective,
};

/// The part of the model.
pub(in crate::report) fn of(plan: &Plan, verdict: &RunVerdict) -> Vec<CurveHere> {
    verdict.curves.iter().filter_map(|curve| one(plan, curve)).collect()
}

fn one(plan: &Plan, v: &CurveVerdict) -> Option<CurveHere> {
    let planned = plan.curves.get(v.curve)?;
    let probe = plan.panel.get(planned.probe);
    let objectives: Vec<Bound> = v.objectives.iter().map(bound).collect();
    let mut curve = CurveHere {
        name: planned.name.clone(),
        sharing: planned.sharing,
        probe: probe.map_or_else(String::new, |p| p.name.clone()),
        rate: match probe.map(|p| p.arrivals) {
            Some(Arrivals::Poisson(rate) | Arrivals::Fixed(rate)) => nine_digits(rate.as_f64()),
            Some(Arrivals::Auto) | None => None,
        },
        crossing: String::new(),
        met: v.met,
        missed: v.missed,
        confidence: nine_digits(1.0 - v.alpha),
        complete: v.complete,
        at_least: planned.at_least,
        requirement: v.requirement,
        knee: None,
        factors: v.factors.iter().map(multiple).collect(),
        lone: v.lone.as_ref().map(|lone| of_lone(&planned.name, lone)),
        notes: Vec::new(),
        shown: shown(&v.objectives),
        densities: v.levels.iter().map(|level| density(plan, v, level)).collect(),
        objectives,
    };
    curve.crossing = words::crossing(&curve);
    curve.knee = v.reference.as_ref().and_then(|(name, tenants)| words::knee(&curve, curve_of(plan, name), *tenants));
    curve.notes = words::notes(&curve);
    Some(curve)
}

/// The curve of a density's arrangement: what a reader knows it by.
fn curve_of<'a>(plan: &'a Plan, arrangement: &'a str) -> &'a str {
    let density = plan.arrangements.iter().find(|a| a.name == arrangement).and_then(|a| a.density);
    density.and_then(|d| plan.curves.get(d.curve)).map_or(arrangement, |curve| &curve.name)
}

fn bound(slo: &Slo) -> Bound {
    let text = format!("{} ≤ {}", slo.quantile, time(slo.bound.0 as f64));
    Bound { quantile: slo.quantile, bound: slo.bound, text }
}

/// The highest quantile of the objectives, where latencies are told at it; else p99.
fn shown(objectives: &[Slo]) -> Quantile {
    objectives.iter().map(|slo| slo.quantile).max().filter(|q| TOLD.contains(q)).unwrap_or(Quantile::P99)
}

fn multiple(f: &Factor) -> Multiple {
    Multiple { times: nine_digits(f.times), within: f.within, beyond: f.beyond }
}

fn of_lone(name: &str, lone: &LoneTenant) -> Lone {
    let ratios: Vec<LoneRatio> =
        lone.ratios.iter().map(|(quantile, r)| LoneRatio { quantile: *quantile, ratio: ratio(*r) }).collect();
    Lone { text: words::lone(name, &lone.against, &ratios), against: lone.against.clone(), ratios }
}

fn density(plan: &Plan, curve: &CurveVerdict, v: &LevelVerdict) -> DensityHere {
    let level = plan.curves[curve.curve].levels.iter().find(|level| level.tenants == v.tenants);
    let arrangement = plan.arrangements.get(v.arrangement);
    let overloads = v.each.iter().filter_map(overload);
    let worst = overloads.max_by(|a, b| a.growth.unwrap_or(0.0).total_cmp(&b.growth.unwrap_or(0.0)));
    // Whatever the verdict carries: one latency of it would be one too many.
    let saturated = worst.or_else(|| v.saturated.then_some(Overload { growth: None, served: None, planned: None }));
    let each: Vec<TenantHere> = v.each.iter().map(|t| tenant(curve, t, saturated.is_some())).collect();
    let (state, reason) = match &v.state {
        LevelState::Met {} => (DensityState::Met, None),
        LevelState::Missed {} => (DensityState::Missed, None),
        LevelState::Undecided { reason } => (DensityState::Undecided, Some(reason.clone())),
        LevelState::Skipped { reason } => (DensityState::Skipped, Some(reason.clone())),
        LevelState::NotRun {} => (DensityState::NotRun, None),
    };
    DensityHere {
        tenants: v.tenants,
        arrangement: arrangement.map_or_else(String::new, |a| a.name.clone()),
        listed: level.is_some_and(|level| level.listed),
        state,
        reason,
        arms: v.arms,
        window: arrangement.and_then(|a| a.density).map(|d| d.window),
        worst: worst_of(&each),
        least_good: least(&each, |tenant| tenant.good),
        least_served: least(&each, |tenant| tenant.served),
        served: v.served.and_then(nine_digits),
        good: v.good.and_then(nine_digits),
        fairness: v.fairness.map(|f| ratio(f.index)),
        memory: v.memory,
        over: v.together.iter().map(|over| over.filter(|_| saturated.is_none()).map(ratio)).collect(),
        ratio: v.ratio.filter(|_| saturated.is_none()).map(ratio),
        notes: v.notes.clone(),
        saturated,
        each,
    }
}

fn tenant(curve: &CurveVerdict, v: &TenantVerdict, saturated: bool) -> TenantHere {
    let objective = |(slo, (state, over)): (&Slo, &(SloState, Option<crate::verdict::Interval>))| TenantObjective {
        objective: bound(slo).text,
        verdict: state.word().to_owned(),
        reason: match state {
            SloState::Undecided { reason } => Some(reason.clone()),
            SloState::Met | SloState::Missed => None,
        },
        over: over.filter(|_| !saturated).map(ratio),
    };
    let latency = |(quantile, ns): &(Quantile, f64)| Some(Latency { quantile: *quantile, ns: nine_digits(*ns)? });
    TenantHere {
        seat: v.seat.clone(),
        objectives: curve.objectives.iter().zip(&v.objectives).map(objective).collect(),
        latencies: if saturated { Vec::new() } else { v.latencies.iter().filter_map(latency).collect() },
        planned: nine_digits(v.planned),
        served: nine_digits(v.served),
        good: nine_digits(v.good),
        memory: v.memory,
        saturated: overload(v),
    }
}

/// How a tenant's backlog grows, with the rates that its row has.
fn overload(v: &TenantVerdict) -> Option<Overload> {
    let growth = nine_digits(v.saturated?.growth);
    Some(Overload { growth, served: nine_digits(v.served), planned: nine_digits(v.planned) })
}

/// The worst at each quantile; of one that is not known of every tenant, nobody can say which is.
fn worst_of(each: &[TenantHere]) -> Vec<Latency> {
    let Some((first, rest)) = each.split_first() else { return Vec::new() };
    let of = |tenant: &TenantHere, q: Quantile| tenant.latencies.iter().find(|l| l.quantile == q).map(|l| l.ns);
    let worst = |l: &Latency| {
        rest.iter().try_fold(l.ns, |worst, t| Some(worst.max(of(t, l.quantile)?))).map(|ns| Latency { ns, ..*l })
    };
    first.latencies.iter().filter_map(worst).collect()
}

/// The least; of what is not known of every tenant, nobody can say which is.
fn least(each: &[TenantHere], of: fn(&TenantHere) -> Option<f64>) -> Option<f64> {
    let all: Option<Vec<f64>> = each.iter().map(of).collect();
    all.and_then(|all| all.into_iter().reduce(f64::min))
}

/// What is required of a curve, and how that stands.
pub(in crate::report) fn requirement(c: &CurveHere) -> Option<Requirement> {
    let at_least = c.at_least.filter(|_| c.requirement != RequirementState::NotRequired)?;
    let tenants = if at_least == 1 { "1 tenant".to_owned() } else { format!("{at_least} tenants") };
    let text = format!("must have room for {tenants} that meet, and {}", c.crossing.trim_end_matches('.'));
    Some(Requirement { cell: c.name.clone(), of: RequiredOf::Curve, state: c.requirement, text })
}
