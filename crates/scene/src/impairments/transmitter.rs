//! Impairments inside the transmitter, and when it is on.

use std::f32::consts::PI;

use rand::RngExt;
use rustfft::num_complex::Complex32;

use crate::dsp;
use crate::rng::{SimRng, log_uniform};

/// A power amplifier near saturation: Rapp's compression of the amplitude (IEEE 802.11-00/294), and a phase
/// that lags with the amplitude by up to 15°. Keeps the mean power.
pub fn amplifier(samples: &mut [Complex32], rng: &mut SimRng) {
    let power = dsp::mean_power(samples);
    let peak = samples.iter().map(Complex32::norm_sqr).fold(0.0, f32::max);
    if peak == 0.0 {
        return;
    }
    // Saturation 8 dB below the highest peak to 3 dB above it: mild, as a transmitter passes its own tests.
    let saturation = (peak * dsp::from_db(rng.random_range(-8.0..3.0))).sqrt();
    // Rapp's smoothness: 1 for tubes, 2 to 3 for transistors.
    let smoothness = rng.random_range(1.0..3.0);
    let lag = rng.random_range(0.0..PI / 12.0);
    for x in samples.iter_mut() {
        let drive = x.norm() / saturation;
        let gain = (1.0 + drive.powf(2.0 * smoothness)).powf(-0.5 / smoothness);
        let turn = lag * drive * drive / (1.0 + drive * drive);
        *x *= Complex32::from_polar(gain, turn);
    }
    dsp::set_mean_power(samples, power);
}

/// A filter about as wide as the signal, which is centred at 0 Hz and `bandwidth` wide: it rounds a sharp
/// keying and gives a constant envelope some ripple. Keeps the mean power.
pub fn transmit_filter(samples: &mut [Complex32], bandwidth: f32, rng: &mut SimRng) {
    // A tenth narrower to half wider than the signal's own bandwidth.
    let edge = 0.5 * bandwidth * rng.random_range(0.9..1.5);
    // From steep to gentle, as a share of the pass band.
    let slope = edge * log_uniform(rng, 0.05, 0.8);
    dsp::shape(samples, |f| Complex32::new(dsp::roll_off(f.abs(), edge, slope), 0.0));
}

/// Silences the signal outside one stretch: a transmission that begins, ends, or does both within the frame.
/// At least 30 % stays; returns where it is on.
pub fn part_time(samples: &mut [Complex32], rng: &mut SimRng) -> std::ops::Range<usize> {
    let share = rng.random_range(0.3..0.95);
    // Begins with the frame, ends with it, or lies inside.
    let start = [0.0, 1.0 - share, rng.random_range(0.0..1.0 - share)][rng.random_range(0..3)];
    let len = samples.len();
    let first = (start * len as f32) as usize;
    let last = (((start + share) * len as f32).round() as usize).min(len);
    keep(samples, std::slice::from_ref(&(first..last)), rng);
    first..last
}

/// Cuts the signal into packets of 4 to 50 % of the frame with pauses between them; the first begins within
/// the frame's first half.
pub fn packets(samples: &mut [Complex32], rng: &mut SimRng) {
    let len = samples.len() as f32;
    let on = log_uniform(rng, 0.04, 0.5) * len;
    let off = on * log_uniform(rng, 0.15, 4.0);
    let mut at = rng.random_range(-0.5 * on..0.5 * len);
    let mut stretches = Vec::new();
    while at < len {
        let last = ((at + on).max(0.0) as usize).min(samples.len());
        stretches.push(at.max(0.0) as usize..last);
        at += on + off * rng.random_range(0.7..1.3);
    }
    keep(samples, &stretches, rng);
}

/// Silences all but the `stretches`, whose edges are ramps of up to 1 % of the frame.
fn keep(samples: &mut [Complex32], stretches: &[std::ops::Range<usize>], rng: &mut SimRng) {
    let ramp = 1.0 + rng.random_range(0.0..0.01) * samples.len() as f32 * rng.random_range(0.0..1.0);
    let len = samples.len();
    let mut gains = vec![0.0; len];
    for stretch in stretches {
        for n in stretch.clone() {
            // No ramp where the frame itself cuts the stretch.
            let before = if stretch.start == 0 { ramp } else { (n - stretch.start) as f32 + 0.5 };
            let after = if stretch.end == len { ramp } else { (stretch.end - n) as f32 - 0.5 };
            gains[n] = (before.min(after) / ramp).min(1.0);
        }
    }
    samples.iter_mut().zip(gains).for_each(|(x, gain)| *x *= gain);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    #[test]
    fn the_amplifier_lowers_the_peaks_and_keeps_the_power() {
        for index in 0..20 {
            let mut rng = stream(8, index);
            let mut samples = dsp::white_noise(&mut rng, 4000, 2.0);
            let peak = |samples: &[Complex32]| samples.iter().map(|x| x.norm_sqr()).fold(0.0, f32::max);
            let before = peak(&samples);
            amplifier(&mut samples, &mut rng);
            assert!((dsp::mean_power(&samples) - 2.0).abs() < 0.1);
            assert!(peak(&samples) < before, "{index}");
        }
    }

    #[test]
    fn a_transmit_filter_removes_what_is_far_outside() {
        for index in 0..20 {
            let mut rng = stream(9, index);
            let mut samples = dsp::white_noise(&mut rng, 4096, 1.0);
            transmit_filter(&mut samples, 0.2, &mut rng);
            // At most 0.15 from the centre, and a slope of at most 0.8 of it.
            let taps: Vec<f32> = dsp::low_pass(0.2, 24, 0.0);
            let rest: Vec<Complex32> =
                samples.iter().zip(dsp::filter(&samples, &taps)).map(|(x, low)| x - low).collect();
            assert!(dsp::mean_power(&rest) < 0.1, "{index}: {}", dsp::mean_power(&rest));
        }
    }

    #[test]
    fn a_part_time_signal_is_on_once_for_at_least_30_percent() {
        for index in 0..60 {
            let mut rng = stream(10, index);
            let mut samples = vec![Complex32::new(1.0, 0.0); 1000];
            part_time(&mut samples, &mut rng);
            let on: Vec<bool> = samples.iter().map(|x| x.norm() > 0.0).collect();
            let share = on.iter().filter(|on| **on).count();
            assert!((290..=960).contains(&share), "{index}: {share}");
            let starts = on.windows(2).filter(|pair| !pair[0] && pair[1]).count();
            let ends = on.windows(2).filter(|pair| pair[0] && !pair[1]).count();
            assert!(starts <= 1 && ends <= 1 && starts + ends >= 1, "{index}: {starts} {ends}");
        }
    }

    #[test]
    fn packets_leave_some_of_the_signal() {
        for index in 0..60 {
            let mut rng = stream(11, index);
            let mut samples = vec![Complex32::new(1.0, 0.0); 1000];
            packets(&mut samples, &mut rng);
            assert!(dsp::mean_power(&samples) > 0.005, "{index}");
        }
    }
}
