//! What is read between arms and at the ends of their windows: health, counters, a DCGM exporter; and the compute cache.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crosstalk::backend::GpuActivity;
use crosstalk::nvml::{GpmSamples, Nvml};
use serde_json::Value;

use crate::support::alone;
use crate::support::run::{A30, Run, assert_no_tenants, crosstalk, of_kind, path, say, scenario};
use crate::support::stand_in::StandIn;

const GPU: &str = "GPU-11111111-2222-8333-8444-555555555555";

/// Changes the health of the machine's GPUs at once, as a whole.
fn sicken(machine: &StandIn, toml: &str) {
    let new = machine.path().join("health.new");
    std::fs::write(&new, toml).unwrap();
    std::fs::rename(&new, machine.path().join("health.toml")).unwrap();
}

/// A DCGM exporter that says `metrics` to whoever asks, until the test ends.
fn exporter(metrics: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{metrics}").as_bytes());
        }
    });
    at
}

/// Summaries of the committed arms of a run, each with whether it is noisy.
fn summaries(run: &std::path::Path) -> Vec<(bool, Value)> {
    let arms = of_kind(run, "committed").into_iter();
    arms.map(|arm| (!arm["arm"]["neighbour"].is_null(), arm["summary"].clone())).collect()
}

#[test]
fn arms_hold_what_the_gpu_and_its_monitors_said() {
    let _alone = alone();
    let gpm = "gpm = true\ngpm_metrics = [{ metric = 10, value = 37.5 }]\n";
    let machine = StandIn::new(&format!("{A30}uuid = \"{GPU}\"\n{gpm}"));
    let at = exporter(format!(
        "DCGM_FI_PROF_DRAM_ACTIVE{{gpu=\"0\",UUID=\"{GPU}\",pod=\"}} \\\"evil\\\"\u{1b}[2J\"}} 0.25\n"
    ));
    let at = at.to_string();
    let environment = [("CROSSTALK_DCGM_EXPORTER", at.as_str())];
    let doctor = crosstalk(&machine, &["doctor"]).envs(environment).output().unwrap();
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(said.contains(&format!("a DCGM exporter answers at {at}: it tells of 1 of 1 GPU(s)")), "{said}");

    let mut run = Run::start_with(&machine, "run", &scenario(2, 2, "10ms", &["time-slicing"]), &environment);
    // Replays go on while it measures: whichever arm it is, it sees some.
    let mut replays = 0;
    let dir = run.dir.clone();
    run.until(|run| {
        replays += 1;
        sicken(&machine, &format!("pcie_replays = {replays}\n"));
        std::thread::sleep(Duration::from_millis(20));
        of_kind(&run.dir, "committed").len() >= 4
    });
    let said = run.end().ended(0, &["the GPU's health became worse", "PCIe packet(s) sent again"]);
    assert!(!said.out.contains('\u{1b}'), "{}", said.out);

    let arms = summaries(&dir);
    assert_eq!(arms.len(), 4);
    for (noisy, summary) in &arms {
        let (before, after) = (&summary["health_before"]["pcie"]["replays"], &summary["health"]["pcie"]["replays"]);
        assert!(before.as_u64().unwrap() < after.as_u64().unwrap(), "{summary:#}");
        assert_eq!(
            (&summary["health"]["pcie"]["width"], &summary["health"]["ecc"]["uncorrected"]),
            (&16.into(), &0.into())
        );
        let activity = &summary["activity"][0];
        assert_eq!(activity["dram"], 0.375);
        // Bursts of 10 ms one after another, against launches of microseconds now and then.
        let active = activity["active"].as_f64().unwrap();
        assert!(if *noisy { active > 0.6 } else { active < 0.4 }, "noisy {noisy}: {activity}");
        let dcgm = &summary["dcgm"];
        let expected = serde_json::json!({ "name": "DCGM_FI_PROF_DRAM_ACTIVE", "value": 0.25 });
        assert_eq!(dcgm[0]["values"], serde_json::json!([expected]), "{dcgm}");
    }
    assert!(!std::fs::read_to_string(dir.join("events.jsonl")).unwrap().contains("evil"));
    say(&machine, &["verify", path(&dir)]).ended(0, &[]);
}

#[test]
fn uncorrected_errors_cost_the_arm_in_which_they_happen() {
    let _alone = alone();
    let machine = StandIn::new(A30);
    let mut run = Run::start(&machine, "run", &scenario(2, 2, "10ms", &["time-slicing"]), &[]);
    run.until_committed(1);
    let mut errors = 0;
    let lost = run.until(|run| {
        errors += 1;
        sicken(&machine, &format!("ecc_uncorrected = {errors}\n"));
        std::thread::sleep(Duration::from_millis(20));
        !of_kind(&run.dir, "lost").is_empty()
    });
    assert!(lost, "an arm lasts longer than the time between two errors");
    let dir = run.dir.clone();
    run.end().ended(0, &["an arm was lost: the GPU's health became worse during it", "uncorrected memory error"]);
    let lost = of_kind(&dir, "lost");
    assert_eq!(lost.len(), 1, "{lost:#?}");
    let hit = &lost[0]["arm"]["block"];
    let whole = of_kind(&dir, "committed").iter().filter(|c| c["arm"]["block"] != *hit).count();
    assert_eq!(whole, 2, "the other block is whole");
    assert_no_tenants(&machine);
}

#[test]
fn tenants_keep_compiled_kernels_where_they_can() {
    let _alone = alone();
    let machine = StandIn::new(A30);
    let folder = path(machine.path()).to_owned();
    let environment = [("HOME", "/nonexistent"), ("TMPDIR", folder.as_str())];
    let mut run = Run::start_with(&machine, "run", &scenario(1, 1, "10ms", &["time-slicing"]), &environment);
    assert!(run.until(|run| run.tenants().len() == 2));
    let caches = run.tenants().into_iter().filter_map(|pid| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        let said = String::from_utf8(environ).unwrap();
        said.split('\0').find_map(|variable| variable.strip_prefix("CUDA_CACHE_PATH=").map(str::to_owned))
    });
    let caches: Vec<String> = caches.collect();
    assert_eq!(caches.len(), 2, "{caches:?}");
    for cache in &caches {
        assert!(cache.starts_with(&folder) && std::path::Path::new(cache).is_dir(), "{cache}");
    }
    drop(run);
    let doctor = crosstalk(&machine, &["doctor"]).envs(environment).output().unwrap();
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(said.contains(&format!("tenants keep compiled kernels in {}", caches[0])), "{said}");
    assert_no_tenants(&machine);
}

/// What this process, run in a role by a test, reads of its machine: the counters over a moment.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn process() {
    let Ok(uuid) = std::env::var("ROLE_GPM") else { return };
    let nvml = Arc::new(Nvml::load().unwrap());
    let counted = nvml.counted(&uuid).unwrap();
    let before = GpmSamples::take(&nvml, &uuid, &counted);
    std::thread::sleep(Duration::from_millis(5));
    let activity = GpmSamples::take(&nvml, &uuid, &counted).since(&before);
    println!("\nrole: {}", serde_json::to_string(&(nvml.has_gpm(&uuid), activity)).unwrap());
}

/// Whether the machine's first GPU has counters, and what they say.
fn counters(machine: &StandIn) -> (bool, Vec<GpuActivity>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "health::process", "--ignored", "--nocapture", "--test-threads=1"]);
    let output = machine.apply(&mut command).env("ROLE_GPM", GPU).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let line = said.lines().find_map(|line| line.strip_prefix("role: ")).unwrap_or_else(|| panic!("{said}"));
    serde_json::from_str(line).unwrap()
}

#[test]
fn each_instance_has_counters_of_its_own_from_hopper_on() {
    let _alone = alone();
    let nothing = GpuActivity { active: Some(0.0), sm: Some(0.0), ..GpuActivity::default() };
    let divided = "mig = [\"3g.40gb\", \"1c.3g.40gb\", \"2c.3g.40gb\"]\n\
        gpm_metrics = [{ metric = 10, value = 37.5, gpu_instance = 2 }, { metric = 21, value = 12.0, gpu_instance = 2 }]\n";
    let machine = StandIn::new(&format!("[[gpu]]\nmodel = \"h100-sxm\"\nuuid = \"{GPU}\"\n{divided}"));
    let first = GpuActivity { gpu_instance: Some(1), ..nothing.clone() };
    // Two compute instances of one GPU instance have its counters, once.
    let second =
        GpuActivity { gpu_instance: Some(2), dram: Some(0.375), pcie_to_gpu_mib_s: Some(12.0), ..nothing.clone() };
    assert_eq!(counters(&machine), (true, vec![first, second]));

    let whole = StandIn::new(&format!("[[gpu]]\nmodel = \"h100-sxm\"\nuuid = \"{GPU}\"\n"));
    assert_eq!(counters(&whole), (true, vec![nothing]));
    let ampere = StandIn::new(&format!("{A30}uuid = \"{GPU}\"\n"));
    assert_eq!(counters(&ampere), (false, Vec::new()));
    // A driver from before GPM.
    whole.without(crate::support::stand_in::Library::Nvml, &["nvmlGpmMetricsGet", "nvmlGpmSampleFree"]);
    assert_eq!(counters(&whole), (false, Vec::new()));
}
