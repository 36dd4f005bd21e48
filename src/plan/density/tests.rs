use super::*;
use crate::gpu::{Inventory, find_model, parse_layout, simulated};
use crate::plan::{Plan, Terms};
use crate::provenance::Provenance;
use crate::scenario::read;
use crate::workload::CATALOGUE;

const PANEL: &str = "{ probe = \"inference\", arrivals = { poisson = \"20/s\" }, slo = { p99 = \"50ms\" } }";

/// A scenario with these arrangements of this panel, and this design.
fn scenario(design: &str, panel: &str, arrangements: &str) -> crate::scenario::Scenario {
    let text = format!(
        "schema = 1\nname = \"t\"\n[design]\n{design}\n[victim]\npanel = [{panel}]\n[[neighbour]]\nnoise = \
         \"idle\"\n{arrangements}"
    );
    read("t.toml", &text, CATALOGUE).unwrap_or_else(|mistakes| panic!("{}", mistakes.render(false)))
}

fn curve_of(name: &str, sharing: &str, tenants: &str) -> String {
    format!(
        "[[arrangement]]\nname = \"{name}\"\nsharing = \"{sharing}\"\ntenants = {{ {tenants}, all = \"inference\" }}\n"
    )
}

fn h100() -> &'static GpuModel {
    find_model("h100-sxm").unwrap()
}

fn on_h100(design: &str, arrangements: &str) -> Plan {
    let inventory = simulated(h100(), None);
    Plan::resolve(&scenario(design, PANEL, arrangements), &inventory, 0, Some(h100())).unwrap()
}

fn skipped(plan: &Plan) -> Vec<(u32, &str)> {
    plan.arrangements.iter().filter_map(|a| Some((a.density?.tenants, a.skipped.as_deref()?))).collect()
}

#[test]
fn every_density_of_a_curve_is_an_arrangement_of_its_own_after_the_plain_ones() {
    let plan = on_h100(
        "blocks = 20",
        &[
            &curve_of("ts", "time-slicing", "count = [1, 2, 4], at_least = 2"),
            "[[arrangement]]\nname = \"alone\"\nsharing = \"exclusive\"\n",
            &curve_of("mig", "mig", "count = [1, 2], every = true"),
            "[[arrangement]]\nname = \"pair\"\nsharing = \"time-slicing\"\n",
        ]
        .concat(),
    );
    let names: Vec<&str> = plan.arrangements.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(names, ["alone", "pair", "ts×1", "ts×2", "ts×3", "ts×4", "mig×1", "mig×2"]);
    let levels: Vec<_> = plan.curves[0].levels.iter().map(|l| (l.tenants, l.arrangement, l.listed)).collect();
    assert_eq!(levels, [(1, 2, true), (2, 3, true), (3, 4, false), (4, 5, true)]);
    assert_eq!((plan.curves[0].at_least, plan.curves[0].every, plan.curves[0].probe), (Some(2), false, 0));
    assert_eq!(plan.curves[1].levels[1].arrangement, 7);
    for (index, curve) in plan.curves.iter().enumerate() {
        for level in &curve.levels {
            let planned = &plan.arrangements[level.arrangement];
            let density = planned.density.unwrap();
            assert_eq!((density.curve, density.tenants), (index, level.tenants));
            assert_eq!((planned.seats.len(), planned.skipped.as_deref()), (level.tenants as usize, None));
            let grid = Grid { victim: 0, neighbour_seats: vec![], probes: vec![0], neighbours: vec![], first_block: 0 };
            assert_eq!(planned.grids, [grid]);
        }
    }
    assert!(!plan.all_densities());
    // No name of a scenario can be that of a density.
    assert!(crate::field::Kind::Name.parse("ts×2").is_err());
    assert!(on_h100("", &curve_of("ts", "time-slicing", "count = 1")).all_densities());
}

/// The exclusive density is no exclusive arrangement to compare with, and indices are those without densities.
#[test]
fn observations_are_compared_with_plain_arrangements() {
    let observing = "[[arrangement]]\nname = \"pair\"\nsharing = \"time-slicing\"\nobserve = { switch = \"any\" }\n";
    let compares: Vec<_> = crate::observation::CATALOGUE.iter().filter(|o| o.compares()).map(|o| o.id).collect();
    let observing = observing.replace("switch", compares[0]);
    let plan = on_h100(
        "",
        &[
            &curve_of("lone", "exclusive", "count = 1"),
            "[[arrangement]]\nname = \"alone\"\nsharing = \"exclusive\"\n",
            &observing,
        ]
        .concat(),
    );
    assert_eq!(plan.arrangements[1].against, Some(0));
    assert_eq!(plan.arrangements[0].name, "alone");
    let text = [curve_of("lone", "exclusive", "count = 1"), observing].concat();
    let text =
        format!("schema = 1\nname = \"t\"\n[victim]\npanel = [{PANEL}]\n[[neighbour]]\nnoise = \"idle\"\n{text}");
    let told = read("t.toml", &text, CATALOGUE).unwrap_err().render(false);
    assert!(told.contains("without anything to compare with"), "{told}");
}

/// 80 beyond p99 are 8000 requests: at 20/s 400 s, over 20 blocks 20 s each.
#[test]
fn windows_are_as_long_as_the_objective_takes_at_its_load_unless_written() {
    let of = |design: &str, panel: &str| {
        let panel = format!("{{ probe = \"inference\", {panel} }}");
        let scenario = scenario(design, &panel, &curve_of("ts", "time-slicing", "count = 2"));
        let plan = Plan::resolve(&scenario, &simulated(h100(), None), 0, Some(h100())).unwrap();
        plan.arrangements[0].density.unwrap().window
    };
    let p99 = "arrivals = { poisson = \"20/s\" }, slo = { p99 = \"50ms\" }";
    assert_eq!(of("blocks = 20", p99), Nanos::secs(20));
    assert_eq!(of("blocks = 40", p99), Nanos::secs(10));
    assert_eq!(of("blocks = 20", &p99.replace("p99", "p90")), Nanos::secs(2));
    assert_eq!(
        of("blocks = 20", &p99.replace("p99", "p50 = \"9ms\", \"p99.9\"")).0,
        Nanos::secs(200).0,
        "the farthest one"
    );
    assert_eq!(of("blocks = 20", &p99.replace("20/s", "10000/s")), Nanos::secs(1), "the shortest");
    assert_eq!(of("blocks = 2", &p99.replace("20/s", "0.1/s")), Nanos::secs(600), "the longest");
    assert_eq!(
        of("blocks = 20\nwindow = \"250ms\"", p99),
        Nanos::millis(250),
        "as written, even if by default the same"
    );
}

/// 8 000 000 requests for p99.999, in one window.
#[test]
fn a_window_that_holds_too_many_requests_is_refused() {
    let of = |blocks: u32| {
        let panel =
            "{ probe = \"inference\", arrivals = { poisson = \"100000/s\" }, slo = { \"p99.999\" = \"50ms\" } }";
        let scenario = scenario(&format!("blocks = {blocks}"), panel, &curve_of("ts", "time-slicing", "count = 2"));
        Plan::resolve(&scenario, &simulated(h100(), None), 0, Some(h100()))
    };
    assert!(of(2).is_ok());
    assert!(of(1).unwrap_err().to_string().contains("8000000 requests, at most 5000000 are held"));
}

#[test]
fn a_bisection_takes_at_most_so_many() {
    // Eight listed, eight between: sixteen in all.
    let counts = [1, 2, 3, 4, 6, 8, 12, 16];
    let all: Vec<bool> = (1..=16).map(|n| counts.contains(&n)).collect();
    assert_eq!(most(&all, true, false), 5 + 2, "one, ⌈log₂ 16⌉, and two to spare");
    assert_eq!(most(&all, true, true), 8 + 2 + 2, "and of three between 12 and 16 two, and two to spare");
    assert_eq!([1, 2, 3, 4, 7, 8].map(|n| most(&vec![true; n], false, false)), [1, 2, 3, 4, 5, 6]);
    assert_eq!([1, 2, 3, 4, 7, 8].map(|n| most(&vec![true; n], true, false)), [1, 2, 3, 4, 6, 6]);
    assert_eq!((most(&[], false, false), most(&[], false, true)), (1, 1));
}

#[test]
fn instances_that_cannot_be_are_skipped_and_those_below_are_searched() {
    let plan = on_h100("", &curve_of("mig", "mig", "count = [1, 2, 4, 8]"));
    let [(8, why)] = skipped(&plan)[..] else { panic!("{:?}", skipped(&plan)) };
    assert!(why.contains("no 8 instances of one profile") && why.contains("7 × 1g.10gb at most"), "{why}");
    assert_eq!(plan.curves[0].most, 6, "one, three of the six others, and two to spare");
    assert!(plan.arrangements[7].grids.is_empty());
    let plan =
        on_h100("", &curve_of("in turns", "mig+time-slicing", "count = [2, 8], instances = 2").replace("in ", "in-"));
    let tenants: Vec<u32> = plan.curves[0].levels.iter().map(|level| level.tenants).collect();
    assert_eq!(tenants, [2, 4, 6, 8], "those alone that two instances share evenly");
    assert_eq!(plan.arrangements[2].layout.len(), 2);
}

/// 81559 MiB, of which a context takes 326: 4 × (19456 + 326) = 79128, and with five more than there is.
#[test]
fn what_does_not_fit_in_memory_is_refused_with_the_arithmetic() {
    let plan = on_h100("", &curve_of("ts", "time-slicing", "count = [1, 8], memory = \"19GiB\""));
    let refused: Vec<u32> = skipped(&plan).iter().map(|(tenants, _)| *tenants).collect();
    assert_eq!(refused, [5, 6, 7, 8]);
    assert_eq!(
        skipped(&plan)[3].1,
        "no room in memory: 8 × (19 GiB + 0.32 GiB of context) = 155 GiB, and the GPU has 79.6 GiB"
    );
    assert_eq!(plan.curves[0].most, 4, "all that fit");
    assert_eq!(plan.arrangements[0].density.unwrap().budget, Some(Bytes::gib(19)));
    // An instance has its own: 9984 MiB of 1g.10gb.
    let plan = on_h100("", &curve_of("mig", "mig", "count = [4, 7], memory = \"10GiB\""));
    let refused = skipped(&plan);
    assert_eq!(refused.iter().map(|(tenants, _)| *tenants).collect::<Vec<_>>(), [5, 6, 7]);
    assert!(
        refused[0].1.contains("1 × (10 GiB + 0.32 GiB of context) = 10.3 GiB, and an instance 1g.10gb has 9.75 GiB")
    );
}

/// A footprint that is a share of what the tenant sees is one of the whole GPU, and two such tenants do not fit.
#[test]
fn what_the_program_allocates_counts_without_a_budget() {
    let panel = "{ probe = \"inference\", params = { weights = \"60%\" }, arrivals = { poisson = \"20/s\" }, slo = { p99 = \
                 \"50ms\" } }";
    let scenario = scenario("", panel, &curve_of("ts", "time-slicing", "count = [1, 2]"));
    let plan = Plan::resolve(&scenario, &simulated(h100(), None), 0, Some(h100())).unwrap();
    let [(2, why)] = skipped(&plan)[..] else { panic!("{:?}", skipped(&plan)) };
    assert!(why.starts_with("no room in memory: 2 × (47.4 GiB + 0.32 GiB of context) = 95.5 GiB"), "{why}");
    assert_eq!(plan.arrangements[0].density.unwrap().budget, None);
    // A budget below what the program allocates makes it no smaller.
    let less = super::tests::scenario("", panel, &curve_of("ts", "time-slicing", "count = [1, 2], memory = \"1GiB\""));
    let less = Plan::resolve(&less, &simulated(h100(), None), 0, Some(h100())).unwrap();
    assert_eq!(skipped(&less), [(2, why)]);
}

/// Of the B200 nobody has told how many SMs a 3g.90gb has: it cannot be simulated, and hardware will say.
#[test]
fn what_the_models_data_do_not_say_refuses_nothing_on_hardware() {
    let model = find_model("b200").unwrap();
    let placed = parse_layout(model, "3g.90gb+3g.90gb").unwrap();
    for (provenance, runs) in [(Provenance::Simulated, false), (Provenance::Measured, true)] {
        let inventory = Inventory { provenance, ..simulated(model, Some(&placed)) };
        let scenario = scenario("", PANEL, &curve_of("mig", "mig", "count = 2"));
        let plan = Plan::resolve(&scenario, &inventory, 0, Some(model)).unwrap();
        assert_eq!(plan.arrangements[0].layout.first().and_then(|entry| entry.profile.as_deref()), Some("3g.90gb"));
        assert_eq!(plan.arrangements[0].skipped.is_none(), runs, "{provenance:?}: {:?}", plan.arrangements[0].skipped);
    }
}

#[test]
fn a_model_that_nobody_knows_refuses_only_what_cannot_fit() {
    let mut inventory = simulated(h100(), None);
    inventory.gpus[0].model = None;
    let of = |tenants: &str| {
        let scenario = scenario("", PANEL, &curve_of("ts", "time-slicing", tenants));
        let plan = Plan::resolve(&scenario, &inventory, 0, None).unwrap();
        skipped(&plan).into_iter().map(|(tenants, why)| (tenants, why.to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(of("count = [1, 4]"), [], "what the program allocates is not known");
    let refused = of("count = [3, 4], memory = \"20GiB\"");
    assert_eq!(refused.len(), 1);
    assert!(refused[0].1.contains("4 × (20 GiB + 0.1 GiB of context, assumed) = 80.4 GiB"), "{refused:?}");
}

#[test]
fn hardware_is_divided_as_asked_or_the_density_is_skipped() {
    let of = |layout: Option<&str>, provenance, terms: Terms<'_>| -> Vec<Option<String>> {
        let placed = layout.map(|text| parse_layout(h100(), text).unwrap());
        let inventory = Inventory { provenance, ..simulated(h100(), placed.as_deref()) };
        let scenario = scenario("", PANEL, &curve_of("mig", "mig", "count = [1, 3]"));
        let plan = Plan::resolve_on(&scenario, &inventory, 0, Some(h100()), terms).unwrap();
        plan.arrangements.into_iter().map(|a| a.skipped).collect()
    };
    let runs = |all: &[Option<String>]| all.iter().map(Option::is_none).collect::<Vec<_>>();
    let plain = Terms::default();
    assert_eq!(runs(&of(None, Provenance::Simulated, plain)), [true; 3]);
    let off = of(None, Provenance::Measured, plain);
    assert!(off.iter().all(|why| why.as_ref().is_some_and(|why| why.starts_with("MIG mode is off"))), "{off:?}");
    let two = of(Some("3g.40gb+3g.40gb"), Provenance::Measured, plain);
    assert_eq!(runs(&two), [false, true, false]);
    let why = two[0].as_deref().unwrap();
    assert!(why.contains("the scenario asks for 7g.80gb") && why.contains("--allow-reconfigure"), "{why}");
    let may = Terms { allow_reconfigure: true, ..plain };
    assert_eq!(runs(&of(Some("3g.40gb+3g.40gb"), Provenance::Measured, may)), [true; 3]);
    let part = of(Some("3g.40gb+3g.40gb"), Provenance::Simulated, Terms { victim_on: Some("MIG-1"), ..plain });
    assert!(part[0].as_ref().is_some_and(|why| why.contains("MIG-1")), "{part:?}");
}
