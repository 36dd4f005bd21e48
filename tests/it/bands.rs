//! The published bands (nebuly's and the field's, see each test) and what each mode is known to isolate. Nothing in the
//! simulator states them: they emerge from demands that meet shared resources.

use crosstalk::backend::sim::Simulator;
use crosstalk::backend::{ArmRecord, Load};
use crosstalk::units::Nanos;

use crate::support::{Bench, cell, entries, mean_latency, model, scenario_text, series, simulate};

const SHORT: Nanos = Nanos::millis(100);
/// A victim and a neighbour that do the same work.
const SAME_COMPUTE: (&str, &str) = (
    r#"{ probe = "compute", params = { kernel = "5ms" } }"#,
    r#"{ noise = "issue-hog", params = { kernel = "5ms" } }"#,
);
const SAME_STREAM: (&str, &str) = (
    r#"{ probe = "hbm-burst", params = { footprint = "8GiB", kernel = "500us" } }"#,
    r#"{ noise = "hbm-read", params = { footprint = "8GiB", kernel = "500us" } }"#,
);
const SAME_LAUNCH: (&str, &str) = (r#"{ probe = "launch" }"#, r#"{ noise = "launch-storm" }"#);
const HALVES: &str = "sharing = \"mig\"\nlayout = [\"3g.40gb\", \"3g.40gb\"]";
const SEVENTHS: &str = r#"sharing = "mig"
layout = ["1g.10gb", "1g.10gb", "1g.10gb", "1g.10gb", "1g.10gb", "1g.10gb", "1g.10gb"]"#;

/// Rate alone ÷ rate beside neighbours that do the same without a pause.
fn slowdown(bench: &Bench) -> f64 {
    // Long enough for many turns of everybody; launches are so short that a hundredth of that is plenty.
    let length = if bench.probe() == "launch" { Nanos::millis(30) } else { Nanos::secs(3) };
    bench.rate(0, None, length) / bench.rate(0, Some(0), length)
}

/// published-numbers.md: A100, 3, 5 and 7 tenants: 3.33, 5.55 and 7.77 times the time of one. Each of N saturating tenants
/// has one quantum in N, and each quantum costs a switch besides: N × (1 + 170 µs ÷ 2.09 ms) = 1.08 N.
#[test]
fn n_saturating_tenants_in_turns_take_n_times_as_long() {
    for id in ["a100-80gb", "h100-sxm"] {
        let mut last = 1.0;
        for n in [2, 3, 5, 7] {
            let arrangement = format!("sharing = \"time-slicing\"\ntenants = {n}");
            for (probe, noise) in [SAME_COMPUTE, SAME_STREAM] {
                let ratio = slowdown(&Bench::new(model(id), &[probe], &[noise], &arrangement));
                let n = f64::from(n);
                assert!((0.95 * n..=1.25 * n).contains(&ratio), "{id}, {n} tenants, {probe}: {ratio:.3}");
                assert!(ratio > last, "more tenants, longer turns");
            }
            last = f64::from(n);
        }
    }
}

/// published-numbers.md: MPS 1.86, 2.74 and 3.64 at 3, 5 and 7 tenants, always below time-slicing. Work that saturates one
/// resource reaches N; work that leaves all of them free stays at 1.
#[test]
fn n_tenants_under_mps_take_between_one_and_n_times_as_long_and_less_than_in_turns() {
    for id in ["a100-80gb", "h100-sxm"] {
        for n in [2, 3, 5, 7] {
            for (probe, noise) in [SAME_COMPUTE, SAME_STREAM, SAME_LAUNCH] {
                let under = |mode: &str| {
                    let entries = vec!["{}"; n].join(", ");
                    let layout = format!("sharing = \"{mode}\"\nlayout = [{entries}]");
                    slowdown(&Bench::new(model(id), &[probe], &[noise], &layout))
                };
                let ratio = under("mps");
                let n = n as f64;
                assert!((0.99..=1.01 * n).contains(&ratio), "{id}, {n} tenants, {probe}: {ratio:.3}");
                assert!(ratio < under("time-slicing"), "{id}, {n} tenants, {probe}");
                match probe {
                    _ if probe == SAME_LAUNCH.0 => assert!(ratio < 1.05, "{ratio}: launches alone contend for nothing"),
                    _ => assert!(ratio > 0.9 * n, "{ratio}: it saturates what is shared"),
                }
            }
        }
    }
}

/// An SM percentage is a share of SMs, not of what hangs on the domain (published-numbers.md, bands).
#[test]
fn percentages_of_sms_protect_sms_and_not_bandwidth() {
    for id in ["a100-80gb", "h100-sxm"] {
        let bench = Bench::new(
            model(id),
            &[
                r#"{ probe = "compute" }"#,
                // So large that what L2 holds of it does not count.
                r#"{ probe = "hbm-burst", params = { footprint = "4GiB" } }"#,
                r#"{ probe = "hbm-chase" }"#,
                r#"{ probe = "l2-chase" }"#,
            ],
            &[r#"{ noise = "compute-burst" }"#, r#"{ noise = "hbm-read" }"#, r#"{ noise = "l2-thrash" }"#],
            "sharing = \"mps\"\nlayout = [{ sms = \"50%\" }, { sms = \"50%\" }]",
        );
        let ratio = |probe, noise| bench.ratio(probe, noise, SHORT);
        assert!((0.99..1.01).contains(&ratio(0, 0)), "{id}: SMs are kept apart");
        assert!((1.5..2.1).contains(&ratio(1, 1)), "{id}: two streams halve the bandwidth, {}", ratio(1, 1));
        assert!(ratio(2, 1) > 1.2, "{id}: latency at a loaded memory, {}", ratio(2, 1));
        assert!(ratio(3, 2) > 1.2, "{id}: lines of L2 are lost, {}", ratio(3, 2));
    }
}

fn clock_is_untouched(quiet: &ArmRecord, noisy: &ArmRecord) {
    assert_eq!(noisy.summary.throttled, Some(0.0));
    let (quiet, noisy) = (quiet.summary.sm_mhz.unwrap(), noisy.summary.sm_mhz.unwrap());
    assert!((quiet - noisy).abs() < 1e-6 * quiet, "{quiet} and {noisy} MHz");
}

/// published-numbers.md: MIG 1g.10gb 0.997, 1.009 and 1.006 at 3, 5 and 7 tenants; band: ≤ 1.01 for noise on SMs, L2 and
/// device memory, with no throttle reason and an equal clock.
#[test]
fn mig_keeps_sms_l2_and_device_memory_apart() {
    let panel = ["compute", "l1-chase", "l2-chase", "hbm-chase", "hbm-burst", "weak-chase"];
    let noise =
        ["compute-burst", "issue-hog", "l1-thrash", "l2-thrash", "hbm-read", "hbm-write", "hbm-copy", "atomics"];
    for id in ["a100-80gb", "h100-sxm"] {
        for layout in [HALVES, SEVENTHS] {
            let bench = Bench::new(model(id), &entries("probe", &panel), &entries("noise", &noise), layout);
            for (p, probe) in panel.iter().enumerate() {
                let load = Load::Closed { depth: 1 };
                let length = Nanos::millis(20);
                let quiet = bench.arm(p, None, load, length);
                for (n, noise) in noise.iter().enumerate() {
                    let noisy = bench.arm(p, Some(n), load, length);
                    let ratio = mean_latency(&noisy) / mean_latency(&quiet);
                    assert!((0.99..=1.01).contains(&ratio), "{id}, {layout}, {probe} beside {noise}: {ratio:.4}");
                    clock_is_untouched(&quiet, &noisy);
                }
            }
        }
    }
}

/// published-numbers.md: an instance of one seventh alone costs 3.89 times the whole card, for a model that fills it.
#[test]
fn a_seventh_alone_costs_several_times_the_whole_card() {
    let probe = &[r#"{ probe = "inference" }"#];
    let noise = &[r#"{ noise = "idle" }"#];
    for id in ["a100-80gb", "h100-sxm"] {
        let whole = Bench::new(model(id), probe, noise, "sharing = \"exclusive\"").mean(0, None, SHORT);
        let seventh = Bench::new(model(id), probe, noise, SEVENTHS).mean(0, None, SHORT);
        let ratio = seventh / whole;
        assert!((3.0..=8.0).contains(&ratio), "{id}: {ratio:.2}");
    }
}

/// published-numbers.md, "MIG is not total isolation": barriers reach strong loads and nothing else, the last-level TLB
/// and the PCIe link hang on the GPU.
#[test]
fn what_hangs_on_the_gpu_crosses_instances() {
    let bench = |id| {
        Bench::new(
            model(id),
            &[
                r#"{ probe = "strong-chase" }"#,
                r#"{ probe = "weak-chase" }"#,
                r#"{ probe = "tlb-chase" }"#,
                r#"{ probe = "h2d" }"#,
            ],
            &[
                r#"{ noise = "membar-storm" }"#,
                r#"{ noise = "tlb-thrash" }"#,
                r#"{ noise = "h2d", params = { bytes = "8MiB" } }"#,
                r#"{ noise = "bidirectional" }"#,
            ],
            HALVES,
        )
    };
    for id in ["a100-80gb", "h100-sxm"] {
        let bench = bench(id);
        let ratio = |probe, noise| bench.ratio(probe, noise, SHORT);
        let near_one = |r: f64| (0.99..=1.01).contains(&r);
        assert!(ratio(0, 0) > 1.5, "{id}: strong loads wait for barriers, {}", ratio(0, 0));
        assert!(near_one(ratio(1, 0)), "{id}: weak loads do not, {}", ratio(1, 0));
        assert!(ratio(2, 1) > 1.2, "{id}: the TLB is shared, {}", ratio(2, 1));
        assert!((1.5..=2.1).contains(&ratio(3, 2)), "{id}: two copies halve the link, {}", ratio(3, 2));
        assert!(ratio(3, 3) > 1.25, "{id}: so does traffic both ways, {}", ratio(3, 3));
        // Each of these channels is one of its own.
        for (probe, noise) in [(0, 1), (0, 2), (1, 1), (1, 2), (2, 0), (2, 2), (3, 0), (3, 1)] {
            let ratio = ratio(probe, noise);
            assert!(near_one(ratio), "{id}: probe {probe} beside noise {noise}: {ratio}");
        }
    }
}

/// published-numbers.md: above the power cap any MIG cell may be violated, clock-mediated. Six instances of an H100 PCIe on
/// tensor cores and memory at once exceed its 350 W.
#[test]
fn a_power_virus_next_door_slows_compute_by_the_clock() {
    let text = scenario_text(
        "window = \"100ms\"\nblocks = 17",
        &[r#"{ probe = "compute" }"#, r#"{ probe = "hbm-chase" }"#],
        &[r#"{ noise = "tensor-burst" }"#],
        SEVENTHS,
    );
    let model = model("h100-pcie");
    let (run, verdict) = simulate(&text, &Simulator::new(model, None), model, None);
    let cell = cell(&verdict, "a/tensor-burst");
    let compute = series(cell, "compute", "p50");
    assert!(matches!(compute.verdict.word(), "degraded" | "violated"), "{compute:#?}");
    assert_eq!(compute.cause.as_ref().map(|c| c.word.as_str()), Some("clock"), "{compute:#?}");
    assert_eq!(series(cell, "hbm-chase", "p50").verdict.word(), "isolated", "memory does not scale with the SM clock");
    for (key, arm) in run.arms.iter().filter(|(key, _)| key.purpose.is_block()) {
        let throttled = arm.summary.throttled.unwrap();
        assert_eq!(throttled > 0.5, key.neighbour.is_some(), "{key:?}: {throttled}");
    }
}

/// published-numbers.md: two compute instances of one GPU instance share its memory, bandwidth and L2; SMs they own.
#[test]
fn compute_instances_share_memory_and_not_sms() {
    for id in ["a100-80gb", "h100-sxm"] {
        let bench = Bench::new(
            model(id),
            &[
                r#"{ probe = "compute" }"#,
                r#"{ probe = "l1-chase" }"#,
                r#"{ probe = "hbm-burst" }"#,
                r#"{ probe = "l2-chase" }"#,
            ],
            &[
                r#"{ noise = "compute-burst" }"#,
                r#"{ noise = "l1-thrash" }"#,
                r#"{ noise = "hbm-read" }"#,
                r#"{ noise = "l2-thrash" }"#,
            ],
            "sharing = \"mig-compute-instances\"\nlayout = [\"1c.3g.40gb\", \"2c.3g.40gb\"]",
        );
        for n in 0..2 {
            let ratio = bench.ratio(n, n, SHORT);
            assert!((0.99..=1.01).contains(&ratio), "{id}: SMs are their own, {ratio}");
        }
        let (stream, chase) = (bench.ratio(2, 2, SHORT), bench.ratio(3, 3, SHORT));
        assert!(stream > 1.3, "{id}: bandwidth is shared, {stream}");
        assert!(chase > 1.2, "{id}: L2 is shared, {chase}");
    }
}

/// The references: beside a GPU of its own, and beside nobody, nothing moves. Of two GPUs the driver's locks may.
#[test]
fn separate_gpus_and_exclusive_move_nothing() {
    let panel = ["compute", "tensor", "hbm-chase", "hbm-burst", "strong-chase", "tlb-chase", "h2d", "launch"];
    let noise =
        ["compute-burst", "tensor-burst", "hbm-read", "membar-storm", "tlb-thrash", "bidirectional", "launch-storm"];
    for mode in ["separate-gpus", "exclusive"] {
        let bench = Bench::new(
            model("h100-sxm"),
            &entries("probe", &panel),
            &entries("noise", &noise),
            &format!("sharing = \"{mode}\""),
        );
        for (p, probe) in panel.iter().enumerate() {
            let length = Nanos::millis(20);
            let quiet = bench.mean(p, None, length);
            for (n, noise) in noise.iter().enumerate() {
                let ratio = bench.mean(p, Some(n), length) / quiet;
                assert!((0.99..=1.01).contains(&ratio), "{mode}: {probe} beside {noise}: {ratio:.4}");
            }
        }
    }
}
