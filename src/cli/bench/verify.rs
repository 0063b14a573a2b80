//! Whether answers under load are those of the same frames one at a time.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use rmpv::Value;

use super::client::{Client, Ended, read};
use super::frames::Frames;

/// The keys of an answer, without how and when it was made.
const KEYS: [&str; 7] =
    ["position", "uncertainty", "ellipse", "confidence", "labels", "tensors", "model_digest"];

/// How far numbers may differ, relative to the larger: batches of other sizes add in another order.
const TOLERANCE: f64 = 1e-5;

/// What was found.
#[derive(Debug, Default, Clone, PartialEq, serde::Serialize)]
pub struct Verified {
    /// Answers that were compared.
    pub answers: u64,
    /// Those that were alike in every bit.
    pub equal: u64,
    /// Those that differ by more than rounding, or had no answer now.
    pub different: u64,
}

/// Asks again for each of these frames, one at a time and without the cache.
///
/// # Errors
/// A frame cannot be sent.
pub async fn verify(
    client: &Client,
    frames: &Frames,
    answers: &[(u32, Bytes)],
    patience: Duration,
) -> anyhow::Result<Verified> {
    let mut verified = Verified::default();
    for (which, before) in answers {
        verified.answers += 1;
        match client.ask(0, frames.frame(*which), patience).await? {
            Ended::Answered { outcome, .. } => match compare(before, &outcome) {
                Some(true) => verified.equal += 1,
                Some(false) => {}
                None => verified.different += 1,
            },
            _ => verified.different += 1,
        }
    }
    Ok(verified)
}

/// `Some(true)`: alike in every bit, `Some(false)`: but for rounding, `None`: different.
fn compare(a: &[u8], b: &[u8]) -> Option<bool> {
    let (a, b) = (read(a)?, read(b)?);
    let pairs: Vec<_> = KEYS.iter().map(|key| (get(&a, key), get(&b, key))).collect();
    if pairs.iter().all(|(a, b)| a == b) {
        return Some(true);
    }
    pairs
        .iter()
        .all(|pair| matches!(pair, (Some(a), Some(b)) if is_close(a, b)) || pair.0 == pair.1)
        .then_some(false)
}

fn get<'a>(outcome: &'a Value, key: &str) -> Option<&'a Value> {
    outcome.as_map()?.iter().find(|(name, _)| name.as_str() == Some(key)).map(|(_, value)| value)
}

fn is_close(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_close(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            let entry = |(a, b): (&(Value, Value), &(Value, Value))| {
                a.0 == b.0
                    && (is_close(&a.1, &b.1) || a.0.as_str() == Some("data") && is_close_text(&a.1, &b.1))
            };
            a.len() == b.len() && a.iter().zip(b).all(entry)
        }
        (Value::Binary(a), Value::Binary(b)) => a.len() == b.len() && floats(a).zip(floats(b)).all(is_near),
        _ => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => is_near((a, b)),
            _ => a == b,
        },
    }
}

/// Tensors in JSON are in base64.
fn is_close_text(a: &Value, b: &Value) -> bool {
    let [a, b] = [a, b].map(|text| BASE64_STANDARD.decode(text.as_str()?).ok());
    a.zip(b).is_some_and(|(a, b)| is_close(&Value::Binary(a), &Value::Binary(b)))
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f64> {
    bytes.chunks_exact(4).map(|four| f64::from(f32::from_le_bytes(four.try_into().unwrap_or_default())))
}

fn is_near((a, b): (f64, f64)) -> bool {
    a == b || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn packed(latitude: f64, version: &str) -> Vec<u8> {
        let outcome = json!({
            "frame_id": version, "position": {"latitude": latitude, "longitude": 7.0}, "model_digest": "d",
        });
        rmp_serde::to_vec_named(&outcome).unwrap()
    }

    #[test]
    fn answers_are_equal_close_or_different() {
        assert_eq!(compare(&packed(45.0, "a"), &packed(45.0, "b")), Some(true));
        assert_eq!(compare(&packed(45.0, "a"), &packed(45.000_01, "b")), Some(false));
        assert_eq!(compare(&packed(45.0, "a"), &packed(45.1, "b")), None);
        assert_eq!(compare(&packed(45.0, "a"), b"\xc1"), None);
    }

    #[test]
    fn tensors_are_compared_in_either_encoding() {
        let bytes = |value: f32| value.to_le_bytes().to_vec();
        let packed = |value: f32| {
            let data = [("data", Value::Binary(bytes(value)))].map(|(key, value)| (key.into(), value));
            let map = Value::Map(vec![("tensors".into(), Value::Array(vec![Value::Map(data.to_vec())]))]);
            let mut outcome = Vec::new();
            rmpv::encode::write_value(&mut outcome, &map).unwrap();
            outcome
        };
        let text = |value| json!({"tensors": [{"data": BASE64_STANDARD.encode(bytes(value))}]}).to_string();
        let text = |value| text(value).into_bytes();
        for outcome in [&packed as &dyn Fn(f32) -> Vec<u8>, &text] {
            assert_eq!(compare(&outcome(1.5), &outcome(1.5)), Some(true));
            assert_eq!(compare(&outcome(1.5), &outcome(1.500_001)), Some(false));
            assert_eq!(compare(&outcome(1.5), &outcome(1.6)), None);
        }
    }
}
