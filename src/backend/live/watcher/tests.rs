//! Both sides of the lines, without NVML.

use std::io::{BufReader, pipe};

use super::*;
use crate::backend::{EccErrors, GpuActivity, GpuReading};
use crate::gpu::{find_model, simulated};
use crate::host::cores::allowed;
use crate::host::process::state_of;
use crate::nvml::{ComputeInstance, GpuProcess, ProcessKind, Unknown};
use crate::units::Bytes;

/// A GPU of which everything is known, or refused: what a method returns tells the arguments that came.
#[derive(Default)]
struct Known;

fn refused<T>(what: String) -> Result<T, NvmlError> {
    Err(NvmlError { what, kind: NvmlErrorKind::InUse })
}

impl Watch for Known {
    fn check_exclusive(&self, ours: &[u32]) -> Result<ExclusiveUse, BackendError> {
        match ours {
            [] => Ok(ExclusiveUse::Proved { monitors: vec!["dcgmi".to_owned()] }),
            [1] => Ok(ExclusiveUse::Assumed { why: "hidden".to_owned() }),
            ours => Err(BackendError::device(format!("beside {ours:?}"))),
        }
    }
    fn health(&self) -> Result<GpuHealth, BackendError> {
        let ecc = Some(EccErrors { corrected: 1, uncorrected: 2 });
        Ok(GpuHealth { ecc, compute_mode: Some("Default".to_owned()), ..GpuHealth::default() })
    }
    fn monitor(&self) -> Vec<DcgmReading> {
        vec![DcgmReading { gpu_instance: Some(3), values: Vec::new() }]
    }
    fn sample(&self, _on: bool) {}
    fn start_arm(&self) {}
    fn end_arm(&self) -> OverArm {
        let readings = vec![GpuReading { at: Nanos(7), sm_mhz: Some(1410), ..GpuReading::default() }];
        let activity = vec![GpuActivity { sm: Some(0.1 + 0.2), ..GpuActivity::default() }];
        OverArm { sm_mhz: Some(1410.0 / 3.0), power_w: None, throttled: Some(0.5), readings, activity }
    }
    fn sm_mhz_now(&self) -> Option<f64> {
        Some(1.0 / 3.0)
    }
    fn xids(&self) -> Vec<XidEvent> {
        vec![XidEvent { at: Nanos(u64::MAX), xid: None }, XidEvent { at: Nanos(1), xid: Some(79) }]
    }
    fn lost(&self) -> Option<String> {
        Some("it fell off".to_owned())
    }
    fn machine(&self) -> Result<Inventory, BackendError> {
        Ok(simulated(find_model("a30").unwrap(), None))
    }
    fn processes_on(&self, uuid: &str) -> Result<Processes, BackendError> {
        let one = GpuProcess {
            pid: 7,
            name: None,
            kind: ProcessKind::Mps,
            gpu_instance: Some(1),
            memory: Some(Bytes::mib(1)),
        };
        Ok(if uuid == "GPU-1" { Ok(vec![one]) } else { Err(Unknown { why: format!("of {uuid}") }) })
    }
    fn check_exclusive_on(&self, uuid: &str, ours: &[u32]) -> Result<(), BackendError> {
        Err(BackendError::arrangement(format!("{uuid} beside {ours:?}")))
    }
    fn used_by_process(&self, since: u64) -> Result<Vec<ProcessUse>, NvmlError> {
        Ok(vec![ProcessUse { pid: 9, at: since, active: 0.7 }])
    }
    fn telemetry(&self, uuid: &str) -> Telemetry {
        Telemetry { active: Ok(0.3), memory_used: Err(uuid.to_owned()), memory_total: Some(1) }
    }
    fn divided(&self) -> Box<dyn Divide + '_> {
        Box::new(Self)
    }
}

impl Divide for Known {
    fn profiles(&self) -> Result<Vec<DriverProfile>, NvmlError> {
        Ok(vec![DriverProfile { id: 14, name: Some("1g.6gb".to_owned()), slices: 1, most: 4 }])
    }
    fn placements(&self, profile: u32) -> Result<Vec<(u32, u32)>, NvmlError> {
        Ok(vec![(profile, 2)])
    }
    fn there(&self) -> Result<Vec<GpuInstance>, NvmlError> {
        let compute = vec![ComputeInstance { id: 1, slices: 2, profile: 3, start: 4, size: 5 }];
        Ok(vec![GpuInstance { id: 6, profile: 7, start: 8, size: 9, compute }])
    }
    fn create(&self, profile: u32, place: (u32, u32)) -> Result<u32, NvmlError> {
        Ok(profile * 100 + place.0 * 10 + place.1)
    }
    fn create_compute(
        &self,
        gpu_instance: u32,
        slices: u32,
        profile: Option<u32>,
        place: Option<(u32, u32)>,
    ) -> Result<u32, NvmlError> {
        refused(format!("{gpu_instance} {slices} {profile:?} {place:?}"))
    }
    fn destroy(&self, gpu_instance: u32) -> Result<(), NvmlError> {
        refused(gpu_instance.to_string())
    }
    fn destroy_compute(&self, gpu_instance: u32, compute_instance: u32) -> Result<(), NvmlError> {
        if gpu_instance == compute_instance { Ok(()) } else { refused(format!("{gpu_instance} {compute_instance}")) }
    }
}

/// A child that does what the shell is told, once it has begun.
fn child(script: &str, longest: Nanos) -> Watcher {
    let mut command = Command::new("sh");
    let begun = r#"read -r line; echo '{"to":"begin","said":{"Ok":null}}'"#;
    command.args(["-c", &format!("{begun}; {script}")]);
    Watcher::begin(command, "GPU-1", &[], longest).unwrap()
}

/// The same, whose lines go through this process to [`Known`].
fn known() -> Watcher {
    let watcher = child("exec cat", Nanos::MAX);
    let (questions, to_child) = pipe().unwrap();
    let (from_child, answers) = pipe().unwrap();
    std::thread::spawn(move || serve(BufReader::new(questions), answers, |_, _| Ok(Known)).unwrap());
    if let Ok(child) = &mut *lock(&watcher.child) {
        child.questions = std::os::fd::OwnedFd::from(to_child).into();
        child.answers = std::os::fd::OwnedFd::from(from_child).into();
    }
    let (protocol, crosstalk) = (PROTOCOL, env!("CARGO_PKG_VERSION").to_owned());
    let begin = Question::Begin { protocol, crosstalk, uuid: String::new(), gpu_is_mine: Vec::new() };
    watcher.ask::<Result<(), BackendError>>(&begin).unwrap().unwrap();
    watcher
}

#[test]
fn every_method_returns_here_what_it_returns_there() {
    let (here, there) = (known(), Known);
    for ours in [&[][..], &[1], &[1, 2]] {
        assert_eq!(here.check_exclusive(ours), there.check_exclusive(ours));
    }
    assert_eq!(here.check_exclusive_on("GPU-2", &[5]), there.check_exclusive_on("GPU-2", &[5]));
    assert_eq!(here.health(), there.health());
    assert_eq!(here.monitor(), there.monitor());
    here.sample(false);
    here.start_arm();
    assert_eq!(here.end_arm(), there.end_arm());
    assert_eq!(here.sm_mhz_now(), there.sm_mhz_now());
    assert_eq!(here.xids(), there.xids());
    assert_eq!(here.trouble(), there.trouble());
    assert_eq!(here.lost(), there.lost());
    assert_eq!(here.machine(), there.machine());
    for uuid in ["GPU-1", "GPU-2"] {
        assert_eq!(here.processes_on(uuid), there.processes_on(uuid));
    }
    assert_eq!(here.used_by_process(u64::MAX), there.used_by_process(u64::MAX));
    assert_eq!(here.telemetry("MIG-1"), there.telemetry("MIG-1"));
    let (here, there) = (here.divided(), there.divided());
    assert_eq!(here.profiles(), there.profiles());
    assert_eq!(here.placements(14), there.placements(14));
    assert_eq!(here.there(), there.there());
    assert_eq!(here.create(1, (2, 3)), there.create(1, (2, 3)));
    for (profile, place) in [(None, None), (Some(3), Some((4, 5)))] {
        assert_eq!(here.create_compute(1, 2, profile, place), there.create_compute(1, 2, profile, place));
    }
    assert_eq!(here.destroy(4), there.destroy(4));
    for compute in [4, 5] {
        assert_eq!(here.destroy_compute(4, compute), there.destroy_compute(4, compute));
    }
}

#[test]
fn lines_are_loud_on_what_they_do_not_know() {
    let read = |line: &str| serde_json::from_str::<Question>(line);
    assert_eq!(read(r#""health""#).unwrap(), Question::Health);
    assert!(read(r#"{"create":{"profile":1,"place":[0,4],"force":true}}"#).is_err());
    assert!(read(r#""temperature""#).is_err());
    assert!(serde_json::from_str::<Answer<u32>>(r#"{"to":"create","said":1,"more":2}"#).is_err());
    let served = |lines: &str| {
        let mut said = Vec::new();
        let served = serve(lines.as_bytes(), &mut said, |_, _| Ok(Known)).map_err(|e| e.to_string());
        (served, String::from_utf8(said).unwrap())
    };
    assert_eq!(served(""), (Ok(()), String::new()), "nobody asks");
    let begin = r#"{"begin":{"protocol":99,"crosstalk":"9.9.9","uuid":"GPU-1","gpu_is_mine":[]}}"#;
    for first in [begin, r#""health""#] {
        let (served, said) = served(&format!("{first}\n\"health\"\n"));
        assert_eq!((served, said.lines().count()), (Ok(()), 1), "it ends there: {said}");
        assert!(said.contains("was the binary replaced"), "{said}");
    }
    assert!(served("health").0.is_err());
}

/// What the first question is answered, how long that takes, and that all later ones get the same at once.
fn fails(watcher: &Watcher) -> String {
    let pid = lock(&watcher.child).as_ref().map(|child| child.process.id()).unwrap();
    let error = watcher.health().unwrap_err();
    let begun = now();
    assert_eq!(watcher.lost().as_ref(), Some(&error.what));
    assert_eq!(watcher.machine().unwrap_err(), error);
    assert_eq!(watcher.divided().destroy(1).unwrap_err().what, error.what);
    assert_eq!((watcher.sm_mhz_now(), watcher.trouble()), (None, Vec::new()));
    assert!(now() < begun + Nanos::secs(2), "nobody is waited for again");
    assert_eq!((error.reach, state_of(pid)), (crate::backend::Reach::Device, None), "{error}");
    error.what
}

#[test]
fn a_driver_that_hangs_costs_its_process_alone() {
    let said = fails(&child("exec sleep 1000", Nanos::secs(4)));
    assert!(said.contains("NVML has not answered for 4s (health)") && said.contains("drain the node"), "{said}");
}

#[test]
fn a_process_that_ends_or_talks_nonsense_is_named() {
    for (script, words) in [
        ("read -r line; echo it fell >&2; kill -9 $$", "was killed by signal 9"),
        ("exit 5", "ended with exit code 5"),
        ("read -r line; echo Segmentation fault; sleep 1000", "answered health with no answer"),
        (
            r#"read -r line; echo '{"to":"machine","said":{"Err":{"what":"","reach":"arm"}}}'; sleep 1000"#,
            "it is one to machine",
        ),
        (r#"read -r line; echo '{"to":"health","said":1}'; sleep 1000"#, "answered health with no answer"),
    ] {
        let said = fails(&child(script, Nanos::MAX));
        assert!(said.contains(words), "{words:?} not in: {said}");
        assert!(!script.contains("fell") || said.contains("it said last: it fell"), "{said}");
    }
}

#[test]
fn it_looks_on_from_the_cores_that_it_is_given() {
    let watcher = child("exec sleep 1000", Nanos::MAX);
    let core = allowed().unwrap()[0];
    watcher.keep_on(&[core]);
    let pid = lock(&watcher.child).as_ref().map(|child| child.process.id()).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.lines().any(|l| l == format!("Cpus_allowed_list:\t{core}")), "{status}");
}
