//! What was observed beside the cells, against what was required of it.

use serde::{Deserialize, Serialize};

use super::types::RequirementState;
use crate::observation::{Asked, Observed};
use crate::plan::{Plan, PlannedArrangement};
use crate::run_dir::RecordedRun;

/// One observation that the scenario asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObservedVerdict {
    /// Index of the arrangement.
    pub arrangement: usize,
    /// What was observed; without a finding where nothing was.
    pub observed: Observed,
    /// The finding that was required; `None`: any, and none at all.
    pub required: Option<String>,
    /// Whether that holds.
    pub requirement: RequirementState,
}

/// Whether any observation of the plan must come out in one way.
pub(super) fn requires(plan: &Plan) -> bool {
    plan.arrangements.iter().flat_map(|a| &a.observe).any(|asked| asked.required.is_some())
}

/// Every observation that the plan asks for, in its order.
pub(super) fn judge(run: &RecordedRun) -> Vec<ObservedVerdict> {
    let all = run.manifest.plan.arrangements.iter().enumerate();
    all.flat_map(|(index, planned)| planned.observe.iter().map(move |asked| one(run, index, planned, asked))).collect()
}

fn one(run: &RecordedRun, arrangement: usize, planned: &PlannedArrangement, asked: &Asked) -> ObservedVerdict {
    let seen = run.observed.get(&arrangement).into_iter().flatten().find(|observed| observed.id == asked.id);
    let observed = seen.cloned().unwrap_or_else(|| {
        let skipped = run.skipped.get(&arrangement).or(planned.skipped.as_ref());
        Observed {
            id: asked.id.clone(),
            finding: None,
            why: skipped.map_or_else(|| "the run ended before it was made".to_owned(), |why| format!("skipped: {why}")),
            figures: Default::default(),
        }
    });
    let requirement = match (&asked.required, &observed.finding) {
        (None, _) => RequirementState::NotRequired,
        (Some(_), None) => RequirementState::Undecided,
        (Some(required), Some(found)) if required == found => RequirementState::Met,
        (Some(_), Some(_)) => RequirementState::NotMet,
    };
    ObservedVerdict { arrangement, observed, required: asked.required.clone(), requirement }
}

#[cfg(test)]
mod tests {
    use super::super::{judge, synthetic::Lab};
    use super::*;
    use crate::observation::find;

    /// The state of a run that requires turns of milliseconds, and observed this.
    fn state(
        observed: Option<Observed>,
        required: Option<&str>,
        skipped: bool,
    ) -> (RequirementState, RequirementState) {
        let mut run = Lab::default().run(|_, _| 100.0);
        run.manifest.plan.arrangements[0].observe =
            vec![Asked { id: "turns".to_owned(), required: required.map(str::to_owned) }];
        run.manifest.plan.arrangements[0].require = Default::default();
        run.observed.insert(0, observed.into_iter().collect());
        if skipped {
            run.skipped.insert(0, "no such GPU".to_owned());
        }
        let verdict = judge(&run);
        (verdict.observed[0].requirement, verdict.requirement)
    }

    #[test]
    fn a_finding_meets_its_requirement_or_not_and_one_untold_is_undecided() {
        use RequirementState::{Met, NotMet, NotRequired, Undecided};
        let turns = find("turns").unwrap();
        let found = |finding| Some(turns.found(finding, "a reason"));
        let required = Some("milliseconds");
        assert_eq!(state(found("milliseconds"), required, false), (Met, Met));
        assert_eq!(state(found("none"), required, false), (NotMet, NotMet));
        assert_eq!(state(Some(turns.unknown("a reason")), required, false), (Undecided, Undecided));
        assert_eq!(state(None, required, false), (Undecided, Undecided));
        assert_eq!(state(None, required, true), (Undecided, Undecided));
        assert_eq!(state(found("none"), None, false), (NotRequired, NotRequired));
    }

    #[test]
    fn one_that_was_skipped_says_so() {
        let mut run = Lab::default().run(|_, _| 100.0);
        run.manifest.plan.arrangements[0].observe = vec![Asked { id: "turns".to_owned(), required: None }];
        run.skipped.insert(0, "no such GPU".to_owned());
        assert_eq!(judge(&run).observed[0].observed.why, "skipped: no such GPU");
    }
}
