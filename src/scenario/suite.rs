//! Ready-made parts of scenarios: what each sharing mode is tested with at each tier, so that a file of four arrangements
//! stays within its tier's budget with its controls. `crosstalk init` puts them together for the machine as found, and the
//! files under scenarios/smoke, acceptance and certify are made of nothing else. At smoke one arrangement of a file has the
//! placebo, and most have one probe.

use super::design::{Design, Tier};
use super::model::SharingMode;
use super::write::quoted;
use crate::units::Nanos;
use crate::workload;

/// A probe or a noise, from the tier on at which it is worth its time.
type From = (&'static str, Tier);

const S: Tier = Tier::Smoke;
const A: Tier = Tier::Acceptance;
const C: Tier = Tier::Certify;

/// Probes with their load. Rates are fixed, so that `check` knows every window beforehand and calibration is short: enough
/// requests for p99 over all blocks in the shortest windows, and few enough that a small share serves them beside noise. What
/// arrives during a turn or a long kernel of somebody else stays within the limit of requests in flight.
const PROBES: &[(&str, &str)] = &[
    ("launch", "arrivals = { poisson = \"1000/s\" }, outstanding = 32"),
    ("compute", "arrivals = { poisson = \"1000/s\" }"),
    ("l2-chase", "arrivals = { poisson = \"400/s\" }"),
    ("hbm-chase", "arrivals = { poisson = \"500/s\" }"),
    ("tlb-chase", "arrivals = { poisson = \"400/s\" }"),
    ("strong-chase", "arrivals = { poisson = \"400/s\" }"),
    ("h2d", "arrivals = { poisson = \"1000/s\" }"),
    ("inference", "arrivals = { poisson = \"500/s\" }"),
];

/// Neighbours with their parameters and why they are there; power is drawn by none, which would need the user's leave.
const NOISES: &[(&str, &str, &str)] = &[
    ("idle", "", "the placebo: its host loop alone"),
    ("compute-burst", "", "long kernels on every SM"),
    ("issue-hog", "", "fills the issue slots from few blocks"),
    ("launch-storm", "", "many short kernels"),
    ("l2-thrash", "", "evicts the L2 cache"),
    ("hbm-read", "", "takes the bandwidth of device memory"),
    ("tlb-thrash", "", "evicts address translations"),
    ("membar-storm", "", "saturates the path of memory barriers"),
    ("atomics", "", "atomic operations at L2"),
    ("d2h", "bytes = \"8MiB\"", "takes the PCIe link, device to host"),
];

/// One arrangement and what runs in it.
pub(super) struct Template {
    pub(super) mode: SharingMode,
    pub(super) name: &'static str,
    /// What to know of it, in one line.
    why: &'static str,
    /// Its other keys, a line each.
    keys: &'static str,
    panel: &'static [From],
    neighbours: &'static [From],
    /// Rules that cover nothing that runs at a tier are left out there.
    require: &'static [(&'static str, &'static str)],
    expect: &'static [(&'static str, &'static str)],
}

const PLACEBO_HOLDS: &[(&str, &str)] = &[("idle", "isolated")];
const ALL_VIOLATED: &[(&str, &str)] = &[("default", "violated"), ("idle", "isolated"), ("pcie", "not-isolated")];
const NOTHING_ISOLATED: &[(&str, &str)] = &[("default", "not-isolated"), ("idle", "isolated")];
/// Tenants with SMs of their own in one memory domain.
const OWN_SMS: &[(&str, &str)] = &[
    ("idle", "isolated"),
    ("block-slots", "isolated"),
    ("issue", "isolated"),
    ("l2", "not-isolated"),
    ("hbm-bandwidth", "not-isolated"),
    ("membar", "not-isolated"),
    ("pcie", "not-isolated"),
];

/// A probe for each channel that a neighbour may reach.
const EVERY_CHANNEL: &[From] = &[
    ("launch", A),
    ("compute", C),
    ("l2-chase", A),
    ("hbm-chase", S),
    ("tlb-chase", C),
    ("strong-chase", A),
    ("h2d", A),
    ("inference", S),
];

/// Two processes in turns.
pub(super) const TIME_SLICING_2: Template = Template {
    mode: SharingMode::TimeSlicing,
    name: "time-slicing-2",
    why: "two processes in turns: nothing isolates them, and the run should show it",
    keys: "tenants = 2\n",
    panel: &[("launch", A), ("compute", C), ("l2-chase", C), ("hbm-chase", C), ("h2d", A), ("inference", S)],
    neighbours: &[
        ("idle", S),
        ("compute-burst", S),
        ("issue-hog", C),
        ("launch-storm", C),
        ("l2-thrash", C),
        ("hbm-read", A),
        ("d2h", A),
    ],
    require: PLACEBO_HOLDS,
    expect: ALL_VIOLATED,
};

/// Four processes in turns.
pub(super) const TIME_SLICING_4: Template = Template {
    name: "time-slicing-4",
    why: "four processes in turns: every request may wait for three of them",
    keys: "tenants = 4\n",
    panel: &[("launch", A), ("hbm-chase", C), ("inference", S)],
    neighbours: &[("idle", A), ("compute-burst", S), ("launch-storm", C), ("hbm-read", A)],
    ..TIME_SLICING_2
};

/// Two clients of one MPS server.
pub(super) const MPS: Template = Template {
    mode: SharingMode::Mps,
    name: "mps-50-50",
    why: "two processes side by side, each with half of the SMs; memory is shared",
    keys: "layout = [{ sms = \"50%\" }, { sms = \"50%\" }]\n",
    panel: EVERY_CHANNEL,
    neighbours: &[
        ("idle", S),
        ("compute-burst", S),
        ("issue-hog", C),
        ("l2-thrash", A),
        ("hbm-read", S),
        ("tlb-thrash", C),
        ("membar-storm", A),
        ("atomics", C),
        ("d2h", A),
    ],
    require: PLACEBO_HOLDS,
    expect: OWN_SMS,
};

/// Two streams of one process.
pub(super) const STREAMS: Template = Template {
    mode: SharingMode::Streams,
    name: "streams-2",
    why: "two streams of one process: order is kept in each, and nothing isolates them",
    keys: "tenants = 2\n",
    panel: &[("launch", A), ("compute", C), ("l2-chase", C), ("hbm-chase", A), ("h2d", A), ("inference", S)],
    neighbours: &[("idle", A), ("compute-burst", S), ("l2-thrash", C), ("hbm-read", A), ("d2h", A)],
    require: PLACEBO_HOLDS,
    expect: NOTHING_ISOLATED,
};

/// Two green contexts of one process.
pub(super) const GREEN_CONTEXTS: Template = Template {
    mode: SharingMode::GreenContexts,
    name: "green-contexts-2",
    why: "two green contexts of one process, each with half of the SMs; memory is shared",
    keys: "tenants = 2\n",
    neighbours: &[("idle", A), ("compute-burst", A), ("l2-thrash", A), ("hbm-read", S), ("issue-hog", C), ("d2h", C)],
    panel: &[("launch", C), ("l2-chase", A), ("hbm-chase", S), ("h2d", C), ("inference", A)],
    ..MPS
};

/// The GPU instances as found.
pub(super) const MIG: Template = Template {
    mode: SharingMode::Mig,
    name: "mig-as-found",
    why: "the instances as found; MIG does not partition the PCIe link, the path of memory barriers, the last-level TLB",
    keys: "layout = \"as-found\"\n",
    panel: EVERY_CHANNEL,
    neighbours: &[
        ("idle", S),
        ("compute-burst", S),
        ("issue-hog", C),
        ("launch-storm", C),
        ("l2-thrash", A),
        ("hbm-read", S),
        ("tlb-thrash", A),
        ("membar-storm", A),
        ("atomics", C),
        ("d2h", A),
    ],
    require: &[("default", "isolated"), ("tlb", "any"), ("pcie", "any"), ("membar-storm/strong-chase", "any")],
    expect: &[("idle", "isolated"), ("d2h/h2d", "not-isolated"), ("membar-storm/strong-chase", "not-isolated")],
};

/// The compute instances of one GPU instance.
pub(super) const COMPUTE_INSTANCES: Template = Template {
    mode: SharingMode::MigComputeInstances,
    name: "compute-instances",
    why: "compute instances of one GPU instance: SMs of their own, one memory; skipped where each instance has one, so \
          nothing is required",
    panel: &[("launch", A), ("compute", C), ("l2-chase", A), ("hbm-chase", S), ("inference", A)],
    neighbours: &[
        ("idle", A),
        ("compute-burst", A),
        ("issue-hog", C),
        ("l2-thrash", A),
        ("hbm-read", S),
        ("membar-storm", C),
    ],
    require: &[],
    expect: &[
        ("idle", "isolated"),
        ("block-slots", "isolated"),
        ("issue", "isolated"),
        ("l2", "not-isolated"),
        ("hbm-bandwidth", "not-isolated"),
    ],
    ..MIG
};

/// Two tenants in turns in each instance.
pub(super) const MIG_TIME_SLICING: Template = Template {
    mode: SharingMode::MigTimeSlicing,
    name: "mig-time-slicing",
    why: "two tenants in turns in each instance as found: shared within, isolated from the others",
    panel: &[("launch", A), ("hbm-chase", C), ("inference", S)],
    neighbours: &[("idle", A), ("compute-burst", S), ("launch-storm", C), ("hbm-read", A)],
    require: PLACEBO_HOLDS,
    expect: ALL_VIOLATED,
    ..MIG
};

/// Two clients of an MPS server in each instance.
pub(super) const MIG_MPS: Template = Template {
    mode: SharingMode::MigMps,
    name: "mig-mps",
    why: "two clients of an MPS server in each instance as found: side by side within, isolated from the others",
    panel: &[("launch", C), ("l2-chase", C), ("hbm-chase", S), ("inference", A)],
    neighbours: &[("idle", A), ("compute-burst", A), ("l2-thrash", C), ("hbm-read", S)],
    require: PLACEBO_HOLDS,
    expect: NOTHING_ISOLATED,
    ..MIG
};

/// Design, victim, neighbours and arrangements of a file with these arrangements; lines beside one stand in place of its
/// own keys.
pub(super) fn body(tier: Tier, arrangements: &[(&Template, Option<String>)]) -> String {
    let mut out = design(tier);
    let runs = |id: &str, of: fn(&Template) -> &'static [From]| {
        arrangements.iter().any(|(template, _)| at(of(template), tier).any(|one| one == id))
    };
    let panel: Vec<_> = PROBES.iter().filter(|(id, _)| runs(id, |t| t.panel)).collect();
    let neighbours: Vec<_> = NOISES.iter().filter(|(id, ..)| runs(id, |t| t.neighbours)).collect();
    out.push_str(
        "\n[victim]\n\
         # Rates are fixed, so that the length of the run is known. Give a probe the load and the objective of your\n\
         # service, for example: { probe = \"inference\", arrivals = { poisson = \"20/s\" }, slo = { p99 = \"50ms\" } }\n\
         panel = [\n",
    );
    for (id, load) in &panel {
        out.push_str(&format!("    {{ probe = \"{id}\", {load} }},\n"));
    }
    out.push_str("]\n");
    for (id, params, why) in &neighbours {
        out.push_str(&format!("\n[[neighbour]] # {why}\nnoise = \"{id}\"\n"));
        if !params.is_empty() {
            out.push_str(&format!("params = {{ {params} }}\n"));
        }
    }
    let (panel, neighbours): (Vec<&str>, Vec<&str>) =
        (panel.iter().map(|(id, _)| *id).collect(), neighbours.iter().map(|(id, ..)| *id).collect());
    for (template, keys) in arrangements {
        out.push_str(&template.section(tier, keys.as_deref().unwrap_or(template.keys), &panel, &neighbours));
    }
    out
}

/// What runs at `tier`.
fn at(all: &'static [From], tier: Tier) -> impl Iterator<Item = &'static str> {
    let rank = |t: Tier| Tier::ALL.iter().position(|x| *x == t);
    all.iter().filter(move |(_, from)| rank(*from) <= rank(tier)).map(|(id, _)| *id)
}

/// Windows and restarts with which the arrangements stay within the budget of their tier.
fn design(tier: Tier) -> String {
    let d = Design { window: window(tier), ..tier.defaults() };
    let judged: Vec<_> = d.judged.iter().map(ToString::to_string).collect();
    let budget = match tier {
        Tier::Smoke => "finds gross violations within 10 minutes",
        Tier::Acceptance => "the sign-off, within an hour",
        Tier::Certify => "once per model, driver and layout, within 10 hours",
    };
    format!(
        "\n[design]\n\
         tier = \"{tier}\" # {budget}: {} blocks, {} judged\n\
         window = \"{}\"\n\
         blocks_per_generation = 6 # tenants restart between these\n",
        d.blocks,
        judged.join(", "),
        d.window,
    )
}

fn window(tier: Tier) -> Nanos {
    match tier {
        Tier::Smoke => Nanos::millis(300),
        Tier::Acceptance => Nanos::millis(250),
        Tier::Certify => Nanos::secs(1),
    }
}

impl Template {
    /// Its table, in a file of this panel and these neighbours.
    fn section(&self, tier: Tier, keys: &str, panel: &[&str], neighbours: &[&str]) -> String {
        let own: Vec<&str> = panel.iter().copied().filter(|id| at(self.panel, tier).any(|one| one == *id)).collect();
        let beside: Vec<&str> =
            neighbours.iter().copied().filter(|id| at(self.neighbours, tier).any(|one| one == *id)).collect();
        let mut out =
            format!("\n# {}\n[[arrangement]]\nname = \"{}\"\nsharing = \"{}\"\n{keys}", self.why, self.name, self.mode);
        for (key, some, all) in [("panel", &own, panel), ("neighbours", &beside, neighbours)] {
            if some.len() < all.len() {
                let list: Vec<String> = some.iter().map(|id| quoted(id)).collect();
                out.push_str(&format!("{key} = [{}]\n", list.join(", ")));
            }
        }
        for (key, rules) in [("require", self.require), ("expect", self.expect)] {
            let rules: Vec<String> = rules
                .iter()
                .filter(|(rule, _)| covers(rule, &own, &beside))
                .map(|(rule, word)| {
                    format!("{} = \"{word}\"", if rule.contains('/') { quoted(rule) } else { (*rule).to_owned() })
                })
                .collect();
            if !rules.is_empty() {
                out.push_str(&format!("{key} = {{ {} }}\n", rules.join(", ")));
            }
        }
        out
    }
}

/// Whether a key of `require` or `expect` covers something of these probes and neighbours.
fn covers(key: &str, panel: &[&str], neighbours: &[&str]) -> bool {
    let channel =
        |id: &&str| workload::find(id).and_then(|w| w.channels.first()).is_some_and(|channel| channel.id() == key);
    match key.split_once('/') {
        Some((noise, probe)) => neighbours.contains(&noise) && panel.contains(&probe),
        None => key == "default" || neighbours.contains(&key) || neighbours.iter().any(channel),
    }
}
