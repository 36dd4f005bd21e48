//! Who may begin: blocks on SMs, copies on engines, host calls under the driver's lock. All first come first served.

use super::engine::{Machine, bits};
use super::rates::Resource;
use super::state::State;

/// Slack when room that was given in fractions of an SM is counted in blocks.
const ROOM_SLACK: f64 = 1e-6;

impl Machine {
    /// Gives the free room of pool `p` to its launches in order of arrival. A launch takes what it can use of what is
    /// free and grows when more comes free; one that finds no room makes all later ones wait (head-of-line).
    pub(super) fn place(&mut self, p: usize, t: u64) {
        let (sms, members, c) = (self.pools[p].sms, self.pools[p].members, usize::from(self.pools[p].compute));
        let turns = self.computes[c].turns;
        let d = usize::from(self.computes[c].domain);
        let mut room = sms;
        let mut todo = 0u64;
        for q in bits(members) {
            let head = &self.heads[q];
            if head.state == State::Running {
                room -= head.room;
                if head.held < head.want {
                    todo |= 1 << q;
                }
            } else if turns.is_none_or(|turns| turns.admits(usize::from(head.context))) {
                todo |= 1 << q;
            }
        }
        if todo == 0 {
            return;
        }
        if self.k.leaky {
            room -= self.background(d, Resource::Slots);
        }
        while let Some(q) = self.earliest(todo) {
            todo &= !(1 << q);
            let head = self.heads[q];
            let x = usize::from(head.context);
            let limit = self.contexts[x].sms;
            let mut mine = room;
            if limit < sms {
                let used: f64 = bits(members)
                    .filter(|m| self.heads[*m].state == State::Running && self.heads[*m].context == head.context)
                    .map(|m| self.heads[m].room)
                    .sum();
                mine = room.min(limit - used);
            }
            let per_sm = f64::from(self.works[usize::from(head.work)].per_sm);
            let running = head.state == State::Running;
            let had = if running { head.held } else { 0 };
            let extra = ((mine * per_sm + ROOM_SLACK).max(0.0) as u32).min(head.want - had);
            if extra > 0 {
                room -= f64::from(extra) / per_sm;
                self.hold(q, d, had + extra, limit, t);
            } else if !running && room * per_sm + ROOM_SLACK < 1.0 {
                return;
            }
        }
    }

    /// The launch at the head of queue `q` holds `held` block slots from now on.
    fn hold(&mut self, q: usize, d: usize, held: u32, limit: f64, t: u64) {
        let head = &mut self.heads[q];
        let w = &self.works[usize::from(head.work)];
        let span = f64::from(held).min(limit);
        let waves = f64::from(w.blocks.div_ceil(held));
        head.held = held;
        head.room = f64::from(held) / f64::from(w.per_sm);
        head.span = span;
        head.waves = waves;
        head.cycles = (w.issue.max(w.tensor) / span).max(w.wait * waves);
        if head.state != State::Running {
            if head.state == State::Waiting {
                head.started = t;
                head.rest = f64::from(head.times);
            }
            head.state = State::Running;
            head.since = t;
            head.period = f64::INFINITY;
            self.domains[d].running |= 1 << q;
            if w.barriers > 0.0 {
                self.gpus[usize::from(self.domains[d].gpu)].barriers |= 1 << q;
            }
        }
        self.dirty.domains |= 1 << d;
    }

    /// Puts waiting copies of domain `d` on free engines.
    pub(super) fn start_copies(&mut self, d: usize, t: u64) {
        let mut engines = self.domains[d].engines;
        if self.k.leaky {
            engines = engines.saturating_sub((self.background(d, Resource::CopyEngine) + 0.5) as u32);
        }
        let g = usize::from(self.domains[d].gpu);
        while self.domains[d].copies_running.count_ones() < engines {
            let Some(q) = self.earliest(self.domains[d].copies_waiting) else { return };
            self.domains[d].copies_waiting &= !(1 << q);
            self.domains[d].copies_running |= 1 << q;
            self.gpus[g].copies |= 1 << q;
            let head = &mut self.heads[q];
            head.state = State::Running;
            head.started = t + self.k.setup_ns as u64;
            head.rest = f64::from(head.times);
            head.since = t;
            head.period = f64::INFINITY;
            self.dirty.links |= 1 << g;
        }
    }

    /// Gives the driver's lock of GPU `g` to who came first, if it is free.
    pub(super) fn take_lock(&mut self, g: usize, t: u64) {
        if self.gpus[g].lock.is_some() {
            return;
        }
        let Some(q) = self.earliest(self.gpus[g].callers) else { return };
        self.gpus[g].callers &= !(1 << q);
        self.gpus[g].lock = Some(q as u8);
        let head = &mut self.heads[q];
        let w = &self.works[usize::from(head.work)];
        head.state = State::Running;
        head.started = head.started.min(t);
        head.rest = 1.0;
        head.since = t;
        head.period = f64::INFINITY;
        if w.barriers > 0.0 {
            self.gpus[g].barriers |= 1 << q;
            self.dirty.gpus |= 1 << g;
        } else {
            self.retime(q, t, w.lock.max(1.0));
        }
    }

    /// The queue of `mask` whose head came first.
    fn earliest(&self, mask: u64) -> Option<usize> {
        if mask & mask.wrapping_sub(1) == 0 {
            return (mask != 0).then_some(mask.trailing_zeros() as usize);
        }
        bits(mask).min_by_key(|q| self.heads[*q].arrival)
    }
}
