//! MPS inside GPU instances: isolated between them, side by side within. Each instance has a server of its own.

use super::flat::{Keys, of_sms};
use super::live::{Arranged, Place, Site};
use super::mps::{Clients, cap};
use super::seated::{self, Apart};
use super::{Mode, Request, Resolved, SharingError, instances};
use crate::backend::{BackendError, SeatEvidence};
use crate::machine::Policy;
use crate::scenario::LayoutEntry;
use crate::units::Bytes;

pub(super) const MODE: Mode = Mode {
    resolve,
    topology: |s| instances::topology(s, Policy::Concurrent, |_, entry| entry, |e, sms| cap(e.sms, sms)),
    one_process: false,
    live: Some(arrange),
    own_share: |entry, together| entry.reserved || !together,
};

fn resolve(request: &Request<'_>) -> Result<Resolved, SharingError> {
    let layout = instances::layout(request, Keys { sms: true, memory: true, ..Keys::default() }, 2)?;
    check_memory(request, &layout)?;
    let seats = instances::seats(&layout, share);
    Ok((layout, seats))
}

/// Instances, and a server of MPS in each.
struct Served {
    seated: Box<dyn Arranged>,
    clients: Clients,
}

/// The instances first: a server is one of a device that is there.
fn arrange(site: &Site<'_>) -> Result<Box<dyn Arranged>, BackendError> {
    let mut seated = seated::arrange(site, Apart::Entries)?;
    match serve(site, seated.as_ref()) {
        Ok(clients) => Ok(Box::new(Served { seated, clients })),
        Err(error) => Err(match seated.restore(site) {
            Ok(()) => error,
            Err(left) => BackendError { what: format!("{}; {}", error.what, left.what), reach: left.reach },
        }),
    }
}

fn serve(site: &Site<'_>, seated: &dyn Arranged) -> Result<Clients, BackendError> {
    let planned = site.planned;
    let device = |entry: usize| {
        let seat = planned.seats.iter().position(|seat| seat.entry == entry)?;
        seated.place(seat).device
    };
    let devices: Option<Vec<String>> = (0..planned.layout.len()).map(device).collect();
    let devices =
        devices.ok_or_else(|| BackendError::arrangement("an entry of the layout has no seat in an instance"))?;
    let of_entry: Vec<usize> = (0..devices.len()).collect();
    Clients::arrange(site, &devices, &of_entry)
}

impl Arranged for Served {
    fn place(&self, seat: usize) -> Place {
        Place { environment: self.clients.place(seat).environment, ..self.seated.place(seat) }
    }

    fn helpers(&self) -> Vec<u32> {
        self.clients.helpers()
    }

    fn prove(&self, site: &Site<'_>, seats: &[SeatEvidence]) -> Result<Vec<String>, BackendError> {
        let mut proofs = self.seated.prove(site, seats)?;
        proofs.extend(self.clients.prove(site, seats)?);
        Ok(proofs)
    }

    fn before_kill(&self, pid: u32) {
        self.clients.before_kill(pid);
    }

    fn says(&self) -> Option<String> {
        self.clients.says()
    }

    /// The servers first: while one holds its instance, nobody can destroy it.
    fn restore(&mut self, site: &Site<'_>) -> Result<(), BackendError> {
        self.clients.restore(site)?;
        self.seated.restore(site)
    }
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
