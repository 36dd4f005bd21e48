//! Answers about faults: a process that serves requests, one that takes a fault, one that comes after it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use super::compile::{STREAMS, Site, compile};
use super::gpu::{Kernels, failed, launch_once, zeroed};
use super::request::Request;
use crate::cuda::{Context, CudaError, Device, DeviceBuffer, Driver, PinnedBuffer, SUCCESS, Stream};
use crate::hazard::{FaultKind, Service};
use crate::host::clock::now;
use crate::nvml::Nvml;
use crate::tenant::Region;
use crate::tenant::fault::{Committed, FaultAnswer, FaultQuestion};
use crate::tenant::protocol::Failed;
use crate::units::Nanos;
use crate::workload::fault::{self, SPIN_BLOCKS, SPIN_RUNS, SPIN_STOP, SPIN_THREADS};
use crate::workload::{Arg, Kernel, SETUP, State};

/// Bytes that a request writes.
const WRITTEN: u64 = 64 << 10;
/// Between two looks at what is in flight.
const NAP: Duration = Duration::from_micros(50);
/// One request of somebody who is not under test may take so long.
const REQUEST: Nanos = Nanos::secs(10);
/// Between two tries of a service to have a context again.
const AGAIN: Duration = Duration::from_millis(50);
/// Words of an endless kernel.
const WORDS: usize = SPIN_RUNS + 16;

/// Why there is no answer of the kind that was asked for.
pub(super) enum Stop {
    /// The driver refuses.
    Refused(CudaError),
    /// It could not be asked.
    Failed(Failed),
}

impl From<CudaError> for Stop {
    fn from(error: CudaError) -> Self {
        Self::Refused(error)
    }
}

/// What a process holds while faults are tried.
#[derive(Default)]
pub(super) struct Faulty {
    /// Where it works.
    stage: Option<Stage>,
    /// What it is to do, and what an endless kernel is told by.
    plot: Option<(FaultKind, Request, PinnedBuffer)>,
    serving: Option<Serving>,
    /// Counts what it serves: readable when it has died.
    region: Option<Arc<Region>>,
}

impl Faulty {
    /// Counts into `region` from here on.
    pub(super) fn count_into(&mut self, region: Arc<Region>) {
        self.region = Some(region);
    }

    /// Answers.
    ///
    /// # Errors
    /// Where the driver refuses, or the question could not be put to it.
    pub(super) fn answer(&mut self, driver: &'static Driver, question: FaultQuestion) -> Result<FaultAnswer, Stop> {
        match question {
            FaultQuestion::Prepare { fault } => {
                let mut stage = Stage::take(driver)?;
                stage.work()?;
                self.plot = match fault {
                    Some(fault) => Some(stage.plot(fault)?),
                    None => None,
                };
                self.stage = Some(stage);
                Ok(FaultAnswer::Worked {})
            }
            FaultQuestion::Work { times } => {
                let stage = self.stage.as_mut().ok_or_else(|| Stop::Failed(failed("nothing was prepared")))?;
                for _ in 0..times {
                    stage.work()?;
                }
                Ok(FaultAnswer::Worked {})
            }
            FaultQuestion::Commit { patience } => self.commit(patience).map(FaultAnswer::Committed),
            // As a program that returns from its main function does: whoever has asked to be told at the end is told.
            FaultQuestion::Leave {} => std::process::exit(0),
            // Answered before there is a driver (see the witness): whoever asks NVML has no device.
            FaultQuestion::Listed { gpu } => listed(&gpu).map_err(|error| Stop::Failed(failed(error))),
            FaultQuestion::Serve { pause } => {
                let region = self.region.clone();
                self.serving = Some(Serving::start(driver, pause, region)?);
                Ok(FaultAnswer::Serving {})
            }
            FaultQuestion::Account { since, patience } => match self.serving.take() {
                Some(serving) => Ok(FaultAnswer::Account(serving.account(since, patience))),
                None => Err(Stop::Failed(failed("nothing is served"))),
            },
        }
    }

    /// Takes the fault that was prepared.
    fn commit(&mut self, patience: Nanos) -> Result<Committed, Stop> {
        let (Some(stage), Some((fault, request, words))) = (&mut self.stage, &self.plot) else {
            return Err(Stop::Failed(failed("no fault was prepared")));
        };
        let (driver, fault) = (stage.driver, *fault);
        let at = now();
        let until = at + patience;
        let posted = request.post(driver, 0);
        if posted != SUCCESS {
            let what = driver.error("cuLaunchKernel", posted).to_string();
            return Ok(Committed { at, code: Some(posted), happened: !spins(fault), what });
        }
        if spins(fault) {
            while word(words, SPIN_RUNS).load(Ordering::Acquire) == 0 {
                if now() >= until {
                    let what = format!("the endless kernel did not begin within {patience}");
                    return Ok(Committed { at, code: None, happened: false, what });
                }
                std::thread::sleep(NAP);
            }
            if fault == FaultKind::ContextDestroyed {
                return Ok(self.destroy(at, patience));
            }
            return Ok(Committed { at, code: None, happened: true, what: "its kernel runs".to_owned() });
        }
        loop {
            match stage.streams[0].is_idle() {
                Err(error) => {
                    let what = error.to_string();
                    return Ok(Committed { at, code: error.code, happened: true, what });
                }
                Ok(true) => {
                    let what = "its kernel ended without an error".to_owned();
                    return Ok(Committed { at, code: None, happened: false, what });
                }
                Ok(false) if now() >= until => {
                    let what = format!("its kernel showed neither an error nor an end within {patience}");
                    return Ok(Committed { at, code: None, happened: false, what });
                }
                Ok(false) => std::thread::sleep(NAP),
            }
        }
    }

    /// Destroys the context under its kernel. What lives in it goes with it: to free that one by one would wait for the
    /// kernel.
    fn destroy(&mut self, at: Nanos, patience: Nanos) -> Committed {
        let told = |what: &str, code, happened| Committed { at, code, happened, what: what.to_owned() };
        let Some(stage) = self.stage.take() else { return told("it has no context", None, false) };
        std::mem::forget(self.plot.take());
        let context = stage.leave_all_but_context();
        let (done, ended) = mpsc::channel();
        // On a thread of its own: it may never return.
        let destroy = move || drop(done.send(context.destroy()));
        if let Err(error) = std::thread::Builder::new().name("destroy".to_owned()).spawn(destroy) {
            return told(&format!("no thread: {error}"), None, false);
        }
        match ended.recv_timeout(Duration::from_nanos(patience.0)) {
            Ok(Ok(())) => told("its context is destroyed", None, true),
            Ok(Err(error)) => told(&error.to_string(), error.code, true),
            // The call is there, whatever becomes of it.
            Err(_) => told(&format!("the destruction of its context did not return within {patience}"), None, true),
        }
    }
}

/// Who is on `gpu`, by NVML.
pub(super) fn listed(gpu: &str) -> Result<FaultAnswer, String> {
    let nvml = Nvml::load().map_err(|error| error.to_string())?;
    let pids = nvml.processes(gpu).ok().map(|there| there.iter().map(|process| process.pid).collect());
    Ok(FaultAnswer::Listed { pids })
}

/// Whether the fault happens to somebody who runs an endless kernel.
fn spins(fault: FaultKind) -> bool {
    kernel(fault).symbol == fault::ENDLESS.symbol
}

fn kernel(fault: FaultKind) -> &'static Kernel {
    match fault {
        FaultKind::IllegalAddress => &fault::ILLEGAL_ADDRESS,
        FaultKind::MisalignedAddress => &fault::MISALIGNED_ADDRESS,
        FaultKind::Trap => &fault::TRAP,
        FaultKind::Assert => &fault::ASSERT,
        FaultKind::StackOverflow => &fault::STACK_OVERFLOW,
        FaultKind::Endless
        | FaultKind::Terminated
        | FaultKind::Interrupted
        | FaultKind::Killed
        | FaultKind::ExitDirty
        | FaultKind::ContextDestroyed => &fault::ENDLESS,
    }
}

/// Number `index` of the words of an endless kernel.
fn word(words: &PinnedBuffer, index: usize) -> &AtomicU32 {
    // SAFETY: the buffer holds `WORDS` words and begins on a page; both sides access single words atomically.
    unsafe { AtomicU32::from_ptr(words.host().cast::<u32>().add(index.min(WORDS - 1))) }
}

/// A context, and a request in it whose result is checked. Dropped in the order of the fields, the context last.
struct Stage {
    request: Request,
    asked: u64,
    _buffer: DeviceBuffer,
    state: DeviceBuffer,
    streams: [Stream; STREAMS],
    kernels: Kernels,
    sms: u32,
    context: Context,
    driver: &'static Driver,
}

/// How a request ended.
enum Ended {
    Right,
    Wrong,
    /// Not before it was given up.
    Never,
}

impl Stage {
    /// Takes a context on the only device that it has to do with, current on the calling thread.
    fn take(driver: &'static Driver) -> Result<Self, CudaError> {
        let device = Device::get(driver, 0)?;
        let context = Context::new(&device, driver, false)?;
        let mut kernels = Kernels::new(driver, device.compute_capability()?);
        let streams = [Stream::new(driver)?, Stream::new(driver)?];
        let state = zeroed(driver, size_of::<State>() as u64)?;
        let buffer = zeroed(driver, WRITTEN)?;
        let writes = SETUP.iter().find(|kernel| kernel.symbol == "fill_vectors");
        let writes = writes.ok_or_else(|| CudaError::other("kernels", "there is no fill_vectors: a defect"))?;
        let program = launch_once(writes, 2, 256, vec![Arg::Buffer(0), Arg::U64(WRITTEN), Arg::U32(7)]);
        let (function, buffers) = (&mut |kernel: &Kernel| kernels.function(kernel), [buffer.address()]);
        let states = [state.address(); STREAMS];
        let request = compile(
            &program,
            Site { driver, function, streams: &streams, buffers: &buffers, states, slots: 1, noise: false },
        )?;
        let sms = device.sms()?;
        Ok(Self { request, asked: 0, _buffer: buffer, state, streams, kernels, sms, context, driver })
    }

    /// What a fault takes.
    fn plot(&mut self, fault: FaultKind) -> Result<(FaultKind, Request, PinnedBuffer), CudaError> {
        let words = PinnedBuffer::new(self.driver, WORDS * size_of::<u32>())?;
        word(&words, SPIN_STOP).store(0, Ordering::Release);
        let kernel = kernel(fault);
        let (grid, block, args) = match fault {
            FaultKind::IllegalAddress => (1, 32, vec![Arg::U64(fault::NOWHERE)]),
            FaultKind::MisalignedAddress => (1, 32, vec![Arg::U32(fault::OFF)]),
            FaultKind::Trap | FaultKind::Assert => (1, 32, vec![]),
            FaultKind::StackOverflow => (1, 32, vec![Arg::U32(fault::DEPTH)]),
            // Every SM is full of it, as of a kernel that hangs.
            _ => (self.sms.max(1) * SPIN_BLOCKS, SPIN_THREADS, vec![Arg::Buffer(0)]),
        };
        let program = launch_once(kernel, grid, block, args);
        let Self { kernels, streams, driver, state, .. } = self;
        let (driver, states, buffers) = (*driver, [state.address(); STREAMS], [words.device()]);
        let function = &mut |kernel: &Kernel| kernels.function(kernel);
        let site = Site { driver, function, streams, buffers: &buffers, states, slots: 1, noise: false };
        Ok((fault, compile(&program, site)?, words))
    }

    /// One request, which must be right.
    fn work(&mut self) -> Result<(), Stop> {
        let until = now() + REQUEST;
        match self.once(&|| now() < until)? {
            Ended::Right => Ok(()),
            Ended::Wrong => Err(Stop::Failed(Failed { wrong_result: true, ..failed("a request's result is wrong") })),
            Ended::Never => Err(Stop::Failed(Failed {
                usable: false,
                ..failed(format!("a request has not ended within {REQUEST}: the device hangs"))
            })),
        }
    }

    /// One request: waited for as long as `waits` says.
    fn once(&mut self, waits: &dyn Fn() -> bool) -> Result<Ended, CudaError> {
        let n = self.asked;
        self.asked += 1;
        self.driver.check("cuLaunchKernel", self.request.post(self.driver, n))?;
        loop {
            if let Some(stamp) = self.request.read(n, 0) {
                let right = self.request.points.first().is_some_and(|point| point.expected == stamp.checksum);
                return Ok(if right { Ended::Right } else { Ended::Wrong });
            }
            self.streams[0].is_idle()?;
            if !waits() {
                return Ok(Ended::Never);
            }
            std::thread::sleep(NAP);
        }
    }

    /// Its context alone; what lives in it is left to it.
    fn leave_all_but_context(self) -> Context {
        let Self { request, _buffer, state, streams, kernels, context, .. } = self;
        std::mem::forget((request, _buffer, state, streams, kernels));
        context
    }
}

/// What a service has seen so far.
#[derive(Default)]
struct Seen {
    /// Requests that were done: when they began and ended.
    done: Vec<(Nanos, Nanos)>,
    /// Codes, with the time of the first each.
    errors: Vec<(u32, Nanos)>,
    /// When the last error was.
    failed: Option<Nanos>,
    wrong: u64,
    lost: u64,
    /// When the one in flight began.
    pending: Option<Nanos>,
}

/// What the thread that serves shares with the one that answers.
#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    stop: AtomicBool,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn failed(&self, error: &CudaError) {
        let (mut seen, code, at) = (self.seen(), error.code.unwrap_or(0), now());
        seen.failed = Some(at);
        if !seen.errors.iter().any(|(known, _)| *known == code) {
            seen.errors.push((code, at));
        }
    }
}

/// A thread that serves requests, one in flight.
struct Serving {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Serving {
    /// Begins; the first request is done when it returns.
    fn start(driver: &'static Driver, pause: Nanos, region: Option<Arc<Region>>) -> Result<Self, Stop> {
        let shared = Arc::<Shared>::default();
        let (ready, first) = mpsc::sync_channel(1);
        let with = Arc::clone(&shared);
        let serve = move || {
            let mut stage = match Stage::take(driver).map_err(Stop::from).and_then(|mut stage| {
                stage.work()?;
                Ok(stage)
            }) {
                Ok(stage) => Some(stage),
                Err(stop) => return drop(ready.send(Err(stop))),
            };
            if ready.send(Ok(())).is_ok() {
                serve(driver, &mut stage, pause, &with, region.as_deref());
            }
        };
        let thread = std::thread::Builder::new().name("service".to_owned()).spawn(serve);
        let thread = thread.map_err(|error| Stop::Failed(failed(format!("no thread can be started: {error}"))))?;
        // The thread's own limit is shorter; and a call that never returns is the controller's to find.
        first.recv().unwrap_or_else(|_| Err(Stop::Failed(failed("the service ended before it began"))))?;
        Ok(Self { shared, thread })
    }

    /// Ends it, and says what it saw. One that hangs in the driver is left there.
    fn account(self, since: Nanos, patience: Nanos) -> Service {
        let asked = now();
        self.shared.stop.store(true, Ordering::Release);
        while !self.thread.is_finished() && now() < asked + patience {
            std::thread::sleep(NAP);
        }
        let seen = self.shared.seen();
        service(&seen, since, asked)
    }
}

/// What was seen of a service until `until`, around the fault at `since`.
fn service(seen: &Seen, since: Nanos, until: Nanos) -> Service {
    let before = seen.done.iter().filter(|(_, end)| *end < since);
    let after = seen.done.iter().filter(|(_, end)| *end >= since);
    let gap = |from: Nanos, ends: &mut dyn Iterator<Item = Nanos>, to: Nanos| {
        let mut last = from;
        let mut longest = Nanos::ZERO;
        for end in ends.chain([to]) {
            longest = longest.max(end.saturating_sub(last));
            last = last.max(end);
        }
        longest
    };
    let begun = seen.done.first().map_or(since, |(begin, _)| *begin);
    Service {
        done: [before.clone().count() as u64, after.clone().count() as u64],
        errors: seen.errors.clone(),
        wrong: seen.wrong,
        lost: seen.lost + u64::from(seen.pending.is_some()),
        gaps_ns: [
            gap(begun, &mut before.map(|(_, end)| *end), since),
            gap(since, &mut after.clone().map(|(_, end)| *end), until.max(since)),
        ],
        // One that was done before the fault had reached it shows nothing.
        recovered: after
            .clone()
            .find(|(begin, _)| *begin >= since.max(seen.failed.unwrap_or(since)))
            .map(|(_, end)| *end - since),
        died: None,
    }
}

/// Serves until it is told to stop. After an error it takes a new context, as often as it needs to.
fn serve(driver: &'static Driver, stage: &mut Option<Stage>, pause: Nanos, shared: &Shared, region: Option<&Region>) {
    // Once told to stop, the request in flight is waited for as long as who asked waits.
    while !shared.stops() {
        let Some(on) = stage else {
            match Stage::take(driver) {
                Ok(taken) => *stage = Some(taken),
                Err(error) => {
                    shared.failed(&error);
                    std::thread::sleep(AGAIN);
                }
            }
            continue;
        };
        let begin = now();
        shared.seen().pending = Some(begin);
        let ended = on.once(&|| true);
        let end = now();
        let mut seen = shared.seen();
        seen.pending = None;
        match ended {
            Ok(ended @ (Ended::Right | Ended::Wrong)) => {
                seen.wrong += u64::from(matches!(ended, Ended::Wrong));
                seen.done.push((begin, end));
                drop(seen);
                if let Some(region) = region {
                    let progress = region.progress();
                    progress.last.store(end.0, Ordering::Release);
                    progress.completed.fetch_add(1, Ordering::AcqRel);
                }
            }
            Ok(Ended::Never) => seen.lost += 1,
            Err(error) => {
                drop(seen);
                shared.failed(&error);
                *stage = None;
                std::thread::sleep(AGAIN);
            }
        }
        std::thread::sleep(Duration::from_nanos(pause.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Nanos {
        Nanos::millis(n)
    }

    #[test]
    fn an_account_is_split_where_the_fault_was() {
        let done = [(0, 1), (2, 3), (8, 9), (10, 12), (30, 31), (32, 33)];
        let seen = Seen {
            done: done.map(|(begin, end)| (ms(begin), ms(end))).to_vec(),
            errors: vec![(700, ms(13))],
            ..Seen::default()
        };
        let told = service(&seen, ms(11), ms(40));
        let later = Seen { failed: Some(ms(31)), done: seen.done.clone(), ..Seen::default() };
        assert_eq!(service(&later, ms(11), ms(40)).recovered, Some(ms(22)), "what follows the last error counts");
        assert_eq!(told.done, [3, 3]);
        // The request in flight when the fault was is done after it, and is no sign of recovery.
        assert_eq!((told.gaps_ns, told.recovered), ([ms(6), ms(19)], Some(ms(20))));
        assert_eq!((told.errors, told.lost, told.wrong), (vec![(700, ms(13))], 0, 0));
    }

    #[test]
    fn a_request_that_never_ended_is_lost_and_nothing_has_recovered() {
        let seen = Seen { done: vec![(ms(0), ms(1))], pending: Some(ms(2)), ..Seen::default() };
        let told = service(&seen, ms(5), ms(105));
        assert_eq!((told.done, told.lost, told.recovered), ([1, 0], 1, None));
        assert_eq!(told.gaps_ns, [ms(4), ms(100)]);
        assert_eq!(service(&Seen::default(), ms(5), ms(7)).gaps_ns, [ms(0), ms(2)]);
    }

    #[test]
    fn every_fault_has_a_kernel_and_those_of_processes_the_endless_one() {
        for fault in FaultKind::ALL {
            let own = matches!(
                fault,
                FaultKind::IllegalAddress
                    | FaultKind::MisalignedAddress
                    | FaultKind::Trap
                    | FaultKind::Assert
                    | FaultKind::StackOverflow
            );
            assert_eq!(spins(fault), !own, "{fault:?}");
            assert!(SETUP.iter().any(|kernel| kernel.symbol == super::kernel(fault).symbol), "{fault:?}");
        }
    }
}
