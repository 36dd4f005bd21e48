//! What a container or a scheduler gave, against what the driver shows; virtual GPUs.

use crate::support::alone;
use crate::support::run::{Run, Said, assert_no_tenants, crosstalk, document, of_kind, scenario};
use crate::support::stand_in::StandIn;

const FIRST: &str = "GPU-11111111-2222-8333-8444-555555555555";
const SECOND: &str = "GPU-61111111-2222-8333-8444-555555555555";
const DEVICES: [&str; 2] = ["MIG-41b9eab5-8d48-5c52-9f07-82bc59af3901", "MIG-51b9eab5-8d48-5c52-9f07-82bc59af3902"];

fn card(uuid: &str) -> String {
    format!("[[gpu]]\nmodel = \"a30\"\nuuid = \"{uuid}\"\n")
}

fn two() -> StandIn {
    StandIn::new(&[card(FIRST), card(SECOND)].concat())
}

fn mig() -> StandIn {
    StandIn::new(&format!("{}mig = [\"2g.12gb\", \"2g.12gb\"]\nmig_uuids = {DEVICES:?}\n", card(FIRST)))
}

fn said(machine: &StandIn, args: &[&str], env: &[(&str, &str)]) -> Said {
    crosstalk(machine, args).envs(env.iter().copied()).output().expect("crosstalk").into()
}

/// Doctor, init, check and run all end with exit 3 and these words; nothing is run.
#[track_caller]
fn refused(machine: &StandIn, env: &[(&str, &str)], words: &[&str]) {
    said(machine, &["doctor"], env).ended(3, words);
    std::fs::write(machine.path().join("s.toml"), scenario(1, 1, "10ms", &["time-slicing"])).unwrap();
    for args in [&["init"][..], &["check", "s.toml"], &["run", "s.toml"], &["run", "s.toml", "--device", FIRST]] {
        said(machine, args, env).ended(3, words);
    }
    assert!(!machine.path().join("crosstalk-runs").exists(), "nothing was run");
}

#[test]
fn a_process_given_one_of_two_gpus_measures_on_that_one() {
    let _alone = alone();
    let machine = two();
    let env = [("CUDA_VISIBLE_DEVICES", SECOND)];
    said(&machine, &["doctor", "--device", SECOND], &env).ended(0, &["CUDA_VISIBLE_DEVICES", SECOND]);
    let run = Run::start_with(&machine, "given", &scenario(1, 1, "10ms", &["time-slicing"]), &env);
    let dir = run.dir.clone();
    run.end().ended(0, &[]);
    let device = document(&dir, "manifest.json")["device"].to_string();
    assert!(device.contains(SECOND), "{device}");
    assert_eq!(of_kind(&dir, "committed").len(), 2);
    // What was not given is not taken, although the driver lists it.
    std::fs::write(machine.path().join("s.toml"), scenario(1, 1, "10ms", &["time-slicing"])).unwrap();
    let words = [FIRST, "not among the devices that this process was given"];
    said(&machine, &["check", "s.toml", "--device", FIRST], &env).ended(3, &words);
    assert_no_tenants(&machine);
}

#[test]
fn a_container_that_sees_what_it_asked_for_says_so() {
    let _alone = alone();
    let machine = StandIn::new(&card(FIRST));
    for value in [FIRST, "3", "all", "void"] {
        let env = [("NVIDIA_VISIBLE_DEVICES", value)];
        said(&machine, &["doctor"], &env)
            .ended(0, &[&format!("NVIDIA_VISIBLE_DEVICES={value:?}"), "NVML lists", "CUDA sees"]);
    }
    let both = DEVICES.join(",");
    let env = [("NVIDIA_VISIBLE_DEVICES", both.as_str())];
    said(&mig(), &["doctor"], &env).ended(0, &["2 MIG devices were given and CUDA sees one"]);
}

#[test]
fn a_device_that_was_asked_for_and_is_not_there_is_exit_3() {
    let _alone = alone();
    let machine = StandIn::new(&card(FIRST));
    refused(&machine, &[("NVIDIA_VISIBLE_DEVICES", "0,1")], &["2 GPU(s) asked for", "1 visible", FIRST]);
    let other = SECOND.to_lowercase();
    refused(&machine, &[("NVIDIA_VISIBLE_DEVICES", SECOND)], &[&other, "was asked for", "not visible"]);
    refused(&machine, &[("CUDA_VISIBLE_DEVICES", "0,7")], &["\"7\" names nothing that is visible here", FIRST]);
}

#[test]
fn a_device_that_is_there_and_was_not_asked_for_is_exit_3() {
    let _alone = alone();
    refused(&two(), &[("NVIDIA_VISIBLE_DEVICES", FIRST)], &[SECOND, "is visible and was not asked for"]);
    refused(&two(), &[("NVIDIA_VISIBLE_DEVICES", "none")], &["no GPU was asked for", FIRST, SECOND]);
    refused(&mig(), &[("NVIDIA_VISIBLE_DEVICES", DEVICES[0])], &[DEVICES[1], FIRST, "was not asked for"]);
}

#[test]
fn ordinals_under_mig_are_exit_3_with_the_uuids_to_use() {
    let _alone = alone();
    let words = ["names ordinals, and MIG is on", DEVICES[0], DEVICES[1]];
    refused(&mig(), &[("CUDA_VISIBLE_DEVICES", "0,1")], &words);
}

#[test]
fn virtual_gpus_are_recognised_and_named() {
    let _alone = alone();
    for (keys, words) in [
        ("virtualization = \"passthrough\"", "passed through to a virtual machine"),
        ("virtualization = \"vgpu\"\nname = \"NVIDIA A40-8Q\"", "a vGPU in a virtual machine"),
        ("virtualization = \"vgpu\"\nname = \"GRID A100-4-20C\"", "a MIG-backed vGPU in a virtual machine"),
        ("virtualization = \"host-vgpu\"", "the card of a vGPU host"),
    ] {
        let machine = StandIn::new(&format!("{}{keys}\n", card(FIRST)));
        said(&machine, &["doctor"], &[]).ended(0, &[words, "recognised, not judged"]);
        said(&machine, &["init"], &[]).ended(0, &[words]);
    }
    let bare = said(&StandIn::new(&card(FIRST)), &["doctor"], &[]).ended(0, &[]);
    assert!(!bare.words().contains("not judged"), "{}", bare.words());
}
