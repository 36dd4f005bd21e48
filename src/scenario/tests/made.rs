//! What is made of the real catalogue: built-in and generated scenarios, the committed schema and reference.

use crate::gpu::{Gpu, Instance, Inventory};
use crate::provenance::Provenance;
use crate::scenario::{BUILTIN, Scenario, SharingMode, Tier, init, read, reference_markdown, schema};
use crate::sharing;
use crate::workload::CATALOGUE;

fn good(name: &str, text: &str) -> Scenario {
    read(name, text, CATALOGUE).unwrap_or_else(|m| panic!("{}\n{text}", m.render(false)))
}

#[test]
fn every_built_in_scenario_reads() {
    for (name, text) in BUILTIN {
        good(name, text);
    }
}

/// Compares a text with the committed file; `CROSSTALK_BLESS=1` writes it instead.
pub(super) fn committed(path: &str, text: &str) {
    let file = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("CROSSTALK_BLESS").is_some() {
        std::fs::write(&file, text).expect("the file can be written");
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == text, "{path} is out of date: run the tests once with CROSSTALK_BLESS=1");
}

#[test]
fn the_committed_schema_and_reference_are_those_of_the_code() {
    let schema = serde_json::to_string_pretty(&schema(CATALOGUE)).expect("JSON");
    committed("schemas/scenario.schema.json", &format!("{schema}\n"));
    committed("docs/scenario.md", &reference_markdown());
}

#[test]
fn the_schema_takes_every_built_in_scenario() {
    let validator = jsonschema::draft202012::new(&schema(CATALOGUE)).expect("a schema");
    for (name, text) in BUILTIN {
        let json = super::good::as_json(text);
        let errors: Vec<_> = validator.iter_errors(&json).map(|e| e.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{name}");
    }
}

fn instance(profile: &str, start: u32, size: u32) -> Instance {
    Instance {
        uuid: format!("MIG-{start}"),
        profile: profile.to_owned(),
        start: Some(start),
        size: Some(size),
        ..Instance::default()
    }
}

fn machine(name: &str, mig: Option<bool>, instances: Vec<Instance>) -> Inventory {
    let model = Some("h100-sxm".to_owned());
    let gpu = Gpu { uuid: "GPU-1".to_owned(), name: name.to_owned(), model, mig, instances, ..Gpu::default() };
    Inventory { provenance: Provenance::Measured, driver: None, cuda: None, gpus: vec![gpu] }
}

fn made(inventory: &Inventory, tier: Tier) -> Scenario {
    good("init", &init(inventory, None, tier))
}

fn modes(scenario: &Scenario) -> Vec<SharingMode> {
    scenario.arrangements.iter().map(|a| a.sharing).collect()
}

/// Those of these modes that this version arranges on hardware.
fn arranged(of: &[SharingMode]) -> Vec<SharingMode> {
    of.iter().copied().filter(|mode| sharing::on_hardware(*mode)).collect()
}

#[test]
fn what_init_writes_reads_on_every_machine_and_tier() {
    use SharingMode::{GreenContexts, Mig, MigComputeInstances, MigMps, MigTimeSlicing, Mps, Streams, TimeSlicing};
    let twins = || vec![instance("3g.40gb", 0, 4), instance("3g.40gb", 4, 4)];
    for tier in Tier::ALL {
        let off = machine("NVIDIA H100 80GB HBM3", Some(false), Vec::new());
        let plain = made(&off, *tier);
        let mut proposed = modes(&plain);
        proposed.dedup();
        assert_eq!(proposed, arranged(&[TimeSlicing, Mps, Streams, GreenContexts]), "what is arranged on hardware");
        assert_eq!((plain.gpu.as_deref(), plain.design.tier), (Some("H100 80GB HBM3"), *tier));
        let old = Inventory { cuda: Some("12.3".to_owned()), ..off };
        assert!(!modes(&made(&old, *tier)).contains(&GreenContexts), "they came with CUDA 12.4");

        let mig = made(&machine("NVIDIA H100 80GB HBM3", Some(true), twins()), *tier);
        let all = [Mig, MigTimeSlicing, MigMps];
        let expected = Some(arranged(&all)).filter(|some| !some.is_empty()).unwrap_or(all.to_vec());
        assert_eq!(modes(&mig), expected, "what is arranged, or else what is there");
        assert!(mig.arrangements.iter().all(|a| a.layout.is_none()), "tested as found");
        let mut simulated = machine("x", Some(true), vec![instance("7g.80gb", 0, 8)]);
        simulated.provenance = Provenance::Simulated;
        let lone = made(&simulated, *tier);
        assert_eq!(modes(&lone), [MigTimeSlicing, MigMps], "one instance has no neighbour beside it");
        let inside = vec![instance("1c.3g.40gb", 0, 4), instance("1c.3g.40gb", 0, 4)];
        let mut simulated = machine("x", Some(true), inside);
        simulated.provenance = Provenance::Simulated;
        assert_eq!(modes(&made(&simulated, *tier)), [MigComputeInstances]);
        made(&machine("x", Some(true), Vec::new()), *tier);
        made(&machine("x", None, Vec::new()), *tier);
        made(&Inventory { provenance: Provenance::Measured, driver: None, cuda: None, gpus: Vec::new() }, *tier);
    }
}

#[test]
fn names_of_a_machine_cannot_break_the_file() {
    for name in ["", "\"\\\n[design]\nblocks = 0", "NVIDIA ***", "...", "Ünïcode \u{1b}[31m"] {
        made(&machine(name, Some(true), vec![instance("1g.10gb+me", 0, 1), instance("2g.20gb", 2, 2)]), Tier::Smoke);
    }
}

#[test]
fn a_simulated_machine_is_pinned_as_it_stands() {
    let mut machine =
        machine("NVIDIA H100 80GB HBM3", Some(true), vec![instance("3g.40gb", 0, 4), instance("3g.40gb", 4, 4)]);
    machine.provenance = Provenance::Simulated;
    assert_eq!(made(&machine, Tier::Smoke).device.as_deref(), Some("sim:h100-sxm/3g.40gb+3g.40gb"));
}

#[test]
fn a_larger_tier_asks_more() {
    let mut machine = machine("NVIDIA A100-SXM4-80GB", Some(false), Vec::new());
    machine.provenance = Provenance::Simulated;
    let sizes: Vec<_> =
        Tier::ALL.iter().map(|t| made(&machine, *t)).map(|s| (s.panel.len(), s.neighbours.len())).collect();
    assert_eq!(sizes, [(2, 3), (6, 6), (8, 10)]);
}

#[test]
fn init_reads_well() {
    let machine =
        machine("NVIDIA H100 80GB HBM3", Some(true), vec![instance("3g.40gb", 0, 4), instance("3g.40gb", 4, 4)]);
    insta::assert_snapshot!(init(&machine, None, Tier::Acceptance));
}
