//! The hazard `integrity` on a GPU: a process in the victim's place holds a pattern and checks it after everything that
//! processes in the neighbour's place do, reaching outside their own memory included.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::hazard::{Came, Check, FaultKind, Integrity, Trespass};
use crate::host::clock::now;
use crate::random::{Key, Stream};
use crate::tenant::fault::{FaultAnswer, FaultQuestion};
use crate::tenant::pattern::{PatternAnswer, PatternQuestion};
use crate::tenant::protocol::{Load, NoiseOrder, ProgramOrder};
use crate::tenant::question::{Answer, Question};
use crate::units::{Nanos, Share};
use crate::workload::Params;
use crate::workload::pattern::{VECTOR, tag};

use super::super::ask::beside::{Beside, Spot};
use super::super::ask::load::sleep;
use super::super::ask::{Pair, Stop, untold};
use super::super::session::LiveSession;
use super::fault::SHOWS;
use super::leftovers::answered;

/// What the neighbour runs: as many writes, and as many copies, as the memory takes.
const NOISES: [&str; 2] = ["hbm-write", "hbm-copy"];
/// How long each runs, and how long after the order it begins.
const LENGTH: Nanos = Nanos::millis(500);
const LEAD: Nanos = Nanos::millis(20);
/// Requests that it keeps queued.
const QUEUED: u32 = 3;
/// What the neighbour reaches for: in words, whether it is the victim's address, whether it writes.
const REACHES: [(&str, bool, bool); 4] = [
    ("read behind its own allocation", false, false),
    ("write behind its own allocation", false, true),
    ("read at the victim's address", true, false),
    ("write at the victim's address", true, true),
];

/// Faults that a kernel takes, beside that of a reach.
const FAULTS: [FaultKind; 5] = [
    FaultKind::Assert,
    FaultKind::Trap,
    FaultKind::IllegalAddress,
    FaultKind::MisalignedAddress,
    FaultKind::StackOverflow,
];

/// Tries it.
pub(super) fn attempt(session: &LiveSession<'_>, pair: &Pair, params: &Params) -> Result<Came, Stop> {
    let [_, device] = pair.devices()?;
    let Some(size) = params.0.get("budget").map(ToString::to_string) else {
        return untold("the parameter budget is missing");
    };
    let mut bits = Stream::new(session.plan.seed, &[Key::Name("integrity")]);
    let start = now();
    let beside = Beside::start(session, vec![Spot::of(pair.seats[0], &pair.places[0])])?;
    let mut trial = Trial { session, pair, beside, device, start, record: Integrity::default() };
    let [mine, theirs] = [tag(bits.bits()), tag(bits.bits())];
    let middle = trial.plant(size, mine)?;
    let mut alive = trial.check("nothing")?;
    let rounds = params.count("rounds").unwrap_or(1);
    for _ in 0..rounds {
        alive = alive && trial.noises()?;
    }
    let faults = params.flag("faults");
    // Behind all else: under MPS the victim may not outlive the first.
    for _ in 0..if faults { rounds } else { 0 } {
        alive = alive && trial.trespasses(middle, [mine, theirs])? && trial.faults()?;
    }
    let Trial { beside, mut record, .. } = trial;
    if !faults {
        let why = "reaching outside its own memory ends in a fault where it is refused: it takes `faults = true`";
        record.left_out = Some(why.to_owned());
    }
    // A victim that is gone is past being asked to end.
    if record.died.is_some() {
        beside.kill()?
    } else {
        beside.end()?
    }
    Ok(Came::Integrity(record))
}

struct Trial<'s, 'a, 'p> {
    session: &'s LiveSession<'a>,
    pair: &'p Pair,
    /// The victim, and behind it the neighbour of the moment.
    beside: Beside<'s, 'a>,
    /// The neighbour's.
    device: String,
    start: Nanos,
    record: Integrity,
}

impl Trial<'_, '_, '_> {
    /// The victim fills its budget. An address in the middle of it.
    fn plant(&mut self, size: String, tag: u64) -> Result<u64, Stop> {
        let question = Question::Pattern(PatternQuestion::Plant { size, tag });
        let PatternAnswer::Planted(planted) = answered(self.beside.ask_one(0, question)?)? else {
            return untold("a process that was asked to plant answered something else");
        };
        let Some(&(address, bytes)) = planted.pieces.first() else {
            return untold("the victim got no memory at all");
        };
        self.record.budget = planted.bytes;
        Ok(address + bytes / 2 / VECTOR * VECTOR)
    }

    /// The victim checks its budget. Whether it still can.
    fn check(&mut self, after: &str) -> Result<bool, Stop> {
        let at = now().saturating_sub(self.start);
        let checked = match self.beside.ask_mortal(0, Question::Pattern(PatternQuestion::Check {}))? {
            Err(how) => {
                self.record.died = Some(format!("after {after}: {how}"));
                return Ok(false);
            }
            Ok(answer) => match answered(answer)? {
                PatternAnswer::Checked(checked) => checked,
                _ => return untold("a process that was asked to check answered something else"),
            },
        };
        let (words, changed, first) = (checked.words, checked.changed, checked.first);
        self.record.checks.push(Check { at, after: after.to_owned(), words, changed, first });
        Ok(true)
    }

    fn neighbour(&mut self) -> Result<usize, Stop> {
        self.beside.add(Spot::of(self.pair.seats[1], &self.pair.places[1]))
    }

    /// The neighbour works, and the victim checks after each piece of work. Whether it still can.
    fn noises(&mut self) -> Result<bool, Stop> {
        let index = self.neighbour()?;
        let program = |id: &str| ProgramOrder { name: id.to_owned(), workload: id.to_owned(), params: BTreeMap::new() };
        let load = Load {
            device: Some(self.device.clone()),
            model: self.session.live.gpu().model.clone(),
            together: None,
            programs: NOISES.map(program).into(),
            arena: true,
            budget: None,
            outstanding: QUEUED,
            cores: Vec::new(),
            spin: false,
            keep_awake: None,
            seed: self.session.plan.seed,
        };
        self.beside.load_one(index, load)?;
        for (program, id) in NOISES.iter().enumerate() {
            let (start, duty) = (now() + LEAD, Share::percent(100));
            let order = NoiseOrder { program: Some(program), start, queued: QUEUED, duty, burst: LENGTH };
            self.beside.noise(index, order)?;
            sleep(LEAD + LENGTH);
            let (done, _) = self.beside.progress(index);
            self.beside.quiet()?;
            if done == 0 {
                return untold(format!("{id} of the neighbour's finished nothing"));
            }
            if !self.check(id)? {
                return Ok(false);
            }
        }
        self.beside.end_last()?;
        Ok(true)
    }

    /// Processes in the neighbour's place reach outside their memory, each once. Whether the victim can still check.
    fn trespasses(&mut self, middle: u64, [mine, theirs]: [u64; 2]) -> Result<bool, Stop> {
        for (what, at_victims, write) in REACHES {
            let index = self.neighbour()?;
            let (address, tag) = (at_victims.then_some(middle), if write { theirs } else { mine });
            let question = Question::Pattern(PatternQuestion::Trespass { address, write, tag });
            match self.beside.ask_one(index, question).and_then(answered)? {
                PatternAnswer::Trespassed(trespassed) => {
                    let refused = trespassed.refused.and_then(|refusal| refusal.code);
                    let faults = u32::from(refused.is_some());
                    self.session.live.faults.fetch_add(faults, Ordering::Relaxed);
                    self.record.trespasses.push(Trespass { what: what.to_owned(), refused, found: trespassed.found });
                }
                _ => return untold("a process that was asked to trespass answered something else"),
            }
            self.beside.end_last()?;
            if !self.check(&format!("a {what}"))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Processes in the neighbour's place take faults, each one. Whether the victim can still check.
    fn faults(&mut self) -> Result<bool, Stop> {
        for fault in FAULTS {
            let index = self.neighbour()?;
            match self.beside.ask_one(index, Question::Fault(FaultQuestion::Prepare { fault: Some(fault) }))? {
                Answer::Fault(FaultAnswer::Worked {}) => {}
                Answer::Refused(refusal) => return untold(refusal.words()),
                _ => return untold("a process that was asked to prepare a fault answered something else"),
            }
            let id = fault.id();
            // What befalls its context, or itself, is the fault.
            match self.beside.ask_mortal(index, Question::Fault(FaultQuestion::Commit { patience: SHOWS }))? {
                Ok(Answer::Fault(FaultAnswer::Committed(committed))) if !committed.happened => {
                    return untold(format!("the fault {id} did not come about: {}", committed.what));
                }
                Ok(Answer::Fault(FaultAnswer::Committed(_))) | Err(_) => {}
                Ok(_) => return untold("a process that was asked to take a fault answered something else"),
            }
            self.session.live.faults.fetch_add(1, Ordering::Relaxed);
            self.beside.end_last()?;
            if !self.check(&format!("fault {id}"))? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
