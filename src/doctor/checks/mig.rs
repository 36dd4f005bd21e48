//! MIG: states that look alike and are not, and who owns the layout.

use super::{ok, problem, warning};
use crate::doctor::facts::{DRA_FILES, MIG_PARTED_FILES};
use crate::doctor::{Facts, Finding};
use crate::gpu::{Gpu, twins};

fn gpus(facts: &Facts) -> &[Gpu] {
    facts.report.nvml.as_ref().map_or(&[], |s| &s.inventory.gpus)
}

pub(super) fn states(facts: &Facts) -> Vec<Finding> {
    const WHY: &str = "a process on a MIG GPU lands on one instance, whatever it asks for, or finds none";
    let mut found = Vec::new();
    for gpu in gpus(facts) {
        let uuid = &gpu.uuid;
        if let Some(pending) = gpu.mig_pending {
            let (now, then) = if pending { ("off", "on") } else { ("on", "off") };
            found.push(warning(
                "mig-pending",
                format!("GPU {uuid}: MIG is {now} and will be {then} after the next reset"),
                "a reset between two runs would change what is compared",
                "finish the change (drain the GPU, then `nvidia-smi --gpu-reset`), or take it back (`nvidia-smi -mig`)",
            ));
        }
        if gpu.mig != Some(true) {
            continue;
        }
        if gpu.instances.is_empty() {
            found.push(problem(
                "mig-without-instances",
                format!("GPU {uuid}: MIG is on and there is no GPU instance"),
                WHY,
                format!(
                    "nvidia-smi mig -i {uuid} -lgip, then -cgi PROFILE -C; or turn MIG off: nvidia-smi -i {uuid} -mig 0"
                ),
            ));
        }
        for bare in gpu.instances.iter().filter(|i| i.uuid.is_empty()) {
            let id = bare.gpu_instance.map_or("GI".to_owned(), |id| id.to_string());
            found.push(problem(
                "mig-without-compute-instance",
                format!("GPU {uuid}: the GPU instance {} {} has no compute instance", bare.profile, bare.place()),
                WHY,
                format!("nvidia-smi mig -i {uuid} -gi {id} -cci"),
            ));
        }
        if let Some((a, b)) = twins(&gpu.instances) {
            found.push(warning(
                "mig-compute-instances",
                format!("GPU {uuid}: {} and {} are compute instances of one GPU instance", a.uuid, b.uuid),
                "they share memory, L2, bandwidth and copy engines: no isolation between them is to be expected",
                "test them with sharing = \"mig-compute-instances\", or give each tenant a GPU instance",
            ));
        }
        if gpu.instances.iter().any(|i| i.start.is_none()) {
            found.push(super::unknown(
                "mig-placements",
                format!("GPU {uuid}: the driver keeps the places of the instances from this user"),
                "a baseline belongs to one layout, and a layout is profiles and places",
                "run as root, or with access to the MIG monitor capability (NVIDIA_MIG_MONITOR_DEVICES=all in a container)",
            ));
        }
    }
    let on = gpus(facts).iter().filter(|g| g.mig == Some(true)).count();
    if on > 0 && on < gpus(facts).len() {
        found.push(warning(
            "mig-beside-plain",
            format!("MIG is on on {on} of {} GPUs", gpus(facts).len()),
            "CUDA hides plain GPUs beside MIG devices, and ordinals mean different devices to different programs",
            "name every device by its UUID (`nvidia-smi -L`)",
        ));
    }
    if on > 0 && found.is_empty() {
        let instances: usize = gpus(facts).iter().map(|g| g.instances.len()).sum();
        found.push(ok("mig", format!("MIG is on with {instances} instance(s), each with its compute instance"), WHY));
    }
    found
}

/// Who changes the layout behind a run's back.
pub(super) fn owner(facts: &Facts) -> Vec<Finding> {
    const WHY: &str = "what owns the layout may change it during a run, and undoes what others change";
    // Without MIG there is no layout, now or after the next reset.
    if gpus(facts).iter().all(|g| g.mig != Some(true) && g.mig_pending.is_none()) {
        return Vec::new();
    }
    let owned =
        |(by, cure): (&str, &str)| warning("layout-owner", format!("the MIG layout is owned by {by}"), WHY, cure);
    let mut found: Vec<Finding> = owners(facts).into_iter().map(owned).collect();
    if runs(facts, &["nvidia-device-plugin", "nvidia-device-p"]) && found.is_empty() {
        found.push(warning(
            "layout-owner",
            "the Kubernetes device plugin hands out the GPUs of this node".to_owned(),
            WHY,
            "cordon the node while a run takes a GPU that no pod was given: kubectl cordon $NODE",
        ));
    }
    found
}

fn runs(facts: &Facts, names: &[&str]) -> bool {
    facts.programs.iter().any(|p| names.iter().any(|n| p.name.starts_with(n)))
}

/// Who owns the MIG layouts of this machine, and how each changes them.
pub(in crate::doctor) fn owners(facts: &Facts) -> Vec<(&'static str, &'static str)> {
    let runs = |names: &[&str]| runs(facts, names);
    let has = |files: &[&str]| facts.files.iter().any(|f| files.contains(f));
    let mut found = Vec::new();
    let mut owned = |by, cure| found.push((by, cure));
    const LABEL: &str = "kubectl label node $NODE nvidia.com/mig.config=LAYOUT --overwrite, and wait for \
        nvidia.com/mig.config.state=success";
    if runs(&["nvidia-mig-manag", "mig-manager"]) {
        owned("the GPU operator's MIG manager", LABEL);
    }
    if runs(&["gpu-kubelet-plug"]) || has(DRA_FILES) {
        owned(
            "the DRA driver, which tears down MIG devices that it does not know",
            "claim the instance by a ResourceClaim",
        );
    }
    if has(MIG_PARTED_FILES) {
        owned(
            "the nvidia-mig-manager service",
            "nvidia-mig-parted apply -f CONFIG -c LAYOUT, by the service's own configuration",
        );
    }
    if facts.variables.contains_key("SLURM_JOB_ID") || runs(&["slurmd"]) {
        owned("Slurm (gres.conf)", "drain the node: scontrol update nodename=$NODE state=drain reason=crosstalk");
    }
    found
}
