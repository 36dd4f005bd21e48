//! Who holds how much of a cache: L2 of a memory domain in bytes, the last-level TLB of a GPU in pages.
//!
//! Insertion displaces at random, so that a context's part decays by everybody's insertion and grows by its own misses:
//! `d held/dt = accesses × (1 − held/footprint) − held × inserted/capacity`, eviction only once free space is used up.
//! In equilibrium capacity is held in proportion to insertion (misses), and never more than the footprint. Steps are
//! exact for constant rates, and short against the time constant while something moves.

use super::build::CONTEXTS;
use super::engine::bits;

/// Hit shares that differ from their equilibrium by less than this need no step of their own.
const NEAR: f64 = 0.1;
/// Shortest step towards equilibrium, nanoseconds.
const SHORTEST_STEP: f64 = 10_000.0;
/// Steps of 1, 2 and 4 time constants before the rest of an interval is taken at once.
const FINE_STEPS: u32 = 3;

/// Who holds how much of one cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Occupancy {
    capacity: f64,
    held: [f64; CONTEXTS],
    /// Distinct amount that the running work of a context touches.
    want: [f64; CONTEXTS],
    /// Accesses of the running work, amount per nanosecond.
    access: [f64; CONTEXTS],
    /// Contexts that hold something.
    holders: u32,
    /// Contexts whose running work touches something.
    active: u32,
    /// Insertion by a leak from elsewhere.
    leaked: f64,
    last: u64,
    /// What the running work asks, summed up: parts at rest stay at rest while it is unchanged.
    asked: f64,
    /// Nothing moves until somebody asks for something else.
    steady: bool,
}

/// e^−x for x ≥ 0 from `+ − × /` alone: (Taylor polynomial of e^(x/8))^−8. Off by less than 10⁻⁵ of what decays, and
/// several times as fast as the exact function, which would be half of the cost of an event.
fn decay(x: f64) -> f64 {
    let y = x * 0.125;
    let p = 1.0 + y * (1.0 + y * (1.0 / 2.0) * (1.0 + y * (1.0 / 3.0) * (1.0 + y * 0.25 * (1.0 + y * 0.2))));
    let p2 = p * p;
    let p4 = p2 * p2;
    1.0 / (p4 * p4)
}

impl Occupancy {
    /// Empty.
    pub fn new(capacity: f64) -> Self {
        Self {
            capacity,
            held: [0.0; CONTEXTS],
            want: [0.0; CONTEXTS],
            access: [0.0; CONTEXTS],
            holders: 0,
            active: 0,
            leaked: 0.0,
            last: 0,
            asked: 0.0,
            steady: false,
        }
    }

    /// Share of the accesses of `context` that hit: what it holds of what it touches.
    pub fn hit(&self, context: usize) -> f64 {
        let want = self.want[context];
        if want <= 0.0 { 1.0 } else { (self.held[context] / want).min(1.0) }
    }

    /// Forgets the running work of `contexts`.
    pub fn clear(&mut self, contexts: u32) {
        for c in bits(u64::from(self.active & contexts)) {
            self.want[c] = 0.0;
            self.access[c] = 0.0;
        }
        self.active &= !contexts;
    }

    /// Adds running work that touches `footprint`.
    pub fn touch(&mut self, context: usize, footprint: f64) {
        if footprint > 0.0 {
            self.want[context] += footprint;
            self.active |= 1 << context;
        }
    }

    /// Adds accesses per nanosecond of running work.
    pub fn access(&mut self, context: usize, rate: f64) {
        if self.active & 1 << context != 0 {
            self.access[context] += rate;
        }
    }

    /// Sets insertion from elsewhere.
    pub fn leak(&mut self, rate: f64) {
        self.leaked = rate;
    }

    /// All running work has been touched and its accesses added: notices whether anything changed.
    pub fn asked(&mut self) {
        let mut asked = self.leaked + f64::from(self.active);
        for c in bits(u64::from(self.active)) {
            asked += self.access[c] * (c + 1) as f64 + self.want[c];
        }
        if asked.to_bits() != self.asked.to_bits() {
            self.asked = asked;
            self.steady = false;
        }
    }

    /// What is inserted per nanosecond by its own contexts.
    pub fn inserted(&self) -> f64 {
        bits(u64::from(self.active))
            .map(|c| {
                let miss = 1.0 - self.hit(c);
                // What is held but for rounding is held.
                if miss > 1e-9 { self.access[c] * miss } else { 0.0 }
            })
            .sum()
    }

    /// Brings the parts to time `t`.
    pub fn step(&mut self, t: u64) {
        let mut rest = (t - self.last) as f64;
        self.last = t;
        if self.steady {
            return;
        }
        let mut steps = 0;
        while rest > 0.0 && !self.steady {
            let inserted = self.inserted() + self.leaked;
            if inserted <= 0.0 {
                self.steady = true;
                return;
            }
            let fine = self.capacity / inserted * f64::from(1u32 << steps);
            let dt = if steps < FINE_STEPS && rest > 1.5 * fine { fine } else { rest };
            self.relax(inserted, dt);
            rest -= dt;
            steps += 1;
        }
    }

    /// One step of `dt` with constant insertion.
    fn relax(&mut self, inserted: f64, dt: f64) {
        self.holders |= self.active;
        let total: f64 = bits(u64::from(self.holders)).map(|c| self.held[c]).sum();
        let free = (self.capacity - total).max(0.0);
        // Eviction per nanosecond and unit held, for the part of the step in which there is no free space left.
        let pressure = (inserted - free / dt).max(0.0) / self.capacity;
        let fade = decay(pressure * dt);
        let mut after = 0.0;
        let mut moved = 0.0f64;
        for c in bits(u64::from(self.holders)) {
            let held = self.held[c];
            let want = self.want[c];
            let mut next = held * fade;
            if want > 0.0 && self.access[c] > 0.0 {
                let refill = self.access[c] / want;
                let k = refill + pressure;
                let goal = self.access[c] / k;
                let own = goal + (held - goal) * decay(k * dt);
                // Above its footprint are lines of earlier work: they only decay.
                next = if held <= want { own } else { next.max(goal) };
            }
            if next < 1e-6 * self.capacity && self.active & 1 << c == 0 {
                next = 0.0;
                self.holders &= !(1 << c);
            }
            moved = moved.max((next - held).abs());
            self.held[c] = next;
            after += next;
        }
        // Less than a millionth of the capacity within a tenth of a time constant is rest.
        self.steady = moved < 1e-6 * self.capacity && inserted * dt > 0.1 * self.capacity;
        if after > self.capacity {
            let scale = self.capacity / after;
            for c in bits(u64::from(self.holders)) {
                self.held[c] *= scale;
            }
        }
    }

    /// Displaces what is held by `amount` of foreign lines (the saved state of preempted blocks); free space goes first.
    pub fn displace(&mut self, amount: f64) {
        let total: f64 = bits(u64::from(self.holders)).map(|c| self.held[c]).sum();
        let over = amount - (self.capacity - total).max(0.0);
        if over > 0.0 {
            self.steady = false;
            let survive = libm::exp(-over / self.capacity);
            for c in bits(u64::from(self.holders)) {
                self.held[c] *= survive;
            }
        }
    }

    /// Nanoseconds after which hit shares will have moved enough to be looked at again; infinite near equilibrium.
    pub fn settling(&self) -> f64 {
        if self.steady {
            return f64::INFINITY;
        }
        let inserted = self.inserted() + self.leaked;
        if inserted <= 0.0 {
            return f64::INFINITY;
        }
        let total: f64 = bits(u64::from(self.holders | self.active)).map(|c| self.held[c]).sum();
        let full = total >= 0.999 * self.capacity;
        let mut soonest = f64::INFINITY;
        for c in bits(u64::from(self.active)) {
            let want = self.want[c];
            if self.access[c] <= 0.0 {
                continue;
            }
            let k = self.access[c] / want + if full { inserted / self.capacity } else { 0.0 };
            let goal = (self.access[c] / k).min(self.capacity);
            if (goal - self.held[c]).abs() > NEAR * want && 1.0 / k < soonest {
                soonest = 1.0 / k;
            }
        }
        soonest.max(SHORTEST_STEP)
    }

    /// What `context` holds.
    #[cfg(test)]
    pub fn held(&self, context: usize) -> f64 {
        self.held[context]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decay_is_the_exponential() {
        for i in 0..400 {
            let x = f64::from(i) * 0.05;
            assert!((decay(x) - libm::exp(-x)).abs() < 1e-5, "{x}");
        }
        assert!(decay(1e6) < 1e-12);
    }

    #[test]
    fn a_lone_user_fills_what_is_free_and_keeps_it() {
        let mut cache = Occupancy::new(1_000.0);
        cache.touch(0, 400.0);
        cache.access(0, 1.0);
        cache.step(0);
        cache.step(400);
        // 400 × (1 − 1/e) after one time constant of 400 ns.
        assert!((cache.held(0) - 400.0 * (1.0 - libm::exp(-1.0))).abs() < 0.1, "{}", cache.held(0));
        cache.step(100_000);
        assert!((cache.held(0) - 400.0).abs() < 1e-3);
        cache.clear(1);
        cache.asked();
        cache.step(200_000);
        assert!((cache.held(0) - 400.0).abs() < 1e-3, "nobody displaces it");
        // A stream does: nothing is left after 20 time constants of its insertion.
        cache.touch(1, 1e9);
        cache.access(1, 10.0);
        cache.asked();
        cache.step(202_000);
        assert!(cache.held(0) < 0.01, "{}", cache.held(0));
        assert!(cache.held(1) > 990.0);
    }
}
