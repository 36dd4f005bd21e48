//! Max–min fair sharing, and how latency grows with load. Pure arithmetic: `+ − × /` only.

/// Slack for sums of rounded numbers: a resource counts as full only when demand exceeds it by more than this.
const SLACK: f64 = 1.0 + 1e-9;

/// The level at which max–min fair sharing of `capacity` cuts demands off: who asks for less gets what it asks for,
/// everybody else gets the level. Infinite where all demands fit.
///
/// Progressive filling (Bertsekas & Gallager, *Data Networks*, 6.5.2): the level rises until the demands below it and
/// the level for the others use up the capacity.
pub(super) fn level(capacity: f64, demands: impl Iterator<Item = f64> + Clone) -> f64 {
    let mut open = 0u32;
    let mut total = 0.0;
    for d in demands.clone() {
        total += d;
        open += 1;
    }
    if total <= capacity * SLACK {
        return f64::INFINITY;
    }
    let mut level = capacity / f64::from(open);
    loop {
        let mut rest = capacity;
        let mut above = 0u32;
        for d in demands.clone() {
            if d <= level {
                rest -= d;
            } else {
                above += 1;
            }
        }
        if above == open || above == 0 {
            return level;
        }
        open = above;
        level = rest / f64::from(above);
    }
}

/// Factor on the latency of a level at utilisation `u` (0 … 1): 1 up to 60 %, then a parabola without a kink that
/// reaches `full` at 100 %.
pub(super) fn queueing(u: f64, full: f64) -> f64 {
    let over = ((u - 0.6) / 0.4).clamp(0.0, 1.0);
    1.0 + (full - 1.0) * over * over
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(capacity: f64, demands: &[f64]) -> f64 {
        level(capacity, demands.iter().copied())
    }

    #[test]
    fn who_asks_for_less_gets_it_and_the_others_share_the_rest() {
        // 10 for 2, 8 and 8: the first takes 2, the others (10 − 2) / 2 = 4 each.
        assert_eq!(at(10.0, &[2.0, 8.0, 8.0]), 4.0);
        assert_eq!(at(10.0, &[8.0, 8.0]), 5.0);
        // 12 for 1, 4, 5 and 9: level 3 frees 2 for three, 11/3 ≥ … 4 stays above; so 1, 11/3, 11/3, 11/3.
        assert!((at(12.0, &[1.0, 4.0, 5.0, 9.0]) - 11.0 / 3.0).abs() < 1e-12);
        assert_eq!(at(10.0, &[2.0, 8.0]), f64::INFINITY);
        assert_eq!(at(10.0, &[]), f64::INFINITY);
    }

    #[test]
    fn latency_is_flat_to_sixty_per_cent_and_full_at_saturation() {
        assert_eq!(queueing(0.0, 5.0), 1.0);
        assert_eq!(queueing(0.6, 5.0), 1.0);
        assert!((queueing(0.8, 5.0) - 2.0).abs() < 1e-12, "halfway up: 1 + 4 × 0.5²");
        assert!((queueing(1.0, 5.0) - 5.0).abs() < 1e-12);
        assert_eq!(queueing(1.7, 5.0), queueing(1.0, 5.0));
    }

    proptest! {
        #[test]
        fn capacity_is_used_up_and_never_exceeded(
            demands in prop::collection::vec(0.0f64..100.0, 1..12),
            capacity in 1.0f64..300.0,
        ) {
            let l = at(capacity, &demands);
            let used: f64 = demands.iter().map(|d| d.min(l)).sum();
            let asked: f64 = demands.iter().sum();
            prop_assert!(used <= capacity * (1.0 + 1e-8));
            prop_assert!((used - asked.min(capacity)).abs() < 1e-6 * capacity, "work conserving");
        }

        #[test]
        fn more_demand_of_others_never_raises_a_share(
            mut demands in prop::collection::vec(0.1f64..100.0, 2..12),
            more in 0.0f64..100.0,
            capacity in 1.0f64..300.0,
        ) {
            let before = demands[0].min(at(capacity, &demands));
            demands[1] += more;
            let after = demands[0].min(at(capacity, &demands));
            prop_assert!(after <= before * (1.0 + 1e-8));
            demands.push(more);
            prop_assert!(demands[0].min(at(capacity, &demands)) <= after * (1.0 + 1e-8));
        }
    }
}
