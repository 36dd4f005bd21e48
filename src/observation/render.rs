//! The catalogue as text: for the terminal, as JSON, and as a part of docs/scenario.md.

use super::{By, CATALOGUE};

/// Who tells, in words.
const fn by(by: By) -> &'static str {
    match by {
        By::Arms => "arms of its own",
        By::Backend { .. } => "the driver and the tenants, or the model's data in the simulator",
    }
}

/// Every observation with its findings, for a terminal.
pub fn table() -> String {
    let width = CATALOGUE.iter().map(|o| o.id.len()).max().unwrap_or(0);
    let mut out = String::new();
    for observation in CATALOGUE {
        out.push_str(&format!("{:width$}  {} (by {})\n", observation.id, observation.what, by(observation.by)));
        let words = observation.findings.iter().map(|(word, _)| word.len()).max().unwrap_or(0);
        for (word, meaning) in observation.findings {
            out.push_str(&format!("{:width$}    {word:words$}  {meaning}\n", ""));
        }
    }
    out
}

/// The same as JSON.
pub fn list_json() -> serde_json::Value {
    let entry = |o: &&super::Observation| {
        let findings: Vec<_> = o
            .findings
            .iter()
            .map(|(word, meaning)| serde_json::json!({ "finding": word, "meaning": meaning }))
            .collect();
        serde_json::json!({ "id": o.id, "what": o.what, "by": by(o.by), "findings": findings })
    };
    CATALOGUE.iter().map(entry).collect()
}

/// The same as a section of a document.
pub fn markdown() -> String {
    let mut out = "## Observations\n\nWhat `observe` knows. Each comes out as one of its findings, or untold; `\"any\"` \
                   requires none.\n\n| observation | what is asked | told by | finding | meaning |\n|---|---|---|---|---|\n"
        .to_owned();
    for o in CATALOGUE {
        for (i, (word, meaning)) in o.findings.iter().enumerate() {
            let head = if i == 0 {
                [format!("`{}`", o.id), o.what.to_owned(), by(o.by).to_owned()]
            } else {
                Default::default()
            };
            out.push_str(&format!("| {} | `{word}` | {meaning} |\n", head.join(" | ")));
        }
    }
    out
}
