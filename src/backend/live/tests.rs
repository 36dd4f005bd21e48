//! The controller against the fixture tenant (tests/fixtures/tenant.rs): real processes, no GPU.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::backend::{ArmKey, ArmPlan, ArmRecord, Company, EccErrors, Load, Outcome, Purpose, Reach, Window};
use crate::gpu::{find_model, simulated};
use crate::host::cores::{Core, Pinned};
use crate::run_dir::{Manifest, RecordedRun, RunDir};
use crate::units::Rate;

/// What NVML would say, written down.
#[derive(Default)]
struct Written {
    calls: Mutex<Vec<&'static str>>,
    occupied: AtomicBool,
    lost: AtomicBool,
    trouble: Mutex<Vec<String>>,
    /// Memory errors from the end of the first arm's windows on.
    uncorrected: AtomicU64,
}

impl Watch for Arc<Written> {
    fn check_exclusive(&self, ours: &[u32]) -> Result<ExclusiveUse, BackendError> {
        self.calls.lock().unwrap().push(if ours.is_empty() { "alone?" } else { "only ours?" });
        if self.occupied.load(Ordering::Relaxed) {
            return Err(BackendError::device("process 1 is on the GPU: drain it first"));
        }
        Ok(ExclusiveUse::Proved { monitors: Vec::new() })
    }
    fn health(&self) -> Result<GpuHealth, BackendError> {
        let mut calls = self.calls.lock().unwrap();
        calls.push("health?");
        let uncorrected = self.uncorrected.load(Ordering::Relaxed);
        let ecc = EccErrors {
            corrected: calls.len() as u64,
            uncorrected: if calls.contains(&"end") { uncorrected } else { 0 },
        };
        Ok(GpuHealth { ecc: Some(ecc), ..GpuHealth::default() })
    }
    fn monitor(&self) -> Vec<DcgmReading> {
        self.calls.lock().unwrap().push("monitor?");
        vec![DcgmReading { gpu_instance: Some(3), values: Vec::new() }]
    }
    fn sample(&self, on: bool) {
        self.calls.lock().unwrap().push(if on { "sampler on" } else { "sampler off" });
    }
    fn start_arm(&self) {
        self.calls.lock().unwrap().push("start");
    }
    fn end_arm(&self) -> OverArm {
        self.calls.lock().unwrap().push("end");
        let activity = vec![GpuActivity { sm: Some(0.5), ..GpuActivity::default() }];
        let readings = Vec::new();
        OverArm { sm_mhz: Some(1410.0), power_w: Some(70.0), throttled: Some(0.0), readings, activity }
    }
    fn sm_mhz_now(&self) -> Option<f64> {
        None
    }
    fn trouble(&self) -> Vec<String> {
        self.calls.lock().unwrap().push("trouble?");
        // What is written down happens while the windows run.
        let during = self.calls.lock().unwrap().iter().rev().nth(1) == Some(&"end");
        if during { std::mem::take(&mut *self.trouble.lock().unwrap()) } else { Vec::new() }
    }
    fn lost(&self) -> Option<String> {
        self.lost.load(Ordering::Relaxed).then(|| "GPU 0 fell off the bus (Xid 79)".to_owned())
    }
    fn machine(&self) -> Result<Inventory, BackendError> {
        Err(BackendError::device("no machine is written down"))
    }
    fn processes_on(&self, _uuid: &str) -> Result<crate::nvml::Processes, BackendError> {
        Ok(Ok(Vec::new()))
    }
    fn divided(&self) -> Box<dyn Divide + '_> {
        panic!("nothing is divided here")
    }
    fn check_exclusive_on(&self, _uuid: &str, ours: &[u32]) -> Result<(), BackendError> {
        self.check_exclusive(ours).map(drop)
    }
}

/// One controller with its tenants, told apart from those of other tests by a variable that all of them inherit.
struct Bench {
    live: Live,
    plan: Plan,
    written: Arc<Written>,
    mark: String,
    _folder: tempfile::TempDir,
}

fn scenario(sharing: &str) -> String {
    format!(
        "schema = 1\nname = \"test\"\n[design]\nblocks = 2\nblocks_per_generation = 1\nwindow = \"40ms\"\nmax_window = \
         \"40ms\"\nwashout = \"1ms\"\ndrain = \"20ms\"\ncontrols = {{ again = false, presence = 0, \
         sensitivity = 0, delay = 0, sampler = 0 }}\n[victim]\npanel = [{{ probe = \"launch\" }}]\n[[neighbour]]\n\
         noise = \"hbm-read\"\n[[arrangement]]\nname = \"a\"\nsharing = \"{sharing}\"\n"
    )
}

impl Bench {
    fn new(sharing: &str, fixture: &[(&str, &str)], deadlines: Deadlines) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let model = find_model("a30").unwrap();
        let mut inventory = simulated(model, None);
        let read = crate::scenario::read("test", &scenario(sharing), crate::workload::CATALOGUE).unwrap();
        let mut plan = Plan::resolve(&read, &inventory, 0, Some(model)).unwrap();
        // Only from here on: a plan for a real GPU washes out for a second at least, and nothing here gets warm.
        inventory.provenance = Provenance::StandIn;
        plan.inventory = inventory.clone();
        let folder = tempfile::tempdir().unwrap();
        let mut environment: Vec<(OsString, OsString)> = vec![("CROSSTALK_TEST".into(), mark.clone().into())];
        environment.extend(fixture.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))));
        if !fixture.is_empty() {
            environment.push(("FIXTURE_ONCE".into(), folder.path().join("once").into()));
        }
        let written = Arc::new(Written::default());
        let live = Live::new(Settings {
            inventory,
            gpu: 0,
            bus_id: None,
            provenance: Provenance::StandIn,
            exe: fixture_tenant(),
            environment,
            allow_reconfigure: false,
            watch: Box::new(Arc::clone(&written)),
            deadlines,
        });
        Self { live: live.unwrap(), plan, written, mark, _folder: folder }
    }

    fn open(&self) -> Box<dyn Session + '_> {
        self.live.open(&self.plan, 0, 0).unwrap()
    }

    /// Processes of this bench that run: tenants, and what they started.
    fn survivors(&self) -> Vec<u32> {
        let mark = format!("CROSSTALK_TEST={}\0", self.mark);
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            if environ.windows(mark.len()).any(|bytes| bytes == mark.as_bytes()) {
                found.extend(entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
            }
        }
        found
    }

    /// What was killed may need a moment to be gone.
    fn assert_nobody_survives(&self) {
        let limit = crate::host::clock::now() + Nanos::secs(30);
        while !self.survivors().is_empty() && crate::host::clock::now() < limit {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(self.survivors(), Vec::<u32>::new());
    }
}

fn fixture_tenant() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples/fixture-tenant");
    assert!(
        path.exists(),
        "{} is missing: `cargo build --example fixture-tenant`, or `cargo test` alone",
        path.display()
    );
    path
}

fn arm(noise: Option<usize>, load: Load) -> ArmPlan {
    let window = Window { probe: 0, load, length: Nanos::millis(60), delay: Nanos::ZERO, seat: None };
    ArmPlan {
        key: ArmKey { arrangement: 0, grid: 0, block: 0, neighbour: noise, purpose: Purpose::Block },
        noise,
        windows: vec![window.clone(), window],
        washout: Nanos::millis(1),
        drain: Nanos::millis(20),
        sampled: true,
    }
}

const OPEN: Load = Load::Open { rate: Rate::per_second(1_000), poisson: true };

/// A quiet arm and a noisy one on fresh tenants.
fn both_arms(session: &mut dyn Session) -> Result<(ArmRecord, ArmRecord), BackendError> {
    session.restart(0, Company::Beside)?;
    Ok((session.run_arm(&arm(None, OPEN))?, session.run_arm(&arm(Some(0), OPEN))?))
}

#[test]
fn an_arm_holds_what_the_tenants_measured() {
    let bench = Bench::new("time-slicing", &[], Deadlines::default());
    let mut session = bench.open();
    let (quiet, noisy) = both_arms(session.as_mut()).unwrap();

    assert_eq!(noisy.series, ["launch", "launch"]);
    let (a, b) = (&noisy.summary.windows[0], &noisy.summary.windows[1]);
    assert_eq!((a.planned, a.late), (b.planned, 0));
    assert_eq!(noisy.samples.len() as u64, a.planned + b.planned);
    for (id, sample) in noisy.samples.iter().take(a.planned as usize).enumerate() {
        assert_eq!(sample.sent, Some(sample.planned + Nanos::micros(1)));
        let sent = sample.sent.unwrap();
        if id % 10 == 9 {
            assert_eq!((sample.completed, sample.gpu_start, sample.outcome), (None, None, Outcome::Timeout));
        } else {
            assert_eq!(sample.completed, Some(sent + Nanos::millis(2)));
            assert_eq!(sample.gpu_start, Some(sent + Nanos::micros(200)), "on the host's axis");
            assert_eq!(sample.gpu_end, Some(sent + Nanos::micros(1_999)));
        }
    }
    // The same arrivals in every arm of a block.
    let planned = |record: &ArmRecord| {
        let start = record.summary.windows[0].start;
        record.samples.iter().filter(|s| s.window == 0).map(|s| s.planned - start).collect::<Vec<_>>()
    };
    assert_eq!(planned(&quiet), planned(&noisy));
    assert!(!planned(&quiet).is_empty());

    let neighbour = &noisy.summary.neighbours[..];
    assert!(
        matches!(neighbour, [n] if n.seat == 1 && n.completed > 0 && n.rate > 0.0 && n.pending > 0.5),
        "{neighbour:?}"
    );
    assert!(neighbour[0].longest_gap >= Nanos::millis(2));
    assert!(quiet.summary.neighbours.is_empty() && quiet.summary.oom.is_empty());
    let oom = &noisy.summary.oom[..];
    assert!(matches!(oom, [oom] if oom.seat == 1 && oom.at > a.start && oom.asked == 3), "{oom:?}");
    assert_eq!(noisy.summary.host_pause, Some(Nanos::micros(7)));
    assert_eq!((noisy.summary.sm_mhz, noisy.summary.power_w), (Some(1410.0), Some(70.0)));

    // Corrected errors are told, and nothing else.
    let corrected = |health: &Option<GpuHealth>| health.as_ref().and_then(|h| h.ecc).map(|ecc| ecc.corrected);
    assert!(corrected(&noisy.summary.health) > corrected(&noisy.summary.health_before));
    assert_eq!(noisy.summary.activity[0].sm, Some(0.5));
    assert_eq!(noisy.summary.dcgm[0].gpu_instance, Some(3));

    // Windows one after another, and the washout before them, on the arm's axis.
    assert!(a.start >= Nanos::millis(1) && b.start >= a.start + a.length);

    let calls = bench.written.calls.lock().unwrap().clone();
    let each = ["trouble?", "only ours?", "health?", "start", "end", "trouble?", "health?", "monitor?"];
    assert_eq!(calls, [&["alone?", "alone?"][..], &each, &each].concat());

    let seats = session.evidence().seats;
    let gpu = &bench.plan.gpu().uuid;
    assert!(seats.iter().all(|s| s.device.as_ref().is_some_and(|d| d.uuid == *gpu)));
    assert_eq!(seats.iter().map(|s| s.seat).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(seats[1].programs[0].name, "hbm-read");
    let pids: Vec<u32> = seats.iter().map(|s| s.pid).collect();
    assert_eq!(bench.survivors().len(), 2);
    session.restart(1, Company::Beside).unwrap();
    assert!(session.evidence().seats.iter().all(|s| !pids.contains(&s.pid)), "fresh processes");
    session.close().unwrap();
    bench.assert_nobody_survives();
}

#[test]
fn a_closed_loop_completes_what_it_sends() {
    let bench = Bench::new("time-slicing", &[], Deadlines::default());
    let mut session = bench.open();
    session.restart(0, Company::Beside).unwrap();
    let record = session.run_arm(&arm(None, Load::Closed { depth: 1 })).unwrap();
    let window = &record.summary.windows[0];
    assert_eq!((window.planned, window.completed, window.late), (30, 30, 0));
}

#[test]
fn in_exclusive_mode_the_neighbour_has_no_device() {
    let bench = Bench::new("exclusive", &[], Deadlines::default());
    let mut session = bench.open();
    let (_, noisy) = both_arms(session.as_mut()).unwrap();
    let seats = session.evidence().seats;
    assert!(seats[0].device.is_some() && seats[1].device.is_none());
    assert_eq!(seats[1].programs[0].name, crate::workload::PLACEBO);
    assert!(noisy.summary.neighbours[0].completed > 0, "its host loop runs");
}

#[test]
fn tenants_get_cores_where_there_are_enough() {
    let bench = Bench::new("time-slicing", &[], Deadlines::default());
    // All on one processor that is there: whether a thread may run on it is what counts here.
    let cpu = allowed().unwrap()[0];
    let cores = Cores { cores: vec![Core { cpu, near: true }; 4], quota: None };
    let Bench { live, plan, .. } = &bench;
    let live = Live::new(Settings {
        inventory: live.settings.inventory.clone(),
        gpu: 0,
        bus_id: None,
        provenance: Provenance::StandIn,
        exe: fixture_tenant(),
        environment: live.settings.environment.clone(),
        allow_reconfigure: false,
        watch: Box::new(Arc::clone(&bench.written)),
        deadlines: Deadlines::default(),
    });
    let live = live.unwrap().with_cores(cores);
    let before = allowed().unwrap();
    let mut session = live.open(plan, 0, 0).unwrap();
    let (quiet, _) = both_arms(session.as_mut()).unwrap();
    assert!(!quiet.summary.too_few_cores);
    assert_eq!(session.evidence().seats[0].cores, [cpu, cpu]);
    for seat in session.evidence().seats {
        let status = std::fs::read_to_string(format!("/proc/{}/status", seat.pid)).unwrap();
        assert!(status.lines().any(|l| l == format!("Cpus_allowed_list:\t{cpu}")), "{status}");
    }
    assert_eq!(allowed().unwrap(), [cpu], "and so has the controller");
    session.close().unwrap();
    assert_eq!(allowed().unwrap(), before);
    drop(Pinned::on(&before));
}

#[test]
fn a_core_that_is_left_tells_of_the_host_in_every_arm() {
    let cpu = allowed().unwrap()[0];
    for (cores, probed) in [(4, false), (5, true)] {
        let bench = Bench::new("time-slicing", &[], Deadlines::default());
        let cores = Cores { cores: vec![Core { cpu, near: true }; cores], quota: None };
        let bench = Bench { live: bench.live.with_cores(cores), ..bench };
        let mut session = bench.open();
        let (quiet, noisy) = both_arms(session.as_mut()).unwrap();
        for summary in [quiet.summary, noisy.summary] {
            assert_eq!(summary.host_probe.is_some(), probed, "{summary:?}");
            let windows = summary.windows.iter().fold(Nanos::ZERO, |sum, window| sum + window.length);
            assert!(summary.host_probe.is_none_or(|seen| seen.watched >= windows && seen.longest > Nanos::ZERO));
        }
    }
}

#[test]
fn with_too_few_cores_the_arm_says_so() {
    let bench = Bench::new("time-slicing", &[], Deadlines::default());
    let bench = Bench { live: bench.live.with_cores(Cores::default()), ..bench };
    let mut session = bench.open();
    assert!(both_arms(session.as_mut()).unwrap().0.summary.too_few_cores);
    assert!(session.evidence().seats.iter().all(|s| s.cores.is_empty()));
}

/// A fault at an order: what the error says, and how far it reaches. Nobody survives it, and the next restart works.
#[track_caller]
fn fails(fault: &str, role: Option<&str>, deadlines: Deadlines, reach: Reach, says: &[&str]) {
    let mut fixture = vec![("FIXTURE", fault)];
    fixture.extend(role.map(|role| ("FIXTURE_ROLE", role)));
    let bench = Bench::new("time-slicing", &fixture, deadlines);
    let mut session = bench.open();
    let error = both_arms(session.as_mut()).expect_err(fault);
    for words in says.iter().chain(&["tenant of seat "]) {
        assert!(error.what.contains(words), "{fault}: {}", error.what);
    }
    assert_eq!(error.reach, reach, "{fault}: {}", error.what);
    if let Some(role) = role {
        assert!(error.what.contains(role), "{fault}: {}", error.what);
    }
    bench.assert_nobody_survives();
    assert!(session.run_arm(&arm(None, OPEN)).is_err(), "{fault}: the tenants are down");
    let recovered = both_arms(session.as_mut());
    assert!(recovered.is_ok(), "{fault}: {recovered:?}");
    drop(session);
    bench.assert_nobody_survives();
}

#[test]
fn a_tenant_that_dies_is_named_with_how_and_its_last_words() {
    let (victim, neighbour, normal) = (Some("victim"), Some("neighbour"), Deadlines::default());
    fails("hello:die", None, normal, Reach::Arm, &["ended with exit code 3", "it said last: first words | last words"]);
    fails("load:kill", victim, normal, Reach::Arm, &["killed by signal 9"]);
    fails("window:die", victim, normal, Reach::Arm, &["ended with exit code 3", "last words"]);
    fails("noise:kill", neighbour, normal, Reach::Arm, &["killed by signal 9"]);
    fails("quiet:orphan", neighbour, normal, Reach::Arm, &["ended with exit code 4"]);
    fails("window:chatter", victim, normal, Reach::Arm, &["ended with exit code 5", "line 99999"]);
}

#[test]
fn a_tenant_that_dies_between_orders_is_noticed() {
    fails("window:then-die", Some("victim"), Deadlines::default(), Reach::Arm, &["ended with exit code 7"]);
    // The victim's window runs meanwhile, and ends there and then.
    fails("noise:then-die", Some("neighbour"), Deadlines::default(), Reach::Arm, &["ended with exit code 7"]);
}

#[test]
fn a_tenant_that_hangs_is_given_up_at_its_deadline() {
    let short = Nanos::secs(4);
    let hello = Deadlines { hello: short, ..Deadlines::default() };
    fails("hello:hang", None, hello, Reach::Arm, &["no answer to \"hello\" within 4"]);
    let window = Deadlines { window: short, ..Deadlines::default() };
    fails("window:hang", Some("victim"), window, Reach::Arm, &["no answer to \"window\" within 4"]);
    let quiet = Deadlines { quiet: short, ..Deadlines::default() };
    fails("quiet:half", Some("neighbour"), quiet, Reach::Arm, &["within 4", "10 bytes of an unfinished line"]);
}

#[test]
fn a_tenant_that_does_not_speak_the_protocol_is_told_apart() {
    let (victim, normal) = (Some("victim"), Deadlines::default());
    fails("window:garbage", victim, normal, Reach::Arm, &["is no reply: \"Segmentation fault"]);
    fails("window:huge", victim, normal, Reach::Arm, &["a line of more than 1048576 bytes"]);
    fails("window:mistaken", victim, normal, Reach::Arm, &["as if it were another order"]);
    fails("load:unasked", victim, normal, Reach::Arm, &["without being asked: \"one thing more"]);
    fails("window:close", victim, normal, Reach::Arm, &["closed its output and lives on"]);
    fails("window:samples", victim, normal, Reach::Arm, &["contradict themselves"]);
    let version = &["protocol 99 of crosstalk 9.9.9", "was the binary replaced"];
    fails("hello:version", None, normal, Reach::Arrangement, version);
}

#[test]
fn what_a_tenant_says_itself_reaches_as_far_as_it_is_true() {
    let (victim, neighbour, normal) = (Some("victim"), Some("neighbour"), Deadlines::default());
    let refused = &["no room for it: lower its footprint (driver code 2)"];
    fails("load:refuse", neighbour, normal, Reach::Arrangement, refused);
    fails("window:refuse", victim, normal, Reach::Arm, refused);
    fails("window:lost", victim, normal, Reach::Device, &["fell off the bus (driver code 100)"]);
    fails("load:elsewhere", victim, normal, Reach::Arrangement, &["it was given GPU-", "and sees GPU-0000"]);
    fails("load:two-devices", neighbour, normal, Reach::Arrangement, &["sees 2 devices"]);
}

#[test]
fn no_tenant_starts_and_no_noise_begins_beside_strangers() {
    let bench = Bench::new("time-slicing", &[], Deadlines::default());
    let mut session = bench.open();
    bench.written.occupied.store(true, Ordering::Relaxed);
    assert!(session.restart(0, Company::Beside).unwrap_err().what.contains("drain it first"));
    assert!(bench.survivors().is_empty());
    bench.written.occupied.store(false, Ordering::Relaxed);
    session.restart(0, Company::Beside).unwrap();
    bench.written.occupied.store(true, Ordering::Relaxed);
    assert_eq!(session.run_arm(&arm(Some(0), OPEN)).unwrap_err().reach, Reach::Device);
    assert!(!bench.written.calls.lock().unwrap().contains(&"start"));
    bench.assert_nobody_survives();
}

#[test]
fn driver_trouble_ends_the_arm_and_a_lost_device_the_run() {
    let bench = Bench::new("time-slicing", &[], Deadlines::default());
    let mut session = bench.open();
    session.restart(0, Company::Beside).unwrap();
    bench.written.trouble.lock().unwrap().push("Xid 31 on GPU 0".to_owned());
    let error = session.run_arm(&arm(None, OPEN)).unwrap_err();
    assert_eq!((error.reach, error.what.as_str()), (Reach::Arm, "the driver reports: Xid 31 on GPU 0"));
    both_arms(session.as_mut()).unwrap();
    bench.written.lost.store(true, Ordering::Relaxed);
    let error = session.run_arm(&arm(None, OPEN)).unwrap_err();
    assert_eq!(error.reach, Reach::Device, "{}", error.what);
}

#[test]
fn memory_that_gives_wrong_data_in_an_arm_ends_it_and_no_later_one() {
    let bench = Bench::new("time-slicing", &[], Deadlines::default());
    let mut session = bench.open();
    session.restart(0, Company::Beside).unwrap();
    bench.written.uncorrected.store(2, Ordering::Relaxed);
    let error = session.run_arm(&arm(None, OPEN)).unwrap_err();
    assert_eq!(error.reach, Reach::Arm);
    assert!(error.what.contains("2 uncorrected memory error(s)"), "{}", error.what);
    // They are there now, and nothing new happens.
    both_arms(session.as_mut()).unwrap();
}

#[test]
fn a_window_that_does_not_fit_is_refused_before_it_is_ordered() {
    let bench = Bench::new("time-slicing", &[], Deadlines::default());
    let mut session = bench.open();
    session.restart(0, Company::Beside).unwrap();
    let much = Load::Open { rate: Rate::per_second(50_000_000), poisson: false };
    let error = session.run_arm(&arm(None, much)).unwrap_err();
    assert_eq!(error.reach, Reach::Arrangement);
    assert!(error.what.contains("lower its rate"), "{}", error.what);
}

#[test]
fn the_whole_of_a_gpu_is_not_to_be_had_under_mig() {
    let bench = Bench::new("time-slicing", &[], Deadlines::default());
    let mut gpu = bench.plan.gpu().clone();
    assert_eq!(unsupported(SharingMode::TimeSlicing, &gpu), None);
    gpu.mig = Some(true);
    assert!(unsupported(SharingMode::TimeSlicing, &gpu).is_some_and(|why| why.contains("MIG is on")));
}

#[test]
fn streams_are_tenants_of_one_process() {
    let bench = Bench::new("streams", &[], Deadlines::default());
    let mut session = bench.open();
    let (_, noisy) = both_arms(session.as_mut()).unwrap();
    assert!(noisy.summary.neighbours[0].completed > 0 && !noisy.samples.is_empty());
    let evidence = session.evidence();
    let pids: Vec<u32> = evidence.seats.iter().map(|seat| seat.pid).collect();
    assert_eq!(evidence.seats.iter().map(|seat| seat.seat).collect::<Vec<_>>(), [0, 1]);
    assert!(pids[0] == pids[1] && bench.survivors() == [pids[0]], "{pids:?}");
    assert!(evidence.proofs[0].contains("2 tenants of process"), "{:?}", evidence.proofs);
    assert_eq!(evidence.seats[0].programs[0].name, "launch");
    assert_eq!(evidence.seats[1].programs[0].name, "hbm-read");
    session.close().unwrap();
    bench.assert_nobody_survives();
}

#[test]
fn green_contexts_are_proved_by_the_sms_that_each_has() {
    let bench = Bench::new("green-contexts", &[], Deadlines::default());
    let mut session = bench.open();
    both_arms(session.as_mut()).unwrap();
    let evidence = session.evidence();
    assert!(evidence.seats.iter().all(|seat| seat.device.as_ref().and_then(|d| d.green_sms) == Some(8)));
    assert!(evidence.proofs[1].contains("of 16 SMs: seat 0: 8, seat 1: 8"), "{:?}", evidence.proofs);
}

#[test]
fn a_green_context_with_fewer_sms_than_promised_is_no_arrangement() {
    let fixture = [("FIXTURE", "load:fewer-sms"), ("FIXTURE_ROLE", "neighbour")];
    let bench = Bench::new("green-contexts", &fixture, Deadlines::default());
    let error = bench.open().restart(0, Company::Beside).unwrap_err();
    assert_eq!(error.reach, Reach::Arrangement);
    assert!(error.what.contains("seat 1 was promised 8 SMs, and its green context has 2"), "{}", error.what);
    bench.assert_nobody_survives();
}

#[test]
fn with_the_process_all_its_tenants_are_lost() {
    for (fault, role) in [("window:kill", "victim"), ("noise:die", "neighbour")] {
        let bench = Bench::new("streams", &[("FIXTURE", fault), ("FIXTURE_ROLE", role)], Deadlines::default());
        let mut session = bench.open();
        let error = both_arms(session.as_mut()).unwrap_err();
        assert_eq!(error.reach, Reach::Arm);
        assert!(error.what.contains("all 2 tenants that it holds with it"), "{fault}: {}", error.what);
        bench.assert_nobody_survives();
        both_arms(session.as_mut()).unwrap();
    }
}

#[test]
fn a_tenant_of_several_that_hangs_is_told_by_its_seat() {
    let short = Deadlines { quiet: Nanos::secs(4), ..Deadlines::default() };
    let bench = Bench::new("streams", &[("FIXTURE", "quiet:hang"), ("FIXTURE_ROLE", "neighbour")], short);
    let error = both_arms(bench.open().as_mut()).unwrap_err();
    assert!(error.what.contains("seat 1 (neighbour): no answer to \"quiet\" within 4"), "{}", error.what);
    bench.assert_nobody_survives();
}

#[test]
fn a_whole_experiment_runs_on_the_live_backend() {
    for sharing in ["exclusive", "time-slicing", "streams", "green-contexts"] {
        let bench = Bench::new(sharing, &[], Deadlines::default());
        let folder = tempfile::tempdir().unwrap();
        let date = jiff::civil::date(2026, 11, 25);
        let text = scenario(sharing);
        let manifest = Manifest::new(date, bench.live.provenance(), "a fixture", &bench.plan, &text);
        let mut dir = RunDir::create(&folder.path().join("run"), &manifest).unwrap();
        let mut run = RecordedRun::new(manifest);
        let ended = crate::experiment::run(&bench.live, &mut dir, &mut run, &AtomicBool::new(false), &mut |_| {});
        assert_eq!(ended.unwrap(), crate::experiment::Ended::Complete);
        assert!(run.skipped.is_empty(), "{:?}", run.skipped);
        // Two blocks of a quiet and a noisy arm.
        assert_eq!(run.arms.len(), 4);
        bench.assert_nobody_survives();
        crate::verdict::judge(&run);
    }
}

#[test]
fn every_workload_has_one_kind_of_mark_at_most() {
    // The controller tells marks apart by their number alone.
    assert!(crate::workload::CATALOGUE.iter().all(|w| w.marks.len() <= 1));
}
