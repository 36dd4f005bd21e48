//! `turns`: how long a tenant has the GPU before it waits for the others.

use super::{By, Observation, Observed};
use crate::units::Nanos;

/// The observation.
pub const TURNS: Observation = Observation {
    id: "turns",
    what: "Whether tenants take turns on the GPU, and how long a turn is.",
    findings: &[
        ("milliseconds", "A turn takes 0.5 to 10 ms."),
        ("shorter", "A turn takes less than 0.5 ms."),
        ("longer", "A turn takes more than 10 ms."),
        ("none", "The victim's kernels are never stopped for the others': nobody takes turns."),
    ],
    by: By::Arms,
};

/// A turn "of milliseconds": NVIDIA's default time slice is about 2 ms, its longest some 6 ms (gpu-operator and driver
/// documentation), and the claim is of this order.
const MILLISECONDS: std::ops::RangeInclusive<Nanos> = Nanos::micros(500)..=Nanos::millis(10);

/// What the device's own stamps show of turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Whole turns.
    Turns {
        /// The victim's turn.
        quantum: Nanos,
        /// From its end to the beginning of the next.
        gap: Nanos,
        /// One switch, where it can be told.
        switch: Option<Nanos>,
        /// How many.
        count: u32,
    },
    /// The victim's kernels ran one after another all the time, beside tenants that always had work queued.
    Never,
    /// Neither: too few turns, or somebody gave turns away.
    Unclear,
}

/// What it means.
pub(crate) fn judge(seen: Seen) -> Observed {
    let Seen::Turns { quantum, gap, switch, count } = seen else {
        return match seen {
            Seen::Never => {
                TURNS.found("none", "the victim's kernels ran on, beside tenants that always had work queued")
            }
            _ => TURNS.unknown("too few whole turns were seen, or somebody gave turns away"),
        };
    };
    let finding = match quantum {
        q if MILLISECONDS.contains(&q) => "milliseconds",
        q if q < *MILLISECONDS.start() => "shorter",
        _ => "longer",
    };
    let millis = |n: Nanos| n.0 as f64 / 1e6;
    let cost = switch.map_or_else(String::new, |s| format!(", a switch costs {:.0} µs", s.0 as f64 / 1e3));
    let why = format!(
        "a tenant runs {:.2} ms, then waits {:.2} ms{cost} (means of the middle half of {count} turns)",
        millis(quantum),
        millis(gap)
    );
    let observed = TURNS
        .found(finding, why)
        .with("quantum_ms", millis(quantum))
        .with("gap_ms", millis(gap))
        .with("turns", count.into());
    match switch {
        Some(switch) => observed.with("switch_us", switch.0 as f64 / 1e3),
        None => observed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_comes_from_its_figures() {
        let of = |us| {
            let quantum = Nanos::micros(us);
            judge(Seen::Turns { quantum, gap: Nanos::millis(3), switch: None, count: 40 })
        };
        for (us, finding) in [(499, "shorter"), (500, "milliseconds"), (10_000, "milliseconds"), (10_001, "longer")] {
            assert_eq!(of(us).finding.as_deref(), Some(finding), "{us} µs");
        }
        assert_eq!(of(2_000).figures["quantum_ms"], 2.0);
        assert_eq!(judge(Seen::Never).finding.as_deref(), Some("none"));
        assert_eq!(judge(Seen::Unclear).finding, None);
    }
}
