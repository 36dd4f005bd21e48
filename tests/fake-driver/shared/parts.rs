//! The GPUs and MIG devices that the configuration describes.

use crosstalk::gpu::{GpuModel, find_model, nearest_model, parse_layout, parse_mig_uuid};
use crosstalk::gpu::{MigUuid, create_in_order, named_uuid, place_layout};
use crosstalk::machine::{Compute, Context, Domain, GpuPart, Policy, SmShare, Topology};
use crosstalk::plan::Seat;
use crosstalk::scenario::{LayoutEntry, SharingMode};

use crate::config::{self, Loaded, Mig};
use crate::layout::{self, Made};

/// Contexts of one GPU at most: the machine's table.
pub(crate) const CONTEXTS: usize = 32;

/// One GPU.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) index: usize,
    pub(crate) model: GpuModel,
    pub(crate) config: config::Gpu,
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) topology: Topology,
    /// Contexts of each compute domain.
    pub(crate) share: usize,
    /// MIG devices, where MIG is on.
    pub(crate) devices: Option<Vec<MigDevice>>,
}

/// One GPU instance with a compute instance in it, or without.
#[derive(Clone, Debug)]
pub(crate) struct MigDevice {
    pub(crate) uuid: String,
    /// As CUDA and nvidia-smi name it ("3g.40gb", "1c.3g.40gb").
    pub(crate) profile: String,
    /// Name of the GPU instance's profile.
    pub(crate) parent: String,
    pub(crate) profile_id: u32,
    pub(crate) gpu_instance: u32,
    pub(crate) compute_instance: u32,
    /// First memory slice, and how many.
    pub(crate) start: u32,
    pub(crate) size: u32,
    /// Compute slices of the GPU instance and of the compute instance.
    pub(crate) gpu_slices: u32,
    pub(crate) compute_slices: u32,
    /// Number of the compute instance's profile, and its first compute slice.
    pub(crate) compute_profile: u32,
    pub(crate) compute_start: u32,
    /// Index of its compute domain.
    pub(crate) compute: usize,
    /// No compute instance: no device either.
    pub(crate) bare: bool,
}

/// The GPUs of the configuration, divided as it says or as somebody has divided them since.
pub(crate) fn parts(loaded: &Loaded) -> Result<Vec<Part>, String> {
    let one = |(index, gpu)| part(index, gpu, layout::read(&loaded.folder, index)?.as_ref());
    loaded.config.gpu.iter().enumerate().map(one).collect()
}

fn part(index: usize, gpu: &config::Gpu, made: Option<&Made>) -> Result<Part, String> {
    let at = |why: String| format!("gpu {index}: {why}");
    let mut model = find_model(&gpu.model).cloned().ok_or_else(|| {
        let hint = nearest_model(&gpu.model).map_or(String::new(), |m| format!("; did you mean {:?}?", m.id));
        at(format!("no model {:?} in `crosstalk list gpus`{hint}", gpu.model))
    })?;
    if let Some(mib) = gpu.memory_mib {
        model.memory_mib = mib;
    }
    if let Some(sms) = gpu.sms {
        model.sm.count = sms;
    }
    let uuid = gpu.uuid.clone().unwrap_or_else(|| format!("GPU-{}", uuid(&[&index.to_string(), &model.id])));
    let (devices, mut topology) = match (&gpu.mig, made) {
        (None, _) => (None, whole(&model)),
        (Some(_), Some(made)) => {
            let (devices, topology) = as_made(&model, made).map_err(at)?;
            (Some(devices), topology)
        }
        (Some(mig), None) => {
            let (devices, topology) = divided(index, &model, gpu, mig).map_err(at)?;
            (Some(devices), topology)
        }
    };
    for process in &gpu.processes {
        let compute = process.device.and_then(|d| devices.as_ref()?.get(d)).map_or(0, |d| d.compute);
        let domain = topology.computes.get(compute).map_or(0, |c| c.domain);
        let Some(domain) = topology.domains.get_mut(domain) else { continue };
        domain.memory = domain.memory.saturating_sub(process.memory_mib << 20);
    }
    let share = CONTEXTS / topology.computes.len().max(1);
    for compute in 0..topology.computes.len() {
        let context = |process| Context { compute, sms: SmShare::All, process, memory_limit: None };
        topology.contexts.extend((0..share).map(context));
    }
    let name = gpu.name.clone().unwrap_or_else(|| model.name.clone());
    Ok(Part { index, model, config: gpu.clone(), uuid, name, topology, share, devices })
}

/// One domain that is the whole GPU.
fn whole(m: &GpuModel) -> Topology {
    let domain = Domain {
        gpu: 0,
        sms: m.sm.count,
        l2_bytes: m.l2.kib << 10,
        l2_bandwidth: u64::from(m.l2.bytes_per_cycle) * u64::from(m.clock.max_mhz) * 1_000_000,
        hbm_bandwidth: (m.hbm.gb_per_s * 1e9) as u64,
        memory: m.memory_mib << 20,
        copy_engines: m.pcie.copy_engines,
    };
    Topology {
        gpus: vec![GpuPart { mig: false }],
        domains: vec![domain],
        computes: vec![Compute { domain: 0, sms: m.sm.count, policy: Policy::TimeSliced }],
        contexts: vec![],
    }
}

/// The instances of a layout.
fn divided(index: usize, model: &GpuModel, gpu: &config::Gpu, mig: &Mig) -> Result<(Vec<MigDevice>, Topology), String> {
    let names: Vec<String> = match mig {
        Mig::Name(name) if name.trim().is_empty() => vec![],
        Mig::Name(name) => {
            parse_layout(model, name).map_err(|e| e.to_string())?.into_iter().map(|p| p.profile).collect()
        }
        Mig::List(list) => list.clone(),
    };
    if names.is_empty() {
        let nothing =
            Topology { gpus: vec![GpuPart { mig: true }], domains: vec![], computes: vec![], contexts: vec![] };
        return Ok((vec![], nothing));
    }
    let bare: Vec<bool> = names.iter().map(|n| n.starts_with("bare ")).collect();
    let names: Vec<&str> = names.iter().map(|n| n.trim_start_matches("bare ")).collect();
    let entry = |name: &str| LayoutEntry {
        profile: Some(name.to_owned()),
        sms: None,
        reserved: false,
        memory: None,
        tenants: 1,
    };
    let layout: Vec<LayoutEntry> = names.iter().map(|n| entry(n)).collect();
    let seat = |(entry, name): (usize, &&str)| Seat { id: entry.to_string(), share: (*name).to_owned(), entry };
    let seats: Vec<Seat> = names.iter().enumerate().map(seat).collect();
    let mut topology = crosstalk::sharing::topology(SharingMode::MigComputeInstances, &layout, &seats, model)
        .map_err(|e| e.to_string())?;
    topology.contexts.clear();
    let parents = |compute: &Compute| compute.domain;
    let mut of_domain: Vec<&str> = Vec::new();
    for (name, compute) in names.iter().zip(&topology.computes) {
        let parent = name.split_once("c.").map_or(*name, |(_, parent)| parent);
        if parents(compute) == of_domain.len() {
            of_domain.push(parent);
        }
    }
    let placements =
        create_in_order(model, &of_domain).or_else(|_| place_layout(model, &of_domain)).map_err(|e| e.to_string())?;
    let profiles = |name: &str| model.mig.iter().flat_map(|m| &m.profiles).find(|p| p.name == name);
    let mut ids: Vec<u32> = Vec::new();
    for placement in &placements {
        // As drivers number them: the fewer slices, the higher the first id, so that ids are sparse.
        let slices = profiles(&placement.profile).map_or(1, |p| p.slices);
        let mut id = match slices {
            7.. => 0,
            3..=6 => 1,
            2 => 3,
            _ => 7,
        };
        while ids.contains(&id) {
            id += 1;
        }
        ids.push(id);
    }
    let mut devices: Vec<MigDevice> = Vec::new();
    for (at, (name, compute)) in names.iter().zip(&topology.computes).enumerate() {
        let d = compute.domain;
        let (placement, gpu_instance) = match (placements.get(d), ids.get(d)) {
            (Some(placement), Some(id)) => (placement, *id),
            _ => return Err(format!("{name}: no placement")),
        };
        let parent = profiles(&placement.profile).ok_or_else(|| format!("{name}: no such profile"))?;
        let compute_instance = devices.iter().filter(|d| d.gpu_instance == gpu_instance).count() as u32;
        let compute_slices = name.split_once("c.").and_then(|(n, _)| n.parse().ok()).unwrap_or(parent.slices);
        let made = || {
            let (start, instance) = (placement.start.to_string(), compute_instance.to_string());
            format!("MIG-{}", uuid(&[&index.to_string(), &model.id, &placement.profile, &start, &instance]))
        };
        let uuid = gpu.mig_uuids.get(at).cloned().unwrap_or_else(made);
        parse_mig_uuid(&uuid).map_err(|e| e.to_string())?;
        let before = devices.iter().filter(|d| d.gpu_instance == gpu_instance).map(|d| d.compute_slices).sum();
        devices.push(MigDevice {
            compute_profile: layout::compute_profile(compute_slices),
            compute_start: before,
            uuid,
            profile: (*name).to_owned(),
            parent: parent.name.clone(),
            profile_id: parent.id,
            gpu_instance,
            compute_instance,
            start: placement.start,
            size: placement.size,
            gpu_slices: parent.slices,
            compute_slices,
            compute: at,
            bare: bare.get(at).copied().unwrap_or(false),
        });
    }
    Ok((devices, topology))
}

/// The instances that somebody made.
fn as_made(model: &GpuModel, made: &Made) -> Result<(Vec<MigDevice>, Topology), String> {
    let mut devices = Vec::new();
    let mut all = Topology { gpus: vec![GpuPart { mig: true }], domains: vec![], computes: vec![], contexts: vec![] };
    for instance in &made.instances {
        let mut profiles = model.mig.iter().flat_map(|m| &m.profiles);
        let data = profiles
            .find(|p| p.name == instance.profile)
            .ok_or_else(|| format!("layout: {} has no profile {:?}", model.id, instance.profile))?;
        let name = |slices: u32| match slices == data.slices {
            true => data.name.clone(),
            false => format!("{slices}c.{}", data.name),
        };
        let bare = layout::Compute { id: 0, slices: data.slices, profile: 0, start: 0, uuid: String::new() };
        let compute = if instance.compute.is_empty() { vec![bare] } else { instance.compute.clone() };
        let mut layout = Vec::new();
        let mut seats = Vec::new();
        for (entry, compute) in compute.iter().enumerate() {
            let profile = name(compute.slices);
            seats.push(Seat { id: entry.to_string(), share: profile.clone(), entry });
            layout.push(LayoutEntry { profile: Some(profile), sms: None, reserved: false, memory: None, tenants: 1 });
        }
        let own = crosstalk::sharing::topology(SharingMode::MigComputeInstances, &layout, &seats, model)
            .map_err(|e| e.to_string())?;
        let (domains, computes) = (all.domains.len(), all.computes.len());
        all.domains.extend(own.domains);
        all.computes.extend(own.computes.into_iter().map(|c| Compute { domain: c.domain + domains, ..c }));
        for (at, compute) in compute.iter().enumerate() {
            devices.push(MigDevice {
                uuid: compute.uuid.clone(),
                profile: name(compute.slices),
                parent: data.name.clone(),
                profile_id: data.id,
                gpu_instance: instance.id,
                compute_instance: compute.id,
                start: instance.start,
                size: data.size,
                gpu_slices: data.slices,
                compute_slices: compute.slices,
                compute_profile: compute.profile,
                compute_start: compute.start,
                compute: computes + at,
                bare: instance.compute.is_empty(),
            });
        }
    }
    Ok((devices, all))
}

fn uuid(parts: &[&str]) -> String {
    named_uuid("crosstalk stand-in gpu 1", parts)
}

/// The 16 bytes of "GPU-…" or "MIG-…".
pub(crate) fn uuid_bytes(text: &str) -> [u8; 16] {
    let digits: String = text.split_once('-').map_or(text, |(_, rest)| rest).chars().filter(|c| *c != '-').collect();
    let mut bytes = [0; 16];
    let _ = hex::decode_to_slice(digits.get(..32).unwrap_or_default(), &mut bytes);
    bytes
}

impl Part {
    /// The MIG devices that exist: those with a compute instance.
    pub(crate) fn mig_devices(&self) -> impl Iterator<Item = &MigDevice> {
        self.devices.iter().flatten().filter(|d| !d.bare)
    }

    /// The MIG device with this UUID, in either form.
    pub(crate) fn mig_device(&self, text: &str) -> Option<&MigDevice> {
        match parse_mig_uuid(text).ok()? {
            MigUuid::Device(uuid) => self.mig_devices().find(|d| d.uuid.eq_ignore_ascii_case(&format!("MIG-{uuid}"))),
            MigUuid::Instance { gpu, gpu_instance, compute_instance } => {
                let mine = self.uuid.eq_ignore_ascii_case(&format!("GPU-{gpu}"));
                let same = |d: &&MigDevice| d.gpu_instance == gpu_instance && d.compute_instance == compute_instance;
                self.mig_devices().find(|d| mine && same(d))
            }
        }
    }

    /// Memory of a compute domain's domain, bytes: what the driver reports, processes of others included.
    pub(crate) fn memory(&self, compute: usize) -> u64 {
        let Some(domain) = self.topology.computes.get(compute).map(|c| c.domain) else { return 0 };
        let own = self.topology.domains.get(domain).map_or(0, |d| d.memory);
        own + self.foreign(Some(compute))
    }

    /// Memory that processes of others hold, bytes: in one compute domain, or in all.
    pub(crate) fn foreign(&self, compute: Option<usize>) -> u64 {
        let of = |p: &&config::Foreign| match (compute, p.device) {
            (None, _) => true,
            (Some(compute), device) => device.unwrap_or(0) == compute || self.devices.is_none(),
        };
        self.config.processes.iter().filter(of).map(|p| p.memory_mib << 20).sum()
    }

    /// Number in the PCI bus.
    pub(crate) fn bus(&self) -> u32 {
        0x10 + self.index as u32
    }

    /// "00000000:10:00.0", as NVML prints it.
    pub(crate) fn bus_id(&self) -> String {
        format!("{:08X}:{:02X}:00.0", 0, self.bus())
    }

    /// Major and minor compute capability.
    pub(crate) fn capability(&self) -> (u32, u32) {
        config::version(&self.model.compute_capability).unwrap_or((0, 0))
    }

    /// Memory clock in MHz and width of the bus in bits: the model knows their product only, so one of them is assumed.
    pub(crate) fn memory_mhz(&self) -> u32 {
        let assumed =
            if self.model.architecture == "ada" || self.model.architecture == "turing" { 5_001 } else { 2_619 };
        self.config.memory_mhz.unwrap_or(assumed)
    }

    /// See [`Part::memory_mhz`]: two transfers a cycle.
    pub(crate) fn bus_width(&self) -> u32 {
        let bits = self.model.hbm.gb_per_s * 1e9 * 8.0 / (2.0 * f64::from(self.memory_mhz()) * 1e6);
        ((bits / 64.0).ceil() as u32) * 64
    }

    /// ECC is there at all, and on.
    pub(crate) fn ecc(&self) -> Option<bool> {
        self.config.ecc.or_else(|| (!self.model.id.starts_with("rtx-4090")).then_some(true))
    }
}
