//! How long a plan takes, for `crosstalk check`: by arrangement, what each further victim place adds, against the budget of
//! the tier.

use crate::experiment::{Length, PlaceLength, one_place_each};
use crate::plan::Plan;
use crate::provenance::Provenance;
use crate::units::Nanos;

use super::format::{self, NONE};
use super::text::{Line, Page, Tint};
use super::words;

/// "about 9 min", and of which clock.
pub(super) fn whole(plan: &Plan, places: &[PlaceLength]) -> String {
    let total: Length = places.iter().map(|place| place.length).sum();
    match plan.inventory.provenance {
        // The simulator waits for nothing.
        Provenance::Simulated => format!("about {} on a GPU", format::duration(total.total())),
        Provenance::Measured | Provenance::StandIn => format!("about {}", format::duration(total.total())),
    }
}

/// The section of `check`.
pub(super) fn section(page: &mut Page, plan: &Plan, places: &[PlaceLength]) {
    if places.is_empty() {
        return;
    }
    page.heading(match plan.inventory.provenance {
        Provenance::Simulated => "Duration (on a GPU)",
        Provenance::Measured | Provenance::StandIn => "Duration",
    });
    let mut rows: Vec<Vec<Line>> = Vec::new();
    for of_one in places.chunk_by(|a, b| a.arrangement == b.arrangement) {
        rows.push(row(plan, of_one));
    }
    let total: Length = places.iter().map(|place| place.length).sum();
    let all = vec![
        Line::of(Tint::Strong, "in all"),
        Line::of(Tint::Plain, &duration(total.total())),
        Line::of(Tint::Plain, &parts(total)),
    ];
    rows.push(all);
    page.table(2, 1, &rows);
    if total.early > Nanos::ZERO {
        let text = format!(
            "of which early looks leave out {} at most, where every neighbour is decided at the first one",
            duration(total.early)
        );
        page.paragraph(Line::of(Tint::Plain, &text), 2, 4);
    }
    if total.stretch > Nanos::ZERO {
        let text = format!(
            "and at most {} more, where calibration finds probes slower than foreseen and lengthens their windows",
            duration(total.stretch)
        );
        page.paragraph(Line::of(Tint::Plain, &text), 2, 4);
    }
    budget(page, plan, places);
}

/// One arrangement: its first place, and what each further one adds.
fn row(plan: &Plan, places: &[PlaceLength]) -> Vec<Line> {
    let seat = |place: &PlaceLength| {
        let seats = plan.arrangements.get(place.arrangement).map(|a| a.seats.as_slice()).unwrap_or_default();
        seats.get(place.victim).map_or_else(|| NONE.to_owned(), |s| s.id.clone())
    };
    let Some((first, further)) = places.split_first() else { return Vec::new() };
    let name = plan.arrangements.get(first.arrangement).map_or(NONE, |a| a.name.as_str());
    let mut text = format!("with the victim at {}", seat(first));
    if !further.is_empty() {
        let each: Vec<String> =
            further.iter().map(|place| format!("at {} {}", seat(place), duration(place.length.total()))).collect();
        text.push_str(&format!("; each further place adds: {}", each.join(", ")));
    }
    vec![
        Line::of(Tint::Plain, name),
        Line::of(Tint::Plain, &duration(first.length.total())),
        Line::of(Tint::Plain, &text),
    ]
}

fn parts(length: Length) -> String {
    let hazards = match length.hazards {
        Nanos::ZERO => String::new(),
        some => format!(", hazards {}", duration(some)),
    };
    format!(
        "tenants {}, calibration {}, between windows {}, windows {}, controls {}{hazards}",
        duration(length.tenants),
        duration(length.calibration),
        duration(length.between),
        duration(length.windows),
        duration(length.controls)
    )
}

fn budget(page: &mut Page, plan: &Plan, places: &[PlaceLength]) {
    let (tier, one) = (plan.design.tier, one_place_each(places).total());
    let (budget, tier) = (tier.budget(), words::tier(tier));
    let line = if one <= budget {
        let text = format!("one place in each arrangement: {} of the {} of {tier}", duration(one), duration(budget));
        Line::of(Tint::Plain, &text)
    } else {
        let text = format!(
            ": one place in each arrangement takes {}, and {tier} should take {} at most; fewer neighbours, probes or \
             arrangements make it shorter",
            duration(one),
            duration(budget)
        );
        Line::of(Tint::Warn, "OVER BUDGET").with(Tint::Plain, &text)
    };
    page.paragraph(line, 2, 4);
}

/// "9 min 24 s", so that what a budget leaves is seen; hours as everywhere.
fn duration(n: Nanos) -> String {
    let secs = n.0.div_ceil(1_000_000_000);
    match (secs / 60, secs % 60) {
        (0, s) => format!("{s} s"),
        (min @ 1..=59, 0) => format!("{min} min"),
        (min @ 1..=59, s) => format!("{min} min {s} s"),
        _ => format::duration(n),
    }
}
