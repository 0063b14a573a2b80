//! Reads a recording frame by frame; never more than one frame is in memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use jiff::Timestamp;
use sferic_samples::Geolocation;

use super::{Cut, Recording, RecordingError};

/// One frame's samples and what the recording knows of them.
#[derive(Clone, Debug)]
pub struct RecordedFrame {
    /// The samples as they are stored.
    pub bytes: Vec<u8>,
    /// Sample instants from the recording's first one, streams laid end to end.
    pub position: u64,
    /// Centre frequency, Hz.
    pub frequency: Option<f64>,
    /// When the first instant was sampled.
    pub datetime: Option<Timestamp>,
    /// Where the receiver was then.
    pub geolocation: Option<Geolocation>,
}

/// The frames of a recording, in order. After an error there are no more.
pub struct Frames<'a> {
    recording: &'a Recording,
    file: Option<File>,
    locations: Box<dyn Iterator<Item = FrameLocation> + Send + 'a>,
}

/// Which instants a frame holds.
struct FrameLocation {
    stream: usize,
    offset: u64,
    len: u64,
    position: u64,
}

impl Recording {
    /// How many frames it gives.
    pub fn count(&self, cut: Cut) -> u64 {
        self.streams.iter().map(|stream| cut.count(stream.len())).sum()
    }

    /// Sample instants that are in no frame, at the ends of its streams.
    pub fn tail(&self, cut: Cut) -> u64 {
        self.streams.iter().map(|stream| cut.tail(stream.len())).sum()
    }

    /// The longest frame it gives, bytes.
    pub fn longest_frame(&self, cut: Cut) -> u64 {
        let longest = self.streams.iter().map(|stream| stream.len().min(cut.frame)).max();
        longest.unwrap_or(0) * self.bytes_per_instant()
    }

    /// Reads its frames.
    ///
    /// # Errors
    /// The data file cannot be opened. Each frame can fail in turn, where the file cannot be read.
    pub fn frames(&self, cut: Cut) -> Result<Frames<'_>, RecordingError> {
        let file = File::open(&self.data.path).map_err(RecordingError::reading(&self.data.path))?;
        let starts = self.streams.iter().scan(0, |start, stream| {
            *start += stream.len();
            Some(*start - stream.len())
        });
        let locations =
            self.streams.iter().zip(starts).enumerate().flat_map(move |(index, (stream, start))| {
                cut.frames(stream.len()).map(move |(offset, len)| FrameLocation {
                    stream: index,
                    offset,
                    len,
                    position: start + offset,
                })
            });
        Ok(Frames { recording: self, file: Some(file), locations: Box::new(locations) })
    }
}

impl Iterator for Frames<'_> {
    type Item = Result<RecordedFrame, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        let file = self.file.as_mut()?;
        let Recording { data, sample_rate, streams, .. } = self.recording;
        let location = self.locations.next()?;
        let stream = streams.get(location.stream)?;
        let bytes_per_instant = self.recording.stored_bytes_per_instant();
        let mut bytes = vec![0; (location.len * bytes_per_instant) as usize];
        let mut read = || -> io::Result<()> {
            let mut rest = bytes.as_mut_slice();
            for span in stream.spans_of(location.offset, location.len, bytes_per_instant) {
                let (part, after) = rest.split_at_mut((span.len * bytes_per_instant) as usize);
                file.seek(SeekFrom::Start(data.offset + span.byte))?;
                file.read_exact(part)?;
                rest = after;
            }
            Ok(())
        };
        if let Err(error) = read() {
            self.file = None;
            return Some(Err(RecordingError::reading(&data.path)(error)));
        }
        Some(Ok(RecordedFrame {
            bytes: self.recording.storage.unpack(bytes),
            position: location.position,
            frequency: stream.frequency,
            datetime: stream.datetime_at(location.offset, *sample_rate),
            geolocation: stream.geolocation_at(location.offset).cloned(),
        }))
    }
}
