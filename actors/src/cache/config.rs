use std::time::Duration;

/// Bounds of the cache.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long an answer is good for.
    pub ttl: Duration,
    /// The most answers.
    pub max_entries: usize,
    /// The most bytes they may take together.
    pub max_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(3600), max_entries: 10_000, max_bytes: 64 << 20 }
    }
}
