//! A report as JUnit XML, valid by the schema that Jenkins' xUnit plugin checks (junit-10.xsd).
//!
//! A suite per place, a case per cell, series and quantile: verdicts are given per quantile, and a p99 that fails must not
//! hide a p50 that nobody could decide. Objectives, hazards and observations are cases of their place as well. No times: a
//! report is a pure function of its run.

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::ReportError;
use super::escape::xml;
use super::model::{AcceptState, Cell, Objective, Report, RequiredOf, Requirement, RunReport, Series, VerdictWord};
use super::words;
use crate::verdict::RequirementState;

/// What a case is that nobody could decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inconclusive {
    /// An error where something is required of it, else skipped.
    #[default]
    ByRequirement,
    /// Always an error.
    Error,
    /// Always skipped.
    Skip,
}

/// How a case ends, before the policy has its say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// What is required holds, or nothing is and nothing speaks against it.
    Passed,
    /// What is required does not hold.
    Failed,
    /// Nobody can say; whether something is required of it.
    Open { required: bool },
    /// Not run; not as it should be, and nothing was required; or accepted.
    Skipped,
}

struct Case {
    /// The cell, or what else a requirement names.
    of: String,
    name: String,
    end: End,
    /// One word for machines.
    kind: String,
    /// The evidence.
    text: String,
}

/// The report as JUnit XML.
///
/// # Errors
/// Where the report has no XML form, which is a bug of crosstalk.
pub fn render(report: &Report, inconclusive: Inconclusive) -> Result<String, ReportError> {
    let mut out = quick_junit::Report::new("crosstalk");
    for run in &report.runs {
        let properties = properties(run);
        for (place, cases) in suites(run) {
            let mut suite = TestSuite::new(xml(&place));
            suite.add_properties(properties.iter().map(|(key, value)| (xml(key), xml(value))));
            for control in run.controls.iter().filter(|c| c.place == place) {
                let name = format!("control: {}", control.control.words());
                let value = format!("{}: {}", words::outcome_id(control.outcome), control.summary);
                suite.add_property((name, xml(&value)));
            }
            suite.add_test_cases(cases.iter().map(|case| case.render(inconclusive)));
            out.add_test_suite(suite);
        }
    }
    let text = out.to_string()?;
    // The schema knows `skipped` of a suite and not of the root, where the library writes it all the same. The root's name
    // is ours, so the first one is the root's.
    Ok(text.replacen(&format!(" skipped=\"{}\"", out.skipped), "", 1))
}

impl Case {
    fn new(of: impl Into<String>, name: impl Into<String>, end: End, kind: &str, text: impl Into<String>) -> Self {
        Self { of: of.into(), name: name.into(), end, kind: kind.to_owned(), text: text.into() }
    }

    fn render(&self, inconclusive: Inconclusive) -> TestCase {
        let error = match (inconclusive, self.end) {
            (Inconclusive::ByRequirement, End::Open { required }) => required,
            (Inconclusive::Error, End::Open { .. }) => true,
            _ => false,
        };
        let mut status = match self.end {
            End::Passed => TestCaseStatus::success(),
            End::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
            End::Open { .. } if error => TestCaseStatus::non_success(NonSuccessKind::Error),
            End::Open { .. } | End::Skipped => TestCaseStatus::skipped(),
        };
        let text = xml(&self.text);
        status.set_type(xml(&self.kind)).set_message(text.as_str());
        let mut case = TestCase::new(xml(&self.name), status);
        case.set_classname(xml(&self.of));
        if self.end == End::Passed && !text.is_empty() {
            case.set_system_out(text);
        }
        case
    }
}

/// What must be known of every suite: JUnit has no place for it above them.
fn properties(run: &RunReport) -> Vec<(&'static str, String)> {
    let h = &run.header;
    let mut out = vec![("provenance", words::provenance_id(h.provenance).to_owned())];
    out.extend(h.banner.clone().map(|banner| ("banner", banner)));
    out.push(("scenario", h.scenario.clone()));
    out.extend(h.description.clone().map(|d| ("description", d)));
    out.push(("created by", h.created_by.clone()));
    out.push(("device", h.device.clone()));
    out.push(("gpu", h.gpu.clone()));
    out.push(("gpu uuid", h.uuid.clone()));
    out.extend(h.driver.clone().map(|d| ("driver", d)));
    out.push(("tier", words::tier(h.tier).to_owned()));
    out.push(("blocks", h.blocks.to_string()));
    out.push(("seed", h.seed.to_string()));
    if !h.progress.finished {
        out.push(("interrupted", words::recorded(&h.progress)));
    }
    out.push(("requirements", run.requirements.summary.clone()));
    for risk in &run.accepted {
        let state = match risk.state {
            AcceptState::InForce => "in force",
            AcceptState::NotNeeded => "not needed",
            AcceptState::Expired => "expired",
            AcceptState::NoSuchCell => "no such cell",
        };
        let channel = risk.channel.as_ref().map_or_else(String::new, |c| format!(", {c} only"));
        let text = format!("{}{channel}: {} (by {}, until {}; {state})", risk.cell, risk.reason, risk.by, risk.until);
        out.push(("accepted risk", text));
    }
    out.push(("scope", run.scope.text.clone()));
    if !run.scope.assumed.is_empty() {
        out.push(("without proof", run.scope.assumed.join("; ")));
    }
    out.push(("not tested", run.scope.not_tested.join(", ")));
    out.extend(run.warnings.iter().map(|w| ("warning", format!("{} → {}", w.what, w.advice))));
    out
}

/// Cases by place, in the order of the matrix's columns.
fn suites(run: &RunReport) -> Vec<(String, Vec<Case>)> {
    let mut all: Vec<(String, Vec<Case>)> = run.columns.iter().map(|c| (c.name.clone(), Vec::new())).collect();
    for (at, cell) in run.cells.iter().enumerate() {
        let cases = of_cell(run, at, cell);
        suite(&mut all, run.place_of(at).map_or(&cell.name, |(_, column)| &column.name)).extend(cases);
    }
    for o in &run.objectives {
        suite(&mut all, &o.place).push(of_objective(o));
    }
    for h in &run.hazards {
        let end = end(h.requirement, h.verdict);
        let place = h.name.rsplit_once('/').map_or(h.arrangement.as_str(), |(place, _)| place);
        let why = h.why.as_ref().map_or_else(String::new, |why| format!(": {}", why.text));
        let text = format!("{}{why}: {}", h.verdict.id(), h.text);
        suite(&mut all, place).push(Case::new(&h.name, "hazard", end, h.verdict.id(), text));
    }
    for c in &run.curves {
        let end = match (c.requirement, c.met, c.missed) {
            (RequirementState::NotRequired, Some(_), _) => End::Passed,
            (RequirementState::NotRequired, None, Some(_)) => End::Skipped,
            (RequirementState::NotRequired, None, None) => End::Open { required: false },
            (state, ..) => end(state, VerdictWord::Inconclusive),
        };
        let asked = c.at_least.map_or_else(String::new, |n| format!("required: {n} at least; "));
        let told = [Some(&c.crossing), c.knee.as_ref(), c.lone.as_ref().map(|lone| &lone.text)];
        let remarks = c.densities.iter().filter_map(|d| Some(format!("{}: {}", d.tenants, d.remark(c)?)));
        let told = told.into_iter().flatten().chain(&c.notes).cloned().chain(remarks);
        let told: Vec<String> = told.map(|text| text.trim_end_matches('.').to_owned()).collect();
        let kind = words::requirement_id(c.requirement);
        suite(&mut all, &c.name).push(Case::new(&c.name, "density", end, kind, format!("{asked}{}", told.join("; "))));
    }
    for o in &run.observed {
        let (kind, found) = match &o.finding {
            Some(finding) => ("found", finding.as_str()),
            None => ("unknown", "cannot be told"),
        };
        let required = o.required.as_ref().map_or_else(String::new, |r| format!("; required: {r}"));
        let end = match (o.requirement, &o.finding) {
            (RequirementState::NotRequired, None) => End::Open { required: false },
            (state, _) => end(state, VerdictWord::Isolated),
        };
        let of = format!("{}, {}", o.arrangement, o.id);
        suite(&mut all, &o.arrangement).push(Case::new(
            of,
            "observation",
            end,
            kind,
            format!("{found}: {}{required}", o.why),
        ));
    }
    for item in &run.requirements.items {
        told(run, &mut all, item);
    }
    all.retain(|(_, cases)| !cases.is_empty());
    all
}

fn suite<'a>(all: &'a mut Vec<(String, Vec<Case>)>, place: &str) -> &'a mut Vec<Case> {
    let at = all.iter().position(|(name, _)| name == place).unwrap_or_else(|| {
        all.push((place.to_owned(), Vec::new()));
        all.len() - 1
    });
    &mut all[at].1
}

/// A requirement that does not hold, or that nobody can decide, and that no case shows yet: one of which there is no cell,
/// or that lacks proof though every series looks well.
fn told(run: &RunReport, all: &mut Vec<(String, Vec<Case>)>, item: &Requirement) {
    let shows = |case: &Case| match item.state {
        RequirementState::NotMet => case.end == End::Failed,
        RequirementState::Undecided => case.end == End::Open { required: true },
        _ => true,
    };
    let mut cases = all.iter().flat_map(|(_, cases)| cases);
    let name = match item.of {
        RequiredOf::Cell => "requirement",
        RequiredOf::Objective => "objectives",
        RequiredOf::Observation | RequiredOf::Hazard | RequiredOf::Curve => return,
    };
    let holds =
        matches!(item.state, RequirementState::Met | RequirementState::Accepted | RequirementState::NotRequired);
    if holds || cases.any(|case| case.of == item.cell && shows(case)) {
        return;
    }
    let end = if item.state == RequirementState::NotMet { End::Failed } else { End::Open { required: true } };
    let at = run.cells.iter().position(|cell| cell.name == item.cell).and_then(|at| run.place_of(at));
    let place = at.map_or(&item.cell, |(_, column)| &column.name).clone();
    let kind = words::requirement_id(item.state);
    suite(all, &place).push(Case::new(&item.cell, name, end, kind, item.text.clone()));
}

/// The end of what is judged by itself.
fn end(state: RequirementState, verdict: VerdictWord) -> End {
    match (state, verdict) {
        (RequirementState::Met, _) => End::Passed,
        (RequirementState::NotMet, _) => End::Failed,
        (RequirementState::Undecided, _) => End::Open { required: true },
        (RequirementState::Accepted, _) => End::Skipped,
        (RequirementState::NotRequired, VerdictWord::Isolated) => End::Passed,
        (RequirementState::NotRequired, VerdictWord::Inconclusive) => End::Open { required: false },
        // A pass would read as if it were isolated.
        (RequirementState::NotRequired, VerdictWord::Degraded | VerdictWord::Violated | VerdictWord::Skipped) => {
            End::Skipped
        }
    }
}

fn of_objective(o: &Objective) -> Case {
    let of = o.neighbour.as_ref().map_or_else(|| format!("{}, quiet", o.place), |n| format!("{}/{n}", o.place));
    let verdict = match o.verdict.as_str() {
        "met" => VerdictWord::Isolated,
        "missed" => VerdictWord::Violated,
        _ => VerdictWord::Inconclusive,
    };
    let end = end(o.requirement, verdict);
    Case::new(
        of,
        format!("objective {} {}", o.probe, o.objective),
        end,
        &o.verdict,
        format!("{}: {}", o.verdict, o.text),
    )
}

fn of_cell(run: &RunReport, at: usize, cell: &Cell) -> Vec<Case> {
    if cell.series.is_empty() {
        // Not run: an error all the same where it was required, for what is absent never passes.
        let end = match cell.requirement {
            RequirementState::Undecided => End::Open { required: true },
            _ => End::Skipped,
        };
        return vec![Case::new(&cell.name, "verdict", end, cell.verdict.id(), cell.summary.clone())];
    }
    cell.series.iter().map(|s| of_series(run, at, cell, s)).collect()
}

fn of_series(run: &RunReport, at: usize, cell: &Cell, s: &Series) -> Case {
    let holds = s.required.map(|word| words::holds(word, s.verdict));
    // Accepted as a whole, or in the channel of this series while others of the cell fail.
    let accepted = cell.requirement == RequirementState::Accepted
        || (cell.requirement == RequirementState::NotMet && accepts(run, at, cell, s));
    // The cell's series may be required together: "violated" holds where one of them is.
    let unmet = matches!(cell.requirement, RequirementState::NotMet | RequirementState::Undecided);
    let end = match holds {
        _ if s.verdict == VerdictWord::Inconclusive && !accepted => {
            End::Open { required: s.required.is_some() && unmet }
        }
        _ if s.verdict.open() => End::Skipped,
        Some(Some(false)) if accepted => End::Skipped,
        Some(Some(false)) if cell.requirement == RequirementState::NotMet => End::Failed,
        None if s.verdict.moved() => End::Skipped,
        _ => End::Passed,
    };
    let asked = match (s.required, s.verdict.moved()) {
        (Some(word), _) => format!("{}; ", words::demand(word)),
        (None, true) => "nothing is required; ".to_owned(),
        (None, false) => String::new(),
    };
    let accepted = if accepted && end == End::Skipped { "; the risk is accepted" } else { "" };
    let cause = s.cause.as_ref().map_or_else(String::new, |cause| format!(", {}", cause.text));
    let why = s.why.as_ref().map_or_else(String::new, |why| {
        let advice = why.advice.as_ref().map_or_else(String::new, |advice| format!(" ({advice})"));
        format!("; {}{advice}", why.text)
    });
    let text = format!("{asked}{}: {}{cause}{why}{accepted}", s.verdict.id(), words::movement(s));
    let kind = s.why.as_ref().map_or(s.verdict.id(), |why| &why.reason);
    Case::new(&cell.name, s.name(), end, kind, text)
}

/// Whether a risk accepted for a channel alone is this series'.
fn accepts(run: &RunReport, at: usize, cell: &Cell, s: &Series) -> bool {
    let without_seat = run.place_of(at).map(|(row, column)| format!("{}/{}", column.arrangement, row.neighbour));
    run.accepted.iter().any(|risk| {
        risk.state == AcceptState::InForce
            && risk.channel.as_deref() == Some(s.channel.id())
            && (risk.cell == cell.name || without_seat.as_ref() == Some(&risk.cell))
    })
}
