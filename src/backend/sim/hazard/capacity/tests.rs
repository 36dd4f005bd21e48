use super::*;
use crate::backend::Backend;
use crate::backend::sim::Simulator;
use crate::channel::Channel;
use crate::gpu::{find_model, place_layout, simulated};
use crate::hazard::{CAPACITY, Capacity, Side, Step};
use crate::machine::Leak;
use crate::plan::{Plan, PlannedHazard};
use crate::units::Share;

const GIB: u64 = 1 << 30;

/// What comes of it in this arrangement of an H100.
fn came(arrangement: &str, layout: &[&str], params: &[(&str, &str)], leaks: Vec<Leak>) -> Came {
    let text = format!(
        "schema = 1\nname = \"test\"\n[design]\nblocks = 2\n[victim]\npanel = [{{ probe = \"launch\" }}]\n\
         [[neighbour]]\nnoise = \"idle\"\n[[arrangement]]\nname = \"a\"\n{arrangement}\n"
    );
    let model = find_model("h100-sxm").unwrap();
    let placed = (!layout.is_empty()).then(|| place_layout(model, layout).unwrap());
    let inventory = simulated(model, placed.as_deref());
    let read = crate::scenario::read("test", &text, crate::workload::CATALOGUE).unwrap();
    let mut plan = Plan::resolve(&read, &inventory, 0, Some(model)).unwrap();
    plan.hazards = vec![PlannedHazard {
        name: "capacity".to_owned(),
        hazard: CAPACITY.id.to_owned(),
        params: params.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        channel: CAPACITY.channel,
    }];
    let simulator = Simulator::new(model, placed.as_deref()).with_leaks(leaks);
    let mut session = simulator.open(&plan, 0, 0).unwrap();
    session.try_hazard(0).unwrap()
}

fn capacity(arrangement: &str, layout: &[&str], params: &[(&str, &str)]) -> Capacity {
    match came(arrangement, layout, params, Vec::new()) {
        Came::Capacity(record) => record,
        other => panic!("{other:?}"),
    }
}

const MIG: &str = "sharing = \"mig\"\nlayout = [\"3g.40gb\", \"3g.40gb\"]";
const TIME_SLICING: &str = "sharing = \"time-slicing\"\ntenants = 2";

fn of_victim(record: &Capacity, step: Step) -> Vec<Outcome> {
    record.victim.iter().filter(|a| a.step == step).map(|a| a.outcome).collect()
}

#[test]
fn tenants_that_take_turns_have_one_memory() {
    let record = capacity(TIME_SLICING, &[], &[("until_oom", "true")]);
    assert_eq!(record.promised, [None, None]);
    let work = of_victim(&record, Step::Work);
    assert!(work.len() >= 480 && work.contains(&Outcome::Oom) && work[..30].iter().all(|o| *o == Outcome::Ok));
    assert!(of_victim(&record, Step::Context).contains(&Outcome::Oom), "at the restart");
    // Who ran out first is the neighbour, who then asks for less until the victim's room is gone, too.
    let timeline = record.timeline();
    assert_eq!((timeline[0].who, timeline[0].step), (Side::Neighbour, Step::Take));
    let first = timeline.iter().find(|refused| refused.who == Side::Victim).unwrap();
    assert!(first.free.is_some_and(|free| free < first.asked) && first.total.is_some_and(|all| all > 79 * GIB));
    let [alone, beside] = [record.victim_alone, record.victim_beside].map(Option::unwrap);
    assert!(alone.total > 70 * GIB && beside.total < 25 * GIB, "{alone:?} {beside:?}");
}

#[test]
fn an_instance_has_its_own_memory() {
    let record = capacity(MIG, &["3g.40gb", "3g.40gb"], &[("until_oom", "true")]);
    assert!(record.victim.iter().all(|a| a.outcome == Outcome::Ok), "{:?}", record.timeline());
    assert_eq!(of_victim(&record, Step::Work).len(), 540);
    assert!(record.timeline().iter().all(|refused| refused.who == Side::Neighbour && refused.step == Step::Take));
    assert!(!record.timeline().is_empty(), "the neighbour went to its end");
    let promised = record.promised[0].unwrap();
    assert!(promised > 39 * GIB && promised < 40 * GIB);
    let [alone, beside] = [record.victim_alone, record.victim_beside].map(Option::unwrap);
    assert_eq!((alone.total, alone.largest), (beside.total, beside.largest));
    // All of it, but for the context.
    assert!(alone.total < promised && alone.total + GIB > promised, "{alone:?} of {promised}");
    assert_eq!(record.neighbour_alone.unwrap().total, record.neighbour_beside.unwrap().total);
}

#[test]
fn a_wall_that_leaks_is_found() {
    let leaks = vec![Leak { channel: Channel::HbmCapacity, share: Share::percent(100) }];
    let Came::Capacity(record) = came(MIG, &["3g.40gb", "3g.40gb"], &[("budget", "60%")], leaks) else {
        panic!("it can be told")
    };
    assert!(of_victim(&record, Step::Work).contains(&Outcome::Oom));
}

#[test]
fn a_memory_limit_holds_for_each_client() {
    let mps =
        "sharing = \"mps\"\nlayout = [{ sms = \"50%\", memory = \"30GiB\" }, { sms = \"50%\", memory = \"40GiB\" }]";
    let record = capacity(mps, &[], &[("until_oom", "true"), ("budget", "20GiB")]);
    assert_eq!(record.promised, [Some(30 * GIB), Some(40 * GIB)]);
    assert!(record.victim.iter().all(|a| a.outcome == Outcome::Ok));
    assert_eq!(record.neighbour_beside.unwrap().total, 40 * GIB, "its limit, and no more");
    assert_eq!(record.victim_beside.unwrap().total, 30 * GIB);
    let without = capacity("sharing = \"mps\"", &[], &[]);
    assert!(of_victim(&without, Step::Work).contains(&Outcome::Oom), "a share of the SMs is none of the memory");
    assert_eq!(without.promised, [None, None]);
}

#[test]
fn compute_instances_of_one_instance_share_its_memory() {
    let nested = "sharing = \"mig-compute-instances\"\nlayout = [\"1c.3g.40gb\", \"2c.3g.40gb\"]";
    let record = capacity(nested, &["3g.40gb"], &[]);
    assert_eq!(record.promised, [None, None]);
    assert!(of_victim(&record, Step::Work).contains(&Outcome::Oom));
}

#[test]
fn a_gap_of_the_right_size_in_the_wrong_places_is_fragmentation() {
    // Beside the victim's own budget the neighbour's pieces lie around the holes that churning leaves.
    let record = capacity(TIME_SLICING, &[], &[("how", "hoard"), ("limit", "50%")]);
    assert_eq!(record.timeline(), [], "there is room for both");
    assert_eq!(record.fragmentation().refused, 0);
    let beside = record.neighbour_beside.unwrap();
    assert_eq!(beside.most, Some(beside.total));
}

#[test]
fn the_same_seed_gives_the_same_record_and_time_is_the_models() {
    let [a, b] = [(); 2].map(|()| capacity(TIME_SLICING, &[], &[("how", "churn")]));
    assert_eq!(a, b);
    let model = find_model("h100-sxm").unwrap();
    let create = Nanos((model.driver.context_create_ms * 1e6) as u64);
    assert_eq!(a.victim[0].took, create);
    assert_eq!(a.victim[1].took, Nanos((model.driver.alloc_us * 1e3) as u64));
    assert!(a.victim.windows(2).all(|pair| pair[0].at <= pair[1].at));
    assert!(a.neighbour.windows(2).all(|pair| pair[0].at <= pair[1].at));
}

#[test]
fn where_the_two_are_one_or_apart_nothing_is_tried() {
    for (arrangement, words) in [("sharing = \"streams\"", "one process"), ("sharing = \"exclusive\"", "no neighbour")]
    {
        match came(arrangement, &[], &[], Vec::new()) {
            Came::Untold { why } => assert!(why.contains(words), "{why}"),
            other => panic!("{arrangement}: {other:?}"),
        }
    }
}
