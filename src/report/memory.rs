//! Who could take how much memory, and who ran out of it when: a part of a hazard's report.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backend::Outcome;
use crate::hazard::{Capacity, Disagreement, Reach, Seen, Step};
use crate::units::Bytes;

use super::format::{NONE, count, time};
use super::text::{Line, Page, Tint};

/// Lines of the terminal's timeline for each side, so that the one that fails often hides not the other; the JSON report has all.
const SHOWN: usize = 4;

/// The memory of both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryHere {
    /// What the victim declared to need, bytes.
    pub budget: u64,
    /// The victim's.
    pub victim: Took,
    /// The neighbour's.
    pub neighbour: Took,
    /// Failed attempts of both, in order.
    pub out_of_memory: Vec<OutOfMemory>,
    /// Allocations refused although the driver called enough free: it was not to be had in one piece.
    pub fragmented: u64,
    /// Where what a tenant sees and what NVML says differ, a sentence each.
    pub disagreements: Vec<String>,
}

/// What one side could take, bytes; `null`: not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Took {
    /// What its place promises; `null`: nothing.
    pub promised: Option<u64>,
    /// In pieces, with the other away.
    pub alone: Option<u64>,
    /// In one piece, with the other away.
    pub alone_in_one: Option<u64>,
    /// In pieces, beside the other.
    pub beside: Option<u64>,
    /// In one piece, beside the other.
    pub beside_in_one: Option<u64>,
}

/// An attempt to have memory that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutOfMemory {
    /// "victim" or "neighbour".
    pub who: String,
    /// When, from the beginning of the try, nanoseconds.
    pub at_ns: u64,
    /// What it was for.
    pub step: Step,
    /// Bytes asked for; of a context 0.
    pub asked: u64,
    /// Free as it saw it just after; `null`: not known.
    pub free: Option<u64>,
    /// All memory as it saw it; `null`: not known.
    pub total: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
}

/// The part of the model.
pub(super) fn of(c: &Capacity) -> MemoryHere {
    let took = |promised: Option<u64>, alone: Option<Reach>, beside: Option<Reach>| Took {
        promised,
        alone: alone.map(|reach| reach.total),
        alone_in_one: alone.map(|reach| reach.largest),
        beside: beside.map(|reach| reach.total),
        beside_in_one: beside.map(|reach| reach.largest),
    };
    let refused = |r: crate::hazard::Refused| OutOfMemory {
        who: r.who.word().to_owned(),
        at_ns: r.at.0,
        step: r.step,
        asked: r.asked,
        free: r.free,
        total: r.total,
        outcome: r.outcome,
    };
    MemoryHere {
        budget: c.budget,
        victim: took(c.promised[0], c.victim_alone, c.victim_beside),
        neighbour: took(c.promised[1], c.neighbour_alone, c.neighbour_beside),
        out_of_memory: c.timeline().into_iter().map(refused).collect(),
        fragmented: c.fragmentation().refused,
        disagreements: c.disagreements().iter().map(|d| disagreement(c, d)).collect(),
    }
}

fn disagreement(c: &Capacity, d: &Disagreement) -> String {
    let what = match d.of {
        Seen::Total => "all memory is",
        Seen::Used => "in use are",
        Seen::Held => "held are",
    };
    let when = c.views.get(d.view).map_or_else(String::new, |view| format!(" of seat {}, {}", view.seat, view.when));
    format!("{what} {} by the tenant{when}, and {} by NVML", people(d.inside), people(d.nvml))
}

pub(super) fn people(bytes: u64) -> String {
    Bytes(bytes).for_people()
}

/// "asked for 64.00 MiB more: out of memory; it saw 0.00 MiB of 79.65 GiB free".
pub(super) fn attempt(event: &OutOfMemory) -> String {
    let what = match event.step {
        Step::Context => "its context".to_owned(),
        Step::Budget => format!("{} of its budget", people(event.asked)),
        Step::Work => format!("{} to work in", people(event.asked)),
        Step::Take => format!("{} more", people(event.asked)),
    };
    let how = match event.outcome {
        Outcome::Oom => "out of memory".to_owned(),
        Outcome::Error(code) => format!("error {code}"),
        other => format!("{other:?}"),
    };
    let free = match (event.free, event.total) {
        (Some(free), Some(total)) => format!("; it saw {} of {} free", people(free), people(total)),
        _ => String::new(),
    };
    format!("asked for {what}: {how}{free}")
}

/// The part of the terminal's text.
pub(super) fn section(page: &mut Page, name: &str, m: &MemoryHere) {
    page.heading(&format!("Memory, {name}"));
    let known = |bytes: Option<u64>| bytes.map_or_else(|| NONE.to_owned(), people);
    let row = |who: &str, t: &Took| {
        let promised = t.promised.map_or_else(|| "nothing".to_owned(), people);
        [who, &promised, &known(t.alone), &known(t.alone_in_one), &known(t.beside), &known(t.beside_in_one)]
            .map(|text| Line::of(Tint::Plain, text))
            .to_vec()
    };
    let head = ["", "promised", "alone", "in one piece", "beside the other", "in one piece"];
    let rows = vec![
        head.map(|text| Line::of(Tint::Faint, text)).to_vec(),
        row("victim could take", &m.victim),
        row("neighbour could take", &m.neighbour),
    ];
    page.table(2, 1, &rows);
    let (mut shown, mut of_each) = (0, std::collections::BTreeMap::new());
    for event in &m.out_of_memory {
        let seen: &mut usize = of_each.entry(event.who.as_str()).or_default();
        *seen += 1;
        if *seen > SHOWN {
            continue;
        }
        shown += 1;
        let tint = if event.who == "victim" { Tint::Bad } else { Tint::Plain };
        let line = Line::of(Tint::Faint, &format!("{} ", time(event.at_ns as f64)))
            .with(tint, &event.who)
            .with(Tint::Plain, &format!(" {}", attempt(event)));
        page.paragraph(line, 2, 4);
    }
    if let Some(more) = m.out_of_memory.len().checked_sub(shown).filter(|more| *more > 0) {
        page.paragraph(Line::of(Tint::Faint, &format!("and {more} more, in the JSON report")), 2, 4);
    }
    if m.fragmented > 0 {
        let text =
            format!("refused although enough was free, but not in one piece: {}", count(m.fragmented, "allocation"));
        page.paragraph(Line::of(Tint::Plain, &text), 2, 4);
    }
    for text in &m.disagreements {
        page.paragraph(Line::of(Tint::Warn, "disagreement: ").with(Tint::Plain, text), 2, 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Style;

    fn event(who: &str, at_ns: u64) -> OutOfMemory {
        let (asked, free, total) = (1 << 30, Some(1 << 20), Some(80 << 30));
        OutOfMemory { who: who.to_owned(), at_ns, step: Step::Take, asked, free, total, outcome: Outcome::Oom }
    }

    #[test]
    fn a_side_that_fails_often_does_not_hide_the_other() {
        let mut out_of_memory: Vec<OutOfMemory> = (0..50).map(|n| event("neighbour", 1_000 + n)).collect();
        out_of_memory.push(event("victim", 9_000));
        let memory = MemoryHere {
            budget: 1 << 30,
            victim: Took::default(),
            neighbour: Took::default(),
            out_of_memory,
            fragmented: 1,
            disagreements: Vec::new(),
        };
        let mut page = Page::new(120, Style::Plain);
        section(&mut page, "ts/ramp", &memory);
        let text = page.finish();
        assert_eq!(text.matches("neighbour asked for").count(), SHOWN, "{text}");
        assert!(
            text.contains("9 µs victim asked for 1.00 GiB more: out of memory; it saw 1.00 MiB of 80.00 GiB free"),
            "{text}"
        );
        assert!(text.contains("and 46 more") && text.contains("not in one piece: 1 allocation\n"), "{text}");
    }
}
