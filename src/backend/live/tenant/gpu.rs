//! The device that a tenant holds: context, streams, kernels, and launches that are waited for one by one.

use cudarc::driver::sys::CUfunction;

use super::commons::{Commons, Home};
use super::compile::{STREAMS, Site, compile};
use super::request::Request;
use super::view;
use super::wait::Patience;
use crate::cuda::{
    CudaError, Device, DeviceBuffer, Driver, Module, SUCCESS, Stream, memory_info, settle_default_stream,
};
use crate::gpu::{is_mig_uuid, is_same_device};
use crate::host::clock::now;
use crate::tenant::protocol::{ClockSync, DeviceSeen, Failed, Load};
use crate::units::Nanos;
use crate::workload::{Buffer, Enqueue, GpuView, Kernel, Op, Program, STAMP, Stamp, State, ptx};

/// Launches that tie the clocks together, of which the quickest counts.
const SYNCS: u32 = 16;
/// CU_FUNC_ATTRIBUTE_NUM_REGS.
const REGISTERS: i32 = 4;
/// Kernels whose footprint is sized by the largest L1 that an SM has. With others the preference would cost blocks: each
/// needs shared memory, of its own and 1 KiB reserved (CUDA programming guide, compute capability 8.0 and later).
const ALL_L1: [&str; 2] = ["chase_l1", "l1_read"];
/// Launches that measure the step of %globaltimer.
const TICKS: u32 = 64;

impl From<CudaError> for Failed {
    fn from(error: CudaError) -> Self {
        Self { what: error.to_string(), code: error.code, usable: !error.is_sticky(), wrong_result: false }
    }
}

/// A failure that is not the driver's and leaves the tenant usable.
pub(super) fn failed(what: impl Into<String>) -> Failed {
    Failed { what: what.into(), code: None, usable: true, wrong_result: false }
}

/// The device that a tenant holds. What lives in the context is dropped before it: fields in this order.
pub(super) struct Gpu {
    /// Stamps alone: for the clocks, and to keep awake.
    beat: Request,
    beats: u64,
    _beat_state: DeviceBuffer,
    pub(super) streams: [Stream; STREAMS],
    kernels: Kernels,
    pub(super) home: Home,
    pub(super) device: Device,
    pub(super) driver: &'static Driver,
    pub(super) seen: DeviceSeen,
    pub(super) view: GpuView,
    /// Step of %globaltimer.
    pub(super) tick: Nanos,
    pub(super) patience: Patience,
}

impl Gpu {
    /// Takes the device that `load` orders, in a context of its own or in what the seats of the process have in common.
    ///
    /// # Errors
    /// Where the driver fails, or the process does not see that device and no other.
    pub(super) fn take(
        driver: &'static Driver,
        uuid: &str,
        load: &Load,
        commons: &Commons,
        patience: Patience,
    ) -> Result<Self, Failed> {
        driver.init()?;
        let count = Device::count(driver)?;
        if count != 1 {
            return Err(failed(format!(
                "this process sees {count} devices and must see exactly {uuid}: check CUDA_VISIBLE_DEVICES"
            )));
        }
        let device = Device::get(driver, 0)?;
        let seen = format!("{}{}", if is_mig_uuid(uuid) { "MIG-" } else { "GPU-" }, device.uuid()?);
        if !is_same_device(uuid, &seen) {
            return Err(failed(format!(
                "this process was to see {uuid} and sees {seen}: the layout has changed since it was read"
            )));
        }
        let (major, minor) = device.compute_capability()?;
        let home = commons.home(driver, device, load)?;
        let (free, total) = memory_info(driver)?;
        let seen = DeviceSeen {
            uuid: seen,
            name: device.name()?,
            count,
            compute_capability: format!("{major}.{minor}"),
            sms: device.sms()?,
            green_sms: home.green_sms(),
            memory: device.memory()?.min(total),
            free,
            cuda: driver.version()?,
        };
        let view = view::view(&device, &seen, load.model.as_deref(), (major, minor), is_mig_uuid(uuid));
        let streams = [home.stream(driver)?, home.stream(driver)?];
        let mut kernels = Kernels::new(driver, (major, minor));
        let state = zeroed(driver, size_of::<State>() as u64)?;
        let beat = compile(
            &launch_once(&STAMP, 1, 32, Vec::new()),
            Site {
                driver,
                function: &mut |kernel| kernels.function(kernel),
                streams: &streams,
                buffers: &[],
                states: [state.address(); STREAMS],
                slots: 1,
                noise: false,
            },
        )?;
        let mut gpu = Self {
            beat,
            beats: 0,
            _beat_state: state,
            streams,
            kernels,
            home,
            device,
            driver,
            seen,
            view,
            tick: Nanos(1),
            patience,
        };
        gpu.tick = gpu.measure_tick()?;
        Ok(gpu)
    }

    /// Compiles a program whose buffers are at `buffers`.
    ///
    /// # Errors
    /// See [`compile`].
    pub(super) fn compile(
        &mut self,
        program: &Program,
        buffers: &[u64],
        states: [u64; STREAMS],
        slots: usize,
        noise: bool,
    ) -> Result<Request, CudaError> {
        let Self { kernels, streams, driver, .. } = self;
        let function = &mut |kernel: &Kernel| kernels.function(kernel);
        compile(program, Site { driver, function, streams, buffers, states, slots, noise })
    }

    /// The function of a kernel, loaded.
    ///
    /// # Errors
    /// Where there is none for this device, or the driver does not take it.
    pub(super) fn function(&mut self, kernel: &Kernel) -> Result<CUfunction, CudaError> {
        self.kernels.function(kernel)
    }

    /// Registers that a thread of a kernel takes, as the driver has compiled it.
    ///
    /// # Errors
    /// The driver's own.
    pub(super) fn registers(&mut self, kernel: &Kernel) -> Result<u32, CudaError> {
        let function = self.function(kernel)?;
        let mut value = 0;
        // SAFETY: the pointer is valid for the call, the function alive.
        let code = unsafe { self.driver.cuFuncGetAttribute(&raw mut value, REGISTERS, function) };
        self.driver.check("cuFuncGetAttribute", code)?;
        Ok(u32::try_from(value).unwrap_or(0))
    }

    /// Launches a kernel once, waits, and checks its checksum.
    ///
    /// # Errors
    /// Where it fails, hangs, or its checksum is wrong.
    pub(super) fn call(&mut self, program: &Program, buffers: &[u64]) -> Result<(), Failed> {
        let state = zeroed(self.driver, size_of::<State>() as u64)?;
        let request = self.compile(program, buffers, [state.address(); STREAMS], 1, false)?;
        self.run(&request, 0).map(drop)
    }

    /// Posts request `n`, waits for all its stamps, and checks their checksums. Returns the last stamp.
    ///
    /// # Errors
    /// Where it fails, hangs, or a checksum is wrong.
    pub(super) fn run(&self, request: &Request, n: u64) -> Result<Stamp, Failed> {
        let code = request.post(self.driver, n);
        if code != SUCCESS {
            return Err(self.driver.error("posting a request", code).into());
        }
        let mut last = Stamp::default();
        let mut wrong = None;
        for (index, point) in request.points.iter().enumerate() {
            let mut wait = self.patience.wait();
            last = loop {
                if let Some(stamp) = request.read(n, index) {
                    break stamp;
                }
                if !wait.pause() {
                    return Err(self.hang());
                }
            };
            if last.checksum != point.expected {
                wrong = Some((last.checksum, point.expected));
            }
        }
        match wrong {
            Some((found, expected)) => {
                let what = format!(
                    "the result is wrong: checksum {found:#010x} where {expected:#010x} is right; nothing measured on \
                     this device can be trusted"
                );
                Err(Failed { wrong_result: true, ..failed(what) })
            }
            None => Ok(last),
        }
    }

    /// Why nothing comes back: what the driver says, or that it says nothing.
    pub(super) fn hang(&self) -> Failed {
        for stream in &self.streams {
            if let Err(error) = stream.is_idle() {
                return Failed { usable: false, ..error.into() };
            }
        }
        Failed {
            what: format!(
                "the device has not finished within {}: it hangs, or its work is far longer than planned",
                self.patience.limit
            ),
            code: None,
            usable: false,
            wrong_result: false,
        }
    }

    /// Waits until the device is rid of everything that this tenant enqueued.
    ///
    /// # Errors
    /// Where work failed, or hangs.
    pub(super) fn drain(&self) -> Result<(), Failed> {
        for stream in &self.streams {
            let mut wait = self.patience.wait();
            while !stream.is_idle().map_err(|error| Failed { usable: false, ..error.into() })? {
                if !wait.pause() {
                    return Err(self.hang());
                }
            }
        }
        Ok(())
    }

    /// Posts a launch that nobody waits for, so that nothing falls asleep; none behind work that is not done, which keeps
    /// awake by itself and, where it hangs, would let launches pile up until the driver blocks. Codes do not matter: a lost
    /// context shows by the next request.
    pub(super) fn keep_awake(&self) {
        if self.streams[0].is_idle() == Ok(true) {
            let _ = self.beat.flush(self.driver);
        }
    }

    /// Ties the clocks of host and device together.
    ///
    /// # Errors
    /// Where a launch fails or hangs.
    pub(super) fn synchronise(&mut self) -> Result<ClockSync, Failed> {
        let mut beats = Vec::with_capacity(SYNCS as usize);
        for _ in 0..SYNCS {
            let before = now();
            let stamp = self.beat()?;
            beats.push(Beat { before, start: stamp.start_ns, end: stamp.end_ns, after: now() });
        }
        tie(&beats, self.tick).ok_or_else(|| failed("the clocks were never read"))
    }

    fn beat(&mut self) -> Result<Stamp, Failed> {
        let n = self.beats;
        self.beats += 1;
        self.run(&self.beat, n)
    }

    fn measure_tick(&mut self) -> Result<Nanos, Failed> {
        let mut readings = Vec::with_capacity(1 + TICKS as usize);
        for _ in 0..=TICKS {
            let stamp = self.beat()?;
            readings.push((stamp.start_ns, stamp.end_ns));
        }
        Ok(step(&readings))
    }
}

/// A launch that was waited for: on the host when it was posted and seen done, on the device when it ran.
struct Beat {
    before: Nanos,
    start: u64,
    end: u64,
    after: Nanos,
}

/// One moment on both clocks, from launches that were waited for. What is done is seen at once, but what is posted may
/// stand behind a neighbour's work: so the completion that was seen soonest ties the clocks, and the launch that began
/// soonest says how far they may be off. `tick`: the device's clock shows a time up to so much too early.
fn tie(beats: &[Beat], tick: Nanos) -> Option<ClockSync> {
    // Host less device: at most by each completion, at least by each beginning.
    let less = |host: Nanos, device: u64| i128::from(host.0) - i128::from(device);
    let soonest = beats.iter().min_by_key(|beat| less(beat.after, beat.end))?;
    let most = less(soonest.after, soonest.end);
    let least = beats.iter().map(|beat| less(beat.before, beat.start) - i128::from(tick.0)).max()?;
    let error = u64::try_from((most - least).max(0) / 2).unwrap_or(u64::MAX);
    Some(ClockSync { host: soonest.after, device: Nanos(soonest.end), error: Nanos(error) })
}

/// The step of a clock that was read at the start and the end of short blocks. Each reading is a whole number of units,
/// which their greatest common divisor tells; but a clock may be set forward by several units at a time, and then no two
/// readings lie closer than that. The greater of both: too coarse costs little, too fine makes noise a measurement.
fn step(readings: &[(u64, u64)]) -> Nanos {
    let unit = readings.windows(2).fold(0, |unit, pair| gcd(unit, pair[1].1.abs_diff(pair[0].1)));
    let least = readings.iter().map(|(start, end)| end.abs_diff(*start)).filter(|length| *length > 0).min();
    Nanos(unit.max(least.unwrap_or(0)).max(1))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A program of one launch.
pub(super) fn launch_once(kernel: &'static Kernel, grid: u32, block: u32, args: Vec<crate::workload::Arg>) -> Program {
    Program {
        buffers: Vec::<Buffer>::new(),
        request: vec![Op::Enqueue(Enqueue::Launch { kernel, grid, block, args }, 1)],
        footprint: crate::units::Bytes(0),
    }
}

/// Device memory that holds zeros.
///
/// # Errors
/// The driver's own.
pub(super) fn zeroed(driver: &'static Driver, bytes: u64) -> Result<DeviceBuffer, CudaError> {
    let buffer = DeviceBuffer::new(driver, bytes)?;
    zero(driver, buffer.address(), bytes)?;
    Ok(buffer)
}

/// Fills device memory with zeros, and waits for it: the streams that will use it do not.
///
/// # Errors
/// The driver's own.
pub(super) fn zero(driver: &Driver, address: u64, bytes: u64) -> Result<(), CudaError> {
    // SAFETY: the range is one that this tenant allocated.
    let code = unsafe { driver.cuMemsetD8_v2(address, 0, usize::try_from(bytes).unwrap_or(usize::MAX)) };
    driver.check("cuMemsetD8_v2", code)?;
    settle_default_stream(driver)
}

/// Modules, each loaded when its first kernel is asked for.
pub(super) struct Kernels {
    driver: &'static Driver,
    capability: (u32, u32),
    loaded: Vec<(&'static str, Module)>,
}

impl Kernels {
    /// None yet, for a device of this compute capability.
    pub(super) fn new(driver: &'static Driver, capability: (u32, u32)) -> Self {
        Self { driver, capability, loaded: Vec::new() }
    }

    /// The function of a kernel, loaded.
    ///
    /// # Errors
    /// Where there is none for this device, or the driver does not take it.
    pub(super) fn function(&mut self, kernel: &Kernel) -> Result<CUfunction, CudaError> {
        let (major, minor) = self.capability;
        let module = ptx::module(kernel.symbol, self.capability).ok_or_else(|| {
            CudaError::other(
                "kernels",
                format!("{} has no form for compute capability {major}.{minor}: it is not tested here", kernel.symbol),
            )
        })?;
        let known = self.loaded.iter().position(|(loaded, _)| *loaded == module.name);
        let index = match known {
            Some(index) => index,
            None => {
                self.loaded.push((module.name, Module::load(self.driver, module.text())?));
                self.loaded.len() - 1
            }
        };
        Ok(self.loaded[index].1.function(kernel.symbol, ALL_L1.contains(&kernel.symbol))?.handle())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_tied_by_the_completion_seen_soonest_however_long_launches_wait() {
        // The host's clock is 7 ms ahead. Launches stand behind a neighbour for up to a millisecond, save one.
        const AHEAD: u64 = 7_000_000;
        let beat = |posted: u64, waits: u64, seen_after: u64| {
            let (start, end) = (posted + waits, posted + waits + 1_000);
            Beat { before: Nanos(posted + AHEAD), start, end, after: Nanos(end + seen_after + AHEAD) }
        };
        let busy = [beat(10_000, 900_000, 3_000), beat(2_000_000, 700_000, 2_000), beat(4_000_000, 800_000, 9_000)];
        let off = |sync: ClockSync| sync.host.0 - sync.device.0 - AHEAD;
        let tied = tie(&busy, Nanos(32)).unwrap();
        assert_eq!((off(tied), tied.error), (2_000, Nanos((2_000 + 700_000 + 32) / 2)));
        let [a, b, c] = busy;
        let tied = tie(&[a, b, c, beat(6_000_000, 5_000, 4_000)], Nanos(32)).unwrap();
        assert_eq!((off(tied), tied.error), (2_000, Nanos((2_000 + 5_000 + 32) / 2)), "one that went through narrows");
        assert_eq!(tie(&[], Nanos(1)), None);
    }

    #[test]
    fn a_clock_set_forward_by_several_units_has_the_step_of_what_is_seen() {
        assert_eq!(step(&[(0, 1_024), (5_120, 5_120), (7_168, 8_192)]), Nanos(1_024));
        // Units of 32, set forward by about a microsecond.
        assert_eq!(step(&[(0, 992), (4_992, 6_016), (9_984, 9_984)]), Nanos(992));
        // No block that saw it move: the unit is all that is known.
        assert_eq!(step(&[(64, 64), (160, 160), (320, 320)]), Nanos(32));
        assert_eq!(step(&[(5, 5)]), Nanos(1));
    }
}
