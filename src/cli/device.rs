//! Which device a run takes, and why.
//!
//! The simulator is taken without being asked for only where no trace of NVIDIA hardware exists and nobody automates
//! the call: a broken driver on a runner must never turn into a green simulated run.

use std::path::{Path, PathBuf};

use wildmatch::WildMatchPattern;

use super::CliError;
use crate::backend::Backend;
use crate::backend::sim::Simulator;
use crate::gpu::{self, GpuModel};

/// The model that `sim` means where nothing names another.
const DEFAULT_MODEL: &str = "h100-sxm";
/// Variables by which a container runtime or a scheduler hands out GPUs.
const GPU_VARIABLES: &[&str] = &["NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"];
/// PCI vendor of NVIDIA.
const VENDOR: &str = "0x10de";

/// Value of an environment variable.
type Variable = dyn Fn(&str) -> Option<String>;

/// What the choice of a device looks at: a file-system root and the environment.
pub struct Host {
    root: PathBuf,
    variable: Box<Variable>,
}

/// A device taken.
pub struct Selected {
    /// The backend that runs it.
    pub backend: Box<dyn Backend>,
    /// Index of the GPU in the backend's inventory.
    pub gpu: usize,
    /// Its model, where known.
    pub model: Option<&'static GpuModel>,
    /// Which device and why, in one line.
    pub line: String,
}

impl Host {
    /// The machine that this process runs on.
    pub fn here() -> Self {
        Self { root: PathBuf::from("/"), variable: Box::new(|name| std::env::var(name).ok()) }
    }

    /// A machine described by a folder in place of `/` and a function in place of the environment.
    pub fn described(root: &Path, variable: impl Fn(&str) -> Option<String> + 'static) -> Self {
        Self { root: root.to_owned(), variable: Box::new(variable) }
    }

    /// The first trace of NVIDIA hardware, in words.
    fn trace(&self) -> Option<String> {
        for name in GPU_VARIABLES {
            if let Some(value) = (self.variable)(name) {
                return Some(format!("{name}={value:?} is set"));
            }
        }
        let entries = |folder: &str| {
            let entries = std::fs::read_dir(self.root.join(folder)).ok();
            let mut paths: Vec<PathBuf> = entries.into_iter().flatten().flatten().map(|e| e.path()).collect();
            paths.sort();
            paths
        };
        let node = entries("dev")
            .into_iter()
            .find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("nvidia")));
        if let Some(node) = node {
            return Some(format!("/dev/{} exists", node.file_name().unwrap_or_default().to_string_lossy()));
        }
        entries("sys/bus/pci/devices").into_iter().find_map(|device| {
            let vendor = std::fs::read_to_string(device.join("vendor")).ok()?;
            (vendor.trim() == VENDOR)
                .then(|| format!("PCI device {} is NVIDIA's", device.file_name().unwrap_or_default().to_string_lossy()))
        })
    }

    /// Somebody automates the call.
    fn in_ci(&self) -> bool {
        (self.variable)("CI").is_some_and(|v| !v.is_empty())
    }
}

/// Takes a device: `flag` beats `pinned`, which the scenario asks for; `wanted` is the scenario's `gpu`.
///
/// # Errors
/// Where the device does not exist, is not the one wanted, or may not be taken without being asked for.
pub fn select(
    flag: Option<&str>,
    pinned: Option<&str>,
    wanted: Option<&str>,
    host: &Host,
) -> Result<Selected, CliError> {
    let (request, why) = match (flag, pinned) {
        (Some(flag), _) => (flag, "--device asks for it"),
        (None, Some(pinned)) => (pinned, "the scenario asks for it"),
        (None, None) => ("auto", ""),
    };
    let selected = match request.split_once(':').unwrap_or((request, "")) {
        ("auto", "") => automatic(wanted, host)?,
        ("sim", model) => simulator(model, wanted, why)?,
        ("cuda" | "all", _) => return Err(no_live_backend(&format!("{request:?} names hardware"))),
        (uuid, _) if uuid.starts_with("GPU-") || uuid.starts_with("MIG-") => {
            return Err(no_live_backend(&format!("{request:?} names hardware")));
        }
        _ => {
            return Err(CliError::Usage(format!(
                "--device {request:?} is none of auto, all, sim, sim:MODEL, sim:MODEL/LAYOUT, cuda, cuda:INDEX or a UUID"
            )));
        }
    };
    if let (Some(pattern), Some(model)) = (wanted, selected.model)
        && !matches(pattern, model)
    {
        return Err(CliError::Environment(format!(
            "the scenario asks for gpu = {pattern:?} and the device is {} ({}): run it there, or change `gpu`",
            model.name, model.id
        )));
    }
    Ok(selected)
}

/// This build measures on the simulator only: it says so wherever hardware is meant, and never falls back.
fn no_live_backend(because: &str) -> CliError {
    CliError::Environment(format!(
        "{because}, and this version has no CUDA backend yet: it can only simulate. \
         To simulate knowingly, ask for it: --device sim:{DEFAULT_MODEL}"
    ))
}

fn automatic(wanted: Option<&str>, host: &Host) -> Result<Selected, CliError> {
    if let Some(trace) = host.trace() {
        return Err(no_live_backend(&format!("this machine has NVIDIA hardware ({trace})")));
    }
    if host.in_ci() {
        return Err(CliError::Environment(format!(
            "no NVIDIA GPU was found and CI is set: a pipeline never falls to the simulator by itself. \
             To simulate knowingly, ask for it: --device sim:{DEFAULT_MODEL}"
        )));
    }
    simulator("", wanted, "no trace of NVIDIA hardware on this machine")
}

fn simulator(request: &str, wanted: Option<&str>, why: &str) -> Result<Selected, CliError> {
    let (id, layout) = request.split_once('/').map_or((request, None), |(id, layout)| (id, Some(layout)));
    let model = if id.is_empty() {
        let fitting = |pattern| gpu::models().iter().find(|m| matches(pattern, m));
        wanted.and_then(fitting).or_else(|| gpu::find_model(DEFAULT_MODEL))
    } else {
        gpu::find_model(id)
    };
    let model = model.ok_or_else(|| {
        let ids: Vec<&str> = gpu::models().iter().map(|m| m.id.as_str()).collect();
        let nearest = gpu::nearest_model(id).map_or(String::new(), |m| format!("did you mean {}? ", m.id));
        CliError::Usage(format!("there is no GPU model {id:?}: {nearest}the models are {}", ids.join(", ")))
    })?;
    let layout = layout
        .map(|text| gpu::parse_layout(model, text))
        .transpose()
        .map_err(|e| CliError::Usage(format!("--device sim:{request}: {e}")))?;
    let simulator = Simulator::new(model, layout.as_deref());
    Ok(Selected {
        backend: Box::new(simulator),
        gpu: 0,
        model: Some(model),
        line: format!("SIMULATED {} ({why})", model.name),
    })
}

/// `gpu` is a case-insensitive glob over the product name without "NVIDIA ", or the model's id.
fn matches(pattern: &str, model: &GpuModel) -> bool {
    let name = model.name.strip_prefix("NVIDIA ").unwrap_or(&model.name);
    pattern == model.id || WildMatchPattern::<'*', '?'>::new_case_insensitive(pattern).matches(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Files = &'static [(&'static str, &'static str)];
    type Variables = &'static [(&'static str, &'static str)];

    fn host(files: Files, variables: Variables) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        let host = Host::described(root.path(), variable);
        (root, host)
    }

    fn refusal(host: &Host) -> String {
        match select(None, None, None, host) {
            Err(CliError::Environment(text)) => text,
            Err(other) => panic!("not exit 3: {other}"),
            Ok(taken) => panic!("took {}", taken.line),
        }
    }

    #[test]
    fn a_bare_machine_simulates_and_says_why() {
        let (_root, host) = host(&[("sys/bus/pci/devices/0000:00:1f.0/vendor", "0x8086\n")], &[]);
        let taken = select(None, None, None, &host).unwrap();
        assert_eq!(taken.line, "SIMULATED NVIDIA H100 80GB HBM3 (no trace of NVIDIA hardware on this machine)");
    }

    #[test]
    fn any_trace_of_hardware_is_never_simulated_by_itself() {
        let traces: [(Files, Variables, &str); 4] = [
            (&[("sys/bus/pci/devices/0000:41:00.0/vendor", "0x10de\n")], &[], "0000:41:00.0"),
            (&[("dev/nvidiactl", "")], &[], "/dev/nvidiactl"),
            (&[], &[("NVIDIA_VISIBLE_DEVICES", "all")], "NVIDIA_VISIBLE_DEVICES"),
            (&[], &[("CUDA_VISIBLE_DEVICES", "")], "CUDA_VISIBLE_DEVICES"),
        ];
        for (files, variables, named) in traces {
            let (_root, host) = host(files, variables);
            let text = refusal(&host);
            assert!(text.contains(named) && text.contains("--device sim"), "{text}");
            assert!(select(Some("sim"), None, None, &host).is_ok(), "asked for, it is taken");
        }
    }

    #[test]
    fn a_pipeline_never_simulates_by_itself() {
        let (_root, host) = host(&[], &[("CI", "true")]);
        assert!(refusal(&host).contains("CI is set"));
        assert!(select(None, Some("sim:h100-sxm"), None, &host).is_ok(), "a scenario that pins it asks for it");
    }

    #[test]
    fn wrong_devices_are_named() {
        let (_root, host) = host(&[], &[]);
        let usage = |flag: &str| match select(Some(flag), None, None, &host) {
            Err(CliError::Usage(text)) => text,
            other => panic!("{:?}", other.err()),
        };
        assert!(usage("sim:h100-sx").contains("did you mean h100-sxm?"));
        assert!(usage("gpu0").contains("none of auto"));
        let elsewhere = select(Some("sim:a30"), None, Some("H100*"), &host).err().unwrap();
        assert_eq!(elsewhere.exit(), super::super::Exit::Environment);
        assert!(select(Some("sim"), None, Some("a100*80gb"), &host).unwrap().line.contains("A100"));
        assert!(select(Some("cuda:0"), None, None, &host).is_err());
    }
}
