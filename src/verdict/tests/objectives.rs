//! Objectives: decided over arms, quiet and beside each neighbour.

use super::super::synthetic::{Draw, Lab, exit_code, lognormal, record, rules};
use super::super::*;
use super::{change, untouched};
use crate::random::Stream;
use crate::run_dir::SeriesData;
use crate::scenario::{Expectation, Look, Quantile, Rule, Slo, Word};
use crate::units::{Nanos, Share};

/// Asks for a p99 within `micros`.
fn asking(mut run: RecordedRun, micros: u64) -> RecordedRun {
    run.manifest.plan.panel[0].slos = vec![Slo { quantile: Quantile::P99, bound: Nanos::micros(micros) }];
    run
}

/// Three in a hundred noisy requests take a millisecond.
fn sometimes_slow(stream: &mut Stream, draw: Draw) -> f64 {
    if draw.neighbour.is_some() && stream.uniform() < 0.03 { 1e6 } else { lognormal(stream) }
}

fn states(verdict: &RunVerdict) -> Vec<(Option<usize>, &'static str)> {
    verdict.slos.iter().map(|slo| (slo.neighbour, slo.state.word())).collect()
}

#[test]
fn an_objective_is_met_or_missed_quiet_and_beside_each_neighbour() {
    let verdict = judge(&asking(Lab::default().run(sometimes_slow), 500));
    assert_eq!(states(&verdict), [(None, "met"), (Some(0), "missed")]);
    let over = verdict.slos[1].over.unwrap();
    assert!(over.low.unwrap() < 0.03 && 0.03 < over.high.unwrap(), "{over:?}");
    assert_eq!((verdict.slos[0].arms, verdict.slos[1].arms), (24, 24));
    assert_eq!((verdict.requires, exit_code(&verdict)), (false, 0), "nothing is required of it");
    // A p99 of 200 µs against a bound at 200 µs: too near.
    let near = judge(&asking(untouched(), 201));
    assert!(states(&near).iter().all(|(_, state)| *state == "undecided"), "{:?}", near.slos);
}

/// Whole arms are slow now and then: 1.5 % of the requests, all in a few arms. As independent requests they would be
/// certain; as arms they are not.
#[test]
fn requests_that_hang_together_are_no_independent_ones() {
    let run = Lab { blocks: 40, ..Lab::default() }.run_of(|stream, draw| {
        let mut data = SeriesData::default();
        let slow = draw.neighbour.is_some() && [3, 17, 31].contains(&draw.block);
        for request in 0..1_000 {
            record(&mut data, if slow && request < 200 { 1e6 } else { lognormal(stream) });
        }
        data
    });
    let verdict = judge(&asking(run, 500));
    assert_eq!(states(&verdict)[1], (Some(0), "undecided"), "{:?}", verdict.slos[1]);
    assert!(verdict.slos[1].over.unwrap().estimate > 0.014);
}

#[test]
fn too_few_arms_or_tenants_that_were_never_restarted_decide_nothing() {
    let few = judge(&asking(Lab { blocks: 11, ..Lab::default() }.run(sometimes_slow), 500));
    let SloState::Undecided { reason } = &few.slos[1].state else { panic!("{:?}", few.slos) };
    assert_eq!(reason, "it has 11 arms with requests, and takes 12");
    assert!(few.warnings.iter().any(|w| w.what == "the objective of hbm-chase (p99 ≤ 500us) will not be decided"));
    let mut run = asking(Lab::default().run(sometimes_slow), 500);
    run.manifest.plan.design.blocks_per_generation = 24;
    let SloState::Undecided { reason } = &judge(&run).slos[1].state else { panic!("decided") };
    assert_eq!(reason, "its tenants were not restarted between any of its arms");
}

/// One request each in three noisy arms of 24 takes a millisecond, and nobody knows how many
/// arms hold such. Where the others differ, a stricter bound tells; where all others are equal, nothing does.
#[test]
fn what_few_arms_hold_is_met_where_a_stricter_bound_is_and_else_said_to_be_rare() {
    let of = |spread: f64| {
        let run = Lab::default().run_of(|stream, draw| {
            let mut data = SeriesData::default();
            let slow = draw.neighbour.is_some() && [3, 9, 17].contains(&draw.block);
            for request in 0..1_000 {
                let usual = 1e5 * libm::exp(spread * stream.normal());
                record(&mut data, if slow && request == 0 { 1e6 } else { usual });
            }
            data
        });
        judge(&asking(run, 500)).slos.remove(1).state
    };
    assert_eq!(of(0.3), SloState::Met);
    let SloState::Undecided { reason } = of(0.0) else { panic!("decided by three arms") };
    let expected = "all requests over it lie in 3 of 24 arms, too few to tell how many others hold (up to 36 % of the arms \
                    hold some); take more blocks";
    assert_eq!(reason, expected);
}

/// Violated after ten blocks, and an objective takes twelve arms.
#[test]
fn a_stop_waits_for_a_required_objective_that_can_still_be_decided() {
    let run = |blocks: u32, required: bool, bound: u64| {
        let mut run = asking(Lab { blocks, ..Lab::default() }.run(super::slowed(2.5)), bound);
        let look = |blocks, percent| Look { blocks, spends: Share::percent(percent) };
        run.manifest.plan.design.looks = vec![look(10, 10), look(24, 20), look(48, 70)];
        run.manifest.plan.design.looks.retain(|look| look.blocks < blocks);
        run.manifest.plan.design.looks.push(look(blocks, 70));
        let rule = Rule { key: Expectation::SLO.to_owned(), word: Word::Met };
        run.manifest.plan.arrangements[0].require = Expectation(if required { vec![rule] } else { Vec::new() });
        run
    };
    let at = |run: &RecordedRun| [0, 1].map(|look| decided(run, 0, 0, 0, look));
    assert_eq!(at(&run(48, false, 5_000)), [true, true]);
    assert_eq!(at(&run(48, true, 5_000)), [false, true]);
    // Missed beside the neighbour and met in the quiet arms; and open in the quiet arms alone, at their own p99.
    assert_eq!(at(&run(48, true, 300)), [false, true]);
    assert_eq!(at(&run(48, true, 201)), [false, false]);
    // With eleven blocks in all it never will be.
    assert!(decided(&run(11, true, 5_000), 0, 0, 0, 0));
}

/// Two requests an arm, none of them over: every share is 0, and so are its bounds.
#[test]
fn a_handful_of_requests_meets_no_objective() {
    let of = |requests| {
        let lab = Lab { blocks: 24, requests, ..Lab::default() };
        judge(&asking(lab.run(|stream, _| lognormal(stream)), 5_000)).slos.remove(1).state
    };
    let SloState::Undecided { reason } = of(2) else { panic!("decided by 48 requests") };
    assert_eq!(reason, "it has 48 requests, and takes 459 at least");
    assert_eq!(of(40), SloState::Met);
}

/// Nothing is met beside a neighbour that did nothing, nor missed by a sender that was late.
#[test]
fn what_the_data_do_not_show_is_neither_met_nor_missed() {
    let mut run = asking(untouched(), 500);
    change(&mut run, true, |s| s.neighbours[0].rate = 50.0);
    assert_eq!(states(&judge(&run)), [(None, "met"), (Some(0), "undecided")]);
    // A quiet arm that was lost and measured anew: the others may be those that survived.
    let mut run = asking(untouched(), 500);
    let key = run.arms.keys().find(|key| key.neighbour.is_none()).unwrap().clone();
    run.lost_before.insert(key, "the tenant hung".to_owned());
    assert_eq!(states(&judge(&run))[0], (None, "undecided"));
    let mut run = asking(Lab::default().run(sometimes_slow), 500);
    change(&mut run, true, |s| s.windows[0].late = 500);
    assert_eq!(states(&judge(&run))[1], (Some(0), "undecided"));
    // A victim that sleeps between looks is slower than it would be: it may meet an objective, and misses none.
    for (latency, expected) in
        [(sometimes_slow as fn(&mut Stream, Draw) -> f64, "undecided"), (|s, _| lognormal(s), "met")]
    {
        let mut run = asking(Lab::default().run(latency), 500);
        change(&mut run, true, |s| s.too_few_cores = true);
        assert_eq!(states(&judge(&run))[1], (Some(0), expected));
    }
}

#[test]
fn a_probe_whose_backlog_grows_is_saturated_and_has_no_latency() {
    let mut run = asking(Lab::default().run(super::slowed(2.5)), 500);
    change(&mut run, true, |s| {
        (s.windows[0].open_at_half, s.windows[0].open_at_end, s.windows[0].completed) = (50, 110, 900);
    });
    let verdict = judge(&run);
    let series = &verdict.cells[0].series[0];
    assert_eq!((series.noisy_ns, series.ratio, series.paired, series.pooled), (None, None, None, None));
    assert!(series.quiet_ns.is_some());
    let expected = Saturated { growth: 120.0, served: 900.0, planned: 1_000.0, service_ns: None };
    assert_eq!(series.saturated, Some(expected));
    assert_eq!(series.cause.as_ref().unwrap().word, "saturated");
    assert_eq!(states(&verdict), [(None, "met"), (Some(0), "missed")]);
    assert_eq!((verdict.slos[1].saturated, verdict.slos[1].over), (Some(expected), None));
    // Without an objective the rate is crosstalk's own, and the latency is told.
    run.manifest.plan.panel[0].slos.clear();
    let series = judge(&run).cells.remove(0).series.remove(0);
    assert!(series.ratio.is_some() && series.saturated.is_some());
}

#[test]
fn a_required_objective_decides_the_exit_code() {
    let requiring = |run: RecordedRun, word| {
        let mut run = asking(run, 500);
        run.manifest.plan.arrangements[0].require = Expectation(vec![Rule { key: Expectation::SLO.to_owned(), word }]);
        judge(&run)
    };
    let missed = || Lab::default().run(sometimes_slow);
    let verdict = requiring(missed(), Word::Met);
    assert_eq!((verdict.requirement, exit_code(&verdict)), (RequirementState::NotMet, 1));
    let states: Vec<_> = verdict.slos.iter().map(|slo| slo.requirement).collect();
    assert_eq!(states, [RequirementState::Met, RequirementState::NotMet]);
    assert_eq!(verdict.cells[0].requirement, RequirementState::NotRequired, "of verdicts nothing is required");
    assert_eq!(exit_code(&requiring(missed(), Word::Any)), 0);
    assert_eq!(exit_code(&requiring(untouched(), Word::Met)), 0);
    let few = requiring(Lab { blocks: 11, ..Lab::default() }.run(sometimes_slow), Word::Met);
    assert_eq!((few.requirement, exit_code(&few)), (RequirementState::Undecided, 4));
    // An arrangement that did not run leaves it open.
    let mut run = missed();
    run.skipped.insert(0, "MIG mode".to_owned());
    assert_eq!(exit_code(&requiring(run, Word::Met)), 4);
    // Verdicts are required by keys of their own.
    let mut run = asking(missed(), 500);
    run.manifest.plan.arrangements[0].require = rules(&[("default", Word::Isolated)]);
    assert!(judge(&run).slos.iter().all(|slo| slo.requirement == RequirementState::NotRequired));
}
