use std::time::Duration;

/// When a circuit opens and closes.
#[derive(Debug, Clone)]
pub struct Config {
    /// Failures in a row that open it.
    pub failure_threshold: u32,
    /// How long it stays open, give or take 20 %.
    pub open_for: Duration,
    /// Probes in a row that must succeed to close it.
    pub success_threshold: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { failure_threshold: 3, open_for: Duration::from_secs(60), success_threshold: 2 }
    }
}
