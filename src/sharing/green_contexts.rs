//! Green contexts: tenants of one process, each with a set of SMs of its own.

use super::flat::{self, Keys, PLAIN, of_sms};
use super::live::{Arranged, Place, Site};
use super::mps::{check_sets, check_sum, chunk_of, set, whole_chunks};
use super::streams::in_one_process;
use super::{Mode, Request, Resolved, Seating, SharingError};
use crate::backend::{BackendError, SeatEvidence};
use crate::gpu::capability_major;
use crate::machine::{Policy, SmShare, Topology};
use crate::scenario::LayoutEntry;
use crate::units::Share;

/// CUDA version from which on drivers have green contexts (CUDA 12.4 release notes).
const CUDA: (u32, u32) = (12, 4);
/// Groups of SMs are of at most so many (CUDA driver API, green contexts: 8 from compute capability 9.0 on, less before).
const COARSEST: u32 = 8;

pub(super) const MODE: Mode =
    Mode { resolve, topology, one_process: true, live: Some(arrange), own_share: |_, _| true };

fn resolve(request: &Request<'_>) -> Result<Resolved, SharingError> {
    let mut layout = flat::two_or(request, Keys { sms: true, ..Keys::default() }, &PLAIN)?;
    check_sum(request.mode, &layout)?;
    share_out_the_rest(&mut layout)?;
    let seats = flat::seats(&layout, |e| of_sms(e.sms.unwrap_or_default()));
    Ok((layout, seats))
}

/// Tenants without a share of their own get equal parts of what the others leave.
fn share_out_the_rest(layout: &mut [LayoutEntry]) -> Result<(), SharingError> {
    let taken: u32 = layout.iter().map(|e| e.sms.unwrap_or_default().0 * e.tenants).sum();
    let open: u32 = layout.iter().filter(|e| e.sms.is_none()).map(|e| e.tenants).sum();
    if open == 0 {
        return Ok(());
    }
    let each = Share((Share::percent(100).0 - taken) / open);
    if each.0 == 0 {
        return Err(SharingError::new(format!(
            "the written shares of SMs leave nothing for {open} other tenant(s); write less than 100 % in all"
        )));
    }
    layout.iter_mut().filter(|e| e.sms.is_none()).for_each(|e| e.sms = Some(each));
    Ok(())
}

fn topology(seating: &Seating<'_>) -> Result<Topology, SharingError> {
    check_sets(seating, |e| Some(e.sms.unwrap_or_default()))?;
    Ok(flat::whole_gpu(seating, Policy::Concurrent, true, |entry, sms| {
        SmShare::Own(set(entry.sms.unwrap_or_default(), sms, seating.model))
    }))
}

/// SMs that a green context with this share of a device's `sms` is promised: whole chunks of its compute capability, of
/// which `major` is the first number.
pub fn green_sms(share: Share, sms: u32, major: u32) -> u32 {
    whole_chunks(share, sms, chunk_of(major))
}

fn arrange(site: &Site<'_>) -> Result<Box<dyn Arranged>, BackendError> {
    let version = site.inventory.cuda.as_deref().and_then(|text| {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    if let Some((major, minor)) = version.filter(|version: &(u32, u32)| *version < CUDA) {
        return Err(BackendError::arrangement(format!(
            "green contexts need a driver of CUDA {}.{} or later (R550), and this one has CUDA {major}.{minor}: upgrade \
             it, or arrange mps",
            CUDA.0, CUDA.1
        )));
    }
    let share = |entry: usize| site.planned.layout.get(entry).and_then(|e| e.sms).unwrap_or_default();
    let shares = site.planned.seats.iter().map(|seat| share(seat.entry)).collect();
    Ok(Box::new(GreenContexts { device: site.gpu().uuid.clone(), shares }))
}

/// Green contexts of one process on one device.
struct GreenContexts {
    device: String,
    /// Each seat's share of the SMs.
    shares: Vec<Share>,
}

impl Arranged for GreenContexts {
    fn place(&self, seat: usize) -> Place {
        Place { host: 0, green: self.shares.get(seat).copied(), ..Place::own(seat, &*self.device) }
    }

    fn prove(&self, _site: &Site<'_>, seats: &[SeatEvidence]) -> Result<Vec<String>, BackendError> {
        prove(&self.shares, seats)
    }
}

/// The sets are disjoint because they are groups of one split (see `cuda::SmSets`); that they are no more than the device
/// has shows that no split was made twice.
fn prove(shares: &[Share], seats: &[SeatEvidence]) -> Result<Vec<String>, BackendError> {
    let whole = in_one_process(seats)?;
    let (mut sum, mut device) = (0, 0);
    let mut sets = Vec::with_capacity(seats.len());
    for SeatEvidence { seat, device: seen, .. } in seats {
        let Some((has, seen)) = seen.as_ref().and_then(|seen| Some((seen.green_sms?, seen))) else {
            return Err(BackendError::arrangement(format!("seat {seat} is in no green context")));
        };
        let major = capability_major(&seen.compute_capability).unwrap_or(0);
        let promised = green_sms(shares.get(*seat).copied().unwrap_or_default(), seen.sms, major);
        // Drivers round up to their own granularity, which nowhere is coarser than that.
        if has < promised || has >= promised + COARSEST {
            return Err(BackendError::arrangement(format!(
                "seat {seat} was promised {promised} SMs, and its green context has {has} of the device's {}: the driver \
                 divides them otherwise; ask for other shares",
                seen.sms
            )));
        }
        let more = if has > promised { format!(", promised {promised}") } else { String::new() };
        sets.push(format!("seat {seat}: {has}{more}"));
        (sum, device) = (sum + has, seen.sms);
    }
    if sum > device {
        return Err(BackendError::arrangement(format!(
            "the green contexts have {sum} SMs in all, and the device has {device}: they are not disjoint"
        )));
    }
    Ok(vec![whole, format!("green contexts of one split of {device} SMs: {}", sets.join(", "))])
}

#[cfg(test)]
mod tests {
    use super::super::streams::tests::seat;
    use super::*;

    #[test]
    fn a_green_context_has_what_it_was_promised_and_nobody_else_has_it() {
        let half = Share::percent(50);
        assert_eq!((green_sms(half, 132, 9), green_sms(half, 108, 8), green_sms(half, 7, 8)), (64, 54, 2));
        let prove = |seats: &[SeatEvidence]| prove(&[half, half], seats).map_err(|error| error.what);
        let proofs = prove(&[seat(0, 7, Some(64)), seat(1, 7, Some(64))]).unwrap();
        assert_eq!(proofs[1], "green contexts of one split of 132 SMs: seat 0: 64, seat 1: 64");
        let more = prove(&[seat(0, 7, Some(68)), seat(1, 7, Some(64))]).unwrap();
        assert!(more[1].contains("seat 0: 68, promised 64"), "{more:?}");
        let fewer = prove(&[seat(0, 7, Some(64)), seat(1, 7, Some(56))]).unwrap_err();
        assert!(fewer.contains("seat 1 was promised 64 SMs, and its green context has 56"), "{fewer}");
        let all = prove(&[seat(0, 7, Some(132)), seat(1, 7, Some(132))]).unwrap_err();
        assert!(all.contains("seat 0 was promised 64 SMs, and its green context has 132"), "{all}");
        let twice = prove(&[seat(0, 7, Some(68)), seat(1, 7, Some(68))]).unwrap_err();
        assert!(twice.contains("136 SMs in all") && twice.contains("not disjoint"), "{twice}");
        assert!(prove(&[seat(0, 7, Some(64)), seat(1, 7, None)]).unwrap_err().contains("in no green context"));
        assert!(prove(&[seat(0, 7, Some(64)), seat(1, 8, Some(64))]).unwrap_err().contains("two processes"));
    }
}
