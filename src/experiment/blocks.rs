//! The arms between two restarts: pure, from plan, calibration and seed.

use crate::backend::{ArmKey, ArmPlan, Load, Purpose, Window};
use crate::channel::Channel;
use crate::plan::{Grid, Plan};
use crate::random::{Key, Stream};
use crate::run_dir::{Calibration, ProbeCalibration};
use crate::scenario::Arrivals;
use crate::units::{Nanos, Rate, Share};

/// A pair within the victim's place sees at least so many requests, in windows no shorter than this.
const WITHIN: (u64, Nanos) = (50, Nanos::millis(100));

/// What chance decides of a block.
struct Shuffled {
    /// Order of the windows, as indices into the grid's probes.
    windows: Vec<usize>,
    /// The arms, as if every neighbour had one.
    keys: Vec<ArmKey>,
}

/// Arms in random order, but noise that loads the power channel comes last, so that its heat reaches no other arm of the
/// block; the further quiet arms at random places before that. Windows in random order, the same in all arms.
fn shuffled(plan: &Plan, arrangement: usize, grid_index: usize, block: u32, purpose: Purpose) -> Shuffled {
    let planned = &plan.arrangements[arrangement];
    let grid = &planned.grids[grid_index];
    let stream = |what| Stream::new(plan.seed, &[Key::Name(&planned.name), Key::Number(block.into()), Key::Name(what)]);
    let mut order = stream(if purpose == Purpose::Within { "within" } else { "order" });
    let mut windows: Vec<usize> = (0..grid.probes.len()).collect();
    order.shuffle(&mut windows);

    let beside =
        if purpose == Purpose::Within { plan.exercised(arrangement, grid_index) } else { grid.neighbours.clone() };
    let mut states: Vec<Option<usize>> = std::iter::once(None).chain(beside.into_iter().map(Some)).collect();
    order.shuffle(&mut states);
    let heats = |n: &Option<usize>| n.is_some_and(|n| plan.neighbours[n].channels.contains(&Channel::Power));
    states.sort_by_key(heats);
    let key = |neighbour, purpose| ArmKey { arrangement, grid: grid_index, block, neighbour, purpose };
    let mut keys: Vec<ArmKey> = states.iter().map(|state| key(*state, purpose)).collect();
    if purpose == Purpose::Block {
        let cool = states.iter().take_while(|state| !heats(state)).count() as u64;
        for (cool, further) in (cool..).zip(plan.further_quiet(arrangement, grid_index, block)) {
            // A stream of its own for each: the others stand where they would without it.
            keys.insert(stream(further.id()).below(cool + 1) as usize, key(None, further));
        }
    }
    Shuffled { windows, keys }
}

/// The order in which the arms of a block are run, as if no neighbour had stopped: those of one that has are left out, and
/// the others keep theirs.
pub(crate) fn order(plan: &Plan, arrangement: usize, grid: usize, block: u32) -> Vec<ArmKey> {
    shuffled(plan, arrangement, grid, block, Purpose::Block).keys
}

/// The arms of `block` that are `planned`, in their order, as `calibration` has fixed their windows.
pub(crate) fn arms(plan: &Plan, calibration: &Calibration, planned: &[ArmKey]) -> Vec<ArmPlan> {
    let Some(first) = planned.first() else { return Vec::new() };
    let purpose = first.purpose.of_block();
    let (arrangement, grid, block) = (first.arrangement, first.grid, first.block);
    // The victim alone has the windows of the block that it is compared with.
    let of = if purpose == Purpose::Alone { Purpose::Block } else { purpose };
    let Shuffled { windows, keys } = shuffled(plan, arrangement, grid, block, of);
    let keys = match purpose {
        Purpose::Alone => planned.to_vec(),
        Purpose::Within => keys,
        _ => order(plan, arrangement, grid, block),
    };
    let window = |probe: &ProbeCalibration| Window {
        probe: probe.probe,
        load: open_load(plan, probe.probe, probe.rate),
        length: match purpose {
            Purpose::Within => {
                let grid = &plan.arrangements[arrangement].grids[grid];
                within_window(plan, grid, probe.rate.as_f64(), probe.window)
            }
            _ => probe.window,
        },
        delay: Nanos::ZERO,
        seat: None,
    };
    let probes: Vec<&ProbeCalibration> = windows.iter().filter_map(|index| calibration.probes.get(*index)).collect();
    let planned_arrangement = &plan.arrangements[arrangement];
    let windows: Vec<Window> = match planned_arrangement.density {
        None => probes.iter().map(|probe| window(probe)).collect(),
        Some(_) => {
            let seats = planned_arrangement.victims(&planned_arrangement.grids[grid]);
            let tenants = seats.flat_map(|seat| probes.iter().map(move |probe| (seat, probe)));
            tenants.map(|(seat, probe)| Window { seat: Some(seat), ..window(probe) }).collect()
        }
    };
    // Probes that nobody holds back would only make the arm longer.
    let held_back = probes.iter().filter_map(|probe| Some(Window { delay: probe.delay?, ..window(probe) }));
    let delayed: Vec<Window> = held_back.collect();
    keys.into_iter()
        .filter(|key| planned.contains(key))
        .map(|key| ArmPlan {
            noise: key.neighbour,
            windows: if key.purpose == Purpose::Delayed { delayed.clone() } else { windows.clone() },
            washout: plan.design.washout,
            drain: plan.design.drain,
            sampled: key.purpose != Purpose::Unsampled,
            key,
        })
        .collect()
}

/// A probe's open loop at `rate`.
pub(super) fn open_load(plan: &Plan, probe: usize, rate: Rate) -> Load {
    Load::Open { rate, poisson: !matches!(plan.panel[probe].arrivals, Arrivals::Fixed(_)) }
}

/// A window of the sensitivity control, and of the calibration of a delay, for a probe at `rate` (per second) whose windows in blocks are `window`: a large
/// effect is looked for, so a short one will do, but one that holds a burst and a pause of noise that makes them.
pub(super) fn within_window(plan: &Plan, grid: &Grid, rate: f64, window: Nanos) -> Nanos {
    let enough = WITHIN.0 as f64 / rate.max(1e-3);
    let in_bursts = grid.neighbours.iter().map(|n| &plan.neighbours[*n]).filter(|n| n.duty < Share::percent(100));
    let burst = in_bursts.map(|n| n.burst).max().unwrap_or_default();
    Nanos::millis((enough * 1e3).ceil() as u64).max(WITHIN.1).max(burst).min(window)
}

/// The generations of a grid: ranges of blocks between two restarts of the tenants.
pub(crate) fn generations(plan: &Plan, grid: &Grid) -> Vec<(u32, std::ops::Range<u32>)> {
    let each = plan.design.blocks_per_generation.max(1);
    let end = grid.first_block + plan.design.blocks;
    (0..plan.design.generations())
        .map(|g| {
            let first = grid.first_block + g * each;
            (g, first..(first + each).min(end))
        })
        .collect()
}
