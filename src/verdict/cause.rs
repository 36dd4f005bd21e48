//! Why a series is not isolated: in one word and one clause with its numbers, from what the device itself reports.
//! Where that does not tell, the clause says so.

use super::cell::{Cell, Pair};
use super::host::HostMoved;
use super::types::Cause;
use super::validity;
use crate::channel::Channel;
use crate::plan::Plan;
use crate::provenance::Provenance;
use crate::run_dir::{ArmData, SeriesData};
use crate::scenario::{Quantile, SharingMode};
use crate::stats::{Counts, Durations, Pool};
use crate::units::time_for_people;

/// A change of a device time counts from this many ticks of the device's timer.
const TICKS: f64 = 4.0;
/// Part of the requests whose device times must be known.
const KNOWN: f64 = 0.9;
/// How closely the ratio of times must follow that of the clocks, as a part of the latter's logarithm.
const CLOCK_AGREEMENT: f64 = 0.3;

/// The clock counts as fallen from this ratio on.
const CLOCK_FELL: f64 = 1.01;
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
    /// How the host itself differs between the arms, where it does.
    pub(super) host: Option<HostMoved>,
    pub(super) provenance: Provenance,
}

/// The cause, as verdict.md defines it.
pub(super) fn of(s: &Symptoms<'_>) -> Cause {
    let Found { word, mut text } = found(s);
    let shared = shared(s);
    let channel = shared.iter().copied().find(|channel| agrees(s, word, *channel));
    // What the neighbour loads and the probe feels suggests itself, and is not why.
    if channel.is_none() && !shared.is_empty() && !matches!(word, "unknown" | "timeouts" | "failures") {
        text += &format!("; not through {}", shared.iter().map(Channel::to_string).collect::<Vec<_>>().join(" or "));
    }
    if let Some((quiet, noisy)) = validity::clocks(s.pairs).filter(|(quiet, noisy)| *quiet > CLOCK_FELL * noisy)
        && word != "clock"
    {
        text += &format!("; the SM clock fell besides, {quiet:.0} → {noisy:.0} MHz");
    }
    Cause { word: word.to_owned(), text, channel }
}

/// A word and its clause.
struct Found {
    word: &'static str,
    text: String,
}

fn found(s: &Symptoms<'_>) -> Found {
    let q = s.quantile;
    if let Some(growth) = s.backlog {
        return cause("saturated", format!("the backlog grew by {growth:.0} requests in half a window{}", served(s)));
    }
    let (Some(quiet_ns), Some(noisy_ns)) = (s.quiet_ns, s.noisy_ns) else {
        return unserved(s);
    };
    let queue = device_times(s, |data| &data.queue, q);
    let service = device_times(s, |data| &data.service, q);
    let whole = || format!("{} → {} ({q})", time_for_people(quiet_ns), time_for_people(noisy_ns));
    let (Some(queue), Some(service)) = (queue, service) else {
        if let Some(found) = clock(s, (quiet_ns, noisy_ns)) {
            return found;
        }
        return match s.channel {
            _ if s.host.is_some() => cause("host", format!("{}{}", whole(), pauses(s))),
            Some(Channel::Driver) => cause("host", format!("{} in calls of the driver{}", whole(), pauses(s))),
            _ => cause("unknown", format!("{} as the host sees it; its time on the device is not known", whole())),
        };
    };
    let (waited, worked) = (queue.1 - queue.0, service.1 - service.0);
    let seen = 0.5 * (noisy_ns - quiet_ns);
    if waited.max(worked) < TICKS * timer_tick_ns(s) || waited.max(0.0) + worked.max(0.0) < seen {
        return cause("host", format!("{}, most of it neither in the queue nor on the device{}", whole(), pauses(s)));
    }
    let (before, after) = (time_for_people(queue.0), time_for_people(queue.1));
    if waited >= worked && takes_turns(s) {
        cause("turns", format!("waits {after} for its turn ({q}), {before} when quiet"))
    } else if waited >= worked {
        // Requests also wait for one another: where each takes longer on the device, that is why.
        if let Some(each) = device_times(s, |data| &data.service, Quantile::P50)
            && each.1 > SLOWER * each.0
        {
            let (from, to) = (time_for_people(each.0), time_for_people(each.1));
            return cause("service", format!("{from} → {to} on the device (p50), and the next one waits for it"));
        }
        cause("queue", format!("waits {after} to start ({q}), {before} when quiet"))
    } else if let Some(found) = clock(s, service) {
        found
    } else {
        cause("service", format!("{} → {} on the device ({q})", time_for_people(service.0), time_for_people(service.1)))
    }
}

fn cause(word: &'static str, text: String) -> Found {
    Found { word, text }
}

/// What the host's own pauses did, where they grew.
fn pauses(s: &Symptoms<'_>) -> String {
    let told = |h: HostMoved| {
        let (from, to) = (time_for_people(h.quiet_ns), time_for_people(h.noisy_ns));
        format!("; the host's own pauses grew, {from} → {to} at most")
    };
    s.host.map_or_else(String::new, told)
}

/// Channels that the neighbour loads and the probe feels.
fn shared(s: &Symptoms<'_>) -> Vec<Channel> {
    let loads = &s.cell.plan.neighbours[s.cell.neighbour].channels;
    s.cell.plan.panel[s.probe].channels.iter().copied().filter(|channel| loads.contains(channel)).collect()
}

/// Whether a cause of this word can come through a channel: waiting for a turn comes through none of them; a clock through
/// power; what is slower off the device through the host's side; what is slower on it, through anything else.
fn agrees(s: &Symptoms<'_>, word: &str, channel: Channel) -> bool {
    let off_device = matches!(channel, Channel::Host | Channel::Driver);
    match word {
        "clock" => channel == Channel::Power,
        "host" => off_device || channel == Channel::Launch,
        "queue" | "service" => !off_device && channel != Channel::Power,
        "saturated" => !takes_turns(s),
        _ => false,
    }
}

/// The clock, claimed only for probes whose time scales with it, and only where the time fails and its cycles pass: it grew as
/// the clock fell, and by no more cycles than the margin has.
fn clock(s: &Symptoms<'_>, times: (f64, f64)) -> Option<Found> {
    if !matches!(s.channel, Some(Channel::Issue | Channel::Tensor | Channel::L1)) {
        return None;
    }
    let (quiet, noisy) = validity::clocks(s.pairs)?;
    let (fell, grew) = (libm::log(quiet / noisy), libm::log(times.1 / times.0));
    let margin = libm::log1p(s.cell.plan.design.margins.of(s.quantile).0);
    let cycles = grew - fell;
    (quiet > CLOCK_FELL * noisy && cycles <= margin && cycles.abs() <= CLOCK_AGREEMENT * fell).then(|| {
        let (time, cycles) = (times.1 / times.0, libm::exp(cycles));
        let q = s.quantile;
        cause(
            "clock",
            format!("SM clock {quiet:.0} → {noisy:.0} MHz, time up {time:.2}× and cycles {cycles:.2}× ({q})"),
        )
    })
}

/// The quantile lies among requests that were never served: their share is what is known.
fn unserved(s: &Symptoms<'_>) -> Found {
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
        text += &format!(", {} each on the device ({})", time_for_people(service), s.quantile);
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
