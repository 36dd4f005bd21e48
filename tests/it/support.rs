//! What the integration tests share.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use crosstalk::backend::Backend;
use crosstalk::backend::sim::Simulator;
use crosstalk::experiment;
use crosstalk::gpu::{self, GpuModel};
use crosstalk::plan::Plan;
use crosstalk::run_dir::{Digest, Manifest, RecordedRun, RunDir};
use crosstalk::scenario;
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
