//! Why a frame cannot be read.

use rmpv::ValueRef;
use serde::Deserializer;
use serde::de::Unexpected;
use serde_path_to_error::Track;
use sferic_actors::frame::Encoding;
use sferic_samples::Number;

use super::body::Body;
use super::bound::shortened;
use super::content_type;
use super::keys::by_text_keys;

/// Why a frame's encoding could not be read: the key, what it holds and what it should.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(pub(super) String);

/// Bytes of an error's text: it quotes what the frame holds, which may be as long as the frame.
const MAX_MESSAGE: usize = 400;

/// The encoding whose map marker this payload begins with.
pub(super) fn begins_as(payload: &[u8]) -> Option<Encoding> {
    match payload.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => Some(Encoding::Json),
        _ => matches!(payload.first(), Some(0x80..=0x8f | 0xde | 0xdf)).then_some(Encoding::MessagePack),
    }
}

/// Decodes a bad frame again, to find where it is wrong and how.
pub(super) fn why_not(payload: &[u8], encoding: Encoding) -> ReadError {
    let name = encoding.name();
    match begins_as(payload) {
        Some(begins) if begins == encoding => {}
        None => return ReadError(format!("not a frame in {name}, which is a map with string keys")),
        Some(other) => {
            let (other, header) = (other.name(), content_type(other));
            return ReadError(format!(
                "not a frame in {name}: it begins as {other} does, which takes the header `Content-Type: \
                 {header}`"
            ));
        }
    }
    match encoding {
        Encoding::MessagePack => explain_messagepack(payload),
        Encoding::Json => explain(&mut serde_json::Deserializer::from_slice(payload), encoding, |_, _| None),
    }
}

fn explain_messagepack(payload: &[u8]) -> ReadError {
    let encoding = Encoding::MessagePack;
    explain(&mut rmp_serde::Deserializer::from_read_ref(payload), encoding, |path, error| match error {
        // For a wrong type rmp-serde reports only the marker; the value in the frame says more.
        rmp_serde::decode::Error::TypeMismatch(_) => {
            held_at(payload, path).map(|held| format!("invalid type: {held}"))
        }
        _ => None,
    })
}

/// What a MessagePack map holds under a key, or under one of a map in it, in serde's words.
fn held_at(mut payload: &[u8], path: &str) -> Option<String> {
    let value = rmpv::decode::read_value_ref(&mut payload).ok()?;
    let held = path.split('.').try_fold(&value, |value, at| {
        let ValueRef::Map(entries) = value else { return None };
        let is_it = |key: &ValueRef<'_>| matches!(key, ValueRef::String(key) if key.as_str() == Some(at));
        entries.iter().find(|(key, _)| is_it(key)).map(|(_, held)| held)
    })?;
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

/// Returns where the frame is wrong and how; `better` may know more than the error of the deserializer.
fn explain<'de, D: Deserializer<'de>>(
    deserializer: D,
    encoding: Encoding,
    better: impl FnOnce(&str, &D::Error) -> Option<String>,
) -> ReadError {
    let encoding = encoding.name();
    let mut track = Track::new();
    let Err(error) =
        by_text_keys::<_, Body<'de>>(serde_path_to_error::Deserializer::new(deserializer, &mut track))
    else {
        return ReadError(format!(
            "the message goes on after the frame's map, must be one {encoding} map alone"
        ));
    };
    let at = track.path();
    let path = at.to_string();
    let what = with_short_number(better(&path, &error).unwrap_or_else(|| error.to_string()));
    let message = match at.iter().len() {
        0 => format!("not a frame in {encoding}: {what}"),
        _ => format!("`{path}`: {what}"),
    };
    ReadError(shortened(&message, MAX_MESSAGE).into_owned())
}

/// serde's text with the number it quotes as [`Number`] has it: of 1e300 it writes every digit.
fn with_short_number(text: String) -> String {
    let quote = "floating point `";
    let short = || {
        let (before, rest) = text.split_once(quote)?;
        let (digits, after) = rest.split_once('`')?;
        Some(format!("{before}{quote}{}`{after}", Number(digits.parse().ok()?)))
    };
    short().unwrap_or(text)
}
