//! What a good file becomes, and that what is written reads back.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::{CATALOGUE, GOOD};
use crate::channel::Channel;
use crate::field::Value;
use crate::observation::Asked;
use crate::scenario::{
    Accept, Arrangement, Arrivals, Controls, Design, Expectation, LayoutEntry, Look, Margins, MpsDaemon, Neighbour,
    Probe, Quantile, Rule, Scenario, SharingMode, Slo, Tier, TimeSlice, Trial, Word, keys, read, read_at_tier,
    reference_markdown, schema,
};
use crate::units::{Bytes, Nanos, Rate, Share};
use crate::workload::{Params, Role, Workload};

fn good(text: &str) -> Scenario {
    read("good.toml", text, CATALOGUE).unwrap_or_else(|m| panic!("{}", m.render(false)))
}

#[test]
fn every_default_is_visible_in_what_is_written() {
    insta::assert_snapshot!(good(GOOD).write());
}

#[test]
fn tenants_is_a_short_form_of_equal_shares() {
    let layout = |sharing: &str| {
        let text = GOOD.replace("\"time-slicing\"", sharing).replace("tenants = 2", "tenants = 3");
        good(&text).arrangements[0].layout.clone().expect("a layout")
    };
    let three = LayoutEntry { tenants: 3, ..LayoutEntry::PLAIN };
    assert_eq!(layout("\"time-slicing\""), std::slice::from_ref(&three));
    // A third of the SMs, rounded down to parts per million, so that three never exceed the whole.
    assert_eq!(layout("\"mps\""), [LayoutEntry { sms: Some(Share(333_333)), ..three }]);
}

#[test]
fn seats_are_numbered_in_layout_order_and_nested_ones_within() {
    let layout = |of: &[u32]| of.iter().map(|n| LayoutEntry { tenants: *n, ..LayoutEntry::PLAIN }).collect::<Vec<_>>();
    let ids = |sharing, of: &[u32]| {
        let seats = crate::scenario::model::seats_of(sharing, &layout(of));
        seats.into_iter().map(|(id, entry)| format!("{id}:{entry}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ids(SharingMode::MigTimeSlicing, &[2, 1, 3]), "0.0:0 0.1:0 1:1 2.0:2 2.1:2 2.2:2");
    assert_eq!(ids(SharingMode::TimeSlicing, &[2, 1]), "0:0 1:0 2:1");
    assert_eq!(ids(SharingMode::Mig, &[1, 1]), "0:0 1:1");
}

#[test]
fn a_tier_from_outside_moves_only_what_the_text_leaves_open() {
    let text = GOOD.replace("[victim]", "[design]\ntier = \"acceptance\"\nblocks = 5\n\n[victim]");
    assert_eq!(good(&text).design.window, Nanos::millis(400));
    let certify = read_at_tier("x", &text, CATALOGUE, Some(Tier::Certify)).expect("good").design;
    assert_eq!((certify.tier, certify.blocks, certify.window), (Tier::Certify, 5, Nanos::secs(1)));
    assert!(certify.judged.contains(&Quantile::P999));
}

#[test]
fn looks_are_written_as_blocks_or_with_what_they_spend() {
    let looks = |keys: &str| {
        let text = GOOD.replace("[victim]", &format!("[design]\nblocks = 40\n{keys}\n\n[victim]"));
        good(&text).design.looks.iter().map(|look| (look.blocks, look.spends.0)).collect::<Vec<_>>()
    };
    assert_eq!(looks(""), [(40, 1_000_000)], "smoke looks once");
    assert_eq!(looks("tier = \"acceptance\""), [(16, 100_000), (20, 200_000), (40, 700_000)]);
    assert_eq!(looks("tier = \"acceptance\"\nlooks = \"none\""), [(40, 1_000_000)]);
    assert_eq!(looks("looks = [10]"), [(10, 300_000), (40, 700_000)]);
    assert_eq!(looks("looks = [10, 40]"), [(10, 300_000), (40, 700_000)]);
    assert_eq!(looks("looks = [{ blocks = 10, spends = \"25%\" }]"), [(10, 250_000), (40, 750_000)]);
    let all = "looks = [{ blocks = 8, spends = \"40%\" }, { blocks = 40, spends = \"60%\" }]";
    assert_eq!(looks(all), [(8, 400_000), (40, 600_000)]);
}

#[test]
fn controls_follow_the_tier_one_by_one() {
    let text = GOOD.replace(
        "[victim]",
        "[design]\ntier = \"acceptance\"\ncontrols = { again = false, presence = 2 }\nmax_duration = \"1h\"\n\n[victim]",
    );
    let design = good(&text).design;
    assert_eq!(design.controls, Controls { again: false, presence: 2, sensitivity: 5, delay: 12, sampler: 12 });
    assert_eq!(design.max_duration, Some(Nanos::secs(3_600)));
    assert_eq!(good(GOOD).design.controls, Controls { again: true, presence: 5, sensitivity: 3, delay: 5, sampler: 5 });
}

#[test]
fn a_workload_of_both_roles_fits_in_both_places() {
    let text = GOOD
        .replace("{ probe = \"launch\" }", "{ probe = \"h2d\" }")
        .replace("\"idle\"\n", "\"h2d\"\nname = \"idle\"\n");
    let s = good(&text);
    assert_eq!((s.panel[0].workload.id, s.neighbours[0].workload.id), ("h2d", "h2d"));
}

/// A neighbour whose workload is called like the one channel that it alone is named by: its key can mean nothing else.
#[test]
fn a_neighbour_may_be_called_like_the_channel_that_is_its_own() {
    let text = GOOD
        .replace("[[arrangement]]", "[[neighbour]]\nname = \"pcie\"\nnoise = \"d2h\"\n\n[[arrangement]]")
        .replace("idle = \"isolated\"", "default = \"isolated\", pcie = \"any\"");
    let s = good(&text);
    let (require, pcie) = (&s.arrangements[0].require, Channel::Pcie);
    assert_eq!(require.word_for("pcie", pcie, "launch"), Some(Word::Any));
    assert_eq!(format!("{s:?}"), format!("{:?}", good(&s.write())));
}

/// The text as JSON, as an editor that validates TOML sees it: dates are text.
pub(super) fn as_json(text: &str) -> serde_json::Value {
    fn convert(value: toml::Value) -> serde_json::Value {
        match value {
            toml::Value::Datetime(date) => date.to_string().into(),
            toml::Value::Array(items) => items.into_iter().map(convert).collect(),
            toml::Value::Table(table) => {
                serde_json::Value::Object(table.into_iter().map(|(k, v)| (k, convert(v))).collect())
            }
            other => serde_json::to_value(other).expect("a scalar"),
        }
    }
    convert(toml::Value::Table(text.parse().expect("TOML")))
}

#[test]
fn the_schema_takes_what_the_reader_takes() {
    let validator = jsonschema::draft202012::new(&schema(CATALOGUE)).expect("a schema");
    let errors = |text: &str| validator.iter_errors(&as_json(text)).map(|e| e.to_string()).collect::<Vec<_>>();
    assert_eq!(errors(GOOD), Vec::<String>::new());
    assert_eq!(errors(&good(GOOD).write()), Vec::<String>::new());
    for (from, to) in [
        ("schema = 1", "schema = 2"),
        ("name = \"good\"", "name = \".good\""),
        ("name = \"good\"", ""),
        ("\"1GiB\"", "\"1GB\""),
        ("footprint = \"25%\"", "foot_print = \"25%\""),
        ("noise = \"hbm-read\"", "noise = \"hbm-chase\""),
        ("noise = \"idle\"", "noise = \"idle\"\nparams = { footprint = \"1GiB\" }"),
        ("\"time-slicing\"", "\"slicing\""),
        ("tenants = 2", "tenants = 1"),
        ("expect = { hbm-bandwidth = \"violated\" }", "expect = \"any\""),
        ("2027-06-30", "1"),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert!(!errors(&text).is_empty(), "the schema takes {to:?}");
        assert!(read("x", &text, CATALOGUE).is_err(), "the reader takes {to:?}");
    }
}

#[test]
fn every_key_is_in_schema_and_reference() {
    let (schema, reference) = (schema(CATALOGUE).to_string(), reference_markdown());
    for (heading, fields) in keys::TABLES {
        assert!(reference.contains(&format!("## {heading}\n")));
        for field in *fields {
            assert!(schema.contains(&format!("\"{}\":", field.key)), "{} is not in the schema", field.key);
            assert!(reference.contains(&format!("| `{}` |", field.key)), "{} is not in the reference", field.key);
            let default = field.default.map(|text| field.kind.parse(text));
            assert!(!matches!(default, Some(Err(_))), "the default of {} is no such value", field.key);
            assert!(field.doc.ends_with('.'), "the doc of {} is no sentence", field.key);
        }
    }
}

// ---- generated scenarios ----

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-][A-Za-z0-9._-]{0,8}".prop_filter("reserved", |n| {
        !["default", "quiet", "slo"].contains(&n.as_str()) && Channel::ALL.iter().all(|channel| channel.id() != n)
    })
}

fn free_text() -> impl Strategy<Value = String> {
    // Quotes, backslashes, line ends and control characters are what a printer gets wrong.
    proptest::collection::vec(prop_oneof![any::<char>(), select(vec!['"', '\\', '\n', '\t', '\r', '#', '\''])], 1..12)
        .prop_map(|chars| chars.into_iter().collect())
}

fn millis(range: std::ops::Range<u64>) -> impl Strategy<Value = Nanos> {
    range.prop_map(Nanos::millis)
}

fn params_of(workload: &'static Workload) -> BoxedStrategy<Params> {
    let Some(field) = workload.params.first() else { return Just(Params::default()).boxed() };
    let value = match field.key {
        "length" => (1_000u64..100_000).prop_map(|us| Value::Duration(Nanos::micros(us))).boxed(),
        _ => prop_oneof![
            (1u32..=1_000_000).prop_map(|s| Value::Share(Share(s))),
            (1u64 << 20..1 << 40).prop_map(|b| Value::Bytes(Bytes(b))),
        ]
        .boxed(),
    };
    value.prop_map(|v| Params([(field.key, v)].into())).boxed()
}

fn workload(not: Role) -> impl Strategy<Value = (&'static Workload, Params)> {
    let fit: Vec<&'static Workload> = CATALOGUE.iter().copied().filter(|w| w.role != not).collect();
    select(fit).prop_flat_map(|w| (Just(w), params_of(w)))
}

fn probe() -> impl Strategy<Value = Probe> {
    let rate = || (1u64..1_000_000).prop_map(Rate);
    let arrivals =
        prop_oneof![Just(Arrivals::Auto), rate().prop_map(Arrivals::Poisson), rate().prop_map(Arrivals::Fixed)];
    let slos = proptest::collection::btree_map(1u32..100_000, 1u64..3_600_000_000_000, 0..3);
    (workload(Role::Noise), arrivals, 1u32..=1_024, slos).prop_map(
        |((workload, params), arrivals, outstanding, slos)| {
            let slos = slos.into_iter().map(|(q, ns)| Slo { quantile: Quantile(q), bound: Nanos(ns) });
            let slos = if arrivals == Arrivals::Auto { Vec::new() } else { slos.collect() };
            Probe { name: String::new(), workload, params, arrivals, outstanding, slos }
        },
    )
}

fn neighbour() -> impl Strategy<Value = Neighbour> {
    (workload(Role::Probe), 10_000u32..=1_000_000, millis(1..60_000), 2u32..=8).prop_map(
        |((workload, params), duty, burst, queued)| Neighbour {
            name: String::new(),
            workload,
            params,
            duty: Share(duty),
            burst,
            queued,
        },
    )
}

fn design() -> impl Strategy<Value = Design> {
    let margin = || (1u32..1_000_000, 1u32..1_000_000).prop_map(|(a, more)| (Share(a), Share(a + more)));
    let judged = proptest::collection::btree_set((1u32..100_000).prop_map(Quantile), 1..4);
    let early = proptest::collection::btree_set(1u32..10_000, 0..4);
    let most = proptest::option::of((1u64..1_000).prop_map(Nanos::secs));
    (
        (select(Tier::ALL), early, (any::<bool>(), 0u32..100, 0u32..100, 0u32..100, 0u32..100), most),
        (1u32..10_000, 1u32..10_000),
        (millis(1..1_000), millis(1_000..9_000), millis(0..10_000), millis(1..60_000)),
        judged,
        (margin(), margin(), margin()),
    )
        .prop_map(
            |(
                (tier, early, (again, presence, sensitivity, delay, sampler), max_duration),
                (blocks, blocks_per_generation),
                (window, max_window, washout, drain),
                judged,
                (p50, p99, p999),
            )| {
                let judged = judged.into_iter().collect();
                let margins = Margins { p50, p99, p999 };
                Design {
                    blocks,
                    blocks_per_generation,
                    window,
                    max_window,
                    washout,
                    drain,
                    judged,
                    margins,
                    looks: Look::split(&early.into_iter().collect::<Vec<_>>(), blocks),
                    controls: Controls { again, presence, sensitivity, delay, sampler },
                    max_duration,
                    tier,
                }
            },
        )
}

fn layout() -> impl Strategy<Value = (SharingMode, Option<Vec<LayoutEntry>>)> {
    let entry = |sharing: SharingMode| {
        let (profile, plain) = (|p: &str| Some(p.to_owned()), LayoutEntry::PLAIN);
        match sharing {
            SharingMode::Mig => LayoutEntry { profile: profile("1g.10gb+me"), ..plain },
            SharingMode::MigComputeInstances => LayoutEntry { profile: profile("1c.3g.40gb"), ..plain },
            SharingMode::MigTimeSlicing | SharingMode::MigMps => {
                LayoutEntry { profile: profile("3g.40gb"), tenants: 2, ..plain }
            }
            SharingMode::Mps => {
                LayoutEntry { sms: Some(Share::percent(25)), reserved: true, memory: Some(Bytes::gib(20)), ..plain }
            }
            SharingMode::GreenContexts => LayoutEntry { sms: Some(Share::percent(20)), tenants: 2, ..plain },
            _ => plain,
        }
    };
    (select(SharingMode::ALL), 0usize..3).prop_map(move |(sharing, entries)| {
        let as_found = entries == 0 || sharing == SharingMode::Exclusive;
        (sharing, (!as_found).then(|| vec![entry(sharing); 2]))
    })
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let named = |n: std::ops::Range<usize>| {
        proptest::collection::btree_set(name(), n).prop_map(|s| s.into_iter().collect::<Vec<_>>())
    };
    (named(1..4), named(1..4), named(1..3)).prop_flat_map(|(probes, neighbours, arrangements)| {
        let panel = proptest::collection::vec(probe(), probes.len()).prop_map(move |panel| {
            panel.into_iter().zip(&probes).map(|(p, name)| Probe { name: name.clone(), ..p }).collect::<Vec<_>>()
        });
        let noises = proptest::collection::vec(neighbour(), neighbours.len()).prop_map(move |all| {
            all.into_iter().zip(&neighbours).map(|(n, name)| Neighbour { name: name.clone(), ..n }).collect::<Vec<_>>()
        });
        (panel, noises, Just(arrangements)).prop_flat_map(whole)
    })
}

/// A hazard with parameters of its own.
fn trial() -> Trial {
    let hazard = &crate::hazard::CAPACITY;
    let given = [("how", "leak"), ("limit", "60GiB")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let params = crate::workload::resolve_fields(hazard.id, hazard.params, &given.into()).unwrap();
    Trial { name: "takes-memory".to_owned(), hazard, params }
}

/// A scenario over this panel, these neighbours and arrangements of these names.
fn whole((panel, neighbours, names): (Vec<Probe>, Vec<Neighbour>, Vec<String>)) -> impl Strategy<Value = Scenario> {
    let some_of = |n: usize| subsequence((0..n).collect::<Vec<_>>(), 1..=n);
    let series: Vec<Vec<String>> = panel.iter().map(Probe::series).collect();
    let noise_names: Vec<String> = neighbours.iter().map(|n| n.name.clone()).collect();
    let arrangements: Vec<_> = names
        .into_iter()
        .map(|name| {
            let (series, noise_names) = (series.clone(), noise_names.clone());
            let words = (select(&Word::ALL[..5]), select(&Word::ALL[..4]), select(&Word::ALL[..4]));
            let required = proptest::option::of(select(vec!["none".to_owned(), "milliseconds".to_owned()]));
            (layout(), some_of(panel.len()), some_of(neighbours.len()), words, (any::<bool>(), required)).prop_map(
                move |((sharing, layout), panel, neighbours, (any, word, other), (asked, required))| {
                    let noise = &noise_names[neighbours[0]];
                    let rule = |key: String, word| Rule { key, word };
                    let series = &series[panel[0]];
                    let require = vec![
                        rule(format!("{noise}/{}", series[series.len() - 1]), any),
                        rule("default".to_owned(), word),
                    ];
                    Arrangement {
                        density: None,
                        name: name.clone(),
                        sharing,
                        mps_daemon: if sharing == SharingMode::Mps { MpsDaemon::Running } else { MpsDaemon::Own },
                        time_slice: (sharing == SharingMode::TimeSlicing).then_some(TimeSlice::Short),
                        layout,
                        panel,
                        neighbours,
                        hazards: vec![0],
                        victim_at: None,
                        neighbour_at: None,
                        require: Expectation(require),
                        expect: Expectation(vec![rule("default".to_owned(), other)]),
                        observe: asked.then(|| Asked { id: "turns".to_owned(), required }).into_iter().collect(),
                        against: None,
                    }
                },
            )
        })
        .collect();
    let head =
        (name(), proptest::option::of(free_text()), any::<(bool, bool, bool)>(), 0..=i64::MAX as u64, free_text());
    (arrangements, design(), head).prop_map(move |(arrangements, design, (name, description, allow, seed, reason))| {
        let first = &arrangements[0];
        let accepted = vec![Accept {
            cell: format!("{}/{}", first.name, neighbours[first.neighbours[0]].name),
            channel: Some("pcie".to_owned()),
            reason: reason.clone(),
            by: reason,
            until: jiff::civil::date(2027, 6, 30),
        }];
        Scenario {
            name,
            description,
            device: Some("sim:h100-sxm/3g.40gb+3g.40gb".to_owned()),
            gpu: Some("H100*".to_owned()),
            seed,
            design,
            panel: panel.clone(),
            neighbours: neighbours.clone(),
            hazards: vec![trial()],
            arrangements,
            accepted,
            allow_faults: allow.0,
            allow_oom: allow.1,
            allow_power: allow.2,
        }
    })
}

proptest! {
    #[test]
    fn a_scenario_reads_back_equal(scenario in scenario()) {
        let text = scenario.write();
        let again = read("written.toml", &text, CATALOGUE).map_err(|m| TestCaseError::fail(m.render(false)))?;
        prop_assert_eq!(format!("{scenario:#?}"), format!("{again:#?}"));
        prop_assert_eq!(text, again.write());
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}", at in 0usize..600, cut in 0usize..40) {
        let _ = read("x", &text, CATALOGUE);
        let good: Vec<char> = GOOD.chars().collect();
        let spoilt: String = good.iter().take(at).chain(good.iter().skip(at + cut)).collect();
        if let Err(mistakes) = read("x", &spoilt, CATALOGUE) {
            prop_assert!(!mistakes.all.is_empty(), "refused without a mistake");
            prop_assert!(mistakes.render(false).contains("mistake"));
        }
    }
}

#[test]
fn equal_tenants_are_read_and_read_back_equal() {
    use crate::units::{Bytes, Nanos};
    for (window, design) in [(None, ""), (Some(Nanos::secs(2)), "[design]\nwindow = \"2s\"\n\n[[arr")] {
        let text = if design.is_empty() { super::DENSE.to_owned() } else { super::DENSE.replacen("[[arr", design, 1) };
        let text = text.replacen("at_least = 3", "at_least = 3, every = true, memory = \"20GiB\"", 1);
        let scenario = good(&text);
        let density = scenario.arrangements[0].density.clone().unwrap();
        assert_eq!((density.counts.as_slice(), density.probe, density.window), (&[1, 2, 4][..], 0, window));
        assert_eq!((density.at_least, density.every, density.memory), (Some(3), true, Some(Bytes::gib(20))));
        assert_eq!(density.levels().collect::<Vec<_>>(), [(1, true), (2, true), (3, false), (4, true)]);
        let arrangement = &scenario.arrangements[0];
        assert_eq!(
            (arrangement.panel.as_slice(), arrangement.neighbours.len(), arrangement.hazards.len()),
            (&[0][..], 0, 0)
        );
        let again = good(&scenario.write());
        assert_eq!(format!("{scenario:#?}"), format!("{again:#?}"));
    }
    let nested = super::DENSE.replacen("time-slicing", "mig+time-slicing", 1).replacen("[1, 2, 4]", "[2, 6]", 1);
    let scenario = good(&nested.replacen("at_least = 3", "instances = 2", 1));
    let density = scenario.arrangements[0].density.clone().unwrap();
    assert_eq!(density.levels().collect::<Vec<_>>(), [(2, true), (4, false), (6, true)]);
    assert_eq!(format!("{scenario:#?}"), format!("{:#?}", good(&scenario.write())));
    let lone = good(&super::DENSE.replacen("[1, 2, 4]", "3", 1));
    assert_eq!(lone.arrangements[0].density.as_ref().map(|d| d.counts.clone()), Some(vec![3]));
}

#[test]
fn the_schema_takes_equal_tenants() {
    let validator = jsonschema::draft202012::new(&crate::scenario::schema(CATALOGUE)).expect("a schema");
    assert!(validator.is_valid(&as_json(super::DENSE)));
    for (from, to) in
        [("[1, 2, 4]", "[]"), ("all = \"launch\", ", ""), ("at_least = 3", "atleast = 3"), ("[1, 2, 4]", "0")]
    {
        assert!(!validator.is_valid(&as_json(&super::DENSE.replacen(from, to, 1))), "{to}");
    }
}
