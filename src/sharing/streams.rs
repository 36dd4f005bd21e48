//! Streams: tenants are streams of one process and one context. Order is kept within a stream only.

use super::Mode;
use super::flat;
use super::live::{Arranged, Place, Site, one_device};
use crate::backend::{BackendError, SeatEvidence};
use crate::machine::{Policy, SmShare};

/// Streams of a tenant.
const STREAMS: usize = 2;
/// Hardware queues that the streams of a process have at most (CUDA_DEVICE_MAX_CONNECTIONS, CUDA programming guide).
const QUEUES: usize = 32;

pub(super) const MODE: Mode = Mode {
    resolve: |r| flat::alike(r, "a stream"),
    topology: |s| Ok(flat::whole_gpu(s, Policy::Concurrent, true, |_, _| SmShare::All)),
    one_process: true,
    live: Some(|site| Ok(Box::new(Streams { device: site.gpu().uuid.clone() }))),
    own_share: |_, _| false,
};

/// Streams of one process on one device.
struct Streams {
    device: String,
}

impl Arranged for Streams {
    fn place(&self, seat: usize) -> Place {
        Place { host: 0, ..Place::own(seat, &*self.device) }
    }

    fn prove(&self, _site: &Site<'_>, seats: &[SeatEvidence]) -> Result<Vec<String>, BackendError> {
        if let Some(seat) = seats.iter().find(|seat| seat.device.as_ref().is_some_and(|d| d.green_sms.is_some())) {
            return Err(BackendError::arrangement(format!(
                "seat {} is in a green context, where all were to share one context",
                seat.seat
            )));
        }
        let mut proofs = vec![format!("{}, each on streams of its own in its one context", in_one_process(seats)?)];
        proofs.extend(crowded(seats.len()));
        Ok(proofs)
    }
}

/// Streams beyond the hardware's queues share them, and wait for one another where nothing asks for it.
fn crowded(seats: usize) -> Option<String> {
    let streams = seats * STREAMS;
    (streams > QUEUES).then(|| {
        format!("{streams} streams share {QUEUES} hardware queues: some wait for one another for that reason alone")
    })
}

/// That all seats are of one process on one device, and which.
///
/// # Errors
/// Two processes, or two devices.
pub(super) fn in_one_process(seats: &[SeatEvidence]) -> Result<String, BackendError> {
    one_device(seats)?;
    let (Some(first), Some(device)) = (seats.first(), seats.iter().find_map(|seat| seat.device.as_ref())) else {
        return Err(BackendError::arrangement("no tenant is on a GPU"));
    };
    match seats.iter().find(|seat| seat.pid != first.pid) {
        Some(other) => Err(BackendError::arrangement(format!(
            "seats {} and {} are of two processes, {} and {}: in this mode all tenants are of one",
            first.seat, other.seat, first.pid, other.pid
        ))),
        None => Ok(format!("{} tenants of process {} on {}", seats.len(), first.pid, device.uuid)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::tenant::protocol::DeviceSeen;

    /// A seat of process `pid` on an H100.
    pub(in crate::sharing) fn seat(seat: usize, pid: u32, green_sms: Option<u32>) -> SeatEvidence {
        let device = DeviceSeen {
            uuid: "GPU-a".to_owned(),
            name: String::new(),
            count: 1,
            compute_capability: "9.0".to_owned(),
            sms: 132,
            green_sms,
            memory: 0,
            free: 0,
            cuda: 12_080,
        };
        SeatEvidence { seat, pid, device: Some(device), cores: Vec::new(), programs: Vec::new() }
    }

    #[test]
    fn two_processes_are_no_streams_of_one() {
        let proof = in_one_process(&[seat(0, 7, None), seat(1, 7, None)]).unwrap();
        assert_eq!(proof, "2 tenants of process 7 on GPU-a");
        assert_eq!(crowded(16), None);
        assert!(crowded(17).is_some_and(|words| words.starts_with("34 streams share 32")));
        let error = in_one_process(&[seat(0, 7, None), seat(1, 8, None)]).unwrap_err();
        assert!(error.what.contains("seats 0 and 1 are of two processes, 7 and 8"), "{error}");
    }
}
