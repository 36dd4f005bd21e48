//! Whether a run here could be trusted: what is wrong, why it matters, and what mends it.
//!
//! [`examine`] gathers facts in one place; each check is a pure function of them.

mod checks;
mod cpu;
mod facts;
#[cfg(test)]
pub(crate) mod fixture;
mod kernel;
pub mod probe;
#[cfg(test)]
mod tests;
mod trouble;

use std::path::Path;

use serde::Serialize;

pub(crate) use facts::Facts;
pub(crate) use kernel::Kernel;
use probe::DriverReport;
pub(crate) use trouble::{is_missing, trouble};

/// How a finding bears on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Cannot be known here.
    Unknown,
    /// Worth knowing; a run says so too.
    Warning,
    /// A run could not be trusted, or is not possible.
    Problem,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was checked ("persistence-mode").
    pub id: &'static str,
    /// How it bears on a run.
    pub severity: Severity,
    /// What was found.
    pub what: String,
    /// Why it matters.
    pub why: &'static str,
    /// The command or manifest line that mends it.
    pub cure: Option<String>,
}

/// Everything that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Examination {
    /// The findings, in the order of the checks.
    pub findings: Vec<Finding>,
}

impl Examination {
    /// Whether a run here could be trusted.
    pub fn trustworthy(&self) -> bool {
        self.findings.iter().all(|f| f.severity != Severity::Problem)
    }
}

/// Examines the machine below `root` with the environment that `variable` reads and a driver that says `report`;
/// `gpus`: only these of the driver's GPUs; `gpu_is_mine`: UUIDs of GPUs that are the user's alone, as he says.
pub fn examine(
    root: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
    report: DriverReport,
    gpus: Option<&[usize]>,
    gpu_is_mine: &[String],
) -> Examination {
    let mut facts = Facts::gather(root, variable, report);
    facts.gpu_is_mine = gpu_is_mine.to_vec();
    if let (Some(kept), Ok(survey)) = (gpus, &mut facts.report.nvml) {
        let keep = |n: usize| kept.contains(&n);
        retain(&mut survey.inventory.gpus, keep);
        retain(&mut survey.health, keep);
        retain(&mut survey.now, keep);
        retain(&mut survey.processes, keep);
    }
    Examination { findings: checks::ALL.iter().flat_map(|check| check(&facts)).collect() }
}

/// Who owns the MIG layouts of the machine below `root`, and the way in which each changes them.
pub(crate) fn layout_owners(
    root: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Vec<(&'static str, &'static str)> {
    checks::mig::owners(&Facts::gather(root, variable, probe::no_driver()))
}

fn retain<T>(all: &mut Vec<T>, keep: impl Fn(usize) -> bool) {
    let mut index = 0;
    all.retain(|_| {
        index += 1;
        keep(index - 1)
    });
}
