//! What hangs on the whole GPU, and what does not: GPU instances share the former only.

use super::*;

#[test]
fn instances_have_their_own_bandwidth_slots_and_issue() {
    for demand in [read(1_000_000), compute(20, 2, 1_000), read_in(1_000_000, 1 << 20, 20)] {
        let mut quiet = Rig::new(&halves());
        let a = quiet.submit(0, demand, 3, 0);
        quiet.drain();
        let mut noisy = Rig::new(&halves());
        let b = noisy.submit(0, demand, 3, 0);
        noisy.submit(1, read(10_000_000), 1, 0);
        noisy.submit(1, compute(100, 2, 100_000), 1, 0);
        noisy.drain();
        assert_eq!(quiet.span(a), noisy.span(b));
    }
}

#[test]
fn each_direction_of_the_link_is_shared_and_both_have_a_cap() {
    let mut rig = Rig::new(&halves());
    let a = rig.submit(0, copy(200_000, Direction::ToDevice), 1, 0);
    let b = rig.submit(1, copy(200_000, Direction::ToDevice), 1, 0);
    rig.drain();
    // 1 µs of setup, then 10 bytes per ns each.
    assert_eq!((rig.length(a), rig.length(b)), (20_000, 20_000));
    let at = 1_000_000;
    let a = rig.submit(0, copy(300_000, Direction::ToDevice), 1, at);
    let b = rig.submit(1, copy(300_000, Direction::ToHost), 1, at);
    rig.drain();
    // Both together have 30: 15 each instead of 20.
    assert_eq!((rig.length(a), rig.length(b)), (20_000, 20_000));
}

#[test]
fn copies_beyond_the_engines_of_a_domain_wait() {
    let mut rig = Rig::new(&shared(Policy::Concurrent, &[SmShare::All; 3]));
    let tickets: Vec<_> = (0..3).map(|c| rig.submit(c, copy(200_000, Direction::ToHost), 1, c as u64)).collect();
    rig.drain();
    // Two engines; both run at 10 bytes per ns and are done after 21 µs, the second a hair later.
    let spans: Vec<_> = tickets.iter().map(|t| rig.span(*t)).collect();
    assert_eq!(spans[0].0, 1_000);
    assert!((20_990..=21_001).contains(&spans[0].1), "{spans:?}");
    assert_eq!(spans[2].0, spans[0].1 + 1_000);
}

#[test]
fn the_drivers_lock_is_first_come_first_served_across_instances() {
    let mut rig = Rig::new(&halves());
    let a = rig.submit(0, call(10_000, 7_000), 1, 0);
    let b = rig.submit(1, call(5_000, 0), 1, 2_000);
    let queue = rig.machine.queue(0).unwrap();
    let c = rig.submit_to(queue, 0, call(1_000, 0), 1, 3_000);
    rig.drain();
    assert_eq!(rig.span(a), (0, 17_000));
    assert_eq!(rig.span(b), (10_000, 15_000));
    assert_eq!(rig.span(c), (15_000, 16_000));
}

#[test]
fn each_repetition_of_a_call_takes_the_lock_anew() {
    let mut rig = Rig::new(&halves());
    let a = rig.submit(0, call(10_000, 0), 2, 0);
    let b = rig.submit(1, call(10_000, 0), 1, 1_000);
    rig.drain();
    assert_eq!(rig.span(b), (10_000, 20_000));
    assert_eq!(rig.span(a), (0, 30_000));
}

#[test]
fn barriers_in_one_instance_slow_strong_loads_in_another_and_weak_ones_not() {
    for (strong, expected) in [(true, 2_000_000), (false, 500_000)] {
        let mut rig = Rig::new(&halves());
        // The barrier path is full: ten million barriers at 100 per µs.
        rig.submit(1, barriers(10_000_000), 1, 0);
        let a = rig.submit(0, chase(1_000, 1 << 40, 0, strong), 1, 1_000);
        rig.drain();
        // 1000 × 500 ns, × 4 where strong.
        let length = rig.length(a);
        assert!(length.abs_diff(expected) <= expected / 1_000, "{strong}: {length}");
    }
    // Half as many barriers per time: 1 + 3 × ½.
    let mut rig = Rig::new(&halves());
    let half =
        LaunchDemand { blocks: 1, blocks_per_sm: 1, wait_cycles: 2_000_000, barriers: 100_000, ..Default::default() };
    rig.submit(1, Demand::Launch(half), 1, 0);
    let a = rig.submit(0, chase(100, 1 << 40, 0, true), 1, 1_000);
    rig.drain();
    assert!(rig.length(a).abs_diff(125_000) <= 125, "{}", rig.length(a));
}

#[test]
fn the_barrier_path_is_shared_by_launches_and_driver_calls() {
    let mut rig = Rig::new(&halves());
    let a = rig.submit(0, barriers(1_000), 1, 0);
    let driver = HostDemand { lock: Nanos(0), outside: Nanos(0), barriers: 10_000 };
    rig.submit(1, Demand::Host(driver), 1, 0);
    rig.drain();
    // 50 per µs each instead of 100.
    assert_eq!(rig.length(a), 20_000);
}

#[test]
fn the_last_level_tlb_is_shared_across_instances() {
    let run = |noise: bool| {
        let mut rig = Rig::new(&halves());
        // 500 of 1000 pages, walked until they are held.
        let warm = rig.submit(0, chase(20_000, 1 << 40, 500, false), 1, 0);
        rig.drain();
        let at = rig.span(warm).1;
        if noise {
            // 10 look-ups per ns over 100 000 pages.
            let traffic = Traffic {
                read: 50_000_000,
                footprint: 1 << 40,
                page_touches: 10_000_000,
                pages: 100_000,
                ..Traffic::default()
            };
            let thrash = LaunchDemand { blocks: 20, blocks_per_sm: 4, traffic, ..LaunchDemand::default() };
            rig.submit(1, Demand::Launch(thrash), 10, at);
        }
        let ticket = rig.submit(0, chase(10_000, 1 << 40, 500, false), 1, at + 1_000_000);
        rig.drain();
        rig.length(ticket)
    };
    let (quiet, noisy) = (run(false), run(true));
    assert!((4_990_000..=5_000_000).contains(&quiet), "held: {quiet}");
    assert!((7_900_000..=8_000_000).contains(&noisy), "500 + 300 ns each: {noisy}");
}

#[test]
fn a_walk_within_the_sms_own_tlb_never_asks_the_last_level() {
    let mut model = model();
    model.tlb.sm_reach_mib = 32;
    // Nothing is held at first: 16 pages stay in the SM, of 64 pages a quarter of the loads do. 500 ns + 300 ns × share.
    for (pages, each) in [(16, 500), (64, 725)] {
        let mut rig = Rig::with(&model, &halves());
        let a = rig.submit(0, chase(10, 1 << 40, pages, false), 1, 0);
        rig.drain();
        assert!(rig.length(a).abs_diff(10 * each) <= 10, "{pages}: {}", rig.length(a));
    }
}

/// A GPU whose cap lies at half of what full tensor and issue slots draw: 100 idle, 500 busy.
fn hot() -> GpuModel {
    let mut model = model();
    model.power.cap_w = 400.0;
    model
}

/// All SMs with tensor pipes and issue slots full for `cycles`.
fn virus(blocks: u32, cycles: u64) -> Demand {
    let launch =
        LaunchDemand { blocks, blocks_per_sm: 1, issue_cycles: cycles, tensor_cycles: cycles, ..Default::default() };
    Demand::Launch(launch)
}

#[test]
fn the_clock_falls_above_the_cap_and_recovers() {
    let mut rig = Rig::with(&hot(), &shared(Policy::Concurrent, &[SmShare::All]));
    assert_eq!(rig.machine.sm_mhz(0), 1_000.0);
    rig.submit(0, virus(10, 200_000_000), 1, 0);
    rig.advance(500_000);
    assert!((rig.machine.power_w(0) - 600.0).abs() < 1e-6, "100 + 200 + 300: {}", rig.machine.power_w(0));
    // Target: 300 of 500 watts of activity → 600 MHz. After one lag of 10 ms a share of 1/e of the way is left.
    rig.advance(10_004_000);
    let mhz = rig.machine.sm_mhz(0);
    assert!((mhz - (600.0 + 400.0 * libm::exp(-1.0))).abs() < 20.0, "{mhz}");
    rig.advance(150_000_000);
    assert!((rig.machine.sm_mhz(0) - 600.0).abs() < 1.0, "{}", rig.machine.sm_mhz(0));
    assert!((rig.machine.power_w(0) - 400.0).abs() < 1.0);
    assert!(rig.machine.throttled(0).0 > 140_000_000);
    rig.drain();
    let end = rig.done[0].ended.0;
    // 200 M cycles at 600 MHz and a little more at first: 200 / 0.6 = 333 ms less 10 ms × 400/600.
    assert!((324_000_000..=330_000_000).contains(&end), "{end}");
    assert!(rig.machine.next().is_none());
    // It rises ten times as slowly: 100 ms after the end, 1/e of the way is left.
    rig.advance(end + 100_000_000);
    let mhz = rig.machine.sm_mhz(0);
    assert!((mhz - (1_000.0 - 400.0 * libm::exp(-1.0))).abs() < 10.0, "{mhz}");
    // While it rises nothing holds it down: only the time under the cap counts.
    assert!(rig.machine.throttled(0).0.abs_diff(end) <= 3_000_000, "{:?} of {end}", rig.machine.throttled(0));
    rig.advance(end + 3_000_000_000);
    assert!((rig.machine.sm_mhz(0) - 1_000.0).abs() < 0.2);
}

#[test]
fn the_clock_falls_for_want_of_work_where_the_file_says_so() {
    let mut model = model();
    model.clock.idle_after_ms = Some(5.0);
    model.clock.idle_mhz = 250;
    let awake = Rig::new(&halves());
    for (mut rig, pause, expected) in [
        (Rig::with(&model, &halves()), 4_900_000, 10_000),
        // 10 000 cycles at 250 MHz instead of 1000.
        (Rig::with(&model, &halves()), 50_000_000, 40_000),
        (awake, 50_000_000, 10_000),
    ] {
        let first = rig.submit(0, spin(10_000), 1, 0);
        rig.drain();
        let end = rig.span(first).1;
        // The clock belongs to the whole GPU: so does sleep.
        let a = rig.submit(1, spin(10_000), 1, end + pause);
        rig.drain();
        assert_eq!(rig.length(a), expected, "after {pause} ns");
        assert_eq!(rig.machine.throttled(0), Nanos::ZERO, "no cap held it down");
    }
    // Work in the other instance keeps it up.
    let mut rig = Rig::with(&model, &halves());
    rig.submit(0, spin(100_000_000), 1, 0);
    let a = rig.submit(1, spin(10_000), 1, 50_000_000);
    rig.drain();
    assert_eq!(rig.length(a), 10_000);
}

#[test]
fn the_clock_never_falls_below_its_floor() {
    let mut model = hot();
    model.power.cap_w = 150.0;
    let mut rig = Rig::with(&model, &shared(Policy::Concurrent, &[SmShare::All]));
    rig.submit(0, virus(10, 1_000_000_000), 1, 0);
    rig.advance(500_000_000);
    assert_eq!(rig.machine.sm_mhz(0), 500.0);
}

/// One instance draws 250 W of activity where 150 are allowed: 600 MHz. The other is free.
fn half_hot() -> Rig {
    let mut model = model();
    model.power.cap_w = 250.0;
    let mut rig = Rig::with(&model, &halves());
    rig.submit(1, virus(5, 2_000_000_000), 1, 0);
    rig.advance(300_000_000);
    rig
}

#[test]
fn one_clock_for_every_domain_in_time_but_not_in_cycles() {
    let mut rig = half_hot();
    let a = rig.submit(0, spin(600_000), 1, 300_000_000);
    let before = rig.machine.clock_cycles(0);
    rig.advance(310_000_000);
    let mhz = (rig.machine.clock_cycles(0) - before) / 1e4;
    assert!((599.0..601.0).contains(&mhz), "{mhz}");
    // 600 000 cycles at 600 MHz take 1 ms, on SMs of the other instance.
    assert!(rig.length(a).abs_diff(1_000_000) < 2_000, "{}", rig.length(a));
}

#[test]
fn the_time_of_device_memory_does_not_scale_with_the_clock() {
    let mut rig = half_hot();
    let a = rig.submit(0, read(1_000_000), 1, 300_000_000);
    let b = rig.submit(0, chase(100, 1 << 40, 0, false), 1, 300_000_000);
    rig.drain();
    // 50 bytes per ns; 100 × 500 ns.
    assert_eq!(rig.length(a), 20_000);
    assert!(rig.length(b).abs_diff(50_000) <= 1, "{}", rig.length(b));
}
