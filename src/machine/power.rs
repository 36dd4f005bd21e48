//! Draw, cap and clock of a GPU: one clock for every domain.

use super::build::Constants;

/// Longest step of the clock, nanoseconds.
pub(super) const TICK: u64 = 1_000_000;
/// The clock rises again this many times more slowly than it falls.
const RISE: f64 = 10.0;
/// Clocks nearer than this to their target are there (0.1 MHz).
const SNAP: f64 = 1e-4;

/// The clock of a GPU and what it drew since the last step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// SM cycles per nanosecond.
    pub ghz: f64,
    /// 1 / `ghz`.
    pub ns: f64,
    /// Watts of issue, tensor and L2 at the highest clock, now.
    scaled: f64,
    /// Watts of device memory, now.
    fixed: f64,
    /// Integrals of both since the last step, W·ns.
    scaled_work: f64,
    fixed_work: f64,
    /// Until when they are integrated.
    mark: u64,
    /// Time of the last step.
    pub since: u64,
    cycles: f64,
    /// The cap binds: at the highest clock the draw of the last step would exceed it.
    capped: bool,
    throttled: u64,
}

impl Clock {
    /// At the highest clock, idle.
    pub fn new(k: &Constants) -> Self {
        Self {
            ghz: k.max_ghz,
            ns: 1.0 / k.max_ghz,
            scaled: 0.0,
            fixed: 0.0,
            scaled_work: 0.0,
            fixed_work: 0.0,
            mark: 0,
            since: 0,
            cycles: 0.0,
            capped: false,
            throttled: 0,
        }
    }

    /// From `t` on the GPU's activity draws `scaled` watts at the highest clock, and `fixed` whatever the clock.
    pub fn draw(&mut self, t: u64, scaled: f64, fixed: f64) {
        self.account(t);
        self.scaled = scaled;
        self.fixed = fixed;
    }

    fn account(&mut self, t: u64) {
        let dt = (t - self.mark) as f64;
        self.scaled_work += self.scaled * dt;
        self.fixed_work += self.fixed * dt;
        self.mark = t;
    }

    /// Watts now.
    pub fn watts(&self, k: &Constants) -> f64 {
        k.idle_w + self.fixed + self.scaled * self.ghz / k.max_ghz
    }

    /// One step of the clock to `t`, from the mean draw since the last: a first-order lag towards the clock at which
    /// the draw fits under the cap. True if the clock moved.
    pub fn tick(&mut self, t: u64, k: &Constants) -> bool {
        self.account(t);
        let dt = (t - self.since) as f64;
        if dt <= 0.0 {
            return false;
        }
        let before = self.ghz;
        let budget = k.cap_w - k.idle_w - self.fixed_work / dt;
        let asked = self.scaled_work / dt;
        let target = if asked <= budget { k.max_ghz } else { (k.max_ghz * budget / asked).max(k.floor_ghz) };
        if (target - before).abs() <= SNAP {
            self.ghz = target;
            self.cycles += before * dt;
        } else {
            let lag = if target < before { k.lag_ns } else { k.lag_ns * RISE };
            let gone = if lag > 0.0 { libm::exp(-dt / lag) } else { 0.0 };
            self.ghz = target + (before - target) * gone;
            // Work ran at a constant clock between two steps; across a longer pause the clock moved by itself.
            self.cycles +=
                if t - self.since <= TICK { before * dt } else { target * dt + (before - target) * lag * (1.0 - gone) };
        }
        // A clock that rises again after the cap has let go is below the highest, and nothing holds it down.
        self.capped = asked > budget;
        if self.capped {
            self.throttled += t - self.since;
        }
        self.ns = 1.0 / self.ghz;
        self.scaled_work = 0.0;
        self.fixed_work = 0.0;
        self.since = t;
        self.ghz.to_bits() != before.to_bits()
    }

    /// Work comes at `t` after the clock had fallen for `asleep` nanoseconds: it rises from that of an idle GPU.
    pub fn wake(&mut self, t: u64, asleep: u64, k: &Constants) {
        let pause = t - self.since;
        let asleep = asleep.min(pause);
        self.cycles += self.ghz * (pause - asleep) as f64 + k.idle_ghz * asleep as f64;
        self.account(t);
        self.scaled_work = 0.0;
        self.fixed_work = 0.0;
        self.since = t;
        self.capped = false;
        self.ghz = k.idle_ghz;
        self.ns = 1.0 / self.ghz;
    }

    /// As it is at `t`: a pause longer than a step is one step.
    pub fn at(&self, t: u64, k: &Constants) -> Self {
        let mut clock = *self;
        if t.saturating_sub(self.since) > TICK {
            clock.tick(t, k);
        }
        clock
    }

    /// Cycles to `t`.
    pub fn cycles(&self, t: u64) -> f64 {
        self.cycles + self.ghz * t.saturating_sub(self.since) as f64
    }

    /// Time to `t` in which the cap held the clock down.
    pub fn throttled(&self, t: u64) -> u64 {
        self.throttled + if self.capped { t.saturating_sub(self.since) } else { 0 }
    }
}
