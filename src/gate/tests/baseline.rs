//! A run against its baseline.

use super::*;
use crate::baseline::Baseline;
use crate::compare::{Comparison, Evidence, compare};
use crate::run_dir::Digest;

const COMPARED: &str = "[baseline]\nmax_age = \"30d\"";

fn evidence(run: &RecordedRun, root: &str) -> Evidence {
    let digest = Digest::build(run, &verdict::judge(run)).unwrap();
    Evidence::of(run, &digest, root).unwrap()
}

/// Runs of these seeds in which nothing is slowed.
fn baseline(seeds: std::ops::Range<u64>) -> Baseline {
    let mut baseline = Baseline::new(Provenance::Simulated);
    seeds.for_each(|seed| baseline.add(evidence(&run_of(1.0, seed, 17), &format!("{seed:064}"))).unwrap());
    baseline
}

fn against(baseline: &Baseline, run: &RecordedRun) -> Option<Result<Comparison, String>> {
    let new = evidence(run, &format!("{:064}", 99));
    let base = baseline.reference(&new.alike, &[]);
    Some(base.and_then(|base| compare(base, &new, &[])).map_err(|unlike| format!("absent: {unlike}")))
}

fn gate_against(rest: &str, baseline: &Baseline, run: RecordedRun, today: Date) -> Gate {
    let policy = policy(rest);
    let against = against(baseline, &run);
    Gate::judge(&policy, &Judged::new(run, &policy, against, today), &[], &[], today)
}

/// Everything is slower, quiet or not: what a driver may do to a lone tenant.
fn slower(mut run: RecordedRun, percent: u64) -> RecordedRun {
    for series in run.arms.values_mut().flat_map(|arm| arm.series.values_mut()) {
        let mut slowed = crate::stats::Durations::default();
        series
            .latency
            .iter()
            .for_each(|(bucket, n)| (0..n).for_each(|_| slowed.record(bucket.highest() * percent / 100)));
        series.latency = slowed;
    }
    run
}

#[test]
fn a_run_like_its_baseline_passes_and_one_that_is_not_there_does_not() {
    let base = baseline(11..16);
    let green = gate_against(COMPARED, &base, run(1.0), DAY);
    assert_eq!(green.answer, Met, "{}", text(&green));
    let without = gate(COMPARED, run(1.0));
    assert_eq!((without.answer, state(&without, "baseline")), (Undecided, Undecided));
    let mut other = run(1.0);
    other.manifest.plan.inventory.gpus[0].uuid = "GPU-other".to_owned();
    let unlike = gate_against(COMPARED, &base, other, DAY);
    assert_eq!(unlike.answer, Undecided, "{}", text(&unlike));
    let few = gate_against(COMPARED, &baseline(11..14), run(1.0), DAY);
    assert_eq!((few.answer, state(&few, "pair/quiet h2d p50")), (Undecided, Undecided), "{}", text(&few));
    let stale = gate_against(COMPARED, &base, run(1.0), date(2026, 7, 2));
    assert_eq!((stale.answer, state(&stale, "baseline: age")), (Undecided, Undecided), "{}", text(&stale));
}

#[test]
fn what_is_worse_than_the_baseline_is_not_met() {
    let base = baseline(11..16);
    let red = gate_against(COMPARED, &base, run(2.5), DAY);
    assert_eq!(state(&red, "pair/dma against the baseline"), NotMet, "{}", text(&red));
    assert_eq!(state(&red, "pair/hog against the baseline"), Met, "{}", text(&red));
    let risen = |rest: &str| gate_against(rest, &base, slower(run(1.0), 110), DAY);
    assert_eq!(state(&risen(COMPARED), "pair/quiet h2d p50"), NotMet, "{}", text(&risen(COMPARED)));
    assert_eq!(risen("[baseline]\ntolerance = \"20%\"").answer, Met);
    assert_eq!(risen("[baseline]\ntolerance = \"5%\"").answer, NotMet);
    assert_eq!(risen("[baseline]\nquiet = false").answer, Met);
    let grown = gate_against("[baseline]\nquiet = false\nverdicts = false", &base, run(2.5), DAY);
    assert_eq!(state(&grown, "pair/dma size of interference"), NotMet, "{}", text(&grown));
    let same = gate_against("[baseline]\nquiet = false\nverdicts = false", &base, run(1.0), DAY);
    assert_eq!(same.answer, Met, "{}", text(&same));
    // The first red of two that are asked for.
    assert_eq!(risen("confirm = 2\n[baseline]").answer, Undecided);
}
