//! The hazard `integrity` in virtual time. The model keeps no contents; what is told follows from documents alone:
//!
//! - Every process has an address space of its own on the device, and a kernel that reaches outside it is refused with
//!   CUDA_ERROR_ILLEGAL_ADDRESS, 700 (CUDA driver API, CUresult).
//! - Clients of one MPS server have address spaces of their own, too, from Volta on ("fully isolated GPU address spaces",
//!   NVIDIA MPS guide, Volta MPS).
//!
//! So nothing that a neighbour does changes a word: where a leak is to be found, it takes a GPU.

use crate::field::Value;
use crate::hazard::{Came, Check, Integrity, Trespass};
use crate::machine::Machine;
use crate::units::{Bytes, Nanos, Share};
use crate::workload::Params;
use crate::workload::pattern::{VECTOR, WORD};

use super::{Scene, neighbour};

/// What the neighbour does in each round: what a GPU's would.
const NOISES: [&str; 2] = ["hbm-write", "hbm-copy"];
const REACHES: [&str; 4] = [
    "read behind its own allocation",
    "write behind its own allocation",
    "read at the victim's address",
    "write at the victim's address",
];
/// CUDA_ERROR_ILLEGAL_ADDRESS.
const ILLEGAL_ADDRESS: u32 = 700;
/// Of the model's time for each: only their order means something.
const STEP: Nanos = Nanos::millis(500);

/// Tries it.
pub(super) fn attempt(scene: &Scene<'_>, params: &Params) -> Came {
    match tried(scene, params) {
        Ok(integrity) => Came::Integrity(integrity),
        Err(why) => Came::Untold { why },
    }
}

fn tried(scene: &Scene<'_>, params: &Params) -> Result<Integrity, String> {
    neighbour(scene)?;
    let victim = scene.grid.victim;
    let mut machine = Machine::vacant(scene.model, scene.topology, scene.leaks).map_err(|error| error.to_string())?;
    machine.open(victim).map_err(|error| error.to_string())?;
    let (all, _) = machine.memory_of(victim);
    let seen = machine.memory_limit(victim).map_or(all.0, |limit| limit.0.min(all.0));
    let budget = match params.0.get("budget") {
        Some(Value::Bytes(bytes)) => bytes.0,
        Some(Value::Share(share)) => Share::of(*share, seen),
        _ => return Err("the parameter budget is missing".to_owned()),
    } / VECTOR
        * VECTOR;
    machine.alloc(victim, Bytes(budget)).map_err(|error| format!("the victim's budget does not fit: {error}"))?;
    let mut record = Integrity { budget, ..Integrity::default() };
    let check = |record: &mut Integrity, after: String| {
        let at = Nanos(STEP.0 * record.checks.len() as u64);
        record.checks.push(Check { at, after, words: budget / WORD, changed: 0, first: None });
    };
    check(&mut record, "nothing".to_owned());
    let rounds = params.count("rounds").unwrap_or(1);
    for _ in 0..rounds {
        for noise in NOISES {
            check(&mut record, noise.to_owned());
        }
    }
    let faults = params.flag("faults");
    if !faults {
        let why = "reaching outside its own memory ends in a fault where it is refused: it takes `faults = true`";
        record.left_out = Some(why.to_owned());
    }
    for _ in 0..if faults { rounds } else { 0 } {
        for what in REACHES {
            record.trespasses.push(Trespass { what: what.to_owned(), refused: Some(ILLEGAL_ADDRESS), found: 0 });
            check(&mut record, format!("a {what}"));
        }
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::super::leftovers::tests::{came, came_on};
    use super::*;

    #[test]
    fn address_spaces_are_apart_whoever_shares_the_memory() {
        for sharing in ["time-slicing", "mps"] {
            let Came::Integrity(record) =
                came(sharing, "integrity", &[("rounds", "2"), ("budget", "1GiB"), ("faults", "true")], &[])
            else {
                panic!("{sharing}")
            };
            assert_eq!(record.checks.len(), 1 + 2 * (NOISES.len() + REACHES.len()));
            assert!(record.checks.iter().all(|check| check.words == (1 << 30) / 8 && check.changed == 0));
            assert!(record.trespasses.iter().all(|t| t.refused == Some(700) && t.found == 0));
        }
    }

    #[test]
    fn a_budget_that_does_not_fit_is_told_as_that() {
        let Came::Untold { why } = came_on("a30", "time-slicing", "integrity", &[("budget", "1TiB")], &[]) else {
            panic!("it fits")
        };
        assert!(why.contains("budget does not fit"), "{why}");
    }
}
