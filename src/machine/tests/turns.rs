//! Time-slicing.

use super::*;

#[test]
fn a_short_request_waits_out_the_other_slice_and_a_switch() {
    let mut rig = Rig::new(&shared(Policy::TimeSliced, &[SmShare::All; 2]));
    let noise = rig.submit(0, spin(10_000_000), 1, 0);
    let short = rig.submit(1, spin(20_000), 1, 500_000);
    rig.drain();
    // The noise's turn began at 4 µs and lasts 2000 µs; the switch takes 200 µs.
    assert_eq!(rig.span(short), (2_204_000, 2_224_000));
    // The noise loses the switch, the 20 µs and the switch back.
    assert_eq!(rig.span(noise), (4_000, 10_004_000 + 200_000 + 20_000 + 200_000));
}
