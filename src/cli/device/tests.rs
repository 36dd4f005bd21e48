//! Which device is taken on machines described in folders, with drivers described by what they say.

use super::*;
use crate::doctor::fixture;

type Files = &'static [(&'static str, &'static str)];
type Variables = &'static [(&'static str, &'static str)];

fn host(files: Files, variables: Variables) -> (tempfile::TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    let host = Host::described(root.path(), variable);
    (root, host)
}

fn refusal(host: &Host) -> String {
    match select(None, None, None, host) {
        Err(CliError::Environment(text)) => text,
        Err(other) => panic!("not exit 3: {other}"),
        Ok(taken) => panic!("took {}", taken.line),
    }
}

#[test]
fn a_bare_machine_simulates_and_says_why() {
    let (_root, host) = host(&[("sys/bus/pci/devices/0000:00:1f.0/vendor", "0x8086\n")], &[]);
    let taken = select(None, None, None, &host).unwrap();
    assert_eq!(taken.line, "SIMULATED NVIDIA H100 80GB HBM3 (no trace of NVIDIA hardware on this machine)");
}

#[test]
fn any_trace_of_hardware_is_never_simulated_by_itself() {
    let traces: [(Files, Variables, &str); 4] = [
        (&[("sys/bus/pci/devices/0000:41:00.0/vendor", "0x10de\n")], &[], "0000:41:00.0"),
        (&[("dev/nvidiactl", "")], &[], "/dev/nvidiactl"),
        (&[], &[("NVIDIA_VISIBLE_DEVICES", "all")], "NVIDIA_VISIBLE_DEVICES"),
        (&[], &[("CUDA_VISIBLE_DEVICES", "")], "CUDA_VISIBLE_DEVICES"),
    ];
    for (files, variables, named) in traces {
        let (_root, host) = host(files, variables);
        let text = refusal(&host);
        assert!(text.contains(named) && text.contains("--device sim"), "{text}");
        assert!(select(Some("sim"), None, None, &host).is_ok(), "asked for, it is taken");
    }
}

#[test]
fn a_pipeline_never_simulates_by_itself() {
    let (_root, host) = host(&[], &[("CI", "true")]);
    assert!(refusal(&host).contains("CI is set"));
    assert!(select(None, Some("sim:h100-sxm"), None, &host).is_ok(), "a scenario that pins it asks for it");
}

#[test]
fn wrong_devices_are_named() {
    let (_root, host) = host(&[], &[]);
    let usage = |flag: &str| match select(Some(flag), None, None, &host) {
        Err(CliError::Usage(text)) => text,
        other => panic!("{:?}", other.err()),
    };
    assert!(usage("sim:h100-sx").contains("did you mean h100-sxm?"));
    assert!(usage("gpu0").contains("none of auto"));
    let elsewhere = select(Some("sim:a30"), None, Some("H100*"), &host).err().unwrap();
    assert_eq!(elsewhere.exit(), super::super::Exit::Environment);
    assert!(select(Some("sim"), None, Some("a100*80gb"), &host).unwrap().line.contains("A100"));
    assert!(select(Some("cuda:0"), None, None, &host).is_err());
}

fn refused(request: Option<&str>, host: &Host) -> CliError {
    select(request, None, None, host).err().unwrap_or_else(|| panic!("{request:?} was taken"))
}

#[test]
fn a_driver_that_answers_is_taken_and_never_simulated() {
    let (_root, host) = host(&[], &[]);
    let host = host.with_driver(fixture::two());
    for request in [None, Some("cuda"), Some("auto")] {
        let taken = select(request, None, None, &host).unwrap();
        assert!(taken.line.contains(fixture::FIRST) && !taken.line.contains("SIMULATED"), "{}", taken.line);
        assert_ne!(taken.provenance(), Provenance::Simulated);
    }
    assert!(select(Some("sim"), None, None, &host).is_ok(), "asked for, it is simulated");
}

#[test]
fn a_broken_driver_is_exit_3_with_its_cure_even_without_a_trace() {
    let (_root, host) = host(&[], &[]);
    let mut report = fixture::two();
    let what = "cuInit: CUDA error 803 (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)".to_owned();
    report.cuda = Err(probe::ProbeFailure { what, kind: probe::FailureKind::Cuda(803) });
    let host = host.with_driver(report);
    for request in [None, Some("cuda:0"), Some("GPU-1"), Some("all")] {
        let error = refused(request, &host);
        assert_eq!(error.exit(), super::super::Exit::Environment);
        assert!(error.to_string().contains("803") && error.to_string().contains("reload the modules"), "{error}");
    }
}

fn chosen(report: DriverReport, request: &str, wanted: Option<&str>) -> Result<(usize, Option<usize>), String> {
    let (_root, host) = host(&[], &[]);
    let Detected::Driver(driver) = detect_in(&host, report) else { panic!("no driver") };
    choose(&driver, request, wanted).map_err(|e| e.to_string())
}

#[test]
fn all_is_every_gpu_that_is_seen_and_wanted() {
    let of = |report: DriverReport, wanted| {
        let (_root, host) = host(&[], &[]);
        several(wanted, &host.with_driver(report)).map_err(|e| e.to_string())
    };
    let both = [fixture::FIRST, fixture::SECOND].map(|uuid| format!("GPU-{uuid}"));
    assert_eq!(of(fixture::two(), None), Ok(both.to_vec()));
    assert_eq!(of(fixture::two(), Some("*")), Ok(both.to_vec()));
    assert!(of(fixture::two(), Some("T4")).unwrap_err().contains(fixture::SECOND), "what there is");
    let mut hidden = fixture::two();
    if let Ok(cuda) = &mut hidden.cuda {
        cuda.devices.truncate(1);
    }
    assert_eq!(of(hidden, None), Ok(Vec::new()), "one that CUDA does not see is not taken");
    assert_eq!(of(fixture::mig(), None), Ok(Vec::new()), "instances of one GPU are one GPU");
}

#[test]
fn gpus_are_named_by_index_and_by_uuid() {
    let of = |request: &str| chosen(fixture::two(), request, None);
    assert_eq!(of("cuda:1"), Ok((1, None)));
    assert_eq!(of(&format!("GPU-{}", fixture::SECOND)), Ok((1, None)));
    assert_eq!(of(&format!("gpu-{}", fixture::SECOND)), Ok((1, None)));
    assert!(of("cuda:2").unwrap_err().contains("2 device(s)"));
    assert!(of("cuda:x").unwrap_err().contains("no index"));
    assert!(of("GPU-0").unwrap_err().contains(fixture::FIRST), "the choice is listed");
    assert!(of("all").unwrap_err().contains("only a new run takes several GPUs"));
    assert_eq!(chosen(fixture::driver(vec![fixture::gpu(fixture::FIRST)]), "all", None), Ok((0, None)));
}

#[test]
fn the_index_is_cudas_and_not_nvmls() {
    let mut report = fixture::two();
    report.cuda.as_mut().unwrap().devices.reverse();
    assert_eq!(chosen(report.clone(), "cuda:0", None), Ok((1, None)));
    report.cuda.as_mut().unwrap().devices.truncate(1);
    assert_eq!(chosen(report, "auto", None), Ok((1, None)), "what CUDA_VISIBLE_DEVICES hides is not taken");
}

#[test]
fn mig_devices_are_named_in_both_forms_and_ordinals_are_refused() {
    let of = |request: &str| chosen(fixture::mig(), request, None);
    assert_eq!(of(&format!("MIG-{}", fixture::DEVICES[1])), Ok((0, Some(1))));
    assert_eq!(of(&format!("MIG-GPU-{}/2/0", fixture::FIRST)), Ok((0, Some(1))));
    assert!(of(&format!("MIG-GPU-{}/3/0", fixture::FIRST)).unwrap_err().contains(fixture::DEVICES[0]));
    let ambiguous = of("cuda:0").unwrap_err();
    assert!(ambiguous.contains("ambiguous") && ambiguous.contains(fixture::DEVICES[1]), "{ambiguous}");
    assert_eq!(of("auto"), Ok((0, None)), "the card, all of it");
}

#[test]
fn the_gpu_that_the_scenario_asks_for_is_taken_where_there_is_one() {
    let mut report = fixture::two();
    let second = &mut report.nvml.as_mut().unwrap().inventory.gpus[1];
    (second.name, second.model) = ("NVIDIA A100-SXM4-80GB".to_owned(), Some("a100-80gb".to_owned()));
    assert_eq!(chosen(report.clone(), "auto", Some("a100*")), Ok((1, None)));
    assert_eq!(chosen(report.clone(), "auto", Some("a100-80gb")), Ok((1, None)));
    assert!(chosen(report, "auto", Some("B200")).unwrap_err().contains("the scenario asks for gpu = \"B200\""));
}

#[test]
fn half_a_stand_in_is_never_measured() {
    let (_root, host) = host(&[], &[]);
    let mut report = fixture::two();
    report.cuda.as_mut().unwrap().stand_in = true;
    let Detected::Driver(driver) = detect_in(&host, report) else { panic!("no driver") };
    assert_eq!(driver.inventory.provenance, Provenance::StandIn);
}

#[test]
fn a_contradiction_between_what_was_given_and_what_is_seen_is_exit_3_in_these_words() {
    let (_root, host) = host(&[], &[("NVIDIA_VISIBLE_DEVICES", "GPU-11111111-1111-1111-1111-111111111111")]);
    let host = host.with_driver(fixture::two());
    for request in [None, Some("cuda"), Some("cuda:0"), Some("GPU-11111111-1111-1111-1111-111111111111")] {
        let error = refused(request, &host);
        assert_eq!(error.exit(), super::super::Exit::Environment);
        assert!(error.to_string().contains("was not asked for (NVIDIA_VISIBLE_DEVICES"), "{error}");
    }
    assert!(select(Some("sim"), None, None, &host).is_ok(), "the simulator is nobody's device");
}

#[test]
fn a_gpu_that_cuda_visible_devices_leaves_out_is_not_taken_by_its_uuid() {
    let (_root, host) = host(&[], &[("CUDA_VISIBLE_DEVICES", "1")]);
    let mut report = fixture::two();
    report.cuda.as_mut().unwrap().devices.remove(0);
    let host = host.with_driver(report);
    let error = refused(Some(&format!("GPU-{}", fixture::FIRST)), &host);
    assert_eq!(error.exit(), super::super::Exit::Environment);
    assert!(error.to_string().contains("not among the devices that this process was given"), "{error}");
    assert!(select(Some(&format!("GPU-{}", fixture::SECOND)), None, None, &host).is_ok());
}

#[test]
fn a_virtual_gpu_is_named_where_the_device_is() {
    let (_root, host) = host(&[], &[]);
    let mut report = fixture::two();
    report.nvml.as_mut().unwrap().inventory.gpus[0].virtualization = Some(gpu::Virtualization::Passthrough);
    let taken = select(None, None, None, &host.with_driver(report)).unwrap();
    assert!(taken.line.contains("passed through to a virtual machine"), "{}", taken.line);
}
