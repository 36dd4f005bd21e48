//! `visibility`, by processes in the victim's seat that do not name its device.

use crate::gpu::Gpu;
use crate::observation::Observed;
use crate::observation::visibility::{Look, judge};
use crate::tenant::question::{Answer, DeviceLine, Question};

use super::super::evidence::{Sight, placed};
use super::super::session::LiveSession;
use super::beside::{Beside, Spot, Visible};
use super::{Pair, Stop, untold};

pub(super) fn ask(session: &mut LiveSession<'_>, pair: &Pair) -> Result<Observed, Stop> {
    let [own, _] = pair.devices()?;
    let gpu = now(session)?;
    let visible = [
        ("unset".to_owned(), Visible::Unset),
        ("\"0\"".to_owned(), Visible::Set("0".to_owned())),
        (gpu.uuid.clone(), Visible::Set(gpu.uuid.clone())),
    ];
    let mut looks = Vec::with_capacity(visible.len());
    for (words, visible) in visible {
        let spot = Spot::of(pair.seats[0], &pair.places[0]).seeing(visible);
        let mut beside = Beside::start(session, vec![spot])?;
        let seen = match beside.ask_one(0, Question::Devices {}) {
            Ok(Answer::Devices(devices)) => Ok(devices),
            Ok(_) => return untold("a process that was asked for its devices answered something else"),
            // A driver that shows no device fails its initialisation.
            Err(Stop::Untold(why)) => Err(why),
            Err(lost) => return Err(lost),
        };
        beside.end()?;
        looks.push(Look { visible: words, seen });
    }
    let refuses = |asked: &str, device: &DeviceLine| {
        // As a tenant names what it sees.
        let uuid = format!("{}{}", if asked.starts_with("MIG-") { "MIG-" } else { "GPU-" }, device.uuid);
        placed(Some(asked), Some(Sight { uuid: &uuid, name: &device.name, count: 1 })).is_err()
    };
    Ok(judge(&gpu, &own, &looks, refuses))
}

/// The GPU under test as it is now: its instances may have been made for this arrangement.
pub(in crate::backend::live) fn now(session: &LiveSession<'_>) -> Result<Gpu, Stop> {
    let machine = session.live.watch().machine()?;
    let uuid = &session.live.gpu().uuid;
    match machine.gpus.into_iter().find(|gpu| gpu.uuid == *uuid) {
        Some(gpu) => Ok(gpu),
        None => untold(format!("the driver lists GPU {uuid} no more")),
    }
}
