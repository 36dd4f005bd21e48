//! The same data through an independent implementation: SciPy and NumPy (scripts/stats_reference.py).

use serde::Deserialize;

use super::*;
use crate::random::{Key, Stream};
use crate::scenario::Quantile;

#[derive(Deserialize)]
struct Reference {
    signed_rank: Vec<SignedRankCase>,
    bootstrap: Vec<BootstrapCase>,
    normal_quantile: Vec<(f64, f64)>,
    rank_sum: Vec<RankSumCase>,
    prediction: Vec<PredictionCase>,
}

#[derive(Deserialize)]
struct RankSumCase {
    x: Vec<f64>,
    y: Vec<f64>,
    estimate: f64,
    above: Vec<(f64, f64)>,
    bounds: Vec<Bound<Option<f64>>>,
}

#[derive(Deserialize)]
struct PredictionCase {
    values: Vec<f64>,
    bounds: Vec<Bound<f64>>,
    x: f64,
    p: f64,
}

#[derive(Deserialize)]
struct SignedRankCase {
    differences: Vec<f64>,
    estimate: f64,
    bounds: Vec<Bound<Option<f64>>>,
}

#[derive(Deserialize)]
struct BootstrapCase {
    quantile: u32,
    quiet: Vec<Vec<u64>>,
    noisy: Vec<Vec<u64>>,
    estimate: f64,
    bounds: Vec<Bound<(f64, f64)>>,
}

#[derive(Deserialize)]
struct Bound<T> {
    alpha: f64,
    low: T,
    high: T,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../../tests/fixtures/stats_reference.json")).unwrap()
}

fn close(found: Option<f64>, expected: Option<f64>) -> bool {
    match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() < 1e-9,
        (found, expected) => found == expected,
    }
}

#[test]
fn signed_rank_bounds_are_those_of_scipy() {
    let cases = reference().signed_rank;
    assert_eq!(cases.len(), 8);
    for SignedRankCase { differences: d, estimate, bounds } in cases {
        let table = SignedRank::new(d.len());
        assert!(close(hodges_lehmann(&d), Some(estimate)), "n = {}", d.len());
        for Bound { alpha, low, high } in bounds {
            assert!(close(table.lower(&d, alpha), low), "n = {}, α = {alpha}: lower", d.len());
            assert!(close(table.upper(&d, alpha), high), "n = {}, α = {alpha}: upper", d.len());
        }
    }
}

#[test]
fn bootstrap_bounds_are_those_of_numpy_within_resampling_error() {
    let pool = |arms: &[Vec<u64>]| {
        let durations: Vec<Durations> = arms
            .iter()
            .map(|arm| {
                let mut durations = Durations::default();
                arm.iter().for_each(|ns| durations.record(*ns));
                durations
            })
            .collect();
        Pool::new(&durations.iter().map(|arm| Counts::new(arm, 0)).collect::<Vec<_>>())
    };
    for case in reference().bootstrap {
        let (quiet, noisy) = (pool(&case.quiet), pool(&case.noisy));
        for Bound { alpha, low, high } in case.bounds {
            let mut stream = Stream::new(1, &[Key::Name("reference")]);
            let q = Quantile(case.quantile);
            let found = bootstrap_log_ratio(&quiet, &noisy, q, (alpha, alpha), 1e9, &mut stream).unwrap();
            assert!((found.estimate - case.estimate).abs() < 1e-9);
            // Values beyond 2047 ns share buckets of 2 ns: a thousandth at most.
            let within = |bound: f64, (from, to): (f64, f64)| (from - 1e-3..=to + 1e-3).contains(&bound);
            assert!(within(found.low.unwrap(), low), "α = {alpha}: {:?} not in {low:?}", found.low);
            assert!(within(found.high.unwrap(), high), "α = {alpha}: {:?} not in {high:?}", found.high);
        }
    }
}

#[test]
fn normal_quantiles_are_those_of_scipy() {
    for (alpha, z) in reference().normal_quantile {
        assert!((normal_quantile(alpha) - z).abs() < 1e-9, "{alpha}");
    }
}

#[test]
fn rank_sum_bounds_and_p_values_are_those_of_scipy() {
    let cases = reference().rank_sum;
    assert_eq!(cases.len(), 6);
    for RankSumCase { x, y, estimate, above, bounds } in cases {
        let table = RankSum::new(x.len(), y.len());
        let of = format!("{} and {}", x.len(), y.len());
        assert!(close(shift(&x, &y), Some(estimate)), "{of}");
        for (shift, p) in above {
            let found = table.above(&x, &y, shift);
            // Beyond the middle no test asks: it is one.
            assert!((found - p).abs() < 1e-9 || p > 0.5 && found == 1.0, "{of}, {shift}: {found} and {p}");
        }
        for Bound { alpha, low, high } in bounds {
            let found = table.bounds(&x, &y, alpha);
            assert!(close(found.0, low) && close(found.1, high), "{of}, α = {alpha}: {found:?} and {low:?}, {high:?}");
        }
    }
}

#[test]
fn prediction_intervals_are_those_of_scipy() {
    for PredictionCase { values, bounds, x, p } in reference().prediction {
        let prediction = Prediction::new(&values).unwrap();
        for Bound { alpha, low, high } in bounds {
            let found = prediction.interval(alpha, 0.0).unwrap();
            // Of two values t is in the hundreds, and carries eleven digits.
            assert!((found.0 - low).abs() < 1e-8 && (found.1 - high).abs() < 1e-8, "{found:?} and {low}, {high}");
        }
        assert!((prediction.p_value(x, 0.0) - p).abs() < 1e-9);
    }
}
