//! One mode against another as text for a terminal.

use super::modes::{ModeCell, Modes};
use super::summary::place_of;
use super::text::{LEAST_WIDTH, faint, plain, run_words, thousandths};
use crate::report::{Line, NONE, Options, Page, Tint, rate, time, verdict_word};

/// The comparison as text for a terminal.
pub(super) fn render(m: &Modes, options: &Options) -> String {
    let mut page = Page::new(options.width.max(LEAST_WIDTH), options.style);
    if let Some(banner) = &m.banner {
        page.paragraph(Line::of(Tint::Warn, banner), 0, 2);
    }
    page.paragraph(Line::of(Tint::Strong, &m.summary), 0, 2);
    page.paragraph(plain(&m.card), 0, 2);
    for side in [&m.a, &m.b] {
        let text = format!(": {} ({}) · {}", side.sharing, side.seats.join(", "), run_words(&side.run));
        page.paragraph(Line::of(Tint::Strong, &side.arrangement).with(Tint::Plain, &text), 0, 2);
    }
    for difference in &m.different {
        page.paragraph(Line::of(Tint::Warn, &format!("unlike, as was allowed: {difference}")), 2, 4);
    }
    lone(&mut page, m);
    for cell in &m.cells {
        beside(&mut page, m, cell);
    }
    if !m.hazards.is_empty() {
        page.heading("Hazards");
        let mut rows = vec![["hazard", m.a.arrangement.as_str(), m.b.arrangement.as_str()].map(faint).to_vec()];
        rows.extend(m.hazards.iter().map(|h| vec![Line::of(Tint::Strong, &h.hazard), plain(&h.a), plain(&h.b)]));
        page.table(2, 1, &rows);
    }
    page.heading("What this can say");
    for note in &m.notes {
        page.paragraph(plain(note), 2, 4);
    }
    page.finish()
}

fn ns(ns: Option<f64>) -> Line {
    plain(&ns.map_or(NONE.to_owned(), time))
}

fn times(ratio: Option<f64>) -> Line {
    plain(&ratio.map_or(NONE.to_owned(), |r| format!("{}×", thousandths(r))))
}

fn per_s(per_second: Option<f64>) -> String {
    per_second.map_or(NONE.to_owned(), rate)
}

/// What a tenant has beside a quiet neighbour.
fn lone(page: &mut Page, m: &Modes) {
    let (a, b) = (m.a.arrangement.as_str(), m.b.arrangement.as_str());
    page.heading("Alone: beside a quiet neighbour");
    let costs = m.lone.iter().any(|l| l.exclusive_ns.is_some());
    let mut head = vec![faint("series"), faint(""), faint(a), faint(b), faint(&format!("{b} ÷ {a}"))];
    if costs {
        head.extend([faint(&format!("{a} ÷ exclusive")), faint(&format!("{b} ÷ exclusive"))]);
    }
    head.push(faint("capacity"));
    let mut rows = vec![head];
    let several = m.lone.iter().any(|l| l.place != m.lone[0].place);
    let mut last = ("", "");
    for l in &m.lone {
        let first = (l.place.as_str(), l.series.as_str()) != last;
        last = (&l.place, &l.series);
        let name = if several { format!("{} {}", l.place, l.series) } else { l.series.clone() };
        let mut row = vec![
            plain(if first { &name } else { "" }),
            plain(&l.quantile.to_string()),
            ns(l.a_ns),
            ns(l.b_ns),
            times(l.ratio),
        ];
        if costs {
            row.extend([times(l.a_cost), times(l.b_cost)]);
        }
        let capacity = l.a_capacity.is_some() || l.b_capacity.is_some();
        row.push(plain(&if first && capacity {
            format!("{}, {}", per_s(l.a_capacity), per_s(l.b_capacity))
        } else {
            String::new()
        }));
        rows.push(row);
    }
    page.table(2, 1, &rows);
}

/// What the victim and its neighbour have beside each other.
fn beside(page: &mut Page, m: &Modes, cell: &ModeCell) {
    let (a, b) = (m.a.arrangement.as_str(), m.b.arrangement.as_str());
    page.gap();
    let mut line = Line::of(Tint::Strong, &format!("Beside {}", cell.neighbour));
    for (gap, name, side) in [(": ", a, &cell.a), ("; ", b, &cell.b)] {
        // Of several places of the victim the cell says which.
        let name = side.as_ref().map_or(name, |v| place_of(&v.cell));
        line.push(Tint::Plain, &format!("{gap}{name} "));
        match side {
            Some(v) => line.append(verdict_word(v.verdict)),
            None => line.push(Tint::Faint, "not there"),
        }
        if let Some(why) = side.as_ref().and_then(|v| v.why.as_ref()) {
            line.push(Tint::Plain, &format!(" ({why})"));
        }
        if let Some(served) = side.as_ref().and_then(|v| v.neighbour_served) {
            line.push(Tint::Faint, &format!(", neighbour {}", rate(served)));
        }
    }
    page.paragraph(line, 0, 2);
    let mut rows = vec![["series", "", a, b, &format!("{b} ÷ {a}"), "served"].map(faint).to_vec()];
    for s in &cell.series {
        if s.quantiles.is_empty() {
            rows.push(vec![plain(&s.series), faint("too few requests")]);
        }
        for (at, q) in s.quantiles.iter().enumerate() {
            let unserved = |n: u64| if n > 0 { format!(" ({n} never)") } else { String::new() };
            let served = format!(
                "{}{}, {}{}",
                per_s(s.a_served),
                unserved(s.a_unserved),
                per_s(s.b_served),
                unserved(s.b_unserved)
            );
            rows.push(vec![
                plain(if at == 0 { &s.series } else { "" }),
                plain(&q.quantile.to_string()),
                ns(q.a_ns),
                ns(q.b_ns),
                times(q.ratio),
                plain(if at == 0 { &served } else { "" }),
            ]);
        }
    }
    page.table(2, 1, &rows);
}
