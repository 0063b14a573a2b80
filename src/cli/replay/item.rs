//! What is sent again.

use jiff::Timestamp;
use serde_json::{Map, Value};
use sferic_samples::Datatype;

/// A frame that is sent again.
pub struct Item {
    /// The tokens after `<prefix>.frames.`.
    pub source: String,
    /// When it was received.
    pub received_at: Timestamp,
    /// Its keys without the samples.
    pub keys: Map<String, Value>,
    /// The recorded outcome; null where there is none.
    pub outcome: Value,
    /// How its samples are stored.
    pub datatype: Datatype,
    /// The samples; none of a frame that has tensors alone.
    pub samples: Vec<u8>,
}
