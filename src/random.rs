//! Random streams keyed by what they are for, so that equal seeds give equal bytes whatever else runs or in which order.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// One part of the key of a stream.
#[derive(Clone, Copy, Debug)]
pub enum Key<'a> {
    /// A name: arrangement, series, purpose.
    Name(&'a str),
    /// A number: block, arm, generation.
    Number(u64),
}

/// A stream of random numbers. Transcendental functions come from `libm`, whose results do not depend on the machine.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream for `key` under `seed`: the same key gives the same stream, another key an independent one.
    pub fn new(seed: u64, key: &[Key<'_>]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"crosstalk random stream 1");
        hash.update(seed.to_le_bytes());
        for part in key {
            match part {
                Key::Name(name) => {
                    hash.update([1]);
                    hash.update((name.len() as u64).to_le_bytes());
                    hash.update(name.as_bytes());
                }
                Key::Number(number) => {
                    hash.update([2]);
                    hash.update(number.to_le_bytes());
                }
            }
        }
        Self(ChaCha8Rng::from_seed(hash.finalize().into()))
    }

    /// Uniform 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in 0 … n − 1, without bias that a test could see (Lemire's multiply-shift); 0 for n = 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -libm::log(1.0 - self.uniform())
    }

    /// Standard normal (Box–Muller, one of the pair).
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(2.0 * self.exponential());
        radius * libm::cos(std::f64::consts::TAU * self.uniform())
    }

    /// Puts `items` in random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_its_key() {
        let draw = |seed, key: &[Key<'_>]| Stream::new(seed, key).bits();
        let base = draw(1, &[Key::Name("ab"), Key::Number(7)]);
        assert_eq!(base, draw(1, &[Key::Name("ab"), Key::Number(7)]));
        assert_ne!(base, draw(2, &[Key::Name("ab"), Key::Number(7)]));
        assert_ne!(base, draw(1, &[Key::Name("a"), Key::Name("b"), Key::Number(7)]));
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut s = Stream::new(1, &[Key::Name("moments")]);
        let n = 100_000;
        let mean = |draw: &mut dyn FnMut() -> f64| (0..n).map(|_| draw()).sum::<f64>() / f64::from(n);
        assert!((mean(&mut || s.uniform()) - 0.5).abs() < 0.005);
        assert!((mean(&mut || s.exponential()) - 1.0).abs() < 0.02);
        assert!(mean(&mut || s.normal()).abs() < 0.02);
        assert!((mean(&mut || s.normal().powi(2)) - 1.0).abs() < 0.03);
        assert!((mean(&mut || s.below(5) as f64) - 2.0).abs() < 0.03);
    }
}
