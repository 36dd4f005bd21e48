//! How evenly several are served.

/// Jain's index of what each of n has: (Σx)² ÷ (n·Σx²), 1 where all have the same, 1/n where one has everything (R. Jain, D. Chiu,
/// W. Hawe, *A Quantitative Measure of Fairness and Discrimination*, DEC-TR-301, 1984). `None` of fewer than two, and where nobody has
/// anything.
pub fn jain(shares: &[f64]) -> Option<f64> {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|x| x * x).sum();
    (shares.len() > 1 && squares > 0.0).then(|| sum * sum / (shares.len() as f64 * squares))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1, 2, 3: 36 ÷ (3 · 14); one of four with everything: a quarter.
    #[test]
    fn by_hand() {
        assert!((jain(&[1.0, 2.0, 3.0]).unwrap() - 36.0 / 42.0).abs() < 1e-12);
        assert_eq!(jain(&[0.3, 0.3]), Some(1.0));
        assert_eq!(jain(&[0.0, 5.0, 0.0, 0.0]), Some(0.25));
        assert_eq!((jain(&[1.0]), jain(&[0.0, 0.0]), jain(&[])), (None, None, None));
    }
}
