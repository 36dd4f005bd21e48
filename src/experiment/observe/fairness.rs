//! The arms of `fairness`: each of the victim's compute kernels beside each neighbour's, with its queue full and one at a
//! time, and each side alone.

use super::Place;
use super::loops::{closed, computes, request_of, window_alone, window_beside};
use crate::backend::{ArmSummary, BackendError, Load, Session, Window};
use crate::observation::Observed;
use crate::observation::fairness::{Pair, judge};
use crate::plan::{Grid, Plan};
use crate::units::{Nanos, Rate};

/// Which probes, beside which neighbours.
pub(super) struct Measure {
    probes: Vec<usize>,
    neighbours: Vec<usize>,
}

/// The grid with the most probes that fill the SMs, two at least, beside neighbours that compute.
pub(super) fn measured_in(plan: &Plan, grids: &[Grid]) -> Option<(usize, Measure)> {
    let measure = |grid: &Grid| {
        let probes = grid.probes.iter().copied().filter(|p| plan.panel[*p].workload == "compute").collect::<Vec<_>>();
        let neighbours = grid.neighbours.iter().copied().filter(|n| computes(&plan.neighbours[*n]));
        let neighbours: Vec<usize> = neighbours.collect();
        (probes.len() >= 2 && !neighbours.is_empty()).then_some(Measure { probes, neighbours })
    };
    grids.iter().enumerate().find_map(|(index, grid)| Some((index, measure(grid)?)))
}

impl Measure {
    /// Its windows, one an arm: of the probes alone, of the neighbours alone, and of both together, twice.
    pub(super) fn windows(&self, plan: &Plan, arrangement: usize, grid: &Grid) -> Vec<Nanos> {
        let of = |n: &usize| window_beside(request_of(plan, arrangement, grid, *n));
        let beside: Vec<Nanos> = self.neighbours.iter().map(of).collect();
        let pairs = beside.iter().flat_map(|window| std::iter::repeat_n(*window, 2 * self.probes.len()));
        self.probes.iter().map(|_| window_alone()).chain(beside.iter().copied()).chain(pairs).collect()
    }

    /// Runs them; `None` where it is asked to stop.
    pub(super) fn run(&self, place: Place<'_>, session: &mut dyn Session) -> Result<Option<Observed>, BackendError> {
        let plan = place.plan;
        let mut windows = self.windows(plan, place.arrangement, place.grid()).into_iter();
        let mut next = || if place.stopped() { None } else { windows.next() };
        let full = |probe: usize| plan.panel[probe].outstanding.max(2);
        let mut own = Vec::with_capacity(self.probes.len());
        for &probe in &self.probes {
            let Some(window) = next() else { return Ok(None) };
            own.push(place.run_loop(session, None, closed(probe, full(probe), window))?.0.rate);
        }
        let mut other = Vec::with_capacity(self.neighbours.len());
        for &neighbour in &self.neighbours {
            let Some(length) = next() else { return Ok(None) };
            let silent = Window {
                probe: self.probes[0],
                load: Load::Open { rate: Rate(0), poisson: false },
                length,
                delay: Nanos::ZERO,
                seat: None,
            };
            let record = session.run_arm(&place.arm(Some(neighbour), vec![silent]))?;
            other.push(rate(&record.summary));
        }
        let mut pairs = Vec::new();
        for (&neighbour, &solo) in self.neighbours.iter().zip(&other) {
            for (&probe, &alone) in self.probes.iter().zip(&own) {
                for waits in [false, true] {
                    let Some(window) = next() else { return Ok(None) };
                    let depth = if waits { 1 } else { full(probe) };
                    let (seen, record) = place.run_loop(session, Some(neighbour), closed(probe, depth, window))?;
                    let seats = record.summary.neighbours.len().max(1) as f64;
                    pairs.push(Pair {
                        neighbour: plan.neighbours[neighbour].name.clone(),
                        own: period(alone),
                        // Alone together, the neighbours shared the GPU among themselves.
                        other: period(solo),
                        own_part: seen.rate / alone.max(f64::MIN_POSITIVE),
                        other_part: rate(&record.summary) / solo.max(f64::MIN_POSITIVE) / seats,
                        waits,
                    });
                }
            }
        }
        Ok(Some(judge(&pairs)))
    }
}

/// Requests per second of all neighbours.
fn rate(summary: &ArmSummary) -> f64 {
    summary.neighbours.iter().map(|n| n.rate).sum()
}

/// Time between two requests at this rate.
fn period(rate: f64) -> Nanos {
    Nanos((1e9 / rate.max(1e-3)) as u64)
}
