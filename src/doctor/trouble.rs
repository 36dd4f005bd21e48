//! A driver that does not work: each way of not working in its own words, with its own cure.

use super::kernel::Kernel;
use super::probe::{DriverReport, FailureKind, ProbeFailure};
use crate::nvml::NvmlErrorKind;

/// The oldest driver branch that runs the committed kernels (PTX ISA 7.8).
const OLDEST: u32 = 520;

/// What is wrong with the driver, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What was seen.
    pub(crate) what: String,
    /// What mends it.
    pub(crate) cure: String,
}

/// What keeps the driver from running CUDA programs, if anything does. `visible` is CUDA_VISIBLE_DEVICES.
pub(crate) fn trouble(report: &DriverReport, kernel: &Kernel, visible: Option<&str>) -> Option<Trouble> {
    let because =
        |failure: &ProbeFailure, cure: &str| Some(Trouble { what: failure.what.clone(), cure: cure.to_owned() });
    match (&report.nvml, &report.cuda) {
        (Err(nvml), Err(cuda)) if is_missing(nvml) && is_missing(cuda) => because(nvml, &no_library(kernel)),
        (Err(nvml), _) => because(nvml, &cure(nvml, kernel, visible)),
        (Ok(_), Err(cuda)) => because(cuda, &cure(cuda, kernel, visible)),
        (Ok(survey), Ok(cuda)) => {
            let driver = survey.inventory.driver.as_deref();
            if let Some(version) = driver.filter(|v| branch(v).is_some_and(|b| b < OLDEST)) {
                return Some(Trouble {
                    what: format!("driver {version} is older than R{OLDEST} and cannot load crosstalk's kernels"),
                    cure: format!("install a driver of branch {OLDEST} or later"),
                });
            }
            if survey.inventory.gpus.is_empty() {
                let said = survey.unreadable.first();
                return Some(Trouble {
                    what: said.map_or_else(|| "the driver lists no GPU".to_owned(), Clone::clone),
                    cure: "look for NVRM and Xid in `dmesg`; power-cycle the node if a GPU has fallen off the bus"
                        .to_owned(),
                });
            }
            cuda.devices
                .is_empty()
                .then(|| Trouble { what: "CUDA sees no device".to_owned(), cure: no_device(visible) })
        }
    }
}

/// "550.54.15" → 550.
pub(crate) fn branch(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

pub(crate) fn is_missing(failure: &ProbeFailure) -> bool {
    matches!(failure.kind, FailureKind::NoLibcuda | FailureKind::Nvml(NvmlErrorKind::NoLibrary))
}

fn no_library(kernel: &Kernel) -> String {
    match &kernel.module {
        Some(version) => format!(
            "the kernel has driver {version}, but its libraries are not visible here. In a container use NVIDIA's runtime \
             (docker: --gpus all; pod: runtimeClassName: nvidia and resources.limits nvidia.com/gpu: 1); on a host install \
             the libraries of that version"
        ),
        None => format!("install NVIDIA's driver, branch {OLDEST} or later; no CUDA toolkit is needed"),
    }
}

fn no_device(visible: Option<&str>) -> String {
    match visible {
        Some(value) => {
            format!("CUDA_VISIBLE_DEVICES={value:?} hides the GPUs: unset it, or set it to a UUID of `nvidia-smi -L`")
        }
        None => {
            "under MIG create a compute instance (`nvidia-smi mig -cci`); in a container pass the GPU in".to_owned()
        }
    }
}

fn cure(failure: &ProbeFailure, kernel: &Kernel, visible: Option<&str>) -> String {
    const RELOAD: &str = "reboot the node, or reload the modules with nothing using them: systemctl stop nvidia-persistenced; \
        rmmod nvidia_drm nvidia_modeset nvidia_uvm nvidia; modprobe nvidia";
    const LOST: &str = "look for NVRM and Xid in `dmesg`; drain the node, then reset the GPU or power-cycle the node";
    let text = match failure.kind {
        FailureKind::NoLibcuda => {
            "libnvidia-ml is here and libcuda is not: in a container set NVIDIA_DRIVER_CAPABILITIES=compute,utility"
        }
        FailureKind::Nvml(NvmlErrorKind::NoLibrary) => {
            "libcuda is here and libnvidia-ml is not: in a container set NVIDIA_DRIVER_CAPABILITIES=compute,utility"
        }
        FailureKind::NoSymbol | FailureKind::Nvml(NvmlErrorKind::NoSymbol) => {
            "install a driver of branch 520 or later; check that LD_LIBRARY_PATH leads to no other library of that name"
        }
        // 803: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH.
        FailureKind::Nvml(NvmlErrorKind::Mismatch) | FailureKind::Cuda(803) => RELOAD,
        FailureKind::Nvml(NvmlErrorKind::NotLoaded) if kernel.nouveau => {
            "nouveau has taken the GPU: blacklist it (echo blacklist nouveau > /etc/modprobe.d/nouveau.conf), reboot"
        }
        FailureKind::Nvml(NvmlErrorKind::NotLoaded) => {
            "modprobe nvidia; if that fails, `dmesg` says why (secure boot, a new kernel without the module: dkms autoinstall)"
        }
        FailureKind::Nvml(NvmlErrorKind::Permission) => return permission(kernel),
        FailureKind::Nvml(NvmlErrorKind::Lost) => LOST,
        FailureKind::Nvml(_) => "look for NVRM in `dmesg`",
        FailureKind::Hung => {
            "look for Xid and NVRM in `dmesg` and for processes in state D (`ps -eo pid,stat,comm`); reboot the node"
        }
        FailureKind::Died => {
            "run `nvidia-smi` and look for NVRM and segfault in `dmesg`; reinstall the driver if they agree"
        }
        // CUDA_ERROR_STUB_LIBRARY.
        FailureKind::Cuda(34) => "this is the toolkit's stub: take its stubs folder off LD_LIBRARY_PATH",
        // CUDA_ERROR_DEVICE_UNAVAILABLE.
        FailureKind::Cuda(46) => {
            "the GPU is in exclusive-process or prohibited mode and taken: `nvidia-smi -q -d COMPUTE`"
        }
        // CUDA_ERROR_NO_DEVICE, CUDA_ERROR_INVALID_DEVICE.
        FailureKind::Cuda(100 | 101) => return no_device(visible),
        // CUDA_ERROR_SYSTEM_NOT_READY.
        FailureKind::Cuda(802) => {
            "on an NVSwitch machine the fabric manager must run, in the driver's own version: systemctl start \
             nvidia-fabricmanager (`nvidia-smi -L` works without it and proves nothing)"
        }
        // CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE.
        FailureKind::Cuda(804) => {
            "a forward-compatibility libcuda (package cuda-compat) is found first and this GPU does not support it: take it \
             off LD_LIBRARY_PATH, or update the driver"
        }
        // CUDA_ERROR_UNKNOWN: most often without nvidia_uvm, or its node.
        FailureKind::Cuda(999) if !kernel.uvm => {
            "nvidia_uvm is not loaded: modprobe nvidia_uvm; nvidia-modprobe -u -c 0"
        }
        FailureKind::Cuda(999) if kernel.closed_node().is_some() => return permission(kernel),
        FailureKind::Cuda(999) => {
            "look for NVRM in `dmesg`; after an upgrade of the driver or a suspend, reboot the node"
        }
        FailureKind::Cuda(_) => "look the code up in NVIDIA's list of CUresult, and for NVRM in `dmesg`",
    };
    text.to_owned()
}

fn permission(kernel: &Kernel) -> String {
    kernel.closed_node().map_or_else(
        || {
            "the container's device rules keep the GPU away: pass it in by NVIDIA's runtime (docker: --gpus all; pod: \
             resources.limits nvidia.com/gpu: 1)"
                .to_owned()
        },
        |node| {
            format!(
                "this user may not open /dev/{node}: chmod 666 it (nvidia-modprobe does), or join the group that may"
            )
        },
    )
}
