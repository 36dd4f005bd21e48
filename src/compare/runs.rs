//! A new run against a base: verdicts as facts, sizes of interference by a two-sample test, quiet levels against what earlier
//! runs of the same card predict.
//!
//! Two runs are not paired: no block of one belongs to a block of the other. What each run does pair, quiet and noisy within
//! a block, is its difference d = ln(noisy ÷ quiet), and two runs give two independent samples of differences.

use std::collections::{BTreeMap, BTreeSet};

use super::alike::{Alike, Key, Unlike};
use super::model::{
    CellChange, Change, Changed, Comparison, HazardChange, Method, Outcome, QuietChange, QuietState, RunShown,
    SeriesChange, Shift, Size, Spread,
};
use super::summary::{CellSummary, Evidence, Group, HazardSummary, Quiet, SeriesSummary, Summary};
use super::words;
use crate::report::{Ratio, VerdictWord, count, nine_digits, rate};
use crate::scenario::{Margins, Quantile};
use crate::stats::{Prediction, RankSum, hodges_lehmann, holm, shift};

/// Runs of one card in one layout before they predict the next one's quiet levels: with five, t(97.5 %; 4) is 2.8, with two
/// it is 12.7, and an interval would hold nearly everything.
pub const LEAST_RUNS: u32 = 5;

/// Probability of telling any change of size, over all tests of a comparison, where none is beyond its margin.
const ALPHA_SIZE: f64 = 0.025;

/// Probability of telling any change of a quiet level where nothing has changed. Both together are 5 %.
const ALPHA_QUIET: f64 = 0.025;

/// Part of an isolated margin by which a quiet level may move and count as unchanged, as in the verdict's own check of the
/// host: runs that were taken in one hour lie closer together than those of two months.
const QUIET_TOLERATED: f64 = 0.25;

/// Planned rates that differ by more than this are told: latencies depend on load.
const SAME_RATE: f64 = 0.01;

/// Logarithms beyond this stand for a ratio without bound (a digest writes ±100).
const UNBOUNDED: f64 = 50.0;

const FORMAT: &str = "crosstalk-comparison";
const VERSION: u32 = 1;

/// Compares a new run with a base.
///
/// # Errors
/// Where they differ in what nobody `allowed`.
pub fn compare(base: &Group, new: &Evidence, allowed: &[Key]) -> Result<Comparison, Unlike> {
    let different = base.alike.check(&new.alike, allowed)?;
    let others = others(base, &new.run);
    let base = others.as_ref().unwrap_or(base);
    let mut sizes = Sizes::default();
    let mut cells = cells(base, new, &mut sizes);
    let tested = sizes.judge(&mut cells);
    let (quiet, judged) = quiet(base, new);
    let hazards = hazards(base, new);
    let outcome = outcome(&cells, &quiet, &hazards);
    let method = Method {
        alpha_size: ALPHA_SIZE,
        sizes: tested,
        alpha_quiet: ALPHA_QUIET,
        quiets: judged,
        notes: words::notes(base, new, others.is_some()),
    };
    let mut comparison = Comparison {
        banner: new.alike.provenance.banner().map(str::to_owned),
        format: FORMAT.to_owned(),
        version: VERSION,
        provenance: new.alike.provenance,
        card: new.alike.card(),
        outcome,
        summary: String::new(),
        base: base.runs.iter().map(RunShown::from).collect(),
        new: RunShown::from(&new.run),
        changed: changed(base, &new.run),
        different,
        cells,
        quiet,
        hazards,
        method,
    };
    comparison.summary = words::summary(&comparison);
    Ok(comparison)
}

/// The base without the new run itself, where it is one of several: a run is always like itself.
fn others(base: &Group, new: &Summary) -> Option<Group> {
    let runs: Vec<Summary> = base.runs.iter().filter(|run| run.root_sha256 != new.root_sha256).cloned().collect();
    (!runs.is_empty() && runs.len() < base.runs.len()).then(|| Group { alike: base.alike.clone(), runs })
}

/// Driver, CUDA and crosstalk, where the new run has another.
fn changed(base: &Group, new: &Summary) -> Vec<Changed> {
    let mut out = Vec::new();
    type Of = fn(&Summary) -> Option<&str>;
    let told: [(&str, Of); 3] = [
        ("driver", |run| run.driver.as_deref()),
        ("CUDA", |run| run.cuda.as_deref()),
        ("crosstalk", |run| Some(run.created_by.as_str())),
    ];
    for (what, of) in told {
        let word = |run: &Summary| of(run).unwrap_or("unknown").to_owned();
        let before: BTreeSet<String> = base.runs.iter().map(word).collect();
        let now = word(new);
        if before.len() != 1 || !before.contains(&now) {
            let before: Vec<String> = before.into_iter().collect();
            out.push(Changed { what: what.to_owned(), base: before.join(", "), new: now });
        }
    }
    out
}

/// What became of a verdict: `base` those of its runs, none where they have no such thing.
fn change(base: &[VerdictWord], new: Option<VerdictWord>) -> Change {
    let worst = worst_decided(base);
    match (base.is_empty(), worst, new) {
        (true, _, _) => Change::Added,
        (_, _, None) => Change::Absent,
        (_, None, Some(new)) if new.open() => Change::Open,
        (_, None, Some(_)) => Change::Decided,
        (_, Some(_), Some(new)) if new.open() => Change::Undecided,
        (_, Some(worst), Some(new)) if new > worst => Change::Worse,
        (_, Some(worst), Some(new)) if new < worst && !base.contains(&new) => Change::Better,
        _ => Change::Same,
    }
}

/// The worst of the verdicts that are decided.
fn worst_decided(verdicts: &[VerdictWord]) -> Option<VerdictWord> {
    verdicts.iter().copied().filter(|word| !word.open()).max()
}

/// What `find` yields of the base's runs.
fn of_base<'a, T>(base: &'a Group, find: impl Fn(&'a Summary) -> Option<&'a T>) -> Vec<&'a T> {
    base.runs.iter().filter_map(find).collect()
}

/// Names in the order of the base's last run, then those of others alone.
fn names(base: &Group, new: &Summary, of: impl Fn(&Summary) -> Vec<String>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in base.runs.iter().rev().chain([new]).flat_map(of) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn cells(base: &Group, new: &Evidence, sizes: &mut Sizes) -> Vec<CellChange> {
    let names = names(base, &new.run, |run| run.cells.iter().map(|cell| cell.name.clone()).collect());
    let margins = &new.alike.scenario.margins;
    names.iter().enumerate().map(|(at, name)| cell(base, &new.run, name, at, margins, sizes)).collect()
}

fn cell(base: &Group, new: &Summary, name: &str, at: usize, margins: &Margins, sizes: &mut Sizes) -> CellChange {
    let find = |run: &'_ Summary| run.cells.iter().position(|cell| cell.name == name);
    let before: Vec<&CellSummary> = of_base(base, |run| run.cells.get(find(run)?));
    let now = find(new).and_then(|index| new.cells.get(index));
    let verdicts: Vec<VerdictWord> = before.iter().map(|cell| cell.verdict).collect();
    let mut counted: BTreeMap<VerdictWord, u32> = BTreeMap::new();
    for word in &verdicts {
        *counted.entry(*word).or_default() += 1;
    }
    let mut keys: Vec<(&str, Quantile)> = Vec::new();
    for s in before.iter().rev().copied().chain(now).flat_map(|cell| &cell.series) {
        if !keys.contains(&(s.series.as_str(), s.quantile)) {
            keys.push((&s.series, s.quantile));
        }
    }
    let series = keys.into_iter().enumerate().map(|(row, (name, quantile))| {
        let of = |cell: &'_ CellSummary| cell.series.iter().position(|s| s.series == name && s.quantile == quantile);
        let before: Vec<&SeriesSummary> = before.iter().filter_map(|cell| cell.series.get(of(cell)?)).collect();
        let now = now.and_then(|cell| cell.series.get(of(cell)?));
        series_change(name, quantile, &before, now, margins.of(quantile).0, (at, row), sizes)
    });
    CellChange {
        name: name.to_owned(),
        series: series.collect(),
        base: counted.into_iter().collect(),
        new: now.map(|cell| cell.verdict),
        change: change(&verdicts, now.map(|cell| cell.verdict)),
        why: now.and_then(|cell| cell.why.clone()),
    }
}

fn series_change(
    name: &str,
    quantile: Quantile,
    before: &[&SeriesSummary],
    now: Option<&SeriesSummary>,
    margin: f64,
    place: (usize, usize),
    sizes: &mut Sizes,
) -> SeriesChange {
    let verdicts: Vec<VerdictWord> = before.iter().map(|s| s.verdict).collect();
    let samples: Vec<Vec<f64>> = before.iter().map(|s| s.blocks.values()).filter(|d| !d.is_empty()).collect();
    let after = now.map(|s| s.blocks.values()).unwrap_or_default();
    let estimates: Vec<f64> = samples.iter().filter_map(|d| hodges_lehmann(d)).collect();
    let spread = (estimates.len() > 1).then(|| Spread {
        runs: estimates.len() as u32,
        low: estimates.iter().copied().min_by(f64::total_cmp).and_then(ratio_of),
        high: estimates.iter().copied().max_by(f64::total_cmp).and_then(ratio_of),
    });
    let why = match (before.is_empty(), now, samples.is_empty() || after.is_empty()) {
        (true, ..) => Some("not in the base"),
        (_, None, _) => Some("not in the new run"),
        (_, Some(_), true) => Some("no differences of blocks: it is judged by pooled quantiles, or not at all"),
        (_, Some(_), false) => None,
    };
    if why.is_none() {
        sizes.tests.push(Test { place, x: samples.concat(), y: after, estimates, margin });
    }
    SeriesChange {
        series: name.to_owned(),
        quantile,
        base: worst_decided(&verdicts).or(verdicts.last().copied()),
        new: now.map(|s| s.verdict),
        change: change(&verdicts, now.map(|s| s.verdict)),
        base_ratio: before.last().and_then(|s| s.ratio),
        new_ratio: now.and_then(|s| s.ratio),
        size: Size::NotTested,
        why: why.map(str::to_owned),
        shift: None,
        spread,
    }
}

/// exp of a difference; `None` where it stands for one without bound.
fn ratio_of(ln: f64) -> Option<f64> {
    if libm::fabs(ln) < UNBOUNDED { nine_digits(libm::exp(ln)) } else { None }
}

/// The tests of size of a comparison: one family.
#[derive(Default)]
struct Sizes {
    tests: Vec<Test>,
}

struct Test {
    /// Cell and row.
    place: (usize, usize),
    /// Differences of the base's blocks, all runs together.
    x: Vec<f64>,
    /// Differences of the new run's blocks.
    y: Vec<f64>,
    /// Of each run of the base.
    estimates: Vec<f64>,
    /// The margin of an isolated cell, as a ratio over one.
    margin: f64,
}

impl Sizes {
    /// Judges every test and writes into the cells what came of it. How many there were.
    fn judge(self, cells: &mut [CellChange]) -> u32 {
        let mut tables: BTreeMap<(usize, usize), RankSum> = BTreeMap::new();
        for test in &self.tests {
            let sizes = (test.x.len(), test.y.len());
            tables.entry(sizes).or_insert_with(|| RankSum::new(sizes.0, sizes.1));
        }
        let level = |tests: usize| ALPHA_SIZE / tests.max(1) as f64;
        let table = |test: &Test| tables.get(&(test.x.len(), test.y.len()));
        // So few blocks that even the clearest change would not be told.
        let hopeless = |test: &Test| table(test).is_none_or(|t| 2.0 * t.least() > level(self.tests.len()));
        let mut told = Vec::new();
        for test in &self.tests {
            let Some(row) = row(cells, test.place) else { continue };
            match table(test) {
                Some(table) if !hopeless(test) => told.push((test, table, test.p_value(table))),
                _ => {
                    let blocks = (test.x.len(), test.y.len());
                    row.why = Some(format!("{} and {} blocks cannot tell a change of size", blocks.0, blocks.1));
                }
            }
        }
        let p_values: Vec<f64> = told.iter().map(|(.., p)| *p).collect();
        let falls = holm(&p_values, ALPHA_SIZE);
        let each = level(told.len());
        for ((test, table, p), falls) in told.iter().zip(falls) {
            let Some(row) = row(cells, test.place) else { continue };
            let estimate = shift(&test.x, &test.y).unwrap_or(0.0);
            let (low, high) = table.bounds(&test.x, &test.y, 0.5 * each);
            row.size = match falls {
                true if estimate > 0.0 => Size::Grew,
                true => Size::Shrank,
                false => Size::Unchanged,
            };
            row.shift = Some(Shift {
                ratio: Ratio {
                    estimate: ratio_of(estimate),
                    low: low.and_then(ratio_of),
                    high: high.and_then(ratio_of),
                },
                p: nine_digits(*p).unwrap_or(1.0),
                margin: test.margin,
                blocks: (test.x.len() as u32, test.y.len() as u32),
            });
        }
        told.len() as u32
    }
}

fn row(cells: &mut [CellChange], place: (usize, usize)) -> Option<&mut SeriesChange> {
    cells.get_mut(place.0)?.series.get_mut(place.1)
}

impl Test {
    /// How likely so great a change is, in either direction, if it lies within the margin. Where enough runs of the base say
    /// how far runs lie apart, it must be unlikely by that as well: the greater of the two counts.
    fn p_value(&self, table: &RankSum) -> f64 {
        let margin = libm::log1p(self.margin);
        let ranks = (2.0 * table.above(&self.x, &self.y, margin).min(table.beneath(&self.x, &self.y, margin))).min(1.0);
        if (self.estimates.len() as u32) < LEAST_RUNS {
            return ranks;
        }
        let new = hodges_lehmann(&self.y);
        let runs = Prediction::new(&self.estimates).zip(new).map_or(1.0, |(p, new)| p.p_value(new, margin));
        ranks.max(runs)
    }
}

/// Every quiet level, and how many of them were judged.
fn quiet(base: &Group, new: &Evidence) -> (Vec<QuietChange>, u32) {
    let mut rows = Vec::new();
    let mut told: Vec<(usize, Prediction, f64, f64)> = Vec::new();
    let same_place = base.alike.same_place(&new.alike);
    for quiet in &new.run.quiet {
        let before: Vec<&Quiet> =
            of_base(base, |run| run.quiet.iter().find(|q| (&q.place, &q.series) == (&quiet.place, &quiet.series)));
        for level in &quiet.levels {
            let ns = |q: &&&Quiet| q.levels.iter().find(|l| l.quantile == level.quantile).and_then(|l| l.ns);
            let lns: Vec<f64> = before.iter().filter_map(|q| ns(&q)).map(libm::log).collect();
            let mean = (!lns.is_empty()).then(|| lns.iter().sum::<f64>() / lns.len() as f64);
            let mut row = QuietChange {
                place: quiet.place.clone(),
                series: quiet.series.clone(),
                quantile: level.quantile,
                base_ns: mean.and_then(|ln| nine_digits(libm::exp(ln))),
                new_ns: level.ns,
                ratio: mean.zip(level.ns).and_then(|(ln, ns)| nine_digits(ns / libm::exp(ln))),
                runs: lns.len() as u32,
                low_ns: None,
                high_ns: None,
                state: QuietState::NotJudged,
                why: None,
            };
            row.why = not_judged(&row, same_place, &new.alike);
            if row.why.is_none()
                && let Some(prediction) = Prediction::new(&lns)
            {
                let tolerated = tolerated(base, new, level.quantile);
                let p = level.ns.map_or(0.0, |ns| prediction.p_value(libm::log(ns), tolerated));
                row.why = other_rate(&before, quiet);
                told.push((rows.len(), prediction, tolerated, p));
            }
            rows.push(row);
        }
    }
    let falls = holm(&told.iter().map(|(.., p)| *p).collect::<Vec<_>>(), ALPHA_QUIET);
    let each = ALPHA_QUIET / told.len().max(1) as f64;
    for ((at, prediction, tolerated, _), falls) in told.iter().zip(falls) {
        let row: &mut QuietChange = &mut rows[*at];
        if let Some((low, high)) = prediction.interval(each, *tolerated) {
            (row.low_ns, row.high_ns) = (nine_digits(libm::exp(low)), nine_digits(libm::exp(high)));
        }
        row.state = match falls {
            false => QuietState::Within,
            true if row.ratio.is_some_and(|ratio| ratio < 1.0) => QuietState::Faster,
            true => QuietState::Slower,
        };
    }
    (rows, told.len() as u32)
}

/// Why a quiet level is shown and not judged.
fn not_judged(row: &QuietChange, same_place: bool, new: &Alike) -> Option<String> {
    if !new.tier.judged.contains(&row.quantile) {
        return Some("no judged quantile of this scenario".to_owned());
    }
    if !same_place {
        return Some("the base is another card, or another layout".to_owned());
    }
    (row.runs < LEAST_RUNS).then(|| format!("{} of {LEAST_RUNS}", count(row.runs.into(), "baseline run")))
}

/// By how much a quiet level may move, as a logarithm: the tolerated part of the margin, and the width of a bucket of the
/// coarser histogram.
fn tolerated(base: &Group, new: &Evidence, quantile: Quantile) -> f64 {
    let digits = base.runs.iter().map(|run| run.digits).chain([new.run.digits]).min().unwrap_or(3);
    let bucket = libm::pow(10.0, -f64::from(digits));
    libm::log1p(QUIET_TOLERATED * new.alike.scenario.margins.of(quantile).0).max(libm::log1p(bucket))
}

/// That the load was another, where it was.
fn other_rate(before: &[&Quiet], now: &Quiet) -> Option<String> {
    let rates: Vec<f64> = before.iter().filter_map(|q| q.rate).collect();
    let (mean, now) = (rates.iter().sum::<f64>() / rates.len() as f64, now.rate?);
    (libm::fabs(now / mean - 1.0) > SAME_RATE).then(|| format!("at {}, where the base had {}", rate(now), rate(mean)))
}

fn hazards(base: &Group, new: &Evidence) -> Vec<HazardChange> {
    let names = names(base, &new.run, |run| run.hazards.iter().map(|h| h.name.clone()).collect());
    let text = |h: &HazardSummary| format!("{}: {} of {} {}", h.verdict.id(), h.hits, h.of, h.unit);
    let row = |name: String| {
        let find = |run: &'_ Summary| run.hazards.iter().position(|h| h.name == name);
        let before: Vec<&HazardSummary> = of_base(base, |run| run.hazards.get(find(run)?));
        let now = find(&new.run).and_then(|index| new.run.hazards.get(index));
        let verdicts: Vec<VerdictWord> = before.iter().map(|h| h.verdict).collect();
        HazardChange {
            base: before.last().map(|h| text(h)),
            new: now.map(text),
            change: change(&verdicts, now.map(|h| h.verdict)),
            name,
        }
    };
    names.into_iter().map(row).collect()
}

fn outcome(cells: &[CellChange], quiet: &[QuietChange], hazards: &[HazardChange]) -> Outcome {
    let series = || cells.iter().flat_map(|cell| &cell.series);
    let overall = || cells.iter().map(|cell| cell.change).chain(hazards.iter().map(|h| h.change));
    let worse = overall().chain(series().map(|s| s.change)).any(|change| change == Change::Worse)
        || series().any(|s| s.size == Size::Grew)
        || quiet.iter().any(|q| q.state == QuietState::Slower);
    if worse {
        return Outcome::Worse;
    }
    let open = overall().any(|change| matches!(change, Change::Undecided | Change::Absent));
    // Of runs that have curves of equal tenants alone there is nothing that is compared: that is no agreement.
    let nothing = cells.is_empty() && quiet.is_empty() && hazards.is_empty();
    if open || nothing { Outcome::Undecided } else { Outcome::Unchanged }
}
