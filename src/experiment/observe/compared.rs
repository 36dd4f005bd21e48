//! The arms of `alone` and `together`, run here and in the arrangement that this one is compared with.

use super::loops::{
    Loop, closed, computes, loops, neighbour_cycles, probe_cycles, probe_work, request_of, sms_seen, window_alone,
    window_beside,
};
use super::{ALONE, Place};
use crate::backend::{ArmSummary, Backend, BackendError, Session};
use crate::observation::compared::{Reached, judge};
use crate::observation::{Observation, Observed};
use crate::plan::{Grid, Plan};
use crate::scenario::SharingMode;
use crate::units::Nanos;

/// Windows that a p99 is taken from are longer: a tenant in turns of 2 ms has some 400 requests in them.
const FOR_P99: u64 = 4;

/// What is compared with what.
pub(super) struct Measure {
    /// Index of the other arrangement, and of the grid in it.
    there: (usize, usize),
    what: What,
}

enum What {
    /// Each probe beside idle tenants.
    Probes(Vec<usize>),
    /// A probe beside each neighbour.
    Pairs(usize, Vec<usize>),
}

/// The first grid whose programs run in the other arrangement too; or why it cannot be compared.
pub(super) fn measured_in(
    plan: &Plan,
    arrangement: usize,
    observation: &Observation,
) -> Result<(usize, Measure), String> {
    let here = &plan.arrangements[arrangement];
    let Some(against) = here.against else {
        return Err("there is no arrangement to compare it with".to_owned());
    };
    let there = &plan.arrangements[against];
    if let Some(reason) = &there.skipped {
        return Err(format!("{} was skipped, with which it would be compared: {reason}", there.name));
    }
    if plan.gpu().model.is_none() {
        return Err("the data of this GPU's model are not known, and with them how much work a request is".to_owned());
    }
    let together = observation.id != ALONE.id;
    if together && [here.sharing, there.sharing].contains(&SharingMode::Exclusive) {
        return Err("beside an exclusive victim nobody computes".to_owned());
    }
    let what = |grid: &Grid| {
        if !together {
            return Some(What::Probes(grid.probes.clone())).filter(|_| !grid.probes.is_empty());
        }
        let counts = |cycles: Option<f64>| cycles.is_some();
        let probe =
            grid.probes.iter().copied().find(|p| counts(probe_cycles(plan, (arrangement, grid.victim), *p, None)))?;
        let seat = *grid.neighbour_seats.first()?;
        let neighbours = grid.neighbours.iter().copied().filter(|n| {
            computes(&plan.neighbours[*n]) && counts(neighbour_cycles(plan, (arrangement, seat), *n, None))
        });
        let neighbours: Vec<usize> = neighbours.collect();
        (!neighbours.is_empty()).then_some(What::Pairs(probe, neighbours))
    };
    let found = here.grids.iter().enumerate().find_map(|(index, grid)| {
        let what = what(grid)?;
        let same = there.grids.iter().position(|other| what.runs_in(other))?;
        Some((index, Measure { there: (against, same), what }))
    });
    found.ok_or_else(|| match together {
        true => format!(
            "it takes a probe and a neighbour that do nothing but compute (compute, compute-burst), here and in {}",
            there.name
        ),
        false => format!("no panel of this arrangement runs in {} too", there.name),
    })
}

impl What {
    fn runs_in(&self, grid: &Grid) -> bool {
        match self {
            Self::Probes(probes) => probes.iter().all(|probe| grid.probes.contains(probe)),
            Self::Pairs(probe, neighbours) => {
                grid.probes.contains(probe) && neighbours.iter().all(|n| grid.neighbours.contains(n))
            }
        }
    }
}

impl Measure {
    /// The two places in which its arms run, each with the windows of each arm together.
    pub(super) fn windows(&self, plan: &Plan, here: (usize, usize)) -> Vec<((usize, usize), Vec<Nanos>)> {
        let of = |place: (usize, usize)| {
            let windows = match &self.what {
                What::Probes(probes) => vec![window_alone() * (2 * probes.len() as u64)],
                What::Pairs(_, neighbours) => neighbours.iter().flat_map(|n| pair(plan, place, *n)).collect(),
            };
            (place, windows)
        };
        vec![of(here), of(self.there)]
    }

    /// Runs them, here and there, in sessions of their own; `None` where it is asked to stop.
    pub(super) fn run(
        &self,
        backend: &dyn Backend,
        place: Place<'_>,
        observation: &Observation,
    ) -> Result<Option<Observed>, BackendError> {
        let plan = place.plan;
        let other = Place { arrangement: self.there.0, grid: self.there.1, ..place };
        let mut sides = Vec::with_capacity(2);
        for at in [place, other] {
            match at.in_session(backend, |session| self.side(at, session))? {
                Some(side) => sides.push(side),
                None => return Ok(None),
            }
        }
        let [here, there] = sides.as_slice() else { return Ok(None) };
        Ok(Some(judge(observation, here, there, &plan.arrangements[self.there.0].name)))
    }

    fn side(&self, place: Place<'_>, session: &mut dyn Session) -> Result<Option<Vec<Reached>>, BackendError> {
        let plan = place.plan;
        match &self.what {
            What::Probes(probes) => {
                let window = |probe: usize, depth| closed(probe, depth, window_alone());
                let two = |p: &usize| [window(*p, plan.panel[*p].outstanding), window(*p, 1)];
                let record = session.run_arm(&place.arm(None, probes.iter().flat_map(two).collect()))?;
                let loops = loops(plan, &record);
                let sms = place.sms(session);
                let at = (place.arrangement, place.grid().victim);
                let one = |(probe, loops): (&usize, &[Loop])| {
                    // Without the model's data nothing says how much work a request is.
                    let work = probe_work(plan, at, *probe, sms).unwrap_or(f64::NAN);
                    Reached {
                        name: plan.panel[*probe].name.clone(),
                        rate: loops.first().map_or(0.0, |full| full.rate) * work,
                        latency: loops.get(1).map_or(0.0, |one| one.percentile(50).0 as f64) / work,
                    }
                };
                Ok(Some(probes.iter().zip(loops.chunks(2)).map(one).collect()))
            }
            What::Pairs(probe, neighbours) => {
                let at = (place.arrangement, place.grid().victim);
                let mut reached = Vec::with_capacity(neighbours.len());
                for &neighbour in neighbours {
                    let [full, one] = pair(plan, (place.arrangement, place.grid), neighbour);
                    if place.stopped() {
                        return Ok(None);
                    }
                    let depth = plan.panel[*probe].outstanding;
                    let (seen, record) = place.run_loop(session, Some(neighbour), closed(*probe, depth, full))?;
                    let total = total(place, session, (*probe, seen.rate), neighbour, &record.summary);
                    let (waiting, _) = place.run_loop(session, Some(neighbour), closed(*probe, 1, one))?;
                    let work = probe_work(plan, at, *probe, place.sms(session)).unwrap_or(f64::NAN);
                    reached.push(Reached {
                        name: plan.neighbours[neighbour].name.clone(),
                        rate: total.unwrap_or(f64::NAN),
                        latency: waiting.percentile(99).0 as f64 / work,
                    });
                }
                Ok(Some(reached))
            }
        }
    }
}

/// The windows beside one neighbour: of the loop that is always full, and of the one whose p99 counts.
fn pair(plan: &Plan, (arrangement, grid): (usize, usize), neighbour: usize) -> [Nanos; 2] {
    let grid = &plan.arrangements[arrangement].grids[grid];
    let window = window_beside(request_of(plan, arrangement, grid, neighbour));
    [window, window * FOR_P99]
}

/// SM cycles of issue per second and MHz that all tenants together used: the SMs that they kept busy, times a million. Per
/// second alone where the clock is not known.
fn total(
    place: Place<'_>,
    session: &dyn Session,
    (probe, rate): (usize, f64),
    neighbour: usize,
    summary: &ArmSummary,
) -> Option<f64> {
    let evidence = session.evidence();
    let sms = |seat: usize| sms_seen(&evidence, seat);
    let at = |seat: usize| (place.arrangement, seat);
    let victim = place.grid().victim;
    let mut total = rate * probe_cycles(place.plan, at(victim), probe, sms(victim))?;
    for seat in &summary.neighbours {
        total += seat.rate * neighbour_cycles(place.plan, at(seat.seat), neighbour, sms(seat.seat))?;
    }
    Some(total / summary.sm_mhz.unwrap_or(1.0))
}
