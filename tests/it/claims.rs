//! The claims that a run decides: the simulator finds what the catalogue says, and each scenario can come out the other way.

use crosstalk::backend::sim::Simulator;
use crosstalk::channel::Channel;
use crosstalk::claims::CLAIMS;
use crosstalk::gpu::parse_layout;
use crosstalk::machine::Leak;
use crosstalk::scenario;
use crosstalk::units::Share;
use crosstalk::verdict::{RequirementState, RunVerdict};
use crosstalk::workload::CATALOGUE;

use crate::support::{crosstalk, model, simulate, stdout};

pub(crate) fn text(id: &str) -> String {
    scenario::load(&format!("claims/{id}")).unwrap().1
}

/// Runs a claim's scenario on the simulated machine that it pins, with these leaks.
pub(crate) fn run(text: &str, leaks: &[Channel]) -> RunVerdict {
    let device = scenario::read("claim", text, CATALOGUE).unwrap().device.unwrap();
    let machine = device.strip_prefix("sim:").unwrap();
    let (id, layout) = machine.split_once('/').map_or((machine, None), |(id, layout)| (id, Some(layout)));
    let model = model(id);
    let placed = layout.map(|layout| parse_layout(model, layout).unwrap());
    let leaks = leaks.iter().map(|channel| Leak { channel: *channel, share: Share::percent(90) }).collect();
    let simulator = Simulator::new(model, placed.as_deref()).with_leaks(leaks);
    simulate(text, &simulator, model, None).1
}

/// Whether the claim holds. An undecided run is no answer.
pub(crate) fn holds(verdict: &RunVerdict) -> bool {
    let cells: Vec<String> = verdict.cells.iter().map(|c| format!("{} {}", c.name, c.verdict.word())).collect();
    match verdict.requirement {
        RequirementState::Met => true,
        RequirementState::NotMet => false,
        other => panic!("{other:?}: {cells:#?}"),
    }
}

/// Figures of observations that the catalogue has in words: claim, figure, and what it says of it.
type Said = (&'static str, &'static str, fn(f64) -> String);
const SAID: &[Said] = &[
    ("mig-compute", "beside_compute-burst_ratio", |r| format!("{r:.3} times as much per SM and cycle")),
    ("mig-compute", "alone_issue_ratio", |r| format!("{:.0} % of what its", r * 100.0)),
    ("mig-compute", "sms", |n| format!("its {n:.0} SMs")),
    ("ts-quantum", "quantum_ms", |ms| format!("turns of {ms:.1} ms")),
    ("ts-quantum", "gap_ms", |ms| format!("{ms:.1} ms until the next")),
    ("ts-quantum", "switch_us", |us| format!("{:.2} ms for a switch", us / 1e3)),
    ("mps-fair", "compute-burst_total_ratio", |r| format!("{r:.2} times as much as in turns")),
];

#[test]
fn the_simulator_finds_what_the_catalogue_says() {
    let (mut runs, mut said) = (0, 0);
    for claim in CLAIMS.iter().filter(|claim| claim.simulated().is_some()) {
        runs += 1;
        let verdict = run(&text(claim.id), &[]);
        assert_eq!(Some(holds(&verdict)), claim.simulated(), "{}", claim.id);
        let words = claim.found().unwrap().why;
        let figures: Vec<_> = verdict.observed.iter().flat_map(|o| &o.observed.figures).collect();
        for (_, name, of) in SAID.iter().filter(|(id, ..)| *id == claim.id) {
            said += 1;
            let (_, figure) = figures.iter().find(|(key, _)| key.as_str() == *name).unwrap();
            assert!(words.contains(&of(**figure)), "{}: {name} is {figure}, and the catalogue says: {words}", claim.id);
        }
        if words.contains("within 1 %") {
            said += 1;
            assert!(figures.iter().all(|(_, ratio)| (0.99..1.01).contains(*ratio)), "{}: {figures:?}", claim.id);
        }
        if claim.id == "ts-four" {
            said += 1;
            let range = crate::density::table_of_the_claim(&text(claim.id), &verdict);
            assert!(words.contains(&range), "no {range:?} in {words}");
        }
        if claim.id == "ts-fairness" {
            said += 1;
            let why = &verdict.observed[0].observed.why;
            for part in ["46 %", "48 %", "gets from 4 % of the GPU's time with kernels of 0.10 ms", "to 27 %"] {
                assert!(why.contains(part), "no {part:?} in {why}");
            }
        }
    }
    assert_eq!((runs, said), (23, SAID.len() + 4));
}

/// A scenario that could not fail would prove nothing, nor would one that could not succeed.
#[test]
fn each_can_come_out_the_other_way() {
    assert!(!holds(&run(&text("mig-memory"), &[Channel::HbmCapacity])));
    assert!(!holds(&run(&text("mig-read"), &[Channel::ResidualMemory])));
    assert!(!holds(&run(&text("mig-l2"), &[Channel::L2])));
    assert!(!holds(&run(&text("mig-bandwidth"), &[Channel::HbmBandwidth])));
    assert!(!holds(&run(&text("mig-tail"), &[Channel::BlockSlots])));
    assert!(!holds(&run(&text("mig-ts"), &[Channel::HbmBandwidth])));
    // By mode: instances in place of turns; all SMs in place of halves; GPUs in place of instances.
    let as_mig = "sharing = \"mig\"\nlayout = [\"3g.40gb\", \"3g.40gb\"]";
    let instead = |id: &str, from: &str, to: &str| {
        let before = text(id);
        let after = before.replace(from, to);
        assert_ne!(before, after, "{id}");
        holds(&run(&after, &[]))
    };
    assert!(!instead("ts-memory", "sharing = \"time-slicing\"\ntenants = 2", as_mig));
    assert!(!instead("ts-incident", "sharing = \"time-slicing\"\ntenants = 2", as_mig));
    assert!(!instead("ts-compute", "sharing = \"time-slicing\"\ntenants = 2", as_mig));
    assert!(!instead("mps-fair", "[{ sms = \"50%\" }, { sms = \"50%\" }]", "[{}, {}]"));
    // Turns, or all SMs, in place of instances; halves that keep running, or all SMs, in place of turns.
    let turns = "sharing = \"time-slicing\"\ntenants = 2";
    let halves = "sharing = \"mps\"\nlayout = [{ sms = \"50%\" }, { sms = \"50%\" }]";
    assert!(!instead("mig-compute", "sharing = \"mig\"\nlayout = \"as-found\"", turns));
    assert!(!instead("ts-quantum", turns, halves));
    assert!(!instead("ts-alone", turns, halves));
    // Of one kind of tenant four do well in turns.
    let four = text("ts-four");
    let (head, arrangements) = four.split_at(four.find("[[arrangement]]").unwrap());
    let of_two_ms = arrangements
        .split("[[arrangement]]")
        .filter(|a| a.contains("\"alone-2ms-5\"") || a.contains("\"turns-2ms-5\""));
    let one_kind = of_two_ms.fold(head.to_owned(), |text, arrangement| text + "[[arrangement]]" + arrangement);
    assert!(holds(&run(&one_kind, &[])));
    assert!(instead("ts-fairness", turns, "sharing = \"mps\"\nlayout = [{}, {}]"));
    // Four of seven slices; and all seven of an A100, which leave out ten of its SMs.
    assert!(!instead("mig-7g", "profile = \"7g.80gb\"", "profile = \"4g.40gb\""));
    let a100 = text("mig-7g").replace("h100-sxm/7g.80gb", "a100-80gb/7g.80gb");
    assert!(!holds(&run(&a100, &[])));
    assert!(instead("mig-two-gpus", "sharing = \"mig\"\nlayout = \"as-found\"", "sharing = \"separate-gpus\""));
}

#[test]
fn the_list_tells_what_was_found_and_what_was_not_tested() {
    let text = stdout(crosstalk().args(["list", "claims"]).assert().code(0));
    let after = |id: &str| text.split(&format!("\n{id} ")).nth(1).unwrap().lines().nth(1).unwrap().to_owned();
    assert!(after("mig-l2").contains("→ holds: ") && after("mig-l2").contains("not yet measured"), "{text}");
    assert!(after("mig-double").contains("→ does not hold: 26 against 16 SMs"), "{text}");
    assert!(after("mig-fault").contains("→ not tested yet: it needs "), "{text}");
    assert!(after("mig-nccl").contains("→ holds in part: ") && after("mig-nccl").contains("libnccl"), "{text}");
}
