//! What can still be told of a frame that is refused unread or cannot be read.

use rmpv::ValueRef;
use serde::Deserialize;
use sferic_actors::frame::{Encoding, FrameInfo};

use super::decode::frame_id_is_valid;

/// The echoed keys; everything else is skipped.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Echo {
    frame_id: Option<String>,
    session_id: Option<String>,
    seq: Option<u64>,
    datetime: Option<String>,
    frequency: Option<f64>,
}

/// As much of the echoed part as can be had. An empty `frame_id` says that none could.
pub fn salvage(payload: &[u8], encoding: Encoding) -> FrameInfo {
    let whole = match encoding {
        Encoding::MessagePack => rmp_serde::from_slice(payload).ok(),
        Encoding::Json => serde_json::from_slice(payload).ok(),
    };
    let echo: Echo = whole.unwrap_or_else(|| match encoding {
        Encoding::MessagePack => key_by_key(payload).unwrap_or_default(),
        Encoding::Json => json_key_by_key(payload),
    });
    FrameInfo {
        frame_id: echo.frame_id.filter(|id| frame_id_is_valid(id)).unwrap_or_default(),
        session_id: echo.session_id,
        seq: echo.seq,
        datetime: echo.datetime,
        frequency: echo.frequency,
    }
}

/// Reads a MessagePack map as far as it goes, and takes of it what has the right type.
fn key_by_key(mut payload: &[u8]) -> Option<Echo> {
    let mut echo = Echo::default();
    let length = rmp::decode::read_map_len(&mut payload).ok()?;
    for _ in 0..length {
        let Ok(ValueRef::String(key)) = rmpv::decode::read_value_ref(&mut payload) else { break };
        let Ok(value) = rmpv::decode::read_value_ref(&mut payload) else { break };
        let text = || match &value {
            ValueRef::String(text) => text.as_str().map(str::to_owned),
            _ => None,
        };
        match key.as_str().unwrap_or_default() {
            "frame_id" => echo.frame_id = text(),
            "session_id" => echo.session_id = text(),
            "datetime" => echo.datetime = text(),
            "seq" => echo.seq = value.as_u64(),
            "frequency" => echo.frequency = value.to_owned().as_f64(),
            _ => {}
        }
    }
    Some(echo)
}

/// An object that is whole but has a wrong type somewhere; of one that is cut off nothing is known.
fn json_key_by_key(payload: &[u8]) -> Echo {
    let Ok(object) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(payload) else { return Echo::default() };
    let text = |key: &str| object.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    Echo {
        frame_id: text("frame_id"),
        session_id: text("session_id"),
        datetime: text("datetime"),
        seq: object.get("seq").and_then(serde_json::Value::as_u64),
        frequency: object.get("frequency").and_then(serde_json::Value::as_f64),
    }
}
