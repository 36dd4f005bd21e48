//! Every chart of a report, as SVG that stands in a page: `plotters` draws, on axes of our own.
//!
//! The axes of `plotters` must not meet measured data: it looks for ticks without end on an axis from 0 to ∞, or on a
//! logarithmic one that begins at 0. So a value becomes a pixel here, every axis is finite and not empty, ticks are
//! counted, and what lies beyond an axis stands at its end. Colours are classes of the page's style sheet, which has one set for
//! light and one for dark; no text but numbers and fixed words is drawn, so no name can reach a chart.

mod density;
#[cfg(test)]
mod tests;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::units::{significant, trimmed};

use super::format::{percent, time};

pub(super) use density::{DensityChart, DensityPoint, density};

/// Units of a chart for each CSS pixel at which it is meant to be seen: lines lie between pixels then.
const FINE: i32 = 2;

/// Points of a line: more than a screen can tell apart are left out, evenly.
const MOST_POINTS: usize = 400;

/// Greatest and smallest values that an axis shows.
const BEYOND: f64 = 1e18;
const TINY: f64 = 1e-9;

/// Ticks of an axis, at most.
const MOST_TICKS: usize = 8;

/// What went wrong while a chart was drawn: a bug, for it is drawn in memory.
pub(super) type Failed = DrawingAreaErrorKind<std::io::Error>;

/// What something is drawn in. Its number is its class in the style sheet: `s3` strokes, `f3` fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// Words and numbers.
    Text = 1,
    /// Lines of the grid and frames.
    Grid = 2,
    /// The quiet side.
    Quiet = 3,
    /// The noisy side.
    Noisy = 4,
    /// The quiet side's interval, and its fainter lines.
    QuietBand = 5,
    /// The noisy side's.
    NoisyBand = 6,
    /// Noisy arms.
    Shade = 7,
    /// Within the isolated margin.
    Isolated = 8,
    /// Beyond it, within the violated one.
    Degraded = 9,
    /// Clocks, power and other context.
    Context = 10,
    /// An estimate.
    Estimate = 11,
    /// Bad events, and bounds.
    Bad = 12,
    /// Curves that stand together.
    First = 13,
    Second = 14,
    Third = 15,
    Fourth = 16,
    Fifth = 17,
    Sixth = 18,
}

impl Ink {
    const fn colour(self) -> RGBColor {
        RGBColor(0, 0, self as u8)
    }
}

/// A curve of quantiles: (q, nanoseconds, low, high). What is not finite is left out.
#[derive(Clone, Debug, Default)]
pub(super) struct CurveChart {
    pub(super) quiet: Vec<[f64; 4]>,
    pub(super) noisy: Vec<[f64; 4]>,
    /// Judged quantiles: q, and the noisy quantile as its ratio's interval has it (low, high), where there is one.
    pub(super) judged: Vec<(f64, Option<(f64, f64)>)>,
    /// Quantiles that are told in numbers.
    pub(super) told: Vec<f64>,
    /// Half the size, for a chart beside many.
    pub(super) small: bool,
}

/// Values per arm over the course of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct TimeChart {
    /// Per arm: where it begins and its length, in blocks, and whether it is noisy.
    pub(super) arms: Vec<(f64, f64, bool)>,
    /// Per arm: p50 and p99 in nanoseconds; NaN: none.
    pub(super) latency: Vec<[f64; 2]>,
    /// What was recorded beside it: name, unit, value per arm; NaN: none.
    pub(super) lanes: Vec<(&'static str, &'static str, Vec<f64>)>,
}

/// Noisy ÷ quiet by block.
#[derive(Clone, Debug, Default)]
pub(super) struct BlockChart {
    pub(super) ratios: Vec<(f64, f64)>,
    /// Estimate, low, high; NaN: none.
    pub(super) estimate: [f64; 3],
    /// Margins as ratios over one: isolated, violated.
    pub(super) margins: (f64, f64),
    pub(super) small: bool,
}

/// Failed attempts to have memory over time: nanoseconds, and whether the victim's.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryChart {
    pub(super) failures: Vec<(f64, bool)>,
}

/// A chart as drawn.
#[derive(Clone, Debug, Default)]
pub(super) struct Drawn {
    /// What follows `<svg ` in a page, but for its closing tag's.
    pub(super) svg: String,
    /// Where on the chart's own axis its rows of numbers lie: quantiles told, arms, or blocks.
    pub(super) places: Vec<i32>,
}

/// From values to pixels: finite, not empty, and what lies beyond stands at the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    from: i32,
    to: i32,
}

impl Axis {
    /// An axis over the values that can be shown, between two pixels; `None`: there are none.
    pub(super) fn over(values: impl Iterator<Item = f64>, log: bool, from: i32, to: i32) -> Option<Self> {
        let shown = values.filter(|v| v.is_finite() && (!log || *v > 0.0));
        let shown = shown.map(|v| if log { v.clamp(TINY, BEYOND) } else { v.clamp(-BEYOND, BEYOND) });
        let (low, high) = shown.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            return None;
        }
        // A little room at both ends, and a width where all values are one.
        let (low, high) = if log {
            let room = libm::pow(high / low, 0.06).max(1.04);
            (low / room, high * room)
        } else {
            let room = ((high - low) * 0.08).max(high.abs().max(low.abs()) * 0.02).max(TINY);
            (low - room, high + room)
        };
        Some(Self { low, high, log, from, to })
    }

    /// The same, ending at these values at least.
    fn reaching(self, low: f64, high: f64) -> Self {
        let ok = |v: f64| v.is_finite() && v.abs() <= BEYOND && (!self.log || v >= TINY);
        Self {
            low: if ok(low) { self.low.min(low) } else { self.low },
            high: if ok(high) { self.high.max(high) } else { self.high },
            ..self
        }
    }

    fn part(&self, value: f64) -> f64 {
        let scale = |v: f64| if self.log { libm::log(v.max(TINY)) } else { v };
        let (low, high) = (scale(self.low), scale(self.high));
        let part = (scale(value) - low) / (high - low);
        if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) }
    }

    /// The pixel of a value.
    pub(super) fn at(&self, value: f64) -> i32 {
        self.from + (self.part(value) * f64::from(self.to - self.from)).round() as i32
    }

    /// A few round values, rising.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let all: Vec<f64> = if self.log { self.decades() } else { self.steps() };
        let every = all.len().div_ceil(MOST_TICKS).max(1);
        all.into_iter().step_by(every).collect()
    }

    fn decades(&self) -> Vec<f64> {
        let (first, last) = (libm::floor(libm::log10(self.low)) as i32, libm::ceil(libm::log10(self.high)) as i32);
        let inside = |v: &f64| *v >= self.low && *v <= self.high;
        let powers = |digits: &[f64]| -> Vec<f64> {
            (first..=last)
                .flat_map(|e| digits.iter().map(move |d| d * libm::pow(10.0, f64::from(e))))
                .filter(inside)
                .collect()
        };
        for digits in [&[1.0][..], &[1.0, 3.0], &[1.0, 2.0, 5.0], &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]] {
            let found = powers(digits);
            if found.len() >= 3 {
                return found;
            }
        }
        // Less than a quarter of a decade: even steps are as good.
        let steps = self.steps();
        if steps.is_empty() { vec![self.low] } else { steps }
    }

    fn steps(&self) -> Vec<f64> {
        let raw = (self.high - self.low) / 5.0;
        let power = libm::pow(10.0, libm::floor(libm::log10(raw)));
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|d| d * power).find(|s| *s >= raw).unwrap_or(raw);
        let first = libm::ceil(self.low / step);
        // Counted, not compared: beside huge values a step may change nothing.
        (0..=MOST_TICKS).map(|i| (first + i as f64) * step).filter(|v| *v >= self.low && *v <= self.high).collect()
    }
}

/// What is drawn on.
struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
}

impl Canvas<'_> {
    fn line(&self, points: &[(i32, i32)], ink: Ink) -> Result<(), Failed> {
        if points.len() < 2 {
            return Ok(());
        }
        let every = points.len().div_ceil(MOST_POINTS);
        let last = points.last().copied();
        let mut thin: Vec<(i32, i32)> = points.iter().copied().step_by(every).collect();
        thin.extend(last.filter(|last| thin.last() != Some(last)));
        self.area.draw(&PathElement::new(thin, ink.colour()))
    }

    fn fill(&self, points: Vec<(i32, i32)>, ink: Ink) -> Result<(), Failed> {
        if points.len() < 3 { Ok(()) } else { self.area.draw(&Polygon::new(points, ink.colour())) }
    }

    fn rect(&self, from: (i32, i32), to: (i32, i32), ink: Ink) -> Result<(), Failed> {
        self.area.draw(&Rectangle::new([from, to], ink.colour().filled()))
    }

    fn dot(&self, at: (i32, i32), radius: i32, ink: Ink) -> Result<(), Failed> {
        self.area.draw(&Circle::new(at, radius, ink.colour().filled()))
    }

    /// `h`: which side of the text lies at the point.
    fn text(&self, text: &str, at: (i32, i32), h: HPos, ink: Ink) -> Result<(), Failed> {
        let colour = ink.colour();
        let style = TextStyle::from(("sans-serif", 12 * FINE)).color(&colour).pos(Pos::new(h, VPos::Center));
        self.area.draw(&Text::new(text.to_owned(), at, style))
    }
}

/// Draws.
fn svg(
    width: i32,
    height: i32,
    places: Vec<i32>,
    draw: impl FnOnce(&Canvas<'_>) -> Result<(), Failed>,
) -> Result<Drawn, Failed> {
    let mut text = String::new();
    {
        let size = (width.unsigned_abs(), height.unsigned_abs());
        let canvas = Canvas { area: SVGBackend::with_string(&mut text, size).into_drawing_area() };
        draw(&canvas)?;
        canvas.area.present()?;
    }
    Ok(Drawn { svg: classes(&text, width, height), places })
}

/// Colours become classes, and what the style sheet says need not be said again.
fn classes(svg: &str, width: i32, height: i32) -> String {
    let inner = svg.split_once('>').map_or("", |(_, rest)| rest);
    let inner = inner.rsplit_once("</svg>").map_or(inner, |(inner, _)| inner);
    let mut out = String::with_capacity(inner.len());
    for line in inner.lines() {
        let mut line = line.to_owned();
        for (from, to) in [
            (" opacity=\"1\"", ""),
            (" fill=\"none\"", ""),
            (" stroke=\"none\"", ""),
            (" stroke-width=\"1\"", ""),
            (" font-family=\"sans-serif\"", ""),
            (" dy=\"0.5ex\"", " dy=\".35em\""),
            (" text-anchor=\"start\"", ""),
            (" \"/>", "\"/>"),
        ] {
            line = line.replace(from, to);
        }
        if let Some((before, rest)) = line.clone().split_once(" font-size=\"") {
            line = format!("{before}{}", rest.split_once('"').map_or("", |(_, after)| after));
        }
        for (attribute, class) in [("fill=\"#0000", "f"), ("stroke=\"#0000", "s")] {
            if let Some((before, rest)) = line.clone().split_once(attribute)
                && let Some((code, after)) = rest.split_once('"')
                && let Ok(ink) = u8::from_str_radix(code, 16)
            {
                line = format!("{before}class=\"{class}{ink}\"{after}");
            }
        }
        out.push_str(&line);
    }
    format!("viewBox=\"0 0 {width} {height}\">{out}")
}

/// The place of a quantile on the axis of HdrHistogram's plots.
fn tail(q: f64) -> f64 {
    -libm::log((1.0 - q).clamp(1e-9, 1.0))
}

/// The percentile curve of the quiet and the noisy side. The text is what follows `<svg `.
pub(super) fn curve(c: &CurveChart) -> Result<Drawn, Failed> {
    let (w, h) = if c.small { (380 * FINE, 210 * FINE) } else { (620 * FINE, 300 * FINE) };
    let (left, right, top, bottom) = (62 * FINE, 22 * FINE, 12 * FINE, 28 * FINE);
    let all = || c.quiet.iter().chain(&c.noisy);
    let bars = c.judged.iter().filter_map(|(_, bar)| *bar).flat_map(|(low, high)| [low, high]);
    let values = all().map(|p| p[1]).chain(bars);
    let Some(y) = Axis::over(values, true, h - bottom, top) else { return nothing(w, h) };
    let end = all().map(|p| tail(p[0])).filter(|v| v.is_finite()).fold(tail(0.9), f64::max);
    let x = Axis { low: 0.0, high: end * 1.01, log: false, from: left, to: w - right };
    let places = c.told.iter().map(|q| x.at(tail(*q))).collect();
    svg(w, h, places, |canvas| {
        y_axis(canvas, &y, left, w - right, time)?;
        let ticks = [
            (0.0, "0"),
            (0.5, "50"),
            (0.9, "90"),
            (0.99, "99"),
            (0.999, "99.9"),
            (0.9999, "99.99"),
            (0.99999, "99.999"),
        ];
        let mut free = i32::MIN;
        for (q, text) in ticks.into_iter().filter(|(q, _)| tail(*q) <= x.high) {
            let at = x.at(tail(q));
            canvas.line(&[(at, top), (at, h - bottom)], Ink::Grid)?;
            let text = if q == 0.0 { "0 %" } else { text };
            // Half of it and a gap, at 7 units a character.
            let half = text.len() as i32 * 7 * FINE / 2;
            if at - half >= free {
                canvas.text(text, (at, h - bottom + 13 * FINE), HPos::Center, Ink::Text)?;
                free = at + half + 4 * FINE;
            }
        }
        for (side, line, band) in [(&c.quiet, Ink::Quiet, Ink::QuietBand), (&c.noisy, Ink::Noisy, Ink::NoisyBand)] {
            let inside: Vec<&[f64; 4]> = side.iter().filter(|p| p[1].is_finite() && p[1] > 0.0).collect();
            let at = |p: &[f64; 4], v: f64| (x.at(tail(p[0])), y.at(v));
            let low = |p: &[f64; 4]| if p[2].is_finite() { p[2] } else { p[1] };
            // The band ends where there is no upper bound.
            let bounded: Vec<&[f64; 4]> = inside.iter().copied().take_while(|p| p[3].is_finite()).collect();
            let mut outline: Vec<(i32, i32)> = bounded.iter().map(|p| at(p, p[3])).collect();
            outline.extend(bounded.iter().rev().map(|p| at(p, low(p))));
            canvas.fill(outline, band)?;
            canvas.line(&inside.iter().map(|p| at(p, p[1])).collect::<Vec<_>>(), line)?;
            if let [only] = inside[..] {
                canvas.dot(at(only, only[1]), 3 * FINE, line)?;
            }
        }
        for (q, bar) in c.judged.iter().filter(|(q, _)| tail(*q) <= x.high) {
            let at = x.at(tail(*q));
            if let Some((low, high)) = bar {
                let (low, high) = (y.at(*low), y.at(*high));
                canvas.line(&[(at, low), (at, high)], Ink::Estimate)?;
                for end in [low, high] {
                    canvas.line(&[(at - 4 * FINE, end), (at + 4 * FINE, end)], Ink::Estimate)?;
                }
            }
        }
        Ok(())
    })
}

/// Latency, and what was recorded beside it, arm by arm.
pub(super) fn over_time(c: &TimeChart) -> Result<Drawn, Failed> {
    let (left, right, top, lane, gap) = (62 * FINE, 14 * FINE, 10 * FINE, 34 * FINE, 10 * FINE);
    let w = 1000 * FINE;
    let high = 190 * FINE;
    let lanes: Vec<_> = c.lanes.iter().filter(|(_, _, values)| values.iter().any(|v| v.is_finite())).collect();
    let h = top + high + lanes.len() as i32 * (lane + gap) + 28 * FINE;
    let bottom = h - 28 * FINE;
    let ends = || c.arms.iter().flat_map(|(at, length, _)| [*at, at + length]);
    let Some(x) = Axis::over(ends(), false, left, w - right) else { return nothing(w, high) };
    // Whole blocks, where they are such.
    let (first, last) =
        ends().filter(|v| v.is_finite()).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let x = if last - first < 1e6 {
        Axis { low: libm::floor(first), high: libm::ceil(last).max(libm::floor(first) + 1.0), ..x }
    } else {
        x
    };
    let latency = c.latency.iter().flatten().copied();
    let places = c.arms.iter().map(|arm| x.at(arm.0 + arm.1 / 2.0)).collect();
    svg(w, h, places, |canvas| {
        for (at, length, _) in c.arms.iter().filter(|(.., noisy)| *noisy) {
            let (from, to) = (x.at(*at), x.at(at + length).max(x.at(*at) + FINE));
            canvas.rect((from, top), (to, bottom), Ink::Shade)?;
        }
        let middle = |arm: &(f64, f64, bool)| x.at(arm.0 + arm.1 / 2.0);
        match Axis::over(latency, true, top + high, top) {
            None => canvas.text("no latency", (left + 8 * FINE, top + high / 2), HPos::Left, Ink::Text)?,
            Some(y) => {
                y_axis(canvas, &y, left, w - right, time)?;
                for noisy in [false, true] {
                    let side = || c.arms.iter().zip(&c.latency).filter(|(arm, _)| arm.2 == noisy);
                    let line = |i: usize| -> Vec<(i32, i32)> {
                        side()
                            .filter(|(_, v)| v[i].is_finite() && v[i] > 0.0)
                            .map(|(arm, v)| (middle(arm), y.at(v[i])))
                            .collect()
                    };
                    let (strong, faint) =
                        if noisy { (Ink::Noisy, Ink::NoisyBand) } else { (Ink::Quiet, Ink::QuietBand) };
                    canvas.line(&line(0), faint)?;
                    canvas.line(&line(1), strong)?;
                    for at in line(1).into_iter().take(MOST_POINTS) {
                        canvas.dot(at, 2 * FINE, strong)?;
                    }
                }
            }
        }
        let mut from = top + high + gap;
        for (name, unit, values) in &lanes {
            let to = from + lane;
            canvas.line(&[(left, to), (w - right, to)], Ink::Grid)?;
            if let Some(y) = Axis::over(values.iter().copied(), false, to, from) {
                let points = c.arms.iter().zip(values).filter(|(_, v)| v.is_finite());
                let points: Vec<(i32, i32)> = points.map(|(arm, v)| (middle(arm), y.at(*v))).collect();
                canvas.line(&points, Ink::Context)?;
                let (low, high) = values
                    .iter()
                    .filter(|v| v.is_finite())
                    .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
                let range =
                    if low == high { plain(low, unit) } else { format!("{} to {}", plain(low, ""), plain(high, unit)) };
                canvas.text(&format!("{name}: {range}"), (left + 6 * FINE, from + 5 * FINE), HPos::Left, Ink::Text)?;
            }
            from = to + gap;
        }
        let blocks = x.ticks();
        for block in blocks.into_iter().filter(|b| b.fract() == 0.0) {
            canvas.line(&[(x.at(block), bottom), (x.at(block), bottom + 4 * FINE)], Ink::Grid)?;
            canvas.text(&plain(block, ""), (x.at(block), bottom + 13 * FINE), HPos::Center, Ink::Text)?;
        }
        canvas.text("block", (left - 8 * FINE, bottom + 13 * FINE), HPos::Right, Ink::Text)
    })
}

/// Noisy ÷ quiet, block by block, against the margins.
pub(super) fn blocks(c: &BlockChart) -> Result<Drawn, Failed> {
    let (w, h) = if c.small { (380 * FINE, 210 * FINE) } else { (620 * FINE, 300 * FINE) };
    let (left, right, top, bottom) = (62 * FINE, 22 * FINE, 12 * FINE, 28 * FINE);
    let values = c.ratios.iter().map(|(_, ratio)| *ratio).chain(c.estimate);
    let margins = [1.0 + c.margins.0, 1.0 + c.margins.1];
    let Some(y) = Axis::over(values, true, h - bottom, top) else { return nothing(w, h) };
    let y = y.reaching(1.0 / margins[0], margins[0] * 1.02);
    let Some(mut x) = Axis::over(c.ratios.iter().map(|(block, _)| *block), false, left, w - right) else {
        return nothing(w, h);
    };
    (x.low, x.high) = (x.low - 0.3, x.high + 0.3);
    let places = c.ratios.iter().map(|(block, _)| x.at(*block)).collect();
    svg(w, h, places, |canvas| {
        canvas.rect((left, y.at(margins[0])), (w - right, y.at(1.0 / margins[0])), Ink::Isolated)?;
        if margins[1] > margins[0] {
            canvas.rect((left, y.at(margins[1])), (w - right, y.at(margins[0])), Ink::Degraded)?;
        }
        y_axis(canvas, &y, left, w - right, |v| format!("{}×", trimmed(&significant(v, 3))))?;
        let [estimate, low, high] = c.estimate;
        if estimate.is_finite() {
            let bounded = low.is_finite() || high.is_finite();
            let low = if low.is_finite() { low } else { 0.0 };
            let high = if high.is_finite() { high } else { f64::INFINITY };
            let (from, to) = (y.at(high), y.at(low));
            if bounded {
                canvas.rect((left, from), (w - right, to.max(from + FINE)), Ink::NoisyBand)?;
            }
            canvas.line(&[(left, y.at(estimate)), (w - right, y.at(estimate))], Ink::Estimate)?;
        }
        for (block, ratio) in c.ratios.iter().take(MOST_POINTS) {
            let at = (x.at(*block), y.at(*ratio));
            canvas.dot(at, 3 * FINE, if ratio.is_finite() && *ratio > 0.0 { Ink::Noisy } else { Ink::Bad })?;
        }
        for block in x.ticks().into_iter().filter(|b| b.fract() == 0.0) {
            canvas.text(&plain(block, ""), (x.at(block), h - bottom + 13 * FINE), HPos::Center, Ink::Text)?;
        }
        canvas.text("block", (left - 8 * FINE, h - bottom + 13 * FINE), HPos::Right, Ink::Text)
    })
}

/// Failed attempts to have memory, one lane for each side.
pub(super) fn memory(c: &MemoryChart) -> Result<Drawn, Failed> {
    let (left, right, top, lane) = (92 * FINE, 20 * FINE, 8 * FINE, 26 * FINE);
    let (w, bottom) = (1000 * FINE, 28 * FINE);
    let h = top + 2 * lane + bottom;
    let Some(x) = Axis::over(c.failures.iter().map(|(at, _)| *at), false, left, w - right) else {
        return nothing(w, h);
    };
    let x = x.reaching(0.0, f64::NAN);
    svg(w, h, Vec::new(), |canvas| {
        for (row, victim, name) in [(0, true, "victim"), (1, false, "neighbour")] {
            let middle = top + row * lane + lane / 2;
            canvas.text(name, (left - 10 * FINE, middle), HPos::Right, Ink::Text)?;
            canvas.line(&[(left, middle), (w - right, middle)], Ink::Grid)?;
            let mut before = i32::MIN;
            for (at, _) in c.failures.iter().filter(|(_, of)| *of == victim) {
                let at = x.at(*at);
                // One mark a pixel tells as much as a thousand.
                if at >= before.saturating_add(FINE) {
                    let ink = if victim { Ink::Bad } else { Ink::Context };
                    canvas.rect((at, middle - 7 * FINE), (at + FINE, middle + 7 * FINE), ink)?;
                    before = at;
                }
            }
        }
        for v in x.ticks().into_iter().filter(|v| *v >= 0.0) {
            canvas.text(&time(v), (x.at(v), h - bottom + 13 * FINE), HPos::Center, Ink::Text)?;
        }
        Ok(())
    })
}

/// What stands where there is nothing to draw.
fn nothing(w: i32, h: i32) -> Result<Drawn, Failed> {
    svg(w, h, Vec::new(), |canvas| canvas.text("nothing was recorded", (w / 2, h / 2), HPos::Center, Ink::Text))
}

fn y_axis(canvas: &Canvas<'_>, y: &Axis, left: i32, right: i32, words: impl Fn(f64) -> String) -> Result<(), Failed> {
    let mut before = String::new();
    for value in y.ticks() {
        let (at, text) = (y.at(value), words(value));
        canvas.line(&[(left, at), (right, at)], Ink::Grid)?;
        // Closer together than three digits tell.
        if text != before {
            canvas.text(&text, (left - 8 * FINE, at), HPos::Right, Ink::Text)?;
        }
        before = text;
    }
    Ok(())
}

/// A number with its unit.
fn plain(x: f64, unit: &str) -> String {
    if unit == "%" {
        return percent(x);
    }
    let text = significant(x, 2);
    let text = if text.contains('.') { trimmed(&text).to_owned() } else { text };
    format!("{text}{}{unit}", if unit.is_empty() || unit.starts_with('/') { "" } else { " " })
}
