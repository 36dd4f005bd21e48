//! An objective ("p99 ≤ 50 ms") over arms: the share of requests over its bound.
//!
//! Requests of an arm hang together, arms do not: so the share is taken per arm, and its bounds over arms.

use super::distributions::t_quantile;
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

/// Bounds of the share of requests over an objective's bound at 1 − `alpha` (low, high), over arms that had requests:
/// of Student's t and of a bootstrap over arms the wider one. `None` where there are fewer than [`OBJECTIVE_ARMS`].
pub fn share_bounds(arms: &[Over], alpha: (f64, f64), stream: &mut Stream) -> Option<ShareBounds> {
    let shares: Vec<f64> = arms.iter().filter(|a| a.total > 0).map(|a| a.over as f64 / a.total as f64).collect();
    if shares.len() < OBJECTIVE_ARMS {
        return None;
    }
    let t = t_bounds(&shares, alpha)?;
    let b = super::bootstrap::mean_bounds(&shares, alpha, stream)?;
    Some(ShareBounds {
        share: shares.iter().sum::<f64>() / shares.len() as f64,
        low: t.0.min(b.0).clamp(0.0, 1.0),
        high: t.1.max(b.1).clamp(0.0, 1.0),
    })
}

/// One-sided bounds of a mean at 1 − `alpha` (low, high) by Student's t: x̄ ∓ t·s/√n. `None` of fewer than two values.
pub fn t_bounds(values: &[f64], alpha: (f64, f64)) -> Option<(f64, f64)> {
    let n = values.len() as f64;
    let freedom = u32::try_from(values.len()).ok()?.checked_sub(1)?;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / f64::from(freedom);
    let error = libm::sqrt(variance / n);
    Some((mean - t_quantile(alpha.0, freedom)? * error, mean + t_quantile(alpha.1, freedom)? * error))
}
