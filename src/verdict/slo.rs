//! Service-level objectives ("p99 ≤ 50 ms"): decided over arms, never over requests as if each were independent of the one
//! before it (verdict.md, "Estimates").

use super::types::{Interval, Reason, RequirementState, Saturated, SloState, SloVerdict};
use super::validity::{self, Issuer};
use crate::backend::WindowSummary;
use crate::plan::{Plan, PlannedProbe};
use crate::random::{Key, Stream};
use crate::run_dir::ArmData;
use crate::scenario::{Quantile, Slo};
use crate::stats::{
    Counts, Over, Pool, ShareBounds, objective_arms, objective_bounds, objective_exceeds, planned_requests,
    proportion_upper,
};
use crate::units::{significant, trimmed};

/// Error rates of a claim about one objective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rates {
    /// Of calling it met where it is missed.
    pub(super) met: f64,
    /// Of calling it missed where it is met.
    pub(super) missed: f64,
}

impl Rates {
    /// Both alike.
    pub(super) fn even(alpha: f64) -> Self {
        Self { met: alpha, missed: alpha }
    }
}

/// Arms of one tenant: a victim's quiet ones, its arms beside one neighbour, or those of a density.
pub(super) struct Side<'a> {
    pub(super) plan: &'a Plan,
    pub(super) arrangement: usize,
    pub(super) seat: String,
    pub(super) neighbour: Option<usize>,
    pub(super) rates: Rates,
    /// Why nothing is called met: arms are missing, or the neighbour did too little.
    pub(super) not_met: Option<Reason>,
    /// Why nothing is called missed: the sender was late, or slept between looks.
    pub(super) not_missed: Option<Reason>,
    /// (generation, its requests in an arm), the generation of all grids counted through.
    pub(super) arms: Vec<(u64, Counts<'a>)>,
    /// Its load is more than can be served.
    pub(super) saturated: Option<Saturated>,
}

/// The requests of a series in each arm that has it.
pub(super) fn held<'a>(arms: &[(u64, &'a ArmData)], series: &str) -> Vec<(u64, Counts<'a>)> {
    let of = |(generation, arm): &(u64, &'a ArmData)| Some((*generation, arm.series.get(series)?.counts()));
    arms.iter().filter_map(of).collect()
}

impl Side<'_> {
    /// Every objective of a probe on this side.
    pub(super) fn judge(&self, probe: &PlannedProbe) -> Vec<SloVerdict> {
        probe.slos.iter().map(|slo| self.one(probe, slo)).collect()
    }

    /// Whether some objective of the probe is missed, as [`Self::judge`] has it where the rate of calling it so is the smaller one:
    /// without drawing what says that it is met.
    pub(super) fn misses(&self, probe: &PlannedProbe) -> bool {
        let held = self.with_requests();
        let restarted = held.iter().any(|(generation, _)| *generation != held[0].0);
        if self.not_missed.is_some() || !restarted || held.len() < objective_arms(self.rates.met) {
            return false;
        }
        let arms: Vec<Counts<'_>> = held.iter().map(|(_, counts)| *counts).collect();
        let over = |slo: &Slo| {
            let allowed = 1.0 - slo.quantile.as_f64();
            objective_exceeds(&arms, slo.bound.0, allowed, self.rates.missed, &self.stream(probe, slo))
        };
        self.saturated.is_some() || probe.slos.iter().any(over)
    }

    fn with_requests(&self) -> Vec<(u64, Counts<'_>)> {
        self.arms.iter().copied().filter(|(_, counts)| counts.total() > 0).collect()
    }

    /// What bounds of an objective are drawn with.
    fn stream(&self, probe: &PlannedProbe, slo: &Slo) -> Stream {
        let who = self.neighbour.map_or("quiet", |n| self.plan.neighbours[n].name.as_str());
        // Not of the bound: what is drawn is the same whatever is asked for.
        let key = [
            Key::Name("objective"),
            Key::Name(&self.plan.arrangements[self.arrangement].name),
            Key::Name(&self.seat),
            Key::Name(who),
            Key::Name(&probe.name),
            Key::Number(u64::from(slo.quantile.0)),
        ];
        Stream::new(self.plan.seed, &key)
    }

    fn one(&self, probe: &PlannedProbe, slo: &Slo) -> SloVerdict {
        let saturated = self.saturated;
        let held = self.with_requests();
        let restarted = held.iter().any(|(generation, _)| *generation != held[0].0);
        let level = self.rates.met;
        let allowed = 1.0 - slo.quantile.as_f64();
        let arms: Vec<Counts<'_>> = held.iter().map(|(_, counts)| *counts).collect();
        let stream = self.stream(probe, slo);
        let bounds = objective_bounds(&arms, slo.bound.0, allowed, (self.rates.missed, level), &stream);
        let over = bounds.map(|b| Interval { estimate: b.share, low: Some(b.low), high: Some(b.high) });
        let most: Vec<Over> = arms.iter().map(|arm| arm.over(slo.bound.0).1).collect();
        let needed = objective_arms(level);
        let because = |reason: &Option<Reason>| reason.as_ref().map(|r| undecided(r.words()));
        // Shares of a handful of requests are all 0, and their bounds with them: fewer than independent requests would take
        // show nothing.
        let requests: u64 = most.iter().map(|over| over.total).sum();
        let enough = planned_requests(slo.quantile, most.iter().map(|over| over.over).sum(), level);
        let state = if held.len() < needed {
            undecided(&format!("it has {} arms with requests, and takes {needed}", held.len()))
        } else if !restarted {
            undecided("its tenants were not restarted between any of its arms")
        } else if saturated.is_some() {
            because(&self.not_missed).unwrap_or(SloState::Missed)
        } else if over.and_then(|o| o.high).is_some_and(|high| high <= allowed) {
            let few = (requests < enough)
                .then(|| undecided(&format!("it has {requests} requests, and takes {enough} at least")));
            because(&self.not_met).or(few).unwrap_or(SloState::Met)
        } else if over.and_then(|o| o.low).is_some_and(|low| low > allowed) {
            because(&self.not_missed).unwrap_or(SloState::Missed)
        } else {
            undecided(&why_open(&most, bounds, allowed, self.rates))
        };
        SloVerdict {
            arrangement: self.arrangement,
            seat: self.seat.clone(),
            neighbour: self.neighbour,
            probe: probe.name.clone(),
            quantile: slo.quantile,
            bound_ns: slo.bound.0,
            state,
            // A latency that measures the arm's length is none.
            over: over.filter(|_| saturated.is_none()),
            arms: held.len() as u32,
            saturated,
            requirement: RequirementState::NotRequired,
        }
    }
}

/// Why bounds on both sides of what is allowed decide nothing: the share lies near to it, or few arms hold all that is over.
fn why_open(most: &[Over], bounds: Option<ShareBounds>, allowed: f64, rates: Rates) -> String {
    let (arms, held) = (most.len() as u64, most.iter().filter(|over| over.over > 0).count() as u64);
    let few = bounds.is_some_and(|b| if b.share > allowed { b.low == 0.0 } else { b.high == 1.0 });
    if few && held == arms {
        // Of the claim that the share points to.
        let rate = if bounds.is_some_and(|b| b.share > allowed) { rates.missed } else { rates.met };
        let percent = significant(100.0 * rate, 2);
        return format!("{arms} arms bound nothing at an error rate of {} %; take more blocks", trimmed(&percent));
    }
    if few {
        let up_to = 100.0 * proportion_upper(held, arms, rates.met);
        return format!(
            "all requests over it lie in {held} of {arms} arms, too few to tell how many others hold (up to {up_to:.0} % of \
             the arms hold some); take more blocks"
        );
    }
    "the share of requests over it lies too near to what it allows; take more blocks".to_owned()
}

fn undecided(reason: &str) -> SloState {
    SloState::Undecided { reason: reason.to_owned() }
}

/// What is known of a tenant whose backlog grows through these arms; `None` where it does not.
pub(super) fn saturated(arms: &[&ArmData], issuer: Issuer, series: &str) -> Option<Saturated> {
    let windows: Vec<&WindowSummary> = windows(arms, issuer).collect();
    validity::backlog(&windows)?;
    load(arms, issuer, series)
}

/// Load, service and growth of the backlog of a tenant, whatever it is; `None` without a window.
pub(super) fn load(arms: &[&ArmData], issuer: Issuer, series: &str) -> Option<Saturated> {
    let windows: Vec<&WindowSummary> = windows(arms, issuer).collect();
    let seconds: f64 = windows.iter().map(|w| w.length.as_secs_f64()).sum();
    let grown: f64 = windows.iter().map(|w| w.open_at_end as f64 - w.open_at_half as f64).sum();
    let data: Vec<_> = arms.iter().filter_map(|arm| arm.series.get(series)).collect();
    let pool = Pool::new(&data.iter().map(|d| Counts::new(&d.service, 0)).collect::<Vec<_>>());
    (seconds > 0.0).then(|| Saturated {
        growth: grown / (0.5 * seconds),
        served: windows.iter().map(|w| w.completed as f64).sum::<f64>() / seconds,
        planned: windows.iter().map(|w| w.planned as f64).sum::<f64>() / seconds,
        service_ns: pool.quantile(Quantile::P50),
    })
}

fn windows<'a>(arms: &[&'a ArmData], issuer: Issuer) -> impl Iterator<Item = &'a WindowSummary> {
    arms.iter().copied().flat_map(|arm| &arm.summary.windows).filter(move |w| issuer.issued(w))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_decide_is_said_of_what_is_lacking() {
        let bounds = |share, low, high| Some(ShareBounds { share, low, high });
        let all = vec![Over { over: 5, total: 10 }; 13];
        let rates = Rates { met: 0.01, missed: 0.01 / 7.0 };
        let why = why_open(&all, bounds(0.5, 0.0, 1.0), 0.01, rates);
        assert_eq!(why, "13 arms bound nothing at an error rate of 0.14 %; take more blocks");
        let mut one = vec![Over { over: 0, total: 10 }; 12];
        one.push(Over { over: 5, total: 10 });
        let why = why_open(&one, bounds(0.004, 0.0, 1.0), 0.01, rates);
        assert!(why.starts_with("all requests over it lie in 1 of 13 arms, too few"), "{why}");
        let why = why_open(&all, bounds(0.02, 0.005, 0.03), 0.01, rates);
        assert!(why.starts_with("the share of requests over it lies too near"), "{why}");
    }
}
