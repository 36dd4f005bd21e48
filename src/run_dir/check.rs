//! What a run directory says, against its plan and against itself.
//!
//! Whoever can write files can write events. Here is what of them does not have to be believed: names and numbers must be
//! those of the plan, what contradicts the arms is refused, and what follows from the arms is computed again. What was
//! measured cannot be computed again: a changed sample with sums to match is found by nobody but a signature over
//! `finished.json`, made when the run ended.

use std::collections::BTreeSet;
use std::fmt::Debug;

use super::event::{Event, Note, at_line};
use super::files::{self, EVENTS};
use super::{Calibration, RecordedRun, RunDirError};
use crate::backend::{ArmKey, ArmRecord, Purpose, WindowSummary};
use crate::experiment::blocks;
use crate::experiment::calibration::{auto_rate, judged};
use crate::experiment::density;
use crate::experiment::hazards_due;
use crate::observation;
use crate::plan::{Grid, Plan, PlannedArrangement};
use crate::scenario::Arrivals;
use crate::units::Nanos;
use crate::verdict;

/// Refuses an event of what the plan does not have.
pub(super) fn event(plan: &Plan, line: usize, event: &Event) -> Result<(), RunDirError> {
    let of_grid = |arrangement, grid| {
        let found = || format!("grid {grid} of arrangement {arrangement}");
        known(line, grid_of(plan, arrangement, grid), "a grid of the plan", found)
    };
    let of_arrangement = |arrangement: usize| {
        let found = || format!("arrangement {arrangement}");
        known(line, plan.arrangements.get(arrangement), "an arrangement of the plan", found)
    };
    let of_arm =
        |arm: &ArmKey| known(line, is_planned(plan, arm).then_some(()), "an arm of the plan", || format!("{arm:?}"));
    match event {
        Event::Calibrated(c) => calibration(plan, line, of_grid(c.arrangement, c.grid)?, c),
        Event::Skipped { arrangement, .. } | Event::GivenUp { arrangement, .. } => {
            of_arrangement(*arrangement).map(drop)
        }
        Event::Committed(c) => {
            of_arm(&c.arm)?;
            let sampled = c.arm.purpose == Purpose::Unsampled && !c.summary.readings.is_empty();
            let found = || format!("{} readings", c.summary.readings.len());
            known(
                line,
                (!sampled).then_some(()),
                "no readings of clocks and power in an arm without the sampler",
                found,
            )
        }
        Event::Lost { arm, .. } => of_arm(arm),
        Event::Arranged { arrangement, grid, generation, .. } => {
            of_grid(*arrangement, *grid)?;
            // The sensitivity control has a generation of its own after those of the blocks.
            let is_one = generation.is_none_or(|number| number <= plan.design.generations());
            known(line, is_one.then_some(()), "a generation of the plan", || format!("{generation:?}"))
        }
        Event::Stopped { arrangement, grid, neighbour, look } => {
            let planned = of_grid(*arrangement, *grid)?;
            let (runs, looks) = (planned.neighbours.contains(neighbour), plan.design.looks.len());
            let found = || format!("neighbour {neighbour} of grid {grid} of arrangement {arrangement}");
            known(line, runs.then_some(()), "a neighbour of a grid of the plan", found)?;
            let found = || format!("look {look} of {looks}");
            known(line, (look + 1 < looks).then_some(()), "a look of the plan before the last one", found)
        }
        Event::NoControl { arrangement, grid, purpose, .. } => {
            of_grid(*arrangement, *grid)?;
            let planned = match purpose {
                Purpose::Alone => plan.presence(*arrangement, *grid) > 0,
                Purpose::Within => plan.sensitivity(*arrangement, *grid) > 0,
                Purpose::Block | Purpose::Again | Purpose::Unsampled | Purpose::Delayed => false,
            };
            let found = || format!("{purpose:?} of grid {grid} of arrangement {arrangement}");
            known(line, planned.then_some(()), "a control of the plan that has tenants of its own", found)
        }
        Event::Dropped { arrangement, grid, block, .. } => {
            let has = has_block(plan, of_grid(*arrangement, *grid)?, *block);
            known(line, has.then_some(()), "a block of the plan", || format!("block {block}"))
        }
        Event::Tried(one) => {
            let planned = of_arrangement(one.arrangement)?;
            let is_one = planned.hazards.contains(&one.hazard) && planned.grids.iter().any(|g| g.victim == one.victim);
            let found = || format!("hazard {} at seat {} of arrangement {}", one.hazard, one.victim, one.arrangement);
            known(line, is_one.then_some(()), "a hazard of the plan", found)
        }
        Event::Observed { arrangement, observed } => {
            let here = of_arrangement(*arrangement)?;
            let asked = here.observe.iter().any(|asked| asked.id == observed.id);
            let found = || format!("{:?} in {}", observed.id, here.name);
            let found =
                known(line, observation::find(&observed.id).filter(|_| asked), "what the plan observes", found)?;
            let words = found.findings.iter().map(|(word, _)| *word);
            let is_one = observed.finding.as_ref().is_none_or(|finding| words.clone().any(|word| word == finding));
            let expected = format!("a finding of {}: {}", found.id, words.clone().collect::<Vec<_>>().join(", "));
            known(line, is_one.then_some(()), &expected, || format!("{:?}", observed.finding))
        }
        Event::Note(Note::CalibrationLost { arrangement, grid, .. }) => of_grid(*arrangement, *grid).map(drop),
        Event::Note(Note::ObservationLost { arrangement, id, .. }) => {
            of_arrangement(*arrangement)?;
            known(line, observation::find(id).map(drop), "the id of an observation", || format!("{id:?}"))
        }
        Event::Note(Note::HazardLost { arrangement, name, .. }) => {
            of_arrangement(*arrangement)?;
            let planned = plan.hazards.iter().any(|hazard| hazard.name == *name);
            known(line, planned.then_some(()), "the name of a hazard of the plan", || format!("{name:?}"))
        }
        Event::Note(Note::Interrupted {} | Note::Resumed {}) => Ok(()),
    }
}

/// What is there, or that the line should have it.
fn known<T>(line: usize, what: Option<T>, expected: &str, found: impl Fn() -> String) -> Result<T, RunDirError> {
    what.ok_or_else(|| RunDirError::damaged(&at_line(line), expected, found()))
}

fn grid_of(plan: &Plan, arrangement: usize, grid: usize) -> Option<&Grid> {
    plan.arrangements.get(arrangement)?.grids.get(grid)
}

fn has_block(plan: &Plan, grid: &Grid, block: u32) -> bool {
    block.checked_sub(grid.first_block).is_some_and(|number| number < plan.design.blocks)
}

/// Whether the plan has this arm, where no neighbour stops early.
fn is_planned(plan: &Plan, arm: &ArmKey) -> bool {
    let Some(grid) = grid_of(plan, arm.arrangement, arm.grid) else { return false };
    let number = arm.block.wrapping_sub(grid.first_block);
    let each = plan.design.blocks_per_generation.max(1);
    has_block(plan, grid, arm.block)
        && match (arm.purpose, arm.neighbour) {
            (Purpose::Block, None) => true,
            (Purpose::Block, Some(neighbour)) => grid.neighbours.contains(&neighbour),
            (Purpose::Again | Purpose::Unsampled | Purpose::Delayed, neighbour) => {
                neighbour.is_none() && plan.further_quiet(arm.arrangement, arm.grid, arm.block).contains(&arm.purpose)
            }
            (Purpose::Alone, neighbour) => {
                neighbour.is_none()
                    && number.is_multiple_of(each)
                    && number / each < plan.presence(arm.arrangement, arm.grid)
            }
            (Purpose::Within, neighbour) => {
                let exercised = plan.exercised(arm.arrangement, arm.grid);
                number < plan.sensitivity(arm.arrangement, arm.grid)
                    && neighbour.is_none_or(|neighbour| exercised.contains(&neighbour))
            }
        }
}

/// Refuses a calibration of others than the grid's, and one that the plan and its own rates do not bear out: how a quantile
/// is judged decides what becomes of it.
fn calibration(plan: &Plan, line: usize, grid: &Grid, c: &Calibration) -> Result<(), RunDirError> {
    let at = at_line(line);
    let (probes, beside): (Vec<_>, Vec<_>) =
        (c.probes.iter().map(|p| p.probe).collect(), c.neighbours.iter().map(|n| n.neighbour).collect());
    same(&at, &(&grid.probes, &grid.neighbours), &(&probes, &beside))?;
    // Of a density nothing is found out: what its arms need to know is the plan's.
    if let Some(fixed) = density::calibration(plan, c.arrangement) {
        return same(&at, &fixed, c);
    }
    for probe in &c.probes {
        let Some(planned) = plan.panel.get(probe.probe) else { continue };
        let rate = match (planned.arrivals, probe.closed_rate) {
            (Arrivals::Poisson(rate) | Arrivals::Fixed(rate), None) => Some(rate),
            (Arrivals::Auto, Some(closed)) => Some(auto_rate(closed)),
            _ => None,
        };
        same(&at, &rate, &Some(probe.rate))?;
        same(&at, &judged(&plan.design, probe.rate), &(probe.window, probe.judged.clone()))?;
        let held_back = plan.delayed(c.arrangement, c.grid).contains(&probe.probe);
        let is_so = held_back == probe.delay.is_some_and(|delay| delay > Nanos::ZERO);
        let expected = if held_back { "a delay of a probe that has a control by one" } else { "no delay" };
        known(line, is_so.then_some(()), expected, || format!("{:?} of probe {}", probe.delay, probe.probe))?;
    }
    let turns = c.turns.filter(|t| t.probe >= plan.panel.len() || t.neighbour >= plan.neighbours.len());
    known(line, turns.is_none().then_some(()), "turns of a probe and a neighbour of the plan", || {
        format!("{turns:?}")
    })?;
    let wrong = c.neighbours.iter().find(|n| !n.solo_rate.is_finite() || n.solo_rate < 0.0);
    known(line, wrong.is_none().then_some(()), "rates of zero and more", || format!("{wrong:?}"))
}

fn same<T: PartialEq + Debug>(at: &str, expected: &T, found: &T) -> Result<(), RunDirError> {
    if expected == found {
        return Ok(());
    }
    Err(RunDirError::damaged(at, format!("{expected:?}, as the plan has it"), format!("{found:?}")))
}

/// Refuses what events say of arms that are there all the same. `measured` are those that were ever committed.
pub(super) fn contradictions(
    run: &RecordedRun,
    arms: &[&ArmKey],
    measured: &BTreeSet<usize>,
) -> Result<(), RunDirError> {
    for ((arrangement, grid, purpose), reason) in &run.no_control {
        let of_it = |arm: &&&ArmKey| (arm.arrangement, arm.grid, arm.purpose) == (*arrangement, *grid, *purpose);
        if let Some(arm) = arms.iter().find(of_it) {
            let file = files::arm_file(&run.manifest.plan, arm)?;
            let expected = format!("no arm of a control that could not be run ({reason:?})");
            return Err(RunDirError::damaged(EVENTS, expected, file));
        }
    }
    if let Some((index, reason)) = run.skipped.iter().find(|(index, _)| measured.contains(index)) {
        let expected = format!("no arm of an arrangement that was skipped ({reason:?})");
        let name = run.manifest.plan.arrangements.get(*index).map_or("", |a| a.name.as_str());
        return Err(RunDirError::damaged(EVENTS, expected, format!("arms of {name}")));
    }
    Ok(())
}

/// The summary of a window with everything that its samples tell: how many there were, were served and were open. `series`
/// is the place of the probe's first series among those of the arm.
pub(crate) fn counted(window: &WindowSummary, index: usize, series: usize, record: &ArmRecord) -> WindowSummary {
    let mine = || {
        let of_it = |s: &&crate::backend::Sample| (usize::from(s.window), usize::from(s.series)) == (index, series);
        record.samples.iter().filter(of_it)
    };
    let open_at = |at: Nanos| {
        let open = |s: &&crate::backend::Sample| s.planned <= at && s.completed.is_none_or(|done| done > at);
        mine().filter(open).count() as u64
    };
    WindowSummary {
        planned: mine().count() as u64,
        completed: mine().filter(|s| s.completed.is_some()).count() as u64,
        open_at_half: open_at(window.start + window.length / 2),
        open_at_end: open_at(window.start + window.length),
        ..window.clone()
    }
}

/// Refuses an arm whose windows are not those of its samples.
pub(super) fn windows(plan: &Plan, arrangement: usize, file: &str, record: &ArmRecord) -> Result<(), RunDirError> {
    for (index, window) in record.summary.windows.iter().enumerate() {
        let first = plan.panel.get(window.probe).and_then(|probe| probe.series.first());
        let first = first.map(|name| plan.tenant_series(name, arrangement, window.seat));
        let series = first.and_then(|name| record.series.iter().position(|s| *s == name));
        // A probe of which nothing was planned has no series in its arm.
        let expected = counted(window, index, series.unwrap_or(usize::MAX), record);
        if expected != *window {
            let expected = format!("{expected:?} in {EVENTS}, as its samples tell");
            return Err(RunDirError::damaged(file, expected, format!("{window:?}")));
        }
    }
    Ok(())
}

/// Computes again what follows from the arms of a run: that neighbours stopped where everything was decided, that arms had the
/// windows of their calibration and, where the run is finished, that nothing is missing without an event that says why.
///
/// # Errors
/// Where an event says something else.
pub fn recheck(run: &RecordedRun) -> Result<(), RunDirError> {
    let plan = &run.manifest.plan;
    for (key, arm) in &run.arms {
        let Some(calibration) = run.calibrations.get(&(key.arrangement, key.grid)) else {
            let expected = format!("a calibration of grid {} before its arms", key.grid);
            return Err(RunDirError::damaged(EVENTS, expected, files::arm_file(plan, key)?));
        };
        let planned = blocks::arms(plan, calibration, std::slice::from_ref(key));
        let planned: Vec<_> =
            planned.iter().flat_map(|arm| &arm.windows).map(|w| (w.probe, w.seat, w.length)).collect();
        let found: Vec<_> = arm.summary.windows.iter().map(|w| (w.probe, w.seat, w.length)).collect();
        if planned != found {
            let at = files::arm_file(plan, key)?;
            let expected = format!("the windows of its calibration (probe, seat, length) {planned:?}");
            return Err(RunDirError::damaged(&at, expected, format!("{found:?} in {EVENTS}")));
        }
    }
    stops(run)?;
    observed(run)?;
    if run.finished { whole(run) } else { Ok(()) }
}

/// Every stop follows from the arms up to its look. Where arms of the grid were lost and measured anew since, those on which
/// the look was taken are gone: nothing of it is called Isolated then.
fn stops(run: &RecordedRun) -> Result<(), RunDirError> {
    let plan = &run.manifest.plan;
    for (&(arrangement, grid, neighbour), &look) in &run.stopped {
        let here = |arm: &ArmKey| (arm.arrangement, arm.grid) == (arrangement, grid);
        let found = |what: &str| {
            let (arrangement, neighbour) = (&plan.arrangements[arrangement].name, &plan.neighbours[neighbour].name);
            format!("a stop of {neighbour} in {arrangement} at look {look}, {what}")
        };
        let later = |arm: &&ArmKey| {
            here(arm)
                && arm.purpose == Purpose::Block
                && arm.neighbour == Some(neighbour)
                && !run.runs(arrangement, grid, neighbour, arm.block)
        };
        if let Some(arm) = run.arms.keys().find(later) {
            let found = found(&format!("and {}", files::arm_file(plan, arm)?));
            return Err(RunDirError::damaged(EVENTS, "no arm of a neighbour after it stopped", found));
        }
        if !verdict::decided(run, arrangement, grid, neighbour, look) && !run.lost_before.keys().any(here) {
            let found = found("where its arms leave something open");
            return Err(RunDirError::damaged(EVENTS, "stops where everything is decided", found));
        }
    }
    Ok(())
}

/// What calibration has seen of turns is what was observed of them.
fn observed(run: &RecordedRun) -> Result<(), RunDirError> {
    let turns = |index: usize| run.calibrations.range((index, 0)..(index + 1, 0)).find_map(|(_, c)| c.turns);
    for (index, all) in &run.observed {
        let mut ids = BTreeSet::new();
        for observed in all {
            if !ids.insert(&observed.id) {
                return Err(RunDirError::damaged(EVENTS, "each observation once", format!("{:?} again", observed.id)));
            }
            let seen = turns(*index).filter(|_| observed.id == observation::turns::TURNS.id);
            let Some(expected) = seen.map(|turns| observation::turns::judge(turns.into())) else { continue };
            if expected != *observed {
                let expected = format!("{expected:?}, as calibrated");
                return Err(RunDirError::damaged(EVENTS, expected, format!("{observed:?}")));
            }
        }
    }
    Ok(())
}

/// A finished run has everything that its plan has, or an event that says why not.
fn whole(run: &RecordedRun) -> Result<(), RunDirError> {
    let plan = &run.manifest.plan;
    if let Some(missing) = hazards_due(run).first() {
        let (name, arrangement) = (&plan.hazards[missing.hazard].name, &plan.arrangements[missing.arrangement].name);
        let found = format!("none of {name} in {arrangement}");
        return Err(RunDirError::damaged(EVENTS, "every hazard of the plan", found));
    }
    for (index, arrangement) in plan.arrangements.iter().enumerate() {
        if run.skipped.contains_key(&index) || run.given_up.contains_key(&index) {
            continue;
        }
        let made = |id: &str| run.observed.get(&index).is_some_and(|all| all.iter().any(|o| o.id == id));
        if let Some(asked) = arrangement.observe.iter().find(|asked| !made(&asked.id)) {
            let found = format!("none of {} in {}", asked.id, arrangement.name);
            return Err(RunDirError::damaged(EVENTS, "every observation of the plan", found));
        }
        // Where hazards alone are tried there are no arms; of densities, only those that were begun have any.
        let begun = arrangement.density.is_some() && run.calibrations.contains_key(&(index, 0));
        let grids = arrangement.grids.iter().enumerate().filter(|(_, grid)| begun || !grid.neighbours.is_empty());
        for (number, grid) in grids {
            whole_grid(run, index, arrangement, number, grid)?;
        }
    }
    let unfinished = (0..plan.curves.len()).find_map(|curve| Some((curve, verdict::next_density(run, curve)?)));
    if let Some((curve, next)) = unfinished {
        let found = format!("none of {}, which is to be measured next", plan.arrangements[next].name);
        let expected = format!("every density that {} needs", plan.curves[curve].name);
        return Err(RunDirError::damaged(EVENTS, expected, found));
    }
    Ok(())
}

fn whole_grid(
    run: &RecordedRun,
    index: usize,
    arrangement: &PlannedArrangement,
    number: usize,
    grid: &Grid,
) -> Result<(), RunDirError> {
    let plan = &run.manifest.plan;
    if !run.calibrations.contains_key(&(index, number)) {
        let found = format!("none of grid {number} of {}", arrangement.name);
        return Err(RunDirError::damaged(EVENTS, "a calibration of every grid", found));
    }
    let first = grid.first_block;
    let (pairs, alone) = (plan.sensitivity(index, number), plan.presence(index, number));
    let blocks = (first..first + plan.design.blocks).map(|block| (block, Purpose::Block));
    let within = (first..first + pairs).map(|block| (block, Purpose::Within));
    let alone = blocks::generations(plan, grid).into_iter().filter(|(generation, _)| *generation < alone);
    // The quiet arms of a grid end with its last neighbour.
    let goes_on = |block: u32| !run.planned(index, number, block, Purpose::Block).is_empty();
    let alone = alone.map(|(_, blocks)| blocks.start).filter(|block| goes_on(*block));
    for (block, purpose) in blocks.chain(within).chain(alone.map(|block| (block, Purpose::Alone))) {
        let planned = run.planned(index, number, block, purpose);
        let Some(missing) = planned.iter().find(|arm| !run.arms.contains_key(arm)) else { continue };
        // What a block lost, it lost for all of its arms; of a control, for all that would have followed.
        let lost = |arm: &ArmKey| match purpose {
            Purpose::Block => arm.belongs(index, number, block, purpose),
            _ => (arm.arrangement, arm.grid, arm.purpose) == (index, number, purpose),
        };
        if run.no_control.contains_key(&(index, number, purpose)) || run.lost.keys().any(lost) {
            continue;
        }
        let file = files::arm_file(plan, missing)?;
        return Err(RunDirError::damaged(EVENTS, format!("{file}, or why it could not be measured"), "neither"));
    }
    Ok(())
}
