//! One recording of a ring.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use sferic_samples::Geolocation;
use sha2::{Digest, Sha512};

use super::names::Name;
use super::record::{FrameFormat, FrameRecord};
use crate::RecordingError;
use crate::data::hex;
use crate::write::{SIGMF_VERSION, recorder};

/// What the metadata take beside captures and annotations, at most.
pub const HEAD_BYTES: u64 = 1024;

/// What a capture takes, at most.
const CAPTURE_BYTES: u64 = 256;

/// What a frame takes beside its samples and its annotation, at most: a capture, and where it is.
pub const FRAME_BYTES: u64 = CAPTURE_BYTES + 128;

/// A frame that begins this far from where the one before ends begins a capture.
const JUMP: SignedDuration = SignedDuration::from_millis(1);

/// A recording that is being written.
#[derive(Debug)]
pub struct Segment {
    pub name: Name,
    pub format: FrameFormat,
    /// Number of its last frame.
    pub last_frame: u64,
    source: String,
    folder: std::path::PathBuf,
    data: File,
    data_bytes: u64,
    digest: Sha512,
    captures: Vec<Value>,
    /// When the instant comes that follows the last one, and where the receiver was.
    next: (Option<Timestamp>, Option<Geolocation>),
    /// JSON objects.
    annotations: Vec<String>,
    /// Where each one's samples end, bytes.
    ends: Vec<u64>,
    annotation_bytes: u64,
    is_written: bool,
}

impl Segment {
    /// Begins a recording with the format of its first frame, which is not added yet.
    pub fn create(folder: &Path, name: Name, first: &FrameRecord<'_>) -> Result<Self, RecordingError> {
        let path = name.data(folder);
        let data = File::create(&path).map_err(RecordingError::writing(&path))?;
        Ok(Self {
            name,
            format: first.format,
            last_frame: 0,
            source: first.source.to_owned(),
            folder: folder.to_owned(),
            data,
            data_bytes: 0,
            digest: Sha512::new(),
            captures: Vec::new(),
            next: (None, None),
            annotations: Vec::new(),
            ends: Vec::new(),
            annotation_bytes: 0,
            is_written: false,
        })
    }

    /// Bytes of both files, at most.
    pub fn bytes(&self) -> u64 {
        self.data_bytes + self.annotation_bytes + HEAD_BYTES + CAPTURE_BYTES * self.captures.len() as u64
    }

    /// Adds a frame, the `number`-th of its ring.
    pub fn add(
        &mut self,
        record: &FrameRecord<'_>,
        annotation: String,
        number: u64,
    ) -> Result<(), RecordingError> {
        let start = self.instants();
        let samples = record.samples;
        self.data.write_all(samples).map_err(RecordingError::writing(&self.name.data(&self.folder)))?;
        self.digest.update(samples);
        self.data_bytes += samples.len() as u64;
        self.capture(record, start);
        let len = self.instants() - start;
        let annotation = format!(r#"{{"core:sample_start":{start},"core:sample_count":{len},{annotation}"#);
        self.annotation_bytes += annotation.len() as u64 + 2;
        self.annotations.push(annotation);
        self.ends.push(self.data_bytes);
        self.last_frame = number;
        self.is_written = false;
        let after = SignedDuration::from_nanos(
            record.format.sample_rate.map_or(0, |rate| (len as f64 * 1e9 / rate).round() as i64),
        );
        let datetime = record.datetime.filter(|_| record.format.sample_rate.is_some());
        self.next = (datetime.and_then(|time| time.checked_add(after).ok()), record.geolocation.clone());
        Ok(())
    }

    /// Writes the metadata of a recording that goes on, unless they are written.
    pub fn flush(&mut self) -> Result<(), RecordingError> {
        if self.is_written || self.annotations.is_empty() {
            return Ok(());
        }
        self.write_metadata(false)
    }

    /// Writes the metadata of a recording that has ended: now the data's digest is known.
    pub fn end(&mut self) -> Result<(), RecordingError> {
        self.write_metadata(true)
    }

    /// Ends a recording that cannot be written any more with as much of it as there is room for. Returns how
    /// many frames are left out.
    pub fn salvage(&mut self) -> usize {
        let before = self.annotations.len();
        let per_instant = self.bytes_per_instant();
        while !self.annotations.is_empty() {
            let kept = self.annotations.len() * 3 / 4;
            self.annotations.truncate(kept);
            self.ends.truncate(kept);
            let end = self.ends.last().copied().unwrap_or(0);
            let is_kept = |capture: &Value| {
                let start = capture["core:sample_start"].as_u64().unwrap_or(0);
                start == 0 || start * per_instant < end
            };
            self.captures.retain(is_kept);
            if kept > 0 && self.data.set_len(end).is_ok() && self.write_metadata(false).is_ok() {
                return before - kept;
            }
        }
        for path in [self.name.metadata(&self.folder), self.name.data(&self.folder)] {
            // Where that fails, too, it stays as it is.
            _ = fs::remove_file(path);
        }
        before
    }

    fn write_metadata(&mut self, has_ended: bool) -> Result<(), RecordingError> {
        let mut global = json!({
            "core:datatype": self.format.datatype.name(),
            "core:num_channels": self.format.num_channels,
            "core:version": SIGMF_VERSION,
            "core:recorder": recorder(),
            "core:description": format!("frames of {} with their outcomes", self.source),
            "core:extensions": [{"name": "sferic", "version": "1.0.0", "optional": true}],
            "sferic:source": self.source,
        });
        if let Some(rate) = self.format.sample_rate {
            global["core:sample_rate"] = rate.into();
        }
        if has_ended {
            global["core:sha512"] = hex(&self.digest.clone().finalize()).into();
        }
        let captures = Value::from(self.captures.clone());
        let text = format!(
            "{{\"global\":{global},\n\"captures\":{captures},\n\"annotations\":[\n{}\n]}}\n",
            self.annotations.join(",\n")
        );
        let path = self.name.metadata(&self.folder);
        let written = path.with_extension("tmp");
        let done = fs::write(&written, text).and_then(|()| fs::rename(&written, &path));
        if done.is_err() {
            // Where that fails, too, it stays.
            _ = fs::remove_file(&written);
        }
        done.map_err(RecordingError::writing(&path))?;
        self.is_written = true;
        Ok(())
    }

    fn bytes_per_instant(&self) -> u64 {
        self.format.datatype.bytes_per_sample() as u64 * u64::from(self.format.num_channels)
    }

    fn instants(&self) -> u64 {
        self.data_bytes / self.bytes_per_instant()
    }

    /// Begins a capture where the frame's time or place is another than the one before says.
    fn capture(&mut self, record: &FrameRecord<'_>, start: u64) {
        let (expected, place) = &self.next;
        let jumps = match (record.datetime, expected) {
            (Some(time), Some(expected)) => time.duration_since(*expected).abs() > JUMP,
            (time, expected) => time.is_some() || expected.is_some(),
        };
        if !self.captures.is_empty() && !jumps && *place == record.geolocation {
            return;
        }
        let mut capture = Map::new();
        capture.insert("core:sample_start".to_owned(), start.into());
        if let Some(frequency) = self.format.frequency {
            capture.insert("core:frequency".to_owned(), frequency.into());
        }
        if let Some(time) = record.datetime {
            capture.insert("core:datetime".to_owned(), time.to_string().into());
        }
        if let Some(place) = &record.geolocation {
            capture.insert("core:geolocation".to_owned(), json!(place));
        }
        // A frame of tensors alone takes no room; SigMF wants starts to ascend.
        match self.captures.last_mut() {
            Some(last) if last["core:sample_start"] == start => *last = capture.into(),
            _ => self.captures.push(capture.into()),
        }
    }
}

/// An annotation without its place, as the end of a JSON object.
pub fn annotation(record: &FrameRecord<'_>) -> String {
    let FrameRecord { frame, outcome, received_at, .. } = record;
    let annotation = json!({
        "core:label": label(outcome),
        "sferic:received": received_at,
        "sferic:frame": frame,
        "sferic:outcome": outcome,
    });
    annotation.to_string().split_off(1)
}

/// What an outcome says, in a word.
fn label(outcome: &Value) -> &str {
    let top = || outcome["labels"][0]["label"].as_str();
    let word = top().or_else(|| outcome["code"].as_str()).or_else(|| outcome["kind"].as_str());
    word.unwrap_or("no outcome")
}
