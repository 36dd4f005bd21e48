//! A process beside the tenants of the arms, which asks the driver what no latency shows. It loads no program.

use super::gpu::failed;
use super::witness_fault::{self, Faulty};
use super::witness_memory::CudaStore;
use super::witness_pattern::Patterns;
use crate::cuda::peer::{IpcHandle, Mapped, Primary, can_access_peer, hand_out, read, write};
use crate::cuda::{CudaError, Device, DeviceBuffer, Driver, OUT_OF_MEMORY, Stream, settle_default_stream};
use crate::host::clock::now;
use crate::nccl::{Identity, Nccl, NcclError};
use crate::tenant::fault::FaultQuestion;
use crate::tenant::memory::Holder;
use crate::tenant::protocol::Failed;
use crate::tenant::question::{Answer, Borrowed, DeviceLine, PeersSeen, Question, Reduced, Refusal, pattern};
use crate::units::Nanos;

/// Copies are repeated until they have taken this long.
const LONG_ENOUGH: Nanos = Nanos::millis(100);
/// Bytes of one copy whose rate is measured; less where memory is scarce.
const COPIED: u64 = 64 << 20;
/// Bytes that are compared with the pattern.
const COMPARED: usize = 1 << 20;
/// Floats of an all-reduce: 4 MiB.
const FLOATS: usize = 1 << 20;
/// All-reduces whose rate is measured, after one that nobody times.
const REDUCTIONS: u32 = 20;

/// What it holds. Memory is dropped before the context that it lives in: fields in this order.
#[derive(Default)]
pub(super) struct Witness {
    memory: Option<Holder<CudaStore>>,
    patterns: Option<Patterns>,
    pub(super) faulty: Faulty,
    lent: Vec<DeviceBuffer>,
    home: Option<Primary>,
}

/// What ends an answer early.
pub(super) enum Stop {
    /// The driver refuses what was asked for: that is the answer.
    Refused(Refusal),
    /// It could not be asked.
    Failed(Failed),
}

impl From<CudaError> for Stop {
    fn from(error: CudaError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Failed> for Stop {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

/// The driver's refusal of what is asked; a lack of memory is none.
pub(super) fn refusal(error: CudaError) -> Stop {
    if error.code == Some(OUT_OF_MEMORY) {
        return Stop::Failed(error.into());
    }
    Stop::Refused(Refusal { call: error.call.to_owned(), what: error.what, code: error.code })
}

fn nccl_refusal(error: NcclError) -> Stop {
    Stop::Refused(Refusal { call: error.call.to_owned(), what: error.what, code: Some(error.code) })
}

impl Witness {
    /// Answers.
    ///
    /// # Errors
    /// Where the question could not be put to the driver at all.
    pub(super) fn answer(
        &mut self,
        question: Question,
        driver: fn() -> Result<&'static Driver, CudaError>,
    ) -> Result<Answer, Failed> {
        let answered = match question {
            Question::Meet {} => meet(),
            Question::Fault(FaultQuestion::Listed { gpu }) => {
                witness_fault::listed(&gpu).map(Answer::Fault).map_err(|error| Stop::Failed(failed(error)))
            }
            other => driver().map_err(Stop::from).and_then(|driver| {
                let init = driver.init();
                // Where a fault was taken, that a process does not come up is what is asked for.
                if let (Question::Fault(_), Err(error)) = (&other, &init) {
                    let CudaError { call, what, code, .. } = error.clone();
                    return Err(Stop::Refused(Refusal { call: call.to_owned(), what, code }));
                }
                init?;
                self.ask(driver, other)
            }),
        };
        match answered {
            Ok(answer) => Ok(answer),
            Err(Stop::Refused(refusal)) => Ok(Answer::Refused(refusal)),
            Err(Stop::Failed(failed)) => Err(failed),
        }
    }

    fn ask(&mut self, driver: &'static Driver, question: Question) -> Result<Answer, Stop> {
        match question {
            Question::Devices {} => Ok(Answer::Devices(devices(driver)?.iter().map(line).collect::<Result<_, _>>()?)),
            Question::Peers {} => Ok(Answer::Peers(peers(driver)?)),
            Question::Lend { bytes, seed } => {
                self.home(driver)?;
                let buffer = DeviceBuffer::new(driver, bytes)?;
                let text: Vec<u8> = (0..compared(bytes)).map(|index| pattern(seed, index)).collect();
                write(driver, &buffer, &text)?;
                let handle = hand_out(driver, &buffer).map_err(refusal)?.to_hex();
                self.lent.push(buffer);
                Ok(Answer::Lent { handle })
            }
            Question::Borrow { handle, bytes, seed } => {
                let handle = IpcHandle::from_hex(&handle).ok_or_else(|| failed("what was handed out is no handle"))?;
                self.home(driver)?;
                let mapped = Mapped::open(driver, handle).map_err(refusal)?;
                let found = read(driver, mapped.address(), compared(bytes)).map_err(refusal)?;
                let matches = found.iter().enumerate().all(|(index, byte)| *byte == pattern(seed, index));
                let rate = mapped_rate(driver, &mapped, bytes)?;
                Ok(Answer::Borrowed(Borrowed { matches, bytes_per_second: Some(rate) }))
            }
            Question::Reduce { identity, rank, ranks } => {
                let identity =
                    Identity::from_hex(&identity).ok_or_else(|| failed("what the other rank made is no identity"))?;
                self.home(driver)?;
                reduce(driver, identity, rank, ranks).map(Answer::Reduced)
            }
            Question::Meet {} => meet(),
            Question::Memory(question) => {
                let memory = match &mut self.memory {
                    Some(memory) => memory,
                    none => none.insert(Holder::new(CudaStore::new(driver, Device::get(driver, 0)?))),
                };
                Ok(Answer::Memory(memory.answer(question)))
            }
            Question::Pattern(question) => {
                self.home(driver)?;
                let patterns = match &mut self.patterns {
                    Some(patterns) => patterns,
                    none => none.insert(Patterns::new(driver, &Device::get(driver, 0)?)?),
                };
                patterns.answer(question).map(Answer::Pattern)
            }
            Question::Fault(question) => match self.faulty.answer(driver, question) {
                Ok(answer) => Ok(Answer::Fault(answer)),
                // A lack of memory is an answer, too.
                Err(witness_fault::Stop::Refused(CudaError { call, what, code, .. })) => {
                    Err(Stop::Refused(Refusal { call: call.to_owned(), what, code }))
                }
                Err(witness_fault::Stop::Failed(failed)) => Err(Stop::Failed(failed)),
            },
        }
    }

    /// The context of the only device that it has to do with: the first that it sees.
    fn home(&mut self, driver: &'static Driver) -> Result<(), Stop> {
        if self.home.is_none() {
            self.home = Some(Primary::take(driver, Device::get(driver, 0)?)?);
        }
        Ok(())
    }
}

fn compared(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX).min(COMPARED)
}

fn devices(driver: &'static Driver) -> Result<Vec<Device>, CudaError> {
    let ordinals = 0..i32::try_from(Device::count(driver)?).unwrap_or(i32::MAX);
    ordinals.map(|ordinal| Device::get(driver, ordinal)).collect()
}

fn line(device: &Device) -> Result<DeviceLine, CudaError> {
    Ok(DeviceLine { uuid: device.uuid()?, name: device.name()?, sms: device.sms()?, memory: device.memory()? })
}

fn peers(driver: &'static Driver) -> Result<PeersSeen, Stop> {
    let all = devices(driver)?;
    let lines = all.iter().map(line).collect::<Result<Vec<_>, _>>()?;
    let mut seen = PeersSeen { devices: lines, can: None, refused: None, bytes_per_second: None };
    let [first, second, ..] = all.as_slice() else { return Ok(seen) };
    let can = can_access_peer(driver, first, second)
        .and_then(|there| Ok([there, can_access_peer(driver, second, first)?]))
        .map_err(refusal)?;
    seen.can = Some(can);
    if can == [true, true] {
        match reach(driver, *first, *second) {
            Ok(rate) => seen.bytes_per_second = Some(rate),
            Err(Stop::Refused(refusal)) => seen.refused = Some(refusal),
            Err(failed) => return Err(failed),
        }
    }
    Ok(seen)
}

/// Reaches from the first device to the second, and back: bytes per second of a copy.
fn reach(driver: &'static Driver, first: Device, second: Device) -> Result<f64, Stop> {
    let there = Primary::take(driver, second)?;
    let here = Primary::take(driver, first)?;
    there.reach_from_current().map_err(refusal)?;
    there.make_current()?;
    here.reach_from_current().map_err(refusal)?;
    let (_, bytes) = room(driver)?;
    let to = DeviceBuffer::new(driver, bytes)?;
    here.make_current()?;
    let from = DeviceBuffer::new(driver, bytes)?;
    here.copy_to(&from, (&there, &to), bytes).map_err(refusal)?;
    settle_default_stream(driver).map_err(refusal)?;
    let measured = rate(driver, bytes, || here.copy_to(&from, (&there, &to), bytes))?;
    // Each buffer is freed in its own context.
    drop(from);
    there.make_current()?;
    drop(to);
    Ok(measured)
}

/// Bytes that are free, and bytes to copy.
fn room(driver: &Driver) -> Result<(u64, u64), CudaError> {
    let (free, _) = crate::cuda::memory_info(driver)?;
    Ok((free, COPIED.min(free / 4).max(1 << 16)))
}

/// Copies from mapped memory to memory of its own.
fn mapped_rate(driver: &'static Driver, mapped: &Mapped, bytes: u64) -> Result<f64, Stop> {
    let bytes = bytes.min(room(driver)?.1);
    let to = DeviceBuffer::new(driver, bytes)?;
    let length = usize::try_from(bytes).unwrap_or(usize::MAX);
    rate(driver, bytes, || {
        // SAFETY: both hold that many bytes and live until `rate` has seen the default stream done.
        let code = unsafe { driver.cuMemcpyDtoDAsync_v2(to.address(), mapped.address(), length, std::ptr::null_mut()) };
        driver.check("cuMemcpyDtoDAsync_v2", code)
    })
}

/// Bytes per second of copies on the default stream.
fn rate(driver: &Driver, bytes: u64, post: impl Fn() -> Result<(), CudaError>) -> Result<f64, Stop> {
    let mut times = 1u64;
    loop {
        let begin = now();
        for _ in 0..times {
            post()?;
        }
        settle_default_stream(driver)?;
        let took = now() - begin;
        if took >= LONG_ENOUGH || times > 1 << 20 {
            return Ok((bytes * times) as f64 / took.as_secs_f64().max(1e-9));
        }
        times *= 2;
    }
}

fn meet() -> Result<Answer, Stop> {
    let nccl = match Nccl::load() {
        Ok(nccl) => nccl,
        Err(why) => return Ok(Answer::Absent { why }),
    };
    let version = nccl.version().map_err(nccl_refusal)?;
    let identity = nccl.identity().map_err(nccl_refusal)?.to_hex();
    Ok(Answer::Met { version, identity })
}

/// One sum over all ranks, checked: rank r gives r + 1 plus a small number for each place, all exact in 24 bits.
fn reduce(driver: &'static Driver, identity: Identity, rank: u32, ranks: u32) -> Result<Reduced, Stop> {
    let nccl = Nccl::load().map_err(failed)?;
    let stream = Stream::new(driver)?;
    let bytes = (FLOATS * size_of::<f32>()) as u64;
    let (from, to) = (DeviceBuffer::new(driver, bytes)?, DeviceBuffer::new(driver, bytes)?);
    let own: Vec<u8> = (0..FLOATS).flat_map(|place| given(rank, place).to_le_bytes()).collect();
    write(driver, &from, &own)?;
    let communicator = nccl.join(identity, rank, ranks).map_err(nccl_refusal)?;
    let once = || {
        // SAFETY: both hold so many floats, and live until the stream is done, below.
        unsafe { communicator.all_reduce(from.address(), to.address(), FLOATS, stream.handle()) }
    };
    once().map_err(nccl_refusal)?;
    stream.synchronize().map_err(refusal)?;
    let sum = read(driver, to.address(), FLOATS * size_of::<f32>())?;
    let right = sum.chunks_exact(size_of::<f32>()).enumerate().all(|(place, bytes)| {
        let expected: f32 = (0..ranks).map(|rank| given(rank, place)).sum();
        bytes == expected.to_le_bytes()
    });
    let mut bytes_per_second = None;
    if right {
        let begin = now();
        for _ in 0..REDUCTIONS {
            once().map_err(nccl_refusal)?;
        }
        stream.synchronize().map_err(refusal)?;
        bytes_per_second = Some((bytes * u64::from(REDUCTIONS)) as f64 / (now() - begin).as_secs_f64().max(1e-9));
    }
    Ok(Reduced { right, bytes_per_second })
}

/// What `rank` gives in `place`: whole numbers below 2²⁴, so that their sum is exact in any order.
fn given(rank: u32, place: usize) -> f32 {
    (rank + 1) as f32 + (place % 1024) as f32
}
