//! Model bundles, and what their networks take and give.
//!
//! [`Bundle`] reads a bundle's folder: `model.toml`, the ONNX file and its external data. [`Input`] checks
//! the features against the file's [`Port`]s and a frame against both. [`Head`] takes the outputs of a run
//! and gives a frame's answer.
//!
//! It names no inference library: a run's outputs come as [`Output`]s, plain slices.

mod bundle;
mod error;
mod head;
mod input;
mod onnx_file;
mod output_section;
mod port;
mod proto;
mod repository;
mod values;

pub use bundle::Bundle;
pub use error::BundleError;
pub use head::{CONFIDENCE_INTERVAL, Head, ellipse_scale};
pub use input::{Input, frame_failure, width};
pub use onnx_file::{ExternalFile, OnnxFile, hexadecimal};
pub use output_section::{Activation, LocalOrigin, OutputConfig, Scale, Units};
pub use port::{Axis, Dtype, Elements, Port};
pub use repository::{Repository, Stamp, check_version};
pub use values::{Class, Output, Reading, ScoreMap, Values};
