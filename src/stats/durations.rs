//! Lengths of time at three significant digits: the buckets of an HdrHistogram, of which only those that hold something
//! are kept. A dense one takes 75 KB and more, whatever it holds; one of these some hundred bytes to a few kilobytes.

/// Significant bits of a histogram of three decimal digits: 2048 sub-buckets of which the upper half resolves.
const RESOLVED_BITS: u32 = 10;

/// Resolution of the host's monotonic clock, nanoseconds.
const TIMER_TICK_NS: f64 = 1.0;

/// A bucket: durations that three significant digits do not tell apart. They are those of an HdrHistogram that begins at
/// 1 ns: below 2048 ns each nanosecond has one, and from there on each power of two is split into 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket(u32);

impl Bucket {
    /// The bucket of `ns` nanoseconds.
    pub fn of(ns: u64) -> Self {
        let shift = ns.max(1).ilog2().saturating_sub(RESOLVED_BITS);
        // At most 53 × 1024 + 2047.
        Self((shift << RESOLVED_BITS) + (ns >> shift) as u32)
    }

    /// Buckets that hold something in any of `durations`, rising. By a mark per bucket: there are 57,000 at most, and
    /// sorting what the arms of a cell hold takes as long as all of its bootstraps.
    pub(super) fn union<'a>(durations: impl Iterator<Item = &'a Durations> + Clone) -> Vec<Self> {
        let end = durations.clone().filter_map(|d| d.counts.last()).map(|(bucket, _)| bucket.0 as usize + 1).max();
        let mut held = vec![false; end.unwrap_or(0)];
        durations.flat_map(|d| &d.counts).for_each(|(bucket, _)| held[bucket.0 as usize] = true);
        held.iter().enumerate().filter(|(_, held)| **held).map(|(bucket, _)| Self(bucket as u32)).collect()
    }

    /// Its width as a power of two.
    fn shift(self) -> u32 {
        (self.0 >> RESOLVED_BITS).saturating_sub(1)
    }

    /// Its lowest value, nanoseconds.
    pub fn lowest(self) -> u64 {
        u64::from(self.0 - (self.shift() << RESOLVED_BITS)) << self.shift()
    }

    /// Nanoseconds from its lowest to beyond its highest value.
    pub fn width(self) -> u64 {
        1 << self.shift()
    }

    /// The value in its middle, nanoseconds.
    pub fn middle(self) -> u64 {
        self.lowest() + self.width() / 2
    }

    /// Its highest value, nanoseconds.
    pub fn highest(self) -> u64 {
        self.lowest() + (self.width() - 1)
    }
}

/// ε of a quantile (verdict.md, "Estimates"): ln(1 + relative bucket width) + timer tick / q. A ratio has the coarser of
/// its two. Without it a quantised bootstrap collapses to zero width and raises false alarms at the margin.
pub fn resolution(ns: f64) -> f64 {
    let ns = ns.max(1.0);
    libm::log1p(Bucket::of(ns as u64).width() as f64 / ns) + TIMER_TICK_NS / ns
}

/// How many durations fell into which bucket. Equal where every bucket holds as many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// Rising, none of them zero. 32 bits suffice: the samples of an arm lie in memory, at dozens of bytes each.
    counts: Vec<(Bucket, u32)>,
    len: u64,
}

impl Durations {
    /// Nothing at all.
    pub const EMPTY: Self = Self { counts: Vec::new(), len: 0 };

    /// Counts a duration of `ns` nanoseconds.
    pub fn record(&mut self, ns: u64) {
        self.add(Bucket::of(ns), 1);
    }

    /// Counts `count` durations in `bucket`.
    pub fn add(&mut self, bucket: Bucket, count: u32) {
        self.len += u64::from(count);
        // Rising durations, as merged and sorted ones are, need no search.
        match self.counts.last_mut() {
            Some((last, counted)) if *last == bucket => return *counted += count,
            Some((last, _)) if *last > bucket => {}
            _ if count > 0 => return self.counts.push((bucket, count)),
            _ => return,
        }
        match self.counts.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => self.counts[at].1 += count,
            Err(at) if count > 0 => self.counts.insert(at, (bucket, count)),
            Err(_) => {}
        }
    }

    /// What `parts` count together.
    pub fn pooled<'a>(parts: impl Iterator<Item = &'a Self>) -> Self {
        let mut counts: Vec<(Bucket, u32)> = parts.flat_map(|part| part.counts.iter().copied()).collect();
        counts.sort_unstable_by_key(|(bucket, _)| *bucket);
        let mut pooled = Self::default();
        counts.into_iter().for_each(|(bucket, count)| pooled.add(bucket, count));
        pooled
    }

    /// Gives back the memory kept for further buckets.
    pub fn shrink(&mut self) {
        self.counts.shrink_to_fit();
    }

    /// Durations counted.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Buckets that hold something, rising, and how much.
    pub fn iter(&self) -> impl Iterator<Item = (Bucket, u64)> {
        self.counts.iter().map(|(bucket, count)| (*bucket, u64::from(*count)))
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_begin_and_end_where_they_should() {
        // 2^11 = 2048 is the first of two to share a bucket; 5000 lies in [4096, 8192), cut into widths of 4.
        for (ns, lowest, middle, highest) in [
            (0, 0, 0, 0),
            (1, 1, 1, 1),
            (2_047, 2_047, 2_047, 2_047),
            (2_048, 2_048, 2_049, 2_049),
            (5_002, 5_000, 5_002, 5_003),
            (u64::MAX, u64::MAX - (1 << 53) + 1, u64::MAX - (1 << 52) + 1, u64::MAX),
        ] {
            let bucket = Bucket::of(ns);
            assert_eq!((bucket.lowest(), bucket.middle(), bucket.highest()), (lowest, middle, highest), "{ns}");
        }
        // 5 µs: buckets of 4 ns, so ε = ln(1 + 4/5000) + 1/5000 = 0.0009997.
        assert!((resolution(5_000.0) - 0.000_999_7).abs() < 1e-7);
    }

    #[test]
    fn what_is_pooled_is_what_was_counted_apart() {
        let mut parts = [Durations::default(), Durations::default(), Durations::default()];
        let mut whole = Durations::default();
        for ns in [3, 9_000, 7, 7, 1 << 40, 9_001, 3, 0] {
            parts[(ns % 2) as usize].record(ns);
            whole.record(ns);
        }
        assert_eq!(Durations::pooled(parts.iter()), whole);
        assert_eq!(Durations::pooled([].iter()), Durations::EMPTY);
    }

    #[test]
    fn an_empty_count_leaves_no_bucket() {
        let mut durations = Durations::default();
        durations.add(Bucket::of(7), 0);
        assert_eq!(durations, Durations::EMPTY);
        durations.record(7);
        durations.add(Bucket::of(7), 2);
        assert_eq!((durations.len(), durations.iter().collect::<Vec<_>>()), (3, vec![(Bucket::of(7), 3)]));
    }

    proptest! {
        #[test]
        fn buckets_are_those_of_the_histogram(value in any::<u64>(), shift in 1u32..64) {
            let ns = value >> shift;
            let mut h = Histogram::<u64>::new(3).unwrap();
            h.auto(true);
            h.record(ns).unwrap();
            let bucket = Bucket::of(ns);
            let found = (bucket.lowest(), bucket.middle(), bucket.highest(), bucket.width());
            let expected =
                (h.lowest_equivalent(ns), h.median_equivalent(ns), h.highest_equivalent(ns), h.equivalent_range(ns));
            prop_assert_eq!(found, expected);
            prop_assert_eq!(Bucket::of(bucket.lowest()), bucket);
            prop_assert_eq!(Bucket::of(bucket.highest()), bucket);
            prop_assert!(Bucket::of(bucket.highest() + 1) > bucket);
        }

        #[test]
        fn what_is_counted_is_what_the_histogram_counts(values in proptest::collection::vec(1u64..1 << 40, 0..200)) {
            let mut h = Histogram::<u64>::new(3).unwrap();
            h.auto(true);
            let mut durations = Durations::default();
            for value in values {
                // From close together to far apart.
                let value = value >> (value % 40);
                h.record(value).unwrap();
                durations.record(value);
            }
            let expected: Vec<(u64, u64)> =
                h.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value())).collect();
            let found: Vec<(u64, u64)> = durations.iter().map(|(bucket, n)| (bucket.highest(), n)).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!((durations.len(), durations.is_empty()), (h.len(), h.is_empty()));
        }
    }
}
