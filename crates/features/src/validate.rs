//! Checks a `[features]` table.

use crate::{ConfigError, FeatureConfig, Kind, MelNorm, MelScale, Normalize, Sides, Window};

/// Longest transform, samples.
const MAX_N_FFT: usize = 1 << 24;
/// Maximum number of bands, of channels and of columns.
const MAX_COUNT: usize = 1 << 20;

impl FeatureConfig {
    /// Checks every key that the kind reads.
    ///
    /// # Errors
    /// The first key out of range or at odds with another.
    pub fn validate(&self) -> Result<(), ConfigError> {
        count("num_channels", self.num_channels, 1, MAX_COUNT)?;
        if let Some(frames) = self.frames {
            count("frames", frames, 1, MAX_N_FFT)?;
        }
        if let Some(rate) = self.sample_rate_hz {
            number("sample_rate_hz", rate, rate > 0.0, "a positive number of hertz")?;
        }
        self.validate_normalize()?;
        let has_bank = match self.kind {
            Kind::Iq | Kind::Signature => return count("min_samples", self.min_samples(), 1, MAX_N_FFT),
            Kind::Power => {
                self.validate_floor()?;
                return count("min_samples", self.min_samples(), 1, MAX_N_FFT);
            }
            Kind::LogMel => true,
            Kind::LogSpectrum => false,
        };
        self.validate_transform()?;
        // A transform is never padded, so a frame can't be shorter than one.
        count("min_samples", self.min_samples(), self.n_fft, MAX_N_FFT)?;
        if has_bank { self.validate_bank() } else { Ok(()) }
    }

    fn validate_normalize(&self) -> Result<(), ConfigError> {
        match (self.normalize() == Normalize::Fixed, self.mean, self.std) {
            (true, Some(mean), Some(std)) => {
                number("mean", mean, (mean as f32).is_finite(), "a finite number")?;
                let usable = (std as f32).is_normal() && (1.0 / std as f32).is_normal();
                number("std", std, std > 0.0 && usable, "a positive number")
            }
            (true, ..) => Err(ConfigError::Conflict("normalize = \"fixed\" needs both mean and std")),
            (false, None, None) => Ok(()),
            (false, ..) => Err(ConfigError::Conflict("mean and std need normalize = \"fixed\"")),
        }
    }

    fn validate_transform(&self) -> Result<(), ConfigError> {
        count("n_fft", self.n_fft, 16, MAX_N_FFT)?;
        // A symmetric Hann window shorter than 3 is all zeros.
        let shortest = if self.window == Window::HannSymmetric { 3 } else { 1 };
        count("win_length", self.win_length(), shortest, self.n_fft)?;
        count("hop_length", self.hop_length(), 1, MAX_N_FFT)?;
        number("power", self.power, self.power > 0.0 && self.power <= 16.0, "above 0 and at most 16")?;
        self.validate_floor()
    }

    fn validate_floor(&self) -> Result<(), ConfigError> {
        let floor = self.floor as f32;
        number("floor", self.floor, floor.is_normal() && floor > 0.0, "a positive normal float32")
    }

    fn validate_bank(&self) -> Result<(), ConfigError> {
        count("n_mels", self.n_mels, 1, MAX_COUNT)?;
        if self.sides == Sides::TwoSided && !self.n_mels.is_multiple_of(2) {
            return Err(out_of_range("n_mels", self.n_mels as f64, "even with sides = \"two_sided\""));
        }
        if self.mel_norm == MelNorm::Slaney && self.mel_scale == MelScale::Linear {
            return Err(ConfigError::Conflict(
                "mel_norm = \"slaney\" cannot stand with mel_scale = \"linear\"",
            ));
        }
        number("f_min_hz", self.f_min_hz, self.f_min_hz >= 0.0, "0 or more")?;
        let half = self.sample_rate_hz.map(|rate| rate / 2.0);
        if let Some(f_max) = self.f_max_hz {
            number("f_max_hz", f_max, f_max > self.f_min_hz, &format!("above f_min_hz ({})", self.f_min_hz))?;
            if let Some(half) = half {
                number(
                    "f_max_hz",
                    f_max,
                    f_max <= half,
                    &format!("at most half of sample_rate_hz ({half})"),
                )?;
            }
        } else if let Some(half) = half {
            number(
                "f_min_hz",
                self.f_min_hz,
                self.f_min_hz < half,
                &format!("below half of sample_rate_hz ({half})"),
            )?;
        }
        Ok(())
    }
}

fn out_of_range(key: &'static str, value: f64, limit: &str) -> ConfigError {
    ConfigError::OutOfRange { key, value, limit: limit.to_owned() }
}

fn count(key: &'static str, value: usize, least: usize, most: usize) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(out_of_range(key, value as f64, &format!("{least} to {most}")))
    }
}

fn number(key: &'static str, value: f64, allowed: bool, limit: &str) -> Result<(), ConfigError> {
    if value.is_finite() && allowed { Ok(()) } else { Err(out_of_range(key, value, limit)) }
}
