//! Scenario × inventory → plan: pure, serialisable, complete. What a run will do, before it does it.

mod controls;
mod density;
mod pace;
mod resolve;

use serde::{Deserialize, Serialize};

use crate::channel::Channel;
use crate::gpu::Inventory;
use crate::observation::Asked;
use crate::scenario::{Accept, Arrivals, Design, Expectation, LayoutEntry, MpsDaemon, SharingMode, Slo, TimeSlice};
use crate::units::{Bytes, Nanos, Share};

/// What a run will do: complete, so that everything right of the run directory needs nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The scenario's name.
    pub scenario: String,
    /// What it asks.
    pub description: Option<String>,
    /// Seed.
    pub seed: u64,
    /// The machine as found.
    pub inventory: Inventory,
    /// Index into the inventory of the GPU under test.
    pub gpu: usize,
    /// The design of the experiment.
    pub design: Design,
    /// The victim's probes.
    pub panel: Vec<PlannedProbe>,
    /// The neighbours.
    pub neighbours: Vec<PlannedNeighbour>,
    /// What neighbours may do beside slowing the victim, tried in every arrangement where that means something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hazards: Vec<PlannedHazard>,
    /// The arrangements. Each density of a curve is one of its own.
    pub arrangements: Vec<PlannedArrangement>,
    /// How many equal tenants meet their objective is searched for along these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<Curve>,
    /// Accepted risks.
    pub accepted: Vec<Accept>,
}

/// A probe, resolved. The tenant builds the program from id and parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedProbe {
    /// Name of its first series.
    pub name: String,
    /// Workload id.
    pub workload: String,
    /// Parameters as written.
    pub params: std::collections::BTreeMap<String, String>,
    /// Channels that it feels; the first is the one that reports name.
    pub channels: Vec<Channel>,
    /// Every series it yields: its name, then `name/mark`.
    pub series: Vec<String>,
    /// When requests arrive.
    pub arrivals: Arrivals,
    /// Requests in flight at most.
    pub outstanding: u32,
    /// Service-level objectives.
    pub slos: Vec<Slo>,
}

/// A neighbour, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedNeighbour {
    /// Name.
    pub name: String,
    /// Workload id.
    pub workload: String,
    /// Parameters as written.
    pub params: std::collections::BTreeMap<String, String>,
    /// Channels that it loads; the first is the one that reports name.
    pub channels: Vec<Channel>,
    /// Part of the time in which it is noisy.
    pub duty: Share,
    /// Length of one burst and pause together.
    #[serde(rename = "burst_ns")]
    pub burst: Nanos,
    /// Requests that it keeps queued.
    pub queued: u32,
}

/// A hazard, resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedHazard {
    /// Name.
    pub name: String,
    /// Id of the hazard.
    pub hazard: String,
    /// Parameters as written, defaults filled in.
    pub params: std::collections::BTreeMap<String, String>,
    /// The channel that it uses.
    pub channel: Channel,
}

/// An arrangement, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedArrangement {
    /// Name.
    pub name: String,
    /// Sharing mode.
    pub sharing: SharingMode,
    /// Whose control daemon MPS runs under.
    #[serde(default, skip_serializing_if = "MpsDaemon::is_own")]
    pub mps_daemon: MpsDaemon,
    /// Level of the time slice that is to be set; absent: whatever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_slice: Option<TimeSlice>,
    /// Its layout as resolved.
    pub layout: Vec<LayoutEntry>,
    /// The scenario takes the layout that is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub as_found: bool,
    /// Its seats, in layout order.
    pub seats: Vec<Seat>,
    /// Why it cannot run here, where it cannot: its cells are Skipped with this reason.
    pub skipped: Option<String>,
    /// Its grids, in order of execution. Blocks are numbered through all of them.
    pub grids: Vec<Grid>,
    /// What decides the exit code.
    pub require: Expectation,
    /// Known physics: a surprise is a warning.
    pub expect: Expectation,
    /// Indices of the hazards that are tried here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hazards: Vec<usize>,
    /// What is observed of it beside its cells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observe: Vec<Asked>,
    /// Index of the arrangement that observations compare it with, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<usize>,
    /// It is one density of a curve: every seat has a tenant like the others, all at work at once, and none makes noise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub density: Option<Density>,
}

/// An arrangement of the scenario with equal tenants in growing numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// Name of the arrangement in the scenario.
    pub name: String,
    /// Sharing mode.
    pub sharing: SharingMode,
    /// Index into the panel of what every tenant runs.
    pub probe: usize,
    /// Every listed density is measured, not only those that the search needs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub every: bool,
    /// Tenants that must be shown to meet every objective; absent: nothing is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<u32>,
    /// Its densities, rising: those that are listed, and those between them that the search may need.
    pub levels: Vec<Level>,
    /// Densities that are measured at most: the error rate is divided among so many.
    pub most: u32,
}

/// One density of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// Tenants.
    pub tenants: u32,
    /// Index of its arrangement.
    pub arrangement: usize,
    /// The scenario lists it; else it lies between two that are.
    pub listed: bool,
}

/// What an arrangement with equal tenants is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Density {
    /// Index of its curve.
    pub curve: usize,
    /// Tenants, one in each seat.
    pub tenants: u32,
    /// Length of a window: long enough, over all arms, for an objective that is met or missed by a tenth to be decided.
    #[serde(rename = "window_ns")]
    pub window: Nanos,
    /// Device memory that each tenant holds, bytes; what its program does not allocate, it holds beside it. `None`: what the
    /// program allocates, and nothing more.
    pub budget: Option<Bytes>,
}

/// One seat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// "0", "1", or nested "0.1".
    pub id: String,
    /// What it is, in words ("3g.40gb", "50 % of SMs").
    pub share: String,
    /// Index into the layout.
    pub entry: usize,
}

/// The blocks of one arrangement, one victim place, one panel and one group of neighbours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Index of the victim's seat.
    pub victim: usize,
    /// Indices of the neighbours' seats.
    pub neighbour_seats: Vec<usize>,
    /// Indices of the probes, each in windows of its own.
    pub probes: Vec<usize>,
    /// Indices of the neighbours: an arm each, beside the quiet one.
    pub neighbours: Vec<usize>,
    /// Number of the first block; the grid has `design.blocks` of them.
    pub first_block: u32,
}

pub use controls::{delayed_channels, exercised_channels};
pub use resolve::{PlanError, Terms};

impl PlannedArrangement {
    /// Indices of the seats whose tenants are measured in `grid`: the victim's, or all of a density.
    pub fn victims(&self, grid: &Grid) -> std::ops::Range<usize> {
        if self.density.is_some() { 0..self.seats.len() } else { grid.victim..grid.victim + 1 }
    }
}

impl Plan {
    /// The name under which the tenant in `seat` of a density has a series of the probe: `inference@3`.
    pub fn series_of(&self, series: &str, arrangement: usize, seat: usize) -> String {
        let seat = self.arrangements[arrangement].seats.get(seat).map_or("?", |seat| seat.id.as_str());
        format!("{series}@{seat}")
    }

    /// The name of a series of the tenant in `seat`; of the victim, which has none to be told from, its own.
    pub(crate) fn tenant_series(&self, series: &str, arrangement: usize, seat: Option<usize>) -> String {
        seat.map_or_else(|| series.to_owned(), |seat| self.series_of(series, arrangement, seat))
    }

    /// Whether it has nothing but equal tenants in growing numbers: no cell, no hazard.
    pub fn all_densities(&self) -> bool {
        !self.arrangements.is_empty() && self.arrangements.iter().all(|arrangement| arrangement.density.is_some())
    }

    /// The GPU under test.
    pub fn gpu(&self) -> &crate::gpu::Gpu {
        &self.inventory.gpus[self.gpu]
    }
}
