//! What is observed of an arrangement beside its cells: facts that no latency shows, each with its evidence.
//!
//! An observation comes out as one of its findings, or untold. A scenario asks for it by its id and may require a finding;
//! what could not be told meets no requirement.

pub(crate) mod accounting;
pub(crate) mod all_reduce;
pub(crate) mod compared;
pub(crate) mod fairness;
pub(crate) mod ipc;
pub(crate) mod layout_change;
pub(crate) mod metrics;
pub(crate) mod own_compute;
pub(crate) mod peers;
mod render;
mod told;
pub(crate) mod turns;
pub(crate) mod visibility;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::units::Nanos;

pub use accounting::ACCOUNTING;
pub use all_reduce::ALL_REDUCE;
pub use ipc::IPC;
pub use layout_change::LAYOUT_CHANGE;
pub use metrics::METRICS;
pub use peers::PEER_ACCESS;
pub use render::{list_json, markdown, table};
pub use visibility::VISIBILITY;

/// Something that can be observed of an arrangement.
#[derive(Debug, PartialEq, Eq)]
pub struct Observation {
    /// Its id, as scenarios write it.
    pub id: &'static str,
    /// What is asked, in one line.
    pub what: &'static str,
    /// What may come out, each with what it means.
    pub findings: &'static [(&'static str, &'static str)],
    /// Who tells.
    pub by: By,
}

/// Who tells what is to be observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Arms of its own, which the experiment runs.
    Arms,
    /// The backend: the driver, tenants beside those of the arms, or in virtual time the data of the model.
    Backend {
        /// How long asking takes (assumed): processes of its own that start, and stretches that it watches.
        takes: Nanos,
    },
}

/// An observation that a scenario asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Id of the observation.
    pub id: String,
    /// The finding that must come out; `None`: any, and none at all.
    pub required: Option<String>,
}

/// What was observed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// Id of the observation.
    pub id: String,
    /// What came out; `None`: it could not be told here.
    pub finding: Option<String>,
    /// The evidence, or why there is none, in words.
    pub why: String,
    /// Figures, by name with their unit ("rate_gb_s").
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, f64>,
}

/// Everything that can be observed, in the order of lists and documents.
pub const CATALOGUE: &[&Observation] = &[
    &turns::TURNS,
    &own_compute::OWN_COMPUTE,
    &fairness::FAIRNESS,
    &compared::ALONE,
    &compared::TOGETHER,
    &PEER_ACCESS,
    &IPC,
    &ALL_REDUCE,
    &VISIBILITY,
    &ACCOUNTING,
    &METRICS,
    &LAYOUT_CHANGE,
];

/// The word of a scenario that requires nothing: the observation is made and recorded.
pub const ANY: &str = "any";

/// The observation of this id.
pub fn find(id: &str) -> Option<&'static Observation> {
    CATALOGUE.iter().copied().find(|observation| observation.id == id)
}

impl Observation {
    /// It could not be told, and why.
    pub fn unknown(&self, why: impl Into<String>) -> Observed {
        Observed { id: self.id.to_owned(), finding: None, why: why.into(), figures: BTreeMap::new() }
    }

    /// It came out as `finding`, one of its findings, and why.
    pub fn found(&self, finding: &str, why: impl Into<String>) -> Observed {
        debug_assert!(self.findings.iter().any(|(word, _)| *word == finding), "{finding} is no finding of {}", self.id);
        Observed { finding: Some(finding.to_owned()), ..self.unknown(why) }
    }

    /// Whether it compares its arrangement with another one.
    pub(crate) fn compares(&self) -> bool {
        [compared::ALONE.id, compared::TOGETHER.id].contains(&self.id)
    }

    /// What a scenario may write of it: its findings, and that none is required.
    pub(crate) fn words(&self) -> impl Iterator<Item = &'static str> {
        self.findings.iter().map(|(word, _)| *word).chain([ANY])
    }
}

impl Observed {
    /// With one more figure; one that is no finite number is left out.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: f64) -> Self {
        if value.is_finite() {
            self.figures.insert(name.into(), value);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_findings_are_words_of_their_own() {
        let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        for (i, observation) in CATALOGUE.iter().enumerate() {
            assert!(
                word(observation.id) && CATALOGUE[..i].iter().all(|o| o.id != observation.id),
                "{}",
                observation.id
            );
            assert!(observation.findings.len() >= 2, "{} can come out one way only", observation.id);
            let mut words: Vec<_> = observation.words().collect();
            assert!(words.iter().all(|w| word(w)), "{words:?}");
            let all = words.len();
            words.sort_unstable();
            words.dedup();
            assert_eq!(words.len(), all, "{}", observation.id);
        }
    }

    #[test]
    fn a_figure_that_is_no_number_is_left_out() {
        let observed = turns::TURNS.unknown("why").with("a", 1.5).with("b", f64::NAN).with("c", f64::INFINITY);
        assert_eq!(observed.figures, [("a".to_owned(), 1.5)].into());
    }
}
