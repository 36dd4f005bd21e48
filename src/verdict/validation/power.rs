//! Power, and what early looks save: the acceptance tier on victims of known truth.

use super::noise::{Bank, Effect, Kind};
use super::trial::{Case, compare_with_docs, each};
use crate::scenario::Quantile;

const TRIALS: u64 = 120;
const BLOCKS: u32 = 48;

struct Power {
    /// Isolated, Violated.
    verdicts: [u64; 2],
    /// Blocks run, on average.
    blocks: f64,
}

impl Power {
    fn of(bank: &Bank, ratio: f64) -> Self {
        let case = Case { looks: true, ..Case::pair(bank, BLOCKS, Quantile::P99, Effect::of(ratio)) };
        let trials = each(TRIALS, |seed| {
            let (verdict, run) = case.verdict(seed);
            let look = run.stopped.get(&(0, 0, 0));
            let blocks = look.map_or(BLOCKS, |look| run.manifest.plan.design.looks[*look].blocks);
            (verdict.cells[0].verdict.word(), blocks)
        });
        let count = |of: &str| trials.iter().filter(|(word, _)| *word == of).count() as u64;
        Self {
            verdicts: [count("isolated"), count("violated")],
            blocks: trials.iter().map(|(_, blocks)| f64::from(*blocks)).sum::<f64>() / TRIALS as f64,
        }
    }
}

/// r = 1.00 is Isolated in 95 % of the trials with light tails, r = 1.8 Violated in 99 %; and early looks save half of the
/// blocks at 1.8. At 1.00 they save what B_min allows: nothing, for 10 % of the arms take 59 blocks at a fifth of α.
#[test]
fn power_and_early_looks() {
    let mut table =
        String::from("| noise | truth | Isolated | Violated | blocks run, of 48 |\n|---|---|---|---|---|\n");
    for kind in [Kind::Lognormal, Kind::RunToRun, Kind::Drift] {
        let bank = Bank::new(kind, 1_000);
        for ratio in [1.0, 1.8] {
            let power = Power::of(&bank, ratio);
            let [isolated, violated] = power.verdicts.map(|n| n as f64 / TRIALS as f64);
            table += &format!(
                "| {} | {ratio:.2} | {:.0} % | {:.0} % | {:.1} |\n",
                kind.words(),
                100.0 * isolated,
                100.0 * violated,
                power.blocks
            );
            if ratio > 1.0 {
                assert!(violated >= 0.99, "{kind:?}: {violated} at {ratio}");
                assert!(power.blocks <= 0.5 * f64::from(BLOCKS), "{kind:?}: {} blocks", power.blocks);
            } else {
                assert!(isolated >= 0.95, "{kind:?}: {isolated} at {ratio}");
            }
        }
    }
    compare_with_docs("verdict.md", "power", &table);
}
