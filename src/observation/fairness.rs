//! `fairness`: how GPU time is divided between tenants whose kernels differ in length.

use super::{By, Observation, Observed};
use crate::units::Nanos;

/// The observation.
pub const FAIRNESS: Observation = Observation {
    id: "fairness",
    what: "How GPU time is divided between tenants whose kernels differ in length, with queues full and with a tenant that \
           waits for each of its kernels.",
    findings: &[
        ("equal", "Every tenant gets the same time, whatever the lengths, and also one that waits for each kernel."),
        (
            "longer-when-waiting",
            "With queues full the time is equal; one that waits for each kernel gets less, and the less the shorter they are.",
        ),
        ("longer-kernels-get-more", "With queues full the tenant with the longer kernels gets more."),
        ("unequal", "The time is not equal, and does not follow the length of kernels."),
    ],
    by: By::Arms,
};

/// Times whose ratio lies in this range are equal: whole kernels at the ends of a window make steps of several per cent.
const EQUAL: std::ops::RangeInclusive<f64> = 0.8..=1.25;

/// The victim's kernels against those of one neighbour.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pair {
    /// The neighbour.
    pub neighbour: String,
    /// How long one of the victim's kernels takes with the GPU for itself.
    pub own: Nanos,
    /// How long one of a neighbour's kernels takes so.
    pub other: Nanos,
    /// The GPU time that the victim gets, of all.
    pub own_part: f64,
    /// The GPU time that one neighbour gets, of all.
    pub other_part: f64,
    /// The victim waits for each of its kernels; else its queue is full. The neighbour's always is.
    pub waits: bool,
}

impl Pair {
    /// The neighbour's time ÷ the victim's.
    fn ratio(&self) -> f64 {
        self.other_part / self.own_part.max(1e-9)
    }

    fn equal(&self) -> bool {
        EQUAL.contains(&self.ratio())
    }

    /// Whether who has the longer kernels gets more.
    fn by_length(&self) -> bool {
        if self.other >= self.own { self.ratio() > *EQUAL.end() } else { self.ratio() < *EQUAL.start() }
    }
}

/// What it means.
pub(crate) fn judge(pairs: &[Pair]) -> Observed {
    let (waiting, full): (Vec<&Pair>, Vec<&Pair>) = pairs.iter().partition(|pair| pair.waits);
    let lengths = |pairs: &[&Pair]| {
        let mut all: Vec<Nanos> = pairs.iter().map(|pair| pair.own).collect();
        all.sort_unstable();
        all.first().copied().zip(all.last().copied())
    };
    let Some((shortest, longest)) = lengths(&waiting).filter(|_| !full.is_empty()) else {
        return FAIRNESS.unknown("nothing was measured of either way to submit kernels");
    };
    let finding = if full.iter().any(|pair| !pair.equal()) {
        // Kernels of about one length cannot say whose are longer.
        let apart = |pair: &Pair| !EQUAL.contains(&(pair.other.0 as f64 / pair.own.0.max(1) as f64));
        let telling: Vec<&&Pair> = full.iter().filter(|pair| !pair.equal() && apart(pair)).collect();
        let follows = !telling.is_empty() && telling.iter().all(|pair| pair.by_length());
        if follows { "longer-kernels-get-more" } else { "unequal" }
    } else if waiting.iter().all(|pair| pair.equal()) {
        "equal"
    } else {
        let mean = |length: Nanos| {
            let of: Vec<f64> = waiting.iter().filter(|pair| pair.own == length).map(|pair| pair.own_part).collect();
            of.iter().sum::<f64>() / of.len().max(1) as f64
        };
        let less = waiting.iter().all(|pair| pair.ratio() >= *EQUAL.start());
        let shorter_less = mean(shortest) * EQUAL.end() < mean(longest);
        if less && shorter_less { "longer-when-waiting" } else { "unequal" }
    };
    let mut observed = FAIRNESS.found(finding, format!("{}; {}", words(&full), words(&waiting)));
    for pair in pairs {
        let how = if pair.waits { "waiting" } else { "full" };
        let name = format!("{how}_{}us_beside_{}_ratio", pair.own.0 / 1_000, pair.neighbour);
        observed = observed.with(name, pair.own_part / pair.other_part.max(1e-9));
    }
    observed
}

/// The extremes of one way to submit.
fn words(pairs: &[&Pair]) -> String {
    let by_own = |a: &&&Pair, b: &&&Pair| a.own_part.total_cmp(&b.own_part);
    let (Some(least), Some(most)) = (pairs.iter().min_by(by_own), pairs.iter().max_by(by_own)) else {
        return String::new();
    };
    let one = |pair: &Pair| {
        format!(
            "{:.0} % of the GPU's time with kernels of {}, beside {:.0} % with {}",
            pair.own_part * 100.0,
            length(pair.own),
            pair.other_part * 100.0,
            length(pair.other)
        )
    };
    let how = if least.waits { "waiting for each kernel" } else { "with its queue full" };
    format!("{how} the victim gets from {} to {}", one(least), one(most))
}

/// "0.10 ms".
fn length(n: Nanos) -> String {
    let ms = n.0 as f64 / 1e6;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(own_us: u64, other_us: u64, own_part: f64, other_part: f64, waits: bool) -> Pair {
        let (own, other) = (Nanos::micros(own_us), Nanos::micros(other_us));
        Pair { neighbour: format!("k{other_us}"), own, other, own_part, other_part, waits }
    }

    fn finding(pairs: &[Pair]) -> Option<String> {
        judge(pairs).finding
    }

    #[test]
    fn each_finding_comes_from_its_figures() {
        let half = |own, other, waits| pair(own, other, 0.46, 0.46, waits);
        let full = [half(100, 10_000, false), half(900, 10_000, false)];
        let equal = [full.as_slice(), &[half(100, 10_000, true), half(900, 10_000, true)]].concat();
        assert_eq!(finding(&equal).as_deref(), Some("equal"));
        let waiting =
            [full.as_slice(), &[pair(100, 10_000, 0.04, 0.9, true), pair(900, 10_000, 0.25, 0.6, true)]].concat();
        assert_eq!(finding(&waiting).as_deref(), Some("longer-when-waiting"));
        assert_eq!(judge(&waiting).figures.len(), 4);
        let rest = [half(100, 10_000, true), half(900, 10_000, true)];
        let longer = [&[pair(100, 10_000, 0.1, 0.8, false), half(900, 900, false)], rest.as_slice()].concat();
        assert_eq!(finding(&longer).as_deref(), Some("longer-kernels-get-more"));
        // The shorter kernels get more.
        let odd = [&[pair(100, 10_000, 0.8, 0.1, false), half(900, 10_000, false)], rest.as_slice()].concat();
        assert_eq!(finding(&odd).as_deref(), Some("unequal"));
        // One that waits gets less, but as little with long kernels as with short ones.
        let flat = [full.as_slice(), &[pair(100, 10_000, 0.1, 0.8, true), pair(900, 10_000, 0.1, 0.8, true)]].concat();
        assert_eq!(finding(&flat).as_deref(), Some("unequal"));
        assert_eq!(finding(&full), None, "one way alone");
    }
}
