//! `crosstalk report`: a pure function of run directories.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{CliError, Exit};
use crate::report::{self, Format, Inconclusive, Options, Report, Style};
use crate::run_dir::{self, RecordedRun};
use crate::verdict::{self, RunVerdict};

#[derive(clap::Args)]
pub(super) struct Args {
    /// A run directory.
    run: PathBuf,
    /// Format.
    #[arg(long, value_parser = formats(), default_value = "terminal")]
    format: Format,
    /// Write to this file, not to standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Of JUnit: what a case is that nobody could decide. By default an error where something is required of it, else skipped.
    #[arg(long, value_enum)]
    inconclusive: Option<Open>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Open {
    /// An error.
    Error,
    /// Skipped.
    Skip,
}

pub(super) fn run(args: &Args) -> Result<Exit, CliError> {
    let run = run_dir::load(&args.run).map_err(CliError::in_run(&args.run))?;
    if let Some(path) = args.output.as_deref() {
        outside(path, [args.run.as_path()])?;
    }
    let style = if args.output.is_some() { Style::Plain } else { Style::Ansi };
    let verdict = verdict::judge(&run);
    let text = match (args.format, args.inconclusive) {
        (Format::Junit, Some(open)) => {
            let open = match open {
                Open::Error => Inconclusive::Error,
                Open::Skip => Inconclusive::Skip,
            };
            report::junit(&Report::build(&run, &verdict), open).map_err(|e| CliError::Bug(e.to_string()))?
        }
        (_, Some(_)) => {
            return Err(CliError::Usage("--inconclusive is for --format junit: leave one of them out".to_owned()));
        }
        (format, None) => render(&run, &verdict, format, style)?,
    };
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
    let text = match format {
        Format::Html => report::html(run, verdict),
        _ => report::render(&Report::build(run, verdict), format, &options),
    };
    text.map_err(|e| CliError::Bug(e.to_string()))
}

/// Refuses to write to `path` where it lies in one of `runs`.
pub(super) fn outside<'a>(path: &Path, runs: impl IntoIterator<Item = &'a Path>) -> Result<(), CliError> {
    match runs.into_iter().find(|run| inside(path, run)) {
        None => Ok(()),
        Some(run) => Err(CliError::Usage(format!(
            "{} is inside the run directory {}, which a report never changes: write it elsewhere",
            path.display(),
            run.display()
        ))),
    }
}

/// Whether `path`, which need not exist, lies in the folder `run`, links followed.
fn inside(path: &Path, run: &Path) -> bool {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let real = path.canonicalize().or_else(|_| folder.canonicalize());
    matches!((real, run.canonicalize()), (Ok(path), Ok(run)) if path.starts_with(&run))
}

fn formats() -> impl TypedValueParser<Value = Format> {
    let format = |id: String| Format::ALL.iter().copied().find(|f| f.id() == id);
    PossibleValuesParser::new(Format::ALL.iter().map(|f| f.id())).try_map(move |id| format(id).ok_or("no such format"))
}
