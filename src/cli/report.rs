//! `crosstalk report`: a pure function of run directories.

use std::path::PathBuf;

use super::{CliError, Exit};
use crate::report::{self, Format, Options, Report, Style};
use crate::run_dir::{self, RecordedRun};
use crate::verdict::{self, RequirementState, RunVerdict};

#[derive(clap::Args)]
pub(super) struct Args {
    /// A run directory.
    run: PathBuf,
    /// Format.
    #[arg(long, value_parser = parse_format, default_value = "terminal")]
    format: Format,
    /// Write to this file, not to standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<Exit, CliError> {
    let run = run_dir::load(&args.run)?;
    let style = if args.output.is_some() { Style::Plain } else { Style::Ansi };
    let text = render(&run, &verdict::judge(&run), args.format, style)?;
    super::write_out(args.output.as_deref(), &text)?;
    Ok(Exit::Ok)
}

/// The report of a judged run.
pub(super) fn render(
    run: &RecordedRun,
    verdict: &RunVerdict,
    format: Format,
    style: Style,
) -> Result<String, CliError> {
    let options = Options { width: super::terminal_width(), style };
    report::render(&Report::build(run, verdict), format, &options).map_err(|e| CliError::Bug(e.to_string()))
}

/// Exit code of a judged run.
pub(super) fn exit(verdict: &RunVerdict) -> Exit {
    match verdict.requirement {
        RequirementState::NotRequired | RequirementState::Met | RequirementState::Accepted => Exit::Ok,
        RequirementState::Undecided => Exit::Inconclusive,
        RequirementState::NotMet => Exit::NotMet,
    }
}

fn parse_format(text: &str) -> Result<Format, String> {
    Format::ALL.iter().copied().find(|f| f.id() == text).ok_or_else(|| {
        let ids: Vec<&str> = Format::ALL.iter().map(|f| f.id()).collect();
        format!("the formats are {}", ids.join(", "))
    })
}
