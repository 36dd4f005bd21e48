//! Noise: a loop that keeps requests queued behind the running one, or the host's loop alone.

use std::sync::atomic::Ordering;

use super::Attention;
use super::gpu::{Gpu, failed};
use super::holdings::{Code, Holdings};
use super::host_calls::idle;
use super::wait::Patience;
use crate::backend::Outcome;
use crate::cuda::{CudaError, SUCCESS, is_sticky};
use crate::host::clock::now;
use crate::tenant::Region;
use crate::tenant::protocol::{Failed, NoiseOrder, QuietDone};
use crate::units::Nanos;

/// Noise holds at most this much work in its queue beyond two requests (verdict.md, fair arms 5).
const QUEUED_WORK: Nanos = Nanos::millis(50);
/// One turn of the host's loop alone.
const TURN: Nanos = Nanos::micros(100);

/// Runs noise until attention is wanted, then drains. `begun` is called once, when the first request was posted.
///
/// # Errors
/// Where the order does not fit what is held, the device fails, or does not get rid of its work.
pub(super) fn run(
    holdings: &mut Holdings,
    order: &NoiseOrder,
    region: &Region,
    attention: &Attention,
    mut begun: impl FnMut() -> bool,
) -> Result<QuietDone, Failed> {
    let patience = holdings.patience;
    let Some(index) = order.program else {
        let quiet = QuietDone { last: None, oom: Vec::new(), failed: 0 };
        if begun() {
            while !attention.is_wanted() {
                idle(TURN, patience.spin);
            }
        }
        return Ok(quiet);
    };
    holdings.prepare(index)?;
    let Holdings { programs, gpu, .. } = holdings;
    let held = programs.get_mut(index).ok_or_else(|| failed(format!("there is no program {index}")))?;
    let mut meter = Meter::new(region);
    let mut pattern = Pattern::new(order);
    let once = held.info.once;
    let mut oom = Vec::new();
    let ended = match &mut held.code {
        Code::Host(calls) => {
            calls.oom.clear();
            let mut ended = Ok(());
            let mut first = true;
            while !attention.is_wanted() {
                let at = now();
                meter.tick(at, false);
                let Some(next) = pattern.pause_until(at) else {
                    if first && !begun() {
                        break;
                    }
                    first = false;
                    let outcome = calls.run(gpu.as_ref());
                    let done = now();
                    meter.waited(done - at);
                    meter.done(done, outcome == Outcome::Ok || outcome == Outcome::Oom);
                    if let (Outcome::Error(code), Some(gpu)) = (outcome, &*gpu)
                        && is_sticky(code)
                    {
                        ended = Err(gpu.driver.error("a host call", code));
                        break;
                    }
                    continue;
                };
                patience.pause(at, next);
            }
            oom.append(&mut calls.oom);
            ended
        }
        Code::Enqueued { timed, queued, posted } => {
            let gpu = gpu.as_ref().ok_or_else(|| failed("the device is gone"))?;
            let request = queued.as_ref().unwrap_or(timed);
            let queue = Queue { request, gpu, patience, most: order.queued.max(1), once };
            queue.keep_full(posted, &mut meter, &mut pattern, attention, &mut begun)?
        }
    };
    meter.stop();
    if let Err(error) = ended {
        return Err(Failed { usable: false, ..CudaError::into(error) });
    }
    if let Some(gpu) = gpu {
        gpu.drain()?;
    }
    Ok(QuietDone { last: meter.last, oom, failed: meter.failed_in_all })
}

/// Enqueued noise.
struct Queue<'a> {
    request: &'a super::request::Request,
    gpu: &'a Gpu,
    patience: Patience,
    /// Requests that it keeps queued.
    most: u32,
    /// How long a request took alone.
    once: Nanos,
}

impl Queue<'_> {
    /// The outer error is one of waiting, the inner one of the driver.
    fn keep_full(
        &self,
        posted: &mut u64,
        meter: &mut Meter<'_>,
        pattern: &mut Pattern,
        attention: &Attention,
        begun: &mut dyn FnMut() -> bool,
    ) -> Result<Result<(), CudaError>, Failed> {
        let most = u64::from(self.most).min(self.request.slots as u64);
        let (mut done, mut point, mut wrong) = (*posted, 0, false);
        let mut length = self.once.0.max(1);
        let mut first = true;
        let mut stopping = false;
        let mut waiting_since = now();
        loop {
            let at = now();
            let open = *posted - done;
            meter.tick(at, open >= 2);
            stopping |= attention.is_wanted();
            if open == 0 {
                if stopping {
                    return Ok(Ok(()));
                }
                waiting_since = at;
            }
            // Seeing what is done comes first: it is what makes room.
            if open > 0
                && let Some(stamp) = self.request.read(done, point)
            {
                wrong |= stamp.checksum != self.request.points[point].expected;
                point += 1;
                if point == self.request.points.len() {
                    // How long the running one took: since the one before it was done, or since it was posted.
                    length = (length * 7 + (at - meter.since(waiting_since)).0.max(1)) / 8;
                    meter.done(at, !wrong);
                    done += 1;
                    (point, wrong, waiting_since) = (0, false, at);
                }
                continue;
            }
            let deep = most.min((QUEUED_WORK.0 / length).max(2));
            let pause = if stopping { Some(Nanos::MAX) } else { pattern.pause_until(at) };
            if pause.is_none() && open < deep {
                let code = self.request.post(self.gpu.driver, *posted);
                if code == SUCCESS {
                    *posted += 1;
                    if std::mem::take(&mut first) && !begun() {
                        stopping = true;
                    }
                } else if is_sticky(code) {
                    return Ok(Err(self.gpu.driver.error("posting a request", code)));
                } else {
                    self.request.flush(self.gpu.driver);
                    meter.failed();
                }
                continue;
            }
            if open > 0 && at - waiting_since > self.patience.limit {
                return Err(self.gpu.hang());
            }
            self.patience.pause(at, if open > 0 { Nanos::MAX } else { pause.unwrap_or(Nanos::MAX) });
        }
    }
}

/// When noise is noisy: the first part of each burst, counted from the start.
struct Pattern {
    start: Nanos,
    burst: u64,
    noisy: u64,
}

impl Pattern {
    fn new(order: &NoiseOrder) -> Self {
        Self { start: order.start, burst: order.burst.0, noisy: order.duty.of(order.burst.0) }
    }

    /// `None`: it is noisy. Else until when it is not.
    #[inline]
    fn pause_until(&mut self, at: Nanos) -> Option<Nanos> {
        if at < self.start {
            return Some(self.start);
        }
        if self.noisy >= self.burst {
            return None;
        }
        let phase = (at - self.start).0 % self.burst;
        (phase >= self.noisy).then(|| at + Nanos(self.burst - phase))
    }
}

/// The progress that the controller reads, of the epoch that it asked for.
struct Meter<'a> {
    region: &'a Region,
    /// When it last looked, and whether work was pending then.
    looked: Nanos,
    was_pending: bool,
    epoch: u32,
    completed: u64,
    pending: u64,
    longest: u64,
    failed: u64,
    failed_in_all: u64,
    /// When the last request of all was done.
    last: Option<Nanos>,
    /// When the epoch's last request was done, or the epoch began.
    before: Nanos,
}

impl<'a> Meter<'a> {
    fn new(region: &'a Region) -> Self {
        let at = now();
        let mut meter = Self {
            region,
            looked: at,
            was_pending: false,
            epoch: 0,
            completed: 0,
            pending: 0,
            longest: 0,
            failed: 0,
            failed_in_all: 0,
            last: None,
            before: at,
        };
        meter.begin(at, region.epoch());
        region.progress().active.store(1, Ordering::Release);
        meter
    }

    fn begin(&mut self, at: Nanos, epoch: u32) {
        let progress = self.region.progress();
        (self.epoch, self.completed, self.pending, self.longest, self.failed) = (epoch, 0, 0, 0, 0);
        (self.looked, self.before) = (at, at);
        for word in [&progress.completed, &progress.pending, &progress.longest_gap, &progress.last, &progress.failed] {
            word.store(0, Ordering::Relaxed);
        }
        progress.epoch.store(epoch, Ordering::Release);
    }

    /// Looks at the clock: `pending` says whether work stands behind the running one.
    #[inline]
    fn tick(&mut self, at: Nanos, pending: bool) {
        if self.was_pending {
            self.pending += (at - self.looked).0;
            self.region.progress().pending.store(self.pending, Ordering::Relaxed);
        }
        (self.looked, self.was_pending) = (at, pending);
        let epoch = self.region.epoch();
        if epoch != self.epoch {
            self.begin(at, epoch);
        }
    }

    /// A host call was in progress for so long.
    fn waited(&mut self, length: Nanos) {
        self.pending += length.0;
        self.region.progress().pending.store(self.pending, Ordering::Relaxed);
    }

    /// A request is done.
    #[inline]
    fn done(&mut self, at: Nanos, right: bool) {
        let progress = self.region.progress();
        self.longest = self.longest.max((at - self.before).0);
        self.completed += 1;
        (self.before, self.last) = (at, Some(at));
        if !right {
            self.failed();
        }
        progress.longest_gap.store(self.longest, Ordering::Relaxed);
        progress.last.store(at.0, Ordering::Relaxed);
        progress.completed.store(self.completed, Ordering::Release);
    }

    fn failed(&mut self) {
        self.failed += 1;
        self.failed_in_all += 1;
        self.region.progress().failed.store(self.failed, Ordering::Relaxed);
    }

    /// The later of `at` and the last completion.
    fn since(&self, at: Nanos) -> Nanos {
        self.last.map_or(at, |last| last.max(at))
    }

    fn stop(&self) {
        self.region.progress().active.store(0, Ordering::Release);
    }
}
