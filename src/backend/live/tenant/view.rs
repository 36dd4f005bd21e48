//! What a tenant sees of its device: by attributes where the driver tells, else by the data of the GPU's model, else by
//! its compute capability. What nobody knows is 0, and workloads that need it refuse.

use crate::cuda::Device;
use crate::gpu::{GpuModel, find_model};
use crate::tenant::protocol::DeviceSeen;
use crate::units::Bytes;
use crate::workload::GpuView;

/// What an SM does in a cycle, by compute capability, from NVIDIA's CUDA programming guide (throughput of native
/// arithmetic instructions) and the architecture white papers: fused multiply-adds, dense FP16 tensor operations, and the
/// KiB of its L1 and shared memory.
const BY_CAPABILITY: &[((u32, u32), u32, u32, u64)] = &[
    ((7, 0), 64, 1_024, 128),
    ((7, 5), 64, 1_024, 96),
    ((8, 0), 64, 2_048, 192),
    ((8, 6), 128, 1_024, 128),
    ((8, 9), 128, 1_024, 128),
    ((9, 0), 128, 4_096, 256),
    ((10, 0), 128, 8_192, 256),
    ((12, 0), 128, 1_024, 128),
];

/// Memory that programs may size themselves by, of 16 parts: the rest is for the contexts of all tenants. Of what is in
/// all, not of what is free: that depends on who came first.
const FOR_PROGRAMS: u64 = 15;

/// The view of the device that `seen` tells of.
pub(super) fn view(
    device: &Device,
    seen: &DeviceSeen,
    model: Option<&str>,
    capability: (u32, u32),
    mig: bool,
) -> GpuView {
    let model = model.and_then(find_model);
    let attributes = Attributes { sm_mhz: device.sm_mhz(), l2: device.l2() };
    assemble(seen, model, capability, mig, attributes)
}

/// What the driver may tell.
#[derive(Clone, Copy, Debug, Default)]
struct Attributes {
    sm_mhz: Option<u32>,
    l2: Option<u64>,
}

fn assemble(
    seen: &DeviceSeen,
    model: Option<&GpuModel>,
    capability: (u32, u32),
    mig: bool,
    attributes: Attributes,
) -> GpuView {
    let by_capability = BY_CAPABILITY.iter().find(|row| row.0 == capability);
    let (fma, tensor, l1_kib) = by_capability.map_or((0, 0, 0), |(_, fma, tensor, l1)| (*fma, *tensor, *l1));
    let part = model.map_or(1.0, |model| part_of(model, seen.memory, mig));
    let of_part = |whole: f64| (whole * part) as u64;
    let sm_mhz = attributes.sm_mhz.or(model.map(|m| m.clock.max_mhz)).unwrap_or(0);
    let per_second = |gb: f64| of_part(gb * 1e9);
    GpuView {
        sms: seen.green_sms.unwrap_or(seen.sms),
        memory: Bytes(seen.memory / 16 * FOR_PROGRAMS),
        l2: Bytes(attributes.l2.or(model.map(|m| of_part((m.l2.kib << 10) as f64))).unwrap_or(0)),
        l1: Bytes::kib(l1_of(model.map_or(l1_kib, |m| u64::from(m.sm.l1_kib)), capability)),
        tlb_reach: Bytes::mib(model.map_or(0, |m| m.tlb.reach_mib)),
        sm_mhz,
        fma_per_cycle: model.map_or(fma, |m| m.sm.fma_per_cycle),
        tensor_flop_per_cycle: model.map_or(tensor, |m| m.sm.tensor_flop_per_cycle),
        hbm_bandwidth: model.map_or(0, |m| per_second(m.hbm.gb_per_s)),
        l2_bandwidth: model.map_or(0, |m| of_part(f64::from(m.l2.bytes_per_cycle) * f64::from(sm_mhz) * 1e6)),
        pcie_bandwidth: model.map_or(0, |m| (m.pcie.to_device_gb_per_s * 1e9) as u64),
    }
}

/// KiB that L1 has at most, of the KiB that it shares with shared memory (CUDA programming guide, compute capabilities):
/// on 7.5 at least 32 stay shared memory; from 8.0 on 1 KiB of each block is reserved, and the least split that holds it
/// is 8.
fn l1_of(unified: u64, capability: (u32, u32)) -> u64 {
    let shared = match capability {
        (7, 5) => 32,
        (8.., _) => 8,
        _ => 0,
    };
    unified.saturating_sub(shared)
}

/// The part of the card's memory system that belongs to a device with this much memory: all of it, or of a MIG device a
/// whole number of memory slices.
fn part_of(model: &GpuModel, memory: u64, mig: bool) -> f64 {
    match &model.mig {
        Some(layout) if mig => {
            let slices = f64::from(layout.memory_slices.max(1));
            let whole = (model.memory_mib << 20).max(1) as f64;
            (memory as f64 / whole * slices).round().clamp(1.0, slices) / slices
        }
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(sms: u32, memory: Bytes) -> DeviceSeen {
        DeviceSeen {
            uuid: String::new(),
            name: String::new(),
            count: 1,
            compute_capability: "9.0".to_owned(),
            sms,
            green_sms: None,
            memory: memory.0,
            free: memory.0,
            cuda: 12_080,
        }
    }

    #[test]
    fn an_instance_sees_its_own_part_and_attributes_win() {
        let model = find_model("h100-sxm");
        let instance = seen(60, Bytes::mib(40_448));
        let attributes = Attributes { sm_mhz: Some(1_755), l2: Some(25 << 20) };
        let half = assemble(&instance, model, (9, 0), true, attributes);
        let whole = assemble(&seen(132, Bytes::mib(81_559)), model, (9, 0), false, Attributes::default());
        assert_eq!((half.sms, half.sm_mhz, half.l2), (60, 1_755, Bytes::mib(25)));
        assert_eq!(half.hbm_bandwidth * 2, whole.hbm_bandwidth);
        assert_eq!(whole.l2, Bytes::kib(model.unwrap().l2.kib), "the model tells where the driver does not");
        assert!(half.memory < Bytes::mib(40_448));
    }

    #[test]
    fn a_green_context_sees_its_own_sms_and_the_whole_memory() {
        let green = DeviceSeen { green_sms: Some(64), ..seen(132, Bytes::mib(81_559)) };
        let view = assemble(&green, find_model("h100-sxm"), (9, 0), false, Attributes::default());
        let whole =
            assemble(&seen(132, Bytes::mib(81_559)), find_model("h100-sxm"), (9, 0), false, Attributes::default());
        assert_eq!((view.sms, view.memory, view.hbm_bandwidth), (64, whole.memory, whole.hbm_bandwidth));
    }

    #[test]
    fn an_unknown_part_is_unknown_and_not_guessed() {
        let view = assemble(&seen(10, Bytes::gib(8)), None, (9, 9), false, Attributes::default());
        assert_eq!((view.fma_per_cycle, view.sm_mhz, view.tlb_reach, view.hbm_bandwidth), (0, 0, Bytes(0), 0));
        let known = assemble(&seen(10, Bytes::gib(8)), None, (8, 6), false, Attributes::default());
        assert_eq!((known.fma_per_cycle, known.l1), (128, Bytes::kib(120)));
    }

    #[test]
    fn l1_is_what_the_least_shared_memory_leaves() {
        let l1 = |model: Option<&str>, capability| {
            let model = model.map(|id| find_model(id).unwrap());
            assemble(&seen(10, Bytes::gib(8)), model, capability, false, Attributes::default()).l1
        };
        assert_eq!(l1(Some("h100-sxm"), (9, 0)), Bytes::kib(248));
        assert_eq!(l1(Some("a100-40gb"), (8, 0)), Bytes::kib(184));
        assert_eq!(l1(Some("t4"), (7, 5)), Bytes::kib(64));
        assert_eq!(l1(None, (7, 0)), Bytes::kib(128));
        assert_eq!(l1(None, (9, 9)), Bytes(0), "unknown stays unknown");
    }
}
