//! How many independent requests the requests of an arm are worth.

/// A window must hold so many correlation times (Sokal's c).
const WINDOW: f64 = 5.0;

/// Integrated autocorrelation time in requests, τ = 1 + 2·Σ ρ(t) over t = 1 … M, where M is the smallest lag with
/// M ≥ 5 τ(M) (A. D. Sokal, *Monte Carlo Methods in Statistical Mechanics*, section 3, 1997). n requests are worth n/τ
/// independent ones. One at least: what anticorrelates is not credited.
///
/// `arms` are stretches of requests in the order of their planned arrival. All are taken about one mean: about means of
/// their own, stretches that are not much longer than τ would hide it. `None` where it cannot be told: M does not fit
/// into half of the shortest arm, or all values are equal.
pub fn integrated_time(arms: &[&[f64]]) -> Option<f64> {
    let shortest = arms.iter().map(|arm| arm.len()).min()?;
    let n = arms.iter().map(|arm| arm.len()).sum::<usize>() as f64;
    let mean = arms.iter().flat_map(|arm| arm.iter()).sum::<f64>() / n;
    let covariance = |lag: usize| {
        let of_arm = |arm: &&[f64]| -> f64 { arm.iter().zip(&arm[lag..]).map(|(a, b)| (a - mean) * (b - mean)).sum() };
        let pairs = arms.iter().map(|arm| arm.len() - lag).sum::<usize>() as f64;
        arms.iter().map(of_arm).sum::<f64>() / pairs
    };
    if shortest == 0 {
        return None;
    }
    let variance = covariance(0);
    if variance.is_nan() || variance <= 0.0 {
        return None;
    }
    let mut time = 1.0;
    for lag in 1..=shortest / 2 {
        time += 2.0 * covariance(lag) / variance;
        if lag as f64 >= WINDOW * time {
            return Some(f64::max(time, 1.0));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Key, Stream};

    /// An autoregression of first order has τ = (1 + ρ)/(1 − ρ).
    fn autoregression(rho: f64, arms: usize, length: usize) -> Vec<Vec<f64>> {
        let mut stream = Stream::new(1, &[Key::Name("autoregression")]);
        let mut level = stream.normal();
        let mut next = || {
            level = rho * level + libm::sqrt(1.0 - rho * rho) * stream.normal();
            level
        };
        (0..arms).map(|_| (0..length).map(|_| next()).collect()).collect()
    }

    fn time(arms: &[Vec<f64>]) -> Option<f64> {
        integrated_time(&arms.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    #[test]
    fn autoregressions_have_the_times_of_theory() {
        for (rho, expected) in [(0.0, 1.0), (0.5, 3.0), (0.9, 19.0), (0.98, 99.0)] {
            let found = time(&autoregression(rho, 24, 5_000)).unwrap();
            // At ρ = 0.98 the estimate has a relative deviation of √(4M/n) = √(4 × 495/120 000) = 13 % (Sokal, eq. 3.19).
            assert!((found / expected - 1.0).abs() < 0.3, "ρ = {rho}: {found} for {expected}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_not() {
        assert_eq!(time(&autoregression(0.995, 24, 1_000)), None, "400 requests do not fit five times into 500");
        assert_eq!(time(&[vec![1.0; 100]]), None);
        assert_eq!(time(&[vec![]]), None);
        assert_eq!(time(&[]), None);
    }

    /// 1, −1, 1, −1 …: ρ(1) = −1, so τ would be −1 and the window closes at once.
    #[test]
    fn alternation_is_worth_no_more_than_independence() {
        let values: Vec<f64> = (0..100).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        assert_eq!(time(&[values]), Some(1.0));
    }
}
