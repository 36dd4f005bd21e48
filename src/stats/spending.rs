//! Error rates over several looks at growing data.

/// Level of each look, where look i may spend the share `spends[i]` of `alpha`. Errors at different looks are at worst
/// disjoint, so levels that add up to α keep the rate of the whole at α, however the looks depend on one another
/// (Bonferroni's inequality; C. Jennison, B. W. Turnbull, *Group Sequential Methods*, section 2.8, whose boundaries for
/// normal increments would be sharper and would not hold for quantiles of few blocks).
pub fn spent(alpha: f64, spends: &[f64]) -> Vec<f64> {
    spends.iter().map(|share| alpha * share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_looks_spend_is_what_there_is() {
        let levels = spent(0.01, &[0.1, 0.2, 0.7]);
        assert_eq!(levels.len(), 3);
        assert!((levels[0] - 0.001).abs() < 1e-15 && (levels.iter().sum::<f64>() - 0.01).abs() < 1e-15);
    }
}
