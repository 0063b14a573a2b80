//! The frames of a load test: encoded once, made different from each other by a few bytes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use sferic_actors::frame::Encoding;
use sferic_samples::Datatype;
use sferic_wire::FrameMessage;

use super::oip::OipInput;

/// What is sent.
#[derive(Debug, Clone)]
pub struct FrameShape {
    pub model: Option<String>,
    pub datatype: Datatype,
    pub channels: usize,
    pub sample_rate: Option<f64>,
    /// Samples a channel.
    pub samples: usize,
    pub timeout_ms: u64,
    /// What is sent instead of samples: a request of the Open Inference Protocol.
    pub oip: Option<OipInput>,
    pub encoding: Encoding,
}

/// Encoded frames that differ in their ids and, as far as they are asked for, in their samples.
pub struct Frames {
    /// One message for each pattern of samples, and one of each that keeps out of the cache.
    templates: Vec<Template>,
    sent: AtomicU64,
    run: String,
    /// Frames of other runs are others.
    salt: u32,
    /// Bytes of a number.
    step: usize,
    encoding: Encoding,
}

#[derive(Clone)]
struct Template {
    message: Vec<u8>,
    /// Where the digits of the id are.
    id: usize,
    /// Where the samples are.
    samples: usize,
    /// The first samples, as they are before they are encoded.
    head: Vec<u8>,
}

/// Patterns of samples.
const PATTERNS: u64 = 16;

/// Numbers whose least bits make a frame another.
const NUMBERS: usize = 64;

/// Digits of a frame's number in its id.
const DIGITS: usize = 12;

impl Frames {
    /// Frames of this shape: noise and a tone, different in each pattern.
    ///
    /// # Errors
    /// A datatype that is not made here, or a defect.
    pub fn new(shape: &FrameShape, cache_enabled: bool, salt: u32) -> anyhow::Result<Self> {
        let run = format!("{:08x}", rand::random::<u32>());
        let id = frame_id(&run, 0);
        let step = (shape.datatype.bytes_per_sample() / 2).max(1);
        let template = |seed| {
            let Encoded { message, last, samples } = match &shape.oip {
                Some(input) => request(input, &id, shape, seed)?,
                None => frame(&id, shape, cache_enabled, seed)?,
            };
            let find = |part: &[u8]| message.windows(part.len()).position(|window| window == part);
            let id_at = find(id.as_bytes()).context("the frame has no id")?;
            let samples_at = message.len() - last.len();
            ensure!(message[samples_at..] == last, "the samples are not the last of the frame");
            // Whole groups of base64.
            let head = samples[..samples.len().min((NUMBERS * step).next_multiple_of(3))].to_vec();
            Ok(Template { id: id_at + id.len() - DIGITS, samples: samples_at, message, head })
        };
        let templates = (0..PATTERNS).map(template).collect::<anyhow::Result<_>>()?;
        Ok(Self { templates, sent: AtomicU64::new(0), run, salt, step, encoding: shape.encoding })
    }

    /// Length of what is before the tensor in a request of the Open Inference Protocol.
    pub fn json_length(input: &OipInput, timeout_ms: u64) -> usize {
        input.json(&frame_id("00000000", 0), timeout_ms).len()
    }

    /// Size of a message, bytes.
    pub fn bytes(&self) -> usize {
        self.templates.first().map_or(0, |template| template.message.len())
    }

    /// A frame with the samples of `which`, and an id of its own; gives the id too.
    pub fn frame(&self, which: u32) -> (String, Bytes) {
        let number = self.sent.fetch_add(1, Relaxed);
        let Template { message, id, samples, head } = &self.templates[(u64::from(which) % PATTERNS) as usize];
        let mut message = message.clone();
        let digits = format!("{number:0DIGITS$}");
        message[*id..*id + DIGITS].copy_from_slice(digits.as_bytes());
        // The least bits of the first numbers: other frames for the cache, and finite in every datatype.
        let bits = u64::from(self.salt) << 32 | u64::from(which);
        let mut head = head.clone();
        for (bit, byte) in head.iter_mut().step_by(self.step).take(NUMBERS).enumerate() {
            *byte = *byte & !1 | u8::from(bits >> bit & 1 == 1);
        }
        if self.encoding == Encoding::Json {
            head = BASE64_STANDARD.encode(head).into_bytes();
        }
        message[*samples..*samples + head.len()].copy_from_slice(&head);
        (frame_id(&self.run, number), message.into())
    }
}

fn frame_id(run: &str, number: u64) -> String {
    format!("bench-{run}-{number:0DIGITS$}")
}

/// A message, how its samples are written, which is the last of it, and the samples.
struct Encoded {
    message: Vec<u8>,
    last: Vec<u8>,
    samples: Vec<u8>,
}

fn frame(id: &str, shape: &FrameShape, is_cached: bool, seed: u64) -> anyhow::Result<Encoded> {
    let samples = samples(shape, seed)?;
    let message = FrameMessage {
        frame_id: id,
        seq: None,
        datatype: shape.datatype.name(),
        sample_rate: shape.sample_rate,
        num_channels: u32::try_from(shape.channels)?,
        model: shape.model.as_deref(),
        timeout_ms: Some(shape.timeout_ms),
        cache_enabled: Some(is_cached),
        samples: &samples,
        ..FrameMessage::default()
    };
    let (message, last) = match shape.encoding {
        Encoding::MessagePack => (message.encode()?, samples.clone()),
        Encoding::Json => (json(&message)?, (BASE64_STANDARD.encode(&samples) + "\"}").into_bytes()),
    };
    Ok(Encoded { message, last, samples })
}

/// A request of the Open Inference Protocol; its tensor is a tone and noise too.
fn request(input: &OipInput, id: &str, shape: &FrameShape, seed: u64) -> anyhow::Result<Encoded> {
    let (channels, datatype) = (1, Datatype::Cf32Le);
    let one = FrameShape { samples: input.elements().div_ceil(2), channels, datatype, ..shape.clone() };
    let mut tensor = samples(&one, seed)?;
    tensor.truncate(input.elements() * size_of::<f32>());
    let message = [input.json(id, shape.timeout_ms).as_bytes(), &tensor].concat();
    Ok(Encoded { message, last: tensor.clone(), samples: tensor })
}

/// The frame in JSON, its samples in base64.
fn json(message: &FrameMessage<'_>) -> anyhow::Result<Vec<u8>> {
    let without = FrameMessage { samples: &[], ..message.clone() };
    let text = serde_json::to_string(&without)?;
    // An array of no bytes, the last of the frame.
    let text = text.strip_suffix("[]}").context("the samples are not the last of the frame")?;
    Ok(format!("{text}\"{}\"}}", BASE64_STANDARD.encode(message.samples)).into_bytes())
}

fn samples(shape: &FrameShape, seed: u64) -> anyhow::Result<Vec<u8>> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let frequency: f32 = rng.random_range(-0.4..0.4);
    let values = (0..shape.samples).flat_map(|n| {
        let angle = std::f32::consts::TAU * (frequency * n as f32).fract();
        std::iter::repeat_n([angle.cos(), angle.sin()], shape.channels)
    });
    let noisy: Vec<f32> = values.flatten().map(|value| 0.5 * value + rng.random_range(-0.1..0.1)).collect();
    Ok(match shape.datatype {
        Datatype::Cf32Le => noisy.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Datatype::Ci16Le => {
            noisy.iter().flat_map(|value| ((value * 32_767.0) as i16).to_le_bytes()).collect()
        }
        Datatype::Ci8 => noisy.iter().flat_map(|value| ((value * 127.0) as i8).to_le_bytes()).collect(),
        Datatype::Cu8 => noisy.iter().map(|value| (value * 127.0 + 127.5) as u8).collect(),
        other => anyhow::bail!("frames of {} are not made; cf32_le, ci16_le, ci8 and cu8 are", other.name()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(datatype: Datatype, samples: usize, encoding: Encoding) -> FrameShape {
        FrameShape {
            model: None,
            datatype,
            channels: 1,
            sample_rate: Some(1e6),
            samples,
            timeout_ms: 100,
            oip: None,
            encoding,
        }
    }

    #[test]
    fn frames_differ_in_their_samples_by_which_and_by_run_and_in_their_ids() {
        for datatype in [Datatype::Cf32Le, Datatype::Ci16Le, Datatype::Ci8, Datatype::Cu8] {
            let shape = shape(datatype, 64, Encoding::MessagePack);
            let [one, other] = [1, 2].map(|salt| Frames::new(&shape, true, salt).unwrap());
            let samples = |frames: &Frames, which| {
                let (id, frame) = frames.frame(which);
                assert!(frame.windows(id.len()).any(|window| window == id.as_bytes()));
                frame[frames.templates[0].samples..].to_vec()
            };
            let first = samples(&one, 7);
            assert_eq!(first, samples(&one, 7));
            assert!(first != samples(&one, 7 + 16) && first != samples(&other, 7), "{datatype:?}");
            assert_ne!(one.frame(7).0, one.frame(7).0);
        }
    }

    #[test]
    fn a_frame_in_json_is_the_same_frame() {
        for (datatype, samples) in [(Datatype::Cf32Le, 300), (Datatype::Cf32Le, 10), (Datatype::Cu8, 31)] {
            let both = [Encoding::MessagePack, Encoding::Json].map(|encoding| {
                Frames::new(&shape(datatype, samples, encoding), true, 5).unwrap().frame(1234)
            });
            let [(_, packed), (id, json)] = both;
            let packed = rmpv::decode::read_value(&mut &packed[..]).unwrap();
            let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
            assert_eq!((&json["frame_id"], json["timeout_ms"].as_u64()), (&id.into(), Some(100)));
            let of_json = BASE64_STANDARD.decode(json["samples"].as_str().unwrap()).unwrap();
            let mut entries = packed.as_map().unwrap().iter();
            let (_, of_packed) = entries.find(|(key, _)| key.as_str() == Some("samples")).unwrap();
            assert_eq!(Some(&of_json[..]), of_packed.as_slice());
        }
    }
}
