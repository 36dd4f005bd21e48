//! `alone` and `together`: what tenants reach in an arrangement, against another one.

use super::{By, Observation, Observed};

/// The lone tenant.
pub const ALONE: Observation = Observation {
    id: "alone",
    what: "Whether a tenant beside idle ones has all that it has in another arrangement: its rate with requests always in \
           flight, and its p50 one at a time, for the same work.",
    findings: &[
        ("whole", "At most 5 % less, for every probe."),
        ("less", "A rate more than 5 % lower, or a p50 more than 5 % higher."),
    ],
    by: By::Arms,
};

/// All tenants at once.
pub const TOGETHER: Observation = Observation {
    id: "together",
    what: "Whether all tenants together compute as much as in another arrangement, and the victim's p99 beside the busy \
           ones is no higher.",
    findings: &[
        ("at-least", "At most 5 % less, beside every neighbour that computes."),
        ("less", "A total more than 5 % lower, or a p99 more than 5 % higher."),
    ],
    by: By::Arms,
};

/// What still counts as no less: the margin at p50 of an isolated cell. Memory lands elsewhere after each restart.
const MARGIN: f64 = 0.05;

/// What was reached in one arrangement, by one probe or beside one neighbour.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reached {
    /// Which.
    pub name: String,
    /// Work per second, in any unit.
    pub rate: f64,
    /// Nanoseconds for a unit of work.
    pub latency: f64,
}

/// What it means that here this was reached and there that, `against` being its name; each is there in both.
pub(crate) fn judge(observation: &Observation, here: &[Reached], there: &[Reached], against: &str) -> Observed {
    let mut less = Vec::new();
    let mut words = Vec::new();
    let mut figures = Vec::new();
    let (enough, too_little) = (observation.findings[0].0, observation.findings[1].0);
    let (rate_word, latency_word) = if observation.id == ALONE.id { ("rate", "p50") } else { ("total", "p99") };
    for (here, there) in here.iter().zip(there) {
        let rate = here.rate / there.rate;
        let latency = here.latency / there.latency;
        if !rate.is_finite() || !latency.is_finite() {
            return observation.unknown(format!("nothing was completed of {}", here.name));
        }
        let line = format!("{} {rate_word} {rate:.3}×, {latency_word} {latency:.3}×", here.name);
        if rate < 1.0 - MARGIN || latency > 1.0 + MARGIN {
            less.push(line.clone());
        }
        words.push(line);
        figures.push((format!("{}_{rate_word}_ratio", here.name), rate));
        figures.push((format!("{}_{latency_word}_ratio", here.name), latency));
    }
    if words.is_empty() {
        return observation.unknown(format!("nothing runs here that runs in {against} too"));
    }
    let (finding, shown) = if less.is_empty() { (enough, words) } else { (too_little, less) };
    let observed = observation.found(finding, format!("against {against}: {}", shown.join("; ")));
    figures.into_iter().fold(observed, |observed, (name, value)| observed.with(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(rate: f64, latency: u32) -> Reached {
        Reached { name: "compute".to_owned(), rate, latency: f64::from(latency) }
    }

    #[test]
    fn five_per_cent_of_either_decide() {
        let there = reached(1_000.0, 100);
        for observation in [ALONE, TOGETHER] {
            let [(enough, _), (too_little, _)] = observation.findings else { panic!("two findings") };
            for (here, finding) in [
                (reached(1_000.0, 100), enough),
                (reached(960.0, 104), enough),
                (reached(2_000.0, 50), enough),
                (reached(940.0, 100), too_little),
                (reached(1_000.0, 106), too_little),
            ] {
                let found = judge(&observation, std::slice::from_ref(&here), std::slice::from_ref(&there), "exclusive");
                assert_eq!(found.finding.as_deref(), Some(*finding), "{} {here:?}", observation.id);
                assert_eq!(found.figures.len(), 2);
            }
        }
    }

    #[test]
    fn nothing_to_compare_is_untold() {
        assert_eq!(judge(&ALONE, &[], &[], "x").finding, None);
        let nothing = reached(0.0, 0);
        assert_eq!(judge(&ALONE, &[reached(1.0, 1)], &[nothing], "x").finding, None);
    }
}
