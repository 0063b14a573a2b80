//! A batch: the messages of its frames, and the answer made of their outcomes.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use rmp::encode::{write_array_len, write_map_len, write_str};
use serde::Serialize;
use sferic_actors::frame::Encoding;

use super::content_type;
use super::explain::{ReadError, begins_as};
use super::outcome::{EncodeError, milliseconds, write};
use super::split::{Shape, Value};

/// The most frames of a batch.
pub const MAX_BATCH: usize = 100;

/// Keys of a batch that its frames have where they have none of their own.
const DEFAULTS: [&str; 6] = ["session_id", "model", "sample_rate", "timeout_ms", "priority", "cache_enabled"];

/// The names that the list of frames may have.
const LISTS: [&str; 2] = ["samples", "iq_samples"];

/// A batch, divided into its frames, which are not decoded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its frames, in order.
    pub frames: Vec<FrameInBatch>,
    /// Whether frames are begun after one has failed.
    pub continue_on_error: bool,
}

/// A frame of a batch. Whether it is a good one is known once its message is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameInBatch {
    /// The message of the frame alone, in the encoding of the batch.
    pub payload: Bytes,
    /// Its `source`.
    pub source: Option<String>,
}

/// Reads a batch and completes its frames with its defaults. Samples are copied at most once, and only where
/// a default is added to their frame.
///
/// # Errors
/// It is no batch, or not of 1 to [`MAX_BATCH`] frames.
pub fn read_batch(payload: &Bytes, encoding: Encoding) -> Result<Batch, ReadError> {
    let broken = || ReadError(explain(payload, encoding));
    let (body, after) = Value::first(payload, encoding).ok_or_else(broken)?;
    let mut lists = Vec::new();
    let mut defaults = [None; DEFAULTS.len()];
    let mut goes_on = None;
    body.entries(|key, value| match key.as_deref() {
        Some("continue_on_error") => goes_on = Some(value).filter(|value| !value.is_nil()),
        Some(key) if LISTS.contains(&key) && lists.len() < 2 => lists.push(value),
        Some(key) => {
            if let Some(at) = DEFAULTS.iter().position(|default| *default == key) {
                defaults[at] = Some(value);
            }
        }
        None => {}
    })
    .ok_or_else(broken)?;
    if !after.trim_ascii_start().is_empty() {
        let encoding = encoding.name();
        return Err(ReadError(format!(
            "the message goes on after the batch's map, must be one {encoding} map alone"
        )));
    }
    let [list] = lists[..] else {
        let given = if lists.is_empty() { "neither" } else { "more than one" };
        return Err(ReadError(format!(
            "{given} of `samples` and `iq_samples` is given, must be one list of 1 to {MAX_BATCH} frames"
        )));
    };
    let mut frames = Vec::new();
    let mut count = 0;
    list.elements(|item| {
        count += 1;
        if count <= MAX_BATCH {
            frames.push(item);
        }
    })
    .ok_or_else(|| ReadError(format!("`samples` is no list, must be one of 1 to {MAX_BATCH} frames")))?;
    if !(1..=MAX_BATCH).contains(&count) {
        return Err(ReadError(format!("the batch has {count} frames, must have 1 to {MAX_BATCH}")));
    }
    let continue_on_error = match goes_on {
        None => true,
        Some(value) => value
            .boolean()
            .ok_or_else(|| ReadError("`continue_on_error` must be true or false".to_owned()))?,
    };
    let frames = frames.into_iter().map(|item| frame(payload, item, &defaults)).collect();
    Ok(Batch { frames, continue_on_error })
}

/// The `source` of a frame's message, which frames on NATS have in their subject.
pub fn read_source(payload: &[u8], encoding: Encoding) -> Option<String> {
    let mut source = None;
    Value::first(payload, encoding)?.0.entries(|key, value| {
        if key.as_deref() == Some("source") {
            source = value.text().map(Cow::into_owned);
        }
    });
    source
}

/// The message of one frame: a map, or bare `[[i, q], …]`.
fn frame(batch: &Bytes, item: Value<'_>, defaults: &[Option<Value<'_>>; DEFAULTS.len()]) -> FrameInBatch {
    let mut missing = *defaults;
    let mut source = None;
    let as_it_is = |source| FrameInBatch { payload: batch.slice_ref(item.bytes), source };
    match item.shape() {
        Shape::Map => {
            let content = item.entries(|key, value| {
                let Some(key) = key else { return };
                if key == "source" {
                    source = value.text().map(Cow::into_owned);
                }
                if let Some(at) = DEFAULTS.iter().position(|default| *default == key) {
                    missing[at] = None;
                }
            });
            let Some(content) = content.filter(|_| missing.iter().any(Option::is_some)) else {
                return as_it_is(source);
            };
            let added = DEFAULTS.into_iter().zip(missing);
            let added: Vec<_> = added.filter_map(|(key, value)| Some((key, value?.bytes))).collect();
            let payload = with_entries(&added, content.bytes, content.count, item.encoding);
            FrameInBatch { payload, source }
        }
        Shape::Array => {
            let added = DEFAULTS.into_iter().zip(missing);
            let mut added: Vec<_> = added.filter_map(|(key, value)| Some((key, value?.bytes))).collect();
            added.push(("iq_data", item.bytes));
            let end: &[u8] = match item.encoding {
                Encoding::MessagePack => b"",
                Encoding::Json => b"}",
            };
            FrameInBatch { payload: with_entries(&added, end, 0, item.encoding), source }
        }
        Shape::Other => as_it_is(source),
    }
}

/// A map of the added entries and those that follow its beginning in `content`.
fn with_entries(added: &[(&str, &[u8])], content: &[u8], count: u32, encoding: Encoding) -> Bytes {
    let length = added.iter().map(|(key, value)| key.len() + value.len() + 4).sum::<usize>();
    let mut message = Vec::with_capacity(length + content.len() + 8);
    match encoding {
        Encoding::MessagePack => {
            // Writing to memory cannot fail.
            let _ = write_map_len(&mut message, count.saturating_add(added.len() as u32));
            for (key, value) in added {
                let _ = write_str(&mut message, key);
                message.extend_from_slice(value);
            }
        }
        Encoding::Json => {
            for (index, (key, value)) in added.iter().enumerate() {
                message.push(if index == 0 { b'{' } else { b',' });
                message.extend_from_slice(format!("\"{key}\":").as_bytes());
                message.extend_from_slice(value);
            }
            if count > 0 {
                message.push(b',');
            }
        }
    }
    message.extend_from_slice(content);
    message.into()
}

/// Why a message is no batch.
fn explain(payload: &[u8], encoding: Encoding) -> String {
    let name = encoding.name();
    match begins_as(payload) {
        Some(other) if other != encoding => {
            let (other, header) = (other.name(), content_type(other));
            format!(
                "not a batch in {name}: it begins as {other} does, which takes the header \
                 `Content-Type: {header}`"
            )
        }
        None => format!("not a batch in {name}, which is a map with string keys"),
        Some(Encoding::MessagePack) => {
            format!("not a batch in {name}: the message of {} bytes is cut off or broken", payload.len())
        }
        Some(Encoding::Json) => match serde_json::from_slice::<serde::de::IgnoredAny>(payload) {
            Err(error) => format!("not a batch in {name}: {error}"),
            Ok(_) => format!("not a batch in {name}"),
        },
    }
}

/// The answer to a batch.
#[derive(Debug)]
pub struct BatchReply {
    /// Predictions and failures as they are written, in the order of the frames.
    pub outcomes: Vec<Bytes>,
    /// The number of predictions.
    pub successful: usize,
    /// From the batch's arrival to the last outcome.
    pub total_time: Duration,
}

/// All keys but `predictions`.
#[derive(Serialize)]
struct Summary {
    successful: usize,
    failed: usize,
    batch_size: usize,
    total_time_ms: f64,
    samples_per_second: f64,
}

impl BatchReply {
    /// Writes the answer; the outcomes must be in the same encoding.
    pub fn encode(&self, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
        let count = self.outcomes.len();
        let summary = Summary {
            successful: self.successful,
            failed: count - self.successful,
            batch_size: count,
            total_time_ms: milliseconds(self.total_time),
            samples_per_second: count as f64 / self.total_time.as_secs_f64().max(1e-6),
        };
        let summary = write(&summary, encoding)?;
        let (_, summary) = summary.split_first().ok_or(EncodeError::empty())?;
        let length = self.outcomes.iter().map(|outcome| outcome.len() + 1).sum::<usize>();
        let mut reply = Vec::with_capacity(length + summary.len() + 64);
        match encoding {
            Encoding::MessagePack => {
                // The five keys of the summary and this one.
                let _ = write_map_len(&mut reply, 6);
                let _ = write_str(&mut reply, "predictions");
                let _ = write_array_len(&mut reply, count as u32);
                self.outcomes.iter().for_each(|outcome| reply.extend_from_slice(outcome));
            }
            Encoding::Json => {
                reply.extend_from_slice(b"{\"predictions\":[");
                for (index, outcome) in self.outcomes.iter().enumerate() {
                    reply.extend_from_slice(if index == 0 { b"" } else { b"," });
                    reply.extend_from_slice(outcome);
                }
                reply.extend_from_slice(b"],");
            }
        }
        reply.extend_from_slice(summary);
        Ok(reply)
    }
}

#[cfg(test)]
mod tests;
