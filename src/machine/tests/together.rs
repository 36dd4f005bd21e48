//! Launches, copies and calls that meet.

use super::*;

#[test]
fn two_readers_of_one_domain_get_half_each() {
    let mut rig = Rig::new(&shared(Policy::Concurrent, &[SmShare::All; 2]));
    let a = rig.submit(0, read(1_000_000), 1, 0);
    let b = rig.submit(1, read(1_000_000), 1, 0);
    rig.drain();
    // 10 µs alone, 20 µs together.
    assert_eq!(rig.span(a), (4_000, 24_000));
    assert_eq!(rig.span(b), (4_000, 24_000));
}

#[test]
fn a_reader_that_comes_halfway_shares_from_then_on() {
    let mut rig = Rig::new(&shared(Policy::Concurrent, &[SmShare::All; 2]));
    let a = rig.submit(0, read(1_000_000), 1, 0);
    let b = rig.submit(1, read(1_000_000), 1, 5_000);
    rig.drain();
    // a: 5 µs alone, then half of the rest at half speed: 10 µs. b: 10 µs at half, the other half alone: 5 µs.
    assert_eq!(rig.span(a), (4_000, 19_000));
    assert_eq!(rig.span(b), (9_000, 24_000));
}
