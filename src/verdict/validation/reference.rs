//! Bounds and a whole cell through an independent implementation: SciPy and NumPy (scripts/verdict_reference.py).

use serde::Deserialize;

use crate::random::{Key, Stream};
use crate::run_dir::JudgedBy;
use crate::scenario::Quantile;
use crate::stats::{
    Counts, Durations, Over, holm, proportion_lower, proportion_upper, quantile_ranks, share_bounds, t_bounds,
};
use crate::verdict::estimate::{Levels, Sides, Tables, estimate};

#[derive(Deserialize)]
struct Reference {
    ranks: Vec<RankCase>,
    proportions: Vec<ProportionCase>,
    t: Vec<TCase>,
    objectives: Vec<ObjectiveCase>,
    holm: Vec<HolmCase>,
    cells: Vec<CellCase>,
}

#[derive(Deserialize)]
struct RankCase {
    quantile: u32,
    n: u64,
    alpha: f64,
    ranks: (Option<u64>, Option<u64>),
}

#[derive(Deserialize)]
struct ProportionCase {
    hits: u64,
    trials: u64,
    alpha: f64,
    low: f64,
    high: f64,
}

#[derive(Deserialize)]
struct TCase {
    values: Vec<f64>,
    alpha: f64,
    low: f64,
    high: f64,
}

/// Ranges are what resampling may do.
#[derive(Deserialize)]
struct ObjectiveCase {
    over: Vec<u64>,
    alpha: f64,
    share: f64,
    low: (f64, f64),
    high: (f64, f64),
}

#[derive(Deserialize)]
struct HolmCase {
    p: Vec<f64>,
    falls: Vec<bool>,
}

#[derive(Deserialize)]
struct CellCase {
    quantile: u32,
    quiet: Vec<Vec<u64>>,
    noisy: Vec<Vec<u64>>,
    levels: (f64, f64),
    quiet_ns: f64,
    noisy_ns: f64,
    epsilon: f64,
    paired: View<f64>,
    pooled: View<(f64, f64)>,
}

#[derive(Deserialize)]
struct View<T> {
    estimate: f64,
    low: T,
    high: T,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../../../tests/fixtures/verdict_reference.json")).unwrap()
}

fn close(found: f64, expected: f64) -> bool {
    (found - expected).abs() < 1e-9
}

fn within(found: f64, (from, to): (f64, f64)) -> bool {
    (from - 1e-9..=to + 1e-9).contains(&found)
}

#[test]
fn rank_intervals_are_those_of_added_up_probabilities() {
    for RankCase { quantile, n, alpha, ranks } in reference().ranks {
        let found = quantile_ranks(Quantile(quantile), n, alpha);
        assert_eq!((found.low, found.high), ranks, "{quantile} of {n} at {alpha}");
    }
}

#[test]
fn proportions_and_means_have_the_bounds_of_scipy() {
    for ProportionCase { hits, trials, alpha, low, high } in reference().proportions {
        assert!(close(proportion_lower(hits, trials, alpha), low), "{hits} of {trials} at {alpha}");
        assert!(close(proportion_upper(hits, trials, alpha), high), "{hits} of {trials} at {alpha}");
    }
    for TCase { values, alpha, low, high } in reference().t {
        let found = t_bounds(&values, (alpha, alpha)).unwrap();
        assert!(close(found.0, low) && close(found.1, high), "{} values at {alpha}: {found:?}", values.len());
    }
    for HolmCase { p, falls } in reference().holm {
        assert_eq!(holm(&p, 0.05), falls);
    }
}

#[test]
fn objectives_have_the_bounds_of_numpy_within_resampling_error() {
    for ObjectiveCase { over, alpha, share, low, high } in reference().objectives {
        let arms: Vec<Over> = over.iter().map(|over| Over { over: *over, total: 1_000 }).collect();
        let found = share_bounds(&arms, (alpha, alpha), &mut Stream::new(1, &[Key::Name("reference")])).unwrap();
        assert!(close(found.share, share));
        assert!(within(found.low, low) && within(found.high, high), "{found:?}: {low:?} {high:?}");
    }
}

#[test]
fn a_whole_cell_has_the_bounds_of_scipy_and_numpy() {
    let histograms = |arms: &[Vec<u64>]| -> Vec<Durations> {
        let arm = |arm: &Vec<u64>| {
            let mut durations = Durations::default();
            arm.iter().for_each(|ns| durations.record(*ns));
            durations
        };
        arms.iter().map(arm).collect()
    };
    for case in reference().cells {
        let (quiet, noisy) = (histograms(&case.quiet), histograms(&case.noisy));
        let counts = |(quiet, noisy)| (Counts::new(quiet, 0), Counts::new(noisy, 0));
        let sides = Sides::new(quiet.iter().zip(&noisy).map(counts).collect());
        let levels = Levels { lower: case.levels.0, upper: case.levels.1, early: false };
        let mut stream = Stream::new(1, &[Key::Name("reference")]);
        let q = Quantile(case.quantile);
        let e = estimate(&sides, q, JudgedBy::Blocks, levels, 1e9, &mut stream, &mut Tables::new());
        assert_eq!((e.quiet_ns, e.noisy_ns), (Some(case.quiet_ns), Some(case.noisy_ns)));
        let (paired, pooled) = (e.paired.unwrap(), e.pooled.unwrap());
        assert!(close(paired.estimate, case.paired.estimate));
        assert!(close(paired.low.unwrap(), case.paired.low) && close(paired.high.unwrap(), case.paired.high));
        assert!(close(pooled.estimate, case.pooled.estimate));
        assert!(within(pooled.low.unwrap(), case.pooled.low), "{:?} not in {:?}", pooled.low, case.pooled.low);
        assert!(within(pooled.high.unwrap(), case.pooled.high), "{:?} not in {:?}", pooled.high, case.pooled.high);
        // U and L are the wider and the higher of the two, ε added and taken off.
        assert!(close(e.upper().unwrap(), paired.high.unwrap().max(pooled.high.unwrap()) + case.epsilon));
        assert!(close(e.lower().unwrap(), paired.low.unwrap().max(pooled.low.unwrap()) - case.epsilon));
    }
}
