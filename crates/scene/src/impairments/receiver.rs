//! Impairments of the receiver, up to its converter.

use std::f32::consts::TAU;

use rand::RngExt;
use rustfft::num_complex::Complex32;

use crate::dsp;
use crate::rng::{SimRng, log_uniform, pick};

/// Phase noise of an oscillator: a random walk of `step` radians a sample, root mean square.
pub fn phase_noise(samples: &mut [Complex32], step: f32, rng: &mut SimRng) {
    let mut phase = 0.0;
    for x in samples {
        phase += step * std::f32::consts::SQRT_2 * dsp::gaussian(rng).re;
        *x *= Complex32::from_polar(1.0, phase);
    }
}

/// Receiver noise of mean power `power`, not white: with the slopes, the edges or the notches of a receiver's
/// filters.
pub fn noise(len: usize, power: f32, rng: &mut SimRng) -> Vec<Complex32> {
    let mut noise = match rng.random_range(0..4) {
        // The edges of the anti-aliasing filter.
        0 => {
            let edge = rng.random_range(0.3..0.49);
            let slope = log_uniform(rng, 0.01, 0.2);
            let centre = rng.random_range(-0.03..0.03);
            // A stop band 20 to 60 dB down.
            let rest = dsp::from_db(rng.random_range(-60.0..-20.0));
            dsp::shaped_noise(rng, len, |f| dsp::roll_off((f - centre).abs(), edge, slope).powi(2) + rest)
        }
        // A slope over the band, either way, of up to 12 dB.
        1 => {
            let slope_db = rng.random_range(-12.0..12.0);
            dsp::shaped_noise(rng, len, |f| dsp::from_db(slope_db * f))
        }
        // A notch, as around a suppressed interferer or the DC of a receiver: 1 to 10 % of the band.
        2 => {
            let (centre, width) = (rng.random_range(-0.5..0.5), rng.random_range(0.01..0.1));
            let centre = if rng.random_bool(0.3) { 0.0 } else { centre };
            let depth = 1.0 - dsp::from_db(rng.random_range(-30.0..-3.0));
            dsp::shaped_noise(rng, len, |f| {
                1.0 - depth * dsp::roll_off((f - centre).abs(), 0.5 * width, 0.25 * width)
            })
        }
        // One leaky integrator, turned: a hump of up to 12 dB somewhere in the band.
        _ => {
            let pole = Complex32::from_polar(rng.random_range(0.05..0.6), rng.random_range(0.0..TAU));
            dsp::shaped_noise(rng, len, |f| {
                (Complex32::new(1.0, 0.0) - pole * Complex32::from_polar(1.0, -TAU * f)).norm_sqr().recip()
            })
        }
    };
    dsp::set_mean_power(&mut noise, power);
    noise
}

/// Spectral ripple of 0.5 to 3 dB, from one period over the band to sixty: reflections on a cable, and
/// filters with an uneven pass band. Keeps the mean power.
pub fn ripple(rng: &mut SimRng) -> impl Fn(f32) -> Complex32 + Copy + use<> {
    // From trough to crest.
    let amplitude_db = 0.5 * rng.random_range(0.5..3.0);
    let main = (log_uniform(rng, 1.0, 60.0), rng.random_range(0.0..TAU));
    // A second, weaker wave half of the time, or the ripple would always be a plain sine.
    let second = if rng.random_bool(0.5) { rng.random_range(0.2..0.8) } else { 0.0 };
    let other = (log_uniform(rng, 1.0, 60.0), rng.random_range(0.0..TAU));
    move |f| {
        let wave = |(periods, start): (f32, f32)| (TAU * periods * f + start).sin();
        let db = amplitude_db * (wave(main) + second * wave(other)) / (1.0 + second);
        Complex32::new(dsp::from_db(db).sqrt(), 0.0)
    }
}

/// The response of a recording that was sampled faster than its band is wide: the middle `share` of the band
/// remains, the rest is empty but for what the interpolator leaves, 45 to 90 dB down.
pub fn band_limit(share: f32, rng: &mut SimRng) -> impl Fn(f32) -> Complex32 + Copy + use<> {
    let edge = 0.5 * share;
    let slope = log_uniform(rng, 0.005, 0.05);
    let rest = dsp::from_db(rng.random_range(-90.0..-45.0)).sqrt();
    move |f| Complex32::new(dsp::roll_off(f.abs(), edge - slope, slope) + rest, 0.0)
}

/// Steps of an automatic gain control, or a slow ramp, as a gain over time.
#[derive(Clone, Debug)]
pub struct GainSteps {
    /// Where each step begins, as a share of the stretch, and its decibels.
    steps: Vec<(f32, f32)>,
    /// Length of every step's transition, as a share of the stretch.
    length: f32,
}

impl GainSteps {
    /// One to three steps of 1 to 10 dB, sharp to a twentieth of the stretch long, or one ramp over most of
    /// it. All go the same way if `one_way`: up and down again would be an amplitude modulation of a
    /// carrier.
    pub fn draw(one_way: bool, rng: &mut SimRng) -> Self {
        if rng.random_bool(0.25) {
            let db = rng.random_range(1.0..10.0) * pick(rng, &[-1.0, 1.0]);
            return Self {
                steps: vec![(rng.random_range(0.0..0.3), db)],
                length: rng.random_range(0.3..1.0),
            };
        }
        let sign = pick(rng, &[-1.0, 1.0]);
        let steps = (0..rng.random_range(1..=3))
            .map(|_| {
                let sign = if one_way { sign } else { pick(rng, &[-1.0, 1.0]) };
                (rng.random_range(0.03..0.97), sign * rng.random_range(1.0..10.0))
            })
            .collect();
        Self { steps, length: log_uniform(rng, 1e-4, 0.05) }
    }

    /// Applies the gain to what is received, signal and noise.
    pub fn apply(&self, samples: &mut [Complex32]) {
        let len = samples.len() as f32;
        for &(start, db) in &self.steps {
            for (n, x) in samples.iter_mut().enumerate() {
                let into = ((n as f32 / len - start) / self.length).clamp(0.0, 1.0);
                if into > 0.0 {
                    *x *= dsp::from_db(db * into).sqrt();
                }
            }
        }
    }
}

/// IQ imbalance: unequal gain and a phase other than 90° between I and Q, with an image 20 to 50 dB down.
pub fn iq_imbalance(samples: &mut [Complex32], rng: &mut SimRng) {
    let image = dsp::from_db(rng.random_range(-50.0..-20.0)).sqrt();
    let gain = Complex32::from_polar(image, rng.random_range(0.0..TAU));
    samples.iter_mut().for_each(|x| *x += x.conj() * gain);
}

/// DC offset, as zero-IF receivers add it, `relative_db` relative to the samples' mean power.
pub fn dc_offset(samples: &mut [Complex32], relative_db: f32, rng: &mut SimRng) {
    let level = (dsp::mean_power(samples) * dsp::from_db(relative_db)).sqrt();
    let offset = Complex32::from_polar(level, rng.random_range(0.0..TAU));
    samples.iter_mut().for_each(|x| *x += offset);
}

/// A spur: a weak carrier that is not the signal, `relative_db` relative to the samples' mean power.
pub fn spur(samples: &mut [Complex32], relative_db: f32, rng: &mut SimRng) {
    let level = (dsp::mean_power(samples) * dsp::from_db(relative_db)).sqrt();
    let mut spur = vec![Complex32::new(level, 0.0); samples.len()];
    dsp::shift(&mut spur, rng.random_range(-0.5..0.5), rng.random_range(0.0..TAU));
    samples.iter_mut().zip(spur).for_each(|(x, s)| *x += s);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    #[test]
    fn coloured_noise_has_the_requested_power() {
        for index in 0..40 {
            let noise = noise(2000, 0.5, &mut stream(7, index));
            assert_eq!(noise.len(), 2000);
            assert!((dsp::mean_power(&noise) - 0.5).abs() < 1e-3);
        }
    }

    #[test]
    fn ripple_is_between_half_a_decibel_and_three() {
        for index in 0..40 {
            let response = ripple(&mut stream(17, index));
            let gains: Vec<f32> =
                (0..4000).map(|i| dsp::to_db(response(i as f32 / 4000.0 - 0.5).norm_sqr())).collect();
            let highest = gains.iter().copied().fold(f32::MIN, f32::max);
            let lowest = gains.iter().copied().fold(f32::MAX, f32::min);
            assert!((0.2..3.01).contains(&(highest - lowest)), "{index}: {} dB", highest - lowest);
        }
    }

    #[test]
    fn a_band_limit_empties_the_edges() {
        for index in 0..20 {
            let mut rng = stream(18, index);
            let mut samples = dsp::white_noise(&mut rng, 4096, 1.0);
            dsp::shape(&mut samples, band_limit(0.5, &mut rng));
            dsp::shift(&mut samples, 0.5, 0.0);
            // The middle now is what was empty; the taps' own side lobes are below −40 dB.
            let rest = dsp::filter(&samples, &dsp::low_pass(0.15, 48, 0.0));
            assert!(dsp::mean_power(&rest) < 1e-3, "{index}: {}", dsp::mean_power(&rest));
        }
    }

    #[test]
    fn one_way_steps_never_turn_back() {
        for index in 0..60 {
            let mut samples = vec![Complex32::new(1.0, 0.0); 1000];
            GainSteps::draw(true, &mut stream(19, index)).apply(&mut samples);
            let changes: Vec<f32> = samples.windows(2).map(|pair| pair[1].re - pair[0].re).collect();
            let up = changes.iter().any(|c| *c > 1e-4);
            let down = changes.iter().any(|c| *c < -1e-4);
            assert!(up != down, "{index}: up {up}, down {down}");
        }
    }
}
