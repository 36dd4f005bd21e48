//! Injected leaks move their own channel and no other.

use super::*;
use crate::channel::Channel;
use crate::machine::{Leak, MachineError};
use crate::units::Share;

/// Lengths of probes of each channel in instance 0 while instance 1 makes noise on all of them.
fn probes(leaks: &[Leak]) -> Vec<(Channel, u64)> {
    let on_sms = |f: fn(&mut LaunchDemand)| {
        let mut launch = LaunchDemand { blocks: 5, blocks_per_sm: 8, ..LaunchDemand::default() };
        f(&mut launch);
        Demand::Launch(launch)
    };
    let through_l1 = |launch: &mut LaunchDemand| {
        launch.traffic = Traffic { read: 3_200_000, footprint: 20 << 10, through_l1: true, ..Traffic::default() };
    };
    let cases = [
        (Channel::Issue, on_sms(|l| l.issue_cycles = 10_000), on_sms(|l| l.issue_cycles = 1_000_000)),
        (Channel::Tensor, on_sms(|l| l.tensor_cycles = 10_000), on_sms(|l| l.tensor_cycles = 1_000_000)),
        (
            Channel::L1,
            on_sms(through_l1),
            on_sms(|l| {
                l.traffic = Traffic { read: 320_000_000, footprint: 20 << 10, through_l1: true, ..Traffic::default() };
            }),
        ),
        (Channel::HbmBandwidth, read(500_000), read(100_000_000)),
        (Channel::Atomics, on_sms(|l| l.atomics = 5_000), on_sms(|l| l.atomics = 500_000)),
    ];
    cases
        .into_iter()
        .map(|(channel, probe, noise)| {
            let mut rig = Rig::leaking(&model(), &halves(), leaks);
            rig.submit(1, noise, 1, 0);
            let ticket = rig.submit(0, probe, 1, 100_000);
            rig.drain();
            (channel, rig.length(ticket))
        })
        .collect()
}

#[test]
fn a_leak_moves_only_its_channel() {
    let clean = probes(&[]);
    for (i, (channel, base)) in clean.iter().enumerate() {
        let leaky = probes(&[Leak { channel: *channel, share: Share::percent(50) }]);
        for (j, (other, length)) in leaky.iter().enumerate() {
            if i == j {
                // Half of a saturating neighbour's use is less than a fair share, so that the probe keeps the rest: ½.
                let expected = base * 2;
                assert!(length.abs_diff(expected) <= expected / 50, "{channel}: {base} → {length}");
            } else {
                assert_eq!(*length, clean[j].1, "a leak of {channel} moved {other}");
            }
        }
    }
}

#[test]
fn leaks_of_room_take_room() {
    let leak = |channel| [Leak { channel, share: Share::percent(50) }];
    // 4 of the 5 SMs next door are full: two of mine are lost, and four blocks need two waves on three.
    let wait = |blocks, cycles| {
        Demand::Launch(LaunchDemand { blocks, blocks_per_sm: 1, wait_cycles: cycles, ..LaunchDemand::default() })
    };
    let mut rig = Rig::leaking(&model(), &halves(), &leak(Channel::BlockSlots));
    rig.submit(1, wait(4, 1_000_000), 1, 0);
    let a = rig.submit(0, wait(4, 1_000), 1, 100_000);
    rig.drain();
    assert_eq!(rig.length(a), 2_000);
    // One engine each, and the copy next door holds mine as well: I begin when it is done.
    let whole = Leak { channel: Channel::CopyEngine, share: Share::percent(100) };
    let mut rig = Rig::leaking(&model(), &halves(), &[whole]);
    let other = rig.machine.queue(1).unwrap();
    let first = rig.submit(1, copy(200_000, Direction::ToHost), 1, 0);
    rig.submit_to(other, 1, copy(400_000, Direction::ToHost), 1, 0);
    let a = rig.submit(0, copy(200_000, Direction::ToHost), 1, 100);
    rig.drain();
    assert_eq!(rig.span(a).0, rig.span(first).1 + 1_000);
    // 2 GiB and the context next door leave me 5 GiB − 200 MiB − (2048 + 200)/2 MiB.
    let mut rig = Rig::leaking(&model(), &halves(), &leak(Channel::HbmCapacity));
    rig.machine.alloc(1, Bytes::gib(2)).unwrap();
    let refused = rig.machine.alloc(0, Bytes::gib(5)).unwrap_err();
    assert_eq!(refused.free, Bytes::mib(5_120 - 200 - 1_124));
}

#[test]
fn what_hangs_on_the_gpu_cannot_leak_between_domains() {
    let leak = Leak { channel: Channel::Pcie, share: Share::percent(10) };
    let refused = Machine::new(&model(), &halves(), &[leak]).unwrap_err();
    assert_eq!(refused, MachineError::NotLeakable(Channel::Pcie));
}
