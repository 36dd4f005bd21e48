//! Seeing requests done: stamps become rows of the region.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::request::Request;
use crate::backend::Outcome;
use crate::host::clock::now;
use crate::tenant::{Region, Row};
use crate::units::Nanos;
use crate::workload::Stamp;

/// A block must have run for this many steps of %globaltimer before its clock is told from it.
const STEPS: u64 = 100;

/// What sender and watcher tell each other. Numbers are of requests within the window.
pub(super) struct Between {
    /// Requests sent, or about to be: stored before the driver call, so that none is seen late.
    pub(super) sent: AtomicU64,
    /// Requests seen done.
    pub(super) seen: AtomicU64,
    /// Nothing more will be sent or waited for.
    pub(super) over: AtomicU32,
    /// For each slot of the ring, the number after that of a request that could not be posted.
    skipped: Box<[AtomicU64]>,
}

impl Between {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            sent: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            over: AtomicU32::new(0),
            skipped: (0..slots).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Request `n` of the program's could not be posted: nobody must wait for it.
    pub(super) fn skip(&self, n: u64) {
        self.skipped[(n % self.skipped.len() as u64) as usize].store(n + 1, Ordering::Release);
    }

    fn is_skipped(&self, n: u64) -> bool {
        self.skipped[(n % self.skipped.len() as u64) as usize].load(Ordering::Acquire) == n + 1
    }
}

/// Watches the requests of one window, in order.
pub(super) struct Watcher<'a> {
    request: &'a Request,
    region: &'a Region,
    between: &'a Between,
    /// Number of the window's first request among all of the program's.
    first: u64,
    id: u64,
    point: usize,
    started: Option<u64>,
    ended: u64,
    wrong: bool,
    pub(super) clock: SmClock,
}

impl<'a> Watcher<'a> {
    pub(super) fn new(request: &'a Request, region: &'a Region, between: &'a Between, first: u64, tick: Nanos) -> Self {
        let clock = SmClock { shortest: STEPS * tick.0, sum: 0.0, count: 0 };
        Self { request, region, between, first, id: 0, point: 0, started: None, ended: 0, wrong: false, clock }
    }

    /// Looks once. True: something was there, so look again.
    #[inline]
    pub(super) fn look(&mut self) -> bool {
        if self.id == self.between.sent.load(Ordering::Acquire) {
            return false;
        }
        let n = self.first + self.id;
        match self.request.read(n, self.point) {
            Some(stamp) => self.seen(&stamp, now()),
            None if self.point == 0 && self.between.is_skipped(n) => self.next(),
            None => return false,
        }
        true
    }

    fn seen(&mut self, stamp: &Stamp, at: Nanos) {
        let point = &self.request.points[self.point];
        let right = stamp.checksum == point.expected;
        self.wrong |= !right;
        self.ended = self.ended.max(stamp.end_ns);
        if point.starts {
            self.started = Some(stamp.start_ns);
        }
        if point.own {
            self.clock.add(stamp);
        }
        let rows = self.request.rows() as u64;
        for mark in point.marks.clone() {
            if let Some(row) = self.row(self.id * rows + 1 + u64::from(mark)) {
                let started = point.own.then_some(stamp.start_ns);
                complete(row, started, Some(stamp.end_ns), at, if right { Outcome::Ok } else { Outcome::WrongResult });
            }
        }
        self.point += 1;
        if self.point == self.request.points.len() {
            if let Some(row) = self.row(self.id * rows) {
                let outcome = if self.wrong { Outcome::WrongResult } else { Outcome::Ok };
                complete(row, self.started, Some(self.ended), at, outcome);
            }
            self.next();
        }
    }

    fn next(&mut self) {
        self.id += 1;
        (self.point, self.started, self.ended, self.wrong) = (0, None, 0, false);
        self.between.seen.store(self.id, Ordering::Release);
    }

    fn row(&self, index: u64) -> Option<&'a Row> {
        self.region.row(usize::try_from(index).ok()?)
    }
}

/// Writes what is known of a request or mark that is done.
#[inline]
pub(super) fn complete(row: &Row, started: Option<u64>, ended: Option<u64>, at: Nanos, outcome: Outcome) {
    row.gpu_start.store(started.unwrap_or(0), Ordering::Relaxed);
    row.gpu_end.store(ended.unwrap_or(0), Ordering::Relaxed);
    row.set_outcome(outcome);
    row.completed.store(at.0, Ordering::Release);
}

/// The SM clock over blocks that ran long enough to tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct SmClock {
    shortest: u64,
    sum: f64,
    count: u64,
}

impl SmClock {
    fn add(&mut self, stamp: &Stamp) {
        if stamp.block_ns >= self.shortest && stamp.block_ns > 0 {
            self.sum += stamp.block_cycles as f64 / stamp.block_ns as f64;
            self.count += 1;
        }
    }

    /// MHz.
    pub(super) fn mhz(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64 * 1e3)
    }
}
