//! An objective ("p99 ≤ 50 ms") over arms: the share of requests over its bound.
//!
//! Requests of an arm hang together, arms do not: so the share is taken per arm, and its bounds over arms.

use super::bootstrap::mean_bounds;
use super::distributions::{t_beyond, t_quantile};
use crate::random::Stream;

/// Arms that a claim about an objective needs.
pub const OBJECTIVE_ARMS: usize = 12;

/// Requests of one arm, and how many of them were over the bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Over {
    /// Requests over the bound, those never served included.
    pub over: u64,
    /// All requests.
    pub total: u64,
}

/// Share of requests over the bound, mean over the arms, with one-sided bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShareBounds {
    /// The mean of the arms' shares.
    pub share: f64,
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

/// Part of a level at which bounds are drawn. The studentised bootstrap is exact to second order; where shares are as skewed
/// as under an autocorrelation of 0.995 it still misses 1.5 % at a level of 1 %, and at half of it independent requests miss
/// 0.8 %: too near for trials to show that it is less than 1 %.
const PART: f64 = 0.25;

/// Bounds of the share of requests over an objective's bound at 1 − `alpha` (low, high), over arms that had requests: the
/// widest of Student's t, the percentile and the studentised bootstrap over arms. Shares are skewed, and t alone then
/// misses on the side that matters. `None` where there are fewer than [`OBJECTIVE_ARMS`].
///
/// Like every verdict it speaks of what hits a share π* of the arms or more: arms without a request over the bound say
/// nothing of rarer episodes.
pub fn share_bounds(arms: &[Over], alpha: (f64, f64), stream: &mut Stream) -> Option<ShareBounds> {
    let shares: Vec<f64> = arms.iter().filter(|a| a.total > 0).map(|a| a.over as f64 / a.total as f64).collect();
    if shares.len() < OBJECTIVE_ARMS {
        return None;
    }
    let alpha = (PART * alpha.0, PART * alpha.1);
    let t = t_bounds(&shares, alpha)?;
    let (percentile, studentised) = mean_bounds(&shares, alpha, stream)?;
    Some(ShareBounds {
        share: shares.iter().sum::<f64>() / shares.len() as f64,
        low: t.0.min(percentile.0).min(studentised.0).clamp(0.0, 1.0),
        high: t.1.max(percentile.1).max(studentised.1).clamp(0.0, 1.0),
    })
}

/// The p-value of "the mean is at most `limit`" by Student's t; `None` of fewer than two values.
pub fn t_exceeds(values: &[f64], limit: f64) -> Option<f64> {
    let (mean, error, freedom) = mean_and_error(values)?;
    // Equal values have no error, and lie beyond the limit or not.
    if error == 0.0 { Some(f64::from(u8::from(mean <= limit))) } else { t_beyond((mean - limit) / error, freedom) }
}

/// Mean, its standard error and the degrees of freedom; `None` of fewer than two values.
fn mean_and_error(values: &[f64]) -> Option<(f64, f64, u32)> {
    let n = values.len() as f64;
    let freedom = u32::try_from(values.len()).ok()?.checked_sub(1).filter(|freedom| *freedom > 0)?;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / f64::from(freedom);
    Some((mean, libm::sqrt(variance / n), freedom))
}

/// One-sided bounds of a mean at 1 − `alpha` (low, high) by Student's t: x̄ ∓ t·s/√n. `None` of fewer than two values.
pub fn t_bounds(values: &[f64], alpha: (f64, f64)) -> Option<(f64, f64)> {
    let (mean, error, freedom) = mean_and_error(values)?;
    Some((mean - t_quantile(alpha.0, freedom)? * error, mean + t_quantile(alpha.1, freedom)? * error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    fn arms(over: &[u64]) -> Vec<Over> {
        over.iter().map(|over| Over { over: *over, total: 1_000 }).collect()
    }

    fn bounds(over: &[u64]) -> Option<ShareBounds> {
        share_bounds(&arms(over), (0.05, 0.01), &mut Stream::new(1, &[Key::Name("objective test")]))
    }

    /// 1, 2, 3: mean 2, s 1, error 1/√3; t with 2 degrees of freedom at 5 % is 2.920, at 1 % 6.965.
    #[test]
    fn t_bounds_by_hand() {
        let (low, high) = t_bounds(&[1.0, 2.0, 3.0], (0.05, 0.01)).unwrap();
        assert!((low - (2.0 - 2.919_986 / 3f64.sqrt())).abs() < 1e-5, "{low}");
        assert!((high - (2.0 + 6.964_557 / 3f64.sqrt())).abs() < 1e-5, "{high}");
        assert_eq!(t_bounds(&[1.0], (0.05, 0.01)), None);
        // The p-value of a limit at its own bound is the bound's level.
        let p = t_exceeds(&[1.0, 2.0, 3.0], 2.0 - 2.919_986 / 3f64.sqrt()).unwrap();
        assert!((p - 0.05).abs() < 1e-6, "{p}");
        assert_eq!([0.9, 1.0].map(|limit| t_exceeds(&[1.0, 1.0], limit)), [Some(0.0), Some(1.0)]);
        assert_eq!(t_exceeds(&[1.0], 0.0), None);
        assert_eq!(t_bounds(&[], (0.05, 0.01)), None);
    }

    #[test]
    fn fewer_than_twelve_arms_claim_nothing() {
        assert_eq!(bounds(&[0; 11]), None);
        assert_eq!(bounds(&[0; 12]), Some(ShareBounds { share: 0.0, low: 0.0, high: 0.0 }));
        let empty = [Over::default(); 12];
        assert_eq!(share_bounds(&empty, (0.05, 0.01), &mut Stream::new(1, &[])), None);
    }

    /// Two arms of twelve hold everything that is over the bound: a ninth of the resamples, (10/12)¹² = 11 %, holds
    /// neither, so that no multiple of its deviation is enough.
    #[test]
    fn what_few_arms_hold_has_no_upper_bound() {
        let b = bounds(&[0, 0, 0, 60, 0, 0, 0, 0, 60, 0, 0, 0]).unwrap();
        assert!((b.share - 0.01).abs() < 1e-12);
        assert_eq!((b.low, b.high), (0.0, 1.0));
    }

    #[test]
    fn even_shares_have_close_bounds_about_their_mean() {
        let b = bounds(&[9, 10, 11, 10, 9, 11, 10, 10, 12, 8, 10, 10]).unwrap();
        assert!(0.008 < b.low && b.low < 0.01 && 0.01 < b.high && b.high < 0.012, "{b:?}");
    }
}
