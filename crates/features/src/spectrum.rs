//! Computes columns of a short-time power spectrum: window, FFT, |X|^power.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};
use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

use crate::bank::{LANES, TILE};
use crate::fit::mirrored;
use crate::{FeatureConfig, Input, Sides, window};
use sferic_samples::{Component, Samples};

/// Plan and scratch for the columns of one configuration.
pub(crate) struct Spectrum {
    window: Vec<f32>,
    hop: usize,
    /// Samples reflected at each end.
    pad: usize,
    exponent: f64,
    sides: Sides,
    transform: Transform,
    /// The powers of each column of a tile, bins `0..=n_fft` (the last repeats the first), then zeros, since
    /// the bank reads beyond the last bin.
    powers: [Vec<f32>; TILE],
}

enum Transform {
    Complex {
        fft: Arc<dyn Fft<f32>>,
        buffer: Vec<Complex32>,
        scratch: Vec<Complex32>,
    },
    Real {
        fft: Arc<dyn RealToComplex<f32>>,
        input: Vec<f32>,
        output: Vec<Complex32>,
        scratch: Vec<Complex32>,
    },
}

impl Spectrum {
    pub(crate) fn new(config: &FeatureConfig) -> Self {
        let n_fft = config.n_fft;
        let transform = match config.input {
            Input::Complex => {
                let fft = FftPlanner::new().plan_fft_forward(n_fft);
                let scratch = vec![Complex32::default(); fft.get_inplace_scratch_len()];
                Transform::Complex { fft, buffer: vec![Complex32::default(); n_fft], scratch }
            }
            Input::Envelope => {
                let fft = RealFftPlanner::new().plan_fft_forward(n_fft);
                let (input, output, scratch) =
                    (fft.make_input_vec(), fft.make_output_vec(), fft.make_scratch_vec());
                Transform::Real { fft, input, output, scratch }
            }
        };
        Self {
            window: window::padded(config.window, config.win_length(), n_fft),
            hop: config.hop_length(),
            pad: if config.center { n_fft / 2 } else { 0 },
            exponent: config.power,
            sides: config.sides,
            transform,
            powers: std::array::from_fn(|_| vec![0.0; n_fft + 1 + LANES]),
        }
    }

    /// Columns of a frame of `instants`, at least `n_fft`.
    pub(crate) fn columns(&self, instants: usize) -> usize {
        1 + (instants + 2 * self.pad - self.window.len()) / self.hop
    }

    /// The powers of the `TILE` columns from `first` on: bins `0..=n_fft` two-sided, else `0..=n_fft / 2`;
    /// what follows has no meaning. Columns from `end` on are left as they were.
    pub(crate) fn tile<D: Component>(
        &mut self,
        samples: &Samples<'_>,
        channel: usize,
        first: usize,
        end: usize,
    ) -> [&[f32]; TILE] {
        for (column, power) in (first..end).zip(&mut self.powers) {
            let start = (column * self.hop) as isize - self.pad as isize;
            self.transform.run::<D>(samples, channel, start, &self.window, self.exponent, power);
            self.transform.fold(self.sides, self.window.len(), power);
        }
        self.powers.each_ref().map(Vec::as_slice)
    }
}

impl Transform {
    /// Computes the powers of the bins that the transform has, from bin 0 on.
    #[inline(always)]
    fn run<D: Component>(
        &mut self,
        samples: &Samples<'_>,
        channel: usize,
        start: isize,
        window: &[f32],
        exponent: f64,
        power: &mut [f32],
    ) {
        match self {
            Self::Complex { fft, buffer, scratch } => {
                windowed::<D, _>(samples, channel, start, window, buffer, |sample, w| sample * w);
                fft.process_with_scratch(buffer, scratch);
                powers(exponent, buffer, power);
            }
            Self::Real { fft, input, output, scratch } => {
                windowed::<D, _>(samples, channel, start, window, input, |sample, w| {
                    sample.norm_sqr().sqrt() * w
                });
                // Every slice has the length the plan made it with, the only thing that can be wrong here.
                let _ = fft.process_with_scratch(input, output, scratch);
                powers(exponent, output, power);
            }
        }
    }

    /// Rearranges those powers to the configured sides.
    #[inline(always)]
    fn fold(&self, sides: Sides, n_fft: usize, power: &mut [f32]) {
        let real = matches!(self, Self::Real { .. });
        if !real {
            power[n_fft] = power[0];
        }
        // Bins 0..=n_fft/2, and their mirror images from the last to the first; an even n_fft has its middle
        // bin only once.
        let (bins, rest) = power.split_at_mut(n_fft / 2 + 1);
        let mirrored = rest[..n_fft - n_fft / 2].iter_mut().rev();
        match (sides, real) {
            (Sides::Positive, _) | (Sides::TwoSided, false) => {}
            // A real signal has the same powers on both sides.
            (Sides::TwoSided, true) => mirrored.zip(bins).for_each(|(image, &mut p)| *image = p),
            (Sides::Folded, true) => bins.iter_mut().for_each(|p| *p *= 2.0),
            (Sides::Folded, false) => {
                if n_fft.is_multiple_of(2) {
                    bins[n_fft / 2] *= 2.0;
                }
                bins.iter_mut().zip(mirrored).for_each(|(p, &mut image)| *p += image);
            }
        }
    }
}

/// Reads `out.len()` samples from `start` on (reflected at the ends of the frame) and windows them on the
/// way.
pub(crate) fn windowed<D: Component, T>(
    samples: &Samples<'_>,
    channel: usize,
    start: isize,
    window: &[f32],
    out: &mut [T],
    weigh: impl Fn(Complex32, f32) -> T,
) {
    let end = start + out.len() as isize;
    if start >= 0 && end <= samples.len() as isize {
        samples.read_run::<D, _>(start as usize, channel, out, window, weigh);
    } else {
        for (k, (out, &w)) in out.iter_mut().zip(window).enumerate() {
            let instant = mirrored(start + k as isize, samples.len());
            *out = weigh(samples.get::<D>(instant, channel), w);
        }
    }
}

fn powers(exponent: f64, spectrum: &[Complex32], out: &mut [f32]) {
    let out = out.iter_mut().zip(spectrum);
    if exponent == 2.0 {
        out.for_each(|(p, x)| *p = x.norm_sqr());
    } else if exponent == 1.0 {
        out.for_each(|(p, x)| *p = x.norm_sqr().sqrt());
    } else {
        let exponent = (exponent / 2.0) as f32;
        out.for_each(|(p, x)| *p = x.norm_sqr().powf(exponent));
    }
}
