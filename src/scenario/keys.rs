//! Every key of a scenario: the one table from which reader, JSON Schema, reference and tests derive.

use super::expectation::Word;
use super::model::{MpsDaemon, SharingMode, TimeSlice};
use super::schema as json;
use crate::channel::Channel;
use crate::field::{Field, Kind, Shape};
use crate::units::{Bytes, Nanos, Rate, Share};

/// The version that this build reads and writes.
pub const SCHEMA_VERSION: u64 = 1;

const ANY_COUNT: Kind = Kind::Count { min: 0, max: i64::MAX as u64 };

pub(super) const TOP: &[Field] = &[
    Field::required(
        "schema",
        Kind::Count { min: SCHEMA_VERSION, max: SCHEMA_VERSION },
        "Version of this format; this build reads 1.",
    ),
    Field::required("name", Kind::Name, "Name of the scenario."),
    Field::optional("description", Kind::Text, "What it asks, in one sentence."),
    Field::optional(
        "device",
        Kind::Special(&DEVICE),
        "Device that it pins; a `--device` on the command line beats it.",
    ),
    Field::optional(
        "gpu",
        Kind::Text,
        "The GPU that it asks for: a glob over the product name without \"NVIDIA \", or the id of a model; any GPU unless given.",
    ),
    Field::with_default("seed", ANY_COUNT, "1", "Seed of every random order and arrival."),
    Field::with_default("allow_faults", Kind::Flag, "false", "Faults may be provoked on hardware."),
    Field::with_default("allow_oom", Kind::Flag, "false", "Memory may be filled until allocations fail on hardware."),
    Field::with_default("allow_power", Kind::Flag, "false", "Power viruses may run on hardware."),
    Field::optional("design", Kind::Table(DESIGN), "The design of the experiment; every key has a default."),
    Field::optional(
        "victim",
        Kind::Table(VICTIM),
        "The tenant whose latency is measured; it may be left out, with the neighbours, where there are hazards.",
    ),
    Field::optional(
        "neighbour",
        Kind::List(&Kind::Table(NEIGHBOUR)),
        "The tenants that make noise, one at a time; none are needed where every arrangement has equal tenants.",
    ),
    Field::optional(
        "hazard",
        Kind::List(&Kind::Table(HAZARD)),
        "What a neighbour may do beside slowing the victim: tried in every arrangement, after its blocks.",
    ),
    Field::required(
        "arrangement",
        Kind::List(&Kind::Table(ARRANGEMENT)),
        "The ways of sharing under test: who sits where.",
    ),
    Field::optional("accept", Kind::List(&Kind::Table(ACCEPT)), "Requirements not met, whose risk somebody took."),
];

pub(super) const DESIGN: &[Field] = &[
    Field::with_default("tier", Kind::Word(&["smoke", "acceptance", "certify"]), "smoke", "Tier of evidence."),
    Field::optional(
        "blocks",
        Kind::Count { min: 1, max: 10_000 },
        "Blocks: one quiet arm and one noisy arm per neighbour, in random order.",
    ),
    Field::with_default(
        "blocks_per_generation",
        Kind::Count { min: 1, max: 10_000 },
        "4",
        "Blocks between two restarts of the tenants.",
    ),
    Field::optional(
        "window",
        Kind::Duration { min: Nanos::millis(1), max: Nanos::secs(600) },
        "Length of a window, in which one probe issues requests. Of equal tenants unless given: as long as their objectives \
         take at their load.",
    ),
    Field::optional(
        "max_window",
        Kind::Duration { min: Nanos::millis(1), max: Nanos::secs(3_600) },
        "Most that a window may be lengthened to for a slow probe; at least the window.",
    ),
    Field::with_default(
        "washout",
        Kind::Duration { min: Nanos::ZERO, max: Nanos::secs(10) },
        "1s",
        "Shortest pause between two arms; below 1s only where nothing is measured on hardware.",
    ),
    Field::with_default(
        "drain",
        Kind::Duration { min: Nanos::millis(1), max: Nanos::secs(60) },
        "500ms",
        "After a window; what is still open then is censored, not lost.",
    ),
    Field::optional("judged", Kind::List(&Kind::Special(&QUANTILE)), "Quantiles that get a verdict."),
    Field::optional(
        "margins",
        Kind::Table(MARGINS),
        "Slowdowns that still count as isolated, and that count as violated.",
    ),
    Field::optional(
        "looks",
        Kind::Special(&LOOKS),
        "Looks at the data, declared beforehand: a neighbour of which everything is decided stops there.",
    ),
    Field::optional(
        "controls",
        Kind::Table(CONTROLS),
        "What is run beside the cells to show that they mean something.",
    ),
    Field::optional(
        "max_duration",
        Kind::Duration { min: Nanos::secs(1), max: Nanos::secs(30 * 86_400) },
        "The longest that the run may take on a GPU; a plan beyond it is refused.",
    ),
];

pub(super) const LOOK: &[Field] = &[
    Field::required("blocks", Kind::Count { min: 1, max: 10_000 }, "Blocks after which it is taken."),
    Field::required(
        "spends",
        Kind::Share { min: Share(1_000), max: Share::percent(100) },
        "Part of every error rate that it may spend; all looks together spend 100%.",
    ),
];

pub(super) const CONTROLS: &[Field] = &[
    Field::with_default(
        "again",
        Kind::Flag,
        "true",
        "A/A: a second quiet arm in every block, which must come out isolated.",
    ),
    Field::optional(
        "presence",
        Kind::Count { min: 0, max: 10_000 },
        "Generations after which the victim is measured once without any neighbour's process.",
    ),
    Field::optional(
        "sensitivity",
        Kind::Count { min: 0, max: 1_000 },
        "Pairs of arms with the noise inside the victim's own place, where the mode promises a share of its own.",
    ),
    Field::optional(
        "delay",
        Kind::Count { min: 0, max: 1_000 },
        "Quiet arms with an injected delay of known size, for channels that no noise inside the victim's own place exercises.",
    ),
    Field::optional(
        "sampler",
        Kind::Count { min: 0, max: 1_000 },
        "Quiet arms, once per arrangement, without the thread that reads clocks and power.",
    ),
];

pub(super) const MARGINS: &[Field] = &[
    Field::optional(
        "p50",
        Kind::Special(&MARGIN),
        "Margins at p50 and every quantile below p95; 5% and 25% unless given.",
    ),
    Field::optional("p99", Kind::Special(&MARGIN), "Margins from p95 to below p99.9; 10% and 50% unless given."),
    Field::optional("p99.9", Kind::Special(&MARGIN), "Margins at p99.9 and above; 25% and 100% unless given."),
];

pub(super) const VICTIM: &[Field] =
    &[Field::required("panel", Kind::List(&Kind::Table(PROBE)), "The victim's probes, each in windows of its own.")];

pub(super) const PROBE: &[Field] = &[
    Field::required("probe", Kind::Special(&PROBE_ID), "Workload whose latency is recorded."),
    Field::optional("name", Kind::Name, "Name of its series; the workload's id unless given."),
    Field::optional("params", Kind::Special(&PARAMS), "Parameters of the workload."),
    Field::optional(
        "arrivals",
        Kind::Special(&ARRIVALS),
        "When requests arrive; \"auto\" unless given: a Poisson process of 10 % of the rate that it reaches in place.",
    ),
    Field::optional(
        "slo",
        Kind::Special(&SLO),
        "Bounds on its latency; it then runs at the arrivals given, which it needs.",
    ),
    Field::with_default("outstanding", Kind::Count { min: 1, max: 1_024 }, "8", "Requests in flight at most."),
];

pub(super) const NEIGHBOUR: &[Field] = &[
    Field::required("noise", Kind::Special(&NOISE_ID), "Workload that makes the noise."),
    Field::optional("name", Kind::Name, "Name; the workload's id unless given."),
    Field::optional("params", Kind::Special(&PARAMS), "Parameters of the workload."),
    Field::with_default(
        "duty",
        Kind::Share { min: Share::percent(1), max: Share::percent(100) },
        "100%",
        "Part of the time in which it is noisy.",
    ),
    Field::with_default(
        "burst",
        Kind::Duration { min: Nanos::millis(1), max: Nanos::secs(60) },
        "100ms",
        "Length of one burst and the pause after it together, where duty is below 100%.",
    ),
    Field::with_default("queued", Kind::Count { min: 2, max: 8 }, "4", "Requests that it keeps queued."),
];

const SHARING: &[&str] = &{
    let mut ids = [""; SharingMode::ALL.len()];
    let mut i = 0;
    while i < ids.len() {
        ids[i] = SharingMode::ALL[i].id();
        i += 1;
    }
    ids
};

pub(super) const ARRANGEMENT: &[Field] = &[
    Field::required("name", Kind::Name, "Name of the arrangement."),
    Field::required("sharing", Kind::Word(SHARING), "How the tenants share the hardware."),
    Field::optional(
        "layout",
        Kind::Special(&LAYOUT),
        "The shares, in order; \"as-found\" unless given: the machine is tested as it is.",
    ),
    Field::optional(
        "tenants",
        Kind::Special(&TENANTS),
        "Short form of a layout of this many equal shares. As a table: equal tenants in growing numbers, each a victim and a \
         neighbour of the others, in place of all keys below but `mps_daemon` and `time_slice`.",
    ),
    Field::optional(
        "mps_daemon",
        Kind::Word(&[MpsDaemon::Own.id(), MpsDaemon::Running.id()]),
        "Under mps and mig+mps: a control daemon of the run's own, which it is unless given, or the one that is running.",
    ),
    Field::optional(
        "time_slice",
        Kind::Word(&[TimeSlice::Default.id(), TimeSlice::Short.id(), TimeSlice::Medium.id(), TimeSlice::Long.id()]),
        "Under time-slicing: level of the time slice, set for the arrangement under --allow-reconfigure; whatever it is \
         unless given.",
    ),
    Field::optional("panel", Kind::List(&Kind::Name), "Probes that run here, by name; all of them unless given."),
    Field::optional(
        "neighbours",
        Kind::List(&Kind::Name),
        "Neighbours that run here, by name; all of them unless given.",
    ),
    Field::optional(
        "hazards",
        Kind::List(&Kind::Name),
        "Hazards that are tried here, by name; all of them unless given.",
    ),
    Field::optional(
        "victim_at",
        Kind::List(&Kind::Special(&SEAT)),
        "Seats that take the victim's place; each distinct share once unless given.",
    ),
    Field::optional(
        "neighbour_at",
        Kind::List(&Kind::Special(&SEAT)),
        "Seats where the neighbours sit; all but the victim's unless given.",
    ),
    Field::optional(
        "require",
        Kind::Special(&REQUIRE),
        "What decides the exit code; nothing unless given. In a table, `slo = \"met\"` asks that every objective of the panel \
         holds, quiet and beside every neighbour: one that is missed gives 1, one that is not decided 4.",
    ),
    Field::optional("expect", Kind::Special(&EXPECT), "Known physics: a surprise is a warning."),
    Field::optional(
        "observe",
        Kind::Special(&OBSERVE),
        "What is observed here beside the cells: observations by id, each with the finding that must come out, or \"any\".",
    ),
    Field::optional(
        "against",
        Kind::Name,
        "The arrangement that observations compare this one with, by name; the exclusive one unless given.",
    ),
];

/// Keys of an arrangement that mean something beside equal tenants in growing numbers.
pub(super) const BESIDE_DENSITY: &[&str] = &["name", "sharing", "tenants", "mps_daemon", "time_slice"];

pub(super) const DENSITY: &[Field] = &[
    Field::required(
        "count",
        Kind::Special(&COUNT),
        "Tenants that are asked for. Where the objective is met by one of them and missed by the next, the numbers between are \
         measured too; the search measures no more of all these than it needs.",
    ),
    Field::required(
        "all",
        Kind::Name,
        "The probe that every tenant runs, by name: one with an objective, at its own load, which each tenant has for itself.",
    ),
    Field::with_default(
        "every",
        Kind::Flag,
        "false",
        "Every number of `count` is measured, for a whole curve, not only those that the search needs.",
    ),
    Field::optional(
        "at_least",
        Kind::Count { min: 1, max: MOST_TENANTS },
        "Tenants that must be shown to meet every objective: decides the exit code. Nothing is required unless given.",
    ),
    Field::optional(
        "memory",
        Kind::Bytes { min: Bytes::mib(1), max: Bytes(u64::MAX) },
        "Device memory that each tenant holds, in all; what its probe allocates unless given.",
    ),
    Field::optional(
        "instances",
        Kind::Count { min: 1, max: MOST_TENANTS },
        "Under mig+time-slicing, where it is needed: equal GPU instances among which the tenants are divided.",
    ),
];

/// Shares of more tenants than MPS has clients are a slip of the pen.
pub(super) const MOST_TENANTS: u64 = 60;

pub(super) const SHARE: &[Field] = &[
    Field::optional("profile", Kind::Text, "MIG profile (\"3g.40gb\", \"1c.3g.40gb\"), under the MIG modes."),
    Field::optional(
        "sms",
        Kind::Share { min: Share::percent(1), max: Share::percent(100) },
        "Part of the SMs: a cap under MPS, a set of its own under green contexts.",
    ),
    Field::with_default("reserved", Kind::Flag, "false", "The part of the SMs is reserved: a static MPS partition."),
    Field::optional(
        "memory",
        Kind::Bytes { min: Bytes::mib(1), max: Bytes(u64::MAX) },
        "Device memory that a tenant may use at most, under MPS.",
    ),
    Field::with_default("tenants", Kind::Count { min: 1, max: MOST_TENANTS }, "1", "Tenants in it."),
];

const CHANNELS: &[&str] = &{
    let mut ids = [""; Channel::ALL.len()];
    let mut i = 0;
    while i < ids.len() {
        ids[i] = Channel::ALL[i].id();
        i += 1;
    }
    ids
};

pub(super) const HAZARD: &[Field] = &[
    Field::required("hazard", Kind::Special(&HAZARD_ID), "What is tried, by id."),
    Field::optional("name", Kind::Name, "Its name in requirements and reports; the id unless given."),
    Field::optional("params", Kind::Special(&HAZARD_PARAMS), "Its parameters; every one has a default."),
];

pub(super) const ACCEPT: &[Field] = &[
    Field::required("cell", Kind::Text, "The cell: `arrangement/neighbour`, or `arrangement@seat/neighbour`."),
    Field::optional("channel", Kind::Word(CHANNELS), "Only series of this channel; all of them unless given."),
    Field::required("reason", Kind::Text, "Why the risk is taken."),
    Field::required("by", Kind::Text, "Who took it."),
    Field::required("until", Kind::Date, "Last day on which it holds."),
];

pub(super) const ARRIVALS_TABLE: &[Field] = &[
    Field::optional("poisson", ARRIVAL_RATE, "A Poisson process of this rate."),
    Field::optional("fixed", ARRIVAL_RATE, "Evenly spaced; can phase-lock with time slices."),
];
const ARRIVAL_RATE: Kind = Kind::Rate { min: Rate(1), max: Rate::per_second(1_000_000) };
pub(super) const SLO_BOUND: Kind = Kind::Duration { min: Nanos(1), max: Nanos::secs(3_600) };

const REQUIRE_WORDS: &[&str] = words::<5>();
const EXPECT_WORDS: &[&str] = words::<4>();
/// The words of the key `slo` in `require`.
pub(super) const SLO_WORDS: &[&str] = &[Word::Met.id(), Word::Any.id()];

/// The first `N` words: those of verdicts in `require`, and without `any` in `expect`.
const fn words<const N: usize>() -> &'static [&'static str] {
    const ALL: &[&str] = &{
        let mut ids = [""; Word::ALL.len()];
        let mut i = 0;
        while i < ids.len() {
            ids[i] = Word::ALL[i].id();
            i += 1;
        }
        ids
    };
    ALL.split_at(N).0
}

/// The words that `require` (or else `expect`) knows.
pub(crate) const fn words_of(require: bool) -> &'static [&'static str] {
    if require { REQUIRE_WORDS } else { EXPECT_WORDS }
}

pub(super) const DEVICE: Shape = Shape {
    name: "device",
    expected: "\"auto\", \"all\", \"sim\", \"sim:MODEL\", \"sim:MODEL/LAYOUT\", \"cuda\", \"cuda:INDEX\", or the UUID of a GPU",
    schema: json::device,
};
pub(super) const QUANTILE: Shape =
    Shape { name: "quantile", expected: "a quantile such as \"p99\" or \"p99.9\"", schema: json::quantile };
pub(super) const MARGIN: Shape = Shape {
    name: "margin",
    expected: "two shares, isolated and violated, such as [\"5%\", \"25%\"], the first below the second",
    schema: json::margin,
};
pub(super) const LOOKS: Shape = Shape {
    name: "looks",
    expected: "\"none\", a list of blocks such as [12, 24], or of { blocks = 12, spends = \"10%\" }",
    schema: json::looks,
};
pub(super) const PROBE_ID: Shape = Shape { name: "probe", expected: "the id of a probe", schema: json::probe_id };
pub(super) const NOISE_ID: Shape = Shape { name: "noise", expected: "the id of a noise", schema: json::noise_id };
pub(super) const PARAMS: Shape =
    Shape { name: "params", expected: "a table of the workload's parameters", schema: json::params };
pub(super) const HAZARD_ID: Shape = Shape { name: "hazard", expected: "the id of a hazard", schema: json::hazard_id };
pub(super) const HAZARD_PARAMS: Shape =
    Shape { name: "hazard-params", expected: "a table of the hazard's parameters", schema: json::hazard_params };
pub(super) const ARRIVALS: Shape = Shape {
    name: "arrivals",
    expected: "\"auto\", { poisson = \"20/s\" } or { fixed = \"20/s\" }",
    schema: json::arrivals,
};
pub(super) const SLO: Shape =
    Shape { name: "slo", expected: "a table of quantiles and bounds such as { p99 = \"50ms\" }", schema: json::slo };
pub(super) const LAYOUT: Shape = Shape {
    name: "layout",
    expected: "\"as-found\", or a list of shares, each a MIG profile (\"3g.40gb\") or a table ({ profile = \"3g.40gb\", tenants = 2 })",
    schema: json::layout,
};
pub(super) const TENANTS: Shape = Shape {
    name: "tenants",
    expected: "a whole number, 2 … 60, or a table such as { count = [1, 2, 4, 8], all = \"inference\" }",
    schema: json::tenants,
};
pub(super) const COUNT: Shape = Shape {
    name: "count",
    expected: "a whole number, 1 … 60, or a list of rising ones such as [1, 2, 4, 8]",
    schema: json::count,
};
pub(super) const SEAT: Shape =
    Shape { name: "seat", expected: "the number of a seat in quotes, such as \"0\" or \"0.1\"", schema: json::seat };
pub(super) const REQUIRE: Shape = Shape {
    name: "require",
    expected: "a word, or a table of words by \"default\", channel, neighbour or \"neighbour/series\"; in the table also `slo`, \"met\" or \"any\"",
    schema: json::require,
};
pub(super) const EXPECT: Shape = Shape {
    name: "expect",
    expected: "a word other than \"any\", or a table of words by \"default\", channel, neighbour or \"neighbour/series\"",
    schema: json::expect,
};
pub(super) const OBSERVE: Shape = Shape {
    name: "observe",
    expected: "a table of observations and what must come out, such as { turns = \"milliseconds\" }",
    schema: json::observe,
};

/// The tables of a scenario with their headings, in the order of the reference.
pub(super) const TABLES: &[(&str, &[Field])] = &[
    ("The scenario", TOP),
    ("`[design]`", DESIGN),
    ("`[design] margins`", MARGINS),
    ("An entry of `looks`", LOOK),
    ("`[design] controls`", CONTROLS),
    ("`[victim]`", VICTIM),
    ("An entry of `panel`", PROBE),
    ("`[[neighbour]]`", NEIGHBOUR),
    ("`[[hazard]]`", HAZARD),
    ("`[[arrangement]]`", ARRANGEMENT),
    ("`tenants` as a table", DENSITY),
    ("An entry of `layout`", SHARE),
    ("`arrivals`", ARRIVALS_TABLE),
    ("`[[accept]]`", ACCEPT),
];
