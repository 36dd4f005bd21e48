//! `crosstalk check`: validate, and print the resolved plan.

use super::run::Overrides;
use super::{CliError, Exit, Host};
use crate::experiment;
use crate::reconfigure;
use crate::report::{self, Options, Style};
use crate::verdict;

#[derive(clap::Args)]
pub(super) struct Args {
    /// A scenario file, or the name of a built-in scenario.
    scenario: String,
    #[command(flatten)]
    overrides: Overrides,
}

pub(super) fn run(args: &Args, host: &Host) -> Result<Exit, CliError> {
    let loaded = args.overrides.load(&args.scenario)?;
    let (selected, plan) = args.overrides.plan(&loaded, host)?;
    let notes = verdict::foreseen(&plan, super::run::today()?);
    let options = Options { width: super::terminal_width(), style: Style::Ansi };
    let text = report::plan_text(&plan, &experiment::lengths(&plan), &reconfigure::announced(&plan), &notes, &options);
    super::print(&format!("{}\n{text}", selected.line))?;
    Ok(Exit::Ok)
}
