//! The stages of a frame, as metrics and spans name them.

use std::time::Duration;

use sferic_actors::outcome::Outcome;
use tokio::time::Instant;

/// A stage of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading its encoding and selecting its model.
    Decode,
    /// Waiting for the cache, and its answer.
    Cache,
    /// Waiting for a preprocess worker.
    PreprocessWait,
    /// Computing its features.
    Features,
    /// Waiting for a session.
    Queue,
    /// In the session's run.
    Inference,
    /// From its outcome until that is published.
    Publish,
}

impl Stage {
    /// All of them, in a frame's order.
    pub const ALL: [Self; 7] = [
        Self::Decode,
        Self::Cache,
        Self::PreprocessWait,
        Self::Features,
        Self::Queue,
        Self::Inference,
        Self::Publish,
    ];

    /// The stage's name, equal to that in `stages_ms` of a prediction.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Cache => "cache",
            Self::PreprocessWait => "preprocess_wait",
            Self::Features => "features",
            Self::Queue => "queue",
            Self::Inference => "inference",
            Self::Publish => "publish",
        }
    }
}

/// Durations in the order of [`Stage::ALL`]; `None` for a stage that the frame did not complete.
pub fn durations(outcome: &Outcome, published_at: Instant) -> [Option<Duration>; Stage::ALL.len()] {
    let stages = outcome.trail.stages();
    let cache = outcome
        .trail
        .decoded
        .zip(outcome.trail.looked_up)
        .map(|(from, to)| to.saturating_duration_since(from));
    let publish = published_at.saturating_duration_since(outcome.settled_at);
    [
        stages.decode,
        cache,
        stages.preprocess_wait,
        stages.features,
        stages.queue,
        stages.inference,
        Some(publish),
    ]
}
