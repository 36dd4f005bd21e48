//! The sharing modes. The pure half of each: from a mode and a layout to seats, and from seats to the domains that their
//! contexts share. What a mode isolates follows from where each resource hangs, never from a table of outcomes. The live
//! half: [`live`].
//!
//! One file per mode; each fills in one `Mode`. Flat modes share one GPU as a whole, MIG modes its instances.

mod equal;
mod error;
mod exclusive;
mod flat;
mod found;
mod green_contexts;
mod instances;
pub mod live;
mod mig;
mod mig_compute_instances;
mod mig_mps;
mod mig_time_slicing;
pub mod mps;
mod seated;
mod separate_gpus;
mod streams;
mod time_slicing;
mod tree;
mod within;

pub use equal::{Equal, equal};
pub use error::SharingError;
pub use found::{Found, can_be_made, devices, gpu_instances};
pub use green_contexts::green_sms;
pub use live::{arrange, not_on_hardware, on_hardware};
pub use tree::free_memory;
pub use within::{has_presence, has_sensitivity, within};

use crate::gpu::{Gpu, GpuModel};
use crate::machine::{SmShare, Topology};
use crate::plan::Seat;
use crate::scenario::{LayoutEntry, SharingMode};
use crate::units::Bytes;
use crate::workload::GpuView;

/// What an arrangement asks, before it is resolved.
struct Request<'a> {
    mode: SharingMode,
    layout: Option<&'a [LayoutEntry]>,
    gpu: &'a Gpu,
    model: Option<&'a GpuModel>,
}

/// A layout with every default filled in, and its seats.
type Resolved = (Vec<LayoutEntry>, Vec<Seat>);

/// A resolved arrangement on a known model.
struct Seating<'a> {
    layout: &'a [LayoutEntry],
    seats: &'a [Seat],
    model: &'a GpuModel,
}

/// One mode.
struct Mode {
    resolve: fn(&Request<'_>) -> Result<Resolved, SharingError>,
    topology: fn(&Seating<'_>) -> Result<Topology, SharingError>,
    /// All tenants live in one process.
    one_process: bool,
    /// How hardware is arranged so; `None`: not by this version.
    live: Option<live::Arrange>,
    /// Whether a tenant of this entry is promised a share of its own beside another, in the same entry or not.
    own_share: fn(&LayoutEntry, bool) -> bool,
}

const fn of(mode: SharingMode) -> &'static Mode {
    match mode {
        SharingMode::Exclusive => &exclusive::MODE,
        SharingMode::Streams => &streams::MODE,
        SharingMode::GreenContexts => &green_contexts::MODE,
        SharingMode::TimeSlicing => &time_slicing::MODE,
        SharingMode::Mps => &mps::MODE,
        SharingMode::Mig => &mig::MODE,
        SharingMode::MigComputeInstances => &mig_compute_instances::MODE,
        SharingMode::MigTimeSlicing => &mig_time_slicing::MODE,
        SharingMode::MigMps => &mig_mps::MODE,
        SharingMode::SeparateGpus => &separate_gpus::MODE,
    }
}

/// The layout with every default filled in, and its seats in layout order. Without a layout: as found, which is the
/// GPU's instances under the MIG modes and two equal tenants under the flat ones. A GPU whose `model` is unknown can
/// be tested as found; a MIG layout for it is checked against the instances that are there.
///
/// # Errors
/// Where the mode cannot be arranged so: what is wrong, and what would be right.
pub fn resolve(
    mode: SharingMode,
    layout: Option<&[LayoutEntry]>,
    gpu: &Gpu,
    model: Option<&GpuModel>,
) -> Result<(Vec<LayoutEntry>, Vec<Seat>), SharingError> {
    let resolved = (of(mode).resolve)(&Request { mode, layout, gpu, model })?;
    if resolved.1.len() < 2 {
        return Err(SharingError::new(format!(
            "{mode} has one seat here: a victim needs at least one neighbour, so two seats"
        )));
    }
    Ok(resolved)
}

/// The layout that the simulator makes of "as found" where the machine has none for the mode, and a part of it could: two
/// compute instances in the largest GPU instance. Hardware is tested as it is.
pub fn made_of_found(mode: SharingMode, gpu: &Gpu, model: Option<&GpuModel>) -> Option<Vec<LayoutEntry>> {
    match mode {
        SharingMode::MigComputeInstances => mig_compute_instances::divided(gpu, model?),
        _ => None,
    }
}

/// The tree of domains that a resolved arrangement makes of a GPU; context *i* is the one of seat *i*.
///
/// # Errors
/// Where layout and seats do not fit the model, or its data lack a figure that the tree needs.
pub fn topology(
    mode: SharingMode,
    layout: &[LayoutEntry],
    seats: &[Seat],
    model: &GpuModel,
) -> Result<Topology, SharingError> {
    if let Some(seat) = seats.iter().find(|seat| seat.entry >= layout.len()) {
        return Err(SharingError::new(format!("seat {} belongs to no entry of the layout", seat.id)));
    }
    (of(mode).topology)(&Seating { layout, seats, model })
}

/// What the tenant in a seat sees: its own share, never the parent's.
///
/// SMs are those that it may use at most (under a cap: the cap). Memory is its domain's less what the contexts in it
/// take, or its limit if that is less. Where tenants share a domain (time-slicing, MPS, streams, compute instances),
/// each sees *all* of it, as on hardware: a footprint of "60%" is 60 % of what the tenant would have alone, and two
/// such tenants do not fit side by side.
pub fn view(topology: &Topology, seat: usize, model: &GpuModel) -> GpuView {
    let context = &topology.contexts[seat];
    let compute = &topology.computes[context.compute];
    let domain = &topology.domains[compute.domain];
    let free = free_memory(topology, compute.domain, model);
    GpuView {
        sms: match context.sms {
            SmShare::All => compute.sms,
            SmShare::Cap(sms) | SmShare::Own(sms) => sms.min(compute.sms),
        },
        memory: Bytes(context.memory_limit.unwrap_or(free).min(free)),
        l2: Bytes(domain.l2_bytes),
        l1: Bytes::kib(u64::from(model.sm.l1_kib)),
        tlb_reach: Bytes::mib(model.tlb.reach_mib),
        sm_mhz: model.clock.max_mhz,
        fma_per_cycle: model.sm.fma_per_cycle,
        tensor_flop_per_cycle: model.sm.tensor_flop_per_cycle,
        hbm_bandwidth: domain.hbm_bandwidth,
        l2_bandwidth: domain.l2_bandwidth,
        pcie_bandwidth: tree::bytes_per_second(model.pcie.to_device_gb_per_s),
    }
}

/// Seats that take the victim's place: the first of each distinct share, in layout order. Shares differ where their
/// words do, or where they are nested among another number of tenants. A seat that only runs its host loop is none.
pub fn victim_places(layout: &[LayoutEntry], seats: &[Seat]) -> Vec<usize> {
    let kind = |seat: &Seat| {
        let nested = seat.id.contains('.');
        (seat.share.clone(), nested.then(|| layout.get(seat.entry).map_or(1, |e| e.tenants)))
    };
    let mut seen = Vec::new();
    let mut places = Vec::new();
    for (index, seat) in seats.iter().enumerate() {
        if seat.share != exclusive::HOST_LOOP && !seen.contains(&kind(seat)) {
            seen.push(kind(seat));
            places.push(index);
        }
    }
    places
}

/// Whether all tenants live in one process.
pub fn one_process(mode: SharingMode) -> bool {
    of(mode).one_process
}

/// Whether the tenant in `seat` is promised a share of its own beside the one in `beside`, so that it must reach nearly
/// its solo rate there. Not where the two share one place, and not for a share that is only a cap.
pub fn own_share(mode: SharingMode, layout: &[LayoutEntry], seats: &[Seat], seat: usize, beside: usize) -> bool {
    let entry = |seat: usize| seats.get(seat).map(|s| s.entry);
    let together = entry(seat) == entry(beside);
    entry(seat).and_then(|e| layout.get(e)).is_some_and(|e| (of(mode).own_share)(e, together))
}

#[cfg(test)]
mod tests;
