//! Reads what is readable of a frame that is refused without being decoded, or that cannot be decoded.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use sferic_actors::frame::{Encoding, FrameInfo};

use super::datetime::to_nanoseconds;
use super::decode::frame_id_is_valid;
use super::keys::Known;
use super::scalar::Scalar;

/// Extracts what an outcome echoes: what precedes the point where the frame is cut off or broken, and has the
/// right type. An empty `frame_id` means that there is none.
pub fn salvage(payload: &[u8], encoding: Encoding) -> FrameInfo {
    let mut info = FrameInfo::default();
    // Where it fails, what was found before is kept.
    let _ = match encoding {
        Encoding::MessagePack => {
            rmp_serde::Deserializer::from_read_ref(payload).deserialize_map(Echo(&mut info)).ok()
        }
        Encoding::Json => serde_json::Deserializer::from_slice(payload).deserialize_map(Echo(&mut info)).ok(),
    };
    info
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    FrameId,
    SessionId,
    Seq,
    Datetime,
    Frequency,
    #[serde(other)]
    Other,
}

/// Reads the echoed keys; everything else is skipped.
struct Echo<'a>(&'a mut FrameInfo);

impl<'de> Visitor<'de> for Echo<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let (Self(info), mut map) = (self, Known(map));
        while let Some(key) = map.next_key()? {
            let mut value = || map.next_value::<Scalar<'de>>();
            match key {
                Key::FrameId => {
                    info.frame_id =
                        value()?.into_text().filter(|id| frame_id_is_valid(id)).unwrap_or_default()
                }
                Key::SessionId => info.session_id = value()?.into_text(),
                Key::Datetime => info.datetime = value()?.into_text().map(to_nanoseconds),
                Key::Seq => info.seq = value()?.as_whole(),
                Key::Frequency => info.frequency = value()?.as_number(),
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}
