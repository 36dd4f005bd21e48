//! Exact quantiles of every arm of a run, from its samples: run beside DuckDB by scripts/quantiles_bench.py.
//!
//! `make FOLDER ARMS SAMPLES` writes a run through crosstalk's own writer; `read FOLDER` prints p50, p99 and p99.9 of every
//! arm in nanoseconds, one line per file, then rows, seconds and peak memory. Without arguments: a small run, both ways.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crosstalk::backend::sim::Simulator;
use crosstalk::backend::{ArmKey, ArmRecord, ArmSummary, Backend, Outcome, Purpose, Sample, WindowSummary};
use crosstalk::gpu;
use crosstalk::plan::Plan;
use crosstalk::random::{Key, Stream};
use crosstalk::run_dir::{Manifest, RunDir, encode, exact_quantiles};
use crosstalk::scenario::{self, Quantile};
use crosstalk::units::Nanos;
use crosstalk::workload::CATALOGUE;

const SCENARIO: &str = r#"
schema = 1
name = "quantiles-bench"
[design]
tier = "certify"
blocks = 1000
[victim]
panel = [{ probe = "launch" }]
[[neighbour]]
noise = "hbm-read"
[[arrangement]]
name = "ts"
sharing = "time-slicing"
tenants = 2
"#;

const QUANTILES: [Quantile; 3] = [Quantile::P50, Quantile::P99, Quantile::P999];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["make", folder, arms, samples] => {
            make(Path::new(folder), number(arms) as u32, number(samples));
        }
        ["read", folder] => read(Path::new(folder)),
        [] | ["--test"] => {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let run = folder.path().join("run");
            make(&run, 4, 10_000);
            read(&run);
        }
        other => panic!("make FOLDER ARMS SAMPLES, read FOLDER, or nothing; found {other:?}"),
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|e| panic!("{text:?}: {e}"))
}

/// A run of `arms` arms of one series; nothing was measured, so it calls itself simulated.
fn make(folder: &Path, arms: u32, samples: u64) {
    let model = gpu::find_model("h100-sxm").expect("the model is built in");
    let scenario = scenario::read("bench", SCENARIO, CATALOGUE).unwrap_or_else(|m| panic!("{}", m.render(false)));
    let inventory = Simulator::new(model, None).inventory().expect("a simulated machine can be read");
    let provenance = inventory.provenance;
    let plan = Plan::resolve(&scenario, &inventory, 0, Some(model)).expect("the scenario fits the model");
    let manifest = Manifest {
        format: Manifest::FORMAT.to_owned(),
        version: Manifest::VERSION,
        created_by: "crosstalk's bench".to_owned(),
        date: jiff::civil::date(2026, 1, 1),
        provenance,
        device: "none: random numbers".to_owned(),
        plan,
        scenario_text: SCENARIO.to_owned(),
    };
    let mut run = RunDir::create(folder, &manifest).expect("a new run directory");
    for arm in 0..arms {
        let neighbour = (arm % 2 == 1).then_some(0);
        let key = ArmKey { arrangement: 0, grid: 0, block: arm / 2, neighbour, purpose: Purpose::Block };
        let encoded = encode(&manifest, &key, &record(arm, samples)).expect("an arm of the plan");
        run.commit_encoded(vec![encoded]).expect("the arm is written");
    }
}

/// Poisson arrivals every 20 µs or so, latencies lognormal about 30 µs with the tail of a queue; one in 10,000 is not served.
fn record(arm: u32, samples: u64) -> ArmRecord {
    let mut stream = Stream::new(1, &[Key::Name("quantiles"), Key::Number(arm.into())]);
    let mut planned = 0;
    let one = |i: u64| {
        planned += 1 + (-20_000.0 * (1.0 - stream.uniform()).ln()) as u64;
        let mut took = 3e4 * (0.25 * stream.normal()).exp();
        if stream.uniform() < 0.02 {
            took += -2e5 * (1.0 - stream.uniform()).ln();
        }
        let served = i % 10_000 != 9_999;
        let at = |share: f64| served.then(|| Nanos(planned + (took * share) as u64));
        Sample {
            series: 0,
            window: 0,
            planned: Nanos(planned),
            sent: Some(Nanos(planned + 200)),
            gpu_start: at(0.4),
            gpu_end: at(0.8),
            completed: at(1.0),
            outcome: if served { Outcome::Ok } else { Outcome::Timeout },
        }
    };
    let samples: Vec<Sample> = (0..samples).map(one).collect();
    let windows = vec![WindowSummary { planned: samples.len() as u64, ..WindowSummary::default() }];
    ArmRecord { series: vec!["launch".to_owned()], samples, summary: ArmSummary { windows, ..ArmSummary::default() } }
}

fn read(folder: &Path) {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder.join("arms/ts"))
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    files.sort();
    let begun = Instant::now();
    let mut found = Vec::new();
    for file in &files {
        found.push(exact_quantiles(file, &QUANTILES).unwrap_or_else(|e| panic!("{e}")));
    }
    let seconds = begun.elapsed().as_secs_f64();
    let mut rows = 0;
    for (file, series) in files.iter().zip(&found) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        for s in series {
            rows += s.completed;
            let ns: Vec<String> =
                s.latencies.iter().map(|ns| ns.map_or(String::new(), |ns| ns.0.to_string())).collect();
            println!("{name} {}", ns.join(" "));
        }
    }
    println!("rows {rows} seconds {seconds:.3} peak_kib {}", peak_kib());
}

/// Most memory that this process held, KiB (`proc_pid_status(5)`, VmHWM).
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
