//! Tables of environments, each on a machine that is described by what its driver says.

use super::asked::MOUNTS;
use super::*;
use crate::doctor::fixture::{self, DEVICES, FIRST, SECOND, gpu, instance};
use crate::doctor::probe::DriverReport;

/// What the environment says, in the order of the fields.
#[derive(Clone, Copy, Default)]
struct Environment {
    visible: Option<&'static str>,
    cuda: Option<&'static str>,
    monitor: bool,
    mounted: &'static [&'static str],
    /// Whether this is a container.
    container: bool,
}

fn given(env: Environment, report: DriverReport) -> Given {
    let root = tempfile::tempdir().unwrap();
    for name in env.mounted {
        let path = root.path().join(MOUNTS).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    if env.container {
        std::fs::write(root.path().join(".dockerenv"), "").unwrap();
    }
    let variable = |name: &str| match name {
        "NVIDIA_VISIBLE_DEVICES" => env.visible.map(str::to_owned),
        "CUDA_VISIBLE_DEVICES" => env.cuda.map(str::to_owned),
        "NVIDIA_MIG_MONITOR_DEVICES" => env.monitor.then(|| "all".to_owned()),
        _ => None,
    };
    compare(&Asked::read(root.path(), &variable), report.nvml.as_ref().unwrap(), report.cuda.as_ref().unwrap())
}

fn visible(value: &'static str) -> Environment {
    Environment { visible: Some(value), ..Environment::default() }
}

fn cuda(value: &'static str) -> Environment {
    Environment { cuda: Some(value), ..Environment::default() }
}

#[track_caller]
fn agrees(env: Environment, report: DriverReport) -> Given {
    let given = given(env, report);
    assert_eq!(given.contradictions, []);
    given
}

#[track_caller]
fn contradicts(env: Environment, report: DriverReport, words: &[&str]) {
    let given = given(env, report);
    assert_eq!(given.contradictions.len(), 1, "{given:#?}");
    for word in words {
        assert!(given.contradictions[0].what.contains(word), "{word:?} not in {given:#?}");
    }
    assert!(!given.contradictions[0].cure.is_empty());
}

fn one() -> DriverReport {
    fixture::driver(vec![gpu(FIRST)])
}

/// Two cards, an instance on each.
fn two_parents() -> DriverReport {
    let with = |uuid, n| Gpu { mig: Some(true), instances: vec![instance(n)], ..gpu(uuid) };
    fixture::driver(vec![with(FIRST, 0), with(SECOND, 1)])
}

/// The same machine where CUDA sees these devices only, by their numbers.
fn seeing(mut report: DriverReport, devices: &[usize]) -> DriverReport {
    let survey = report.cuda.as_mut().unwrap();
    survey.devices = devices.iter().map(|d| survey.devices[*d].clone()).collect();
    report
}

const GPU_A: &str = "GPU-11111111-1111-1111-1111-111111111111";
const GPU_B: &str = "GPU-22222222-2222-2222-2222-222222222222";
const MIG_A: &str = "MIG-aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";
const BOTH_MIG: &str = "MIG-aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa,MIG-bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb";

#[test]
fn entries_are_read_as_the_runtime_reads_them() {
    let of = |value: &'static str| Asked { visible: Some(value.to_owned()), ..Asked::default() }.wish();
    for (value, wish) in [
        ("all", Wish::All),
        ("nvidia.com/gpu=all", Wish::All),
        ("none", Wish::Nothing),
        ("void", Wish::Void),
        ("0,void", Wish::Void),
        ("0, 2", Wish::Devices(vec![Entry::Index(0), Entry::Index(2)])),
        ("0:1", Wish::Devices(vec![Entry::MigIndex(0, 1)])),
        ("nvidia.com/gpu=0:1", Wish::Devices(vec![Entry::MigIndex(0, 1)])),
        ("GPU-11111111", Wish::Devices(vec![Entry::Gpu("gpu-11111111".to_owned())])),
        // The DRA driver's names of devices.
        (
            "k8s.gpu.nvidia.com/device=gpu-0",
            Wish::Devices(vec![Entry::Other("k8s.gpu.nvidia.com/device=gpu-0".to_owned())]),
        ),
        ("MIG-1g.10gb", Wish::Devices(vec![Entry::Other("MIG-1g.10gb".to_owned())])),
    ] {
        assert_eq!(of(value), wish, "{value}");
    }
    assert_eq!(Asked::default().wish(), Wish::Unset);
    assert!(matches!(of(MIG_A), Wish::Devices(d) if matches!(d[0], Entry::Mig(MigUuid::Device(_)))));
}

#[test]
fn whole_gpus_as_asked_agree() {
    for env in [visible("all"), visible("0,1"), visible("2,7"), visible("GPU-22222222-2222,GPU-1111"), visible(",")] {
        agrees(env, fixture::two());
    }
    agrees(Environment::default(), fixture::two());
    // By the device plugin's volume mounts, UUIDs and, by CDI, qualified names.
    let named = visible("/var/run/nvidia-container-devices");
    agrees(Environment { mounted: &["GPU-11111111-1111-1111-1111-111111111111"], ..named }, one());
    agrees(Environment { mounted: &["cdi/nvidia.com/gpu/GPU-11111111-1111-1111-1111-111111111111"], ..named }, one());
    let nothing = agrees(named, one());
    assert!(nothing.notes[0].contains("unknown"), "{nothing:#?}");
}

#[test]
fn what_was_asked_for_and_is_not_there_is_named_with_what_is() {
    let words = ["gpu-22222222-2222-2222-2222-222222222222 was asked for", "not visible", GPU_A];
    contradicts(visible(GPU_B), one(), &words);
    contradicts(visible("0,1"), one(), &["2 GPU(s) asked for", "1 visible", GPU_A]);
    let mount = Environment { mounted: &["GPU-22222222-2222-2222-2222-222222222222"], ..Environment::default() };
    contradicts(mount, one(), &["/var/run/nvidia-container-devices: GPU-2222", "not visible"]);
    contradicts(visible("MIG-cccccccc-cccc-cccc-cccc-cccccccccccc"), fixture::mig(), &["MIG-cccccccc", MIG_A]);
    // The old form: an instance of a card that is not here.
    let old = visible("MIG-GPU-22222222-2222-2222-2222-222222222222/1/0");
    contradicts(old, fixture::mig(), &["MIG-GPU-22222222-2222-2222-2222-222222222222/1/0", "not visible"]);
    contradicts(visible("0:0,0:1,0:2"), fixture::mig(), &["3 MIG device(s)", "2 visible"]);
    // NVML lists it, CUDA does not.
    contradicts(visible("GPU-1111,GPU-2222"), seeing(fixture::two(), &[0]), &[GPU_B, "CUDA does not see it"]);
    // A GPU that fell off the bus was perhaps the one.
    let mut lost = one();
    lost.nvml.as_mut().unwrap().unreadable = vec!["GPU 1 of the driver: lost".to_owned()];
    agrees(visible("GPU-1111,GPU-2222"), lost.clone());
    agrees(visible("0,1"), lost);
}

#[test]
fn what_is_there_and_was_not_asked_for_is_named() {
    contradicts(visible(GPU_A), fixture::two(), &[GPU_B, "was not asked for", GPU_A]);
    contradicts(visible("3"), fixture::two(), &["1 GPU(s) asked for", "2 visible"]);
    contradicts(visible("none"), one(), &["no GPU was asked for", GPU_A]);
    contradicts(visible(MIG_A), fixture::mig(), &[DEVICES[1], GPU_A, "was not asked for"]);
    contradicts(visible("0:0"), fixture::mig(), &["1 MIG device(s)", "2 visible"]);
    contradicts(visible(GPU_A), two_parents(), &[DEVICES[1], GPU_B]);
    let inside = given(Environment { container: true, ..visible(GPU_A) }, fixture::two());
    assert!(inside.contradictions[0].cure.contains("privileged"), "{inside:#?}");
    let outside = given(visible(GPU_A), fixture::two());
    assert!(outside.contradictions[0].cure.contains("only a container runtime obeys it"), "{outside:#?}");
}

#[test]
fn devices_by_cdi_leave_no_list_and_contradict_nothing() {
    let given = agrees(visible("void"), fixture::mig());
    assert!(given.notes[0].contains("CDI"), "{given:#?}");
    assert!(given.summary.unwrap().contains("NVIDIA_VISIBLE_DEVICES=\"void\""));
}

#[test]
fn mig_devices_as_asked_agree_in_every_form() {
    for env in [visible(BOTH_MIG), visible("0:0,0:1"), visible("0"), visible(GPU_A)] {
        agrees(env, fixture::mig());
    }
    agrees(
        visible("MIG-GPU-11111111-1111-1111-1111-111111111111/1/0,MIG-bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb"),
        fixture::mig(),
    );
    // With the monitor's rights those of others are listed, and CUDA does not get them.
    let watched = agrees(Environment { monitor: true, ..visible(MIG_A) }, seeing(fixture::mig(), &[0]));
    assert!(watched.notes[0].contains(DEVICES[1]), "{watched:#?}");
    agrees(Environment { monitor: true, ..visible("0:1") }, fixture::mig());
    let wrong = Environment { monitor: true, ..visible(MIG_A) };
    contradicts(wrong, seeing(fixture::mig(), &[1]), &["CUDA sees", DEVICES[1], GPU_A]);
}

#[test]
fn of_two_mig_devices_cuda_shows_one_which_is_a_note() {
    let given = agrees(visible(BOTH_MIG), seeing(fixture::mig(), &[0]));
    assert!(given.notes[0].contains("before driver R570"), "{given:#?}");
    let mut newer = seeing(fixture::mig(), &[0]);
    newer.nvml.as_mut().unwrap().inventory.driver = Some("570.86.15".to_owned());
    assert!(agrees(visible("0:0,0:1"), newer.clone()).notes[0].contains("one compute instance"));
    assert!(agrees(cuda(BOTH_MIG), newer).notes[0].contains("2 MIG devices"));
}

#[test]
fn mig_devices_of_two_cards_are_pointed_out() {
    assert_eq!(agrees(visible(BOTH_MIG), seeing(two_parents(), &[0])).parents, Some(2));
    assert_eq!(agrees(visible("void"), two_parents()).parents, Some(2));
    assert_eq!(agrees(visible(BOTH_MIG), fixture::mig()).parents, None);
    assert_eq!(agrees(visible("all"), two_parents()).parents, None, "the whole node was asked for");
    assert_eq!(agrees(Environment::default(), two_parents()).parents, None);
}

#[test]
fn what_cuda_was_told_agrees() {
    for (value, seen) in [
        (GPU_B, &[1usize][..]),
        ("GPU-2222,GPU-1111", &[1, 0]),
        ("1,0", &[1, 0]),
        ("0,-1,7", &[0]),
        ("1", &[1]),
        (" ", &[0, 1]),
    ] {
        agrees(cuda(value), seeing(fixture::two(), seen));
    }
    agrees(cuda(MIG_A), seeing(fixture::mig(), &[0]));
    agrees(cuda(GPU_A), seeing(fixture::mig(), &[0]));
    // An index is not ambiguous where there is one device.
    let only = fixture::driver(vec![Gpu { mig: Some(true), instances: vec![instance(0)], ..gpu(FIRST) }]);
    agrees(cuda("0"), only);
    // Both variables: the runtime gave two, the process takes one of them.
    agrees(Environment { cuda: Some(GPU_B), ..visible("0,1") }, seeing(fixture::two(), &[1]));
}

#[test]
fn what_cuda_was_told_and_does_not_do_is_named() {
    contradicts(cuda("0,7,1"), seeing(fixture::two(), &[0]), &["\"7\" names nothing", "hides it and all"]);
    contradicts(cuda("GPU-3333"), one(), &["\"GPU-3333\" names nothing"]);
    contradicts(cuda("GPU-2222"), fixture::two(), &["names 1 device(s), and CUDA sees 2", GPU_A]);
    contradicts(cuda("GPU-1111,GPU-2222"), seeing(fixture::two(), &[1, 0]), &["in another order", GPU_B]);
    contradicts(cuda(MIG_A), seeing(fixture::mig(), &[1]), &["names MIG-aaaa", "CUDA sees MIG-bbbb", GPU_A]);
    // An instance of another card.
    contradicts(cuda(MIG_A), seeing(two_parents(), &[1]), &[GPU_A, "CUDA sees MIG-bbbb", GPU_B]);
    let mut mixed = two_parents();
    mixed.nvml.as_mut().unwrap().inventory.gpus[1] = gpu(SECOND);
    let beside = cuda("MIG-aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa,GPU-2222");
    contradicts(beside, seeing(mixed, &[0]), &[MIG_A, "beside whole GPUs"]);
}

#[test]
fn ordinals_under_mig_are_refused_with_the_uuids_to_use() {
    for value in ["0", "0,1", "MIG-aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa,1"] {
        let given = given(cuda(value), fixture::mig());
        let [contradiction] = given.contradictions.as_slice() else { panic!("{given:#?}") };
        assert!(contradiction.ordinals && contradiction.what.contains("names ordinals"), "{contradiction:?}");
        assert!(DEVICES.iter().all(|d| contradiction.cure.contains(d)), "{contradiction:?}");
    }
}

#[test]
fn what_the_variable_leaves_out_is_withheld() {
    let withheld = |value: &str, report: &DriverReport, gpu, instance| {
        let asked = Asked { cuda: Some(value.to_owned()), ..Asked::default() };
        let inventory = &report.nvml.as_ref().unwrap().inventory;
        withheld(&asked, inventory, report.cuda.as_ref().unwrap(), gpu, instance).map(|c| c.what)
    };
    let second = seeing(fixture::two(), &[1]);
    assert_eq!(withheld("1", &second, 1, None), None);
    assert!(withheld("1", &second, 0, None).unwrap().contains(GPU_A));
    let mig = seeing(fixture::mig(), &[0]);
    assert_eq!(withheld(MIG_A, &mig, 0, Some(0)), None);
    assert_eq!(withheld(MIG_A, &mig, 0, None), None);
    assert_eq!(withheld(BOTH_MIG, &mig, 0, Some(1)), None, "CUDA shows one of them at a time");
    assert!(withheld(MIG_A, &mig, 0, Some(1)).unwrap().contains(DEVICES[1]));
    assert_eq!(withheld(GPU_A, &mig, 0, Some(1)), None);
}

#[test]
fn the_summary_says_what_was_asked_for_and_what_is_seen() {
    assert_eq!(agrees(Environment::default(), one()).summary, None);
    let summary = agrees(Environment { container: true, ..visible(GPU_A) }, one()).summary.unwrap();
    for part in
        ["this is a container", "NVIDIA_VISIBLE_DEVICES=\"GPU-1111", "NVML lists GPU-1111", "CUDA sees GPU-1111"]
    {
        assert!(summary.contains(part), "{part}: {summary}");
    }
    let unasked = agrees(Environment { container: true, ..Environment::default() }, one()).summary.unwrap();
    assert!(unasked.contains("no variable names a device"), "{unasked}");
}
