//! Waiting: by spinning where the thread has a core of its own, else by short sleeps; never for ever.

use crate::host::clock::{now, sleep_until};
use crate::units::Nanos;

/// A thread without a core of its own sleeps this long between looks.
const NAP: Nanos = Nanos::micros(50);
/// Work that is not done after this long hangs. Well below what the controller waits for an answer: a tenant that gives up
/// says why, one that is given up is only killed.
const HANG: Nanos = Nanos::secs(45);

/// How a tenant waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Whether it may spin.
    pub(super) spin: bool,
    /// After how long it gives up.
    pub(super) limit: Nanos,
}

impl Patience {
    pub(super) fn new(spin: bool) -> Self {
        Self { spin, limit: HANG }
    }

    /// Begins to wait.
    pub(super) fn wait(&self) -> Wait {
        Wait { spin: self.spin, until: now() + self.limit }
    }

    /// Between two looks: until `next` at the latest, where that is sooner.
    #[inline]
    pub(super) fn pause(&self, at: Nanos, next: Nanos) {
        if self.spin {
            std::hint::spin_loop();
        } else if next > at {
            sleep_until(next.min(at + NAP));
        }
    }
}

/// One wait.
pub(super) struct Wait {
    spin: bool,
    until: Nanos,
}

impl Wait {
    /// Between two looks. False: given up.
    pub(super) fn pause(&mut self) -> bool {
        let at = now();
        if self.spin {
            std::hint::spin_loop();
        } else {
            sleep_until(at + NAP);
        }
        at < self.until
    }
}

/// The longest time between two clock reads of a thread that does nothing but wait: how long the machine took it away.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pauses {
    before: Option<Nanos>,
    pub(super) longest: Nanos,
}

impl Pauses {
    /// The clock was read while waiting.
    #[inline]
    pub(super) fn waited(&mut self, at: Nanos) {
        if let Some(before) = self.before {
            self.longest = self.longest.max(at.saturating_sub(before));
        }
        self.before = Some(at);
    }

    /// The thread did something else: what lies between is no pause.
    #[inline]
    pub(super) fn worked(&mut self) {
        self.before = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::live::Deadlines;

    #[test]
    fn a_tenant_gives_up_well_before_it_is_given_up() {
        let (hang, deadlines) = (Patience::new(false).limit, Deadlines::default());
        assert!(hang + Nanos::secs(10) < deadlines.quiet.min(deadlines.window));
    }
}
