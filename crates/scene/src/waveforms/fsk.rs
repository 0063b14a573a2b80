//! Frequency-shift keying.

use rand::RngExt;

use super::pulse::{Pulse, integrate};
use super::waveform::Waveform;
use crate::rng::{SimRng, log_uniform, pick};

/// FSK of 2 to 16 levels at 1.5 to 128 samples a symbol, modulation index 0.3 to 8, sharp or shaped; one in
/// five is MSK or GMSK.
pub(super) fn fsk(len: usize, rng: &mut SimRng) -> Waveform {
    if rng.random_bool(0.2) { minimum_shift(len, rng) } else { many_levels(len, rng) }
}

/// MSK, or GMSK with a bandwidth-time product of 0.2 to 0.5.
fn minimum_shift(len: usize, rng: &mut SimRng) -> Waveform {
    let sps = log_uniform(rng, 2.0, longest_symbol(len));
    let pulse = if rng.random_bool(0.4) { sharp(rng) } else { Pulse::gaussian(rng.random_range(0.2..0.5)) };
    keyed(len, 2, 0.5, sps, &pulse, rng)
}

fn many_levels(len: usize, rng: &mut SimRng) -> Waveform {
    let levels = pick(rng, &[2, 2, 2, 2, 4, 4, 8, 16]);
    // The index h is the distance of neighbouring tones in symbol rates; 90 % of the band has room for all.
    let gaps = (levels - 1) as f32;
    let shortest = (0.3 * gaps / 0.9).max(1.5);
    let sps = log_uniform(rng, shortest, longest_symbol(len).max(1.1 * shortest));
    let widest = (0.9 * sps / gaps).clamp(0.3, 8.0);
    // A third are orthogonal, with an index of exactly 1 or 2.
    let index = match rng.random_range(0..6) {
        0 if widest >= 1.0 => 1.0,
        1 if widest >= 2.0 => 2.0,
        _ => log_uniform(rng, 0.3, widest),
    };
    let pulse = match rng.random_range(0..10) {
        0..5 => sharp(rng),
        5..9 => Pulse::gaussian(rng.random_range(0.2..1.0)),
        _ => Pulse::raised_cosine(rng.random_range(0.2..0.8)),
    };
    keyed(len, levels, index, sps, &pulse, rng)
}

/// At least eight symbols in the frame.
fn longest_symbol(len: usize) -> f32 {
    128.0_f32.min(len as f32 / 8.0).max(2.1)
}

/// A frequency that changes at once, or nearly.
fn sharp(rng: &mut SimRng) -> Pulse {
    Pulse::rectangle(rng.random_range(0.01..0.2))
}

fn keyed(len: usize, levels: i32, index: f32, sps: f32, pulse: &Pulse, rng: &mut SimRng) -> Waveform {
    let spacing = index / sps;
    let outermost = 0.5 * (levels - 1) as f32;
    // A remote control idles on alternating bits or one tone before its data.
    let preamble = if rng.random_bool(0.25) { rng.random_range(8..48) } else { 0 };
    let mut count = 0usize;
    let offset = rng.random_range(0.0..1.0);
    let frequency: Vec<f32> = pulse.train(len, sps, offset, || {
        count += 1;
        if count <= preamble {
            return if count.is_multiple_of(2) { spacing * outermost } else { -spacing * outermost };
        }
        spacing * (rng.random_range(0..levels) as f32 - outermost)
    });
    Waveform { samples: integrate(&frequency), bandwidth: 2.0 * outermost * spacing + 1.0 / sps }
}
