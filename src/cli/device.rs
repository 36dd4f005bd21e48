//! Which device a run takes, and why.
//!
//! The simulator is taken without being asked for only where no trace of NVIDIA hardware exists and nobody automates
//! the call: a broken driver on a runner must never turn into a green simulated run.

use std::path::{Path, PathBuf};

use wildmatch::WildMatchPattern;

use super::CliError;
use crate::backend::Backend;
use crate::backend::sim::Simulator;
use crate::doctor::probe::{self, CudaSurvey, DriverReport};
use crate::doctor::{Kernel, given, is_missing, trouble};
use crate::gpu::{self, Gpu, GpuModel, Inventory, parse_mig_uuid};
use crate::provenance::Provenance;

/// The model that `sim` means where nothing names another.
const DEFAULT_MODEL: &str = "h100-sxm";
/// Variables by which a container runtime or a scheduler hands out GPUs.
const GPU_VARIABLES: &[&str] = &["NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"];
/// PCI vendor of NVIDIA.
const VENDOR: &str = "0x10de";

/// Value of an environment variable.
type Variable = dyn Fn(&str) -> Option<String>;

/// What the choice of a device looks at: a file-system root, the environment and the driver.
pub struct Host {
    root: PathBuf,
    variable: Box<Variable>,
    probe: Box<dyn Fn() -> DriverReport>,
}

/// A device taken. Nothing runs on it yet.
pub struct Selected {
    /// The machine as found.
    pub inventory: Inventory,
    /// Index of the GPU in the inventory.
    pub gpu: usize,
    /// UUID of the MIG device that was asked for: the victim's. The arrangement takes all devices of its GPU.
    pub victim_on: Option<String>,
    /// Its model, where known.
    pub model: Option<&'static GpuModel>,
    /// Which device and why, in one line.
    pub line: String,
    pub(super) backend: Taken,
}

/// What runs it.
pub(super) enum Taken {
    Simulator(Simulator),
    Live,
}

impl Selected {
    /// Where its numbers come from.
    pub fn provenance(&self) -> Provenance {
        self.inventory.provenance
    }
}

impl Host {
    /// The machine that this process runs on.
    pub fn here() -> Self {
        Self {
            root: PathBuf::from("/"),
            variable: Box::new(|name| std::env::var(name).ok()),
            probe: Box::new(probe::probe),
        }
    }

    /// A machine without a driver, described by a folder in place of `/` and a function in place of the environment.
    pub fn described(root: &Path, variable: impl Fn(&str) -> Option<String> + 'static) -> Self {
        Self { root: root.to_owned(), variable: Box::new(variable), probe: Box::new(probe::no_driver) }
    }

    /// The same machine with a driver that says this.
    #[must_use]
    pub fn with_driver(self, report: DriverReport) -> Self {
        Self { probe: Box::new(move || report.clone()), ..self }
    }

    /// The folder in place of `/`.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The value of an environment variable.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name)
    }

    /// What a container runtime or a scheduler was asked for.
    fn asked(&self) -> given::Asked {
        given::Asked::read(&self.root, &*self.variable)
    }

    /// What the driver says; it is asked from a child with a deadline.
    pub(super) fn driver(&self) -> DriverReport {
        (self.probe)()
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
        ("cuda" | "all", _) => hardware(request, wanted, why, host)?,
        (uuid, _) if is_uuid(uuid) => hardware(request, wanted, why, host)?,
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

/// One GPU of a driver that answers; `instance`: with the victim on this MIG device of it.
fn live(driver: &Driver, gpu: usize, instance: Option<usize>, why: &str) -> Result<Selected, CliError> {
    let found = &driver.inventory.gpus[gpu];
    let victim_on = instance.map(|i| found.instances[i].uuid.clone());
    let victim = victim_on.as_ref().map_or(String::new(), |uuid| format!("; the victim on {uuid}"));
    let driver_version = driver.inventory.driver.as_deref().map_or(String::new(), |v| format!(", driver {v}"));
    let virtualized = found.virtualization.and_then(|v| v.words()).map_or(String::new(), |words| format!(", {words}"));
    let how = match driver.inventory.provenance {
        Provenance::Measured => "measuring on",
        Provenance::StandIn => "STAND-IN for",
        Provenance::Simulated => "SIMULATED",
    };
    Ok(Selected {
        gpu,
        model: found.model.as_deref().and_then(gpu::find_model),
        line: format!("{how} {} ({}{driver_version}{virtualized}; {why}{victim})", found.name, found.uuid),
        inventory: driver.inventory.clone(),
        victim_on,
        backend: Taken::Live,
    })
}

fn knowingly() -> String {
    format!("To simulate knowingly, ask for it: --device sim:{DEFAULT_MODEL}")
}

/// A driver that answers.
#[derive(Debug)]
pub(super) struct Driver {
    /// The machine as found; measured, or of the stand-in.
    pub(super) inventory: Inventory,
    /// What a CUDA program sees here.
    pub(super) cuda: CudaSurvey,
}

/// What NVIDIA hardware there is.
#[derive(Debug)]
pub(super) enum Detected {
    /// Its driver answers.
    Driver(Driver),
    /// It is there, and cannot be used.
    Broken {
        /// What was seen.
        why: String,
        /// What mends it.
        cure: String,
    },
    /// No trace of any.
    None,
}

/// Looks for NVIDIA hardware. Nothing but a machine with no trace of any is `None`.
pub(super) fn detect(host: &Host) -> Detected {
    detect_in(host, host.driver())
}

/// The same, with what the driver has said.
pub(super) fn detect_in(host: &Host, report: DriverReport) -> Detected {
    let trace = host.trace();
    if let (Err(nvml), Err(cuda), None) = (&report.nvml, &report.cuda, &trace)
        && is_missing(nvml)
        && is_missing(cuda)
    {
        return Detected::None;
    }
    let visible = host.variable("CUDA_VISIBLE_DEVICES");
    if let Some(trouble) = trouble(&report, &Kernel::read(host.root()), visible.as_deref()) {
        let trace = trace.map(|t| format!(" ({t})")).unwrap_or_default();
        return Detected::Broken {
            why: format!("this machine has NVIDIA hardware{trace}, and its driver does not work: {}", trouble.what),
            cure: trouble.cure,
        };
    }
    match (report.nvml, report.cuda) {
        (Ok(survey), Ok(cuda)) => {
            if let Some(contradiction) = given::compare(&host.asked(), &survey, &cuda).contradictions.into_iter().next()
            {
                return Detected::Broken { why: contradiction.what, cure: contradiction.cure };
            }
            let mut inventory = survey.inventory;
            if cuda.stand_in {
                inventory.provenance = Provenance::StandIn;
            }
            Detected::Driver(Driver { inventory, cuda })
        }
        // Whatever fails is trouble.
        (nvml, _) => Detected::Broken {
            why: nvml.err().map_or_else(|| "the driver does not answer".to_owned(), |e| e.what),
            cure: "run `crosstalk doctor`".to_owned(),
        },
    }
}

fn broken(why: &str, cure: &str) -> CliError {
    CliError::Environment(format!("{why}. What mends it: {cure}. {}", knowingly()))
}

/// Whether a request begins as the UUID of a GPU or a MIG device does.
fn is_uuid(request: &str) -> bool {
    let lower = request.to_lowercase();
    lower.starts_with("gpu-") || lower.starts_with("mig-")
}

/// Takes the hardware that the request names.
fn hardware(request: &str, wanted: Option<&str>, why: &str, host: &Host) -> Result<Selected, CliError> {
    match detect(host) {
        Detected::Driver(driver) => {
            let (gpu, instance) = choose(&driver, request, wanted)?;
            if let Some(withheld) = given::withheld(&host.asked(), &driver.inventory, &driver.cuda, gpu, instance) {
                return Err(broken(&withheld.what, &withheld.cure));
            }
            live(&driver, gpu, instance, why)
        }
        Detected::Broken { why, cure } => Err(broken(&why, &cure)),
        Detected::None => Err(CliError::Environment(format!(
            "--device {request:?} names hardware, and there is no trace of an NVIDIA GPU or driver on this machine. {}",
            knowingly()
        ))),
    }
}

/// The GPUs of `--device all` by their UUIDs, in CUDA's order: those that CUDA sees and that the scenario wants, where
/// there are several; else whatever is there is for [`select`] to judge.
///
/// # Errors
/// Where the scenario wants none of them.
pub(super) fn several(wanted: Option<&str>, host: &Host) -> Result<Vec<String>, CliError> {
    let Detected::Driver(driver) = detect(host) else { return Ok(Vec::new()) };
    let gpus = &driver.inventory.gpus;
    let seen = driver.cuda.devices.iter().filter_map(|d| owner(gpus, &d.uuid));
    // Of a GPU in MIG mode CUDA sees instances.
    let mut known: Vec<usize> = Vec::new();
    for gpu in seen {
        if !known.contains(&gpu) {
            known.push(gpu);
        }
    }
    if known.len() < 2 {
        return Ok(Vec::new());
    }
    let fits = |gpu: &&usize| wanted.is_none_or(|p| named(p, &gpus[**gpu].name, gpus[**gpu].model.as_deref()));
    let fitting: Vec<String> = known.iter().filter(fits).map(|gpu| gpus[*gpu].uuid.clone()).collect();
    if fitting.is_empty() {
        return Err(CliError::Environment(format!(
            "the scenario asks for gpu = {:?}, and there are {}: run it elsewhere, or change `gpu`",
            wanted.unwrap_or_default(),
            list(gpus)
        )));
    }
    Ok(fitting)
}

/// The GPU that a request names, and the MIG instance where it names one.
pub(super) fn choose(driver: &Driver, request: &str, wanted: Option<&str>) -> Result<(usize, Option<usize>), CliError> {
    let gpus = &driver.inventory.gpus;
    let fits = |gpu: &Gpu| wanted.is_none_or(|pattern| named(pattern, &gpu.name, gpu.model.as_deref()));
    let none_such = |what: &str| CliError::Usage(format!("{what}; there are {}", list(gpus)));
    let chosen = match request.split_once(':').unwrap_or((request, "")) {
        ("auto" | "cuda", "") => {
            // In CUDA's order: what a scheduler hands out comes first, and what it hides is not taken.
            let seen = driver.cuda.devices.iter().filter_map(|d| owner(gpus, &d.uuid));
            let (mut fitting, mut any) = (None, None);
            for gpu in seen {
                any = any.or(Some(gpu));
                fitting = fitting.or_else(|| fits(&gpus[gpu]).then_some(gpu));
            }
            let gpu = fitting.or(any).ok_or_else(|| {
                CliError::Environment(format!(
                    "CUDA sees {} and NVML {}: they do not agree on any GPU. `crosstalk doctor` says more",
                    driver.cuda.devices.iter().map(|d| d.uuid.as_str()).collect::<Vec<_>>().join(", "),
                    list(gpus)
                ))
            })?;
            (gpu, None)
        }
        ("cuda", index) => (ordinal(driver, index)?, None),
        ("all", "") => match gpus.as_slice() {
            [_] => (0, None),
            _ => {
                return Err(CliError::Usage(format!(
                    "--device all: only a new run takes several GPUs, one after another, and there are {}: choose one by its \
                     UUID",
                    list(gpus)
                )));
            }
        },
        _ if request.to_lowercase().starts_with("gpu-") => {
            let gpu = gpus.iter().position(|g| g.uuid.eq_ignore_ascii_case(request.trim()));
            (gpu.ok_or_else(|| none_such(&format!("there is no GPU {request:?}")))?, None)
        }
        _ => {
            let uuid = parse_mig_uuid(request).map_err(|e| CliError::Usage(format!("--device: {e}")))?;
            let found = gpus.iter().enumerate().find_map(|(g, gpu)| Some((g, gpu.instance(&uuid)?)));
            let (gpu, instance) = found.ok_or_else(|| none_such(&format!("there is no MIG device {uuid}")))?;
            (gpu, Some(instance))
        }
    };
    let gpu = &gpus[chosen.0];
    if !fits(gpu) {
        return Err(CliError::Environment(format!(
            "the scenario asks for gpu = {:?} and the device is {} ({}): run it there, or change `gpu`",
            wanted.unwrap_or_default(),
            gpu.name,
            gpu.uuid
        )));
    }
    Ok(chosen)
}

/// The GPU whose own UUID, or whose instance's, this is (without its prefix).
fn owner(gpus: &[Gpu], uuid: &str) -> Option<usize> {
    let is = |full: &str, prefix: &str| full.strip_prefix(prefix).is_some_and(|u| u.eq_ignore_ascii_case(uuid));
    gpus.iter().position(|g| is(&g.uuid, "GPU-") || g.instances.iter().any(|i| is(&i.uuid, "MIG-")))
}

/// The GPU at CUDA's index, which is ambiguous as soon as MIG is on anywhere.
fn ordinal(driver: &Driver, index: &str) -> Result<usize, CliError> {
    let gpus = &driver.inventory.gpus;
    let n: usize = index
        .parse()
        .map_err(|_| CliError::Usage(format!("--device cuda:{index}: {index:?} is no index, such as cuda:0")))?;
    if gpus.iter().any(|g| g.mig == Some(true)) {
        return Err(CliError::Usage(format!(
            "--device cuda:{index} is ambiguous where MIG is on: name the device by its UUID: {}",
            list(gpus)
        )));
    }
    let device = driver.cuda.devices.get(n).ok_or_else(|| {
        CliError::Usage(format!(
            "--device cuda:{index}: CUDA sees {} device(s) here, counted from 0",
            driver.cuda.devices.len()
        ))
    })?;
    owner(gpus, &device.uuid).ok_or_else(|| {
        CliError::Environment(format!(
            "CUDA's device {n} ({}) is unknown to NVML; it lists {}",
            device.uuid,
            list(gpus)
        ))
    })
}

/// Every GPU and every MIG device with its UUID.
fn list(gpus: &[Gpu]) -> String {
    let instance = |i: &gpu::Instance| match i.uuid.is_empty() {
        true => format!("{} without a compute instance", i.profile),
        false => format!("{} {}", i.profile, i.uuid),
    };
    let one = |g: &Gpu| {
        let instances: Vec<String> = g.instances.iter().map(instance).collect();
        let instances = if instances.is_empty() { String::new() } else { format!(" [{}]", instances.join(", ")) };
        format!("{} {}{instances}", g.name, g.uuid)
    };
    if gpus.is_empty() { "none".to_owned() } else { gpus.iter().map(one).collect::<Vec<_>>().join(", ") }
}

fn automatic(wanted: Option<&str>, host: &Host) -> Result<Selected, CliError> {
    match detect(host) {
        Detected::Driver(driver) => {
            let (gpu, instance) = choose(&driver, "auto", wanted)?;
            return live(&driver, gpu, instance, "the driver answers");
        }
        Detected::Broken { why, cure } => return Err(broken(&why, &cure)),
        Detected::None => {}
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
        inventory: simulator.inventory()?,
        backend: Taken::Simulator(simulator),
        gpu: 0,
        victim_on: None,
        model: Some(model),
        line: format!("SIMULATED {} ({why})", model.name),
    })
}

/// `gpu` is a case-insensitive glob over the product name without "NVIDIA ", or the model's id.
fn matches(pattern: &str, model: &GpuModel) -> bool {
    named(pattern, &model.name, Some(&model.id))
}

fn named(pattern: &str, product: &str, model: Option<&str>) -> bool {
    let name = product.strip_prefix("NVIDIA ").unwrap_or(product);
    Some(pattern) == model || WildMatchPattern::<'*', '?'>::new_case_insensitive(pattern).matches(name)
}

#[cfg(test)]
mod tests;
