//! The gate as text: a line per reason, the most important first, and the answer last.

use super::{Finding, Gate, evidence};
use crate::report::escape;
use crate::verdict::RequirementState;

/// The gate for a log: what was not measured on hardware says so first; what is met is counted, not listed.
pub fn text(gate: &Gate) -> String {
    let mut lines: Vec<String> = gate.banner.iter().cloned().collect();
    let driver = gate.driver.as_ref().map_or_else(String::new, |driver| format!(" · driver {driver}"));
    lines.push(format!(
        "policy {} · {} · {} · {}{driver} · tier {} · run of {}",
        gate.policy,
        gate.scenario,
        evidence::word(gate.provenance),
        gate.gpu,
        gate.tier,
        gate.date
    ));
    for (state, word) in [
        (RequirementState::NotMet, "NOT MET"),
        (RequirementState::Undecided, "UNDECIDED"),
        (RequirementState::Accepted, "ACCEPTED"),
    ] {
        let found = gate.findings.iter().filter(|finding| finding.state == state);
        lines.extend(found.map(|finding| format!("{word:9} {}: {}", finding.subject, finding.text)));
    }
    // What a retry decided is never told as if the run had.
    let retried = |finding: &&Finding| finding.state == RequirementState::Met && finding.retry.is_some();
    let retried = gate.findings.iter().filter(retried);
    lines.extend(retried.map(|finding| format!("{:9} {}: {}", "RETRIED", finding.subject, finding.text)));
    lines.extend(gate.notes.iter().map(|note| format!("{:9} {note}", "note")));
    lines.push(gate.summary.clone());
    lines.iter().map(|line| escape(line) + "\n").collect()
}

/// The answer in one line, with what the shell sees.
pub(super) fn summary(answer: RequirementState, findings: &[Finding]) -> String {
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let (word, code) = match answer {
        RequirementState::NotMet => ("FAILED", 1),
        RequirementState::Undecided | RequirementState::NotRequired => ("UNDECIDED", 4),
        RequirementState::Met | RequirementState::Accepted => ("PASSED", 0),
    };
    let parts = [
        (RequirementState::NotMet, "not met"),
        (RequirementState::Undecided, "undecided"),
        (RequirementState::Accepted, "accepted"),
        (RequirementState::Met, "met"),
    ];
    let parts = parts.into_iter().map(|(state, words)| (count(state), words)).filter(|(n, _)| *n > 0);
    let parts: Vec<String> = parts.map(|(n, words)| format!("{n} {words}")).collect();
    format!("gate {word} (exit {code}): {}", parts.join(", "))
}
