//! Comparisons as Markdown, for a pull request or a job's summary.

use std::fmt::Write as _;

use super::model::{Change, Comparison, QuietState, Size};
use super::modes::Modes;
use super::text::{before, change_word, run_words, state_word, thousandths};
use crate::report::{NONE, Ratio, count, prose, rate, ratio, ratio_interval, time};

/// Rows of a table, each cell escaped.
fn table(out: &mut String, head: &[&str], rows: &[Vec<String>]) {
    if rows.is_empty() {
        return;
    }
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    out.push_str(&line(head.iter().map(|cell| prose(cell)).collect()));
    out.push_str(&line(head.iter().map(|_| "---".to_owned()).collect()));
    for row in rows {
        out.push_str(&line(row.iter().map(|cell| prose(cell)).collect()));
    }
    out.push('\n');
}

fn opening(banner: Option<&str>, title: &str, summary: &str, card: &str) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    if let Some(banner) = banner {
        let _ = write!(out, "> **{}**\n\n", prose(banner));
    }
    let _ = write!(out, "## {}\n\n**{}**\n\n{}\n\n", prose(title), prose(summary), prose(card));
    out
}

fn notes(out: &mut String, notes: &[String]) {
    out.push_str("<details><summary>What this can say</summary>\n\n");
    for note in notes {
        let _ = writeln!(out, "- {}", prose(note));
    }
    out.push_str("\n</details>\n");
}

/// A new run against a base.
pub(super) fn comparison(c: &Comparison) -> String {
    let mut out = opening(c.banner.as_deref(), "crosstalk: compared with the base", &c.summary, &c.card);
    for run in &c.base {
        let _ = writeln!(out, "- base: {}", prose(&run_words(run)));
    }
    let _ = writeln!(out, "- new: {}", prose(&run_words(&c.new)));
    for changed in &c.changed {
        let _ = writeln!(out, "- {}: {} → {}", prose(&changed.what), prose(&changed.base), prose(&changed.new));
    }
    for difference in &c.different {
        let _ = writeln!(out, "- unlike, as was allowed: {}", prose(&difference.to_string()));
    }
    out.push('\n');
    let rows = c
        .cells
        .iter()
        .filter(|cell| cell.change != Change::Same || cell.series.iter().any(|s| s.change == Change::Worse));
    let rows: Vec<Vec<String>> = rows
        .map(|cell| {
            let worse = cell.series.iter().filter(|s| s.change == Change::Worse);
            let worse: Vec<String> = worse.map(|s| format!("{} {}", s.series, s.quantile)).collect();
            let more = if worse.is_empty() { String::new() } else { format!(" (worse: {})", worse.join(", ")) };
            let why = cell.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            let now = cell.new.map_or(NONE, |word| word.id()).to_owned();
            vec![cell.name.clone(), before(&cell.base), now, format!("{}{why}{more}", change_word(cell.change).0)]
        })
        .collect();
    table(&mut out, &["cell", "base", "new", "change"], &rows);
    let one = |r: &Option<Ratio>| r.and_then(|r| r.estimate).map_or(NONE.to_owned(), |x| format!("{}×", ratio(x)));
    let rows: Vec<Vec<String>> = c
        .cells
        .iter()
        .flat_map(|cell| cell.series.iter().map(move |s| (cell, s)))
        .filter(|(_, s)| matches!(s.size, Size::Grew | Size::Shrank))
        .map(|(cell, s)| {
            let word = if s.size == Size::Grew { "grew" } else { "shrank" };
            let shift = s.shift.as_ref().map_or(NONE.to_owned(), |shift| ratio_interval(&shift.ratio));
            vec![
                cell.name.clone(),
                format!("{} {}", s.series, s.quantile),
                one(&s.base_ratio),
                one(&s.new_ratio),
                shift,
                word.to_owned(),
            ]
        })
        .collect();
    table(&mut out, &["cell", "series", "base", "new", "new over base", "interference"], &rows);
    let ns = |ns: Option<f64>| ns.map_or(NONE.to_owned(), time);
    let rows: Vec<Vec<String>> = c
        .quiet
        .iter()
        .filter(|q| {
            matches!(q.state, QuietState::Slower | QuietState::Faster) || c.method.quiets == 0 && q.base_ns.is_some()
        })
        .map(|q| {
            let over = q.ratio.map_or(NONE.to_owned(), |r| format!("{}×", thousandths(r)));
            let word = format!(
                "{}{}",
                state_word(q.state).0,
                q.why.as_ref().map_or_else(String::new, |why| format!(": {why}"))
            );
            vec![q.place.clone(), format!("{} {}", q.series, q.quantile), ns(q.base_ns), ns(q.new_ns), over, word]
        })
        .collect();
    table(&mut out, &["place", "series, quiet", "base", "new", "new ÷ base", "level"], &rows);
    let rows: Vec<Vec<String>> = c
        .hazards
        .iter()
        .map(|h| {
            let text = |t: &Option<String>| t.clone().unwrap_or_else(|| NONE.to_owned());
            vec![h.name.clone(), text(&h.base), text(&h.new), change_word(h.change).0.to_owned()]
        })
        .collect();
    table(&mut out, &["hazard", "base", "new", "change"], &rows);
    notes(&mut out, &c.method.notes);
    out
}

/// One mode against another.
pub(super) fn modes(m: &Modes) -> String {
    let (a, b) = (&m.a.arrangement, &m.b.arrangement);
    let mut out = opening(m.banner.as_deref(), &format!("crosstalk: {a} against {b}"), &m.summary, &m.card);
    let ns = |ns: Option<f64>| ns.map_or(NONE.to_owned(), time);
    let over = |r: Option<f64>| r.map_or(NONE.to_owned(), |r| format!("{}×", thousandths(r)));
    let rows: Vec<Vec<String>> = m
        .lone
        .iter()
        .map(|l| {
            vec![
                l.series.clone(),
                l.quantile.to_string(),
                ns(l.a_ns),
                ns(l.b_ns),
                over(l.ratio),
                over(l.a_cost),
                over(l.b_cost),
            ]
        })
        .collect();
    let head = ["alone", "", a.as_str(), b.as_str(), "second ÷ first", "first ÷ exclusive", "second ÷ exclusive"];
    table(&mut out, &head, &rows);
    for cell in &m.cells {
        let word =
            |side: &Option<super::modes::ModeVerdict>| side.as_ref().map_or(NONE, |side| side.verdict.id()).to_owned();
        let _ = write!(
            out,
            "**{}**: {} {}, {} {}\n\n",
            prose(&cell.neighbour),
            prose(a),
            prose(&word(&cell.a)),
            prose(b),
            prose(&word(&cell.b))
        );
        let per_s = |r: Option<f64>| r.map_or(NONE.to_owned(), rate);
        let rows: Vec<Vec<String>> = cell
            .series
            .iter()
            .map(|s| {
                let quantiles = s.quantiles.iter().map(|q| format!("{} {} / {}", q.quantile, ns(q.a_ns), ns(q.b_ns)));
                vec![
                    s.series.clone(),
                    quantiles.collect::<Vec<_>>().join(", "),
                    format!("{} / {}", per_s(s.a_served), per_s(s.b_served)),
                ]
            })
            .collect();
        table(&mut out, &["series", "latency, first / second", "served, first / second"], &rows);
    }
    let rows: Vec<Vec<String>> = m.hazards.iter().map(|h| vec![h.hazard.clone(), h.a.clone(), h.b.clone()]).collect();
    table(&mut out, &["hazard", a, b], &rows);
    let _ = writeln!(out, "{} compared.\n", count(m.cells.len() as u64, "neighbour"));
    notes(&mut out, &m.notes);
    out
}
