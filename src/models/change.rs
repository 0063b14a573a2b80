//! The answer to a change.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sferic_onnx::Model;
use tokio::time::Instant;

/// Interval at which a drain is looked at.
const LOOK: Duration = Duration::from_millis(5);

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

impl Change {
    /// Waits, at most `bound`, until no frame uses what was taken out of service.
    pub(super) async fn drained(mut self, bound: Duration) -> Self {
        let freed = std::mem::take(&mut self.freed);
        // The frames that are in work; without one this is the last reference.
        let in_use = |model: &Arc<Model>| Arc::strong_count(model).saturating_sub(1);
        self.requests_drained = freed.iter().map(in_use).sum();
        let give_up = Instant::now() + bound;
        while freed.iter().any(|model| in_use(model) > 0) && Instant::now() < give_up {
            tokio::time::sleep(LOOK).await;
        }
        let left: usize = freed.iter().map(in_use).sum();
        if left > 0 {
            self.message += &format!("; {left} frames still use what was replaced");
        }
        self.reload_time_ms = self.begun.elapsed().as_secs_f64() * 1e3;
        tracing::info!(model = self.model, drained = self.requests_drained, "{}", self.message);
        self
    }
}
