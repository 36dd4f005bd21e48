//! `crosstalk run`: validate, measure, judge, report.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::progress::Bars;
use super::{CliError, Exit, Host, Ready, Rights, Selected, report, select};
use jiff::Timestamp;
use jiff::civil::Date;

use crate::doctor::probe;
use crate::experiment::{self, Ended};
use crate::gpu::{Gpu, Inventory};
use crate::nvml::time_slice;
use crate::plan::{Plan, Terms};
use crate::provenance::Provenance;
use crate::reconfigure::{self, Saved};
use crate::report::{Format, Style};
use crate::run_dir::{self, Digest, Manifest, RecordedRun, RunDir};
use crate::scenario::{self as scenarios, Scenario, Tier};
use crate::sharing::mps;
use crate::verdict;
use crate::workload::CATALOGUE;

#[derive(Clone, clap::Args)]
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
    #[arg(long, value_name = "DIR", conflicts_with_all = ["scenario", "out", "seed", "tier"])]
    resume: Option<PathBuf>,
    #[command(flatten)]
    rights: Rights,
    /// No progress display.
    #[arg(long, short)]
    quiet: bool,
}

/// What a command line may set over a scenario.
#[derive(Clone, clap::Args)]
pub(super) struct Overrides {
    /// auto, cuda, cuda:INDEX, all, a UUID, sim, sim:MODEL or sim:MODEL/LAYOUT.
    #[arg(long)]
    pub(super) device: Option<String>,
    /// Seed of arrivals, orders and the simulator.
    #[arg(long)]
    seed: Option<u64>,
    /// smoke, acceptance or certify.
    #[arg(long)]
    tier: Option<Tier>,
    /// An arrangement may divide a GPU in MIG mode otherwise than it is, or set another time-slice level; what was there is
    /// put back.
    #[arg(long)]
    allow_reconfigure: bool,
}

/// A scenario as it was read, and as it was found.
pub(super) struct Loaded {
    pub(super) scenario: Scenario,
    pub(super) text: String,
    /// What the text is called in messages.
    source: String,
}

impl Overrides {
    /// Reads a scenario and applies the flags to it.
    pub(super) fn load(&self, name: &str) -> Result<Loaded, CliError> {
        let (source, text) = scenarios::load(name)?;
        let mut scenario = scenarios::read_at_tier(&source, &text, CATALOGUE, self.tier).map_err(Box::new)?;
        if let Some(seed) = self.seed {
            scenario.seed = seed;
        }
        Ok(Loaded { scenario, text, source })
    }

    /// Takes the device and resolves the plan on it.
    pub(super) fn plan(&self, loaded: &Loaded, host: &Host) -> Result<(Selected, Plan), CliError> {
        let scenario = &loaded.scenario;
        let selected = select(self.device.as_deref(), scenario.device.as_deref(), scenario.gpu.as_deref(), host)?;
        let (inventory, gpu) = (&selected.inventory, selected.gpu);
        let asks = scenario.arrangements.iter().any(|a| a.time_slice.is_some());
        let level =
            (asks && selected.provenance() != Provenance::Simulated).then(|| time_slice(&inventory.gpus[gpu].uuid));
        let terms = Terms {
            allow_reconfigure: self.allow_reconfigure,
            time_slice: level.as_ref(),
            victim_on: selected.victim_on.as_deref(),
        };
        let plan = Plan::resolve_on(scenario, inventory, gpu, selected.model, terms)?;
        if let Some(why) = experiment::too_long(&plan) {
            let at = &["design", "max_duration"];
            let mistake = scenarios::mistake_at(&loaded.source, &loaded.text, at, &why.found, &why.expected);
            return Err(Box::new(mistake).into());
        }
        Ok((selected, plan))
    }
}

pub(super) fn run(args: &Args, host: &Host) -> Result<Exit, CliError> {
    let stop = stop_on_signals()?;
    let gpus = match (&args.scenario, args.overrides.device.as_deref()) {
        (Some(name), Some("all")) => super::device::several(args.overrides.load(name)?.scenario.gpu.as_deref(), host)?,
        _ => Vec::new(),
    };
    if gpus.is_empty() { run_one(args, host, &stop) } else { run_each(args, &gpus, host, &stop) }
}

/// A run on each of these GPUs in turn, each in a directory of its own. One that fails costs the others nothing; the exit
/// code is that of the gravest end.
fn run_each(args: &Args, gpus: &[String], host: &Host, stop: &Arc<AtomicBool>) -> Result<Exit, CliError> {
    let mut gravest = Exit::Ok;
    for (index, uuid) in gpus.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            super::say(&format!("not begun: {}", gpus[index..].join(", ")));
            return Ok(gravest.max(Exit::Interrupted));
        }
        super::say(&format!("GPU {} of {}: {uuid}", index + 1, gpus.len()));
        let mut one = args.clone();
        one.overrides.device = Some(uuid.clone());
        one.out = args.out.as_ref().map(|out| out.join(uuid));
        gravest = match run_one(&one, host, stop) {
            Ok(exit) => gravest.max(exit),
            Err(error) => ended_by(&error, gravest)?,
        };
    }
    Ok(gravest)
}

fn run_one(args: &Args, host: &Host, stop: &Arc<AtomicBool>) -> Result<Exit, CliError> {
    let begun = Instant::now();
    let Started { device, mut dir, mut run } = match &args.resume {
        Some(path) => resume(args, path, host, stop)?,
        None => create(args, host, stop)?,
    };
    let path = dir.path().to_owned();
    super::say(&format!("crosstalk {} · {}", env!("CARGO_PKG_VERSION"), run.manifest.device));
    for warning in verdict::foreseen(&run.manifest.plan, run.manifest.date) {
        super::say(&format!("note: {} → {}", warning.what, warning.advice));
    }

    let bars = Bars::new(&run.manifest.plan, args.quiet);
    let ended = experiment::run(device.backend.as_ref(), &mut dir, &mut run, stop, &mut |p| bars.show(&p));
    bars.finish();
    let put_back = || matches!(Saved::of(&run.manifest.plan.gpu().uuid, run.manifest.provenance), Ok(None));
    if args.overrides.allow_reconfigure && run.manifest.provenance != Provenance::Simulated && put_back() {
        say_renamed(run.manifest.plan.gpu());
    }
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => return failed(error.into(), &path, stop.load(Ordering::Relaxed)),
    };

    let verdict = verdict::judge(&run);
    if ended == Ended::Complete {
        dir.finish(&Digest::build(&run, &verdict)?)?;
    }
    let printed = super::print(&report::render(&run, &verdict, Format::Terminal, Style::Ansi)?);
    super::say(&format!("\n{:.1} s · run directory: {}", begun.elapsed().as_secs_f64(), path.display()));
    let exit = match ended {
        Ended::Complete => match nothing_ran(&run) {
            Some(reason) => {
                super::say(&format!("nothing was measured: {reason}"));
                Exit::Environment.max(verdict.requirement.into())
            }
            None => verdict.requirement.into(),
        },
        Ended::Interrupted => {
            super::say(&format!("interrupted: {}", go_on(&path)));
            Exit::Interrupted
        }
    };
    printed.map_or_else(|error| ended_by(&error, exit), |()| Ok(exit))
}

/// Says which MIG devices have other names than when the run began.
fn say_renamed(before: &Gpu) {
    // Where the driver no longer answers, the run has said so.
    let Ok(now) = probe::survey() else { return };
    let Some(now) = now.inventory.gpus.iter().find(|gpu| gpu.uuid == before.uuid) else { return };
    for line in reconfigure::renamed(before, now) {
        super::say(&format!("put back under another name: {line}"));
    }
}

/// Why not one arm ran on a GPU on which the plan has something to run: the machine's fault, whatever was required.
fn nothing_ran(run: &RecordedRun) -> Option<&str> {
    let plan = &run.manifest.plan;
    if run.manifest.provenance == Provenance::Simulated || !run.arms.is_empty() {
        return None;
    }
    let ran = |index: &usize| plan.arrangements[*index].skipped.is_none();
    run.skipped.iter().find(|(index, _)| ran(index)).map(|(_, reason)| reason.as_str())
}

fn go_on(path: &Path) -> String {
    format!("go on with `crosstalk run --resume {}`", path.display())
}

/// The end of a run that could not go on: what was measured stays.
fn failed(error: CliError, path: &Path, interrupted: bool) -> Result<Exit, CliError> {
    let exit = if interrupted { Exit::Interrupted } else { Exit::Ok };
    let ended = ended_by(&error, exit);
    super::say(&format!("what was measured is kept: {}", go_on(path)));
    ended
}

/// Says what went wrong; the exit code is that of the graver end.
fn ended_by(error: &CliError, otherwise: Exit) -> Result<Exit, CliError> {
    error.print();
    Ok(error.exit().max(otherwise))
}

/// A run directory open for writing, and the device to go on with.
struct Started {
    device: Ready,
    dir: RunDir,
    run: RecordedRun,
}

fn create(args: &Args, host: &Host, stop: &AtomicBool) -> Result<Started, CliError> {
    let name = args.scenario.as_deref().unwrap_or_default();
    let loaded = args.overrides.load(name)?;
    let (selected, plan) = args.overrides.plan(&loaded, host)?;
    let today = today()?;
    let (provenance, mut line) = (selected.provenance(), selected.line.clone());
    let welcome = mps::welcome(&plan.arrangements);
    let device = selected.ready(&args.rights, &welcome, args.overrides.allow_reconfigure, stop)?;
    if let Some(why) = &device.assumed {
        line.push_str(&format!("; {}", crate::nvml::assuming(why)));
    }
    let path = match &args.out {
        Some(path) if path.exists() && !path.is_dir() => {
            let path = path.display();
            return Err(CliError::Usage(format!("--out {path} is a file: name a directory, empty or not there yet")));
        }
        Some(path) => path.clone(),
        None => fresh(Path::new("crosstalk-runs"), &plan.scenario)?,
    };
    let manifest = Manifest::new(today, provenance, &line, &plan, &loaded.text);
    let dir = RunDir::create(&path, &manifest)?;
    Ok(Started { device, dir, run: RecordedRun::new(manifest) })
}

fn resume(args: &Args, path: &Path, host: &Host, stop: &AtomicBool) -> Result<Started, CliError> {
    // Nothing is changed before it is known that the run can go on here.
    let recorded = run_dir::manifest(path).map_err(CliError::in_run(path))?;
    let this = concat!("crosstalk ", env!("CARGO_PKG_VERSION"));
    if recorded.created_by != this {
        return Err(CliError::Usage(format!(
            "{} was begun by {}, and this is {this}: go on with that version, or begin a new run",
            path.display(),
            recorded.created_by
        )));
    }
    // A run goes on where it was begun, whatever named the device then.
    let begun_on = match recorded.provenance {
        Provenance::Simulated => simulated(&recorded.plan),
        Provenance::Measured | Provenance::StandIn => recorded.plan.gpu().uuid.clone(),
    };
    let selected = select(args.overrides.device.as_deref(), Some(&begun_on), None, host)?;
    if selected.provenance() != recorded.provenance || !same(&selected.inventory, &recorded.plan.inventory) {
        return Err(CliError::Usage(format!(
            "{} was begun on another device ({}): resume it there, or begin a new run",
            path.display(),
            recorded.device
        )));
    }
    let welcome = mps::welcome(&recorded.plan.arrangements);
    let device = selected.ready(&args.rights, &welcome, args.overrides.allow_reconfigure, stop)?;
    let (dir, run) = RunDir::resume(path).map_err(CliError::in_run(path))?;
    Ok(Started { device, dir, run })
}

/// Whether two inventories are of one machine in one layout. Ids and UUIDs of instances are new after each reboot.
fn same(a: &Inventory, b: &Inventory) -> bool {
    let nameless = |inventory: &Inventory| {
        let mut inventory = inventory.clone();
        for instance in inventory.gpus.iter_mut().flat_map(|gpu| &mut gpu.instances) {
            (instance.gpu_instance, instance.compute_instance) = (None, None);
            // One without a compute instance stays one.
            instance.uuid.truncate(1);
        }
        inventory
    };
    nameless(a) == nameless(b)
}

/// What `--device` calls the simulated GPU of a plan.
fn simulated(plan: &Plan) -> String {
    let gpu = plan.gpu();
    let profiles: Vec<&str> = gpu.instances.iter().map(|i| i.profile.as_str()).collect();
    let layout = if profiles.is_empty() { String::new() } else { format!("/{}", profiles.join("+")) };
    format!("sim:{}{layout}", gpu.model.as_deref().unwrap_or_default())
}

/// The day by which accepted risks expire (UTC): today, or SOURCE_DATE_EPOCH's.
pub(super) fn today() -> Result<Date, CliError> {
    let now = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => seconds.parse().ok().and_then(|s| Timestamp::from_second(s).ok()).ok_or_else(|| {
            CliError::Usage(format!("SOURCE_DATE_EPOCH={seconds:?} is no number of seconds since 1970"))
        })?,
        Err(_) => Timestamp::now(),
    };
    Ok(now.to_zoned_datetime(jiff::tz::TimeZone::UTC).date())
}

/// Creates `<scenario>-1`, or `-2`, … : the first that did not exist. Of two runs begun at once, each gets its own.
fn fresh(parent: &Path, scenario: &str) -> Result<PathBuf, CliError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CliError::Write { path, source }
    };
    std::fs::create_dir_all(parent).map_err(failed(parent))?;
    let mut n = 1u32;
    loop {
        let path = parent.join(format!("{scenario}-{n}"));
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => n += 1,
            Err(e) => return Err(failed(&path)(e)),
        }
    }
}

/// The first signal asks the run to end cleanly; a second one ends the process.
pub(super) fn stop_on_signals() -> Result<Arc<AtomicBool>, CliError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|e| CliError::Environment(format!("cannot catch signal {signal}: {e}")))?;
    }
    Ok(stop)
}
