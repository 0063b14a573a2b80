//! SigMF metadata: which bytes of the dataset are samples, and what is known of them.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use jiff::{Timestamp, civil, tz::TimeZone};
use serde::Deserialize;
use serde_json::Value;

use super::name::datatype_of_name;
use super::{DataFile, Geolocation, Overrides, Recording, RecordingError, Span, Stream, partial_sample, stem};

/// Metadata is read whole; a file larger than this is something else.
const MAX_METADATA_BYTES: u64 = 256 << 20;

/// What is read of a `.sigmf-meta` file.
#[derive(Deserialize)]
pub(super) struct Metadata {
    global: Global,
    #[serde(default)]
    captures: Vec<Capture>,
}

#[derive(Deserialize)]
struct Global {
    #[serde(rename = "core:datatype")]
    datatype: String,
    #[serde(rename = "core:sample_rate")]
    sample_rate: Option<f64>,
    #[serde(rename = "core:num_channels")]
    num_channels: Option<u32>,
    #[serde(rename = "core:dataset")]
    dataset: Option<PathBuf>,
    #[serde(rename = "core:metadata_only", default)]
    metadata_only: bool,
    #[serde(rename = "core:offset", default)]
    offset: u64,
    #[serde(rename = "core:trailing_bytes", default)]
    trailing_bytes: u64,
    #[serde(rename = "core:geolocation")]
    geolocation: Option<Value>,
    #[serde(rename = "core:sha512")]
    sha512: Option<String>,
}

#[derive(Deserialize)]
struct Capture {
    #[serde(rename = "core:sample_start")]
    sample_start: u64,
    #[serde(rename = "core:global_index")]
    global_index: Option<u64>,
    #[serde(rename = "core:header_bytes", default)]
    header_bytes: u64,
    #[serde(rename = "core:frequency")]
    frequency: Option<f64>,
    #[serde(rename = "core:datetime")]
    datetime: Option<String>,
    #[serde(rename = "core:geolocation")]
    geolocation: Option<Value>,
}

/// Opens the recording of a `.sigmf-meta` file, with its dataset in the same folder.
pub(super) fn open(path: &Path, overrides: &Overrides) -> Result<Recording, RecordingError> {
    let file = File::open(path).map_err(RecordingError::reading(path))?;
    let metadata = read(path, BufReader::new(file))?;
    if metadata.global.metadata_only {
        return Err(RecordingError::metadata(path, "is metadata without a dataset (core:metadata_only)"));
    }
    let dataset = match &metadata.global.dataset {
        // Metadata from elsewhere must not choose among all files of this machine.
        Some(dataset) if dataset.file_name() != Some(dataset.as_os_str()) => {
            let reason = format!("core:dataset is {}, must be the name of a file in the same folder", dataset.display());
            return Err(RecordingError::metadata(path, reason));
        }
        Some(dataset) => path.with_file_name(dataset),
        None => path.with_extension("sigmf-data"),
    };
    recording(metadata, path, stem(path), DataFile::whole(&dataset)?, overrides)
}

/// Parses metadata; `path` is for messages.
pub(super) fn read(path: &Path, metadata: impl Read) -> Result<Metadata, RecordingError> {
    let mut text = Vec::new();
    metadata.take(MAX_METADATA_BYTES + 1).read_to_end(&mut text).map_err(RecordingError::reading(path))?;
    if text.len() as u64 > MAX_METADATA_BYTES {
        return Err(RecordingError::metadata(path, format!("is over {MAX_METADATA_BYTES} bytes, too large for SigMF metadata")));
    }
    serde_json::from_slice(&text).map_err(|error| RecordingError::metadata(path, format!("is not SigMF metadata: {error}")))
}

/// Joins metadata and data.
pub(super) fn recording(
    metadata: Metadata,
    path: &Path,
    name: String,
    data: DataFile,
    overrides: &Overrides,
) -> Result<Recording, RecordingError> {
    let Metadata { global, mut captures } = metadata;
    let unsupported = || RecordingError::UnsupportedDatatype { path: path.to_owned(), name: global.datatype.clone() };
    let datatype = overrides.datatype.or_else(|| datatype_of_name(&global.datatype)).ok_or_else(unsupported)?;
    let sample_rate = overrides.sample_rate.or(global.sample_rate);
    if let Some(rate) = sample_rate.filter(|rate| !(rate.is_finite() && *rate > 0.0)) {
        return Err(RecordingError::metadata(path, format!("core:sample_rate is {rate}, must be over 0")));
    }
    let num_channels = global.num_channels.unwrap_or(1);
    if num_channels == 0 {
        return Err(RecordingError::metadata(path, "core:num_channels is 0, must be at least 1"));
    }
    if captures.is_empty() {
        captures.push(Capture {
            sample_start: global.offset,
            global_index: None,
            header_bytes: 0,
            frequency: None,
            datetime: None,
            geolocation: None,
        });
    }
    captures.sort_by_key(|capture| capture.sample_start);
    let mut layout = Layout {
        path,
        bytes_per_instant: datatype.bytes_per_sample() as u64 * u64::from(num_channels),
        end: data.len.saturating_sub(global.trailing_bytes),
        origin: global.offset,
        warnings: Vec::new(),
    };
    let place = layout.place(global.geolocation);
    let streams = layout.streams(captures, place);
    if streams.is_empty() {
        return Err(RecordingError::Empty { path: data.path });
    }
    let warnings = layout.warnings;
    Ok(Recording { name, data, datatype, num_channels, sample_rate, streams, sha512: global.sha512, warnings })
}

/// Where captures are in the data.
struct Layout<'a> {
    path: &'a Path,
    bytes_per_instant: u64,
    /// Where samples end, bytes.
    end: u64,
    /// The dataset's first sample index.
    origin: u64,
    warnings: Vec<String>,
}

impl Layout<'_> {
    fn streams(&mut self, captures: Vec<Capture>, place: Option<Geolocation>) -> Vec<Stream> {
        let mut streams: Vec<Stream> = Vec::new();
        let mut headers = 0;
        let mut past_the_end = 0;
        // First index and global index of the capture before, where it had samples.
        let mut before: Option<(u64, Option<u64>)> = None;
        let mut moved = None;
        let mut captures = captures.into_iter().peekable();
        while let Some(capture) = captures.next() {
            headers = capture.header_bytes.saturating_add(headers);
            let start = capture.sample_start;
            let byte = start.saturating_sub(self.origin).saturating_mul(self.bytes_per_instant).saturating_add(headers);
            let room = self.end.saturating_sub(byte);
            let until_next = captures.peek().map_or(u64::MAX, |next| next.sample_start - start);
            let len = until_next.min(room / self.bytes_per_instant);
            if captures.peek().is_none() && room % self.bytes_per_instant > 0 {
                self.warnings.push(partial_sample(self.path, room % self.bytes_per_instant));
            }
            past_the_end += u64::from(byte >= self.end);
            if len == 0 {
                continue;
            }
            let follows = before.is_none_or(|(index, global)| match (global, capture.global_index) {
                (Some(global), Some(now)) => now.checked_sub(global) == Some(start - index),
                _ => true,
            });
            before = Some((start, capture.global_index));
            moved = self.place(capture.geolocation).or(moved);
            let stamp = capture.datetime.and_then(|text| self.stamp(&text));
            match streams.last_mut().filter(|stream| follows && stream.frequency == capture.frequency) {
                Some(stream) => {
                    let offset = stream.len();
                    stream.stamps.extend(stamp.map(|stamp| (offset, stamp)));
                    if let Some(place) = moved.as_ref().filter(|place| stream.geolocation_at(offset) != Some(place)) {
                        stream.places.push((offset, place.clone()));
                    }
                    match stream.spans.last_mut() {
                        Some(last) if last.byte + last.len * self.bytes_per_instant == byte => last.len += len,
                        _ => stream.spans.push(Span { byte, len }),
                    }
                }
                None => streams.push(Stream {
                    frequency: capture.frequency,
                    spans: vec![Span { byte, len }],
                    stamps: stamp.into_iter().map(|stamp| (0, stamp)).collect(),
                    places: moved.as_ref().or(place.as_ref()).into_iter().map(|place| (0, place.clone())).collect(),
                }),
            }
        }
        if past_the_end > 0 {
            self.warnings.push(format!("{}: {past_the_end} of the captures begin at or past the data's end", self.path.display()));
        }
        streams
    }

    fn place(&mut self, place: Option<Value>) -> Option<Geolocation> {
        let place = place?;
        let read = serde_json::from_value(place.clone()).ok().filter(Geolocation::is_valid);
        if read.is_none() {
            self.warnings.push(format!("{}: core:geolocation is {place}, no GeoJSON Point, and is left out", self.path.display()));
        }
        read
    }

    /// RFC 3339; SigMF means UTC where the offset is left out.
    fn stamp(&mut self, text: &str) -> Option<Timestamp> {
        let civil = || text.parse::<civil::DateTime>().and_then(|time| time.to_zoned(TimeZone::UTC)).map(|time| time.timestamp());
        let stamp = text.parse().or_else(|_| civil()).ok();
        if stamp.is_none() {
            self.warnings.push(format!("{}: core:datetime is {text:?}, no RFC 3339 time, and is left out", self.path.display()));
        }
        stamp
    }
}
