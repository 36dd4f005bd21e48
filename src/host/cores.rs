//! Which cores each tenant's threads get: disjoint physical ones, near the GPU (verdict.md, "Fair arms", 8).

use std::fs::read_to_string;
use std::path::Path;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Cores of the victim: one thread sends, another polls.
const VICTIM: usize = 2;

/// The physical cores that this process may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cores {
    /// In order of their number.
    pub cores: Vec<Core>,
    /// Whole processors' worth of time that the control group grants; `None`: no limit is set, or none can be read.
    pub quota: Option<usize>,
}

/// One physical core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Core {
    /// The first of its logical processors that may be used. The others stay idle.
    pub cpu: u32,
    /// On the GPU's NUMA node.
    pub near: bool,
}

/// Who gets which core. All are disjoint physical cores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Two for the victim; none where there are too few.
    pub victim: Vec<u32>,
    /// One for each neighbour; none where there are too few.
    pub neighbours: Vec<Vec<u32>>,
    /// The controller's.
    pub controller: Option<u32>,
    /// Left to a thread that measures the host alone; the first that is done without.
    pub host_probe: Option<u32>,
    /// Not everybody can have cores of its own: nobody is placed, nobody spins.
    pub too_few: bool,
    /// All lie on the GPU's NUMA node.
    pub near: bool,
}

impl Cores {
    /// Reads them from `sys` (`/sys`): those with a processor among `allowed`, near the GPU at `bus_id` where that is
    /// known.
    pub fn read(sys: &Path, allowed: &[u32], bus_id: Option<&str>) -> Self {
        let near = bus_id.and_then(|id| near_gpu(sys, id));
        let mut cores: Vec<Core> = Vec::new();
        let mut taken: Vec<u32> = Vec::new();
        let mut allowed = allowed.to_vec();
        allowed.sort_unstable();
        for cpu in allowed {
            if taken.contains(&cpu) {
                continue;
            }
            // A machine that says nothing about siblings is taken at its word: none.
            let path = sys.join(format!("devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
            taken.extend(read_list(&path).unwrap_or_else(|| vec![cpu]));
            cores.push(Core { cpu, near: near.as_ref().is_none_or(|near| near.contains(&cpu)) });
        }
        Self { cores, quota: quota(sys) }
    }

    /// Physical cores that no tenant of `placement` has, nor the host's probe: the controller's, and those left over.
    pub fn spare(&self, placement: &Placement) -> Vec<u32> {
        let tenant = |cpu: &u32| placement.victim.contains(cpu) || placement.neighbours.iter().any(|n| n.contains(cpu));
        let taken = |cpu: &u32| tenant(cpu) || placement.host_probe == Some(*cpu);
        self.cores.iter().map(|core| core.cpu).filter(|cpu| !taken(cpu)).collect()
    }

    /// Places the victim, so many `neighbours`, and the controller: on the GPU's node first.
    pub fn place(&self, neighbours: usize) -> Placement {
        self.place_with(neighbours, 1)
    }

    /// Places so many tenants that are all victims, the first of them as the victim and the others as its neighbours.
    pub fn place_equals(&self, tenants: usize) -> Placement {
        self.place_with(tenants.saturating_sub(1), VICTIM)
    }

    /// With so many cores for each neighbour.
    fn place_with(&self, neighbours: usize, each: usize) -> Placement {
        let needed = VICTIM + neighbours * each + 1;
        let usable = self.quota.map_or(self.cores.len(), |quota| quota.min(self.cores.len()));
        if usable < needed {
            let neighbours = vec![Vec::new(); neighbours];
            return Placement { neighbours, too_few: true, ..Placement::default() };
        }
        let mut order = self.cores.clone();
        // Stable: in order of number on either side. Processor 0 last: most machines have their interrupts there.
        order.sort_by_key(|core| (!core.near, core.cpu == 0));
        let near = order.iter().take(needed).all(|core| core.near);
        let mut free = order.into_iter().take(usable).map(|core| core.cpu);
        Placement {
            victim: free.by_ref().take(VICTIM).collect(),
            neighbours: (0..neighbours).map(|_| free.by_ref().take(each).collect()).collect(),
            controller: free.next(),
            host_probe: free.next(),
            too_few: false,
            near,
        }
    }
}

/// Processors that this thread may run on: the container's, and what `taskset` left.
///
/// # Errors
/// Where the kernel does not say.
pub fn allowed() -> std::io::Result<Vec<u32>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).map(|cpu| cpu as u32).collect())
}

/// The calling thread on some processors, for as long as this lives; then back on those that it had.
#[derive(Debug)]
pub struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// Moves the calling thread to `cpus`. Threads that it starts meanwhile inherit that.
    ///
    /// # Errors
    /// Where they are not among those allowed.
    pub fn on(cpus: &[u32]) -> std::io::Result<Self> {
        let before = sched_getaffinity(None)?;
        let mut set = CpuSet::new();
        cpus.iter().filter(|cpu| (**cpu as usize) < CpuSet::MAX_CPU).for_each(|cpu| set.set(*cpu as usize));
        sched_setaffinity(None, &set)?;
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A cpuset that shrank meanwhile: there is nothing better to go back to.
        let _ = sched_setaffinity(None, &self.before);
    }
}

/// Processors on the NUMA node of the PCI device at `bus_id`; `None` where the machine does not say, or has one node.
fn near_gpu(sys: &Path, bus_id: &str) -> Option<Vec<u32>> {
    let device = sys.join("bus/pci/devices").join(sysfs_bus_id(bus_id));
    // −1: the firmware does not say (virtual machines).
    let node: Option<u32> = read_to_string(device.join("numa_node")).ok().and_then(|text| text.trim().parse().ok());
    node.and_then(|node| read_list(&sys.join(format!("devices/system/node/node{node}/cpulist"))))
        .or_else(|| read_list(&device.join("local_cpulist")))
        .filter(|cpus| !cpus.is_empty())
}

/// NVML writes the domain with eight digits, sysfs with four, and small letters.
fn sysfs_bus_id(bus_id: &str) -> String {
    let id = bus_id.to_ascii_lowercase();
    match id.split_once(':') {
        Some((domain, rest)) if domain.len() == 8 && domain.starts_with("0000") => format!("{}:{rest}", &domain[4..]),
        _ => id,
    }
}

/// Whole processors' worth of time of this control group: version 2, else version 1.
fn quota(sys: &Path) -> Option<usize> {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let read = |path: &str| read_to_string(sys.join(path)).ok();
    let (quota, period) = match read("fs/cgroup/cpu.max") {
        Some(text) => {
            let (quota, period) = text.split_once(' ')?;
            (number(quota)?, number(period)?)
        }
        None => (number(&read("fs/cgroup/cpu/cpu.cfs_quota_us")?)?, number(&read("fs/cgroup/cpu/cpu.cfs_period_us")?)?),
    };
    usize::try_from(quota.checked_div(period)?).ok()
}

/// A list as the kernel writes them: "0-3,8,10-11".
fn read_list(path: &Path) -> Option<Vec<u32>> {
    let text = read_to_string(path).ok()?;
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A /sys of `cores` physical cores with two threads each, numbered as Linux does (thread 1 of core c is c + cores),
    /// over two nodes in halves; the GPU is on node 1.
    fn machine(cores: u32) -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        let write = |path: String, text: String| {
            let path = sys.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for cpu in 0..2 * cores {
            let core = cpu % cores;
            let path = format!("devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            write(path, format!("{core},{}\n", core + cores));
        }
        let half = cores / 2;
        let list = |from: u32, to: u32| format!("{from}-{},{}-{}\n", to - 1, from + cores, to + cores - 1);
        write("devices/system/node/node0/cpulist".to_owned(), list(0, half.max(1)));
        write("devices/system/node/node1/cpulist".to_owned(), list(half, cores));
        write("bus/pci/devices/0000:65:00.0/numa_node".to_owned(), "1\n".to_owned());
        write("bus/pci/devices/0000:17:00.0/numa_node".to_owned(), "-1\n".to_owned());
        write("bus/pci/devices/0000:17:00.0/local_cpulist".to_owned(), format!("0-{}\n", 2 * cores - 1));
        sys
    }

    fn all(sys: &tempfile::TempDir, allowed: impl IntoIterator<Item = u32>, bus_id: &str) -> Cores {
        Cores::read(sys.path(), &allowed.into_iter().collect::<Vec<_>>(), Some(bus_id))
    }

    #[test]
    fn everybody_is_on_physical_cores_of_the_gpus_node() {
        let sys = machine(16);
        let placed = all(&sys, 0..32, "00000000:65:00.0").place(2);
        assert_eq!((placed.victim, placed.neighbours), (vec![8, 9], vec![vec![10], vec![11]]));
        assert_eq!((placed.controller, placed.host_probe), (Some(12), Some(13)));
        assert!(placed.near && !placed.too_few);
    }

    #[test]
    fn a_node_that_is_too_small_is_left_before_anybody_shares() {
        let sys = machine(8);
        let placed = all(&sys, 0..16, "0000:65:00.0").place(3);
        assert_eq!((placed.victim, placed.neighbours), (vec![4, 5], vec![vec![6], vec![7], vec![1]]));
        assert_eq!((placed.controller, placed.host_probe), (Some(2), Some(3)));
        assert!(!placed.near);
    }

    #[test]
    fn what_tenants_leave_is_spare() {
        let sys = machine(8);
        let cores = all(&sys, 0..16, "0000:65:00.0");
        let placed = cores.place(1);
        assert_eq!(placed.host_probe, Some(1));
        assert_eq!(cores.spare(&placed), [0, 2, 3, 7], "no sibling of a tenant's core, and the controller's own");
        assert_eq!(placed.controller, Some(7));
    }

    #[test]
    fn siblings_are_never_two_cores() {
        let sys = machine(4);
        // A container that was given both threads of two cores has two cores, not four.
        let cores = all(&sys, [1, 5, 2, 6], "0000:65:00.0");
        assert_eq!(cores.cores.iter().map(|c| c.cpu).collect::<Vec<_>>(), [1, 2]);
        assert!(cores.place(1).too_few);
        // Of a core whose first thread is not allowed, the second is taken.
        assert_eq!(all(&sys, [4, 5, 6, 7], "0000:65:00.0").place(1).victim, [6, 7]);
    }

    #[test]
    fn with_too_few_cores_nobody_is_placed() {
        let sys = machine(4);
        for allowed in [vec![0], vec![0, 1], vec![0, 1, 2]] {
            let placed = all(&sys, allowed, "0000:65:00.0").place(1);
            assert!(placed.too_few && placed.victim.is_empty() && placed.controller.is_none());
            assert_eq!(placed.neighbours, [Vec::<u32>::new()]);
        }
        let four = all(&sys, 0..4, "0000:17:00.0").place(1);
        assert_eq!(four.controller, Some(0), "no tenant is where the interrupts are");
        assert!(!four.too_few && four.controller.is_some() && four.host_probe.is_none());
    }

    #[test]
    fn a_quota_counts_like_cores() {
        let sys = machine(16);
        fs::create_dir_all(sys.path().join("fs/cgroup")).unwrap();
        for (text, quota) in [("max 100000\n", None), ("350000 100000\n", Some(3)), ("800000 100000\n", Some(8))] {
            fs::write(sys.path().join("fs/cgroup/cpu.max"), text).unwrap();
            let cores = all(&sys, 0..32, "0000:65:00.0");
            assert_eq!(cores.quota, quota);
            assert_eq!(cores.place(1).too_few, quota == Some(3));
        }
    }

    #[test]
    fn a_machine_that_says_nothing_has_no_far_cores() {
        let sys = machine(8);
        for bus_id in ["0000:17:00.0", "0000:99:00.0"] {
            assert_eq!(all(&sys, 0..16, bus_id).place(1).victim, [1, 2]);
            assert!(all(&sys, 0..16, bus_id).place(1).near);
        }
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(Cores::read(empty.path(), &[3, 1], None).cores.len(), 2);
    }

    #[test]
    fn pinning_ends_with_its_guard() {
        std::thread::spawn(|| {
            let before = allowed().unwrap();
            let pinned = Pinned::on(&before[..1]).unwrap();
            assert_eq!(allowed().unwrap(), before[..1]);
            drop(pinned);
            assert_eq!(allowed().unwrap(), before);
        })
        .join()
        .unwrap();
    }
}
