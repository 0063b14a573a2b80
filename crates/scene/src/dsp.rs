//! Operations on complex baseband.

use std::f32::consts::{PI, TAU};

use rand::distr::Distribution;
use rand_distr::StandardNormal;
use rustfft::num_complex::Complex32;

use crate::rng::SimRng;

/// Converts decibels of power to a ratio.
pub fn from_db(db: f32) -> f32 {
    10f32.powf(db / 10.0)
}

/// Converts a ratio of powers to decibels.
pub fn to_db(ratio: f32) -> f32 {
    10.0 * ratio.log10()
}

/// The mean of `|x|²`; 0 for an empty slice.
pub fn mean_power(samples: &[Complex32]) -> f32 {
    let sum: f64 = samples.iter().map(|x| f64::from(x.norm_sqr())).sum();
    if samples.is_empty() { 0.0 } else { (sum / samples.len() as f64) as f32 }
}

/// Scales `samples` to a mean power; silence stays silence.
pub fn set_mean_power(samples: &mut [Complex32], power: f32) {
    let present = mean_power(samples);
    if present > 0.0 {
        let gain = (power / present).sqrt();
        samples.iter_mut().for_each(|x| *x *= gain);
    }
}

/// One circular complex Gaussian draw of unit mean power.
pub fn gaussian(rng: &mut SimRng) -> Complex32 {
    let re: f32 = StandardNormal.sample(rng);
    let im: f32 = StandardNormal.sample(rng);
    Complex32::new(re, im) * std::f32::consts::FRAC_1_SQRT_2
}

/// `len` samples of white complex Gaussian noise of mean power `power`.
pub fn white_noise(rng: &mut SimRng, len: usize, power: f32) -> Vec<Complex32> {
    let gain = power.sqrt();
    (0..len).map(|_| gaussian(rng) * gain).collect()
}

/// Shifts the spectrum up by `frequency` cycles per sample, starting at `phase` radians.
pub fn shift(samples: &mut [Complex32], frequency: f32, phase: f32) {
    // The phase is summed in f64: an f32 would drift over 2²⁰ samples.
    let mut turns = f64::from(phase) / std::f64::consts::TAU;
    for x in samples {
        *x *= Complex32::from_polar(1.0, turns as f32 * TAU);
        turns = (turns + f64::from(frequency)).fract();
    }
}

/// `sin(πx)/(πx)`.
pub fn sinc(x: f32) -> f32 {
    if x.abs() < 1e-6 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

/// Taps of a low-pass filter with the −6 dB point at `cutoff` cycles per sample: a Hann-windowed sinc of `2
/// half + 1` taps with unit gain at 0 Hz. A `delay` in samples, within ±0.5, shifts it in time.
pub fn low_pass(cutoff: f32, half: usize, delay: f32) -> Vec<f32> {
    let reach = half as f32 + 1.0;
    let mut taps: Vec<f32> = (0..=2 * half)
        .map(|i| {
            let t = i as f32 - half as f32 - delay;
            sinc(2.0 * cutoff * t) * (0.5 + 0.5 * (PI * (t / reach).clamp(-1.0, 1.0)).cos())
        })
        .collect();
    let sum: f32 = taps.iter().sum();
    taps.iter_mut().for_each(|tap| *tap /= sum);
    taps
}

/// Convolves with an odd number of `taps` and keeps the middle, so the result is as long as the input and not
/// delayed. Beyond the ends the input counts as zero.
pub fn filter<T>(samples: &[T], taps: &[f32]) -> Vec<T>
where
    T: Copy + Default + std::ops::Mul<f32, Output = T> + std::ops::AddAssign,
{
    let half = taps.len() / 2;
    (0..samples.len())
        .map(|n| {
            let first = n.saturating_sub(half);
            let last = (n + half + 1).min(samples.len());
            let mut sum = T::default();
            for (k, &sample) in samples[first..last].iter().enumerate() {
                sum += sample * taps[n + half - (first + k)];
            }
            sum
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    #[test]
    fn noise_has_the_requested_power() {
        let noise = white_noise(&mut stream(1, 0), 100_000, 0.25);
        assert!((mean_power(&noise) - 0.25).abs() < 0.25 * 0.015);
    }

    #[test]
    fn shift_moves_a_constant_to_the_frequency() {
        let mut tone = vec![Complex32::new(1.0, 0.0); 1000];
        shift(&mut tone, -0.1, 0.3);
        let step = (tone[501] * tone[500].conj()).arg() / TAU;
        assert!((step + 0.1).abs() < 1e-4, "{step}");
        assert!((tone[0].arg() - 0.3).abs() < 1e-5);
    }

    #[test]
    fn low_pass_keeps_the_inside_and_drops_the_outside() {
        let taps = low_pass(0.1, 32, 0.0);
        let gain = |frequency: f32| {
            let mut tone = vec![Complex32::new(1.0, 0.0); 512];
            shift(&mut tone, frequency, 0.0);
            mean_power(&filter(&tone, &taps)[64..448])
        };
        assert!((to_db(gain(0.05))).abs() < 0.1);
        assert!((to_db(gain(0.1)) + 6.0).abs() < 0.3);
        assert!(to_db(gain(0.2)) < -40.0);
    }

    #[test]
    fn a_delayed_low_pass_delays() {
        let mut tone = vec![Complex32::new(1.0, 0.0); 256];
        shift(&mut tone, 0.05, 0.0);
        let late = filter(&tone, &low_pass(0.5, 16, 0.4));
        let lag = (late[128] * tone[128].conj()).arg() / TAU;
        assert!((lag + 0.4 * 0.05).abs() < 1e-3, "{lag}");
    }
}
