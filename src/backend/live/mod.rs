//! Host processes on real GPUs.

pub mod tenant;
