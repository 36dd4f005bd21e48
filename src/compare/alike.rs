//! What two runs must have in common to be compared: card, model, layout, scenario and design, and where their numbers come
//! from. Driver, CUDA and crosstalk itself may differ: they are what is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::{Plan, PlannedHazard, PlannedNeighbour, PlannedProbe};
use crate::provenance::Provenance;
use crate::run_dir::Digest;
use crate::scenario::{LayoutEntry, Margins, MpsDaemon, Quantile, SharingMode, Tier, TimeSlice};
use crate::units::{Bytes, Nanos};

/// A way in which two runs may be unlike, which somebody may allow. Provenance is none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Another model of GPU.
    Model,
    /// Another card.
    Uuid,
    /// Other shares: modes, profiles and their placements.
    Layout,
    /// Other probes, neighbours, hazards, cells or margins.
    Scenario,
    /// Another tier, or other sizes.
    Tier,
}

impl Key {
    /// Every key.
    pub const ALL: &[Self] = &[Self::Model, Self::Uuid, Self::Layout, Self::Scenario, Self::Tier];

    /// The word of the command line.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Uuid => "uuid",
            Self::Layout => "layout",
            Self::Scenario => "scenario",
            Self::Tier => "tier",
        }
    }
}

/// The name under which a difference of provenance is told; nothing allows it.
const PROVENANCE: &str = "provenance";

/// What a run is of. Two runs are compared where all of it is the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alike {
    /// Where the numbers come from.
    pub provenance: Provenance,
    /// UUID of the card ("GPU-…").
    pub uuid: String,
    /// Its model.
    pub model: Model,
    /// Who has which share.
    pub layout: Layout,
    /// What runs there.
    pub scenario: Asked,
    /// How much of it.
    pub tier: Sizes,
}

/// A model of GPU as found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Product name.
    pub name: String,
    /// Id in `crosstalk list gpus`, where it is known.
    pub id: Option<String>,
    /// Device memory, bytes.
    pub memory: Option<Bytes>,
    /// SMs.
    pub sms: Option<u32>,
}

/// Shares of the GPU: profiles and placements. The UUIDs of MIG devices are no part of it: a layout made anew has others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// MIG instances as found when the run was planned: "3g.40gb@4", or "3g.40gb@?" where the driver keeps the place to itself.
    pub instances: Vec<String>,
    /// By arrangement.
    pub arrangements: BTreeMap<String, Shares>,
}

/// Shares of one arrangement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// Sharing mode.
    pub sharing: SharingMode,
    /// Whose control daemon MPS runs under.
    pub mps_daemon: MpsDaemon,
    /// Level of the time slice, where one was set.
    pub time_slice: Option<TimeSlice>,
    /// The layout.
    pub shares: Vec<LayoutEntry>,
    /// Its seats, in words.
    pub seats: Vec<String>,
}

/// What a scenario asks, without what it requires: policy is no part of a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Probes by name, without their objectives.
    pub probes: BTreeMap<String, PlannedProbe>,
    /// Neighbours by name.
    pub neighbours: BTreeMap<String, PlannedNeighbour>,
    /// Hazards by name.
    pub hazards: BTreeMap<String, PlannedHazard>,
    /// Margins of the verdicts.
    pub margins: Margins,
    /// Cells and hazards in their places: `arrangement[@seat]/neighbour`.
    pub cells: BTreeSet<String>,
}

/// Tier and sizes of an experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// Tier.
    pub tier: Tier,
    /// Blocks.
    pub blocks: u32,
    /// Blocks between two restarts of the tenants.
    pub blocks_per_generation: u32,
    /// Length of a window.
    #[serde(rename = "window_ns")]
    pub window: Nanos,
    /// The longest window of a slow probe.
    #[serde(rename = "max_window_ns")]
    pub max_window: Nanos,
    /// Judged quantiles.
    pub judged: Vec<Quantile>,
}

impl Alike {
    /// What a run is of.
    pub(super) fn of(digest: &Digest) -> Self {
        let plan = &digest.manifest.plan;
        let gpu = plan.gpu();
        let design = &plan.design;
        let cells = digest.verdict.cells.iter().map(|cell| cell.name.clone());
        let hazards = digest.verdict.hazards.iter().map(|hazard| hazard.name.clone());
        let named = |probe: &PlannedProbe| (probe.name.clone(), PlannedProbe { slos: Vec::new(), ..probe.clone() });
        Self {
            provenance: digest.provenance,
            uuid: gpu.uuid.clone(),
            model: Model { name: gpu.name.clone(), id: gpu.model.clone(), memory: gpu.memory, sms: gpu.sms },
            layout: layout(plan),
            scenario: Asked {
                probes: plan.panel.iter().map(named).collect(),
                neighbours: plan.neighbours.iter().map(|n| (n.name.clone(), n.clone())).collect(),
                hazards: plan.hazards.iter().map(|h| (h.name.clone(), h.clone())).collect(),
                margins: design.margins.clone(),
                cells: cells.chain(hazards).collect(),
            },
            tier: Sizes {
                tier: design.tier,
                blocks: design.blocks,
                blocks_per_generation: design.blocks_per_generation,
                window: design.window,
                max_window: design.max_window,
                judged: design.judged.clone(),
            },
        }
    }

    /// Every difference between two runs, the base first; empty where they are alike.
    pub fn differences(&self, new: &Self) -> Vec<Difference> {
        // What is declared above serialises; where it did not, the two would be unlike, never alike.
        let value = |alike: &Self| serde_json::to_value(alike).unwrap_or(Value::Null);
        let (base, new) = (value(self), value(new));
        let mut out = Vec::new();
        for key in [PROVENANCE].into_iter().chain(Key::ALL.iter().map(|key| key.id())) {
            let mut found = Vec::new();
            walk(String::new(), &base[key], &new[key], &mut found);
            out.extend(found.into_iter().map(|(what, base, new)| Difference { key: key.to_owned(), what, base, new }));
        }
        out
    }

    /// What of it is allowed, where nothing else is there.
    ///
    /// # Errors
    /// Where there is a difference that is not `allowed`: all those.
    pub fn check(&self, new: &Self, allowed: &[Key]) -> Result<Vec<Difference>, Unlike> {
        let may = |d: &Difference| allowed.iter().any(|key| key.id() == d.key);
        let (allowed, refused): (Vec<_>, Vec<_>) = self.differences(new).into_iter().partition(may);
        if refused.is_empty() { Ok(allowed) } else { Err(Unlike { differences: refused }) }
    }

    /// The card, in words.
    pub(super) fn card(&self) -> String {
        format!("{} ({})", self.model.name, self.uuid)
    }

    /// The same card in the same layout: whether levels of one can be held against the other's.
    pub(super) fn same_place(&self, other: &Self) -> bool {
        (&self.uuid, &self.model, &self.layout) == (&other.uuid, &other.model, &other.layout)
    }
}

fn layout(plan: &Plan) -> Layout {
    let mut instances: Vec<String> = plan
        .gpu()
        .instances
        .iter()
        .map(|i| format!("{}@{}", i.profile, i.start.map_or_else(|| "?".to_owned(), |start| start.to_string())))
        .collect();
    instances.sort();
    let shares = plan.arrangements.iter().map(|a| {
        let shares = Shares {
            sharing: a.sharing,
            mps_daemon: a.mps_daemon,
            time_slice: a.time_slice,
            shares: a.layout.clone(),
            seats: a.seats.iter().map(|seat| format!("{}: {}", seat.id, seat.share)).collect(),
        };
        (a.name.clone(), shares)
    });
    Layout { instances, arrangements: shares.collect() }
}

/// Where two documents differ: the path, and what stands there. Lists of texts are compared as sets, so that one more of
/// them is one difference.
fn walk(path: String, base: &Value, new: &Value, out: &mut Vec<(String, String, String)>) {
    const NONE: &str = "none";
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (base, new) {
        (base, new) if base == new => {}
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => walk(join(key), a, b, out),
                    // A whole entry that the other has not: its name says enough.
                    (Some(_), None) => out.push((join(key), "there".to_owned(), NONE.to_owned())),
                    (None, _) => out.push((join(key), NONE.to_owned(), "there".to_owned())),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.iter().chain(b).all(Value::is_string) && !same_set(a, b) => {
            let of = |list: &[Value], other: &[Value]| {
                let only: Vec<&str> = list.iter().filter(|v| !other.contains(v)).filter_map(Value::as_str).collect();
                if only.is_empty() { NONE.to_owned() } else { only.join(", ") }
            };
            out.push((format!("{path} (those of one only)"), of(a, b), of(b, a)));
        }
        (base, new) => out.push((path, text(base), text(new))),
    }
}

/// Whether two lists hold the same texts: then they differ in their order or in how often, and are shown whole.
fn same_set(a: &[Value], b: &[Value]) -> bool {
    a.iter().all(|v| b.contains(v)) && b.iter().all(|v| a.contains(v))
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "unknown".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// One way in which two runs are unlike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Difference {
    /// What `--allow-different` calls it, or "provenance", which nothing allows.
    pub key: String,
    /// Where; empty: the key itself.
    pub what: String,
    /// In the base.
    pub base: String,
    /// In the new run.
    pub new: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, what, base, new } = self;
        let dot = if what.is_empty() { "" } else { " " };
        write!(f, "{key}{dot}{what}: base {base}, new {new}")
    }
}

/// Why two runs are not compared: every difference that nobody allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.words())]
pub struct Unlike {
    /// Each of them.
    pub differences: Vec<Difference>,
}

impl Unlike {
    fn words(&self) -> String {
        let mut lines =
            vec!["these runs are unlike, and a change of one would be a change of what was asked:".to_owned()];
        lines.extend(
            self.differences.iter().map(|difference| format!("  {}", crate::report::escape(&difference.to_string()))),
        );
        let mut keys: Vec<&str> = self.differences.iter().map(|d| d.key.as_str()).collect();
        keys.dedup();
        let advice = if keys.contains(&PROVENANCE) {
            "compare runs of one provenance: what was not measured on hardware is never held against what was"
                .to_owned()
        } else {
            let flags: Vec<String> = keys.iter().map(|key| format!("--allow-different {key}")).collect();
            format!("compare runs of one card, layout and scenario, or say that you mean it: {}", flags.join(" "))
        };
        lines.push(advice);
        lines.join("\n")
    }
}
