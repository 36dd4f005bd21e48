//! Launches of several contexts in one domain.

use super::*;

fn pair(shares: [SmShare; 2]) -> Rig {
    Rig::new(&shared(Policy::Concurrent, &shares))
}

#[test]
fn two_readers_of_one_domain_get_half_each() {
    let mut rig = pair([SmShare::All; 2]);
    let a = rig.submit(0, read(1_000_000), 1, 0);
    let b = rig.submit(1, read(1_000_000), 1, 0);
    rig.drain();
    // 10 µs alone, 20 µs together.
    assert_eq!(rig.span(a), (4_000, 24_000));
    assert_eq!(rig.span(b), (4_000, 24_000));
}

#[test]
fn a_reader_that_comes_halfway_shares_from_then_on() {
    let mut rig = pair([SmShare::All; 2]);
    let a = rig.submit(0, read(1_000_000), 1, 0);
    let b = rig.submit(1, read(1_000_000), 1, 5_000);
    rig.drain();
    // a: 5 µs alone, then half of the rest at half speed: 10 µs. b: 10 µs at half, the other half alone: 5 µs.
    assert_eq!(rig.span(a), (4_000, 19_000));
    assert_eq!(rig.span(b), (9_000, 24_000));
}

#[test]
fn who_asks_for_less_than_half_gets_it() {
    let mut rig = pair([SmShare::All; 2]);
    // Bound by its own wait of 40 µs, it reads 1 000 000 bytes at 25 per ns; the other gets 75.
    let traffic = Traffic { read: 1_000_000, footprint: 1 << 40, ..Traffic::default() };
    let slow = LaunchDemand { blocks: 1, blocks_per_sm: 4, wait_cycles: 40_000, traffic, ..Default::default() };
    let a = rig.submit(0, Demand::Launch(slow), 1, 0);
    let b = rig.submit(1, read(1_500_000), 1, 0);
    rig.drain();
    assert_eq!(rig.length(a), 40_000);
    assert_eq!(rig.length(b), 20_000);
}

#[test]
fn a_cap_on_sms_does_not_protect_bandwidth() {
    let mut rig = pair([SmShare::Cap(5); 2]);
    let a = rig.submit(0, read(1_000_000), 1, 0);
    rig.submit(1, read(5_000_000), 1, 0);
    rig.drain();
    assert_eq!(rig.length(a), 20_000);
}

#[test]
fn caps_that_fit_lie_apart_and_caps_that_do_not_compete() {
    // 10 blocks of 1000 cycles each; 5 SMs with room for 2 blocks each: 2000 cycles, whatever the other does.
    for shares in [[SmShare::Cap(5); 2], [SmShare::Own(5); 2]] {
        let mut rig = pair(shares);
        let a = rig.submit(0, compute(10, 2, 1_000), 1, 0);
        let b = rig.submit(1, compute(10, 2, 1_000), 1, 0);
        rig.drain();
        assert_eq!((rig.length(a), rig.length(b)), (2_000, 2_000), "{shares:?}");
    }
    // All 10 SMs for each, two blocks per SM: every SM's issue slots are halved.
    let mut rig = pair([SmShare::Cap(10); 2]);
    let a = rig.submit(0, compute(10, 2, 1_000), 1, 0);
    let b = rig.submit(1, compute(10, 2, 1_000), 1, 0);
    rig.drain();
    assert_eq!((rig.length(a), rig.length(b)), (2_000, 2_000));
    // 8 and 4 of 10: four waits of one block per SM leave 6 for the first, so it needs two waves.
    let wait = |blocks| {
        Demand::Launch(LaunchDemand { blocks, blocks_per_sm: 1, wait_cycles: 1_000, ..LaunchDemand::default() })
    };
    let mut rig = pair([SmShare::Cap(8), SmShare::Cap(4)]);
    rig.submit(1, wait(4), 10, 0);
    let a = rig.submit(0, wait(8), 1, 100);
    rig.drain();
    assert_eq!(rig.length(a), 2_000);
}

#[test]
fn few_blocks_on_their_own_sms_do_not_meet() {
    let mut rig = pair([SmShare::All; 2]);
    // 4 and 6 blocks fit side by side on 10 SMs.
    let a = rig.submit(0, compute(4, 2, 1_000), 1, 0);
    let b = rig.submit(1, compute(6, 2, 1_000), 1, 0);
    rig.drain();
    assert_eq!((rig.length(a), rig.length(b)), (1_000, 1_000));
    // Beside 10 blocks they have half of the SMs on which they lie.
    let mut rig = pair([SmShare::All; 2]);
    let a = rig.submit(0, compute(4, 2, 1_000), 1, 0);
    rig.submit(1, compute(10, 2, 100_000), 1, 0);
    rig.drain();
    assert_eq!(rig.length(a), 2_000);
}

#[test]
fn a_full_machine_makes_later_launches_wait() {
    let mut rig = pair([SmShare::All; 2]);
    // 100 blocks on 10 slots: it holds all of them to its end, 10 waves.
    let wave =
        Demand::Launch(LaunchDemand { blocks: 100, blocks_per_sm: 1, wait_cycles: 1_000, ..LaunchDemand::default() });
    let a = rig.submit(0, wave, 1, 0);
    let b = rig.submit(1, spin(500), 1, 1_000);
    rig.drain();
    assert_eq!(rig.span(a), (4_000, 14_000));
    assert_eq!(rig.span(b), (14_000, 14_500));
    // Partitioned SMs have no such queue.
    let mut rig = pair([SmShare::Own(8), SmShare::Own(2)]);
    rig.submit(0, wave, 1, 0);
    let b = rig.submit(1, spin(500), 1, 1_000);
    rig.drain();
    assert_eq!(rig.span(b), (5_000, 5_500));
}

#[test]
fn a_launch_grows_into_room_that_comes_free_before_later_ones_start() {
    let mut rig = Rig::new(&shared(Policy::Concurrent, &[SmShare::All; 3]));
    let wait = |blocks, cycles| {
        Demand::Launch(LaunchDemand { blocks, blocks_per_sm: 1, wait_cycles: cycles, ..Default::default() })
    };
    rig.submit(0, wait(8, 1_000), 1, 0);
    // Gets 2 slots for 10 blocks: 5 waves of 1000. After 1000 a fifth is done and it grows to 10: 4/5 of one wave.
    let b = rig.submit(1, wait(10, 1_000), 1, 0);
    let c = rig.submit(2, wait(1, 10), 1, 0);
    rig.drain();
    assert_eq!(rig.span(b), (4_000, 5_800));
    assert_eq!(rig.span(c), (5_800, 5_810), "head-of-line");
}

#[test]
fn tensor_pipes_and_l1_are_shared_on_the_same_sms() {
    let mut rig = pair([SmShare::All; 2]);
    let tensor =
        Demand::Launch(LaunchDemand { blocks: 10, blocks_per_sm: 2, tensor_cycles: 1_000, ..LaunchDemand::default() });
    let a = rig.submit(0, tensor, 1, 0);
    let b = rig.submit(1, tensor, 1, 0);
    rig.drain();
    assert_eq!((rig.length(a), rig.length(b)), (2_000, 2_000));
    // 10 SMs × 64 bytes per cycle from an L1 that holds 40 KiB of each.
    let traffic = Traffic { read: 640_000, footprint: 40 << 10, through_l1: true, ..Traffic::default() };
    let l1 = Demand::Launch(LaunchDemand { blocks: 10, blocks_per_sm: 2, traffic, ..LaunchDemand::default() });
    let a = rig.submit(0, l1, 1, 1_000_000);
    rig.drain();
    assert_eq!(rig.length(a), 1_000);
    let a = rig.submit(0, l1, 1, 2_000_000);
    let b = rig.submit(1, l1, 1, 2_000_000);
    rig.drain();
    assert_eq!((rig.length(a), rig.length(b)), (2_000, 2_000));
}

#[test]
fn a_saturated_level_multiplies_the_latency_of_chains() {
    let mut rig = pair([SmShare::All; 2]);
    rig.submit(1, read(1_000_000_000), 1, 0);
    let a = rig.submit(0, chase(100, 1 << 40, 0, false), 1, 50_000);
    rig.drain();
    // 500 ns × 5 at full utilisation.
    let length = rig.length(a);
    assert!((249_000..=250_000).contains(&length), "{length}");
}

#[test]
fn l2_is_held_in_proportion_to_insertion() {
    let mut rig = pair([SmShare::All; 2]);
    // One reads twice as fast as the other, both far beyond the L2: 30 and 60 bytes per ns, limited by their waits.
    let reader = |bytes| {
        let traffic = Traffic { read: bytes, footprint: 1 << 40, ..Traffic::default() };
        let launch =
            LaunchDemand { blocks: 1, blocks_per_sm: 4, wait_cycles: 10_000_000, traffic, ..Default::default() };
        Demand::Launch(launch)
    };
    rig.submit(0, reader(300_000_000), 1, 0);
    rig.submit(1, reader(600_000_000), 1, 0);
    rig.advance(9_000_000);
    let l2 = &rig.machine.domains[0].l2;
    let (a, b) = (l2.held(0), l2.held(1));
    assert!((a + b) / f64::from(10 << 20) > 0.99, "full");
    assert!((b / a - 2.0).abs() < 0.02, "{a} {b}");
}

#[test]
fn a_neighbour_that_streams_evicts_the_lines_of_a_chase() {
    let mut rig = pair([SmShare::All; 2]);
    // It fills 1 MiB of L2 by 8192 lines × many rounds, then hits.
    let warm = rig.submit(0, chase(200_000, 1 << 20, 0, false), 3, 0);
    rig.drain();
    let quiet = rig.submit(0, chase(1_000, 1 << 20, 0, false), 1, rig.span(warm).1);
    rig.drain();
    assert!((200_000..=201_000).contains(&rig.length(quiet)), "{}", rig.length(quiet));
    let at = rig.span(quiet).1;
    rig.submit(1, read(1_000_000_000), 1, at);
    let noisy = rig.submit(0, chase(1_000, 1 << 20, 0, false), 1, at + 3_000_000);
    rig.drain();
    // A line of 128 bytes per 2500 ns against 100 bytes per ns: next to nothing stays; 500 ns × 5.
    assert!((2_450_000..=2_500_000).contains(&rig.length(noisy)), "{}", rig.length(noisy));
}

#[test]
fn overload_grows_a_backlog() {
    let mut rig = pair([SmShare::All; 2]);
    // Service takes 10 µs and the gap 1 µs; one comes every 8 µs. After n there wait n × (1 − 8/11).
    for i in 0..110 {
        rig.advance(i * 8_000);
        rig.submit(0, spin(10_000), 1, i * 8_000);
    }
    rig.advance(110 * 8_000);
    let busy = rig.machine.busy(rig.queues[0]);
    assert!((30..=32).contains(&busy), "{busy}: 880 µs hold (880 − 4) / 11 = 79 of 110");
}
