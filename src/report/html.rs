//! A report as one page of HTML: no network, legible without its script, by keyboard, by screen reader and on paper.
//!
//! Names come from scenarios and hosts. The template escapes them; what a browser would obey or hide in them (control
//! characters, characters that turn the direction of text) is made visible as on a terminal. Scripts and styles but the
//! page's own are refused by its content security policy, which names their hashes.

mod cells;
mod density;
mod figures;
mod rows;
mod setting;
#[cfg(test)]
mod tests;

use askama::Template;
use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use crate::provenance::Provenance;
use crate::run_dir::RecordedRun;
use crate::verdict::{RequirementState, RunVerdict};

use super::detail::Detail;
use super::format::count;
use super::model::{AcceptState, Report, RunReport, VerdictWord};
use super::{ReportError, hazards, text, words};
use cells::CellView;
use rows::{Badge, HazardMatrix, HazardView, MatrixView};
use setting::Setting;

/// The page's style sheet and script.
const STYLE: &str = include_str!("html/style.css");
const SCRIPT: &str = include_str!("html/script.js");

/// The whole page.
#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    title: String,
    banner: Option<&'a str>,
    style: &'static str,
    style_hash: String,
    script: &'static str,
    script_hash: String,
    runs: Vec<RunView<'a>>,
}

/// One run of the page.
struct RunView<'a> {
    /// Before every id: ids are the page's.
    prefix: String,
    run: &'a RunReport,
    /// Where the page has several runs, each says what it is.
    banner: Option<&'a str>,
    question: &'a str,
    facts: Vec<String>,
    interrupted: Option<String>,
    state: Badge,
    /// How many cells are not isolated, in a sentence; empty: there are no cells.
    isolated: String,
    tally: Vec<(Badge, String)>,
    matrix: MatrixView,
    densities: Vec<density::GroupView>,
    /// Heading of what the verdicts mean.
    means: &'static str,
    accepted: Vec<(Badge, String, String)>,
    required: Vec<(Badge, String, String)>,
    met: Vec<(String, String)>,
    cells: Vec<CellView>,
    hazard_matrix: HazardMatrix,
    hazards: Vec<HazardView>,
    objectives: Vec<[String; 4]>,
    controls: Vec<(Badge, String, String)>,
    observed: Vec<(Badge, String, String)>,
    calibration: Vec<[String; 6]>,
    turns: Vec<(String, String)>,
    setting: Option<Setting>,
}

/// The page of one run, with everything that is known of it.
///
/// # Errors
/// Where a chart or the page cannot be written, which is a bug of crosstalk.
pub fn html(run: &RecordedRun, verdict: &RunVerdict) -> Result<String, ReportError> {
    let report = Report::build(run, verdict);
    let detail = Detail::build(run, verdict);
    let views = report.runs.iter().map(|r| view(String::new(), r, false, Some((&detail, run))));
    page(&report, views.collect::<Result<_, _>>()?)
}

/// The page of a report alone: without what lies below its verdicts.
pub(super) fn render(report: &Report) -> Result<String, ReportError> {
    let several = report.runs.len() > 1;
    let prefix = |at: usize| if at == 0 { String::new() } else { format!("r{}-", at + 1) };
    let views = report.runs.iter().enumerate().map(|(at, run)| view(prefix(at), run, several, None));
    page(report, views.collect::<Result<_, _>>()?)
}

fn page(report: &Report, runs: Vec<RunView<'_>>) -> Result<String, ReportError> {
    let title = report.runs.first().map_or_else(String::new, |run| {
        let provenance = match run.header.provenance {
            Provenance::Measured => "",
            Provenance::StandIn => " (stand-in driver)",
            Provenance::Simulated => " (simulated)",
        };
        format!("{}{provenance}: {}", run.header.scenario, run.requirements.summary)
    });
    let hash = |text: &str| base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text));
    let page = Page {
        title,
        banner: report.banner.as_deref(),
        style: STYLE,
        style_hash: hash(STYLE),
        script: SCRIPT,
        script_hash: hash(SCRIPT),
        runs,
    };
    Ok(visible(&page.render()?))
}

/// What a browser would obey or hide, made visible. The page's own text has none of it but ends of lines.
fn visible(page: &str) -> String {
    let mut out = String::with_capacity(page.len());
    for line in page.split_inclusive('\n') {
        let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
        // Nearly every line is as it should be.
        if body.is_ascii() && !body.bytes().any(|b| b.is_ascii_control()) {
            out.push_str(body);
        } else {
            out.push_str(&text::escape(body));
        }
        out.push_str(end);
    }
    out
}

fn view<'a>(
    prefix: String,
    run: &'a RunReport,
    several: bool,
    below: Option<(&Detail, &RecordedRun)>,
) -> Result<RunView<'a>, ReportError> {
    let h = &run.header;
    let cells = cells::of(&prefix, run, below)?;
    Ok(RunView {
        banner: h.banner.as_deref().filter(|_| several),
        question: h.description.as_deref().unwrap_or(&h.scenario),
        facts: facts(run),
        interrupted: interrupted(run),
        state: Badge::of_requirement(run.requirements.state),
        isolated: isolated(run),
        tally: tally(run),
        matrix: rows::matrix(&prefix, run),
        densities: density::of(run)?,
        means: if run.cells.is_empty() && !run.curves.is_empty() {
            "What met means here"
        } else {
            "What isolated means here"
        },
        accepted: accepted(run),
        required: required(run),
        met: met(run),
        hazard_matrix: rows::hazard_matrix(run),
        hazards: rows::hazards(&prefix, run)?,
        objectives: rows::objectives(run),
        controls: rows::controls(run),
        observed: rows::observed(run),
        calibration: rows::calibration(run),
        turns: rows::turns(run),
        setting: below.map(|(_, recorded)| setting::of(recorded)),
        cells,
        prefix,
        run,
    })
}

/// What was run, and where, in a few words each.
fn facts(run: &RunReport) -> Vec<String> {
    let h = &run.header;
    let mut facts = vec![h.scenario.clone(), h.gpu.clone()];
    match (&h.driver, h.provenance) {
        (Some(driver), _) => facts.push(format!("driver {driver}")),
        (None, Provenance::Simulated) => {}
        (None, Provenance::Measured | Provenance::StandIn) => facts.push("driver not readable".to_owned()),
    }
    if h.probes > 0 {
        facts.extend(words::size(run));
        facts.push(format!("{}, {}", words::tier(h.tier), count(h.blocks.into(), "block")));
    }
    facts.extend(hazards::how_many(h.arrangements as usize, h.hazards as usize));
    facts.extend([format!("seed {}", h.seed), h.created_by.clone()]);
    facts
}

fn interrupted(run: &RunReport) -> Option<String> {
    let p = &run.header.progress;
    (!p.finished).then(|| {
        format!(
            "{} were recorded. What follows judges those, and is not the answer to the scenario.",
            words::recorded(p)
        )
    })
}

fn isolated(run: &RunReport) -> String {
    let (cells, moved, open) = (run.cells.len() as u64, run.not_isolated().count(), run.undecided().count() as u64);
    if cells == 0 {
        return String::new();
    }
    let open = if open == 0 { String::new() } else { format!(", {open} not decided") };
    let surprises = match run.cells.iter().filter(|cell| cell.expected == super::Expected::No).count() {
        0 => String::new(),
        n => format!("; {n} not as expected"),
    };
    format!("{moved} of {} not isolated{open}{surprises}.", count(cells, "cell"))
}

/// How many cells have which verdict.
fn tally(run: &RunReport) -> Vec<(Badge, String)> {
    use VerdictWord::{Degraded, Inconclusive, Isolated, Skipped, Violated};
    [Isolated, Degraded, Violated, Inconclusive, Skipped]
        .into_iter()
        .filter_map(|verdict| {
            let n = run.cells.iter().filter(|cell| cell.verdict == verdict).count();
            (n > 0).then(|| (Badge::of_verdict(verdict), n.to_string()))
        })
        .collect()
}

fn accepted(run: &RunReport) -> Vec<(Badge, String, String)> {
    let one = |risk: &super::AcceptedRisk| {
        let channel = risk.channel.as_ref().map_or_else(String::new, |channel| format!(", {channel} only"));
        let (class, word) = match risk.state {
            AcceptState::InForce => ("warn", "in force"),
            AcceptState::NotNeeded => ("skipped", "not needed: what is required of this cell holds"),
            AcceptState::Expired => ("violated", "EXPIRED: it does not count"),
            AcceptState::NoSuchCell => ("warn", "this run has no such cell"),
        };
        let text = format!("{} (by {}, until {}){channel}", risk.reason, risk.by, risk.until);
        (Badge { class, word }, risk.cell.clone(), text)
    };
    run.accepted.iter().map(one).collect()
}

/// Requirements that are not simply met, the gravest first, those of one text together.
fn required(run: &RunReport) -> Vec<(Badge, String, String)> {
    let items = &run.requirements.items;
    let mut groups: Vec<(Badge, String, String)> = Vec::new();
    for state in [RequirementState::NotMet, RequirementState::Undecided, RequirementState::Accepted] {
        for item in items.iter().filter(|item| item.state == state) {
            let badge = Badge::of_requirement(state);
            match groups.iter_mut().find(|(other, _, text)| *other == badge && *text == item.text) {
                Some((_, cells, _)) => cells.push_str(&format!(", {}", item.cell)),
                None => groups.push((badge, item.cell.clone(), item.text.clone())),
            }
        }
    }
    groups
}

fn met(run: &RunReport) -> Vec<(String, String)> {
    let met = run.requirements.items.iter().filter(|item| item.state == RequirementState::Met);
    met.map(|item| (item.cell.clone(), item.text.clone())).collect()
}
