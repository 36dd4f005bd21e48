//! What the modes that share a GPU as a whole have in common.

use super::tree::Tree;
use super::{Request, Resolved, Seating, SharingError};
use crate::machine::{Policy, SmShare, Topology};
use crate::plan::Seat;
use crate::scenario::{LayoutEntry, SharingMode};
use crate::units::Share;

/// An entry with nothing said: one tenant.
pub(super) const PLAIN: LayoutEntry =
    LayoutEntry { profile: None, sms: None, reserved: false, memory: None, tenants: 1 };

/// Seats of an arrangement at most: each is a process on the host, with cores of its own.
const SEATS: u32 = 64;

/// Keys of a layout entry that a mode takes, beside `tenants`.
#[derive(Clone, Copy, Default)]
pub(super) struct Keys {
    pub(super) profile: bool,
    pub(super) sms: bool,
    pub(super) reserved: bool,
    pub(super) memory: bool,
}

/// Refuses keys that mean nothing under the mode.
pub(super) fn check_keys(mode: SharingMode, layout: &[LayoutEntry], takes: Keys) -> Result<(), SharingError> {
    if layout.is_empty() {
        return Err(SharingError::new(format!(
            "the layout of {mode} is empty; leave it out to test the machine as found"
        )));
    }
    if layout.iter().fold(0u32, |sum, e| sum.saturating_add(e.tenants)) > SEATS {
        return Err(SharingError::new(format!("the layout holds more than {SEATS} tenants; write at most that many")));
    }
    for (index, entry) in layout.iter().enumerate() {
        let fail = |key: &str, cure: &str| {
            Err(SharingError::new(format!("layout[{index}]: `{key}` has no meaning under {mode}; {cure}")))
        };
        if entry.tenants == 0 {
            return Err(SharingError::new(format!(
                "layout[{index}]: `tenants = 0` leaves the share empty; at least 1"
            )));
        }
        if let (Some(profile), false) = (&entry.profile, takes.profile) {
            return fail(
                "profile",
                &format!("{profile:?} needs sharing = \"mig\", or write {{ tenants = 1 }} for a tenant of {mode}"),
            );
        }
        if entry.sms.is_some() && !takes.sms {
            return fail("sms", "shares of SMs exist under mps, green-contexts and mig+mps");
        }
        if entry.reserved && !takes.reserved {
            return fail("reserved", "reserved shares exist under mps");
        }
        if entry.memory.is_some() && !takes.memory {
            return fail("memory", "limits of memory exist under mps and mig+mps");
        }
        if entry.sms.is_some_and(|s| s.0 == 0 || s > Share::percent(100)) {
            return Err(SharingError::new(format!("layout[{index}]: `sms` lies above 0 % and at most at 100 %")));
        }
        if takes.profile && entry.profile.is_none() {
            return Err(SharingError::new(format!("layout[{index}]: {mode} needs a profile, for example \"3g.40gb\"")));
        }
    }
    Ok(())
}

/// The layout as written, or two equal tenants.
pub(super) fn two_or(
    request: &Request<'_>,
    takes: Keys,
    default: &LayoutEntry,
) -> Result<Vec<LayoutEntry>, SharingError> {
    let Some(layout) = request.layout else { return Ok(vec![default.clone(), default.clone()]) };
    check_keys(request.mode, layout, takes)?;
    Ok(layout.to_vec())
}

/// Seats numbered through, `tenants` of them per entry.
pub(super) fn seats(layout: &[LayoutEntry], share: impl Fn(&LayoutEntry) -> String) -> Vec<Seat> {
    let entries = layout.iter().enumerate().flat_map(|(i, e)| std::iter::repeat_n((i, e), e.tenants as usize));
    entries.enumerate().map(|(n, (entry, e))| Seat { id: n.to_string(), share: share(e), entry }).collect()
}

/// Resolves a mode whose tenants are all alike.
pub(super) fn alike(request: &Request<'_>, share: &str) -> Result<Resolved, SharingError> {
    let layout = two_or(request, Keys::default(), &PLAIN)?;
    let seats = seats(&layout, |_| share.to_owned());
    Ok((layout, seats))
}

/// One GPU, one domain, one compute domain, a context per seat.
pub(super) fn whole_gpu(
    seating: &Seating<'_>,
    policy: Policy,
    one_process: bool,
    sms: impl Fn(&LayoutEntry, u32) -> SmShare,
) -> Topology {
    let mut tree = Tree::new(seating.model);
    let gpu = tree.gpu(false);
    let domain = tree.whole(gpu);
    let compute = tree.compute(domain, None, policy);
    for (index, seat) in seating.seats.iter().enumerate() {
        let entry = &seating.layout[seat.entry];
        let process = if one_process { 0 } else { index };
        let share = sms(entry, tree.sms(compute));
        tree.context(compute, share, process, entry.memory.map(|m| m.0));
    }
    tree.done()
}

/// "50 % of SMs".
pub(super) fn of_sms(share: Share) -> String {
    format!("{} of SMs", share.to_string().replace('%', " %"))
}
