//! Memory, processes, clocks, power.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use nvml_wrapper_sys::bindings::{nvmlMemory_t, nvmlMemory_v2_t, nvmlProcessInfo_t, nvmlUtilization_t};

use crate::config::Kind;
use crate::entry::{Code, Out, entry_points};
use crate::library::{Handle, Place, place};
use crate::results;
use crate::state::{Role, Slot};

/// No instance, or no figure.
const NONE: u32 = u32::MAX;

/// Total and used bytes.
fn memory(place: Place) -> (u64, u64) {
    let part = place.part();
    if let Some((_, mig)) = place.mig {
        let context = mig.compute * part.share;
        let used = place.gpu.with(|shared, _| {
            shared.reap(part.share);
            shared.machine.memory_of(context).1.0
        });
        return (part.memory(mig.compute), used + part.foreign(Some(mig.compute)));
    }
    let mut domains: Vec<usize> = Vec::new();
    let mut contexts: Vec<usize> = Vec::new();
    for (compute, at) in part.topology.computes.iter().enumerate() {
        if !domains.contains(&at.domain) {
            domains.push(at.domain);
            contexts.push(compute * part.share);
        }
    }
    let used: u64 = place.gpu.with(|shared, _| {
        shared.reap(part.share);
        contexts.iter().map(|c| shared.machine.memory_of(*c).1.0).sum()
    });
    (part.model.memory_mib << 20, used + part.foreign(None))
}

/// The processes of one kind.
fn processes(place: Place, kind: Kind) -> Result<Vec<nvmlProcessInfo_t>, Code> {
    let part = place.part();
    if part.config.processes_hidden {
        return Err(results::NO_PERMISSION);
    }
    let instance = |compute: usize| {
        let device = part.mig_devices().find(|d| d.compute == compute);
        device.map_or((NONE, NONE), |d| (d.gpu_instance, d.compute_instance))
    };
    let mut found: BTreeMap<(u32, usize), u64> = BTreeMap::new();
    for p in part.config.processes.iter().filter(|p| p.kind == kind) {
        *found.entry((p.pid, p.device.unwrap_or(0))).or_default() += p.memory_mib << 20;
    }
    let plain = crate::config::loaded().is_some_and(|l| l.config.mps.listed_plain);
    if kind != Kind::Graphics {
        place.gpu.with(|shared, _| {
            shared.reap(part.share);
            // A client of MPS is in both lists.
            let client = |slot: &Slot| !plain && matches!(slot.role, Role::Client(_));
            let listed = |slot: &Slot| slot.pid != 0 && (kind == Kind::Compute || client(slot));
            for (context, slot) in shared.slots.iter().enumerate().filter(|(_, slot)| listed(slot)) {
                let compute = context / part.share.max(1);
                *found.entry((slot.pid, compute)).or_default() += shared.machine.held(context).0;
            }
        });
    }
    let mine = |compute: usize| place.mig.is_none_or(|(_, mig)| mig.compute == compute);
    let info = |((pid, compute), bytes): (&(u32, usize), &u64)| {
        let (gpu_instance, compute_instance) = instance(*compute);
        mine(*compute).then_some(nvmlProcessInfo_t {
            pid: *pid,
            usedGpuMemory: *bytes,
            gpuInstanceId: gpu_instance,
            computeInstanceId: compute_instance,
        })
    };
    Ok(found.iter().filter_map(info).collect())
}

/// Writes a list the way NVML does: the room given in `count`, the number there are in return.
fn list(handle: Handle, kind: Kind, count: Out<u32>, infos: Out<nvmlProcessInfo_t>) -> Result<(), Code> {
    let found = processes(place(handle)?, kind)?;
    let room = count.get()? as usize;
    count.put(found.len() as u32)?;
    if found.len() > room {
        return Err(results::INSUFFICIENT_SIZE);
    }
    if found.is_empty() || infos.is_null() { Ok(()) } else { infos.put_all(found) }
}

/// MHz of a kind of clock now: 0 graphics, 1 SM, 2 memory, 3 video.
fn clock(place: Place, kind: u32) -> Result<u32, Code> {
    let part = place.card()?.part();
    match kind {
        0 | 1 | 3 => {
            if let Some(mhz) = part.config.sm_mhz {
                return Ok(mhz);
            }
            let idle = part.model.clock.idle_mhz;
            Ok(place.gpu.with(|shared, _| {
                let used = shared.slots.iter().any(|slot| slot.pid != 0);
                if used { shared.machine.sm_mhz(0) as u32 } else { idle }
            }))
        }
        2 => Ok(part.memory_mhz()),
        _ => Err(results::INVALID_ARGUMENT),
    }
}

fn max_clock(place: Place, kind: u32) -> Result<u32, Code> {
    let part = place.card()?.part();
    match kind {
        0 | 1 | 3 => Ok(part.model.clock.max_mhz),
        2 => Ok(part.memory_mhz()),
        _ => Err(results::INVALID_ARGUMENT),
    }
}

/// Bits of NVML_CLOCKS_EVENT_REASON: idle, SW power cap.
const IDLE: u64 = 0x1;
const POWER_CAP: u64 = 0x4;
/// All that the stand-in can be told to say.
const SUPPORTED: u64 = 0x1ff;

/// What holds the clock down.
fn events(place: Place) -> Result<u64, Code> {
    /// Time under the cap when this was last asked, per GPU.
    static CAPPED: Mutex<BTreeMap<usize, u64>> = Mutex::new(BTreeMap::new());
    let part = place.card()?.part();
    let (idle, capped) = place.gpu.with(|shared, _| (shared.machine.next().is_none(), shared.machine.throttled(0).0));
    let mut seen = CAPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let before = seen.insert(part.index, capped).unwrap_or(0);
    let mut reasons = part.config.clock_events;
    if capped > before {
        reasons |= POWER_CAP;
    } else if idle {
        reasons |= IDLE;
    }
    Ok(reasons)
}

fn milliwatts(watts: f64) -> u32 {
    (watts * 1e3) as u32
}

fn cap(handle: Handle) -> Result<u32, Code> {
    Ok(milliwatts(place(handle)?.card()?.part().model.power.cap_w))
}

entry_points! {
    fn nvmlDeviceGetMemoryInfo(device: Handle, info: Out<nvmlMemory_t>) {
        let (total, used) = memory(place(device)?);
        info.put(nvmlMemory_t { total, free: total.saturating_sub(used), used })
    }

    fn nvmlDeviceGetMemoryInfo_v2(device: Handle, info: Out<nvmlMemory_v2_t>) {
        let version = size_of::<nvmlMemory_v2_t>() as u32 | 2 << 24;
        let place = place(device)?;
        if info.get()?.version != version {
            return Err(results::ARGUMENT_VERSION_MISMATCH);
        }
        let (total, used) = memory(place);
        info.put(nvmlMemory_v2_t { version, total, reserved: 0, free: total.saturating_sub(used), used })
    }

    fn nvmlDeviceGetComputeRunningProcesses_v3(device: Handle, count: Out<u32>, infos: Out<nvmlProcessInfo_t>) {
        list(device, Kind::Compute, count, infos)
    }

    fn nvmlDeviceGetGraphicsRunningProcesses_v3(device: Handle, count: Out<u32>, infos: Out<nvmlProcessInfo_t>) {
        list(device, Kind::Graphics, count, infos)
    }

    fn nvmlDeviceGetMPSComputeRunningProcesses_v3(device: Handle, count: Out<u32>, infos: Out<nvmlProcessInfo_t>) {
        list(device, Kind::Mps, count, infos)
    }

    fn nvmlDeviceGetUtilizationRates(device: Handle, rates: Out<nvmlUtilization_t>) {
        let place = place(device)?.card()?;
        if place.part().devices.is_some() {
            return Err(results::NOT_SUPPORTED);
        }
        let busy = place.gpu.with(|shared, _| shared.machine.next().is_some());
        rates.put(nvmlUtilization_t { gpu: if busy { 100 } else { 0 }, memory: 0 })
    }

    fn nvmlDeviceGetClockInfo(device: Handle, kind: u32, mhz: Out<u32>) {
        mhz.put(clock(place(device)?, kind)?)
    }

    fn nvmlDeviceGetMaxClockInfo(device: Handle, kind: u32, mhz: Out<u32>) {
        mhz.put(max_clock(place(device)?, kind)?)
    }

    fn nvmlDeviceGetClock(device: Handle, kind: u32, id: u32, mhz: Out<u32>) {
        let place = place(device)?;
        // NVML_CLOCK_ID: 0 current, 1 and 2 applications, 3 boost maximum.
        match id {
            0 => mhz.put(clock(place, kind)?),
            3 => mhz.put(max_clock(place, kind)?),
            _ => Err(results::NOT_SUPPORTED),
        }
    }

    fn nvmlDeviceGetApplicationsClock(device: Handle, kind: u32, mhz: Out<u32>) {
        mhz.put(max_clock(place(device)?, kind)?)
    }

    fn nvmlDeviceGetPowerUsage(device: Handle, power: Out<u32>) {
        let place = place(device)?.card()?;
        let model = || place.gpu.with(|shared, _| shared.machine.power_w(0));
        power.put(milliwatts(place.part().config.power_w.unwrap_or_else(model)))
    }

    fn nvmlDeviceGetPowerManagementLimit(device: Handle, limit: Out<u32>) {
        limit.put(cap(device)?)
    }

    fn nvmlDeviceGetPowerManagementDefaultLimit(device: Handle, limit: Out<u32>) {
        limit.put(cap(device)?)
    }

    fn nvmlDeviceGetEnforcedPowerLimit(device: Handle, limit: Out<u32>) {
        limit.put(cap(device)?)
    }

    fn nvmlDeviceGetPowerManagementLimitConstraints(device: Handle, least: Out<u32>, most: Out<u32>) {
        let most_allowed = cap(device)?;
        least.put(most_allowed / 3)?;
        most.put(most_allowed)
    }

    fn nvmlDeviceGetTotalEnergyConsumption(device: Handle, _energy: Out<u64>) {
        place(device)?;
        Err(results::NOT_SUPPORTED)
    }

    fn nvmlDeviceGetTemperature(device: Handle, _sensor: u32, degrees: Out<u32>) {
        degrees.put(place(device)?.card()?.part().config.temperature_c.unwrap_or(36))
    }

    fn nvmlDeviceGetTemperatureThreshold(device: Handle, threshold: u32, degrees: Out<u32>) {
        place(device)?.card()?;
        // 0 shutdown, 1 slowdown, 2 memory, 3 GPU maximum.
        degrees.put(match threshold {
            0 => 92,
            1 => 89,
            2 => 95,
            3 => 87,
            _ => return Err(results::NOT_SUPPORTED),
        })
    }

    fn nvmlDeviceGetCurrentClocksEventReasons(device: Handle, reasons: Out<u64>) {
        reasons.put(events(place(device)?)?)
    }

    fn nvmlDeviceGetCurrentClocksThrottleReasons(device: Handle, reasons: Out<u64>) {
        reasons.put(events(place(device)?)?)
    }

    fn nvmlDeviceGetSupportedClocksEventReasons(device: Handle, reasons: Out<u64>) {
        place(device)?.card()?;
        reasons.put(SUPPORTED)
    }

    fn nvmlDeviceGetSupportedClocksThrottleReasons(device: Handle, reasons: Out<u64>) {
        place(device)?.card()?;
        reasons.put(SUPPORTED)
    }

    fn nvmlDeviceGetPerformanceState(device: Handle, state: Out<u32>) {
        place(device)?.card()?;
        state.put(0)
    }

    fn nvmlDeviceGetFanSpeed(device: Handle, _percent: Out<u32>) {
        place(device)?;
        Err(results::NOT_SUPPORTED)
    }

    fn nvmlDeviceGetEncoderUtilization(device: Handle, _percent: Out<u32>, _period: Out<u32>) {
        place(device)?;
        Err(results::NOT_SUPPORTED)
    }

    fn nvmlDeviceGetDecoderUtilization(device: Handle, _percent: Out<u32>, _period: Out<u32>) {
        place(device)?;
        Err(results::NOT_SUPPORTED)
    }
}
