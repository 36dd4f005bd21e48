//! The event log: one JSON object a line. A line that is whole and on disk has happened.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files::{self, EVENTS};
use super::{ArmData, Calibration, RunDirError};
use crate::backend::{ArmKey, ArmSummary, Company, Evidence, Purpose};
use crate::hazard::Tried;
use crate::observation::Observed;
use crate::provenance::Provenance;

pub(super) const FORMAT: &str = "crosstalk-events";
pub(super) const VERSION: u32 = 1;

/// The first line.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) format: String,
    pub(super) version: u32,
    /// Where the numbers come from.
    pub(super) provenance: Provenance,
    /// Ties the events to the manifest.
    pub(super) manifest_sha256: String,
}

/// Every further line: an object with one key, the kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Event {
    /// What calibration fixed for a grid.
    Calibrated(Calibration),
    /// An arrangement that could not run.
    Skipped {
        /// Its index.
        arrangement: usize,
        /// Why.
        reason: String,
    },
    /// An arm is on disk: this line is the commit.
    Committed(Box<Committed>),
    /// The tenants of a grid are up: what proves that each is in its seat.
    Arranged {
        /// Index of the arrangement.
        arrangement: usize,
        /// Index of the grid.
        grid: usize,
        /// The generation that begins; `None`: calibration.
        generation: Option<u32>,
        /// Who is there beside the victim.
        #[serde(default, skip_serializing_if = "Company::is_beside")]
        company: Company,
        /// The proof.
        evidence: Evidence,
    },
    /// An arrangement was given up before its end.
    GivenUp {
        /// Its index.
        arrangement: usize,
        /// Why.
        reason: String,
    },
    /// Everything that is judged of a neighbour was decided at a look: it has no arm in later blocks.
    Stopped {
        /// Index of the arrangement.
        arrangement: usize,
        /// Index of the grid.
        grid: usize,
        /// Index of the neighbour.
        neighbour: usize,
        /// Index of the look.
        look: usize,
    },
    /// A control that could not be run.
    NoControl {
        /// Index of the arrangement.
        arrangement: usize,
        /// Index of the grid.
        grid: usize,
        /// What its arms are for.
        purpose: Purpose,
        /// Why.
        reason: String,
    },
    /// An arm that was begun and could not be measured to its end.
    Lost {
        /// Which.
        arm: ArmKey,
        /// Why.
        reason: String,
    },
    /// The arms of a block do not count, those above this line included: their tenants are gone before it was whole.
    Dropped {
        /// Index of the arrangement.
        arrangement: usize,
        /// Index of the grid.
        grid: usize,
        /// The block.
        block: u32,
        /// What the arms are for; those of a block include its second quiet arm.
        #[serde(default, skip_serializing_if = "Purpose::is_block")]
        purpose: Purpose,
    },
    /// What was observed of an arrangement beside its cells.
    Observed {
        /// Index of the arrangement.
        arrangement: usize,
        /// What.
        observed: Observed,
    },
    /// A hazard was tried.
    Tried(Box<Tried>),
    /// Something that a reader of the log wants to know.
    Note(Note),
}

/// An arm on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Committed {
    pub(super) arm: ArmKey,
    /// Its samples.
    pub(super) file: String,
    /// SHA-256 of that file.
    pub(super) sha256: String,
    /// Number of its samples.
    pub(super) samples: u64,
    /// What histograms cannot hold, per series.
    pub(super) series: Vec<Counts>,
    pub(super) summary: ArmSummary,
}

/// How the samples of one series ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Counts {
    pub(super) name: String,
    pub(super) completed: u64,
    pub(super) censored: u64,
    pub(super) failed: u64,
}

/// What else happens in a run, beside what is measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Note {
    /// The run was stopped before its end.
    Interrupted {},
    /// The run goes on after an interruption.
    Resumed {},
    /// A calibration could not be brought to its end, and begins anew.
    CalibrationLost {
        /// Index of the arrangement.
        arrangement: usize,
        /// Index of the grid.
        grid: usize,
        /// Why.
        reason: String,
    },
    /// An observation could not be brought to its end.
    ObservationLost {
        /// Index of the arrangement.
        arrangement: usize,
        /// Id of the observation.
        id: String,
        /// Why.
        reason: String,
    },
    /// A hazard could not be tried to the end, and is tried anew.
    HazardLost {
        /// Index of the arrangement.
        arrangement: usize,
        /// Name of the hazard.
        name: String,
        /// Why.
        reason: String,
    },
}

/// Counts of an arm's series, in the order of their names.
pub(super) fn counts(data: &ArmData) -> Vec<Counts> {
    data.series
        .iter()
        .map(|(name, s)| Counts {
            name: name.clone(),
            completed: s.latency.len(),
            censored: s.censored,
            failed: s.failed,
        })
        .collect()
}

/// One line, its newline included: without it the line is torn.
pub(super) fn line<T: Serialize>(event: &T) -> Result<Vec<u8>, RunDirError> {
    let mut line = serde_json::to_vec(event).map_err(|e| RunDirError::not_recordable("an event", e.to_string()))?;
    line.push(b'\n');
    Ok(line)
}

/// The log as read.
pub(super) struct Log {
    pub(super) header: Header,
    /// Events with the number of their line, from 2.
    pub(super) events: Vec<(usize, Event)>,
    /// Length of what is whole, bytes: a writer that goes on cuts the file here.
    pub(super) whole: u64,
}

/// Where in the log, for messages.
pub(super) fn at_line(number: usize) -> String {
    format!("{EVENTS} line {number}")
}

/// Reads the log. A torn last line is no event; `finished` runs have none.
pub(super) fn read(root: &Path, finished: bool) -> Result<Log, RunDirError> {
    parse(&files::read(root, EVENTS, files::MANIFEST)?, finished)
}

/// See [`read`].
pub(super) fn parse(bytes: &[u8], finished: bool) -> Result<Log, RunDirError> {
    let lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
    // A crash leaves a line without its end or, where the file grew before its data came, with zeros in it.
    let torn = lines.last().is_some_and(|last| last.last() != Some(&b'\n') || last.contains(&0));
    if torn && finished {
        return Err(RunDirError::damaged(
            &at_line(lines.len()),
            "a whole line, since the run is finished",
            "a torn one",
        ));
    }
    let whole = &lines[..lines.len() - usize::from(torn)];
    let (first, rest) = whole.split_first().ok_or_else(|| {
        RunDirError::damaged(EVENTS, "a first line with format and version", format!("{} bytes", bytes.len()))
    })?;
    let header = files::from_json(&at_line(1), first, FORMAT, VERSION)?;
    let event = |(i, line): (usize, &&[u8])| {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let event = serde_json::from_slice(text).map_err(|e| {
            // Its own line is that of the log.
            let found = e.to_string().replace(" at line 1 column ", " at column ");
            RunDirError::damaged(&at_line(i + 2), format!("an event of {FORMAT} {VERSION}"), found)
        })?;
        Ok((i + 2, event))
    };
    let events = rest.iter().enumerate().map(event).collect::<Result<_, RunDirError>>()?;
    Ok(Log { header, events, whole: whole.iter().map(|line| line.len() as u64).sum() })
}
