//! `peer-access`, by a process that is given the devices of both seats.

use crate::observation::Observed;
use crate::observation::peers::{judge, same};
use crate::tenant::question::{Answer, Question};

use super::super::session::LiveSession;
use super::beside::{Beside, Spot, Visible};
use super::{Pair, Stop, untold};

pub(super) fn ask(session: &mut LiveSession<'_>, pair: &Pair) -> Result<Observed, Stop> {
    let devices = pair.devices()?;
    if devices[0].eq_ignore_ascii_case(&devices[1]) {
        return Ok(same(&devices[0]));
    }
    let both = Spot::of(pair.seats[0], &pair.places[0]).seeing(Visible::Set(devices.join(",")));
    let mut beside = Beside::start(session, vec![both])?;
    let answer = beside.ask_one(0, Question::Peers {})?;
    beside.end()?;
    match answer {
        Answer::Peers(seen) => Ok(judge(&devices, &seen)),
        Answer::Refused(refusal) => untold(refusal.words()),
        _ => untold("a process that was asked for peers answered something else"),
    }
}
