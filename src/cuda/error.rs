//! What the driver refused, in words and with the cure.

/// A call of the CUDA driver that failed, or could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {what}")]
pub struct CudaError {
    /// The entry point ("cuInit"), or the library where it could not be loaded.
    pub call: &'static str,
    /// The driver's code, where it gave one.
    pub code: Option<u32>,
    /// The driver's name for it, where it knows one.
    pub name: Option<String>,
    /// What it means, and the cure.
    pub what: String,
}

/// Success.
pub(crate) const SUCCESS: u32 = 0;
/// Out of memory.
pub(crate) const OUT_OF_MEMORY: u32 = 2;
/// Work is still in progress.
pub(crate) const NOT_READY: u32 = 600;

/// The codes with a cure. Everything else is told by its name.
const CURES: &[(u32, &str)] = &[
    (1, "the driver took an argument for invalid: this is a bug in crosstalk, or the driver is older than R520"),
    (2, "the device has not enough free memory: give the program less, or free what other processes hold"),
    (3, "the driver is not initialised in this process"),
    (
        46,
        "the device is taken by another process in an exclusive compute mode, or not ready: `nvidia-smi -q -d COMPUTE`",
    ),
    (
        100,
        "no GPU is visible to this process: check `nvidia-smi -L`, CUDA_VISIBLE_DEVICES and, in a container, its devices",
    ),
    (101, "the device is not there: check CUDA_VISIBLE_DEVICES against `nvidia-smi -L`"),
    (201, "no context is current: this is a bug in crosstalk, or the context was destroyed"),
    (209, "no code for this GPU: its compute capability is below 7.0, or the kernels are built for another part"),
    (
        214,
        "an uncorrectable ECC error: the GPU needs a reset by its operator; see `nvidia-smi -q -d ECC,PAGE_RETIREMENT`",
    ),
    (218, "the driver cannot compile the kernels' PTX: this is a bug in crosstalk"),
    (
        221,
        "the driver's PTX compiler (libnvidia-ptxjitcompiler) is not visible: in a container set \
         NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    ),
    (222, "the PTX is newer than the driver: crosstalk needs driver R520 or later, and R525 for its sm_90a kernels"),
    (700, "a kernel touched memory that is not its own: the context is lost"),
    (702, "a kernel ran longer than the driver's watchdog allows: the context is lost"),
    (719, "a kernel failed: the context is lost; `dmesg | grep -i xid` says why"),
    (800, "the operation is not permitted: check the compute mode and the permissions on /dev/nvidia*"),
    (801, "the driver or the device does not support this"),
    (
        802,
        "the system is not ready: on NVSwitch machines start the fabric manager (`systemctl start nvidia-fabricmanager`)",
    ),
    (
        803,
        "driver and kernel module differ, as after an upgrade: reload the module (`rmmod nvidia`; `modprobe nvidia`) or reboot",
    ),
    (
        804,
        "forward compatibility was asked for on a part without it: remove the cuda-compat libraries from LD_LIBRARY_PATH",
    ),
    (
        805,
        "the MPS server cannot be reached: check that nvidia-cuda-mps-control runs and CUDA_MPS_PIPE_DIRECTORY is the same",
    ),
    (806, "the MPS server does not answer: it died, or was shut down; its server.log says more"),
    (807, "the MPS server is not ready: it is starting, or ending because a client faulted; try again"),
    (
        808,
        "the MPS server has as many clients as it takes (48, and 60 from CUDA 13.1; fewer in a MIG instance): fewer tenants",
    ),
    (809, "the MPS server has as many connections as it takes: fewer tenants, or fewer CUDA_DEVICE_MAX_CONNECTIONS"),
    (810, "this MPS client was terminated through the control daemon: its context is lost"),
    (999, "an unknown error of the driver: see `dmesg | grep -i -e nvrm -e xid`; reload the kernel module or reboot"),
];

impl CudaError {
    /// A code that `call` returned. `name` is what the driver calls it.
    pub(crate) fn returned(call: &'static str, code: u32, name: Option<String>) -> Self {
        let called = match &name {
            Some(name) => format!("CUDA error {code} ({name})"),
            None => format!("CUDA error {code}, which this driver does not name"),
        };
        let what = match CURES.iter().find(|(known, _)| *known == code) {
            Some((_, cure)) => format!("{called}: {cure}"),
            None => called,
        };
        Self { call, code: Some(code), name, what }
    }

    /// Something other than a code.
    pub(crate) fn other(call: &'static str, what: impl Into<String>) -> Self {
        Self { call, code: None, name: None, what: what.into() }
    }

    /// Whether the context is lost with it.
    pub(crate) fn is_sticky(&self) -> bool {
        self.code.is_some_and(is_sticky)
    }
}

/// Whether a context that met this code is lost: every later call fails too.
pub(crate) fn is_sticky(code: u32) -> bool {
    // 4 deinitialised; 46, 100, 101 no device; 201 no context; 214, 220 uncorrectable ECC and NVLink; 700 … 720 faults of
    // kernels, save 701 (a launch with too many resources), 703 … 708 and 711 … 713 (set-up); 802 … 805 the system; 806, 807 and 810 the server of MPS; 999.
    matches!(code, 4 | 46 | 100 | 101 | 201 | 214 | 220 | 700 | 702 | 709 | 710 | 714..=720 | 802..=807 | 810 | 999)
}
