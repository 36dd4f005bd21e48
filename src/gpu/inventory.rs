//! The GPUs of the machine as found.

use serde::{Deserialize, Serialize};

use crate::provenance::Provenance;
use crate::units::Bytes;

/// The GPUs of a machine as found. Unknown is `None`, never zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// Where this was read.
    pub provenance: Provenance,
    /// Driver version.
    pub driver: Option<String>,
    /// The GPUs, in the order of the driver.
    pub gpus: Vec<Gpu>,
}

/// One GPU as found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// UUID ("GPU-…").
    pub uuid: String,
    /// Product name.
    pub name: String,
    /// Id of its model in `crosstalk list gpus`, where it is known.
    pub model: Option<String>,
    /// Device memory.
    pub memory: Option<Bytes>,
    /// SMs.
    pub sms: Option<u32>,
    /// Whether MIG is on; `None` where the part has no MIG or does not say.
    pub mig: Option<bool>,
    /// Its MIG instances.
    pub instances: Vec<Instance>,
}

/// One MIG instance as found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// UUID ("MIG-…").
    pub uuid: String,
    /// Profile name.
    pub profile: String,
    /// First memory slice.
    pub start: u32,
    /// Memory slices.
    pub size: u32,
    /// Device memory, read from the instance, never from its parent.
    pub memory: Option<Bytes>,
    /// SMs.
    pub sms: Option<u32>,
}
