use std::cell::Cell;

use super::*;

/// Memory that is counted: an allocation fits where so much is left, and none beyond `piece`.
struct Counted {
    now: Cell<u64>,
    all: u64,
    piece: u64,
    used: u64,
    held: Vec<u64>,
    open: Outcome,
    /// The code of writing to memory.
    touched: Outcome,
    /// The most that was held at once, and would have been had all been given.
    asked: u64,
}

impl Counted {
    fn new(all: u64) -> Self {
        let now = Cell::new(0);
        Self { now, all, piece: all, used: 0, held: Vec::new(), open: Outcome::Ok, touched: Outcome::Ok, asked: 0 }
    }
}

impl Store for Counted {
    type Piece = usize;

    fn now(&self) -> Nanos {
        self.now.set(self.now.get() + 1);
        Nanos(self.now.get())
    }
    fn wait(&mut self, until: Nanos) {
        self.now.set(self.now.get().max(until.0));
    }
    fn open(&mut self) -> Outcome {
        self.open
    }
    fn close(&mut self) {
        (self.used, self.held) = (0, Vec::new());
    }
    fn alloc(&mut self, bytes: u64) -> Result<usize, Outcome> {
        self.asked = self.asked.max(self.used + bytes);
        if bytes > self.piece || self.used + bytes > self.all {
            return Err(Outcome::Oom);
        }
        self.used += bytes;
        self.held.push(bytes);
        Ok(self.held.len() - 1)
    }
    fn touch(&mut self, _piece: usize, _bytes: u64) -> Outcome {
        self.touched
    }
    fn free(&mut self, piece: usize) -> Outcome {
        self.used -= std::mem::take(&mut self.held[piece]);
        Outcome::Ok
    }
    fn seen(&self) -> Option<(u64, u64)> {
        Some((self.all - self.used, self.all))
    }
}

fn open(store: Counted) -> Holder<Counted> {
    let mut holder = Holder::new(store);
    let answer = holder.answer(MemoryQuestion::Open { sizes: vec!["25%".to_owned(), "5MiB".to_owned()] });
    assert_eq!((answer.attempts.len(), answer.attempts[0].step), (1, Step::Context));
    holder
}

fn work(times: u32) -> MemoryQuestion {
    MemoryQuestion::Work { bytes: 2 * GRAIN, times, every: Nanos(1_000), seed: 1 }
}

fn take(most: u64, piece: u64) -> MemoryQuestion {
    MemoryQuestion::Take { most, piece, every: Nanos::ZERO }
}

#[test]
fn sizes_are_of_what_the_tenant_sees_in_whole_grains() {
    let mut holder = Holder::new(Counted::new(100 * GRAIN + 1));
    let sizes = ["25%", "5MiB", "1GiB", "nonsense"].map(str::to_owned).to_vec();
    let answer = holder.answer(MemoryQuestion::Open { sizes });
    assert_eq!(answer.sizes, [25 * GRAIN, 2 * GRAIN, 512 * GRAIN, 0]);
    assert_eq!(answer.seen, Some((100 * GRAIN + 1, 100 * GRAIN + 1)));
}

#[test]
fn without_a_context_there_is_an_attempt_and_nothing_else() {
    let mut holder = Holder::new(Counted { open: Outcome::Oom, ..Counted::new(GRAIN) });
    let answer = holder.answer(MemoryQuestion::Open { sizes: vec!["25%".to_owned()] });
    assert_eq!(
        answer.attempts.iter().map(|a| (a.step, a.outcome, a.seen)).collect::<Vec<_>>(),
        [(Step::Context, Outcome::Oom, None)]
    );
    assert!(answer.sizes.is_empty() && answer.seen.is_none());
    for question in
        [work(3), take(9 * GRAIN, GRAIN), MemoryQuestion::Hold { bytes: 1 }, MemoryQuestion::Reach { most: None }]
    {
        assert_eq!(holder.answer(question), MemoryAnswer::default());
    }
    // A second try is an attempt of its own.
    holder.store.open = Outcome::Ok;
    assert_eq!(holder.answer(MemoryQuestion::Open { sizes: Vec::new() }).attempts[0].outcome, Outcome::Ok);
}

#[test]
fn work_allocates_and_frees_every_time_and_goes_on_where_it_is_refused() {
    let mut holder = open(Counted::new(3 * GRAIN));
    let answer = holder.answer(work(50));
    assert_eq!(answer.attempts.len(), 50);
    assert!(answer.attempts.iter().all(|a| a.outcome == Outcome::Ok && a.seen == Some((GRAIN, 3 * GRAIN))));
    let pauses: Vec<u64> = answer.attempts.windows(2).map(|pair| pair[1].at.0 - pair[0].at.0).collect();
    assert!(pauses.iter().all(|pause| (450..1_600).contains(pause)), "{pauses:?}");
    assert!(pauses.iter().any(|pause| *pause < 800) && pauses.iter().any(|pause| *pause > 1_200), "{pauses:?}");
    assert_eq!((holder.store.used, answer.held), (0, 0));

    holder.answer(MemoryQuestion::Hold { bytes: 2 * GRAIN });
    let refused = holder.answer(work(5));
    assert!(refused.attempts.len() == 5 && refused.attempts.iter().all(|a| a.outcome == Outcome::Oom));
    assert_eq!(refused.held, 2 * GRAIN);
    // What is allocated and cannot be written to is no memory.
    holder.answer(MemoryQuestion::Give { to: 0 });
    holder.store.touched = Outcome::Error(700);
    let broken = holder.answer(work(2));
    assert!(broken.attempts.iter().all(|a| a.outcome == Outcome::Error(700)));
    assert_eq!(holder.store.used, 0);
}

#[test]
fn taking_goes_to_the_last_grain_and_never_beyond_what_is_allowed() {
    let mut holder = open(Counted::new(101 * GRAIN));
    let answer = holder.answer(take(40 * GRAIN, 7 * GRAIN));
    assert_eq!((answer.held, holder.store.asked), (40 * GRAIN, 40 * GRAIN));
    assert!(answer.attempts.iter().all(|a| a.outcome == Outcome::Ok && a.step == Step::Take));
    // More than there is: refused, then in halves.
    let answer = holder.answer(take(500 * GRAIN, 500 * GRAIN));
    assert_eq!(answer.held, 101 * GRAIN, "{:?}", answer.attempts);
    assert!(answer.attempts.iter().any(|a| a.outcome == Outcome::Oom));
    assert_eq!(holder.store.asked, 500 * GRAIN);
    assert_eq!(holder.answer(MemoryQuestion::Give { to: 50 * GRAIN }).held, 40 * GRAIN, "whole pieces go");
    holder.answer(MemoryQuestion::Close {});
    assert_eq!(holder.store.used, 0);
}

#[test]
fn a_refusal_that_is_no_lack_of_memory_ends_it() {
    let mut holder = open(Counted { touched: Outcome::Error(46), ..Counted::new(10 * GRAIN) });
    let answer = holder.answer(take(8 * GRAIN, 8 * GRAIN));
    assert_eq!(answer.attempts.iter().map(|a| a.outcome).collect::<Vec<_>>(), [Outcome::Error(46)]);
}

#[test]
fn churning_goes_up_and_down_within_what_is_allowed() {
    let mut holder = open(Counted::new(64 * GRAIN));
    let churn = MemoryQuestion::Churn { most: 32 * GRAIN, piece: 4 * GRAIN, times: 3 };
    let answer = holder.answer(churn);
    // Eight pieces, then four more for each that were given back.
    assert_eq!((answer.attempts.len(), answer.held), (8 + 4 + 4, 16 * GRAIN));
    assert_eq!(holder.store.asked, 32 * GRAIN);
}

#[test]
fn reach_is_in_pieces_and_in_one_piece_and_gives_back() {
    let mut holder = open(Counted { piece: 37 * GRAIN, ..Counted::new(100 * GRAIN) });
    let reach = holder.answer(MemoryQuestion::Reach { most: None }).reach.unwrap();
    assert_eq!(reach, Reach { total: 100 * GRAIN, largest: 37 * GRAIN, free: Some(100 * GRAIN), most: None });
    assert_eq!(holder.store.used, 0);
    holder.store.asked = 0;
    let capped = holder.answer(MemoryQuestion::Reach { most: Some(20 * GRAIN) }).reach.unwrap();
    assert_eq!((capped.total, capped.largest, holder.store.asked), (20 * GRAIN, 20 * GRAIN, 20 * GRAIN));
    let full = open(Counted { piece: 0, ..Counted::new(100 * GRAIN) });
    let mut full = full;
    let none = full.answer(MemoryQuestion::Reach { most: None }).reach.unwrap();
    assert_eq!((none.total, none.largest), (0, 0));
}

#[test]
fn an_answer_fits_a_line() {
    let mut holder = open(Counted::new(3 * GRAIN));
    let answer = holder.answer(work(100_000));
    assert_eq!(answer.attempts.len(), TOLD);
    let line = serde_json::to_string(&answer).unwrap();
    // Numbers are longer on a machine that has been up for long.
    assert!(line.len() * 3 / 2 < crate::tenant::protocol::LONGEST_LINE, "{}", line.len());
    assert_eq!(serde_json::from_str::<MemoryAnswer>(&line).unwrap(), answer);
}
