//! Cores and CPU limits.

use super::{ok, problem, unknown, warning};
use crate::doctor::kernel::PciGpu;
use crate::doctor::{Facts, Finding};

/// Physical cores of the smallest run: two for a victim, one for a neighbour, one for the controller.
const NEEDED: usize = 2 + 1 + 1;

/// Cores given against cores needed, on the NUMA node of each GPU.
pub(super) fn cores(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "cores";
    const WHY: &str = "victim, neighbour and controller need physical cores of their own on the GPU's NUMA node: a victim that \
        sleeps or shares a core cannot be found isolated (reason: too few cores)";
    const CURE: &str = "give the job more CPUs: resources: { requests: { cpu: \"8\" }, limits: { cpu: \"8\" } } with the static \
        CPU manager, sbatch --cpus-per-task=8 --hint=nomultithread, or taskset on a free node";
    let Some(all) = facts.cpu.cores(None) else {
        return vec![unknown(ID, "the CPUs that this process may use cannot be read", WHY, "mount /proc")];
    };
    let mut nodes: Vec<u32> = facts.kernel.gpus.iter().filter(|g| is_ours(facts, g)).filter_map(|g| g.numa).collect();
    nodes.sort_unstable();
    nodes.dedup();
    if all < NEEDED {
        return vec![warning(
            ID,
            format!("{all} physical core(s) are given, {NEEDED} are needed for two tenants"),
            WHY,
            CURE,
        )];
    }
    let short = nodes.iter().find_map(|n| facts.cpu.cores(Some(*n)).filter(|c| *c < NEEDED).map(|c| (*n, c)));
    if let Some((node, cores)) = short {
        let what =
            format!("{cores} physical core(s) of NUMA node {node}, where a GPU is, are given; {NEEDED} are needed");
        return vec![warning(ID, what, WHY, format!("numactl --cpunodebind={node} --membind={node}, or {CURE}"))];
    }
    vec![ok(ID, format!("{all} physical cores are given, {NEEDED} are needed for two tenants"), WHY)]
}

/// Whether the driver gives us this GPU. A container sees the PCI devices of the whole machine; where the driver does not
/// say which are its own, all count.
fn is_ours(facts: &Facts, gpu: &PciGpu) -> bool {
    let Ok(survey) = &facts.report.nvml else { return true };
    let mut ours = survey.inventory.gpus.iter().map(|g| g.pci.as_deref());
    ours.any(|pci| pci.is_none_or(|pci| pci.eq_ignore_ascii_case(&gpu.address)))
}

/// A CFS limit stops all threads of a group at once, for the rest of a period.
pub(super) fn quota(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "cpu-limit";
    const WHY: &str = "a CFS limit stops the sender for tens of milliseconds: that is measured as latency";
    let throttled = facts.cpu.throttled.filter(|n| *n > 0);
    match facts.cpu.quota {
        None => vec![ok(ID, "no CPU limit", WHY)],
        Some(quota) => {
            let stopped = throttled.map_or(String::new(), |n| format!(", which has stopped this group in {n} periods"));
            let what = format!("the CPU limit is {quota:.2} CPUs{stopped}");
            let cure = "integer CPUs with requests = limits and the static CPU manager (guaranteed QoS), or no limit: \
                resources: { requests: { cpu: \"8\" }, limits: { cpu: \"8\" } }";
            // Whole CPUs, as many as there are threads that spin, are never used up.
            if quota >= NEEDED as f64 && quota.fract() == 0.0 && throttled.is_none() {
                return vec![ok(ID, what, WHY)];
            }
            // Every thread of a run spins: below the cores needed it is stopped in every period.
            if quota < NEEDED as f64 { vec![problem(ID, what, WHY, cure)] } else { vec![warning(ID, what, WHY, cure)] }
        }
    }
}
