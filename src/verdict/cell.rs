//! From arms to the judgement of a cell: arrangement × victim seat × neighbour.

use std::collections::BTreeMap;

use super::cause::{self, Symptoms};
use super::controls::GridControls;
use super::decide::{Evidence, decide};
use super::estimate::{Estimates, Sides, Tables, estimate, interval};
use super::host;
use super::looks::Extent;
use super::order::{self, CarryOver, Drift};
use super::slo::{self, Rates};
use super::types::{CellVerdict, Reason, RequirementState, SeriesVerdict, SloVerdict, Unwatched, Verdict};
use super::validity::{self, Findings, Issuer};
use crate::backend::{ArmKey, Purpose};
use crate::channel::Channel;
use crate::plan::{Grid, Plan, PlannedArrangement};
use crate::random::{Key, Stream};
use crate::run_dir::{ArmData, JudgedBy, RecordedRun, SeriesData};
use crate::scenario::{Quantile, SharingMode};
use crate::stats::{Counts, Durations};

/// One block of a cell: its quiet and its noisy arm.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    /// Its number in the arrangement.
    pub(super) block: u32,
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
    /// All grids with this victim and this neighbour: panels may be split.
    pub(super) grids: Vec<Part<'a>>,
    /// Judged series × quantiles of the whole cell.
    family: usize,
}

/// What the controls of every grid say, by (arrangement, grid).
pub(super) type Controls = BTreeMap<(usize, usize), GridControls>;

/// A cell as judged, with the objectives beside its neighbour.
pub(super) struct Judged {
    pub(super) cell: CellVerdict,
    pub(super) slos: Vec<SloVerdict>,
}

/// What holds for all rows of a cell.
struct Common<'a> {
    findings: Findings,
    controls: &'a Controls,
    not_awake: bool,
}

/// One grid of a cell, and how far it is judged.
pub(super) struct Part<'a> {
    pub(super) index: usize,
    pub(super) grid: &'a Grid,
    pub(super) extent: Extent,
}

/// One series of a cell, its arms laid side by side.
struct Subject<'a> {
    grid: usize,
    probe: usize,
    series: &'a str,
    judged: Vec<(Quantile, JudgedBy)>,
    pairs: Vec<Pair<'a>>,
    extent: Extent,
    sides: Sides<'a>,
    findings: Findings,
}

/// Why an arrangement did not run.
pub(super) fn skipped(run: &RecordedRun, arrangement: usize) -> Option<&String> {
    run.skipped.get(&arrangement).or(run.manifest.plan.arrangements[arrangement].skipped.as_ref())
}

/// All cells, in plan order, judged but for the placebo and requirements; and the objectives of every place.
pub(super) fn judge_cells(run: &RecordedRun, controls: &Controls) -> (Vec<CellVerdict>, Vec<SloVerdict>) {
    let plan = &run.manifest.plan;
    let all: Vec<(usize, usize, usize)> = plan
        .arrangements
        .iter()
        .enumerate()
        .filter(|(_, a)| a.density.is_none())
        .flat_map(|(index, a)| {
            let places = places(plan, a, skipped(run, index).is_some());
            places.into_iter().map(move |(victim, neighbour)| (index, victim, neighbour))
        })
        .collect();
    let judged = on_all_cores(&all, |(index, victim, neighbour), tables| {
        let cell = Cell::new(run, *index, *victim, *neighbour);
        match skipped(run, *index) {
            Some(reason) => Judged { cell: cell.empty(Verdict::Skipped { reason: reason.clone() }), slos: Vec::new() },
            None => cell.judge(run, controls, tables),
        }
    });
    let (mut cells, mut slos) = (Vec::new(), Vec::new());
    let mut quiet = None;
    for ((index, victim, neighbour), judged) in all.into_iter().zip(judged) {
        if skipped(run, index).is_none() && quiet != Some((index, victim)) {
            quiet = Some((index, victim));
            slos.extend(Cell::new(run, index, victim, neighbour).quiet_slos(run, None));
        }
        cells.push(judged.cell);
        slos.extend(judged.slos);
    }
    (cells, slos)
}

/// What `judge` makes of each item, in their order, whoever of the threads judged it: every cell draws from a stream of its own.
pub(super) fn on_all_cores<T: Sync, R: Send>(items: &[T], judge: impl Fn(&T, &mut Tables) -> R + Sync) -> Vec<R> {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get()).min(items.len()).max(1);
    // In turns: neighbouring cells take about as long as one another.
    let part = |first: usize| {
        let mut tables = Tables::new();
        items.iter().skip(first).step_by(cores).map(|item| judge(item, &mut tables)).collect::<Vec<R>>()
    };
    if cores == 1 {
        return part(0);
    }
    let part = &part;
    let mut parts: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|first| scope.spawn(move || part(first))).collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(part) => part.into_iter(),
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect()
    });
    (0..items.len()).filter_map(|i| parts[i % cores].next()).collect()
}

/// A series of an arm; nothing where it does not occur.
pub(super) fn counts<'a>(arm: &'a ArmData, series: &str) -> Counts<'a> {
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

/// How the declared quantiles of a probe are judged in a grid, as calibration fixed it.
pub(super) fn judged(run: &RecordedRun, arrangement: usize, grid: usize, probe: usize) -> Vec<(Quantile, JudgedBy)> {
    let calibration = run.calibrations.get(&(arrangement, grid));
    let calibration = calibration.and_then(|c| c.probes.iter().find(|p| p.probe == probe));
    let by = |q: Quantile| calibration?.judged.iter().find(|(declared, _)| *declared == q).map(|(_, by)| *by);
    run.manifest.plan.design.judged.iter().map(|q| (*q, by(*q).unwrap_or(JudgedBy::TooFew))).collect()
}

impl<'a> Cell<'a> {
    /// The cell as far as it was run.
    fn new(run: &'a RecordedRun, arrangement_index: usize, victim: usize, neighbour: usize) -> Self {
        let plan = &run.manifest.plan;
        let arrangement = &plan.arrangements[arrangement_index];
        let part = |(index, grid)| Part { index, grid, extent: Extent::of(run, arrangement_index, index, neighbour) };
        let grids = arrangement.grids.iter().enumerate();
        let grids = grids.filter(|(_, g)| g.victim == victim && g.neighbours.contains(&neighbour)).map(part);
        let mut cell =
            Self { plan, arrangement, arrangement_index, victim, neighbour, grids: grids.collect(), family: 0 };
        cell.family = cell.family(run);
        cell
    }

    /// What of it one grid judges after the blocks of a look; `None`: the grid has no such neighbour.
    pub(super) fn at_look(
        run: &'a RecordedRun,
        arrangement: usize,
        grid: usize,
        neighbour: usize,
        look: usize,
    ) -> Option<Self> {
        let plan = &run.manifest.plan;
        let planned = plan.arrangements.get(arrangement)?.grids.get(grid)?;
        let mut cell = Self::new(run, arrangement, planned.victim, neighbour);
        cell.grids.retain(|part| part.index == grid);
        cell.grids.first_mut()?.extent = Extent::at(&plan.design, look);
        Some(cell)
    }

    /// Judged series × quantiles over all its grids: calibration fixed them before the first block.
    fn family(&self, run: &RecordedRun) -> usize {
        let of_probe = |(probe, planned): (usize, &crate::plan::PlannedProbe)| {
            let part = self.grids.iter().find(|part| part.grid.probes.contains(&probe))?;
            let judged = judged(run, self.arrangement_index, part.index, probe);
            Some(judged.iter().filter(|(_, by)| *by != JudgedBy::TooFew).count() * planned.series.len())
        };
        self.plan.panel.iter().enumerate().filter_map(of_probe).sum()
    }

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
            decided_after: None,
            requirement: RequirementState::NotRequired,
            surprises: Vec::new(),
        }
    }

    /// The blocks of one grid that have both arms.
    fn pairs<'b>(&self, run: &'b RecordedRun, part: &Part<'_>) -> Vec<Pair<'b>> {
        let arm = |block: u32, neighbour: Option<usize>| {
            run.arms.get(&ArmKey {
                arrangement: self.arrangement_index,
                grid: part.index,
                block,
                neighbour,
                purpose: Purpose::Block,
            })
        };
        let first = part.grid.first_block;
        (first..first + part.extent.blocks)
            .filter_map(|block| {
                Some(Pair { block, quiet: arm(block, None)?, noisy: arm(block, Some(self.neighbour))? })
            })
            .collect()
    }

    pub(super) fn judge(&self, run: &RecordedRun, controls: &Controls, tables: &mut Tables) -> Judged {
        let of_grid = |part: &Part<'_>| (part.index, self.pairs(run, part));
        let pairs: BTreeMap<usize, Vec<Pair<'_>>> = self.grids.iter().map(of_grid).collect();
        let all: Vec<Pair<'_>> = pairs.values().flatten().copied().collect();
        let planned = self.grids.iter().map(|part| part.extent.blocks as usize).sum();
        let intensity = validity::intensity(self, run, &pairs);
        let findings = validity::of_cell(self, run, &all, planned, &intensity);

        let subjects = self.subjects(run, &pairs);
        let rows: Vec<(&Subject<'_>, Quantile, JudgedBy, Estimates)> = subjects
            .iter()
            .flat_map(|s| s.judged.iter().map(move |(q, by)| (s, *q, *by)))
            .map(|(s, q, by)| (s, q, by, self.estimate(s, q, by, tables)))
            .collect();

        let faster = |q: Quantile, e: &Estimates| {
            e.upper().is_some_and(|upper| upper < -0.5 * libm::log1p(self.plan.design.margins.of(q).0))
        };
        let common = Common {
            not_awake: validity::quiet_clock_is_lower(&all) == Some(true)
                || rows.iter().any(|(_, q, _, e)| faster(*q, e)),
            findings,
            controls,
        };
        let mut cell = self.empty(Verdict::Inconclusive { reason: Reason::Incomplete });
        let (mut drift, mut notes) = (None::<Drift>, common.findings.notes.clone());
        for (subject, q, by, estimates) in &rows {
            let (row, drifts) = self.row(run, subject, *q, *by, estimates, &common);
            cell.series.push(row);
            let steeper = |d: &Drift| drift.is_none_or(|other| d.per_block.abs() > other.per_block.abs());
            drift = drifts.filter(steeper).or(drift);
        }
        // What moved stands; that it moved no further than it did rests on evidence that is not whole.
        let moved = |s: &&SeriesVerdict| matches!(s.verdict, Verdict::Degraded | Verdict::Violated);
        let short = |r: &&Reason| !matches!(r, Reason::Underpowered { .. });
        let blocked = cell.series.iter().filter(moved).filter_map(|s| s.blocked.as_ref()).filter(short);
        for note in blocked.chain(subjects.iter().flat_map(|s| &s.findings.notes)) {
            if !notes.contains(note) {
                notes.push(note.clone());
            }
        }
        cell.notes = notes.into_iter().chain(drift.map(Drift::reason)).collect();
        cell.neighbour_rate = intensity.rate;
        cell.decided_after = self.decided_after();
        let slos = self.slos(&common.findings, &subjects);
        Judged { cell, slos }
    }

    /// The objectives beside the neighbour. Beside an exclusive victim none makes noise: its quiet arms say it all.
    fn slos(&self, findings: &Findings, subjects: &[Subject<'_>]) -> Vec<SloVerdict> {
        if self.arrangement.sharing == SharingMode::Exclusive {
            return Vec::new();
        }
        // The objective is one of the whole request: the probe's first series.
        let first = |s: &&Subject<'_>| self.plan.panel[s.probe].name == s.series;
        let of_subject = |s: &Subject<'_>| {
            let arms: Vec<_> = s.pairs.iter().map(|pair| (self.generation(pair.block), pair.noisy)).collect();
            let probe = &self.plan.panel[s.probe];
            let noisy: Vec<&ArmData> = arms.iter().map(|(_, arm)| *arm).collect();
            let late = |r: &Reason| matches!(r, Reason::LateRequests { .. });
            let sleepy = |r: &Reason| *r == Reason::TooFewCores;
            let late = s.findings.quiet.clone().or_else(|| s.findings.noisy.clone()).filter(late);
            let side = slo::Side {
                plan: self.plan,
                arrangement: self.arrangement_index,
                seat: self.seat(),
                neighbour: Some(self.neighbour),
                rates: Rates::even(s.extent.alpha),
                // A victim that sleeps between looks is slower than it would be: what it meets it meets.
                not_met: findings.noisy.clone().filter(|reason| !sleepy(reason)),
                not_missed: late.or_else(|| findings.noisy.clone().filter(sleepy)),
                arms: slo::held(&arms, &probe.name),
                saturated: slo::saturated(&noisy, Issuer { probe: s.probe, seat: None }, &probe.name),
            };
            side.judge(probe)
        };
        subjects.iter().filter(first).flat_map(of_subject).collect()
    }

    /// The objectives of the victim's place in its quiet arms, over all grids of the place. `at`: those of one grid's probes
    /// after the blocks of a look at it.
    pub(super) fn quiet_slos(&self, run: &RecordedRun, at: Option<(usize, Extent)>) -> Vec<SloVerdict> {
        let mut slos = Vec::new();
        let asked = |probe: usize| at.is_none_or(|(grid, _)| self.arrangement.grids[grid].probes.contains(&probe));
        for (index, probe) in self.plan.panel.iter().enumerate() {
            if probe.slos.is_empty() || !asked(index) {
                continue;
            }
            let grids = self.arrangement.grids.iter().enumerate();
            let grids = grids.filter(|(_, g)| g.victim == self.victim && g.probes.contains(&index));
            let (mut arms, mut extent, mut planned) = (Vec::new(), None, 0);
            for (grid, of) in grids {
                let looked = at.filter(|(at, _)| *at == grid).map(|(_, extent)| extent);
                let whole = looked.unwrap_or_else(|| Extent::of_quiet(run, self.arrangement_index, grid));
                planned += whole.blocks as usize;
                extent = extent.filter(|e: &Extent| e.alpha < whole.alpha).or(Some(whole));
                let key = |block| ArmKey {
                    arrangement: self.arrangement_index,
                    grid,
                    block,
                    neighbour: None,
                    purpose: Purpose::Block,
                };
                let blocks = of.first_block..of.first_block + whole.blocks;
                arms.extend(blocks.filter_map(|b| Some((self.generation(b), run.arms.get(&key(b))?))));
            }
            let Some(extent) = extent else { continue };
            let sleepy = arms.iter().any(|(_, arm)| arm.summary.too_few_cores);
            let issuer = Issuer { probe: index, seat: None };
            let quiet: Vec<&ArmData> = arms.iter().map(|(_, arm)| *arm).collect();
            let late = validity::late(&quiet, issuer, &probe.name);
            let side = slo::Side {
                plan: self.plan,
                arrangement: self.arrangement_index,
                seat: self.seat(),
                neighbour: None,
                rates: Rates::even(extent.alpha),
                not_met: (arms.len() < planned)
                    .then_some(Reason::Incomplete)
                    .or_else(|| validity::lost_while_quiet(run, self.arrangement_index, self.victim)),
                not_missed: late.or(sleepy.then_some(Reason::TooFewCores)),
                arms: slo::held(&arms, &probe.name),
                saturated: slo::saturated(&quiet, issuer, &probe.name),
            };
            slos.extend(side.judge(probe));
        }
        slos
    }

    /// A number that the blocks between two restarts have in common, all grids counted through.
    fn generation(&self, block: u32) -> u64 {
        let starts = self.arrangement.grids.iter().enumerate().filter(|(_, grid)| grid.first_block <= block);
        let (grid, first) = starts.map(|(i, g)| (i, g.first_block)).max_by_key(|(_, first)| *first).unwrap_or((0, 0));
        let each = self.plan.design.blocks_per_generation.max(1);
        (grid as u64) << 32 | u64::from((block - first.min(block)) / each)
    }

    /// Blocks after which all of its grids stopped, where they did before the end.
    fn decided_after(&self) -> Option<u32> {
        let early = !self.grids.is_empty() && self.grids.iter().all(|part| !part.extent.last);
        self.grids.iter().map(|part| part.extent.blocks).max().filter(|_| early)
    }

    /// The series of the cell in the order of the panel, with how each of their quantiles is judged.
    fn subjects<'b>(&self, run: &RecordedRun, pairs: &BTreeMap<usize, Vec<Pair<'b>>>) -> Vec<Subject<'b>>
    where
        'a: 'b,
    {
        let mut subjects = Vec::new();
        for (probe, planned) in self.plan.panel.iter().enumerate() {
            let parts: Vec<&Part<'_>> = self.grids.iter().filter(|part| part.grid.probes.contains(&probe)).collect();
            let Some(first) = parts.first() else { continue };
            let judged = judged(run, self.arrangement_index, first.index, probe);
            let pairs: Vec<Pair<'b>> =
                parts.iter().filter_map(|part| pairs.get(&part.index)).flatten().copied().collect();
            for series in &planned.series {
                let arms = pairs.iter().map(|pair| (counts(pair.quiet, series), counts(pair.noisy, series)));
                subjects.push(Subject {
                    grid: first.index,
                    probe,
                    series,
                    findings: validity::of_series(&pairs, probe, series),
                    sides: Sides::new(arms.collect()),
                    extent: first.extent,
                    pairs: pairs.clone(),
                    judged: judged.clone(),
                });
            }
        }
        subjects
    }

    /// Both views of one series at one quantile.
    fn estimate(&self, subject: &Subject<'_>, q: Quantile, by: JudgedBy, tables: &mut Tables) -> Estimates {
        let key = [
            Key::Name("bootstrap"),
            Key::Name(&self.arrangement.name),
            Key::Name(&self.plan.neighbours[self.neighbour].name),
            Key::Name(subject.series),
            Key::Number(self.victim as u64),
            Key::Number(u64::from(q.0)),
        ];
        let mut stream = Stream::new(self.plan.seed, &key);
        let levels = subject.extent.levels(self.family);
        estimate(&subject.sides, q, by, levels, deadline_ns(self.plan), &mut stream, tables)
    }

    /// A row, and a drift of its quiet arms that must be known and decides nothing.
    fn row(
        &self,
        run: &RecordedRun,
        subject: &Subject<'_>,
        q: Quantile,
        by: JudgedBy,
        e: &Estimates,
        common: &Common<'_>,
    ) -> (SeriesVerdict, Option<Drift>) {
        let probe = &self.plan.panel[subject.probe];
        let (quiet, noisy) = &subject.sides.pools;
        let margins = self.plan.design.margins.of(q);
        let margins = (libm::log1p(margins.0), libm::log1p(margins.1));
        let nothing = match (subject.pairs.is_empty(), e.pooled.is_none()) {
            (true, _) => Some(Reason::Incomplete),
            (false, true) => Some(Reason::TooFewRequests),
            _ => None,
        };
        let holes = by == JudgedBy::Blocks && subject.sides.arms.iter().any(|(q, n)| q.total() == 0 || n.total() == 0);
        let controls = common.controls.get(&(self.arrangement_index, subject.grid));
        // A quarter of the margin, in absolute time.
        let tolerated = e.quiet_ns.map(|ns| 0.25 * ns * self.plan.design.margins.of(q).0);
        let host = tolerated.and_then(|tolerated| host::moved(&subject.pairs, q, tolerated));
        let host_mediated = host.zip(tolerated);
        let host_mediated = host_mediated
            .map(|(moved, tolerated_ns)| Reason::HostMediated { change_ns: moved.change_ns, tolerated_ns });
        let QuietArms { carried, allowance, drift, mut unwatched } = self.quiet_arms(run, subject, q, by);
        let e = e.kept_away(allowance);
        if !host::is_watched(&subject.pairs, self.plan.inventory.provenance) {
            unwatched.push(Unwatched::Host);
        }
        let steep = drift.filter(|d| d.is_steep(margins.0)).map(Drift::reason);
        let blocks = subject.sides.arms.len() as u32;
        let least = subject.extent.least_for_isolated(self.plan);
        let blocking = common
            .findings
            .noisy
            .clone()
            .or_else(|| subject.findings.noisy.clone())
            .or(host_mediated)
            .or(holes.then_some(Reason::TooFewRequests))
            .or_else(|| controls.and_then(|c| c.blocking(self.neighbour, subject.series, q)));
        let underpowered = e.underpowered(blocks, margins.0, least);
        let blocked = blocking
            .clone()
            .or(common.not_awake.then_some(Reason::QuietArmNotAwake))
            .or((blocks < least).then(|| underpowered.clone()));
        let verdict = decide(Evidence {
            invalid: controls
                .and_then(|c| c.failed.clone())
                .or_else(|| common.findings.quiet.clone())
                .or_else(|| subject.findings.quiet.clone())
                .or(carried)
                .or(steep)
                .or(nothing),
            lower: e.lower(),
            // An early Isolated would promise more than its blocks have seen.
            upper: e.upper().filter(|_| blocks >= least),
            margins,
            blocking,
            not_awake: common.not_awake,
            underpowered,
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
                // One that was slower in the quiet arms is no cause of a slower noisy one.
                host: host.filter(|moved| moved.change_ns > 0.0),
                provenance: self.plan.inventory.provenance,
            })
        });
        let issuer = Issuer { probe: subject.probe, seat: None };
        let noisy_arms: Vec<&ArmData> = subject.pairs.iter().map(|pair| pair.noisy).collect();
        let saturated = subject.findings.backlog.and_then(|_| slo::saturated(&noisy_arms, issuer, subject.series));
        // At the user's own load a latency under a growing backlog measures the arm's length, and nothing of the tenant.
        let told = saturated.is_none() || probe.slos.is_empty();
        let row = SeriesVerdict {
            series: subject.series.to_owned(),
            channel: probe.channels.first().copied().unwrap_or(Channel::Host),
            quantile: q,
            judged: by,
            verdict,
            paired: e.paired.filter(|_| told).map(|b| interval(b.estimate, b.low, b.high)),
            pooled: e.pooled.filter(|_| told).map(|b| interval(b.estimate, b.low, b.high)),
            ratio: e.ratio().filter(|_| told),
            quiet_ns: e.quiet_ns,
            noisy_ns: e.noisy_ns.filter(|_| told),
            requests: (quiet.total(), noisy.total()),
            blocks,
            level: subject.extent.passes,
            cause,
            blocked,
            unwatched,
            saturated,
            required: None,
            expected: None,
        };
        (row, drift.filter(|d| d.is_notable(margins.0)))
    }

    /// What the order of the quiet arms shows.
    fn quiet_arms(&self, run: &RecordedRun, subject: &Subject<'_>, q: Quantile, by: JudgedBy) -> QuietArms {
        let place = (self.arrangement_index, subject.grid);
        let mut of = QuietArms::default();
        match order::carry_over(run, place, subject.extent, subject.series, (q, by)) {
            CarryOver::Seen(reason) => of.carried = Some(reason),
            CarryOver::Small(amount) => of.allowance = amount,
            CarryOver::None => {}
            CarryOver::NotLooked => of.unwatched.push(Unwatched::CarryOver),
        }
        let at = order::watched(q, by);
        let quiet = subject.pairs.iter().zip(&subject.sides.arms);
        let values = quiet.filter_map(|(pair, (quiet, _))| Some((pair.block, libm::log(quiet.quantile(at)?))));
        let values: Vec<(u32, f64)> = values.collect();
        if !Drift::is_looked_for(&values) {
            of.unwatched.push(Unwatched::Drift);
        }
        if at != q {
            of.unwatched.push(Unwatched::Tail);
        }
        of.drift = Drift::of(&values);
        of
    }
}

/// What the order of the quiet arms shows, of one series at one quantile.
#[derive(Default)]
struct QuietArms {
    /// What a noisy arm left in them, where it is so much that nothing can be said.
    carried: Option<Reason>,
    /// By how much both bounds keep away from what less of it may have done.
    allowance: f64,
    /// How they drift.
    drift: Option<Drift>,
    /// What could not be looked for.
    unwatched: Vec<Unwatched>,
}

/// The latencies of a series that does not occur.
static NOTHING: Durations = Durations::EMPTY;

/// What a request that was not served has waited at least, nanoseconds.
pub(super) fn deadline_ns(plan: &Plan) -> f64 {
    (plan.design.drain.0 as f64).max(1.0)
}
