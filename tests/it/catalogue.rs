//! Every workload of the catalogue runs in the simulator, and the placebo moves none of them. That each has a line of
//! documentation and an example is tested beside the catalogue (src/workload/tests.rs).

use crosstalk::backend::sim::Simulator;
use crosstalk::backend::{Load, Outcome};
use crosstalk::units::{Nanos, Rate};
use crosstalk::workload::{CATALOGUE, Role};

use crate::support::{Bench, entries, model, scenario_text, simulate};

const PLACES: &[&str] = &["sharing = \"time-slicing\"", "sharing = \"mig\"\nlayout = [\"2g.12gb\", \"2g.12gb\"]"];

fn ids(not: Role) -> Vec<&'static str> {
    CATALOGUE.iter().filter(|w| w.role != not).map(|w| w.id).collect()
}

#[test]
fn every_workload_runs_in_its_roles() {
    let (probes, noises) = (ids(Role::Noise), ids(Role::Probe));
    assert!(CATALOGUE.iter().all(|w| probes.contains(&w.id) || noises.contains(&w.id)));
    for place in PLACES {
        for probe in &probes {
            let bench = Bench::new(model("a30"), &entries("probe", &[probe]), &entries("noise", &["idle"]), place);
            let record = bench.arm(0, None, Load::Closed { depth: 1 }, Nanos::millis(50));
            assert!(record.summary.windows[0].completed > 0, "{probe}, {place}");
            assert!(record.samples.iter().all(|s| s.outcome == Outcome::Ok), "{probe}, {place}");
            for (index, series) in record.series.iter().enumerate() {
                assert!(record.samples.iter().any(|s| usize::from(s.series) == index), "{series} is empty, {place}");
            }
        }
        for noise in &noises {
            let bench = Bench::new(model("a30"), &entries("probe", &["launch"]), &entries("noise", &[noise]), place);
            let open = Load::Open { rate: Rate(0), poisson: false };
            // Long enough for a context to come and go.
            let record = bench.arm(0, Some(0), open, Nanos::millis(500));
            let seat = &record.summary.neighbours[0];
            assert!(seat.completed > 0 && seat.rate > 0.0, "{noise}, {place}: {seat:?}");
            assert!(seat.pending >= 0.99 || *noise == "idle", "{noise}, {place}: its queue runs empty, {seat:?}");
            assert!(record.summary.oom.is_empty(), "{noise}, {place}: {:?}", record.summary.oom);
        }
    }
}

#[test]
fn the_placebo_moves_no_probe() {
    for place in PLACES {
        let text = scenario_text(
            // Cells alone: in windows so short an A/A control decides nothing. What queues is slow in bunches, of which p99 takes some.
            "blocks = 34\nwindow = \"100ms\"\ncontrols = { again = false, presence = 0, sensitivity = 0, delay = 0, sampler = 0 }",
            &entries("probe", &ids(Role::Noise)),
            &entries("noise", &["idle"]),
            place,
        );
        let a30 = model("a30");
        let (_, verdict) = simulate(&text, &Simulator::new(a30, None), a30, None);
        for cell in &verdict.cells {
            for s in &cell.series {
                assert_eq!(s.verdict.word(), "isolated", "{place}, {} {}: {s:#?}", s.series, s.quantile);
            }
        }
    }
}

/// Tenants in turns share one memory, instances do not: who runs out of it, and where.
#[test]
fn memory_runs_out_where_it_is_shared() {
    for (place, runs_out) in PLACES.iter().zip([true, false]) {
        let ramp = Bench::new(
            model("a30"),
            &[r#"{ probe = "hbm-burst", params = { footprint = "50%" } }"#],
            &[r#"{ noise = "capacity-ramp", params = { peak = "90%" } }"#],
            place,
        );
        let record = ramp.arm(0, Some(0), Load::Closed { depth: 1 }, Nanos::millis(100));
        let by_neighbour = record.summary.oom.iter().filter(|e| e.seat == 1 && e.free < e.asked).count();
        assert_eq!(by_neighbour > 0, runs_out, "{place}: {:?}", record.summary.oom);

        let alloc = Bench::new(
            model("a30"),
            &[r#"{ probe = "alloc", params = { size = "50%" } }"#],
            &[r#"{ noise = "capacity-ramp", params = { peak = "80%" } }"#],
            place,
        );
        let record = alloc.arm(0, Some(0), Load::Closed { depth: 1 }, Nanos::millis(100));
        let failed = record.samples.iter().filter(|s| s.outcome == Outcome::Oom).count();
        let by_victim = record.summary.oom.iter().filter(|e| e.seat == 0).count();
        assert_eq!(failed > 0, runs_out, "{place}");
        assert!(by_victim >= failed, "{place}: each failed request leaves an event");
    }
}
