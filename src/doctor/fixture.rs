//! Drivers that say what a test wants.

use super::probe::{CudaDevice, CudaSurvey, DriverReport};
use crate::backend::{EccErrors, GpuHealth, GpuReading, PcieLink, RemappedRows};
use crate::gpu::{Gpu, Instance, Inventory};
use crate::nvml::Survey;
use crate::provenance::Provenance;
use crate::units::{Bytes, Nanos};

/// UUID of the first GPU, without its prefix.
pub(crate) const FIRST: &str = "11111111-1111-1111-1111-111111111111";
/// UUID of the second GPU, without its prefix.
pub(crate) const SECOND: &str = "22222222-2222-2222-2222-222222222222";
/// UUIDs of MIG devices, without their prefix.
pub(crate) const DEVICES: [&str; 2] = ["aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa", "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb"];

/// A healthy H100 with MIG off.
pub(crate) fn gpu(uuid: &str) -> Gpu {
    Gpu {
        uuid: format!("GPU-{uuid}"),
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        model: Some("h100-sxm".to_owned()),
        memory: Some(Bytes::mib(81_559)),
        sms: Some(132),
        mig: Some(false),
        ..Gpu::default()
    }
}

/// A MIG device in a GPU instance of its own.
pub(crate) fn instance(device: usize) -> Instance {
    Instance {
        uuid: format!("MIG-{}", DEVICES[device]),
        profile: "3g.40gb".to_owned(),
        start: Some(4 * device as u32),
        size: Some(4),
        memory: Some(Bytes::mib(40_448)),
        sms: Some(60),
        gpu_instance: Some(device as u32 + 1),
        compute_instance: Some(0),
        compute_start: Some(0),
    }
}

pub(crate) fn health() -> GpuHealth {
    GpuHealth {
        ecc: Some(EccErrors { corrected: 0, uncorrected: 0 }),
        ecc_lifetime: Some(EccErrors { corrected: 0, uncorrected: 0 }),
        remapped: Some(RemappedRows { correctable: 0, uncorrectable: 0, pending: false, failed: false }),
        pcie: Some(PcieLink {
            generation: 5,
            width: 16,
            max_generation: Some(5),
            max_width: Some(16),
            replays: Some(0),
        }),
        persistence: Some(true),
        compute_mode: Some("Default".to_owned()),
    }
}

/// A working driver with these GPUs, nobody on them, and every device visible to CUDA.
pub(crate) fn driver(gpus: Vec<Gpu>) -> DriverReport {
    let idle = GpuReading {
        at: Nanos(1),
        sm_mhz: Some(1980),
        mem_mhz: None,
        power_mw: None,
        temperature_c: None,
        throttle: Some(0x1),
    };
    let bare = |uuid: &str| uuid.get(4..).unwrap_or_default().to_owned();
    let device = |uuid: &str, name: &str| CudaDevice { uuid: bare(uuid), name: name.to_owned(), sms: None };
    let mut devices = Vec::new();
    for gpu in &gpus {
        match gpu.mig {
            Some(true) => devices.extend(gpu.instances.iter().map(|i| device(&i.uuid, &i.profile))),
            _ => devices.push(device(&gpu.uuid, &gpu.name)),
        }
    }
    let survey = Survey {
        health: gpus.iter().map(|_| health()).collect(),
        now: gpus.iter().map(|_| idle).collect(),
        processes: gpus.iter().map(|_| Ok(Vec::new())).collect(),
        unreadable: Vec::new(),
        inventory: Inventory {
            provenance: Provenance::Measured,
            driver: Some("550.54.15".to_owned()),
            cuda: Some("12.4".to_owned()),
            gpus,
        },
    };
    DriverReport { nvml: Ok(survey), cuda: Ok(CudaSurvey { stand_in: false, version: "12.4".to_owned(), devices }) }
}

/// Two GPUs without MIG.
pub(crate) fn two() -> DriverReport {
    driver(vec![gpu(FIRST), gpu(SECOND)])
}

/// One GPU with MIG on and two instances.
pub(crate) fn mig() -> DriverReport {
    driver(vec![Gpu { mig: Some(true), instances: vec![instance(0), instance(1)], ..gpu(FIRST) }])
}
