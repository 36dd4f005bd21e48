//! Turns of contexts under time-slicing: round robin among contexts with launch work in one compute domain.
//!
//! A context keeps its turn for a quantum while others wait, and gives it away at once when its launch queues run empty.
//! The last context to run comes back without a switch. A lone context's turn is renewed quantum by quantum: who comes
//! waits for the rest of the current one.

use super::build::COMPUTES;
use super::engine::{Machine, bits};
use super::state::State;
use super::topology::Policy;

/// Whose turn it is in one compute domain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns {
    /// Whose turn it is, or will be after the switch.
    owner: Option<u8>,
    /// Who ran last: whose state is on the SMs.
    last: Option<u8>,
    /// The switch to the owner ends then, where one is under way.
    switching: Option<u64>,
    /// Start of the turn.
    start: u64,
    /// When this needs to look again by itself.
    pub wake: u64,
}

impl Turns {
    /// Nobody's turn, nobody ran yet.
    pub fn new() -> Self {
        Self { owner: None, last: None, switching: None, start: 0, wake: u64::MAX }
    }

    /// Whether `context` may run now.
    pub fn admits(&self, context: usize) -> bool {
        self.switching.is_none() && self.owner.is_some_and(|o| usize::from(o) == context)
    }
}

impl Machine {
    /// Changes how the contexts of a compute domain run together, from now on: what runs side by side stops for the first
    /// turn, and who waited for a turn waits no more.
    pub fn set_policy(&mut self, compute: usize, policy: Policy) {
        if compute >= COMPUTES || self.computes[compute].turns.is_some() == (policy == Policy::TimeSliced) {
            return;
        }
        match policy {
            Policy::TimeSliced => {
                self.sliced |= 1 << compute;
                self.computes[compute].turns = Some(Turns::new());
                for context in bits(u64::from(self.computes[compute].contexts)) {
                    self.pause(compute, context, self.now);
                }
            }
            Policy::Concurrent => {
                self.sliced &= !(1 << compute);
                self.computes[compute].turns = None;
            }
        }
        self.readmit(compute);
        self.dirty.computes |= 1 << compute;
        self.next = self.next.min(self.now);
    }

    /// Whether launches of `context` are on the SMs now: under time-slicing, those of one context at a time.
    pub fn is_running(&self, context: usize) -> bool {
        let of = |domain: &super::state::DomainState| {
            bits(domain.running).any(|queue| usize::from(self.heads[queue].context) == context)
        };
        self.domains.iter().any(of)
    }

    /// Brings the turns of compute domain `c` to time `t`.
    pub(super) fn take_turns(&mut self, c: usize, t: u64) {
        let Some(mut turns) = self.computes[c].turns else { return };
        let ready = self.computes[c].ready;
        if turns.switching.is_some_and(|until| until <= t) {
            turns.switching = None;
            turns.start = t;
            turns.wake = u64::MAX;
            self.readmit(c);
        }
        if let Some(owner) = turns.owner {
            let me = 1u32 << owner;
            let keeps = (ready | self.computes[c].between) & me != 0;
            let over = turns.switching.is_none() && turns.wake <= t && ready & !me != 0;
            if !keeps || over {
                if over && keeps {
                    self.pause(c, usize::from(owner), t);
                }
                turns.owner = None;
                turns.wake = u64::MAX;
            }
        }
        if turns.owner.is_none() {
            turns.owner = next_after(turns.last, ready);
            if let Some(owner) = turns.owner {
                if turns.last.is_none_or(|last| last == owner) {
                    turns.start = t;
                } else {
                    turns.switching = Some(t + self.k.switch);
                }
                turns.last = turns.owner;
                self.readmit(c);
            }
        }
        turns.wake = match (turns.switching, turns.owner) {
            (Some(until), _) => until,
            (None, Some(owner)) if ready & !(1 << owner) != 0 => {
                // Turns end on a grid of quanta from their start, also those that began while nobody else waited.
                let q = self.k.quantum;
                if turns.wake != u64::MAX && turns.wake > t {
                    turns.wake
                } else {
                    turns.start + q * ((t - turns.start) / q + 1)
                }
            }
            _ => u64::MAX,
        };
        self.computes[c].turns = Some(turns);
    }

    /// The pools of compute domain `c` must look again at who may run.
    fn readmit(&mut self, c: usize) {
        for x in bits(u64::from(self.computes[c].contexts)) {
            self.dirty.pools |= 1 << self.contexts[x].pool;
        }
    }

    /// Takes the running launches of `context` off the SMs in mid-kernel; their saved state displaces lines of L2.
    fn pause(&mut self, c: usize, context: usize, t: u64) {
        let d = usize::from(self.computes[c].domain);
        let mut saved = 0.0;
        for q in bits(self.domains[d].running) {
            if usize::from(self.heads[q].context) != context {
                continue;
            }
            self.progress(q, t);
            let head = &mut self.heads[q];
            saved += head.span * self.k.saved;
            head.state = State::Paused;
            head.period = f64::INFINITY;
            self.wakes[q] = u64::MAX;
            self.domains[d].running &= !(1 << q);
            self.gpus[usize::from(self.domains[d].gpu)].barriers &= !(1 << q);
        }
        if saved > 0.0 {
            let l2 = &mut self.domains[d].l2;
            l2.step(t);
            l2.displace(saved);
        }
        self.dirty.domains |= 1 << d;
        self.readmit(c);
    }
}

/// The next context of `ready` after `last`, in circles.
fn next_after(last: Option<u8>, ready: u32) -> Option<u8> {
    if ready == 0 {
        return None;
    }
    let from = last.map_or(0, |last| u32::from(last) + 1);
    let later = if from < 32 { ready & (u32::MAX << from) } else { 0 };
    Some((if later != 0 { later } else { ready }).trailing_zeros() as u8)
}
