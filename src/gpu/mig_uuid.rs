//! UUIDs of MIG devices, in the two forms that drivers print.

/// The UUID of a MIG device. Prints in its canonical form, and reads back what it prints.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MigUuid {
    /// Drivers from R470 on: "MIG-41b9eab5-8d48-5c52-9f07-82bc59af3901".
    Device(String),
    /// Before: `MIG-GPU-UUID/GI/CI`, of the card, its GPU instance and the compute instance in that.
    Instance {
        /// UUID of the card, without its prefix.
        gpu: String,
        /// Id of the GPU instance.
        gpu_instance: u32,
        /// Id of the compute instance in it.
        compute_instance: u32,
    },
}

/// Text that names no MIG device: what it is instead, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} {why}; `nvidia-smi -L` prints the UUIDs of MIG devices (MIG-…)")]
pub struct MigUuidError {
    /// The text found.
    pub found: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl std::fmt::Display for MigUuid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Device(uuid) => f.pad(&format!("MIG-{uuid}")),
            Self::Instance { gpu, gpu_instance, compute_instance } => {
                f.pad(&format!("MIG-GPU-{gpu}/{gpu_instance}/{compute_instance}"))
            }
        }
    }
}

/// Reads the UUID of a MIG device in either form, whatever its case.
///
/// # Errors
/// Where the text is an ordinal (ambiguous under MIG), a whole GPU, or no UUID at all.
pub fn parse_mig_uuid(text: &str) -> Result<MigUuid, MigUuidError> {
    let error = |why| MigUuidError { found: text.to_owned(), why };
    let trimmed = text.trim();
    if !trimmed.is_empty() && trimmed.bytes().all(|b| b.is_ascii_digit()) {
        return Err(error("is an ordinal, which is ambiguous under MIG"));
    }
    let lower = trimmed.to_lowercase();
    if lower.starts_with("gpu-") {
        return Err(error("is a whole GPU, not one of its instances"));
    }
    let Some(rest) = lower.strip_prefix("mig-") else {
        return Err(error("is no UUID of a MIG device"));
    };
    let Some(parts) = rest.strip_prefix("gpu-") else {
        return if is_uuid(rest) {
            Ok(MigUuid::Device(rest.to_owned()))
        } else {
            Err(error("begins like a MIG device, and what follows is no UUID"))
        };
    };
    let ids = || error("names a card, but no GPU instance and compute instance (/gi/ci) of it");
    let (gpu, instances) = parts.split_once('/').ok_or_else(ids)?;
    let (gpu_instance, compute_instance) = instances.split_once('/').ok_or_else(ids)?;
    if !is_uuid(gpu) {
        return Err(error("begins like a MIG device, and what follows is no UUID"));
    }
    // Digits only: `parse` alone would take "+1".
    let id = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    Ok(MigUuid::Instance {
        gpu: gpu.to_owned(),
        gpu_instance: id(gpu_instance).ok_or_else(ids)?,
        compute_instance: id(compute_instance).ok_or_else(ids)?,
    })
}

/// Whether `text` is the UUID of a MIG device, in either form.
pub fn is_mig_uuid(text: &str) -> bool {
    parse_mig_uuid(text).is_ok()
}

/// Whether the device that a process was given can be the one that it sees. The old form of a MIG device's UUID names card
/// and instance, which the driver does not tell from inside: any MIG device will do, and NVML must say which it is.
pub fn is_same_device(given: &str, seen: &str) -> bool {
    match parse_mig_uuid(given) {
        Ok(MigUuid::Instance { .. }) => is_mig_uuid(seen),
        _ => given.eq_ignore_ascii_case(seen),
    }
}

/// 8-4-4-4-12 hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|g| g.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|g| g.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_are_read() {
        assert_eq!(
            parse_mig_uuid("MIG-41b9eab5-8d48-5c52-9f07-82bc59af3901").unwrap().to_string(),
            "MIG-41b9eab5-8d48-5c52-9f07-82bc59af3901"
        );
        assert_eq!(
            parse_mig_uuid("MIG-GPU-41b9eab5-8d48-5c52-9f07-82bc59af3901/7/0"),
            Ok(MigUuid::Instance {
                gpu: "41b9eab5-8d48-5c52-9f07-82bc59af3901".to_owned(),
                gpu_instance: 7,
                compute_instance: 0
            })
        );
    }

    #[test]
    fn ordinals_parents_and_halves_are_refused_with_their_reason() {
        for (text, why) in [
            ("0", "ordinal"),
            ("GPU-41b9eab5-8d48-5c52-9f07-82bc59af3901", "whole GPU"),
            ("MIG-GPU-41b9eab5-8d48-5c52-9f07-82bc59af3901", "/gi/ci"),
            ("MIG-GPU-41b9eab5-8d48-5c52-9f07-82bc59af3901/7", "/gi/ci"),
            ("MIG-GPU-41b9eab5-8d48-5c52-9f07-82bc59af3901/+7/0", "/gi/ci"),
            ("MIG-41b9eab5", "no UUID"),
            ("MIG-1g.10gb", "no UUID"),
            ("", "no UUID"),
        ] {
            let error = parse_mig_uuid(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(n in any::<u128>(), ids in proptest::option::of(any::<(u32, u32)>())) {
            let hex = format!("{n:032x}");
            let uuid = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
            let mig = match ids {
                None => MigUuid::Device(uuid),
                Some((gpu_instance, compute_instance)) => MigUuid::Instance { gpu: uuid, gpu_instance, compute_instance },
            };
            prop_assert_eq!(parse_mig_uuid(&mig.to_string()), Ok(mig));
        }
    }

    #[test]
    fn a_device_is_known_by_its_uuid_in_every_form() {
        let (gpu, mig) = ("GPU-8f6e4a52-0000-1111-2222-333344445555", "MIG-8f6e4a52-0000-1111-2222-333344445555");
        assert!(is_same_device(gpu, gpu) && is_same_device(mig, &mig.to_lowercase().replace("mig-", "MIG-")));
        assert!(!is_same_device(gpu, mig), "a card is not its instance");
        assert!(is_same_device("MIG-GPU-8f6e4a52-0000-1111-2222-333344445555/1/0", mig));
    }
}
