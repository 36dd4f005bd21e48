//! Reasons for which data cannot decide, each by its name and with its number.

use std::collections::BTreeMap;

use super::cell::{Cell, Pair, Part};
use super::types::Reason;
use crate::backend::{ArmKey, ArmSummary, GpuHealth, HealthChange, NeighbourSummary, Purpose, WindowSummary};
use crate::nvml::{IN_USE, assumed_use};
use crate::run_dir::{ArmData, RecordedRun};
use crate::scenario::SharingMode;
use crate::sharing;
use crate::units::Share;

/// Share of late, censored or failed requests that is tolerated.
const TOLERATED: f64 = 0.001;
/// Share of the time under the power cap from which an arm counts as throttled.
pub(super) const THROTTLED: f64 = 0.01;
/// Difference of the arms' SM clocks that is tolerated.
const CLOCK_TOLERANCE: f64 = 0.01;
/// Work must be pending behind the running one for this part of the windows, at full duty.
const PENDING: f64 = 0.99;
/// Share of the noisy arms that may hold too long a gap.
const GAPS_TOLERATED: f64 = 0.05;
/// Requests without which a neighbour may be at the rate that is asked of it.
const REQUESTS_TOLERATED: f64 = 3.0;

/// What speaks against the data of a cell or a series.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    /// Present in the quiet arms too: nothing can be said.
    pub(super) quiet: Option<Reason>,
    /// The neighbour can have caused it: nothing is called Isolated.
    pub(super) noisy: Option<Reason>,
    /// What does not decide, and must be known.
    pub(super) notes: Vec<Reason>,
    /// The backlog grew in the noisy arms alone: by so many requests within half a window, on average.
    pub(super) backlog: Option<f64>,
}

/// What is known of the neighbour's work.
pub(super) struct Intensity {
    /// Why it does not count as noise.
    pub(super) reason: Option<Reason>,
    /// Rate in noisy arms ÷ solo rate in the same place.
    pub(super) rate: Option<f64>,
}

/// Findings that concern all series of a cell.
pub(super) fn of_cell(
    cell: &Cell<'_>,
    run: &RecordedRun,
    pairs: &[Pair<'_>],
    planned: usize,
    intensity: &Intensity,
) -> Findings {
    let mut findings = Findings::default();
    // Where nobody could read it, nothing is claimed either way.
    let throttled = |side: fn(&Pair<'_>) -> Option<f64>| {
        mean(pairs.iter().filter_map(side)).filter(|share| *share > THROTTLED).map(|share| Reason::Throttled { share })
    };
    findings.quiet = throttled(|pair| pair.quiet.summary.throttled);
    if findings.quiet.is_none() {
        // Throttling that the neighbour causes is interference: it is kept, and named.
        findings.notes.extend(throttled(|pair| pair.noisy.summary.throttled));
    }
    let few_cores = || {
        let few = |pair: &Pair<'_>| pair.quiet.summary.too_few_cores || pair.noisy.summary.too_few_cores;
        pairs.iter().any(few).then_some(Reason::TooFewCores)
    };
    let before = || lost(cell, &run.lost_before);
    findings.noisy = (pairs.len() < planned)
        .then(|| missing(cell, run))
        .or_else(before)
        .or_else(|| trouble(pairs.iter().flat_map(|pair| [&pair.quiet.summary, &pair.noisy.summary])))
        .or_else(|| foreign_work(run))
        .or_else(|| intensity.reason.clone())
        .or_else(few_cores);
    findings
}

/// Why arms of a cell are missing: they were lost, or the run did not come to them.
fn missing(cell: &Cell<'_>, run: &RecordedRun) -> Reason {
    let given_up = || run.given_up.get(&cell.arrangement_index);
    lost(cell, &run.lost)
        .or_else(|| given_up().map(|what| Reason::ArmsLost { arms: 0, what: what.clone() }))
        .unwrap_or(Reason::Incomplete)
}

/// Arms of a cell among those that were `lost`.
fn lost(cell: &Cell<'_>, lost: &BTreeMap<ArmKey, String>) -> Option<Reason> {
    let of_cell = |key: &ArmKey| {
        key.arrangement == cell.arrangement_index
            && cell.grids.iter().any(|part| part.index == key.grid)
            && key.purpose == Purpose::Block
            && key.neighbour.is_none_or(|neighbour| neighbour == cell.neighbour)
    };
    let mut lost = lost.iter().filter(|(key, _)| of_cell(key)).map(|(_, reason)| reason).peekable();
    let what = lost.peek().map(|reason| (*reason).clone())?;
    Some(Reason::ArmsLost { arms: lost.count() as u32, what })
}

/// Quiet arms of a victim's place that were lost, whether or not they were measured anew: those that are there may be the ones
/// that survived.
pub(super) fn lost_while_quiet(run: &RecordedRun, arrangement: usize, victim: usize) -> Option<Reason> {
    let grids = &run.manifest.plan.arrangements[arrangement].grids;
    let of_place = |key: &ArmKey| {
        key.arrangement == arrangement
            && grids.get(key.grid).is_some_and(|grid| grid.victim == victim)
            && key.purpose == Purpose::Block
            && key.neighbour.is_none()
    };
    let lost: Vec<&String> =
        run.lost.iter().chain(&run.lost_before).filter(|(key, _)| of_place(key)).map(|(_, what)| what).collect();
    let what = lost.first().map(|what| (*what).clone())?;
    Some(Reason::ArmsLost { arms: lost.len() as u32, what })
}

/// What became worse with the GPU between the arms of a cell or a density, where it is so grave that they are not of one machine
/// any more. Within an arm it ends the arm.
pub(super) fn trouble<'a>(arms: impl Iterator<Item = &'a ArmSummary>) -> Option<Reason> {
    let readings = arms.flat_map(|arm| arm.health_before.iter().chain(&arm.health));
    let mut ends: Option<(GpuHealth, GpuHealth)> = None;
    for reading in readings {
        let (best, worst) = ends.unwrap_or_else(|| (reading.clone(), reading.clone()));
        ends = Some((best.better_of(reading), worst.worse_of(reading)));
    }
    let (best, worst) = ends?;
    let grave = worst.worse_since(&best).into_iter().filter(|change| change.is_grave());
    let what: Vec<String> = grave.map(HealthChange::words).collect();
    (!what.is_empty()).then(|| Reason::DriverTrouble { what: what.join("; ") })
}

/// Somebody else who was on the GPU, by the user's leave.
pub(super) fn foreign_work(run: &RecordedRun) -> Option<Reason> {
    let why = assumed_use(&run.manifest.device)?;
    why.contains(IN_USE).then(|| Reason::ForeignWork { what: why.to_owned() })
}

/// Whether the SM clock of the quiet arms was lower by more than 1 %: they were not awake. `None` where nobody knows.
pub(super) fn quiet_clock_is_lower(pairs: &[Pair<'_>]) -> Option<bool> {
    clocks(pairs).map(|(quiet, noisy)| quiet < noisy * (1.0 - CLOCK_TOLERANCE))
}

/// Mean SM clock of the quiet and the noisy arms in MHz, where both are known.
pub(super) fn clocks(pairs: &[Pair<'_>]) -> Option<(f64, f64)> {
    let known = |pair: &Pair<'_>| pair.quiet.summary.sm_mhz.zip(pair.noisy.summary.sm_mhz);
    let known: Vec<(f64, f64)> = pairs.iter().filter_map(known).collect();
    mean(known.iter().map(|(quiet, _)| *quiet)).zip(mean(known.iter().map(|(_, noisy)| *noisy)))
}

/// Findings that concern one series of one probe.
pub(super) fn of_series(pairs: &[Pair<'_>], probe: usize, series: &str) -> Findings {
    let probe = Issuer { probe, seat: None };
    let quiet = Side::of(&pairs.iter().map(|pair| pair.quiet).collect::<Vec<_>>(), probe, series);
    let noisy = Side::of(&pairs.iter().map(|pair| pair.noisy).collect::<Vec<_>>(), probe, series);
    let mut findings = Findings { quiet: quiet.reason(), ..Findings::default() };
    if findings.quiet.is_none() {
        // Of a window that nobody summed up nobody knows what was late or left open.
        findings.noisy = noisy.reason().or((!quiet.whole || !noisy.whole).then_some(Reason::Incomplete));
        findings.backlog = noisy.backlog;
        if findings.noisy.is_none() {
            findings.notes.extend(noisy.below_tolerance());
        }
    }
    findings
}

/// Requests of these arms that were sent late, where they are too many.
pub(super) fn late(arms: &[&ArmData], issuer: Issuer, series: &str) -> Option<Reason> {
    Some(Side::of(arms, issuer, series).late)
        .filter(|share| *share > TOLERATED)
        .map(|share| Reason::LateRequests { share })
}

/// Whose windows are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Issuer {
    /// Index of the probe.
    pub(super) probe: usize,
    /// Index of the seat of a density's tenant; `None`: the victim.
    pub(super) seat: Option<usize>,
}

impl Issuer {
    /// Whether it issued the requests of a window.
    pub(super) fn issued(self, window: &WindowSummary) -> bool {
        window.probe == self.probe && window.seat == self.seat
    }
}

/// What became of the requests of one issuer.
pub(super) struct Side {
    /// Every arm tells of the probe's window.
    whole: bool,
    late: f64,
    pub(super) censored: f64,
    pub(super) failed: f64,
    backlog: Option<f64>,
}

impl Side {
    pub(super) fn of(arms: &[&ArmData], issuer: Issuer, series: &str) -> Self {
        let windows = arms.iter().flat_map(|arm| arm.summary.windows.iter().filter(|w| issuer.issued(w)));
        let windows: Vec<&WindowSummary> = windows.collect();
        // A victim without cores of its own sleeps between looks, so it is late by nature: that it lacks them is a reason
        // of its own, which blocks Isolated alone.
        let rested = arms.iter().filter(|arm| !arm.summary.too_few_cores).flat_map(|arm| &arm.summary.windows);
        let (late, planned) =
            rested.filter(|w| issuer.issued(w)).fold((0, 0), |(late, planned), w| (late + w.late, planned + w.planned));
        let data: Vec<_> = arms.iter().filter_map(|arm| arm.series.get(series)).collect();
        let (censored, failed) = data.iter().fold((0, 0), |(c, f), s| (c + s.censored, f + s.failed));
        let all = data.iter().map(|s| s.latency.len()).sum::<u64>() + censored + failed;
        Self {
            whole: arms.iter().all(|arm| arm.summary.windows.iter().any(|w| issuer.issued(w))),
            late: share(late, planned),
            censored: share(censored, all),
            failed: share(failed, all),
            backlog: backlog(&windows),
        }
    }

    fn reason(&self) -> Option<Reason> {
        if self.late > TOLERATED {
            Some(Reason::LateRequests { share: self.late })
        } else if self.failed > TOLERATED {
            Some(Reason::Failures { share: self.failed })
        } else if self.censored > TOLERATED {
            Some(Reason::Timeouts { share: self.censored })
        } else {
            self.backlog.map(|_| Reason::Backlog)
        }
    }

    /// Requests that were not served, too few to decide. They lie at +∞ in every quantile all the same.
    fn below_tolerance(&self) -> Vec<Reason> {
        let failures = (self.failed > 0.0).then_some(Reason::Failures { share: self.failed });
        let timeouts = (self.censored > 0.0).then_some(Reason::Timeouts { share: self.censored });
        failures.into_iter().chain(timeouts).collect()
    }
}

/// Mean growth of the open requests from the middle to the end of a window, where it is growth: in three windows of
/// four, by two requests or more, and by more than 2 % of what arrives in that time. A stable queue has as many open at
/// the end as in the middle, whatever its length.
pub(super) fn backlog(windows: &[&WindowSummary]) -> Option<f64> {
    let growth: Vec<f64> = windows.iter().map(|w| w.open_at_end as f64 - w.open_at_half as f64).collect();
    let average = mean(growth.iter().copied())?;
    let arriving = windows.iter().map(|w| w.planned as f64).sum::<f64>() / windows.len() as f64 / 2.0;
    let growing = growth.iter().filter(|g| **g > 0.0).count();
    (average >= f64::max(2.0, 0.02 * arriving) && 4 * growing >= 3 * growth.len()).then_some(average)
}

/// Whether the neighbour did what its intensity asks, over all noisy arms of the cell.
pub(super) fn intensity(cell: &Cell<'_>, run: &RecordedRun, pairs: &BTreeMap<usize, Vec<Pair<'_>>>) -> Intensity {
    let neighbour = &cell.plan.neighbours[cell.neighbour];
    if cell.arrangement.sharing == SharingMode::Exclusive || neighbour.workload == crate::workload::PLACEBO {
        return Intensity { reason: None, rate: None };
    }
    let (mut reason, mut rates) = (None, Vec::new());
    for Part { index, grid, .. } in &cell.grids {
        let arms: Vec<&ArmSummary> = pairs.get(index).into_iter().flatten().map(|pair| &pair.noisy.summary).collect();
        if arms.is_empty() {
            continue;
        }
        let solo = run.calibrations.get(&(cell.arrangement_index, *index));
        let solo = solo.and_then(|c| c.neighbours.iter().find(|n| n.neighbour == cell.neighbour));
        let total = mean(arms.iter().map(|arm| arm.neighbours.iter().map(|n| n.rate).sum())).unwrap_or(0.0);
        // Without a solo rate nobody knows how much was asked: that is no proof of noise.
        let solo = solo.map(|s| s.solo_rate).filter(|solo| *solo > 0.0);
        let rate = solo.map(|solo| total / solo);
        rates.extend(rate);
        let seats = &grid.neighbour_seats;
        let required = required_rate(cell, seats);
        let achieved = rate.unwrap_or(0.0) / required;
        let pending = if neighbour.duty == Share::percent(100) { least_pending(&arms, seats) / PENDING } else { 1.0 };
        let weakest = achieved.min(pending);
        if weakest < 1.0 {
            reason = Some(Reason::NeighbourBelowIntensity { achieved: weakest });
        } else if reason.is_none() {
            let pause = neighbour.burst.0 as f64 * (1.0 - neighbour.duty.as_f64());
            // What its own rate would allow grows with its own stall: the rate that is asked of a seat does not.
            let of_seat = solo.map(|solo| required * solo / seats.len().max(1) as f64);
            let requests = of_seat.map_or(0.0, |rate| REQUESTS_TOLERATED * 1e9 / rate);
            reason = too_long_a_gap(&arms, seats, requests, pause);
        }
    }
    Intensity { reason, rate: mean(rates.into_iter()) }
}

/// Part of its solo rate that a neighbour must reach: 90 % where its seat has a share of its own, half of a fair share
/// elsewhere (verdict.md, "Fair arms", 5). Of several seats the least is asked, for the solo rate is that of all.
fn required_rate(cell: &Cell<'_>, seats: &[usize]) -> f64 {
    let a = cell.arrangement;
    let own_share = |seat: &usize| sharing::own_share(a.sharing, &a.layout, &a.seats, *seat, cell.victim);
    if !seats.is_empty() && seats.iter().all(own_share) { 0.9 } else { 0.5 / (seats.len() + 1) as f64 }
}

/// Mean pending share of the seat that has the least. One that did not report had nothing pending that anybody knows of.
fn least_pending(arms: &[&ArmSummary], seats: &[usize]) -> f64 {
    let of_seat = |seat: &usize| mean(arms.iter().map(|arm| at(arm, *seat).map_or(0.0, |n| n.pending)));
    seats.iter().filter_map(of_seat).reduce(f64::min).unwrap_or(0.0)
}

/// What the neighbour in `seat` did in an arm.
fn at(arm: &ArmSummary, seat: usize) -> Option<&NeighbourSummary> {
    arm.neighbours.iter().find(|n| n.seat == seat)
}

/// The longest stretch without progress, where more than 5 % of the arms hold one beyond a quarter of their shortest
/// window, `requests` (the time that three take at the rate that is asked of a seat), and `pause` (the silence that its duty
/// asks for). A seat that did not report made no progress in any window.
fn too_long_a_gap(arms: &[&ArmSummary], seats: &[usize], requests: f64, pause: f64) -> Option<Reason> {
    let mut longest = 0;
    let mut too_long = 0;
    for arm in arms {
        let window = arm.windows.iter().map(|w| w.length.0).min().unwrap_or(0) as f64;
        let all = arm.windows.iter().map(|w| w.length.0).sum::<u64>();
        let tolerated = f64::max(0.25 * window, requests) + pause;
        let gap = |seat: &usize| {
            at(arm, *seat).map_or(Some(all), |n| Some(n.longest_gap.0).filter(|gap| *gap as f64 > tolerated))
        };
        if let Some(gap) = seats.iter().filter_map(gap).max() {
            longest = longest.max(gap);
            too_long += 1;
        }
    }
    (too_long as f64 > GAPS_TOLERATED * arms.len() as f64)
        .then_some(Reason::NeighbourNotOverlapping { gap_ns: longest })
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0u32), |(sum, n), value| (sum + value, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}
