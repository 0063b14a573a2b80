//! Reading a frame, without copying its samples.

use serde::Deserialize;
use sferic_actors::frame::{Encoding, Priority};

use super::binary::Binary;
use super::explain::{ReadError, why_not};
use super::geolocation::Geolocation;
use super::iq_data::IqData;
use super::keys::TextKeys;
use super::values::{optional_name, optional_whole};

/// A frame's keys; see the contract for their meaning.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
#[expect(missing_docs, reason = "the keys are the contract's")]
pub struct Body<'a> {
    #[serde(borrow)]
    pub samples: Option<Binary<'a>>,
    pub iq_data: Option<IqData>,
    pub datatype: Option<String>,
    pub sample_rate: Option<f64>,
    #[serde(default, deserialize_with = "optional_whole")]
    pub num_channels: Option<u64>,
    pub frequency: Option<f64>,
    pub datetime: Option<String>,
    #[serde(default, deserialize_with = "optional_whole")]
    pub seq: Option<u64>,
    pub geolocation: Option<Geolocation>,
    pub frame_id: Option<String>,
    pub session_id: Option<String>,
    pub model: Option<String>,
    pub cache_enabled: Option<bool>,
    #[serde(default, deserialize_with = "optional_whole")]
    pub timeout_ms: Option<u64>,
    #[serde(default, deserialize_with = "optional_name")]
    pub priority: Option<Priority>,
}

/// Reads a frame: one map, nothing after it. Wrong types of known keys are errors, unknown keys are not.
pub fn read(payload: &[u8], encoding: Encoding) -> Result<Body<'_>, ReadError> {
    // Good frames are read without keeping track of where one is; bad ones are read again to say where.
    let body: Option<TextKeys<Body<'_>>> = match encoding {
        Encoding::MessagePack => one_messagepack(payload),
        Encoding::Json => serde_json::from_slice(payload).ok(),
    };
    body.map(|TextKeys(body)| body).ok_or_else(|| why_not(payload, encoding))
}

/// The value that the payload is, unless there is more after it.
fn one_messagepack<'de, T: Deserialize<'de>>(payload: &'de [u8]) -> Option<T> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(payload);
    let value = T::deserialize(&mut deserializer).ok()?;
    // The deserializer does not say where it is, only that there is no next value.
    let ended = matches!(bool::deserialize(&mut deserializer), Err(rmp_serde::decode::Error::InvalidMarkerRead(_)));
    ended.then_some(value)
}

/// 1 to 256 printable ASCII characters.
pub fn frame_id_is_valid(id: &str) -> bool {
    (1..=256).contains(&id.len()) && id.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}
