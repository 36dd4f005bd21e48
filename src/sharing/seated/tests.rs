use super::*;
use crate::backend::live::{OverArm, Watch};
use crate::backend::{DcgmReading, GpuHealth};
use crate::gpu::Inventory;
use crate::nvml::{Divide, ExclusiveUse, GpuProcess, ProcessKind, Unknown};
use crate::plan::PlannedArrangement;
use crate::provenance::Provenance;
use crate::scenario::{Expectation, LayoutEntry, MpsDaemon, SharingMode};
use crate::tenant::protocol::DeviceSeen;

/// What NVML would say of one GPU.
struct Told {
    gpu: Gpu,
    processes: Processes,
}

impl Watch for Told {
    fn check_exclusive(&self, _ours: &[u32]) -> Result<ExclusiveUse, BackendError> {
        Ok(ExclusiveUse::Proved { monitors: Vec::new() })
    }
    fn health(&self) -> Result<GpuHealth, BackendError> {
        Ok(GpuHealth::default())
    }
    fn monitor(&self) -> Vec<DcgmReading> {
        Vec::new()
    }
    fn sample(&self, _on: bool) {}
    fn start_arm(&self) {}
    fn end_arm(&self) -> OverArm {
        OverArm::default()
    }
    fn sm_mhz_now(&self) -> Option<f64> {
        None
    }
    fn trouble(&self) -> Vec<String> {
        Vec::new()
    }
    fn lost(&self) -> Option<String> {
        None
    }
    fn machine(&self) -> Result<Inventory, BackendError> {
        Ok(inventory(self.gpu.clone()))
    }
    fn processes_on(&self, _uuid: &str) -> Result<Processes, BackendError> {
        Ok(self.processes.clone())
    }
    fn divided(&self) -> Box<dyn Divide + '_> {
        panic!("nothing is divided here")
    }
    fn check_exclusive_on(&self, _uuid: &str, _ours: &[u32]) -> Result<(), BackendError> {
        Ok(())
    }
}

fn inventory(gpu: Gpu) -> Inventory {
    Inventory { provenance: Provenance::StandIn, driver: None, cuda: None, gpus: vec![gpu] }
}

/// A device of (profile, id of its GPU instance, id in it, SMs).
fn instance(profile: &str, gpu_instance: u32, compute_instance: u32, sms: u32) -> Instance {
    Instance {
        uuid: format!("MIG-00000000-0000-8000-8000-0000000000{gpu_instance}{compute_instance}"),
        profile: profile.to_owned(),
        start: Some(gpu_instance),
        size: Some(1),
        gpu_instance: Some(gpu_instance),
        compute_instance: Some(compute_instance),
        compute_start: None,
        memory: None,
        sms: Some(sms),
    }
}

fn gpu(instances: Vec<Instance>) -> Gpu {
    Gpu {
        uuid: "GPU-0".to_owned(),
        name: "NVIDIA A30".to_owned(),
        model: Some("a30".to_owned()),
        mig: Some(true),
        instances,
        ..Gpu::default()
    }
}

fn halves() -> Vec<Instance> {
    vec![instance("2g.12gb", 1, 0, 28), instance("2g.12gb", 2, 0, 28)]
}

/// The tenant with process id 100 + seat on this device.
fn on(seat: usize, uuid: &str, sms: u32) -> SeatEvidence {
    let device = DeviceSeen {
        uuid: uuid.to_owned(),
        name: String::new(),
        count: 1,
        compute_capability: "8.0".to_owned(),
        sms,
        memory: 0,
        free: 0,
        cuda: 12_080,
        green_sms: None,
    };
    SeatEvidence { seat, pid: 100 + seat as u32, device: Some(device), cores: Vec::new(), programs: Vec::new() }
}

fn process(pid: u32, gpu_instance: u32) -> GpuProcess {
    let gpu_instance = Some(gpu_instance);
    GpuProcess { pid, name: None, kind: ProcessKind::Compute, gpu_instance, memory: None }
}

/// A machine on which two tenants are where they should be, and what may then be otherwise.
struct Bench {
    mode: SharingMode,
    before: Vec<Instance>,
    now: Vec<Instance>,
    seats: Vec<SeatEvidence>,
    processes: Processes,
}

impl Bench {
    fn new(mode: SharingMode, instances: Vec<Instance>, layout: Option<&[LayoutEntry]>) -> Self {
        let mut bench =
            Self { mode, before: instances.clone(), now: instances, seats: Vec::new(), processes: Ok(Vec::new()) };
        let planned = bench.planned(layout);
        let told = Told { gpu: gpu(bench.before.clone()), processes: Ok(Vec::new()) };
        let machine = inventory(gpu(bench.before.clone()));
        let site = Site { inventory: &machine, gpu: 0, planned: &planned, watch: &told, allow_reconfigure: false };
        let arranged = crate::sharing::arrange(&site).unwrap();
        for seat in 0..planned.seats.len() {
            let uuid = arranged.place(seat).device.unwrap();
            let instance = bench.before.iter().find(|i| i.uuid == uuid).unwrap();
            bench.seats.push(on(seat, &uuid, instance.sms.unwrap()));
            let listed = process(100 + seat as u32, instance.gpu_instance.unwrap());
            bench.processes.as_mut().unwrap().push(listed);
        }
        bench
    }

    fn planned(&self, layout: Option<&[LayoutEntry]>) -> PlannedArrangement {
        let model = crate::gpu::find_model("a30");
        let as_found = layout.is_none();
        let (layout, seats) = crate::sharing::resolve(self.mode, layout, &gpu(self.before.clone()), model).unwrap();
        PlannedArrangement {
            name: "a".to_owned(),
            sharing: self.mode,
            mps_daemon: MpsDaemon::default(),
            time_slice: None,
            layout,
            as_found,
            seats,
            skipped: None,
            grids: Vec::new(),
            require: Expectation::default(),
            expect: Expectation::default(),
            hazards: Vec::new(),
            observe: Vec::new(),
            against: None,
            density: None,
        }
    }

    /// What is proved, where nothing of it fails.
    fn prove(&self) -> Result<String, String> {
        let planned = self.planned(None);
        self.prove_as(&planned)
    }

    fn prove_as(&self, planned: &PlannedArrangement) -> Result<String, String> {
        let machine = inventory(gpu(self.before.clone()));
        let before = Told { gpu: gpu(self.before.clone()), processes: Ok(Vec::new()) };
        let now = Told { gpu: gpu(self.now.clone()), processes: self.processes.clone() };
        let site = |watch| Site { inventory: &machine, gpu: 0, planned, watch, allow_reconfigure: false };
        let arranged = crate::sharing::arrange(&site(&before)).unwrap();
        arranged.prove(&site(&now), &self.seats).map(|proofs| proofs.join("\n")).map_err(|e| e.what)
    }
}

#[test]
fn a_proof_names_layout_instances_and_both_witnesses() {
    let bench = Bench::new(SharingMode::Mig, halves(), None);
    let proof = bench.prove().unwrap();
    for words in [
        "the layout of GPU-0 is 2g.12gb at slice 1 (MIG-00000000-0000-8000-8000-000000000010) + 2g.12gb at slice 2",
        "seat 1 (pid 101) is on MIG-00000000-0000-8000-8000-000000000020: 2g.12gb at slice 2, GPU instance 2, compute \
         instance 0, 28 SMs; by its CUDA context and the driver's list of processes",
        "no two tenants are in one GPU instance",
    ] {
        assert!(proof.contains(words), "{words} not in: {proof}");
    }
    let hidden = Bench { processes: Err(Unknown { why: "Insufficient Permissions".to_owned() }), ..bench };
    assert!(hidden.prove().unwrap().contains("its CUDA context alone: Insufficient Permissions"));
}

#[test]
fn each_proof_can_fail() {
    let bench = || Bench::new(SharingMode::Mig, halves(), None);
    let fails = |bench: Bench, words: &str| {
        let said = bench.prove().expect_err(words);
        assert!(said.contains(words), "{words} not in: {said}");
    };
    // The wrong instance, by CUDA.
    let mut wrong = bench();
    wrong.seats[1] = on(1, &wrong.before[0].uuid, 28);
    fails(wrong, "seat 1: it was given MIG-00000000-0000-8000-8000-000000000020 and is on MIG-");
    // The wrong instance, by NVML.
    let mut wrong = bench();
    wrong.processes = Ok(vec![process(100, 1), process(101, 1)]);
    fails(wrong, "seat 1: the driver lists its process 101 in GPU instance 1, and");
    // Another device under the right name.
    let mut wrong = bench();
    wrong.seats[0] = on(0, &wrong.before[0].uuid, 14);
    fails(wrong, "seat 0: it sees 14 SMs, and");
    // A layout that changed meanwhile: gone, another, or one more beside it.
    let mut gone = bench();
    gone.now.pop();
    fails(gone, "the MIG layout has changed");
    let mut other = bench();
    other.now[1].gpu_instance = Some(3);
    fails(other, "the MIG layout has changed");
    let mut more = bench();
    more.now.push(instance("1g.6gb", 3, 0, 14));
    fails(more, "somebody else divides this GPU");
}

#[test]
fn an_old_drivers_name_needs_the_list_of_processes() {
    const CARD: &str = "11111111-2222-8333-8444-555555555555";
    let named = |mut i: Instance| {
        i.uuid = format!("MIG-GPU-{CARD}/{}/0", i.gpu_instance.unwrap());
        i
    };
    let mut bench = Bench::new(SharingMode::Mig, halves().into_iter().map(named).collect(), None);
    for seat in 0..2 {
        bench.seats[seat] = on(seat, "MIG-00000000-0000-8000-8000-000000000099", 28);
    }
    assert!(bench.prove().unwrap().contains(&format!("seat 0 (pid 100) is on MIG-GPU-{CARD}/1/0")));
    bench.processes = Ok(Vec::new());
    assert!(bench.prove().unwrap_err().contains("nothing proves where the tenant is"));
}

#[test]
fn compute_instances_share_a_gpu_instance_and_turns_share_a_device() {
    let entry =
        |profile: &str, tenants| LayoutEntry { profile: Some(profile.to_owned()), tenants, ..LayoutEntry::PLAIN };
    let inside = vec![instance("1c.2g.12gb", 1, 0, 14), instance("1c.2g.12gb", 1, 1, 14)];
    let proof = Bench::new(SharingMode::MigComputeInstances, inside, None).prove().unwrap();
    assert!(proof.contains("1 pair(s) share a GPU instance"), "{proof}");

    let layout = [entry("2g.12gb", 2), entry("2g.12gb", 1)];
    let bench = Bench::new(SharingMode::MigTimeSlicing, halves(), Some(&layout));
    let planned = bench.planned(Some(&layout));
    assert_eq!(bench.seats[0].device.as_ref().unwrap().uuid, bench.seats[1].device.as_ref().unwrap().uuid);
    assert!(bench.prove_as(&planned).unwrap().contains("1 pair(s) of tenants share a MIG device, in turns"));

    // Compute instances that are all apart prove nothing of what they share.
    let apart = vec![
        instance("1c.2g.12gb", 1, 0, 14),
        instance("1c.2g.12gb", 1, 1, 14),
        instance("1c.2g.12gb", 2, 0, 14),
        instance("1c.2g.12gb", 2, 1, 14),
    ];
    let mut bench = Bench::new(SharingMode::MigComputeInstances, apart, None);
    bench.seats = vec![bench.seats[0].clone(), bench.seats[2].clone()];
    assert!(bench.prove().unwrap_err().contains("no two of these tenants share a GPU instance"));
}

#[test]
fn a_machine_that_is_no_longer_what_was_planned_is_not_arranged() {
    let bench = Bench::new(SharingMode::Mig, halves(), None);
    let planned = bench.planned(None);
    let told = Told { gpu: gpu(vec![instance("4g.24gb", 0, 0, 56)]), processes: Ok(Vec::new()) };
    let machine = inventory(gpu(halves()));
    let site = Site { inventory: &machine, gpu: 0, planned: &planned, watch: &told, allow_reconfigure: false };
    let said = crate::sharing::arrange(&site).err().unwrap().what;
    assert!(said.contains("the layout is 4g.24gb, the scenario asks for 2g.12gb + 2g.12gb"), "{said}");
}
