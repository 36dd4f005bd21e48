//! The arms of `own-compute`: the victim's closed loop of `compute`, beside idle tenants, beside each that computes, and
//! beside idle ones again.

use super::Place;
use super::loops::{closed, computes, probe_cycles, request_of, window_alone, window_beside};
use crate::backend::{ArmSummary, BackendError, Session};
use crate::observation::Observed;
use crate::observation::own_compute::{Beside, Measured, Speed, judge};
use crate::plan::{Grid, Plan};
use crate::units::Nanos;

/// Which probe, beside which neighbours.
pub(super) struct Measure {
    probe: usize,
    neighbours: Vec<usize>,
}

/// The first grid with a probe that fills the SMs and a neighbour that computes.
pub(super) fn measured_in(plan: &Plan, grids: &[Grid]) -> Option<(usize, Measure)> {
    let measure = |grid: &Grid| {
        let probe = grid.probes.iter().copied().find(|p| plan.panel[*p].workload == "compute")?;
        let neighbours = grid.neighbours.iter().copied().filter(|n| computes(&plan.neighbours[*n]));
        let neighbours: Vec<usize> = neighbours.collect();
        (!neighbours.is_empty()).then_some(Measure { probe, neighbours })
    };
    grids.iter().enumerate().find_map(|(index, grid)| Some((index, measure(grid)?)))
}

impl Measure {
    /// Its windows, one an arm.
    pub(super) fn windows(&self, plan: &Plan, arrangement: usize, grid: &Grid) -> Vec<Nanos> {
        let beside = self.neighbours.iter().map(|n| window_beside(request_of(plan, arrangement, grid, *n)));
        [window_alone()].into_iter().chain(beside).chain([window_alone()]).collect()
    }

    /// Runs them; `None` where it is asked to stop.
    pub(super) fn run(&self, place: Place<'_>, session: &mut dyn Session) -> Result<Option<Observed>, BackendError> {
        let plan = place.plan;
        let depth = plan.panel[self.probe].outstanding.max(2);
        let windows = self.windows(plan, place.arrangement, place.grid());
        let states = [None].into_iter().chain(self.neighbours.iter().copied().map(Some)).chain([None]);
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for (noise, window) in states.zip(windows) {
            if place.stopped() {
                return Ok(None);
            }
            let (seen, record) = place.run_loop(session, noise, closed(self.probe, depth, window))?;
            let speed = Speed { rate: seen.rate, sm_mhz: record.summary.sm_mhz };
            match noise {
                None => alone.push(speed),
                Some(neighbour) => beside.push(Beside {
                    neighbour: plan.neighbours[neighbour].name.clone(),
                    speed,
                    pending: pending(&record.summary),
                }),
            }
        }
        let sms = place.sms(session);
        let cycles = probe_cycles(plan, (place.arrangement, place.grid().victim), self.probe, sms);
        let [before, after] = alone.as_slice() else { return Ok(None) };
        Ok(Some(judge(&Measured { alone: [*before, *after], beside, sms, cycles })))
    }
}

/// Part of the time in which every neighbour had work pending.
fn pending(summary: &ArmSummary) -> f64 {
    summary.neighbours.iter().map(|n| n.pending).fold(1.0, f64::min)
}
