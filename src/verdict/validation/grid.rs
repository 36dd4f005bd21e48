//! The grid: noise × design × quantile × truth, and how often the procedure errs in each of its cells.

use super::noise::{Bank, Effect, Kind};
use super::slo;
use super::trial::{Case, count, each, shows};
use crate::run_dir::JudgedBy;
use crate::scenario::{Margins, Quantile};
use crate::stats::{blocks_for_share, proportion_upper};
use crate::verdict::Verdict;

/// What a verdict may err: false passes and false alarms.
const FALSE_PASS: f64 = 0.01;
const FALSE_ALARM: f64 = 0.05;

/// Trials that show a true rate of 0.3 % to be within 1 %, and a true 3.5 % to be within 5 %. A cell that misses it by
/// chance is run four times as long, and all of its trials count.
const TRIALS: u64 = 1_200;

/// Trials where no error at all is to be expected.
const FEW: u64 = 300;

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

    fn trials(self) -> u64 {
        if matches!(self, Self::Isolated | Self::Violated) { TRIALS } else { FEW }
    }
}

/// One cell of the grid and what came of it.
pub(super) struct Row {
    pub(super) noise: &'static str,
    pub(super) design: String,
    pub(super) quantiles: String,
    pub(super) truth: String,
    pub(super) trials: u64,
    /// Where a pass would be false.
    pub(super) passes: Option<u64>,
    /// Where an alarm would be false.
    pub(super) alarms: Option<u64>,
    /// Isolated, Degraded, Violated; met, –, missed of an objective.
    pub(super) outcomes: [u64; 3],
}

impl Row {
    fn of(case: &Case<'_>, truth: Truth, q: Quantile, design: &str, trials: u64) -> Self {
        let row = |trials: u64| {
            let verdicts = case.verdicts(trials);
            let alarms = truth.alarms(q);
            let quantiles: Vec<String> = case.judged.iter().map(|(q, _)| q.to_string()).collect();
            Self {
                noise: case.bank.kind.words(),
                design: format!("{design}, {} blocks", case.blocks),
                quantiles: quantiles.join(" "),
                truth: format!("{:.2}", case.effect.ratio),
                trials,
                passes: (truth != Truth::Nothing).then(|| count(&verdicts, &["isolated"])),
                alarms: (!alarms.is_empty()).then(|| count(&verdicts, alarms)),
                outcomes: ["isolated", "degraded", "violated"].map(|word| count(&verdicts, &[word])),
            }
        };
        Self::longer_if_need_be(row, trials)
    }

    pub(super) fn longer_if_need_be(row: impl Fn(u64) -> Self, trials: u64) -> Self {
        let first = row(trials);
        if first.holds() { first } else { row(4 * trials) }
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
        let [isolated, degraded, violated] = self.outcomes.map(share);
        let Self { noise, design, quantiles, truth, trials, .. } = self;
        let (passes, alarms) = (rate(self.passes), rate(self.alarms));
        format!(
            "| {noise} | {design} | {quantiles} | {truth} | {trials} | {passes} | {alarms} | {isolated} | {degraded} | {violated} |"
        )
    }
}

/// Requests of an arm for ten expected beyond the quantile, and for a median as few as keep a trial cheap.
fn requests(q: Quantile) -> usize {
    (1_000_000 / (100_000 - q.0 as usize)).max(100)
}

pub(super) fn assert_all_hold(rows: &[Row]) {
    let failed: Vec<String> = rows.iter().filter(|row| !row.holds()).map(Row::line).collect();
    assert!(failed.is_empty(), "beyond the stated error rates:\n{}", failed.join("\n"));
}

/// A neighbour that hurts threefold in a share of its arms. At 1.25 × B_min it may not pass.
fn rare(bank: &Bank, percent: f64, trials: u64) -> Row {
    let share = percent / 100.0;
    let blocks = (1.25 * f64::from(blocks_for_share(share, 0.01))).floor() as u32;
    let effect = Effect { ratio: 3.0, from: 0.0, share };
    let case = Case::pair(bank, blocks, Quantile::P99, effect);
    let row = |trials| {
        let verdicts = case.verdicts(trials);
        Row {
            noise: bank.kind.words(),
            design: format!("pair, {blocks} blocks"),
            quantiles: "p99".to_owned(),
            truth: format!("3.00 in {percent} % of the arms"),
            trials,
            passes: Some(count(&verdicts, &["isolated"])),
            alarms: None,
            outcomes: ["isolated", "degraded", "violated"].map(|word| count(&verdicts, &[word])),
        }
    };
    Row::longer_if_need_be(row, trials)
}

/// Cells with six series: one of them at the margin for a false pass, all of them for a false alarm.
fn six(bank: &Bank, truth: Truth, trials: u64) -> [Row; 2] {
    let q = Quantile::P50;
    let pair = Case::pair(bank, 17, q, Effect::of(truth.ratio(q)));
    let all = Case { series: 6, ..pair };
    let first = Case { hits_all: false, ..all.clone() };
    let mut one = Row::of(&first, truth, q, "six series, one hit", trials);
    one.alarms = None;
    [one, Row::of(&all, truth, q, "six series", trials)]
}

/// Blocks of twelve neighbours; the pair's truth in each of them.
fn many(bank: &Bank, truth: Truth, q: Quantile, trials: u64) -> Row {
    let case = Case { neighbours: 12, ..Case::pair(bank, 17, q, Effect::of(truth.ratio(q))) };
    Row::of(&case, truth, q, "12 neighbours", trials)
}

/// 30 requests per arm: no p99 of an arm, and one of all blocks together.
fn pooled(bank: &Bank, truth: Truth, trials: u64) -> Row {
    let q = Quantile::P99;
    let judged = vec![(q, JudgedBy::Pooled)];
    Row::of(&Case { judged, ..Case::pair(bank, 48, q, Effect::of(truth.ratio(q))) }, truth, q, "pooled", trials)
}

fn looks(bank: &Bank, truth: Truth, q: Quantile, trials: u64) -> Row {
    let case = Case { looks: true, ..Case::pair(bank, 48, q, Effect::of(truth.ratio(q))) };
    Row::of(&case, truth, q, "pair with looks", trials)
}

/// Six series, all of them at the margin, looked at early: where lower bounds lie farthest out, over the fewest blocks.
fn six_with_looks(bank: &Bank, truth: Truth, trials: u64) -> Row {
    let q = Quantile::P50;
    let case = Case { looks: true, series: 6, ..Case::pair(bank, 48, q, Effect::of(truth.ratio(q))) };
    Row::of(&case, truth, q, "six series with looks", trials)
}

/// Pooled quantiles at the fewest blocks for which a lower bound exists: 0.5⁷ = 0.8 % ≤ 1.5 %. 150 requests per arm make
/// ten beyond the p99 in all.
fn fewest(bank: &Bank, truth: Truth, trials: u64) -> Row {
    let q = Quantile::P99;
    let judged = vec![(q, JudgedBy::Pooled)];
    Row::of(&Case { judged, ..Case::pair(bank, 7, q, Effect::of(truth.ratio(q))) }, truth, q, "pooled", trials)
}

/// Every noise at the isolated margin, where both errors are likeliest, at the fewest blocks of any tier.
#[test]
fn reduced_every_noise_at_the_isolated_margin() {
    let q = Quantile::P50;
    let row = |kind| {
        let bank = Bank::new(kind, requests(q));
        let case = Case::pair(&bank, 17, q, Effect::of(Truth::Isolated.ratio(q)));
        Row::of(&case, Truth::Isolated, q, "pair", TRIALS)
    };
    assert_all_hold(&Kind::ALL.map(row));
}

/// Every noise where an arm has no quantile of its own: what lies beyond comes now from many arms, now from one.
#[test]
fn reduced_every_noise_pooled() {
    assert_all_hold(&Kind::ALL.map(|kind| pooled(&Bank::new(kind, 30), Truth::Isolated, TRIALS)));
}

#[test]
fn reduced_designs_at_the_isolated_margin() {
    let light = Bank::new(Kind::Lognormal, requests(Quantile::P50));
    let drifting = Bank::new(Kind::Drift, requests(Quantile::P50));
    let mut rows = vec![
        many(&drifting, Truth::Isolated, Quantile::P50, 300),
        looks(&light, Truth::Isolated, Quantile::P50, 600),
        fewest(&Bank::new(Kind::Lognormal, 150), Truth::Isolated, TRIALS),
        fewest(&Bank::new(Kind::RunToRun, 150), Truth::Isolated, TRIALS),
    ];
    rows.extend(six(&light, Truth::Isolated, 600));
    assert_all_hold(&rows);
}

#[test]
fn reduced_rare_episodes() {
    let bank = Bank::new(Kind::Lognormal, requests(Quantile::P99));
    assert_all_hold(&[rare(&bank, 10.0, 300)]);
}

/// Too few blocks for the share of arms that is hit: it passes now and then, and every Isolated says that it speaks of
/// rarer episodes not at all. π* at 17 blocks is 24 %: ten per cent of the arms are out of its scope.
#[test]
fn below_the_blocks_of_its_scope_an_isolated_prints_an_honest_one() {
    let bank = Bank::new(Kind::Lognormal, requests(Quantile::P99));
    let case = Case::pair(&bank, 17, Quantile::P99, Effect { ratio: 3.0, from: 0.0, share: 0.1 });
    let scopes = each(100, |seed| {
        let (verdict, _) = case.verdict(seed);
        (verdict.cells[0].verdict == Verdict::Isolated).then_some(verdict.scope_share)
    });
    let passed: Vec<f64> = scopes.into_iter().flatten().map(Option::unwrap).collect();
    assert!(passed.len() >= 5, "{} of 100 pass", passed.len());
    assert!(passed.iter().all(|scope| (0.23..0.25).contains(scope)), "{passed:?}");
}

/// Which noise and designs of the grid are judged anew: all, or those that `CROSSTALK_GRID` names (a part of either's words); then
/// the other rows of the table stay as they are.
fn asked(noise: &str, design: &str) -> bool {
    let only = std::env::var("CROSSTALK_GRID").unwrap_or_default();
    only.is_empty() || only.split(',').any(|part| noise.contains(part) || design.contains(part))
}

/// The whole grid.
#[test]
#[ignore = "every noise, truth and quantile: far longer than a test run; `cargo test --release --lib full_grid -- --ignored`"]
fn full_grid() {
    let start = std::time::Instant::now();
    let mut rows = Vec::new();
    for q in [Quantile::P50, Quantile::P99, Quantile::P999] {
        for kind in Kind::ALL {
            let bank = if q < Quantile::P999 { Bank::new } else { Bank::of_tails }(kind, requests(q));
            let of = |design: &str| asked(kind.words(), design);
            let at = |truth: Truth| Case::pair(&bank, 17, q, Effect::of(truth.ratio(q)));
            // At p50 and p99 2 is beyond every margin; at p99.9 it is the violated one.
            let truths = Truth::ALL.into_iter().filter(|truth| q < Quantile::P999 || *truth != Truth::Double);
            let truths = truths.filter(|_| of("pair"));
            rows.extend(truths.map(|truth| Row::of(&at(truth), truth, q, "pair", truth.trials())));
            if q == Quantile::P50 && of("several") {
                rows.extend(six(&bank, Truth::Isolated, TRIALS));
                rows.extend([Truth::Isolated, Truth::Violated].map(|truth| many(&bank, truth, q, TRIALS)));
                rows.extend([Truth::Isolated, Truth::Violated].map(|truth| looks(&bank, truth, q, TRIALS)));
                if matches!(kind, Kind::Lognormal | Kind::RunToRun) {
                    rows.push(six_with_looks(&bank, Truth::Isolated, TRIALS));
                }
            }
            if q == Quantile::P99 && of("looks") {
                rows.push(looks(&bank, Truth::Isolated, q, TRIALS));
            }
            if q == Quantile::P99 && of("pooled") {
                let few = Bank::new(kind, 30);
                rows.extend([Truth::Isolated, Truth::Violated].map(|truth| pooled(&few, truth, TRIALS)));
                let few = Bank::new(kind, 150);
                rows.extend([Truth::Isolated, Truth::Violated].map(|truth| fewest(&few, truth, TRIALS)));
            }
            if q == Quantile::P99 && of("rare") && matches!(kind, Kind::Lognormal | Kind::RunToRun | Kind::Pareto) {
                rows.extend([rare(&bank, 10.0, TRIALS), rare(&bank, 5.0, TRIALS)]);
            }
            if q == Quantile::P99 && of("objective") {
                rows.extend(slo::rows(&bank, TRIALS));
            }
            eprintln!("{q} {}: {} rows, {:.0?}", kind.words(), rows.len(), start.elapsed());
        }
    }
    // An effect at p99.9 alone, all three judged: every latency beyond p99.5, at either margin.
    let bank = Bank::new(Kind::Lognormal, requests(Quantile::P999));
    for truth in [Truth::Isolated, Truth::Violated].into_iter().filter(|_| asked("", "alone")) {
        let q = Quantile::P999;
        let judged = [Quantile::P50, Quantile::P99, q].map(|q| (q, JudgedBy::Blocks)).to_vec();
        let case = Case { judged, ..Case::pair(&bank, 17, q, bank.tail(Quantile(99_500), truth.ratio(q))) };
        rows.push(Row::of(&case, truth, q, "pair, effect at p99.9 alone", TRIALS));
    }
    write(&rows);
    assert_all_hold(&rows);
}

/// Noise, design, quantiles and truth of a line: what a row is.
fn key(line: &str) -> Vec<&str> {
    line.split('|').skip(1).take(4).map(str::trim).collect()
}

/// Writes the table; rows that were not judged anew stay.
fn write(rows: &[Row]) {
    let path = format!("{}/docs/verdict-validation.md", env!("CARGO_MANIFEST_DIR"));
    let before = std::fs::read_to_string(&path).unwrap();
    let anew: Vec<String> = rows.iter().map(Row::line).collect();
    let whole = std::env::var_os("CROSSTALK_GRID").is_none_or(|only| only.is_empty());
    let lines: Vec<String> = if whole {
        anew
    } else {
        let kept = before.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| noise"));
        let replaced = |line: &str| anew.iter().find(|new| key(new) == key(line)).cloned().unwrap_or(line.to_owned());
        kept.map(replaced).collect()
    };
    let trials: u64 = lines.iter().filter_map(|line| line.split('|').nth(5)?.trim().parse::<u64>().ok()).sum();
    let mut text = format!(
        "# The validation of the verdict\n\n\
         Made by `cargo test --release --lib full_grid -- --ignored`: {} cells, {trials} trials, all on synthetic victims (no \
         GPU). Trials are drawn from seeds, so a row changes only where the procedure does. What each column means: \
         docs/verdict.md, \"How often it errs\".\n\n\
         | noise | design | quantiles | truth | trials | false passes | false alarms | Isolated | Degraded | Violated |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
        lines.len(),
    );
    lines.iter().for_each(|line| text += &(line.clone() + "\n"));
    std::fs::write(path, text).unwrap();
}
