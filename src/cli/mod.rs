//! The command line: one file per verb. Parses, calls the library, maps the outcome to an exit code.

mod baseline;
mod check;
mod compare;
mod device;
mod doctor;
mod error;
mod gate;
mod init;
mod list;
mod probe;
mod progress;
mod ready;
mod report;
mod restore;
mod run;
mod schema;
mod self_check;
mod tenant;
mod verify;
mod watch;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub use device::{Host, Selected, select};
pub use error::{CliError, Exit};
pub use ready::{Ready, Rights};

/// Proves or disproves that tenants sharing an NVIDIA GPU are isolated from one another.
#[derive(Parser)]
#[command(name = "crosstalk", version, about, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "\
Exit codes, of which the first that applies from 70, 130, 2, 3, 1, 4, 0 counts:
  0    every requirement met
  1    a requirement not met
  2    usage, scenario or run-directory error
  3    environment
  4    inconclusive
  70   a bug in crosstalk
  130  interrupted";

#[derive(Subcommand)]
enum Verb {
    /// Write a scenario for the machine as found, ready to run.
    Init(init::Args),
    /// Validate a scenario and print the resolved plan, its duration and what it would reconfigure.
    Check(check::Args),
    /// Run a scenario: measure, judge, report.
    Run(run::Args),
    /// Put back what a killed run left: MIG layouts that it changed, MPS daemons that it started.
    Restore,
    /// Report on a run directory.
    Report(report::Args),
    /// Compare a new run with a base run or a baseline, or one mode of sharing with another.
    Compare(compare::Args),
    /// Keep what runs came to in a file, to compare later ones with.
    Baseline(baseline::Args),
    /// Judge a run by a policy: an exit code and a line per reason, for pipelines.
    Gate(gate::Args),
    /// Check a run directory: checksums, histograms and verdict recomputed from raw samples.
    Verify(verify::Args),
    /// Check drivers, GPUs, MIG, other users and CPUs: what is wrong, why it matters, and what mends it.
    Doctor(doctor::Args),
    /// Run every workload alone on a GPU: results against their references, rates against the machine's own ceilings.
    SelfCheck(self_check::Args),
    /// List what crosstalk knows.
    List(list::Args),
    /// Print a JSON Schema.
    Schema(schema::Args),
    /// Hold a device and run programs for a run that started this process.
    #[command(hide = true)]
    Tenant(tenant::Args),
    /// Ask the driver and print its answers: run by crosstalk itself.
    #[command(hide = true)]
    ProbeDriver(probe::Args),
    /// Watch a GPU for a run that started this process.
    #[command(hide = true)]
    WatchDriver,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Parses the process's arguments and does what they ask.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            // Where even the usage cannot be printed, the exit code says it.
            let _ = error.print();
            return code.into();
        }
    };
    let host = Host::here();
    let outcome = match cli.verb {
        Verb::Init(args) => init::run(&args, &host),
        Verb::Check(args) => check::run(&args, &host),
        Verb::Run(args) => run::run(&args, &host),
        Verb::Restore => restore::run(),
        Verb::Report(args) => report::run(&args),
        Verb::Compare(args) => compare::run(&args),
        Verb::Baseline(args) => baseline::run(&args),
        Verb::Gate(args) => gate::run(&args),
        Verb::Verify(args) => verify::run(&args),
        Verb::Doctor(args) => doctor::run(&args, &host),
        Verb::SelfCheck(args) => self_check::run(&args, &host),
        Verb::List(args) => list::run(&args),
        Verb::Schema(args) => schema::run(&args),
        Verb::Tenant(args) => tenant::run(&args),
        Verb::ProbeDriver(args) => probe::run(&args),
        Verb::WatchDriver => watch::run(),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "crosstalk", &mut script);
            print(&String::from_utf8_lossy(&script)).map(|()| Exit::Ok)
        }
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => {
            error.print();
            error.exit().into()
        }
    }
}

/// Writes to standard output. A closed pipe is the reader's choice, a full disk is not.
fn print(text: &str) -> Result<(), CliError> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(CliError::Print(e)),
        _ => Ok(()),
    }
}

/// Says something on standard error. Where that cannot be written, nobody listens: the exit code says the rest.
fn say(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Writes `text` to `path`, or to standard output.
fn write_out(path: Option<&Path>, text: &str) -> Result<(), CliError> {
    match path {
        Some(path) => write_file(path, &anstream::adapter::strip_str(text).to_string())
            .map_err(|source| CliError::Write { path: path.to_owned(), source }),
        None => print(text),
    }
}

/// Writes a file whole or not at all. A link is followed, and what is no plain file (a device, a pipe) is written to and
/// never replaced.
fn write_file(path: &Path, text: &str) -> std::io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => return fs::write(path, text),
        Err(_) if path.is_symlink() => return fs::write(path, text),
        _ => {}
    }
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let written = write_new(&temporary, text).and_then(|()| fs::rename(&temporary, &path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Writes a file that must not be there yet.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = fs::File::options().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())
}

/// Where this program is, to be started again in another role.
fn this_program() -> Result<std::path::PathBuf, CliError> {
    std::env::current_exe().map_err(|e| CliError::Environment(format!("cannot find this program again: {e}")))
}

/// Columns of the terminal, or what a page of text has.
fn terminal_width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).filter(|c| *c > 0);
    let size =
        || rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|s| usize::from(s.ws_col)).filter(|c| *c > 0);
    columns.or_else(size).unwrap_or(120)
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}
