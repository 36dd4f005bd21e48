//! Streams and green contexts: all tenants in one process.

use serde_json::Value;

use crate::support::alone;
use crate::support::run::{A30, Run, assert_no_tenants, document, events, of_kind, path, say, scenario, signal};
use crate::support::stand_in::{Library, StandIn};

/// p50 beside the neighbour ÷ alone.
fn ratio(digest: &Value, name: &str) -> f64 {
    let cells = digest["verdict"]["cells"].as_array().unwrap();
    let cell = cells.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("no {name} in {cells:#?}"));
    cell["series"][0]["ratio"]["estimate"].as_f64().unwrap()
}

#[test]
fn tenants_of_one_process_share_all_sms_as_streams_and_none_in_green_contexts() {
    let _alone = alone();
    let machine = StandIn::new(A30);
    let run = Run::start(&machine, "run", &scenario(2, 2, "40ms", &["streams", "green-contexts"]), &[]);
    let dir = run.dir.clone();
    run.end().ended(0, &[]);
    assert_no_tenants(&machine);

    let arranged = of_kind(&dir, "arranged");
    assert_eq!(arranged.len(), 4, "{arranged:#?}");
    for event in &arranged {
        let seats = event["evidence"]["seats"].as_array().unwrap();
        let of = |key: &str| seats.iter().map(|seat| seat["device"][key].clone()).collect::<Vec<_>>();
        assert_eq!(seats.len(), 2);
        assert_eq!(seats[0]["pid"], seats[1]["pid"], "one process: {event:#?}");
        assert_eq!(of("uuid")[0], of("uuid")[1]);
        let proofs = event["evidence"]["proofs"].to_string();
        assert!(proofs.contains(&format!("2 tenants of process {}", seats[0]["pid"])), "{proofs}");
        if event["arrangement"] == 0 {
            assert_eq!(of("green_sms"), [Value::Null, Value::Null]);
        } else {
            // Half of 56 each.
            assert_eq!(of("green_sms"), [28, 28].map(Value::from));
            assert!(proofs.contains("one split of 56 SMs: seat 0: 28, seat 1: 28"), "{proofs}");
        }
    }
    let committed = of_kind(&dir, "committed");
    assert_eq!(committed.len(), 8, "{:#?}", events(&dir));
    for arm in committed.iter().filter(|arm| !arm["arm"]["neighbour"].is_null()) {
        assert!(arm["summary"]["neighbours"][0]["completed"].as_u64().unwrap() > 0, "{arm:#?}");
    }
    // Bursts of 40 ms that fill every SM they may use: a stream waits behind them, a green context has SMs of its own.
    let digest = document(&dir, "digest.json");
    let (streams, green) = (ratio(&digest, "streams/hog"), ratio(&digest, "green-contexts/hog"));
    assert!(streams > 5.0 && streams > 3.0 * green, "{streams} as streams, {green} in green contexts");
    say(&machine, &["verify", path(&dir)]).ended(0, &["8 arms", "verdict agree"]);
}

#[test]
fn with_a_killed_process_its_tenants_arm_is_lost_and_the_run_goes_on() {
    let _alone = alone();
    let machine = StandIn::new(A30);
    let mut run = Run::start(&machine, "run", &scenario(2, 2, "10ms", &["streams"]), &[]);
    run.until_committed(1);
    let tenants = run.tenants();
    assert_eq!(tenants.len(), 1, "one process");
    signal(tenants[0], "KILL");
    let dir = run.dir.clone();
    run.end().ended(0, &["lost"]);
    let lost = of_kind(&dir, "lost");
    let reason = lost[0]["reason"].as_str().unwrap();
    assert!(reason.contains("killed by signal 9") && reason.contains("all 2 tenants"), "{reason}");
    assert_eq!(lost.len(), 1, "{lost:#?}");
    let whole = of_kind(&dir, "committed").iter().filter(|c| c["arm"]["block"] != lost[0]["arm"]["block"]).count();
    assert_eq!(whole, 2, "{:#?}", events(&dir));
    assert_no_tenants(&machine);
}

#[test]
fn a_green_context_that_cannot_be_had_is_named_and_the_others_go_on() {
    let _alone = alone();
    let refused = |machine: &StandIn, words: &str| {
        let run = Run::start(machine, "run", &scenario(1, 1, "10ms", &["green-contexts", "streams"]), &[]);
        let dir = run.dir.clone();
        run.end().ended(0, &[]);
        let skipped = of_kind(&dir, "skipped");
        assert_eq!(skipped.len(), 1, "{skipped:#?}");
        assert_eq!(skipped[0]["arrangement"], 0);
        let reason = skipped[0]["reason"].as_str().unwrap();
        assert!(reason.contains(words), "{words:?} not in {reason:?}");
        let committed = of_kind(&dir, "committed");
        assert_eq!(committed.len(), 2, "{:#?}", events(&dir));
        assert!(committed.iter().all(|c| c["arm"]["arrangement"] == 1));
        assert_no_tenants(machine);
    };
    let fewer = StandIn::new(&format!("{A30}green_sms = 8\n"));
    refused(&fewer, "seat 0 was promised 28 SMs, and its green context has 8 of the device's 56");
    let old = StandIn::new(&format!("cuda = \"12.3\"\n{A30}"));
    refused(&old, "green contexts need a driver of CUDA 12.4 or later (R550), and this one has CUDA 12.3");
    let lacking = StandIn::new(A30);
    lacking.without(Library::Cuda, &["cuGreenCtxCreate"]);
    refused(&lacking, "cuGreenCtxCreate: this driver has no such call");
    let refusing = "[fault]\nresults = [{ symbol = \"cuDevSmResourceSplitByCount\", code = 801 }]\n";
    refused(&StandIn::new(&format!("{A30}{refusing}")), "CUDA_ERROR_NOT_SUPPORTED");
}

#[test]
fn a_driver_of_cuda_12_4_has_no_call_for_their_streams_and_needs_none() {
    let _alone = alone();
    let machine = StandIn::new(&format!("cuda = \"12.4\"\n{A30}"));
    machine.without(Library::Cuda, &["cuGreenCtxStreamCreate"]);
    let run = Run::start(&machine, "run", &scenario(1, 1, "10ms", &["green-contexts"]), &[]);
    let dir = run.dir.clone();
    run.end().ended(0, &[]);
    assert_eq!(of_kind(&dir, "committed").len(), 2, "{:#?}", events(&dir));
}

#[test]
fn shares_that_the_driver_rounds_up_are_told_as_they_are() {
    let _alone = alone();
    let machine = StandIn::new(A30);
    // 39 and 11 SMs of 56, in pairs 38 and 10: this driver makes groups of four at least.
    let layout = "sharing = \"green-contexts\"\nlayout = [{ sms = \"70%\" }, { sms = \"20%\" }]\nvictim_at = [\"0\"]\n";
    let scenario = scenario(1, 1, "10ms", &["green-contexts"]).replace("sharing = \"green-contexts\"\n", layout);
    let run = Run::start(&machine, "run", &scenario, &[]);
    let dir = run.dir.clone();
    run.end().ended(0, &[]);
    let proofs = of_kind(&dir, "arranged")[0]["evidence"]["proofs"].to_string();
    assert!(proofs.contains("seat 0: 40, promised 38, seat 1: 12, promised 10"), "{proofs}");
    assert_eq!(of_kind(&dir, "committed").len(), 2, "{:#?}", events(&dir));
}
