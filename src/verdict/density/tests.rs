//! What a run of densities says.

use super::fixture::{At, BOUND, Crowd, crossing_at, key, measure, measure_arm, search, times};
use super::level::{TOLD, parts, share_of_rate};
use super::*;
use crate::backend::{ArmSummary, Company, Evidence, SeatEvidence};
use crate::random::Stream;
use crate::run_dir::{Placed, SeriesData};
use crate::scenario::FALSE_PASS;
use crate::tenant::protocol::ProgramInfo;
use crate::units::{Nanos, Share};
use crate::verdict::synthetic::{exit_code, record};
use crate::verdict::{RunVerdict, judge as judge_run, judge_one_of};

/// A run of eight densities at most, searched to its end.
fn searched(crowd: &Crowd, requests: impl Fn(&mut Stream, At) -> SeriesData) -> RecordedRun {
    let mut run = crowd.run();
    search(&mut run, &requests);
    run
}

fn curve(run: &RecordedRun) -> CurveVerdict {
    judge(run).swap_remove(0)
}

/// A run of one density of so many tenants, the only listed one.
fn one(tenants: u32, requests: impl Fn(&mut Stream, At) -> SeriesData) -> RecordedRun {
    let curves = vec![("mps", SharingMode::Mps, vec![tenants])];
    let mut run = Crowd { curves, ..Crowd::default() }.run();
    measure(&mut run, 0, &requests);
    run
}

fn level_of(run: &RecordedRun) -> LevelVerdict {
    curve(run).levels.swap_remove(0)
}

fn word(state: &LevelState) -> &'static str {
    match state {
        LevelState::Met {} => "met",
        LevelState::Missed {} => "missed",
        LevelState::Undecided { .. } => "undecided",
        LevelState::Skipped { .. } => "skipped",
        LevelState::NotRun {} => "not run",
    }
}

fn why(run: &RecordedRun) -> String {
    match level_of(run).state {
        LevelState::Undecided { reason } => reason,
        other => panic!("{other:?}"),
    }
}

fn change(run: &mut RecordedRun, change: impl Fn(u32, &mut ArmSummary)) {
    run.arms.iter_mut().for_each(|(key, arm)| change(key.block, &mut arm.summary));
}

const MET: fn(At) -> f64 = |_| 1.25;
const MISSED: fn(At) -> f64 = |_| 7.5;
/// The p99 lies at the bound.
const NEAR: fn(At) -> f64 = |_| 2.5;

#[test]
fn the_crossing_is_found_and_said() {
    let run = searched(&Crowd::default(), crossing_at(4));
    let curve = curve(&run);
    assert_eq!((curve.met, curve.missed, curve.complete), (Some(4), Some(5), true));
    let words: Vec<&str> = curve.levels.iter().map(|level| word(&level.state)).collect();
    assert_eq!(words, ["met", "not run", "met", "met", "missed", "not run", "not run", "not run"]);
    assert_eq!(curve.alpha, FALSE_PASS);
    let (met, missed, not_run) = (&curve.levels[3], &curve.levels[4], &curve.levels[1]);
    assert_eq!((met.arms, met.each.len(), not_run.arms, not_run.each.len()), (17, 4, 0, 0));
    assert!(met.each.iter().all(|tenant| tenant.objectives[0].0 == SloState::Met));
    let share = |level: &LevelVerdict| level.together[0].unwrap();
    assert!(share(met).high.unwrap() < 0.01 && share(missed).low.unwrap() > 0.01, "{curve:?}");
    assert_eq!((not_run.served, not_run.good, not_run.fairness, not_run.memory), (None, None, None, None));
    // The same run says the same.
    assert_eq!(super::judge(&run), super::judge(&run));
}

#[test]
fn all_met_and_none_met() {
    let all = curve(&searched(&Crowd::default(), crossing_at(8)));
    assert_eq!((all.met, all.missed, all.complete), (Some(8), None, true));
    let none = curve(&searched(&Crowd::default(), crossing_at(0)));
    assert_eq!((none.met, none.missed, none.complete), (None, Some(1), true));
    assert_eq!(none.levels.iter().filter(|level| level.arms > 0).count(), 1, "the lone one says it");
}

#[test]
fn every_listed_density_is_measured_where_all_are_asked_for() {
    let mut run = Crowd { every: true, ..Crowd::default() }.run();
    assert_eq!(search(&mut run, &crossing_at(6)).0, [1, 2, 3, 4, 6, 8, 7]);
    let curve = curve(&run);
    assert_eq!((curve.met, curve.missed, curve.complete), (Some(6), Some(7), true));
}

/// The middle lies at its bound: it is left out, and the search goes on beside it.
#[test]
fn an_undecided_density_is_left_out_and_never_met() {
    let truth = times(|at: At| match at.tenants {
        0..=3 => 1.25,
        4 => 2.5,
        _ => 7.5,
    });
    let curve = curve(&searched(&Crowd::default(), truth));
    assert_eq!((curve.met, curve.missed, word(&curve.levels[3].state)), (Some(3), Some(5), "undecided"), "{curve:?}");
    let LevelState::Undecided { reason } = &curve.levels[3].state else { panic!("decided") };
    assert!(reason.starts_with("p99 ≤ 500 µs of ") && reason.contains(" of 4 tenants: the share"), "{reason}");
}

#[test]
fn a_density_that_cannot_be_is_skipped_and_its_neighbours_are_searched() {
    let mut run = Crowd::default().run();
    run.manifest.plan.arrangements[4].skipped = Some("no layout of five equal instances".to_owned());
    run.skipped.insert(5, "no room".to_owned());
    let (order, _) = search(&mut run, &crossing_at(4));
    assert_eq!(order, [1, 4, 8, 7]);
    let curve = curve(&run);
    assert_eq!((curve.met, curve.missed, curve.complete), (Some(4), Some(7), true));
    let reason = "no layout of five equal instances".to_owned();
    assert_eq!(curve.levels[4].state, LevelState::Skipped { reason });
    assert_eq!(curve.levels[5].state, LevelState::Skipped { reason: "no room".to_owned() });
}

/// What was begun is measured to its end, wherever the search would go otherwise; and what is said meanwhile is nothing.
#[test]
fn a_run_goes_on_from_what_is_committed() {
    let mut run = Crowd::default().run();
    assert_eq!(next_density(&run, 0), Some(0), "the lone one first");
    measure(&mut run, 0, &crossing_at(4));
    assert_eq!(next_density(&run, 0), Some(4));
    let requests = crossing_at(4);
    (0..16).for_each(|block| measure_arm(&mut run, 4, block, &requests));
    assert_eq!(next_density(&run, 0), Some(4), "an arm is missing");
    let begun = curve(&run);
    assert_eq!((word(&begun.levels[4].state), begun.missed, begun.complete), ("undecided", None, false));
    measure_arm(&mut run, 4, 16, &requests);
    assert_eq!(next_density(&run, 0), Some(2));
    // Two arms of another, from before an interruption.
    (0..2).for_each(|block| measure_arm(&mut run, 7, block, &requests));
    assert_eq!(next_density(&run, 0), Some(7));
    // One that was lost, and one that was given up, are not measured again.
    run.lost = (2..17).map(|block| (key(7, block), "a tenant hung".to_owned())).collect();
    assert_eq!(next_density(&run, 0), Some(2));
    run.given_up.insert(2, "it hung twice".to_owned());
    for next in [1, 3] {
        assert_eq!(next_density(&run, 0), Some(next));
        measure(&mut run, next, &requests);
    }
    assert_eq!((next_density(&run, 0), next_density(&run, 7)), (None, None));
    let end = curve(&run);
    let words = [0, 4, 2, 7].map(|index| word(&end.levels[index].state));
    assert_eq!((words, end.met, end.missed), (["met", "missed", "undecided", "undecided"], Some(4), Some(5)));
    assert_eq!(end.levels[2].notes, ["arms were lost: it hung twice"]);
    assert!(end.complete);
}

#[test]
fn a_density_that_lost_an_arm_is_not_met_and_may_be_missed() {
    let lost = |factor: fn(At) -> f64, before: bool| {
        let mut run = one(2, times(factor));
        if before {
            run.lost_before.insert(key(0, 5), "a tenant hung".to_owned());
        } else {
            run.arms.remove(&key(0, 5));
            run.lost.insert(key(0, 5), "a tenant hung".to_owned());
        }
        let level = level_of(&run);
        assert_eq!(level.notes, ["arms were lost: a tenant hung"]);
        (word(&level.state), next_density(&run, 0))
    };
    for before in [false, true] {
        assert_eq!(lost(MET, before), ("undecided", None), "{before}");
        assert_eq!(lost(MISSED, before), ("missed", None), "{before}");
    }
}

#[test]
fn too_few_arms_or_requests_or_no_restart_decide_nothing() {
    let mut run = Crowd { blocks: 11, curves: vec![("mps", SharingMode::Mps, vec![2])], ..Crowd::default() }.run();
    measure(&mut run, 0, &times(MISSED));
    assert_eq!(why(&run), "p99 ≤ 500 µs of 2 of 2 tenants: it has 11 arms with requests, and takes 12");
    let warnings = judge_run(&run).warnings;
    assert!(warnings.iter().any(|w| w.what == "the objective of inference (p99 ≤ 500us) will not be decided"));
    let mut run = one(2, times(MISSED));
    run.manifest.plan.design.blocks_per_generation = 17;
    assert!(why(&run).ends_with("its tenants were not restarted between any of its arms"));
    let run = one(1, |_: &mut Stream, _: At| {
        let mut data = SeriesData::default();
        (0..10).for_each(|_| record(&mut data, 1e5));
        data
    });
    assert!(why(&run).starts_with("p99 ≤ 500 µs: it has 170 requests, and takes "), "{}", why(&run));
    assert!(level_of(&run).each[0].latencies.iter().all(|(q, _)| *q == Quantile::P50));
    // No request at all.
    let run = one(1, |_: &mut Stream, _: At| SeriesData::default());
    assert_eq!(word(&level_of(&run).state), "undecided");
    assert_eq!(level_of(&run).each[0].latencies, []);
}

/// Half of the load piles up.
fn overload(_: u32, summary: &mut ArmSummary) {
    for window in &mut summary.windows {
        (window.open_at_half, window.open_at_end) = (70, 150);
    }
}

/// Overloaded: its latencies measure the length of its arms, and are told nowhere, whatever they are.
#[test]
fn an_overloaded_density_has_no_latency_figure() {
    for factor in [MET, MISSED] {
        let mut run = one(3, times(factor));
        change(&mut run, overload);
        let curve = curve(&run);
        let level = &curve.levels[0];
        assert_eq!((word(&level.state), level.saturated), ("missed", true));
        assert_eq!((&level.together, level.ratio), (&vec![None], None));
        assert_eq!((&curve.reference, &curve.factors), (&None, &Vec::new()));
        for tenant in &level.each {
            assert!(tenant.latencies.is_empty() && tenant.objectives.iter().all(|(_, over)| over.is_none()));
            let saturated = tenant.saturated.unwrap();
            assert_eq!((saturated.growth, saturated.planned), (160.0, 300.0));
            // Not what the drain after the windows has served as well.
            assert_eq!((tenant.planned, tenant.served), (300.0, 150.0));
        }
        assert_eq!(level.served, Some(450.0));
        let run = judge_run(&run);
        assert_eq!((run.slos.len(), run.cells.len()), (0, 0));
        let text = serde_json::to_string(&run.curves).unwrap();
        assert!(!text.contains("latencies\":[["), "{text}");
    }
}

/// One tenant of three alone piles up: none of them has a latency. And as reference it gives no ratio to others.
#[test]
fn one_saturated_tenant_takes_the_latencies_of_all() {
    let mut run = searched(&Crowd { every: true, ..Crowd::default() }, crossing_at(8));
    let pile = |_: u32, summary: &mut ArmSummary| {
        (summary.windows[0].open_at_half, summary.windows[0].open_at_end) = (20, 60);
    };
    let of = |run: &mut RecordedRun, tenants: usize| {
        let arms = run.arms.iter_mut().filter(|(key, _)| key.arrangement == tenants - 1);
        arms.for_each(|(key, arm)| pile(key.block, &mut arm.summary));
    };
    of(&mut run, 3);
    let verdict = curve(&run);
    let level = &verdict.levels[2];
    assert!(level.saturated && level.each.iter().all(|tenant| tenant.latencies.is_empty()));
    let saturated: Vec<bool> = level.each.iter().map(|tenant| tenant.saturated.is_some()).collect();
    assert_eq!((saturated, level.ratio), (vec![true, false, false], None));
    assert!(verdict.levels[3].ratio.is_some());
    of(&mut run, 1);
    let verdict = curve(&run);
    assert_eq!((&verdict.reference, verdict.factors.len()), (&None, 0));
    assert!(verdict.levels.iter().all(|level| level.ratio.is_none()));
}

/// Three or so more open at the end than in the middle, and not in every window: nobody is sure, and nothing is told or met.
#[test]
fn a_backlog_that_seems_to_grow_tells_no_latency_and_misses_nothing() {
    let mut run = one(1, times(MET));
    change(&mut run, |block, summary| {
        (summary.windows[0].open_at_half, summary.windows[0].open_at_end) = (6, [4, 12, 9, 11, 6][block as usize % 5]);
    });
    let level = level_of(&run);
    assert!(level.saturated && level.each[0].latencies.is_empty() && level.each[0].objectives[0].1.is_none());
    assert_eq!(why(&run), "p99 ≤ 500 µs: the backlog grew");
    // As long a queue that does not grow.
    change(&mut run, |_, summary| (summary.windows[0].open_at_half, summary.windows[0].open_at_end) = (12, 12));
    assert_eq!((word(&level_of(&run).state), level_of(&run).saturated), ("met", false));
}

/// Tenants that sleep between looks, or were sent late, may meet their objective and miss none.
#[test]
fn too_few_cores_and_late_requests_miss_nothing() {
    let sleepy = |factor: fn(At) -> f64| {
        let mut run = one(2, times(factor));
        change(&mut run, |_, summary| summary.too_few_cores = true);
        let level = level_of(&run);
        assert_eq!(level.notes, ["too few cores"]);
        word(&level.state)
    };
    assert_eq!((sleepy(MET), sleepy(MISSED)), ("met", "undecided"));
    let late = |factor: fn(At) -> f64| {
        let mut run = one(2, times(factor));
        change(&mut run, |_, summary| summary.windows[1].late = 30);
        let level = level_of(&run);
        assert_eq!(level.notes, ["late requests (10 %)"]);
        word(&level.state)
    };
    assert_eq!((late(MET), late(MISSED)), ("met", "undecided"));
    let mut overloaded = one(2, times(MISSED));
    change(&mut overloaded, |block, summary| {
        overload(block, summary);
        summary.too_few_cores = true;
    });
    assert_eq!((word(&level_of(&overloaded).state), level_of(&overloaded).saturated), ("undecided", true));
}

/// Somebody else on the GPU, or a GPU that breaks: neither is of these tenants.
#[test]
fn foreign_work_and_trouble_decide_nothing() {
    for factor in [MET, MISSED] {
        let mut run = one(2, times(factor));
        run.manifest.device = crate::nvml::assuming(&format!("GPU 0 {} somebody", crate::nvml::IN_USE));
        assert_eq!(word(&level_of(&run).state), "undecided", "{:?}", level_of(&run));
        assert!(level_of(&run).notes[0].starts_with("foreign work on the GPU: "));
    }
}

/// Two in a hundred are never served, or fail: as far over the bound as can be.
#[test]
fn what_was_not_served_or_failed_is_over_the_bound() {
    for failed in [false, true] {
        let run = one(2, move |stream: &mut Stream, at: At| {
            let mut data = times(MET)(stream, at);
            *(if failed { &mut data.failed } else { &mut data.censored }) = 10;
            data
        });
        let level = level_of(&run);
        assert_eq!(word(&level.state), "missed");
        let expected = if failed { "failed" } else { "were not served in time" };
        assert_eq!(level.notes, [format!("up to 3.2 % of a tenant's requests {expected}")]);
        // Its p99 lies beyond everything that was served.
        let told: Vec<Quantile> = level.each[0].latencies.iter().map(|(q, _)| *q).collect();
        assert_eq!(told, [Quantile::P50]);
        assert_eq!((level.each[0].planned, level.each[0].served), (310.0, 300.0));
    }
}

/// One tenant of four is over by itself; of the mean of all nothing is seen.
#[test]
fn one_bad_tenant_misses_for_all() {
    let run = one(4, times(|at: At| if at.seat == 2 { 2.9 } else { 0.5 }));
    let level = level_of(&run);
    assert_eq!(word(&level.state), "missed");
    assert!(level.together[0].unwrap().estimate < 0.01, "{:?}", level.together);
    let words: Vec<&str> = level.each.iter().map(|tenant| tenant.objectives[0].0.word()).collect();
    assert_eq!(words, ["met", "met", "missed", "met"]);
    // 2 % over in each: no tenant is shown to, and all together are.
    let run = one(8, times(|_| 2.7));
    let level = level_of(&run);
    assert_eq!(word(&level.state), "missed", "{:?}", level.together);
    assert!(level.each.iter().any(|tenant| tenant.objectives[0].0 != SloState::Missed));
}

/// Each density's part of the rate, and the three ways to miss, add up to the whole; another tenant does not add to it.
#[test]
fn the_error_rate_is_divided_and_not_multiplied() {
    let crowd = Crowd { curves: vec![("mps", SharingMode::Mps, vec![1, 2, 4, 8, 16])], ..Crowd::default() };
    let mut plan = crowd.plan();
    let curve = plan.curves[0].clone();
    let each = share_of_rate(&plan, &curve);
    assert!(curve.most == 7 && (each - FALSE_PASS / 7.0).abs() < 1e-15);
    assert!((parts::TOGETHER + parts::ALONE + parts::BACKLOG - 1.0).abs() < 1e-12);
    // One of two runs spends half.
    plan.design.share_errors(2);
    assert!((share_of_rate(&plan, &curve) - FALSE_PASS / 14.0).abs() < 1e-12);
    assert_eq!(judge_one_of(crowd.run(), 2).1.curves[0].alpha, FALSE_PASS / 2.0);
    // A level of which twelve arms say enough at 1 % and not at its fifth of a tenth.
    let mut run = Crowd { blocks: 12, ..crowd }.run();
    run.manifest.plan.design.looks = vec![crate::scenario::Look { blocks: 12, spends: Share::percent(10) }];
    measure(&mut run, 7, &times(MET));
    let LevelState::Undecided { reason } = &self::curve(&run).levels[7].state else { panic!("decided") };
    assert_eq!(reason, "p99 ≤ 500 µs of 8 of 8 tenants: it has 12 arms with requests, and takes 16");
}

/// Served, good and planned by hand: ten requests a second of which one is over the bound and one never served.
#[test]
fn rates_by_hand() {
    let run = one(2, |_: &mut Stream, at: At| {
        let mut data = SeriesData { censored: 1, ..SeriesData::default() };
        (0..8 - at.seat).for_each(|_| record(&mut data, 1e5));
        record(&mut data, 1e6);
        data
    });
    let level = level_of(&run);
    let rates: Vec<(f64, f64, f64)> = level.each.iter().map(|t| (t.planned, t.served, t.good)).collect();
    assert_eq!(rates, [(10.0, 9.0, 8.0), (9.0, 8.0, 7.0)]);
    assert_eq!((level.served, level.good), (Some(17.0), Some(15.0)));
    // (0.8 + 7/9)² ÷ (2 · (0.64 + 49/81)), alike in all arms.
    let (a, b) = (0.8, 7.0 / 9.0);
    let jain: f64 = (a + b) * (a + b) / (2.0 * (a * a + b * b));
    let fairness = level.fairness.unwrap().index;
    assert!((fairness.estimate - jain).abs() < 1e-12 && (fairness.low.unwrap() - jain).abs() < 1e-9, "{fairness:?}");
}

/// Arms in which one of two has everything, and arms in which both have the same: 0.5 and 1.
#[test]
fn jain_s_index_is_the_mean_of_the_arms() {
    let run = one(2, |_: &mut Stream, at: At| {
        let mut data = SeriesData::default();
        let starved = at.seat == 1 && at.block.is_multiple_of(2);
        (0..10).for_each(|_| record(&mut data, if starved { 1e7 } else { 1e5 }));
        data
    });
    let index = level_of(&run).fairness.unwrap().index;
    assert!((index.estimate - (9.0 * 0.5 + 8.0) / 17.0).abs() < 1e-12);
    let (low, high) = (index.low.unwrap(), index.high.unwrap());
    assert!((0.5..0.65).contains(&low) && (0.8..=1.0).contains(&high), "{index:?}");
    // Of one there is none, nor of tenants of whom nobody has anything.
    assert_eq!(level_of(&one(1, times(MET))).fairness, None);
    let nobody = one(2, |_: &mut Stream, _: At| SeriesData { censored: 10, ..SeriesData::default() });
    assert_eq!(level_of(&nobody).fairness, None);
    // Few arms give no bounds.
    let mut few = Crowd { blocks: 3, curves: vec![("mps", SharingMode::Mps, vec![2])], ..Crowd::default() }.run();
    measure(&mut few, 0, &times(MET));
    let index = level_of(&few).fairness.unwrap().index;
    assert_eq!((index.estimate, index.low, index.high), (1.0, None, None));
}

/// Medians of 100 µs × 0.5, 0.6, 1.2 and 3 for 1, 2, 3 and 4 tenants under MPS, and 40 µs for the exclusive one.
#[test]
fn ratios_are_taken_against_the_exclusive_tenant() {
    let factor = |at: At| [0.5, 0.6, 1.2, 3.0][at.tenants as usize - 1];
    let curves = vec![("exclusive", SharingMode::Exclusive, vec![1]), ("mps", SharingMode::Mps, vec![1, 2, 3, 4])];
    let mut run = Crowd { curves, every: true, ..Crowd::default() }.run();
    measure(&mut run, 0, &times(|_| 0.4));
    (1..5).for_each(|arrangement| measure(&mut run, arrangement, &times(factor)));
    let curves = super::judge(&run);
    let mps = &curves[1];
    assert_eq!(mps.reference, Some(("exclusive×1".to_owned(), 1)));
    let ratios: Vec<Interval> = mps.levels.iter().map(|level| level.ratio.unwrap()).collect();
    for (ratio, truth) in ratios.iter().zip([1.25, 1.5, 3.0, 7.5]) {
        // The worst of several is a little worse.
        let (low, high) = (ratio.low.unwrap(), ratio.high.unwrap());
        assert!(low < truth && truth < high * 1.05 && (ratio.estimate / truth - 1.0).abs() < 0.15, "{ratio:?} {truth}");
    }
    let factors: Vec<(f64, Option<u32>, Option<u32>)> =
        mps.factors.iter().map(|factor| (factor.times, factor.within, factor.beyond)).collect();
    assert_eq!(factors, [(1.5, Some(1), Some(3)), (2.0, Some(2), Some(3)), (5.0, Some(3), Some(4))]);
    let lone = mps.lone.as_ref().unwrap();
    assert_eq!((lone.against.as_str(), lone.ratios.len()), ("exclusive", TOLD.len() - 1));
    assert!(lone.ratios.iter().all(|(_, ratio)| (ratio.estimate / 1.25 - 1.0).abs() < 0.1), "{lone:?}");
    let median = lone.ratios[0].1;
    assert!(median.low.unwrap() > 1.2 && median.high.unwrap() < 1.3, "{median:?}");
    assert_eq!((&curves[0].lone, curves[0].levels[0].ratio.unwrap().estimate), (&None, 1.0));
    // Without it, against the smallest density of its own.
    run.arms.retain(|key, _| key.arrangement > 1);
    let own = super::judge(&run).swap_remove(1);
    assert_eq!((own.reference, own.lone), (Some(("mps×2".to_owned(), 2)), None));
    assert!((own.levels[2].ratio.unwrap().estimate - 2.0).abs() < 0.2);
    assert_eq!(own.levels[1].ratio, Some(Interval { estimate: 1.0, low: Some(1.0), high: Some(1.0) }));
}

/// A saturated density lies beyond every multiple.
#[test]
fn a_saturated_density_leaves_every_multiple() {
    let mut run = searched(&Crowd { every: true, ..Crowd::default() }, crossing_at(8));
    let arms = run.arms.iter_mut().filter(|(key, _)| key.arrangement == 5);
    arms.for_each(|(key, arm)| overload(key.block, &mut arm.summary));
    let curve = curve(&run);
    assert!(
        curve.factors.iter().all(|factor| (factor.within, factor.beyond) == (Some(4), Some(6))),
        "{:?}",
        curve.factors
    );
    assert_eq!((curve.met, curve.missed), (Some(4), Some(6)));
    // And what is met above it counts for nothing, and says why.
    assert_eq!(word(&curve.levels[7].state), "met");
    assert!(curve.levels[7].notes[0].starts_with("6 tenants miss what these meet: "), "{:?}", curve.levels[7].notes);
}

fn requiring(at_least: u32, c: u32) -> RunVerdict {
    judge_run(&searched(&Crowd { at_least: Some(at_least), ..Crowd::default() }, crossing_at(c)))
}

#[test]
fn a_required_density_decides_the_exit_code() {
    let state = |at_least, c| {
        let verdict = requiring(at_least, c);
        assert!(verdict.requires);
        (verdict.curves[0].requirement, verdict.requirement, exit_code(&verdict))
    };
    assert_eq!(state(3, 4), (RequirementState::Met, RequirementState::Met, 0));
    assert_eq!(state(4, 4), (RequirementState::Met, RequirementState::Met, 0));
    assert_eq!(state(5, 4), (RequirementState::NotMet, RequirementState::NotMet, 1));
    assert_eq!(state(1, 0), (RequirementState::NotMet, RequirementState::NotMet, 1));
    assert_eq!(state(9, 8), (RequirementState::Undecided, RequirementState::Undecided, 4));
    let open = judge_run(&Crowd { at_least: Some(1), ..Crowd::default() }.run());
    assert_eq!((open.curves[0].requirement, exit_code(&open)), (RequirementState::Undecided, 4));
    let nothing = judge_run(&searched(&Crowd::default(), crossing_at(0)));
    assert_eq!((nothing.requires, exit_code(&nothing)), (false, 0));
    let advice: Vec<&str> = nothing.warnings.iter().map(|warning| warning.advice.as_str()).collect();
    assert!(advice[0].starts_with("add `at_least`"), "{advice:?}");
}

/// A run of densities alone: no cell, no control, nothing said of neighbours or placebos, and a scope of its own.
#[test]
fn densities_leave_everything_else_alone() {
    let curves = vec![("exclusive", SharingMode::Exclusive, vec![1]), ("mps", SharingMode::Mps, vec![1, 2, 4])];
    let mut run = Crowd { curves, at_least: Some(1), ..Crowd::default() }.run();
    measure(&mut run, 0, &times(MET));
    for arrangement in [2, 4] {
        measure(&mut run, arrangement, &times(MET));
    }
    run.skipped.insert(1, "no room".to_owned());
    let verdict = judge_run(&run);
    assert_eq!((verdict.cells.len(), verdict.controls.len(), verdict.slos.len()), (0, 0, 0));
    assert!(verdict.warnings.is_empty(), "{:?}", verdict.warnings);
    assert_eq!(verdict.assumed, ["more tenants never fare better: densities were left out that it decides"]);
    assert_eq!((verdict.requirement, exit_code(&verdict)), (RequirementState::Met, 0));
    // 1 − (0.01 ÷ 4)^(1/17): four densities, of which all may be measured.
    assert!((verdict.scope_share.unwrap() - 0.2970).abs() < 1e-3, "{:?}", verdict.scope_share);
}

#[test]
fn memory_is_what_tenants_and_driver_say() {
    let mut run = one(2, times(MET));
    assert_eq!((level_of(&run).memory, level_of(&run).each[0].memory), (None, None));
    change(&mut run, |block, summary| summary.memory_used = (block > 3).then_some(1_000 + u64::from(block)));
    let program = |footprint| ProgramInfo {
        name: "inference".to_owned(),
        footprint,
        resolved: String::new(),
        once: Nanos(1),
        rows: 1,
    };
    let seat = |seat, programs| SeatEvidence { seat, pid: 1, device: None, cores: Vec::new(), programs };
    let seats = vec![seat(0, vec![program(600), program(30)]), seat(1, Vec::new())];
    let placed = Placed { times: 1, first: Evidence { seats, proofs: Vec::new() } };
    run.proof.placed.insert((0, 0, Company::Beside.words()), placed);
    let level = level_of(&run);
    assert_eq!((level.memory, level.each[0].memory, level.each[1].memory), (Some(1_016), Some(630), None));
}

/// Two objectives: the looser one is met, the stricter one is missed, and with it the density.
#[test]
fn every_objective_counts() {
    let mut run = one(2, times(|_| 1.8));
    let slo = |quantile, ns| Slo { quantile, bound: Nanos(ns) };
    run.manifest.plan.panel[0].slos = vec![slo(Quantile::P50, 150_000), slo(Quantile::P99, BOUND)];
    let level = level_of(&run);
    let words: Vec<&str> = level.each[0].objectives.iter().map(|(state, _)| state.word()).collect();
    assert_eq!((word(&level.state), words), ("missed", vec!["missed", "met"]));
    assert_eq!(level.together.len(), 2);
    // Good is within both: half of them are slower than 150 µs, and then some.
    assert!(level.good.unwrap() < 0.5 * level.served.unwrap());
    let near = one(2, times(NEAR));
    assert_eq!(word(&level_of(&near).state), "undecided");
}
