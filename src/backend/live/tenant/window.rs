//! One window of a probe: requests go out at their planned times, whatever completes; another thread sees them done.
//!
//! In the timed path there is nothing but the clock, the driver's calls and stores into mapped memory. With too few
//! cores one thread does both, and sleeps between looks.

use std::sync::atomic::Ordering;
use std::thread;

use super::gpu::{Gpu, failed};
use super::holdings::{Code, Holdings};
use super::host_calls::HostCalls;
use super::request::Request;
use super::wait::{Patience, Pauses};
use super::watch::{Between, Watcher, complete};
use super::{Attention, hands};
use crate::backend::Outcome;
use crate::cuda::{CudaError, SUCCESS, is_sticky};
use crate::host::clock::now;
use crate::tenant::protocol::{ClockSync, Failed, OutOfMemory, WindowDone, WindowLoad, WindowOrder};
use crate::tenant::{Region, arrival_stream, arrivals};
use crate::units::{Nanos, Rate};

/// A window opens with this many unrecorded requests, or with as many as this time holds.
const WARM_UP: (u32, Nanos) = (16, Nanos::millis(50));
/// No launch to keep awake this shortly before a request is due: it would stand in its way.
const CLEAR: Nanos = Nanos::micros(50);

/// When the requests of a window are to go.
enum Source {
    /// Rising, absolute: their planned times, and what each is held back by.
    Planned(Vec<Nanos>),
    /// As soon as there is a place, until the end.
    Closed,
}

/// What a window knows of time.
struct Times {
    start: Nanos,
    end: Nanos,
    deadline: Nanos,
}

/// Runs one window.
///
/// # Errors
/// Where the order does not fit what is held, the device fails, or it does not get rid of what it was given.
pub(super) fn run(
    holdings: &mut Holdings,
    order: &WindowOrder,
    region: &Region,
    attention: &Attention,
    threads: u32,
) -> Result<WindowDone, Failed> {
    let Holdings { programs, gpu, load, .. } = holdings;
    let held =
        programs.get_mut(order.program).ok_or_else(|| failed(format!("there is no program {}", order.program)))?;
    if order.limit == 0 || order.limit > load.outstanding.max(1) {
        return Err(failed(format!("{} in flight were ordered, and {} prepared", order.limit, load.outstanding)));
    }
    region.clear(region.rows());
    match &mut held.code {
        Code::Host(calls) => calls.window(gpu.as_mut(), order, region, attention, load.keep_awake),
        Code::Enqueued { timed, posted, .. } => {
            let gpu = gpu.as_mut().ok_or_else(|| failed("the device is gone"))?;
            warm_up(order, || {
                *posted += 1;
                gpu.run(timed, *posted - 1).map(drop)
            })?;
            let sync = gpu.synchronise()?;
            let times = Times::of(order);
            let source = Source::of(order, &times);
            let between = Between::new(timed.slots);
            let mut sender = Sender {
                request: timed,
                gpu,
                region,
                between: &between,
                attention,
                source,
                times: &times,
                limit: u64::from(order.limit),
                first: *posted,
                id: 0,
                room: (region.rows() / timed.rows()) as u64,
                keep_awake: load.keep_awake.unwrap_or(Nanos::MAX),
                idle_since: now(),
                pauses: Pauses::default(),
                lost: None,
            };
            let mut watcher = Watcher::new(timed, region, &between, *posted, gpu.tick);
            let mut pause = Nanos::ZERO;
            if threads > 1 {
                let core = load.cores.get(1).copied();
                pause = two_threads(&mut sender, &mut watcher, core)?;
            } else {
                sender.alone(&mut watcher);
            }
            *posted += sender.id;
            let (sent, lost) = (sender.id, sender.lost.take());
            let mut done = WindowDone {
                start: times.start,
                sent,
                sync: Some(sync),
                sync_end: None,
                host_pause: pause.max(sender.pauses.longest),
                sm_mhz: watcher.clock.mhz(),
                oom: Vec::new(),
            };
            if let Some(error) = lost {
                return Err(Failed { usable: false, ..error.into() });
            }
            gpu.drain()?;
            done.sync_end = tie_again(gpu)?;
            Ok(done)
        }
    }
}

/// Ties the clocks together once more. What goes wrong with that and leaves the tenant usable costs only the tie.
fn tie_again(gpu: &mut Gpu) -> Result<Option<ClockSync>, Failed> {
    match gpu.synchronise() {
        Ok(sync) => Ok(Some(sync)),
        Err(failed) if failed.usable => Ok(None),
        Err(failed) => Err(failed),
    }
}

/// Unrecorded requests, so that nothing of the first recorded one is a first time.
fn warm_up(order: &WindowOrder, mut request: impl FnMut() -> Result<(), Failed>) -> Result<(), Failed> {
    let until = now() + WARM_UP.1;
    let loaded = !matches!(order.load, WindowLoad::Open { rate: Rate(0), .. });
    for done in 0..WARM_UP.0 {
        if !loaded || done > 0 && now() >= until {
            break;
        }
        request()?;
    }
    Ok(())
}

/// The poller on a thread of its own. Returns its longest pause.
fn two_threads(sender: &mut Sender<'_>, watcher: &mut Watcher<'_>, core: Option<u32>) -> Result<Nanos, Failed> {
    let between = sender.between;
    thread::scope(|scope| {
        let poll = || {
            let ready = hands::settle(core);
            let mut pauses = Pauses::default();
            while between.over.load(Ordering::Relaxed) == 0 {
                if watcher.look() {
                    pauses.worked();
                } else {
                    pauses.waited(now());
                    std::hint::spin_loop();
                }
            }
            // What was done before the end was called is seen, however the last looks fell.
            while watcher.look() {}
            ready.map(|()| pauses.longest)
        };
        let poller = thread::Builder::new()
            .name("poller".to_owned())
            .spawn_scoped(scope, poll)
            .map_err(|why| failed(format!("no thread can be started: {why}")))?;
        sender.send_all();
        between.over.store(1, Ordering::Relaxed);
        poller.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Times {
    /// A window that is warm later than it was to start begins later, and says when.
    fn of(order: &WindowOrder) -> Self {
        let start = order.start.max(now());
        let end = start + order.length;
        Self { start, end, deadline: end + order.drain }
    }
}

impl Source {
    fn of(order: &WindowOrder, times: &Times) -> Self {
        match &order.load {
            WindowLoad::Closed => Self::Closed,
            WindowLoad::Open { rate, poisson, seed, arrangement, block, probe } => {
                let mut stream = arrival_stream(*seed, arrangement, *block, probe);
                let mut planned = arrivals(&mut stream, *rate, *poisson, order.length);
                planned.iter_mut().for_each(|at| *at = times.start + *at + order.delay);
                Self::Planned(planned)
            }
        }
    }

    /// When request `id` is to go; `None`: there is none.
    #[inline]
    fn planned(&self, id: u64, at: Nanos, times: &Times) -> Option<Nanos> {
        match self {
            Self::Planned(planned) => planned.get(id as usize).copied(),
            Self::Closed => (at < times.end).then_some(times.start),
        }
    }
}

/// Sends the requests of one window.
struct Sender<'a> {
    request: &'a Request,
    gpu: &'a Gpu,
    region: &'a Region,
    between: &'a Between,
    attention: &'a Attention,
    source: Source,
    times: &'a Times,
    limit: u64,
    /// Number of the window's first request among all of the program's.
    first: u64,
    id: u64,
    /// Requests that the region has rows for.
    room: u64,
    keep_awake: Nanos,
    idle_since: Nanos,
    pauses: Pauses,
    lost: Option<CudaError>,
}

/// What the sender did in one turn.
enum Turn {
    /// It called the driver.
    Worked,
    /// At this time there was nothing to do before the next.
    Waits { at: Nanos, next: Nanos },
    /// The window is over.
    Over,
}

impl Sender<'_> {
    fn send_all(&mut self) {
        loop {
            match self.turn() {
                Turn::Worked => self.pauses.worked(),
                Turn::Waits { at, .. } => {
                    self.pauses.waited(at);
                    std::hint::spin_loop();
                }
                Turn::Over => return,
            }
        }
    }

    /// Sends and watches in turns, and sleeps where there is neither.
    fn alone(&mut self, watcher: &mut Watcher<'_>) {
        let patience = Patience { spin: false, ..self.gpu.patience };
        loop {
            let mut busy = false;
            while watcher.look() {
                busy = true;
            }
            match self.turn() {
                Turn::Worked => {}
                Turn::Waits { .. } if busy => {}
                Turn::Waits { at, next } => patience.pause(at, next),
                Turn::Over => return,
            }
        }
    }

    #[inline]
    fn turn(&mut self) -> Turn {
        // In this order: what was seen done before this request is sent has an earlier time than its sending.
        let open = self.id - self.between.seen.load(Ordering::Acquire);
        let at = now();
        if at >= self.times.deadline || self.lost.is_some() || self.attention.is_wanted() {
            return Turn::Over;
        }
        let planned = if self.id < self.room { self.source.planned(self.id, at, self.times) } else { None };
        match planned {
            Some(planned) if at >= planned && open < self.limit => {
                self.send(at);
                return Turn::Worked;
            }
            // It stays until the end even where all is done: an arm has its length.
            None if open == 0 && at >= self.times.end => return Turn::Over,
            _ => {}
        }
        let next = planned.unwrap_or(self.times.deadline);
        if open > 0 {
            self.idle_since = at;
        } else if at - self.idle_since >= self.keep_awake && next > at + CLEAR {
            self.gpu.keep_awake();
            self.idle_since = now();
            return Turn::Worked;
        }
        Turn::Waits { at, next: if next > at { next } else { self.times.deadline } }
    }

    #[inline]
    fn send(&mut self, at: Nanos) {
        let n = self.first + self.id;
        let row = self.region.row(self.id as usize * self.request.rows());
        if let Some(row) = row {
            row.sent.store(at.0, Ordering::Relaxed);
        }
        self.id += 1;
        self.between.sent.store(self.id, Ordering::Release);
        let code = self.request.post(self.gpu.driver, n);
        let after = now();
        if let Some(row) = row {
            row.busy_until.store(after.0, Ordering::Relaxed);
        }
        if code != SUCCESS {
            self.failed(n, row, code, after);
        }
        self.idle_since = after;
    }

    #[cold]
    fn failed(&mut self, n: u64, row: Option<&crate::tenant::Row>, code: u32, at: Nanos) {
        if let Some(row) = row {
            complete(row, None, None, at, Outcome::Error(code));
        }
        if is_sticky(code) {
            self.lost = Some(self.gpu.driver.error("posting a request", code));
        } else {
            self.request.flush(self.gpu.driver);
        }
        self.between.skip(n);
    }
}

impl HostCalls {
    /// A window of host calls: one in flight, stamped on return.
    fn window(
        &mut self,
        mut gpu: Option<&mut Gpu>,
        order: &WindowOrder,
        region: &Region,
        attention: &Attention,
        keep_awake: Option<Nanos>,
    ) -> Result<WindowDone, Failed> {
        warm_up(order, || {
            self.run(gpu.as_deref());
            Ok(())
        })?;
        self.oom.clear();
        let sync = match &mut gpu {
            Some(gpu) => Some(gpu.synchronise()?),
            None => None,
        };
        let mut device = gpu;
        let gpu = device.as_deref();
        let patience = gpu.map_or(Patience::new(false), |gpu| gpu.patience);
        let times = Times::of(order);
        let source = Source::of(order, &times);
        let mut pauses = Pauses::default();
        let (mut id, mut idle_since) = (0u64, now());
        let mut lost = None;
        while lost.is_none() && !attention.is_wanted() {
            let at = now();
            let row = region.row(id as usize);
            let planned = if row.is_some() { source.planned(id, at, &times) } else { None };
            if at >= times.deadline || planned.is_none() && at >= times.end {
                break;
            }
            let next = planned.unwrap_or(times.end);
            match row.filter(|_| planned.is_some() && at >= next) {
                Some(row) => {
                    row.sent.store(at.0, Ordering::Relaxed);
                    let outcome = self.run(gpu);
                    let done = now();
                    row.busy_until.store(done.0, Ordering::Relaxed);
                    complete(row, None, None, done, outcome);
                    if let (Outcome::Error(code), Some(gpu)) = (outcome, gpu)
                        && is_sticky(code)
                    {
                        lost = Some(gpu.driver.error("a host call", code));
                    }
                    id += 1;
                    idle_since = done;
                    pauses.worked();
                }
                None => {
                    if let (Some(gpu), Some(limit)) = (gpu, keep_awake)
                        && at - idle_since >= limit
                        && next > at + CLEAR
                    {
                        gpu.keep_awake();
                        idle_since = now();
                        pauses.worked();
                        continue;
                    }
                    if patience.spin {
                        pauses.waited(at);
                    }
                    patience.pause(at, next);
                }
            }
        }
        if let Some(error) = lost {
            return Err(Failed { usable: false, ..CudaError::into(error) });
        }
        let sync_end = match &mut device {
            Some(gpu) => {
                gpu.drain()?;
                tie_again(gpu)?
            }
            None => None,
        };
        let oom: Vec<OutOfMemory> = self.oom.drain(..).collect();
        Ok(WindowDone { start: times.start, sent: id, sync, sync_end, host_pause: pauses.longest, sm_mhz: None, oom })
    }
}
