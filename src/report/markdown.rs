//! A report as Markdown, for a pull request or a job's summary: GitHub's flavour, the essential part first.

use super::density;
use super::escape::shortened;
use super::format::{NONE, count, percent, rate, ratio_interval, time};
use super::hazards::{Blast, HazardHere, NEVER};
use super::memory::Took;
use super::model::{
    AcceptState, AcceptedRisk, Cell, Expected, Header, Objective, Report, Row, RunReport, TurnsSeen, VerdictWord,
};
use super::text::escape;
use super::words;
use crate::run_dir::JudgedBy;
use crate::units::Bytes;
use crate::verdict::{ControlOutcome, RequirementState};

/// GitHub refuses a step's summary of more than 1 MiB
/// (<https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#adding-a-job-summary>); what a cut
/// says of itself must fit as well.
const LIMIT: usize = (1 << 20) - 1_024;

/// Characters of a name that are shown: a row of a table shall stay a row.
const NAME: usize = 120;

/// Characters of a sentence that are shown.
const SENTENCE: usize = 2_000;

/// The report as Markdown.
pub(super) fn render(report: &Report) -> String {
    let mut doc = Doc::default();
    if let Some(banner) = &report.banner {
        doc.block(&format!("> **{}**\n", prose(banner)));
    }
    for run in &report.runs {
        if let (Some(banner), true) = (&run.header.banner, report.runs.len() > 1) {
            doc.block(&format!("> **{}**\n", prose(banner)));
        }
        run_report(&mut doc, run);
    }
    doc.finish()
}

/// Blocks in the order of their weight, until the page is full.
#[derive(Default)]
pub(super) struct Doc {
    out: String,
    cut: bool,
}

impl Doc {
    /// A block by itself, whole or not at all.
    pub(super) fn block(&mut self, text: &str) {
        let gap = if self.out.is_empty() { "" } else { "\n" };
        self.put(&format!("{gap}{text}"));
    }

    fn put(&mut self, text: &str) {
        self.cut |= self.out.len() + text.len() > LIMIT;
        if !self.cut {
            self.out.push_str(text);
        }
    }

    /// A heading and a list; nothing without items.
    pub(super) fn list(&mut self, heading: &str, items: &[String]) {
        let Some((first, rest)) = items.split_first() else { return };
        self.block(&format!("### {heading}\n\n- {first}\n"));
        rest.iter().for_each(|item| self.put(&format!("- {item}\n")));
    }

    /// Head and rows, of which those follow that have room.
    pub(super) fn table(&mut self, heading: &str, head: &[String], rows: &[Vec<String>]) {
        let title = if heading.is_empty() { String::new() } else { format!("### {heading}\n\n") };
        self.block(&format!("{title}{}", table(head, &[])));
        rows.iter().for_each(|row| self.put(&line(row)));
    }

    /// What a reader opens who wants it, whole or not at all. The summary is HTML: words of our own.
    pub(super) fn details(&mut self, summary: &str, body: &str) {
        if !body.is_empty() {
            self.block(&format!("<details>\n<summary>{summary}</summary>\n\n{body}\n</details>\n"));
        }
    }

    fn finish(mut self) -> String {
        if self.cut {
            self.out.push_str("\n**Cut: more would not fit.** The report as text, HTML or JSON has the rest.\n");
        }
        self.out
    }
}

fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

pub(super) fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let rule = vec!["---".to_owned(); head.len()];
    [line(head), line(&rule)].into_iter().chain(rows.iter().map(|row| line(row))).collect()
}

pub(super) fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Words that hold names of others: shown, never obeyed. Where GitHub makes links of what is no Markdown (mentions, issues,
/// addresses), a space without width parts the characters.
pub(crate) fn prose(text: &str) -> String {
    let text = shortened(&escape(text), SENTENCE);
    let mut out = String::with_capacity(text.len() + 16);
    let mut before = ' ';
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '$' => out.push_str("&#36;"),
            '\\' | '`' | '*' | '_' | '~' | '|' | '[' | ']' => out.extend(['\\', c]),
            '@' | '#' => out.extend([c, '\u{0}']),
            '/' if before == ':' => out.extend(['\u{0}', c]),
            '.' if matches!(out.get(out.len().saturating_sub(3)..), Some(w) if w.eq_ignore_ascii_case("www")) => {
                out.extend(['\u{0}', c]);
            }
            c => out.push(c),
        }
        before = c;
    }
    // No control character comes out of `escape`.
    out.replace('\u{0}', "&#8203;")
}

/// A name by itself, as code: nothing in it is Markdown, a link or a mention.
pub(super) fn code(name: &str) -> String {
    let text = shortened(&escape(name), NAME);
    if text.is_empty() {
        return "(no name)".to_owned();
    }
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // One space at either end belongs to the fence where both are there (CommonMark 6.1).
    let pad = if text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']) { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// [`code`] in a table, where a bar ends the cell even in code: the backslash before it belongs to the table
/// (<https://github.github.com/gfm/#example-200>).
pub(super) fn cell_code(name: &str) -> String {
    code(name).replace('|', "\\|")
}

/// [`prose`] that begins a block, and is no list, heading, rule or indented code for all that.
fn opening(text: &str) -> String {
    let text = prose(text.trim_start());
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
    if text.starts_with(['-', '+', '=', ':', '!']) {
        format!("\\{text}")
    } else if digits > 0 && text[digits..].starts_with(['.', ')']) {
        format!("{}\\{}", &text[..digits], &text[digits..])
    } else {
        text
    }
}

fn run_report(doc: &mut Doc, run: &RunReport) {
    header(doc, run);
    matrix(doc, run);
    density::markdown(doc, run);
    requirements(doc, run);
    doc.list("Accepted risks", &run.accepted.iter().map(risk).collect::<Vec<_>>());
    not_isolated(doc, run);
    undecided(doc, run);
    doc.list(
        "Not as expected",
        &run.surprises.iter().map(|s| format!("{}: {}", code(&s.cell), prose(&s.text))).collect::<Vec<_>>(),
    );
    objectives(doc, run);
    hazards(doc, run);
    observed(doc, run);
    let warnings: Vec<String> =
        run.warnings.iter().map(|w| format!("{} → {}", opening(&w.what), prose(&w.advice))).collect();
    doc.list("Warnings", &warnings);
    scope(doc, run);
    controls(doc, run);
    details(doc, run);
}

fn header(doc: &mut Doc, run: &RunReport) {
    let h = &run.header;
    doc.block(&format!("## crosstalk: {}\n", code(&h.scenario)));
    if let Some(question) = &h.description {
        doc.block(&format!("{}\n", opening(question)));
    }
    if !h.progress.finished {
        doc.block(&format!(
            "**INTERRUPTED**: {} were recorded. What follows judges those, and is not the answer to the scenario.\n",
            words::recorded(&h.progress)
        ));
    }
    doc.block(&format!("**{}** {}\n", prose(&run.requirements.summary), tally(run)));
    doc.block(&format!("{}\n", taken(h)));
}

/// "Of 6 cells 2 are isolated, 1 is degraded."
fn tally(run: &RunReport) -> String {
    use VerdictWord::{Degraded, Inconclusive, Isolated, Skipped, Violated};
    if run.cells.is_empty() {
        return String::new();
    }
    let parts: Vec<String> = [Isolated, Degraded, Violated, Inconclusive, Skipped]
        .into_iter()
        .map(|verdict| (verdict, run.cells.iter().filter(|c| c.verdict == verdict).count()))
        .filter(|(_, n)| *n > 0)
        .map(|(verdict, n)| format!("{n} {}", verdict.id()))
        .collect();
    format!("Of {}: {}.", count(run.cells.len() as u64, "cell"), parts.join(", "))
}

/// What took the run, on what, and how much of it.
fn taken(h: &Header) -> String {
    let mut parts = vec![prose(&h.created_by), prose(&h.device)];
    if !h.device.contains(&h.gpu) {
        parts.push(prose(&h.gpu));
    }
    parts.extend(h.driver.as_ref().map(|driver| format!("driver {}", prose(driver))));
    parts.push(format!("{}, {}, seed {}", words::tier(h.tier), count(h.blocks.into(), "block"), h.seed));
    parts.join(" · ")
}

fn matrix(doc: &mut Doc, run: &RunReport) {
    if run.rows.is_empty() {
        return;
    }
    let mut head = strings(&["neighbour"]);
    head.extend(run.columns.iter().map(|c| match c.layout.as_str() {
        "" => cell_code(&c.name),
        layout => format!("{}<br>{}", cell_code(&c.name), prose(&shortened(layout, NAME))),
    }));
    let body = |row: &Row| {
        let mut cells = vec![row_label(row)];
        cells.extend(row.cells.iter().map(|at| match at.and_then(|i| run.cells.get(i)) {
            Some(cell) => verdict_cell(cell),
            None => format!("{NONE} (not run)"),
        }));
        cells
    };
    let rows: Vec<Vec<String>> = run.rows.iter().map(body).collect();
    doc.table("Noisy ÷ quiet, worst quantile [low high]", &head, &rows);
    let pooled = run.cells.iter().filter_map(|c| c.series.get(c.worst?)).any(|s| s.judged == JudgedBy::Pooled);
    if pooled {
        doc.block("pooled: too few requests in an arm for a quantile of its own, so it is one over all blocks.\n");
    }
}

fn row_label(row: &Row) -> String {
    let name = cell_code(&row.neighbour);
    match (row.placebo, row.channel) {
        (true, _) => format!("{name} (placebo)"),
        (false, Some(channel)) => format!("{name} · {channel}"),
        (false, None) => name,
    }
}

/// The verdict in words, its numbers, and why in a word.
fn verdict_cell(cell: &Cell) -> String {
    let mut text = verdict_word(cell.verdict).to_owned();
    let worst = cell.worst.and_then(|i| cell.series.get(i));
    if let Some((s, ratio)) = worst.and_then(|s| Some((s, s.ratio.as_ref()?))) {
        let pooled = if s.judged == JudgedBy::Pooled { " pooled" } else { "" };
        text.push_str(&format!("<br>{}{pooled} {}", s.quantile, prose(&ratio_interval(ratio))));
    }
    let why = match cell.verdict {
        VerdictWord::Isolated | VerdictWord::Skipped => None,
        VerdictWord::Degraded | VerdictWord::Violated => {
            worst.and_then(|s| s.cause.as_ref()).map(|cause| cause.word.as_str())
        }
        VerdictWord::Inconclusive => cell.why.first().map(|why| why.reason.as_str()),
    };
    if let Some(why) = why {
        text.push_str(&format!("<br>{}", prose(why)));
    }
    text
}

/// The one that nobody may overlook in capitals.
const fn verdict_word(verdict: VerdictWord) -> &'static str {
    match verdict {
        VerdictWord::Isolated => "isolated",
        VerdictWord::Degraded => "**degraded**",
        VerdictWord::Violated => "**VIOLATED**",
        VerdictWord::Inconclusive => "*inconclusive*",
        VerdictWord::Skipped => "skipped",
    }
}

const fn state_word(state: RequirementState) -> &'static str {
    match state {
        RequirementState::NotRequired => "not required",
        RequirementState::Met => "met",
        RequirementState::Accepted => "accepted",
        RequirementState::Undecided => "*undecided*",
        RequirementState::NotMet => "**NOT MET**",
    }
}

fn requirements(doc: &mut Doc, run: &RunReport) {
    let open = [RequirementState::NotMet, RequirementState::Undecided, RequirementState::Accepted];
    let items: Vec<String> = open
        .into_iter()
        .flat_map(|state| run.requirements.items.iter().filter(move |item| item.state == state))
        .map(|item| format!("{}: {} {}", state_word(item.state), code(&item.cell), prose(&item.text)))
        .collect();
    doc.list("Requirements not met, undecided or accepted", &items);
}

fn risk(risk: &AcceptedRisk) -> String {
    let channel = risk.channel.as_ref().map_or_else(String::new, |c| format!(", {} only", prose(c)));
    let state = match risk.state {
        AcceptState::InForce => "",
        AcceptState::NotNeeded => "; not needed: what is required of this cell holds",
        AcceptState::Expired => "; **EXPIRED**: it does not count",
        AcceptState::NoSuchCell => "; this run has no such cell",
    };
    let text = format!(
        "{}{channel}: {} (by {}, until {})",
        code(&risk.cell),
        prose(&risk.reason),
        prose(&risk.by),
        risk.until
    );
    format!("{text}{state}")
}

fn not_isolated(doc: &mut Doc, run: &RunReport) {
    let item = |cell: &Cell| {
        let expected = match cell.expected {
            Expected::Yes => "expected",
            Expected::No => "**a SURPRISE**",
            Expected::Undecided => "undecided",
            Expected::Unstated => "nothing was expected",
        };
        let rate = cell.neighbour_rate.filter(|share| *share < super::terminal::FULL_RATE);
        let rate =
            rate.map_or_else(String::new, |share| format!("; the neighbour at {} of its solo rate", percent(share)));
        format!("{} ({expected}): {}{}{rate}", code(&cell.name), prose(&cell.summary), notes(cell))
    };
    let items: Vec<String> = run.not_isolated().map(item).collect();
    doc.list(&format!("{} of {} not isolated", items.len(), count(run.cells.len() as u64, "cell")), &items);
}

/// Reasons that did not decide and must be known.
fn notes(cell: &Cell) -> String {
    let texts: Vec<String> = cell.notes.iter().map(|w| prose(&w.text)).collect();
    if texts.is_empty() { String::new() } else { format!("; note: {}", texts.join("; ")) }
}

/// Open cells, those of one line together.
fn undecided(doc: &mut Doc, run: &RunReport) {
    let mut groups: Vec<(VerdictWord, String, Vec<String>)> = Vec::new();
    for cell in run.undecided() {
        let text = format!("{}{}", prose(&cell.summary), notes(cell));
        match groups.iter_mut().find(|(verdict, other, _)| *verdict == cell.verdict && *other == text) {
            Some((_, _, names)) => names.push(code(&cell.name)),
            None => groups.push((cell.verdict, text, vec![code(&cell.name)])),
        }
    }
    let items: Vec<String> = groups
        .into_iter()
        .map(|(verdict, text, names)| format!("{}: {}: {text}", verdict_word(verdict), names.join(", ")))
        .collect();
    let n = run.undecided().count();
    doc.list(&format!("{n} of {} not decided", count(run.cells.len() as u64, "cell")), &items);
}

fn side(o: &Objective) -> String {
    o.neighbour.as_ref().map_or_else(|| "quiet".to_owned(), |n| format!("beside {}", cell_code(n)))
}

fn objectives(doc: &mut Doc, run: &RunReport) {
    if run.objectives.is_empty() {
        return;
    }
    let row = |o: &Objective| {
        let word = if o.verdict == "missed" { "**MISSED**" } else { o.verdict.as_str() };
        let place = cell_code(&o.place);
        vec![
            word.to_owned(),
            place,
            side(o),
            format!("{} {}", cell_code(&o.probe), prose(&o.objective)),
            prose(&o.text),
        ]
    };
    let (met, open): (Vec<&Objective>, Vec<&Objective>) = run.objectives.iter().partition(|o| o.verdict == "met");
    let head = strings(&["objective", "place", "neighbour", "what", "evidence"]);
    if !open.is_empty() {
        doc.table("Objectives missed or undecided", &head, &open.into_iter().map(row).collect::<Vec<_>>());
    }
    if !met.is_empty() {
        let n = count(met.len() as u64, "objective");
        doc.details(&format!("{n} met"), &table(&head, &met.into_iter().map(row).collect::<Vec<_>>()));
    }
}

fn hazards(doc: &mut Doc, run: &RunReport) {
    if run.hazards.is_empty() {
        return;
    }
    let head = strings(&["hazard", "verdict", "came true", "at most (99 %)", "required", "evidence"]);
    let row = |h: &HazardHere| {
        let required = h.required.as_ref().map_or_else(
            || "nothing".to_owned(),
            |required| format!("{}: {}", prose(required), state_word(h.requirement)),
        );
        let came = format!("{} of {} {}", h.hits, h.of, prose(&h.unit));
        let most = h.at_most.map_or_else(|| NONE.to_owned(), percent);
        vec![cell_code(&h.name), verdict_word(h.verdict).to_owned(), came, most, required, prose(&h.text)]
    };
    doc.table("Memory and faults", &head, &run.hazards.iter().map(row).collect::<Vec<_>>());
    for h in &run.hazards {
        memory(doc, h);
        faults(doc, h);
    }
}

fn memory(doc: &mut Doc, h: &HazardHere) {
    let Some(m) = &h.memory else { return };
    let head = strings(&["could take", "promised", "alone", "in one piece", "beside the other", "in one piece"]);
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| NONE.to_owned(), |b| Bytes(b).for_people());
    let row = |who: &str, t: &Took| {
        let promised = t.promised.map_or_else(|| "nothing".to_owned(), |b| Bytes(b).for_people());
        vec![who.to_owned(), promised, bytes(t.alone), bytes(t.alone_in_one), bytes(t.beside), bytes(t.beside_in_one)]
    };
    doc.table(
        &format!("Memory, {}", code(&h.name)),
        &head,
        &[row("victim", &m.victim), row("neighbour", &m.neighbour)],
    );
    let of = |who: &str| m.out_of_memory.iter().filter(|event| event.who == who).count() as u64;
    let mut lines = vec![format!(
        "- attempts that failed: {} of the victim's, {} of the neighbour's; refused although enough was free: {}\n",
        of("victim"),
        of("neighbour"),
        m.fragmented
    )];
    lines.extend(m.disagreements.iter().map(|text| format!("- disagreement: {}\n", prose(text))));
    doc.block(&lines.concat());
}

fn faults(doc: &mut Doc, h: &HazardHere) {
    if h.blast.is_empty() {
        return;
    }
    let head =
        ["fault", "reached others", "its own code", "victim's code", "longest gap", "recovered", "newcomer", "Xids"];
    let strong = |text: String| if text == NEVER { format!("**{text}**") } else { text };
    let row = |b: &Blast| b.row().into_iter().map(strong).collect();
    let rows: Vec<Vec<String>> = h.blast.iter().map(row).collect();
    doc.table(&format!("Blast radius of faults, {}", code(&h.name)), &strings(&head), &rows);
}

fn observed(doc: &mut Doc, run: &RunReport) {
    let item = |o: &super::observed::ObservedHere| {
        let found =
            o.finding.as_ref().map_or_else(|| format!("{NONE} (cannot be told)"), |f| format!("**{}**", prose(f)));
        let required = o.required.as_ref();
        let required =
            required.map_or_else(String::new, |r| format!("; required {}: {}", prose(r), state_word(o.requirement)));
        format!("{}, {}: {found}: {}{required}", code(&o.arrangement), prose(&o.id), prose(&o.why))
    };
    doc.list("Observed", &run.observed.iter().map(item).collect::<Vec<_>>());
}

fn scope(doc: &mut Doc, run: &RunReport) {
    let s = &run.scope;
    let assumed = match s.assumed.as_slice() {
        [] => String::new(),
        assumed => format!(" Without proof: {}.", prose(&assumed.join("; "))),
    };
    doc.block(&format!(
        "### Scope\n\n{}{assumed}\n\n**Not tested:** {}.\n",
        prose(&s.text),
        prose(&s.not_tested.join(", "))
    ));
}

fn controls(doc: &mut Doc, run: &RunReport) {
    let word = |outcome: ControlOutcome| match outcome {
        ControlOutcome::Passed => "passed",
        ControlOutcome::Undecided => "*undecided*",
        ControlOutcome::Impossible => "not possible",
        ControlOutcome::NotMeasured => "*not measured*",
        ControlOutcome::Failed => "**FAILED**",
    };
    let rows: Vec<Vec<String>> = run
        .controls
        .iter()
        .map(|c| vec![c.control.words().to_owned(), cell_code(&c.place), word(c.outcome).to_owned(), prose(&c.summary)])
        .collect();
    if rows.is_empty() {
        return;
    }
    let passed = run.controls.iter().filter(|c| c.outcome == ControlOutcome::Passed).count();
    let head = strings(&["control", "place", "outcome", "evidence"]);
    doc.details(&format!("Controls: {passed} of {} passed", rows.len()), &table(&head, &rows));
}

/// Every quantile of every cell, loads, and turns.
fn details(doc: &mut Doc, run: &RunReport) {
    let head = strings(&["cell", "series", "verdict", "noisy ÷ quiet", "quiet", "noisy", "requests", "why"]);
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (cell, s) in run.cells.iter().flat_map(|cell| cell.series.iter().map(move |s| (cell, s))) {
        let latency = |ns: Option<f64>| ns.map_or_else(|| NONE.to_owned(), time);
        let why = s.cause.as_ref().map(|c| c.text.as_str()).or(s.why.as_ref().map(|w| w.text.as_str())).unwrap_or("");
        rows.push(vec![
            cell_code(&cell.name),
            cell_code(&s.name()),
            verdict_word(s.verdict).to_owned(),
            s.ratio.as_ref().map_or_else(|| NONE.to_owned(), |r| prose(&ratio_interval(r))),
            latency(s.quiet_ns),
            latency(s.noisy_ns),
            format!("{} / {}", s.quiet_requests, s.noisy_requests),
            prose(why),
        ]);
    }
    if !rows.is_empty() {
        doc.details("Every quantile of every cell", &table(&head, &rows));
    }
    let rows: Vec<Vec<String>> = run
        .calibration
        .iter()
        .map(|c| vec![cell_code(&c.place), cell_code(&c.probe), rate(c.rate), time(c.window.0 as f64)])
        .collect();
    if !rows.is_empty() {
        let head = strings(&["place", "probe", "rate", "window"]);
        doc.details("Load of the probes, fixed before the first block", &table(&head, &rows));
    }
    let turn = |t: &TurnsSeen| match &t.seen {
        Some(seen) => vec![
            cell_code(&t.place),
            time(seen.quantum.0 as f64),
            time(seen.gap.0 as f64),
            seen.switch.map_or_else(|| NONE.to_owned(), |switch| time(switch.0 as f64)),
        ],
        None => vec![cell_code(&t.place), format!("{NONE} (not measured)"), NONE.to_owned(), NONE.to_owned()],
    };
    if !run.turns.is_empty() {
        let head = strings(&["place", "a turn", "then a wait of", "a switch costs"]);
        doc.details(
            "Turns, by the device's own stamps",
            &table(&head, &run.turns.iter().map(turn).collect::<Vec<_>>()),
        );
    }
}
