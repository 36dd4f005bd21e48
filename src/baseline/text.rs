//! A baseline as text for a terminal.

use std::collections::BTreeMap;

use super::Baseline;
use crate::compare::{Group, LEAST_RUNS, ROOT};
use crate::report::{Line, Options, Page, Tint, count, percent, time};
use crate::scenario::Quantile;

/// The baseline as text.
pub(super) fn render(baseline: &Baseline, options: &Options) -> String {
    let mut page = Page::new(options.width.max(60), options.style);
    if let Some(banner) = &baseline.banner {
        page.paragraph(Line::of(Tint::Warn, banner), 0, 2);
    }
    for set in &baseline.sets {
        group(&mut page, set);
    }
    page.finish()
}

fn group(page: &mut Page, set: &Group) {
    let alike = &set.alike;
    page.heading(&format!("{} · {}", alike.model.name, alike.uuid));
    let plain = |text: &str| Line::of(Tint::Plain, text);
    let instances = if alike.layout.instances.is_empty() {
        String::new()
    } else {
        format!("; instances {}", alike.layout.instances.join(", "))
    };
    let arrangements: Vec<String> = alike
        .layout
        .arrangements
        .iter()
        .map(|(name, shares)| format!("{name} ({}: {})", shares.sharing, shares.seats.join(", ")))
        .collect();
    page.paragraph(plain(&format!("{}{instances}", arrangements.join("; "))), 2, 4);
    let (sizes, cells) = (&alike.tier, alike.scenario.cells.len() as u64);
    page.paragraph(
        plain(&format!("{}, {}, {}", count(cells, "cell"), sizes.tier, count(sizes.blocks.into(), "block"))),
        2,
        4,
    );
    let runs = set.runs.len() as u32;
    let (tint, text) = match runs {
        0..LEAST_RUNS => (
            Tint::Warn,
            format!(
                "{} of {LEAST_RUNS}: quiet levels of a new run are shown, and not judged",
                count(runs.into(), "run")
            ),
        ),
        _ => (Tint::Good, format!("{}: quiet levels of a new run are judged", count(runs.into(), "run"))),
    };
    page.paragraph(Line::of(tint, &text), 2, 4);
    let faint = |text: &str| Line::of(Tint::Faint, text);
    let mut rows = vec![["date", "driver", "taken by", "root", "cells"].map(faint).to_vec()];
    for run in &set.runs {
        let mut words: BTreeMap<&str, u32> = BTreeMap::new();
        for cell in &run.cells {
            *words.entry(cell.verdict.id()).or_default() += 1;
        }
        let words: Vec<String> = words.into_iter().map(|(word, n)| format!("{n} {word}")).collect();
        let root: String = run.root_sha256.chars().take(ROOT).collect();
        let driver = run.driver.as_deref().unwrap_or("–");
        rows.push(
            [run.date.to_string().as_str(), driver, &run.created_by, &root, &words.join(", ")].map(plain).to_vec(),
        );
    }
    page.table(2, 0, &rows);
    let mut rows = vec![["place", "series, quiet", "lowest", "highest", "spread"].map(faint).to_vec()];
    for quiet in set.runs.last().iter().flat_map(|run| &run.quiet) {
        for quantile in quiet.levels.iter().map(|l| l.quantile).filter(|q| alike.tier.judged.contains(q)) {
            let values = levels(set, &quiet.place, &quiet.series, quantile);
            let (Some(low), Some(high)) =
                (values.iter().copied().min_by(f64::total_cmp), values.iter().copied().max_by(f64::total_cmp))
            else {
                continue;
            };
            let series = format!("{} {quantile}", quiet.series);
            rows.push(
                [quiet.place.as_str(), &series, &time(low), &time(high), &percent(high / low - 1.0)]
                    .map(plain)
                    .to_vec(),
            );
        }
    }
    page.table(2, 2, &rows);
}

/// A quiet level in every run that has it, nanoseconds.
fn levels(set: &Group, place: &str, series: &str, quantile: Quantile) -> Vec<f64> {
    let quiet = set.runs.iter().flat_map(|run| &run.quiet).filter(|q| q.place == place && q.series == series);
    quiet.flat_map(|q| &q.levels).filter(|l| l.quantile == quantile).filter_map(|l| l.ns).collect()
}
