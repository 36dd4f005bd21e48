//! `crosstalk baseline`: what earlier runs came to, in one file to compare with.

use std::path::{Path, PathBuf};

use super::{CliError, Exit};
use crate::baseline::{Baseline, BaselineError};
use crate::compare::Evidence;
use crate::report::{Options, Style, count};
use crate::run_dir;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Add a finished run to a baseline file, after checking it as `verify` does.
    Add {
        /// A run directory.
        run: PathBuf,
        /// The file; it is made where it is not there.
        #[arg(long, default_value = "baseline.json", value_name = "FILE")]
        file: PathBuf,
    },
    /// Show what a baseline file holds.
    Show {
        /// The file.
        #[arg(default_value = "baseline.json")]
        file: PathBuf,
    },
}

pub(super) fn run(args: &Args) -> Result<Exit, CliError> {
    match &args.what {
        What::Add { run, file } => add(run, file),
        What::Show { file } => {
            let options = Options { width: super::terminal_width(), style: Style::Ansi };
            super::print(&Baseline::load(file).map_err(usage)?.text(&options))?;
            Ok(Exit::Ok)
        }
    }
}

fn usage(error: BaselineError) -> CliError {
    CliError::Usage(error.to_string())
}

fn add(path: &Path, file: &Path) -> Result<Exit, CliError> {
    let in_run = CliError::in_run(path);
    let verified = run_dir::verify(path).map_err(&in_run)?;
    super::verify::agrees(path, &verified)?;
    let Some((digest, root)) = run_dir::digest(path).map_err(&in_run)? else {
        let path = path.display();
        return Err(CliError::Usage(format!(
            "{path} is not finished: go on with it by `crosstalk run --resume`, and add it then"
        )));
    };
    let evidence = Evidence::of(&verified.run, &digest, &root).map_err(&in_run)?;
    let provenance = evidence.alike.provenance;
    // What cannot be looked at is an error of reading, not a file that is not there.
    let there = file.try_exists().map_err(|source| CliError::Write { path: file.to_owned(), source })?;
    let mut baseline = if there { Baseline::load(file).map_err(usage)? } else { Baseline::new(provenance) };
    baseline.add(evidence).map_err(|e| CliError::Usage(format!("{}: {e}", file.display())))?;
    let text = baseline.to_json().map_err(|e| CliError::Bug(e.to_string()))?;
    super::write_out(Some(file), &text)?;
    let runs = baseline.sets.iter().map(|set| set.runs.len() as u64).sum();
    if let Some(banner) = &baseline.banner {
        super::print(&format!("{banner}\n"))?;
    }
    super::print(&format!(
        "{}: {} in {}\n",
        file.display(),
        count(runs, "run"),
        count(baseline.sets.len() as u64, "set")
    ))?;
    Ok(Exit::Ok)
}
