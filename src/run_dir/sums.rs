//! Checksums of a finished run: `SHA256SUMS` as `sha256sum --check` reads it, and the file that ends a run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::RunDirError;
use super::files::{self, FINISHED, SUMS};
use crate::provenance::Provenance;

const FORMAT: &str = "crosstalk-finished";
const VERSION: u32 = 1;

/// SHA-256 by file.
pub(super) type Sums = BTreeMap<String, String>;

/// `finished.json`: written last. Its root hash stands for every byte of the run: what a signer signs.
#[derive(Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Finished {
    format: String,
    version: u32,
    /// Where the numbers come from.
    pub(super) provenance: Provenance,
    /// SHA-256 of `SHA256SUMS`.
    pub(super) root_sha256: String,
    /// Files in `SHA256SUMS`.
    pub(super) files: u64,
    /// Arms committed.
    pub(super) arms: u64,
    /// Samples in them.
    pub(super) samples: u64,
}

impl Finished {
    pub(super) fn new(provenance: Provenance, sums: &Sums, arms: u64, samples: u64, sums_text: &[u8]) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            provenance,
            root_sha256: files::sha256(sums_text),
            files: sums.len() as u64,
            arms,
            samples,
        }
    }
}

/// The sums in the order of their files. No name has a character that `sha256sum` would escape (see [`files::safe`]).
pub(super) fn sums_text(sums: &Sums) -> String {
    let mut text = String::new();
    for (file, sum) in sums {
        let _ = writeln!(text, "{sum}  {file}");
    }
    text
}

/// What a finished run says of itself and of its files; `None` while it is not finished.
pub(super) fn read(root: &Path) -> Result<Option<(Finished, Sums)>, RunDirError> {
    if !root.join(FINISHED).exists() {
        return Ok(None);
    }
    let bytes = files::read(root, FINISHED, "the run directory")?;
    let finished: Finished = files::from_json(FINISHED, &bytes, FORMAT, VERSION)?;
    if files::to_json(FINISHED, &finished)? != bytes {
        return Err(RunDirError::damaged(FINISHED, "the bytes that crosstalk writes", "others of the same meaning"));
    }
    let text = files::read_checked(root, SUMS, FINISHED, &finished.root_sha256)?;
    let sums = parse(&text)?;
    if sums.len() as u64 != finished.files {
        let found = format!("{}, which {SUMS} does not", finished.files);
        return Err(RunDirError::damaged(FINISHED, format!("{} files", sums.len()), found));
    }
    Ok(Some((finished, sums)))
}

fn parse(text: &[u8]) -> Result<Sums, RunDirError> {
    let mut sums = Sums::new();
    for (i, line) in String::from_utf8_lossy(text).lines().enumerate() {
        let pair = line.split_once("  ").filter(|(sum, file)| {
            // Only files below the run directory, whoever wrote this.
            sum.len() == 64 && file.split('/').all(|part| !matches!(part, "" | "." | ".."))
        });
        let (sum, file) = pair.ok_or_else(|| {
            RunDirError::damaged(SUMS, "a sum and a file in each line", format!("{line:?} in line {}", i + 1))
        })?;
        sums.insert(file.to_owned(), sum.to_owned());
    }
    Ok(sums)
}
