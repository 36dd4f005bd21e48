//! `crosstalk init`: a commented scenario for the machine as found.

use super::design::Tier;
use super::keys::SCHEMA_VERSION;
use super::model::SharingMode;
use super::suite::{self, Template};
use super::write::quoted;
use crate::gpu::{Gpu, GpuModel, Inventory};
use crate::provenance::Provenance;
use crate::sharing;

/// A commented, ready-to-run scenario for the first GPU of `inventory`, whose model is `model` where it is known. MIG
/// instances are tested as found where MIG is on; else time-slicing, MPS, streams and green contexts, as far as this
/// version arranges them there.
pub fn init(inventory: &Inventory, model: Option<&GpuModel>, tier: Tier) -> String {
    let gpu = inventory.gpus.first();
    let product = gpu.map_or("no GPU", |g| g.name.as_str());
    let product = product.strip_prefix("NVIDIA ").unwrap_or(product);
    let mut out = heading(inventory, product, tier);
    out.push_str(&target(inventory, gpu, product));
    match gpu {
        // One without a UUID has no compute instance, so that no process can use it.
        Some(gpu) if gpu.mig == Some(true) && gpu.instances.iter().all(|i| i.uuid.is_empty()) => {
            out.push_str(&mig_without_instances(model, tier));
        }
        Some(gpu) if gpu.mig == Some(true) => {
            out.push_str(&suite::body(tier, &arrangements(inventory, Some(gpu), tier)))
        }
        _ => {
            out.push_str(&suite::body(tier, &arrangements(inventory, gpu, tier)));
            out.push_str(&mig_hint(model));
        }
    }
    out
}

/// The opening comment and the name.
fn heading(inventory: &Inventory, product: &str, tier: Tier) -> String {
    let others = match inventory.gpus.len() {
        0 | 1 => String::new(),
        n => format!(" (the first of {n} GPUs)"),
    };
    let mut name = String::new();
    for c in product.chars() {
        match c {
            c if c.is_ascii_alphanumeric() => name.push(c.to_ascii_lowercase()),
            _ if !name.is_empty() && !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    let name = format!("{name}-{tier}").trim_start_matches('-').replace("--", "-");
    format!(
        "# {}{others}: are tenants that share this GPU isolated from one another?\n\
         # `crosstalk check` on this file prints what it resolves to and how long it takes; `crosstalk run` runs it.\n\
         schema = {SCHEMA_VERSION}\n\
         name = {}\n",
        comment(product),
        quoted(&name),
    )
}

/// Text from the machine on one line of a comment.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Which device: the simulated one as it stands, or any GPU of this product.
fn target(inventory: &Inventory, gpu: Option<&Gpu>, product: &str) -> String {
    let Some(gpu) = gpu else {
        return "# No GPU was found here: say which one this is for, as in gpu = \"H100*\"\n".to_owned();
    };
    match (inventory.provenance, &gpu.model) {
        (Provenance::Simulated, Some(model)) => {
            let profiles: Vec<_> = gpu.instances.iter().map(|i| i.profile.as_str()).collect();
            let layout = if profiles.is_empty() { String::new() } else { format!("/{}", profiles.join("+")) };
            format!(
                "device = {} # a simulated GPU: nothing is measured on hardware\n",
                quoted(&format!("sim:{model}{layout}"))
            )
        }
        _ if product.is_empty() => String::new(),
        _ => format!("gpu = {}\n", quoted(product)),
    }
}

/// An arrangement, and lines in place of its own keys.
type Chosen = (&'static Template, Option<String>);

/// What is tested on this machine, each arrangement with its keys: what this version arranges there, and as
/// much as the tier's budget takes.
fn arrangements(inventory: &Inventory, gpu: Option<&Gpu>, tier: Tier) -> Vec<Chosen> {
    let mut chosen: Vec<Chosen> = match gpu {
        Some(gpu) if gpu.mig == Some(true) => mig_as_found(gpu),
        _ => {
            let mut plain = vec![&suite::TIME_SLICING_2, &suite::MPS, &suite::STREAMS, &suite::GREEN_CONTEXTS];
            // What the budgets of the shorter tiers do not take.
            if tier == Tier::Certify {
                plain.insert(1, &suite::TIME_SLICING_4);
            }
            plain.into_iter().map(|template| (template, None)).collect()
        }
    };
    chosen.retain(|(template, _)| template.mode != SharingMode::GreenContexts || has_green_contexts(inventory));
    let arranged = |mode| inventory.provenance == Provenance::Simulated || sharing::on_hardware(mode);
    if chosen.iter().any(|(template, _)| arranged(template.mode)) {
        chosen.retain(|(template, _)| arranged(template.mode));
    }
    // Else what is there is asked for all the same: `check` says why it is skipped.
    chosen
}

/// Whether the driver has green contexts: from CUDA 12.4 on. One that does not say is asked by the run.
fn has_green_contexts(inventory: &Inventory) -> bool {
    let version = inventory.cuda.as_deref().and_then(|cuda| {
        let (major, minor) = cuda.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    version.is_none_or(|version| version >= (12, 4))
}

fn mig_as_found(gpu: &Gpu) -> Vec<Chosen> {
    let instances = &gpu.instances;
    let twins =
        instances.iter().enumerate().any(|(n, a)| instances.iter().skip(n + 1).any(|b| a.shares_gpu_instance(b)));
    if twins {
        return vec![(&suite::COMPUTE_INSTANCES, None)];
    }
    // The largest instance is the one that people share further.
    let largest = instances.iter().enumerate().max_by_key(|(i, inst)| (inst.size, usize::MAX - i));
    let at = largest.map(|(i, _)| format!("layout = \"as-found\"\nvictim_at = [\"{i}.0\"]\n"));
    let mut chosen = Vec::new();
    if instances.len() > 1 {
        chosen.push((&suite::MIG, None));
    }
    chosen.push((&suite::MIG_TIME_SLICING, at.clone()));
    chosen.push((&suite::MIG_MPS, at));
    chosen
}

/// MIG is on and nothing can run: ask for the two largest equal instances that the model has.
fn mig_without_instances(model: Option<&GpuModel>, tier: Tier) -> String {
    match twins(model) {
        Some(profile) => {
            let profile = quoted(profile);
            let layout = format!(
                "# MIG is on without instances: create these two first (`nvidia-smi mig -cgi ID,ID -C`)\n\
                 layout = [{profile}, {profile}]\n"
            );
            suite::body(tier, &[(&suite::MIG, Some(layout))])
        }
        None => {
            let body = suite::body(tier, &[(&suite::TIME_SLICING_2, None)]);
            format!(
                "{body}\n# MIG is on without instances, and the profiles of this GPU are not known: create some (`nvidia-smi \
                 mig -lgip`\n# lists the profiles), or turn MIG off for the arrangement above.\n"
            )
        }
    }
}

/// The largest profile of which two fit.
fn twins(model: Option<&GpuModel>) -> Option<&str> {
    let profiles = &model?.mig.as_ref()?.profiles;
    profiles.iter().filter(|p| p.max >= 2).max_by_key(|p| (p.slices, p.memory_mib)).map(|p| p.name.as_str())
}

/// Where MIG is off but the model has it: the arrangement to uncomment.
fn mig_hint(model: Option<&GpuModel>) -> String {
    let Some(profile) = twins(model) else { return String::new() };
    let profile = comment(profile);
    format!(
        "\n# This model has MIG. With MIG on (an operator turns it on; crosstalk never does), test it as well:\n\
         # [[arrangement]]\n\
         # name = \"mig-twins\"\n\
         # sharing = \"mig\"\n\
         # layout = [\"{profile}\", \"{profile}\"]\n\
         # require = {{ default = \"isolated\", pcie = \"any\" }}\n"
    )
}
