//! Threads of a tenant: each on its own core, with sharp timers.

use super::gpu::failed;
use crate::host::thread::{pin, sharpen_timers};
use crate::tenant::protocol::Failed;

/// Prepares the calling thread to measure, on `core` where it has one of its own.
///
/// # Errors
/// Where the core cannot be had.
pub(super) fn settle(core: Option<u32>) -> Result<(), Failed> {
    if let Some(core) = core {
        pin(core).map_err(|why| failed(format!("this thread cannot have core {core}: {why}")))?;
    }
    sharpen_timers().map_err(|why| failed(format!("sleeps cannot be made precise: {why}")))
}
