//! What the checks look at, gathered in one place: the driver's answers, and the machine by its files and environment.

use std::collections::BTreeMap;
use std::path::Path;

use super::cpu::Cpu;
use super::given::{self, Asked, Given};
use super::kernel::{Kernel, entries, file_name};
use super::probe::DriverReport;
use crate::backend::DcgmReading;
use crate::dcgm::DcgmExporter;
use crate::host::compute_cache::{self, ComputeCache};
use crate::nvml::name_from;

/// Everything that the checks look at.
pub(crate) struct Facts {
    pub(crate) report: DriverReport,
    pub(crate) kernel: Kernel,
    pub(crate) cpu: Cpu,
    /// Processes that can be seen, in order of their ids.
    pub(crate) programs: Vec<Program>,
    /// Processes whose open files this user may not see.
    pub(crate) unreadable: usize,
    /// Variables that decide what a run sees.
    pub(crate) variables: BTreeMap<&'static str, String>,
    /// Files and folders that tell who owns the MIG layout.
    pub(crate) files: Vec<&'static str>,
    /// "a Kubernetes pod", "a Slurm job", "a container".
    pub(crate) container: Option<&'static str>,
    /// GPUs, by UUID, that are the user's alone, as he says.
    pub(crate) gpu_is_mine: Vec<String>,
    /// What was asked for, against what is there; of all GPUs, whichever are examined. Nothing where the driver fails.
    pub(crate) given: Given,
    /// Where the driver keeps compiled kernels.
    pub(crate) cache: ComputeCache,
    /// A DCGM exporter, where one was asked.
    pub(crate) exporter: Option<Exporter>,
}

/// A DCGM exporter that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exporter {
    pub(crate) address: String,
    /// The user named it.
    pub(crate) named: bool,
    /// Profiling metrics are among what it says: DCGM reads them from the GPU all the time.
    pub(crate) profiles: bool,
    /// Of how many of the GPUs it tells, or why it does not answer.
    pub(crate) tells_of: Result<usize, String>,
}

/// A process of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) pid: u32,
    pub(crate) name: String,
    /// Nodes of GPUs that it holds open ("nvidia0"); nvidiactl alone is no GPU.
    pub(crate) holds: Vec<String>,
}

const VARIABLES: &[&str] = &[
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_MIG_MONITOR_DEVICES",
    "CUDA_MPS_PIPE_DIRECTORY",
    "CUDA_DEVICE_ORDER",
    "SLURM_JOB_ID",
    "KUBERNETES_SERVICE_HOST",
];

/// Where the owners of a MIG layout leave traces.
pub(crate) const MIG_PARTED_FILES: &[&str] = &[
    "etc/nvidia-mig-manager",
    "etc/systemd/system/nvidia-mig-manager.service",
    "lib/systemd/system/nvidia-mig-manager.service",
];
pub(crate) const DRA_FILES: &[&str] = &["var/lib/kubelet/plugins/gpu.nvidia.com"];

impl Facts {
    /// Gathers them below `root`; `variable` reads the environment.
    pub(crate) fn gather(root: &Path, variable: &dyn Fn(&str) -> Option<String>, report: DriverReport) -> Self {
        let variables: BTreeMap<&'static str, String> =
            VARIABLES.iter().filter_map(|name| Some((*name, variable(name)?))).collect();
        let (programs, unreadable) = programs(root);
        let files = MIG_PARTED_FILES.iter().chain(DRA_FILES).copied().filter(|f| root.join(f).exists()).collect();
        let given = match (&report.nvml, &report.cuda) {
            (Ok(survey), Ok(cuda)) => given::compare(&Asked::read(root, variable), survey, cuda),
            _ => Given::default(),
        };
        Self {
            report,
            kernel: Kernel::read(root),
            cpu: Cpu::read(root),
            programs,
            unreadable,
            container: container(root, variable),
            given,
            variables,
            files,
            gpu_is_mine: Vec::new(),
            cache: compute_cache::find(root, variable),
            exporter: None,
        }
    }

    /// Asks `exporter` for each GPU of the driver's, until it does not answer.
    pub(super) fn ask(&self, exporter: &DcgmExporter) -> Exporter {
        let gpus = self.report.nvml.iter().flat_map(|survey| &survey.inventory.gpus);
        let answers: Result<Vec<Vec<DcgmReading>>, String> = gpus.map(|gpu| exporter.ask(&gpu.uuid)).collect();
        let profiles =
            |reading: &DcgmReading| reading.values.iter().any(|value| value.name.starts_with("DCGM_FI_PROF_"));
        Exporter {
            address: exporter.address().to_string(),
            named: exporter.is_named(),
            profiles: answers.iter().flatten().flatten().any(profiles),
            tells_of: answers.map(|told| told.iter().filter(|told| !told.is_empty()).count()),
        }
    }
}

/// What kind of container this is, if it is one.
pub(super) fn container(root: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Option<&'static str> {
    if variable("KUBERNETES_SERVICE_HOST").is_some() {
        return Some("a Kubernetes pod");
    }
    let namespace = std::fs::read_link(root.join("proc/self/ns/pid")).ok();
    let own_pids = namespace.is_some_and(|n| n.to_string_lossy() != crate::nvml::FIRST_PID_NAMESPACE);
    let marked = [".dockerenv", "run/.containerenv"].iter().any(|f| root.join(f).exists());
    (marked || own_pids).then_some("a container")
}

/// The processes below /proc, and how many of them keep their files to themselves.
fn programs(root: &Path) -> (Vec<Program>, usize) {
    let mut all = Vec::new();
    let mut unreadable = 0;
    for folder in entries(&root.join("proc")) {
        let Ok(pid) = file_name(&folder).parse() else { continue };
        let text = |file: &str| std::fs::read_to_string(folder.join(file)).ok();
        // A process that ends meanwhile has no name any more.
        let Some(name) = name_from(text("comm").as_deref(), text("cmdline").as_deref()) else { continue };
        let mut holds = Vec::new();
        match std::fs::read_dir(folder.join("fd")) {
            Ok(files) => {
                let targets = files.flatten().filter_map(|f| std::fs::read_link(f.path()).ok());
                holds.extend(targets.filter_map(|t| gpu_node(&t.to_string_lossy())));
                holds.sort();
                holds.dedup();
            }
            Err(_) => unreadable += 1,
        }
        all.push(Program { pid, name, holds });
    }
    all.sort_by_key(|p| p.pid);
    (all, unreadable)
}

/// "/dev/nvidia0" → "nvidia0".
fn gpu_node(target: &str) -> Option<String> {
    let name = target.strip_prefix("/dev/")?;
    let number = name.strip_prefix("nvidia")?;
    (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then(|| name.to_owned())
}
