use std::time::Duration;

/// Delays and limits of restarts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Delay before the first restart, give or take half.
    pub backoff_min: Duration,
    /// Maximum delay.
    pub backoff_max: Duration,
    /// Restarts within `window` past which the supervisor gives up.
    pub max_restarts: usize,
    /// See `max_restarts`.
    pub window: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
            max_restarts: 10,
            window: Duration::from_secs(60),
        }
    }
}
