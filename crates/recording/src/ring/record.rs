//! A frame and what became of it.

use jiff::Timestamp;
use serde_json::{Map, Value};
use sferic_samples::{Datatype, Geolocation};

/// What all samples of a recording have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameFormat {
    /// How they are stored.
    pub datatype: Datatype,
    /// Receivers or antennas sampled together.
    pub num_channels: u32,
    /// Samples per second, Hz.
    pub sample_rate: Option<f64>,
    /// Centre frequency, Hz.
    pub frequency: Option<f64>,
}

/// A frame and what became of it.
#[derive(Clone, Debug)]
pub struct FrameRecord<'a> {
    /// The tokens after `<prefix>.frames.`.
    pub source: &'a str,
    /// What its samples are.
    pub format: FrameFormat,
    /// The samples; none of a frame that has tensors alone.
    pub samples: &'a [u8],
    /// When the first one was taken.
    pub datetime: Option<Timestamp>,
    /// Where the receiver was.
    pub geolocation: Option<Geolocation>,
    /// When the frame was received.
    pub received_at: Timestamp,
    /// Its keys without the samples.
    pub frame: Map<String, Value>,
    /// Its outcome; null where none is known.
    pub outcome: Value,
}
