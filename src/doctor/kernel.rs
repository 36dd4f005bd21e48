//! What the kernel says of the driver: modules, device nodes, PCI devices.

use std::path::{Path, PathBuf};

/// The driver as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Version of the loaded kernel module.
    pub(crate) module: Option<String>,
    /// Whether nvidia_uvm is loaded, without which CUDA does not start.
    pub(crate) uvm: bool,
    /// Device nodes under /dev.
    pub(crate) nodes: Vec<Node>,
    /// NVIDIA's GPUs on the PCI bus.
    pub(crate) gpus: Vec<PciGpu>,
    /// Whether nouveau has taken the GPUs.
    pub(crate) nouveau: bool,
    /// Windows' subsystem for Linux.
    pub(crate) wsl: bool,
}

/// A device node of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// "nvidia0".
    pub(crate) name: String,
    /// Whether this user can open it.
    pub(crate) usable: bool,
}

/// A GPU on the PCI bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PciGpu {
    /// "0000:41:00.0".
    pub(crate) address: String,
    /// NUMA node; `None`: the machine has one, or does not say.
    pub(crate) numa: Option<u32>,
}

/// PCI vendor of NVIDIA.
const VENDOR: &str = "0x10de";
/// PCI base class of display controllers: VGA 0x0300xx, 3D 0x0302xx.
const DISPLAY: &str = "0x03";

impl Kernel {
    pub(crate) fn read(root: &Path) -> Self {
        let text = |path: &str| std::fs::read_to_string(root.join(path)).ok();
        let modules = text("proc/modules").unwrap_or_default();
        let loaded = |name: &str| {
            modules.lines().any(|l| l.split(' ').next() == Some(name)) || root.join("sys/module").join(name).is_dir()
        };
        let module = text("sys/module/nvidia/version")
            .map(|v| v.trim().to_owned())
            .or_else(|| version_in(&text("proc/driver/nvidia/version")?));
        Self {
            module,
            uvm: loaded("nvidia_uvm"),
            nodes: nodes(root),
            gpus: gpus(root),
            nouveau: loaded("nouveau"),
            wsl: text("proc/version").is_some_and(|v| v.to_lowercase().contains("microsoft")),
        }
    }

    /// The first node that this user cannot open.
    pub(crate) fn closed_node(&self) -> Option<&str> {
        self.nodes.iter().find(|n| !n.usable).map(|n| n.name.as_str())
    }
}

/// Entries of a folder in order of their names; none where it cannot be read.
pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn nodes(root: &Path) -> Vec<Node> {
    let is_node = |name: &str| {
        let rest = name.strip_prefix("nvidia");
        rest.is_some_and(|r| ["ctl", "-uvm"].contains(&r) || (!r.is_empty() && r.bytes().all(|b| b.is_ascii_digit())))
    };
    let paths = entries(&root.join("dev")).into_iter().map(|path| (file_name(&path), path));
    // Asked, not opened: opening a GPU's node without persistence mode would start the GPU.
    let usable =
        |path: &Path| rustix::fs::access(path, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK).is_ok();
    paths.filter(|(name, _)| is_node(name)).map(|(name, path)| Node { usable: usable(&path), name }).collect()
}

fn gpus(root: &Path) -> Vec<PciGpu> {
    let text = |path: PathBuf| std::fs::read_to_string(path).ok().map(|t| t.trim().to_owned());
    entries(&root.join("sys/bus/pci/devices"))
        .into_iter()
        .filter(|d| {
            text(d.join("vendor")).as_deref() == Some(VENDOR)
                && text(d.join("class")).is_none_or(|class| class.starts_with(DISPLAY))
        })
        // −1: the firmware does not say.
        .map(|d| PciGpu { numa: text(d.join("numa_node")).and_then(|n| n.parse().ok()), address: file_name(&d) })
        .collect()
}

/// "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  …" → "550.54.15".
fn version_in(text: &str) -> Option<String> {
    let line = text.lines().find(|l| l.starts_with("NVRM version"))?;
    line.split_whitespace()
        .find(|w| w.contains('.') && w.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
        .map(str::to_owned)
}
