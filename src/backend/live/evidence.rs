//! What proves that each tenant is where it should be.

use crate::backend::SeatEvidence;
use crate::gpu::is_same_device;
use crate::tenant::protocol::{Load, Loaded};

use super::seat::{Fault, Tenant};

/// Checks that `tenant` sees exactly the device that it was given, and holds the programs that it was asked for.
pub(super) fn check(tenant: &Tenant, asked: &Load, loaded: &Loaded) -> Result<SeatEvidence, Fault> {
    let wrong = |what: String| Err(Fault::Misplaced(what));
    match (&asked.device, &loaded.device) {
        (None, None) => {}
        (None, Some(seen)) => return wrong(format!("it was to touch no GPU, and sees {} ({})", seen.uuid, seen.name)),
        (Some(uuid), None) => return wrong(format!("it was given {uuid}, and sees no device")),
        (Some(uuid), Some(seen)) => {
            if seen.count != 1 {
                return wrong(format!(
                    "it sees {} devices, and was given {uuid} alone: is CUDA_VISIBLE_DEVICES ignored here?",
                    seen.count
                ));
            }
            if !is_same_device(uuid, &seen.uuid) {
                return wrong(format!("it was given {uuid}, and sees {} ({})", seen.uuid, seen.name));
            }
        }
    }
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
