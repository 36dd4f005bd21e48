//! Planned arrival times, generated in advance from a seed.

use crate::random::{Key, Stream};
use crate::units::{Nanos, Rate};

/// The random stream of a probe's arrivals in one block: the same in every arm of it, and in both backends.
pub fn arrival_stream(seed: u64, arrangement: &str, block: u32, probe: &str) -> Stream {
    let key = [Key::Name(arrangement), Key::Number(block.into()), Key::Name(probe), Key::Name("arrivals")];
    Stream::new(seed, &key)
}

/// Planned arrivals in `[0, length)`, rising: a Poisson process of `rate`, or evenly spaced at `1/rate` from half a
/// space on. A zero rate plans nothing.
pub fn arrivals(stream: &mut Stream, rate: Rate, poisson: bool, length: Nanos) -> Vec<Nanos> {
    if rate.0 == 0 {
        return Vec::new();
    }
    let mean = 1e9 / rate.as_f64();
    let mut at = if poisson { mean * stream.exponential() } else { mean / 2.0 };
    let mut planned = Vec::with_capacity((length.0 as f64 / mean * 1.2) as usize + 8);
    while at < length.0 as f64 {
        planned.push(Nanos(at as u64));
        at += if poisson { mean * stream.exponential() } else { mean };
    }
    planned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poisson_has_the_rate_asked_for_and_exponential_gaps() {
        let mut s = Stream::new(3, &[Key::Name("arrivals")]);
        let planned = arrivals(&mut s, Rate::per_second(10_000), true, Nanos::secs(10));
        let n = planned.len() as f64;
        assert!((n - 100_000.0).abs() < 5.0 * n.sqrt(), "{n} arrivals");
        let gaps: Vec<f64> = planned.windows(2).map(|w| (w[1].0 - w[0].0) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let longer = gaps.iter().filter(|g| **g > mean).count() as f64 / gaps.len() as f64;
        assert!((longer - (-1f64).exp()).abs() < 0.01, "an exponential exceeds its mean with probability 1/e");
    }

    #[test]
    fn fixed_is_even_and_zero_plans_nothing() {
        let mut s = Stream::new(3, &[]);
        let planned = arrivals(&mut s, Rate::per_second(1_000), false, Nanos::millis(10));
        assert_eq!(planned.len(), 10);
        assert!(planned.windows(2).all(|w| w[1].0 - w[0].0 == 1_000_000));
        assert!(arrivals(&mut s, Rate(0), true, Nanos::secs(1)).is_empty());
    }
}
