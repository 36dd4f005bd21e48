//! Turns: how long a tenant has the GPU before it waits for the others, how long it waits then, and what a switch costs.
//! Measured by an arm of its own beside the calibration, where tenants take turns: the victim always has short kernels
//! queued, the others always have long ones, and the device's own stamps show when the victim did not run.

use crate::backend::{ArmPlan, ArmRecord, BackendError, Load, Outcome, Sample, Session, Window};
use crate::channel::Channel;
use crate::observation::turns::Seen;
use crate::plan::{Grid, Plan, PlannedArrangement, PlannedNeighbour, PlannedProbe};
use crate::run_dir::Turns;
use crate::scenario::SharingMode;
use crate::units::{Nanos, Share};
use crate::workload;

/// Length of the arm's window, for each tenant that takes turns: some thirty turns of 2.1 ms and a switch.
const EACH: Nanos = Nanos::millis(150);
const LONGEST: Nanos = Nanos::secs(2);
/// A stretch without the victim's work shorter than this is no turn of somebody else, but the host or the front end.
const LEAST_GAP: Nanos = Nanos::micros(250);
/// Requests without a stop from which there are no turns.
const ENOUGH: usize = 20;
/// Turns that a mean of their middle half needs.
const LEAST_TURNS: usize = 10;
/// Part of a run in which the victim's kernels ran, and of the window in which the others had work pending: with less,
/// somebody gave a turn away, and nothing is said.
const BUSY: f64 = 0.9;
const PENDING: f64 = 0.99;

/// Probes whose requests are one short kernel each, in order of preference.
const PROBES: &[&str] = &["compute", "tensor", "hbm-burst", "l1-chase", "l2-chase", "weak-chase", "strong-chase"];

/// What measures the turns of a grid: a probe, a noise, and how many others the victim takes turns with.
pub(in super::super) struct Measure {
    probe: usize,
    neighbour: usize,
    others: u32,
}

/// Tenants with which the victim takes turns in `grid`, by the mode.
fn others(arrangement: &PlannedArrangement, grid: &Grid) -> usize {
    let entry = |seat: usize| arrangement.seats.get(seat).map(|s| s.entry);
    match arrangement.sharing {
        SharingMode::TimeSlicing => grid.neighbour_seats.len(),
        SharingMode::MigTimeSlicing => grid.neighbour_seats.iter().filter(|s| entry(**s) == entry(grid.victim)).count(),
        _ => 0,
    }
}

/// How turns with `others` can be measured in `grid`; `None` without any, or where the scenario has no probe of short
/// kernels or no noise of long ones.
fn measure(plan: &Plan, grid: &Grid, others: usize) -> Option<Measure> {
    let rank = |probe: &PlannedProbe| PROBES.iter().position(|id| *id == probe.workload);
    let ranked = grid.probes.iter().filter_map(|p| Some((rank(&plan.panel[*p])?, *p)));
    let probe = ranked.min().map(|(_, probe)| probe)?;
    let neighbour = grid.neighbours.iter().copied().find(|n| always_has_kernels(&plan.neighbours[*n]))?;
    let others = u32::try_from(others).ok().filter(|others| *others > 0)?;
    Some(Measure { probe, neighbour, others })
}

/// Where the turns of an arrangement are measured: in the first of its grids that can tell, by its index.
pub(in super::super) fn measured_in(plan: &Plan, arrangement: &PlannedArrangement) -> Option<(usize, Measure)> {
    let measure = |grid: &Grid| measure(plan, grid, others(arrangement, grid));
    arrangement.grids.iter().enumerate().find_map(|(index, grid)| Some((index, measure(grid)?)))
}

/// Where turns are looked for: where calibration measures them, else wherever it can be told that nobody takes any.
pub(super) fn looked_for_in(plan: &Plan, arrangement: &PlannedArrangement) -> Option<(usize, Measure)> {
    let anywhere = |grid: &Grid| measure(plan, grid, grid.neighbour_seats.len());
    measured_in(plan, arrangement)
        .or_else(|| arrangement.grids.iter().enumerate().find_map(|(index, grid)| Some((index, anywhere(grid)?))))
}

fn always_has_kernels(neighbour: &PlannedNeighbour) -> bool {
    let kernels = |channel: &Channel| {
        matches!(
            channel,
            Channel::BlockSlots | Channel::Issue | Channel::Tensor | Channel::HbmBandwidth | Channel::L2 | Channel::L1
        )
    };
    let of_kernels = workload::find(&neighbour.workload).is_some_and(|w| !w.host_bound());
    of_kernels && neighbour.duty == Share::percent(100) && neighbour.channels.first().is_some_and(kernels)
}

impl Measure {
    /// Length of the arm's window.
    pub(in super::super) fn window(&self) -> Nanos {
        (EACH * u64::from(self.others + 1)).min(LONGEST)
    }

    /// Runs the arm; `None` where it does not tell.
    ///
    /// # Errors
    /// Where the arm fails.
    pub(in super::super) fn run(
        &self,
        plan: &Plan,
        arm: &impl Fn(Option<usize>, Vec<Window>) -> ArmPlan,
        session: &mut dyn Session,
    ) -> Result<Option<Turns>, BackendError> {
        let found = self.spans(plan, arm, session)?.and_then(|spans| turns(&spans, self.others));
        Ok(found.map(|found| Turns { probe: self.probe, neighbour: self.neighbour, others: self.others, ..found }))
    }

    /// Runs the arm, and tells turns from their absence.
    ///
    /// # Errors
    /// Where the arm fails.
    pub(super) fn look(
        &self,
        plan: &Plan,
        arm: &impl Fn(Option<usize>, Vec<Window>) -> ArmPlan,
        session: &mut dyn Session,
    ) -> Result<Seen, BackendError> {
        let Some(spans) = self.spans(plan, arm, session)? else { return Ok(Seen::Unclear) };
        Ok(match turns(&spans, self.others) {
            Some(turns) => turns.into(),
            None if never_stopped(&spans) => Seen::Never,
            None => Seen::Unclear,
        })
    }

    /// When the device worked on the victim's requests; `None` where the others gave turns away.
    fn spans(
        &self,
        plan: &Plan,
        arm: &impl Fn(Option<usize>, Vec<Window>) -> ArmPlan,
        session: &mut dyn Session,
    ) -> Result<Option<Vec<(Nanos, Nanos)>>, BackendError> {
        let depth = plan.panel[self.probe].outstanding.max(2);
        let window = Window {
            probe: self.probe,
            load: Load::Closed { depth },
            length: self.window(),
            delay: Nanos::ZERO,
            seat: None,
        };
        let record = session.run_arm(&arm(Some(self.neighbour), vec![window]))?;
        let busy = record.summary.neighbours.iter().all(|n| n.pending >= PENDING);
        Ok(busy.then(|| spans(&record)))
    }
}

impl From<Turns> for Seen {
    fn from(turns: Turns) -> Self {
        Self::Turns { quantum: turns.quantum, gap: turns.gap, switch: turns.switch, count: turns.seen }
    }
}

/// When the device worked on the victim's requests, in order.
fn spans(record: &ArmRecord) -> Vec<(Nanos, Nanos)> {
    let span = |s: &Sample| match (s.series, s.outcome, s.gpu_start, s.gpu_end) {
        (0, Outcome::Ok, Some(start), Some(end)) if end > start => Some((start, end)),
        _ => None,
    };
    let mut spans: Vec<_> = record.samples.iter().filter_map(span).collect();
    spans.sort_unstable();
    spans
}

fn median(mut values: Vec<Nanos>) -> Option<Nanos> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// The mean of the middle half: what the host's pauses spoil lies outside, and steps of a whole kernel even out.
fn middle(mut values: Vec<Nanos>) -> Option<Nanos> {
    values.sort_unstable();
    let quarter = values.len() / 4;
    let middle = values.get(quarter..values.len() - quarter).filter(|middle| !middle.is_empty())?;
    Some(middle.iter().copied().sum::<Nanos>() / middle.len() as u64)
}

/// Shortest stop that is a turn of somebody else, where a request takes `service`.
fn least_stop(service: Nanos) -> Nanos {
    LEAST_GAP.max(service * 2)
}

/// Whether the device worked on the victim's requests all the time. One stop is the host's.
fn never_stopped(spans: &[(Nanos, Nanos)]) -> bool {
    let Some(service) = median(spans.iter().map(|(start, end)| *end - *start).collect()) else { return false };
    let least = least_stop(service);
    let between = spans.windows(2).filter(|pair| pair[1].0.saturating_sub(pair[0].1) >= least).count();
    let within = spans.iter().filter(|(start, end)| (*end - *start).saturating_sub(service) >= least).count();
    spans.len() >= ENOUGH && between + within <= 1
}

/// Turns from when the device worked on requests that were always queued. A switch is what is left of a gap when every
/// other tenant had a turn as long as the victim's: `gap = others × quantum + (others + 1) × switch`.
fn turns(spans: &[(Nanos, Nanos)], others: u32) -> Option<Turns> {
    let service = median(spans.iter().map(|(start, end)| *end - *start).collect())?;
    let least = least_stop(service);
    let (mut runs, mut gaps) = (Vec::new(), Vec::new());
    // Of the run that goes on: since when, less the gaps inside of requests, and how much of it was work.
    let (mut length, mut work) = (Nanos::ZERO, Nanos::ZERO);
    let (mut lengths, mut works) = (Nanos::ZERO, Nanos::ZERO);
    let mut before: Option<Nanos> = None;
    let mut end_run = |length: &mut Nanos, work: &mut Nanos, gap: Nanos| {
        // The first run began before the window, or at once: nobody knows.
        if !gaps.is_empty() {
            runs.push(*length);
            lengths += *length;
            works += *work;
        }
        gaps.push(gap);
        (*length, *work) = (Nanos::ZERO, Nanos::ZERO);
    };
    for (start, end) in spans {
        let pause = before.map_or(Nanos::ZERO, |before| start.saturating_sub(before));
        if pause >= least {
            end_run(&mut length, &mut work, pause);
        } else {
            length += pause;
        }
        let took = *end - *start;
        let stood = took.saturating_sub(service);
        if stood >= least {
            // It was stopped somewhere in its midst.
            (length, work) = (length + service / 2, work + service / 2);
            end_run(&mut length, &mut work, stood);
            (length, work) = (service / 2, service / 2);
        } else {
            (length, work) = (length + took, work + took);
        }
        before = Some(*end);
    }
    if runs.len() < LEAST_TURNS || (works.0 as f64) < BUSY * lengths.0 as f64 {
        return None;
    }
    let seen = u32::try_from(runs.len()).unwrap_or(u32::MAX);
    let (quantum, gap) = (middle(runs)?, middle(gaps)?);
    let of_others = quantum * u64::from(others);
    let switch = (gap > of_others).then(|| (gap - of_others) / u64::from(others + 1));
    Some(Turns { probe: 0, neighbour: 0, others, seen, quantum, gap, switch })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kernels of 100 µs back to back, stopped wherever a turn of `quantum` ends, for `gap`.
    fn stopped(quantum: u64, gap: u64, count: usize) -> Vec<(Nanos, Nanos)> {
        let (mut at, mut left) = (0, quantum);
        let mut spans = Vec::new();
        for _ in 0..count {
            let start = at;
            let mut work = 100_000;
            while work > left {
                (at, work, left) = (at + left + gap, work - left, quantum);
            }
            (at, left) = (at + work, left - work);
            spans.push((Nanos(start), Nanos(at)));
        }
        spans
    }

    #[test]
    fn quantum_gap_and_switch_come_back() {
        // Two tenants: 2.09 ms each, and 170 µs for each of two switches.
        let found = turns(&stopped(2_090_000, 2_430_000, 500), 1).unwrap();
        assert!(found.quantum.0.abs_diff(2_090_000) <= 20_000, "{found:?}");
        assert!(found.gap.0.abs_diff(2_430_000) <= 10_000, "{found:?}");
        assert!(found.switch.is_some_and(|s| s.0.abs_diff(170_000) <= 15_000), "{found:?}");
        // Four tenants: three turns of others, and four switches.
        let found = turns(&stopped(2_000_000, 6_400_000, 900), 3).unwrap();
        assert!(found.switch.is_some_and(|s| s.0.abs_diff(100_000) <= 30_000), "{found:?}");
    }

    #[test]
    fn what_does_not_take_turns_has_none() {
        assert_eq!(turns(&stopped(u64::MAX, 0, 500), 1), None, "never stopped");
        assert_eq!(turns(&stopped(2_090_000, 2_430_000, 100), 1), None, "too few turns");
        assert_eq!(turns(&[], 1), None);
        assert!(never_stopped(&stopped(u64::MAX, 0, 500)) && !never_stopped(&stopped(2_090_000, 2_430_000, 500)));
        assert!(!never_stopped(&stopped(u64::MAX, 0, 10)), "too few requests to say so");
        // A victim that gives its turns away: 100 µs of work, then 150 µs of nothing, in each turn.
        let idle: Vec<_> = stopped(2_000_000, 2_400_000, 500)
            .iter()
            .enumerate()
            .map(|(i, (start, end))| (*start + Nanos(150_000) * i as u64, *end + Nanos(150_000) * i as u64))
            .collect();
        assert_eq!(turns(&idle, 1), None, "its queue ran dry");
    }

    #[test]
    fn turns_shorter_than_the_victims_leave_the_switch_unknown() {
        let found = turns(&stopped(2_000_000, 1_500_000, 500), 1).unwrap();
        assert_eq!(found.switch, None);
    }
}
