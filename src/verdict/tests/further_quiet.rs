//! Controls by further quiet arms of a block: an injected delay must be seen for what it is, and the sampler must not.

use super::super::synthetic::{Lab, lognormal};
use super::super::*;
use super::controls::{put, row};
use super::slowed;
use crate::backend::{ArmKey, Purpose};
use crate::channel::Channel;
use crate::provenance::Provenance;
use crate::run_dir::Calibration;
use crate::scenario::SharingMode;
use crate::units::Nanos;

/// What is injected: the margin of p50 of a median of 100 µs.
const DELAY: Nanos = Nanos::micros(5);

/// A copy probe beside copies: nothing inside the victim's own place exercises what they share.
fn copies() -> Lab {
    Lab {
        sharing: SharingMode::Mig,
        panel: vec![("h2d", Channel::Pcie)],
        neighbours: vec![("pcie-hog", "h2d", Channel::Pcie)],
        ..Lab::default()
    }
}

/// A run whose victim is slowed by `ratio`, with `arms` of the delay control: requests take `shift_ns` of the block longer.
fn delayed(ratio: f64, arms: u32, shift_ns: impl Fn(u32) -> f64) -> RecordedRun {
    let mut run = copies().run(slowed(ratio));
    let other = Lab { seed: 80, blocks: arms, ..copies() }.run(|stream, draw| lognormal(stream) + shift_ns(draw.block));
    put(&mut run, &other, Purpose::Delayed, |key| key.neighbour.is_none().then_some(key.block));
    run.manifest.plan.design.controls.delay = arms;
    run.calibrations.get_mut(&(0, 0)).unwrap().probes[0].delay = Some(DELAY);
    run
}

fn told(verdict: &RunVerdict, what: &str) -> bool {
    verdict.assumed.iter().any(|line| line == what)
}

const BY_DELAY: &str = "pcie: by an injected delay, not through the channel itself";
const BY_NOTHING: &str = "no sensitivity control exists for pcie";

#[test]
fn a_delay_that_is_seen_stands_in_for_noise_that_no_place_of_the_victims_has() {
    let verdict = judge(&delayed(1.0, 12, |_| DELAY.0 as f64));
    let (outcome, text) = row(&verdict, Control::Delay);
    assert_eq!(outcome, ControlOutcome::Passed, "{text}");
    assert!(
        text.starts_with("an injected delay of 5 µs on h2d was seen as ") && text.ends_with("in 12 blocks"),
        "{text}"
    );
    assert_eq!(verdict.cells[0].verdict, Verdict::Isolated);
    assert!(told(&verdict, BY_DELAY) && !told(&verdict, BY_NOTHING), "{:?}", verdict.assumed);
    assert!(!verdict.controls.iter().any(|row| row.control == Control::Sensitivity), "no noise is run within");
}

/// A recorder that counts from when a request was sent, a sender that does not wait, a histogram that is too coarse: the
/// latencies do not move, or move by something else.
#[test]
fn a_delay_that_is_not_seen_blocks_isolated_alone() {
    let injected = DELAY.0 as f64;
    for seen in [0.0, -injected, 3.0 * injected] {
        let verdict = judge(&delayed(1.0, 12, |_| seen));
        let (outcome, text) = row(&verdict, Control::Delay);
        assert_eq!(outcome, ControlOutcome::Failed, "{seen} ns: {text}");
        let Verdict::Inconclusive { reason: Reason::DelayNotSeen { injected_ns, seen_ns } } = verdict.cells[0].verdict
        else {
            panic!("{:?}", verdict.cells[0].verdict)
        };
        assert!(injected_ns == DELAY.0 && (seen_ns - seen).abs() < 0.4 * injected, "{seen}: {seen_ns} ns");
        assert!(told(&verdict, BY_NOTHING) && !told(&verdict, BY_DELAY), "{:?}", verdict.assumed);
        assert_eq!(judge(&delayed(2.5, 12, |_| seen)).cells[0].verdict, Verdict::Violated);
    }
}

/// It on average, but nothing in one block and twice as much in the next: a scatter that four arms do not bound.
#[test]
fn a_delay_in_too_few_arms_is_undecided_and_says_how_many_would_do() {
    let verdict = judge(&delayed(1.0, 4, |block| f64::from(block % 2) * 2.0 * DELAY.0 as f64));
    let (outcome, text) = row(&verdict, Control::Delay);
    assert_eq!(outcome, ControlOutcome::Undecided, "{text}");
    let Verdict::Inconclusive { reason: Reason::ControlUndecided { control, blocks_needed, .. } } =
        verdict.cells[0].verdict
    else {
        panic!("{:?}", verdict.cells[0].verdict)
    };
    assert!(control == Control::Delay && blocks_needed > Some(4), "{blocks_needed:?}");
    assert!(told(&verdict, BY_NOTHING), "{:?}", verdict.assumed);
}

#[test]
fn a_planned_delay_that_lacks_an_arm_is_never_a_pass() {
    let mut run = delayed(1.0, 12, |_| DELAY.0 as f64);
    run.arms.retain(|key, _| key.purpose != Purpose::Delayed || key.block < 11);
    let verdict = judge(&run);
    assert_eq!(row(&verdict, Control::Delay).0, ControlOutcome::NotMeasured);
    let reason = Reason::ControlNotMeasured { control: Control::Delay };
    assert_eq!(verdict.cells[0].verdict, Verdict::Inconclusive { reason });
    assert!(told(&verdict, BY_NOTHING), "{:?}", verdict.assumed);
    // A run that plans none says so, as before there was one.
    run.manifest.plan.design.controls.delay = 0;
    let verdict = judge(&run);
    assert!(told(&verdict, BY_NOTHING) && verdict.cells[0].verdict == Verdict::Isolated);
}

/// The neighbour that shares no such channel with the probe has nothing to do with it.
#[test]
fn the_delay_is_one_of_the_cells_whose_channel_has_no_other_control() {
    let mut run = delayed(1.0, 12, |_| 0.0);
    run.manifest.plan.neighbours[0].channels = vec![Channel::HbmBandwidth];
    let verdict = judge(&run);
    assert!(!verdict.controls.iter().any(|row| row.control == Control::Delay));
    assert_eq!(verdict.cells[0].verdict, Verdict::Isolated);
    // Turns have no share of their own that would have to be shown.
    let mut run = delayed(1.0, 12, |_| 0.0);
    run.manifest.plan.arrangements[0].sharing = SharingMode::TimeSlicing;
    assert_eq!(judge(&run).cells[0].verdict, Verdict::Isolated);
}

/// A measured run of two grids, the first with arms without the sampler, which slows the others by `ratio`.
fn sampled(ratio: f64, arms: u32) -> RecordedRun {
    let mut run = Lab::default().run(|stream, _| lognormal(stream));
    let other = Lab { seed: 81, blocks: arms, ..Lab::default() }.run(|stream, _| lognormal(stream) / ratio);
    put(&mut run, &other, Purpose::Unsampled, |key| key.neighbour.is_none().then_some(key.block));
    let plan = &mut run.manifest.plan;
    plan.inventory.provenance = Provenance::Measured;
    plan.design.controls.sampler = arms;
    let blocks = plan.design.blocks;
    let mut second = plan.arrangements[0].grids[0].clone();
    (second.victim, second.neighbour_seats, second.first_block) = (1, vec![0], blocks);
    plan.arrangements[0].grids.push(second);
    let there: Vec<_> = run
        .arms
        .iter()
        .filter(|(key, _)| key.purpose.is_block())
        .map(|(key, arm)| {
            let mut arm = arm.clone();
            arm.summary.neighbours.iter_mut().for_each(|neighbour| neighbour.seat = 0);
            (ArmKey { grid: 1, block: key.block + blocks, ..key.clone() }, arm)
        })
        .collect();
    run.arms.extend(there);
    let calibration = Calibration { grid: 1, ..run.calibrations[&(0, 0)].clone() };
    run.calibrations.insert((0, 1), calibration);
    run
}

#[test]
fn a_sampler_that_cannot_be_told_passes_once_for_an_arrangement() {
    let verdict = judge(&sampled(1.0, 12));
    let (outcome, text) = row(&verdict, Control::Sampler);
    assert_eq!(outcome, ControlOutcome::Passed, "{text}");
    assert!(
        text.starts_with("sampling clocks and power is not to be told from not, 12 of 12 blocks, largest"),
        "{text}"
    );
    assert_eq!(verdict.controls.iter().filter(|row| row.control == Control::Sampler).count(), 1);
    assert!(verdict.cells.len() == 2 && verdict.cells.iter().all(|cell| cell.verdict == Verdict::Isolated));
}

#[test]
fn a_sampler_that_moves_the_victim_either_way_takes_every_cell_of_the_arrangement() {
    for ratio in [1.4, 0.7] {
        let verdict = judge(&sampled(ratio, 12));
        assert_eq!(row(&verdict, Control::Sampler).0, ControlOutcome::Failed);
        let reason = Reason::ControlFailed { control: Control::Sampler };
        let failed = Verdict::Inconclusive { reason };
        assert!(verdict.cells.iter().all(|cell| cell.verdict == failed), "{ratio}: {:?}", verdict.cells);
    }
}

#[test]
fn arms_without_the_sampler_that_are_missing_block_isolated_and_none_is_told() {
    let mut run = sampled(1.0, 12);
    run.arms.retain(|key, _| key.purpose != Purpose::Unsampled || key.block < 11);
    let verdict = judge(&run);
    assert_eq!(row(&verdict, Control::Sampler).0, ControlOutcome::NotMeasured);
    let reason = Reason::ControlNotMeasured { control: Control::Sampler };
    let blocked = Verdict::Inconclusive { reason };
    assert!(verdict.cells.iter().all(|cell| cell.verdict == blocked), "{:?}", verdict.cells);

    run.manifest.plan.design.controls.sampler = 0;
    assert!(told(&judge(&run), "sampler control not run"));
    // In virtual time there is nothing to show, and a report says that, too.
    run.manifest.plan.design.controls.sampler = 12;
    run.manifest.plan.inventory.provenance = Provenance::Simulated;
    let verdict = judge(&run);
    assert!(told(&verdict, "sampler control not applicable: nobody samples a simulated GPU"), "{:?}", verdict.assumed);
    assert!(!verdict.controls.iter().any(|row| row.control == Control::Sampler));
}
