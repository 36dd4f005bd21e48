//! The experiment against a backend whose behaviour a test writes down.

use std::sync::atomic::AtomicBool;

use super::calibration::calibrate;
use crate::backend::sim::Simulator;
use crate::backend::{
    ArmPlan, ArmRecord, ArmSummary, Backend, BackendError, Evidence, NeighbourSummary, Outcome, Sample, Session,
    WindowSummary,
};
use crate::plan::Plan;
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
    Plan::resolve(&scenario, &Simulator::new(model, None).inventory().unwrap(), 0, Some(model)).unwrap()
}

/// Completes so many requests per second beside each neighbour state: quiet, then by neighbour.
struct Written(Option<Rate>, [Option<Rate>; 2]);

impl Session for Written {
    fn restart(&mut self, _generation: u32) -> Result<(), BackendError> {
        Ok(())
    }

    fn evidence(&self) -> Evidence {
        Evidence::default()
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
