//! The hazard `leftovers` on a GPU: a process plants a pattern and ends in one way or another; the next one, in the
//! neighbour's place or in the same, takes all memory that it can and looks before it writes.

use std::sync::atomic::Ordering;

use crate::hazard::{Came, Exit, Kept, Leftovers, Round};
use crate::random::{Key, Stream};
use crate::sharing::live::Place;
use crate::tenant::pattern::{Looked, PatternAnswer, PatternQuestion, Planted};
use crate::tenant::question::{Answer, Question};
use crate::workload::Params;
use crate::workload::pattern::{WORD, tag};

use super::super::ask::beside::{Beside, Spot};
use super::super::ask::{Pair, Stop, untold};
use super::super::session::LiveSession;

/// The ways to end, the one that leaves a lost context behind last.
const EXITS: [Exit; 4] = [Exit::Clean, Exit::Abrupt, Exit::Killed, Exit::Crashed];

/// Tries it.
pub(super) fn attempt(session: &LiveSession<'_>, pair: &Pair, params: &Params) -> Result<Came, Stop> {
    pair.devices()?;
    let Some(size) = params.0.get("plant").map(ToString::to_string) else {
        return untold("the parameter plant is missing");
    };
    let mut rounds = Vec::new();
    for _ in 0..params.count("times").unwrap_or(1) {
        for exit in EXITS {
            if exit == Exit::Crashed && !params.flag("faults") {
                let why = "a tenant that crashes is not tried: it takes `faults = true`";
                rounds.push(not_tried(Kept::Memory, exit, why));
                continue;
            }
            for same_place in [false, true] {
                let key = [Key::Name("leftovers"), Key::Number(rounds.len() as u64)];
                let mut bits = Stream::new(session.plan.seed, &key);
                let tags = [tag(bits.bits()), tag(bits.bits())];
                let planted = plant(session, pair, &size, exit, tags);
                let round = planted.and_then(|planted| Ok((planted, look(session, pair, same_place, tags)?)));
                match round {
                    Ok((planted, looked)) => rounds.extend(told(pair, exit, same_place, &planted, &looked)),
                    // One round that cannot be had takes no other along.
                    Err(Stop::Untold(why)) => rounds.push(not_tried(Kept::Memory, exit, &why)),
                    Err(lost) => return Err(lost),
                }
            }
        }
    }
    // ptxas gives all values that a kernel has not set one register, whichever it likes: no kernel in PTX can look at them.
    let why =
        "a kernel cannot look at registers that it has not written: the driver's compiler decides which those are";
    rounds.push(not_tried(Kept::Registers, Exit::Clean, why));
    Ok(Came::Leftovers(Leftovers { rounds }))
}

fn not_tried(kept: Kept, exit: Exit, why: &str) -> Round {
    Round {
        kept,
        exit,
        same_place: false,
        planted: 0,
        scanned: 0,
        all: None,
        found: 0,
        range: None,
        untold: Some(why.to_owned()),
    }
}

/// A process in the victim's place plants, in device memory and then in shared memory, and ends.
fn plant(
    session: &LiveSession<'_>,
    pair: &Pair,
    size: &str,
    exit: Exit,
    [memory, shared]: [u64; 2],
) -> Result<[Planted; 2], Stop> {
    let mut planter = Beside::start(session, vec![Spot::of(pair.seats[0], &pair.places[0])])?;
    let mut ask = |question| match answered(planter.ask_one(0, Question::Pattern(question))?)? {
        PatternAnswer::Planted(planted) => Ok(planted),
        _ => untold("a process that was asked to plant answered something else"),
    };
    let planted = [
        ask(PatternQuestion::Plant { size: size.to_owned(), tag: memory })?,
        ask(PatternQuestion::PlantShared { tag: shared })?,
    ];
    match exit {
        Exit::Clean => planter.end()?,
        Exit::Killed => planter.kill()?,
        Exit::Abrupt => leave(planter)?,
        Exit::Crashed => {
            let question = PatternQuestion::Trespass { address: None, write: true, tag: shared };
            match answered(planter.ask_one(0, Question::Pattern(question))?)? {
                PatternAnswer::Trespassed(trespassed) if trespassed.refused.is_some() => {
                    session.live.faults.fetch_add(1, Ordering::Relaxed);
                    leave(planter)?;
                }
                _ => return untold("a kernel that wrote where nothing is mapped took no fault"),
            }
        }
    }
    Ok(planted)
}

/// It ends by itself, with everything that it holds.
fn leave(mut planter: Beside<'_, '_>) -> Result<(), Stop> {
    match planter.ask_mortal(0, Question::Pattern(PatternQuestion::Leave {}))? {
        Ok(_) => untold("a process that was to end answered instead"),
        // Gone: what is left to do is to take note of it.
        Err(_) => planter.kill(),
    }
}

/// A process in the neighbour's place, or in the same, looks: at shared memory first, before any kernel of its own has it.
fn look(
    session: &LiveSession<'_>,
    pair: &Pair,
    same_place: bool,
    [memory, shared]: [u64; 2],
) -> Result<[Looked; 2], Stop> {
    let at = usize::from(!same_place);
    let mut looker = Beside::start(session, vec![Spot::of(pair.seats[at], &pair.places[at])])?;
    let mut ask = |question| match answered(looker.ask_one(0, Question::Pattern(question))?)? {
        PatternAnswer::Looked(looked) => Ok(looked),
        _ => untold("a process that was asked to look answered something else"),
    };
    let in_shared = ask(PatternQuestion::LookShared { tag: shared })?;
    let in_memory = ask(PatternQuestion::Look { tag: memory })?;
    looker.end()?;
    Ok([in_memory, in_shared])
}

pub(super) fn answered(answer: Answer) -> Result<PatternAnswer, Stop> {
    match answer {
        Answer::Pattern(answer) => Ok(answer),
        Answer::Refused(refusal) => untold(refusal.words()),
        _ => untold("a process that was asked about patterns answered something else"),
    }
}

/// What one plant and one look show, by where the pattern was.
fn told(pair: &Pair, exit: Exit, same_place: bool, planted: &[Planted; 2], looked: &[Looked; 2]) -> [Round; 2] {
    let one_store = same_place || share_a_store(&pair.places);
    [(Kept::Memory, 0), (Kept::Shared, 1)].map(|(kept, index)| {
        let (planted, looked) = (&planted[index], &looked[index]);
        let missed = planted.bytes / WORD - planted.seen.min(planted.bytes / WORD);
        let untold = match kept {
            Kept::Memory if missed > 0 => {
                Some(format!("a look at what had just been planted missed {missed} words: it would miss others"))
            }
            Kept::Memory if !one_store => Some(
                "the two places draw on different memory: nothing of what one held was seen in the other, and nothing proves \
                 that it was there to be seen"
                    .to_owned(),
            ),
            Kept::Shared if planted.seen == 0 => Some(
                "a kernel does not see what the one before it left in shared memory, in one process neither".to_owned(),
            ),
            _ => None,
        };
        let all = (kept == Kept::Memory && one_store).then(|| planted.all.max(looked.all));
        Round {
            kept,
            exit,
            same_place,
            planted: planted.bytes,
            scanned: looked.bytes,
            all,
            found: looked.found,
            range: looked.range,
            untold,
        }
    })
}

/// Whether both draw on one memory. Two MIG devices are taken for two, also where they are compute instances of one GPU
/// instance: that proves less, never more.
fn share_a_store(places: &[Place; 2]) -> bool {
    let [victim, neighbour] = places.each_ref().map(|place| place.device.as_deref());
    matches!((victim, neighbour), (Some(a), Some(b)) if a.eq_ignore_ascii_case(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(devices: [&str; 2]) -> Pair {
        Pair { seats: [0, 1], places: [0, 1].map(|seat| Place::own(seat, devices[seat])) }
    }

    fn planted(bytes: u64, seen: u64) -> Planted {
        Planted { pieces: Vec::new(), bytes, seen, all: 100 }
    }

    fn looked(bytes: u64, found: u64) -> Looked {
        Looked { bytes, found, range: (found > 0).then_some((8, 16)), all: 104 }
    }

    #[test]
    fn what_overlaps_is_reckoned_by_the_larger_memory_that_either_saw() {
        let both = [planted(80, 10), planted(48, 6)];
        let [memory, shared] =
            told(&pair(["GPU-a", "gpu-A"]), Exit::Killed, false, &both, &[looked(96, 2), looked(48, 0)]);
        assert_eq!((memory.planted, memory.scanned, memory.all), (80, 96, Some(104)));
        assert_eq!((memory.found, memory.range, memory.untold), (2, Some((8, 16)), None));
        assert_eq!((shared.kept, shared.all, shared.found, shared.untold), (Kept::Shared, None, 0, None));
    }

    #[test]
    fn another_instances_memory_proves_nothing_and_says_so() {
        let both = [planted(80, 10), planted(48, 6)];
        let [memory, _] = told(&pair(["MIG-a", "MIG-b"]), Exit::Clean, false, &both, &[looked(96, 0), looked(48, 0)]);
        assert!(memory.all.is_none() && memory.untold.unwrap().contains("different memory"));
        let [memory, _] = told(&pair(["MIG-a", "MIG-b"]), Exit::Clean, true, &both, &[looked(96, 0), looked(48, 0)]);
        assert!(memory.same_place && memory.all == Some(104) && memory.untold.is_none());
    }

    #[test]
    fn a_look_that_misses_what_is_there_proves_nothing() {
        let both = [planted(80, 9), planted(48, 0)];
        let [memory, shared] =
            told(&pair(["GPU-a", "GPU-a"]), Exit::Clean, false, &both, &[looked(96, 0), looked(48, 0)]);
        assert!(memory.untold.unwrap().contains("missed 1 words"));
        assert!(shared.untold.unwrap().contains("in one process neither"));
    }
}
