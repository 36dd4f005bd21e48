//! What lies below the verdicts: curves, arms and differences, as charts and tables show them. Pure, and without words.

use std::collections::BTreeMap;

use crate::backend::{ArmKey, ArmSummary, OomEvent, Purpose};
use crate::experiment;
use crate::plan::{Grid, Plan};
use crate::run_dir::{ArmData, JudgedBy, RecordedRun, SeriesData};
use crate::scenario::Quantile;
use crate::stats::{Counts, Durations, rank_bounds};
use crate::verdict::{CellVerdict, RunVerdict, SeriesVerdict};

use super::build::ratio;
use super::format::nine_digits;
use super::model::Ratio;

/// Points of a curve besides the judged quantiles: enough for a smooth line on half a screen.
const POINTS: usize = 32;

/// Level of each side of a curve's interval: together 99 %.
const SIDE: f64 = 0.005;

/// Quantiles of a curve that are told in numbers, beside those judged.
pub(super) const TOLD: &[Quantile] =
    &[Quantile::P50, Quantile(90_000), Quantile::P99, Quantile(99_900), Quantile(99_990)];

/// The quantiles of one arm that are shown over time.
pub(super) const OVER_TIME: [Quantile; 2] = [Quantile::P50, Quantile::P99];

/// What lies below the verdict of one run, per cell in the order of the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Detail {
    pub(super) cells: Vec<CellDetail>,
}

/// What lies below the verdict of one cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct CellDetail {
    /// Its quiet and noisy arms, in the order of the run.
    pub(super) arms: Vec<ArmShown>,
    /// Its series, in the order of the verdict.
    pub(super) series: Vec<SeriesDetail>,
    /// Allocations that failed in its arms.
    pub(super) oom: Vec<OomShown>,
}

/// One arm, whatever was measured in it. Unknown is `None`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ArmShown {
    pub(super) block: u32,
    /// Where it lies, in blocks: its own and those of other neighbours are evenly spaced, for a run keeps no time of day.
    pub(super) at: f64,
    /// Its length on that axis.
    pub(super) length: f64,
    pub(super) noisy: bool,
    pub(super) sm_mhz: Option<f64>,
    pub(super) power_w: Option<f64>,
    /// Part of the time in which the power cap held the clock down.
    pub(super) throttled: Option<f64>,
    /// Requests per second over all of the neighbour's seats.
    pub(super) neighbour_rate: Option<f64>,
}

/// An allocation that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OomShown {
    pub(super) block: u32,
    pub(super) noisy: bool,
    pub(super) event: OomEvent,
}

/// One series of a cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SeriesDetail {
    pub(super) name: String,
    pub(super) quiet: Curve,
    pub(super) noisy: Curve,
    /// Per arm of the cell, the quantiles of [`OVER_TIME`] in nanoseconds; `None`: not measured there, or at +∞.
    pub(super) over_time: Vec<[Option<f64>; 2]>,
    /// Per quantile that is judged by blocks.
    pub(super) differences: Vec<Differences>,
}

/// Quantiles of all arms of a side together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Curve {
    pub(super) points: Vec<CurvePoint>,
    /// Requests, those never served included.
    pub(super) requests: u64,
    /// Requests that were open at the deadline or failed: at +∞ in every quantile.
    pub(super) unserved: u64,
}

/// One quantile in nanoseconds, with its distribution-free interval at 99 % (H. A. David, H. N. Nagaraja, *Order
/// Statistics*, section 7.1), were requests independent. `None`: at +∞, or unbounded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CurvePoint {
    pub(super) quantile: Quantile,
    pub(super) ns: Option<f64>,
    pub(super) low: Option<f64>,
    pub(super) high: Option<f64>,
}

/// Noisy ÷ quiet of one quantile, block by block.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Differences {
    pub(super) quantile: Quantile,
    /// (block, ratio); a ratio without bound is infinite or zero.
    pub(super) ratios: Vec<(u32, f64)>,
    /// Hodges–Lehmann estimate with the signed-rank interval.
    pub(super) estimate: Option<Ratio>,
    /// Margins as ratios: isolated, violated.
    pub(super) margins: (f64, f64),
}

impl Detail {
    /// What lies below the verdict of a run.
    pub fn build(run: &RecordedRun, verdict: &RunVerdict) -> Self {
        let mut pools = Pools::new();
        Self { cells: verdict.cells.iter().map(|cell| one(run, cell, &mut pools)).collect() }
    }
}

/// One arm of a cell, with its place in the run.
struct Placed<'a> {
    grid: usize,
    key: ArmKey,
    arm: &'a ArmData,
    at: f64,
    length: f64,
}

/// Curves of quiet arms by arrangement, grid, blocks pooled and series: the cells of a place share them.
type Pools = BTreeMap<(usize, usize, Vec<u32>, String), Curve>;

fn one(run: &RecordedRun, cell: &CellVerdict, pools: &mut Pools) -> CellDetail {
    let plan = &run.manifest.plan;
    let grids = grids(plan, cell);
    let arms: Vec<Placed<'_>> = grids.iter().flat_map(|(index, grid)| placed(run, cell, *index, grid)).collect();
    let names = names(cell);
    CellDetail {
        series: names.iter().map(|name| series(run, cell, name, &grids, &arms, pools)).collect(),
        oom: arms.iter().flat_map(oom).collect(),
        arms: arms.iter().map(shown).collect(),
    }
}

/// The grids of a cell by their index: those of the victim's seat in which the neighbour has arms.
fn grids<'a>(plan: &'a Plan, cell: &CellVerdict) -> Vec<(usize, &'a Grid)> {
    let Some(arrangement) = plan.arrangements.get(cell.arrangement) else { return Vec::new() };
    let here = |grid: &Grid| {
        arrangement.seats.get(grid.victim).is_some_and(|seat| seat.id == cell.seat)
            && grid.neighbours.contains(&cell.neighbour)
    };
    arrangement.grids.iter().enumerate().filter(|(_, grid)| here(grid)).collect()
}

/// The quiet and noisy arms of one grid that were recorded, in the order of the run.
fn placed<'a>(run: &'a RecordedRun, cell: &CellVerdict, index: usize, grid: &Grid) -> Vec<Placed<'a>> {
    let plan = &run.manifest.plan;
    let blocks: std::collections::BTreeSet<u32> = run
        .arms
        .keys()
        .filter(|key| (key.arrangement, key.grid) == (cell.arrangement, index) && key.block >= grid.first_block)
        .map(|key| key.block)
        .collect();
    let mut arms = Vec::new();
    for block in blocks {
        let order = experiment::order(plan, cell.arrangement, index, block);
        let length = 1.0 / order.len().max(1) as f64;
        for (position, key) in order.into_iter().enumerate() {
            let ours = key.purpose == Purpose::Block && key.neighbour.is_none_or(|n| n == cell.neighbour);
            if let Some(arm) = run.arms.get(&key).filter(|_| ours) {
                let at = f64::from(block) + position as f64 * length;
                arms.push(Placed { grid: index, key, arm, at, length });
            }
        }
    }
    arms
}

/// The names of the series, each once, in the order of the verdict.
fn names(cell: &CellVerdict) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for s in &cell.series {
        if !names.contains(&s.series.as_str()) {
            names.push(&s.series);
        }
    }
    names
}

fn shown(p: &Placed<'_>) -> ArmShown {
    let s: &ArmSummary = &p.arm.summary;
    let noisy = p.key.neighbour.is_some();
    ArmShown {
        block: p.key.block,
        at: p.at,
        length: p.length,
        noisy,
        sm_mhz: s.sm_mhz.and_then(nine_digits),
        power_w: s.power_w.or_else(|| power(s)).and_then(nine_digits),
        throttled: s.throttled.and_then(nine_digits),
        neighbour_rate: (!s.neighbours.is_empty())
            .then(|| s.neighbours.iter().map(|n| n.rate).sum::<f64>())
            .and_then(nine_digits),
    }
}

/// Mean of what the board drew, watts.
fn power(s: &ArmSummary) -> Option<f64> {
    let read: Vec<f64> = s.readings.iter().filter_map(|r| r.power_mw).map(|mw| f64::from(mw) / 1_000.0).collect();
    (!read.is_empty()).then(|| read.iter().sum::<f64>() / read.len() as f64)
}

fn oom<'a>(p: &'a Placed<'_>) -> impl Iterator<Item = OomShown> + 'a {
    let noisy = p.key.neighbour.is_some();
    p.arm.summary.oom.iter().map(move |event| OomShown { block: p.key.block, noisy, event: event.clone() })
}

fn series(
    run: &RecordedRun,
    cell: &CellVerdict,
    name: &str,
    grids: &[(usize, &Grid)],
    arms: &[Placed<'_>],
    pools: &mut Pools,
) -> SeriesDetail {
    let plan = &run.manifest.plan;
    let of_series: Vec<&SeriesVerdict> = cell.series.iter().filter(|s| s.series == name).collect();
    let over_time = arms.iter().map(|p| {
        let counts = p.arm.series.get(name).map(SeriesData::counts);
        OVER_TIME.map(|q| counts.and_then(|counts| counts.quantile(q)).and_then(nine_digits))
    });
    let over_time = over_time.collect();
    let mut detail = SeriesDetail { name: name.to_owned(), over_time, ..SeriesDetail::default() };
    // A probe has its windows in one grid of the victim's place.
    let has = |grid: &Grid| grid.probes.iter().any(|probe| plan.panel[*probe].series.iter().any(|s| s == name));
    let Some((index, grid)) = grids.iter().find(|(_, grid)| has(grid)) else { return detail };
    let pairs = pairs(run, cell, *index, grid, name, arms);
    let blocks: Vec<u32> = pairs.iter().map(|(block, ..)| *block).collect();
    let quantiles: Vec<Quantile> = of_series.iter().map(|s| s.quantile).collect();
    let quiet = (cell.arrangement, *index, blocks, name.to_owned());
    detail.quiet = pools.entry(quiet).or_insert_with(|| curve(pairs.iter().map(|pair| pair.1), &quantiles)).clone();
    detail.noisy = curve(pairs.iter().map(|pair| pair.2), &quantiles);
    let by_blocks = of_series.iter().filter(|s| s.judged == JudgedBy::Blocks);
    detail.differences = by_blocks
        .map(|s| Differences {
            quantile: s.quantile,
            ratios: pairs.iter().filter_map(|(block, quiet, noisy)| difference(*block, quiet, noisy, s)).collect(),
            estimate: s.paired.map(ratio),
            margins: plan.design.margins.of(s.quantile),
        })
        .collect();
    detail
}

/// The blocks that are judged and have both arms, with the series in each.
fn pairs<'a>(
    run: &RecordedRun,
    cell: &CellVerdict,
    index: usize,
    grid: &Grid,
    name: &str,
    arms: &[Placed<'a>],
) -> Vec<(u32, &'a SeriesData, &'a SeriesData)> {
    let design = &run.manifest.plan.design;
    let look = run.stopped.get(&(cell.arrangement, index, cell.neighbour)).and_then(|look| design.looks.get(*look));
    let judged = look.map_or(design.blocks, |look| look.blocks.min(design.blocks));
    let of = |block: u32, neighbour: Option<usize>| -> Option<&'a SeriesData> {
        let here = |p: &&Placed<'a>| p.grid == index && p.key.block == block && p.key.neighbour == neighbour;
        arms.iter().find(here)?.arm.series.get(name)
    };
    (grid.first_block..grid.first_block.saturating_add(judged))
        .filter_map(|block| Some((block, of(block, None)?, of(block, Some(cell.neighbour))?)))
        .collect()
}

fn difference(block: u32, quiet: &SeriesData, noisy: &SeriesData, s: &SeriesVerdict) -> Option<(u32, f64)> {
    let of = |data: &SeriesData| (data.counts().total() > 0).then(|| data.counts().quantile(s.quantile));
    let ratio = match (of(quiet)?, of(noisy)?) {
        (Some(quiet), Some(noisy)) => nine_digits(noisy / quiet)?,
        (Some(_), None) => f64::INFINITY,
        (None, Some(_)) => 0.0,
        (None, None) => return None,
    };
    Some((block, ratio))
}

fn curve<'a>(parts: impl Iterator<Item = &'a SeriesData> + Clone, judged: &[Quantile]) -> Curve {
    let served = Durations::pooled(parts.clone().map(|part| &part.latency));
    let unserved = parts.map(|part| part.censored + part.failed).sum();
    let counts = Counts::new(&served, unserved);
    let points = quantiles(counts.total(), judged).into_iter().map(|quantile| {
        let (low, high) = rank_bounds(counts, quantile, SIDE);
        CurvePoint { quantile, ns: counts.quantile(quantile), low, high }
    });
    Curve { points: points.collect(), requests: counts.total(), unserved }
}

/// Quantiles evenly spaced on the axis of HdrHistogram's plots, ln 1/(1 − q), as far as `requests` reach, and the judged ones.
fn quantiles(requests: u64, judged: &[Quantile]) -> Vec<Quantile> {
    let Some(last) = requests.checked_sub(1).filter(|n| *n > 0) else { return Vec::new() };
    let end = libm::log(last as f64 + 1.0).min(libm::log(1e5));
    let even = (0..=POINTS).map(|i| 1.0 - libm::exp(-end * i as f64 / POINTS as f64));
    let mut all: Vec<Quantile> = even.map(|q| Quantile((q * 1e5).round().clamp(1.0, 99_999.0) as u32)).collect();
    let reached = |q: &&Quantile| (1.0 - q.as_f64()) * requests as f64 >= 1.0;
    all.extend(judged.iter().chain(TOLD).filter(reached));
    all.sort_unstable();
    all.dedup();
    all
}
