mod causes;
mod controls;
mod further_quiet;
mod objectives;
mod reasons;

use super::synthetic::{Draw, Lab, exit_code, lognormal, record, rules};
use super::*;
use crate::backend::{ArmSummary, EccErrors, GpuHealth, PcieLink};
use crate::plan::Grid;
use crate::random::Stream;
use crate::run_dir::{JudgedBy, SeriesData};
use crate::scenario::{Arrivals, Quantile, SharingMode, Word};
use crate::units::Rate;

/// A run in which nothing is slowed.
fn untouched() -> RecordedRun {
    Lab::default().run(|stream, _| lognormal(stream))
}

/// The latency of a victim that is slowed by `ratio`.
fn slowed(ratio: f64) -> impl Fn(&mut Stream, Draw) -> f64 {
    move |stream, draw| lognormal(stream) * if draw.neighbour.is_some() { ratio } else { 1.0 }
}

/// Changes the summaries of the quiet or of the noisy arms.
fn change(run: &mut RecordedRun, noisy: bool, change: impl Fn(&mut ArmSummary)) {
    run.arms
        .iter_mut()
        .filter(|(key, _)| key.neighbour.is_some() == noisy)
        .for_each(|(_, arm)| change(&mut arm.summary));
}

fn reason(run: &RecordedRun) -> Reason {
    match judge(run).cells.remove(0).verdict {
        Verdict::Inconclusive { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_reference_is_isolated() {
    let verdict = judge(&untouched());
    let cell = &verdict.cells[0];
    assert_eq!((cell.name.as_str(), cell.seat.as_str(), &cell.verdict), ("pair/hbm-hog", "0", &Verdict::Isolated));
    assert_eq!((cell.worst, cell.neighbour_rate), (Some(0), Some(0.95)));
    assert!(cell.notes.is_empty() && cell.series[0].cause.is_none());
    let ratio = cell.series[0].ratio.unwrap();
    assert!(ratio.low.unwrap() < ratio.estimate && ratio.estimate < ratio.high.unwrap());
    // π* = 1 − 0.01^(1/24) = 0.1746
    assert!((verdict.scope_share.unwrap() - 0.1746).abs() < 1e-4);
}

#[test]
fn an_empty_series_is_inconclusive_never_zero() {
    let run = Lab::default().run_of(|_, _| SeriesData::default());
    assert_eq!(reason(&run), Reason::TooFewRequests);
    let cell = judge(&run).cells.remove(0);
    assert_eq!((cell.series[0].quiet_ns, cell.series[0].noisy_ns, cell.series[0].ratio), (None, None, None));
    // Nor is one that is empty in the noisy arms alone, or in a single one of them.
    for emptied in [24, 1] {
        let run = Lab::default().run_of(|stream, draw| {
            let mut data = SeriesData::default();
            if draw.neighbour.is_none() || draw.block >= emptied {
                (0..1_000).for_each(|_| record(&mut data, lognormal(stream)));
            }
            data
        });
        assert_eq!(reason(&run), Reason::TooFewRequests, "{emptied} arms empty");
    }
}

#[test]
fn a_quantile_that_was_not_to_be_judged_is_not() {
    let judged = vec![(Quantile::P50, JudgedBy::Blocks), (Quantile::P999, JudgedBy::TooFew)];
    let cell = judge(&Lab { judged, ..Lab::default() }.run(|stream, _| lognormal(stream))).cells.remove(0);
    assert_eq!(cell.series[0].verdict, Verdict::Isolated);
    assert_eq!(cell.series[1].verdict, Verdict::Inconclusive { reason: Reason::TooFewRequests });
    assert_eq!(cell.verdict, cell.series[1].verdict, "a declared quantile that was not judged is no pass");
    assert_eq!(cell.worst, Some(0));
}

#[test]
fn a_p99_9_from_a_thousand_requests_is_not_judged() {
    // 17 blocks of 60 requests: 1,020 in all; p99.9 needs 4,603.
    let judged = vec![(Quantile::P999, JudgedBy::Pooled)];
    let lab = Lab { blocks: 17, requests: 60, judged, ..Lab::default() };
    assert_eq!(reason(&lab.run(|stream, _| lognormal(stream))), Reason::TooFewRequests);
}

#[test]
fn missing_arms_block_isolated_and_not_violated() {
    for (ratio, word) in [(1.0, "inconclusive"), (2.5, "violated")] {
        let mut run = Lab::default().run(slowed(ratio));
        run.arms.retain(|key, _| key.block < 20 || key.neighbour.is_none());
        let cell = judge(&run).cells.remove(0);
        assert_eq!((cell.verdict.word(), cell.series[0].blocks), (word, 20));
    }
    let mut run = untouched();
    run.arms.clear();
    run.calibrations.clear();
    assert_eq!(reason(&run), Reason::Incomplete);
}

#[test]
fn a_skipped_arrangement_says_so_in_every_cell() {
    let mut run = untouched();
    run.arms.clear();
    run.skipped.insert(0, "MIG mode".to_owned());
    run.manifest.plan.arrangements[0].require = rules(&[("default", Word::Isolated)]);
    let laid_out = judge(&run);
    run.manifest.plan.arrangements[0].grids.clear();
    let not_laid_out = judge(&run);
    for verdict in [laid_out, not_laid_out] {
        assert_eq!(verdict.cells[0].verdict, Verdict::Skipped { reason: "MIG mode".to_owned() });
        assert_eq!((verdict.requirement, exit_code(&verdict)), (RequirementState::Undecided, 4));
        assert!(verdict.not_tested.contains(&"hbm-bandwidth".to_owned()));
    }
}

#[test]
fn a_placebo_that_moves_takes_every_other_cell_of_its_place_with_it() {
    let neighbours = vec![
        ("idle", "idle", Channel::Host),
        ("hog", "hbm-read", Channel::HbmBandwidth),
        ("d2h", "d2h", Channel::Pcie),
    ];
    let lab = Lab { neighbours, ..Lab::default() };
    let hurt = |which: usize| {
        lab.run(move |stream, draw| lognormal(stream) * if draw.neighbour == Some(which) { 2.5 } else { 1.0 })
    };
    let words =
        |run: &RecordedRun| -> Vec<&'static str> { judge(run).cells.iter().map(|c| c.verdict.word()).collect() };
    assert_eq!(words(&hurt(0)), ["violated", "inconclusive", "inconclusive"]);
    assert_eq!(words(&hurt(1)), ["isolated", "violated", "isolated"]);
    let failed = Reason::ControlFailed { control: Control::Placebo };
    assert_eq!(judge(&hurt(0)).cells[1].verdict, Verdict::Inconclusive { reason: failed });
    // One that is faster beside an idle neighbour is no reference for a busy one.
    let faster = lab.run(|stream, draw| lognormal(stream) * if draw.neighbour == Some(0) { 0.8 } else { 1.0 });
    let verdict = judge(&faster);
    assert_eq!(verdict.cells[0].verdict, Verdict::Inconclusive { reason: Reason::QuietArmNotAwake });
    let failed = Verdict::Inconclusive { reason: Reason::ControlFailed { control: Control::Placebo } };
    assert!(verdict.cells[1..].iter().all(|cell| cell.verdict == failed));
}

/// What of the warnings mentions `word`.
fn warned(run: &RecordedRun, word: &str) -> Vec<String> {
    judge(run).warnings.into_iter().map(|w| w.what).filter(|what| what.contains(word)).collect()
}

#[test]
fn a_placebo_that_is_missing_or_undecided_is_said_per_arrangement() {
    let neighbours = vec![("idle", "idle", Channel::Host), ("hog", "hbm-read", Channel::HbmBandwidth)];
    let with = Lab { neighbours, ..Lab::default() }.run(|stream, _| lognormal(stream));
    assert_eq!(warned(&with, "placebo"), [""; 0]);
    let mut late = with.clone();
    let of_placebo = late.arms.iter_mut().filter(|(key, _)| key.neighbour == Some(0));
    of_placebo.for_each(|(_, arm)| arm.summary.windows[0].late = 500);
    assert_eq!(warned(&late, "placebo"), ["the placebo of pair is inconclusive: late requests"]);
    assert_eq!(judge(&late).cells[1].verdict, Verdict::Isolated, "one that cannot say contradicts nothing");
    let mut without = untouched();
    let missing = "no placebo in pair: whether the neighbour's host loop alone moves the victim is not known";
    assert_eq!(warned(&without, "placebo"), [missing]);
    without.manifest.plan.arrangements[0].sharing = SharingMode::Exclusive;
    assert_eq!(warned(&without, "placebo"), [""; 0]);
    late.manifest.plan.arrangements[0].sharing = SharingMode::Exclusive;
    assert_eq!(warned(&late, "placebo"), [""; 0]);
}

#[test]
fn a_channel_is_tested_where_a_neighbour_loads_it_beside_a_judged_probe_that_feels_it() {
    let lab = Lab {
        panel: vec![("hbm-chase", Channel::HbmBandwidth)],
        neighbours: vec![
            ("idle", "idle", Channel::Host),
            ("hog", "hbm-read", Channel::HbmBandwidth),
            ("d2h", "d2h", Channel::Pcie),
        ],
        ..Lab::default()
    };
    let run = lab.run(|stream, _| lognormal(stream));
    let tested = |run: &RecordedRun| -> Vec<&'static str> {
        let not = judge(run).not_tested;
        assert!(not.contains(&"nvlink".to_owned()));
        Channel::ALL.iter().map(|c| c.id()).filter(|id| !not.contains(&(*id).to_owned())).collect()
    };
    assert_eq!(tested(&run), ["hbm-bandwidth"], "nobody felt pcie, and a placebo tests nothing");
    let change_run = |how: &dyn Fn(&mut RecordedRun)| {
        let mut run = run.clone();
        how(&mut run);
        run
    };
    // Any of the channels that a probe feels counts, not the first alone.
    let both = change_run(&|run| run.manifest.plan.panel[0].channels.push(Channel::Pcie));
    assert_eq!(tested(&both), ["hbm-bandwidth", "pcie"]);
    // Not judged: too few requests, or quiet arms that say nothing.
    let unjudged = change_run(&|run| {
        let probes = run.calibrations.values_mut().flat_map(|c| &mut c.probes);
        probes.for_each(|p| p.judged = vec![(Quantile::P99, JudgedBy::TooFew)]);
    });
    let late = change_run(&|run| change(run, false, |s| s.windows[0].late = 500));
    // The neighbour did not run, or did nothing that anybody knows of.
    let silent = change_run(&|run| change(run, true, |s| s.neighbours.clear()));
    let unknown = change_run(&|run| run.calibrations.values_mut().for_each(|c| c.neighbours.clear()));
    let exclusive = change_run(&|run| run.manifest.plan.arrangements[0].sharing = SharingMode::Exclusive);
    for (why, run) in
        [("unjudged", unjudged), ("late", late), ("silent", silent), ("unknown", unknown), ("exclusive", exclusive)]
    {
        assert_eq!(tested(&run), [""; 0], "{why}");
    }
}

#[test]
fn an_exclusive_victim_is_a_reference_and_said_to_be() {
    let mut run = untouched();
    assert_eq!(warned(&run, "reference"), [""; 0]);
    run.manifest.plan.arrangements[0].sharing = SharingMode::Exclusive;
    let text = "no noise runs beside an exclusive victim: the cells of pair are a reference, not a test";
    assert_eq!(warned(&run, "reference"), [text]);
}

/// The exact bound at half of 1 % needs 0.5^n ≤ 0.005, n ≥ 8; a bootstrap over three blocks knows no more than they do.
/// The lower bound at 1.5 % exists from seven blocks on (0.5⁷ = 0.8 %), in either view.
#[test]
fn a_handful_of_blocks_is_never_violated_in_either_view() {
    for by in [JudgedBy::Blocks, JudgedBy::Pooled] {
        for (blocks, word) in [(1, "inconclusive"), (3, "inconclusive"), (6, "inconclusive"), (8, "violated")] {
            let lab = Lab { blocks, judged: vec![(Quantile::P99, by)], ..Lab::default() };
            let cell = judge(&lab.run(slowed(9.0))).cells.remove(0);
            assert_eq!(cell.verdict.word(), word, "{by:?} {blocks}");
            assert_eq!(cell.series[0].ratio.unwrap().low.is_some(), word == "violated", "{by:?} {blocks}");
        }
    }
}

#[test]
fn a_handful_of_blocks_is_never_isolated_in_either_view() {
    for by in [JudgedBy::Blocks, JudgedBy::Pooled] {
        for (blocks, isolated) in [(3, false), (7, false), (8, true)] {
            // Every latency the same: the intervals have no width but ε.
            let run = Lab { blocks, judged: vec![(Quantile::P99, by)], ..Lab::default() }.run(|_, _| 1e5);
            let cell = judge(&run).cells.remove(0);
            if isolated {
                assert_eq!(cell.verdict, Verdict::Isolated, "{by:?} {blocks}");
                continue;
            }
            let Verdict::Inconclusive { reason: Reason::Underpowered { blocks_needed, .. } } = cell.verdict else {
                panic!("{by:?} {blocks}: {:?}", cell.verdict)
            };
            assert_eq!((blocks_needed, cell.series[0].ratio.unwrap().high), (Some(8), None), "{by:?} {blocks}");
        }
    }
    // Blocks without requests on either side are none.
    let run = Lab { judged: vec![(Quantile::P99, JudgedBy::Pooled)], ..Lab::default() }.run_of(|_, draw| {
        let mut data = SeriesData::default();
        (0..if draw.block < 6 { 1_000 } else { 0 }).for_each(|_| record(&mut data, 1e5));
        data
    });
    assert!(matches!(reason(&run), Reason::Underpowered { .. }));
}

#[test]
fn medians_alone_promise_no_episodes() {
    let share = |judged: Vec<(Quantile, JudgedBy)>, ratio| {
        judge(&Lab { judged, ..Lab::default() }.run(slowed(ratio))).scope_share
    };
    let (p50, p99) = ((Quantile::P50, JudgedBy::Blocks), (Quantile::P99, JudgedBy::Blocks));
    for ratio in [1.0, 2.5] {
        assert_eq!(share(vec![p50], ratio), None);
        assert!(share(vec![p50, p99], ratio).is_some());
    }
    // The median is isolated and the p99 was not judged.
    assert_eq!(share(vec![p50, (Quantile::P99, JudgedBy::TooFew)], 1.0), None);
}

#[test]
fn a_clock_that_nobody_could_read_is_said_once_and_claims_nothing() {
    assert_eq!(warned(&untouched(), "readable"), [""; 0]);
    for unread in [|s: &mut ArmSummary| s.sm_mhz = None, |s: &mut ArmSummary| s.throttled = None] {
        let mut run = untouched();
        change(&mut run, false, unread);
        let text = "clock or throttling not readable: in 24 of 48 arms nobody knows whether the GPU was awake and at \
                    full clock";
        assert_eq!(warned(&run, "readable"), [text]);
        assert!(judge(&run).cells[0].notes.is_empty());
    }
    // Arms that could not be read do not dilute those that could: 50 % in one arm is not 2 % of 24.
    let mut run = untouched();
    change(&mut run, false, |s| s.throttled = None);
    run.arms.values_mut().next().unwrap().summary.throttled = Some(0.5);
    assert_eq!(reason(&run), Reason::Throttled { share: 0.5 });
}

#[test]
fn health_that_becomes_worse_is_said_in_one_line() {
    let health = |replays: u32, corrected: u64| {
        let link = PcieLink { generation: 4, width: 16, max_generation: None, max_width: None, replays: Some(replays) };
        let ecc = EccErrors { corrected, uncorrected: 0 };
        Some(GpuHealth { ecc: Some(ecc), pcie: Some(link), ..GpuHealth::default() })
    };
    let mut run = untouched();
    for arm in run.arms.values_mut() {
        arm.summary.health = health(7, 0);
    }
    assert_eq!(warned(&run, "health"), [""; 0]);
    // One arm that saw it happen, and those after it.
    for (index, arm) in run.arms.values_mut().enumerate().skip(10) {
        arm.summary.health = health(19, 2);
        arm.summary.health_before = health(7, 0).filter(|_| index == 10);
    }
    let text = "the GPU's health became worse, in 1 arm(s) that count: 2 corrected memory error(s); 12 PCIe packet(s) sent again";
    assert_eq!(warned(&run, "health"), [text]);
    assert_eq!(judge(&run).cells[0].verdict, Verdict::Isolated, "it is told, and decides nothing");
}

#[test]
fn a_panel_split_over_two_grids_is_one_cell() {
    let panel = vec![("hbm-chase", Channel::HbmBandwidth), ("alloc", Channel::Driver)];
    let mut run = Lab { panel, ..Lab::default() }
        .run(|stream, draw| lognormal(stream) * if draw.probe == 1 && draw.neighbour.is_some() { 1.3 } else { 1.0 });
    let grids = &mut run.manifest.plan.arrangements[0].grids;
    grids.push(Grid { probes: vec![1], first_block: 24, ..grids[0].clone() });
    grids[0].probes = vec![0];
    let mut second = run.calibrations[&(0, 0)].clone();
    second.grid = 1;
    run.calibrations.insert((0, 1), second);
    let moved: Vec<_> = run
        .arms
        .clone()
        .into_iter()
        .map(|(mut key, arm)| {
            (key.grid, key.block) = (1, key.block + 24);
            (key, arm)
        })
        .collect();
    run.arms.extend(moved);
    let verdict = judge(&run);
    assert_eq!(verdict.cells.len(), 1);
    let found: Vec<_> =
        verdict.cells[0].series.iter().map(|s| (s.series.as_str(), s.verdict.word(), s.blocks)).collect();
    assert_eq!(found, [("hbm-chase", "isolated", 24), ("alloc", "degraded", 24)]);
    assert_eq!((verdict.cells[0].verdict.word(), verdict.cells[0].worst), ("degraded", Some(1)));
}

#[test]
fn seats_are_named_where_the_victim_sits_in_several() {
    let mut run = untouched();
    let grids = &mut run.manifest.plan.arrangements[0].grids;
    grids.push(Grid { victim: 1, neighbour_seats: vec![0], first_block: 24, ..grids[0].clone() });
    let names: Vec<String> = judge(&run).cells.into_iter().map(|cell| cell.name).collect();
    assert_eq!(names, ["pair@0/hbm-hog", "pair@1/hbm-hog"]);
}

#[test]
fn an_interval_across_the_margin_says_what_would_decide() {
    // A median with a run-to-run effect of 15 %: 24 blocks cannot tell 5 %.
    let lab = Lab { judged: vec![(Quantile::P50, JudgedBy::Blocks)], requests: 200, ..Lab::default() };
    let run = lab.run_of(|stream, _| {
        let level = libm::exp(0.15 * stream.normal());
        let mut data = SeriesData::default();
        (0..200).for_each(|_| record(&mut data, level * lognormal(stream)));
        data
    });
    let Reason::Underpowered { detectable: Some(effect), blocks_needed: Some(blocks) } = reason(&run) else {
        panic!("{:?}", reason(&run))
    };
    // sd of a difference ≈ √2 × 0.15 = 0.21; 0.21 × 3.61/√24 = 0.156; e^0.156 − 1 = 0.169.
    assert!((0.12..0.24).contains(&effect), "{effect}");
    assert!(blocks > 24, "{blocks}");
}

#[test]
fn warnings_advise() {
    let mut run = Lab { blocks: 12, ..Lab::default() }.run(|stream, _| lognormal(stream));
    run.finished = false;
    run.manifest.plan.panel[0].arrivals = Arrivals::Fixed(Rate::per_second(100));
    let whats: Vec<String> = judge(&run).warnings.into_iter().map(|w| w.what).collect();
    assert_eq!(
        whats,
        [
            "nothing is required: this run cannot fail",
            "12 blocks see episodes in at least 32 % of the arms; the tier promises 25 %",
            "hbm-chase arrives at a fixed rate, which can lock in phase with time slices",
            "no placebo in pair: whether the neighbour's host loop alone moves the victim is not known",
            "the run was not finished: cells with missing arms are not called isolated",
        ]
    );
    // What a plan requires is known before its cells are judged.
    for (key, word, requires) in [("default", Word::Isolated, true), ("default", Word::Any, false)] {
        let neighbours = vec![("idle", "idle", Channel::Host)];
        // A mode that has no other control than A/A.
        run = Lab { neighbours, again: true, sharing: SharingMode::Streams, ..Lab::default() }
            .run(|stream, _| lognormal(stream));
        run.manifest.plan.arrangements[0].require = rules(&[(key, word)]);
        let verdict = judge(&run);
        assert_eq!((verdict.requires, verdict.warnings.is_empty()), (requires, requires), "{key} = {word:?}");
    }
}

/// What is certain before anything is measured is said then.
#[test]
fn what_a_plan_asks_and_cannot_be_told_is_warned_of() {
    use crate::observation::Asked;
    use crate::scenario::Controls;
    let whole = || {
        let mut plan = Lab { again: true, ..Lab::default() }.plan();
        plan.arrangements[0].require = rules(&[("default", Word::Isolated)]);
        plan.design.controls = Controls { again: true, presence: 6, sensitivity: 3, ..Controls::default() };
        plan
    };
    let told = |change: &dyn Fn(&mut Plan)| -> Vec<String> {
        let mut plan = whole();
        change(&mut plan);
        let placebo = |what: &String| !what.starts_with("no placebo");
        foreseen(&plan, jiff::civil::date(2026, 6, 1)).into_iter().map(|w| w.what).filter(placebo).collect()
    };
    assert_eq!(told(&|_| ()), [""; 0]);
    let off = told(&|plan| plan.design.controls = Controls::default());
    assert_eq!(off.len(), 3, "{off:?}");
    assert!(off[0].starts_with("the A/A control is off") && off[0].contains("no requirement"), "{off:?}");
    assert_eq!(off[1], "the presence control is off: isolated of pair rests on one proof less");
    assert_eq!(off[2], "the sensitivity control is off: isolated of pair rests on one proof less");
    let unasked = told(&|plan| {
        plan.design.controls = Controls::default();
        plan.arrangements[0].require = rules(&[("default", Word::NotIsolated)]);
    });
    assert_eq!(unasked, [""; 0], "what is there needs no control that shows what is not");

    let clamped = told(&|plan| {
        plan.design.controls = Controls { again: true, presence: 9, sensitivity: 30, ..Controls::default() }
    });
    assert_eq!(
        clamped,
        [
            "9 presence arms asked for, 6 fit: 24 blocks with a restart every 4 are 6 generations, and each ends with one",
            "30 pairs of the sensitivity control asked for, 24 fit: there is one a block at most",
        ]
    );
    let skipped = told(&|plan| plan.arrangements[0].skipped = Some("MIG is off".to_owned()));
    assert_eq!(skipped, ["pair cannot run here, so what is required of it will not be decided (exit code 4)"]);
    let rare = told(&|plan| plan.panel[0].arrivals = Arrivals::Poisson(Rate::per_second(1)));
    assert_eq!(rare, ["hbm-chase has too few requests for p99: its cells will not be called isolated"]);

    let observing = |id: &str, required: Option<&str>, sharing| {
        told(&|plan| {
            plan.arrangements[0].sharing = sharing;
            plan.arrangements[0].observe = vec![Asked { id: id.to_owned(), required: required.map(str::to_owned) }];
        })
    };
    let certain = |id: &str, sharing| {
        observing(id, Some("works"), sharing)
            .iter()
            .any(|w| w.starts_with(&format!("{id} of pair is required and cannot")))
    };
    assert!(certain("turns", SharingMode::Mps), "no probe of short kernels");
    assert!(certain("all-reduce", SharingMode::TimeSlicing), "the simulator has no libnccl");
    assert!(certain("ipc", SharingMode::Exclusive), "nobody else is on the GPU");
    assert!(!certain("visibility", SharingMode::TimeSlicing));
    assert_eq!(observing("turns", None, SharingMode::Mps), [""; 0], "what is not required fails nothing");
}
