//! Recorded frames, read back.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};
use sferic_samples::Datatype;

use crate::RecordingError;
use crate::name::datatype_of_name;

/// A frame with what became of it.
#[derive(Clone, Debug)]
pub struct RecordedOutcome {
    /// The metadata file it was read from.
    pub path: PathBuf,
    /// The source it came from.
    pub source: String,
    /// When it was received.
    pub received_at: Timestamp,
    /// Its keys without the samples.
    pub frame: Map<String, Value>,
    /// Its outcome; null where none is known.
    pub outcome: Value,
    /// How its samples are stored.
    pub datatype: Datatype,
    /// Receivers or antennas sampled together.
    pub num_channels: u32,
    /// Samples per second, Hz.
    pub sample_rate: Option<f64>,
    /// Where its samples are in the data file, bytes.
    offset: u64,
    len: u64,
}

impl RecordedOutcome {
    /// Its samples; none of a frame that has tensors alone.
    ///
    /// # Errors
    /// The data file cannot be read, or ends before.
    pub fn samples(&self) -> Result<Vec<u8>, RecordingError> {
        let path = self.path.with_extension("sigmf-data");
        let read = || {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(self.offset))?;
            let mut bytes = vec![0; self.len as usize];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(RecordingError::reading(&path))
    }
}

/// What is read of the metadata.
#[derive(Deserialize)]
struct Metadata {
    global: Global,
    #[serde(default)]
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Global {
    #[serde(rename = "core:datatype")]
    datatype: String,
    #[serde(rename = "core:num_channels")]
    num_channels: Option<u32>,
    #[serde(rename = "core:sample_rate")]
    sample_rate: Option<f64>,
    #[serde(rename = "sferic:source")]
    source: Option<String>,
}

#[derive(Deserialize)]
struct Annotation {
    #[serde(rename = "core:sample_start")]
    start: u64,
    #[serde(rename = "core:sample_count", default)]
    count: u64,
    #[serde(rename = "sferic:received")]
    received: Option<Timestamp>,
    #[serde(rename = "sferic:frame")]
    frame: Option<Map<String, Value>>,
    #[serde(rename = "sferic:outcome", default)]
    outcome: Value,
}

/// Reads the frames of a recording, or of all in a folder, in the order in which they were received.
///
/// # Errors
/// A file that cannot be read, metadata that is not SigMF, or no recorded frame in any.
pub fn recorded(path: &Path) -> Result<Vec<RecordedOutcome>, RecordingError> {
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in path.read_dir().map_err(RecordingError::reading(path))? {
            let file = entry.map_err(RecordingError::reading(path))?.path();
            if file.extension().is_some_and(|extension| extension == "sigmf-meta") {
                files.push(file);
            }
        }
        files.sort();
    } else {
        files.push(path.with_extension("sigmf-meta"));
    }
    let mut frames = Vec::new();
    for file in files {
        read(&file, &mut frames)?;
    }
    if frames.is_empty() {
        let reason = "holds no frame with its outcome (sferic:frame), as `sferic record` writes them";
        return Err(RecordingError::metadata(path, reason));
    }
    frames.sort_by_key(|frame| frame.received_at);
    Ok(frames)
}

fn read(path: &Path, frames: &mut Vec<RecordedOutcome>) -> Result<(), RecordingError> {
    let file = File::open(path).map_err(RecordingError::reading(path))?;
    let Metadata { global, annotations } = serde_json::from_reader(BufReader::new(file))
        .map_err(|error| RecordingError::metadata(path, format!("is not SigMF metadata: {error}")))?;
    let unsupported =
        || RecordingError::UnsupportedDatatype { path: path.to_owned(), name: global.datatype.clone() };
    let datatype = datatype_of_name(&global.datatype).ok_or_else(unsupported)?;
    let num_channels = global.num_channels.unwrap_or(1).max(1);
    let per_instant = datatype.bytes_per_sample() as u64 * u64::from(num_channels);
    let data = path.with_extension("sigmf-data");
    let room = data.metadata().map_err(RecordingError::reading(&data))?.len() / per_instant;
    for Annotation { start, count, received, frame, outcome } in annotations {
        let (Some(frame), Some(received_at)) = (frame, received) else { continue };
        if start.checked_add(count).is_none_or(|end| end > room) {
            let reason = format!("a frame of samples {start} to {start} + {count}, the data has {room}");
            return Err(RecordingError::metadata(path, reason));
        }
        frames.push(RecordedOutcome {
            path: path.to_owned(),
            source: global.source.clone().unwrap_or_default(),
            received_at,
            frame,
            outcome,
            datatype,
            num_channels,
            sample_rate: global.sample_rate,
            offset: start * per_instant,
            len: count * per_instant,
        });
    }
    Ok(())
}
