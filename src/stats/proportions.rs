//! Bounds of a proportion, and several tests at once.

use super::distributions::beta_quantile;

/// Chance that all of `hits` fall on `trials` and none on `controls`, if both have the same probability: Fisher's exact test,
/// one-sided, with an empty cell (Fisher, The Design of Experiments, 1935; hypergeometric: C(trials, hits) ÷ C(trials +
/// controls, hits)).
pub fn chance_of_none(hits: u64, trials: u64, controls: u64) -> f64 {
    (0..hits.min(trials)).map(|i| (trials - i) as f64 / (trials + controls - i) as f64).product()
}

/// One-sided upper bound at 1 − `alpha` of the probability of which `hits` came in `trials` independent trials: the p
/// with P(X ≤ hits) = α, the (1 − α) quantile of Beta(k + 1, n − k) (C. J. Clopper, E. S. Pearson 1934). One where
/// nothing was tried.
pub fn proportion_upper(hits: u64, trials: u64, alpha: f64) -> f64 {
    if hits >= trials { 1.0 } else { beta_quantile(1.0 - alpha, hits as f64 + 1.0, (trials - hits) as f64) }
}

/// One-sided lower bound at 1 − `alpha`: the p with P(X ≥ hits) = α, the α quantile of Beta(k, n − k + 1).
pub fn proportion_lower(hits: u64, trials: u64, alpha: f64) -> f64 {
    if hits == 0 || trials == 0 {
        return 0.0;
    }
    beta_quantile(alpha, hits as f64, trials.saturating_sub(hits) as f64 + 1.0)
}

/// Which of several null hypotheses fall at family-wise level `alpha`, in the order given: the i-th smallest p-value is
/// compared with α/(m − i), and the first that does not fall holds all the larger ones (S. Holm 1979).
pub fn holm(p_values: &[f64], alpha: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut falls = vec![false; p_values.len()];
    for (i, index) in order.iter().enumerate() {
        if p_values[*index] > alpha / (p_values.len() - i) as f64 {
            break;
        }
        falls[*index] = true;
    }
    falls
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing in n trials: 1 − α^(1/n), for 300 at 5 % the 0.99 % that "three over n" approximates. All in n: α^(1/n).
    #[test]
    fn all_hits_on_one_side_by_chance() {
        // SciPy 1.17: fisher_exact([[5, 0], [0, 5]], "greater"), [[2, 9], [0, 1]] and [[33, 0], [0, 3]].
        for (hits, trials, controls, p) in [(5, 5, 5, 1.0 / 252.0), (2, 11, 1, 5.0 / 6.0), (33, 33, 3, 1.0 / 7_140.0)] {
            assert!((chance_of_none(hits, trials, controls) - p).abs() < 1e-12, "{hits} of {trials}, {controls}");
        }
        assert_eq!((chance_of_none(0, 5, 5), chance_of_none(3, 3, 0)), (1.0, 1.0));
    }

    #[test]
    fn nothing_and_everything_have_closed_forms() {
        for (n, alpha) in [(1, 0.05), (10, 0.01), (300, 0.05)] {
            let root = f64::powf(alpha, 1.0 / n as f64);
            assert!((proportion_upper(0, n, alpha) - (1.0 - root)).abs() < 1e-9);
            assert!((proportion_lower(n, n, alpha) - root).abs() < 1e-9);
            assert_eq!((proportion_lower(0, n, alpha), proportion_upper(n, n, alpha)), (0.0, 1.0));
        }
        assert_eq!((proportion_lower(0, 0, 0.05), proportion_upper(0, 0, 0.05)), (0.0, 1.0));
    }

    /// 1 of 2 at 5 %: P(X ≤ 1) = 1 − p² = 0.05, and P(X ≥ 1) = 1 − (1 − p)² = 0.05.
    #[test]
    fn one_of_two_by_hand() {
        assert!((proportion_upper(1, 2, 0.05) - 0.95f64.sqrt()).abs() < 1e-9);
        assert!((proportion_lower(1, 2, 0.05) - (1.0 - 0.95f64.sqrt())).abs() < 1e-9);
    }

    /// Four at 5 %: 0.01 ≤ 0.0125 falls, 0.013 ≤ 0.0167 falls, 0.03 > 0.025 stands, and with it 0.04, which alone
    /// would be below 0.05.
    #[test]
    fn holm_stops_at_the_first_that_stands() {
        assert_eq!(holm(&[0.04, 0.01, 0.03, 0.013], 0.05), [false, true, false, true]);
        assert_eq!(holm(&[0.04], 0.05), [true]);
        assert!(holm(&[], 0.05).is_empty());
    }
}
