//! What live tests share.

pub(crate) mod driver;
pub(crate) mod held;
pub(crate) mod run;
pub(crate) mod stand_in;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One test at a time: they measure.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
