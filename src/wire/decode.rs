//! Reading a frame, without copying its samples.

use rmpv::ValueRef;
use serde::de::Unexpected;
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

/// Characters of an error's text: it quotes what the frame holds, which may be as long as the frame.
const MAX_MESSAGE: usize = 400;

/// Reads a frame. Wrong types of known keys are errors, unknown keys are not.
pub fn read(payload: &[u8], encoding: Encoding) -> Result<Body<'_>, ReadError> {
    // serde would also take an array, its elements in the order of the keys.
    if !is_map(payload, encoding) {
        return Err(ReadError(format!("not a frame in {}, which is a map with string keys", encoding.name())));
    }
    // Good frames are read without keeping track of where one is; bad ones are read again to say where.
    match encoding {
        Encoding::MessagePack => rmp_serde::from_slice(payload).map_err(|_| explain_messagepack(payload)),
        Encoding::Json => {
            serde_json::from_slice(payload).map_err(|_| explain(&mut serde_json::Deserializer::from_slice(payload), encoding, |_, _| None))
        }
    }
}

fn is_map(payload: &[u8], encoding: Encoding) -> bool {
    match encoding {
        Encoding::MessagePack => matches!(payload.first(), Some(0x80..=0x8f | 0xde | 0xdf)),
        Encoding::Json => payload.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{'),
    }
}

fn explain_messagepack(payload: &[u8]) -> ReadError {
    let encoding = Encoding::MessagePack;
    explain(&mut rmp_serde::Deserializer::from_read_ref(payload), encoding, |path, error| match error {
        // Of a wrong type rmp-serde tells only the marker; what the frame holds there says more.
        rmp_serde::decode::Error::TypeMismatch(_) => held_at(payload, path).map(|held| format!("invalid type: {held}")),
        _ => None,
    })
}

/// What a MessagePack map holds under a key, in serde's words.
fn held_at(mut payload: &[u8], path: &str) -> Option<String> {
    let value = rmpv::decode::read_value_ref(&mut payload).ok()?;
    let ValueRef::Map(entries) = value else { return None };
    let is_it = |key: &ValueRef<'_>| matches!(key, ValueRef::String(key) if key.as_str() == Some(path));
    let (_, held) = entries.iter().find(|(key, _)| is_it(key))?;
    let unexpected = match held {
        ValueRef::Nil => Unexpected::Unit,
        ValueRef::Boolean(value) => Unexpected::Bool(*value),
        ValueRef::Integer(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Unexpected::Unsigned(number),
            (None, number) => Unexpected::Signed(number?),
        },
        ValueRef::F32(number) => Unexpected::Float(f64::from(*number)),
        ValueRef::F64(number) => Unexpected::Float(*number),
        ValueRef::String(text) => Unexpected::Str(text.as_str().unwrap_or("…")),
        ValueRef::Binary(bytes) => Unexpected::Bytes(bytes),
        ValueRef::Array(_) => Unexpected::Seq,
        ValueRef::Map(_) => Unexpected::Map,
        ValueRef::Ext(..) => Unexpected::Other("extension"),
    };
    Some(unexpected.to_string())
}

/// Reads the frame again, to say where it is wrong and how; `better` may know more of it than the deserializer's error.
fn explain<'de, D: Deserializer<'de>>(
    deserializer: D,
    encoding: Encoding,
    better: impl FnOnce(&str, &D::Error) -> Option<String>,
) -> ReadError {
    let encoding = encoding.name();
    let Err(error) = serde_path_to_error::deserialize::<_, Body<'de>>(deserializer) else {
        return ReadError(format!("there is more after the frame than one {encoding} map"));
    };
    let path = error.path().to_string();
    let what = better(&path, error.inner()).unwrap_or_else(|| error.inner().to_string());
    let mut message = match error.path().iter().len() {
        0 => format!("not a frame in {encoding}: {what}"),
        _ => format!("`{path}`: {what}"),
    };
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
        message.truncate(end);
        message.push('…');
    }
    ReadError(message)
}

/// 1 to 256 printable ASCII characters.
pub fn frame_id_is_valid(id: &str) -> bool {
    (1..=256).contains(&id.len()) && id.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}
