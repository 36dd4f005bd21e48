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

    pub(super) const fn of(self, series: &SeriesData) -> &Histogram<u64> {
        match self {
            Self::Latency => &series.latency,
            Self::Queue => &series.queue,
            Self::Service => &series.service,
        }
    }

    pub(super) const fn of_mut(self, series: &mut SeriesData) -> &mut Histogram<u64> {
        match self {
            Self::Latency => &mut series.latency,
            Self::Queue => &mut series.queue,
            Self::Service => &mut series.service,
        }
    }
}

/// A histogram, compressed: some hundred bytes where the histogram itself takes some hundred kilobytes.
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
                let histogram = kind.of(series);
                if !histogram.is_empty() {
                    let payload = compress(histogram)?;
                    intervals.push(Interval { series: name.clone(), kind, max: histogram.max(), payload });
                }
            }
        }
        Ok(Self { length: length(&data.summary), intervals })
    }
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
    pub(super) histogram: Histogram<u64>,
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
        let histogram = expand(interval.encoded_histogram())
            .map_err(|e| RunDirError::damaged(file, format!("a histogram under tag {tag:?}"), e))?;
        found.push(Read { stem, kind, histogram });
    }
    Ok(found)
}

/// Whether two histograms hold the same counts, whatever they could hold besides.
pub(super) fn same(a: &Histogram<u64>, b: &Histogram<u64>) -> bool {
    let counts = |h: &Histogram<u64>| -> Vec<(u64, u64)> {
        h.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value())).collect()
    };
    a.sigfig() == b.sigfig() && a.len() == b.len() && counts(a) == counts(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::WindowSummary;
    use crate::run_dir::record::add;
    use crate::units::Nanos;

    fn arm(values: &[u64]) -> ArmData {
        let mut series = SeriesData::new();
        for value in values {
            add(&mut series.latency, *value, 1);
        }
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
        let [Read { stem, kind, histogram }] = &read[..] else { panic!("{read:?}") };
        assert_eq!((*stem, *kind), ("a", Kind::Latency));
        assert!(same(histogram, &arms[0].series["llm-decode/token"].latency));
        assert!(!same(histogram, &arms[1].series["llm-decode/token"].latency));
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
