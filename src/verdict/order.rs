//! What the order of the arms shows of the quiet ones: what a noisy arm leaves behind, and drift.

use super::cell::counts;
use super::looks::Extent;
use super::types::Reason;
use crate::backend::ArmKey;
use crate::experiment::order;
use crate::run_dir::RecordedRun;
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

/// Quiet arms after a noisy one against those after a quiet one, in the same block: two quiet arms to a block (A/A), of which
/// only one follows noise. A difference that is significant and larger than half the margin; `None` where none is to be seen.
pub(super) fn carry_over(
    run: &RecordedRun,
    (arrangement, grid): (usize, usize),
    extent: Extent,
    series: &str,
    q: Quantile,
) -> Option<Reason> {
    let plan = &run.manifest.plan;
    let planned = plan.arrangements.get(arrangement)?.grids.get(grid)?;
    if !plan.design.controls.again {
        return None;
    }
    let is_noise = |key: &ArmKey| key.neighbour.is_some_and(|n| plan.neighbours[n].workload != PLACEBO);
    let each = plan.design.blocks_per_generation.max(1);
    let mut differences = Vec::new();
    // The arm before: none after a restart.
    let mut before: Option<ArmKey> = None;
    for block in planned.first_block..planned.first_block + extent.blocks {
        if (block - planned.first_block).is_multiple_of(each) {
            before = None;
        }
        let mut after = [None, None];
        for key in order(plan, arrangement, grid, block) {
            let Some(arm) = run.arms.get(&key) else { continue };
            if let (None, Some(before)) = (key.neighbour, &before) {
                let value = counts(arm, series).quantile(q).map(libm::log);
                after[usize::from(is_noise(before))] = value;
            }
            before = Some(key);
        }
        if let [Some(quiet), Some(noisy)] = after {
            differences.push(noisy - quiet);
        }
    }
    let estimate = hodges_lehmann(&differences)?;
    let table = SignedRank::new(differences.len());
    // Fewer than six differences reach no such level: that all of them point one way is then what can be seen.
    let level = CARRIED.max(0.5f64.powi(differences.len() as i32));
    let slower = table.lower(&differences, level).is_some_and(|low| low > 0.0);
    let faster = table.upper(&differences, level).is_some_and(|high| high < 0.0);
    let large = libm::fabs(estimate) > 0.5 * libm::log1p(plan.design.margins.of(q).0);
    ((slower || faster) && large).then(|| Reason::CarryOver { ratio: libm::exp(estimate) })
}

/// The drift of a quantile of the quiet arms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Drift {
    /// Change of its logarithm from one block to the next.
    pub(super) per_block: f64,
    /// Blocks from the first to the last.
    pub(super) blocks: f64,
}

impl Drift {
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
