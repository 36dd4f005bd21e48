//! From the arms of two sides to the bounds on their ratio: both views of one quantile.

use std::collections::BTreeMap;

use super::types::{Interval, Reason};
use crate::random::Stream;
use crate::run_dir::JudgedBy;
use crate::scenario::Quantile;
use crate::stats::{
    Counts, LogBounds, Pool, SignedRank, blocks_to_decide, bootstrap_log_ratio, detectable_effect, expansion,
    hodges_lehmann, least_blocks, log_ratio, normal_quantile, quantile_ranks, resolution,
};

/// The arms of two sides, block by block.
pub(super) struct Sides<'a> {
    /// (quiet, noisy) per block.
    pub(super) arms: Vec<(Counts<'a>, Counts<'a>)>,
    /// (quiet, noisy) over the blocks.
    pub(super) pools: (Pool, Pool),
}

impl<'a> Sides<'a> {
    pub(super) fn new(arms: Vec<(Counts<'a>, Counts<'a>)>) -> Self {
        let (quiet, noisy): (Vec<_>, Vec<_>) = arms.iter().copied().unzip();
        Self { pools: (Pool::new(&quiet), Pool::new(&noisy)), arms }
    }
}

/// Requests beyond a quantile that must be expected, of a single arm or of all that are pooled (verdict.md, "The design").
pub(super) const BEYOND: f64 = 10.0;

/// Levels of one-sided bounds at one look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Levels {
    /// Of each lower bound.
    pub(super) lower: f64,
    /// Of each upper bound.
    pub(super) upper: f64,
    /// More blocks are to come: what calibration found to suffice in all of them need not suffice yet.
    pub(super) early: bool,
}

/// Independent requests beyond a pooled quantile that its upper bound takes, on either side. Ten are expected where requests are
/// independent; half of them leaves room for chance, and shows those that come in clusters: a dozen of one arm say how that
/// arm was, and a bootstrap over blocks that mostly lack it is narrow for want of having seen another.
const APART: f64 = 5.0;

/// What is known of one series at one quantile. Bounds are on the log scale, without ε.
#[derive(Clone)]
pub(super) struct Estimates {
    pub(super) paired: Option<Bounds>,
    pub(super) pooled: Option<Bounds>,
    /// Both views decide, not the pooled one alone.
    both: bool,
    pub(super) quiet_ns: Option<f64>,
    pub(super) noisy_ns: Option<f64>,
    epsilon: f64,
    levels: Levels,
    /// Blocks with requests on both sides.
    blocks: u32,
    /// The side with fewer requests has enough for a bound of the quantile at the level of the lower bounds.
    bounded: bool,
    /// Independent requests that those beyond the quantile are worth, where the pooled view decides alone: of the side with
    /// fewer.
    apart: Option<f64>,
    /// Standard deviation of a block's difference: the larger of the two views.
    deviation: Option<f64>,
}

#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) estimate: f64,
    pub(super) low: Option<f64>,
    pub(super) high: Option<f64>,
}

/// Tables of the signed-rank statistic by number of differences: they are worth keeping.
pub(super) type Tables = BTreeMap<usize, SignedRank>;

/// Both views of one quantile. `deadline_ns` is what a request not served has waited at least; `stream` draws the resamples.
pub(super) fn estimate(
    sides: &Sides<'_>,
    q: Quantile,
    by: JudgedBy,
    levels: Levels,
    deadline_ns: f64,
    stream: &mut Stream,
    tables: &mut Tables,
) -> Estimates {
    let (quiet, noisy) = &sides.pools;
    let mut e = Estimates {
        paired: None,
        pooled: None,
        both: false,
        quiet_ns: quiet.quantile(q),
        noisy_ns: noisy.quantile(q),
        epsilon: 0.0,
        levels,
        blocks: 0,
        bounded: false,
        apart: None,
        deviation: None,
    };
    let requests = quiet.total().min(noisy.total());
    // Were they independent: the least that there must be. The highest of fewer need not reach the quantile.
    let bounded = |level: f64| quantile_ranks(q, requests, level).high.is_some();
    let too_early = levels.early && by == JudgedBy::Pooled && (requests as f64 * (1.0 - q.as_f64())) < BEYOND;
    if by == JudgedBy::TooFew || !bounded(levels.upper) || too_early {
        return e;
    }
    e.bounded = bounded(levels.lower);
    if by == JudgedBy::Pooled {
        e.apart = quiet.beyond(q).zip(noisy.beyond(q)).map(|(quiet, noisy)| quiet.min(noisy));
    }
    let known = [e.quiet_ns, e.noisy_ns].into_iter().flatten();
    e.epsilon = known.map(resolution).fold(0.0, f64::max);
    let pooled = bootstrap_log_ratio(quiet, noisy, q, (levels.lower, levels.upper), deadline_ns, stream);
    let root = libm::sqrt(sides.arms.len() as f64);
    e.deviation = pooled.and_then(|d| d.deviation).map(|d| d * root);
    // Lower bounds lie far out, over a dozen blocks at an early look, and either view may decide: there a percentile is too
    // near. Of the upper bounds the wider one decides.
    let low = |estimate: f64, low: Option<f64>| {
        let further = expansion(levels.lower, sides.arms.len())?;
        low.map(|low| estimate - further * (estimate - low).max(0.0))
    };
    e.pooled = pooled.map(|d| Bounds { estimate: d.estimate, low: low(d.estimate, d.low), high: d.high });
    let both = |(quiet, noisy): &&(Counts<'_>, Counts<'_>)| quiet.total() > 0 && noisy.total() > 0;
    let arms: Vec<_> = sides.arms.iter().filter(both).collect();
    e.blocks = arms.len() as u32;
    if by == JudgedBy::Blocks {
        let ratios: Vec<LogBounds> =
            arms.iter().map(|(quiet, noisy)| log_ratio(quiet.quantile(q), noisy.quantile(q), deadline_ns)).collect();
        let each = |of: fn(&LogBounds) -> f64| -> Vec<f64> { ratios.iter().map(of).collect() };
        let table = tables.entry(ratios.len()).or_insert_with(|| SignedRank::new(ratios.len()));
        let taken = each(|r| r.taken);
        e.paired = hodges_lehmann(&taken).map(|estimate| Bounds {
            estimate,
            low: table.lower(&each(|r| r.least), levels.lower),
            high: table.upper(&each(|r| r.most), levels.upper),
        });
        e.both = true;
        e.deviation = e.deviation.zip(standard_deviation(&taken)).map(|(a, b)| a.max(b));
    }
    e
}

impl Estimates {
    /// With both bounds further away by `amount`, on the log scale.
    pub(super) fn kept_away(&self, amount: f64) -> Self {
        Self { epsilon: self.epsilon + amount, ..self.clone() }
    }

    /// L: the higher of the lower bounds, ε taken off. Their levels are chosen so that either may decide. Below
    /// [`least_blocks`] there is none, as for U, and none of fewer requests than a bound of the quantile takes.
    pub(super) fn lower(&self) -> Option<f64> {
        if self.blocks < least_blocks(self.levels.lower) || !self.bounded {
            return None;
        }
        let bounds = [self.paired, self.pooled].into_iter().flatten().filter_map(|b| b.low);
        bounds.reduce(f64::max).map(|low| low - self.epsilon)
    }

    /// U: the wider of the upper bounds, ε added; unbounded where either is. A bootstrap over a handful of blocks is
    /// narrow because it has seen little: below [`least_blocks`] there is no bound, for the pooled view neither.
    pub(super) fn upper(&self) -> Option<f64> {
        if self.blocks < least_blocks(self.levels.upper) || self.apart.is_some_and(|n| n < APART) {
            return None;
        }
        let pooled = self.pooled?.high?;
        let paired = if self.both { self.paired?.high? } else { pooled };
        Some(pooled.max(paired) + self.epsilon)
    }

    /// What decides: the wider upper and the higher lower bound, as ratios.
    pub(super) fn ratio(&self) -> Option<Interval> {
        self.paired.or(self.pooled).map(|b| interval(b.estimate, self.lower(), self.upper()))
    }

    /// What this run would have found, and how many blocks would decide, of `blocks` that it has: approximations by the
    /// normal formula. `least` are those that the look asks for besides.
    pub(super) fn underpowered(&self, blocks: u32, margin: f64, least: u32) -> Reason {
        let z = normal_quantile(self.levels.upper);
        let detectable = self.deviation.and_then(|sd| detectable_effect(sd, blocks, z, self.epsilon));
        let estimate = [self.paired, self.pooled].into_iter().flatten().map(|b| b.estimate).reduce(f64::max);
        let needed = self.deviation.zip(estimate).and_then(|(sd, estimate)| {
            let distance = margin - estimate;
            let z = if distance > 0.0 { z } else { normal_quantile(self.levels.lower) };
            blocks_to_decide(sd, distance.abs() - self.epsilon, z)
        });
        let least = least.max(least_blocks(self.levels.upper));
        let spread =
            self.apart.filter(|n| *n < APART).map(|n| libm::ceil(f64::from(blocks) * APART / n.max(1.0)) as u32);
        let least = least.max(spread.unwrap_or(0));
        let needed = needed.map(|n| n.max(blocks + 1).max(least)).or((blocks < least).then_some(least));
        Reason::Underpowered { detectable, blocks_needed: needed }
    }
}

/// A ratio from bounds on the log scale.
pub(super) fn interval(estimate: f64, low: Option<f64>, high: Option<f64>) -> Interval {
    Interval { estimate: libm::exp(estimate), low: low.map(libm::exp), high: high.map(libm::exp) }
}

/// A ratio in words: three significant digits, two decimals at most, as reports have it.
pub(super) fn times(ratio: f64) -> String {
    let magnitude = libm::floor(libm::log10(ratio.max(f64::MIN_POSITIVE)));
    let decimals = (2.0 - magnitude).clamp(0.0, 2.0) as usize;
    format!("{ratio:.decimals$}")
}

/// Sample standard deviation; `None` of fewer than two.
pub(super) fn standard_deviation(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
    (values.len() > 1).then(|| libm::sqrt(variance))
}
