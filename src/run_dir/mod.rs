//! The run directory: everything a run measured, on disk. Every report is a pure function of it.
//!
//! ```text
//! manifest.json                    what will be run: atomic, first
//! events.jsonl                     what has happened; a whole line on disk is the commit of what it tells
//! arms/ARRANGEMENT/0003-quiet.parquet    samples of one arm; ignored without its event
//! hlog/ARRANGEMENT/SERIES.hlog     histograms of every arm, in HdrHistogram's log format
//! digest.json                      pooled histograms, per-block differences and the verdict
//! SHA256SUMS                       of every file above, as `sha256sum --check` reads it
//! finished.json                    last: the SHA-256 of SHA256SUMS, fit for any signer
//! ```
//! A file is written under a temporary name, synced and renamed. A crash at any moment loses at most what had no event.

mod check;
mod digest;
mod error;
mod event;
mod exact;
mod files;
mod hlog;
mod read;
mod record;
mod samples;
mod sums;
#[cfg(test)]
mod tests;
mod write;

#[cfg(test)]
pub(crate) use check::counted;
pub use check::recheck;
pub use digest::{Digest, DigestDifferences, DigestSeries};
pub use error::RunDirError;
pub use event::Note;
pub use exact::{ExactQuantiles, exact_quantiles};
pub use read::{Verified, digest, load, manifest, verify};
pub use record::{
    ArmData, Calibration, JudgedBy, Manifest, NeighbourCalibration, Placed, ProbeCalibration, Proof, RecordedRun,
    SeriesData, Turns,
};
pub use write::{Encoded, RunDir, encode};

use schemars::generate::SchemaGenerator;

/// JSON Schemas of the JSON that a run directory holds, each a reference to a definition of `generator`: manifest, first
/// and further lines of the event log, digest, and the file that ends a run.
pub(crate) fn schemas(generator: &mut SchemaGenerator) -> Vec<schemars::Schema> {
    vec![
        generator.subschema_for::<Manifest>(),
        generator.subschema_for::<event::Header>(),
        generator.subschema_for::<event::Event>(),
        generator.subschema_for::<Digest>(),
        generator.subschema_for::<sums::Finished>(),
    ]
}
