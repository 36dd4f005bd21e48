//! `stand-in.toml`: what the machine is, and what goes wrong on it.

use std::path::PathBuf;
use std::sync::OnceLock;

use serde::Deserialize;

/// The environment variable that names the folder of the configuration and of the shared state.
pub(crate) const FOLDER: &str = "CROSSTALK_STAND_IN";

/// The whole file. Every key has a default but `gpu`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Driver version, as NVML prints it.
    #[serde(default = "driver")]
    pub(crate) driver: String,
    /// Newest CUDA version that the driver supports ("12.8").
    #[serde(default = "cuda")]
    pub(crate) cuda: String,
    /// How many times slower than the model everything runs.
    #[serde(default = "one")]
    pub(crate) time_scale: f64,
    /// Newest PTX ISA that the driver compiles.
    #[serde(default = "ptx")]
    pub(crate) ptx_newest: String,
    /// Bytes of one copy whose contents are kept; of what is beyond, only the size is.
    #[serde(default = "kept")]
    pub(crate) contents_kib: u64,
    /// Creating a context, milliseconds of the model. Its model's figure would make every start slow.
    #[serde(default = "create")]
    pub(crate) context_create_ms: f64,
    /// The GPUs, in the order of the PCI bus.
    #[serde(default)]
    pub(crate) gpu: Vec<Gpu>,
    /// The control daemon of MPS.
    #[serde(default)]
    pub(crate) mps: Mps,
    /// nvidia-smi.
    #[serde(default)]
    pub(crate) smi: Smi,
    /// The collective library.
    #[serde(default)]
    pub(crate) nccl: Nccl,
    /// What goes wrong.
    #[serde(default)]
    pub(crate) fault: Fault,
}

fn driver() -> String {
    "570.86.15".to_owned()
}
fn cuda() -> String {
    "12.8".to_owned()
}
fn ptx() -> String {
    "8.7".to_owned()
}
fn one() -> f64 {
    1.0
}
fn kept() -> u64 {
    4096
}
fn create() -> f64 {
    2.0
}
fn yes() -> bool {
    true
}

/// One GPU. What is absent comes from its model, or is what a healthy idle card says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gpu {
    /// Id of its model in `crosstalk list gpus`.
    pub(crate) model: String,
    /// Product name, where it differs from the model's.
    pub(crate) name: Option<String>,
    /// "GPU-…".
    pub(crate) uuid: Option<String>,
    /// MIG is on, with this layout: profiles ("3g.40gb"; "1c.3g.40gb" for compute instances, those of one GPU instance
    /// in a row; "bare 1g.10gb" for a GPU instance without a compute instance), or a name ("all-balanced").
    pub(crate) mig: Option<Mig>,
    /// UUIDs of the MIG devices, in layout order, where they matter ("MIG-…").
    #[serde(default)]
    pub(crate) mig_uuids: Vec<String>,
    /// Nobody may create or destroy instances (NVML_ERROR_NO_PERMISSION).
    #[serde(default)]
    pub(crate) mig_locked: bool,
    /// Compute instances lie where the driver likes, whatever place was asked for.
    #[serde(default)]
    pub(crate) compute_places_ignored: bool,
    /// Level of the time slice until somebody sets one: 0 default, 1 short, 2 medium, 3 long.
    #[serde(default)]
    pub(crate) time_slice: usize,
    /// Nobody may set it.
    #[serde(default)]
    pub(crate) time_slice_locked: bool,
    /// MIG is to be off after the next reset.
    #[serde(default)]
    pub(crate) mig_pending_off: bool,
    /// Device memory.
    pub(crate) memory_mib: Option<u64>,
    /// SMs.
    pub(crate) sms: Option<u32>,
    /// Nothing larger than this is to be had in one piece, however much is free.
    pub(crate) largest_piece_mib: Option<u64>,
    /// Most SMs that the driver puts into one group of a split, whatever was asked: green contexts get fewer.
    pub(crate) green_sms: Option<u32>,
    /// Minor number of its device file, where it is not its index.
    pub(crate) minor: Option<u32>,
    /// Serial number.
    pub(crate) serial: Option<String>,
    /// Processes of others that hold memory.
    #[serde(default)]
    pub(crate) processes: Vec<Foreign>,
    /// NVML refuses to list processes.
    #[serde(default)]
    pub(crate) processes_hidden: bool,
    /// Watts drawn, instead of the model's.
    pub(crate) power_w: Option<f64>,
    /// Degrees Celsius.
    pub(crate) temperature_c: Option<u32>,
    /// SM clock, instead of the model's.
    pub(crate) sm_mhz: Option<u32>,
    /// Memory clock.
    pub(crate) memory_mhz: Option<u32>,
    /// Clock event reasons, a mask, beside what the model says.
    #[serde(default)]
    pub(crate) clock_events: u64,
    /// ECC; absent: the part has none where it is a consumer card, on elsewhere.
    pub(crate) ecc: Option<bool>,
    /// Uncorrected ECC errors since boot.
    #[serde(default)]
    pub(crate) ecc_uncorrected: u64,
    /// Corrected ECC errors since boot.
    #[serde(default)]
    pub(crate) ecc_corrected: u64,
    /// Remapped rows.
    #[serde(default)]
    pub(crate) remapped: Remapped,
    /// Generation of the link now, where it is not the model's.
    pub(crate) pcie_generation: Option<u32>,
    /// Lanes now.
    pub(crate) pcie_width: Option<u32>,
    /// Replays of the link.
    #[serde(default)]
    pub(crate) pcie_replays: u32,
    /// It reaches the memory of other GPUs that say the same.
    #[serde(default = "yes")]
    pub(crate) peer_access: bool,
    /// Whether it has GPM; absent: from compute capability 9.0 on.
    pub(crate) gpm: Option<bool>,
    /// Values of GPM metrics, whatever happens. Others are what the machine does, where it tells, or not supported.
    #[serde(default)]
    pub(crate) gpm_metrics: Vec<GpmMetric>,
    /// What a process left in memory is cleared before another gets it, as a driver does.
    #[serde(default = "yes")]
    pub(crate) scrubs: bool,
    /// All but this.
    pub(crate) unscrubbed: Option<Unscrubbed>,
    /// Persistence mode.
    #[serde(default = "yes")]
    pub(crate) persistence: bool,
    /// Compute mode: 0 default, 2 prohibited, 3 exclusive process.
    #[serde(default)]
    pub(crate) compute_mode: u32,
    /// What a hypervisor made of it.
    #[serde(default)]
    pub(crate) virtualization: Virtualization,
    /// Xid events that happen, milliseconds after the first process came up.
    #[serde(default)]
    pub(crate) xids: Vec<Xid>,
}

/// A piece of memory that is never cleared.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unscrubbed {
    /// Where it begins, in the memory of each GPU instance or of the whole GPU.
    pub(crate) at_mib: u64,
    pub(crate) kib: u64,
}

/// What a hypervisor made of a GPU, by the driver's numbers.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Virtualization {
    #[default]
    None = 0,
    Passthrough = 1,
    Vgpu = 2,
    HostVgpu = 3,
    HostVsga = 4,
}

/// A layout by name or by profiles.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Mig {
    /// "all-balanced", or profiles joined by `+`.
    Name(String),
    /// One entry a device.
    List(Vec<String>),
}

/// A process of somebody else.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Foreign {
    pub(crate) pid: u32,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) memory_mib: u64,
    /// "compute", "graphics" or "mps".
    #[serde(default)]
    pub(crate) kind: Kind,
    /// Index of its MIG device.
    pub(crate) device: Option<usize>,
}

/// What a process does on a GPU.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    #[default]
    Compute,
    Graphics,
    Mps,
}

/// Remapped rows.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Remapped {
    pub(crate) corrected: u32,
    pub(crate) uncorrected: u32,
    pub(crate) pending: bool,
    pub(crate) failure: bool,
}

/// The value of a GPM metric.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GpmMetric {
    /// NVML_GPM_METRIC_*.
    pub(crate) metric: u32,
    /// As NVML gives it: shares in percent.
    pub(crate) value: f64,
    /// Of this GPU instance only.
    pub(crate) gpu_instance: Option<u32>,
}

/// Health that changes while the machine runs: the file `health.toml` beside `stand-in.toml`, read at every call. What is
/// absent is as `stand-in.toml` says. Replace it by renaming, so that nobody reads half of it.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HealthNow {
    pub(crate) ecc_uncorrected: Option<u64>,
    pub(crate) ecc_corrected: Option<u64>,
    pub(crate) remapped: Option<Remapped>,
    pub(crate) pcie_generation: Option<u32>,
    pub(crate) pcie_width: Option<u32>,
    pub(crate) pcie_replays: Option<u32>,
}

impl HealthNow {
    /// What the file in `folder` says; nothing where there is none.
    pub(crate) fn read(folder: &std::path::Path) -> Self {
        let path = folder.join("health.toml");
        let Ok(text) = std::fs::read_to_string(&path) else { return Self::default() };
        toml::from_str(&text).unwrap_or_else(|e| {
            eprintln!("crosstalk stand-in driver: {}: {e}", path.display());
            Self::default()
        })
    }
}

/// An Xid event.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Xid {
    pub(crate) after_ms: u64,
    pub(crate) code: u64,
}

/// The stand-in for nvidia-cuda-mps-control, and what goes wrong with it. Clients are counted from 1, by daemon, in the
/// order in which they ask.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mps {
    /// Clients at most; the next gets 808.
    pub(crate) max_clients: usize,
    /// From this client on, processes run without MPS and are not told, although the daemon lives.
    pub(crate) fall_back_from: Option<u64>,
    /// Clients are refused with this code: 805, 806, 807.
    pub(crate) refuse: Option<u32>,
    /// From this client on.
    pub(crate) refuse_from: u64,
    /// From this client on, nobody gets an answer.
    pub(crate) hang_from: Option<u64>,
    /// The daemon says this and does not start.
    pub(crate) start_error: Option<String>,
    /// The daemon writes this to its log, and no server starts.
    pub(crate) server_error: Option<String>,
    /// NVML lists clients as if they had contexts of their own.
    pub(crate) listed_plain: bool,
    /// The server never comes up.
    pub(crate) server_hang: bool,
    /// The daemon answers no command.
    pub(crate) deaf: bool,
    /// The daemon heeds neither `quit` nor SIGTERM.
    pub(crate) stubborn: bool,
    /// The server lives on when its daemon is killed.
    pub(crate) orphan_server: bool,
    /// The daemon does not know `shutdown_server`.
    pub(crate) no_shutdown: bool,
    /// SMs in a chunk of a static partition; absent: this driver has no static partitions.
    pub(crate) sms_per_chunk: Option<u32>,
    /// Lines of the server's log.
    pub(crate) log: Vec<String>,
}

impl Default for Mps {
    fn default() -> Self {
        Self {
            max_clients: 48,
            fall_back_from: None,
            refuse: None,
            refuse_from: 1,
            hang_from: None,
            start_error: None,
            server_error: None,
            listed_plain: false,
            server_hang: false,
            deaf: false,
            stubborn: false,
            orphan_server: false,
            no_shutdown: false,
            sms_per_chunk: None,
            log: Vec::new(),
        }
    }
}

/// The stand-in for nvidia-smi, and what goes wrong with it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Smi {
    /// It never answers.
    pub(crate) hang: bool,
    /// Whoever has it set a level is killed, before or after it is set.
    pub(crate) kills_caller: Option<Caller>,
    /// It says that it has set a level, and has not.
    pub(crate) ignores: bool,
}

/// When the caller of a program is killed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Caller {
    Before,
    After,
}

/// The stand-in for libnccl.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Nccl {
    /// As ncclGetVersion encodes it.
    pub(crate) version: i32,
    /// It takes several ranks on one GPU, as NCCL has not since 2.5.
    pub(crate) shares_gpu: bool,
}

impl Default for Nccl {
    fn default() -> Self {
        Self { version: 22_105, shares_gpu: false }
    }
}

/// What goes wrong.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Fault {
    /// cuInit returns this: 803, 804, 999, 100.
    pub(crate) cuda_init: Option<u32>,
    /// nvmlInit returns this: 18 (library mismatch), 9 (driver not loaded), 4 (no permission).
    pub(crate) nvml_init: Option<u32>,
    /// Entry points that return a code, known or unknown, from a call on.
    pub(crate) results: Vec<Forced>,
    /// Entry points that sleep.
    pub(crate) hang: Vec<Hang>,
    /// Entry points in which their process is killed.
    pub(crate) exit_at: Vec<ExitAt>,
    /// The device falls off the bus (Xid 79) this many real milliseconds after the first process came up. A file `lost`
    /// beside stand-in.toml does the same at once.
    pub(crate) device_lost_after_ms: Option<u64>,
    /// A word of memory changes by itself.
    pub(crate) flip: Option<Flip>,
    /// Sums of kernels are off by one from this launch of a process on.
    pub(crate) wrong_result_from: Option<u64>,
    /// What a context gets that takes a fault itself, and what the device reports.
    pub(crate) own: Vec<OwnFault>,
    /// What others get of it: the first rule that fits counts.
    pub(crate) blast: Vec<Blast>,
}

/// What becomes of a context that takes a fault. What is absent is as the README says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnFault {
    /// "illegal-address", "misaligned-address", "trap", "assert", "stack-overflow"; "died" (a process that ended while an
    /// endless kernel ran, however), "context-destroyed" (under one).
    pub(crate) fault: String,
    /// Every later call returns this.
    pub(crate) code: Option<u32>,
    /// The Xid that is reported; 0: none.
    pub(crate) xid: Option<u32>,
    /// So long after.
    pub(crate) xid_after_ms: Option<u64>,
}

/// What becomes of other contexts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Blast {
    /// As [`OwnFault::fault`] has it, or "all".
    pub(crate) fault: String,
    pub(crate) among: Among,
    /// Every later call returns this; 0: nothing.
    #[serde(default)]
    pub(crate) code: u32,
    /// Their work never ends.
    #[serde(default)]
    pub(crate) hangs: bool,
    /// The server of MPS takes no new clients (807) until the processes that were reached have ended.
    #[serde(default)]
    pub(crate) refuses: bool,
}

/// How two contexts share a GPU.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Among {
    /// Clients of one server.
    Mps,
    /// By turns on one compute domain.
    TimeSlicing,
    /// Compute instances of one GPU instance.
    ComputeInstances,
    /// GPU instances.
    Mig,
}

/// One bit of a word that is to hold a pattern changes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Flip {
    /// Just before this launch of `pattern_check` of a process, counted from 1.
    pub(crate) before_check: u64,
    /// Where in the range that it checks, bytes.
    pub(crate) offset: u64,
}

/// A result that an entry point returns whatever it is asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Forced {
    pub(crate) symbol: String,
    /// From this call of a process on, counted from 1.
    #[serde(default = "first")]
    pub(crate) from_call: u64,
    /// For this many calls; absent: for ever.
    pub(crate) calls: Option<u64>,
    pub(crate) code: u32,
    /// In this process only.
    pub(crate) pid: Option<u32>,
}

/// An entry point that takes its time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hang {
    pub(crate) symbol: String,
    /// From this call of a process on, counted from 1.
    #[serde(default = "first")]
    pub(crate) from_call: u64,
    pub(crate) ms: u64,
    /// In this process only.
    pub(crate) pid: Option<u32>,
}

/// An entry point in which its process is killed, as if by `kill -9`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExitAt {
    pub(crate) symbol: String,
    /// At this call of a process, counted from 1.
    #[serde(default = "first")]
    pub(crate) call: u64,
    /// Not before the call does what it does, but after.
    #[serde(default)]
    pub(crate) after: bool,
    /// The process that started it is killed first.
    #[serde(default)]
    pub(crate) caller: bool,
}

fn first() -> u64 {
    1
}

/// The configuration and where it lies, read once in a process.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) folder: PathBuf,
    pub(crate) config: Config,
}

/// The configuration, or why there is none, said once on stderr.
pub(crate) fn loaded() -> Option<&'static Loaded> {
    static LOADED: OnceLock<Option<Loaded>> = OnceLock::new();
    LOADED
        .get_or_init(|| match load() {
            Ok(loaded) => Some(loaded),
            Err(why) => {
                eprintln!("crosstalk stand-in driver: {why}");
                None
            }
        })
        .as_ref()
}

fn load() -> Result<Loaded, String> {
    let folder = std::env::var_os(FOLDER)
        .map(PathBuf::from)
        .ok_or_else(|| format!("{FOLDER} is not set; it names the folder with stand-in.toml"))?;
    let path = folder.join("stand-in.toml");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let config: Config = toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    if !(config.time_scale.is_finite() && config.time_scale > 0.0) {
        return Err(format!("{}: time_scale is {}, expected more than 0", path.display(), config.time_scale));
    }
    version(&config.cuda).ok_or_else(|| format!("cuda is {:?}, expected for example \"12.8\"", config.cuda))?;
    version(&config.ptx_newest)
        .ok_or_else(|| format!("ptx_newest is {:?}, expected for example \"7.8\"", config.ptx_newest))?;
    Ok(Loaded { folder, config })
}

/// "12.8" → (12, 8).
pub(crate) fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The CUDA version as the driver encodes it: 12080.
pub(crate) fn cuda_version(config: &Config) -> u32 {
    version(&config.cuda).map_or(0, |(major, minor)| major * 1000 + minor * 10)
}
