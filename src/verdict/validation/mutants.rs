//! The procedure, broken on purpose: each of these shortcuts is wrong where the real one is right, and a test says so.

use super::noise::{Bank, Effect, Kind};
use super::slo;
use super::trial::{Case, count, each};
use crate::random::Stream;
use crate::run_dir::{RecordedRun, SeriesData};
use crate::scenario::Quantile;
use crate::stats::{Counts, Durations, proportion_upper, rank_bounds};
use crate::verdict::synthetic::{Lab, lognormal, record};
use crate::verdict::{SeriesVerdict, Verdict, judge};

const TRIALS: u64 = 60;

fn word(run: &RecordedRun) -> &'static str {
    judge(run).cells[0].verdict.word()
}

/// Requests of 1 ms on a server that, beside its neighbour, stands still for 100 ms at the beginning of every second:
/// latencies of ten seconds in nanoseconds. Open loop: a hundred requests a second on average, whatever has become of
/// those before. Closed loop: the next when the last is done.
fn served(stream: &mut Stream, stalls: bool, open: bool) -> Vec<f64> {
    let (mut latencies, mut planned, mut free) = (Vec::new(), 0.0, 0.0);
    loop {
        planned = if open { planned + 0.01 * stream.exponential() } else { free };
        if planned >= 10.0 {
            return latencies;
        }
        let mut start = f64::max(planned, free);
        if stalls && start - start.floor() < 0.1 {
            start = start.floor() + 0.1;
        }
        free = start + 0.001 * libm::exp(0.02 * stream.normal());
        latencies.push(1e9 * (free - planned));
    }
}

/// The stall meets one closed-loop request in 900, and p99 never sees it; it meets a tenth of what arrives by itself.
#[test]
fn closed_loop_passes_a_server_that_stalls() {
    let run = |open| {
        Lab { blocks: 17, ..Lab::default() }.run_of(move |stream, draw| {
            let mut data = SeriesData::default();
            served(stream, draw.neighbour.is_some(), open).into_iter().for_each(|ns| record(&mut data, ns));
            data
        })
    };
    let closed = &judge(&run(false)).cells[0];
    assert_eq!(closed.verdict, Verdict::Isolated);
    let open = &judge(&run(true)).cells[0];
    assert_eq!(open.verdict, Verdict::Violated);
    let noisy = open.series[0].noisy_ns.unwrap();
    assert!((80e6..101e6).contains(&noisy), "p99 of {noisy} ns");
}

/// All quiet arms first, then all noisy ones, while everything drifts by 30 %: the drift is taken for the neighbour.
#[test]
fn sequential_arms_take_a_drift_for_the_neighbour() {
    let bank = Bank::new(Kind::Drift, 100);
    let blocks = Case::pair(&bank, 17, Quantile::P50, Effect::of(1.0));
    let alarms = |case: &Case<'_>| count(&case.verdicts(TRIALS), &["degraded", "violated"]);
    assert_eq!(alarms(&Case { sequential: true, ..blocks.clone() }), TRIALS);
    assert_eq!(alarms(&blocks), 0);
}

/// Rank intervals of the pooled samples, as if each request were independent of the one before it.
#[test]
fn intervals_of_pooled_samples_pass_what_hangs_together() {
    let bank = Bank::new(Kind::Autoregression, 1_000);
    let case = Case::pair(&bank, 17, Quantile::P99, Effect::of(1.10));
    let pooled = |run: &RecordedRun, noisy: bool| {
        let mut all = Durations::default();
        for (_, arm) in run.arms.iter().filter(|(key, _)| key.neighbour.is_some() == noisy) {
            arm.series.values().flat_map(|s| s.latency.iter()).for_each(|(b, n)| all.add(b, n as u32));
        }
        rank_bounds(Counts::new(&all, 0), Quantile::P99, 0.01)
    };
    let passed = each(TRIALS, |seed| {
        let run = case.run(seed);
        let (quiet, noisy) = (pooled(&run, false), pooled(&run, true));
        (noisy.1.unwrap() / quiet.0.unwrap() < 1.10, word(&run) == "isolated")
    });
    let mutant = passed.iter().filter(|(mutant, _)| *mutant).count();
    assert!(mutant >= 15, "the mutant passed {mutant} of {TRIALS}");
    assert!(passed.iter().filter(|(_, real)| *real).count() <= 2);
}

/// A neighbour that hurts in a tenth of its arms, three times over: most blocks do not see it.
#[test]
fn signed_rank_alone_passes_rare_episodes() {
    let bank = Bank::new(Kind::Lognormal, 1_000);
    let case = Case::pair(&bank, 55, Quantile::P99, Effect { ratio: 3.0, from: 0.0, share: 0.1 });
    let alone = |s: &SeriesVerdict| s.paired.is_some_and(|p| p.high.is_some_and(|high| high < 1.10));
    let passed = each(TRIALS, |seed| {
        let cell = judge(&case.run(seed)).cells.swap_remove(0);
        (alone(&cell.series[0]), cell.verdict == Verdict::Isolated)
    });
    let mutant = passed.iter().filter(|(mutant, _)| *mutant).count();
    assert!(mutant >= 40, "the signed rank alone passed {mutant} of {TRIALS}");
    assert!(passed.iter().filter(|(_, real)| *real).count() <= 2);
}

/// 3 % of the noisy requests are never served, and the others are as fast as ever.
#[test]
fn dropped_timeouts_pass_what_is_never_served() {
    let run = |kept: bool| {
        Lab::default().run_of(move |stream, draw| {
            let mut data = SeriesData::default();
            (0..1_000).for_each(|_| record(&mut data, lognormal(stream)));
            data.censored = if kept && draw.neighbour.is_some() { 30 } else { 0 };
            data
        })
    };
    assert_eq!(word(&run(false)), "isolated");
    assert_eq!(word(&run(true)), "violated");
}

/// The neighbour's power holds the clock down for 5 % of the time, and what is then served takes twice as long. Without
/// these samples nothing has happened.
#[test]
fn discarded_throttled_samples_pass_what_the_neighbour_throttles() {
    let run = |kept: bool| {
        let mut run = Lab::default().run_of(move |stream, draw| {
            let mut data = SeriesData::default();
            for _ in 0..1_000 {
                let throttled = draw.neighbour.is_some() && stream.uniform() < 0.05;
                let ns = lognormal(stream);
                if kept || !throttled {
                    record(&mut data, if throttled { 2.0 * ns } else { ns });
                }
            }
            data
        });
        let noisy = run.arms.iter_mut().filter(|(key, _)| key.neighbour.is_some());
        noisy.for_each(|(_, arm)| arm.summary.throttled = Some(if kept { 0.05 } else { 0.0 }));
        run
    };
    assert_eq!(word(&run(false)), "isolated");
    assert_eq!(word(&run(true)), "degraded");
}

/// A tenant with 1.5 % of its requests over its p99 objective, autocorrelated: the binomial bound counts every request.
#[test]
fn the_binomial_bound_meets_objectives_that_are_missed() {
    let bank = Bank::new(Kind::Autoregression, 1_000);
    let bound = slo::bound(&bank, 0.015);
    let met = each(200, |seed| {
        let arms = slo::drawn(&bank, 24, seed);
        let over = arms.iter().map(|arm| arm.counts().over(bound).1);
        let (all, total) = over.fold((0, 0), |(o, t), arm| (o + arm.over, t + arm.total));
        (proportion_upper(all, total, 0.01) <= 0.01, slo::met(&arms, bound, seed) == Some(true))
    });
    let mutant = met.iter().filter(|(mutant, _)| *mutant).count();
    assert!(mutant >= 30, "the binomial bound met {mutant} of 200");
    assert!(met.iter().filter(|(_, real)| *real).count() <= 3);
}
