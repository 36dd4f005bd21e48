//! What proves that each tenant is where it should be.

use crate::backend::SeatEvidence;
use crate::gpu::is_same_device;
use crate::tenant::protocol::{Load, Loaded};

use super::seat::{Fault, Tenant};

/// Checks that a process that was given `asked` sees it, and no other device.
pub(super) fn placed(asked: Option<&str>, seen: Option<Sight<'_>>) -> Result<(), String> {
    match (asked, seen) {
        (None, None) => Ok(()),
        (None, Some(seen)) => Err(format!("it was to touch no GPU, and sees {} ({})", seen.uuid, seen.name)),
        (Some(uuid), None) => Err(format!("it was given {uuid}, and sees no device")),
        (Some(uuid), Some(seen)) if seen.count != 1 => Err(format!(
            "it sees {} devices, and was given {uuid} alone: is CUDA_VISIBLE_DEVICES ignored here?",
            seen.count
        )),
        (Some(uuid), Some(seen)) if !is_same_device(uuid, seen.uuid) => {
            Err(format!("it was given {uuid}, and sees {} ({})", seen.uuid, seen.name))
        }
        (Some(_), Some(_)) => Ok(()),
    }
}

/// What a process sees.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    /// UUID of its first device.
    pub(super) uuid: &'a str,
    /// Its name.
    pub(super) name: &'a str,
    /// Devices in all.
    pub(super) count: u32,
}

/// Checks that `tenant` sees exactly the device that it was given, and holds the programs that it was asked for.
pub(super) fn check(tenant: &Tenant, asked: &Load, loaded: &Loaded) -> Result<SeatEvidence, Fault> {
    let wrong = |what: String| Err(Fault::Misplaced(what));
    let sight = loaded.device.as_ref().map(|seen| Sight { uuid: &seen.uuid, name: &seen.name, count: seen.count });
    placed(asked.device.as_deref(), sight).map_err(Fault::Misplaced)?;
    let names = |programs: &mut dyn Iterator<Item = &String>| programs.cloned().collect::<Vec<_>>().join(", ");
    let (wanted, held) =
        (names(&mut asked.programs.iter().map(|p| &p.name)), names(&mut loaded.programs.iter().map(|p| &p.name)));
    if wanted != held {
        return wrong(format!("it was to load {wanted}, and holds {held}"));
    }
    Ok(SeatEvidence {
        seat: tenant.seat,
        pid: tenant.pid(),
        device: loaded.device.clone(),
        cores: tenant.cores.clone(),
        programs: loaded.programs.clone(),
    })
}
