//! Counts of latencies, of one arm and pooled over arms.

use hdrhistogram::Histogram;

use crate::scenario::Quantile;

/// Significant bits of a histogram of three decimal digits: 2048 sub-buckets of which the upper half resolves.
const RESOLVED_BITS: u32 = 10;

/// Resolution of the host's monotonic clock, nanoseconds.
const TIMER_TICK_NS: f64 = 1.0;

/// Latencies of one series in one arm: the buckets that hold something, and what was never served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// (middle of the bucket in nanoseconds, count), rising.
    buckets: Vec<(u64, u64)>,
    /// Requests, those at +∞ included: open at the deadline, or failed.
    total: u64,
}

impl Counts {
    /// Nothing at all.
    pub const EMPTY: Self = Self { buckets: Vec::new(), total: 0 };

    /// What `histogram` (nanoseconds, three digits) holds, and `unserved` requests at +∞.
    pub fn new(histogram: &Histogram<u64>, unserved: u64) -> Self {
        let buckets = histogram
            .iter_recorded()
            .map(|bucket| (histogram.median_equivalent(bucket.value_iterated_to()), bucket.count_at_value()))
            .collect();
        Self { buckets, total: histogram.len() + unserved }
    }

    /// Requests, those at +∞ included.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The quantile `q` in nanoseconds; `None` where it lies at +∞, or where there is nothing.
    pub fn quantile(&self, q: Quantile) -> Option<f64> {
        let rank = rank_of(q, self.total)?;
        let mut seen = 0;
        self.buckets.iter().find_map(|(value, count)| {
            seen += count;
            (seen >= rank).then_some(*value as f64)
        })
    }
}

/// Rank of the quantile `q` among `n` requests: ⌈q·n⌉, the smallest value that at least a share q does not exceed
/// (R. J. Hyndman, Y. Fan 1996, definition 1). `None` of nothing: an empty histogram has no quantile.
pub(super) fn rank_of(q: Quantile, n: u64) -> Option<u64> {
    let rank = (u128::from(q.0) * u128::from(n)).div_ceil(100_000) as u64;
    (n > 0).then_some(rank.max(1))
}

/// Width of the bucket that holds `ns` in a histogram of three digits.
fn bucket_width(ns: u64) -> u64 {
    1 << ns.max(1).ilog2().saturating_sub(RESOLVED_BITS)
}

/// ε of a quantile (verdict.md, "Estimates"): ln(1 + relative bucket width) + timer tick / q. A ratio has the coarser of
/// its two. Without it a quantised bootstrap collapses to zero width and raises false alarms at the margin.
pub fn resolution(ns: f64) -> f64 {
    let ns = ns.max(1.0);
    libm::log1p(bucket_width(ns as u64) as f64 / ns) + TIMER_TICK_NS / ns
}

/// Counts of several blocks, so laid out that a pooled quantile under any weights is a search over dot products.
#[derive(Clone, Debug)]
pub struct Pool {
    blocks: usize,
    /// Middles of all buckets that hold something in any block, rising.
    values: Vec<u64>,
    /// Per value and block: requests of that block at or below the value.
    cumulative: Vec<u32>,
    /// Per block: requests, those at +∞ included.
    totals: Vec<u32>,
}

impl Pool {
    /// Pools `arms`, one per block.
    pub fn new(arms: &[&Counts]) -> Self {
        let blocks = arms.len();
        let mut values: Vec<u64> = arms.iter().flat_map(|arm| arm.buckets.iter().map(|(value, _)| *value)).collect();
        values.sort_unstable();
        values.dedup();
        let mut cumulative = vec![0; values.len() * blocks];
        for (block, arm) in arms.iter().enumerate() {
            let mut buckets = arm.buckets.iter().peekable();
            let mut below = 0u64;
            for (row, value) in values.iter().enumerate() {
                while let Some((_, count)) = buckets.next_if(|(bucket, _)| bucket <= value) {
                    below += count;
                }
                cumulative[row * blocks + block] = saturated(below);
            }
        }
        Self { blocks, values, cumulative, totals: arms.iter().map(|arm| saturated(arm.total)).collect() }
    }

    /// Blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Requests of all blocks, those at +∞ included.
    pub fn total(&self) -> u64 {
        self.totals.iter().map(|n| u64::from(*n)).sum()
    }

    /// The pooled quantile `q` in nanoseconds; `None` where it lies at +∞, or where there is nothing.
    pub fn quantile(&self, q: Quantile) -> Option<f64> {
        let row = self.row(&vec![1; self.blocks], q, 0)?;
        Some(self.values[row] as f64)
    }

    /// Value of a row, nanoseconds.
    pub(super) fn value(&self, row: usize) -> f64 {
        self.values[row] as f64
    }

    /// Row of the quantile `q` with block b counted `weights[b]` times, searched outwards from `hint`. `None`: at +∞.
    pub(super) fn row(&self, weights: &[u32], q: Quantile, hint: usize) -> Option<usize> {
        let rank = rank_of(q, weighted(&self.totals, weights))?;
        let rows = self.values.len();
        let reached = |row: usize| weighted(&self.cumulative[row * self.blocks..][..self.blocks], weights) >= rank;
        if rows == 0 || !reached(rows - 1) {
            return None;
        }
        // Invariant: every row below `low` misses the rank, `high` reaches it.
        let (mut low, mut high) = (0, rows - 1);
        let mut step = 1;
        let start = hint.min(rows - 1);
        if reached(start) {
            high = start;
            while high > 0 {
                let probe = high.saturating_sub(step);
                if !reached(probe) {
                    low = probe + 1;
                    break;
                }
                high = probe;
                step *= 2;
            }
        } else {
            low = start + 1;
            while low + step < high {
                let probe = low + step;
                if reached(probe) {
                    high = probe;
                    break;
                }
                low = probe + 1;
                step *= 2;
            }
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if reached(middle) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Some(high)
    }
}

/// An arm cannot hold more requests than 2³²: it would last for days.
fn saturated(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn weighted(counts: &[u32], weights: &[u32]) -> u64 {
    counts.iter().zip(weights).map(|(n, w)| u64::from(*n) * u64::from(*w)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Key, Stream};
    use proptest::prelude::*;

    fn counts(values: &[u64], unserved: u64) -> Counts {
        let mut h = Histogram::new(3).unwrap();
        h.auto(true);
        values.iter().for_each(|v| h.record(*v).unwrap());
        Counts::new(&h, unserved)
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(counts(&[], 0).quantile(Quantile::P99), None);
        assert_eq!(Pool::new(&[]).quantile(Quantile::P99), None);
        assert_eq!(Pool::new(&[&counts(&[], 0)]).quantile(Quantile::P50), None);
        assert_eq!(rank_of(Quantile::P99, 0), None);
    }

    /// 99 requests at 1 … 99 and one never served: rank ⌈0.99 × 100⌉ = 99 is the last one served, ⌈0.999 × 100⌉ = 100
    /// is not. With two unserved of 101 the rank of p99 is 100, beyond the 99 that were.
    #[test]
    fn what_was_not_served_lies_beyond_everything() {
        let values: Vec<u64> = (1..=99).collect();
        let one = counts(&values, 1);
        assert_eq!((one.total(), one.quantile(Quantile::P99)), (100, Some(99.0)));
        assert_eq!(one.quantile(Quantile::P999), None);
        assert_eq!(counts(&values, 2).quantile(Quantile::P99), None);
        assert_eq!(counts(&values, 2).quantile(Quantile::P50), Some(51.0));
        assert_eq!(counts(&[], 5).quantile(Quantile::P50), None);
    }

    #[test]
    fn ranks_are_exact() {
        assert_eq!(rank_of(Quantile::P99, 100), Some(99));
        assert_eq!(rank_of(Quantile::P99, 101), Some(100));
        assert_eq!(rank_of(Quantile::P50, 1), Some(1));
        assert_eq!(rank_of(Quantile::P999, 1_000), Some(999));
        assert_eq!(rank_of(Quantile(1), 5), Some(1));
    }

    #[test]
    fn widths_are_those_of_the_histogram() {
        let mut h = Histogram::<u64>::new(3).unwrap();
        h.auto(true);
        h.record(1 << 40).unwrap();
        for shift in 0..40 {
            for value in [1u64 << shift, (1 << shift) + 1, (2 << shift) - 1, 3 << shift] {
                assert_eq!(bucket_width(value), h.equivalent_range(value), "{value}");
            }
        }
        // 5 µs: buckets of 4 ns, so ε = ln(1 + 4/5000) + 1/5000 = 0.0009997.
        assert!((resolution(5_000.0) - 0.000_999_7).abs() < 1e-7);
    }

    proptest! {
        #[test]
        fn a_pool_is_the_multiset_of_its_blocks(
            blocks in proptest::collection::vec((proptest::collection::vec(1u64..1_500, 0..30), 0u64..3), 1..6),
            q in 1u32..100_000, hint in 0usize..200, seed in 0u64..1_000,
        ) {
            let arms: Vec<Counts> = blocks.iter().map(|(values, unserved)| counts(values, *unserved)).collect();
            let pool = Pool::new(&arms.iter().collect::<Vec<_>>());
            let mut stream = Stream::new(seed, &[Key::Name("weights")]);
            let weights: Vec<u32> = arms.iter().map(|_| stream.below(4) as u32).collect();
            // Values up to 2047 have buckets of their own, so the pooled quantile is that of the sorted multiset.
            let mut all: Vec<u64> = Vec::new();
            for ((values, unserved), weight) in blocks.iter().zip(&weights) {
                for _ in 0..*weight {
                    all.extend(values);
                    all.extend((0..*unserved).map(|_| u64::MAX));
                }
            }
            all.sort_unstable();
            let expected = rank_of(Quantile(q), all.len() as u64).map(|r| all[r as usize - 1]).filter(|v| *v < u64::MAX);
            let found = pool.row(&weights, Quantile(q), hint).map(|row| pool.value(row) as u64);
            prop_assert_eq!(found, expected);
        }
    }
}
