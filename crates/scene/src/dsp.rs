//! Operations on complex baseband.

use std::f32::consts::{PI, TAU};

use rand::distr::Distribution;
use rand_distr::StandardNormal;
use rustfft::FftPlanner;
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

/// Filters with a frequency `response`, a function of cycles per sample from −0.5 to 0.5, and keeps the
/// mean power. The stretch counts as silent beyond its ends for at least a sixteenth of its length.
pub fn shape(samples: &mut [Complex32], response: impl Fn(f32) -> Complex32) {
    let power = mean_power(samples);
    let size = fast_size(samples.len() + samples.len() / 16 + 16);
    let mut spectrum = samples.to_vec();
    spectrum.resize(size, Complex32::default());
    let mut planner = FftPlanner::new();
    planner.plan_fft_forward(size).process(&mut spectrum);
    for (bin, x) in spectrum.iter_mut().enumerate() {
        *x *= response(bin_frequency(bin, size));
    }
    planner.plan_fft_inverse(size).process(&mut spectrum);
    samples.copy_from_slice(&spectrum[..samples.len()]);
    set_mean_power(samples, power);
}

/// The frequency of a Fourier transform's bin, cycles per sample, from −0.5 to 0.5.
pub fn bin_frequency(bin: usize, size: usize) -> f32 {
    let place = if 2 * bin < size { bin as f32 } else { bin as f32 - size as f32 };
    place / size as f32
}

/// The next length of the form 2ⁿ, 3·2ⁿ or 5·2ⁿ: fast to transform.
pub fn fast_size(least: usize) -> usize {
    let power = least.next_power_of_two();
    [power / 8 * 5, power / 4 * 3].into_iter().find(|size| *size >= least).unwrap_or(power)
}

/// Gaussian noise with `shape` as its power over frequency in cycles per sample, of unit mean power. The
/// noise is periodic beyond its length.
pub fn shaped_noise(rng: &mut SimRng, len: usize, shape: impl Fn(f32) -> f32) -> Vec<Complex32> {
    let size = fast_size(len);
    let mut noise: Vec<Complex32> = (0..size)
        .map(|bin| {
            let power = shape(bin_frequency(bin, size));
            if power > 0.0 { gaussian(rng) * power.sqrt() } else { Complex32::default() }
        })
        .collect();
    FftPlanner::new().plan_fft_inverse(size).process(&mut noise);
    noise.truncate(len);
    set_mean_power(&mut noise, 1.0);
    noise
}

/// A gain of 1 below `edge` and 0 above `edge + slope`, with half a cosine in between.
pub fn roll_off(frequency: f32, edge: f32, slope: f32) -> f32 {
    0.5 + 0.5 * (PI * ((frequency - edge) / slope.max(1e-6)).clamp(0.0, 1.0)).cos()
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
    fn shaping_filters_and_keeps_the_power() {
        let mut noise = white_noise(&mut stream(2, 0), 5000, 3.0);
        shape(&mut noise, |f| Complex32::new(roll_off((f - 0.2).abs(), 0.05, 0.01), 0.0));
        assert!((mean_power(&noise) - 3.0).abs() < 0.01);
        shift(&mut noise, -0.2, 0.0);
        let inside = filter(&noise, &low_pass(0.1, 32, 0.0));
        assert!(mean_power(&inside) > 2.95, "{}", mean_power(&inside));
    }

    #[test]
    fn shaped_noise_is_where_its_shape_is() {
        let mut noise = shaped_noise(&mut stream(2, 1), 3000, |f| roll_off((f + 0.3).abs(), 0.05, 0.01));
        assert!((mean_power(&noise) - 1.0).abs() < 1e-3);
        shift(&mut noise, 0.3, 0.0);
        assert!(mean_power(&filter(&noise, &low_pass(0.1, 32, 0.0))) > 0.98);
    }

    #[test]
    fn fast_sizes_are_little_longer() {
        for least in [1, 2, 63, 64, 65, 1000, 5000, 6000, 8192, 8193] {
            let size = fast_size(least);
            assert!(size >= least && size <= 2 * least, "{size} for {least}");
        }
        assert_eq!([fast_size(5100), fast_size(6000), fast_size(8192)], [5120, 6144, 8192]);
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
