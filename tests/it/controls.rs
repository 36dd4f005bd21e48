//! The controls on simulated GPUs: noise within the victim's own place moves what it must, absence moves nothing.

use crosstalk::backend::sim::Simulator;
use crosstalk::backend::{ArmKey, Purpose};
use crosstalk::plan::exercised_channels;
use crosstalk::run_dir::{RecordedRun, SeriesData};
use crosstalk::scenario::Quantile;

use crate::support::{model, plan, run_in, simulate};

fn run(id: &str, arrangement: &str, noise: &str) -> RecordedRun {
    let text = format!(
        "schema = 1\nname = \"controls\"\n[design]\nblocks = 4\nblocks_per_generation = 2\nwindow = \"200ms\"\n\
         controls = {{ presence = 2, sensitivity = 3 }}\n[victim]\npanel = [{{ probe = \"hbm-chase\", arrivals = {{ poisson = \
         \"400/s\" }} }}]\n[[neighbour]]\nnoise = \"idle\"\n[[neighbour]]\nnoise = \"hbm-read\"\n{noise}\n[[arrangement]]\n\
         name = \"a\"\n{arrangement}\n"
    );
    let model = model(id);
    simulate(&text, &Simulator::new(model, None), model, None).0
}

/// A quantile of the device's own time, where that is known, in nanoseconds.
fn p50(run: &RecordedRun, block: u32, neighbour: Option<usize>, purpose: Purpose) -> f64 {
    let key = ArmKey { arrangement: 0, grid: 0, block, neighbour, purpose };
    let series: &SeriesData = &run.arms[&key].series["hbm-chase"];
    let latency = series.counts();
    latency.bucket(Quantile::P50).expect("requests").highest() as f64
}

#[test]
fn noise_within_the_victims_own_place_moves_its_probe_and_absence_does_not() {
    for (id, arrangement) in [
        ("h100-sxm", "sharing = \"mig\"\nlayout = [\"3g.40gb\", \"3g.40gb\"]"),
        ("h100-sxm", "sharing = \"mig-compute-instances\"\nlayout = [{ profile = \"3g.40gb\", tenants = 2 }]"),
        ("h100-sxm", "sharing = \"mps\"\nlayout = [{ sms = \"50%\" }, { sms = \"50%\" }]"),
        ("a30", "sharing = \"mig+mps\"\nlayout = [{ profile = \"2g.12gb\", tenants = 2 }]"),
    ] {
        let run = run(id, arrangement, "");
        assert!(run.no_control.is_empty(), "{arrangement}: {:?}", run.no_control);
        let pairs = run.arms.keys().filter(|key| key.purpose == Purpose::Within).count();
        assert_eq!(pairs, 6, "{arrangement}: the idle neighbour exercises nothing");
        for pair in 0..3 {
            let [quiet, noisy] = [None, Some(1)].map(|n| p50(&run, pair, n, Purpose::Within));
            assert!(noisy > 1.1 * quiet, "{arrangement}: {quiet} ns, and {noisy} beside the noise");
        }
        for block in [0, 2] {
            let [quiet, alone] = [Purpose::Block, Purpose::Alone].map(|purpose| p50(&run, block, None, purpose));
            assert!((alone / quiet - 1.0).abs() < 0.02, "{arrangement}: {quiet} ns quiet, {alone} alone");
        }
        for block in 0..4 {
            let [quiet, again] = [Purpose::Block, Purpose::Again].map(|purpose| p50(&run, block, None, purpose));
            assert!((again / quiet - 1.0).abs() < 0.02, "{arrangement}: {quiet} ns, {again} again");
        }
    }
}

#[test]
fn between_instances_the_same_noise_moves_nothing() {
    let run = run("h100-sxm", "sharing = \"mig\"\nlayout = [\"3g.40gb\", \"3g.40gb\"]", "");
    for block in 0..4 {
        let [quiet, noisy] = [None, Some(1)].map(|n| p50(&run, block, n, Purpose::Block));
        assert!((noisy / quiet - 1.0).abs() < 0.02, "{quiet} ns, {noisy} beside the noise of the other instance");
    }
}

#[test]
fn noise_that_does_not_fit_beside_the_probes_is_told_with_the_arithmetic() {
    let run =
        run("h100-sxm", "sharing = \"mig\"\nlayout = [\"3g.40gb\", \"3g.40gb\"]", "params = { footprint = \"99%\" }");
    let why = &run.no_control[&(0, 0, Purpose::Within)];
    for words in ["in the victim's own place, where they hold", "hbm-read asks for ", " are free"] {
        assert!(why.contains(words), "no {words:?} in {why}");
    }
    assert!(run.given_up.is_empty() && run.skipped.is_empty());
    assert!(run.arms.keys().any(|key| key.purpose == Purpose::Block), "the cells are measured all the same");
}

#[test]
fn two_quiet_arms_of_a_block_are_not_the_same_arm_twice() {
    let run = run("a30", "sharing = \"mps\"", "");
    let quiet = |purpose| ArmKey { arrangement: 0, grid: 0, block: 0, neighbour: None, purpose };
    assert_ne!(run.arms[&quiet(Purpose::Block)].series, run.arms[&quiet(Purpose::Again)].series);
}

#[test]
fn every_channel_of_the_quickstart_is_exercised_where_a_share_is_promised() {
    let (_, text) = crosstalk::scenario::load("quickstart").unwrap();
    let model = model("h100-sxm");
    let simulator = Simulator::new(model, None);
    let mut plan = plan(&text, &simulator, model, None);
    (plan.design.blocks, plan.design.blocks_per_generation) = (3, 3);
    plan.arrangements.truncate(2);
    let folder = tempfile::tempdir().unwrap();
    let (run, _) = run_in(&folder.path().join("run"), &simulator, &plan, &text);
    let mut pairs = 0;
    for (arrangement, planned) in plan.arrangements.iter().enumerate() {
        for neighbour in plan.exercised(arrangement, 0) {
            let noise = &plan.neighbours[neighbour];
            for probe in plan.panel.iter().filter(|probe| !exercised_channels(probe, noise).is_empty()) {
                for block in 0..3 {
                    let arm = |neighbour| {
                        let key = ArmKey { arrangement, grid: 0, block, neighbour, purpose: Purpose::Within };
                        let counts = run.arms[&key].series[&probe.name].counts();
                        counts.bucket(Quantile::P50).map_or(f64::INFINITY, |bucket| bucket.highest() as f64)
                    };
                    let (quiet, noisy) = (arm(None), arm(Some(neighbour)));
                    let what = format!("{}: {} within the place of {}", planned.name, noise.name, probe.name);
                    assert!(noisy > 1.05 * quiet, "{what}: {quiet} ns quiet, {noisy}");
                    pairs += 1;
                }
            }
        }
    }
    assert!(pairs > 30, "{pairs} pairs");
}
