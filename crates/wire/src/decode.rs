//! Reading a frame, without copying its samples.

use serde::Deserialize;
use sferic_actors::frame::Encoding;

use super::body::Body;
use super::explain::{ReadError, why_not};
use super::keys::by_text_keys;

/// Reads a frame: one map, nothing after it. Wrong types of known keys are errors, unknown keys are not.
pub fn read(payload: &[u8], encoding: Encoding) -> Result<Body<'_>, ReadError> {
    // Good frames are decoded without tracking the position; bad ones are decoded again to report it.
    match encoding {
        Encoding::MessagePack => {
            let mut deserializer = rmp_serde::Deserializer::from_read_ref(payload);
            // The deserializer does not report its position, only that there is no next value.
            let ended = |next| matches!(next, Err(rmp_serde::decode::Error::InvalidMarkerRead(_)));
            if let Ok(body) = by_text_keys(&mut deserializer)
                && ended(bool::deserialize(&mut deserializer))
            {
                return Ok(body);
            }
        }
        Encoding::Json => {
            let mut deserializer = serde_json::Deserializer::from_slice(payload);
            if let Ok(body) = by_text_keys(&mut deserializer)
                && deserializer.end().is_ok()
            {
                return Ok(body);
            }
        }
    }
    Err(why_not(payload, encoding))
}

/// 1 to 256 printable ASCII characters.
pub fn frame_id_is_valid(id: &str) -> bool {
    (1..=256).contains(&id.len()) && id.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}
