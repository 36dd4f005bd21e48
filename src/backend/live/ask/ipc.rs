//! `ipc`, by a process in each of the two seats.

use crate::observation::Observed;
use crate::observation::ipc::judge;
use crate::tenant::question::{Answer, Question};

use super::super::session::LiveSession;
use super::beside::{Beside, Spot};
use super::{Pair, Stop, untold};

/// Bytes that are handed out. What is compared lies at their beginning; the rate is that of all.
const BYTES: u64 = 64 << 20;

pub(super) fn ask(session: &mut LiveSession<'_>, pair: &Pair) -> Result<Observed, Stop> {
    pair.apart()?;
    pair.devices()?;
    let seed = session.plan.seed ^ 0x1bc;
    let spots = [0, 1].map(|index| Spot::of(pair.seats[index], &pair.places[index]));
    let mut beside = Beside::start(session, spots.into())?;
    let lent = match beside.ask_one(0, Question::Lend { bytes: BYTES, seed })? {
        Answer::Lent { handle } => Ok(handle),
        Answer::Refused(refusal) => Err(refusal),
        _ => return untold("a process that was asked for memory answered something else"),
    };
    let borrowed = match lent {
        Err(refusal) => Err(refusal),
        Ok(handle) => match beside.ask_one(1, Question::Borrow { handle, bytes: BYTES, seed })? {
            Answer::Borrowed(borrowed) => Ok(borrowed),
            Answer::Refused(refusal) => Err(refusal),
            _ => return untold("a process that was given memory answered something else"),
        },
    };
    beside.end()?;
    Ok(judge(&borrowed))
}
