//! Work that has the GPU to itself.

use super::*;

fn solo() -> Rig {
    Rig::new(&shared(Policy::Concurrent, &[SmShare::All]))
}

/// Length of `demand` alone, once, after `warm` earlier runs.
fn alone(demand: Demand, warm: u32) -> u64 {
    let mut rig = solo();
    if warm > 0 {
        rig.submit(0, demand, warm, 0);
        rig.drain();
    }
    let at = rig.done.last().map_or(0, |d| d.ended.0);
    let ticket = rig.submit(0, demand, 1, at);
    rig.drain();
    rig.length(ticket)
}

#[test]
fn an_idle_machine_starts_after_the_launch_latency() {
    let mut rig = solo();
    let a = rig.submit(0, spin(0), 1, 10_000);
    rig.drain();
    // Nothing to do takes a nanosecond.
    assert_eq!(rig.span(a), (14_000, 14_001));
}

#[test]
fn a_queued_launch_follows_after_the_gap() {
    let mut rig = solo();
    let a = rig.submit(0, spin(10_000), 1, 0);
    let b = rig.submit(0, spin(5_000), 1, 0);
    rig.advance(12_000);
    let c = rig.submit(0, spin(100), 1, 12_000);
    rig.drain();
    assert_eq!(rig.span(a), (4_000, 14_000));
    assert_eq!(rig.span(b), (15_000, 20_000));
    assert_eq!(rig.span(c), (21_000, 21_100), "it was visible at 16 000, long before its turn");
}

#[test]
fn repetitions_are_one_flow_with_gaps_between() {
    let mut rig = solo();
    let a = rig.submit(0, spin(10_000), 4, 0);
    rig.drain();
    // 4 × 10 µs and three gaps of 1 µs.
    assert_eq!(rig.span(a), (4_000, 47_000));
    assert_eq!(rig.done.len(), 1);
}

#[test]
fn issue_time_is_that_of_the_sms_it_gets() {
    // 20 blocks × 1000 cycles over 10 SMs.
    assert_eq!(alone(compute(20, 2, 1_000), 0), 2_000);
    // 5 blocks lie on 5 SMs: 1000 cycles each.
    assert_eq!(alone(compute(5, 2, 1_000), 0), 1_000);
}

#[test]
fn waves_wait_one_after_the_other() {
    // 25 blocks, 10 SMs × 1: three waves of 1000 cycles.
    let d = Demand::Launch(LaunchDemand { blocks: 25, blocks_per_sm: 1, wait_cycles: 1_000, ..Default::default() });
    assert_eq!(alone(d, 0), 3_000);
}

#[test]
fn bytes_take_the_bandwidth_of_the_level_that_serves_them() {
    // 1 000 000 bytes ÷ 100 bytes per ns.
    assert_eq!(alone(read(1_000_000), 0), 10_000);
    // The same out of 1 MiB that L2 holds after many runs: 1000 bytes per ns.
    assert_eq!(alone(read_in(1_000_000, 1 << 20, 40), 500), 1_000);
}

#[test]
fn a_footprint_twice_the_l2_hits_half_of_the_time() {
    // 20 MiB over an L2 of 10 MiB: half of 4 000 000 bytes comes from device memory, at 100 bytes per ns.
    let length = alone(read_in(4_000_000, 20 << 20, 40), 2_000);
    assert!((19_900..=20_100).contains(&length), "{length}");
}

#[test]
fn a_chain_pays_the_latency_of_the_level_its_footprint_lands_on() {
    // 1 KiB sits in L2 after the first 1000 loads: 200 ns each.
    let length = alone(chase(1_000, 1 << 10, 0, false), 50);
    assert!((200_000..=200_100).contains(&length), "{length}");
    // 10 GiB: L2 holds a thousandth, the rest is 500 ns each.
    let length = alone(chase(1_000, 10 << 30, 0, false), 0);
    assert_eq!(length, 500_000);
}

#[test]
fn a_chain_through_l1_pays_l1_unless_it_is_strong() {
    let chain = |strong, footprint| {
        let chain = Chain { loads: 1_000, warps: 1, footprint, pages: 0, strong, through_l1: true };
        Demand::Launch(LaunchDemand { blocks: 1, blocks_per_sm: 1, chain, ..Default::default() })
    };
    assert_eq!(alone(chain(false, 50 << 10), 1), 30_000);
    // Twice the L1 of 100 KiB: half at 30 ns, half at the 200 ns of L2 (which holds it by then).
    let length = alone(chain(false, 200 << 10), 100);
    assert!((115_000..=115_200).contains(&length), "{length}");
    let length = alone(chain(true, 50 << 10), 100);
    assert!((200_000..=200_100).contains(&length), "{length}");
}

#[test]
fn pages_beyond_the_reach_add_misses() {
    // 4000 pages of which the TLB holds 1000: three quarters of the loads add 300 ns to 500 ns.
    let length = alone(chase(10_000, 10 << 30, 4_000, false), 20);
    assert!((7_240_000..=7_260_000).contains(&length), "{length}");
}

#[test]
fn barriers_and_atomics_take_their_rates() {
    // 100 barriers per µs; 1000 atomics per µs.
    assert_eq!(alone(barriers(1_000), 0), 10_000);
    let d = Demand::Launch(LaunchDemand { blocks: 1, atomics: 10_000, ..Default::default() });
    assert_eq!(alone(d, 0), 10_000);
}

#[test]
fn a_copy_takes_its_setup_and_the_link() {
    let mut rig = solo();
    let a = rig.submit(0, copy(200_000, Direction::ToDevice), 1, 5_000);
    rig.drain();
    // 1 µs, then 200 000 bytes at 20 bytes per ns.
    assert_eq!(rig.span(a), (6_000, 16_000));
}

#[test]
fn a_host_call_holds_the_lock_then_goes_on_without() {
    let mut rig = solo();
    let a = rig.submit(0, call(10_000, 5_000), 1, 0);
    rig.drain();
    assert_eq!(rig.span(a), (0, 15_000));
}

#[test]
fn a_full_queue_refuses() {
    let mut rig = solo();
    let work = rig.machine.define(0, &spin(1_000)).unwrap();
    let taken = (0..100).filter(|_| rig.machine.submit(rig.queues[0], work, 1, Nanos(0)).is_some()).count();
    assert_eq!(taken, 64);
    assert_eq!(rig.machine.busy(rig.queues[0]), 64);
    rig.advance(5_000);
    assert_eq!(rig.machine.busy(rig.queues[0]), 63);
    assert!(rig.machine.submit(rig.queues[0], work, 1, Nanos(5_000)).is_some());
}

#[test]
fn equal_demands_are_one_work() {
    let mut rig = solo();
    let a = rig.machine.define(0, &spin(1)).unwrap();
    assert_eq!(rig.machine.define(0, &spin(1)).unwrap(), a);
    assert_ne!(rig.machine.define(0, &spin(2)).unwrap(), a);
    assert!(rig.machine.define(1, &spin(1)).is_err(), "there is no such context");
}
