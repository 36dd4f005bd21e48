//! MIG: a GPU instance for each tenant.

use super::flat::Keys;
use super::seated::{self, Apart};
use super::{Mode, Request, Resolved, SharingError, instances};
use crate::machine::{Policy, SmShare};

pub(super) const MODE: Mode = Mode {
    resolve,
    topology: |s| instances::topology(s, Policy::TimeSliced, |seat, _| seat, |_, _| SmShare::All),
    one_process: false,
    live: Some(|site| seated::arrange(site, Apart::GpuInstances)),
    own_share: |_, _| true,
};

fn resolve(request: &Request<'_>) -> Result<Resolved, SharingError> {
    let layout = instances::layout(request, Keys::default(), 1)?;
    if let Some(index) = layout.iter().position(|e| e.tenants > 1) {
        let n = layout[index].tenants;
        return Err(SharingError::new(format!(
            "layout[{index}]: {n} tenants in one GPU instance need a mode inside it; use mig+time-slicing, mig+mps or \
             mig-compute-instances, or repeat the entry {n} times"
        )));
    }
    let seats = instances::seats(&layout, |e| e.profile.clone().unwrap_or_default());
    Ok((layout, seats))
}
