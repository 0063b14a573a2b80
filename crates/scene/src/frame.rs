//! Single-channel frames of one modulation family, as real receivers record them.

use rand::RngExt;
use rustfft::num_complex::Complex32;

use crate::dsp;
use crate::impairments::{self, Quantiser};
use crate::rng::{self, SimRng, log_uniform};
use crate::waveforms::{self, Family};

/// A frame with its truth.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The samples as the daemon decodes them.
    pub samples: Vec<Complex32>,
    /// Modulation family of the signal.
    pub family: Family,
    /// Power of the signal while it is on over that of the noise, both in the whole sampled band, dB. `None`
    /// for [`Family::Noise`].
    pub snr_db: Option<f32>,
}

impl Frame {
    /// The samples as `cf32_le` bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.samples.iter().flat_map(|x| [x.re.to_le_bytes(), x.im.to_le_bytes()]).flatten().collect()
    }
}

/// Simulates labelled frames of `len` samples. Frame `i` depends only on the seed and `i`.
#[derive(Clone, Copy, Debug)]
pub struct FrameSimulator {
    seed: u64,
    len: usize,
}

impl FrameSimulator {
    /// Frames of `len` samples, at least 64.
    pub fn new(seed: u64, len: usize) -> Self {
        Self { seed, len: len.max(64) }
    }

    /// Frame number `index`; the families take turns, so any run of eight has one of each.
    pub fn frame(&self, index: u64) -> Frame {
        let mut rng = rng::stream(self.seed, index);
        let family = Family::ALL[(index % Family::ALL.len() as u64) as usize];
        let rng = &mut rng;
        let (mut samples, snr_db) = if family == Family::Noise {
            (impairments::noise(self.len, 1.0, rng), None)
        } else {
            let (samples, snr_db) = self.received(family, rng);
            (samples, Some(snr_db))
        };
        self.record(&mut samples, rng);
        Frame { samples, family, snr_db }
    }

    /// Returns a signal of `family` after propagation, with the receiver's noise.
    fn received(&self, family: Family, rng: &mut SimRng) -> (Vec<Complex32>, f32) {
        let waveform = waveforms::generate(family, self.len, rng);
        let mut samples = waveform.samples;
        // −5 to 30 dB is the range the card reports; one in eight is stronger still, as a broadcaster is.
        let mut snr_db: f32 =
            if rng.random_bool(0.125) { rng.random_range(30.0..70.0) } else { rng.random_range(-5.0..30.0) };

        // Wholly above, wholly below or astride the centre; one in five close to it.
        let room = (0.5 - waveform.bandwidth / 2.0).max(0.0);
        let mut offset = rng.random_range(-1.0..=1.0) * room;
        if rng.random_bool(0.2) {
            offset = offset.clamp(-0.02, 0.02) * rng.random_range(0.0..1.0);
        }
        // A weak carrier at the very centre is any receiver's own leakage; only a strong one is a signal.
        if matches!(family, Family::Tone | Family::Am) && offset.abs() < 2e-3 {
            snr_db = snr_db.abs().max(12.0);
        }
        dsp::shift(&mut samples, offset, rng.random_range(0.0..std::f32::consts::TAU));

        if rng.random_bool(0.2) {
            // At worst two radians over 8192 samples: more would look like a modulation.
            let step = log_uniform(rng, 1e-4, 2e-2);
            impairments::phase_noise(&mut samples, step, rng);
        }
        if rng.random_bool(0.3) {
            let spread = log_uniform(rng, 1.0, 16.0) as usize;
            impairments::multipath(&mut samples, spread, rng);
        }
        if !matches!(family, Family::Am | Family::Ook) && rng.random_bool(0.1) {
            impairments::fading(&mut samples, rng);
        }
        // Keyed carriers have their own silence, and cutting a plain one into pieces would make it on-off
        // keying.
        if matches!(family, Family::Fsk | Family::Psk | Family::Ofdm | Family::Fm) && rng.random_bool(0.45) {
            gate(&mut samples, family, rng);
        }
        let noise = impairments::noise(self.len, dsp::from_db(-snr_db), rng);
        samples.iter_mut().zip(noise).for_each(|(x, n)| *x += n);
        (samples, snr_db)
    }

    /// Adds the impairments of the receiver and of its file format.
    fn record(&self, samples: &mut [Complex32], rng: &mut SimRng) {
        if rng.random_bool(0.3) {
            impairments::iq_imbalance(samples, rng);
        }
        if rng.random_bool(0.35) {
            let relative_db = rng.random_range(-45.0..-12.0);
            impairments::dc_offset(samples, relative_db, rng);
        }
        // A spur: a weak carrier that is not the signal.
        if rng.random_bool(0.08) {
            let level = (dsp::mean_power(samples) * dsp::from_db(rng.random_range(-45.0..-20.0))).sqrt();
            let mut spur = vec![Complex32::new(level, 0.0); samples.len()];
            dsp::shift(&mut spur, rng.random_range(-0.5..0.5), 0.0);
            samples.iter_mut().zip(spur).for_each(|(x, s)| *x += s);
        }
        Quantiser::draw(rng).apply(samples, rng);
        if rng.random_bool(0.08) {
            impairments::zero_run(samples, 0.4, rng);
        }
    }
}

/// Silences the signal outside one or several stretches: packets, or a transmission that begins or ends.
/// Packets of digital modes may be short; at least a quarter of the frame of FM stays, for speech has no
/// short packets.
fn gate(samples: &mut [Complex32], family: Family, rng: &mut SimRng) {
    let len = samples.len() as f32;
    let mut open = vec![false; samples.len()];
    if family == Family::Fm || rng.random_bool(0.4) {
        let share = rng.random_range(0.25..1.0);
        // May begin before the frame or end after it.
        let start: f32 = rng.random_range(-0.5 * share..1.0 - 0.5 * share);
        let first = (start.max(0.0) * len) as usize;
        let last = ((start + share).min(1.0) * len) as usize;
        open[first..last].fill(true);
    } else {
        let on = log_uniform(rng, 0.04, 0.5) * len;
        let off = on * log_uniform(rng, 0.15, 4.0);
        // The first packet begins within the frame's first half.
        let mut at = rng.random_range(-0.5 * on..0.5 * len);
        while at < len {
            let first = at.max(0.0) as usize;
            let last = ((at + on).max(0.0) as usize).min(samples.len());
            open[first..last].fill(true);
            at += on + off * rng.random_range(0.7..1.3);
        }
    }
    for (x, open) in samples.iter_mut().zip(open) {
        if !open {
            *x = Complex32::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_depends_on_seed_and_index_alone() {
        let simulator = FrameSimulator::new(11, 1024);
        let later = simulator.frame(9);
        let _ = simulator.frame(3);
        assert_eq!(simulator.frame(9).samples, later.samples);
        assert_ne!(FrameSimulator::new(12, 1024).frame(9).samples, later.samples);
    }

    #[test]
    fn every_frame_is_finite_and_not_silent() {
        for len in [64, 100, 1024, 8192] {
            let simulator = FrameSimulator::new(4, len);
            for index in 0..160 {
                let frame = simulator.frame(index);
                assert_eq!(frame.samples.len(), len);
                assert!(frame.samples.iter().all(|x| x.is_finite()), "{:?} {index}", frame.family);
                assert!(dsp::mean_power(&frame.samples) > 0.0, "{:?} {index}", frame.family);
                assert_eq!(frame.snr_db.is_none(), frame.family == Family::Noise);
            }
        }
    }
}
