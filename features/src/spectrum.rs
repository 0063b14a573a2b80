//! One column of a short-time power spectrum: window, FFT, |X|^power.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};
use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

use crate::bank::LANES;
use crate::fit::mirrored;
use crate::samples::Component;
use crate::{FeatureConfig, Input, Samples, Sides, window};

/// Plan and scratch for the columns of one configuration.
pub(crate) struct Spectrum {
    window: Vec<f32>,
    hop: usize,
    /// Samples reflected at each end.
    pad: usize,
    exponent: f64,
    sides: Sides,
    transform: Transform,
    /// Powers of bins `0..=n_fft` (the last repeats the first), then zeros for the bank to run over.
    power: Vec<f32>,
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
                Transform::Complex {
                    fft,
                    buffer: vec![Complex32::default(); n_fft],
                    scratch,
                }
            }
            Input::Envelope => {
                let fft = RealFftPlanner::new().plan_fft_forward(n_fft);
                let (input, output, scratch) = (
                    fft.make_input_vec(),
                    fft.make_output_vec(),
                    fft.make_scratch_vec(),
                );
                Transform::Real {
                    fft,
                    input,
                    output,
                    scratch,
                }
            }
        };
        Self {
            window: window::padded(config.window, config.win_length(), n_fft),
            hop: config.hop_length(),
            pad: if config.center { n_fft / 2 } else { 0 },
            exponent: config.power,
            sides: config.sides,
            transform,
            power: vec![0.0; n_fft + 1 + LANES],
        }
    }

    /// Columns of a frame of `instants`, at least `n_fft`.
    pub(crate) fn columns(&self, instants: usize) -> usize {
        1 + (instants + 2 * self.pad - self.window.len()) / self.hop
    }

    /// The powers of one column: bins `0..=n_fft` two-sided, else `0..=n_fft / 2`; what follows is finite.
    #[inline(always)]
    pub(crate) fn column<D: Component>(
        &mut self,
        samples: &Samples<'_>,
        channel: usize,
        column: usize,
    ) -> &[f32] {
        let n_fft = self.window.len();
        let half = n_fft / 2;
        let start = (column * self.hop) as isize - self.pad as isize;
        match &mut self.transform {
            Transform::Complex {
                fft,
                buffer,
                scratch,
            } => {
                windowed::<D, _>(
                    samples,
                    channel,
                    start,
                    &self.window,
                    buffer,
                    |sample, w| sample * w,
                );
                fft.process_with_scratch(buffer, scratch);
                powers(self.exponent, buffer, &mut self.power);
                self.power[n_fft] = self.power[0];
                if self.sides == Sides::Folded {
                    for k in 0..=half {
                        self.power[k] += self.power[n_fft - k];
                    }
                }
            }
            Transform::Real {
                fft,
                input,
                output,
                scratch,
            } => {
                windowed::<D, _>(samples, channel, start, &self.window, input, |sample, w| {
                    sample.norm_sqr().sqrt() * w
                });
                // Every slice has the length the plan made it with, the only thing that can be wrong here.
                let _ = fft.process_with_scratch(input, output, scratch);
                powers(self.exponent, output, &mut self.power);
                match self.sides {
                    Sides::Positive => {}
                    Sides::Folded => self.power[..=half].iter_mut().for_each(|p| *p *= 2.0),
                    Sides::TwoSided => {
                        for k in 0..=half {
                            self.power[n_fft - k] = self.power[k];
                        }
                    }
                }
            }
        }
        &self.power
    }
}

/// Reads `out.len()` samples from `start` on (reflected at the ends of the frame) and windows them on the way.
#[inline(always)]
fn windowed<D: Component, T>(
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

#[inline(always)]
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
