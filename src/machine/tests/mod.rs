//! What must hold of the machine: a case worked out by hand per rule, then laws.
//!
//! All cases run on one GPU of round numbers ([`model`]): a cycle is a nanosecond, device memory moves 100 bytes per
//! nanosecond, a launch is seen after 4 µs and follows another after 1 µs.

mod alone;
mod gpu;
mod laws;
mod leaks;
mod room;
mod tenancy;
mod together;
mod turns;

use super::{
    Chain, Compute, Context, CopyDemand, Demand, Direction, Domain, Done, GpuPart, HostDemand, LaunchDemand, Machine,
    Policy, QueueId, SmShare, Terms, Ticket, Topology, Traffic,
};
use crate::gpu::GpuModel;
use crate::units::{Bytes, Nanos};

/// A GPU of round numbers.
pub(super) fn model() -> GpuModel {
    let text = r#"
        id = "round"
        name = "NVIDIA Round Numbers"
        architecture = "test"
        compute_capability = "9.0"
        memory_mib = 10240
        sm = { count = 10, fma_per_cycle = 128, tensor_flop_per_cycle = 1024, l1_kib = 100, l1_latency_cycles = 30, l1_bytes_per_cycle = 64, l2_bytes_per_cycle = 200, registers_kib = 156, max_blocks = 32 }
        clock = { max_mhz = 1000, floor_mhz = 500, idle_mhz = 300 }
        power = { cap_w = 1000.0, idle_w = 100.0, issue_w = 200.0, tensor_w = 300.0, l2_w = 100.0, hbm_w = 100.0, lag_ms = 10.0 }
        l2 = { kib = 10240, partitions = 2, latency_cycles = 200, bytes_per_cycle = 1000, loaded_factor = 3.0 }
        hbm = { gb_per_s = 100.0, latency_cycles = 500, loaded_factor = 5.0 }
        tlb = { sm_reach_mib = 0, reach_mib = 2000, miss_ns = 300.0 }
        order = { barriers_per_us = 100.0, strong_loaded_factor = 4.0, atomics_per_us = 1000.0 }
        pcie = { generation = 5, to_device_gb_per_s = 20.0, to_host_gb_per_s = 20.0, both_gb_per_s = 30.0, setup_ns = 1000, copy_engines = 2 }
        launch = { latency_ns = 4000, call_ns = 2000, gap_ns = 1000, completion_ns = 1000, wake = [] }
        time_slice = { quantum_us = 2000, switch_us = 200 }
        driver = { context_mib = 200, alloc_us = 10.0, free_us = 10.0, context_create_ms = 100.0, context_destroy_ms = 50.0 }
    "#;
    toml::from_str(text).unwrap()
}

/// The whole GPU as one domain.
pub(super) fn whole() -> Domain {
    Domain {
        gpu: 0,
        sms: 10,
        l2_bytes: 10 << 20,
        l2_bandwidth: 1_000_000_000_000,
        hbm_bandwidth: 100_000_000_000,
        memory: 10 << 30,
        copy_engines: 2,
    }
}

/// Contexts with these shares of one GPU.
pub(super) fn shared(policy: Policy, shares: &[SmShare]) -> Topology {
    Topology {
        gpus: vec![GpuPart { mig: false }],
        domains: vec![whole()],
        computes: vec![Compute { domain: 0, sms: 10, policy }],
        contexts: shares
            .iter()
            .enumerate()
            .map(|(process, &sms)| Context { compute: 0, sms, process, memory_limit: None })
            .collect(),
    }
}

/// Two GPU instances of half a GPU each, with one context in each.
pub(super) fn halves() -> Topology {
    let half = Domain {
        sms: 5,
        l2_bytes: 5 << 20,
        l2_bandwidth: 500_000_000_000,
        hbm_bandwidth: 50_000_000_000,
        memory: 5 << 30,
        copy_engines: 1,
        ..whole()
    };
    Topology {
        gpus: vec![GpuPart { mig: true }],
        domains: vec![half, half],
        computes: vec![
            Compute { domain: 0, sms: 5, policy: Policy::Concurrent },
            Compute { domain: 1, sms: 5, policy: Policy::Concurrent },
        ],
        contexts: (0..2).map(|i| Context { compute: i, sms: SmShare::All, process: i, memory_limit: None }).collect(),
    }
}

/// A machine under test, with one queue per context and everything that ended so far.
pub(super) struct Rig {
    pub machine: Box<Machine>,
    pub queues: Vec<QueueId>,
    pub done: Vec<Done>,
}

impl Rig {
    pub fn new(topology: &Topology) -> Self {
        Self::with(&model(), topology)
    }

    pub fn with(model: &GpuModel, topology: &Topology) -> Self {
        Self::leaking(model, topology, &[])
    }

    pub fn leaking(model: &GpuModel, topology: &Topology, leaks: &[super::Leak]) -> Self {
        let mut machine = Machine::new(model, topology, leaks).unwrap();
        let queues = (0..topology.contexts.len()).map(|c| machine.queue(c).unwrap()).collect();
        Self { machine, queues, done: Vec::new() }
    }

    /// Queues work of `context` on its own queue.
    pub fn submit(&mut self, context: usize, demand: Demand, times: u32, at: u64) -> Ticket {
        self.submit_to(self.queues[context], context, demand, times, at)
    }

    pub fn submit_to(&mut self, queue: QueueId, context: usize, demand: Demand, times: u32, at: u64) -> Ticket {
        let work = self.machine.define(context, &demand).unwrap();
        self.machine.submit(queue, work, times, Nanos(at)).unwrap()
    }

    pub fn advance(&mut self, to: u64) {
        let done = &mut self.done;
        self.machine.advance(Nanos(to), &mut |d| done.push(d));
    }

    /// Runs until nothing can happen any more.
    pub fn drain(&mut self) {
        for _ in 0..1_000_000 {
            let Some(next) = self.machine.next() else { return };
            self.advance(next.0);
        }
        panic!("the machine never comes to rest: {:?}", self.machine.next());
    }

    /// Start and end of a ticket that is done.
    pub fn span(&self, ticket: Ticket) -> (u64, u64) {
        let d = self.done.iter().find(|d| d.ticket == ticket).unwrap();
        (d.started.0, d.ended.0)
    }

    /// How long a ticket that is done ran.
    pub fn length(&self, ticket: Ticket) -> u64 {
        let (from, to) = self.span(ticket);
        to - from
    }
}

/// One block that spins for `cycles`.
pub(super) fn spin(cycles: u64) -> Demand {
    Demand::Launch(LaunchDemand { blocks: 1, blocks_per_sm: 1, wait_cycles: cycles, ..LaunchDemand::default() })
}

/// Blocks on every SM whose issue slots they fill for `cycles`.
pub(super) fn compute(blocks: u32, per_sm: u32, cycles: u64) -> Demand {
    Demand::Launch(LaunchDemand { blocks, blocks_per_sm: per_sm, issue_cycles: cycles, ..LaunchDemand::default() })
}

/// Reads `bytes` out of a footprint far beyond L2, with a block per SM.
pub(super) fn read(bytes: u64) -> Demand {
    read_in(bytes, 1 << 40, 5)
}

/// Reads `bytes` out of `footprint`, with `blocks` of which four fit on an SM.
pub(super) fn read_in(bytes: u64, footprint: u64, blocks: u32) -> Demand {
    let traffic = Traffic { read: bytes, footprint, ..Traffic::default() };
    Demand::Launch(LaunchDemand { blocks, blocks_per_sm: 4, traffic, ..LaunchDemand::default() })
}

/// A chain of dependent loads by one warp.
pub(super) fn chase(loads: u64, footprint: u64, pages: u64, strong: bool) -> Demand {
    let chain = Chain { loads, warps: 1, footprint, pages, strong, through_l1: false };
    Demand::Launch(LaunchDemand { blocks: 1, blocks_per_sm: 4, chain, ..LaunchDemand::default() })
}

/// Barriers of one block.
pub(super) fn barriers(count: u64) -> Demand {
    Demand::Launch(LaunchDemand { blocks: 1, blocks_per_sm: 4, barriers: count, ..LaunchDemand::default() })
}

/// A copy.
pub(super) fn copy(bytes: u64, direction: Direction) -> Demand {
    Demand::Copy(CopyDemand { bytes, direction })
}

/// A host call.
pub(super) fn call(lock: u64, outside: u64) -> Demand {
    Demand::Host(HostDemand { lock: Nanos(lock), outside: Nanos(outside), barriers: 0 })
}
