//! A comparison as text for a terminal. What colour says, words say too.

use super::model::{Change, Comparison, Outcome, QuietChange, QuietState, RunShown, SeriesChange, Size};
use crate::report::{Line, NONE, Options, Page, Tint, count, ratio, ratio_interval, time, verdict_word};
use crate::scenario::Quantile;

/// Fewer columns than this hold no table.
pub(super) const LEAST_WIDTH: usize = 60;

/// Characters of a root hash that are shown.
pub(crate) const ROOT: usize = 12;

/// The comparison as text.
pub(super) fn render(c: &Comparison, options: &Options) -> String {
    let mut page = Page::new(options.width.max(LEAST_WIDTH), options.style);
    if let Some(banner) = &c.banner {
        page.paragraph(Line::of(Tint::Warn, banner), 0, 2);
    }
    let tint = match c.outcome {
        Outcome::Unchanged => Tint::Good,
        Outcome::Undecided => Tint::Open,
        Outcome::Worse => Tint::Bad,
    };
    page.paragraph(Line::of(tint, &c.summary), 0, 2);
    page.paragraph(plain(&c.card), 0, 2);
    runs(&mut page, c);
    cells(&mut page, c);
    sizes(&mut page, c);
    quiet(&mut page, c);
    hazards(&mut page, c);
    page.heading("What this can say");
    for note in &c.method.notes {
        page.paragraph(plain(note), 2, 4);
    }
    page.finish()
}

pub(super) fn plain(text: &str) -> Line {
    Line::of(Tint::Plain, text)
}

pub(super) fn faint(text: &str) -> Line {
    Line::of(Tint::Faint, text)
}

/// A run in one line.
pub(super) fn run_words(run: &RunShown) -> String {
    let driver = run.driver.as_ref().map_or_else(String::new, |driver| format!(" · driver {driver}"));
    let root: String = run.root_sha256.chars().take(ROOT).collect();
    format!("{} · {}{driver} · {} · seed {} · root {root}", run.date, run.created_by, run.scenario, run.seed)
}

fn runs(page: &mut Page, c: &Comparison) {
    for (at, run) in c.base.iter().enumerate() {
        let name = if c.base.len() > 1 { format!("base {}: ", at + 1) } else { "base: ".to_owned() };
        page.paragraph(Line::of(Tint::Strong, &name).with(Tint::Plain, &run_words(run)), 0, 2);
    }
    page.paragraph(Line::of(Tint::Strong, "new: ").with(Tint::Plain, &run_words(&c.new)), 0, 2);
    for changed in &c.changed {
        let text = format!("{}: {} → {}", changed.what, changed.base, changed.new);
        page.paragraph(Line::of(Tint::Plain, &text), 2, 4);
    }
    if !c.different.is_empty() {
        page.heading("Unlike, as was allowed");
        for difference in &c.different {
            page.paragraph(Line::of(Tint::Warn, &difference.to_string()), 2, 4);
        }
    }
}

/// The word of a change.
pub(super) const fn change_word(change: Change) -> (&'static str, Tint) {
    match change {
        Change::Same => ("the same", Tint::Good),
        Change::Better => ("better", Tint::Good),
        Change::Worse => ("WORSE", Tint::Bad),
        Change::Decided => ("decided now", Tint::Plain),
        Change::Undecided => ("not decided any more", Tint::Open),
        Change::Open => ("not decided, as before", Tint::Open),
        Change::Absent => ("not there", Tint::Open),
        Change::Added => ("not in the base", Tint::Plain),
    }
}

/// The verdicts of the base, each with its runs where they are several.
pub(super) fn before(base: &[(crate::report::VerdictWord, u32)]) -> String {
    match base {
        [] => NONE.to_owned(),
        [(word, 1)] => word.id().to_owned(),
        all => all.iter().map(|(word, n)| format!("{} ×{n}", word.id())).collect::<Vec<_>>().join(", "),
    }
}

fn cells(page: &mut Page, c: &Comparison) {
    let same = c.cells.iter().filter(|cell| cell.change == Change::Same).count();
    page.heading(&format!("Verdicts: {same} of {} the same", count(c.cells.len() as u64, "cell")));
    let mut rows = Vec::new();
    for cell in &c.cells {
        let (word, tint) = change_word(cell.change);
        let moved: Vec<String> = cell
            .series
            .iter()
            .filter(|s| matches!(s.change, Change::Worse | Change::Better))
            .map(|s| format!("{} {}", name(s), change_of(s)))
            .collect();
        if cell.change == Change::Same && moved.is_empty() {
            continue;
        }
        let mut last = Line::of(tint, word);
        if let Some(why) = &cell.why {
            last.push(Tint::Plain, &format!(": {why}"));
        }
        if !moved.is_empty() {
            last.push(Tint::Plain, &format!("; {}", moved.join(", ")));
        }
        let now = cell.new.map_or_else(|| plain(NONE), verdict_word);
        rows.push(vec![Line::of(Tint::Strong, &cell.name), plain(&before(&cell.base)), now, last]);
    }
    if !rows.is_empty() {
        rows.insert(0, ["cell", "base", "new", ""].map(faint).to_vec());
        page.table(2, 1, &rows);
    }
}

fn name(s: &SeriesChange) -> String {
    format!("{} {}", s.series, s.quantile)
}

fn change_of(s: &SeriesChange) -> String {
    let word = |word: Option<crate::report::VerdictWord>| word.map_or(NONE, |word| word.id());
    format!("{} → {}", word(s.base), word(s.new))
}

fn sizes(page: &mut Page, c: &Comparison) {
    let all = || c.cells.iter().flat_map(|cell| cell.series.iter().map(move |s| (cell, s)));
    let moved = all().filter(|(_, s)| matches!(s.size, Size::Grew | Size::Shrank)).count();
    page.heading(&format!(
        "Sizes of interference, noisy ÷ quiet: {moved} of {} tested {} changed beyond the isolated margin",
        c.method.sizes,
        have(moved),
    ));
    let mut rows = Vec::new();
    for (cell, s) in all().filter(|(_, s)| matches!(s.size, Size::Grew | Size::Shrank)) {
        let (word, tint) = if s.size == Size::Grew { ("GREW", Tint::Bad) } else { ("shrank", Tint::Good) };
        let estimate = |r: &Option<crate::report::Ratio>| r.and_then(|r| r.estimate).map_or(NONE.to_owned(), ratio);
        let mut last = Line::of(tint, word);
        if let Some(shift) = &s.shift {
            let margin = crate::report::percent(shift.margin);
            let text = format!(" {} (margin {margin})", ratio_interval(&shift.ratio));
            last.push(Tint::Plain, &text);
        }
        if let Some(spread) = &s.spread {
            let end = |x: Option<f64>| x.map_or(NONE.to_owned(), ratio);
            let runs = count(spread.runs.into(), "run");
            last.push(Tint::Plain, &format!("; {runs} of the base {} … {}", end(spread.low), end(spread.high)));
        }
        rows.push(vec![
            Line::of(Tint::Strong, &cell.name),
            plain(&name(s)),
            plain(&format!("{}×", estimate(&s.base_ratio))),
            plain(&format!("{}×", estimate(&s.new_ratio))),
            last,
        ]);
    }
    if !rows.is_empty() {
        rows.insert(0, ["cell", "series", "base", "new", "new over base [low high]"].map(faint).to_vec());
        page.table(2, 2, &rows);
    }
    let mut untested: Vec<(&str, u64)> = Vec::new();
    for why in all().filter_map(|(_, s)| s.why.as_deref()) {
        match untested.iter_mut().find(|(other, _)| *other == why) {
            Some((_, n)) => *n += 1,
            None => untested.push((why, 1)),
        }
    }
    for (why, n) in untested {
        page.paragraph(faint(&format!("{n} not tested: {why}")), 2, 4);
    }
}

fn quiet(page: &mut Page, c: &Comparison) {
    let moved = |q: &&QuietChange| matches!(q.state, QuietState::Slower | QuietState::Faster);
    if c.method.quiets > 0 {
        let changed = c.quiet.iter().filter(moved).count();
        page.heading(&format!("Quiet levels: {changed} of {} judged {} changed", c.method.quiets, have(changed)));
        // Those that were judged with something to know are shown, too.
        let noted = |q: &QuietChange| q.state == QuietState::Within && q.why.is_some();
        levels(page, c.quiet.iter().filter(|q| moved(q) || noted(q)), true);
        return;
    }
    // p99.9 of a run that does not judge it is in the JSON.
    let shown = || c.quiet.iter().filter(|q| q.base_ns.is_some() && q.quantile < Quantile::P999);
    let first = shown().next().and_then(|q| q.why.as_deref());
    let same = shown().all(|q| q.why.as_deref() == first);
    let why = first.filter(|_| same).map_or_else(String::new, |why| format!(": {why}"));
    page.heading(&format!("Quiet levels: shown, not judged{why}"));
    levels(page, shown(), !same);
}

const fn have(n: usize) -> &'static str {
    if n == 1 { "has" } else { "have" }
}

/// A row for each level, with what came of it where `told`.
fn levels<'a>(page: &mut Page, shown: impl Iterator<Item = &'a QuietChange>, told: bool) {
    let mut rows = Vec::new();
    for q in shown {
        let mut last = Line::default();
        if told {
            let (word, tint) = state_word(q.state);
            last.push(tint, word);
            if let (Some(low), Some(high)) = (q.low_ns, q.high_ns) {
                last.push(
                    Tint::Plain,
                    &format!(": {} predict {} … {}", count(q.runs.into(), "run"), time(low), time(high)),
                );
            }
            if let Some(why) = &q.why {
                last.push(Tint::Plain, &format!(": {why}"));
            }
        }
        let ns = |ns: Option<f64>| plain(&ns.map_or(NONE.to_owned(), time));
        let over = q.ratio.map_or(NONE.to_owned(), |r| format!("{}×", thousandths(r)));
        let series = format!("{} {}", q.series, q.quantile);
        rows.push(vec![plain(&q.place), plain(&series), ns(q.base_ns), ns(q.new_ns), plain(&over), last]);
    }
    if !rows.is_empty() {
        rows.insert(0, ["place", "series", "base", "new", "new ÷ base", ""].map(faint).to_vec());
        page.table(2, 2, &rows);
    }
}

/// A ratio close to one: two decimals would call half a per cent nothing.
pub(super) fn thousandths(x: f64) -> String {
    if (0.5..2.0).contains(&x) { format!("{x:.3}") } else { ratio(x) }
}

pub(super) const fn state_word(state: QuietState) -> (&'static str, Tint) {
    match state {
        QuietState::Slower => ("ROSE", Tint::Bad),
        QuietState::Faster => ("fell", Tint::Good),
        QuietState::Within => ("within", Tint::Good),
        QuietState::NotJudged => ("not judged", Tint::Faint),
    }
}

fn hazards(page: &mut Page, c: &Comparison) {
    if c.hazards.is_empty() {
        return;
    }
    page.heading("Hazards");
    let mut rows = vec![["hazard", "base", "new", ""].map(faint).to_vec()];
    for h in &c.hazards {
        let (word, tint) = change_word(h.change);
        let text = |t: &Option<String>| plain(t.as_deref().unwrap_or(NONE));
        rows.push(vec![Line::of(Tint::Strong, &h.name), text(&h.base), text(&h.new), Line::of(tint, word)]);
    }
    page.table(2, 1, &rows);
}
