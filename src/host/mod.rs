//! This machine, apart from its GPUs: its clock, its cores, its threads, locks, and processes that cannot outlive the run.

pub mod clock;
pub mod compute_cache;
pub mod cores;
pub mod environment;
pub mod lock;
pub(crate) mod pci;
pub mod probe;
pub mod process;
pub(crate) mod program;
pub mod thread;
