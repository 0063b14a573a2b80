//! Computes the tensor of a frame from its samples.

use crate::bank::{Bank, EmptyBand, TILE};
use crate::fit::Fit;
use crate::normalize::Normalizer;
use crate::signature::{self, Signature};
use crate::spectrum::Spectrum;
use crate::{FeatureConfig, FrameError, Kind, Log, Sides, log};
use sferic_samples::{Component, Samples, with_component};

/// Columns computed before they are written out, so that each row is written in runs and not value by value.
/// A multiple of `TILE`.
const BLOCK: usize = 16;

/// Plans, window, filterbank and scratch for one configuration and rate. `Send`; one per worker.
pub struct Extractor {
    channels: usize,
    rows: usize,
    min_samples: usize,
    frames: Option<usize>,
    normalizer: Normalizer,
    features: Features,
}

enum Features {
    Iq,
    /// With its floor.
    Power(f64),
    Signature(Box<Signature>),
    Spectral(Box<Spectral>),
}

struct Spectral {
    spectrum: Spectrum,
    to_rows: BinsToRows,
    log: Log,
    floor: f32,
    /// `rows` runs of `BLOCK` columns.
    block: Vec<f32>,
}

/// How the bins of a spectrum become the rows of the tensor.
enum BinsToRows {
    Bank(Bank),
    /// Bins from `0`.
    Bins,
    /// Bins from this one on, then those before it, which is rising frequency.
    Rotated(usize),
}

impl Extractor {
    /// Makes the plan for `config` and a frame's sample rate (Hz); [`FeatureConfig::plan_rate`] says
    /// what the rate changes.
    ///
    /// # Errors
    /// [`FrameError::Config`] for a configuration that does not validate, and those of
    /// [`FeatureConfig::plan_rate`].
    pub fn new(config: &FeatureConfig, sample_rate_hz: Option<f64>) -> Result<Self, FrameError> {
        config.validate()?;
        let rate = config.plan_rate(sample_rate_hz)?;
        let spectral = |to_rows| {
            Features::Spectral(Box::new(Spectral {
                spectrum: Spectrum::new(config),
                to_rows,
                log: config.log,
                floor: config.floor as f32,
                block: vec![0.0; BLOCK * config.rows()],
            }))
        };
        let features = match (config.kind, config.sides) {
            (Kind::Iq, _) => Features::Iq,
            (Kind::Power, _) => Features::Power(config.floor),
            (Kind::Signature, _) => Features::Signature(Box::new(Signature::new())),
            // Without bands in hertz the bank has no scale, and any rate gives the same.
            (Kind::LogMel, _) => spectral(BinsToRows::Bank(Bank::new(config, rate.unwrap_or(1.0))?)),
            (Kind::LogSpectrum, Sides::TwoSided) => {
                spectral(BinsToRows::Rotated(config.n_fft - config.n_fft / 2))
            }
            (Kind::LogSpectrum, Sides::Positive | Sides::Folded) => spectral(BinsToRows::Bins),
        };
        Ok(Self {
            channels: config.num_channels,
            rows: config.rows(),
            min_samples: config.min_samples(),
            frames: config.frames.filter(|_| !matches!(config.kind, Kind::Power | Kind::Signature)),
            normalizer: Normalizer::new(config),
            features,
        })
    }

    /// Bands without a bin at this rate; their rows are constant before normalisation.
    pub fn empty_bands(&self) -> &[EmptyBand] {
        match &self.features {
            Features::Spectral(spectral) => match &spectral.to_rows {
                BinsToRows::Bank(bank) => &bank.empty,
                _ => &[],
            },
            Features::Iq | Features::Power(_) | Features::Signature(_) => &[],
        }
    }

    /// Logs one warning about the bands without a bin. Call it once when a model is loaded and its rate
    /// is known, not for every plan: senders are free to choose rates.
    pub fn warn_of_empty_bands(&self, model: &str) {
        let empty = self.empty_bands();
        if let (Some(first), Some(last)) = (empty.first(), empty.last()) {
            tracing::warn!(
                model,
                empty = empty.len(),
                bands = self.rows,
                lowest_hz = first.low_hz,
                highest_hz = last.high_hz,
                rows = ?empty.iter().map(|band| band.row).collect::<Vec<_>>(),
                "bands that catch no bin, their features are constant: use fewer bands, a longer n_fft or a \
                 linear scale"
            );
        }
    }

    /// Shape of the tensor for a frame of `instants` samples a channel: `[channels, rows, columns]`, or
    /// `[channels, 2, samples]` for `kind = "iq"`, `[channels, 1, 1]` for `kind = "power"`,
    /// `[channels, signature::ROWS, 512]` for `kind = "signature"`.
    ///
    /// # Errors
    /// [`FrameError::NotEnoughSamples`].
    pub fn shape(&self, instants: usize) -> Result<[usize; 3], FrameError> {
        Ok([self.channels, self.rows, self.fit(instants)?.total])
    }

    fn fit(&self, instants: usize) -> Result<Fit, FrameError> {
        if instants < self.min_samples {
            return Err(FrameError::NotEnoughSamples { got: instants, needed: self.min_samples });
        }
        let available = match &self.features {
            Features::Iq => instants,
            Features::Power(_) => 1,
            Features::Signature(_) => signature::COLUMNS,
            Features::Spectral(spectral) => spectral.spectrum.columns(instants),
        };
        Ok(Fit::new(available, self.frames))
    }

    /// Computes the features of one frame into `out`, in C order of [`shape`](Self::shape); writes every
    /// value and does not allocate.
    ///
    /// # Errors
    /// [`FrameError::Channels`], [`FrameError::NotEnoughSamples`], [`FrameError::Samples`] (a value that is
    /// not finite), [`FrameError::Overflow`] or [`FrameError::OutputLength`]. After an error `out` holds
    /// nothing of use.
    pub fn extract(&mut self, samples: &Samples<'_>, out: &mut [f32]) -> Result<(), FrameError> {
        if samples.channels() != self.channels {
            return Err(FrameError::Channels { got: samples.channels(), expected: self.channels });
        }
        let fit = self.fit(samples.len())?;
        let expected = self.channels * self.rows * fit.total;
        if out.len() != expected {
            return Err(FrameError::OutputLength { got: out.len(), expected });
        }
        samples.check_finite()?;
        for (channel, out) in out.chunks_exact_mut(self.rows * fit.total).enumerate() {
            with_component!(samples.datatype(), D => match &mut self.features {
                Features::Iq => copy_iq::<D>(samples, channel, fit, out),
                Features::Power(floor) => out[0] = mean_power::<D>(samples, channel, *floor),
                Features::Signature(signature) => signature.channel::<D>(samples, channel, out),
                Features::Spectral(spectral) => spectral.channel::<D>(samples, channel, fit, out),
            });
        }
        if fit.count < fit.total {
            out.chunks_exact_mut(fit.total).for_each(|row| fit.reflect(row));
        }
        if let Features::Spectral(spectral) = &self.features {
            log::apply(spectral.log, spectral.floor, out)?;
        }
        self.normalizer.apply(self.channels, out)
    }
}

impl Spectral {
    /// Fills the computed columns of one channel's rows with powers.
    fn channel<D: Component>(&mut self, samples: &Samples<'_>, channel: usize, fit: Fit, out: &mut [f32]) {
        let rows = out.len() / fit.total;
        let end = fit.first + fit.count;
        for done in (0..fit.count).step_by(BLOCK) {
            let columns = BLOCK.min(fit.count - done);
            for at in (0..columns).step_by(TILE) {
                let powers = self.spectrum.tile::<D>(samples, channel, fit.first + done + at, end);
                let values = &mut self.block[at..];
                match &self.to_rows {
                    BinsToRows::Bank(bank) => bank.apply(powers, values, BLOCK),
                    BinsToRows::Bins => interleave(powers.map(|power| &power[..rows]), values),
                    BinsToRows::Rotated(first) => {
                        interleave(powers.map(|power| &power[*first..rows]), values);
                        interleave(
                            powers.map(|power| &power[..*first]),
                            &mut values[(rows - first) * BLOCK..],
                        );
                    }
                }
            }
            for (out, values) in out.chunks_exact_mut(fit.total).zip(self.block.chunks_exact(BLOCK)) {
                out[fit.left + done..fit.left + done + columns].copy_from_slice(&values[..columns]);
            }
        }
    }
}

/// Writes a tile's rows into those of a block.
fn interleave(powers: [&[f32]; TILE], block: &mut [f32]) {
    for (column, power) in powers.iter().enumerate() {
        for (values, &power) in block.chunks_mut(BLOCK).zip(*power) {
            values[column] = power;
        }
    }
}

/// Mean power of a channel, dB.
fn mean_power<D: Component>(samples: &Samples<'_>, channel: usize, floor: f64) -> f32 {
    let power = |at| {
        let sample = samples.get::<D>(at, channel);
        f64::from(sample.re).powi(2) + f64::from(sample.im).powi(2)
    };
    let sum: f64 = (0..samples.len()).map(power).sum();
    (10.0 * (sum / samples.len() as f64 + floor).log10()) as f32
}

/// Fills a channel's I and Q rows.
fn copy_iq<D: Component>(samples: &Samples<'_>, channel: usize, fit: Fit, out: &mut [f32]) {
    let (i, q) = out.split_at_mut(fit.total);
    for (k, (i, q)) in i[fit.left..].iter_mut().zip(&mut q[fit.left..]).take(fit.count).enumerate() {
        let sample = samples.get::<D>(fit.first + k, channel);
        (*i, *q) = (sample.re, sample.im);
    }
}
