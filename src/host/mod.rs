//! This machine, apart from its GPUs.

pub mod lock;
