//! Device memory and the limits of the tables.

use super::*;
use crate::channel::Channel;
use crate::machine::{Leak, MachineError, OutOfMemory};
use crate::units::Share;

/// One domain of 10 GiB whose context takes 200 MiB.
fn one() -> Rig {
    Rig::new(&shared(Policy::Concurrent, &[SmShare::All]))
}

#[test]
fn allocation_counts_in_pages_and_runs_out() {
    let mut rig = one();
    // 10 240 − 200 = 10 040 MiB.
    rig.machine.alloc(0, Bytes::mib(10_039)).unwrap();
    let refused = rig.machine.alloc(0, Bytes(1)).unwrap_err();
    // 10 039 MiB round up to 5020 pages.
    assert_eq!(refused, OutOfMemory { asked: Bytes(1), free: Bytes(0), largest: Bytes(0), total: Bytes::gib(10) });
}

#[test]
fn first_fit_fragments() {
    let mut rig = one();
    let parts: Vec<_> = (0..10).map(|_| rig.machine.alloc(0, Bytes::mib(1_004)).unwrap()).collect();
    for part in parts.iter().step_by(2) {
        assert!(rig.machine.free(0, *part));
    }
    // Five holes of 1004 MiB: 5020 free, none of them larger.
    let refused = rig.machine.alloc(0, Bytes::mib(1_006)).unwrap_err();
    assert_eq!((refused.free, refused.largest), (Bytes::mib(5_020), Bytes::mib(1_004)));
    // A small one goes to the first hole, and a whole hole to the second.
    rig.machine.alloc(0, Bytes::mib(2)).unwrap();
    rig.machine.alloc(0, Bytes::mib(1_004)).unwrap();
    let refused = rig.machine.alloc(0, Bytes::mib(2_000)).unwrap_err();
    assert_eq!(refused.free, Bytes::mib(5_020 - 1_006));
    assert!(!rig.machine.free(0, parts[0]), "it was freed before");
}

#[test]
fn neighbours_take_from_one_domain_and_not_from_another() {
    let mut rig = Rig::new(&shared(Policy::Concurrent, &[SmShare::All; 2]));
    rig.machine.alloc(1, Bytes::gib(9)).unwrap();
    assert!(rig.machine.alloc(0, Bytes::gib(1)).is_err());
    let mut rig = Rig::new(&halves());
    rig.machine.alloc(1, Bytes::gib(4)).unwrap();
    assert!(rig.machine.alloc(0, Bytes::gib(4)).is_ok());
}

#[test]
fn a_limit_is_what_a_context_sees() {
    let mut topology = shared(Policy::Concurrent, &[SmShare::All; 2]);
    topology.contexts[0].memory_limit = Some(1 << 30);
    let mut rig = Rig::new(&topology);
    let id = rig.machine.alloc(0, Bytes::mib(1_000)).unwrap();
    let refused = rig.machine.alloc(0, Bytes::mib(100)).unwrap_err();
    assert_eq!((refused.free, refused.total), (Bytes::mib(24), Bytes::gib(1)));
    assert!(!rig.machine.free(1, id), "another context's allocation");
    assert!(rig.machine.free(0, id));
    assert!(rig.machine.alloc(0, Bytes::gib(1)).is_ok());
}

#[test]
fn a_machine_refuses_what_it_cannot_be() {
    let refuse = |t: &Topology| Machine::new(&model(), t, &[]).unwrap_err();
    let own = shared(Policy::Concurrent, &[SmShare::Own(6), SmShare::Own(5)]);
    assert_eq!(refuse(&own), MachineError::TooManySms { what: "compute domain", index: 0, asked: 11, has: 10 });
    let rest = shared(Policy::Concurrent, &[SmShare::Own(10), SmShare::All]);
    assert_eq!(refuse(&rest), MachineError::NoSms { what: "context", index: 1 });
    let mut tree = halves();
    tree.computes[1].domain = 2;
    assert_eq!(refuse(&tree), MachineError::Missing { what: "memory domain", index: 2 });
    let mut wide = halves();
    wide.computes[1].sms = 6;
    assert_eq!(refuse(&wide), MachineError::TooManySms { what: "memory domain", index: 1, asked: 6, has: 5 });
    let crowd = shared(Policy::Concurrent, &[SmShare::All; 33]);
    assert_eq!(refuse(&crowd), MachineError::TooMany { what: "contexts", most: 32 });
    let mut small = halves();
    small.domains[1].memory = 100 << 20;
    assert_eq!(refuse(&small), MachineError::NoMemory { context: 1, overhead: 200 << 20 });
}

#[test]
fn what_a_tenant_leaves_is_found_by_another_only_where_it_is_not_scrubbed() {
    let two = shared(Policy::TimeSliced, &[SmShare::All, SmShare::All]);
    // Half unscrubbed: 16 of the 32 pages; in the end 16 of the last 32, and 32 of the 64 kept of the spy's 128.
    for (share, found, last) in [(0, 0, 0), (100, 64, 256), (50, 32, 96)] {
        let leak = Leak { channel: Channel::ResidualMemory, share: Share::percent(share) };
        let mut machine = Machine::new(&model(), &two, &[leak]).unwrap();
        let victim = machine.alloc(0, Bytes::mib(64)).unwrap();
        assert_eq!(machine.leftovers(0, victim), Some(Bytes(0)), "nobody was there before");
        assert!(machine.free(0, victim));
        // First fit: 256 MiB begin where the 64 MiB were.
        let spy = machine.alloc(1, Bytes::mib(256)).unwrap();
        assert_eq!(machine.leftovers(1, spy), Some(Bytes::mib(found)), "{share} % unscrubbed");
        assert!(machine.free(1, spy));
        // What the spy took is the spy's: it finds nothing of its own, and the victim finds it all.
        let again = machine.alloc(1, Bytes::mib(64)).unwrap();
        assert_eq!(machine.leftovers(1, again), Some(Bytes(0)));
        assert_eq!(machine.leftovers(0, again), None, "no allocation of this context");
        assert!(machine.free(1, again));
        let back = machine.alloc(0, Bytes::mib(256)).unwrap();
        assert_eq!(machine.leftovers(0, back), Some(Bytes::mib(last)));
    }
}

#[test]
fn no_memory_of_another_instance_is_ever_found() {
    let leak = Leak { channel: Channel::ResidualMemory, share: Share::percent(100) };
    let mut machine = Machine::new(&model(), &halves(), &[leak]).unwrap();
    let victim = machine.alloc(0, Bytes::gib(1)).unwrap();
    assert!(machine.free(0, victim));
    let spy = machine.alloc(1, Bytes::gib(4)).unwrap();
    assert_eq!(machine.leftovers(1, spy), Some(Bytes(0)));
}
