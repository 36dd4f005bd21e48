//! `crosstalk report`: a pure function of run directories.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{CliError, Exit};
use crate::report::{self, Format, Options, Report, Style};
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
}

pub(super) fn run(args: &Args) -> Result<Exit, CliError> {
    let run = run_dir::load(&args.run).map_err(CliError::in_run(&args.run))?;
    if let Some(path) = args.output.as_deref().filter(|path| inside(path, &args.run)) {
        return Err(CliError::Usage(format!(
            "{} is inside the run directory {}, which a report never changes: write it elsewhere",
            path.display(),
            args.run.display()
        )));
    }
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
    let text = match format {
        Format::Html => report::html(run, verdict),
        _ => report::render(&Report::build(run, verdict), format, &options),
    };
    text.map_err(|e| CliError::Bug(e.to_string()))
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
