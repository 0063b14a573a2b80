//! Errors of a configuration or of a frame, each with the value and the limit.

use sferic_samples::{Number, SamplesError};

/// A `[features]` table that cannot be used. The message names the key, its value and the limit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A number outside its range.
    #[error("{key} is {}, must be {limit}", Number(*value))]
    OutOfRange {
        /// The key in the `[features]` table.
        key: &'static str,
        /// The value it had.
        value: f64,
        /// What it may be, in words.
        limit: String,
    },
    /// Two keys that exclude each other, or one that needs another.
    #[error("{0}")]
    Conflict(&'static str),
}

/// A frame whose features cannot be computed. The failure codes of the protocol are in brackets.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// The samples themselves are at fault.
    #[error(transparent)]
    Samples(#[from] SamplesError),
    /// Finite samples so large that their spectrum leaves float32 (`invalid_frame`).
    #[error("samples are so large that their features exceed float32")]
    Overflow,
    /// Fewer sample instants than [`FeatureConfig::min_samples`](crate::FeatureConfig::min_samples)
    /// (`not_enough_samples`).
    #[error("{got} samples, at least {needed} needed")]
    NotEnoughSamples {
        /// Sample instants in the frame.
        got: usize,
        /// Sample instants needed.
        needed: usize,
    },
    /// A number of channels other than the model takes (`shape_mismatch`).
    #[error("{got} channels, the model takes {expected}")]
    Channels {
        /// Channels in the frame.
        got: usize,
        /// Channels in the model's configuration.
        expected: usize,
    },
    /// No sample rate where the features need one (`invalid_frame`).
    #[error("no sample rate, and the model's features need one")]
    MissingRate,
    /// A sample rate that is no positive finite number (`invalid_frame`).
    #[error("sample rate is {}, must be a positive finite number of hertz", Number(*.0))]
    InvalidRate(f64),
    /// A sample rate other than the model states (`shape_mismatch`).
    #[error("sample rate is {} Hz, the model takes {} Hz within 0.1 %", Number(*got), Number(*expected))]
    SampleRate {
        /// The frame's rate, Hz.
        got: f64,
        /// The model's rate, Hz.
        expected: f64,
    },
    /// A sample rate too low for the band that the model uses (`shape_mismatch`).
    #[error("sample rate is {} Hz, the model's band needs at least {} Hz", Number(*got), Number(*needed))]
    RateTooLow {
        /// The frame's rate, Hz.
        got: f64,
        /// Twice `f_max_hz` or `f_min_hz`, Hz.
        needed: f64,
    },
    /// The length of the output slice is not that of the shape (a defect of the caller: `internal`).
    #[error("output holds {got} values, the features have {expected}")]
    OutputLength {
        /// Length of the slice given.
        got: usize,
        /// Product of the shape.
        expected: usize,
    },
    /// The configuration itself is wrong; caught at load by `FeatureConfig::validate` (`internal`).
    #[error(transparent)]
    Config(#[from] ConfigError),
}
