//! Recorded runs of equal tenants whose truth is known.

use jiff::civil::date;

use super::level::Level;
use super::search::State;
use crate::backend::{ArmKey, ArmSummary, Purpose, WindowSummary};
use crate::plan::{self, Curve, Grid, Plan, PlannedArrangement, Seat};
use crate::provenance::Provenance;
use crate::random::{Key, Stream};
use crate::run_dir::{ArmData, Manifest, RecordedRun, SeriesData};
use crate::scenario::{Quantile, SharingMode, Slo};
use crate::units::Nanos;
use crate::verdict::synthetic::{Lab, lognormal, record};

/// What every tenant must meet: p99 within this, nanoseconds.
pub(super) const BOUND: u64 = 500_000;

/// Curves of tenants of one probe.
pub(super) struct Crowd {
    pub(super) seed: u64,
    pub(super) blocks: u32,
    /// Requests of a tenant in an arm, that is in a second.
    pub(super) requests: u64,
    /// (name, sharing, listed tenants).
    pub(super) curves: Vec<(&'static str, SharingMode, Vec<u32>)>,
    pub(super) every: bool,
    pub(super) at_least: Option<u32>,
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            seed: 1,
            blocks: 17,
            requests: 300,
            curves: vec![("mps", SharingMode::Mps, vec![1, 2, 3, 4, 6, 8])],
            every: false,
            at_least: None,
        }
    }
}

/// A tenant's place in an arm.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) tenants: u32,
    pub(super) block: u32,
    pub(super) seat: usize,
}

impl Crowd {
    pub(super) fn run(&self) -> RecordedRun {
        let manifest = Manifest::new(date(2026, 6, 1), Provenance::Simulated, "", &self.plan(), "");
        RecordedRun { finished: true, ..RecordedRun::new(manifest) }
    }

    pub(super) fn plan(&self) -> Plan {
        let lab = Lab {
            seed: self.seed,
            blocks: self.blocks,
            requests: self.requests,
            panel: vec![("inference", crate::channel::Channel::HbmBandwidth)],
            neighbours: Vec::new(),
            ..Lab::default()
        };
        let mut plan = lab.plan();
        plan.panel[0].slos = vec![Slo { quantile: Quantile::P99, bound: Nanos(BOUND) }];
        let pattern = plan.arrangements.remove(0);
        for (index, (name, sharing, listed)) in self.curves.iter().enumerate() {
            let (first, last) = (listed[0], *listed.last().unwrap());
            let mut levels = Vec::new();
            for tenants in first..=last {
                levels.push(plan::Level {
                    tenants,
                    arrangement: plan.arrangements.len(),
                    listed: listed.contains(&tenants),
                });
                let seat = |n: u32| Seat { id: n.to_string(), share: "shared".to_owned(), entry: 0 };
                plan.arrangements.push(PlannedArrangement {
                    name: format!("{name}×{tenants}"),
                    sharing: *sharing,
                    seats: (0..tenants).map(seat).collect(),
                    grids: vec![Grid {
                        victim: 0,
                        neighbour_seats: Vec::new(),
                        probes: vec![0],
                        neighbours: Vec::new(),
                        first_block: 0,
                    }],
                    density: Some(plan::Density { curve: index, tenants, window: Nanos::secs(1), budget: None }),
                    ..pattern.clone()
                });
            }
            let all = levels.len() as u32;
            let halving = ((all + 1).next_power_of_two().ilog2() + 2).min(all);
            let widest = listed.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(1);
            let every = listed.len() as u32 + widest.next_power_of_two().ilog2();
            plan.curves.push(Curve {
                name: (*name).to_owned(),
                sharing: *sharing,
                probe: 0,
                every: self.every,
                at_least: self.at_least,
                most: if self.every { every } else { halving },
                levels,
            });
        }
        plan
    }
}

/// Measures an arm of a density in which every tenant's requests are what `requests` draws.
pub(super) fn measure_arm(
    run: &mut RecordedRun,
    arrangement: usize,
    block: u32,
    requests: &impl Fn(&mut Stream, At) -> SeriesData,
) {
    let plan = &run.manifest.plan;
    let tenants = plan.arrangements[arrangement].seats.len();
    let mut arm = ArmData { summary: ArmSummary { throttled: Some(0.0), ..summary() }, series: [].into() };
    for seat in 0..tenants {
        let at = At { tenants: tenants as u32, block, seat };
        let key = [Key::Number(arrangement as u64), Key::Number(u64::from(block)), Key::Number(seat as u64)];
        let data = requests(&mut Stream::new(plan.seed, &key), at);
        let (ok, total) = (data.latency.len(), data.counts().total());
        arm.summary.windows.push(WindowSummary {
            probe: 0,
            seat: Some(seat),
            length: Nanos::secs(1),
            planned: total,
            completed: ok + data.failed,
            ..WindowSummary::default()
        });
        arm.series.insert(plan.series_of("inference", arrangement, seat), data);
    }
    run.arms.insert(key(arrangement, block), arm);
}

fn summary() -> ArmSummary {
    ArmSummary { sm_mhz: Some(1_755.0), ..ArmSummary::default() }
}

pub(super) fn key(arrangement: usize, block: u32) -> ArmKey {
    ArmKey { arrangement, grid: 0, block, neighbour: None, purpose: Purpose::Block }
}

/// Measures all arms of a density.
pub(super) fn measure(run: &mut RecordedRun, arrangement: usize, requests: &impl Fn(&mut Stream, At) -> SeriesData) {
    (0..run.manifest.plan.design.blocks).for_each(|block| measure_arm(run, arrangement, block, requests));
}

/// Three hundred lognormal latencies, so many times 100 µs at the median and twice that at the p99.
pub(super) fn times(factor: impl Fn(At) -> f64) -> impl Fn(&mut Stream, At) -> SeriesData {
    move |stream, at| {
        let mut data = SeriesData::default();
        (0..300).for_each(|_| record(&mut data, factor(at) * lognormal(stream)));
        data
    }
}

/// Tenants of densities up to `c` have half the latency that they may have at the p99, others thrice.
pub(super) fn crossing_at(c: u32) -> impl Fn(&mut Stream, At) -> SeriesData {
    times(move |at| if at.tenants <= c { 1.25 } else { 7.5 })
}

/// Measures what the search asks for, until it asks for nothing more. Returns tenants in order, and what became of every density.
pub(super) fn search(
    run: &mut RecordedRun,
    requests: &impl Fn(&mut Stream, At) -> SeriesData,
) -> (Vec<u32>, Vec<State>) {
    search_by(run, requests, &|run: &RecordedRun, curve: &Curve, index| Level::new(run, curve, index).state())
}

/// The same, by what `judge` says of a density.
pub(super) fn search_by(
    run: &mut RecordedRun,
    requests: &impl Fn(&mut Stream, At) -> SeriesData,
    judge: &impl Fn(&RecordedRun, &Curve, usize) -> State,
) -> (Vec<u32>, Vec<State>) {
    let curve = run.manifest.plan.curves[0].clone();
    let state = |run: &RecordedRun, index: usize| judge(run, &curve, index);
    let mut states: Vec<State> = (0..curve.levels.len()).map(|index| state(run, index)).collect();
    let mut order = Vec::new();
    while let Some(index) = super::search::next(&curve, &states) {
        measure(run, curve.levels[index].arrangement, requests);
        states[index] = state(run, index);
        order.push(curve.levels[index].tenants);
    }
    (order, states)
}
