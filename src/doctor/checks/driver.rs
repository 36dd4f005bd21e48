//! The driver: whether it loads, answers and agrees with itself.

use super::{ok, problem, warning};
use crate::doctor::kernel::Kernel;
use crate::doctor::probe::FailureKind;
use crate::doctor::{Facts, Finding, is_missing, trouble};
use crate::provenance::Provenance;

const DRIVER: &str = "without a driver that answers nothing can be measured, and nothing is simulated in its place";

pub(super) fn driver(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "driver";
    let visible = facts.variables.get("CUDA_VISIBLE_DEVICES").map(String::as_str);
    if let (Err(nvml), Err(cuda)) = (&facts.report.nvml, &facts.report.cuda)
        && is_missing(nvml)
        && is_missing(cuda)
        && facts.kernel == (Kernel { wsl: facts.kernel.wsl, nouveau: facts.kernel.nouveau, ..Kernel::default() })
    {
        let cure = "run on a machine with an NVIDIA GPU, or simulate knowingly: --device sim:h100-sxm";
        return vec![problem(ID, "there is no trace of an NVIDIA GPU or driver on this machine", DRIVER, cure)];
    }
    if let Some(trouble) = trouble(&facts.report, &facts.kernel, visible) {
        let mut what = trouble.what;
        // Both libraries may fail, each in its own way.
        if let (Err(nvml), Err(cuda)) = (&facts.report.nvml, &facts.report.cuda)
            && nvml.what != cuda.what
        {
            what = format!("{}; {}", nvml.what, cuda.what);
        }
        return vec![problem(ID, what, DRIVER, trouble.cure)];
    }
    let (Ok(survey), Ok(cuda)) = (&facts.report.nvml, &facts.report.cuda) else { return Vec::new() };
    let version = survey.inventory.driver.as_deref().unwrap_or("of unknown version");
    let stand_in = cuda.stand_in || survey.inventory.provenance == Provenance::StandIn;
    let kind = if stand_in { "the STAND-IN driver (no hardware is involved)" } else { "driver" };
    let count = survey.inventory.gpus.len();
    let mut found = vec![ok(ID, format!("{kind} {version}, CUDA {}, {count} GPU(s)", cuda.version), DRIVER)];
    if cuda.stand_in != (survey.inventory.provenance == Provenance::StandIn) {
        let what = "one of libcuda and libnvidia-ml is the stand-in and the other is not";
        found.push(problem(ID, what, DRIVER, "set LD_LIBRARY_PATH to the stand-in's folder, or to none"));
    }
    found.extend(survey.unreadable.iter().map(|gpu| {
        let cure = "look for NVRM and Xid in `dmesg`; drain the node, then reset the GPU or power-cycle the node";
        warning("gpu-answers", gpu.clone(), "a GPU that does not answer may stall the driver for the others", cure)
    }));
    found
}

pub(super) fn fabric_manager(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "fabric-manager";
    const WHY: &str = "on NVSwitch machines CUDA does not start without it, although nvidia-smi lists the GPUs";
    let runs = facts.programs.iter().any(|p| p.name == "nv-fabricmanager");
    match &facts.report.cuda {
        Err(failure) if failure.kind == FailureKind::Cuda(802) => {
            let state = if runs {
                "runs, and is not ready or of another version"
            } else {
                "does not run, as far as can be seen here"
            };
            let what = format!("CUDA is not ready (802) and the fabric manager {state}");
            vec![problem(ID, what, WHY, "systemctl restart nvidia-fabricmanager; its version must equal the driver's")]
        }
        _ if runs => vec![ok(ID, "the fabric manager runs", WHY)],
        _ => Vec::new(),
    }
}

/// Devices that CUDA sees against GPUs that NVML lists.
pub(super) fn agreement(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "devices-agree";
    const WHY: &str = "a run must know which physical GPU it works on";
    let (Ok(survey), Ok(cuda)) = (&facts.report.nvml, &facts.report.cuda) else { return Vec::new() };
    let gpus = &survey.inventory.gpus;
    let known = |uuid: &str| {
        let is = |full: &str| full.get(4..).is_some_and(|u| u.eq_ignore_ascii_case(uuid));
        gpus.iter().any(|g| is(&g.uuid) || g.instances.iter().any(|i| is(&i.uuid)))
    };
    if cuda.devices.iter().any(|d| known(&d.uuid)) || cuda.devices.is_empty() || gpus.is_empty() {
        return Vec::new();
    }
    let strangers: Vec<&str> = cuda.devices.iter().map(|d| d.uuid.as_str()).collect();
    let cure = match facts.variables.get("CUDA_VISIBLE_DEVICES") {
        Some(value) => {
            format!("CUDA_VISIBLE_DEVICES={value:?} selects them: unset it, or name a UUID of `nvidia-smi -L`")
        }
        None => "pass the same GPUs to both libraries: in a container by NVIDIA_VISIBLE_DEVICES alone".to_owned(),
    };
    vec![problem(ID, format!("CUDA sees {}, which NVML does not list", strangers.join(", ")), WHY, cure)]
}

pub(super) fn wsl(facts: &Facts) -> Vec<Finding> {
    if !facts.kernel.wsl {
        return Vec::new();
    }
    vec![warning(
        "wsl",
        "this is WSL2, where device memory spills to the host instead of running out",
        "capacity and out-of-memory cells mean nothing here, and the display shares the GPU",
        "measure on Linux itself; out-of-memory tests are unsupported here",
    )]
}
