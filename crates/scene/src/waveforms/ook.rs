//! On-off keying.

use rand::RngExt;
use rustfft::num_complex::Complex32;

use super::pulse::Pulse;
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
    match rng.random_range(0..20) {
        // Chips only a sample or few long, each burst from its own transmitter.
        0..6 => bursts(len, rng),
        6..12 => stream(len, rng),
        _ => telegrams(len, rng),
    }
}

/// Random bits without pauses through any pulse shape, at 2 to 64 samples a bit.
fn stream(len: usize, rng: &mut SimRng) -> Waveform {
    let sps = log_uniform(rng, 2.0, 64.0_f32.min(len as f32 / 16.0).max(2.1));
    let beta = rng.random_range(0.1..0.6);
    let pulse = match rng.random_range(0..4) {
        0 => Pulse::root_raised_cosine(beta),
        1 => Pulse::raised_cosine(beta),
        2 => Pulse::gaussian(rng.random_range(0.3..1.0)),
        _ => Pulse::rectangle(rng.random_range(0.02..0.6)),
    };
    let offset = rng.random_range(0.0..1.0);
    let mut samples: Vec<Complex32> =
        pulse.train(len, sps, offset, || Complex32::new(pick(rng, &[0.0, 1.0]), 0.0));
    unit_power_while_on(&mut samples);
    Waveform { samples, bandwidth: (2.0 / sps).min(1.0) }
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
