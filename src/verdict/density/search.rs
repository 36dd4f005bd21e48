//! Which density to measure next: pure, from what is known of each.

use crate::plan::{Curve, Level};

/// What is known of a density, as far as the search is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Every tenant meets every objective.
    Met,
    /// Some tenant misses one.
    Missed,
    /// Measured, and neither is shown.
    Undecided,
    /// It cannot be here.
    Skipped,
    /// Begun, and arms are missing.
    Begun,
    /// Not begun.
    NotRun,
}

/// Indices of (the largest density that is met below all that miss, the smallest that misses).
pub(super) fn crossing(states: &[State]) -> (Option<usize>, Option<usize>) {
    let missed = states.iter().position(|state| *state == State::Missed);
    let below = &states[..missed.unwrap_or(states.len())];
    (below.iter().rposition(|state| *state == State::Met), missed)
}

/// Index of the level that is measured next; `None`: the curve is complete.
///
/// What was begun is measured to its end first. Then the lone tenant, with which all others are compared. Where every listed
/// density is asked for they come next, rising. Then what lies
/// between the largest met and the smallest missed is halved until nothing is left there, or as many were measured as the error
/// rate is divided among. An undecided one is left out, and the longest stretch beside it is halved: its neighbours would be as near
/// to their bounds as it. Of n densities the halving measures ⌈log2(n + 1)⌉ at most if none is undecided; a listed one is taken
/// rather than the middle where that keeps to it.
pub(super) fn next(curve: &Curve, states: &[State]) -> Option<usize> {
    if let Some(begun) = states.iter().position(|state| *state == State::Begun) {
        return Some(begun);
    }
    let open = |index: &usize| states[*index] == State::NotRun;
    if curve.levels.first().is_some_and(|level| level.tenants == 1) && open(&0) {
        return Some(0);
    }
    if curve.every
        && let Some(listed) = (0..states.len()).find(|index| open(index) && curve.levels[*index].listed)
    {
        return Some(listed);
    }
    let measured = states.iter().filter(|state| matches!(state, State::Met | State::Missed | State::Undecided));
    if measured.count() as u32 >= curve.most {
        return None;
    }
    let (met, missed) = crossing(states);
    let between: Vec<usize> = (met.map_or(0, |met| met + 1)..missed.unwrap_or(states.len())).collect();
    let stretches = between.split(|index| states[*index] == State::Undecided);
    let stretches = stretches.map(|stretch| stretch.iter().copied().filter(open).collect::<Vec<usize>>());
    halve(&stretches.reduce(|longest, other| if other.len() > longest.len() { other } else { longest })?, &curve.levels)
}

/// The one of `candidates` (indices of levels, rising) that halves them.
fn halve(candidates: &[usize], levels: &[Level]) -> Option<usize> {
    let last = candidates.len().checked_sub(1)?;
    // As many as halving can deal with in one measurement less than these take.
    let room = (candidates.len() + 1).next_power_of_two() / 2 - 1;
    let keeps_to_it = |at: usize| at <= room && last - at <= room;
    let listed = (0..=last).filter(|at| keeps_to_it(*at) && levels[candidates[*at]].listed);
    let nearest = listed.min_by_key(|at| (2 * at).abs_diff(last));
    candidates.get(nearest.unwrap_or(last / 2)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::SharingMode;
    use proptest::prelude::*;

    /// All integers from the first listed one to the last.
    fn curve(listed: &[u32], every: bool) -> Curve {
        let (first, last) = (listed[0], *listed.last().unwrap());
        let levels: Vec<Level> = (first..=last)
            .map(|tenants| Level { tenants, arrangement: tenants as usize, listed: listed.contains(&tenants) })
            .collect();
        let lone = u32::from(first == 1);
        let most = (lone + (levels.len() as u32 + 1 - lone).next_power_of_two().ilog2() + 2).min(levels.len() as u32);
        Curve {
            name: "mode".to_owned(),
            sharing: SharingMode::TimeSlicing,
            probe: 0,
            every,
            at_least: None,
            most: if every { u32::MAX } else { most },
            levels,
        }
    }

    const USUAL: &[u32] = &[1, 2, 3, 4, 6, 8, 12, 16];

    /// Tenants in the order in which they are measured, if `truth` says what comes of each.
    fn order(curve: &Curve, truth: impl Fn(u32) -> State) -> Vec<u32> {
        let skipped = |level: &Level| truth(level.tenants) == State::Skipped;
        let mut states: Vec<State> =
            curve.levels.iter().map(|l| if skipped(l) { State::Skipped } else { State::NotRun }).collect();
        let mut order = Vec::new();
        while let Some(index) = next(curve, &states) {
            assert_eq!(states[index], State::NotRun);
            states[index] = truth(curve.levels[index].tenants);
            order.push(curve.levels[index].tenants);
        }
        order
    }

    fn crossing_at(c: u32) -> impl Fn(u32) -> State {
        move |tenants| if tenants <= c { State::Met } else { State::Missed }
    }

    #[test]
    fn listed_ones_come_first_and_then_what_lies_between() {
        let curve = curve(USUAL, false);
        assert_eq!(order(&curve, crossing_at(4)), [1, 9, 5, 3, 4]);
        assert_eq!(order(&curve, crossing_at(16)), [1, 9, 13, 15, 16]);
        assert_eq!(order(&curve, crossing_at(0)), [1]);
        assert_eq!(order(&curve, crossing_at(14)), [1, 9, 13, 15, 14]);
    }

    /// Sixteen densities of which five are measured at most, and one where only the ends are listed.
    #[test]
    fn halving_finds_every_crossing_with_the_measurements_that_the_error_rate_is_divided_among() {
        for listed in [USUAL, &[1, 16], &[1, 2], &[4], &[1, 31], &[1, 2, 3, 32], &[2, 100]] {
            let curve = curve(listed, false);
            for c in 0..=*listed.last().unwrap() {
                let truth = crossing_at(c);
                let measured = order(&curve, &truth);
                assert!(measured.len() as u32 <= curve.most, "{listed:?} at {c}: {measured:?}");
                let states: Vec<State> = curve
                    .levels
                    .iter()
                    .map(|l| if measured.contains(&l.tenants) { truth(l.tenants) } else { State::NotRun })
                    .collect();
                let tenants = |index: Option<usize>| index.map(|index| curve.levels[index].tenants);
                let (met, missed) = crossing(&states);
                let first = listed[0];
                assert_eq!(tenants(met), (c >= first).then_some(c), "{listed:?} at {c}");
                assert_eq!(tenants(missed), (c < *listed.last().unwrap()).then_some((c + 1).max(first)));
            }
        }
    }

    #[test]
    fn every_listed_one_is_measured_rising_and_then_the_gap_alone() {
        let curve = curve(USUAL, true);
        assert_eq!(order(&curve, crossing_at(9)), [1, 2, 3, 4, 6, 8, 12, 16, 10, 9]);
        assert_eq!(order(&curve, crossing_at(2)), USUAL);
    }

    /// What is skipped or undecided is left out, and the search goes on beside it.
    #[test]
    fn the_search_goes_on_beside_what_is_left_out() {
        let usual = curve(USUAL, false);
        let skipping = |c: u32| move |t: u32| if [5, 6].contains(&t) { State::Skipped } else { crossing_at(c)(t) };
        // Thirteen that can be beside the lone one.
        assert_eq!(order(&usual, skipping(4)), [1, 10, 4, 8, 7]);
        let undecided = |t: u32| if (7..=9).contains(&t) { State::Undecided } else { crossing_at(8)(t) };
        assert_eq!(order(&usual, undecided), [1, 9, 5, 13, 7, 11, 6]);
        assert_eq!(order(&usual, |_| State::Undecided).len(), 7, "no more than the error rate is divided among");
        assert_eq!(order(&usual, |_| State::Skipped), [0; 0]);
    }

    #[test]
    fn what_was_begun_is_measured_to_its_end_first() {
        let usual = curve(USUAL, false);
        let mut states = vec![State::NotRun; 16];
        states[11] = State::Begun;
        assert_eq!(next(&usual, &states), Some(11));
        // Even where as many were measured as may be.
        states[..8].fill(State::Met);
        assert_eq!(next(&usual, &states), Some(11));
        states[11] = State::Missed;
        assert_eq!(next(&usual, &states), None);
    }

    /// A larger density that is met above one that misses is no crossing.
    #[test]
    fn the_crossing_is_below_all_that_miss() {
        let states = [State::Met, State::Undecided, State::Missed, State::Met, State::Missed];
        assert_eq!(crossing(&states), (Some(0), Some(2)));
        assert_eq!(crossing(&[State::Missed, State::Met]), (None, Some(0)));
        assert_eq!(crossing(&[State::Undecided, State::Met]), (Some(1), None));
        assert_eq!(crossing(&[]), (None, None));
    }

    proptest! {
        #[test]
        fn the_search_ends_and_measures_nothing_twice(
            listed in proptest::collection::btree_set(1u32..40, 1..8), seed in 0u64..1_000, every: bool,
        ) {
            let mut curve = curve(&listed.iter().copied().collect::<Vec<_>>(), every);
            let most = curve.most.min(20);
            if every { curve.most = most }
            let mut stream = crate::random::Stream::new(seed, &[]);
            let outcomes: Vec<State> = (0..40)
                .map(|_| [State::Met, State::Missed, State::Undecided, State::Skipped][stream.below(4) as usize])
                .collect();
            let mut measured = order(&curve, |t| outcomes[t as usize % 40]);
            let taken = measured.len();
            measured.sort_unstable();
            measured.dedup();
            prop_assert_eq!(measured.len(), taken);
            prop_assert!(every || taken as u32 <= most);
        }
    }
}
