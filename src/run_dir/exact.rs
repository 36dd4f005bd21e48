//! Exact quantiles of an arm from its samples: order statistics, where histograms keep three digits. Reads four of the nine
//! columns in pieces, so that an arm costs its latencies and no more.

use std::fs::File;
use std::path::Path;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};

use super::{RunDirError, samples};
use crate::scenario::Quantile;
use crate::units::Nanos;

/// Rows read at a time: their columns stay in the cache of a core.
const ROWS: usize = 1 << 14;

/// Exact quantiles of one series of an arm, over the requests that completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExactQuantiles {
    /// The series.
    pub series: String,
    /// Requests that completed.
    pub completed: u64,
    /// Per quantile, in the order asked: the least latency, from planned to completed, that at least this share of the
    /// completed requests does not exceed (nearest rank). `None`: none completed.
    pub latencies: Vec<Option<Nanos>>,
}

/// Exact quantiles of every series of the arm in the file at `path`.
///
/// # Errors
/// Where there is no such file, or it is not an arm's.
pub fn exact_quantiles(path: &Path, quantiles: &[Quantile]) -> Result<Vec<ExactQuantiles>, RunDirError> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(RunDirError::io("read", path))?;
    let failed = |e: ParquetError| RunDirError::damaged(&name, "a Parquet file", e.to_string());
    let reader = SerializedFileReader::new(file).map_err(failed)?;
    let label = samples::opened(&name, &reader)?;
    let mut latencies: Vec<Vec<u64>> = vec![Vec::new(); label.series.len()];
    for i in 0..reader.num_row_groups() {
        let group = reader.get_row_group(i).map_err(failed)?;
        read_group(&*group, &mut latencies).map_err(failed)?;
    }
    let of = |(series, mut latencies): (String, Vec<u64>)| ExactQuantiles {
        series,
        completed: latencies.len() as u64,
        latencies: order_statistics(&mut latencies, quantiles),
    };
    Ok(label.series.into_iter().zip(latencies).map(of).collect())
}

/// Adds the latencies of a row group to those of their series.
fn read_group(group: &dyn RowGroupReader, latencies: &mut [Vec<u64>]) -> Result<(), ParquetError> {
    let rows = usize::try_from(group.metadata().num_rows()).map_err(|e| ParquetError::General(e.to_string()))?;
    let mut planned: Column<Int64Type> = Column::of(group, 0)?;
    let mut completed: Column<Int64Type> = Column::of(group, 4)?;
    let mut outcome: Column<Int32Type> = Column::of(group, 5)?;
    // Where there is one series, its number says nothing.
    let mut series: Option<Column<Int32Type>> = (latencies.len() > 1).then(|| Column::of(group, 8)).transpose()?;
    if let [one] = &mut *latencies {
        one.reserve_exact(rows);
    }
    let mut at = 0;
    while at < rows {
        let n = ROWS.min(rows - at);
        planned.read(n)?;
        completed.read(n)?;
        outcome.read(n)?;
        if let Some(series) = &mut series {
            series.read(n)?;
        }
        let mut next = completed.values.iter();
        for row in 0..n {
            // Values come packed, without the absent ones; a column without any has all of them.
            if completed.levels.get(row).is_some_and(|level| *level == 0) {
                continue;
            }
            let (Some(end), Some(planned), Some(outcome)) =
                (next.next(), planned.values.get(row), outcome.values.get(row))
            else {
                return Err(ParquetError::General("fewer completions than rows that have one".to_owned()));
            };
            if *outcome != samples::OK {
                continue;
            }
            let number = series.as_ref().map_or(Some(&0), |series| series.values.get(row)).copied().unwrap_or(-1);
            let of = usize::try_from(number).ok().and_then(|number| latencies.get_mut(number));
            let of = of.ok_or_else(|| ParquetError::General(format!("a sample of series {number}")))?;
            // As in the histograms: what took no time took a nanosecond.
            of.push(end.saturating_sub(*planned).max(1).cast_unsigned());
        }
        at += n;
    }
    Ok(())
}

/// One column, read piece by piece.
struct Column<D: DataType> {
    reader: ColumnReaderImpl<D>,
    /// The values that are there.
    values: Vec<D::T>,
    /// Per row whether it has one; empty where every row must.
    levels: Vec<i16>,
}

impl<D: DataType> Column<D>
where
    ColumnReaderImpl<D>: FromColumn,
{
    fn of(group: &dyn RowGroupReader, column: usize) -> Result<Self, ParquetError> {
        let reader = FromColumn::from(group.get_column_reader(column)?)
            .ok_or_else(|| ParquetError::General(format!("column {column} has another type")))?;
        Ok(Self { reader, values: Vec::new(), levels: Vec::new() })
    }

    /// The next `rows` rows, in place of those before.
    fn read(&mut self, rows: usize) -> Result<(), ParquetError> {
        self.values.clear();
        self.levels.clear();
        let mut records = 0;
        while records < rows {
            let (read, ..) =
                self.reader.read_records(rows - records, Some(&mut self.levels), None, &mut self.values)?;
            if read == 0 {
                return Err(ParquetError::General(format!("{records} rows of {rows}")));
            }
            records += read;
        }
        Ok(())
    }
}

/// A reader of one type out of those that a column may have.
trait FromColumn: Sized {
    fn from(column: ColumnReader) -> Option<Self>;
}

impl FromColumn for ColumnReaderImpl<Int64Type> {
    fn from(column: ColumnReader) -> Option<Self> {
        if let ColumnReader::Int64ColumnReader(reader) = column { Some(reader) } else { None }
    }
}

impl FromColumn for ColumnReaderImpl<Int32Type> {
    fn from(column: ColumnReader) -> Option<Self> {
        if let ColumnReader::Int32ColumnReader(reader) = column { Some(reader) } else { None }
    }
}

/// Values by nearest rank, in the order of `quantiles`; reorders `values`. Each selection leaves behind it only what is
/// greater, so that the high quantiles cost next to nothing after the median.
fn order_statistics(values: &mut [u64], quantiles: &[Quantile]) -> Vec<Option<Nanos>> {
    let n = values.len() as u128;
    let mut ranks: Vec<(usize, usize)> = quantiles
        .iter()
        // In whole numbers: 0.99 × 100 is more than 99 in binary.
        .map(|q| (n * u128::from(q.0)).div_ceil(100_000).max(1) as usize)
        .enumerate()
        .map(|(at, rank)| (rank, at))
        .collect();
    ranks.sort_unstable();
    let mut found = vec![None; quantiles.len()];
    let (mut rest, mut below, mut last) = (values, 0, None);
    for (rank, at) in ranks {
        if rank > below && !rest.is_empty() {
            let (_, value, greater) = std::mem::take(&mut rest).select_nth_unstable(rank - 1 - below);
            (last, below, rest) = (Some(Nanos(*value)), rank, greater);
        }
        found[at] = last;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Outcome, Sample};
    use crate::provenance::Provenance;
    use proptest::prelude::*;

    const ASKED: [Quantile; 3] = [Quantile::P999, Quantile::P50, Quantile::P99];

    fn naive(mut values: Vec<u64>, q: Quantile) -> Option<Nanos> {
        values.sort_unstable();
        let rank = (values.len() as u64 * u64::from(q.0)).div_ceil(100_000).max(1);
        values.get(rank as usize - 1).map(|ns| Nanos(*ns))
    }

    fn sample(series: u16, planned: u64, took: Option<u64>, outcome: Outcome) -> Sample {
        let completed = took.map(|took| Nanos(planned + took));
        Sample {
            series,
            window: 0,
            planned: Nanos(planned),
            sent: Some(Nanos(planned)),
            gpu_start: None,
            gpu_end: None,
            completed,
            outcome,
        }
    }

    fn written(samples: &[Sample], series: &[&str]) -> (tempfile::TempDir, std::path::PathBuf) {
        let series: Vec<String> = series.iter().map(|s| (*s).to_owned()).collect();
        let label = samples::Label::new(Provenance::Simulated, "arms/a/0000-quiet.parquet", 0, &series);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arm.parquet");
        std::fs::write(&path, samples::encode(&label, samples).unwrap()).unwrap();
        (folder, path)
    }

    #[test]
    fn only_what_completed_counts_and_each_for_its_series() {
        // More than one piece, with absent values in it.
        let took = |i: u64| (i * 7_919) % 100_003;
        let mut samples = Vec::new();
        for i in 0..40_000 {
            samples.push(match i % 5 {
                0 => sample(0, i * 10, None, Outcome::Timeout),
                1 => sample(0, i * 10, Some(1), Outcome::WrongResult),
                2 => sample(1, i * 10, Some(took(i)), Outcome::Ok),
                _ => sample(0, i * 10, Some(took(i)), Outcome::Ok),
            });
        }
        let (_folder, path) = written(&samples, &["launch", "h2d", "never"]);
        let found = exact_quantiles(&path, &ASKED).unwrap();
        for (series, rest) in [(0, &[3, 4][..]), (1, &[2])] {
            let values: Vec<u64> = (0..40_000).filter(|i| rest.contains(&(i % 5))).map(|i| took(i).max(1)).collect();
            assert_eq!(found[series].completed, values.len() as u64);
            assert_eq!(found[series].latencies, ASKED.map(|q| naive(values.clone(), q)));
        }
        assert_eq!(
            (found[2].series.as_str(), found[2].completed, found[2].latencies.as_slice()),
            ("never", 0, &[None; 3][..])
        );
    }

    #[test]
    fn a_file_that_is_no_arm_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arm.parquet");
        std::fs::write(&path, "PAR1 nothing").unwrap();
        for path in [path, folder.path().join("missing.parquet")] {
            let error = exact_quantiles(&path, &ASKED).unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
        }
    }

    proptest! {
        #[test]
        fn selection_finds_what_sorting_finds(
            values in prop::collection::vec(1u64..1_000, 0..400),
            asked in prop::collection::vec(1u32..=100_000, 1..6),
        ) {
            let asked: Vec<Quantile> = asked.into_iter().map(Quantile).collect();
            let expected: Vec<_> = asked.iter().map(|q| naive(values.clone(), *q)).collect();
            prop_assert_eq!(order_statistics(&mut values.clone(), &asked), expected);
        }
    }
}
