//! A report as comma-separated values: one row per cell, series and quantile, with every number of the model; and one per
//! figure of a density, of all its tenants together and of each.
//!
//! RFC 4180: lines end with CR LF, fields with commas, quotes or line ends are quoted, a quote is doubled. An absent value is
//! an empty field. Units stand in the names of the columns; ratios and shares have none.

use super::ReportError;
use super::density::{CurveHere, DensityHere, Overload, TenantHere};
use super::escape::exact;
use super::model::{Cell, Column, Expected, Ratio, Report, Row, RunReport, Series};
use super::words::{judged_id, provenance_id, requirement_id, tier};
use crate::scenario::Quantile;

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
    "curve",
    "tenants",
    "density_verdict",
    "density_reason",
    "density_saturated",
    "curve_tenants_met",
    "curve_tenants_missed",
    "curve_confidence",
    "curve_requirement",
    "metric",
    "value",
    "value_low",
    "value_high",
];

/// The last of them, which are of densities alone.
const OF_DENSITIES: usize = 13;

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
                let mut fields = of_series(series);
                fields.resize(COLUMNS.len() - head.len(), String::new());
                out.write_record(head.iter().chain(&fields)).map_err(failed)?;
            }
        }
        for (curve, density) in run.curves.iter().flat_map(|c| c.densities.iter().map(move |d| (c, d))) {
            for figure in figures(curve, density) {
                out.write_record(of_density(run, curve, density, &figure)).map_err(failed)?;
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

/// One figure of a density.
#[derive(Default)]
struct Figure<'a> {
    /// Whose; `None`: all tenants together.
    tenant: Option<&'a TenantHere>,
    quantile: Option<Quantile>,
    /// What is counted, with its unit; empty: there is nothing to count.
    metric: &'static str,
    value: Ratio,
    /// What came of an objective, and which.
    objective: Option<(&'a str, &'a str)>,
}

/// The figures of a density, those that are known; one without a number where none is.
fn figures<'a>(c: &'a CurveHere, d: &'a DensityHere) -> Vec<Figure<'a>> {
    let number = |value| Ratio { estimate: value, low: None, high: None };
    let overload = |s: Option<&Overload>| s.and_then(|s| s.growth);
    let mut out: Vec<Figure<'_>> = [
        ("served_per_second", number(d.served)),
        ("good_per_second", number(d.good)),
        ("jain_index", d.fairness.unwrap_or_default()),
        ("memory_bytes", number(d.memory.map(|b| b as f64))),
        ("reference_ratio", d.ratio.unwrap_or_default()),
        ("backlog_growth_per_second", number(overload(d.saturated.as_ref()))),
    ]
    .into_iter()
    .map(|(metric, value)| Figure { metric, value, ..Figure::default() })
    .collect();
    out.extend(d.worst.iter().map(|l| Figure {
        quantile: Some(l.quantile),
        metric: "worst_latency_ns",
        value: number(Some(l.ns)),
        ..Figure::default()
    }));
    out.extend(c.objectives.iter().zip(&d.over).filter_map(|(bound, over)| {
        let objective = Some(("", bound.text.as_str()));
        Some(Figure { metric: "over_bound_share", value: (*over)?, objective, ..Figure::default() })
    }));
    for t in &d.each {
        let of = |metric, value| Figure { tenant: Some(t), metric, value, ..Figure::default() };
        out.extend([
            of("arrived_per_second", number(t.planned)),
            of("served_per_second", number(t.served)),
            of("good_per_second", number(t.good)),
            of("memory_bytes", number(t.memory.map(|b| b as f64))),
            of("backlog_growth_per_second", number(overload(t.saturated.as_ref()))),
        ]);
        out.extend(
            t.latencies.iter().map(|l| Figure { quantile: Some(l.quantile), ..of("latency_ns", number(Some(l.ns))) }),
        );
        out.extend(t.objectives.iter().map(|o| Figure {
            objective: Some((&o.verdict, &o.objective)),
            ..of("over_bound_share", o.over.unwrap_or_default())
        }));
    }
    // An objective says what came of it where its share is not known.
    out.retain(|figure| figure.value != Ratio::default() || figure.objective.is_some());
    if out.is_empty() {
        out.push(Figure::default());
    }
    out
}

fn of_density(run: &RunReport, c: &CurveHere, d: &DensityHere, f: &Figure<'_>) -> Vec<String> {
    let mut row = of_run(run);
    row.resize(COLUMNS.len(), String::new());
    let at = |column: &str| COLUMNS.iter().position(|c| *c == column).unwrap_or_default();
    row[at("arrangement")] = name(&d.arrangement);
    row[at("seat")] = text(f.tenant.map(|t| t.seat.as_str()));
    row[at("layout")] = c.sharing.id().to_owned();
    row[at("series")] = name(&c.probe);
    row[at("quantile")] = number(f.quantile);
    row[at("probability")] = number(f.quantile.map(Quantile::as_f64));
    row[at("verdict")] = text(f.objective.map(|(verdict, _)| verdict));
    row[at("required")] = text(f.objective.map(|(_, objective)| objective));
    let own: [String; OF_DENSITIES] = [
        name(&c.name),
        d.tenants.to_string(),
        d.state.id().to_owned(),
        text(d.reason.as_deref()),
        d.saturated.is_some().to_string(),
        number(c.met),
        number(c.missed),
        number(c.confidence),
        requirement_id(c.requirement).to_owned(),
        f.metric.to_owned(),
        number(f.value.estimate),
        number(f.value.low),
        number(f.value.high),
    ];
    row.truncate(COLUMNS.len() - OF_DENSITIES);
    row.extend(own);
    row
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
