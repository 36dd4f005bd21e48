//! The built-in quickstart: what it promises in the README.

use crosstalk::backend::sim::Simulator;
use crosstalk::verdict::{RequirementState, RunVerdict};

use crate::support::{cell, model, series, simulate};

/// One word per cell and per series × quantile.
fn words(verdict: &RunVerdict) -> Vec<String> {
    let mut words = Vec::new();
    for cell in &verdict.cells {
        words.push(format!("{} {}", cell.name, cell.verdict.word()));
        words.extend(
            cell.series.iter().map(|s| format!("{} {} {} {}", cell.name, s.series, s.quantile, s.verdict.word())),
        );
    }
    words
}

fn quickstart(seed: u64) -> RunVerdict {
    let (_, text) = crosstalk::scenario::load("quickstart").unwrap();
    let model = model("h100-sxm");
    simulate(&text, &Simulator::new(model, None), model, Some(seed)).1
}

#[test]
fn time_slicing_mps_and_mig_come_out_as_physics_says() {
    let verdict = quickstart(1);
    assert_eq!(verdict.requirement, RequirementState::Met);
    assert!(
        verdict.cells.iter().all(|c| c.surprises.is_empty()),
        "{:?}",
        verdict.cells.iter().map(|c| &c.surprises).collect::<Vec<_>>()
    );

    let is = |name: &str, word: &str| {
        let cell = cell(&verdict, name);
        assert_eq!(cell.verdict.word(), word, "{name}: {:#?}", cell.series);
    };
    for arrangement in ["mig", "mps", "time-slicing"] {
        is(&format!("{arrangement}/idle"), "isolated");
    }
    for neighbour in ["compute-burst", "hbm-read", "l2-thrash"] {
        is(&format!("mig/{neighbour}"), "isolated");
        is(&format!("time-slicing/{neighbour}"), "violated");
        let sliced = cell(&verdict, &format!("time-slicing/{neighbour}"));
        let worst = &sliced.series[sliced.worst.unwrap()];
        assert_eq!(worst.cause.as_ref().map(|c| c.word.as_str()), Some("turns"), "{neighbour}");
    }
    let hbm = cell(&verdict, "mps/hbm-read");
    assert!(matches!(hbm.verdict.word(), "violated" | "degraded"), "MPS does not protect memory bandwidth");

    let membar = cell(&verdict, "mig/membar-storm");
    assert_ne!(series(membar, "strong-chase", "p50").verdict.word(), "isolated", "barriers cross instances");
    for quantile in ["p50", "p99"] {
        assert_eq!(
            series(membar, "weak-chase", quantile).verdict.word(),
            "isolated",
            "weak loads do not order against them"
        );
    }
    let pcie = cell(&verdict, "mig/d2h");
    assert_ne!(pcie.verdict.word(), "isolated", "MIG does not partition PCIe");
}

#[test]
fn another_seed_gives_other_samples_and_the_same_verdicts() {
    let reference = words(&quickstart(1));
    for seed in 2..=20 {
        let other = words(&quickstart(seed));
        let changed: Vec<_> = reference.iter().zip(&other).filter(|(a, b)| a != b).collect();
        assert!(changed.is_empty(), "seed {seed}: {changed:?}");
    }
}
