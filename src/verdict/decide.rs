//! The decision table, in its order, and what follows for a cell.

use super::types::{CellVerdict, Reason, SeriesVerdict, Verdict};

/// Everything that decides one series at one quantile. Bounds are on the log scale, ε included.
pub(super) struct Evidence {
    /// A reason that is present in the quiet arms too, or nothing to judge.
    pub(super) invalid: Option<Reason>,
    /// L; `None`: unbounded.
    pub(super) lower: Option<f64>,
    /// U; `None`: unbounded.
    pub(super) upper: Option<f64>,
    /// ln(1 + δ), isolated and violated.
    pub(super) margins: (f64, f64),
    /// A reason that the neighbour can cause: it blocks Isolated, never Violated or Degraded.
    pub(super) blocking: Option<Reason>,
    /// The quiet arms were the slower ones.
    pub(super) not_awake: bool,
    /// What to say where the interval decides nothing.
    pub(super) underpowered: Reason,
}

/// The decision table of verdict.md, in its order.
pub(super) fn decide(e: Evidence) -> Verdict {
    let (isolated, violated) = e.margins;
    if let Some(reason) = e.invalid {
        Verdict::Inconclusive { reason }
    } else if e.lower.is_some_and(|low| low > violated) {
        Verdict::Violated
    } else if e.lower.is_some_and(|low| low > isolated) {
        Verdict::Degraded
    } else if let Some(reason) = e.blocking {
        Verdict::Inconclusive { reason }
    } else if e.not_awake {
        Verdict::Inconclusive { reason: Reason::QuietArmNotAwake }
    } else if e.upper.is_some_and(|high| high < isolated) {
        Verdict::Isolated
    } else {
        Verdict::Inconclusive { reason: e.underpowered }
    }
}

/// Verdict over several series: Violated if any is; else Degraded if any; else Inconclusive if any is; else Isolated if
/// at least one was judged; else `none`.
pub(super) fn overall<'a>(none: Verdict, series: impl IntoIterator<Item = &'a SeriesVerdict>) -> Verdict {
    series.into_iter().map(|s| &s.verdict).max_by(|a, b| weight(a).cmp(&weight(b))).cloned().unwrap_or(none)
}

/// Severity first; among Inconclusive, the reason that says most.
fn weight(verdict: &Verdict) -> (u8, u8) {
    let reason = match verdict {
        Verdict::Inconclusive { reason } => match reason {
            Reason::ControlFailed { .. } => 25,
            // Of hazards alone, which are never weighed against series.
            Reason::Unproven { .. } => 24,
            Reason::TooFewTrials { .. } => 23,
            Reason::ArmsLost { .. } => 22,
            Reason::Incomplete => 21,
            Reason::DriverTrouble { .. } => 20,
            Reason::Throttled { .. } => 19,
            Reason::CarryOver { .. } => 18,
            Reason::Drift { .. } => 17,
            Reason::TooFewCores => 16,
            Reason::ForeignWork { .. } => 15,
            Reason::LateRequests { .. } => 14,
            Reason::NeighbourBelowIntensity { .. } => 13,
            Reason::NeighbourNotOverlapping { .. } => 12,
            Reason::Failures { .. } => 11,
            Reason::Timeouts { .. } => 10,
            Reason::Backlog => 9,
            Reason::HostMediated { .. } => 8,
            Reason::ControlNotMeasured { .. } | Reason::ControlOff { .. } => 7,
            Reason::ChannelNotExercised { .. } | Reason::DelayNotSeen { .. } => 6,
            Reason::ControlUndecided { .. } => 5,
            Reason::QuietArmNotAwake => 3,
            Reason::Underpowered { .. } => 2,
            Reason::TooFewRequests => 1,
        },
        _ => 0,
    };
    (severity(verdict), reason)
}

/// Order in which verdicts decide a cell.
fn severity(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Skipped { .. } => 0,
        Verdict::Isolated => 1,
        Verdict::Inconclusive { .. } => 2,
        Verdict::Degraded => 3,
        Verdict::Violated => 4,
    }
}

/// The series that stands for the cell: of those that have the cell's severity, the largest ratio at the highest
/// quantile that was judged. Unjudged quantiles stand for nothing unless there is nothing else.
pub(super) fn worst(cell: &CellVerdict) -> Option<usize> {
    let rank = |s: &SeriesVerdict| (s.ratio.is_some(), severity(&s.verdict) == severity(&cell.verdict), s.quantile);
    let ratio = |s: &SeriesVerdict| s.ratio.map_or(0.0, |ratio| ratio.estimate);
    let all = cell.series.iter().enumerate();
    // Of equals the first in the panel's order: `max_by` takes the last, so the index counts backwards.
    all.max_by(|(i, a), (j, b)| rank(a).cmp(&rank(b)).then(ratio(a).total_cmp(&ratio(b))).then(j.cmp(i)))
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARGINS: (f64, f64) = (0.1, 0.4);

    /// Evidence for every row of the table at once, so that the order alone decides.
    fn everything() -> Evidence {
        Evidence {
            invalid: Some(Reason::Incomplete),
            lower: Some(0.5),
            upper: Some(0.05),
            margins: MARGINS,
            blocking: Some(Reason::Backlog),
            not_awake: true,
            underpowered: Reason::Underpowered { detectable: None, blocks_needed: None },
        }
    }

    fn inconclusive(reason: Reason) -> Verdict {
        Verdict::Inconclusive { reason }
    }

    #[test]
    fn row_1_what_is_wrong_in_the_quiet_arms_too_decides_whatever_the_data_show() {
        assert_eq!(decide(everything()), inconclusive(Reason::Incomplete));
    }

    #[test]
    fn row_2_violated_stands_against_what_the_neighbour_can_cause() {
        assert_eq!(decide(Evidence { invalid: None, ..everything() }), Verdict::Violated);
    }

    #[test]
    fn row_3_degraded_between_the_margins() {
        for low in [0.4, 0.100_001] {
            assert_eq!(decide(Evidence { invalid: None, lower: Some(low), ..everything() }), Verdict::Degraded);
        }
    }

    #[test]
    fn row_4_what_the_neighbour_can_cause_blocks_isolated() {
        for lower in [Some(0.1), None] {
            let e = Evidence { invalid: None, lower, ..everything() };
            assert_eq!(decide(e), inconclusive(Reason::Backlog));
        }
    }

    #[test]
    fn row_5_a_quiet_arm_that_was_not_awake_blocks_isolated() {
        let e = Evidence { invalid: None, lower: None, blocking: None, ..everything() };
        assert_eq!(decide(e), inconclusive(Reason::QuietArmNotAwake));
    }

    #[test]
    fn row_6_isolated_only_below_the_margin() {
        let e = |upper| Evidence {
            invalid: None,
            lower: Some(0.0),
            upper,
            blocking: None,
            not_awake: false,
            ..everything()
        };
        assert_eq!(decide(e(Some(0.0999))), Verdict::Isolated);
        assert_eq!(decide(e(Some(0.1))).word(), "inconclusive");
    }

    #[test]
    fn row_7_otherwise_underpowered_and_an_unbounded_interval_is_no_pass() {
        let e = Evidence { invalid: None, lower: None, upper: None, blocking: None, not_awake: false, ..everything() };
        assert_eq!(decide(e), inconclusive(Reason::Underpowered { detectable: None, blocks_needed: None }));
    }
}
