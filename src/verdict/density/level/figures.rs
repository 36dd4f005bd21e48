//! What is told of a density beside what it shows: rates, latencies, fairness, memory.

use super::{BEYOND, Backlog, FIGURES, Level, TOLD};
use crate::backend::Company;
use crate::random::{Key, Stream};
use crate::run_dir::{ArmData, SeriesData};
use crate::scenario::{Quantile, Slo};
use crate::stats::{Counts, Durations, Pool, jain, wide_mean_bounds};
use crate::verdict::density::{Fairness, LevelState, LevelVerdict, TenantVerdict};
use crate::verdict::types::{Interval, Reason, SloState, SloVerdict};
use crate::verdict::validity::{self, THROTTLED};

impl<'a> Level<'a> {
    /// Pools of the tenants' latencies over the arms, where they are known so well that a latency at `q` may be told: none where
    /// the backlog of some tenant grows, or where fewer than ten requests lie beyond.
    pub(in crate::verdict::density) fn tails(&self, q: Quantile) -> Option<Vec<Pool>> {
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
    pub(in crate::verdict::density) fn judge(&self) -> LevelVerdict {
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
        let together = self.with_all(backlog, |side| side.judge(self.probe()));
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
            self.told(seat, backlog, objectives)
        };
        verdict.each = objectives.into_iter().enumerate().map(tenant).collect();
        verdict.served = Some(verdict.each.iter().map(|tenant| tenant.served).sum());
        verdict.good = Some(verdict.each.iter().map(|tenant| tenant.good).sum());
        verdict.fairness = self.fairness();
        verdict.memory = self.arms.iter().filter_map(|(_, arm)| arm.summary.memory_used).max();
        verdict
    }

    fn told(&self, seat: usize, backlog: Backlog, objectives: Vec<(SloState, Option<Interval>)>) -> TenantVerdict {
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
