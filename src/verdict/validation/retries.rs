//! Retries: of several runs, each of which may decide what the others leave open, all together err no more often than one.

use super::noise::{Bank, Effect, Kind};
use super::trial::{Case, each, shows};
use crate::scenario::{FALSE_PASS, Quantile};
use crate::verdict::{Verdict, judge, judge_one_of};

const TRIALS: u64 = 1_200;
/// One run and three retries.
const RUNS: u32 = 4;

/// A truth on the isolated margin: it must not pass, whichever of the runs is taken. With the whole error rate for each run it
/// passes too often.
#[test]
fn retries_pass_no_more_often_than_one_run() {
    let bank = Bank::new(Kind::Lognormal, 100);
    let case = Case::pair(&bank, 17, Quantile::P50, Effect::of(1.05));
    let passes = each(TRIALS, |trial| {
        let isolated = |verdict: &Verdict| *verdict == Verdict::Isolated;
        let (mut whole, mut accounted) = (None, None);
        for retry in 0..u64::from(RUNS) {
            let run = case.run(trial * u64::from(RUNS) + retry);
            let verdict = judge(&run).cells.swap_remove(0).verdict;
            // A bound below the margin at the smaller rate is below it at the whole one too: only those are judged again.
            let with_its_part = match isolated(&verdict) {
                true => judge_one_of(run, RUNS).1.cells.swap_remove(0).verdict,
                false => verdict.clone(),
            };
            let decided = |verdict: &Verdict| !matches!(verdict, Verdict::Inconclusive { .. });
            whole = whole.or(decided(&verdict).then_some(verdict));
            accounted = accounted.or(decided(&with_its_part).then_some(with_its_part));
        }
        (whole.as_ref().is_some_and(isolated), accounted.as_ref().is_some_and(isolated))
    });
    let count = |of: fn(&(bool, bool)) -> bool| passes.iter().filter(|trial| of(trial)).count() as u64;
    let (whole, accounted) = (count(|trial| trial.0), count(|trial| trial.1));
    assert!(shows(accounted, TRIALS, FALSE_PASS), "{accounted} of {TRIALS} passed, the error rate shared");
    assert!(!shows(whole, TRIALS, FALSE_PASS), "{whole} of {TRIALS} passed with the whole error rate for each run");
}
