//! Who is on a GPU.

use std::collections::BTreeMap;

use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError as Raw;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use serde::{Deserialize, Serialize};

use super::{Nvml, NvmlError};
use crate::provenance::Provenance;
use crate::units::Bytes;

/// The inode of the first PID namespace (PROC_PID_INIT_INO in the kernel's include/linux/proc_ns.h).
pub(crate) const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// What watches GPUs and does no work on them. `comm` holds 15 characters.
const MONITORS: &[&str] = &[
    "dcgm-exporter",
    "nv-hostengine",
    "dcgmi",
    "nvidia-smi",
    "gpu-feature-discovery",
    "nvidia-device-plugin",
    "nvidia-persistenced",
];
/// The daemons of MPS.
const MPS: &[&str] = &["nvidia-cuda-mps-server", "nvidia-cuda-mps-control"];

/// What belongs to the driver, or looks after the machine, and keeps a GPU's device node open without working on it.
const DAEMONS: &[&str] = &["nv-fabricmanager", "nvidia-imex", "nvsm_core", "nvidia-powerd"];
/// How often a list that grew while it was read is read again.
const ATTEMPTS: usize = 4;

/// Why nobody knows who is on a GPU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{why}")]
#[serde(deny_unknown_fields)]
pub struct Unknown {
    /// The reason.
    pub why: String,
}

/// The processes of a GPU, or why they are unknown: unknown is occupied.
pub type Processes = Result<Vec<GpuProcess>, Unknown>;

/// A process with a context on a GPU, whatever its instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuProcess {
    /// Process id.
    pub pid: u32,
    /// Name by /proc; `None` where that does not say.
    pub name: Option<String>,
    /// How it is there.
    pub kind: ProcessKind,
    /// Id of the GPU instance where it is, under MIG.
    pub gpu_instance: Option<u32>,
    /// Device memory that it holds; not available under MIG without a privilege.
    pub memory: Option<Bytes>,
}

/// How a process is on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessKind {
    /// With a compute context.
    Compute,
    /// With a graphics context.
    Graphics,
    /// As a client of the MPS server.
    Mps,
}

/// Who a process is to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A tenant of this run.
    Ours,
    /// A known monitor.
    Monitor,
    /// A daemon of MPS that this run did not start.
    Mps,
    /// Anybody else.
    Foreign,
}

/// Who this process is; `ours` are the process ids of this run's tenants.
pub fn classify(process: &GpuProcess, ours: &[u32]) -> Who {
    if ours.contains(&process.pid) {
        return Who::Ours;
    }
    match process.name.as_deref() {
        Some(name) if is_monitor(name) => Who::Monitor,
        Some(name) if is_mps(name) => Who::Mps,
        _ => Who::Foreign,
    }
}

/// Whether a program of this name watches GPUs.
pub(crate) fn is_monitor(name: &str) -> bool {
    is_one_of(name, MONITORS)
}

/// Whether a program of this name is a daemon of MPS.
pub(crate) fn is_mps(name: &str) -> bool {
    is_one_of(name, MPS)
}

/// Whether a program of this name holds GPUs open and does not work on them.
pub(crate) fn is_daemon(name: &str) -> bool {
    is_one_of(name, DAEMONS)
}

/// `comm` is cut after 15 characters; a whole name is told apart from a cut one.
fn is_one_of(name: &str, known: &[&str]) -> bool {
    known.iter().any(|k| *k == name || (name.len() == 15 && k.starts_with(name)))
}

impl std::fmt::Display for GpuProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {}", self.name.as_deref().unwrap_or("a process of unknown name"), self.pid)?;
        if let Some(id) = self.gpu_instance {
            write!(f, ", GPU instance {id}")?;
        }
        if let Some(memory) = self.memory {
            write!(f, ", {}", memory.for_people())?;
        }
        f.write_str(")")
    }
}

impl Nvml {
    /// Who is on the whole GPU `uuid`, in all of its instances. Not in arms.
    ///
    /// # Errors
    /// Where the driver does not list them, or this process cannot see those of other containers.
    pub fn processes(&self, uuid: &str) -> Processes {
        if let Some(why) = self.inner.sys_driver_version().ok().as_deref().and_then(broken_lists) {
            return Err(Unknown { why });
        }
        if self.provenance() == Provenance::Measured
            && let Some(why) = hidden_by(std::fs::read_link("/proc/self/ns/pid").ok().as_deref())
        {
            return Err(Unknown { why });
        }
        let unknown = |call: &str, error| Unknown { why: NvmlError::of(call, error).what };
        let device = self.device(uuid).map_err(|e| Unknown { why: e.what })?;
        let compute =
            device.running_compute_processes().map_err(|e| unknown("nvmlDeviceGetComputeRunningProcesses_v3", e))?;
        let graphics = optional(device.running_graphics_processes())
            .map_err(|e| unknown("nvmlDeviceGetGraphicsRunningProcesses_v3", e))?;
        let mps = optional(patiently(|| device.mps_running_compute_processes()))
            .map_err(|e| unknown("nvmlDeviceGetMPSComputeRunningProcesses_v3", e))?;
        let lists = [(ProcessKind::Compute, compute), (ProcessKind::Graphics, graphics), (ProcessKind::Mps, mps)];
        let by_nvml = |pid| {
            let path = self.inner.sys_process_name(pid, LONGEST_NAME).ok()?;
            path.split([' ', '\0'])
                .next()
                .and_then(|p| p.rsplit('/').next())
                .filter(|n| !n.is_empty())
                .map(str::to_owned)
        };
        Ok(match self.provenance() {
            // Processes that the stand-in makes up are not in /proc, and their numbers may be another's there.
            Provenance::StandIn => merge(&lists, |pid| by_nvml(pid).or_else(|| name_of(pid))),
            _ => merge(&lists, |pid| name_of(pid).or_else(|| by_nvml(pid))),
        })
    }
}

/// Why this driver's process lists cannot be believed, where they cannot: from 535.43 until 535.154 the entries are laid
/// out otherwise than the header says, so that all but the first are garbage (nvitop #79 and #89, go-nvml #75).
pub(crate) fn broken_lists(driver: &str) -> Option<String> {
    let mut numbers = driver.split('.').map(|part| part.parse::<u32>().ok());
    let (major, minor) = (numbers.next()??, numbers.next()??);
    (major == 535 && (43..154).contains(&minor)).then(|| {
        format!("the process lists of driver {driver} are broken; update it to 535.154 or later, or say --gpu-is-mine")
    })
}

/// The wrapper makes room for as many entries as there were a moment before: a list that grew meanwhile is read again.
fn patiently<T>(mut list: impl FnMut() -> Result<T, Raw>) -> Result<T, Raw> {
    let mut answer = list();
    for _ in 1..ATTEMPTS {
        if !matches!(answer, Err(Raw::InsufficientSize(_))) {
            break;
        }
        answer = list();
    }
    answer
}

/// A GPU that has no such processes has none of them.
fn optional(list: Result<Vec<ProcessInfo>, Raw>) -> Result<Vec<ProcessInfo>, Raw> {
    match list {
        Err(Raw::NotSupported) => Ok(Vec::new()),
        other => other,
    }
}

/// Why a process list read here would be short, if it would: `namespace` is what /proc/self/ns/pid links to.
fn hidden_by(namespace: Option<&std::path::Path>) -> Option<String> {
    match namespace.map(|n| n.to_string_lossy()) {
        Some(n) if n == FIRST_PID_NAMESPACE => None,
        Some(_) => Some(
            "this container has a PID namespace of its own: the driver does not list, or misnumbers, processes outside it. \
             Run the pod with `hostPID: true` (docker: --pid=host)"
                .to_owned(),
        ),
        None => Some("/proc/self/ns/pid cannot be read, so nobody knows whose processes the driver lists".to_owned()),
    }
}

/// One entry per process and instance, in order of process id. Of several kinds the last named counts: an MPS client is
/// listed as a compute process too.
fn merge(lists: &[(ProcessKind, Vec<ProcessInfo>)], name_of: impl Fn(u32) -> Option<String>) -> Vec<GpuProcess> {
    let mut all = BTreeMap::new();
    for (kind, list) in lists {
        for p in list {
            let memory = match p.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some(Bytes(bytes)),
                UsedGpuMemory::Unavailable => None,
            };
            let process =
                GpuProcess { pid: p.pid, name: name_of(p.pid), kind: *kind, gpu_instance: p.gpu_instance_id, memory };
            all.insert((p.pid, p.gpu_instance_id), process);
        }
    }
    all.into_values().collect()
}

/// Room for a name in NVML.
const LONGEST_NAME: usize = 256;

/// The name of a process: of its program where it says, which `comm` may cut or a thread may change.
fn name_of(pid: u32) -> Option<String> {
    let text = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    name_from(text("comm").as_deref(), text("cmdline").as_deref())
}

/// The longer of `comm` and the file name of the first word of the command line, where the latter begins with `comm`.
pub(crate) fn name_from(comm: Option<&str>, cmdline: Option<&str>) -> Option<String> {
    let comm = comm.map(str::trim_end).filter(|c| !c.is_empty())?;
    let program = cmdline.and_then(|c| c.split('\0').next()).and_then(|p| p.rsplit('/').next());
    Some(program.filter(|p| comm.len() == 15 && p.starts_with(comm)).unwrap_or(comm).to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn info(pid: u32, gpu_instance_id: Option<u32>) -> ProcessInfo {
        ProcessInfo { pid, used_gpu_memory: UsedGpuMemory::Unavailable, gpu_instance_id, compute_instance_id: None }
    }

    fn process(pid: u32, name: Option<&str>) -> GpuProcess {
        GpuProcess { pid, name: name.map(str::to_owned), kind: ProcessKind::Compute, gpu_instance: None, memory: None }
    }

    #[test]
    fn tenants_monitors_mps_and_the_rest_are_told_apart() {
        for (name, who) in [
            (Some("dcgm-exporter"), Who::Monitor),
            (Some("nv-hostengine"), Who::Monitor),
            // As comm cuts them.
            (Some("gpu-feature-dis"), Who::Monitor),
            (Some("nvidia-cuda-mps"), Who::Mps),
            (Some("nvidia-cuda-mps-server"), Who::Mps),
            (Some("nvidia"), Who::Foreign),
            (Some("python3"), Who::Foreign),
            (None, Who::Foreign),
        ] {
            assert_eq!(classify(&process(7, name), &[8]), who, "{name:?}");
        }
        assert_eq!(classify(&process(8, Some("python3")), &[8]), Who::Ours);
    }

    #[test]
    fn a_process_list_seen_from_a_container_is_unknown() {
        assert_eq!(hidden_by(Some(Path::new("pid:[4026531836]"))), None);
        assert!(hidden_by(Some(Path::new("pid:[4026532001]"))).unwrap().contains("hostPID"));
        assert!(hidden_by(None).is_some());
    }

    #[test]
    fn an_mps_client_is_listed_once_and_a_process_in_two_instances_twice() {
        let lists = [
            (ProcessKind::Compute, vec![info(9, None), info(4, Some(1)), info(4, Some(2))]),
            (ProcessKind::Mps, vec![info(9, None)]),
        ];
        let all = merge(&lists, |_| None);
        assert_eq!(
            all.iter().map(|p| (p.pid, p.gpu_instance)).collect::<Vec<_>>(),
            [(4, Some(1)), (4, Some(2)), (9, None)]
        );
        assert_eq!(all[2].kind, ProcessKind::Mps);
        assert_eq!(all[2].memory, None, "unavailable is not zero");
    }

    #[test]
    fn absent_lists_are_empty_and_unreadable_ones_are_not() {
        assert_eq!(optional(Err(Raw::NotSupported)).unwrap(), []);
        assert!(optional(Err(Raw::NoPermission)).is_err());
    }

    #[test]
    fn lists_of_the_drivers_that_garble_them_are_not_believed() {
        for driver in ["535.43.02", "535.104.05", "535.129.03", "535.153"] {
            assert!(
                broken_lists(driver).is_some_and(|why| why.contains(driver) && why.contains("535.154")),
                "{driver}"
            );
        }
        for driver in ["535.154.05", "535.183.01", "530.30.02", "545.23.06", "550.54.15", "525.85", "", "unknown"] {
            assert_eq!(broken_lists(driver), None, "{driver}");
        }
    }

    #[test]
    fn a_list_that_grew_is_read_again_but_not_for_ever() {
        let growing = |times: usize| {
            let mut calls = 0;
            patiently(|| {
                calls += 1;
                if calls > times { Ok(calls) } else { Err(Raw::InsufficientSize(None)) }
            })
        };
        assert_eq!(growing(2).unwrap(), 3);
        assert!(growing(100).is_err());
        let mut calls = 0;
        let refused: Result<(), Raw> = patiently(|| {
            calls += 1;
            Err(Raw::NoPermission)
        });
        assert!(refused.is_err() && calls == 1);
    }

    #[test]
    fn daemons_of_the_driver_are_known_by_whole_and_cut_names() {
        for name in ["nv-fabricmanager", "nv-fabricmanage", "nvidia-imex", "nvsm_core", "nvidia-powerd"] {
            assert!(is_daemon(name), "{name}");
        }
        assert!(!is_daemon("nvidia") && !is_daemon("python3"));
    }

    #[test]
    fn a_cut_name_is_completed_from_the_command_line() {
        let of = |comm, cmdline| name_from(Some(comm), cmdline).unwrap();
        assert_eq!(of("nvidia-cuda-mps\n", Some("/usr/bin/nvidia-cuda-mps-server\0-f\0")), "nvidia-cuda-mps-server");
        assert_eq!(of("python3\n", Some("/usr/bin/python3.11\0train.py\0")), "python3");
        assert_eq!(name_from(None, Some("x")), None);
    }
}
