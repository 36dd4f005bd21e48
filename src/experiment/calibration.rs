//! Calibration: closed-loop arms that fix rates, windows and what can be judged, before the first block.

use std::sync::atomic::{AtomicBool, Ordering};

use super::blocks::{open_load, within_window};
use super::{arm_of_no_block, turns};
use crate::backend::{ArmPlan, BackendError, Load, Session, Window};
use crate::plan::{Grid, Plan};
use crate::run_dir::{Calibration, JudgedBy, NeighbourCalibration, ProbeCalibration};
use crate::scenario::{Arrivals, Design, Quantile};
use crate::units::{Nanos, Rate};

/// Length of a closed-loop window.
const CLOSED: Nanos = Nanos::millis(100);
/// Length of the window in which a neighbour runs alone.
const SOLO: Nanos = Nanos::millis(200);
/// Requests a calibration window should see, and the longest it may be lengthened to.
const ENOUGH: u64 = 10;
const LONGEST: Nanos = Nanos::secs(4);
/// A neighbour with pauses runs alone for at least this many of its bursts.
const BURSTS: u64 = 3;
/// `auto` is this part of the closed-loop rate (verdict.md): one tenth.
const PART: u64 = 10;
/// Expected exceedances that a per-arm quantile needs, and that a pooled one needs over all blocks.
const EXCEEDANCES: u64 = 10;
/// Requests per window below which nothing is judged.
const LEAST: u64 = 20;

/// Calibrates one grid on a session of its own generation; `None` where it is asked to stop.
///
/// # Errors
/// Where an arm fails, or a probe completes nothing at all: with its name.
pub(crate) fn calibrate(
    plan: &Plan,
    arrangement: usize,
    grid_index: usize,
    session: &mut dyn Session,
    stop: &AtomicBool,
) -> Result<Option<Calibration>, BackendError> {
    let stopped = || stop.load(Ordering::Relaxed);
    let grid = &plan.arrangements[arrangement].grids[grid_index];
    let states: Vec<Option<usize>> = std::iter::once(None).chain(grid.neighbours.iter().copied().map(Some)).collect();
    let arm = |noise, windows| arm_of_no_block(plan, (arrangement, grid_index), noise, windows);

    let mut neighbours = Vec::with_capacity(grid.neighbours.len());
    for &neighbour in &grid.neighbours {
        if stopped() {
            return Ok(None);
        }
        let burst = plan.neighbours[neighbour].burst;
        let solo_rate = solo_rate(grid.probes[0], neighbour, SOLO.max(burst * BURSTS), &arm, session)?;
        neighbours.push(NeighbourCalibration { neighbour, solo_rate });
    }

    let mut probes = Vec::with_capacity(grid.probes.len());
    for &probe in &grid.probes {
        let planned = &plan.panel[probe];
        let (closed_rate, rate) = match planned.arrivals {
            Arrivals::Poisson(rate) | Arrivals::Fixed(rate) => (None, rate),
            Arrivals::Auto => {
                let mut rates = Vec::with_capacity(states.len());
                for &noise in &states {
                    if stopped() {
                        return Ok(None);
                    }
                    let rate = closed_rate(probe, planned.outstanding, noise, &arm, session)?;
                    // Beside a neighbour that lets nothing through, the others say what load is fair, and its own arms
                    // show what it does. A probe that does not even run undisturbed cannot be calibrated.
                    if noise.is_none() && rate.0 == 0 {
                        return Err(BackendError::arrangement(format!(
                            "{}: no request completed within {LONGEST} beside a quiet neighbour",
                            planned.name
                        )));
                    }
                    rates.push(rate);
                }
                let lowest = rates.into_iter().filter(|r| r.0 > 0).min().unwrap_or_default();
                (Some(lowest), auto_rate(lowest))
            }
        };
        let (window, judged) = judged(&plan.design, rate);
        if stopped() {
            return Ok(None);
        }
        let delay = match plan.delayed(arrangement, grid_index).contains(&probe) {
            true => Some(delay(plan, grid, (probe, rate, window), &arm, session)?),
            false => None,
        };
        probes.push(ProbeCalibration { probe, closed_rate, rate, window, judged, delay });
    }
    let planned = &plan.arrangements[arrangement];
    let turns = match turns::measured_in(plan, planned) {
        Some((index, measure)) if index == grid_index && !stopped() => measure.run(plan, &arm, session)?,
        _ => None,
    };
    Ok(Some(Calibration { arrangement, grid: grid_index, probes, neighbours, turns }))
}

/// Rate of a neighbour alone over all its seats, in a window long enough to see some of its requests.
fn solo_rate(
    probe: usize,
    neighbour: usize,
    shortest: Nanos,
    arm: &impl Fn(Option<usize>, Vec<Window>) -> ArmPlan,
    session: &mut dyn Session,
) -> Result<f64, BackendError> {
    let mut length = shortest;
    loop {
        let window = Window {
            probe,
            load: Load::Open { rate: Rate(0), poisson: false },
            length,
            delay: Nanos::ZERO,
            seat: None,
        };
        let summary = session.run_arm(&arm(Some(neighbour), vec![window]))?.summary;
        let fewest = summary.neighbours.iter().map(|n| n.completed).min().unwrap_or(0);
        if fewest >= ENOUGH || length >= LONGEST.max(shortest) {
            return Ok(summary.neighbours.iter().map(|n| n.rate).sum());
        }
        length = (length * 4).min(LONGEST.max(shortest));
    }
}

/// Rate of a closed loop at the outstanding limit beside `noise`, in a window long enough to see some requests.
fn closed_rate(
    probe: usize,
    depth: u32,
    noise: Option<usize>,
    arm: &impl Fn(Option<usize>, Vec<Window>) -> ArmPlan,
    session: &mut dyn Session,
) -> Result<Rate, BackendError> {
    let mut length = CLOSED;
    loop {
        let window = Window { probe, load: Load::Closed { depth }, length, delay: Nanos::ZERO, seat: None };
        let record = session.run_arm(&arm(noise, vec![window]))?;
        let end = record.summary.windows.first().map_or(length, |w| w.start + w.length);
        // Only what completed inside the window: the drain after it would flatter a slow probe.
        let inside = |s: &&crate::backend::Sample| s.series == 0 && s.completed.is_some_and(|c| c <= end);
        let completed = record.samples.iter().filter(inside).count() as u64;
        if completed >= ENOUGH || length >= LONGEST {
            return Ok(Rate::from_f64(completed as f64 / length.as_secs_f64()));
        }
        length = (length * 4).min(LONGEST);
    }
}

/// What the delay control holds each request of a probe back by: what an Isolated excludes at the median, as a probe at `rate`
/// has it beside a quiet neighbour. A median among requests that are open at the deadline is taken there: it is no less.
fn delay(
    plan: &Plan,
    grid: &Grid,
    (probe, rate, window): (usize, Rate, Nanos),
    arm: &impl Fn(Option<usize>, Vec<Window>) -> ArmPlan,
    session: &mut dyn Session,
) -> Result<Nanos, BackendError> {
    let length = within_window(plan, grid, rate.as_f64(), window);
    let window = Window { probe, load: open_load(plan, probe, rate), length, delay: Nanos::ZERO, seat: None };
    let record = session.run_arm(&arm(None, vec![window]))?;
    let of_requests = record.samples.iter().filter(|s| s.series == 0);
    let mut latencies: Vec<Nanos> =
        of_requests.map(|s| s.completed.map_or(plan.design.drain, |done| done - s.planned)).collect();
    latencies.sort_unstable();
    let median = latencies.get(latencies.len() / 2).copied().unwrap_or(plan.design.drain);
    let margin = plan.design.margins.of(Quantile::P50).0;
    Ok(Nanos((median.0 as f64 * margin).ceil() as u64).max(Nanos(1)))
}

/// How long one request takes, as far as it is foreseen: of the probes of a grid and of its neighbours, in their order.
pub(super) struct Foreseen {
    pub(super) probes: Vec<Option<Nanos>>,
    pub(super) neighbours: Vec<Option<Nanos>>,
}

/// The windows of every arm that calibrating a grid takes. A request whose length is not foreseen is taken for a quick one.
pub(super) fn foreseen_windows(plan: &Plan, (arrangement, index): (usize, usize), foreseen: &Foreseen) -> Vec<Nanos> {
    let grid = &plan.arrangements[arrangement].grids[index];
    let held_back = plan.delayed(arrangement, index);
    let delays = grid.probes.iter().zip(&foreseen.probes).filter(|(probe, _)| held_back.contains(probe));
    let mut windows: Vec<Nanos> = delays.map(|(probe, request)| short_window(plan, grid, *probe, *request)).collect();
    let mut lengthened = |shortest: Nanos, request: Option<Nanos>| {
        let (mut length, longest) = (shortest, LONGEST.max(shortest));
        windows.push(length);
        while length < longest && request.is_some_and(|request| request * ENOUGH > length) {
            length = (length * 4).min(longest);
            windows.push(length);
        }
    };
    for (neighbour, request) in grid.neighbours.iter().zip(&foreseen.neighbours) {
        lengthened(SOLO.max(plan.neighbours[*neighbour].burst * BURSTS), *request);
    }
    for (probe, request) in grid.probes.iter().zip(&foreseen.probes) {
        if plan.panel[*probe].arrivals == Arrivals::Auto {
            (0..=grid.neighbours.len()).for_each(|_| lengthened(CLOSED, *request));
        }
    }
    windows
}

/// The window of a probe as far as the plan tells it: a rate of the user's fixes it; `auto` is known after calibration, and
/// foreseen from how long a `request` takes.
pub(super) fn planned_window(plan: &Plan, probe: usize, request: Option<Nanos>) -> Nanos {
    planned_rate(plan, probe, request).map_or(plan.design.window, |rate| judged(&plan.design, rate).0)
}

/// Its short window, likewise: that of the sensitivity control.
pub(super) fn short_window(plan: &Plan, grid: &Grid, probe: usize, request: Option<Nanos>) -> Nanos {
    let window = planned_window(plan, probe, request);
    planned_rate(plan, probe, request).map_or(window, |rate| within_window(plan, grid, rate.as_f64(), window))
}

/// The rate of a probe, likewise; `None`: not foreseen.
pub(super) fn planned_rate(plan: &Plan, probe: usize, request: Option<Nanos>) -> Option<Rate> {
    match plan.panel[probe].arrivals {
        Arrivals::Poisson(rate) | Arrivals::Fixed(rate) => Some(rate),
        Arrivals::Auto => {
            let closed = Rate::from_f64(1e9 / request?.0.max(1) as f64);
            Some(auto_rate(closed))
        }
    }
}

/// The rate of `auto` arrivals, from that of a closed loop.
pub(crate) fn auto_rate(closed: Rate) -> Rate {
    Rate((closed.0 / PART).max(1))
}

/// Requests expected in a window from which a quantile is judged by blocks.
pub(crate) fn needed_by_blocks(q: Quantile) -> u64 {
    needed_over(q, 1)
}

/// Requests expected in a window from which a quantile is judged over all blocks together.
pub(crate) fn needed_pooled(q: Quantile, blocks: u32) -> u64 {
    needed_over(q, blocks)
}

fn needed_over(q: Quantile, windows: u32) -> u64 {
    // So many of 100 000 requests exceed the quantile.
    let exceeding = u64::from(100_000_u32.saturating_sub(q.0)) * u64::from(windows);
    (EXCEEDANCES * 100_000).div_ceil(exceeding.max(1)).max(LEAST)
}

/// Window length for `rate`, lengthened up to the design's limit where the highest judged quantile needs it to be judged
/// pooled, and how each declared quantile is judged there. The rate is never raised. This is the only such rule: `check`
/// prints what it says.
pub(crate) fn judged(design: &Design, rate: Rate) -> (Nanos, Vec<(Quantile, JudgedBy)>) {
    let requests = |window: Nanos| rate.as_f64() * window.as_secs_f64();

    let mut window = design.window;
    if let Some(highest) = design.judged.last() {
        // Poisson counts scatter: a tenth more than needed, so that the plan's count is met in the mean.
        let wanted = needed_pooled(*highest, design.blocks) as f64 * 1.1;
        if requests(window) < wanted && rate.0 > 0 {
            let length = Nanos::millis((wanted / rate.as_f64() * 1e3).ceil() as u64);
            window = length.clamp(design.window, design.max_window.max(design.window));
        }
    }
    let how = |q: Quantile| {
        if requests(window) >= needed_by_blocks(q) as f64 {
            JudgedBy::Blocks
        } else if requests(window) >= needed_pooled(q, design.blocks) as f64 {
            JudgedBy::Pooled
        } else {
            JudgedBy::TooFew
        }
    };
    (window, design.judged.iter().map(|q| (*q, how(*q))).collect())
}

/// The lowest rate at which a declared quantile is judged by blocks or, where `pooled` will do, over all blocks
/// together: found by asking [`judged`].
pub(crate) fn lowest_rate(design: &Design, q: Quantile, pooled: bool) -> Rate {
    let holds = |rate: u64| {
        judged(design, Rate(rate))
            .1
            .iter()
            .any(|(declared, by)| *declared == q && (*by == JudgedBy::Blocks || pooled && *by == JudgedBy::Pooled))
    };
    // More requests are never judged less. The upper end is beyond any device.
    let (mut fails, mut enough) = (0, 1_u64 << 50);
    while enough - fails > 1 {
        let middle = fails + (enough - fails) / 2;
        if holds(middle) { enough = middle } else { fails = middle }
    }
    Rate(enough)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Controls, Margins, Tier};

    /// p50 and p99 over 24 blocks of 400 ms, lengthened to 2 s at most.
    fn design() -> Design {
        Design {
            tier: Tier::Smoke,
            blocks: 24,
            blocks_per_generation: 4,
            window: Nanos::millis(400),
            max_window: Nanos::secs(2),
            washout: Nanos::secs(1),
            drain: Nanos::secs(2),
            judged: vec![Quantile::P50, Quantile::P99],
            margins: Margins::default(),
            looks: Vec::new(),
            controls: Controls::default(),
            max_duration: None,
        }
    }

    fn at(rate: u64) -> (Nanos, [JudgedBy; 2]) {
        let (window, judged) = judged(&design(), Rate::per_second(rate));
        (window, [judged[0].1, judged[1].1])
    }

    #[test]
    fn requests_needed_follow_from_ten_exceedances() {
        // p99: one in a hundred exceeds, so 1000 in a window; over 24 blocks 1000 / 24 = 41.7. Never below twenty.
        assert_eq!(needed_by_blocks(Quantile::P99), 1_000);
        assert_eq!(needed_pooled(Quantile::P99, 24), 42);
        assert_eq!(needed_by_blocks(Quantile::P50), 20);
        assert_eq!(needed_pooled(Quantile::P50, 24), 20);
        assert_eq!(needed_by_blocks(Quantile::P999), 10_000);
    }

    #[test]
    fn the_requests_of_a_window_decide_how_a_quantile_is_judged() {
        use JudgedBy::{Blocks, Pooled, TooFew};
        let short = Nanos::millis(400);
        // 2500/s × 0.4 s = 1000 requests: ten beyond p99 in each arm.
        assert_eq!(at(2_500), (short, [Blocks, Blocks]));
        // One less, and the window is not lengthened for it: pooled is enough.
        assert_eq!(at(2_497), (short, [Blocks, Pooled]));
        assert_eq!(at(120), (short, [Blocks, Pooled]));
        // 100/s: 40 of the 42 that p99 needs pooled. A tenth more than 42 take 462 ms.
        assert_eq!(at(100), (Nanos::millis(462), [Blocks, Pooled]));
        // 21/s: 46.2 would take 2.2 s, beyond the longest window; 2 s give just 42.
        assert_eq!(at(21), (Nanos::secs(2), [Blocks, Pooled]));
        assert_eq!(at(20), (Nanos::secs(2), [Blocks, TooFew]));
        assert_eq!(at(9), (Nanos::secs(2), [TooFew, TooFew]));
        assert_eq!(at(0), (short, [TooFew, TooFew]));
    }

    #[test]
    fn a_window_is_never_longer_than_the_design_allows_nor_shorter_than_its_own() {
        for rate in (0..4_000).step_by(7) {
            let window = at(rate).0;
            assert!((Nanos::millis(400)..=Nanos::secs(2)).contains(&window), "{window} at {rate}/s");
        }
        let odd = Design { max_window: Nanos::millis(100), ..design() };
        assert_eq!(judged(&odd, Rate::per_second(20)).0, Nanos::millis(400));
    }

    #[test]
    fn the_lowest_rate_is_where_the_rule_turns() {
        for (q, pooled, rate) in [
            (Quantile::P99, false, 2_500),
            (Quantile::P99, true, 21),
            (Quantile::P50, false, 10),
            (Quantile::P50, true, 10),
        ] {
            let lowest = lowest_rate(&design(), q, pooled);
            assert!(lowest.0.abs_diff(Rate::per_second(rate).0) <= 1, "{q} pooled {pooled}: {lowest:?}");
        }
    }
}
