//! Sweeping carriers: radar, and data on chirps.

use rand::RngExt;
use rustfft::num_complex::Complex32;

use super::pulse::integrate;
use super::waveform::Waveform;
use crate::rng::{SimRng, log_uniform, pick};

/// Smallest product of a sweep's length and width: FM goes up to 10, and a drifting carrier to 8.
const PRODUCT: f32 = 24.0;

/// Most of the sampled band that a sweep takes.
const WIDEST: f32 = 0.9;

/// Linear sweeps: saw teeth, up and down in turn, pulses with gaps, or a slow one that takes the whole frame.
pub(super) fn sweeps(len: usize, rng: &mut SimRng) -> Waveform {
    let frame = len as f32;
    if rng.random_bool(0.2) {
        // A share of a sweep that began before the frame and ends after it.
        let bandwidth = log_uniform(rng, (64.0 / frame).clamp(0.03, 0.8), WIDEST);
        let slope = pick(rng, &[-1.0, 1.0]) * bandwidth / frame;
        let frequency: Vec<f32> = (0..len).map(|n| slope * (n as f32 - 0.5 * frame)).collect();
        return Waveform { samples: integrate(&frequency), bandwidth };
    }
    let longest = 0.6 * frame;
    let bandwidth = log_uniform(rng, (PRODUCT / longest).clamp(0.03, 0.8), WIDEST);
    let sweep = log_uniform(rng, (PRODUCT / bandwidth).min(longest), longest);
    let slope = pick(rng, &[-1.0, 1.0]);
    let is_triangle = rng.random_bool(0.4);
    // Continuous, or with gaps after each sweep: a pulsed radar.
    let gap = if rng.random_bool(0.4) { sweep * log_uniform(rng, 0.2, 4.0) } else { 0.0 };
    // The first sweep begins within the first 40 %, so a whole one is in the frame.
    let start = if gap > 0.0 { rng.random_range(0.0..0.4 * frame) } else { -rng.random_range(0.0..sweep) };
    let mut frequency = vec![0.0; len];
    let mut on = vec![false; len];
    for (n, (f, on)) in frequency.iter_mut().zip(&mut on).enumerate() {
        let since = n as f32 - start;
        let number = (since / (sweep + gap)).floor();
        let place = (since - number * (sweep + gap)) / sweep;
        let falls = is_triangle && number.rem_euclid(2.0) == 1.0;
        *on = since >= 0.0 && place < 1.0;
        *f = if falls { -slope } else { slope } * bandwidth * (place.min(1.0) - 0.5);
    }
    let mut samples = integrate(&frequency);
    for (x, on) in samples.iter_mut().zip(on) {
        if !on {
            *x = Complex32::default();
        }
    }
    Waveform { samples, bandwidth }
}

/// Chirp spread spectrum as in LoRa: a symbol of 2ⁿ chips is a sweep that begins at one of 2ⁿ
/// frequencies and wraps around; or one bit a sweep, up or down.
pub(super) fn data(len: usize, rng: &mut SimRng) -> Waveform {
    let oversampling = log_uniform(rng, 1.15, 10.0);
    let bandwidth = 1.0 / oversampling;
    // At least four symbols, and 32 to 1024 chips in each.
    let largest = ((len as f32 / (4.0 * oversampling)).log2() as u32).clamp(5, 10);
    let chips = 2u32.pow(rng.random_range(5..=largest));
    let sweep = chips as f32 * oversampling;
    let is_wrapped = rng.random_bool(0.7);
    let preamble = rng.random_range(0..8);
    let symbols: Vec<(f32, f32)> = (0..(len as f32 / sweep) as usize + 2)
        .map(|k| match (is_wrapped, k < preamble) {
            (_, true) => (0.0, 1.0),
            (true, _) => (rng.random_range(0..chips) as f32 / chips as f32, 1.0),
            (false, _) => (0.0, pick(rng, &[-1.0, 1.0])),
        })
        .collect();
    let offset = rng.random_range(0.0..1.0);
    let frequency: Vec<f32> = (0..len)
        .map(|n| {
            let now = n as f32 / sweep + offset;
            let (first, direction) = symbols[now as usize];
            direction * bandwidth * ((first + now.fract()).fract() - 0.5)
        })
        .collect();
    Waveform { samples: integrate(&frequency), bandwidth }
}
