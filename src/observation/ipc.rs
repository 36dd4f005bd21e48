//! Whether device memory of one tenant can be mapped by another (CUDA IPC).

use super::{By, Observation, Observed};
use crate::tenant::question::{Borrowed, Refusal};
use crate::units::Nanos;

/// `ipc`.
pub const IPC: Observation = Observation {
    id: "ipc",
    what: "Whether a process in the neighbour's seat can map device memory that one in the victim's seat hands out (CUDA IPC).",
    findings: &[
        ("supported", "It maps the memory and reads what the other wrote."),
        ("refused", "The driver does not hand out the memory, or does not map it."),
    ],
    by: By::Backend { takes: Nanos::secs(5) },
};

/// Judges what became of the memory that was handed out.
pub(crate) fn judge(borrowed: &Result<Borrowed, Refusal>) -> Observed {
    match borrowed {
        Err(refusal) => IPC.told("refused", refusal.words(), []),
        Ok(borrowed) if !borrowed.matches => IPC.untold(
            "the driver mapped the memory, and what was read there is not what the other wrote: a mapping of something else, \
             which nobody should trust",
            [],
        ),
        Ok(borrowed) => IPC.told(
            "supported",
            "a process in one seat wrote a pattern, one in the other mapped the memory and read it",
            [("rate_gb_s", borrowed.bytes_per_second.map(|bytes| bytes / 1e9))],
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_arrives_proves_it_and_an_error_refuses_it() {
        let read = |matches| Ok(Borrowed { matches, bytes_per_second: Some(1.5e12) });
        let supported = judge(&read(true));
        assert_eq!((supported.finding.as_deref(), supported.figures["rate_gb_s"]), (Some("supported"), 1500.0));
        assert_eq!(judge(&read(false)).finding, None, "a mapping of something else proves nothing");
        let refusal = Refusal {
            call: "cuIpcOpenMemHandle_v2".to_owned(),
            what: "CUDA error 801 (CUDA_ERROR_NOT_SUPPORTED)".to_owned(),
            code: Some(801),
        };
        let refused = judge(&Err(refusal));
        assert_eq!(refused.finding.as_deref(), Some("refused"));
        assert_eq!(refused.why, "cuIpcOpenMemHandle_v2: CUDA error 801 (CUDA_ERROR_NOT_SUPPORTED)");
    }
}
