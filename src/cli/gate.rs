//! `crosstalk gate`: a policy file → exit code and a line per reason.

use std::path::{Path, PathBuf};

use jiff::civil::Date;

use super::{CliError, Exit};
use crate::gate::{self, Gate, Judged};
use crate::run_dir::{self, Digest, RecordedRun};
use crate::verdict;

#[derive(clap::Args)]
pub(super) struct Args {
    /// A run directory.
    run: PathBuf,
    /// A policy file, or the name of a ready-made one.
    #[arg(long, value_name = "FILE|NAME", default_value = gate::DEFAULT)]
    policy: String,
    /// A further run of the same plan, which may decide what is open: at most as many as the policy declares, in their order.
    #[arg(long, value_name = "RUN")]
    retry: Vec<PathBuf>,
    /// A run before this one, of the same plan, the latest last: where the policy asks to see a failure several times in a row.
    #[arg(long, value_name = "RUN")]
    previous: Vec<PathBuf>,
    /// Format.
    #[arg(long, value_enum, default_value = "text")]
    format: Form,
    /// Write to this file; the text goes to standard output all the same.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The day by which age and accepted risks are judged (2027-06-30); today (UTC), or SOURCE_DATE_EPOCH's, unless given.
    #[arg(long, value_name = "DATE")]
    today: Option<Date>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// A line per reason, the answer last.
    Text,
    /// JUnit XML: a case per rule and what it is of.
    Junit,
    /// JSON.
    Json,
}

pub(super) fn run(args: &Args) -> Result<Exit, CliError> {
    let (source, text) = gate::load(&args.policy)?;
    let policy = gate::read(&source, &text).map_err(Box::new)?;
    let today = args.today.map_or_else(super::run::today, Ok)?;
    if let Some(path) = args.output.as_deref() {
        let runs = std::iter::once(&args.run).chain(&args.retry).chain(&args.previous);
        super::report::outside(path, runs.map(PathBuf::as_path))?;
    }
    if args.retry.len() > policy.retries as usize {
        return Err(CliError::Usage(format!(
            "{} runs are given as --retry, and the policy {} declares {}: retries are declared before the first run is judged, \
             for each is judged with its part of every error rate",
            args.retry.len(),
            policy.name,
            policy.retries
        )));
    }
    let first = read(&args.run)?;
    let (mut retries, mut previous, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for path in &args.retry {
        let retry = read(path)?;
        if let Some(why) = gate::unlike(&first, &retry) {
            let path = path.display();
            return Err(CliError::Usage(format!(
                "{path} is no retry of {}: {why}; a retry is another run of the same plan on the same card",
                args.run.display()
            )));
        }
        retries.push(retry);
    }
    for path in &args.previous {
        let before = read(path)?;
        match gate::unlike(&first, &before) {
            Some(why) => notes.push(format!("{} confirms nothing: {why}", path.display())),
            None => previous.push(before),
        }
    }
    let judged = |run: RecordedRun| Judged::new(run, &policy, today);
    let (retries, previous): (Vec<Judged>, Vec<Judged>) =
        (retries.into_iter().map(judged).collect(), previous.into_iter().map(judged).collect());
    let mut gate = Gate::judge(&policy, &judged(first), &retries, &previous, Vec::new(), today);
    gate.notes.extend(notes);
    show(args, &gate)?;
    Ok(gate.answer.into())
}

fn show(args: &Args, gate: &Gate) -> Result<(), CliError> {
    let text = match args.format {
        Form::Text => gate::text(gate),
        Form::Junit => gate::junit(gate).map_err(|e| CliError::Bug(e.to_string()))?,
        Form::Json => gate.json().map_err(|e| CliError::Bug(e.to_string()))?,
    };
    super::write_out(args.output.as_deref(), &text)?;
    if args.output.is_some() { super::print(&gate::text(gate)) } else { Ok(()) }
}

/// A run, once everything in it was compared: its checksums, its histograms with its samples, its events, and its verdict.
fn read(path: &Path) -> Result<RecordedRun, CliError> {
    let verified = run_dir::verify(path).map_err(CliError::in_run(path))?;
    run_dir::recheck(&verified.run).map_err(CliError::in_run(path))?;
    if let Some(digest) = &verified.digest
        && Digest::build(&verified.run, &verdict::judge(&verified.run))? != *digest
    {
        return Err(CliError::Usage(format!(
            "{}: the verdict recomputed from raw samples differs from digest.json, which {} wrote: judge with that version, or \
             measure again",
            path.display(),
            verified.run.manifest.created_by
        )));
    }
    Ok(verified.run)
}
