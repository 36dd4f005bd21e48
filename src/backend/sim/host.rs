//! The simulated host: jitter of the sender, rare pauses, wake-up cost. Seeded.
//!
//! Sizes are those of single hosts as measured in the field: a spin overshoots by tens of nanoseconds, launch latency
//! has p50/p99 of 4.0/5.0 µs on an H100, dedicated cores are still taken away for milliseconds now and then, and a
//! launch after the host slept costs more (a table in the GPU's data file).

use crate::gpu::GpuModel;
use crate::random::{Key, Stream};
use crate::units::Nanos;

/// Mean time between pauses of a sender's core.
const BETWEEN_PAUSES: Nanos = Nanos::secs(20);
/// Shortest pause; pauses are this plus an exponential of the same mean.
const PAUSE: Nanos = Nanos::micros(400);
/// Overshoot of a spinning wait.
const SPIN: Nanos = Nanos(43);
/// Spread of launch latency: ln(p99/p50) ÷ 2.326 of the measured 4.0/5.0 µs, one-sided.
const LAUNCH_SIGMA: f64 = 0.096;
/// A host that waits for nothing posts an empty kernel this often (verdict.md, fair arms 6), so that no gap is longer.
const KEEP_AWAKE: Nanos = Nanos::micros(500);

/// The simulated host of one arm.
pub(super) struct Host {
    stream: Stream,
    pause: (Nanos, Nanos),
    longest: Nanos,
    latency: f64,
    completion: Nanos,
    call: Nanos,
    wake: Vec<(Nanos, Nanos)>,
    keep_awake: bool,
}

impl Host {
    pub(super) fn new(model: &GpuModel, seed: u64, key: &[Key<'_>], now: Nanos, keep_awake: bool) -> Self {
        let mut host = Self {
            stream: Stream::new(seed, key),
            pause: (now, now),
            longest: Nanos::ZERO,
            latency: model.launch.latency_ns as f64,
            completion: Nanos(model.launch.completion_ns),
            call: Nanos(model.launch.call_ns),
            wake: model.launch.wake.iter().map(|(idle, cost)| (Nanos::micros(*idle), Nanos(*cost))).collect(),
            keep_awake,
        };
        host.next_pause(now);
        host
    }

    fn next_pause(&mut self, after: Nanos) {
        let gap = Nanos((BETWEEN_PAUSES.0 as f64 * self.stream.exponential()) as u64);
        let length = PAUSE + Nanos((PAUSE.0 as f64 * self.stream.exponential()) as u64);
        self.pause = (after + gap, after + gap + length);
    }

    /// When a sender that waits for `due` really acts.
    pub(super) fn act(&mut self, due: Nanos) -> Nanos {
        let at = due + Nanos((SPIN.0 as f64 * self.stream.exponential()) as u64);
        while self.pause.1 <= at {
            self.next_pause(self.pause.1);
        }
        if self.pause.0 <= at {
            self.longest = self.longest.max(self.pause.1 - self.pause.0);
            return self.pause.1;
        }
        at
    }

    /// Length of the driver calls that enqueue `operations`, the host having been idle for `idle`.
    pub(super) fn calls(&self, operations: u32, idle: Nanos) -> Nanos {
        self.call * u64::from(operations) + self.wake_cost(idle)
    }

    /// What a launch costs more after the host was idle: linear between the points of the table.
    fn wake_cost(&self, idle: Nanos) -> Nanos {
        let idle = if self.keep_awake { idle.min(KEEP_AWAKE) } else { idle };
        let mut below = (Nanos::ZERO, Nanos::ZERO);
        for point in &self.wake {
            if idle < point.0 {
                let part = (idle - below.0).0 as f64 / (point.0 - below.0).0 as f64;
                return below.1 + Nanos((part * (point.1.saturating_sub(below.1)).0 as f64) as u64);
            }
            below = *point;
        }
        below.1
    }

    /// Spread of launch latency over its median.
    pub(super) fn launch_jitter(&mut self) -> Nanos {
        let z = self.stream.normal();
        Nanos((self.latency * (libm::exp(LAUNCH_SIGMA * z.abs()) - 1.0)) as u64)
    }

    /// When the tenant sees what the device finished at `ended`.
    pub(super) fn seen(&mut self, ended: Nanos) -> Nanos {
        let spread = 1.0 + 0.05 * self.stream.exponential();
        ended + Nanos((self.completion.0 as f64 * spread) as u64)
    }

    /// Longest pause that a sender met.
    pub(super) fn longest_pause(&self) -> Nanos {
        self.longest
    }
}
