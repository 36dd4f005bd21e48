//! A tenant as a process: it takes orders in lines, holds a device, and runs windows or noise.
//!
//! The thread that reads never touches the device; one worker does, so that an order can arrive while noise runs. What
//! it measures goes to the mapped [`Region`], never through the lines. A process may serve several seats: each has its own
//! lines, region, reader and worker, and what they share of the device is in `commons`.

mod commons;
mod compile;
pub mod cost;
mod examine;
mod fill;
mod gpu;
mod hands;
mod holdings;
mod host_calls;
mod noise;
mod request;
#[cfg(test)]
mod tests;
mod transport;
mod view;
mod wait;
mod watch;
mod window;
mod witness;
mod witness_fault;
mod witness_memory;
mod witness_pattern;

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::cuda::{CudaError, Driver};
use crate::host::thread::{Tid, keep_on};
use crate::tenant::Region;
use crate::tenant::protocol::{Failed, Order, PROTOCOL, QuietDone, Reply};
use commons::Commons;
use gpu::failed;
use holdings::Holdings;
use witness::Witness;

/// Once nobody gives orders any more, freeing everything may take this long.
const FAREWELL: Duration = Duration::from_secs(10);

/// Why a tenant ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum TenantError {
    /// What came in is no order, or cannot be read.
    #[error("cannot read orders: {0}")]
    Read(io::Error),
    /// Nobody reads the replies.
    #[error("cannot reply: {0}")]
    Reply(io::Error),
    /// The controller speaks another version.
    #[error("the controller speaks version {0} of the protocol, this is version {PROTOCOL}: use one build for both")]
    Version(u32),
    /// An order at the wrong time.
    #[error("{0}")]
    Order(&'static str),
    /// No thread.
    #[error("no thread can be started: {0}")]
    Thread(io::Error),
    /// A defect.
    #[error("a seat of this process panicked: a defect of crosstalk")]
    Panicked,
    /// The driver does not let go.
    #[error("the driver has not freed what this tenant holds within {} s", FAREWELL.as_secs())]
    Stuck,
}

/// How the worker knows, in the middle of a window or of noise, that something waits for it: orders received less orders
/// taken. One load each time it looks.
#[derive(Debug, Default)]
struct Attention {
    received: AtomicU64,
    taken: AtomicU64,
}

impl Attention {
    /// Whether something waits.
    #[inline]
    fn is_wanted(&self) -> bool {
        self.received.load(Ordering::Relaxed) != self.taken.load(Ordering::Relaxed)
    }
}

/// One seat of this process: where its orders come from, where its replies go, and what it measures into.
pub struct Seat {
    /// Orders, a line each.
    pub orders: Box<dyn BufRead + Send>,
    /// Replies, a line each.
    pub replies: Box<dyn Write + Send>,
    /// Samples and progress.
    pub region: Region,
}

/// Serves the seats of this process, each in its own thread: reads its orders until they close or say so, and replies. It
/// returns when all have ended, or as soon as one has failed: what the others hold goes with the process.
///
/// # Errors
/// Where the other side is not a controller of this version, or the driver hangs at the end. What fails in an order is
/// replied, not returned.
pub fn serve(seats: Vec<Seat>) -> Result<(), TenantError> {
    let commons = Arc::new(Commons::default());
    let (ending, ended) = channel();
    let mut serving = seats.len();
    for (index, Seat { orders, replies, region }) in seats.into_iter().enumerate() {
        let (commons, mut ending) = (Arc::clone(&commons), Ending(Some(ending.clone())));
        // Named as its worker is not: whose core it is on is set with the first load.
        let thread = thread::Builder::new().name(format!("seat-{index}"));
        let serve = move || ending.say(serve_with(orders, replies, Arc::new(region), commons, Driver::load));
        thread.spawn(serve).map_err(TenantError::Thread)?;
    }
    while serving > 0 {
        // Nobody is silent: each thread says how it ended, whatever happens to it.
        ended.recv().unwrap_or(Err(TenantError::Panicked))?;
        serving -= 1;
    }
    Ok(())
}

/// Says how a seat ended, also where its thread panics.
struct Ending(Option<Sender<Result<(), TenantError>>>);

impl Ending {
    fn say(&mut self, how: Result<(), TenantError>) {
        if let Some(to) = self.0.take() {
            // The process ends already where nobody listens.
            let _ = to.send(how);
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.say(Err(TenantError::Panicked));
    }
}

fn serve_with(
    mut input: impl BufRead,
    output: impl Write + Send + 'static,
    region: Arc<Region>,
    commons: Arc<Commons>,
    driver: fn() -> Result<&'static Driver, CudaError>,
) -> Result<(), TenantError> {
    let attention = Arc::new(Attention::default());
    let (orders, inbox) = channel();
    let (farewell, ended) = channel();
    let (attention_of_worker, reader) = (Arc::clone(&attention), Tid::mine());
    let worker = Worker { inbox, output, region, attention: attention_of_worker, commons, driver, reader, noise: None };
    let worker = thread::Builder::new()
        .name("worker".to_owned())
        .spawn(move || {
            let result = worker.work();
            // Nobody listens after the farewell's time is over.
            let _ = farewell.send(());
            result
        })
        .map_err(TenantError::Thread)?;
    let read = loop {
        match transport::read(&mut input) {
            Ok(Some(order)) => {
                let last = matches!(order, Order::End {});
                attention.received.fetch_add(1, Ordering::Relaxed);
                if orders.send(order).is_err() || last {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(TenantError::Read(error)),
        }
    };
    // Whatever runs stops, for nobody waits for it.
    attention.received.fetch_add(1, Ordering::Relaxed);
    drop(orders);
    match ended.recv_timeout(FAREWELL) {
        Err(RecvTimeoutError::Timeout) => return read.and(Err(TenantError::Stuck)),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {}
    }
    read.and(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// The thread that touches the device.
struct Worker<W> {
    inbox: Receiver<Order>,
    output: W,
    region: Arc<Region>,
    attention: Arc<Attention>,
    commons: Arc<Commons>,
    driver: fn() -> Result<&'static Driver, CudaError>,
    /// The thread that reads its orders.
    reader: Tid,
    /// What became of noise that has ended, until somebody asks.
    noise: Option<Result<QuietDone, Failed>>,
}

impl<W: Write> Worker<W> {
    fn work(mut self) -> Result<(), TenantError> {
        let mut holdings: Option<Holdings> = None;
        let mut witness = Witness::default();
        witness.faulty.count_into(Arc::clone(&self.region));
        let mut threads = 1;
        match self.next() {
            None => return Ok(()),
            Some(Order::Hello { protocol, .. }) => {
                let crosstalk = env!("CARGO_PKG_VERSION").to_owned();
                self.reply(&Reply::Hello { protocol: PROTOCOL, crosstalk, pid: std::process::id() })?;
                if protocol != PROTOCOL {
                    return Err(TenantError::Version(protocol));
                }
            }
            Some(_) => return Err(TenantError::Order("the first order must be hello")),
        }
        while let Some(order) = self.next_awake(holdings.as_ref()) {
            let reply = match order {
                Order::Hello { .. } => return Err(TenantError::Order("hello was said twice")),
                Order::Load(load) => {
                    // Everything before is freed first: the new programs may need its room.
                    holdings = None;
                    threads = if load.spin && load.cores.len() > 1 { 2 } else { 1 };
                    // The process may have the cores of other seats, too: its reader stays off those.
                    keep_on(self.reader, &load.cores);
                    let loaded = hands::settle(load.cores.first().copied())
                        .and_then(|()| Holdings::load(load, self.driver, &self.commons, threads));
                    match loaded {
                        Ok((held, loaded)) => {
                            holdings = Some(held);
                            Reply::Loaded(loaded)
                        }
                        Err(failed) => Reply::Failed(failed),
                    }
                }
                Order::Window(order) => match &mut holdings {
                    Some(holdings) => window::run(holdings, &order, &self.region, &self.attention, threads)
                        .map_or_else(Reply::Failed, Reply::Window),
                    None => Reply::Failed(nothing_loaded()),
                },
                Order::Noise(order) => {
                    match &mut holdings {
                        Some(holdings) => self.make_noise(holdings, &order)?,
                        None => self.reply(&Reply::Failed(nothing_loaded()))?,
                    }
                    continue;
                }
                Order::Quiet {} => match self.noise.take() {
                    Some(ended) => ended.map_or_else(Reply::Failed, Reply::Quiet),
                    None => Reply::Quiet(QuietDone { last: None, oom: Vec::new(), failed: 0 }),
                },
                Order::Examine { ceilings } => match &mut holdings {
                    Some(holdings) => examine::run(holdings, ceilings).map_or_else(Reply::Failed, Reply::Examined),
                    None => Reply::Failed(nothing_loaded()),
                },
                Order::Ask(question) => {
                    witness.answer(question, self.driver).map_or_else(Reply::Failed, Reply::Answered)
                }
                Order::End {} => {
                    drop((holdings, witness));
                    return self.reply(&Reply::Ended {});
                }
            };
            self.reply(&reply)?;
        }
        Ok(())
    }

    /// Noise until the next order. It is answered from within, as soon as it has begun; how it ended is for `quiet`.
    fn make_noise(
        &mut self,
        holdings: &mut Holdings,
        order: &crate::tenant::protocol::NoiseOrder,
    ) -> Result<(), TenantError> {
        let mut answered = None;
        let ended = noise::run(holdings, order, &self.region, &self.attention, || {
            let sent = transport::write(&mut self.output, &Reply::Noise {});
            let heard = sent.is_ok();
            answered = Some(sent);
            heard
        });
        match (answered, ended) {
            (Some(sent), ended) => {
                self.noise = Some(ended);
                sent.map_err(TenantError::Reply)
            }
            // It never began.
            (None, Err(failed)) => self.reply(&Reply::Failed(failed)),
            (None, Ok(_)) => Ok(()),
        }
    }

    fn next(&mut self) -> Option<Order> {
        let order = self.inbox.recv().ok()?;
        self.attention.taken.fetch_add(1, Ordering::Relaxed);
        Some(order)
    }

    /// The next order. Until it comes nothing falls asleep that is to be kept awake.
    fn next_awake(&mut self, holdings: Option<&Holdings>) -> Option<Order> {
        let awake = holdings.and_then(|held| Some((held.gpu.as_ref()?, held.load.keep_awake?)));
        let Some((gpu, every)) = awake else { return self.next() };
        let order = loop {
            match self.inbox.recv_timeout(Duration::from_nanos(every.0)) {
                Ok(order) => break order,
                Err(RecvTimeoutError::Timeout) => gpu.keep_awake(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        };
        self.attention.taken.fetch_add(1, Ordering::Relaxed);
        Some(order)
    }

    fn reply(&mut self, reply: &Reply) -> Result<(), TenantError> {
        transport::write(&mut self.output, reply).map_err(TenantError::Reply)
    }
}

fn nothing_loaded() -> Failed {
    failed("nothing is loaded")
}
