//! Initialisation and devices.

use std::ffi::{c_char, c_void};

use crate::config::cuda_version;
use crate::entry::{Code, Out, entry_points, text};
use crate::mps::Membership;
use crate::parts::{Part, uuid_bytes};
use crate::process::{self, process};
use crate::results;

/// An attribute of a device, by its number in CUdevice_attribute of cuda.h.
fn attribute(part: &Part, compute: usize, member: &Membership, number: u32) -> Option<i32> {
    let model = &part.model;
    let place = part.topology.computes.get(compute)?;
    let domain = part.topology.domains.get(place.domain)?;
    let (major, minor) = part.capability();
    // Threads of an SM by compute capability (CUDA C++ Programming Guide, technical specifications).
    let threads = match (major, minor) {
        (7, 5) => 1024,
        (8, 6..) | (10.., _) if (major, minor) != (10, 0) => 1536,
        _ => 2048,
    };
    let memory_mhz = part.memory_mhz();
    Some(match number {
        1..=3 => 1024,
        4 => 64,
        5 => i32::MAX,
        6 | 7 => 65_535,
        8 => 48 << 10,
        9 => 64 << 10,
        10 => 32,
        11 => i32::MAX,
        12 | 82 => 65_536,
        13 => model.clock.max_mhz as i32 * 1000,
        14 => 512,
        15 => 1,
        16 => member.sms(place.sms) as i32,
        17 | 18 | 34 => 0,
        19 => 1,
        20 => part.config.compute_mode as i32,
        31 => 1,
        32 => i32::from(part.ecc().unwrap_or(false)),
        33 => part.bus() as i32,
        35 => 0,
        36 => memory_mhz as i32 * 1000,
        37 => part.bus_width() as i32,
        38 => domain.l2_bytes.min(i32::MAX as u64) as i32,
        39 => threads,
        40 => domain.copy_engines as i32,
        41 => 1,
        50 => 0,
        75 => major as i32,
        76 => minor as i32,
        78..=80 => 1,
        81 => (model.sm.l1_kib.saturating_sub(28) as i32) << 10,
        83 | 84 | 88 | 89 | 90..=92 => 1,
        97 => (model.sm.l1_kib.saturating_sub(29) as i32) << 10,
        106 => model.sm.max_blocks as i32,
        111 => 1024,
        115 => 1,
        // The rest are optional abilities, which the stand-in does not have.
        0 | 200.. => return None,
        _ => 0,
    })
}

/// The value of a CUuuid.
#[repr(C)]
#[derive(Clone, Copy)]
struct Uuid([u8; 16]);

entry_points! {
    fn cuInit(_flags: u32) {
        process::init()
    }

    fn cuDriverGetVersion(version: Out<i32>) {
        let loaded = crate::config::loaded().ok_or(results::NO_DEVICE)?;
        version.put(cuda_version(&loaded.config) as i32)
    }

    fn cuDeviceGet(device: Out<i32>, ordinal: i32) {
        process()?.device(ordinal)?;
        device.put(ordinal)
    }

    fn cuDeviceGetCount(count: Out<i32>) {
        count.put(process()?.visible.len() as i32)
    }

    fn cuDeviceGetName(name: Out<u8>, room: i32, device: i32) {
        let process = process()?;
        name.put_text(&process.device(device)?.name, room.max(0) as usize)
    }

    fn cuDeviceGetUuid_v2(uuid: Out<Uuid>, device: i32) {
        let process = process()?;
        uuid.put(Uuid(uuid_bytes(&process.device(device)?.uuid)))
    }

    fn cuDeviceGetUuid(uuid: Out<Uuid>, device: i32) {
        // The first form gives the parent's, under MIG too.
        let process = process()?;
        let device = process.device(device)?;
        uuid.put(Uuid(uuid_bytes(&process.gpu(device.gpu)?.part.uuid)))
    }

    fn cuDeviceGetAttribute(value: Out<i32>, number: u32, device: i32) {
        let process = process()?;
        let device = process.device(device)?;
        let part = &process.gpu(device.gpu)?.part;
        value.put(attribute(part, device.compute, &process.member, number).ok_or(results::INVALID_VALUE)?)
    }

    fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: i32) {
        let process = process()?;
        let device = process.device(device)?;
        bytes.put(process.gpu(device.gpu)?.part.memory(device.compute) as usize)
    }

    fn cuDeviceGetPCIBusId(text: Out<u8>, room: i32, device: i32) {
        let process = process()?;
        let device = process.device(device)?;
        let id = process.gpu(device.gpu)?.part.bus_id();
        // CUDA writes four digits of the domain where NVML writes eight.
        text.put_text(id.get(4..).unwrap_or_default(), room.max(0) as usize)
    }

    fn cuDeviceComputeCapability(major: Out<i32>, minor: Out<i32>, device: i32) {
        let process = process()?;
        let (a, b) = process.gpu(process.device(device)?.gpu)?.part.capability();
        major.put(a as i32)?;
        minor.put(b as i32)
    }

    fn cuGetProcAddress_v2(symbol: *const c_char, pointer: Out<*mut c_void>, version: i32, _flags: u64, status: Out<u32>) {
        let _ = version;
        let found = lookup(&text(symbol)?);
        status.put_if(u32::from(found.is_null()));
        pointer.put(found)?;
        if found.is_null() { Err(results::NOT_FOUND) } else { Ok(()) }
    }

    fn cuGetProcAddress(symbol: *const c_char, pointer: Out<*mut c_void>, version: i32, _flags: u64) {
        let _ = version;
        let found = lookup(&text(symbol)?);
        pointer.put(found)?;
        if found.is_null() { Err(results::NOT_FOUND) } else { Ok(()) }
    }
}

/// The entry point that this name without a version means: the newest that is exported here.
fn lookup(name: &str) -> *mut c_void {
    // SAFETY: this library is loaded already, under this name: nothing is initialised anew. 0x5: RTLD_LAZY | RTLD_NOLOAD.
    let this = unsafe { libloading::os::unix::Library::open(Some("libcuda.so.1"), 0x5) };
    let Ok(this) = this else { return std::ptr::null_mut() };
    let find = |name: &str| {
        // SAFETY: the symbol is only looked up, not called.
        unsafe { this.get::<*mut c_void>(name.as_bytes()) }.ok().map(|symbol| symbol.into_raw().cast())
    };
    ["_v2", ""].iter().find_map(|suffix| find(&format!("{name}{suffix}"))).unwrap_or(std::ptr::null_mut())
}

impl Code {
    /// The result of another entry point.
    pub(crate) fn from_u32(code: u32) -> Result<(), Code> {
        if code == 0 { Ok(()) } else { Err(Code(code)) }
    }
}
