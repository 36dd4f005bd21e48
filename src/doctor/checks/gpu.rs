//! Health and settings of each GPU.

use super::{ok, problem, unknown, warning};
use crate::backend::{GpuHealth, GpuReading};
use crate::doctor::{Facts, Finding};
use crate::gpu::Gpu;

/// Each GPU with its health and its state now.
fn each(facts: &Facts) -> impl Iterator<Item = (&Gpu, &GpuHealth, &GpuReading)> {
    let survey = facts.report.nvml.as_ref().ok();
    survey.into_iter().flat_map(|s| s.inventory.gpus.iter().zip(&s.health).zip(&s.now)).map(|((g, h), n)| (g, h, n))
}

pub(super) fn persistence(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "persistence-mode";
    const WHY: &str =
        "without it the driver unloads between two clients: settings fall back, and a first context takes seconds";
    let check = |(gpu, health, _): (&Gpu, &GpuHealth, &GpuReading)| {
        let uuid = &gpu.uuid;
        Some(match health.persistence? {
            true => ok(ID, format!("GPU {uuid}: persistence mode is on"), WHY),
            false => warning(
                ID,
                format!("GPU {uuid}: persistence mode is off"),
                WHY,
                format!("systemctl enable --now nvidia-persistenced, or nvidia-smi -i {uuid} -pm 1"),
            ),
        })
    };
    each(facts).filter_map(check).collect()
}

/// Memory errors: rows waiting to be replaced, rows that could not be, and uncorrected errors.
pub(super) fn memory(facts: &Facts) -> Vec<Finding> {
    const WHY: &str = "broken memory slows and ends programs, which would be blamed on a neighbour";
    let mut found = Vec::new();
    for (gpu, health, _) in each(facts) {
        let uuid = &gpu.uuid;
        let reset = format!("drain the GPU, then nvidia-smi -i {uuid} --gpu-reset, or reboot");
        let before = found.len();
        if let Some(rows) = health.remapped {
            if rows.pending {
                let what = format!("GPU {uuid}: remapped rows are pending: memory waits for a reset to be replaced");
                found.push(warning("remapped-rows", what, WHY, reset.clone()));
            }
            if rows.failed {
                let what = format!("GPU {uuid}: a row of memory could not be remapped");
                found.push(problem("remapped-rows", what, WHY, "replace the card: it has run out of spare rows"));
            }
        }
        if let Some(ecc) = health.ecc.filter(|e| e.uncorrected > 0) {
            let what =
                format!("GPU {uuid}: {} uncorrected memory error(s) since the driver was loaded", ecc.uncorrected);
            found.push(problem("ecc", what, WHY, reset));
        }
        if found.len() == before && (health.ecc.is_some() || health.remapped.is_some()) {
            found.push(ok("ecc", format!("GPU {uuid}: no uncorrected memory errors, no rows pending"), WHY));
        }
    }
    found
}

/// What holds the clock down before anything runs.
pub(super) fn clocks(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "clocks";
    const WHY: &str = "a GPU that is throttled before the first arm hides interference, or shows it where none is";
    let held_down = |(gpu, _, now): (&Gpu, &GpuHealth, &GpuReading)| {
        let (bits, uuid) = (now.throttle?, &gpu.uuid);
        let clock = now.sm_mhz.map_or(String::new(), |mhz| format!(", SM clock {mhz} MHz"));
        let cures = [
            (0x4, "the power cap", "nvidia-smi -q -d POWER: raise the cap, or let the load end"),
            (0x8, "the board (HW slowdown)", "check power cables and cooling"),
            (0x20, "heat (SW thermal)", "check cooling; let the GPU cool down"),
            (0x40, "heat (HW thermal)", "check cooling; let the GPU cool down"),
            (0x80, "the power brake", "check the power supply of the node"),
        ];
        let by: Vec<&(u64, &str, &str)> = cures.iter().filter(|(bit, ..)| bits & bit != 0).collect();
        if by.is_empty() {
            return Some(ok(ID, format!("GPU {uuid}: nothing holds the clock down{clock}"), WHY));
        }
        let causes: Vec<&str> = by.iter().map(|c| c.1).collect();
        Some(warning(ID, format!("GPU {uuid}: the clock is held down by {}{clock}", causes.join(", ")), WHY, by[0].2))
    };
    each(facts).filter_map(held_down).collect()
}

pub(super) fn compute_mode(facts: &Facts) -> Vec<Finding> {
    let restricted = |(gpu, health, _): (&Gpu, &GpuHealth, &GpuReading)| {
        let mode = health.compute_mode.as_deref().filter(|m| *m != "Default")?;
        Some(problem(
            "compute-mode",
            format!("GPU {}: compute mode is {mode}", gpu.uuid),
            "tenants in time-slicing are processes of their own, and this mode allows one or none",
            format!("nvidia-smi -i {} -c DEFAULT", gpu.uuid),
        ))
    };
    each(facts).filter_map(restricted).collect()
}

/// A link narrower than the card's. The generation falls on idle links of some parts: only the width is judged.
pub(super) fn pcie(facts: &Facts) -> Vec<Finding> {
    let narrow = |(gpu, health, _): (&Gpu, &GpuHealth, &GpuReading)| {
        let link = health.pcie?;
        let most = link.max_width.filter(|most| link.width < *most)?;
        Some(warning(
            "pcie-width",
            format!(
                "GPU {}: the PCIe link has {} of {most} lanes (generation {})",
                gpu.uuid, link.width, link.generation
            ),
            "copies are slower than the card's, and saturate sooner",
            "reseat the card, or check the slot and the riser",
        ))
    };
    each(facts).filter_map(narrow).collect()
}

/// Virtual GPUs are named and not judged: what else runs on the card cannot be seen from a guest.
pub(super) fn virtualization(facts: &Facts) -> Vec<Finding> {
    let named = |(gpu, ..): (&Gpu, &GpuHealth, &GpuReading)| {
        let words = gpu.virtualization?.words()?;
        Some(unknown(
            "virtual-gpu",
            format!("GPU {} ({}) is {words}: recognised, not judged", gpu.uuid, gpu.name),
            "other machines' work on the card, and the hypervisor's on its CPUs, is invisible from here and would be measured \
             as this machine's interference",
            "measure on the bare machine; or keep the card's other guests and the host idle, and read the verdict as one on \
             this virtual GPU",
        ))
    };
    each(facts).filter_map(named).collect()
}
