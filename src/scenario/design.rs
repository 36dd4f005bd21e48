//! The design of an experiment: tier of evidence, sizes, judged quantiles, margins.

use serde::{Deserialize, Serialize};

use crate::stats::{blocks_for_share, spent};
use crate::units::{Nanos, Share};

/// Tier of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
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
    /// Injected delay: quiet arms in which every request is held back by a known time, for probes that feel a channel which no
    /// noise inside the victim's own place exercises; none where the mode needs none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub delay: u32,
    /// Sampler: quiet arms without the thread that reads clocks and power, once per arrangement; none in virtual time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sampler: u32,
}

/// Whether a control is left out: runs that were recorded before there was one know nothing of it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(arms: &u32) -> bool {
    *arms == 0
}

/// Rate of false passes that a design spends over all its looks: an Isolated whose truth is at the margin or beyond
/// (verdict.md, "Estimates").
pub const FALSE_PASS: f64 = 0.01;

/// Fewest blocks of an early look that nobody declared: a tenth of the rate of false alarms takes 13 for a Violated among
/// twelve judged series × quantiles, and 16 among a hundred.
const LEAST_EARLY: u32 = 16;

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

    /// π*: an episode that hits at least this share of the arms is seen, or nothing is called Isolated (verdict.md, "The
    /// design").
    pub const fn scope(self) -> f64 {
        match self {
            Self::Smoke => 0.25,
            Self::Acceptance => 0.10,
            Self::Certify => 0.05,
        }
    }

    /// What a scenario of this tier gets where it does not say otherwise.
    ///
    /// Blocks and quantiles are those of docs/verdict.md: 17 blocks see episodes that hit 25 % of the arms; 48 and 100 those
    /// that hit 10 and 5 %, with what earlier looks leave of the error rate (97 are enough). Windows are what the tier's time
    /// budget allows with a dozen neighbours and half a dozen probes.
    pub fn defaults(self) -> Design {
        let (blocks, window, max_window) = match self {
            Self::Smoke => (17, Nanos::millis(250), Nanos::secs(2)),
            Self::Acceptance => (48, Nanos::millis(400), Nanos::secs(4)),
            Self::Certify => (100, Nanos::secs(1), Nanos::secs(10)),
        };
        let mut judged = vec![Quantile::P50, Quantile::P99];
        if self == Self::Certify {
            judged.push(Quantile::P999);
        }
        let (presence, sensitivity, delay, sampler) = match self {
            Self::Smoke => (5, 3, 5, 5),
            Self::Acceptance | Self::Certify => (12, 5, 12, 12),
        };
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
            looks: self.looks(blocks, 4),
            controls: Controls { again: true, presence, sensitivity, delay, sampler },
            max_duration: None,
        }
    }

    /// The looks of a design of so many blocks that says nothing of them: at smoke one, when all is done; else also at a
    /// quarter of the blocks and at half of them, each after a whole generation. The second is put off to where an Isolated
    /// is possible, as long as that saves a quarter of the blocks or more.
    pub(crate) fn looks(self, blocks: u32, per_generation: u32) -> Vec<Look> {
        if self == Self::Smoke {
            return Look::split(&[], blocks);
        }
        let whole = |blocks: u32| blocks.max(LEAST_EARLY).next_multiple_of(per_generation.max(1));
        let (first, half) = (whole(blocks.div_ceil(4)), whole(blocks.div_ceil(2)));
        let spends = Look::split(&[first, half], blocks).get(1).map_or(1.0, |look| look.spends.as_f64());
        let isolated = whole(blocks_for_share(self.scope(), FALSE_PASS * spends));
        let second = if isolated <= blocks - blocks / 4 { half.max(isolated) } else { half };
        Look::split(&[first, second], blocks)
    }
}

impl Look {
    /// Looks after `early` blocks, as far as they lie before all `blocks` and rise, and one at the end. Those before the last
    /// spend three tenths of every error rate together, later ones more than earlier ones: of three looks a tenth, two tenths
    /// and seven tenths.
    pub(super) fn split(early: &[u32], blocks: u32) -> Vec<Self> {
        let mut early: Vec<u32> = early.iter().copied().filter(|at| *at < blocks).collect();
        early.dedup();
        let all = (early.len() * (early.len() + 1) / 2) as u32;
        let mut looks: Vec<Self> = (1..)
            .zip(early)
            .map(|(rank, blocks)| Self { blocks, spends: Share(Share::percent(30).0 * rank / all) })
            .collect();
        let spent: u32 = looks.iter().map(|look| look.spends.0).sum();
        looks.push(Self { blocks, spends: Share(Share::percent(100).0 - spent) });
        looks
    }
}

impl Design {
    /// Generations of a grid that runs to its end.
    pub fn generations(&self) -> u32 {
        self.blocks.div_ceil(self.blocks_per_generation.max(1))
    }

    /// The rate of false passes that each look may spend, of [`FALSE_PASS`] in all. A look before the last one at fewer blocks
    /// than an Isolated of the tier takes there can pass nothing: it spends none, and leaves its part to the last.
    pub fn passes(&self) -> Vec<f64> {
        let mut shares: Vec<u32> = self.looks.iter().map(|look| look.spends.0).collect();
        let Some(last) = shares.len().checked_sub(1) else { return vec![FALSE_PASS] };
        for index in 0..last {
            let level = FALSE_PASS * Share(shares[index]).as_f64();
            if self.looks[index].blocks < blocks_for_share(self.tier.scope(), level) {
                shares[last] += std::mem::take(&mut shares[index]);
            }
        }
        spent(FALSE_PASS, &shares.iter().map(|share| Share(*share).as_f64()).collect::<Vec<_>>())
    }

    /// Leaves to every look one part in `runs` of what it may spend.
    pub(crate) fn share_errors(&mut self, runs: u32) {
        if self.looks.is_empty() {
            self.looks = vec![Look { blocks: self.blocks, spends: Share::percent(100) }];
        }
        for look in &mut self.looks {
            look.spends = Share(look.spends.0 / runs.max(1));
        }
    }

    /// Blocks of a grid that are run when look `look` is taken: as many as it looks at, and the rest of their generation.
    pub fn blocks_by(&self, look: usize) -> u32 {
        let blocks = self.looks.get(look).map_or(self.blocks, |look| look.blocks);
        blocks.next_multiple_of(self.blocks_per_generation.max(1)).min(self.blocks)
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
        assert_eq!(Tier::ALL.iter().map(|t| sizes(*t)).collect::<Vec<_>>(), [(17, 2), (48, 2), (100, 3)]);
    }

    #[test]
    fn looks_are_taken_at_whole_generations_and_spend_everything() {
        let looks = |tier: Tier| tier.defaults().looks.iter().map(|l| (l.blocks, l.spends.0)).collect::<Vec<_>>();
        assert_eq!(looks(Tier::Smoke), [(17, 1_000_000)]);
        assert_eq!(looks(Tier::Acceptance), [(16, 100_000), (24, 200_000), (48, 700_000)]);
        assert_eq!(looks(Tier::Certify), [(28, 100_000), (52, 200_000), (100, 700_000)]);
        // A quarter of sixteen is four, and sixteen are needed: that is the end.
        assert_eq!(Tier::Acceptance.looks(16, 6), [Look { blocks: 16, spends: Share::percent(100) }]);
        // Half of twenty is ten: the two looks are one.
        assert_eq!(Tier::Acceptance.looks(20, 4).len(), 2);
        let design = Design { blocks_per_generation: 5, ..Tier::Acceptance.defaults() };
        assert_eq!([0, 1, 2].map(|look| design.blocks_by(look)), [20, 25, 48], "the rest of a generation is run");
        assert_eq!(design.generations(), 10);
    }

    /// At 48 blocks of acceptance nothing can be called Isolated before the end: 59 blocks at a fifth of 1 %. At 96 it can,
    /// after 60, and the last look keeps what is left.
    #[test]
    fn looks_that_can_pass_nothing_spend_no_passes() {
        let of = |tier: Tier, blocks| {
            let design = Design { blocks, looks: tier.looks(blocks, 4), ..tier.defaults() };
            let levels: Vec<u32> = design.passes().iter().map(|level| (level * 1e5).round() as u32).collect();
            (design.looks.iter().map(|look| look.blocks).collect::<Vec<_>>(), levels)
        };
        assert_eq!(of(Tier::Acceptance, 48), (vec![16, 24, 48], vec![0, 0, 1_000]));
        assert_eq!(of(Tier::Acceptance, 96), (vec![24, 60, 96], vec![0, 200, 800]));
        assert_eq!(of(Tier::Certify, 228), (vec![60, 124, 228], vec![0, 200, 800]));
        assert_eq!(of(Tier::Smoke, 17), (vec![17], vec![1_000]));
        assert_eq!(Design { looks: Vec::new(), ..Tier::Smoke.defaults() }.passes(), [FALSE_PASS]);
    }

    proptest! {
        #[test]
        fn a_quantile_reads_back(n in 1u32..100_000) {
            prop_assert_eq!(Quantile(n).to_string().parse(), Ok(Quantile(n)));
        }
    }
}
