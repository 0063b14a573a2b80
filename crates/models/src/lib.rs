//! Model bundles, and what their networks take and give.
//!
//! [`Bundle`] reads a bundle's folder: `model.toml`, the ONNX file, its external data and golden cases.
//! [`Inputs`] checks what the model is given against the file's [`Port`]s and a frame against both. [`Head`]
//! takes the outputs of a run and gives a frame's answer.
//!
//! It names no inference library: a run's outputs come as [`Output`]s, plain slices.

mod batch_axis;
mod bundle;
mod calibration;
mod error;
mod files;
mod gather_section;
mod gathered_input;
mod golden;
mod head;
mod input;
mod input_section;
mod inputs;
mod onnx_file;
mod output_section;
mod port;
mod proto;
mod repository;
mod tensor_input;
mod toml_text;
mod values;

pub use batch_axis::lacks_batch_axis;
pub use bundle::Bundle;
pub use calibration::Calibration;
pub use error::BundleError;
pub use gathered_input::{GatheredInput, GatheredKind};
pub use golden::{Golden, GoldenCase, MAX_GOLDEN_BYTES};
pub use head::from_origin;
pub use head::{CONFIDENCE_INTERVAL, Head, ellipse_scale};
pub use input::{FeatureAxes, Input, frame_failure, width};
pub use input_section::{GatheredConfig, InputConfig, InputSource, TensorConfig};
pub use inputs::{Inputs, ModelInput, ModelInputSource};
pub use onnx_file::{ExternalFile, OnnxFile, hexadecimal};
pub use output_section::{Activation, LocalOrigin, OutputConfig, Scale, Units};
pub use port::{Axis, Elements, Port};
pub use repository::{Repository, Stamp, check_name, check_version};
pub use sferic_actors::tensor::Dtype;
pub use tensor_input::{check_range, goes_into};
pub use values::{Class, Output, Reading, ScoreMap, Values};
