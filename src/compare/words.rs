//! The sentences of a comparison.

use super::model::{Change, Comparison, Outcome, QuietState, Size};
use super::runs::LEAST_RUNS;
use super::summary::{Evidence, Group};
use crate::report::count;

/// Most names in one sentence.
const NAMED: usize = 4;

/// What a comparison comes to, in a sentence.
pub(super) fn summary(c: &Comparison) -> String {
    let mut parts = Vec::new();
    let cells =
        |change: Change| c.cells.iter().filter(|cell| cell.change == change).map(|cell| cell.name.clone()).collect();
    let hazards = |change: Change| c.hazards.iter().filter(|h| h.change == change).map(|h| h.name.clone()).collect();
    let series = |of: &dyn Fn(&super::SeriesChange) -> bool| {
        let rows = c.cells.iter().flat_map(|cell| cell.series.iter().map(move |s| (cell, s)));
        rows.filter(|(_, s)| of(s))
            .map(|(cell, s)| format!("{} {} {}", cell.name, s.series, s.quantile))
            .collect::<Vec<_>>()
    };
    let quiet = |state: QuietState| {
        let rows = c.quiet.iter().filter(|q| q.state == state);
        rows.map(|q| format!("{} {} {}", q.place, q.series, q.quantile)).collect::<Vec<_>>()
    };
    let mut say = |names: Vec<String>, what: &str| match names.is_empty() {
        true => {}
        false if what.is_empty() => parts.extend(names),
        false => parts.push(format!("{what} ({})", listed(&names))),
    };
    match c.outcome {
        Outcome::Worse => {
            say(cells(Change::Worse), "cells got worse");
            // Those of cells that got worse themselves are named by them.
            let worse = |name: &str| {
                c.cells.iter().any(|cell| cell.change == Change::Worse && name.starts_with(&format!("{} ", cell.name)))
            };
            let alone = series(&|s| s.change == Change::Worse).into_iter().filter(|name| !worse(name)).collect();
            say(alone, "a verdict of a series got worse");
            say(hazards(Change::Worse), "hazards got worse");
            say(series(&|s| s.size == Size::Grew), "interference grew");
            say(quiet(QuietState::Slower), "quiet levels rose");
        }
        Outcome::Undecided => {
            say(cells(Change::Undecided), "cells that were decided are not any more");
            say(cells(Change::Absent), "cells of the base are not there");
            say(hazards(Change::Undecided), "hazards that were decided are not any more");
            say(hazards(Change::Absent), "hazards of the base are not there");
            if c.cells.is_empty() && c.hazards.is_empty() && c.quiet.is_empty() {
                say(
                    vec!["they have no cell, hazard or quiet level; how many tenants meet is not compared".to_owned()],
                    "",
                );
            }
        }
        Outcome::Unchanged => {
            let same = c.cells.iter().filter(|cell| cell.change == Change::Same).count() as u64;
            say(vec![format!("{} with the same verdict", count(same, "cell"))], "");
            say(cells(Change::Better), "better");
            say(cells(Change::Decided), "decided now");
            say(cells(Change::Added), "not in the base");
            let shrank = series(&|s| s.size == Size::Shrank);
            let sizes = match (c.method.sizes, shrank.len()) {
                (0, _) => "no size of interference could be tested".to_owned(),
                (n, 0) => format!("{} of interference tested, none changed beyond its margin", count(n.into(), "size")),
                (n, _) => format!(
                    "{} of interference tested, none grew, and these shrank: {}",
                    count(n.into(), "size"),
                    listed(&shrank)
                ),
            };
            say(vec![sizes], "");
            let faster = quiet(QuietState::Faster);
            let quiets = match (c.method.quiets, faster.len()) {
                (0, _) => "quiet levels shown, not judged".to_owned(),
                (n, 0) => format!(
                    "{} within what {} predict",
                    count(n.into(), "quiet level"),
                    count(c.base.len() as u64, "run")
                ),
                (n, _) => {
                    format!("{} judged, none rose, and these fell: {}", count(n.into(), "quiet level"), listed(&faster))
                }
            };
            say(vec![quiets], "");
        }
    }
    let word = match c.outcome {
        Outcome::Worse => "Worse",
        Outcome::Undecided => "Not decided",
        Outcome::Unchanged => "No change for the worse",
    };
    format!("{word}: {}.", parts.join("; "))
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// What the judgement means, and what it cannot say.
pub(super) fn notes(base: &Group, new: &Evidence, itself: bool) -> Vec<String> {
    let runs = base.runs.len() as u32;
    let mut notes = vec![
        "A verdict is a fact of its run, and so is another one; near a margin two runs of one truth may differ."
            .to_owned(),
        "A size of interference (noisy ÷ quiet) has changed where the differences of the two runs' blocks, as two independent \
             samples, lie apart by more than the isolated margin of their quantile: rank sum of Wilcoxon, Holm over all tests."
            .to_owned(),
    ];
    if itself {
        notes.push("The new run is one of the baseline's own, and was left out of it.".to_owned());
    }
    notes.push(match runs {
        0 | 1 => "Blocks of one run share its boot and its generations: the test speaks for the noise within these two runs, and \
                  nothing here tells how far two runs of one truth lie apart. A baseline of several runs does."
            .to_owned(),
        2..LEAST_RUNS => format!(
            "Blocks of one run share its boot and its generations. {} show how far runs lie apart; {LEAST_RUNS} would be asked to be \
             surpassed.",
            count(runs.into(), "run")
        ),
        _ => format!(
            "Besides, a changed size must lie outside of what {} of the base predict for one more (t interval).",
            count(runs.into(), "run")
        ),
    });
    if !base.alike.same_place(&new.alike) {
        notes.push("Quiet levels belong to one card and one layout: they are shown, and not judged.".to_owned());
    } else if runs < LEAST_RUNS {
        notes.push(format!(
            "Quiet levels are shown, and not judged: {} of {LEAST_RUNS}.",
            count(runs.into(), "baseline run")
        ));
    } else {
        notes.push(
            "A quiet level has changed where it lies outside of what the base's runs predict for one more (t interval of the \
             logarithms), widened by a quarter of the isolated margin; Holm over all of them."
                .to_owned(),
        );
    }
    notes
}
