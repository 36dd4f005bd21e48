//! Whether a GPU is a whole card of this machine, or what a hypervisor made of one.

use serde::{Deserialize, Serialize};

/// How a GPU comes to this operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Virtualization {
    /// No hypervisor lies between.
    Bare,
    /// A whole card, passed through to this virtual machine.
    Passthrough,
    /// A vGPU in a virtual machine: it takes turns with other machines' vGPUs on the card.
    Vgpu,
    /// A vGPU in a virtual machine that has a MIG instance of the card to itself.
    MigVgpu,
    /// The card of a hypervisor that makes vGPUs of it.
    HostVgpu,
    /// The card of a hypervisor that makes vSGA devices of it.
    HostVsga,
}

impl Virtualization {
    /// By what the driver calls the mode, and by the product name, which alone tells a vGPU on a MIG instance from one that
    /// takes turns, and is all there is where the driver does not say. `None`: unknown.
    pub(crate) fn of(mode: Option<Self>, name: &str) -> Option<Self> {
        match mode {
            None | Some(Self::Bare | Self::Vgpu | Self::MigVgpu) => vgpu_type(name).or(mode),
            other => other,
        }
    }

    /// In words, for "this GPU is …"; `None`: nothing to say of it.
    pub fn words(self) -> Option<&'static str> {
        match self {
            Self::Bare => None,
            Self::Passthrough => Some("passed through to a virtual machine"),
            Self::Vgpu => Some("a vGPU in a virtual machine"),
            Self::MigVgpu => Some("a MIG-backed vGPU in a virtual machine"),
            Self::HostVgpu => Some("the card of a vGPU host"),
            Self::HostVsga => Some("the card of a vSGA host"),
        }
    }
}

/// What kind of vGPU has this name, if one has: BOARD-SIZE and a letter for its series ("NVIDIA A40-8Q", "GRID T4-16C"),
/// and with the number of compute slices between them where it is backed by MIG ("GRID A100-4-20C", "GRID A100-1-5CME";
/// NVIDIA's Virtual GPU Software User Guide, "Virtual GPU Types").
fn vgpu_type(name: &str) -> Option<Virtualization> {
    let parts: Vec<&str> = name.split_whitespace().next_back()?.split('-').collect();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let size = |text: &str| {
        let text = text.strip_suffix("ME").unwrap_or(text);
        ["A", "B", "C", "Q"].iter().any(|series| text.strip_suffix(series).is_some_and(number))
    };
    match parts.as_slice() {
        [board, slices, last] if !board.is_empty() && number(slices) && size(last) => Some(Virtualization::MigVgpu),
        [board, last] if !board.is_empty() && size(last) => Some(Virtualization::Vgpu),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Virtualization::{Bare, HostVgpu, MigVgpu, Passthrough, Vgpu};
    use super::*;

    #[test]
    fn what_the_driver_says_and_what_the_name_says_make_one_answer() {
        for (mode, name, expected) in [
            (Some(Bare), "NVIDIA H100 80GB HBM3", Some(Bare)),
            (None, "NVIDIA H100 80GB HBM3", None),
            (Some(Passthrough), "NVIDIA A100-SXM4-80GB", Some(Passthrough)),
            (Some(HostVgpu), "NVIDIA A40", Some(HostVgpu)),
            (Some(Vgpu), "NVIDIA A40-8Q", Some(Vgpu)),
            (Some(Vgpu), "a name of tomorrow", Some(Vgpu)),
            (Some(Vgpu), "GRID A100-4-20C", Some(MigVgpu)),
            (Some(Vgpu), "NVIDIA H100L-1-12CME", Some(MigVgpu)),
            (None, "GRID V100D-32Q", Some(Vgpu)),
            (Some(Bare), "GRID T4-16C", Some(Vgpu)),
        ] {
            assert_eq!(Virtualization::of(mode, name), expected, "{mode:?} {name}");
        }
    }

    #[test]
    fn no_card_is_taken_for_a_vgpu() {
        let names = crate::gpu::models().iter().flat_map(|m| m.other_names.iter().chain([&m.name]));
        for name in names.map(String::as_str).chain(["Tesla V100-SXM2-16GB", "NVIDIA A100-PCIE-40GB", "NVIDIA A2", ""])
        {
            assert_eq!(vgpu_type(name), None, "{name}");
        }
    }
}
