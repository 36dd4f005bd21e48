//! Do no harm: no noise on a GPU that may be somebody's.

use serde::{Deserialize, Serialize};

use super::GpuProcess;
use super::processes::{Processes, Who, classify};

/// What a run's first line says where exclusive use is the user's word alone; the reason follows it.
const ASSUMED: &str = "exclusive use assumed: ";
/// In such a reason: somebody else was seen.
pub(crate) const IN_USE: &str = "is in use by";

/// The same, for a run's first line.
pub(crate) fn assuming(why: &str) -> String {
    format!("{ASSUMED}{why}")
}

/// Why exclusive use was assumed, from a run's first line; `None`: it was proved, or there was nothing to prove.
pub(crate) fn assumed_use(first_line: &str) -> Option<&str> {
    first_line.split_once(ASSUMED).map(|(_, why)| why)
}

/// By what right a run makes noise on a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ExclusiveUse {
    /// The driver's list was read: nobody else is there but these monitors.
    Proved {
        /// Names of the monitors.
        monitors: Vec<String>,
    },
    /// The user says so; reports say "exclusive use assumed".
    Assumed {
        /// What stood against it.
        why: String,
    },
}

/// A GPU that is in use, or of which nobody knows: what the user reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}. {cure}")]
pub struct Occupied {
    /// Who is there, or why nobody knows.
    pub what: String,
    /// What the user can do.
    pub cure: String,
}

/// Whether a run may make noise on the whole GPU `uuid`, whose processes these are: its tenants are `ours`; `gpu_is_mine`
/// is what the user gave by `--gpu-is-mine`.
///
/// # Errors
/// Where anybody else is there, or may be.
pub fn exclusive_use(
    processes: &Processes,
    uuid: &str,
    ours: &[u32],
    gpu_is_mine: &[String],
) -> Result<ExclusiveUse, Occupied> {
    let who = |wanted: &[Who]| -> Vec<&GpuProcess> {
        processes.iter().flatten().filter(|p| wanted.contains(&classify(p, ours))).collect()
    };
    let against = match processes {
        Err(unknown) => format!("nobody can say who uses GPU {uuid}: {unknown}"),
        Ok(_) => {
            let (mps, foreign) = (who(&[Who::Mps]), who(&[Who::Foreign]));
            let mut said = Vec::new();
            if !foreign.is_empty() {
                said.push(list(&foreign));
            }
            if !mps.is_empty() {
                said.push(format!("an MPS daemon that this run did not start, {}", list(&mps)));
            }
            if said.is_empty() {
                let mut monitors: Vec<String> = who(&[Who::Monitor]).iter().filter_map(|p| p.name.clone()).collect();
                monitors.sort();
                monitors.dedup();
                return Ok(ExclusiveUse::Proved { monitors });
            }
            format!("GPU {uuid} {IN_USE} {}", said.join(" and "))
        }
    };
    if gpu_is_mine.iter().any(|mine| mine.trim().eq_ignore_ascii_case(uuid)) {
        return Ok(ExclusiveUse::Assumed { why: against });
    }
    let given = match gpu_is_mine {
        [] => String::new(),
        given => format!(" (--gpu-is-mine {} is another one)", given.join(" ")),
    };
    let cure = format!(
        "Noise would harm whoever works there: end that work first, or, where you know that nobody's work is at risk on the \
         whole card, say so: --gpu-is-mine {uuid}{given}"
    );
    Err(Occupied { what: against, cure })
}

/// The first five, and how many more.
fn list(processes: &[&GpuProcess]) -> String {
    const SHOWN: usize = 5;
    let mut text = processes.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if processes.len() > SHOWN {
        text.push_str(&format!(" and {} more", processes.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{ProcessKind, Unknown};
    use super::*;
    use crate::units::Bytes;

    const GPU: &str = "GPU-11111111-2222-3333-4444-555555555555";

    fn process(pid: u32, name: &str) -> GpuProcess {
        let memory = Some(Bytes::mib(512));
        GpuProcess { pid, name: Some(name.to_owned()), kind: ProcessKind::Compute, gpu_instance: Some(3), memory }
    }

    #[test]
    fn our_tenants_and_monitors_are_nobody_else() {
        let there = Ok(vec![process(10, "crosstalk"), process(11, "dcgm-exporter")]);
        assert_eq!(
            exclusive_use(&there, GPU, &[10], &[]),
            Ok(ExclusiveUse::Proved { monitors: vec!["dcgm-exporter".to_owned()] })
        );
        assert!(exclusive_use(&there, GPU, &[], &[]).is_err(), "another run's tenant is somebody else");
    }

    #[test]
    fn culprits_and_the_way_out_are_named() {
        let there = Ok(vec![process(77, "python3")]);
        let text = exclusive_use(&there, GPU, &[], &[]).unwrap_err().to_string();
        for part in ["python3 (pid 77, GPU instance 3, 512.00 MiB)", &format!("--gpu-is-mine {GPU}")] {
            assert!(text.contains(part), "{part} not in: {text}");
        }
        let mps = Ok(vec![process(78, "nvidia-cuda-mps-server")]);
        assert!(exclusive_use(&mps, GPU, &[], &[]).unwrap_err().to_string().contains("MPS daemon"));
    }

    #[test]
    fn unknown_is_occupied_unless_the_user_says_otherwise() {
        let unknown = Err(Unknown { why: "Insufficient Permissions".to_owned() });
        assert!(exclusive_use(&unknown, GPU, &[], &[]).unwrap_err().to_string().contains("Insufficient Permissions"));
        let mine = [GPU.to_uppercase()];
        let Ok(ExclusiveUse::Assumed { why }) = exclusive_use(&unknown, GPU, &[], &mine) else { panic!("refused") };
        assert!(why.contains("nobody can say"));
        let other = ["GPU-0".to_owned()];
        assert!(exclusive_use(&unknown, GPU, &[], &other).unwrap_err().to_string().contains("another one"));
    }

    #[test]
    fn a_proof_needs_no_word_of_the_user() {
        let proved = exclusive_use(&Ok(Vec::new()), GPU, &[], &[GPU.to_owned()]);
        assert_eq!(proved, Ok(ExclusiveUse::Proved { monitors: Vec::new() }));
    }
}
