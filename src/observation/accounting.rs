//! Whether the driver's account of each process agrees with what it used.

use super::{By, Observation, Observed};
use crate::units::Nanos;

/// `accounting`.
pub const ACCOUNTING: Observation = Observation {
    id: "accounting",
    what: "Whether NVML's use of the GPU by process agrees with known shares while victim and neighbour run known loads.",
    findings: &[
        ("tells", "For each tenant it is within 0.1 of the share of time that its work took."),
        ("does-not-tell", "It is not there, or is further off for a tenant."),
    ],
    by: By::Backend { takes: Nanos::secs(10) },
};

/// How far a share may be off, of all of the time.
pub(crate) const TOLERANCE: f64 = 0.1;

/// One tenant: part of the time in which its work ran (0 … 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Share {
    /// By its own account: requests done × the time that each takes alone.
    pub(crate) known: f64,
    /// By the driver's.
    pub(crate) told: f64,
}

/// The driver has no such account: its words.
pub(crate) fn absent(why: &str) -> Observed {
    ACCOUNTING.told("does-not-tell", why.to_owned(), [])
}

/// Judges the driver's account over `readings` readings. Loads that were hardly there prove nothing.
pub(crate) fn judge(victim: Share, neighbour: Share, readings: usize) -> Observed {
    let figures = [
        ("victim_known", Some(victim.known)),
        ("victim_told", Some(victim.told)),
        ("neighbour_known", Some(neighbour.known)),
        ("neighbour_told", Some(neighbour.told)),
        ("readings", Some(readings as f64)),
    ];
    if readings == 0 {
        return ACCOUNTING.told("does-not-tell", "NVML named no process while both worked", figures);
    }
    if victim.known < 2.0 * TOLERANCE || neighbour.known < TOLERANCE {
        return ACCOUNTING.untold(
            format!(
                "the tenants used {:.2} and {:.2} of the time: too little to tell their shares apart",
                victim.known, neighbour.known
            ),
            figures,
        );
    }
    let off = |share: Share| (share.told - share.known).abs();
    let worst = off(victim).max(off(neighbour));
    let why = format!(
        "the victim used {:.2} of the time and is told to have used {:.2}, the neighbour {:.2} and {:.2}",
        victim.known, victim.told, neighbour.known, neighbour.told
    );
    ACCOUNTING.told(if worst <= TOLERANCE { "tells" } else { "does-not-tell" }, why, figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(known: f64, told: f64) -> Share {
        Share { known, told }
    }

    #[test]
    fn shares_that_agree_tell_and_those_that_do_not_do_not() {
        let agrees = judge(share(0.70, 0.65), share(0.30, 0.38), 9);
        assert_eq!((agrees.finding.as_deref(), agrees.figures["victim_told"]), (Some("tells"), 0.65));
        // Everybody is told to have used all of it.
        assert_eq!(judge(share(0.7, 1.0), share(0.3, 1.0), 9).finding.as_deref(), Some("does-not-tell"));
        assert_eq!(judge(share(0.7, 0.7), share(0.3, 0.3), 0).finding.as_deref(), Some("does-not-tell"));
        assert_eq!(judge(share(0.05, 0.05), share(0.3, 0.3), 9).finding, None, "hardly any load proves nothing");
        let absent = absent("nvmlDeviceGetProcessUtilization: not supported");
        assert!(absent.finding.as_deref() == Some("does-not-tell") && absent.why.contains("not supported"));
    }
}
