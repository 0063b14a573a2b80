//! Normalises tensors to zero mean and unit population variance.

use crate::{FeatureConfig, FrameError, Normalize};

/// The normalisation of a configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Normalizer {
    Frame,
    Channel,
    Fixed { mean: f32, scale: f32 },
    None,
}

impl Normalizer {
    pub(crate) fn new(config: &FeatureConfig) -> Self {
        match config.normalize() {
            Normalize::Frame => Self::Frame,
            Normalize::Channel => Self::Channel,
            Normalize::Fixed => {
                let (mean, std) = (config.mean.unwrap_or(0.0), config.std.unwrap_or(1.0));
                Self::Fixed { mean: mean as f32, scale: (1.0 / std) as f32 }
            }
            Normalize::None => Self::None,
        }
    }

    /// Normalises a tensor of finite values whose channels follow one another.
    ///
    /// # Errors
    /// [`FrameError::Overflow`] where the values are so large that their variance leaves float32.
    #[inline(always)]
    pub(crate) fn apply(self, channels: usize, values: &mut [f32]) -> Result<(), FrameError> {
        match self {
            Self::Frame => standardize(values),
            Self::Channel => values.chunks_exact_mut(values.len() / channels).try_for_each(standardize),
            Self::Fixed { mean, scale } => shift_and_scale(values, mean, scale),
            Self::None => Ok(()),
        }
    }
}

/// Two passes, first the mean and then the variance about it: in one pass over squares the digits cancel
/// where the mean is far from zero.
fn standardize(values: &mut [f32]) -> Result<(), FrameError> {
    let count = values.len() as f64;
    // Relative to one of them: equal values then have exactly their own value for a mean, and no variance at
    // all.
    let Some(&pivot) = values.first() else {
        return Ok(());
    };
    let mean = f64::from(pivot) + sum(values, |x| x - pivot) / count;
    let center = mean as f32;
    let square = sum(values, |x| (x - center) * (x - center)) / count;
    let off = mean - f64::from(center);
    let variance = square - off * off;
    if !variance.is_finite() {
        return Err(FrameError::Overflow);
    }
    let scale = (1.0 / variance.max(0.0).sqrt()) as f32;
    if !scale.is_finite() {
        values.fill(0.0); // silence
        return Ok(());
    }
    for x in values {
        *x = (*x - center) * scale;
    }
    Ok(())
}

fn shift_and_scale(values: &mut [f32], mean: f32, scale: f32) -> Result<(), FrameError> {
    let mut finite = true;
    for x in values {
        *x = (*x - mean) * scale;
        finite &= x.abs() <= f32::MAX;
    }
    if finite { Ok(()) } else { Err(FrameError::Overflow) }
}

/// Sum of `f` over the values: eight running float32 sums over 256 values, each block added in float64. Fast
/// as float32, and as exact as its single terms however long the slice.
fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    const LANES: usize = 8;
    let mut total = 0.0;
    for block in values.chunks(256) {
        let (groups, rest) = block.as_chunks::<LANES>();
        let mut sums = [0.0f32; LANES];
        for group in groups {
            for lane in 0..LANES {
                sums[lane] += f(group[lane]);
            }
        }
        total += sums.iter().map(|&x| f64::from(x)).sum::<f64>();
        total += rest.iter().map(|&x| f64::from(f(x))).sum::<f64>();
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_become_zeros() {
        for value in [0.0, -23.025_85, 1e-30, 0.1, 3e30] {
            for length in [1, 7, 300, 100_000] {
                let mut values = vec![value; length];
                standardize(&mut values).unwrap();
                assert!(values.iter().all(|&x| x == 0.0), "{length} times {value}");
            }
        }
    }

    #[test]
    fn a_small_ripple_on_a_large_mean_keeps_its_shape() {
        let mut values: Vec<f32> = (0..10_000).map(|k| if k % 2 == 0 { 1000.5 } else { 999.5 }).collect();
        standardize(&mut values).unwrap();
        for (k, x) in values.iter().enumerate() {
            assert!((x.abs() - 1.0).abs() < 1e-6 && (*x > 0.0) == (k % 2 == 0), "{k}: {x}");
        }
    }
}
