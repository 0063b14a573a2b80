use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bounds of the cache.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long an answer is good for.
    pub ttl: Duration,
    /// The most answers.
    pub max_entries: usize,
    /// The most memory they may take together, tables and allocations' overhead included, bytes.
    pub max_bytes: usize,
    /// Which answers are kept.
    pub admission: AdmissionPolicy,
    /// How long the second level may take to answer, where there is one.
    pub shared_timeout: Duration,
}

/// Which answers are kept when there is no room for all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdmissionPolicy {
    /// Those asked for more often: a frame seen once pushes out none that is asked for again and again.
    #[default]
    TinyLfu,
    /// The latest: every answer is kept, at the cost of the one not asked for longest.
    Lru,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(3600),
            max_entries: 10_000,
            max_bytes: 64 << 20,
            admission: AdmissionPolicy::default(),
            shared_timeout: Duration::from_millis(20),
        }
    }
}
