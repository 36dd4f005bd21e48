//! `crosstalk self-check`: every workload alone, its results against their references and its rates against the machine.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use owo_colors::OwoColorize as _;

use super::run::stop_on_signals;
use super::{CliError, Exit, Host, Rights, select};
use crate::backend::live::{CheckVerdict, Checked, Figure, SelfCheck};
use crate::provenance::Provenance;
use crate::units::Nanos;
use crate::workload::{self, Workload};

#[derive(clap::Args)]
pub(super) struct Args {
    /// As for `run`: auto, cuda, cuda:INDEX or a UUID.
    #[arg(long)]
    device: Option<String>,
    /// Only this workload; may be given more than once.
    #[arg(long, value_name = "ID")]
    workload: Vec<String>,
    /// How long each workload runs, seconds.
    #[arg(long, value_name = "N", default_value = "1")]
    seconds: f64,
    /// terminal or json.
    #[arg(long, default_value = "terminal")]
    format: Format,
    /// Write the report as JSON to this file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    rights: Rights,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Terminal,
    /// For programs.
    Json,
}

pub(super) fn run(args: &Args, host: &Host) -> Result<Exit, CliError> {
    if !(0.05..=60.0).contains(&args.seconds) {
        return Err(CliError::Usage(format!("--seconds {}: between 0.05 and 60", args.seconds)));
    }
    let length = Nanos((args.seconds * 1e9) as u64);
    let wanted = args.workload.iter().map(|id| find(id)).collect::<Result<Vec<_>, _>>()?;
    let stop = stop_on_signals()?;
    let selected = select(args.device.as_deref(), None, None, host)?;
    if selected.provenance() == Provenance::Simulated {
        return Err(CliError::Usage(
            "self-check looks at a real GPU, or at the stand-in driver: the simulator has no kernels to check"
                .to_owned(),
        ));
    }
    if let Some(uuid) = &selected.victim_on {
        return Err(CliError::Usage(format!("self-check looks at whole GPUs, and {uuid} is a MIG device")));
    }
    let (provenance, line) = (selected.provenance(), selected.line.clone());
    let held = selected.live(&args.rights, &[], false, &stop)?;
    super::say(&line);
    if let Some(why) = &held.assumed {
        super::say(&crate::nvml::assuming(why));
    }
    let found = held.live.self_check(&wanted, length, &stop, &mut |what| super::say(&format!("  {what}")))?;
    if let Some(path) = &args.json {
        super::write_out(Some(path), &super::pretty(&json(&found, provenance)))?;
    }
    let text = match args.format {
        Format::Json => super::pretty(&json(&found, provenance)),
        Format::Terminal => terminal(&found, &line),
    };
    super::print(&text)?;
    let wrong = found.any(|v| matches!(v, CheckVerdict::WrongResult { .. }));
    let failed = found.any(|v| matches!(v, CheckVerdict::Failed { .. }));
    let ends = [
        (wrong, Exit::NotMet),
        (failed, Exit::Environment),
        (!found.complete && stop.load(Ordering::Relaxed), Exit::Interrupted),
    ];
    Ok(ends.into_iter().filter(|(so, _)| *so).map(|(_, exit)| exit).max().unwrap_or(Exit::Ok))
}

fn find(id: &str) -> Result<&'static Workload, CliError> {
    workload::find(id).ok_or_else(|| {
        let like = workload::nearest(id).map_or(String::new(), |w| format!(", did you mean {}", w.id));
        CliError::Usage(format!("--workload {id}: there is none{like}; `crosstalk list workloads` shows them"))
    })
}

fn json(found: &SelfCheck, provenance: Provenance) -> serde_json::Value {
    serde_json::json!({
        "format": "crosstalk-self-check",
        "version": 1,
        "crosstalk": env!("CARGO_PKG_VERSION"),
        "provenance": provenance,
        "found": found,
    })
}

fn terminal(found: &SelfCheck, line: &str) -> String {
    let mut text = format!("{line}\n\n");
    // Writing to a string cannot fail.
    if let Some(c) = &found.ceilings {
        let gb = |rate: Option<f64>| rate.map_or("unknown".to_owned(), |rate| format!("{:.1} GB/s", rate / 1e9));
        let _ = writeln!(text, "copy within the device, read + written   {}", gb(c.device_copy));
        let _ = writeln!(text, "copy to the device / to the host         {} / {}", gb(c.to_device), gb(c.to_host));
        let us = |time: Nanos| format!("{:.1} µs", time.0 as f64 / 1e3);
        let harness = found.round_trip_ns.map_or("unknown".to_owned(), us);
        let _ = writeln!(text, "empty launch and its completion          {harness}; a bare loop {}", us(c.round_trip));
    }
    if found.threads < 2 {
        let _ = writeln!(text, "too few cores: one thread that sleeps sees completions late, by up to 0.1 ms");
    }
    let width = found.workloads.iter().map(|c| c.workload.len()).max().unwrap_or(0);
    text.push('\n');
    for checked in &found.workloads {
        let _ = writeln!(text, "{:width$}  {}", checked.workload, verdict(checked));
        if let Some(rate) = checked.requests_per_s {
            let clock = checked.sm_mhz.map_or(String::new(), |mhz| format!(" at {mhz:.0} MHz"));
            let registers: Vec<String> = checked.registers.iter().map(|(k, n)| format!("{k} {n}")).collect();
            let registers = if registers.is_empty() {
                String::new()
            } else {
                format!("; registers of a thread: {}", registers.join(", "))
            };
            let _ = writeln!(text, "{:width$}    {} requests/s{clock}{registers}", "", number(rate));
        }
        for figure in &checked.figures {
            let _ = writeln!(text, "{:width$}    {}", "", told(figure));
        }
    }
    if !found.complete {
        text.push_str("\ninterrupted: the rest was not checked\n");
    }
    text
}

fn verdict(checked: &Checked) -> String {
    match &checked.verdict {
        CheckVerdict::Ok => "ok".green().to_string(),
        CheckVerdict::Below => {
            let missed: Vec<String> = checked.figures.iter().filter(|f| f.reached == Some(false)).map(missed).collect();
            format!("{}; its results are right", missed.join("; ").yellow())
        }
        CheckVerdict::NotRun { why } => format!("{}: {why}", "not run".yellow()),
        CheckVerdict::Failed { why } => format!("{}: {why}", "FAILED".red().bold()),
        CheckVerdict::WrongResult { what } => format!("{}: {what}", "WRONG RESULT".red().bold()),
    }
}

/// A figure that is not where it should be.
fn missed(figure: &Figure) -> String {
    match (figure.least, figure.most, figure.share) {
        (Some(least), None, _) => format!("below {:.0} % of its ceiling: {}", least * 100.0, figure.what),
        (Some(least), Some(_), _) => {
            format!("more than {:.0} % from its figure: {}", (1.0 - least) * 100.0, figure.what)
        }
        _ => figure.what.to_owned(),
    }
}

fn told(figure: &Figure) -> String {
    let value = format!("{}: {} {}", figure.what, number(figure.value), figure.unit);
    match (figure.ceiling, figure.share) {
        (Some(ceiling), Some(share)) => {
            format!("{value}, {:.1} % of {} ({})", share * 100.0, number(ceiling), figure.ceiling_is)
        }
        _ if figure.ceiling_is == "reported" => value,
        _ => format!("{value} (ceiling unknown: {})", figure.ceiling_is),
    }
}

/// Four digits or so.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 1_000.0 => 0,
        v if v >= 100.0 => 1,
        v if v >= 10.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}
