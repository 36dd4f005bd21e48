//! From a GPU's data and a topology to a machine at rest.

use super::caches::Occupancy;
use super::engine::Machine;
use super::memory::Memory;
use super::power::Clock;
use super::rates::Resource;
use super::slicing::Turns;
use super::state::{ComputeState, ContextState, DomainState, GpuState};
use super::topology::{Policy, SmShare, Topology};
use crate::channel::Channel;
use crate::gpu::GpuModel;
use crate::units::Share;

/// GPUs of a machine at most.
pub(super) const GPUS: usize = 8;
/// Memory domains at most.
pub(super) const DOMAINS: usize = 16;
/// Compute domains at most.
pub(super) const COMPUTES: usize = 16;
/// Contexts at most.
pub(super) const CONTEXTS: usize = 32;
/// Sets of SMs: the one that the contexts of each compute domain share, then one for each context.
pub(super) const POOLS: usize = CONTEXTS + COMPUTES;

/// A fault of isolation, injected for tests: `share` of every *other* memory domain's use of the resource behind
/// `channel` also loads mine; on the residual-memory channel, `share` of the memory given back is not scrubbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leak {
    /// Which resource.
    pub channel: Channel,
    /// How much of the others' use.
    pub share: Share,
}

/// Why there is no such machine, or why it cannot hold more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    /// A table is full.
    #[error("a machine holds at most {most} {what}")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many fit.
        most: usize,
    },
    /// An index that leads nowhere.
    #[error("{what} {index} does not exist")]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// Its index.
        index: usize,
    },
    /// A part that would have no SMs.
    #[error("{what} {index} has no SMs")]
    NoSms {
        /// What.
        what: &'static str,
        /// Its index.
        index: usize,
    },
    /// Parts that ask for more than their whole has.
    #[error("the parts of {what} {index} ask for {asked} SMs, it has {has}")]
    TooManySms {
        /// What.
        what: &'static str,
        /// Its index.
        index: usize,
        /// SMs asked for.
        asked: u32,
        /// SMs there are.
        has: u32,
    },
    /// A context's own overhead does not fit in the memory of its domain.
    #[error("context {context} does not fit: its overhead of {overhead} bytes exceeds what is left of its domain")]
    NoMemory {
        /// Index of the context.
        context: usize,
        /// Device memory that a context takes.
        overhead: u64,
    },
    /// A leak of a channel that is no domain's own: it hangs on the GPU and is shared already, or is not modelled.
    #[error("no leak between domains on channel {0}: it is shared by the whole GPU already, or not modelled")]
    NotLeakable(Channel),
}

/// Constants of the GPU model in the engine's units: nanoseconds, bytes per nanosecond, cycles per nanosecond (GHz).
#[derive(Clone, Copy, Debug)]
pub(super) struct Constants {
    pub sms: f64,
    pub max_blocks: u32,
    pub max_ghz: f64,
    pub floor_ghz: f64,
    pub idle_ghz: f64,
    /// Nanoseconds without work after which the clock falls to `idle_ghz`; `u64::MAX`: never.
    pub idle_after: u64,
    pub l1_bytes: f64,
    pub l1_cycles: f64,
    /// Bytes per cycle and SM.
    pub l1_width: f64,
    /// Bytes per cycle between one SM and L2.
    pub port_width: f64,
    pub l2_cycles: f64,
    pub l2_factor: f64,
    /// L2 of the whole GPU at the highest clock, bytes per nanosecond.
    pub l2_rate: f64,
    pub hbm_ns: f64,
    pub hbm_factor: f64,
    /// Device memory of the whole GPU, bytes per nanosecond.
    pub hbm_rate: f64,
    /// Pages of 2 MiB that an SM's own TLB covers.
    pub sm_pages: f64,
    pub miss_ns: f64,
    /// Per nanosecond.
    pub barriers: f64,
    pub strong_factor: f64,
    pub to_device: f64,
    pub to_host: f64,
    pub both: f64,
    pub setup_ns: f64,
    pub latency: u64,
    pub gap: u64,
    pub quantum: u64,
    pub switch: u64,
    /// Bytes that a preemption saves per SM.
    pub saved: f64,
    pub cap_w: f64,
    pub idle_w: f64,
    pub issue_w: f64,
    pub tensor_w: f64,
    pub l2_w: f64,
    pub hbm_w: f64,
    pub lag_ns: f64,
    /// Share of the others' use that loads a domain, per resource; all zero without a leak.
    pub leaks: [f64; Resource::COUNT],
    pub leaky: bool,
}

impl Constants {
    fn new(m: &GpuModel, leaks: &[Leak]) -> Result<Self, MachineError> {
        let max_ghz = f64::from(m.clock.max_mhz) / 1e3;
        let mut shares = [0.0; Resource::COUNT];
        for leak in leaks {
            let resources = Resource::of(leak.channel);
            if resources.is_empty() {
                return Err(MachineError::NotLeakable(leak.channel));
            }
            for r in resources {
                shares[*r as usize] += leak.share.as_f64();
            }
        }
        Ok(Self {
            sms: f64::from(m.sm.count),
            max_blocks: m.sm.max_blocks.max(1),
            max_ghz,
            floor_ghz: f64::from(m.clock.floor_mhz) / 1e3,
            idle_ghz: f64::from(m.clock.idle_mhz) / 1e3,
            idle_after: m.clock.idle_after_ms.map_or(u64::MAX, |ms| (ms * 1e6) as u64),
            l1_bytes: f64::from(m.sm.l1_kib) * 1024.0,
            l1_cycles: f64::from(m.sm.l1_latency_cycles),
            l1_width: f64::from(m.sm.l1_bytes_per_cycle),
            port_width: f64::from(m.sm.l2_bytes_per_cycle),
            l2_cycles: f64::from(m.l2.latency_cycles),
            l2_factor: m.l2.loaded_factor,
            l2_rate: f64::from(m.l2.bytes_per_cycle) * max_ghz,
            hbm_ns: f64::from(m.hbm.latency_cycles) / max_ghz,
            hbm_factor: m.hbm.loaded_factor,
            hbm_rate: m.hbm.gb_per_s,
            sm_pages: m.tlb.sm_reach_mib as f64 / 2.0,
            miss_ns: m.tlb.miss_ns,
            barriers: m.order.barriers_per_us / 1e3,
            strong_factor: m.order.strong_loaded_factor,
            to_device: m.pcie.to_device_gb_per_s,
            to_host: m.pcie.to_host_gb_per_s,
            both: m.pcie.both_gb_per_s,
            setup_ns: m.pcie.setup_ns as f64,
            latency: m.launch.latency_ns,
            gap: m.launch.gap_ns,
            quantum: (m.time_slice.quantum_us * 1_000).max(1),
            switch: m.time_slice.switch_us * 1_000,
            saved: f64::from(m.sm.registers_kib + m.sm.l1_kib) * 1024.0,
            cap_w: m.power.cap_w,
            idle_w: m.power.idle_w,
            issue_w: m.power.issue_w,
            tensor_w: m.power.tensor_w,
            l2_w: m.power.l2_w,
            hbm_w: m.power.hbm_w,
            lag_ns: m.power.lag_ms * 1e6,
            leaks: shares,
            leaky: shares.iter().any(|s| *s > 0.0),
        })
    }
}

/// Refuses what the fixed tables cannot hold.
fn fits(what: &'static str, count: usize, most: usize) -> Result<(), MachineError> {
    if count > most { Err(MachineError::TooMany { what, most }) } else { Ok(()) }
}

/// Refuses an index beyond `count`.
fn exists(what: &'static str, index: usize, count: usize) -> Result<(), MachineError> {
    if index >= count { Err(MachineError::Missing { what, index }) } else { Ok(()) }
}

impl Machine {
    /// A machine at rest at time zero: every GPU of `topology` is a `model`; each context has taken its overhead.
    ///
    /// # Errors
    /// Where the topology exceeds the engine's tables, refers to parts that do not exist, divides more than there is, or
    /// where a leak concerns no resource of a domain.
    pub fn new(model: &GpuModel, topology: &Topology, leaks: &[Leak]) -> Result<Box<Self>, MachineError> {
        let mut machine = Self::vacant(model, topology, leaks)?;
        for context in 0..topology.contexts.len() {
            let overhead = machine.overhead;
            machine.open(context).map_err(|_| MachineError::NoMemory { context, overhead })?;
        }
        Ok(machine)
    }

    /// The same machine with none of its contexts open: [`Machine::open`] and [`Machine::close`] let them come and go.
    ///
    /// # Errors
    /// As [`Machine::new`].
    pub fn vacant(model: &GpuModel, topology: &Topology, leaks: &[Leak]) -> Result<Box<Self>, MachineError> {
        let k = Constants::new(model, leaks)?;
        check(topology)?;
        let mut machine = Box::new(Self::empty(k));
        machine.counts = (topology.gpus.len(), topology.contexts.len());
        for (g, gpu) in machine.gpus.iter_mut().enumerate().take(topology.gpus.len()) {
            *gpu = GpuState::new(
                Clock::new(&k),
                // The reach is what the last level covers, in pages of 2 MiB.
                Occupancy::new((model.tlb.reach_mib as f64 / 2.0).max(1.0)),
            );
            gpu.domains = mask(topology.domains.iter().map(|d| d.gpu == g));
        }
        for (d, part) in topology.domains.iter().enumerate() {
            let l2_rate = part.l2_bandwidth as f64 / 1e9;
            // Atomics are executed by the L2 slices: a domain has those of its share of L2.
            let atomics = model.order.atomics_per_us / 1e3 * if k.l2_rate > 0.0 { l2_rate / k.l2_rate } else { 1.0 };
            machine.domains[d] = DomainState {
                l2_per_cycle: l2_rate / k.max_ghz,
                atomics_per_cycle: atomics / k.max_ghz,
                hbm_rate: part.hbm_bandwidth as f64 / 1e9,
                engines: part.copy_engines.max(1),
                contexts: mask(topology.contexts.iter().map(|c| topology.computes[c.compute].domain == d)) as u32,
                ..DomainState::new(part.gpu, part.l2_bytes)
            };
        }
        machine.memory = Memory::new(topology, machine.k.leaks[Resource::Contents as usize]);
        machine.overhead = model.driver.context_mib << 20;
        machine.seat(topology)?;
        Ok(machine)
    }

    /// Gives every context its SMs, as if all were open.
    fn seat(&mut self, topology: &Topology) -> Result<(), MachineError> {
        for (x, context) in topology.contexts.iter().enumerate() {
            let (share, given) = (context.sms, context.sms);
            self.contexts[x] =
                ContextState { compute: context.compute as u8, open: true, share, given, ..ContextState::EMPTY };
        }
        for (c, part) in topology.computes.iter().enumerate() {
            self.computes[c] = ComputeState {
                domain: part.domain as u8,
                sms: part.sms,
                turns: (part.policy == Policy::TimeSliced).then_some(Turns::new()),
                contexts: mask(topology.contexts.iter().map(|x| x.compute == c)) as u32,
                ..ComputeState::EMPTY
            };
            if part.policy == Policy::TimeSliced {
                self.sliced |= 1 << c;
            }
            self.reseat(c);
        }
        let contexts = &mut self.contexts[..topology.contexts.len()];
        if let Some(index) = contexts.iter().position(|x| x.sms <= 0.0) {
            return Err(MachineError::NoSms { what: "context", index });
        }
        contexts.iter_mut().for_each(|x| x.open = false);
        Ok(())
    }
}

/// A bit for each true.
fn mask(members: impl Iterator<Item = bool>) -> u64 {
    members.enumerate().fold(0, |mask, (i, member)| mask | u64::from(member) << i)
}

/// Refuses a topology that is no tree or divides more than there is.
fn check(t: &Topology) -> Result<(), MachineError> {
    fits("GPUs", t.gpus.len(), GPUS)?;
    fits("memory domains", t.domains.len(), DOMAINS)?;
    fits("compute domains", t.computes.len(), COMPUTES)?;
    fits("contexts", t.contexts.len(), CONTEXTS)?;
    for d in &t.domains {
        exists("GPU", d.gpu, t.gpus.len())?;
    }
    for c in &t.computes {
        exists("memory domain", c.domain, t.domains.len())?;
    }
    for x in &t.contexts {
        exists("compute domain", x.compute, t.computes.len())?;
    }
    for (index, d) in t.domains.iter().enumerate() {
        let asked = t.computes.iter().filter(|c| c.domain == index).map(|c| c.sms).sum();
        if asked > d.sms {
            return Err(MachineError::TooManySms { what: "memory domain", index, asked, has: d.sms });
        }
    }
    for (index, c) in t.computes.iter().enumerate() {
        if c.sms == 0 {
            return Err(MachineError::NoSms { what: "compute domain", index });
        }
        let own = |x: &super::topology::Context| if let SmShare::Own(n) = x.sms { n } else { 0 };
        let asked = t.contexts.iter().filter(|x| x.compute == index).map(own).sum();
        if asked > c.sms {
            return Err(MachineError::TooManySms { what: "compute domain", index, asked, has: c.sms });
        }
    }
    Ok(())
}
