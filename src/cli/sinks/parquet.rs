//! Outcomes as a table: Parquet, and GeoParquet 1.1 of the positions.

use std::fs::{self, File, OpenOptions};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;
use rmpv::Value;
use serde_json::json;

use super::super::outcome::Outcome;
use crate::msgpack_json::Json;

/// Rows that are held in memory and written together.
const GROUP: usize = 65_536;

/// What a column holds.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Number,
    /// A whole number from 0.
    Count,
    Flag,
    /// A time, to the microsecond.
    Time,
    /// A time, to the nanosecond.
    FineTime,
    /// Whatever it is, as JSON.
    Json,
    /// A position as a point of WKB.
    Point,
}

/// The columns: keys of the outcome, or paths of keys; points become underscores.
const COLUMNS: [(&str, Kind); 37] = [
    ("timestamp", Kind::Time),
    ("source", Kind::Text),
    ("seq", Kind::Count),
    ("frame_id", Kind::Text),
    ("session_id", Kind::Text),
    ("datetime", Kind::FineTime),
    ("frequency", Kind::Number),
    ("kind", Kind::Text),
    ("code", Kind::Text),
    ("message", Kind::Text),
    ("retryable", Kind::Flag),
    ("retry_after_ms", Kind::Number),
    ("position.latitude", Kind::Number),
    ("position.longitude", Kind::Number),
    ("uncertainty.sigma_x", Kind::Number),
    ("uncertainty.sigma_y", Kind::Number),
    ("uncertainty.theta", Kind::Number),
    ("uncertainty.confidence_interval", Kind::Number),
    ("ellipse.semi_major", Kind::Number),
    ("ellipse.semi_minor", Kind::Number),
    ("ellipse.rotation", Kind::Number),
    ("ellipse.area", Kind::Number),
    ("confidence", Kind::Number),
    ("label", Kind::Text),
    ("score", Kind::Number),
    ("labels", Kind::Json),
    ("model", Kind::Text),
    ("model_version", Kind::Text),
    ("model_digest", Kind::Text),
    ("inference_time_ms", Kind::Number),
    ("stages_ms", Kind::Json),
    ("batch_size", Kind::Count),
    ("_cache_hit", Kind::Flag),
    ("session", Kind::Json),
    ("stream_seq", Kind::Count),
    ("deliveries", Kind::Count),
    ("geometry", Kind::Point),
];

/// A table that is being written, under a name of its own until it is complete.
pub struct ParquetFile {
    writer: SerializedFileWriter<BufWriter<File>>,
    columns: Vec<Column>,
    rows: usize,
    written: u64,
    path: PathBuf,
    partial: PathBuf,
}

/// The values of a column since rows were last written.
struct Column {
    path: &'static str,
    kind: Kind,
    values: Values,
    /// 1 where a row has a value.
    levels: Vec<i16>,
}

enum Values {
    Bytes(Vec<ByteArray>),
    Numbers(Vec<f64>),
    Whole(Vec<i64>),
    Flags(Vec<bool>),
}

impl ParquetFile {
    /// Begins a table; the file must not be there yet.
    ///
    /// # Errors
    /// It is there, or cannot be made.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        ensure!(!path.exists(), "--parquet: {shown} is there already");
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = OpenOptions::new().write(true).create_new(true).open(&partial);
        let file = file.with_context(|| {
            let hint = "another run writes it, or was killed: remove it then";
            let hint = if partial.exists() { format!("; {hint}") } else { String::new() };
            format!("--parquet: cannot make {}{hint}", partial.display())
        })?;
        let columns: Vec<_> = COLUMNS.into_iter().map(|(path, kind)| Column::new(path, kind)).collect();
        let fields: Result<Vec<_>, _> = columns.iter().map(|column| column.field().map(Arc::new)).collect();
        let schema = Type::group_type_builder("outcomes").with_fields(fields?).build()?;
        let geo = json!({
            "version": "1.1.0",
            "primary_column": "geometry",
            "columns": {"geometry": {"encoding": "WKB", "geometry_types": ["Point"]}},
        });
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(format!("sferic {}", env!("CARGO_PKG_VERSION")))
            .set_key_value_metadata(Some(vec![KeyValue::new("geo".to_owned(), geo.to_string())]))
            .build();
        let writer = SerializedFileWriter::new(BufWriter::new(file), Arc::new(schema), Arc::new(properties))?;
        Ok(Self { writer, columns, rows: 0, written: 0, path: path.to_owned(), partial })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&mut self, outcome: &Outcome) -> anyhow::Result<()> {
        self.columns.iter_mut().for_each(|column| column.add(outcome));
        self.rows += 1;
        if self.rows < GROUP {
            return Ok(());
        }
        self.write().with_context(|| format!("cannot write {}", self.partial.display()))
    }

    /// Gives the complete table its name, unless something has it by now.
    fn rename(&self) -> anyhow::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            use rustix::io::Errno;
            match renameat_with(CWD, &self.partial, CWD, &self.path, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(()),
                // Not every file system can.
                Err(Errno::INVAL | Errno::NOSYS) => {}
                Err(error) => return Err(error).with_context(|| self.path.display().to_string()),
            }
        }
        ensure!(!self.path.exists(), "{} is there by now", self.path.display());
        Ok(fs::rename(&self.partial, &self.path)?)
    }

    fn write(&mut self) -> anyhow::Result<()> {
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            let mut writer = group.next_column()?.context("fewer columns than the schema has")?;
            column.write(&mut writer)?;
            writer.close()?;
        }
        group.close()?;
        self.written += self.rows as u64;
        self.rows = 0;
        Ok(())
    }

    /// Completes the table.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn close(mut self) -> anyhow::Result<String> {
        if self.rows > 0 {
            self.write()?;
        }
        self.writer.finish()?;
        // The footer is the last of it.
        self.writer.inner_mut().get_ref().sync_all()?;
        self.rename().with_context(|| format!("the table stays in {}", self.partial.display()))?;
        Ok(format!("{} outcomes in {}", self.written, self.path.display()))
    }
}

impl Column {
    fn new(path: &'static str, kind: Kind) -> Self {
        let values = match kind {
            Kind::Text | Kind::Json | Kind::Point => Values::Bytes(Vec::new()),
            Kind::Number => Values::Numbers(Vec::new()),
            Kind::Count | Kind::Time | Kind::FineTime => Values::Whole(Vec::new()),
            Kind::Flag => Values::Flags(Vec::new()),
        };
        Self { path, kind, values, levels: Vec::new() }
    }

    fn field(&self) -> Result<Type, parquet::errors::ParquetError> {
        let (physical, logical) = match self.kind {
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Json => (Physical::BYTE_ARRAY, Some(LogicalType::Json)),
            Kind::Point => (Physical::BYTE_ARRAY, None),
            Kind::Number => (Physical::DOUBLE, None),
            Kind::Count => (Physical::INT64, Some(LogicalType::integer(64, false))),
            Kind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
            Kind::FineTime => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::NANOS))),
            Kind::Flag => (Physical::BOOLEAN, None),
        };
        let name = self.path.trim_start_matches('_').replace('.', "_");
        let builder = Type::primitive_type_builder(&name, physical).with_repetition(Repetition::OPTIONAL);
        builder.with_logical_type(logical).build()
    }

    fn add(&mut self, outcome: &Outcome) {
        let value = outcome.at(self.path);
        let text = || value.and_then(Value::as_str);
        let time = || text()?.parse::<Timestamp>().ok();
        let is_there = match (&mut self.values, self.kind) {
            (Values::Bytes(values), Kind::Json) => {
                push(values, value.map(|value| Json(value).to_string().into_bytes().into()))
            }
            (Values::Bytes(values), Kind::Point) => push(values, point(outcome)),
            (Values::Bytes(values), _) => push(values, text().map(|text| text.as_bytes().into())),
            (Values::Numbers(values), _) => push(values, value.and_then(Value::as_f64)),
            (Values::Whole(values), Kind::Time) => push(values, time().map(Timestamp::as_microsecond)),
            (Values::Whole(values), Kind::FineTime) => {
                push(values, time().and_then(|time| i64::try_from(time.as_nanosecond()).ok()))
            }
            // The bits are those of the unsigned number.
            (Values::Whole(values), _) => push(values, value.and_then(Value::as_u64).map(u64::cast_signed)),
            (Values::Flags(values), _) => push(values, value.and_then(Value::as_bool)),
        };
        self.levels.push(is_there.into());
    }

    fn write(&mut self, writer: &mut SerializedColumnWriter<'_>) -> anyhow::Result<()> {
        let levels = std::mem::take(&mut self.levels);
        let levels = Some(levels.as_slice());
        match &mut self.values {
            Values::Bytes(values) => {
                writer.typed::<ByteArrayType>().write_batch(&std::mem::take(values), levels, None)?
            }
            Values::Numbers(values) => {
                writer.typed::<DoubleType>().write_batch(&std::mem::take(values), levels, None)?
            }
            Values::Whole(values) => {
                writer.typed::<Int64Type>().write_batch(&std::mem::take(values), levels, None)?
            }
            Values::Flags(values) => {
                writer.typed::<BoolType>().write_batch(&std::mem::take(values), levels, None)?
            }
        };
        Ok(())
    }
}

/// Adds a value where there is one; whether there is.
fn push<T>(values: &mut Vec<T>, value: Option<T>) -> bool {
    let is_there = value.is_some();
    values.extend(value);
    is_there
}

/// A position as well-known binary: little-endian, a point, longitude and latitude.
fn point(outcome: &Outcome) -> Option<ByteArray> {
    let within =
        |key: &str, most: f64| outcome.number(&["position", key]).filter(|place| place.abs() <= most);
    let (longitude, latitude) = (within("longitude", 180.0)?, within("latitude", 90.0)?);
    let mut bytes = vec![1, 1, 0, 0, 0];
    bytes.extend(longitude.to_le_bytes());
    bytes.extend(latitude.to_le_bytes());
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::super::super::outcome::tests::{LOCALIZATION, outcome};
    use super::*;

    #[test]
    fn a_table_is_there_once_it_is_complete_and_never_written_over() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("day.parquet");
        let mut file = ParquetFile::create(&path).unwrap();
        file.add(&outcome(LOCALIZATION)).unwrap();
        file.add(&outcome(r#"{"code":"internal","message":"m","retryable":true}"#)).unwrap();
        assert!(!path.exists());
        assert!(file.close().unwrap().starts_with("2 outcomes in "));
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = ParquetFile::create(&path).err().unwrap().to_string();
        assert!(error.contains("is there already"), "{error}");
        // Nor is what has come meanwhile, or what another run writes.
        let path = folder.path().join("other.parquet");
        let file = ParquetFile::create(&path).unwrap();
        assert!(ParquetFile::create(&path).is_err());
        fs::write(&path, "mine").unwrap();
        let error = format!("{:#}", file.close().unwrap_err());
        assert!(error.contains("stays in") && error.contains("other.parquet.partial"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn a_point_is_longitude_and_latitude() {
        let bytes = point(&outcome(LOCALIZATION)).unwrap();
        let bytes = bytes.data();
        assert_eq!((bytes.len(), &bytes[..5]), (21, &[1, 1, 0, 0, 0][..]));
        assert_eq!(f64::from_le_bytes(bytes[5..13].try_into().unwrap()), 7.62);
        assert!(point(&outcome(r#"{"kind":"x","position":{"latitude":91,"longitude":0}}"#)).is_none());
    }
}
