//! What is observed of an arrangement beside its cells: facts that no latency shows, each with its evidence.
//!
//! An observation comes out as one of its findings, or untold. A scenario asks for it by its id and may require a finding;
//! what could not be told meets no requirement.

pub(crate) mod accounting;
pub(crate) mod all_reduce;
pub(crate) mod ipc;
pub(crate) mod layout_change;
pub(crate) mod metrics;
pub(crate) mod peers;
mod told;
pub(crate) mod visibility;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use accounting::ACCOUNTING;
pub use all_reduce::ALL_REDUCE;
pub use ipc::IPC;
pub use layout_change::LAYOUT_CHANGE;
pub use metrics::METRICS;
pub use peers::PEER_ACCESS;
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
    Backend,
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
pub const CATALOGUE: &[&Observation] =
    &[&PEER_ACCESS, &IPC, &ALL_REDUCE, &VISIBILITY, &ACCOUNTING, &METRICS, &LAYOUT_CHANGE];

/// The observation of this id.
pub fn find(id: &str) -> Option<&'static Observation> {
    CATALOGUE.iter().copied().find(|observation| observation.id == id)
}

impl Observation {
    /// It could not be told, and why.
    pub fn unknown(&self, why: impl Into<String>) -> Observed {
        Observed { id: self.id.to_owned(), finding: None, why: why.into(), figures: BTreeMap::new() }
    }
}
