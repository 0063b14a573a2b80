//! From captures to streams: which bytes of the dataset are samples, and what is known of them.

use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;
use sferic_samples::{Geolocation, datetime};

use super::metadata::{Capture, Global, Whole};
use crate::stream::GAP;
use crate::{ByteSpan, DataFile, Stream};

/// Where captures are in the data.
pub struct Layout<'a> {
    /// The metadata file, for messages.
    path: &'a Path,
    data: &'a DataFile,
    bytes_per_instant: u64,
    sample_rate: Option<f64>,
    /// Where samples end, bytes.
    end: u64,
    /// The dataset's first sample index, as the metadata states it.
    offset: u64,
    /// Where the receiver is, where a capture does not say.
    place: Option<Geolocation>,
    /// What was found amiss and read over.
    pub warnings: Vec<String>,
}

impl<'a> Layout<'a> {
    /// The layout of a dataset, by its global object.
    pub fn new(
        path: &'a Path,
        data: &'a DataFile,
        bytes_per_instant: u64,
        sample_rate: Option<f64>,
        global: &Global,
    ) -> Self {
        let end = data.len.saturating_sub(global.trailing_bytes.0);
        let (offset, place, warnings) = (global.offset.0, None, Vec::new());
        let mut layout = Self { path, data, bytes_per_instant, sample_rate, end, offset, place, warnings };
        layout.place = global.geolocation.as_ref().and_then(|place| layout.place(place));
        layout
    }

    /// The streams of captures that are sorted by their first index.
    pub fn streams(&mut self, captures: Vec<Capture>) -> Vec<Stream> {
        let origin = self.origin(captures.first().map_or(0, |first| first.sample_start.0));
        let mut streams: Vec<Stream> = Vec::new();
        let mut headers = 0;
        let mut past_the_end = 0;
        // First index and global index of the capture before that has samples.
        let mut before = None;
        let mut captures = captures.into_iter().peekable();
        while let Some(capture) = captures.next() {
            headers = capture.header_bytes.0.saturating_add(headers);
            let start = capture.sample_start.0;
            let byte = (start - origin).saturating_mul(self.bytes_per_instant).saturating_add(headers);
            let room = self.end.saturating_sub(byte);
            let until_next = captures.peek().map_or(u64::MAX, |next| next.sample_start.0 - start);
            let len = until_next.min(room / self.bytes_per_instant);
            if captures.peek().is_none() && room % self.bytes_per_instant > 0 {
                self.warnings.push(self.data.partial_sample(room % self.bytes_per_instant));
            }
            past_the_end += u64::from(byte >= self.end);
            if len == 0 {
                continue;
            }
            let global = capture.global_index.map_or(start, |Whole(index)| index);
            let missing = before.map_or(0, |(index, before)| {
                i128::from(global) - i128::from(before) - i128::from(start - index)
            });
            before = Some((start, global));
            let mut stamp = capture.datetime.as_deref().and_then(|text| self.stamp(text));
            if !streams.last().is_some_and(|last| self.continues(last, &capture, missing, stamp)) {
                let counted = || {
                    capture.global_index.and_then(|_| self.after(streams.last()?, missing.try_into().ok()?))
                };
                stamp = stamp.or_else(counted);
                streams.push(Stream { frequency: capture.frequency, ..Stream::default() });
            }
            let place = match &capture.geolocation {
                Some(place) => self.place(place),
                None => self.place.clone(),
            };
            let Some(stream) = streams.last_mut() else { continue };
            let at = stream.len();
            stream.stamps.extend(stamp.map(|stamp| (at, stamp)));
            if stream.geolocation_at(at) != place.as_ref() {
                stream.places.push((at, place));
            }
            match stream.spans.last_mut() {
                Some(last) if last.byte + last.len * self.bytes_per_instant == byte => last.len += len,
                _ => stream.spans.push(ByteSpan { byte, len }),
            }
        }
        if past_the_end > 0 {
            self.warnings.push(format!(
                "{}: {past_the_end} of the captures begin at or past the data's end",
                self.path.display()
            ));
        }
        streams
    }

    /// The index of the dataset's first sample. Indices below `core:offset` can only count from the file's
    /// start, and then all of the recording's do.
    fn origin(&mut self, first: u64) -> u64 {
        if first >= self.offset {
            return self.offset;
        }
        let (path, offset) = (self.path.display(), self.offset);
        self.warnings.push(format!(
            "{path}: core:sample_start is {first}, below core:offset, {offset}: all are taken as counted \
             from the file's start"
        ));
        0
    }

    /// Whether a capture continues a stream: at its frequency, without a sample missing in between by their
    /// indices (a negative number where these go back) or by their times.
    fn continues(&self, stream: &Stream, capture: &Capture, missing: i128, stamp: Option<Timestamp>) -> bool {
        let expected = self.after(stream, 0);
        let jump = expected.zip(stamp).map(|(expected, stamp)| stamp.duration_since(expected).abs());
        stream.frequency == capture.frequency && missing == 0 && jump.is_none_or(|jump| jump <= GAP)
    }

    /// When the instant is sampled that comes so many after a stream's last one.
    fn after(&self, stream: &Stream, missing: u64) -> Option<Timestamp> {
        stream.datetime_at(stream.len().checked_add(missing)?, self.sample_rate)
    }

    fn place(&mut self, place: &Value) -> Option<Geolocation> {
        let read = serde_json::from_value(place.clone()).ok().filter(Geolocation::is_valid);
        if read.is_none() {
            self.warnings.push(format!(
                "{}: core:geolocation is {place}, no GeoJSON Point, and is left out",
                self.path.display()
            ));
        }
        read
    }

    /// RFC 3339; SigMF means UTC where the offset is left out.
    fn stamp(&mut self, text: &str) -> Option<Timestamp> {
        let stamp = datetime::parse(text).or_else(|| datetime::parse(&format!("{text}Z")));
        if stamp.is_none() {
            self.warnings.push(format!(
                "{}: core:datetime is {text:?}, no RFC 3339 time, and is left out",
                self.path.display()
            ));
        }
        stamp
    }
}
