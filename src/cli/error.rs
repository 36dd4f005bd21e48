//! Errors of the command line, and the one map from outcome to exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::backend::BackendError;
use crate::experiment::ExperimentError;
use crate::plan::PlanError;
use crate::run_dir::RunDirError;
use crate::scenario::{LoadError, Mistakes};

/// Exit codes, as documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Every requirement met, or nothing asked.
    Ok,
    /// A requirement not met.
    NotMet,
    /// Usage, scenario or run-directory error.
    Usage,
    /// The environment: no GPU, no driver, no permission.
    Environment,
    /// A required cell is Inconclusive or Skipped.
    Inconclusive,
    /// A bug in crosstalk.
    Bug,
    /// Interrupted.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::NotMet => 1,
            Exit::Usage => 2,
            Exit::Environment => 3,
            Exit::Inconclusive => 4,
            Exit::Bug => 70,
            Exit::Interrupted => 130,
        })
    }
}

/// What a verb could not do.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Arguments that contradict each other or the machine's data.
    #[error("{0}")]
    Usage(String),
    /// A scenario that cannot be found or read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A scenario with mistakes: each with its place.
    #[error(transparent)]
    Scenario(#[from] Box<Mistakes>),
    /// A scenario that is impossible on this machine.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A run directory that cannot be read or written.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// The device, or what it needs.
    #[error("{0}")]
    Environment(String),
    /// Something that cannot be: a bug.
    #[error("this is a bug in crosstalk: {0}")]
    Bug(String),
    /// An output file.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl CliError {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Environment(_) => Exit::Environment,
            Self::Bug(_) => Exit::Bug,
            Self::Usage(_)
            | Self::Load(_)
            | Self::Scenario(_)
            | Self::Plan(_)
            | Self::RunDir(_)
            | Self::Write { .. } => Exit::Usage,
        }
    }

    /// Prints it to standard error, a scenario's mistakes with their places.
    pub(crate) fn print(&self) {
        match self {
            Self::Scenario(mistakes) => anstream::eprint!("{}", mistakes.render(true)),
            other => anstream::eprintln!("crosstalk: {other}"),
        }
    }
}

impl From<BackendError> for CliError {
    fn from(error: BackendError) -> Self {
        Self::Environment(error.to_string())
    }
}

impl From<ExperimentError> for CliError {
    fn from(error: ExperimentError) -> Self {
        match error {
            ExperimentError::Backend(error) => error.into(),
            ExperimentError::RunDir(error) => error.into(),
        }
    }
}
