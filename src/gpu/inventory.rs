//! The GPUs of the machine as found.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::layout::Placement;
use super::mig_uuid::MigUuid;
use super::model::GpuModel;
use super::virtualization::Virtualization;
use crate::provenance::Provenance;
use crate::units::Bytes;

/// The GPUs of a machine as found. Unknown is `None`, never zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// Where this was read.
    pub provenance: Provenance,
    /// Driver version.
    pub driver: Option<String>,
    /// The newest CUDA version that the driver supports ("12.8").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuda: Option<String>,
    /// The GPUs, in the order of the driver.
    pub gpus: Vec<Gpu>,
}

/// One GPU as found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// UUID ("GPU-…").
    pub uuid: String,
    /// Product name.
    pub name: String,
    /// Id of its model in `crosstalk list gpus`, where it is known.
    pub model: Option<String>,
    /// Device memory.
    pub memory: Option<Bytes>,
    /// SMs.
    pub sms: Option<u32>,
    /// Whether MIG is on; `None` where the part has no MIG or does not say.
    pub mig: Option<bool>,
    /// Whether MIG will be on after the next reset or reboot, where that differs from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mig_pending: Option<bool>,
    /// PCI address as sysfs writes it ("0000:41:00.0").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci: Option<String>,
    /// Whether a hypervisor lies between; `None`: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtualization: Option<Virtualization>,
    /// Its MIG instances.
    pub instances: Vec<Instance>,
}

/// One MIG instance as found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// UUID ("MIG-…"); empty for a GPU instance without a compute instance, which has no device and no UUID.
    pub uuid: String,
    /// Profile name.
    pub profile: String,
    /// First memory slice; `None` where the driver keeps it from this user (placements need a privilege).
    pub start: Option<u32>,
    /// Memory slices; `None` where neither the driver nor the model's data says.
    pub size: Option<u32>,
    /// Id of the GPU instance. Sparse, and no order of places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_instance: Option<u32>,
    /// Id of the compute instance in it; absent with one that has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_instance: Option<u32>,
    /// First compute slice of the compute instance within its GPU instance; absent where the driver keeps it from this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_start: Option<u32>,
    /// Device memory, read from the instance, never from its parent.
    pub memory: Option<Bytes>,
    /// SMs.
    pub sms: Option<u32>,
}

impl Gpu {
    /// The instance that this UUID names, in either form.
    pub(crate) fn instance(&self, uuid: &MigUuid) -> Option<usize> {
        self.instances.iter().position(|i| match uuid {
            MigUuid::Device(_) => i.uuid.eq_ignore_ascii_case(&uuid.to_string()),
            MigUuid::Instance { gpu: card, gpu_instance, compute_instance } => {
                i.uuid.eq_ignore_ascii_case(&uuid.to_string())
                    || self.uuid.strip_prefix("GPU-").is_some_and(|u| u.eq_ignore_ascii_case(card))
                        && (i.gpu_instance, i.compute_instance) == (Some(*gpu_instance), Some(*compute_instance))
            }
        })
    }
}

impl Instance {
    /// Whether both are compute instances of one GPU instance: by its id, or, without ids, by the place.
    pub fn shares_gpu_instance(&self, other: &Self) -> bool {
        match (self.gpu_instance, other.gpu_instance) {
            (Some(a), Some(b)) => a == b,
            _ => self.start.is_some() && (self.start, self.size) == (other.start, other.size),
        }
    }

    /// Where it lies, in words.
    pub fn place(&self) -> String {
        match (self.start, self.gpu_instance) {
            (Some(start), _) => format!("at slice {start}"),
            (None, Some(id)) => format!("with GPU instance id {id}"),
            (None, None) => "at an unknown place".to_owned(),
        }
    }
}

/// Two devices in one GPU instance: compute instances of one GPU instance.
pub fn twins(instances: &[Instance]) -> Option<(&Instance, &Instance)> {
    let devices = || instances.iter().filter(|instance| !instance.uuid.is_empty());
    devices().enumerate().find_map(|(n, a)| Some((a, devices().skip(n + 1).find(|b| a.shares_gpu_instance(b))?)))
}

/// The inventory of a simulated machine with one GPU of this model: MIG on with these instances, or off without.
/// UUIDs derive from the model and, for an instance, from its profile and place, so that equal machines have equal ones.
pub fn simulated(model: &GpuModel, layout: Option<&[Placement]>) -> Inventory {
    let instance = |p: &Placement| {
        let profile = model.profile(&p.profile);
        Instance {
            uuid: format!("MIG-{}", uuid(&[&model.id, &p.profile, &p.start.to_string()])),
            profile: p.profile.clone(),
            start: Some(p.start),
            size: Some(p.size),
            gpu_instance: None,
            compute_instance: None,
            compute_start: None,
            memory: profile.and_then(|q| q.memory_mib).map(Bytes::mib),
            sms: profile.and_then(|q| q.sms),
        }
    };
    Inventory {
        provenance: Provenance::Simulated,
        driver: None,
        cuda: None,
        gpus: vec![Gpu {
            uuid: format!("GPU-{}", uuid(&[&model.id])),
            name: model.name.clone(),
            model: Some(model.id.clone()),
            memory: Some(Bytes::mib(model.memory_mib)),
            sms: Some(model.sm.count),
            mig: model.mig.as_ref().map(|_| layout.is_some()),
            mig_pending: None,
            pci: None,
            virtualization: None,
            instances: layout.unwrap_or_default().iter().map(instance).collect(),
        }],
    }
}

fn uuid(parts: &[&str]) -> String {
    named_uuid("crosstalk simulated gpu 1", parts)
}

/// A name-based UUID (RFC 9562, version 8: the first 122 bits of a SHA-256) of `parts` within `space`.
pub fn named_uuid(space: &str, parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    hash.update(space.as_bytes());
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let mut bytes: [u8; 16] = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{find_model, models, parse_layout, parse_mig_uuid};

    fn machine(model: &str, layout: Option<&str>) -> Inventory {
        let model = find_model(model).unwrap();
        simulated(model, layout.map(|text| parse_layout(model, text).unwrap()).as_deref())
    }

    #[test]
    fn an_instance_has_its_own_memory_and_not_its_parents() {
        let gpu = machine("h100-sxm", Some("3g.40gb+1g.10gb")).gpus.remove(0);
        assert_eq!(gpu.mig, Some(true));
        assert_eq!(gpu.instances[1].memory, Some(Bytes::mib(9984)));
        assert_eq!((gpu.instances[0].start, gpu.instances[0].sms), (Some(4), Some(60)));
        assert_eq!(machine("b200", Some("3g.90gb")).gpus[0].instances[0].memory, None, "unknown, not zero");
    }

    #[test]
    fn mig_is_off_without_a_layout_and_unknown_to_models_without_it() {
        assert_eq!(machine("h100-sxm", None).gpus[0].mig, Some(false));
        assert_eq!(machine("t4", None).gpus[0].mig, None);
    }

    #[test]
    fn equal_machines_have_equal_uuids_and_different_ones_different() {
        let a = machine("h100-sxm", Some("all-1g.10gb"));
        assert_eq!(a, machine("h100-sxm", Some("all-1g.10gb")));
        let mut uuids: Vec<String> = a.gpus[0].instances.iter().map(|i| i.uuid.clone()).collect();
        uuids.extend(models().iter().map(|m| simulated(m, None).gpus.remove(0).uuid));
        let all = uuids.len();
        uuids.sort();
        uuids.dedup();
        assert_eq!(uuids.len(), all);
        // A baseline belongs to the card: its UUID does not depend on the layout.
        assert_eq!(a.gpus[0].uuid, machine("h100-sxm", None).gpus[0].uuid);
        assert!(a.gpus[0].instances.iter().all(|i| parse_mig_uuid(&i.uuid).is_ok()));
    }

    #[test]
    fn instances_of_unknown_place_are_told_apart_by_their_ids() {
        let at = |gpu_instance| Instance { gpu_instance, ..Instance::default() };
        assert!(at(Some(2)).shares_gpu_instance(&at(Some(2))));
        assert!(!at(Some(2)).shares_gpu_instance(&at(Some(1))));
        assert!(!at(None).shares_gpu_instance(&at(None)), "unknown is no place");
    }
}
