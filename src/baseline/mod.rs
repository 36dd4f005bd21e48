//! A baseline: what earlier runs of a card in a layout came to, in one file that is small enough to be committed beside a
//! scenario. It keeps what a comparison needs of their digests, and nothing else.

mod json;
#[cfg(test)]
mod tests;
mod text;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::compare::{Alike, Evidence, Group, Key, Unlike};
use crate::provenance::Provenance;
use crate::report::{Options, document};

const FORMAT: &str = "crosstalk-baseline";
const VERSION: u32 = 1;

/// A baseline file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// What must be said first of numbers that were not measured on hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub banner: Option<String>,
    /// "crosstalk-baseline".
    pub format: String,
    /// Version of the format.
    pub version: u32,
    /// Where all of its numbers come from.
    pub provenance: Provenance,
    /// Runs that are alike, by card, then by layout and scenario.
    pub sets: Vec<Group>,
}

/// Why a baseline could not be read, changed or written.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// The system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no baseline, or was changed by hand.
    #[error("{} is no baseline that this crosstalk reads: {why}; take it from a copy, or begin a new one with `crosstalk baseline add`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// From a newer crosstalk.
    #[error("{} is version {found} of its format, this crosstalk reads up to {VERSION}: use the crosstalk that wrote it, or a newer one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u64,
    },
    /// The run is in it already.
    #[error(
        "this run is in the baseline already (root {root}, of {date}): the same run twice would make its levels look more certain than they are"
    )]
    Twice {
        /// Its root hash.
        root: String,
        /// Its date.
        date: String,
    },
    /// Numbers of two kinds.
    #[error(
        "the run is {new:?} and the baseline {base:?}: what was not measured on hardware and what was never share a baseline; name another file"
    )]
    Provenance {
        /// Of the run.
        new: Provenance,
        /// Of the baseline.
        base: Provenance,
    },
}

/// JSON Schema of a baseline file.
pub fn schema() -> serde_json::Value {
    document("crosstalk baseline", |generator| vec![generator.subschema_for::<Baseline>()])
}

impl Baseline {
    /// One that holds nothing yet.
    pub fn new(provenance: Provenance) -> Self {
        Self {
            banner: provenance.banner().map(str::to_owned),
            format: FORMAT.to_owned(),
            version: VERSION,
            provenance,
            sets: Vec::new(),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read, is no baseline, has a field that is not known here, or is from a newer crosstalk.
    pub fn load(path: &Path) -> Result<Self, BaselineError> {
        let bytes =
            std::fs::read(path).map_err(|source| BaselineError::Io { doing: "read", path: path.to_owned(), source })?;
        Self::read(path, &bytes)
    }

    /// Reads what stands in the file `path`.
    fn read(path: &Path, bytes: &[u8]) -> Result<Self, BaselineError> {
        let damaged = |why: String| BaselineError::Damaged { path: path.to_owned(), why };
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
        if value["format"].as_str() != Some(FORMAT) {
            return Err(damaged(format!("expected \"format\": {FORMAT:?}, found {}", value["format"])));
        }
        match value["version"].as_u64() {
            Some(found) if found > u64::from(VERSION) => {
                return Err(BaselineError::Newer { path: path.to_owned(), found });
            }
            Some(found) if found == u64::from(VERSION) => {}
            _ => return Err(damaged(format!("expected \"version\": {VERSION}, found {}", value["version"]))),
        }
        // From the text, so that an error has its line.
        let baseline: Self = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
        if baseline.banner.as_deref() != baseline.provenance.banner() {
            return Err(damaged("its banner is not that of its provenance".to_owned()));
        }
        if baseline.sets.iter().any(|set| set.alike.provenance != baseline.provenance) {
            return Err(damaged(format!("it says {:?}, and holds runs of another provenance", baseline.provenance)));
        }
        let mut roots: Vec<&str> = baseline.runs().map(|run| run.root_sha256.as_str()).collect();
        roots.sort_unstable();
        if let Some(twice) = roots.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(damaged(format!("the run {} is in it twice", twice[0])));
        }
        if baseline.sets.is_empty() || baseline.sets.iter().any(|set| set.runs.is_empty()) {
            return Err(damaged("it, or a set of it, holds no runs".to_owned()));
        }
        Ok(baseline)
    }

    /// Every run.
    fn runs(&self) -> impl Iterator<Item = &crate::compare::Summary> {
        self.sets.iter().flat_map(|set| &set.runs)
    }

    /// Adds a run. The order in which runs are added makes no difference.
    ///
    /// # Errors
    /// Where it is there already, or of another provenance.
    pub fn add(&mut self, evidence: Evidence) -> Result<(), BaselineError> {
        let Evidence { alike, mut run } = evidence;
        if alike.provenance != self.provenance {
            return Err(BaselineError::Provenance { new: alike.provenance, base: self.provenance });
        }
        if let Some(twice) = self.runs().find(|other| other.root_sha256 == run.root_sha256) {
            return Err(BaselineError::Twice { root: twice.root_sha256.clone(), date: twice.date.to_string() });
        }
        // Levels beside neighbours serve to compare modes within a run; here they would be most of the file.
        run.cells.iter_mut().for_each(|cell| cell.noisy.clear());
        match self.sets.iter_mut().find(|set| set.alike == alike) {
            Some(set) => set.runs.push(run),
            None => self.sets.push(Group { alike, runs: vec![run] }),
        }
        for set in &mut self.sets {
            set.runs.sort_by(|a, b| (a.date, &a.root_sha256).cmp(&(b.date, &b.root_sha256)));
        }
        self.sets
            .sort_by_cached_key(|set| (set.alike.uuid.clone(), serde_json::to_string(&set.alike).unwrap_or_default()));
        Ok(())
    }

    /// The runs to compare a new one with: those that are alike, or, of differences that are `allowed`, those with the fewest.
    ///
    /// # Errors
    /// Where none are: in what the nearest differ.
    pub fn reference(&self, new: &Alike, allowed: &[Key]) -> Result<&Group, Unlike> {
        let unlike = |set: &Group| set.alike.check(new, allowed).err().unwrap_or(Unlike { differences: Vec::new() });
        let nearest =
            self.sets.iter().min_by_key(|set| (unlike(set).differences.len(), set.alike.differences(new).len()));
        match nearest {
            Some(set) => set.alike.check(new, allowed).map(|_| set),
            None => Err(Unlike { differences: Vec::new() }),
        }
    }

    /// The text of the file.
    ///
    /// # Errors
    /// Where a number has no JSON form, which is a bug.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        json::render(self)
    }

    /// The baseline as text for a terminal.
    pub fn text(&self, options: &Options) -> String {
        text::render(self, options)
    }
}
