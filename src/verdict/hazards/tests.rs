use super::judged;
use super::*;
use crate::backend::Outcome;
use crate::hazard::{
    Act, Attempt, Came, Capacity, Changed, Check, Exit, FaultKind, FaultTrial, Faults, Integrity, Kept, Leftovers,
    Newcomer, Reach, Round, Service, Step, Trespass,
};
use crate::units::Nanos;
use crate::verdict::Reason;

const GIB: u64 = 1 << 30;

fn attempt(at: u64, step: Step, outcome: Outcome) -> Attempt {
    Attempt { at: Nanos(at), took: Nanos(1), step, asked: GIB, outcome, seen: Some((GIB / 2, 80 * GIB)) }
}

/// A victim that tried `works` times beside a neighbour that took memory from time 10 on.
fn capacity(works: u64, change: impl FnOnce(&mut Capacity)) -> Found {
    let mut victim = vec![attempt(0, Step::Context, Outcome::Ok), attempt(1, Step::Budget, Outcome::Ok)];
    victim.extend((0..works).map(|n| attempt(20 + n, Step::Work, Outcome::Ok)));
    let reach = |total| Some(Reach { total, largest: total, free: None, most: None });
    let mut record = Capacity {
        budget: 20 * GIB,
        working: GIB,
        victim_alone: reach(79 * GIB),
        neighbour_beside: reach(50 * GIB),
        victim,
        neighbour: vec![attempt(10, Step::Take, Outcome::Ok), attempt(11, Step::Take, Outcome::Oom)],
        ..Capacity::default()
    };
    change(&mut record);
    judged::of(&Came::Capacity(record))
}

fn inconclusive(found: &Found) -> &Reason {
    match &found.verdict {
        Verdict::Inconclusive { reason } => reason,
        other => panic!("{other:?}: {}", found.text),
    }
}

fn unproven(found: &Found, words: &str) {
    assert!(matches!(inconclusive(found), Reason::Unproven { what } if what.contains(words)), "{}", found.text);
}

#[test]
fn memory_takes_459_attempts_and_one_failure_is_enough() {
    // What it did before the neighbour came is no attempt beside it.
    let found = capacity(LEAST_ATTEMPTS, |_| {});
    assert_eq!((&found.verdict, found.hits, found.of), (&Verdict::Isolated, 0, LEAST_ATTEMPTS), "{}", found.text);
    assert!(
        proportion_upper(0, LEAST_ATTEMPTS, LEVEL) <= 0.01 && proportion_upper(0, LEAST_ATTEMPTS - 1, LEVEL) > 0.01
    );
    assert!(found.text.contains("0 of 459: at most 1.00 % (99 %)"), "{}", found.text);
    let found = capacity(LEAST_ATTEMPTS - 1, |_| {});
    assert_eq!(*inconclusive(&found), Reason::TooFewTrials { trials: 458, needed: 459 });
    let found = capacity(30, |c| c.victim[20].outcome = Outcome::Oom);
    assert_eq!((&found.verdict, found.hits, found.of), (&Verdict::Violated, 1, 30));
    assert!(found.text.contains("1 of 30 attempts") && found.text.contains("512.00 MiB of 80"), "{}", found.text);
    // At the creation of a context beside it, after a restart.
    let found = capacity(30, |c| c.victim.push(attempt(60, Step::Context, Outcome::Oom)));
    assert_eq!((&found.verdict, found.hits, found.of), (&Verdict::Violated, 1, 31));
}

#[test]
fn a_failure_that_the_neighbour_did_not_cause_is_no_finding() {
    unproven(&capacity(500, |c| c.neighbour.clear()), "no memory at all");
    unproven(&capacity(500, |c| c.victim[1].outcome = Outcome::Oom), "does not fit here alone");
    let small = Some(Reach { total: GIB, largest: GIB, free: None, most: None });
    unproven(
        &capacity(500, |c| (c.victim_alone, c.victim[9].outcome) = (small, Outcome::Oom)),
        "does not fit here alone",
    );
    unproven(&capacity(500, |c| c.victim[9].outcome = Outcome::Error(999)), "no lack of memory");
    unproven(
        &capacity(500, |c| c.died = Some("was killed by signal 9".to_owned())),
        "nothing shows that the neighbour",
    );
    unproven(&capacity(500, |c| c.worthless = Some("memory spills here".to_owned())), "memory spills here");
}

fn round(change: impl FnOnce(&mut Round)) -> Round {
    let mut round = Round {
        kept: Kept::Memory,
        exit: Exit::Killed,
        same_place: true,
        planted: 50 * GIB,
        scanned: 60 * GIB,
        all: Some(80 * GIB),
        found: 0,
        range: None,
        untold: None,
    };
    change(&mut round);
    round
}

fn leftovers(rounds: Vec<Round>) -> Found {
    judged::of(&Came::Leftovers(Leftovers { rounds }))
}

#[test]
fn leftovers_count_where_what_is_looked_at_had_held_the_pattern() {
    let found =
        leftovers(vec![round(|_| {}), round(|_| {}), round(|r| r.untold = Some("no faults are allowed".to_owned()))]);
    assert_eq!((&found.verdict, found.of), (&Verdict::Isolated, 2), "{}", found.text);
    assert!(found.text.contains("30.00 GiB or more") && found.text.contains("at most 90.00 %"), "{}", found.text);
    unproven(&leftovers(vec![round(|r| r.scanned = 30 * GIB)]), "surely held");
    unproven(&leftovers(vec![round(|r| r.all = None)]), "surely held");
    unproven(&leftovers(vec![round(|r| r.untold = Some("no room".to_owned()))]), "no room");
    // A hit needs no proof of an overlap.
    let hit = |r: &mut Round| (r.found, r.range, r.all) = (512, Some((4096, 8184)), None);
    let found = leftovers(vec![round(|_| {}), round(hit)]);
    assert_eq!((&found.verdict, found.hits, found.of), (&Verdict::Violated, 1, 2));
    assert!(found.text.contains("from byte 4096 to byte 8184"), "{}", found.text);
}

fn integrity(changed: [u64; 3], trespass: Option<Trespass>) -> Found {
    let first = |n: u64| (n > 0).then_some(Changed { address: 0x7f00, expected: 1, found: 2 });
    let check = |(at, n): (u64, u64)| Check {
        at: Nanos(at),
        after: if at == 0 { "nothing" } else { "hbm-write" }.to_owned(),
        words: 1000,
        changed: n,
        first: first(n),
    };
    let checks = (0..).zip(changed).map(check).collect();
    judged::of(&Came::Integrity(Integrity {
        budget: GIB,
        checks,
        trespasses: trespass.into_iter().collect(),
        ..Integrity::default()
    }))
}

#[test]
fn one_changed_word_violates_with_its_address_and_one_read_does() {
    let found = integrity([0, 0, 0], None);
    assert_eq!((&found.verdict, found.of), (&Verdict::Isolated, 2), "{}", found.text);
    let found = integrity([0, 0, 1], None);
    assert_eq!((&found.verdict, found.hits), (&Verdict::Violated, 1));
    assert!(found.text.contains("0x7f00") && found.text.contains("after hbm-write"), "{}", found.text);
    unproven(&integrity([1, 1, 1], None), "before any neighbour did anything");
    let trespass = |refused, found| Some(Trespass { what: "read at the victim's address".to_owned(), refused, found });
    assert_eq!(integrity([0, 0, 0], trespass(Some(700), 0)).verdict, Verdict::Isolated);
    assert_eq!(integrity([0, 0, 0], trespass(None, 3)).verdict, Verdict::Violated);
}

/// A trial that did nothing to anybody.
fn trial(fault: Option<FaultKind>, change: impl FnOnce(&mut FaultTrial)) -> FaultTrial {
    let mut trial = FaultTrial {
        fault,
        act: Act { at: Nanos::secs(1), code: fault.map(|_| 719), ended: "ended".to_owned(), happened: true },
        victim: Service {
            done: [100, 100],
            gaps_ns: [Nanos::millis(1), Nanos::millis(2)],
            recovered: Some(Nanos::millis(1)),
            ..Service::default()
        },
        newcomer: Newcomer { started: Some(Nanos::secs(1)), ..Newcomer::default() },
        xids: Vec::new(),
        recovery: Vec::new(),
    };
    change(&mut trial);
    trial
}

fn faults(trials: Vec<FaultTrial>) -> Found {
    judged::of(&Came::Faults(Faults { trials, lost: None }))
}

const TRAP: Option<FaultKind> = Some(FaultKind::Trap);

#[test]
fn a_fault_counts_by_what_the_driver_says_or_by_coming_too_often_for_chance() {
    let control = || trial(None, |_| {});
    let found = faults(vec![control(), trial(TRAP, |_| {}), trial(TRAP, |_| {})]);
    assert_eq!((&found.verdict, found.of), (&Verdict::Isolated, 2), "{}", found.text);
    assert!(found.text.contains("0 of 2: at most 90.00 %"), "{}", found.text);
    for change in [
        (|t: &mut FaultTrial| t.victim.errors = vec![(719, Nanos::secs(2))]) as fn(&mut FaultTrial),
        |t| t.victim.wrong = 1,
        |t| t.newcomer = Newcomer { started: None, refused: 9, why: Some("error 807".to_owned()) },
    ] {
        let found = faults(vec![control(), trial(TRAP, change), trial(TRAP, |_| {})]);
        assert_eq!((&found.verdict, found.hits, found.of), (&Verdict::Violated, 1, 2), "{}", found.text);
        // The same without a fault says nothing of the fault.
        unproven(&faults(vec![trial(None, change), trial(TRAP, change)]), "without a fault");
    }
    let died = |t: &mut FaultTrial| t.victim.died = Some("was killed by signal 9".to_owned());
    unproven(
        &faults(vec![control(), trial(TRAP, died), trial(TRAP, |_| {})]),
        "1 of 2 trials and in none of 1 without",
    );
    // So often, and never in as many without, that it is no accident: 1 in C(10, 5) = 252; in fewer it may be one.
    let many = |n: usize| (0..n).flat_map(|_| [control(), trial(TRAP, died)]).collect();
    unproven(&faults(many(4)), "4 of 4 trials and in none of 4 without");
    let found = faults(many(5));
    assert_eq!((&found.verdict, found.hits, found.of), (&Verdict::Violated, 5, 5), "{}", found.text);
    let held = |t: &mut FaultTrial| t.victim.gaps_ns[1] = Nanos::secs(5);
    unproven(&faults(vec![control(), trial(TRAP, held)]), "held up");
    let gone = Faults { trials: vec![control(), trial(TRAP, |_| {})], lost: Some("Xid 79".to_owned()) };
    let found = judged::of(&Came::Faults(gone));
    assert_eq!((&found.verdict, found.hits), (&Verdict::Violated, 1), "{}", found.text);
    unproven(&faults(vec![trial(TRAP, |_| {})]), "without a fault to compare with");
    unproven(&faults(vec![control(), trial(TRAP, |t| t.act.happened = false)]), "no fault came about");
}

#[test]
fn what_could_not_be_tried_is_not_decided() {
    let found = judged::of(&Came::Untold { why: "one process".to_owned() });
    unproven(&found, "one process");
    assert_eq!(found.of, 0);
}
