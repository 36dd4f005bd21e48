//! One density: its tenants' arms, and what they show.

mod figures;

use super::LevelState;
use super::search::State;
use crate::backend::{ArmKey, Purpose, WindowSummary};
use crate::plan::{Curve, Plan, PlannedProbe};
use crate::run_dir::{ArmData, RecordedRun, SeriesData};
use crate::scenario::{Arrivals, FALSE_PASS, Quantile};
use crate::stats::{Counts, Durations, objective_arms, t_exceeds};
use crate::units::time_for_people;
use crate::verdict::cell::skipped;
use crate::verdict::slo::{self, Rates, Side};
use crate::verdict::types::{Reason, Saturated, SloState, SloVerdict};
use crate::verdict::validity::{self, Issuer};

/// Quantiles whose latencies are told.
pub(super) const TOLD: [Quantile; 3] = [Quantile::P50, Quantile::P99, Quantile::P999];
/// Requests that must lie beyond a quantile for its latency to be told.
const BEYOND: f64 = 10.0;
/// Level of the two bounds of a figure together.
pub(super) const FIGURES: f64 = 0.01;
/// Level of what speaks against telling a latency at all: the backlog of all tenants together grows.
const GROWING: f64 = 0.01;
/// Growth of the backlog of all tenants together within half a window, in requests, below which there is none.
const GROWTH: f64 = 2.0;

/// Parts of a density's error rate that go to each way to show that it misses.
pub(super) mod parts {
    /// All tenants together.
    pub(in super::super) const TOGETHER: f64 = 0.4;
    /// Some tenant by itself.
    pub(in super::super) const ALONE: f64 = 0.5;
    /// The backlog grows.
    pub(in super::super) const BACKLOG: f64 = 0.1;
}

/// What the backlog of all tenants together does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backlog {
    /// It is not seen to grow.
    Steady,
    /// It seems to grow: no latency is told, and nothing is met.
    Growing,
    /// It grows, at the error rate of the density: the objective is missed.
    Grows,
}

/// One density as far as it was run.
pub(super) struct Level<'a> {
    run: &'a RecordedRun,
    curve: &'a Curve,
    pub(super) tenants: u32,
    /// Index of its arrangement.
    pub(super) arrangement: usize,
    /// (generation, arm).
    arms: Vec<(u64, &'a ArmData)>,
    /// Name of the probe's first series, per seat.
    series: Vec<String>,
    /// The rate of errors that it may spend.
    alpha: f64,
}

/// The rate of errors about a crossing: of a run that is one of several, its part.
pub(super) fn rate(plan: &Plan) -> f64 {
    let spends: f64 = plan.design.looks.iter().map(|look| look.spends.as_f64()).sum();
    FALSE_PASS * if plan.design.looks.is_empty() { 1.0 } else { spends }
}

/// What one density of a curve may spend of it.
pub(super) fn share_of_rate(plan: &Plan, curve: &Curve) -> f64 {
    rate(plan) / f64::from(curve.most.max(1))
}

impl<'a> Level<'a> {
    pub(super) fn new(run: &'a RecordedRun, curve: &'a Curve, index: usize) -> Self {
        let plan = &run.manifest.plan;
        let level = curve.levels[index];
        let arrangement = &plan.arrangements[level.arrangement];
        let probe = &plan.panel[curve.probe];
        let each = plan.design.blocks_per_generation.max(1);
        let arm = |key: ArmKey| Some((u64::from(key.block / each), run.arms.get(&key)?));
        Self {
            run,
            curve,
            tenants: level.tenants,
            arrangement: level.arrangement,
            arms: keys(plan, level.arrangement).filter_map(arm).collect(),
            series: (0..arrangement.seats.len())
                .map(|seat| plan.series_of(&probe.name, level.arrangement, seat))
                .collect(),
            alpha: share_of_rate(plan, curve),
        }
    }

    fn plan(&self) -> &'a Plan {
        &self.run.manifest.plan
    }

    fn probe(&self) -> &'a PlannedProbe {
        &self.plan().panel[self.curve.probe]
    }

    fn skipped(&self) -> Option<&'a String> {
        skipped(self.run, self.arrangement)
    }

    /// Arms that there are, or that were lost for good.
    fn accounted(&self) -> usize {
        let lost = |key: &ArmKey| self.run.lost.contains_key(key) && !self.run.arms.contains_key(key);
        self.arms.len() + keys(self.plan(), self.arrangement).filter(lost).count()
    }

    /// It was begun, and nothing more is to be measured of it.
    fn is_whole(&self) -> bool {
        self.run.given_up.contains_key(&self.arrangement)
            || self.accounted() > 0 && self.accounted() >= keys(self.plan(), self.arrangement).count()
    }

    /// Whether it has any arm.
    pub(super) fn is_measured(&self) -> bool {
        !self.arms.is_empty()
    }

    /// What it is to the search.
    pub(super) fn state(&self) -> State {
        if self.skipped().is_some() {
            State::Skipped
        } else if !self.is_whole() {
            if self.accounted() > 0 { State::Begun } else { State::NotRun }
        } else {
            self.state_of_whole()
        }
    }

    /// What [`Self::decided`] says, without drawing what it does not take.
    fn state_of_whole(&self) -> State {
        let backlog = self.backlog();
        let mut seats = 0..self.series.len();
        let together = || self.with_all(backlog, |side| side.misses(self.probe()));
        if self.is_overloaded(backlog)
            || together()
            || seats.clone().any(|seat| self.tenant(seat, backlog).misses(self.probe()))
        {
            return State::Missed;
        }
        let asked = !self.series.is_empty() && !self.probe().slos.is_empty();
        let met = |seat| self.objectives(seat, backlog).iter().all(|slo| slo.state == SloState::Met);
        if asked && seats.all(met) { State::Met } else { State::Undecided }
    }

    /// The same from what was found of it.
    pub(super) fn found(&self, state: &LevelState) -> State {
        match state {
            LevelState::Skipped { .. } => State::Skipped,
            LevelState::NotRun {} => State::NotRun,
            _ if !self.is_whole() => State::Begun,
            whole => of_whole(whole),
        }
    }

    fn data(&self) -> Vec<&'a ArmData> {
        self.arms.iter().map(|(_, arm)| *arm).collect()
    }

    fn issuer(&self, seat: usize) -> Issuer {
        Issuer { probe: self.curve.probe, seat: Some(seat) }
    }

    /// Why nothing is called met, the backlog aside.
    fn unproven(&self) -> Option<Reason> {
        let of = |key: &&ArmKey| key.arrangement == self.arrangement && key.purpose.is_block();
        let lost = self.run.lost.iter().chain(&self.run.lost_before).filter(|(key, _)| of(key));
        let lost: Vec<&String> = lost.map(|(_, why)| why).collect();
        let short = self.arms.len() < keys(self.plan(), self.arrangement).count();
        let given_up = self.run.given_up.get(&self.arrangement);
        let lost_what = lost.first().copied().or(given_up);
        lost_what
            .map(|what| Reason::ArmsLost { arms: lost.len() as u32, what: what.clone() })
            .or(short.then_some(Reason::Incomplete))
            .or_else(|| self.worthless())
    }

    /// What makes its data prove nothing, either way.
    fn worthless(&self) -> Option<Reason> {
        validity::trouble(self.arms.iter().map(|(_, arm)| &arm.summary)).or_else(|| validity::foreign_work(self.run))
    }

    fn too_few_cores(&self) -> Option<Reason> {
        self.arms.iter().any(|(_, arm)| arm.summary.too_few_cores).then_some(Reason::TooFewCores)
    }

    /// Requests of any tenant that were sent late: the host was too slow for all of them.
    fn late(&self) -> Option<Reason> {
        let arms = self.data();
        let of = |seat: usize| validity::late(&arms, self.issuer(seat), &self.series[seat]);
        (0..self.series.len()).find_map(of)
    }

    /// Why nothing is called missed.
    fn not_missed(&self) -> Option<Reason> {
        self.worthless().or_else(|| self.late()).or_else(|| self.too_few_cores())
    }

    fn windows(arm: &ArmData, issuer: Issuer) -> impl Iterator<Item = &WindowSummary> {
        arm.summary.windows.iter().filter(move |w| issuer.issued(w))
    }

    /// Whether the backlog of all tenants together grows from the middle to the end of the windows, over the arms: at less load
    /// than can be served it is as long at the end as in the middle, on average. And whether that of some tenant does in most of
    /// its windows.
    fn backlog(&self) -> Backlog {
        let phase = if matches!(self.probe().arrivals, Arrivals::Fixed(_)) { 1.0 } else { 0.0 };
        let grown = |arm: &ArmData| {
            let windows = arm.summary.windows.iter().filter(|w| w.probe == self.curve.probe && w.seat.is_some());
            // Requests that come evenly spaced are open or not by where the look falls between two of them: by one at most.
            windows.map(|w| beyond(w.open_at_end as f64 - w.open_at_half as f64, phase)).sum::<f64>()
        };
        let grown: Vec<f64> = self.arms.iter().map(|(_, arm)| grown(arm)).collect();
        let mean = grown.iter().sum::<f64>() / grown.len().max(1) as f64;
        let arms = self.data();
        let one =
            (0..self.series.len()).any(|seat| slo::saturated(&arms, self.issuer(seat), &self.series[seat]).is_some());
        match t_exceeds(&grown, 0.0).filter(|_| mean >= GROWTH) {
            Some(p) if p <= parts::BACKLOG * self.alpha => Backlog::Grows,
            Some(p) if p <= GROWING => Backlog::Growing,
            _ if one => Backlog::Growing,
            _ => Backlog::Steady,
        }
    }

    /// Of a density whose backlog grows, each tenant whose own does.
    fn saturated(&self, seat: usize, backlog: Backlog) -> Option<Saturated> {
        let load = || slo::load(&self.data(), self.issuer(seat), &self.series[seat]);
        if backlog == Backlog::Steady { None } else { load().filter(|load| load.growth > 0.0) }
    }

    fn side<'b>(&self, name: &str, arms: Vec<(u64, Counts<'b>)>, part: f64, backlog: Backlog) -> Side<'b>
    where
        'a: 'b,
    {
        let objectives = self.probe().slos.len().max(1) as f64;
        let growing = (backlog != Backlog::Steady).then_some(Reason::Backlog);
        Side {
            plan: self.plan(),
            arrangement: self.arrangement,
            seat: name.to_owned(),
            neighbour: None,
            rates: Rates { met: self.alpha, missed: part * self.alpha / objectives },
            not_met: self.unproven().or(growing),
            not_missed: self.not_missed(),
            arms,
            saturated: None,
        }
    }

    /// One tenant.
    fn tenant(&self, seat: usize, backlog: Backlog) -> Side<'a> {
        let part = parts::ALONE / self.series.len().max(1) as f64;
        let id = self.plan().arrangements[self.arrangement].seats.get(seat).map_or("?", |seat| seat.id.as_str());
        self.side(id, slo::held(&self.arms, &self.series[seat]), part, backlog)
    }

    /// Every objective of one tenant.
    fn objectives(&self, seat: usize, backlog: Backlog) -> Vec<SloVerdict> {
        self.tenant(seat, backlog).judge(self.probe())
    }

    /// All tenants together: if each of them meets an objective, so does the mean of their requests, and that is known better
    /// than any one of them.
    fn with_all<T>(&self, backlog: Backlog, judge: impl Fn(&Side<'_>) -> T) -> T {
        let pooled: Vec<(u64, Durations, u64)> = self
            .arms
            .iter()
            .map(|(generation, arm)| {
                let data: Vec<&SeriesData> = self.series.iter().filter_map(|name| arm.series.get(name)).collect();
                let unserved = data.iter().map(|data| data.censored + data.failed).sum();
                (*generation, Durations::pooled(data.iter().map(|data| &data.latency)), unserved)
            })
            .collect();
        let arms = pooled.iter().map(|(generation, served, unserved)| (*generation, Counts::new(served, *unserved)));
        judge(&self.side("all", arms.collect(), parts::TOGETHER, backlog))
    }

    /// Met where every tenant meets every objective; missed where all together, or some tenant, or the backlog shows it.
    fn decided(
        &self,
        backlog: Backlog,
        together: &[SloVerdict],
        tenants: impl Iterator<Item = Vec<SloVerdict>>,
    ) -> LevelState {
        let missed = |slos: &[SloVerdict]| slos.iter().any(|slo| slo.state == SloState::Missed);
        if self.is_overloaded(backlog) || missed(together) {
            return LevelState::Missed {};
        }
        let mut open: Option<(SloVerdict, u32)> = None;
        for slos in tenants {
            if missed(&slos) {
                return LevelState::Missed {};
            }
            let first = slos.into_iter().find(|slo| slo.state != SloState::Met);
            open = match (open, first) {
                (Some((slo, count)), first) => Some((slo, count + u32::from(first.is_some()))),
                (None, first) => first.map(|slo| (slo, 1)),
            };
        }
        match open {
            Some((SloVerdict { quantile, bound_ns, state: SloState::Undecided { reason }, .. }, count)) => {
                let bound = time_for_people(bound_ns as f64);
                let who =
                    if self.tenants == 1 { String::new() } else { format!(" of {count} of {} tenants", self.tenants) };
                LevelState::Undecided { reason: format!("{quantile} ≤ {bound}{who}: {reason}") }
            }
            None if !self.series.is_empty() && !together.is_empty() => LevelState::Met {},
            _ => LevelState::Undecided { reason: "nothing is asked of its tenants".to_owned() },
        }
    }

    /// Whether its backlog shows that it misses.
    fn is_overloaded(&self, backlog: Backlog) -> bool {
        backlog == Backlog::Grows && self.enough() && self.not_missed().is_none()
    }

    /// Whether it has the arms, of tenants that were restarted, that a claim takes.
    fn enough(&self) -> bool {
        let restarted = self.arms.iter().any(|(generation, _)| *generation != self.arms[0].0);
        restarted && self.arms.len() >= objective_arms(self.alpha)
    }
}

fn of_whole(state: &LevelState) -> State {
    match state {
        LevelState::Met {} => State::Met,
        LevelState::Missed {} => State::Missed,
        _ => State::Undecided,
    }
}

/// What of `value`, up or down, exceeds `allowed`.
fn beyond(value: f64, allowed: f64) -> f64 {
    value - value.clamp(-allowed, allowed)
}

/// The arms of a density.
fn keys(plan: &Plan, arrangement: usize) -> impl Iterator<Item = ArmKey> {
    let first = plan.arrangements[arrangement].grids.first().map_or(0, |grid| grid.first_block);
    (first..first + plan.design.blocks).map(move |block| ArmKey {
        arrangement,
        grid: 0,
        block,
        neighbour: None,
        purpose: Purpose::Block,
    })
}
