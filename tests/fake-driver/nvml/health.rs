//! ECC, remapped rows, the PCIe link.

use nvml_wrapper_sys::bindings::nvmlFieldValue_t;

use crate::config::HealthNow;
use crate::entry::{Code, Out, entry_points};
use crate::library::{Handle, library, place};
use crate::parts::Part;
use crate::results;

/// What has changed since the machine came up.
fn now() -> Result<HealthNow, Code> {
    Ok(HealthNow::read(&library()?.loaded.folder))
}

fn errors(part: &Part, kind: u32) -> Result<u64, Code> {
    if part.ecc() != Some(true) {
        return Err(results::NOT_SUPPORTED);
    }
    match kind {
        0 => Ok(now()?.ecc_corrected.unwrap_or(part.config.ecc_corrected)),
        1 => Ok(now()?.ecc_uncorrected.unwrap_or(part.config.ecc_uncorrected)),
        _ => Err(results::INVALID_ARGUMENT),
    }
}

entry_points! {
    fn nvmlDeviceGetEccMode(device: Handle, now: Out<u32>, pending: Out<u32>) {
        let on = u32::from(place(device)?.card()?.part().ecc().ok_or(results::NOT_SUPPORTED)?);
        now.put(on)?;
        pending.put(on)
    }

    fn nvmlDeviceGetTotalEccErrors(device: Handle, kind: u32, _counter: u32, count: Out<u64>) {
        count.put(errors(place(device)?.card()?.part(), kind)?)
    }

    fn nvmlDeviceGetMemoryErrorCounter(device: Handle, kind: u32, _counter: u32, location: u32, count: Out<u64>) {
        let part = place(device)?.card()?.part();
        // All of them happen in device memory: NVML_MEMORY_LOCATION_DRAM.
        let found = errors(part, kind)?;
        count.put(if location == 2 { found } else { 0 })
    }

    fn nvmlDeviceGetRemappedRows(
        device: Handle,
        corrected: Out<u32>,
        uncorrected: Out<u32>,
        pending: Out<u32>,
        failure: Out<u32>,
    ) {
        let part = place(device)?.card()?.part();
        part.ecc().ok_or(results::NOT_SUPPORTED)?;
        let rows = now()?.remapped.unwrap_or(part.config.remapped);
        corrected.put(rows.corrected)?;
        uncorrected.put(rows.uncorrected)?;
        pending.put(u32::from(rows.pending))?;
        failure.put(u32::from(rows.failure))
    }

    fn nvmlDeviceGetRowRemapperHistogram(device: Handle, _histogram: Out<u8>) {
        place(device)?;
        Err(results::NOT_SUPPORTED)
    }

    fn nvmlDeviceGetRetiredPagesPendingStatus(device: Handle, _pending: Out<u32>) {
        place(device)?;
        Err(results::NOT_SUPPORTED)
    }

    fn nvmlDeviceGetCurrPcieLinkGeneration(device: Handle, generation: Out<u32>) {
        let part = place(device)?.card()?.part();
        generation.put(now()?.pcie_generation.or(part.config.pcie_generation).unwrap_or(part.model.pcie.generation))
    }

    fn nvmlDeviceGetMaxPcieLinkGeneration(device: Handle, generation: Out<u32>) {
        generation.put(place(device)?.card()?.part().model.pcie.generation)
    }

    fn nvmlDeviceGetGpuMaxPcieLinkGeneration(device: Handle, generation: Out<u32>) {
        generation.put(place(device)?.card()?.part().model.pcie.generation)
    }

    fn nvmlDeviceGetCurrPcieLinkWidth(device: Handle, width: Out<u32>) {
        let part = place(device)?.card()?.part();
        width.put(now()?.pcie_width.or(part.config.pcie_width).unwrap_or(16))
    }

    fn nvmlDeviceGetMaxPcieLinkWidth(device: Handle, width: Out<u32>) {
        place(device)?.card()?;
        width.put(16)
    }

    fn nvmlDeviceGetPcieReplayCounter(device: Handle, replays: Out<u32>) {
        let part = place(device)?.card()?.part();
        replays.put(now()?.pcie_replays.unwrap_or(part.config.pcie_replays))
    }

    fn nvmlDeviceGetPcieThroughput(device: Handle, _counter: u32, _rate: Out<u32>) {
        place(device)?;
        Err(results::NOT_SUPPORTED)
    }

    fn nvmlDeviceGetFieldValues(device: Handle, count: i32, values: Out<nvmlFieldValue_t>) {
        place(device)?;
        values.each(count.max(0) as usize, |value| value.nvmlReturn = results::NOT_SUPPORTED.0)
    }
}
