//! `crosstalk init`: a scenario for the machine as found.

use std::path::PathBuf;

use super::{CliError, Exit, Host, select};
use crate::scenario::{self, Tier};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The device, as for `run`.
    #[arg(long)]
    device: Option<String>,
    /// smoke, acceptance or certify.
    #[arg(long, default_value = "smoke")]
    tier: Tier,
    /// Write to this file, not to standard output. An existing file is never written over.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &Args, host: &Host) -> Result<Exit, CliError> {
    let selected = select(args.device.as_deref(), None, None, host)?;
    let inventory = selected.backend.inventory()?;
    let text = scenario::init(&inventory, selected.model, args.tier);
    if let Some(path) = &args.output
        && path.exists()
    {
        return Err(CliError::Usage(format!("{} exists: name another file, or move it away", path.display())));
    }
    anstream::eprintln!("for {}", selected.line);
    super::write_out(args.output.as_deref(), &text)?;
    Ok(Exit::Ok)
}
