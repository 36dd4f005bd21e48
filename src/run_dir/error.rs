//! What can be wrong with a run directory: where, what was expected, and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why a run directory could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// The system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried ("write", "read", …).
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A new run wants a directory of its own.
    #[error("{} is not empty: a run needs a directory of its own; name another one, or go on with that run by --resume", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// There is no run.
    #[error("{} is not a run directory: {why}; name the directory that `crosstalk run` printed", path.display())]
    NotARunDirectory {
        /// What was named.
        path: PathBuf,
        /// What is there instead.
        why: &'static str,
    },
    /// Written by a newer crosstalk.
    #[error(
        "{file} is version {found} of its format, this crosstalk reads up to {supported}: use the crosstalk that wrote it, or a newer one"
    )]
    Newer {
        /// The file, as named in the run directory.
        file: String,
        /// Version found.
        found: u64,
        /// Newest version that is understood.
        supported: u32,
    },
    /// A file is there, but is not what was written.
    #[error(
        "{file} is damaged: expected {expected}, found {found}; take the run directory from a copy, or measure again"
    )]
    Damaged {
        /// The file, as named in the run directory.
        file: String,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A file differs from what was committed.
    #[error(
        "{file} has changed since it was written: {by} expects SHA-256 {expected}, found {found}; take it from a copy, or measure again"
    )]
    Checksum {
        /// The file, as named in the run directory.
        file: String,
        /// The file that holds the expected sum, with its line.
        by: String,
        /// The sum expected.
        expected: String,
        /// The sum found.
        found: String,
    },
    /// A file is gone.
    #[error("{file} is missing, but {by} names it; take it from a copy, or measure again")]
    Missing {
        /// The file, as named in the run directory.
        file: String,
        /// The file that names it, with its line.
        by: String,
    },
    /// Finished runs do not change.
    #[error("{} is finished: there is nothing to resume; `crosstalk report` shows it", path.display())]
    Finished {
        /// The run directory.
        path: PathBuf,
    },
    /// Another process writes.
    #[error("{} is being written by another process: wait for that run to end, or end it first", path.display())]
    Busy {
        /// The run directory.
        path: PathBuf,
    },
    /// What was to be written cannot be represented. A defect of the caller.
    #[error("{what} cannot be recorded: {why}")]
    NotRecordable {
        /// Which part.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

impl RunDirError {
    /// Whether the message says in which directory: the others name a file in it.
    pub(crate) fn names_its_directory(&self) -> bool {
        match self {
            Self::Io { .. }
            | Self::NotEmpty { .. }
            | Self::NotARunDirectory { .. }
            | Self::Finished { .. }
            | Self::Busy { .. } => true,
            Self::Newer { .. }
            | Self::Damaged { .. }
            | Self::Checksum { .. }
            | Self::Missing { .. }
            | Self::NotRecordable { .. } => false,
        }
    }

    /// An error of the system at `path`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// A file that is not what was written.
    pub(super) fn damaged(file: &str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_owned(), expected: expected.into(), found: found.into() }
    }

    /// Something that a format cannot hold.
    pub(super) fn not_recordable(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::NotRecordable { what: what.into(), why: why.into() }
    }
}
