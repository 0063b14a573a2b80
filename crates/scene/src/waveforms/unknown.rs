//! What has no family of its own: chirps, spread spectrum, mixtures, combs, impulses and noise jammers.
//!
//! Each is made such that it differs from every family: what would not is not sent.

use std::f32::consts::TAU;

use rand::RngExt;
use rustfft::num_complex::Complex32;

use super::family::Family;
use super::known::known;
use super::waveform::{Waveform, unit_power_while_on};
use super::{chirp, spread};
use crate::dsp;
use crate::rng::{SimRng, log_uniform, pick};

/// `len` samples of a signal without a family.
pub(super) fn unknown(len: usize, rng: &mut SimRng) -> Waveform {
    match rng.random_range(0..20) {
        0..4 => chirp::sweeps(len, rng),
        4..6 => chirp::data(len, rng),
        6..8 => spread::direct(len, rng),
        // Hops need room: see there.
        8..11 if len >= 1024 => spread::hops(len, rng),
        11..13 => comb(len, rng),
        13..15 => impulses(len, rng),
        15..17 => jammer(len, rng),
        _ => mixture(len, rng),
    }
}

/// Two signals of different families on different carriers, with levels within 6 dB of each other.
fn mixture(len: usize, rng: &mut SimRng) -> Waveform {
    let first = pick(rng, &Family::EMISSIONS);
    let mut second = first;
    while second == first {
        second = pick(rng, &Family::EMISSIONS);
    }
    let first = narrow(first, len, rng);
    let second = narrow(second, len, rng);
    let level = dsp::from_db(rng.random_range(-6.0..6.0)).sqrt();
    // Side by side with a gap of 2 to 20 % of the band, as far as there is room.
    let gap = rng.random_range(0.02..0.2);
    let apart = 0.5 * (first.bandwidth + second.bandwidth) + gap;
    let mut samples = first.samples;
    let mut other = second.samples;
    dsp::shift(&mut samples, -0.5 * apart, 0.0);
    dsp::shift(&mut other, 0.5 * apart, rng.random_range(0.0..TAU));
    samples.iter_mut().zip(other).for_each(|(x, y)| *x += y * level);
    unit_power_while_on(&mut samples);
    Waveform { samples, bandwidth: (apart + first.bandwidth.max(second.bandwidth)).min(1.0) }
}

/// A waveform of `family` of at most 40 % of the band, or the last of eight that were not.
fn narrow(family: Family, len: usize, rng: &mut SimRng) -> Waveform {
    let mut waveform = known(family, len, rng);
    for _ in 0..7 {
        if waveform.bandwidth <= 0.4 {
            break;
        }
        waveform = known(family, len, rng);
    }
    waveform
}

/// Carriers at unrelated frequencies, or the harmonics of a switching power supply: three to twenty lines
/// with levels within 10 dB.
fn comb(len: usize, rng: &mut SimRng) -> Waveform {
    let reach = rng.random_range(0.1..0.48);
    let count = rng.random_range(3..=20);
    let spacing = 2.0 * reach / count as f32;
    let is_even = rng.random_bool(0.3) && count >= 5;
    let mut samples = vec![Complex32::default(); len];
    for k in 0..count {
        // Each in its own slot of the band, so that no two are one line.
        let place = if is_even { 0.5 } else { rng.random_range(0.2..0.8) };
        let mut line = vec![Complex32::new(dsp::from_db(rng.random_range(-10.0..0.0)).sqrt(), 0.0); len];
        dsp::shift(&mut line, spacing * (k as f32 + place) - reach, rng.random_range(0.0..TAU));
        samples.iter_mut().zip(line).for_each(|(x, y)| *x += y);
    }
    dsp::set_mean_power(&mut samples, 1.0);
    Waveform { samples, bandwidth: 2.0 * reach }
}

/// Decaying rings: lightning and switching at random times, or ignition at steady ones. They are on for at
/// least a twentieth of the frame.
fn impulses(len: usize, rng: &mut SimRng) -> Waveform {
    // Samples until a ring has fallen to 1/e.
    let decay = log_uniform(rng, 1.0, 100.0_f32.min(len as f32 / 20.0));
    let most = (len as f32 / (6.0 * decay)).max(3.0);
    let count = log_uniform(rng, (0.05 * len as f32 / decay).clamp(2.0, most), most).round();
    let is_steady = rng.random_bool(0.4);
    let spread_db = if is_steady { 3.0 } else { 20.0 };
    let frequency = rng.random_range(-0.35..0.35);
    let spread = rng.random_range(0.0..0.15);
    let start = rng.random_range(0.0..1.0);
    let mut samples = vec![Complex32::default(); len];
    for k in 0..count as usize {
        let place = if is_steady { (k as f32 + start) / count } else { rng.random_range(0.0..1.0) };
        let first = ((place * len as f32) as usize).min(len - 1);
        let level = dsp::from_db(-rng.random_range(0.0..spread_db)).sqrt();
        let ring = TAU * (frequency + rng.random_range(-1.0..=1.0) * spread);
        let step = Complex32::from_polar((-1.0 / decay).exp(), ring);
        let mut value = Complex32::from_polar(level, rng.random_range(0.0..TAU));
        for x in samples[first..].iter_mut().take((8.0 * decay) as usize + 1) {
            *x += value;
            value *= step;
        }
    }
    unit_power_while_on(&mut samples);
    Waveform { samples, bandwidth: 1.0 }
}

/// Noise in 5 to 50 % of the band, with soft or uneven edges; OFDM without a prefix is flat with steep ones.
/// One in three goes on and off.
fn jammer(len: usize, rng: &mut SimRng) -> Waveform {
    let bandwidth = log_uniform(rng, 0.05, 0.5);
    let half = 0.5 * bandwidth;
    let mut samples = match rng.random_range(0..3) {
        // A bell: 4.3 dB down at the stated edges.
        0 => dsp::shaped_noise(rng, len, |f| (-(f / half).powi(2)).exp()),
        // Edges that take 30 to 100 % of the width.
        1 => {
            let slope = half * rng.random_range(0.3..1.0);
            dsp::shaped_noise(rng, len, |f| dsp::roll_off(f.abs(), half - slope, slope).powi(2))
        }
        // A slope of 6 to 20 dB from one edge to the other.
        _ => {
            let slope_db = rng.random_range(6.0..20.0) * pick(rng, &[-1.0, 1.0]);
            dsp::shaped_noise(rng, len, |f| {
                dsp::from_db(slope_db * f / bandwidth) * dsp::roll_off(f.abs(), 0.8 * half, 0.2 * half)
            })
        }
    };
    if rng.random_bool(0.33) {
        let period = log_uniform(rng, 0.05, 0.4) * len as f32;
        let duty = rng.random_range(0.2..0.8);
        let start = rng.random_range(0.0..1.0);
        for (n, x) in samples.iter_mut().enumerate() {
            if (n as f32 / period + start).fract() > duty {
                *x = Complex32::default();
            }
        }
        unit_power_while_on(&mut samples);
    }
    Waveform { samples, bandwidth: 1.5 * bandwidth }
}
