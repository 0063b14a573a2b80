//! The answer to a change.

use std::sync::Arc;

use serde::Serialize;
use sferic_onnx::Model;
use tokio::time::Instant;

/// A change of what is loaded or active.
#[derive(Debug, Serialize)]
pub struct Change {
    /// Whether it was done.
    pub success: bool,
    /// What was done, in words.
    pub message: String,
    /// The model's name.
    pub model: String,
    /// The version that was active before.
    pub previous_version: Option<String>,
    /// The version that is active now; for a version that was only loaded, that one.
    pub new_version: Option<String>,
    /// From the request to its end, milliseconds.
    pub reload_time_ms: f64,
    /// Frames that ended with what the change has taken out of service.
    pub requests_drained: usize,
    #[serde(skip)]
    pub(super) begun: Instant,
    /// What is freed with its last frame.
    #[serde(skip)]
    pub(super) freed: Vec<Arc<Model>>,
}
