//! Contexts and queues that come and go, and copies of a machine.

use super::*;

/// Two contexts of one GPU, none of them open.
fn vacant(policy: Policy) -> Rig {
    let machine = Machine::vacant(&model(), &shared(policy, &[SmShare::All; 2]), &[]).unwrap();
    Rig { machine, queues: Vec::new(), done: Vec::new() }
}

/// The same with both contexts open and a queue in each.
fn opened(policy: Policy) -> Rig {
    let mut rig = vacant(policy);
    for context in 0..2 {
        rig.machine.open(context).unwrap();
        rig.queues.push(rig.machine.queue(context).unwrap());
    }
    rig
}

#[test]
fn a_context_takes_its_overhead_while_it_is_open() {
    let mut rig = vacant(Policy::TimeSliced);
    let used = |rig: &Rig| rig.machine.memory_of(0).1;
    assert_eq!((rig.machine.memory_of(0).0, used(&rig)), (Bytes::gib(10), Bytes(0)));
    rig.machine.open(0).unwrap();
    rig.machine.open(1).unwrap();
    rig.machine.alloc(1, Bytes::gib(9)).unwrap();
    assert_eq!(rig.machine.held(1), Bytes::mib(200 + 9 * 1024));
    assert!(rig.machine.alloc(0, Bytes::gib(1)).is_err(), "10 GiB less 9 GiB and 400 MiB");
    rig.machine.close(1).unwrap();
    assert_eq!(used(&rig), Bytes::mib(200));
    rig.machine.alloc(0, Bytes::gib(1)).unwrap();
    assert!(rig.machine.close(2).is_err());
}

#[test]
fn a_context_that_does_not_fit_does_not_open() {
    let mut rig = vacant(Policy::TimeSliced);
    rig.machine.open(0).unwrap();
    rig.machine.alloc(0, Bytes::mib(10_000)).unwrap();
    assert!(rig.machine.open(1).is_err());
}

#[test]
fn who_is_left_alone_runs_as_if_alone_from_then_on() {
    for policy in [Policy::Concurrent, Policy::TimeSliced] {
        let mut rig = opened(policy);
        let mine = rig.submit(0, read(1_000_000_000), 1, 0);
        rig.submit(1, read(100_000_000_000), 1, 0);
        rig.advance(5_000_000);
        rig.machine.close(1).unwrap();
        rig.drain();
        assert_eq!(rig.done.len(), 1, "what was closed is not reported");
        // Alone 10 ms. Shared for 5 ms: half the rate, or half of the time; then alone.
        let length = rig.length(mine);
        assert!((11_000_000..=13_500_000).contains(&length), "{policy:?}: {length}");
    }
}

#[test]
fn a_closed_queue_frees_what_others_wait_for() {
    // The lock, a copy engine, room for blocks: the head of one queue holds it, another waits.
    let copies = copy(2_000_000_000, Direction::ToDevice);
    for (first, second) in [(call(1_000_000_000, 0), call(1_000, 0)), (copies, copy(20_000, Direction::ToDevice))] {
        let mut rig = opened(Policy::Concurrent);
        let more: Vec<QueueId> = (0..2).map(|_| rig.machine.queue(0).unwrap()).collect();
        for q in &more {
            rig.submit_to(*q, 0, first, 1, 0);
        }
        let waits = rig.submit(1, second, 1, 10);
        rig.advance(100_000);
        assert!(rig.done.is_empty());
        for q in more {
            rig.machine.close_queue(q);
        }
        rig.advance(200_000);
        assert_eq!(rig.done.iter().map(|d| d.ticket).collect::<Vec<_>>(), [waits]);
        assert!(rig.machine.next().is_none());
    }
}

#[test]
fn places_of_closed_queues_and_demands_are_used_again() {
    let mut rig = opened(Policy::TimeSliced);
    for round in 0..500u64 {
        let q = rig.machine.queue(1).unwrap();
        for n in 0..10 {
            rig.submit_to(q, 1, spin(10 * round + n + 1), 1, round * 1_000_000);
        }
        rig.advance(round * 1_000_000 + 20_000);
        rig.machine.close(1).unwrap();
        rig.machine.open(1).unwrap();
    }
}

#[test]
fn a_queue_may_close_in_any_state() {
    // At every microsecond of two contexts' turns: pending, waiting, running, paused, in a gap.
    for at in (0..9_000).step_by(250).chain((2_000_000..2_300_000).step_by(25_000)) {
        let mut rig = opened(Policy::TimeSliced);
        for context in 0..2 {
            rig.submit(context, spin(2_000), 2, 0);
            rig.submit(context, spin(5_000_000), 1, 0);
        }
        rig.advance(at);
        let q = rig.queues[0];
        rig.machine.close_queue(q);
        let again = rig.machine.queue(0).unwrap();
        let late = rig.submit_to(again, 0, spin(1_000), 1, at);
        rig.drain();
        assert_eq!(rig.done.iter().filter(|d| d.queue == rig.queues[1]).count(), 2, "closed at {at}");
        assert!(rig.length(late) >= 1_000);
    }
}

#[test]
fn a_copy_goes_on_as_its_original_does() {
    let mut original = opened(Policy::TimeSliced);
    let mut copied = opened(Policy::TimeSliced);
    // What the copy held before must not matter.
    copied.submit(0, spin(77), 3, 0);
    copied.machine.alloc(1, Bytes::gib(3)).unwrap();
    let mut at = 0;
    for step in 0..40u64 {
        let context = (step % 2) as usize;
        original.submit(context, if step % 3 == 0 { read(step << 20) } else { spin(step * 1_000) }, 1, at);
        let id = original.machine.alloc(context, Bytes::mib(step + 1)).unwrap();
        if step % 4 == 0 {
            original.machine.free(context, id);
        }
        at += 40_000 * step;
        original.advance(at);
        copied.machine.copy_from(&original.machine);
        copied.done.clone_from(&original.done);
    }
    original.drain();
    copied.drain();
    assert_eq!(original.done, copied.done);
    assert_eq!(original.machine.memory_of(0), copied.machine.memory_of(0));
}

#[test]
fn terms_of_a_context_hold_until_it_closes() {
    let mut rig = vacant(Policy::Concurrent);
    let terms = |sms| Terms { sms, memory_limit: Some(1 << 30), overhead: Some(60 << 20) };
    rig.machine.open_on(0, &terms(SmShare::Cap(4))).unwrap();
    assert_eq!((rig.machine.sms_of(0), rig.machine.held(0)), (4, Bytes::mib(60)));
    assert_eq!(rig.machine.memory_limit(0), Some(Bytes::gib(1)));
    assert!(rig.machine.alloc(0, Bytes::gib(2)).is_err() && rig.machine.alloc(0, Bytes::gib(1)).is_ok());
    rig.machine.close(0).unwrap();
    rig.machine.open(0).unwrap();
    assert_eq!((rig.machine.sms_of(0), rig.machine.held(0)), (10, Bytes::mib(200)));
    assert_eq!(rig.machine.memory_limit(0), None);
    // What becomes somebody's own leaves the rest to the others.
    rig.machine.close(0).unwrap();
    rig.machine.open_on(0, &terms(SmShare::Own(8))).unwrap();
    assert!(rig.machine.open_on(1, &terms(SmShare::Own(4))).is_err(), "8 and 4 of 10");
    rig.machine.open(1).unwrap();
    assert_eq!((rig.machine.sms_of(0), rig.machine.sms_of(1)), (8, 2));
}

#[test]
fn a_set_of_sms_changes_under_running_work() {
    // Alone 10 blocks of 1 ms take 1 ms; capped contexts that come and go leave running work in peace.
    let mut rig = opened(Policy::Concurrent);
    rig.machine.close(1).unwrap();
    let mine = rig.submit(0, compute(10, 1, 1_000_000), 1, 0);
    rig.advance(500_000);
    let terms = Terms { sms: SmShare::Own(5), memory_limit: None, overhead: None };
    rig.machine.open_on(1, &terms).unwrap();
    rig.queues[1] = rig.machine.queue(1).unwrap();
    let other = rig.submit(1, compute(5, 1, 1_000_000), 1, 500_000);
    rig.drain();
    assert_eq!(rig.length(mine), 1_000_000);
    assert_eq!(rig.length(other), 1_000_000);
    // From then on ten blocks need two waves on the five SMs that are left.
    let late = rig.submit(0, compute(10, 1, 1_000_000), 1, 5_000_000);
    rig.drain();
    assert_eq!(rig.length(late), 2_000_000);
}

#[test]
fn a_policy_changes_under_running_work() {
    let run = |from: Policy, to: Policy| {
        let mut rig = opened(from);
        let tickets = [0, 1].map(|x| rig.submit(x, spin(10_000_000), 1, 0));
        rig.advance(1_000_000);
        rig.machine.set_policy(0, to);
        rig.drain();
        tickets.map(|t| rig.span(t).1)
    };
    let together = run(Policy::Concurrent, Policy::Concurrent);
    assert_eq!(together, [10_004_000; 2]);
    let parted = run(Policy::Concurrent, Policy::TimeSliced);
    assert!(parted.iter().max().unwrap() > &18_000_000, "9 ms of each are left, in turns: {parted:?}");
    let joined = run(Policy::TimeSliced, Policy::Concurrent);
    assert!(joined.iter().max().unwrap() < &11_500_000, "1 ms waited, then side by side: {joined:?}");
}
