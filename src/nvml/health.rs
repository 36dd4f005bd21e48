//! What is read between arms: memory errors, the PCIe link, settings.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError};
use nvml_wrapper::error::nvml_try;
use serde::{Deserialize, Serialize};

use super::error::reading;
use super::{Nvml, NvmlError};

/// Health and settings of a GPU. Unknown is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Memory errors since the driver was loaded.
    pub ecc: Option<Ecc>,
    /// Rows of memory that were replaced.
    pub remapped: Option<RemappedRows>,
    /// The PCIe link.
    pub pcie: Option<PcieLink>,
    /// Whether the driver stays loaded without clients.
    pub persistence: Option<bool>,
    /// Who may create contexts ("Default", "ExclusiveProcess", "Prohibited").
    pub compute_mode: Option<String>,
}

/// Memory errors since the driver was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ecc {
    /// Corrected.
    pub corrected: u64,
    /// Not corrected.
    pub uncorrected: u64,
}

/// Rows of device memory that were replaced by spare ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemappedRows {
    /// After corrected errors.
    pub correctable: u32,
    /// After uncorrected errors.
    pub uncorrectable: u32,
    /// A row waits for the next reset to be replaced.
    pub pending: bool,
    /// A row could not be replaced.
    pub failed: bool,
}

/// The PCIe link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PcieLink {
    /// Generation now; idle links fall to a lower one on some parts.
    pub generation: u32,
    /// Lanes now.
    pub width: u32,
    /// Generation at most.
    pub max_generation: Option<u32>,
    /// Lanes at most.
    pub max_width: Option<u32>,
    /// Packets sent again since the driver was loaded.
    pub replays: Option<u32>,
}

impl Nvml {
    /// Health and settings of the whole GPU `uuid`. Not in arms.
    ///
    /// # Errors
    /// Where the GPU is lost or not there.
    pub fn health(&self, uuid: &str) -> Result<Health, NvmlError> {
        self.health_of(&self.device(uuid)?)
    }

    pub(super) fn health_of(&self, device: &Device<'_>) -> Result<Health, NvmlError> {
        let errors = |of| reading("nvmlDeviceGetTotalEccErrors", device.total_ecc_errors(of, EccCounter::Volatile));
        let ecc = match (errors(MemoryError::Corrected)?, errors(MemoryError::Uncorrected)?) {
            (Some(corrected), Some(uncorrected)) => Some(Ecc { corrected, uncorrected }),
            _ => None,
        };
        let generation = reading("nvmlDeviceGetCurrPcieLinkGeneration", device.current_pcie_link_gen())?;
        let width = reading("nvmlDeviceGetCurrPcieLinkWidth", device.current_pcie_link_width())?;
        let pcie = match (generation, width) {
            (Some(generation), Some(width)) => Some(PcieLink {
                generation,
                width,
                max_generation: reading("nvmlDeviceGetMaxPcieLinkGeneration", device.max_pcie_link_gen())?,
                max_width: reading("nvmlDeviceGetMaxPcieLinkWidth", device.max_pcie_link_width())?,
                replays: reading("nvmlDeviceGetPcieReplayCounter", device.pcie_replay_counter())?,
            }),
            _ => None,
        };
        Ok(Health {
            ecc,
            remapped: self.remapped_rows(device)?,
            pcie,
            persistence: reading("nvmlDeviceGetPersistenceMode", device.is_in_persistent_mode())?,
            compute_mode: reading("nvmlDeviceGetComputeMode", device.compute_mode())?.map(|m| format!("{m:?}")),
        })
    }

    fn remapped_rows(&self, device: &Device<'_>) -> Result<Option<RemappedRows>, NvmlError> {
        const CALL: &str = "nvmlDeviceGetRemappedRows";
        let Ok(call) = &self.inner.lib().nvmlDeviceGetRemappedRows else {
            return Ok(None);
        };
        let (mut correctable, mut uncorrectable, mut pending, mut failed) = (0, 0, 0, 0);
        // SAFETY: the symbol is there; the handle comes from this library; the call writes four integers that outlive it.
        let code = unsafe { call(device.handle(), &mut correctable, &mut uncorrectable, &mut pending, &mut failed) };
        let rows = RemappedRows { correctable, uncorrectable, pending: pending != 0, failed: failed != 0 };
        reading(CALL, nvml_try(code).map(|()| rows))
    }
}
