//! Building the tree of domains.

use super::SharingError;
use crate::gpu::{GpuModel, MigProfile};
use crate::machine::{Compute, Context, Domain, GpuPart, Policy, SmShare, Topology};

/// A tree under construction. Parts are added parent first; each addition returns the index of the part.
pub(super) struct Tree<'m> {
    model: &'m GpuModel,
    topology: Topology,
}

impl<'m> Tree<'m> {
    pub(super) fn new(model: &'m GpuModel) -> Self {
        Self { model, topology: Topology { gpus: vec![], domains: vec![], computes: vec![], contexts: vec![] } }
    }

    pub(super) fn gpu(&mut self, mig: bool) -> usize {
        push(&mut self.topology.gpus, GpuPart { mig })
    }

    /// A memory domain that is the whole of a GPU.
    pub(super) fn whole(&mut self, gpu: usize) -> usize {
        let m = self.model;
        let domain = Domain {
            gpu,
            sms: m.sm.count,
            l2_bytes: m.l2.kib << 10,
            l2_bandwidth: u64::from(m.l2.bytes_per_cycle) * u64::from(m.clock.max_mhz) * 1_000_000,
            hbm_bandwidth: bytes_per_second(m.hbm.gb_per_s),
            memory: m.memory_mib << 20,
            copy_engines: m.pcie.copy_engines,
        };
        push(&mut self.topology.domains, domain)
    }

    /// A memory domain that is one GPU instance. SMs, memory and copy engines are its profile's. L2 and both bandwidths
    /// are divided as the memory slices are: NVIDIA's MIG guide lists L2 so (1/8, 2/8, 4/8), and says that memory
    /// controllers and DRAM buses go with it, without figures. Assumed for bandwidth, then; and for the profiles of
    /// double memory, of whose L2 the guide lists an eighth on some parts and two eighths on others.
    pub(super) fn instance(&mut self, gpu: usize, profile: &MigProfile) -> Result<usize, SharingError> {
        let m = self.model;
        let slices = m.mig.as_ref().map_or(1, |mig| mig.memory_slices.max(1));
        let part = |whole: u64| (u128::from(whole) * u128::from(profile.size) / u128::from(slices)) as u64;
        let unknown = |what: &str| {
            SharingError::new(format!(
                "{what} of {} on {} is unknown, so it cannot be simulated; `crosstalk list profiles` shows what is known",
                profile.name, m.id
            ))
        };
        let whole = self.whole(gpu);
        let d = &mut self.topology.domains[whole];
        d.sms = profile.sms.ok_or_else(|| unknown("the number of SMs"))?;
        d.memory = profile.memory_mib.ok_or_else(|| unknown("the memory"))? << 20;
        d.l2_bytes = part(d.l2_bytes);
        d.l2_bandwidth = part(d.l2_bandwidth);
        d.hbm_bandwidth = part(d.hbm_bandwidth);
        // Where no driver output names them: one per compute slice, as on every part where one does.
        d.copy_engines = profile.copy_engines.unwrap_or(profile.slices);
        Ok(whole)
    }

    /// A compute domain with all SMs of a memory domain, or with some of them.
    pub(super) fn compute(&mut self, domain: usize, sms: Option<u32>, policy: Policy) -> usize {
        let sms = sms.unwrap_or(self.topology.domains[domain].sms);
        push(&mut self.topology.computes, Compute { domain, sms, policy })
    }

    /// The context of the next seat.
    pub(super) fn context(&mut self, compute: usize, sms: SmShare, process: usize, memory_limit: Option<u64>) {
        self.topology.contexts.push(Context { compute, sms, process, memory_limit });
    }

    /// SMs of a compute domain.
    pub(super) fn sms(&self, compute: usize) -> u32 {
        self.topology.computes[compute].sms
    }

    pub(super) fn done(self) -> Topology {
        self.topology
    }
}

fn push<T>(parts: &mut Vec<T>, part: T) -> usize {
    parts.push(part);
    parts.len() - 1
}

/// 10⁹ bytes per second as bytes per second.
pub(super) fn bytes_per_second(gb_per_s: f64) -> u64 {
    (gb_per_s * 1e9).round() as u64
}

/// Bytes of a memory domain that are left for allocations: its memory less one context per tenant in it. (Streams and
/// green contexts of one process cost less; the difference is a few hundred MiB of a whole GPU.)
pub fn free_memory(topology: &Topology, domain: usize, model: &GpuModel) -> u64 {
    let inside = topology.contexts.iter().filter(|c| topology.computes[c.compute].domain == domain).count() as u64;
    topology.domains[domain].memory.saturating_sub(inside * (model.driver.context_mib << 20))
}
