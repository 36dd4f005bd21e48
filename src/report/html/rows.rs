//! The matrix and the tables of a run.

use crate::report::ReportError;
use crate::report::format::{NONE, count, rate, ratio_parts, time};
use crate::report::hazards::{Blast, HazardHere};
use crate::report::memory::{MemoryHere, Took, attempt, people};
use crate::report::model::{Calibrated, Cell, RunReport, Series, VerdictWord};
use crate::run_dir::JudgedBy;
use crate::scenario::Quantile;
use crate::verdict::{ControlOutcome, RequirementState};

use super::figures::{self, Figure};

/// Failed attempts to have memory that are listed for each side.
const ATTEMPTS: usize = 12;

/// A word in a colour: the colour says nothing that the word does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Badge {
    /// Class in the style sheet.
    pub(super) class: &'static str,
    pub(super) word: &'static str,
}

impl Badge {
    /// The word of a verdict, the one that nobody may overlook in capitals.
    pub(super) const fn of_verdict(verdict: VerdictWord) -> Self {
        let word = if matches!(verdict, VerdictWord::Violated) { "VIOLATED" } else { verdict.id() };
        Self { class: verdict.id(), word }
    }

    pub(super) const fn of_requirement(state: RequirementState) -> Self {
        let (class, word) = match state {
            RequirementState::NotRequired => ("skipped", "nothing required"),
            RequirementState::Met => ("isolated", "met"),
            RequirementState::Accepted => ("warn", "accepted"),
            RequirementState::Undecided => ("inconclusive", "undecided"),
            RequirementState::NotMet => ("violated", "NOT MET"),
        };
        Self { class, word }
    }
}

/// The word of a control.
pub(super) const fn control_badge(outcome: ControlOutcome) -> Badge {
    let (class, word) = match outcome {
        ControlOutcome::Passed => ("isolated", "passed"),
        ControlOutcome::Undecided => ("inconclusive", "undecided"),
        ControlOutcome::Impossible => ("warn", "not possible"),
        ControlOutcome::NotMeasured => ("inconclusive", "not measured"),
        ControlOutcome::Failed => ("violated", "FAILED"),
    };
    Badge { class, word }
}

/// The matrix.
pub(super) struct MatrixView {
    pub(super) caption: String,
    pub(super) columns: Vec<(String, String)>,
    pub(super) rows: Vec<MatrixRow>,
    pub(super) notes: Vec<String>,
}

pub(super) struct MatrixRow {
    pub(super) name: String,
    pub(super) channel: String,
    pub(super) cells: Vec<Option<MatrixCell>>,
}

pub(super) struct MatrixCell {
    pub(super) id: String,
    pub(super) badge: Badge,
    /// "3.22×"; empty: there is none.
    pub(super) ratio: String,
    /// "[3.06, 3.50]".
    pub(super) interval: String,
    /// "210 µs → 677 µs".
    pub(super) times: String,
    /// What the numbers are of, and why.
    pub(super) of: String,
    pub(super) cause: String,
    pub(super) tip: String,
}

pub(super) fn matrix(prefix: &str, run: &RunReport) -> MatrixView {
    let quantile = heading_quantile(run);
    let cell = |i: usize| run.cells.get(i).map(|cell| matrix_cell(prefix, i, cell));
    let shown = || run.cells.iter().filter_map(|c| c.series.get(c.worst?));
    let mut notes = Vec::new();
    if shown().any(|s| s.judged == JudgedBy::Pooled) {
        notes.push("* by quantiles pooled over all blocks: too few requests in an arm for one of its own".to_owned());
    }
    if shown().filter_map(|s| s.ratio).any(|r| r.low.is_none() || r.high.is_none()) {
        notes.push("– in an interval: no bound on that side".to_owned());
    }
    notes.extend(skipped(run));
    MatrixView {
        caption: quantile.map_or_else(
            || "Verdicts".to_owned(),
            |q| format!("Worst {q} of each cell: latency beside a noisy neighbour ÷ latency beside a quiet one, with its interval"),
        ),
        columns: run.columns.iter().map(|c| (c.name.clone(), c.layout.clone())).collect(),
        rows: run
            .rows
            .iter()
            .map(|row| MatrixRow {
                name: row.neighbour.clone(),
                channel: match (row.placebo, row.channel) {
                    (true, _) => "placebo".to_owned(),
                    (false, channel) => channel.map_or_else(String::new, |channel| channel.to_string()),
                },
                cells: row.cells.iter().map(|i| i.and_then(cell)).collect(),
            })
            .collect(),
        notes,
    }
}

/// The quantile that most cells of the matrix show; of equally many, the highest.
fn heading_quantile(run: &RunReport) -> Option<Quantile> {
    let shown: Vec<Quantile> = run.cells.iter().filter_map(|c| Some(c.series.get(c.worst?)?.quantile)).collect();
    shown.iter().copied().max_by_key(|q| (shown.iter().filter(|other| *other == q).count(), *q))
}

fn matrix_cell(prefix: &str, at: usize, cell: &Cell) -> MatrixCell {
    let worst = cell.worst.and_then(|i| cell.series.get(i));
    let parts = worst.and_then(|s| s.ratio.as_ref()).map(ratio_parts);
    let pooled = if worst.is_some_and(|s| s.judged == JudgedBy::Pooled) { "*" } else { "" };
    let cause = match cell.verdict {
        VerdictWord::Isolated => String::new(),
        VerdictWord::Degraded | VerdictWord::Violated => {
            worst.and_then(|s| s.cause.as_ref()).map_or_else(String::new, |cause| cause.word.clone())
        }
        VerdictWord::Inconclusive => cell.why.first().map_or_else(String::new, |why| why.reason.clone()),
        // The reason is a sentence, and stands below the matrix.
        VerdictWord::Skipped => String::new(),
    };
    MatrixCell {
        id: format!("{prefix}cell-{}", at + 1),
        badge: Badge::of_verdict(cell.verdict),
        ratio: parts.as_ref().map_or_else(String::new, |[estimate, ..]| format!("{estimate}×")),
        interval: parts.map_or_else(String::new, |[_, low, high]| format!("[{low}, {high}]{pooled}")),
        times: worst.map_or_else(String::new, times),
        of: worst.map_or_else(String::new, Series::name),
        cause,
        tip: cell.summary.clone(),
    }
}

/// Why columns were skipped, those of one reason together.
fn skipped(run: &RunReport) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (at, column) in run.columns.iter().enumerate() {
        let cells = run.rows.iter().filter_map(|row| run.cells.get((*row.cells.get(at)?)?));
        for cell in cells.filter(|cell| cell.verdict == VerdictWord::Skipped) {
            let why = cell.why.first().map_or("", |why| why.text.as_str());
            match reasons.iter_mut().find(|(other, _)| *other == why) {
                Some((_, names)) if names.contains(&column.name.as_str()) => {}
                Some((_, names)) => names.push(&column.name),
                None => reasons.push((why, vec![&column.name])),
            }
        }
    }
    reasons.into_iter().map(|(why, names)| format!("skipped: {}: {why}", names.join(", "))).collect()
}

/// "38 µs → 65 µs".
fn times(s: &Series) -> String {
    let one = |ns: Option<f64>, requests: u64| match (ns, requests) {
        (Some(ns), _) => time(ns),
        (None, 0) => NONE.to_owned(),
        (None, _) => "the deadline".to_owned(),
    };
    format!("{} → {}", one(s.quiet_ns, s.quiet_requests), one(s.noisy_ns, s.noisy_requests))
}

/// Objectives: verdict, place and neighbour, what is asked, with numbers. Those that do not hold first.
pub(super) fn objectives(run: &RunReport) -> Vec<[String; 4]> {
    let mut all: Vec<_> = run.objectives.iter().collect();
    all.sort_by_key(|o| ["missed", "undecided", "met"].iter().position(|word| o.verdict == *word));
    let row = |o: &crate::report::Objective| {
        let side = o.neighbour.as_ref().map_or_else(|| "quiet".to_owned(), |n| format!("beside {n}"));
        [o.verdict.clone(), format!("{}, {side}", o.place), format!("{} {}", o.probe, o.objective), o.text.clone()]
    };
    all.into_iter().map(row).collect()
}

pub(super) fn controls(run: &RunReport) -> Vec<(Badge, String, String)> {
    let one = |c: &crate::report::ControlShown| {
        (control_badge(c.outcome), format!("{} in {}", c.control.words(), c.place), c.summary.clone())
    };
    run.controls.iter().map(one).collect()
}

pub(super) fn observed(run: &RunReport) -> Vec<(Badge, String, String)> {
    let one = |o: &crate::report::ObservedHere| {
        let badge = match o.requirement {
            RequirementState::NotRequired => Badge { class: "skipped", word: "observed" },
            state => Badge::of_requirement(state),
        };
        let finding = o.finding.clone().unwrap_or_else(|| format!("{NONE} (cannot be told)"));
        let required = o.required.as_ref().map_or_else(String::new, |required| format!("; required: {required}"));
        (badge, format!("{}, {}: {finding}", o.arrangement, o.id), format!("{}{required}", o.why))
    };
    run.observed.iter().map(one).collect()
}

pub(super) fn calibration(run: &RunReport) -> Vec<[String; 6]> {
    // The grids of a place that differ in their neighbours alone often have the same load: it is said once.
    let mut said: Vec<&Calibrated> = Vec::new();
    for c in &run.calibration {
        if !said.contains(&c) {
            said.push(c);
        }
    }
    let judged = |c: &Calibrated| {
        let one = |j: &crate::report::JudgedQuantile| match j.by {
            JudgedBy::Blocks => j.quantile.to_string(),
            JudgedBy::Pooled => format!("{} pooled", j.quantile),
            JudgedBy::TooFew => format!("{} not (too few requests)", j.quantile),
        };
        c.judged.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let row = |c: &Calibrated| {
        [
            c.place.clone(),
            c.probe.clone(),
            rate(c.rate),
            c.closed_rate.map_or_else(|| format!("{NONE} (given)"), rate),
            time(c.window.0 as f64),
            judged(c),
        ]
    };
    said.into_iter().map(row).collect()
}

pub(super) fn turns(run: &RunReport) -> Vec<(String, String)> {
    let one = |t: &crate::report::TurnsSeen| (t.place.clone(), crate::report::words::turns(t.seen.as_ref()));
    run.turns.iter().map(one).collect()
}

/// Hazards by what they are and where.
pub(super) struct HazardMatrix {
    pub(super) columns: Vec<String>,
    /// Name, and per column the index of the hazard.
    pub(super) rows: Vec<(String, Vec<Option<usize>>)>,
}

/// The matrix of hazards: a hazard's name is its column's, a slash and its row's.
pub(super) fn hazard_matrix(run: &RunReport) -> HazardMatrix {
    let split = |h: &'_ HazardHere| -> (String, String) {
        let at = h.name.strip_prefix(&h.arrangement).and_then(|rest| rest.find('/')).unwrap_or(0) + h.arrangement.len();
        let (place, rest) = h.name.split_at_checked(at).unwrap_or((&h.arrangement, &h.name));
        (place.to_owned(), rest.strip_prefix('/').unwrap_or(rest).to_owned())
    };
    let mut m = HazardMatrix { columns: Vec::new(), rows: Vec::new() };
    for (index, h) in run.hazards.iter().enumerate() {
        let (place, name) = split(h);
        let column = m.columns.iter().position(|c| *c == place).unwrap_or_else(|| {
            m.columns.push(place);
            m.columns.len() - 1
        });
        let row = m.rows.iter().position(|(r, _)| *r == name).unwrap_or_else(|| {
            m.rows.push((name, Vec::new()));
            m.rows.len() - 1
        });
        let cells = &mut m.rows[row].1;
        cells.resize(cells.len().max(column + 1), None);
        cells[column] = Some(index);
    }
    m.rows.iter_mut().for_each(|(_, cells)| cells.resize(m.columns.len(), None));
    m
}

/// One hazard.
pub(super) struct HazardView {
    pub(super) id: String,
    /// "186 of 514"; empty: nothing counts.
    pub(super) hits: String,
    pub(super) name: String,
    pub(super) badge: Badge,
    pub(super) text: String,
    /// Whether what was required holds, and what that is.
    pub(super) required: Option<(Badge, String)>,
    pub(super) memory: Option<MemoryView>,
    pub(super) blast: Vec<[String; 8]>,
}

/// Who could take how much memory.
pub(super) struct MemoryView {
    pub(super) rows: [[String; 6]; 2],
    pub(super) chart: Option<Figure>,
    /// When, who, what.
    pub(super) attempts: Vec<[String; 3]>,
    pub(super) more: usize,
    pub(super) notes: Vec<String>,
}

pub(super) fn hazards(prefix: &str, run: &RunReport) -> Result<Vec<HazardView>, ReportError> {
    let one = |(at, h): (usize, &HazardHere)| -> Result<HazardView, ReportError> {
        Ok(HazardView {
            id: format!("{prefix}hazard-{}", at + 1),
            hits: if h.of > 0 { format!("{} of {}", h.hits, h.of) } else { String::new() },
            name: h.name.clone(),
            badge: Badge::of_verdict(h.verdict),
            text: h.text.clone(),
            required: h.required.as_ref().map(|word| (Badge::of_requirement(h.requirement), word.clone())),
            memory: h.memory.as_ref().map(|m| memory(m, &h.name)).transpose()?,
            blast: h.blast.iter().map(Blast::row).collect(),
        })
    };
    run.hazards.iter().enumerate().map(one).collect()
}

fn memory(m: &MemoryHere, name: &str) -> Result<MemoryView, ReportError> {
    let known = |bytes: Option<u64>| bytes.map_or_else(|| NONE.to_owned(), people);
    let row = |who: &str, t: &Took| {
        let promised = t.promised.map_or_else(|| "nothing".to_owned(), people);
        [who.to_owned(), promised, known(t.alone), known(t.alone_in_one), known(t.beside), known(t.beside_in_one)]
    };
    let (mut attempts, mut of_each) = (Vec::new(), std::collections::BTreeMap::new());
    for event in &m.out_of_memory {
        let seen: &mut usize = of_each.entry(event.who.as_str()).or_default();
        *seen += 1;
        if *seen <= ATTEMPTS {
            attempts.push([time(event.at_ns as f64), event.who.clone(), attempt(event)]);
        }
    }
    let mut notes = Vec::new();
    if m.fragmented > 0 {
        let refused = count(m.fragmented, "allocation");
        notes.push(format!("Refused although enough was free, but not in one piece: {refused}."));
    }
    notes.extend(m.disagreements.iter().map(|text| format!("Disagreement: {text}.")));
    Ok(MemoryView {
        rows: [row("victim could take", &m.victim), row("neighbour could take", &m.neighbour)],
        chart: figures::memory(m, name)?,
        more: m.out_of_memory.len() - attempts.len(),
        attempts,
        notes,
    })
}
