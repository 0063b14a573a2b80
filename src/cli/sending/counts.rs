//! What is waited for, and what has become of the frames.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

/// Counts of the frames by result.
#[derive(Debug, Default)]
pub struct FrameCounts {
    /// Frames sent.
    pub sent: u64,
    /// Predictions.
    pub predictions: u64,
    /// Failures by code.
    pub failures: BTreeMap<String, u64>,
    /// Frames without a subscriber.
    pub without_subscriber: u64,
    /// Repeated outcomes.
    pub repeated: u64,
    /// Frames that were not sent because of their level.
    pub kept_back: u64,
    /// Frames that their stream has not acknowledged in time.
    pub unacknowledged: u64,
}

/// Timeouts.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Timeout for a subscriber of the first frame of a subject.
    pub subscriber: Duration,
    /// Timeout for an outcome; `None`: do not wait.
    pub outcome: Option<Duration>,
    /// Timeout for a lost connection.
    pub connection: Duration,
    /// Whether the frames are of live radio: a missing daemon or server is waited for, whatever the timeouts.
    pub is_live: bool,
}

/// The frames whose outcome is awaited.
pub struct Outstanding {
    /// Time for an outcome.
    pub patience: Duration,
    /// Deadlines by frame number. All timeouts are equal, so the first expires first.
    pub pending: BTreeMap<u64, Instant>,
    /// Frames whose timeout has passed. One of them may still be answered.
    pub lost: BTreeSet<u64>,
}

/// The number of the frame that a message answers.
pub fn number_of(message: &async_nats::Message) -> Option<u64> {
    message.subject.rsplit('.').next()?.parse().ok()
}
