use std::time::Duration;

use serde::{Deserialize, Serialize};
use sferic_samples::units;

/// Delays and limits of restarts of failed actors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct Config {
    /// Delay before the first restart, give or take half; it doubles with each of the same actor.
    #[serde(with = "units::duration")]
    pub backoff_min: Duration,
    /// Maximum delay.
    #[serde(with = "units::duration")]
    pub backoff_max: Duration,
    /// Restarts within `window` past which the supervisor gives up.
    pub max_restarts: usize,
    /// The time over which restarts are counted.
    #[serde(with = "units::duration")]
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
