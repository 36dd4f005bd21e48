//! Errors of the command line, and the one map from outcome to exit code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::backend::BackendError;
use crate::experiment::ExperimentError;
use crate::plan::PlanError;
use crate::run_dir::RunDirError;
use crate::scenario::{LoadError, Mistakes};
use crate::verdict::RequirementState;

/// Exit codes, as documented. In order of precedence, the last first: of two that apply, the greater one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Every requirement met, or nothing asked.
    Ok,
    /// A required cell is Inconclusive or Skipped.
    Inconclusive,
    /// A requirement not met.
    NotMet,
    /// The environment: no GPU, no driver, no permission.
    Environment,
    /// Usage, scenario or run-directory error.
    Usage,
    /// Interrupted.
    Interrupted,
    /// A bug in crosstalk.
    Bug,
}

impl Exit {
    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::NotMet => 1,
            Self::Usage => 2,
            Self::Environment => 3,
            Self::Inconclusive => 4,
            Self::Bug => 70,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

impl From<RequirementState> for Exit {
    fn from(requirement: RequirementState) -> Self {
        match requirement {
            RequirementState::NotRequired | RequirementState::Met | RequirementState::Accepted => Self::Ok,
            RequirementState::Undecided => Self::Inconclusive,
            RequirementState::NotMet => Self::NotMet,
        }
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
    /// A policy that cannot be found or read.
    #[error(transparent)]
    Policy(#[from] crate::gate::LoadError),
    /// A scenario or a policy with mistakes: each with its place.
    #[error(transparent)]
    Scenario(#[from] Box<Mistakes>),
    /// A scenario that is impossible on this machine.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A run directory that cannot be read or written.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// A run directory in which something is wrong, said of a file in it.
    #[error("{}: {source}", .path.display())]
    InRunDir {
        /// The directory.
        path: PathBuf,
        /// What.
        source: RunDirError,
    },
    /// The device, or what it needs.
    #[error("{0}")]
    Environment(String),
    /// Something that cannot be: a bug.
    #[error("this is a bug in crosstalk: {0}")]
    Bug(String),
    /// Standard output.
    #[error("cannot write to standard output: {0}")]
    Print(std::io::Error),
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
    /// An error of the run directory that was named `path`: the message says so.
    pub(super) fn in_run(path: &Path) -> impl Fn(RunDirError) -> Self {
        let path = path.to_owned();
        move |source| match source.names_its_directory() {
            true => Self::RunDir(source),
            false => Self::InRunDir { path: path.clone(), source },
        }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Environment(_) => Exit::Environment,
            // What a run recorded cannot be written down: no file and no user is at fault.
            Self::Bug(_)
            | Self::RunDir(RunDirError::NotRecordable { .. })
            | Self::InRunDir { source: RunDirError::NotRecordable { .. }, .. } => Exit::Bug,
            Self::Usage(_)
            | Self::Print(_)
            | Self::Load(_)
            | Self::Policy(_)
            | Self::Scenario(_)
            | Self::Plan(_)
            | Self::RunDir(_)
            | Self::InRunDir { .. }
            | Self::Write { .. } => Exit::Usage,
        }
    }

    /// Prints it to standard error, a scenario's mistakes with their places.
    pub(crate) fn print(&self) {
        match self {
            Self::Scenario(mistakes) => super::say(mistakes.render(true).trim_end_matches('\n')),
            other => super::say(&format!("crosstalk: {other}")),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As documented: of two codes that apply, the one further left counts.
    const PRECEDENCE: [Exit; 7] =
        [Exit::Bug, Exit::Interrupted, Exit::Usage, Exit::Environment, Exit::NotMet, Exit::Inconclusive, Exit::Ok];

    #[test]
    fn the_codes_are_the_documented_ones() {
        assert_eq!(PRECEDENCE.map(Exit::code), [70, 130, 2, 3, 1, 4, 0]);
    }

    proptest! {
        /// Whatever happens, in whatever order: one code, and the first by precedence.
        #[test]
        fn the_first_by_precedence_counts(happened in prop::collection::vec(0..PRECEDENCE.len(), 1..6)) {
            let all = happened.iter().map(|i| PRECEDENCE[*i]).reduce(Exit::max);
            prop_assert_eq!(all, happened.iter().min().map(|i| PRECEDENCE[*i]));
        }
    }

    #[test]
    fn a_defect_is_no_error_of_the_user() {
        let defect = RunDirError::NotRecordable { what: "a sample".to_owned(), why: "it is NaN".to_owned() };
        assert_eq!(CliError::from(defect).exit(), Exit::Bug);
        let defect = RunDirError::NotRecordable { what: "a sample".to_owned(), why: "it is NaN".to_owned() };
        assert_eq!(CliError::in_run(Path::new("runs/a"))(defect).exit(), Exit::Bug);
    }

    /// Of several directories only the path says which.
    #[test]
    fn an_error_in_a_run_directory_says_in_which() {
        let missing = || RunDirError::Missing { file: "digest.json".to_owned(), by: "SHA256SUMS".to_owned() };
        let error = CliError::in_run(Path::new("runs/a"))(missing());
        assert_eq!((error.to_string(), error.exit()), (format!("runs/a: {}", missing()), Exit::Usage));
        let finished = RunDirError::Finished { path: "runs/a".into() };
        let told = CliError::in_run(Path::new("runs/a"))(finished).to_string();
        assert!(told.starts_with("runs/a is finished"), "{told}");
    }
}
