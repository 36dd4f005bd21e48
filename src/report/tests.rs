//! What must hold of every report, whatever its format.

use std::path::PathBuf;

use jiff::civil::date;
use serde_json::Value;

use crate::provenance::Provenance;
use crate::run_dir::{JudgedBy, RecordedRun};
use crate::scenario::{Expectation, Rule, Word};
use crate::verdict::{Interval, Reason, RequirementState, RunVerdict, Verdict};

use super::fixture::{self, open_cell, quiet_cell};
use super::text::{Line, Tint};
use super::{AcceptState, Expected, Format, Options, Report, Style, render, report_schema, run_schema};

fn at(width: usize) -> Options {
    Options { width, style: Style::Plain }
}

fn terminal(run: &RecordedRun, verdict: &RunVerdict, width: usize) -> String {
    render(&Report::build(run, verdict), Format::Terminal, &at(width)).unwrap()
}

/// The sample with one cell for each reason.
fn every_reason() -> (RecordedRun, RunVerdict) {
    let (run, mut verdict) = (fixture::run(), fixture::verdict());
    verdict.cells = fixture::reasons()
        .iter()
        .enumerate()
        .map(|(i, reason)| open_cell(&format!("mig@{i}/d2h"), (0, 0), reason))
        .collect();
    for (i, cell) in verdict.cells.iter_mut().enumerate() {
        cell.seat = i.to_string();
    }
    (run, verdict)
}

/// The sample with names that nobody vouches for.
fn hostile() -> (RecordedRun, RunVerdict) {
    let long = "long ".repeat(12) + &"x".repeat(150);
    fixture::hostile("\u{1b}[2J\u{202e}né\n|漢字 😀 <b>&\"", &long)
}

#[test]
fn the_sample_in_a_terminal() {
    insta::assert_snapshot!(terminal(&fixture::run(), &fixture::verdict(), 110));
}

#[test]
fn the_sample_with_colour() {
    let report = Report::build(&fixture::run(), &fixture::verdict());
    let ansi = render(&report, Format::Terminal, &Options { width: 110, style: Style::Ansi }).unwrap();
    let plain = render(&report, Format::Terminal, &at(110)).unwrap();
    assert_ne!(ansi, plain);
    assert_eq!(anstream::adapter::strip_str(&ansi).to_string(), plain, "colour changed the words");
}

#[test]
fn the_sample_as_json() {
    let report = Report::build(&fixture::run(), &fixture::verdict());
    insta::assert_snapshot!(render(&report, Format::Json, &at(110)).unwrap());
}

#[test]
fn every_reason_says_what_would_decide() {
    let (run, verdict) = every_reason();
    insta::assert_snapshot!(terminal(&run, &verdict, 110));
    for cell in &Report::build(&run, &verdict).runs[0].cells {
        assert!(cell.why.iter().all(|why| why.advice.is_some()), "{} leaves its reader alone", cell.name);
    }
}

#[test]
fn names_are_shown_and_never_obeyed() {
    let (run, verdict) = hostile();
    insta::assert_snapshot!(terminal(&run, &verdict, 100));
    for width in [60, 80, 100, 200] {
        let text = terminal(&run, &verdict, width);
        let bad = |c: &char| (c.is_control() && *c != '\n') || *c == '\u{202e}';
        assert_eq!(text.chars().find(bad), None, "an unescaped character at width {width}");
    }
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for (run, verdict) in [(fixture::run(), fixture::verdict()), every_reason(), hostile()] {
        for width in [60, 80, 200] {
            for line in terminal(&run, &verdict, width).lines() {
                let columns = Line::of(Tint::Plain, line).width();
                assert!(columns <= width, "{columns} columns in a terminal of {width}: {line:?}");
            }
        }
    }
}

#[test]
fn columns_that_do_not_fit_follow_below() {
    let (run, verdict) = (fixture::run(), fixture::verdict());
    let heads = |width| terminal(&run, &verdict, width).lines().filter(|l| l.starts_with("idle (placebo)")).count();
    assert_eq!(heads(200), 1);
    assert_eq!(heads(60), 2, "two columns, one below the other");
    insta::assert_snapshot!(terminal(&run, &verdict, 60));
}

#[test]
fn no_number_is_cut_in_a_narrow_terminal() {
    let text = terminal(&fixture::run(), &fixture::verdict(), 60);
    for number in ["1.72 [1.66 1.79]", "12346/s", "123457/s", "400 ms"] {
        assert!(text.contains(number), "{number} is missing:\n{text}");
    }
}

#[test]
fn a_quantile_judged_over_all_blocks_is_marked() {
    let (run, mut verdict) = (fixture::run(), fixture::verdict());
    for s in verdict.cells.iter_mut().flat_map(|c| &mut c.series) {
        s.judged = JudgedBy::Pooled;
    }
    let text = terminal(&run, &verdict, 110);
    assert!(text.contains("isolated  1.00 [0.99 1.01]*"), "{text}");
    assert!(text.contains("inference p99 (pooled) 1.72×"), "{text}");
}

#[test]
fn what_must_be_known_of_an_isolated_cell_is_said() {
    let (run, mut verdict) = (fixture::run(), fixture::verdict());
    verdict.cells[1].notes = vec![Reason::Throttled { share: 0.31 }];
    verdict.cells[3].neighbour_rate = Some(0.483);
    let text = terminal(&run, &verdict, 110);
    assert!(text.contains("mig/hbm-hog: the power cap held the clock down for 31 % of the time"), "{text}");
    assert!(text.contains("the neighbour at 48.3 % of its solo rate"), "{text}");
    assert_eq!(text.matches("of its solo rate").count(), 1, "99.7 % and unknown need no word");
}

#[test]
fn what_was_not_measured_says_so_first_in_every_format() {
    for provenance in [Provenance::Measured, Provenance::StandIn, Provenance::Simulated] {
        let mut run = fixture::run();
        run.manifest.provenance = provenance;
        let report = Report::build(&run, &fixture::verdict());
        for format in Format::ALL {
            for width in [60, 110] {
                let text = render(&report, *format, &at(width)).unwrap();
                // A JSON document opens with a brace: its first member is what a reader meets first.
                let first = match format {
                    Format::Terminal => text.lines().next().unwrap(),
                    Format::Json => text.lines().nth(1).unwrap(),
                    Format::Markdown => text.lines().next().unwrap(),
                    // A suite's properties, which come before its cases.
                    Format::Junit => text.split("<testcase").next().unwrap(),
                    // Tables for machines say it in a field: see `every_row_says_where_it_comes_from`.
                    Format::Openmetrics | Format::Csv => continue,
                    Format::Html => text.split("<body>").nth(1).unwrap().trim().lines().next().unwrap(),
                };
                match provenance.banner() {
                    Some(banner) => assert!(first.contains(banner), "{provenance:?} as {}: {first:?}", format.id()),
                    None => assert!(!text.contains("nothing below was measured"), "{}", format.id()),
                }
            }
        }
    }
}

#[test]
fn one_run_that_was_not_measured_marks_the_whole_report() {
    let (mut measured, simulated, verdict) = (fixture::run(), fixture::run(), fixture::verdict());
    measured.manifest.provenance = Provenance::Measured;
    let report = Report::over([(&measured, &verdict), (&simulated, &verdict)]);
    let text = render(&report, Format::Terminal, &at(110)).unwrap();
    let banner = Provenance::Simulated.banner().unwrap();
    assert!(text.starts_with(banner));
    assert_eq!(text.matches(banner).count(), 2, "at the top, and where the simulated run begins");
}

#[test]
fn equal_runs_give_equal_bytes() {
    let texts = || {
        let report = Report::build(&fixture::run(), &fixture::verdict());
        Format::ALL.iter().map(|f| render(&report, *f, &at(110)).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(texts(), texts());
}

#[test]
fn the_day_of_the_run_is_not_in_its_report() {
    let (mut run, verdict) = (fixture::run(), fixture::verdict());
    let before = Report::build(&run, &verdict);
    run.manifest.date = date(2026, 9, 30);
    assert_eq!(Report::build(&run, &verdict), before);
}

#[test]
fn differences_below_nine_digits_do_not_reach_the_report() {
    let (run, verdict) = (fixture::run(), fixture::verdict());
    let mut other = verdict.clone();
    for s in other.cells.iter_mut().flat_map(|c| &mut c.series) {
        s.quiet_ns = s.quiet_ns.map(|ns| ns * (1.0 + 1e-13));
        s.ratio = s.ratio.map(|r| Interval { estimate: r.estimate * (1.0 - 1e-13), ..r });
    }
    other.scope_share = other.scope_share.map(|share| share * (1.0 + 1e-13));
    assert_ne!(verdict, other);
    assert_eq!(Report::build(&run, &verdict), Report::build(&run, &other));
}

#[test]
fn numbers_that_are_none_stay_none() {
    let (run, mut verdict) = (fixture::run(), fixture::verdict());
    for s in verdict.cells.iter_mut().flat_map(|c| &mut c.series) {
        s.ratio = Some(Interval { estimate: f64::INFINITY, low: None, high: Some(f64::NAN) });
        (s.quiet_ns, s.noisy_ns, s.requests) = (None, None, (0, 5));
    }
    verdict.scope_share = Some(f64::NAN);
    let report = Report::build(&run, &verdict);
    let series = &report.runs[0].cells[0].series[0];
    assert_eq!((series.ratio.unwrap().estimate, series.change_ns, report.runs[0].scope.share), (None, None, None));
    let text = render(&report, Format::Terminal, &at(110)).unwrap();
    assert!(text.contains("–× [– –], – (no requests) → at or above the deadline"), "{text}");
    valid(&report);
}

#[test]
fn a_run_that_requires_nothing_says_so_before_the_matrix() {
    let (run, mut verdict) = (fixture::run(), fixture::verdict());
    verdict.requires = false;
    verdict.requirement = RequirementState::NotRequired;
    verdict.slos.iter_mut().for_each(|slo| slo.requirement = RequirementState::NotRequired);
    verdict.cells.iter_mut().for_each(|c| c.requirement = RequirementState::NotRequired);
    let text = terminal(&run, &verdict, 110);
    let said = text.find("Nothing is required").unwrap();
    assert!(said < text.find("Worst p99").unwrap());
    assert!(!text.contains("All requirements met"));
}

#[test]
fn an_interrupted_run_says_so_at_the_top() {
    let (mut run, verdict) = (fixture::run(), fixture::verdict());
    run.finished = false;
    let text = terminal(&run, &verdict, 110);
    let line = text.lines().position(|l| l.starts_with("INTERRUPTED")).unwrap();
    assert!(line < 5, "{text}");
    // Two arrangements of 24 blocks with a quiet arm and three noisy ones.
    assert!(text.contains("0 of 192 planned arms"), "{text}");
    assert!(!terminal(&fixture::run(), &verdict, 110).contains("INTERRUPTED"));
}

#[test]
fn cells_of_a_skipped_arrangement_share_one_line() {
    let (mut run, mut verdict) = (fixture::run(), fixture::verdict());
    let reason = "MIG mode: the GPU has MIG off".to_owned();
    run.skipped.insert(0, reason.clone());
    for cell in verdict.cells.iter_mut().filter(|c| c.arrangement == 0) {
        cell.verdict = Verdict::Skipped { reason: reason.clone() };
        cell.series.clear();
        cell.worst = None;
        cell.requirement = RequirementState::Undecided;
    }
    let text = terminal(&run, &verdict, 110);
    assert!(text.contains("skipped: mig/d2h, mig/hbm-hog, mig/idle: MIG mode: the GPU has MIG off"), "{text}");
    assert!(text.contains("undecided: mig/d2h is required, and is skipped: MIG mode: the GPU has MIG off"), "{text}");
    assert_eq!(Report::build(&run, &verdict).runs[0].header.progress.planned, 96, "the other arrangement's");
}

#[test]
fn an_accepted_risk_that_does_not_count_is_told_apart() {
    let (mut run, verdict) = (fixture::run(), fixture::verdict());
    let mut lost = run.manifest.plan.accepted[0].clone();
    lost.cell = "mig/nobody".to_owned();
    run.manifest.plan.accepted.push(lost);
    let states = |run: &RecordedRun| -> Vec<AcceptState> {
        Report::build(run, &verdict).runs[0].accepted.iter().map(|a| a.state).collect()
    };
    assert_eq!(states(&run), [AcceptState::InForce, AcceptState::Expired, AcceptState::NoSuchCell]);
    run.manifest.date = date(2025, 1, 31);
    assert_eq!(states(&run)[1], AcceptState::NotNeeded, "the last day counts, and the cell holds by itself");
    run.manifest.date = date(2027, 7, 1);
    assert_eq!(states(&run)[0], AcceptState::Expired);
}

#[test]
fn a_risk_accepted_without_a_seat_is_named_at_every_seat() {
    let (mut run, mut verdict) = (fixture::run(), fixture::verdict());
    let mut far = verdict.cells[0].clone();
    verdict.cells[0].name = "mig@0.0/d2h".to_owned();
    verdict.cells[0].seat = "0.0".to_owned();
    (far.name, far.seat) = ("mig@1.0/d2h".to_owned(), "1.0".to_owned());
    verdict.slos.clear();
    verdict.cells.push(far);
    let texts = |run: &RecordedRun| -> Vec<String> {
        let report = Report::build(run, &verdict).runs.remove(0);
        let d2h = report.requirements.items.into_iter().filter(|item| item.cell.ends_with("/d2h"));
        d2h.map(|item| item.text).collect()
    };
    let who = "accepted: tenants copy at start only (by platform team, until 2027-06-30)";
    assert_eq!(texts(&run).iter().map(|text| text.contains(who)).collect::<Vec<_>>(), [true, true]);
    assert_eq!(Report::build(&run, &verdict).runs[0].accepted[0].state, AcceptState::InForce);
    run.manifest.plan.accepted[0].cell = "mig@1.0/d2h".to_owned();
    assert_eq!(texts(&run).iter().map(|text| text.contains(who)).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn an_open_cell_is_neither_as_expected_nor_a_surprise() {
    let (run, mut verdict) = (fixture::run(), fixture::verdict());
    let skipped = Verdict::Skipped { reason: "MIG is off".to_owned() };
    for open in [Verdict::Inconclusive { reason: Reason::Backlog }, skipped] {
        for word in [Some(Word::NotIsolated), None] {
            verdict.cells[0].verdict = open.clone();
            verdict.cells[0].series.iter_mut().for_each(|s| s.expected = word);
            assert_eq!(Report::build(&run, &verdict).runs[0].cells[0].expected, Expected::Undecided, "{open:?}");
        }
    }
}

#[test]
fn the_scope_is_the_same_number_in_the_report_and_in_the_warning() {
    let (mut run, mut verdict) = (fixture::run(), fixture::verdict());
    // 3 blocks: 1 − 0.01^(1/3) = 78.5 %, which is promised as 79 %.
    run.manifest.plan.design.blocks = 3;
    verdict.scope_share = Some(crate::stats::episode_share(3, 0.01));
    let warnings = crate::verdict::foreseen(&run.manifest.plan, run.manifest.date);
    assert!(warnings.iter().any(|w| w.what.contains("at least 79 % of the arms")), "{warnings:?}");
    let scope = Report::build(&run, &verdict).runs.remove(0).scope.text;
    assert!(scope.contains("≥ 79 % of arms"), "{scope}");
}

#[test]
fn a_neighbour_that_an_arrangement_does_not_run_is_not_a_pass() {
    let (run, mut verdict) = (fixture::run(), fixture::verdict());
    verdict.cells.retain(|c| c.name != "turns/d2h");
    let text = terminal(&run, &verdict, 110);
    let row = text.lines().find(|l| l.starts_with("d2h")).unwrap();
    assert!(row.ends_with("– (not run)"), "{row:?}");
}

#[test]
fn a_neighbour_name_with_a_slash_does_not_move_its_column() {
    let (mut run, mut verdict) = (fixture::run(), fixture::verdict());
    run.manifest.plan.neighbours[2].name = "a/b".to_owned();
    verdict.cells = vec![quiet_cell("mig/a/b", (0, 2))];
    assert_eq!(Report::build(&run, &verdict).runs[0].columns[0].name, "mig");
}

#[test]
fn rows_follow_the_channels_and_the_placebo_comes_first() {
    let report = Report::build(&fixture::run(), &fixture::verdict());
    let rows: Vec<&str> = report.runs[0].rows.iter().map(|r| r.neighbour.as_str()).collect();
    assert_eq!(rows, ["idle", "hbm-hog", "d2h"]);
    assert!(report.runs[0].rows[0].placebo);
}

#[test]
fn of_one_reason_in_several_series_the_worst_number_is_told() {
    let (run, mut verdict) = (fixture::run(), fixture::verdict());
    let underpowered = |blocks_needed| Reason::Underpowered { detectable: Some(0.1), blocks_needed };
    let mut cell = open_cell("mig/idle", (0, 2), &underpowered(Some(40)));
    cell.series[0].verdict = Verdict::Inconclusive { reason: underpowered(Some(90)) };
    verdict.cells = vec![cell];
    let report = Report::build(&run, &verdict);
    let why = &report.runs[0].cells[0].why;
    assert_eq!(why.len(), 1);
    assert_eq!(why[0].of, ["hbm-chase p50", "inference p99"]);
    assert_eq!(why[0].advice.as_deref(), Some("about 90 blocks would decide"));
}

/// Compares a schema with the committed one; `CROSSTALK_BLESS=1` writes it instead.
fn committed(name: &str, schema: &Value) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas").join(name);
    let text = format!("{}\n", serde_json::to_string_pretty(schema).unwrap());
    if std::env::var_os("CROSSTALK_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "schemas/{name} is out of date: run the tests once with CROSSTALK_BLESS=1");
}

#[test]
fn the_committed_schemas_are_those_of_the_code() {
    committed("report.schema.json", &report_schema());
    committed("run.schema.json", &run_schema());
    committed("comparison.schema.json", &crate::compare::schema());
    committed("baseline.schema.json", &crate::baseline::schema());
}

/// Asserts that a report's JSON validates, and reads back as the same report.
fn valid(report: &Report) {
    let text = render(report, Format::Json, &at(110)).unwrap();
    let validator = jsonschema::validator_for(&report_schema()).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let errors: Vec<String> = validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(&serde_json::from_str::<Report>(&text).unwrap(), report);
}

#[test]
fn reports_validate_and_read_back() {
    let (curves, beside) = (super::density::sample::sample(), super::density::sample::beside());
    for (run, verdict) in [(fixture::run(), fixture::verdict()), every_reason(), hostile(), curves, beside] {
        valid(&Report::build(&run, &verdict));
    }
}

#[test]
fn a_report_with_an_unknown_field_is_refused() {
    let mut value = serde_json::to_value(Report::build(&fixture::run(), &fixture::verdict())).unwrap();
    value["runs"][0]["header"]["elapsed"] = 3.into();
    assert!(!jsonschema::is_valid(&report_schema(), &value));
    assert!(serde_json::from_value::<Report>(value).is_err());
}

/// What nothing was measured of is counted among the requirements: the others alone would read as if all were met.
#[test]
fn a_requirement_of_which_nothing_was_measured_is_not_left_out() {
    use RequirementState::{Met, NotRequired, Undecided};
    let (mut run, mut verdict) = (fixture::run(), fixture::verdict());
    verdict.cells.retain(|cell| cell.arrangement == 0);
    verdict.slos.clear();
    verdict.observed.clear();
    verdict.cells.iter_mut().for_each(|cell| cell.requirement = NotRequired);
    verdict.cells[0].requirement = Met;
    for (key, word, text) in [
        (
            "default",
            Word::Isolated,
            "has verdicts required of it and no cell, and nobody can say: nothing of it was measured",
        ),
        ("slo", Word::Met, "must meet its objectives, and nobody can say: nothing of it was measured"),
    ] {
        run.manifest.plan.arrangements[0].require = Expectation::default();
        run.manifest.plan.arrangements[1].require = Expectation(vec![Rule { key: key.to_owned(), word }]);
        (verdict.requires, verdict.requirement) = (true, Undecided);
        let report = Report::build(&run, &verdict);
        let requirements = &report.runs[0].requirements;
        let open: Vec<_> = requirements.items.iter().filter(|item| item.state == Undecided).collect();
        assert_eq!(open.iter().map(|item| item.text.as_str()).collect::<Vec<_>>(), [text]);
        assert!(requirements.summary.starts_with("Requirements: undecided in 1 "), "{}", requirements.summary);
    }
}

/// Degraded where that is allowed, and no proof that it is no worse: the requirement says what is lacking.
#[test]
fn a_requirement_that_lacks_proof_says_which() {
    let (run, mut verdict) = (fixture::run(), fixture::verdict());
    let cell = verdict.cells.iter_mut().find(|cell| cell.verdict == Verdict::Degraded).unwrap();
    cell.requirement = RequirementState::Undecided;
    cell.series.iter_mut().for_each(|s| s.required = Some(Word::Degraded));
    cell.notes = vec![Reason::ArmsLost { arms: 1, what: "the tenant hung".to_owned() }];
    let name = cell.name.clone();
    let report = Report::build(&run, &verdict);
    let item = report.runs[0].requirements.items.iter().find(|item| item.cell == name).unwrap();
    assert!(item.text.ends_with("is degraded: an arm was lost: the tenant hung"), "{}", item.text);
}
