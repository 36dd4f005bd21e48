//! A finished run as a comparison and a baseline read it: quiet levels, verdicts and block differences, without histograms.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::Alike;
use crate::plan::Plan;
use crate::report::{Ratio, VerdictWord, nine_digits};
use crate::run_dir::{self, Calibration, Digest, DigestSeries, RecordedRun, RunDirError};
use crate::scenario::Quantile;
use crate::stats::min_requests;
use crate::verdict::{CellVerdict, SeriesVerdict, Verdict};

/// Quantiles that are shown wherever there are requests for them, judged or not.
const SHOWN: [Quantile; 3] = [Quantile::P50, Quantile::P99, Quantile::P999];

/// One-sided level at which a quantile must be bounded from above by the requests there are, to be shown (docs/verdict.md).
const LEVEL: f64 = 0.01;

/// A finished run, with what it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// What it is of.
    pub alike: Alike,
    /// What came of it.
    pub run: Summary,
}

/// Runs that are alike: one to compare with, or those of a baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// What they are of.
    pub alike: Alike,
    /// The runs, in the order of their dates.
    pub runs: Vec<Summary>,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// The root hash of its directory: it stands for every byte of the run.
    pub root_sha256: String,
    /// The day on which it began (UTC).
    #[schemars(with = "String")]
    pub date: Date,
    /// What took it ("crosstalk 0.1.0").
    pub created_by: String,
    /// Which device was taken, and why.
    pub device: String,
    /// Driver version.
    pub driver: Option<String>,
    /// The newest CUDA version that the driver supports.
    pub cuda: Option<String>,
    /// Name of the scenario.
    pub scenario: String,
    /// Seed.
    pub seed: u64,
    /// Significant digits of the histograms behind its levels.
    pub digits: u8,
    /// The quiet levels, in the order of the plan.
    pub quiet: Vec<Quiet>,
    /// The cells, in the order of the plan.
    pub cells: Vec<CellSummary>,
    /// The hazards, in the order of the plan.
    pub hazards: Vec<HazardSummary>,
    /// What was found of each arrangement against another, in words: "mig: alone: whole".
    pub observed: Vec<ObservedSummary>,
}

/// One series in the quiet arms of one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quiet {
    /// `arrangement[@seat]`.
    pub place: String,
    /// Series.
    pub series: String,
    /// Requests planned per second.
    pub rate: Option<f64>,
    /// Requests that the place serves per second with as many in flight as allowed, beside the worst neighbour; absent where the
    /// scenario gives the rate.
    pub closed_rate: Option<f64>,
    /// Requests served per second of its windows.
    pub served: Option<f64>,
    /// Requests, those never served included.
    pub requests: u64,
    /// Requests never served.
    pub unserved: u64,
    /// Quantiles of which there are enough requests.
    pub levels: Vec<Level>,
}

/// One quantile of a series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// The quantile.
    #[schemars(with = "String")]
    pub quantile: Quantile,
    /// Nanoseconds; absent: among the requests never served.
    pub ns: Option<f64>,
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CellSummary {
    /// `arrangement[@seat]/neighbour`.
    pub name: String,
    /// Overall.
    pub verdict: VerdictWord,
    /// Why it is not decided, in a few words.
    pub why: Option<String>,
    /// The neighbour's rate ÷ its rate alone in the same place.
    pub neighbour_rate: Option<f64>,
    /// The neighbour's rate beside the victim, requests per second.
    pub neighbour_served: Option<f64>,
    /// Per series × quantile, in the order of the panel.
    pub series: Vec<SeriesSummary>,
    /// Every series beside this neighbour; left out in a baseline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub noisy: Vec<Quiet>,
}

/// One series at one quantile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeriesSummary {
    /// Series.
    pub series: String,
    /// Quantile.
    #[schemars(with = "String")]
    pub quantile: Quantile,
    /// The judgement.
    pub verdict: VerdictWord,
    /// Noisy ÷ quiet with the bounds that decided.
    pub ratio: Option<Ratio>,
    /// ln(noisy) − ln(quiet) block by block; none where it was not judged by blocks.
    pub blocks: Blocks,
}

/// Differences of blocks in millionths, written as one line: "1203 - 1301", with a dash where a block has none. A list
/// of a thousand lines in a file that people review would hide the rest of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(into = "String", try_from = "String")]
#[schemars(with = "String")]
pub struct Blocks(pub Vec<Option<i64>>);

/// One hazard in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HazardSummary {
    /// `arrangement[@seat]/hazard`.
    pub name: String,
    /// What came of it.
    pub verdict: VerdictWord,
    /// How often it came true.
    pub hits: u64,
    /// Of how many.
    pub of: u64,
    /// Of what ("attempts").
    pub unit: String,
}

/// An observation of an arrangement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObservedSummary {
    /// The arrangement.
    pub arrangement: String,
    /// Id of the observation.
    pub id: String,
    /// What came out; absent: it could not be told.
    pub finding: Option<String>,
    /// The evidence in words.
    pub why: String,
}

/// Why a run cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// It has no digest.
    #[error("{0} is not finished: go on with it by `crosstalk run --resume`, and compare it then")]
    Unfinished(String),
}

impl Evidence {
    /// Reads a finished run. Whatever is read is compared with its checksum; `crosstalk verify` compares the rest.
    ///
    /// # Errors
    /// Where there is no run, or it is damaged, or not finished.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        match run_dir::digest(path)? {
            Some((digest, root)) => Ok(Self::of(&run_dir::load(path)?, &digest, &root)?),
            None => Err(LoadError::Unfinished(path.display().to_string())),
        }
    }

    /// What a run and its digest come to.
    ///
    /// # Errors
    /// Where a histogram of the digest is damaged.
    pub fn of(run: &RecordedRun, digest: &Digest, root_sha256: &str) -> Result<Self, RunDirError> {
        let manifest = &digest.manifest;
        let plan = &manifest.plan;
        let reader = Reader { plan, digest, calibrations: &run.calibrations };
        let name = |index: usize| plan.arrangements.get(index).map_or_else(String::new, |a| a.name.clone());
        let summary = Summary {
            root_sha256: root_sha256.to_owned(),
            date: manifest.date,
            created_by: manifest.created_by.clone(),
            device: manifest.device.clone(),
            driver: plan.inventory.driver.clone(),
            cuda: plan.inventory.cuda.clone(),
            scenario: plan.scenario.clone(),
            seed: plan.seed,
            digits: digest.histogram_digits,
            quiet: reader.quiet()?,
            cells: digest.verdict.cells.iter().map(|cell| reader.cell(cell)).collect::<Result<_, _>>()?,
            hazards: digest
                .verdict
                .hazards
                .iter()
                .map(|h| HazardSummary {
                    name: h.name.clone(),
                    verdict: VerdictWord::from(&h.verdict),
                    hits: h.hits,
                    of: h.of,
                    unit: h.unit.clone(),
                })
                .collect(),
            observed: digest
                .verdict
                .observed
                .iter()
                .map(|o| ObservedSummary {
                    arrangement: name(o.arrangement),
                    id: o.observed.id.clone(),
                    finding: o.observed.finding.clone(),
                    why: o.observed.why.clone(),
                })
                .collect(),
        };
        Ok(Self { alike: Alike::of(digest), run: summary })
    }
}

impl From<Evidence> for Group {
    fn from(evidence: Evidence) -> Self {
        Self { alike: evidence.alike, runs: vec![evidence.run] }
    }
}

/// What a digest says of series and cells.
struct Reader<'a> {
    plan: &'a Plan,
    digest: &'a Digest,
    calibrations: &'a BTreeMap<(usize, usize), Calibration>,
}

impl Reader<'_> {
    /// Every series of every place, quiet. Grids of one place have the same quiet: their arms are pooled.
    fn quiet(&self) -> Result<Vec<Quiet>, RunDirError> {
        let mut out = Vec::new();
        for (index, arrangement) in self.plan.arrangements.iter().enumerate() {
            let mut victims: Vec<usize> = arrangement.grids.iter().map(|grid| grid.victim).collect();
            victims.sort_unstable();
            victims.dedup();
            for victim in &victims {
                let place = match arrangement.seats.get(*victim) {
                    Some(seat) if victims.len() > 1 => format!("{}@{}", arrangement.name, seat.id),
                    _ => arrangement.name.clone(),
                };
                out.extend(self.place(&place, index, *victim, None)?);
            }
        }
        Ok(out)
    }

    /// Every series of one place, in the order of the panel.
    fn place(
        &self,
        place: &str,
        arrangement: usize,
        victim: usize,
        neighbour: Option<usize>,
    ) -> Result<Vec<Quiet>, RunDirError> {
        let grid_of = |grid: usize| self.plan.arrangements.get(arrangement)?.grids.get(grid);
        let here = |s: &&DigestSeries| {
            s.arrangement == arrangement
                && s.neighbour == neighbour
                && grid_of(s.grid).is_some_and(|grid| grid.victim == victim)
        };
        let mut out = Vec::new();
        for name in self.plan.panel.iter().flat_map(|probe| &probe.series) {
            let parts: Vec<&DigestSeries> =
                self.digest.series.iter().filter(here).filter(|s| s.series == *name).collect();
            if !parts.is_empty() {
                out.push(self.series(place, name, &parts)?);
            }
        }
        Ok(out)
    }

    fn series(&self, place: &str, name: &str, parts: &[&DigestSeries]) -> Result<Quiet, RunDirError> {
        let mut pooled: BTreeMap<u64, u64> = BTreeMap::new();
        let (mut served, mut unserved, mut seconds) = (0, 0, Some(0.0));
        let (mut rate, mut closed_rate) = (None, None);
        for part in parts {
            let histogram = part.histogram()?;
            for value in histogram.iter_recorded() {
                let middle = histogram.median_equivalent(value.value_iterated_to());
                *pooled.entry(middle).or_default() += value.count_at_value();
            }
            served += part.completed;
            unserved += part.censored + part.failed;
            let probe = self.probe(part, name);
            let window = probe.map(|p| p.window.as_secs_f64() * f64::from(part.arms));
            seconds = seconds.zip(window).map(|(a, b)| a + b);
            rate = rate.or(probe.map(|p| p.rate.as_f64()));
            closed_rate = closed_rate.or(probe.and_then(|p| p.closed_rate).map(|r| r.as_f64()));
        }
        let requests = served + unserved;
        let mut wanted: Vec<Quantile> = SHOWN.iter().chain(&self.plan.design.judged).copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        // A p99.9 of a thousand requests would be their largest: nothing is shown rather than that.
        wanted.retain(|q| requests >= min_requests(*q, LEVEL));
        let levels =
            wanted.into_iter().map(|quantile| Level { quantile, ns: quantile_of(&pooled, requests, quantile) });
        Ok(Quiet {
            place: place.to_owned(),
            series: name.to_owned(),
            rate: rate.and_then(nine_digits),
            closed_rate: closed_rate.and_then(nine_digits),
            served: seconds.and_then(|s| nine_digits(served as f64 / s)),
            requests,
            unserved,
            levels: levels.collect(),
        })
    }

    fn probe(&self, part: &DigestSeries, series: &str) -> Option<&run_dir::ProbeCalibration> {
        let of = |p: &&run_dir::ProbeCalibration| {
            self.plan.panel.get(p.probe).is_some_and(|probe| probe.series.iter().any(|name| name == series))
        };
        self.calibrations.get(&(part.arrangement, part.grid))?.probes.iter().find(of)
    }

    fn cell(&self, cell: &CellVerdict) -> Result<CellSummary, RunDirError> {
        let victim =
            self.plan.arrangements.get(cell.arrangement).and_then(|a| a.seats.iter().position(|s| s.id == cell.seat));
        let place = place_of(&cell.name);
        let noisy = match victim {
            Some(victim) => self.place(place, cell.arrangement, victim, Some(cell.neighbour))?,
            None => Vec::new(),
        };
        let grids = self.calibrations.range((cell.arrangement, 0)..(cell.arrangement + 1, 0)).map(|(_, c)| c);
        let solo = grids.flat_map(|c| &c.neighbours).find(|n| n.neighbour == cell.neighbour).map(|n| n.solo_rate);
        let served = cell.neighbour_rate.zip(solo).and_then(|(share, solo)| nine_digits(share * solo));
        Ok(CellSummary {
            name: cell.name.clone(),
            verdict: VerdictWord::from(&cell.verdict),
            why: why(&cell.verdict),
            neighbour_rate: cell.neighbour_rate.and_then(nine_digits),
            neighbour_served: served,
            series: cell.series.iter().map(|s| self.judged(cell, s)).collect(),
            noisy,
        })
    }

    fn judged(&self, cell: &CellVerdict, s: &SeriesVerdict) -> SeriesSummary {
        let here = |d: &&DigestSeries| {
            (d.arrangement, d.neighbour, &d.series) == (cell.arrangement, Some(cell.neighbour), &s.series)
                && self.plan.arrangements.get(d.arrangement).and_then(|a| a.grids.get(d.grid)).is_some_and(|grid| {
                    self.plan.arrangements[d.arrangement]
                        .seats
                        .get(grid.victim)
                        .is_some_and(|seat| seat.id == cell.seat)
                })
        };
        let differences = self.digest.series.iter().filter(here).flat_map(|d| &d.differences);
        let of_quantile = differences.filter(|d| d.quantile == s.quantile);
        SeriesSummary {
            series: s.series.clone(),
            quantile: s.quantile,
            verdict: VerdictWord::from(&s.verdict),
            ratio: s.ratio.map(|r| Ratio {
                estimate: nine_digits(r.estimate),
                low: r.low.and_then(nine_digits),
                high: r.high.and_then(nine_digits),
            }),
            blocks: Blocks(of_quantile.flat_map(|d| d.ln_ratio_ppm.iter().copied()).collect()),
        }
    }
}

/// `arrangement[@seat]` of a cell's name. No name of a scenario holds a slash.
pub(super) fn place_of(cell: &str) -> &str {
    cell.split_once('/').map_or(cell, |(place, _)| place)
}

/// Why a verdict is not decided.
fn why(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Inconclusive { reason } => Some(reason.words().to_owned()),
        Verdict::Skipped { reason } => Some(reason.clone()),
        _ => None,
    }
}

/// The quantile with the requests that were never served at +∞: the smallest value that a share `q` does not exceed
/// (R. J. Hyndman, Y. Fan 1996, definition 1).
fn quantile_of(pooled: &BTreeMap<u64, u64>, requests: u64, q: Quantile) -> Option<f64> {
    let rank = (u128::from(q.0) * u128::from(requests)).div_ceil(100_000);
    let mut seen = 0u128;
    let value = pooled.iter().find_map(|(value, count)| {
        seen += u128::from(*count);
        (seen >= rank).then_some(*value)
    })?;
    nine_digits(value as f64)
}

impl From<Blocks> for String {
    fn from(blocks: Blocks) -> Self {
        blocks.to_string()
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, block) in self.0.iter().enumerate() {
            let gap = if at > 0 { " " } else { "" };
            match block {
                Some(ppm) => write!(f, "{gap}{ppm}")?,
                None => write!(f, "{gap}-")?,
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Blocks {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let one = |word: &str| match word {
            "-" => Ok(None),
            _ => word.parse().map(Some).map_err(|_| format!("{word:?} is no difference of a block in millionths")),
        };
        text.split_whitespace().map(one).collect::<Result<_, _>>().map(Self)
    }
}

impl Blocks {
    /// As ratios' logarithms, without the blocks that have none.
    pub(super) fn values(&self) -> Vec<f64> {
        self.0.iter().flatten().map(|ppm| *ppm as f64 / 1e6).collect()
    }
}
