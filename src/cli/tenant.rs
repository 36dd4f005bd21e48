//! `crosstalk tenant`: the hidden verb behind which a tenant's process runs.

use std::fs::File;
use std::io::{stdin, stdout};
use std::path::PathBuf;

use super::{CliError, Exit};
use crate::backend::live::tenant;
use crate::tenant::Region;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The file that samples go to.
    #[arg(long)]
    region: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<Exit, CliError> {
    let region = File::options().read(true).write(true).open(&args.region).and_then(|file| Region::open(&file));
    let region = region.map_err(|why| CliError::Usage(format!("{}: {why}", args.region.display())))?;
    match tenant::serve(stdin().lock(), stdout(), region) {
        Ok(()) => Ok(Exit::Ok),
        Err(why) => Err(CliError::Environment(why.to_string())),
    }
}
