//! Which device of a machine as it is each seat gets. Hardware is used as it stands: a layout that is not what is there
//! is refused, and nothing else is taken in its place.

use super::{SharingError, instances, mig_compute_instances, separate_gpus};
use crate::gpu::{GpuModel, Inventory, find_model};
use crate::plan::Seat;
use crate::scenario::{LayoutEntry, SharingMode};

/// A resolved arrangement on a machine as it is.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    /// The sharing mode.
    pub mode: SharingMode,
    /// The layout as resolved.
    pub layout: &'a [LayoutEntry],
    /// Its seats.
    pub seats: &'a [Seat],
    /// The layout was read off the machine: seats follow its instances one by one.
    pub as_found: bool,
    /// The machine.
    pub inventory: &'a Inventory,
    /// Index of the GPU under test.
    pub gpu: usize,
}

/// The UUID of the device of each seat: of a MIG device under the MIG modes, else of a GPU. Tenants that are nested in one
/// instance have the same.
///
/// # Errors
/// Where the machine is not what the arrangement asks for: what is there, and what was asked.
pub fn devices(found: &Found<'_>) -> Result<Vec<String>, SharingError> {
    let gpu = &found.inventory.gpus[found.gpu];
    let model = gpu.model.as_deref().and_then(find_model);
    let uuids = |indices: Vec<usize>| indices.into_iter().map(|i| gpu.instances[i].uuid.clone()).collect();
    match found.mode {
        SharingMode::MigComputeInstances => mig_compute_instances::assign(found, gpu, model).map(uuids),
        SharingMode::Mig | SharingMode::MigTimeSlicing | SharingMode::MigMps => {
            instances::assign(found, gpu, model).map(uuids)
        }
        SharingMode::SeparateGpus => separate_gpus::assign(found),
        SharingMode::Exclusive
        | SharingMode::Streams
        | SharingMode::GreenContexts
        | SharingMode::TimeSlicing
        | SharingMode::Mps => Ok(vec![gpu.uuid.clone(); found.seats.len()]),
    }
}

/// Whether the MIG layout of this mode can be made on hardware.
pub fn can_be_made(mode: SharingMode) -> bool {
    matches!(
        mode,
        SharingMode::Mig | SharingMode::MigComputeInstances | SharingMode::MigTimeSlicing | SharingMode::MigMps
    )
}

/// The GPU instances of a MIG layout: the profile of each, and the compute slices of its compute instances, or none for
/// one that fills it.
///
/// # Errors
/// Where the layout does not fit the model.
pub fn gpu_instances(
    mode: SharingMode,
    layout: &[LayoutEntry],
    model: &GpuModel,
) -> Result<Vec<(String, Vec<u32>)>, SharingError> {
    if mode == SharingMode::MigComputeInstances {
        return mig_compute_instances::gpu_instances(layout, model);
    }
    Ok(layout.iter().filter_map(|e| Some((e.profile.clone()?, Vec::new()))).collect())
}

#[cfg(test)]
mod tests;
