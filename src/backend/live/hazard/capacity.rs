//! The hazard `capacity` on a GPU: two processes, asked as [`crate::backend::capacity`] has it.

use std::path::Path;

use crate::backend::capacity::{self, Ended, Fallen, Outside, Tenants, Terms};
use crate::gpu::Gpu;
use crate::hazard::{Came, Capacity};
use crate::host::clock::now;
use crate::sharing::live::{Arranged, Place};
use crate::tenant::memory::{MemoryAnswer, MemoryQuestion};
use crate::tenant::question::{Answer, Question};
use crate::workload::Params;

use super::super::ask::beside::{Beside, Spot};
use super::super::ask::visibility::now as gpu_now;
use super::super::ask::{Pair, Stop, untold};
use super::super::session::LiveSession;

/// Tries it.
pub(super) fn attempt(session: &LiveSession<'_>, pair: &Pair, params: &Params) -> Result<Came, Stop> {
    if let Some(why) = spills(Path::new("/")) {
        // Nothing is taken where nothing can be learned.
        return Ok(Came::Capacity(Capacity { worthless: Some(why), ..Capacity::default() }));
    }
    let devices = pair.devices()?;
    let Some(arranged) = session.arranged.as_deref() else { return untold("nothing is arranged") };
    let gpu = gpu_now(session)?;
    let promised = pair.seats.map(|seat| promise(session, arranged, &gpu, seat));
    let terms = Terms::of(params, pair.seats, promised, session.plan.seed).map_err(Stop::Untold)?;
    let spots = [0, 1].map(|index| Spot::of(pair.seats[index], &pair.places[index]));
    let start = now();
    let beside = Beside::start(session, spots.into())?;
    let mut both = Both { session, beside, devices };
    match capacity::attempt(&terms, &mut both, start) {
        Ok(record) => {
            // One that died is past being asked to end; what is left of the processes is killed.
            if record.died.is_none() {
                both.beside.end()?;
            }
            Ok(Came::Capacity(record))
        }
        Err(Ended::Untold(why)) => untold(why),
        Err(Ended::Stop(stop)) => Err(stop),
    }
}

/// The two processes.
struct Both<'s, 'a> {
    session: &'s LiveSession<'a>,
    beside: Beside<'s, 'a>,
    devices: [String; 2],
}

impl Tenants for Both<'_, '_> {
    type Stop = Stop;

    fn ask(&mut self, questions: [Option<MemoryQuestion>; 2]) -> Result<[Option<MemoryAnswer>; 2], Fallen<Stop>> {
        let questions = questions.map(|question| question.map(Question::Memory));
        let answers = self.beside.ask_each(questions.into()).map_err(|fallen| match fallen.died {
            Some(how) if fallen.index == 0 => Fallen::Victim(how),
            _ => Fallen::Stop(fallen.stop),
        })?;
        let mut each = answers.into_iter();
        let mut next = || match each.next().flatten() {
            None => Ok(None),
            Some(Answer::Memory(answer)) => Ok(Some(answer)),
            Some(Answer::Refused(refusal)) => Err(Fallen::Stop(Stop::Untold(refusal.words()))),
            Some(_) => Err(Fallen::Stop(Stop::Untold(
                "a process that was asked about memory answered something else".to_owned(),
            ))),
        };
        Ok([next()?, next()?])
    }

    fn outside(&mut self, who: usize) -> Outside {
        let watch = self.session.live.watch();
        let pid = self.beside.pid(who);
        // What NVML does not tell is unknown; that it is lost is found by whoever asks next.
        let listed = watch.processes_on(&self.session.live.gpu().uuid).ok().and_then(Result::ok).unwrap_or_default();
        let process = listed.iter().find(|process| process.pid == pid).and_then(|process| process.memory);
        let telemetry = watch.telemetry(&self.devices[who]);
        let device = telemetry.memory_used.ok().zip(telemetry.memory_total);
        Outside { process: process.map(|bytes| bytes.0), device }
    }

    fn check(&mut self) -> Result<(), Stop> {
        self.beside.check_exclusive()
    }
}

/// What the place of `seat` promises: the memory limit of its MPS client, or all memory of a device that it has for itself.
fn promise(session: &LiveSession<'_>, arranged: &dyn Arranged, gpu: &Gpu, seat: usize) -> Option<u64> {
    let planned = session.planned();
    let limit = planned.seats.get(seat).and_then(|seat| planned.layout.get(seat.entry)).and_then(|entry| entry.memory);
    if let Some(limit) = limit {
        return Some(limit.0);
    }
    let store = |place: &Place| of_device(gpu, place.device.as_deref()?);
    let (own, memory) = store(&arranged.place(seat))?;
    let others = (0..planned.seats.len()).filter(|other| *other != seat);
    let shared = others.filter_map(|other| store(&arranged.place(other))).any(|(other, _)| other == own);
    if shared { None } else { memory }
}

/// Which memory a device has, and how much: compute instances of one GPU instance have one.
fn of_device(gpu: &Gpu, uuid: &str) -> Option<(String, Option<u64>)> {
    if uuid.eq_ignore_ascii_case(&gpu.uuid) {
        return Some((gpu.uuid.to_ascii_lowercase(), gpu.memory.map(|bytes| bytes.0)));
    }
    match gpu.instances.iter().find(|instance| instance.uuid.eq_ignore_ascii_case(uuid)) {
        Some(instance) => {
            let name = instance.gpu_instance.map_or(uuid.to_ascii_lowercase(), |id| format!("GPU instance {id}"));
            Some((name, instance.memory.map(|bytes| bytes.0)))
        }
        // Another GPU.
        None => Some((uuid.to_ascii_lowercase(), None)),
    }
}

/// Why memory that is not there is not refused here.
fn spills(root: &Path) -> Option<String> {
    // As `crosstalk doctor` tells WSL2.
    let version = std::fs::read_to_string(root.join("proc/version")).unwrap_or_default();
    version.to_lowercase().contains("microsoft").then(|| {
        "unsupported here: under WSL2 device memory spills to the host instead of running out; test on native Linux"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_memory_spills_nothing_is_tried() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(spills(root.path()), None, "no such file, no such system");
        std::fs::create_dir(root.path().join("proc")).unwrap();
        let write = |text: &str| std::fs::write(root.path().join("proc/version"), text).unwrap();
        write("Linux version 6.1.0-13-amd64 (debian-kernel@lists.debian.org)");
        assert_eq!(spills(root.path()), None);
        write("Linux version 5.15.153.1-microsoft-standard-WSL2");
        assert!(spills(root.path()).is_some_and(|why| why.starts_with("unsupported here") && why.contains("WSL2")));
    }

    #[test]
    fn compute_instances_of_one_gpu_instance_have_one_memory() {
        let model = crate::gpu::find_model("a30").unwrap();
        let mut gpu = crate::gpu::simulated(model, None).gpus.remove(0);
        let (whole, bytes) = of_device(&gpu, &gpu.uuid).unwrap();
        assert_eq!((whole, bytes), (gpu.uuid.to_ascii_lowercase(), gpu.memory.map(|b| b.0)));
        assert!(bytes.is_some());
        assert_eq!(of_device(&gpu, "GPU-elsewhere"), Some(("gpu-elsewhere".to_owned(), None)));
        let layout = crate::gpu::simulated(model, Some(&model_layout(model)));
        gpu = layout.gpus.into_iter().next().unwrap();
        let mut instances = gpu.instances.clone();
        assert!(instances.len() > 1);
        let stores: std::collections::BTreeSet<_> =
            instances.iter().map(|i| of_device(&gpu, &i.uuid).unwrap().0).collect();
        assert_eq!(stores.len(), instances.len(), "each has its own");
        for instance in &mut instances[..2] {
            instance.gpu_instance = Some(3);
        }
        gpu.instances = instances;
        let [a, b] = [0, 1].map(|i| of_device(&gpu, &gpu.instances[i].uuid).unwrap().0);
        assert_eq!(a, b);
    }

    fn model_layout(model: &'static crate::gpu::GpuModel) -> Vec<crate::gpu::Placement> {
        crate::gpu::place_layout(model, &["2g.12gb", "2g.12gb"]).unwrap()
    }
}
