//! The whole product on one GPU: doctor, init, check, run, report, verify.

use serde_json::Value;

use crate::support::alone;
use crate::support::run::{A30, Run, assert_no_tenants, document, of_kind, path, say, scenario};
use crate::support::stand_in::StandIn;

/// The cell of an arrangement, as the digest judges it.
fn cell(digest: &Value, name: &str) -> Value {
    let cells = digest["verdict"]["cells"].as_array().unwrap();
    cells.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("no {name} in {cells:#?}")).clone()
}

/// p50 beside the neighbour ÷ alone.
fn ratio(digest: &Value, name: &str) -> f64 {
    cell(digest, name)["series"][0]["ratio"]["estimate"].as_f64().unwrap()
}

#[test]
fn init_writes_a_scenario_for_the_gpu_and_check_resolves_it() {
    let _alone = alone();
    let machine = StandIn::new(A30);
    say(&machine, &["doctor"]).ended(0, &["STAND-IN", "a run here can be trusted"]);
    let json: Value = serde_json::from_str(&say(&machine, &["doctor", "--format", "json"]).ended(0, &[]).out).unwrap();
    assert_eq!(json["trustworthy"], true);
    assert!(json["findings"].as_array().unwrap().iter().any(|f| f["id"] == "driver" && f["severity"] == "ok"));

    let file = machine.path().join("made.toml");
    say(&machine, &["init", "--tier", "smoke", "--output", path(&file)]).ended(0, &["STAND-IN for NVIDIA A30"]);
    let made = std::fs::read_to_string(&file).unwrap();
    assert!(made.contains("gpu = \"A30\"") && made.contains("sharing = \"time-slicing\""), "{made}");
    say(&machine, &["check", path(&file)]).ended(0, &["STAND-IN for NVIDIA A30", "time-slicing", "compute-burst"]);
    say(&machine, &["init", "--output", path(&file)]).ended(2, &["exists"]);
}

#[test]
fn the_time_slice_level_is_part_of_the_proof() {
    let _alone = alone();
    let machine = StandIn::new(&format!("{A30}time_slice = 3\n"));
    let before = std::env::var("PATH").unwrap_or_default();
    let found = format!("{}:{before}", path(machine.path()));
    for (folders, level) in
        [(found.as_str(), "is long, by nvidia-smi"), ("/nowhere", "is not known: nvidia-smi cannot be run")]
    {
        let name = if level.contains("long") { "told" } else { "untold" };
        let run = Run::start_with(&machine, name, &scenario(1, 1, "10ms", &["time-slicing"]), &[("PATH", folders)]);
        let dir = run.dir.clone();
        run.end().ended(0, &[]);
        let proofs = of_kind(&dir, "arranged")[0]["evidence"]["proofs"].to_string();
        assert!(proofs.contains("2 tenants on GPU-") && proofs.contains(level), "{proofs}");
    }
}

#[test]
fn a_run_shows_what_time_slicing_does_and_proves_where_everybody_was() {
    let _alone = alone();
    let machine = StandIn::new(A30);
    let run = Run::start(&machine, "run", &scenario(2, 2, "40ms", &["exclusive", "time-slicing"]), &[]);
    let dir = run.dir.clone();
    let said = run.end().ended(0, &[]);
    assert!(said.out.starts_with("STAND-IN DRIVER: nothing below was measured on hardware"), "{}", said.out);
    assert_no_tenants(&machine);

    // Numbers of the stand-in say so, in every file.
    for name in ["manifest.json", "digest.json", "finished.json"] {
        assert_eq!(document(&dir, name)["provenance"], "stand-in", "{name}");
    }
    let log = std::fs::read_to_string(dir.join("events.jsonl")).unwrap();
    let header: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(header["provenance"], "stand-in");

    let uuid = &document(&dir, "manifest.json")["plan"]["inventory"]["gpus"][0]["uuid"];
    let arranged = of_kind(&dir, "arranged");
    // Each arrangement: once to calibrate, once for both blocks.
    assert_eq!(arranged.len(), 4, "{arranged:#?}");
    let mut pids = Vec::new();
    for event in &arranged {
        let seats = event["evidence"]["seats"].as_array().unwrap();
        assert_eq!(seats.len(), 2);
        assert_eq!((&seats[0]["device"]["uuid"], &seats[0]["device"]["count"]), (uuid, &Value::from(1)));
        // Alone on the GPU the victim has a neighbour that touches none.
        let second = if event["arrangement"] == 0 { &Value::Null } else { uuid };
        assert_eq!(&seats[1]["device"]["uuid"], second, "{event:#?}");
        pids.extend(seats.iter().map(|s| s["pid"].as_u64().unwrap()));
    }
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 8, "every seat is a process of its own, and every generation starts anew");

    let committed = of_kind(&dir, "committed");
    assert_eq!(committed.len(), 8);
    let few = std::thread::available_parallelism().unwrap().get() < 4;
    for arm in &committed {
        let summary = &arm["summary"];
        assert!(!few || summary["too_few_cores"] == true, "{arm:#?}");
        assert!(arm["samples"].as_u64().unwrap() > 20, "{arm:#?}");
        if arm["arm"]["neighbour"].is_null() {
            assert_eq!(summary["neighbours"].as_array().unwrap().len(), 0);
        } else {
            assert!(summary["neighbours"][0]["completed"].as_u64().unwrap() > 0, "{arm:#?}");
        }
    }

    let digest = document(&dir, "digest.json");
    let (alone, sliced) = (ratio(&digest, "exclusive/hog"), ratio(&digest, "time-slicing/hog"));
    // Alone some hundred microseconds; beside bursts of 40 ms in turns, tens of milliseconds.
    assert!(sliced > 5.0 && sliced > 2.0 * alone, "{sliced} in turns, {alone} alone");
    assert_ne!(cell(&digest, "time-slicing/hog")["verdict"]["verdict"], "isolated");

    say(&machine, &["verify", path(&dir)]).ended(0, &["8 arms", "verdict agree"]);
    assert_eq!(say(&machine, &["report", path(&dir)]).ended(0, &[]).out, said.out, "a report is what the run printed");
}

#[test]
fn every_gpu_is_run_in_turn_each_in_a_directory_of_its_own() {
    let _alone = alone();
    let uuids = ["GPU-11111111-2222-8333-8444-555555555555", "GPU-21111111-2222-8333-8444-555555555555"];
    let gpu = |uuid: &str| format!("{A30}uuid = \"{uuid}\"\n");
    let machine = StandIn::new(&uuids.map(gpu).concat());
    std::fs::write(machine.path().join("s.toml"), scenario(1, 1, "10ms", &["exclusive"])).unwrap();
    let out = machine.path().join("both");
    let args = ["run", "s.toml", "--device", "all", "--quiet", "--out", path(&out)];
    say(&machine, &args).ended(0, &[&format!("GPU 1 of 2: {}", uuids[0]), &format!("GPU 2 of 2: {}", uuids[1])]);
    for (index, uuid) in uuids.iter().enumerate() {
        let dir = out.join(uuid);
        assert_eq!(document(&dir, "manifest.json")["plan"]["gpu"], index);
        let arranged = of_kind(&dir, "arranged");
        assert!(arranged.iter().all(|event| event.to_string().contains(uuid)), "{arranged:#?}");
        say(&machine, &["verify", path(&dir)]).ended(0, &[]);
    }
    // Beside what is there already nothing is measured: each says so, and the other's directory stays.
    say(&machine, &args).ended(2, &["GPU 2 of 2"]);
    assert_no_tenants(&machine);
}
