use super::super::{resolve, victim_places};
use super::*;
use crate::gpu::{Gpu, Instance};
use crate::provenance::Provenance;

/// An instance in the GPU instance with this id.
fn instance(profile: &str, gpu_instance: u32, compute_instance: u32) -> Instance {
    Instance {
        uuid: format!("MIG-{gpu_instance}-{compute_instance}"),
        profile: profile.to_owned(),
        start: Some(gpu_instance),
        size: Some(1),
        gpu_instance: Some(gpu_instance),
        compute_instance: Some(compute_instance),
        ..Instance::default()
    }
}

/// A machine with one H100 divided so.
fn machine(instances: Vec<Instance>) -> Inventory {
    let gpu = Gpu {
        uuid: "GPU-0".to_owned(),
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        model: Some("h100-sxm".to_owned()),
        mig: Some(true),
        instances,
        ..Gpu::default()
    };
    Inventory { provenance: Provenance::Measured, driver: None, cuda: None, gpus: vec![gpu] }
}

/// As drivers list "all-balanced".
fn balanced() -> Inventory {
    machine(vec![
        instance("3g.40gb", 1, 0),
        instance("2g.20gb", 3, 0),
        instance("1g.10gb", 9, 0),
        instance("1g.10gb", 7, 0),
    ])
}

fn entry(profile: &str, tenants: u32) -> LayoutEntry {
    LayoutEntry { profile: Some(profile.to_owned()), tenants, ..LayoutEntry::PLAIN }
}

/// The devices of this arrangement's seats, without the prefix.
fn on(inventory: &Inventory, mode: SharingMode, layout: Option<&[LayoutEntry]>) -> Result<Vec<String>, String> {
    let gpu = &inventory.gpus[0];
    let model = gpu.model.as_deref().and_then(find_model);
    let (resolved, seats) = resolve(mode, layout, gpu, model).map_err(|e| e.to_string())?;
    let found = Found { mode, layout: &resolved, seats: &seats, as_found: layout.is_none(), inventory, gpu: 0 };
    let devices = devices(&found).map_err(|e| e.to_string())?;
    Ok(devices.into_iter().map(|uuid| uuid.replace("MIG-", "")).collect())
}

use SharingMode::{Mig, MigComputeInstances, MigTimeSlicing, SeparateGpus, TimeSlicing};

#[test]
fn as_found_every_instance_is_a_seat_and_every_profile_a_victims_place() {
    let machine = balanced();
    assert_eq!(on(&machine, Mig, None).unwrap(), ["1-0", "3-0", "9-0", "7-0"]);
    let (layout, seats) = resolve(Mig, None, &machine.gpus[0], find_model("h100-sxm")).unwrap();
    let places: Vec<&str> = victim_places(&layout, &seats).into_iter().map(|s| seats[s].share.as_str()).collect();
    assert_eq!(places, ["3g.40gb", "2g.20gb", "1g.10gb"]);
    // Two in each instance, in turns.
    assert_eq!(on(&machine, MigTimeSlicing, None).unwrap(), ["1-0", "1-0", "3-0", "3-0", "9-0", "9-0", "7-0", "7-0"]);
}

#[test]
fn a_written_layout_takes_the_instances_by_profile_in_its_own_order() {
    let machine = balanced();
    let layout = [entry("1g.10gb", 1), entry("3g.40gb", 1), entry("1g.10gb", 1), entry("2g.20gb", 1)];
    assert_eq!(on(&machine, Mig, Some(&layout)).unwrap(), ["9-0", "1-0", "7-0", "3-0"]);
    let layout = [entry("2g.20gb", 1), entry("3g.40gb", 2), entry("1g.10gb", 1), entry("1g.10gb", 1)];
    assert_eq!(on(&machine, MigTimeSlicing, Some(&layout)).unwrap(), ["3-0", "1-0", "1-0", "9-0", "7-0"]);
}

#[test]
fn a_layout_that_is_not_what_is_there_is_refused_with_both() {
    let machine = balanced();
    for layout in [
        // More, fewer, and others than there are.
        vec![entry("2g.20gb", 1), entry("2g.20gb", 1), entry("3g.40gb", 1)],
        vec![entry("3g.40gb", 1), entry("2g.20gb", 1)],
        vec![entry("3g.40gb", 1), entry("3g.40gb", 1)],
    ] {
        let asked: Vec<&str> = layout.iter().filter_map(|e| e.profile.as_deref()).collect();
        let said = on(&machine, Mig, Some(&layout)).unwrap_err();
        assert!(said.contains("the layout is 3g.40gb + 2g.20gb + 1g.10gb + 1g.10gb"), "{said}");
        assert!(said.contains(&format!("asks for {}", asked.join(" + "))), "{said}");
    }
}

#[test]
fn states_that_look_alike_have_words_of_their_own() {
    let layout = [entry("3g.40gb", 1), entry("3g.40gb", 1)];
    let say = |machine: &Inventory| {
        let written = on(machine, Mig, Some(&layout)).unwrap_err();
        assert_eq!(written, on(machine, Mig, None).unwrap_err(), "whether the layout is written or not");
        written
    };
    let none = say(&machine(Vec::new()));
    let bare =
        say(&machine(vec![instance("3g.40gb", 1, 0), Instance { uuid: String::new(), ..instance("3g.40gb", 2, 0) }]));
    let twins = say(&machine(vec![instance("1c.3g.40gb", 1, 0), instance("2c.3g.40gb", 1, 1)]));
    let mut off = machine(Vec::new());
    off.gpus[0].mig = Some(false);
    let off = say(&off);
    for (text, words) in [
        (&none, "MIG is on and NVIDIA H100 80GB HBM3 has no GPU instance"),
        (&none, "profile names of another model"),
        (&bare, "has no compute instance"),
        (&twins, "MIG-1-0 and MIG-1-1 are two compute instances of one GPU instance"),
        (&off, "MIG is off on"),
    ] {
        assert!(text.contains(words), "{words} not in: {text}");
    }
    let other = on(&balanced(), Mig, Some(&[entry("3g.20gb", 1), entry("3g.20gb", 1)])).unwrap_err();
    assert!(other.contains("that is the name on a100-40gb; the one of that shape here is 3g.40gb"), "{other}");
}

#[test]
fn compute_instances_are_taken_within_their_gpu_instance() {
    let parts = |a: [&str; 2], b: [&str; 2]| {
        machine(vec![instance(b[0], 2, 0), instance(a[0], 1, 0), instance(a[1], 1, 1), instance(b[1], 2, 1)])
    };
    let uneven = parts(["1c.3g.40gb", "2c.3g.40gb"], ["1c.3g.40gb", "1c.3g.40gb"]);
    assert_eq!(on(&uneven, MigComputeInstances, None).unwrap(), ["1-0", "1-1", "2-0", "2-1"]);
    let layout = [entry("3g.40gb", 2), entry("2c.3g.40gb", 1), entry("1c.3g.40gb", 1)];
    assert_eq!(on(&uneven, MigComputeInstances, Some(&layout)).unwrap(), ["2-0", "2-1", "1-1", "1-0"]);
    // Four times 1c fills one GPU instance with three: that is not two and two.
    let even = parts(["1c.3g.40gb"; 2], ["1c.3g.40gb"; 2]);
    assert_eq!(on(&even, MigComputeInstances, None).unwrap(), ["1-0", "1-1", "2-0", "2-1"]);
    let said = on(&even, MigComputeInstances, Some(&[entry("1c.3g.40gb", 4)])).unwrap_err();
    assert!(said.contains("the layout is 1c.3g.40gb + 1c.3g.40gb"), "{said}");
    // One that fills its GPU instance has that one's name.
    let beside = machine(vec![
        instance("3g.40gb", 2, 0),
        instance("1c.3g.40gb", 1, 0),
        instance("1c.3g.40gb", 1, 1),
        instance("1c.3g.40gb", 1, 2),
    ]);
    let layout = [entry("3g.40gb", 3), entry("3g.40gb", 1)];
    assert_eq!(on(&beside, MigComputeInstances, Some(&layout)).unwrap(), ["1-0", "1-1", "1-2", "2-0"]);
}

#[test]
fn an_unknown_model_is_used_as_found() {
    let mut machine = machine(vec![instance("1c.2g.9gb", 1, 1), instance("1c.2g.9gb", 1, 0)]);
    machine.gpus[0].model = None;
    assert_eq!(on(&machine, MigComputeInstances, None).unwrap(), ["1-0", "1-1"]);
}

#[test]
fn separate_gpus_are_whole_and_of_one_model() {
    let mut machine = machine(Vec::new());
    machine.gpus[0].mig = Some(false);
    let gpu = |uuid: &str, mig| Gpu { uuid: uuid.to_owned(), mig: Some(mig), ..machine.gpus[0].clone() };
    let with = |others: Vec<Gpu>| {
        let gpus = std::iter::once(machine.gpus[0].clone()).chain(others).collect();
        Inventory { gpus, ..machine.clone() }
    };
    let two = with(vec![gpu("GPU-1", true), gpu("GPU-2", false)]);
    assert_eq!(on(&two, SeparateGpus, None).unwrap(), ["GPU-0", "GPU-2"]);
    let other_model = Gpu { name: "NVIDIA A30".to_owned(), ..gpu("GPU-1", false) };
    let said = on(&with(vec![other_model]), SeparateGpus, None).unwrap_err();
    assert!(said.contains("2 whole GPUs of one model are needed, and 1 is here") && !said.contains("GPU-1"), "{said}");
    // One GPU with MIG beside a plain one.
    let said = on(&with(vec![gpu("GPU-1", true)]), SeparateGpus, None).unwrap_err();
    assert!(said.contains("GPU-1 would be another, and MIG is on there"), "{said}");
    assert_eq!(on(&two, TimeSlicing, None).unwrap(), ["GPU-0", "GPU-0"]);
}
