//! What a child of the run says on its standard error before it ends.

use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::process::ChildStderr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::host::clock::now;
use crate::units::Nanos;

/// Bytes kept of what a child wrote to its stderr.
const KEPT: usize = 4096;
/// Name of the threads that read it.
pub(super) const STDERR: &str = "stderr";
/// A child that closed its output is about to end: this long is waited to learn how.
pub(super) const LAST_BREATH: Nanos = Nanos::millis(500);

/// Its last words behind what became of it.
pub(super) fn told(errors: &str) -> String {
    if errors.is_empty() { String::new() } else { format!("; it said last: {errors}") }
}

/// The end of what a child wrote to its stderr, read by a thread so that the pipe never fills.
pub(super) struct Stderr {
    kept: Arc<Mutex<VecDeque<u8>>>,
    thread: JoinHandle<()>,
}

impl Stderr {
    /// Keeps the end of what comes through `pipe`.
    pub(super) fn keep(mut pipe: ChildStderr) -> io::Result<Self> {
        let kept = Arc::new(Mutex::new(VecDeque::with_capacity(2 * KEPT)));
        let shared = Arc::clone(&kept);
        let thread = std::thread::Builder::new().name(STDERR.to_owned()).spawn(move || {
            let mut chunk = [0; KEPT];
            // Ends with the pipe: when the last process that holds it has ended.
            while let Ok(length @ 1..) = pipe.read(&mut chunk) {
                let Ok(mut kept) = shared.lock() else { return };
                kept.extend(&chunk[..length]);
                let excess = kept.len().saturating_sub(KEPT);
                kept.drain(..excess);
            }
        })?;
        Ok(Self { kept, thread })
    }

    /// What it said so far: its last lines, as one.
    pub(super) fn tail(&self) -> String {
        let bytes: Vec<u8> = self.kept.lock().map(|kept| kept.iter().copied().collect()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ")
    }

    /// The same of a process that has ended: to the end, but without waiting for whoever else holds the pipe.
    pub(super) fn last(&self) -> String {
        let limit = now() + LAST_BREATH;
        while !self.thread.is_finished() && now() < limit {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        self.tail()
    }
}
