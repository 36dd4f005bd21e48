//! CLOCK_MONOTONIC: the one time axis of controller and tenants. It is the same in every process of the machine.

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::units::Nanos;

/// Now.
pub fn now() -> Nanos {
    let at = clock_gettime(ClockId::Monotonic);
    // Monotonic time is never negative.
    Nanos(at.tv_sec.unsigned_abs() * 1_000_000_000 + at.tv_nsec.unsigned_abs())
}

/// Sleeps until `at`, signals or not. Wakes late, by the thread's timer slack and by what the machine is doing.
pub fn sleep_until(at: Nanos) {
    let until = timespec(at);
    while now() < at {
        // Interrupted: the time to sleep until is absolute, so nothing is lost.
        if let Err(error) = clock_nanosleep_absolute(ClockId::Monotonic, &until)
            && error != rustix::io::Errno::INTR
        {
            return;
        }
    }
}

/// The kernel's form of a time.
pub(crate) fn timespec(at: Nanos) -> Timespec {
    let seconds = i64::try_from(at.0 / 1_000_000_000).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: (at.0 % 1_000_000_000) as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeper_never_wakes_early() {
        let at = now() + Nanos::millis(3);
        sleep_until(at);
        assert!(now() >= at);
        sleep_until(Nanos::ZERO);
    }
}
