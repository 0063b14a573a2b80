//! Impairments of a signal between the transmitter's antenna and a recording.

use rand::RngExt;
use rustfft::num_complex::Complex32;

use crate::dsp;
use crate::rng::{SimRng, log_uniform, pick};

/// Multipath: up to four paths of random phase within `spread` samples, each later one weaker. Keeps the mean
/// power.
pub fn multipath(samples: &mut Vec<Complex32>, spread: usize, rng: &mut SimRng) {
    let power = dsp::mean_power(samples);
    let mut sum = samples.clone();
    for _ in 0..rng.random_range(1..=3) {
        let delay = rng.random_range(1..=spread.max(1)).min(samples.len());
        let decay = dsp::from_db(rng.random_range(-20.0..-3.0)).sqrt();
        let gain = dsp::gaussian(rng) * decay;
        for (n, &x) in samples[..samples.len() - delay].iter().enumerate() {
            sum[n + delay] += x * gain;
        }
    }
    dsp::set_mean_power(&mut sum, power);
    *samples = sum;
}

/// Slow Rician fading: the level varies around that of a steady path, as between moving antennas. Keeps the
/// mean power.
pub fn fading(samples: &mut [Complex32], rng: &mut SimRng) {
    let power = dsp::mean_power(samples);
    // Sum of a few slow rotations: at most four turns within the stretch.
    let len = samples.len() as f32;
    let paths: Vec<(f32, f32, f32)> = (0..4)
        .map(|_| {
            (rng.random_range(0.05..0.25), rng.random_range(-4.0..4.0) / len, rng.random_range(0.0..1.0))
        })
        .collect();
    for (n, x) in samples.iter_mut().enumerate() {
        let turn = |(gain, rate, start): &(f32, f32, f32)| {
            Complex32::from_polar(*gain, std::f32::consts::TAU * (rate * n as f32 + start))
        };
        *x *= paths.iter().map(turn).fold(Complex32::new(1.0, 0.0), |sum, path| sum + path);
    }
    dsp::set_mean_power(samples, power);
}

/// Phase noise of an oscillator: a random walk of `step` radians a sample, root mean square.
pub fn phase_noise(samples: &mut [Complex32], step: f32, rng: &mut SimRng) {
    let mut phase = 0.0;
    for x in samples {
        phase += step * std::f32::consts::SQRT_2 * dsp::gaussian(rng).re;
        *x *= Complex32::from_polar(1.0, phase);
    }
}

/// Receiver noise of mean power `power`: white, or with the slopes and edges of a receiver's filters.
pub fn noise(len: usize, power: f32, rng: &mut SimRng) -> Vec<Complex32> {
    const GUARD: usize = 40;
    let white = dsp::white_noise(rng, len + 2 * GUARD, 1.0);
    let mut noise = match rng.random_range(0..10) {
        // The edges of the anti-aliasing filter.
        0 | 1 => dsp::filter(&white, &dsp::low_pass(rng.random_range(0.3..0.5), 24, 0.0)),
        // A slope over the band, either way: one leaky integrator, turned.
        2 | 3 => {
            let pole = Complex32::from_polar(
                rng.random_range(0.05..0.6),
                rng.random_range(0.0..std::f32::consts::TAU),
            );
            let mut state = Complex32::default();
            white
                .iter()
                .map(|x| {
                    state = x + state * pole;
                    state
                })
                .collect()
        }
        _ => white,
    };
    noise.drain(..GUARD);
    noise.truncate(len);
    dsp::set_mean_power(&mut noise, power);
    noise
}

/// IQ imbalance: unequal gain and a phase other than 90° between I and Q, with an image 20 to 50 dB down.
pub fn iq_imbalance(samples: &mut [Complex32], rng: &mut SimRng) {
    let image = dsp::from_db(rng.random_range(-50.0..-20.0)).sqrt();
    let gain = Complex32::from_polar(image, rng.random_range(0.0..std::f32::consts::TAU));
    samples.iter_mut().for_each(|x| *x += x.conj() * gain);
}

/// DC offset, as zero-IF receivers add it, `relative_db` relative to the samples' mean power.
pub fn dc_offset(samples: &mut [Complex32], relative_db: f32, rng: &mut SimRng) {
    let level = (dsp::mean_power(samples) * dsp::from_db(relative_db)).sqrt();
    let offset = Complex32::from_polar(level, rng.random_range(0.0..std::f32::consts::TAU));
    samples.iter_mut().for_each(|x| *x += offset);
}

/// How a recording stores its samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantiser {
    /// Floating point, at any level.
    Float,
    /// Signed 8 bit.
    Ci8,
    /// Unsigned 8 bit with its zero between two steps, as from an RTL-SDR.
    Cu8,
    /// Signed 16 bit.
    Ci16,
}

impl Quantiser {
    /// Scales to a random level and rounds as the datatype would, clipping what does not fit: from a noise
    /// floor of about one step to samples that are clipped now and then. The result is scaled to ±1 full
    /// scale as the daemon decodes it; `Float` takes any level from 1e-5 to 1e4.
    pub fn apply(self, samples: &mut [Complex32], rng: &mut SimRng) {
        let (steps, shift) = match self {
            Self::Float => {
                let level = log_uniform(rng, 1e-5, 1e4);
                return dsp::set_mean_power(samples, level * level);
            }
            Self::Ci8 => (128.0, 0.0),
            Self::Cu8 => (127.5, 0.5),
            Self::Ci16 => (32768.0, 0.0),
        };
        // The root mean square in steps.
        let weakest = if self == Self::Ci16 { 3.0 } else { 0.8 };
        let level = log_uniform(rng, weakest, 0.5 * steps) / steps;
        dsp::set_mean_power(samples, level * level);
        let round = |v: f32| {
            let step = (v * steps - shift).round() + shift;
            step.clamp(-steps.floor() - shift, steps.ceil() - 1.0 + shift) / steps
        };
        samples.iter_mut().for_each(|x| *x = Complex32::new(round(x.re), round(x.im)));
    }

    /// Draws one of the four, all equally likely.
    pub fn draw(rng: &mut SimRng) -> Self {
        pick(rng, &[Self::Float, Self::Ci8, Self::Cu8, Self::Ci16])
    }
}

/// Sets a run of samples to exact zeros, as squelches and gaps in recordings do: at either end or in between,
/// at most `share` of the stretch.
pub fn zero_run(samples: &mut [Complex32], share: f32, rng: &mut SimRng) {
    let run = (rng.random_range(0.02..share) * samples.len() as f32) as usize;
    let start = match rng.random_range(0..3) {
        0 => 0,
        1 => samples.len() - run,
        _ => rng.random_range(0..=samples.len() - run),
    };
    samples[start..start + run].fill(Complex32::default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    #[test]
    fn quantised_samples_lie_on_the_grid_inside_full_scale() {
        for (quantiser, steps, shift) in
            [(Quantiser::Ci8, 128.0, 0.0), (Quantiser::Cu8, 127.5, 0.5), (Quantiser::Ci16, 32768.0, 0.0)]
        {
            for index in 0..20 {
                let mut rng = stream(5, index);
                let mut samples = dsp::white_noise(&mut rng, 2000, 1.0);
                quantiser.apply(&mut samples, &mut rng);
                for v in samples.iter().flat_map(|x| [x.re, x.im]) {
                    let step = v * steps - shift;
                    assert!((step - step.round()).abs() < 2e-3, "{quantiser:?}: {v} is off the grid");
                    assert!((-1.0..=1.0).contains(&v), "{quantiser:?}: {v} is past full scale");
                }
            }
        }
    }

    #[test]
    fn multipath_and_fading_keep_the_power() {
        for index in 0..20 {
            let mut rng = stream(6, index);
            let mut samples = dsp::white_noise(&mut rng, 4000, 2.0);
            let before = dsp::mean_power(&samples);
            multipath(&mut samples, 8, &mut rng);
            fading(&mut samples, &mut rng);
            assert!((dsp::mean_power(&samples) / before - 1.0).abs() < 1e-3);
        }
    }

    #[test]
    fn coloured_noise_has_the_requested_power() {
        for index in 0..20 {
            let noise = noise(2000, 0.5, &mut stream(7, index));
            assert_eq!(noise.len(), 2000);
            assert!((dsp::mean_power(&noise) - 0.5).abs() < 1e-3);
        }
    }
}
