//! `crosstalk self-check` on the stand-in: what is right is found right, what is wrong is named.

use std::process::{Command, Output};

use crosstalk::workload::CATALOGUE;
use serde_json::Value;

use crate::support::alone;
use crate::support::stand_in::StandIn;

const H100: &str = "[[gpu]]\nmodel = \"h100-sxm\"\n";

fn self_check(machine: &StandIn, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crosstalk"));
    machine.apply(&mut command).arg("self-check").args(["--seconds", "0.1"]).args(args).output().unwrap()
}

/// What `--format json` prints, and the exit code.
fn json(machine: &StandIn, args: &[&str]) -> (Value, Option<i32>) {
    let output = self_check(machine, &[&["--format", "json"], args].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}; it said {said}"));
    (value, output.status.code())
}

fn verdicts(report: &Value) -> Vec<(&str, &str)> {
    let workloads = report["found"]["workloads"].as_array().unwrap();
    workloads.iter().map(|w| (w["workload"].as_str().unwrap(), w["verdict"]["is"].as_str().unwrap())).collect()
}

#[test]
fn every_workload_of_the_catalogue_runs_and_its_results_are_right() {
    let _alone = alone();
    let (report, exit) = json(&StandIn::new(H100), &[]);
    assert_eq!(exit, Some(0), "{report:#}");
    assert_eq!(report["provenance"], "stand-in");
    let ids: Vec<&str> = CATALOGUE.iter().map(|w| w.id).collect();
    let verdicts = verdicts(&report);
    assert_eq!(verdicts.iter().map(|v| v.0).collect::<Vec<_>>(), ids);
    // How fast anything is depends on who else has this machine.
    assert!(verdicts.iter().all(|v| v.1 == "ok" || v.1 == "below"), "{verdicts:?}");
    let ceilings = &report["found"]["ceilings"];
    assert!(ceilings["to_device"].as_f64().unwrap() > 0.0 && ceilings["round_trip_ns"].as_u64().unwrap() > 0);
    assert!(ceilings["device_copy"].is_null(), "the stand-in does not time it");
    for workload in report["found"]["workloads"].as_array().unwrap() {
        assert!(workload["requests_per_s"].is_null() || workload["requests_per_s"].as_f64().unwrap() > 0.0);
    }
    let burst = &report["found"]["workloads"][ids.iter().position(|id| *id == "compute-burst").unwrap()];
    assert!(burst["registers"]["fma_pairs"].as_u64().unwrap() > 0, "{burst}");
}

#[test]
fn a_wrong_result_is_named_and_is_exit_1() {
    let _alone = alone();
    // Loading makes a few hundred launches; the window makes more.
    for from in [5, 400] {
        let machine = StandIn::new(&format!("{H100}[fault]\nwrong_result_from = {from}\n"));
        let args = ["--workload", "compute-burst", "--workload", "launch"];
        let (report, exit) = json(&machine, &args);
        assert_eq!(exit, Some(1), "{report:#}");
        assert!(verdicts(&report).contains(&("launch", "wrong-result")), "{report:#}");
        let text = self_check(&machine, &args);
        assert!(String::from_utf8_lossy(&text.stdout).contains("WRONG RESULT"));
    }
}

#[test]
fn the_simulator_has_nothing_to_check() {
    let output = self_check(&StandIn::new(H100), &["--device", "sim"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("real GPU"));
}
