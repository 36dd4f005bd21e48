//! Why a series is not isolated: in one word and one clause with its numbers, from what the device itself reports.
//! Where that does not tell, the clause says so.

use super::cell::{Cell, Pair};
use super::types::Cause;
use super::validity;
use crate::channel::Channel;
use crate::plan::Plan;
use crate::provenance::Provenance;
use crate::run_dir::{ArmData, SeriesData};
use crate::scenario::{Quantile, SharingMode};
use crate::stats::{Counts, Durations, Pool};

/// A change of a device time counts from this many ticks of the device's timer.
const TICKS: f64 = 4.0;
/// Part of the requests whose device times must be known.
const KNOWN: f64 = 0.9;
/// How closely the ratio of times must follow that of the clocks, as a part of the latter's logarithm.
const CLOCK_AGREEMENT: f64 = 0.3;

/// From this ratio of median times on the device on, a longer queue is put down to the service.
const SLOWER: f64 = 1.05;

/// What is known of a series that is not isolated.
pub(super) struct Symptoms<'a> {
    pub(super) cell: &'a Cell<'a>,
    pub(super) channel: Option<Channel>,
    pub(super) probe: usize,
    pub(super) series: &'a str,
    pub(super) quantile: Quantile,
    pub(super) pairs: &'a [Pair<'a>],
    pub(super) quiet_ns: Option<f64>,
    pub(super) noisy_ns: Option<f64>,
    /// Growth of the backlog in noisy arms, requests per half window.
    pub(super) backlog: Option<f64>,
    pub(super) provenance: Provenance,
}

/// The cause, as verdict.md defines it.
pub(super) fn of(s: &Symptoms<'_>) -> Cause {
    let q = s.quantile;
    if let Some(growth) = s.backlog {
        return cause("saturated", format!("the backlog grew by {growth:.0} requests in half a window{}", served(s)));
    }
    let (Some(quiet_ns), Some(noisy_ns)) = (s.quiet_ns, s.noisy_ns) else {
        return unserved(s);
    };
    let queue = device_times(s, |data| &data.queue, q);
    let service = device_times(s, |data| &data.service, q);
    let (Some(queue), Some(service)) = (queue, service) else {
        if let Some(found) = clock(s, (quiet_ns, noisy_ns)) {
            return found;
        }
        let (from, to) = (duration(quiet_ns), duration(noisy_ns));
        return cause("host", format!("{from} → {to} ({q}) as the host sees it; its time on the device is not known"));
    };
    let (waited, worked) = (queue.1 - queue.0, service.1 - service.0);
    let seen = 0.5 * (noisy_ns - quiet_ns);
    if waited.max(worked) < TICKS * timer_tick_ns(s) || waited.max(0.0) + worked.max(0.0) < seen {
        let (from, to) = (duration(quiet_ns), duration(noisy_ns));
        return cause("host", format!("{from} → {to} ({q}), most of it neither in the queue nor on the device"));
    }
    let (before, after) = (duration(queue.0), duration(queue.1));
    if waited >= worked && takes_turns(s) {
        cause("turns", format!("waits {after} for its turn ({q}), {before} when quiet"))
    } else if waited >= worked {
        // Requests also wait for one another: where each takes longer on the device, that is why.
        if let Some(each) = device_times(s, |data| &data.service, Quantile::P50)
            && each.1 > SLOWER * each.0
        {
            let (from, to) = (duration(each.0), duration(each.1));
            return cause("service", format!("{from} → {to} on the device (p50), and the next one waits for it"));
        }
        cause("queue", format!("waits {after} to start ({q}), {before} when quiet"))
    } else if let Some(found) = clock(s, service) {
        found
    } else {
        cause("service", format!("{} → {} on the device ({q})", duration(service.0), duration(service.1)))
    }
}

fn cause(word: &str, text: String) -> Cause {
    Cause { word: word.to_owned(), text }
}

/// The clock, claimed only for probes whose time scales with it, and only where time grew as the clock fell.
fn clock(s: &Symptoms<'_>, times: (f64, f64)) -> Option<Cause> {
    if !matches!(s.channel, Some(Channel::Issue | Channel::Tensor | Channel::L1)) {
        return None;
    }
    let (quiet, noisy) = validity::clocks(s.pairs)?;
    let (fell, grew) = (libm::log(quiet / noisy), libm::log(times.1 / times.0));
    (quiet > 1.01 * noisy && (grew - fell).abs() <= CLOCK_AGREEMENT * fell).then(|| {
        let ratio = times.1 / times.0;
        cause("clock", format!("SM clock {quiet:.0} → {noisy:.0} MHz, time up {ratio:.2}× ({})", s.quantile))
    })
}

/// The quantile lies among requests that were never served: their share is what is known.
fn unserved(s: &Symptoms<'_>) -> Cause {
    let noisy = s.pairs.iter().filter_map(|pair| pair.noisy.series.get(s.series));
    let (served, censored, failed) =
        noisy.fold((0, 0, 0), |(l, c, f), data| (l + data.latency.len(), c + data.censored, f + data.failed));
    let percent = |part: u64| 100.0 * part as f64 / (served + censored + failed).max(1) as f64;
    if failed > censored {
        cause("failures", format!("{:.1} % of the requests failed", percent(failed)))
    } else {
        cause("timeouts", format!("{:.1} % of the requests were open at the deadline", percent(censored)))
    }
}

/// What a saturated probe still tells: its service time and how much of the load was served.
fn served(s: &Symptoms<'_>) -> String {
    let windows = || {
        let all = s.pairs.iter().flat_map(|pair| &pair.noisy.summary.windows);
        all.filter(|w| w.probe == s.probe)
    };
    let (planned, completed): (u64, u64) = (windows().map(|w| w.planned).sum(), windows().map(|w| w.completed).sum());
    let seconds: f64 = windows().map(|w| w.length.as_secs_f64()).sum();
    let mut text = String::new();
    if seconds > 0.0 {
        text = format!(", {:.0} of {:.0} requests/s served", completed as f64 / seconds, planned as f64 / seconds);
    }
    if let Some((_, service)) = device_times(s, |data| &data.service, s.quantile) {
        text += &format!(", {} each on the device ({})", duration(service), s.quantile);
    }
    text
}

/// The quantile `q` of a device time over the (quiet, noisy) arms, where it is known of nearly all requests.
fn device_times(s: &Symptoms<'_>, of: fn(&SeriesData) -> &Durations, q: Quantile) -> Option<(f64, f64)> {
    let quantile = |arms: Vec<&ArmData>| {
        let data: Vec<&SeriesData> = arms.iter().filter_map(|arm| arm.series.get(s.series)).collect();
        let requests: u64 = data.iter().map(|d| d.latency.len()).sum();
        let pool = Pool::new(&data.iter().map(|d| Counts::new(of(d), 0)).collect::<Vec<_>>());
        if (pool.total() as f64) < KNOWN * requests as f64 { None } else { pool.quantile(q) }
    };
    let quiet = s.pairs.iter().map(|pair| pair.quiet).collect();
    let noisy = s.pairs.iter().map(|pair| pair.noisy).collect();
    quantile(quiet).zip(quantile(noisy))
}

/// Whether the series takes turns with a neighbour: its tenant does, and it is no copy, for copies run beside the turns.
fn takes_turns(s: &Symptoms<'_>) -> bool {
    if matches!(s.channel, Some(Channel::Pcie | Channel::CopyEngine | Channel::Driver)) {
        return false;
    }
    let cell = s.cell;
    let entry = |seat: usize| cell.arrangement.seats.get(seat).map(|s| s.entry);
    match cell.arrangement.sharing {
        SharingMode::TimeSlicing => true,
        SharingMode::MigTimeSlicing => {
            cell.grids.iter().flat_map(|part| &part.grid.neighbour_seats).any(|seat| entry(*seat) == entry(cell.victim))
        }
        _ => false,
    }
}

/// Tick of the device's global timer, nanoseconds: 64 on Hopper, 1024 on A100 (gpu-facts.md, "Timing"), and the coarser
/// where nobody measured it. Virtual time has no tick but its own nanosecond.
fn timer_tick_ns(s: &Symptoms<'_>) -> f64 {
    if s.provenance == Provenance::Simulated {
        return 1.0;
    }
    let hopper = |plan: &Plan| {
        plan.gpu().model.as_deref().is_some_and(|m| ["h100", "h200", "gh200"].iter().any(|h| m.starts_with(h)))
    };
    if hopper(s.cell.plan) { 64.0 } else { 1024.0 }
}

/// A length of time in words, three significant digits.
fn duration(ns: f64) -> String {
    let (value, unit) = match ns {
        ..1e3 => (ns, "ns"),
        ..1e6 => (ns / 1e3, "µs"),
        ..1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    let digits = if value >= 99.95 || unit == "ns" {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        for (ns, text) in [
            (7.0, "7 ns"),
            (4_000.0, "4.00 µs"),
            (38_120.0, "38.1 µs"),
            (2.1e6, "2.10 ms"),
            (176e6, "176 ms"),
            (3e9, "3.00 s"),
        ] {
            assert_eq!(duration(ns), text);
        }
    }
}
