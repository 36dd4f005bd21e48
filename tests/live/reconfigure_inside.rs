//! What lies inside GPU instances that are made and put back: servers of MPS, and compute instances.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::mps::{assert_clean, daemons, directories, proofs};
use crate::reconfigure::{FLAG, GPU, assert_halves, halves, layout, said_in_role, saved};
use crate::support::alone;
use crate::support::run::{Run, assert_no_tenants, crosstalk, of_kind, path, say, scenario};
use crate::support::stand_in::StandIn;

/// Two clients in one instance and one in another, of which a machine in halves has neither.
fn clients() -> String {
    scenario(1, 1, "10ms", &[])
        + "[[arrangement]]\nname = \"inside\"\nsharing = \"mig+mps\"\nvictim_at = [\"0.0\"]\n\
           layout = [{ profile = \"1g.6gb\", tenants = 2, sms = \"50%\" }, \"1g.6gb\"]\n"
}

#[test]
fn instances_for_mps_are_made_each_with_a_server_of_its_own_and_put_back() {
    let _alone = alone();
    let machine = StandIn::new(&halves("", ""));
    let file = machine.path().join("s.toml");
    std::fs::write(&file, clients()).unwrap();
    say(&machine, &["check", path(&file)]).ended(0, &["SKIPPED", FLAG]);
    let planned = format!("inside: on GPU {GPU}, destroys 2g.12gb at slice");
    say(&machine, &["check", path(&file), FLAG]).ended(0, &[&planned, "creates 1g.6gb at slice"]);

    let mut run = Run::start(&machine, "run", &clients(), &[FLAG]);
    let dir = run.dir.clone();
    run.until_committed(1);
    assert_eq!((daemons(&machine).len(), directories(&machine).len()), (4, 2), "{:?}", daemons(&machine));
    assert_eq!(layout(&machine).map(|l| l.len()), Some(2));
    run.end().ended(0, &["put back under another name"]);
    assert_no_tenants(&machine);
    assert_clean(&machine);
    assert_halves(&machine);
    assert!(!of_kind(&dir, "committed").is_empty());
    let proofs = proofs(&dir);
    for words in [
        "of our control daemon",
        "1 pair(s) of tenants share a MIG device, through MPS",
        // Half of the 14 SMs of an instance that was not there when the run began.
        "seat 0.0 sees 7 of 14 SMs under its cap of 50%",
    ] {
        assert!(proofs.iter().any(|p| p.contains(words)), "{words} not in: {proofs:#?}");
    }

    // A daemon that does not come up costs the instances that were made for it.
    machine.configure(&halves("", "[mps]\nstart_error = \"no permission\"\n"));
    Run::start(&machine, "refused", &clients(), &[FLAG]).end().ended(3, &["no permission"]);
    assert_clean(&machine);
    assert_halves(&machine);
}

/// What is left of a run that is dead is put back, and nothing of MPS lives.
#[track_caller]
fn restores(machine: &StandIn, words: &[&str]) {
    assert_no_tenants(machine);
    assert_eq!(saved(machine).len(), 1);
    machine.configure(&halves("", ""));
    say(machine, &["restore"]).ended(0, &[&["put back as it was before"], words].concat());
    assert_clean(machine);
    assert_halves(machine);
}

#[test]
fn killed_at_any_step_of_making_them_restore_puts_everything_back() {
    let _alone = alone();
    for (symbol, call) in [
        ("nvmlComputeInstanceDestroy", 1),
        ("nvmlGpuInstanceDestroy", 2),
        ("nvmlDeviceCreateGpuInstanceWithPlacement", 1),
        ("nvmlGpuInstanceCreateComputeInstance", 2),
    ] {
        let fault =
            format!("[fault]\nexit_at = [{{ symbol = \"{symbol}\", call = {call}, after = true, caller = true }}]\n");
        let machine = StandIn::new(&halves("", &fault));
        let said = Run::start(&machine, "run", &clients(), &[FLAG]).end();
        assert_eq!(said.code, None, "killed in {symbol}: {said:#?}");
        restores(&machine, &[]);
    }
    // With a daemon that does not answer yet, with a server that is not up, and with a client that waits.
    for step in ["deaf = true", "server_hang = true", "hang_from = 1"] {
        let machine = StandIn::new(&halves("", &format!("[mps]\norphan_server = true\n{step}\n")));
        let mut run = Run::start(&machine, "run", &clients(), &[FLAG]);
        assert!(run.until(|_| !directories(&machine).is_empty()), "{step}");
        if step.starts_with("server") {
            assert!(run.until(|_| daemons(&machine).len() > 1), "{step}");
        } else if step.starts_with("hang") {
            assert!(run.until(|run| run.tenants().len() == 3), "{step}");
        }
        run.kill();
        restores(&machine, &["of a run that was killed"]);
    }
    // At work, with servers that outlive their daemons.
    let machine = StandIn::new(&halves("", "[mps]\norphan_server = true\n"));
    let mut run = Run::start(&machine, "run", &clients(), &[FLAG]);
    run.until_committed(1);
    run.kill();
    let deadline = Instant::now() + Duration::from_secs(10);
    while daemons(&machine).iter().any(|(_, name)| name.ends_with("control")) {
        assert!(Instant::now() < deadline, "the control daemons live on: {:?}", daemons(&machine));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(daemons(&machine).len(), 2, "servers without their daemons");
    restores(&machine, &["and killed nvidia-cuda-mps"]);
}

/// An H100 with compute instances in one half, of which the first test step leaves two: a gap before them, one of them of
/// the other profile with one slice.
fn parts(gpu: &str) -> String {
    format!(
        "[[gpu]]\nmodel = \"h100-sxm\"\nuuid = \"{GPU}\"\n{gpu}\n\
         mig = [\"1c.3g.40gb\", \"1c.3g.40gb\", \"1c.3g.40gb\", \"3g.40gb\"]\n"
    )
}

/// (slices, profile, first slice) of a compute instance.
type Inside = (u64, u64, u64);

/// The compute instances of each GPU instance, by its place, in the stand-in's state.
fn places(machine: &StandIn) -> Vec<(u64, Vec<Inside>)> {
    let made: Value = serde_json::from_str(&std::fs::read_to_string(machine.path().join("layout.0")).unwrap()).unwrap();
    let n = |v: &Value, key: &str| v[key].as_u64().unwrap();
    let one = |i: &Value| {
        let compute = i["compute"].as_array().unwrap().iter();
        let mut compute: Vec<_> = compute.map(|c| (n(c, "slices"), n(c, "profile"), n(c, "start"))).collect();
        compute.sort_by_key(|c| c.2);
        (n(i, "start"), compute)
    };
    let mut all: Vec<_> = made["instances"].as_array().unwrap().iter().map(one).collect();
    all.sort();
    all
}

/// What the scenario asks for instead.
fn other() -> String {
    scenario(1, 1, "10ms", &[])
        + "[[arrangement]]\nname = \"other\"\nsharing = \"mig\"\nlayout = [\"4g.40gb\", \"3g.40gb\"]\nvictim_at = [\"0\"]\n"
}

#[test]
fn compute_instances_are_put_back_to_their_profiles_and_places() {
    let _alone = alone();
    let machine = StandIn::new(&parts(""));
    said_in_role(&machine, "gap");
    let before = places(&machine);
    assert!(before.iter().any(|(_, inside)| *inside == [(1, 7, 1), (1, 0, 2)]), "{before:?}");

    Run::start(&machine, "run", &other(), &[FLAG]).end().ended(0, &[]);
    assert_eq!((places(&machine), saved(&machine).len()), (before.clone(), 0));

    let mut run = Run::start(&machine, "killed", &other(), &[FLAG]);
    run.until_committed(1);
    run.kill();
    assert_no_tenants(&machine);
    assert_ne!(places(&machine), before);
    let said = say(&machine, &["restore"]).ended(0, &["put back as it was before", "in 1c@1 + 1c@2"]);
    assert!(!said.words().contains("placed its compute instances itself"), "{said:#?}");
    assert_eq!((places(&machine), saved(&machine).len()), (before, 0));
}

#[test]
fn what_the_driver_places_elsewhere_is_listed() {
    let _alone = alone();
    let machine = StandIn::new(&parts(""));
    said_in_role(&machine, "gap");
    machine.configure(&parts("compute_places_ignored = true"));
    let run = Run::start(&machine, "run", &other(), &[FLAG]);
    run.end().ended(0, &["put back under another name", "at compute slice 0 of it where it was at 2"]);
    assert!(places(&machine).iter().any(|(_, inside)| *inside == [(1, 7, 0), (1, 0, 1)]), "{:?}", places(&machine));

    // As restore does.
    let machine = StandIn::new(&parts(""));
    said_in_role(&machine, "gap");
    let mut run = Run::start(&machine, "killed", &other(), &[FLAG]);
    run.until_committed(1);
    run.kill();
    assert_no_tenants(&machine);
    machine.configure(&parts("compute_places_ignored = true"));
    say(&machine, &["restore"])
        .ended(0, &["in 1c@1 + 1c@2 is now", "in 1c@0 + 1c@1", "placed its compute instances itself"]);
    assert_eq!(saved(&machine).len(), 0);
    // A file of another version is refused, whatever is in it.
    std::fs::write(
        machine.path().join(format!("mig-before-{GPU}.json")),
        "{\"schema\": 3, \"created_by\": \"crosstalk 9\"}",
    )
    .unwrap();
    let refused = ["it is of version 3", "crosstalk 9 wrote it"];
    say(&machine, &["restore"]).ended(3, &refused);
    let text = other();
    std::fs::write(machine.path().join("s.toml"), text).unwrap();
    let run = crosstalk(&machine, &["run", "--quiet", "s.toml", "--out", "refused"]).output().unwrap();
    crate::support::run::Said::from(run).ended(3, &refused);
}
