//! `all-reduce`, by a process in each of the two seats, where NCCL is installed.

use crate::observation::Observed;
use crate::observation::all_reduce::judge;
use crate::tenant::question::{Answer, Question};

use super::super::session::LiveSession;
use super::beside::{Beside, Spot};
use super::{Pair, Stop, untold};

pub(super) fn ask(session: &mut LiveSession<'_>, pair: &Pair) -> Result<Observed, Stop> {
    pair.apart()?;
    pair.devices()?;
    let spots = [0, 1].map(|index| Spot::of(pair.seats[index], &pair.places[index]));
    let mut beside = Beside::start(session, spots.into())?;
    let (version, identity) = match beside.ask_one(0, Question::Meet {})? {
        Answer::Met { version, identity } => (version, identity),
        Answer::Absent { why } => {
            return untold(format!(
                "no libnccl here ({why}): install NCCL, or name its folder in LD_LIBRARY_PATH, and run again"
            ));
        }
        Answer::Refused(refusal) => return untold(refusal.words()),
        _ => return untold("a process that was asked for NCCL answered something else"),
    };
    // Both at once: each waits for the other. One that is refused leaves the other waiting, until it is killed.
    let answers = beside.ask(|rank| Question::Reduce { identity: identity.clone(), rank: rank as u32, ranks: 2 })?;
    beside.end()?;
    let mut ranks = Vec::with_capacity(answers.len());
    for answer in answers {
        ranks.push(match answer {
            Answer::Reduced(reduced) => Ok(reduced),
            Answer::Refused(refusal) => Err(refusal),
            _ => return untold("a rank answered something else"),
        });
    }
    Ok(judge(version, &ranks))
}
