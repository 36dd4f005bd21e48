//! Every key of a policy: the one table from which reader and JSON Schema derive.

use serde_json::{Value as Json, json};

use crate::channel::Channel;
use crate::field::{Field, Kind, Shape};
use crate::scenario::{self, SharingMode, Tier, words_of};
use crate::units::Share;
use crate::workload::Workload;

/// The version that this build reads.
pub(super) const SCHEMA_VERSION: u64 = 1;

/// Words of `provenance`.
pub(super) const PROVENANCE: &[&str] = &["measured", "stand-in", "simulated"];
pub(super) const COUNT: &str = "count";
pub(super) const PROVED: &str = "proved";

pub(super) const TOP: &[Field] = &[
    Field::required(
        "schema",
        Kind::Count { min: SCHEMA_VERSION, max: SCHEMA_VERSION },
        "Version of this format; this build reads 1.",
    ),
    Field::required("name", Kind::Name, "Name of the policy."),
    Field::optional("description", Kind::Text, "What it is for, in one sentence."),
    Field::with_default(
        "retries",
        Kind::Count { min: 0, max: 4 },
        "0",
        "Further runs of the same plan, each of which may decide what the runs before it leave open. Declared here, before any is \
         judged: every run, the first one too, is judged with its part of every error rate.",
    ),
    Field::with_default(
        "confirm",
        Kind::Count { min: 1, max: 5 },
        "1",
        "Runs in a row in which a cell or an objective must fail before it counts as failed; until then it is undecided.",
    ),
    Field::with_default(
        "scenario_requirements",
        Kind::Flag,
        "false",
        "What the scenario itself requires must hold too.",
    ),
    Field::with_default(
        "scenario_risks",
        Kind::Word(&[COUNT, "ignored"]),
        COUNT,
        "Whether risks that the scenario accepts count, until their day.",
    ),
    Field::optional("evidence", Kind::Table(EVIDENCE), "What a run must be to prove anything."),
    Field::optional("cell", Kind::List(&Kind::Table(CELL)), "Cells, and what their verdict must be."),
    Field::optional(
        "objective",
        Kind::List(&Kind::Table(OBJECTIVE)),
        "Service-level objectives of the scenario, which must be met.",
    ),
    Field::optional("hazard", Kind::List(&Kind::Table(HAZARD)), "Hazards, and what their verdict must be."),
    Field::optional(
        "observation",
        Kind::List(&Kind::Table(OBSERVATION)),
        "Observations, and the finding that must come out.",
    ),
    Field::optional(
        "baseline",
        Kind::Table(BASELINE),
        "What must hold against earlier runs of the card in this layout, which `--baseline FILE` names.",
    ),
    Field::optional("accept", Kind::List(&Kind::Table(ACCEPT)), "Requirements not met, whose risk somebody took."),
];

pub(super) const EVIDENCE: &[Field] = &[
    Field::optional(
        "provenance",
        Kind::List(&Kind::Word(PROVENANCE)),
        "Where the numbers may come from; measured on hardware alone, unless given.",
    ),
    Field::with_default("tier", Kind::Word(&["smoke", "acceptance", "certify"]), "smoke", "The least tier."),
    Field::optional(
        "max_age",
        Kind::Special(&AGE),
        "The most days between the day on which the run began and today; any, unless given.",
    ),
    Field::optional(
        "scope",
        Kind::Share { min: Share::percent(1), max: Share::percent(50) },
        "Every Isolated that is required must see episodes that hit this share of the arms; the tier's, unless given: 25% at \
         smoke, 10% at acceptance, 5% at certify.",
    ),
    Field::optional(
        "margins",
        Kind::Table(MARGINS),
        "The widest margins within which Isolated may be said; those of crosstalk, unless given.",
    ),
    Field::optional(
        "tested",
        Kind::List(&Kind::Word(CHANNELS)),
        "Channels that the run must have tested: a neighbour loads them, and a judged probe feels them.",
    ),
    Field::with_default(
        "exclusive_use",
        Kind::Word(&["assumed", PROVED]),
        "assumed",
        "Whether the list of the GPU's processes must have been readable.",
    ),
    Field::optional(
        "gpu",
        Kind::Text,
        "The GPU as a glob over the product name without \"NVIDIA \"; any, unless given.",
    ),
    Field::optional("scenario", Kind::Text, "The scenario's name as a glob; any, unless given."),
];

const MARGIN: Kind = Kind::Share { min: Share(1_000), max: Share::percent(1_000) };

pub(super) const MARGINS: &[Field] = &[
    Field::optional("p50", MARGIN, "p50 and every quantile below p95; 5% unless given."),
    Field::optional("p99", MARGIN, "p95 up to below p99.9; 10% unless given."),
    Field::optional("p99.9", MARGIN, "p99.9 and above; 25% unless given."),
];

pub(super) const BASELINE: &[Field] = &[
    Field::with_default(
        "quiet",
        Kind::Flag,
        "true",
        "No quiet level is above the interval in which the next run lies if nothing has changed; of fewer than five earlier runs \
         undecided.",
    ),
    Field::with_default(
        "tolerance",
        Kind::Share { min: Share(0), max: Share::percent(1_000) },
        "0%",
        "How far above the mean of the baseline a quiet level may be all the same.",
    ),
    Field::with_default("verdicts", Kind::Flag, "true", "No verdict is worse than in the baseline."),
    Field::with_default(
        "interference",
        Kind::Flag,
        "true",
        "No interference has grown by more than the isolated margin.",
    ),
    Field::optional(
        "max_age",
        Kind::Special(&AGE),
        "The most days between the baseline's latest run and today; any, unless given.",
    ),
];

const MODES: &[&str] = &{
    let mut ids = [""; SharingMode::ALL.len()];
    let mut i = 0;
    while i < ids.len() {
        ids[i] = SharingMode::ALL[i].id();
        i += 1;
    }
    ids
};

const CHANNELS: &[&str] = &{
    let mut ids = [""; Channel::ALL.len()];
    let mut i = 0;
    while i < ids.len() {
        ids[i] = Channel::ALL[i].id();
        i += 1;
    }
    ids
};

const SHARING: Field = Field::optional(
    "sharing",
    Kind::List(&Kind::Word(MODES)),
    "Only under these sharing modes; under all of them unless given.",
);

pub(super) const CELL: &[Field] = &[
    Field::with_default(
        "name",
        Kind::Text,
        "*",
        "The cells as a glob: `arrangement/neighbour`, or `arrangement@seat/neighbour` where the victim sits in several places. \
         None that it covers: undecided.",
    ),
    SHARING,
    Field::required("must", Kind::Special(&MUST), "What their verdict must be, as in a scenario's `require`."),
];

pub(super) const OBJECTIVE: &[Field] = &[
    Field::with_default(
        "name",
        Kind::Text,
        "*",
        "The objectives as a glob over `arrangement[@seat]/neighbour`, or `arrangement[@seat]/quiet` for the quiet arms.",
    ),
    SHARING,
    Field::with_default("must", Kind::Word(&["met"]), "met", "Every one of them is met."),
];

pub(super) const HAZARD: &[Field] = &[
    Field::with_default("name", Kind::Text, "*", "The hazards as a glob: `arrangement[@seat]/hazard`."),
    SHARING,
    Field::required(
        "must",
        Kind::Special(&MUST),
        "What their verdict must be: a word, or words by \"default\", channel or hazard.",
    ),
];

pub(super) const OBSERVATION: &[Field] = &[
    Field::required("name", Kind::Text, "The observations as a glob: `arrangement/id`."),
    SHARING,
    Field::required("must", Kind::Text, "The finding that must come out."),
];

pub(super) const ACCEPT: &[Field] = &[
    Field::required(
        "cell",
        Kind::Text,
        "The cell as a glob: `arrangement/neighbour`, or `arrangement@seat/neighbour`; a hazard is one too.",
    ),
    Field::optional("channel", Kind::Word(CHANNELS), "Only series of this channel; all of them unless given."),
    Field::required("reason", Kind::Text, "Why the risk is taken."),
    Field::required("by", Kind::Text, "Who took it."),
    Field::required("until", Kind::Date, "Last day on which it holds; compared with today."),
];

pub(super) const AGE: Shape = Shape { name: "age", expected: "a whole number of days such as \"30d\"", schema: age };

pub(super) const MUST: Shape = Shape {
    name: "must",
    expected: "a word, or a table of words by \"default\", channel, neighbour or \"neighbour/series\"",
    schema: must,
};

/// The tables of a policy.
const TABLES: &[&[Field]] = &[TOP, EVIDENCE, MARGINS, CELL, OBJECTIVE, HAZARD, OBSERVATION, BASELINE, ACCEPT];

fn age(_: &[&'static Workload]) -> Json {
    scenario::schema_text("[1-9][0-9]{0,4} ?d")
}

fn must(_: &[&'static Workload]) -> Json {
    scenario::schema_words(words_of(true))
}

/// The JSON Schema (draft 2020-12) of a policy, for editors.
pub fn schema() -> Json {
    let mut schema = scenario::schema_document("crosstalk policy", TOP, TABLES.iter().copied(), &[]);
    let asks = ["cell", "objective", "hazard", "observation", "baseline"].map(|key| json!({ "required": [key] }));
    let own =
        json!({ "properties": { "scenario_requirements": { "const": true } }, "required": ["scenario_requirements"] });
    schema["anyOf"] = asks.into_iter().chain([own]).collect();
    schema
}

/// The tier of this name; the reader lets no other pass.
pub(super) fn tier(name: Option<&str>) -> Tier {
    name.and_then(|name| name.parse().ok()).unwrap_or(Tier::Smoke)
}
