//! A load of the user's that the victim cannot serve: the finding is "saturated", never a latency that passes.

use crosstalk::backend::sim::Simulator;
use crosstalk::verdict::{Reason, Verdict};

use crate::support::{cell, model, scenario_text, simulate};

/// Verdicts of `compute` (100 µs a request: 10 000/s at most) at `rate` beside the placebo and a hog under `sharing`.
fn at(rate: &str, sharing: &str) -> crosstalk::verdict::RunVerdict {
    let panel = [format!("{{ probe = \"compute\", arrivals = {{ poisson = \"{rate}\" }} }}")];
    let neighbours = [r#"{ noise = "idle" }"#, r#"{ noise = "issue-hog" }"#];
    // Near its service the slowest requests come in bunches: over seventeen blocks too few of those are beyond the p99.
    let text = scenario_text("blocks = 34\nwindow = \"100ms\"", &panel, &neighbours, sharing);
    let model = model("h100-sxm");
    simulate(&text, &Simulator::new(model, None), model, None).1
}

#[test]
fn a_load_beyond_its_service_alone_is_a_backlog_everywhere() {
    let verdict = at("12000/s", "sharing = \"mig\"\nlayout = [\"3g.40gb\", \"3g.40gb\"]");
    for name in ["a/idle", "a/issue-hog"] {
        for s in &cell(&verdict, name).series {
            assert_eq!(s.verdict, Verdict::Inconclusive { reason: Reason::Backlog }, "{name}: {s:#?}");
        }
    }
}

#[test]
fn a_load_that_only_the_neighbour_pushes_beyond_its_service_is_violated_as_saturated() {
    // Half of the issue slots serve 5 000/s.
    let verdict = at("7000/s", "sharing = \"mps\"\nlayout = [{}, {}]");
    assert_eq!(cell(&verdict, "a/idle").verdict.word(), "isolated");
    let noisy = cell(&verdict, "a/issue-hog");
    assert_eq!(noisy.verdict.word(), "violated");
    for s in &noisy.series {
        let cause = s.cause.as_ref().unwrap();
        assert_eq!(cause.word, "saturated", "{s:#?}");
        assert!(cause.text.contains("requests/s served"), "{}", cause.text);
    }
}
