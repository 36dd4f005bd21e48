//! Histograms in the log format of HdrHistogram (V2, deflate): one file per arrangement and series, one interval per
//! arm and kind.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use super::{ArmData, RunDirError, SeriesData};
use crate::backend::ArmSummary;
use crate::provenance::Provenance;
use crate::stats::{Bucket, Durations};

/// What a histogram of a series holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Latency,
    Queue,
    Service,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Latency, Self::Queue, Self::Service];

    const fn id(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Queue => "queue",
            Self::Service => "service",
        }
    }

    pub(super) const fn of(self, series: &SeriesData) -> &Durations {
        match self {
            Self::Latency => &series.latency,
            Self::Queue => &series.queue,
            Self::Service => &series.service,
        }
    }

    pub(super) const fn of_mut(self, series: &mut SeriesData) -> &mut Durations {
        match self {
            Self::Latency => &mut series.latency,
            Self::Queue => &mut series.queue,
            Self::Service => &mut series.service,
        }
    }
}

/// Significant digits of the histograms in a log: those of [`Durations`].
const DIGITS: u8 = 3;

/// A histogram, compressed.
#[derive(Debug)]
pub(super) struct Interval {
    pub(super) series: String,
    kind: Kind,
    /// Largest value, nanoseconds.
    max: u64,
    payload: String,
}

/// Everything that one arm adds to the logs of its arrangement.
#[derive(Debug)]
pub(super) struct ArmIntervals {
    /// First window's start to last window's end, seconds.
    length: f64,
    pub(super) intervals: Vec<Interval>,
}

impl ArmIntervals {
    /// Compresses the histograms of an arm; empty ones are left out, for an absent interval reads as an empty one.
    pub(super) fn new(data: &ArmData) -> Result<Self, RunDirError> {
        let mut intervals = Vec::new();
        for (name, series) in &data.series {
            for kind in Kind::ALL {
                let durations = kind.of(series);
                if !durations.is_empty() {
                    let histogram = pool([durations], DIGITS)?;
                    let payload = compress(&histogram)?;
                    intervals.push(Interval { series: name.clone(), kind, max: histogram.max(), payload });
                }
            }
        }
        Ok(Self { length: length(&data.summary), intervals })
    }
}

/// One histogram of all that `durations` hold, at so many significant digits, 1 to 5.
pub(super) fn pool<'a>(
    durations: impl IntoIterator<Item = &'a Durations>,
    digits: u8,
) -> Result<Histogram<u64>, RunDirError> {
    let refused = |e: &dyn std::fmt::Display| RunDirError::not_recordable("a histogram", e.to_string());
    let mut histogram = Histogram::new(digits).map_err(|e| refused(&e))?;
    histogram.auto(true);
    for (bucket, count) in durations.into_iter().flat_map(Durations::iter) {
        histogram.record_n(bucket.highest(), count).map_err(|e| refused(&e))?;
    }
    Ok(histogram)
}

/// A histogram in base64 of HdrHistogram's V2 format, deflated.
pub(super) fn compress(histogram: &Histogram<u64>) -> Result<String, RunDirError> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .map_err(|e| RunDirError::not_recordable("a histogram", e.to_string()))?;
    Ok(STANDARD.encode(bytes))
}

/// Reads what [`compress`] wrote, or any histogram in V2 form with counts of up to 64 bits. It grows as ours do.
pub(super) fn expand(payload: &str) -> Result<Histogram<u64>, String> {
    let bytes = STANDARD.decode(payload).map_err(|e| e.to_string())?;
    let mut histogram = Deserializer::new().deserialize(&mut &bytes[..]).map_err(|e| e.to_string())?;
    histogram.auto(true);
    Ok(histogram)
}

/// Reads a histogram whose buckets are those of [`Durations`].
fn durations(payload: &str) -> Result<Durations, String> {
    let histogram = expand(payload)?;
    if (histogram.sigfig(), histogram.low()) != (DIGITS, 1) {
        return Err(format!("one of {} digits from {} ns", histogram.sigfig(), histogram.low()));
    }
    let mut durations = Durations::default();
    for value in histogram.iter_recorded() {
        let count = u32::try_from(value.count_at_value()).map_err(|e| e.to_string())?;
        durations.add(Bucket::of(value.value_iterated_to()), count);
    }
    durations.shrink();
    Ok(durations)
}

fn length(summary: &ArmSummary) -> f64 {
    let start = summary.windows.iter().map(|w| w.start).min().unwrap_or_default();
    let end = summary.windows.iter().map(|w| w.start.saturating_add(w.length)).max().unwrap_or_default();
    end.saturating_sub(start).as_secs_f64()
}

/// The logs of one arrangement by series. `arms` are in the order of the plan; the log's time axis lays them end to
/// end and begins at zero: nothing in it depends on when or where the run was made.
pub(super) fn write<'a>(
    provenance: Provenance,
    arrangement: &str,
    arms: impl Iterator<Item = (String, &'a ArmIntervals)>,
) -> BTreeMap<String, String> {
    let mut logs = BTreeMap::new();
    let mut start = 0.0;
    for (stem, arm) in arms {
        for interval in &arm.intervals {
            let log = logs
                .entry(interval.series.clone())
                .or_insert_with(|| header(provenance, arrangement, &interval.series));
            let _ = writeln!(
                log,
                "Tag={stem}:{},{start:.3},{:.3},{:.3},{}",
                interval.kind.id(),
                arm.length,
                interval.max as f64 / 1e6,
                interval.payload
            );
        }
        start += arm.length;
    }
    logs
}

/// Names are quoted, which leaves no line break in them.
fn header(provenance: Provenance, arrangement: &str, series: &str) -> String {
    let provenance = provenance.banner().unwrap_or("MEASURED");
    format!(
        "#[Histogram log format version 1.3]\n\
         #[{provenance}]\n\
         #[crosstalk: series {series:?} of arrangement {arrangement:?}; nanoseconds; a tag names arm and kind, as in \
         0000-quiet:latency; the arms lie end to end in the order of the plan, from zero]\n\
         #[StartTime: 0.000 (seconds since epoch), not a time of day]\n\
         #[MaxValueDivisor: 1000000.000]\n\
         \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n"
    )
}

/// One interval as read.
#[derive(Debug)]
pub(super) struct Read<'a> {
    /// The arm, as its tag names it.
    pub(super) stem: &'a str,
    pub(super) kind: Kind,
    pub(super) durations: Durations,
}

/// Reads a log.
pub(super) fn read<'a>(file: &str, bytes: &'a [u8]) -> Result<Vec<Read<'a>>, RunDirError> {
    let mut found = Vec::new();
    for entry in IntervalLogIterator::new(bytes) {
        let entry = entry.map_err(|e| RunDirError::damaged(file, "a histogram log", format!("{e:?}")))?;
        let LogEntry::Interval(interval) = entry else { continue };
        let tag = interval.tag().map_or("", |tag| tag.as_str());
        let (stem, kind) = tag
            .rsplit_once(':')
            .and_then(|(stem, id)| Some((stem, Kind::ALL.into_iter().find(|kind| kind.id() == id)?)))
            .ok_or_else(|| RunDirError::damaged(file, "tags of arm and kind", format!("tag {tag:?}")))?;
        let expected = || format!("a histogram of {DIGITS} digits from 1 ns under tag {tag:?}");
        let durations =
            durations(interval.encoded_histogram()).map_err(|e| RunDirError::damaged(file, expected(), e))?;
        found.push(Read { stem, kind, durations });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::WindowSummary;
    use crate::units::Nanos;

    fn arm(values: &[u64]) -> ArmData {
        let mut series = SeriesData::default();
        values.iter().for_each(|value| series.latency.record(*value));
        let windows = vec![WindowSummary { start: Nanos::millis(5), length: Nanos::millis(250), ..Default::default() }];
        ArmData {
            summary: ArmSummary { windows, ..Default::default() },
            series: BTreeMap::from([("llm-decode/token".to_owned(), series)]),
        }
    }

    #[test]
    fn the_log_is_what_the_usual_tools_expect_and_holds_no_clock() {
        let arms = [arm(&[1_000_000, 2_000_000]), arm(&[3_000])];
        let intervals = arms.each_ref().map(|a| ArmIntervals::new(a).unwrap());
        let stems = ["0000-quiet".to_owned(), "0000-hog".to_owned()];
        let logs = write(Provenance::Simulated, "m\nps", stems.into_iter().zip(&intervals));
        let log = &logs["llm-decode/token"];
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines[0], "#[Histogram log format version 1.3]");
        assert_eq!(lines[1], "#[SIMULATED: nothing below was measured on hardware]");
        assert!(lines[3].starts_with("#[StartTime: 0.000 (seconds since epoch)"), "{log}");
        assert_eq!(lines.len(), 8, "a name with a line break made a line of its own: {log}");
        // 2 000 000 ns lie in the bucket that ends at 2 000 895 ns (width 1024): 2.001 ms. The second arm begins where
        // the first ended, after 250 ms.
        assert!(lines[6].starts_with("Tag=0000-quiet:latency,0.000,0.250,2.001,HISTFAAAA"), "{log}");
        assert!(lines[7].starts_with("Tag=0000-hog:latency,0.250,0.250,0.003,HISTFAAAA"), "{log}");
    }

    #[test]
    fn histograms_read_back_equal() {
        let arms = [arm(&[1, 999, 1_000_001, u64::MAX / 2]), arm(&[])];
        let intervals = arms.each_ref().map(|a| ArmIntervals::new(a).unwrap());
        assert!(intervals[1].intervals.is_empty(), "an empty histogram is an absent interval");
        let logs = write(Provenance::Measured, "mps", ["a".to_owned(), "b".to_owned()].into_iter().zip(&intervals));
        let read = read("x.hlog", logs["llm-decode/token"].as_bytes()).unwrap();
        let [Read { stem, kind, durations }] = &read[..] else { panic!("{read:?}") };
        assert_eq!((*stem, *kind), ("a", Kind::Latency));
        assert_eq!(durations, &arms[0].series["llm-decode/token"].latency);
    }

    /// Readers of a log see the histogram that counting each request into it would have made, its header included.
    #[test]
    fn a_written_histogram_is_the_one_that_was_counted() {
        for values in [&[1, 1, 2, 2_047][..], &[3_000_000_000, 5, 70_000, 70_001], &[u64::MAX / 2, 9_999]] {
            let mut counted = Histogram::<u64>::new(3).unwrap();
            counted.auto(true);
            let mut durations = Durations::default();
            for value in values {
                counted.record(*value).unwrap();
                durations.record(*value);
            }
            let written = compress(&pool([&durations], 3).unwrap()).unwrap();
            assert_eq!(written, compress(&counted).unwrap(), "{values:?}");
        }
    }

    /// Other buckets would be read as if they were ours, and compare equal where they are not.
    #[test]
    fn a_histogram_of_another_resolution_is_refused() {
        let intervals = ArmIntervals::new(&arm(&[5_000])).unwrap();
        let logs = write(Provenance::Measured, "mps", [("a".to_owned(), &intervals)].into_iter());
        for (low, digits) in [(1, 2), (1_024, 3)] {
            let mut other = Histogram::<u64>::new_with_bounds(low, 1 << 40, digits).unwrap();
            other.record(5_000).unwrap();
            let log = logs["llm-decode/token"].replace(&intervals.intervals[0].payload, &compress(&other).unwrap());
            let error = read("x.hlog", log.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(&format!("{digits} digits from {low} ns")), "{error}");
        }
    }

    #[test]
    fn a_log_that_is_cut_or_not_ours_is_refused() {
        let intervals = ArmIntervals::new(&arm(&[5])).unwrap();
        let logs = write(Provenance::Measured, "mps", [("a".to_owned(), &intervals)].into_iter());
        let log = &logs["llm-decode/token"];
        for broken in [log[..log.len() - 1].to_owned(), log.replace("Tag=a:latency,", ""), log.replace(":latency", "")]
        {
            let error = read("x.hlog", broken.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("x.hlog"), "{error}");
        }
    }
}
