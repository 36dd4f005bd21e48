//! From the rows that a tenant left to the requests of a window: lateness, censoring and recording are those of
//! [`Requests`], the one code of both backends.

use crate::backend::Outcome;
use crate::tenant::protocol::WindowDone;
use crate::tenant::{Region, Requests, Row, Stamps};
use crate::units::Nanos;

/// What happens to a request. In this order where two things happen at once: the sender sends only after it has seen
/// the completion that made room, and a request's last mark comes with its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Mark,
    Complete,
    Send,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: Nanos,
    step: Step,
    id: usize,
    mark: usize,
}

/// Plays what lies in `region` into `requests`, in order of time. `planned` requests were to be sent (`None`: a closed
/// loop), each leaves `rows` rows: its own, then one per mark.
///
/// # Errors
/// Where the rows cannot be: what is wrong with them.
pub(super) fn replay(
    region: &Region,
    rows: usize,
    planned: Option<usize>,
    done: &WindowDone,
    mut requests: Requests,
) -> Result<Requests, String> {
    let sent = usize::try_from(done.sent).unwrap_or(usize::MAX);
    if sent.checked_mul(rows).is_none_or(|needed| needed > region.rows()) {
        return Err(format!("{sent} requests sent, and there is room for {}", region.rows() / rows.max(1)));
    }
    if let Some(planned) = planned.filter(|planned| sent > *planned) {
        return Err(format!("{sent} requests sent, and {planned} planned"));
    }
    for event in events(region, rows, sent, done.start)? {
        let Event { step, id, mark, .. } = event;
        let Some(row) = region.row(id * rows + mark) else { continue };
        match step {
            Step::Send => {
                requests.send(event.at, Row::time(&row.busy_until).unwrap_or(event.at).max(event.at));
            }
            Step::Mark => {
                requests.mark(id, 0, stamps(row, event.at, sent_at(region, id * rows), Some(done)));
            }
            Step::Complete => {
                let outcome = row.outcome();
                let clocks = Some(done).filter(|_| outcome == Outcome::Ok);
                requests.complete(id, stamps(row, event.at, sent_at(region, id * rows), clocks), outcome);
            }
        }
    }
    Ok(requests)
}

fn sent_at(region: &Region, row: usize) -> Nanos {
    region.row(row).and_then(|row| Row::time(&row.sent)).unwrap_or(Nanos::ZERO)
}

fn events(region: &Region, rows: usize, sent: usize, start: Nanos) -> Result<Vec<Event>, String> {
    let mut events = Vec::with_capacity(sent * (rows + 1));
    let mut last = start;
    for id in 0..sent {
        let row = |mark: usize| region.row(id * rows + mark);
        let Some(at) = row(0).and_then(|row| Row::time(&row.sent)) else {
            return Err(format!("request {id} was sent, and nobody says when"));
        };
        if at < last {
            return Err(format!("request {id} was sent {} before the one before it, or before the window", last - at));
        }
        last = at;
        events.push(Event { at, step: Step::Send, id, mark: 0 });
        let mut reached = at;
        for mark in 1..rows {
            // Marks are reached in order: after one that was not, none was. One with a wrong result counts as not reached.
            let right = row(mark).filter(|row| row.outcome() == Outcome::Ok);
            let Some(done) = right.and_then(|row| Row::time(&row.completed)) else { break };
            if done < reached {
                return Err(format!("mark {mark} of request {id} was reached before what precedes it"));
            }
            reached = done;
            events.push(Event { at: done, step: Step::Mark, id, mark });
        }
        if let Some(done) = row(0).and_then(|row| Row::time(&row.completed)) {
            if done < reached {
                return Err(format!("request {id} was done before it was sent, or before its last mark"));
            }
            events.push(Event { at: done, step: Step::Complete, id, mark: 0 });
        }
    }
    // A request sent and done within one tick of the clock: its sending still comes first.
    let sends = |event: &Event| {
        let instant = event.step == Step::Send && {
            let done = region.row(event.id * rows).and_then(|row| Row::time(&row.completed));
            done == Some(event.at)
        };
        if instant { 0 } else { 1 }
    };
    events.sort_by_key(|event| (event.at, sends(event), *event));
    Ok(events)
}

/// Stamps of a row, with the device's times on the host's axis, as the window's `clocks` tie the two.
fn stamps(row: &Row, completed: Nanos, sent: Nanos, clocks: Option<&WindowDone>) -> Stamps {
    let on_host = |word| {
        let clocks = clocks?;
        Some(clocks.sync?.on_host(clocks.sync_end.as_ref(), Row::time(word)?))
    };
    let (gpu_start, gpu_end) = causal(on_host(&row.gpu_start), on_host(&row.gpu_end), sent, completed);
    Stamps { gpu_start, gpu_end, completed }
}

/// The two clocks are not tied together exactly: where that puts work before it was sent or after it was
/// seen done, both ends move together into what is possible, so that the time between them stays.
fn causal(start: Option<Nanos>, end: Option<Nanos>, sent: Nanos, completed: Nanos) -> (Option<Nanos>, Option<Nanos>) {
    let late = end.or(start).map_or(Nanos::ZERO, |end| end.saturating_sub(completed));
    let back = |at: Nanos| at.saturating_sub(late);
    let (start, end) = (start.map(back), end.map(back));
    let early = start.or(end).map_or(Nanos::ZERO, |start| sent.saturating_sub(start));
    (start.map(|at| at + early), end.map(|at| at + early))
}

/// What a controller needs to know before it orders a window: whether its rows will fit.
pub(super) fn fits(region: &Region, rows: usize, planned: usize) -> bool {
    planned.checked_mul(rows).is_some_and(|needed| needed <= region.rows())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::backend::Sample;
    use crate::tenant::Place;
    use crate::tenant::protocol::ClockSync;

    /// One request as the tenant left it: sent, busy until, done; host times in microseconds from 1 s on, 0: never.
    type Left = (u64, u64, u64);

    const ORIGIN: u64 = 1_000_000_000;

    fn micros(at: u64) -> u64 {
        ORIGIN + at * 1_000
    }

    fn region(rows: usize, left: &[Left]) -> Region {
        let region = Region::create(&tempfile::tempfile().unwrap(), rows * left.len() + 4).unwrap();
        for (id, (sent, busy, done)) in left.iter().enumerate() {
            let row = region.row(id * rows).unwrap();
            row.sent.store(micros(*sent), Ordering::Relaxed);
            row.busy_until.store(micros(*busy), Ordering::Relaxed);
            if *done != 0 {
                row.completed.store(micros(*done), Ordering::Relaxed);
            }
        }
        region
    }

    fn done(sent: u64) -> WindowDone {
        let (start, host_pause) = (Nanos(ORIGIN), Nanos::ZERO);
        WindowDone { start, sent, sync: None, sync_end: None, host_pause, sm_mhz: None, oom: Vec::new() }
    }

    fn open(planned: &[u64], limit: u32) -> Requests {
        let planned = planned.iter().map(|at| Nanos::micros(*at)).collect();
        Requests::open(planned, Nanos(ORIGIN), Nanos::millis(1), limit)
    }

    fn finish(requests: Requests, deadline: u64) -> (crate::backend::WindowSummary, Vec<Sample>) {
        let mut samples = Vec::new();
        let place = Place { origin: Nanos(ORIGIN), ..Place::default() };
        (requests.finish(Nanos(micros(deadline)), place, &mut samples), samples)
    }

    /// Microseconds of the arm's axis.
    fn in_micros(at: Option<Nanos>) -> Option<u64> {
        at.map(|at| at.0 / 1_000)
    }

    #[test]
    fn lateness_and_censoring_are_those_of_the_requests() {
        // Planned at 0, 100, 200, 300, 400, two in flight at most.
        // 0: sent in time, in the driver until 180, so that request 1 is sent at 180: not late.
        // 1: done at 900. 2: has a place from 250 on and is sent at 320: late. 3: planned for 300, waits for a place until
        // 700 and is sent then, in flight for ever. 4: never sent.
        let left = [(1, 180, 250), (180, 185, 900), (320, 322, 700), (701, 702, 0)];
        let requests = replay(&region(1, &left), 1, Some(5), &done(4), open(&[0, 100, 200, 300, 400], 2)).unwrap();
        let (summary, samples) = finish(requests, 1_500);
        assert_eq!((summary.planned, summary.completed, summary.late), (5, 3, 1));
        // At 500: 1, 2 in flight, 3 and 4 waiting. At 1000: 3 and 4.
        assert_eq!((summary.open_at_half, summary.open_at_end), (4, 2));
        let seen: Vec<_> = samples.iter().map(|s| (in_micros(s.sent), in_micros(s.completed), s.outcome)).collect();
        let timeout = Outcome::Timeout;
        assert_eq!(
            seen,
            [
                (Some(1), Some(250), Outcome::Ok),
                (Some(180), Some(900), Outcome::Ok),
                (Some(320), Some(700), Outcome::Ok),
                (Some(701), None, timeout),
                (None, None, timeout)
            ]
        );
        assert_eq!(samples.iter().map(|s| s.planned.0 / 1_000).collect::<Vec<_>>(), [0, 100, 200, 300, 400]);
    }

    #[test]
    fn a_deadline_censors_what_was_done_after_it() {
        let left = [(0, 0, 400), (100, 100, 1_300)];
        let requests = replay(&region(1, &left), 1, Some(2), &done(2), open(&[0, 100], 8)).unwrap();
        let (summary, samples) = finish(requests, 1_200);
        assert_eq!((summary.completed, samples[1].completed, samples[1].outcome), (1, None, Outcome::Timeout));
    }

    #[test]
    fn a_place_that_comes_free_at_the_moment_of_the_next_sending_is_free() {
        // Closed loop of depth one: done and sent again on the same tick.
        let left = [(0, 1, 50), (50, 51, 90), (90, 91, 130)];
        let requests = Requests::closed(1, Nanos(ORIGIN), Nanos::micros(120));
        let requests = replay(&region(1, &left), 1, None, &done(3), requests).unwrap();
        let (summary, samples) = finish(requests, 500);
        assert_eq!((summary.planned, summary.completed, summary.late), (3, 3, 0));
        assert_eq!(samples.iter().map(|s| s.planned.0 / 1_000).collect::<Vec<_>>(), [0, 50, 90]);
    }

    #[test]
    fn failures_keep_their_outcome_and_lose_the_devices_times() {
        let region = region(1, &[(0, 0, 40), (10, 10, 50)]);
        let bad = region.row(1).unwrap();
        for row in [region.row(0).unwrap(), bad] {
            row.gpu_start.store(7_020_000, Ordering::Relaxed);
            row.gpu_end.store(7_030_000, Ordering::Relaxed);
        }
        bad.set_outcome(Outcome::Error(719));
        let sync = ClockSync { host: Nanos(ORIGIN), device: Nanos(7_000_000), error: Nanos(1) };
        let done = WindowDone { sync: Some(sync), ..done(2) };
        let (_, samples) = finish(replay(&region, 1, Some(2), &done, open(&[0, 10], 8)).unwrap(), 500);
        assert_eq!((in_micros(samples[0].gpu_start), in_micros(samples[0].gpu_end)), (Some(20), Some(30)));
        assert_eq!((samples[1].outcome, samples[1].gpu_start), (Outcome::Error(719), None));
    }

    #[test]
    fn clocks_that_drift_apart_in_a_window_are_followed() {
        let region = region(1, &[(0, 0, 400)]);
        let row = region.row(0).unwrap();
        row.gpu_start.store(7_100_000, Ordering::Relaxed);
        row.gpu_end.store(7_200_000, Ordering::Relaxed);
        // 250 µs of the device take 500 of the host.
        let sync = ClockSync { host: Nanos(ORIGIN), device: Nanos(7_000_000), error: Nanos(1) };
        let sync_end = ClockSync { host: Nanos(micros(500)), device: Nanos(7_250_000), error: Nanos(1) };
        let done = WindowDone { sync: Some(sync), sync_end: Some(sync_end), ..done(1) };
        let (_, samples) = finish(replay(&region, 1, Some(1), &done, open(&[0], 8)).unwrap(), 500);
        assert_eq!((in_micros(samples[0].gpu_start), in_micros(samples[0].gpu_end)), (Some(200), Some(400)));
    }

    #[test]
    fn marks_follow_their_request_and_stop_at_the_first_that_is_missing() {
        let region = region(4, &[(0, 0, 90), (100, 100, 0)]);
        let mark = |row: usize, at: u64| region.row(row).unwrap().completed.store(micros(at), Ordering::Relaxed);
        // The first request reaches its three marks, the last one with its end; the second reaches one, and its third is
        // what a tenant that lost count wrote.
        [(1, 30), (2, 60), (3, 90), (5, 140), (7, 190)].into_iter().for_each(|(row, at)| mark(row, at));
        let requests = open(&[0, 100], 8).with_marks(&[0, 0, 0]);
        let (_, samples) = finish(replay(&region, 4, Some(2), &done(2), requests).unwrap(), 500);
        let tokens: Vec<_> =
            samples.iter().filter(|s| s.series == 1).map(|s| (s.planned.0 / 1_000, in_micros(s.completed))).collect();
        assert_eq!(tokens, [(0, Some(30)), (30, Some(60)), (60, Some(90)), (100, Some(140)), (140, None), (140, None)]);
    }

    #[test]
    fn device_times_move_together_into_what_is_possible() {
        let at = |n: u64| Some(Nanos(n));
        let (sent, completed) = (Nanos(100), Nanos(200));
        assert_eq!(causal(at(110), at(150), sent, completed), (at(110), at(150)));
        assert_eq!(causal(at(90), at(130), sent, completed), (at(100), at(140)), "before it was sent");
        assert_eq!(causal(at(180), at(230), sent, completed), (at(150), at(200)), "after it was seen done");
        assert_eq!(causal(None, at(230), sent, completed), (None, at(200)));
        assert_eq!(causal(None, None, sent, completed), (None, None));
    }

    #[test]
    fn rows_that_cannot_be_are_refused() {
        let told = |left: &[Left], sent: u64, planned: usize| {
            replay(&region(1, left), 1, Some(planned), &done(sent), open(&[0, 10, 20], 8)).unwrap_err()
        };
        assert!(told(&[(0, 0, 5)], 2, 3).contains("request 1 was sent, and nobody says when"));
        assert!(told(&[(9, 9, 12), (5, 5, 12)], 2, 3).contains("before the one before it"));
        assert!(told(&[(9, 9, 5)], 1, 3).contains("done before it was sent"));
        assert!(told(&[(0, 0, 5)], 4, 3).contains("3 planned"));
        assert!(told(&[(0, 0, 5)], u64::MAX, 3).contains("room for"));
    }
}
