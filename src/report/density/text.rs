//! The section of the terminal's text: sentences, a chart in characters, a table per curve.

use super::{CurveHere, DensityHere, DensityState, HEAD, LEGEND, Together, mark, together};
use crate::report::charts::Axis;
use crate::report::format::time;
use crate::report::model::RunReport;
use crate::report::text::{Line, Page, Tint};
use crate::verdict::RequirementState;

/// Columns of the chart's axis, at most and at least.
const MOST: usize = 72;
const LEAST: usize = 24;

/// Curves on one chart: more would not be told apart.
const CURVES: usize = 8;

/// Columns of tables that stand below where all would not fit.
const SECOND: [usize; 5] = [0, 6, 7, 8, 9];

pub(in crate::report) fn section(page: &mut Page, run: &RunReport) {
    for group in together(run) {
        page.heading(&group.heading());
        for curve in &group.curves {
            let line = Line::of(Tint::Strong, &curve.name).with(Tint::Plain, ": ").with(tint(curve), &curve.crossing);
            page.paragraph(line, 2, 4);
        }
        if group.drawn() {
            chart(page, &group);
        }
        for curve in &group.curves {
            one(page, curve);
        }
        page.gap();
        page.paragraph(Line::of(Tint::Faint, LEGEND), 0, 2);
    }
}

fn tint(c: &CurveHere) -> Tint {
    match c.requirement {
        RequirementState::Met => Tint::Good,
        RequirementState::NotMet => Tint::Bad,
        RequirementState::Undecided => Tint::Open,
        RequirementState::Accepted | RequirementState::NotRequired => Tint::Plain,
    }
}

/// One curve: what its figures say, and its table.
fn one(page: &mut Page, curve: &CurveHere) {
    page.heading(&curve.name);
    let sentences = curve.knee.iter().chain(curve.lone.iter().map(|lone| &lone.text));
    for sentence in sentences {
        page.paragraph(Line::of(Tint::Plain, sentence), 2, 4);
    }
    let told: Vec<&DensityHere> = curve.densities.iter().filter(|d| d.told()).collect();
    if !told.is_empty() {
        table(page, &told);
    }
    for density in told {
        if let Some(remark) = density.remark(curve) {
            page.paragraph(
                Line::of(Tint::Strong, &density.tenants.to_string()).with(Tint::Plain, &format!(": {remark}")),
                2,
                4,
            );
        }
    }
    for note in &curve.notes {
        page.paragraph(Line::of(Tint::Faint, note), 2, 4);
    }
}

fn table(page: &mut Page, densities: &[&DensityHere]) {
    let mut rows: Vec<Vec<Line>> = vec![HEAD.iter().map(|head| Line::of(Tint::Faint, head)).collect()];
    for density in densities {
        let line = |(column, text): (usize, &String)| match (column, density.state) {
            (1, DensityState::Met) => Line::of(Tint::Good, text),
            (1, DensityState::Missed) => Line::of(Tint::Bad, text),
            (1, DensityState::Undecided) => Line::of(Tint::Open, text),
            (1, DensityState::Skipped | DensityState::NotRun) => Line::of(Tint::Faint, text),
            _ => Line::of(Tint::Plain, text),
        };
        rows.push(density.row().iter().enumerate().map(line).collect());
    }
    let widest = |column: usize| rows.iter().map(|row| row[column].width()).max().unwrap_or(0);
    let wide = 2 + (0..HEAD.len()).map(widest).sum::<usize>() + 2 * (HEAD.len() - 1);
    if wide <= page.width {
        page.table(2, 0, &rows);
        return;
    }
    let of = |columns: &dyn Fn(usize) -> bool| -> Vec<Vec<Line>> {
        let keep =
            |row: &Vec<Line>| row.iter().enumerate().filter(|(at, _)| columns(*at)).map(|(_, l)| l.clone()).collect();
        rows.iter().map(keep).collect()
    };
    page.table(2, 0, &of(&|column| column == 0 || !SECOND.contains(&column)));
    page.table(2, 0, &of(&|column| SECOND.contains(&column)));
}

/// The worst tenant's latency over the number of tenants: a row per density, a letter per curve, on a logarithmic axis on
/// which the objective stands as a line. What is saturated has no place on the axis, and stands behind it.
fn chart(page: &mut Page, group: &Together<'_>) {
    let curves = &group.curves[..group.curves.len().min(CURVES)];
    let shown = group.shown();
    let mut tenants: Vec<u32> = curves
        .iter()
        .flat_map(|c| &c.densities)
        .filter(|d| d.saturated.is_some() || d.worst_at(shown).is_some())
        .map(|d| d.tenants)
        .collect();
    tenants.sort_unstable();
    tenants.dedup();
    page.gap();
    let keys: Vec<String> = curves.iter().enumerate().map(|(at, c)| format!("{} {}", mark(at), c.name)).collect();
    let bounds = group.bounds();
    let line = if bounds.is_empty() { String::new() } else { format!("; | {shown} ≤ {}", told(&bounds)) };
    let head = format!("Worst {shown} over tenants, logarithmic: {}{line}; * several", keys.join(", "));
    page.paragraph(Line::of(Tint::Faint, &head), 2, 4);
    let label = 9;
    // Behind the axis: "  saturated A B C".
    let behind =
        if curves.iter().flat_map(|c| &c.densities).any(|d| d.saturated.is_some()) { 12 + 2 * curves.len() } else { 0 };
    let width = page.width.saturating_sub(2 + label + behind).clamp(LEAST, MOST);
    let values =
        curves.iter().flat_map(|c| &c.densities).filter_map(|d| d.worst_at(shown)).chain(bounds.iter().copied());
    let Some(axis) = Axis::over(values, true, 0, width as i32 - 1) else { return };
    let at = |ns: f64| axis.at(ns).clamp(0, width as i32 - 1) as usize;
    for n in tenants {
        let mut row = vec![' '; width];
        for bound in &bounds {
            row[at(*bound)] = '|';
        }
        let mut saturated = String::new();
        for (curve, c) in curves.iter().enumerate() {
            let Some(density) = c.densities.iter().find(|d| d.tenants == n) else { continue };
            if density.saturated.is_some() {
                saturated.push(' ');
                saturated.push_str(&mark(curve));
            } else if let Some(ns) = density.worst_at(shown) {
                let place = &mut row[at(ns)];
                *place = if matches!(*place, ' ' | '|') { mark(curve).chars().next().unwrap_or('*') } else { '*' };
            }
        }
        let row: String = row.into_iter().collect();
        let mut line = Line::of(Tint::Faint, &format!("  {n:>7}  ")).with(Tint::Plain, &row);
        if !saturated.is_empty() {
            line.push(Tint::Bad, &format!("  saturated{saturated}"));
        }
        page.line(&line);
    }
    page.line(&Line::of(Tint::Faint, &format!("  tenants  {}", ticks(&axis, width))));
}

fn told(bounds: &[f64]) -> String {
    bounds.iter().map(|ns| time(*ns)).collect::<Vec<_>>().join(", ")
}

/// Round values below the axis, each beginning at its place; those without room are left out.
fn ticks(axis: &Axis, width: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    for value in axis.ticks() {
        let (at, text) = (axis.at(value).max(0) as usize, format!("'{}", time(value)));
        let wide = text.chars().count();
        if (used == 0 || at > used) && at + wide <= width {
            out.push_str(&" ".repeat(at.saturating_sub(used)));
            out.push_str(&text);
            used = at + wide;
        }
    }
    out
}
