//! What the next tenant finds, by mode and by what is not scrubbed.

use super::*;
use crate::backend::Backend;
use crate::backend::sim::Simulator;
use crate::channel::Channel;
use crate::gpu::find_model;
use crate::machine::Leak;
use crate::plan::Plan;

/// What comes of a hazard with these parameters, in one arrangement of an A30.
pub(in crate::backend::sim::hazard) fn came(
    sharing: &str,
    hazard: &str,
    params: &[(&str, &str)],
    leaks: &[Leak],
) -> Came {
    came_on("a30", sharing, hazard, params, leaks)
}

pub(in crate::backend::sim::hazard) fn came_on(
    model: &str,
    sharing: &str,
    hazard: &str,
    params: &[(&str, &str)],
    leaks: &[Leak],
) -> Came {
    let params: Vec<String> = params
        .iter()
        .map(|(key, value)| match value.parse::<u64>() {
            Ok(number) => format!("{key} = {number}"),
            Err(_) if *value == "true" => format!("{key} = true"),
            Err(_) => format!("{key} = {value:?}"),
        })
        .collect();
    let layout = if sharing == "mig" { "layout = [\"2g.12gb\", \"2g.12gb\"]\n" } else { "" };
    let text = format!(
        "schema = 1\nname = \"t\"\n[design]\nblocks = 1\n[victim]\npanel = [{{ probe = \"launch\" }}]\n[[neighbour]]\n\
         noise = \"hbm-read\"\n[[hazard]]\nhazard = \"{hazard}\"\nparams = {{ {} }}\n[[arrangement]]\nname = \"a\"\n\
         sharing = \"{sharing}\"\n{layout}",
        params.join(", ")
    );
    let model = find_model(model).unwrap();
    let simulator = Simulator::new(model, None).with_leaks(leaks.to_vec());
    let inventory = simulator.inventory().unwrap();
    let scenario = crate::scenario::read("t", &text, crate::workload::CATALOGUE).unwrap();
    let plan = Plan::resolve(&scenario, &inventory, 0, Some(model)).unwrap();
    let mut session = simulator.open(&plan, 0, 0).unwrap();
    session.try_hazard(0).unwrap()
}

fn found(sharing: &str, leaks: &[Leak]) -> Vec<Round> {
    let Came::Leftovers(leftovers) = came(sharing, "leftovers", &[("plant", "8GiB"), ("faults", "true")], leaks) else {
        panic!("{sharing}: {:?}", came(sharing, "leftovers", &[], leaks))
    };
    leftovers.rounds
}

fn unscrubbed(percent: u32) -> Vec<Leak> {
    vec![Leak { channel: Channel::ResidualMemory, share: Share::percent(percent) }]
}

#[test]
fn scrubbed_memory_holds_nothing_and_what_was_planted_was_looked_at() {
    for sharing in ["time-slicing", "mps"] {
        let rounds = found(sharing, &[]);
        assert_eq!(rounds.len(), 8, "four ways to end, two places to look from");
        for round in rounds {
            let overlap = (round.planted + round.scanned).saturating_sub(round.all.unwrap());
            assert!(round.found == 0 && round.untold.is_none() && overlap > 7 << 30, "{round:?}");
        }
    }
}

#[test]
fn what_is_not_scrubbed_is_found_to_the_last_page_by_both() {
    for round in found("time-slicing", &unscrubbed(100)) {
        assert_eq!(round.found, (8 << 30) / 8, "{round:?}");
        assert_eq!(round.range, Some((0, (8 << 30) - 8)));
    }
    for round in found("time-slicing", &unscrubbed(50)) {
        assert!((1..(8 << 30) / 8).contains(&round.found), "{round:?}");
    }
}

#[test]
fn an_instance_sees_its_own_memory_alone() {
    for round in found("mig", &unscrubbed(100)) {
        if round.same_place {
            assert!(round.found == (8 << 30) / 8 && round.all.is_some(), "{round:?}");
        } else {
            assert!(round.found == 0 && round.all.is_none() && round.untold.is_some(), "{round:?}");
        }
    }
}

#[test]
fn one_process_has_no_next_tenant() {
    assert!(matches!(came("streams", "leftovers", &[], &[]), Came::Untold { .. }));
}
