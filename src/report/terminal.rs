//! A report as text for a terminal. What colour says, words say too.

use std::collections::BTreeMap;

use crate::provenance::Provenance;
use crate::run_dir::JudgedBy;
use crate::scenario::Quantile;
use crate::verdict::{ControlOutcome, RequirementState};

use super::format::{NONE, count, percent, rate, ratio_parts, time};
use super::model::{
    AcceptState, Calibrated, Cell, Column, ControlShown, Expected, JudgedQuantile, Objective, Report, Row, RunReport,
    TurnsSeen, VerdictWord,
};
use super::text::{Line, Page, Tint};
use super::{Options, density, hazards, observed, words};

/// Fewer columns than this cannot hold a cell of the matrix beside its row's name.
const LEAST_WIDTH: usize = 60;

/// Marks what is judged by pooled quantiles alone.
const POOLED: &str = "*";

/// Share of its solo rate from which a neighbour counts as running at full rate (verdict.md, fair arms, 5).
pub(super) const FULL_RATE: f64 = 0.9;

/// The report as text.
pub(super) fn render(report: &Report, options: &Options) -> String {
    let mut page = Page::new(options.width.max(LEAST_WIDTH), options.style);
    if let Some(banner) = &report.banner {
        page.paragraph(Line::of(Tint::Warn, banner), 0, 2);
    }
    for (at, run) in report.runs.iter().enumerate() {
        if at > 0 {
            page.gap();
        }
        // The first line of the report has said it for a single run.
        if let (Some(banner), true) = (&run.header.banner, report.runs.len() > 1) {
            page.paragraph(Line::of(Tint::Warn, banner), 0, 2);
        }
        run_report(&mut page, run);
    }
    page.finish()
}

fn run_report(page: &mut Page, run: &RunReport) {
    header(page, run);
    accepted(page, run);
    matrix(page, run);
    density::section(page, run);
    requirements(page, run);
    not_isolated(page, run);
    undecided(page, run);
    noted(page, run);
    looks(page, run);
    objectives(page, run);
    controls(page, run);
    surprises(page, run);
    warnings(page, run);
    calibration(page, run);
    turns(page, run);
    hazards::section(page, run);
    observed::section(page, run);
    scope(page, run);
}

fn header(page: &mut Page, run: &RunReport) {
    let h = &run.header;
    let mut first = Line::of(Tint::Strong, &h.created_by).with(Tint::Plain, " · ").with(Tint::Plain, &h.device);
    if !h.device.contains(&h.gpu) {
        first.push(Tint::Plain, " · ");
        first.push(Tint::Plain, &h.gpu);
    }
    match (&h.driver, h.provenance) {
        (Some(driver), _) => first.push(Tint::Plain, &format!(" · driver {driver}")),
        // The simulator has no driver to name.
        (None, Provenance::Simulated) => {}
        (None, Provenance::Measured | Provenance::StandIn) => {
            first.push(Tint::Plain, &format!(" · driver {NONE} (not readable)"))
        }
    }
    page.paragraph(first, 0, 2);
    let mut parts = Vec::new();
    if h.probes > 0 {
        parts.extend(words::size(run));
        parts.push(format!("{}, {}", words::tier(h.tier), count(h.blocks.into(), "block")));
    }
    parts.extend(hazards::how_many(h.arrangements as usize, h.hazards as usize));
    let counts = format!(" · {} · seed {}", parts.join(" · "), h.seed);
    page.paragraph(Line::of(Tint::Strong, &h.scenario).with(Tint::Plain, &counts), 0, 2);
    if let Some(description) = &h.description {
        page.paragraph(Line::of(Tint::Faint, description), 0, 2);
    }
    if !h.progress.finished {
        let text = format!(
            ": {} were recorded. What follows judges those, and is not the answer to the scenario.",
            words::recorded(&h.progress)
        );
        page.paragraph(Line::of(Tint::Bad, "INTERRUPTED").with(Tint::Plain, &text), 0, 2);
    }
    if run.requirements.items.is_empty() {
        page.paragraph(Line::of(Tint::Warn, &run.requirements.summary), 0, 2);
    }
}

fn accepted(page: &mut Page, run: &RunReport) {
    if run.accepted.is_empty() {
        return;
    }
    page.heading("Accepted risks");
    for risk in &run.accepted {
        let mut line = Line::of(Tint::Strong, &risk.cell);
        if let Some(channel) = &risk.channel {
            line.push(Tint::Plain, &format!(", {channel} only"));
        }
        line.push(Tint::Plain, &format!(": {} (by {}, until {})", risk.reason, risk.by, risk.until));
        match risk.state {
            AcceptState::InForce => {}
            AcceptState::NotNeeded => line.push(Tint::Faint, "; not needed: what is required of this cell holds"),
            AcceptState::Expired => line.push(Tint::Bad, "; EXPIRED: it does not count"),
            AcceptState::NoSuchCell => line.push(Tint::Warn, "; this run has no such cell"),
        }
        page.paragraph(line, 2, 4);
    }
}

/// The matrix; columns that do not fit beside one another follow below.
fn matrix(page: &mut Page, run: &RunReport) {
    if run.rows.is_empty() {
        return;
    }
    let quantile = heading_quantile(run);
    let heading = quantile.map_or_else(|| "Verdicts".to_owned(), |q| format!("Worst {q}, noisy ÷ quiet [low high]"));
    let mut labels = vec![Line::default(), Line::default()];
    labels.extend(run.rows.iter().map(row_label));
    let label_width = labels.iter().map(Line::width).max().unwrap_or(0).min((page.width / 3).max(20));
    let columns: Vec<Vec<Line>> = (0..run.columns.len()).map(|c| column(run, c, quantile)).collect();
    let room = page.width.saturating_sub(label_width + 2);
    let widths: Vec<usize> =
        columns.iter().map(|lines| lines.iter().map(Line::width).max().unwrap_or(0).min(room)).collect();
    page.heading(&heading);
    let mut from = 0;
    while from < columns.len() {
        let mut to = from + 1;
        let mut used = widths[from];
        while to < columns.len() && used + 2 + widths[to] <= room {
            used += 2 + widths[to];
            to += 1;
        }
        if from > 0 {
            page.gap();
        }
        for (at, label) in labels.iter().enumerate() {
            let mut line = label.clone().cut(label_width);
            line.pad(label_width);
            for (column, width) in columns[from..to].iter().zip(&widths[from..to]) {
                line.push(Tint::Plain, "  ");
                let mut text = column[at].clone().cut(*width);
                text.pad(*width);
                line.append(text);
            }
            page.line(&line);
        }
        from = to;
    }
    let shown = || run.cells.iter().filter_map(|c| c.series.get(c.worst?));
    if shown().any(|s| s.judged == JudgedBy::Pooled) {
        let text =
            format!("{POOLED} by quantiles pooled over all blocks: too few requests in an arm for one of its own");
        page.paragraph(Line::of(Tint::Faint, &text), 0, 2);
    }
    let worst = shown().filter_map(|s| s.ratio);
    if worst.into_iter().any(|r| r.low.is_none() || r.high.is_none()) {
        page.paragraph(Line::of(Tint::Faint, &format!("{NONE} in an interval: no bound on that side")), 0, 2);
    }
}

/// The quantile that most cells of the matrix show; of equally many, the highest.
fn heading_quantile(run: &RunReport) -> Option<Quantile> {
    let shown: Vec<Quantile> = run.cells.iter().filter_map(|c| Some(c.series.get(c.worst?)?.quantile)).collect();
    shown.iter().copied().max_by_key(|q| (shown.iter().filter(|other| *other == q).count(), *q))
}

fn row_label(row: &Row) -> Line {
    let line = Line::of(Tint::Strong, &row.neighbour);
    match (row.placebo, row.channel) {
        (true, _) => line.with(Tint::Faint, " (placebo)"),
        (false, Some(channel)) => line.with(Tint::Faint, &format!(" · {channel}")),
        (false, None) => line,
    }
}

/// One column: its name, its layout, and a text per row with the parts of all rows aligned.
fn column(run: &RunReport, c: usize, quantile: Option<Quantile>) -> Vec<Line> {
    let Column { name, layout, .. } = &run.columns[c];
    let cells: Vec<Option<CellText>> = run
        .rows
        .iter()
        .map(|row| row.cells[c].and_then(|i| run.cells.get(i)).map(|cell| CellText::of(cell, quantile)))
        .collect();
    let widest = |part: fn(&CellText) -> usize| cells.iter().flatten().map(part).max().unwrap_or(0);
    let widths = [
        widest(|t| t.verdict.width()),
        widest(|t| t.ratio[0].chars().count()),
        widest(|t| t.ratio[1].chars().count()),
        widest(|t| t.ratio[2].chars().count()),
    ];
    let body = |cell: &Option<CellText>| {
        cell.as_ref().map_or_else(|| Line::of(Tint::Faint, &format!("{NONE} (not run)")), |text| text.line(&widths))
    };
    let mut lines: Vec<Line> = vec![Line::default(), Line::default()];
    lines.extend(cells.iter().map(body));
    // A name may take more room than the cells below it, a little.
    let room = lines.iter().map(Line::width).max().unwrap_or(0).max(24);
    lines[0] = Line::of(Tint::Strong, name).cut(room);
    lines[1] = Line::of(Tint::Faint, layout).cut(room);
    lines
}

/// The parts of one cell of the matrix.
struct CellText {
    verdict: Line,
    /// Estimate, lower bound, upper bound; empty where there is no ratio.
    ratio: [String; 3],
    /// Judged by pooled quantiles alone: marked behind the interval.
    pooled: bool,
    /// The quantile, where it is not the heading's; why, in a word.
    tail: String,
}

impl CellText {
    fn of(cell: &Cell, heading: Option<Quantile>) -> Self {
        let worst = cell.worst.and_then(|i| cell.series.get(i));
        let ratio = worst.and_then(|s| s.ratio.as_ref()).map(ratio_parts);
        let mut tail: Vec<String> = Vec::new();
        if let Some(s) = worst.filter(|s| Some(s.quantile) != heading) {
            tail.push(s.quantile.to_string());
        }
        match cell.verdict {
            VerdictWord::Isolated => {}
            VerdictWord::Degraded | VerdictWord::Violated => {
                tail.extend(worst.and_then(|s| s.cause.as_ref()).map(|cause| cause.word.clone()));
            }
            VerdictWord::Inconclusive => tail.extend(cell.why.first().map(|why| why.reason.clone())),
            // The reason is a sentence, and stands below.
            VerdictWord::Skipped => {}
        }
        Self {
            verdict: verdict_word(cell.verdict),
            ratio: ratio.unwrap_or_else(|| [NONE.to_owned(), String::new(), String::new()]),
            pooled: worst.is_some_and(|s| s.judged == JudgedBy::Pooled),
            tail: tail.join(" "),
        }
    }

    fn line(&self, widths: &[usize; 4]) -> Line {
        let mut line = self.verdict.clone();
        line.pad(widths[0]);
        let [estimate, low, high] = &self.ratio;
        let [_, e, l, h] = widths;
        line.push(Tint::Plain, &format!("  {estimate:>e$}"));
        if *l > 0 {
            let bounds = if low.is_empty() { " ".repeat(l + h + 3) } else { format!("[{low:>l$} {high:>h$}]") };
            line.push(Tint::Plain, &format!(" {bounds}"));
        }
        if self.pooled {
            line.push(Tint::Plain, POOLED);
        }
        if !self.tail.is_empty() {
            line.push(Tint::Plain, " ");
            line.push(Tint::Plain, &self.tail);
        }
        line
    }
}

/// The word of a verdict; the one that nobody may overlook in capitals.
pub(crate) fn verdict_word(verdict: VerdictWord) -> Line {
    match verdict {
        VerdictWord::Isolated => Line::of(Tint::Good, "isolated"),
        VerdictWord::Degraded => Line::of(Tint::Warn, "degraded"),
        VerdictWord::Violated => Line::of(Tint::Bad, "VIOLATED"),
        VerdictWord::Inconclusive => Line::of(Tint::Open, "inconclusive"),
        VerdictWord::Skipped => Line::of(Tint::Faint, "skipped"),
    }
}

fn requirements(page: &mut Page, run: &RunReport) {
    let r = &run.requirements;
    // Said at the top.
    if r.items.is_empty() {
        return;
    }
    page.gap();
    let tint = match r.state {
        RequirementState::Met | RequirementState::NotRequired => Tint::Good,
        RequirementState::Accepted => Tint::Warn,
        RequirementState::Undecided => Tint::Open,
        RequirementState::NotMet => Tint::Bad,
    };
    page.paragraph(Line::of(tint, &r.summary), 0, 2);
    for state in [RequirementState::NotMet, RequirementState::Undecided, RequirementState::Accepted] {
        let word = match state {
            RequirementState::NotMet => Line::of(Tint::Bad, "NOT MET"),
            RequirementState::Undecided => Line::of(Tint::Open, "undecided"),
            _ => Line::of(Tint::Warn, "accepted"),
        };
        for item in r.items.iter().filter(|i| i.state == state) {
            let line = word.clone().with(Tint::Plain, ": ").with(Tint::Strong, &item.cell);
            page.paragraph(line.with(Tint::Plain, &format!(" {}", item.text)), 2, 4);
        }
    }
}

fn not_isolated(page: &mut Page, run: &RunReport) {
    let cells: Vec<&Cell> = run.not_isolated().collect();
    if cells.is_empty() {
        return;
    }
    let are = if cells.len() == 1 { "is" } else { "are" };
    page.heading(&format!("{} of {} {are} not isolated", cells.len(), count(run.cells.len() as u64, "cell")));
    for cell in cells {
        let mut line = Line::of(Tint::Strong, &cell.name).with(Tint::Plain, " ");
        match cell.expected {
            Expected::Yes => line.push(Tint::Plain, "(expected)"),
            Expected::No => line.push(Tint::Bad, "(a SURPRISE)"),
            Expected::Undecided => line.push(Tint::Plain, "(undecided)"),
            Expected::Unstated => line.push(Tint::Plain, "(nothing was expected)"),
        }
        line.push(Tint::Plain, ": ");
        line.push(Tint::Plain, &cell.summary);
        line.push(Tint::Plain, &notes(cell));
        // A neighbour at its full rate needs no word.
        if let Some(share) = cell.neighbour_rate.filter(|share| *share < FULL_RATE) {
            line.push(Tint::Plain, &format!("; the neighbour at {} of its solo rate", percent(share)));
        }
        page.paragraph(line, 2, 4);
    }
}

/// Reasons that did not decide and must be known.
fn notes(cell: &Cell) -> String {
    let texts: Vec<&str> = cell.notes.iter().map(|w| w.text.as_str()).collect();
    if texts.is_empty() { String::new() } else { format!("; note: {}", texts.join("; ")) }
}

/// Cells that are not decided, those of one verdict and one line together.
fn undecided(page: &mut Page, run: &RunReport) {
    let mut groups: Vec<(VerdictWord, String, Vec<&str>)> = Vec::new();
    for cell in run.undecided() {
        let text = format!("{}{}", cell.summary, notes(cell));
        match groups.iter_mut().find(|(verdict, other, _)| *verdict == cell.verdict && *other == text) {
            Some((_, _, names)) => names.push(&cell.name),
            None => groups.push((cell.verdict, text, vec![&cell.name])),
        }
    }
    if groups.is_empty() {
        return;
    }
    let n = run.undecided().count();
    let are = if n == 1 { "is" } else { "are" };
    page.heading(&format!("{n} of {} {are} not decided", count(run.cells.len() as u64, "cell")));
    for (verdict, text, names) in groups {
        let line = verdict_word(verdict).with(Tint::Plain, ": ").with(Tint::Strong, &names.join(", "));
        page.paragraph(line.with(Tint::Plain, &format!(": {text}")), 2, 4);
    }
}

/// Isolated cells of which something else must be known.
fn noted(page: &mut Page, run: &RunReport) {
    let mut cells = run.cells.iter().filter(|c| c.verdict == VerdictWord::Isolated && !c.notes.is_empty()).peekable();
    if cells.peek().is_some() {
        page.heading("Isolated, with a note");
    }
    for cell in cells {
        let texts: Vec<&str> = cell.notes.iter().map(|w| w.text.as_str()).collect();
        page.paragraph(Line::of(Tint::Strong, &cell.name).with(Tint::Plain, &format!(": {}", texts.join("; "))), 2, 4);
    }
}

fn surprises(page: &mut Page, run: &RunReport) {
    if run.surprises.is_empty() {
        return;
    }
    page.heading("Not as expected");
    for surprise in &run.surprises {
        page.paragraph(Line::of(Tint::Strong, &surprise.cell).with(Tint::Plain, &format!(": {}", surprise.text)), 2, 4);
    }
}

/// Cells that were decided before the last look, by the blocks that it took.
fn looks(page: &mut Page, run: &RunReport) {
    let mut early: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for cell in &run.cells {
        if let Some(blocks) = cell.decided_after {
            early.entry(blocks).or_default().push(&cell.name);
        }
    }
    if early.is_empty() {
        return;
    }
    page.heading("Decided before the last look");
    for (blocks, names) in early {
        let line = Line::of(Tint::Plain, &format!("after {blocks} of {}: ", count(run.header.blocks.into(), "block")));
        page.paragraph(line.with(Tint::Strong, &names.join(", ")), 2, 4);
    }
}

/// Objectives: those that hold together, the others line by line.
fn objectives(page: &mut Page, run: &RunReport) {
    if run.objectives.is_empty() {
        return;
    }
    page.heading("Objectives");
    let side = |o: &Objective| o.neighbour.as_ref().map_or_else(|| "quiet".to_owned(), |n| format!("beside {n}"));
    for o in run.objectives.iter().filter(|o| o.verdict != "met") {
        let tint = if o.verdict == "missed" { Tint::Bad } else { Tint::Open };
        let word = if o.verdict == "missed" { "MISSED" } else { &o.verdict };
        let line = Line::of(tint, word).with(Tint::Plain, ": ").with(Tint::Strong, &o.place);
        let text = format!(", {}: {} {}: {}", side(o), o.probe, o.objective, o.text);
        page.paragraph(line.with(Tint::Plain, &text), 2, 4);
    }
    let mut met: Vec<(&Objective, Vec<&Objective>)> = Vec::new();
    for o in run.objectives.iter().filter(|o| o.verdict == "met") {
        let same = |a: &Objective| (&a.place, &a.probe, &a.objective) == (&o.place, &o.probe, &o.objective);
        match met.iter_mut().find(|(first, _)| same(first)) {
            Some((_, all)) => all.push(o),
            None => met.push((o, vec![o])),
        }
    }
    for (first, all) in met {
        let high = |o: &&Objective| o.over.and_then(|over| over.high).unwrap_or(0.0);
        let Some(worst) = all.iter().copied().max_by(|a, b| high(a).total_cmp(&high(b))) else { continue };
        let sides: Vec<String> = all.iter().map(|o| side(o)).collect();
        let of = if all.len() > 1 { format!("; the most {}", side(worst)) } else { String::new() };
        let line = Line::of(Tint::Good, "met").with(Tint::Plain, ": ").with(Tint::Strong, &first.place);
        let text = format!(", {}: {} {}{of}: {}", sides.join(", "), first.probe, first.objective, worst.text);
        page.paragraph(line.with(Tint::Plain, &text), 2, 4);
    }
}

/// One line for each control of a place; those that say the same together.
fn controls(page: &mut Page, run: &RunReport) {
    if run.controls.is_empty() {
        return;
    }
    page.heading("Controls");
    let mut groups: Vec<(&ControlShown, Vec<&str>)> = Vec::new();
    for control in &run.controls {
        let same = |c: &ControlShown| {
            (c.control, c.outcome, &c.summary) == (control.control, control.outcome, &control.summary)
        };
        match groups.iter_mut().find(|(first, _)| same(first)) {
            Some((_, places)) => places.push(&control.place),
            None => groups.push((control, vec![&control.place])),
        }
    }
    for (control, places) in groups {
        let word = match control.outcome {
            ControlOutcome::Passed => Line::of(Tint::Good, "passed"),
            ControlOutcome::Undecided => Line::of(Tint::Open, "undecided"),
            ControlOutcome::Impossible => Line::of(Tint::Warn, "not possible"),
            ControlOutcome::NotMeasured => Line::of(Tint::Open, "not measured"),
            ControlOutcome::Failed => Line::of(Tint::Bad, "FAILED"),
        };
        let name = Line::of(Tint::Strong, control.control.words()).with(Tint::Plain, " ");
        let mut line = name;
        line.append(word);
        let text = format!(" in {}: {}", places.join(", "), control.summary);
        page.paragraph(line.with(Tint::Plain, &text), 2, 4);
    }
}

fn warnings(page: &mut Page, run: &RunReport) {
    if run.warnings.is_empty() {
        return;
    }
    page.heading("Warnings");
    for warning in &run.warnings {
        let line = Line::of(Tint::Warn, &warning.what).with(Tint::Plain, &format!(" → {}", warning.advice));
        page.paragraph(line, 2, 4);
    }
}

fn calibration(page: &mut Page, run: &RunReport) {
    if run.calibration.is_empty() {
        return;
    }
    page.heading("Load of the probes, fixed before the first block");
    let faint = |text: &str| Line::of(Tint::Faint, text);
    let mut rows = vec![vec![
        faint("place"),
        faint("probe"),
        faint("rate"),
        faint("closed loop"),
        faint("window"),
        faint("judged"),
    ]];
    let mut place = "";
    // The grids of a place that differ in their neighbours alone often have the same load: it is said once.
    let mut said: Vec<&Calibrated> = Vec::new();
    for c in &run.calibration {
        if said.contains(&c) {
            continue;
        }
        said.push(c);
        let plain = |text: &str| Line::of(Tint::Plain, text);
        rows.push(vec![
            plain(if c.place == place { "" } else { &c.place }),
            plain(&c.probe),
            plain(&rate(c.rate)),
            plain(&c.closed_rate.map_or_else(|| format!("{NONE} (given)"), rate)),
            plain(&time(c.window.0 as f64)),
            plain(&judged(c)),
        ]);
        place = &c.place;
    }
    page.table(2, 2, &rows);
}

fn turns(page: &mut Page, run: &RunReport) {
    if run.turns.is_empty() {
        return;
    }
    page.heading("Turns, by the device's own stamps");
    for TurnsSeen { place, seen } in &run.turns {
        let text = format!(": {}", words::turns(seen.as_ref()));
        page.paragraph(Line::of(Tint::Plain, place).with(Tint::Faint, &text), 2, 4);
    }
}

/// "p50, p99 pooled, p99.9 not (too few requests)".
fn judged(c: &Calibrated) -> String {
    let one = |j: &JudgedQuantile| match j.by {
        JudgedBy::Blocks => j.quantile.to_string(),
        JudgedBy::Pooled => format!("{} pooled", j.quantile),
        JudgedBy::TooFew => format!("{} not (too few requests)", j.quantile),
    };
    c.judged.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn scope(page: &mut Page, run: &RunReport) {
    page.gap();
    let assumed = match run.scope.assumed.as_slice() {
        [] => String::new(),
        assumed => format!(" Without proof: {}.", assumed.join("; ")),
    };
    let text = format!("{}{assumed} Not tested: {}.", run.scope.text, run.scope.not_tested.join(", "));
    page.paragraph(Line::of(Tint::Plain, &text), 0, 2);
}
