//! Making a device ready to run on: a physical GPU is locked, watched, and used by nobody else.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::CliError;
use super::device::{Selected, Taken};
use crate::backend::Backend;
use crate::backend::live::{Deadlines, Live, Settings, Watch as _, Watcher};
use crate::dcgm::DcgmExporter;
use crate::host::compute_cache;
use crate::host::lock::GpuLock;
use crate::nvml::ExclusiveUse;
use crate::provenance::Provenance;
use crate::reconfigure::Saved;
use crate::sharing::mps;
use crate::units::{Nanos, UnitError};

/// What a run on hardware may do.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Rights {
    /// Nobody else's work is at risk on this GPU (its UUID), whatever the driver's list of processes says or hides.
    #[arg(long, value_name = "UUID")]
    gpu_is_mine: Vec<String>,
    /// How long to wait for a GPU on which another crosstalk runs ("30m").
    #[arg(long, value_name = "TIME", value_parser = waiting)]
    wait: Option<Nanos>,
}

/// Shortens every deadline of the driver and of tenants on the stand-in ("8s"), so that a rehearsal of a hang need not last
/// minutes.
const PATIENCE: &str = "CROSSTALK_STAND_IN_PATIENCE";

/// The most that anything may take.
fn patience(provenance: Provenance) -> Result<Nanos, CliError> {
    match std::env::var(PATIENCE) {
        Ok(text) if provenance == Provenance::StandIn => {
            text.parse().map_err(|e| CliError::Usage(format!("{PATIENCE}: {e}")))
        }
        _ => Ok(Nanos::MAX),
    }
}

/// "30m" is half an hour too, as in other programs' options; in a scenario it would be taken for milliseconds.
fn waiting(text: &str) -> Result<Nanos, UnitError> {
    let minutes = text.strip_suffix('m').filter(|number| number.ends_with(|c: char| c.is_ascii_digit()));
    minutes.and_then(|number| format!("{number}min").parse().ok()).map_or_else(|| text.parse(), Ok)
}

/// A device ready to run on. Holds the lock of a physical GPU until it is dropped.
pub struct Ready {
    /// The backend.
    pub backend: Box<dyn Backend>,
    /// By what right noise is made there, where that is the user's word alone.
    pub assumed: Option<String>,
    _lock: Option<GpuLock>,
}

/// A physical GPU, or the stand-in for one, held until this is dropped.
pub(super) struct Held {
    pub(super) live: Live,
    /// See [`Ready::assumed`].
    pub(super) assumed: Option<String>,
    lock: GpuLock,
}

impl Selected {
    /// Makes the device ready to run on: a physical GPU is locked, and nobody else may be at work there but `welcome`.
    ///
    /// # Errors
    /// Where another run has the GPU, somebody else may be using it, or NVML does not answer.
    pub fn ready(
        self,
        rights: &Rights,
        welcome: &[u32],
        allow_reconfigure: bool,
        stop: &AtomicBool,
    ) -> Result<Ready, CliError> {
        match self.backend {
            Taken::Simulator(simulator) => Ok(Ready { backend: Box::new(simulator), assumed: None, _lock: None }),
            Taken::Live => {
                let Held { live, assumed, lock } = self.live(rights, welcome, allow_reconfigure, stop)?;
                Ok(Ready { backend: Box::new(live), assumed, _lock: Some(lock) })
            }
        }
    }

    /// The physical GPU, locked, with nobody else at work there but the processes `welcome`.
    ///
    /// # Errors
    /// Where another run has the GPU, somebody else may be using it, or NVML does not answer.
    pub(super) fn live(
        self,
        rights: &Rights,
        welcome: &[u32],
        allow_reconfigure: bool,
        stop: &AtomicBool,
    ) -> Result<Held, CliError> {
        let (gpu, inventory) = (self.gpu, self.inventory);
        let environment = |what: String| CliError::Environment(what);
        let (uuid, bus_id) = (inventory.gpus[gpu].uuid.clone(), inventory.gpus[gpu].pci.clone());
        let provenance = inventory.provenance;
        let wait = rights.wait.map(|wait| Duration::from_nanos(wait.0));
        let lock = GpuLock::acquire(&uuid, provenance, wait, stop).map_err(|e| environment(e.to_string()))?;
        for swept in mps::sweep() {
            super::say(&swept);
        }
        if let Some((_, saved)) = Saved::of(&uuid, provenance).map_err(|e| environment(e.to_string()))? {
            return Err(environment(format!(
                "GPU {uuid} is still as a run made it that changed it on {} (process {}) and was not ended cleanly; before, it \
                 was {}: run `crosstalk restore` first",
                saved.since, saved.pid, saved.former
            )));
        }
        // The watcher, which inherits our environment, asks it: a mistake there is one of usage.
        DcgmExporter::from_environment(&|name| std::env::var(name).ok()).map_err(CliError::Usage)?;
        let exe = super::this_program()?;
        let longest = patience(provenance)?;
        let watch = Watcher::start(&exe, &uuid, &rights.gpu_is_mine, longest)?;
        let assumed = match watch.check_exclusive(welcome)? {
            ExclusiveUse::Proved { .. } => None,
            ExclusiveUse::Assumed { why } => Some(why),
        };
        let settings = Settings {
            inventory,
            gpu,
            bus_id,
            provenance,
            exe,
            environment: compute_cache::environment(),
            allow_reconfigure,
            watch: Box::new(watch),
            deadlines: Deadlines::default().at_most(longest),
        };
        Ok(Held { live: Live::new(settings)?, assumed, lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_wait_is_written_as_the_help_does() {
        assert_eq!(waiting("30m"), Ok(Nanos::secs(1800)));
        assert_eq!(waiting("30min"), waiting("1800s"));
        assert_eq!(waiting("20ms"), Ok(Nanos::millis(20)));
        assert!(waiting("m").is_err() && waiting("30").is_err());
    }
}
