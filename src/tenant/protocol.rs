//! Orders to a tenant and its replies: one JSON object a line, for control only. Samples and progress go through a
//! [`Region`](super::Region).
//!
//! The protocol knows no pipe: whatever carries lines will do. One order is in flight at a time, and each is answered by
//! exactly one reply. Times are nanoseconds of CLOCK_MONOTONIC.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::question::{Answer, Question};
use crate::units::{Nanos, Rate, Share};

/// Version of the protocol: both sides must speak the same.
pub const PROTOCOL: u32 = 4;

/// Longest line of either side, bytes.
pub const LONGEST_LINE: usize = 1 << 20;

/// What the controller asks of a tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Order {
    /// The first one: who speaks.
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
        /// Version of crosstalk.
        crosstalk: String,
    },
    /// Take a device, load programs, allocate and touch everything, call everything once.
    Load(Load),
    /// Run one window of a probe.
    Window(WindowOrder),
    /// Start the noise, or the host's loop alone. Answered as soon as the first request was posted.
    Noise(NoiseOrder),
    /// Stop posting and drain. Answered when the last request is done.
    Quiet {},
    /// Say what one request of each program does, what the compiled kernels take, and what the device does at most: for
    /// self-checks.
    Examine {
        /// Whether the device is to be measured, too.
        ceilings: bool,
    },
    /// Ask the driver what no program shows: to a process beside the tenants of the arms.
    Ask(Question),
    /// Free everything and end.
    End {},
}

impl Order {
    /// Its name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Load(_) => "load",
            Self::Window(_) => "window",
            Self::Noise(_) => "noise",
            Self::Quiet {} => "quiet",
            Self::Examine { .. } => "examine",
            Self::Ask(_) => "ask",
            Self::End {} => "end",
        }
    }
}

/// What a tenant answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// To [`Order::Hello`].
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
        /// Version of crosstalk.
        crosstalk: String,
        /// Its process.
        pid: u32,
    },
    /// To [`Order::Load`].
    Loaded(Loaded),
    /// To [`Order::Window`].
    Window(WindowDone),
    /// To [`Order::Noise`]: it has begun.
    Noise {},
    /// To [`Order::Quiet`].
    Quiet(QuietDone),
    /// To [`Order::Examine`].
    Examined(Examined),
    /// To [`Order::Ask`].
    Answered(Answer),
    /// To [`Order::End`].
    Ended {},
    /// The order failed. The tenant can take further orders only if `usable`.
    Failed(Failed),
}

/// What a tenant is to hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// UUID of the device that it must see, and the only one: "GPU-…" or "MIG-…". `None`: it touches no GPU.
    pub device: Option<String>,
    /// Id of the GPU's model, where it is known: for what no driver call tells.
    pub model: Option<String>,
    /// How it shares the device with the other seats of its process; `None`: it has a context of its own.
    pub together: Option<Together>,
    /// Its programs, named as in the plan. A neighbour's buffers share one arena sized to the largest.
    pub programs: Vec<ProgramOrder>,
    /// The buffers of all programs share one arena: neighbours, of which one program runs at a time in an arm.
    pub arena: bool,
    /// Device memory that it holds at least, bytes: what its programs do not allocate, it takes beside them.
    pub budget: Option<u64>,
    /// Most requests in flight of any program.
    pub outstanding: u32,
    /// Cores for its threads, one each. With one or none it runs on a single thread that sleeps.
    pub cores: Vec<u32>,
    /// Whether its threads may spin: each has a core of its own.
    pub spin: bool,
    /// Post an empty kernel after this long without a request, so that neither host nor GPU falls asleep; `None`: never.
    #[serde(rename = "keep_awake_ns")]
    pub keep_awake: Option<Nanos>,
    /// Seed of everything that its buffers hold.
    pub seed: u64,
}

/// How the seats of one process share its device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Together {
    /// Each has streams of its own in the one context of the process.
    Streams {},
    /// Each has a green context: SMs of its own.
    GreenContexts {
        /// Shares of the device's SMs of all seats of the process, in the order of their seats: the same for each.
        shares: Vec<Share>,
        /// Which of them is this seat's.
        index: usize,
    },
}

/// One program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramOrder {
    /// Name in the plan.
    pub name: String,
    /// Workload id.
    pub workload: String,
    /// Its parameters as written: "50%" is of what the tenant sees.
    pub params: BTreeMap<String, String>,
}

/// What a tenant holds, and where it really is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loaded {
    /// The device, as CUDA sees it; `None`: it touches no GPU.
    pub device: Option<DeviceSeen>,
    /// Its programs, in the order of [`Load::programs`].
    pub programs: Vec<ProgramInfo>,
    /// Step of %globaltimer, nanoseconds, as measured.
    #[serde(rename = "tick_ns")]
    pub tick: Option<Nanos>,
    /// Threads that it serves a window with: 2, or 1 where cores are too few.
    pub threads: u32,
}

/// A device as the tenant's own CUDA context sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceSeen {
    /// UUID as the driver gives it to this process: of the GPU, or of the MIG device.
    pub uuid: String,
    /// Name.
    pub name: String,
    /// Devices that the process sees: must be one.
    pub count: u32,
    /// Compute capability ("9.0").
    pub compute_capability: String,
    /// SMs of the device.
    pub sms: u32,
    /// SMs of the green context that it works in, as the driver counts them; `None`: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub green_sms: Option<u32>,
    /// Memory in all, bytes.
    pub memory: u64,
    /// Memory free before the programs were loaded, bytes.
    pub free: u64,
    /// CUDA version that the driver supports, as 1000 × major + 10 × minor.
    pub cuda: u32,
}

/// A program as resolved in its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProgramInfo {
    /// Name in the plan.
    pub name: String,
    /// Device memory that it holds, bytes.
    pub footprint: u64,
    /// What its request is, in words: kernels with their shapes and arguments.
    pub resolved: String,
    /// How long one request took when it was called once, alone.
    #[serde(rename = "once_ns")]
    pub once: Nanos,
    /// Samples that a request makes: 1, and one per mark.
    pub rows: u32,
}

/// One window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowOrder {
    /// Index of the program.
    pub program: usize,
    /// The load.
    pub load: WindowLoad,
    /// Requests in flight at most.
    pub limit: u32,
    /// When it begins. The tenant warms up before; where that takes longer, it begins later and says when.
    #[serde(rename = "start_ns")]
    pub start: Nanos,
    /// Length.
    #[serde(rename = "length_ns")]
    pub length: Nanos,
    /// What is open this long after the end is left open; the tenant then waits until the device is rid of it.
    #[serde(rename = "drain_ns")]
    pub drain: Nanos,
    /// Every planned request is sent this long after its time.
    #[serde(rename = "delay_ns", default)]
    pub delay: Nanos,
}

/// How requests of a window are issued.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum WindowLoad {
    /// At planned times; the tenant makes them itself, from the same stream as the controller does.
    Open {
        /// Mean rate.
        rate: Rate,
        /// Poisson, or evenly spaced.
        poisson: bool,
        /// Seed of the run.
        seed: u64,
        /// Name of the arrangement.
        arrangement: String,
        /// Number of the block.
        block: u32,
        /// Name of the probe.
        probe: String,
    },
    /// As soon as one completes, `limit` in flight.
    Closed,
}

/// What became of a window. Its samples lie in the region, row `id × rows + mark`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowDone {
    /// When it began.
    #[serde(rename = "start_ns")]
    pub start: Nanos,
    /// Requests that were sent.
    pub sent: u64,
    /// Clocks of host and device, tied together just before the window; `None`: without a device.
    pub sync: Option<ClockSync>,
    /// The same just after it, once everything was done: the clocks drift. `None`: without a device, or not to be had.
    pub sync_end: Option<ClockSync>,
    /// Largest gap between two clock reads of a thread that was waiting.
    #[serde(rename = "host_pause_ns")]
    pub host_pause: Nanos,
    /// Mean SM clock over the stamped blocks that ran long enough to tell, MHz.
    pub sm_mhz: Option<f64>,
    /// Allocations that failed.
    pub oom: Vec<OutOfMemory>,
}

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockSync {
    /// On the host: when its launch was seen done.
    #[serde(rename = "host_ns")]
    pub host: Nanos,
    /// On the device.
    #[serde(rename = "device_ns")]
    pub device: Nanos,
    /// Half of what lies between the earliest and the latest that the host's time can be; it is near the latest.
    #[serde(rename = "error_ns")]
    pub error: Nanos,
}

impl ClockSync {
    /// A time of the device on the host's axis: by a straight line through this moment and `end`, where there is a later
    /// one; else both clocks are taken to run at one speed.
    pub fn on_host(&self, end: Option<&Self>, device: Nanos) -> Nanos {
        let since = i128::from(device.0) - i128::from(self.device.0);
        let elapsed = match end {
            Some(end) if end.device > self.device && end.host > self.host => {
                let (device, host) = ((end.device - self.device).0, (end.host - self.host).0);
                since * i128::from(host) / i128::from(device)
            }
            _ => since,
        };
        Nanos(u64::try_from((i128::from(self.host.0) + elapsed).max(0)).unwrap_or(u64::MAX))
    }
}

/// An allocation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutOfMemory {
    /// When.
    #[serde(rename = "at_ns")]
    pub at: Nanos,
    /// Bytes asked for.
    pub asked: u64,
    /// Bytes free as seen from there.
    pub free: u64,
    /// Bytes in all as seen from there.
    pub total: u64,
}

/// The noise of one arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseOrder {
    /// Index of the program; `None`: the host's loop alone, with no call to the driver, as quiet arms have it.
    pub program: Option<usize>,
    /// When it begins.
    #[serde(rename = "start_ns")]
    pub start: Nanos,
    /// Requests that it keeps queued: beyond two only while the queue holds at most 50 ms of work.
    pub queued: u32,
    /// Part of the time in which it is noisy.
    pub duty: Share,
    /// Length of one burst and pause together.
    #[serde(rename = "burst_ns")]
    pub burst: Nanos,
}

/// The neighbour is quiet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuietDone {
    /// When its last request was done; `None`: it posted none.
    #[serde(rename = "last_ns")]
    pub last: Option<Nanos>,
    /// Allocations that failed since it began.
    pub oom: Vec<OutOfMemory>,
    /// Requests whose result was wrong or that failed since it began.
    pub failed: u64,
}

/// What a tenant found out about what it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Examined {
    /// What one request does, in the order of [`Load::programs`].
    pub programs: Vec<Amounts>,
    /// Registers that a thread takes, by kernel, as the driver has compiled it.
    pub registers: BTreeMap<String, u32>,
    /// What the device does at most, where that was asked for.
    pub ceilings: Option<Ceilings>,
}

/// What one request asks of the hardware: sums over its operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amounts {
    /// Launches.
    pub launches: u64,
    /// Bytes that streaming loads ask for.
    pub read: u64,
    /// Bytes that streaming stores write.
    pub written: u64,
    /// Bytes copied to the device.
    pub to_device: u64,
    /// Bytes copied to the host.
    pub to_host: u64,
    /// Dependent loads of one walker.
    pub chain_loads: u64,
    /// SM cycles with all issue slots of the SM used, summed over blocks.
    pub issue_cycles: u64,
    /// Floating-point operations of tensor cores.
    pub tensor_flop: u64,
    /// Memory barriers.
    pub barriers: u64,
    /// Atomic operations.
    pub atomics: u64,
    /// Calls of the host into the driver, or turns of its own loop.
    pub host_calls: u64,
}

/// What the device and the driver do at most, measured by the tenant with nothing of the harness in between.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceilings {
    /// The driver's own copy within the device, bytes read and written per second; `None`: not timed on a stand-in.
    pub device_copy: Option<f64>,
    /// From pinned host memory to the device, bytes per second.
    pub to_device: Option<f64>,
    /// Back, bytes per second.
    pub to_host: Option<f64>,
    /// Median of launching an empty kernel and seeing its word, by a bare loop of the driver's calls.
    #[serde(rename = "round_trip_ns")]
    pub round_trip: Nanos,
}

/// An order that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// What failed, and the cure.
    pub what: String,
    /// The driver's code, where it was the driver.
    pub code: Option<u32>,
    /// Whether the tenant can take further orders.
    pub usable: bool,
    /// Whether a checksum was not the right one.
    #[serde(default)]
    pub wrong_result: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_replies_read_back_and_are_loud_on_what_they_do_not_know() {
        let order = Order::Noise(NoiseOrder {
            program: None,
            start: Nanos(5),
            queued: 2,
            duty: Share::percent(100),
            burst: Nanos(0),
        });
        let line = serde_json::to_string(&order).unwrap();
        assert_eq!(serde_json::from_str::<Order>(&line).unwrap(), order);
        assert!(serde_json::from_str::<Order>(r#"{"quiet":{"now":true}}"#).is_err());
        assert!(serde_json::from_str::<Reply>(r#"{"window-done":{}}"#).is_err());
    }

    #[test]
    fn device_times_move_to_the_host_axis_both_ways() {
        let sync = ClockSync { host: Nanos(1_000), device: Nanos(50_000), error: Nanos(2) };
        assert_eq!(sync.on_host(None, Nanos(50_250)), Nanos(1_250));
        assert_eq!(sync.on_host(None, Nanos(49_750)), Nanos(750), "before the moment that ties them");
        // The device's clock runs slower: 1000 on it take 1010 of the host's.
        let end = ClockSync { host: Nanos(2_010), device: Nanos(51_000), error: Nanos(2) };
        let drifted = [50_000, 50_500, 51_000].map(|at| sync.on_host(Some(&end), Nanos(at)));
        assert_eq!(drifted, [Nanos(1_000), Nanos(1_505), Nanos(2_010)]);
        // A second moment that is not later says nothing.
        assert_eq!(sync.on_host(Some(&sync), Nanos(50_250)), Nanos(1_250));
    }
}
