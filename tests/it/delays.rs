//! The injected delay on a simulated GPU: seen where it is injected, and missed where a sender or a recorder is broken.

use std::sync::atomic::AtomicBool;

use crosstalk::backend::sim::Simulator;
use crosstalk::backend::{ArmKey, ArmPlan, ArmRecord, Backend, BackendError, Company, Evidence, Purpose, Session};
use crosstalk::experiment;
use crosstalk::gpu::Inventory;
use crosstalk::hazard::Came;
use crosstalk::observation::{Observation, Observed};
use crosstalk::plan::Plan;
use crosstalk::provenance::Provenance;
use crosstalk::run_dir::{Manifest, RecordedRun, RunDir};
use crosstalk::units::Nanos;
use crosstalk::verdict::{self, Control, ControlOutcome, Reason, RunVerdict, Verdict};

use crate::support::{cell, model, plan, scenario_text};

/// What is wrong with a backend.
#[derive(Clone, Copy, PartialEq)]
enum Broken {
    Nothing,
    /// It sends each request when it is planned, whatever it is told.
    Sender,
    /// It counts from when a request was to be sent after it had been held back.
    Recorder,
}

/// A simulator that may be broken.
struct Machine(Simulator, Broken);

impl Backend for Machine {
    fn provenance(&self) -> Provenance {
        self.0.provenance()
    }
    fn inventory(&self) -> Result<Inventory, BackendError> {
        self.0.inventory()
    }
    fn sessions(&self) -> usize {
        self.0.sessions()
    }
    fn open<'a>(
        &'a self,
        plan: &'a Plan,
        arrangement: usize,
        grid: usize,
    ) -> Result<Box<dyn Session + 'a>, BackendError> {
        Ok(Box::new(Tenants(self.0.open(plan, arrangement, grid)?, self.1)))
    }
}

struct Tenants<'a>(Box<dyn Session + 'a>, Broken);

impl Session for Tenants<'_> {
    fn restart(&mut self, generation: u32, company: Company) -> Result<(), BackendError> {
        self.0.restart(generation, company)
    }
    fn evidence(&self) -> Evidence {
        self.0.evidence()
    }
    fn run_arm(&mut self, arm: &ArmPlan) -> Result<ArmRecord, BackendError> {
        let mut arm = arm.clone();
        if self.1 == Broken::Sender {
            arm.windows.iter_mut().for_each(|window| window.delay = Nanos::ZERO);
        }
        let mut record = self.0.run_arm(&arm)?;
        if self.1 == Broken::Recorder {
            for sample in &mut record.samples {
                sample.planned += arm.windows[usize::from(sample.window)].delay;
            }
        }
        Ok(record)
    }
    fn ask(&mut self, observation: &Observation) -> Result<Observed, BackendError> {
        self.0.ask(observation)
    }
    fn try_hazard(&mut self, hazard: usize) -> Result<Came, BackendError> {
        self.0.try_hazard(hazard)
    }
    fn close(self: Box<Self>) -> Result<(), BackendError> {
        self.0.close()
    }
}

/// Copies beside copies between two instances.
fn run(broken: Broken) -> (RecordedRun, RunVerdict) {
    let text = scenario_text(
        "blocks = 17\nwindow = \"100ms\"\ncontrols = { again = true, presence = 0, sensitivity = 0, delay = 5 }",
        &["{ probe = \"h2d\" }", "{ probe = \"hbm-chase\" }"],
        &["{ noise = \"idle\" }", "{ name = \"copies\", noise = \"h2d\" }"],
        "sharing = \"mig\"\nlayout = [\"3g.40gb\", \"3g.40gb\"]\nvictim_at = [\"0\"]",
    );
    let model = model("h100-sxm");
    let machine = Machine(Simulator::new(model, None), broken);
    let plan = plan(&text, &machine.0, model, None);
    let date = jiff::civil::date(2026, 11, 25);
    let manifest = Manifest::new(date, machine.provenance(), "SIMULATED (a test asks for it)", &plan, &text);
    let folder = tempfile::tempdir().unwrap();
    let mut dir = RunDir::create(&folder.path().join("run"), &manifest).unwrap();
    let mut run = RecordedRun::new(manifest);
    experiment::run(&machine, &mut dir, &mut run, &AtomicBool::new(false), &mut |_| {}).unwrap();
    let verdict = verdict::judge(&run);
    (run, verdict)
}

fn outcome(verdict: &RunVerdict) -> (ControlOutcome, String) {
    let rows: Vec<_> = verdict.controls.iter().filter(|row| row.control == Control::Delay).collect();
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!(rows[0].probe.as_deref(), Some("h2d"), "device memory has a control of its own");
    (rows[0].outcome, rows[0].text.clone())
}

#[test]
fn a_copy_that_is_held_back_takes_so_much_longer_at_every_quantile() {
    let (run, verdict) = run(Broken::Nothing);
    let (seen, text) = outcome(&verdict);
    assert_eq!(seen, ControlOutcome::Passed, "{text}");
    let line = "pcie, copy-engine: by an injected delay, not through the channel itself";
    assert!(verdict.assumed.iter().any(|assumed| assumed == line), "{:?}", verdict.assumed);
    let calibrated = &run.calibrations[&(0, 0)].probes;
    let delay = calibrated.iter().find_map(|probe| probe.delay).unwrap();
    assert_eq!(calibrated.iter().filter(|probe| probe.delay.is_some()).count(), 1);
    for block in 0..5 {
        let counts = |purpose| {
            let key = ArmKey { arrangement: 0, grid: 0, block, neighbour: None, purpose };
            (run.arms[&key].summary.windows.len(), run.arms[&key].series["h2d"].counts())
        };
        let (quiet, delayed) = (counts(Purpose::Block), counts(Purpose::Delayed));
        assert_eq!((quiet.0, delayed.0), (2, 1), "an arm of the control has the windows that it needs");
        for q in ["p50", "p90"] {
            let q = q.parse().unwrap();
            let more = delayed.1.quantile(q).unwrap() - quiet.1.quantile(q).unwrap();
            assert!((more / delay.0 as f64 - 1.0).abs() < 0.5, "block {block}: {more} ns more of {delay} at {q}");
        }
    }
    // Before the first look, and in no other block.
    assert_eq!(run.arms.keys().filter(|key| key.purpose == Purpose::Delayed).count(), 5);
}

#[test]
fn a_sender_or_a_recorder_that_loses_the_delay_is_found_and_nothing_beside_that_channel_is_isolated() {
    for broken in [Broken::Sender, Broken::Recorder] {
        let (_, verdict) = run(broken);
        let (seen, text) = outcome(&verdict);
        assert_eq!(seen, ControlOutcome::Failed, "{text}");
        let beside = cell(&verdict, "a/copies");
        for series in beside.series.iter().filter(|series| series.series == "h2d") {
            let isolated = series.verdict == Verdict::Isolated;
            assert!(!isolated, "{} {}: {text}", series.series, series.quantile);
            if let Verdict::Inconclusive { reason } = &series.verdict {
                assert!(matches!(reason, Reason::DelayNotSeen { .. }), "{reason:?}");
            }
        }
        let chase = beside.series.iter().filter(|series| series.series == "hbm-chase");
        assert!(chase.clone().count() > 0 && chase.clone().all(|s| s.verdict == Verdict::Isolated), "{beside:#?}");
        assert!(verdict.assumed.iter().any(|line| line == "no sensitivity control exists for pcie, copy-engine"));
    }
}
