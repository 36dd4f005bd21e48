//! The distributions that the bounds rest on. Their functions are those of statrs; here are the inverses, by bisection,
//! and the rounding that makes them equal on every machine.
//!
//! statrs takes logarithms and exponentials from the platform, whose last bits differ between C libraries. What is made
//! of them is rounded to [`KEPT_BITS`] bits, far finer than any bound needs, so that equal inputs give equal bytes.

use statrs::distribution::{ContinuousCDF, DiscreteCDF, Normal, StudentsT};
use statrs::function::beta::checked_beta_reg;

/// Bits of a mantissa that are kept: eleven decimal digits.
const KEPT_BITS: u32 = 38;

/// z with P(Z > z) = `alpha` for a standard normal Z.
pub fn normal_quantile(alpha: f64) -> f64 {
    let normal = Normal::standard();
    kept(bisected(-40.0, 40.0, |z| normal.sf(z) > alpha))
}

/// P(Z > `z`) for a standard normal Z.
pub(super) fn normal_beyond(z: f64) -> f64 {
    kept(Normal::standard().sf(z))
}

/// t with P(T > t) = `alpha` for Student's T with `freedom` degrees of freedom; `None` where there are none.
pub fn t_quantile(alpha: f64, freedom: u32) -> Option<f64> {
    let t = StudentsT::new(0.0, 1.0, f64::from(freedom)).ok()?;
    let mut far = 1.0;
    while t.sf(far) > alpha.min(1.0 - alpha) && far < 1e15 {
        far *= 2.0;
    }
    Some(kept(bisected(-far, far, |x| t.sf(x) > alpha)))
}

/// P(T > `t`) for Student's T with `freedom` degrees of freedom; `None` where there are none.
pub(super) fn t_beyond(t: f64, freedom: u32) -> Option<f64> {
    Some(kept(StudentsT::new(0.0, 1.0, f64::from(freedom)).ok()?.sf(t)))
}

/// P(X ≤ `hits`) for X ~ Bin(`trials`, `p`), as the incomplete beta function I₁₋ₚ(n − k, k + 1).
pub(super) fn binomial_below(hits: u64, trials: u64, p: f64) -> f64 {
    match statrs::distribution::Binomial::new(p, trials) {
        Ok(binomial) => binomial.cdf(hits),
        Err(_) => f64::NAN,
    }
}

/// p with I_p(a, b) = `level`: the quantile of a beta distribution.
pub(super) fn beta_quantile(level: f64, a: f64, b: f64) -> f64 {
    // Where statrs has no answer the comparison fails and the search ends at zero: `a` and `b` are positive here.
    kept(bisected(0.0, 1.0, |p| checked_beta_reg(a, b, p).is_ok_and(|below| below < level)))
}

/// The place in `low` … `high` where `before` turns from true to false, to the last bit.
fn bisected(mut low: f64, mut high: f64, before: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..1_100 {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if before(middle) { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// `x` to [`KEPT_BITS`] bits.
fn kept(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let (fraction, exponent) = libm::frexp(x);
    libm::ldexp(libm::round(libm::ldexp(fraction, KEPT_BITS as i32)), exponent - KEPT_BITS as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_quantiles_are_those_of_the_tables() {
        let tables = [(0.5, 0.0), (0.1, 1.281_551_565_545), (0.01, 2.326_347_874_041), (0.001, 3.090_232_306_168)];
        for (alpha, z) in tables {
            assert!((normal_quantile(alpha) - z).abs() < 1e-10, "{alpha}: {}", normal_quantile(alpha));
        }
    }

    /// One degree of freedom is the Cauchy distribution, t = cot(πα); two have t = (1 − 2α)/√(2α(1 − α)).
    #[test]
    fn t_quantiles_of_one_and_two_degrees_are_closed_forms() {
        for alpha in [0.25, 0.05, 0.01, 0.001] {
            let cauchy = 1.0 / (std::f64::consts::PI * alpha).tan();
            assert!((t_quantile(alpha, 1).unwrap() / cauchy - 1.0).abs() < 1e-9);
            let two = (1.0 - 2.0 * alpha) / (2.0 * alpha * (1.0 - alpha)).sqrt();
            assert!((t_quantile(alpha, 2).unwrap() / two - 1.0).abs() < 1e-9);
        }
        // The tables: t with 11 degrees of freedom at 1 % is 2.718.
        assert!((t_quantile(0.01, 11).unwrap() - 2.718_079).abs() < 1e-6);
        assert_eq!(t_quantile(0.01, 0), None);
    }

    #[test]
    fn binomial_probabilities_by_hand() {
        // Bin(3, 1/2): 1, 3, 3, 1 eighths.
        for (hits, below) in [(0, 0.125), (1, 0.5), (2, 0.875), (3, 1.0)] {
            assert!((binomial_below(hits, 3, 0.5) - below).abs() < 1e-12);
        }
    }
}
