use std::cell::{Cell, RefCell};

use super::*;
use crate::gpu::{Inventory, find_model, models, parse_layout};
use crate::nvml::ComputeInstance;
use crate::plan::{Plan, Terms};
use crate::provenance::Provenance;
use crate::units::Bytes;

/// A driver by a model's data, which gives up after so many changes, as one does whose caller is killed.
struct Fake {
    model: &'static GpuModel,
    /// Whether the driver has the call that names profiles.
    names: bool,
    /// Whether it can be told where a compute instance is to lie.
    places: bool,
    there: RefCell<Vec<GpuInstance>>,
    changes: Cell<usize>,
    allowed: Cell<usize>,
    /// What was asked, by the driver's own ids.
    asked: RefCell<Vec<String>>,
}

fn error(kind: NvmlErrorKind) -> NvmlError {
    NvmlError { what: "the call: the driver's words".to_owned(), kind }
}

impl Fake {
    fn new(model: &str) -> Self {
        Self {
            model: find_model(model).unwrap(),
            names: true,
            places: true,
            there: RefCell::default(),
            changes: Cell::new(0),
            allowed: Cell::new(usize::MAX),
            asked: RefCell::default(),
        }
    }

    fn profile(&self, id: u32) -> &'static crate::gpu::MigProfile {
        let mig = self.model.mig.as_ref().unwrap();
        mig.profiles.iter().find(|p| p.id == id).unwrap()
    }

    fn change(&self, words: String) -> Result<(), NvmlError> {
        if self.changes.get() >= self.allowed.get() {
            return Err(error(NvmlErrorKind::Other));
        }
        self.changes.set(self.changes.get() + 1);
        self.asked.borrow_mut().push(words);
        Ok(())
    }

    fn layout(&self) -> Vec<Part> {
        let mut parts = read(self, Some(self.model)).unwrap();
        parts.sort();
        parts
    }
}

impl Divide for Fake {
    fn profiles(&self) -> Result<Vec<DriverProfile>, NvmlError> {
        let mig = self.model.mig.as_ref().unwrap();
        let name = |p: &crate::gpu::MigProfile| self.names.then(|| p.name.clone());
        let profile =
            |p: &crate::gpu::MigProfile| DriverProfile { id: p.id, name: name(p), slices: p.slices, most: p.max };
        Ok(mig.profiles.iter().map(profile).collect())
    }
    fn placements(&self, profile: u32) -> Result<Vec<(u32, u32)>, NvmlError> {
        let p = self.profile(profile);
        Ok(p.starts.iter().map(|start| (*start, p.size)).collect())
    }
    fn there(&self) -> Result<Vec<GpuInstance>, NvmlError> {
        Ok(self.there.borrow().clone())
    }
    fn create(&self, profile: u32, (start, size): (u32, u32)) -> Result<u32, NvmlError> {
        let mut there = self.there.borrow_mut();
        if there.iter().any(|i| start < i.start + i.size && i.start < start + size) {
            return Err(error(NvmlErrorKind::NoRoom));
        }
        self.change(format!("create {profile} at {start}"))?;
        // Never the same again.
        let id = self.changes.get() as u32;
        there.push(GpuInstance { id, profile, start, size, compute: Vec::new() });
        Ok(id)
    }
    fn create_compute(
        &self,
        gpu_instance: u32,
        slices: u32,
        profile: Option<u32>,
        place: Option<(u32, u32)>,
    ) -> Result<u32, NvmlError> {
        let mut there = self.there.borrow_mut();
        let instance = there.iter_mut().find(|i| i.id == gpu_instance).unwrap();
        let most = self.profile(instance.profile).slices;
        let free = |start: u32| {
            start + slices <= most
                && instance.compute.iter().all(|c| start >= c.start + c.size || c.start >= start + slices)
        };
        let wanted = place.filter(|_| self.places).map(|(start, _)| start);
        let start = wanted.or_else(|| (0..most).find(|s| free(*s)));
        let start = start.filter(|s| free(*s)).ok_or_else(|| error(NvmlErrorKind::NoRoom))?;
        self.change(format!("compute {slices}"))?;
        // Ids that are no order of places.
        let id = self.changes.get() as u32;
        let profile = profile.unwrap_or(slices - 1);
        instance.compute.push(ComputeInstance { id, slices, profile, start, size: slices });
        Ok(id)
    }
    fn destroy(&self, gpu_instance: u32) -> Result<(), NvmlError> {
        self.change(format!("destroy {gpu_instance}"))?;
        let mut there = self.there.borrow_mut();
        let at = there.iter().position(|i| i.id == gpu_instance).unwrap();
        assert!(there[at].compute.is_empty(), "compute instances go first");
        there.remove(at);
        Ok(())
    }
    fn destroy_compute(&self, gpu_instance: u32, compute_instance: u32) -> Result<(), NvmlError> {
        self.change(format!("destroy {gpu_instance}/{compute_instance}"))?;
        let mut there = self.there.borrow_mut();
        let instance = there.iter_mut().find(|i| i.id == gpu_instance).unwrap();
        instance.compute.retain(|c| c.id != compute_instance);
        Ok(())
    }
}

/// The parts of a layout by its name or profiles.
fn parts(model: &GpuModel, layout: &str) -> Vec<Part> {
    if layout.is_empty() {
        return Vec::new();
    }
    let wanted: Vec<_> = parse_layout(model, layout).unwrap().into_iter().map(|p| (p.profile, Vec::new())).collect();
    placed(model, &wanted).unwrap()
}

/// That the layout is `target`, as far as that one says what it is to be.
#[track_caller]
fn assert_same(there: &[Part], target: &[Part], when: &str) {
    assert_eq!(difference(there, target), (vec![], vec![]), "{when}: {there:?}");
}

#[test]
fn whatever_step_is_the_last_the_layout_can_be_put_back() {
    for model in models().iter().filter(|m| m.mig.is_some()) {
        let (balanced, small) = (parts(model, "all-balanced"), model.mig.as_ref().unwrap().profiles[0].name.clone());
        let uniform = parts(model, &format!("all-{}", small.replace("+", ".")));
        for (before, asked) in
            [(&balanced, &uniform), (&uniform, &balanced), (&Vec::new(), &balanced), (&balanced, &Vec::new())]
        {
            let mut last = 0;
            for step in 0.. {
                let fake = Fake::new(&model.id);
                make(&fake, Some(model), before, &[]).unwrap();
                fake.allowed.set(fake.changes.get() + step);
                let made = make(&fake, Some(model), asked, &[before]);
                fake.allowed.set(usize::MAX);
                make(&fake, Some(model), before, &[before, asked]).unwrap();
                assert_same(&fake.layout(), before, &format!("{} after {step} steps", model.id));
                last = step;
                if made.is_ok() {
                    break;
                }
            }
            assert!(last >= 2, "{}: {last} steps", model.id);
        }
    }
}

#[test]
fn what_is_as_wanted_stays_and_the_rest_is_created_largest_first() {
    let fake = Fake::new("h100-sxm");
    make(&fake, Some(fake.model), &parts(fake.model, "all-balanced"), &[]).unwrap();
    assert_eq!(
        fake.asked.take(),
        [
            "create 9 at 4",
            "compute 3",
            "create 14 at 2",
            "compute 2",
            "create 19 at 0",
            "compute 1",
            "create 19 at 1",
            "compute 1"
        ]
    );
    let kept = fake.there.borrow()[0].id;
    let two = parts(fake.model, "3g.40gb+3g.40gb");
    let ours = fake.layout();
    make(&fake, Some(fake.model), &two, &[&ours]).unwrap();
    assert!(fake.there.borrow().iter().any(|i| i.id == kept), "the 3g at slice 4 is the same one");
    assert_eq!(fake.asked.borrow().last().map(String::as_str), Some("compute 3"));
    assert_same(&fake.layout(), &two, "two halves");
}

#[test]
fn an_id_is_the_devices_own_and_a_name_decides_what_it_means() {
    // One slice is 14 on an A30 and an RTX PRO 6000, and 19 on an A100, where 14 is two slices.
    for (model, profile, id, slices) in [
        ("a30", "1g.6gb", 14, 1),
        ("a100-40gb", "1g.5gb", 19, 1),
        ("a100-40gb", "2g.10gb", 14, 2),
        ("rtx-pro-6000", "1g.24gb", 14, 1),
    ] {
        for names in [true, false] {
            let fake = Fake { names, ..Fake::new(model) };
            let target = parts(fake.model, profile);
            make(&fake, Some(fake.model), &target, &[]).unwrap();
            let start = target[0].start;
            assert_eq!(fake.asked.take(), [format!("create {id} at {start}"), format!("compute {slices}")], "{model}");
        }
    }
    // Without names and data, nothing is guessed.
    let fake = Fake { names: false, ..Fake::new("a30") };
    let said = make(&fake, None, &parts(fake.model, "1g.6gb"), &[]).unwrap_err().what;
    assert!(said.contains("this GPU has no profile \"1g.6gb\"; it has profile 0, profile 14"), "{said}");
}

/// Compute instances of (slices, the driver's id of their profile, first slice) in the 3g at slice 4.
fn inside(all: &[(u32, u32, u32)]) -> Vec<Part> {
    let one = |(slices, profile, start): &(u32, u32, u32)| Compute {
        slices: *slices,
        profile: Some(*profile),
        place: Some((*start, *slices)),
    };
    vec![Part { profile: "3g.40gb".to_owned(), start: 4, size: 4, compute: all.iter().map(one).collect() }]
}

#[test]
fn a_gap_between_compute_instances_and_a_profile_of_the_same_size_are_put_back() {
    for before in [inside(&[(1, 0, 0), (1, 0, 2)]), inside(&[(1, 7, 1)]), inside(&[(2, 1, 1), (1, 0, 0)])] {
        let fake = Fake::new("h100-sxm");
        make(&fake, Some(fake.model), &before, &[]).unwrap();
        let ours = fake.layout();
        assert!(difference(&ours, &before) == (vec![], vec![]), "{ours:?}");
        let asked = parts(fake.model, "7g.80gb");
        make(&fake, Some(fake.model), &asked, &[&ours]).unwrap();
        assert_eq!(make(&fake, Some(fake.model), &ours, &[&ours, &asked]), Ok(vec![]));
        assert_eq!(fake.layout(), ours);
    }
}

#[test]
fn what_a_driver_places_itself_is_listed() {
    let fake = Fake::new("h100-sxm");
    let before = inside(&[(1, 0, 0), (1, 0, 2)]);
    make(&fake, Some(fake.model), &before, &[]).unwrap();
    let asked = parts(fake.model, "7g.80gb");
    make(&fake, Some(fake.model), &asked, &[&before]).unwrap();
    let fake = Fake { places: false, ..fake };
    assert_eq!(
        make(&fake, Some(fake.model), &before, &[&before, &asked]).unwrap(),
        ["3g.40gb at slice 4 in 1c@0 + 1c@2 is now 3g.40gb at slice 4 in 1c@0 + 1c@1: the driver placed its compute \
          instances itself"]
    );
}

#[test]
fn a_small_compute_instance_is_not_put_where_only_a_large_one_fits() {
    let fake = Fake::new("h100-sxm");
    let target = placed(fake.model, &[("3g.40gb".to_owned(), vec![1, 2])]).unwrap();
    make(&fake, Some(fake.model), &target, &[]).unwrap();
    assert_eq!(fake.asked.take()[1..], ["compute 2", "compute 1"]);
}

#[test]
fn what_others_made_is_left_alone_before_anything_is_changed() {
    let fake = Fake::new("a30");
    let before = parts(fake.model, "2g.12gb");
    make(&fake, Some(fake.model), &before, &[]).unwrap();
    fake.create(14, (0, 1)).unwrap();
    fake.asked.take();
    let said = make(&fake, Some(fake.model), &parts(fake.model, "4g.24gb"), &[&before]).unwrap_err().what;
    assert!(said.contains("1g.6gb at slice 0 without a compute instance") && said.contains("left alone"), "{said}");
    assert!(fake.asked.borrow().is_empty(), "{:?}", fake.asked);
}

#[test]
fn an_instance_whose_last_process_has_just_ended_is_waited_for() {
    let calls = Cell::new(0);
    let busy_until = |free: usize| {
        calls.set(0);
        once_free(|| {
            calls.set(calls.get() + 1);
            if calls.get() < free { Err(error(NvmlErrorKind::InUse)) } else { Ok(()) }
        })
    };
    assert_eq!((busy_until(3), calls.get()), (Ok(()), 3));
    assert!(busy_until(usize::MAX).is_err());
    calls.set(0);
    let refused = once_free(|| {
        calls.set(calls.get() + 1);
        Err(error(NvmlErrorKind::Permission))
    });
    assert!(refused.is_err() && calls.get() == 1, "only what is in use is waited for");
}

#[test]
fn each_refusal_of_the_driver_has_its_cure() {
    let say = |kind| ReconfigureError::of("creating 1g.6gb at slice 0", &error(kind)).what;
    assert!(say(NvmlErrorKind::Permission).contains("needs root"));
    assert!(say(NvmlErrorKind::InUse).contains("fuser"));
    assert!(say(NvmlErrorKind::NoRoom).contains("order, not about capacity"));
    assert!(say(NvmlErrorKind::Lost).ends_with("the driver's words"));
}

#[test]
fn the_inventory_tells_the_same_layout_as_the_driver() {
    let model = find_model("h100-sxm").unwrap();
    let instance = |profile: &str, gpu_instance, start, size| Instance {
        uuid: format!("MIG-{profile}-{gpu_instance}"),
        profile: profile.to_owned(),
        start: Some(start),
        size: Some(size),
        gpu_instance: Some(gpu_instance),
        memory: Some(Bytes(1)),
        ..Instance::default()
    };
    let gpu = |instances| Gpu { instances, ..Gpu::default() };
    let mut bare = instance("1g.10gb", 9, 0, 1);
    bare.uuid.clear();
    let divided =
        vec![instance("1c.3g.40gb", 1, 4, 4), instance("2g.20gb", 3, 2, 2), instance("2c.3g.40gb", 1, 4, 4), bare];
    let found = found(&gpu(divided.clone()), model).unwrap();
    assert_eq!(
        words(&found),
        "3g.40gb at slice 4 in 1c + 2c + 2g.20gb at slice 2 + 1g.10gb at slice 0 without a compute instance"
    );
    let hidden = Instance { start: None, ..instance("2g.20gb", 3, 2, 2) };
    assert_eq!(super::found(&gpu(vec![hidden]), model), None, "places that are not known are no layout");

    let mut again = divided.clone();
    again[1].uuid = "MIG-new".to_owned();
    again[1].gpu_instance = Some(4);
    let lines = renamed(&gpu(divided.clone()), &gpu(again.clone()));
    assert_eq!(lines, ["2g.20gb at slice 2: MIG-2g.20gb-3, GPU instance 3 is now MIG-new, GPU instance 4"]);
    assert!(renamed(&gpu(divided.clone()), &gpu(divided.clone())).is_empty());
    // Elsewhere within its GPU instance, as far as both places are known.
    let (mut was, mut is) = (divided.clone(), divided);
    (was[0].compute_start, is[0].compute_start) = (Some(2), Some(0));
    is[1].compute_start = Some(0);
    let lines = renamed(&gpu(was), &gpu(is));
    assert!(lines.len() == 1 && lines[0].ends_with("at compute slice 0 of it where it was at 2"), "{lines:?}");
}

#[test]
fn a_layout_that_is_only_a_part_of_what_is_there_is_announced_and_made() {
    let model = find_model("h100-sxm").unwrap();
    let instance = |profile: &str, gpu_instance, compute_instance, start| Instance {
        uuid: format!("MIG-{gpu_instance}-{compute_instance}"),
        profile: profile.to_owned(),
        start: Some(start),
        size: Some(4),
        gpu_instance: Some(gpu_instance),
        compute_instance: Some(compute_instance),
        ..Instance::default()
    };
    let gpu = Gpu {
        uuid: "GPU-0".to_owned(),
        name: model.name.clone(),
        model: Some(model.id.clone()),
        mig: Some(true),
        instances: vec![instance("1c.3g.40gb", 1, 0, 0), instance("1c.3g.40gb", 1, 1, 0), instance("3g.40gb", 2, 0, 4)],
        ..Gpu::default()
    };
    let inventory = Inventory { provenance: Provenance::StandIn, driver: None, cuda: None, gpus: vec![gpu] };
    let announced = |layout: &str| {
        let text = format!(
            "schema = 1\nname = \"t\"\nneighbour = [{{ noise = \"idle\" }}]\n[victim]\npanel = [{{ probe = \"launch\" }}]\n\
             [[arrangement]]\nname = \"a\"\nsharing = \"mig-compute-instances\"\nlayout = {layout}\n"
        );
        let scenario = crate::scenario::read("t.toml", &text, crate::workload::CATALOGUE).unwrap();
        let terms = Terms { allow_reconfigure: true, ..Terms::default() };
        let plan = Plan::resolve_on(&scenario, &inventory, 0, Some(model), terms).unwrap();
        assert_eq!(plan.arrangements[0].skipped, None);
        super::announced(&plan)
    };
    let made = announced("[{ profile = \"3g.40gb\", tenants = 2 }]");
    assert!(matches!(&made[..], [line] if line.contains("creates 3g.40gb at slice 4 in 1c + 1c")), "{made:?}");
    assert!(announced("\"as-found\"").is_empty(), "what is there is taken as it is");
}
