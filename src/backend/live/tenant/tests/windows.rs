//! Windows: what is sent when, what is seen, and how it is recorded.

use super::*;
use crate::backend::Outcome;
use crate::tenant::{Row, arrival_stream, arrivals};
use crate::units::Rate;

const ROWS: usize = 20_000;

fn row(tenant: &Controller, index: u64) -> &Row {
    tenant.region.row(index as usize).unwrap()
}

fn outcomes(tenant: &Controller, done: &WindowDone) -> Vec<Outcome> {
    (0..done.sent).map(|id| row(tenant, id).outcome()).collect()
}

fn both_ways(mut order: Load) -> [Load; 2] {
    let sleeping = order.clone();
    // Two threads that spin: on the first core of this machine, whatever else runs there.
    let cores = crate::host::cores::allowed().unwrap();
    order.cores = vec![cores[0], cores[cores.len() - 1]];
    order.spin = true;
    [sleeping, order]
}

#[test]
fn a_closed_window_keeps_its_depth_and_records_every_request() {
    let _fake = fake::take();
    for order in both_ways(load(&[("launch", &[])])) {
        let (mut tenant, loaded) = Controller::holding(ROWS, order);
        fake::state().service = Nanos::millis(1);
        let done = tenant.window(WindowOrder { limit: 3, ..window() }).unwrap();
        fake::state().service = Nanos::ZERO;
        assert!(done.sent >= 3, "{} sent by {} threads", done.sent, loaded.threads);
        // What is on its way in the fake holds the stamp of one that is just being sent, too.
        assert!((2..=3).contains(&fake::state().deepest), "{} deep", fake::state().deepest);
        fake::state().deepest = 0;
        let mut before = Nanos::ZERO;
        for id in 0..done.sent {
            let row = row(&tenant, id);
            let time = |word| Row::time(word).unwrap();
            let (sent, busy, completed) = (time(&row.sent), time(&row.busy_until), time(&row.completed));
            assert!(before <= sent && sent <= busy && sent <= completed && done.start <= sent);
            assert!(time(&row.gpu_start) < time(&row.gpu_end));
            assert_eq!(row.outcome(), Outcome::Ok);
            before = sent;
        }
        let sync = done.sync.unwrap();
        assert!(sync.host < done.start + Nanos(1) && sync.error < Nanos::secs(1));
        let last = Row::time(&row(&tenant, done.sent - 1).completed).unwrap();
        let end = done.sync_end.unwrap();
        assert!(end.host >= last && end.device > sync.device, "tied again when all is done");
        assert!(done.sm_mhz.is_some_and(|mhz| (mhz - 1_700.0).abs() < 0.1));
    }
}

#[test]
fn an_open_window_sends_what_is_planned_when_it_is_planned() {
    let _fake = fake::take();
    for order in both_ways(load(&[("launch", &[])])) {
        let (mut tenant, _) = Controller::holding(ROWS, order);
        let (rate, length) = (Rate::per_second(1_000), Nanos::millis(100));
        let name = |text: &str| text.to_owned();
        let open =
            WindowLoad::Open { rate, poisson: true, seed: 5, arrangement: name("a"), block: 2, probe: name("p") };
        let done = tenant.window(WindowOrder { load: open, length, limit: 4, ..window() }).unwrap();
        let planned = arrivals(&mut arrival_stream(5, "a", 2, "p"), rate, true, length);
        assert_eq!(done.sent, planned.len() as u64);
        for (id, planned) in planned.iter().enumerate() {
            let row = row(&tenant, id as u64);
            assert!(Row::time(&row.sent).unwrap() >= done.start + *planned, "never early");
            assert!(Row::time(&row.completed).is_some());
        }
    }
}

#[test]
fn marks_have_rows_of_their_own_and_the_last_comes_with_the_end() {
    let _fake = fake::take();
    let program = ("llm-decode", [("tokens", "3"), ("layers", "2")]);
    let (mut tenant, loaded) = Controller::holding(ROWS, load(&[(program.0, &program.1)]));
    assert_eq!(loaded.programs[0].rows, 4);
    let done = tenant.window(window()).unwrap();
    assert!(done.sent > 0);
    for id in 0..done.sent {
        let at = |mark| Row::time(&row(&tenant, id * 4 + mark).completed).unwrap();
        assert!(at(1) <= at(2) && at(2) <= at(3));
        assert_eq!(at(3), at(0));
        assert_eq!(row(&tenant, id * 4 + 2).outcome(), Outcome::Ok);
    }
}

#[test]
fn a_request_that_begins_with_a_copy_has_no_start() {
    let _fake = fake::take();
    let (mut tenant, _) = Controller::holding(ROWS, load(&[("inference", &[])]));
    let done = tenant.window(window()).unwrap();
    assert!(done.sent > 0);
    assert_eq!(Row::time(&row(&tenant, 0).gpu_start), None);
    assert!(Row::time(&row(&tenant, 0).gpu_end).is_some());
}

#[test]
fn a_wrong_result_is_seen_in_the_request_that_has_it() {
    let _fake = fake::take();
    let (mut tenant, _) = Controller::holding(ROWS, load(&[("l2-chase", &[])]));
    // Sixteen to warm up, sixteen to tie the clocks, and two that are right.
    fake::state().right = Some(16 + 16 + 2);
    let done = tenant.window(window()).unwrap();
    let seen = outcomes(&tenant, &done);
    assert_eq!(seen[..3], [Outcome::Ok, Outcome::Ok, Outcome::WrongResult], "{} sent", done.sent);
}

#[test]
fn a_refused_launch_is_an_error_of_its_request_alone() {
    let _fake = fake::take();
    for order in both_ways(load(&[("launch", &[])])) {
        let (mut tenant, _) = Controller::holding(ROWS, order);
        for code in [701, 9_999] {
            fake::state().fails = Some(("cuLaunchKernel", 16 + 16 + 5, code));
            let done = tenant.window(window()).unwrap();
            let seen = outcomes(&tenant, &done);
            let failed: Vec<_> = seen.iter().filter(|outcome| **outcome != Outcome::Ok).collect();
            assert_eq!(failed, [&Outcome::Error(code)], "{} sent", done.sent);
        }
    }
}

#[test]
fn a_lost_context_ends_the_window_and_the_tenant() {
    let _fake = fake::take();
    let (mut tenant, _) = Controller::holding(ROWS, load(&[("launch", &[])]));
    fake::state().fails = Some(("cuLaunchKernel", 16 + 16 + 2, 719));
    let failed = tenant.window(window()).unwrap_err();
    assert!(!failed.usable && failed.code == Some(719) && failed.what.contains("the context is lost"), "{failed:?}");
    assert_eq!(row(&tenant, 2).outcome(), Outcome::Error(719), "what was measured can be read");
}

#[test]
fn an_allocation_without_memory_is_recorded_and_gives_everything_back() {
    let _fake = fake::take();
    let ramp = ("capacity-ramp", [("peak", "8GiB"), ("steps", "4")]);
    let (mut tenant, _) = Controller::holding(ROWS, load(&[(ramp.0, &ramp.1)]));
    let before = fake::state().allocated();
    fake::state().budget = Some(5 << 30);
    let done = tenant.window(window()).unwrap();
    assert!(done.sent > 0);
    assert!(outcomes(&tenant, &done).iter().all(|outcome| *outcome == Outcome::Oom));
    assert_eq!(done.oom.len() as u64, done.sent.min(4_096));
    assert_eq!((done.oom[0].asked, done.oom[0].total), (2 << 30, 16 << 30));
    assert_eq!(fake::state().allocated(), before);
}

#[test]
fn sending_stops_where_the_rows_end() {
    let _fake = fake::take();
    for order in both_ways(load(&[("launch", &[])])) {
        let (mut tenant, _) = Controller::holding(5, order);
        assert_eq!(tenant.window(window()).unwrap().sent, 5);
        assert_eq!(tenant.window(window()).unwrap().sent, 5, "rows begin anew with each window");
    }
}

#[test]
fn what_is_open_at_the_deadline_stays_open_and_the_next_window_starts_empty() {
    let _fake = fake::take();
    let (mut tenant, _) = Controller::holding(ROWS, load(&[("launch", &[])]));
    // Its requests take longer than window and drain together, from the third on: after 16 to warm up and 16 that tie the
    // clocks.
    let before = fake::state().calls["cuLaunchKernel"];
    fake::state().slow_from = Some((before + 16 + 16 + 3, Nanos::millis(300)));
    let done = tenant.window(WindowOrder { limit: 2, drain: Nanos(0), ..window() }).unwrap();
    fake::state().slow_from = None;
    assert_eq!(Row::time(&row(&tenant, done.sent - 1).completed), None);
    let next = tenant.window(window()).unwrap();
    assert!(outcomes(&tenant, &next).iter().all(|outcome| *outcome == Outcome::Ok));
}

#[test]
fn more_in_flight_than_was_prepared_is_refused() {
    let _fake = fake::take();
    let (mut tenant, _) = Controller::holding(ROWS, load(&[("launch", &[])]));
    assert!(tenant.window(WindowOrder { limit: 5, ..window() }).unwrap_err().usable);
    assert!(tenant.window(WindowOrder { program: 1, ..window() }).unwrap_err().usable);
    assert!(tenant.window(window()).is_ok());
}

#[test]
fn launches_keep_an_idle_window_awake_and_are_no_requests() {
    let _fake = fake::take();
    let mut order = load(&[("launch", &[])]);
    order.keep_awake = Some(Nanos::micros(500));
    let (mut tenant, _) = Controller::holding(ROWS, order);
    let open = WindowLoad::Open {
        rate: Rate(0),
        poisson: true,
        seed: 5,
        arrangement: String::new(),
        block: 0,
        probe: String::new(),
    };
    let calls = || fake::state().calls["cuLaunchKernel"];
    let before = calls();
    let done = tenant.window(WindowOrder { load: open, ..window() }).unwrap();
    assert_eq!(done.sent, 0);
    assert!(calls() - before > 16 + 5, "{}", calls() - before);
}

#[test]
fn between_orders_launches_keep_awake_what_is_to_stay_awake() {
    let _fake = fake::take();
    let launches = || fake::state().calls["cuLaunchKernel"];
    let mut order = load(&[("launch", &[])]);
    let (_asleep, _) = Controller::holding(ROWS, order.clone());
    let before = launches();
    thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(launches(), before, "nothing that nobody asked for");

    order.keep_awake = Some(Nanos::micros(500));
    let (mut tenant, _) = Controller::holding(ROWS, order);
    let before = launches();
    let until = now() + Nanos::secs(20);
    while launches() < before + 5 && now() < until {
        thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(launches() >= before + 5);
    assert!(tenant.window(window()).unwrap().sent > 0, "and orders are still taken");
}
