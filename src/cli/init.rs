//! `crosstalk init`: a scenario for the machine as found.

use std::io::ErrorKind;
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
    // The GPU that was taken comes first: the scenario is for it.
    let mut inventory = selected.inventory;
    inventory.gpus.rotate_left(selected.gpu);
    let text = scenario::init(&inventory, selected.model, args.tier);
    super::say(&format!("for {}", selected.line));
    let Some(path) = &args.output else {
        super::print(&text)?;
        return Ok(Exit::Ok);
    };
    super::write_new(path, &text).map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => {
            CliError::Usage(format!("{} exists: name another file, or move it away", path.display()))
        }
        _ => CliError::Write { path: path.clone(), source },
    })?;
    Ok(Exit::Ok)
}
