//! The design of an experiment: tier of evidence, sizes, judged quantiles, margins.

use serde::{Deserialize, Serialize};

use crate::units::{Nanos, Share};

/// Tier of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Gross violations, within 10 minutes.
    Smoke,
    /// The sign-off, within an hour.
    Acceptance,
    /// Once per model, driver and layout.
    Certify,
}

/// The design of the experiment, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Design {
    /// Tier.
    pub tier: Tier,
    /// Blocks per arrangement, place and panel.
    pub blocks: u32,
    /// Blocks between two restarts of the tenants.
    pub blocks_per_generation: u32,
    /// Length of a window.
    #[serde(rename = "window_ns")]
    pub window: Nanos,
    /// Most that a window may be lengthened to for a slow probe.
    #[serde(rename = "max_window_ns")]
    pub max_window: Nanos,
    /// Shortest washout between arms.
    #[serde(rename = "washout_ns")]
    pub washout: Nanos,
    /// After a window: what is open then is censored.
    #[serde(rename = "drain_ns")]
    pub drain: Nanos,
    /// Judged quantiles, rising.
    pub judged: Vec<Quantile>,
    /// Margins of the verdict.
    pub margins: Margins,
    /// Looks at the data, rising in blocks; the last one is at all of them. Declared before the first arm.
    pub looks: Vec<Look>,
    /// What is run beside the cells to show that they mean something.
    pub controls: Controls,
    /// The longest that the plan may take on a GPU, all places counted; absent: no bound of its own.
    #[serde(rename = "max_duration_ns", default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<Nanos>,
}

/// One look at the data of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// Blocks after which it is taken.
    pub blocks: u32,
    /// Part of every error rate that it may spend; those of all looks add up to the whole.
    pub spends: Share,
}

/// Controls of every grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Controls {
    /// A/A: every block has a second quiet arm.
    pub again: bool,
    /// Presence: arms without the neighbours' processes, one for each of so many generations.
    pub presence: u32,
    /// Sensitivity: pairs of arms with the noise inside the victim's own place, for each neighbour; none where the mode
    /// needs none.
    pub sensitivity: u32,
}

/// A quantile in units of 1/100 000: 50 000 is the median, 99 900 is p99.9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(into = "String", try_from = "String")]
pub struct Quantile(pub u32);

/// Margins as ratios over one, per quantile: (isolated, violated).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Margins {
    /// p50 and every quantile below p95.
    pub p50: (Share, Share),
    /// p95 up to below p99.9.
    pub p99: (Share, Share),
    /// p99.9 and above.
    pub p999: (Share, Share),
}

impl Tier {
    /// Every tier, from the shortest run to the longest.
    pub const ALL: &[Self] = &[Self::Smoke, Self::Acceptance, Self::Certify];

    /// The word as written.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Acceptance => "acceptance",
            Self::Certify => "certify",
        }
    }

    /// The longest that a scenario of this tier should take on a GPU, with one victim place per arrangement (verdict.md,
    /// "The design").
    pub const fn budget(self) -> Nanos {
        match self {
            Self::Smoke => Nanos::secs(10 * 60),
            Self::Acceptance => Nanos::secs(60 * 60),
            Self::Certify => Nanos::secs(10 * 3_600),
        }
    }

    /// What a scenario of this tier gets where it does not say otherwise.
    ///
    /// Blocks and quantiles are those of docs/verdict.md: 17, 48 and 90 blocks see episodes that hit 25, 10 and 5 % of the
    /// arms. Windows are what the tier's time budget allows with a dozen neighbours and half a dozen probes.
    pub fn defaults(self) -> Design {
        let (blocks, window, max_window) = match self {
            Self::Smoke => (17, Nanos::millis(250), Nanos::secs(2)),
            Self::Acceptance => (48, Nanos::millis(400), Nanos::secs(4)),
            Self::Certify => (90, Nanos::secs(1), Nanos::secs(10)),
        };
        let mut judged = vec![Quantile::P50, Quantile::P99];
        if self == Self::Certify {
            judged.push(Quantile::P999);
        }
        Design {
            tier: self,
            blocks,
            blocks_per_generation: 4,
            window,
            max_window,
            washout: Nanos::secs(1),
            drain: Nanos::millis(500),
            judged,
            margins: Margins::default(),
            looks: vec![Look { blocks, spends: Share::percent(100) }],
            controls: Controls::default(),
            max_duration: None,
        }
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.id())
    }
}

impl std::str::FromStr for Tier {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let words = || Self::ALL.iter().map(|t| t.id()).collect::<Vec<_>>().join(", ");
        Self::ALL.iter().copied().find(|t| t.id() == text).ok_or_else(|| format!("{text:?} is none of {}", words()))
    }
}

impl Quantile {
    /// The median.
    pub const P50: Self = Self(50_000);
    /// The 99th percentile.
    pub const P99: Self = Self(99_000);
    /// The 99.9th percentile.
    pub const P999: Self = Self(99_900);

    /// As a fraction of one.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1e5
    }
}

impl std::fmt::Display for Quantile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("p{}.{:03}", self.0 / 1_000, self.0 % 1_000);
        f.pad(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl From<Quantile> for String {
    fn from(q: Quantile) -> Self {
        q.to_string()
    }
}

impl std::str::FromStr for Quantile {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} is no quantile; write for example \"p99\" or \"p99.9\"");
        let digits = text.strip_prefix('p').ok_or_else(error)?;
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let numeric = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty()
            || whole.len() > 2
            || digits.ends_with('.')
            || fraction.len() > 3
            || !numeric(whole)
            || !numeric(fraction)
        {
            return Err(error());
        }
        let value: u32 = format!("{whole}{fraction:0<3}").parse().map_err(|_| error())?;
        if value == 0 { Err(error()) } else { Ok(Self(value)) }
    }
}

impl TryFrom<String> for Quantile {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Margins {
    /// The margins of `q` as ratios over one: (isolated, violated).
    pub fn of(&self, q: Quantile) -> (f64, f64) {
        let (isolated, violated) = match q.0 {
            ..95_000 => self.p50,
            95_000..99_900 => self.p99,
            _ => self.p999,
        };
        (isolated.as_f64(), violated.as_f64())
    }
}

impl Default for Margins {
    /// p50 5 %/25 %, p99 10 %/50 %, p99.9 25 %/100 %.
    fn default() -> Self {
        Self {
            p50: (Share::percent(5), Share::percent(25)),
            p99: (Share::percent(10), Share::percent(50)),
            p999: (Share::percent(25), Share::percent(100)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_are_written_with_a_p() {
        assert_eq!("p99.9".parse(), Ok(Quantile::P999));
        assert_eq!("p50".parse(), Ok(Quantile::P50));
        assert_eq!("p99.990".parse(), Ok(Quantile(99_990)));
        for bad in ["99", "p", "p0", "p100", "p99.", "p9.9999", "p-1", "P99", "p99,9"] {
            assert!(bad.parse::<Quantile>().is_err(), "{bad:?} was taken for a quantile");
        }
    }

    #[test]
    fn tiers_give_the_sizes_of_the_procedure() {
        let sizes = |t: Tier| (t.defaults().blocks, t.defaults().judged.len());
        assert_eq!(Tier::ALL.iter().map(|t| sizes(*t)).collect::<Vec<_>>(), [(17, 2), (48, 2), (90, 3)]);
    }

    proptest! {
        #[test]
        fn a_quantile_reads_back(n in 1u32..100_000) {
            prop_assert_eq!(Quantile(n).to_string().parse(), Ok(Quantile(n)));
        }
    }
}
