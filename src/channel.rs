//! The shared resources that can carry interference.

use serde::{Deserialize, Serialize};

macro_rules! channels {
    ($($(#[$doc:meta])* $variant:ident = $id:literal),* $(,)?) => {
        /// A shared resource that can carry interference from one tenant to another.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        pub enum Channel { $($(#[$doc])* #[serde(rename = $id)] $variant),* }

        impl Channel {
            /// Every channel that crosstalk knows, in the order of reports.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name used in scenarios and reports.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id),* }
            }
        }
    };
}

channels! {
    /// Room for thread blocks on the SMs.
    BlockSlots = "block-slots",
    /// Instruction issue slots of an SM.
    Issue = "issue",
    /// Tensor cores.
    Tensor = "tensor",
    /// The L1 cache of an SM.
    L1 = "l1",
    /// The L2 cache.
    L2 = "l2",
    /// Bandwidth of device memory.
    HbmBandwidth = "hbm-bandwidth",
    /// Room in device memory.
    HbmCapacity = "hbm-capacity",
    /// Address translation.
    Tlb = "tlb",
    /// Memory barriers and strong loads.
    Membar = "membar",
    /// Atomic operations.
    Atomics = "atomics",
    /// The PCIe link.
    Pcie = "pcie",
    /// The copy engines.
    CopyEngine = "copy-engine",
    /// Kernel launch.
    Launch = "launch",
    /// Locks of the driver's resource manager.
    Driver = "driver",
    /// Power cap and clocks.
    Power = "power",
    /// Faults of another tenant.
    Fault = "fault",
    /// What a tenant leaves behind in memory.
    ResidualMemory = "residual-memory",
    /// The host: CPU, its caches and its memory.
    Host = "host",
}

impl Channel {
    /// Channels that exist in the field and that no workload of crosstalk exercises yet: reports name them as not tested.
    pub const NOT_BUILT: &[&'static str] = &["uvm", "nvlink", "codec", "instruction-cache"];
}

impl std::fmt::Display for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.id())
    }
}

impl std::str::FromStr for Channel {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|c| c.id() == text).ok_or(())
    }
}
