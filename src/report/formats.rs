//! What must hold of Markdown, JUnit, OpenMetrics and CSV: read back here by their own readers, and in CI by other
//! people's (scripts/check_formats.py).

use std::collections::BTreeSet;

use quick_junit::{NonSuccessKind, TestCaseStatus};

use super::fixture::{self, open_cell};
use super::{Format, Inconclusive, Options, Report, junit, render};
use crate::provenance::Provenance;
use crate::run_dir::RecordedRun;
use crate::scenario::Word;
use crate::verdict::{Interval, Reason, RequirementState, RunVerdict, Verdict};

fn text_of(run: &RecordedRun, verdict: &RunVerdict, format: Format) -> String {
    render(&Report::build(run, verdict), format, &Options::default()).unwrap()
}

fn sample(format: Format) -> String {
    text_of(&fixture::run(), &fixture::verdict(), format)
}

/// Names that would break or mislead a reader of one of the formats.
fn hostile_names() -> Vec<(RecordedRun, RunVerdict)> {
    let long = "y".repeat(10_000);
    [
        "\u{1b}[2J\u{202e}né\n|漢字 😀 <b>&\"\u{0}\u{fffe}",
        "=HYPERLINK(\"http://evil.example\",\"|\")",
        "@octocat `]]>--><!-- \\| \\",
        "</testcase></details>\r\n</testsuite>#1 [x](javascript:1) www.evil.example $$\\",
        "-\t,'\"{}}\\n# EOF\n",
        "+1, \u{2028}| | |\n---\n``` ",
        "",
        "'",
    ]
    .into_iter()
    .flat_map(|evil| {
        let long = format!("{long}{evil}");
        [fixture::hostile(evil, &long), super::density::sample::hostile(evil, &long)]
    })
    .collect()
}

#[test]
fn the_sample_as_markdown() {
    insta::assert_snapshot!(sample(Format::Markdown));
}

#[test]
fn the_sample_as_junit() {
    insta::assert_snapshot!(sample(Format::Junit));
}

#[test]
fn the_sample_as_openmetrics() {
    insta::assert_snapshot!(sample(Format::Openmetrics));
}

#[test]
fn the_sample_as_csv() {
    insta::assert_snapshot!(sample(Format::Csv).replace("\r\n", "\n"));
}

#[test]
fn every_row_says_where_it_comes_from() {
    for (provenance, word, measured) in [
        (Provenance::Measured, "measured", "1"),
        (Provenance::StandIn, "stand-in", "0"),
        (Provenance::Simulated, "simulated", "0"),
    ] {
        let mut run = fixture::run();
        run.manifest.provenance = provenance;
        let csv = text_of(&run, &fixture::verdict(), Format::Csv);
        assert!(csv.lines().skip(1).all(|row| row.starts_with(&format!("{word},"))), "{csv}");
        let metrics = text_of(&run, &fixture::verdict(), Format::Openmetrics);
        assert!(metrics.contains(&format!("provenance=\"{word}\"")), "{metrics}");
        let line = metrics.lines().find(|line| line.starts_with("crosstalk_run_measured")).unwrap();
        assert!(line.ends_with(&format!("}} {measured}")) || line.ends_with(&format!("}} {measured}.0")), "{line}");
    }
}

// Markdown.

/// The cells of a row of a table: bars that no backslash precedes part them.
fn cells(row: &str) -> usize {
    let mut n = 0;
    let mut before = ' ';
    for c in row.chars() {
        n += usize::from(c == '|' && before != '\\');
        before = c;
    }
    n - 1
}

/// The text without its code spans and escapes: what is left is obeyed.
fn obeyed(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['`', '\\']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with('\\') {
            rest = rest.get(2..).unwrap_or("");
            continue;
        }
        let fence = &rest[..rest.len() - rest.trim_start_matches('`').len()];
        let body = &rest[fence.len()..];
        let end = body.split_inclusive(|c| c != '`').scan(0, |at, part| {
            let ticks = part.len() - part.trim_start_matches('`').len();
            let here = (*at, ticks);
            *at += part.len();
            Some(here)
        });
        let end = end.into_iter().find(|(_, ticks)| *ticks == fence.len()).map(|(at, _)| at);
        rest = &body[end.expect("a code span that ends") + fence.len()..];
    }
    out + rest
}

#[test]
fn tables_of_markdown_stay_tables_and_no_name_is_obeyed() {
    for (run, verdict) in hostile_names() {
        let text = text_of(&run, &verdict, Format::Markdown);
        let mut columns = None;
        for line in text.lines() {
            columns = line.starts_with('|').then(|| columns.unwrap_or_else(|| cells(line)));
            assert!(columns.is_none_or(|n| n == cells(line)), "{line}");
        }
        let hidden = |c: char| super::text::hidden(c) && c != '\n';
        assert!(!text.contains(hidden), "{text}");
        let left = text.lines().map(obeyed).collect::<Vec<_>>().join("\n");
        assert_eq!(left.matches("<details>").count(), left.matches("</details>").count());
        let own = ["<br>", "<details>", "</details>", "<summary>", "</summary>"];
        let foreign = own.iter().fold(left, |text, tag| text.replace(tag, ""));
        assert!(!foreign.contains('<') && !foreign.contains("](") && !foreign.contains('`'), "{foreign}");
        for link in ["@octocat", "#1", "://", "www.", "$"] {
            assert!(!foreign.contains(link), "{link} in {foreign}");
        }
    }
}

#[test]
fn markdown_stays_within_what_github_takes_and_ends_well() {
    let (mut run, mut verdict) = fixture::hostile("evil", &"<&|`".repeat(2_500));
    let cells = verdict.cells.clone();
    for n in 0..2_000 {
        let mut more = cells[n % cells.len()].clone();
        more.name = format!("{n}{}", more.name);
        verdict.cells.push(more);
    }
    run.manifest.plan.description = Some("?".repeat(10_000));
    let text = text_of(&run, &verdict, Format::Markdown);
    assert!(text.len() <= 1 << 20, "{} bytes", text.len());
    assert!(text.len() > 1 << 19, "{} bytes of what could be shown", text.len());
    assert!(text.starts_with("> **SIMULATED") && text.ends_with("has the rest.\n"));
    assert_eq!(text.matches("<details>").count(), text.matches("</details>").count());
}

#[test]
fn a_question_is_neither_a_list_nor_a_heading() {
    for question in ["- one", "1. one", "2) two", "# head", "+ plus", "    code", "===", "---", "> quote", "* star"] {
        let mut run = fixture::run();
        run.manifest.plan.description = Some(question.to_owned());
        let text = text_of(&run, &fixture::verdict(), Format::Markdown);
        // Below the banner and the heading.
        let line = text.lines().nth(4).unwrap();
        let digits = line.trim_start_matches(|c: char| c.is_ascii_digit());
        assert!(
            !line.starts_with(['-', '+', '=', '>', '*', ' '])
                && !line.starts_with("# ")
                && !digits.starts_with(['.', ')']),
            "{line}"
        );
    }
}

// JUnit.

fn cases(xml: &str) -> Vec<(String, TestCaseStatus)> {
    let report = quick_junit::Report::deserialize_from_str(xml).unwrap();
    let all = report.test_suites.iter().flat_map(|suite| &suite.test_cases);
    let name =
        |case: &quick_junit::TestCase| format!("{} {}", case.classname.as_ref().unwrap().as_str(), case.name.as_str());
    all.map(|case| (name(case), case.status.clone())).collect()
}

fn how_many(xml: &str, wanted: fn(&TestCaseStatus) -> bool) -> usize {
    cases(xml).iter().filter(|(_, status)| wanted(status)).count()
}

fn failed(status: &TestCaseStatus) -> bool {
    matches!(status, TestCaseStatus::NonSuccess { kind: NonSuccessKind::Failure, .. })
}

fn error(status: &TestCaseStatus) -> bool {
    matches!(status, TestCaseStatus::NonSuccess { kind: NonSuccessKind::Error, .. })
}

fn skipped(status: &TestCaseStatus) -> bool {
    matches!(status, TestCaseStatus::Skipped { .. })
}

#[test]
fn hostile_names_come_back_from_junit() {
    for (run, verdict) in hostile_names() {
        let report = Report::build(&run, &verdict);
        let xml = render(&report, Format::Junit, &Options::default()).unwrap();
        let run = &report.runs[0];
        let found = cases(&xml);
        for cell in &run.cells {
            for s in &cell.series {
                let name = super::escape::xml(&format!("{} {}", cell.name, s.name()));
                assert!(found.iter().any(|(case, _)| *case == name), "{name:?} is missing");
            }
        }
        assert!(!xml.contains(|c: char| super::text::hidden(c) && c != '\n'));
        assert!(!xml.contains(['\u{fffe}', '\u{ffff}']));
    }
}

#[test]
fn a_suite_counts_its_cases_and_the_root_has_no_attribute_that_jenkins_refuses() {
    let xml = sample(Format::Junit);
    let root = xml.lines().nth(1).unwrap();
    assert!(root.starts_with("<testsuites name=\"crosstalk\"") && !root.contains("skipped="), "{root}");
    assert!(!xml.contains("timestamp") && !xml.contains("time="), "a report carries no time");
    let report = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    assert_eq!(report.test_suites.len(), 2, "one per place");
    for suite in &report.test_suites {
        assert_eq!(suite.tests, suite.test_cases.len());
        assert_eq!(suite.properties[0].name.as_str(), "provenance");
        assert_eq!(suite.properties[0].value.as_str(), "simulated");
    }
}

#[test]
fn what_nobody_could_decide_is_an_error_or_skipped_as_asked() {
    let (run, mut verdict) = (fixture::run(), fixture::verdict());
    verdict.slos.clear();
    verdict.cells.truncate(3);
    verdict.cells[0].requirement = RequirementState::Met;
    let xml = |verdict: &RunVerdict, policy| junit(&Report::build(&run, verdict), policy).unwrap();
    use Inconclusive::{ByRequirement, Error, Skip};
    let counts = |verdict: &RunVerdict| {
        [ByRequirement, Error, Skip].map(|policy| {
            let xml = xml(verdict, policy);
            (how_many(&xml, error), how_many(&xml, skipped))
        })
    };
    assert_eq!(counts(&verdict), [(1, 0), (1, 0), (0, 1)], "required");
    verdict.cells[2].requirement = RequirementState::NotRequired;
    verdict.cells[2].series.iter_mut().for_each(|s| s.required = None);
    assert_eq!(counts(&verdict), [(0, 1), (1, 0), (0, 1)], "not required");
    // A cell that was skipped is no error unless it is required.
    verdict.cells[2].verdict = Verdict::Skipped { reason: "MIG is off".to_owned() };
    verdict.cells[2].series.clear();
    verdict.cells[2].worst = None;
    assert_eq!(counts(&verdict), [(0, 1), (0, 1), (0, 1)], "skipped");
    verdict.cells[2].requirement = RequirementState::Undecided;
    assert_eq!(counts(&verdict), [(1, 0), (1, 0), (0, 1)], "skipped, and required");
}

#[test]
fn junit_is_red_exactly_where_a_requirement_is() {
    let (run, sample) = (fixture::run(), fixture::verdict());
    let xml = text_of(&run, &sample, Format::Junit);
    let red: BTreeSet<String> = cases(&xml)
        .into_iter()
        .filter(|(_, s)| failed(s))
        .map(|(name, _)| name.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(red.iter().map(String::as_str).collect::<Vec<_>>(), ["mig/d2h", "turns/hbm-hog"]);
    let d2h = cases(&xml).into_iter().find(|(name, _)| name == "mig/d2h inference p99").unwrap().1;
    let TestCaseStatus::Skipped { message, .. } = d2h else {
        panic!("an accepted risk neither fails nor passes: {d2h:?}")
    };
    assert!(message.unwrap().contains("the risk is accepted"));
    // What is not isolated and was not required does not read as a pass.
    let turns = cases(&xml).into_iter().find(|(name, _)| name == "turns/d2h inference p99").unwrap().1;
    assert!(skipped(&turns), "{turns:?}");
}

#[test]
fn a_requirement_that_no_series_shows_is_a_case_of_its_own() {
    let (mut run, mut verdict) = (fixture::run(), fixture::verdict());
    verdict.slos.clear();
    verdict.cells.truncate(2);
    verdict.cells.iter_mut().for_each(|cell| cell.requirement = RequirementState::Met);
    run.manifest.plan.arrangements[0].require.0.clear();
    // Degraded where that is allowed, and no proof that it is no worse.
    let cell = &mut verdict.cells[1];
    cell.requirement = RequirementState::Undecided;
    cell.notes = vec![Reason::ArmsLost { arms: 1, what: "the tenant hung".to_owned() }];
    let xml = text_of(&run, &verdict, Format::Junit);
    assert_eq!(how_many(&xml, error), 1);
    assert!(cases(&xml).iter().any(|(name, status)| name == "mig/hbm-hog requirement" && error(status)));
    // An arrangement of which nothing was measured.
    let rule = crate::scenario::Rule { key: "default".to_owned(), word: Word::Isolated };
    run.manifest.plan.arrangements[1].require.0.push(rule);
    let xml = text_of(&run, &verdict, Format::Junit);
    assert!(cases(&xml).iter().any(|(name, status)| name == "turns requirement" && error(status)), "{xml}");
}

#[test]
fn a_cell_whose_series_are_required_together_passes_together() {
    let (run, mut verdict) = (fixture::run(), fixture::verdict());
    verdict.slos.clear();
    // One series is violated, the others are isolated: the cell is violated, as required.
    verdict.cells = vec![fixture::require(verdict.cells[0].clone(), Word::Violated, RequirementState::Met)];
    let xml = text_of(&run, &verdict, Format::Junit);
    assert_eq!((how_many(&xml, failed), how_many(&xml, error), how_many(&xml, skipped)), (0, 0, 0), "{xml}");
}

// OpenMetrics.

/// A sample: its name with its labels, unescaped; and its value.
fn sample_line(line: &str) -> (String, Vec<(String, String)>, f64) {
    let (name, rest) = line.split_once('{').unwrap();
    assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
    let mut labels = Vec::new();
    let mut chars = rest.chars().peekable();
    loop {
        let key: String = std::iter::from_fn(|| chars.next_if(|c| c.is_ascii_lowercase() || *c == '_')).collect();
        assert!(!key.is_empty() && chars.next() == Some('=') && chars.next() == Some('"'), "{line}");
        let mut value = String::new();
        loop {
            match chars.next().unwrap() {
                '"' => break,
                '\\' => value.push(match chars.next().unwrap() {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    other => panic!("\\{other} in {line}"),
                }),
                c => value.push(c),
            }
        }
        labels.push((key, value));
        match chars.next() {
            Some(',') => {}
            Some('}') => break,
            other => panic!("{other:?} in {line}"),
        }
    }
    let value: String = chars.collect();
    (name.to_owned(), labels, value.trim_start().parse().unwrap())
}

#[test]
fn hostile_names_come_back_from_openmetrics() {
    for (run, verdict) in hostile_names() {
        let report = Report::build(&run, &verdict);
        let text = render(&report, Format::Openmetrics, &Options::default()).unwrap();
        assert!(text.ends_with("\n# EOF\n"));
        let mut seen = BTreeSet::new();
        let mut cells = BTreeSet::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, labels, value) = sample_line(line);
            assert!(value.is_finite(), "{line}");
            assert!(!name.ends_with("_total") && !labels.iter().any(|(key, _)| key == "quantile" || key == "le"));
            cells.extend(labels.iter().filter(|(key, _)| key == "cell").map(|(_, cell)| cell.clone()));
            assert!(seen.insert((name, labels)), "twice: {line}");
        }
        let expected: BTreeSet<String> = report.runs[0].cells.iter().map(|c| super::escape::exact(&c.name)).collect();
        assert_eq!(cells, expected);
    }
}

#[test]
fn both_parsers_know_every_type_and_every_family_is_told_once() {
    let text = sample(Format::Openmetrics);
    let types: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    assert!(types.iter().all(|line| line.ends_with(" gauge")), "{types:?}");
    assert_eq!(types.iter().collect::<BTreeSet<_>>().len(), types.len());
    assert!(text.contains("# UNIT crosstalk_latency_seconds seconds\n"), "{text}");
    let latency = text.lines().find(|l| l.starts_with("crosstalk_latency_seconds{")).unwrap();
    assert_eq!(sample_line(latency).2, 31e-6, "31 µs");
}

#[test]
fn exactly_one_verdict_of_a_cell_holds() {
    let text = sample(Format::Openmetrics);
    let holds = |cell: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("crosstalk_cell_verdict{"));
        lines
            .map(sample_line)
            .filter(|(_, labels, value)| *value == 1.0 && labels.contains(&("cell".to_owned(), cell.to_owned())))
            .map(|(_, labels, _)| labels.into_iter().find(|(key, _)| key == "verdict").unwrap().1)
            .collect()
    };
    assert_eq!(holds("mig/d2h"), ["violated"]);
    assert_eq!(holds("mig/idle"), ["inconclusive"]);
}

// CSV.

fn rows(text: &str) -> Vec<csv::StringRecord> {
    csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes()).records().map(Result::unwrap).collect()
}

fn field<'a>(rows: &'a [csv::StringRecord], row: usize, column: &str) -> &'a str {
    let at = rows[0].iter().position(|name| name == column).unwrap();
    &rows[row][at]
}

#[test]
fn hostile_names_come_back_from_csv_and_no_field_is_a_formula() {
    for (run, verdict) in hostile_names() {
        let report = Report::build(&run, &verdict);
        let text = render(&report, Format::Csv, &Options::default()).unwrap();
        // Every line end is a row's: a name with one has it written out.
        assert_eq!(text.matches("\r\n").count(), text.matches('\n').count());
        let rows = rows(&text);
        let series: Vec<_> = report.runs[0].cells.iter().flat_map(|c| c.series.iter().map(move |s| (c, s))).collect();
        let of_cells = (1..rows.len()).filter(|row| field(&rows, *row, "density_verdict").is_empty()).count();
        assert_eq!(of_cells, series.len());
        for (at, (cell, s)) in series.into_iter().enumerate() {
            for (column, name) in
                [("cell", &cell.name), ("series", &s.series), ("scenario", &report.runs[0].header.scenario)]
            {
                let found = field(&rows, at + 1, column);
                assert!(!found.starts_with(['=', '+', '-', '@', '\t', '\r']), "{found}");
                assert_eq!(found.strip_prefix('\'').unwrap_or(found), super::escape::exact(name), "{column}");
            }
        }
    }
}

#[test]
fn numbers_of_csv_are_the_models() {
    let report = Report::build(&fixture::run(), &fixture::verdict());
    let rows = rows(&sample(Format::Csv));
    let at = |cell: &str, series: &str, quantile: &str| {
        let is = |row: &usize| {
            (field(&rows, *row, "cell"), field(&rows, *row, "series"), field(&rows, *row, "quantile"))
                == (cell, series, quantile)
        };
        (1..rows.len()).find(is).unwrap()
    };
    let d2h = at("mig/d2h", "inference", "p99");
    let s = &report.runs[0].cells[0].series[3];
    assert_eq!(field(&rows, d2h, "ratio_high").parse::<f64>().unwrap(), s.ratio.unwrap().high.unwrap());
    assert_eq!(field(&rows, d2h, "noisy_ns").parse::<f64>().unwrap(), s.noisy_ns.unwrap());
    assert_eq!(field(&rows, d2h, "probability"), "0.99");
    // Absent is an empty field.
    let hog = at("turns/hbm-hog", "inference", "p99");
    assert_eq!((field(&rows, hog, "noisy_ns"), field(&rows, hog, "ratio_high")), ("", ""));
    assert_eq!(field(&rows, hog, "neighbour_rate_share"), "");
}

// All of them.

#[test]
fn what_is_absent_is_no_number_in_any_format() {
    let (run, mut verdict) = (fixture::run(), fixture::verdict());
    for s in verdict.cells.iter_mut().flat_map(|c| &mut c.series) {
        s.ratio = Some(Interval { estimate: f64::INFINITY, low: None, high: Some(f64::NAN) });
        (s.quiet_ns, s.noisy_ns, s.requests) = (None, None, (0, 5));
    }
    verdict.scope_share = Some(f64::NAN);
    for format in [Format::Markdown, Format::Junit, Format::Openmetrics, Format::Csv] {
        let text = text_of(&run, &verdict, format);
        let mut words = text.split(|c: char| !c.is_alphanumeric());
        assert_eq!(words.find(|word| matches!(*word, "NaN" | "inf" | "Inf" | "infinity")), None, "{}", format.id());
    }
    let metrics = text_of(&run, &verdict, Format::Openmetrics);
    assert!(!metrics.contains("crosstalk_interference_ratio") && !metrics.contains("crosstalk_latency"), "{metrics}");
}

#[test]
fn every_reason_and_a_skipped_cell_have_a_place_in_every_format() {
    let (run, mut verdict) = (fixture::run(), fixture::verdict());
    verdict.slos.clear();
    verdict.cells = fixture::reasons().iter().map(|reason| open_cell("mig/d2h", (0, 0), reason)).collect();
    let mut skipped = verdict.cells[0].clone();
    (skipped.verdict, skipped.worst) = (Verdict::Skipped { reason: "MIG is off".to_owned() }, None);
    skipped.series.clear();
    verdict.cells.push(skipped);
    for format in [Format::Markdown, Format::Junit, Format::Csv] {
        let text = text_of(&run, &verdict, format);
        for word in ["neighbour made no progress", "power cap", "MIG is off"] {
            assert!(text.contains(word), "{word} in {}:\n{text}", format.id());
        }
    }
}
