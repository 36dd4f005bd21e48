//! From the rows that a tenant left to the requests of a window: lateness, censoring and recording are those of
//! [`Requests`], the one code of both backends.

use crate::backend::Outcome;
use crate::tenant::protocol::{ClockSync, WindowDone};
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
                requests.mark(id, 0, stamps(row, event.at, sent_at(region, id * rows), done.sync.as_ref()));
            }
            Step::Complete => {
                let outcome = row.outcome();
                let sync = done.sync.as_ref().filter(|_| outcome == Outcome::Ok);
                requests.complete(id, stamps(row, event.at, sent_at(region, id * rows), sync), outcome);
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
            // Marks are reached in order: after one that was not, none was.
            let Some(done) = row(mark).and_then(|row| Row::time(&row.completed)) else { break };
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

/// Stamps of a row, with the device's times on the host's axis.
fn stamps(row: &Row, completed: Nanos, sent: Nanos, sync: Option<&ClockSync>) -> Stamps {
    let on_host = |word| sync.and_then(|sync| Row::time(word).map(|at| sync.on_host(at)));
    let (gpu_start, gpu_end) = causal(on_host(&row.gpu_start), on_host(&row.gpu_end), sent, completed);
    Stamps { gpu_start, gpu_end, completed }
}

/// The two clocks were tied together a while ago, and not exactly: where that puts work before it was sent or after it was
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
