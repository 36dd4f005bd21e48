//! Looks at the data: how far a cell is judged, and whether it may stop there.
//!
//! The looks and what each may spend of every error rate are declared before the first arm; the parts add up to the whole,
//! so all looks together err no more often than one alone would (Bonferroni; C. Jennison, B. W. Turnbull, *Group
//! Sequential Methods*, section 2.1, calls the split of α its spending).

use super::cell::{Cell, Controls, Judged};
use super::controls;
use super::estimate::{Levels, Tables};
use super::requirements;
use super::types::{RequirementState, SeriesVerdict, Verdict};
use crate::plan::Plan;
use crate::run_dir::{JudgedBy, RecordedRun};
use crate::scenario::{Design, FALSE_PASS};
use crate::stats::{blocks_for_share, least_blocks, objective_arms, spent};

/// Level of every one-sided bound that an Isolated rests on, all looks together.
pub(super) const ALPHA: f64 = FALSE_PASS;

/// Part of [`ALPHA`] at which upper bounds are drawn. A bootstrap over 17 blocks is a little narrow: at the whole of 1 % a
/// truth on the margin is called Isolated in 0.3 to 0.8 % of synthetic runs, which no affordable number of trials shows to
/// be within 1 %; at half of it they do (the validation grid).
const NOMINAL: f64 = 0.5;

/// Family-wise level of the lower bounds of a cell, two per series × quantile: of the 5 % that false alarms may reach two
/// fifths are kept, for a bootstrap over 17 blocks is narrow far out: at the whole of 5 % the six series of a cell, all on
/// their margin, raise one in 5.1 % of synthetic runs.
pub(super) const FALSE_ALARM: f64 = 0.03;

/// Up to where the arms of a grid are judged beside one neighbour, and what that look may spend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Extent {
    /// Index of the look.
    pub(super) look: usize,
    /// Blocks, from the first of the grid.
    pub(super) blocks: u32,
    /// The rate of errors about an objective, of either kind, that this look may spend.
    pub(super) alpha: f64,
    /// The rate of false passes that it may spend: scopes are said at it. Where it can call nothing Isolated, `alpha`.
    pub(super) passes: f64,
    /// The rate of false alarms of a family that it may spend.
    alarms: f64,
    /// No later look follows.
    pub(super) last: bool,
}

impl Extent {
    /// The extent of a look; beyond the last one, and in a design without any, that of the whole.
    pub(super) fn at(design: &Design, look: usize) -> Self {
        let shares = design.looks.iter().map(|look| look.spends.as_f64());
        let shares: Vec<f64> = if design.looks.is_empty() { vec![1.0] } else { shares.collect() };
        let last = shares.len() - 1;
        let look = look.min(last);
        let of = |level: f64| spent(level, &shares).get(look).copied().unwrap_or(level);
        let alpha = of(ALPHA);
        let passes = design.passes().get(look).copied().filter(|level| *level > 0.0).unwrap_or(alpha);
        let declared = design.looks.get(look).filter(|_| look < last);
        let blocks = declared.map_or(design.blocks, |declared| declared.blocks.min(design.blocks));
        Self { look, blocks, alpha, passes, alarms: of(FALSE_ALARM), last: look == last }
    }

    /// The extent of what was run: to the look at which it stopped, or to its end.
    pub(super) fn of(run: &RecordedRun, arrangement: usize, grid: usize, neighbour: usize) -> Self {
        let stopped = run.stopped.get(&(arrangement, grid, neighbour)).copied();
        Self::at(&run.manifest.plan.design, stopped.unwrap_or(usize::MAX))
    }

    /// The extent of a grid's quiet arms: they go on while any neighbour does.
    pub(super) fn of_quiet(run: &RecordedRun, arrangement: usize, grid: usize) -> Self {
        let plan = &run.manifest.plan;
        let neighbours = plan.arrangements[arrangement].grids.get(grid).map_or(&[][..], |g| &g.neighbours);
        let extents = neighbours.iter().map(|neighbour| Self::of(run, arrangement, grid, *neighbour));
        extents.max_by_key(|extent| extent.look).unwrap_or_else(|| Self::at(&plan.design, usize::MAX))
    }

    /// Levels of the bounds of a family of so many series × quantiles: each lower bound has its part of the family's level,
    /// and either view may decide.
    pub(super) fn levels(&self, family: usize) -> Levels {
        let lower = self.alarms / (2 * family.max(1)) as f64;
        Levels { lower, upper: NOMINAL * self.passes, early: !self.last }
    }

    /// The fewest blocks that an Isolated needs here: before the last look, what the tier's π* takes at the level of this
    /// one. At the last look the scope says what the blocks suffice for.
    pub(super) fn least_for_isolated(&self, plan: &Plan) -> u32 {
        if self.last { 0 } else { blocks_for_share(plan.design.tier.scope(), self.alpha) }
    }
}

/// Looks before the last one that can decide nothing at their number of blocks, as sentences: neither a lower bound exists
/// there for what the panel judges, nor may anything be called Isolated.
pub fn idle_looks(plan: &Plan) -> Vec<String> {
    let judged = plan.design.judged.len() * plan.panel.iter().map(|probe| probe.series.len()).sum::<usize>();
    let idle = |look: usize| {
        let extent = Extent::at(&plan.design, look);
        let levels = extent.levels(judged);
        let alarm = least_blocks(levels.lower);
        let pass = extent.least_for_isolated(plan).max(least_blocks(levels.upper));
        (!extent.last && extent.blocks < alarm.min(pass)).then(|| {
            format!(
                "design.looks: the look after {} blocks can decide nothing: with {judged} judged series × quantiles its part \
                 of the error rates takes {alarm} blocks for a Violated and {pass} for an Isolated; take it after {} blocks \
                 or more, or let it spend more",
                extent.blocks,
                alarm.min(pass),
            )
        })
    };
    (0..plan.design.looks.len()).filter_map(idle).collect()
}

/// Whether every judged series × quantile of a grid is decided beside a neighbour after the blocks of `look` (an index into
/// the design's): then its later blocks need no arm. Pure; later blocks that are there already are not looked at.
///
/// Violated and Isolated are decided; Degraded only where Violated is out of reach too, or nothing follows. A grid without
/// a judged quantile decides nothing. Where objectives are required they must be decided too.
pub fn decided(run: &RecordedRun, arrangement: usize, grid: usize, neighbour: usize, look: usize) -> bool {
    let plan = &run.manifest.plan;
    let Some(cell) = Cell::at_look(run, arrangement, grid, neighbour, look) else { return false };
    let last = Extent::at(&plan.design, look).last;
    let mut tables = Tables::new();
    let Judged { cell: judged, mut slos } = cell.judge(run, &Controls::new(), &mut tables);
    let done = |s: &&SeriesVerdict| match s.verdict {
        Verdict::Isolated | Verdict::Violated => true,
        Verdict::Degraded => {
            let violated = 1.0 + plan.design.margins.of(s.quantile).1;
            // That it is no worse is a proof like an Isolated, and takes its blocks.
            let seen = s.blocks >= Extent::at(&plan.design, look).least_for_isolated(plan);
            last || seen && s.ratio.and_then(|ratio| ratio.high).is_some_and(|high| high < violated)
        }
        Verdict::Inconclusive { .. } | Verdict::Skipped { .. } => false,
    };
    let rows: Vec<&SeriesVerdict> = judged.series.iter().filter(|s| s.judged != JudgedBy::TooFew).collect();
    if rows.is_empty() || !rows.iter().all(done) {
        return false;
    }
    // Objectives that are required and open, beside it or in the quiet arms, which end with the last neighbour, wait for more
    // arms; unless the whole design has too few for them.
    let extent = Extent::at(&plan.design, look);
    let whole = Extent::at(&plan.design, usize::MAX);
    let reachable = whole.blocks as usize >= objective_arms(whole.alpha) && plan.design.generations() > 1;
    if reachable && !last && plan.arrangements[arrangement].require.asks_objectives() {
        slos.extend(cell.quiet_slos(run, Some((grid, extent))));
        requirements::apply_to_slos(run, &mut slos);
        if slos.iter().any(|slo| slo.requirement == RequirementState::Undecided) {
            return false;
        }
    }
    // Of the controls only A/A runs with the blocks. It is asked last, for it takes as long as a cell.
    let again = controls::of_again(run, arrangement, grid, extent, &mut tables);
    let blocked = |s: &&SeriesVerdict| again.blocking(neighbour, &s.series, s.quantile).is_some();
    again.failed.is_none() && !rows.iter().filter(|s| s.verdict == Verdict::Isolated).any(blocked)
}

#[cfg(test)]
mod tests {
    use super::super::synthetic::{Draw, Lab, lognormal};
    use super::super::{Reason, judge};
    use super::*;
    use crate::random::Stream;
    use crate::scenario::{Look, Margins, Tier};
    use crate::units::Share;

    /// 48 blocks with looks after 12, 24 and 48 of them, beside a neighbour that slows everything `ratio`-fold.
    fn run(ratio: f64) -> RecordedRun {
        let slowed =
            |stream: &mut Stream, draw: Draw| lognormal(stream) * if draw.neighbour.is_some() { ratio } else { 1.0 };
        let mut run = Lab { blocks: 48, ..Lab::default() }.run(slowed);
        let look = |blocks, percent| Look { blocks, spends: Share::percent(percent) };
        let design = &mut run.manifest.plan.design;
        design.looks = vec![look(12, 10), look(24, 20), look(48, 70)];
        run
    }

    fn looks(run: &RecordedRun) -> [bool; 3] {
        [0, 1, 2].map(|look| decided(run, 0, 0, 0, look))
    }

    #[test]
    fn what_is_far_beyond_the_margin_is_decided_at_the_first_look() {
        assert_eq!(looks(&run(2.5)), [true, true, true]);
    }

    /// Smoke promises episodes in 25 % of the arms: at 0.2 % that takes ⌈ln 0.002 / ln 0.75⌉ = 22 blocks, at 0.1 % 25.
    #[test]
    fn an_early_isolated_needs_the_blocks_of_its_scope() {
        let mut run = run(1.0);
        assert_eq!(looks(&run), [false, true, true]);
        // Acceptance promises 10 %: 59 blocks at 0.2 %.
        run.manifest.plan.design.tier = Tier::Acceptance;
        assert_eq!(looks(&run), [false, false, true]);
        run.stopped.insert((0, 0, 0), 1);
        let Verdict::Inconclusive { reason: Reason::Underpowered { blocks_needed, .. } } =
            &judge(&run).cells[0].verdict
        else {
            panic!("an early Isolated beyond its scope")
        };
        assert_eq!(*blocks_needed, Some(59));
    }

    /// Between the margins: it may still turn out to be Violated, unless its interval says not.
    #[test]
    fn a_degraded_is_decided_early_only_where_violated_is_out_of_reach() {
        let mut run = run(1.3);
        // And that takes the blocks of the scope: after 12 there are too few.
        assert_eq!(looks(&run), [false, true, true]);
        run.manifest.plan.design.margins =
            Margins { p99: (Share::percent(10), Share::percent(31)), ..Margins::default() };
        assert_eq!(looks(&run), [false, false, true]);
    }

    #[test]
    fn later_blocks_are_not_looked_at() {
        let mut run = run(2.5);
        run.arms.retain(|key, _| key.block < 12);
        assert_eq!(looks(&run), [true, true, true], "missing arms block no Violated");
        let mut run = self::run(1.0);
        run.arms.retain(|key, _| key.block < 24);
        assert_eq!(looks(&run), [false, true, false], "missing arms block Isolated");
        assert!(!decided(&run, 0, 0, 7, 1) && !decided(&run, 0, 3, 0, 1) && !decided(&run, 5, 0, 0, 1));
    }

    /// The final judgement is that of the look: its blocks, and its part of the error rates.
    #[test]
    fn a_stopped_neighbour_is_judged_as_it_was_at_its_look() {
        let mut run = run(1.0);
        let whole = judge(&run);
        assert_eq!((whole.cells[0].decided_after, whole.cells[0].series[0].blocks), (None, 48));
        // The first look, at 12 of 25 blocks, can pass nothing: its tenth is left to the last.
        assert!((whole.cells[0].series[0].level - 0.008).abs() < 1e-12);
        run.stopped.insert((0, 0, 0), 1);
        let early = judge(&run);
        let cell = &early.cells[0];
        assert_eq!((&cell.verdict, cell.decided_after, cell.series[0].blocks), (&Verdict::Isolated, Some(24), 24));
        assert!((cell.series[0].level - 0.002).abs() < 1e-12);
        // π* = 1 − 0.002^(1/24) = 0.228; of the whole 1 − 0.008^(1/48) = 0.096.
        assert!((early.scope_share.unwrap() - 0.2281).abs() < 1e-3, "{:?}", early.scope_share);
        assert!((whole.scope_share.unwrap() - 0.0957).abs() < 1e-3, "{:?}", whole.scope_share);
        // What was measured after it stopped changes nothing.
        run.arms.retain(|key, _| key.block < 24);
        assert_eq!(judge(&run), early);
    }

    /// Twelve blocks and a tenth of 3 %: 0.0015 for the lower bounds of one series × quantile takes ten blocks, and
    /// 0.000 125 of twelve takes thirteen.
    #[test]
    fn looks_that_can_decide_nothing_are_told() {
        let told = |blocks, percent, series: usize| {
            let mut plan = run(1.0).manifest.plan;
            plan.design.looks[0] = Look { blocks, spends: Share::percent(percent) };
            plan.panel[0].series = (0..series).map(|n| n.to_string()).collect();
            idle_looks(&plan)
        };
        assert_eq!(told(10, 10, 1), [""; 0]);
        assert_eq!(told(13, 10, 12), [""; 0]);
        assert_eq!(told(9, 50, 1), [""; 0]);
        for (blocks, series) in [(1, 1), (9, 1), (12, 12)] {
            let told = told(blocks, 10, series);
            assert_eq!(told.len(), 1, "{blocks} {series}");
            assert!(told[0].starts_with(&format!("design.looks: the look after {blocks} blocks can")), "{told:?}");
        }
        assert!(told(12, 10, 12)[0].contains("takes 13 blocks for a Violated and 25 for an Isolated"));
        // The last look is no early one: too few blocks in all are warned of.
        let mut plan = run(1.0).manifest.plan;
        (plan.design.blocks, plan.design.looks) = (4, vec![Look { blocks: 4, spends: Share::percent(100) }]);
        assert_eq!(idle_looks(&plan), [""; 0]);
    }

    /// A neighbour just short of the violated margin: a bootstrap over one block has no width, and would call it Violated.
    #[test]
    fn a_look_at_a_block_or_a_few_calls_nothing_violated() {
        for blocks in 1..10 {
            let mut run = run(3.0);
            run.manifest.plan.design.looks[0].blocks = blocks;
            assert!(!decided(&run, 0, 0, 0, 0), "{blocks}");
            run.stopped.insert((0, 0, 0), 0);
            assert_eq!(judge(&run).cells[0].verdict.word(), "inconclusive", "{blocks}");
        }
    }

    /// 30 requests an arm: calibration expects 14 beyond the p99 in all 48 blocks, and after 24 there are seven.
    #[test]
    fn pooled_quantiles_at_a_look_take_the_requests_of_that_look() {
        let slowed =
            |stream: &mut Stream, draw: Draw| lognormal(stream) * if draw.neighbour.is_some() { 4.0 } else { 1.0 };
        let judged = vec![(crate::scenario::Quantile::P99, JudgedBy::Pooled)];
        let mut run = Lab { blocks: 48, requests: 30, judged, ..Lab::default() }.run(slowed);
        let look = |blocks, percent| Look { blocks, spends: Share::percent(percent) };
        run.manifest.plan.design.looks = vec![look(24, 20), look(36, 20), look(48, 60)];
        assert_eq!(looks(&run), [false, true, true]);
        run.stopped.insert((0, 0, 0), 0);
        assert_eq!(judge(&run).cells[0].verdict, Verdict::Inconclusive { reason: Reason::TooFewRequests });
    }

    /// A smaller part of the error rate is a wider interval: the same data, judged at a look that spends a tenth.
    #[test]
    fn a_look_that_spends_less_is_wider() {
        let bounds = |percent| {
            let mut run = run(1.0);
            run.manifest.plan.design.looks[0].spends = Share::percent(percent);
            run.stopped.insert((0, 0, 0), 0);
            let ratio = judge(&run).cells[0].series[0].paired.unwrap();
            (ratio.low.unwrap(), ratio.high.unwrap())
        };
        let (tenth, whole) = (bounds(10), bounds(100));
        assert!(tenth.0 < whole.0 && tenth.1 > whole.1, "{tenth:?} {whole:?}");
    }
}
