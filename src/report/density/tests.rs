//! What must hold of curves in every format.

use super::sample::{self, Came, PLANTED, TRACES};
use super::*;
use crate::provenance::Provenance;
use crate::report::text::{Line, Tint};
use crate::report::{Format, Options, Report, Style, html, render};
use crate::run_dir::RecordedRun;
use crate::scenario::Slo;
use crate::verdict::{Interval, LevelState, RunVerdict};
use Came::{Met, Missed, NotRun, Skipped, Undecided};

fn report((run, verdict): &(RecordedRun, RunVerdict)) -> Report {
    Report::build(run, verdict)
}

fn text(both: &(RecordedRun, RunVerdict), format: Format, width: usize) -> String {
    render(&report(both), format, &Options { width, style: Style::Plain }).unwrap()
}

fn crossing(densities: &[(u32, Came)]) -> String {
    let both = sample::alone(densities);
    report(&both).runs.remove(0).curves.remove(0).crossing
}

/// Every format, the page with all that lies below as well.
fn everything(both: &(RecordedRun, RunVerdict)) -> Vec<(&'static str, String)> {
    let mut all: Vec<(&str, String)> = Format::ALL.iter().map(|f| (f.id(), text(both, *f, 110))).collect();
    all.push(("html with details", html(&both.0, &both.1).unwrap()));
    all
}

// The sentence.

const ASK: &str = "p99 ≤ 50 ms at 20 req/s";

#[test]
fn a_crossing_is_told_in_one_sentence() {
    let told = crossing(&[(1, Met(11.0)), (2, NotRun), (4, Met(40.0)), (5, Missed(60.0)), (8, NotRun)]);
    assert_eq!(told, format!("4 tenants meet {ASK} each; 5 do not; 99 %."));
    let told = crossing(&[(1, Met(11.0)), (2, Missed(60.0))]);
    assert_eq!(told, format!("1 tenant meets {ASK}; 2 do not; 99 %."));
}

#[test]
fn where_none_meets_it_says_so() {
    let told = crossing(&[(1, Missed(60.0)), (2, Missed(90.0)), (4, NotRun)]);
    assert_eq!(told, format!("not even 1 tenant meets {ASK}; 99 %."));
    let told = crossing(&[(4, Missed(60.0)), (8, NotRun)]);
    assert_eq!(told, format!("4 tenants do not meet {ASK} each; fewer were not asked for; 99 %."));
    let told = crossing(&[(1, Undecided("too near")), (2, Missed(60.0))]);
    assert_eq!(told, format!("2 tenants do not meet {ASK} each; 1 is undecided; 99 %."));
}

#[test]
fn where_all_meet_more_were_not_asked_for() {
    let told = crossing(&[(1, Met(11.0)), (8, NotRun), (16, Met(40.0))]);
    assert_eq!(told, format!("16 tenants meet {ASK} each; more were not asked for; 99 %."));
}

#[test]
fn what_is_undecided_between_is_named() {
    let told = crossing(&[(4, Met(11.0)), (5, Undecided("too near")), (6, Undecided("too near")), (7, Missed(60.0))]);
    assert_eq!(told, format!("4 tenants meet {ASK} each; 5–6 are undecided; 7 do not; 99 %."));
    let told = crossing(&[(4, Met(11.0)), (5, Undecided("an arm was lost.")), (6, Undecided("too near"))]);
    assert_eq!(told, format!("4 tenants meet {ASK} each; 5–6 are undecided; 99 %."));
    // What lies between and was never measured is neither.
    let told = crossing(&[(4, Met(11.0)), (5, NotRun), (6, Undecided("too near")), (7, NotRun), (8, Missed(60.0))]);
    let between = "5 were not measured; 6 are undecided; 7 were not measured";
    assert_eq!(told, format!("4 tenants meet {ASK} each; {between}; 8 do not; 99 %."));
    let told = crossing(&[(4, Met(11.0)), (8, Missed(60.0))]);
    assert_eq!(told, format!("4 tenants meet {ASK} each; what lies between was not asked for; 8 do not; 99 %."));
}

#[test]
fn what_cannot_be_is_named_with_its_reason() {
    let told = crossing(&[(7, Met(30.0)), (8, Skipped("no layout of 8 equal instances"))]);
    assert_eq!(told, format!("7 tenants meet {ASK} each; 8 are not possible (no layout of 8 equal instances); 99 %."));
    let told = crossing(&[(1, Skipped("MIG is off")), (2, Skipped("MIG is off"))]);
    assert_eq!(told, format!("how many tenants meet {ASK} each is not known; 1–2 are not possible (MIG is off)."));
}

#[test]
fn what_is_not_measured_to_the_end_says_so_and_promises_nothing() {
    let mut both = sample::alone(&[(1, Met(11.0)), (4, NotRun), (8, NotRun)]);
    both.1.curves[0].complete = false;
    let told = report(&both).runs.remove(0).curves.remove(0);
    let open = "4 were not measured; 8 were not measured; the search is not finished";
    assert_eq!(told.crossing, format!("1 tenant meets {ASK}; {open}; 99 %."));
    assert_eq!(told.notes, Vec::<String>::new(), "nothing was spared by the search");
    let mut both = sample::alone(&[(1, NotRun), (2, NotRun)]);
    both.1.curves[0].complete = false;
    let told = report(&both).runs.remove(0).curves.remove(0).crossing;
    assert_eq!(
        told,
        format!("how many tenants meet {ASK} each is not known; 1–2 were not measured; the search is not finished.")
    );
}

#[test]
fn several_objectives_stand_in_the_sentence() {
    let mut both = sample::alone(&[(1, Met(11.0)), (2, Missed(60.0))]);
    both.1.curves[0].objectives.push(Slo { quantile: Quantile::P50, bound: Nanos::millis(20) });
    let told = report(&both).runs.remove(0).curves.remove(0).crossing;
    assert_eq!(told, "1 tenant meets p99 ≤ 50 ms and p50 ≤ 20 ms at 20 req/s; 2 do not; 99 %.");
}

#[test]
fn the_assumption_is_printed_where_it_is_used() {
    let notes = |densities: &[(u32, Came)]| report(&sample::alone(densities)).runs.remove(0).curves.remove(0).notes;
    let all = notes(&[(1, NotRun), (2, Met(11.0)), (3, Missed(60.0)), (4, NotRun), (5, NotRun), (7, NotRun)]);
    let spared = "the search did not need them, if more tenants never fare better, as is assumed.";
    let lone = "What this way of sharing costs a lone tenant is not known: 1 tenant was not run.";
    assert_eq!(all, [format!("Not run: 1, 4–5, 7; {spared}"), lone.to_owned()]);
    assert_eq!(notes(&[(1, Met(11.0)), (2, Missed(60.0))]), Vec::<String>::new(), "every density was measured");
}

#[test]
fn the_knee_is_where_the_tail_leaves_the_double() {
    let curves = report(&sample::sample()).runs.remove(0).curves;
    assert_eq!(
        curves[1].knee.as_deref(),
        Some(
            "knee: up to 2 tenants p99 stays within 2× of exclusive (not with 4); up to 1 within 1.5× (not with 2); up to 4 \
             within 5× (not with 5)."
        )
    );
    assert_eq!(
        curves[3].knee.as_deref(),
        Some(
            "knee: no density is shown to keep p99 within 2× of exclusive (not with 1); none within 1.5× (not with 1); up to 7 \
             within 5× (none is shown beyond)."
        )
    );
    assert_eq!(curves[0].knee, None, "against itself alone there is nothing to say");
    let lone = curves[1].lone.as_ref().unwrap();
    assert_eq!(lone.text, "alone under time-slicing: p50 1.02× [1.01 1.03], p99 1.02× [1.00 1.04] of exclusive");
    // Without an exclusive one the smallest density of the curve itself is what the others are taken against.
    for (tenants, words) in
        [(1, "2× of that of a lone tenant (not with 4)"), (2, "2× of that of 2 tenants (not with 4)")]
    {
        let mut both = sample::sample();
        both.1.curves[1].reference = Some((format!("time-slicing×{tenants}"), tenants));
        let knee = report(&both).runs.remove(0).curves.remove(1).knee.unwrap();
        assert!(knee.contains(words), "{knee}");
    }
}

// What is saturated.

#[test]
fn no_latency_of_a_saturated_density_stands_in_any_format() {
    // The figures are found where they may stand: a test that looks for what nobody writes finds nothing.
    let mut open = sample::sample();
    for level in open.1.curves.iter_mut().flat_map(|c| &mut c.levels) {
        level.saturated = false;
        level.each.iter_mut().for_each(|t| t.saturated = None);
    }
    for (format, text) in everything(&open) {
        let seen = TRACES.iter().any(|trace| text.contains(trace));
        assert!(seen || format == "junit", "{format} has none of the figures at all");
    }
    for both in [sample::sample(), sample::beside()] {
        for (format, text) in everything(&both) {
            for trace in TRACES {
                let at = text.find(trace).map(|at| text[..at].chars().rev().take(80).collect::<Vec<_>>());
                let before: Option<String> = at.map(|chars| chars.into_iter().rev().collect());
                assert_eq!(before, None, "{trace} in {format}");
            }
            assert!(text.contains("saturated"), "{format} does not say so");
        }
    }
}

#[test]
fn one_saturated_tenant_takes_the_latencies_of_all_away() {
    let (run, mut verdict) = sample::alone(&[(1, Met(11.0)), (2, Met(12.0))]);
    let level = &mut verdict.curves[0].levels[1];
    level.each[1].served = 17.5;
    level.each[1].saturated =
        Some(crate::verdict::Saturated { growth: 2.5, served: 99.0, planned: 99.0, service_ns: Some(PLANTED.0) });
    let curve = Report::build(&run, &verdict).runs.remove(0).curves.remove(0);
    let density = &curve.densities[1];
    assert_eq!((density.worst.len(), density.ratio, &density.over), (0, None, &vec![None]));
    assert!(density.each.iter().all(|t| t.latencies.is_empty() && t.objectives.iter().all(|o| o.over.is_none())));
    assert_eq!(density.row()[2..5], ["saturated", "–", "–"]);
    assert_eq!(
        curve.densities[1].remark(&curve).unwrap(),
        "saturated: of the worst tenant 17.5/s of 20/s are served, and its backlog grows by 2.5/s"
    );
    // Only all of them together show it.
    let level = &mut verdict.curves[0].levels[1];
    (level.each[1].saturated, level.saturated) = (None, true);
    let curve = Report::build(&run, &verdict).runs.remove(0).curves.remove(0);
    assert_eq!(curve.densities[1].row()[2..5], ["saturated", "–", "–"]);
    let remark = curve.densities[1].remark(&curve).unwrap();
    assert_eq!(remark, "saturated: of all tenants together 40/s of 40/s are served");
}

// Numbers.

#[test]
fn the_worst_is_told_where_it_is_known_of_every_tenant() {
    let densities = &report(&sample::sample()).runs[0].curves[1].densities;
    let four = densities.iter().find(|d| d.tenants == 4).unwrap();
    assert_eq!(four.worst_at(Quantile::P99), Some(41e6), "of the tenant that fares worst");
    assert_eq!(four.worst_at(Quantile::P999), None, "one tenant has too few requests");
    assert_eq!(four.row()[..5], ["4", "met", "20.5 ms", "41 ms", "–"]);
    assert_eq!(four.row()[5..], ["19.9", "20", "79.9", "0.999 [0.990 1.00]", "13.00 GiB"]);
    let (least, all) = (four.least_good.unwrap(), four.good.unwrap());
    assert!((least - 19.87).abs() < 1e-9 && (all - 79.54).abs() < 1e-9, "{least} {all}");
}

#[test]
fn numbers_of_curves_enter_the_model_with_nine_digits_and_what_is_none_stays_none() {
    let (run, verdict) = sample::sample();
    let mut other = verdict.clone();
    let fine = 1.0 + 1e-13;
    for level in other.curves.iter_mut().flat_map(|c| &mut c.levels) {
        (level.served, level.good) = (level.served.map(|x| x * fine), level.good.map(|x| x * fine));
        level.ratio = level.ratio.map(|r| Interval { estimate: r.estimate * fine, ..r });
        for tenant in &mut level.each {
            tenant.latencies.iter_mut().for_each(|(_, ns)| *ns *= fine);
            tenant.planned *= fine;
        }
    }
    assert_ne!(verdict, other);
    assert_eq!(Report::build(&run, &verdict), Report::build(&run, &other));
    for level in other.curves.iter_mut().flat_map(|c| &mut c.levels) {
        (level.served, level.fairness, level.memory) = (Some(f64::NAN), None, None);
        level.each.iter_mut().for_each(|t| t.latencies.iter_mut().for_each(|(_, ns)| *ns = f64::INFINITY));
    }
    let both = (run, other);
    for (format, text) in everything(&both) {
        let mut words = text.split(|c: char| !c.is_alphanumeric());
        let none = words.find(|word| matches!(*word, "NaN" | "inf" | "Inf" | "infinity"));
        // The page's script asks for what is no number.
        assert!(none.is_none() || format.starts_with("html"), "{none:?} in {format}");
    }
}

// The page as a whole.

#[test]
fn the_curves_in_a_terminal() {
    insta::assert_snapshot!(text(&sample::sample(), Format::Terminal, 120));
}

#[test]
fn the_curves_in_a_narrow_terminal() {
    insta::assert_snapshot!(text(&sample::sample(), Format::Terminal, 60));
}

#[test]
fn the_curves_as_markdown() {
    insta::assert_snapshot!(text(&sample::sample(), Format::Markdown, 110));
}

#[test]
fn the_curves_as_junit() {
    insta::assert_snapshot!(text(&sample::sample(), Format::Junit, 110));
}

#[test]
fn the_curves_as_openmetrics() {
    insta::assert_snapshot!(text(&sample::sample(), Format::Openmetrics, 110));
}

#[test]
fn the_curves_as_csv() {
    insta::assert_snapshot!(text(&sample::sample(), Format::Csv, 110).replace("\r\n", "\n"));
}

#[test]
fn a_run_of_curves_alone_speaks_of_no_cell() {
    let (run, mut verdict) = sample::sample();
    verdict.requires = false;
    verdict.curves.iter_mut().for_each(|c| c.requirement = RequirementState::NotRequired);
    for (format, text) in everything(&(run, verdict)) {
        // A script's and a style sheet's words are no reader's.
        let text = text.split_once("</style>").map_or(text.as_str(), |(_, body)| body);
        let text = text.split_once("<script>").map_or(text, |(body, _)| body);
        for word in
            ["0 of 0", "0 cells", "solated means", "What isolated", "0 arrangements", "0 neighbours", "matrix\""]
        {
            assert!(!text.contains(word), "{word} in {format}:\n{text}");
        }
        if !matches!(format, "csv" | "openmetrics") {
            assert!(text.contains("this run shows how many tenants meet their objectives"), "{format}:\n{text}");
        }
    }
}

#[test]
fn densities_are_neither_columns_nor_arrangements_of_the_matrix() {
    let (plain, both) =
        (report(&(crate::report::fixture::run(), crate::report::fixture::verdict())), report(&sample::beside()));
    let (plain, both) = (&plain.runs[0], &both.runs[0]);
    assert_eq!((&plain.columns, &plain.rows, &plain.cells), (&both.columns, &both.rows, &both.cells));
    assert_eq!((plain.header.arrangements, both.header.arrangements), (2, 2));
    assert_eq!((&plain.calibration, &plain.turns), (&both.calibration, &both.turns));
    assert!(both.scope.text.starts_with("Isolated means: ") && both.scope.text.contains("A density is met where"));
    let page = html(&sample::beside().0, &sample::beside().1).unwrap();
    assert!(!page.contains("time-slicing×3"), "what was not measured has no list of seats");
}

#[test]
fn an_interrupted_search_is_counted_apart() {
    let (mut run, verdict) = sample::beside();
    run.finished = false;
    let told = text(&(run, verdict), Format::Terminal, 200);
    // Four curves of four densities at most, in 24 blocks.
    assert!(told.contains("INTERRUPTED: 0 of 192 planned arms and 0 arms of densities (384 at most) were"), "{told}");
    let (mut run, verdict) = sample::sample();
    run.finished = false;
    let told = text(&(run, verdict), Format::Terminal, 200);
    assert!(told.contains("INTERRUPTED: 0 arms of densities (384 at most) were"), "{told}");
}

#[test]
fn what_was_not_measured_says_so_first() {
    for provenance in [Provenance::StandIn, Provenance::Simulated] {
        let (mut run, verdict) = sample::sample();
        run.manifest.provenance = provenance;
        let banner = provenance.banner().unwrap();
        let both = (run, verdict);
        assert!(text(&both, Format::Terminal, 200).starts_with(banner));
        assert!(text(&both, Format::Markdown, 110).lines().next().unwrap().contains(banner));
        let word = if provenance == Provenance::StandIn { "stand-in" } else { "simulated" };
        let csv = text(&both, Format::Csv, 110);
        assert!(csv.lines().count() > 100 && csv.lines().skip(1).all(|row| row.starts_with(&format!("{word},"))));
    }
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let long = "long ".repeat(12) + &"x".repeat(150);
    let evil = "\u{1b}[2J\u{202e}né\n|漢字 😀 <b>&\"";
    for both in [sample::sample(), sample::beside(), sample::hostile(evil, &long)] {
        for width in [60, 80, 110, 200] {
            let text = text(&both, Format::Terminal, width);
            for line in text.lines() {
                let columns = Line::of(Tint::Plain, line).width();
                assert!(columns <= width, "{columns} columns in a terminal of {width}: {line:?}");
            }
            let bad = |c: &char| (c.is_control() && *c != '\n') || *c == '\u{202e}';
            assert_eq!(text.chars().find(bad), None, "an unescaped character at width {width}");
        }
    }
}

#[test]
fn the_chart_of_a_terminal_lies_where_the_latencies_do() {
    let told = text(&sample::sample(), Format::Terminal, 120);
    let rows: Vec<&str> = told.lines().skip_while(|l| !l.starts_with("  Worst p99 over tenants")).skip(1).collect();
    let row = |n: &str| *rows.iter().find(|l| l.trim_start().starts_with(&format!("{n}  "))).unwrap();
    let at = |n: &str, mark: char| row(n).char_indices().skip(11).find(|(_, c)| *c == mark).map(|(at, _)| at).unwrap();
    let bound = at("4", '|');
    assert!(at("1", '*') < at("1", 'D') && at("1", 'D') < at("4", 'B') && at("4", 'B') < bound, "{told}");
    assert!(at("5", 'B') > bound && at("7", 'C') > bound && at("7", 'D') < bound, "{told}");
    assert_eq!(at("5", '|'), bound, "the objective is one line");
    assert!(row("8").ends_with("saturated B C"), "{}", row("8"));
    assert!(!rows.iter().any(|l| l.trim_start().starts_with("3  ")), "what was not measured has no row");
}

#[test]
fn a_requirement_of_a_curve_is_counted_and_said() {
    let report = report(&sample::sample());
    let requirements = &report.runs[0].requirements;
    assert_eq!(requirements.summary, "Requirements: not met in 1 curve, undecided in 1 curve, met in 1 curve.");
    let mig = requirements.items.iter().find(|item| item.cell == "mig").unwrap();
    assert!(
        mig.text.starts_with("must have room for 8 tenants that meet, and 7 tenants meet p99 ≤ 50 ms"),
        "{}",
        mig.text
    );
    let xml = text(&sample::sample(), Format::Junit, 110);
    let case = |name: &str| {
        xml.split("<testcase ").find(|case| case.contains(&format!("classname=\"{name}\""))).unwrap().to_owned()
    };
    assert!(case("mig").contains("<failure") && case("mps").contains("<error"), "{xml}");
    assert!(!case("time-slicing").contains("<failure") && !case("time-slicing").contains("<error"), "{xml}");
    assert_eq!(xml.matches("<testcase ").count(), 4, "one for each curve");
}

#[test]
fn a_curve_of_which_nothing_is_required_never_fails_and_passes_only_where_tenants_meet() {
    for (densities, passes) in [
        (vec![(1, Met(11.0)), (2, Missed(60.0))], true),
        (vec![(1, Missed(60.0))], false),
        (vec![(1, Undecided("too near"))], false),
    ] {
        let xml = text(&sample::alone(&densities), Format::Junit, 110);
        assert_eq!(xml.contains("<skipped"), !passes, "{xml}");
        assert!(!xml.contains("<failure") && !xml.contains("<error"), "{xml}");
    }
}

#[test]
fn figures_of_csv_are_the_models() {
    let csv = text(&sample::sample(), Format::Csv, 110);
    let mut reader = csv::ReaderBuilder::new().from_reader(csv.as_bytes());
    let head = reader.headers().unwrap().clone();
    let at = |row: &csv::StringRecord, column: &str| row[head.iter().position(|c| c == column).unwrap()].to_owned();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let find = |curve: &str, tenants: &str, seat: &str, metric: &str, quantile: &str| {
        let wanted = [curve, tenants, seat, metric, quantile];
        let is =
            |row: &&csv::StringRecord| ["curve", "tenants", "seat", "metric", "quantile"].map(|c| at(row, c)) == wanted;
        rows.iter().find(is).map(|row| at(row, "value"))
    };
    assert_eq!(find("time-slicing", "4", "2", "latency_ns", "p99").as_deref(), Some("40980000"));
    assert_eq!(find("time-slicing", "4", "", "worst_latency_ns", "p99").as_deref(), Some("41000000"));
    assert_eq!(find("time-slicing", "4", "1", "latency_ns", "p99.9"), None);
    assert_eq!(find("time-slicing", "8", "", "backlog_growth_per_second", "").as_deref(), Some("4.75"));
    assert_eq!(find("time-slicing", "8", "0", "latency_ns", "p99"), None);
    let skipped: Vec<_> = rows.iter().filter(|row| at(row, "density_verdict") == "skipped").collect();
    assert_eq!(skipped.len(), 1);
    assert_eq!(
        (at(skipped[0], "metric"), at(skipped[0], "density_reason")),
        (String::new(), "no layout of 8 equal instances".to_owned())
    );
    let not_run = rows.iter().filter(|row| at(row, "density_verdict") == "not-run");
    assert_eq!(not_run.map(|row| at(row, "tenants")).collect::<Vec<_>>(), ["3", "6", "7", "2", "3", "2", "4"]);
}

#[test]
fn curves_of_another_load_stand_on_a_chart_of_their_own() {
    let mut report = report(&sample::sample());
    assert_eq!(together(&report.runs[0]).len(), 1, "mode against mode");
    report.runs[0].curves[3].rate = Some(40.0);
    let groups = together(&report.runs[0]);
    assert_eq!(groups.iter().map(|g| g.curves.len()).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(groups[1].heading(), "How many tenants meet p99 ≤ 50 ms at 40 req/s each (inference)");
}

#[test]
fn a_density_that_meets_nothing_measured_is_drawn_by_nobody() {
    let both = sample::alone(&[(1, Skipped("MIG is off")), (2, NotRun)]);
    assert!(both.1.curves[0].levels.iter().all(|l| !matches!(l.state, LevelState::Met {})));
    let told = text(&both, Format::Terminal, 110);
    assert!(!told.contains("Worst p99 over tenants"), "{told}");
    assert!(!text(&both, Format::Html, 110).contains("<svg "));
}
