//! Counts of latencies, of one arm and pooled over arms.

use super::durations::{Bucket, Durations};
use super::slo::Over;
use crate::scenario::Quantile;

/// Latencies of one series in one arm, and how many of its requests were never served.
#[derive(Clone, Copy, Debug)]
pub struct Counts<'a> {
    served: &'a Durations,
    /// Requests at +∞: open at the deadline, or failed.
    unserved: u64,
}

impl<'a> Counts<'a> {
    /// What `served` holds, and `unserved` requests at +∞.
    pub fn new(served: &'a Durations, unserved: u64) -> Self {
        Self { served, unserved }
    }

    /// Requests, those at +∞ included.
    pub fn total(self) -> u64 {
        self.served.len() + self.unserved
    }

    /// The bucket of the quantile `q`; `None` where it lies at +∞, or where there is nothing.
    pub fn bucket(self, q: Quantile) -> Option<Bucket> {
        self.at_rank(rank_of(q, self.total())?)
    }

    /// The bucket of the request with this rank from one on; `None` where it lies at +∞, or where there are fewer.
    pub(super) fn at_rank(self, rank: u64) -> Option<Bucket> {
        let mut seen = 0;
        self.served.iter().find_map(|(bucket, count)| {
            seen += count;
            (seen >= rank).then_some(bucket)
        })
    }

    /// How many requests took longer than `bound_ns`: (for certain, at most). They differ by those that share a bucket
    /// with the bound; what was never served is over every bound.
    pub fn over(self, bound_ns: u64) -> (Over, Over) {
        let of = |over: fn(Bucket, u64) -> bool| {
            let served: u64 = self.served.iter().filter(|(b, _)| over(*b, bound_ns)).map(|(_, count)| count).sum();
            Over { over: served + self.unserved, total: self.total() }
        };
        (of(|bucket, bound| bucket.lowest() > bound), of(|bucket, bound| bucket.highest() > bound))
    }

    /// The quantile `q` in nanoseconds, the middle of its bucket; `None` as in [`Self::bucket`].
    pub fn quantile(self, q: Quantile) -> Option<f64> {
        self.bucket(q).map(|bucket| bucket.middle() as f64)
    }
}

/// Rank of the quantile `q` among `n` requests: ⌈q·n⌉, the smallest value that at least a share q does not exceed
/// (R. J. Hyndman, Y. Fan 1996, definition 1). `None` of nothing: an empty histogram has no quantile.
pub(super) fn rank_of(q: Quantile, n: u64) -> Option<u64> {
    let rank = (u128::from(q.0) * u128::from(n)).div_ceil(100_000) as u64;
    (n > 0).then_some(rank.max(1))
}

/// Counts of several blocks, so laid out that a pooled quantile under any weights is a search over dot products.
#[derive(Clone, Debug)]
pub struct Pool {
    blocks: usize,
    /// All buckets that hold something in any block, rising.
    buckets: Vec<Bucket>,
    /// Per bucket and block: requests of that block in or below the bucket.
    cumulative: Vec<u32>,
    /// Per block: requests, those at +∞ included.
    totals: Vec<u32>,
}

impl Pool {
    /// Pools `arms`, one per block.
    pub fn new(arms: &[Counts<'_>]) -> Self {
        let blocks = arms.len();
        let buckets = Bucket::union(arms.iter().map(|arm| arm.served));
        let mut cumulative = vec![0; buckets.len() * blocks];
        for (block, arm) in arms.iter().enumerate() {
            let mut counts = arm.served.iter().peekable();
            let mut below = 0u64;
            for (row, bucket) in buckets.iter().enumerate() {
                while let Some((_, count)) = counts.next_if(|(b, _)| b <= bucket) {
                    below += count;
                }
                cumulative[row * blocks + block] = saturated(below);
            }
        }
        Self { blocks, buckets, cumulative, totals: arms.iter().map(|arm| saturated(arm.total())).collect() }
    }

    /// Blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Requests of all blocks, those at +∞ included.
    pub fn total(&self) -> u64 {
        self.totals.iter().map(|n| u64::from(*n)).sum()
    }

    /// The buckets that hold something in any block, rising.
    pub(super) fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// Per block, what lies above the bucket of a row.
    pub(super) fn over(&self, row: usize) -> Vec<Over> {
        let counts = &self.cumulative[row * self.blocks..][..self.blocks];
        let of = |(below, total): (&u32, &u32)| Over { over: u64::from(total - below), total: u64::from(*total) };
        counts.iter().zip(&self.totals).map(of).collect()
    }

    /// The pooled quantile `q` in nanoseconds; `None` where it lies at +∞, or where there is nothing.
    pub fn quantile(&self, q: Quantile) -> Option<f64> {
        Some(self.value(self.row(&vec![1; self.blocks], q, 0)?))
    }

    /// How many independent requests those at or beyond the pooled quantile `q` are worth: their number ÷ its dispersion over the
    /// blocks, Pearson's χ²/(blocks − 1) against a share that is the same in all of them, taken as one where it is less
    /// (P. McCullagh, J. A. Nelder, *Generalized Linear Models*, 1989, section 4.5; L. Kish, *Survey Sampling*, 1965, section 8.2,
    /// calls it the design effect). Requests that share the quantile's bucket count with it: of latencies that are all equal
    /// none lies apart from the others. `None` where the quantile lies at +∞, or of fewer than two blocks.
    pub fn beyond(&self, q: Quantile) -> Option<f64> {
        let row = self.row(&vec![1; self.blocks], q, 0)?;
        let below = |block: usize| row.checked_sub(1).map_or(0, |row| self.cumulative[row * self.blocks + block]);
        let beyond: Vec<f64> = (0..self.blocks).map(|b| f64::from(self.totals[b] - below(b))).collect();
        let sum: f64 = beyond.iter().sum();
        let share = sum / self.total() as f64;
        let expected = self.totals.iter().map(|n| share * f64::from(*n));
        let terms = beyond.iter().zip(expected).filter(|(_, e)| *e > 0.0);
        let statistic: f64 = terms.map(|(o, e)| (o - e) * (o - e) / e).sum();
        let freedom = self.blocks.checked_sub(1).filter(|f| *f > 0)? as f64;
        Some(sum / f64::max(1.0, statistic / freedom))
    }

    /// Value of a row, nanoseconds: the middle of its bucket.
    pub(super) fn value(&self, row: usize) -> f64 {
        self.buckets[row].middle() as f64
    }

    /// Row of the quantile `q` with block b counted `weights[b]` times, searched outwards from `hint`. `None`: at +∞.
    pub(super) fn row(&self, weights: &[u32], q: Quantile, hint: usize) -> Option<usize> {
        let rank = rank_of(q, weighted(&self.totals, weights))?;
        let rows = self.buckets.len();
        // A verdict spends its time here. Weights add up to the blocks in a bootstrap, so what 32 bits hold is known.
        let most = self.totals.iter().copied().max().unwrap_or(0);
        let drawn: u64 = weights.iter().map(|w| u64::from(*w)).sum();
        let narrow = u64::from(most).checked_mul(drawn).is_some_and(|sum| sum <= u64::from(u32::MAX));
        let reached = |row: usize| {
            let counts = &self.cumulative[row * self.blocks..][..self.blocks];
            let below = if narrow { u64::from(weighted_narrow(counts, weights)) } else { weighted(counts, weights) };
            below >= rank
        };
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

/// The same where no sum exceeds 32 bits: eight at a time.
fn weighted_narrow(counts: &[u32], weights: &[u32]) -> u32 {
    let (counts, rest) = counts.as_chunks::<8>();
    let (by_eight, rest_weights) = weights.as_chunks::<8>();
    let mut sums = [0u32; 8];
    for (counts, weights) in counts.iter().zip(by_eight) {
        for lane in 0..8 {
            sums[lane] = sums[lane].wrapping_add(counts[lane].wrapping_mul(weights[lane]));
        }
    }
    let rest = rest.iter().zip(rest_weights).map(|(n, w)| n.wrapping_mul(*w));
    sums.into_iter().chain(rest).fold(0, u32::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Key, Stream};
    use proptest::prelude::*;

    fn durations(values: &[u64]) -> Durations {
        let mut durations = Durations::default();
        values.iter().for_each(|v| durations.record(*v));
        durations
    }

    #[test]
    fn nothing_has_no_quantile() {
        let empty = Durations::EMPTY;
        let nothing = Counts::new(&empty, 0);
        assert_eq!(nothing.quantile(Quantile::P99), None);
        assert_eq!(Pool::new(&[]).quantile(Quantile::P99), None);
        assert_eq!(Pool::new(&[nothing]).quantile(Quantile::P50), None);
        assert_eq!(rank_of(Quantile::P99, 0), None);
    }

    /// Ten blocks of a hundred requests, twenty of all slow, p99 among them. Two in every block: 20 independent ones. All in one:
    /// χ² = (20 − 2)²/2 + 9·(0 − 2)²/2 = 180 over 9 degrees of freedom makes a dispersion of 20, and one.
    #[test]
    fn what_comes_in_clusters_is_worth_as_much_as_its_clusters() {
        let block = |slow: usize| durations(&[vec![1_000; 100 - slow], vec![5_000; slow]].concat());
        let worth = |slow: [usize; 10]| {
            let blocks = slow.map(block);
            Pool::new(&blocks.each_ref().map(|served| Counts::new(served, 0))).beyond(Quantile::P99)
        };
        assert_eq!(worth([2; 10]), Some(20.0));
        assert_eq!(worth([20, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Some(1.0));
        // All equal: each of the thousand shares the quantile's bucket.
        assert_eq!(worth([0; 10]), Some(1_000.0));
        assert_eq!(Pool::new(&[Counts::new(&block(20), 0)]).beyond(Quantile::P99), None, "one block has no dispersion");
    }

    /// 99 requests at 1 … 99 and one never served: rank ⌈0.99 × 100⌉ = 99 is the last one served, ⌈0.999 × 100⌉ = 100
    /// is not. With two unserved of 101 the rank of p99 is 100, beyond the 99 that were.
    #[test]
    fn what_was_not_served_lies_beyond_everything() {
        let served = durations(&(1..=99).collect::<Vec<_>>());
        let one = Counts::new(&served, 1);
        assert_eq!((one.total(), one.quantile(Quantile::P99)), (100, Some(99.0)));
        assert_eq!(one.quantile(Quantile::P999), None);
        assert_eq!(Counts::new(&served, 2).quantile(Quantile::P99), None);
        assert_eq!(Counts::new(&served, 2).quantile(Quantile::P50), Some(51.0));
        assert_eq!(Counts::new(&Durations::EMPTY, 5).quantile(Quantile::P50), None);
    }

    #[test]
    fn ranks_are_exact() {
        assert_eq!(rank_of(Quantile::P99, 100), Some(99));
        assert_eq!(rank_of(Quantile::P99, 101), Some(100));
        assert_eq!(rank_of(Quantile::P50, 1), Some(1));
        assert_eq!(rank_of(Quantile::P999, 1_000), Some(999));
        assert_eq!(rank_of(Quantile(1), 5), Some(1));
    }

    proptest! {
        #[test]
        fn a_pool_is_the_multiset_of_its_blocks(
            blocks in proptest::collection::vec((proptest::collection::vec(1u64..1_500, 0..30), 0u64..3), 1..6),
            q in 1u32..100_000, hint in 0usize..200, seed in 0u64..1_000,
        ) {
            let served: Vec<Durations> = blocks.iter().map(|(values, _)| durations(values)).collect();
            let arms: Vec<Counts<'_>> =
                served.iter().zip(&blocks).map(|(served, (_, unserved))| Counts::new(served, *unserved)).collect();
            let pool = Pool::new(&arms);
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
