//! A machine with MIG on.

use serde_json::Value;

use crate::support::alone;
use crate::support::run::{Run, assert_no_tenants, document, of_kind, path, say, scenario};
use crate::support::stand_in::StandIn;

const GPU: &str = "GPU-11111111-2222-8333-8444-555555555555";
const DEVICES: [&str; 2] = ["MIG-41b9eab5-8d48-5c52-9f07-82bc59af3901", "MIG-51b9eab5-8d48-5c52-9f07-82bc59af3902"];

fn machine() -> StandIn {
    StandIn::new(&format!(
        "[[gpu]]\nmodel = \"a30\"\nuuid = \"{GPU}\"\nmig = [\"2g.12gb\", \"2g.12gb\"]\nmig_uuids = {DEVICES:?}\n"
    ))
}

#[test]
fn doctor_sees_the_instances() {
    let _alone = alone();
    say(&machine(), &["doctor"]).ended(0, &["MIG is on with 2 instance(s)"]);
    let bare = StandIn::new("[[gpu]]\nmodel = \"a30\"\nmig = []\n");
    let said = say(&bare, &["doctor"]);
    assert_eq!(said.code, Some(3), "{said:#?}");
}

#[test]
fn a_mig_device_is_understood_by_either_form_of_its_uuid() {
    let _alone = alone();
    let machine = machine();
    std::fs::write(machine.path().join("s.toml"), scenario(1, 1, "10ms", &["mig"])).unwrap();
    let check = |device: &str| say(&machine, &["check", "s.toml", "--device", device]);
    // The victim is there, and every other instance is busy.
    for (seat, device) in DEVICES.into_iter().enumerate() {
        let said = check(device).ended(0, &[&format!("the victim on {device}")]);
        assert!(said.words().contains(&format!("victim at {seat}, neighbours at {}", 1 - seat)), "{said:#?}");
        assert!(!said.words().contains(&format!("victim at {}", 1 - seat)), "{said:#?}");
    }
    say(&machine, &["self-check", "--device", DEVICES[0]]).ended(2, &["whole GPUs", DEVICES[0]]);
    check(GPU).ended(0, &["seat 0: 2g.12gb", "seat 1: 2g.12gb"]);
    // The instance ids are the driver's: one of the first numbers is the second device's.
    let old: Vec<String> = (0..15).map(|id| check(&format!("MIG-{GPU}/{id}/0")).words()).collect();
    for device in DEVICES {
        assert_eq!(old.iter().filter(|w| w.contains(&format!("the victim on {device}"))).count(), 1, "{old:#?}");
    }
    check("MIG-61b9eab5-8d48-5c52-9f07-82bc59af3903").ended(2, &["there is no MIG device", DEVICES[0], DEVICES[1]]);
    check("cuda:0").ended(2, &["ambiguous", GPU, DEVICES[0], DEVICES[1]]);
}

#[test]
fn time_slicing_the_whole_gpu_is_skipped_under_mig() {
    let _alone = alone();
    let machine = machine();
    let run = Run::start(&machine, "run", &scenario(1, 1, "10ms", &["time-slicing", "exclusive"]), &[]);
    let dir = run.dir.clone();
    run.end().ended(0, &["MIG mode is on", "nvidia-smi -mig 0"]);
    let skipped = of_kind(&dir, "skipped");
    assert_eq!(skipped.len(), 2, "{skipped:#?}");
    assert!(of_kind(&dir, "committed").is_empty());
    assert_no_tenants(&machine);
}

/// A scenario of one launch probe beside short bursts in these arrangements.
fn beside_bursts(arrangements: &str) -> String {
    scenario(1, 1, "10ms", &[]) + arrangements
}

/// The proofs of the restarts, and the devices of the seats, in their order.
fn proved(dir: &std::path::Path) -> Vec<(usize, String, Vec<String>)> {
    let one = |event: Value| {
        let evidence = &event["evidence"];
        let words = |list: &Value| {
            let all = list.as_array().unwrap().iter();
            all.map(|v| v.as_str().unwrap().to_owned()).collect::<Vec<_>>().join("\n")
        };
        let uuid = |seat: &Value| seat["device"]["uuid"].as_str().unwrap().to_owned();
        let devices = evidence["seats"].as_array().unwrap().iter().map(uuid).collect();
        (event["arrangement"].as_u64().unwrap() as usize, words(&evidence["proofs"]), devices)
    };
    of_kind(dir, "arranged").into_iter().map(one).collect()
}

#[test]
fn init_then_run_tests_every_profile_against_every_other_instance() {
    let _alone = alone();
    let machine = StandIn::new("[[gpu]]\nmodel = \"h100-sxm\"\nmig = \"all-balanced\"\n");
    let file = machine.path().join("made.toml");
    say(&machine, &["init", "--output", path(&file)]).ended(0, &["STAND-IN for NVIDIA H100"]);
    let victims =
        ["victim at 0, neighbours at 1, 2, 3", "victim at 1, neighbours at 0, 2, 3", "victim at 2, neighbours at"];
    say(&machine, &["check", path(&file)]).ended(0, &victims);

    // The same arrangement with less to measure.
    let mut made: toml::Table = toml::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let short: toml::Table = toml::from_str(&beside_bursts("")).unwrap();
    for key in ["design", "victim", "neighbour"] {
        made.insert(key.to_owned(), short[key].clone());
    }
    let arrangements = made["arrangement"].as_array_mut().unwrap();
    arrangements.retain(|a| a["sharing"].as_str() == Some("mig"));
    for arrangement in arrangements.iter_mut().filter_map(toml::Value::as_table_mut) {
        arrangement.retain(|key, _| !["require", "expect", "panel", "neighbours"].contains(&key));
    }
    let run = Run::start(&machine, "run", &toml::to_string(&made).unwrap(), &[]);
    let dir = run.dir.clone();
    run.end().ended(0, &[]);
    assert_no_tenants(&machine);

    let plan = &document(&dir, "manifest.json")["plan"];
    let (seats, grids) = (&plan["arrangements"][0]["seats"], plan["arrangements"][0]["grids"].as_array().unwrap());
    let victims: Vec<&str> =
        grids.iter().map(|g| seats[g["victim"].as_u64().unwrap() as usize]["share"].as_str().unwrap()).collect();
    assert_eq!(victims, ["3g.40gb", "2g.20gb", "1g.10gb"]);
    let instances = plan["inventory"]["gpus"][0]["instances"].as_array().unwrap();
    let uuids: Vec<&str> = instances.iter().map(|i| i["uuid"].as_str().unwrap()).collect();
    let proofs = proved(&dir);
    assert!(proofs.len() >= 3, "{proofs:#?}");
    for (_, words, devices) in &proofs {
        assert_eq!(devices, &uuids, "every instance has its tenant");
        assert!(words.contains("no two tenants are in one GPU instance"), "{words}");
        assert_eq!(words.matches("by its CUDA context and the driver's list of processes").count(), 4, "{words}");
    }
    let committed = of_kind(&dir, "committed");
    assert_eq!(committed.len(), 6, "quiet and noisy for each victim");
    for arm in committed.iter().filter(|arm| !arm["arm"]["neighbour"].is_null()) {
        let busy = arm["summary"]["neighbours"].as_array().unwrap();
        assert_eq!(busy.len(), 3, "{arm:#?}");
        assert!(busy.iter().all(|n| n["completed"].as_u64().unwrap() > 0), "{arm:#?}");
    }
    // The counters of each instance say the same: the neighbours' were busy in noisy arms alone.
    for arm in &committed {
        let counted = arm["summary"]["activity"].as_array().unwrap();
        assert_eq!(counted.len(), 4, "{arm:#?}");
        let victim = grids[arm["arm"]["grid"].as_u64().unwrap() as usize]["victim"].as_u64().unwrap() as usize;
        let beside = |one: &&Value| one["gpu_instance"] != instances[victim]["gpu_instance"];
        let busiest = counted.iter().filter(beside).map(|one| one["active"].as_f64().unwrap());
        let (noisy, busiest) = (!arm["arm"]["neighbour"].is_null(), busiest.fold(0.0, f64::max));
        assert_eq!(busiest > 0.5, noisy, "{busiest}: {arm:#?}");
    }
}

#[test]
fn turns_inside_an_instance_and_a_layout_that_is_not_there() {
    let _alone = alone();
    let machine = machine();
    let text = beside_bursts(
        "[[arrangement]]\nname = \"inside\"\nsharing = \"mig+time-slicing\"\n\
         layout = [{ profile = \"2g.12gb\", tenants = 2 }, \"2g.12gb\"]\nvictim_at = [\"0.0\"]\n\
         [[arrangement]]\nname = \"other\"\nsharing = \"mig\"\nlayout = [\"2g.12gb\", \"1g.6gb\", \"1g.6gb\"]\n\
         [[arrangement]]\nname = \"parts\"\nsharing = \"mig-compute-instances\"\n",
    );
    let run = Run::start(&machine, "run", &text, &[]);
    let dir = run.dir.clone();
    let not_there = "the layout is 2g.12gb + 2g.12gb, the scenario asks for 2g.12gb + 1g.6gb + 1g.6gb";
    run.end().ended(0, &[not_there, "no GPU instance here holds two compute instances"]);
    let proofs = proved(&dir);
    assert!(!proofs.is_empty());
    for (arrangement, words, devices) in &proofs {
        assert_eq!(
            (*arrangement, devices.as_slice()),
            (0, &[DEVICES[0], DEVICES[0], DEVICES[1]].map(String::from)[..])
        );
        assert!(words.contains("1 pair(s) of tenants share a MIG device, in turns"), "{words}");
    }
    assert_eq!(of_kind(&dir, "committed").len(), 2);
}

#[test]
fn compute_instances_of_one_gpu_instance_are_tenants_apart() {
    let _alone = alone();
    let machine = StandIn::new("[[gpu]]\nmodel = \"a30\"\nmig = [\"1c.2g.12gb\", \"1c.2g.12gb\"]\n");
    let text = beside_bursts(
        "[[arrangement]]\nname = \"parts\"\nsharing = \"mig-compute-instances\"\n\
         [[arrangement]]\nname = \"whole\"\nsharing = \"mig\"\n",
    );
    let run = Run::start(&machine, "run", &text, &[]);
    let dir = run.dir.clone();
    run.end().ended(0, &["are two compute instances of one GPU instance"]);
    for (arrangement, words, devices) in &proved(&dir) {
        assert_eq!(*arrangement, 0);
        assert_ne!(devices[0], devices[1]);
        assert!(words.contains("14 SMs") && words.contains("1 pair(s) share a GPU instance"), "{words}");
    }
    assert_eq!(of_kind(&dir, "committed").len(), 2);
}

#[test]
fn separate_gpus_are_two_and_both_are_free() {
    let _alone = alone();
    const OTHER: &str = "GPU-21111111-2222-8333-8444-555555555555";
    let gpus = |more: &str| {
        format!("[[gpu]]\nmodel = \"a30\"\nuuid = \"{GPU}\"\n[[gpu]]\nmodel = \"a30\"\nuuid = \"{OTHER}\"\n{more}")
    };
    let machine = StandIn::new(&gpus(""));
    let text = beside_bursts("[[arrangement]]\nname = \"apart\"\nsharing = \"separate-gpus\"\n");
    let run = Run::start(&machine, "run", &text, &["--device", GPU]);
    let dir = run.dir.clone();
    run.end().ended(0, &[]);
    for (_, words, devices) in &proved(&dir) {
        assert_eq!(devices, &[GPU, OTHER]);
        assert!(words.contains(&format!("seat 0 is on {GPU} and seat 1 on {OTHER}")), "{words}");
    }
    assert_eq!(of_kind(&dir, "committed").len(), 2);

    // Somebody works on the second one.
    let machine = StandIn::new(&gpus("processes = [{ pid = 4711, name = \"python3\", memory_mib = 64 }]\n"));
    let run = Run::start(&machine, "run", &text, &["--device", GPU]);
    let dir = run.dir.clone();
    run.end().ended(3, &["nothing was measured", OTHER, "in use by python3 (pid 4711"]);
    assert!(of_kind(&dir, "committed").is_empty());
}
