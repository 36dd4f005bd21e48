//! Whether the devices have fallen off the bus.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Loaded;
use crate::state::{Device, monotonic};

/// By the configuration's clock, or because somebody has put a file `lost` into the folder.
pub(crate) fn lost(loaded: &Loaded, gpus: &[Device]) -> bool {
    let due = loaded.config.fault.device_lost_after_ms.map(|ms| ms.saturating_mul(1_000_000));
    if let (Some(first), Some(after)) = (gpus.first(), due)
        && monotonic() >= first.epoch().saturating_add(after)
    {
        return true;
    }
    file(&loaded.folder)
}

/// Looked at every few milliseconds.
fn file(folder: &Path) -> bool {
    static LOOKED: Mutex<Option<(Instant, bool)>> = Mutex::new(None);
    let mut looked = LOOKED.lock().unwrap_or_else(PoisonError::into_inner);
    match *looked {
        Some((_, true)) => true,
        Some((at, false)) if at.elapsed() < Duration::from_millis(5) => false,
        _ => {
            let lost = folder.join("lost").exists();
            *looked = Some((Instant::now(), lost));
            lost
        }
    }
}
