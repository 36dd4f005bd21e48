//! The worked example of docs/verdict.md: its numbers and its figure.

use std::fmt::Write as _;

use super::noise::{Bank, Effect, Kind};
use super::trial::{Case, compare_with_docs};
use crate::backend::{ArmKey, Purpose};
use crate::scenario::{Margins, Quantile};
use crate::verdict::{Interval, SeriesVerdict, judge};

const BLOCKS: u32 = 17;
const Q: Quantile = Quantile::P99;
/// Ratios at the left and at the right edge of the figure.
const EDGES: (f64, f64) = (0.9, 1.7);

/// A neighbour that slows everything by 30 %, seen in 17 blocks: p99 of (quiet, noisy) per block in microseconds, and what
/// is said of them.
fn judged() -> (Vec<(f64, f64)>, SeriesVerdict) {
    let bank = Bank::new(Kind::RunToRun, 1_000);
    let run = Case::pair(&bank, BLOCKS, Q, Effect::of(1.3)).run(7);
    let p99 = |block, neighbour| {
        let key = ArmKey { arrangement: 0, grid: 0, block, neighbour, purpose: Purpose::Block };
        run.arms[&key].series["launch"].counts().quantile(Q).unwrap() / 1e3
    };
    let blocks = (0..BLOCKS).map(|block| (p99(block, None), p99(block, Some(0)))).collect();
    (blocks, judge(&run).cells.swap_remove(0).series.swap_remove(0))
}

#[test]
fn the_worked_example() {
    let (blocks, verdict) = judged();
    let mut text = String::from("| block | quiet p99 | noisy p99 | ratio |\n|---|---|---|---|\n");
    for (block, (quiet, noisy)) in blocks.iter().enumerate() {
        let _ = writeln!(text, "| {} | {quiet:.0} µs | {noisy:.0} µs | {:.3} |", block + 1, noisy / quiet);
    }
    let (paired, pooled, ratio) = (verdict.paired.unwrap(), verdict.pooled.unwrap(), verdict.ratio.unwrap());
    let line = |i: Interval| format!("{:.3}, from {:.3} to {:.3}", i.estimate, i.low.unwrap(), i.high.unwrap());
    let _ = write!(
        text,
        "\n- By blocks (Hodges–Lehmann, signed rank): {}.\n\
         - Pooled (all {} quiet against all {} noisy requests, bootstrap over blocks): {}.\n\
         - Together, with the resolution of the histogram: {}.\n\
         - **{}**: the lower bound lies beyond 1.10 and not beyond 1.50.\n",
        line(paired),
        verdict.requests.0,
        verdict.requests.1,
        line(pooled),
        line(ratio),
        verdict.verdict.word(),
    );
    assert_eq!(verdict.verdict.word(), "degraded");
    compare_with_docs("verdict.md", "worked example", &text);

    let path = format!("{}/docs/verdict-example.svg", env!("CARGO_MANIFEST_DIR"));
    let found = figure(&blocks, &verdict);
    if std::env::var_os("CROSSTALK_BLESS").is_some() {
        std::fs::write(&path, found).unwrap();
        return;
    }
    assert!(std::fs::read_to_string(&path).unwrap() == found, "{path} is out of date: run with CROSSTALK_BLESS=1");
}

/// Ratio of every block as a dot, the two intervals and what decides as bars, the margins as lines.
fn figure(blocks: &[(f64, f64)], verdict: &SeriesVerdict) -> String {
    let (width, height) = (640.0, 250.0);
    let x = |ratio: f64| {
        let share = libm::log(ratio / EDGES.0) / libm::log(EDGES.1 / EDGES.0);
        20.0 + share.clamp(0.0, 1.0) * (width - 40.0)
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>Seventeen blocks and their intervals</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let (isolated, violated) = Margins::default().of(Q);
    for (ratio, label) in [(1.0, "1.00"), (1.0 + isolated, "1.10 isolated"), (1.0 + violated, "1.50 violated")] {
        let _ = write!(
            svg,
            "<line x1=\"{0:.1}\" y1=\"20\" x2=\"{0:.1}\" y2=\"225\" stroke=\"#888888\" stroke-dasharray=\"3 3\"/>\n\
             <text x=\"{0:.1}\" y=\"242\" text-anchor=\"middle\" fill=\"#333333\">{label}</text>\n",
            x(ratio)
        );
    }
    for (block, (quiet, noisy)) in blocks.iter().enumerate() {
        let y = 26.0 + 6.5 * block as f64;
        let _ = writeln!(svg, "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#1f6fb2\"/>", x(noisy / quiet));
    }
    let bars = [("by blocks", verdict.paired), ("pooled", verdict.pooled), ("decides", verdict.ratio)];
    for (i, (label, interval)) in bars.into_iter().enumerate() {
        let (interval, y) = (interval.unwrap(), 155.0 + 26.0 * i as f64);
        let (low, high) = (x(interval.low.unwrap()), x(interval.high.unwrap()));
        let _ = write!(
            svg,
            "<line x1=\"{low:.1}\" y1=\"{y}\" x2=\"{high:.1}\" y2=\"{y}\" stroke=\"#b3441e\" stroke-width=\"3\"/>\n\
             <circle cx=\"{:.1}\" cy=\"{y}\" r=\"4\" fill=\"#b3441e\"/>\n\
             <text x=\"24\" y=\"{}\" fill=\"#333333\">{label}</text>\n",
            x(interval.estimate),
            y + 4.0
        );
    }
    svg + "</svg>\n"
}
