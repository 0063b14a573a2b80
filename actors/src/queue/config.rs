use std::time::Duration;

/// Bounds of the pool.
#[derive(Debug, Clone)]
pub struct Config {
    /// Number of sessions, one thread each.
    pub sessions: usize,
    /// Maximum batch size.
    pub max_batch: usize,
    /// How long an idle session waits for more frames of a batch.
    pub max_batch_delay: Duration,
    /// Maximum number of queued frames.
    pub queue: usize,
    /// How long a frame may wait for a session.
    pub acquire_timeout: Duration,
    /// Whether a full queue sheds its oldest frame of the lowest priority, if that is not above that of the
    /// arriving frame.
    pub shed_oldest: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sessions: 1,
            max_batch: 8,
            max_batch_delay: Duration::ZERO,
            queue: 128,
            acquire_timeout: Duration::from_secs(5),
            shed_oldest: false,
        }
    }
}
