//! A layout that was made for an arrangement, until what was there is put back.

use std::path::{Path, PathBuf};

use crate::backend::BackendError;
use crate::doctor::layout_owners;
use crate::gpu::{Gpu, find_model};
use crate::reconfigure::{self, Saved};
use crate::sharing::gpu_instances;
use crate::sharing::live::Site;

/// What was there, on disk.
pub(super) struct Changed {
    saved: Saved,
    path: PathBuf,
}

impl Changed {
    /// Makes the layout that the arrangement asks for on `gpu`, the one under test as it is now.
    ///
    /// # Errors
    /// Where it may not be made here, or the driver refuses; what was changed until then is put back.
    pub(super) fn make(site: &Site<'_>, gpu: &Gpu) -> Result<Self, BackendError> {
        let refused = |what: String| BackendError::arrangement(what);
        may_be_divided(site, gpu)?;
        let model = gpu.model.as_deref().and_then(find_model).ok_or_else(|| {
            refused(format!("{} is no model that crosstalk knows: its layout is only used as found", gpu.name))
        })?;
        let driver = site.watch.divided();
        let before = reconfigure::read(&*driver, Some(model)).map_err(|e| refused(e.what))?;
        let wanted = gpu_instances(site.planned.sharing, &site.planned.layout, model).map_err(|e| refused(e.what))?;
        let asked = reconfigure::placed(model, &wanted).map_err(|e| refused(e.what))?;
        let saved = Saved::layout(gpu, before.clone(), asked.clone());
        let path = saved.write(site.inventory.provenance).map_err(|e| refused(e.to_string()))?;
        let changed = Self { saved, path };
        match reconfigure::make(&*driver, Some(model), &asked, &[&before]) {
            Ok(_) => Ok(changed),
            Err(error) => Err(changed.undo(site, refused(error.what))),
        }
    }

    /// Puts back what was there after `error`.
    pub(super) fn undo(self, site: &Site<'_>, error: BackendError) -> BackendError {
        match self.put_back(site) {
            Ok(()) => error,
            Err(stuck) => BackendError::device(format!("{}; and {}", error.what, stuck.what)),
        }
    }

    /// Puts back what was there.
    ///
    /// # Errors
    /// Where it cannot be put back: nothing more is measured on a machine in a state that nobody asked for.
    pub(super) fn put_back(&self, site: &Site<'_>) -> Result<(), BackendError> {
        let model = site.gpu().model.as_deref().and_then(find_model);
        let driver = site.watch.divided();
        // Compute instances that the driver placed elsewhere are listed when the run ends, as those with new names are.
        self.saved.put_back(&self.path, Some((&*driver, model))).map(drop).map_err(|error| {
            BackendError::device(format!(
                "the MIG layout of GPU {} is not put back: {error}. It was {}; `crosstalk restore` tries again",
                self.saved.gpu, self.saved.former
            ))
        })
    }
}

/// Whether `gpu` may be divided otherwise: by nobody who owns the layout, nobody at work there, no change under way.
fn may_be_divided(site: &Site<'_>, gpu: &Gpu) -> Result<(), BackendError> {
    let refuse = |what: String| Err(BackendError::arrangement(what));
    let uuid = &gpu.uuid;
    if let Some(on) = gpu.mig_pending {
        return refuse(format!(
            "GPU {uuid}: a change of the MIG mode is pending, which will be {} after the next reset: finish it (drain the \
             GPU, then `nvidia-smi --gpu-reset -i {uuid}`), or take it back (`nvidia-smi -i {uuid} -mig {}`)",
            if on { "on" } else { "off" },
            u8::from(!on)
        ));
    }
    let owners = layout_owners(Path::new("/"), &|name| std::env::var(name).ok());
    if let Some((owner, way)) = owners.first() {
        return refuse(format!(
            "the MIG layout of this machine is owned by {owner}: crosstalk does not change it behind its back. Its way: \
             {way}; then run without --allow-reconfigure"
        ));
    }
    match site.watch.processes_on(uuid)? {
        Err(unknown) => refuse(format!("nobody can tell who uses GPU {uuid}, so that it is not divided: {unknown}")),
        Ok(there) if !there.is_empty() => {
            let names: Vec<String> = there.iter().map(ToString::to_string).collect();
            refuse(format!(
                "GPU {uuid} is in use by {}: it is divided only while nobody is there, monitors neither; end that first",
                names.join(", ")
            ))
        }
        Ok(_) => Ok(()),
    }
}
