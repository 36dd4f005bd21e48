//! Which telemetry tells tenants apart.

use super::{By, Observation, Observed};
use crate::units::Nanos;

/// `metrics`.
pub const METRICS: Observation = Observation {
    id: "metrics",
    what: "Which telemetry (NVML, GPM, DCGM where it runs) says that the neighbour is busy and the victim is not.",
    findings: &[
        ("per-tenant", "A source of activity does."),
        ("device-only", "None does: what there is speaks of the whole GPU."),
    ],
    by: By::Backend { takes: Nanos::secs(5) },
};

/// One source of telemetry, while the neighbour was busy and the victim was not.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Source {
    /// What it is.
    pub(crate) name: &'static str,
    /// What it says.
    pub(crate) says: Says,
}

/// What a source says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Says {
    /// Activity of each (0 … 1).
    Activity {
        /// The victim's.
        victim: f64,
        /// The neighbour's.
        neighbour: f64,
    },
    /// Something else of each, in words: memory. It tells tenants apart and not what they do.
    Other(String),
    /// Of the whole GPU alone, in words.
    Whole(String),
    /// Nothing, and why: unknown, not zero.
    Unknown(String),
}

/// The neighbour is busy from here on, and the victim quiet up to there.
const BUSY: f64 = 0.5;
const QUIET: f64 = 0.2;

impl Source {
    fn tells(&self) -> bool {
        matches!(self.says, Says::Activity { victim, neighbour } if neighbour >= BUSY && victim <= QUIET)
    }

    fn words(&self) -> String {
        let says = match &self.says {
            Says::Activity { victim, neighbour } if self.tells() => {
                format!("tells them apart, victim {victim:.2} and neighbour {neighbour:.2}")
            }
            Says::Activity { victim, neighbour } => {
                format!("does not tell them apart, victim {victim:.2} and neighbour {neighbour:.2}")
            }
            Says::Other(what) => what.clone(),
            Says::Whole(what) => format!("the whole GPU alone, {what}"),
            Says::Unknown(why) => format!("unknown ({why})"),
        };
        format!("{}: {says}", self.name)
    }
}

/// Judges what the sources say.
pub(crate) fn judge(sources: &[Source]) -> Observed {
    let why = sources.iter().map(Source::words).collect::<Vec<_>>().join("; ");
    let telling = sources.iter().filter(|source| source.tells()).count();
    let figures = [("sources", Some(sources.len() as f64)), ("telling", Some(telling as f64))];
    if sources.iter().all(|source| matches!(source.says, Says::Unknown(_))) {
        return METRICS.untold(format!("no source says anything: {why}"), figures);
    }
    METRICS.told(if telling > 0 { "per-tenant" } else { "device-only" }, why, figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_that_tells_them_apart_is_enough_and_memory_is_not_activity() {
        let source = |name, says| Source { name, says };
        let whole = source("NVML utilisation", Says::Whole("0.97".to_owned()));
        let memory = source("NVML memory", Says::Other("victim 1 GiB, neighbour 2 GiB".to_owned()));
        let unknown = source("DCGM", Says::Unknown("nobody answers".to_owned()));
        let only = judge(&[whole.clone(), memory.clone(), unknown.clone()]);
        assert_eq!((only.finding.as_deref(), only.figures["telling"]), (Some("device-only"), 0.0));
        assert!(only.why.contains("DCGM: unknown (nobody answers)"), "{only:?}");
        let gpm = |victim, neighbour| source("GPM", Says::Activity { victim, neighbour });
        let told = judge(&[whole.clone(), gpm(0.01, 0.98)]);
        assert_eq!((told.finding.as_deref(), told.figures["telling"]), (Some("per-tenant"), 1.0));
        assert_eq!(judge(&[whole, gpm(0.97, 0.97)]).finding.as_deref(), Some("device-only"), "the same of both");
        assert_eq!(judge(&[unknown]).finding, None, "unknown is not device-only");
    }
}
