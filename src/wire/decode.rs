//! Reading a frame, without copying its samples.

use serde::{Deserialize, Deserializer};
use sferic_actors::frame::{Encoding, Priority};

use super::binary::Binary;
use super::iq_data::IqData;

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
    pub num_channels: Option<u64>,
    pub frequency: Option<f64>,
    pub datetime: Option<String>,
    pub seq: Option<u64>,
    pub geolocation: Option<Geolocation>,
    pub frame_id: Option<String>,
    pub session_id: Option<String>,
    pub model: Option<String>,
    pub cache_enabled: Option<bool>,
    pub timeout_ms: Option<u64>,
    pub priority: Option<Priority>,
}

/// A GeoJSON Point: `[longitude, latitude, altitude?]`.
#[derive(Debug, Deserialize)]
pub struct Geolocation {
    #[serde(rename = "type")]
    _kind: PointType,
    #[serde(rename = "coordinates")]
    _coordinates: Coordinates,
}

#[derive(Debug, Deserialize)]
enum PointType {
    Point,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<f64>")]
struct Coordinates;

impl TryFrom<Vec<f64>> for Coordinates {
    type Error = String;

    fn try_from(coordinates: Vec<f64>) -> Result<Self, String> {
        match coordinates[..] {
            [_, _] | [_, _, _] => Ok(Self),
            _ => Err(format!("{coordinates:?} is not [longitude, latitude, altitude?]")),
        }
    }
}

/// Why a frame's encoding could not be read: the key, what it holds and what it should.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(String);

/// Reads a frame. Wrong types of known keys are errors, unknown keys are not.
pub fn read(payload: &[u8], encoding: Encoding) -> Result<Body<'_>, ReadError> {
    // serde would also take an array, its elements in the order of the keys.
    if !is_map(payload, encoding) {
        return Err(ReadError(format!("not a frame in {}, which is a map with string keys", encoding.name())));
    }
    // Good frames are read without keeping track of where one is; bad ones are read again to say where.
    match encoding {
        Encoding::MessagePack => rmp_serde::from_slice(payload).map_err(|error| explain_messagepack(payload, &error)),
        Encoding::Json => {
            serde_json::from_slice(payload).map_err(|_| explain(&mut serde_json::Deserializer::from_slice(payload), Encoding::Json))
        }
    }
}

fn is_map(payload: &[u8], encoding: Encoding) -> bool {
    match encoding {
        Encoding::MessagePack => matches!(payload.first(), Some(0x80..=0x8f | 0xde | 0xdf)),
        Encoding::Json => payload.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{'),
    }
}

/// Of a wrong type rmp-serde tells only the marker, not what it holds; the value itself does.
fn explain_messagepack(payload: &[u8], error: &rmp_serde::decode::Error) -> ReadError {
    match rmpv::decode::read_value_ref(&mut &payload[..]) {
        Ok(value) if matches!(error, rmp_serde::decode::Error::TypeMismatch(_)) => explain(value, Encoding::MessagePack),
        _ => explain(&mut rmp_serde::Deserializer::from_read_ref(payload), Encoding::MessagePack),
    }
}

fn explain<'de, D: Deserializer<'de>>(deserializer: D, encoding: Encoding) -> ReadError {
    let Err(error) = serde_path_to_error::deserialize::<_, Body<'de>>(deserializer) else {
        let encoding = encoding.name();
        return ReadError(format!("there is more after the frame than one {encoding} map"));
    };
    let what = error.inner().to_string();
    // rmpv's own preface says nothing.
    let what = what.strip_prefix("error while decoding value: ").unwrap_or(&what);
    if error.path().iter().len() == 0 {
        ReadError(format!("not a frame in {}: {what}", encoding.name()))
    } else {
        ReadError(format!("`{}`: {what}", error.path()))
    }
}

/// 1 to 256 printable ASCII characters.
pub fn frame_id_is_valid(id: &str) -> bool {
    (1..=256).contains(&id.len()) && id.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}
