//! The experiment against a backend whose behaviour a test writes down.

mod controls;
mod forged;

use crate::hazard::Came;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::calibration::calibrate;
use super::{Ended, Progress, run};
use crate::backend::sim::Simulator;
use crate::backend::{
    ArmKey, ArmPlan, ArmRecord, ArmSummary, Backend, BackendError, Company, Evidence, NeighbourSummary, Outcome, Reach,
    Sample, Session, WindowSummary,
};
use crate::gpu::Inventory;
use crate::observation::{Observation, Observed};
use crate::plan::Plan;
use crate::provenance::Provenance;
use crate::run_dir::{Manifest, RecordedRun, RunDir, counted, load, recheck};
use crate::scenario::Controls;
use crate::units::{Nanos, Rate};

const SCENARIO: &str = r#"
schema = 1
name = "written-down"
[victim]
panel = [{ probe = "launch" }]
[[neighbour]]
noise = "hbm-read"
[[neighbour]]
noise = "l2-thrash"
[[arrangement]]
name = "a"
sharing = "time-slicing"
"#;

fn plan() -> Plan {
    let model = crate::gpu::find_model("a30").unwrap();
    let scenario = crate::scenario::read("test", SCENARIO, crate::workload::CATALOGUE).unwrap();
    let mut plan = Plan::resolve(&scenario, &Simulator::new(model, None).inventory().unwrap(), 0, Some(model)).unwrap();
    plan.design.controls = Controls::default();
    plan
}

/// Completes so many requests per second beside each neighbour state: quiet, then by neighbour.
struct Written(Option<Rate>, [Option<Rate>; 2]);

impl Session for Written {
    fn try_hazard(&mut self, hazard: usize) -> Result<Came, BackendError> {
        unreachable!("no hazard is planned: {hazard}")
    }
    fn restart(&mut self, _generation: u32, _company: Company) -> Result<(), BackendError> {
        Ok(())
    }

    fn evidence(&self) -> Evidence {
        Evidence::default()
    }

    fn ask(&mut self, observation: &Observation) -> Result<Observed, BackendError> {
        Ok(observation.unknown("a test of arms"))
    }

    fn run_arm(&mut self, arm: &ArmPlan) -> Result<ArmRecord, BackendError> {
        let rate = arm.noise.map_or(self.0, |n| self.1[n]);
        let length = arm.windows[0].length;
        let requests = rate.map_or(0.0, |r| r.as_f64() * length.as_secs_f64()) as u64;
        let sample = |i: u64| {
            let at = Nanos(length.0 / requests.max(1) * i);
            let (sent, completed) = (Some(at), Some(at));
            let (gpu_start, gpu_end) = (None, None);
            Sample { series: 0, window: 0, planned: at, sent, gpu_start, gpu_end, completed, outcome: Outcome::Ok }
        };
        let window = WindowSummary { length, planned: requests, completed: requests, ..WindowSummary::default() };
        let neighbour = NeighbourSummary { seat: 1, completed: 100, rate: 100.0, ..NeighbourSummary::default() };
        Ok(ArmRecord {
            series: vec!["launch".to_owned()],
            samples: (0..requests).map(sample).collect(),
            summary: ArmSummary { windows: vec![window], neighbours: vec![neighbour], ..ArmSummary::default() },
        })
    }

    fn close(self: Box<Self>) -> Result<(), BackendError> {
        Ok(())
    }
}

fn calibrated(quiet: Option<u64>, noisy: [Option<u64>; 2]) -> Result<Rate, BackendError> {
    let rate = |r: Option<u64>| r.map(Rate::per_second);
    let mut session = Written(rate(quiet), noisy.map(rate));
    let calibration = calibrate(&plan(), 0, 0, &mut session, &AtomicBool::new(false))?;
    Ok(calibration.unwrap().probes[0].rate)
}

#[test]
fn auto_is_a_tenth_of_the_lowest_closed_loop_rate() {
    assert_eq!(calibrated(Some(10_000), [Some(4_000), Some(9_000)]), Ok(Rate::per_second(400)));
}

#[test]
fn a_neighbour_that_lets_nothing_through_is_measured_not_skipped() {
    assert_eq!(calibrated(Some(10_000), [None, Some(9_000)]), Ok(Rate::per_second(900)));
    let error = calibrated(None, [None, None]).unwrap_err().to_string();
    assert!(error.contains("launch") && error.contains("quiet"), "{error}");
}

/// A backend in real time, of which `fails` says which arms fail, and how far that reaches.
struct Failing {
    fails: fn(&ArmKey) -> Option<Reach>,
    /// Generations in the order in which tenants were brought up; calibration left out.
    restarts: Mutex<Vec<u32>>,
    /// The company of each of them, and the arms that were run in it.
    companies: Mutex<Vec<(Company, Vec<ArmKey>)>>,
    /// What is refused in some company.
    refused: Option<(Company, Reach)>,
    /// How much slower requests are beside each neighbour.
    slower: [u64; 2],
    /// Arms of calibrations that are lost before one succeeds.
    calibrations: Mutex<u32>,
    /// What a session changed cannot be put back.
    stays_changed: bool,
}

impl Failing {
    fn new(fails: fn(&ArmKey) -> Option<Reach>) -> Self {
        Self {
            fails,
            restarts: Mutex::default(),
            companies: Mutex::default(),
            refused: None,
            slower: [1; 2],
            calibrations: Mutex::default(),
            stays_changed: false,
        }
    }

    fn lose_a_calibration(&self) -> bool {
        let mut left = self.calibrations.lock().unwrap();
        let lose = *left > 0;
        *left = left.saturating_sub(1);
        lose
    }
}

struct FailingSession<'a>(&'a Failing);

impl Backend for Failing {
    fn provenance(&self) -> Provenance {
        Provenance::StandIn
    }

    fn inventory(&self) -> Result<Inventory, BackendError> {
        Ok(stand_in().inventory)
    }

    fn sessions(&self) -> usize {
        1
    }

    fn open<'a>(&'a self, _: &'a Plan, _: usize, _: usize) -> Result<Box<dyn Session + 'a>, BackendError> {
        Ok(Box::new(FailingSession(self)))
    }
}

impl Session for FailingSession<'_> {
    fn try_hazard(&mut self, hazard: usize) -> Result<Came, BackendError> {
        unreachable!("no hazard is planned: {hazard}")
    }
    fn restart(&mut self, generation: u32, company: Company) -> Result<(), BackendError> {
        if let Some((_, reach)) = self.0.refused.filter(|(refused, _)| *refused == company) {
            return Err(BackendError { what: "9 GiB are asked, and 8 GiB of 24 GiB are free".to_owned(), reach });
        }
        if generation != super::CALIBRATION {
            self.0.restarts.lock().unwrap().push(generation);
            self.0.companies.lock().unwrap().push((company, Vec::new()));
        }
        Ok(())
    }

    fn evidence(&self) -> Evidence {
        Evidence::default()
    }

    fn ask(&mut self, observation: &Observation) -> Result<Observed, BackendError> {
        Ok(observation.unknown("a test of arms"))
    }

    fn run_arm(&mut self, arm: &ArmPlan) -> Result<ArmRecord, BackendError> {
        match (self.0.fails)(&arm.key).filter(|_| arm.key.block != u32::MAX || self.0.lose_a_calibration()) {
            Some(reach) => Err(BackendError { what: "the tenant of seat 1 died of signal 9".to_owned(), reach }),
            None => {
                if let Some((_, arms)) = self.0.companies.lock().unwrap().last_mut() {
                    arms.push(arm.key.clone());
                }
                let rate = if self.0.slower == [1; 2] { 1_000 } else { 40_000 };
                let rate = Some(Rate::per_second(rate));
                let mut record = Written(rate, [rate; 2]).run_arm(arm)?;
                let slower = arm.noise.map_or(1, |noise| self.0.slower[noise]);
                for (n, sample) in (0..).zip(&mut record.samples) {
                    // 100 to 110 µs, quiet.
                    let latency = Nanos::micros((100 + n % 10) * slower);
                    sample.completed = sample.sent.map(|sent| sent + latency);
                }
                record.summary.windows = vec![counted(&record.summary.windows[0], 0, 0, &record)];
                Ok(record)
            }
        }
    }

    fn close(self: Box<Self>) -> Result<(), BackendError> {
        if self.0.stays_changed { Err(BackendError::device("the layout is not put back")) } else { Ok(()) }
    }
}

/// Six blocks in three generations, in real time.
fn stand_in() -> Plan {
    let mut plan = plan();
    plan.inventory.provenance = Provenance::StandIn;
    (plan.design.blocks, plan.design.blocks_per_generation) = (6, 2);
    plan
}

/// What was run says nothing of itself that does not follow from it.
fn borne_out(folder: &std::path::Path, finished: bool) {
    recheck(&RecordedRun { finished, ..load(folder).unwrap() }).unwrap();
}

/// Runs the plan on tenants that fail so: how it ended, what is on disk, the restarts, and what was told.
fn run_failing(fails: fn(&ArmKey) -> Option<Reach>) -> Failed {
    run_losing(0, fails)
}

type Failed = (Result<Ended, String>, RecordedRun, Vec<u32>, Vec<String>, tempfile::TempDir);

/// The same where so many arms of calibrations are lost first.
fn run_losing(lost_calibrations: u32, fails: fn(&ArmKey) -> Option<Reach>) -> Failed {
    let folder = tempfile::tempdir().unwrap();
    let manifest = Manifest::new(jiff::civil::date(2026, 5, 1), Provenance::StandIn, "a stand-in", &stand_in(), "");
    let mut dir = RunDir::create(folder.path(), &manifest).unwrap();
    let mut recorded = RecordedRun::new(manifest);
    let backend = Failing::new(fails);
    *backend.calibrations.lock().unwrap() = lost_calibrations;
    let mut told = Vec::new();
    let mut on = |progress| match progress {
        Progress::Lost { reason, .. } | Progress::Skipped { reason, .. } => told.push(reason),
        _ => {}
    };
    let ended = run(&backend, &mut dir, &mut recorded, &AtomicBool::new(false), &mut on).map_err(|e| e.to_string());
    let read = load(folder.path()).unwrap();
    assert_eq!(read.arms.keys().collect::<Vec<_>>(), recorded.arms.keys().collect::<Vec<_>>());
    borne_out(folder.path(), ended == Ok(Ended::Complete));
    (ended, read, backend.restarts.into_inner().unwrap(), told, folder)
}

#[test]
fn a_lost_arm_ends_its_block_and_never_the_run() {
    // The second noisy arm of block 2 is lost; whatever of the block was to come after it is not run on new tenants.
    let (ended, run, restarts, told, _folder) =
        run_failing(|key| (key.block == 2 && key.neighbour == Some(1)).then_some(Reach::Arm));
    assert_eq!(ended, Ok(Ended::Complete));
    let lost: Vec<_> = run.lost.keys().map(|key| (key.block, key.neighbour)).collect();
    assert_eq!(lost, [(2, Some(1))]);
    assert_eq!(told.len(), 1);
    let whole = [0, 1, 3, 4, 5].into_iter().all(|block| run.arms.keys().filter(|k| k.block == block).count() == 3);
    assert!(whole, "{:?}", run.arms.keys().collect::<Vec<_>>());
    assert!(run.arms.keys().filter(|key| key.block == 2).count() < 3);
    assert_eq!(restarts, [0, 1, 1, 2], "new tenants after the loss, for block 3 of the same generation");
}

#[test]
fn three_losses_in_a_row_end_the_arrangement() {
    let (ended, run, _, told, _folder) = run_failing(|key| (key.block >= 2).then_some(Reach::Arm));
    assert_eq!(ended, Ok(Ended::Complete));
    assert_eq!(run.arms.len(), 6, "blocks 0 and 1");
    assert_eq!(run.lost.len(), 3);
    assert!(run.given_up[&0].contains("3 arms in a row were lost"), "{:?}", run.given_up);
    assert_eq!(told.len(), 4);
}

#[test]
fn a_lost_device_ends_the_run_and_keeps_what_was_measured() {
    let (ended, run, ..) = run_failing(|key| (key.block == 1).then_some(Reach::Device));
    assert!(ended.unwrap_err().contains("died of signal 9"));
    assert_eq!(run.arms.len(), 3, "block 0");
    assert!(!run.finished);
}

#[test]
fn what_is_not_put_back_ends_the_run_and_is_told_beside_what_went_wrong() {
    let nothing: fn(&ArmKey) -> Option<Reach> = |_| None;
    let calibration: fn(&ArmKey) -> Option<Reach> = |key| (key.block == u32::MAX).then_some(Reach::Arm);
    for (lost_calibrations, fails, wrong) in [(0, nothing, ""), (1, calibration, "died of signal 9; and ")] {
        let folder = tempfile::tempdir().unwrap();
        let manifest = Manifest::new(jiff::civil::date(2026, 5, 1), Provenance::StandIn, "a stand-in", &stand_in(), "");
        let mut dir = RunDir::create(folder.path(), &manifest).unwrap();
        let backend = Failing { stays_changed: true, ..Failing::new(fails) };
        *backend.calibrations.lock().unwrap() = lost_calibrations;
        let mut recorded = RecordedRun::new(manifest);
        let ended = run(&backend, &mut dir, &mut recorded, &AtomicBool::new(false), &mut |_| {});
        let told = ended.unwrap_err().to_string();
        assert!(told.contains(&format!("{wrong}the layout is not put back")), "{told}");
        assert!(recorded.calibrations.is_empty(), "nothing goes on from there");
    }
}

#[test]
fn a_resumed_run_on_hardware_begins_its_incomplete_blocks_anew() {
    let (_, before, _, _, folder) =
        run_failing(|key| (key.block == 3 && key.neighbour.is_none()).then_some(Reach::Arm));
    assert!(before.arms.keys().filter(|key| key.block == 3).count() < 3);
    let (mut dir, mut resumed) = RunDir::resume(folder.path()).unwrap();
    assert_eq!(resumed.arms.keys().filter(|key| key.block == 3).count(), 0, "no partner for what is left of it");
    assert_eq!((resumed.arms.len(), resumed.lost.len()), (15, 0));
    let backend = Failing::new(|_| None);
    let ended = run(&backend, &mut dir, &mut resumed, &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert_eq!((ended, resumed.arms.len()), (Ended::Complete, 18));
    assert_eq!(backend.restarts.into_inner().unwrap(), [1], "the generation of block 3 alone");
    assert_eq!(load(folder.path()).unwrap().arms.len(), 18);
}

#[test]
fn a_block_that_lost_its_first_arm_is_begun_anew_too() {
    let (_, before, _, _, folder) = run_failing(|key| (key.block == 3).then_some(Reach::Arm));
    assert_eq!((before.arms.len(), before.lost.len()), (15, 1));
    let (mut dir, mut resumed) = RunDir::resume(folder.path()).unwrap();
    assert!(resumed.lost.is_empty(), "what is measured anew is not lost: {:?}", resumed.lost);
    run(&Failing::new(|_| None), &mut dir, &mut resumed, &AtomicBool::new(false), &mut |_| {}).unwrap();
    let read = load(folder.path()).unwrap();
    assert_eq!((read.arms.len(), read.lost.len()), (18, 0));
    assert_eq!(read.lost_before, before.lost, "and is remembered: it may have been lost to the neighbour");
}

#[test]
fn a_calibration_that_is_lost_with_a_tenant_begins_anew() {
    let lose = |key: &ArmKey| (key.block == u32::MAX).then_some(Reach::Arm);
    let (ended, run, _, told, folder) = run_losing(2, lose);
    assert_eq!((ended, run.arms.len(), told.len()), (Ok(Ended::Complete), 18, 2));
    let log = std::fs::read_to_string(folder.path().join("events.jsonl")).unwrap();
    assert_eq!(log.matches("calibration-lost").count(), 2, "{log}");

    let (ended, run, _, told, _folder) = run_losing(3, lose);
    assert_eq!((ended, run.arms.len(), told.len()), (Ok(Ended::Complete), 0, 3));
    assert!(run.skipped[&0].contains("died of signal 9"), "{:?}", run.skipped);
}
