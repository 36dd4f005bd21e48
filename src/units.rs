//! Quantities with their units in the type: time, bytes, rates and shares.
//!
//! Everything is an integer, so that equal inputs give equal bytes on every machine. Each type prints in the largest
//! unit that represents it exactly and reads back what it prints. Units are written, never guessed: `"2"` is not a
//! duration, `"2ms"` is.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Sub};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A point on a run's time axis, or a length of time, in nanoseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// Later than anything a run can reach.
    pub const MAX: Self = Self(u64::MAX);

    /// `n` microseconds.
    pub const fn micros(n: u64) -> Self {
        Self(n * 1_000)
    }
    /// `n` milliseconds.
    pub const fn millis(n: u64) -> Self {
        Self(n * 1_000_000)
    }
    /// `n` seconds.
    pub const fn secs(n: u64) -> Self {
        Self(n * 1_000_000_000)
    }
    /// The same length in seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
    /// For people, not for reading back: "0 s", "38 µs", "2.09 ms", "40 s", "9 min 24 s", "1 h 21 min". Seconds and minutes
    /// round up, so that what is left of a limit is never told too large.
    pub fn for_people(self) -> String {
        let secs = self.0.div_ceil(1_000_000_000);
        let two = |large: u64, unit: &str, small: u64, below: &str| match small {
            0 => format!("{large} {unit}"),
            _ => format!("{large} {unit} {small} {below}"),
        };
        match secs {
            0 => "0 s".to_owned(),
            _ if self < Self::secs(60) => time_for_people(self.0 as f64),
            1..3_600 => two(secs / 60, "min", secs % 60, "s"),
            _ => {
                let minutes = secs.div_ceil(60);
                two(minutes / 60, "h", minutes % 60, "min")
            }
        }
    }
    /// Difference, zero where `other` is later.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
    /// Sum, [`Nanos::MAX`] where it would overflow.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

// Sums and multiples stop at [`Nanos::MAX`]: a plan of centuries is long, and never short by an overflow.
impl Add for Nanos {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}
impl AddAssign for Nanos {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
impl Sub for Nanos {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}
impl Mul<u64> for Nanos {
    type Output = Self;
    fn mul(self, n: u64) -> Self {
        Self(self.0.saturating_mul(n))
    }
}
impl Div<u64> for Nanos {
    type Output = Self;
    fn div(self, n: u64) -> Self {
        Self(self.0 / n)
    }
}
impl Sum for Nanos {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

/// A latency or a short length of time in its natural unit, with three significant digits and no trailing zeros: "640 ns",
/// "38 µs", "2.09 ms", "1.5 s".
pub(crate) fn time_for_people(ns: f64) -> String {
    let mut value = ns;
    for unit in ["ns", "µs", "ms"] {
        // What would round to 1000 belongs to the next unit.
        if value.abs() < 999.5 {
            return format!("{} {unit}", trimmed(&significant(value, 2)));
        }
        value /= 1_000.0;
    }
    format!("{} s", trimmed(&significant(value, 2)))
}

/// `x` with three significant digits, or with `most` decimals where that is fewer.
pub(crate) fn significant(x: f64, most: usize) -> String {
    let decimals = |x: f64| {
        let magnitude = if x == 0.0 { 0 } else { libm::log10(x.abs()).floor() as i32 };
        (2 - magnitude).clamp(0, most as i32) as usize
    };
    let text = format!("{x:.0$}", decimals(x));
    // 9.996 has two decimals, and 10.00, which it rounds to, has one.
    let rounded = text.parse::<f64>().unwrap_or(x);
    if decimals(rounded) < decimals(x) { format!("{rounded:.0$}", decimals(rounded)) } else { text }
}

/// Without trailing zeros.
pub(crate) fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// An amount of memory or traffic, in bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// `n` KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }
    /// `n` MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
    /// `n` GiB.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }
    /// For people, not for reading back: two decimals of GiB, or of MiB below one GiB.
    pub fn for_people(self) -> String {
        if self >= Self::gib(1) {
            format!("{:.2} GiB", self.0 as f64 / f64::from(1 << 30))
        } else {
            format!("{:.2} MiB", self.0 as f64 / f64::from(1 << 20))
        }
    }
}

/// Events per second, in thousandths.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Rate(pub u64);

impl Rate {
    /// `n` events per second.
    pub const fn per_second(n: u64) -> Self {
        Self(n * 1_000)
    }
    /// Events per second as a number.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1e3
    }
    /// The nearest rate to `per_second` events a second; zero for a negative number or none.
    pub fn from_f64(per_second: f64) -> Self {
        Self((per_second * 1e3).round().max(0.0) as u64)
    }
}

/// A part of a whole, in parts per million (1 % = 10 000). May exceed the whole.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Share(pub u32);

impl Share {
    /// `n` per cent.
    pub const fn percent(n: u32) -> Self {
        Self(n * 10_000)
    }
    /// The share as a fraction of one.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1e6
    }
    /// This share of `whole`, rounded down.
    pub fn of(self, whole: u64) -> u64 {
        (u128::from(whole) * u128::from(self.0) / 1_000_000) as u64
    }
}

/// Text that is not the quantity asked for: what stood there and what would have been right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no {expected}; write for example {example}")]
pub struct UnitError {
    /// What was expected ("duration", "rate", …).
    pub expected: &'static str,
    /// The text found.
    pub found: String,
    /// A right spelling.
    pub example: &'static str,
}

/// Units largest first: (suffix, size in the base unit).
const TIME: &[(&str, u64)] = &[
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];
const SIZE: &[(&str, u64)] = &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads `<decimal><unit>` into the base unit; `None` unless it is exact.
fn parse_scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let (number, suffix) = text.split_at(split);
    let suffix = suffix.trim_start();
    let (_, scale) = units.iter().find(|(name, _)| *name == suffix)?;
    scaled(number, *scale)
}

/// A decimal number times `scale` as an integer; `None` if it is malformed, inexact or too large.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) || fraction.len() > 18 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    let denominator = 10u128.pow(fraction.len() as u32);
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(scale);
    if !part.is_multiple_of(denominator) {
        return None;
    }
    whole.checked_add(u64::try_from(part / denominator).ok()?)
}

/// Prints in the largest unit that divides the value.
fn print_scaled(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let (name, scale) = units
        .iter()
        .find(|(_, scale)| value != 0 && value.is_multiple_of(*scale))
        .unwrap_or(units.last().unwrap_or(&("", 1)));
    f.pad(&format!("{}{name}", value / scale))
}

/// Prints thousandths (or any power of ten below one) without trailing zeros.
fn print_decimal(value: u64, scale: u64) -> String {
    let digits = scale.ilog10() as usize;
    let text = format!("{}.{:0digits$}", value / scale, value % scale);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_scaled(f, self.0, TIME)
    }
}
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_scaled(f, self.0, SIZE)
    }
}
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/s", print_decimal(self.0, 1_000)))
    }
}
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}%", print_decimal(u64::from(self.0), 10_000)))
    }
}

impl FromStr for Nanos {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_scaled(&text.replace("µs", "us"), TIME).map(Self).ok_or_else(|| UnitError {
            expected: "duration",
            found: text.to_owned(),
            example: "\"250ms\" (ns, us, ms, s, min, h)",
        })
    }
}
impl FromStr for Bytes {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_scaled(text, SIZE).map(Self).ok_or_else(|| UnitError {
            expected: "size",
            found: text.to_owned(),
            example: "\"20GiB\" (B, KiB, MiB, GiB, TiB)",
        })
    }
}
impl FromStr for Rate {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        text.strip_suffix("/s").and_then(|number| scaled(number.trim_end(), 1_000)).map(Self).ok_or_else(|| UnitError {
            expected: "rate",
            found: text.to_owned(),
            example: "\"20/s\"",
        })
    }
}
impl FromStr for Share {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        text.strip_suffix('%')
            .and_then(|number| scaled(number.trim_end(), 10_000))
            .and_then(|ppm| u32::try_from(ppm).ok())
            .map(Self)
            .ok_or_else(|| UnitError { expected: "share", found: text.to_owned(), example: "\"50%\"" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_written_never_guessed() {
        for text in ["2", "", "ms", "2 parsecs", "-1ms", "1.ms", ".5ms", "0.5ns", "1e3ms", "99999999999999h"] {
            assert!(text.parse::<Nanos>().is_err(), "{text:?} was taken for a duration");
        }
        assert_eq!("2.5ms".parse(), Ok(Nanos(2_500_000)));
        assert_eq!("100 µs".parse(), Ok(Nanos::micros(100)));
        assert_eq!("1.5GiB".parse(), Ok(Bytes::mib(1536)));
        assert!("20GB".parse::<Bytes>().is_err(), "decimal gigabytes are ambiguous in this field");
        assert_eq!("0.5/s".parse(), Ok(Rate(500)));
        assert_eq!("12.5%".parse(), Ok(Share(125_000)));
        assert_eq!(Share::percent(50).of(101), 50);
    }

    #[test]
    fn times_take_their_natural_unit() {
        for (ns, text) in [
            (640.0, "640 ns"),
            (999.4, "999 ns"),
            (999.6, "1 µs"),
            (4_000.0, "4 µs"),
            (38_120.0, "38.1 µs"),
            (64_960.0, "65 µs"),
            (2_090_000.0, "2.09 ms"),
            (999_600_000.0, "1 s"),
            (1.5e9, "1.5 s"),
            (7.2e12, "7200 s"),
        ] {
            assert_eq!(time_for_people(ns), text);
        }
    }

    #[test]
    fn plans_are_told_in_two_units_rounded_up_and_nothing_is_no_nanosecond() {
        for (length, text) in [
            (Nanos::ZERO, "0 s"),
            (Nanos::millis(400), "400 ms"),
            (Nanos::micros(900_180), "900 ms"),
            (Nanos::secs(59), "59 s"),
            (Nanos::secs(60), "1 min"),
            (Nanos(60_000_000_001), "1 min 1 s"),
            (Nanos::secs(3_599), "59 min 59 s"),
            (Nanos::secs(3_600), "1 h"),
            (Nanos::secs(4_801), "1 h 21 min"),
        ] {
            assert_eq!(length.for_people(), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(n in any::<u64>(), share in any::<u32>()) {
            prop_assert_eq!(Nanos(n).to_string().parse(), Ok(Nanos(n)));
            prop_assert_eq!(Bytes(n).to_string().parse(), Ok(Bytes(n)));
            prop_assert_eq!(Rate(n).to_string().parse(), Ok(Rate(n)));
            prop_assert_eq!(Share(share).to_string().parse(), Ok(Share(share)));
        }
    }
}
