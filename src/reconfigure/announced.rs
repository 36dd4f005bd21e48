//! What a plan would change, before anything is changed.

use super::{difference, found, placed, words};
use crate::gpu::find_model;
use crate::nvml::time_slice;
use crate::plan::{Plan, PlannedArrangement};
use crate::provenance::Provenance;
use crate::scenario::TimeSlice;
use crate::sharing::{self, Found};

/// What a plan would change and put back, a line each. Where an arrangement asks for a level of the time slice, the one
/// that is set is read.
pub fn announced(plan: &Plan) -> Vec<String> {
    if plan.inventory.provenance == Provenance::Simulated {
        return Vec::new();
    }
    let runs = || plan.arrangements.iter().filter(|a| a.skipped.is_none());
    let level = runs().any(|a| a.time_slice.is_some()).then(|| time_slice(&plan.gpu().uuid));
    runs().filter_map(|a| divided(plan, a).or_else(|| paced(plan, a, level.as_ref()?))).collect()
}

/// When what was there is put back.
fn each(a: &PlannedArrangement) -> String {
    match a.grids.len() {
        1 => "at its end".to_owned(),
        n => format!("at the end of each of its {n} sessions"),
    }
}

/// An arrangement that needs another level of the time slice than `there`.
fn paced(plan: &Plan, a: &PlannedArrangement, there: &Result<TimeSlice, String>) -> Option<String> {
    let (asked, uuid) = (a.time_slice?, &plan.gpu().uuid);
    match there {
        Ok(there) if *there == asked => None,
        Ok(there) => Some(format!(
            "{}: on GPU {uuid}, sets the time-slice level to {asked}, and puts back {there} {}",
            a.name,
            each(a)
        )),
        Err(why) => Some(format!(
            "{}: on GPU {uuid}, would set the time-slice level to {asked}, and does not as long as the one to put back is not \
             known: {why}",
            a.name
        )),
    }
}

/// An arrangement that needs a MIG layout which is not there.
fn divided(plan: &Plan, a: &PlannedArrangement) -> Option<String> {
    let gpu = plan.gpu();
    let model = gpu.model.as_deref().and_then(find_model)?;
    let (layout, seats, inventory) = (&a.layout, &a.seats, &plan.inventory);
    let there = Found { mode: a.sharing, layout, seats, as_found: a.as_found, inventory, gpu: plan.gpu };
    if !sharing::can_be_made(a.sharing) || sharing::devices(&there).is_ok() {
        return None;
    }
    let wanted = sharing::gpu_instances(a.sharing, &a.layout, model).ok()?;
    let asked = placed(model, &wanted).ok()?;
    let each = each(a);
    Some(match found(gpu, model) {
        Some(there) => {
            let (surplus, missing) = difference(&there, &asked);
            format!(
                "{}: on GPU {}, destroys {}; creates {}; and puts back the former {each}",
                a.name,
                gpu.uuid,
                words(&surplus),
                words(&missing)
            )
        }
        None => format!(
            "{}: on GPU {}, destroys what is not part of {}, creates what is missing of it, and puts back the former {each}; \
             the driver keeps the places of what is there from this user",
            a.name,
            gpu.uuid,
            words(&asked)
        ),
    })
}
