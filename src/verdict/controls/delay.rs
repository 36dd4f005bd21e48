//! An injected delay of known size, where no noise inside the victim's own place reaches a channel: it says nothing of that
//! channel, but shows that a change of the size which an Isolated excludes is seen, from the planned arrival to the estimate.

use super::super::cell::counts;
use super::super::types::{Control, ControlOutcome, ControlVerdict, Reason};
use super::{GridControls, Of};
use crate::backend::Purpose;
use crate::plan::delayed_channels;
use crate::scenario::Quantile;
use crate::stats::{t_bounds, t_quantile};
use crate::units::{Nanos, time_for_people};

/// One-sided level of either bound of what was seen.
const LEVEL: f64 = 0.025;
/// What was seen may differ from what was injected by this part of it.
const TOLERATED: f64 = 0.5;

/// What was seen of a delay.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    /// It: slower for certain, and by about as much.
    Yes,
    /// Something else for certain.
    No,
    /// Too wide to say; so many arms would do.
    Unclear { arms: Option<u32> },
}

impl Of<'_> {
    /// Requests that were held back must take so much longer, by every probe that the control is for.
    pub(super) fn delay(&self, controls: &mut GridControls) {
        let planned = self.plan.delays(self.arrangement, self.index);
        if planned == 0 {
            return;
        }
        for probe in self.plan.delayed(self.arrangement, self.index) {
            let (row, reason) = self.delay_of(probe, planned);
            let probe = &self.plan.panel[probe];
            for neighbour in &self.grid.neighbours {
                let reached = !delayed_channels(probe, &self.plan.neighbours[*neighbour]).is_empty();
                let Some(reason) = reason.as_ref().filter(|_| reached) else { continue };
                for series in &probe.series {
                    // What its own channel says comes first.
                    controls.unexercised.entry((*neighbour, series.clone())).or_insert_with(|| reason.clone());
                }
            }
            controls.rows.push(ControlVerdict { probe: Some(probe.name.clone()), ..row });
        }
    }

    /// What was seen of the delay of one probe, and what keeps its series from being called Isolated.
    fn delay_of(&self, probe: usize, planned: u32) -> (ControlVerdict, Option<Reason>) {
        let control = Control::Delay;
        let first = self.grid.first_block;
        let pairs: Vec<_> = (first..first + planned)
            .filter_map(|b| Some((self.arm(b, None, Purpose::Block)?, self.arm(b, None, Purpose::Delayed)?)))
            .collect();
        let calibration = self.run.calibrations.get(&(self.arrangement, self.index));
        let of_probe = calibration.and_then(|c| c.probes.iter().find(|p| p.probe == probe));
        let Some(delay) = of_probe.and_then(|p| p.delay).filter(|_| pairs.len() >= planned as usize) else {
            // Of fewer than planned, those that are there may be the ones that survived.
            let row = self.absent(control, Purpose::Delayed);
            return (row, Some(Reason::ControlNotMeasured { control }));
        };
        // A mark is planned where the mark before it was reached: the request's own series has all of the delay.
        let series = &self.plan.panel[probe].name;
        let values: Vec<f64> = pairs
            .iter()
            .filter_map(|(quiet, delayed)| {
                let p50 = |arm| counts(arm, series).quantile(Quantile::P50);
                Some(p50(delayed)? - p50(quiet)?)
            })
            .collect();
        let injected = format!("an injected delay of {} on {series}", time_for_people(delay.0 as f64));
        let bounds = t_bounds(&values, (LEVEL, LEVEL)).filter(|_| values.len() == pairs.len());
        let Some((low, high)) = bounds else {
            let text = format!("{injected}: its arms, or the quiet ones, have no median");
            let reason = Reason::ControlUndecided { control, detectable: None, blocks_needed: None };
            return (self.row(control, ControlOutcome::Undecided, text), Some(reason));
        };
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let [seen, from, to] = [mean, low, high].map(signed);
        let was = format!("was seen as {seen} [{from} {to}] at p50 in {planned} blocks");
        let (outcome, reason) = match judge(delay, values.len(), (low, mean, high)) {
            Seen::Yes => (ControlOutcome::Passed, None),
            Seen::No => {
                let reason = Reason::DelayNotSeen { injected_ns: delay.0, seen_ns: mean };
                (ControlOutcome::Failed, Some(reason))
            }
            Seen::Unclear { arms } => {
                let reason = Reason::ControlUndecided { control, detectable: None, blocks_needed: arms };
                (ControlOutcome::Undecided, Some(reason))
            }
        };
        (self.row(control, outcome, format!("{injected} {was}")), reason)
    }
}

/// `n` arms that were held back by `delay` were slower by `mean`, `low` to `high` (nanoseconds).
fn judge(delay: Nanos, n: usize, (low, mean, high): (f64, f64, f64)) -> Seen {
    let delay = delay.0 as f64;
    let (least, most) = (delay * (1.0 - TOLERATED), delay * (1.0 + TOLERATED));
    if high < least || low > most || high <= 0.0 {
        Seen::No
    } else if low > 0.0 && (least..=most).contains(&mean) {
        Seen::Yes
    } else {
        Seen::Unclear { arms: arms_needed(n, 0.5 * (high - low), delay * TOLERATED) }
    }
}

/// Arms at which a mean would be known within `wanted`, where it is within `half` after `n`.
fn arms_needed(n: usize, half: f64, wanted: f64) -> Option<u32> {
    let freedom = u32::try_from(n).ok()?.checked_sub(1)?;
    let error = half / t_quantile(LEVEL, freedom)? * libm::sqrt(n as f64);
    let enough = |arms: &u32| {
        let t = t_quantile(LEVEL, arms - 1);
        t.is_some_and(|t| t * error / libm::sqrt(f64::from(*arms)) <= wanted)
    };
    (freedom + 2..=1_000).find(enough)
}

/// "−0.2 µs".
fn signed(ns: f64) -> String {
    let size = time_for_people(libm::fabs(ns));
    if ns < 0.0 { format!("−{size}") } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_seen_by_direction_and_size() {
        let of = |low, mean, high| judge(Nanos(1_000), 5, (low, mean, high));
        assert_eq!(of(900.0, 1_000.0, 1_100.0), Seen::Yes);
        assert_eq!(of(10.0, 600.0, 1_190.0), Seen::Yes);
        // For certain less than half of it, more than one and a half, or nothing.
        assert_eq!(of(0.0, 200.0, 499.0), Seen::No);
        assert_eq!(of(1_501.0, 1_600.0, 1_700.0), Seen::No);
        assert_eq!(of(0.0, 0.0, 0.0), Seen::No);
        assert_eq!(of(-1_100.0, -1_000.0, -900.0), Seen::No);
        // Not slower for certain, or not by as much.
        for (low, mean, high) in [(-10.0, 990.0, 1_990.0), (100.0, 400.0, 700.0), (1_400.0, 1_700.0, 2_000.0)] {
            assert!(matches!(of(low, mean, high), Seen::Unclear { .. }), "{low} {mean} {high}");
        }
        assert_eq!(signed(-200.0), "−200 ns");
    }

    /// Five arms, t of 4 degrees of freedom at 2.5 % is 2.776: a half-width of 1000 is s/√5 = 360, s = 805. At eleven arms t is
    /// 2.228 and the half-width 541; at thirteen 2.179 and 487.
    #[test]
    fn arms_that_would_decide_by_hand() {
        assert_eq!(arms_needed(5, 1_000.0, 500.0), Some(13));
        assert_eq!(arms_needed(5, 1e9, 1.0), None, "more than anybody runs");
    }
}
