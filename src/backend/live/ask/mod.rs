//! What only the driver can tell of an arrangement: asked by processes beside the tenants of the arms, each in a seat's own
//! place and environment, with a deadline on every answer; and by NVML.
//!
//! The tenants of the arms stay up and quiet meanwhile. Nothing is asked before it is proved once more that nobody else is on
//! the GPU.

mod accounting;
mod all_reduce;
pub(super) mod beside;
mod ipc;
mod layout_change;
pub(super) mod load;
mod metrics;
mod peers;
pub(super) mod visibility;

use crate::backend::BackendError;
use crate::observation::{
    ACCOUNTING, ALL_REDUCE, IPC, LAYOUT_CHANGE, METRICS, Observation, Observed, PEER_ACCESS, VISIBILITY,
};
use crate::sharing::live::Place;

use super::seat::Fault;
use super::session::LiveSession;

/// How each is asked.
type Asked = fn(&mut LiveSession<'_>, &Pair) -> Result<Observed, Stop>;
const ASKED: [(&Observation, Asked); 7] = [
    (&PEER_ACCESS, peers::ask),
    (&IPC, ipc::ask),
    (&ALL_REDUCE, all_reduce::ask),
    (&VISIBILITY, visibility::ask),
    (&ACCOUNTING, accounting::ask),
    (&METRICS, metrics::ask),
    (&LAYOUT_CHANGE, layout_change::ask),
];

/// Why an observation ends without a finding.
pub(super) enum Stop {
    /// It cannot be told, and why.
    Untold(String),
    /// A tenant or the device is lost.
    Lost(BackendError),
}

impl From<BackendError> for Stop {
    fn from(error: BackendError) -> Self {
        Self::Lost(error)
    }
}

/// It cannot be told.
pub(super) fn untold<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Untold(why.into()))
}

/// The victim's seat and the first neighbour's that is on a GPU.
pub(super) struct Pair {
    /// Their indices.
    pub(super) seats: [usize; 2],
    /// Where their tenants live.
    pub(super) places: [Place; 2],
}

impl Pair {
    pub(super) fn of(session: &LiveSession<'_>) -> Result<Self, Stop> {
        let Some(arranged) = session.arranged.as_deref() else {
            return untold("the tenants are not up: nothing is arranged yet");
        };
        let grid = session.grid();
        let victim = (grid.victim, arranged.place(grid.victim));
        let mut neighbours = grid.neighbour_seats.iter().map(|seat| (*seat, arranged.place(*seat)));
        let Some(neighbour) = neighbours.find(|(_, place)| place.device.is_some()) else {
            return untold("no neighbour is on a GPU here");
        };
        Ok(Self { seats: [victim.0, neighbour.0], places: [victim.1, neighbour.1] })
    }

    /// The devices of both.
    pub(super) fn devices(&self) -> Result<[String; 2], Stop> {
        match self.places.each_ref().map(|place| place.device.clone()) {
            [Some(victim), Some(neighbour)] => Ok([victim, neighbour]),
            _ => untold("a seat is not on a GPU here"),
        }
    }

    /// Refuses seats of one process: they are one program to the driver.
    pub(super) fn apart(&self) -> Result<(), Stop> {
        if self.places[0].host == self.places[1].host {
            return untold("victim and neighbour live in one process: to the driver they are one");
        }
        Ok(())
    }
}

/// Asks `observation` of the arrangement of `session`.
///
/// # Errors
/// Where a tenant or the device is lost over it.
pub(super) fn ask(session: &mut LiveSession<'_>, observation: &Observation) -> Result<Observed, BackendError> {
    let Some((_, how)) = ASKED.iter().find(|(asked, _)| asked.id == observation.id) else {
        return Ok(observation.unknown("this backend cannot tell"));
    };
    let observed = Pair::of(session).and_then(|pair| how(session, &pair));
    // A driver that was lost meanwhile has told nothing.
    if let Some(why) = session.live.watch().lost() {
        return Err(BackendError::device(format!("{why}; while asking for {}", observation.id)));
    }
    match observed {
        Ok(observed) => Ok(observed),
        Err(Stop::Untold(why)) => Ok(observation.unknown(why)),
        Err(Stop::Lost(error)) => Err(error),
    }
}

/// What a process beside the tenants that did not answer means: it cannot be told, or the device is lost.
fn fell(session: &LiveSession<'_>, who: &str, fault: Fault) -> Stop {
    let cure = match &fault {
        Fault::Refused(failed) if failed.code == Some(crate::cuda::OUT_OF_MEMORY) => {
            "; the tenants of the arms leave it no room: lower the footprints of this arrangement's programs"
        }
        _ => "",
    };
    let error = session.lost(who, fault);
    match error.reach {
        crate::backend::Reach::Device => Stop::Lost(error),
        _ => Stop::Untold(format!("{}{cure}", error.what)),
    }
}
