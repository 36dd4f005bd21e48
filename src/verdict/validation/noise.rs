//! Noise whose truth is known: arms drawn in advance.
//!
//! A bank of arms is drawn once per kind of noise, and trials take theirs from it at random. The bank's own distribution
//! is the noise: quiet and noisy arms come from the same one, so that a ratio of one is exactly one, and so is any other.

use crate::random::{Key, Stream};
use crate::run_dir::SeriesData;
use crate::scenario::Quantile;
use crate::stats::Bucket;

/// Arms in a bank of a thousand requests each; of longer ones as many fewer.
const ARMS: usize = 1_500;

/// What the requests of an arm do, and what happens to arms as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Independent, lognormal: p99 at twice the median.
    Lognormal,
    /// 1.1 % of the requests take five times as long: the p99 of an arm lies now in one mode, now in the other.
    Bimodal,
    /// A tail like x^−1.5: no variance.
    Pareto,
    /// Autocorrelated at ρ = 0.995: a thousand requests are worth about three.
    Autoregression,
    /// Every arm has a level of its own, by 3 %.
    RunToRun,
    /// 30 % slower at the end of the run than at its beginning, evenly.
    Drift,
    /// From a random moment of the run on 15 % slower.
    ClockStep,
    /// One request in 2,000 begins fifty that take three times as long.
    Bursts,
    /// Latencies of a few ticks of the timer: a hundred nanoseconds, by 2 %.
    Ticks,
    /// One request in 2,000 is never served.
    Timeouts,
    /// The arm after a noisy one is 10 % slower: heat left behind.
    CarryOver,
}

impl Kind {
    pub(super) const ALL: [Self; 11] = [
        Self::Lognormal,
        Self::Bimodal,
        Self::Pareto,
        Self::Autoregression,
        Self::RunToRun,
        Self::Drift,
        Self::ClockStep,
        Self::Bursts,
        Self::Ticks,
        Self::Timeouts,
        Self::CarryOver,
    ];

    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Lognormal => "independent, lognormal",
            Self::Bimodal => "bimodal, 1.1 % slow",
            Self::Pareto => "Pareto tail, 1.5",
            Self::Autoregression => "autocorrelated, ρ = 0.995",
            Self::RunToRun => "run-to-run effect of 3 %",
            Self::Drift => "drift of 30 %",
            Self::ClockStep => "clock step of 15 %",
            Self::Bursts => "bursts",
            Self::Ticks => "tick of 1 % of the latency",
            Self::Timeouts => "0.05 % never served",
            Self::CarryOver => "carry-over of 10 %",
        }
    }

    /// The latencies of one arm in nanoseconds; infinite: never served.
    fn arm(self, stream: &mut Stream, n: usize) -> Vec<f32> {
        let lognormal = |stream: &mut Stream| 1e5 * libm::exp(0.3 * stream.normal());
        let mut values: Vec<f64> = match self {
            Self::Bimodal => {
                let slow = |stream: &mut Stream| if stream.uniform() < 0.011 { 5.0 } else { 1.0 };
                (0..n).map(|_| slow(stream) * 1e5 * libm::exp(0.1 * stream.normal())).collect()
            }
            Self::Pareto => (0..n).map(|_| 1e5 * libm::pow(1.0 - stream.uniform(), -1.0 / 1.5)).collect(),
            Self::Autoregression => {
                let mut level = stream.normal();
                let mut next = || {
                    level = 0.995 * level + libm::sqrt(1.0 - 0.995 * 0.995) * stream.normal();
                    1e5 * libm::exp(0.3 * level)
                };
                (0..n).map(|_| next()).collect()
            }
            Self::Bursts => {
                let mut left = 0;
                let mut next = || {
                    left = if stream.uniform() < 1.0 / 2_000.0 { 50 } else { left - 1 };
                    lognormal(stream) * if left > 0 { 3.0 } else { 1.0 }
                };
                (0..n).map(|_| next()).collect()
            }
            Self::Ticks => (0..n).map(|_| libm::round(100.0 * libm::exp(0.02 * stream.normal()))).collect(),
            Self::Timeouts => {
                let lost = |stream: &mut Stream| stream.uniform() < 1.0 / 2_000.0;
                (0..n).map(|_| if lost(stream) { f64::INFINITY } else { lognormal(stream) }).collect()
            }
            _ => (0..n).map(|_| lognormal(stream)).collect(),
        };
        values.sort_unstable_by(f64::total_cmp);
        values.into_iter().map(|v| v as f32).collect()
    }
}

/// Arms of one kind of noise.
pub(super) struct Bank {
    pub(super) kind: Kind,
    /// Requests of each arm.
    pub(super) requests: usize,
    /// Latencies of each and how often they occur, rising.
    pub(super) arms: Vec<Vec<(f32, u32)>>,
    /// All of them, rising.
    pooled: Vec<f32>,
}

/// What the neighbour does to the requests of its arms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Effect {
    /// Factor on the latencies of an arm that is hit.
    pub(super) ratio: f64,
    /// Latencies from here on alone are hit, nanoseconds before the factor.
    pub(super) from: f32,
    /// Share of the noisy arms that are hit.
    pub(super) share: f64,
}

impl Effect {
    pub(super) fn of(ratio: f64) -> Self {
        Self { ratio, from: 0.0, share: 1.0 }
    }
}

impl Bank {
    pub(super) fn new(kind: Kind, requests: usize) -> Self {
        let mut stream = Stream::new(20_260_601, &[Key::Name("bank"), Key::Name(kind.words())]);
        let arms = (ARMS * 1_000 / requests.max(1_000)).max(200);
        let arms: Vec<Vec<f32>> = (0..arms).map(|_| kind.arm(&mut stream, requests)).collect();
        let mut pooled: Vec<f32> = arms.iter().flatten().copied().collect();
        pooled.sort_unstable_by(f32::total_cmp);
        let arms = arms.iter().map(|arm| counted(arm.iter().copied())).collect();
        Self { kind, requests, arms, pooled }
    }

    /// A bank for p99.9 alone: whatever lies below the p90 of the noise is taken together there, which is where no arm of ten
    /// thousand requests has its p99.9. Trials are ten times as fast.
    pub(super) fn of_tails(kind: Kind, requests: usize) -> Self {
        let mut bank = Self::new(kind, requests);
        let least = bank.quantile(Quantile(90_000));
        for arm in &mut bank.arms {
            let all = arm.iter().flat_map(|(value, count)| std::iter::repeat_n(value.max(least), *count as usize));
            *arm = counted(all);
        }
        bank
    }

    /// The latency that a share `q` of the noise's requests does not exceed, nanoseconds.
    pub(super) fn quantile(&self, q: Quantile) -> f32 {
        let rank = (q.as_f64() * self.pooled.len() as f64).ceil() as usize;
        self.pooled[rank.clamp(1, self.pooled.len()) - 1]
    }

    /// The share of the noise's requests that take longer.
    pub(super) fn above(&self, ns: f32) -> f64 {
        1.0 - self.pooled.partition_point(|v| *v <= ns) as f64 / self.pooled.len() as f64
    }

    /// A hit at the ratio of latencies from the quantile `q` of the noise on.
    pub(super) fn tail(&self, q: Quantile, ratio: f64) -> Effect {
        Effect { ratio, from: self.quantile(q), share: 1.0 }
    }

    /// An arm at random.
    pub(super) fn draw(&self, stream: &mut Stream) -> &[(f32, u32)] {
        &self.arms[stream.below(self.arms.len() as u64) as usize]
    }

    /// The level of every arm of a run in the order in which they are taken, as factors.
    pub(super) fn levels(&self, stream: &mut Stream, arms: usize) -> Vec<f64> {
        let step = stream.below(arms as u64 + 1) as usize;
        let level = |at: usize, stream: &mut Stream| match self.kind {
            Kind::RunToRun => libm::exp(0.03 * stream.normal()),
            Kind::Drift => 1.0 + 0.3 * at as f64 / arms as f64,
            Kind::ClockStep if at >= step => 1.15,
            _ => 1.0,
        };
        (0..arms).map(|at| level(at, stream)).collect()
    }
}

/// Rising values and how often each occurs.
fn counted(values: impl Iterator<Item = f32>) -> Vec<(f32, u32)> {
    let mut counted: Vec<(f32, u32)> = Vec::new();
    for value in values {
        match counted.last_mut() {
            Some((last, count)) if *last == value => *count += 1,
            _ => counted.push((value, 1)),
        }
    }
    counted
}

/// What an arm would have recorded: `values` rising, each times `level`, and times the effect's ratio where it is hit.
pub(super) fn recorded(values: &[(f32, u32)], level: f64, effect: Option<Effect>) -> SeriesData {
    let mut data = SeriesData::default();
    let mut open: Option<(Bucket, u32)> = None;
    for (value, times) in values {
        if value.is_infinite() {
            data.censored += u64::from(*times);
            continue;
        }
        let hit = effect.filter(|effect| *value >= effect.from);
        let ns = f64::from(*value) * level * hit.map_or(1.0, |effect| effect.ratio);
        let bucket = Bucket::of(ns as u64);
        match &mut open {
            Some((last, count)) if *last == bucket => *count += times,
            _ => {
                if let Some((last, count)) = open.replace((bucket, *times)) {
                    data.latency.add(last, count);
                }
            }
        }
    }
    if let Some((last, count)) = open {
        data.latency.add(last, count);
    }
    data
}
