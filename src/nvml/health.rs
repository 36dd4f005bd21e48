//! What is read between arms: memory errors, the PCIe link, settings.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError};
use nvml_wrapper::error::nvml_try;

use super::error::reading;
use super::{Nvml, NvmlError};
use crate::backend::{EccErrors, GpuHealth, PcieLink, RemappedRows};

impl Nvml {
    /// Health and settings of the whole GPU `uuid`. Not in arms.
    ///
    /// # Errors
    /// Where the GPU is lost or not there.
    pub fn health(&self, uuid: &str) -> Result<GpuHealth, NvmlError> {
        self.health_of(&self.device(uuid)?)
    }

    pub(super) fn health_of(&self, device: &Device<'_>) -> Result<GpuHealth, NvmlError> {
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
        Ok(GpuHealth {
            ecc: errors(device, EccCounter::Volatile)?,
            ecc_lifetime: errors(device, EccCounter::Aggregate)?,
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

/// Memory errors by one of the driver's two counts.
fn errors(device: &Device<'_>, counter: EccCounter) -> Result<Option<EccErrors>, NvmlError> {
    let count = |of| reading("nvmlDeviceGetTotalEccErrors", device.total_ecc_errors(of, counter));
    let (corrected, uncorrected) = (count(MemoryError::Corrected)?, count(MemoryError::Uncorrected)?);
    Ok(corrected.zip(uncorrected).map(|(corrected, uncorrected)| EccErrors { corrected, uncorrected }))
}
