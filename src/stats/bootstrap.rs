//! The ratio of pooled quantiles, with a bootstrap over whole blocks.
//!
//! It catches what differences per block miss: a neighbour that hurts in few arms. Whole blocks are drawn, so whatever
//! correlation there is inside an arm stays as it is (B. Efron, R. J. Tibshirani, *An Introduction to the Bootstrap*,
//! sections 8.6 and 13.3; percentile interval).

use super::counts::Pool;
use super::distributions::{normal_quantile, t_quantile};
use crate::random::Stream;
use crate::scenario::Quantile;

/// Resamples, at least.
pub const RESAMPLES: usize = 2_000;

/// Resamples that must lie beyond a bound for it to be one.
const BEYOND: f64 = 4.0;

/// ln(noisy ÷ quiet) of a pooled quantile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogRatio {
    /// The estimate. A quantile among requests not served is taken at the deadline: the least that it can be.
    pub estimate: f64,
    /// One-sided lower bound; `None`: unbounded.
    pub low: Option<f64>,
    /// One-sided upper bound; `None`: unbounded.
    pub high: Option<f64>,
    /// Standard deviation over the resamples; `None` where a resample is unbounded.
    pub deviation: Option<f64>,
}

/// The log ratio of the quantile `q` of `noisy` to that of `quiet`, blocks paired, with one-sided bounds at 1 − `alpha`
/// (low, high). `deadline_ns` is what a request not served has waited at least. `None` where one of them is empty.
pub fn bootstrap_log_ratio(
    quiet: &Pool,
    noisy: &Pool,
    q: Quantile,
    alpha: (f64, f64),
    deadline_ns: f64,
    stream: &mut Stream,
) -> Option<LogRatio> {
    let blocks = quiet.blocks();
    if blocks != noisy.blocks() || quiet.total() == 0 || noisy.total() == 0 {
        return None;
    }
    let resamples = resamples(alpha);
    let ones = vec![1; blocks];
    let rows = (quiet.row(&ones, q, 0), noisy.row(&ones, q, 0));
    let hints = (rows.0.unwrap_or(usize::MAX), rows.1.unwrap_or(usize::MAX));
    let estimate = log_ratio(rows.0.map(|r| quiet.value(r)), rows.1.map(|r| noisy.value(r)), deadline_ns);

    let (mut least, mut most) = (Vec::with_capacity(resamples), Vec::with_capacity(resamples));
    let mut weights = vec![0u32; blocks];
    for _ in 0..resamples {
        weights.fill(0);
        for _ in 0..blocks {
            weights[stream.below(blocks as u64) as usize] += 1;
        }
        let quiet_ns = quiet.row(&weights, q, hints.0).map(|r| quiet.value(r));
        let noisy_ns = noisy.row(&weights, q, hints.1).map(|r| noisy.value(r));
        let ratio = log_ratio(quiet_ns, noisy_ns, deadline_ns);
        least.push(ratio.least);
        most.push(ratio.most);
    }
    Some(LogRatio {
        estimate: estimate.taken,
        low: order_statistic(&mut least, alpha.0, false),
        high: order_statistic(&mut most, alpha.1, true),
        deviation: deviation(&least, &most),
    })
}

/// The log ratio of the worst of `tenants` at the quantile `q` to the worst of `reference`, with one-sided bounds at 1 − `alpha`
/// (low, high), each further away by [`expansion`]. Either side is a pool per tenant over the same arms, and its arms are drawn for
/// all of its tenants at once; the two sides are of different times, and are drawn apart. `None` where a side, or one of its
/// tenants, has nothing.
pub fn bootstrap_worst_ratio(
    reference: &[Pool],
    tenants: &[Pool],
    q: Quantile,
    alpha: (f64, f64),
    deadline_ns: f64,
    stream: &mut Stream,
) -> Option<LogRatio> {
    let blocks = |pools: &[Pool]| {
        let blocks = pools.first().map(Pool::blocks)?;
        pools.iter().all(|pool| pool.blocks() == blocks && pool.total() > 0).then_some(blocks)
    };
    let sides = [(reference, blocks(reference)?), (tenants, blocks(tenants)?)];
    let hints = sides.map(|(pools, blocks)| {
        let ones = vec![1; blocks];
        pools.iter().map(|pool| pool.row(&ones, q, 0).unwrap_or(usize::MAX)).collect::<Vec<_>>()
    });
    // One at +∞ is the worst.
    let worst = |side: usize, weights: &[u32]| {
        let values = sides[side].0.iter().zip(&hints[side]);
        values
            .map(|(pool, hint)| pool.row(weights, q, *hint).map(|row| pool.value(row)))
            .try_fold(0.0, |worst, value| value.map(|value| f64::max(worst, value)))
    };
    let of = |weights: &[Vec<u32>; 2]| log_ratio(worst(0, &weights[0]), worst(1, &weights[1]), deadline_ns);
    let estimate = of(&sides.map(|(_, blocks)| vec![1; blocks])).taken;
    let resamples = resamples(alpha);
    let (mut least, mut most) = (Vec::with_capacity(resamples), Vec::with_capacity(resamples));
    let mut weights = sides.map(|(_, blocks)| vec![0u32; blocks]);
    for _ in 0..resamples {
        for weights in &mut weights {
            let blocks = weights.len();
            weights.fill(0);
            (0..blocks).for_each(|_| weights[stream.below(blocks as u64) as usize] += 1);
        }
        let ratio = of(&weights);
        least.push(ratio.least);
        most.push(ratio.most);
    }
    let fewest = sides[0].1.min(sides[1].1);
    let further = |bound: Option<f64>, level: f64| {
        let further = expansion(level, fewest)?;
        bound.map(|bound| estimate + further * (bound - estimate))
    };
    Some(LogRatio {
        estimate,
        low: further(order_statistic(&mut least, alpha.0, false), alpha.0),
        high: further(order_statistic(&mut most, alpha.1, true), alpha.1),
        deviation: deviation(&least, &most),
    })
}

/// How many times as far from the estimate a percentile bound at 1 − `alpha` over `blocks` blocks belongs: resamples vary by
/// √((n − 1)/n) too little, and know nothing of how uncertain their own spread is, so t/z · √(n/(n − 1)) (T. C. Hesterberg,
/// "What Teachers Should Know About the Bootstrap", *The American Statistician* 69, 2015: the expanded percentile
/// interval). Far out, and over a dozen blocks, that is half as much again. `None` of fewer than two blocks.
pub fn expansion(alpha: f64, blocks: usize) -> Option<f64> {
    let freedom = u32::try_from(blocks).ok()?.checked_sub(1)?;
    let n = f64::from(freedom) + 1.0;
    Some(t_quantile(alpha, freedom)? / normal_quantile(alpha) * libm::sqrt(n / f64::from(freedom)))
}

/// One-sided bounds of a mean at 1 − `alpha` (low, high), values drawn with replacement: the percentile interval, and the
/// studentised one, x̄ − t*·s with t* = (x̄* − x̄)/s* of the resamples (Efron & Tibshirani, sections 13.3 and 12.5). A
/// resample of equal values has no s*: its t* is infinite, and so are bounds that reach it.
pub(super) fn mean_bounds(values: &[f64], alpha: (f64, f64), stream: &mut Stream) -> Option<((f64, f64), (f64, f64))> {
    let n = values.len() as f64;
    let (mean, spread) = mean_and_spread(values.iter().copied(), n);
    let resamples = resamples(alpha);
    let (mut means, mut students) = (Vec::with_capacity(resamples), Vec::with_capacity(resamples));
    let mut drawn = vec![0.0; values.len()];
    for _ in 0..resamples {
        drawn.fill_with(|| values[stream.below(values.len() as u64) as usize]);
        let (m, s) = mean_and_spread(drawn.iter().copied(), n);
        means.push(m);
        students.push(if m == mean { 0.0 } else { (m - mean) / s });
    }
    let reach = |alpha: f64, from_above: bool, students: &mut [f64]| {
        let k = (libm::floor(alpha * (resamples as f64 + 1.0)) as usize).checked_sub(1)?;
        let index = if from_above { resamples.checked_sub(k + 1)? } else { k };
        let (_, t, _) = students.select_nth_unstable_by(index, f64::total_cmp);
        Some(if spread == 0.0 { mean } else { mean - *t * spread })
    };
    let percentile = (order_statistic(&mut means, alpha.0, false)?, order_statistic(&mut means, alpha.1, true)?);
    Some((percentile, (reach(alpha.0, true, &mut students)?, reach(alpha.1, false, &mut students)?)))
}

/// Mean and standard deviation (divided by n) of `n` values.
fn mean_and_spread(values: impl Iterator<Item = f64> + Clone, n: f64) -> (f64, f64) {
    let mean = values.clone().sum::<f64>() / n;
    (mean, libm::sqrt(values.map(|x| (x - mean) * (x - mean)).sum::<f64>() / n))
}

/// Resamples that bounds at these levels need.
fn resamples(alpha: (f64, f64)) -> usize {
    RESAMPLES.max(libm::ceil(BEYOND / alpha.0.min(alpha.1)) as usize)
}

/// What is known of ln(noisy ÷ quiet) where either may lie at +∞ (`None`), that is somewhere beyond the deadline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogBounds {
    /// It is at least this.
    pub least: f64,
    /// With everything beyond the deadline taken at the deadline.
    pub taken: f64,
    /// It is at most this.
    pub most: f64,
}

/// The log ratio of two quantiles in nanoseconds; `None` lies beyond `deadline_ns`.
pub fn log_ratio(quiet_ns: Option<f64>, noisy_ns: Option<f64>, deadline_ns: f64) -> LogBounds {
    let ratio = |noisy: f64, quiet: f64| libm::log(noisy / quiet);
    match (quiet_ns, noisy_ns) {
        (Some(quiet), Some(noisy)) => {
            let exact = ratio(noisy, quiet);
            LogBounds { least: exact, taken: exact, most: exact }
        }
        (Some(quiet), None) => {
            let least = ratio(deadline_ns, quiet);
            LogBounds { least, taken: least, most: f64::INFINITY }
        }
        (None, Some(noisy)) => {
            let most = ratio(noisy, deadline_ns);
            LogBounds { least: f64::NEG_INFINITY, taken: most, most }
        }
        (None, None) => LogBounds { least: f64::NEG_INFINITY, taken: 0.0, most: f64::INFINITY },
    }
}

/// The ⌊α(R + 1)⌋-th resample from its end (Efron & Tibshirani, section 12.5); `None` where it is infinite, or where R
/// resamples do not reach α.
fn order_statistic(values: &mut [f64], alpha: f64, from_above: bool) -> Option<f64> {
    let k = (libm::floor(alpha * (values.len() as f64 + 1.0)) as usize).checked_sub(1)?;
    let index = if from_above { values.len().checked_sub(k + 1)? } else { k };
    let (_, bound, _) = values.select_nth_unstable_by(index, f64::total_cmp);
    Some(*bound).filter(|b| b.is_finite())
}

fn deviation(least: &[f64], most: &[f64]) -> Option<f64> {
    let n = least.len() as f64;
    if least.iter().chain(most).any(|v| !v.is_finite()) {
        return None;
    }
    let mean = least.iter().sum::<f64>() / n;
    Some(libm::sqrt(least.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;
    use crate::stats::{Counts, Durations};

    const DEADLINE: f64 = 1e9;

    fn pool(arms: &[(Vec<u64>, u64)]) -> Pool {
        let served: Vec<Durations> = arms
            .iter()
            .map(|(values, _)| {
                let mut durations = Durations::default();
                values.iter().for_each(|v| durations.record(*v));
                durations
            })
            .collect();
        let counts = |(served, (_, unserved)): (_, &(Vec<u64>, u64))| Counts::new(served, *unserved);
        Pool::new(&served.iter().zip(arms).map(counts).collect::<Vec<_>>())
    }

    fn stream() -> Stream {
        Stream::new(7, &[Key::Name("bootstrap test")])
    }

    /// Two blocks, medians 100 → 200 and 100 → 400. Three draws are possible: both of the first (1/4), both of the
    /// second (1/4), one of each (1/2: the median of {200, 400} is 200 by the rank rule). So ln 2 has weight 3/4, ln 4
    /// has 1/4, and at α = 1/10 the bounds are these two.
    #[test]
    fn two_blocks_by_hand() {
        let quiet = pool(&[(vec![100], 0), (vec![100], 0)]);
        let noisy = pool(&[(vec![200], 0), (vec![400], 0)]);
        let d = bootstrap_log_ratio(&quiet, &noisy, Quantile::P50, (0.1, 0.1), DEADLINE, &mut stream()).unwrap();
        assert_eq!(d.estimate, libm::log(2.0));
        assert_eq!((d.low, d.high), (Some(libm::log(2.0)), Some(libm::log(4.0))));
        // √(3/16)·ln 2 = 0.300
        assert!((d.deviation.unwrap() - 0.300).abs() < 0.01);
    }

    /// Twelve arms that are all alike have no spread: the worst of 100 and 300 against the worst of 100 and 150 is twice, and one
    /// that is never served bounds it from below alone.
    #[test]
    fn the_worst_of_several_by_hand() {
        let of = |ns: u64, unserved: u64| pool(&vec![(vec![ns; 10], unserved); 12]);
        let ratio = |tenants: &[Pool]| {
            let reference = [of(150, 0), of(100, 0)];
            bootstrap_worst_ratio(&reference, tenants, Quantile::P99, (0.005, 0.005), DEADLINE, &mut stream()).unwrap()
        };
        let twice = ratio(&[of(100, 0), of(300, 0)]);
        let close = |a: Option<f64>, b: f64| assert!((a.unwrap() - b).abs() < 1e-12, "{a:?} {b}");
        close(Some(twice.estimate), libm::log(2.0));
        close(twice.low, libm::log(2.0));
        close(twice.high, libm::log(2.0));
        let stuck = ratio(&[of(100, 1), of(300, 0)]);
        close(stuck.low, libm::log(1e9 / 150.0));
        assert_eq!(stuck.high, None);
        let none = bootstrap_worst_ratio(&[], &[of(1, 0)], Quantile::P99, (0.005, 0.005), DEADLINE, &mut stream());
        assert_eq!(none, None);
    }

    /// Sides of different lengths, arms of either 100 or 200: the bounds reach both ways.
    #[test]
    fn the_sides_of_a_worst_ratio_are_drawn_apart() {
        let arms = |n: usize| pool(&(0..n).map(|i| (vec![100 + 100 * (i as u64 % 2); 10], 0)).collect::<Vec<_>>());
        let of = |a: usize, b: usize| {
            let (a, b) = ([arms(a)], [arms(b)]);
            bootstrap_worst_ratio(&a, &b, Quantile::P50, (0.005, 0.005), DEADLINE, &mut stream()).unwrap()
        };
        let apart = of(16, 12);
        assert!(apart.low.unwrap() < -0.6 && apart.high.unwrap() > 0.6, "{apart:?}");
        assert_eq!(of(16, 12), of(16, 12));
    }

    /// Ten blocks at 1 %: t with 9 degrees of freedom 2.8214, z 2.3263, √(10/9) 1.0541; and for many blocks one.
    #[test]
    fn expansion_by_hand() {
        let of = |blocks| expansion(0.01, blocks).unwrap();
        assert!((of(10) - 2.8214 / 2.3263 * 1.0541).abs() < 1e-3, "{}", of(10));
        assert!((of(100_000) - 1.0).abs() < 1e-3);
        assert_eq!((expansion(0.01, 1), expansion(0.01, 0)), (None, None));
    }

    #[test]
    fn equal_keys_give_equal_bounds_and_emptiness_none() {
        let quiet = pool(&[(vec![100, 300], 0), (vec![150], 0), (vec![90, 80], 0)]);
        let noisy = pool(&[(vec![100, 200], 0), (vec![250], 0), (vec![80, 99], 0)]);
        let once = || bootstrap_log_ratio(&quiet, &noisy, Quantile::P99, (0.01, 0.01), DEADLINE, &mut stream());
        assert!(once().is_some());
        assert_eq!(once(), once());
        let empty = pool(&[(vec![], 0), (vec![], 0), (vec![], 0)]);
        assert_eq!(bootstrap_log_ratio(&quiet, &empty, Quantile::P50, (0.01, 0.01), DEADLINE, &mut stream()), None);
    }

    /// Half of the noisy requests are never served: the p99 lies beyond 1 s, so it is at least 10⁹/100 of the quiet one,
    /// without an upper bound. The other way round there is no lower bound.
    #[test]
    fn what_was_not_served_bounds_one_side_only() {
        let fine = pool(&[(vec![100; 20], 0), (vec![100; 20], 0)]);
        let stuck = pool(&[(vec![100; 10], 10), (vec![100; 10], 10)]);
        let d = bootstrap_log_ratio(&fine, &stuck, Quantile::P99, (0.01, 0.01), DEADLINE, &mut stream()).unwrap();
        assert_eq!((d.low, d.high, d.deviation), (Some(libm::log(1e7)), None, None));
        let d = bootstrap_log_ratio(&stuck, &fine, Quantile::P99, (0.01, 0.01), DEADLINE, &mut stream()).unwrap();
        assert_eq!((d.low, d.high), (None, Some(libm::log(1e-7))));
        let d = bootstrap_log_ratio(&stuck, &stuck, Quantile::P99, (0.01, 0.01), DEADLINE, &mut stream()).unwrap();
        assert_eq!((d.estimate, d.low, d.high), (0.0, None, None));
    }

    #[test]
    fn a_level_out_of_reach_gives_no_bound() {
        let mut values = vec![1.0, 2.0, 3.0];
        assert_eq!(order_statistic(&mut values, 0.1, true), None);
        assert_eq!(order_statistic(&mut values, 0.25, true), Some(3.0));
        assert_eq!(order_statistic(&mut values, 0.25, false), Some(1.0));
        assert_eq!(order_statistic(&mut values, 0.5, false), Some(2.0));
    }
}
