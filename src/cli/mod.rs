//! The command line: one file per verb. Parses, calls the library, maps the outcome to an exit code.

mod check;
mod device;
mod error;
mod init;
mod list;
mod progress;
mod report;
mod run;
mod schema;
mod verify;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub use device::{Host, Selected, select};
pub use error::{CliError, Exit};

/// Proves or disproves that tenants sharing an NVIDIA GPU are isolated from one another.
#[derive(Parser)]
#[command(name = "crosstalk", version, about, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "\
Exit codes: 0 every requirement met · 1 a requirement not met · 2 usage, scenario or run-directory error ·
3 environment · 4 inconclusive · 70 a bug in crosstalk · 130 interrupted";

#[derive(Subcommand)]
enum Verb {
    /// Write a scenario for the machine as found, ready to run.
    Init(init::Args),
    /// Validate a scenario and print the resolved plan, its duration and what it would reconfigure.
    Check(check::Args),
    /// Run a scenario: measure, judge, report.
    Run(run::Args),
    /// Report on a run directory.
    Report(report::Args),
    /// Check a run directory: checksums, histograms and verdict recomputed from raw samples.
    Verify(verify::Args),
    /// List what crosstalk knows.
    List(list::Args),
    /// Print a JSON Schema.
    Schema(schema::Args),
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
            // Nothing is left to be done where even the usage cannot be printed.
            let _ = error.print();
            return code.into();
        }
    };
    let host = Host::here();
    let outcome = match cli.verb {
        Verb::Init(args) => init::run(&args, &host),
        Verb::Check(args) => check::run(&args, &host),
        Verb::Run(args) => run::run(&args, &host),
        Verb::Report(args) => report::run(&args),
        Verb::Verify(args) => verify::run(&args),
        Verb::List(args) => list::run(&args),
        Verb::Schema(args) => schema::run(&args),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "crosstalk", &mut std::io::stdout());
            Ok(Exit::Ok)
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

/// Writes `text` to `path`, whole or not at all, or to standard output.
fn write_out(path: Option<&Path>, text: &str) -> Result<(), CliError> {
    let Some(path) = path else {
        // A closed pipe is the reader's choice.
        let _ = anstream::stdout().lock().write_all(text.as_bytes());
        return Ok(());
    };
    let failed = |source| CliError::Write { path: path.to_owned(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(anstream::adapter::strip_str(text).to_string().as_bytes()).map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}

/// Columns of the terminal, or what a page of text has.
fn terminal_width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    let size =
        || rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|s| usize::from(s.ws_col)).filter(|c| *c > 0);
    columns.or_else(size).unwrap_or(120).max(40)
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}
