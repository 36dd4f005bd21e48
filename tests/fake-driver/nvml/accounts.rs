//! The use of a GPU by process: which part of the time the launches of each were on its SMs, since this process last asked.
//! Not under MIG, as on real parts.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use nvml_wrapper_sys::bindings::nvmlProcessUtilizationSample_t;

use crate::entry::{Out, entry_points};
use crate::library::{Handle, place};
use crate::results;

/// Of each GPU: model time, and what each process had run by then, when it was last told.
type Told = BTreeMap<usize, (u64, BTreeMap<u32, u64>)>;
static TOLD: Mutex<Told> = Mutex::new(BTreeMap::new());

/// The clock of the samples: microseconds since the epoch.
fn microseconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}

entry_points! {
    fn nvmlDeviceGetProcessUtilization(
        device: Handle,
        samples: Out<nvmlProcessUtilizationSample_t>,
        count: Out<u32>,
        _since: u64,
    ) {
        let place = place(device)?;
        let part = place.card()?.part();
        if part.devices.is_some() {
            return Err(results::NOT_SUPPORTED);
        }
        let (at, ran) = place.gpu.with(|shared, now| {
            shared.reap(part.share);
            let mut ran: BTreeMap<u32, u64> = BTreeMap::new();
            for (slot, time) in shared.slots.iter().zip(&shared.ran).filter(|(slot, _)| slot.pid != 0) {
                *ran.entry(slot.pid).or_default() += time;
            }
            (now.0, ran)
        });
        let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.get(&part.index).cloned();
        let Some((since, then)) = before else {
            told.insert(part.index, (at, ran));
            return Err(results::NOT_FOUND);
        };
        let length = at.saturating_sub(since).max(1) as f64;
        let mut found = Vec::new();
        for (pid, time) in &ran {
            let grown = time.saturating_sub(then.get(pid).copied().unwrap_or(0)) as f64;
            let percent = (grown / length * 100.0).round() as u32;
            if percent > 0 {
                found.push(nvmlProcessUtilizationSample_t {
                    pid: *pid,
                    timeStamp: microseconds(),
                    smUtil: percent.min(100),
                    memUtil: 0,
                    encUtil: 0,
                    decUtil: 0,
                });
            }
        }
        // Asked for their number first, then for them.
        let room = count.get()? as usize;
        count.put(found.len() as u32)?;
        if found.is_empty() {
            return Err(results::NOT_FOUND);
        }
        if samples.is_null() || room < found.len() {
            return Err(results::INSUFFICIENT_SIZE);
        }
        told.insert(part.index, (at, ran));
        let stamp = microseconds();
        for sample in &mut found {
            sample.timeStamp = stamp;
        }
        samples.put_all(found)
    }
}
