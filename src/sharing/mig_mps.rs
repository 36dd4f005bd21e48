//! MPS inside GPU instances: isolated between them, side by side within. Each instance has a server of its own.

use super::flat::{Keys, of_sms};
use super::mps::cap;
use super::{Mode, Request, Resolved, SharingError, instances};
use crate::machine::Policy;
use crate::scenario::LayoutEntry;
use crate::units::Bytes;

pub(super) const MODE: Mode = Mode {
    resolve,
    topology: |s| instances::topology(s, Policy::Concurrent, |_, entry| entry, |e, sms| cap(e.sms, sms)),
    one_process: false,
    live: None,
    own_share: |entry, together| entry.reserved || !together,
};

fn resolve(request: &Request<'_>) -> Result<Resolved, SharingError> {
    let layout = instances::layout(request, Keys { sms: true, memory: true, ..Keys::default() }, 2)?;
    check_memory(request, &layout)?;
    let seats = instances::seats(&layout, share);
    Ok((layout, seats))
}

/// No tenant can be promised more memory than its instance has.
fn check_memory(request: &Request<'_>, layout: &[LayoutEntry]) -> Result<(), SharingError> {
    for (index, entry) in layout.iter().enumerate() {
        let name = entry.profile.as_deref().unwrap_or_default();
        let there = match request.model {
            Some(model) => instances::profile(model, name)?.memory_mib.map(Bytes::mib),
            None => request.gpu.instances.iter().find(|i| i.profile == name).and_then(|i| i.memory),
        };
        if let (Some(memory), Some(there)) = (entry.memory, there)
            && memory > there
        {
            return Err(SharingError::new(format!(
                "layout[{index}]: a memory limit of {memory} in {name}, which has {there}; write at most that"
            )));
        }
    }
    Ok(())
}

/// "50 % of SMs of 3g.40gb, 10GiB".
fn share(entry: &LayoutEntry) -> String {
    let profile = entry.profile.as_deref().unwrap_or_default();
    let mut words = match (entry.sms, entry.tenants) {
        (Some(sms), _) => format!("{} of {profile}", of_sms(sms)),
        (None, 1) => profile.to_owned(),
        (None, _) => format!("{profile} together"),
    };
    if let Some(memory) = entry.memory {
        words.push_str(&format!(", {memory}"));
    }
    words
}
