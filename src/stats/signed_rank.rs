//! The Hodges–Lehmann estimate and the exact confidence bounds that belong to Wilcoxon's signed-rank test.
//!
//! Source: M. Hollander, D. A. Wolfe, E. Chicken, *Nonparametric Statistical Methods*, 3rd ed., sections 3.1 to 3.3.

/// The null distribution of the signed-rank statistic for one number of differences.
#[derive(Clone, Debug)]
pub struct SignedRank {
    n: usize,
    /// P(T⁺ ≤ t) for t from 0 to the middle of its range: no bound at α < 1/2 lies beyond.
    cumulative: Vec<f64>,
}

impl SignedRank {
    /// The distribution for `n` differences, exactly: T⁺ is the sum of a random subset of the ranks 1 … n, so its
    /// probabilities follow from those for n − 1 by p(t) = (p′(t) + p′(t − n)) / 2 (Hollander & Wolfe, comment 3.7).
    pub fn new(n: usize) -> Self {
        let middle = n * (n + 1) / 4;
        let mut p = vec![0.0; middle + 1];
        p[0] = 1.0;
        for rank in 1..=n {
            for t in (0..=middle).rev() {
                p[t] = 0.5 * (p[t] + if t >= rank { p[t - rank] } else { 0.0 });
            }
        }
        let mut sum = 0.0;
        for value in &mut p {
            sum += *value;
            *value = sum;
        }
        Self { n, cumulative: p }
    }

    /// The critical value: the largest t with P(T⁺ ≤ t) ≤ `alpha`; `None` where even t = 0 is likelier, that is where
    /// `n` differences cannot give a bound at this level.
    pub fn critical(&self, alpha: f64) -> Option<usize> {
        if self.n == 0 {
            return None;
        }
        self.cumulative.partition_point(|p| *p <= alpha).checked_sub(1)
    }

    /// One-sided lower confidence bound at level 1 − `alpha` for the centre of symmetry: the (critical + 1)-th smallest
    /// Walsh average (Hollander & Wolfe, eq. 3.24). `None` where it is unbounded. Ties make it conservative.
    pub fn lower(&self, differences: &[f64], alpha: f64) -> Option<f64> {
        let mut walsh = self.walsh(differences);
        let k = self.critical(alpha)?;
        Some(*walsh.select_nth_unstable_by(k, f64::total_cmp).1).filter(|bound| bound.is_finite())
    }

    /// One-sided upper confidence bound at level 1 − `alpha`: the (critical + 1)-th largest Walsh average.
    pub fn upper(&self, differences: &[f64], alpha: f64) -> Option<f64> {
        let mut walsh = self.walsh(differences);
        let k = self.critical(alpha)?;
        let last = walsh.len() - 1;
        Some(*walsh.select_nth_unstable_by(last - k, f64::total_cmp).1).filter(|bound| bound.is_finite())
    }

    fn walsh(&self, differences: &[f64]) -> Vec<f64> {
        assert_eq!(differences.len(), self.n, "the distribution is that of another number of differences");
        walsh_averages(differences)
    }
}

/// The Hodges–Lehmann estimate: the median of the Walsh averages (Hollander & Wolfe, eq. 3.22); `None` of nothing.
pub fn hodges_lehmann(differences: &[f64]) -> Option<f64> {
    let mut walsh = walsh_averages(differences);
    if walsh.is_empty() {
        return None;
    }
    let half = walsh.len() / 2;
    let odd = walsh.len() % 2 == 1;
    let (below, middle, _) = walsh.select_nth_unstable_by(half, f64::total_cmp);
    let middle = *middle;
    if odd {
        return Some(middle);
    }
    let before = below.iter().copied().max_by(f64::total_cmp)?;
    Some(0.5 * (before + middle))
}

/// The averages of every pair, each value with itself included: n(n + 1)/2 of them.
fn walsh_averages(differences: &[f64]) -> Vec<f64> {
    let mut averages = Vec::with_capacity(differences.len() * (differences.len() + 1) / 2);
    for (i, a) in differences.iter().enumerate() {
        averages.extend(differences[i..].iter().map(|b| 0.5 * (a + b)));
    }
    averages
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All 2ⁿ subsets of the ranks 1 … n: how many have a sum of at most `t`.
    fn enumerated(n: u32, t: u32) -> f64 {
        let hits = (0u32..1 << n).filter(|set| (1..=n).filter(|r| set >> (r - 1) & 1 == 1).sum::<u32>() <= t).count();
        hits as f64 / f64::from(1u32 << n)
    }

    #[test]
    fn the_distribution_is_that_of_all_subsets_of_the_ranks() {
        for n in 1..=12u32 {
            let table = SignedRank::new(n as usize);
            for t in 0..=n * (n + 1) / 4 {
                let exact = enumerated(n, t);
                assert!((table.cumulative[t as usize] - exact).abs() < 1e-15, "n = {n}, t = {t}");
            }
        }
    }

    /// Published critical values, one-sided (McCornack 1965; Hollander & Wolfe, table A.4): the largest T with
    /// P(T⁺ ≤ T) ≤ α.
    #[test]
    fn critical_values_are_the_published_ones() {
        for (n, at_5, at_2_5, at_1, at_half) in [
            (5, Some(0), None, None, None),
            (6, Some(2), Some(0), None, None),
            (7, Some(3), Some(2), Some(0), None),
            (8, Some(5), Some(3), Some(1), Some(0)),
            (10, Some(10), Some(8), Some(5), Some(3)),
            (12, Some(17), Some(13), Some(9), Some(7)),
            (15, Some(30), Some(25), Some(19), Some(15)),
            (20, Some(60), Some(52), Some(43), Some(37)),
            (25, Some(100), Some(89), Some(76), Some(68)),
            (30, Some(151), Some(137), Some(120), Some(109)),
            (50, Some(466), Some(434), Some(397), Some(373)),
        ] {
            let table = SignedRank::new(n);
            for (alpha, expected) in [(0.05, at_5), (0.025, at_2_5), (0.01, at_1), (0.005, at_half)] {
                assert_eq!(table.critical(alpha), expected, "n = {n}, α = {alpha}");
            }
        }
    }

    #[test]
    fn no_bound_where_the_level_is_out_of_reach() {
        let d = [0.1; 6];
        assert_eq!(SignedRank::new(6).upper(&d, 0.01), None);
        assert_eq!(SignedRank::new(6).lower(&d, 0.01), None);
        assert_eq!(SignedRank::new(0).critical(0.5), None);
        assert_eq!(SignedRank::new(0).upper(&[], 0.5), None);
    }

    /// Differences 1, 2, 4, 8: Walsh averages 1, 1.5, 2, 2.5, 3, 4, 4.5, 5, 6, 8; their median is (3 + 4)/2.
    /// P(T⁺ ≤ 0) = 1/16, so at α = 1/16 the bounds are the extremes; P(T⁺ ≤ 1) = 2/16, so at 1/8 the next ones.
    #[test]
    fn four_differences_by_hand() {
        let d = [8.0, 1.0, 4.0, 2.0];
        let table = SignedRank::new(4);
        assert_eq!(hodges_lehmann(&d), Some(3.5));
        assert_eq!((table.lower(&d, 0.0625), table.upper(&d, 0.0625)), (Some(1.0), Some(8.0)));
        assert_eq!((table.lower(&d, 0.125), table.upper(&d, 0.125)), (Some(1.5), Some(6.0)));
        assert_eq!(table.upper(&d, 0.06), None);
    }

    #[test]
    fn what_is_censored_in_too_many_blocks_is_unbounded() {
        let mut d = vec![0.0; 10];
        d[0] = f64::INFINITY;
        // One infinite difference makes 10 infinite averages; the sixth largest is one of them.
        assert_eq!(SignedRank::new(10).upper(&d, 0.01), None);
        assert_eq!(SignedRank::new(10).lower(&d, 0.01), Some(0.0));
        assert_eq!(hodges_lehmann(&d), Some(0.0));
        // At n = 24 the critical value is 69 (α = 1 %): two infinite differences make 24 + 23 = 47 infinite averages.
        let mut d = vec![0.0; 24];
        (d[0], d[1]) = (f64::INFINITY, f64::INFINITY);
        assert_eq!(SignedRank::new(24).upper(&d, 0.01), Some(0.0));
    }

    proptest! {
        #[test]
        fn bounds_enclose_the_estimate_and_move_with_the_data(
            d in proptest::collection::vec(-1.0f64..1.0, 7..40), shift in -2.0f64..2.0,
        ) {
            let table = SignedRank::new(d.len());
            let (low, high) = (table.lower(&d, 0.01).unwrap(), table.upper(&d, 0.01).unwrap());
            let centre = hodges_lehmann(&d).unwrap();
            prop_assert!(low <= centre && centre <= high);
            let moved: Vec<f64> = d.iter().map(|x| x + shift).collect();
            prop_assert!((table.upper(&moved, 0.01).unwrap() - high - shift).abs() < 1e-12);
            let mirrored: Vec<f64> = d.iter().map(|x| -x).collect();
            prop_assert!((table.lower(&mirrored, 0.01).unwrap() + high).abs() < 1e-12);
        }
    }
}
