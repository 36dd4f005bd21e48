//! The built-in scenarios of the tiers, on simulated cards: they fit their budgets, run, and come out as physics says.

use crosstalk::backend::Backend;
use crosstalk::backend::sim::Simulator;
use crosstalk::experiment::{Length, lengths, one_place_each, planned_arms};
use crosstalk::gpu::{GpuModel, parse_layout};
use crosstalk::plan::Plan;
use crosstalk::scenario::{self, BUILTIN, Tier};
use crosstalk::verdict::{self, RequirementState, RunVerdict};
use crosstalk::workload::CATALOGUE;

use crate::support::{Scratch, crosstalk, model, plan, run_in, stdout};

/// The models of a file's card. The first stands for it where one is enough.
fn models(name: &str) -> &'static [&'static str] {
    match name.split_once('/').map(|(_, card)| card.split_once("-mig").map_or(card, |(card, _)| card)) {
        Some("h100") => &["h100-sxm", "h100-pcie", "h100-nvl"],
        Some("a100") => &["a100-80gb", "a100-40gb"],
        Some("h200") => &["h200"],
        Some("a30") => &["a30"],
        Some("no") => &["t4", "rtx-4090"],
        other => panic!("{name}: no models of {other:?}"),
    }
}

/// The simulated machines that a file is for.
fn machines(name: &str, model: &'static GpuModel) -> Vec<(String, Simulator)> {
    if !name.ends_with("-mig-on") {
        return vec![("MIG off".to_owned(), Simulator::new(model, None))];
    }
    // As an administrator leaves a card: the profiles mixed, and as many small instances as there can be.
    let mig = model.mig.as_ref().unwrap();
    let smallest = mig.profiles.iter().max_by_key(|profile| profile.max).unwrap();
    let many = vec![smallest.name.as_str(); smallest.max as usize].join("+");
    let machine = |layout: &str| {
        let placed = parse_layout(model, layout).unwrap();
        (layout.to_owned(), Simulator::new(model, Some(&placed)))
    };
    vec![machine("all-balanced"), machine(&many)]
}

fn of_tier(tier: Tier) -> impl Iterator<Item = (&'static str, &'static str)> {
    BUILTIN.iter().copied().filter(move |(name, _)| name.starts_with(&format!("{tier}/")))
}

/// The plan with the victim in its first place of each arrangement.
fn one_place(mut plan: Plan) -> Plan {
    for arrangement in &mut plan.arrangements {
        let first = arrangement.grids.first().map(|grid| grid.victim);
        arrangement.grids.retain(|grid| Some(grid.victim) == first);
    }
    plan
}

#[test]
fn every_file_stays_within_the_budget_of_its_tier_and_reconfigures_nothing() {
    let mut files = 0;
    for tier in Tier::ALL {
        for (name, text) in of_tier(*tier) {
            files += 1;
            for id in models(name) {
                for (layout, simulator) in machines(name, model(id)) {
                    let plan = plan(text, &simulator, model(id), None);
                    assert_eq!(plan.design.tier, *tier, "{name}");
                    assert_eq!(plan.arrangements.len(), 4, "{name}");
                    for a in plan.arrangements.iter().filter(|a| a.skipped.is_some()) {
                        // A machine of the smallest instances has none that could be divided.
                        let expected = a.name == "compute-instances" && layout != "all-balanced";
                        assert!(expected, "{name} on {id}/{layout}: {}: {:?}", a.name, a.skipped);
                    }
                    let places = lengths(&plan);
                    let Length { stretch, .. } = places.iter().map(|place| place.length).sum();
                    assert_eq!(stretch.0, 0, "{name}: its windows are known beforehand");
                    let one = one_place_each(&places).total();
                    assert!(one <= tier.budget(), "{name} on {id}/{layout}: {one} of {}", tier.budget());
                    assert!(one * 3 > tier.budget(), "{name} on {id}/{layout}: {one}, so there is time for more");
                    let notes = verdict::foreseen(&plan, jiff::civil::date(2026, 11, 25));
                    // Ten minutes hold one arrangement with the placebo; the others say that they have none.
                    let known =
                        |note: &&verdict::Warning| *tier == Tier::Smoke && note.what.starts_with("no placebo in ");
                    assert!(notes.iter().all(|note| known(&note)), "{name}: {notes:?}");
                }
            }
        }
    }
    assert_eq!(files, 27);
}

/// What `init` writes stays within the tier's budget too, on every machine that can be simulated.
#[test]
fn what_init_writes_stays_within_the_budget() {
    for id in ["h100-sxm", "a100-40gb", "a30", "h200", "h100-nvl", "rtx-pro-6000", "t4"] {
        let model = model(id);
        let mut all = machines("no-mig", model);
        if model.mig.is_some() {
            all.extend(machines("smoke/any-mig-on", model));
        }
        for (layout, simulator) in all {
            for tier in Tier::ALL {
                let inventory = simulator.inventory().unwrap();
                let text = scenario::init(&inventory, Some(model), *tier);
                let plan = plan(&text, &simulator, model, None);
                assert!(plan.arrangements.iter().all(|a| a.skipped.is_none()), "{id}/{layout}, {tier}:\n{text}");
                let one = one_place_each(&lengths(&plan)).total();
                assert!(one <= tier.budget(), "{id}/{layout}, {tier}: {one} of {}", tier.budget());
            }
        }
    }
}

/// `name` in full on one simulated card, one victim place per arrangement.
fn in_full(name: &str, id: &str) -> RunVerdict {
    let (_, text) = scenario::load(name).unwrap();
    let model = model(id);
    let (_, simulator) = machines(name, model).into_iter().next().unwrap();
    let plan = one_place(plan(&text, &simulator, model, None));
    let folder = tempfile::tempdir().unwrap();
    run_in(&folder.path().join("run"), &simulator, &plan, &text).1
}

fn comes_out_as_physics_says(name: &str) {
    let verdict = in_full(name, models(name)[0]);
    let cells: Vec<String> = verdict.cells.iter().map(|c| format!("{} {}", c.name, c.verdict.word())).collect();
    assert_eq!(verdict.requirement, RequirementState::Met, "{name}: {cells:#?}");
    for cell in &verdict.cells {
        assert!(cell.surprises.is_empty(), "{name}, {}: {:?}", cell.name, cell.surprises);
    }
}

#[test]
fn smoke_on_an_h100() {
    comes_out_as_physics_says("smoke/h100-mig-off");
    comes_out_as_physics_says("smoke/h100-mig-on");
}

#[test]
fn smoke_on_an_a100() {
    comes_out_as_physics_says("smoke/a100-mig-off");
    comes_out_as_physics_says("smoke/a100-mig-on");
}

#[test]
fn smoke_on_an_h200() {
    comes_out_as_physics_says("smoke/h200-mig-off");
    comes_out_as_physics_says("smoke/h200-mig-on");
}

#[test]
fn smoke_on_an_a30() {
    comes_out_as_physics_says("smoke/a30-mig-off");
    comes_out_as_physics_says("smoke/a30-mig-on");
}

#[test]
fn smoke_on_a_card_without_mig() {
    comes_out_as_physics_says("smoke/no-mig");
}

/// The long tiers run to their end with two blocks of short windows.
#[test]
fn acceptance_and_certify_run() {
    for tier in [Tier::Acceptance, Tier::Certify] {
        for (name, text) in of_tier(tier) {
            let window = scenario::read(name, text, CATALOGUE).unwrap().design.window;
            let short = text.replacen(
                &format!("window = \"{window}\""),
                "window = \"30ms\"\nmax_window = \"30ms\"\nblocks = 2",
                1,
            );
            assert_ne!(short, text, "{name}");
            let model = model(models(name)[0]);
            let (_, simulator) = machines(name, model).into_iter().next().unwrap();
            let plan = one_place(plan(&short, &simulator, model, None));
            let folder = tempfile::tempdir().unwrap();
            let (run, _) = run_in(&folder.path().join("run"), &simulator, &plan, &short);
            assert!(run.skipped.is_empty(), "{name}: {:?}", run.skipped);
            let arms: u64 = (0..plan.arrangements.len()).map(|a| planned_arms(&plan, a)).sum();
            assert_eq!(run.arms.len() as u64, arms, "{name}");
        }
    }
}

#[test]
fn check_says_how_long_and_what_further_places_add() {
    let scratch = Scratch::new();
    let check = |device: &str| {
        let args = ["check", "smoke/h100-mig-on", "--device", device];
        let text = stdout(crosstalk().current_dir(scratch.root()).args(args).assert().code(0));
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let text = check("sim:h100-sxm/all-balanced");
    for words in [
        "with the victim at 0; each further place adds: at 1 ",
        "one place in each arrangement: ",
        " of the 10 min of smoke",
        "Reconfigures nothing: the machine is used as it is",
    ] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    // A machine that cannot be arranged so is no mistake of the scenario.
    let text = check("sim:h100-sxm");
    assert_eq!(text.matches("SKIPPED: MIG is off on").count(), 4, "{text}");
}
