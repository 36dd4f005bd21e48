//! The live half of a mode: what is put in place before tenants start, what proves that each of them is in its seat, and
//! what is put back.

use std::ffi::OsString;

use super::of;
use crate::backend::live::Watch;
use crate::backend::{BackendError, SeatEvidence};
use crate::gpu::{Gpu, Inventory};
use crate::plan::PlannedArrangement;
use crate::scenario::SharingMode;
use crate::units::Share;

/// What a live half may look at.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// The machine as it was found when the run began.
    pub inventory: &'a Inventory,
    /// Index of the GPU under test.
    pub gpu: usize,
    /// Who sits where.
    pub planned: &'a PlannedArrangement,
    /// NVML's part.
    pub watch: &'a dyn Watch,
    /// The user lets this run change what the driver keeps; everything is put back.
    pub allow_reconfigure: bool,
}

impl<'a> Site<'a> {
    /// The GPU under test.
    pub fn gpu(&self) -> &'a Gpu {
        &self.inventory.gpus[self.gpu]
    }
}

/// Where the tenant of one seat lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// UUID of the only device that its process sees; `None`: it touches no GPU.
    pub device: Option<String>,
    /// What its process's environment holds beside the usual.
    pub environment: Vec<(OsString, OsString)>,
    /// Seats of one host share a process.
    pub host: usize,
    /// SMs of a green context of its own; `None`: it shares its context's.
    pub green: Option<Share>,
}

impl Place {
    /// A process of its own on `device`.
    pub fn own(seat: usize, device: impl Into<String>) -> Self {
        Self { device: Some(device.into()), environment: Vec::new(), host: seat, green: None }
    }

    /// A process of its own without a GPU.
    pub fn off_gpu(seat: usize) -> Self {
        Self { device: None, environment: Vec::new(), host: seat, green: None }
    }
}

/// A machine in the shape that an arrangement needs.
pub trait Arranged {
    /// Where the tenant of `seat` lives.
    fn place(&self, seat: usize) -> Place;

    /// Processes of ours on the GPU beside the tenants.
    fn helpers(&self) -> Vec<u32> {
        Vec::new()
    }

    /// GPUs beside the one under test, by UUID, on which tenants are: nobody else may be there either.
    fn elsewhere(&self) -> Vec<String> {
        Vec::new()
    }

    /// Proves that every tenant is where the mode puts it, after each restart and before anything is measured: the proofs
    /// in words. That each seat sees its one device is proved already.
    ///
    /// # Errors
    /// The proof that fails, by its seat, and what was seen instead.
    fn prove(&self, site: &Site<'_>, seats: &[SeatEvidence]) -> Result<Vec<String>, BackendError>;

    /// A tenant's process is about to be killed, perhaps at work: whoever could suffer from that is spared.
    fn before_kill(&self, pid: u32) {
        let _ = pid;
    }

    /// What the helpers have to say when tenants do not come up.
    fn says(&self) -> Option<String> {
        None
    }

    /// Puts back what was changed; the tenants are gone. Called once more where it failed: what is put back stays so.
    ///
    /// # Errors
    /// What could not be put back, and how an operator does it.
    fn restore(&mut self, site: &Site<'_>) -> Result<(), BackendError> {
        let _ = site;
        Ok(())
    }
}

/// Puts the machine into the shape that the arrangement needs.
pub(super) type Arrange = fn(&Site<'_>) -> Result<Box<dyn Arranged>, BackendError>;

/// Arranges `site`.
///
/// # Errors
/// Where this version does not arrange the mode on hardware, or the machine cannot take that shape.
pub fn arrange(site: &Site<'_>) -> Result<Box<dyn Arranged>, BackendError> {
    let mode = site.planned.sharing;
    let arrange = of(mode).live.ok_or_else(|| BackendError::arrangement(not_on_hardware(mode)))?;
    arrange(site)
}

/// Whether this version arranges the mode on hardware. The simulator has them all.
pub fn on_hardware(mode: SharingMode) -> bool {
    of(mode).live.is_some()
}

/// Why `mode` is not arranged on hardware, and which are.
pub fn not_on_hardware(mode: SharingMode) -> String {
    let there: Vec<&str> = SharingMode::ALL.iter().filter(|m| on_hardware(**m)).map(|m| m.id()).collect();
    format!("this version arranges no {mode} on hardware; there it has {}, and all in the simulator", there.join(", "))
}

/// That all tenants on a GPU are on one, and on which.
///
/// # Errors
/// Two seats on two devices.
pub(super) fn one_device(seats: &[SeatEvidence]) -> Result<String, BackendError> {
    let on_gpu: Vec<_> = seats.iter().filter_map(|seat| Some((seat.seat, &seat.device.as_ref()?.uuid))).collect();
    let Some((first, uuid)) = on_gpu.first() else {
        return Err(BackendError::arrangement("no tenant is on a GPU"));
    };
    match on_gpu.iter().find(|(_, other)| !other.eq_ignore_ascii_case(uuid)) {
        Some((other, elsewhere)) => Err(BackendError::arrangement(format!(
            "seats {first} and {other} are on two devices, {uuid} and {elsewhere}: they share nothing that is measured here"
        ))),
        None => Ok(format!("{} tenants on {uuid}, each by its own CUDA context", on_gpu.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::protocol::DeviceSeen;

    fn seat(seat: usize, uuid: &str) -> SeatEvidence {
        let device = DeviceSeen {
            uuid: uuid.to_owned(),
            name: String::new(),
            count: 1,
            compute_capability: "9.0".to_owned(),
            sms: 132,
            green_sms: None,
            memory: 0,
            free: 0,
            cuda: 12_080,
        };
        SeatEvidence { seat, pid: 1, device: Some(device), cores: Vec::new(), programs: Vec::new() }
    }

    #[test]
    fn replicas_on_two_gpus_are_no_contention() {
        assert!(
            one_device(&[seat(0, "GPU-a"), seat(1, "GPU-A")]).is_ok_and(|proof| proof.contains("2 tenants on GPU-a"))
        );
        let error = one_device(&[seat(0, "GPU-a"), seat(1, "GPU-a"), seat(2, "GPU-b")]).unwrap_err();
        assert!(error.what.contains("seats 0 and 2 are on two devices, GPU-a and GPU-b"), "{error}");
        let host_only = SeatEvidence { device: None, ..seat(0, "") };
        assert!(one_device(std::slice::from_ref(&host_only)).is_err(), "nobody on a GPU proves nothing");
        assert!(one_device(&[host_only, seat(1, "GPU-a")]).is_ok());
    }

    #[test]
    fn a_mode_that_is_not_arranged_says_which_are() {
        let words = not_on_hardware(SharingMode::MigMps);
        assert!(words.contains("exclusive, ") && words.contains("time-slicing"), "{words}");
    }
}
