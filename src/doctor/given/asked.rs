//! What the environment and the mounts of a container ask for.

use std::path::Path;

use crate::doctor::facts::container;
use crate::doctor::kernel::{entries, file_name};
use crate::gpu::{MigUuid, parse_mig_uuid};

/// Where the device plugin's volume mounts name what was given, one file a device.
pub(super) const MOUNTS: &str = "var/run/nvidia-container-devices";

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// NVIDIA_VISIBLE_DEVICES.
    pub(super) visible: Option<String>,
    /// Names of the mounts that stand for devices.
    pub(super) mounted: Vec<String>,
    /// CUDA_VISIBLE_DEVICES.
    pub(super) cuda: Option<String>,
    /// Whether the MIG devices of others are shown too.
    pub(super) monitor: bool,
    /// "a Kubernetes pod", "a container".
    pub(super) container: Option<&'static str>,
}

/// NVIDIA_VISIBLE_DEVICES, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Not set.
    Unset,
    /// `void`: the runtime does nothing; what is here came another way.
    Void,
    /// `none`: the driver's libraries without a GPU.
    Nothing,
    /// Every GPU of the node.
    All,
    /// A list.
    Devices(Vec<Entry>),
}

/// One entry of a list of devices.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The node's number of a GPU.
    Index(u32),
    /// The node's number of a GPU, and of a MIG device on it.
    MigIndex(u32, u32),
    /// UUID of a GPU, or how it begins, in lower case.
    Gpu(String),
    /// UUID of a MIG device.
    Mig(MigUuid),
    /// Anything else: a name of CDI, a typing mistake.
    Other(String),
}

impl Asked {
    /// Reads the environment by `variable`, and the mounts below `root`.
    pub(crate) fn read(root: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut mounted = Vec::new();
        for path in entries(&root.join(MOUNTS)) {
            match file_name(&path).as_str() {
                // cdi/VENDOR/CLASS/DEVICE.
                "cdi" => mounted.extend(entries(&path).iter().flat_map(|v| entries(v)).flat_map(|c| entries(&c))),
                _ => mounted.push(path),
            }
        }
        Self {
            visible: variable("NVIDIA_VISIBLE_DEVICES").filter(|v| v.split(',').any(|w| !w.trim().is_empty())),
            mounted: mounted.iter().map(|path| file_name(path)).collect(),
            cuda: variable("CUDA_VISIBLE_DEVICES").map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()),
            monitor: variable("NVIDIA_MIG_MONITOR_DEVICES").is_some_and(|v| v == "all"),
            container: container(root, variable),
        }
    }

    pub(super) fn wish(&self) -> Wish {
        let list = |names: &mut dyn Iterator<Item = &str>| Wish::Devices(names.map(entry).collect());
        let Some(value) = self.visible.as_deref().map(str::trim) else {
            return if self.mounted.is_empty() {
                Wish::Unset
            } else {
                list(&mut self.mounted.iter().map(String::as_str))
            };
        };
        let words = || value.split(',').map(str::trim).filter(|w| !w.is_empty());
        if value.trim_matches('/') == MOUNTS {
            list(&mut self.mounted.iter().map(String::as_str))
        } else if words().any(|w| w == "void") {
            Wish::Void
        } else if words().any(|w| w == "all" || w.ends_with("=all")) {
            Wish::All
        } else if words().all(|w| w == "none") {
            Wish::Nothing
        } else {
            list(&mut words())
        }
    }

    /// As in the environment.
    pub(super) fn words(&self) -> String {
        let visible = self.visible.as_ref().map(|v| format!("NVIDIA_VISIBLE_DEVICES={v:?}"));
        let mounted = (!self.mounted.is_empty()).then(|| format!("/{MOUNTS}: {}", self.mounted.join(", ")));
        let cuda = self.cuda.as_ref().map(|v| format!("CUDA_VISIBLE_DEVICES={v:?}"));
        let all: Vec<String> = [visible, mounted, cuda].into_iter().flatten().collect();
        if all.is_empty() { "no variable names a device".to_owned() } else { all.join(", ") }
    }
}

/// An entry of NVIDIA_VISIBLE_DEVICES, or the name of a mount.
fn entry(text: &str) -> Entry {
    // "nvidia.com/gpu=0:1", as CDI names it. There "gpu-0" is the DRA driver's name of a device.
    let (qualified, name) = text.rsplit_once('=').map_or((false, text), |(_, name)| (true, name));
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    if let Ok(uuid) = parse_mig_uuid(name) {
        return Entry::Mig(uuid);
    }
    if let Some(n) = number(name) {
        return Entry::Index(n);
    }
    if let Some((gpu, device)) = name.split_once(':').and_then(|(g, d)| Some((number(g)?, number(d)?))) {
        return Entry::MigIndex(gpu, device);
    }
    match gpu_uuid(name).filter(|_| !qualified || name.starts_with("GPU-")) {
        Some(uuid) => Entry::Gpu(uuid),
        None => Entry::Other(text.to_owned()),
    }
}

/// UUID of a whole GPU, or how one begins, in lower case.
pub(super) fn gpu_uuid(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.strip_prefix("gpu-")?;
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')).then_some(lower)
}
