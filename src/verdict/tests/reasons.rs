//! Validity reasons: data that give each, and data that do not.

use super::super::order::Drift;
use super::super::synthetic::{Draw, Lab, lognormal, record};
use super::super::*;
use super::controls::again;
use super::{change, reason, slowed, untouched};
use crate::backend::{ArmKey, ArmSummary, GpuHealth, PcieLink, Purpose, RemappedRows};
use crate::experiment::blocks::order;
use crate::host::probe::HostPauses;
use crate::plan::Grid;
use crate::random::Stream;
use crate::run_dir::{Calibration, JudgedBy, SeriesData};
use crate::scenario::Quantile;
use crate::units::{Nanos, Share};

#[test]
fn arms_that_were_lost_are_told_from_those_that_never_were() {
    let lose = |run: &mut RecordedRun, lost: bool| {
        let gone: Vec<ArmKey> =
            run.arms.keys().filter(|key| key.block >= 22 && key.neighbour.is_some()).cloned().collect();
        for key in gone {
            run.arms.remove(&key);
            if lost {
                run.lost.insert(key, "the driver reports: Xid 31 on GPU 0".to_owned());
            }
        }
    };
    let mut run = untouched();
    lose(&mut run, false);
    assert_eq!(reason(&run), Reason::Incomplete);
    let mut run = untouched();
    lose(&mut run, true);
    let what = "the driver reports: Xid 31 on GPU 0".to_owned();
    assert_eq!(reason(&run), Reason::ArmsLost { arms: 2, what });
    let mut run = untouched();
    lose(&mut run, false);
    run.given_up.insert(0, "3 arms in a row were lost".to_owned());
    assert_eq!(reason(&run), Reason::ArmsLost { arms: 0, what: "3 arms in a row were lost".to_owned() });
    // Measured anew after an interruption: whole, and the arms that survive are not the only ones.
    let mut run = untouched();
    let key = run.arms.keys().find(|key| key.neighbour == Some(0)).unwrap().clone();
    run.lost_before.insert(key, "the tenant hung".to_owned());
    assert_eq!(reason(&run), Reason::ArmsLost { arms: 1, what: "the tenant hung".to_owned() });
    // Lost beside another neighbour, or of a control: not of this cell.
    let mut run = untouched();
    let key = run.arms.keys().next().unwrap().clone();
    run.lost.insert(ArmKey { neighbour: Some(7), ..key.clone() }, String::new());
    run.lost.insert(ArmKey { purpose: Purpose::Alone, ..key }, String::new());
    assert_eq!(judge(&run).cells[0].verdict, Verdict::Isolated);
    let mut run = Lab::default().run(slowed(2.5));
    lose(&mut run, true);
    assert_eq!(judge(&run).cells[0].verdict, Verdict::Violated, "it blocks Isolated alone");
}

#[test]
fn health_that_becomes_gravely_worse_between_arms_blocks_isolated() {
    let health = |width: u32, worn: u32| {
        let link = PcieLink { generation: 4, width, max_generation: None, max_width: None, replays: None };
        let remapped = Some(RemappedRows { correctable: worn, uncorrectable: 0, pending: false, failed: false });
        Some(GpuHealth { pcie: Some(link), remapped, ..GpuHealth::default() })
    };
    let with = |ratio: f64, later: &dyn Fn() -> Option<GpuHealth>| {
        let mut run = Lab::default().run(slowed(ratio));
        for (index, arm) in run.arms.values_mut().enumerate() {
            arm.summary.health = if index < 20 { health(16, 0) } else { later() };
        }
        run
    };
    let narrow = || health(8, 0);
    let what = "the PCIe link has 8 lanes where it had 16".to_owned();
    assert_eq!(reason(&with(1.0, &narrow)), Reason::DriverTrouble { what });
    assert_eq!(judge(&with(2.5, &narrow)).cells[0].verdict, Verdict::Violated);
    assert_eq!(judge(&with(1.0, &|| health(16, 1))).cells[0].verdict, Verdict::Isolated, "told, and kept");
}

#[test]
fn somebody_else_on_the_gpu_blocks_isolated_and_nobody_knowing_is_assumed() {
    let on = |ratio, line: &str| {
        let mut run = Lab::default().run(slowed(ratio));
        run.manifest.device = line.to_owned();
        run
    };
    let seen = "cuda:0; exclusive use assumed: GPU GPU-0 is in use by python3 (pid 77)";
    let what = "GPU GPU-0 is in use by python3 (pid 77)".to_owned();
    assert_eq!(reason(&on(1.0, seen)), Reason::ForeignWork { what });
    assert_eq!(judge(&on(2.5, seen)).cells[0].verdict, Verdict::Violated);
    let unknown = judge(&on(1.0, "cuda:0; exclusive use assumed: nobody can say who uses GPU GPU-0"));
    assert_eq!(unknown.cells[0].verdict, Verdict::Isolated);
    assert_eq!(unknown.assumed[0], "exclusive use assumed: nobody can say who uses GPU GPU-0");
}

#[test]
fn a_host_that_is_slower_beside_the_noise_blocks_isolated_where_it_can_touch_the_quantile() {
    let pauses = |longest: Nanos, long| Some(HostPauses { longest, long, watched: Nanos::secs(1) });
    let with = |ratio, quiet: (u64, u64), noisy: (u64, u64)| {
        let mut run = Lab::default().run(slowed(ratio));
        change(&mut run, false, |s| s.host_probe = pauses(Nanos::micros(quiet.0), quiet.1));
        change(&mut run, true, |s| s.host_probe = pauses(Nanos::micros(noisy.0), noisy.1));
        run
    };
    // The quiet p99 is about 200 µs: a quarter of its margin is 5 µs. 40 pauses of 300 µs are 1.2 % of the time.
    let Reason::HostMediated { change_ns, tolerated_ns } = reason(&with(1.0, (60, 1), (300, 40))) else {
        panic!("not the host")
    };
    assert_eq!(change_ns, 240_000.0);
    assert!((4_500.0..5_500.0).contains(&tolerated_ns), "{tolerated_ns}");
    assert_eq!(judge(&with(2.5, (60, 1), (300, 40))).cells[0].verdict, Verdict::Violated);
    // A host that is slower in the quiet arms hides what the noise does, and is no cause of what it does all the same.
    let hidden = with(1.0, (300, 40), (60, 1));
    let Reason::HostMediated { change_ns, .. } = reason(&hidden) else { panic!("not the host") };
    assert_eq!(change_ns, -240_000.0);
    let found = judge(&with(2.5, (300, 40), (60, 1))).cells.remove(0);
    assert_eq!(found.verdict, Verdict::Violated);
    assert!(!found.series[0].cause.as_ref().unwrap().text.contains("pauses"), "{:?}", found.series[0].cause);
    for (why, quiet, noisy) in [
        ("equal in both arms", (300, 40), (300, 40)),
        ("within a quarter of the margin", (300, 40), (304, 40)),
        ("slower when quiet, within a quarter of the margin", (304, 40), (300, 40)),
        ("slower when quiet, too rare to touch a p99", (300, 2), (60, 1)),
        ("too rare to touch a p99", (60, 1), (300, 2)),
    ] {
        assert_eq!(judge(&with(1.0, quiet, noisy)).cells[0].verdict, Verdict::Isolated, "{why}");
    }
    // Without a thread of its own the sender tells of its longest pause, and of no other.
    for (longest, word) in [(Nanos::millis(5), "inconclusive"), (Nanos::millis(1), "isolated")] {
        let mut run = untouched();
        change(&mut run, false, |s| s.host_pause = Some(Nanos::micros(20)));
        change(&mut run, true, |s| s.host_pause = Some(longest));
        assert_eq!(judge(&run).cells[0].verdict.word(), word, "{longest}");
    }
}

/// What nobody could look for is no absence of it: the scope says so.
#[test]
fn a_host_that_nobody_watched_is_said() {
    let said = |run: &RecordedRun| judge(run).assumed.contains(&"host not watched by a thread of its own".to_owned());
    let seen = HostPauses { longest: Nanos::micros(60), long: 1, watched: Nanos::secs(1) };
    let mut run = untouched();
    run.manifest.plan.inventory.provenance = crate::provenance::Provenance::Measured;
    assert!(said(&run));
    for noisy in [false, true] {
        change(&mut run, noisy, |s| s.host_pause = Some(Nanos::micros(20)));
    }
    assert!(said(&run), "a sender knows its longest pause and no other");
    change(&mut run, true, |s| s.host_probe = Some(seen));
    assert!(said(&run), "in the noisy arms alone: nothing to compare with");
    change(&mut run, false, |s| s.host_probe = Some(seen));
    assert!(!said(&run));
    run.arms.values_mut().next().unwrap().summary.host_probe = None;
    assert!(said(&run), "in all arms but one");
}

#[test]
fn a_carry_over_that_could_not_be_looked_for_is_said() {
    let with = |how: &dyn Fn(&mut RecordedRun)| {
        let mut run = with_heat(1.0, slowed(1.0));
        how(&mut run);
        let mut verdict = judge(&run);
        let about = |said: &String| said.starts_with("carry-over");
        let assumed = verdict.assumed.into_iter().filter(about).collect::<Vec<_>>();
        (verdict.cells.remove(0).series.remove(0).unwatched.contains(&Unwatched::CarryOver), assumed)
    };
    assert_eq!(with(&|_| ()), (false, vec![]));
    let said = || (true, vec!["carry-over not looked for".to_owned()]);
    let no_again = |run: &mut RecordedRun| run.manifest.plan.design.controls.again = false;
    let pooled = |run: &mut RecordedRun| {
        let probes = run.calibrations.values_mut().flat_map(|c| &mut c.probes);
        probes.for_each(|p| p.judged = vec![(Quantile::P99, JudgedBy::Pooled)]);
    };
    // Noise that heats comes last in its block, and after a restart nothing is left of it.
    let restarts = |run: &mut RecordedRun| {
        run.manifest.plan.design.blocks_per_generation = 1;
        run.manifest.plan.neighbours[0].channels.push(Channel::Power);
    };
    assert_eq!(with(&no_again), said());
    let at_the_median = "carry-over and drift looked for at the median alone";
    assert_eq!(with(&pooled), (false, vec![at_the_median.to_owned()]));
    assert_eq!(with(&restarts), said());
    // Those that were not are named, where others were looked for.
    let lab = Lab { panel: vec![("a", Channel::L2), ("b", Channel::L2)], blocks: 48, again: true, ..Lab::default() };
    let mut run = lab.run(|stream, _| lognormal(stream));
    let grids = &mut run.manifest.plan.arrangements[0].grids;
    grids.push(Grid { probes: vec![1], first_block: 48, ..grids[0].clone() });
    grids[0].probes = vec![0];
    let calibration = run.calibrations[&(0, 0)].clone();
    run.calibrations.insert((0, 1), Calibration { grid: 1, ..calibration });
    let moved: Vec<_> =
        run.arms.iter().map(|(k, arm)| (ArmKey { grid: 1, block: k.block + 48, ..k.clone() }, arm.clone())).collect();
    run.arms.extend(moved);
    let pooled = run.calibrations.get_mut(&(0, 1)).unwrap();
    pooled.probes.iter_mut().for_each(|p| p.judged[0].1 = JudgedBy::Pooled);
    let assumed = judge(&run).assumed;
    assert!(assumed.contains(&format!("{at_the_median} at b p99 in pair")), "{assumed:?}");
}

/// A pooled quantile has no arm of its own to look at: what moves the whole of the quiet arms shows at their median.
#[test]
fn heat_is_seen_where_the_quantile_is_pooled() {
    let mut run = with_heat(1.08, slowed(1.0));
    let probes = run.calibrations.values_mut().flat_map(|c| &mut c.probes);
    probes.for_each(|p| p.judged = vec![(Quantile::P99, JudgedBy::Pooled)]);
    let Reason::CarryOver { ratio } = reason(&run) else { panic!("no carry-over") };
    assert!((1.04..1.12).contains(&ratio), "{ratio}");
}

/// Too little to spoil the run and enough to hide some of the interference: by so much the bounds keep away. Half of the margin
/// at p99 is 4.9 % (on the log scale).
#[test]
fn a_small_carry_over_widens_the_bounds_by_itself() {
    let ratio = |heat: f64| judge(&with_heat(heat, slowed(1.05))).cells.remove(0).series.remove(0).ratio.unwrap();
    let (without, with) = (ratio(1.0), ratio(1.045));
    let apart = |i: Interval| (i.high.unwrap() / i.estimate, i.low.unwrap() / i.estimate);
    assert!(apart(with).0 > apart(without).0 * 1.015, "{with:?} {without:?}");
    assert!(apart(with).1 < apart(without).1 / 1.015, "{with:?} {without:?}");
}

/// Tenants that come up after a lost arm know nothing of the noise before it.
#[test]
fn an_arm_after_a_lost_one_follows_a_restart() {
    let heated = |lose: bool| {
        let mut run = with_heat(1.08, slowed(1.0));
        let noisy: Vec<ArmKey> = run.arms.keys().filter(|key| key.neighbour.is_some()).cloned().collect();
        for key in noisy {
            if lose {
                run.arms.remove(&key);
                run.lost.insert(key, "the tenant hung".to_owned());
            }
        }
        judge(&run).cells.remove(0)
    };
    assert!(matches!(heated(false).series[0].verdict, Verdict::Inconclusive { reason: Reason::CarryOver { .. } }));
    assert!(heated(true).series[0].unwatched.contains(&Unwatched::CarryOver));
}

/// A run whose quiet arms are `ratio` times as slow where they follow noise.
fn with_heat(ratio: f64, latency: impl Fn(&mut Stream, Draw) -> f64) -> RecordedRun {
    let mut run = Lab { blocks: 48, ..Lab::default() }.run(latency);
    again(&mut run, 1.0);
    let plan = run.manifest.plan.clone();
    for block in 0..48 {
        let keys = order(&plan, 0, 0, block);
        for pair in keys.windows(2) {
            if let [before, after] = pair
                && before.neighbour.is_some()
                && after.neighbour.is_none()
            {
                let mut stream = Stream::new(block.into(), &[crate::random::Key::Name("heat")]);
                let mut data = SeriesData::default();
                (0..1_000).for_each(|_| super::record(&mut data, ratio * lognormal(&mut stream)));
                let arm = run.arms.get_mut(after).unwrap();
                arm.series.insert("hbm-chase".to_owned(), data);
            }
        }
    }
    run
}

#[test]
fn what_a_noisy_arm_leaves_in_the_quiet_ones_decides_whatever_the_data_show() {
    let Reason::CarryOver { ratio } = reason(&with_heat(1.08, slowed(2.5))) else { panic!("no carry-over") };
    assert!((1.04..1.12).contains(&ratio), "{ratio}");
    assert_eq!(judge(&with_heat(1.0, slowed(1.0))).cells[0].verdict, Verdict::Isolated);
    // Significant, and less than half the margin.
    assert_eq!(judge(&with_heat(1.02, slowed(1.0))).cells[0].verdict, Verdict::Isolated);
}

#[test]
fn a_slow_drift_is_noted_and_a_steep_one_decides() {
    let drifting = |per_block: f64| {
        Lab::default().run(move |stream, draw| lognormal(stream) * libm::exp(per_block * f64::from(draw.block)))
    };
    // A quarter of ln 1.1 is 2.4 % a block.
    let cell = judge(&drifting(0.012)).cells.remove(0);
    assert_eq!(cell.verdict, Verdict::Isolated);
    let [Reason::Drift { per_block }] = cell.notes[..] else { panic!("{:?}", cell.notes) };
    assert!((0.009..0.016).contains(&per_block), "{per_block}");
    let Reason::Drift { per_block } = reason(&drifting(-0.04)) else { panic!("{:?}", reason(&drifting(-0.04))) };
    assert!((-0.044..-0.034).contains(&per_block), "{per_block}");
    assert!(judge(&drifting(0.001)).cells[0].notes.is_empty());
}

#[test]
fn a_drift_is_the_median_slope_where_order_and_value_agree() {
    let line: Vec<(u32, f64)> = (0..10).map(|block| (block, 0.5 * f64::from(block))).collect();
    assert_eq!(Drift::of(&line), Some(Drift { per_block: 0.5, blocks: 9.0 }));
    assert_eq!(Drift::of(&[]), None);
    assert_eq!(Drift::of(&[(0, 1.0), (1, 2.0)]), None, "two points are no drift");
    let flat: Vec<(u32, f64)> = (0..10).map(|block| (block, 1.0)).collect();
    assert_eq!(Drift::of(&flat), None);
    // A single step in the middle of the run has no slope.
    let zigzag: Vec<(u32, f64)> = (0..20).map(|block| (block, f64::from(block % 2))).collect();
    assert_eq!(Drift::of(&zigzag), None);
}

#[test]
fn too_few_cores_block_isolated_alone_and_explain_lateness() {
    for (ratio, expected) in [(1.0, None), (2.5, Some(Verdict::Violated))] {
        let mut run = Lab::default().run(slowed(ratio));
        for noisy in [false, true] {
            change(&mut run, noisy, |s| (s.too_few_cores, s.windows[0].late) = (true, 100));
        }
        match expected {
            None => assert_eq!(reason(&run), Reason::TooFewCores),
            Some(verdict) => assert_eq!(judge(&run).cells[0].verdict, verdict),
        }
    }
}

/// Each reason: how it looks, in which arms, and that in noisy arms it blocks Isolated while Violated stands.
#[test]
fn reasons_that_the_neighbour_can_cause_block_isolated_and_not_violated() {
    type Change = fn(&mut ArmSummary);
    let cases: [(Change, Reason); 5] = [
        (|s| s.windows[0].late = 2, Reason::LateRequests { share: 0.002 }),
        (|s| (s.windows[0].open_at_half, s.windows[0].open_at_end) = (50, 110), Reason::Backlog),
        (|s| s.neighbours[0].rate = 50.0, Reason::NeighbourBelowIntensity { achieved: 0.05 / 0.25 }),
        (|s| s.neighbours[0].pending = 0.495, Reason::NeighbourBelowIntensity { achieved: 0.5 }),
        (|s| s.neighbours[0].longest_gap = Nanos::millis(300), Reason::NeighbourNotOverlapping { gap_ns: 300_000_000 }),
    ];
    for (how, expected) in cases {
        for (ratio, word) in [(1.0, "inconclusive"), (2.5, "violated")] {
            let mut run = Lab::default().run(slowed(ratio));
            change(&mut run, true, how);
            assert_eq!(judge(&run).cells[0].verdict.word(), word, "{expected:?} at {ratio}");
            if word == "inconclusive" {
                let found = reason(&run);
                let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
                match (&found, &expected) {
                    (
                        Reason::NeighbourBelowIntensity { achieved: a },
                        Reason::NeighbourBelowIntensity { achieved: b },
                    ) => assert!(close(*a, *b), "{found:?}"),
                    _ => assert_eq!(found, expected),
                }
            }
        }
    }
}

#[test]
fn reasons_in_the_quiet_arms_decide_whatever_the_data_show() {
    type Change = fn(&mut ArmSummary);
    let cases: [(Change, Reason); 3] = [
        (|s| s.windows[0].late = 2, Reason::LateRequests { share: 0.002 }),
        (|s| (s.windows[0].open_at_half, s.windows[0].open_at_end) = (50, 110), Reason::Backlog),
        (|s| s.throttled = Some(0.5), Reason::Throttled { share: 0.5 }),
    ];
    for (how, expected) in cases {
        let mut run = Lab::default().run(slowed(2.5));
        change(&mut run, false, how);
        assert_eq!(reason(&run), expected);
    }
}

#[test]
fn failures_count_as_never_served_and_few_of_them_are_noted() {
    let with = |quiet: u64, noisy: u64| {
        Lab::default().run_of(move |stream, draw| {
            let mut data = SeriesData::default();
            (0..1_000).for_each(|_| record(&mut data, lognormal(stream)));
            data.failed = if draw.neighbour.is_some() { noisy } else { quiet };
            data
        })
    };
    let cell = judge(&with(0, 250)).cells.remove(0);
    assert_eq!(cell.verdict, Verdict::Violated);
    assert_eq!(cell.series[0].cause.as_ref().unwrap().text, "20.0 % of the requests failed");
    assert!(matches!(reason(&with(0, 2)), Reason::Failures { .. }));
    assert!(matches!(reason(&with(250, 250)), Reason::Failures { .. }));
    let cell = judge(&with(0, 1)).cells.remove(0);
    assert_eq!(cell.verdict, Verdict::Isolated);
    assert_eq!(cell.notes, [Reason::Failures { share: 1.0 / 1_001.0 }]);
}

#[test]
fn throttling_that_the_neighbour_causes_is_interference_and_named() {
    let mut run = untouched();
    change(&mut run, true, |s| s.throttled = Some(0.4));
    let cell = judge(&run).cells.remove(0);
    assert_eq!(cell.verdict, Verdict::Isolated);
    assert!(matches!(cell.notes[..], [Reason::Throttled { share }] if (share - 0.4).abs() < 1e-9));
}

#[test]
fn a_quiet_arm_that_was_not_awake_is_no_reference() {
    let run = Lab::default().run(slowed(0.8));
    assert_eq!(reason(&run), Reason::QuietArmNotAwake);
    let mut run = untouched();
    change(&mut run, false, |s| s.sm_mhz = Some(1_700.0));
    assert_eq!(reason(&run), Reason::QuietArmNotAwake);
    let mut run = untouched();
    change(&mut run, true, |s| s.sm_mhz = Some(1_700.0));
    assert_eq!(judge(&run).cells[0].verdict, Verdict::Isolated, "a lower clock in the noisy arms is interference");
}

#[test]
fn intensity_asks_more_of_a_seat_with_a_share_of_its_own() {
    for (sharing, word) in [(SharingMode::Mig, "inconclusive"), (SharingMode::TimeSlicing, "isolated")] {
        let mut run = Lab { sharing, ..Lab::default() }.run(|stream, _| lognormal(stream));
        change(&mut run, true, |s| s.neighbours[0].rate = 600.0);
        assert_eq!(judge(&run).cells[0].verdict.word(), word, "{sharing}");
    }
    // Nobody reported: that is no noise. Without noise by design nothing is asked.
    let silent = |workload: &'static str, sharing| {
        let neighbours = vec![("n", workload, Channel::Host)];
        let mut run = Lab { sharing, neighbours, ..Lab::default() }.run(|stream, _| lognormal(stream));
        change(&mut run, true, |s| s.neighbours.clear());
        judge(&run).cells[0].verdict.word()
    };
    assert_eq!(silent("hbm-read", SharingMode::Mps), "inconclusive");
    assert_eq!(silent("idle", SharingMode::Mps), "isolated");
    assert_eq!(silent("hbm-read", SharingMode::Exclusive), "isolated");
}

/// In 3 of 24 arms the neighbour stood almost all of the time: three requests of the rate that is left of it would take
/// longer than the window.
#[test]
fn a_stall_does_not_excuse_itself() {
    let mut run = untouched();
    let noisy = run.arms.iter_mut().filter(|(key, _)| key.neighbour.is_some() && key.block < 3);
    noisy.for_each(|(_, arm)| {
        (arm.summary.neighbours[0].rate, arm.summary.neighbours[0].longest_gap) = (2.0, Nanos::secs(1));
    });
    assert_eq!(reason(&run), Reason::NeighbourNotOverlapping { gap_ns: 1_000_000_000 });
}

#[test]
fn a_neighbour_that_nobody_reports_of_did_nothing() {
    let mut run = untouched();
    let noisy = run.arms.iter_mut().filter(|(key, _)| key.neighbour.is_some() && key.block < 2);
    noisy.for_each(|(_, arm)| {
        arm.summary.neighbours.clear();
    });
    // 22 arms of 24 are 87 % of the solo rate, and work was pending for 92 % of the time.
    assert!(matches!(reason(&run), Reason::NeighbourBelowIntensity { .. }));
    let neighbour = &mut run.manifest.plan.neighbours[0];
    (neighbour.duty, neighbour.burst) = (Share::percent(90), Nanos::millis(10));
    assert_eq!(reason(&run), Reason::NeighbourNotOverlapping { gap_ns: 1_000_000_000 });
    // One of two seats.
    let mut run = untouched();
    run.manifest.plan.arrangements[0].grids[0].neighbour_seats = vec![1, 2];
    assert_eq!(reason(&run), Reason::NeighbourBelowIntensity { achieved: 0.0 });
}

#[test]
fn a_window_that_nobody_summed_up_is_not_on_time() {
    let mut run = untouched();
    let arm = run.arms.values_mut().next().unwrap();
    arm.summary.windows.clear();
    assert_eq!(reason(&run), Reason::Incomplete);
}

#[test]
fn a_pause_that_the_duty_asks_for_is_no_gap() {
    let mut run = untouched();
    let neighbour = &mut run.manifest.plan.neighbours[0];
    (neighbour.duty, neighbour.burst) = (Share::percent(50), Nanos::millis(400));
    change(&mut run, true, |s| (s.neighbours[0].longest_gap, s.neighbours[0].pending) = (Nanos::millis(300), 0.5));
    assert_eq!(judge(&run).cells[0].verdict, Verdict::Isolated);
}
