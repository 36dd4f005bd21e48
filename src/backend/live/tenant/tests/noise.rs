//! Noise: what is kept queued, what the controller reads of it, and how it stops.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::*;
use crate::tenant::protocol::{NoiseOrder, QuietDone};
use crate::units::Share;

fn noise(program: Option<usize>) -> Order {
    Order::Noise(NoiseOrder { program, start: now(), queued: 4, duty: Share::percent(100), burst: Nanos(0) })
}

fn neighbour(programs: &[(&str, &[(&str, &str)])]) -> Load {
    Load { arena: true, ..load(programs) }
}

fn quiet(tenant: &mut Controller) -> QuietDone {
    match tenant.ask(&Order::Quiet {}) {
        Reply::Quiet(quiet) => quiet,
        other => panic!("{other:?}"),
    }
}

/// Requests completed in the epoch that the controller began last, once there are some.
fn completed(tenant: &Controller) -> u64 {
    let progress = tenant.region.progress();
    let until = now() + Nanos::secs(20);
    while now() < until {
        let seen = progress.completed.load(Ordering::Acquire);
        if seen > 0 && progress.epoch.load(Ordering::Acquire) == tenant.region.epoch() {
            return seen;
        }
        thread::sleep(Duration::from_millis(1));
    }
    0
}

#[test]
fn noise_stays_queued_until_it_is_told_to_be_quiet() {
    let _fake = fake::take();
    let (mut tenant, _) = Controller::holding(0, neighbour(&[("hbm-read", &[]), ("l2-thrash", &[])]));
    for program in [1, 0] {
        fake::state().service = Nanos::millis(2);
        tenant.region.begin_epoch();
        assert_eq!(tenant.ask(&noise(Some(program))), Reply::Noise {});
        assert!(completed(&tenant) > 0);
        assert_eq!(tenant.region.progress().active.load(Ordering::Acquire), 1);
        thread::sleep(Duration::from_millis(20));
        let quiet = quiet(&mut tenant);
        let progress = tenant.region.progress();
        assert_eq!((quiet.failed, quiet.oom.len()), (0, 0));
        assert_eq!(quiet.last, Some(Nanos(progress.last.load(Ordering::Acquire))));
        assert_eq!(progress.active.load(Ordering::Acquire), 0);
        assert!(progress.pending.load(Ordering::Acquire) > 0 && progress.longest_gap.load(Ordering::Acquire) > 0);
        let mut state = fake::state();
        assert!((2..=4).contains(&state.deepest), "{} deep", state.deepest);
        (state.service, state.deepest) = (Nanos::ZERO, 0);
    }
}

#[test]
fn the_queue_is_two_deep_where_more_would_be_too_long() {
    let _fake = fake::take();
    let (mut tenant, _) = Controller::holding(0, neighbour(&[("hbm-read", &[])]));
    fake::state().service = Nanos::millis(60);
    assert_eq!(tenant.ask(&noise(Some(0))), Reply::Noise {});
    // Until it knows how long they take it may have queued what the length at load allows.
    thread::sleep(Duration::from_millis(700));
    fake::state().deepest = 0;
    thread::sleep(Duration::from_millis(300));
    assert_eq!(fake::state().deepest, 2);
    quiet(&mut tenant);
}

#[test]
fn a_storm_of_launches_goes_as_one_graph_with_a_stamp_behind_it() {
    let _fake = fake::take();
    let (mut tenant, _) = Controller::holding(0, neighbour(&[("launch-storm", &[("launches", "50")])]));
    let calls = |name| fake::state().calls.get(name).copied().unwrap_or(0);
    let (graphs, launches) = (calls("cuGraphLaunch"), calls("cuLaunchKernel"));
    fake::state().service = Nanos::micros(10);
    tenant.region.begin_epoch();
    assert_eq!(tenant.ask(&noise(Some(0))), Reply::Noise {});
    assert!(completed(&tenant) > 0);
    assert_eq!(quiet(&mut tenant).failed, 0, "the sum of a graph's references is expected");
    let posted = calls("cuGraphLaunch") - graphs;
    assert!(posted > 0);
    assert_eq!(calls("cuLaunchKernel") - launches, posted);
}

#[test]
fn the_hosts_loop_alone_calls_no_driver() {
    let _fake = fake::take();
    let (mut tenant, _) = Controller::holding(0, neighbour(&[("hbm-read", &[]), ("idle", &[])]));
    fake::state().calls.clear();
    for program in [None, Some(1)] {
        tenant.region.begin_epoch();
        assert_eq!(tenant.ask(&noise(program)), Reply::Noise {});
        thread::sleep(Duration::from_millis(5));
        if program.is_some() {
            assert!(completed(&tenant) > 0, "the placebo counts its turns");
        }
        assert_eq!(quiet(&mut tenant).last.is_some(), program.is_some());
    }
    // Being drained is proved by asking the driver, after the loop.
    let calls = fake::state().calls.clone();
    assert!(calls.keys().all(|call| *call == "cuStreamQuery"), "{calls:?}");
}

#[test]
fn progress_begins_anew_with_the_controllers_epoch() {
    let _fake = fake::take();
    let (mut tenant, _) = Controller::holding(0, neighbour(&[("alloc-churn", &[])]));
    tenant.region.begin_epoch();
    assert_eq!(tenant.ask(&noise(Some(0))), Reply::Noise {});
    while completed(&tenant) < 50 {}
    let epoch = tenant.region.begin_epoch();
    assert!(completed(&tenant) > 0);
    assert_eq!(tenant.region.progress().epoch.load(Ordering::Acquire), epoch);
    assert!(tenant.region.progress().pending.load(Ordering::Acquire) > 0, "a call in progress counts");
    quiet(&mut tenant);
}

#[test]
fn noise_that_finds_no_memory_says_so_and_goes_on() {
    let _fake = fake::take();
    let (mut tenant, _) = Controller::holding(0, neighbour(&[("capacity-ramp", &[("peak", "8GiB"), ("steps", "2")])]));
    fake::state().budget = Some(1 << 30);
    tenant.region.begin_epoch();
    assert_eq!(tenant.ask(&noise(Some(0))), Reply::Noise {});
    assert!(completed(&tenant) > 0);
    let quiet = quiet(&mut tenant);
    assert!(!quiet.oom.is_empty() && quiet.oom[0].asked == 4 << 30);
    assert_eq!(quiet.failed, 0, "it did what it was to do");
}

#[test]
fn a_device_lost_under_noise_is_told_when_quiet_is_asked_for() {
    let _fake = fake::take();
    let (mut tenant, _) = Controller::holding(0, neighbour(&[("hbm-read", &[])]));
    fake::state().fails = Some(("cuLaunchKernel", 30, 700));
    assert_eq!(tenant.ask(&noise(Some(0))), Reply::Noise {});
    while fake::state().fails.is_some() {
        thread::sleep(Duration::from_millis(1));
    }
    match tenant.ask(&Order::Quiet {}) {
        Reply::Failed(failed) => assert!(!failed.usable && failed.code == Some(700), "{failed:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_controller_that_goes_leaves_no_noise() {
    let _fake = fake::take();
    let (mut tenant, _) = Controller::holding(0, neighbour(&[("hbm-read", &[])]));
    assert_eq!(tenant.ask(&noise(Some(0))), Reply::Noise {});
    tenant.hang_up().unwrap();
    assert_eq!(fake::state().allocated(), 0);
}
