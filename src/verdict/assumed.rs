//! What an Isolated of a run rests on without proof: controls that were not run, exclusive use that was assumed.

use std::collections::BTreeMap;

use super::cell;
use super::placebo;
use super::types::{CellVerdict, Control, ControlOutcome, ControlVerdict, Unwatched};
use super::was_judged;
use crate::channel::Channel;
use crate::nvml::assumed_use;
use crate::plan::{Plan, PlannedArrangement, delayed_channels};
use crate::provenance::Provenance;
use crate::run_dir::RecordedRun;
use crate::scenario::SharingMode;
use crate::sharing;

/// Names that a sentence holds.
const NAMES: usize = 4;

/// One sentence each, in a fixed order.
pub(super) fn of(run: &RecordedRun, controls: &[ControlVerdict], cells: &[CellVerdict]) -> Vec<String> {
    let plan = &run.manifest.plan;
    let mut assumed = Vec::new();
    if let Some(why) = assumed_use(&run.manifest.device) {
        assumed.push(format!("exclusive use assumed: {why}"));
    }
    let ran: Vec<&PlannedArrangement> = plan
        .arrangements
        .iter()
        .enumerate()
        .filter(|(i, a)| cell::skipped(run, *i).is_none() && a.sharing != SharingMode::Exclusive)
        .filter(|(_, a)| a.grids.iter().any(|grid| !grid.neighbours.is_empty()))
        .map(|(_, a)| a)
        .collect();
    let design = &plan.design.controls;
    if !ran.is_empty() && !design.again {
        assumed.push("A/A control not run".to_owned());
    }
    let mut without = |what: &str, lacks: &dyn Fn(&PlannedArrangement) -> bool| {
        let names: Vec<&str> = ran.iter().filter(|a| lacks(a)).map(|a| a.name.as_str()).collect();
        if !names.is_empty() {
            let place = if names.len() == ran.len() { String::new() } else { format!(" in {}", names.join(", ")) };
            assumed.push(format!("{what} not run{place}"));
        }
    };
    without("host placebo", &|a| !a.grids.iter().flat_map(|g| &g.neighbours).any(|n| placebo::is(plan, *n)));
    without("presence control", &|a| design.presence == 0 && sharing::has_presence(a.sharing));
    without("sensitivity control", &|a| {
        promises(a.sharing) && (design.sensitivity == 0 || !sharing::has_sensitivity(a.sharing))
    });
    if !ran.is_empty() {
        match (plan.inventory.provenance, design.sampler) {
            (Provenance::Simulated, 0) => {}
            (Provenance::Simulated, _) => {
                assumed.push("sampler control not applicable: nobody samples a simulated GPU".to_owned());
            }
            (_, 0) => assumed.push("sampler control not run".to_owned()),
            _ => {}
        }
    }
    let channels = not_exercisable(plan, &ran, controls);
    let named = |shown: bool| {
        let names: Vec<&str> = channels.iter().filter(|(_, s)| **s == shown).map(|(c, _)| c.id()).collect();
        Some(names.join(", ")).filter(|names| !names.is_empty())
    };
    assumed.extend(named(true).map(|names| format!("{names}: by an injected delay, not through the channel itself")));
    assumed.extend(named(false).map(|names| format!("no sensitivity control exists for {names}")));
    for row in controls {
        let (control, place) = (row.control.words(), &plan.arrangements[row.arrangement].name);
        let text = match row.outcome {
            ControlOutcome::Impossible => format!("{control} control not possible in {place}: {}", row.text),
            // Quiet against quiet that cannot say blocks Isolated; one of these contradicts nothing, and shows nothing.
            ControlOutcome::Undecided
                if matches!(row.control, Control::Placebo | Control::Presence | Control::Sampler) =>
            {
                format!("{control} control undecided in {place}")
            }
            _ => continue,
        };
        if !assumed.contains(&text) {
            assumed.push(text);
        }
    }
    assumed.extend([Unwatched::CarryOver, Unwatched::Drift, Unwatched::Tail, Unwatched::Host].into_iter().filter_map(
        |what| {
            let of = unwatched(plan, cells, what)?;
            Some(format!("{}{of}", what.words()))
        },
    ));
    assumed
}

/// Where `what` could not be looked for, of everything that was judged beside noise; nothing more where that is everywhere.
/// `None`: nowhere.
fn unwatched(plan: &Plan, cells: &[CellVerdict], what: Unwatched) -> Option<String> {
    let (mut lacking, mut seen) = (Vec::new(), false);
    let tests = |cell: &&CellVerdict| {
        plan.arrangements[cell.arrangement].sharing != SharingMode::Exclusive && !placebo::is(plan, cell.neighbour)
    };
    for cell in cells.iter().filter(tests) {
        for series in cell.series.iter().filter(|s| was_judged(&s.verdict)) {
            let name = format!("{} {} in {}", series.series, series.quantile, plan.arrangements[cell.arrangement].name);
            if !series.unwatched.contains(&what) {
                seen = true;
            } else if !lacking.contains(&name) {
                lacking.push(name);
            }
        }
    }
    let more = lacking.len().saturating_sub(NAMES);
    let names = lacking.iter().take(NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match (lacking.is_empty(), seen, more) {
        (true, ..) => None,
        (false, false, _) => Some(String::new()),
        (false, true, 0) => Some(format!(" at {names}")),
        (false, true, more) => Some(format!(" at {names} and {more} more")),
    }
}

/// Whether a mode promises a tenant something of its own.
fn promises(mode: SharingMode) -> bool {
    !matches!(mode, SharingMode::Exclusive | SharingMode::Streams | SharingMode::TimeSlicing)
}

/// Channels that a neighbour loads and a probe feels, under modes that promise a share of its own, and that noise inside
/// the victim's place does not exercise; of each, whether an injected delay was seen instead, wherever the channel is.
fn not_exercisable(plan: &Plan, ran: &[&PlannedArrangement], controls: &[ControlVerdict]) -> BTreeMap<Channel, bool> {
    let mut channels = BTreeMap::new();
    for planned in ran.iter().filter(|a| sharing::has_sensitivity(a.sharing)) {
        for (index, grid) in planned.grids.iter().enumerate() {
            for probe in grid.probes.iter().map(|p| &plan.panel[*p]) {
                let seen = controls.iter().any(|row| {
                    row.control == Control::Delay
                        && row.outcome == ControlOutcome::Passed
                        && plan.arrangements[row.arrangement].name == planned.name
                        && row.grid == Some(index)
                        && row.probe.as_ref() == Some(&probe.name)
                });
                let beside = grid.neighbours.iter().map(|n| &plan.neighbours[*n]);
                for channel in beside.flat_map(|neighbour| delayed_channels(probe, neighbour)) {
                    *channels.entry(channel).or_insert(true) &= seen;
                }
            }
        }
    }
    channels
}
