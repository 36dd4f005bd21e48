//! `own-compute`: whether a tenant has the compute of its own SMs, no more beside idle tenants and no less beside busy ones.

use super::{By, Observation, Observed};

/// The observation.
pub const OWN_COMPUTE: Observation = Observation {
    id: "own-compute",
    what: "Whether the victim computes as much per SM and cycle beside busy tenants as beside idle ones.",
    findings: &[
        ("kept", "Within 2 %, and never more than its own SMs can issue."),
        ("shared", "More where the others are idle, or less where they are busy."),
    ],
    by: By::Arms,
};

/// What still counts as the same throughput (the claim's own margin).
const SAME: f64 = 0.02;
/// Part of an arm's time in which a neighbour has work pending, from which it counts as busy.
const BUSY: f64 = 0.9;

/// What the victim reached in one arm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Speed {
    /// Requests per second, as many in flight as its limit allows.
    pub rate: f64,
    /// Mean SM clock meanwhile, MHz, where the device tells.
    pub sm_mhz: Option<f64>,
}

/// The same beside a busy neighbour.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Beside {
    /// The neighbour.
    pub neighbour: String,
    /// The victim's speed.
    pub speed: Speed,
    /// Part of the time in which every one of its tenants had work pending.
    pub pending: f64,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measured {
    /// Beside idle tenants, before and after the others.
    pub alone: [Speed; 2],
    /// Beside each neighbour.
    pub beside: Vec<Beside>,
    /// SMs that the device says the victim has, where it says.
    pub sms: Option<u32>,
    /// SM cycles of issue that one request takes, where they are known.
    pub cycles: Option<f64>,
}

impl Speed {
    /// This ÷ `other`, per cycle where both clocks are known.
    fn over(self, other: Self) -> f64 {
        let clocks = self.sm_mhz.zip(other.sm_mhz).filter(|(a, b)| *a > 0.0 && *b > 0.0);
        self.rate / other.rate * clocks.map_or(1.0, |(here, there)| there / here)
    }
}

/// What it means.
pub(crate) fn judge(measured: &Measured) -> Observed {
    let [before, after] = measured.alone;
    let drift = after.over(before);
    if !same(drift) {
        return OWN_COMPUTE.unknown(format!(
            "two arms beside idle tenants differ by {:.1} %: nothing smaller can be told",
            (drift - 1.0).abs() * 100.0
        ));
    }
    let busy: Vec<&Beside> = measured.beside.iter().filter(|beside| beside.pending >= BUSY).collect();
    let ratio = |beside: &Beside| beside.speed.over(before) / f64::midpoint(1.0, drift);
    let Some(worst) = busy.iter().max_by(|a, b| off(ratio(a)).total_cmp(&off(ratio(b)))) else {
        return OWN_COMPUTE.unknown("no neighbour that computes had work pending all the time");
    };
    // Issue slots of the SMs that it has, of which it uses this part while the others are idle.
    let part = measured
        .cycles
        .zip(measured.sms)
        .zip(before.sm_mhz)
        .map(|((cycles, sms), mhz)| before.rate * cycles / (f64::from(sms) * mhz * 1e6));
    let too_much = part.is_some_and(|part| part > 1.0 + SAME);
    let kept = same(ratio(worst)) && !too_much;
    let unit = if before.sm_mhz.is_some() { "per SM and cycle" } else { "in the same time (the clock is not known)" };
    let mut why =
        format!("{} it does {:.3}× as much {unit} as beside idle ones", busy_words(&busy, worst), ratio(worst));
    if let Some(sms) = measured.sms {
        why.push_str(&format!("; it has {sms} SMs"));
    }
    if let Some(part) = part {
        why.push_str(&format!(", and uses {:.0} % of what they can issue", part * 100.0));
    }
    let mut observed = OWN_COMPUTE.found(if kept { "kept" } else { "shared" }, why);
    for beside in &busy {
        observed = observed.with(format!("beside_{}_ratio", beside.neighbour), ratio(beside));
    }
    observed = observed.with("alone_per_s", before.rate);
    for (name, value) in
        [("sms", measured.sms.map(f64::from)), ("alone_sm_mhz", before.sm_mhz), ("alone_issue_ratio", part)]
    {
        observed = value.into_iter().fold(observed, |observed, value| observed.with(name, value));
    }
    observed
}

fn busy_words(busy: &[&Beside], worst: &Beside) -> String {
    match busy.len() {
        1 => format!("beside {}", worst.neighbour),
        n => format!("beside {}, the worst of {n} busy neighbours,", worst.neighbour),
    }
}

fn off(ratio: f64) -> f64 {
    (ratio - 1.0).abs()
}

fn same(ratio: f64) -> bool {
    off(ratio) <= SAME
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Speed = Speed { rate: 1_000.0, sm_mhz: Some(1_980.0) };

    fn measured(speed: Speed) -> Measured {
        let beside = Beside { neighbour: "hog".to_owned(), speed, pending: 1.0 };
        Measured { alone: [ALONE; 2], beside: vec![beside], sms: Some(60), cycles: Some(60.0 * 1.9e6) }
    }

    fn finding(measured: &Measured) -> Option<String> {
        judge(measured).finding
    }

    #[test]
    fn two_per_cent_in_cycles_decide() {
        for (rate, sm_mhz, found) in [
            (985.0, 1_980.0, "kept"),
            (975.0, 1_980.0, "shared"),
            (1_025.0, 1_980.0, "shared"),
            // The power cap takes a tenth of the clock, and with it a tenth of the rate: per cycle nothing is lost.
            (900.0, 1_782.0, "kept"),
            (900.0, 1_980.0, "shared"),
        ] {
            let found_here = finding(&measured(Speed { rate, sm_mhz: Some(sm_mhz) }));
            assert_eq!(found_here.as_deref(), Some(found), "{rate}/s at {sm_mhz} MHz");
        }
    }

    #[test]
    fn more_than_its_sms_can_issue_is_not_its_own() {
        let mut more = measured(ALONE);
        more.sms = Some(50);
        assert_eq!(finding(&more).as_deref(), Some("shared"));
        assert!(judge(&more).figures["alone_issue_ratio"] > 1.1);
    }

    #[test]
    fn what_drifts_or_stands_beside_nobody_is_untold() {
        let mut drifting = measured(ALONE);
        drifting.alone[1].rate = 950.0;
        assert_eq!(finding(&drifting), None);
        let mut lazy = measured(ALONE);
        lazy.beside[0].pending = 0.5;
        assert_eq!(finding(&lazy), None);
    }
}
