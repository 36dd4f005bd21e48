//! What people say about sharing a GPU, as tests: each claim with how it is decided and what was found.
//!
//! A claim with a scenario holds where the requirements of `claims/<id>` are met. One about profiles is decided from the
//! models' data, whenever it is asked. What needs more than this version measures says so, and is never called decided.

mod catalogue;
mod data;

pub use catalogue::CLAIMS;

use crate::gpu::{GpuModel, models};

/// One claim.
pub struct Claim {
    /// Its id: that of its scenario too, where it has one.
    pub id: &'static str,
    /// What is said.
    pub claimed: &'static str,
    /// What decides it.
    decided: Decided,
    /// What of it this version does not test, where it tests a part.
    untested: Option<&'static str>,
}

/// What decides a claim.
enum Decided {
    /// The data of GPU models alone.
    Data(fn(&[GpuModel]) -> Option<Finding>),
    /// A run of its scenario. Here stands what the simulator finds there; a test runs it and compares.
    Run {
        /// The simulated model.
        on: &'static str,
        holds: bool,
        why: &'static str,
    },
    /// Both: it holds where both say so.
    Both {
        data: fn(&[GpuModel]) -> Option<Finding>,
        /// As of a run alone.
        on: &'static str,
        holds: bool,
        why: &'static str,
    },
    /// A run of its scenario on a card: the simulator tells nothing of it.
    Card,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the claim holds.
    pub holds: bool,
    /// What it was decided by, in words.
    pub why: String,
    /// Where the figures come from: no card was asked for any of them.
    pub by: String,
}

impl Claim {
    /// What was found; `None` where this version tests nothing of it, or the data do not tell.
    pub fn found(&self) -> Option<Finding> {
        match self.decided {
            Decided::Data(decide) => decide(models()),
            Decided::Run { on, holds, why } => {
                Some(Finding { holds, why: why.to_owned(), by: format!("simulated {on}, not yet measured") })
            }
            Decided::Both { data, on, holds, why } => {
                let by_data = data(models())?;
                Some(Finding {
                    holds: by_data.holds && holds,
                    why: format!("{}; {why}", by_data.why),
                    by: format!("{}; simulated {on}, not yet measured", by_data.by),
                })
            }
            Decided::Card => None,
        }
    }

    /// What the simulator finds of its scenario, where it has one.
    pub fn simulated(&self) -> Option<bool> {
        match self.decided {
            Decided::Run { holds, .. } | Decided::Both { holds, .. } => Some(holds),
            Decided::Data(_) | Decided::Card => None,
        }
    }

    /// The name of the built-in scenario that decides it, where one does.
    pub fn scenario(&self) -> Option<String> {
        let by_run = matches!(self.decided, Decided::Run { .. } | Decided::Both { .. } | Decided::Card);
        by_run.then(|| format!("claims/{}", self.id))
    }

    /// The verdict in a few words, and what stands behind it.
    fn words(&self) -> (&'static str, String) {
        let untested = self.untested.map(|what| format!("not tested yet: {what}"));
        let Some(found) = self.found() else {
            return ("not tested yet", self.untested.map_or_else(String::new, |what| format!("it needs {what}")));
        };
        let word = match (found.holds, &untested) {
            (false, _) => "does not hold",
            (true, None) => "holds",
            (true, Some(_)) => "holds in part",
        };
        let why: Vec<String> = [Some(found.why), untested].into_iter().flatten().collect();
        (word, format!("{} ({})", why.join("; "), found.by))
    }
}

/// Every claim with what was found, for a terminal.
pub fn table() -> String {
    let width = CLAIMS.iter().map(|claim| claim.id.len()).max().unwrap_or(0);
    let one = |claim: &Claim| {
        let (word, why) = claim.words();
        let why = if why.is_empty() { why } else { format!(": {why}") };
        format!("{:width$}  {}\n{:width$}  → {word}{why}\n", claim.id, claim.claimed, "")
    };
    CLAIMS.iter().map(one).collect()
}

/// The table of the README.
pub fn markdown() -> String {
    let mut out = "| claim | what is said | found | by what |\n|---|---|---|---|\n".to_owned();
    for claim in CLAIMS {
        let (word, why) = claim.words();
        out.push_str(&format!("| {} | {} | {word} | {why} |\n", claim.id, claim.claimed));
    }
    out
}

/// The same as JSON; what is not tested has no finding.
pub fn list_json() -> serde_json::Value {
    let entry = |claim: &Claim| {
        let found = claim.found().map(|f| serde_json::json!({ "holds": f.holds, "why": f.why, "by": f.by }));
        serde_json::json!({
            "id": claim.id,
            "claimed": claim.claimed,
            "scenario": claim.scenario(),
            "found": found,
            "untested": claim.untested,
        })
    };
    serde_json::Value::Array(CLAIMS.iter().map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::BUILTIN;

    #[test]
    fn every_scenario_of_a_claim_is_one_and_every_claim_is_there_once() {
        let mut scenarios: Vec<String> = CLAIMS.iter().filter_map(Claim::scenario).collect();
        scenarios.sort();
        let mut built_in: Vec<_> = BUILTIN.iter().map(|(name, _)| (*name).to_owned()).collect();
        built_in.retain(|name| name.starts_with("claims/"));
        built_in.sort();
        assert_eq!(scenarios, built_in);
        let mut ids: Vec<&str> = CLAIMS.iter().map(|claim| claim.id).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all);
    }

    #[test]
    fn what_is_not_tested_is_never_called_decided() {
        for claim in CLAIMS.iter().filter(|claim| claim.found().is_none()) {
            assert_eq!(claim.words().0, "not tested yet", "{}", claim.id);
            assert!(claim.untested.is_some(), "{} does not say what it needs", claim.id);
        }
    }

    /// Compares the README's table with this one; `CROSSTALK_BLESS=1` writes it.
    #[test]
    fn the_table_of_the_readme_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(path).expect("a README");
        let (open, close) = ("<!-- claims: written by a test -->\n", "<!-- end of claims -->");
        let (before, rest) = readme.split_once(open).expect("the table's opening mark");
        let (table, after) = rest.split_once(close).expect("its closing mark");
        if std::env::var_os("CROSSTALK_BLESS").is_some() {
            std::fs::write(path, format!("{before}{open}{}{close}{after}", markdown())).expect("written");
            return;
        }
        assert!(table == markdown(), "README.md is out of date: run the tests once with CROSSTALK_BLESS=1");
    }
}
