//! Frames with their outcomes as SigMF: written into a folder of bounded size, and read back.
//!
//! One recording a source and stretch of equal [`FrameFormat`]. A frame is an annotation with `sferic:frame`,
//! its keys without the samples, and `sferic:outcome`. The data file grows with each frame, the metadata is
//! written anew by [`RecordRing::flush`]; the oldest recordings are removed for room.

mod names;
mod read;
mod record;
mod rule;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use crate::RecordingError;
pub use names::Name;
pub use read::{RecordedOutcome, recorded};
pub use record::{FrameFormat, FrameRecord};
pub use rule::Rule;
use segment::Segment;

/// Recordings that are written at once; a further source ends the one whose last frame is longest ago.
const MAX_OPEN: usize = 64;

/// A recording ends once it has so many bytes, so that little is removed at once and metadata stay short.
const SEGMENT_BYTES: u64 = 64 << 20;

/// The same, as a share of the folder's bytes.
const SEGMENTS: u64 = 8;

/// A folder of recordings that takes at most so many bytes.
#[derive(Debug)]
pub struct RecordRing {
    folder: PathBuf,
    max_bytes: u64,
    open: HashMap<String, Segment>,
    /// Ended recordings, the oldest first, with their bytes.
    ended: VecDeque<(Name, u64)>,
    ended_bytes: u64,
    /// Frames so far; says which open recording is the oldest.
    frames: u64,
    /// Number of the next recording.
    next: u64,
    removed: u64,
}

impl RecordRing {
    /// Opens a folder, which is made where it is not there. Recordings of before that are a ring's own count
    /// as its oldest.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(folder: &Path, max_bytes: u64) -> Result<Self, RecordingError> {
        fs::create_dir_all(folder).map_err(RecordingError::writing(folder))?;
        let mut found: HashMap<Name, u64> = HashMap::new();
        for entry in folder.read_dir().map_err(RecordingError::reading(folder))? {
            let entry = entry.map_err(RecordingError::reading(folder))?;
            if let Some(name) = Name::of_file(&entry.path()) {
                *found.entry(name).or_default() += entry.metadata().map_or(0, |metadata| metadata.len());
            }
        }
        let mut ended: Vec<_> = found.into_iter().collect();
        ended.sort();
        let next = ended.iter().map(|(name, _)| name.number + 1).max().unwrap_or(0);
        let ended_bytes = ended.iter().map(|(_, bytes)| bytes).sum();
        let (folder, ended) = (folder.to_owned(), ended.into());
        Ok(Self { folder, max_bytes, open: HashMap::new(), ended, ended_bytes, frames: 0, next, removed: 0 })
    }

    /// Adds a frame; `false` where it alone is larger than the folder may be.
    ///
    /// # Errors
    /// A file cannot be written or removed.
    pub fn add(&mut self, record: &FrameRecord<'_>) -> Result<bool, RecordingError> {
        self.frames += 1;
        let annotation = segment::annotation(record);
        let bytes = record.samples.len() as u64 + annotation.len() as u64 + segment::FRAME_BYTES;
        if bytes + segment::HEAD_BYTES > self.max_bytes {
            return Ok(false);
        }
        let segment_bytes = SEGMENT_BYTES.min(self.max_bytes / SEGMENTS);
        let goes_on = |open: &Segment| open.format == record.format && open.bytes() + bytes <= segment_bytes;
        if self.open.get(record.source).is_some_and(|open| !goes_on(open)) {
            self.end(record.source)?;
        }
        if !self.open.contains_key(record.source) {
            if self.open.len() >= MAX_OPEN
                && let Some(oldest) = self.oldest_open(None)
            {
                self.end(&oldest)?;
            }
            self.make_room(bytes + segment::HEAD_BYTES, None)?;
            let name = Name::new(record.source, record.received_at, self.next);
            self.next += 1;
            let segment = Segment::create(&self.folder, name, record)?;
            self.open.insert(record.source.to_owned(), segment);
        } else {
            self.make_room(bytes, Some(record.source))?;
        }
        if let Some(open) = self.open.get_mut(record.source) {
            open.add(record, annotation, self.frames)?;
        }
        Ok(true)
    }

    /// Writes the metadata of what has been added since.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn flush(&mut self) -> Result<(), RecordingError> {
        self.open.values_mut().try_for_each(Segment::flush)
    }

    /// Ends every recording.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn end_all(&mut self) -> Result<(), RecordingError> {
        while let Some(source) = self.open.keys().next().cloned() {
            self.end(&source)?;
        }
        Ok(())
    }

    /// Ends every recording after an error, with as much of each as there is room for. Returns how many
    /// frames are left out.
    pub fn salvage(&mut self) -> usize {
        self.open.drain().map(|(_, mut open)| open.salvage()).sum()
    }

    /// Bytes of all recordings.
    pub fn bytes(&self) -> u64 {
        self.ended_bytes + self.open.values().map(Segment::bytes).sum::<u64>()
    }

    /// Recordings that were removed for room.
    pub fn removed(&self) -> u64 {
        self.removed
    }

    /// Removes the oldest recordings until there is room; the one that is being written for `kept` last.
    fn make_room(&mut self, bytes: u64, kept: Option<&str>) -> Result<(), RecordingError> {
        while self.bytes() + bytes > self.max_bytes {
            let Some((name, size)) = self.ended.pop_front() else {
                match self.oldest_open(kept) {
                    Some(oldest) => self.end(&oldest)?,
                    None => break,
                }
                continue;
            };
            self.ended_bytes -= size;
            self.removed += 1;
            // The metadata first: they are a promise that the data are there.
            for path in [name.metadata(&self.folder), name.data(&self.folder)] {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(RecordingError::writing(&path)(error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn oldest_open(&self, but: Option<&str>) -> Option<String> {
        let others = self.open.iter().filter(|(source, _)| Some(source.as_str()) != but);
        others.min_by_key(|(_, open)| open.last_frame).map(|(source, _)| source.clone())
    }

    fn end(&mut self, source: &str) -> Result<(), RecordingError> {
        if let Some(open) = self.open.get_mut(source) {
            open.end()?;
        }
        if let Some(open) = self.open.remove(source) {
            self.ended_bytes += open.bytes();
            let bytes = open.bytes();
            self.ended.push_back((open.name, bytes));
        }
        Ok(())
    }
}
