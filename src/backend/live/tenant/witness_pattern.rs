//! Patterns in device memory: planted, held to what was written, looked for.

use std::ffi::c_void;

use super::gpu::{Kernels, failed, zero, zeroed};
use super::witness::{Stop, refusal};
use crate::cuda::{CudaError, Device, DeviceBuffer, Driver, OUT_OF_MEMORY, PinnedBuffer, Stream, memory_info};
use crate::field::Kind;
use crate::hazard::Changed;
use crate::tenant::pattern::{Checked, Looked, PatternAnswer, PatternQuestion, Planted, Trespassed};
use crate::tenant::protocol::Failed;
use crate::units::{Bytes, Share};
use crate::workload::pattern::{
    CHECK, FILL, Report, SCAN, SHARED_BYTES, SHARED_FILL, SHARED_SCAN, VECTOR, WORD, over_memory, over_shared, word,
};
use crate::workload::{Arg, Kernel, LaunchArgs, ParamType, Stamp, State};

/// The largest piece that is asked for, and the least: the unit in which a driver maps memory.
const LARGEST: u64 = 8 << 30;
const LEAST: u64 = 2 << 20;
/// Bytes that are reached for outside.
const REACHED: u64 = 4096;
/// How far behind its own memory: beyond what a driver may have mapped along with it.
const BEHIND: u64 = 64 << 20;

/// What a process has planted, or holds. Memory is dropped before the modules whose kernels write it.
pub(super) struct Patterns {
    pieces: Vec<DeviceBuffer>,
    tag: u64,
    state: DeviceBuffer,
    report: DeviceBuffer,
    stamp: PinnedBuffer,
    /// Where what is read of the device arrives: had before all memory is taken, for then there may be none for it.
    landing: PinnedBuffer,
    stream: Stream,
    kernels: Kernels,
    sms: u32,
    all: u64,
    driver: &'static Driver,
}

/// What a launch found.
struct Found {
    report: Report,
    /// What its checksum is less than its reference: words that a check did not find right.
    short: u32,
}

impl Patterns {
    /// Gets ready in the current context, all modules loaded: from here on memory is taken for patterns alone.
    pub(super) fn new(driver: &'static Driver, device: &Device) -> Result<Self, CudaError> {
        let (_, seen) = memory_info(driver)?;
        let mut kernels = Kernels::new(driver, device.compute_capability()?);
        for kernel in [&FILL, &CHECK, &SCAN, &SHARED_FILL, &SHARED_SCAN] {
            kernels.function(kernel)?;
        }
        Ok(Self {
            pieces: Vec::new(),
            tag: 0,
            state: zeroed(driver, size_of::<State>() as u64)?,
            report: zeroed(driver, size_of::<Report>() as u64)?,
            stamp: PinnedBuffer::new(driver, size_of::<Stamp>())?,
            landing: PinnedBuffer::new(driver, size_of::<Report>())?,
            stream: Stream::new(driver)?,
            kernels,
            sms: device.sms()?,
            // A limit of the tenant's own makes one of them less: what the device has is the most.
            all: device.memory()?.max(seen),
            driver,
        })
    }

    pub(super) fn answer(&mut self, question: PatternQuestion) -> Result<PatternAnswer, Stop> {
        match question {
            PatternQuestion::Plant { size, tag } => self.plant(&size, tag).map(PatternAnswer::Planted),
            PatternQuestion::Check {} => self.check().map(PatternAnswer::Checked),
            PatternQuestion::Look { tag } => self.look(tag).map(PatternAnswer::Looked),
            PatternQuestion::PlantShared { tag } => self.plant_shared(tag).map(PatternAnswer::Planted),
            PatternQuestion::LookShared { tag } => self.look_shared(tag).map(PatternAnswer::Looked),
            PatternQuestion::Trespass { address, write, tag } => {
                self.trespass(address, write, tag).map(PatternAnswer::Trespassed)
            }
            // As programs end that are ended: nothing is freed, and nobody is told.
            PatternQuestion::Leave {} => std::process::exit(0),
        }
    }

    fn plant(&mut self, size: &str, tag: u64) -> Result<Planted, Stop> {
        let (_, seen) = memory_info(self.driver)?;
        self.pieces.clear();
        self.take(Some(bytes_of(size, seen)?))?;
        self.tag = tag;
        for (address, bytes) in self.ranges() {
            self.whole(&FILL, over_memory(self.sms), &[address, bytes, tag, address])?;
        }
        let seen = self.look_at(tag)?;
        Ok(Planted { pieces: self.ranges(), bytes: seen.bytes, seen: seen.found, all: self.all })
    }

    fn check(&mut self) -> Result<Checked, Stop> {
        let mut all = Checked::default();
        for (address, bytes) in self.ranges() {
            let found = self.launch(&CHECK, over_memory(self.sms), &[address, bytes, self.tag, address])?;
            let changed = found.report.count;
            if found.short != changed as u32 {
                return Err(wrong_result(&CHECK));
            }
            all.words += bytes / WORD;
            all.changed += changed;
            if let (None, Some((first, _))) = (all.first, found.report.range()) {
                let address = address + first;
                let there = match found.report.first_word() {
                    Some(word) => word,
                    None => self.fetch(address, size_of::<u64>())?.try_into().map_or(0, u64::from_le_bytes),
                };
                all.first = Some(Changed { address, expected: word(self.tag, address), found: there });
            }
        }
        Ok(all)
    }

    fn look(&mut self, tag: u64) -> Result<Looked, Stop> {
        self.take(None)?;
        self.look_at(tag)
    }

    /// Looks at all that it holds.
    fn look_at(&mut self, tag: u64) -> Result<Looked, Stop> {
        let mut all = Looked { bytes: 0, found: 0, range: None, all: self.all };
        for (address, bytes) in self.ranges() {
            let report = self.whole(&SCAN, over_memory(self.sms), &[address, bytes, tag])?;
            all.found += report.count;
            if let Some((first, last)) = report.range() {
                let from = all.range.map_or(all.bytes + first, |(from, _)| from);
                all.range = Some((from, all.bytes + last));
            }
            all.bytes += bytes;
        }
        Ok(all)
    }

    fn plant_shared(&mut self, tag: u64) -> Result<Planted, Stop> {
        let shape = over_shared(self.sms);
        self.whole(&SHARED_FILL, shape, &[tag])?;
        let seen = self.look_shared(tag)?;
        // The look may have left something else there.
        self.whole(&SHARED_FILL, shape, &[tag])?;
        Ok(Planted { pieces: Vec::new(), bytes: seen.bytes, seen: seen.found, all: seen.bytes })
    }

    fn look_shared(&mut self, tag: u64) -> Result<Looked, Stop> {
        let shape = over_shared(self.sms);
        let report = self.whole(&SHARED_SCAN, shape, &[tag])?;
        let bytes = u64::from(shape.0) * SHARED_BYTES;
        Ok(Looked { bytes, found: report.count, range: report.range(), all: bytes })
    }

    fn trespass(&mut self, address: Option<u64>, write: bool, tag: u64) -> Result<Trespassed, Stop> {
        // One that holds all that there is has an allocation to reach beyond.
        let own = match self.pieces.is_empty() {
            true => Some(DeviceBuffer::new(self.driver, LEAST)?),
            false => None,
        };
        let held = || self.pieces.iter().chain(&own).chain([&self.state, &self.report]);
        let in_the_way = |address: u64| {
            held().find(|piece| address + REACHED > piece.address() && address < piece.address() + piece.bytes())
        };
        let address = address.or_else(|| {
            let mut behind = held().next().map(|piece| piece.address() + piece.bytes() + BEHIND)?;
            // The driver may have put the next of its own there: behind that one, then.
            while let Some(piece) = in_the_way(behind) {
                behind = piece.address() + piece.bytes() + BEHIND;
            }
            Some(behind)
        });
        let Some(address) = address.filter(|address| in_the_way(*address).is_none()) else {
            return Err(failed("what was to be reached for lies in memory of its own: nothing can be told").into());
        };
        let done = if write {
            self.launch(&FILL, over_memory(self.sms), &[address, REACHED, tag, address])
        } else {
            self.launch(&SCAN, over_memory(self.sms), &[address, REACHED, tag])
        };
        match done {
            Ok(found) => Ok(Trespassed { address, refused: None, found: found.report.count }),
            Err(error) => match refusal(error) {
                Stop::Refused(refused) => Ok(Trespassed { address, refused: Some(refused), found: 0 }),
                failed => Err(failed),
            },
        }
    }

    /// Takes memory until it has `most`, or gets no more: in large pieces first, and where one is refused in halves of it.
    fn take(&mut self, most: Option<u64>) -> Result<(), CudaError> {
        let mut piece = LARGEST;
        while piece >= LEAST {
            let held: u64 = self.pieces.iter().map(DeviceBuffer::bytes).sum();
            let left = most.map_or(u64::MAX, |most| most.saturating_sub(held) / VECTOR * VECTOR);
            if left == 0 {
                break;
            }
            match DeviceBuffer::new(self.driver, piece.min(left)) {
                Ok(buffer) => self.pieces.push(buffer),
                Err(error) if error.code == Some(OUT_OF_MEMORY) => piece /= 2,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads memory that it holds, a report at most.
    fn fetch(&self, address: u64, length: usize) -> Result<Vec<u8>, CudaError> {
        let length = length.min(size_of::<Report>());
        let (host, stream) = (self.landing.host(), self.stream.handle());
        // SAFETY: the landing holds so many bytes, and so does the device at that address by the caller's word; both live
        // until the stream is done, below.
        let code = unsafe { self.driver.cuMemcpyDtoHAsync_v2(host.cast::<c_void>(), address, length, stream) };
        self.driver.check("cuMemcpyDtoHAsync_v2", code)?;
        self.stream.synchronize()?;
        // SAFETY: pinned memory of that length, zeroed when it was allocated, that nothing writes any more.
        Ok(unsafe { std::slice::from_raw_parts(host, length) }.to_vec())
    }

    fn ranges(&self) -> Vec<(u64, u64)> {
        self.pieces.iter().map(|piece| (piece.address(), piece.bytes())).collect()
    }

    /// A launch whose checksum must be its reference.
    fn whole(&mut self, kernel: &'static Kernel, shape: (u32, u32), given: &[u64]) -> Result<Report, Stop> {
        let found = self.launch(kernel, shape, given)?;
        if found.short == 0 { Ok(found.report) } else { Err(wrong_result(kernel)) }
    }

    /// Launches a kernel on these arguments, those that it ends with left out, and waits.
    fn launch(&mut self, kernel: &'static Kernel, shape: (u32, u32), given: &[u64]) -> Result<Found, CudaError> {
        let driver = self.driver;
        zero(driver, self.report.address(), self.report.bytes())?;
        let function = self.kernels.function(kernel)?;
        let mut values = given.to_vec();
        // A report is the last parameter of those that have one.
        if values.len() < kernel.params.len() {
            values.push(self.report.address());
        }
        let args: Vec<Arg> = values
            .iter()
            .zip(kernel.params)
            .map(|(value, param)| if *param == ParamType::Pointer { Arg::Buffer(0) } else { Arg::U64(*value) })
            .collect();
        values.extend([self.state.address(), self.stamp.device(), 1]);
        let cells: Vec<u64> = values.iter().map(|value| value.to_le()).collect();
        let mut params: Vec<*mut c_void> =
            cells.iter().map(|cell| (&raw const *cell).cast_mut().cast::<c_void>()).collect();
        // SAFETY: the function is alive; there is a value for each parameter of the kernel and the three behind them, as wide
        // or wider, little-endian; all of them live until the call returns. What the kernel writes lies in memory that this
        // process holds until the stream is done; an address that is not its own is the question, and the driver's matter.
        let code = unsafe {
            driver.cuLaunchKernel(
                function,
                shape.0,
                1,
                1,
                shape.1,
                1,
                1,
                0,
                self.stream.handle(),
                params.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        driver.check("cuLaunchKernel", code)?;
        self.stream.synchronize()?;
        // SAFETY: pinned memory of a stamp's size, aligned to a page, that nothing writes once the stream is done.
        let stamp = unsafe { self.stamp.host().cast::<Stamp>().read_volatile() };
        let report = Report::read(&self.fetch(self.report.address(), size_of::<Report>())?).unwrap_or_default();
        let reference = (kernel.reference)(&LaunchArgs { grid: shape.0, block: shape.1, args: &args });
        Ok(Found { report, short: reference.wrapping_sub(stamp.checksum) })
    }
}

fn wrong_result(kernel: &Kernel) -> Stop {
    let what = format!("{} did not go over all words: nothing that it found can be trusted", kernel.symbol);
    Stop::Failed(Failed { wrong_result: true, ..failed(what) })
}

/// Bytes of a size as a scenario writes it, whole vectors; shares are of `all`.
fn bytes_of(size: &str, all: u64) -> Result<u64, Failed> {
    let kind = Kind::Size { min: Bytes(VECTOR), max: Bytes::gib(1024) };
    let bytes = match kind.parse(size).map_err(failed)? {
        crate::field::Value::Bytes(bytes) => bytes.0,
        crate::field::Value::Share(share) => Share::of(share, all),
        other => return Err(failed(format!("{other} is no size"))),
    };
    Ok(bytes / VECTOR * VECTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_vectors_and_shares_are_of_what_is_seen() {
        assert_eq!(bytes_of("1MiB", 7).unwrap(), 1 << 20);
        assert_eq!(bytes_of("50%", 100).unwrap(), 48);
        assert!(bytes_of("3 fish", 100).is_err());
    }
}
