//! MPS: processes side by side through one server. A percentage of SMs is a cap (`CUDA_MPS_ACTIVE_THREAD_PERCENTAGE`),
//! not a reservation, unless the server partitions the SMs statically. Memory limits are per process. A fault of one
//! client reaches all of them, so they count as one process.

mod control;
mod daemon;
mod folder;
mod live;

pub use folder::sweep;
pub(super) use live::Clients;
pub use live::welcome;

use super::flat::{self, Keys, PLAIN, of_sms};
use super::{Mode, Request, Resolved, Seating, SharingError};
use crate::gpu::{GpuModel, capability_major};
use crate::machine::{Policy, SmShare, Topology};
use crate::scenario::{LayoutEntry, SharingMode};
use crate::units::{Bytes, Share};

/// Clients of one server on drivers before CUDA 13.1, which allows 60.
const CLIENTS: usize = 48;

pub(super) const MODE: Mode =
    Mode { resolve, topology, one_process: false, live: Some(live::arrange), own_share: |entry, _| entry.reserved };

fn resolve(request: &Request<'_>) -> Result<Resolved, SharingError> {
    let takes = Keys { sms: true, reserved: true, memory: true, ..Keys::default() };
    let half = LayoutEntry { sms: Some(Share::percent(50)), ..PLAIN };
    let layout = flat::two_or(request, takes, &half)?;
    check_shares(&layout)?;
    check_memory(&layout, request.gpu.memory)?;
    let seats = flat::seats(&layout, share);
    if seats.len() > CLIENTS {
        let n = seats.len();
        return Err(SharingError::new(format!("{n} MPS clients on one server: at most {CLIENTS} before CUDA 13.1")));
    }
    Ok((layout, seats))
}

/// Static partitions are a mode of the server: all of its clients or none, and together no more than there is.
fn check_shares(layout: &[LayoutEntry]) -> Result<(), SharingError> {
    if !layout.iter().any(|e| e.reserved) {
        return Ok(());
    }
    if let Some(index) = layout.iter().position(|e| !e.reserved) {
        return Err(SharingError::new(format!(
            "layout[{index}]: an MPS server partitions SMs for all of its clients or for none; write reserved = true here too"
        )));
    }
    if let Some(index) = layout.iter().position(|e| e.sms.is_none()) {
        return Err(SharingError::new(format!("layout[{index}]: a reserved share needs `sms`, for example \"50%\"")));
    }
    check_sum(SharingMode::Mps, layout)
}

/// Shares that are each tenant's own cannot sum to more than the whole.
pub(super) fn check_sum(mode: SharingMode, layout: &[LayoutEntry]) -> Result<(), SharingError> {
    let sum: u64 = layout.iter().map(|e| u64::from(e.sms.unwrap_or_default().0) * u64::from(e.tenants)).sum();
    if sum <= u64::from(Share::percent(100).0) {
        return Ok(());
    }
    let tenants: u32 = layout.iter().map(|e| e.tenants).sum();
    let even = Share(Share::percent(100).0 / tenants.max(1));
    Err(SharingError::new(format!(
        "the shares of SMs under {mode} sum to {} %, and each is its tenant's own; at most 100 %, for example {even} for \
         each of {tenants} tenants",
        sum as f64 / 1e4
    )))
}

/// No tenant can be promised more memory than there is.
fn check_memory(layout: &[LayoutEntry], there: Option<Bytes>) -> Result<(), SharingError> {
    let Some(there) = there else { return Ok(()) };
    match layout.iter().enumerate().find_map(|(i, e)| e.memory.filter(|m| *m > there).map(|m| (i, m))) {
        Some((index, memory)) => Err(SharingError::new(format!(
            "layout[{index}]: a memory limit of {memory} where there are {there}; write at most that"
        ))),
        None => Ok(()),
    }
}

/// "50 % of SMs, 20GiB".
fn share(entry: &LayoutEntry) -> String {
    let mut words = match entry.sms {
        Some(sms) => of_sms(sms),
        None => "all SMs together".to_owned(),
    };
    if entry.reserved {
        words.push_str(", reserved");
    }
    if let Some(memory) = entry.memory {
        words.push_str(&format!(", {memory}"));
    }
    words
}

fn topology(seating: &Seating<'_>) -> Result<Topology, SharingError> {
    check_sets(seating, |e| e.sms.filter(|_| e.reserved))?;
    Ok(flat::whole_gpu(seating, Policy::Concurrent, true, |entry, sms| match entry.sms {
        Some(share) if entry.reserved => SmShare::Own(set(share, sms, seating.model)),
        share => cap(share, sms),
    }))
}

/// The cap that a percentage of active threads puts on SMs.
pub(super) fn cap(share: Option<Share>, sms: u32) -> SmShare {
    share.map_or(SmShare::All, |s| SmShare::Cap(part(s, sms)))
}

/// A share of so many SMs, at least one.
fn part(share: Share, sms: u32) -> u32 {
    (share.of(u64::from(sms)) as u32).max(1)
}

/// A set of SMs that is a tenant's own: the share rounded down to whole chunks.
pub(super) fn set(share: Share, sms: u32, model: &GpuModel) -> u32 {
    whole_chunks(share, sms, chunk(model))
}

/// A share of so many SMs, rounded down to whole chunks.
pub(super) fn whole_chunks(share: Share, sms: u32, chunk: u32) -> u32 {
    share.of(u64::from(sms)) as u32 / chunk * chunk
}

/// Refuses sets of SMs that are smaller than a chunk.
pub(super) fn check_sets(seating: &Seating<'_>, own: fn(&LayoutEntry) -> Option<Share>) -> Result<(), SharingError> {
    let (count, chunk) = (seating.model.sm.count, chunk(seating.model));
    for seat in seating.seats {
        let Some(share) = own(&seating.layout[seat.entry]) else { continue };
        if set(share, count, seating.model) == 0 {
            return Err(SharingError::new(format!(
                "seat {} ({}): less than {chunk} of {count} SMs, the smallest set on {}; write at least {} %",
                seat.id,
                seat.share,
                seating.model.id,
                (100 * chunk).div_ceil(count)
            )));
        }
    }
    Ok(())
}

/// SMs are partitioned in chunks of so many: 8 from compute capability 9.0 on, 2 before (CUDA driver API,
/// `cuDevSmResourceSplitByCount`; assumed to hold for static MPS partitions too).
fn chunk(model: &GpuModel) -> u32 {
    chunk_of(capability_major(&model.compute_capability).unwrap_or(0))
}

/// The same by the major compute capability.
pub(super) fn chunk_of(major: u32) -> u32 {
    if major >= 9 { 8 } else { 2 }
}
