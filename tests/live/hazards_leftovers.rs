//! What the next tenant finds of the last one's, on the stand-in: a driver that clears memory between processes, and one that
//! forgets some.

use serde_json::Value;

use crate::support::alone;
use crate::support::run::{A30, Run, assert_no_tenants, of_kind, path, say};
use crate::support::stand_in::StandIn;

/// A scenario of one arrangement in which this hazard is tried, faults included.
pub(crate) fn trying(sharing: &str, hazard: &str, params: &str) -> String {
    format!(
        "schema = 1\nname = \"short\"\nallow_faults = true\n[[hazard]]\nhazard = \"{hazard}\"\nparams = {{ faults = true, \
         {params} }}\n[[arrangement]]\nname = \"here\"\nsharing = {sharing}\n"
    )
}

/// Runs it; what came of the hazard, and all that the terminal said.
pub(crate) fn came(machine: &StandIn, toml: &str) -> (Value, String) {
    let run = Run::start(machine, "run", toml, &[]);
    let dir = run.dir.clone();
    let said = run.end().ended(0, &[]).words();
    assert_no_tenants(machine);
    say(machine, &["verify", path(&dir)]).ended(0, &[]);
    let mut tried = of_kind(&dir, "tried");
    assert_eq!(tried.len(), 1, "{tried:#?}");
    (tried[0]["came"].take(), said)
}

fn rounds(machine: &StandIn, sharing: &str) -> (Vec<Value>, String) {
    let (mut came, said) = came(machine, &trying(sharing, "leftovers", "plant = \"8GiB\""));
    let Value::Array(rounds) = came["leftovers"]["rounds"].take() else { panic!("{came:#}") };
    (rounds, said)
}

/// Of device memory, or of another kind, in the same place or in the neighbour's.
fn of<'r>(rounds: &'r [Value], kept: &str, same_place: bool) -> Vec<&'r Value> {
    let here = |r: &&Value| r["kept"] == kept && r["same_place"].as_bool().unwrap_or(false) == same_place;
    rounds.iter().filter(here).collect()
}

fn exits(rounds: &[&Value]) -> Vec<String> {
    rounds.iter().map(|round| round["exit"].as_str().unwrap().to_owned()).collect()
}

const EXITS: [&str; 4] = ["clean", "abrupt", "killed", "crashed"];

#[test]
fn a_driver_that_clears_memory_passes_however_a_tenant_ends() {
    let _alone = alone();
    let machine = StandIn::new(A30);
    let (rounds, said) = rounds(&machine, "\"time-slicing\"");
    for same_place in [false, true] {
        let memory = of(&rounds, "memory", same_place);
        assert_eq!(exits(&memory), EXITS);
        for round in memory {
            let number = |key: &str| round[key].as_u64().unwrap();
            assert_eq!((number("planted"), number("found")), (8 << 30, 0), "{round:#}");
            assert!(number("planted") + number("scanned") > number("all") + (7 << 30), "{round:#}");
            assert!(round["untold"].is_null(), "{round:#}");
        }
        let shared = of(&rounds, "shared", same_place);
        assert_eq!(exits(&shared), EXITS);
        assert!(shared.iter().all(|r| r["found"] == 0 && r["planted"].as_u64() > Some(0)), "{shared:#?}");
    }
    assert!(said.contains("nothing found"), "{said}");
    let registers: Vec<&Value> = rounds.iter().filter(|round| round["kept"] == "registers").collect();
    assert!(matches!(registers[..], [one] if one["untold"].is_string()), "{registers:#?}");
}

#[test]
fn four_kibibytes_left_in_eight_gibibytes_are_found_with_their_range() {
    let _alone = alone();
    let machine = StandIn::new(&format!("{A30}unscrubbed = {{ at_mib = 3000, kib = 4 }}\n"));
    let (rounds, said) = rounds(&machine, "\"time-slicing\"");
    for same_place in [false, true] {
        for round in of(&rounds, "memory", same_place) {
            assert_eq!(round["found"], 512, "{round:#}");
            let range: Vec<u64> = round["range"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
            assert_eq!(range[1] - range[0], 4096 - 8, "{round:#}");
        }
    }
    assert!(said.to_lowercase().contains("violated") && said.contains("from byte"), "{said}");
}

#[test]
fn a_driver_that_clears_nothing_leaves_shared_memory_too_and_an_instance_keeps_its_own() {
    let _alone = alone();
    let machine = StandIn::new(&format!("{A30}mig = [\"2g.12gb\", \"2g.12gb\"]\nscrubs = false\n"));
    let (rounds, _) = rounds(&machine, "\"mig\"");
    for round in of(&rounds, "memory", true) {
        assert_eq!(round["found"].as_u64(), Some((8 << 30) / 8), "{round:#}");
    }
    for round in of(&rounds, "memory", false) {
        assert!(round["found"] == 0 && round["all"].is_null(), "{round:#}");
        assert!(round["untold"].as_str().unwrap().contains("different memory"), "{round:#}");
    }
    assert!(of(&rounds, "shared", true).iter().all(|r| r["found"].as_u64() > Some(0)), "{rounds:#?}");
    assert!(of(&rounds, "shared", false).iter().all(|r| r["found"] == 0), "{rounds:#?}");
}

#[test]
fn clients_of_one_server_are_looked_at_as_others_are() {
    let _alone = alone();
    let machine = StandIn::new(&format!("{A30}unscrubbed = {{ at_mib = 3000, kib = 4 }}\n"));
    let (rounds, _) = rounds(&machine, "\"mps\"");
    let memory = of(&rounds, "memory", false);
    assert_eq!(exits(&memory), EXITS);
    assert!(memory.iter().all(|round| round["found"] == 512), "{memory:#?}");
}
