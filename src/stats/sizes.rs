//! How much data a claim needs.

use super::distributions::binomial_below;
use crate::scenario::Quantile;

/// Standard normal quantile for a power of 90 %.
pub(super) const POWER_90: f64 = 1.281_551_565_544_600_5;

/// Share of arms π* that an episode must hit to be seen in `blocks` arms with probability 1 − `alpha`: the chance to
/// miss it in all of them is (1 − π)^B = α, so π* = 1 − α^(1/B). One where nothing was run.
pub fn episode_share(blocks: u32, alpha: f64) -> f64 {
    if blocks == 0 { 1.0 } else { 1.0 - libm::pow(alpha, 1.0 / f64::from(blocks)) }
}

/// The fewest blocks with π* ≤ `share`: B = ⌈ln α / ln(1 − π)⌉.
pub fn blocks_for_share(share: f64, alpha: f64) -> u32 {
    libm::ceil(libm::log(alpha) / libm::log1p(-share)) as u32
}

/// The fewest blocks for which the exact signed-rank bound at 1 − `alpha` exists: all n differences lie on one side of
/// their centre with probability 0.5ⁿ, so n = ⌈−log₂ α⌉, seven at 1 %. A bootstrap draws a bound from fewer all the same,
/// narrow because it has seen little.
pub fn least_blocks(alpha: f64) -> u32 {
    libm::ceil(-libm::log2(alpha)) as u32
}

/// The fewest requests for which a distribution-free one-sided upper bound at 1 − `alpha` exists for quantile `q`: the
/// largest of n lies below x_q with probability qⁿ, so n = ⌈ln α / ln q⌉ (H. A. David, H. N. Nagaraja, *Order
/// Statistics*, 3rd ed., section 7.1).
pub fn min_requests(q: Quantile, alpha: f64) -> u64 {
    libm::ceil(libm::log(alpha) / libm::log(q.as_f64())) as u64
}

/// The fewest requests for an objective "quantile `q` ≤ bound" of which `over` may lie over the bound, if requests were
/// independent: the smallest h + t with I_p(h, t + 1) ≤ 1 − c for t = `over`, p = q and c = 1 − `alpha` (MLPerf
/// inference, LoadGen, "early stopping"). I_p(h, t + 1) is the probability that at most t of h + t independent requests
/// are over. The least that there must be, and no more: latencies hang together, and then this alone passes what it should not.
pub fn planned_requests(q: Quantile, over: u64, alpha: f64) -> u64 {
    let passes = |n: u64| binomial_below(over, n, 1.0 - q.as_f64()) <= alpha;
    let mut enough = min_requests(q, alpha).max(over + 1);
    while !passes(enough) {
        enough *= 2;
    }
    let mut too_few = over;
    while enough - too_few > 1 {
        let middle = too_few + (enough - too_few) / 2;
        if passes(middle) { enough = middle } else { too_few = middle }
    }
    enough
}

/// The smallest effect that `blocks` blocks find with 90 % power, as a ratio over one, for differences with standard
/// deviation `sd`: e^(sd·(z + 1.28)/√B + ε) − 1. `z` is the normal quantile of the bound's level. An approximation: the
/// bound itself comes from ranks, for which the normal formula is a few per cent too hopeful.
pub fn detectable_effect(sd: f64, blocks: u32, z: f64, epsilon: f64) -> Option<f64> {
    let effect = libm::expm1(sd * (z + POWER_90) / libm::sqrt(f64::from(blocks)) + epsilon);
    effect.is_finite().then_some(effect)
}

/// Blocks with which the bound of level `z` clears a margin at distance `distance` (on the log scale, ε taken off)
/// with 90 % power: (sd·(z + 1.28)/distance)², the same approximation solved for B. `None` beyond a million.
pub fn blocks_to_decide(sd: f64, distance: f64, z: f64) -> Option<u32> {
    let root = sd * (z + POWER_90) / distance;
    (distance > 0.0 && root * root <= 1e6).then(|| libm::ceil(root * root) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_scopes() {
        for (blocks, percent) in [(17, 25.0), (44, 10.0), (90, 5.0), (228, 2.0)] {
            let share = percent / 100.0;
            assert_eq!(blocks_for_share(share, 0.01), blocks);
            assert!(episode_share(blocks, 0.01) <= share);
            assert!(episode_share(blocks - 1, 0.01) > share);
        }
        assert_eq!(episode_share(0, 0.01), 1.0);
    }

    #[test]
    fn the_fewest_blocks_are_those_of_the_exact_bound() {
        for alpha in [0.3, 0.05, 0.015, 0.01, 0.005, 0.001_25, 0.000_125] {
            let exists = |n: u32| crate::stats::SignedRank::new(n as usize).critical(alpha).is_some();
            let least = least_blocks(alpha);
            assert!(exists(least) && !exists(least - 1), "{least} at {alpha}");
        }
        assert_eq!([0.01, 0.005, 0.000_125].map(least_blocks), [7, 8, 13]);
    }

    #[test]
    fn the_fewest_requests_for_a_quantile() {
        assert_eq!(min_requests(Quantile::P50, 0.01), 7);
        assert_eq!(min_requests(Quantile::P99, 0.01), 459);
        assert_eq!(min_requests(Quantile::P999, 0.01), 4_603);
        assert_eq!(min_requests(Quantile(99_990), 0.01), 46_050);
    }

    /// Without any over the bound it is the rank bound's 459. With one: 0.99ⁿ + n·0.01·0.99ⁿ⁻¹ ≤ 1 % first at 662.
    #[test]
    fn the_fewest_requests_for_an_objective() {
        assert_eq!(planned_requests(Quantile::P99, 0, 0.01), 459);
        assert_eq!(planned_requests(Quantile::P99, 1, 0.01), 662);
        assert_eq!(planned_requests(Quantile::P50, 0, 0.01), 7);
        assert_eq!(planned_requests(Quantile::P999, 0, 0.01), 4_603);
        let at_most_one = |n: i32| 0.99f64.powi(n) + f64::from(n) * 0.01 * 0.99f64.powi(n - 1);
        assert!(at_most_one(662) <= 0.01 && at_most_one(661) > 0.01);
    }

    /// sd 0.05, 48 blocks, z 2.326: 0.05 × 3.608 / 6.928 = 0.02604, so effects of 2.64 % are found; and to clear a
    /// distance of 0.02604, 48 blocks.
    #[test]
    fn effect_and_blocks_are_each_other_s_inverse() {
        let effect = detectable_effect(0.05, 48, 2.326, 0.0).unwrap();
        assert!((effect - 0.02638).abs() < 1e-5, "{effect}");
        assert_eq!(blocks_to_decide(0.05, libm::log1p(effect) + 1e-12, 2.326), Some(48));
        assert_eq!(blocks_to_decide(0.05, 0.0, 2.326), None);
        assert_eq!(blocks_to_decide(0.05, 1e-9, 2.326), None);
    }
}
