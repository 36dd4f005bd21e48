//! Machines described in folders, and what the doctor says of them.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use super::fixture::{self, DEVICES, FIRST, gpu, instance};
use super::probe::{self, FailureKind, ProbeFailure};
use super::*;
use crate::gpu::{Gpu, Virtualization};
use crate::nvml::{GpuProcess, NvmlErrorKind, ProcessKind, Survey, Unknown};

/// A machine under construction.
struct Machine {
    root: tempfile::TempDir,
    variables: BTreeMap<&'static str, &'static str>,
    report: DriverReport,
    gpu_is_mine: Vec<String>,
}

impl Machine {
    fn bare(report: DriverReport) -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { root, variables: BTreeMap::new(), report, gpu_is_mine: Vec::new() }
    }

    /// Eight cores of two threads on one NUMA node, no limits, the driver loaded.
    fn new(report: DriverReport) -> Self {
        let mut machine = Self::bare(report);
        machine.variables.insert("HOME", "/home/user");
        machine.file("proc/self/status", "Name:\tcrosstalk\nCpus_allowed_list:\t0-15\n");
        for cpu in 0..16 {
            let siblings = format!("{},{}\n", cpu % 8, cpu % 8 + 8);
            machine.file(&format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"), &siblings);
        }
        machine.file("sys/devices/system/node/node0/cpulist", "0-15\n");
        machine.file("proc/modules", "nvidia_uvm 1 0 - Live 0x0\nnvidia 1 1 nvidia_uvm, Live 0x0\n");
        machine.file("sys/module/nvidia/version", "550.54.15\n");
        machine.file("home/user/.bashrc", "");
        machine
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn program(&self, pid: u32, name: &str, holds: &[&str]) {
        self.file(&format!("proc/{pid}/comm"), &format!("{}\n", &name[..name.len().min(15)]));
        self.file(&format!("proc/{pid}/cmdline"), &format!("/usr/bin/{name}\0"));
        std::fs::create_dir_all(self.root.path().join(format!("proc/{pid}/fd"))).unwrap();
        for (n, node) in holds.iter().enumerate() {
            self.link(&format!("proc/{pid}/fd/{n}"), node);
        }
    }

    fn survey(&mut self) -> &mut Survey {
        self.report.nvml.as_mut().unwrap()
    }

    fn examine(&self) -> Examination {
        let variable = |name: &str| self.variables.get(name).map(|v| (*v).to_owned());
        examine(self.root.path(), &variable, self.report.clone(), None, &self.gpu_is_mine, None)
    }

    /// The finding of this id that is not Ok, or the one that is.
    #[track_caller]
    fn finding(&self, id: &str) -> Finding {
        let findings = self.examine().findings;
        let found = findings.iter().filter(|f| f.id == id).max_by_key(|f| f.severity);
        found.unwrap_or_else(|| panic!("no {id} among {findings:#?}")).clone()
    }

    #[track_caller]
    fn says(&self, id: &str, severity: Severity, words: &[&str]) {
        let found = self.finding(id);
        assert_eq!(found.severity, severity, "{found:?}");
        let text = format!("{} {}", found.what, found.cure.unwrap_or_default());
        words.iter().for_each(|w| assert!(text.contains(w), "{w:?} not in: {text}"));
    }

    fn is_silent_on(&self, id: &str) {
        let found = self.examine().findings.into_iter().find(|f| f.id == id && f.severity != Severity::Ok);
        assert_eq!(found, None);
    }
}

fn healthy() -> Machine {
    Machine::new(fixture::driver(vec![gpu(FIRST)]))
}

fn failing(nvml: Option<NvmlErrorKind>, cuda: Option<u32>) -> Machine {
    let mut machine = healthy();
    if let Some(kind) = nvml {
        machine.report.nvml =
            Err(ProbeFailure { what: "nvmlInit_v2 failed".to_owned(), kind: FailureKind::Nvml(kind) });
    }
    if let Some(code) = cuda {
        machine.report.cuda =
            Err(ProbeFailure { what: format!("cuInit: CUDA error {code}"), kind: FailureKind::Cuda(code) });
    }
    machine
}

#[test]
fn a_machine_in_order_has_no_fault() {
    for report in [fixture::driver(vec![gpu(FIRST)]), fixture::mig()] {
        let examination = Machine::new(report).examine();
        let faults: Vec<_> = examination.findings.iter().filter(|f| f.severity != Severity::Ok).collect();
        assert!(faults.is_empty() && examination.trustworthy(), "{faults:#?}");
        assert!(examination.findings.iter().all(|f| f.cure.is_none()), "what is in order needs no cure");
    }
}

#[test]
fn each_broken_driver_has_its_own_cure() {
    use NvmlErrorKind as N;
    let cases = [
        (Some(N::Mismatch), None, "reload the modules"),
        (Some(N::NotLoaded), Some(999), "modprobe nvidia"),
        (Some(N::Permission), None, "--gpus all"),
        (Some(N::NoLibrary), None, "NVIDIA_DRIVER_CAPABILITIES"),
        (Some(N::NoSymbol), None, "520"),
        (Some(N::Lost), None, "power-cycle"),
        (None, Some(803), "reload the modules"),
        (None, Some(804), "cuda-compat"),
        (None, Some(802), "fabricmanager"),
        (None, Some(999), "dmesg"),
        (None, Some(34), "stub"),
        (None, Some(100), "compute instance"),
        (None, Some(987_654), "CUresult"),
    ];
    let mut cures = Vec::new();
    for (nvml, cuda, words) in cases {
        let machine = failing(nvml, cuda);
        machine.says("driver", Severity::Problem, &[words]);
        assert!(!machine.examine().trustworthy());
        cures.push(machine.finding("driver").cure);
    }
    cures.sort();
    cures.dedup();
    // Both words for one mismatch, and nothing else alike.
    assert_eq!(cures.len(), cases.len() - 1);
}

#[test]
fn the_cure_depends_on_what_the_kernel_says() {
    let uvm = failing(None, Some(999));
    uvm.file("proc/modules", "nvidia 1 0 - Live 0x0\n");
    uvm.says("driver", Severity::Problem, &["modprobe nvidia_uvm"]);
    let nouveau = failing(Some(NvmlErrorKind::NotLoaded), Some(100));
    nouveau.file("proc/modules", "nouveau 1 0 - Live 0x0\n");
    nouveau.says("driver", Severity::Problem, &["blacklist nouveau"]);
    let mut hidden = failing(None, Some(100));
    hidden.variables.insert("CUDA_VISIBLE_DEVICES", "-1");
    hidden.says("driver", Severity::Problem, &["CUDA_VISIBLE_DEVICES=\"-1\" hides"]);
}

#[test]
fn no_hardware_and_hardware_without_libraries_are_not_the_same() {
    let bare = Machine::bare(probe::no_driver());
    bare.says("driver", Severity::Problem, &["no trace", "--device sim"]);
    let container = Machine::new(probe::no_driver());
    container.says("driver", Severity::Problem, &["the kernel has driver 550.54.15", "--gpus all"]);
}

#[test]
fn a_driver_that_hangs_or_is_too_old_is_a_problem() {
    let mut hung = healthy();
    hung.report.cuda = Err(ProbeFailure { what: "cuInit hangs".to_owned(), kind: FailureKind::Hung });
    hung.says("driver", Severity::Problem, &["cuInit hangs", "reboot"]);
    let mut old = healthy();
    old.survey().inventory.driver = Some("515.105.01".to_owned());
    old.says("driver", Severity::Problem, &["515.105.01", "520"]);
}

#[test]
fn a_gpu_that_does_not_answer_does_not_hide_the_others() {
    let mut machine = healthy();
    machine.survey().unreadable.push("GPU 1 of the driver: fell off the bus".to_owned());
    machine.says("gpu-answers", Severity::Warning, &["GPU 1"]);
    assert!(machine.examine().trustworthy());
}

#[test]
fn the_stand_in_is_named_and_half_a_stand_in_is_refused() {
    let mut machine = healthy();
    machine.report.cuda.as_mut().unwrap().stand_in = true;
    machine.says("driver", Severity::Problem, &["stand-in"]);
    machine.survey().inventory.provenance = crate::provenance::Provenance::StandIn;
    machine.says("driver", Severity::Ok, &["STAND-IN"]);
}

#[test]
fn cuda_and_nvml_must_see_the_same_gpus() {
    let mut machine = healthy();
    machine.report.cuda.as_mut().unwrap().devices[0].uuid = fixture::SECOND.to_owned();
    machine.says("devices-agree", Severity::Problem, &[fixture::SECOND]);
}

#[test]
fn states_of_mig_are_told_apart() {
    let with = |instances| Machine::new(fixture::driver(vec![Gpu { mig: Some(true), instances, ..gpu(FIRST) }]));
    let mut empty = with(Vec::new());
    empty.report.cuda.as_mut().unwrap().devices = fixture::driver(vec![gpu(FIRST)]).cuda.unwrap().devices;
    empty.says("mig-without-instances", Severity::Problem, &["-cgi"]);
    let bare = with(vec![instance(0), crate::gpu::Instance { uuid: String::new(), ..instance(1) }]);
    bare.says("mig-without-compute-instance", Severity::Problem, &["-gi 2 -cci"]);
    let twins = with(vec![instance(0), crate::gpu::Instance { gpu_instance: Some(1), ..instance(1) }]);
    twins.says("mig-compute-instances", Severity::Warning, &["mig-compute-instances"]);
    let hidden = with(vec![crate::gpu::Instance { start: None, ..instance(0) }]);
    hidden.says("mig-placements", Severity::Unknown, &["NVIDIA_MIG_MONITOR_DEVICES"]);
    let mut mixed = fixture::mig();
    let second = fixture::driver(vec![gpu(FIRST), gpu(fixture::SECOND)]).nvml.unwrap();
    let survey = mixed.nvml.as_mut().unwrap();
    survey.inventory.gpus.extend(second.inventory.gpus.into_iter().skip(1));
    Machine::new(mixed).says("mig-beside-plain", Severity::Warning, &["1 of 2"]);
    let pending = Machine::new(fixture::driver(vec![Gpu { mig_pending: Some(true), ..gpu(FIRST) }]));
    pending.says("mig-pending", Severity::Warning, &["off and will be on"]);
}

#[test]
fn ordinals_under_mig_are_refused_with_the_uuids_to_use() {
    let mut machine = Machine::new(fixture::mig());
    machine.variables.insert("CUDA_VISIBLE_DEVICES", "0,1");
    machine.says("mig-ordinals", Severity::Problem, &[DEVICES[0], DEVICES[1]]);
    machine.variables.insert("CUDA_VISIBLE_DEVICES", "MIG-aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa");
    machine.is_silent_on("mig-ordinals");
    let mut plain = healthy();
    plain.variables.insert("CUDA_VISIBLE_DEVICES", "0");
    plain.is_silent_on("mig-ordinals");
}

#[test]
fn what_was_given_is_said_and_contradictions_are_problems() {
    let mut machine = Machine::new(fixture::two());
    machine.is_silent_on("given");
    machine.variables.insert("NVIDIA_VISIBLE_DEVICES", "all");
    machine.says("given", Severity::Ok, &["NVIDIA_VISIBLE_DEVICES=\"all\"", FIRST, fixture::SECOND]);
    machine.variables.insert("NVIDIA_VISIBLE_DEVICES", "GPU-11111111-1111-1111-1111-111111111111");
    machine.says("given", Severity::Problem, &["was not asked for", fixture::SECOND]);
    // Whichever GPUs are examined: what was given is the matter of all of them.
    let variable = |name: &str| machine.variables.get(name).map(|v| (*v).to_owned());
    let one = examine(machine.root.path(), &variable, fixture::two(), Some(&[0]), &[], None);
    assert!(one.findings.iter().any(|f| f.id == "given" && f.severity == Severity::Problem), "{one:#?}");

    let with = |uuid, n| Gpu { mig: Some(true), instances: vec![instance(n)], ..gpu(uuid) };
    let mut parents = Machine::new(fixture::driver(vec![with(FIRST, 0), with(fixture::SECOND, 1)]));
    parents.variables.insert("NVIDIA_VISIBLE_DEVICES", "void");
    parents.says("given-note", Severity::Ok, &["CDI"]);
    parents.says("given-parents", Severity::Warning, &["2 GPUs", "matchAttribute: gpu.nvidia.com/parentUUID"]);
}

#[test]
fn virtual_gpus_are_named_and_not_judged() {
    let of = |virtualization| Machine::new(fixture::driver(vec![Gpu { virtualization, ..gpu(FIRST) }]));
    for (virtualization, words) in [
        (Virtualization::Passthrough, "passed through to a virtual machine"),
        (Virtualization::Vgpu, "a vGPU in a virtual machine"),
        (Virtualization::MigVgpu, "a MIG-backed vGPU"),
        (Virtualization::HostVgpu, "the card of a vGPU host"),
    ] {
        of(Some(virtualization)).says("virtual-gpu", Severity::Unknown, &[words, FIRST, "recognised, not judged"]);
    }
    of(Some(Virtualization::Bare)).is_silent_on("virtual-gpu");
    of(None).is_silent_on("virtual-gpu");
}

#[test]
fn the_owner_of_the_layout_is_named_with_its_own_way() {
    let mig = || Machine::new(fixture::mig());
    mig().is_silent_on("layout-owner");
    let manager = mig();
    manager.program(40, "nvidia-mig-manager", &[]);
    manager.says("layout-owner", Severity::Warning, &["MIG manager", "nvidia.com/mig.config"]);
    let parted = mig();
    parted.file("etc/systemd/system/nvidia-mig-manager.service", "");
    parted.says("layout-owner", Severity::Warning, &["nvidia-mig-parted"]);
    let dra = mig();
    dra.file("var/lib/kubelet/plugins/gpu.nvidia.com/x", "");
    dra.says("layout-owner", Severity::Warning, &["DRA", "ResourceClaim"]);
    let slurm = mig();
    slurm.program(41, "slurmd", &[]);
    slurm.says("layout-owner", Severity::Warning, &["scontrol"]);
    let plugin = mig();
    plugin.program(42, "nvidia-device-plugin", &[]);
    plugin.says("layout-owner", Severity::Warning, &["cordon"]);
    let plain = healthy();
    plain.program(41, "slurmd", &[]);
    plain.program(42, "nvidia-device-plugin", &[]);
    plain.is_silent_on("layout-owner");
    let pending = Machine::new(fixture::driver(vec![Gpu { mig_pending: Some(true), ..gpu(FIRST) }]));
    pending.program(41, "slurmd", &[]);
    pending.says("layout-owner", Severity::Warning, &["scontrol"]);
}

#[test]
fn foreign_work_is_a_problem_and_monitors_are_not() {
    let process = |pid, name: &str| GpuProcess {
        pid,
        name: Some(name.to_owned()),
        kind: ProcessKind::Compute,
        gpu_instance: None,
        memory: None,
    };
    let mut machine = healthy();
    machine.survey().processes[0] = Ok(vec![process(7, "dcgm-exporter")]);
    machine.says("exclusive-use", Severity::Ok, &["dcgm-exporter"]);
    machine.survey().processes[0] = Ok(vec![process(7, "dcgm-exporter"), process(8, "python3")]);
    machine.says("exclusive-use", Severity::Problem, &["python3 (pid 8)", "--gpu-is-mine"]);
}

#[test]
fn unseen_processes_are_a_problem_with_the_manifest_line() {
    let mut machine = healthy();
    machine.survey().processes[0] = Err(Unknown { why: "a PID namespace of its own".to_owned() });
    machine.variables.insert("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    machine.says("exclusive-use", Severity::Problem, &["hostPID: true", "--gpu-is-mine"]);
    machine.variables.clear();
    machine.link("proc/self/ns/pid", "pid:[4026532001]");
    machine.says("exclusive-use", Severity::Problem, &["--pid=host"]);
    // The user's word makes a run possible, and proves nothing.
    machine.gpu_is_mine.push(format!("GPU-{FIRST}"));
    machine.says("exclusive-use", Severity::Unknown, &["a PID namespace of its own"]);
    assert!(machine.examine().trustworthy());
    machine.gpu_is_mine = vec![format!("GPU-{}", fixture::SECOND)];
    machine.says("exclusive-use", Severity::Problem, &["--pid=host"]);
}

#[test]
fn holders_of_device_nodes_that_nvml_does_not_list_are_seen() {
    let machine = healthy();
    machine.program(50, "Xorg", &["/dev/nvidia0", "/dev/nvidiactl"]);
    machine.program(51, "nvidia-persistenced", &["/dev/nvidia0"]);
    machine.program(53, "nv-fabricmanager", &["/dev/nvidia0"]);
    machine.program(52, "bash", &["/dev/null", "/dev/nvidiactl"]);
    machine.says("device-holders", Severity::Warning, &["Xorg (pid 50: nvidia0)"]);
    let found = machine.finding("device-holders").what;
    assert!(!found.contains("bash") && !found.contains("persistenced"), "{found}");
    assert!(!found.contains("fabricmanager"), "{found}");
}

#[test]
fn a_driver_that_garbles_its_process_lists_has_its_own_cure() {
    let mut machine = healthy();
    let driver = "535.104.05";
    machine.survey().inventory.driver = Some(driver.to_owned());
    machine.survey().processes[0] = Err(Unknown { why: crate::nvml::broken_lists(driver).unwrap() });
    machine.variables.insert("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    machine.says("exclusive-use", Severity::Problem, &[driver, "update the driver to 535.154", "--gpu-is-mine GPU-"]);
    assert!(!machine.finding("exclusive-use").cure.unwrap().contains("hostPID"));
}

#[test]
fn profiling_and_hidden_instances_are_warned_of() {
    let dcgm = healthy();
    dcgm.program(60, "nv-hostengine", &[]);
    dcgm.says("dcgm-profiling", Severity::Warning, &["dcgmi profile --pause"]);
    let mut pod = Machine::new(fixture::mig());
    pod.variables.insert("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    pod.says("mig-monitor-devices", Severity::Warning, &["NVIDIA_MIG_MONITOR_DEVICES"]);
    pod.variables.insert("NVIDIA_MIG_MONITOR_DEVICES", "all");
    pod.is_silent_on("mig-monitor-devices");
}

#[test]
fn health_and_settings_of_the_gpu() {
    type Change = fn(&mut Survey);
    let cases: [(Change, &str, Severity, &str); 8] = [
        (|s| s.health[0].persistence = Some(false), "persistence-mode", Severity::Warning, "-pm 1"),
        (|s| s.health[0].remapped.as_mut().unwrap().pending = true, "remapped-rows", Severity::Warning, "--gpu-reset"),
        (
            |s| s.health[0].remapped.as_mut().unwrap().failed = true,
            "remapped-rows",
            Severity::Problem,
            "replace the card",
        ),
        (|s| s.health[0].ecc.as_mut().unwrap().uncorrected = 3, "ecc", Severity::Problem, "3 uncorrected"),
        (|s| s.now[0].throttle = Some(0x4 | 0x1), "clocks", Severity::Warning, "power cap"),
        (|s| s.now[0].throttle = Some(0x40), "clocks", Severity::Warning, "heat"),
        (
            |s| s.health[0].compute_mode = Some("ExclusiveProcess".to_owned()),
            "compute-mode",
            Severity::Problem,
            "-c DEFAULT",
        ),
        (|s| s.health[0].pcie.as_mut().unwrap().width = 8, "pcie-width", Severity::Warning, "8 of 16"),
    ];
    for (change, id, severity, words) in cases {
        let mut machine = healthy();
        change(machine.survey());
        machine.says(id, severity, &[words]);
    }
}

#[test]
fn an_unknown_reading_is_no_finding() {
    let mut machine = healthy();
    machine.survey().health[0] = crate::backend::GpuHealth::default();
    machine.survey().now[0].throttle = None;
    for id in ["persistence-mode", "ecc", "clocks", "compute-mode", "pcie-width"] {
        assert!(machine.examine().findings.iter().all(|f| f.id != id), "{id}");
    }
}

#[test]
fn cores_are_counted_without_siblings_and_on_the_gpus_node() {
    healthy().says("cores", Severity::Ok, &["8 physical cores"]);
    let siblings = healthy();
    siblings.file("proc/self/status", "Cpus_allowed_list:\t0-2,8-10\n");
    siblings.says("cores", Severity::Warning, &["3 physical core(s)"]);
    let far = healthy();
    far.file("sys/devices/system/node/node0/cpulist", "0-5,8-13\n");
    far.file("sys/devices/system/node/node1/cpulist", "6-7,14-15\n");
    far.file("sys/bus/pci/devices/0000:41:00.0/vendor", "0x10de\n");
    far.file("sys/bus/pci/devices/0000:41:00.0/class", "0x030200\n");
    far.file("sys/bus/pci/devices/0000:41:00.0/numa_node", "1\n");
    far.says("cores", Severity::Warning, &["2 physical core(s) of NUMA node 1", "numactl"]);
    // The GPU of another container: sysfs shows the buses of the whole machine.
    let mut others = far;
    others.survey().inventory.gpus[0].pci = Some("0000:17:00.0".to_owned());
    others.says("cores", Severity::Ok, &["8 physical cores"]);
    others.survey().inventory.gpus[0].pci = Some("0000:41:00.0".to_owned());
    others.says("cores", Severity::Warning, &["NUMA node 1"]);
    let unseen = healthy();
    std::fs::remove_file(unseen.root.path().join("proc/self/status")).unwrap();
    unseen.says("cores", Severity::Unknown, &[]);
}

#[test]
fn cpu_limits_of_both_control_group_versions() {
    healthy().says("cpu-limit", Severity::Ok, &["no CPU limit"]);
    let v2 = healthy();
    v2.file("proc/self/cgroup", "0::/kubepods/pod1\n");
    v2.file("sys/fs/cgroup/kubepods/pod1/cpu.max", "max 100000\n");
    v2.says("cpu-limit", Severity::Ok, &["no CPU limit"]);
    // The limit of a group above counts as well.
    v2.file("sys/fs/cgroup/kubepods/cpu.max", "250000 100000\n");
    v2.file("sys/fs/cgroup/kubepods/pod1/cpu.stat", "usage_usec 5\nnr_throttled 12\n");
    v2.says("cpu-limit", Severity::Problem, &["2.50 CPUs", "12 periods", "limits"]);
    let v1 = healthy();
    v1.file("proc/self/cgroup", "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n");
    // In a container the host's path is not there, and the top is this group.
    v1.file("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "650000\n");
    v1.file("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    v1.says("cpu-limit", Severity::Warning, &["6.50 CPUs"]);
    v1.file("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "800000\n");
    v1.says("cpu-limit", Severity::Ok, &["8.00 CPUs"]);
    v1.file("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    v1.says("cpu-limit", Severity::Ok, &["no CPU limit"]);
}

#[test]
fn a_place_for_compiled_kernels_is_found_or_missed() {
    let mut machine = healthy();
    machine.says("compute-cache", Severity::Ok, &["home/user/.nv/ComputeCache"]);
    machine.variables.insert("CUDA_CACHE_DISABLE", "1");
    machine.says("compute-cache", Severity::Warning, &["unset CUDA_CACHE_DISABLE"]);
    machine.variables = BTreeMap::new();
    machine.says("compute-cache", Severity::Warning, &["CUDA_CACHE_PATH", "emptyDir"]);
    machine.file("tmp/x", "");
    machine.says("compute-cache", Severity::Ok, &["tenants keep compiled kernels in", "tmp/crosstalk-compute-cache-"]);
}

#[test]
fn a_dcgm_exporter_is_told_of_and_missed_only_where_the_user_named_one() {
    let machine = healthy();
    let finding = |named: bool, tells_of: Result<usize, &str>| {
        let mut facts = Facts::gather(machine.root.path(), &|_| None, machine.report.clone());
        let (address, tells_of) = ("127.0.0.1:9400".to_owned(), tells_of.map_err(str::to_owned));
        facts.exporter = Some(facts::Exporter { address, named, profiles: tells_of == Ok(1), tells_of });
        let all: Vec<Finding> = checks::ALL.iter().flat_map(|check| check(&facts)).collect();
        let paused =
            |f: &&Finding| f.id == "dcgm-profiling" && f.cure.as_ref().unwrap().contains("dcgmi profile --pause");
        // No process of DCGM's is seen here.
        assert_eq!(all.iter().any(|f| paused(&f)), facts.exporter.unwrap().profiles);
        let found = all.into_iter().find(|f| f.id == "dcgm-exporter").unwrap();
        (found.severity, found.what)
    };
    let (ok, warning) = (Severity::Ok, Severity::Warning);
    assert_eq!(
        finding(false, Ok(1)),
        (ok, "a DCGM exporter answers at 127.0.0.1:9400: it tells of 1 of 1 GPU(s)".to_owned())
    );
    assert!(finding(false, Err("refused")).1.contains("none is needed"));
    assert_eq!(finding(true, Err("refused")), (warning, "refused".to_owned()));
    assert_eq!(finding(true, Ok(0)).0, warning);
}

#[test]
fn wsl_is_warned_of() {
    let machine = healthy();
    machine.file("proc/version", "Linux version 5.15.153.1-microsoft-standard-WSL2\n");
    machine.says("wsl", Severity::Warning, &["spills"]);
}

#[test]
fn only_the_gpus_asked_for_are_judged() {
    let mut machine = Machine::new(fixture::two());
    machine.survey().health[1].persistence = Some(false);
    let persistent = |gpus: &[usize]| {
        let all = examine(machine.root.path(), &|_| None, machine.report.clone(), Some(gpus), &[], None).findings;
        all.into_iter().filter(|f| f.id == "persistence-mode").map(|f| f.severity).collect::<Vec<_>>()
    };
    assert_eq!(persistent(&[0]), [Severity::Ok]);
    assert_eq!(persistent(&[1]), [Severity::Warning]);
}
