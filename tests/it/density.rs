//! Equal tenants in growing numbers, against queueing that can be worked out by hand.

use crosstalk::backend::sim::Simulator;
use crosstalk::scenario::Quantile;
use crosstalk::verdict::{CurveVerdict, LevelState, RunVerdict};

use crate::support::{model, simulate};

/// GPU time of a request, and of the quantum and the switch of the model, in milliseconds.
const SERVICE: f64 = 10.0;
const QUANTUM: f64 = 2.09;
const SWITCH: f64 = 0.17;

/// Tenants in turns whose requests of ten milliseconds all arrive together, so often a second.
fn in_turns(rate: u32, bound: u32) -> RunVerdict {
    // Forty requests of each tenant in an arm: 680 in all, and five densities judged at a fifth of 1 % each take 619.
    let window = 40_000 / rate;
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
