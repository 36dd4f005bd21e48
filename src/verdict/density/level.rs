//! One density: its tenants' arms, and what they show.

use super::search::State;
use super::{Fairness, LevelState, LevelVerdict, TenantVerdict};
use crate::backend::{ArmKey, Company, Purpose, WindowSummary};
use crate::plan::{Curve, Plan, PlannedProbe};
use crate::random::{Key, Stream};
use crate::run_dir::{ArmData, RecordedRun, SeriesData};
use crate::scenario::{FALSE_PASS, Quantile, Slo};
use crate::stats::{Counts, Durations, Pool, jain, t_exceeds, wide_mean_bounds};
use crate::verdict::cell::skipped;
use crate::verdict::slo::{self, Rates, Side};
use crate::verdict::types::{Interval, Reason, Saturated, SloState, SloVerdict};
use crate::verdict::validity::{self, Issuer, THROTTLED};

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
mod parts {
    /// All tenants together.
    pub(super) const TOGETHER: f64 = 0.4;
    /// Some tenant by itself.
    pub(super) const ALONE: f64 = 0.5;
    /// The backlog grows.
    pub(super) const BACKLOG: f64 = 0.1;
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
            let backlog = self.backlog();
            let tenants = (0..self.series.len()).map(|seat| self.objectives(seat, backlog));
            of_whole(&self.decided(backlog, &self.together(backlog), tenants))
        }
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
        let grown = |arm: &ArmData| {
            let windows = arm.summary.windows.iter().filter(|w| w.probe == self.curve.probe && w.seat.is_some());
            windows.map(|w| w.open_at_end as f64 - w.open_at_half as f64).sum::<f64>()
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

    fn side(&self, name: &str, arms: Vec<(u64, Counts<'a>)>, part: f64, backlog: Backlog) -> Side<'a> {
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

    /// Every objective of one tenant.
    fn objectives(&self, seat: usize, backlog: Backlog) -> Vec<SloVerdict> {
        let arms = slo::held(&self.arms, &self.series[seat]);
        let part = parts::ALONE / self.series.len().max(1) as f64;
        let id = self.plan().arrangements[self.arrangement].seats.get(seat).map_or("?", |seat| seat.id.as_str());
        self.side(id, arms, part, backlog).judge(self.probe())
    }

    /// Every objective of all tenants together: if each of them meets it, so does the mean of their requests, and that is known
    /// better than any one of them.
    fn together(&self, backlog: Backlog) -> Vec<SloVerdict> {
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
        let arms = arms.collect();
        self.side("all", arms, parts::TOGETHER, backlog).judge(self.probe())
    }

    /// Met where every tenant meets every objective; missed where all together, or some tenant, or the backlog shows it. What need
    /// not be known is not asked.
    fn decided(
        &self,
        backlog: Backlog,
        together: &[SloVerdict],
        tenants: impl Iterator<Item = Vec<SloVerdict>>,
    ) -> LevelState {
        let missed = |slos: &[SloVerdict]| slos.iter().any(|slo| slo.state == SloState::Missed);
        if backlog == Backlog::Grows && self.enough() && self.not_missed().is_none() || missed(together) {
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
                let bound = crate::units::Nanos(bound_ns);
                let who =
                    if self.tenants == 1 { String::new() } else { format!(" of {count} of {} tenants", self.tenants) };
                LevelState::Undecided { reason: format!("{quantile} ≤ {bound}{who}: {reason}") }
            }
            None if !self.series.is_empty() && !together.is_empty() => LevelState::Met {},
            _ => LevelState::Undecided { reason: "nothing is asked of its tenants".to_owned() },
        }
    }

    /// Whether it has the arms, of tenants that were restarted, that a claim takes.
    fn enough(&self) -> bool {
        let restarted = self.arms.iter().any(|(generation, _)| *generation != self.arms[0].0);
        restarted && self.arms.len() >= crate::stats::objective_arms(self.alpha)
    }

    /// Pools of the tenants' latencies over the arms, where they are known so well that a latency at `q` may be told: none where
    /// the backlog of some tenant grows, or where fewer than ten requests lie beyond.
    pub(super) fn tails(&self, q: Quantile) -> Option<Vec<Pool>> {
        (self.is_measured() && self.backlog() == Backlog::Steady).then_some(())?;
        let pools = (0..self.series.len()).map(|seat| self.pool(seat));
        pools.map(|pool| enough_beyond(&pool, q).then_some(pool)).collect()
    }

    fn pool(&self, seat: usize) -> Pool {
        let none = || Counts::new(&NOTHING, 0);
        let of =
            |(_, arm): &(u64, &'a ArmData)| arm.series.get(&self.series[seat]).map_or_else(none, SeriesData::counts);
        Pool::new(&self.arms.iter().map(of).collect::<Vec<_>>())
    }

    /// What is known of it.
    pub(super) fn judge(&self) -> LevelVerdict {
        let mut verdict = LevelVerdict {
            tenants: self.tenants,
            arrangement: self.arrangement,
            state: LevelState::NotRun {},
            arms: self.arms.len() as u32,
            each: Vec::new(),
            saturated: false,
            together: Vec::new(),
            served: None,
            good: None,
            fairness: None,
            memory: None,
            ratio: None,
            notes: Vec::new(),
        };
        if let Some(reason) = self.skipped() {
            verdict.state = LevelState::Skipped { reason: reason.clone() };
            return verdict;
        }
        if self.accounted() == 0 && !self.is_whole() {
            return verdict;
        }
        let backlog = self.backlog();
        verdict.saturated = backlog != Backlog::Steady;
        let told = |over: Option<Interval>| over.filter(|_| backlog == Backlog::Steady);
        let together = self.together(backlog);
        let objectives: Vec<Vec<SloVerdict>> =
            (0..self.series.len()).map(|seat| self.objectives(seat, backlog)).collect();
        verdict.state = if self.is_whole() {
            self.decided(backlog, &together, objectives.iter().cloned())
        } else {
            LevelState::Undecided { reason: Reason::Incomplete.words().to_owned() }
        };
        verdict.notes = self.notes(backlog);
        if !self.is_measured() {
            return verdict;
        }
        verdict.together = together.iter().map(|slo| told(slo.over)).collect();
        let tenant = |(seat, slos): (usize, Vec<SloVerdict>)| {
            let objectives = slos.into_iter().map(|slo| (slo.state, told(slo.over))).collect();
            self.tenant(seat, backlog, objectives)
        };
        verdict.each = objectives.into_iter().enumerate().map(tenant).collect();
        verdict.served = Some(verdict.each.iter().map(|tenant| tenant.served).sum());
        verdict.good = Some(verdict.each.iter().map(|tenant| tenant.good).sum());
        verdict.fairness = self.fairness();
        verdict.memory = self.arms.iter().filter_map(|(_, arm)| arm.summary.memory_used).max();
        verdict
    }

    fn tenant(&self, seat: usize, backlog: Backlog, objectives: Vec<(SloState, Option<Interval>)>) -> TenantVerdict {
        let arrangement = &self.plan().arrangements[self.arrangement];
        let windows = || self.arms.iter().flat_map(|(_, arm)| Self::windows(arm, self.issuer(seat)));
        let seconds: f64 = windows().map(|w| w.length.as_secs_f64()).sum();
        let per_second = |n: u64| if seconds > 0.0 { n as f64 / seconds } else { 0.0 };
        let data = self.arms.iter().filter_map(|(_, arm)| arm.series.get(&self.series[seat]));
        let ok: u64 = data.map(|data| data.latency.len()).sum();
        // Of more than can be served, what was still open at the end was served in no window.
        let inside: u64 = windows().map(|w| w.planned.saturating_sub(w.open_at_end)).sum();
        let served = if backlog == Backlog::Steady { ok } else { ok.min(inside) };
        let pool = self.pool(seat);
        let latency = |q: &Quantile| Some((*q, pool.quantile(*q)?)).filter(|_| enough_beyond(&pool, *q));
        let latencies = if backlog == Backlog::Steady { TOLD.iter().filter_map(latency).collect() } else { Vec::new() };
        TenantVerdict {
            seat: arrangement.seats.get(seat).map_or_else(|| seat.to_string(), |seat| seat.id.clone()),
            objectives,
            latencies,
            planned: per_second(windows().map(|w| w.planned).sum()),
            served: per_second(served),
            good: per_second(self.arms.iter().map(|(_, arm)| self.good(arm, seat)).sum()),
            memory: self.memory(seat),
            saturated: self.saturated(seat, backlog),
        }
    }

    /// Requests of an arm that were served within every objective's bound.
    fn good(&self, arm: &ArmData, seat: usize) -> u64 {
        let Some(data) = arm.series.get(&self.series[seat]) else { return 0 };
        let bound = self.probe().slos.iter().map(|slo: &Slo| slo.bound.0).min().unwrap_or(u64::MAX);
        let over = data.counts().over(bound).1;
        over.total - over.over
    }

    /// Jain's index of each arm, its mean and bounds over the arms.
    fn fairness(&self) -> Option<Fairness> {
        let index = |(_, arm): &(u64, &ArmData)| {
            let part = |seat: usize| {
                let planned: u64 = Self::windows(arm, self.issuer(seat)).map(|w| w.planned).sum();
                (planned > 0).then(|| self.good(arm, seat) as f64 / planned as f64)
            };
            jain(&(0..self.series.len()).map(part).collect::<Option<Vec<f64>>>()?)
        };
        let values: Vec<f64> = self.arms.iter().filter_map(index).collect();
        if values.is_empty() {
            return None;
        }
        let name = &self.plan().arrangements[self.arrangement].name;
        let mut stream = Stream::new(self.plan().seed, &[Key::Name("fairness"), Key::Name(name)]);
        let bounds = wide_mean_bounds(&values, (FIGURES / 2.0, FIGURES / 2.0), &mut stream);
        let least = 1.0 / self.series.len() as f64;
        let index = Interval {
            estimate: values.iter().sum::<f64>() / values.len() as f64,
            low: bounds.map(|(low, _)| low.clamp(least, 1.0)),
            high: bounds.map(|(_, high)| high.clamp(least, 1.0)),
        };
        Some(Fairness { index })
    }

    /// What the programs of the tenant in a seat hold, as it said when it was brought up.
    fn memory(&self, seat: usize) -> Option<u64> {
        let placed = self.run.proof.placed.get(&(self.arrangement, 0, Company::Beside.words()))?;
        let evidence = placed.first.seats.iter().find(|evidence| evidence.seat == seat)?;
        (!evidence.programs.is_empty()).then(|| evidence.programs.iter().map(|program| program.footprint).sum())
    }

    /// What must be known of how it was measured, in words.
    fn notes(&self, backlog: Backlog) -> Vec<String> {
        let arms = self.data();
        let mut notes: Vec<String> = Vec::new();
        let reasons = [self.unproven(), self.late(), self.too_few_cores()];
        for reason in reasons.into_iter().flatten() {
            let words = match &reason {
                Reason::ArmsLost { what, .. } => format!("{}: {what}", reason.words()),
                Reason::DriverTrouble { what } | Reason::ForeignWork { what } => format!("{}: {what}", reason.words()),
                Reason::LateRequests { share } => format!("{} ({})", reason.words(), percent(*share)),
                _ => reason.words().to_owned(),
            };
            notes.push(words);
        }
        let throttled: Vec<f64> = self.arms.iter().filter_map(|(_, arm)| arm.summary.throttled).collect();
        let throttled = throttled.iter().sum::<f64>() / throttled.len().max(1) as f64;
        if throttled > THROTTLED {
            notes.push(format!("throttled for {} of the time", percent(throttled)));
        }
        if backlog == Backlog::Growing {
            notes.push("the backlog seems to grow: no latency is told, and nothing is met".to_owned());
        }
        let sides =
            || (0..self.series.len()).map(|seat| validity::Side::of(&arms, self.issuer(seat), &self.series[seat]));
        let most = |of: fn(&validity::Side) -> f64| sides().map(|side| of(&side)).fold(0.0, f64::max);
        for (share, words) in [(most(|s| s.censored), "were not served in time"), (most(|s| s.failed), "failed")] {
            if share > 0.0 {
                notes.push(format!("up to {} of a tenant's requests {words}", percent(share)));
            }
        }
        notes
    }
}

fn of_whole(state: &LevelState) -> State {
    match state {
        LevelState::Met {} => State::Met,
        LevelState::Missed {} => State::Missed,
        _ => State::Undecided,
    }
}

/// A share in words: two significant digits or more.
fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    let decimals = if percent >= 10.0 {
        0
    } else if percent >= 1.0 {
        1
    } else {
        2
    };
    format!("{percent:.decimals$} %")
}

fn enough_beyond(pool: &Pool, q: Quantile) -> bool {
    pool.total() as f64 * (1.0 - q.as_f64()) >= BEYOND - 1e-6
}

/// The latencies of a tenant that has none.
static NOTHING: Durations = Durations::EMPTY;

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
