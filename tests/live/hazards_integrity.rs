//! A victim's memory beside a neighbour that works and trespasses, on the stand-in.

use serde_json::Value;

use crate::hazards_leftovers::{came, trying};
use crate::support::alone;
use crate::support::run::{A30, say};
use crate::support::stand_in::StandIn;

fn tried(machine: &StandIn, sharing: &str) -> (Value, String) {
    let (mut came, said) = came(machine, &trying(sharing, "integrity", "budget = \"4GiB\", rounds = 1"));
    assert!(came["integrity"].is_object(), "{came:#}");
    (came["integrity"].take(), said)
}

fn checks(came: &Value) -> Vec<(String, u64, u64)> {
    let one = |check: &Value| {
        let number = |key: &str| check[key].as_u64().unwrap();
        (check["after"].as_str().unwrap().to_owned(), number("words"), number("changed"))
    };
    came["checks"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn a_victims_memory_is_checked_after_everything_that_the_neighbour_does() {
    let _alone = alone();
    let machine = StandIn::new(A30);
    let (came, _) = tried(&machine, "\"time-slicing\"");
    assert_eq!(came["budget"].as_u64(), Some(4 << 30));
    let checks = checks(&came);
    let after: Vec<&str> = checks.iter().map(|(after, ..)| after.as_str()).collect();
    assert_eq!(after[..3], ["nothing", "hbm-write", "hbm-copy"]);
    assert_eq!(after.len(), 3 + 4 + 5, "{after:?}");
    assert!(after.contains(&"fault trap") && after.contains(&"a write at the victim's address"), "{after:?}");
    assert!(checks.iter().all(|(_, words, changed)| (*words, *changed) == ((4 << 30) / 8, 0)), "{checks:?}");
    let trespasses = came["trespasses"].as_array().unwrap();
    assert_eq!(trespasses.len(), 4);
    assert!(trespasses.iter().all(|t| t["refused"] == 700 && t["found"] == 0), "{trespasses:#?}");
}

#[test]
fn one_bit_that_changes_is_found_with_its_address() {
    let _alone = alone();
    let machine = StandIn::new(&format!("{A30}[fault]\nflip = {{ before_check = 3, offset = 1234568 }}\n"));
    let (came, said) = tried(&machine, "\"time-slicing\"");
    let changed: Vec<u64> = checks(&came).into_iter().map(|(.., changed)| changed).collect();
    assert_eq!(changed, [vec![0; 2], vec![1; 10]].concat(), "it stays changed");
    let first = &came["checks"][2]["first"];
    let number = |key: &str| first[key].as_u64().unwrap();
    assert_eq!(number("address") % (2 << 20), 1234568, "{first:#}");
    assert_eq!(number("expected") ^ number("found"), 1, "{first:#}");
    assert!(said.contains("had changed after hbm-copy"), "{said}");
}

#[test]
fn without_leave_for_faults_the_neighbour_works_and_no_more() {
    let _alone = alone();
    let machine = StandIn::new(A30);
    let toml = trying("\"time-slicing\"", "integrity", "budget = \"1GiB\", rounds = 1");
    let refused = say(&machine, &["check", write(&machine, &toml.replace("allow_faults = true\n", "")).as_str()]);
    refused.ended(2, &["allow_faults = true"]);
    let toml = toml.replace("allow_faults = true\n", "").replace("faults = true, ", "");
    let (mut came, said) = came(&machine, &toml);
    let came = came["integrity"].take();
    assert_eq!(checks(&came).len(), 3);
    assert!(came["trespasses"].as_array().is_some_and(Vec::is_empty), "{came:#}");
    assert!(came["left_out"].as_str().unwrap().contains("faults = true"), "{came:#}");
    assert!(said.contains("faults = true"), "{said}");
}

fn write(machine: &StandIn, toml: &str) -> String {
    let file = machine.path().join("checked.toml");
    std::fs::write(&file, toml).expect("the scenario");
    file.to_str().expect("UTF-8").to_owned()
}
