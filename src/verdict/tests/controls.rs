//! Controls: what each must look like, and what follows where it does not.

use super::super::synthetic::{Draw, Lab, lognormal, record_parts};
use super::super::*;
use super::{slowed, untouched};
use crate::backend::{ArmKey, Purpose};
use crate::random::Stream;
use crate::run_dir::{ArmData, SeriesData};

/// Adds the second quiet arm of every block, `ratio` times as slow as the first.
pub(super) fn again(run: &mut RecordedRun, ratio: f64) {
    let lab = Lab { seed: 77, blocks: run.manifest.plan.design.blocks, ..Lab::default() };
    let other = lab.run(|stream, _| lognormal(stream) * ratio);
    put(run, &other, Purpose::Again, |key| key.neighbour.is_none().then_some(key.block));
    run.manifest.plan.design.controls.again = true;
}

/// Adds arms of another run for a purpose, each at the block that `at` gives it.
pub(super) fn put(run: &mut RecordedRun, other: &RecordedRun, purpose: Purpose, at: impl Fn(&ArmKey) -> Option<u32>) {
    let arms = other.arms.iter().filter_map(|(key, arm)| {
        let block = at(key)?;
        Some((ArmKey { block, purpose, ..key.clone() }, arm.clone()))
    });
    run.arms.extend(arms.collect::<Vec<(ArmKey, ArmData)>>());
}

/// Adds an arm alone to each of the first `generations`, `ratio` times as fast as the quiet ones.
fn alone(run: &mut RecordedRun, generations: u32, ratio: f64) {
    let lab = Lab { seed: 78, blocks: generations, ..Lab::default() };
    let other = lab.run(|stream, _| lognormal(stream) / ratio);
    put(run, &other, Purpose::Alone, |key| key.neighbour.is_none().then_some(4 * key.block));
    run.manifest.plan.design.controls.presence = generations;
}

/// Adds `pairs` within the victim's place, of which `slower` have a service time `ratio` times as long.
fn within(run: &mut RecordedRun, (pairs, slower): (u32, u32), ratio: f64) {
    let lab = Lab { seed: 79, blocks: pairs, ..Lab::default() };
    let other = lab.run_of(|stream, draw| {
        let mut data = SeriesData::default();
        let factor = match draw.neighbour {
            Some(_) if draw.block < slower => ratio,
            Some(_) => 0.99,
            None => 1.0,
        };
        // The host's part hides the device's: the latency barely moves.
        (0..1_000).for_each(|_| record_parts(&mut data, 1e3, 4e3 * factor * (1.0 + 0.001 * stream.uniform()), 1e6));
        data
    });
    put(run, &other, Purpose::Within, |key| Some(key.block));
    run.manifest.plan.design.controls.sensitivity = pairs;
}

pub(super) fn row(verdict: &RunVerdict, control: Control) -> (ControlOutcome, &str) {
    let row = verdict.controls.iter().find(|row| row.control == control).unwrap();
    (row.outcome, row.text.as_str())
}

fn inconclusive(reason: Reason) -> Verdict {
    Verdict::Inconclusive { reason }
}

/// An unslowed and a violated victim with what `add` does to their runs.
fn both(add: impl Fn(&mut RecordedRun)) -> [RunVerdict; 2] {
    [1.0, 2.5].map(|ratio| {
        let mut run = Lab::default().run(slowed(ratio));
        add(&mut run);
        judge(&run)
    })
}

#[test]
fn quiet_against_quiet_passes_where_nothing_differs() {
    let [unslowed, violated] = both(|run| again(run, 1.0));
    for verdict in [&unslowed, &violated] {
        let (outcome, text) = row(verdict, Control::Again);
        assert_eq!(outcome, ControlOutcome::Passed, "{text}");
        let begins = "quiet against quiet within the margins over 24 blocks, worst hbm-chase p99 ";
        assert!(text.starts_with(begins), "{text}");
    }
    assert_eq!(unslowed.cells[0].verdict, Verdict::Isolated);
    assert_eq!(violated.cells[0].verdict, Verdict::Violated);
    assert!(!unslowed.assumed.contains(&"A/A control not run".to_owned()));
}

#[test]
fn quiet_against_quiet_that_moves_either_way_takes_the_grid_whatever_it_shows() {
    for ratio in [1.3, 0.75] {
        for verdict in both(|run| again(run, ratio)) {
            assert_eq!(row(&verdict, Control::Again).0, ControlOutcome::Failed);
            let failed = inconclusive(Reason::ControlFailed { control: Control::Again });
            assert_eq!(verdict.cells[0].verdict, failed, "{ratio}");
            assert_eq!(verdict.cells[0].series[0].cause, None);
        }
    }
}

#[test]
fn quiet_against_quiet_that_cannot_say_blocks_isolated_alone() {
    let [unslowed, violated] = both(|run| {
        again(run, 1.0);
        run.arms.retain(|key, _| key.purpose != Purpose::Again || key.block < 6);
    });
    let (outcome, text) = row(&unslowed, Control::Again);
    assert_eq!(outcome, ControlOutcome::Undecided);
    assert!(text.contains("too wide after 6 blocks: hbm-chase p99") && text.ends_with("blocks would decide"), "{text}");
    let Verdict::Inconclusive { reason: Reason::ControlUndecided { control, detectable, blocks_needed } } =
        unslowed.cells[0].verdict
    else {
        panic!("{:?}", unslowed.cells[0].verdict)
    };
    assert!(control == Control::Again && blocks_needed >= Some(7), "{blocks_needed:?}");
    assert!(detectable.unwrap() > 0.0);
    assert_eq!(violated.cells[0].verdict, Verdict::Violated);
}

/// One quiet arm without a request is none that agrees with the other.
#[test]
fn a_quiet_arm_without_requests_decides_no_control() {
    let [unslowed, violated] = both(|run| {
        again(run, 1.0);
        let arm = run.arms.iter_mut().find(|(key, _)| key.purpose == Purpose::Again).unwrap().1;
        arm.series.clear();
    });
    assert_eq!(row(&unslowed, Control::Again).0, ControlOutcome::Undecided);
    assert!(matches!(
        unslowed.cells[0].verdict,
        Verdict::Inconclusive { reason: Reason::ControlUndecided { control: Control::Again, .. } }
    ));
    assert_eq!(violated.cells[0].verdict, Verdict::Violated);
}

/// Planned and absent is no pass; planned and impossible is said, and planned by nobody is said too.
#[test]
fn a_control_without_an_arm_blocks_isolated_unless_it_cannot_be_run() {
    type Plan = fn(&mut RecordedRun);
    let cases: [(Control, Purpose, Plan); 3] = [
        (Control::Again, Purpose::Again, |run| run.manifest.plan.design.controls.again = true),
        (Control::Presence, Purpose::Alone, |run| run.manifest.plan.design.controls.presence = 5),
        (Control::Sensitivity, Purpose::Within, |run| run.manifest.plan.design.controls.sensitivity = 3),
    ];
    for (control, purpose, plan) in cases {
        let [unslowed, violated] = both(plan);
        assert_eq!(row(&unslowed, control).0, ControlOutcome::NotMeasured);
        assert_eq!(unslowed.cells[0].verdict, inconclusive(Reason::ControlNotMeasured { control }));
        assert_eq!(violated.cells[0].verdict, Verdict::Violated);
        let [unslowed, _] = both(|run| {
            plan(run);
            run.no_control.insert((0, 0, purpose), "two programs of 50 GiB do not fit".to_owned());
        });
        assert_eq!(row(&unslowed, control).0, ControlOutcome::Impossible);
        assert_eq!(unslowed.cells[0].verdict, Verdict::Isolated);
        let said = format!("{} control not possible in pair: two programs of 50 GiB do not fit", control.words());
        assert!(unslowed.assumed.contains(&said), "{:?}", unslowed.assumed);
    }
    // Of a grid without any arm nothing need be said.
    let mut run = untouched();
    run.arms.clear();
    run.manifest.plan.design.controls.again = true;
    let verdict = judge(&run);
    assert_eq!((verdict.controls, &verdict.cells[0].verdict), (vec![], &inconclusive(Reason::Incomplete)));
}

#[test]
fn presence_fails_only_where_it_moves_significantly() {
    let [unslowed, _] = both(|run| alone(run, 6, 1.0));
    let (outcome, text) = row(&unslowed, Control::Presence);
    assert!(matches!(outcome, ControlOutcome::Passed | ControlOutcome::Undecided), "{text}");
    assert!(text.contains("6 of 6 generations"), "{text}");
    assert_eq!(unslowed.cells[0].verdict, Verdict::Isolated);
    for ratio in [1.4, 0.7] {
        for verdict in both(|run| alone(run, 6, ratio)) {
            assert_eq!(row(&verdict, Control::Presence).0, ControlOutcome::Failed);
            let failed = inconclusive(Reason::ControlFailed { control: Control::Presence });
            assert_eq!(verdict.cells[0].verdict, failed, "{ratio}");
        }
    }
    // Two generations are no proof of anything, and contradict nothing: the scope says so.
    let [unslowed, _] = both(|run| alone(run, 2, 1.4));
    assert_eq!(row(&unslowed, Control::Presence).0, ControlOutcome::Undecided);
    assert_eq!(unslowed.cells[0].verdict, Verdict::Isolated);
    assert!(unslowed.assumed.contains(&"presence control undecided in pair".to_owned()), "{:?}", unslowed.assumed);
}

/// What is left of a control may be what survived: it counts whole or not at all, but what moved has moved.
#[test]
fn a_control_that_lacks_an_arm_was_not_measured() {
    let last = |run: &mut RecordedRun, purpose: Purpose| {
        let key = run.arms.keys().rfind(|key| key.purpose == purpose).unwrap().clone();
        run.arms.remove(&key);
    };
    type Plan = fn(&mut RecordedRun, f64);
    let cases: [(Control, Purpose, Plan, &str); 2] = [
        (Control::Again, Purpose::Again, again, "23 of 24 pairs of quiet arms were recorded"),
        (Control::Presence, Purpose::Alone, |run, r| alone(run, 6, r), "the victim was alone in 5 of 6 generations"),
    ];
    for (control, purpose, plan, text) in cases {
        let [unslowed, violated] = both(|run| {
            plan(run, 1.0);
            last(run, purpose);
        });
        assert_eq!(row(&unslowed, control), (ControlOutcome::NotMeasured, text));
        assert_eq!(unslowed.cells[0].verdict, inconclusive(Reason::ControlNotMeasured { control }));
        assert_eq!(violated.cells[0].verdict, Verdict::Violated);
        let [moved, _] = both(|run| {
            plan(run, 1.5);
            last(run, purpose);
        });
        assert_eq!(row(&moved, control).0, ControlOutcome::Failed);
    }
    // A grid that ended at an early look is whole with the generations that it had.
    use crate::scenario::Look;
    use crate::units::Share;
    let [stopped, _] = both(|run| {
        alone(run, 6, 1.0);
        let look = |blocks, percent| Look { blocks, spends: Share::percent(percent) };
        run.manifest.plan.design.looks = vec![look(11, 50), look(24, 50)];
        run.stopped.insert((0, 0, 0), 0);
        run.arms.retain(|key, _| key.block < 12);
    });
    assert_ne!(row(&stopped, Control::Presence).0, ControlOutcome::NotMeasured);
}

#[test]
fn a_channel_that_was_not_exercised_is_not_isolated_and_a_violation_stands() {
    let [unslowed, _] = both(|run| within(run, (3, 3), 1.5));
    let (outcome, text) = row(&unslowed, Control::Sensitivity);
    assert_eq!(outcome, ControlOutcome::Passed, "{text}");
    let expected =
        "hbm-chase p99 service time 1.50× in the victim's own place, slower in 3 of 3 pairs, through hbm-bandwidth";
    assert_eq!(text, expected);
    assert_eq!(unslowed.cells[0].verdict, Verdict::Isolated);
    // Not by enough; and not in every pair.
    for (slower, ratio) in [(3, 1.05), (2, 3.0)] {
        let [unslowed, violated] = both(|run| within(run, (3, slower), ratio));
        assert_eq!(row(&unslowed, Control::Sensitivity).0, ControlOutcome::Failed);
        let reason = Reason::ChannelNotExercised { channel: Channel::HbmBandwidth };
        assert_eq!(unslowed.cells[0].verdict, inconclusive(reason));
        assert!(unslowed.not_tested.contains(&"hbm-bandwidth".to_owned()));
        assert_eq!(violated.cells[0].verdict, Verdict::Violated);
    }
}

/// It concerns the probe that feels the channel beside the neighbour that loads it, and no other.
#[test]
fn sensitivity_is_one_of_a_probe_and_a_neighbour() {
    let lab = Lab {
        panel: vec![("hbm-chase", Channel::HbmBandwidth), ("launch", Channel::Launch)],
        neighbours: vec![("hog", "hbm-read", Channel::HbmBandwidth), ("d2h", "d2h", Channel::Pcie)],
        ..Lab::default()
    };
    let mut run = lab.run(|stream, _| lognormal(stream));
    within(&mut run, (3, 0), 1.0);
    let verdict = judge(&run);
    let words: Vec<_> = verdict.cells.iter().flat_map(|c| &c.series).map(|s| s.verdict.word()).collect();
    assert_eq!(words, ["inconclusive", "isolated", "isolated", "isolated"]);
    assert_eq!(verdict.controls.iter().filter(|row| row.control == Control::Sensitivity).count(), 1);
}

#[test]
fn a_placebo_that_lacks_arms_blocks_isolated() {
    let neighbours = vec![("idle", "idle", Channel::Host), ("hog", "hbm-read", Channel::HbmBandwidth)];
    for (ratio, expected) in
        [(1.0, inconclusive(Reason::ControlNotMeasured { control: Control::Placebo })), (2.5, Verdict::Violated)]
    {
        let lab = Lab { neighbours: neighbours.clone(), ..Lab::default() };
        let mut run = lab.run(move |stream: &mut Stream, draw: Draw| {
            lognormal(stream) * if draw.neighbour == Some(1) { ratio } else { 1.0 }
        });
        let whole = judge(&run);
        assert_eq!(row(&whole, Control::Placebo).0, ControlOutcome::Passed);
        for (kept, text) in [
            (23, "23 of 24 blocks of it were recorded"),
            (1, "1 of 24 blocks of it were recorded"),
            (0, "planned, and no block of it was recorded"),
        ] {
            run.arms.retain(|key, _| key.neighbour != Some(0) || key.block < kept);
            let verdict = judge(&run);
            assert_eq!(row(&verdict, Control::Placebo), (ControlOutcome::NotMeasured, text));
            assert_eq!(verdict.cells[1].verdict, expected, "{kept}");
        }
    }
}

#[test]
fn an_early_isolated_needs_its_quiet_against_quiet() {
    use crate::scenario::Look;
    use crate::units::Share;
    let mut run = Lab { blocks: 48, ..Lab::default() }.run(|stream, _| lognormal(stream));
    let look = |blocks, percent| Look { blocks, spends: Share::percent(percent) };
    run.manifest.plan.design.looks = vec![look(24, 20), look(48, 80)];
    assert!(decided(&run, 0, 0, 0, 0));
    run.manifest.plan.design.controls.again = true;
    assert!(!decided(&run, 0, 0, 0, 0), "planned, and no arm of it");
    again(&mut run, 1.0);
    assert!(decided(&run, 0, 0, 0, 0));
    run.arms.retain(|key, _| key.purpose != Purpose::Again || key.block < 7);
    assert!(!decided(&run, 0, 0, 0, 0), "too wide at this look");
}

#[test]
fn what_was_not_shown_is_said() {
    let verdict = judge(&untouched());
    assert_eq!(
        verdict.assumed,
        [
            "A/A control not run",
            "host placebo not run",
            "presence control not run",
            "sensitivity control not run",
            "carry-over not looked for",
            "host not watched by a thread of its own",
        ]
    );
    let mut run = untouched();
    run.manifest.plan.panel[0].channels.push(Channel::Pcie);
    run.manifest.plan.neighbours[0].channels.push(Channel::Pcie);
    run.manifest.device = "GPU 0; exclusive use assumed: nobody can say who uses GPU GPU-0".to_owned();
    let assumed = judge(&run).assumed;
    assert_eq!(assumed[0], "exclusive use assumed: nobody can say who uses GPU GPU-0");
    assert!(assumed.contains(&"no sensitivity control exists for pcie".to_owned()), "{assumed:?}");
    // What one process shares has neither.
    let mut run = Lab { sharing: SharingMode::Streams, ..Lab::default() }.run(|s, _| lognormal(s));
    assert_eq!(judge(&run).assumed[..3], ["A/A control not run", "host placebo not run", "carry-over not looked for"]);
    // It promises SMs of its own, and has no control that shows what noise does among them.
    run.manifest.plan.arrangements[0].sharing = SharingMode::GreenContexts;
    assert!(judge(&run).assumed.contains(&"sensitivity control not run".to_owned()));
}
