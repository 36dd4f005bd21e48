//! The calling thread: where it may run, and how late its sleeps end.

use std::num::NonZeroU64;

use rustix::thread::{CpuSet, sched_setaffinity, set_current_timer_slack};

/// Keeps the calling thread on one core.
///
/// # Errors
/// Where the core does not exist, or this process may not use it.
pub fn pin(core: u32) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    if core as usize >= CpuSet::MAX_CPU {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, format!("there is no core {core}")));
    }
    set.set(core as usize);
    Ok(sched_setaffinity(None, &set)?)
}

/// Lets the calling thread's sleeps end when asked to (by default the kernel adds up to 50 µs).
///
/// # Errors
/// Where the kernel does not know timer slack.
pub fn sharpen_timers() -> std::io::Result<()> {
    Ok(set_current_timer_slack(NonZeroU64::new(1))?)
}
