//! The CPUs that this process is given.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::kernel::{entries, file_name};

/// CPUs, as far as the kernel says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cpu {
    /// CPUs that this process may use.
    pub(crate) allowed: Option<BTreeSet<u32>>,
    /// Of each CPU, the lowest CPU on its core.
    pub(crate) core_of: BTreeMap<u32, u32>,
    /// Of each CPU, its NUMA node.
    pub(crate) node_of: BTreeMap<u32, u32>,
    /// The tightest CPU limit of its control groups, in CPUs; `None`: no limit.
    pub(crate) quota: Option<f64>,
    /// Periods in which that limit stopped it.
    pub(crate) throttled: Option<u64>,
}

impl Cpu {
    pub(crate) fn read(root: &Path) -> Self {
        let status = read(root.join("proc/self/status")).unwrap_or_default();
        let allowed = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).and_then(list);
        let mut core_of = BTreeMap::new();
        for folder in entries(&root.join("sys/devices/system/cpu")) {
            let Some(cpu) = file_name(&folder).strip_prefix("cpu").and_then(|n| n.parse().ok()) else { continue };
            let siblings = read(folder.join("topology/thread_siblings_list")).and_then(|t| list(&t));
            if let Some(first) = siblings.and_then(|s| s.first().copied()) {
                core_of.insert(cpu, first);
            }
        }
        let mut node_of = BTreeMap::new();
        for folder in entries(&root.join("sys/devices/system/node")) {
            let Some(node) = file_name(&folder).strip_prefix("node").and_then(|n| n.parse().ok()) else { continue };
            let cpus = read(folder.join("cpulist")).and_then(|t| list(&t)).unwrap_or_default();
            node_of.extend(cpus.into_iter().map(|cpu| (cpu, node)));
        }
        let (quota, throttled) = limit(root);
        Self { allowed, core_of, node_of, quota, throttled }
    }

    /// Physical cores among the allowed CPUs, on NUMA node `node` where one is given.
    pub(crate) fn cores(&self, node: Option<u32>) -> Option<usize> {
        let on_node = |cpu: &&u32| node.is_none_or(|n| self.node_of.get(*cpu).is_none_or(|m| *m == n));
        let allowed = self.allowed.as_ref()?.iter().filter(on_node);
        // A CPU whose siblings are unknown counts as a core.
        Some(allowed.map(|cpu| self.core_of.get(cpu).unwrap_or(cpu)).collect::<BTreeSet<_>>().len())
    }
}

fn read(path: PathBuf) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// "0-3,8" → 0, 1, 2, 3, 8.
pub(crate) fn list(text: &str) -> Option<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for part in text.trim().split(',').filter(|p| !p.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u32, u32) = (from.parse().ok()?, to.parse().ok()?);
        all.extend(from..=to.min(from.saturating_add(4096)));
    }
    Some(all)
}

/// The tightest limit among the control group of this process and those above it, and how often it was stopped.
fn limit(root: &Path) -> (Option<f64>, Option<u64>) {
    let groups = read(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut quota: Option<f64> = None;
    let mut throttled: Option<u64> = None;
    let base = root.join("sys/fs/cgroup");
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let mounts: Vec<PathBuf> = match controllers {
            "" => vec![base.clone(), base.join("unified")],
            _ if controllers.split(',').any(|c| c == "cpu") => vec![base.join(controllers), base.join("cpu")],
            _ => continue,
        };
        for mount in mounts {
            // In a container the path may be the host's, which is not mounted here: then the top is this group.
            let mut folder = Some(Path::new(path.trim_start_matches('/')));
            while let Some(group) = folder {
                let at = mount.join(group);
                let found = version2(&at).or_else(|| version1(&at));
                if let Some(found) = found {
                    quota = Some(quota.map_or(found, |q| q.min(found)));
                }
                if let Some(n) = periods_throttled(&at) {
                    throttled = Some(throttled.map_or(n, |t| t.max(n)));
                }
                folder = group.parent();
            }
        }
    }
    (quota, throttled)
}

/// "50000 100000" → half a CPU; "max 100000" → no limit.
fn version2(group: &Path) -> Option<f64> {
    let text = read(group.join("cpu.max"))?;
    let (quota, period) = text.trim().split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok().filter(|p| *p > 0.0)?)
}

/// A quota of −1 is no limit.
fn version1(group: &Path) -> Option<f64> {
    let number = |file: &str| read(group.join(file))?.trim().parse::<f64>().ok().filter(|n| *n > 0.0);
    Some(number("cpu.cfs_quota_us")? / number("cpu.cfs_period_us")?)
}

fn periods_throttled(group: &Path) -> Option<u64> {
    read(group.join("cpu.stat"))?.lines().find_map(|l| l.strip_prefix("nr_throttled "))?.trim().parse().ok()
}
