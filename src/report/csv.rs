//! A report as comma-separated values: one row per cell, series and quantile, with every number of the model.
//!
//! RFC 4180: lines end with CR LF, fields with commas, quotes or line ends are quoted, a quote is doubled. An absent value is
//! an empty field. Units stand in the names of the columns; ratios and shares have none.

use super::ReportError;
use super::escape::exact;
use super::model::{Cell, Column, Expected, Ratio, Report, Row, RunReport, Series};
use super::words::{judged_id, provenance_id, requirement_id, tier};

/// The columns. Where the numbers come from stands first in every row.
const COLUMNS: &[&str] = &[
    "provenance",
    "scenario",
    "gpu",
    "gpu_uuid",
    "driver",
    "tier",
    "seed",
    "run_finished",
    "run_requirement",
    "cell",
    "arrangement",
    "seat",
    "layout",
    "neighbour",
    "neighbour_channel",
    "cell_verdict",
    "cell_requirement",
    "cell_expected",
    "neighbour_rate_share",
    "decided_after_blocks",
    "series",
    "channel",
    "quantile",
    "probability",
    "judged",
    "verdict",
    "reason",
    "reason_text",
    "advice",
    "ratio",
    "ratio_low",
    "ratio_high",
    "paired_ratio",
    "paired_ratio_low",
    "paired_ratio_high",
    "pooled_ratio",
    "pooled_ratio_low",
    "pooled_ratio_high",
    "quiet_ns",
    "noisy_ns",
    "change_ns",
    "quiet_requests",
    "noisy_requests",
    "blocks",
    "cause",
    "cause_text",
    "cause_channel",
    "saturated_growth_per_second",
    "saturated_served_per_second",
    "saturated_planned_per_second",
    "saturated_service_ns",
    "required",
    "expected",
];

/// The report as CSV.
pub(super) fn render(report: &Report) -> Result<String, ReportError> {
    let failed = |e: csv::Error| ReportError::Csv(e.to_string());
    let mut out = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    out.write_record(COLUMNS).map_err(failed)?;
    for run in &report.runs {
        for (at, cell) in run.cells.iter().enumerate() {
            let head = [of_run(run), of_cell(run, at, cell)].concat();
            if cell.series.is_empty() {
                let why = cell.why.first();
                let mut fields = vec![String::new(); COLUMNS.len() - head.len()];
                for (at, text) in
                    [(5, Some(cell.verdict.id())), (6, why.map(|w| &*w.reason)), (7, why.map(|w| &*w.text))]
                {
                    fields[at] = text.map(name).unwrap_or_default();
                }
                out.write_record(head.iter().chain(&fields)).map_err(failed)?;
            }
            for series in &cell.series {
                out.write_record(head.iter().chain(&of_series(series))).map_err(failed)?;
            }
        }
    }
    let bytes = out.into_inner().map_err(|e| ReportError::Csv(e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| ReportError::Csv(e.to_string()))
}

/// Text that is not crosstalk's own, safe to be opened in a spreadsheet: one that begins as a formula would (`= + - @`, a
/// tab or a carriage return) is led by an apostrophe; so is one that begins with an apostrophe, so that a reader takes one
/// away from every field that has one. The rest is [`exact`].
fn name(text: &str) -> String {
    let safe = exact(text);
    // The wide forms of the four characters count as well where a spreadsheet folds them.
    let formula = |c: char| matches!(c, '=' | '+' | '-' | '@' | '\'' | '＝' | '＋' | '－' | '＠' | '\t' | '\r');
    if safe.starts_with(formula) { format!("'{safe}") } else { safe }
}

fn number<T: ToString>(value: Option<T>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

fn text(value: Option<&str>) -> String {
    value.map(name).unwrap_or_default()
}

fn of_run(run: &RunReport) -> Vec<String> {
    let h = &run.header;
    vec![
        provenance_id(h.provenance).to_owned(),
        name(&h.scenario),
        name(&h.gpu),
        name(&h.uuid),
        text(h.driver.as_deref()),
        tier(h.tier).to_owned(),
        h.seed.to_string(),
        h.progress.finished.to_string(),
        requirement_id(run.requirements.state).to_owned(),
    ]
}

fn of_cell(run: &RunReport, at: usize, cell: &Cell) -> Vec<String> {
    let (row, column) = run.place_of(at).unzip();
    let column = |of: fn(&Column) -> &String| column.map(of).map(|t| name(t)).unwrap_or_default();
    let expected = match cell.expected {
        Expected::Yes => "yes",
        Expected::No => "no",
        Expected::Undecided => "undecided",
        Expected::Unstated => "unstated",
    };
    vec![
        name(&cell.name),
        column(|c| &c.arrangement),
        column(|c| &c.seat),
        column(|c| &c.layout),
        row.map(|r: &Row| name(&r.neighbour)).unwrap_or_default(),
        number(row.and_then(|r| r.channel)),
        cell.verdict.id().to_owned(),
        requirement_id(cell.requirement).to_owned(),
        expected.to_owned(),
        number(cell.neighbour_rate),
        number(cell.decided_after),
    ]
}

fn of_series(s: &Series) -> Vec<String> {
    let mut fields = vec![
        name(&s.series),
        s.channel.to_string(),
        s.quantile.to_string(),
        s.quantile.as_f64().to_string(),
        judged_id(s.judged).to_owned(),
        s.verdict.id().to_owned(),
        text(s.why.as_ref().map(|w| w.reason.as_str())),
        text(s.why.as_ref().map(|w| w.text.as_str())),
        text(s.why.as_ref().and_then(|w| w.advice.as_deref())),
    ];
    for ratio in [s.ratio, s.paired, s.pooled] {
        let of = |part: fn(&Ratio) -> Option<f64>| number(ratio.as_ref().and_then(part));
        fields.extend([of(|r| r.estimate), of(|r| r.low), of(|r| r.high)]);
    }
    let saturated = s.saturated;
    fields.extend([
        number(s.quiet_ns),
        number(s.noisy_ns),
        number(s.change_ns),
        s.quiet_requests.to_string(),
        s.noisy_requests.to_string(),
        s.blocks.to_string(),
        text(s.cause.as_ref().map(|c| c.word.as_str())),
        text(s.cause.as_ref().map(|c| c.text.as_str())),
        number(s.cause.as_ref().and_then(|c| c.channel)),
        number(saturated.map(|s| s.growth)),
        number(saturated.map(|s| s.served)),
        number(saturated.map(|s| s.planned)),
        number(saturated.and_then(|s| s.service_ns)),
        text(s.required.map(|w| w.id())),
        text(s.expected.map(|w| w.id())),
    ]);
    fields
}
