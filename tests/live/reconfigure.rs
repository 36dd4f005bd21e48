//! A GPU in MIG mode that is divided for a run and put back, whatever happens in between.

use std::collections::BTreeSet;
use std::io::{BufRead as _, Write as _};
use std::process::{Command, Stdio};

use crosstalk::nvml::{Divide as _, Nvml};
use serde_json::Value;

use crate::support::alone;
use crate::support::driver::Driver;
use crate::support::run::{Run, Said, assert_no_tenants, crosstalk, of_kind, say, scenario, signal};
use crate::support::stand_in::StandIn;

pub(crate) const GPU: &str = "GPU-11111111-2222-8333-8444-555555555555";
const DEVICES: [&str; 2] = ["MIG-41b9eab5-8d48-5c52-9f07-82bc59af3901", "MIG-51b9eab5-8d48-5c52-9f07-82bc59af3902"];
/// What the scenario asks for on a machine that is divided in halves.
const ASKED: &str =
    "[[arrangement]]\nname = \"made\"\nsharing = \"mig\"\nlayout = [\"2g.12gb\", \"1g.6gb\", \"1g.6gb\"]\n";
pub(crate) const FLAG: &str = "--allow-reconfigure";

/// An A30 in two halves, with this said of the GPU besides.
pub(crate) fn halves(gpu: &str, rest: &str) -> String {
    format!(
        "[[gpu]]\nmodel = \"a30\"\nuuid = \"{GPU}\"\nmig = [\"2g.12gb\", \"2g.12gb\"]\nmig_uuids = {DEVICES:?}\n{gpu}\n{rest}"
    )
}

fn text() -> String {
    scenario(1, 1, "10ms", &[]) + ASKED
}

/// Profile, place and compute slices of each GPU instance, by the stand-in's own state; `None`: nobody has changed it.
pub(crate) fn layout(machine: &StandIn) -> Option<Vec<(String, u64, Vec<u64>)>> {
    let text = std::fs::read_to_string(machine.path().join("layout.0")).ok()?;
    let made: Value = serde_json::from_str(&text).unwrap();
    let slices = |c: &Value| c["slices"].as_u64().unwrap();
    let one = |i: &Value| {
        let compute = i["compute"].as_array().unwrap().iter().map(slices).collect();
        (i["profile"].as_str().unwrap().to_owned(), i["start"].as_u64().unwrap(), compute)
    };
    let mut all: Vec<_> = made["instances"].as_array().unwrap().iter().map(one).collect();
    all.sort();
    Some(all)
}

/// Asserts that the machine is in halves, whether it was ever otherwise or not.
#[track_caller]
pub(crate) fn assert_halves(machine: &StandIn) {
    let half = |start| ("2g.12gb".to_owned(), start, vec![2]);
    if let Some(layout) = layout(machine) {
        assert_eq!(layout, [half(0), half(2)]);
    }
    assert!(saved(machine).is_empty(), "nothing is left to put back");
}

/// Files that keep a layout.
pub(crate) fn saved(machine: &StandIn) -> Vec<String> {
    let names = std::fs::read_dir(machine.path()).unwrap().flatten();
    names.filter_map(|e| e.file_name().into_string().ok()).filter(|n| n.starts_with("mig-before-")).collect()
}

#[test]
fn a_layout_is_announced_made_for_the_run_and_put_back() {
    let _alone = alone();
    let machine = StandIn::new(&halves("", ""));
    std::fs::write(machine.path().join("s.toml"), text()).unwrap();
    let not_there = "the layout is 2g.12gb + 2g.12gb, the scenario asks for 2g.12gb + 1g.6gb + 1g.6gb";
    say(&machine, &["check", "s.toml"])
        .ended(0, &["SKIPPED", not_there, FLAG, "nothing: the machine is used as it is"]);
    let planned = [
        &*format!("made: on GPU {GPU}, destroys 2g.12gb at slice 0; creates 1g.6gb at slice 1 + 1g.6gb at slice 0"),
        "puts back the former at the end of each of its 2 sessions",
    ];
    say(&machine, &["check", "s.toml", FLAG]).ended(0, &planned);
    assert!(layout(&machine).is_none(), "check changes nothing");

    let run = Run::start(&machine, "run", &text(), &[FLAG]);
    let dir = run.dir.clone();
    let said = run.end().ended(0, &["put back under another name: 2g.12gb at slice 0: MIG-"]);
    assert_eq!(said.words().matches("put back under another name").count(), 1, "the other half was never touched");
    assert_no_tenants(&machine);
    assert_halves(&machine);
    assert_eq!(of_kind(&dir, "committed").len(), 4);
    for event in of_kind(&dir, "arranged") {
        let seats = event["evidence"]["seats"].as_array().unwrap();
        let uuids: BTreeSet<&str> = seats.iter().map(|s| s["device"]["uuid"].as_str().unwrap()).collect();
        assert_eq!(uuids.len(), 3, "{event:#?}");
        let proofs = event["evidence"]["proofs"].to_string();
        assert!(proofs.contains("1g.6gb at slice 0") && proofs.contains("28 SMs"), "{proofs}");
    }
    say(&machine, &["restore"]).ended(0, &["nothing to put back"]);
    // The same machine under new names: the same layout, and a run that can be repeated.
    Run::start(&machine, "again", &text(), &[FLAG]).end().ended(0, &[]);
    assert_halves(&machine);
}

#[test]
fn whatever_call_is_the_last_restore_puts_the_layout_back() {
    let _alone = alone();
    // What making this layout does, in its order.
    let calls = [
        ("nvmlComputeInstanceDestroy", 1),
        ("nvmlGpuInstanceDestroy", 1),
        ("nvmlDeviceCreateGpuInstanceWithPlacement", 1),
        ("nvmlGpuInstanceCreateComputeInstance", 1),
        ("nvmlDeviceCreateGpuInstanceWithPlacement", 2),
        ("nvmlGpuInstanceCreateComputeInstance", 2),
    ];
    let mut changed = 0;
    for (symbol, call) in calls {
        for after in [false, true] {
            let killed = format!("symbol = \"{symbol}\", call = {call}, after = {after}, caller = true");
            let fault = format!("[fault]\nexit_at = [{{ {killed} }}]\n");
            let machine = StandIn::new(&halves("", &fault));
            let said = Run::start(&machine, "run", &text(), &[FLAG]).end();
            let here = format!("{symbol} {call}, after: {after}");
            assert_eq!(said.code, None, "killed in {here}: {said:#?}");
            assert_eq!(saved(&machine).len(), 1, "written down before {here}");
            changed += usize::from(layout(&machine).is_some());
            machine.configure(&halves("", ""));
            Run::start(&machine, "next", &text(), &[]).end().ended(3, &["run `crosstalk restore` first"]);
            say(&machine, &["restore"]).ended(
                0,
                &[&format!("GPU {GPU}: put back as it was before"), "2g.12gb at slice 0 + 2g.12gb at slice 2"],
            );
            assert_halves(&machine);
        }
    }
    assert_eq!(changed, 11, "all but the first of them left something to put back");
}

#[test]
fn a_restore_that_is_killed_itself_goes_on() {
    let _alone = alone();
    let kill =
        |symbol: &str| format!("[fault]\nexit_at = [{{ symbol = \"{symbol}\", after = true, caller = true }}]\n");
    let machine = StandIn::new(&halves("", &kill("nvmlGpuInstanceCreateComputeInstance")));
    assert_eq!(Run::start(&machine, "run", &text(), &[FLAG]).end().code, None);
    for symbol in ["nvmlComputeInstanceDestroy", "nvmlGpuInstanceDestroy", "nvmlDeviceCreateGpuInstanceWithPlacement"] {
        machine.configure(&halves("", &kill(symbol)));
        assert_eq!(say(&machine, &["restore"]).code, None, "{symbol}");
        assert_eq!(saved(&machine).len(), 1);
    }
    machine.configure(&halves("", ""));
    say(&machine, &["restore"]).ended(0, &["put back as it was before", DEVICES[1], "is now MIG-"]);
    assert_halves(&machine);
}

/// Of the run's processes only the one that divides the GPU dies: the run says so, and what is left to do.
#[test]
fn a_driver_that_crashes_half_way_leaves_the_rest_to_restore() {
    let _alone = alone();
    let fault = "[fault]\nexit_at = [{ symbol = \"nvmlGpuInstanceDestroy\", after = true }]\n";
    let machine = StandIn::new(&halves("", fault));
    let words = ["the process that asks NVML was killed by signal 9", "(destroy)", "crosstalk restore"];
    Run::start(&machine, "run", &text(), &[FLAG]).end().ended(3, &words);
    assert_no_tenants(&machine);
    assert_eq!(saved(&machine).len(), 1);
    machine.configure(&halves("", ""));
    say(&machine, &["restore"]).ended(0, &["put back as it was before"]);
    assert_halves(&machine);
}

#[test]
fn a_run_that_is_stopped_puts_it_back_and_one_that_is_killed_leaves_it_to_restore() {
    let _alone = alone();
    let machine = StandIn::new(&halves("", ""));
    let mut run = Run::start(&machine, "stopped", &text(), &[FLAG]);
    run.until_committed(1);
    signal(run.pid(), "INT");
    run.end().ended(130, &["put back under another name"]);
    assert_no_tenants(&machine);
    assert_halves(&machine);

    let mut run = Run::start(&machine, "killed", &text(), &[FLAG]);
    run.until_committed(1);
    run.kill();
    assert_no_tenants(&machine);
    assert_eq!((saved(&machine).len(), layout(&machine).map(|l| l.len())), (1, Some(3)));
    say(&machine, &["restore"]).ended(0, &["put back as it was before"]);
    assert_halves(&machine);
    // What was measured goes on from where it was, under the instances' new names.
    let resumed = crosstalk(&machine, &["run", "--quiet", "--resume", "killed", FLAG]).output().unwrap();
    Said::from(resumed).ended(0, &[]);
    // A block that was not whole was begun anew.
    assert!(of_kind(&machine.path().join("killed"), "committed").len() >= 4);
    assert_halves(&machine);
}

/// What a run says that is not to divide the GPU, with these variables in its environment.
fn refused(gpu: &str, more: &[&str], variables: &[(&str, &str)]) -> Said {
    let machine = StandIn::new(&halves(gpu, ""));
    std::fs::write(machine.path().join("s.toml"), text()).unwrap();
    let args = ["run", "--quiet", "s.toml", "--out", "run", FLAG];
    let said: Said =
        crosstalk(&machine, &[&args, more].concat()).envs(variables.iter().copied()).output().unwrap().into();
    assert_halves(&machine);
    said
}

#[test]
fn who_stands_in_the_way_is_named_with_the_way_out() {
    let _alone = alone();
    let somebody = "processes = [{ pid = 4711, name = \"dcgm-exporter\", device = 0 }]";
    refused(somebody, &[], &[]).ended(3, &["in use by dcgm-exporter (pid 4711", "monitors neither"]);
    refused("mig_locked = true", &[], &[]).ended(3, &["does not have permission", "needs root"]);
    refused("mig_pending_off = true", &[], &[])
        .ended(3, &["a change of the MIG mode is pending", "will be off after the next reset", "-mig 1"]);
    refused("", &[], &[("SLURM_JOB_ID", "7")]).ended(3, &["owned by Slurm (gres.conf)", "scontrol update nodename"]);
    refused("processes_hidden = true", &["--gpu-is-mine", GPU], &[])
        .ended(3, &["nobody can tell who uses GPU", "not divided"]);
}

/// This test binary anew, in a role.
pub(crate) fn in_role(machine: &StandIn, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "reconfigure::process", "--ignored", "--nocapture", "--test-threads=1"]);
    machine.apply(&mut command).env("ROLE", role);
    command
}

/// What it said in a role.
pub(crate) fn said_in_role(machine: &StandIn, role: &str) -> Vec<String> {
    let said: Said = in_role(machine, role).stdin(Stdio::null()).output().unwrap().into();
    assert_eq!(said.code, Some(0), "{said:#?}");
    said.out.lines().filter_map(|line| Some(line.split_once("role: ")?.1.to_owned())).collect()
}

/// Not a test: what a process does that a test has started.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn process() {
    match std::env::var("ROLE").as_deref() {
        Ok("hold") => {
            let _driver = Driver::start();
            println!("role: held");
            std::io::stdout().flush().unwrap();
            std::io::stdin().lock().read_line(&mut String::new()).unwrap();
        }
        Ok("profiles") => {
            let nvml = Nvml::load().unwrap();
            let uuid = nvml.inventory().unwrap().gpus[0].uuid.clone();
            let gpu = nvml.divided(&uuid);
            for profile in gpu.profiles().unwrap() {
                let places = gpu.placements(profile.id).unwrap();
                println!("role: {} {} {places:?}", profile.name.unwrap(), profile.id);
            }
        }
        Ok("destroy") => {
            let nvml = Nvml::load().unwrap();
            let gpu = nvml.divided(GPU);
            let there = gpu.there().unwrap();
            println!("role: {:?}", gpu.destroy_compute(there[0].id, 0).map_err(|e| e.kind));
        }
        // Of three compute instances in a GPU instance one at slice 1 of the other profile with one slice, and one at slice 2.
        Ok("gap") => {
            let nvml = Nvml::load().unwrap();
            let gpu = nvml.divided(GPU);
            let there = gpu.there().unwrap();
            let instance = there.iter().find(|i| i.compute.len() == 3).unwrap();
            for compute in &instance.compute[..2] {
                gpu.destroy_compute(instance.id, compute.id).unwrap();
            }
            gpu.create_compute(instance.id, 1, Some(7), Some((1, 1))).unwrap();
        }
        Ok("in order") => {
            for ids in [[19, 19, 14, 9], [9, 19, 14, 19]] {
                let nvml = Nvml::load().unwrap();
                let uuid = nvml.inventory().unwrap().gpus[0].uuid.clone();
                let codes: Vec<u32> = ids.into_iter().map(create).collect();
                println!("role: {codes:?}");
                let gpu = nvml.divided(&uuid);
                for instance in gpu.there().unwrap() {
                    gpu.destroy(instance.id).unwrap();
                }
            }
        }
        _ => {}
    }
}

/// Creates a GPU instance of the first GPU where the driver likes.
fn create(profile: u32) -> u32 {
    type ByIndex = unsafe extern "C" fn(u32, *mut u64) -> u32;
    type Create = unsafe extern "C" fn(u64, u32, *mut u64) -> u32;
    // SAFETY: the types are those of nvml.h, where a handle is a pointer; the library is loaded and initialised already.
    unsafe {
        let library = libloading::Library::new("libnvidia-ml.so.1").unwrap();
        let by_index: libloading::Symbol<'_, ByIndex> = library.get(b"nvmlDeviceGetHandleByIndex_v2\0").unwrap();
        let create: libloading::Symbol<'_, Create> = library.get(b"nvmlDeviceCreateGpuInstance\0").unwrap();
        let (mut device, mut instance) = (0, 0);
        assert_eq!(by_index(0, &raw mut device), 0);
        create(device, profile, &raw mut instance)
    }
}

#[test]
fn a_profiles_id_is_the_devices_own() {
    let _alone = alone();
    for (model, profiles) in [
        (
            "a30",
            &["1g.6gb 14 [(0, 1), (1, 1), (2, 1), (3, 1)]", "2g.12gb 5 [(0, 2), (2, 2)]", "4g.24gb 0 [(0, 4)]"][..],
        ),
        (
            "a100-40gb",
            &[
                "1g.5gb 19 ",
                "1g.5gb+me 20 ",
                "1g.10gb 15 [(0, 2), (2, 2), (4, 2), (6, 2)]",
                "2g.10gb 14 ",
                "7g.40gb 0 ",
            ],
        ),
        (
            "rtx-pro-6000",
            &[
                "1g.24gb 14 [(0, 3), (3, 3), (6, 3), (9, 3)]",
                "1g.24gb+gfx 47 ",
                "1g.24gb-me 67 ",
                "2g.48gb+me.all 64 ",
                "4g.96gb 0 ",
            ],
        ),
    ] {
        let machine = StandIn::new(&format!("[[gpu]]\nmodel = \"{model}\"\nmig = []\n"));
        let said = said_in_role(&machine, "profiles");
        for profile in profiles {
            assert_eq!(
                said.iter().filter(|line| line.starts_with(profile)).count(),
                1,
                "{model}: {profile} in {said:#?}"
            );
        }
    }
}

#[test]
fn a_device_in_use_is_not_destroyed_and_order_matters() {
    let _alone = alone();
    let machine = StandIn::new(&halves("", ""));
    let mut holder = in_role(&machine, "hold")
        .env("CUDA_VISIBLE_DEVICES", DEVICES[1])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().contains("role: held")));
    // The driver lists the last half created first: (slice 0) is the second device.
    let first = said_in_role(&machine, "destroy");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(first, ["Err(InUse)"]);
    assert_eq!(said_in_role(&machine, "destroy"), ["Ok(())"]);

    let machine = StandIn::new("[[gpu]]\nmodel = \"h100-sxm\"\nmig = []\n");
    assert_eq!(said_in_role(&machine, "in order"), ["[0, 0, 0, 23]", "[0, 0, 0, 0]"]);
}
