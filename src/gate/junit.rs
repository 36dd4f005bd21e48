//! The gate as JUnit XML: a case per rule and what it is of.

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::{Finding, Gate, evidence};
use crate::report::escape;
use crate::verdict::RequirementState;

/// Why no XML could be written: a bug.
#[derive(Debug, thiserror::Error)]
#[error("the gate has no JUnit form: {0}")]
pub struct JunitError(#[from] quick_junit::SerializeError);

/// The gate as JUnit XML. What is not met is a failure, what is undecided an error, an accepted risk is skipped.
///
/// # Errors
/// Where XML cannot be written, which is a bug of crosstalk.
pub fn junit(gate: &Gate) -> Result<String, JunitError> {
    let banner = gate.banner.as_ref().map_or_else(String::new, |banner| format!("{banner} · "));
    let mut report = Report::new(escape(&format!("{banner}crosstalk gate {}", gate.policy)));
    let mut suites: Vec<TestSuite> = Vec::new();
    for finding in &gate.findings {
        let new = suites.last().is_none_or(|suite| suite.name.as_str() != escape(&finding.rule));
        if new {
            let mut suite = TestSuite::new(escape(&finding.rule));
            let properties = [
                ("provenance", evidence::word(gate.provenance)),
                ("scenario", gate.scenario.as_str()),
                ("gpu", gate.gpu.as_str()),
                ("driver", gate.driver.as_deref().unwrap_or("unknown")),
            ];
            suite.add_properties(properties.map(|(key, value)| Property::new(key, escape(value))));
            suites.push(suite);
        }
        if let Some(suite) = suites.last_mut() {
            suite.add_test_case(case(gate, finding));
        }
    }
    report.add_test_suites(suites);
    Ok(report.to_string()?)
}

fn case(gate: &Gate, finding: &Finding) -> TestCase {
    let mut status = match finding.state {
        RequirementState::NotMet => TestCaseStatus::non_success(NonSuccessKind::Failure),
        RequirementState::Undecided => TestCaseStatus::non_success(NonSuccessKind::Error),
        RequirementState::Accepted => TestCaseStatus::skipped(),
        RequirementState::Met | RequirementState::NotRequired => TestCaseStatus::success(),
    };
    let word = match finding.state {
        RequirementState::NotMet => Some("not-met"),
        RequirementState::Undecided => Some("undecided"),
        RequirementState::Accepted => Some("accepted"),
        RequirementState::Met | RequirementState::NotRequired => None,
    };
    let text = escape(&finding.text);
    if let Some(word) = word {
        status.set_message(text.clone());
        status.set_type(word);
    }
    let mut case = TestCase::new(escape(&finding.subject), status);
    case.set_classname(escape(&format!("crosstalk.gate.{}.{}", gate.policy, finding.rule)));
    case.set_system_out(text);
    case
}
