//! The digest: what `merge`, `compare` and a baseline read, at most 1 MB whatever the run's size.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::files::{self, DIGEST};
use super::{ArmData, JudgedBy, Manifest, RecordedRun, RunDirError, SeriesData, hlog};
use crate::backend::{ArmKey, Purpose};
use crate::provenance::Provenance;
use crate::scenario::Quantile;
use crate::stats::Bucket;
use crate::verdict::RunVerdict;

const FORMAT: &str = "crosstalk-digest";
const VERSION: u32 = 1;
/// Largest digest, bytes: thousands of them are merged.
const MOST: usize = 1_000_000;
/// Arms that are pooled.
type Arms<'a> = Vec<(&'a ArmKey, &'a ArmData)>;
/// Stands for a difference without bound, in either direction.
const UNBOUNDED_PPM: i64 = 100_000_000;

/// `digest.json`: a run without its samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// "crosstalk-digest".
    pub format: String,
    /// Version of the format.
    pub version: u32,
    /// Where the numbers come from.
    pub provenance: Provenance,
    /// What was run, where and when.
    pub manifest: Manifest,
    /// Significant digits of the histograms: 3, or fewer where the digest would be larger than 1 MB.
    pub histogram_digits: u8,
    /// In the order of the plan: arrangement, grid, quiet arms first, then each neighbour; series by name.
    pub series: Vec<DigestSeries>,
    /// The judgement.
    pub verdict: RunVerdict,
}

/// One series in all quiet arms of a grid, or in all arms of one neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DigestSeries {
    /// Index of the arrangement.
    pub arrangement: usize,
    /// Index of the grid in it.
    pub grid: usize,
    /// Index of the neighbour; `None`: quiet.
    pub neighbour: Option<usize>,
    /// Name of the series.
    pub series: String,
    /// Arms pooled.
    pub arms: u32,
    /// Requests completed.
    pub completed: u64,
    /// Requests open at the deadline: at +∞ in every quantile.
    pub censored: u64,
    /// Requests that failed: at +∞ likewise.
    pub failed: u64,
    /// Latencies of the completed requests in nanoseconds: a histogram of HdrHistogram's V2 format, deflated, in base64.
    pub latency: String,
    /// Noisy against quiet, block by block, for each quantile that is judged by blocks; none for quiet arms.
    pub differences: Vec<DigestDifferences>,
}

/// Differences of one quantile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DigestDifferences {
    /// The quantile.
    pub quantile: Quantile,
    /// ln(noisy) − ln(quiet) in millionths, by block in order; `None`: no such difference, for an arm is missing or
    /// empty, or both quantiles lie beyond the deadline. ±100 000 000: one of them does.
    pub ln_ratio_ppm: Vec<Option<i64>>,
}

impl Digest {
    /// The digest of a run and its verdict.
    ///
    /// # Errors
    /// Where a histogram cannot be represented.
    pub fn build(run: &RecordedRun, verdict: &RunVerdict) -> Result<Self, RunDirError> {
        let mut digest = Self::with_digits(run, verdict, 3)?;
        for digits in [2, 1] {
            if digest.to_json()?.len() <= MOST {
                break;
            }
            digest = Self::with_digits(run, verdict, digits)?;
        }
        Ok(digest)
    }

    fn with_digits(run: &RecordedRun, verdict: &RunVerdict, digits: u8) -> Result<Self, RunDirError> {
        let mut groups: BTreeMap<_, Arms<'_>> = BTreeMap::new();
        // Controls' arms are no cells: what they say is in the verdict.
        for (key, arm) in run.arms.iter().filter(|(key, _)| key.purpose.is_block()) {
            groups.entry((key.arrangement, key.grid, key.neighbour)).or_default().push((key, arm));
        }
        let mut series = Vec::new();
        for ((arrangement, grid, neighbour), arms) in groups {
            let mut names: Vec<&String> = arms.iter().flat_map(|(_, arm)| arm.series.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let parts: Vec<&SeriesData> = arms.iter().filter_map(|(_, arm)| arm.series.get(name)).collect();
                let pooled = hlog::pool(parts.iter().map(|part| &part.latency), digits)?;
                let differences =
                    if neighbour.is_some() { differences(run, &arms, arrangement, grid, name) } else { Vec::new() };
                series.push(DigestSeries {
                    arrangement,
                    grid,
                    neighbour,
                    series: name.clone(),
                    arms: parts.len() as u32,
                    completed: pooled.len(),
                    censored: parts.iter().map(|part| part.censored).sum(),
                    failed: parts.iter().map(|part| part.failed).sum(),
                    latency: hlog::compress(&pooled)?,
                    differences,
                });
            }
        }
        Ok(Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            provenance: run.manifest.provenance,
            manifest: run.manifest.clone(),
            histogram_digits: digits,
            series,
            verdict: verdict.clone(),
        })
    }

    /// Without indentation: it would double the size.
    pub(super) fn to_json(&self) -> Result<Vec<u8>, RunDirError> {
        let mut text =
            serde_json::to_vec(self).map_err(|e| RunDirError::not_recordable("the digest", e.to_string()))?;
        text.push(b'\n');
        Ok(text)
    }

    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, RunDirError> {
        files::from_json(DIGEST, bytes, FORMAT, VERSION)
    }
}

impl DigestSeries {
    /// The pooled histogram.
    ///
    /// # Errors
    /// Where it is not what crosstalk writes.
    pub fn histogram(&self) -> Result<Histogram<u64>, RunDirError> {
        let expected = || format!("a histogram of {} latencies of {:?}", self.completed, self.series);
        let histogram = hlog::expand(&self.latency).map_err(|e| RunDirError::damaged(DIGEST, expected(), e))?;
        if histogram.len() == self.completed {
            return Ok(histogram);
        }
        Err(RunDirError::damaged(DIGEST, expected(), format!("one of {}", histogram.len())))
    }
}

/// Block by block, for each quantile of the series that was fixed to be judged so.
fn differences(
    run: &RecordedRun,
    noisy: &Arms<'_>,
    arrangement: usize,
    grid: usize,
    series: &str,
) -> Vec<DigestDifferences> {
    let plan = &run.manifest.plan;
    let probes = run.calibrations.get(&(arrangement, grid)).map_or(&[][..], |c| &c.probes);
    let of_series = |probe: usize| plan.panel.get(probe).is_some_and(|p| p.series.iter().any(|s| s == series));
    let of_grid = |k: &&ArmKey| (k.arrangement, k.grid, k.purpose) == (arrangement, grid, Purpose::Block);
    let blocks: std::collections::BTreeSet<u32> = run.arms.keys().filter(of_grid).map(|k| k.block).collect();
    let difference = |block: u32, quantile: Quantile| {
        let quiet = run
            .arms
            .get(&ArmKey { arrangement, grid, block, neighbour: None, purpose: Purpose::Block })?
            .series
            .get(series)?;
        let (_, noisy) = noisy.iter().find(|(key, _)| key.block == block)?;
        ln_ratio_ppm(noisy.series.get(series)?, quiet, quantile)
    };
    probes
        .iter()
        .filter(|probe| of_series(probe.probe))
        .flat_map(|probe| &probe.judged)
        .filter(|(_, by)| *by == JudgedBy::Blocks)
        .map(|(quantile, _)| DigestDifferences {
            quantile: *quantile,
            ln_ratio_ppm: blocks.iter().map(|block| difference(*block, *quantile)).collect(),
        })
        .collect()
}

/// See [`DigestDifferences::ln_ratio_ppm`].
fn ln_ratio_ppm(noisy: &SeriesData, quiet: &SeriesData, quantile: Quantile) -> Option<i64> {
    match (quantile_of(noisy, quantile)?, quantile_of(quiet, quantile)?) {
        (Some(noisy), Some(quiet)) => {
            let ln_ratio = libm::log(noisy as f64) - libm::log(quiet as f64);
            Some((ln_ratio * 1e6).round() as i64)
        }
        (None, Some(_)) => Some(UNBOUNDED_PPM),
        (Some(_), None) => Some(-UNBOUNDED_PPM),
        (None, None) => None,
    }
}

/// A quantile with the requests at +∞ that were never served, which is `Some(None)`; `None` where there is no request. The smallest
/// latency that at least the share `quantile` of all requests does not exceed.
fn quantile_of(series: &SeriesData, quantile: Quantile) -> Option<Option<u64>> {
    let requests = series.counts();
    (requests.total() > 0).then(|| requests.bucket(quantile).map(Bucket::highest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(latencies: &[u64], censored: u64) -> SeriesData {
        let mut data = SeriesData { censored, ..SeriesData::default() };
        latencies.iter().for_each(|latency| data.latency.record(*latency));
        data
    }

    #[test]
    fn a_quantile_counts_what_was_never_served_at_infinity() {
        // Ten requests: the median is the 5th, p90 the 9th, p91 the 10th. Below 2048 ns buckets are 1 ns wide.
        let all = series(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 0);
        let nine = series(&[1, 2, 3, 4, 5, 6, 7, 8, 9], 1);
        let failing = SeriesData { censored: 0, failed: 1, ..nine.clone() };
        for (data, quantile, expected) in [
            (&all, 50_000, Some(Some(5))),
            (&all, 90_000, Some(Some(9))),
            (&all, 91_000, Some(Some(10))),
            (&nine, 90_000, Some(Some(9))),
            (&nine, 91_000, Some(None)),
            (&failing, 90_000, Some(Some(9))),
            (&failing, 91_000, Some(None)),
            (&SeriesData { failed: 1, ..SeriesData::default() }, 50_000, Some(None)),
            (&series(&[], 1), 50_000, Some(None)),
            (&series(&[], 0), 50_000, None),
        ] {
            assert_eq!(
                quantile_of(data, Quantile(quantile)),
                expected,
                "{quantile} of {} requests",
                data.latency.len()
            );
        }
    }

    #[test]
    fn a_difference_is_absent_unbounded_or_a_number() {
        let (slow, fast, lost, none) = (series(&[2_000], 0), series(&[1_000], 0), series(&[], 3), series(&[], 0));
        // ln 2 = 0.693147…
        assert_eq!(ln_ratio_ppm(&slow, &fast, Quantile::P50), Some(693_147));
        assert_eq!(ln_ratio_ppm(&fast, &slow, Quantile::P50), Some(-693_147));
        assert_eq!(ln_ratio_ppm(&lost, &fast, Quantile::P50), Some(UNBOUNDED_PPM));
        assert_eq!(ln_ratio_ppm(&fast, &lost, Quantile::P50), Some(-UNBOUNDED_PPM));
        assert_eq!(ln_ratio_ppm(&lost, &lost, Quantile::P50), None);
        assert_eq!(ln_ratio_ppm(&slow, &none, Quantile::P50), None);
        // Two of three fail: the median is one of them, however fast the third was.
        let failing = SeriesData { failed: 2, ..fast.clone() };
        assert_eq!(ln_ratio_ppm(&failing, &fast, Quantile::P50), Some(UNBOUNDED_PPM));
    }

    #[test]
    fn pooling_keeps_every_request_and_the_quantiles_to_its_resolution() {
        let parts = [series(&[1_500, 300_000, 7_000_000], 1), series(&[2_500_000_000], 0)];
        for (digits, resolution) in [(3, 1e-3), (2, 1e-2), (1, 1e-1)] {
            let pooled = hlog::pool(parts.iter().map(|part| &part.latency), digits).unwrap();
            assert_eq!(pooled.len(), 4);
            // Three of four are at or below 7 ms.
            let p75 = pooled.value_at_quantile(0.75);
            assert!((p75 as f64 / 7e6 - 1.0).abs() <= resolution, "{p75} at {digits} digits");
        }
    }
}
