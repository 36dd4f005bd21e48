//! Readings of a [`Capacity`] that reports show: who ran out of memory when, and what was free but of no use.

use super::record::{Attempt, Capacity, Reach, Step};
use crate::backend::Outcome;
use crate::units::Nanos;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The victim.
    Victim,
    /// The neighbour.
    Neighbour,
}

impl Side {
    /// In a word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Victim => "victim",
            Self::Neighbour => "neighbour",
        }
    }
}

/// An attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Whose it was.
    pub who: Side,
    /// When it began, from the start of the try.
    pub at: Nanos,
    /// What it was for: a context, or an allocation.
    pub step: Step,
    /// Bytes asked for; of a context 0.
    pub asked: u64,
    /// Free as it saw it just after; absent: it saw nothing.
    pub free: Option<u64>,
    /// All memory as it saw it.
    pub total: Option<u64>,
    /// Out of memory, or another error with its code.
    pub outcome: Outcome,
}

/// Memory that is free and not to be had in one piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragmentation {
    /// Allocations that were refused for lack of memory although the driver called enough of it free.
    pub refused: u64,
    /// The most that was free at one of them.
    pub free: Option<u64>,
    /// Of what the victim could take in pieces, alone and beside the neighbour, what it could not in one.
    pub victim: [Option<u64>; 2],
    /// The same of the neighbour.
    pub neighbour: [Option<u64>; 2],
}

/// What a driver calls free and keeps to itself: an allocation of nearly all that is free may be refused without any
/// fragmentation. Assumed: drivers publish no figure; sixteen pages of 2 MiB.
const KEPT: u64 = 32 << 20;

/// Where what a tenant sees inside and what NVML says of it differ by more than what contexts and drivers take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// Index into the views.
    pub view: usize,
    /// Of what.
    pub of: Seen,
    /// Inside the tenant, bytes.
    pub inside: u64,
    /// By NVML, bytes.
    pub nvml: u64,
}

/// What is seen from two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// All memory of the device: `cuMemGetInfo` against NVML.
    Total,
    /// What of it is in use, by whomever: the same.
    Used,
    /// What the tenant holds, by its own count, against what NVML says of its process.
    Held,
}

/// Views differ by contexts (107–616 MiB each) and by what drivers reserve: that much is no disagreement. Assumed.
const APART: u64 = 2 << 30;

impl Capacity {
    /// Where inside and outside do not say the same.
    pub fn disagreements(&self) -> Vec<Disagreement> {
        let mut all = Vec::new();
        // Where a place has memory of its own, or a limit, a tenant is told of that, and NVML tells of the device.
        let apart = self.promised.iter().any(Option::is_some);
        for (view, v) in self.views.iter().enumerate() {
            let mut compare = |of: Seen, inside: Option<u64>, nvml: Option<u64>| {
                let Some((inside, nvml)) = inside.zip(nvml) else { return };
                if inside.abs_diff(nvml) > APART {
                    all.push(Disagreement { view, of, inside, nvml });
                }
            };
            let used = v.inside.map(|(free, total)| total.saturating_sub(free));
            if apart {
                compare(Seen::Held, Some(v.held), v.nvml_process);
                continue;
            }
            compare(Seen::Total, v.inside.map(|(_, total)| total), v.nvml_device.map(|(_, total)| total));
            compare(Seen::Used, used, v.nvml_device.map(|(used, _)| used));
            compare(Seen::Held, Some(v.held), v.nvml_process);
        }
        all
    }

    /// Every attempt of either side that failed, in order of time.
    pub fn timeline(&self) -> Vec<Refused> {
        let of = |who: Side, attempts: &[Attempt]| -> Vec<Refused> {
            let failed = attempts.iter().filter(|a| a.outcome != Outcome::Ok);
            failed
                .map(|a| Refused {
                    who,
                    at: a.at,
                    step: a.step,
                    asked: a.asked,
                    free: a.seen.map(|(free, _)| free),
                    total: a.seen.map(|(_, total)| total),
                    outcome: a.outcome,
                })
                .collect()
        };
        let mut all = of(Side::Victim, &self.victim);
        all.extend(of(Side::Neighbour, &self.neighbour));
        // Stable: at equal times the victim first, and each side in its own order.
        all.sort_by_key(|refused| refused.at);
        all
    }

    /// What was free and not to be had in one piece.
    pub fn fragmentation(&self) -> Fragmentation {
        let scattered = |reach: &Option<Reach>| reach.map(|reach| reach.total.saturating_sub(reach.largest));
        let of_no_use: Vec<u64> = self
            .timeline()
            .iter()
            .filter(|refused| refused.outcome == Outcome::Oom && refused.step != Step::Context)
            .filter_map(|refused| refused.free.filter(|free| *free >= refused.asked.saturating_add(KEPT)))
            .collect();
        Fragmentation {
            refused: of_no_use.len() as u64,
            free: of_no_use.iter().copied().max(),
            victim: [scattered(&self.victim_alone), scattered(&self.victim_beside)],
            neighbour: [scattered(&self.neighbour_alone), scattered(&self.neighbour_beside)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hazard::View;

    const MIB: u64 = 1 << 20;

    fn attempt(at: u64, step: Step, asked: u64, outcome: Outcome, free: Option<u64>) -> Attempt {
        let seen = free.map(|free| (free, 100 * MIB));
        Attempt { at: Nanos(at), took: Nanos(1), step, asked, outcome, seen }
    }

    #[test]
    fn what_failed_is_told_in_order_of_time_with_whose_it_was() {
        let record = Capacity {
            victim: vec![
                attempt(1, Step::Context, 0, Outcome::Ok, Some(90)),
                attempt(5, Step::Work, 7, Outcome::Oom, Some(3)),
                attempt(9, Step::Context, 0, Outcome::Oom, None),
            ],
            neighbour: vec![
                attempt(2, Step::Take, 8, Outcome::Ok, Some(80)),
                attempt(4, Step::Take, 8, Outcome::Oom, Some(2)),
                attempt(5, Step::Take, 4, Outcome::Error(700), None),
            ],
            ..Capacity::default()
        };
        let told: Vec<_> = record.timeline().iter().map(|r| (r.at.0, r.who, r.step, r.asked, r.free)).collect();
        assert_eq!(
            told,
            [
                (4, Side::Neighbour, Step::Take, 8, Some(2)),
                (5, Side::Victim, Step::Work, 7, Some(3)),
                (5, Side::Neighbour, Step::Take, 4, None),
                (9, Side::Victim, Step::Context, 0, None),
            ]
        );
        assert_eq!(record.timeline()[1].total, Some(100 * MIB));
        assert_eq!(record.timeline()[2].outcome, Outcome::Error(700));
    }

    #[test]
    fn what_inside_and_outside_say_differs_only_beyond_contexts() {
        let gib = |n: u64| n << 30;
        let view = |held, inside, nvml_process, nvml_device| View {
            seat: 0,
            when: "alone".to_owned(),
            held,
            inside,
            nvml_process,
            nvml_device,
        };
        let record = Capacity {
            views: vec![
                // A context and a reserve apart.
                view(gib(20), Some((gib(59), gib(79))), Some(gib(21)), Some((gib(21), gib(80)))),
                // A limit inside, and a process of which NVML tells nothing.
                view(gib(20), Some((gib(10), gib(30))), None, Some((gib(70), gib(80)))),
                view(gib(20), None, Some(gib(5)), None),
            ],
            ..Capacity::default()
        };
        let found: Vec<_> =
            record.disagreements().iter().map(|d| (d.view, d.of, d.inside >> 30, d.nvml >> 30)).collect();
        assert_eq!(found, [(1, Seen::Total, 30, 80), (1, Seen::Used, 20, 70), (2, Seen::Held, 20, 5)]);
    }

    #[test]
    fn free_memory_that_does_not_hold_what_is_asked_is_fragmented_only_beyond_what_drivers_keep() {
        let refused = |free: u64| attempt(1, Step::Take, 10 * MIB, Outcome::Oom, Some(free * MIB));
        let reach = |total, largest| Some(Reach { total, largest, free: None, most: None });
        let record = Capacity {
            victim: vec![
                attempt(0, Step::Context, 0, Outcome::Oom, Some(99 * MIB)),
                attempt(0, Step::Work, 10 * MIB, Outcome::Error(1), Some(99 * MIB)),
                attempt(0, Step::Work, 10 * MIB, Outcome::Ok, Some(99 * MIB)),
            ],
            neighbour: vec![refused(9), refused(11), refused(42), refused(50)],
            victim_alone: reach(80, 80),
            victim_beside: reach(60, 20),
            neighbour_beside: reach(10, 30),
            ..Capacity::default()
        };
        let found = record.fragmentation();
        assert_eq!((found.refused, found.free), (2, Some(50 * MIB)));
        assert_eq!((found.victim, found.neighbour), ([Some(0), Some(40)], [None, Some(0)]));
        assert_eq!(Capacity::default().fragmentation(), Fragmentation::default());
    }
}
