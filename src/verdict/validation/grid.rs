//! The grid: noise × design × quantile × truth, and how often the procedure errs in each of its cells.

use std::fmt::Write as _;

use super::noise::{Bank, Effect, Kind};
use super::trial::{Case, count, shows};
use crate::run_dir::JudgedBy;
use crate::scenario::{Margins, Quantile};
use crate::stats::{blocks_for_share, proportion_upper};

/// What a verdict may err: false passes and false alarms.
const FALSE_PASS: f64 = 0.01;
const FALSE_ALARM: f64 = 0.05;

/// What the neighbour truly does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    /// Nothing.
    Nothing,
    /// Exactly the isolated margin.
    Isolated,
    /// Exactly the violated margin.
    Violated,
    /// Everything takes twice as long.
    Double,
}

impl Truth {
    const ALL: [Self; 4] = [Self::Nothing, Self::Isolated, Self::Violated, Self::Double];

    fn ratio(self, q: Quantile) -> f64 {
        let (isolated, violated) = Margins::default().of(q);
        match self {
            Self::Nothing => 1.0,
            Self::Isolated => 1.0 + isolated,
            Self::Violated => 1.0 + violated,
            Self::Double => 2.0,
        }
    }

    /// Isolated is false from its margin on.
    fn may_not_pass(self) -> bool {
        self != Self::Nothing
    }

    /// Verdicts that are false alarms.
    fn alarms(self, q: Quantile) -> &'static [&'static str] {
        match self {
            Self::Nothing | Self::Isolated => &["degraded", "violated"],
            Self::Violated => &["violated"],
            // Exactly the violated margin of p99.9.
            Self::Double if Margins::default().of(q).1 >= 1.0 => &["violated"],
            Self::Double => &[],
        }
    }
}

/// One cell of the grid and what came of it.
struct Row {
    noise: &'static str,
    design: String,
    quantile: Quantile,
    ratio: f64,
    trials: u64,
    /// Where Isolated would be false.
    passes: Option<u64>,
    /// Where Degraded or Violated would be false.
    alarms: Option<u64>,
    /// Isolated, Degraded, Violated.
    verdicts: [u64; 3],
}

impl Row {
    fn of(case: &Case<'_>, truth: Truth, q: Quantile, design: String, trials: u64) -> Self {
        let verdicts = case.verdicts(trials);
        let alarms = truth.alarms(q);
        Self {
            noise: case.bank.kind.words(),
            design,
            quantile: q,
            ratio: case.effect.ratio,
            trials,
            passes: truth.may_not_pass().then(|| count(&verdicts, &["isolated"])),
            alarms: (!alarms.is_empty()).then(|| count(&verdicts, alarms)),
            verdicts: ["isolated", "degraded", "violated"].map(|word| count(&verdicts, &[word])),
        }
    }

    fn holds(&self) -> bool {
        self.passes.is_none_or(|passes| shows(passes, self.trials, FALSE_PASS))
            && self.alarms.is_none_or(|alarms| shows(alarms, self.trials, FALSE_ALARM))
    }

    fn line(&self) -> String {
        let rate = |hits: Option<u64>| match hits {
            Some(hits) => format!("{hits} (≤ {:.2} %)", 100.0 * proportion_upper(hits, self.trials, 0.05)),
            None => "–".to_owned(),
        };
        let share = |n: u64| format!("{:.1} %", 100.0 * n as f64 / self.trials as f64);
        let [isolated, degraded, violated] = self.verdicts.map(share);
        format!(
            "| {} | {} | {} | {:.2} | {} | {} | {} | {isolated} | {degraded} | {violated} |",
            self.noise,
            self.design,
            self.quantile,
            self.ratio,
            self.trials,
            rate(self.passes),
            rate(self.alarms),
        )
    }
}

/// Requests of an arm for ten expected beyond the quantile, and for a median as few as keep a trial cheap.
fn requests(q: Quantile) -> usize {
    ((1e6 / f64::from(100_000 - q.0)).ceil() as usize).max(100)
}

fn assert_all_hold(rows: &[Row]) {
    let failed: Vec<String> = rows.iter().filter(|row| !row.holds()).map(Row::line).collect();
    assert!(failed.is_empty(), "beyond the stated error rates:\n{}", failed.join("\n"));
}

/// Every noise at the isolated margin, where both errors are likeliest, at the fewest blocks of any tier.
#[test]
fn reduced_every_noise_at_the_isolated_margin() {
    let q = Quantile::P50;
    let rows: Vec<Row> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let bank = Bank::new(kind, requests(q));
            let case = Case::pair(&bank, 17, q, Effect::of(Truth::Isolated.ratio(q)));
            Row::of(&case, Truth::Isolated, q, "pair, 17 blocks".to_owned(), 1_200)
        })
        .collect();
    for row in &rows {
        println!("{}", row.line());
    }
    assert_all_hold(&rows);
}

#[test]
fn explore() {
    let q = Quantile::P99;
    for kind in Kind::ALL {
        let bank = Bank::new(kind, requests(q));
        for truth in [Truth::Isolated, Truth::Violated] {
            let case = Case::pair(&bank, 17, q, Effect::of(truth.ratio(q)));
            let start = std::time::Instant::now();
            let row = Row::of(&case, truth, q, "pair, 17 blocks".to_owned(), 600);
            println!("{} {:?}", row.line(), start.elapsed());
        }
    }
}
