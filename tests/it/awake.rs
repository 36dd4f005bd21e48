//! "More noise never helps" is false: where a GPU falls asleep for want of work, the noisy arm is the faster one, and the
//! verdict must refuse to call that isolation.

use crosstalk::backend::sim::Simulator;
use crosstalk::gpu::GpuModel;
use crosstalk::verdict::{Reason, Verdict};

use crate::support::{cell, model, scenario_text, series, simulate};

/// An H100 whose SM clock falls from 1980 to 345 MHz after 5 ms without work.
fn sleepy() -> &'static GpuModel {
    let mut sleepy = model("h100-sxm").clone();
    sleepy.clock.idle_after_ms = Some(5.0);
    Box::leak(Box::new(sleepy))
}

fn verdict(model: &'static GpuModel, rate: u32, sharing: &str) -> crosstalk::verdict::RunVerdict {
    let panel = [format!(
        "{{ probe = \"compute\", params = {{ kernel = \"5ms\" }}, arrivals = {{ poisson = \"{rate}/s\" }} }}"
    )];
    let neighbours = [r#"{ noise = "idle" }"#, r#"{ noise = "issue-hog" }"#];
    let text = scenario_text("blocks = 17\nwindow = \"3s\"\njudged = [\"p50\"]", &panel, &neighbours, sharing);
    simulate(&text, &Simulator::new(model, None), model, None).1
}

/// Alone, a request every 100 ms meets the lowest clock: 5 ms × 1980 ÷ 345 = 29 ms. A hog keeps the clock up, and half of
/// the turns are then the better deal: about 12 ms.
#[test]
fn a_noisy_arm_that_is_faster_is_refused() {
    let verdict = verdict(sleepy(), 10, "sharing = \"time-slicing\"");
    assert_eq!(cell(&verdict, "a/idle").verdict, Verdict::Isolated, "asleep in both arms");
    let noisy = cell(&verdict, "a/issue-hog");
    let p50 = series(noisy, "compute", "p50");
    assert!(p50.ratio.unwrap().high.unwrap() < 0.7, "{p50:#?}");
    assert_eq!(noisy.verdict, Verdict::Inconclusive { reason: Reason::QuietArmNotAwake }, "{p50:#?}");
}

/// The same on a GPU that stays awake: nothing but turns is left.
#[test]
fn awake_in_both_arms_the_turns_are_seen() {
    let verdict = verdict(model("h100-sxm"), 10, "sharing = \"time-slicing\"");
    let p50 = series(cell(&verdict, "a/issue-hog"), "compute", "p50");
    assert_eq!(p50.verdict, Verdict::Violated, "{p50:#?}");
}

/// Where the victim keeps the GPU awake between its requests, a sleepy one is like any other.
#[test]
fn a_victim_that_keeps_the_gpu_awake_is_judged() {
    let sharing = "sharing = \"mig\"\nlayout = [\"3g.40gb\", \"3g.40gb\"]";
    let verdict = verdict(sleepy(), 40, sharing);
    assert_eq!(cell(&verdict, "a/issue-hog").verdict, Verdict::Isolated);
}
