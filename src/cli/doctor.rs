//! `crosstalk doctor`: whether a run here could be trusted, and what mends it.

use std::fmt::Write as _;

use owo_colors::OwoColorize as _;

use super::device::{Detected, choose, detect_in};
use super::{CliError, Exit, Host};
use crate::dcgm::DcgmExporter;
use crate::doctor::{self, Examination, Finding, Severity};

#[derive(clap::Args)]
pub(super) struct Args {
    /// terminal or json.
    #[arg(long, default_value = "terminal")]
    format: Format,
    /// Only this GPU, as for `run`; default: all of them.
    #[arg(long)]
    device: Option<String>,
    /// GPU, by UUID, on which nobody else's work is at risk, as for `run`.
    #[arg(long, value_name = "GPU-UUID")]
    gpu_is_mine: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Terminal,
    /// For programs.
    Json,
}

pub(super) fn run(args: &Args, host: &Host) -> Result<Exit, CliError> {
    let report = host.driver();
    let gpus = match args.device.as_deref() {
        None | Some("all" | "auto") => None,
        Some(sim) if sim == "sim" || sim.starts_with("sim:") => {
            return Err(CliError::Usage(format!("--device {sim}: the simulator needs no doctor")));
        }
        Some(request) => match detect_in(host, report.clone()) {
            Detected::Driver(driver) => Some(vec![choose(&driver, request, None)?.0]),
            // The driver's own finding says why no GPU can be told from another.
            Detected::Broken { .. } | Detected::None => None,
        },
    };
    let variable = |name: &str| host.variable(name);
    let exporter = DcgmExporter::from_environment(&variable).map_err(CliError::Usage)?;
    let examination =
        doctor::examine(host.root(), &variable, report, gpus.as_deref(), &args.gpu_is_mine, exporter.as_ref());
    let text = match args.format {
        Format::Json => super::pretty(&json(&examination)),
        Format::Terminal => terminal(&examination),
    };
    super::print(&text)?;
    Ok(if examination.trustworthy() { Exit::Ok } else { Exit::Environment })
}

fn json(examination: &Examination) -> serde_json::Value {
    serde_json::json!({
        "format": "crosstalk-doctor",
        "version": 1,
        "trustworthy": examination.trustworthy(),
        "findings": examination.findings,
    })
}

/// The gravest first, what is in order last; within one severity in the order of the checks.
fn terminal(examination: &Examination) -> String {
    let mut findings: Vec<&Finding> = examination.findings.iter().collect();
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    let mut text = String::new();
    for finding in &findings {
        let (mark, detailed) = match finding.severity {
            Severity::Problem => ("PROBLEM".red().bold().to_string(), true),
            Severity::Warning => ("warning".yellow().bold().to_string(), true),
            Severity::Unknown => ("unknown".yellow().to_string(), true),
            Severity::Ok => ("ok     ".green().to_string(), false),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{mark}  {}", printable(&finding.what));
        if detailed {
            let _ = writeln!(text, "         why: {}", finding.why);
            if let Some(cure) = &finding.cure {
                let _ = writeln!(text, "         cure: {}", printable(cure));
            }
        }
    }
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let _ = writeln!(
        text,
        "\n{}: {} problem(s), {} warning(s), {} unknown",
        if examination.trustworthy() {
            "a run here can be trusted as far as this can be checked"
        } else {
            "a run here could not be trusted"
        },
        count(Severity::Problem),
        count(Severity::Warning),
        count(Severity::Unknown),
    );
    text
}

/// Names of processes and drivers are others' texts: no control characters reach the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::fixture;

    fn finding(severity: Severity, what: &str) -> Finding {
        Finding { id: "x", severity, what: what.to_owned(), why: "it matters", cure: Some("mend it".to_owned()) }
    }

    #[test]
    fn the_gravest_comes_first_with_its_cure_and_nothing_controls_the_terminal() {
        let findings = vec![
            finding(Severity::Ok, "fine"),
            finding(Severity::Warning, "hm"),
            finding(Severity::Problem, "bad\u{1b}[2J"),
        ];
        let text = anstream::adapter::strip_str(&terminal(&Examination { findings })).to_string();
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} not in: {text}"));
        assert!(at("bad") < at("hm") && at("hm") < at("fine"));
        assert!(text.contains("cure: mend it") && text.contains("could not be trusted"));
        assert!(!terminal(&Examination { findings: vec![finding(Severity::Ok, "a\u{7}b")] }).contains('\u{7}'));
    }

    #[test]
    fn json_says_everything() {
        let json = json(&Examination { findings: vec![finding(Severity::Problem, "bad")] });
        assert_eq!(json["trustworthy"], false);
        assert_eq!(json["findings"][0]["severity"], "problem");
        assert_eq!(json["findings"][0]["cure"], "mend it");
    }

    #[test]
    fn a_machine_without_a_driver_is_exit_3_and_a_wrong_gpu_a_usage_error() {
        let root = tempfile::tempdir().unwrap();
        let args =
            |device: &str| Args { format: Format::Json, device: Some(device.to_owned()), gpu_is_mine: Vec::new() };
        let host = Host::described(root.path(), |_| None);
        assert_eq!(run(&args("cuda:0"), &host).unwrap(), Exit::Environment);
        let host = host.with_driver(fixture::two());
        assert_eq!(run(&args("cuda:7"), &host).unwrap_err().exit(), Exit::Usage);
        assert_eq!(run(&args("sim"), &host).unwrap_err().exit(), Exit::Usage);
    }
}
