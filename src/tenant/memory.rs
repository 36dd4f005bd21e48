//! What a process beside the tenants of the arms is asked to do with device memory, and how it does that: the same code on a
//! GPU and in virtual time. What a driver refuses is an outcome, never an error.

use serde::{Deserialize, Serialize};

use crate::backend::Outcome;
use crate::field::{Kind, Value};
use crate::hazard::{Attempt, Reach, Step};
use crate::random::{Key, Stream};
use crate::units::{Bytes, Nanos};

/// The least that is asked for on the way to everything: the unit in which a driver maps large allocations.
pub(crate) const GRAIN: u64 = 2 << 20;
/// Pieces in which everything is taken, at first.
const PIECES: u64 = 64;
/// Attempts in one answer at most: a line has a longest length.
const TOLD: usize = 2_048;

/// One question about memory. Sizes in bytes unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum MemoryQuestion {
    /// Create your context, and say how many bytes these sizes are here: bytes, or shares of all memory that you see.
    Open {
        /// As a scenario writes them.
        sizes: Vec<String>,
    },
    /// Free everything and destroy your context.
    Close {},
    /// Allocate this in one piece, write to it and hold it.
    Hold {
        /// How much.
        bytes: u64,
    },
    /// Allocate this, write to all of it and free it, again and again.
    Work {
        /// How much.
        bytes: u64,
        /// How often.
        times: u32,
        /// From one to the next, in the mean.
        #[serde(rename = "every_ns")]
        every: Nanos,
        /// Of the differences from that mean.
        seed: u64,
    },
    /// Take memory and hold it until you have so much: in pieces, and where one is refused in halves of it.
    Take {
        /// How much in all, what is held already included.
        most: u64,
        /// The largest piece to ask for.
        piece: u64,
        /// From one piece to the next.
        #[serde(rename = "every_ns")]
        every: Nanos,
    },
    /// The same, and then give every second piece back, again and again.
    Churn {
        /// How much in all.
        most: u64,
        /// The largest piece to ask for.
        piece: u64,
        /// How often.
        times: u32,
    },
    /// Give back, the youngest piece first, until you hold no more than this.
    Give {
        /// How much is left at most.
        to: u64,
    },
    /// How much can you take, holding nothing? It is given back.
    Reach {
        /// No more than this is asked for; absent: until it is refused.
        most: Option<u64>,
    },
    /// What do you see?
    See {},
}

/// The answer to each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryAnswer {
    /// What was tried, in order, on CLOCK_MONOTONIC.
    pub attempts: Vec<Attempt>,
    /// What is held now, by its own count.
    pub held: u64,
    /// Free and all memory as the driver tells; absent: it does not, or there is no context.
    pub seen: Option<(u64, u64)>,
    /// Of `open`: the sizes in bytes; none where there is no context.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<u64>,
    /// Of `reach`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
}

/// Memory of one tenant, and the time that it lives in.
pub(crate) trait Store {
    /// Names an allocation.
    type Piece: Copy;
    /// Now.
    fn now(&self) -> Nanos;
    /// Lets time pass.
    fn wait(&mut self, until: Nanos);
    /// Creates the context.
    fn open(&mut self) -> Outcome;
    /// Destroys it; nothing is held any more.
    fn close(&mut self);
    /// Allocates.
    fn alloc(&mut self, bytes: u64) -> Result<Self::Piece, Outcome>;
    /// Writes to all of it.
    fn touch(&mut self, piece: Self::Piece, bytes: u64) -> Outcome;
    /// Frees it.
    fn free(&mut self, piece: Self::Piece) -> Outcome;
    /// Free and all memory, as the driver tells.
    fn seen(&self) -> Option<(u64, u64)>;
}

/// What is under way.
#[expect(clippy::large_enum_variant, reason = "a tenant has one at a time")]
enum Job<P> {
    /// One step does it.
    Once(MemoryQuestion),
    Work {
        bytes: u64,
        left: u32,
        every: Nanos,
        pauses: Stream,
        next: Nanos,
        held: Option<P>,
    },
    Take {
        most: u64,
        piece: u64,
        every: Nanos,
        next: Nanos,
    },
    Churn {
        most: u64,
        piece: u64,
        now: u64,
        left: u32,
    },
}

/// A tenant that holds memory, and answers step by step: so that in virtual time another one can do something between.
pub(crate) struct Holder<S: Store> {
    pub(crate) store: S,
    open: bool,
    pieces: Vec<(S::Piece, u64)>,
    job: Option<Job<S::Piece>>,
    answer: MemoryAnswer,
}

impl<S: Store> Holder<S> {
    /// It has no context yet.
    pub(crate) fn new(store: S) -> Self {
        Self { store, open: false, pieces: Vec::new(), job: None, answer: MemoryAnswer::default() }
    }

    /// Answers in one go.
    pub(crate) fn answer(&mut self, question: MemoryQuestion) -> MemoryAnswer {
        self.begin(question);
        while self.step() {}
        self.end()
    }

    /// Takes a question on.
    pub(crate) fn begin(&mut self, question: MemoryQuestion) {
        self.answer = MemoryAnswer::default();
        let now = self.store.now();
        self.job = Some(match question {
            MemoryQuestion::Work { bytes, times, every, seed } => {
                let pauses = Stream::new(seed, &[Key::Name("pauses")]);
                Job::Work { bytes, left: times, every, pauses, next: now, held: None }
            }
            MemoryQuestion::Take { most, piece, every } => {
                Job::Take { most, piece: piece.max(GRAIN), every, next: now }
            }
            MemoryQuestion::Churn { most, piece, times } => {
                let piece = piece.max(GRAIN);
                Job::Churn { most, piece, now: piece, left: times }
            }
            once => Job::Once(once),
        });
    }

    /// Does one thing. Whether there is more to do.
    pub(crate) fn step(&mut self) -> bool {
        let Some(job) = self.job.take() else { return false };
        self.job = match job {
            Job::Once(question) => {
                self.once(question);
                None
            }
            _ if !self.open => None,
            Job::Work { bytes, left, every, mut pauses, mut next, held: Some(piece) } => {
                if let outcome @ (Outcome::Oom | Outcome::Error(_)) = self.store.free(piece)
                    && let Some(last) = self.answer.attempts.last_mut()
                {
                    last.outcome = outcome;
                }
                // Half of the mean to one and a half: nothing that the neighbour does keeps step with it.
                next += Nanos((every.0 as f64 * (0.5 + pauses.uniform())) as u64);
                Some(Job::Work { bytes, left, every, pauses, next, held: None })
            }
            Job::Work { left: 0, .. } => None,
            Job::Work { bytes, left, every, mut pauses, mut next, held: None } => {
                self.store.wait(next);
                let held = self.attempt(Step::Work, bytes);
                if held.is_none() {
                    next += Nanos((every.0 as f64 * (0.5 + pauses.uniform())) as u64);
                }
                Some(Job::Work { bytes, left: left - 1, every, pauses, next, held })
            }
            Job::Take { most, piece, every, next } => {
                self.store.wait(next);
                let piece = self.take(most, piece);
                (piece > 0).then_some(Job::Take { most, piece, every, next: next + every })
            }
            Job::Churn { left: 0, .. } => None,
            Job::Churn { most, piece, now, left } => match self.take(most, now) {
                0 => {
                    self.give_every_second();
                    Some(Job::Churn { most, piece, now: piece, left: left - 1 })
                }
                now => Some(Job::Churn { most, piece, now, left }),
            },
        };
        // What is told already is told in any case; what is held meanwhile is freed first.
        let between = !matches!(self.job, Some(Job::Work { held: Some(_), .. }));
        if between && self.answer.attempts.len() >= TOLD {
            self.job = None;
        }
        self.job.is_some()
    }

    /// What came of it.
    pub(crate) fn end(&mut self) -> MemoryAnswer {
        let mut answer = std::mem::take(&mut self.answer);
        answer.held = self.held();
        answer.seen = self.seen();
        answer
    }

    fn held(&self) -> u64 {
        self.pieces.iter().map(|(_, bytes)| *bytes).sum()
    }

    fn seen(&self) -> Option<(u64, u64)> {
        if self.open { self.store.seen() } else { None }
    }

    fn once(&mut self, question: MemoryQuestion) {
        match question {
            MemoryQuestion::Open { sizes } => {
                if !self.open {
                    let at = self.store.now();
                    let outcome = self.store.open();
                    let took = self.store.now().saturating_sub(at);
                    self.open = outcome == Outcome::Ok;
                    let seen = self.seen();
                    self.answer.attempts.push(Attempt { at, took, step: Step::Context, asked: 0, outcome, seen });
                }
                if let Some((_, all)) = self.seen() {
                    self.answer.sizes = sizes.iter().map(|text| resolve(text, all)).collect();
                }
            }
            MemoryQuestion::Close {} => {
                self.give(0);
                if self.open {
                    self.store.close();
                }
                self.open = false;
            }
            MemoryQuestion::Hold { bytes } if self.open => {
                if let Some(piece) = self.attempt(Step::Budget, bytes) {
                    self.pieces.push((piece, bytes));
                }
            }
            MemoryQuestion::Give { to } => self.give(to),
            MemoryQuestion::Reach { most } if self.open => self.answer.reach = Some(self.reach(most)),
            // Without a context there is nothing to try; the rest are jobs of several steps.
            _ => {}
        }
    }

    /// Allocates and writes to it; what could not be written to is given back.
    fn attempt(&mut self, step: Step, asked: u64) -> Option<S::Piece> {
        let at = self.store.now();
        let made = self.store.alloc(asked);
        let took = self.store.now().saturating_sub(at);
        let (mut piece, mut outcome) = match made {
            Ok(piece) => (Some(piece), Outcome::Ok),
            Err(outcome) => (None, outcome),
        };
        // Before anything else happens: what was there for this attempt.
        let seen = self.seen();
        if let Some(made) = piece {
            outcome = self.store.touch(made, asked);
            if outcome != Outcome::Ok {
                let _ = self.store.free(made);
                piece = None;
            }
        }
        self.answer.attempts.push(Attempt { at, took, step, asked, outcome, seen });
        piece
    }

    /// Takes one piece more. The largest that is to be asked for next; 0: it has enough, or gets no more.
    fn take(&mut self, most: u64, piece: u64) -> u64 {
        // Whole grains: a driver gives no less, and parts of one would be lost to everybody.
        let asked = piece.min(most.saturating_sub(self.held())) / GRAIN * GRAIN;
        if asked < GRAIN {
            return 0;
        }
        match self.attempt(Step::Take, asked) {
            Some(made) => {
                self.pieces.push((made, asked));
                piece
            }
            None if matches!(self.answer.attempts.last(), Some(last) if last.outcome == Outcome::Oom) => {
                // Whole grains, so that halves add up to what is there.
                let half = asked / 2 / GRAIN * GRAIN;
                if half < GRAIN { 0 } else { half }
            }
            // Something else than a lack of memory: a smaller piece is no cure.
            None => 0,
        }
    }

    fn give(&mut self, to: u64) {
        while self.held() > to {
            let Some((piece, _)) = self.pieces.pop() else { return };
            let _ = self.store.free(piece);
        }
    }

    fn give_every_second(&mut self) {
        let all = std::mem::take(&mut self.pieces);
        for (index, (piece, bytes)) in all.into_iter().enumerate() {
            if index % 2 == 0 {
                let _ = self.store.free(piece);
            } else {
                self.pieces.push((piece, bytes));
            }
        }
    }

    /// What it can take: in pieces that become smaller where one is refused, and in one piece by bisection.
    fn reach(&mut self, most: Option<u64>) -> Reach {
        let seen = self.seen();
        let free = seen.map(|(free, _)| free);
        // More than there is in all is refused in any case.
        let all = seen.map_or(u64::MAX / 2, |(_, all)| all);
        let ceiling = most.unwrap_or(all).min(all) / GRAIN * GRAIN;
        let before = std::mem::take(&mut self.pieces);
        let (mut total, mut piece) = (0, (ceiling / PIECES / GRAIN * GRAIN).max(GRAIN));
        while total + GRAIN <= ceiling {
            let asked = piece.min(ceiling - total);
            match self.store.alloc(asked) {
                Ok(made) => {
                    self.pieces.push((made, asked));
                    total += asked;
                }
                Err(_) if piece > GRAIN => piece = (asked / 2 / GRAIN * GRAIN).max(GRAIN),
                Err(_) => break,
            }
        }
        self.give(0);
        self.pieces = before;
        // Grains: `fits` fit, `not` do not.
        let (mut fits, mut not) = (0, ceiling / GRAIN + 1);
        let mut next = ceiling / GRAIN;
        while fits + 1 < not {
            match self.store.alloc(next * GRAIN) {
                Ok(made) => {
                    let _ = self.store.free(made);
                    fits = next;
                }
                Err(_) => not = next,
            }
            next = fits + (not - fits) / 2;
        }
        Reach { total, largest: fits * GRAIN, free, most }
    }
}

/// A size as a scenario writes it, of so much memory in all: whole grains. What is no size is nothing.
fn resolve(text: &str, all: u64) -> u64 {
    const SIZE: Kind = Kind::Size { min: Bytes(1), max: Bytes(u64::MAX) };
    let bytes = match SIZE.parse(text) {
        Ok(Value::Share(share)) => share.of(all),
        Ok(Value::Bytes(bytes)) => bytes.0,
        _ => 0,
    };
    bytes / GRAIN * GRAIN
}

#[cfg(test)]
mod tests;
