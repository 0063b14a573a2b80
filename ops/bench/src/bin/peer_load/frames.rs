//! The frames of all sides: the same samples, in the encodings that the sides read.

use anyhow::ensure;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sferic_samples::Datatype;
use sferic_scene::FrameSimulator;
use sferic_wire::FrameMessage;

/// Samples of a frame, one channel: 128 KiB as `cf32_le`.
pub const SAMPLES: usize = 16_384;

/// Different frames before they are numbered.
pub const PATTERNS: u64 = 16;

const SAMPLE_RATE_HZ: f64 = 250e3;

/// How a frame is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// A MessagePack map, as sferic reads it.
    MessagePack,
    /// The same keys in JSON, the samples in base64.
    JsonBase64,
    /// JSON with the samples as a list of pairs, in `iq_data`.
    JsonLists,
}

impl Encoding {
    /// Of the body.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::MessagePack => "application/msgpack",
            Self::JsonBase64 | Self::JsonLists => "application/json",
        }
    }
}

/// An encoded frame that is given a number in place, so that no two that are sent are equal.
#[derive(Clone)]
pub struct Frame {
    bytes: Vec<u8>,
    numbered: Numbered,
}

/// Where the number goes.
#[derive(Clone, Copy)]
enum Numbered {
    /// The lowest byte of eight values from here on.
    Values(usize),
    /// One character of base64 for three values from here on: bits of a lowest byte.
    Characters(usize),
    /// Digits of the first value, behind those that float32 keeps.
    Digits(usize),
}

/// Digits of a number in a list.
const DIGITS: usize = 8;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl Frame {
    /// Frame `pattern` in this encoding behind `head`, the head of a request.
    ///
    /// # Errors
    /// A defect.
    pub fn new(encoding: Encoding, pattern: u64, head: impl Fn(usize) -> String) -> anyhow::Result<Self> {
        let samples = FrameSimulator::new(1, SAMPLES).frame(pattern).bytes();
        let (body, numbered) = match encoding {
            Encoding::MessagePack => message_pack(&samples)?,
            Encoding::JsonBase64 => json_base64(&samples),
            Encoding::JsonLists => json_lists(&samples),
        };
        let mut bytes = head(body.len()).into_bytes();
        let start = bytes.len();
        bytes.extend(body);
        let numbered = match numbered {
            Numbered::Values(at) => Numbered::Values(start + at),
            Numbered::Characters(at) => Numbered::Characters(start + at),
            Numbered::Digits(at) => Numbered::Digits(start + at),
        };
        Ok(Self { bytes, numbered })
    }

    /// As it is sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives it a number.
    pub fn number(&mut self, n: u64) {
        match self.numbered {
            Numbered::Values(at) => {
                for (value, byte) in n.to_le_bytes().into_iter().enumerate() {
                    self.bytes[at + 4 * value] = byte;
                }
            }
            Numbered::Characters(at) => {
                for digit in 0..8 {
                    self.bytes[at + 16 * digit] = ALPHABET[(n >> (6 * digit)) as usize % 64];
                }
            }
            Numbered::Digits(at) => {
                let digits = format!("{:0DIGITS$}", n % 10_u64.pow(DIGITS as u32));
                self.bytes[at..at + DIGITS].copy_from_slice(digits.as_bytes());
            }
        }
    }
}

fn message_pack(samples: &[u8]) -> anyhow::Result<(Vec<u8>, Numbered)> {
    let message = FrameMessage {
        frame_id: "peers",
        datatype: Datatype::Cf32Le.name(),
        sample_rate: Some(SAMPLE_RATE_HZ),
        num_channels: 1,
        samples,
        ..FrameMessage::default()
    };
    let body = message.encode()?;
    let at = body.len() - samples.len();
    ensure!(body[at..] == *samples, "the samples are not the last of the frame");
    Ok((body, Numbered::Values(at)))
}

fn json_base64(samples: &[u8]) -> (Vec<u8>, Numbered) {
    let mut body = format!(
        "{{\"frame_id\":\"peers\",\"datatype\":\"cf32_le\",\"sample_rate\":{SAMPLE_RATE_HZ},\"samples\":\""
    );
    let at = body.len();
    BASE64_STANDARD.encode_string(samples, &mut body);
    body += "\"}";
    (body.into_bytes(), Numbered::Characters(at))
}

fn json_lists(samples: &[u8]) -> (Vec<u8>, Numbered) {
    let value = |bytes: [u8; 4]| f32::from_le_bytes(bytes);
    let (values, _) = samples.as_chunks::<4>();
    let mut body = format!("{{\"frame_id\":\"peers\",\"sample_rate\":{SAMPLE_RATE_HZ},\"iq_data\":[[");
    let mut at = 0;
    for (index, bytes) in values.iter().enumerate() {
        match index {
            0 => {
                let first = format!("{:.9e}", value(*bytes));
                let (mantissa, exponent) = first.split_once('e').unwrap_or((&first, "0"));
                body += mantissa;
                at = body.len();
                body += &format!("{:0DIGITS$}e{exponent}", 0);
            }
            _ if index % 2 == 0 => body += &format!("],[{}", value(*bytes)),
            _ => body += &format!(",{}", value(*bytes)),
        }
    }
    body += "]]}";
    (body.into_bytes(), Numbered::Digits(at))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The samples as float32.
    fn samples(encoding: Encoding, frame: &Frame) -> Vec<f32> {
        let floats = |bytes: &[u8]| -> Vec<f32> {
            bytes.as_chunks::<4>().0.iter().map(|&four| f32::from_le_bytes(four)).collect()
        };
        if encoding == Encoding::MessagePack {
            return floats(&frame.bytes[frame.bytes.len() - SAMPLES * 8..]);
        }
        let body: Value = serde_json::from_slice(&frame.bytes).unwrap();
        match &body["samples"] {
            Value::String(text) => floats(&BASE64_STANDARD.decode(text).unwrap()),
            _ => {
                let pairs: Vec<[f64; 2]> = serde_json::from_value(body["iq_data"].clone()).unwrap();
                pairs.into_iter().flatten().map(|value| value as f32).collect()
            }
        }
    }

    #[test]
    fn every_encoding_has_the_same_samples_and_numbers_make_others_of_them() {
        let [packed, base64, lists] = [Encoding::MessagePack, Encoding::JsonBase64, Encoding::JsonLists]
            .map(|encoding| (encoding, Frame::new(encoding, 3, |_| String::new()).unwrap()));
        let first = samples(packed.0, &packed.1);
        assert_eq!(first.len(), 2 * SAMPLES);
        for (encoding, mut frame) in [packed, base64, lists] {
            assert_eq!(samples(encoding, &frame), first, "{encoding:?}");
            let mut seen = vec![frame.bytes.clone()];
            for n in [1, 2, 64, 4097] {
                frame.number(n);
                assert!(!seen.contains(&frame.bytes), "{encoding:?} {n}");
                seen.push(frame.bytes.clone());
                let near = |(a, b): (&f32, &f32)| (a - b).abs() <= a.abs() * 1e-4;
                assert!(samples(encoding, &frame).iter().zip(&first).all(near), "{encoding:?} {n}");
            }
        }
    }
}
