//! Drivers that do not work: said in words, with the cure, exit 3, and never simulated instead.

use serde_json::Value;

use crate::support::alone;
use crate::support::run::{A30, Run, Said, assert_no_tenants, events, path, say, scenario};
use crate::support::stand_in::{Library, StandIn};

/// All that this machine is asked ends with exit 3, these words, and no run directory.
#[track_caller]
fn refused(machine: &StandIn, words: &[&str]) {
    let doctor = say(machine, &["doctor", "--format", "json"]).ended(3, words);
    let json: Value = serde_json::from_str(&doctor.out).unwrap();
    assert_eq!(json["trustworthy"], false);
    let problem = json["findings"].as_array().unwrap().iter().find(|f| f["severity"] == "problem").unwrap();
    assert!(problem["cure"].as_str().is_some_and(|cure| !cure.is_empty()), "{problem:#}");
    say(machine, &["doctor"]).ended(3, &["PROBLEM", "cure: "]);

    std::fs::write(machine.path().join("s.toml"), scenario(1, 1, "10ms", &["time-slicing"])).unwrap();
    for device in [&["--device", "auto"][..], &[]] {
        say(machine, &[&["init"], device].concat()).ended(3, words);
        say(machine, &[&["check", "s.toml"], device].concat()).ended(3, words);
        let said = say(machine, &[&["run", "s.toml"], device].concat()).ended(3, words);
        assert!(!said.words().contains("SIMULATED"), "{}", said.words());
    }
    assert!(!machine.path().join("crosstalk-runs").exists(), "nothing was run");
}

#[test]
fn a_driver_that_does_not_initialise_is_exit_3_with_its_cure() {
    let _alone = alone();
    for (fault, words) in [
        ("cuda_init = 803", &["CUDA error 803", "reload the modules"][..]),
        ("cuda_init = 804", &["CUDA error 804", "cuda-compat"]),
        ("cuda_init = 999", &["CUDA error 999"]),
        ("cuda_init = 100", &["CUDA error 100"]),
        ("results = [{ symbol = \"cuInit\", code = 9999 }]", &["CUDA error 9999", "does not name"]),
        ("nvml_init = 18", &["driver/library version mismatch", "reload the modules"]),
        ("nvml_init = 9", &["driver is not loaded", "modprobe nvidia"]),
        ("nvml_init = 4", &["permission"]),
    ] {
        refused(&StandIn::new(&format!("{A30}[fault]\n{fault}\n")), words);
    }
}

#[test]
fn half_a_driver_is_no_driver() {
    let _alone = alone();
    for (library, words) in [
        (Library::Cuda, ["libnvidia-ml is here and libcuda is not", "compute,utility"]),
        (Library::Nvml, ["libcuda is here and libnvidia-ml is not", "compute,utility"]),
    ] {
        let machine = StandIn::new(A30);
        machine.remove(library);
        refused(&machine, &words);
    }
}

#[test]
fn a_driver_without_a_symbol_that_the_survey_needs_is_refused_by_its_name() {
    let _alone = alone();
    for (library, symbol) in [(Library::Cuda, "cuDeviceGetUuid_v2"), (Library::Nvml, "nvmlInit_v2")] {
        let machine = StandIn::new(A30);
        machine.without(library, &[symbol]);
        refused(&machine, &[symbol]);
    }
}

/// A run that comes to its end without having measured an arm: the arrangement is skipped with these words, and the
/// machine is at fault.
#[track_caller]
fn skipped(machine: &StandIn, words: &[&str]) -> Said {
    let run = Run::start(machine, "run", &scenario(1, 1, "10ms", &["time-slicing"]), &[]);
    let dir = run.dir.clone();
    let said = run.end().ended(3, words).ended(3, &["nothing was measured"]);
    let kinds: Vec<String> =
        events(&dir).iter().map(|e| e.as_object().unwrap().keys().next().unwrap().clone()).collect();
    assert_eq!(kinds, ["skipped"], "{:#?}", events(&dir));
    assert_no_tenants(machine);
    say(machine, &["verify", path(&dir)]).ended(0, &["0 arms"]);
    said
}

#[test]
fn a_driver_without_a_symbol_that_tenants_need_skips_with_its_name() {
    let _alone = alone();
    for symbol in ["cuLaunchKernel", "cuCtxCreate_v2", "cuStreamEndCapture"] {
        let machine = StandIn::new(A30);
        machine.without(Library::Cuda, &[symbol]);
        skipped(&machine, &[symbol]);
    }
}

#[test]
fn a_result_code_that_nobody_knows_is_passed_on_as_a_number() {
    let _alone = alone();
    for symbol in ["cuLaunchKernel", "cuModuleLoadDataEx", "cuMemHostAlloc"] {
        let fault = format!("{A30}[fault]\nresults = [{{ symbol = \"{symbol}\", code = 9999 }}]\n");
        skipped(&StandIn::new(&fault), &["CUDA error 9999"]);
    }
}

#[test]
fn a_driver_too_old_for_the_kernels_says_which_is_needed() {
    let _alone = alone();
    skipped(&StandIn::new(&format!("ptx_newest = \"7.0\"\n{A30}")), &["CUDA error 222", "needs driver R520 or later"]);
    let old = StandIn::new(&format!("driver = \"470.57.02\"\nptx_newest = \"7.0\"\n{A30}"));
    refused(&old, &["driver 470.57.02 is older than R520", "branch 520 or later"]);
}
