//! The gate: a policy and the run directories of one plan → whether a pipeline goes on, with a line per reason. Pure; what
//! day it is comes in from outside.
//!
//! Nothing passes for want of evidence: what is absent, unfinished, too old, of another provenance or inconclusive is
//! undecided. Undecided says nothing against the machine, and is no pass.

mod against;
mod alike;
mod builtin;
mod demands;
mod evidence;
mod junit;
mod keys;
mod policy;
mod text;

#[cfg(test)]
mod tests;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compare::Comparison;
use crate::provenance::Provenance;
use crate::report::{self, Report, RunReport};
use crate::run_dir::RecordedRun;
use crate::scenario::Tier;
use crate::verdict::{self, RequirementState, RunVerdict};

pub use alike::unlike;
pub use builtin::{BUILTIN, DEFAULT, LoadError, list_json, load, table};
pub use junit::{JunitError, junit};
pub use keys::schema as policy_schema;
pub use policy::{Baseline, Demand, Evidence, Must, Policy, read};
pub use text::text;

/// A run, judged as a policy asks.
pub struct Judged {
    run: RecordedRun,
    verdict: RunVerdict,
    report: RunReport,
    /// The day on which it began.
    date: Date,
    /// It against a baseline, or why that cannot be.
    against: Option<Result<Comparison, String>>,
}

impl Judged {
    /// Judges `run` as one of as many as the policy lets decide, its accepted risks by the date of `today`. `against` is the
    /// run held against a baseline, or why it cannot be, where there is one.
    pub fn new(
        mut run: RecordedRun,
        policy: &Policy,
        against: Option<Result<Comparison, String>>,
        today: Date,
    ) -> Self {
        let date = std::mem::replace(&mut run.manifest.date, today);
        if !policy.scenario_risks {
            run.manifest.plan.accepted.clear();
        }
        let (run, verdict) = verdict::judge_one_of(run, 1 + policy.retries);
        let report = Report::one(&run, &verdict);
        Self { run, verdict, report, date, against }
    }

    /// The run; its manifest holds today's date.
    pub fn run(&self) -> &RecordedRun {
        &self.run
    }
}

/// What a policy says of a run. Its fields are the JSON form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// What opens every format where the numbers were not measured on hardware.
    pub banner: Option<String>,
    /// "crosstalk-gate".
    pub format: String,
    /// Version of the format.
    pub version: u32,
    /// The whole answer: met (or accepted), undecided, or not met.
    pub answer: RequirementState,
    /// The answer in one line.
    pub summary: String,
    /// Name of the policy.
    pub policy: String,
    /// Where the numbers come from.
    pub provenance: Provenance,
    /// Name of the scenario.
    pub scenario: String,
    /// The GPU's product name.
    pub gpu: String,
    /// Its driver.
    pub driver: Option<String>,
    /// Tier of evidence.
    pub tier: Tier,
    /// The day on which the run began.
    #[schemars(with = "String")]
    pub date: Date,
    /// The day by which it is judged.
    #[schemars(with = "String")]
    pub today: Date,
    /// Everything that the policy asks, in its order, evidence first.
    pub findings: Vec<Finding>,
    /// What else must be known, as sentences.
    pub notes: Vec<String>,
}

/// One thing that the policy asks, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Where the policy asks it: "evidence", `cell[0]`, "scenario_requirements".
    pub rule: String,
    /// Of what: a cell, an objective, a hazard, an observation, a property of the run.
    pub subject: String,
    /// What came of it.
    pub state: RequirementState,
    /// Why, in one line.
    pub text: String,
    /// The retry that decided it, from 1, where the run left it open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<u32>,
}

/// JSON Schema of the JSON form.
pub fn schema() -> serde_json::Value {
    report::document("crosstalk gate", |generator| vec![generator.subschema_for::<Gate>()])
}

impl Gate {
    /// Name of the format.
    pub const FORMAT: &str = "crosstalk-gate";
    /// Version of the format.
    pub const VERSION: u32 = 1;

    /// Judges `run` by `policy`. `retries` and `previous` are runs of the same plan; whether they are, [`unlike`] says.
    pub fn judge(policy: &Policy, run: &Judged, retries: &[Judged], previous: &[Judged], today: Date) -> Self {
        let mut findings = evidence::of(&policy.evidence, run, "", today);
        let mut notes = Vec::new();
        // What was not measured where the policy asks says nothing of its cells, for or against.
        if policy.evidence.provenance.contains(&run.run.manifest.provenance) {
            for (index, retry) in retries.iter().enumerate() {
                findings.extend(evidence::of(&policy.evidence, retry, &format!("retry {}: ", index + 1), today));
            }
            findings.extend(demands::of(policy, run, retries, previous, today));
            notes = demands::notes(policy, run, today);
        }
        let answer = findings.iter().map(|finding| finding.state).max().unwrap_or(RequirementState::Undecided);
        let manifest = &run.run.manifest;
        let plan = &manifest.plan;
        Self {
            banner: manifest.provenance.banner().map(str::to_owned),
            format: Self::FORMAT.to_owned(),
            version: Self::VERSION,
            answer,
            summary: text::summary(answer, &findings),
            policy: policy.name.clone(),
            provenance: manifest.provenance,
            scenario: plan.scenario.clone(),
            gpu: plan.gpu().name.clone(),
            driver: plan.inventory.driver.clone(),
            tier: plan.design.tier,
            date: run.date,
            today,
            findings,
            notes,
        }
    }

    /// The gate as JSON, with a newline at its end.
    ///
    /// # Errors
    /// Where it has no JSON form, which is a bug of crosstalk.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}
