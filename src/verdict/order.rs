//! What the order of the arms shows of the quiet ones: what a noisy arm leaves behind, and drift.

use super::cell::counts;
use super::looks::Extent;
use super::types::Reason;
use crate::backend::{ArmKey, Purpose};
use crate::experiment::order;
use crate::run_dir::{JudgedBy, RecordedRun};
use crate::scenario::Quantile;
use crate::stats::{SignedRank, hodges_lehmann, normal_quantile};
use crate::workload::PLACEBO;

/// Level at which a drift counts as seen, on either side.
const SEEN: f64 = 0.005;

/// Level at which a carry-over that is large enough to matter counts as seen. It hides interference, so what is overlooked
/// becomes a false pass: with a carry-over of twice the margin, 17 blocks at a level of 0.5 % overlook it in 2 % of synthetic
/// runs, at 2.5 % in few enough (the validation grid). Where nothing is carried over, an estimate beyond half of the
/// margin takes so much noise that no Isolated is lost by it.
const CARRIED: f64 = 0.025;

/// What was seen of a carry-over.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum CarryOver {
    /// There is one: significant, and larger than half the margin.
    Seen(Reason),
    /// A significant one, no larger than that, as |ln| of the ratio: both bounds keep that distance, for up to so much of the
    /// difference between noisy and quiet arms is its doing.
    Small(f64),
    /// One that matters would have been seen.
    None,
    /// It could not be looked for: no second quiet arm, or too few blocks in which one quiet arm follows noise and the other
    /// does not. Nobody knows.
    NotLooked,
}

/// The quantile at which the quiet arms are watched for one that is judged so: its own, where an arm has it for itself; else
/// the median, which heat and clocks move as they move the tail.
pub(super) fn watched(q: Quantile, by: JudgedBy) -> Quantile {
    if by == JudgedBy::Blocks { q } else { Quantile::P50 }
}

/// Quiet arms after a noisy one against those after a quiet one, in the same block: two quiet arms to a block (A/A), of which
/// only one follows noise.
pub(super) fn carry_over(
    run: &RecordedRun,
    place: (usize, usize),
    extent: Extent,
    series: &str,
    (q, by): (Quantile, JudgedBy),
) -> CarryOver {
    let differences = differences(run, place, extent, series, watched(q, by)).unwrap_or_default();
    let Some(estimate) = hodges_lehmann(&differences) else { return CarryOver::NotLooked };
    let table = SignedRank::new(differences.len());
    let all_one_way = 0.5f64.powi(differences.len() as i32);
    // Too few differences reach no such level: that all of them point one way is then what can be seen.
    let level = CARRIED.max(all_one_way);
    let slower = table.lower(&differences, level).is_some_and(|low| low > 0.0);
    let faster = table.upper(&differences, level).is_some_and(|high| high < 0.0);
    let large = libm::fabs(estimate) > 0.5 * libm::log1p(run.manifest.plan.design.margins.of(q).0);
    match (slower || faster, large) {
        (true, true) => CarryOver::Seen(Reason::CarryOver { ratio: libm::exp(estimate) }),
        // So few may miss one.
        _ if all_one_way > CARRIED => CarryOver::NotLooked,
        (true, false) => CarryOver::Small(libm::fabs(estimate)),
        (false, _) => CarryOver::None,
    }
}

/// ln of a quiet arm after noise ÷ one after quiet, of every block that has both. `None`: no block has two quiet arms.
fn differences(
    run: &RecordedRun,
    (arrangement, grid): (usize, usize),
    extent: Extent,
    series: &str,
    q: Quantile,
) -> Option<Vec<f64>> {
    let plan = &run.manifest.plan;
    let planned = plan.arrangements.get(arrangement)?.grids.get(grid)?;
    if !plan.design.controls.again {
        return None;
    }
    let is_noise = |key: &ArmKey| key.neighbour.is_some_and(|n| plan.neighbours[n].workload != PLACEBO);
    // Decided, and left out from then on: the tenants stay up.
    let stopped = |key: &ArmKey| {
        key.neighbour.is_some_and(|n| {
            let of = Extent::of(run, arrangement, grid, n);
            !of.last && key.block >= planned.first_block + of.blocks
        })
    };
    let each = plan.design.blocks_per_generation.max(1);
    let mut differences = Vec::new();
    // The arm before: none after a restart.
    let mut before: Option<ArmKey> = None;
    for block in planned.first_block..planned.first_block + extent.blocks {
        let keys = order(plan, arrangement, grid, block);
        // Measured anew after an interruption: in another session than the blocks around it.
        let anew = keys.iter().any(|key| run.lost_before.contains_key(key));
        if anew || (block - planned.first_block).is_multiple_of(each) {
            before = None;
        }
        let mut after = [None, None];
        for key in keys {
            let Some(arm) = run.arms.get(&key) else {
                // A lost arm restarts the tenants, and so does whoever goes on after an interruption.
                before = before.filter(|_| stopped(&key));
                continue;
            };
            // Those of other controls are as quiet, and not measured alike.
            let alike = matches!(key.purpose, Purpose::Block | Purpose::Again);
            if let (None, Some(before), true) = (key.neighbour, &before, alike) {
                let value = counts(arm, series).quantile(q).map(libm::log);
                after[usize::from(is_noise(before))] = value;
            }
            before = Some(key);
        }
        if let [Some(quiet), Some(noisy)] = after {
            differences.push(noisy - quiet);
        }
        before = before.filter(|_| !anew);
    }
    Some(differences)
}

/// The drift of a quantile of the quiet arms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Drift {
    /// Change of its logarithm from one block to the next.
    pub(super) per_block: f64,
    /// Blocks from the first to the last.
    pub(super) blocks: f64,
}

/// Fewest blocks whose order can be significant at [`SEEN`]: of six that all rise, Kendall's statistic is 15, of five 10, where
/// 14.7 and 11.5 are needed.
const LEAST: usize = 6;

impl Drift {
    /// Whether a drift of so many values can be seen at all.
    pub(super) fn is_looked_for(values: &[(u32, f64)]) -> bool {
        values.len() >= LEAST
    }

    /// The drift of (block, ln q) where there is one: the median of the slopes between all pairs (H. Theil 1950, P. K. Sen
    /// 1968), where Kendall's statistic of order against value is significant (H. B. Mann 1945).
    pub(super) fn of(values: &[(u32, f64)]) -> Option<Self> {
        let n = values.len() as f64;
        let (mut slopes, mut order) = (Vec::new(), 0i64);
        for (i, (block, value)) in values.iter().enumerate() {
            for (later, other) in &values[i + 1..] {
                slopes.push((other - value) / f64::from(later.abs_diff(*block).max(1)));
                order += i64::from(other > value) - i64::from(other < value);
            }
        }
        let spread = libm::sqrt(n * (n - 1.0) * (2.0 * n + 5.0) / 18.0);
        let seen = (libm::fabs(order as f64) - 1.0) > normal_quantile(SEEN) * spread;
        if slopes.is_empty() || !seen {
            return None;
        }
        let middle = slopes.len() / 2;
        let (_, per_block, _) = slopes.select_nth_unstable_by(middle, f64::total_cmp);
        let blocks = f64::from(values.last()?.0.abs_diff(values.first()?.0));
        Some(Self { per_block: *per_block, blocks })
    }

    /// As a reason, with the share per block.
    pub(super) fn reason(self) -> Reason {
        Reason::Drift { per_block: libm::expm1(self.per_block) }
    }

    /// Over one block more than a quarter of the margin: what the order of a block's arms does shows in their difference.
    pub(super) fn is_steep(self, margin: f64) -> bool {
        libm::fabs(self.per_block) > 0.25 * margin
    }

    /// Over the whole run more than the margin: whoever compares two ends of the run compares nothing. Blocks remove it.
    pub(super) fn is_notable(self, margin: f64) -> bool {
        libm::fabs(self.per_block) * self.blocks > margin
    }
}
