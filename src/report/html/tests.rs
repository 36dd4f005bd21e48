//! What must hold of a page, whatever its run.

use std::collections::BTreeMap;

use crate::backend::{ArmKey, ArmSummary, NeighbourSummary, OomEvent, Purpose};
use crate::experiment::order;
use crate::hazard::FaultKind;
use crate::provenance::Provenance;
use crate::report::fixture;
use crate::report::{Blast, HazardHere, MemoryHere, OutOfMemory, Took};
use crate::run_dir::{ArmData, RecordedRun, SeriesData};
use crate::units::Nanos;
use crate::verdict::RunVerdict;

use super::*;

/// The sample with arms: latencies around `quiet_ns`, twice as long beside a neighbour, a hundred to an arm.
fn measured(quiet_ns: u64) -> (RecordedRun, RunVerdict) {
    let (mut run, verdict) = (fixture::run(), fixture::verdict());
    with_arms(&mut run, 24, quiet_ns);
    (run, verdict)
}

fn with_arms(run: &mut RecordedRun, blocks: u32, quiet_ns: u64) {
    let plan = run.manifest.plan.clone();
    for (arrangement, planned) in plan.arrangements.iter().enumerate() {
        for block in 0..blocks {
            for key in order(&plan, arrangement, 0, block).into_iter().filter(|key| key.purpose == Purpose::Block) {
                let times = if key.neighbour.is_some() { 2 } else { 1 };
                let mut data = SeriesData::default();
                (0..100).for_each(|n| {
                    data.latency.record(quiet_ns.saturating_mul(times).saturating_add(n * (quiet_ns / 50)))
                });
                data.censored = u64::from(block == 3 && key.neighbour.is_some());
                let probes = planned.grids[0].probes.iter().flat_map(|probe| &plan.panel[*probe].series);
                let series: BTreeMap<String, SeriesData> = probes.map(|name| (name.clone(), data.clone())).collect();
                run.arms.insert(key.clone(), ArmData { summary: summary(&key), series });
            }
        }
    }
}

fn summary(key: &ArmKey) -> ArmSummary {
    let neighbour = NeighbourSummary {
        seat: 1,
        completed: 70,
        rate: if key.neighbour.is_some() { 70.5 } else { 0.0 },
        pending: 1.0,
        longest_gap: Nanos(5),
    };
    let oom = OomEvent { seat: 0, at: Nanos::millis(7), asked: 1 << 30, free: 1 << 20, total: 80 << 30 };
    ArmSummary {
        neighbours: vec![neighbour],
        sm_mhz: Some(1980.0 - f64::from(key.block)),
        power_w: Some(400.0),
        oom: if key.block == 2 { vec![oom] } else { Vec::new() },
        ..ArmSummary::default()
    }
}

/// Asserts that every element which must end does, in its order, and that every attribute is quoted and ends: what a parser of
/// HTML would mend in silence.
fn balanced(page: &str) {
    const VOID: [&str; 4] = ["meta", "input", "br", "hr"];
    let (mut open, mut rest): (Vec<String>, &str) = (Vec::new(), page);
    while let Some((_, tag)) = rest.split_once('<') {
        assert!(tag.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!'), "a bare <: {:?}", cut(tag));
        // A tag ends at the first > outside of quotes.
        let mut quoted = false;
        let end = tag.find(|c| {
            quoted ^= c == '"';
            c == '>' && !quoted
        });
        let (inside, after) = tag.split_at(end.unwrap_or_else(|| panic!("a tag without an end: {:?}", cut(tag))));
        rest = &after[1..];
        let name: String = inside.trim_start_matches('/').chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        if let Some(closed) = inside.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(closed), "near {:?}", cut(rest));
        } else if !inside.starts_with('!') && !inside.ends_with('/') && !VOID.contains(&name.as_str()) {
            // What scripts and styles hold is no markup.
            if matches!(name.as_str(), "script" | "style") {
                rest = rest.split_once(&format!("</{name}>")).unwrap().1;
            } else {
                open.push(name);
            }
        }
    }
    assert_eq!(open, Vec::<String>::new(), "left open");
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

fn evil(run: &mut RecordedRun, verdict: &mut RunVerdict) {
    let names = [
        "<script>alert(1)</script>".to_owned(),
        "\"><img src=x onerror=alert(1)>&#x27; </td></table></title></style><!--".to_owned(),
        "\u{202e}\u{0}\u{1b}[2J\nשלום |漢字 😀 {{ 7*7 }} {% raw %}".to_owned(),
        "x".repeat(10_000),
    ];
    let plan = &mut run.manifest.plan;
    plan.scenario.clone_from(&names[0]);
    plan.description = Some(names[1].clone());
    plan.neighbours[0].name.clone_from(&names[2]);
    plan.neighbours[1].name.clone_from(&names[1]);
    plan.arrangements[0].name.clone_from(&names[0]);
    plan.arrangements[1].name.clone_from(&names[3]);
    plan.arrangements[1].seats[0].share.clone_from(&names[1]);
    plan.panel[0].name.clone_from(&names[1]);
    plan.panel[0].series[0].clone_from(&names[1]);
    plan.panel[0].params.insert(names[0].clone(), names[1].clone());
    run.manifest.device = names.join(" ");
    run.manifest.scenario_text = names.join("\n");
    plan.inventory.driver = Some(names[1].clone());
    plan.accepted[0].reason.clone_from(&names[0]);
    run.skipped.insert(1, names[1].clone());
    for cell in &mut verdict.cells {
        let arrangement = &plan.arrangements[cell.arrangement].name;
        cell.name = format!("{arrangement}/{}", plan.neighbours[cell.neighbour].name);
        cell.series[0].series.clone_from(&names[1]);
        cell.surprises = names.to_vec();
    }
    verdict.warnings[0].what.clone_from(&names[0]);
    verdict.controls[0].text.clone_from(&names[1]);
}

#[test]
fn pages_are_whole_whatever_names_they_hold() {
    let (run, verdict) = measured(40_000);
    balanced(&html(&run, &verdict).unwrap());
    let (mut run, mut verdict) = measured(40_000);
    evil(&mut run, &mut verdict);
    let page = html(&run, &verdict).unwrap();
    balanced(&page);
    assert_eq!(page.matches("<script").count(), 1, "a name became a script");
    assert!(page.contains("&#60;script&#62;alert(1)&#60;/script&#62;"), "the name is shown");
    assert!(!page.contains("<img"), "a name became an element");
    let obeyed = |c: &char| (c.is_control() && *c != '\n') || *c == '\u{202e}';
    assert_eq!(page.chars().find(obeyed), None, "a character that a browser obeys");
    assert!(page.contains("\\u{202e}\\u{0}"), "it is shown instead");
    assert!(page.contains("{{ 7*7 }}"), "a name became a template");
}

#[test]
fn what_was_not_measured_says_so_before_anything_else() {
    for provenance in [Provenance::Measured, Provenance::StandIn, Provenance::Simulated] {
        let (mut run, verdict) = measured(40_000);
        run.manifest.provenance = provenance;
        let page = html(&run, &verdict).unwrap();
        let body = page.split_once("<body>").unwrap().1.trim_start();
        match provenance.banner() {
            Some(banner) => {
                assert!(body.starts_with(&format!("<p class=\"banner\" role=\"note\">{banner}</p>")), "{}", cut(body));
            }
            None => assert!(body.starts_with("<header"), "{}", cut(body)),
        }
    }
}

#[test]
fn the_page_asks_for_nothing_and_runs_nothing_but_its_own() {
    let (run, verdict) = measured(40_000);
    let page = html(&run, &verdict).unwrap();
    for outside in ["http://", "https://", "src=", "@import", "url(", "<link", " style=\"", " onclick"] {
        assert!(!page.contains(outside), "{outside}");
    }
    let policy = page.split_once("content=\"default-src 'none'; style-src 'sha256-").unwrap().1;
    let hash = |text: &str| base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text));
    let between = |from: &str, to: &str| page.split_once(from).unwrap().1.split_once(to).unwrap().0;
    assert!(policy.starts_with(&hash(between("<style>", "</style>"))), "the style sheet would be refused");
    let script = format!("script-src 'sha256-{}'", hash(between("<script>", "</script>")));
    assert!(policy.contains(&script), "the script would be refused");
}

#[test]
fn equal_runs_give_equal_pages_and_the_day_is_not_in_them() {
    let (mut run, verdict) = measured(40_000);
    let page = html(&run, &verdict).unwrap();
    assert_eq!(html(&run, &verdict).unwrap(), page);
    run.manifest.date = jiff::civil::date(2026, 9, 30);
    assert_eq!(html(&run, &verdict).unwrap(), page);
}

#[test]
fn every_cell_has_its_charts_and_says_what_is_absent() {
    let (run, verdict) = measured(40_000);
    let page = html(&run, &verdict).unwrap();
    assert_eq!(page.matches("<figure class=\"time\">").count(), verdict.cells.len());
    // Two series to a cell: a curve each, and differences of those that are judged by blocks: p50 and p99.
    assert_eq!(page.matches("<figure class=\"curve\">").count(), 2 * verdict.cells.len());
    assert_eq!(page.matches("<figure class=\"blocks\">").count(), 4 * verdict.cells.len());
    assert_eq!(page.matches("<svg ").count(), page.matches("role=\"img\" aria-label=\"").count());
    assert!(page.contains("SM clock: 1957 to 1980 MHz") && page.contains("power: 400 W"), "recorded beside it");
    assert!(page.contains("Not recorded: held down by the power cap."), "what is absent says so");
    assert!(page.contains("seat 0 asked for 1.00 GiB, and saw 1.00 MiB of 80.00 GiB free"));
    assert!(page.contains("never served, 1 of them in noisy arms"));
    let bare = html(&fixture::run(), &fixture::verdict()).unwrap();
    assert_eq!(bare.matches("<svg ").count(), 0);
    assert!(bare.contains("No arm of this cell was recorded"));
}

#[test]
fn a_page_of_24_cells_keeps_to_its_size() {
    let (mut run, mut verdict) = (fixture::run(), fixture::verdict());
    let plan = &mut run.manifest.plan;
    // Two arrangements, twelve neighbours, six probes, 48 blocks.
    let (probe, neighbour) = (plan.panel[0].clone(), plan.neighbours[1].clone());
    plan.design.blocks = 48;
    plan.panel = (0..6)
        .map(|i| {
            let name = format!("probe-{i}");
            crate::plan::PlannedProbe { series: vec![name.clone()], name, ..probe.clone() }
        })
        .collect();
    plan.neighbours = (0..12)
        .map(|i| crate::plan::PlannedNeighbour { name: format!("neighbour-{i}"), ..neighbour.clone() })
        .collect();
    for arrangement in &mut plan.arrangements {
        arrangement.grids[0].probes = (0..6).collect();
        arrangement.grids[0].neighbours = (0..12).collect();
    }
    let sample = verdict.cells[4].clone();
    verdict.cells = (0..24)
        .map(|i| {
            let mut cell = sample.clone();
            (cell.arrangement, cell.neighbour) = (i / 12, i % 12);
            cell.name = format!("{}/neighbour-{}", plan.arrangements[i / 12].name, i % 12);
            cell.series = (0..6)
                .flat_map(|probe| sample.series[..2].iter().map(move |s| (probe, s.clone())))
                .map(|(probe, s)| crate::verdict::SeriesVerdict { series: format!("probe-{probe}"), ..s })
                .collect();
            cell
        })
        .collect();
    with_arms(&mut run, 48, 2_345_678);
    let page = html(&run, &verdict).unwrap();
    assert_eq!(page.matches("<figure class=\"curve\">").count(), 24 * 6);
    assert!(page.len() <= 3_000_000, "{} bytes", page.len());
}

#[test]
fn latencies_of_any_size_are_drawn() {
    for quiet_ns in [1, 1_000_000_000_000_000, u64::MAX / 4] {
        let (run, verdict) = measured(quiet_ns);
        balanced(&html(&run, &verdict).unwrap());
    }
}

#[test]
fn hazards_are_shown_with_their_tables() {
    let failed = |who: &str, at_ns| OutOfMemory {
        who: who.to_owned(),
        at_ns,
        step: crate::hazard::Step::Take,
        asked: 1 << 30,
        free: Some(1 << 20),
        total: None,
        outcome: crate::backend::Outcome::Oom,
    };
    let hazard = HazardHere {
        name: "ts/ramp".to_owned(),
        arrangement: "ts".to_owned(),
        hazard: "capacity".to_owned(),
        channel: "hbm-capacity".to_owned(),
        verdict: VerdictWord::Violated,
        why: None,
        hits: 2,
        of: 30,
        unit: "attempts".to_owned(),
        at_least: Some(0.01),
        at_most: Some(0.2),
        text: "out of memory in 2 of 30 attempts".to_owned(),
        required: Some("isolated".to_owned()),
        requirement: RequirementState::NotMet,
        memory: Some(MemoryHere {
            budget: 1 << 30,
            victim: Took { alone: Some(9 << 30), ..Took::default() },
            neighbour: Took::default(),
            out_of_memory: (0..40).map(|n| failed("neighbour", n)).chain([failed("victim", 1 << 40)]).collect(),
            fragmented: 1,
            disagreements: vec!["<b>all memory</b>".to_owned()],
        }),
        blast: vec![Blast {
            fault: Some(FaultKind::ALL[0]),
            trials: 5,
            reached: 1,
            own_codes: vec![700],
            victim_codes: Vec::new(),
            requests_lost: 3,
            longest_gap_ns: 7_000_000,
            recovered_ns: None,
            newcomer_ns: Some(1),
            xids: vec![31, 43],
            at_most: Some(0.5),
        }],
    };
    let mut report = Report::build(&fixture::run(), &fixture::verdict());
    let untried =
        HazardHere { name: "mig/ramp".to_owned(), arrangement: "mig".to_owned(), memory: None, ..hazard.clone() };
    report.runs[0].hazards = vec![hazard, HazardHere { blast: Vec::new(), hits: 0, of: 0, ..untried }];
    let page = render(&report).unwrap();
    balanced(&page);
    for at in [1, 2] {
        assert_eq!(page.matches(&format!("href=\"#hazard-{at}\"")).count(), 1);
        assert_eq!(page.matches(&format!(" id=\"hazard-{at}\"")).count(), 1, "a link that leads nowhere");
    }
    assert!(page.contains("<b>2 of 30</b>"));
    for text in [
        "1 of 5",
        "700",
        "31, 43",
        "never",
        "9.00 GiB",
        "NOT MET",
        "and 28 more",
        "1 of the victim, 40 of the neighbour",
        "&#60;b&#62;all memory",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert_eq!(page.matches("<figure class=\"memory\">").count(), 1);
}

#[test]
fn curves_have_their_sentence_chart_and_table() {
    use crate::report::density::sample;
    for (run, verdict) in [sample::sample(), sample::beside()] {
        let page = html(&run, &verdict).unwrap();
        balanced(&page);
        assert_eq!(page.matches("<figure class=\"density\">").count(), 1, "mode against mode on one chart");
        assert_eq!(page.matches("<span class=\"crossing\">").count(), 4);
        assert_eq!(page.matches("<table class=\"density\">").count(), 4);
        assert!(
            page.contains(
                "<span class=\"crossing\">4 tenants meet p99 ≤ 50 ms at 20 req/s each; 5 do not; 99 %.</span>"
            )
        );
        let figure = page.split_once("<figure class=\"density\">").unwrap().1;
        let label = figure.split_once("role=\"img\" aria-label=\"").unwrap().1.split_once('"').unwrap().0;
        assert!(label.contains("time-slicing: 1 11.2 ms, 2 19 ms, 4 41 ms, 5 61 ms, 8 saturated"), "{label}");
        assert_eq!(page.matches("<td>saturated</td>").count(), 16, "every tenant of eight, twice");
    }
    for evil in ["<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "\u{202e}\u{0}\u{1b}[2J\n{{ 7*7 }}"] {
        let (run, verdict) = sample::hostile(evil, &"x".repeat(10_000));
        let page = html(&run, &verdict).unwrap();
        balanced(&page);
        assert_eq!(page.matches("<script").count(), 1, "a name became a script");
        assert!(!page.contains("<img"), "a name became an element");
        let obeyed = |c: &char| (c.is_control() && *c != '\n') || *c == '\u{202e}';
        assert_eq!(page.chars().find(obeyed), None, "a character that a browser obeys");
    }
}

#[test]
fn ids_are_each_one_elements_and_links_lead_somewhere() {
    let (run, verdict) = measured(40_000);
    let (one, two) = (Report::build(&run, &verdict), Report::over([(&run, &verdict), (&run, &verdict)]));
    for page in [html(&run, &verdict).unwrap(), render(&one).unwrap(), render(&two).unwrap()] {
        let of = |attribute: &str| -> Vec<String> {
            let parts = page.split(attribute).skip(1);
            parts.filter_map(|rest| rest.split_once('"')).map(|(value, _)| value.to_owned()).collect()
        };
        let ids = of(" id=\"");
        let mut once = ids.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), ids.len(), "{ids:?}");
        let lost: Vec<String> = of("href=\"#").into_iter().filter(|target| !ids.contains(target)).collect();
        assert_eq!(lost, Vec::<String>::new());
    }
}
