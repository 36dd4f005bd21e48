//! Curves of equal tenants: what they come to, their chart, and a table of each.

use crate::report::ReportError;
use crate::report::charts::{self, DensityChart, DensityPoint, Drawn};
use crate::report::density::{
    CurveHere, DensityHere, DensityState, HEAD, LEGEND, TENANT_HEAD, Together, mark, together,
};
use crate::report::format::{NONE, time};
use crate::report::model::RunReport;
use crate::verdict::RequirementState;

use super::figures::Figure;
use super::rows::Badge;

/// Curves on one chart.
pub(super) struct GroupView {
    pub(super) heading: String,
    pub(super) figure: Option<Figure>,
    /// Mark and name, for the chart.
    pub(super) keys: Vec<(String, String)>,
    pub(super) curves: Vec<CurveView>,
    pub(super) head: &'static [&'static str],
    pub(super) legend: &'static str,
    pub(super) tenant_head: &'static [&'static str],
}

/// One curve.
pub(super) struct CurveView {
    pub(super) name: String,
    /// Whether what is required holds.
    pub(super) badge: Option<Badge>,
    pub(super) crossing: String,
    pub(super) sentences: Vec<String>,
    pub(super) rows: Vec<DensityRow>,
    pub(super) notes: Vec<String>,
    pub(super) tenants: Vec<[String; 11]>,
}

/// One density.
pub(super) struct DensityRow {
    pub(super) tenants: String,
    pub(super) badge: Badge,
    pub(super) cells: Vec<String>,
    pub(super) remark: String,
}

pub(super) fn of(run: &RunReport) -> Result<Vec<GroupView>, ReportError> {
    together(run).iter().map(group).collect()
}

fn group(group: &Together<'_>) -> Result<GroupView, ReportError> {
    let keys = group.curves.iter().enumerate().map(|(at, c)| (mark(at), c.name.clone())).collect();
    Ok(GroupView {
        heading: group.heading(),
        figure: if group.drawn() { Some(figure(group)?) } else { None },
        keys,
        curves: group.curves.iter().map(|c| curve(c)).collect(),
        head: &HEAD,
        legend: LEGEND,
        tenant_head: &TENANT_HEAD,
    })
}

fn figure(group: &Together<'_>) -> Result<Figure, ReportError> {
    let shown = group.shown();
    let point = |d: &DensityHere| DensityPoint {
        tenants: f64::from(d.tenants),
        ns: d.worst_at(shown).unwrap_or(f64::NAN),
        saturated: d.saturated.is_some(),
    };
    let curves = group.curves.iter().enumerate();
    let curves = curves.map(|(at, c)| (mark(at), c.densities.iter().map(point).collect())).collect();
    let bounds = group.bounds();
    let Drawn { svg, .. } = charts::density(&DensityChart { curves, bounds: bounds.clone() })?;
    let told = |c: &&CurveHere| {
        let one = |d: &DensityHere| match (&d.saturated, d.worst_at(shown)) {
            (Some(_), _) => Some(format!("{} saturated", d.tenants)),
            (None, ns) => Some(format!("{} {}", d.tenants, time(ns?))),
        };
        let points: Vec<String> = c.densities.iter().filter_map(one).collect();
        format!("{}: {}", c.name, if points.is_empty() { NONE.to_owned() } else { points.join(", ") })
    };
    let mut note = format!("Each dot: {shown} of the tenant that fares worst, on a logarithmic axis.");
    if bounds.is_empty() {
        note.push_str(" No objective is of this percentile, so none is drawn.");
    }
    if group.curves.iter().flat_map(|c| &c.densities).any(|d| d.saturated.is_some()) {
        note.push_str(" What is saturated has no latency, and stands above the axis.");
    }
    Ok(Figure {
        kind: "density",
        title: format!("Worst tenant's {shown} by the number of tenants"),
        label: format!(
            "Worst tenant's {shown} by the number of tenants. {}",
            group.curves.iter().map(told).collect::<Vec<_>>().join("; ")
        ),
        sides: false,
        svg,
        note,
        head: Vec::new(),
        body: Vec::new(),
    })
}

fn curve(c: &CurveHere) -> CurveView {
    CurveView {
        name: c.name.clone(),
        badge: (c.requirement != RequirementState::NotRequired).then(|| Badge::of_requirement(c.requirement)),
        crossing: c.crossing.clone(),
        sentences: c.knee.iter().chain(c.lone.iter().map(|lone| &lone.text)).cloned().collect(),
        rows: c.densities.iter().filter(|d| d.told()).map(|d| row(c, d)).collect(),
        notes: c.notes.clone(),
        tenants: c.densities.iter().flat_map(DensityHere::tenants).collect(),
    }
}

fn row(c: &CurveHere, d: &DensityHere) -> DensityRow {
    let [tenants, _, cells @ ..] = d.row();
    let class = match d.state {
        DensityState::Met => "isolated",
        DensityState::Missed => "violated",
        DensityState::Undecided => "inconclusive",
        DensityState::Skipped | DensityState::NotRun => "skipped",
    };
    DensityRow {
        tenants,
        badge: Badge { class, word: d.word() },
        cells: cells.to_vec(),
        remark: d.remark(c).unwrap_or_default(),
    }
}
