//! Carriers of constant amplitude: plain, or with a frequency that follows sound.

use rand::RngExt;
use rustfft::num_complex::Complex32;

use super::pulse;
use super::sound::{sound, tones};
use super::waveform::Waveform;
use crate::impairments;
use crate::rng::{SimRng, log_uniform};

/// A plain carrier; half of them drift by up to eight bins of the stretch's own resolution.
pub(super) fn tone(len: usize, rng: &mut SimRng) -> Waveform {
    let mut samples = vec![Complex32::new(1.0, 0.0); len];
    let mut bandwidth = 1e-3;
    if rng.random_bool(0.5) {
        let bins = log_uniform(rng, 0.3, 8.0);
        impairments::drift(&mut samples, bins, rng);
        bandwidth += bins / len as f32;
    }
    Waveform { samples, bandwidth }
}

/// A carrier whose frequency follows sound: from narrow speech channels to broadcast.
pub(super) fn fm(len: usize, rng: &mut SimRng) -> Waveform {
    // At least sixteen periods of the message's highest frequency, or it would be a slow chirp.
    let lowest = (16.0 / len as f32).clamp(0.002, 0.04);
    let cutoff = log_uniform(rng, lowest, 0.1);
    let (message, cutoff) =
        if rng.random_bool(0.25) { tones(len, lowest, 0.1, rng) } else { (sound(len, cutoff, rng), cutoff) };
    // Modulation index at the message's peaks, from a narrow speech channel to wide, and the whole within the
    // band. Chirps begin where this ends.
    let deviation = (cutoff * log_uniform(rng, 0.6, 10.0)).min(0.35);
    let frequency: Vec<f32> = message.iter().map(|m| deviation * m.re).collect();
    // Carson's rule.
    Waveform { samples: pulse::integrate(&frequency), bandwidth: 2.0 * (deviation + cutoff) }
}
