//! Faults of a neighbour: each has the blast radius that the machine is told to give it, and leaves nobody behind.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::alone;
use crate::support::run::{A30, Run, assert_no_tenants, of_kind, path, say};
use crate::support::stand_in::StandIn;

const MIG: &str = "[[gpu]]\nmodel = \"a30\"\nmig = [\"2g.12gb\", \"2g.12gb\"]\n";
const KERNELS: [&str; 5] = ["assert", "trap", "illegal-address", "misaligned-address", "stack-overflow"];
const PROCESSES: [&str; 6] = ["terminated", "interrupted", "killed", "exit-dirty", "context-destroyed", "endless"];

/// Trials of each fault and mode: one in a plain `cargo test` and in CI, more on demand: 100 rounds in all, say.
fn times() -> u64 {
    let rounds =
        std::env::var("CROSSTALK_FAULT_ROUNDS").map_or(0, |n| n.parse().expect("CROSSTALK_FAULT_ROUNDS is a number"));
    // Eleven faults in three modes.
    u64::max(1, u64::div_ceil(rounds, 33))
}

fn scenario(fault: &str, times: u64, modes: &[&str]) -> String {
    let arrangements: String =
        modes.iter().map(|mode| format!("[[arrangement]]\nname = \"{mode}\"\nsharing = \"{mode}\"\n")).collect();
    format!(
        "schema = 1\nname = \"faults\"\nallow_faults = true\n[[hazard]]\nname = \"fault\"\nhazard = \"fault\"\nparams = {{ fault = \
         \"{fault}\", times = {times}, settle = \"150ms\" }}\n{arrangements}"
    )
}

/// The trials of a run, by the name of its arrangement.
fn trials(run: Run<'_>, code: i32, words: &[&str]) -> Vec<Value> {
    let dir = run.dir.clone();
    run.end().ended(code, words);
    let tried = of_kind(&dir, "tried");
    assert!(!tried.is_empty(), "nothing was tried");
    let mut all = Vec::new();
    for tried in &tried {
        let faults = &tried["came"]["faults"];
        let trials = faults["trials"].as_array().unwrap_or_else(|| panic!("{tried:#}"));
        all.extend(trials.iter().cloned());
    }
    all
}

fn codes(trial: &Value) -> BTreeSet<u64> {
    trial["victim"]["errors"].as_array().unwrap().iter().map(|error| error[0].as_u64().unwrap()).collect()
}

fn xids(trial: &Value) -> BTreeSet<u64> {
    trial["xids"]
        .as_array()
        .map_or_else(BTreeSet::new, |all| all.iter().filter_map(|xid| xid["code"].as_u64()).collect())
}

/// The victim and whoever came later saw nothing of it.
#[track_caller]
fn untouched(trial: &Value) {
    let victim = &trial["victim"];
    assert!(trial["act"]["happened"] == true, "{trial:#}");
    assert!(codes(trial).is_empty() && victim["lost"] == 0 && victim["wrong"] == 0, "{trial:#}");
    assert!(victim["done"][1].as_u64().unwrap() > 0 && !victim["recovered_ns"].is_null(), "{trial:#}");
    assert!(victim["died"].is_null(), "{trial:#}");
    assert!(!trial["newcomer"]["started_ns"].is_null(), "{trial:#}");
}

#[test]
fn under_time_slicing_and_mig_a_fault_stays_with_its_own_and_every_control_is_clean() {
    let _alone = alone();
    for (machine, mode) in [(A30, "time-slicing"), (MIG, "mig")] {
        let machine = StandIn::new(machine);
        let run = Run::start(&machine, "run", &scenario("all", times(), &[mode]), &[]);
        let dir = run.dir.clone();
        let all = trials(run, 0, &[]);
        assert_no_tenants(&machine);
        assert_eq!(all.len() as u64, 12 * times(), "{mode}");
        for trial in &all {
            untouched(trial);
            let fault = trial["fault"].as_str();
            let own = trial["act"]["code"].as_u64();
            match fault {
                None => assert!(own.is_none() && trial["recovery"].is_null(), "{trial:#}"),
                Some(kernel) if KERNELS.contains(&kernel) => {
                    assert!(own.is_some_and(|code| (700..720).contains(&code)), "{trial:#}");
                    assert_eq!(xids(trial).len(), 1, "{trial:#}");
                }
                Some(process) => assert!(PROCESSES.contains(&process) && own.is_none(), "{trial:#}"),
            }
            // Where its process was killed, the GPU says so; and a clean end is no event.
            let died =
                fault.is_some_and(|f| ["terminated", "interrupted", "killed", "exit-dirty", "endless"].contains(&f));
            assert_eq!(xids(trial).contains(&45), died, "{trial:#}");
        }
        let ended = |fault: &str| {
            let trial = all.iter().find(|trial| trial["fault"] == fault).expect(fault);
            trial["act"]["ended"].as_str().unwrap().to_owned()
        };
        assert!(ended("killed").contains("signal 9") && ended("terminated").contains("signal 15"), "{mode}");
        assert!(ended("interrupted").contains("signal 2") && ended("exit-dirty").contains("exit code 0"), "{mode}");
        say(&machine, &["verify", path(&dir)]).ended(0, &[]);
    }
}

#[test]
fn under_mps_a_fault_is_that_of_every_client_and_nobody_new_comes_until_they_have_gone() {
    let _alone = alone();
    let machine = StandIn::new(A30);
    let all = trials(Run::start(&machine, "run", &scenario("all", times(), &["mps"]), &[]), 0, &[]);
    assert_no_tenants(&machine);
    assert_eq!(all.len() as u64, 12 * times());
    for trial in &all {
        match trial["fault"].as_str() {
            Some(kernel) if KERNELS.contains(&kernel) => {
                assert!(codes(trial).contains(&trial["act"]["code"].as_u64().unwrap()), "{trial:#}");
                assert!(trial["victim"]["recovered_ns"].is_null(), "{trial:#}");
                let newcomer = &trial["newcomer"];
                assert!(newcomer["refused"].as_u64().unwrap() > 0, "{trial:#}");
                assert!(newcomer["why"].as_str().unwrap().contains("807"), "{trial:#}");
                assert!(!newcomer["started_ns"].is_null(), "{trial:#}");
                let steps = trial["recovery"].as_array().unwrap();
                assert!(
                    steps.iter().any(|step| step.as_str().unwrap().contains("the victim, whose process was ended")),
                    "{trial:#}"
                );
            }
            Some("endless") => {
                untouched(trial);
                // Its server lets go of it before anybody kills it.
                let steps: Vec<&str> = trial["recovery"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                assert!(steps[0].starts_with("MPS was told to terminate client"), "{steps:#?}");
                assert!(steps[1].starts_with("SIGTERM"), "{steps:#?}");
            }
            _ => untouched(trial),
        }
    }
}

/// One fault on a machine that is told what it does to others: the trial with the fault.
fn one(config: &str, mode: &str, fault: &str) -> Value {
    let machine = StandIn::new(config);
    let all = trials(Run::start(&machine, "run", &scenario(fault, 1, &[mode]), &[]), 0, &[]);
    assert_no_tenants(&machine);
    assert_eq!(all.len(), 2);
    untouched(&all[0]);
    all[1].clone()
}

#[test]
fn each_fault_reaches_whom_the_machine_says_in_each_mode() {
    let _alone = alone();
    let blast = |machine: &str, among: &str, more: &str| {
        format!("{machine}[fault]\nblast = [{{ fault = \"all\", among = \"{among}\", {more} }}]\n")
    };
    for (machine, mode, among) in [(A30, "time-slicing", "time-slicing"), (A30, "mps", "mps"), (MIG, "mig", "mig")] {
        let machine = StandIn::new(&blast(machine, among, "code = 999"));
        let all = trials(Run::start(&machine, "run", &scenario("all", times(), &[mode]), &[]), 0, &["999"]);
        assert_no_tenants(&machine);
        for trial in &all {
            match trial["fault"].as_str() {
                None => untouched(trial),
                // MPS has been told to let go of it: no client died with work in flight.
                Some("endless") if mode == "mps" => untouched(trial),
                // Whoever is reached and no client of MPS has a new context at once.
                Some(_) => {
                    assert_eq!(codes(trial), BTreeSet::from([999]), "{trial:#}");
                    assert!(!trial["newcomer"]["started_ns"].is_null(), "{trial:#}");
                    assert!(!trial["victim"]["recovered_ns"].is_null(), "{trial:#}");
                }
            }
        }
    }
    // Under MPS by default a death reaches nobody; told so, it does, and nobody new comes in.
    let reached = one(&blast(A30, "mps", "code = 719, refuses = true"), "mps", "killed");
    assert_eq!(codes(&reached), BTreeSet::from([719]), "{reached:#}");
    assert!(reached["newcomer"]["refused"].as_u64().unwrap() > 0, "{reached:#}");
    // Work that never ends is lost, and found to be so.
    let hangs = one(&blast(A30, "time-slicing", "hangs = true"), "time-slicing", "trap");
    assert!(hangs["victim"]["lost"] == 1 && hangs["victim"]["recovered_ns"].is_null(), "{hangs:#}");
}

#[test]
fn an_xid_of_device_loss_stops_the_run_with_what_was_tried_until_then() {
    let _alone = alone();
    let machine = StandIn::new(&format!("{A30}[fault]\nown = [{{ fault = \"trap\", xid = 119 }}]\n"));
    let all = trials(
        Run::start(&machine, "run", &scenario("trap", 3, &["time-slicing"]), &[]),
        3,
        &["Xid 119", "reset the GPU or reboot"],
    );
    assert_no_tenants(&machine);
    // A control and the trial over which the device was lost.
    assert_eq!(all.len(), 2, "{all:#?}");
    assert!(xids(&all[1]).contains(&119), "{all:#?}");
}

#[test]
fn what_does_not_end_is_ended_step_by_step_and_every_step_is_recorded() {
    let _alone = alone();
    let machine = StandIn::new(&format!("{A30}[fault]\nhang = [{{ symbol = \"cuCtxDestroy_v2\", ms = 600000 }}]\n"));
    let patience = [("CROSSTALK_STAND_IN_PATIENCE", "4s")];
    let all = trials(Run::start_with(&machine, "run", &scenario("trap", 1, &["time-slicing"]), &patience), 0, &[]);
    assert_no_tenants(&machine);
    // Nobody leaves cleanly here, so that the trial without a fault shows nothing either.
    assert!(all.iter().any(|trial| trial["fault"].is_null() && trial["act"]["happened"] == false), "{all:#?}");
    for trial in &all {
        let steps: Vec<&str> = trial["recovery"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(steps[0].contains("was told to end, and did not within"), "{steps:#?}");
        assert!(steps[1].starts_with("SIGTERM to pid"), "{steps:#?}");
        assert!(trial["act"]["ended"].as_str().unwrap().contains("signal 15"), "{trial:#}");
    }
}

#[test]
fn a_controller_that_is_killed_over_a_fault_leaves_nobody_and_the_run_goes_on() {
    let _alone = alone();
    let rounds = std::env::var("CROSSTALK_FAULT_ROUNDS").map_or(2, |n| n.parse::<u64>().expect("a number"));
    let machine = StandIn::new(A30);
    let toml = scenario("endless", 3, &["time-slicing"]);
    for round in 0..rounds.min(20) {
        let mut run = if round == 0 { Run::start(&machine, "run", &toml, &[]) } else { Run::resume(&machine, "run") };
        assert!(run.until(|run| run.tenants().len() >= 2), "nobody came up");
        // At another moment each time: while they load, serve, hang, or are ended.
        std::thread::sleep(std::time::Duration::from_millis(100 + round * 173 % 900));
        run.kill();
        assert_no_tenants(&machine);
    }
    let all = trials(Run::resume(&machine, "run"), 0, &[]);
    assert_no_tenants(&machine);
    assert_eq!(all.len(), 6);
    for trial in &all {
        untouched(trial);
    }
}
