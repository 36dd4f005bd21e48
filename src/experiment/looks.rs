//! What is to be run, stage by stage: a stage ends with a look at the data, after which neighbours of which everything is
//! decided have no more arms.

use crate::backend::{ArmKey, Purpose};
use crate::plan::Plan;
use crate::run_dir::RecordedRun;
use crate::verdict;

use super::blocks::generations;

/// The arms between two restarts of the tenants, some of them still to be committed.
pub(super) struct Generation {
    pub(super) grid: usize,
    /// What follows a restart depends on it.
    pub(super) number: u32,
    pub(super) purpose: Purpose,
    /// By block: the arms that belong together.
    pub(super) blocks: Vec<Vec<ArmKey>>,
    pub(super) missing: Vec<ArmKey>,
}

/// Stages of a grid: one per look.
pub(super) fn stages(plan: &Plan) -> usize {
    plan.design.looks.len().max(1)
}

/// Arms of an arrangement that are still to be run, as far as anybody knows before the looks that are still to come.
pub(super) fn left(run: &RecordedRun, arrangement: usize) -> u64 {
    let plan = &run.manifest.plan;
    let grids = 0..plan.arrangements[arrangement].grids.len();
    let stages = grids.flat_map(|grid| (0..stages(plan)).map(move |stage| (grid, stage)));
    stages.flat_map(|(grid, stage)| remaining(run, arrangement, grid, stage)).map(|g| g.missing.len() as u64).sum()
}

/// What is still to be run of one stage of a grid. The sensitivity control comes first, so that no look is taken without it;
/// the arm without neighbours follows the blocks of its generation.
pub(super) fn remaining(run: &RecordedRun, arrangement: usize, grid: usize, stage: usize) -> Vec<Generation> {
    let plan = &run.manifest.plan;
    let planned = &plan.arrangements[arrangement].grids[grid];
    let mut work = Vec::new();
    let mut add = |number: u32, purpose: Purpose, blocks: std::ops::Range<u32>| {
        if run.no_control.contains_key(&(arrangement, grid, purpose)) {
            return;
        }
        let blocks: Vec<_> = blocks.map(|block| run.planned(arrangement, grid, block, purpose)).collect();
        let missing: Vec<_> = blocks.iter().flatten().filter(|key| !run.arms.contains_key(key)).cloned().collect();
        if !missing.is_empty() {
            work.push(Generation { grid, number, purpose, blocks, missing });
        }
    };
    let first = planned.first_block;
    if stage == 0 {
        let pairs = plan.sensitivity(arrangement, grid);
        add(plan.design.generations(), Purpose::Within, first..first.saturating_add(pairs));
    }
    let begin = if stage == 0 { 0 } else { plan.design.blocks_by(stage - 1) };
    let end = if stage + 1 < stages(plan) { plan.design.blocks_by(stage) } else { plan.design.blocks };
    let alone = plan.presence(arrangement, grid);
    for (number, blocks) in generations(plan, planned) {
        if !(begin..end).contains(&(blocks.start - first)) || !goes_on(run, arrangement, grid, blocks.start) {
            continue;
        }
        let start = blocks.start;
        add(number, Purpose::Block, blocks);
        if number < alone {
            add(number, Purpose::Alone, start..start + 1);
        }
    }
    work
}

/// Whether any neighbour of the grid has an arm in `block`. Equal tenants have one in every block.
fn goes_on(run: &RecordedRun, arrangement: usize, grid: usize, block: u32) -> bool {
    let planned = &run.manifest.plan.arrangements[arrangement];
    let neighbours = &planned.grids[grid].neighbours;
    planned.density.is_some() || neighbours.iter().any(|neighbour| run.runs(arrangement, grid, *neighbour, block))
}

/// Takes a look that is not the last one: the neighbours of the grid of which everything is decided now. One that has gone
/// on from this look in an earlier session goes on.
pub(super) fn take(run: &RecordedRun, arrangement: usize, grid: usize, look: usize) -> Vec<usize> {
    let plan = &run.manifest.plan;
    let planned = &plan.arrangements[arrangement].grids[grid];
    let next = planned.first_block + plan.design.blocks_by(look);
    let went_on = |neighbour: usize| {
        let later = |key: &ArmKey| {
            (key.arrangement, key.grid, key.neighbour, key.purpose)
                == (arrangement, grid, Some(neighbour), Purpose::Block)
                && key.block >= next
        };
        run.arms.keys().any(later)
    };
    let open = |neighbour: &usize| !run.stopped.contains_key(&(arrangement, grid, *neighbour)) && !went_on(*neighbour);
    let neighbours = planned.neighbours.iter().copied().filter(open);
    neighbours.filter(|neighbour| verdict::decided(run, arrangement, grid, *neighbour, look)).collect()
}

/// Arms that an arrangement runs where nobody stops early and no control is impossible, calibration aside.
pub fn planned_arms(plan: &Plan, arrangement: usize) -> u64 {
    if plan.arrangements[arrangement].density.is_some() {
        return plan.design.blocks.into();
    }
    let grids = plan.arrangements[arrangement].grids.iter().enumerate();
    grids
        .map(|(index, grid)| {
            let arms = grid.neighbours.len() as u64 + 1 + u64::from(plan.design.controls.again);
            let pair = plan.exercised(arrangement, index).len() as u64 + 1;
            u64::from(plan.design.blocks) * arms
                + u64::from(plan.presence(arrangement, index))
                + u64::from(plan.unsampled(arrangement, index))
                + u64::from(plan.delays(arrangement, index))
                + u64::from(plan.sensitivity(arrangement, index)) * pair
        })
        .sum()
}
