//! A driver that does not answer, or does not let go: the run's controller is in none of its calls, and goes on.

use std::time::{Duration, Instant};

use crosstalk::host::process::state_of;

use crate::support::alone;
use crate::support::held::Held;
use crate::support::run::{A30, Run, Said, assert_no_tenants, events, of_kind, path, say, scenario, signal};
use crate::support::stand_in::StandIn;

const KEPT: [&str; 2] = ["what was measured is kept", "--resume"];

/// Whether a process has loaded NVML; one that has ended has not.
fn in_nvml(pid: u32) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    assert!(maps.is_empty() || maps.contains("crosstalk"), "{maps}");
    ["nvidia-ml", "nvidia_ml"].iter().any(|name| maps.contains(name))
}

fn hangs(symbol: &str, from: u32) -> StandIn {
    let hang = format!("{{ symbol = \"{symbol}\", from_call = {from}, ms = 600000 }}");
    StandIn::new(&format!("{A30}[fault]\nhang = [{hang}]\n"))
}

#[test]
fn the_controller_is_never_in_nvml_and_its_watcher_is() {
    let _alone = alone();
    let machine = StandIn::new(A30);
    let mut run = Run::start(&machine, "run", &scenario(2, 1, "10ms", &["time-slicing"]), &[]);
    let mut seen = 0;
    run.until(|run| {
        std::thread::sleep(Duration::from_millis(20));
        assert!(!in_nvml(run.pid()), "the controller of the run has loaded NVML");
        if of_kind(&run.dir, "committed").len() == 1 {
            assert!(in_nvml(run.watcher()));
            seen += 1;
        }
        false
    });
    assert!(seen > 0);
    run.end().ended(0, &[]);
    assert_no_tenants(&machine);
}

/// The library that tells of the machine hangs: before a run looks for its GPU, when it begins to watch it, or between arms.
#[test]
fn an_nvml_that_hangs_ends_the_run_with_exit_3_and_keeps_what_was_measured() {
    let _alone = alone();
    let machine = hangs("nvmlInit_v2", 1);
    Run::start(&machine, "run", &scenario(1, 1, "10ms", &["time-slicing"]), &[]).end().ended(3, &["nvmlInit_v2 hangs"]);

    let machine = hangs("nvmlEventSetCreate", 1);
    let patience = [("CROSSTALK_STAND_IN_PATIENCE", "5s")];
    let run = Run::start_with(&machine, "run", &scenario(1, 1, "10ms", &["time-slicing"]), &patience);
    run.end().ended(3, &["NVML has not answered for 5s (begin)", "drain the node"]);
    assert_no_tenants(&machine);

    let machine = hangs("nvmlDeviceGetComputeRunningProcesses_v3", 12);
    let mut run = Run::start(&machine, "run", &scenario(8, 8, "10ms", &["time-slicing"]), &[]);
    let dir = run.dir.clone();
    run.until(|run| {
        std::thread::sleep(Duration::from_millis(20));
        assert!(!in_nvml(run.pid()), "the controller of the run has loaded NVML");
        false
    });
    let words = ["NVML has not answered for 10s (check-exclusive)", "drain the node"];
    run.end().ended(3, &[words, KEPT].concat());
    assert!(!of_kind(&dir, "committed").is_empty(), "{:#?}", events(&dir));
    assert_no_tenants(&machine);
    say(&machine, &["verify", path(&dir)]).ended(0, &["not finished"]);
}

#[test]
fn a_reading_of_clocks_and_power_that_hangs_ends_the_run_too() {
    let _alone = alone();
    let machine = hangs("nvmlDeviceGetPowerUsage", 20);
    let run = Run::start(&machine, "run", &scenario(8, 8, "10ms", &["time-slicing"]), &[]);
    let dir = run.dir.clone();
    run.end().ended(3, &[&["NVML has not answered for 10 s", "reboot the node"], &KEPT[..]].concat());
    assert!(!of_kind(&dir, "committed").is_empty(), "{:#?}", events(&dir));
    assert_no_tenants(&machine);
}

#[test]
fn a_watcher_that_is_killed_ends_the_run_with_exit_3_and_keeps_what_was_measured() {
    let _alone = alone();
    let machine = StandIn::new(A30);
    let mut run = Run::start(&machine, "run", &scenario(8, 8, "10ms", &["time-slicing"]), &[]);
    run.until_committed(1);
    signal(run.watcher(), "KILL");
    let dir = run.dir.clone();
    run.end().ended(3, &[&["the process that asks NVML was killed by signal 9"], &KEPT[..]].concat());
    assert!(!of_kind(&dir, "committed").is_empty(), "{:#?}", events(&dir));
    assert_no_tenants(&machine);
    say(&machine, &["verify", path(&dir)]).ended(0, &["not finished"]);
}

/// A process of the run is killed in the middle, and no signal ends it any more: the run ends all the same.
#[track_caller]
fn stuck(whom: impl Fn(&Run<'_>) -> u32, who: &str) -> Said {
    let machine = StandIn::new(A30);
    let patience = [("CROSSTALK_STAND_IN_PATIENCE", "6s")];
    let mut run = Run::start_with(&machine, "run", &scenario(8, 8, "10ms", &["time-slicing"]), &patience);
    run.until_committed(1);
    let pid = whom(&run);
    let held = Held::on(pid);
    signal(pid, "KILL");
    let (dir, begun) = (run.dir.clone(), Instant::now());
    let stuck = format!("pid {pid} ({who}) is stuck in the driver: killed, and still there");
    let words = [stuck.as_str(), "in a call that no signal ends", "reboot the node before its GPU is used again"];
    // One that waits for it for good fails here.
    run.until(|_| false);
    let said = run.end().ended(3, &[&words, &KEPT[..]].concat());
    let took = begun.elapsed();
    // A window or an arm, until it is given up, and ten seconds for its end.
    assert!(took < Duration::from_secs(50), "{took:?}");
    assert!(state_of(pid).is_some_and(|state| state != 'Z'), "it outlives the run: {:?}", state_of(pid));
    drop(held);
    assert_no_tenants(&machine);
    say(&machine, &["verify", path(&dir)]).ended(0, &["not finished"]);
    said
}

#[test]
fn a_watcher_that_no_signal_ends_is_left_in_the_kernel() {
    let _alone = alone();
    let said = stuck(|run| run.watcher(), "it asks NVML");
    assert!(said.words().contains("NVML has not answered for 6s"), "{said:#?}");
}

#[test]
fn a_tenant_that_no_signal_ends_is_left_in_the_kernel() {
    let _alone = alone();
    let victim = |run: &Run<'_>| {
        let arranged = of_kind(&run.dir, "arranged");
        arranged.last().unwrap()["evidence"]["seats"][0]["pid"].as_u64().unwrap() as u32
    };
    stuck(victim, "tenant of seat 0 (victim)");
}
