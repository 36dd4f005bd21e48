//! Looks at the data: how far a cell is judged, and whether it may stop there.
//!
//! The looks and what each may spend of every error rate are declared before the first arm; the parts add up to the whole,
//! so all looks together err no more often than one alone would (Bonferroni; C. Jennison, B. W. Turnbull, *Group
//! Sequential Methods*, section 2.1, calls the split of α its spending).

use super::cell::{Cell, Controls};
use super::controls;
use super::estimate::Tables;
use super::types::{SeriesVerdict, Verdict};
use crate::plan::Plan;
use crate::run_dir::{JudgedBy, RecordedRun};
use crate::scenario::Design;
use crate::stats::blocks_for_share;

/// Level of every one-sided bound that an Isolated rests on, all looks together.
pub(super) const ALPHA: f64 = 0.01;

/// Part of [`ALPHA`] at which upper bounds are drawn. A bootstrap over 17 blocks is a little narrow: at the whole of 1 % a
/// truth on the margin is called Isolated in 0.3 to 0.8 % of synthetic runs, which no affordable number of trials shows to
/// be within 1 %; at half of it they do (the validation grid).
const NOMINAL: f64 = 0.5;

/// Up to where the arms of a grid are judged beside one neighbour, and what that look may spend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Extent {
    /// Index of the look.
    pub(super) look: usize,
    /// Blocks, from the first of the grid.
    pub(super) blocks: u32,
    /// Part of every error rate.
    pub(super) spends: f64,
    /// No later look follows.
    pub(super) last: bool,
}

impl Extent {
    /// The extent of a look; beyond the last one, and in a design without any, that of the whole.
    pub(super) fn at(design: &Design, look: usize) -> Self {
        let last = design.looks.len().saturating_sub(1);
        let look = look.min(last);
        match design.looks.get(look) {
            Some(declared) => Self {
                look,
                blocks: if look == last { design.blocks } else { declared.blocks.min(design.blocks) },
                spends: declared.spends.as_f64(),
                last: look == last,
            },
            None => Self { look, blocks: design.blocks, spends: 1.0, last: true },
        }
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

    /// The rate of false passes that this look may spend: scopes are said at it.
    pub(super) fn alpha(&self) -> f64 {
        ALPHA * self.spends
    }

    /// Level of an upper bound at this look.
    pub(super) fn upper(&self) -> f64 {
        NOMINAL * self.alpha()
    }

    /// The fewest blocks that an Isolated needs here: before the last look, what the tier's π* takes at the level of this
    /// one. At the last look the scope says what the blocks suffice for.
    pub(super) fn least_for_isolated(&self, plan: &Plan) -> u32 {
        if self.last { 0 } else { blocks_for_share(plan.design.tier.scope(), self.alpha()) }
    }
}

/// Whether every judged series × quantile of a grid is decided beside a neighbour after the blocks of `look` (an index into
/// the design's): then its later blocks need no arm. Pure; later blocks that are there already are not looked at.
///
/// Violated and Isolated are decided; Degraded only where Violated is out of reach too, or nothing follows. A grid without
/// a judged quantile decides nothing.
pub fn decided(run: &RecordedRun, arrangement: usize, grid: usize, neighbour: usize, look: usize) -> bool {
    let plan = &run.manifest.plan;
    let Some(cell) = Cell::at_look(run, arrangement, grid, neighbour, look) else { return false };
    let last = Extent::at(&plan.design, look).last;
    let mut tables = Tables::new();
    let judged = cell.judge(run, &Controls::new(), &mut tables).cell;
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
    // Of the controls only A/A runs with the blocks. It is asked last, for it takes as long as a cell.
    let again = controls::of_again(run, arrangement, grid, Extent::at(&plan.design, look), &mut tables);
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
        assert!((whole.cells[0].series[0].level - 0.007).abs() < 1e-12);
        run.stopped.insert((0, 0, 0), 1);
        let early = judge(&run);
        let cell = &early.cells[0];
        assert_eq!((&cell.verdict, cell.decided_after, cell.series[0].blocks), (&Verdict::Isolated, Some(24), 24));
        assert!((cell.series[0].level - 0.002).abs() < 1e-12);
        // π* = 1 − 0.002^(1/24) = 0.228; of the whole 1 − 0.007^(1/48) = 0.098.
        assert!((early.scope_share.unwrap() - 0.2281).abs() < 1e-3, "{:?}", early.scope_share);
        assert!((whole.scope_share.unwrap() - 0.0982).abs() < 1e-3, "{:?}", whole.scope_share);
        // What was measured after it stopped changes nothing.
        run.arms.retain(|key, _| key.block < 24);
        assert_eq!(judge(&run), early);
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
