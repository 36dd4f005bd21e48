//! `crosstalk gate`: a policy file → exit code and a line per reason.

use std::path::{Path, PathBuf};

use jiff::civil::Date;

use super::{CliError, Exit};
use crate::baseline::Baseline;
use crate::compare::{self, Comparison, Evidence};
use crate::gate::{self, Gate, Judged, Policy};
use crate::run_dir::{self, RecordedRun};

#[derive(clap::Args)]
pub(super) struct Args {
    /// A run directory.
    run: PathBuf,
    /// A policy file, or the name of a ready-made one.
    #[arg(long, value_name = "FILE|NAME", default_value = gate::DEFAULT)]
    policy: String,
    /// A baseline file, where the policy asks for one (`crosstalk baseline add`).
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
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
    let source = Source { baseline: baseline(args, &policy)? };
    let (first, against) = source.read(&args.run)?;
    let (mut retries, mut previous, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for path in &args.retry {
        let (retry, against) = source.read(path)?;
        if let Some(why) = gate::unlike(&first, &retry) {
            let path = path.display();
            return Err(CliError::Usage(format!(
                "{path} is no retry of {}: {why}; a retry is another run of the same plan on the same card",
                args.run.display()
            )));
        }
        retries.push(Judged::new(retry, &policy, against, today));
    }
    for path in &args.previous {
        let (before, against) = source.read(path)?;
        match gate::unlike(&first, &before) {
            Some(why) => notes.push(format!("{} confirms nothing: {why}", path.display())),
            None => previous.push(Judged::new(before, &policy, against, today)),
        }
    }
    let judged = Judged::new(first, &policy, against, today);
    let mut gate = Gate::judge(&policy, &judged, &retries, &previous, today);
    gate.notes.extend(notes);
    show(args, &gate)?;
    Ok(gate.answer.into())
}

/// The baseline, where one is named. One that nobody looks at is a mistake.
fn baseline(args: &Args, policy: &Policy) -> Result<Option<Baseline>, CliError> {
    let Some(path) = &args.baseline else { return Ok(None) };
    if policy.baseline.is_none() {
        return Err(CliError::Usage(format!(
            "--baseline {} is given, and the policy {} asks nothing of one: add `[baseline]` to it, or leave the flag out",
            path.display(),
            policy.name
        )));
    }
    Baseline::load(path).map(Some).map_err(|e| CliError::Usage(e.to_string()))
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

/// What every run is read for.
struct Source {
    baseline: Option<Baseline>,
}

impl Source {
    /// A run, once everything in it was compared (its checksums, its histograms with its samples, its events, its verdict), and
    /// it against the baseline.
    fn read(&self, path: &Path) -> Result<(RecordedRun, Option<Result<Comparison, String>>), CliError> {
        let in_run = CliError::in_run(path);
        let verified = run_dir::verify(path).map_err(&in_run)?;
        super::verify::agrees(path, &verified)?;
        let Some(baseline) = &self.baseline else { return Ok((verified.run, None)) };
        let against = match run_dir::digest(path).map_err(&in_run)? {
            None => Err("the run was not finished, and has no digest to compare".to_owned()),
            Some((digest, root)) => {
                let new = Evidence::of(&verified.run, &digest, &root).map_err(&in_run)?;
                let base = baseline.reference(&new.alike, &[]);
                base.and_then(|base| compare::compare(base, &new, &[]))
                    .map_err(|unlike| format!("absent: the baseline has no runs like this one: {unlike}"))
            }
        };
        Ok((verified.run, Some(against)))
    }
}
