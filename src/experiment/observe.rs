//! Observations: what a scenario asks of an arrangement beside its cells, made once for each arrangement after calibration.
//!
//! They run in the session that calibrates the grid which can tell. What a lost tenant, or a stop of the run, left open is
//! made in sessions of its own afterwards, and so is what compares two arrangements.

mod compared;
mod fairness;
mod loops;
mod own_compute;
#[cfg(test)]
mod tests;
pub(super) mod turns;

use std::sync::atomic::{AtomicBool, Ordering};

use super::{ExperimentError, Progress, arm_of_no_block, in_session};
use crate::backend::{ArmPlan, Backend, BackendError, Reach, Session, Window, sim};
use crate::observation::compared::ALONE;
use crate::observation::fairness::FAIRNESS;
use crate::observation::own_compute::OWN_COMPUTE;
use crate::observation::turns::TURNS;
use crate::observation::{self, ALL_REDUCE, By, IPC, Observation, Observed};
use crate::plan::Plan;
use crate::provenance::Provenance;
use crate::run_dir::{Note, RecordedRun, RunDir, Turns};
use crate::scenario::SharingMode;
use crate::sharing::one_process;
use crate::units::Nanos;

/// Times that an observation begins anew after a tenant was lost over it.
const AGAIN: u32 = 2;

/// An observation that is still to be made.
pub(super) struct Due {
    observation: &'static Observation,
    /// Index of the grid in whose session it is made.
    grid: usize,
    how: How,
}

/// How an observation is made.
enum How {
    /// By an arm, where calibration has not seen it.
    Turns(turns::Measure),
    /// By arms, in whichever session is open.
    OwnCompute(own_compute::Measure),
    Fairness(fairness::Measure),
    /// By arms here and in another arrangement.
    Compared(compared::Measure),
    /// By asking the backend, which takes so long.
    Ask(Nanos),
    /// Not at all, and why.
    Untold(String),
}

/// What of a run an observation is made in.
#[derive(Clone, Copy)]
struct Place<'a> {
    plan: &'a Plan,
    arrangement: usize,
    grid: usize,
    stop: &'a AtomicBool,
}

/// What was observed in one session.
#[derive(Default)]
pub(super) struct Made {
    observed: Vec<Observed>,
    /// Over which a tenant was lost, and why.
    lost: Option<(&'static str, String)>,
}

/// What observations take.
#[derive(Default)]
pub(super) struct Cost {
    /// Windows of their arms.
    pub(super) windows: Vec<Nanos>,
    /// Seats of the sessions that it opens beside that of a calibration.
    pub(super) sessions: Vec<u64>,
    /// Time beside arms.
    pub(super) asking: Nanos,
}

/// What the plan asks of an arrangement and `run` has not.
pub(super) fn due(plan: &Plan, arrangement: usize, run: &RecordedRun) -> Vec<Due> {
    let made = run.observed.get(&arrangement).map_or(&[][..], Vec::as_slice);
    let asked = plan.arrangements[arrangement].observe.iter().filter(|asked| made.iter().all(|o| o.id != asked.id));
    asked.filter_map(|asked| observation::find(&asked.id)).map(|o| planned(plan, arrangement, o)).collect()
}

/// How an observation is made in an arrangement.
fn planned(plan: &Plan, arrangement: usize, observation: &'static Observation) -> Due {
    let here = &plan.arrangements[arrangement];
    let needs = || needs(observation).to_owned();
    let how = match (observation.by, observation) {
        (By::Backend { takes }, _) => Ok((0, How::Ask(takes))),
        (By::Arms, &TURNS) => turns::looked_for_in(plan, here).map(|(grid, m)| (grid, How::Turns(m))).ok_or_else(needs),
        (By::Arms, &OWN_COMPUTE) => {
            let measure = own_compute::measured_in(plan, &here.grids);
            measure.map(|(grid, m)| (grid, How::OwnCompute(m))).ok_or_else(needs)
        }
        (By::Arms, &FAIRNESS) => {
            fairness::measured_in(plan, &here.grids).map(|(grid, m)| (grid, How::Fairness(m))).ok_or_else(needs)
        }
        (By::Arms, _) => {
            compared::measured_in(plan, arrangement, observation).map(|(grid, m)| (grid, How::Compared(m)))
        }
    };
    let (grid, how) = how.unwrap_or_else(|why| (0, How::Untold(why)));
    Due { observation, grid, how }
}

/// What a scenario must have for an observation by arms.
fn needs(observation: &Observation) -> &'static str {
    match *observation {
        TURNS => {
            "it takes a probe of short kernels (compute) and a noise of long ones (compute-burst) that never pauses"
        }
        FAIRNESS => {
            "it takes two `compute` probes of different lengths in one panel and a noise that computes all the time"
        }
        _ => "it takes the probe `compute` and a noise that computes all the time",
    }
}

/// Makes what is `due` in the grid that was just calibrated, on its session. After a loss the tenants are down: the rest
/// is left for [`rest`].
///
/// # Errors
/// Where the device is lost.
pub(super) fn here(
    plan: &Plan,
    (arrangement, grid): (usize, usize),
    due: &[Due],
    turns: Option<Turns>,
    session: &mut dyn Session,
    stop: &AtomicBool,
) -> Result<Made, BackendError> {
    let place = Place { plan, arrangement, grid, stop };
    let mut made = Made::default();
    let on_its_own = |due: &&Due| matches!(due.how, How::Compared(_));
    for due in due.iter().filter(|due| due.grid == grid && !on_its_own(due)) {
        match due.make(place, turns, session) {
            Ok(Some(observed)) => made.observed.push(observed),
            Ok(None) => break,
            Err(error) if error.reach == Reach::Arm => {
                made.lost = Some((due.observation.id, error.what));
                break;
            }
            Err(error) if error.reach == Reach::Arrangement => {
                made.observed.push(due.observation.unknown(error.what));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(made)
}

/// Makes what is still due of an arrangement, each in a session of its own; `false` where it is asked to stop.
///
/// # Errors
/// Where the device is lost, or the run directory cannot be written.
pub(super) fn rest(
    backend: &dyn Backend,
    plan: &Plan,
    arrangement: usize,
    dir: &mut RunDir,
    run: &mut RecordedRun,
    stop: &AtomicBool,
    on: &mut dyn FnMut(Progress),
) -> Result<bool, ExperimentError> {
    let turns = run.calibrations.range((arrangement, 0)..(arrangement + 1, 0)).find_map(|(_, c)| c.turns);
    for due in due(plan, arrangement, run) {
        let place = Place { plan, arrangement, grid: due.grid, stop };
        let mut lost = 0;
        let observed = loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            match due.alone(backend, place, turns) {
                Ok(Some(observed)) => break observed,
                Ok(None) => return Ok(false),
                Err(error) if error.reach == Reach::Device => return Err(error.into()),
                Err(error) if error.reach == Reach::Arm && lost < AGAIN => {
                    lost += 1;
                    let made = Made { observed: Vec::new(), lost: Some((due.observation.id, error.what)) };
                    record(arrangement, made, dir, run, on)?;
                }
                Err(error) => break due.observation.unknown(error.what),
            }
        };
        record(arrangement, Made { observed: vec![observed], lost: None }, dir, run, on)?;
    }
    Ok(true)
}

/// Writes down what was observed.
///
/// # Errors
/// Where the run directory cannot be written.
pub(super) fn record(
    arrangement: usize,
    made: Made,
    dir: &mut RunDir,
    run: &mut RecordedRun,
    on: &mut dyn FnMut(Progress),
) -> Result<(), ExperimentError> {
    for observed in made.observed {
        dir.observed(arrangement, &observed)?;
        run.observed.entry(arrangement).or_default().push(observed);
    }
    if let Some((id, reason)) = made.lost {
        dir.note(&Note::ObservationLost { arrangement, id: id.to_owned(), reason: reason.clone() })?;
        on(Progress::Lost { index: arrangement, reason });
    }
    Ok(())
}

impl Due {
    /// Makes it on a session whose tenants are up; `None` where it is asked to stop.
    fn make(
        &self,
        place: Place<'_>,
        turns: Option<Turns>,
        session: &mut dyn Session,
    ) -> Result<Option<Observed>, BackendError> {
        if place.stopped() {
            return Ok(None);
        }
        Ok(Some(match &self.how {
            How::Turns(measure) => {
                let seen = match turns {
                    Some(turns) => turns.into(),
                    None => measure.look(place.plan, &|noise, windows| place.arm(noise, windows), session)?,
                };
                observation::turns::judge(seen)
            }
            How::OwnCompute(measure) => return measure.run(place, session),
            How::Fairness(measure) => return measure.run(place, session),
            How::Ask(_) => session.ask(self.observation)?,
            How::Compared(_) => self.observation.unknown("it takes sessions of its own"),
            How::Untold(why) => self.observation.unknown(why.clone()),
        }))
    }

    /// The same in a session of its own.
    fn alone(
        &self,
        backend: &dyn Backend,
        place: Place<'_>,
        turns: Option<Turns>,
    ) -> Result<Option<Observed>, BackendError> {
        match &self.how {
            How::Untold(why) => Ok(Some(self.observation.unknown(why.clone()))),
            How::Compared(measure) => measure.run(backend, place, self.observation),
            How::Turns(_) | How::OwnCompute(_) | How::Fairness(_) | How::Ask(_) => {
                place.in_session(backend, |session| self.make(place, turns, session))
            }
        }
    }

    fn cost(&self, plan: &Plan, arrangement: usize) -> Cost {
        let grid = || &plan.arrangements[arrangement].grids[self.grid];
        let measured = || turns::measured_in(plan, &plan.arrangements[arrangement]).is_some();
        match &self.how {
            // Calibration has counted its arm.
            How::Turns(_) if measured() => Cost::default(),
            How::Turns(measure) => Cost { windows: vec![measure.window()], ..Cost::default() },
            How::OwnCompute(measure) => Cost { windows: measure.windows(plan, arrangement, grid()), ..Cost::default() },
            How::Fairness(measure) => Cost { windows: measure.windows(plan, arrangement, grid()), ..Cost::default() },
            How::Compared(measure) => {
                let sides = measure.windows(plan, (arrangement, self.grid));
                let seats =
                    |(place, grid): (usize, usize)| plan.arrangements[place].grids[grid].neighbour_seats.len() + 1;
                Cost {
                    sessions: sides.iter().map(|(place, _)| seats(*place) as u64).collect(),
                    windows: sides.into_iter().flat_map(|(_, windows)| windows).collect(),
                    ..Cost::default()
                }
            }
            How::Ask(takes) => Cost { asking: *takes, ..Cost::default() },
            How::Untold(_) => Cost::default(),
        }
    }
}

impl Place<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// An arm that belongs to no block.
    fn arm(&self, noise: Option<usize>, windows: Vec<Window>) -> ArmPlan {
        arm_of_no_block(self.plan, (self.arrangement, self.grid), noise, windows)
    }

    /// See [`in_session`].
    fn in_session<T>(
        &self,
        backend: &dyn Backend,
        work: impl FnOnce(&mut dyn Session) -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        in_session(backend, self.plan, (self.arrangement, self.grid), work)
    }
}

/// What the observations of an arrangement take.
pub(super) fn cost(plan: &Plan, arrangement: usize) -> Cost {
    let mut all = Cost::default();
    for asked in &plan.arrangements[arrangement].observe {
        let Some(observation) = observation::find(&asked.id) else { continue };
        let cost = planned(plan, arrangement, observation).cost(plan, arrangement);
        all.windows.extend(cost.windows);
        all.sessions.extend(cost.sessions);
        all.asking += cost.asking;
    }
    all
}

/// Why an observation will not be told in an arrangement that can run; `None`: it may be, as far as the plan shows.
pub(crate) fn untold(plan: &Plan, arrangement: usize, id: &str) -> Option<String> {
    let observation = observation::find(id)?;
    let due = planned(plan, arrangement, observation);
    let here = &plan.arrangements[arrangement];
    let in_company = here.grids.get(due.grid).is_some_and(|grid| !grid.neighbour_seats.is_empty());
    match due.how {
        How::Untold(why) => Some(why),
        How::Ask(_) if here.sharing == SharingMode::Exclusive || !in_company => {
            Some("no neighbour is on a GPU here".to_owned())
        }
        How::Ask(_) if plan.inventory.provenance == Provenance::Simulated => {
            let told = sim::told(plan, (arrangement, due.grid), observation)?;
            told.finding.is_none().then_some(told.why)
        }
        How::Ask(_) if one_process(here.sharing) && [&IPC, &ALL_REDUCE].contains(&observation) => {
            Some("victim and neighbour live in one process: to the driver they are one".to_owned())
        }
        How::Ask(_) | How::Turns(_) | How::OwnCompute(_) | How::Fairness(_) | How::Compared(_) => None,
    }
}

/// What an observation does in an arrangement that can run, as a sentence.
pub(crate) fn observing(plan: &Plan, arrangement: usize, id: &str) -> String {
    let Some(observation) = observation::find(id) else { return String::new() };
    let due = planned(plan, arrangement, observation);
    let cost = due.cost(plan, arrangement);
    match due.how {
        How::Untold(why) => format!("Cannot be told here: {why}."),
        How::Ask(_) => "Asked of the driver and the tenants.".to_owned(),
        _ if cost.windows.is_empty() => "Seen in calibration.".to_owned(),
        _ => {
            let arms = cost.windows.len();
            let total: Nanos = cost.windows.into_iter().sum();
            let there = match due.how {
                How::Compared(_) => {
                    let other =
                        plan.arrangements[arrangement].against.map(|other| plan.arrangements[other].name.as_str());
                    format!(", here and in {}", other.unwrap_or_default())
                }
                _ => String::new(),
            };
            let arms = if arms == 1 { "1 arm".to_owned() } else { format!("{arms} arms") };
            format!("{arms} of {} in all{there}.", total.for_people())
        }
    }
}
