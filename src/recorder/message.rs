//! A recorded frame as a message again.

use anyhow::Context;
use base64::prelude::{BASE64_STANDARD, Engine};
use rmpv::Value as Packed;
use serde_json::{Map, Value};
use sferic_samples::Datatype;

/// The message of a frame, of its keys and its samples, in MessagePack: nothing of it comes from a cache, and
/// where a `model` is given, that is asked.
///
/// # Errors
/// A tensor that was not recorded as one.
pub fn message(
    keys: &Map<String, Value>,
    samples: Vec<u8>,
    datatype: Datatype,
    model: Option<&str>,
) -> anyhow::Result<Vec<u8>> {
    let mut entries = Vec::new();
    for (key, value) in keys {
        let value = match key.as_str() {
            "cache_enabled" | "samples" | "iq_data" | "datatype" => continue,
            "model" if model.is_some() => continue,
            "tensors" => tensors(value).context("its tensors are not as they were recorded")?,
            _ => packed(value),
        };
        entries.push((key.as_str().into(), value));
    }
    entries.extend(model.map(|model| ("model".into(), model.into())));
    entries.push(("cache_enabled".into(), false.into()));
    if !samples.is_empty() {
        entries.push(("datatype".into(), datatype.name().into()));
        // Last, as sources send them.
        entries.push(("samples".into(), Packed::Binary(samples)));
    }
    let mut message = Vec::new();
    rmpv::encode::write_value(&mut message, &Packed::Map(entries))?;
    Ok(message)
}

/// Tensors, whose data JSON has in base64.
fn tensors(tensors: &Value) -> Option<Packed> {
    let tensor = |(name, tensor): (&String, &Value)| {
        let entries = tensor.as_object()?.iter().map(|(key, value)| {
            let value = match value.as_str() {
                Some(text) if key == "data" => Packed::Binary(BASE64_STANDARD.decode(text).ok()?),
                _ => packed(value),
            };
            Some((key.as_str().into(), value))
        });
        Some((name.as_str().into(), Packed::Map(entries.collect::<Option<_>>()?)))
    };
    Some(Packed::Map(tensors.as_object()?.iter().map(tensor).collect::<Option<_>>()?))
}

fn packed(value: &Value) -> Packed {
    match value {
        Value::Null => Packed::Nil,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().map_or(Packed::Nil, Into::into),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(values) => Packed::Array(values.iter().map(packed).collect()),
        Value::Object(entries) => {
            Packed::Map(entries.iter().map(|(key, value)| (key.as_str().into(), packed(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sferic_actors::frame::Encoding;

    use super::super::frame;
    use super::*;

    #[test]
    fn a_recorded_frame_is_the_same_frame_again() {
        let sent = json!({
            "frame_id": "a", "seq": 7, "sample_rate": 48000.5, "frequency": -1.5,
            "unknown": {"deep": [1, null, true]},
            "model": "m", "cache_enabled": true, "iq_data": [[0.5, -1.0]],
            "tensors": {"x": {"shape": [2], "dtype": "int16", "data": "AQACAA=="}},
        });
        let sent = sent.to_string();
        let read = frame::read(sent.as_bytes(), Encoding::Json).unwrap();
        let again = message(&read.keys, read.samples.to_vec(), read.format.datatype, Some("m@2")).unwrap();
        let reread = frame::read(&again, Encoding::MessagePack).unwrap();
        assert_eq!((&reread.samples, reread.format), (&read.samples, read.format));
        let mut expected = read.keys;
        expected.insert("model".to_owned(), json!("m@2"));
        expected.insert("cache_enabled".to_owned(), json!(false));
        expected.insert("datatype".to_owned(), json!("cf32_le"));
        assert_eq!(reread.keys, expected);
        let value: Packed = rmp_serde::from_slice(&again).unwrap();
        assert_eq!(value["tensors"]["x"]["data"], Packed::Binary(vec![1, 0, 2, 0]));
        let wrong = json!({"tensors": {"x": {"data": "?"}}});
        message(wrong.as_object().unwrap(), Vec::new(), Datatype::Cu8, None).unwrap_err();
    }
}
