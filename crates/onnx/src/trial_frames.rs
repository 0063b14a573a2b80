//! The frames that a bundle is tried and warmed with.

use sferic_features::Kind;
use sferic_models::{Dtype, GatheredInput, GatheredKind, Input, Inputs, ModelInput, ModelInputSource, width};

use super::run_inputs::{RunData, RunInput};

/// Length of the trial frame of a model of variable width, samples.
const WARM_UP_SAMPLES: usize = 16_384;

/// Frames of noise, the same every time.
#[derive(Debug)]
pub(crate) struct TrialFrames {
    inputs: Vec<TrialInput>,
}

/// One input of all frames.
#[derive(Debug)]
enum TrialInput {
    /// Features of the `frame`'s shape.
    Computed { input: Input, frame: [usize; 3], values: Vec<f32> },
    /// A tensor a frame brings.
    Given { dtype: Dtype, shape: Vec<usize>, size: usize, bytes: Vec<u8> },
}

impl TrialFrames {
    /// `count` frames for these inputs.
    pub(crate) fn new(inputs: &Inputs, count: usize) -> Self {
        Self {
            inputs: (1..)
                .zip(inputs.iter())
                .map(|(seed, input)| TrialInput::new(input, count, seed))
                .collect(),
        }
    }

    /// Some of the frames as one batch.
    pub(crate) fn batch(&self, first: usize, count: usize) -> Vec<RunInput<'_>> {
        self.inputs.iter().map(|input| input.batch(first, count)).collect()
    }
}

impl TrialInput {
    fn new(input: &ModelInput, count: usize, seed: u32) -> Self {
        match &input.source {
            ModelInputSource::Computed(features, input) => {
                let columns = input
                    .fixed_width
                    .unwrap_or_else(|| width(features, WARM_UP_SAMPLES.max(features.min_samples())));
                let frame = [features.num_channels, features.rows(), columns];
                let values = noise(frame.iter().product::<usize>() * count, seed);
                Self::Computed { input: input.clone(), frame, values }
            }
            ModelInputSource::Given(input) => {
                let (dtype, shape) = (input.dtype, input.shape.clone());
                let length: usize = shape.iter().product();
                let values = noise(length * count, seed);
                let bytes = values.into_iter().flat_map(|value| element(dtype, value + 0.5)).collect();
                Self::Given { dtype, shape, size: length * dtype.size(), bytes }
            }
            ModelInputSource::Gathered(input) => {
                let values = noise(input.len() * count, seed).into_iter().map(|x| gathered(input, x));
                let bytes = values.flat_map(f32::to_le_bytes).collect();
                let (dtype, size) = (Dtype::Float32, 4 * input.len());
                Self::Given { dtype, shape: input.shape.clone(), size, bytes }
            }
        }
    }

    fn batch(&self, first: usize, count: usize) -> RunInput<'_> {
        match self {
            Self::Computed { input, frame, values } => {
                let size: usize = frame.iter().product();
                let data = RunData::Floats(&values[first * size..(first + count) * size]);
                RunInput { shape: input.shape(count, *frame), data }
            }
            Self::Given { dtype, shape, size, bytes } => {
                let frames = bytes[first * size..(first + count) * size].chunks_exact((*size).max(1));
                let data = RunData::Given(frames.map(|frame| (*dtype, frame)).collect());
                RunInput { shape: batch_shape(count, shape), data }
            }
        }
    }
}

/// Noise as a gathered input may have it: all receivers are there, within 10 km, and hear something, at
/// levels of -90 to -60 dB.
fn gathered(input: &GatheredInput, noise: f32) -> f32 {
    match &input.kind {
        GatheredKind::Computed(features, _) if features.kind == Kind::Power => 30.0 * noise - 75.0,
        GatheredKind::Computed(..) => noise,
        GatheredKind::Given(_) | GatheredKind::Correlation(_) => noise + 0.5,
        GatheredKind::Mask => 1.0,
        GatheredKind::Receivers => 20e3 * noise,
        GatheredKind::Arrival => 20e-6 * (noise + 0.5),
        GatheredKind::LagStep(correlation) => correlation.lag_step() as f32,
        GatheredKind::Scatter => 1e-6 * (noise + 0.5),
    }
}

/// The shape of a batch of tensors of this one.
pub(crate) fn batch_shape(batch: usize, shape: &[usize]) -> Vec<i64> {
    let axes = std::iter::once(&batch).chain(shape);
    axes.map(|&length| i64::try_from(length).unwrap_or(i64::MAX)).collect()
}

/// An element of noise in 0..1: levels and times are seldom below 0. Whole numbers are 0 or 1: they may stand
/// for places in a table.
fn element(dtype: Dtype, value: f32) -> Vec<u8> {
    match dtype {
        Dtype::Float16 => half::f16::from_f32(value).to_le_bytes().into(),
        Dtype::Bfloat16 => half::bf16::from_f32(value).to_le_bytes().into(),
        Dtype::Float32 => value.to_le_bytes().into(),
        Dtype::Float64 => f64::from(value).to_le_bytes().into(),
        _ => u64::from(value > 0.5).to_le_bytes()[..dtype.size()].into(),
    }
}

/// Uniform in ±0.5 and the same every time (Marsaglia's xorshift): a constant input would hide that a model
/// mixes frames.
fn noise(length: usize, seed: u32) -> Vec<f32> {
    let mut state = 0x9e37_79b9_u32.wrapping_mul(seed);
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 - 0.5
    })
    .take(length)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_differs_from_frame_to_frame_and_from_input_to_input() {
        let noise = noise(2048, 1);
        assert!(noise.iter().all(|x| x.abs() <= 0.5));
        assert!(noise[..1024] != noise[1024..] && noise != super::noise(2048, 2));
        let mean = noise.iter().sum::<f32>() / 2048.0;
        assert!(mean.abs() < 0.05, "{mean}");
    }

    #[test]
    fn whole_numbers_are_zero_or_one() {
        assert_eq!(element(Dtype::Int64, 0.9), [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(element(Dtype::Bool, 0.1), [0]);
        assert_eq!(element(Dtype::Float64, -0.5), (-0.5f64).to_le_bytes());
    }
}
