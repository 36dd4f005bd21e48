//! Who else is on the GPUs, and whether that can be seen from here.

use super::{ok, problem, unknown, warning};
use crate::dcgm::VARIABLE;
use crate::doctor::facts::Program;
use crate::doctor::{Facts, Finding};
use crate::nvml::{ExclusiveUse, broken_lists, exclusive_use, is_daemon, is_monitor, is_mps};

const WHY: &str = "noise would harm whoever works there, and their work would be measured as interference";

pub(super) fn processes(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "exclusive-use";
    let Ok(survey) = &facts.report.nvml else { return Vec::new() };
    let broken = survey.inventory.driver.as_deref().and_then(broken_lists).is_some();
    let gpus = survey.inventory.gpus.iter().zip(&survey.processes);
    gpus.map(|(gpu, processes)| match exclusive_use(processes, &gpu.uuid, &[], &facts.gpu_is_mine) {
        Ok(ExclusiveUse::Proved { monitors }) => {
            let monitors =
                if monitors.is_empty() { String::new() } else { format!(" but monitors: {}", monitors.join(", ")) };
            ok(ID, format!("GPU {}: nobody is on it{monitors}", gpu.uuid), WHY)
        }
        // By the word of the user alone.
        Ok(ExclusiveUse::Assumed { why }) => unknown(ID, why, WHY, "crosstalk run says so in its scope"),
        Err(occupied) => problem(
            ID,
            occupied.what,
            WHY,
            match (processes, facts.container) {
                (Err(_), _) if broken => {
                    format!(
                        "update the driver to 535.154 or later; or, if it is yours alone: --gpu-is-mine {}",
                        gpu.uuid
                    )
                }
                (Err(_), Some("a Kubernetes pod")) => {
                    format!(
                        "spec.hostPID: true in the pod's manifest; or, if it is yours alone: --gpu-is-mine {}",
                        gpu.uuid
                    )
                }
                (Err(_), Some(_)) => {
                    format!("run with --pid=host; or, if it is yours alone: --gpu-is-mine {}", gpu.uuid)
                }
                _ => format!("end that work, or, if nobody's work is at risk: --gpu-is-mine {}", gpu.uuid),
            },
        ),
    })
    .collect()
}

/// Holders of device nodes that NVML does not list.
pub(super) fn holders(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "device-holders";
    let listed: Vec<u32> = match &facts.report.nvml {
        Ok(survey) => survey.processes.iter().flatten().flatten().map(|p| p.pid).collect(),
        Err(_) => return Vec::new(),
    };
    let strangers: Vec<&Program> = facts
        .programs
        .iter()
        .filter(|p| !p.holds.is_empty() && !listed.contains(&p.pid))
        .filter(|p| !is_monitor(&p.name) && !is_mps(&p.name) && !is_daemon(&p.name))
        .collect();
    let mut found = Vec::new();
    if !strangers.is_empty() {
        let named: Vec<String> =
            strangers.iter().take(5).map(|p| format!("{} (pid {}: {})", p.name, p.pid, p.holds.join(" "))).collect();
        found.push(warning(
            ID,
            format!("{} hold a GPU's device node and are no clients that the driver lists", named.join(", ")),
            "a monitor or a display that NVML does not list can take time on the GPU, and keeps it \"in use\"",
            "stop them for the run, or record why they are harmless",
        ));
    }
    let looked_at = facts.kernel.nodes.iter().any(|n| n.name != "nvidiactl");
    if facts.unreadable > 0 && looked_at {
        found.push(unknown(
            ID,
            format!("the open files of {} process(es) cannot be seen by this user", facts.unreadable),
            "a client that NVML does not list would go unseen",
            "sudo crosstalk doctor",
        ));
    }
    found
}

/// DCGM's profiling takes the counters, and time.
pub(super) fn profiling(facts: &Facts) -> Vec<Finding> {
    let dcgm: Vec<&Program> =
        facts.programs.iter().filter(|p| ["nv-hostengine", "dcgm-exporter"].contains(&p.name.as_str())).collect();
    let mut names: Vec<String> = dcgm.iter().map(|p| format!("{} (pid {})", p.name, p.pid)).collect();
    // One whose process is hidden from a container shows by what it says.
    let profiles = facts.exporter.iter().filter(|exporter| exporter.profiles && dcgm.is_empty());
    names.extend(profiles.map(|exporter| format!("an exporter of profiling metrics at {}", exporter.address)));
    if names.is_empty() {
        return Vec::new();
    }
    vec![warning(
        "dcgm-profiling",
        format!("DCGM runs here: {}", names.join(", ")),
        "its profiling metrics (DCGM_FI_PROF_*) read the GPU in every arm, beside GPM since Hopper; before, they also hold the only \
         counters",
        "dcgmi profile --pause for the run, dcgmi profile --resume after it",
    )]
}

/// An exporter of DCGM's is a source of its own, and none is needed.
pub(super) fn exporter(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "dcgm-exporter";
    const WHY: &str = "what it says of each GPU instance is recorded between arms; without it, NVML alone tells";
    let Some(exporter) = &facts.exporter else { return Vec::new() };
    let at = &exporter.address;
    let cure = format!("start dcgm-exporter there, or give its address, or off: export {}=127.0.0.1:9400", VARIABLE);
    let of = facts.report.nvml.as_ref().map_or(0, |survey| survey.inventory.gpus.len());
    vec![match &exporter.tells_of {
        Ok(0) if exporter.named => {
            warning(ID, format!("the DCGM exporter at {at} tells of none of these GPUs"), WHY, cure)
        }
        Ok(told) => ok(ID, format!("a DCGM exporter answers at {at}: it tells of {told} of {of} GPU(s)"), WHY),
        Err(why) if exporter.named => warning(ID, why.clone(), WHY, cure),
        Err(_) => ok(ID, format!("no DCGM exporter answers at {at}; none is needed"), WHY),
    }]
}

/// In a container the MIG devices of others are hidden unless asked for.
pub(super) fn monitor_devices(facts: &Facts) -> Vec<Finding> {
    let Ok(survey) = &facts.report.nvml else { return Vec::new() };
    let on_mig = survey.inventory.gpus.iter().any(|g| g.mig == Some(true));
    let asked_for = facts.variables.get("NVIDIA_MIG_MONITOR_DEVICES").is_some_and(|v| v == "all");
    if !on_mig || facts.container.is_none() || asked_for {
        return Vec::new();
    }
    vec![warning(
        "mig-monitor-devices",
        "this container does not see the memory and the processes of other MIG devices",
        "what is not seen cannot be told from what is not there",
        "env: [{ name: NVIDIA_MIG_MONITOR_DEVICES, value: \"all\" }] and securityContext.capabilities.add: [SYS_ADMIN] in the \
         container's manifest",
    )]
}
