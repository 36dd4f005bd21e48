//! `crosstalk watch-driver`: the child that watches a GPU for a run, so that a driver that hangs takes only it along.

use std::io::{stdin, stdout};

use super::{CliError, Exit};
use crate::backend::live::{NvmlWatch, watcher};

pub(super) fn run() -> Result<Exit, CliError> {
    let served = watcher::serve(stdin().lock(), stdout(), NvmlWatch::start);
    served.map_err(|error| CliError::Environment(error.to_string()))?;
    Ok(Exit::Ok)
}
