use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::*;
use crate::hazard::{CAPACITY, Step};
use crate::tenant::memory::{Holder, Store};
use crate::workload::resolve_fields;

const MIB: u64 = 1 << 20;

/// One memory of both, or one of each; a context takes 300 MiB.
struct Pool {
    left: [u64; 2],
    together: bool,
    /// The most that the neighbour held, or asked for beside what it held.
    asked: u64,
    refuses: Option<u32>,
}

struct One {
    pool: Rc<RefCell<Pool>>,
    who: usize,
    now: u64,
    held: Vec<u64>,
}

const CONTEXT: u64 = 300 * MIB;
const ALL: u64 = 16 << 30;

impl One {
    fn get(&mut self, bytes: u64) -> bool {
        let mut pool = self.pool.borrow_mut();
        let at = if pool.together { 0 } else { self.who };
        let fits = pool.left[at] >= bytes;
        if fits {
            pool.left[at] -= bytes;
        }
        fits
    }
    fn put(&mut self, bytes: u64) {
        let mut pool = self.pool.borrow_mut();
        let at = if pool.together { 0 } else { self.who };
        pool.left[at] += bytes;
    }
}

impl Store for One {
    type Piece = usize;
    fn now(&self) -> Nanos {
        Nanos(self.now)
    }
    fn wait(&mut self, until: Nanos) {
        self.now = self.now.max(until.0);
    }
    fn open(&mut self) -> Outcome {
        self.now += 5;
        if self.get(CONTEXT) { Outcome::Ok } else { Outcome::Oom }
    }
    fn close(&mut self) {
        let held: u64 = self.held.drain(..).sum();
        self.put(held + CONTEXT);
    }
    fn alloc(&mut self, bytes: u64) -> Result<usize, Outcome> {
        self.now += 1;
        if self.who == NEIGHBOUR {
            let holds: u64 = self.held.iter().sum();
            let mut pool = self.pool.borrow_mut();
            pool.asked = pool.asked.max(holds + bytes);
        }
        if let Some(code) = self.pool.borrow().refuses {
            return Err(Outcome::Error(code));
        }
        if !self.get(bytes) {
            return Err(Outcome::Oom);
        }
        self.held.push(bytes);
        Ok(self.held.len() - 1)
    }
    fn touch(&mut self, _piece: usize, _bytes: u64) -> Outcome {
        Outcome::Ok
    }
    fn free(&mut self, piece: usize) -> Outcome {
        let bytes = std::mem::take(&mut self.held[piece]);
        self.put(bytes);
        Outcome::Ok
    }
    fn seen(&self) -> Option<(u64, u64)> {
        let pool = self.pool.borrow();
        Some((pool.left[if pool.together { 0 } else { self.who }], ALL))
    }
}

struct Pair {
    holders: [Holder<One>; 2],
    pool: Rc<RefCell<Pool>>,
    /// Questions until the victim's process is gone.
    dies: Option<u32>,
    asked: u32,
    checked: u32,
}

impl Pair {
    fn new(together: bool) -> Self {
        let pool = Rc::new(RefCell::new(Pool { left: [ALL; 2], together, asked: 0, refuses: None }));
        let one = |who| Holder::new(One { pool: Rc::clone(&pool), who, now: 1_000, held: Vec::new() });
        Self { holders: [one(VICTIM), one(NEIGHBOUR)], pool, dies: None, asked: 0, checked: 0 }
    }
}

impl Tenants for Pair {
    type Stop = String;

    /// First the neighbour, then the victim: the worst that can happen to the latter.
    fn ask(&mut self, questions: [Option<MemoryQuestion>; 2]) -> Result<[Option<MemoryAnswer>; 2], Fallen<String>> {
        self.asked += 1;
        if self.dies.is_some_and(|dies| self.asked > dies) {
            return Err(Fallen::Victim("its process was killed by signal 9".to_owned()));
        }
        let [victim, neighbour] = questions;
        let neighbour = neighbour.map(|question| self.holders[NEIGHBOUR].answer(question));
        let victim = victim.map(|question| self.holders[VICTIM].answer(question));
        let now = self.holders.iter().map(|holder| holder.store.now).max().unwrap_or(0);
        self.holders.iter_mut().for_each(|holder| holder.store.now = now);
        Ok([victim, neighbour])
    }
    fn outside(&mut self, who: usize) -> Outside {
        Outside { process: None, device: Some((who as u64, ALL)) }
    }
    fn check(&mut self) -> Result<(), String> {
        self.checked += 1;
        Ok(())
    }
}

fn terms(given: &[(&str, &str)]) -> Terms {
    let given: BTreeMap<String, String> = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let params = resolve_fields(CAPACITY.id, CAPACITY.params, &given).unwrap();
    Terms::of(&params, [3, 4], [None, Some(ALL)], 7).unwrap()
}

fn tried(pair: &mut Pair, given: &[(&str, &str)]) -> Capacity {
    match attempt(&terms(given), pair, Nanos(1_000)) {
        Ok(record) => record,
        Err(Ended::Untold(why) | Ended::Stop(why)) => panic!("{why}"),
    }
}

fn failed(record: &Capacity, step: Step) -> usize {
    record.victim.iter().filter(|a| a.step == step && a.outcome != Outcome::Ok).count()
}

const HOWS: [&str; 5] = ["ramp", "hoard", "leak", "churn", "cold-start"];

#[test]
fn a_neighbour_in_the_same_memory_is_found_however_it_takes_it() {
    for how in HOWS {
        let record = tried(&mut Pair::new(true), &[("how", how)]);
        let work: Vec<_> = record.victim.iter().filter(|a| a.step == Step::Work).collect();
        assert!(work.len() >= 480, "{how}: {}", work.len());
        assert!(failed(&record, Step::Work) > 30, "{how}: {} of {} fail", failed(&record, Step::Work), work.len());
        // Before it came all was well, and after it went all is well again.
        assert!(work[..30].iter().all(|a| a.outcome == Outcome::Ok), "{how}");
        assert!(work.iter().rev().take(30).all(|a| a.outcome == Outcome::Ok), "{how}");
        assert!(failed(&record, Step::Budget) >= 1, "{how}: the restart finds no room for the budget");
        let all = tried(&mut Pair::new(true), &[("how", how), ("until_oom", "true")]);
        assert_eq!(failed(&all, Step::Context), 1, "{how}: and none for a context where everything is taken");
        assert_eq!((record.victim[0].step, record.victim[1].step), (Step::Context, Step::Budget));
        assert_eq!(record.victim[0].at, Nanos(record.victim[0].at.0.min(10_000_000)), "from the start of the try");
        assert_eq!(record.neighbour[0].step, Step::Context);
        let [alone, beside] = [record.victim_alone, record.victim_beside].map(Option::unwrap);
        assert!(alone.total > ALL / 10 * 8 && beside.total < ALL / 10 * 3, "{how}: {alone:?} {beside:?}");
        let taken = record.neighbour_beside.unwrap();
        assert!(taken.total > ALL / 10 * 6 && taken.largest > ALL / 10 * 6, "{how}: {taken:?}");
    }
}

#[test]
fn memory_of_ones_own_is_left_alone_and_both_get_what_they_ask() {
    for how in HOWS {
        let record = tried(&mut Pair::new(false), &[("how", how)]);
        assert!(record.victim.iter().all(|a| a.outcome == Outcome::Ok), "{how}");
        let work = record.victim.iter().filter(|a| a.step == Step::Work).count();
        assert_eq!(work, 480 + if how == "cold-start" { 5 * 30 } else { 2 * 30 }, "{how}");
        let came = record.neighbour.iter().find(|a| a.step == Step::Take).unwrap().at;
        assert!(record.victim.iter().filter(|a| a.at >= came).count() >= 459, "{how}: enough for a bound of 1 %");
        assert_eq!(record.victim_alone.unwrap().total, record.victim_beside.unwrap().total, "{how}");
        let grain = |bytes: u64| bytes / GRAIN * GRAIN;
        assert_eq!(record.limit, Some(grain(ALL / 10 * 9)));
        assert!(record.neighbour_beside.unwrap().total > ALL / 100 * 85, "{how}");
        assert_eq!((record.budget, record.working), (ALL / 4, 64 * MIB));
    }
}

#[test]
fn the_neighbour_asks_for_no_more_than_its_limit() {
    for how in HOWS {
        let mut pair = Pair::new(true);
        let record = tried(&mut pair, &[("how", how), ("limit", "4GiB")]);
        assert_eq!((pair.pool.borrow().asked, record.limit), (4 << 30, Some(4 << 30)), "{how}");
        // There is room for both: nothing fails.
        assert!(record.timeline().is_empty(), "{how}: {:?}", record.timeline());
        assert_eq!(record.neighbour_alone.unwrap().most, Some(4 << 30));

        let mut pair = Pair::new(true);
        let record = tried(&mut pair, &[("how", how), ("limit", "4GiB"), ("until_oom", "true")]);
        assert!(pair.pool.borrow().asked > ALL / 10 * 9 && record.limit.is_none(), "{how}");
        assert!(failed(&record, Step::Work) > 0 && record.neighbour_alone.unwrap().most.is_none(), "{how}");
    }
}

#[test]
fn attempts_go_on_while_memory_is_taken() {
    for how in ["ramp", "leak", "churn"] {
        let record = tried(&mut Pair::new(false), &[("how", how)]);
        let takes: Vec<Nanos> = record.neighbour.iter().map(|a| a.at).collect();
        let (first, last) = (takes[0], *takes.last().unwrap());
        let between = record.victim.iter().filter(|a| a.step == Step::Work && a.at > first && a.at < last).count();
        assert!(between >= 240, "{how}: {between}");
    }
}

#[test]
fn a_victim_that_dies_leaves_what_was_recorded() {
    let mut pair = Pair::new(true);
    pair.dies = Some(14);
    let record = tried(&mut pair, &[]);
    assert_eq!(record.died.as_deref(), Some("its process was killed by signal 9"));
    assert!(record.victim.len() > 2 && record.victim_beside.is_none());
}

#[test]
fn what_is_seen_is_seen_from_inside_and_from_outside() {
    let mut pair = Pair::new(false);
    let record = tried(&mut pair, &[]);
    let when: Vec<_> = record.views.iter().map(|view| (view.seat, view.when.as_str())).collect();
    assert_eq!(
        when,
        [
            (3, "alone"),
            (4, "alone"),
            (3, "after the budget"),
            (3, "neighbour at its most"),
            (4, "neighbour at its most"),
            (3, "at the end")
        ]
    );
    let budget = &record.views[2];
    assert_eq!((budget.held, budget.nvml_device), (ALL / 4 - 64 * MIB, Some((0, ALL))));
    assert_eq!(budget.inside, Some((ALL - CONTEXT - budget.held, ALL)));
    assert!(record.views[4].held > ALL / 2);
    assert_eq!(record.promised, [None, Some(ALL)]);
    assert!(pair.checked >= 2, "before anything is taken");
}

#[test]
fn what_shows_nothing_is_untold_with_a_cure() {
    let untold = |pair: &mut Pair, given: &[(&str, &str)]| match attempt(&terms(given), pair, Nanos::ZERO) {
        Err(Ended::Untold(why)) => why,
        _ => panic!("{given:?} is told"),
    };
    let why = untold(&mut Pair::new(true), &[("budget", "64MiB"), ("working", "64MiB")]);
    assert!(why.contains("raise `budget`"), "{why}");
    let why = untold(&mut Pair::new(true), &[("budget", "100%")]);
    assert!(why.contains("even alone") && why.contains("lower `budget`"), "{why}");
    let mut full = Pair::new(true);
    full.pool.borrow_mut().left = [0; 2];
    let why = untold(&mut full, &[]);
    assert!(why.contains("the victim gets no context") && why.contains("out of memory"), "{why}");
}

#[test]
fn another_error_than_a_lack_of_memory_keeps_its_code() {
    let mut pair = Pair::new(true);
    pair.pool.borrow_mut().refuses = Some(719);
    let params = terms(&[]);
    // Not even alone: that is no finding about the neighbour.
    assert!(matches!(attempt(&params, &mut pair, Nanos::ZERO), Err(Ended::Untold(_))));
    let mut holder = Holder::new(One { pool: Rc::clone(&pair.pool), who: VICTIM, now: 0, held: Vec::new() });
    holder.answer(MemoryQuestion::Open { sizes: Vec::new() });
    let answer = holder.answer(MemoryQuestion::Hold { bytes: GRAIN });
    assert_eq!(answer.attempts[0].outcome, Outcome::Error(719));
}

#[test]
fn long_tries_are_asked_in_parts() {
    let record = tried(&mut Pair::new(false), &[("attempts", "5000")]);
    assert_eq!(record.victim.iter().filter(|a| a.step == Step::Work).count(), 5_200);
}
