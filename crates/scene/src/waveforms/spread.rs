//! Spread spectrum: short codes over and over, and hops.

use std::f32::consts::TAU;

use rand::RngExt;
use rustfft::num_complex::Complex32;

use super::pulse::{Pulse, integrate};
use super::waveform::{Waveform, unit_power_while_on};
use crate::rng::{SimRng, log_uniform, pick};

/// Direct-sequence spread spectrum with a code of 11 to 127 chips that comes at least six times in the frame.
/// A long code would be BPSK at the chip rate and nothing else, so only those that repeat are sent: their
/// spectrum has lines, or is correlated, at the code's rate.
pub(super) fn direct(len: usize, rng: &mut SimRng) -> Waveform {
    let sps = log_uniform(rng, 1.5, 8.0);
    let longest = (len as f32 / (6.0 * sps)) as usize;
    let code_len = pick(rng, &[11, 13, 15, 31, 63, 127]).min(longest.max(7));
    let code: Vec<f32> = (0..code_len).map(|_| pick(rng, &[-1.0, 1.0])).collect();
    // One code a symbol as in 802.11b, or twenty as in GPS; BPSK or QPSK.
    let repeats = pick(rng, &[1, 1, 2, 20]);
    let order = pick(rng, &[2, 2, 4]);
    let pulse = match rng.random_range(0..3) {
        0 => Pulse::rectangle(rng.random_range(0.05..0.5)),
        _ => Pulse::root_raised_cosine(rng.random_range(0.2..0.5)),
    };
    let mut count = 0;
    let mut symbol = Complex32::new(1.0, 0.0);
    let mut samples = pulse.train(len, sps, rng.random_range(0.0..1.0), || {
        if count % (code_len * repeats) == 0 {
            let turn = rng.random_range(0..order) as f32 / order as f32;
            symbol = Complex32::from_polar(1.0, TAU * turn);
        }
        count += 1;
        symbol * code[(count - 1) % code_len]
    });
    unit_power_while_on(&mut samples);
    Waveform { samples, bandwidth: (1.4 / sps).min(1.0) }
}

/// Hops of a carrier, or of a narrow FSK, all over the band: three to sixteen in the frame, each at least 200
/// samples long. Faster ones on a grid would be FSK, whose symbols are up to 128 samples long.
pub(super) fn hops(len: usize, rng: &mut SimRng) -> Waveform {
    let dwell = log_uniform(rng, 200.0_f32.max(len as f32 / 16.0), len as f32 / 3.0);
    let gap = if rng.random_bool(0.5) { dwell * rng.random_range(0.02..0.5) } else { 0.0 };
    let is_keyed = rng.random_bool(0.6);
    let sps = log_uniform(rng, 4.0, 32.0);
    let half_shift = 0.5 * rng.random_range(0.5..1.5) / sps;
    let pulse = Pulse::gaussian(rng.random_range(0.4..1.0));
    // Half of the band at least, or the hops would be near each other.
    let reach = rng.random_range(0.25..0.45);
    let mut samples = Vec::with_capacity(len + dwell as usize);
    let skip = rng.random_range(0.0..dwell) as usize;
    let mut carrier = rng.random_range(-reach..reach);
    while samples.len() < len + skip {
        let on = dwell as usize;
        let frequency: Vec<f32> = if is_keyed {
            let bits = pulse.train(on, sps, 0.0, || pick(rng, &[-half_shift, half_shift]));
            bits.iter().map(|shift| carrier + shift).collect()
        } else {
            vec![carrier; on]
        };
        let phase = Complex32::from_polar(1.0, rng.random_range(0.0..TAU));
        samples.extend(integrate(&frequency).into_iter().map(|x| x * phase));
        samples.extend(std::iter::repeat_n(Complex32::default(), gap as usize));
        // The next is somewhere else, a tenth of the band away.
        let last = carrier;
        while (carrier - last).abs() < 0.1 {
            carrier = rng.random_range(-reach..reach);
        }
    }
    let samples = samples[skip..skip + len].to_vec();
    Waveform { samples, bandwidth: (2.0 * reach + 2.0 / sps).min(1.0) }
}
