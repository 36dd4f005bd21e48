//! Controls, looks and what they do to the arms that are run.

use std::sync::atomic::Ordering;

use super::*;
use crate::backend::Purpose;
use crate::channel::Channel;
use crate::experiment::blocks::order;
use crate::experiment::planned_arms;
use crate::scenario::{Look, SharingMode};
use crate::units::Share;

fn blocks(numbers: std::ops::Range<u32>) -> impl Iterator<Item = Vec<ArmKey>> {
    let mut plan = plan();
    plan.design.controls.again = true;
    // The second neighbour heats.
    plan.neighbours[1].channels.push(Channel::Power);
    numbers.map(move |block| order(&plan, 0, 0, block))
}

#[test]
fn the_second_quiet_arm_moves_no_other_and_never_follows_heat() {
    let without = plan();
    let mut with = plan();
    with.design.controls.again = true;
    let mut places = [0; 4];
    for block in 0..200 {
        let mut keys = order(&with, 0, 0, block);
        let again = keys.iter().position(|key| key.purpose == Purpose::Again).unwrap();
        places[again] += 1;
        assert_eq!((keys[again].neighbour, keys.len()), (None, 4));
        keys.remove(again);
        assert_eq!(keys, order(&without, 0, 0, block), "block {block}");
    }
    assert!(places.iter().all(|n| *n > 20), "any place is as good: {places:?}");
    for keys in blocks(0..50) {
        assert_eq!(keys[3].neighbour, Some(1), "noise that heats comes last: {keys:?}");
    }
}

/// Six blocks in three generations under MPS, where the first neighbour loads what the probe feels.
pub(super) fn shared() -> Plan {
    let mut plan = stand_in();
    plan.arrangements[0].sharing = SharingMode::Mps;
    plan.panel[0].channels = vec![Channel::HbmBandwidth];
    plan.neighbours[1].channels = vec![Channel::Power];
    plan.design.controls = Controls { again: true, presence: 2, sensitivity: 2, ..Controls::default() };
    plan
}

pub(super) struct Ran {
    pub(super) run: RecordedRun,
    backend: Failing,
    pub(super) folder: tempfile::TempDir,
}

impl Ran {
    fn dir(&self) -> RecordedRun {
        load(self.folder.path()).unwrap()
    }

    fn of(&self, purpose: Purpose) -> Vec<(u32, Option<usize>)> {
        self.run.arms.keys().filter(|k| k.purpose == purpose).map(|k| (k.block, k.neighbour)).collect()
    }
}

pub(super) fn ran(plan: &Plan, backend: Failing) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let manifest = Manifest::new(jiff::civil::date(2026, 5, 1), Provenance::StandIn, "a stand-in", plan, "");
    let mut dir = RunDir::create(folder.path(), &manifest).unwrap();
    let mut recorded = RecordedRun::new(manifest);
    let ended = run(&backend, &mut dir, &mut recorded, &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert_eq!(ended, Ended::Complete);
    borne_out(folder.path(), true);
    Ran { run: recorded, backend, folder }
}

#[test]
fn controls_have_restarts_of_their_own() {
    let plan = shared();
    let ran = ran(&plan, Failing::new(|_| None));
    let companies = ran.backend.companies.lock().unwrap().clone();
    let restarts = ran.backend.restarts.lock().unwrap().clone();
    use Company::{Alone, Beside, Within};
    let order: Vec<_> = companies.iter().map(|(company, arms)| (*company, arms.len())).collect();
    // Pairs first: quiet and the one neighbour that loads what is felt, twice. Then blocks of four arms, and the victim alone
    // after the first two generations.
    assert_eq!(order, [(Within, 4), (Beside, 8), (Alone, 1), (Beside, 8), (Alone, 1), (Beside, 8)]);
    assert_eq!(restarts, [3, 0, 0, 1, 1, 2], "allocations alone are those of the blocks before");
    assert_eq!(ran.of(Purpose::Again), (0..6).map(|block| (block, None)).collect::<Vec<_>>());
    assert_eq!(ran.of(Purpose::Alone), [(0, None), (2, None)]);
    assert_eq!(ran.of(Purpose::Within), [(0, None), (0, Some(0)), (1, None), (1, Some(0))]);
    assert_eq!(ran.run.arms.len() as u64, planned_arms(&plan, 0));
    assert!(ran.dir().arms == ran.run.arms);
    // The victim alone has the windows of the block that it is compared with, pairs have short ones.
    let length = |block, purpose| {
        let key = ArmKey { arrangement: 0, grid: 0, block, neighbour: None, purpose };
        ran.run.arms[&key].summary.windows[0].length
    };
    assert_eq!(length(2, Purpose::Alone), length(2, Purpose::Block));
    assert!(length(0, Purpose::Within) <= length(0, Purpose::Block));
}

#[test]
fn a_mode_without_a_share_of_its_own_or_without_processes_has_no_such_control() {
    let mut plan = shared();
    for (sharing, presence, sensitivity) in [
        (SharingMode::TimeSlicing, 2, 0),
        (SharingMode::Streams, 0, 0),
        (SharingMode::Exclusive, 0, 0),
        (SharingMode::Mig, 2, 2),
        (SharingMode::MigComputeInstances, 2, 2),
    ] {
        plan.arrangements[0].sharing = sharing;
        assert_eq!((plan.presence(0, 0), plan.sensitivity(0, 0)), (presence, sensitivity), "{sharing}");
    }
    plan.panel[0].channels = vec![Channel::Pcie];
    assert_eq!(plan.sensitivity(0, 0), 0, "nothing that a place of its own could show");
    plan.design.controls.presence = 9;
    assert_eq!(plan.presence(0, 0), 3, "one in each generation at most");
}

#[test]
fn a_control_that_cannot_be_run_is_recorded_and_costs_nothing_else() {
    for reach in [Reach::Arrangement, Reach::Arm] {
        let backend = Failing { refused: Some((Company::Within, reach)), ..Failing::new(|_| None) };
        let mut plan = shared();
        plan.design.controls.sensitivity = 3;
        let ran = ran(&plan, backend);
        assert!(ran.run.given_up.is_empty() && ran.of(Purpose::Within).is_empty());
        assert_eq!(ran.of(Purpose::Block).len(), 18);
        let why = ran.dir().no_control;
        if reach == Reach::Arrangement {
            assert!(why[&(0, 0, Purpose::Within)].contains("8 GiB of 24 GiB are free"), "{why:?}");
        } else {
            assert!(why.is_empty(), "tenants that die are no proof that it cannot be: {why:?}");
            // Three pairs are three attempts: all are lost, and said to be.
            assert_eq!(ran.run.lost.len(), 3, "{:?}", ran.run.lost);
        }
    }
}

/// What was run once is not impossible: what became of it later is a loss.
#[test]
fn a_control_that_fails_after_its_first_arm_has_lost_the_others() {
    let refuse = |key: &ArmKey| (key.purpose == Purpose::Alone && key.block > 0).then_some(Reach::Arrangement);
    let ran = ran(&shared(), Failing::new(refuse));
    assert_eq!(ran.of(Purpose::Alone), [(0, None)]);
    assert!(ran.dir().no_control.is_empty() && ran.run.given_up.is_empty());
    let lost: Vec<_> = ran.dir().lost.keys().map(|key| (key.block, key.purpose)).collect();
    assert_eq!(lost, [(2, Purpose::Alone)]);
}

#[test]
fn a_pair_that_lost_an_arm_is_measured_anew_and_nothing_else_is() {
    let lost = ran(
        &shared(),
        Failing::new(|key| {
            (key.purpose == Purpose::Within && key.block == 1 && key.neighbour.is_some()).then_some(Reach::Arm)
        }),
    );
    assert_eq!(lost.run.lost.len(), 1);
    let (mut dir, mut resumed) = RunDir::resume(lost.folder.path()).unwrap();
    let pair = |run: &RecordedRun| run.arms.keys().filter(|k| k.purpose == Purpose::Within && k.block == 1).count();
    assert_eq!((pair(&resumed), resumed.lost.len()), (0, 0));
    assert_eq!(resumed.arms.keys().filter(|k| k.block == 1 && k.purpose == Purpose::Block).count(), 3);
    let backend = Failing::new(|_| None);
    run(&backend, &mut dir, &mut resumed, &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert_eq!(pair(&resumed), 2);
    assert_eq!(backend.restarts.into_inner().unwrap(), [3], "that generation alone");
}

/// 24 blocks in generations of four, with a look at 12 of them; the first neighbour is ten times as slow.
pub(super) fn with_a_look() -> (Plan, Failing) {
    let mut plan = shared();
    (plan.design.blocks, plan.design.blocks_per_generation) = (24, 4);
    plan.design.controls = Controls { again: true, presence: 12, ..Controls::default() };
    let look = |blocks, percent| Look { blocks, spends: Share::percent(percent) };
    plan.design.looks = vec![look(11, 30), look(24, 70)];
    (plan, Failing { slower: [10, 1], ..Failing::new(|_| None) })
}

#[test]
fn a_neighbour_that_is_decided_stops_and_the_quiet_arms_go_on() {
    let (plan, backend) = with_a_look();
    let ran = ran(&plan, backend);
    let key = (0, 0, 0);
    assert_eq!(ran.run.stopped.into_iter().collect::<Vec<_>>(), [(key, 0)], "the second neighbour is not decided");
    let dir = load(ran.folder.path()).unwrap();
    assert_eq!(dir.stopped, std::collections::BTreeMap::from([(key, 0)]));
    let count =
        |neighbour, purpose| dir.arms.keys().filter(|k| (k.neighbour, k.purpose) == (neighbour, purpose)).count();
    // To the end of the generation in which the eleventh block is.
    assert_eq!(count(Some(0), Purpose::Block), 12);
    assert_eq!((count(Some(1), Purpose::Block), count(None, Purpose::Block)), (24, 24));
    assert_eq!((count(None, Purpose::Again), count(None, Purpose::Alone)), (24, 6));
}

#[test]
fn a_grid_whose_neighbours_are_all_decided_ends() {
    let (plan, backend) = with_a_look();
    let ran = ran(&plan, Failing { slower: [10, 10], ..backend });
    assert_eq!(ran.run.stopped.len(), 2);
    assert!(ran.run.arms.keys().all(|key| key.block < 12), "no arm without a neighbour to compare it with");
    assert_eq!(ran.of(Purpose::Alone).len(), 3);
    let resumable = RunDir::resume(ran.folder.path()).unwrap();
    assert_eq!(resumable.1.arms.len(), ran.run.arms.len(), "nothing of it is incomplete");
}

#[test]
fn a_resumed_run_keeps_the_looks_that_were_taken() {
    let (plan, backend) = with_a_look();
    let whole = ran(&plan, backend);
    for arms in [30, 55, 70] {
        let (_, backend) = with_a_look();
        let folder = tempfile::tempdir().unwrap();
        let mut dir = RunDir::create(folder.path(), &whole.run.manifest).unwrap();
        let mut recorded = RecordedRun::new(whole.run.manifest.clone());
        let (stop, mut committed) = (AtomicBool::new(false), 0);
        let mut on = |progress| {
            committed += usize::from(matches!(progress, Progress::Committed { .. }));
            stop.store(committed >= arms, Ordering::Relaxed);
        };
        assert_eq!(run(&backend, &mut dir, &mut recorded, &stop, &mut on).unwrap(), Ended::Interrupted);
        drop(dir);
        let (mut dir, mut resumed) = RunDir::resume(folder.path()).unwrap();
        assert_eq!(resumed.stopped, recorded.stopped, "after {arms} arms");
        run(&backend, &mut dir, &mut resumed, &AtomicBool::new(false), &mut |_| {}).unwrap();
        assert_eq!(resumed.arms.keys().collect::<Vec<_>>(), whole.run.arms.keys().collect::<Vec<_>>());
        assert_eq!(load(folder.path()).unwrap().stopped, whole.run.stopped);
    }
}
