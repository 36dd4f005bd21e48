//! The worst tenant's latency over the number of tenants, one line per way of sharing.

use plotters::style::text_anchor::HPos;

use super::{Axis, Drawn, FINE, Failed, Ink, nothing, plain, svg, y_axis};
use crate::report::format::time;

/// The inks of the curves, again from the first where there are more.
const INKS: [Ink; 6] = [Ink::First, Ink::Second, Ink::Third, Ink::Fourth, Ink::Fifth, Ink::Sixth];

/// One density of a curve.
#[derive(Clone, Copy, Debug)]
pub(in crate::report) struct DensityPoint {
    pub(in crate::report) tenants: f64,
    /// Nanoseconds; NaN: none.
    pub(in crate::report) ns: f64,
    /// It has no latency, and stands above the axis.
    pub(in crate::report) saturated: bool,
}

/// Curves by the number of tenants.
#[derive(Clone, Debug, Default)]
pub(in crate::report) struct DensityChart {
    /// Each curve: its mark, and its densities, rising.
    pub(in crate::report) curves: Vec<(String, Vec<DensityPoint>)>,
    /// Bounds of the objectives, nanoseconds.
    pub(in crate::report) bounds: Vec<f64>,
}

/// The chart. Curves are told apart by the letter at their dots, not by their colour alone.
pub(in crate::report) fn density(c: &DensityChart) -> Result<Drawn, Failed> {
    let (w, h) = (760 * FINE, 330 * FINE);
    let (left, right, bottom) = (84 * FINE, 30 * FINE, 30 * FINE);
    let all = || c.curves.iter().flat_map(|(_, points)| points);
    let drawn = |p: &&DensityPoint| p.tenants.is_finite() && (p.saturated || (p.ns.is_finite() && p.ns > 0.0));
    let Some(x) = Axis::over(all().filter(drawn).map(|p| p.tenants), false, left, w - right) else {
        return nothing(w, h);
    };
    let band = if all().any(|p| p.saturated) { 24 * FINE } else { 0 };
    let top = 12 * FINE + band;
    let values = all().filter(|p| !p.saturated).map(|p| p.ns).chain(c.bounds.iter().copied());
    let y = Axis::over(values, true, h - bottom, top);
    svg(w, h, Vec::new(), |canvas| {
        if band > 0 {
            canvas.rect((left, 8 * FINE), (w - right, 8 * FINE + band - 4 * FINE), Ink::Shade)?;
            canvas.text("saturated", (left - 8 * FINE, 8 * FINE + band / 2 - 2 * FINE), HPos::Right, Ink::Text)?;
        }
        if let Some(y) = &y {
            y_axis(canvas, y, left, w - right, time)?;
            for bound in c.bounds.iter().copied().filter(|b| b.is_finite() && *b > 0.0) {
                canvas.line(&[(left, y.at(bound)), (w - right, y.at(bound))], Ink::Bad)?;
                let at = (left + 6 * FINE, y.at(bound) - 8 * FINE);
                canvas.text(&format!("objective ≤ {}", time(bound)), at, HPos::Left, Ink::Text)?;
            }
        }
        for (curve, (mark, points)) in c.curves.iter().enumerate() {
            let ink = INKS[curve % INKS.len()];
            let shown: Vec<&DensityPoint> = points.iter().filter(drawn).collect();
            if let Some(y) = &y {
                let line: Vec<(i32, i32)> =
                    shown.iter().filter(|p| !p.saturated).map(|p| (x.at(p.tenants), y.at(p.ns))).collect();
                canvas.line(&line, ink)?;
                for at in &line {
                    canvas.dot(*at, 3 * FINE, ink)?;
                }
                if let Some((to, at)) = line.last() {
                    canvas.text(mark, (to + 7 * FINE, *at), HPos::Left, Ink::Text)?;
                }
            }
            // Side by side, where several saturate at one density.
            let aside = (2 * curve as i32 - (c.curves.len() as i32 - 1)) * 6 * FINE;
            for p in shown.iter().filter(|p| p.saturated) {
                let at = (x.at(p.tenants) + aside).clamp(left + 6 * FINE, w - right - 6 * FINE);
                canvas.text(mark, (at, 8 * FINE + band / 2 - 2 * FINE), HPos::Center, Ink::Text)?;
            }
        }
        // Each density that stands there, as far as there is room.
        let mut numbers: Vec<f64> = all().filter(drawn).map(|p| p.tenants).collect();
        numbers.sort_by(f64::total_cmp);
        let mut free = i32::MIN;
        for tenants in numbers {
            if x.at(tenants) < free {
                continue;
            }
            free = x.at(tenants) + 24 * FINE;
            canvas.line(&[(x.at(tenants), h - bottom), (x.at(tenants), h - bottom + 4 * FINE)], Ink::Grid)?;
            canvas.text(&plain(tenants, ""), (x.at(tenants), h - bottom + 14 * FINE), HPos::Center, Ink::Text)?;
        }
        canvas.text("tenants", (left - 8 * FINE, h - bottom + 14 * FINE), HPos::Right, Ink::Text)
    })
}
