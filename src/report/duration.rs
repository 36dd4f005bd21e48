//! How long a plan takes, for `crosstalk check`: by arrangement, what each further victim place adds, against the budget of
//! the tier.

use crate::experiment::{Length, PlaceLength, one_place_each};
use crate::plan::Plan;
use crate::provenance::Provenance;
use crate::units::Nanos;

use super::format::NONE;
use super::text::{Line, Page, Tint};
use super::words;

/// "about 9 min", and of which clock.
pub(super) fn whole(plan: &Plan, places: &[PlaceLength]) -> String {
    let total: Length = places.iter().map(|place| place.length).sum();
    match plan.inventory.provenance {
        _ if total.total() == Nanos::ZERO => "nothing of it runs here".to_owned(),
        // The simulator waits for nothing.
        Provenance::Simulated => format!("about {} on a GPU", total.total().for_people()),
        Provenance::Measured | Provenance::StandIn => format!("about {}", total.total().for_people()),
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
    let curve = |place: &PlaceLength| Some(plan.arrangements.get(place.arrangement)?.density?.curve);
    for of_one in places.chunk_by(|a, b| a.arrangement == b.arrangement || curve(a).is_some() && curve(a) == curve(b)) {
        rows.push(match of_one.first().and_then(curve) {
            Some(curve) => curve_row(plan, curve, of_one),
            None => row(plan, of_one),
        });
    }
    let total: Length = places.iter().map(|place| place.length).sum();
    let all = vec![
        Line::of(Tint::Strong, "in all"),
        Line::of(Tint::Plain, &total.total().for_people()),
        Line::of(Tint::Plain, &parts(total)),
    ];
    rows.push(all);
    page.table(2, 1, &rows);
    if total.early > Nanos::ZERO {
        let text = format!(
            "of which early looks leave out {} at most, where every neighbour is decided at the first one",
            total.early.for_people()
        );
        page.paragraph(Line::of(Tint::Plain, &text), 2, 4);
    }
    if total.stretch > Nanos::ZERO {
        let text = format!(
            "and at most {} more, where calibration finds probes slower than foreseen and lengthens their windows",
            total.stretch.for_people()
        );
        page.paragraph(Line::of(Tint::Plain, &text), 2, 4);
    }
    budget(page, plan, places);
}

/// One curve: the densities that it takes at most.
fn curve_row(plan: &Plan, curve: usize, places: &[PlaceLength]) -> Vec<Line> {
    let length: Length = places.iter().map(|place| place.length).sum();
    let tenants =
        |place: &PlaceLength| plan.arrangements.get(place.arrangement)?.density.map(|d| d.tenants.to_string());
    let each: Vec<String> = places.iter().filter_map(tenants).collect();
    let name = plan.curves.get(curve).map_or(NONE, |curve| curve.name.as_str());
    vec![
        Line::of(Tint::Plain, name),
        Line::of(Tint::Plain, &length.total().for_people()),
        Line::of(Tint::Plain, &format!("at most; tenants: {}", each.join(", "))),
    ]
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
            further.iter().map(|place| format!("at {} {}", seat(place), place.length.total().for_people())).collect();
        text.push_str(&format!("; each further place adds: {}", each.join(", ")));
    }
    vec![
        Line::of(Tint::Plain, name),
        Line::of(Tint::Plain, &first.length.total().for_people()),
        Line::of(Tint::Plain, &text),
    ]
}

fn parts(length: Length) -> String {
    let hazards = match length.hazards {
        Nanos::ZERO => String::new(),
        some => format!(", hazards {}", some.for_people()),
    };
    format!(
        "tenants {}, calibration {}, between windows {}, windows {}, controls {}{hazards}",
        length.tenants.for_people(),
        length.calibration.for_people(),
        length.between.for_people(),
        length.windows.for_people(),
        length.controls.for_people()
    )
}

fn budget(page: &mut Page, plan: &Plan, places: &[PlaceLength]) {
    let (tier, one) = (plan.design.tier, one_place_each(places).total());
    let (budget, tier) = (tier.budget(), words::tier(tier));
    let (what, shorter) = match (plan.all_densities(), plan.curves.is_empty()) {
        (true, _) => ("the search along all curves", "fewer densities, curves or blocks make it shorter"),
        (_, true) => ("one place in each arrangement", "fewer neighbours, probes or arrangements make it shorter"),
        (_, false) => (
            "one place in each arrangement, with the search along all curves",
            "fewer neighbours, probes, arrangements or densities make it shorter",
        ),
    };
    let line = if one <= budget {
        let text = format!("{what}: {} of the {} of {tier}", one.for_people(), budget.for_people());
        Line::of(Tint::Plain, &text)
    } else {
        let text = format!(
            ": {what} takes {}, and {tier} should take {} at most; {shorter}",
            one.for_people(),
            budget.for_people()
        );
        Line::of(Tint::Warn, "OVER BUDGET").with(Tint::Plain, &text)
    };
    page.paragraph(line, 2, 4);
}
