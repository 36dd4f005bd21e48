//! Green contexts: tenants of one process, each with a set of SMs of its own.

use super::flat::{self, Keys, PLAIN, of_sms};
use super::mps::{check_sets, check_sum, set};
use super::{Mode, Request, Resolved, Seating, SharingError};
use crate::machine::{Policy, SmShare, Topology};
use crate::scenario::LayoutEntry;
use crate::units::Share;

pub(super) const MODE: Mode = Mode { resolve, topology, one_process: true, live: None, own_share: |_, _| true };

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
