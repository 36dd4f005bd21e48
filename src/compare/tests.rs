//! Comparisons of runs whose truth is known.

use proptest::prelude::*;

use super::fixture::{CELL, alike, cell, group, hazard, quiet, run, series};
use super::*;
use crate::provenance::Provenance;
use crate::random::{Key as Of, Stream};
use crate::report::{Options, VerdictWord as V};
use crate::scenario::{Quantile, SharingMode, Tier};
use crate::stats::{proportion_lower, proportion_upper};

/// Series of a run: a family of as many tests.
const SERIES: usize = 12;

/// A run of 24 blocks of each series, whose interference is `truth`: per series a logarithm. Blocks scatter by 6 %, one in
/// fifty is hit by a stall; blocks of a generation of four share an effect of `generation`.
fn drawn(seed: u64, truth: impl Fn(usize) -> f64, generation: f64) -> Evidence {
    let mut evidence = run(seed);
    let all = (0..SERIES).map(|at| {
        let mut stream = Stream::new(seed, &[Of::Name("compare"), Of::Number(at as u64)]);
        let mut shared = 0.0;
        let blocks: Vec<f64> = (0..24)
            .map(|block| {
                if block % 4 == 0 {
                    shared = generation * stream.normal();
                }
                let stall = if stream.uniform() < 0.02 { 1.5 } else { 0.0 };
                truth(at) + shared + 0.06 * stream.normal() + stall
            })
            .collect();
        series(&format!("s{at}"), V::Violated, &blocks)
    });
    evidence.run.cells = vec![cell(CELL, V::Violated, all.collect())];
    evidence
}

fn sizes(comparison: &Comparison) -> Vec<Size> {
    comparison.cells[0].series.iter().map(|s| s.size).collect()
}

fn changed(comparison: &Comparison) -> bool {
    sizes(comparison).iter().any(|size| matches!(size, Size::Grew | Size::Shrank))
}

/// How often a change of size is told in so many pairs of runs.
fn alarms(trials: u64, base: impl Fn(usize) -> f64, new: impl Fn(usize) -> f64, generation: f64) -> u64 {
    let told = |trial: u64| {
        let base = group([drawn(2 * trial, &base, generation)]);
        changed(&compare(&base, &drawn(2 * trial + 1, &new, generation), &[]).unwrap())
    };
    (0..trials).filter(|trial| told(*trial)).count() as u64
}

#[test]
fn two_runs_of_one_truth_show_no_change() {
    // Each generation with an effect of its own besides: what the margin is for.
    let hits = alarms(300, |at| 0.1 * at as f64, |at| 0.1 * at as f64, 0.03);
    assert!(proportion_upper(hits, 300, 0.05) <= 0.05, "{hits} of 300");
}

/// All twelve have changed by just what counts for nothing.
#[test]
fn at_the_margin_the_family_is_told_wrongly_in_few_trials() {
    let hits = alarms(400, |_| 0.2, |_| 0.2 + 0.1f64.ln_1p(), 0.0);
    assert!(proportion_upper(hits, 400, 0.05) <= 0.05, "{hits} of 400");
}

#[test]
fn a_third_more_interference_is_found_and_named() {
    let trials = 60;
    let (mut found, mut others) = (0, 0);
    for trial in 0..trials {
        let base = group([drawn(2 * trial, |_| 0.5, 0.0)]);
        let grown = |at| if at == 3 { 0.5 + 1.3f64.ln() } else { 0.5 };
        let comparison = compare(&base, &drawn(2 * trial + 1, grown, 0.0), &[]).unwrap();
        let sizes = sizes(&comparison);
        if sizes[3] == Size::Grew {
            found += 1;
            assert_eq!(comparison.outcome, Outcome::Worse);
            assert!(comparison.summary.contains("interference grew (mig/hog s3 p99"), "{}", comparison.summary);
            let shift = comparison.cells[0].series[3].shift.unwrap();
            let (low, high) = (shift.ratio.low.unwrap(), shift.ratio.high.unwrap());
            assert!(low < 1.3 * 1.05 && high > 1.3 / 1.05 && low > 1.1, "{shift:?}");
        }
        others += sizes.iter().filter(|size| **size != Size::Unchanged).count() - usize::from(sizes[3] == Size::Grew);
    }
    assert!(proportion_lower(found, trials, 0.05) > 0.9, "{found} of {trials}");
    assert_eq!(others, 0);
}

#[test]
fn less_interference_is_no_change_for_the_worse() {
    let comparison = compare(&group([drawn(1, |_| 0.5, 0.0)]), &drawn(2, |_| 0.1, 0.0), &[]).unwrap();
    assert_eq!(sizes(&comparison), [Size::Shrank; SERIES]);
    assert_eq!(comparison.outcome, Outcome::Unchanged);
}

/// Runs that scatter by a third: against one of them the next looks changed, against five it does not.
#[test]
fn what_runs_scatter_by_is_no_change() {
    let scattered = |n: u64| drawn(n, move |_| 0.15 * ((n * 7) % 5) as f64, 0.0);
    let (new, one) = (drawn(90, |_| 0.6, 0.0), group([scattered(0)]));
    assert!(changed(&compare(&one, &new, &[]).unwrap()));
    let comparison = compare(&group((0..5).map(scattered)), &new, &[]).unwrap();
    assert!(!changed(&comparison), "{:?}", comparison.cells[0].series[0]);
    let spread = comparison.cells[0].series[0].spread.unwrap();
    assert_eq!(spread.runs, 5);
    assert!(spread.low.unwrap() < 1.1 && spread.high.unwrap() > 1.6, "{spread:?}");
    // What lies beyond them is told against five as well.
    assert!(changed(&compare(&group((0..5).map(scattered)), &drawn(91, |_| 3.0, 0.0), &[]).unwrap()));
}

#[test]
fn what_cannot_be_tested_says_why() {
    let few = |seed: u64| {
        let mut evidence = run(seed);
        let blocks: &[f64] = if seed == 0 { &[0.0, 0.1, 0.2] } else { &[3.0, 3.1, 3.2] };
        evidence.run.cells =
            vec![cell(CELL, V::Violated, vec![series("few", V::Violated, blocks), series("pooled", V::Violated, &[])])];
        evidence
    };
    let comparison = compare(&group([few(0)]), &few(1), &[]).unwrap();
    let why = |at: usize| comparison.cells[0].series[at].why.clone().unwrap();
    assert_eq!(why(0), "3 and 3 blocks cannot tell a change of size");
    assert!(why(1).contains("pooled quantiles"), "{}", why(1));
    assert_eq!((comparison.method.sizes, sizes(&comparison)), (0, vec![Size::NotTested; 2]));
    assert!(comparison.summary.contains("no size of interference could be tested"), "{}", comparison.summary);
}

/// Blocks without bound: the new run never serves what the base did.
#[test]
fn what_is_never_served_has_grown_without_bound() {
    let lost = |seed: u64, ln: f64| {
        let mut evidence = run(seed);
        evidence.run.cells = vec![cell(CELL, V::Violated, vec![series("s", V::Violated, &[ln; 12])])];
        evidence
    };
    let comparison = compare(&group([lost(0, 0.5)]), &lost(1, 100.0), &[]).unwrap();
    let row = &comparison.cells[0].series[0];
    assert_eq!((row.size, row.shift.unwrap().ratio.estimate), (Size::Grew, None));
    assert!(!changed(&compare(&group([lost(0, 100.0)]), &lost(1, 100.0), &[]).unwrap()));
}

fn level(number: u64, ns: f64) -> Evidence {
    let mut evidence = run(number);
    evidence.run.quiet = vec![quiet("mig", "chase", ns)];
    evidence
}

fn p99(comparison: &Comparison) -> &QuietChange {
    comparison.quiet.iter().find(|q| q.quantile == Quantile::P99).unwrap()
}

#[test]
fn a_quiet_level_counts_against_five_runs_and_is_shown_against_four() {
    let base = |runs: u64| group((0..runs).map(|n| level(n, 10_000.0 + 20.0 * n as f64)));
    let five = compare(&base(5), &level(9, 12_050.0), &[]).unwrap();
    assert_eq!((p99(&five).state, five.outcome, p99(&five).runs), (QuietState::Slower, Outcome::Worse, 5));
    assert!((p99(&five).ratio.unwrap() - 1.2).abs() < 0.01 && p99(&five).high_ns.unwrap() < 12_000.0);
    assert!(five.summary.contains("quiet levels rose (mig chase p50, mig chase p99)"), "{}", five.summary);
    let four = compare(&base(4), &level(9, 12_050.0), &[]).unwrap();
    assert_eq!((p99(&four).state, four.outcome), (QuietState::NotJudged, Outcome::Unchanged));
    assert_eq!(p99(&four).why.as_deref(), Some("4 baseline runs of 5"));
    assert!(four.render(Format::Terminal, &Options::default()).unwrap().contains("not judged: 4 baseline runs of 5"));
    for (ns, state) in [(10_100.0, QuietState::Within), (8_000.0, QuietState::Faster)] {
        let comparison = compare(&base(5), &level(9, ns), &[]).unwrap();
        assert_eq!((p99(&comparison).state, comparison.outcome), (state, Outcome::Unchanged));
    }
    let p999 = five.quiet.iter().find(|q| q.quantile == Quantile::P999).unwrap();
    assert_eq!(p999.state, QuietState::NotJudged, "no verdict judges it");
}

#[test]
fn a_run_that_is_in_the_baseline_is_no_evidence_of_itself() {
    let base = group((0..5).map(|n| level(n, 10_000.0)));
    let comparison = compare(&base, &level(4, 12_000.0), &[]).unwrap();
    assert_eq!((p99(&comparison).runs, comparison.base.len()), (4, 4));
    assert!(comparison.method.notes.iter().any(|note| note.contains("left out of it")));
    assert_eq!(compare(&group([run(1)]), &run(1), &[]).unwrap().base.len(), 1, "of one run nothing would be left");
}

#[test]
fn a_quiet_level_that_is_never_reached_has_risen_and_another_load_is_told() {
    let base = group((0..5).map(|n| level(n, 10_000.0)));
    let mut lost = level(9, 10_000.0);
    lost.run.quiet[0].levels[1].ns = None;
    assert_eq!(p99(&compare(&base, &lost, &[]).unwrap()).state, QuietState::Slower);
    let mut faster = level(9, 10_000.0);
    faster.run.quiet[0].rate = Some(500.0);
    let comparison = compare(&base, &faster, &[]).unwrap();
    assert_eq!(p99(&comparison).why.as_deref(), Some("at 500/s, where the base had 400/s"));
}

/// Runs scatter by 3 %, each of a dozen series for itself.
#[test]
fn runs_of_one_level_are_told_apart_in_few_trials() {
    let drawn = |number: u64| {
        let mut evidence = run(number);
        let mut stream = Stream::new(number, &[Of::Name("levels")]);
        let one = |at: usize| quiet("mig", &format!("s{at}"), 10_000.0 * libm::exp(0.03 * stream.normal()));
        evidence.run.quiet = (0..SERIES).map(one).collect();
        evidence
    };
    let told = |trial: u64| {
        let comparison = compare(&group((0..5).map(|n| drawn(10 * trial + n))), &drawn(10 * trial + 9), &[]).unwrap();
        comparison.quiet.iter().any(|q| matches!(q.state, QuietState::Slower | QuietState::Faster))
    };
    let hits = (0..300).filter(|trial| told(*trial)).count() as u64;
    assert!(proportion_upper(hits, 300, 0.05) <= 0.05, "{hits} of 300");
}

/// A key, what makes a run differ in it, and what the refusal names.
type Unalike = (Key, fn(&mut Alike), &'static str);

/// All of them.
fn unlike() -> Vec<Unalike> {
    vec![
        (Key::Model, |a| a.model.name = "NVIDIA A100".to_owned(), "model name: base NVIDIA H100, new NVIDIA A100"),
        (Key::Uuid, |a| a.uuid = "GPU-2".to_owned(), "uuid: base GPU-1, new GPU-2"),
        (
            Key::Layout,
            |a| a.layout.instances[1] = "3g.40gb@?".to_owned(),
            "layout instances (those of one only): base 3g.40gb@4, new 3g.40gb@?",
        ),
        (
            Key::Layout,
            |a| a.layout.arrangements.values_mut().for_each(|s| s.sharing = SharingMode::Mps),
            "layout arrangements.mig.sharing: base mig, new mps",
        ),
        (
            Key::Scenario,
            |a| a.scenario.neighbours.values_mut().for_each(|n| n.queued = 8),
            "scenario neighbours.hog.queued: base 4, new 8",
        ),
        (Key::Scenario, |a| a.scenario.probes.clear(), "scenario probes.chase: base there, new none"),
        (
            Key::Scenario,
            |a| a.scenario.cells = [CELL, "mig/x"].map(str::to_owned).into(),
            "scenario cells (those of one only): base none, new mig/x",
        ),
        (Key::Tier, |a| a.tier.tier = Tier::Certify, "tier tier: base smoke, new certify"),
        (Key::Tier, |a| a.tier.blocks = 12, "tier blocks: base 24, new 12"),
    ]
}

#[test]
fn unlike_runs_are_refused_by_name_and_compared_where_that_is_allowed() {
    for (key, change, named) in unlike() {
        let mut new = run(2);
        change(&mut new.alike);
        let refused = compare(&group([run(1)]), &new, &[]).unwrap_err();
        assert!(refused.to_string().contains(named), "{refused}");
        assert!(refused.to_string().contains(&format!("--allow-different {}", key.id())), "{refused}");
        let others: Vec<Key> = Key::ALL.iter().copied().filter(|other| *other != key).collect();
        assert_eq!(compare(&group([run(1)]), &new, &others).unwrap_err(), refused, "other keys allow nothing");
        let allowed = compare(&group([run(1)]), &new, &[key]).unwrap();
        assert_eq!(allowed.different, refused.differences);
        assert!(allowed.render(Format::Terminal, &Options::default()).unwrap().contains("Unlike, as was allowed"));
    }
}

#[test]
fn nothing_allows_another_provenance() {
    let mut new = run(2);
    new.alike.provenance = Provenance::Simulated;
    let refused = compare(&group([run(1)]), &new, Key::ALL).unwrap_err().to_string();
    assert!(refused.contains("provenance: base measured, new simulated"), "{refused}");
    assert!(!refused.contains("--allow-different"), "{refused}");
}

#[test]
fn quiet_levels_of_another_card_are_not_judged() {
    let mut new = level(9, 20_000.0);
    new.alike.uuid = "GPU-2".to_owned();
    let comparison = compare(&group((0..5).map(|n| level(n, 10_000.0))), &new, &[Key::Uuid]).unwrap();
    assert_eq!((p99(&comparison).state, comparison.method.quiets), (QuietState::NotJudged, 0));
    assert_eq!(p99(&comparison).why.as_deref(), Some("the base is another card, or another layout"));
}

#[test]
fn driver_and_cuda_are_what_is_compared() {
    let mut new = run(2);
    new.run.driver = Some("580.65".to_owned());
    new.run.cuda = None;
    let comparison = compare(&group([run(1)]), &new, &[]).unwrap();
    let changed: Vec<String> = comparison.changed.iter().map(|c| format!("{} {} {}", c.what, c.base, c.new)).collect();
    assert_eq!(changed, ["driver 570.86.10 580.65", "CUDA 12.8 unknown"]);
    assert_eq!(comparison.outcome, Outcome::Unchanged);
}

fn judged(number: u64, overall: V, of_series: V) -> Evidence {
    let mut evidence = run(number);
    evidence.run.cells = vec![cell(CELL, overall, vec![series("chase", of_series, &[])])];
    evidence
}

#[test]
fn a_changed_verdict_is_a_fact() {
    use Change as C;
    use Outcome as O;
    for (base, new, change, outcome) in [
        (&[V::Isolated][..], V::Isolated, C::Same, O::Unchanged),
        (&[V::Isolated], V::Degraded, C::Worse, O::Worse),
        (&[V::Degraded], V::Violated, C::Worse, O::Worse),
        (&[V::Violated], V::Isolated, C::Better, O::Unchanged),
        (&[V::Isolated], V::Inconclusive, C::Undecided, O::Undecided),
        (&[V::Violated], V::Skipped, C::Undecided, O::Undecided),
        (&[V::Inconclusive], V::Violated, C::Decided, O::Unchanged),
        (&[V::Skipped], V::Inconclusive, C::Open, O::Unchanged),
        // Of several runs the worst that is decided counts; better is what none of them was.
        (&[V::Isolated, V::Degraded], V::Degraded, C::Same, O::Unchanged),
        (&[V::Isolated, V::Degraded], V::Isolated, C::Same, O::Unchanged),
        (&[V::Isolated, V::Inconclusive], V::Degraded, C::Worse, O::Worse),
        (&[V::Inconclusive, V::Isolated], V::Skipped, C::Undecided, O::Undecided),
    ] {
        let base_runs = group((0..).zip(base).map(|(n, word)| judged(n, *word, *word)));
        let comparison = compare(&base_runs, &judged(9, new, new), &[]).unwrap();
        assert_eq!((comparison.cells[0].change, comparison.outcome), (change, outcome), "{base:?} → {new:?}");
    }
    // A series that got worse within a cell that is as bad as before.
    let comparison =
        compare(&group([judged(1, V::Violated, V::Isolated)]), &judged(2, V::Violated, V::Degraded), &[]).unwrap();
    assert_eq!((comparison.cells[0].change, comparison.outcome), (Change::Same, Outcome::Worse));
    assert!(
        comparison.summary.contains("a verdict of a series got worse (mig/hog chase p99)"),
        "{}",
        comparison.summary
    );
}

#[test]
fn a_cell_that_is_not_there_is_never_a_pass() {
    let mut new = run(2);
    new.run.cells.clear();
    let comparison = compare(&group([run(1)]), &new, &[]).unwrap();
    assert_eq!((comparison.cells[0].change, comparison.outcome), (Change::Absent, Outcome::Undecided));
    let comparison = compare(&group([new]), &run(1), &[]).unwrap();
    assert_eq!((comparison.cells[0].change, comparison.outcome), (Change::Added, Outcome::Unchanged));
}

#[test]
fn hazards_are_verdicts_too() {
    let with = |number: u64, verdict: V, hits: u64| {
        let mut evidence = run(number);
        evidence.run.hazards = vec![hazard(verdict, hits)];
        evidence
    };
    let comparison = compare(&group([with(1, V::Isolated, 0)]), &with(2, V::Violated, 3), &[]).unwrap();
    assert_eq!((comparison.hazards[0].change, comparison.outcome), (Change::Worse, Outcome::Worse));
    assert_eq!(comparison.hazards[0].new.as_deref(), Some("violated: 3 of 35 trials"));
    let comparison = compare(&group([with(1, V::Isolated, 0)]), &run(2), &[]).unwrap();
    assert_eq!(comparison.outcome, Outcome::Undecided);
}

#[test]
fn what_was_not_measured_says_so_first_in_every_format() {
    let simulated = |number: u64| {
        let mut evidence = run(number);
        evidence.alike.provenance = Provenance::Simulated;
        evidence
    };
    let base = Group::from(simulated(1));
    let comparison = compare(&base, &simulated(2), &[]).unwrap();
    let modes = modes((&simulated(1), "mig"), (&simulated(2), "mig"), &[]).unwrap();
    for format in Format::ALL {
        for text in [comparison.render(*format, &Options::default()), modes.render(*format, &Options::default())] {
            let text = text.unwrap();
            let first = text.lines().find(|line| line.len() > 2).unwrap();
            assert!(first.contains("SIMULATED"), "{}: {first}", format.id());
        }
    }
}

/// Names as nobody should choose them.
const HOSTILE: &str = "a|b `c` <script>alert(1)</script> \u{1b}[31m\u{202e}\n# [x](http://y) *z* & \"q\" '";

#[test]
fn hostile_names_stay_names() {
    let name = format!("mig/{HOSTILE}");
    let with = |number: u64, verdict: V| {
        let mut evidence = run(number);
        evidence.run.scenario = HOSTILE.repeat(200);
        evidence.run.device = HOSTILE.to_owned();
        evidence.run.driver = Some(format!("{HOSTILE}{number}"));
        evidence.run.quiet = vec![quiet("mig", HOSTILE, 10_000.0 * number as f64)];
        let mut worse = cell(&name, verdict, vec![series(HOSTILE, verdict, &[0.1 * number as f64; 24])]);
        worse.why = Some(HOSTILE.to_owned());
        evidence.run.cells = vec![worse];
        let hazard = super::HazardSummary { name: name.clone(), unit: HOSTILE.to_owned(), ..hazard(verdict, number) };
        evidence.run.hazards = vec![hazard];
        evidence
    };
    let (base, new) = (with(1, V::Isolated), with(9, V::Violated));
    let comparison = compare(&Group::from(base.clone()), &new, &[]).unwrap();
    let modes = modes((&base, "mig"), (&new, "mig"), &[]).unwrap();
    for (terminal, md) in [
        (
            comparison.render(Format::Terminal, &Options::default()),
            comparison.render(Format::Markdown, &Options::default()),
        ),
        (modes.render(Format::Terminal, &Options::default()), modes.render(Format::Markdown, &Options::default())),
    ] {
        let (terminal, md) = (terminal.unwrap(), md.unwrap());
        for text in [&terminal, &md] {
            assert!(!text.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'), "something is obeyed");
            assert!(text.contains("script"), "it is shown");
        }
        let read = md.replace("\\\\", "").replace("\\<", "").replace("\\]", "");
        assert!(!read.contains("<script") && !read.contains("](http"), "something is Markdown or HTML");
        // Every row of a table has as many cells as its head.
        let mut cells = None;
        for line in md.lines() {
            let bars = line.replace("\\\\", "").replace("\\|", "").matches('|').count();
            match line.starts_with('|') {
                true => assert_eq!(*cells.get_or_insert(bars), bars, "{line}"),
                false => cells = None,
            }
        }
    }
    let back: serde_json::Value =
        serde_json::from_str(&comparison.render(Format::Json, &Options::default()).unwrap()).unwrap();
    assert_eq!(back["cells"][0]["name"], name.as_str());
}

#[test]
fn modes_stand_side_by_side() {
    let mut evidence = run(1);
    let mig = evidence.alike.layout.arrangements["mig"].clone();
    for (name, sharing) in [("mps", SharingMode::Mps), ("alone", SharingMode::Exclusive)] {
        evidence.alike.layout.arrangements.insert(name.to_owned(), Shares { sharing, ..mig.clone() });
    }
    evidence.run.quiet =
        vec![quiet("mig", "chase", 11_000.0), quiet("mps", "chase", 10_500.0), quiet("alone", "chase", 10_000.0)];
    evidence.run.cells.push(cell("mps/hog", V::Violated, vec![series("chase", V::Violated, &[0.5; 24])]));
    evidence.run.cells[1].noisy = vec![quiet("mps", "chase", 24_000.0)];
    let both = modes((&evidence, "mig"), (&evidence, "mps"), &[]).unwrap();
    assert_eq!(both.summary, "mig: 1 of 1 neighbour isolated; mps: 0 of 1 neighbour isolated.");
    let lone = &both.lone[0];
    assert_eq!((lone.a_cost, lone.b_cost), (Some(1.1), Some(1.05)));
    let p99 = &both.cells[0].series[0].quantiles[1];
    assert_eq!((p99.a_ns, p99.b_ns, p99.ratio), (Some(12_000.0), Some(24_000.0), Some(2.0)));
    assert!(p99.b_interference.is_some());
    let text = both.render(Format::Terminal, &Options::default()).unwrap();
    for expected in ["Beside hog: mig isolated", "; mps VIOLATED", "mig ÷ exclusive", "1.100×", "2.00×"] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    let missing = modes((&evidence, "mig"), (&evidence, "mps2"), &[]).unwrap_err().to_string();
    assert!(missing.contains("no arrangement \"mps2\"; it has alone, mig, mps"), "{missing}");
    // Of two runs: how tenants share may differ, what runs there may not.
    let mut other = evidence.clone();
    other.alike.layout.instances.clear();
    other.alike.scenario.cells.clear();
    assert!(modes((&evidence, "mig"), (&other, "mps"), &[]).is_ok());
    other.alike.uuid = "GPU-2".to_owned();
    assert!(
        modes((&evidence, "mig"), (&other, "mps"), &[])
            .unwrap_err()
            .to_string()
            .contains("uuid: base GPU-1, new GPU-2")
    );
    assert!(modes((&evidence, "mig"), (&other, "mps"), &[Key::Uuid]).is_ok());
}

#[test]
fn without_an_exclusive_arrangement_the_cost_is_not_known() {
    let evidence = run(1);
    let both = modes((&evidence, "mig"), (&evidence, "mig"), &[]).unwrap();
    assert!(both.lone.iter().all(|l| l.a_cost.is_none() && l.b_cost.is_none()));
    assert!(both.notes.iter().any(|note| note.contains("not known: no run here has an exclusive arrangement")));
}

/// In which order the base's runs were taken down makes no difference to what is judged.
#[test]
fn the_order_of_runs_makes_no_difference() {
    let mut runs: Vec<Evidence> = (0..6).map(|n| drawn(n, |_| 0.2, 0.01)).collect();
    let new = drawn(90, |_| 0.3, 0.01);
    let of = |runs: &[Evidence]| {
        let mut comparison = compare(&group(runs.to_vec()), &new, &[]).unwrap();
        comparison.base.sort_by(|a, b| a.root_sha256.cmp(&b.root_sha256));
        for s in comparison.cells.iter_mut().flat_map(|cell| &mut cell.series) {
            // That of the last one.
            s.base_ratio = None;
        }
        comparison
    };
    let before = of(&runs);
    runs.rotate_left(2);
    runs.swap(0, 5);
    assert_eq!(of(&runs), before);
}

proptest! {
    /// Differences survive the line that they are written as.
    #[test]
    fn blocks_read_back(blocks in proptest::collection::vec(proptest::option::of(-100_000_000i64..=100_000_000), 0..40)) {
        let blocks = Blocks(blocks);
        prop_assert_eq!(Blocks::try_from(String::from(blocks.clone())), Ok(blocks));
    }

    #[test]
    fn a_run_is_like_itself_alone(at in 0usize..9) {
        let (_, change, _) = unlike()[at];
        let mut other = alike();
        change(&mut other);
        prop_assert!(alike().differences(&alike()).is_empty() && !alike().differences(&other).is_empty());
        prop_assert_eq!(alike().differences(&other).len(), other.differences(&alike()).len());
    }
}

#[test]
fn what_is_no_difference_is_refused() {
    for bad in ["1 2 x", "1.5", "--"] {
        assert!(Blocks::try_from(bad.to_owned()).is_err(), "{bad:?}");
    }
}

/// Runs of curves alone have nothing that is compared, which is no agreement.
#[test]
fn runs_without_anything_to_compare_are_not_called_unchanged() {
    let bare = |number| {
        let mut evidence = fixture::run(number);
        evidence.run.cells.clear();
        evidence.run.quiet.clear();
        evidence
    };
    let comparison = compare(&group([bare(1)]), &bare(2), &[]).unwrap();
    assert_eq!(comparison.outcome, Outcome::Undecided);
    assert!(comparison.summary.contains("how many tenants meet is not compared"), "{}", comparison.summary);
}
