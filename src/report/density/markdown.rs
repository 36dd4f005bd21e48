//! The section of Markdown: sentences and a table per curve; each tenant's own figures are folded away.

use super::{CurveHere, DensityState, HEAD, LEGEND, TENANT_HEAD, Together, together};
use crate::report::markdown::{Doc, cell_code, code, prose, strings, table};
use crate::report::model::RunReport;

pub(in crate::report) fn section(doc: &mut Doc, run: &RunReport) {
    for group in together(run) {
        let crossings: Vec<String> =
            group.curves.iter().map(|c| format!("{}: {}", code(&c.name), prose(&c.crossing))).collect();
        doc.list(&prose(&group.heading()), &crossings);
        group.curves.iter().for_each(|curve| one(doc, curve));
        doc.block(&format!("{LEGEND}\n"));
        tenants(doc, &group);
    }
}

fn one(doc: &mut Doc, curve: &CurveHere) {
    let rows: Vec<Vec<String>> = curve
        .densities
        .iter()
        .filter(|d| d.told())
        .map(|d| {
            let mut row: Vec<String> = d.row().iter().map(|text| prose(text)).collect();
            if d.state == DensityState::Missed {
                row[1] = format!("**{}**", row[1]);
            }
            row.push(d.remark(curve).as_deref().map(prose).unwrap_or_default());
            row
        })
        .collect();
    let mut head = strings(&HEAD);
    head.push("what else".to_owned());
    if !rows.is_empty() {
        doc.table(&format!("Densities, {}", code(&curve.name)), &head, &rows);
    }
    let sentences = curve.knee.iter().chain(curve.lone.iter().map(|lone| &lone.text)).chain(&curve.notes);
    let lines: String = sentences.map(|text| format!("- {}\n", prose(text))).collect();
    if !lines.is_empty() {
        doc.block(&lines);
    }
}

fn tenants(doc: &mut Doc, group: &Together<'_>) {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for curve in &group.curves {
        for row in curve.densities.iter().flat_map(|d| d.tenants()) {
            let cells = row.iter().map(|text| prose(text));
            rows.push(std::iter::once(cell_code(&curve.name)).chain(cells).collect());
        }
    }
    let head: Vec<&str> = std::iter::once("curve").chain(TENANT_HEAD).collect();
    if !rows.is_empty() {
        doc.details("Each tenant's own figures", &table(&strings(&head), &rows));
    }
}
