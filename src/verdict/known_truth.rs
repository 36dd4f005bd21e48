//! The procedure against synthetic victims whose truth is known, single traits of it: error rates are in `validation`.

use std::cell::Cell;

use super::synthetic::{Draw, Lab, lognormal, record};
use super::{RunVerdict, Verdict, judge};
use crate::random::Stream;
use crate::run_dir::SeriesData;

const TRIALS: u64 = 100;

type Noise<'a> = &'a dyn Fn(&mut Stream, Draw) -> f64;

fn trial(seed: u64, lab: Lab, ratio: f64, noise: Noise<'_>) -> RunVerdict {
    let factor = |draw: Draw| if draw.neighbour.is_some() { ratio } else { 1.0 };
    judge(&Lab { seed, ..lab }.run(|stream, draw| noise(stream, draw) * factor(draw)))
}

fn verdicts(ratio: f64, blocks: u32, noise: Noise<'_>) -> Vec<Verdict> {
    let verdict = |seed| trial(seed, Lab { blocks, ..Lab::default() }, ratio, noise).cells[0].verdict.clone();
    (0..TRIALS).map(verdict).collect()
}

fn count(verdicts: &[Verdict], of: &[&str]) -> usize {
    verdicts.iter().filter(|v| of.contains(&v.word())).count()
}

/// ρ = 0.995: a thousand requests are worth about three independent ones. The interval must know; few trials decide.
#[test]
fn latencies_that_hang_together_are_rarely_enough() {
    let level = Cell::new(0.0f64);
    let noise = |stream: &mut Stream, _: Draw| {
        level.set(0.995 * level.get() + libm::sqrt(1.0 - 0.995 * 0.995) * stream.normal());
        1e5 * libm::exp(0.3 * level.get())
    };
    let without = verdicts(1.0, 17, &noise);
    assert_eq!(count(&without, &["degraded", "violated"]), 0);
    assert!(count(&without, &["isolated"]) < 50);
}

#[test]
fn what_is_far_beyond_the_margin_is_violated() {
    assert_eq!(count(&verdicts(1.8, 17, &|stream, _| lognormal(stream)), &["violated"]), TRIALS as usize);
}

/// 3 % of the noisy requests are never served. The rest are as fast as ever: dropped timeouts would be a pass.
#[test]
fn timeouts_lie_beyond_everything() {
    let run = Lab::default().run_of(|stream, draw| {
        let mut data = SeriesData::default();
        (0..1_000).for_each(|_| record(&mut data, lognormal(stream)));
        data.censored = if draw.neighbour.is_some() { 30 } else { 0 };
        data
    });
    let cell = &judge(&run).cells[0];
    let series = &cell.series[0];
    assert_eq!(cell.verdict, Verdict::Violated);
    assert_eq!((series.noisy_ns, series.requests), (None, (24_000, 24_720)));
    let ratio = series.ratio.unwrap();
    assert_eq!(ratio.high, None);
    // The deadline is a second and the quiet p99 about 200 µs: at least 5,000-fold, less what the blocks' p99s scatter.
    assert!(ratio.low.unwrap() > 4_000.0);
    assert_eq!(series.cause.as_ref().unwrap().text, "2.9 % of the requests were open at the deadline");
}

/// Every latency the same, and an effect that lies exactly on the margin: without ε the interval has no width.
#[test]
fn a_quantised_latency_at_the_margin_is_neither_pass_nor_alarm() {
    let verdict = trial(1, Lab::default(), 1.10, &|_, _| 1e5).cells[0].verdict.clone();
    assert_eq!(verdict.word(), "inconclusive");
}

#[test]
fn equal_runs_give_equal_verdicts() {
    let once = || trial(3, Lab::default(), 1.2, &|stream, _| lognormal(stream));
    assert_eq!(once(), once());
}
