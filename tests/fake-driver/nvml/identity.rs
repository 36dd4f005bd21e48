//! What a GPU is.

use nvml_wrapper_sys::bindings::{nvmlBAR1Memory_t, nvmlPciInfo_t};

use crate::entry::{Code, Out, entry_points};
use crate::library::{Handle, nvml, place};
use crate::parts::Part;
use crate::results;

impl Part {
    /// Serial number of the board.
    pub(crate) fn serial(&self) -> String {
        self.config.serial.clone().unwrap_or_else(|| format!("16520230{:05}", self.index + 1))
    }

    fn minor(&self) -> u32 {
        self.config.minor.unwrap_or(self.index as u32)
    }
}

/// A text in a fixed array of C characters.
fn chars<const N: usize>(text: &str) -> [std::ffi::c_char; N] {
    let mut chars = [0; N];
    for (place, byte) in chars.iter_mut().take(N - 1).zip(text.bytes()) {
        *place = byte as std::ffi::c_char;
    }
    chars
}

fn pci(handle: Handle) -> Result<nvmlPciInfo_t, Code> {
    let part = place(handle)?.part();
    let device_id = part.model.pci_ids.first().and_then(|id| u32::from_str_radix(id.trim_start_matches("0x"), 16).ok());
    Ok(nvmlPciInfo_t {
        busIdLegacy: chars(part.bus_id().get(4..).unwrap_or_default()),
        domain: 0,
        bus: part.bus(),
        device: 0,
        pciDeviceId: device_id.unwrap_or(0),
        pciSubSystemId: 0,
        busId: chars(&part.bus_id()),
    })
}

/// Sets the bits of `cpus` in an array of `words` words.
fn bits(set: Out<std::ffi::c_ulong>, words: u32, cpus: usize) -> Result<(), Code> {
    let word = |w: usize| (0..64).filter(|b| w * 64 + b < cpus).fold(0, |mask: u64, b| mask | 1 << b);
    set.put_all((0..words as usize).map(word))
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

entry_points! {
    fn nvmlDeviceGetName(device: Handle, name: Out<u8>, room: u32) {
        let place = place(device)?;
        let text = match place.mig {
            None => place.part().name.clone(),
            Some((_, mig)) => format!("{} MIG {}", place.part().name, mig.profile),
        };
        name.put_text(&text, room as usize)
    }

    fn nvmlDeviceGetUUID(device: Handle, uuid: Out<u8>, room: u32) {
        let place = place(device)?;
        uuid.put_text(place.mig.map_or(&place.part().uuid, |(_, mig)| &mig.uuid), room as usize)
    }

    fn nvmlDeviceGetSerial(device: Handle, serial: Out<u8>, room: u32) {
        serial.put_text(&place(device)?.card()?.part().serial(), room as usize)
    }

    fn nvmlDeviceGetVbiosVersion(device: Handle, version: Out<u8>, room: u32) {
        place(device)?;
        version.put_text("00.00.00.00.00", room as usize)
    }

    fn nvmlDeviceGetBrand(device: Handle, brand: Out<u32>) {
        let part = place(device)?.part();
        // 11 NVIDIA RTX… of nvml.h: 14 "NVIDIA", 16 "GeForce RTX".
        brand.put(if part.name.contains("GeForce") { 16 } else { 14 })
    }

    fn nvmlDeviceGetArchitecture(device: Handle, architecture: Out<u32>) {
        let (major, minor) = place(device)?.part().capability();
        // NVML_DEVICE_ARCH_*: Volta 5, Turing 6, Ampere 7, Ada 8, Hopper 9, Blackwell 10.
        architecture.put(match (major, minor) {
            (7, 0) => 5,
            (7, _) => 6,
            (8, 9) => 8,
            (8, _) => 7,
            (9, _) => 9,
            (10.., _) => 10,
            _ => 0xffff_ffff,
        })
    }

    fn nvmlDeviceGetCudaComputeCapability(device: Handle, major: Out<i32>, minor: Out<i32>) {
        let (a, b) = place(device)?.part().capability();
        major.put(a as i32)?;
        minor.put(b as i32)
    }

    fn nvmlDeviceGetIndex(device: Handle, index: Out<u32>) {
        let place = place(device)?;
        index.put(place.mig.map_or(place.part().index, |(at, _)| at) as u32)
    }

    fn nvmlDeviceGetMinorNumber(device: Handle, minor: Out<u32>) {
        minor.put(place(device)?.card()?.part().minor())
    }

    fn nvmlDeviceGetPciInfo_v3(device: Handle, info: Out<nvmlPciInfo_t>) {
        info.put(pci(device)?)
    }

    fn nvmlDeviceGetPciInfo_v2(device: Handle, info: Out<nvmlPciInfo_t>) {
        info.put(pci(device)?)
    }

    fn nvmlDeviceGetNumGpuCores(device: Handle, cores: Out<u32>) {
        let part = place(device)?.part();
        cores.put(part.model.sm.count * part.model.sm.fma_per_cycle)
    }

    fn nvmlDeviceGetMemoryBusWidth(device: Handle, width: Out<u32>) {
        width.put(place(device)?.part().bus_width())
    }

    fn nvmlDeviceGetBAR1MemoryInfo(device: Handle, info: Out<nvmlBAR1Memory_t>) {
        let total = (place(device)?.part().model.memory_mib << 20).next_power_of_two();
        info.put(nvmlBAR1Memory_t { bar1Total: total, bar1Free: total - (1 << 20), bar1Used: 1 << 20 })
    }

    fn nvmlDeviceGetPersistenceMode(device: Handle, mode: Out<u32>) {
        mode.put(u32::from(place(device)?.part().config.persistence))
    }

    fn nvmlDeviceGetComputeMode(device: Handle, mode: Out<u32>) {
        mode.put(place(device)?.part().config.compute_mode)
    }

    fn nvmlDeviceGetDisplayMode(device: Handle, mode: Out<u32>) {
        place(device)?;
        mode.put(0)
    }

    fn nvmlDeviceGetDisplayActive(device: Handle, active: Out<u32>) {
        place(device)?;
        active.put(0)
    }

    fn nvmlDeviceGetVirtualizationMode(device: Handle, mode: Out<u32>) {
        mode.put(place(device)?.part().config.virtualization as u32)
    }

    fn nvmlDeviceGetCpuAffinity(device: Handle, words: u32, set: Out<std::ffi::c_ulong>) {
        place(device)?;
        bits(set, words, cpus())
    }

    fn nvmlDeviceGetCpuAffinityWithinScope(device: Handle, words: u32, set: Out<std::ffi::c_ulong>, _scope: u32) {
        place(device)?;
        bits(set, words, cpus())
    }

    fn nvmlDeviceGetMemoryAffinity(device: Handle, words: u32, set: Out<std::ffi::c_ulong>, _scope: u32) {
        place(device)?;
        bits(set, words, 1)
    }

    fn nvmlDeviceGetNumaNodeId(device: Handle, node: Out<u32>) {
        place(device)?;
        node.put(0)
    }

    fn nvmlDeviceGetGpuFabricInfo(device: Handle, _info: Out<u8>) {
        place(device)?;
        Err(results::NOT_SUPPORTED)
    }

    fn nvmlDeviceGetGpuFabricInfoV(device: Handle, _info: Out<u8>) {
        place(device)?;
        Err(results::NOT_SUPPORTED)
    }

    fn nvmlDeviceGetTopologyCommonAncestor(_a: Handle, _b: Handle, level: Out<u32>) {
        nvml()?;
        // NVML_TOPOLOGY_NODE
        level.put(40)
    }
}
