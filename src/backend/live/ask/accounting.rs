//! `accounting`: NVML's use by process against what two known loads used.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::clock::now;
use crate::nvml::ProcessUse;
use crate::observation::Observed;
use crate::observation::accounting::{Share as Told, absent, judge};
use crate::units::{Nanos, Share};

use super::super::session::LiveSession;
use super::load::{Loads, sleep};
use super::{Pair, Stop};

/// How long both work, and how often NVML is asked meanwhile: its own periods are 1/6 s to 1 s.
const TOGETHER: Nanos = Nanos::secs(5);
const EVERY: Nanos = Nanos::millis(500);
/// The neighbour's part of the time, of which turns may leave it less.
const NEIGHBOUR: Share = Share::percent(30);

pub(super) fn ask(session: &mut LiveSession<'_>, pair: &Pair) -> Result<Observed, Stop> {
    let watch = session.live.watch();
    // A driver that has no such account has none whatever runs.
    let mut since = match watch.used_by_process(0) {
        Ok(used) => used.iter().map(|used| used.at).max().unwrap_or(0),
        Err(error) if error.is_loss() => return Err(Stop::Lost(crate::backend::BackendError::device(error.what))),
        Err(error) => return Ok(absent(&error.what)),
    };
    if let Err(Stop::Untold(_)) = pair.apart() {
        return Ok(absent("victim and neighbour live in one process, which has one account"));
    }
    let mut loads = Loads::start(session, pair)?;
    let each = loads.alone()?;
    loads.work(0, Share::percent(100))?;
    loads.work(1, NEIGHBOUR)?;
    sleep(Nanos::millis(500));
    // What was told until here belongs to other loads.
    since = watch.used_by_process(since).ok().and_then(|used| used.iter().map(|u| u.at).max()).unwrap_or(since);
    let before = [0, 1].map(|index| loads.beside.progress(index).0);
    let begun = now();
    let mut told: Vec<ProcessUse> = Vec::new();
    while now().saturating_sub(begun) < TOGETHER {
        sleep(EVERY);
        // A reading that fails is one less.
        let used = watch.used_by_process(since).unwrap_or_default();
        since = used.iter().map(|used| used.at).max().unwrap_or(since);
        told.extend(used);
    }
    let length = now().saturating_sub(begun);
    let after = [0, 1].map(|index| loads.beside.progress(index).0);
    let pids = [0, 1].map(|index| loads.beside.pid(index));
    loads.beside.quiet()?;
    loads.beside.end()?;
    let known = |index: usize| {
        let done = after[index].saturating_sub(before[index]);
        done as f64 * each[index].0 as f64 / length.0.max(1) as f64
    };
    let (mean, readings) = average(&told);
    let share = |index: usize| Told { known: known(index), told: mean.get(&pids[index]).copied().unwrap_or(0.0) };
    Ok(judge(share(0), share(1), readings))
}

/// Of each process the mean over the driver's periods, and how many those were. Who did nothing in a period is not named in
/// it.
fn average(told: &[ProcessUse]) -> (BTreeMap<u32, f64>, usize) {
    let periods: BTreeSet<u64> = told.iter().map(|used| used.at).collect();
    let mut sums: BTreeMap<u32, f64> = BTreeMap::new();
    for used in told {
        *sums.entry(used.pid).or_default() += used.active / periods.len() as f64;
    }
    (sums, periods.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_not_named_in_a_period_did_nothing_in_it() {
        let used = |pid, at, active| ProcessUse { pid, at, active };
        let (mean, periods) = average(&[used(7, 1, 1.0), used(8, 1, 0.5), used(7, 2, 0.5), used(7, 3, 0.3)]);
        assert_eq!(periods, 3);
        assert!((mean[&7] - 0.6).abs() < 1e-12 && (mean[&8] - 0.5 / 3.0).abs() < 1e-12, "{mean:?}");
        assert_eq!(average(&[]).1, 0);
    }
}
