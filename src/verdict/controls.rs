//! Controls: what shows that the cells of a grid mean something (verdict.md, "Controls").
//!
//! A/A: quiet against quiet must come out Isolated. Presence: a neighbour's idle process against none; sampler: the thread that
//! reads clocks against none. Sensitivity: the same noise inside the victim's own place must move the probe in its service
//! time, else it would not show what comes from outside; where no such noise reaches the channel, an injected delay must be
//! seen for what it is. A control that was planned and lacks arms blocks Isolated: absent is never a pass, and what is left may be what
//! survived.

mod apart;
mod delay;

use std::collections::BTreeMap;

use super::cell::{self, counts, deadline_ns};
use super::estimate::{BEYOND, Sides, Tables, estimate, times};
use super::looks::Extent;
use super::placebo;
use super::types::{Control, ControlOutcome, ControlVerdict, Interval, Reason};
use crate::backend::{ArmKey, Purpose};
use crate::channel::Channel;
use crate::plan::{Grid, Plan, exercised_channels};
use crate::random::{Key, Stream};
use crate::run_dir::{ArmData, JudgedBy, RecordedRun};
use crate::scenario::Quantile;
use crate::stats::{Counts, Durations, log_ratio};
use crate::units::Share;

/// Part of the requests whose device times must be known.
const KNOWN: f64 = 0.9;

/// What the controls of a grid say of its cells.
#[derive(Clone, Debug, Default)]
pub(super) struct GridControls {
    /// Their own verdicts.
    pub(super) rows: Vec<ControlVerdict>,
    /// One moved: nothing can be said of the grid's cells.
    pub(super) failed: Option<Reason>,
    /// One was planned and lacks arms: nothing is called Isolated.
    unmeasured: Option<Reason>,
    /// Quiet against quiet is not decided: this series × quantile is not called Isolated.
    undecided: BTreeMap<(String, Quantile), Reason>,
    /// The channel was not exercised, or an injected delay in its stead not seen: this series beside this neighbour is not
    /// called Isolated.
    unexercised: BTreeMap<(usize, String), Reason>,
}

impl GridControls {
    /// What keeps a series × quantile beside a neighbour from being called Isolated.
    pub(super) fn blocking(&self, neighbour: usize, series: &str, q: Quantile) -> Option<Reason> {
        let unexercised = || self.unexercised.get(&(neighbour, series.to_owned()));
        let undecided = || self.undecided.get(&(series.to_owned(), q));
        unexercised().or_else(undecided).or(self.unmeasured.as_ref()).cloned()
    }
}

/// One grid of a run.
struct Of<'a> {
    run: &'a RecordedRun,
    plan: &'a Plan,
    arrangement: usize,
    index: usize,
    grid: &'a Grid,
}

/// The controls of one grid as far as it was run.
pub(super) fn of_grid(run: &RecordedRun, arrangement: usize, grid: usize, tables: &mut Tables) -> GridControls {
    let mut controls = of_again(run, arrangement, grid, Extent::of_quiet(run, arrangement, grid), tables);
    if let Some(of) = Of::new(run, arrangement, grid).filter(Of::begun) {
        of.presence(&mut controls);
        of.sampler(&mut controls);
        of.sensitivity(&mut controls);
        of.delay(&mut controls);
        if placebo::is_short(run, arrangement, of.grid.victim) {
            controls.unmeasured.get_or_insert(Reason::ControlNotMeasured { control: Control::Placebo });
        }
    }
    controls
}

/// The A/A control of one grid, as far as `extent`.
pub(super) fn of_again(
    run: &RecordedRun,
    arrangement: usize,
    grid: usize,
    extent: Extent,
    tables: &mut Tables,
) -> GridControls {
    let mut controls = GridControls::default();
    if let Some(of) = Of::new(run, arrangement, grid).filter(Of::begun) {
        of.again(extent, tables, &mut controls);
    }
    controls
}

impl<'a> Of<'a> {
    fn new(run: &'a RecordedRun, arrangement: usize, index: usize) -> Option<Self> {
        let plan = &run.manifest.plan;
        let grid = plan.arrangements.get(arrangement)?.grids.get(index)?;
        Some(Self { run, plan, arrangement, index, grid })
    }

    /// Whether the grid has an arm at all: without any its cells are incomplete, and nothing need be said of controls.
    fn begun(&self) -> bool {
        let first = ArmKey {
            arrangement: self.arrangement,
            grid: self.index,
            block: 0,
            neighbour: None,
            purpose: Purpose::Block,
        };
        self.run
            .arms
            .range(first..)
            .next()
            .is_some_and(|(k, _)| (k.arrangement, k.grid) == (self.arrangement, self.index))
    }

    fn arm(&self, block: u32, neighbour: Option<usize>, purpose: Purpose) -> Option<&'a ArmData> {
        let key = ArmKey { arrangement: self.arrangement, grid: self.index, block, neighbour, purpose };
        self.run.arms.get(&key)
    }

    fn row(&self, control: Control, outcome: ControlOutcome, text: String) -> ControlVerdict {
        let seats = &self.plan.arrangements[self.arrangement].seats;
        let seat = seats.get(self.grid.victim).map_or_else(|| self.grid.victim.to_string(), |seat| seat.id.clone());
        ControlVerdict {
            control,
            arrangement: self.arrangement,
            seat,
            grid: Some(self.index),
            neighbour: None,
            probe: None,
            outcome,
            text,
        }
    }

    /// Why a planned control has no arm: it could not be run here, or nobody measured it.
    fn absent(&self, control: Control, purpose: Purpose) -> ControlVerdict {
        match self.run.no_control.get(&(self.arrangement, self.index, purpose)) {
            Some(why) => self.row(control, ControlOutcome::Impossible, why.clone()),
            None => self.row(control, ControlOutcome::NotMeasured, "planned, and arms of it are missing".to_owned()),
        }
    }

    /// (series, quantile, how) of everything that the grid judges.
    fn judged(&self) -> Vec<(&'a str, Quantile, JudgedBy)> {
        let of_probe = |probe: &usize| {
            let judged = cell::judged(self.run, self.arrangement, self.index, *probe);
            let judged: Vec<_> = judged.into_iter().filter(|(_, by)| *by != JudgedBy::TooFew).collect();
            let series = self.plan.panel[*probe].series.iter();
            series
                .flat_map(|s| judged.iter().map(|(q, by)| (s.as_str(), *q, *by)).collect::<Vec<_>>())
                .collect::<Vec<_>>()
        };
        self.grid.probes.iter().flat_map(of_probe).collect()
    }

    fn again(&self, extent: Extent, tables: &mut Tables, controls: &mut GridControls) {
        if !self.plan.design.controls.again {
            return;
        }
        let first = self.grid.first_block;
        let pairs: Vec<(&ArmData, &ArmData)> = (first..first + extent.blocks)
            .filter_map(|block| Some((self.arm(block, None, Purpose::Block)?, self.arm(block, None, Purpose::Again)?)))
            .collect();
        if pairs.is_empty() {
            let row = self.absent(Control::Again, Purpose::Again);
            if row.outcome == ControlOutcome::NotMeasured {
                controls.unmeasured = Some(Reason::ControlNotMeasured { control: Control::Again });
            }
            controls.rows.push(row);
            return;
        }
        let judged = self.judged();
        let levels = extent.levels(judged.len());
        let (mut moved, mut open, mut worst) = (Vec::new(), Vec::new(), None::<(f64, String)>);
        let mut needed = Some(0);
        for (series, q, by) in judged {
            let sides = Sides::new(pairs.iter().map(|(a, b)| (counts(a, series), counts(b, series))).collect());
            let name = &self.plan.arrangements[self.arrangement].name;
            let key = [
                Key::Name("a-a bootstrap"),
                Key::Name(name),
                Key::Name(series),
                Key::Number(self.index as u64),
                Key::Number(u64::from(q.0)),
            ];
            let mut stream = Stream::new(self.plan.seed, &key);
            let e = estimate(&sides, q, by, levels, deadline_ns(self.plan), &mut stream, tables);
            let margin = libm::log1p(self.plan.design.margins.of(q).0);
            // An arm without requests would have counted as one that agrees.
            let empty = |(a, b): &(Counts<'_>, Counts<'_>)| a.total() == 0 || b.total() == 0;
            let holes = by == JudgedBy::Blocks && sides.arms.iter().any(empty);
            let text = e.ratio().map_or_else(|| "no requests".to_owned(), words);
            let slower = e.lower().is_some_and(|low| low > margin);
            let faster = e.upper().is_some_and(|high| high < -0.5 * margin);
            if slower || faster {
                moved.push(format!("{series} {q} {text}"));
            } else if !holes && e.upper().is_some_and(|high| high < margin) {
                let size = e.ratio().map_or(0.0, |r| libm::fabs(libm::log(r.estimate)));
                if worst.as_ref().is_none_or(|(other, _)| size > *other) {
                    worst = Some((size, format!("{series} {q} {text}")));
                }
            } else {
                let reason = e.underpowered(pairs.len() as u32, margin, 0);
                if let Reason::Underpowered { detectable, blocks_needed } = reason {
                    needed = needed.zip(blocks_needed).map(|(a, b): (u32, u32)| a.max(b));
                    let reason = Reason::ControlUndecided { control: Control::Again, detectable, blocks_needed };
                    controls.undecided.insert((series.to_owned(), q), reason);
                }
                open.push(format!("{series} {q} {text}"));
            }
        }
        let blocks = pairs.len() as u32;
        let short = blocks < extent.blocks;
        if short {
            controls.unmeasured = Some(Reason::ControlNotMeasured { control: Control::Again });
        }
        let (outcome, text) = if !moved.is_empty() {
            controls.failed = Some(Reason::ControlFailed { control: Control::Again });
            (ControlOutcome::Failed, format!("quiet against quiet moved over {blocks} blocks: {}", moved.join(", ")))
        } else if !open.is_empty() {
            let decide = needed.map_or_else(
                || "how many blocks would decide, the data cannot say".to_owned(),
                |n| format!("about {n} blocks would decide"),
            );
            let open = open.join(", ");
            (
                ControlOutcome::Undecided,
                format!("quiet against quiet is too wide after {blocks} blocks: {open}; {decide}"),
            )
        } else if short {
            (ControlOutcome::NotMeasured, format!("{blocks} of {} pairs of quiet arms were recorded", extent.blocks))
        } else if let Some((_, worst)) = worst {
            (
                ControlOutcome::Passed,
                format!("quiet against quiet within the margins over {blocks} blocks, worst {worst}"),
            )
        } else {
            (ControlOutcome::Undecided, "nothing is judged here".to_owned())
        };
        controls.rows.push(self.row(Control::Again, outcome, text));
    }

    /// The noise inside the victim's own place must move every probe that feels one of its channels.
    fn sensitivity(&self, controls: &mut GridControls) {
        // Of fewer than planned, those that are there may be the ones that survived.
        let planned_pairs = self.plan.sensitivity(self.arrangement, self.index).max(1) as usize;
        for neighbour in self.plan.exercised(self.arrangement, self.index) {
            let noise = &self.plan.neighbours[neighbour];
            let first = self.grid.first_block;
            let pairs: Vec<(&ArmData, &ArmData)> = (first..first + self.plan.design.controls.sensitivity)
                .filter_map(|block| {
                    let quiet = self.arm(block, None, Purpose::Within)?;
                    Some((quiet, self.arm(block, Some(neighbour), Purpose::Within)?))
                })
                .collect();
            for probe in &self.grid.probes {
                let planned = &self.plan.panel[*probe];
                let channels = exercised_channels(planned, noise);
                let Some(channel) = channels.first().copied() else { continue };
                let mut block = |reason: &Reason| {
                    for series in &planned.series {
                        controls.unexercised.insert((neighbour, series.clone()), reason.clone());
                    }
                };
                let row = if pairs.len() < planned_pairs {
                    let row = self.absent(Control::Sensitivity, Purpose::Within);
                    if row.outcome == ControlOutcome::NotMeasured {
                        block(&Reason::ControlNotMeasured { control: Control::Sensitivity });
                    }
                    row
                } else {
                    let (moved, text) = self.moved(*probe, noise.duty, &channels, &pairs);
                    let through = channels.iter().map(Channel::to_string).collect::<Vec<_>>().join(", ");
                    if moved {
                        self.row(Control::Sensitivity, ControlOutcome::Passed, format!("{text}, through {through}"))
                    } else {
                        block(&Reason::ChannelNotExercised { channel });
                        let text = format!("{text}: {through} was not exercised");
                        self.row(Control::Sensitivity, ControlOutcome::Failed, text)
                    }
                };
                let probe = Some(planned.name.clone());
                controls.rows.push(ControlVerdict { neighbour: Some(neighbour), probe, ..row });
            }
        }
    }

    /// Whether a probe moved inside the victim's own place: in every pair, and on average beyond the margin, at one of the
    /// quantiles for which the arms have requests enough. In words besides.
    ///
    /// It must in service time; but who finds no free block slot waits before the device starts with it, and nothing else
    /// makes a stream of the same process wait there. Noise in bursts moves the requests that meet one: the quantile in
    /// the middle of those is looked at too.
    fn moved(&self, probe: usize, duty: Share, channels: &[Channel], pairs: &[(&ArmData, &ArmData)]) -> (bool, String) {
        let deadline = deadline_ns(self.plan);
        let mut least = None::<(f64, String)>;
        let mut quantiles = self.plan.design.judged.clone();
        if duty < Share::percent(100) {
            quantiles.push(Quantile(((1.0 - duty.as_f64() / 2.0) * 1e5) as u32));
        }
        let mut measures = vec![Measure::Service];
        if channels.contains(&Channel::BlockSlots) {
            measures.push(Measure::Latency);
        }
        for series in &self.plan.panel[probe].series {
            for (q, measure) in quantiles.iter().flat_map(|q| measures.iter().map(move |measure| (q, *measure))) {
                let Some((what, ratios)) = ratios(pairs, series, measure, *q, deadline) else { continue };
                let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
                let slower = ratios.iter().filter(|ratio| **ratio > 0.0).count();
                let text = format!(
                    "{series} {q} {what} {}× in the victim's own place, slower in {slower} of {} pairs",
                    times(libm::exp(mean)),
                    ratios.len()
                );
                if slower == ratios.len() && mean > libm::log1p(self.plan.design.margins.of(*q).0) {
                    return (true, text);
                }
                if least.as_ref().is_none_or(|(size, _)| mean > *size) {
                    least = Some((mean, text));
                }
            }
        }
        let none = || format!("{} had too few requests in the victim's own place", self.plan.panel[probe].name);
        (false, least.map_or_else(none, |(_, text)| text))
    }
}

/// What of a request is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Measure {
    /// Its time on the device; where the device does not tell it, its latency.
    Service,
    /// From its planned arrival to its completion.
    Latency,
}

/// ln(noisy ÷ quiet) per pair, and of what; `None` where an arm has too few requests for its own quantile.
fn ratios(
    pairs: &[(&ArmData, &ArmData)],
    series: &str,
    measure: Measure,
    q: Quantile,
    deadline_ns: f64,
) -> Option<(&'static str, Vec<f64>)> {
    let enough = |counts: &Counts<'_>| counts.total() as f64 * (1.0 - q.as_f64()) >= BEYOND;
    let of = |service: bool| -> Option<Vec<f64>> {
        let side = |arm: &ArmData| {
            let data = arm.series.get(series)?;
            let known = data.service.len() as f64 >= KNOWN * data.latency.len() as f64;
            let counts = if service { Counts::new(of_served(&data.service, known)?, 0) } else { data.counts() };
            enough(&counts).then(|| counts.quantile(q))
        };
        pairs.iter().map(|(quiet, noisy)| Some(log_ratio(side(quiet)?, side(noisy)?, deadline_ns).taken)).collect()
    };
    let service = (measure == Measure::Service).then(|| of(true)).flatten();
    service.map(|r| ("service time", r)).or_else(|| of(false).map(|r| ("latency", r)))
}

fn of_served(service: &Durations, known: bool) -> Option<&Durations> {
    Some(service).filter(|_| known)
}

/// "1.01× [0.99 1.03]".
fn words(r: Interval) -> String {
    let one = |x: Option<f64>| x.map_or_else(|| "–".to_owned(), times);
    format!("{}× [{} {}]", times(r.estimate), one(r.low), one(r.high))
}
