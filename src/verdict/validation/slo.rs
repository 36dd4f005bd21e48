//! Objectives through the same grid: tenants with a known share of their requests over the bound.

use super::grid::Row;
use super::noise::{Bank, Kind, recorded};
use super::trial::each;
use crate::random::{Key, Stream};
use crate::run_dir::SeriesData;
use crate::scenario::Quantile;
use crate::stats::{Counts, blocks_for_share, objective_bounds};

/// "p99 ≤ bound": one request in a hundred may be over.
const ALLOWED: f64 = 0.01;

/// Arms of a claim: those of the smoke tier, and more where fewer arms than its scope of 25 % hold anything at all.
fn arms(bank: &Bank) -> u32 {
    let bound = bank.quantile(Quantile::P99);
    let held = bank.arms.iter().filter(|arm| arm.last().is_some_and(|(last, _)| *last > bound)).count();
    let held = held as f64 / bank.arms.len() as f64;
    (1.25 * f64::from(blocks_for_share(held.min(0.9), 0.01))).ceil().max(17.0) as u32
}

/// The arms of one trial.
pub(super) fn drawn(bank: &Bank, arms: u32, seed: u64) -> Vec<SeriesData> {
    let mut stream = Stream::new(seed, &[Key::Name("objective trial")]);
    let levels = bank.levels(&mut stream, arms as usize);
    levels.into_iter().map(|level| recorded(bank.draw(&mut stream), level, None)).collect()
}

/// The bound that a share `truth` of the noise's requests exceeds, at the levels of its arms.
pub(super) fn bound(bank: &Bank, truth: f64) -> u64 {
    let mut stream = Stream::new(1, &[Key::Name("objective levels")]);
    let levels = bank.levels(&mut stream, 200);
    let share = |bound: f64| levels.iter().map(|level| bank.above((bound / level) as f32)).sum::<f64>() / 200.0;
    let (mut low, mut high) = (0.0, 1e9);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if share(middle) > truth { low = middle } else { high = middle }
    }
    high as u64
}

/// Met, or missed, at the stated error rates; `None`: undecided.
pub(super) fn met(arms: &[SeriesData], bound: u64, seed: u64) -> Option<bool> {
    let arms: Vec<Counts<'_>> = arms.iter().map(SeriesData::counts).collect();
    let stream = Stream::new(seed, &[Key::Name("objective")]);
    let bounds = objective_bounds(&arms, bound, ALLOWED, (0.01, 0.01), &stream)?;
    if bounds.high <= ALLOWED { Some(true) } else { (bounds.low > ALLOWED).then_some(false) }
}

/// A tenant exactly at its objective, and one with half as much again over it.
pub(super) fn rows(bank: &Bank, trials: u64) -> Vec<Row> {
    // A step at a random moment makes the share of a run a matter of chance, and on a clock that ticks no bound has a given share
    // of requests over it: no truth to be held to. Nor has a tenant without a neighbour anything to carry over.
    if matches!(bank.kind, Kind::ClockStep | Kind::CarryOver | Kind::Ticks) {
        return Vec::new();
    }
    let arms = arms(bank);
    let row = |percent: f64| {
        let bound = bound(bank, percent / 100.0);
        let row = move |trials| {
            let found = each(trials, |seed| met(&drawn(bank, arms, seed), bound, seed));
            let count = |met| found.iter().filter(|found| **found == met).count() as u64;
            Row {
                noise: bank.kind.words(),
                design: format!("objective, {arms} arms"),
                quantiles: "p99".to_owned(),
                truth: format!("{percent} % over"),
                trials,
                passes: Some(count(Some(true))),
                alarms: (percent <= 1.0).then(|| count(Some(false))),
                outcomes: [count(Some(true)), 0, count(Some(false))],
            }
        };
        Row::longer_if_need_be(row, trials)
    };
    vec![row(1.0), row(1.5)]
}

/// Arms of a thousand requests: the reduced grid of objectives.
#[test]
fn reduced_objectives() {
    let rows: Vec<Row> = [Kind::Lognormal, Kind::Autoregression, Kind::Bursts]
        .into_iter()
        .flat_map(|kind| rows(&Bank::new(kind, 1_000), 1_200))
        .collect();
    super::grid::assert_all_hold(&rows);
}
