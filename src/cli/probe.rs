//! `crosstalk probe-driver`: the child that asks the driver, so that a driver that hangs or crashes takes only it along.

use std::io::stdout;

use super::{CliError, Exit};
use crate::doctor::probe::{self, Library};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Which library to ask.
    library: Library,
}

pub(super) fn run(args: &Args) -> Result<Exit, CliError> {
    probe::answer(args.library, &mut stdout().lock()).map_err(CliError::Print)?;
    Ok(Exit::Ok)
}
