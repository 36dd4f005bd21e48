//! `crosstalk restore`: puts back what a run changed that was killed before it could.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::{CliError, Exit};
use crate::gpu::{Gpu, find_model};
use crate::host::lock::GpuLock;
use crate::nvml::Nvml;
use crate::reconfigure::{self, Saved, folders};
use crate::sharing::mps;

pub(super) fn run() -> Result<Exit, CliError> {
    let environment = |what: String| CliError::Environment(what);
    for swept in mps::sweep() {
        super::print(&format!("{swept}\n"))?;
    }
    let nvml = Nvml::load().map_err(|e| environment(e.what))?;
    let saved = Saved::all(nvml.provenance()).map_err(|e| environment(e.to_string()))?;
    if saved.is_empty() {
        let places: Vec<String> =
            folders(nvml.provenance()).iter().map(|folder| folder.display().to_string()).collect();
        super::print(&format!(
            "nothing to put back: no MIG layout is kept in {}. A run of another user keeps it in that user's folder\n",
            places.join(" or ")
        ))?;
        return Ok(Exit::Ok);
    }
    let mut exit = Exit::Ok;
    for (path, saved) in saved {
        match one(&nvml, &path, &saved) {
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
fn one(nvml: &Nvml, path: &Path, saved: &Saved) -> Result<String, CliError> {
    let uuid = &saved.gpu;
    let environment = |what: String| CliError::Environment(what);
    let _lock = GpuLock::acquire(uuid, nvml.provenance(), None, &AtomicBool::new(false))
        .map_err(|e| environment(e.to_string()))?;
    let gpu = gpu(nvml, uuid)?.ok_or_else(|| {
        environment(format!(
            "GPU {uuid}, whose layout {} keeps, is not on this machine, or not shown here: remove the file if it is gone for \
             good",
            path.display()
        ))
    })?;
    if gpu.mig != Some(true) {
        return Err(environment(format!(
            "GPU {uuid}: MIG is off now, and no instance outlives that: there is nothing left of the layout. It was {}; turn \
             MIG on (`nvidia-smi -i {uuid} -mig 1`) and restore again, or remove {}",
            reconfigure::words(&saved.before),
            path.display()
        )));
    }
    match nvml.processes(uuid) {
        Ok(there) if there.is_empty() => {}
        Ok(there) => {
            let names: Vec<String> = there.iter().map(ToString::to_string).collect();
            return Err(environment(format!("GPU {uuid} is in use by {}: end that first", names.join(", "))));
        }
        Err(unknown) => {
            return Err(environment(format!(
                "nobody can tell who uses GPU {uuid}, so that it is not divided: {unknown}; restore where its processes can \
                 be seen, as root on the host"
            )));
        }
    }
    let model = gpu.model.as_deref().and_then(find_model);
    saved.put_back(path, &nvml.divided(uuid), model).map_err(|error| {
        environment(format!(
            "GPU {uuid}: {error}. It was {}; {} stays for another attempt",
            reconfigure::words(&saved.before),
            path.display()
        ))
    })?;
    let mut text = format!(
        "GPU {uuid}: put back as it was before {} (process {}): {}\n",
        saved.since,
        saved.pid,
        reconfigure::words(&saved.before)
    );
    let before = Gpu { instances: saved.devices.clone(), ..Gpu::default() };
    if let Some(now) = self::gpu(nvml, uuid)? {
        for line in reconfigure::renamed(&before, &now) {
            text.push_str(&format!("  {line}\n"));
        }
    }
    Ok(text)
}

fn gpu(nvml: &Nvml, uuid: &str) -> Result<Option<Gpu>, CliError> {
    let inventory = nvml.inventory().map_err(|e| CliError::Environment(e.what))?;
    Ok(inventory.gpus.into_iter().find(|gpu| gpu.uuid == *uuid))
}
