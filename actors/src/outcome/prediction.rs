//! What a model answers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::frame::ModelId;

/// The answer of a model to one frame, with how it was produced.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// The answer; shared with the cache.
    pub answer: Arc<Answer>,
    /// The model that answered.
    pub model: Arc<ModelId>,
    /// How many frames shared the session run.
    pub batch_size: usize,
    /// Whether it was answered without a run of its own.
    pub cache_hit: bool,
}

/// The answer of a model, by the kind of its head.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Answer {
    /// Where the emitter is.
    Localization(Localization),
    /// What the signal is; best first.
    Classification(Vec<Label>),
    /// The raw outputs, by name.
    Tensors(Vec<NamedTensor>),
}

/// A place on the Earth with its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Localization {
    /// Degrees WGS 84.
    pub position: Position,
    /// 1-sigma, along axes turned by `theta`.
    pub uncertainty: Uncertainty,
    /// The ellipse that covers `uncertainty.confidence_interval`.
    pub ellipse: Ellipse,
    /// 0 to 1 as the model states it; `None` where it states none.
    pub confidence: Option<f64>,
    /// Whether the ellipse has a measured radius, and not that of a normal distribution.
    #[serde(default)]
    pub calibrated: bool,
}

/// Degrees WGS 84.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Degrees north, in [-90, 90].
    pub latitude: f64,
    /// Degrees east, in [-180, 180].
    pub longitude: f64,
}

/// 1-sigma in metres along x (east) and y (north), or along those axes turned by `theta`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Uncertainty {
    /// Metres.
    pub sigma_x: f64,
    /// Metres.
    pub sigma_y: f64,
    /// Degrees counter-clockwise from east, in [-180, 180].
    pub theta: f64,
    /// The probability that the ellipse covers.
    pub confidence_interval: f64,
}

/// The confidence ellipse.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ellipse {
    /// Metres.
    pub semi_major: f64,
    /// Metres.
    pub semi_minor: f64,
    /// Of the major axis, degrees counter-clockwise from east, in [-180, 180].
    pub rotation: f64,
    /// Square metres.
    pub area: f64,
}

/// One class with its score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Label {
    /// The class's name, from the bundle.
    pub label: Arc<str>,
    /// After the bundle's activation; `None` where the model gives a label alone.
    pub score: Option<f64>,
}

/// One raw output of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamedTensor {
    /// The output's name in the ONNX file.
    pub name: Arc<str>,
    /// With a leading batch axis of 1.
    pub shape: Vec<usize>,
    /// `float32`, or the output's own.
    pub dtype: &'static str,
    /// Little-endian, C order.
    pub data: Vec<u8>,
}
