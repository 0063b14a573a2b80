//! The frames of a load test: encoded once, made different from each other by a few bytes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, ensure};
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
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
}

#[derive(Clone)]
struct Template {
    message: Vec<u8>,
    id: usize,
    samples: usize,
}

/// Patterns of samples.
const PATTERNS: u64 = 16;

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
        let template = |seed| {
            let (message, samples) = match &shape.oip {
                Some(input) => request(input, &id, shape, seed)?,
                None => frame(&id, shape, cache_enabled, seed)?,
            };
            let find = |part: &[u8]| message.windows(part.len()).position(|window| window == part);
            let id_at = find(id.as_bytes()).context("the frame has no id")?;
            let samples_at = message.len() - samples.len();
            ensure!(message[samples_at..] == samples, "the samples are not the last of the frame");
            Ok(Template { id: id_at + id.len() - DIGITS, samples: samples_at, message })
        };
        let templates = (0..PATTERNS).map(template).collect::<anyhow::Result<_>>()?;
        let step = (shape.datatype.bytes_per_sample() / 2).max(1);
        Ok(Self { templates, sent: AtomicU64::new(0), run, salt, step })
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
        let Template { message, id, samples } = &self.templates[(u64::from(which) % PATTERNS) as usize];
        let mut message = message.clone();
        let digits = format!("{number:0DIGITS$}");
        message[*id..*id + DIGITS].copy_from_slice(digits.as_bytes());
        // The least bits of the first numbers: other frames for the cache, and finite in every datatype.
        let bits = u64::from(self.salt) << 32 | u64::from(which);
        for (bit, byte) in message[*samples..].iter_mut().step_by(self.step).take(64).enumerate() {
            *byte = *byte & !1 | u8::from(bits >> bit & 1 == 1);
        }
        (frame_id(&self.run, number), message.into())
    }
}

fn frame_id(run: &str, number: u64) -> String {
    format!("bench-{run}-{number:0DIGITS$}")
}

/// A frame, and its samples.
fn frame(id: &str, shape: &FrameShape, is_cached: bool, seed: u64) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
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
    Ok((message.encode()?, samples))
}

/// A request of the Open Inference Protocol, and its tensor: a tone and noise too.
fn request(input: &OipInput, id: &str, shape: &FrameShape, seed: u64) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let (channels, datatype) = (1, Datatype::Cf32Le);
    let one = FrameShape { samples: input.elements().div_ceil(2), channels, datatype, ..shape.clone() };
    let mut tensor = samples(&one, seed)?;
    tensor.truncate(input.elements() * size_of::<f32>());
    Ok(([input.json(id, shape.timeout_ms).as_bytes(), &tensor].concat(), tensor))
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

    #[test]
    fn frames_differ_in_their_samples_by_which_and_by_run_and_in_their_ids() {
        for datatype in [Datatype::Cf32Le, Datatype::Ci16Le, Datatype::Ci8, Datatype::Cu8] {
            let shape = FrameShape {
                model: None,
                datatype,
                channels: 1,
                sample_rate: Some(1e6),
                samples: 64,
                timeout_ms: 100,
                oip: None,
            };
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
}
