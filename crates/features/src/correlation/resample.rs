//! Samples at instants between those at which they were taken.

use std::f64::consts::PI;

use rustfft::num_complex::{Complex32, Complex64};
use sferic_samples::with_component;

use super::stream::Stream;

/// Samples on either side of an instant that its value is made of.
pub(super) const HALF: usize = 16;

/// Of the Kaiser window: images lie below −80 dB.
const BETA: f64 = 8.0;

/// Places between two samples for which the kernel is kept; between those it is interpolated.
const PHASES: usize = 1024;

/// Interpolates with a Kaiser-windowed sinc.
pub(super) struct Resampler {
    /// `[phases + 1, 2 * HALF]`.
    kernel: Vec<[f64; 2 * HALF]>,
}

impl Resampler {
    pub(super) fn new() -> Self {
        let tap = |distance: f64| {
            let inside = 1.0 - (distance / HALF as f64).powi(2);
            if inside <= 0.0 {
                0.0
            } else {
                sinc(distance) * bessel_i0(BETA * inside.sqrt()) / bessel_i0(BETA)
            }
        };
        let row = |phase: usize| {
            let fraction = phase as f64 / PHASES as f64;
            std::array::from_fn(|k| tap(fraction + HALF as f64 - 1.0 - k as f64))
        };
        Self { kernel: (0..=PHASES).map(row).collect() }
    }

    /// `length` values, the first at `begin` samples from the start, the others `step` samples apart. Beyond
    /// the stream there are zeros.
    pub(super) fn resample(
        &self,
        stream: &Stream<'_>,
        begin: f64,
        step: f64,
        length: usize,
    ) -> Vec<Complex64> {
        let samples = complex(stream);
        let none = Complex64::default();
        (0..length)
            .map(|n| {
                let at = begin + n as f64 * step;
                let (whole, fraction) = (at.floor(), at - at.floor());
                let phase = fraction * PHASES as f64;
                let (row, between) = (phase as usize, phase.fract());
                let (low, high) = (&self.kernel[row], &self.kernel[(row + 1).min(PHASES)]);
                let first = whole as i64 - (HALF as i64 - 1);
                let mut sum = none;
                for (k, (low, high)) in low.iter().zip(high).enumerate() {
                    let place = usize::try_from(first + k as i64).ok();
                    let sample = place.and_then(|place| samples.get(place)).copied().unwrap_or(none);
                    sum += sample * (low + between * (high - low));
                }
                sum
            })
            .collect()
    }
}

/// The samples of the one channel.
fn complex(stream: &Stream<'_>) -> Vec<Complex64> {
    let samples = &stream.samples;
    let wide = |sample: Complex32| Complex64::new(f64::from(sample.re), f64::from(sample.im));
    with_component!(samples.datatype(), D => {
        (0..samples.len()).map(|instant| wide(samples.get::<D>(instant, 0))).collect()
    })
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

/// The modified Bessel function of the first kind and order 0, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let (mut sum, mut term, mut k) = (1.0, 1.0, 1.0);
    while term > 1e-18 * sum {
        term *= (x / (2.0 * k)).powi(2);
        sum += term;
        k += 1.0;
    }
    sum
}
