//! Xid events.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlEventData_t};

use crate::entry::{Code, Out, entry_points};
use crate::library::{Handle, library, place};
use crate::lost::lost;
use crate::results;
use crate::state::monotonic;

/// NVML_EVENT_TYPE_XID_CRITICAL_ERROR.
const XID: u64 = 0x8;
/// The GPU has fallen off the bus.
const OFF_THE_BUS: u64 = 79;

/// Handles registered with a set, and how many events of each GPU it has reported: those that the configuration tells of,
/// and those of faults, of which it hears from its registration on.
#[derive(Default)]
struct Set {
    registered: Vec<Handle>,
    reported: BTreeMap<usize, usize>,
    heard: BTreeMap<usize, u64>,
}

static SETS: Mutex<BTreeMap<u64, Set>> = Mutex::new(BTreeMap::new());

/// The next event of a set that has happened.
fn next(set: u64) -> Result<Option<nvmlEventData_t>, Code> {
    let nvml = library()?;
    let now = monotonic();
    let lost = lost(nvml.loaded, &nvml.gpus);
    let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
    let set = sets.get_mut(&set).ok_or(results::INVALID_ARGUMENT)?;
    for handle in &set.registered {
        let index = (*handle >> 12) as usize - 1;
        let Some(gpu) = nvml.gpus.get(index) else { continue };
        let due = |after_ms: u64| now >= gpu.epoch().saturating_add(after_ms.saturating_mul(1_000_000));
        let mut happened: Vec<u64> = gpu.part.config.xids.iter().filter(|x| due(x.after_ms)).map(|x| x.code).collect();
        if lost {
            happened.push(OFF_THE_BUS);
        }
        let event = |code| nvmlEventData_t {
            device: *handle as usize as nvmlDevice_t,
            eventType: XID,
            eventData: code,
            gpuInstanceId: u32::MAX,
            computeInstanceId: u32::MAX,
        };
        let reported = set.reported.entry(index).or_default();
        if let Some(code) = happened.get(*reported) {
            *reported += 1;
            return Ok(Some(event(*code)));
        }
        let heard = set.heard.entry(index).or_default();
        let fault = if gpu.xids_told() > *heard { gpu.with(|shared, _| shared.xid(*heard)) } else { None };
        if let Some(fault) = fault.filter(|fault| fault.at <= now) {
            *heard += 1;
            return Ok(Some(event(fault.code.into())));
        }
    }
    if lost { Err(results::GPU_IS_LOST) } else { Ok(None) }
}

fn wait(set: u64, data: Out<nvmlEventData_t>, timeout_ms: u32) -> Result<(), Code> {
    let deadline = Instant::now() + Duration::from_millis(timeout_ms.into());
    loop {
        if let Some(event) = next(set)? {
            return data.put(event);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(results::TIMEOUT);
        }
        std::thread::sleep(left.min(Duration::from_millis(5)));
    }
}

entry_points! {
    fn nvmlEventSetCreate(set: Out<u64>) {
        library()?;
        let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = sets.last_key_value().map_or(1, |(last, _)| *last + 1) + (1 << 48);
        sets.insert(handle, Set::default());
        set.put(handle)
    }

    fn nvmlDeviceGetSupportedEventTypes(device: Handle, types: Out<u64>) {
        place(device)?;
        types.put(XID)
    }

    fn nvmlDeviceRegisterEvents(device: Handle, types: u64, set: u64) {
        place(device)?;
        if types & !XID != 0 {
            return Err(results::NOT_SUPPORTED);
        }
        let told = place(device)?.gpu.xids_told();
        let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
        let set = sets.get_mut(&set).ok_or(results::INVALID_ARGUMENT)?;
        set.registered.push(device);
        set.heard.entry((device >> 12) as usize - 1).or_insert(told);
        Ok(())
    }

    fn nvmlEventSetWait_v2(set: u64, data: Out<nvmlEventData_t>, timeout_ms: u32) {
        wait(set, data, timeout_ms)
    }

    fn nvmlEventSetWait(set: u64, data: Out<nvmlEventData_t>, timeout_ms: u32) {
        wait(set, data, timeout_ms)
    }

    fn nvmlEventSetFree(set: u64) {
        library()?;
        let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
        sets.remove(&set).map(drop).ok_or(results::INVALID_ARGUMENT)
    }
}
