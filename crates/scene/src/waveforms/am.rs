//! Amplitude modulation.

use rand::RngExt;
use rustfft::num_complex::Complex32;

use super::pulse::Pulse;
use super::sound::{sound, tones};
use super::waveform::{Waveform, unit_power_while_on};
use crate::dsp;
use crate::rng::{SimRng, log_uniform, pick};

/// A carrier whose amplitude follows sound, a few tones, or slow marks, or sound in its sidebands alone.
pub(super) fn am(len: usize, rng: &mut SimRng) -> Waveform {
    match rng.random_range(0..20) {
        0..6 => time_signal(len, rng),
        6..9 => suppressed_carrier(len, rng),
        9..12 => single_sideband(len, rng),
        _ => full_carrier(len, rng),
    }
}

/// Draws the message's highest frequency, cycles per sample: at least eight periods of it are in the stretch,
/// or nothing of the message would be.
fn cutoff(len: usize, rng: &mut SimRng) -> f32 {
    log_uniform(rng, (8.0 / len as f32).clamp(0.004, 0.1), 0.12)
}

/// Both sidebands and the carrier.
fn full_carrier(len: usize, rng: &mut SimRng) -> Waveform {
    let (message, bandwidth) = if rng.random_bool(0.75) {
        let cutoff = cutoff(len, rng);
        (sound(len, cutoff, rng), cutoff)
    } else {
        tones(len, (2.0 / len as f32).clamp(0.002, 0.04), 0.08, rng)
    };
    // Depth 1 just closes the carrier at the message's negative peak; shallow ones are rare.
    let depth = if rng.random_bool(0.15) { rng.random_range(0.1..0.35) } else { rng.random_range(0.35..1.0) };
    let mut samples: Vec<Complex32> =
        message.iter().map(|m| Complex32::new((1.0 + depth * m.re).max(0.0), 0.0)).collect();
    unit_power_while_on(&mut samples);
    Waveform { samples, bandwidth: 2.0 * bandwidth }
}

/// Both sidebands of sound without their carrier. No plain tones: two lines alone could be anything.
fn suppressed_carrier(len: usize, rng: &mut SimRng) -> Waveform {
    let cutoff = cutoff(len, rng);
    let mut samples: Vec<Complex32> =
        sound(len, cutoff, rng).iter().map(|m| Complex32::new(m.re, 0.0)).collect();
    dsp::set_mean_power(&mut samples, 1.0);
    Waveform { samples, bandwidth: 2.0 * cutoff }
}

/// The upper or the lower sideband of sound, at times with a rest of the carrier 10 to 30 dB below it.
fn single_sideband(len: usize, rng: &mut SimRng) -> Waveform {
    let cutoff = 2.0 * cutoff(len, rng);
    let mut samples = sound(len, cutoff, rng);
    dsp::set_mean_power(&mut samples, 1.0);
    if rng.random_bool(0.25) {
        let rest = dsp::from_db(rng.random_range(-30.0..-10.0)).sqrt();
        samples.iter_mut().for_each(|x| *x += rest);
        dsp::set_mean_power(&mut samples, 1.0);
    }
    dsp::shift(&mut samples, -0.5 * cutoff, 0.0);
    if rng.random_bool(0.5) {
        samples.iter_mut().for_each(|x| *x = x.conj());
    }
    Waveform { samples, bandwidth: cutoff }
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

/// Amplitude marks as time-signal stations send them each second: 0 at full carrier, −1 in the mark, with
/// the soft edges of a narrow transmitting antenna. Both edges of a mark lie in the stretch: a single one
/// could be a step of the receiver's gain.
fn marks(len: usize, rng: &mut SimRng) -> (Vec<f32>, f32) {
    let mark = rng.random_range(0.08..0.45) * len as f32;
    let period = mark * rng.random_range(1.6..9.0);
    let edge = rng.random_range(0.002..0.02) * len as f32;
    let first = rng.random_range(0.02 * len as f32..0.98 * len as f32 - mark);
    let message = (0..len)
        .map(|n| {
            let t = (n as f32 - first).rem_euclid(period);
            let into = ((t.min(mark - t)) / edge).clamp(0.0, 1.0);
            -into
        })
        .collect();
    (message, 4.0 / len as f32)
}
