//! Equal tenants in growing numbers, against queueing that can be worked out by hand.

use crosstalk::backend::sim::Simulator;
use crosstalk::experiment::{lengths, one_place_each};
use crosstalk::scenario::{self, Quantile};
use crosstalk::units::Nanos;
use crosstalk::verdict::{self, CurveVerdict, Factor, LevelState, RunVerdict};
use crosstalk::workload::CATALOGUE;

use crate::support::{compare_with_docs, model, plan, run_in, simulate};

/// GPU time of a request, and of the quantum and the switch of the model, in milliseconds.
const SERVICE: f64 = 10.0;
const QUANTUM: f64 = 2.09;
const SWITCH: f64 = 0.17;

/// Tenants in turns whose requests of ten milliseconds all arrive together, so often a second.
fn in_turns(rate: u32, bound: u32) -> RunVerdict {
    // Sixty requests of each tenant in an arm, 1020 in all: a p99 takes a thousand to be told.
    let window = 60_000 / rate;
    let text = format!(
        "schema = 1\nname = \"by-hand\"\n[design]\nblocks = 17\nwindow = \"{window}ms\"\n[victim]\npanel = [{{ probe = \"compute\", params = {{ kernel \
         = \"10ms\" }}, arrivals = {{ fixed = \"{rate}/s\" }}, slo = {{ p99 = \"{bound}ms\" }} }}]\n[[arrangement]]\nname = \
         \"turns\"\nsharing = \"time-slicing\"\ntenants = {{ count = [1, 4, 8, 16], all = \"compute\" }}\n"
    );
    let model = model("h100-sxm");
    simulate(&text, &Simulator::new(model, None), model, None).1
}

/// Worked out by hand: `tenants` requests arrive at once and take turns of a quantum, the last turn of each what is left. The
/// last one is done after all of them have been served, and after a switch for each turn.
fn slowest(tenants: f64) -> f64 {
    tenants * (SERVICE + (SERVICE / QUANTUM).ceil() * SWITCH)
}

fn worst_p99_ms(curve: &CurveVerdict, tenants: u32) -> Option<f64> {
    let level = curve.levels.iter().find(|level| level.tenants == tenants)?;
    let p99 = |(q, ns): &(Quantile, f64)| (*q == Quantile::P99).then_some(ns / 1e6);
    level.each.iter().filter_map(|tenant| tenant.latencies.iter().find_map(p99)).reduce(f64::max)
}

#[test]
fn the_crossing_is_where_round_robin_has_it_at_three_loads() {
    // Of the loads, the first two are crossed where the GPU is full, the third where the bound is.
    for (rate, bound, crossing) in [(20, 125, 4), (10, 125, 9), (5, 125, 11)] {
        let verdict = in_turns(rate, bound);
        let [curve] = verdict.curves.as_slice() else { panic!("{:#?}", verdict.curves) };
        let most = (1e3 / f64::from(rate)).min(bound.into());
        let by_hand = (1..=16).filter(|n| slowest(f64::from(*n)) <= most).max();
        assert_eq!(by_hand, Some(crossing), "the arithmetic itself");
        assert_eq!((curve.met, curve.missed), (by_hand, Some(crossing + 1)), "at {rate}/s: {:#?}", states(curve));
        let (seen, expected) = (worst_p99_ms(curve, crossing).unwrap(), slowest(crossing.into()));
        assert!(
            (seen / expected - 1.0).abs() < 0.02,
            "{crossing} tenants at {rate}/s: {seen} ms, by hand {expected} ms"
        );
        // Beyond a full GPU there is no latency to tell; beyond the bound there is one.
        let above = worst_p99_ms(curve, crossing + 1);
        assert_eq!(above.is_none(), slowest(f64::from(crossing + 1)) > 1e3 / f64::from(rate), "{above:?}");
        let measured = curve.levels.iter().filter(|level| level.arms > 0).count();
        assert!(measured <= 5, "{measured} of 16 densities");
    }
}

fn states(curve: &CurveVerdict) -> Vec<(u32, &LevelState, bool)> {
    curve.levels.iter().map(|level| (level.tenants, &level.state, level.saturated)).collect()
}

/// Writes, or compares, the table of docs/capacity.md: where p99 leaves multiples of a lone tenant's. Says at how many tenants it has
/// left twice as much, from the first kind of tenant to the last.
pub(crate) fn table_of_the_claim(text: &str, verdict: &RunVerdict) -> String {
    let scenario = scenario::read("ts-four", text, CATALOGUE).unwrap();
    let mut table =
        "| request | load of each | p99 alone | leaves 1.5× | leaves 2× | leaves 5× | cannot be served |\n".to_owned();
    table += "|---|---|---|---|---|---|---|\n";
    let mut twice = Vec::new();
    for curve in &verdict.curves {
        let arrangement = &scenario.arrangements[curve.curve];
        let Some((kernel, load)) = arrangement.name.strip_prefix("turns-").and_then(|kind| kind.split_once('-')) else {
            continue;
        };
        let (reference, tenants) = curve.reference.as_ref().unwrap();
        assert_eq!((reference.as_str(), *tenants), (format!("alone-{kernel}-{load}×1").as_str(), 1));
        let exclusive = verdict
            .curves
            .iter()
            .find(|other| scenario.arrangements[other.curve].name == format!("alone-{kernel}-{load}"));
        let alone = Nanos((worst_p99_ms(exclusive.unwrap(), 1).unwrap() * 1e6) as u64).for_people();
        let leaves = |times: f64| {
            let factor = curve.factors.iter().find(|factor| factor.times == times).unwrap();
            match factor {
                Factor { within: Some(within), beyond: Some(beyond), .. } => format!("{within} → {beyond}"),
                Factor { within: Some(within), beyond: None, .. } => format!("not by {within}"),
                Factor { within: None, beyond, .. } => format!("by {}", beyond.unwrap()),
            }
        };
        twice.extend(curve.factors.iter().filter(|factor| factor.times == 2.0).filter_map(|factor| factor.beyond));
        let full = curve
            .levels
            .iter()
            .find(|level| level.saturated)
            .map_or("–".to_owned(), |level| level.tenants.to_string());
        let [a, b, c] = [1.5, 2.0, 5.0].map(leaves);
        table += &format!("| {kernel} | {load} % | {alone} | {a} | {b} | {c} | {full} |\n");
    }
    compare_with_docs("capacity.md", &[("table of ts-four", table)]);
    format!("at {} to {} tenants", twice.iter().min().unwrap(), twice.iter().max().unwrap())
}

/// `check` in full; then a run of short windows and few arms, in which every curve comes to an end.
#[test]
fn ready_made_scenarios_of_capacity_run_and_tell_beforehand_how_long() {
    for card in ["h100", "a100"] {
        for probe in ["inference", "llm-decode"] {
            let (_, text) = scenario::load(&format!("capacity/{card}-{probe}")).unwrap();
            let model = model(if card == "h100" { "h100-sxm" } else { "a100-80gb" });
            let simulator = Simulator::new(model, None);
            let planned = plan(&text, &simulator, model, None);
            assert_eq!(planned.curves.len(), 5, "{card}-{probe}");
            let takes = one_place_each(&lengths(&planned)).total();
            assert!(takes <= planned.design.tier.budget(), "{card}-{probe}: {takes}");
            let notes = verdict::foreseen(&planned, jiff::civil::date(2026, 11, 26));
            assert!(notes.iter().all(|note| note.what.starts_with("nothing is required")), "{card}-{probe}: {notes:?}");

            let short = text.replace("window = \"5s\"", "blocks = 13\nwindow = \"2500ms\"");
            assert_ne!(short, text);
            let planned = plan(&short, &simulator, model, None);
            let folder = tempfile::tempdir().unwrap();
            let (run, verdict) = run_in(&folder.path().join("run"), &simulator, &planned, &short);
            for curve in &verdict.curves {
                let name = &run.manifest.plan.curves[curve.curve].name;
                assert!(curve.complete, "{card}-{probe}, {name}: {:#?}", states(curve));
                let measured = curve.levels.iter().filter(|level| level.arms > 0).count() as u32;
                assert!((1..=run.manifest.plan.curves[curve.curve].most).contains(&measured), "{name}: {measured}");
                // More than the GPU can do is told without a latency.
                for level in curve.levels.iter().filter(|level| level.saturated) {
                    assert!(level.each.iter().all(|tenant| tenant.latencies.is_empty()), "{level:#?}");
                }
            }
        }
    }
}

/// More tenants than the simulated machine has queues for: the curve ends there, with the reason.
#[test]
fn a_density_that_the_machine_cannot_bring_up_ends_its_curve() {
    let text = "schema = 1\nname = \"many\"\n[design]\nblocks = 13\nwindow = \"2s\"\n[victim]\npanel = [{ probe = \"launch\", arrivals = \
                { poisson = \"50/s\" }, slo = { p99 = \"1ms\" } }]\n[[arrangement]]\nname = \"mps\"\nsharing = \"mps\"\ntenants = { \
                count = [1, 4, 40], all = \"launch\", every = true }\n";
    let model = model("h100-sxm");
    let (_, verdict) = simulate(text, &Simulator::new(model, None), model, None);
    let curve = &verdict.curves[0];
    assert!(curve.complete, "{:#?}", states(curve));
    let last = curve.levels.last().unwrap();
    assert!(matches!(last.state, LevelState::Undecided { .. }) && !last.notes.is_empty(), "{last:#?}");
    assert!(curve.met.is_some_and(|met| met >= 4), "{:#?}", states(curve));
}
