//! The `[features]` table of a model bundle.

use serde::{Deserialize, Serialize};

use crate::{FrameError, signature};

/// Kind of the features that a model is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Window, FFT, power, filterbank, log: `[C, n_mels, T]`.
    LogMel,
    /// The same without a filterbank: `[C, n_fft, T]` two-sided, else `[C, n_fft / 2 + 1, T]`.
    LogSpectrum,
    /// The samples themselves, I then Q: `[C, 2, N]`.
    Iq,
    /// Mean power, dB: 10·log10(mean |I + jQ|² + floor): `[C]`.
    Power,
    /// Spectra, autocorrelation, histogram and samples of the band that is occupied:
    /// `[C, signature::ROWS, 512]` for frames of any length, see [`signature`].
    Signature,
}

/// Signal that is transformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// I + jQ.
    Complex,
    /// |I + jQ|, a real signal.
    Envelope,
}

/// The analysis window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// Hann, periodic.
    Hann,
    /// Hamming (0.54, 0.46), periodic.
    Hamming,
    /// Blackman (0.42, 0.5, 0.08), periodic.
    Blackman,
    /// Hann, symmetric.
    HannSymmetric,
    /// All ones.
    Rectangular,
}

/// Which part of the spectrum is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sides {
    /// All of it in rising frequency; half the bands below 0 Hz.
    TwoSided,
    /// Bins `0..=n_fft / 2`.
    Positive,
    /// `P(f) + P(-f)` for the same bins.
    Folded,
}

/// Scale on which the bands are evenly spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MelScale {
    /// 2595·log10(1 + f/700).
    Htk,
    /// Linear below 1 kHz, logarithmic above (Slaney's Auditory Toolbox).
    Slaney,
    /// Hertz.
    Linear,
}

/// Weighting of the triangles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MelNorm {
    /// Peak 1.
    None,
    /// Area 1: divided by half their width in hertz.
    Slaney,
}

/// The logarithm of a power `x`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Log {
    /// ln(x + floor).
    Ln,
    /// log10(x + floor).
    Log10,
    /// 10·log10(max(x, floor)).
    Db,
}

/// Set of values that is normalised to zero mean and unit population variance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// The whole frame: channels, rows and columns together.
    Frame,
    /// Each channel by itself.
    Channel,
    /// `(x - mean) / std` with the configuration's `mean` and `std`.
    Fixed,
    /// Nothing.
    None,
}

/// The `[features]` table. Unknown keys are refused; absent keys have the values of
/// [`FeatureConfig::default`].
///
/// `kind = "iq"` reads only `sample_rate_hz`, `num_channels`, `frames`, `min_samples` and `normalize` (with
/// `mean` and `std`); `kind = "power"` the same without `frames`, and `floor`; `kind = "signature"` only
/// `sample_rate_hz`, `num_channels` and `min_samples`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeatureConfig {
    /// What the model is given.
    pub kind: Kind,
    /// The rate the model was trained at, Hz. Frames may differ by 0.1 %. Absent: any rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_rate_hz: Option<f64>,
    /// Channels of every frame.
    pub num_channels: usize,
    /// What is transformed.
    pub input: Input,
    /// Transform length, samples, at least 16.
    pub n_fft: usize,
    /// Window length, samples; centred in `n_fft`. Absent: `n_fft`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub win_length: Option<usize>,
    /// Samples from one column to the next. Absent: `n_fft / 4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hop_length: Option<usize>,
    /// The analysis window.
    pub window: Window,
    /// Reflect `n_fft / 2` samples at both ends of the frame first.
    pub center: bool,
    /// Which part of the spectrum is kept.
    pub sides: Sides,
    /// Exponent of the magnitude.
    pub power: f64,
    /// Bands; even with `sides = "two_sided"`.
    pub n_mels: usize,
    /// Lower edge of the lowest band (of each half), Hz.
    pub f_min_hz: f64,
    /// Upper edge of the highest band, Hz. Absent: half the rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub f_max_hz: Option<f64>,
    /// Spacing of the bands.
    pub mel_scale: MelScale,
    /// Weighting of the bands.
    pub mel_norm: MelNorm,
    /// The logarithm.
    pub log: Log,
    /// Keeps the logarithm from zero.
    pub floor: f64,
    /// Normalisation. Absent: `frame`, or `none` for `kind = "iq"` and `"power"`. Not read for
    /// `kind = "signature"`, which has its own scales.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<Normalize>,
    /// With `normalize = "fixed"`: what is subtracted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// With `normalize = "fixed"`: what the rest is divided by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<f64>,
    /// Columns (samples for `kind = "iq"`) the model takes: cropped from the middle or reflected. Absent: as
    /// they come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<usize>,
    /// Fewest samples a channel of a frame, before any padding. Absent: see [`FeatureConfig::min_samples`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_samples: Option<usize>,
}

impl Default for FeatureConfig {
    fn default() -> Self {
        Self {
            kind: Kind::LogMel,
            sample_rate_hz: None,
            num_channels: 1,
            input: Input::Complex,
            n_fft: 1024,
            win_length: None,
            hop_length: None,
            window: Window::Hann,
            center: false,
            sides: Sides::TwoSided,
            power: 2.0,
            n_mels: 128,
            f_min_hz: 0.0,
            f_max_hz: None,
            mel_scale: MelScale::Htk,
            mel_norm: MelNorm::None,
            log: Log::Ln,
            floor: 1e-10,
            normalize: None,
            mean: None,
            std: None,
            frames: None,
            min_samples: None,
        }
    }
}

/// Fewest samples of a frame for `kind = "iq"` without `frames`, where `min_samples` is absent.
const MIN_IQ_SAMPLES: usize = 16;

/// Frames may differ from the model's stated rate by this share: real headers are a few ppm off. The last
/// digits let the limit itself pass whatever the rounding.
const RATE_TOLERANCE: f64 = 1e-3 + 1e-12;

impl FeatureConfig {
    /// Window length, samples.
    pub fn win_length(&self) -> usize {
        self.win_length.unwrap_or(self.n_fft)
    }

    /// Samples from one column to the next.
    pub fn hop_length(&self) -> usize {
        self.hop_length.unwrap_or(self.n_fft / 4)
    }

    /// The normalisation, with the default of the kind.
    pub fn normalize(&self) -> Normalize {
        match self.kind {
            Kind::Signature => Normalize::None,
            Kind::Iq | Kind::Power => self.normalize.unwrap_or(Normalize::None),
            Kind::LogMel | Kind::LogSpectrum => self.normalize.unwrap_or(Normalize::Frame),
        }
    }

    /// Rows of the tensor.
    pub fn rows(&self) -> usize {
        match (self.kind, self.sides) {
            (Kind::LogMel, _) => self.n_mels,
            (Kind::LogSpectrum, Sides::TwoSided) => self.n_fft,
            (Kind::LogSpectrum, _) => self.n_fft / 2 + 1,
            (Kind::Iq, _) => 2,
            (Kind::Power, _) => 1,
            (Kind::Signature, _) => signature::ROWS,
        }
    }

    /// Fewest sample instants a frame may have, before any padding. Where the key is absent it is `n_fft`.
    /// For `kind = "iq"` it is half of `frames`, rounded up, since a model that is given more padding than
    /// signal answers about the padding, and 16 without `frames`. For `kind = "power"` it is 1, for
    /// `kind = "signature"` 64.
    pub fn min_samples(&self) -> usize {
        self.min_samples.unwrap_or(match (self.kind, self.frames) {
            (Kind::Iq, Some(frames)) => frames.div_ceil(2),
            (Kind::Iq, None) => MIN_IQ_SAMPLES,
            (Kind::Power, _) => 1,
            (Kind::Signature, _) => signature::MIN_SAMPLES,
            (Kind::LogMel | Kind::LogSpectrum, _) => self.n_fft,
        })
    }

    /// Whether the bands depend on the rate: every filterbank but a linear one over the whole half-spectrum.
    fn bands_in_hertz(&self) -> bool {
        match self.kind {
            Kind::LogMel => {
                !(self.mel_scale == MelScale::Linear && self.f_min_hz == 0.0 && self.f_max_hz.is_none())
            }
            Kind::LogSpectrum | Kind::Iq | Kind::Power | Kind::Signature => false,
        }
    }

    /// Whether a frame must state its sample rate: the bands are in hertz, or the model states a rate to
    /// compare it with.
    pub fn needs_rate(&self) -> bool {
        self.sample_rate_hz.is_some() || self.bands_in_hertz()
    }

    /// Checks a frame's rate (Hz) and returns the rate the plan is made for: the model's where it states one
    /// (the features it was trained on), else the frame's, or `None` where the features do not depend on it.
    ///
    /// Frames with equal plan rates can share an [`Extractor`](crate::Extractor): key a bounded cache by it,
    /// since a sender is free to choose rates.
    ///
    /// # Errors
    /// [`FrameError::MissingRate`], [`FrameError::InvalidRate`], [`FrameError::SampleRate`] or
    /// [`FrameError::RateTooLow`].
    pub fn plan_rate(&self, frame_rate_hz: Option<f64>) -> Result<Option<f64>, FrameError> {
        let Some(rate) = frame_rate_hz else {
            return if self.needs_rate() { Err(FrameError::MissingRate) } else { Ok(None) };
        };
        if !(rate.is_finite() && rate > 0.0) {
            return Err(FrameError::InvalidRate(rate));
        }
        if let Some(stated) = self.sample_rate_hz {
            if (rate - stated).abs() > stated * RATE_TOLERANCE {
                return Err(FrameError::SampleRate { got: rate, expected: stated });
            }
            return Ok(self.bands_in_hertz().then_some(stated));
        }
        if !self.bands_in_hertz() {
            return Ok(None);
        }
        let needed = 2.0 * self.f_max_hz.unwrap_or(self.f_min_hz);
        if rate < needed * (1.0 - RATE_TOLERANCE) || rate <= 2.0 * self.f_min_hz {
            return Err(FrameError::RateTooLow { got: rate, needed });
        }
        Ok(Some(rate))
    }
}
