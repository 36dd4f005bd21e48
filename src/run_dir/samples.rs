//! Samples of one arm as Parquet: nine delta-encoded columns, uncompressed, the same bytes for the same samples.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Encoding, LogicalType, Repetition, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{ChunkReader, FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

use super::RunDirError;
use super::files::check_format;
use crate::backend::{Outcome, Sample};
use crate::provenance::Provenance;
use crate::units::Nanos;

const FORMAT: &str = "crosstalk-arm";
const VERSION: u32 = 1;
/// Key of the one piece of metadata, a JSON document.
const KEY: &str = "crosstalk";
const CREATED_BY: &str = concat!("crosstalk version ", env!("CARGO_PKG_VERSION"));
/// What the numbers of the column `outcome` mean; `error` has its code in the column `error_code`.
const OUTCOMES: [&str; 5] = ["ok", "oom", "error", "wrong-result", "timeout"];

/// The number of an outcome that is as it must be.
pub(super) const OK: i32 = outcome_number(Outcome::Ok);

/// What the file says of itself. Times are nanoseconds on the arm's axis.
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Label {
    format: String,
    version: u32,
    pub(super) provenance: Provenance,
    /// The arm's file within its run directory: names arrangement, block and neighbour.
    pub(super) arm: String,
    /// The grid of the arrangement.
    pub(super) grid: usize,
    /// Names of the series, by the numbers of the column `series`.
    pub(super) series: Vec<String>,
    /// Names of the outcomes, by the numbers of the column `outcome`.
    outcomes: Vec<String>,
}

impl Label {
    pub(super) fn new(provenance: Provenance, arm: &str, grid: usize, series: &[String]) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            provenance,
            arm: arm.to_owned(),
            grid,
            series: series.to_vec(),
            outcomes: OUTCOMES.map(str::to_owned).to_vec(),
        }
    }
}

/// The columns, in the order of the file. Only whole columns are read by name elsewhere: the order is not a contract.
fn schema() -> Result<TypePtr, ParquetError> {
    let column = |name: &str, physical, repetition, logical| {
        Type::primitive_type_builder(name, physical)
            .with_repetition(repetition)
            .with_logical_type(logical)
            .build()
            .map(Arc::new)
    };
    let unsigned = || Some(LogicalType::integer(32, false));
    let fields = vec![
        column("planned", Physical::INT64, Repetition::REQUIRED, None)?,
        column("sent", Physical::INT64, Repetition::OPTIONAL, None)?,
        column("gpu_start", Physical::INT64, Repetition::OPTIONAL, None)?,
        column("gpu_end", Physical::INT64, Repetition::OPTIONAL, None)?,
        column("completed", Physical::INT64, Repetition::OPTIONAL, None)?,
        column("outcome", Physical::INT32, Repetition::REQUIRED, None)?,
        column("error_code", Physical::INT32, Repetition::OPTIONAL, unsigned())?,
        column("window", Physical::INT32, Repetition::REQUIRED, None)?,
        column("series", Physical::INT32, Repetition::REQUIRED, None)?,
    ];
    Type::group_type_builder("sample").with_fields(fields).build().map(Arc::new)
}

/// Writes samples; the same bytes for the same samples and label.
pub(super) fn encode(label: &Label, samples: &[Sample]) -> Result<Vec<u8>, RunDirError> {
    check(label, samples)?;
    let failed = |e: ParquetError| RunDirError::not_recordable(&label.arm, e.to_string());
    let text = serde_json::to_string(label).map_err(|e| RunDirError::not_recordable(&label.arm, e.to_string()))?;
    let properties = WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::DELTA_BINARY_PACKED)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_key_value_metadata(Some(vec![KeyValue::new(KEY.to_owned(), text)]))
        .build();
    let mut out = Vec::with_capacity(4_096 + samples.len() * 12);
    let mut writer =
        SerializedFileWriter::new(&mut out, schema().map_err(failed)?, Arc::new(properties)).map_err(failed)?;
    let mut group = writer.next_row_group().map_err(failed)?;
    write_columns(&mut group, samples).map_err(failed)?;
    group.close().map_err(failed)?;
    writer.close().map_err(failed)?;
    Ok(out)
}

/// What a reader could not give back the same.
fn check(label: &Label, samples: &[Sample]) -> Result<(), RunDirError> {
    let refuse = |why: String| Err(RunDirError::not_recordable(&label.arm, why));
    if label.series.iter().collect::<BTreeSet<_>>().len() != label.series.len() {
        return refuse(format!("a series occurs twice in {:?}", label.series));
    }
    for (i, s) in samples.iter().enumerate() {
        if usize::from(s.series) >= label.series.len() {
            return refuse(format!("sample {i} is of series {}, the arm has {}", s.series, label.series.len()));
        }
        let times = [Some(s.planned), s.sent, s.gpu_start, s.gpu_end, s.completed];
        if times.into_iter().flatten().any(|t| i64::try_from(t.0).is_err()) {
            return refuse(format!("sample {i} has a time beyond 292 years: {s:?}"));
        }
    }
    Ok(())
}

fn write_columns<W: std::io::Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    samples: &[Sample],
) -> Result<(), ParquetError> {
    let times: [fn(&Sample) -> Option<Nanos>; 4] = [|s| s.sent, |s| s.gpu_start, |s| s.gpu_end, |s| s.completed];
    required::<Int64Type, _>(group, samples.iter().map(|s| s.planned.0 as i64))?;
    for time in times {
        optional::<Int64Type, _>(group, samples.iter().map(|s| time(s).map(|t| t.0 as i64)))?;
    }
    required::<Int32Type, _>(group, samples.iter().map(|s| outcome_number(s.outcome)))?;
    optional::<Int32Type, _>(
        group,
        samples.iter().map(|s| match s.outcome {
            Outcome::Error(code) => Some(code.cast_signed()),
            _ => None,
        }),
    )?;
    required::<Int32Type, _>(group, samples.iter().map(|s| i32::from(s.window)))?;
    required::<Int32Type, _>(group, samples.iter().map(|s| i32::from(s.series)))
}

fn required<D: DataType, W: std::io::Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: impl Iterator<Item = D::T>,
) -> Result<(), ParquetError> {
    let values: Vec<D::T> = values.collect();
    let mut column = group.next_column()?.ok_or(ParquetError::EOF("no column left".to_owned()))?;
    column.typed::<D>().write_batch(&values, None, None)?;
    column.close()
}

fn optional<D: DataType, W: std::io::Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: impl Iterator<Item = Option<D::T>>,
) -> Result<(), ParquetError> {
    let mut present = Vec::new();
    let mut levels = Vec::new();
    for value in values {
        levels.push(i16::from(value.is_some()));
        present.extend(value);
    }
    let mut column = group.next_column()?.ok_or(ParquetError::EOF("no column left".to_owned()))?;
    column.typed::<D>().write_batch(&present, Some(&levels), None)?;
    column.close()
}

/// Reads what [`encode`] wrote. The caller has compared the checksum: this guards against files made otherwise.
pub(super) fn decode(file: &str, bytes: Vec<u8>) -> Result<(Label, Vec<Sample>), RunDirError> {
    let failed = |e: ParquetError| RunDirError::damaged(file, "a Parquet file", e.to_string());
    let reader = SerializedFileReader::new(Bytes::from(bytes)).map_err(failed)?;
    let label = opened(file, &reader)?;
    let mut samples = Vec::new();
    for i in 0..reader.num_row_groups() {
        let group = reader.get_row_group(i).map_err(failed)?;
        read_group(&*group, &mut samples).map_err(failed)?;
    }
    check(&label, &samples).map_err(|e| RunDirError::damaged(file, "samples of its series", e.to_string()))?;
    Ok((label, samples))
}

/// What the file says of itself; its columns are those of an arm.
pub(super) fn opened<R: ChunkReader + 'static>(
    file: &str,
    reader: &SerializedFileReader<R>,
) -> Result<Label, RunDirError> {
    let label = read_label(file, reader)?;
    let schema = schema().map_err(|e| RunDirError::damaged(file, "a Parquet file", e.to_string()))?;
    if reader.metadata().file_metadata().schema_descr().root_schema().get_fields() != schema.get_fields() {
        let names: Vec<&str> =
            reader.metadata().file_metadata().schema().get_fields().iter().map(|f| f.name()).collect();
        return Err(RunDirError::damaged(file, "the columns of an arm", format!("other columns or types: {names:?}")));
    }
    Ok(label)
}

fn read_label<R: ChunkReader + 'static>(file: &str, reader: &SerializedFileReader<R>) -> Result<Label, RunDirError> {
    let expected = || format!("metadata under the key {KEY:?}");
    let text = reader
        .metadata()
        .file_metadata()
        .key_value_metadata()
        .and_then(|pairs| pairs.iter().find(|pair| pair.key == KEY))
        .and_then(|pair| pair.value.as_deref())
        .ok_or_else(|| RunDirError::damaged(file, expected(), "none"))?;
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|e| RunDirError::damaged(file, expected(), e.to_string()))?;
    check_format(file, &value, FORMAT, VERSION)?;
    serde_json::from_value(value).map_err(|e| RunDirError::damaged(file, expected(), e.to_string()))
}

fn read_group(group: &dyn RowGroupReader, samples: &mut Vec<Sample>) -> Result<(), ParquetError> {
    let rows = usize::try_from(group.metadata().num_rows()).map_err(|e| ParquetError::General(e.to_string()))?;
    let time = |column| -> Result<Vec<Option<Nanos>>, ParquetError> {
        let values = int64(group, column, rows)?;
        Ok(values.into_iter().map(|v| v.map(|t| Nanos(t.cast_unsigned()))).collect())
    };
    let short = |column| -> Result<Vec<u16>, ParquetError> {
        let number = |v: Option<i32>| v.and_then(|v| u16::try_from(v).ok()).ok_or_else(|| general("a number", v));
        int32(group, column, rows)?.into_iter().map(number).collect()
    };
    let (planned, sent, gpu_start, gpu_end, completed) = (time(0)?, time(1)?, time(2)?, time(3)?, time(4)?);
    let (outcomes, codes) = (int32(group, 5, rows)?, int32(group, 6, rows)?);
    let (windows, series) = (short(7)?, short(8)?);
    samples.reserve(rows);
    for i in 0..rows {
        samples.push(Sample {
            series: series[i],
            window: windows[i],
            planned: planned[i].ok_or_else(|| general("a planned time", planned[i]))?,
            sent: sent[i],
            gpu_start: gpu_start[i],
            gpu_end: gpu_end[i],
            completed: completed[i],
            outcome: outcome(outcomes[i], codes[i]).ok_or_else(|| general("an outcome", (outcomes[i], codes[i])))?,
        });
    }
    Ok(())
}

fn general(expected: &str, found: impl std::fmt::Debug) -> ParquetError {
    ParquetError::General(format!("expected {expected}, found {found:?}"))
}

const fn outcome_number(outcome: Outcome) -> i32 {
    match outcome {
        Outcome::Ok => 0,
        Outcome::Oom => 1,
        Outcome::Error(_) => 2,
        Outcome::WrongResult => 3,
        Outcome::Timeout => 4,
    }
}

const fn outcome(number: Option<i32>, code: Option<i32>) -> Option<Outcome> {
    Some(match (number, code) {
        (Some(0), None) => Outcome::Ok,
        (Some(1), None) => Outcome::Oom,
        (Some(2), Some(code)) => Outcome::Error(code.cast_unsigned()),
        (Some(3), None) => Outcome::WrongResult,
        (Some(4), None) => Outcome::Timeout,
        _ => return None,
    })
}

fn int64(group: &dyn RowGroupReader, column: usize, rows: usize) -> Result<Vec<Option<i64>>, ParquetError> {
    match group.get_column_reader(column)? {
        ColumnReader::Int64ColumnReader(reader) => read_column::<Int64Type>(reader, rows),
        _ => Err(general("64-bit integers", column)),
    }
}

fn int32(group: &dyn RowGroupReader, column: usize, rows: usize) -> Result<Vec<Option<i32>>, ParquetError> {
    match group.get_column_reader(column)? {
        ColumnReader::Int32ColumnReader(reader) => read_column::<Int32Type>(reader, rows),
        _ => Err(general("32-bit integers", column)),
    }
}

/// A whole column; values come packed, without the absent ones, and levels say where those stood. Columns that are
/// never absent have no levels.
fn read_column<D: DataType>(mut reader: ColumnReaderImpl<D>, rows: usize) -> Result<Vec<Option<D::T>>, ParquetError> {
    let (mut values, mut levels, mut records) = (Vec::new(), Vec::new(), 0);
    while records < rows {
        let (read, _, _) = reader.read_records(rows - records, Some(&mut levels), None, &mut values)?;
        if read == 0 {
            return Err(general(&format!("{rows} rows"), records));
        }
        records += read;
    }
    if levels.is_empty() {
        return Ok(values.into_iter().map(Some).collect());
    }
    let mut values = values.into_iter();
    Ok(levels.into_iter().map(|level| if level == 0 { None } else { values.next() }).collect())
}
