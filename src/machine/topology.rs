//! The tree of resource domains that a sharing mode makes of a GPU.

/// A whole machine as the engine sees it: GPUs, memory domains, compute domains, contexts. Parts refer to their parent
/// by index.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    /// Physical GPUs: PCIe link, copy engines, clocks and power, last-level TLB, barrier path, driver lock hang here.
    pub gpus: Vec<GpuPart>,
    /// Memory domains: a whole GPU, or one GPU instance.
    pub domains: Vec<Domain>,
    /// Compute domains: a whole memory domain, or one compute instance of it.
    pub computes: Vec<Compute>,
    /// Contexts in the order of the seats: context *i* is the one of seat *i*.
    pub contexts: Vec<Context>,
}

/// One physical GPU. Its sizes come from its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuPart {
    /// MIG is on.
    pub mig: bool,
}

/// A memory domain: SMs, L2 and device memory of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Domain {
    /// Index of its GPU.
    pub gpu: usize,
    /// SMs.
    pub sms: u32,
    /// L2 capacity in bytes.
    pub l2_bytes: u64,
    /// L2 bandwidth in bytes per second.
    pub l2_bandwidth: u64,
    /// Device-memory bandwidth in bytes per second.
    pub hbm_bandwidth: u64,
    /// Device memory in bytes.
    pub memory: u64,
    /// Copy engines.
    pub copy_engines: u32,
}

/// How contexts of one compute domain run together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// One at a time, in turns.
    TimeSliced,
    /// Side by side (MPS, streams, green contexts).
    Concurrent,
}

/// A compute domain: SMs of its own inside a memory domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compute {
    /// Index of its memory domain.
    pub domain: usize,
    /// SMs.
    pub sms: u32,
    /// How its contexts run together.
    pub policy: Policy,
}

/// Which SMs of its compute domain a context may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmShare {
    /// Any of them.
    All,
    /// At most this many (MPS active-thread percentage: a cap, not a reservation).
    Cap(u32),
    /// Exactly these many, for itself alone (static MPS partition, green context).
    Own(u32),
}

/// One context: the unit that takes turns under time-slicing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Index of its compute domain.
    pub compute: usize,
    /// SMs it may use.
    pub sms: SmShare,
    /// Contexts with the same number share one process: streams and green contexts of one process, clients of one MPS server for faults.
    pub process: usize,
    /// Most bytes it may allocate, where the mode limits them.
    pub memory_limit: Option<u64>,
}
