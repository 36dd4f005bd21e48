//! A machine with MIG on.

use crate::support::alone;
use crate::support::run::{Run, assert_no_tenants, of_kind, say, scenario};
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
    std::fs::write(machine.path().join("s.toml"), scenario(1, 1, "10ms", &["time-slicing"])).unwrap();
    let check = |device: &str| say(&machine, &["check", "s.toml", "--device", device]);
    for device in DEVICES {
        let words = [&format!("{device} is a MIG instance of {GPU}"), "whole GPUs only"];
        check(device).ended(3, &words);
    }
    // The instance ids are the driver's: one of the first numbers is the second device's.
    let old: Vec<String> = (0..15).map(|id| check(&format!("MIG-{GPU}/{id}/0")).words()).collect();
    for device in DEVICES {
        assert_eq!(old.iter().filter(|w| w.contains(&format!("{device} is a MIG instance"))).count(), 1, "{old:#?}");
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
