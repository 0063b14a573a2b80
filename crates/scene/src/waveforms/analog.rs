//! Unmodulated carriers, and carriers modulated by sound.

use rand::RngExt;
use rustfft::num_complex::Complex32;

use super::pulse::{self, Pulse};
use super::waveform::{Waveform, unit_power_while_on};
use crate::dsp;
use crate::rng::{SimRng, log_uniform, pick};

/// A plain carrier.
pub(super) fn tone(len: usize) -> Waveform {
    Waveform { samples: vec![Complex32::new(1.0, 0.0); len], bandwidth: 1e-3 }
}

/// A carrier whose amplitude follows sound, a few tones, or slow marks.
pub(super) fn am(len: usize, rng: &mut SimRng) -> Waveform {
    if rng.random_bool(0.35) {
        return time_signal(len, rng);
    }
    let (message, bandwidth) = if rng.random_bool(0.75) {
        let cutoff = log_uniform(rng, 0.004, 0.12);
        (sound(len, cutoff, rng), cutoff)
    } else {
        tones(len, rng)
    };
    // Depth 1 just closes the carrier at the message's negative peak.
    let depth = rng.random_range(0.35..1.0);
    let mut samples: Vec<Complex32> =
        message.iter().map(|m| Complex32::new((1.0 + depth * m).max(0.0), 0.0)).collect();
    unit_power_while_on(&mut samples);
    Waveform { samples, bandwidth: 2.0 * bandwidth }
}

/// A carrier with amplitude marks, and at times also a small pseudo-random phase keying: DCF77 lowers its
/// carrier to 15 % at each second and turns it by ±15.6° for the rest of it.
fn time_signal(len: usize, rng: &mut SimRng) -> Waveform {
    // Some carrier always remains, or it would be on-off keying.
    let depth = rng.random_range(0.5..0.92);
    let (message, mut bandwidth) = marks(len, rng);
    let mut samples: Vec<Complex32> = message.iter().map(|m| Complex32::new(1.0 + depth * m, 0.0)).collect();
    if rng.random_bool(0.6) {
        let swing = rng.random_range(0.15..0.4);
        let chip = log_uniform(rng, 4.0, 40.0);
        let pulse = Pulse::rectangle(rng.random_range(0.2..0.9));
        let phases = pulse.train(len, chip, rng.random_range(0.0..1.0), || pick(rng, &[-1.0, 1.0]));
        for (x, phase) in samples.iter_mut().zip(phases) {
            *x *= Complex32::from_polar(1.0, swing * phase);
        }
        bandwidth = 1.0 / chip;
    }
    unit_power_while_on(&mut samples);
    Waveform { samples, bandwidth: 2.0 * bandwidth }
}

/// A carrier whose frequency follows sound: from narrow speech channels to broadcast.
pub(super) fn fm(len: usize, rng: &mut SimRng) -> Waveform {
    let cutoff = log_uniform(rng, 0.003, 0.08);
    let message = if rng.random_bool(0.2) { tones(len, rng).0 } else { sound(len, cutoff, rng) };
    // Modulation index 1 to 6, and the whole within the band.
    let deviation = (cutoff * log_uniform(rng, 1.0, 6.0)).min(0.3);
    let frequency: Vec<f32> = message.iter().map(|m| deviation * m).collect();
    let mut samples = pulse::integrate(&frequency);
    unit_power_while_on(&mut samples);
    // Carson's rule.
    Waveform { samples, bandwidth: 2.0 * (deviation + cutoff) }
}

/// Something like speech or music within ±1: noise below `cutoff` cycles per sample with a slow loudness.
fn sound(len: usize, cutoff: f32, rng: &mut SimRng) -> Vec<f32> {
    let half = ((2.0 / cutoff) as usize).clamp(8, 400);
    let white: Vec<f32> = dsp::white_noise(rng, len + 2 * half, 1.0).iter().map(|x| x.re).collect();
    let mut message = dsp::filter(&white, &dsp::low_pass(cutoff / 2.0, half, 0.0))[half..half + len].to_vec();
    // Syllables: loudness goes up and down, never for long to nothing.
    let rate = log_uniform(rng, 0.3, 8.0) / len as f32;
    let phase = rng.random_range(0.0..std::f32::consts::TAU);
    let swing = rng.random_range(0.0..0.8);
    for (n, m) in message.iter_mut().enumerate() {
        *m *= 1.0 + swing * (std::f32::consts::TAU * rate * n as f32 + phase).sin();
    }
    to_unit_peak(&mut message);
    message
}

/// One to three steady tones, as test tones, sirens and beacons have; also returns the highest frequency.
fn tones(len: usize, rng: &mut SimRng) -> (Vec<f32>, f32) {
    let mut message = vec![0.0; len];
    let mut highest = 0f32;
    for _ in 0..rng.random_range(1..=3) {
        let frequency = log_uniform(rng, 0.002, 0.08);
        let phase = rng.random_range(0.0..std::f32::consts::TAU);
        highest = highest.max(frequency);
        for (n, m) in message.iter_mut().enumerate() {
            *m += (std::f32::consts::TAU * frequency * n as f32 + phase).sin();
        }
    }
    to_unit_peak(&mut message);
    (message, highest)
}

/// Amplitude marks as time-signal stations send them each second: 0 at full carrier, −1 in the mark, with the
/// soft edges of a narrow transmitting antenna. At least one edge lies in the stretch.
fn marks(len: usize, rng: &mut SimRng) -> (Vec<f32>, f32) {
    let mark = rng.random_range(0.08..0.45) * len as f32;
    let period = mark * rng.random_range(1.6..9.0);
    let edge = rng.random_range(0.002..0.02) * len as f32;
    // The first mark begins such that at least a part of it is seen.
    let first = rng.random_range(-0.8 * mark..len as f32 - 0.3 * mark);
    let message = (0..len)
        .map(|n| {
            let t = (n as f32 - first).rem_euclid(period);
            let into = ((t.min(mark - t)) / edge).clamp(0.0, 1.0);
            -into
        })
        .collect();
    (message, 4.0 / len as f32)
}

fn to_unit_peak(message: &mut [f32]) {
    let peak = message.iter().fold(0f32, |peak, m| peak.max(m.abs()));
    if peak > 0.0 {
        message.iter_mut().for_each(|m| *m /= peak);
    }
}
