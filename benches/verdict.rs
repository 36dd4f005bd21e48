//! Cost of the verdict of one cell: 48 blocks, six probes at 10,000 requests per arm, 2,000 resamples and more for each
//! series × quantile. Goal: 200 ms on one core.

use std::collections::BTreeMap;

use criterion::{Criterion, criterion_group, criterion_main};
use crosstalk::backend::sim::Simulator;
use crosstalk::backend::{ArmKey, ArmSummary, Backend, NeighbourSummary, Purpose, WindowSummary};
use crosstalk::gpu;
use crosstalk::plan::Plan;
use crosstalk::provenance::Provenance;
use crosstalk::random::{Key, Stream};
use crosstalk::run_dir::{
    ArmData, Calibration, JudgedBy, Manifest, NeighbourCalibration, ProbeCalibration, RecordedRun, SeriesData,
};
use crosstalk::scenario::{self, Controls};
use crosstalk::units::{Nanos, Rate};
use crosstalk::verdict::judge;
use crosstalk::workload::CATALOGUE;

const SCENARIO: &str = r#"
schema = 1
name = "bench"
[design]
tier = "acceptance"
[victim]
panel = [{ probe = "launch" }, { probe = "compute" }, { probe = "l2-chase" }, { probe = "hbm-chase" }, { probe = "strong-chase" }, { probe = "h2d" }]
[[neighbour]]
noise = "hbm-read"
[[arrangement]]
name = "mps"
sharing = "mps"
"#;

const REQUESTS: u64 = 10_000;

/// Independent lognormal latencies about 100 µs.
fn series(stream: &mut Stream) -> SeriesData {
    let mut values: Vec<u64> = (0..REQUESTS).map(|_| (1e5 * (0.3 * stream.normal()).exp()) as u64).collect();
    values.sort_unstable();
    let mut data = SeriesData::default();
    values.into_iter().for_each(|ns| data.latency.record(ns));
    data
}

fn arm(plan: &Plan, key: ArmKey) -> ArmData {
    let window = |probe| WindowSummary {
        probe,
        length: Nanos::secs(1),
        planned: REQUESTS,
        completed: REQUESTS,
        ..WindowSummary::default()
    };
    let neighbour =
        NeighbourSummary { seat: 1, completed: 950, rate: 950.0, pending: 1.0, longest_gap: Nanos::millis(2) };
    let names = plan.panel.iter().flat_map(|probe| &probe.series);
    let number =
        [key.block.into(), key.neighbour.map_or(0, |n| n as u64 + 1), u64::from(key.purpose != Purpose::Block)];
    let of = |name: &String| {
        let [block, neighbour, again] = number.map(Key::Number);
        (name.clone(), series(&mut Stream::new(1, &[Key::Name(name), block, neighbour, again])))
    };
    ArmData {
        summary: ArmSummary {
            windows: (0..plan.panel.len()).map(window).collect(),
            neighbours: vec![neighbour],
            sm_mhz: Some(1_755.0),
            throttled: Some(0.0),
            ..ArmSummary::default()
        },
        series: names.map(of).collect(),
    }
}

fn run(again: bool) -> RecordedRun {
    let model = gpu::find_model("h100-sxm").expect("the model is built in");
    let scenario = scenario::read("bench", SCENARIO, CATALOGUE).unwrap_or_else(|m| panic!("{}", m.render(false)));
    let inventory = Simulator::new(model, None).inventory().expect("a simulated machine can be read");
    let mut plan = Plan::resolve(&scenario, &inventory, 0, Some(model)).expect("the scenario fits the model");
    plan.design.controls = Controls { again, ..Controls::default() };
    let states = [(None, Purpose::Block), (Some(0), Purpose::Block), (None, Purpose::Again)];
    let mut run = RecordedRun::new(Manifest {
        format: Manifest::FORMAT.to_owned(),
        version: Manifest::VERSION,
        created_by: "bench".to_owned(),
        date: jiff::civil::date(2026, 6, 1),
        provenance: Provenance::Simulated,
        device: String::new(),
        plan,
        scenario_text: SCENARIO.to_owned(),
    });
    let plan = run.manifest.plan.clone();
    let grids = plan.arrangements[0].grids.len();
    for grid in 0..grids {
        let probes = plan.arrangements[0].grids[grid].probes.iter().map(|probe| ProbeCalibration {
            probe: *probe,
            closed_rate: None,
            rate: Rate::per_second(REQUESTS),
            window: Nanos::secs(1),
            judged: plan.design.judged.iter().map(|q| (*q, JudgedBy::Blocks)).collect(),
            delay: None,
        });
        let calibration = Calibration {
            arrangement: 0,
            grid,
            probes: probes.collect(),
            neighbours: vec![NeighbourCalibration { neighbour: 0, solo_rate: 1e3 }],
            turns: None,
        };
        run.calibrations.insert((0, grid), calibration);
        let first = plan.arrangements[0].grids[grid].first_block;
        for block in first..first + plan.design.blocks {
            for (neighbour, purpose) in states.iter().take(if again { 3 } else { 2 }) {
                let key = ArmKey { arrangement: 0, grid, block, neighbour: *neighbour, purpose: *purpose };
                run.arms.insert(key.clone(), arm(&plan, key));
            }
        }
    }
    run.finished = true;
    run
}

fn verdict(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("verdict");
    group.sample_size(20);
    for (name, again) in [("cell", false), ("cell-with-its-control", true)] {
        let run = run(again);
        let words: BTreeMap<&str, usize> = judge(&run).cells[0].series.iter().fold(BTreeMap::new(), |mut words, s| {
            *words.entry(s.verdict.word()).or_default() += 1;
            words
        });
        assert_eq!(words.get("isolated").copied(), Some(12), "{words:?}");
        group.bench_function(name, |bencher| bencher.iter(|| judge(&run)));
    }
    group.finish();
}

criterion_group!(benches, verdict);
criterion_main!(benches);
