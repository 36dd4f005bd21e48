//! Distribution-free bounds of one arm's quantile, from its ranks.
//!
//! P(X₍ₗ₎ ≤ x_p ≤ X₍ᵤ₎) = P(l ≤ Bin(n, p) ≤ u − 1) (H. A. David, H. N. Nagaraja, *Order Statistics*, 3rd ed., section
//! 7.1). It holds for independent requests alone: it tells what one arm's quantile is worth, and how many requests a verdict takes
//! at least, and decides none.

use super::counts::Counts;
use super::distributions::binomial_below;
use crate::scenario::Quantile;

/// Ranks, from one, of the order statistics that bound a quantile on one side each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranks {
    /// The highest l with P(X₍ₗ₎ > x_p) ≤ α; `None`: not even the smallest value is low enough.
    pub low: Option<u64>,
    /// The lowest u with P(X₍ᵤ₎ < x_p) ≤ α; `None`: not even the largest is high enough.
    pub high: Option<u64>,
}

/// Ranks that bound the quantile `q` of `n` independent values, each side at 1 − `alpha`.
pub fn quantile_ranks(q: Quantile, n: u64, alpha: f64) -> Ranks {
    let below = |k: u64| binomial_below(k, n, q.as_f64());
    // X₍ₗ₎ > x_p: fewer than l values lie at or below x_p.
    let low = first(n, |l| below(l) > alpha);
    // X₍ᵤ₎ < x_p: u values or more lie below x_p.
    let high = first(n, |u| u > 0 && 1.0 - below(u - 1) <= alpha);
    Ranks { low: (low > 0).then_some(low.min(n)), high: (n > 0 && high <= n).then_some(high) }
}

/// The quantile `q` of one arm with one-sided bounds in nanoseconds, (low, high); `None`: unbounded, or at +∞.
pub fn rank_bounds(arm: Counts<'_>, q: Quantile, alpha: f64) -> (Option<f64>, Option<f64>) {
    let ranks = quantile_ranks(q, arm.total(), alpha);
    let value = |rank: u64| arm.at_rank(rank).map(|bucket| bucket.middle() as f64);
    (ranks.low.and_then(value), ranks.high.and_then(value))
}

/// The smallest k in 0 … n + 1 for which `holds`, which once true stays so; n + 1 where it never is.
fn first(n: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, n + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Durations;

    /// Ten values, median, 5 %: P(Bin(10, ½) ≤ 1) = 11/1024 = 1.1 % and ≤ 2: 56/1024 = 5.5 %. So X₍₂₎ is the lower
    /// bound: it lies above the median with 1.1 %; and by symmetry X₍₉₎ the upper one.
    #[test]
    fn the_median_of_ten_by_hand() {
        assert_eq!(quantile_ranks(Quantile::P50, 10, 0.05), Ranks { low: Some(2), high: Some(9) });
        assert_eq!(quantile_ranks(Quantile::P50, 4, 0.05), Ranks { low: None, high: None });
        assert_eq!(quantile_ranks(Quantile::P50, 0, 0.05), Ranks { low: None, high: None });
    }

    /// 459 values bound the p99 from above, by the largest of them; 458 do not (verdict.md).
    #[test]
    fn the_fewest_values_that_bound_a_p99_from_above() {
        assert_eq!(quantile_ranks(Quantile::P99, 459, 0.01).high, Some(459));
        assert_eq!(quantile_ranks(Quantile::P99, 458, 0.01).high, None);
    }

    #[test]
    fn bounds_of_an_arm_are_its_order_statistics_and_what_was_not_served_is_unbounded() {
        let mut served = Durations::default();
        (1..=10).for_each(|ns| served.record(ns * 10));
        assert_eq!(rank_bounds(Counts::new(&served, 0), Quantile::P50, 0.05), (Some(20.0), Some(90.0)));
        let mut served = Durations::default();
        (1..=8).for_each(|ns| served.record(ns * 10));
        assert_eq!(rank_bounds(Counts::new(&served, 2), Quantile::P50, 0.05), (Some(20.0), None));
    }
}
