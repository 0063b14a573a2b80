//! Propagation from antenna to antenna, and carriers that drift.

use std::f32::consts::TAU;

use rand::RngExt;
use rustfft::num_complex::Complex32;

use crate::dsp;
use crate::rng::SimRng;

/// Multipath: up to four paths of random phase within `spread` samples, each later one weaker. Keeps the mean
/// power.
pub fn multipath(samples: &mut Vec<Complex32>, spread: usize, rng: &mut SimRng) {
    let paths: Vec<_> = (0..rng.random_range(1..=3))
        .map(|_| {
            let decay = dsp::from_db(rng.random_range(-20.0..-3.0)).sqrt();
            (rng.random_range(1..=spread.max(1)), dsp::gaussian(rng) * decay)
        })
        .collect();
    add_paths(samples, Complex32::new(1.0, 0.0), &paths);
}

/// Frequency-selective fading: three to eight paths of equal mean power within `spread` samples, none of them
/// direct, so parts of the band may vanish. Keeps the mean power.
pub fn selective(samples: &mut Vec<Complex32>, spread: usize, rng: &mut SimRng) {
    let first = dsp::gaussian(rng);
    let paths: Vec<_> = (0..rng.random_range(2..=7))
        .map(|_| (rng.random_range(1..=spread.max(1)), dsp::gaussian(rng)))
        .collect();
    add_paths(samples, first, &paths);
}

/// Replaces the samples by the sum of paths, each a delay in samples and a gain, at the same mean power.
fn add_paths(samples: &mut Vec<Complex32>, first: Complex32, paths: &[(usize, Complex32)]) {
    let power = dsp::mean_power(samples);
    let mut sum: Vec<Complex32> = samples.iter().map(|x| x * first).collect();
    for &(delay, gain) in paths {
        for (late, &x) in sum.iter_mut().skip(delay).zip(samples.iter()) {
            *late += x * gain;
        }
    }
    dsp::set_mean_power(&mut sum, power);
    *samples = sum;
}

/// Time-selective fading between moving antennas: a steady path `rician` times as strong as all the others
/// together, 0 for Rayleigh fading, and up to `turns` turns of Doppler shift within the stretch. Keeps the
/// mean power.
pub fn fading(samples: &mut [Complex32], rician: f32, turns: f32, rng: &mut SimRng) {
    let power = dsp::mean_power(samples);
    let len = samples.len() as f32;
    // Eight paths from all around are close to Rayleigh's distribution.
    let paths: Vec<(Complex32, f32)> = (0..8)
        .map(|_| {
            let angle: f32 = rng.random_range(0.0..TAU);
            (Complex32::from_polar(1.0 / 8f32.sqrt(), rng.random_range(0.0..TAU)), turns * angle.cos() / len)
        })
        .collect();
    let direct = Complex32::new(rician.sqrt(), 0.0);
    // The fading is slow, so it is computed at every eighth sample and drawn straight in between.
    const STEP: usize = 8;
    let knots: Vec<Complex32> = (0..samples.len() / STEP + 2)
        .map(|k| {
            let t = (k * STEP) as f32;
            paths
                .iter()
                .fold(direct, |sum, (gain, rate)| sum + gain * Complex32::from_polar(1.0, TAU * rate * t))
        })
        .collect();
    for (n, x) in samples.iter_mut().enumerate() {
        let part = (n % STEP) as f32 / STEP as f32;
        *x *= knots[n / STEP] * (1.0 - part) + knots[n / STEP + 1] * part;
    }
    dsp::set_mean_power(samples, power);
}

/// A carrier that drifts by `bins` times the frequency resolution of the stretch, in a straight line or along
/// a slow wave, around where it was.
pub fn drift(samples: &mut [Complex32], bins: f32, rng: &mut SimRng) {
    let len = samples.len() as f32;
    let wave = rng.random_bool(0.5);
    let start = rng.random_range(0.0..1.0);
    let mut turns = 0.0;
    for (n, x) in samples.iter_mut().enumerate() {
        let t = n as f32 / len;
        let place = if wave { 0.5 * (TAU * (0.5 * t + start)).sin() } else { t - 0.5 };
        turns += bins * place / len;
        *x *= Complex32::from_polar(1.0, TAU * turns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    #[test]
    fn propagation_keeps_the_power() {
        for index in 0..20 {
            let mut rng = stream(6, index);
            let mut samples = dsp::white_noise(&mut rng, 4000, 2.0);
            let before = dsp::mean_power(&samples);
            multipath(&mut samples, 8, &mut rng);
            selective(&mut samples, 32, &mut rng);
            fading(&mut samples, 0.0, 4.0, &mut rng);
            assert!((dsp::mean_power(&samples) / before - 1.0).abs() < 1e-3);
        }
    }

    #[test]
    fn selective_fading_makes_the_spectrum_uneven() {
        let mut deep = 0;
        for index in 0..40 {
            let mut rng = stream(12, index);
            let mut samples = vec![Complex32::default(); 256];
            samples[0] = Complex32::new(1.0, 0.0);
            selective(&mut samples, 32, &mut rng);
            rustfft::FftPlanner::new().plan_fft_forward(256).process(&mut samples);
            let powers: Vec<f32> = samples.iter().map(|x| x.norm_sqr()).collect();
            let mean = powers.iter().sum::<f32>() / 256.0;
            deep += usize::from(powers.iter().any(|p| *p < 0.1 * mean));
        }
        assert!(deep > 30, "{deep} of 40 have a hole of 10 dB");
    }

    #[test]
    fn a_strong_direct_path_hardly_fades() {
        for index in 0..20 {
            let mut samples = vec![Complex32::new(1.0, 0.0); 1000];
            fading(&mut samples, 100.0, 2.0, &mut stream(13, index));
            // The other paths add up to at most √8 / 10 of the direct one.
            assert!(samples.iter().all(|x| (0.65..1.5).contains(&x.norm())), "{index}");
        }
    }

    #[test]
    fn a_drift_stays_within_its_bins() {
        for index in 0..20 {
            let mut samples = vec![Complex32::new(1.0, 0.0); 1000];
            drift(&mut samples, 8.0, &mut stream(14, index));
            for pair in samples.windows(2) {
                let step = (pair[1] * pair[0].conj()).arg() / TAU;
                assert!(step.abs() <= 4.01 / 1000.0, "{index}: {step}");
            }
        }
    }
}
