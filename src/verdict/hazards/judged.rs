//! From the record of one hazard to what it shows.

use super::{Found, LEVEL};
use crate::backend::Outcome;
use crate::hazard::{Attempt, Came, Capacity, FaultKind, FaultTrial, Faults, Integrity, Leftovers, Round, Step};
use crate::stats::{chance_of_none, proportion_upper};
use crate::units::{Bytes, Nanos};
use crate::verdict::{Reason, Verdict};

/// Attempts without a failure that bound its probability to 1 % at 99 %: ln 0.01 / ln 0.99.
pub const LEAST_ATTEMPTS: u64 = 459;
/// A victim without a completion for this long, and ten times as long as before the fault, was held up.
const HELD_UP: Nanos = Nanos::secs(1);

pub(super) fn of(came: &Came) -> Found {
    match came {
        Came::Capacity(capacity) => of_capacity(capacity),
        Came::Leftovers(leftovers) => of_leftovers(leftovers),
        Came::Integrity(integrity) => of_integrity(integrity),
        Came::Faults(faults) => of_faults(faults),
        Came::Untold { why } => unproven("attempts", 0, why.clone()),
    }
}

fn unproven(unit: &'static str, of: u64, what: String) -> Found {
    let verdict = Verdict::Inconclusive { reason: Reason::Unproven { what: what.clone() } };
    Found { verdict, unit, hits: 0, of, text: what }
}

/// The most that the probability can be, in words.
fn at_most(hits: u64, of: u64) -> String {
    format!("{hits} of {of}: at most {:.2} % (99 %)", 100.0 * proportion_upper(hits, of, LEVEL))
}

fn people(bytes: u64) -> String {
    Bytes(bytes).for_people()
}

fn of_capacity(c: &Capacity) -> Found {
    let unit = "attempts";
    if let Some(why) = &c.worthless {
        return unproven(unit, 0, why.clone());
    }
    let took = |a: &&Attempt| a.step == Step::Take && a.outcome == Outcome::Ok;
    let held: u64 = c.neighbour.iter().filter(took).map(|a| a.asked).sum();
    let most = c.neighbour_beside.map_or(held, |reach| reach.total);
    let Some(began) = c.neighbour.iter().find(took).map(|a| a.at) else {
        return unproven(unit, 0, "the neighbour got no memory at all: nothing was tried".to_owned());
    };
    let mine = |a: &&Attempt| a.at >= began;
    let beside: Vec<&Attempt> = c.victim.iter().filter(mine).collect();
    let before = c.victim.iter().filter(|a| !mine(a));
    let of = beside.len() as u64;
    let failed: Vec<&&Attempt> = beside.iter().filter(|a| a.outcome == Outcome::Oom).collect();
    let other = beside.iter().find(|a| !matches!(a.outcome, Outcome::Ok | Outcome::Oom));
    if c.victim_alone.is_some_and(|alone| alone.total < c.budget) || before.clone().any(|a| a.outcome != Outcome::Ok) {
        let alone = c.victim_alone.map_or_else(|| "less".to_owned(), |alone| people(alone.total));
        let what = format!("the budget of {} does not fit here alone: it got {alone}", people(c.budget));
        return unproven(unit, of, what);
    }
    let against = format!("while the neighbour took {}", people(most));
    if let Some(first) = failed.first() {
        let hits = failed.len() as u64;
        let free =
            first.seen.map_or_else(String::new, |(free, all)| format!(", {} of {} free", people(free), people(all)));
        let text = format!(
            "out of memory in {hits} of {of} attempts within its budget of {} {against}; first asked for {}{free}",
            people(c.budget),
            people(first.asked)
        );
        return Found { verdict: Verdict::Violated, unit, hits, of, text };
    }
    if let Some(how) = &c.died {
        return unproven(unit, of, format!("the victim ended ({how}), and nothing shows that the neighbour caused it"));
    }
    if let Some(error) = other {
        let what = format!("an attempt failed with {:?}, which is no lack of memory", error.outcome);
        return unproven(unit, of, what);
    }
    if of < LEAST_ATTEMPTS {
        let verdict = Verdict::Inconclusive { reason: Reason::TooFewTrials { trials: of, needed: LEAST_ATTEMPTS } };
        let text = format!("no failure in {of} attempts {against}; {LEAST_ATTEMPTS} are needed");
        return Found { verdict, unit, hits: 0, of, text };
    }
    let text = format!("no failure within its budget of {} {against}, {}", people(c.budget), at_most(0, of));
    Found { verdict: Verdict::Isolated, unit, hits: 0, of, text }
}

fn of_leftovers(l: &Leftovers) -> Found {
    let unit = "rounds";
    let hits: Vec<&Round> = l.rounds.iter().filter(|round| round.found > 0).collect();
    let overlap = |r: &Round| r.all.map(|all| (r.planted + r.scanned).saturating_sub(all));
    let proves = |r: &&Round| r.untold.is_none() && overlap(r).is_some_and(|bytes| bytes > 0);
    let proving: Vec<&Round> = l.rounds.iter().filter(proves).collect();
    let of = (proving.len() + hits.iter().filter(|hit| !proves(hit)).count()) as u64;
    if let Some(first) = hits.first() {
        let words: u64 = hits.iter().map(|round| round.found).sum();
        let (from, to) = first.range.unwrap_or_default();
        let text = format!(
            "{} of another tenant's data found in {} of {of} rounds; first after an exit that was {:?}, from byte {from} to byte {to} \
             of {} looked at",
            people(8 * words),
            hits.len(),
            first.exit,
            people(first.scanned)
        );
        return Found { verdict: Verdict::Violated, unit, hits: hits.len() as u64, of, text: text.to_lowercase() };
    }
    let Some(least) = proving.iter().filter_map(|round| overlap(round)).min() else {
        let looked = l.rounds.iter().any(|round| round.untold.is_none());
        let why = l.rounds.iter().find_map(|round| round.untold.clone()).filter(|_| !looked);
        let why = why.unwrap_or_else(|| {
            "no round looked at memory that surely held what was planted: plant more, or leave less to others"
                .to_owned()
        });
        return unproven(unit, 0, why);
    };
    let looked: u64 = proving.iter().map(|round| round.scanned).sum();
    let same = proving.iter().filter(|round| round.same_place).count();
    let from = match (same, proving.len() - same) {
        (0, _) => "from the neighbour's place",
        (_, 0) => "by the next tenant of the same place, no other place having that memory",
        _ => "from the neighbour's place and by the next tenant of the same",
    };
    let text = format!(
        "nothing found {from} in {} looked at, of which {} or more a round had held the pattern; {}",
        people(looked),
        people(least),
        at_most(0, of)
    );
    Found { verdict: Verdict::Isolated, unit, hits: 0, of, text }
}

fn of_integrity(i: &Integrity) -> Found {
    let unit = "checks";
    let mut checks = i.checks.iter();
    let Some(first) = checks.next() else { return unproven(unit, 0, "nothing was checked".to_owned()) };
    let (of, words) = (checks.len() as u64, checks.clone().map(|check| check.words).sum::<u64>());
    if first.changed > 0 {
        let what =
            "words had changed before any neighbour did anything: the card or the check itself is to blame".to_owned();
        return unproven(unit, of, what);
    }
    let changed: Vec<_> = checks.filter(|check| check.changed > 0).collect();
    let reads = i.trespasses.iter().find(|trespass| trespass.found > 0);
    if let Some(check) = changed.first() {
        let at = check.first.map_or_else(String::new, |c| {
            format!(", first at {:#x}: {:#018x} in place of {:#018x}", c.address, c.found, c.expected)
        });
        let text = format!("{} words of the victim's had changed after {}{at}", check.changed, check.after);
        return Found { verdict: Verdict::Violated, unit, hits: changed.len() as u64, of, text };
    }
    if let Some(trespass) = reads {
        let text = format!("{}: it brought {} words of the victim's", trespass.what, trespass.found);
        return Found { verdict: Verdict::Violated, unit, hits: 1, of, text };
    }
    if let Some(how) = &i.died {
        return unproven(unit, of, format!("the victim ended ({how}), and nothing shows that the neighbour caused it"));
    }
    if of == 0 {
        return unproven(unit, 0, "nothing was checked after the neighbour".to_owned());
    }
    let reaches = i.trespasses.len();
    let refused = i.trespasses.iter().filter(|trespass| trespass.refused.is_some()).count();
    let outside = match &i.left_out {
        Some(why) if reaches == 0 => why.clone(),
        _ => format!("{refused} of {reaches} reaches outside its own memory were refused"),
    };
    let text = format!(
        "no word of {} changed in {of} checks ({words} words in all); {outside}; {}",
        people(i.budget),
        at_most(0, of)
    );
    Found { verdict: Verdict::Isolated, unit, hits: 0, of, text }
}

/// What a trial did to the victim, and to whoever came after.
enum Effect {
    /// The driver's own words show it.
    Shown(String),
    /// The victim was gone or held up, and nothing shows why.
    Unshown(String),
}

fn effect(trial: &FaultTrial) -> Option<Effect> {
    let v = &trial.victim;
    let mut shown = Vec::new();
    if let Some((code, _)) = v.errors.first() {
        shown.push(format!("the victim got error {code}"));
    }
    if v.wrong > 0 {
        shown.push(format!("{} results of the victim's were wrong", v.wrong));
    }
    if let (None, Some(why)) = (trial.newcomer.started, &trial.newcomer.why) {
        shown.push(format!("a new tenant could not start: {why}"));
    }
    if !shown.is_empty() {
        return Some(Effect::Shown(shown.join(", ")));
    }
    if let Some(how) = &v.died {
        return Some(Effect::Unshown(format!("the victim ended: {how}")));
    }
    let [before, after] = v.gaps_ns;
    if v.lost > 0 || v.recovered.is_none() || (after > HELD_UP && after.0 > before.0.saturating_mul(10)) {
        let text = format!("the victim was held up for {after}, {} requests lost", v.lost);
        return Some(if trial.xids.is_empty() { Effect::Unshown(text) } else { Effect::Shown(text) });
    }
    None
}

/// What a trial did to others, in words; `None`: nothing.
pub fn after_fault(trial: &FaultTrial) -> Option<String> {
    effect(trial).map(|(Effect::Shown(what) | Effect::Unshown(what))| what)
}

fn of_faults(f: &Faults) -> Found {
    let unit = "trials";
    let (controls, acts): (Vec<&FaultTrial>, Vec<&FaultTrial>) = f.trials.iter().partition(|t| t.fault.is_none());
    if let Some(Effect::Shown(what) | Effect::Unshown(what)) = controls.iter().find_map(|trial| effect(trial)) {
        return unproven(unit, 0, format!("the same happens without a fault: {what}"));
    }
    let happened: Vec<&&FaultTrial> = acts.iter().filter(|trial| trial.act.happened).collect();
    let of = happened.len() as u64;
    if controls.is_empty() || of == 0 {
        let what = match of {
            0 => "no fault came about",
            _ => "no trial without a fault to compare with",
        };
        return unproven(unit, of, what.to_owned());
    }
    let (mut shown, mut unshown, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
    for trial in happened {
        match effect(trial) {
            Some(Effect::Shown(what)) => {
                shown.push(what);
                let id = trial.fault.map_or("", FaultKind::id);
                if !kinds.contains(&id) {
                    kinds.push(id);
                }
            }
            Some(Effect::Unshown(what)) => unshown.push(what),
            None => {}
        }
    }
    if let (Some(why), Some(fault)) = (&f.lost, acts.last().and_then(|trial| trial.fault)) {
        let text = format!("the device was lost over {}: {why}", fault.id());
        return Found { verdict: Verdict::Violated, unit, hits: shown.len() as u64 + 1, of, text };
    }
    if let Some(first) = shown.first() {
        let hits = shown.len() as u64;
        let text = format!("a fault reached others in {hits} of {of} trials ({}): {first}", kinds.join(", "));
        return Found { verdict: Verdict::Violated, unit, hits, of, text };
    }
    let (hits, without) = (unshown.len() as u64, controls.len() as u64);
    if let Some(first) = unshown.first().filter(|_| chance_of_none(hits, of, without) <= LEVEL) {
        let text =
            format!("a fault reached the victim in {hits} of {of} trials, and in none of {} without: {first}", without);
        return Found { verdict: Verdict::Violated, unit, hits, of, text };
    }
    if let Some(what) = unshown.first() {
        return unproven(
            unit,
            of,
            format!(
                "{what}, in {hits} of {of} trials and in none of {without} without a fault: too few to show that the neighbour \
                 caused it"
            ),
        );
    }
    let text = format!("no fault reached anybody; {}", at_most(0, of));
    Found { verdict: Verdict::Isolated, unit, hits: 0, of, text }
}
