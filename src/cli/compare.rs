//! `crosstalk compare`: a new run against a base, or one mode against another.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{CliError, Exit};
use crate::baseline::Baseline;
use crate::compare::{self, Evidence, Format, Group, Key, LoadError, Outcome};
use crate::report::{Options, Style};

#[derive(clap::Args)]
#[command(
    after_help = "Exit codes: 0 no change for the worse; 1 a verdict got worse, interference grew, or a quiet level rose;\n\
                        2 the runs are unlike or cannot be read; 4 cells that were decided are not any more, or not there.\n\
                        With --modes always 0: nothing is judged."
)]
pub(super) struct Args {
    /// A run directory, or a baseline file; with --modes the run of the first arrangement.
    base: PathBuf,
    /// The new run's directory; with --modes the run of the second arrangement, unless both are of one run.
    new: Option<PathBuf>,
    /// Compare two arrangements: their names in the scenario.
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    modes: Vec<String>,
    /// Compare although the runs differ in this; may be given several times.
    #[arg(long, value_name = "KEY", value_parser = keys())]
    allow_different: Vec<Key>,
    /// Format.
    #[arg(long, value_parser = formats(), default_value = "terminal")]
    format: Format,
    /// Write to this file, not to standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<Exit, CliError> {
    let style = if args.output.is_some() { Style::Plain } else { Style::Ansi };
    let options = Options { width: super::terminal_width(), style };
    let (text, exit) = match args.modes.as_slice() {
        [a, b] => {
            let first = load(&args.base)?;
            let second = args.new.as_deref().map(load).transpose()?;
            let second = second.as_ref().unwrap_or(&first);
            let modes = compare::modes((&first, a), (second, b), &args.allow_different);
            (modes.map_err(|e| CliError::Usage(e.to_string()))?.render(args.format, &options), Exit::Ok)
        }
        _ => {
            let Some(new) = &args.new else {
                return Err(CliError::Usage(
                    "name the run to compare with the base, or two arrangements of the one run by --modes A B"
                        .to_owned(),
                ));
            };
            let new = load(new)?;
            let unlike = |e: compare::Unlike| CliError::Usage(e.to_string());
            let base = base(&args.base, &new, &args.allow_different)?;
            let comparison = compare::compare(&base, &new, &args.allow_different).map_err(unlike)?;
            (comparison.render(args.format, &options), exit(comparison.outcome))
        }
    };
    super::write_out(args.output.as_deref(), &text.map_err(|e| CliError::Bug(e.to_string()))?)?;
    Ok(exit)
}

/// Reads a finished run; an error says of which.
pub(super) fn load(path: &Path) -> Result<Evidence, CliError> {
    Evidence::load(path).map_err(|e| match e {
        LoadError::RunDir(source) => CliError::in_run(path)(source),
        LoadError::Unfinished(_) => CliError::Usage(e.to_string()),
    })
}

/// The base: a run, or the runs of a baseline that are like the new one.
fn base(path: &Path, new: &Evidence, allowed: &[Key]) -> Result<Group, CliError> {
    if !path.is_file() {
        return load(path).map(Group::from);
    }
    let baseline = Baseline::load(path).map_err(|e| CliError::Usage(e.to_string()))?;
    let reference = baseline.reference(&new.alike, allowed);
    reference.cloned().map_err(|e| CliError::Usage(format!("{}: {e}", path.display())))
}

fn exit(outcome: Outcome) -> Exit {
    match outcome {
        Outcome::Unchanged => Exit::Ok,
        Outcome::Undecided => Exit::Inconclusive,
        Outcome::Worse => Exit::NotMet,
    }
}

fn keys() -> impl TypedValueParser<Value = Key> {
    let key = |id: String| Key::ALL.iter().copied().find(|key| key.id() == id);
    PossibleValuesParser::new(Key::ALL.iter().map(|key| key.id())).try_map(move |id| key(id).ok_or("no such key"))
}

fn formats() -> impl TypedValueParser<Value = Format> {
    let format = |id: String| Format::ALL.iter().copied().find(|f| f.id() == id);
    PossibleValuesParser::new(Format::ALL.iter().map(|f| f.id())).try_map(move |id| format(id).ok_or("no such format"))
}
