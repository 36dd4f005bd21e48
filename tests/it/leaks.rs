//! Isolation broken on purpose between GPU instances: each leak is found by the probe of its channel and by no other.

use crosstalk::backend::sim::Simulator;
use crosstalk::backend::{Load, Outcome};
use crosstalk::channel::Channel;
use crosstalk::machine::Leak;
use crosstalk::units::{Nanos, Share};

use crate::support::{Bench, cell, entries, model, plan, run_in, scenario_text, series, simulate, tree};

const HALVES: &str = "sharing = \"mig\"\nlayout = [\"3g.40gb\", \"3g.40gb\"]";
const PANEL: &[&str] = &["compute", "tensor", "l1-chase", "l2-chase", "hbm-chase"];
// Cells alone: in windows so short an A/A control decides nothing.
const DESIGN: &str = "blocks = 17\nwindow = \"60ms\"\ncontrols = { again = false, presence = 0, sensitivity = 0, delay = 0, sampler = 0 }";

fn leak(channel: Channel, percent: u32) -> Vec<Leak> {
    vec![Leak { channel, share: Share::percent(percent) }]
}

#[test]
fn each_leak_is_found_by_the_probes_of_its_channel_alone() {
    let h100 = model("h100-sxm");
    // Channel, noise on it, and the probes that name it among theirs.
    for (channel, noise, moved) in [
        (Channel::BlockSlots, "compute-burst", &["compute", "tensor"] as &[_]),
        (Channel::Issue, "issue-hog", &["compute"]),
        (Channel::Tensor, "tensor-burst", &["tensor"]),
        (Channel::L1, "l1-thrash", &["l1-chase"]),
        (Channel::L2, "l2-thrash", &["l2-chase"]),
        (Channel::HbmBandwidth, "hbm-read", &["hbm-chase"]),
    ] {
        let text = scenario_text(DESIGN, &entries("probe", PANEL), &entries("noise", &[noise]), HALVES);
        let verdict = |leaks| simulate(&text, &Simulator::new(h100, None).with_leaks(leaks), h100, None).1;
        let tight = verdict(vec![]);
        let name = format!("a/{noise}");
        assert_eq!(cell(&tight, &name).verdict.word(), "isolated", "{channel}: nothing leaks");
        let leaky = verdict(leak(channel, 90));
        for probe in PANEL {
            let found = series(cell(&leaky, &name), probe, "p50");
            let word = if moved.contains(probe) { "violated" } else { "isolated" };
            assert_eq!(found.verdict.word(), word, "a leak of {channel}, seen by {probe}: {found:#?}");
        }
    }
}

/// No probe of the catalogue counts atomics, so that nobody notices theirs.
#[test]
fn a_leak_that_no_probe_feels_moves_nothing() {
    let h100 = model("h100-sxm");
    let on = |leaks| {
        let simulator = Simulator::new(h100, None).with_leaks(leaks);
        Bench::on(simulator, h100, &entries("probe", PANEL), &entries("noise", &["atomics"]), HALVES)
    };
    let (tight, leaky) = (on(vec![]), on(leak(Channel::Atomics, 90)));
    for (p, probe) in PANEL.iter().enumerate() {
        let ratio = leaky.mean(p, Some(0), Nanos::millis(20)) / tight.mean(p, Some(0), Nanos::millis(20));
        assert!((0.99..1.01).contains(&ratio), "{probe}: {ratio}");
    }
}

/// The link is shared anyway; with a leak of engines a copy waits for whole copies of the neighbour besides.
#[test]
fn a_leak_of_copy_engines_makes_copies_wait() {
    let a30 = model("a30");
    let ratio = |leaks| {
        let simulator = Simulator::new(a30, None).with_leaks(leaks);
        let noise = [r#"{ noise = "h2d", params = { bytes = "8MiB" } }"#];
        let layout = "sharing = \"mig\"\nlayout = [\"1g.6gb\", \"1g.6gb\"]";
        Bench::on(simulator, a30, &entries("probe", &["h2d"]), &noise, layout).ratio(0, 0, Nanos::millis(100))
    };
    let (tight, leaky) = (ratio(vec![]), ratio(leak(Channel::CopyEngine, 100)));
    assert!((1.5..2.1).contains(&tight), "{tight}");
    assert!(leaky > 2.0 * tight, "{leaky} with a leak, {tight} without");
}

#[test]
fn a_leak_of_memory_makes_allocations_fail() {
    let h100 = model("h100-sxm");
    let arm = |leaks| {
        let simulator = Simulator::new(h100, None).with_leaks(leaks);
        let probe = [r#"{ probe = "alloc", params = { size = "60%" } }"#];
        let noise = [r#"{ noise = "capacity-ramp", params = { peak = "60%" } }"#];
        Bench::on(simulator, h100, &probe, &noise, HALVES).arm(
            0,
            Some(0),
            Load::Closed { depth: 1 },
            Nanos::millis(200),
        )
    };
    let (tight, leaky) = (arm(vec![]), arm(leak(Channel::HbmCapacity, 90)));
    assert!(tight.samples.iter().all(|s| s.outcome == Outcome::Ok) && tight.summary.oom.is_empty());
    assert!(leaky.samples.iter().any(|s| s.outcome == Outcome::Oom));
    let (asked, free, total) =
        leaky.summary.oom.iter().find(|e| e.seat == 0).map(|e| (e.asked, e.free, e.total)).unwrap();
    assert!(free < asked && asked < total, "{asked} of {free} of {total}");
}

#[test]
fn a_leak_of_nothing_changes_no_byte() {
    let a30 = model("a30");
    let layout = "sharing = \"mig\"\nlayout = [\"2g.12gb\", \"2g.12gb\"]";
    let text = scenario_text(
        "blocks = 3\nwindow = \"30ms\"",
        &entries("probe", &["compute", "hbm-chase", "h2d"]),
        &entries("noise", &["hbm-read", "compute-burst"]),
        layout,
    );
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, leaks| {
        let simulator = Simulator::new(a30, None).with_leaks(leaks);
        let path = folder.path().join(name);
        run_in(&path, &simulator, &plan(&text, &simulator, a30, None), &text);
        tree(&path)
    };
    let reference = run("none", vec![]);
    let nothing = Channel::ALL.iter().filter(|c| leakable(**c)).flat_map(|c| leak(*c, 0)).collect::<Vec<_>>();
    assert_eq!(nothing.len(), 10, "{nothing:?}");
    assert!(run("nothing", nothing) == reference);
    assert!(run("something", leak(Channel::HbmBandwidth, 90)) != reference);
}

/// Whether the simulator takes a leak of `channel`: a resource that hangs on an instance.
fn leakable(channel: Channel) -> bool {
    let a30 = model("a30");
    let simulator = Simulator::new(a30, None).with_leaks(leak(channel, 0));
    let text = scenario_text("", &entries("probe", &["launch"]), &entries("noise", &["idle"]), "sharing = \"mps\"");
    let plan = plan(&text, &simulator, a30, None);
    crosstalk::backend::Backend::open(&simulator, &plan, 0, 0).is_ok()
}
