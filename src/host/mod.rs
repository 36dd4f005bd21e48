//! This machine: its clock, its cores, its threads, and processes that cannot outlive the run.

pub mod clock;
pub mod cores;
pub mod process;
pub mod thread;
