//! Xid errors, by event wait: nothing is polled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError as Raw;
use serde::{Deserialize, Serialize};

use super::sampler::lock;
use super::{Nvml, NvmlError};
use crate::host::clock::now;
use crate::units::Nanos;

/// How long one wait lasts: how soon a watch ends that nobody wants any more.
const WAIT_MS: u32 = 500;

/// An Xid of the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XidEvent {
    /// When it was delivered, on CLOCK_MONOTONIC.
    pub at: Nanos,
    /// Its number; `None` where the driver does not say.
    pub xid: Option<u64>,
}

impl XidEvent {
    /// Whether the GPU cannot be worked with until an operator has acted. An unknown number is taken for such.
    pub fn ends_the_run(&self) -> bool {
        !matches!(self.xid, Some(13 | 31 | 43 | 45 | 68))
    }

    /// What it means and what to do.
    pub fn words(&self) -> String {
        let Some(xid) = self.xid else {
            return "an Xid of unknown number: look into `dmesg`".to_owned();
        };
        let means = match xid {
            13 | 31 | 43 | 45 | 68 => "a program's own error, or its end",
            48 | 63 | 64 | 92 | 94 | 95 => {
                "a memory error: check `nvidia-smi -q -d ECC,ROW_REMAPPER`, then reset the GPU"
            }
            74 => "an NVLink error: check the links and the fabric manager, then reset the GPU",
            79 => "the GPU has fallen off the bus: drain the node and power-cycle it",
            109 => "a context switch timed out: drain the node and reset the GPU",
            119 | 120 => "the GPU's system processor does not answer: drain the node, then reset the GPU or reboot",
            154 => "the driver wants a recovery action: `nvidia-smi -q` names it",
            _ => "look it up in NVIDIA's list of Xid errors, and into `dmesg`",
        };
        format!("Xid {xid}: {means}")
    }
}

/// What the thread hands over.
#[derive(Default)]
struct Shared {
    events: Vec<XidEvent>,
    failed: Option<NvmlError>,
}

/// A thread that waits for Xid errors of one GPU from start to drop.
pub struct XidWatch {
    shared: Arc<Mutex<Shared>>,
    stop: Arc<AtomicBool>,
}

impl XidWatch {
    /// Begins to wait for Xid errors of the whole GPU `uuid`.
    ///
    /// # Errors
    /// Where the GPU has no such events, or no thread can be had.
    pub fn start(nvml: Arc<Nvml>, uuid: &str) -> Result<Self, NvmlError> {
        let watch = Self { shared: Arc::default(), stop: Arc::default() };
        let (shared, stop, uuid) = (Arc::clone(&watch.shared), Arc::clone(&watch.stop), uuid.to_owned());
        let (ready, registered) = mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name("nvml-xid".to_owned())
            .spawn(move || work(&nvml, &uuid, &shared, &stop, &ready))
            .map_err(|e| NvmlError::other(format!("cannot start the Xid watch: {e}")))?;
        match registered.recv() {
            Ok(registered) => registered.map(|()| watch),
            Err(_) => Err(NvmlError::other("the Xid watch ended before it began".to_owned())),
        }
    }

    /// The events since the last call.
    ///
    /// # Errors
    /// Where the wait itself failed: the GPU was lost, or the driver reloaded.
    pub fn take(&self) -> Result<Vec<XidEvent>, NvmlError> {
        let mut shared = lock(&self.shared);
        // What was seen before the wait failed comes first: it says why.
        match (&shared.failed, shared.events.is_empty()) {
            (Some(error), true) => Err(error.clone()),
            _ => Ok(std::mem::take(&mut shared.events)),
        }
    }
}

impl Drop for XidWatch {
    /// Tells the thread to end, and does not wait for it: a hanging driver must not hang its user.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn work(
    nvml: &Nvml,
    uuid: &str,
    shared: &Mutex<Shared>,
    stop: &AtomicBool,
    ready: &mpsc::SyncSender<Result<(), NvmlError>>,
) {
    let registered = nvml.device(uuid).and_then(|device| {
        let set = nvml.inner.create_event_set().map_err(|e| NvmlError::of("nvmlEventSetCreate", e))?;
        device
            .register_events(EventTypes::CRITICAL_XID_ERROR, set)
            .map_err(|e| NvmlError::of("nvmlDeviceRegisterEvents", e.error))
    });
    let set = match registered {
        Ok(set) => set,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    while !stop.load(Ordering::Relaxed) {
        match set.wait(WAIT_MS) {
            Ok(event) if event.event_type.contains(EventTypes::CRITICAL_XID_ERROR) => {
                let xid = match event.event_data {
                    Some(XidError::Value(xid)) => Some(xid),
                    Some(XidError::Unknown) | None => None,
                };
                lock(shared).events.push(XidEvent { at: now(), xid });
            }
            Ok(_) | Err(Raw::Timeout) => {}
            Err(error) => {
                lock(shared).failed = Some(NvmlError::of("nvmlEventSetWait_v2", error));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xid(xid: Option<u64>) -> XidEvent {
        XidEvent { at: Nanos(0), xid }
    }

    #[test]
    fn a_programs_own_error_does_not_end_the_run_and_a_lost_gpu_does() {
        for own in [13, 31, 43, 45, 68] {
            assert!(!xid(Some(own)).ends_the_run(), "{own}");
        }
        for grave in [Some(79), Some(109), Some(119), Some(120), Some(154), Some(48), None] {
            assert!(xid(grave).ends_the_run(), "{grave:?}");
        }
        assert!(xid(Some(79)).words().contains("fallen off the bus"));
        assert!(xid(None).words().contains("dmesg"));
    }
}
