//! Cost of the machine model: requests of all tenants per second of one core.
//!
//! The cell is mps × hbm-read: two tenants with half of the SMs each; the noise always has four launches of about
//! 0.5 ms queued, the victim sends one probe after another.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crosstalk::gpu::GpuModel;
use crosstalk::machine::{
    Chain, Compute, Context, Demand, Domain, GpuPart, LaunchDemand, Machine, Policy, QueueId, SmShare, Topology,
    Traffic, WorkId,
};
use crosstalk::units::Nanos;

/// Sizes of an H100 SXM, rounded.
const MODEL: &str = r#"
    id = "bench"
    name = "NVIDIA Bench"
    architecture = "hopper"
    compute_capability = "9.0"
    memory_mib = 81559
    sm = { count = 132, fma_per_cycle = 128, tensor_flop_per_cycle = 4096, l1_kib = 256, l1_latency_cycles = 38, l1_bytes_per_cycle = 128, l2_bytes_per_cycle = 64, registers_kib = 256, max_blocks = 32 }
    clock = { max_mhz = 1980, floor_mhz = 1200, idle_mhz = 345 }
    power = { cap_w = 700.0, idle_w = 70.0, issue_w = 200.0, tensor_w = 400.0, l2_w = 80.0, hbm_w = 130.0, lag_ms = 20.0 }
    l2 = { kib = 51200, partitions = 2, latency_cycles = 219, bytes_per_cycle = 5120, loaded_factor = 3.0 }
    hbm = { gb_per_s = 3000.0, latency_cycles = 834, loaded_factor = 4.0 }
    tlb = { sm_reach_mib = 0, reach_mib = 65536, miss_ns = 300.0 }
    order = { barriers_per_us = 300.0, strong_loaded_factor = 3.0, atomics_per_us = 2400.0 }
    pcie = { generation = 5, to_device_gb_per_s = 55.0, to_host_gb_per_s = 55.0, both_gb_per_s = 90.0, setup_ns = 1500, copy_engines = 3 }
    launch = { latency_ns = 4000, call_ns = 2000, gap_ns = 1000, completion_ns = 1000, wake = [] }
    time_slice = { quantum_us = 2090, switch_us = 170 }
    driver = { context_mib = 500, alloc_us = 20.0, free_us = 20.0, context_create_ms = 100.0, context_destroy_ms = 50.0 }
"#;

/// Two tenants with half of the SMs each.
fn halves() -> Topology {
    let domain = Domain {
        gpu: 0,
        sms: 132,
        l2_bytes: 50 << 20,
        l2_bandwidth: 10_137_600_000_000,
        hbm_bandwidth: 3_000_000_000_000,
        memory: 81_559 << 20,
        copy_engines: 3,
    };
    Topology {
        gpus: vec![GpuPart { mig: false }],
        domains: vec![domain],
        computes: vec![Compute { domain: 0, sms: 132, policy: Policy::Concurrent }],
        contexts: (0..2)
            .map(|process| Context { compute: 0, sms: SmShare::Cap(66), process, memory_limit: None })
            .collect(),
    }
}

fn probes() -> Vec<(&'static str, Demand)> {
    let small = LaunchDemand { blocks: 8, blocks_per_sm: 1, ..LaunchDemand::default() };
    let chase = |loads, footprint, pages| {
        let chain = Chain { loads, warps: 8, footprint, pages, strong: false, through_l1: false };
        Demand::Launch(LaunchDemand { chain, ..small })
    };
    let burst = Traffic { read: 16 << 20, footprint: 1 << 30, page_touches: 512, pages: 512, ..Traffic::default() };
    vec![
        ("launch", Demand::Launch(LaunchDemand { blocks: 1, blocks_per_sm: 1, ..LaunchDemand::default() })),
        ("compute-20us", Demand::Launch(LaunchDemand { blocks: 66, issue_cycles: 40_000, ..small })),
        ("l2-chase-100us", chase(900, 8 << 20, 4)),
        ("hbm-chase-300us", chase(700, 4 << 30, 2_048)),
        ("hbm-burst-20us", Demand::Launch(LaunchDemand { blocks: 528, blocks_per_sm: 8, traffic: burst, ..small })),
    ]
}

struct Cell {
    machine: Box<Machine>,
    victim: (QueueId, WorkId),
    noise: (QueueId, WorkId),
}

fn cell(probe: &Demand) -> Result<Cell, Box<dyn std::error::Error>> {
    let model: GpuModel = toml::from_str(MODEL)?;
    let mut machine = Machine::new(&model, &halves(), &[])?;
    let traffic =
        Traffic { read: 1_500_000_000, footprint: 30 << 30, page_touches: 15_360, pages: 15_360, ..Traffic::default() };
    let noise = Demand::Launch(LaunchDemand { blocks: 528, blocks_per_sm: 8, traffic, ..LaunchDemand::default() });
    let victim = (machine.queue(0)?, machine.define(0, probe)?);
    let noise = (machine.queue(1)?, machine.define(1, &noise)?);
    Ok(Cell { machine, victim, noise })
}

impl Cell {
    /// Runs until `requests` have ended: the noise keeps four queued, the victim one.
    fn run(&mut self, requests: u64) {
        let mut ended = 0;
        let mut now = Nanos::ZERO;
        while ended < requests {
            while self.machine.busy(self.noise.0) < 4 {
                self.machine.submit(self.noise.0, self.noise.1, 1, now);
            }
            if self.machine.busy(self.victim.0) == 0 {
                self.machine.submit(self.victim.0, self.victim.1, 1, now);
            }
            now = self.machine.next().unwrap_or(now);
            self.machine.advance(now, &mut |_| ended += 1);
        }
    }
}

fn engine(c: &mut Criterion) {
    const REQUESTS: u64 = 10_000;
    let mut group = c.benchmark_group("mps × hbm-read");
    group.throughput(Throughput::Elements(REQUESTS));
    for (name, probe) in probes() {
        match cell(&probe) {
            Ok(cell) => {
                group.bench_function(BenchmarkId::from_parameter(name), |b| {
                    b.iter_batched_ref(
                        || Cell { machine: cell.machine.clone(), ..cell },
                        |cell| cell.run(REQUESTS),
                        criterion::BatchSize::LargeInput,
                    );
                });
            }
            Err(error) => eprintln!("{name}: {error}"),
        }
    }
    group.finish();
}

criterion_group!(benches, engine);
criterion_main!(benches);
