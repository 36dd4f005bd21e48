//! What this process was given, against what it sees.

use super::{ok, problem, warning};
use crate::doctor::{Facts, Finding};

pub(super) fn given(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "given";
    const WHY: &str = "a run on other devices than those that were asked for answers another question";
    let given = &facts.given;
    let mut found: Vec<Finding> = given
        .contradictions
        .iter()
        .map(|contradiction| {
            let (id, why) = match contradiction.ordinals {
                true => (
                    "mig-ordinals",
                    "ordinals are ambiguous under MIG: a process may land on another instance than meant",
                ),
                false => (ID, WHY),
            };
            problem(id, contradiction.what.clone(), why, contradiction.cure.clone())
        })
        .collect();
    if found.is_empty() {
        found.extend(given.summary.iter().map(|summary| ok(ID, summary.clone(), WHY)));
    }
    found.extend(given.notes.iter().map(|note| ok("given-note", note.clone(), WHY)));
    if let Some(parents) = given.parents {
        found.push(warning(
            "given-parents",
            format!("the MIG devices given to this container belong to {parents} GPUs"),
            "instances of different GPUs do not share what MIG divides: a neighbour on another card proves nothing about it",
            "claim them with a constraint (DRA: constraints: [{ requests: [], matchAttribute: gpu.nvidia.com/parentUUID }]); \
             the device plugin has none: run again until both come from one GPU, or use a node with one GPU in MIG mode",
        ));
    }
    found
}
