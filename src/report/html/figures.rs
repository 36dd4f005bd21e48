//! Charts with what they show in words and numbers beside them.

use crate::report::charts::{self, BlockChart, CurveChart, Drawn, MemoryChart, TimeChart};
use crate::report::detail::{ArmShown, CellDetail, Curve, CurvePoint, Differences, OVER_TIME, SeriesDetail, TOLD};
use crate::report::format::{NONE, count, percent, rate, ratio, ratio_interval, time};
use crate::report::memory::MemoryHere;
use crate::report::model::Cell;
use crate::scenario::Quantile;

/// A chart, what it shows in a sentence, and its numbers.
pub(super) struct Figure {
    /// What is drawn; "curve", "time", "blocks" or "memory": the style sheet's.
    pub(super) kind: &'static str,
    pub(super) title: String,
    /// For who does not see it.
    pub(super) label: String,
    /// Two sides are drawn: quiet and noisy.
    pub(super) sides: bool,
    /// What follows `<svg `.
    pub(super) svg: String,
    pub(super) note: String,
    /// Names of the columns; empty: the numbers stand elsewhere.
    pub(super) head: Vec<&'static str>,
    /// Rows, each with its place on the chart's own axis.
    pub(super) body: Vec<(i32, Vec<String>)>,
}

/// One series of a cell with its charts.
pub(super) struct SeriesView {
    pub(super) name: String,
    pub(super) figures: Vec<Figure>,
}

/// Bounds that may be absent, for charts.
fn or_nan(x: Option<f64>) -> f64 {
    x.unwrap_or(f64::NAN)
}

/// The charts of one series. `small`: beside others of its kind, without tables.
pub(super) fn series(cell: &Cell, s: &SeriesDetail, small: bool) -> Result<SeriesView, charts::Failed> {
    let mut figures = vec![curve(cell, s, small)?];
    for d in &s.differences {
        figures.push(blocks(s, d, small)?);
    }
    Ok(SeriesView { name: s.name.clone(), figures })
}

fn curve(cell: &Cell, s: &SeriesDetail, small: bool) -> Result<Figure, charts::Failed> {
    let points = |curve: &Curve| -> Vec<[f64; 4]> {
        let reached = curve.points.iter().filter(|p| p.ns.is_some());
        reached.map(|p| [p.quantile.as_f64(), or_nan(p.ns), or_nan(p.low), or_nan(p.high)]).collect()
    };
    let judged = cell.series.iter().filter(|judged| judged.series == s.name);
    let bar = |judged: &crate::report::model::Series| {
        let r = judged.ratio?;
        let quiet = judged.quiet_ns?;
        Some((quiet * r.low?, quiet * r.high?))
    };
    let mut told: Vec<Quantile> = TOLD.iter().copied().chain(judged.clone().map(|judged| judged.quantile)).collect();
    told.sort_unstable();
    told.dedup();
    let at = |curve: &Curve, q: Quantile| curve.points.iter().find(|p| p.quantile == q).copied();
    let mut body = Vec::new();
    let mut shown = Vec::new();
    for q in told {
        let (quiet, noisy) = (at(&s.quiet, q), at(&s.noisy, q));
        if quiet.is_none() && noisy.is_none() {
            continue;
        }
        let ns = |p: Option<CurvePoint>| p.and_then(|p| p.ns);
        let times = ns(quiet)
            .zip(ns(noisy))
            .map_or_else(|| NONE.to_owned(), |(quiet, noisy)| format!("{}×", ratio(noisy / quiet)));
        shown.push(q.as_f64());
        body.push(vec![q.to_string(), point(quiet), point(noisy), times]);
    }
    let Drawn { svg, places } = charts::curve(&CurveChart {
        quiet: points(&s.quiet),
        noisy: points(&s.noisy),
        judged: judged.clone().map(|judged| (judged.quantile.as_f64(), bar(judged))).collect(),
        told: shown,
        small,
    })?;
    let quantiles = body.iter().map(|row| format!("{} quiet {}, noisy {}", row[0], row[1], row[2]));
    let label = format!("Latency by percentile of {}: {}", s.name, quantiles.collect::<Vec<_>>().join("; "));
    let mut note = format!(
        "{} quiet and {} noisy requests. Bands: 99 % intervals of the ranks, were requests independent; they end where \
         there is no upper bound.",
        s.quiet.requests, s.noisy.requests
    );
    if judged.clone().any(|judged| bar(judged).is_some()) {
        note.push_str(" Bars: where the judged interval of the ratio puts the noisy quantile.");
    }
    if small {
        note = format!("{} quiet and {} noisy requests.", s.quiet.requests, s.noisy.requests);
    }
    let unserved = s.quiet.unserved + s.noisy.unserved;
    if unserved > 0 {
        note.push_str(&format!(
            " {} never served, {} of them in noisy arms: above the end of the curve.",
            count(unserved, "request"),
            s.noisy.unserved
        ));
    }
    Ok(Figure {
        kind: "curve",
        title: "Latency by percentile".to_owned(),
        label,
        sides: true,
        svg,
        note,
        head: if small { Vec::new() } else { vec!["percentile", "quiet [99 %]", "noisy [99 %]", "ratio"] },
        body: if small { Vec::new() } else { places.into_iter().zip(body).collect() },
    })
}

/// "38 µs [37 39]".
fn point(p: Option<CurvePoint>) -> String {
    let one = |ns: Option<f64>| ns.map_or_else(|| NONE.to_owned(), time);
    match p {
        None => format!("{NONE} (too few requests)"),
        Some(p) if p.ns.is_none() => "never served".to_owned(),
        Some(p) => format!("{} [{}, {}]", one(p.ns), one(p.low), one(p.high)),
    }
}

fn blocks(s: &SeriesDetail, d: &Differences, small: bool) -> Result<Figure, charts::Failed> {
    let estimate = d.estimate.map_or([f64::NAN; 3], |r| [or_nan(r.estimate), or_nan(r.low), or_nan(r.high)]);
    let Drawn { svg, places } = charts::blocks(&BlockChart {
        ratios: d.ratios.iter().map(|(block, ratio)| (f64::from(*block), *ratio)).collect(),
        estimate,
        margins: d.margins,
        small,
    })?;
    let slower = d.ratios.iter().filter(|(_, ratio)| *ratio > 1.0).count();
    let told = d.estimate.as_ref().map_or_else(|| format!("{NONE} (too few blocks)"), ratio_interval);
    let title = format!("{}, noisy ÷ quiet by block", d.quantile);
    let label = format!(
        "{} of {}: slower beside the neighbour in {slower} of {}; Hodges–Lehmann estimate {told}",
        title,
        s.name,
        count(d.ratios.len() as u64, "block"),
    );
    let of = count(d.ratios.len() as u64, "block");
    let note = if small {
        format!("Estimate {told}; slower in {slower} of {of}.")
    } else {
        format!(
            "Line and band: Hodges–Lehmann estimate {told}. Slower in {slower} of {of}. Shaded green: isolated, within {}; \
             amber: degraded, up to {}.",
            percent(d.margins.0),
            percent(d.margins.1),
        )
    };
    let row = |(block, r): &(u32, f64)| {
        let r = if *r == f64::INFINITY {
            "never served beside the neighbour".to_owned()
        } else {
            format!("{}×", ratio(*r))
        };
        vec![block.to_string(), r]
    };
    let (head, body) = match small {
        true => (Vec::new(), Vec::new()),
        false => (vec!["block", "noisy ÷ quiet"], places.into_iter().zip(d.ratios.iter().map(row)).collect()),
    };
    Ok(Figure { kind: "blocks", title, label, sides: false, svg, note, head, body })
}

/// One value of an arm.
type Of = fn(&ArmShown) -> Option<f64>;

/// What is recorded beside the latencies: name, unit, and its values.
const LANES: [(&str, &str, Of); 4] = [
    ("SM clock", "MHz", |a| a.sm_mhz),
    ("power", "W", |a| a.power_w),
    ("held down by the power cap", "%", |a| a.throttled),
    ("neighbour", "/s", |a| a.neighbour_rate),
];

/// Latency over the course of the run, with what was recorded beside it.
pub(super) fn over_time(c: &CellDetail, s: &SeriesDetail) -> Result<Figure, charts::Failed> {
    let lanes = LANES.map(|(name, unit, of)| (name, unit, c.arms.iter().map(|a| or_nan(of(a))).collect::<Vec<f64>>()));
    let absent: Vec<&str> =
        lanes.iter().filter(|(.., values)| !values.iter().any(|v| v.is_finite())).map(|(name, ..)| *name).collect();
    let Drawn { svg, places } = charts::over_time(&TimeChart {
        arms: c.arms.iter().map(|a| (a.at, a.length, a.noisy)).collect(),
        latency: s.over_time.iter().map(|v| v.map(or_nan)).collect(),
        lanes: lanes.to_vec(),
    })?;
    let mut note =
        "Shaded: noisy arms. Strong lines p99, faint ones p50, of each arm. Between them lie the arms of other \
                    neighbours; blocks follow one another in time."
            .to_owned();
    if !absent.is_empty() {
        note.push_str(&format!(" Not recorded: {}.", absent.join(", ")));
    }
    let one = |x: Option<f64>, words: fn(f64) -> String| x.map_or_else(|| NONE.to_owned(), words);
    let body = c.arms.iter().zip(&s.over_time).map(|(a, [p50, p99])| {
        vec![
            a.block.to_string(),
            if a.noisy { "noisy" } else { "quiet" }.to_owned(),
            one(*p50, time),
            one(*p99, time),
            one(a.sm_mhz, |v| format!("{v:.0}")),
            one(a.power_w, |v| format!("{v:.0}")),
            one(a.throttled, percent),
            one(a.neighbour_rate, rate),
        ]
    });
    let [p50, p99] = OVER_TIME.map(|q| q.to_string());
    Ok(Figure {
        kind: "time",
        title: format!("Over the run: {p50} and {p99} of each arm"),
        label: format!(
            "{} arm by arm over the run, {}, with clock, power and the neighbour's rate",
            s.name,
            count(c.arms.len() as u64, "arm")
        ),
        sides: true,
        svg,
        note,
        head: vec!["block", "arm", "p50", "p99", "SM MHz", "power W", "power cap", "neighbour"],
        body: places.into_iter().zip(body).collect(),
    })
}

/// Failed attempts to have memory.
pub(super) fn memory(m: &MemoryHere, name: &str) -> Result<Option<Figure>, charts::Failed> {
    if m.out_of_memory.is_empty() {
        return Ok(None);
    }
    let failures = m.out_of_memory.iter().map(|e| (e.at_ns as f64, e.who == "victim")).collect();
    let of = |who: &str| m.out_of_memory.iter().filter(|e| e.who == who).count();
    let (victim, neighbour) = (of("victim"), of("neighbour"));
    Ok(Some(Figure {
        kind: "memory",
        title: "Failed attempts to have memory".to_owned(),
        label: format!("{name}: {victim} failed attempts of the victim and {neighbour} of the neighbour over time"),
        sides: false,
        svg: charts::memory(&MemoryChart { failures })?.svg,
        note: format!("{victim} of the victim, {neighbour} of the neighbour. Time from the beginning of the try."),
        head: Vec::new(),
        body: Vec::new(),
    }))
}
