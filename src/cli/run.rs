//! `crosstalk run`: validate, measure, judge, report.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::progress::Bars;
use super::{CliError, Exit, Host, Selected, report, select};
use jiff::Timestamp;
use jiff::civil::Date;

use crate::experiment::{self, Ended};
use crate::plan::Plan;
use crate::report::{Format, Style};
use crate::run_dir::{Digest, Manifest, RecordedRun, RunDir};
use crate::scenario::{self, Scenario, Tier};
use crate::verdict;
use crate::workload::CATALOGUE;

#[derive(clap::Args)]
pub(super) struct Args {
    /// A scenario file, or the name of a built-in scenario; not needed with --resume.
    #[arg(required_unless_present = "resume")]
    scenario: Option<String>,
    #[command(flatten)]
    overrides: Overrides,
    /// The run directory; default: a new one under crosstalk-runs/.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with an interrupted run.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["out", "seed", "tier"])]
    resume: Option<PathBuf>,
    /// No progress display.
    #[arg(long, short)]
    quiet: bool,
}

/// What a command line may set over a scenario.
#[derive(clap::Args)]
pub(super) struct Overrides {
    /// auto, sim, sim:MODEL or sim:MODEL/LAYOUT; cuda, cuda:INDEX, all or a UUID once hardware is supported.
    #[arg(long)]
    pub(super) device: Option<String>,
    /// Seed of arrivals, orders and the simulator.
    #[arg(long)]
    seed: Option<u64>,
    /// smoke, acceptance or certify.
    #[arg(long)]
    tier: Option<Tier>,
}

/// A scenario as it was read, and as it was found.
pub(super) struct Loaded {
    pub(super) scenario: Scenario,
    pub(super) text: String,
}

impl Overrides {
    /// Reads a scenario and applies the flags to it.
    pub(super) fn load(&self, name: &str) -> Result<Loaded, CliError> {
        let (source, text) = scenario::load(name)?;
        let mut scenario = scenario::read_at_tier(&source, &text, CATALOGUE, self.tier).map_err(Box::new)?;
        if let Some(seed) = self.seed {
            scenario.seed = seed;
        }
        Ok(Loaded { scenario, text })
    }

    /// Takes the device and resolves the plan on it.
    pub(super) fn plan(&self, scenario: &Scenario, host: &Host) -> Result<(Selected, Plan), CliError> {
        let selected = select(self.device.as_deref(), scenario.device.as_deref(), scenario.gpu.as_deref(), host)?;
        let inventory = selected.backend.inventory()?;
        let plan = Plan::resolve(scenario, &inventory, selected.gpu, selected.model)?;
        Ok((selected, plan))
    }
}

pub(super) fn run(args: &Args, host: &Host) -> Result<Exit, CliError> {
    let begun = Instant::now();
    let Started { selected, mut dir, mut run } = match &args.resume {
        Some(path) => resume(args, path, host)?,
        None => create(args, host)?,
    };
    let path = dir.path().to_owned();
    anstream::eprintln!("crosstalk {} · {}", env!("CARGO_PKG_VERSION"), run.manifest.device);

    let stop = stop_on_signals()?;
    let bars = Bars::new(&run.manifest.plan, args.quiet);
    let ended = experiment::run(selected.backend.as_ref(), &mut dir, &mut run, &stop, &mut |p| bars.show(&p));
    bars.finish();
    let ended = ended.inspect_err(|_| anstream::eprintln!("what was measured is kept in {}", path.display()))?;

    let verdict = verdict::judge(&run);
    if ended == Ended::Complete {
        dir.finish(&Digest::build(&run, &verdict)?)?;
    }
    super::write_out(None, &report::render(&run, &verdict, Format::Terminal, Style::Ansi)?)?;
    anstream::eprintln!("\n{:.1} s · run directory: {}", begun.elapsed().as_secs_f64(), path.display());
    match ended {
        Ended::Complete => Ok(report::exit(&verdict)),
        Ended::Interrupted => {
            anstream::eprintln!("interrupted: go on with `crosstalk run --resume {}`", path.display());
            Ok(Exit::Interrupted)
        }
    }
}

/// A run directory open for writing, and the device to go on with.
struct Started {
    selected: Selected,
    dir: RunDir,
    run: RecordedRun,
}

fn create(args: &Args, host: &Host) -> Result<Started, CliError> {
    let name = args.scenario.as_deref().unwrap_or_default();
    let loaded = args.overrides.load(name)?;
    let (selected, plan) = args.overrides.plan(&loaded.scenario, host)?;
    let path = match &args.out {
        Some(path) => path.clone(),
        None => fresh(Path::new("crosstalk-runs"), &plan.scenario),
    };
    let manifest = Manifest::new(today()?, selected.backend.provenance(), &selected.line, &plan, &loaded.text);
    let dir = RunDir::create(&path, &manifest)?;
    Ok(Started { selected, dir, run: RecordedRun::new(manifest) })
}

fn resume(args: &Args, path: &Path, host: &Host) -> Result<Started, CliError> {
    let (dir, run) = RunDir::resume(path)?;
    let recorded = &run.manifest;
    let source = format!("{}/manifest.json", path.display());
    let scenario = scenario::read(&source, &recorded.scenario_text, CATALOGUE).map_err(Box::new)?;
    let selected = select(args.overrides.device.as_deref(), scenario.device.as_deref(), scenario.gpu.as_deref(), host)?;
    let inventory = selected.backend.inventory()?;
    if selected.backend.provenance() != recorded.provenance || inventory != recorded.plan.inventory {
        return Err(CliError::Usage(format!(
            "{} was begun on another device ({}): resume it there, or begin a new run",
            path.display(),
            recorded.device
        )));
    }
    Ok(Started { selected, dir, run })
}

/// The day by which accepted risks expire (UTC): today, or SOURCE_DATE_EPOCH's.
fn today() -> Result<Date, CliError> {
    let now = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => seconds.parse().ok().and_then(|s| Timestamp::from_second(s).ok()).ok_or_else(|| {
            CliError::Usage(format!("SOURCE_DATE_EPOCH={seconds:?} is no number of seconds since 1970"))
        })?,
        Err(_) => Timestamp::now(),
    };
    Ok(now.to_zoned_datetime(jiff::tz::TimeZone::UTC).date())
}

/// `<scenario>-1`, `-2`, … : the first that does not exist.
fn fresh(parent: &Path, scenario: &str) -> PathBuf {
    (1u32..)
        .map(|n| parent.join(format!("{scenario}-{n}")))
        .find(|p| !p.exists())
        .unwrap_or_else(|| parent.join(scenario))
}

/// The first signal asks the run to end cleanly; a second one ends the process.
fn stop_on_signals() -> Result<Arc<AtomicBool>, CliError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|e| CliError::Environment(format!("cannot catch signal {signal}: {e}")))?;
    }
    Ok(stop)
}
