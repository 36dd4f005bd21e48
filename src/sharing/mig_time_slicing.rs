//! Time-slicing inside GPU instances: isolated between them, in turns within.

use super::flat::Keys;
use super::seated::{self, Apart};
use super::{Mode, Request, Resolved, SharingError, instances};
use crate::machine::{Policy, SmShare};

pub(super) const MODE: Mode = Mode {
    resolve,
    topology: |s| instances::topology(s, Policy::TimeSliced, |seat, _| seat, |_, _| SmShare::All),
    one_process: false,
    live: Some(|site| seated::arrange(site, Apart::Entries)),
    own_share: |entry, together| entry.reserved || !together,
};

fn resolve(request: &Request<'_>) -> Result<Resolved, SharingError> {
    let layout = instances::layout(request, Keys::default(), 2)?;
    let seats = instances::seats(&layout, |e| {
        let profile = e.profile.as_deref().unwrap_or_default();
        if e.tenants > 1 { format!("{profile} in turns") } else { profile.to_owned() }
    });
    Ok((layout, seats))
}
