//! From arms to the judgement of a cell: arrangement × victim seat × neighbour.

use std::collections::BTreeMap;

use super::ALPHA;
use super::cause::{self, Symptoms};
use super::decide::{Evidence, decide};
use super::types::{CellVerdict, Interval, Reason, RequirementState, SeriesVerdict, Verdict};
use super::validity::{self, Findings};
use crate::backend::{ArmKey, Purpose};
use crate::channel::Channel;
use crate::plan::{Grid, Plan, PlannedArrangement};
use crate::random::{Key, Stream};
use crate::run_dir::{ArmData, JudgedBy, RecordedRun, SeriesData};
use crate::scenario::Quantile;
use crate::stats::{
    Counts, Durations, LogBounds, Pool, SignedRank, blocks_to_decide, bootstrap_log_ratio, detectable_effect,
    hodges_lehmann, log_ratio, min_requests, normal_quantile, resolution,
};

/// Family-wise level of the lower bounds of a cell, two per series × quantile.
const FALSE_ALARM: f64 = 0.05;

/// One block of a cell: its quiet and its noisy arm.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) quiet: &'a ArmData,
    pub(super) noisy: &'a ArmData,
}

/// What a cell is made of.
pub(super) struct Cell<'a> {
    pub(super) plan: &'a Plan,
    pub(super) arrangement: &'a PlannedArrangement,
    pub(super) arrangement_index: usize,
    pub(super) victim: usize,
    pub(super) neighbour: usize,
    /// (index, grid) of all grids with this victim and this neighbour: panels may be split.
    pub(super) grids: Vec<(usize, &'a Grid)>,
}

/// One series of a cell, its arms laid side by side.
struct Subject<'a> {
    probe: usize,
    series: &'a str,
    judged: Vec<(Quantile, JudgedBy)>,
    pairs: Vec<Pair<'a>>,
    /// (quiet, noisy) per block.
    arms: Vec<(Counts<'a>, Counts<'a>)>,
    /// (quiet, noisy) over the blocks.
    pools: (Pool, Pool),
    findings: Findings,
}

/// What is known of one series at one quantile. Bounds are on the log scale, without ε.
#[derive(Default)]
struct Estimates {
    paired: Option<Bounds>,
    pooled: Option<Bounds>,
    /// Both views decide, not the pooled one alone.
    both: bool,
    quiet_ns: Option<f64>,
    noisy_ns: Option<f64>,
    epsilon: f64,
    /// Blocks with requests on both sides.
    blocks: usize,
    /// Standard deviation of a block's difference: the larger of the two views.
    deviation: Option<f64>,
}

#[derive(Clone, Copy)]
struct Bounds {
    estimate: f64,
    low: Option<f64>,
    high: Option<f64>,
}

/// Why an arrangement did not run.
pub(super) fn skipped(run: &RecordedRun, arrangement: usize) -> Option<&String> {
    run.skipped.get(&arrangement).or(run.manifest.plan.arrangements[arrangement].skipped.as_ref())
}

/// All cells, in plan order, judged but for controls across cells and requirements.
pub(super) fn judge_cells(run: &RecordedRun) -> Vec<CellVerdict> {
    let plan = &run.manifest.plan;
    let mut tables = BTreeMap::new();
    let mut cells = Vec::new();
    for (index, arrangement) in plan.arrangements.iter().enumerate() {
        let reason = skipped(run, index);
        for (victim, neighbour) in places(plan, arrangement, reason.is_some()) {
            let grids = arrangement.grids.iter().enumerate();
            let cell = Cell {
                plan,
                arrangement,
                arrangement_index: index,
                victim,
                neighbour,
                grids: grids.filter(|(_, g)| g.victim == victim && g.neighbours.contains(&neighbour)).collect(),
            };
            cells.push(match reason {
                Some(reason) => cell.empty(Verdict::Skipped { reason: reason.clone() }),
                None => cell.judge(run, &mut tables),
            });
        }
    }
    cells
}

/// A series of an arm; nothing where it does not occur.
fn counts<'a>(arm: &'a ArmData, series: &str) -> Counts<'a> {
    arm.series.get(series).map_or(Counts::new(&NOTHING, 0), SeriesData::counts)
}

/// (victim seat, neighbour) of an arrangement's cells, in plan order. One that was skipped before its grids were laid
/// out has a cell per neighbour all the same: what was asked and not run is said, not left out.
fn places(plan: &Plan, arrangement: &PlannedArrangement, skipped: bool) -> Vec<(usize, usize)> {
    let mut places: Vec<(usize, usize)> =
        arrangement.grids.iter().flat_map(|g| g.neighbours.iter().map(|n| (g.victim, *n))).collect();
    if places.is_empty() && skipped {
        places = (0..plan.neighbours.len()).map(|n| (0, n)).collect();
    }
    places.sort_unstable();
    places.dedup();
    places
}

impl<'a> Cell<'a> {
    /// Its name: the seat is named where the victim sits in several.
    fn name(&self) -> String {
        let several = self.arrangement.grids.iter().any(|grid| grid.victim != self.victim);
        let seat = if several { format!("@{}", self.seat()) } else { String::new() };
        format!("{}{seat}/{}", self.arrangement.name, self.plan.neighbours[self.neighbour].name)
    }

    fn seat(&self) -> String {
        self.arrangement.seats.get(self.victim).map_or_else(|| self.victim.to_string(), |seat| seat.id.clone())
    }

    fn empty(&self, verdict: Verdict) -> CellVerdict {
        CellVerdict {
            name: self.name(),
            arrangement: self.arrangement_index,
            seat: self.seat(),
            neighbour: self.neighbour,
            verdict,
            series: Vec::new(),
            worst: None,
            notes: Vec::new(),
            neighbour_rate: None,
            requirement: RequirementState::NotRequired,
            surprises: Vec::new(),
        }
    }

    /// The blocks of one grid that have both arms.
    fn pairs<'b>(&self, run: &'b RecordedRun, grid: usize, first_block: u32) -> Vec<Pair<'b>> {
        let arm = |block: u32, neighbour: Option<usize>| {
            run.arms.get(&ArmKey {
                arrangement: self.arrangement_index,
                grid,
                block,
                neighbour,
                purpose: Purpose::Block,
            })
        };
        (first_block..first_block + self.plan.design.blocks)
            .filter_map(|block| Some(Pair { quiet: arm(block, None)?, noisy: arm(block, Some(self.neighbour))? }))
            .collect()
    }

    fn judge(&self, run: &RecordedRun, tables: &mut BTreeMap<usize, SignedRank>) -> CellVerdict {
        let of_grid = |(index, grid): &(usize, &Grid)| (*index, self.pairs(run, *index, grid.first_block));
        let pairs: BTreeMap<usize, Vec<Pair<'_>>> = self.grids.iter().map(of_grid).collect();
        let all: Vec<Pair<'_>> = pairs.values().flatten().copied().collect();
        let planned = self.grids.len() * self.plan.design.blocks as usize;
        let intensity = validity::intensity(self, run, &pairs);
        let common = validity::of_cell(&all, planned, &intensity);

        let subjects = self.subjects(run, &pairs);
        let judged = |s: &Subject<'_>| s.judged.iter().filter(|(_, by)| *by != JudgedBy::TooFew).count();
        let level = FALSE_ALARM / (2 * subjects.iter().map(judged).sum::<usize>().max(1)) as f64;
        let rows: Vec<(&Subject<'_>, Quantile, JudgedBy, Estimates)> = subjects
            .iter()
            .flat_map(|s| s.judged.iter().map(move |(q, by)| (s, *q, *by)))
            .map(|(s, q, by)| (s, q, by, self.estimate(s, q, by, level, tables)))
            .collect();

        let faster = |q: Quantile, e: &Estimates| {
            e.upper().is_some_and(|upper| upper < -0.5 * libm::log1p(self.plan.design.margins.of(q).0))
        };
        let not_awake =
            validity::quiet_clock_is_lower(&all) == Some(true) || rows.iter().any(|(_, q, _, e)| faster(*q, e));
        let mut cell = self.empty(Verdict::Inconclusive { reason: Reason::Incomplete });
        cell.series = rows
            .iter()
            .map(|(subject, q, by, estimates)| self.row(subject, *q, *by, estimates, &common, not_awake, level))
            .collect();
        cell.neighbour_rate = intensity.rate;
        cell.notes = common.notes;
        for note in subjects.into_iter().flat_map(|s| s.findings.notes) {
            if !cell.notes.contains(&note) {
                cell.notes.push(note);
            }
        }
        cell
    }

    /// The series of the cell in the order of the panel, with how each of their quantiles is judged.
    fn subjects<'b>(&self, run: &RecordedRun, pairs: &BTreeMap<usize, Vec<Pair<'b>>>) -> Vec<Subject<'b>>
    where
        'a: 'b,
    {
        let mut subjects = Vec::new();
        for (probe, planned) in self.plan.panel.iter().enumerate() {
            let grids: Vec<usize> =
                self.grids.iter().filter(|(_, g)| g.probes.contains(&probe)).map(|(index, _)| *index).collect();
            let Some(first) = grids.first() else { continue };
            let calibration = run.calibrations.get(&(self.arrangement_index, *first));
            let calibration = calibration.and_then(|c| c.probes.iter().find(|p| p.probe == probe));
            let by = |q: Quantile| calibration?.judged.iter().find(|(declared, _)| *declared == q).map(|(_, by)| *by);
            let judged: Vec<(Quantile, JudgedBy)> =
                self.plan.design.judged.iter().map(|q| (*q, by(*q).unwrap_or(JudgedBy::TooFew))).collect();
            let pairs: Vec<Pair<'b>> = grids.iter().filter_map(|grid| pairs.get(grid)).flatten().copied().collect();
            for series in &planned.series {
                let arms = |side: fn(&Pair<'b>) -> &'b ArmData| -> Vec<Counts<'b>> {
                    pairs.iter().map(|pair| counts(side(pair), series)).collect()
                };
                let (quiet, noisy) = (arms(|pair| pair.quiet), arms(|pair| pair.noisy));
                subjects.push(Subject {
                    probe,
                    series,
                    findings: validity::of_series(&pairs, probe, series),
                    pools: (Pool::new(&quiet), Pool::new(&noisy)),
                    arms: quiet.into_iter().zip(noisy).collect(),
                    pairs: pairs.clone(),
                    judged: judged.clone(),
                });
            }
        }
        subjects
    }

    /// Both views of one series at one quantile, with one-sided bounds: upper at [`ALPHA`], lower at `level`.
    fn estimate(
        &self,
        subject: &Subject<'_>,
        q: Quantile,
        by: JudgedBy,
        level: f64,
        tables: &mut BTreeMap<usize, SignedRank>,
    ) -> Estimates {
        let (quiet, noisy) = &subject.pools;
        let mut e = Estimates { quiet_ns: quiet.quantile(q), noisy_ns: noisy.quantile(q), ..Estimates::default() };
        let enough = min_requests(q, ALPHA);
        if by == JudgedBy::TooFew || quiet.total() < enough || noisy.total() < enough {
            return e;
        }
        let known = [e.quiet_ns, e.noisy_ns].into_iter().flatten();
        e.epsilon = known.map(resolution).fold(0.0, f64::max);
        let deadline = (self.plan.design.drain.0 as f64).max(1.0);
        let key = [
            Key::Name("bootstrap"),
            Key::Name(&self.arrangement.name),
            Key::Name(&self.plan.neighbours[self.neighbour].name),
            Key::Name(subject.series),
            Key::Number(self.victim as u64),
            Key::Number(u64::from(q.0)),
        ];
        let mut stream = Stream::new(self.plan.seed, &key);
        let pooled = bootstrap_log_ratio(quiet, noisy, q, (level, ALPHA), deadline, &mut stream);
        let root = libm::sqrt(subject.arms.len() as f64);
        e.deviation = pooled.and_then(|d| d.deviation).map(|d| d * root);
        e.pooled = pooled.map(|d| Bounds { estimate: d.estimate, low: d.low, high: d.high });
        let both = |(quiet, noisy): &&(Counts<'_>, Counts<'_>)| quiet.total() > 0 && noisy.total() > 0;
        let arms: Vec<_> = subject.arms.iter().filter(both).collect();
        e.blocks = arms.len();
        if by == JudgedBy::Blocks {
            let ratios: Vec<LogBounds> =
                arms.iter().map(|(quiet, noisy)| log_ratio(quiet.quantile(q), noisy.quantile(q), deadline)).collect();
            let each = |of: fn(&LogBounds) -> f64| -> Vec<f64> { ratios.iter().map(of).collect() };
            let table = tables.entry(ratios.len()).or_insert_with(|| SignedRank::new(ratios.len()));
            let taken = each(|r| r.taken);
            e.paired = hodges_lehmann(&taken).map(|estimate| Bounds {
                estimate,
                low: table.lower(&each(|r| r.least), level),
                high: table.upper(&each(|r| r.most), ALPHA),
            });
            e.both = true;
            e.deviation = e.deviation.zip(standard_deviation(&taken)).map(|(a, b)| a.max(b));
        }
        e
    }

    #[expect(clippy::too_many_arguments, reason = "one row is the meeting point of everything that is known")]
    fn row(
        &self,
        subject: &Subject<'_>,
        q: Quantile,
        by: JudgedBy,
        e: &Estimates,
        common: &Findings,
        not_awake: bool,
        level: f64,
    ) -> SeriesVerdict {
        let probe = &self.plan.panel[subject.probe];
        let (quiet, noisy) = &subject.pools;
        let margins = self.plan.design.margins.of(q);
        let margins = (libm::log1p(margins.0), libm::log1p(margins.1));
        let nothing = match (subject.pairs.is_empty(), e.pooled.is_none()) {
            (true, _) => Some(Reason::Incomplete),
            (false, true) => Some(Reason::TooFewRequests),
            _ => None,
        };
        let holes = by == JudgedBy::Blocks && subject.arms.iter().any(|(q, n)| q.total() == 0 || n.total() == 0);
        let blocking = common.noisy.clone().or_else(|| subject.findings.noisy.clone());
        let verdict = decide(Evidence {
            invalid: common.quiet.clone().or_else(|| subject.findings.quiet.clone()).or(nothing),
            lower: e.lower(),
            upper: e.upper(),
            margins,
            blocking: blocking.or(holes.then_some(Reason::TooFewRequests)),
            not_awake,
            underpowered: e.underpowered(subject.arms.len() as u32, margins.0, level),
        });
        let cause = matches!(verdict, Verdict::Degraded | Verdict::Violated).then(|| {
            cause::of(&Symptoms {
                cell: self,
                channel: probe.channels.first().copied(),
                probe: subject.probe,
                series: subject.series,
                quantile: q,
                pairs: &subject.pairs,
                quiet_ns: e.quiet_ns,
                noisy_ns: e.noisy_ns,
                backlog: subject.findings.backlog,
                provenance: self.plan.inventory.provenance,
            })
        });
        SeriesVerdict {
            series: subject.series.to_owned(),
            channel: probe.channels.first().copied().unwrap_or(Channel::Host),
            quantile: q,
            judged: by,
            verdict,
            paired: e.paired.map(|b| interval(b.estimate, b.low, b.high)),
            pooled: e.pooled.map(|b| interval(b.estimate, b.low, b.high)),
            ratio: e.paired.or(e.pooled).map(|b| interval(b.estimate, e.lower(), e.upper())),
            quiet_ns: e.quiet_ns,
            noisy_ns: e.noisy_ns,
            requests: (quiet.total(), noisy.total()),
            blocks: subject.arms.len() as u32,
            cause,
            required: None,
            expected: None,
        }
    }
}

/// The latencies of a series that does not occur.
static NOTHING: Durations = Durations::EMPTY;

impl Estimates {
    /// L: the higher of the lower bounds, ε taken off. Their levels are chosen so that either may decide.
    fn lower(&self) -> Option<f64> {
        let bounds = [self.paired, self.pooled].into_iter().flatten().filter_map(|b| b.low);
        bounds.reduce(f64::max).map(|low| low - self.epsilon)
    }

    /// U: the wider of the upper bounds, ε added; unbounded where either is. A bootstrap over a handful of blocks is
    /// narrow because it has seen little: below [`least_blocks`] there is no bound, for the pooled view neither.
    fn upper(&self) -> Option<f64> {
        if self.blocks < least_blocks() {
            return None;
        }
        let pooled = self.pooled?.high?;
        let paired = if self.both { self.paired?.high? } else { pooled };
        Some(pooled.max(paired) + self.epsilon)
    }

    /// What this run would have found, and how many blocks would decide: approximations by the normal formula.
    fn underpowered(&self, blocks: u32, margin: f64, level: f64) -> Reason {
        let z = normal_quantile(ALPHA);
        let detectable = self.deviation.and_then(|sd| detectable_effect(sd, blocks, z, self.epsilon));
        let estimate = [self.paired, self.pooled].into_iter().flatten().map(|b| b.estimate).reduce(f64::max);
        let needed = self.deviation.zip(estimate).and_then(|(sd, estimate)| {
            let distance = margin - estimate;
            let z = if distance > 0.0 { z } else { normal_quantile(level) };
            blocks_to_decide(sd, distance.abs() - self.epsilon, z)
        });
        let least = least_blocks() as u32;
        let needed = needed.map(|n| n.max(blocks + 1).max(least)).or((blocks < least).then_some(least));
        Reason::Underpowered { detectable, blocks_needed: needed }
    }
}

/// Fewest blocks for which the exact signed-rank bound at [`ALPHA`] exists: 0.5^n ≤ α, seven at 1 %.
fn least_blocks() -> usize {
    libm::ceil(-libm::log2(ALPHA)) as usize
}

fn interval(estimate: f64, low: Option<f64>, high: Option<f64>) -> Interval {
    Interval { estimate: libm::exp(estimate), low: low.map(libm::exp), high: high.map(libm::exp) }
}

fn standard_deviation(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
    (values.len() > 1).then(|| libm::sqrt(variance))
}
