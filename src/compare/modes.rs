//! One mode of sharing against another, for the same victim and neighbours: what each of them costs and keeps away. Facts side
//! by side, from one run or from two; nothing here is a test.

use schemars::JsonSchema;
use serde::Serialize;

use super::alike::{Difference, Unlike};
use super::model::RunShown;
use super::summary::{CellSummary, Evidence, HazardSummary, Quiet, place_of};
use crate::provenance::Provenance;
use crate::report::{NONE, Ratio, VerdictWord, count, nine_digits, rate};
use crate::scenario::{Quantile, SharingMode};

const FORMAT: &str = "crosstalk-modes";
const VERSION: u32 = 1;

/// Rates that differ by more than this are told beside the latencies.
const SAME_RATE: f64 = 0.01;

/// Two arrangements, side by side.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Modes {
    /// What must be said first of numbers that were not measured on hardware.
    pub banner: Option<String>,
    /// "crosstalk-modes".
    pub format: String,
    /// Version of the format.
    pub version: u32,
    /// Where the numbers come from, on both sides.
    pub provenance: Provenance,
    /// The card of the second: its name and UUID.
    pub card: String,
    /// What it comes to, in a sentence.
    pub summary: String,
    /// The first.
    pub a: Side,
    /// The second.
    pub b: Side,
    /// In what two runs differ, and were allowed to.
    pub different: Vec<Difference>,
    /// What a tenant has beside a quiet neighbour.
    pub lone: Vec<Lone>,
    /// Beside each neighbour.
    pub cells: Vec<ModeCell>,
    /// Hazards of either.
    pub hazards: Vec<ModeHazard>,
    /// What it means, and what it cannot say.
    pub notes: Vec<String>,
}

/// One of the two.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Side {
    /// Name of the arrangement.
    pub arrangement: String,
    /// Its sharing mode.
    pub sharing: String,
    /// Its seats, in words.
    pub seats: Vec<String>,
    /// The run that it is of.
    pub run: RunShown,
}

/// One quantile of one series, quiet.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Lone {
    /// The first's place.
    pub place: String,
    /// Series.
    pub series: String,
    /// Quantile.
    #[schemars(with = "String")]
    pub quantile: Quantile,
    /// In the first, nanoseconds.
    pub a_ns: Option<f64>,
    /// In the second.
    pub b_ns: Option<f64>,
    /// Second ÷ first.
    pub ratio: Option<f64>,
    /// With the GPU for itself, where a run has that.
    pub exclusive_ns: Option<f64>,
    /// What the first costs a lone tenant: first ÷ exclusive.
    pub a_cost: Option<f64>,
    /// What the second costs.
    pub b_cost: Option<f64>,
    /// Requests per second that the first serves with as many in flight as allowed, beside its worst neighbour; where measured.
    pub a_capacity: Option<f64>,
    /// The same of the second.
    pub b_capacity: Option<f64>,
}

/// One victim beside one neighbour.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ModeCell {
    /// The neighbour.
    pub neighbour: String,
    /// In the first; `null`: not there.
    pub a: Option<ModeVerdict>,
    /// In the second.
    pub b: Option<ModeVerdict>,
    /// The victim's series.
    pub series: Vec<ModeSeries>,
}

/// A cell of one side.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ModeVerdict {
    /// Its name.
    pub cell: String,
    /// Its verdict.
    pub verdict: VerdictWord,
    /// Why it is not decided.
    pub why: Option<String>,
    /// What the neighbour served beside the victim, requests per second.
    pub neighbour_served: Option<f64>,
}

/// One series beside one neighbour.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ModeSeries {
    /// Series.
    pub series: String,
    /// p50, p99 and p99.9, of which there are enough requests.
    pub quantiles: Vec<ModeQuantile>,
    /// Requests served per second in the first.
    pub a_served: Option<f64>,
    /// In the second.
    pub b_served: Option<f64>,
    /// Requests never served in the first.
    pub a_unserved: u64,
    /// In the second.
    pub b_unserved: u64,
}

/// One quantile beside one neighbour.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ModeQuantile {
    /// Quantile.
    #[schemars(with = "String")]
    pub quantile: Quantile,
    /// In the first, nanoseconds; `null`: too few requests, or among those never served.
    pub a_ns: Option<f64>,
    /// In the second.
    pub b_ns: Option<f64>,
    /// Second ÷ first.
    pub ratio: Option<f64>,
    /// Noisy ÷ quiet in the first, where it was judged.
    pub a_interference: Option<Ratio>,
    /// In the second.
    pub b_interference: Option<Ratio>,
}

/// One hazard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ModeHazard {
    /// The hazard.
    pub hazard: String,
    /// What came of it in the first.
    pub a: String,
    /// In the second.
    pub b: String,
}

/// Why two arrangements are not compared.
#[derive(Debug, thiserror::Error)]
pub enum ModesError {
    /// There is no such arrangement.
    #[error("the run of {root} has no arrangement {name:?}; it has {}", there.join(", "))]
    NoArrangement {
        /// The one asked for.
        name: String,
        /// Of which run: the first digits of its root hash.
        root: String,
        /// Those that are there.
        there: Vec<String>,
    },
    /// The runs are unlike.
    #[error(transparent)]
    Unlike(#[from] Unlike),
}

/// One arrangement of one run against one of another, or of the same one.
///
/// # Errors
/// Where one is not there, or the runs differ in more than how tenants share.
pub fn modes(a: (&Evidence, &str), b: (&Evidence, &str), allowed: &[super::Key]) -> Result<Modes, ModesError> {
    let (side_a, side_b) = (side(a)?, side(b)?);
    let different = unlike(a.0, b.0, allowed)?;
    let places = |(evidence, name): (&Evidence, &str)| {
        let mut places: Vec<String> = Vec::new();
        let of = |place: &str| place == name || place.strip_prefix(name).is_some_and(|rest| rest.starts_with('@'));
        for place in evidence
            .run
            .quiet
            .iter()
            .map(|q| q.place.as_str())
            .chain(evidence.run.cells.iter().map(|c| place_of(&c.name)))
        {
            if of(place) && !places.iter().any(|p| p == place) {
                places.push(place.to_owned());
            }
        }
        places
    };
    let (places_a, places_b) = (places(a), places(b));
    let mut notes = vec![
        "Facts of the runs side by side; nothing here is a test. Each verdict holds its own mode's quiet against its own noise.".to_owned(),
    ];
    if places_a.len() != places_b.len() {
        let words = |places: &[String]| count(places.len() as u64, "victim place");
        notes.push(format!(
            "{} against {}: compared in their order, the others are left out.",
            words(&places_a),
            words(&places_b)
        ));
    }
    let (mut lone, mut cells) = (Vec::new(), Vec::new());
    let exclusive = [a.0, b.0].into_iter().find_map(|evidence| Some((evidence, exclusive(evidence)?)));
    for (place_a, place_b) in places_a.iter().zip(&places_b) {
        lone.extend(lone_rows(a.0, place_a, b.0, place_b, exclusive));
        cells.extend(cell_rows(a.0, place_a, b.0, place_b));
    }
    notes.extend(rates(a, b, &places_a, &places_b));
    match exclusive {
        Some((_, name)) => notes.push(format!("What a mode costs a lone tenant is its quiet level over that of {name}: two places of one machine, not paired.")),
        None => notes.push(
            "What each costs a lone tenant is not known: no run here has an exclusive arrangement. Add one (`sharing = \"exclusive\"`)."
                .to_owned(),
        ),
    }
    for (evidence, name) in [a, b] {
        for observed in evidence.run.observed.iter().filter(|o| o.arrangement == name) {
            let finding = observed.finding.as_deref().unwrap_or("untold");
            notes.push(format!("{name}: {}: {finding}, {}", observed.id, observed.why));
        }
    }
    let mut modes = Modes {
        banner: a.0.alike.provenance.banner().map(str::to_owned),
        format: FORMAT.to_owned(),
        version: VERSION,
        provenance: a.0.alike.provenance,
        card: b.0.alike.card(),
        summary: String::new(),
        a: side_a,
        b: side_b,
        different,
        lone,
        cells,
        hazards: hazards(a, b),
        notes,
    };
    modes.summary = summary(&modes);
    Ok(modes)
}

fn side((evidence, name): (&Evidence, &str)) -> Result<Side, ModesError> {
    let arrangements = &evidence.alike.layout.arrangements;
    let Some(shares) = arrangements.get(name) else {
        return Err(ModesError::NoArrangement {
            name: name.to_owned(),
            root: evidence.run.root_sha256.chars().take(super::text::ROOT).collect(),
            there: arrangements.keys().cloned().collect(),
        });
    };
    Ok(Side {
        arrangement: name.to_owned(),
        sharing: shares.sharing.to_string(),
        seats: shares.seats.clone(),
        run: RunShown::from(&evidence.run),
    })
}

/// In what two runs differ beside how tenants share: MIG on and off are two layouts, and that is what is compared.
fn unlike(a: &Evidence, b: &Evidence, allowed: &[super::Key]) -> Result<Vec<Difference>, Unlike> {
    let sharing = |d: &Difference| d.key == "layout" || d.key == "scenario" && d.what.starts_with("cells");
    let differences = a.alike.differences(&b.alike).into_iter().filter(|d| !sharing(d));
    let may = |d: &Difference| allowed.iter().any(|key| key.id() == d.key);
    let (different, refused): (Vec<_>, Vec<_>) = differences.partition(may);
    if refused.is_empty() { Ok(different) } else { Err(Unlike { differences: refused }) }
}

/// The arrangement in which a tenant has the GPU for itself.
fn exclusive(evidence: &Evidence) -> Option<&str> {
    let mut all = evidence.alike.layout.arrangements.iter();
    let (name, _) = all.find(|(_, shares)| shares.sharing == SharingMode::Exclusive)?;
    evidence.run.quiet.iter().any(|q| place_of(&q.place) == name).then_some(name.as_str())
}

fn quiet<'a>(evidence: &'a Evidence, place: &str, series: &str) -> Option<&'a Quiet> {
    evidence.run.quiet.iter().find(|q| q.place == place && q.series == series)
}

fn level(quiet: Option<&Quiet>, quantile: Quantile) -> Option<f64> {
    quiet?.levels.iter().find(|l| l.quantile == quantile)?.ns
}

fn over(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.zip(b).and_then(|(a, b)| nine_digits(b / a))
}

fn lone_rows(
    a: &Evidence,
    place_a: &str,
    b: &Evidence,
    place_b: &str,
    exclusive: Option<(&Evidence, &str)>,
) -> Vec<Lone> {
    let mut rows = Vec::new();
    for first in a.run.quiet.iter().filter(|q| q.place == place_a) {
        let second = quiet(b, place_b, &first.series);
        let reference = exclusive.and_then(|(evidence, name)| quiet(evidence, name, &first.series));
        for quantile in first.levels.iter().map(|l| l.quantile) {
            let (a_ns, b_ns) = (level(Some(first), quantile), level(second, quantile));
            let exclusive_ns = level(reference, quantile);
            rows.push(Lone {
                place: place_a.to_owned(),
                series: first.series.clone(),
                quantile,
                a_ns,
                b_ns,
                ratio: over(a_ns, b_ns),
                exclusive_ns,
                a_cost: over(exclusive_ns, a_ns),
                b_cost: over(exclusive_ns, b_ns),
                a_capacity: first.closed_rate,
                b_capacity: second.and_then(|q| q.closed_rate),
            });
        }
    }
    rows
}

fn cell_rows(a: &Evidence, place_a: &str, b: &Evidence, place_b: &str) -> Vec<ModeCell> {
    let of = |evidence: &'_ Evidence, place: &str, neighbour: &str| {
        let name = format!("{place}/{neighbour}");
        evidence.run.cells.iter().position(|cell| cell.name == name)
    };
    let mut neighbours: Vec<&str> = Vec::new();
    for (evidence, place) in [(a, place_a), (b, place_b)] {
        for cell in evidence.run.cells.iter().filter(|cell| place_of(&cell.name) == place) {
            let neighbour = cell.name.split_once('/').map_or("", |(_, neighbour)| neighbour);
            if !neighbours.contains(&neighbour) {
                neighbours.push(neighbour);
            }
        }
    }
    let row = |neighbour: &str| {
        let first = of(a, place_a, neighbour).and_then(|i| a.run.cells.get(i));
        let second = of(b, place_b, neighbour).and_then(|i| b.run.cells.get(i));
        ModeCell {
            neighbour: neighbour.to_owned(),
            a: verdict(first),
            b: verdict(second),
            series: series(first, second),
        }
    };
    neighbours.into_iter().map(row).collect()
}

fn verdict(cell: Option<&CellSummary>) -> Option<ModeVerdict> {
    cell.map(|cell| ModeVerdict {
        cell: cell.name.clone(),
        verdict: cell.verdict,
        why: cell.why.clone(),
        neighbour_served: cell.neighbour_served,
    })
}

fn series(a: Option<&CellSummary>, b: Option<&CellSummary>) -> Vec<ModeSeries> {
    let mut names: Vec<&str> = Vec::new();
    for noisy in [a, b].into_iter().flatten().flat_map(|cell| &cell.noisy) {
        if !names.contains(&noisy.series.as_str()) {
            names.push(&noisy.series);
        }
    }
    let noisy = |cell: Option<&'_ CellSummary>, name: &str| cell?.noisy.iter().position(|q| q.series == name);
    let row = |name: &str| {
        let first = a.zip(noisy(a, name)).and_then(|(cell, i)| cell.noisy.get(i));
        let second = b.zip(noisy(b, name)).and_then(|(cell, i)| cell.noisy.get(i));
        let interference = |cell: Option<&CellSummary>, quantile: Quantile| {
            cell?.series.iter().find(|s| s.series == name && s.quantile == quantile)?.ratio
        };
        let mut quantiles: Vec<Quantile> =
            [first, second].into_iter().flatten().flat_map(|q| &q.levels).map(|l| l.quantile).collect();
        quantiles.sort_unstable();
        quantiles.dedup();
        let quantile = |quantile: Quantile| {
            let (a_ns, b_ns) = (level(first, quantile), level(second, quantile));
            let (a_interference, b_interference) = (interference(a, quantile), interference(b, quantile));
            ModeQuantile { quantile, a_ns, b_ns, ratio: over(a_ns, b_ns), a_interference, b_interference }
        };
        ModeSeries {
            series: name.to_owned(),
            quantiles: quantiles.into_iter().map(quantile).collect(),
            a_served: first.and_then(|q| q.served),
            b_served: second.and_then(|q| q.served),
            a_unserved: first.map_or(0, |q| q.unserved),
            b_unserved: second.map_or(0, |q| q.unserved),
        }
    };
    names.into_iter().map(row).collect()
}

/// Probes that run at different rates on the two sides.
fn rates(a: (&Evidence, &str), b: (&Evidence, &str), places_a: &[String], places_b: &[String]) -> Option<String> {
    let mut other = Vec::new();
    for (place_a, place_b) in places_a.iter().zip(places_b) {
        for first in a.0.run.quiet.iter().filter(|q| q.place == *place_a) {
            let second = quiet(b.0, place_b, &first.series).and_then(|q| q.rate);
            if let Some((x, y)) = first.rate.zip(second)
                && libm::fabs(y / x - 1.0) > SAME_RATE
            {
                other.push(format!("{} at {} and {}", first.series, rate(x), rate(y)));
            }
        }
    }
    (!other.is_empty())
        .then(|| format!("Not at the same load, as each was calibrated to its own place: {}.", other.join(", ")))
}

fn hazards(a: (&Evidence, &str), b: (&Evidence, &str)) -> Vec<ModeHazard> {
    let of = |(evidence, name): (&Evidence, &str)| -> Vec<(String, String)> {
        let here = |h: &&HazardSummary| place_of(&h.name).split('@').next() == Some(name);
        let text = |h: &HazardSummary| format!("{}: {} of {} {}", h.verdict.id(), h.hits, h.of, h.unit);
        let hazard = |h: &HazardSummary| h.name.split_once('/').map_or("", |(_, hazard)| hazard).to_owned();
        evidence.run.hazards.iter().filter(here).map(|h| (hazard(h), text(h))).collect()
    };
    let (first, second) = (of(a), of(b));
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in first.iter().chain(&second) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let text = |all: &[(String, String)], name: &String| {
        let texts: Vec<&str> = all.iter().filter(|(n, _)| n == name).map(|(_, t)| t.as_str()).collect();
        if texts.is_empty() { NONE.to_owned() } else { texts.join(", ") }
    };
    let row = |name: &String| ModeHazard { hazard: name.clone(), a: text(&first, name), b: text(&second, name) };
    names.into_iter().map(row).collect()
}

fn summary(m: &Modes) -> String {
    let isolated = |of: fn(&ModeCell) -> &Option<ModeVerdict>| {
        let all: Vec<VerdictWord> = m.cells.iter().filter_map(|cell| of(cell).as_ref()).map(|v| v.verdict).collect();
        let isolated = all.iter().filter(|v| **v == VerdictWord::Isolated).count();
        let open = all.iter().filter(|v| v.open()).count();
        let open = if open > 0 { format!(" ({open} not decided)") } else { String::new() };
        format!("{isolated} of {} isolated{open}", count(all.len() as u64, "neighbour"))
    };
    format!("{}: {}; {}: {}.", m.a.arrangement, isolated(|cell| &cell.a), m.b.arrangement, isolated(|cell| &cell.b))
}
