//! Two independent samples: by how much the second lies higher, with the confidence bounds and the test that belong to
//! Wilcoxon's rank sum (Mann and Whitney's U).
//!
//! Source: M. Hollander, D. A. Wolfe, E. Chicken, *Nonparametric Statistical Methods*, 3rd ed., sections 4.1 to 4.3: the
//! test, the estimate of Hodges and Lehmann, and the bounds of Moses. It asks that both samples have one shape and nothing
//! of what shape that is: one block that a stall has hit moves a mean, and moves no rank by more than one place.

use super::distributions::normal_beyond;

/// The largest product of the sizes for which the distribution of U is exact: 64 against 64. Beyond it the normal
/// approximation with its correction for continuity is off by less than 0.001 (Hollander & Wolfe, comment 4.9).
const EXACT: usize = 4_096;

/// The null distribution of U for one pair of sizes.
#[derive(Clone, Debug)]
pub struct RankSum {
    m: usize,
    n: usize,
    /// P(U ≤ u) for u from 0 to the middle of its range; `None`: by the normal approximation.
    cumulative: Option<Vec<f64>>,
}

impl RankSum {
    /// The distribution for samples of `m` and `n` values.
    pub fn new(m: usize, n: usize) -> Self {
        let cumulative = (m * n <= EXACT).then(|| exact(m, n));
        Self { m, n, cumulative }
    }

    /// P(U ≤ `u`), where `u` lies at or below the middle; one beyond it, which no bound or test at α < 1/2 asks for.
    fn below(&self, u: usize) -> f64 {
        let (m, n) = (self.m as f64, self.n as f64);
        if 2 * u >= self.m * self.n {
            return 1.0;
        }
        match &self.cumulative {
            Some(cumulative) => cumulative.get(u).copied().unwrap_or(1.0),
            None => normal_beyond((0.5 * m * n - u as f64 - 0.5) / libm::sqrt(m * n * (m + n + 1.0) / 12.0)),
        }
    }

    /// The smallest one-sided p-value that these sizes can give.
    pub fn least(&self) -> f64 {
        self.below(0)
    }

    /// The largest u with P(U ≤ u) ≤ `alpha`; `None` where even u = 0 is likelier: so few values give no bound.
    fn critical(&self, alpha: f64) -> Option<usize> {
        let (mut low, mut high) = (0, self.m * self.n / 2);
        while low < high {
            let middle = low + (high - low) / 2;
            // Probabilities are quotients of whole numbers, up to their last bits.
            if self.below(middle) <= alpha + 1e-12 { low = middle + 1 } else { high = middle }
        }
        low.checked_sub(1)
    }

    /// One-sided lower and upper confidence bounds, each at level 1 − `alpha`, for the shift from `x` to `y`: the
    /// (critical + 1)-th smallest and largest difference. `None`: unbounded. Ties make them conservative.
    pub fn bounds(&self, x: &[f64], y: &[f64], alpha: f64) -> (Option<f64>, Option<f64>) {
        let mut differences = self.differences(x, y);
        let Some(k) = self.critical(alpha).filter(|k| *k < differences.len()) else { return (None, None) };
        let last = differences.len() - 1;
        let low = *differences.select_nth_unstable_by(k, f64::total_cmp).1;
        let high = *differences.select_nth_unstable_by(last - k, f64::total_cmp).1;
        (Some(low), Some(high))
    }

    /// How likely so high a `y` is, if it lies at most `shift` above `x`: the one-sided p-value. Ties count against.
    pub fn above(&self, x: &[f64], y: &[f64], shift: f64) -> f64 {
        self.below(self.differences(x, y).iter().filter(|d| **d <= shift).count())
    }

    /// How likely so low a `y` is, if it lies at most `shift` below `x`.
    pub fn beneath(&self, x: &[f64], y: &[f64], shift: f64) -> f64 {
        self.below(self.differences(x, y).iter().filter(|d| **d >= -shift).count())
    }

    fn differences(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        assert_eq!((x.len(), y.len()), (self.m, self.n), "the distribution is that of other sizes");
        differences(x, y)
    }
}

/// The estimate of Hodges and Lehmann of the shift from `x` to `y`: the median of all differences; `None` of nothing.
pub fn shift(x: &[f64], y: &[f64]) -> Option<f64> {
    let mut differences = differences(x, y);
    if differences.is_empty() {
        return None;
    }
    differences.sort_unstable_by(f64::total_cmp);
    let half = differences.len() / 2;
    let upper = differences[half];
    Some(if differences.len() % 2 == 1 { upper } else { 0.5 * (differences[half - 1] + upper) })
}

fn differences(x: &[f64], y: &[f64]) -> Vec<f64> {
    y.iter().flat_map(|y| x.iter().map(move |x| y - x)).collect()
}

/// P(U ≤ u) up to the middle. The greatest of all values is of the first sample with probability m/(m + n), and is then
/// above all n of the second: p(m, n, u) = m/(m + n) · p(m − 1, n, u − n) + n/(m + n) · p(m, n − 1, u).
fn exact(m: usize, n: usize) -> Vec<f64> {
    let middle = m * n / 2;
    // Of no value in one of the samples U is zero.
    let certain = || {
        let mut p = vec![0.0; middle + 1];
        p[0] = 1.0;
        p
    };
    let mut before: Vec<Vec<f64>> = (0..=n).map(|_| certain()).collect();
    for i in 1..=m {
        let mut row = vec![certain()];
        for j in 1..=n {
            let first = i as f64 / (i + j) as f64;
            let p = (0..=middle)
                .map(|u| {
                    let above = if u >= j { before[j][u - j] } else { 0.0 };
                    first * above + (1.0 - first) * row[j - 1][u]
                })
                .collect();
            row.push(p);
        }
        before = row;
    }
    let mut sum = 0.0;
    let last = before.pop().unwrap_or_default();
    last.into_iter()
        .map(|p| {
            sum += p;
            sum
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// U of every way to choose which m of m + n ranks are the first sample's.
    fn enumerated(m: u32, n: u32, most: u32) -> f64 {
        let of = |set: u32| -> u32 {
            let ranks = (0..m + n).filter(|r| set >> r & 1 == 1);
            ranks.zip(0..).map(|(rank, below)| rank - below).sum()
        };
        let sets: Vec<u32> = (0u32..1 << (m + n)).filter(|set| set.count_ones() == m).collect();
        sets.iter().filter(|set| of(**set) <= most).count() as f64 / sets.len() as f64
    }

    #[test]
    fn the_distribution_is_that_of_all_ways_to_share_the_ranks() {
        for (m, n) in [(1, 1), (2, 3), (3, 2), (4, 4), (5, 7), (8, 6)] {
            let table = RankSum::new(m as usize, n as usize);
            for u in 0..m * n / 2 {
                let found = table.below(u as usize);
                assert!((found - enumerated(m, n, u)).abs() < 1e-12, "{m} and {n}, U ≤ {u}: {found}");
            }
        }
    }

    /// Published critical values, one-sided (Mann and Whitney 1947; Siegel and Castellan, table J): the largest U with P(U ≤ u) ≤ α.
    #[test]
    fn critical_values_are_the_published_ones() {
        for (m, n, at_5, at_1) in [
            (3, 3, Some(0), None),
            (5, 5, Some(4), Some(1)),
            (8, 8, Some(15), Some(9)),
            (10, 10, Some(27), Some(19)),
            (20, 20, Some(138), Some(114)),
        ] {
            let table = RankSum::new(m, n);
            assert_eq!((table.critical(0.05), table.critical(0.01)), (at_5, at_1), "{m} and {n}");
        }
    }

    /// Beyond the exact sizes: the two agree where both can be had.
    #[test]
    fn the_approximation_is_close_where_it_takes_over() {
        let exact = RankSum::new(64, 64);
        let normal = RankSum { cumulative: None, ..exact.clone() };
        for u in [1_000, 1_300, 1_500, 1_700, 1_900, 2_040] {
            let (exact, normal) = (exact.below(u), normal.below(u));
            assert!((exact - normal).abs() < 1e-3 && normal > 0.8 * exact, "U ≤ {u}: {exact} and {normal}");
        }
        assert!(RankSum::new(100, 100).cumulative.is_none());
    }

    /// x = 1, 2, 4; y = 3, 8, 9: differences −1, 1, 2, 4, 5, 6, 7, 7, 8 and their median 5. P(U ≤ 0) = 1/20, ≤ 1: 2/20.
    #[test]
    fn three_against_three_by_hand() {
        let (x, y) = ([1.0, 2.0, 4.0], [3.0, 8.0, 9.0]);
        let table = RankSum::new(3, 3);
        assert_eq!(shift(&x, &y), Some(5.0));
        assert_eq!(table.bounds(&x, &y, 0.05), (Some(-1.0), Some(8.0)));
        assert_eq!(table.bounds(&x, &y, 0.1), (Some(1.0), Some(7.0)));
        assert_eq!(table.bounds(&x, &y, 0.049), (None, None));
        assert!((table.above(&x, &y, 0.0) - 0.1).abs() < 1e-12, "one of nine is not above");
        assert!((table.above(&x, &y, -2.0) - 0.05).abs() < 1e-12);
        assert_eq!(table.beneath(&x, &y, 0.0), 1.0);
        assert!((table.beneath(&y, &x, 0.0) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn nothing_gives_nothing() {
        for (x, y) in [(&[][..], &[1.0][..]), (&[1.0], &[]), (&[], &[])] {
            let table = RankSum::new(x.len(), y.len());
            assert_eq!((shift(x, y), table.bounds(x, y, 0.05)), (None, (None, None)));
            assert_eq!((table.above(x, y, 0.0), table.beneath(x, y, 0.0)), (1.0, 1.0));
        }
        assert_eq!(RankSum::new(3, 3).above(&[1.0; 3], &[1.0; 3], 0.0), 1.0, "all equal");
    }

    proptest! {
        /// A bound at 1 − α excludes zero exactly where the test at α does, and moves with the data.
        #[test]
        fn bounds_and_test_are_one(
            x in proptest::collection::vec(-1.0f64..1.0, 5..20), y in proptest::collection::vec(-1.0f64..1.5, 5..20), by in -2.0f64..2.0,
        ) {
            let table = RankSum::new(x.len(), y.len());
            let (low, high) = table.bounds(&x, &y, 0.025);
            let estimate = shift(&x, &y).unwrap();
            prop_assert!(low.unwrap() <= estimate && estimate <= high.unwrap());
            prop_assert_eq!(low.unwrap() > 0.0, table.above(&x, &y, 0.0) <= 0.025);
            prop_assert_eq!(high.unwrap() < 0.0, table.beneath(&x, &y, 0.0) <= 0.025);
            let moved: Vec<f64> = y.iter().map(|y| y + by).collect();
            prop_assert!((table.bounds(&x, &moved, 0.025).0.unwrap() - low.unwrap() - by).abs() < 1e-12);
        }
    }
}
