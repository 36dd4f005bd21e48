//! The checks: pure functions of the facts.

mod cpus;
mod driver;
mod gpu;
pub(super) mod mig;
mod others;

use super::{Facts, Finding, Severity};

/// Every check, in the order in which its findings are read.
pub(super) const ALL: &[fn(&Facts) -> Vec<Finding>] = &[
    driver::driver,
    driver::fabric_manager,
    driver::agreement,
    driver::wsl,
    mig::states,
    mig::ordinals,
    mig::owner,
    others::processes,
    others::holders,
    others::profiling,
    others::monitor_devices,
    gpu::persistence,
    gpu::memory,
    gpu::clocks,
    gpu::compute_mode,
    gpu::pcie,
    cpus::cores,
    cpus::quota,
];

fn ok(id: &'static str, what: impl Into<String>, why: &'static str) -> Finding {
    Finding { id, severity: Severity::Ok, what: what.into(), why, cure: None }
}

fn unknown(id: &'static str, what: impl Into<String>, why: &'static str, cure: impl Into<String>) -> Finding {
    Finding { id, severity: Severity::Unknown, what: what.into(), why, cure: Some(cure.into()) }
}

fn warning(id: &'static str, what: impl Into<String>, why: &'static str, cure: impl Into<String>) -> Finding {
    Finding { id, severity: Severity::Warning, what: what.into(), why, cure: Some(cure.into()) }
}

fn problem(id: &'static str, what: impl Into<String>, why: &'static str, cure: impl Into<String>) -> Finding {
    Finding { id, severity: Severity::Problem, what: what.into(), why, cure: Some(cure.into()) }
}
