//! Whether a look at the data decides a cell.

use super::types::Verdict;
use crate::run_dir::RecordedRun;

/// Whether everything that is judged of `neighbour` in a grid is decided at look `look`: the data of that look alone are
/// judged. Cells of several grids are judged when they are whole.
pub(crate) fn decided(run: &RecordedRun, arrangement: usize, grid: usize, neighbour: usize, look: usize) -> bool {
    let Some(at) = run.manifest.plan.design.looks.get(look) else { return false };
    let mut seen = run.clone();
    let planned = &mut seen.manifest.plan.arrangements[arrangement];
    let first = planned.grids[grid].first_block;
    let of_cell = planned.grids.iter().filter(|g| g.victim == planned.grids[grid].victim);
    if of_cell.filter(|g| g.neighbours.contains(&neighbour)).count() != 1 {
        return false;
    }
    let victim = planned.grids[grid].victim;
    let seat = planned.seats.get(victim).map(|seat| seat.id.clone());
    seen.manifest.plan.design.blocks = at.blocks;
    seen.arms.retain(|key, _| {
        (key.arrangement, key.grid) == (arrangement, grid)
            && key.block < first + at.blocks
            && key.neighbour.is_none_or(|n| n == neighbour)
    });
    let verdict = super::judge(&seen);
    let cell = verdict
        .cells
        .iter()
        .find(|c| (c.arrangement, c.neighbour, Some(&c.seat)) == (arrangement, neighbour, seat.as_ref()));
    cell.is_some_and(|cell| !cell.series.is_empty() && cell.series.iter().all(|s| s.verdict == Verdict::Violated))
}
