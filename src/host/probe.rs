//! How the machine treats a thread that only spins: the host's own part in what a victim sees (verdict.md, "The probe").

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::clock::now;
use super::thread::pin;
use crate::units::Nanos;

/// A pause counts as long from here on: so late a request is called late.
const LONG: Nanos = Nanos::micros(50);

/// How often, and for how long at most, the machine took a core away from a thread that spins on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostPauses {
    /// The longest time between two readings of the clock.
    #[serde(rename = "longest_ns")]
    pub longest: Nanos,
    /// How many lasted longer than 50 µs.
    pub long: u64,
    /// How long it watched.
    #[serde(rename = "watched_ns")]
    pub watched: Nanos,
}

/// A thread that reads the clock on a core of its own until it is stopped, as the victim's sender and poller do while they
/// wait. Dropped, it is stopped.
#[derive(Debug)]
pub struct HostProbe {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<HostPauses>>>,
}

impl HostProbe {
    /// Begins to watch on `core`. `None`: no thread can be had.
    pub fn start(core: u32) -> Option<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("host-probe".to_owned()).spawn(move || {
            // Anywhere else it would disturb whom it is to tell of.
            pin(core).ok()?;
            Some(watch(now, || ended.load(Ordering::Relaxed)))
        });
        Some(Self { stop, thread: Some(thread.ok()?) })
    }

    /// Ends it. `None`: it could not run on its core.
    pub fn stop(mut self) -> Option<HostPauses> {
        self.end()
    }

    fn end(&mut self) -> Option<HostPauses> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take()?.join().ok().flatten()
    }
}

impl Drop for HostProbe {
    fn drop(&mut self) {
        // Of an arm that is lost nobody asks.
        let _ = self.end();
    }
}

/// Reads the clock until `ended`.
fn watch(clock: impl Fn() -> Nanos, ended: impl Fn() -> bool) -> HostPauses {
    let began = clock();
    let mut seen = HostPauses::default();
    let mut before = began;
    while !ended() {
        std::hint::spin_loop();
        let at = clock();
        let pause = at.saturating_sub(before);
        seen.longest = seen.longest.max(pause);
        seen.long += u64::from(pause > LONG);
        before = at;
    }
    seen.watched = before.saturating_sub(began);
    seen
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::host::cores::allowed;

    #[test]
    fn pauses_are_counted_by_their_length() {
        let readings = [0, 40_000, 40_100, 100_000, 160_000, 160_050, 3_160_050];
        let next = Cell::new(0);
        let clock = || {
            next.set(next.get() + 1);
            Nanos(1_000 + readings[next.get() - 1])
        };
        let seen = watch(clock, || next.get() == readings.len());
        // 40 µs is short; 59.9, 60 and 3,000 µs are not.
        assert_eq!(seen, HostPauses { longest: Nanos::millis(3), long: 3, watched: Nanos(3_160_050) });
    }

    #[test]
    fn a_long_pause_would_make_a_request_late() {
        assert_eq!(LONG, crate::tenant::LATE);
    }

    #[test]
    fn a_probe_watches_its_core_until_it_is_stopped() {
        let core = allowed().unwrap()[0];
        let probe = HostProbe::start(core).unwrap();
        let begun = now();
        while now() < begun + Nanos::millis(50) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let seen = probe.stop().unwrap();
        assert!(seen.longest > Nanos::ZERO && seen.longest <= seen.watched, "{seen:?}");
        // A core that is not there is no core to watch.
        assert_eq!(HostProbe::start(u32::MAX).unwrap().stop(), None);
    }
}
