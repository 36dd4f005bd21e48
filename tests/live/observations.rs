//! Observations of the driver, asked of the stand-in: each can come out in more than one way, and whatever is started for one
//! is gone afterwards.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::support::alone;
use crate::support::run::{A30, Run, assert_no_tenants, of_kind, path, say, scenario};
use crate::support::stand_in::StandIn;

const ALL: [&str; 7] = ["peer-access", "ipc", "all-reduce", "visibility", "accounting", "metrics", "layout-change"];

/// A scenario of one arrangement, of which these are observed.
fn observing(sharing: &str, ids: &[&str]) -> String {
    let observe: Vec<String> = ids.iter().map(|id| format!("{id} = \"any\"")).collect();
    let arrangement =
        format!("[[arrangement]]\nname = \"here\"\nsharing = {sharing}\nobserve = {{ {} }}\n", observe.join(", "));
    scenario(1, 1, "10ms", &[]) + &arrangement
}

/// What was observed, by id.
fn observed(dir: &Path) -> BTreeMap<String, Value> {
    let one = |mut event: Value| (event["observed"]["id"].as_str().unwrap().to_owned(), event["observed"].take());
    of_kind(dir, "observed").into_iter().map(one).collect()
}

/// Runs it on this machine; what was observed. The run goes on to its cells whatever comes out.
fn seen(machine: &StandIn, toml: &str, more: &[&str]) -> BTreeMap<String, Value> {
    let run = Run::start(machine, "run", toml, more);
    let dir = run.dir.clone();
    run.end().ended(0, &[]);
    assert_no_tenants(machine);
    assert_eq!(of_kind(&dir, "committed").len(), 2, "both arms of its block were run");
    say(machine, &["verify", path(&dir)]).ended(0, &[]);
    observed(&dir)
}

#[track_caller]
fn assert_found(all: &BTreeMap<String, Value>, id: &str, finding: Option<&str>, words: &[&str]) {
    let one = &all[id];
    assert_eq!(one["finding"].as_str(), finding, "{one:#}");
    for part in words {
        assert!(one["why"].as_str().unwrap().contains(part), "{part:?} not in {one:#}");
    }
}

#[test]
fn tenants_in_turns_on_one_device_are_open_to_each_other_and_each_has_its_account() {
    let _alone = alone();
    let machine = StandIn::new(&format!("{A30}[nccl]\nversion = 22803\nshares_gpu = true\n"));
    machine.add_nccl();
    let all = seen(&machine, &observing("\"time-slicing\"", &ALL), &[]);
    assert_found(&all, "peer-access", Some("same-device"), &["both seats have GPU-"]);
    assert_found(&all, "ipc", Some("supported"), &["wrote a pattern"]);
    assert_found(&all, "all-reduce", Some("works"), &["NCCL 2.28.3: 2 ranks have the right sum"]);
    assert_found(
        &all,
        "visibility",
        Some("whole-gpu"),
        &["unset shows the whole GPU, 56 SMs", "\"0\" shows the whole"],
    );
    assert_found(&all, "accounting", Some("tells"), &[]);
    let figures = &all["accounting"]["figures"];
    let share = |name: &str| figures[name].as_f64().unwrap();
    assert!(share("victim_known") > 0.5 && share("neighbour_known") < 0.45, "{figures:#}");
    assert!(share("readings") >= 3.0, "{figures:#}");
    assert_found(&all, "metrics", Some("per-tenant"), &["NVML by process: tells them apart", "DCGM: unknown"]);
    assert_found(&all, "layout-change", None, &["MIG is off", "-mig 1"]);
    for measured in ["ipc", "all-reduce"] {
        let rate = all[measured]["figures"]["rate_gb_s"].as_f64();
        assert!(rate.is_some_and(|rate| rate > 0.0), "{:#}", all[measured]);
    }
}

#[test]
fn instances_are_closed_to_each_other_and_their_layout_is_asked_for_permission() {
    let _alone = alone();
    let gpu = "GPU-11111111-2222-8333-8444-555555555555";
    let machine =
        StandIn::new(&format!("[[gpu]]\nmodel = \"h100-sxm\"\nuuid = \"{gpu}\"\nmig = [\"3g.40gb\", \"2g.20gb\"]\n"));
    machine.add_nccl();
    let toml = observing("\"mig\"\nvictim_at = [\"1\"]", &ALL);
    let all = seen(&machine, &toml, &[]);
    assert_found(&all, "peer-access", Some("refused"), &["sees 1 of them"]);
    assert_found(&all, "ipc", Some("refused"), &["cuIpcOpenMemHandle_v2", "CUDA_ERROR_NOT_SUPPORTED"]);
    assert_found(&all, "all-reduce", Some("refused"), &["NCCL 2.21.5", "ncclCommInitRank", "Duplicate GPU detected"]);
    let landed = [&format!("{gpu} shows the instance"), "unset shows the instance", "lands there is refused"];
    assert_found(&all, "visibility", Some("one-instance"), &landed);
    assert_eq!(all["visibility"]["figures"]["gpu_sms"], 132.0);
    assert_found(&all, "accounting", Some("does-not-tell"), &["nvmlDeviceGetProcessUtilization"]);
    assert_found(&all, "metrics", Some("per-tenant"), &["GPM: tells them apart", "NVML memory: of each"]);
    assert_found(&all, "layout-change", None, &["MIG is on, and stays so", "--allow-reconfigure"]);

    // With it. The stand-in, unlike a driver, divides nothing beside running work.
    std::fs::remove_dir_all(machine.path().join("run")).unwrap();
    let all = seen(&machine, &observing("\"mig\"\nvictim_at = [\"0\"]", &["layout-change"]), &["--allow-reconfigure"]);
    let said = ["destroying the victim's own compute instance: refused, it is in use", "creating 1g.10gb at slice"];
    assert_found(&all, "layout-change", Some("refused"), &said);
    let kept = |name: &str| name.starts_with("mig-before-");
    let names = std::fs::read_dir(machine.path()).unwrap().flatten().map(|e| e.file_name());
    assert!(
        !names.into_iter().any(|name| kept(&name.to_string_lossy())),
        "what was written down is not needed any more"
    );
}

#[test]
fn gpus_are_peers_or_not_as_the_driver_says() {
    let _alone = alone();
    let two = |more: &str| {
        let gpu = |n: u32| format!("{A30}uuid = \"GPU-{n}1111111-2222-8333-8444-555555555555\"\n{more}");
        StandIn::new(&(gpu(1) + &gpu(2)))
    };
    let toml = observing("\"separate-gpus\"", &["peer-access", "ipc"]);
    let device = ["--device", "GPU-11111111-2222-8333-8444-555555555555"];
    let machine = two("");
    let all = seen(&machine, &toml, &device);
    assert_found(&all, "peer-access", Some("supported"), &["reaches the memory of the other"]);
    assert_found(&all, "ipc", Some("supported"), &[]);
    for measured in ["peer-access", "ipc"] {
        let rate = all[measured]["figures"]["rate_gb_s"].as_f64();
        assert!(rate.is_some_and(|rate| rate > 0.0), "{:#}", all[measured]);
    }
    let machine = two("peer_access = false\n");
    let all = seen(&machine, &toml, &device);
    assert_found(&all, "peer-access", Some("refused"), &["says no from the victim's device", "and no back"]);
    assert_found(&all, "ipc", Some("refused"), &["217 (CUDA_ERROR_PEER_ACCESS_UNSUPPORTED)"]);
}

#[test]
fn what_hangs_or_is_not_there_is_untold_and_the_run_goes_on() {
    let _alone = alone();
    let machine = StandIn::new(
        "[[gpu]]\nmodel = \"a30\"\nmig = [\"2g.12gb\", \"2g.12gb\"]\n[fault]\n\
         hang = [{ symbol = \"cuIpcGetMemHandle\", ms = 600000 }]\n",
    );
    let toml = observing("\"mig\"", &["ipc", "all-reduce", "metrics"]);
    let run = Run::start_with(&machine, "run", &toml, &[("CROSSTALK_STAND_IN_PATIENCE", "8s")]);
    let dir = run.dir.clone();
    run.end().ended(0, &["ipc", "cannot be told"]);
    assert_no_tenants(&machine);
    assert_eq!(of_kind(&dir, "committed").len(), 2);
    let all = observed(&dir);
    assert_found(&all, "ipc", None, &["no answer to \"ask\" within 8"]);
    assert_found(&all, "all-reduce", None, &["no libnccl here", "LD_LIBRARY_PATH"]);
    // Before Hopper nothing counts an instance.
    assert_found(&all, "metrics", Some("device-only"), &["GPM: unknown", "NVML utilisation: unknown"]);
}

#[test]
fn an_account_that_is_kept_from_us_tells_nothing() {
    let _alone = alone();
    let machine = StandIn::new(&format!(
        "{A30}[fault]\nresults = [{{ symbol = \"nvmlDeviceGetProcessUtilization\", code = 4 }}]\n"
    ));
    let all = seen(&machine, &observing("\"time-slicing\"", &["accounting"]), &[]);
    assert_found(&all, "accounting", Some("does-not-tell"), &["nvmlDeviceGetProcessUtilization"]);
}

#[test]
fn clients_of_mps_are_asked_through_their_daemon() {
    let _alone = alone();
    let machine = StandIn::new(&format!("{A30}[nccl]\nshares_gpu = true\n"));
    machine.add_nccl();
    let sharing = "\"mps\"\nlayout = [{ sms = \"50%\" }, { sms = \"50%\" }]";
    let all = seen(&machine, &observing(sharing, &["ipc", "all-reduce", "visibility"]), &[]);
    assert_found(&all, "ipc", Some("supported"), &[]);
    assert_found(&all, "all-reduce", Some("works"), &[]);
    // What a process sees is capped as its seat is: it was one of the daemon's clients.
    assert_found(&all, "visibility", Some("whole-gpu"), &["28 SMs"]);
}
