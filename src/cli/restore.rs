//! `crosstalk restore`: puts back what a run changed that was killed before it could.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::{CliError, Exit};
use crate::backend::live::{Watch, Watcher};
use crate::doctor::probe;
use crate::gpu::{Gpu, find_model};
use crate::host::lock::GpuLock;
use crate::provenance::Provenance;
use crate::reconfigure::{self, Former, Saved, folders};
use crate::sharing::mps;
use crate::units::Nanos;

pub(super) fn run() -> Result<Exit, CliError> {
    let environment = |what: String| CliError::Environment(what);
    for swept in mps::sweep() {
        super::print(&format!("{swept}\n"))?;
    }
    let machine = probe::survey().map_err(|e| environment(e.what))?.inventory;
    let provenance = machine.provenance;
    let saved = Saved::all(provenance).map_err(|e| environment(e.to_string()))?;
    if saved.is_empty() {
        let places: Vec<String> = folders(provenance).iter().map(|folder| folder.display().to_string()).collect();
        super::print(&format!(
            "nothing to put back: nothing of a GPU is kept in {}. A run of another user keeps it in that user's folder\n",
            places.join(" or ")
        ))?;
        return Ok(Exit::Ok);
    }
    let mut exit = Exit::Ok;
    for (path, saved) in saved {
        match one(provenance, &path, &saved) {
            Ok(text) => super::print(&text)?,
            Err(error) => {
                error.print();
                exit = exit.max(error.exit());
            }
        }
    }
    Ok(exit)
}

/// Puts back one GPU: what was done, in words.
fn one(provenance: Provenance, path: &Path, saved: &Saved) -> Result<String, CliError> {
    let uuid = &saved.gpu;
    let environment = |what: String| CliError::Environment(what);
    let _lock =
        GpuLock::acquire(uuid, provenance, None, &AtomicBool::new(false)).map_err(|e| environment(e.to_string()))?;
    let gpu = gpu(uuid)?.ok_or_else(|| {
        environment(format!(
            "GPU {uuid}, of which {} says how it was, is not on this machine, or not shown here: remove the file if it is gone for \
             good",
            path.display()
        ))
    })?;
    let watch = Watcher::start(&super::this_program()?, uuid, &[], Nanos::MAX)?;
    match &saved.former {
        Former::Layout { .. } => may_be_divided(&watch, &gpu, path, saved)?,
        Former::TimeSlice { .. } if gpu.mig == Some(true) => {
            return Err(environment(format!(
                "GPU {uuid}: MIG is on now, where no time-slice level is. It was {}; turn MIG off (`nvidia-smi -i {uuid} -mig \
                 0`) and restore again, or remove {}",
                saved.former,
                path.display()
            )));
        }
        Former::TimeSlice { .. } => {}
    }
    let model = gpu.model.as_deref().and_then(find_model);
    let otherwise = saved.put_back(path, Some((&*watch.divided(), model))).map_err(|error| {
        environment(format!(
            "GPU {uuid}: {error}. It was {}; {} stays for another attempt",
            saved.former,
            path.display()
        ))
    })?;
    let mut text =
        format!("GPU {uuid}: put back as it was before {} (process {}): {}\n", saved.since, saved.pid, saved.former);
    let mut say = |line: &str| text.push_str(&format!("  {line}\n"));
    otherwise.iter().for_each(|line| say(line));
    if let (Former::Layout { devices, .. }, Some(now)) = (&saved.former, self::gpu(uuid)?) {
        let before = Gpu { instances: devices.clone(), ..Gpu::default() };
        reconfigure::renamed(&before, &now).iter().for_each(|line| say(line));
    }
    Ok(text)
}

/// Whether the layout of `gpu` can be put back now: MIG is still on, and nobody is there.
fn may_be_divided(watch: &dyn Watch, gpu: &Gpu, path: &Path, saved: &Saved) -> Result<(), CliError> {
    let uuid = &gpu.uuid;
    let refuse = |what: String| Err(CliError::Environment(what));
    if gpu.mig != Some(true) {
        return refuse(format!(
            "GPU {uuid}: MIG is off now, and no instance outlives that: there is nothing left of the layout. It was {}; turn \
             MIG on (`nvidia-smi -i {uuid} -mig 1`) and restore again, or remove {}",
            saved.former,
            path.display()
        ));
    }
    match watch.processes_on(uuid)? {
        Ok(there) if there.is_empty() => Ok(()),
        Ok(there) => {
            let names: Vec<String> = there.iter().map(ToString::to_string).collect();
            refuse(format!("GPU {uuid} is in use by {}: end that first", names.join(", ")))
        }
        Err(unknown) => refuse(format!(
            "nobody can tell who uses GPU {uuid}, so that it is not divided: {unknown}; restore where its processes can be \
             seen, as root on the host"
        )),
    }
}

fn gpu(uuid: &str) -> Result<Option<Gpu>, CliError> {
    let machine = probe::survey().map_err(|e| CliError::Environment(e.what))?.inventory;
    Ok(machine.gpus.into_iter().find(|gpu| gpu.uuid == *uuid))
}
