//! What the integration tests share.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use crosstalk::backend::sim::Simulator;
use crosstalk::backend::{ArmKey, ArmPlan, ArmRecord, Backend, Load, Purpose, Window};
use crosstalk::experiment;
use crosstalk::gpu::{self, GpuModel};
use crosstalk::plan::Plan;
use crosstalk::run_dir::{Digest, Manifest, RecordedRun, RunDir};
use crosstalk::scenario;
use crosstalk::units::Nanos;
use crosstalk::verdict::{self, CellVerdict, RunVerdict, SeriesVerdict};
use crosstalk::workload::CATALOGUE;

/// The binary, as on a machine without a trace of a GPU and outside CI.
pub fn crosstalk() -> Command {
    let mut command = Command::cargo_bin("crosstalk").unwrap();
    for name in ["CI", "NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "SOURCE_DATE_EPOCH"] {
        command.env_remove(name);
    }
    command.env("COLUMNS", "120").env("NO_COLOR", "1");
    command
}

pub fn model(id: &str) -> &'static GpuModel {
    gpu::find_model(id).unwrap()
}

/// The plan of `text` on a simulated `model`, with this seed if one is given.
pub fn plan(text: &str, simulator: &Simulator, model: &GpuModel, seed: Option<u64>) -> Plan {
    let mut scenario = match scenario::read("test.toml", text, CATALOGUE) {
        Ok(scenario) => scenario,
        Err(mistakes) => panic!("{}", mistakes.render(false)),
    };
    if let Some(seed) = seed {
        scenario.seed = seed;
    }
    Plan::resolve(&scenario, &simulator.inventory().unwrap(), 0, Some(model)).unwrap()
}

/// Runs `plan` to its end in `path`.
pub fn run_in(path: &Path, simulator: &Simulator, plan: &Plan, text: &str) -> (RecordedRun, RunVerdict) {
    let date = jiff::civil::date(2026, 11, 25);
    let manifest = Manifest::new(date, simulator.provenance(), "SIMULATED (a test asks for it)", plan, text);
    let mut dir = RunDir::create(path, &manifest).unwrap();
    let mut run = RecordedRun::new(manifest);
    experiment::run(simulator, &mut dir, &mut run, &AtomicBool::new(false), &mut |_| {}).unwrap();
    let verdict = verdict::judge(&run);
    dir.finish(&Digest::build(&run, &verdict).unwrap()).unwrap();
    (run, verdict)
}

/// Runs a scenario on a simulated `model` in a folder of its own.
pub fn simulate(text: &str, simulator: &Simulator, model: &GpuModel, seed: Option<u64>) -> (RecordedRun, RunVerdict) {
    let plan = plan(text, simulator, model, seed);
    let folder = tempfile::tempdir().unwrap();
    run_in(&folder.path().join("run"), simulator, &plan, text)
}

pub fn cell<'a>(verdict: &'a RunVerdict, name: &str) -> &'a CellVerdict {
    verdict.cells.iter().find(|c| c.name == name).unwrap_or_else(|| {
        let names: Vec<&str> = verdict.cells.iter().map(|c| c.name.as_str()).collect();
        panic!("no cell {name}; there are {names:?}")
    })
}

pub fn series<'a>(cell: &'a CellVerdict, series: &str, quantile: &str) -> &'a SeriesVerdict {
    cell.series
        .iter()
        .find(|s| s.series == series && s.quantile.to_string() == quantile)
        .unwrap_or_else(|| panic!("no {series} {quantile} in {}", cell.name))
}

/// Every file under `root` with its bytes, in order of path.
pub fn tree(root: &Path) -> Vec<(String, Vec<u8>)> {
    fn walk(root: &Path, folder: &Path, out: &mut Vec<(String, Vec<u8>)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, out);
            } else {
                out.push((path.strip_prefix(root).unwrap().display().to_string(), std::fs::read(&path).unwrap()));
            }
        }
    }
    let mut out = Vec::new();
    walk(root, root, &mut out);
    out.sort();
    out
}

/// A scenario of these panel entries, neighbour entries (one inline table each) and keys of one arrangement.
pub fn scenario_text(
    design: &str,
    panel: &[impl AsRef<str>],
    neighbours: &[impl AsRef<str>],
    arrangement: &str,
) -> String {
    let list = |entries: Vec<&str>| entries.join(", ");
    format!(
        "schema = 1\nname = \"test\"\nneighbour = [{}]\n[design]\n{design}\n[victim]\npanel = [{}]\n[[arrangement]]\nname = \
         \"a\"\n{arrangement}\n",
        list(neighbours.iter().map(AsRef::as_ref).collect()),
        list(panel.iter().map(AsRef::as_ref).collect())
    )
}

/// Panel entries ("probe") or neighbours ("noise") of these workloads with their defaults.
pub fn entries(key: &str, ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| format!("{{ {key} = \"{id}\" }}")).collect()
}

/// One arrangement whose arms a test runs by itself, where a mean or a rate is enough and needs no verdict.
pub struct Bench {
    simulator: Simulator,
    plan: Plan,
}

impl Bench {
    pub fn new(
        model: &'static GpuModel,
        panel: &[impl AsRef<str>],
        neighbours: &[impl AsRef<str>],
        arrangement: &str,
    ) -> Self {
        Self::on(Simulator::new(model, None), model, panel, neighbours, arrangement)
    }

    pub fn on(
        simulator: Simulator,
        model: &'static GpuModel,
        panel: &[impl AsRef<str>],
        neighbours: &[impl AsRef<str>],
        arrangement: &str,
    ) -> Self {
        let plan = plan(&scenario_text("", panel, neighbours, arrangement), &simulator, model, None);
        Self { simulator, plan }
    }

    /// Workload of the first probe.
    pub fn probe(&self) -> &str {
        &self.plan.panel[0].workload
    }

    /// One arm on fresh tenants with the victim in its first place: `probe` alone, or beside neighbour `noise`.
    pub fn arm(&self, probe: usize, noise: Option<usize>, load: Load, length: Nanos) -> ArmRecord {
        let grids = &self.plan.arrangements[0].grids;
        let fits =
            |n: usize| grids[n].probes.contains(&probe) && noise.is_none_or(|n2| grids[n].neighbours.contains(&n2));
        let grid = (0..grids.len()).find(|n| fits(*n)).unwrap();
        let mut session = self.simulator.open(&self.plan, 0, grid).unwrap();
        let record = session.run_arm(&ArmPlan {
            key: ArmKey { arrangement: 0, grid, block: 0, neighbour: noise, purpose: Purpose::Block },
            noise,
            windows: vec![Window { probe, load, length, delay: Nanos::ZERO, seat: None }],
            sampled: true,
            washout: Nanos::millis(10),
            drain: Nanos::secs(2),
        });
        record.unwrap()
    }

    /// Requests per second of a closed loop of depth 4, from the first completion to the last in the window.
    pub fn rate(&self, probe: usize, noise: Option<usize>, length: Nanos) -> f64 {
        let record = self.arm(probe, noise, Load::Closed { depth: 4 }, length);
        let window = &record.summary.windows[0];
        let end = window.start + window.length;
        let done: Vec<Nanos> = record.samples.iter().filter_map(|s| s.completed).filter(|c| *c <= end).collect();
        let (first, last) = (done.iter().min().unwrap(), done.iter().max().unwrap());
        (done.len() - 1) as f64 / (*last - *first).as_secs_f64()
    }

    /// Mean latency of a closed loop of depth 1, nanoseconds.
    pub fn mean(&self, probe: usize, noise: Option<usize>, length: Nanos) -> f64 {
        mean_latency(&self.arm(probe, noise, Load::Closed { depth: 1 }, length))
    }

    /// Mean latency beside `noise` ÷ alone in the same place.
    pub fn ratio(&self, probe: usize, noise: usize, length: Nanos) -> f64 {
        self.mean(probe, Some(noise), length) / self.mean(probe, None, length)
    }
}

/// Latencies of the first series, nanoseconds, in order of planned time.
pub fn latencies(record: &ArmRecord) -> Vec<u64> {
    let first = record.samples.iter().filter(|s| s.series == 0);
    first.filter_map(|s| Some((s.completed? - s.planned).0)).collect()
}

pub fn mean_latency(record: &ArmRecord) -> f64 {
    let all = latencies(record);
    assert!(!all.is_empty(), "no request was served");
    all.iter().sum::<u64>() as f64 / all.len() as f64
}

pub fn quantile(mut values: Vec<u64>, q: f64) -> u64 {
    values.sort_unstable();
    values[((values.len() as f64 * q).ceil() as usize).clamp(1, values.len()) - 1]
}

/// A scenario of one arrangement and few blocks, with these lines at its end: keys of the arrangement, or more tables.
pub fn small(rest: &str) -> String {
    format!(
        r#"
schema = 1
name = "small"
device = "sim:a30"
[design]
blocks = 6
blocks_per_generation = 2
window = "60ms"
[victim]
panel = [{{ probe = "launch" }}]
[[neighbour]]
noise = "idle"
[[neighbour]]
name = "hog"
noise = "hbm-read"
[[arrangement]]
name = "ts"
sharing = "time-slicing"
{rest}
"#
    )
}

pub fn stdout(ended: Assert) -> String {
    String::from_utf8(ended.get_output().stdout.clone()).unwrap()
}

pub fn stderr(ended: Assert) -> String {
    String::from_utf8(ended.get_output().stderr.clone()).unwrap()
}

/// A folder of a test's own.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn root(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub fn bytes(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        self.bytes(name, text.as_bytes())
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// A copy of the folder `from`.
    pub fn copy(&self, from: &str, to: &str) -> PathBuf {
        for (name, bytes) in tree(&self.path(from)) {
            let path = self.path(to).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        self.path(to)
    }

    pub fn tree(&self) -> Vec<(String, Vec<u8>)> {
        tree(self.root())
    }
}

/// The parts of docs/FILE between `<!-- NAME -->` and `<!-- end of NAME -->`. `CROSSTALK_BLESS=1` writes them.
pub fn compare_with_docs(file: &str, parts: &[(&str, String)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(file);
    let mut text = std::fs::read_to_string(&path).unwrap();
    for (name, part) in parts {
        let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
        let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("docs/{file} has no {begin}"));
        let (found, after) = rest.split_once(&end).unwrap();
        if std::env::var_os("CROSSTALK_BLESS").is_some() {
            text = format!("{before}{begin}{part}{end}{after}");
        } else {
            assert!(found == part, "docs/{file} is out of date: run the tests once with CROSSTALK_BLESS=1\n{part}");
        }
    }
    std::fs::write(&path, text).unwrap();
}
