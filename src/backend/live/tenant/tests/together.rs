//! Seats of one process: what they have in common of the device, and what each has of its own.

use std::sync::Arc;

use super::*;
use crate::tenant::protocol::Together;
use crate::units::Share;

fn calls(name: &str) -> u64 {
    fake::state().calls.get(name).copied().unwrap_or(0)
}

fn loaded(tenant: &mut Controller, together: Together) -> Result<Loaded, Failed> {
    let load = Load { together: Some(together), ..load(&[("launch", &[])]) };
    match tenant.ask(&Order::Load(load)) {
        Reply::Loaded(loaded) => Ok(loaded),
        Reply::Failed(failed) => Err(failed),
        other => panic!("{other:?}"),
    }
}

#[test]
fn streams_of_one_process_live_in_one_context_until_the_last_has_left() {
    let _guard = fake::take();
    let commons = Arc::default();
    let mut seats = [0, 1].map(|_| Controller::start_in(1 << 12, fake::driver, &commons).greet());
    for seat in &mut seats {
        let loaded = loaded(seat, Together::Streams {}).unwrap();
        assert_eq!(loaded.device.unwrap().green_sms, None);
    }
    assert_eq!((calls("cuCtxCreate_v2"), calls("cuCtxSetCurrent")), (1, 1), "one makes it, the other one enters it");
    assert_eq!(calls("cuStreamCreate"), 4, "streams of their own");
    let [first, mut second] = seats;
    first.hang_up().unwrap();
    assert_eq!(calls("cuCtxDestroy_v2"), 0);
    assert!(second.window(window()).unwrap().sent > 0, "the one that stays goes on");
    second.hang_up().unwrap();
    assert_eq!(calls("cuCtxDestroy_v2"), 1);
}

#[test]
fn a_seat_in_a_green_context_sizes_itself_by_what_the_driver_says_it_has() {
    let _guard = fake::take();
    let mut seat = Controller::greeted(1 << 12);
    let whole = || Together::GreenContexts { shares: vec![Share::percent(100)], index: 0 };
    let device = loaded(&mut seat, whole()).unwrap().device.unwrap();
    assert_eq!((device.sms, device.green_sms), (8, Some(8)));
    assert_eq!((calls("cuGreenCtxStreamCreate"), calls("cuStreamCreate")), (2, 0));
    assert_eq!(calls("cuCtxCreate_v2"), 0);
    assert!(seat.window(window()).unwrap().sent > 0);
    // The SMs of a process are split once.
    loaded(&mut seat, whole()).unwrap();
    assert_eq!((calls("cuDevSmResourceSplitByCount"), calls("cuGreenCtxCreate")), (1, 2));
    let half = Together::GreenContexts { shares: vec![Share::percent(50)], index: 0 };
    assert!(loaded(&mut seat, half).unwrap_err().what.contains("different divisions"));
    seat.hang_up().unwrap();
    assert_eq!(calls("cuGreenCtxDestroy"), 2);
}

#[test]
fn a_driver_without_green_contexts_is_named_with_what_it_needs() {
    let _guard = fake::take();
    let mut seat = Controller::greeted(0);
    fake::state().fails = Some(("cuDeviceGetDevResource", 0, 801));
    let whole = Together::GreenContexts { shares: vec![Share::percent(100)], index: 0 };
    let failed = loaded(&mut seat, whole).unwrap_err();
    assert_eq!(failed.code, Some(801));
    assert!(failed.what.contains("CUDA 12.4 or later (R550), this one has CUDA 12.8"), "{}", failed.what);
    let none = Together::GreenContexts { shares: vec![Share::percent(1)], index: 0 };
    let failed = loaded(&mut seat, none).unwrap_err();
    assert!(failed.what.contains("a share of 8 SMs that is less than one group"), "{}", failed.what);
}
