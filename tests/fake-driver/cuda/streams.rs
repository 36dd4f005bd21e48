//! Streams: what a process has queued, what of it the machine has, and the thread that has delivered what ends.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use crosstalk::machine::{Demand, QueueId};
use crosstalk::units::Nanos;

use crate::entry::{Code, Out, entry_points};
use crate::faults::runs;
use crate::process::{Process, Tables, current, process};
use crate::results;
use crate::state::{Completion, IN_FLIGHT, monotonic};
use crate::touch::Touch;

/// How long before an event the service thread stops sleeping, nanoseconds.
const EARLY: u64 = 20_000;
/// How often it looks for processes that have died while something of its own is in flight.
const REAP: Duration = Duration::from_millis(20);

/// One operation of a stream.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Work for the machine.
    Run { demand: Demand, times: u32, effect: Effect },
    /// Sets an event.
    Record(u64),
    /// Waits for an event.
    Wait(u64),
    /// Sets memory of the device.
    Fill { address: u64, bytes: u64, value: u8 },
}

/// What the end of work leaves behind.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Nothing,
    /// A fault: its kernel's name without `fault_`.
    Fault(&'static str),
    /// It runs until the first of `words` is set, and is then a launch.
    Spin {
        words: u64,
        state: u64,
        stamp: Option<u64>,
        sequence: u32,
    },
    /// Launches add to the sum of `state`; where there is a stamp, it reports the sum and sets it back.
    Launch {
        state: u64,
        adds: u32,
        stamp: Option<u64>,
        sequence: u32,
        touch: Option<Touch>,
    },
    /// A copy to the device, of what the source held when it was queued.
    ToDevice {
        to: u64,
        data: Vec<u8>,
    },
    /// A copy to pinned memory of the host.
    ToHost {
        from: u64,
        to: u64,
        bytes: u64,
    },
}

/// A FIFO of one context.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) context: u64,
    pub(crate) gpu: usize,
    pub(crate) slot: usize,
    pub(crate) queue: QueueId,
    /// Synchronises with the default stream.
    pub(crate) blocking: bool,
    pending: VecDeque<Step>,
    pub(crate) running: VecDeque<(u32, Effect)>,
    /// What is being captured, instead of queued.
    pub(crate) capture: Option<Vec<Step>>,
    /// Device time when its last work ended.
    pub(crate) ended: u64,
    /// Nothing of it ever ends.
    pub(crate) hangs: bool,
}

/// An event.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Event {
    /// Records that are still queued.
    pending: u32,
    /// Device time of the last.
    at: Option<u64>,
}

impl Stream {
    pub(crate) fn idle(&self) -> bool {
        self.pending.is_empty() && self.running.is_empty() && !self.hangs
    }

    /// Whether an endless kernel is at its front.
    pub(crate) fn spins(&self) -> bool {
        matches!(self.running.front(), Some((_, Effect::Spin { .. })))
    }

    /// Whether the machine has work of it.
    fn busy(&self) -> bool {
        !self.running.is_empty() && !self.hangs
    }
}

impl Process {
    /// A stream of a context in place `slot` of a GPU.
    pub(crate) fn new_stream(
        &self,
        tables: &mut Tables,
        (context, gpu, slot): (u64, usize, usize),
        blocking: bool,
    ) -> Result<u64, Code> {
        let queue = self.gpu(gpu)?.with(|shared, _| shared.queue(slot)).ok_or_else(|| {
            eprintln!(
                "crosstalk stand-in driver: a GPU has at most 64 streams, default streams and host queues included"
            );
            results::OUT_OF_MEMORY
        })?;
        let handle = tables.handle();
        let stream = Stream {
            context,
            gpu,
            slot,
            queue,
            blocking,
            pending: VecDeque::new(),
            running: VecDeque::new(),
            capture: None,
            ended: 0,
            hangs: false,
        };
        tables.streams.insert(handle, stream);
        Ok(handle)
    }

    /// Queues an operation, or captures it.
    pub(crate) fn push(
        &self,
        tables: &mut Tables,
        stream: u64,
        steps: impl IntoIterator<Item = Step>,
    ) -> Result<(), Code> {
        let found = tables.streams.get_mut(&stream).ok_or(results::INVALID_HANDLE)?;
        if let Some(capture) = &mut found.capture {
            capture.extend(steps);
            return Ok(());
        }
        for step in steps {
            if let Step::Record(event) = &step
                && let Some(event) = tables.events.get_mut(event)
            {
                event.pending += 1;
            }
            found.pending.push_back(step);
        }
        self.flush(tables, stream);
        Ok(())
    }

    /// Gives the machine what it has room for.
    fn flush(&self, tables: &mut Tables, handle: u64) {
        loop {
            let Tables { streams, events, heap, contexts, asleep_until, .. } = &mut *tables;
            let Some(stream) = streams.get_mut(&handle) else { return };
            match stream.pending.front() {
                None => return,
                Some(_) if stream.hangs => return,
                Some(Step::Run { .. }) => {
                    if stream.running.len() >= IN_FLIGHT {
                        return;
                    }
                    let Ok(gpu) = self.gpu(stream.gpu) else { return };
                    let batch = batch(stream);
                    let (queue, slot) = (stream.queue, stream.slot);
                    let (tickets, next) = gpu.with(|shared, now| {
                        let submit = |(demand, times, _): &(Demand, u32, Effect)| {
                            let work = shared.machine.define(slot, demand).ok()?;
                            shared.machine.submit(queue, work, *times, now)
                        };
                        let tickets: Vec<_> = batch.iter().map(submit).collect();
                        if batch.iter().any(|(_, _, effect)| matches!(effect, Effect::Spin { .. })) {
                            shared.spinning[slot] = 1;
                        }
                        (tickets, shared.machine.next())
                    });
                    batch.iter().for_each(|(_, _, effect)| runs(effect));
                    for (ticket, (_, _, effect)) in tickets.into_iter().zip(batch) {
                        match (ticket, contexts.get_mut(&stream.context)) {
                            (Some(ticket), _) => stream.running.push_back((ticket.0, effect)),
                            (None, Some(context)) => {
                                eprintln!("crosstalk stand-in driver: more than 512 different launches and copies");
                                context.error = Some(results::LAUNCH_FAILED);
                            }
                            (None, None) => {}
                        }
                    }
                    let at = next.map_or(u64::MAX, |t| gpu.real(t));
                    if *asleep_until > at {
                        *asleep_until = 0;
                        self.work.notify_all();
                    }
                }
                Some(_) if !stream.running.is_empty() => return,
                Some(Step::Wait(event)) if events.get(event).is_some_and(|e| e.pending > 0) => return,
                Some(Step::Wait(_)) => drop(stream.pending.pop_front()),
                Some(Step::Record(event)) => {
                    let event = *event;
                    let now = self.gpu(stream.gpu).map_or(Nanos::ZERO, |gpu| gpu.now());
                    let at = if stream.ended > 0 { stream.ended } else { now.0 };
                    if let Some(event) = events.get_mut(&event) {
                        event.pending = event.pending.saturating_sub(1);
                        event.at = Some(at);
                    }
                    stream.pending.pop_front();
                    self.done.notify_all();
                }
                Some(&Step::Fill { address, bytes, value }) => {
                    heap.fill(address, bytes, value);
                    stream.pending.pop_front();
                    self.overwrite(tables, address, bytes);
                }
            }
        }
    }

    /// Takes what has ended, leaves its effects, goes on. The moment of the next event of the machines that this process
    /// waits for; `None` where it waits for nothing.
    fn step(&self, tables: &mut Tables, reap: bool) -> Option<u64> {
        let mut earliest = None;
        let mut moved = self.release(tables);
        for (g, gpu) in self.gpus.iter().enumerate() {
            let Tables { streams, .. } = &mut *tables;
            if !streams.values().any(|s| s.gpu == g && s.busy()) {
                continue;
            }
            let mut ended: Vec<(u64, Vec<Completion>)> = Vec::new();
            let (next, mhz) = gpu.with(|shared, now| {
                if reap {
                    shared.reap(gpu.part.share);
                    // What the dead held comes free now.
                    shared.machine.advance(now, &mut |_| {});
                }
                for (handle, stream) in streams.iter().filter(|(_, s)| s.gpu == g && s.busy()) {
                    let mut done = Vec::new();
                    shared.take(stream.queue, &mut done);
                    if !done.is_empty() {
                        ended.push((*handle, done));
                    }
                }
                (shared.machine.next(), shared.machine.sm_mhz(0))
            });
            for (handle, done) in ended {
                moved = true;
                for completion in done {
                    self.deliver(tables, handle, completion, mhz);
                }
            }
            if let Some(next) = next {
                let at = gpu.real(next);
                earliest = Some(earliest.map_or(at, |e: u64| e.min(at)));
            }
        }
        let waiting: Vec<u64> =
            tables.streams.iter().filter(|(_, s)| !s.pending.is_empty()).map(|(handle, _)| *handle).collect();
        for handle in &waiting {
            self.flush(tables, *handle);
        }
        if moved {
            self.done.notify_all();
        }
        if moved || !waiting.is_empty() {
            // What was just given to the machine may come first.
            earliest = self.next_event(tables);
        }
        let running = tables.streams.values().any(Stream::busy);
        // A machine without a next event, and yet work of ours: it must have ended meanwhile.
        running.then(|| earliest.unwrap_or_else(monotonic))
    }

    /// The moment of the next event of the machines that this process waits for; the present where something of its own
    /// has ended since it last looked.
    fn next_event(&self, tables: &Tables) -> Option<u64> {
        let mut earliest: Option<u64> = None;
        for (g, gpu) in self.gpus.iter().enumerate() {
            let busy = || tables.streams.values().filter(|s| s.gpu == g && s.busy());
            if busy().next().is_none() {
                continue;
            }
            let next = gpu.with(
                |shared, now| {
                    if busy().any(|s| shared.ended(s.queue)) { Some(now) } else { shared.machine.next() }
                },
            );
            let at = next.map(|t| gpu.real(t));
            earliest = earliest.into_iter().chain(at).min();
        }
        earliest
    }

    /// Waits until a stream is idle.
    pub(crate) fn drain<'t>(
        &'t self,
        mut tables: MutexGuard<'t, Tables>,
        stream: u64,
    ) -> Result<MutexGuard<'t, Tables>, Code> {
        loop {
            match tables.streams.get(&stream) {
                None => return Err(results::INVALID_HANDLE),
                Some(s) if s.capture.is_some() => return Err(results::STREAM_CAPTURE_UNSUPPORTED),
                Some(s) if s.idle() => return Ok(tables),
                Some(_) => {}
            }
            tables = self.wait(tables)?;
        }
    }

    /// Waits until something has ended.
    pub(crate) fn wait<'t>(&'t self, tables: MutexGuard<'t, Tables>) -> Result<MutexGuard<'t, Tables>, Code> {
        let waited = self.done.wait_timeout(tables, Duration::from_millis(20));
        let (mut tables, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        self.heed_others(&mut tables);
        if self.lost() { Err(results::UNKNOWN) } else { Ok(tables) }
    }

    /// Takes a stream away, with what it had queued.
    pub(crate) fn drop_stream(&self, tables: &mut Tables, handle: u64) {
        let Some(stream) = tables.streams.remove(&handle) else { return };
        if stream.hangs {
            return;
        }
        if let Ok(gpu) = self.gpu(stream.gpu) {
            gpu.with(|shared, _| {
                shared.machine.close_queue(stream.queue);
                if stream.spins() {
                    shared.spinning[stream.slot] = 0;
                }
            });
        }
    }

    /// The stream that a handle of the caller's names: 0, 1 and 2 are the default stream of the current context.
    pub(crate) fn stream(&self, tables: &Tables, handle: u64) -> Result<u64, Code> {
        let (_, context) = current(tables)?;
        match handle {
            0..=2 => Ok(context.stream),
            _ if tables.streams.contains_key(&handle) => Ok(handle),
            _ => Err(results::INVALID_HANDLE),
        }
    }
}

/// Takes work from the front of a stream as far as the machine has room for it. Equal launches in a row that stamp
/// nothing are one.
fn batch(stream: &mut Stream) -> Vec<(Demand, u32, Effect)> {
    let mut batch: Vec<(Demand, u32, Effect)> = Vec::new();
    while let Some(Step::Run { demand, times, effect }) = stream.pending.front() {
        if let (
            Some((last, n, Effect::Launch { state: s, adds: a, stamp: None, .. })),
            Effect::Launch { state, adds, stamp: None, touch: None, .. },
        ) = (batch.last_mut(), effect)
            && last == demand
            && s == state
        {
            *n += times;
            *a = a.wrapping_add(*adds);
        } else if stream.running.len() + batch.len() < IN_FLIGHT {
            batch.push((*demand, *times, effect.clone()));
        } else {
            break;
        }
        stream.pending.pop_front();
    }
    batch
}

/// The service thread.
pub(crate) fn serve(process: &'static Process) {
    // A sleep ends within tens of microseconds then, rather than fifty more.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let mut reaped = Instant::now();
    loop {
        let mut tables = process.tables();
        tables.asleep_until = 0;
        if process.lost() {
            drop(tables);
            process.done.notify_all();
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        process.heed_others(&mut tables);
        let reap = reaped.elapsed() > REAP;
        if reap {
            reaped = Instant::now();
        }
        let next = process.step(&mut tables, reap);
        let now = monotonic();
        match next {
            None => {
                tables.asleep_until = u64::MAX;
                drop(process.work.wait(tables));
            }
            Some(at) if at > now + EARLY => {
                tables.asleep_until = at;
                let length = Duration::from_nanos((at - now - EARLY).min(20_000_000));
                drop(process.work.wait_timeout(tables, length));
            }
            Some(at) => {
                drop(tables);
                while monotonic() < at {
                    std::hint::spin_loop();
                }
            }
        }
    }
}

entry_points! {
    fn cuStreamCreate(stream: Out<u64>, flags: u32) {
        let process = process()?;
        let mut tables = process.tables();
        let (handle, context) = current(&tables)?;
        let made = process.new_stream(&mut tables, (handle, context.gpu, context.slot), flags & 1 == 0)?;
        stream.put(made)
    }

    fn cuStreamCreateWithPriority(stream: Out<u64>, flags: u32, _priority: i32) {
        Code::from_u32(cuStreamCreate(stream, flags))
    }

    fn cuStreamDestroy_v2(stream: u64) {
        let process = process()?;
        let tables = process.tables();
        if stream <= 2 || !tables.streams.contains_key(&stream) {
            return Err(results::INVALID_HANDLE);
        }
        let mut tables = process.drain(tables, stream)?;
        process.drop_stream(&mut tables, stream);
        Ok(())
    }

    fn cuStreamSynchronize(stream: u64) {
        let process = process()?;
        let tables = process.tables();
        let stream = process.stream(&tables, stream)?;
        let tables = process.drain(tables, stream)?;
        current(&tables).map(drop)
    }

    fn cuStreamQuery(stream: u64) {
        let process = process()?;
        let tables = process.tables();
        let stream = process.stream(&tables, stream)?;
        let idle = tables.streams.get(&stream).is_some_and(Stream::idle);
        if idle { Ok(()) } else { Err(results::NOT_READY) }
    }

    fn cuStreamWaitEvent(stream: u64, event: u64, _flags: u32) {
        let process = process()?;
        let mut tables = process.tables();
        let stream = process.stream(&tables, stream)?;
        if !tables.events.contains_key(&event) {
            return Err(results::INVALID_HANDLE);
        }
        process.push(&mut tables, stream, [Step::Wait(event)])
    }

    fn cuEventCreate(event: Out<u64>, _flags: u32) {
        let process = process()?;
        let mut tables = process.tables();
        current(&tables)?;
        let handle = tables.handle();
        tables.events.insert(handle, Event::default());
        event.put(handle)
    }

    fn cuEventDestroy_v2(event: u64) {
        process()?.tables().events.remove(&event).map(drop).ok_or(results::INVALID_HANDLE)
    }

    fn cuEventRecord(event: u64, stream: u64) {
        let process = process()?;
        let mut tables = process.tables();
        let stream = process.stream(&tables, stream)?;
        if !tables.events.contains_key(&event) {
            return Err(results::INVALID_HANDLE);
        }
        process.push(&mut tables, stream, [Step::Record(event)])
    }

    fn cuEventRecordWithFlags(event: u64, stream: u64, _flags: u32) {
        Code::from_u32(cuEventRecord(event, stream))
    }

    fn cuEventQuery(event: u64) {
        let process = process()?;
        let tables = process.tables();
        let found = tables.events.get(&event).ok_or(results::INVALID_HANDLE)?;
        if found.pending == 0 { Ok(()) } else { Err(results::NOT_READY) }
    }

    fn cuEventSynchronize(event: u64) {
        let process = process()?;
        let mut tables = process.tables();
        while tables.events.get(&event).ok_or(results::INVALID_HANDLE)?.pending > 0 {
            tables = process.wait(tables)?;
        }
        Ok(())
    }

    fn cuEventElapsedTime(milliseconds: Out<f32>, start: u64, end: u64) {
        let process = process()?;
        let tables = process.tables();
        let at = |event: u64| {
            let event = tables.events.get(&event).ok_or(results::INVALID_HANDLE)?;
            if event.pending > 0 { Err(results::NOT_READY) } else { event.at.ok_or(results::INVALID_HANDLE) }
        };
        milliseconds.put((at(end)? as f64 / 1e6 - at(start)? as f64 / 1e6) as f32)
    }

    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: u64, end: u64) {
        Code::from_u32(cuEventElapsedTime(milliseconds, start, end))
    }
}
