//! Calibration: closed-loop arms that fix rates, windows and what can be judged, before the first block.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::backend::{ArmKey, ArmPlan, BackendError, Load, Session, Window};
use crate::plan::{Grid, Plan};
use crate::run_dir::{Calibration, JudgedBy, NeighbourCalibration, ProbeCalibration};
use crate::scenario::{Arrivals, Quantile};
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
const EXCEEDANCES: f64 = 10.0;
/// Requests per window below which nothing is judged.
const LEAST: f64 = 20.0;

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
    let arm = |noise, windows| ArmPlan {
        key: ArmKey { arrangement, grid: grid_index, block: u32::MAX, neighbour: noise },
        noise,
        windows,
        washout: plan.design.washout,
        drain: plan.design.drain,
    };

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
                        return Err(BackendError {
                            what: format!(
                                "{}: no request completed within {LONGEST} beside a quiet neighbour",
                                planned.name
                            ),
                        });
                    }
                    rates.push(rate);
                }
                let lowest = rates.into_iter().filter(|r| r.0 > 0).min().unwrap_or_default();
                (Some(lowest), Rate((lowest.0 / PART).max(1)))
            }
        };
        let (window, judged) = judged(plan, rate);
        probes.push(ProbeCalibration { probe, closed_rate, rate, window, judged });
    }
    Ok(Some(Calibration { arrangement, grid: grid_index, probes, neighbours }))
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
        let window = Window { probe, load: Load::Open { rate: Rate(0), poisson: false }, length };
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
        let window = Window { probe, load: Load::Closed { depth }, length };
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

/// Time that calibrating a grid takes where every probe is quick enough for its first window.
pub(crate) fn length(plan: &Plan, grid: &Grid) -> Nanos {
    let auto = grid.probes.iter().filter(|p| plan.panel[**p].arrivals == Arrivals::Auto).count() as u64;
    let states = grid.neighbours.len() as u64 + 1;
    (plan.design.washout + CLOSED) * (auto * states) + (plan.design.washout + SOLO) * grid.neighbours.len() as u64
}

/// The window of a probe as far as the plan tells it: a rate of the user's fixes it, `auto` is known after calibration.
pub(crate) fn planned_window(plan: &Plan, probe: usize) -> Nanos {
    match plan.panel[probe].arrivals {
        Arrivals::Poisson(rate) | Arrivals::Fixed(rate) => judged(plan, rate).0,
        Arrivals::Auto => plan.design.window,
    }
}

/// Window length for `rate`, lengthened up to the design's limit where the highest judged quantile needs it, and how
/// each declared quantile is judged there. The rate is never raised.
fn judged(plan: &Plan, rate: Rate) -> (Nanos, Vec<(Quantile, JudgedBy)>) {
    let design = &plan.design;
    let blocks = f64::from(design.blocks);
    let needed = |q: Quantile| LEAST.max((EXCEEDANCES / ((1.0 - q.as_f64()) * blocks)).ceil());
    let requests = |window: Nanos| rate.as_f64() * window.as_secs_f64();

    let mut window = design.window;
    if let Some(highest) = design.judged.last() {
        // Poisson counts scatter: a tenth more than needed, so that the plan's count is met in the mean.
        let wanted = needed(*highest) * 1.1;
        if requests(window) < wanted && rate.0 > 0 {
            let length = Nanos::millis((wanted / rate.as_f64() * 1e3).ceil() as u64);
            window = length.clamp(design.window, design.max_window.max(design.window));
        }
    }
    let how = |q: Quantile| {
        let exceedances = requests(window) * (1.0 - q.as_f64());
        if exceedances >= EXCEEDANCES && requests(window) >= LEAST {
            JudgedBy::Blocks
        } else if requests(window) >= needed(q) {
            JudgedBy::Pooled
        } else {
            JudgedBy::TooFew
        }
    };
    (window, design.judged.iter().map(|q| (*q, how(*q))).collect())
}
