//! Computes the tensor that a model was trained on from IQ samples.
//!
//! A [`FeatureConfig`] is the `[features]` table of a model bundle. An [`Extractor`] is made once per
//! configuration and sample rate; it owns the FFT plan, the window, the sparse filterbank and the scratch,
//! and turns [`Samples`](sferic_samples::Samples) (bytes as they arrived) into a float32 tensor
//! `[channels, rows, columns]` without allocating.
//!
//! ```
//! use sferic_features::{Extractor, FeatureConfig};
//! use sferic_samples::{Datatype, Samples};
//!
//! let config = FeatureConfig::default(); // log-mel, 1024-point, 128 bands, two-sided
//! let bytes = vec![0u8; 16_384 * 2];
//! let samples = Samples::new(&bytes, Datatype::Ci8, 1)?;
//! let mut extractor = Extractor::new(&config, Some(192_000.0))?;
//! let [channels, rows, columns] = extractor.shape(samples.len())?;
//! assert_eq!([channels, rows, columns], [1, 128, 61]);
//! let mut tensor = vec![0.0; channels * rows * columns];
//! extractor.extract(&samples, &mut tensor)?;
//! assert!(tensor.iter().all(|&x| x == 0.0)); // silence
//! # Ok::<(), sferic_features::FrameError>(())
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))] // a test may panic

mod bank;
mod config;
mod correlation;
mod error;
mod extractor;
mod fit;
mod log;
mod mean_spectrum;
mod normalize;
pub mod signature;
mod spectrum;
mod validate;
mod window;

pub use bank::EmptyBand;
pub use config::{FeatureConfig, Input, Kind, Log, MelNorm, MelScale, Normalize, Sides, Window};
pub use correlation::{CorrelationConfig, Correlations, Correlator, NoOverlap, Stream, Weighting};
pub use error::{ConfigError, FrameError};
pub use extractor::Extractor;
pub use mean_spectrum::MeanSpectrum;
