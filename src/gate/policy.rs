//! A policy: text → validated [`Policy`], or every mistake of the text.

use jiff::civil::Date;
use toml::de::DeValue;
use wildmatch::WildMatch;

use super::keys;
use crate::channel::Channel;
use crate::field::Value;
use crate::observation;
use crate::provenance::Provenance;
use crate::scenario::tree::{Entry, Reader, Table, join};
use crate::scenario::{self, Accept, Expectation, Margins, Mistakes, Rule, SharingMode, Tier, Word};
use crate::units::Share;

/// What must hold of a run, and of whom it must come, before a pipeline goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// What a run must be to prove anything.
    pub evidence: Evidence,
    /// Further runs of the same plan that may decide what is open.
    pub retries: u32,
    /// Runs in a row in which something must fail.
    pub confirm: u32,
    /// What the scenario requires must hold too.
    pub scenario_requirements: bool,
    /// Risks that the scenario accepts count.
    pub scenario_risks: bool,
    /// What must hold, in the order of the file within each kind.
    pub demands: Vec<Demand>,
    /// What must hold against earlier runs.
    pub baseline: Option<Baseline>,
    /// Accepted risks; the cell of each is a glob.
    pub accepted: Vec<Accept>,
}

/// What a run must be to prove anything.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Where its numbers may come from.
    pub provenance: Vec<Provenance>,
    /// The least tier.
    pub tier: Tier,
    /// The most days that it may be old.
    pub max_age: Option<u32>,
    /// Largest share of arms that an episode must hit to be seen.
    pub scope: f64,
    /// Widest margins of an Isolated; the second of each pair is not looked at.
    pub margins: Margins,
    /// Channels that it must have tested.
    pub tested: Vec<Channel>,
    /// That nobody else used the GPU must have been seen.
    pub exclusive_use: bool,
    /// The GPU, as a glob.
    pub gpu: Option<String>,
    /// The scenario, as a glob.
    pub scenario: Option<String>,
}

/// What must hold against earlier runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// No quiet level has risen.
    pub quiet: bool,
    /// How far above the mean of the baseline a quiet level may be.
    pub tolerance: Share,
    /// No verdict is worse.
    pub verdicts: bool,
    /// No interference has grown.
    pub interference: bool,
    /// The most days that its latest run may be old.
    pub max_age: Option<u32>,
}

/// One thing that must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// Where it stands in the file, such as `cell[0]`.
    pub place: String,
    /// Of what, as a glob over names.
    pub name: String,
    /// Under which sharing modes; all where none is named.
    pub sharing: Vec<SharingMode>,
    /// What.
    pub must: Must,
}

/// What must hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Must {
    /// Verdicts of cells, by key.
    Cell(Expectation),
    /// Objectives are met.
    Objective,
    /// Verdicts of hazards, by key.
    Hazard(Expectation),
    /// A finding.
    Observation(String),
}

impl Must {
    /// What it is of, in the file.
    pub(super) const fn key(&self) -> &'static str {
        match self {
            Self::Cell(_) => "cell",
            Self::Objective => "objective",
            Self::Hazard(_) => "hazard",
            Self::Observation(_) => "observation",
        }
    }
}

impl Demand {
    /// Whether it is of what has this name, under this sharing mode.
    pub(super) fn covers(&self, name: &str, sharing: SharingMode) -> bool {
        (self.sharing.is_empty() || self.sharing.contains(&sharing)) && WildMatch::new(&self.name).matches(name)
    }
}

/// Reads a policy. `source_name` only names the text in diagnostics.
///
/// # Errors
/// All mistakes of the text at once.
pub fn read(source_name: &str, text: &str) -> Result<Policy, Mistakes> {
    let mut r = Reader::new(text);
    let tree = r.parse();
    let policy = if r.is_newer(tree.get_ref(), "policy", keys::SCHEMA_VERSION) {
        None
    } else {
        let top = r.table(keys::TOP, Some(tree.get_ref()), 0..0, String::new());
        policy(&mut r, &top)
    };
    r.done(source_name, policy)
}

fn policy<'t>(r: &mut Reader<'t>, top: &Table<'t>) -> Option<Policy> {
    let evidence = evidence(r, top.table("evidence"));
    let mut demands = Vec::new();
    for key in ["cell", "objective", "hazard", "observation"] {
        for (index, table) in top.tables(key).enumerate() {
            let must = match key {
                "cell" => rules(r, table).map(Must::Cell),
                "hazard" => rules(r, table).map(Must::Hazard),
                "observation" => finding(r, table).map(Must::Observation),
                _ => Some(Must::Objective),
            };
            let demand = || {
                let (place, name) = (format!("{key}[{index}]"), table.owned("name")?);
                Some(Demand { place, name, sharing: sharing(table), must: must? })
            };
            demands.extend(demand());
        }
    }
    let baseline = top.table("baseline").map(|table| baseline(r, table));
    let compares = baseline.as_ref().is_some_and(|b| b.quiet || b.verdicts || b.interference);
    let accepted: Vec<Accept> = top.tables("accept").filter_map(accept).collect();
    let scenario_requirements = top.flag("scenario_requirements");
    let asks = scenario_requirements || compares || demands.iter().any(demands_something);
    if r.mistakes.is_empty() && !asks {
        let expected = "expected `[[cell]]`, `[[objective]]`, `[[hazard]]`, `[[observation]]` or `[baseline]` with something that \
                        must hold, or `scenario_requirements = true`";
        r.absent(&top.span, "", "nothing is required: this policy cannot fail", expected);
    }
    Some(Policy {
        name: top.owned("name")?,
        description: top.owned("description"),
        evidence,
        retries: top.count32("retries")?,
        confirm: top.count32("confirm")?,
        scenario_requirements,
        scenario_risks: top.text("scenario_risks") == Some(keys::COUNT),
        demands,
        baseline,
        accepted,
    })
}

fn demands_something(demand: &Demand) -> bool {
    match &demand.must {
        Must::Cell(rules) | Must::Hazard(rules) => rules.0.iter().any(|rule| rule.word != Word::Any),
        Must::Objective | Must::Observation(_) => true,
    }
}

fn evidence<'t>(r: &mut Reader<'t>, table: Option<&Table<'t>>) -> Evidence {
    let tier = keys::tier(table.and_then(|t| t.text("tier")));
    let mut margins = Margins::default();
    if let Some(given) = table.and_then(|t| t.table("margins")) {
        for (key, pair) in [("p50", &mut margins.p50), ("p99", &mut margins.p99), ("p99.9", &mut margins.p999)] {
            pair.0 = given.share(key).unwrap_or(pair.0);
        }
    }
    let words = |key: &str| -> Vec<&str> {
        let list = table.and_then(|t| t.list(key)).unwrap_or_default();
        list.iter().filter_map(Entry::text).collect()
    };
    let provenance: Vec<Provenance> = words("provenance").into_iter().filter_map(provenance).collect();
    let tested = words("tested").into_iter().filter_map(|id| Channel::ALL.iter().find(|c| c.id() == id).copied());
    Evidence {
        provenance: if provenance.is_empty() { vec![Provenance::Measured] } else { provenance },
        tier,
        tested: tested.collect(),
        max_age: table.and_then(|t| t.entry("max_age")).and_then(|entry| age(r, entry)),
        scope: table.and_then(|t| t.share("scope")).map_or(tier.scope(), Share::as_f64),
        margins,
        exclusive_use: table.is_some_and(|t| t.text("exclusive_use") == Some(keys::PROVED)),
        gpu: table.and_then(|t| t.owned("gpu")),
        scenario: table.and_then(|t| t.owned("scenario")),
    }
}

fn baseline<'t>(r: &mut Reader<'t>, table: &Table<'t>) -> Baseline {
    Baseline {
        quiet: table.flag("quiet"),
        tolerance: table.share("tolerance").unwrap_or(Share(0)),
        verdicts: table.flag("verdicts"),
        interference: table.flag("interference"),
        max_age: table.entry("max_age").and_then(|entry| age(r, entry)),
    }
}

fn provenance(word: &str) -> Option<Provenance> {
    let all = [Provenance::Measured, Provenance::StandIn, Provenance::Simulated];
    keys::PROVENANCE.iter().zip(all).find(|(id, _)| **id == word).map(|(_, provenance)| provenance)
}

/// Days, from "30d".
fn age<'t>(r: &mut Reader<'t>, entry: &Entry<'t>) -> Option<u32> {
    let (node, path) = entry.special()?;
    let days = || {
        let days: u32 = node.get_ref().as_str()?.strip_suffix('d')?.trim_end().parse().ok()?;
        (1..=99_999).contains(&days).then_some(days)
    };
    let days = days();
    if days.is_none() {
        r.unexpected(node, path, keys::AGE.expected);
    }
    days
}

fn sharing(table: &Table<'_>) -> Vec<SharingMode> {
    let list = table.list("sharing").unwrap_or_default();
    let mode = |id: &str| SharingMode::ALL.iter().copied().find(|mode| mode.id() == id);
    list.iter().filter_map(Entry::text).filter_map(mode).collect()
}

/// Words by key, as in `require`.
fn rules<'t>(r: &mut Reader<'t>, table: &Table<'t>) -> Option<Expectation> {
    let (node, path) = table.special("must")?;
    let entries = match node.get_ref() {
        DeValue::String(_) => {
            let word = scenario::word(r, node, path, true)?;
            return Some(Expectation(vec![Rule { key: Expectation::DEFAULT.to_owned(), word }]));
        }
        DeValue::Table(entries) if !entries.is_empty() => entries,
        _ => {
            r.unexpected(node, path, keys::MUST.expected);
            return None;
        }
    };
    let mut read = Vec::new();
    for (key, value) in entries {
        let name = key.get_ref().as_ref();
        if name == Expectation::SLO {
            r.mistake(&key.span(), path, "`slo` here", "expected objectives in a table of their own, `[[objective]]`");
            continue;
        }
        if let Some(word) = scenario::word(r, value, &join(path, name), true) {
            read.push((key.span().start, Rule { key: name.to_owned(), word }));
        }
    }
    read.sort_by_key(|(at, _)| *at);
    Some(Expectation(read.into_iter().map(|(_, rule)| rule).collect()))
}

/// A finding, which some observation that the glob may mean must know.
fn finding(r: &mut Reader<'_>, table: &Table<'_>) -> Option<String> {
    let (name, entry) = (table.text("name")?, table.entry("must")?);
    let found = entry.text()?;
    let id = name.rsplit_once('/').map_or(name, |(_, id)| id);
    let meant = observation::CATALOGUE.iter().filter(|o| WildMatch::new(id).matches(o.id));
    let findings: Vec<&str> = meant.flat_map(|o| o.findings.iter().map(|(word, _)| *word)).collect();
    if findings.is_empty() {
        let ids: Vec<&str> = observation::CATALOGUE.iter().map(|o| o.id).collect();
        let (span, path) = table.entry("name").map(|e| (e.span.clone(), e.path.clone()))?;
        r.mistake_among(
            &span,
            &path,
            format!("no observation is called `{id}`"),
            "expected `arrangement/id`",
            id,
            &ids,
        );
        return None;
    }
    if !findings.contains(&found) {
        let expected = "expected a finding of the observation";
        r.mistake_among(&entry.span, &entry.path, format!("\"{found}\""), expected, found, &findings);
        return None;
    }
    Some(found.to_owned())
}

fn accept(table: &Table<'_>) -> Option<Accept> {
    let until: Date = match table.value("until")? {
        Value::Date(date) => *date,
        _ => return None,
    };
    Some(Accept {
        cell: table.owned("cell")?,
        channel: table.owned("channel"),
        reason: table.owned("reason")?,
        by: table.owned("by")?,
        until,
    })
}
