//! `crosstalk schema`: JSON Schemas of what crosstalk reads and writes.

use super::{CliError, Exit};
use crate::workload::CATALOGUE;
use crate::{baseline, compare, gate, report, scenario};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Of what.
    of: Of,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Of {
    /// Scenario files.
    Scenario,
    /// Files of a run directory.
    Run,
    /// The JSON report.
    Report,
    /// Policy files of the gate.
    Policy,
    /// What `gate` prints as JSON.
    Gate,
    /// What `compare` prints as JSON: of runs, or of modes.
    Comparison,
    /// Baseline files.
    Baseline,
}

pub(super) fn run(args: &Args) -> Result<Exit, CliError> {
    let schema = match args.of {
        Of::Scenario => scenario::schema(CATALOGUE),
        Of::Run => report::run_schema(),
        Of::Report => report::report_schema(),
        Of::Policy => gate::policy_schema(),
        Of::Gate => gate::schema(),
        Of::Comparison => compare::schema(),
        Of::Baseline => baseline::schema(),
    };
    super::print(&super::pretty(&schema))?;
    Ok(Exit::Ok)
}
