//! Numbers for readers: three significant digits, natural units, and "–" where there is none.

pub(crate) use crate::units::time_for_people as time;
use crate::units::{Share, significant, trimmed};

use super::model::Ratio;

/// What stands where a number would, were there one. The reason is printed beside it.
pub(crate) const NONE: &str = "–";

/// Rounds to nine significant digits: what `libm`, summation order and printing leave uncertain lies below, so equal
/// runs give equal bytes. `None` where there is no finite number.
pub(crate) fn nine_digits(x: f64) -> Option<f64> {
    // The detour through decimal text rounds correctly, which scaling by a power of ten does not.
    if x.is_finite() { format!("{x:.8e}").parse::<f64>().ok().map(|r| if r == 0.0 { 0.0 } else { r }) } else { None }
}

/// A ratio: "1.84", "17.2", "176".
pub(crate) fn ratio(x: f64) -> String {
    significant(x, 2)
}

/// Estimate, lower and upper bound as three texts, so that tables can align them.
pub(crate) fn ratio_parts(r: &Ratio) -> [String; 3] {
    let one = |x: Option<f64>| x.map_or_else(|| NONE.to_owned(), ratio);
    [one(r.estimate), one(r.low), one(r.high)]
}

/// "1.84× [1.80 1.88]"; "< 1.001×" where the whole interval is closer to 1 than three digits can show.
pub(crate) fn ratio_interval(r: &Ratio) -> String {
    if let (Some(low), Some(high)) = (r.low, r.high)
        && low > 0.999
        && high < 1.001
    {
        return "< 1.001×".to_owned();
    }
    let [estimate, low, high] = ratio_parts(r);
    format!("{estimate}× [{low} {high}]")
}

/// A fraction of one as a percentage: "12 %", "0.14 %"; never "0 %" for what is more than nothing.
pub(crate) fn percent(fraction: f64) -> String {
    if !fraction.is_finite() {
        return NONE.to_owned();
    }
    let percent = fraction * 100.0;
    if percent > 0.0 && percent < 0.005 {
        return "< 0.01 %".to_owned();
    }
    let text = significant(percent, 2);
    format!("{} %", trimmed(&text))
}

/// A share as written in a scenario: "12.5 %".
pub(crate) fn share(s: Share) -> String {
    percent(s.as_f64())
}

/// Events per second: "20/s", "1230/s".
pub(crate) fn rate(per_second: f64) -> String {
    let text = significant(per_second, 3);
    format!("{}/s", trimmed(&text))
}

/// "1 block", "24 blocks".
pub(crate) fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("{n} {one}") } else { format!("{n} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn interval(estimate: f64, low: f64, high: f64) -> Ratio {
        Ratio { estimate: Some(estimate), low: Some(low), high: Some(high) }
    }

    #[test]
    fn ratios_carry_three_digits() {
        assert_eq!(ratio_interval(&interval(1.8411, 1.8, 1.8765)), "1.84× [1.80 1.88]");
        assert_eq!(ratio_interval(&interval(175.6, 168.3, 182.7)), "176× [168 183]");
        assert_eq!(ratio(9.994), "9.99");
        assert_eq!(ratio(9.996), "10.0");
        assert_eq!(ratio(99.96), "100");
        assert_eq!(ratio(0.9966), "1.00");
        assert_eq!(ratio(12_345.6), "12346");
    }

    #[test]
    fn an_interval_below_the_printed_digits_is_not_printed_as_a_point() {
        assert_eq!(ratio_interval(&interval(1.0001, 0.9996, 1.0006)), "< 1.001×");
        assert_eq!(ratio_interval(&interval(1.0, 0.995, 1.0006)), "1.00× [0.99 1.00]");
    }

    #[test]
    fn a_missing_number_is_a_dash_and_never_a_zero() {
        let none = Ratio { estimate: Some(2.0), low: Some(1.5), high: None };
        assert_eq!(ratio_interval(&none), "2.00× [1.50 –]");
        assert_eq!(ratio_interval(&Ratio { estimate: None, low: Some(1.5), high: None }), "–× [1.50 –]");
        assert_eq!(percent(f64::NAN), "–");
        assert_eq!(percent(0.000_01), "< 0.01 %");
    }

    #[test]
    fn shares_and_rates() {
        assert_eq!(percent(0.12), "12 %");
        assert_eq!(percent(0.0014), "0.14 %");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(share(Share(125_000)), "12.5 %");
        assert_eq!(rate(20.0), "20/s");
        assert_eq!(rate(0.5), "0.5/s");
    }

    #[test]
    fn numbers_enter_the_model_with_nine_digits() {
        assert_eq!(nine_digits(1.0 / 3.0), Some(0.333_333_333));
        assert_eq!(nine_digits(123_456_789_012.0), Some(123_456_789_000.0));
        assert_eq!(nine_digits(-0.0).map(f64::to_bits), Some(0.0f64.to_bits()), "no minus zero");
        assert_eq!(nine_digits(f64::NAN), None);
        assert_eq!(nine_digits(f64::INFINITY), None);
        // Two orders of one sum differ in the last bits and agree in the model.
        assert_ne!(0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1);
        assert_eq!(nine_digits(0.1 + 0.2 + 0.3), nine_digits(0.3 + 0.2 + 0.1));
    }

    proptest! {
        #[test]
        fn rounding_is_idempotent_and_close(x in prop::num::f64::NORMAL) {
            let once = nine_digits(x);
            prop_assert!(once.is_none_or(|r| ((r - x) / x).abs() <= 5.1e-9));
            prop_assert_eq!(once.and_then(nine_digits), once);
        }
    }
}
