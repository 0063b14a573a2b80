//! The mean spectrum of a frame, for people to look at.

use std::sync::Arc;

use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

use crate::spectrum::windowed;
use crate::{Window, window};
use sferic_samples::{Component, Samples, with_component};

/// Segments that a long frame is looked at with.
const MAX_SEGMENTS: usize = 256;

/// What silence is shown as, dBFS.
const SILENCE_DB: f32 = -200.0;

/// Power spectra by Welch's method (Welch 1967; `scipy.signal.welch` with `scaling = "spectrum"`): the mean
/// over segments that overlap by half, each weighted with Hann's window. A full-scale tone in the middle of a
/// bin has 0 dBFS.
pub struct MeanSpectrum {
    fft: Arc<dyn Fft<f32>>,
    window: Vec<f32>,
    /// What the power of a full-scale tone is.
    full_scale: f64,
    buffer: Vec<Complex32>,
    scratch: Vec<Complex32>,
    sums: Vec<f64>,
    db: Vec<f32>,
}

impl MeanSpectrum {
    /// A plan for spectra of so many bins.
    pub fn new(bins: usize) -> Self {
        let fft = FftPlanner::new().plan_fft_forward(bins);
        let window = window::padded(Window::Hann, bins, bins);
        let amplitude: f64 = window.iter().map(|&weight| f64::from(weight)).sum();
        Self {
            buffer: vec![Complex32::default(); bins],
            scratch: vec![Complex32::default(); fft.get_inplace_scratch_len()],
            fft,
            window,
            full_scale: amplitude * amplitude,
            sums: vec![0.0; bins],
            db: vec![SILENCE_DB; bins],
        }
    }

    /// The spectrum of a frame, dBFS in rising frequency from minus half of the sample rate on, the mean over
    /// its channels; `None` where the frame is shorter than a segment. Of a frame of more than 256 segments
    /// as many are taken, evenly spread.
    pub fn of(&mut self, samples: &Samples<'_>) -> Option<&[f32]> {
        let bins = self.window.len();
        let last = samples.len().checked_sub(bins)?;
        let hop = (bins / 2).max(last.div_ceil(MAX_SEGMENTS - 1));
        self.sums.fill(0.0);
        for channel in 0..samples.channels() {
            for start in (0..=last).step_by(hop) {
                with_component!(samples.datatype(), D => self.add::<D>(samples, channel, start));
            }
        }
        let segments = (last / hop + 1) * samples.channels();
        let scale = 1.0 / (self.full_scale * segments as f64);
        // The negative frequencies are the second half.
        let rising = (0..bins).map(|bin| self.sums[(bin + bins - bins / 2) % bins]);
        for (db, power) in self.db.iter_mut().zip(rising) {
            *db = ((10.0 * (power * scale).log10()) as f32).max(SILENCE_DB);
        }
        Some(&self.db)
    }

    fn add<D: Component>(&mut self, samples: &Samples<'_>, channel: usize, start: usize) {
        let weigh = |sample: Complex32, weight: f32| sample * weight;
        windowed::<D, _>(samples, channel, start as isize, &self.window, &mut self.buffer, weigh);
        self.fft.process_with_scratch(&mut self.buffer, &mut self.scratch);
        for (sum, bin) in self.sums.iter_mut().zip(&self.buffer) {
            *sum += f64::from(bin.norm_sqr());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use sferic_samples::Datatype;

    use super::*;

    fn tone(length: usize, cycles_per_sample: f32, amplitude: f32) -> Vec<u8> {
        let at = |n: usize| Complex32::from_polar(amplitude, TAU * (cycles_per_sample * n as f32).fract());
        (0..length).map(at).flat_map(|x| [x.re.to_le_bytes(), x.im.to_le_bytes()]).flatten().collect()
    }

    #[test]
    fn a_tone_is_where_and_as_strong_as_it_is() {
        let mut plan = MeanSpectrum::new(64);
        for (cycles, bin) in [(0.25, 48), (-0.25, 16), (0.0, 32), (-0.5, 0)] {
            for (amplitude, db) in [(1.0, 0.0), (0.1, -20.0)] {
                let bytes = tone(1000, cycles, amplitude);
                let spectrum = plan.of(&Samples::new(&bytes, Datatype::Cf32Le, 1).unwrap()).unwrap();
                assert!((spectrum[bin] - db).abs() < 0.01, "{cycles} {}", spectrum[bin]);
                assert!(
                    spectrum
                        .iter()
                        .enumerate()
                        .all(|(at, &db)| at.abs_diff(bin) < 2 || at.abs_diff(bin) == 63 || db < -60.0)
                );
            }
        }
    }

    #[test]
    fn it_is_the_mean_over_the_whole_frame_and_its_channels() {
        let mut plan = MeanSpectrum::new(32);
        // The tone is there in the second half alone: half of the power, but for the segment in the middle.
        let mut bytes = vec![0; 8 * 16_000];
        bytes.extend(tone(16_000, 0.25, 1.0));
        let half = plan.of(&Samples::new(&bytes, Datatype::Cf32Le, 1).unwrap()).unwrap()[24];
        assert!((half + 3.01).abs() < 0.05, "{half}");
        // One of two channels.
        let sample = |pair: &[u8]| [pair, &[0; 8]].concat();
        let bytes: Vec<u8> = tone(4000, 0.25, 1.0).chunks(8).flat_map(sample).collect();
        let half = plan.of(&Samples::new(&bytes, Datatype::Cf32Le, 2).unwrap()).unwrap()[24];
        assert!((half + 3.01).abs() < 0.01, "{half}");
    }

    #[test]
    fn silence_and_short_frames() {
        let mut plan = MeanSpectrum::new(32);
        let spectrum = plan.of(&Samples::new(&[0; 80], Datatype::Ci8, 1).unwrap()).unwrap();
        assert!(spectrum.iter().all(|&db| db == -200.0));
        assert!(plan.of(&Samples::new(&[0; 62], Datatype::Ci8, 1).unwrap()).is_none());
        assert!(plan.of(&Samples::new(&[0; 64], Datatype::Ci8, 1).unwrap()).is_some());
    }
}
