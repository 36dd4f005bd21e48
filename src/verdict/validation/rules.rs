//! What the rules that people use today would have said of the same data.

use super::noise::{Bank, Effect, Kind};
use super::trial::{Arm, Case, compare_with_docs, each};
use crate::random::{Key, Stream};
use crate::scenario::Quantile;
use crate::stats::normal_quantile;

const TRIALS: u64 = 100;
/// 1.25 times the blocks that see a tenth of the arms.
const BLOCKS: u32 = 55;
const REQUESTS: usize = 1_000;

/// The data of one trial as a benchmark has them.
struct Samples {
    quiet: Vec<Vec<f64>>,
    noisy: Vec<Vec<f64>>,
}

impl Samples {
    fn of((quiet, noisy): (Vec<Arm<'_>>, Vec<Arm<'_>>)) -> Self {
        let samples = |arm: Arm<'_>| -> Vec<f64> {
            let ratio = |v: f32| arm.effect.filter(|e| v >= e.from).map_or(1.0, |e| e.ratio);
            let all = arm.values.iter().flat_map(|(v, count)| std::iter::repeat_n(*v, *count as usize));
            all.map(|v| f64::from(v) * arm.level * ratio(v)).collect()
        };
        Self { quiet: quiet.into_iter().map(samples).collect(), noisy: noisy.into_iter().map(samples).collect() }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Standard deviation relative to the mean.
fn noise(values: &[f64]) -> f64 {
    let m = mean(values);
    libm::sqrt(values.iter().map(|v| (v - m) * (v - m)).sum::<f64>() / (values.len() - 1) as f64) / m
}

/// Whether a rule finds nothing.
type Rule = fn(&Samples, &mut Stream) -> bool;

const RULES: [(&str, Rule); 6] = [
    ("20 requests, means within 10 %", twenty_requests),
    ("means within the noise (nvbench)", within_the_noise),
    ("mean within 5 % of the baseline", mean_within_5),
    ("ratio of two pooled p99s within 10 %", pooled_p99),
    ("permutation test on run means, 5 %", permutation),
    ("Mann–Whitney on pooled samples, 5 %", mann_whitney),
];

/// Twenty requests of one arm of each side.
fn twenty_requests(s: &Samples, stream: &mut Stream) -> bool {
    let mut twenty =
        |arm: &[f64]| -> Vec<f64> { (0..20).map(|_| arm[stream.below(arm.len() as u64) as usize]).collect() };
    let (quiet, noisy) = (twenty(&s.quiet[0]), twenty(&s.noisy[0]));
    mean(&noisy) <= 1.10 * mean(&quiet)
}

/// As nvbench's comparison has it: the means differ by no more than the smaller relative deviation of the two.
fn within_the_noise(s: &Samples, _: &mut Stream) -> bool {
    let (quiet, noisy) = (s.quiet.concat(), s.noisy.concat());
    let difference = (mean(&noisy) - mean(&quiet)) / mean(&quiet);
    difference <= noise(&quiet).min(noise(&noisy))
}

fn mean_within_5(s: &Samples, _: &mut Stream) -> bool {
    mean(&s.noisy.concat()) <= 1.05 * mean(&s.quiet.concat())
}

fn pooled_p99(s: &Samples, _: &mut Stream) -> bool {
    let p99 = |arms: &[Vec<f64>]| {
        let mut all = arms.concat();
        let at = all.len() * 99 / 100;
        *all.select_nth_unstable_by(at, f64::total_cmp).1
    };
    p99(&s.noisy) <= 1.10 * p99(&s.quiet)
}

/// Labels of the run means shuffled 999 times: significant where fewer than 5 % differ by as much.
fn permutation(s: &Samples, stream: &mut Stream) -> bool {
    let mut means: Vec<f64> = s.quiet.iter().chain(&s.noisy).map(|arm| mean(arm)).collect();
    let runs = s.quiet.len();
    let difference = |means: &[f64]| mean(&means[runs..]) - mean(&means[..runs]);
    let seen = difference(&means);
    let mut as_large = 1;
    for _ in 0..999 {
        stream.shuffle(&mut means);
        as_large += u32::from(difference(&means) >= seen);
    }
    as_large > 50
}

/// The normal approximation, one-sided; the samples have no ties.
fn mann_whitney(s: &Samples, _: &mut Stream) -> bool {
    let (quiet, noisy) = (s.quiet.concat(), s.noisy.concat());
    let (m, n) = (quiet.len() as f64, noisy.len() as f64);
    let side = |values: Vec<f64>, noisy: bool| values.into_iter().map(move |v| (v, noisy));
    let mut all: Vec<(f64, bool)> = side(quiet, false).chain(side(noisy, true)).collect();
    all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let ranks: f64 = all.iter().enumerate().filter(|(_, (_, noisy))| *noisy).map(|(i, _)| (i + 1) as f64).sum();
    let z = (ranks - n * (n + m + 1.0) / 2.0) / libm::sqrt(n * m * (n + m + 1.0) / 12.0);
    z <= normal_quantile(0.05)
}

/// How often each rule finds nothing, and how often crosstalk says Isolated and raises an alarm. Rules see all quiet arms
/// first where `sequential`, as they are used; crosstalk always has its blocks.
fn compare(case: &Case<'_>, sequential: bool) -> ([f64; 6], f64, f64) {
    let theirs = Case { sequential, ..case.clone() };
    let trials = each(TRIALS, |seed| {
        let samples = Samples::of(theirs.arms(seed));
        let mut stream = Stream::new(seed, &[Key::Name("rules of today")]);
        let fine = RULES.map(|(_, rule)| rule(&samples, &mut stream));
        (fine, case.verdict(seed).0.cells[0].verdict.word())
    });
    let share = |n: usize| n as f64 / TRIALS as f64;
    let fine = std::array::from_fn(|rule| share(trials.iter().filter(|(fine, _)| fine[rule]).count()));
    let said = |words: &[&str]| share(trials.iter().filter(|(_, word)| words.contains(word)).count());
    (fine, said(&["isolated"]), said(&["degraded", "violated"]))
}

#[test]
fn the_rules_of_today_on_the_same_data() {
    let still = Bank::new(Kind::Lognormal, REQUESTS);
    let drifting = Bank::new(Kind::Drift, REQUESTS);
    let case = |bank, effect| Case::pair(bank, BLOCKS, Quantile::P99, effect);
    // The slowest 2 % take half as long again: p99 is 1.5 times what it was, the mean 1.02 times.
    let tail = compare(&case(&still, still.tail(Quantile(98_000), 1.5)), false);
    // The slowest eighth takes three times as long, in a tenth of the runs: the pooled p99 doubles.
    let rare = Effect { share: 0.1, ..still.tail(Quantile(88_000), 3.0) };
    let rare = compare(&case(&still, rare), false);
    let drift = compare(&case(&drifting, Effect::of(1.0)), true);

    let mut table = String::from(
        "| rule | false pass: p99 alone is 1.5 × | false pass: hurt in a tenth of the runs | false alarm: drift of 30 % |\n\
         |---|---|---|---|\n",
    );
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    for (i, (rule, _)) in RULES.iter().enumerate() {
        let (tail, rare, alarm) = (percent(tail.0[i]), percent(rare.0[i]), percent(1.0 - drift.0[i]));
        table += &format!("| {rule} | {tail} | {rare} | {alarm} |\n");
    }
    let (pass, rare_pass, alarm) = (percent(tail.1), percent(rare.1), percent(drift.2));
    table += &format!("| **crosstalk** | **{pass}** | **{rare_pass}** | **{alarm}** |\n");

    let wrong = |shares: [f64; 6], least: f64| shares.iter().filter(|share| **share >= least).count();
    assert!(wrong(tail.0, 0.6) >= 4 && wrong(rare.0, 0.6) >= 3, "{table}");
    assert!(wrong(drift.0.map(|fine| 1.0 - fine), 0.9) >= 4, "{table}");
    assert!(tail.1 == 0.0 && rare.1 <= 0.02 && drift.2 == 0.0, "{table}");
    compare_with_docs("verdict.md", "the rules of today", &table);
}
