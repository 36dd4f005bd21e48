//! What a process of the driver API holds: its devices, contexts, modules, streams and allocations, under one lock.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use crosstalk::gpu::parse_mig_uuid;

use crate::blast;
use crate::config::{self, Loaded};
use crate::entry::Code;
use crate::graphs::Graph;
use crate::heap::Heap;
use crate::launch::Function;
use crate::modules::Module;
use crate::mps::{self, Membership};
use crate::parts;
use crate::results;
use crate::state::Device;
use crate::streams::{Event, Stream};

/// A device as CUDA counts them: a whole GPU, or a MIG device.
#[derive(Clone, Debug)]
pub(crate) struct Visible {
    /// Index of its GPU.
    pub(crate) gpu: usize,
    /// Index of its compute domain on it.
    pub(crate) compute: usize,
    pub(crate) name: String,
    pub(crate) uuid: String,
}

/// A context of this process.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) device: usize,
    pub(crate) gpu: usize,
    /// Its place in the machine.
    pub(crate) slot: usize,
    /// The stream of handle 0.
    pub(crate) stream: u64,
    /// A stream of calls of the host, which queue for the driver's lock.
    pub(crate) host: u64,
    /// SMs of its own, where it is a green context.
    pub(crate) green: Option<u32>,
    /// An error that every later call returns.
    pub(crate) error: Option<Code>,
}

/// Everything that a process has made.
#[derive(Default)]
pub(crate) struct Tables {
    next: u64,
    pub(crate) contexts: BTreeMap<u64, Context>,
    /// Primary contexts by device, and how often they are retained.
    pub(crate) primary: BTreeMap<usize, (u64, u32)>,
    pub(crate) modules: BTreeMap<u64, Module>,
    pub(crate) functions: BTreeMap<u64, Function>,
    pub(crate) streams: BTreeMap<u64, Stream>,
    pub(crate) events: BTreeMap<u64, Event>,
    pub(crate) graphs: BTreeMap<u64, Graph>,
    pub(crate) heap: Heap,
    /// Splits of SMs so far, and the SMs of descriptions of resources.
    pub(crate) splits: u32,
    pub(crate) descriptions: BTreeMap<u64, u32>,
    /// Sums of kernels since the last stamp, by the address of their state.
    pub(crate) sums: BTreeMap<u64, u32>,
    pub(crate) launches: u64,
    /// Launches that held memory to a pattern.
    pub(crate) checks: u64,
    /// Allocations in which a pattern may lie.
    pub(crate) traced: BTreeSet<u64>,
    /// Contexts and those whose memory they reach.
    pub(crate) peers: Vec<(u64, u64)>,
    /// Allocations handed out to other processes so far.
    pub(crate) lent: u64,
    /// The service thread sleeps until then, CLOCK_MONOTONIC; 0 while it works.
    pub(crate) asleep_until: u64,
}

impl Tables {
    /// A handle that nothing had before. It is no address that could be followed.
    pub(crate) fn handle(&mut self) -> u64 {
        self.next += 1;
        self.next << 4
    }

    /// A context fails from now on; with a green one, all that are parts of the same primary context.
    pub(crate) fn lose(&mut self, handle: u64, code: Code) {
        let Some(lost) = self.contexts.get(&handle).cloned() else { return };
        for (other, context) in &mut self.contexts {
            if *other == handle || lost.green.is_some() && context.green.is_some() && context.device == lost.device {
                context.error = Some(code);
            }
        }
    }
}

/// The process.
pub(crate) struct Process {
    pub(crate) loaded: &'static Loaded,
    pub(crate) gpus: Vec<Device>,
    pub(crate) visible: Vec<Visible>,
    /// How it is there.
    pub(crate) member: Membership,
    tables: Mutex<Tables>,
    /// There is something for the service thread.
    pub(crate) work: Condvar,
    /// Something came to an end.
    pub(crate) done: Condvar,
}

static PROCESS: OnceLock<Result<Process, Code>> = OnceLock::new();

/// Initialises the process.
pub(crate) fn init() -> Result<(), Code> {
    let loaded = config::loaded().ok_or(results::NO_DEVICE)?;
    if let Some(code) = loaded.config.fault.cuda_init {
        return Err(Code(code));
    }
    let mut connection = None;
    let process = PROCESS.get_or_init(|| {
        let (member, joined) = mps::join()?;
        connection = joined;
        Process::new(loaded, member).map_err(|why| {
            eprintln!("crosstalk stand-in driver: {why}");
            results::UNKNOWN
        })
    });
    let process = process.as_ref().map_err(|code| *code)?;
    if let Some(connection) = connection {
        mps::heed(process, connection);
    }
    if process.lost() {
        return Err(results::UNKNOWN);
    }
    static SERVICE: OnceLock<()> = OnceLock::new();
    SERVICE.get_or_init(|| {
        let run = || crate::streams::serve(process);
        if let Err(e) = std::thread::Builder::new().name("stand-in".to_owned()).spawn(run) {
            eprintln!("crosstalk stand-in driver: no thread: {e}");
        }
    });
    if process.visible.is_empty() { Err(results::NO_DEVICE) } else { Ok(()) }
}

/// The process, once initialised and while its device is there.
pub(crate) fn process() -> Result<&'static Process, Code> {
    let process = PROCESS.get().ok_or(results::NOT_INITIALIZED)?.as_ref().map_err(|code| *code)?;
    if process.lost() { Err(results::UNKNOWN) } else { Ok(process) }
}

impl Process {
    fn new(loaded: &'static Loaded, member: Membership) -> Result<Self, String> {
        let config = &loaded.config;
        let parts = parts::parts(loaded)?;
        let gpus = parts
            .into_iter()
            .map(|part| Device::open(&loaded.folder, part, config.time_scale))
            .collect::<Result<Vec<_>, _>>()?;
        let wanted = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        let visible = visible(&gpus, wanted.as_deref());
        Ok(Self { loaded, gpus, visible, member, tables: Mutex::default(), work: Condvar::new(), done: Condvar::new() })
    }

    pub(crate) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All contexts fail from now on, and what they had queued never ends. Their places stay theirs until they close.
    pub(crate) fn lose_contexts(&self, code: Code) {
        let mut tables = self.tables();
        let all: Vec<u64> = tables.streams.keys().copied().collect();
        for stream in all {
            self.drop_stream(&mut tables, stream);
        }
        for context in tables.contexts.values_mut() {
            context.error.get_or_insert(code);
        }
        drop(tables);
        self.done.notify_all();
    }

    /// Whether the devices have fallen off the bus.
    pub(crate) fn lost(&self) -> bool {
        crate::lost::lost(self.loaded, &self.gpus)
    }

    /// The device with this ordinal.
    pub(crate) fn device(&self, ordinal: i32) -> Result<&Visible, Code> {
        usize::try_from(ordinal).ok().and_then(|i| self.visible.get(i)).ok_or(results::INVALID_DEVICE)
    }

    /// The shared state of a GPU of this process.
    pub(crate) fn gpu(&self, index: usize) -> Result<&Device, Code> {
        self.gpus.get(index).ok_or(results::INVALID_DEVICE)
    }
}

/// What CUDA_VISIBLE_DEVICES shows: everything before the first entry that names nothing, and of MIG devices one.
fn visible(gpus: &[Device], wanted: Option<&str>) -> Vec<Visible> {
    let whole = |g: usize| -> Option<Visible> {
        let part = &gpus.get(g)?.part;
        match &part.devices {
            None => Some(Visible { gpu: g, compute: 0, name: part.name.clone(), uuid: part.uuid.clone() }),
            // A process that names the parent lands on its first instance.
            Some(_) => part.mig_devices().next().map(|d| instance(gpus, g, d)),
        }
    };
    let mut found: Vec<Visible> = Vec::new();
    match wanted {
        None => found.extend((0..gpus.len()).filter_map(whole)),
        Some(list) => {
            for token in list.split(',').map(str::trim) {
                let named = if parse_mig_uuid(token).is_ok() {
                    let find = |(g, gpu): (usize, &Device)| gpu.part.mig_device(token).map(|d| instance(gpus, g, d));
                    gpus.iter().enumerate().find_map(find)
                } else if token.to_ascii_lowercase().starts_with("gpu-") {
                    let token = token.to_ascii_lowercase();
                    gpus.iter().position(|g| g.part.uuid.to_ascii_lowercase().starts_with(&token)).and_then(whole)
                } else {
                    token.parse().ok().and_then(whole)
                };
                match named {
                    Some(device) => found.push(device),
                    None => break,
                }
            }
        }
    }
    let mig = |v: &Visible| v.uuid.starts_with("MIG-");
    match found.iter().position(mig) {
        Some(first) => found.drain(first..=first).collect(),
        None => found,
    }
}

fn instance(gpus: &[Device], gpu: usize, device: &parts::MigDevice) -> Visible {
    let name = gpus.get(gpu).map_or("", |g| g.part.name.as_str());
    Visible { gpu, compute: device.compute, name: format!("{name} MIG {}", device.profile), uuid: device.uuid.clone() }
}

thread_local! {
    static CURRENT: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// The handle of the calling thread's context, 0 where it has none.
pub(crate) fn current_handle() -> u64 {
    CURRENT.with_borrow(|stack| stack.last().copied().unwrap_or(0))
}

/// Makes a context the calling thread's.
pub(crate) fn set_current(context: u64) {
    CURRENT.with_borrow_mut(|stack| {
        stack.pop();
        if context != 0 {
            stack.push(context);
        }
    });
}

/// Puts a context on top of the calling thread's stack.
pub(crate) fn push_current(context: u64) {
    CURRENT.with_borrow_mut(|stack| stack.push(context));
}

/// Takes the top of the calling thread's stack.
pub(crate) fn pop_current() -> u64 {
    CURRENT.with_borrow_mut(|stack| stack.pop().unwrap_or(0))
}

/// The calling thread's context, alive and without an error.
pub(crate) fn current(tables: &Tables) -> Result<(u64, Context), Code> {
    let handle = current_handle();
    let context = tables.contexts.get(&handle).ok_or(results::INVALID_CONTEXT)?;
    // What another's fault has done shows at once, and not only when the service thread looks.
    let process = PROCESS.get().and_then(|process| process.as_ref().ok());
    let reached = process.and_then(|p| p.gpus.get(context.gpu)).map_or(0, |gpu| gpu.struck(context.slot));
    match (context.error, reached & blast::CODE) {
        (Some(code), _) => Err(code),
        (None, 0) => Ok((handle, context.clone())),
        (None, code) => Err(Code(code)),
    }
}
