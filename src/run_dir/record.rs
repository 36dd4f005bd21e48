//! What a run directory holds, as reports and verdicts see it.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::backend::{ArmKey, ArmRecord, ArmSummary, Company, Evidence, Outcome, Purpose};
use crate::hazard::Tried;
use crate::observation::Observed;
use crate::plan::Plan;
use crate::provenance::Provenance;
use crate::scenario::Quantile;
use crate::stats::{Counts, Durations};
use crate::units::{Nanos, Rate};

/// `manifest.json`: written first, atomically, before anything is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// "crosstalk-run".
    pub format: String,
    /// Version of the format.
    pub version: u32,
    /// "crosstalk 0.1.0".
    pub created_by: String,
    /// The day on which the run began (UTC): accepted risks expire by it.
    #[schemars(with = "String")]
    pub date: Date,
    /// Where the numbers come from.
    pub provenance: Provenance,
    /// Which device was taken, and why, in one line.
    pub device: String,
    /// The plan.
    pub plan: Plan,
    /// The scenario as it was read.
    pub scenario_text: String,
}

impl Manifest {
    /// Name of the format.
    pub const FORMAT: &str = "crosstalk-run";
    /// Version of the format.
    pub const VERSION: u32 = 1;

    /// The manifest of a run that begins on `date` (UTC).
    pub fn new(date: Date, provenance: Provenance, device: &str, plan: &Plan, scenario_text: &str) -> Self {
        Self {
            format: Self::FORMAT.to_owned(),
            version: Self::VERSION,
            created_by: concat!("crosstalk ", env!("CARGO_PKG_VERSION")).to_owned(),
            date,
            provenance,
            device: device.to_owned(),
            plan: plan.clone(),
            scenario_text: scenario_text.to_owned(),
        }
    }
}

/// What calibration found and fixed for one grid, before its first block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Index of the arrangement.
    pub arrangement: usize,
    /// Index of the grid.
    pub grid: usize,
    /// Per probe of the grid, in its order.
    pub probes: Vec<ProbeCalibration>,
    /// Per neighbour of the grid, in its order.
    pub neighbours: Vec<NeighbourCalibration>,
    /// The turns that tenants take; `None`: they take none, or it was not to be seen here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<Turns>,
}

/// The turns that tenants take on a GPU, as the device's own stamps of the victim's kernels show them: means of the middle half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Turns {
    /// Index into the plan's panel of the probe that the victim kept queued.
    pub probe: usize,
    /// Index into the plan's neighbours of the noise of the others.
    pub neighbour: usize,
    /// Tenants with which the victim took turns.
    pub others: u32,
    /// Turns seen from their beginning to their end.
    pub seen: u32,
    /// The victim's turn.
    #[serde(rename = "quantum_ns")]
    pub quantum: Nanos,
    /// From the end of its turn to the beginning of its next.
    #[serde(rename = "gap_ns")]
    pub gap: Nanos,
    /// One switch, where every other tenant's turn is as long as the victim's; `None`: they are shorter.
    #[serde(rename = "switch_ns")]
    pub switch: Option<Nanos>,
}

/// Load and window of one probe, as fixed by calibration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeCalibration {
    /// Index into the plan's panel.
    pub probe: usize,
    /// Lowest closed-loop rate at the outstanding limit over the grid's neighbours; `None` where the rate is the user's.
    pub closed_rate: Option<Rate>,
    /// The rate at which it runs.
    pub rate: Rate,
    /// Length of its windows.
    #[serde(rename = "window_ns")]
    pub window: Nanos,
    /// How each declared quantile is judged, rising.
    pub judged: Vec<(Quantile, JudgedBy)>,
    /// By how much its requests are held back in the arms of the delay control; absent: it has none.
    #[serde(rename = "delay_ns", default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Nanos>,
}

/// How a quantile is judged, fixed before the first block from the expected number of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JudgedBy {
    /// Per-block differences and pooled quantiles: at least 10 exceedances expected per arm.
    Blocks,
    /// Pooled quantiles alone: at least 10 exceedances expected over all blocks.
    Pooled,
    /// Not at all: too few requests.
    TooFew,
}

/// Solo rate of one neighbour in its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NeighbourCalibration {
    /// Index into the plan's neighbours.
    pub neighbour: usize,
    /// Requests per second over all of its seats, the victim silent.
    pub solo_rate: f64,
}

/// A run as read back from its directory.
#[derive(Clone, Debug)]
pub struct RecordedRun {
    /// The manifest.
    pub manifest: Manifest,
    /// Calibrations by (arrangement, grid).
    pub calibrations: BTreeMap<(usize, usize), Calibration>,
    /// Committed arms.
    pub arms: BTreeMap<ArmKey, ArmData>,
    /// Arrangements that could not run, by index, with the reason.
    pub skipped: BTreeMap<usize, String>,
    /// Arrangements that were given up before their end, by index, with the reason.
    pub given_up: BTreeMap<usize, String>,
    /// Looks (indices into the design's) at which every judged quantile of a neighbour was decided, by arrangement, grid and
    /// neighbour: its later blocks have no arm. One that is not here ran to its end.
    pub stopped: BTreeMap<(usize, usize, usize), usize>,
    /// Controls that could not be run, by arrangement, grid and purpose of their arms, with the reason.
    pub no_control: BTreeMap<(usize, usize, Purpose), String>,
    /// Arms that could not be measured to their end, with the reason.
    pub lost: BTreeMap<ArmKey, String>,
    /// Arms that were lost before the run went on, and whose blocks were measured anew then, with the reason: whoever took the
    /// later attempt alone would choose the arms that survive.
    pub lost_before: BTreeMap<ArmKey, String>,
    /// What was observed beside the cells, by arrangement.
    pub observed: BTreeMap<usize, Vec<Observed>>,
    /// What came of trying hazards, in order.
    pub tried: Vec<Tried>,
    /// The run was finished, not interrupted.
    pub finished: bool,
    /// What ties it to its bytes, and its tenants to their places.
    pub proof: Proof,
}

/// What ties a run to the bytes of its directory, and its tenants to their places. A run that is going on has no hashes yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proof {
    /// SHA-256 of `manifest.json`, as the event log states it: the plan's.
    pub manifest_sha256: Option<String>,
    /// SHA-256 of `SHA256SUMS`, as `finished.json` states it; `None`: the run is not finished.
    pub root_sha256: Option<String>,
    /// Where each tenant was, by arrangement, grid and company. Nothing in virtual time.
    pub placed: BTreeMap<(usize, usize, &'static str), Placed>,
}

impl Proof {
    /// Takes note that the tenants of a grid were brought up and proved to be in their places.
    pub(crate) fn arranged(&mut self, arrangement: usize, grid: usize, company: Company, evidence: Evidence) {
        let place = (arrangement, grid, company.words());
        self.placed.entry(place).or_insert(Placed { times: 0, first: evidence }).times += 1;
    }
}

/// Where the tenants of a grid were, in one company.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Times that they were brought up and proved to be in their places.
    pub times: u32,
    /// The proof of the first time.
    pub first: Evidence,
}

impl RecordedRun {
    /// A run of which nothing is measured yet.
    pub fn new(manifest: Manifest) -> Self {
        Self {
            manifest,
            calibrations: BTreeMap::new(),
            arms: BTreeMap::new(),
            skipped: BTreeMap::new(),
            given_up: BTreeMap::new(),
            stopped: BTreeMap::new(),
            no_control: BTreeMap::new(),
            lost: BTreeMap::new(),
            lost_before: BTreeMap::new(),
            observed: BTreeMap::new(),
            tried: Vec::new(),
            finished: false,
            proof: Proof::default(),
        }
    }

    /// Whether a neighbour still has an arm in `block` of a grid: it has until the look at which it was decided, the rest of that
    /// look's generation included.
    pub fn runs(&self, arrangement: usize, grid: usize, neighbour: usize, block: u32) -> bool {
        let plan = &self.manifest.plan;
        let Some(look) = self.stopped.get(&(arrangement, grid, neighbour)) else { return true };
        let first = plan.arrangements[arrangement].grids[grid].first_block;
        block < first.saturating_add(plan.design.blocks_by(*look))
    }

    /// The arms of `block` that belong together: those of a block with its further quiet arms, the one arm of a generation that
    /// is alone, or a quiet and its noisy arms within the victim's place. None of a block in which no neighbour runs any more.
    pub(crate) fn planned(&self, arrangement: usize, grid: usize, block: u32, purpose: Purpose) -> Vec<ArmKey> {
        let plan = &self.manifest.plan;
        let key = |neighbour, purpose| ArmKey { arrangement, grid, block, neighbour, purpose };
        let (purpose, beside) = match purpose {
            Purpose::Alone => return vec![key(None, Purpose::Alone)],
            Purpose::Within => (Purpose::Within, plan.exercised(arrangement, grid)),
            _ => {
                let all = plan.arrangements[arrangement].grids[grid].neighbours.iter().copied();
                (Purpose::Block, all.filter(|n| self.runs(arrangement, grid, *n, block)).collect())
            }
        };
        let equals = purpose == Purpose::Block && plan.arrangements[arrangement].density.is_some();
        if beside.is_empty() && !equals {
            return Vec::new();
        }
        let further = match purpose {
            Purpose::Block => plan.further_quiet(arrangement, grid, block),
            _ => Vec::new(),
        };
        std::iter::once(key(None, purpose))
            .chain(further.into_iter().map(|further| key(None, further)))
            .chain(beside.into_iter().map(|neighbour| key(Some(neighbour), purpose)))
            .collect()
    }
}

/// One arm as the verdict reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmData {
    /// What is known beside the samples.
    pub summary: ArmSummary,
    /// By series.
    pub series: BTreeMap<String, SeriesData>,
}

/// One series of one arm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeriesData {
    /// Completion − planned arrival, of completed requests.
    pub latency: Durations,
    /// Start on the device − sending, where the device tells.
    pub queue: Durations,
    /// End − start on the device, where the device tells.
    pub service: Durations,
    /// Requests not completed by the deadline: at +∞ in every quantile.
    pub censored: u64,
    /// Requests that failed: at +∞ likewise.
    pub failed: u64,
}

impl SeriesData {
    /// Every request of the arm, for quantiles: one that failed was never served, and counts like one that is open at
    /// the deadline.
    pub fn counts(&self) -> Counts<'_> {
        Counts::new(&self.latency, self.censored + self.failed)
    }
}

impl ArmData {
    /// Histograms of an arm: the one way from samples to what verdicts read, at commit and in `verify`.
    pub fn from_record(record: &ArmRecord) -> Self {
        let mut series = vec![SeriesData::default(); record.series.len()];
        for sample in &record.samples {
            let data = &mut series[usize::from(sample.series)];
            match (sample.outcome, sample.completed) {
                (Outcome::Ok, Some(completed)) => {
                    data.latency.record(completed.saturating_sub(sample.planned).0.max(1));
                    if let (Some(start), Some(sent)) = (sample.gpu_start, sample.sent) {
                        data.queue.record(start.saturating_sub(sent).0.max(1));
                    }
                    if let (Some(start), Some(end)) = (sample.gpu_start, sample.gpu_end) {
                        data.service.record(end.saturating_sub(start).0.max(1));
                    }
                }
                (Outcome::Timeout, _) | (Outcome::Ok, None) => data.censored += 1,
                (Outcome::Oom | Outcome::Error(_) | Outcome::WrongResult, _) => data.failed += 1,
            }
        }
        for data in &mut series {
            [&mut data.latency, &mut data.queue, &mut data.service].into_iter().for_each(Durations::shrink);
        }
        Self { summary: record.summary.clone(), series: record.series.iter().cloned().zip(series).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Sample;

    #[test]
    fn a_histogram_reaches_as_far_as_its_latencies() {
        for latency in [1, 5_000, 3_000_000, 40_000_000_000, i64::MAX.cast_unsigned()] {
            let sample = Sample {
                series: 0,
                window: 0,
                planned: Nanos(0),
                sent: Some(Nanos(0)),
                gpu_start: Some(Nanos(0)),
                gpu_end: Some(Nanos(latency)),
                completed: Some(Nanos(latency)),
                outcome: Outcome::Ok,
            };
            let record =
                ArmRecord { series: vec!["x".to_owned()], samples: vec![sample], summary: ArmSummary::default() };
            let series = &ArmData::from_record(&record).series["x"];
            for durations in [&series.latency, &series.service] {
                let [(bucket, 1)] = durations.iter().collect::<Vec<_>>()[..] else { panic!("{durations:?}") };
                let error = (bucket.highest() as f64 / latency as f64 - 1.0).abs();
                assert!(error < 1e-3, "{latency} ns read as {} ns", bucket.highest());
            }
        }
    }
}
