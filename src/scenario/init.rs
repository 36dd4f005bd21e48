//! `crosstalk init`: a commented scenario for the machine as found.

use super::design::Tier;
use super::keys::SCHEMA_VERSION;
use super::write::quoted;
use crate::gpu::{Gpu, GpuModel, Inventory};
use crate::provenance::Provenance;

/// A commented, ready-to-run scenario for the first GPU of `inventory`, whose model is `model` where it is known. MIG
/// instances are tested as found where MIG is on; else time-slicing and, on the simulator, MPS.
pub fn init(inventory: &Inventory, model: Option<&GpuModel>, tier: Tier) -> String {
    let gpu = inventory.gpus.first();
    let product = gpu.map_or("no GPU", |g| g.name.as_str());
    let product = product.strip_prefix("NVIDIA ").unwrap_or(product);
    let mut out = heading(inventory, product, tier);
    out.push_str(&target(inventory, gpu, product));
    out.push_str(&design(tier));
    out.push_str(&panel(tier));
    neighbours(tier).for_each(|n| out.push_str(&n.section()));
    out.push_str(&arrangements(inventory, gpu, model, tier));
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

fn design(tier: Tier) -> String {
    let d = tier.defaults();
    let judged: Vec<_> = d.judged.iter().map(ToString::to_string).collect();
    let budget = match tier {
        Tier::Smoke => "finds gross violations in about 10 minutes",
        Tier::Acceptance => "the sign-off, within an hour",
        Tier::Certify => "once per model, driver and layout, within 10 hours",
    };
    format!(
        "\n[design]\n\
         tier = \"{tier}\" # {budget}: {} blocks, windows of {}, {} judged\n",
        d.blocks,
        d.window,
        judged.join(", "),
    )
}

fn panel(tier: Tier) -> String {
    const SMOKE: &[&str] = &["launch", "hbm-chase", "inference"];
    const ACCEPTANCE: &[&str] = &["l2-chase", "h2d", "strong-chase"];
    const CERTIFY: &[&str] = &["compute", "tlb-chase"];
    let mut probes = SMOKE.to_vec();
    if tier != Tier::Smoke {
        probes.extend(ACCEPTANCE);
    }
    if tier == Tier::Certify {
        probes.extend(CERTIFY);
    }
    let lines: String = probes.iter().map(|id| format!("    {{ probe = \"{id}\" }},\n")).collect();
    format!(
        "\n[victim]\n\
         # Give a probe the load and the objective of your service, for example:\n\
         #   {{ probe = \"inference\", arrivals = {{ poisson = \"20/s\" }}, slo = {{ p99 = \"50ms\" }} }}\n\
         panel = [\n{lines}]\n"
    )
}

/// One neighbour of the generated scenario.
struct Noise {
    id: &'static str,
    why: &'static str,
    from: Tier,
}

impl Noise {
    fn section(&self) -> String {
        format!("\n[[neighbour]]\nnoise = \"{}\" # {}\n", self.id, self.why)
    }
}

const NOISES: &[Noise] = &[
    Noise { id: "idle", why: "the placebo: its host loop alone", from: Tier::Smoke },
    Noise { id: "compute-burst", why: "long kernels on every SM", from: Tier::Smoke },
    Noise { id: "l2-thrash", why: "evicts the L2 cache", from: Tier::Acceptance },
    Noise { id: "hbm-read", why: "takes the bandwidth of device memory", from: Tier::Smoke },
    Noise { id: "tlb-thrash", why: "evicts address translations", from: Tier::Acceptance },
    Noise { id: "membar-storm", why: "saturates the path of memory barriers", from: Tier::Acceptance },
    Noise { id: "atomics", why: "atomic operations at L2", from: Tier::Certify },
    Noise { id: "issue-hog", why: "fills the issue slots from few blocks", from: Tier::Acceptance },
    Noise { id: "launch-storm", why: "many short kernels", from: Tier::Certify },
    Noise { id: "d2h", why: "takes the PCIe link, device to host", from: Tier::Smoke },
];

fn neighbours(tier: Tier) -> impl Iterator<Item = &'static Noise> {
    let rank = |t: Tier| Tier::ALL.iter().position(|x| *x == t);
    NOISES.iter().filter(move |n| rank(n.from) <= rank(tier))
}

fn arrangements(inventory: &Inventory, gpu: Option<&Gpu>, model: Option<&GpuModel>, tier: Tier) -> String {
    // What this version cannot arrange on hardware is not written for it.
    let simulated = inventory.provenance == Provenance::Simulated;
    match gpu {
        // One without a UUID has no compute instance, so that no process can use it.
        Some(gpu) if gpu.mig == Some(true) && gpu.instances.iter().all(|i| i.uuid.is_empty()) => {
            mig_without_instances(model, tier)
        }
        Some(gpu) if gpu.mig == Some(true) => mig_as_found(gpu, tier),
        _ => format!("{TIME_SLICING}{}{}", if simulated { MPS } else { "" }, mig_hint(model)),
    }
}

const TIME_SLICING: &str = r#"
[[arrangement]] # two processes in turns: nothing isolates them, and the run should show it
name = "time-slicing"
sharing = "time-slicing"
tenants = 2
require = { idle = "isolated" }
expect = { block-slots = "violated", hbm-bandwidth = "violated" }
"#;

const MPS: &str = r#"
[[arrangement]] # two processes side by side, each with half of the SMs; memory is shared
name = "mps-50-50"
sharing = "mps"
layout = [{ sms = "50%" }, { sms = "50%" }]
require = { idle = "isolated" }
expect = { hbm-bandwidth = "not-isolated" }
"#;

const COMPUTE_INSTANCES: &str = r#"
[[arrangement]] # compute instances as found: those of one GPU instance share its memory, bandwidth and L2
name = "compute-instances-as-found"
sharing = "mig-compute-instances"
layout = "as-found"
require = { idle = "isolated" }
expect = { hbm-bandwidth = "not-isolated" }
"#;

/// What MIG isolates and what it does not: the PCIe link, the path of memory barriers and the last-level TLB hang on the
/// whole GPU.
fn mig_rules(tier: Tier) -> &'static str {
    match tier {
        // No probe of the smoke panel copies much: PCIe noise may pass unnoticed, so nothing is expected of it.
        Tier::Smoke => {
            "require = { default = \"isolated\", pcie = \"any\" } # MIG does not partition the PCIe link\n\
             expect = { idle = \"isolated\" }\n"
        }
        Tier::Acceptance | Tier::Certify => {
            "# MIG does not partition the PCIe link, the path of memory barriers and the last-level TLB.\n\
             require = { default = \"isolated\", pcie = \"any\", tlb = \"any\", \"membar-storm/strong-chase\" = \"any\" }\n\
             expect = { \"d2h/h2d\" = \"not-isolated\", \"membar-storm/strong-chase\" = \"not-isolated\" }\n"
        }
    }
}

fn mig_as_found(gpu: &Gpu, tier: Tier) -> String {
    if gpu.instances.iter().enumerate().any(|(n, a)| gpu.instances.iter().skip(n + 1).any(|b| a.shares_gpu_instance(b)))
    {
        return COMPUTE_INSTANCES.to_owned();
    }
    let profiles: Vec<_> = gpu.instances.iter().map(|i| i.profile.as_str()).collect();
    let mut out = String::new();
    if profiles.len() > 1 {
        out.push_str(&format!(
            "\n[[arrangement]] # the instances as found: {}\n\
             name = \"mig-as-found\"\n\
             sharing = \"mig\"\n\
             layout = \"as-found\"\n{}",
            comment(&profiles.join(", ")),
            mig_rules(tier),
        ));
    }
    // The largest instance is the one that people share further.
    let largest =
        gpu.instances.iter().enumerate().max_by_key(|(i, inst)| (inst.size, usize::MAX - i)).map_or(0, |(i, _)| i);
    let shares = profiles.iter().enumerate().map(|(i, profile)| match i == largest {
        true => format!("{{ profile = {}, tenants = 2 }}", quoted(profile)),
        false => quoted(profile),
    });
    out.push_str(&format!(
        "\n[[arrangement]] # two tenants in turns inside one instance: shared within, isolated from the others\n\
         name = \"mig-time-slicing\"\n\
         sharing = \"mig+time-slicing\"\n\
         layout = [{}]\n\
         victim_at = [\"{largest}.0\"]\n\
         neighbour_at = [\"{largest}.1\"]\n\
         require = {{ idle = \"isolated\" }}\n\
         expect = {{ block-slots = \"violated\", hbm-bandwidth = \"violated\" }}\n",
        shares.collect::<Vec<_>>().join(", "),
    ));
    out
}

/// MIG is on and nothing can run: ask for the two largest equal instances that the model has.
fn mig_without_instances(model: Option<&GpuModel>, tier: Tier) -> String {
    match twins(model) {
        Some(profile) => format!(
            "\n[[arrangement]] # MIG is on without instances: create these two first (`nvidia-smi mig -cgi ID,ID -C`)\n\
             name = \"mig-twins\"\n\
             sharing = \"mig\"\n\
             layout = [{profile}, {profile}]\n{}",
            mig_rules(tier),
            profile = quoted(profile),
        ),
        None => format!(
            "\n# MIG is on without instances, and the profiles of this GPU are not known: create some (`nvidia-smi mig -lgip`\n\
             # lists the profiles), or turn MIG off for the arrangement below.\n{TIME_SLICING}"
        ),
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
