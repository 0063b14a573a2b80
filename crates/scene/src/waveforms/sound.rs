//! What analogue transmitters modulate with: something like speech, music and test tones.

use std::f32::consts::TAU;

use rand::RngExt;
use rustfft::num_complex::Complex32;

use crate::dsp;
use crate::rng::{SimRng, log_uniform};

/// Something like speech, music or plain noise, below `cutoff` cycles per sample. Analytic: the real part is
/// the message, within ±1, and the imaginary part is its Hilbert transform.
pub(super) fn sound(len: usize, cutoff: f32, rng: &mut SimRng) -> Vec<Complex32> {
    // Half of it has a tilt, as speech with 6 to 12 dB an octave, from a lowest pitch on.
    let tilt = if rng.random_bool(0.5) { rng.random_range(0.5..2.0) } else { 0.0 };
    let lowest = cutoff * rng.random_range(0.02..0.15);
    let slope = cutoff * 0.1;
    let mut message = dsp::shaped_noise(rng, len, |f| {
        if f < 0.5 * lowest {
            return 0.0;
        }
        dsp::roll_off(f, cutoff - slope, slope) * (1.0 + f / lowest).powf(-2.0 * tilt)
    });
    // Syllables: loudness goes up and down, never for long to nothing.
    let rate = log_uniform(rng, 0.3, 8.0) / len as f32;
    let phase = rng.random_range(0.0..TAU);
    let swing = if rng.random_bool(0.3) { 0.0 } else { rng.random_range(0.0..0.8) };
    for (n, m) in message.iter_mut().enumerate() {
        *m *= 1.0 + swing * (TAU * rate * n as f32 + phase).sin();
    }
    to_unit_peak(&mut message);
    message
}

/// One to three steady tones between `lowest` and `highest` cycles per sample, as test tones, sirens and
/// beacons have, within ±1; also returns the highest frequency among them.
pub(super) fn tones(len: usize, lowest: f32, highest: f32, rng: &mut SimRng) -> (Vec<Complex32>, f32) {
    let mut message = vec![Complex32::default(); len];
    let mut top = 0f32;
    for _ in 0..rng.random_range(1..=3) {
        let frequency = log_uniform(rng, lowest, highest);
        top = top.max(frequency);
        let mut tone = vec![Complex32::new(1.0, 0.0); len];
        dsp::shift(&mut tone, frequency, rng.random_range(0.0..TAU));
        message.iter_mut().zip(tone).for_each(|(m, t)| *m += t);
    }
    to_unit_peak(&mut message);
    (message, top)
}

/// Scales such that the real part just reaches 1 or −1.
fn to_unit_peak(message: &mut [Complex32]) {
    let peak = message.iter().fold(0f32, |peak, m| peak.max(m.re.abs()));
    if peak > 0.0 {
        message.iter_mut().for_each(|m| *m /= peak);
    }
}
