//! Causes: from queue, service and clock, each claimed only where the data show it.

use super::super::synthetic::{Lab, record_parts};
use super::super::*;
use super::{change, slowed};
use crate::run_dir::{JudgedBy, SeriesData};
use crate::scenario::{Quantile, SharingMode};
use crate::units::Nanos;

/// The cause where a probe of the first channel has request times of 3, 40 and 5 µs when quiet (queue, service, host), and
/// `noisy` beside noise of the second.
fn cause_of(sharing: SharingMode, (probe, noise): (Channel, Channel), noisy: [f64; 3], mhz: f64) -> Cause {
    let (panel, neighbours) = (vec![("probe", probe)], vec![("n", "w", noise)]);
    let mut run = Lab { sharing, panel, neighbours, ..Lab::default() }.run_of(|stream, draw| {
        let mut data = SeriesData::default();
        let parts = if draw.neighbour.is_some() { noisy } else { [3.0, 40.0, 5.0] };
        for _ in 0..1_000 {
            let [queue, service, host] = parts.map(|us| us * 1e3 * (1.0 + 0.02 * stream.uniform()));
            record_parts(&mut data, queue, service, host);
        }
        data
    });
    change(&mut run, true, |s| s.sm_mhz = Some(mhz));
    judge(&run).cells.remove(0).series.remove(0).cause.unwrap()
}

/// A channel is claimed where the cause can come through it, and denied where it suggests itself and cannot.
#[test]
fn a_channel_is_claimed_only_where_the_cause_agrees() {
    use SharingMode::{Mps, TimeSlicing};
    let of = |sharing, probe, noise, noisy, mhz| {
        let cause = cause_of(sharing, (probe, noise), noisy, mhz);
        (cause.word, cause.channel, cause.text)
    };
    let (memory, pcie, issue, power) = (Channel::HbmBandwidth, Channel::Pcie, Channel::Issue, Channel::Power);
    let slower = [3.0, 80.0, 5.0];
    let (word, channel, _) = of(Mps, memory, memory, slower, 1_755.0);
    assert_eq!((word.as_str(), channel), ("service", Some(memory)));
    let (word, channel, text) = of(Mps, memory, pcie, slower, 1_755.0);
    assert_eq!((word.as_str(), channel), ("service", None));
    assert!(!text.contains("through"), "nothing suggests itself: {text}");
    let (word, channel, text) = of(TimeSlicing, memory, memory, [2_100.0, 40.0, 5.0], 1_755.0);
    assert_eq!((word.as_str(), channel), ("turns", None));
    assert!(text.ends_with("; not through hbm-bandwidth"), "{text}");
    let (word, channel, text) = of(Mps, issue, issue, [3.0, 54.0, 5.0], 1_300.0);
    assert_eq!((word.as_str(), channel), ("clock", None));
    assert!(text.ends_with("; not through issue"), "{text}");
    assert_eq!(of(Mps, issue, power, [3.0, 54.0, 5.0], 1_300.0).1, None, "it feels no power, it feels the clock");
    // Elsewhere the clock is a co-factor: memory does not scale with it.
    let (word, channel, text) = of(Mps, memory, memory, [3.0, 54.0, 5.0], 1_300.0);
    assert_eq!((word.as_str(), channel), ("service", Some(memory)));
    assert!(text.ends_with("; the SM clock fell besides, 1755 → 1300 MHz"), "{text}");
    let (word, channel, _) = of(Mps, Channel::Driver, Channel::Driver, [3.0, 40.0, 45.0], 1_755.0);
    assert_eq!((word.as_str(), channel), ("host", Some(Channel::Driver)));
}

/// Four ticks of the device's timer: an A100 has one of 1,024 ns, and 3 µs more are none of the device's that it can tell.
#[test]
fn below_four_ticks_nothing_is_put_down_to_the_device() {
    let word = |provenance| {
        let mut run = Lab { judged: vec![(Quantile::P50, JudgedBy::Blocks)], ..Lab::default() }.run_of(|_, draw| {
            let mut data = SeriesData::default();
            let service = if draw.neighbour.is_some() { 8e3 } else { 5e3 };
            (0..1_000).for_each(|_| record_parts(&mut data, 1e3, service, 1e3));
            data
        });
        run.manifest.plan.inventory.provenance = provenance;
        run.manifest.plan.inventory.gpus[0].model = Some("a100-80gb".to_owned());
        judge(&run).cells.remove(0).series.remove(0).cause.unwrap().word
    };
    use crate::provenance::Provenance::{Measured, Simulated};
    assert_eq!((word(Simulated).as_str(), word(Measured).as_str()), ("service", "host"));
}

#[test]
fn causes_follow_the_device_s_own_times() {
    use SharingMode::{Mps, TimeSlicing};
    let (compute, memory) = (Channel::Issue, Channel::HbmBandwidth);
    let word = |mode, channel, noisy, mhz| cause_of(mode, (channel, memory), noisy, mhz).word;
    let turns = cause_of(TimeSlicing, (memory, memory), [2_100.0, 40.0, 5.0], 1_755.0);
    assert_eq!(turns.word, "turns");
    assert!(turns.text.starts_with("waits 2.14 ms for its turn (p99), 3.06 µs when quiet"), "{}", turns.text);
    assert_eq!(word(Mps, memory, [60.0, 41.0, 5.0], 1_755.0), "queue");
    assert_eq!(word(Mps, memory, [60.0, 45.0, 5.0], 1_755.0), "service", "each is slower, and the next one waits");
    assert_eq!(word(Mps, memory, [4.0, 80.0, 5.0], 1_755.0), "service");
    assert_eq!(word(TimeSlicing, memory, [4.0, 80.0, 5.0], 1_755.0), "service", "a mode is no cause");
    assert_eq!(word(Mps, memory, [3.0, 40.0, 45.0], 1_755.0), "host");
    // 1755 → 1300 MHz is a factor of 1.35, and so is 40 → 54 µs; an HBM probe does not scale with the clock.
    let clock = cause_of(Mps, (compute, memory), [3.0, 54.0, 5.0], 1_300.0);
    assert_eq!(
        (clock.word.as_str(), clock.text.as_str()),
        ("clock", "SM clock 1755 → 1300 MHz, time up 1.35× and cycles 1.00× (p99)")
    );
    assert_eq!(word(Mps, memory, [3.0, 54.0, 5.0], 1_300.0), "service");
    assert_eq!(word(Mps, compute, [3.0, 90.0, 5.0], 1_300.0), "service", "the clock explains a third of it");
}

#[test]
fn without_device_times_the_cause_says_so() {
    let cell = judge(&Lab::default().run(slowed(2.5))).cells.remove(0);
    let cause = cell.series[0].cause.as_ref().unwrap();
    assert_eq!(cause.word, "unknown");
    assert!(cause.text.ends_with("its time on the device is not known"), "{}", cause.text);
    assert_eq!(cause.channel, None, "nothing is claimed");
    let mut run = Lab::default().run(slowed(2.5));
    change(&mut run, true, |s| s.host_pause = Some(Nanos::millis(40)));
    change(&mut run, false, |s| s.host_pause = Some(Nanos::micros(30)));
    let cause = judge(&run).cells.remove(0).series.remove(0).cause.unwrap();
    assert_eq!(cause.word, "host");
    let ends = "; the host's own pauses grew, 30 µs → 40 ms at most; not through hbm-bandwidth";
    assert!(cause.text.ends_with(ends), "{}", cause.text);
}

#[test]
fn a_growing_backlog_is_saturation() {
    let mut run = Lab::default().run(slowed(2.5));
    change(&mut run, true, |s| {
        (s.windows[0].open_at_half, s.windows[0].open_at_end, s.windows[0].completed) = (50, 110, 900);
    });
    let cause = judge(&run).cells.remove(0).series.remove(0).cause.unwrap();
    assert_eq!(cause.word, "saturated");
    assert_eq!(cause.text, "the backlog grew by 60 requests in half a window, 900 of 1000 requests/s served");
}
