//! Shared by the tests: samples as bytes, and one-call extraction.
#![allow(dead_code)] // each test binary uses its own part

use sferic_features::{Extractor, FeatureConfig, FrameError};
use sferic_samples::{Datatype, Samples};

pub const RATE: f64 = 192_000.0;

/// Features of a frame and their shape.
pub fn extract(
    config: &FeatureConfig,
    bytes: &[u8],
    datatype: Datatype,
) -> Result<(Vec<f32>, [usize; 3]), FrameError> {
    let samples = Samples::new(bytes, datatype, config.num_channels)?;
    let mut extractor = Extractor::new(config, Some(RATE))?;
    let shape = extractor.shape(samples.len())?;
    // Whatever was in the output must not matter.
    let mut out = vec![f32::NAN; shape.iter().product()];
    extractor.extract(&samples, &mut out)?;
    Ok((out, shape))
}

/// `cf32_le` bytes of components `I0 Q0 …`.
pub fn cf32(components: &[f32]) -> Vec<u8> {
    components.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// White noise of `count` components within ±0.5.
pub fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

/// A complex tone of `hz` at [`RATE`].
pub fn tone(hz: f64, instants: usize) -> Vec<f32> {
    let phase = |k: usize| std::f64::consts::TAU * hz / RATE * k as f64;
    (0..instants).flat_map(|k| [phase(k).cos() as f32, phase(k).sin() as f32]).collect()
}

pub fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len());
    for (k, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance, "value {k}: {a} and {b}");
    }
}
