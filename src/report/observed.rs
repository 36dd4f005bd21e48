//! What was observed beside the cells: its part of the model, of the terminal's text, and of `check`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::experiment;
use crate::observation::{ANY, find};
use crate::plan::{Plan, PlannedArrangement};
use crate::verdict::{ObservedVerdict, RequirementState};

use super::format::{NONE, nine_digits};
use super::model::{RequiredOf, Requirement, RunReport};
use super::text::{Line, Page, Tint};

/// One observation of one arrangement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObservedHere {
    /// The arrangement's name.
    pub arrangement: String,
    /// Id of the observation.
    pub id: String,
    /// What came out; `null`: it could not be told.
    pub finding: Option<String>,
    /// The evidence, or why there is none.
    pub why: String,
    /// Figures, by name with their unit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, f64>,
    /// The finding that was required; `null`: any.
    pub required: Option<String>,
    /// Whether that holds.
    pub requirement: RequirementState,
}

/// The part of the model.
pub(super) fn of(plan: &Plan, judged: &[ObservedVerdict]) -> Vec<ObservedHere> {
    let one = |v: &ObservedVerdict| ObservedHere {
        arrangement: plan.arrangements.get(v.arrangement).map_or_else(String::new, |a| a.name.clone()),
        id: v.observed.id.clone(),
        finding: v.observed.finding.clone(),
        why: v.observed.why.clone(),
        figures: v.observed.figures.iter().filter_map(|(k, f)| Some((k.clone(), nine_digits(*f)?))).collect(),
        required: v.required.clone(),
        requirement: v.requirement,
    };
    judged.iter().map(one).collect()
}

/// What is required of an observation, and how that stands.
pub(super) fn requirement(o: &ObservedHere) -> Option<Requirement> {
    let required = o.required.as_ref()?;
    let found = o
        .finding
        .as_ref()
        .map_or_else(|| format!("cannot be told: {}", o.why), |finding| format!("came out as {finding}: {}", o.why));
    let text = format!("must come out as {required}, and {found}");
    let cell = format!("{}, {}", o.arrangement, o.id);
    Some(Requirement { cell, of: RequiredOf::Observation, state: o.requirement, text })
}

/// The section of the terminal's text.
pub(super) fn section(page: &mut Page, run: &RunReport) {
    if run.observed.is_empty() {
        return;
    }
    page.heading("Observed");
    for o in &run.observed {
        let mut line = Line::of(Tint::Strong, &format!("{}, {}", o.arrangement, o.id)).with(Tint::Plain, ": ");
        match &o.finding {
            Some(finding) => line.push(Tint::Strong, finding),
            None => line.push(Tint::Open, &format!("{NONE} (cannot be told)")),
        }
        line.push(Tint::Plain, &format!(": {}", o.why));
        if let Some(required) = &o.required {
            let (tint, word) = match o.requirement {
                RequirementState::Met => (Tint::Good, "met"),
                RequirementState::NotMet => (Tint::Bad, "NOT MET"),
                _ => (Tint::Open, "undecided"),
            };
            line.push(Tint::Plain, &format!("; required {required}: "));
            line.push(tint, word);
        }
        page.paragraph(line, 2, 4);
    }
}

/// What `check` says of the observations of an arrangement.
pub(super) fn planned(page: &mut Page, plan: &Plan, index: usize, a: &PlannedArrangement) {
    for asked in &a.observe {
        let what = find(&asked.id).map_or("", |o| o.what);
        let required = asked.required.as_deref().unwrap_or(ANY);
        let mut text = format!(" = {required}: {what}");
        if a.skipped.is_none() {
            text.push_str(&format!(" {}", experiment::observing(plan, index, &asked.id)));
        }
        let line = Line::of(Tint::Plain, "observe ").with(Tint::Strong, &asked.id).with(Tint::Plain, &text);
        page.paragraph(line, 2, 4);
    }
}
