//! The stages of a frame, as metrics and spans name them.

use std::time::Duration;

use sferic_actors::outcome::Outcome;
use tokio::time::Instant;

/// A stretch of a frame's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading its encoding and hashing its samples.
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
    /// From its outcome until that is told.
    Publish,
}

impl Stage {
    /// All of them, in a frame's order.
    pub const ALL: [Self; 7] =
        [Self::Decode, Self::Cache, Self::PreprocessWait, Self::Features, Self::Queue, Self::Inference, Self::Publish];

    /// Its name; those that a prediction's `stages_ms` has too are called the same there.
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

/// Where a frame's time went, in the order of [`Stage::ALL`]; a stage it did not pass to its end is `None`.
pub fn durations(outcome: &Outcome, published_at: Instant) -> [Option<Duration>; Stage::ALL.len()] {
    let stages = outcome.trail.stages();
    let cache = outcome.trail.decoded.zip(outcome.trail.looked_up).map(|(from, to)| to.saturating_duration_since(from));
    let publish = published_at.saturating_duration_since(outcome.settled_at);
    [stages.decode, cache, stages.preprocess_wait, stages.features, stages.queue, stages.inference, Some(publish)]
}
