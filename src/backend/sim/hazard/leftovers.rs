//! The hazard `leftovers` in virtual time: a tenant takes memory, fills it and is gone; the next takes all that it can.
//!
//! What is given back is scrubbed, as a driver does between processes, save for the part that a leak of the residual-memory
//! channel names (gpu-model: capacity). In the model that does not depend on how a tenant ends. Of shared memory and
//! registers it knows nothing.

use crate::hazard::{Came, Exit, Kept, Leftovers, Round};
use crate::machine::{AllocId, Machine, Topology};
use crate::units::{Bytes, Share};
use crate::workload::Params;
use crate::workload::pattern::{VECTOR, WORD};

use super::{Scene, neighbour};
use crate::field::Value;

const EXITS: [Exit; 4] = [Exit::Clean, Exit::Abrupt, Exit::Killed, Exit::Crashed];
/// Memory is taken in pieces of this, and what is left in halves of it.
const LARGEST: u64 = 64 << 20;
const LEAST: u64 = 2 << 20;

/// Tries it.
pub(super) fn attempt(scene: &Scene<'_>, params: &Params) -> Came {
    match rounds(scene, params) {
        Ok(rounds) => Came::Leftovers(Leftovers { rounds }),
        Err(why) => Came::Untold { why },
    }
}

fn rounds(scene: &Scene<'_>, params: &Params) -> Result<Vec<Round>, String> {
    let neighbour = neighbour(scene)?;
    let victim = scene.grid.victim;
    let plant = params.0.get("plant").ok_or("the parameter plant is missing")?;
    // One more context in the victim's place, for whoever comes after it there.
    let mut topology = scene.topology.clone();
    let next = topology.contexts.len();
    topology.contexts.push(topology.contexts[victim]);
    let mut rounds = Vec::new();
    for _ in 0..params.count("times").unwrap_or(1) {
        for exit in EXITS.into_iter().filter(|exit| *exit != Exit::Crashed || params.flag("faults")) {
            for (looker, same_place) in [(neighbour, false), (next, true)] {
                rounds.push(round(scene, &topology, plant, (victim, looker), exit, same_place)?);
            }
        }
    }
    Ok(rounds)
}

fn round(
    scene: &Scene<'_>,
    topology: &Topology,
    plant: &Value,
    (planter, looker): (usize, usize),
    exit: Exit,
    same_place: bool,
) -> Result<Round, String> {
    let mut machine = Machine::vacant(scene.model, topology, scene.leaks).map_err(|error| error.to_string())?;
    let no_room = |_| "there is no room for a context".to_owned();
    machine.open(planter).map_err(no_room)?;
    let wanted = match plant {
        Value::Bytes(bytes) => bytes.0,
        Value::Share(share) => Share::of(*share, seen(&machine, planter)),
        other => return Err(format!("{other} is no size")),
    };
    let held = take(&mut machine, planter, Some(wanted / VECTOR * VECTOR));
    if exit == Exit::Clean {
        for (id, _) in &held {
            machine.free(planter, *id);
        }
    }
    let gone = machine.close(planter);
    gone.map_err(|error| error.to_string())?;
    machine.open(looker).map_err(no_room)?;
    let looked = take(&mut machine, looker, None);
    let (mut found, mut range, mut at, mut untold) = (0, None, 0, None);
    for (id, bytes) in &looked {
        match machine.leftovers(looker, *id) {
            // To a piece: where within it, the model does not say.
            Some(Bytes(left @ 1..)) => {
                found += left.min(*bytes) / WORD;
                range = Some((range.map_or(at, |(first, _)| first), at + bytes - WORD));
            }
            Some(_) => {}
            None => untold = Some("the model has lost track of what is left where".to_owned()),
        }
        at += bytes;
    }
    let domain = |context: usize| topology.computes[topology.contexts[context].compute].domain;
    let one_store = domain(planter) == domain(looker);
    if !one_store && found == 0 {
        let why = "the two places draw on different memory: nothing of what one held can be seen in the other";
        untold.get_or_insert(why.to_owned());
    }
    let planted = held.iter().map(|(_, bytes)| bytes).sum();
    let all = one_store.then(|| machine.memory_of(looker).0.0);
    Ok(Round { kept: Kept::Memory, exit, same_place, planted, scanned: at, all, found, range, untold })
}

/// All memory that a context sees.
fn seen(machine: &Machine, context: usize) -> u64 {
    let (all, _) = machine.memory_of(context);
    machine.memory_limit(context).map_or(all.0, |limit| limit.0.min(all.0))
}

/// Takes memory until it has `most`, or gets no more.
fn take(machine: &mut Machine, context: usize, most: Option<u64>) -> Vec<(AllocId, u64)> {
    let (mut held, mut sum, mut piece) = (Vec::new(), 0, LARGEST);
    while piece >= LEAST {
        let bytes = piece.min(most.map_or(u64::MAX, |most| most - sum));
        if bytes == 0 {
            break;
        }
        match machine.alloc(context, Bytes(bytes)) {
            Ok(id) => {
                held.push((id, bytes));
                sum += bytes;
            }
            Err(_) => piece /= 2,
        }
    }
    held
}

#[cfg(test)]
pub(super) mod tests;
