//! Observations on tenants that are lost over them, and of runs that go on.

use crate::hazard::Came;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::super::{Ended, Progress, run};
use crate::backend::sim::Simulator;
use crate::backend::{ArmPlan, ArmRecord, Backend, BackendError, Company, Evidence, Load, Session};
use crate::gpu::{Inventory, find_model};
use crate::observation::{Observation, Observed};
use crate::plan::Plan;
use crate::provenance::Provenance;
use crate::run_dir::{Manifest, RecordedRun, RunDir, load};

/// Rates are given, so that closed loops are those of observations alone.
const SCENARIO: &str = r#"
schema = 1
name = "observed"
[design]
blocks = 2
window = "20ms"
[victim]
panel = [{ probe = "compute", arrivals = { poisson = "500/s" } }]
[[neighbour]]
noise = "issue-hog"
[[arrangement]]
name = "a"
sharing = "mps"
layout = [{ sms = "50%" }, { sms = "50%" }]
observe = { turns = "none" }
"#;

/// A simulated machine on which so many arms of observations are lost first.
struct Losing {
    inner: Simulator,
    left: Mutex<u32>,
    /// Arms of observations that were begun.
    begun: Mutex<u32>,
}

impl Losing {
    fn new(left: u32) -> Self {
        let inner = Simulator::new(find_model("a30").unwrap(), None);
        Self { inner, left: Mutex::new(left), begun: Mutex::default() }
    }
}

struct LosingSession<'a>(&'a Losing, Box<dyn Session + 'a>);

impl Backend for Losing {
    fn provenance(&self) -> Provenance {
        self.inner.provenance()
    }

    fn inventory(&self) -> Result<Inventory, BackendError> {
        self.inner.inventory()
    }

    fn sessions(&self) -> usize {
        1
    }

    fn open<'a>(
        &'a self,
        plan: &'a Plan,
        arrangement: usize,
        grid: usize,
    ) -> Result<Box<dyn Session + 'a>, BackendError> {
        Ok(Box::new(LosingSession(self, self.inner.open(plan, arrangement, grid)?)))
    }
}

impl Session for LosingSession<'_> {
    fn try_hazard(&mut self, hazard: usize) -> Result<Came, BackendError> {
        self.1.try_hazard(hazard)
    }
    fn restart(&mut self, generation: u32, company: Company) -> Result<(), BackendError> {
        self.1.restart(generation, company)
    }

    fn evidence(&self) -> Evidence {
        self.1.evidence()
    }

    fn ask(&mut self, observation: &Observation) -> Result<Observed, BackendError> {
        self.1.ask(observation)
    }

    fn run_arm(&mut self, arm: &ArmPlan) -> Result<ArmRecord, BackendError> {
        if matches!(arm.windows[0].load, Load::Closed { .. }) {
            *self.0.begun.lock().unwrap() += 1;
            let mut left = self.0.left.lock().unwrap();
            if *left > 0 {
                *left -= 1;
                return Err(BackendError::arm("the tenant of seat 1 died of signal 9"));
            }
        }
        self.1.run_arm(arm)
    }

    fn close(self: Box<Self>) -> Result<(), BackendError> {
        self.1.close()
    }
}

/// Runs the scenario where so many arms of observations are lost: what is on disk, what was told, and the folder.
fn run_losing(left: u32) -> (RecordedRun, Vec<String>, tempfile::TempDir) {
    let backend = Losing::new(left);
    let scenario = crate::scenario::read("test", SCENARIO, crate::workload::CATALOGUE).unwrap();
    let mut plan = Plan::resolve(&scenario, &backend.inventory().unwrap(), 0, find_model("a30")).unwrap();
    plan.design.controls = crate::scenario::Controls::default();
    let folder = tempfile::tempdir().unwrap();
    let manifest = Manifest::new(jiff::civil::date(2026, 5, 1), Provenance::Simulated, "a test", &plan, SCENARIO);
    let mut dir = RunDir::create(folder.path(), &manifest).unwrap();
    let mut recorded = RecordedRun::new(manifest);
    let mut told = Vec::new();
    let mut on = |progress| {
        if let Progress::Lost { reason, .. } = progress {
            told.push(reason);
        }
    };
    let ended = run(&backend, &mut dir, &mut recorded, &AtomicBool::new(false), &mut on).unwrap();
    assert_eq!(ended, Ended::Complete);
    let read = load(folder.path()).unwrap();
    assert_eq!(read.observed, recorded.observed);
    let of_blocks = read.arms.keys().filter(|key| key.purpose.is_block()).count();
    assert_eq!(of_blocks, 4, "whatever becomes of the observation");
    (read, told, folder)
}

#[test]
fn one_that_is_lost_with_a_tenant_begins_anew_and_is_untold_in_the_end() {
    let (run, told, _folder) = run_losing(0);
    assert_eq!((run.observed[&0][0].finding.as_deref(), told.len()), (Some("none"), 0));

    let (run, told, folder) = run_losing(3);
    assert_eq!((run.observed[&0][0].finding.as_deref(), told.len()), (Some("none"), 3));
    let log = std::fs::read_to_string(folder.path().join("events.jsonl")).unwrap();
    assert_eq!(log.matches("observation-lost").count(), 3, "{log}");

    let (run, told, _folder) = run_losing(4);
    assert_eq!((run.observed[&0][0].finding.as_deref(), told.len()), (None, 3));
    assert!(run.observed[&0][0].why.contains("died of signal 9"), "{:?}", run.observed);
}

#[test]
fn what_was_observed_is_kept_when_the_run_goes_on() {
    let (before, _, folder) = run_losing(0);
    let (mut dir, mut resumed) = RunDir::resume(folder.path()).unwrap();
    let backend = Losing::new(0);
    run(&backend, &mut dir, &mut resumed, &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert_eq!(*backend.begun.lock().unwrap(), 0, "nothing is observed twice");
    assert_eq!(load(folder.path()).unwrap().observed, before.observed);
}

/// Two arrangements, of which the first is compared with the second.
fn compared() -> Plan {
    let text = SCENARIO.replace("turns = \"none\"", "alone = \"whole\", own-compute = \"any\"")
        + "[[arrangement]]\nname = \"b\"\nsharing = \"exclusive\"\n";
    let scenario = crate::scenario::read("test", &text, crate::workload::CATALOGUE).unwrap();
    let model = find_model("a30");
    Plan::resolve(&scenario, &Losing::new(0).inventory().unwrap(), 0, model).unwrap()
}

#[test]
fn what_an_observation_takes_is_known_before_the_run() {
    let plan = compared();
    assert_eq!(plan.arrangements[0].against, Some(1), "the exclusive arrangement, unless given");
    let cost = super::cost(&plan, 0);
    assert_eq!(cost.sessions, [2, 2], "here and there");
    // Beside idle tenants twice and beside one that computes; a rate and a p50 in one arm, here and there.
    assert_eq!(cost.windows.len(), 3 + 2);
    assert!(super::cost(&plan, 1).windows.is_empty());
    let words = super::observing(&plan, 0, "alone");
    assert!(words.starts_with("2 arms of ") && words.ends_with(", here and in b."), "{words}");
}

#[test]
fn nothing_is_compared_with_what_was_skipped_or_is_not_known() {
    let mut plan = compared();
    plan.arrangements[1].skipped = Some("MIG mode is on".to_owned());
    let words = super::observing(&plan, 0, "alone");
    assert!(words.contains("b was skipped, with which it would be compared: MIG mode is on"), "{words}");
    let mut plan = compared();
    plan.inventory.gpus[0].model = None;
    assert!(super::observing(&plan, 0, "alone").contains("are not known"));
}
