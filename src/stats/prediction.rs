//! Whether one more value is of a kind with those before it.
//!
//! Source: G. J. Hahn, W. Q. Meeker, *Statistical Intervals*, 2nd ed., section 4.7: of n values from a normal distribution with
//! mean x̄ and standard deviation s, one more lies in x̄ ± t(1 − α/2; n − 1)·s·√(1 + 1/n) with probability 1 − α.

use super::distributions::{t_beyond, t_quantile};

/// Values of a kind, to which one more is to be compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// Their mean.
    pub mean: f64,
    /// s·√(1 + 1/n): what one t is worth.
    scale: f64,
    freedom: u32,
}

impl Prediction {
    /// What `values` say of one more; `None` of fewer than two.
    pub fn new(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        let freedom = u32::try_from(values.len()).ok()?.checked_sub(1).filter(|freedom| *freedom > 0)?;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
        Some(Self { mean, scale: libm::sqrt(squares / f64::from(freedom) * (1.0 + 1.0 / n)), freedom })
    }

    /// The interval in which one more value lies with probability 1 − `alpha`, wider by `tolerated` on either side.
    pub fn interval(&self, alpha: f64, tolerated: f64) -> Option<(f64, f64)> {
        let half = t_quantile(0.5 * alpha, self.freedom)? * self.scale + tolerated;
        Some((self.mean - half, self.mean + half))
    }

    /// How likely a value so far from the mean is, in either direction, if `tolerated` of the distance counts for nothing:
    /// the level at which [`Self::interval`] ends at it.
    pub fn p_value(&self, x: f64, tolerated: f64) -> f64 {
        let distance = libm::fabs(x - self.mean) - tolerated;
        if distance <= 0.0 {
            return 1.0;
        }
        if self.scale == 0.0 {
            return 0.0;
        }
        t_beyond(distance / self.scale, self.freedom).map_or(1.0, |p| (2.0 * p).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1, 2, 3, 4, 5: mean 3, s = √2.5, s·√1.2 = √3. t(0.975; 4) = 2.776.
    #[test]
    fn five_values_by_hand() {
        let prediction = Prediction::new(&[5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
        let (low, high) = prediction.interval(0.05, 0.0).unwrap();
        assert!((high - 3.0 - 2.776_445 * 3f64.sqrt()).abs() < 1e-5 && (low + high - 6.0).abs() < 1e-9, "{low} {high}");
        assert!((prediction.p_value(high, 0.0) - 0.05).abs() < 1e-9);
        assert!((prediction.p_value(low, 0.0) - 0.05).abs() < 1e-9);
        assert!((prediction.p_value(high + 0.5, 0.5) - 0.05).abs() < 1e-9, "what is tolerated counts for nothing");
        assert_eq!(prediction.p_value(3.4, 0.5), 1.0);
    }

    #[test]
    fn one_value_predicts_nothing_and_equal_ones_everything() {
        assert_eq!((Prediction::new(&[]), Prediction::new(&[1.0])), (None, None));
        let equal = Prediction::new(&[2.0; 5]).unwrap();
        assert_eq!((equal.p_value(2.0, 0.0), equal.p_value(2.1, 0.0), equal.p_value(2.1, 0.2)), (1.0, 0.0, 1.0));
    }
}
