//! What must hold of the gate: nothing passes for want of evidence.

use std::path::Path;

use jiff::civil::{Date, date};

use super::*;
use crate::channel::Channel;
use crate::run_dir::JudgedBy;
use crate::scenario::{Accept, Quantile, SharingMode, Slo};
use crate::units::{Nanos, Share};
use crate::verdict::synthetic::{Lab, lognormal};
use RequirementState::{Accepted, Met, NotMet, Undecided};

mod baseline;

/// The day on which synthetic runs begin.
const DAY: Date = date(2026, 6, 1);

/// Two probes under a placebo and two neighbours: `h2d` is slowed `ratio`-fold by `dma`, nothing else is slowed.
fn run_of(ratio: f64, seed: u64, blocks: u32) -> RecordedRun {
    let lab = Lab {
        seed,
        blocks,
        again: true,
        requests: 1_000,
        judged: vec![(Quantile::P50, JudgedBy::Blocks), (Quantile::P99, JudgedBy::Blocks)],
        panel: vec![("h2d", Channel::Pcie), ("launch", Channel::Launch)],
        neighbours: vec![
            ("idle", "idle", Channel::Host),
            ("dma", "d2h", Channel::Pcie),
            ("hog", "hbm-read", Channel::HbmBandwidth),
        ],
        ..Lab::default()
    };
    lab.run(|stream, draw| lognormal(stream) * if draw.probe == 0 && draw.neighbour == Some(1) { ratio } else { 1.0 })
}

fn run(ratio: f64) -> RecordedRun {
    run_of(ratio, 1, 17)
}

/// A policy that takes simulated runs and asks this besides.
fn policy(rest: &str) -> Policy {
    let text = format!("schema = 1\nname = \"test\"\nevidence.provenance = [\"simulated\"]\n{rest}");
    read("test.toml", &text).unwrap_or_else(|mistakes| panic!("{}\n{text}", mistakes.render(false)))
}

fn gate_with(
    policy: &Policy,
    run: RecordedRun,
    retries: Vec<RecordedRun>,
    previous: Vec<RecordedRun>,
    today: Date,
) -> Gate {
    let judged = |run| Judged::new(run, policy, None, today);
    let all = |runs: Vec<RecordedRun>| runs.into_iter().map(judged).collect::<Vec<_>>();
    Gate::judge(policy, &judged(run), &all(retries), &all(previous), today)
}

fn gate(rest: &str, run: RecordedRun) -> Gate {
    gate_with(&policy(rest), run, Vec::new(), Vec::new(), DAY)
}

fn state(gate: &Gate, subject: &str) -> RequirementState {
    finding(gate, subject).state
}

fn finding<'a>(gate: &'a Gate, subject: &str) -> &'a Finding {
    gate.findings.iter().find(|f| f.subject == subject).unwrap_or_else(|| panic!("no {subject} in {}", text(gate)))
}

const ISOLATED: &str = "[[cell]]\nname = \"pair/*\"\nmust = \"isolated\"";

#[test]
fn cells_are_what_they_must_be_or_the_gate_says_which_are_not() {
    let green = gate(ISOLATED, run(1.0));
    assert_eq!(green.answer, Met, "{}", text(&green));
    assert_eq!(green.findings.iter().filter(|f| f.rule == "cell[0]").count(), 3);
    let red = gate(ISOLATED, run(2.5));
    assert_eq!((red.answer, state(&red, "pair/dma"), state(&red, "pair/hog")), (NotMet, NotMet, Met));
    let line = text(&red).lines().find(|line| line.starts_with("NOT MET")).unwrap().to_owned();
    assert!(line.starts_with("NOT MET   pair/dma: violated, isolated asked: h2d p99 2."), "{line}");
    let excused = gate("[[cell]]\nmust = { default = \"isolated\", \"dma/h2d\" = \"violated\" }", run(2.5));
    assert_eq!(excused.answer, Met, "{}", text(&excused));
    let by_channel = gate("[[cell]]\nmust = { default = \"isolated\", pcie = \"any\" }", run(2.5));
    assert_eq!(by_channel.answer, Met, "{}", text(&by_channel));
}

#[test]
fn what_is_absent_never_passes() {
    let open = |rest: &str, run: RecordedRun, words: &str| {
        let gate = gate(rest, run);
        let found = gate.findings.iter().any(|f| f.state == Undecided && f.text.contains(words));
        assert!(gate.answer == Undecided && found, "{rest}: no {words:?} in {}", text(&gate));
    };
    open("[[cell]]\nname = \"mig*\"\nmust = \"isolated\"", run(1.0), "absent: no cell of this run is \"mig*\"");
    open("[[cell]]\nsharing = [\"mig\"]\nmust = \"isolated\"", run(1.0), "under mig");
    open("[[cell]]\nname = \"*/idle\"\nmust = \"isolated\"", run(1.0), "the placebo alone");
    for key in ["l2", "thrash", "\"hog/inference\""] {
        let rest = format!("[[cell]]\nmust = {{ default = \"isolated\", {key} = \"isolated\" }}");
        open(&rest, run(1.0), "absent: no cell that \"*\" covers has it, isolated asked");
    }
    open("[[objective]]", run(1.0), "absent: no objective");
    open("[[hazard]]\nmust = \"isolated\"", run(1.0), "absent: no hazard");
    open("[[observation]]\nname = \"*/turns\"\nmust = \"none\"", run(1.0), "absent: no observation");
    open("scenario_requirements = true", run(1.0), "the scenario requires nothing");
    open("evidence.tested = [\"l2\"]\n[[cell]]\nmust = \"isolated\"", run(1.0), "l2 not tested");

    let mut exclusive = run(1.0);
    exclusive.manifest.plan.arrangements[0].sharing = SharingMode::Exclusive;
    open(ISOLATED, exclusive, "absent: no cell");
    let mut skipped = run(1.0);
    skipped.skipped.insert(0, "MIG mode".to_owned());
    open(ISOLATED, skipped, "skipped, isolated asked: MIG mode");
    let mut unfinished = run(1.0);
    unfinished.finished = false;
    open(ISOLATED, unfinished, "the run was not finished");
    let mut short = run(1.0);
    short.arms.retain(|key, _| key.block < 9);
    open(ISOLATED, short, "arms are missing");
}

#[test]
fn evidence_is_what_the_policy_asks_or_decides_nothing() {
    let asked = |evidence: &str, change: &dyn Fn(&mut RecordedRun), today: Date, subject: &str| {
        let mut run = run(1.0);
        change(&mut run);
        let policy = policy(&format!("{evidence}\n{ISOLATED}"));
        let gate = gate_with(&policy, run, Vec::new(), Vec::new(), today);
        (gate.answer, finding(&gate, subject).text.clone())
    };
    let open = |evidence: &str, change: &dyn Fn(&mut RecordedRun), today: Date, subject: &str, words: &str| {
        let (answer, text) = asked(evidence, change, today, subject);
        assert!(answer == Undecided && text.contains(words), "{subject}: {answer:?} {text}");
    };
    let same: &dyn Fn(&mut RecordedRun) = &|_| ();
    assert_eq!(asked("evidence.max_age = \"30d\"", same, date(2026, 7, 1), "age"), (Met, "30 days".to_owned()));
    open("evidence.max_age = \"30d\"", same, date(2026, 7, 2), "age", "is 31 days old, 30 at most");
    open("", same, date(2026, 5, 31), "age", "after today");
    open("evidence.tier = \"acceptance\"\nevidence.scope = \"25%\"", same, DAY, "tier", "smoke, acceptance asked");
    open(
        "",
        &|run| run.manifest.plan.design.margins.p99.0 = Share::percent(40),
        DAY,
        "margins",
        "p99 within 40 %, 10 % at most",
    );
    open("", &|run| run.manifest.plan.design.judged.truncate(0), DAY, "quantiles", "p50, p99 not judged");
    open("evidence.gpu = \"a100*\"", same, DAY, "gpu", "which \"a100*\" does not cover");
    assert_eq!(asked("evidence.gpu = \"h100*\"", same, DAY, "gpu").0, Met);
    open("evidence.scenario = \"mig-*\"", same, DAY, "scenario", "synthetic, which");
    // 17 blocks at 1 %: 1 − 0.01^(1/17) = 23.7 %.
    open(
        "evidence.scope = \"20%\"",
        same,
        DAY,
        "pair/hog",
        "for episodes in 23.7 % of the arms or more, 20 % asked: 21 blocks",
    );
}

#[test]
fn only_what_was_measured_passes_a_ready_made_policy_or_one_that_says_nothing_of_it() {
    let own = format!("schema = 1\nname = \"own\"\n{ISOLATED}\n");
    for (name, text) in BUILTIN.iter().copied().chain([("own.toml", own.as_str())]) {
        let policy = read(name, text).unwrap();
        assert_eq!(policy.evidence.provenance, [Provenance::Measured], "{name}");
        for provenance in [Provenance::Simulated, Provenance::StandIn] {
            let mut run = run(2.5);
            run.manifest.provenance = provenance;
            let gate = gate_with(&policy, run, Vec::new(), Vec::new(), DAY);
            assert_eq!((gate.answer, gate.findings.len(), gate.banner.is_some()), (Undecided, 1, true), "{name}");
        }
    }
    let mut measured = run(1.0);
    measured.manifest.provenance = Provenance::Measured;
    let gate = gate_with(&read("own.toml", &own).unwrap(), measured, Vec::new(), Vec::new(), DAY);
    assert_eq!((gate.answer, gate.banner.as_deref()), (Met, None), "{}", text(&gate));
}

/// Seventeen blocks see episodes in 23.7 % of the arms at 1 %, and in 26.8 % at half of it.
#[test]
fn declared_retries_share_the_error_rate_and_take_their_blocks() {
    let level = |rest: &str| {
        let policy = policy(&format!("{rest}\n{ISOLATED}"));
        Judged::new(run(1.0), &policy, None, DAY).verdict.cells[0].series[0].level
    };
    assert_eq!((level(""), level("retries = 1"), level("retries = 3")), (0.01, 0.005, 0.0025));
    let short = gate(&format!("retries = 1\n{ISOLATED}"), run(1.0));
    let words = "isolated, for episodes in 26.8 % of the arms or more, 25 % asked: 19 blocks see them at half of the error rate";
    assert!(short.answer == Undecided && finding(&short, "pair/hog").text.starts_with(words), "{}", text(&short));
    assert_eq!(gate(&format!("retries = 1\n{ISOLATED}"), run_of(1.0, 1, 19)).answer, Met);
}

#[test]
fn a_retry_decides_what_is_open_and_nothing_else() {
    let policy = policy(&format!("retries = 1\nevidence.scope = \"27%\"\n{ISOLATED}"));
    let open = || {
        let mut run = run(1.0);
        run.arms.retain(|key, _| key.neighbour != Some(2) || key.block < 9);
        run
    };
    let with = |run: RecordedRun, retries: Vec<RecordedRun>| gate_with(&policy, run, retries, Vec::new(), DAY);
    assert_eq!(state(&with(open(), Vec::new()), "pair/hog"), Undecided);
    let retried = with(open(), vec![run_of(1.0, 2, 17)]);
    assert_eq!((retried.answer, finding(&retried, "pair/hog").retry), (Met, Some(1)), "{}", text(&retried));
    assert!(text(&retried).contains("RETRIED   pair/hog: isolated, isolated asked"), "{}", text(&retried));
    assert_eq!(with(open(), vec![run_of(2.5, 2, 17)]).answer, Met, "dma was decided by the run");
    assert_eq!(with(run(2.5), vec![run_of(1.0, 2, 17)]).answer, NotMet, "a retry overrules nothing");
    assert_eq!(with(open(), vec![open()]).answer, Undecided);
    let mut old = run_of(1.0, 2, 17);
    old.finished = false;
    assert_eq!(with(open(), vec![old]).answer, Undecided, "a retry is evidence like any other");
}

#[test]
fn a_failure_counts_once_it_is_seen_as_often_as_asked() {
    let policy = policy(&format!("confirm = 3\n{ISOLATED}"));
    let with = |previous: &[f64]| {
        let previous = previous.iter().enumerate().map(|(at, ratio)| run_of(*ratio, 2 + at as u64, 17)).collect();
        gate_with(&policy, run(2.5), Vec::new(), previous, DAY)
    };
    let first = with(&[]);
    assert_eq!(first.answer, Undecided);
    assert!(
        finding(&first, "pair/dma")
            .text
            .starts_with("not met for the first time, and counts from 3 on (confirm): violated")
    );
    assert!(finding(&with(&[2.5]), "pair/dma").text.starts_with("not met 2 times in a row"));
    assert_eq!(with(&[2.5, 2.5]).answer, NotMet);
    assert_eq!(with(&[2.5, 2.5, 1.0]).answer, Undecided, "the latest was green: not in a row");
    assert_eq!(with(&[1.0, 2.5, 2.5]).answer, NotMet);
}

#[test]
fn an_accepted_risk_holds_until_its_day_by_todays_date() {
    let risk = |cell: &str, channel: &str, until: &str| {
        format!(
            "{ISOLATED}\n[[accept]]\ncell = \"{cell}\"\n{channel}reason = \"at start only\"\nby = \"platform team\"\nuntil = {until}"
        )
    };
    let at = |rest: &str, today: Date| gate_with(&policy(rest), run(2.5), Vec::new(), Vec::new(), today);
    let held = at(&risk("*/dma", "", "2026-06-30"), date(2026, 6, 30));
    assert_eq!((held.answer, state(&held, "pair/dma")), (Accepted, Accepted), "{}", text(&held));
    assert!(text(&held).contains("accepted: at start only (by platform team, until 2026-06-30)"));
    let expired = at(&risk("*/dma", "", "2026-06-30"), date(2026, 7, 1));
    assert_eq!(expired.answer, NotMet);
    assert!(
        text(&expired).contains("note      the risk accepted for */dma expired on 2026-06-30"),
        "{}",
        text(&expired)
    );
    assert_eq!(at(&risk("pair@0/dma", "channel = \"pcie\"\n", "2026-06-30"), DAY).answer, Accepted);
    assert_eq!(at(&risk("pair/dma", "channel = \"launch\"\n", "2026-06-30"), DAY).answer, NotMet);
    let astray = at(&risk("mig/dma", "", "2026-06-30"), DAY);
    assert!(
        astray.answer == NotMet && text(&astray).contains("the risk accepted for mig/dma is of no cell of this run")
    );

    // Those of the scenario, by the same date, and only where they count.
    let of_scenario = |rest: &str, today: Date| {
        let mut run = run(2.5);
        run.manifest.plan.accepted.push(Accept {
            cell: "pair/dma".to_owned(),
            channel: None,
            reason: "at start only".to_owned(),
            by: "platform team".to_owned(),
            until: date(2026, 6, 30),
        });
        gate_with(&policy(&format!("{rest}\n{ISOLATED}")), run, Vec::new(), Vec::new(), today).answer
    };
    assert_eq!(of_scenario("", DAY), Accepted);
    assert_eq!(of_scenario("", date(2026, 7, 1)), NotMet);
    assert_eq!(of_scenario("scenario_risks = \"ignored\"", DAY), NotMet);
}

#[test]
fn objectives_are_met_quiet_and_beside_every_neighbour() {
    // p99 of the lognormal is 201 µs; slowed 2.5-fold it is 502 µs.
    let with = |bound: u64, ratio: f64| {
        let mut run = run(ratio);
        run.manifest.plan.panel[0].slos = vec![Slo { quantile: Quantile::P99, bound: Nanos(bound) }];
        gate("[[objective]]\nname = \"pair/*\"", run)
    };
    let met = with(1_000_000, 2.5);
    assert_eq!(
        (met.answer, met.findings.iter().filter(|f| f.rule == "objective[0]").count()),
        (Met, 4),
        "{}",
        text(&met)
    );
    let missed = with(300_000, 2.5);
    assert_eq!((state(&missed, "pair/quiet h2d"), state(&missed, "pair/dma h2d")), (Met, NotMet), "{}", text(&missed));
    let none = gate("[[objective]]\nname = \"other/*\"", run(1.0));
    assert_eq!(none.answer, Undecided);
}

#[test]
fn what_the_scenario_requires_holds_too_where_it_is_asked() {
    let with = |word: &str, ratio: f64| {
        let mut run = run(ratio);
        let word = word.parse().unwrap();
        run.manifest.plan.arrangements[0].require = crate::verdict::synthetic::rules(&[("default", word)]);
        gate("scenario_requirements = true", run)
    };
    assert_eq!(with("isolated", 1.0).answer, Met);
    let red = with("isolated", 2.5);
    assert_eq!((red.answer, state(&red, "pair/dma")), (NotMet, NotMet), "{}", text(&red));
    assert_eq!(finding(&red, "pair/dma").rule, "scenario_requirements");
}

#[test]
fn hostile_names_are_shown_and_never_obeyed() {
    let evil = "\u{1b}[2J\u{202e}né\n|漢字 😀 <b>&\"]]>";
    let long = "x".repeat(10_000);
    let mut run = run(2.5);
    let plan = &mut run.manifest.plan;
    plan.scenario = evil.to_owned();
    plan.arrangements[0].name = format!("pair{evil}");
    plan.neighbours[1].name = format!("{evil}{long}");
    plan.inventory.gpus[0].name = evil.to_owned();
    plan.inventory.driver = Some(evil.to_owned());
    for arm in run.arms.values_mut() {
        let series = arm.series.remove("h2d").unwrap();
        arm.series.insert(evil.to_owned(), series);
    }
    run.manifest.plan.panel[0].name = evil.to_owned();
    run.manifest.plan.panel[0].series = vec![evil.to_owned()];
    let gate = gate("[[cell]]\nmust = \"isolated\"", run);
    assert_eq!(gate.answer, NotMet);
    let shown = text(&gate);
    let bad = |c: &char| (c.is_control() && *c != '\n') || *c == '\u{202e}';
    assert_eq!(shown.chars().find(bad), None);
    assert_eq!(shown.lines().filter(|line| line.starts_with("NOT MET")).count(), 1);
    let xml = junit(&gate).unwrap();
    assert_eq!(xml.chars().find(bad), None);
    assert!(!xml.contains("<b>"), "{xml}");
    let read = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    assert_eq!(read.tests, gate.findings.len());
    let json = gate.json().unwrap();
    assert_eq!(serde_json::from_str::<Gate>(&json).unwrap(), gate);
}

#[test]
fn another_run_of_the_plan_differs_in_nothing_that_counts() {
    let other = |change: &dyn Fn(&mut RecordedRun)| {
        let mut other = run_of(1.0, 2, 17);
        change(&mut other);
        unlike(&run(1.0), &other)
    };
    assert_eq!(other(&|_| ()), None, "the seed may differ");
    assert_eq!(other(&|run| run.manifest.date = date(2026, 7, 1)), None);
    let differs = |change: &dyn Fn(&mut RecordedRun), words: &str| {
        let found = other(change).unwrap_or_default();
        assert!(found.contains(words), "{found}");
    };
    differs(&|run| run.manifest.provenance = Provenance::Measured, "provenance is \"measured\", not \"simulated\"");
    differs(&|run| run.manifest.plan.design.blocks = 18, "plan.design.blocks is 18, not 17");
    differs(&|run| run.manifest.plan.inventory.gpus[0].uuid = "GPU-1".to_owned(), "gpus[0].uuid is \"GPU-1\"");
    differs(&|run| run.manifest.plan.inventory.driver = Some("580.1".to_owned()), "driver is \"580.1\", not null");
    differs(&|run| drop(run.manifest.plan.panel.pop()), "plan.panel has 1 entries, not 2");
    differs(&|run| *run = self::run(1.0), "it is the same run");
}

#[test]
fn every_mistake_of_a_policy_has_its_place() {
    let mistakes = |rest: &str| {
        let text = format!("schema = 1\nname = \"test\"\n{rest}");
        let found = read("test.toml", &text).err().map(|mistakes| mistakes.all).unwrap_or_default();
        found.iter().map(|m| format!("{}:{} {}: {}", m.line, m.column, m.path, m.found)).collect::<Vec<_>>().join("\n")
    };
    let cases = [
        ("", "nothing is required: this policy cannot fail"),
        ("[[cell]]\nmust = \"any\"", "nothing is required"),
        ("[[cell]]\nname = \"*\"", "`must` is missing"),
        ("[[cell]]\nmust = \"isolate\"", "4:8 cell[0].must: \"isolate\""),
        ("[[cell]]\nmust = {}", "cell[0].must"),
        ("[[cell]]\nmust = { slo = \"met\" }", "`slo` here"),
        ("[[cell]]\nmust = \"isolated\"\nsharing = [\"mig2\"]", "sharing[0]: \"mig2\""),
        ("[[cells]]\nmust = \"isolated\"", "unknown key `cells`"),
        ("retry = 1\n[[cell]]\nmust = \"isolated\"", "3:1 : unknown key `retry`"),
        ("retries = 9\n[[cell]]\nmust = \"isolated\"", "retries: 9"),
        ("evidence.max_age = \"30\"\n[[cell]]\nmust = \"isolated\"", "evidence.max_age: \"30\""),
        ("evidence.provenance = [\"mesured\"]\n[[cell]]\nmust = \"isolated\"", "evidence.provenance[0]: \"mesured\""),
        ("[[observation]]\nname = \"*/turn\"\nmust = \"none\"", "no observation is called `turn`"),
        ("[[observation]]\nname = \"*/turns\"\nmust = \"nine\"", "observation[0].must: \"nine\""),
        ("[[cell]]\nmust = \"isolated\"\n[[accept]]\ncell = \"*\"", "`until` is missing"),
        ("[[cell", "this is no TOML"),
    ];
    for (rest, words) in cases {
        let found = mistakes(rest);
        assert!(found.contains(words), "{rest:?}: no {words:?} in {found}");
    }
    let newer = read("test.toml", "schema = 2\nelse = 1").unwrap_err();
    assert_eq!((newer.all.len(), newer.all[0].found.as_str()), (1, "a policy of version 2"));
}

/// A policy that no built-in scenario can satisfy would ask for what nobody can run: its keys and channels are those of the
/// scenarios for its tier.
#[test]
fn the_built_in_acceptance_has_everything_that_the_production_policy_asks_for() {
    let text = BUILTIN.iter().find(|(name, _)| *name == DEFAULT).unwrap().1;
    let policy = read(DEFAULT, text).unwrap();
    for name in ["acceptance/h100-mig-on", "acceptance/a100-mig-on", "acceptance/h200-mig-on"] {
        let (source, text) = crate::scenario::load(name).unwrap();
        let scenario = crate::scenario::read(&source, &text, crate::workload::CATALOGUE).unwrap();
        assert!(scenario.design.tier >= policy.evidence.tier, "{name}");
        for demand in &policy.demands {
            let Must::Cell(rules) = &demand.must else { continue };
            assert!(scenario.arrangements.iter().any(|a| demand.sharing.contains(&a.sharing)), "{name}");
            for rule in rules.0.iter().filter(|rule| rule.key != "default") {
                let mut first = scenario.neighbours.iter().filter_map(|n| n.workload.channels.first());
                assert!(first.any(|channel| channel.id() == rule.key), "{name} has no neighbour for {}", rule.key);
            }
        }
        for channel in &policy.evidence.tested {
            let loaded = scenario.neighbours.iter().any(|n| n.workload.channels.contains(channel));
            let felt = scenario.panel.iter().any(|p| p.workload.channels.contains(channel));
            assert!(loaded && felt, "{name} does not test {channel}");
        }
    }
}

fn as_json(text: &str) -> serde_json::Value {
    // Dates are text there.
    let text = text.lines().map(|line| match line.strip_prefix("until = ") {
        Some(date) => format!("until = \"{date}\"\n"),
        None => format!("{line}\n"),
    });
    serde_json::to_value(toml::from_str::<toml::Table>(&text.collect::<String>()).unwrap()).unwrap()
}

#[test]
fn ready_made_policies_are_listed_read_and_described_by_the_committed_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<String> = std::fs::read_dir(root.join("policies"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().trim_end_matches(".toml").to_owned())
        .collect();
    files.sort();
    let mut listed: Vec<String> = BUILTIN.iter().map(|(name, _)| (*name).to_owned()).collect();
    listed.sort();
    assert_eq!(files, listed, "add it to `builtin!` in src/gate/builtin.rs");
    assert!(BUILTIN.iter().any(|(name, _)| *name == DEFAULT));

    let schema = policy_schema();
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    let path = root.join("schemas/policy.schema.json");
    if std::env::var_os("CROSSTALK_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "schemas/policy.schema.json is out of date: run the tests once with CROSSTALK_BLESS=1");

    let validator = jsonschema::draft202012::new(&schema).unwrap();
    for (name, text) in BUILTIN {
        let policy = read(name, text).unwrap_or_else(|mistakes| panic!("{}", mistakes.render(false)));
        assert_eq!(policy.name, *name);
        assert!(policy.description.is_some(), "{name}");
        let errors: Vec<String> = validator.iter_errors(&as_json(text)).map(|e| e.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{name}");
    }
    let every_key = "schema = 1\nname = \"x\"\nretries = 1\n[evidence]\nmax_age = \"30d\"\nscope = \"27%\"\nmargins = { p99 = \
                     \"10%\" }\ntested = [\"l2\"]\n[[cell]]\nmust = { default = \"isolated\", pcie = \"any\" }\n[[accept]]\ncell = \
                     \"*\"\nreason = \"r\"\nby = \"b\"\nuntil = 2027-01-01\n";
    assert!(read("x", every_key).is_ok() && validator.is_valid(&as_json(every_key)));
    for wrong in ["schema = 1\nname = \"x\"\n", "schema = 1\nname = \"x\"\n[[cell]]\nmust = \"isolate\"\n"] {
        assert!(!validator.is_valid(&as_json(wrong)), "{wrong}");
    }
}
