//! Hazards on a GPU: tried by processes of their own in the seats' places, the tenants of the arms being down.

mod capacity;
mod fault;
mod integrity;
mod leftovers;

use crate::backend::BackendError;
use crate::hazard::{CAPACITY, Came, FAULT, Hazard, INTEGRITY, LEFTOVERS};
use crate::workload::{Params, resolve_fields};

use super::ask::{Pair, Stop};
use super::session::LiveSession;

/// How each is tried.
type How = fn(&LiveSession<'_>, &Pair, &Params) -> Result<Came, Stop>;
const HOW: [(&Hazard, How); 4] = [
    (&CAPACITY, capacity::attempt),
    (&LEFTOVERS, leftovers::attempt),
    (&INTEGRITY, integrity::attempt),
    (&FAULT, fault::attempt),
];

/// Tries hazard `index` of the plan between the victim and its first neighbour. The tenants are down.
///
/// # Errors
/// Where the device is lost over it.
pub(super) fn attempt(session: &LiveSession<'_>, index: usize) -> Result<Came, BackendError> {
    let planned = &session.plan.hazards[index];
    let untold = |why: String| Ok(Came::Untold { why });
    let Some((hazard, how)) = HOW.iter().find(|(hazard, _)| hazard.id == planned.hazard) else {
        return untold(format!("this build does not know the hazard {:?}", planned.hazard));
    };
    let params = match resolve_fields(hazard.id, hazard.params, &planned.params) {
        Ok(params) => params,
        Err(why) => return untold(why),
    };
    let came = Pair::of(session).and_then(|pair| {
        pair.apart()?;
        how(session, &pair, &params)
    });
    // What a driver tells that was lost meanwhile is kept only where the hazard itself says so.
    match came {
        Ok(came) => Ok(came),
        Err(Stop::Untold(why)) => untold(why),
        Err(Stop::Lost(error)) => Err(error),
    }
}
