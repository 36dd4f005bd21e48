//! Cost of the simulator: requests of all tenants per second of one core, recording included.
//!
//! One noisy arm of the cell mps × hbm-read with a panel of four. The goal is a million requests a second.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crosstalk::backend::sim::Simulator;
use crosstalk::backend::{ArmKey, ArmPlan, Backend, Load, Purpose, Window};
use crosstalk::gpu;
use crosstalk::plan::Plan;
use crosstalk::scenario;
use crosstalk::units::{Nanos, Rate};
use crosstalk::workload::CATALOGUE;

const SCENARIO: &str = r#"
schema = 1
name = "bench"
[victim]
panel = [{ probe = "launch" }, { probe = "compute" }, { probe = "hbm-chase" }, { probe = "inference" }]
[[neighbour]]
noise = "hbm-read"
[[arrangement]]
name = "mps"
sharing = "mps"
"#;

/// Requests per second of each probe: about a tenth of what it does alone in a closed loop.
const RATES: [u64; 4] = [40_000, 1_000, 400, 200];

fn noisy_arm(plan: &Plan) -> ArmPlan {
    let grid = &plan.arrangements[0].grids[0];
    let windows = grid
        .probes
        .iter()
        .map(|&probe| Window {
            probe,
            load: Load::Open { rate: Rate::per_second(RATES[probe]), poisson: true },
            length: Nanos::millis(250),
            delay: Nanos::ZERO,
            seat: None,
        })
        .collect();
    ArmPlan {
        key: ArmKey { arrangement: 0, grid: 0, block: 0, neighbour: Some(0), purpose: Purpose::Block },
        noise: Some(0),
        windows,
        washout: plan.design.washout,
        drain: plan.design.drain,
        sampled: true,
    }
}

fn simulator(c: &mut Criterion) {
    let model = gpu::find_model("h100-sxm").expect("the model is built in");
    let simulator = Simulator::new(model, None);
    let scenario = scenario::read("bench", SCENARIO, CATALOGUE).unwrap_or_else(|m| panic!("{}", m.render(false)));
    let inventory = simulator.inventory().expect("a simulated machine can be read");
    let plan = Plan::resolve(&scenario, &inventory, 0, Some(model)).expect("the scenario fits the model");
    let mut session = simulator.open(&plan, 0, 0).expect("the tenants come up");
    let arm = noisy_arm(&plan);

    let record = session.run_arm(&arm).expect("the arm runs");
    let noise: u64 = record.summary.neighbours.iter().map(|n| n.completed).sum();
    let requests = record.samples.len() as u64 + noise;

    let mut group = c.benchmark_group("simulator");
    group.throughput(Throughput::Elements(requests)).sample_size(20);
    group.bench_function("mps × hbm-read, panel of four", |b| {
        b.iter(|| session.run_arm(&arm).expect("the arm runs"));
    });
    group.finish();
}

criterion_group!(benches, simulator);
criterion_main!(benches);
