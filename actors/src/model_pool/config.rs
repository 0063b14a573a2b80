use std::time::Duration;

/// Bounds of the pool.
#[derive(Debug, Clone)]
pub struct Config {
    /// How many sessions, one thread each.
    pub sessions: usize,
    /// The most frames in one run.
    pub max_batch: usize,
    /// How long an idle session waits for more frames of a batch.
    pub max_batch_delay: Duration,
    /// The most frames that wait for a session.
    pub queue: usize,
    /// How long a frame may wait for a session.
    pub acquire_timeout: Duration,
    /// Where there is no room, the oldest waiting frame of the lowest priority not above the arriving one's gives way.
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
