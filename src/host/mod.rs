//! This machine: its clock and its threads.

pub mod clock;
pub mod thread;
