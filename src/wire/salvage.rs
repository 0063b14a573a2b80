//! What can still be said of a frame that is refused unread or cannot be read.

use std::fmt;

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use sferic_actors::frame::{Encoding, FrameInfo};

use super::decode::frame_id_is_valid;
use super::scalar::Scalar;

/// As much of the echoed part as can be had: what stands before the place where the frame is cut off or broken, and has the right
/// type. An empty `frame_id` says that there is none.
pub fn salvage(payload: &[u8], encoding: Encoding) -> FrameInfo {
    let mut info = FrameInfo::default();
    // Where it fails, what was found before is kept.
    let _ = match encoding {
        Encoding::MessagePack => rmp_serde::Deserializer::from_read_ref(payload).deserialize_map(Echo(&mut info)).ok(),
        Encoding::Json => serde_json::Deserializer::from_slice(payload).deserialize_map(Echo(&mut info)).ok(),
    };
    info
}

/// Reads the echoed keys; everything else is skipped.
struct Echo<'a>(&'a mut FrameInfo);

impl<'de> Visitor<'de> for Echo<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(info) = self;
        while let Some(key) = map.next_key()? {
            let Scalar::Text(key) = key else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let mut value = || map.next_value::<Scalar<'de>>();
            match &*key {
                "frame_id" => info.frame_id = value()?.into_text().filter(|id| frame_id_is_valid(id)).unwrap_or_default(),
                "session_id" => info.session_id = value()?.into_text(),
                "datetime" => info.datetime = value()?.into_text(),
                "seq" => info.seq = value()?.as_whole(),
                "frequency" => info.frequency = value()?.as_number(),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}
