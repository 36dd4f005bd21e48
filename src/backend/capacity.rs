//! The steps of the hazard `capacity`, the same on a GPU and in virtual time: what each side is asked, in which order, and what
//! is kept of the answers.
//!
//! First what each could take alone. Then the victim creates its context and holds its budget, and from there on it works:
//! before the neighbour comes, while it takes memory, while it is at its most, while it gives back, and after. In between, with
//! the neighbour at its most, what the victim could take; what the neighbour could take beside the victim's budget; and a
//! restart of the victim, whose context and budget have to fit while the neighbour takes all that it may.

use crate::backend::Outcome;
use crate::hazard::{Attempt, Capacity, Reach, View};
use crate::tenant::memory::{GRAIN, MemoryAnswer, MemoryQuestion};
use crate::units::{Bytes, Nanos};
use crate::workload::Params;

/// Who is asked.
const VICTIM: usize = 0;
const NEIGHBOUR: usize = 1;

/// Steps in which a neighbour that ramps takes what it may.
const STEPS: u64 = 24;
/// Pieces of a neighbour that leaks.
const LEAKS: u64 = 384;
/// Pieces of one that churns, and how often it does in a step.
const CHURNED: u64 = 8;
const CHURNS: u32 = 2;
/// From one attempt of the victim to the next, in the mean. Long against an allocation (0.1 ms), and short enough for hundreds
/// of them in seconds.
const EVERY: Nanos = Nanos::millis(2);
/// The victim's attempts in one answer at most: large amounts take tens of milliseconds each, and an answer has a deadline.
const IN_ONE: u64 = 100;

/// What is tried.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    how: How,
    until_oom: bool,
    /// As the scenario writes them.
    limit: String,
    budget: String,
    working: String,
    attempts: u64,
    /// Indices of the victim's seat and the neighbour's.
    seats: [usize; 2],
    /// What each place promises.
    promised: [Option<u64>; 2],
    seed: u64,
}

/// How the neighbour takes memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Ramp,
    Hoard,
    Leak,
    Churn,
    ColdStart,
}

impl Terms {
    /// Of the parameters of the hazard.
    ///
    /// # Errors
    /// Where one is missing.
    pub(super) fn of(
        params: &Params,
        seats: [usize; 2],
        promised: [Option<u64>; 2],
        seed: u64,
    ) -> Result<Self, String> {
        let missing = |key: &str| format!("the parameter {key} is missing or of another kind");
        let size = |key: &'static str| params.0.get(key).map(ToString::to_string).ok_or_else(|| missing(key));
        let how = match params.text("how") {
            Some("ramp") => How::Ramp,
            Some("hoard") => How::Hoard,
            Some("leak") => How::Leak,
            Some("churn") => How::Churn,
            Some("cold-start") => How::ColdStart,
            _ => return Err(missing("how")),
        };
        Ok(Self {
            how,
            until_oom: params.flag("until_oom"),
            limit: size("limit")?,
            budget: size("budget")?,
            working: size("working")?,
            attempts: params.count("attempts").ok_or_else(|| missing("attempts"))?,
            seats,
            promised,
            seed,
        })
    }
}

/// What is known from outside of one tenant's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outside {
    /// Used by its process.
    pub(super) process: Option<u64>,
    /// Used and all memory of its device.
    pub(super) device: Option<(u64, u64)>,
}

/// The two tenants, as a backend has them.
pub(super) trait Tenants {
    /// What ends it without a finding.
    type Stop;
    /// Asks the victim and the neighbour, both at once, and waits for both.
    ///
    /// # Errors
    /// Where one does not answer.
    fn ask(&mut self, questions: [Option<MemoryQuestion>; 2]) -> Result<[Option<MemoryAnswer>; 2], Fallen<Self::Stop>>;
    /// What is seen from outside.
    fn outside(&mut self, who: usize) -> Outside;
    /// Before memory is taken: nobody else is there.
    ///
    /// # Errors
    /// Where somebody is.
    fn check(&mut self) -> Result<(), Self::Stop>;
}

/// Why nobody answers.
pub(super) enum Fallen<S> {
    /// The victim's process has ended, and how.
    Victim(String),
    /// Something else.
    Stop(S),
}

/// Why there is no record.
pub(super) enum Ended<S> {
    /// It cannot be told here, and why.
    Untold(String),
    /// The backend's own reason.
    Stop(S),
}

/// Tries it. `start`: when it began, on the clock of the answers.
///
/// # Errors
/// Where it shows nothing here, or the backend ends it.
pub(super) fn attempt<T: Tenants>(terms: &Terms, tenants: &mut T, start: Nanos) -> Result<Capacity, Ended<T::Stop>> {
    let record = Capacity { promised: terms.promised, ..Capacity::default() };
    let mut trial = Trial { terms, tenants, start, record, asked: 0 };
    match trial.run() {
        Ok(()) => Ok(trial.record),
        Err(Halt::Victim(how)) => {
            trial.record.died = Some(how);
            Ok(trial.record)
        }
        Err(Halt::Untold(why)) => Err(Ended::Untold(why)),
        Err(Halt::Stop(stop)) => Err(Ended::Stop(stop)),
    }
}

enum Halt<S> {
    Victim(String),
    Untold(String),
    Stop(S),
}

struct Trial<'a, T> {
    terms: &'a Terms,
    tenants: &'a mut T,
    start: Nanos,
    record: Capacity,
    /// Attempts of the victim at its working amount since the neighbour came.
    asked: u64,
}

type Step<T> = Result<(), Halt<<T as Tenants>::Stop>>;

impl<T: Tenants> Trial<'_, T> {
    fn run(&mut self) -> Step<T> {
        self.check()?;
        let limit = self.alone()?;
        self.settle()?;
        // Beside the neighbour as many as are asked for; without it, a few before and after.
        let n = self.terms.attempts;
        let edge = (n / 16).clamp(8, 100);
        let rise = match self.terms.how {
            How::Ramp | How::Leak | How::Churn => n / 2,
            How::Hoard | How::ColdStart => n / 16,
        };
        self.work(if self.terms.how == How::ColdStart { 4 * edge } else { edge })?;
        self.asked = 0;
        self.check()?;
        self.rise(limit, rise)?;
        let most = self.at_most(n - rise - n / 8 - n / 8)?;
        self.beside(limit, most)?;
        self.restart(limit, n / 8)?;
        self.fall(n.saturating_sub(self.asked))?;
        self.after(edge)
    }

    fn check(&mut self) -> Step<T> {
        self.tenants.check().map_err(Halt::Stop)
    }

    /// What each could take, the other one without a context. What the neighbour may take.
    fn alone(&mut self) -> Result<u64, Halt<T::Stop>> {
        let [budget, working, limit] = {
            let sizes = vec![self.terms.budget.clone(), self.terms.working.clone(), self.terms.limit.clone()];
            self.open_alone(VICTIM, sizes)?
        };
        (self.record.budget, self.record.working) = (budget, working);
        if working < GRAIN || budget <= working {
            return Err(Halt::Untold(format!(
                "a budget of {} leaves nothing to hold beside a working amount of {}: raise `budget`, or lower `working`",
                Bytes(budget).for_people(),
                Bytes(working).for_people()
            )));
        }
        // No more than is allowed is asked for, not by the victim either.
        let most = (!self.terms.until_oom).then(|| limit.max(budget));
        let reach = self.reach_alone(VICTIM, most)?;
        self.record.victim_alone = reach;
        if let Some(reach) = reach.filter(|reach| reach.largest.max(reach.total) < budget) {
            return Err(Halt::Untold(format!(
                "the victim gets no {} here even alone, but {}: lower `budget`",
                Bytes(budget).for_people(),
                Bytes(reach.total).for_people()
            )));
        }
        let [limit, ..] = self.open_alone(NEIGHBOUR, vec![self.terms.limit.clone()])?;
        let all = self.record.views.last().and_then(|view| view.inside).map_or(limit, |(_, all)| all);
        self.record.limit = (!self.terms.until_oom).then_some(limit);
        self.record.neighbour_alone = self.reach_alone(NEIGHBOUR, self.record.limit)?;
        // All that there is ends in a refusal in any case.
        Ok(if self.terms.until_oom { all } else { limit })
    }

    /// Creates the context of one that is alone: the sizes asked for, the rest 0.
    fn open_alone(&mut self, who: usize, sizes: Vec<String>) -> Result<[u64; 3], Halt<T::Stop>> {
        let answer = self.one(who, MemoryQuestion::Open { sizes })?;
        if answer.sizes.is_empty() {
            let name = ["victim", "neighbour"][who];
            let how = match answer.attempts.last().map(|attempt| attempt.outcome) {
                Some(Outcome::Oom) => "out of memory".to_owned(),
                Some(Outcome::Error(code)) => format!("driver code {code}"),
                _ => "the driver does not say how much memory there is".to_owned(),
            };
            return Err(Halt::Untold(format!("the {name} gets no context here even alone: {how}")));
        }
        self.view(who, "alone", &answer);
        let mut each = answer.sizes.into_iter();
        Ok([(); 3].map(|()| each.next().unwrap_or(0)))
    }

    fn reach_alone(&mut self, who: usize, most: Option<u64>) -> Result<Option<Reach>, Halt<T::Stop>> {
        let reach = self.one(who, MemoryQuestion::Reach { most })?.reach;
        self.one(who, MemoryQuestion::Close {})?;
        Ok(reach)
    }

    /// The victim creates its context and takes its budget.
    fn settle(&mut self) -> Step<T> {
        self.begin()?;
        let answer = self.one(VICTIM, MemoryQuestion::See {})?;
        self.view(VICTIM, "after the budget", &answer);
        Ok(())
    }

    /// Context and budget, each an attempt.
    fn begin(&mut self) -> Step<T> {
        let opened = self.victim(MemoryQuestion::Open { sizes: Vec::new() })?;
        if opened.seen.is_some() { self.hold() } else { Ok(()) }
    }

    /// Takes the budget: in one piece, or in such as could be had alone.
    fn hold(&mut self) -> Step<T> {
        let mut left = self.record.budget - self.record.working;
        let piece = self.record.victim_alone.map_or(left, |reach| reach.largest).max(GRAIN);
        while left > 0 {
            let bytes = left.min(piece);
            self.victim(MemoryQuestion::Hold { bytes })?;
            left -= bytes;
        }
        Ok(())
    }

    /// The victim works, the neighbour rests.
    fn work(&mut self, times: u64) -> Step<T> {
        let mut left = times;
        while left > 0 {
            let now = left.min(IN_ONE);
            self.both(now, None)?;
            left -= now;
        }
        Ok(())
    }

    /// The victim works `times` times while the neighbour takes memory up to `limit`.
    fn rise(&mut self, limit: u64, times: u64) -> Step<T> {
        let steps = match self.terms.how {
            How::Ramp | How::Leak | How::Churn => STEPS.max(times.div_ceil(IN_ONE)),
            How::Hoard | How::ColdStart => times.div_ceil(IN_ONE).max(1),
        };
        for step in 0..steps {
            let part = (limit as u128 * u128::from(step + 1) / u128::from(steps)) as u64;
            let slice = times * (step + 1) / steps - times * step / steps;
            let (first, last) = (step == 0, step + 1 == steps);
            let act = match self.terms.how {
                How::Ramp => Some(take(part, limit / steps, Nanos::ZERO)),
                How::Leak => {
                    let within = steps.max(LEAKS) / steps;
                    let pause = Nanos(EVERY.0 * slice / within.max(1));
                    Some(take(part, limit / steps.max(LEAKS), pause))
                }
                How::Hoard | How::ColdStart => first.then(|| take(limit, limit, Nanos::ZERO)),
                How::Churn if last => Some(take(limit, limit / CHURNED, Nanos::ZERO)),
                How::Churn => Some(MemoryQuestion::Churn { most: limit, piece: limit / CHURNED, times: CHURNS }),
            };
            // Its context is part of what it takes: it comes with its first memory.
            if act.is_some() && self.record.neighbour.is_empty() {
                self.pair(0, Some(MemoryQuestion::Open { sizes: Vec::new() }))?;
            }
            self.both(slice, act)?;
        }
        Ok(())
    }

    /// The neighbour at its most, the victim at work. What the neighbour holds.
    fn at_most(&mut self, times: u64) -> Result<u64, Halt<T::Stop>> {
        self.work(times)?;
        let when = "neighbour at its most";
        let [victim, neighbour] =
            [self.one(VICTIM, MemoryQuestion::See {})?, self.one(NEIGHBOUR, MemoryQuestion::See {})?];
        self.view(VICTIM, when, &victim);
        self.view(NEIGHBOUR, when, &neighbour);
        Ok(neighbour.held)
    }

    /// What each could take beside what the other one holds.
    fn beside(&mut self, limit: u64, most: u64) -> Step<T> {
        let capped = |reach: Option<Reach>| reach.and_then(|reach| reach.most);
        self.one(VICTIM, MemoryQuestion::Give { to: 0 })?;
        let asked = capped(self.record.victim_alone);
        self.record.victim_beside = self.one(VICTIM, MemoryQuestion::Reach { most: asked })?.reach;
        self.hold()?;
        // What it took is known; in one piece it has to try.
        self.one(NEIGHBOUR, MemoryQuestion::Give { to: 0 })?;
        let reach = self.one(NEIGHBOUR, MemoryQuestion::Reach { most: self.record.limit })?.reach;
        self.record.neighbour_beside = reach.map(|reach| Reach { total: most, ..reach });
        self.pair(0, Some(take(limit, limit, Nanos::ZERO))).map(drop)
    }

    /// The victim goes and comes again, while the neighbour takes all that it may.
    fn restart(&mut self, limit: u64, times: u64) -> Step<T> {
        self.one(VICTIM, MemoryQuestion::Close {})?;
        self.pair(0, Some(take(limit, limit, Nanos::ZERO)))?;
        self.begin()?;
        self.work(times)
    }

    /// The neighbour gives back, as it took.
    fn fall(&mut self, times: u64) -> Step<T> {
        let least = if matches!(self.terms.how, How::Ramp | How::Leak) { STEPS / 4 } else { 1 };
        let steps = least.max(times.div_ceil(IN_ONE));
        let held = self.one(NEIGHBOUR, MemoryQuestion::See {})?.held;
        for step in 0..steps {
            let slice = times * (step + 1) / steps - times * step / steps;
            self.both(slice, Some(MemoryQuestion::Give { to: held - held * (step + 1) / steps }))?;
        }
        Ok(())
    }

    /// The neighbour has given everything back; the victim comes again, where it had to go, and works on.
    fn after(&mut self, times: u64) -> Step<T> {
        let seen = self.one(VICTIM, MemoryQuestion::See {})?;
        if seen.seen.is_none() {
            self.begin()?;
        } else if seen.held == 0 {
            self.hold()?;
        }
        self.work(times + self.terms.attempts.saturating_sub(self.asked))?;
        let answer = self.one(VICTIM, MemoryQuestion::See {})?;
        self.view(VICTIM, "at the end", &answer);
        Ok(())
    }

    /// The victim works so often, and meanwhile the neighbour does this.
    fn both(&mut self, times: u64, neighbour: Option<MemoryQuestion>) -> Step<T> {
        self.pair(times, neighbour).map(drop)
    }

    fn pair(&mut self, times: u64, neighbour: Option<MemoryQuestion>) -> Result<(), Halt<T::Stop>> {
        let work = (times > 0).then(|| MemoryQuestion::Work {
            bytes: self.record.working,
            times: u32::try_from(times).unwrap_or(u32::MAX),
            every: EVERY,
            seed: self.terms.seed.wrapping_add(self.record.victim.len() as u64),
        });
        if work.is_none() && neighbour.is_none() {
            return Ok(());
        }
        let [victim, neighbour] = self.ask([work, neighbour])?;
        if let Some(answer) = victim {
            // Without a context it could not try; what it could not is made up for at the end.
            self.asked += answer.attempts.len() as u64;
            self.keep(VICTIM, answer);
        }
        if let Some(answer) = neighbour {
            self.keep(NEIGHBOUR, answer);
        }
        Ok(())
    }

    /// Something that is an attempt of the victim's.
    fn victim(&mut self, question: MemoryQuestion) -> Result<MemoryAnswer, Halt<T::Stop>> {
        let answer = self.one(VICTIM, question)?;
        self.keep(VICTIM, answer.clone());
        Ok(answer)
    }

    fn one(&mut self, who: usize, question: MemoryQuestion) -> Result<MemoryAnswer, Halt<T::Stop>> {
        let mut questions = [None, None];
        questions[who] = Some(question);
        let mut answers = self.ask(questions)?;
        Ok(answers[who].take().unwrap_or_default())
    }

    fn ask(&mut self, questions: [Option<MemoryQuestion>; 2]) -> Result<[Option<MemoryAnswer>; 2], Halt<T::Stop>> {
        self.tenants.ask(questions).map_err(|fallen| match fallen {
            Fallen::Victim(how) => Halt::Victim(how),
            Fallen::Stop(stop) => Halt::Stop(stop),
        })
    }

    fn keep(&mut self, who: usize, answer: MemoryAnswer) {
        let kept = if who == VICTIM { &mut self.record.victim } else { &mut self.record.neighbour };
        let start = self.start;
        kept.extend(answer.attempts.into_iter().map(|a| Attempt { at: a.at.saturating_sub(start), ..a }));
    }

    fn view(&mut self, who: usize, when: &str, answer: &MemoryAnswer) {
        let outside = self.tenants.outside(who);
        self.record.views.push(View {
            seat: self.terms.seats[who],
            when: when.to_owned(),
            held: answer.held,
            inside: answer.seen,
            nvml_process: outside.process,
            nvml_device: outside.device,
        });
    }
}

fn take(most: u64, piece: u64, every: Nanos) -> MemoryQuestion {
    MemoryQuestion::Take { most, piece, every }
}

#[cfg(test)]
mod tests;
