//! Curves built by hand. No measuring, no judging: what a report shows is put in.

use crate::plan::{Curve, Density, Grid, Level, PlannedArrangement, Seat};
use crate::report::fixture;
use crate::run_dir::RecordedRun;
use crate::scenario::{Arrivals, Expectation, Quantile, SharingMode, Slo};
use crate::units::{Nanos, Rate};
use crate::verdict::{
    CurveVerdict, Factor, Fairness, Interval, LevelState, LevelVerdict, LoneTenant, RequirementState, RunVerdict,
    Saturated, SloState, TenantVerdict,
};

/// A latency, a share and a ratio of a saturated density: no report may hold them, in whatever unit.
pub(in crate::report) const PLANTED: (f64, f64, f64) = (7_654_321_987.0, 0.876_543, 654.987);
/// What they would look like.
pub(in crate::report) const TRACES: [&str; 9] =
    ["7654321", "7.65", "7 s", "7.654321", "0.876543", "87.7 %", "88 %", "654.987", "655"];

/// What a density came to, and how its worst tenant fares against 50 ms.
#[derive(Clone, Copy)]
pub(in crate::report) enum Came {
    Met(f64),
    Missed(f64),
    Saturated,
    Undecided(&'static str),
    Skipped(&'static str),
    NotRun,
}

fn interval(estimate: f64, low: f64, high: f64) -> Interval {
    Interval { estimate, low: Some(low), high: Some(high) }
}

pub(in crate::report) fn objective() -> Slo {
    Slo { quantile: Quantile::P99, bound: Nanos::millis(50) }
}

/// One density: milliseconds of the worst tenant's p99, the others' a little less.
fn level(arrangement: usize, tenants: u32, came: Came) -> LevelVerdict {
    let (state, ms, slo) = match came {
        Came::Met(ms) => (LevelState::Met {}, ms, SloState::Met),
        Came::Missed(ms) => (LevelState::Missed {}, ms, SloState::Missed),
        Came::Saturated => (LevelState::Missed {}, PLANTED.0 / 1e6, SloState::Missed),
        Came::Undecided(why) => {
            (LevelState::Undecided { reason: why.to_owned() }, 49.5, SloState::Undecided { reason: why.to_owned() })
        }
        Came::Skipped(why) => (LevelState::Skipped { reason: why.to_owned() }, f64::NAN, SloState::Missed),
        Came::NotRun => (LevelState::NotRun {}, f64::NAN, SloState::Missed),
    };
    let saturated = matches!(came, Came::Saturated);
    let measured = ms.is_finite();
    let share = match came {
        Came::Saturated => PLANTED.1,
        Came::Missed(_) => 0.0131,
        Came::Undecided(_) => 0.0099,
        Came::Met(_) | Came::Skipped(_) | Came::NotRun => 0.0031,
    };
    let tenant = |seat: u32| {
        let p99 = if saturated { PLANTED.0 } else { (ms - 0.01 * f64::from(seat)) * 1e6 };
        let mut latencies = vec![(Quantile::P50, if saturated { p99 } else { p99 / 2.0 }), (Quantile::P99, p99)];
        // One tenant has too few requests for p99.9 with four of them.
        latencies
            .extend((tenants != 4 || seat != 1).then_some((Quantile::P999, if saturated { p99 } else { p99 * 1.5 })));
        TenantVerdict {
            seat: seat.to_string(),
            objectives: vec![(slo.clone(), Some(interval(share, share * 0.8, share * 1.2)))],
            latencies,
            planned: 20.0,
            served: if saturated { 16.25 } else { 19.99 - 0.01 * f64::from(seat) },
            good: if saturated { 3.125 } else { 19.9 - 0.01 * f64::from(seat) },
            memory: Some(3 << 30),
            saturated: (saturated && seat < 2).then_some(Saturated {
                growth: 3.75 + f64::from(seat),
                served: 16.25,
                planned: 20.0,
                service_ns: Some(PLANTED.0),
            }),
        }
    };
    let each: Vec<TenantVerdict> = if measured { (0..tenants).map(tenant).collect() } else { Vec::new() };
    LevelVerdict {
        tenants,
        arrangement,
        state,
        arms: if measured { 24 } else { 0 },
        together: if measured { vec![Some(interval(share, share * 0.9, share * 1.1))] } else { Vec::new() },
        served: measured.then(|| each.iter().map(|t| t.served).sum()),
        good: measured.then(|| each.iter().map(|t| t.good).sum()),
        fairness: measured.then(|| Fairness { index: interval(0.998_765_432_1, 0.99, 1.0) }),
        memory: measured.then(|| (u64::from(tenants) * 3 + 1) << 30),
        ratio: measured.then(|| {
            if saturated {
                interval(PLANTED.2, PLANTED.2, PLANTED.2)
            } else {
                interval(ms / 11.0, ms / 12.0, ms / 10.0)
            }
        }),
        notes: if tenants == 8 && measured { vec!["too few cores".to_owned()] } else { Vec::new() },
        each,
        saturated,
    }
}

/// A run to put curves into: without cells.
pub(in crate::report) fn empty() -> (RecordedRun, RunVerdict) {
    let (mut run, mut verdict) = (fixture::run(), fixture::verdict());
    let plan = &mut run.manifest.plan;
    plan.description = Some("How many tenants meet 50 ms?".to_owned());
    plan.panel = vec![plan.panel[1].clone()];
    plan.arrangements.clear();
    plan.neighbours.clear();
    plan.accepted.clear();
    run.calibrations.clear();
    verdict.cells.clear();
    verdict.controls.clear();
    verdict.slos.clear();
    verdict.assumed.clear();
    (verdict.requires, verdict.requirement) = (false, RequirementState::NotRequired);
    (run, verdict)
}

/// Adds a curve of inference at 20 req/s, with the crossing that its densities show.
pub(in crate::report) fn add(
    (run, verdict): &mut (RecordedRun, RunVerdict),
    name: &str,
    sharing: SharingMode,
    densities: &[(u32, Came)],
) {
    let plan = &mut run.manifest.plan;
    let probe = plan.panel.iter().position(|p| p.name == "inference").unwrap_or_default();
    plan.panel[probe].arrivals = Arrivals::Poisson(Rate::per_second(20));
    let index = plan.curves.len();
    let mut levels = Vec::new();
    let mut judged = Vec::new();
    for (tenants, came) in densities {
        let arrangement = plan.arrangements.len();
        plan.arrangements.push(PlannedArrangement {
            name: format!("{name}×{tenants}"),
            sharing,
            seats: (0..*tenants).map(|i| Seat { id: i.to_string(), share: "whole GPU".to_owned(), entry: 0 }).collect(),
            skipped: match came {
                Came::Skipped(why) => Some((*why).to_owned()),
                _ => None,
            },
            grids: vec![Grid {
                victim: 0,
                neighbour_seats: Vec::new(),
                probes: vec![probe],
                neighbours: Vec::new(),
                first_block: 0,
            }],
            require: Expectation::default(),
            expect: Expectation::default(),
            density: Some(Density { curve: index, tenants: *tenants, window: Nanos::secs(10), budget: None }),
            ..fixture::plan().arrangements[1].clone()
        });
        let listed = tenants.is_power_of_two() || *tenants == 7;
        levels.push(Level { tenants: *tenants, arrangement, listed });
        judged.push(level(arrangement, *tenants, *came));
    }
    plan.curves.push(Curve { name: name.to_owned(), sharing, probe, every: false, at_least: None, levels, most: 4 });
    let missed = judged.iter().filter(|l| l.state == LevelState::Missed {}).map(|l| l.tenants).min();
    let below = |l: &&LevelVerdict| l.state == LevelState::Met {} && missed.is_none_or(|missed| l.tenants < missed);
    verdict.curves.push(CurveVerdict {
        curve: index,
        objectives: vec![objective()],
        met: judged.iter().filter(below).map(|l| l.tenants).max(),
        missed,
        levels: judged,
        alpha: 0.01,
        complete: true,
        reference: None,
        factors: Vec::new(),
        lone: None,
        requirement: RequirementState::NotRequired,
    });
}

/// A curve of inference alone in a run of its own.
pub(in crate::report) fn alone(densities: &[(u32, Came)]) -> (RecordedRun, RunVerdict) {
    let mut both = empty();
    add(&mut both, "time-slicing", SharingMode::TimeSlicing, densities);
    both
}

/// Requires so many tenants of a curve.
pub(in crate::report) fn require(
    (run, verdict): &mut (RecordedRun, RunVerdict),
    curve: usize,
    at_least: u32,
    state: RequirementState,
) {
    run.manifest.plan.curves[curve].at_least = Some(at_least);
    verdict.curves[curve].requirement = state;
    verdict.requires = true;
    verdict.requirement = verdict.requirement.max(state);
}

/// The sample's curves: a lone tenant, a crossing, one that is undecided, one that ends where no more fit.
pub(in crate::report) fn curves(both: &mut (RecordedRun, RunVerdict)) {
    use Came::{Met, Missed, NotRun, Saturated, Skipped, Undecided};
    let near = "the share of requests over it lies too near to what it allows; take more blocks";
    add(both, "exclusive", SharingMode::Exclusive, &[(1, Met(11.0))]);
    let slices = [
        (1, Met(11.2)),
        (2, Met(19.0)),
        (3, NotRun),
        (4, Met(41.0)),
        (5, Missed(61.0)),
        (6, NotRun),
        (7, NotRun),
        (8, Saturated),
    ];
    add(both, "time-slicing", SharingMode::TimeSlicing, &slices);
    let mps = [
        (1, Met(11.2)),
        (2, NotRun),
        (3, NotRun),
        (4, Met(23.0)),
        (5, Undecided(near)),
        (6, Undecided(near)),
        (7, Missed(75.0)),
        (8, Saturated),
    ];
    add(both, "mps", SharingMode::Mps, &mps);
    let mig =
        [(1, Met(30.0)), (2, NotRun), (4, NotRun), (7, Met(30.5)), (8, Skipped("no layout of 8 equal instances"))];
    add(both, "mig", SharingMode::Mig, &mig);
    let lone = |estimate: f64| LoneTenant {
        against: "exclusive".to_owned(),
        ratios: vec![
            (Quantile::P50, interval(estimate, estimate - 0.01, estimate + 0.01)),
            (Quantile::P99, interval(estimate, estimate - 0.02, estimate + 0.02)),
        ],
    };
    let factor = |times, within, beyond| Factor { times, within, beyond };
    let verdicts = &mut both.1.curves;
    for curve in verdicts.iter_mut() {
        curve.reference = Some(("exclusive×1".to_owned(), 1));
    }
    verdicts[0].factors = vec![factor(2.0, Some(1), None)];
    verdicts[1].lone = Some(lone(1.02));
    verdicts[1].factors =
        vec![factor(1.5, Some(1), Some(2)), factor(2.0, Some(2), Some(4)), factor(5.0, Some(4), Some(5))];
    verdicts[2].lone = Some(lone(1.019));
    verdicts[2].factors = vec![factor(1.5, Some(1), None), factor(2.0, Some(4), None), factor(5.0, Some(4), Some(7))];
    verdicts[3].lone = Some(lone(2.7));
    verdicts[3].factors = vec![factor(1.5, None, Some(1)), factor(2.0, None, Some(1)), factor(5.0, Some(7), None)];
    require(both, 1, 4, RequirementState::Met);
    require(both, 2, 6, RequirementState::Undecided);
    require(both, 3, 8, RequirementState::NotMet);
}

/// A run with curves alone.
pub(in crate::report) fn sample() -> (RecordedRun, RunVerdict) {
    let mut both = empty();
    curves(&mut both);
    both
}

/// Curves beside cells.
pub(in crate::report) fn beside() -> (RecordedRun, RunVerdict) {
    let mut both = (fixture::run(), fixture::verdict());
    curves(&mut both);
    both
}

/// The sample with names that nobody vouches for.
pub(in crate::report) fn hostile(evil: &str, long: &str) -> (RecordedRun, RunVerdict) {
    let (mut run, mut verdict) = sample();
    let plan = &mut run.manifest.plan;
    plan.scenario = long.to_owned();
    for (at, curve) in plan.curves.iter_mut().enumerate() {
        curve.name = if at == 1 { long.to_owned() } else { format!("{evil}{at}") };
    }
    plan.panel[0].name = evil.to_owned();
    for arrangement in &mut plan.arrangements {
        arrangement.name = format!("{evil}{}", arrangement.name);
        arrangement.skipped = arrangement.skipped.as_ref().map(|_| evil.to_owned());
    }
    for curve in &mut verdict.curves {
        curve.reference = Some((evil.to_owned(), 1));
        curve.lone.iter_mut().for_each(|lone| lone.against = evil.to_owned());
        for level in &mut curve.levels {
            level.notes.push(evil.to_owned());
            match &mut level.state {
                LevelState::Undecided { reason } => *reason = evil.to_owned(),
                LevelState::Skipped { reason } => *reason = long.to_owned(),
                LevelState::Met {} | LevelState::Missed {} | LevelState::NotRun {} => {}
            }
            for tenant in &mut level.each {
                tenant.seat = format!("{evil}{}", tenant.seat);
            }
        }
    }
    (run, verdict)
}
