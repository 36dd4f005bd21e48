//! What a process sees that does not say which MIG instance it wants.

use super::{By, Observation, Observed};
use crate::gpu::Gpu;
use crate::tenant::question::DeviceLine;
use crate::units::Nanos;

/// `visibility`.
pub const VISIBILITY: Observation = Observation {
    id: "visibility",
    what: "Which device a process in the victim's seat sees with CUDA_VISIBLE_DEVICES unset, 0, and the UUID of the whole GPU.",
    findings: &[
        ("one-instance", "It sees one instance of the GPU, whichever the driver names first, and never the whole GPU."),
        ("whole-gpu", "It sees the whole GPU."),
        ("nothing", "It sees no device of this GPU."),
    ],
    by: By::Backend { takes: Nanos::secs(5) },
};

/// What one process saw.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Look {
    /// Its CUDA_VISIBLE_DEVICES, in words.
    pub(crate) visible: String,
    /// What it saw, in the driver's order; or why it saw nothing.
    pub(crate) seen: Result<Vec<DeviceLine>, String>,
}

/// Which device of `gpu` that is.
fn kind(gpu: &Gpu, device: &DeviceLine) -> Kind {
    let same = |uuid: &str| bare(uuid).eq_ignore_ascii_case(bare(&device.uuid));
    if same(&gpu.uuid) {
        return Kind::Whole;
    }
    if gpu.instances.iter().any(|instance| same(&instance.uuid)) { Kind::Instance } else { Kind::Elsewhere }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Whole,
    Instance,
    Elsewhere,
}

/// A UUID without "GPU-" or "MIG-".
fn bare(uuid: &str) -> &str {
    uuid.split_once('-')
        .map_or(uuid, |(_, rest)| if uuid.starts_with("GPU-") || uuid.starts_with("MIG-") { rest } else { uuid })
}

/// Judges what processes saw of `gpu`. `own`: the device that the seat has. `refuses`: our own assertion of a tenant's place,
/// given the device that was asked for and what was seen.
pub(crate) fn judge(gpu: &Gpu, own: &str, looks: &[Look], refuses: impl Fn(&str, &DeviceLine) -> bool) -> Observed {
    let all = || looks.iter().flat_map(|look| look.seen.iter().flatten());
    let of = |wanted: Kind| all().filter(move |device| kind(gpu, device) == wanted);
    let words: Vec<String> = looks.iter().map(|look| look_words(gpu, own, look)).collect();
    let figures = [
        ("most_sms", of(Kind::Instance).chain(of(Kind::Whole)).map(|device| f64::from(device.sms)).reduce(f64::max)),
        ("gpu_sms", gpu.sms.map(f64::from)),
    ];
    // Under MIG a tenant that asked for the whole GPU, or for another instance, must not be taken.
    if let Some(taken) = of(Kind::Instance).find(|device| !refuses(&gpu.uuid, device)) {
        let why = format!(
            "a tenant that asked for {} and sees {} would pass for placed: a defect of crosstalk",
            gpu.uuid,
            taken.words()
        );
        return VISIBILITY.untold(why, figures);
    }
    let refused = if of(Kind::Instance).next().is_some() {
        format!("; a tenant that asks for {} and lands there is refused", gpu.uuid)
    } else {
        String::new()
    };
    let why = format!("{}{refused}", words.join("; "));
    if of(Kind::Whole).next().is_some() {
        VISIBILITY.told("whole-gpu", why, figures)
    } else if of(Kind::Instance).next().is_some() {
        VISIBILITY.told("one-instance", why, figures)
    } else {
        VISIBILITY.told("nothing", why, figures)
    }
}

fn look_words(gpu: &Gpu, own: &str, look: &Look) -> String {
    let seen = match &look.seen {
        Err(why) => format!("nothing ({why})"),
        Ok(devices) if devices.is_empty() => "nothing".to_owned(),
        Ok(devices) => {
            let one = |device: &DeviceLine| match kind(gpu, device) {
                Kind::Whole => format!("the whole GPU, {} SMs", device.sms),
                Kind::Instance if bare(own).eq_ignore_ascii_case(bare(&device.uuid)) => {
                    format!("its own instance, {} SMs", device.sms)
                }
                Kind::Instance => format!("the instance {}, {} SMs", device.uuid, device.sms),
                Kind::Elsewhere => format!("another GPU, {}", device.uuid),
            };
            devices.iter().map(one).collect::<Vec<_>>().join(" and ")
        }
    };
    format!("CUDA_VISIBLE_DEVICES {} shows {seen}", look.visible)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Instance;

    const CARD: &str = "GPU-11111111-2222-8333-8444-555555555555";
    const MIG: [&str; 2] = ["MIG-41b9eab5-8d48-5c52-9f07-82bc59af3901", "MIG-51b9eab5-8d48-5c52-9f07-82bc59af3902"];

    fn card() -> Gpu {
        let instance = |uuid: &str| Instance { uuid: uuid.to_owned(), ..Instance::default() };
        Gpu { uuid: CARD.to_owned(), sms: Some(56), instances: MIG.map(instance).to_vec(), ..Gpu::default() }
    }

    fn look(visible: &str, seen: &[(&str, u32)]) -> Look {
        let line = |(uuid, sms): &(&str, u32)| DeviceLine {
            uuid: (*uuid).to_owned(),
            name: "NVIDIA A30".to_owned(),
            sms: *sms,
            memory: 1 << 30,
        };
        Look { visible: visible.to_owned(), seen: Ok(seen.iter().map(line).collect()) }
    }

    #[test]
    fn what_appears_decides_and_the_whole_gpu_counts_first() {
        let judge = |looks: &[Look]| judge(&card(), MIG[1], looks, |_, _| true);
        let instance = judge(&[look("unset", &[(MIG[0], 28)]), look("0", &[(MIG[1], 28)]), look("the GPU", &[])]);
        assert_eq!(instance.finding.as_deref(), Some("one-instance"));
        assert_eq!((instance.figures["most_sms"], instance.figures["gpu_sms"]), (28.0, 56.0));
        for words in ["unset shows the instance MIG-41b9eab5", "0 shows its own instance", "lands there is refused"] {
            assert!(instance.why.contains(words), "{words}: {instance:?}");
        }
        let whole = judge(&[look("unset", &[(CARD, 56)]), look("0", &[(MIG[0], 28)])]);
        assert_eq!(whole.finding.as_deref(), Some("whole-gpu"));
        let other = judge(&[look("unset", &[("GPU-21111111-2222-8333-8444-555555555555", 56)])]);
        assert_eq!(other.finding.as_deref(), Some("nothing"), "another GPU is not this one");
        let none = Look { visible: "0".to_owned(), seen: Err("cuInit: CUDA error 100".to_owned()) };
        let none = judge(&[none]);
        assert!(none.finding.as_deref() == Some("nothing") && none.why.contains("CUDA error 100"), "{none:?}");
    }

    #[test]
    fn a_tenant_that_would_pass_for_placed_is_a_defect_and_no_finding() {
        let passes = judge(&card(), MIG[0], &[look("unset", &[(MIG[0], 28)])], |_, _| false);
        assert!(passes.finding.is_none() && passes.why.contains("a defect of crosstalk"), "{passes:?}");
    }
}
