//! What goes wrong in the middle of a run: a tenant, a driver call, a result, the device.

use crate::support::alone;
use crate::support::run::{A30, Run, assert_no_tenants, document, events, of_kind, path, say, scenario, signal};
use crate::support::stand_in::StandIn;

/// Tenants of the generation that is up, victim first, as the last event says.
fn seats(run: &Run<'_>) -> Vec<u32> {
    let arranged = of_kind(&run.dir, "arranged");
    let seats = arranged.last().and_then(|a| a["evidence"]["seats"].as_array()).expect("seats");
    seats.iter().map(|seat| seat["pid"].as_u64().unwrap() as u32).collect()
}

#[test]
fn a_killed_tenant_costs_its_block_and_nothing_else() {
    let _alone = alone();
    for (seat, role) in [(0, "seat 0 (victim)"), (1, "seat 1 (neighbour)")] {
        let machine = StandIn::new(A30);
        let mut run = Run::start(&machine, "run", &scenario(2, 2, "10ms", &["time-slicing"]), &[]);
        run.until_committed(1);
        signal(seats(&run)[seat], "KILL");
        let dir = run.dir.clone();
        run.end().ended(0, &["lost"]);
        let lost = of_kind(&dir, "lost");
        assert_eq!(lost.len(), 1, "{lost:#?}");
        let reason = lost[0]["reason"].as_str().unwrap();
        assert!(reason.contains(role) && reason.contains("killed by signal 9"), "{reason}");
        // The other block is whole, on tenants of its own.
        let hit = &lost[0]["arm"]["block"];
        let whole = of_kind(&dir, "committed").iter().filter(|c| c["arm"]["block"] != *hit).count();
        assert_eq!(whole, 2, "{:#?}", events(&dir));
        assert_no_tenants(&machine);
        say(&machine, &["verify", path(&dir)]).ended(0, &[]);
    }
}

#[test]
fn a_tenant_killed_in_calibration_costs_that_calibration_alone() {
    let _alone = alone();
    let machine = StandIn::new(A30);
    let mut run = Run::start(&machine, "run", &scenario(1, 1, "10ms", &["time-slicing"]), &[]);
    assert!(run.until(|run| run.tenants().len() == 2));
    signal(run.tenants()[1], "KILL");
    let dir = run.dir.clone();
    run.end().ended(0, &[]);
    let notes = of_kind(&dir, "note");
    let reason = notes[0]["calibration-lost"]["reason"].as_str().unwrap_or_else(|| panic!("{notes:#?}"));
    assert!(reason.contains("killed by signal 9"), "{reason}");
    assert_eq!((of_kind(&dir, "committed").len(), of_kind(&dir, "lost").len()), (2, 0));
    assert_no_tenants(&machine);
}

/// A machine on which something happens from the `call`-th launch of each process on. In the quiet arm of a run with
/// [`busy`] load the victim posts 160; all that came before, to load and to warm up, are fewer than 140.
fn from_launch_150(fault: &str) -> StandIn {
    StandIn::new(&format!("{A30}[fault]\n{fault}\n"))
}

fn busy() -> String {
    scenario(1, 1, "10ms", &["time-slicing"]).replace("160/s", "640/s")
}

#[test]
fn wrong_results_are_recorded_and_prove_nothing() {
    let _alone = alone();
    let machine = from_launch_150("wrong_result_from = 150");
    let run = Run::start(&machine, "run", &busy(), &[]);
    let dir = run.dir.clone();
    run.end().ended(0, &[]);
    let committed = of_kind(&dir, "committed");
    let failed: u64 = committed.iter().map(|c| c["series"][0]["failed"].as_u64().unwrap()).sum();
    assert!(failed > 0, "{committed:#?}");
    // The next arm warms up first, and goes no further.
    let lost = of_kind(&dir, "lost");
    assert!(lost.iter().any(|l| l["reason"].as_str().unwrap().contains("the result is wrong")), "{lost:#?}");
    assert_ne!(document(&dir, "digest.json")["verdict"]["cells"][0]["verdict"]["verdict"], "isolated");
}

#[test]
fn a_code_that_nobody_knows_fails_requests_and_arms_by_its_number() {
    let _alone = alone();
    let machine = from_launch_150("results = [{ symbol = \"cuLaunchKernel\", from_call = 150, code = 9999 }]");
    let run = Run::start(&machine, "run", &busy(), &[]);
    let dir = run.dir.clone();
    run.end().ended(0, &["CUDA error 9999"]);
    let failed: u64 = of_kind(&dir, "committed").iter().map(|c| c["series"][0]["failed"].as_u64().unwrap()).sum();
    assert!(failed > 0, "{:#?}", events(&dir));
    assert!(of_kind(&dir, "lost")[0]["reason"].as_str().unwrap().contains("9999"), "{:#?}", events(&dir));
    assert_no_tenants(&machine);
}

#[test]
fn a_driver_call_that_hangs_is_given_up_at_its_deadline() {
    let _alone = alone();
    let machine = from_launch_150("hang = [{ symbol = \"cuLaunchKernel\", from_call = 150, ms = 600000 }]");
    let run = Run::start_with(&machine, "run", &busy(), &[("CROSSTALK_STAND_IN_PATIENCE", "8s")]);
    let dir = run.dir.clone();
    run.end().ended(0, &["lost"]);
    let lost = of_kind(&dir, "lost");
    let reason = lost[0]["reason"].as_str().unwrap();
    assert!(reason.contains("seat 0 (victim)") && reason.contains("no answer to \"window\" within"), "{reason}");
    assert_no_tenants(&machine);
    say(&machine, &["verify", path(&dir)]).ended(0, &[]);
}

/// The device goes in the middle: exit 3, and what was measured before can be read.
#[track_caller]
fn device_goes(machine: &StandIn, words: &[&str], go: impl Fn(&StandIn)) {
    let mut run = Run::start(machine, "run", &scenario(8, 8, "10ms", &["time-slicing"]), &[]);
    run.until_committed(1);
    go(machine);
    let dir = run.dir.clone();
    run.end().ended(3, &[words, &["what was measured is kept", "--resume"]].concat());
    let committed = of_kind(&dir, "committed").len();
    assert!((1..16).contains(&committed), "{committed} arms");
    assert_no_tenants(machine);
    say(machine, &["verify", path(&dir)]).ended(0, &[&format!("{committed} arms"), "not finished"]);
    say(machine, &["report", path(&dir)]).ended(0, &["STAND-IN"]);
}

#[test]
fn a_lost_device_ends_the_run_with_exit_3_and_keeps_what_was_measured() {
    let _alone = alone();
    device_goes(&StandIn::new(A30), &["fell off the bus"], StandIn::lose_device);
}

#[test]
fn xid_79_ends_the_run_with_exit_3() {
    let _alone = alone();
    // Once the first arm is committed the run is in its fourth second; on a slow machine the event is there at once.
    let machine = StandIn::new(&format!("{A30}xids = [{{ after_ms = 6000, code = 79 }}]\n"));
    device_goes(&machine, &["Xid 79"], |_| {});
}
