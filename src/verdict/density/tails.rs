//! Where the tail of the worst tenant leaves multiples of a lone tenant's.

use super::level::{FIGURES, Level, TOLD};
use super::{Factor, LevelVerdict, LoneTenant};
use crate::plan::Plan;
use crate::random::{Key, Stream};
use crate::scenario::Quantile;
use crate::stats::{Pool, bootstrap_worst_ratio, resolution};
use crate::verdict::cell::deadline_ns;
use crate::verdict::estimate::interval;
use crate::verdict::types::Interval;

/// The multiples; the second is the knee.
const TIMES: [f64; 3] = [1.5, 2.0, 5.0];

/// The worst tenant of `level` at `q` over the worst of `reference`; `None` where either has no latency to tell.
pub(super) fn ratio(plan: &Plan, reference: &Level<'_>, level: &Level<'_>, q: Quantile) -> Option<Interval> {
    if reference.arrangement == level.arrangement {
        level.tails(q)?;
        return Some(Interval { estimate: 1.0, low: Some(1.0), high: Some(1.0) });
    }
    let (reference_pools, pools) = (reference.tails(q)?, level.tails(q)?);
    let name = |level: &Level<'_>| plan.arrangements[level.arrangement].name.as_str();
    let key =
        [Key::Name("density ratio"), Key::Name(name(reference)), Key::Name(name(level)), Key::Number(u64::from(q.0))];
    let mut stream = Stream::new(plan.seed, &key);
    let alpha = (FIGURES / 2.0, FIGURES / 2.0);
    let ratio = bootstrap_worst_ratio(&reference_pools, &pools, q, alpha, deadline_ns(plan), &mut stream)?;
    let known = reference_pools.iter().chain(&pools).filter_map(|pool: &Pool| pool.quantile(q));
    let epsilon = known.map(resolution).fold(0.0, f64::max);
    Some(interval(ratio.estimate, ratio.low.map(|low| low - epsilon), ratio.high.map(|high| high + epsilon)))
}

/// Each multiple, by the ratios of the measured densities.
pub(super) fn factors(levels: &[LevelVerdict]) -> Vec<Factor> {
    let factor = |times: f64| {
        let beyond = |level: &LevelVerdict| {
            level.saturated || level.ratio.and_then(|ratio| ratio.low).is_some_and(|low| low > times)
        };
        let first = levels.iter().position(beyond);
        let within = |level: &&LevelVerdict| {
            !level.saturated && level.ratio.and_then(|ratio| ratio.high).is_some_and(|high| high <= times)
        };
        Factor {
            times,
            within: levels[..first.unwrap_or(levels.len())].iter().rfind(within).map(|level| level.tenants),
            beyond: first.map(|index| levels[index].tenants),
        }
    };
    TIMES.map(factor).to_vec()
}

/// What sharing in this way costs a tenant that is alone, against one that has the GPU for itself.
pub(super) fn lone(plan: &Plan, exclusive: &Level<'_>, against: &str, alone: &Level<'_>) -> Option<LoneTenant> {
    let ratios = TOLD.iter().filter_map(|q| Some((*q, ratio(plan, exclusive, alone, *q)?)));
    let ratios: Vec<(Quantile, Interval)> = ratios.collect();
    (!ratios.is_empty()).then(|| LoneTenant { against: against.to_owned(), ratios })
}
