//! Turns: what a sparse victim waits for under time-slicing, and that turns stay within an instance.

use crosstalk::backend::Load;
use crosstalk::units::{Nanos, Rate};

use crosstalk::backend::sim::Simulator;

use crate::support::{Bench, latencies, model, quantile, scenario_text, simulate};

/// Sparse, so that two requests of the victim hardly ever meet.
const SPARSE: Load = Load::Open { rate: Rate::per_second(20), poisson: true };

/// verdict.md's second example of an open loop. The victim gives its turn away after every request and comes back in the
/// middle of the other's quantum q: it waits U(0, q), then a switch, on each request. With q = 2.09 ms, a switch of
/// 170 µs and 20 µs of work: p50 = 1.045 + 0.19 ≈ 1.2 ms, p99 = 0.99 × 2.09 + 0.19 ≈ 2.3 ms.
#[test]
fn a_sparse_victim_waits_for_a_turn_on_every_request() {
    for id in ["h100-sxm", "a100-80gb"] {
        let bench = Bench::new(
            model(id),
            &[r#"{ probe = "compute", params = { kernel = "20us" } }"#],
            &[r#"{ noise = "compute-burst", params = { kernel = "20ms" } }"#],
            "sharing = \"time-slicing\"\ntenants = 2",
        );
        let quiet = latencies(&bench.arm(0, None, SPARSE, Nanos::secs(60)));
        assert!(quantile(quiet, 0.99) < 100_000, "{id}: alone it takes microseconds");
        let noisy = latencies(&bench.arm(0, Some(0), SPARSE, Nanos::secs(120)));
        assert!(noisy.len() > 2_000);
        let (p50, p99) = (quantile(noisy.clone(), 0.5) as f64, quantile(noisy.clone(), 0.99) as f64);
        assert!((p50 / 1.2e6 - 1.0).abs() <= 0.08, "{id}: p50 {:.3} ms", p50 / 1e6);
        assert!((p99 / 2.3e6 - 1.0).abs() <= 0.08, "{id}: p99 {:.3} ms", p99 / 1e6);
        // On *every* request: the shortest wait is a switch of 170 µs, but for requests that come during the switch or
        // the service of the one before and share its turn: 20/s × (170 + 45) µs, one in 230.
        let spared = noisy.iter().filter(|l| **l < 170_000).count();
        assert!(spared <= noisy.len() / 100, "{id}: {spared} of {}", noisy.len());
    }
}

/// The turn that the victim gives away is not given back: four requests in flight are served within one turn.
#[test]
fn a_victim_with_work_queued_keeps_its_turn() {
    let bench = Bench::new(
        model("h100-sxm"),
        &[r#"{ probe = "compute", params = { kernel = "20us" } }"#],
        &[r#"{ noise = "compute-burst", params = { kernel = "20ms" } }"#],
        "sharing = \"time-slicing\"\ntenants = 2",
    );
    let length = Nanos::secs(1);
    let (one, four) = (
        latencies(&bench.arm(0, Some(0), Load::Closed { depth: 1 }, length)).len(),
        latencies(&bench.arm(0, Some(0), Load::Closed { depth: 4 }, length)).len(),
    );
    assert!(four > 20 * one, "{one} requests one at a time, {four} with four in flight");
}

#[test]
fn turns_stay_within_an_instance() {
    for (mode, in_one_place) in [("mig+time-slicing", 10.0), ("mig+mps", 1.5)] {
        let bench = |neighbour: &str| {
            Bench::new(
                model("h100-sxm"),
                &[r#"{ probe = "compute" }"#],
                &[r#"{ noise = "issue-hog" }"#],
                &format!(
                    "sharing = \"{mode}\"\nlayout = [{{ profile = \"3g.40gb\", tenants = 2 }}, \"3g.40gb\"]\nvictim_at = \
                     [\"0.0\"]\nneighbour_at = [\"{neighbour}\"]"
                ),
            )
        };
        let between = bench("1").ratio(0, 0, Nanos::millis(200));
        assert!((0.99..=1.01).contains(&between), "{mode}: {between}");
        let within = bench("0.1").ratio(0, 0, Nanos::millis(200));
        assert!(within > in_one_place, "{mode}: {within}");
    }
}

/// The measured quantum, gap and switch are those of the model, for two tenants and for four, and inside an instance;
/// where nobody takes turns there are none.
#[test]
fn quantum_gap_and_switch_are_measured_where_tenants_take_turns() {
    let id = model("h100-sxm");
    let slice = &id.time_slice;
    let simulator = Simulator::new(id, None);
    let nested = "sharing = \"mig+time-slicing\"\nlayout = [{ profile = \"3g.40gb\", tenants = 2 }, \"3g.40gb\"]\nvictim_at \
                  = [\"0.0\"]";
    for (arrangement, others) in [
        ("sharing = \"time-slicing\"\ntenants = 2", Some(1)),
        ("sharing = \"time-slicing\"\ntenants = 4", Some(3)),
        (nested, Some(1)),
        ("sharing = \"mps\"", None),
    ] {
        let text = scenario_text(
            "blocks = 2\nwindow = \"50ms\"\nmax_window = \"50ms\"",
            &[r#"{ probe = "launch", arrivals = { poisson = "100/s" } }"#, r#"{ probe = "compute" }"#],
            &[r#"{ noise = "idle" }"#, r#"{ noise = "d2h" }"#, r#"{ noise = "issue-hog" }"#],
            arrangement,
        );
        let (run, _) = simulate(&text, &simulator, id, None);
        let turns = run.calibrations.values().find_map(|c| c.turns);
        assert_eq!(turns.map(|t| t.others), others, "{arrangement}");
        let Some(turns) = turns else { continue };
        let near = |measured: Nanos, us: u64| (measured.0 as f64 / (us * 1_000) as f64 - 1.0).abs() <= 0.02;
        assert!(near(turns.quantum, slice.quantum_us), "{arrangement}: {turns:?}");
        let n = u64::from(turns.others);
        assert!(near(turns.gap, n * slice.quantum_us + (n + 1) * slice.switch_us), "{arrangement}: {turns:?}");
        let switch = turns.switch.expect("equal turns");
        assert!(switch.0.abs_diff(slice.switch_us * 1_000) <= 25_000, "{arrangement}: {turns:?}");
    }
}
