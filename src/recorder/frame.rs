//! From a message to what is recorded of it.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Map, Value};
use sferic_actors::frame::Encoding;
use sferic_recording::ring::{FrameFormat, FrameRecord};
use sferic_samples::{Datatype, Geolocation, datetime};
use sferic_wire::{self as wire, Text};

use crate::msgpack_json::Json;

/// Keys that hold samples, which are recorded as such.
const SAMPLES: [&str; 2] = ["samples", "iq_data"];

/// A decoded message.
pub struct ReadFrame<'a> {
    /// The samples; none of a frame that has tensors alone.
    pub samples: Cow<'a, [u8]>,
    /// What they are.
    pub format: FrameFormat,
    /// The time of the first sample.
    pub datetime: Option<Timestamp>,
    geolocation: Option<Geolocation>,
    /// All keys but the samples', as JSON.
    pub keys: Map<String, Value>,
}

/// Reads a message; `None` where it is no frame, or its samples are no whole number of instants.
pub fn read(payload: &[u8], encoding: Encoding) -> Option<ReadFrame<'_>> {
    let body = wire::read(payload, encoding).ok()?;
    let datatype = body.datatype.as_ref().map(Text::as_str);
    let (samples, datatype) = match (body.samples, body.iq_data) {
        (Some(samples), None) => (samples.0, datatype?.parse().ok()?),
        (None, Some(iq_data)) => (Cow::Owned(iq_data.0), Datatype::Cf32Le),
        // Tensors alone.
        (None, None) if body.tensors.is_some() => (Cow::default(), Datatype::Cf32Le),
        _ => return None,
    };
    let num_channels = u32::try_from(body.num_channels.unwrap_or(1)).ok().filter(|channels| *channels > 0)?;
    if !samples.len().is_multiple_of(datatype.bytes_per_sample().checked_mul(num_channels as usize)?) {
        return None;
    }
    // JSON has no other numbers; the daemon refuses such a frame.
    if [body.sample_rate, body.frequency].into_iter().flatten().any(|number| !number.is_finite()) {
        return None;
    }
    Some(ReadFrame {
        samples,
        format: FrameFormat {
            datatype,
            num_channels,
            sample_rate: body.sample_rate.filter(|rate| *rate > 0.0),
            frequency: body.frequency,
        },
        datetime: body.datetime.as_deref().and_then(datetime::parse),
        geolocation: body.geolocation.map(wire::Geolocation::into_place),
        keys: keys(payload, encoding)?,
    })
}

/// All keys but the samples', as JSON.
fn keys(payload: &[u8], encoding: Encoding) -> Option<Map<String, Value>> {
    let mut keys = match encoding {
        Encoding::Json => serde_json::from_slice(payload).ok()?,
        Encoding::MessagePack => {
            let mut frame = rmpv::decode::read_value(&mut &payload[..]).ok()?;
            if let rmpv::Value::Map(entries) = &mut frame {
                entries.retain(|(key, _)| key.as_str().is_some_and(|key| !SAMPLES.contains(&key)));
            }
            match serde_json::to_value(Json(&frame)).ok()? {
                Value::Object(keys) => keys,
                _ => return None,
            }
        }
    };
    for key in SAMPLES {
        keys.remove(key);
    }
    Some(keys)
}

impl ReadFrame<'_> {
    /// The record of the frame; it keeps the id of its outcome where it has none of its own.
    pub fn record<'a>(&'a self, source: &'a str, received_at: Timestamp, outcome: Value) -> FrameRecord<'a> {
        let mut frame = self.keys.clone();
        if let (None, Some(id)) = (frame.get("frame_id"), outcome["frame_id"].as_str()) {
            frame.insert("frame_id".to_owned(), id.into());
        }
        FrameRecord {
            source,
            format: self.format,
            samples: &self.samples,
            datetime: self.datetime,
            geolocation: self.geolocation.clone(),
            received_at,
            frame,
            outcome,
        }
    }
}
