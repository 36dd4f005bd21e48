//! The data of one GPU model, as read from its file.

use serde::{Deserialize, Serialize};

/// One GPU model. Every constant of the machine model lives in such a file; figures that no source gives are listed in
/// `assumed`, and reports say so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuModel {
    /// The id used in `sim:MODEL` ("h100-sxm").
    pub id: String,
    /// The product name as the driver prints it ("NVIDIA H100 80GB HBM3").
    pub name: String,
    /// Further product names of the same model ("NVIDIA A100-PCIE-40GB").
    #[serde(default)]
    pub other_names: Vec<String>,
    /// Architecture ("hopper").
    pub architecture: String,
    /// Compute capability ("9.0").
    pub compute_capability: String,
    /// PCI ids, device then vendor, as mig-parted writes them ("0x233010DE").
    #[serde(default)]
    pub pci_ids: Vec<String>,
    /// First driver that supports MIG on it.
    #[serde(default)]
    pub min_driver: Option<String>,
    /// Dotted keys of this file whose figure is an assumption of the model, not a published one.
    #[serde(default)]
    pub assumed: Vec<String>,
    /// Total device memory in MiB as the driver reports it for the whole card.
    pub memory_mib: u64,
    /// Streaming multiprocessors.
    pub sm: Sm,
    /// Clocks.
    pub clock: Clock,
    /// Power.
    pub power: Power,
    /// L2 cache.
    pub l2: L2,
    /// Device memory.
    pub hbm: Hbm,
    /// Address translation.
    pub tlb: Tlb,
    /// Memory barriers and atomics.
    pub order: Order,
    /// The PCIe link and the copy engines.
    pub pcie: Pcie,
    /// Launch and completion.
    pub launch: Launch,
    /// Time-slicing.
    pub time_slice: TimeSlice,
    /// Contexts and driver calls.
    pub driver: Driver,
    /// MIG, where the model has it.
    #[serde(default)]
    pub mig: Option<MigModel>,
}

/// Streaming multiprocessors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sm {
    /// How many.
    pub count: u32,
    /// Fused multiply-adds per SM and cycle, FP32.
    pub fma_per_cycle: u32,
    /// Dense FP16/BF16 floating-point operations per SM and cycle on the tensor cores.
    pub tensor_flop_per_cycle: u32,
    /// L1 and shared memory of an SM, KiB.
    pub l1_kib: u32,
    /// L1 hit latency, cycles.
    pub l1_latency_cycles: u32,
    /// L1 bandwidth per SM, bytes per cycle.
    pub l1_bytes_per_cycle: u32,
    /// Bandwidth between one SM and L2, bytes per cycle.
    pub l2_bytes_per_cycle: u32,
    /// Register file of an SM, KiB (with shared memory: what a preemption saves).
    pub registers_kib: u32,
    /// Thread blocks of an SM at most.
    pub max_blocks: u32,
}

/// Clocks, MHz.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// Highest SM clock.
    pub max_mhz: u32,
    /// Lowest SM clock under the power cap.
    pub floor_mhz: u32,
    /// SM clock of an idle GPU.
    pub idle_mhz: u32,
    /// With nothing to run for this long, milliseconds, the SM clock falls to that of an idle GPU, and rises slowly under
    /// the next work. Absent: it stays up while contexts exist, as on data-centre parts.
    #[serde(default)]
    pub idle_after_ms: Option<f64>,
}

/// Power, watts at the highest clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Power {
    /// Power cap.
    pub cap_w: f64,
    /// Draw when idle.
    pub idle_w: f64,
    /// Added by fully used issue slots on all SMs.
    pub issue_w: f64,
    /// Added by fully used tensor cores on all SMs.
    pub tensor_w: f64,
    /// Added by L2 at full bandwidth.
    pub l2_w: f64,
    /// Added by device memory at full bandwidth.
    pub hbm_w: f64,
    /// Lag of the clock behind the draw, milliseconds.
    pub lag_ms: f64,
}

/// The L2 cache of the whole GPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct L2 {
    /// Capacity, KiB.
    pub kib: u64,
    /// Partitions.
    pub partitions: u32,
    /// Hit latency, cycles.
    pub latency_cycles: u32,
    /// Bandwidth, bytes per cycle.
    pub bytes_per_cycle: u32,
    /// Factor on the latency at full utilisation.
    pub loaded_factor: f64,
}

/// Device memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hbm {
    /// Achievable bandwidth, 10⁹ bytes per second.
    pub gb_per_s: f64,
    /// Latency of a load that misses every cache, cycles at the highest clock (its time does not scale with the clock).
    pub latency_cycles: u32,
    /// Factor on the latency at full utilisation.
    pub loaded_factor: f64,
}

/// Address translation: each SM's own TLB, and the last level, shared by the whole GPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tlb {
    /// Memory that an SM's own TLB covers, MiB: a chase over less never asks the last level.
    pub sm_reach_mib: u64,
    /// Memory that the last level covers, MiB.
    pub reach_mib: u64,
    /// Added to a load that misses it, nanoseconds.
    pub miss_ns: f64,
}

/// Memory barriers and atomics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Barriers per microsecond that the barrier path completes.
    pub barriers_per_us: f64,
    /// Factor on the latency of a strong load while the barrier path is saturated.
    pub strong_loaded_factor: f64,
    /// Atomics per microsecond at L2 of the whole GPU.
    pub atomics_per_us: f64,
}

/// The PCIe link and the copy engines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pcie {
    /// Generation.
    pub generation: u32,
    /// Host to device, achievable, 10⁹ bytes per second.
    pub to_device_gb_per_s: f64,
    /// Device to host, achievable, 10⁹ bytes per second.
    pub to_host_gb_per_s: f64,
    /// Both directions together, achievable, 10⁹ bytes per second.
    pub both_gb_per_s: f64,
    /// Fixed cost of a copy, nanoseconds.
    pub setup_ns: u64,
    /// Copy engines that can serve copies of the host.
    pub copy_engines: u32,
}

/// Launch and completion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// From the launch call to the first instruction on an idle GPU, nanoseconds.
    pub latency_ns: u64,
    /// Time of the host in the launch call, nanoseconds.
    pub call_ns: u64,
    /// Between two queued launches of one stream, nanoseconds.
    pub gap_ns: u64,
    /// From the last instruction to the flag seen in mapped host memory, nanoseconds.
    pub completion_ns: u64,
    /// Added to the launch after the host slept: pairs of (idle microseconds, added nanoseconds), rising.
    pub wake: Vec<(u64, u64)>,
}

/// Time-slicing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeSlice {
    /// Quantum of the default level, microseconds.
    pub quantum_us: u64,
    /// Cost of a context switch, microseconds.
    pub switch_us: u64,
}

/// Contexts and driver calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Driver {
    /// Device memory that a context takes before any allocation, MiB.
    pub context_mib: u64,
    /// An allocation, microseconds under the driver's lock.
    pub alloc_us: f64,
    /// A free, microseconds under the driver's lock.
    pub free_us: f64,
    /// Creating a context, milliseconds, most of it under the driver's lock.
    pub context_create_ms: f64,
    /// Destroying a context, milliseconds.
    pub context_destroy_ms: f64,
}

/// MIG of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigModel {
    /// Memory slices: the unit of placements.
    pub memory_slices: u32,
    /// Compute slices.
    pub compute_slices: u32,
    /// Profiles in the driver's order.
    pub profiles: Vec<MigProfile>,
}

/// One MIG profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigProfile {
    /// Name ("3g.40gb").
    pub name: String,
    /// The driver's profile id.
    pub id: u32,
    /// Compute slices.
    pub slices: u32,
    /// Instances at most.
    pub max: u32,
    /// Memory in MiB; never derived from the name.
    pub memory_mib: Option<u64>,
    /// SMs.
    pub sms: Option<u32>,
    /// Copy engines.
    #[serde(default)]
    pub copy_engines: Option<u32>,
    /// Decoders.
    #[serde(default)]
    pub decoders: Option<u32>,
    /// JPEG engines.
    #[serde(default)]
    pub jpeg: Option<u32>,
    /// Optical-flow engines.
    #[serde(default)]
    pub ofa: Option<u32>,
    /// Memory slices that one instance takes.
    pub size: u32,
    /// Memory slices where one may start.
    pub starts: Vec<u32>,
}

impl GpuModel {
    /// The data of its MIG profile of this name.
    pub fn profile(&self, name: &str) -> Option<&MigProfile> {
        self.mig.as_ref()?.profiles.iter().find(|profile| profile.name == name)
    }
}

/// "2c.3g.40gb", as drivers name a compute instance: 2 compute slices of "3g.40gb". `None`: no name of one.
pub fn compute_part(profile: &str) -> Option<(u32, &str)> {
    let (slices, instance) = profile.split_once("c.")?;
    Some((slices.parse().ok()?, instance))
}

/// The major number of a compute capability: 9 of "9.0".
pub fn capability_major(compute_capability: &str) -> Option<u32> {
    compute_capability.split('.').next()?.parse().ok()
}
