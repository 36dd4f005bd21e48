//! Hazards: whether what a neighbour may do to a victim came true, in how many of how many attempts, and what that proves.

mod judged;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::requirements;
use super::types::{RequirementState, Verdict};
use crate::channel::Channel;
use crate::hazard::Tried;
use crate::plan::{Plan, PlannedArrangement};
use crate::run_dir::RecordedRun;
use crate::scenario::{Accept, Word};
use crate::stats::{proportion_lower, proportion_upper};

pub use judged::{LEAST_ATTEMPTS, after_fault};

/// One-sided level of the bound on a probability: 1 %.
pub const LEVEL: f64 = 0.01;

/// The judgement of one hazard in one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HazardVerdict {
    /// `arrangement[@seat]/hazard`.
    pub name: String,
    /// Index of the arrangement.
    pub arrangement: usize,
    /// Id of the victim's seat.
    pub seat: String,
    /// Index into the plan's hazards.
    pub hazard: usize,
    /// What came of it.
    pub verdict: Verdict,
    /// What was counted ("attempts", "rounds", "checks", "trials").
    pub unit: String,
    /// How often it came true.
    pub hits: u64,
    /// Of how many that count.
    pub of: u64,
    /// Bounds of its probability by Clopper and Pearson, each at 99 %; absent where nothing counts.
    pub bounds: Option<(f64, f64)>,
    /// The evidence, in one line.
    pub text: String,
    /// What was required of it, where something was.
    pub required: Option<Word>,
    /// Whether that holds.
    pub requirement: RequirementState,
    /// What contradicts `expect`, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surprise: Option<String>,
    /// Index into the record of what was tried; absent: it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<usize>,
}

/// What a record shows, before anybody asks for it.
struct Found {
    verdict: Verdict,
    unit: &'static str,
    hits: u64,
    of: u64,
    text: String,
}

/// Whether anything is required of any hazard of the plan.
pub(super) fn requires(plan: &Plan) -> bool {
    plan.arrangements.iter().any(|arrangement| {
        let word = |hazard: &usize| word(plan, arrangement, *hazard);
        arrangement.hazards.iter().any(|hazard| word(hazard).is_some())
    })
}

fn word(plan: &Plan, arrangement: &PlannedArrangement, hazard: usize) -> Option<Word> {
    let planned = &plan.hazards[hazard];
    arrangement.require.word_for(&planned.name, planned.channel, "").filter(|word| *word != Word::Any)
}

/// Every hazard that the plan asks for, in its order.
pub(super) fn judge(run: &RecordedRun) -> Vec<HazardVerdict> {
    let plan = &run.manifest.plan;
    let mut verdicts = Vec::new();
    for (index, arrangement) in plan.arrangements.iter().enumerate() {
        let mut victims: Vec<usize> = arrangement.grids.iter().map(|grid| grid.victim).collect();
        victims.dedup();
        for &hazard in &arrangement.hazards {
            if victims.is_empty() {
                verdicts.push(one(run, index, None, hazard, false));
            }
            for &victim in &victims {
                verdicts.push(one(run, index, Some(victim), hazard, victims.len() > 1));
            }
        }
    }
    verdicts
}

/// Whether a hazard over `channel` came out as required, where these risks of it are accepted.
pub(crate) fn asked(word: Word, verdict: &Verdict, channel: Channel, accepts: &[&Accept]) -> RequirementState {
    let bare = requirements::bare(word, verdict);
    let covers = |a: &&Accept| a.channel.as_deref().is_none_or(|id| id == channel.id());
    let open = matches!(bare, RequirementState::NotMet | RequirementState::Undecided);
    if open && accepts.iter().any(covers) { RequirementState::Accepted } else { bare }
}

fn one(run: &RecordedRun, index: usize, victim: Option<usize>, hazard: usize, several: bool) -> HazardVerdict {
    let manifest = &run.manifest;
    let plan = &manifest.plan;
    let arrangement = &plan.arrangements[index];
    let planned = &plan.hazards[hazard];
    let same = |t: &Tried| t.arrangement == index && Some(t.victim) == victim && t.hazard == hazard;
    let tried = run.tried.iter().position(same);
    let found = match tried.and_then(|at| run.tried.get(at)) {
        Some(tried) => judged::of(&tried.came),
        None => {
            let skipped = run.skipped.get(&index).or(arrangement.skipped.as_ref());
            let reason = skipped.cloned().unwrap_or_else(|| "the run ended before it was tried".to_owned());
            Found { text: reason.clone(), verdict: Verdict::Skipped { reason }, unit: "attempts", hits: 0, of: 0 }
        }
    };
    let seat = victim.and_then(|victim| arrangement.seats.get(victim)).map_or_else(String::new, |seat| seat.id.clone());
    let place = if several { format!("{}@{seat}", arrangement.name) } else { arrangement.name.clone() };
    let name = format!("{place}/{}", planned.name);
    let required = word(plan, arrangement, hazard);
    let valid = |a: &&Accept| a.until >= manifest.date && requirements::of(a, &arrangement.name, &seat, &planned.name);
    let accepts: Vec<&Accept> = plan.accepted.iter().filter(valid).collect();
    let requirement =
        required.map_or(RequirementState::NotRequired, |word| asked(word, &found.verdict, planned.channel, &accepts));
    let expected = arrangement.expect.word_for(&planned.name, planned.channel, "").filter(|word| *word != Word::Any);
    let surprise = expected
        .filter(|word| requirements::bare(*word, &found.verdict) == RequirementState::NotMet)
        .map(|word| format!("{name}: {}, expected {}", found.verdict.word(), word.id()));
    HazardVerdict {
        name,
        arrangement: index,
        seat,
        hazard,
        verdict: found.verdict,
        unit: found.unit.to_owned(),
        hits: found.hits,
        of: found.of,
        bounds: (found.of > 0)
            .then(|| (proportion_lower(found.hits, found.of, LEVEL), proportion_upper(found.hits, found.of, LEVEL))),
        text: found.text,
        required,
        requirement,
        surprise,
        tried,
    }
}
