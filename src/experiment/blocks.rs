//! The arms of a block: pure, from plan, calibration and seed.

use crate::backend::{ArmKey, ArmPlan, Load, Purpose, Window};
use crate::channel::Channel;
use crate::plan::{Grid, Plan};
use crate::random::{Key, Stream};
use crate::run_dir::Calibration;
use crate::scenario::Arrivals;

/// Quiet arm and one arm per neighbour of `block`, in random order; windows in random order, the same in all arms.
/// Noise that loads the power channel comes last, so that its heat reaches no other arm of the block.
pub(crate) fn arms(
    plan: &Plan,
    arrangement: usize,
    grid_index: usize,
    block: u32,
    calibration: &Calibration,
) -> Vec<ArmPlan> {
    let planned = &plan.arrangements[arrangement];
    let grid = &planned.grids[grid_index];
    let mut stream = Stream::new(plan.seed, &[Key::Name(&planned.name), Key::Number(block.into()), Key::Name("order")]);

    let mut windows: Vec<Window> = calibration
        .probes
        .iter()
        .map(|p| Window {
            probe: p.probe,
            load: Load::Open { rate: p.rate, poisson: !matches!(plan.panel[p.probe].arrivals, Arrivals::Fixed(_)) },
            length: p.window,
        })
        .collect();
    stream.shuffle(&mut windows);

    let mut states: Vec<Option<usize>> =
        std::iter::once(None).chain(grid.neighbours.iter().copied().map(Some)).collect();
    stream.shuffle(&mut states);
    states.sort_by_key(|n| n.is_some_and(|n| plan.neighbours[n].channels.contains(&Channel::Power)));

    states
        .into_iter()
        .map(|noise| ArmPlan {
            key: ArmKey { arrangement, grid: grid_index, block, neighbour: noise, purpose: Purpose::Block },
            noise,
            windows: windows.clone(),
            washout: plan.design.washout,
            drain: plan.design.drain,
        })
        .collect()
}

/// The generations of a grid: ranges of blocks between two restarts of the tenants.
pub(crate) fn generations(plan: &Plan, grid: &Grid) -> Vec<(u32, std::ops::Range<u32>)> {
    let each = plan.design.blocks_per_generation.max(1);
    let end = grid.first_block + plan.design.blocks;
    (0..plan.design.blocks.div_ceil(each))
        .map(|g| {
            let first = grid.first_block + g * each;
            (g, first..(first + each).min(end))
        })
        .collect()
}
