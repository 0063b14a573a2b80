//! Keyed carriers: on and off, or from one frequency to another.

use rand::RngExt;
use rustfft::num_complex::Complex32;

use super::pulse::{Pulse, integrate};
use super::waveform::{Waveform, unit_power_while_on};
use crate::dsp;
use crate::rng::{SimRng, log_uniform, pick};

/// How bits become chips of on-off keying.
#[derive(Clone, Copy)]
enum LineCode {
    /// A bit is a chip.
    Plain,
    /// On then off, or off then on: Manchester, and the pulse position of Mode S.
    Manchester,
    /// A short or a long pulse, each followed by the rest of a fixed slot.
    PulseWidth,
    /// A short pulse followed by a short or a long gap.
    PulseDistance,
}

/// On-off keying: steady streams, remote-control telegrams with pauses, and short bursts as in Mode S.
pub(super) fn ook(len: usize, rng: &mut SimRng) -> Waveform {
    // A third are bursts of chips only a sample or few long, each from its own transmitter.
    if rng.random_bool(0.35) { bursts(len, rng) } else { telegrams(len, rng) }
}

/// One transmitter's telegram, repeated with pauses or running through.
fn telegrams(len: usize, rng: &mut SimRng) -> Waveform {
    let code = pick(
        rng,
        &[
            LineCode::Plain,
            LineCode::Plain,
            LineCode::Manchester,
            LineCode::PulseWidth,
            LineCode::PulseDistance,
        ],
    );
    let chip = log_uniform(rng, 2.0, (len as f32 / 12.0).clamp(4.0, 400.0));
    let mut chips = Vec::new();
    let pause = rng.random_range(0..40);
    let message_bits = rng.random_range(8..120);
    while (chips.len() as f32) < len as f32 / chip + 8.0 {
        encode(code, message_bits, rng, &mut chips);
        // Half of the transmitters never pause.
        if pause >= 20 {
            chips.extend(std::iter::repeat_n(0.0, pause));
        }
    }
    let skip = rng.random_range(0.0..1.0);
    let samples = keyed(len, chip, skip, &chips, rng);
    Waveform { samples, bandwidth: (2.0 / chip).min(1.0) }
}

/// Several short bursts with their own level and carrier, silence between: replies of many transponders.
fn bursts(len: usize, rng: &mut SimRng) -> Waveform {
    let mut samples = vec![Complex32::default(); len];
    let chip = log_uniform(rng, 1.0, 8.0);
    let code =
        pick(rng, &[LineCode::Manchester, LineCode::Manchester, LineCode::Plain, LineCode::PulseWidth]);
    // One burst in 200 to 4000 samples, at least one.
    let count = 1 + (len as f32 / log_uniform(rng, 600.0, 6000.0)) as usize;
    for index in 0..count {
        let mut chips = Vec::new();
        // The preamble of Mode S: pulses at 0, 1, 3.5 and 4.5 µs of half a microsecond.
        if rng.random_bool(0.7) {
            chips.extend([1., 0., 1., 0., 0., 0., 0., 1., 0., 1., 0., 0., 0., 0., 0., 0.]);
        }
        let bits = pick(rng, &[12, 24, 56, 56, 112, 112]);
        encode(code, bits, rng, &mut chips);
        let long = ((chips.len() as f32 * chip) as usize + 2).min(len);
        let mut burst = keyed(long, chip, 0.0, &chips, rng);
        // The first is the strongest; the others come from farther away.
        let gain = if index == 0 { 1.0 } else { dsp::from_db(rng.random_range(-15.0..0.0)).sqrt() };
        dsp::shift(&mut burst, rng.random_range(-0.03..0.03), rng.random_range(0.0..std::f32::consts::TAU));
        let start = rng.random_range(0..=len - long);
        for (slot, x) in samples[start..].iter_mut().zip(burst) {
            *slot += x * gain;
        }
    }
    unit_power_while_on(&mut samples);
    Waveform { samples, bandwidth: (2.0 / chip).min(1.0) }
}

/// Chips as a carrier's amplitude with soft edges, unit power while on.
fn keyed(len: usize, chip: f32, skip: f32, chips: &[f32], rng: &mut SimRng) -> Vec<Complex32> {
    let mut next = chips.iter().copied();
    let pulse = Pulse::rectangle(rng.random_range(0.05..0.7));
    let amplitude = pulse.train(len + 1, chip, skip, || next.next().unwrap_or(0.0));
    // Cheap transmitters leak a little carrier while off.
    let leak = if rng.random_bool(0.2) { rng.random_range(0.0..0.08) } else { 0.0 };
    let mut samples: Vec<Complex32> =
        amplitude[..len].iter().map(|a| Complex32::new(a.max(leak), 0.0)).collect();
    unit_power_while_on(&mut samples);
    samples
}

fn encode(code: LineCode, bits: usize, rng: &mut SimRng, chips: &mut Vec<f32>) {
    for _ in 0..bits {
        let bit = rng.random_bool(0.5);
        let coded: &[f32] = match (code, bit) {
            (LineCode::Plain, true) => &[1.0],
            (LineCode::Plain, false) => &[0.0],
            (LineCode::Manchester, true) => &[1.0, 0.0],
            (LineCode::Manchester, false) => &[0.0, 1.0],
            (LineCode::PulseWidth, true) => &[1.0, 1.0, 1.0, 0.0],
            (LineCode::PulseWidth, false) => &[1.0, 0.0, 0.0, 0.0],
            (LineCode::PulseDistance, true) => &[1.0, 0.0, 0.0, 0.0],
            (LineCode::PulseDistance, false) => &[1.0, 0.0],
        };
        chips.extend(coded);
    }
}

/// Two- or four-level FSK at 2 to 100 samples a symbol, modulation index 0.3 to 6, sharp or Gaussian-shaped.
pub(super) fn fsk(len: usize, rng: &mut SimRng) -> Waveform {
    let four = rng.random_bool(0.25);
    let sps = log_uniform(rng, 2.0, 100.0_f32.min(len as f32 / 24.0).max(2.1));
    // The index h is the distance of neighbouring tones in symbol rates; the outermost must fit the band.
    let widest = 0.8 * sps / if four { 3.0 } else { 1.0 };
    let index = log_uniform(rng, 0.3, widest.clamp(0.5, 6.0));
    let pulse = if rng.random_bool(0.6) {
        Pulse::gaussian(rng.random_range(0.3..1.0))
    } else {
        Pulse::rectangle(0.1)
    };
    let spacing = index / sps;
    // A remote control idles on alternating bits or one tone before its data.
    let preamble = if rng.random_bool(0.4) { rng.random_range(8..48) } else { 0 };
    let mut count = 0usize;
    let mut level = || {
        count += 1;
        if count <= preamble {
            return if count.is_multiple_of(2) { 0.5 } else { -0.5 };
        }
        if four { pick(rng, &[-1.5, -0.5, 0.5, 1.5]) } else { pick(rng, &[-0.5, 0.5]) }
    };
    let levels = pulse.train(len, sps, 0.0, &mut level);
    let frequency: Vec<f32> = levels.iter().map(|a| a * spacing).collect();
    let outermost = if four { 1.5 } else { 0.5 };
    Waveform { samples: integrate(&frequency), bandwidth: 2.0 * outermost * spacing + 1.0 / sps }
}
